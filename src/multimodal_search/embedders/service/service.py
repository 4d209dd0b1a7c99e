"""One embedding service: requests are retried on temporary failures, split where they are too large, and bounded.

The retries are here and not in the index, which makes them for other embedders: an embedder that is used by itself
retries too, a request that is too large goes on in parts under the same deadline, and an embedder that several indexes
share has one limit.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

from multimodal_search.contents import Content, Image
from multimodal_search.embedders.limiter import ConcurrencyLimiter
from multimodal_search.embedders.service.answers import BadStatus, NoAnswer
from multimodal_search.embedders.service.contents import parts_of, size_bytes
from multimodal_search.embedders.service.exchanges import Exchanges
from multimodal_search.embedders.service.refusals import Wording, passing, translated
from multimodal_search.embedders.service.settings import Pacing
from multimodal_search.errors import EmbedderResponseError
from multimodal_search.types import Usage

_log = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class TooLarge:
    """In place of a vector: the service finds the request too large.

    Attributes:
        reason: What to tell.
    """

    reason: str


Rows: TypeAlias = "list[object]"
"""What the service gave as vectors, each unchecked, or a `TooLarge`."""


class Client(Protocol):
    """Speaks the language of one service, over an `Exchanges`; knows nothing of retries."""

    @property
    def model_version(self) -> str | None:
        """What the service called its model in its last answer."""
        ...

    @property
    def max_bytes(self) -> float:
        """Bytes of the contents of one request, at most."""
        ...

    def requests(self, contents: Sequence[Content]) -> Sequence[Sequence[int]]:
        """The numbers of the contents that may stand in one request, for each of as few requests as possible."""
        ...

    def ask(self, contents: Sequence[Content], purpose: str) -> Rows:
        """Send one request.

        Args:
            contents: At least one; images as bytes.
            purpose: What the service is told of their role.

        Raises:
            KeyError: A field is missing in the answer.
            ValueError: It is not the JSON of an embedding; or `TypeError`, `AttributeError`, `RecursionError`.
            BadStatus: It is no success.
            NoAnswer: There is none.
        """
        ...

    def close(self) -> None:
        """Drop connections."""
        ...


class EmbeddingService:
    """One address, one model, one pool of connections; for many threads.

    Args:
        client: Speaks its language.
        exchanges: What the client sends its requests through.
        words: For messages.
        pacing: Retries and requests in flight.
    """

    def __init__(self, client: Client, exchanges: Exchanges, *, words: Wording, pacing: Pacing) -> None:
        self._client = client
        self._exchanges = exchanges
        self._words = words
        self._retries = pacing.retries
        self._limiter = ConcurrencyLimiter(pacing.max_concurrency)
        self._has_answered = False
        self._most_bytes = client.max_bytes  # of one request of several contents; less, once that is found out

    @property
    def model_version(self) -> str | None:
        """What the service called its model in the last answer."""
        return self._client.model_version

    @property
    def usage(self) -> Usage:
        """What has been sent."""
        return self._exchanges.usage

    def embed(self, contents: Sequence[Content], *, purpose: str, within_s: float, once: bool = False) -> Rows:
        """Embed prepared contents: retry requests until they are answered, or their failure is permanent.

        A request that is too large is sent in parts.

        Args:
            contents: At least one; images as bytes.
            purpose: What the service is told of their role.
            within_s: Seconds after which to give up.
            once: Whether a request is not repeated, except where the service has too many.

        Returns:
            What the service gave as vectors, unchecked; a `TooLarge` for each content that is so by itself.

        Raises:
            UnsupportedContentError: The service refuses a request as it stands (400, 422).
            EmbedderError: As `embed` of its embedder says.
        """
        self._exchanges.begin()
        deadline = time.monotonic() + within_s

        def ask(part: Sequence[Content]) -> Rows | TooLarge:
            answer = self._asked(lambda: self._client.ask(part, purpose), deadline, once=once)
            self._has_answered = True
            if isinstance(answer, TooLarge):
                has_image = any(isinstance(each, Image) for content in part for each in parts_of(content))
                advice = self._words.smaller if has_image else "shorten the text, or leave it out"
                return TooLarge(f"{answer.reason}: {advice}")
            is_whole = len(part) == len(contents)  # then whoever takes it checks their number
            if not (is_whole or len(answer) == len(part)):
                raise EmbedderResponseError(
                    f"{self._words.where} returned {len(answer)} vectors for {len(part)} contents"
                )
            return answer

        requests = self._client.requests(contents)
        if len(requests) == 1:
            return self._in_parts(contents, ask)
        rows: Rows = [None] * len(contents)
        for numbers in requests:
            for number, row in zip(numbers, self._in_parts([contents[each] for each in numbers], ask), strict=True):
                rows[number] = row
        return rows

    def call(self, ask: Callable[[], Result], *, within_s: float) -> Result:
        """Ask the service something else than to embed, with the same retries and errors."""
        self._exchanges.begin()
        answer = self._asked(ask, time.monotonic() + within_s, once=False)
        if isinstance(answer, TooLarge):
            raise EmbedderResponseError(f"{answer.reason}: check {self._words.address}")
        return answer

    def interrupt(self) -> None:
        """End the calls that are under way."""
        self._limiter.interrupt()
        self._exchanges.interrupt()

    def close(self) -> None:
        """Drop connections and end every wait."""
        self._limiter.close()
        self._exchanges.close()
        self._client.close()

    def _in_parts(self, contents: Sequence[Content], ask: Callable[[Sequence[Content]], Rows | TooLarge]) -> Rows:
        sizes = [size_bytes(content) for content in contents]
        rows: Rows = []
        end = 0
        while end < len(contents):
            start = end
            end, size = start + 1, sizes[start]
            while end < len(contents) and size + sizes[end] <= self._most_bytes:
                size += sizes[end]
                end += 1
            answer = ask(contents[start:end])
            if isinstance(answer, TooLarge):
                answer = self._bisected(contents, start, end, answer, sizes, ask)
                end = start + len(answer)
            rows += answer
        return rows

    def _bisected(
        self,
        contents: Sequence[Content],
        start: int,
        end: int,
        refusal: TooLarge,
        sizes: Sequence[int],
        ask: Callable[[Sequence[Content]], Rows | TooLarge],
    ) -> Rows:
        """Rows from `start` on, of contents that are too large together, up to the first that is so by itself."""
        rows: Rows = []
        most = 0
        is_asked = True
        at = start
        while end - at > 1:
            half = (at + end) // 2
            answer = ask(contents[at:half])
            is_asked = isinstance(answer, TooLarge)
            if isinstance(answer, TooLarge):
                refusal, end = answer, half
            else:
                most = max(most, sum(sizes[at:half]))
                rows += answer
                at = half
        answer = refusal if is_asked else ask(contents[at:end])
        if isinstance(answer, TooLarge):
            return [*rows, answer]
        self._most_bytes = min(self._most_bytes, most)  # none of them: it was their sum
        return [*rows, *answer]

    def _asked(self, ask: Callable[[], Result], deadline: float, *, once: bool) -> Result | TooLarge:
        attempts = 0

        def attempt(deadline: float) -> Result:
            nonlocal attempts
            attempts += 1
            self._exchanges.set_deadline(deadline)
            return self._understood(ask)

        try:
            return self._limiter.repeat(
                attempt,
                within_s=deadline - time.monotonic(),
                at_once=once,
                passing=lambda error: passing(error, retries=self._retries, once=once),
                on_repeat=lambda error, attempts, pause_s: _log.info(
                    "%s: attempt %d failed (%s), the next one in %.1f s", self._words.where, attempts, error, pause_s
                ),
            )
        except (BadStatus, NoAnswer) as error:
            failure = error
        if isinstance(failure, BadStatus) and failure.status == 413:
            return TooLarge(f"{self._words.where} finds the request too large ({failure.said})")
        raise translated(failure, self._words, attempts=attempts, has_answered=self._has_answered) from failure.cause

    def _understood(self, ask: Callable[[], Result]) -> Result:
        try:
            return ask()
        except EmbedderResponseError:
            raise
        except KeyError as error:
            flaw = f"without the field {error}"
        except (ValueError, TypeError, AttributeError, RecursionError):
            # what a client makes of any other JSON, or none
            flaw = "not with the JSON of an embedding"
        raise EmbedderResponseError(
            f"{self._words.where} answered, but {flaw}: check that {self._words.address} is the API itself, with its "
            f"path, and not a page in front of it. The answer begins with {self._exchanges.last_excerpt()!r}"
        )
