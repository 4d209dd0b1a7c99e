"""HTTP over urllib3: a deadline that holds, interruption, no secret in an error, no redirects.

Imported on first use only: it loads urllib3.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeoutError  # the builtin one from Python 3.11 on
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakSet

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError
from urllib3.util import Timeout

from multimodal_search._threads import SpareThreads
from multimodal_search.embedders.limiter import CLOSED, INTERRUPTED
from multimodal_search.embedders.service.answers import (
    NO_TIME,
    TIMED_OUT,
    BadStatus,
    NoAnswer,
    excerpt,
    reason_of,
    retry_after,
)
from multimodal_search.errors import EmbedderError
from multimodal_search.types import Usage

if TYPE_CHECKING:
    from urllib3 import HTTPResponse
    from urllib3.poolmanager import PoolManager

THREAD_NAME = "multimodal-exchange"

_CONNECT_TIMEOUT_S = 10.0
_MAX_BODY_BYTES = 100_000_000  # 100 vectors of 5120 numbers are 13 MB of JSON

_Answer: TypeAlias = "tuple[int, Mapping[str, str], bytes]"
"""Status, headers and body; not the response, which holds the socket."""


class Exchanges:
    """Exchanges requests for whole answers, for many threads.

    Each exchange runs in a thread of its own, which is given up at the deadline: socket time-outs bound a single
    read, but neither name resolution nor a server that sends a byte now and then.

    Args:
        secrets: What to remove from every text that comes out of here.
    """

    def __init__(self, *secrets: str) -> None:
        self._secrets = secrets
        self._connections = WeakSet[HTTPConnection]()
        self._calls = threading.local()  # of the threads that call
        self._exchanges = threading.local()  # of the threads that exchange
        self._pending: set[Future[_Answer]] = set()
        self._lock = threading.Lock()
        self._is_closed = False
        self._interruptions = 0
        self._threads = SpareThreads(THREAD_NAME)
        self._usage = Usage()

    def begin(self) -> None:
        """Have this thread's next exchanges ended by every `interrupt` from now on."""
        self._calls.interruptions = self._interruptions

    def set_deadline(self, deadline: float) -> None:
        """Bound this thread's next exchange; `deadline` is on the clock of `time.monotonic`."""
        self._calls.deadline = deadline
        self._calls.body = b""

    def last_excerpt(self) -> str:
        """The beginning of the body that this thread received last, on one line, without secrets."""
        return excerpt(self._calls.body, *self._secrets)

    def run(self, send: Callable[[Timeout], HTTPResponse], *, size_bytes: int, secrets: tuple[str, ...] = ()) -> bytes:
        """Exchange one request for one whole, successful answer, before this thread's deadline.

        Args:
            send: Sends the request over a pool that `watch` was told of, and gives the answer, its body unread.
            size_bytes: Of the body that it sends.
            secrets: What else to remove from messages.

        Returns:
            The answer's body.

        Raises:
            BadStatus: The answer is no success.
            NoAnswer: None arrived in time.
            EmbedderError: `close` was called before or meanwhile, or `interrupt` since `begin`.
        """
        deadline: float = self._calls.deadline
        if time.monotonic() >= deadline:
            raise NoAnswer(NO_TIME)
        answer: Future[_Answer] = Future()

        def work() -> None:
            self._exchanges.answer = answer
            try:
                exchanged = self._exchange(send, deadline, secrets)
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
            self._usage = Usage(calls=sent.calls + 1, bytes_sent=sent.bytes_sent + size_bytes)
        in_time = True
        try:
            self._threads.run(work)
            status, headers, body = answer.result(timeout=max(0.0, deadline - time.monotonic()))
        except FutureTimeoutError:
            in_time = False
        finally:
            with self._lock:
                self._pending.discard(answer)
        if not in_time:
            raise NoAnswer(TIMED_OUT)
        self._calls.body = body
        if 200 <= status < 300:
            return body
        # A redirect is not followed: it would turn POST into GET, or carry the key to another host.
        target = headers.get("Location", "") if 300 <= status < 400 else ""
        shown = excerpt(target.encode() or body, *self._secrets, *secrets)
        raise BadStatus(status, shown, retry_after_s=retry_after(headers))

    def watch(self, pools: PoolManager) -> None:
        """Remember the connections of a manager's pools, for `interrupt`."""
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

        pools.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}

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
        """End every wait with an `EmbedderError`, for good."""
        with self._lock:
            self._is_closed = True
        self._end_pending(CLOSED)

    def _end_pending(self, reason: str) -> None:
        with self._lock:
            pending = list(self._pending)
        for answer in pending:
            with suppress(InvalidStateError):
                answer.set_exception(EmbedderError(reason))

    def _exchange(self, send: Callable[[Timeout], HTTPResponse], deadline: float, secrets: tuple[str, ...]) -> _Answer:
        remaining = max(0.001, deadline - time.monotonic())
        response: HTTPResponse | None = None
        try:
            response = send(Timeout(connect=min(_CONNECT_TIMEOUT_S, remaining), read=remaining))
            return response.status, response.headers, _read(response, deadline)
        except (HTTPError, OSError, ValueError) as error:  # ValueError: a proxy that is no address
            if response is not None:
                response.close()  # what is left in the socket belongs to this answer
            reason = excerpt(reason_of(error).encode(errors="replace"), *self._secrets, *secrets)
            failure = NoAnswer(reason, error=error)
        raise failure  # outside of `except`, so that no foreign error hangs on it


def _read(response: HTTPResponse, deadline: float) -> bytes:
    read = getattr(response, "read1", response.read)  # urllib3 before 2.1 has no `read1`
    body = bytearray()
    while chunk := read(65_536, decode_content=True):
        body += chunk
        if time.monotonic() > deadline:
            raise TimeoutError(TIMED_OUT)  # while the answer was still arriving
        if len(body) > _MAX_BODY_BYTES:
            raise OSError(f"the answer is longer than {_MAX_BODY_BYTES:,} bytes")
    response.release_conn()
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and "Content-Encoding" not in response.headers and len(body) < int(length):
        raise OSError("the answer broke off")  # urllib3 1.26 does not say so
    return bytes(body)
