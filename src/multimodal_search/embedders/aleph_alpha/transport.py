"""The HTTP under the official client: a deadline that holds, `Retry-After` kept, no redirects, no secret in an error.

Imported on first use only: it loads `requests`.
"""

from __future__ import annotations

import math
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeoutError  # the builtin one from Python 3.11 on
from contextlib import suppress
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http.client import IncompleteRead
from io import BytesIO
from typing import Any
from weakref import WeakSet

from requests import PreparedRequest, RequestException, Response
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ReadTimeoutError

from multimodal_search._secrets import secrets_of, without_secrets
from multimodal_search._text import prose, shorten
from multimodal_search._threads import SpareThreads
from multimodal_search.embedders.limiter import CLOSED, INTERRUPTED
from multimodal_search.errors import EmbedderError
from multimodal_search.types import Usage

_CONNECT_TIMEOUT_S = 10.0
_MAX_BODY_BYTES = 100_000_000  # 100 vectors of 5120 numbers are 13 MB of JSON
_EXCERPT_LENGTH = 200
_NO_TIME, _TIMED_OUT = "no time left to send it", "timed out"


class BadStatus(Exception):  # noqa: N818 (carries facts to the embedder, which turns them into one of our errors)
    """The service answered with something else than success.

    Attributes:
        status: The HTTP status.
        excerpt: The beginning of the body on one line, without the token; for a redirect its target.
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
    def is_overload(self) -> bool:
        """Whether the service says that it has too much to do, as it is documented to, and not just that it failed."""
        return self.status == 429 or self.retry_after_s is not None or "QUEUE_FULL" in self.excerpt


class NoAnswer(Exception):  # noqa: N818 (as above)
    """No answer, or only a part of one, arrived.

    Attributes:
        reason: What happened, without the token.
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
        self.unsent = reason == _NO_TIME
        self.timed_out = reason == _TIMED_OUT or any(
            isinstance(link, (TimeoutError, ReadTimeoutError)) for link in chain
        )
        self.unreachable = any(isinstance(link, (NewConnectionError, ConnectTimeoutError)) for link in chain)
        self.untrusted = any(isinstance(link, ssl.SSLCertVerificationError) for link in chain)
        system_error = _system_error(chain)
        self.cause = None if system_error is None else system_error.with_traceback(None)


