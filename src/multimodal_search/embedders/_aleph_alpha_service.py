"""Aleph Alpha's API behind the official client: requests are repeated while trouble may pass, and errors made clear.

Imported on first use only: it loads the official client.
"""

from __future__ import annotations

import base64
import itertools
import logging
import time
from collections.abc import Sequence

import aleph_alpha_client as sdk

from multimodal_search._pace import Pace, pause_after
from multimodal_search.embedders._aleph_alpha_transport import BadStatus, BearerAuth, NoAnswer, Transport
from multimodal_search.errors import (
    EmbedderAuthError,
    EmbedderError,
    EmbedderQuotaError,
    EmbedderResponseError,
    EmbedderUnavailableError,
    MultimodalSearchError,
    UnsupportedContentError,
)
from multimodal_search.types import Content, Image, Mixed, Text, Usage

_log = logging.getLogger(__name__)
_UNREACHABLE_RETRIES = 2


class AlephAlphaService:
    """One host, one model, one session of connections; for many threads.

    Args:
        host: Address of the API, checked.
        token: The API token, checked.
        model: The model's name.
        hosting: As in the API.
        nice: As in the API.
        retries: Attempts after the first one.
        max_concurrency: Most requests in flight.
    """

    def __init__(
        self, *, host: str, token: str, model: str, hosting: str | None, nice: bool, retries: int, max_concurrency: int
    ) -> None:
        self._model = model
        self._where = f"Aleph Alpha at {host} (model {model})"
        self._retries = retries
        self._pace = Pace(max_concurrency)
        self._transport = Transport(pool_size=max_concurrency, token=token)
        self._client = sdk.Client(
            token=token,
            host=host,
            hosting=hosting,
            nice=nice,
            total_retries=0,  # the client's own would wait without regard to the deadline, and deaf to `close`
            pool_size=max_concurrency,
        )
        self._client.session.auth = BearerAuth(token)
        for scheme in ("https://", "http://"):
            self._client.session.mount(scheme, self._transport)

    def semantic_embed(
        self,
        contents: Sequence[Content],
        *,
        representation: str,
        compress_to_size: int | None,
        normalize: bool,
        deadline: float,
    ) -> list[object]:
        """Embed prepared contents: repeat the request until it is answered, or trouble is there to stay.

        A request that is too large is sent in halves.

        Args:
            contents: At least one; pictures as bytes.
            representation: `"symmetric"`, `"document"` or `"query"`.
            compress_to_size: As in the API.
            normalize: As in the API.
            deadline: When to give up, on the clock of `time.monotonic`.

        Returns:
            What the service gave as vectors, each unchecked.

        Raises:
            UnsupportedContentError: The service refuses the request as it stands (400, 413, 422).
            EmbedderError: As `AlephAlphaEmbedder.embed` says.
        """
        self._transport.begin()
        prompts = [_prompt(content) for content in contents]
        kind = sdk.SemanticRepresentation(representation)
        request: sdk.SemanticEmbeddingRequest | sdk.BatchSemanticEmbeddingRequest
        if len(prompts) == 1:
            request = sdk.SemanticEmbeddingRequest(prompts[0], kind, compress_to_size, normalize)
        else:
            request = sdk.BatchSemanticEmbeddingRequest(prompts, kind, compress_to_size, normalize)
        for attempts in itertools.count(1):
            with self._pace.turn(deadline):
                began = time.monotonic()
                try:
                    rows = self._attempt(request, deadline)
                except (BadStatus, NoAnswer) as error:
                    failure = error
                    troubles = self._pace.overloaded(since=began) if _may_pass(failure) else 0
                else:
                    self._pace.succeeded()
                    return rows
            if not _may_pass(failure):
                break
            retries = min(self._retries, _UNREACHABLE_RETRIES) if _is_unreachable(failure) else self._retries
            asked_s = failure.retry_after_s if isinstance(failure, BadStatus) else None
            # Where others come through, all that is missing is a place, and the pace sees to that.
            pause_s = pause_after(min(attempts, troubles + attempts // 2), asked_s=asked_s)
            if attempts > retries or time.monotonic() + pause_s >= deadline:
                break
            _log.info("%s: attempt %d failed (%s), the next one in %.1f s", self._where, attempts, failure, pause_s)
            self._pace.pause(pause_s)
        if isinstance(failure, BadStatus) and failure.status == 413 and len(contents) > 1:
            half = len(contents) // 2
            halves = (
                self.semantic_embed(
                    part,
                    representation=representation,
                    compress_to_size=compress_to_size,
                    normalize=normalize,
                    deadline=deadline,
                )
                for part in (contents[:half], contents[half:])
            )
            return [vector for part in halves for vector in part]
        raise self._translated(failure, attempts) from failure.cause

    @property
    def usage(self) -> Usage:
        """What has been sent."""
        return self._transport.usage

    def interrupt(self) -> None:
        """End the calls that are under way."""
        self._pace.interrupt()
        self._transport.interrupt()

    def close(self) -> None:
        """Drop connections and end every wait."""
        self._pace.close()
        self._client.session.close()

    def _attempt(
        self, request: sdk.SemanticEmbeddingRequest | sdk.BatchSemanticEmbeddingRequest, deadline: float
    ) -> list[object]:
        self._transport.set_deadline(deadline)
        try:
            if isinstance(request, sdk.SemanticEmbeddingRequest):
                return [self._client.semantic_embed(request, self._model).embedding]
            return list(self._client.batch_semantic_embed(request, self._model).embeddings)
        except KeyError as error:
            flaw = f"without the field {error}"
        except (ValueError, TypeError, AttributeError, RecursionError):
            # what the client makes of any other JSON, or none
            flaw = "not with the JSON of an embedding"
        raise EmbedderResponseError(
            f"{self._where} answered, but {flaw}: check that host is the API itself, with its path, and not a page in "
            f"front of it. The answer begins with {self._transport.last_excerpt()!r}"
        )

    def _translated(self, failure: BadStatus | NoAnswer, attempts: int) -> MultimodalSearchError:
        where = self._where
        tried = f"after {attempts} attempt{'s' if attempts > 1 else ''}"
        if isinstance(failure, NoAnswer):
            why = failure.reason
            if failure.untrusted:
                return EmbedderError(
                    f"{where} shows a certificate that is not trusted ({why}): if it is your own, set the environment "
                    "variable REQUESTS_CA_BUNDLE to the file of its authority"
                )
            if failure.unreachable:
                return EmbedderUnavailableError(
                    f"{where} cannot be reached {tried} ({why}): check host, network and proxy", exhausted=True
                )
            return EmbedderUnavailableError(
                f"{where} gave no complete answer {tried} ({why}): try again later, with a smaller max_concurrency or "
                "max_batch, or with a larger timeout_s",
                exhausted=True,
            )
        status = failure.status
        said = f"{status}: {failure.excerpt!r}" if failure.excerpt else f"{status}, without a reason"
        if 300 <= status < 400:
            return EmbedderError(f"{where} redirects ({said}): give the address of the API itself as host")
        if status in (400, 422):
            return UnsupportedContentError(f"{where} refuses it ({said}): shorten a long text, or leave it out")
        if status == 413:
            return UnsupportedContentError(f"{where} finds the request too large ({said}): keep shrink=True")
        if status in (401, 403):
            return EmbedderAuthError(f"{where} refuses the token ({said}): check it, and what it is allowed to do")
        if status == 402:
            return EmbedderQuotaError(f"{where} says that no credit is left ({said}): top up the account")
        if status == 404:
            return EmbedderError(f"{where} is not there ({said}): check host, with its path, and model")
        if _may_pass(failure):
            return EmbedderUnavailableError(
                f"{where} is overloaded or out of order {tried} ({said}): try again later, or with a smaller "
                "max_concurrency",
                retry_after_s=failure.retry_after_s,
                exhausted=True,
            )
        return EmbedderError(f"{where} failed ({said}): check host and model, and tell its operator")


def _prompt(content: Content) -> sdk.Prompt:
    parts = content.parts if isinstance(content, Mixed) else (content,)
    return sdk.Prompt([_item(part) for part in parts])


def _item(part: Text | Image) -> sdk.Text | sdk.Image:
    if isinstance(part, Text):
        return sdk.Text(part.text, [])
    assert isinstance(part.source, bytes)  # noqa: S101 (so does `prepare` leave it)
    return sdk.Image(base64.b64encode(part.source).decode("ascii"), None, [])


def _may_pass(failure: BadStatus | NoAnswer) -> bool:
    if isinstance(failure, NoAnswer):
        return not failure.untrusted
    return failure.status in (408, 429) or failure.status >= 500


def _is_unreachable(failure: BadStatus | NoAnswer) -> bool:
    return isinstance(failure, NoAnswer) and failure.unreachable
