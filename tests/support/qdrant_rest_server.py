"""A Qdrant server for tests: its REST API on a real socket, over qdrant-client's own local mode.

What travels is what a real server would get from the real client, and answer; what it stores is as right as local mode
is. It can be told to be old, slow, or guarded by a key.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from qdrant_client import QdrantClient, models

MAX_REQUEST = 32 * 2**20


class RefusalError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status


class QdrantServer:
    """The state of one server.

    Attributes:
        url: Where it listens.
        key: What it asks of every request, if anything.
        keeps_metadata: Whether it is of 1.16 or later.
        knows_prefixes: Whether it is of 1.19 or later.
        knows_scoring: Whether it is of 1.20 or later; if not, whether it says so or drops what it does not know.
        too_large: How it refuses a body above the limit: by 413, by 400 as Qdrant does, or by hanging up unread.
        before: Called with the method and path of each request; may sleep or raise `RefusalError`.
        check: Called with the body of each request; may raise `RefusalError`.
        requests: Method, path and body of each request so far.
    """

    def __init__(self) -> None:
        self.url = ""
        self.key: str | None = None
        self.keeps_metadata = True
        self.knows_prefixes = True
        self.knows_scoring: Literal["yes", "refuses", "drops"] = "yes"
        self.too_large: Literal["413", "400", "cut"] = "413"
        self.before: Callable[[str, str], None] = lambda method, path: None
        self.check: Callable[[Any], None] = lambda body: None
        self.requests: list[tuple[str, str, Any]] = []
        self.sizes: list[int] = []
        self.indexes: dict[str, dict[str, Any]] = {}
        self._client = QdrantClient(location=":memory:")
        self._lock = threading.Lock()

    def asked(self, method: str, pattern: str) -> list[Any]:
        """The bodies of the requests so far whose path matches."""
        return [body for verb, path, body in self.requests if verb == method and re.fullmatch(pattern, path)]

    def close(self) -> None:
        self._client.close()

    def answer(self, method: str, path: str, body: Any, key: str | None, length: int) -> Any:
        if length > MAX_REQUEST:
            raise RefusalError(413, "Payload Too Large")
        if self.key is not None and key != self.key:
            raise RefusalError(401, "Must provide an API key or an Authorization bearer token")
        self.before(method, path)
        self.check(body)
        _, _, name, *rest = path.split("/")
        with self._lock:
            if method != "PUT" or rest:
                self._must_exist(name)
            return self._dispatch(method, name, "/".join(rest), body)

    def _must_exist(self, name: str) -> None:
        if not self._client.collection_exists(name):
            raise RefusalError(404, f"Not found: Collection `{name}` doesn't exist!")

    def _dispatch(self, method: str, name: str, action: str, body: Any) -> Any:
        client = self._client
        match method, action:
            case "GET", "":
                info = client.get_collection(name).model_dump(mode="json")
                indexed = {
                    field: {"data_type": settings["type"], "params": settings, "points": 0}
                    for field, settings in self.indexes.get(name, {}).items()
                }
                return info | {"payload_schema": indexed}
            case "PUT", "":
                if client.collection_exists(name):
                    raise RefusalError(409, f"Wrong input: Collection `{name}` already exists!")
                created = models.CreateCollection.model_validate(body)
                metadata = created.metadata if self.keeps_metadata else None
                return client.create_collection(name, vectors_config=created.vectors or {}, metadata=metadata)
            case "PATCH", "":
                return client.update_collection(name, metadata=body.get("metadata")) if self.keeps_metadata else True
            case "DELETE", "":
                return client.delete_collection(name)
            case "PUT", "index":
                if "prefix" in json.dumps(body["field_schema"]) and not self.knows_prefixes:
                    raise RefusalError(400, "Format error in JSON body: data did not match any variant")
                if "scoring" in body["field_schema"] and self.knows_scoring != "yes":
                    if self.knows_scoring == "refuses":
                        raise RefusalError(400, "Format error in JSON body: data did not match any variant")
                    del body["field_schema"]["scoring"]
                self.indexes.setdefault(name, {})[body["field_name"]] = body["field_schema"]
                if "scoring" in body["field_schema"]:  # the only index that local mode has a use for
                    client.create_payload_index(
                        name, body["field_name"], models.TextIndexParams.model_validate(body["field_schema"])
                    )
                return _done()
            case "DELETE", _ if action.startswith("index/"):
                del self.indexes[name][action.removeprefix("index/")]
                return _done()
            case "PUT", "points":
                if "batch" in body:
                    client.upsert(name, models.Batch.model_validate(body["batch"]))
                else:
                    client.upsert(name, [models.PointStruct.model_validate(point) for point in body["points"]])
                return _done()
            case "POST", "points":
                return _dump(client.retrieve(name, body["ids"], with_payload=True, with_vectors=body["with_vector"]))
            case "POST", "points/delete":
                client.delete(name, models.PointIdsList.model_validate(body))
                return _done()
            case "POST", "points/count":
                asked = models.CountRequest.model_validate(body)
                return {"count": client.count(name, count_filter=asked.filter, exact=bool(asked.exact)).count}
            case "POST", "points/scroll":
                wanted = models.ScrollRequest.model_validate(body)
                points, following = client.scroll(
                    name,
                    scroll_filter=wanted.filter,
                    limit=wanted.limit or 10,
                    offset=wanted.offset,
                    with_payload=True if wanted.with_payload is None else wanted.with_payload,
                )
                return {"points": _dump(points), "next_page_offset": following}
            case "POST", "points/query/batch":
                searches = models.QueryRequestBatch.model_validate(body).searches
                for search in searches:
                    search.params = None  # local mode has no use for them, and warns
                return _dump(client.query_batch_points(name, searches))
        raise RefusalError(404, f"no such endpoint: {method} {action}")


def _dump(found: list[Any]) -> list[Any]:
    return [each.model_dump(mode="json") for each in found]


def _done() -> dict[str, Any]:
    return {"operation_id": 1, "status": "completed"}


@contextmanager
def running() -> Iterator[QdrantServer]:
    """A server on a free port."""
    server = QdrantServer()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            started = time.monotonic()
            length = int(self.headers.get("Content-Length") or 0)
            server.sizes.append(length)
            path = self.path.partition("?")[0]
            status, answer = 200, {"status": "ok", "time": 0.0}
            if length > MAX_REQUEST and server.too_large != "413":
                self.close_connection = True
                if server.too_large == "cut":
                    return
                said = f"JSON payload ({length} bytes) is larger than allowed (limit: {MAX_REQUEST} bytes)"
                content = json.dumps({"status": {"error": said}, "time": 0.0}).encode()
                self.send_response(400)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                self.rfile.read(length)
                return
            text = self.rfile.read(length)
            try:
                body = json.loads(text) if text else None
                server.requests.append((self.command, self.path, body))
                answer["result"] = server.answer(self.command, path, body, self.headers.get("api-key"), length)
            except RefusalError as refusal:
                status, answer["status"] = refusal.status, {"error": str(refusal)}
            except ValueError as error:
                status, answer["status"] = 400, {"error": f"Wrong input: {error}"}
            answer["time"] = time.monotonic() - started
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # a client that hung up

    listener = Server(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{listener.server_address[1]}"
    threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
        server.close()
