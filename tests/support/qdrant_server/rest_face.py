"""The REST API on a real socket."""

from __future__ import annotations

import contextlib
import json
import math
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
from pydantic import BaseModel

from .cluster import Peer
from .refusals import RefusalError, malformed
from .server import Bare, Exchange, QdrantServer


def one_off(number: float) -> float:
    """One in sixteen numbers, one unit in the last place off; what comes out stays as it is."""
    (bits,) = struct.unpack("<q", struct.pack("<d", number))
    return math.nextafter(number, math.inf) if bits % 16 == 5 and number > 0 else number


def _to_json(value: Any) -> Any:
    """Plain values; a point without what nobody asked for."""
    if isinstance(value, BaseModel):
        shown = {key: each for key, each in value.model_dump(mode="json").items() if each is not None}
        if "score" in shown:
            shown["score"] = float(str(np.float32(shown["score"])))  # as many digits as 32 bits need
        return shown
    if isinstance(value, list):
        return [_to_json(each) for each in value]
    if isinstance(value, dict):
        return {key: _to_json(each) for key, each in value.items()}
    return value


def _refuse_constant(text: str) -> None:
    raise ValueError(text)


def _from_json(text: bytes, rounds_floats: bool) -> Any:
    if not text:
        return None
    try:
        return json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_float=(lambda number: one_off(float(number))) if rounds_floats else None,
        )
    except json.JSONDecodeError as error:
        said = "key must be a string" if error.msg.startswith("Expecting property name") else error.msg
        raise malformed(f"{said} at line {error.lineno} column {error.colno}") from error
    except ValueError as error:
        raise malformed(f"expected value at line 1 column {text.index(str(error).encode()) + 1}") from error


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    state: QdrantServer
    peer: Callable[[], Peer]

    def handle_one_request(self) -> None:
        self.connection.settimeout(self.state.idle_s)
        super().handle_one_request()

    def handle_any(self) -> None:
        server = self.state
        started = time.monotonic()
        self.connection.settimeout(None)
        self.close_connection = self.close_connection or server.idle_s is None
        length = int(self.headers.get("Content-Length") or 0)
        server.sizes.append(length)
        if length > server.max_request and server.too_large == "cut":
            self.close_connection = True
            return
        status, kind, retry_after = 200, "application/json", None
        try:
            body = self._body(length)
            server.requests.append((self.command, self.path, body))
            path, _, query = self.path.partition("?")
            result = server.answer(type(self).peer(), self.command, path, dict(parse_qsl(query)), body, self._key())
        except (RefusalError, ValueError) as error:
            refusal = error if isinstance(error, RefusalError) else RefusalError(400, f"Wrong input: {error}")
            status, retry_after = refusal.status, refusal.retry_after
            if refusal.plain:
                kind, content = "", str(refusal).encode()
            else:
                content = _encoded({"status": {"error": str(refusal)}, "time": time.monotonic() - started})
        else:
            if isinstance(result, Bare) and isinstance(result.content, str):
                kind, content = "text/plain; charset=utf-8", result.content.encode()
            elif isinstance(result, Bare):
                content = _encoded(result.content)
            else:
                content = _encoded({"result": _to_json(result), "status": "ok", "time": time.monotonic() - started})
        server.exchanges.append(Exchange("rest", self.command, self.path, started, time.monotonic(), status))
        self._send(status, kind, content, retry_after)
        if length > server.max_request and server.too_large == "400":
            self.rfile.read(length)  # else the client is cut off before it has read the answer

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815

    def _key(self) -> str | None:
        bearer = self.headers.get("Authorization", "").partition("Bearer ")[2]
        return self.headers.get("api-key") or bearer or None

    def _body(self, length: int) -> Any:
        server = self.state
        if length > server.max_request:
            if server.too_large == "413":
                self.rfile.read(length)
                raise RefusalError(413, "Payload Too Large")
            self.close_connection = True
            raise RefusalError(
                400, f"JSON payload ({length} bytes) is larger than allowed (limit: {server.max_request} bytes)."
            )
        return _from_json(self.rfile.read(length), server.rounds_floats)

    def _send(self, status: int, kind: str, content: bytes, retry_after: int | None) -> None:
        self.send_response(status)
        if kind:
            self.send_header("Content-Type", kind)
        if retry_after is not None:
            self.send_header("Retry-After", str(retry_after))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def _encoded(content: Any) -> bytes:
    return json.dumps(content).encode()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, handler: type[_Handler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End the connections that are kept for another request."""
        for request in list(self._open):
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: object) -> None:
        pass  # a client that hung up


@contextmanager
def listening(server: QdrantServer, peer: Callable[[], Peer]) -> Iterator[str]:
    """The URL of a face of a server; `peer` says who answers the next request."""
    handler = type("Handler", (_Handler,), {"state": server, "peer": staticmethod(peer)})
    listener = _Listener(handler)
    threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.server_address[1]}"
    finally:
        listener.shutdown()
        listener.hang_up()
        listener.server_close()
