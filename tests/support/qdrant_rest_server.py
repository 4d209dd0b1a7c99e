"""A Qdrant server for tests: `running()` starts one on free ports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from qdrant_server.refusals import RefusalError
from qdrant_server.rest_face import listening
from qdrant_server.server import MAX_REQUEST, QdrantServer

__all__ = ["MAX_REQUEST", "QdrantServer", "RefusalError", "running"]


@contextmanager
def running(*, peers: int = 1) -> Iterator[QdrantServer]:
    """A server, or a cluster of `peers` behind a balancer, on free ports."""
    server = QdrantServer(peers)
    with ExitStack() as stack:
        stack.callback(server.close)
        for peer in server.peers:
            peer.url = stack.enter_context(listening(server, lambda peer=peer: peer))  # type: ignore[misc]
        server.url = stack.enter_context(listening(server, server.next_peer))
        yield server
