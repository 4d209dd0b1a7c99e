"""An answer that is no success, or none at all; `Retry-After`, and excerpts of answers without secrets."""

from __future__ import annotations

import math
import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http.client import IncompleteRead

from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ReadTimeoutError

from multimodal_search._secrets import without_secrets
from multimodal_search._text import prose, shorten

NO_TIME, TIMED_OUT = "no time left to send it", "timed out"

_EXCERPT_LENGTH = 200
_ECHO = re.compile(r"""(["']input\\?["']\s*:|\binput_value=).*""", re.DOTALL)
"""What the servers of FastAPI repeat of a request that they refuse, to the end."""

_CODED = re.compile(r"(?<=base64,)[A-Za-z0-9+/=]+|[A-Za-z0-9+/]{200,}={0,2}")
"""Bytes of an image in base64."""


class BadStatus(Exception):  # noqa: N818 (carries facts to the embedder, which turns them into one of our errors)
    """The service answered with something else than success.

    Attributes:
        status: The HTTP status.
        excerpt: The beginning of the body on one line, without secrets; for a redirect its target.
        retry_after_s: Seconds the service asked to wait, or None if it did not say.
        cause: None, as for any answer.
    """

    cause = None

    def __init__(self, status: int, excerpt: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(f"{status}: {excerpt!r}")
        self.status = status
        self.excerpt = excerpt
        self.retry_after_s = retry_after_s

    @property
    def said(self) -> str:
        """Status and excerpt, for messages."""
        return f"{self.status}: {self.excerpt!r}" if self.excerpt else f"{self.status}, without a reason"

    @property
    def is_overload(self) -> bool:
        """Whether the service says that it has too much to do, as it is documented to, and not just that it failed."""
        return self.status == 429 or self.retry_after_s is not None or "QUEUE_FULL" in self.excerpt


class NoAnswer(Exception):  # noqa: N818 (as above)
    """No answer, or only a part of one, arrived.

    Attributes:
        reason: What happened, without secrets.
        unsent: Whether it was not even sent, for want of time.
        timed_out: Whether it did not come in time.
        unreachable: Whether not even a connection came about.
        untrusted: Whether the server's certificate was refused.
        cause: The operating system's error behind it, where there is one.
    """

    def __init__(self, reason: str, *, error: BaseException | None = None) -> None:
        super().__init__(reason)
        chain = list(_chain(error))
        self.reason = reason
        self.unsent = reason == NO_TIME
        self.timed_out = reason == TIMED_OUT or any(
            isinstance(link, (TimeoutError, ReadTimeoutError)) for link in chain
        )
        self.unreachable = any(isinstance(link, (NewConnectionError, ConnectTimeoutError)) for link in chain)
        self.untrusted = any(isinstance(link, ssl.SSLCertVerificationError) for link in chain)
        system_error = _system_error(chain)
        self.cause = None if system_error is None else system_error.with_traceback(None)


def excerpt(body: bytes, *secrets: str) -> str:
    """The beginning of an answer on one line, without secrets and without what it repeats of the request."""
    # As much as may shrink to an excerpt once blanks are gone, and what could be the rest of a secret behind it.
    longest = max(map(len, secrets), default=0)
    looked_at = body.decode("utf-8", errors="replace")[: 20 * _EXCERPT_LENGTH + 12 * longest]
    shown = without_secrets(looked_at, *secrets)[: 20 * _EXCERPT_LENGTH]
    return shorten(prose(_CODED.sub("…", _ECHO.sub("…", shown))), _EXCERPT_LENGTH)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a `Retry-After` header asks to wait (RFC 9110, section 10.2.3), or None if there is none."""
    value = headers.get("Retry-After", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            at = parsedate_to_datetime(value)
            # By the server's own clock, which may differ from ours.
            now = parsedate_to_datetime(headers["Date"]) if "Date" in headers else datetime.now(timezone.utc)
            seconds = (at - now).total_seconds()
        except (ValueError, TypeError):  # TypeError: only one of the dates names a time zone
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def reason_of(error: BaseException) -> str:
    """Why there is no answer, in the words of the first error of its chain."""
    chain = list(_chain(error))
    if any(isinstance(link, IncompleteRead) for link in chain):
        return "the answer broke off"
    root = _system_error(chain) or chain[-1]
    return (root.strerror if isinstance(root, OSError) else None) or str(root) or type(root).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised from, down to the first one."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _system_error(chain: Sequence[BaseException]) -> OSError | None:
    # The errors of requests are OSErrors too, but hold the request with its headers.
    own = [link for link in chain if isinstance(link, OSError) and not hasattr(link, "request")]
    return own[-1] if own else None
