"""The gRPC face of the server for tests alone, where nobody asks for anything else of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from qdrant_rest_server import running


@contextmanager
def running_grpc() -> Iterator[int]:
    """The port of a server."""
    with running(grpc=True) as server:
        yield server.grpc_port
