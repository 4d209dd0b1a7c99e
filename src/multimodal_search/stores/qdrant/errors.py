"""Translate the errors of qdrant-client to this library's."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from multimodal_search._secrets import without_secrets
from multimodal_search.errors import (
    MultimodalSearchError,
    StoreError,
    StoreLockedError,
    StoreRefusedError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    import httpx

_MAX_SAID = 20_000  # characters; the client quotes some hundred of an answer
# What servers, proxies in front of them, and gRPC say of a request above their limit.
_TOO_LARGE = ("larger than", "too large", "exceeds the limit", "size limit")
_FULL = ("no space left", "disk space", "out of disk", "insufficient storage", "quota")
_LIMIT_REACHED = re.compile(r"limit of \d+ (bytes )?(is )?reached", re.IGNORECASE)  # of a whole collection
_BUSY = "ResourceExhaustedResponse"  # qdrant-client's, for 429 with a Retry-After
_CUT_FROM_BYTES = 256_000
"""Requests smaller than this are not cut off for their size: the lowest usual limit, of proxies, is 1 MB."""


@contextmanager
def translated(where: str, secrets: Sequence[str], *, is_new: bool = False) -> Iterator[None]:
    """Translate the errors of calls of qdrant-client.

    Args:
        where: What messages call the collection and its server.
        secrets: The API key and the like, which no message may show.
        is_new: Whether the collection may be so new that not every peer of a cluster knows it.

    Raises:
        StoreUnavailableError: The server cannot be reached, is busy, took too long, or a part of it is away.
        StoreRefusedError: It refuses the request, as too large or malformed.
        StoreError: It answered with another error.
    """
    try:
        yield
    except Exception as error:  # the client raises httpx's, gRPC's and pydantic's errors, and its own
        translation: Exception = error
        if not isinstance(error, MultimodalSearchError):
            translation = _translate(error, where, is_new=is_new)
            vars(translation)["status_code"] = status_of(error)  # for `status_of`: the cause may have to be left out
        said, everything = str(translation), _everything_said(error)
        shown = without_secrets(said, *secrets)
        if shown == said and (everything == without_secrets(everything, *secrets) or not secrets):
            if translation is error:
                raise
            raise translation from error
        clean = copy.copy(translation)
        clean.args = (shown,)
        try:
            raise clean from None
        finally:
            clean.__context__ = None  # what `from None` only hides, and some tools show


def status_of(error: BaseException) -> int | None:
    """The HTTP status of an error of qdrant-client, over REST, gRPC or in local mode; None if it has none.

    A translated error has that of what it was translated from.
    """
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return status
    code = getattr(error, "code", None)  # of a gRPC error
    if callable(code):
        return _HTTP_STATUS.get(getattr(code(), "name", ""), 500)
    if isinstance(error, ValueError) and str(error).startswith("Collection "):  # local mode
        said = str(error)
        return 404 if "not found" in said else 409 if "already exists" in said else None
    return None


_HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "OUT_OF_RANGE": 400,  # a message above a limit
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "DEADLINE_EXCEEDED": 408,
    "ALREADY_EXISTS": 409,
    "FAILED_PRECONDITION": 423,
    "RESOURCE_EXHAUSTED": 429,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
}


def already_exists(error: BaseException) -> bool:
    """Whether an error says that a collection exists already: which status does so depends on who was faster."""
    return status_of(error) == 409 or (status_of(error) == 400 and "already exists" in said_by(error))


def _translate(error: Exception, where: str, *, is_new: bool) -> StoreError:
    source = getattr(error, "source", error)  # of what the REST client wraps
    status = status_of(error)
    said = " ".join(said_by(error).split()) or (type(source).__name__ if status is None else f"HTTP {status}")
    low = said.lower()
    if "already accessed by another instance" in said:
        return StoreLockedError(f"{where}: {said}")
    if status == 401:
        return StoreError(f"{where}: the server refused the credentials ({said}); check api_key")
    if status in (403, 423):
        return _forbidden(where, said)
    if status == 404 and is_new:
        return StoreUnavailableError(
            f"{where} does not exist, or no longer, or a part of its cluster does not know it yet ({said}); try again",
            trouble="internal",
        )
    if status == 404:
        return StoreError(f"{where} does not exist, or no longer ({said}); open it again to create it")
    if (
        status == 507
        or (status in (429, 500, 503) and any(words in low for words in _FULL))
        or (status == 400 and _LIMIT_REACHED.search(said))
    ):
        return StoreError(f"{where} has no room left ({said}); make room on the server, or raise its limit")
    if status == 413 or (status in (400, 429, 500) and any(words in low for words in _TOO_LARGE)):
        return StoreRefusedError(
            f"{where}: the server refuses records that large ({said}); give them smaller payloads", too_large=True
        )
    if status == 429 and "rate limit" in low:  # without Retry-After: never, at that size
        return StoreRefusedError(f"{where}: the server's rate limit is below what one request asks for ({said})")
    if status in (400, 422):
        return StoreRefusedError(f"{where}: the server refuses the request ({said})")
    return _unavailable(error, where, said) or _unknown(error, where, said)


def _forbidden(where: str, said: str) -> StoreError:
    """Of a key that lacks a right, or of a server that is locked: they share a status over REST."""
    if "precondition failed" in said.lower():
        return StoreUnavailableError(f"{where} is changing ({said}); try again later", trouble="internal")
    if said.startswith("Forbidden") or "required" in said:
        missing = said.removeprefix("Forbidden: ")
        return StoreError(f"{where}: the key or token lacks a right ({missing}); use one that has it")
    return StoreError(f"{where}: the server forbids this, as one that is locked against writing does ({said})")


def _unavailable(error: Exception, where: str, said: str) -> StoreUnavailableError | None:
    """What may pass; None if it is of another kind."""
    import httpx

    source, status = getattr(error, "source", error), status_of(error)
    asked_s = _retry_after_s(error)
    slow = f"{where} is busy, or slower than timeout_s allows ({said}); try again later"
    away = f"{where} cannot be reached ({said}); is the server running, and url right?"
    if type(error).__name__ == _BUSY or status == 429:
        return StoreUnavailableError(
            f"{where} has too many requests ({said}); try again later", retry_after_s=asked_s, trouble="overload"
        )
    if isinstance(source, (httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ConnectError)):
        return StoreUnavailableError(away, trouble="unreachable")
    if isinstance(source, httpx.TransportError):
        is_slow, size = isinstance(source, httpx.TimeoutException), _request_bytes(source)
        if size < _CUT_FROM_BYTES:  # not for its size
            return StoreUnavailableError(slow if is_slow else away, trouble="unreachable")
        if is_slow:
            return StoreUnavailableError(slow, trouble="time-out")
        return StoreUnavailableError(f"{where} broke off a request of {size:,} bytes ({said}); try again later")
    if status in (408, 504):
        return StoreUnavailableError(slow, retry_after_s=asked_s, trouble="time-out")
    if status in (502, 503):
        is_away = "connect" in said.lower()
        return StoreUnavailableError(
            away if is_away else slow, retry_after_s=asked_s, trouble="unreachable" if is_away else "overload"
        )
    if status == 500:  # of a cluster, for whatever a part of it cannot do now
        return StoreUnavailableError(
            f"{where}: a part of the server fails, which may pass ({said}); try again later",
            retry_after_s=asked_s,
            trouble="internal",
        )
    return None


def _unknown(error: Exception, where: str, said: str) -> StoreError:
    source: Any = getattr(error, "source", error)
    status = status_of(error)
    if type(source).__name__ == "ValidationError" and any("result" in each["loc"][:-1] for each in source.errors()):
        return StoreError(f"{where}: qdrant-client does not understand the server's answer; is it too old a release?")
    if type(source).__name__ in ("ValidationError", "JSONDecodeError", "AssertionError") or (
        status is not None and (status < 400 or status == 501)
    ):
        return StoreError(f"{where}: the answer does not come from a Qdrant server; is url right?")
    return StoreError(f"{where}: {said}")


def _retry_after_s(error: Exception) -> float | None:
    """Seconds that the server asks to wait, if it does; a date is not read."""
    asked = getattr(error, "retry_after_s", None) or (getattr(error, "headers", None) or {}).get("Retry-After")
    try:
        return None if asked is None else max(0.0, float(asked))
    except (TypeError, ValueError):
        return None


def _request_bytes(error: httpx.TransportError) -> int:
    try:
        return len(error.request.content)
    except RuntimeError:  # it knows of none
        return 0


def said_by(error: BaseException) -> str:
    """The message of an error, without qdrant-client's wrapping."""
    content = getattr(error, "content", None)
    if isinstance(content, bytes):
        try:
            answer: Any = json.loads(content)
            return str(answer["status"]["error"])
        except (ValueError, KeyError, TypeError):
            return content.decode(errors="replace")[:200]
    details = getattr(error, "details", None)
    source = getattr(error, "source", None)
    return str(details() if callable(details) else source if isinstance(source, Exception) else error)


def _everything_said(error: BaseException | None) -> str:
    """All that a traceback prints of an error and its causes, and their attributes, such as an answer's headers."""
    said = []
    while error is not None:
        said += [str(error), repr(error), repr(getattr(error, "__dict__", ""))]
        error = error.__cause__ or error.__context__
    return "\n".join(said)[:_MAX_SAID]
