"""A local server that answers as the Hugging Face hub does: what a repository holds, and its files."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer:
    """Serves folders as repositories, each at `COMMIT`, and at any other that is asked for.

    Attributes:
        repositories: The folder of each, by `owner/name`.
        requests: Method and path of each request, in order.
        files: The names of files that were sent.
        status: What is answered to everything, if it is not 200.
    """

    def __init__(self, repositories: dict[str, Path]) -> None:
        self.repositories = repositories
        self.requests: list[str] = []
        self.files: list[str] = []
        self.status = 200
        self.cut: str | None = None  # the file whose connection breaks in the middle
        self.damaged: str | None = None  # the file that arrives with another last byte

    def __enter__(self) -> HubServer:
        owner = self

        class Handler(_Handler):
            server_of = owner

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: HubServer

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def _answer(self, *, with_body: bool) -> None:
        hub, path = self.server_of, unquote(urlsplit(self.path).path)
        hub.requests.append(f"{self.command} {path}")
        if hub.status != 200:
            self._send(b'{"error": "no"}', hub.status)
            return
        parts = path.strip("/").split("/")
        is_api = parts[:2] == ["api", "models"]
        repository = "/".join(parts[2:4] if is_api else parts[:2])
        folder = hub.repositories.get(repository)
        if folder is None:
            self._send(b"{}", 404, {"X-Error-Code": "RepoNotFound"})
            return
        revision = parts[5] if is_api and len(parts) > 5 else parts[3] if not is_api else "main"
        commit = revision if re.fullmatch("[0-9a-f]{40}", revision) else COMMIT
        if revision not in ("main", commit):
            self._send(b"{}", 404, {"X-Error-Code": "RevisionNotFound"})
            return
        if is_api:
            self._send(json.dumps(self._described(repository, folder, commit)).encode(), 200)
            return
        name = "/".join(parts[4:])
        file = folder / name
        if not file.is_file():
            self._send(b"", 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return
        content = file.read_bytes()
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": commit}
        if with_body:
            hub.files.append(name)
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        status, rest = (206, content[start:]) if start else (200, content)
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if with_body and hub.cut == name:
            self._send(rest[: len(rest) // 2], status, headers, length=len(rest))
            self.close_connection = True
            return
        self._send(rest[:-1] + b"?" if with_body and hub.damaged == name else rest, status, headers)

    def _described(self, repository: str, folder: Path, commit: str) -> dict[str, Any]:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        siblings = [
            {
                "rfilename": path.relative_to(folder).as_posix(),
                "size": path.stat().st_size,
                "blobId": "0",
                "lfs": {
                    "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                    "size": path.stat().st_size,
                    "pointerSize": 130,
                },
            }
            for path in files
        ]
        return {"_id": "0", "id": repository, "modelId": repository, "sha": commit, "siblings": siblings, "tags": []}

    def _send(
        self, body: bytes, status: int, headers: dict[str, str] | None = None, *, length: int | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.send_header(
            "Content-Type", "application/json" if self.path.startswith("/api") else "application/octet-stream"
        )
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
