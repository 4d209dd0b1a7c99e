"""A Qdrant server for tests: `running()` starts one on free ports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import qdrant_server.quick_clients  # noqa: F401 (what it does is done by importing it)
from qdrant_server.cluster import Peer
from qdrant_server.grpc_face import listening_grpc
from qdrant_server.refusals import RefusalError
from qdrant_server.rest_face import listening
from qdrant_server.server import MAX_REQUEST, QdrantServer

__all__ = ["MAX_REQUEST", "QdrantServer", "RefusalError", "running"]


def _same(peer: Peer) -> Peer:
    return peer


@contextmanager
def running(*, peers: int = 1, grpc: bool = False) -> Iterator[QdrantServer]:
    """A server, or a cluster of `peers` behind a balancer, on free ports; with `grpc`, on a second one each as well."""
    server = QdrantServer(peers)
    with ExitStack() as stack:
        stack.callback(server.close)
        for peer in server.peers:
            itself = partial(_same, peer)
            peer.url = stack.enter_context(listening(server, itself))
            if grpc:
                peer.grpc_port = stack.enter_context(listening_grpc(server, itself))
        server.url = stack.enter_context(listening(server, server.next_peer))
        if grpc:
            server.grpc_port = stack.enter_context(listening_grpc(server, server.next_peer))
        yield server
