"""Translate the errors of qdrant-client to this library's."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from multimodal_search._secrets import without_secrets
from multimodal_search.errors import (
    MultimodalSearchError,
    StoreError,
    StoreLockedError,
    StoreRefusedError,
    StoreUnavailableError,
)

_MAX_SAID = 20_000  # characters; the client quotes some hundred of an answer
_PASSING = {408, 429, 502, 503, 504}
# What servers, proxies in front of them, and gRPC say of a request above their limit.
_TOO_LARGE = ("larger than", "too large", "exceeds the limit", "size limit")
_BUSY = "ResourceExhaustedResponse"  # qdrant-client's, for 429 with a Retry-After


@contextmanager
def translated(where: str, secrets: Sequence[str]) -> Iterator[None]:
    """Translate the errors of calls of qdrant-client.

    Args:
        where: What messages call the collection and its server.
        secrets: The API key and the like, which no message may show.

    Raises:
        StoreUnavailableError: The server cannot be reached, is busy, or took too long.
        StoreRefusedError: It refuses the request, as too large or malformed.
        StoreError: It answered with another error.
    """
    try:
        yield
    except MultimodalSearchError:
        raise
    except Exception as error:  # the client raises httpx's, gRPC's and pydantic's errors, and its own
        translation = _translate(error, where)
        said, everything = str(translation), _everything_said(error)
        shown = without_secrets(said, *secrets)
        if shown == said and (everything == without_secrets(everything, *secrets) or not secrets):
            raise translation from error
        clean = copy.copy(translation)
        clean.args = (shown,)
        try:
            raise clean from None
        finally:
            clean.__context__ = None  # what `from None` only hides, and some tools show


def status_of(error: BaseException) -> int | None:
    """The HTTP status of an error of qdrant-client, over REST, gRPC or in local mode; None if it has none."""
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return status
    code = getattr(error, "code", None)  # of a gRPC error
    if callable(code):
        return _HTTP_STATUS.get(getattr(code(), "name", ""), 500)
    if isinstance(error, ValueError) and str(error).startswith("Collection ") and "not found" in str(error):
        return 404  # local mode
    return None


_HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "DEADLINE_EXCEEDED": 408,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
}


def _translate(error: Exception, where: str) -> StoreError:
    import httpx

    source = getattr(error, "source", error)  # of what the REST client wraps
    status = status_of(error)
    said = _said(error) or (type(source).__name__ if status is None else f"HTTP {status}")
    if "already accessed by another instance" in said:
        return StoreLockedError(f"{where}: {said}")
    if status in (401, 403):
        return StoreError(f"{where}: the server refused the credentials ({said}); check api_key and what it may do")
    if status == 404:
        return StoreError(f"{where} does not exist, or no longer ({said}); open it again to create it")
    if status == 413 or (status in (400, 429, 500) and any(words in said.lower() for words in _TOO_LARGE)):
        return StoreRefusedError(
            f"{where}: the server refuses records that large ({said}); give them smaller payloads", too_large=True
        )
    if status in (400, 422):
        return StoreRefusedError(f"{where}: the server refuses the request ({said})")
    if status in _PASSING or isinstance(source, httpx.TimeoutException) or type(error).__name__ == _BUSY:
        return StoreUnavailableError(f"{where} is busy, or slower than timeout_s allows ({said}); try again later")
    if isinstance(source, httpx.TransportError):
        return StoreUnavailableError(f"{where} cannot be reached ({said}); is the server running, and url right?")
    if type(source).__name__ in ("ValidationError", "JSONDecodeError") or (status is not None and status < 400):
        return StoreError(f"{where}: the answer does not come from a Qdrant server; is url right?")
    return StoreError(f"{where}: {said}")


def _said(error: Exception) -> str:
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
