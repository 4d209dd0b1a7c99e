"""Aleph Alpha's API behind the official client: requests are retried on temporary failures, and errors made clear.

The retries are here and not in the index, which makes them for other embedders: an `AlephAlphaEmbedder` that is used by
itself retries too, a request that is too large goes on in parts under the same deadline, and an embedder that several
indexes share has one limit.

Imported on first use only: it loads the official client.
"""

from __future__ import annotations

import base64
import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import aleph_alpha_client as sdk

from multimodal_search.contents import Content, Image, Mixed, Text
from multimodal_search.embedders.aleph_alpha.transport import BadStatus, BearerAuth, NoAnswer, Transport
from multimodal_search.embedders.limiter import ConcurrencyLimiter, Passing
from multimodal_search.errors import (
    EmbedderAuthError,
    EmbedderError,
    EmbedderQuotaError,
    EmbedderResponseError,
    EmbedderUnavailableError,
    MultimodalSearchError,
    UnsupportedContentError,
)
from multimodal_search.types import Usage

_log = logging.getLogger(__name__)
_UNREACHABLE_RETRIES = 2


@dataclass(frozen=True, slots=True)
class TooLarge:
    """In place of a vector: the service finds the request too large.

    Attributes:
        reason: What to tell.
    """

    reason: str


