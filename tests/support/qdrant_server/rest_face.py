"""The REST API on a real socket."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote

from pydantic import BaseModel

from .refusals import RefusalError, malformed
from .server import Exchange, QdrantServer


def to_json(value: Any) -> Any:
    """Plain values, without what a point was not asked for."""
    if isinstance(value, BaseModel):
        plain = value.model_dump(mode="json")
        return {key: each for key, each in plain.items() if each is not None}
    if isinstance(value, list):
        return [to_json(each) for each in value]
    if isinstance(value, dict):
        return {key: to_json(each) for key, each in value.items()}
    return value


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def _from_json(text: bytes) -> Any:
    if not text:
        return None
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        said = "key must be a string" if error.msg.startswith("Expecting property name") else error.msg
        raise malformed(f"{said} at line {error.lineno} column {error.colno}") from error
    except ValueError as error:
        raise malformed("expected value at line 1 column 1") from error


class _Handler(BaseHTTPRequestHandler):
    state: QdrantServer

    def handle_any(self) -> None:
        server = self.state
        started = time.monotonic()
        length = int(self.headers.get("Content-Length") or 0)
        server.sizes.append(length)
        path, _, query = self.path.partition("?")
        if length > server.max_request and server.too_large == "cut":
            self.close_connection = True
            return
        status, content, kind = 200, b"", "application/json"
        headers: dict[str, str] = {}
        try:
            body = self._body(length)
            server.requests.append((self.command, self.path, body))
            result = server.answer(
                self.command, unquote(path), dict(parse_qsl(query)), body, self.headers.get("api-key")
            )
            content = json.dumps(
                {"result": to_json(result), "status": "ok", "time": time.monotonic() - started}
            ).encode()
        except (RefusalError, ValueError) as error:
            refusal = error if isinstance(error, RefusalError) else RefusalError(400, f"Wrong input: {error}")
            status = refusal.status
            if refusal.retry_after is not None:
                headers["Retry-After"] = str(refusal.retry_after)
            if refusal.plain:
                kind, content = "", str(refusal).encode()
            else:
                said = {"status": {"error": str(refusal)}, "time": time.monotonic() - started}
                content = json.dumps(said).encode()
        server.exchanges.append(Exchange("rest", self.command, self.path, started, time.monotonic(), status))
        self.send_response(status)
        if kind:
            self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        if self.close_connection and length > server.max_request:
            self.rfile.read(length)  # else the client is cut off before it has read the answer

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
        return _from_json(self.rfile.read(length))

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass  # a client that hung up


@contextmanager
def listening(server: QdrantServer) -> Iterator[str]:
    """The URL of a face of a server."""
    handler = type("Handler", (_Handler,), {"state": server})
    listener = _Listener(("127.0.0.1", 0), handler)
    threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.server_address[1]}"
    finally:
        listener.shutdown()
        listener.server_close()