class BearerAuth(AuthBase):
    """Sends the token. As the session's `auth` it keeps `requests` from taking a password out of a netrc file."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Add the header."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class Transport(HTTPAdapter):
    """An adapter for the client's `requests` session.

    Each exchange runs in a thread of its own, which is given up at the deadline: socket time-outs bound a single
    read, but neither name resolution nor a server that sends a byte now and then.

    Args:
        pool_size: Connections to keep.
        token: What to remove from every text that comes out of here.
    """

    def __init__(self, *, pool_size: int, token: str) -> None:
        self._connections = WeakSet[HTTPConnection]()
        self._calls = threading.local()  # of the threads that call
        self._exchanges = threading.local()  # of the threads that exchange
        super().__init__(pool_connections=2, pool_maxsize=pool_size, max_retries=0)
        self._token = token
        self._pending: set[Future[tuple[Response, bytes]]] = set()
        self._lock = threading.Lock()
        self._is_closed = False
        self._interruptions = 0
        self._threads = SpareThreads("aleph-alpha-exchange")
        self._usage = Usage()

    def begin(self) -> None:
        """Have this thread's next exchanges ended by every `interrupt` from now on."""
        self._calls.interruptions = self._interruptions

    def set_deadline(self, deadline: float) -> None:
        """Bound this thread's next exchange; `deadline` is on the clock of `time.monotonic`."""
        self._calls.deadline = deadline
        self._calls.body = b""

    def last_excerpt(self) -> str:
        """The beginning of the body that this thread received last, on one line, without the token."""
        return self._excerpt(self._calls.body)

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> Response:
        """Exchange one request for one whole, successful answer, before this thread's deadline (not `timeout`).

        Raises:
            BadStatus: The answer is no success.
            NoAnswer: None arrived in time.
            EmbedderError: `close` was called before or meanwhile, or `interrupt` since `begin`.
        """
        deadline: float = self._calls.deadline
        if time.monotonic() >= deadline:
            raise NoAnswer(_NO_TIME)
        answer: Future[tuple[Response, bytes]] = Future()

        def work() -> None:
            self._exchanges.answer = answer
            try:
                exchanged = self._exchange(request, deadline, verify=verify, cert=cert, proxies=proxies)
            except BaseException as error:  # noqa: BLE001 (raised in the waiting thread)
                with suppress(InvalidStateError):
                    answer.set_exception(error)
            else:
                with suppress(InvalidStateError):
                    answer.set_result(exchanged)

        with self._lock:
            if self._is_closed:
                raise EmbedderError(CLOSED)
            if self._interruptions > self._calls.interruptions:
                raise EmbedderError(INTERRUPTED)
            self._pending.add(answer)
            sent = self._usage
            self._usage = Usage(calls=sent.calls + 1, bytes_sent=sent.bytes_sent + len(request.body or b""))
        in_time = True
        try:
            self._threads.run(work)
            response, body = answer.result(timeout=max(0.0, deadline - time.monotonic()))
        except FutureTimeoutError:
            in_time = False
        finally:
            with self._lock:
                self._pending.discard(answer)
        if not in_time:
            raise NoAnswer(_TIMED_OUT)
        return self._judged(response, body)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Set up the pool, so that it remembers its connections for `interrupt`."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pool_classes()

    def proxy_manager_for(self, proxy: Any, **kwargs: Any) -> Any:
        """The same for the pool of a proxy."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = self._pool_classes()
        return manager

    def _pool_classes(self) -> dict[str, type[HTTPConnectionPool]]:
        connections, exchanges = self._connections, self._exchanges

        def check(connection: HTTPConnection) -> None:
            if exchanges.answer.done():  # given up before there was a socket to shut down
                connection.close()
                raise ConnectionAbortedError(INTERRUPTED)

        class Plain(HTTPConnection):
            def connect(self) -> None:
                connections.add(self)
                super().connect()
                check(self)

        class Secure(HTTPSConnection):
            def connect(self) -> None:
                connections.add(self)
                super().connect()
                check(self)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        return {"http": PlainPool, "https": SecurePool}

    @property
    def usage(self) -> Usage:
        """What has been sent."""
        with self._lock:
            return self._usage

    def interrupt(self) -> None:
        """End every exchange that is under way with an `EmbedderError`, and the threads that wait for the network."""
        with self._lock:
            self._interruptions += 1
        self._end_pending(INTERRUPTED)
        for connection in list(self._connections):
            if (opened := connection.sock) is not None:
                with suppress(OSError):
                    opened.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close connections, and end every wait with an `EmbedderError`."""
        with self._lock:
            self._is_closed = True
        self._end_pending(CLOSED)
        super().close()

    def _end_pending(self, reason: str) -> None:
        with self._lock:
            pending = list(self._pending)
        for answer in pending:
            with suppress(InvalidStateError):
                answer.set_exception(EmbedderError(reason))

    def _exchange(
        self, request: PreparedRequest, deadline: float, *, verify: Any, cert: Any, proxies: Mapping[str, str] | None
    ) -> tuple[Response, bytes]:
        remaining = max(0.001, deadline - time.monotonic())
        response: Response | None = None
        try:
            response = super().send(
                request,
                stream=True,
                timeout=(min(_CONNECT_TIMEOUT_S, remaining), remaining),
                verify=verify,
                cert=cert,
                proxies=proxies,
            )
            return response, _read(response, deadline)
        except (RequestException, HTTPError, OSError, ValueError) as error:  # ValueError: a proxy that is no address
            if response is not None:
                response.close()  # what is left in the socket belongs to this answer
            secrets = [secret for proxy in (proxies or {}).values() for secret in secrets_of(proxy or "")]
            failure = NoAnswer(self._excerpt(_reason(error).encode(errors="replace"), *secrets), error=error)
        raise failure  # outside of `except`, so that no foreign error hangs on it

    def _judged(self, response: Response, body: bytes) -> Response:
        self._calls.body = body
        status = response.status_code
        if 200 <= status < 300:
            response.raw = BytesIO(body)  # the client reads it from there
            return response
        # A redirect is not followed: it would turn POST into GET, or carry the token to another host.
        target = response.headers.get("Location", "") if 300 <= status < 400 else ""
        excerpt = self._excerpt(target.encode()) if target else self.last_excerpt()
        raise BadStatus(status, excerpt, retry_after_s=retry_after(response.headers))

    def _excerpt(self, text: bytes, *secrets: str) -> str:
        # As much as may shrink to an excerpt once blanks are gone, and what could be the rest of a token behind it.
        looked_at = text.decode("utf-8", errors="replace")[: 20 * _EXCERPT_LENGTH + 12 * len(self._token)]
        shown = without_secrets(looked_at, self._token, *secrets)
        return shorten(prose(shown[: 20 * _EXCERPT_LENGTH]), _EXCERPT_LENGTH)


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


def _read(response: Response, deadline: float) -> bytes:
    raw = response.raw
    read = getattr(raw, "read1", raw.read)  # urllib3 before 2.1 has no `read1`
    body = bytearray()
    while chunk := read(65_536, decode_content=True):
        body += chunk
        if time.monotonic() > deadline:
            raise TimeoutError(_TIMED_OUT)  # while the answer was still arriving
        if len(body) > _MAX_BODY_BYTES:
            raise OSError(f"the answer is longer than {_MAX_BODY_BYTES:,} bytes")
    raw.release_conn()
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and "Content-Encoding" not in response.headers and len(body) < int(length):
        raise OSError("the answer broke off")  # urllib3 1.26 does not say so
    return bytes(body)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised from, down to the first one."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _system_error(chain: Sequence[BaseException]) -> OSError | None:
    # The errors of requests are OSErrors too, but hold the request with its headers.
    own = [link for link in chain if isinstance(link, OSError) and not isinstance(link, RequestException)]
    return own[-1] if own else None


def _reason(error: BaseException) -> str:
    chain = list(_chain(error))
    if any(isinstance(link, IncompleteRead) for link in chain):
        return "the answer broke off"
    root = _system_error(chain) or chain[-1]
    return (root.strerror if isinstance(root, OSError) else None) or str(root) or type(root).__name__