Rows: TypeAlias = "list[object]"
"""What the service gave as vectors, each unchecked, or a `TooLarge`."""


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
        self._limiter = ConcurrencyLimiter(max_concurrency)
        self._has_answered = False
        self._most_bytes = math.inf  # of one request of several contents, once that is found out
        self.model_version: str | None = None
        """What the service called its model in the last answer."""
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
        within_s: float,
        once: bool = False,
    ) -> Rows:
        """Embed prepared contents: retry the request until it is answered, or its failure is permanent.

        A request that is too large is sent in parts.

        Args:
            contents: At least one; images as bytes.
            representation: `"symmetric"`, `"document"` or `"query"`.
            compress_to_size: As in the API.
            normalize: As in the API.
            within_s: Seconds after which to give up.
            once: Whether the request is not repeated, except where the service has too many.

        Returns:
            What the service gave as vectors, unchecked; a `TooLarge` for each content that is so by itself.

        Raises:
            UnsupportedContentError: The service refuses the request as it stands (400, 422).
            EmbedderError: As `AlephAlphaEmbedder.embed` says.
        """
        self._transport.begin()
        deadline = time.monotonic() + within_s
        prompts = [_prompt(content) for content in contents]
        sizes = [_size(content) for content in contents]
        kind = sdk.SemanticRepresentation(representation)

        def ask(start: int, end: int) -> Rows | TooLarge:
            request: sdk.SemanticEmbeddingRequest | sdk.BatchSemanticEmbeddingRequest
            if end - start == 1:
                request = sdk.SemanticEmbeddingRequest(prompts[start], kind, compress_to_size, normalize)
            else:
                request = sdk.BatchSemanticEmbeddingRequest(prompts[start:end], kind, compress_to_size, normalize)
            answer = self._ask(request, deadline, once=once)
            is_whole = end - start == len(prompts)  # then whoever takes it checks their number
            if not (is_whole or isinstance(answer, TooLarge) or len(answer) == end - start):
                raise EmbedderResponseError(f"{self._where} returned {len(answer)} vectors for {end - start} contents")
            return answer

        rows: Rows = []
        end = 0
        while end < len(prompts):
            start = end
            end, size = start + 1, sizes[start]
            while end < len(prompts) and size + sizes[end] <= self._most_bytes:
                size += sizes[end]
                end += 1
            answer = ask(start, end)
            if isinstance(answer, TooLarge):
                answer = self._in_parts(start, end, answer, sizes, ask)
                end = start + len(answer)
            rows += answer
        return rows

    def _in_parts(
        self,
        start: int,
        end: int,
        refusal: TooLarge,
        sizes: Sequence[int],
        ask: Callable[[int, int], Rows | TooLarge],
    ) -> Rows:
        """Rows from `start` on, of contents that are too large together, up to the first that is so by itself."""
        rows: Rows = []
        most = 0
        is_asked = True
        at = start
        while end - at > 1:
            half = (at + end) // 2
            answer = ask(at, half)
            is_asked = isinstance(answer, TooLarge)
            if isinstance(answer, TooLarge):
                refusal, end = answer, half
            else:
                most = max(most, sum(sizes[at:half]))
                rows += answer
                at = half
        answer = refusal if is_asked else ask(at, end)
        if isinstance(answer, TooLarge):
            return [*rows, answer]
        self._most_bytes = min(self._most_bytes, most)  # none of them: it was their sum
        return [*rows, *answer]

    def _ask(
        self, request: sdk.SemanticEmbeddingRequest | sdk.BatchSemanticEmbeddingRequest, deadline: float, *, once: bool
    ) -> Rows | TooLarge:
        attempts = 0

        def attempt(deadline: float) -> Rows:
            nonlocal attempts
            attempts += 1
            rows = self._attempt(request, deadline)
            self._has_answered = True
            return rows

        try:
            return self._limiter.repeat(
                attempt,
                within_s=deadline - time.monotonic(),
                at_once=once,
                passing=lambda error: self._passing(error, once=once),
                on_repeat=lambda error, attempts, pause_s: _log.info(
                    "%s: attempt %d failed (%s), the next one in %.1f s", self._where, attempts, error, pause_s
                ),
            )
        except (BadStatus, NoAnswer) as error:
            failure = error
        if isinstance(failure, BadStatus) and failure.status == 413:
            return TooLarge(f"{self._where} finds the request too large ({_said(failure)}): keep shrink=True")
        raise self._translated(failure, attempts) from failure.cause

    def _passing(self, error: Exception, *, once: bool) -> Passing | None:
        if isinstance(error, NoAnswer) and not error.untrusted:
            most = min(self._retries, _UNREACHABLE_RETRIES) if error.unreachable else self._retries
            return Passing(retries=0 if once else most)
        if isinstance(error, BadStatus) and (error.status in (408, 429) or error.status >= 500):
            return Passing(
                asked_s=error.retry_after_s,
                retries=0 if once and not error.is_overload else self._retries,
                is_overload=error.is_overload or error.status in (408, 503),
            )
        return None

    @property
    def usage(self) -> Usage:
        """What has been sent."""
        return self._transport.usage

    def interrupt(self) -> None:
        """End the calls that are under way."""
        self._limiter.interrupt()
        self._transport.interrupt()

    def close(self) -> None:
        """Drop connections and end every wait."""
        self._limiter.close()
        self._client.session.close()

    def _attempt(
        self, request: sdk.SemanticEmbeddingRequest | sdk.BatchSemanticEmbeddingRequest, deadline: float
    ) -> list[object]:
        self._transport.set_deadline(deadline)
        try:
            if isinstance(request, sdk.SemanticEmbeddingRequest):
                one = self._client.semantic_embed(request, self._model)
                return self._rows([one.embedding], one.model_version)
            many = self._client.batch_semantic_embed(request, self._model)
            return self._rows(many.embeddings, many.model_version)
        except KeyError as error:
            flaw = f"without the field {error}"
        except (ValueError, TypeError, AttributeError, RecursionError):
            # what the client makes of any other JSON, or none
            flaw = "not with the JSON of an embedding"
        raise EmbedderResponseError(
            f"{self._where} answered, but {flaw}: check that host is the API itself, with its path, and not a page in "
            f"front of it. The answer begins with {self._transport.last_excerpt()!r}"
        )

    def _rows(self, vectors: Iterable[object], version: object) -> list[object]:
        if isinstance(version, str) and version:
            self.model_version = version
        return list(vectors)

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
                    f"{where} cannot be reached {tried} ({why}): check host, network and proxy",
                    trouble="unreachable",
                )
            return EmbedderUnavailableError(
                f"{where} gave no complete answer {tried} ({why}): try again later, with a smaller max_concurrency or "
                "max_batch_size, or with a larger timeout_s",
                trouble="overload" if failure.unsent else "time-out" if failure.timed_out else "other",
            )
        status = failure.status
        said = _said(failure)
        if 300 <= status < 400:
            return EmbedderError(f"{where} redirects ({said}): give the address of the API itself as host")
        if status in (400, 422):
            return UnsupportedContentError(f"{where} refuses it ({said}): shorten a long text, or leave it out")
        if status == 403 and self._has_answered:  # the token is good: a firewall may dislike one content
            return EmbedderError(f"{where} forbids it ({said}): check what a firewall in front of it lets through")
        if status in (401, 403):
            return EmbedderAuthError(f"{where} refuses the token ({said}): check it, and what it is allowed to do")
        if status == 402:
            return EmbedderQuotaError(f"{where} says that no credit is left ({said}): top up the account")
        if status == 404:
            return EmbedderError(f"{where} is not there ({said}): check host, with its path, and model")
        if self._passing(failure, once=False) is not None:
            return EmbedderUnavailableError(
                f"{where} is overloaded or out of order {tried} ({said}): try again later, or with a smaller "
                "max_concurrency",
                retry_after_s=failure.retry_after_s,
                trouble="overload" if failure.is_overload else "other",
            )
        return EmbedderError(f"{where} failed ({said}): check host and model, and tell its operator")


def _said(failure: BadStatus) -> str:
    return f"{failure.status}: {failure.excerpt!r}" if failure.excerpt else f"{failure.status}, without a reason"


def _size(content: Content) -> int:
    """In proportion to the bytes of a request that a content takes."""
    parts = content.parts if isinstance(content, Mixed) else (content,)
    return sum(len(part.text.encode()) if isinstance(part, Text) else len(_bytes(part)) * 4 // 3 for part in parts)


def _bytes(image: Image) -> bytes:
    assert isinstance(image.source, bytes)  # noqa: S101 (so does `prepare` leave it)
    return image.source


def _prompt(content: Content) -> sdk.Prompt:
    parts = content.parts if isinstance(content, Mixed) else (content,)
    return sdk.Prompt([_item(part) for part in parts])


def _item(part: Text | Image) -> sdk.Text | sdk.Image:
    if isinstance(part, Text):
        return sdk.Text(part.text, [])
    return sdk.Image(base64.b64encode(_bytes(part)).decode("ascii"), None, [])
