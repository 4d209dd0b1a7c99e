"""The two ports of a server, REST and gRPC: whether both belong to the same server or cluster."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from multimodal_search._threads import side_by_side
from multimodal_search.errors import ConfigurationError
from multimodal_search.stores.qdrant.errors import status_of
from multimodal_search.stores.qdrant.info import BEHIND_S, PAUSE_S, collection_info

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

_TELLS_NOTHING = (400, 403, 405, 501)  # of a proxy, or an old server


def check_ports(rest: QdrantClient, over_grpc: QdrantClient, collection: str) -> None:
    """Check that two clients reach the same server or cluster, as far as a collection tells, if there is one.

    Each peer has a random number of its own, and knows those of the peers that have a shard of the collection. Where
    that is not told, the collection's settings and metadata are compared. A collection that only one of them knows is
    waited for a little: its peers may be behind.

    Raises:
        ConfigurationError: They do not.
    """
    deadline = time.monotonic() + BEHIND_S
    while True:
        first, second = side_by_side(
            lambda client: _peers(client, collection),
            (rest, over_grpc),
            threads=2,
            name="multimodal-ports",
            step=lambda done: None,
        )
        if (first is None) == (second is None) or time.monotonic() > deadline:
            break
        time.sleep(PAUSE_S)
    if first is None or second is None:
        is_one = first is second
    elif first and second:
        is_one = bool(first & second)
    else:
        one, other = (collection_info(client, collection).config for client in (rest, over_grpc))
        is_one = one.params.vectors == other.params.vectors and (one.metadata or {}) == (other.metadata or {})
    if not is_one:
        raise ConfigurationError(
            f"the url and the gRPC port of QdrantStore({collection!r}) lead to different servers: pass the grpc_port "
            "of the server that url names"
        )


def _peers(client: QdrantClient, collection: str) -> frozenset[int] | None:
    """The peers that have to do with a collection; None if there is no such collection, none if that is not told."""
    try:
        info = client.collection_cluster_info(collection)
    except Exception as error:
        status = status_of(error)
        if status == 404:
            return None if "ollection" in str(getattr(error, "content", None) or error) else frozenset()
        if status in _TELLS_NOTHING:
            return frozenset()
        raise
    return frozenset({info.peer_id, *(shard.peer_id for shard in info.remote_shards)})
