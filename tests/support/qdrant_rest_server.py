"""A Qdrant server for tests, over REST: `running()` starts one on a free port."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from qdrant_server.refusals import RefusalError
from qdrant_server.rest_face import listening
from qdrant_server.server import MAX_REQUEST, QdrantServer

__all__ = ["MAX_REQUEST", "QdrantServer", "RefusalError", "running"]


@contextmanager
def running() -> Iterator[QdrantServer]:
    """A server on a free port."""
    server = QdrantServer()
    with listening(server) as server.url:
        yield server
    server.close()
