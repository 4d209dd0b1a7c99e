"""The in-process engine's full-text search: the index on a field, and its queries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from multimodal_search.stores.qdrant_edge.engine import engine
from multimodal_search.stores.qdrant_edge.folder import EdgeFolder
from multimodal_search.stores.qdrant_shared.payload_indexes import own_path

if TYPE_CHECKING:
    from qdrant_edge import EdgeShard, QueryRequest


def index_text(folder: EdgeFolder, path: str) -> bool:
    """Create a full-text index on the field at `path`, if it has no index yet: 118,000 captions take about 1 s.

    Returns:
        Whether it has one then. An index of another kind is kept: a field has one index, and the engine would silently
        replace it.
    """
    indexed = folder.run(lambda shard: _ranks(shard, path))
    if indexed is None:
        indexed = folder.write(lambda shard: _create(shard, path), size=folder.payload_bytes(), flush=True)
        folder.indexes.kinds.setdefault(path, "text")
    return indexed


def text_request(words: str, *, path: str, limit: int, engine_filter: Any, with_payload: bool) -> QueryRequest:
    """A BM25 query for the points that contain some words."""
    edge = engine()
    request: QueryRequest = edge.QueryRequest(
        query=edge.TextQuery(path, words), limit=limit, with_payload=with_payload, filter=engine_filter
    )
    return request


def _ranks(shard: EdgeShard, path: str) -> bool | None:
    """Whether the field's index scores by BM25; None if it has no index."""
    indexes = {own_path(indexed): index for indexed, index in shard.info().payload_schema.items()}
    index = indexes.get(path)
    return None if index is None else getattr(index.params, "scoring", None) is not None


def _create(shard: EdgeShard, path: str) -> bool:
    indexed = _ranks(shard, path)
    if indexed is None:
        edge = engine()
        words = edge.TextIndexParams(
            tokenizer=edge.TokenizerType.Word, lowercase=True, scoring=True, memory=edge.Memory.Cold
        )
        shard.update(edge.UpdateOperation.create_field_index(path, words))
        indexed = True
    return indexed
