"""A local server for tests of embedders: what those of all services share, and the faults that they have on command."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import ssl
import struct
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web
from typing_extensions import Self

Kind = Literal[
    "reset", "hang", "drip", "drip_headers", "cut", "cut_chunked", "one_too_few", "one_too_many", "wrong_dimension",
    "ragged", "nan", "infinity", "not_numbers", "shuffled", "misnumbered",
]  # fmt: skip

TOKEN = "aa-test-token/with+signs=="


@dataclass(frozen=True)
class Received:
    """One request to an embedding endpoint as it arrived; `number` counts from 1."""

    number: int
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any
    size_bytes: int


class RefusedError(Exception):
    """An answer that refuses a request."""

    def __init__(self, status: int, message: str, code: str = "BAD_REQUEST") -> None:
        super().__init__(message)
        self.status = status
        self.body = json.dumps({"error": message, "code": code})


@dataclass
class Fault:
    """What to do to some requests."""

    kind: str
    at: Collection[int] | None
    left: float
    status: int = 200
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def strikes(self, number: int) -> bool:
        if self.left <= 0 or (self.at is not None and number not in self.at):
            return False
        self.left -= 1
        return True


class FaultyServer(ABC):
    """Serves on a free loopback port inside a `with` block.

    Args:
        token: The only token it accepts.
        latency_s: Seconds that every embedding takes, on top of its computation.
        max_in_flight: From this many embedding requests at once on, further ones get 429.
        prefix: A path below which the API lives, such as `/v1`.
        certificate: Files of a certificate and its key: serve https.
    """

    def __init__(
        self,
        *,
        token: str = TOKEN,
        latency_s: float = 0.0,
        max_in_flight: int | None = None,
        prefix: str = "",
        certificate: tuple[str, str] | None = None,
    ) -> None:
        self.token = token
        self.latency_s = latency_s
        self.max_in_flight = max_in_flight
        self.url = ""
        self.bad_prompts: set[str] = set()
        """Texts and base64 images whose whole request gets 400."""
        self.poison: dict[str, str] = {}
        """What to do, always, to requests that hold a text or base64 image: a kind, or a status and a body."""
        self._prefix = prefix
        self._certificate = certificate
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._in_flight = 0

    @abstractmethod
    def _add_routes(self, app: web.Application) -> None:
        """Its endpoints."""

    @abstractmethod
    async def _answer(self, request: web.Request, raw: bytes, number: int) -> web.StreamResponse:
        """The answer to a request to embed."""

    # -- for tests -----------------------------------------------------------------------------------------------------

    def misbehave(self, kind: Kind, *, times: float = float("inf"), at: Collection[int] | None = None) -> None:
        """From now on do this to embedding requests: `times` times, or to those whose number is in `at`."""
        with self._lock:
            self._faults.append(Fault(kind, at, times))

    def answer_with(
        self,
        status: int,
        body: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        times: float = float("inf"),
        at: Collection[int] | None = None,
    ) -> None:
        """From now on answer embedding requests so, before looking at them."""
        with self._lock:
            self._faults.append(Fault("answer", at, times, status, body, headers or {}))

    def queue_full(self, *, times: float = float("inf")) -> None:
        """From now on be overloaded as the service documents it."""
        self.answer_with(503, '{"error": "Sorry we had to reject your request", "code": "QUEUE_FULL"}', times=times)

    def behave(self) -> None:
        """Forget every misbehaviour."""
        with self._lock:
            self._faults.clear()
            self.bad_prompts.clear()
            self.poison.clear()
            self.max_in_flight = None

    # -- life ----------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)), daemon=True)
        self._thread.start()
        if not started.wait(10):
            raise RuntimeError("the local server has not started")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self, started: threading.Event | None = None) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=200_000_000)
        self._add_routes(app)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        tls = None
        if self._certificate is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(*self._certificate)
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=512, ssl_context=tls)
        await site.start()
        port = runner.addresses[0][1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}{self._prefix}"
        if started is None:
            print(self.url, flush=True)  # noqa: T201 (the parent process reads it)
        else:
            started.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _embed(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        number = next(self._numbers)
        self._in_flight += 1
        try:
            return await self._answer(request, raw, number)
        except RefusedError as refusal:
            return web.Response(status=refusal.status, text=refusal.body, content_type="application/json")
        finally:
            self._in_flight -= 1

    def _fault(self, number: int) -> Fault | None:
        with self._lock:
            return next((fault for fault in self._faults if fault.strikes(number)), None)

    async def _misbehaved(self, request: web.Request, fault: Fault | None) -> web.StreamResponse | None:
        """What is answered without a look at the request, if anything."""
        if fault is not None and fault.kind == "answer":
            shown = fault.body.replace("{authorization}", request.headers.get("Authorization", ""))
            return web.Response(status=fault.status, text=shown, headers=fault.headers)
        if fault is not None and fault.kind in _BREAKERS:
            return await _BREAKERS[fault.kind](request, self._stop)
        if self.max_in_flight is not None and self._in_flight > self.max_in_flight:
            return web.Response(status=429, text="Too many requests in parallel")
        return None


# -- misbehaviour ------------------------------------------------------------------------------------------------------

MANGLERS: dict[str, Callable[[list[Any]], list[Any]]] = {
    "one_too_few": lambda rows: rows[:-1],
    "one_too_many": lambda rows: [*rows, rows[0]],
    "wrong_dimension": lambda rows: [row[:-1] for row in rows],
    "ragged": lambda rows: [rows[0][:-1], *rows[1:]],
    "nan": lambda rows: [*rows[:-1], [float("nan"), *rows[-1][1:]]],
    "infinity": lambda rows: [*rows[:-1], [1e300, *rows[-1][1:]]],
    "not_numbers": lambda rows: [["x"] * len(row) for row in rows],
}


async def _reset(request: web.Request, _: asyncio.Event) -> web.StreamResponse:
    transport = request.transport
    assert transport is not None
    # Without lingering, closing sends RST instead of FIN.
    linger = struct.pack("ii", 1, 0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()
    return web.Response()


async def _hang(_: web.Request, stop: asyncio.Event) -> web.StreamResponse:
    await stop.wait()
    return web.Response(status=503)


async def _drip(request: web.Request, stop: asyncio.Event) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    while not stop.is_set() and request.transport is not None and not request.transport.is_closing():
        await response.write(b" ")  # JSON may begin with any amount of white space
        await asyncio.sleep(0.02)
    return response


async def _drip_headers(request: web.Request, stop: asyncio.Event) -> web.StreamResponse:
    transport = request.transport
    assert transport is not None
    transport.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not stop.is_set() and not transport.is_closing():
        transport.write(b"z")
        await asyncio.sleep(0.02)
    transport.abort()
    return web.Response()


async def cut(request: web.Request, body: bytes, *, chunked: bool) -> web.StreamResponse:
    """Answer with half of a body."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    if chunked:
        response.enable_chunked_encoding()
    else:
        response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    await asyncio.sleep(0.01)
    if request.transport is not None:
        request.transport.close()
    return response


_BREAKERS: dict[str, Callable[[web.Request, asyncio.Event], Awaitable[web.StreamResponse]]] = {
    "reset": _reset,
    "hang": _hang,
    "drip": _drip,
    "drip_headers": _drip_headers,
}
