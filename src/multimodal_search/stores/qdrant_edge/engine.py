"""The in-process engine: its module, and the settings of its shards and payload indexes."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from multimodal_search._extras import require
from multimodal_search.stores.keywords import WORDS
from multimodal_search.stores.qdrant_shared.payload_indexes import INDEXED_FIELDS, IndexKind, own_path

if TYPE_CHECKING:
    from qdrant_edge import EdgeShard

INDEX_FROM = 10_000
"""Points outside the HNSW graph from which on building it pays; fewer are searched exactly in under 1 ms."""


class Graph(NamedTuple):
    """The settings of an HNSW graph.

    Attributes:
        m: Links of each point.
        ef_construct: Candidates looked at to choose them.
    """

    m: int
    ef_construct: int


GRAPH = Graph(m=16, ef_construct=100)
"""The engine's own."""

_FULL_SCAN_KB = 10_000  # the engine's own


def engine() -> ModuleType:
    """The engine's module, imported at first use.

    Raises:
        MissingExtraError: It is not installed.
    """
    return require("qdrant_edge", extra="edge", purpose="QdrantEdgeStore")


def create_shard(path: Path, dimension: int) -> None:
    """Create an empty shard in a new folder, with payload indexes on the library's own fields."""
    edge = engine()
    path.mkdir()
    shard = edge.EdgeShard.create(
        str(path),
        edge.EdgeConfig(
            vectors=edge.EdgeVectorParams(size=dimension, distance=edge.Distance.Cosine),
            # In KB of vectors; a little less, so that `needs_optimize` never asks for what the engine then declines.
            optimizers=edge.EdgeOptimizersConfig(indexing_threshold=max(1, INDEX_FROM * dimension * 4 // 1024 - 1)),
            wal_enabled=True,
        ),
    )
    for field in INDEXED_FIELDS:
        parameters = index_parameters("keyword", prefix=field == "filename")
        shard.update(edge.UpdateOperation.create_field_index(field, parameters))
    flush_and_close(shard)


def graph_settings(dimension: int, graph: Graph) -> Any:
    """The settings to load a shard with, so that optimizing builds another graph."""
    edge = engine()
    return edge.EdgeConfig(
        vectors=edge.EdgeVectorParams(size=dimension, distance=edge.Distance.Cosine),
        hnsw_config=edge.HnswIndexConfig(m=graph.m, ef_construct=graph.ef_construct, full_scan_threshold=_FULL_SCAN_KB),
    )


def index_parameters(kind: IndexKind, *, prefix: bool = True) -> Any:
    """The settings of a payload index."""
    edge = engine()
    # Cold, read from the file where needed: 118,000 points load in 0.07 s instead of 0.5, and answer as fast.
    cold = edge.Memory.Cold
    # No graphs of their own: five fields would double the time of `optimize`, and ACORN finds as much without.
    match kind:
        case "keyword":
            return edge.KeywordIndexParams(prefix=prefix, memory=cold, enable_hnsw=False)
        case "float":
            return edge.FloatIndexParams(memory=cold, enable_hnsw=False)
        case "datetime":
            return edge.DatetimeIndexParams(memory=cold, enable_hnsw=False)
        case "bool":
            return edge.BoolIndexParams(memory=cold, enable_hnsw=False)


def index_kinds(shard: EdgeShard) -> dict[str, str]:
    """The kinds of a shard's payload indexes, by path."""
    kinds = {own_path(path): str(index.data_type) for path, index in shard.info().payload_schema.items()}
    return {path: kind.rpartition(".")[2].lower() for path, kind in kinds.items()}


@cache
def without_words() -> Any:
    """The selector of all of a payload but the words of its point."""
    return engine().PayloadSelector.Exclude([WORDS])


def flush_and_close(shard: EdgeShard) -> None:
    """Flush and close a shard."""
    shard.flush()
    shard.close()
