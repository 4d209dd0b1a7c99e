"""The in-process engine's own full-text search: the index that it needs on a field, and its queries."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from multimodal_search.stores._qdrant_edge_folder import EdgeFolder, engine

if TYPE_CHECKING:
    from qdrant_edge import EdgeShard, QueryRequest


def index_text(folder: EdgeFolder, path: str) -> bool:
    """Have the field at `path` indexed by words, at first use: 118,000 captions take about 1 s.

    Returns:
        Whether it is. An index of another kind stays as it is: a field has one, and the engine replaces it in silence.
    """
    indexed = folder.run(lambda shard: _ranks(shard, path))
    if indexed is None:
        indexed = folder.run(lambda shard: _create(shard, path), writes=1)  # which makes it look for free space
    return indexed


def text_request(words: str, *, path: str, limit: int, passing: Any, with_payload: bool) -> QueryRequest:
    """A query for the points that hold some words, by falling score."""
    edge = engine()
    request: QueryRequest = edge.QueryRequest(
        query=edge.TextQuery(path, words), limit=limit, with_payload=with_payload, filter=passing
    )
    return request


def _ranks(shard: EdgeShard, path: str) -> bool | None:
    """Whether the field's index ranks by words; None if it has no index."""
    indexes = shard.info().payload_schema
    bare = path.strip('"')  # the engine writes names of letters and digits without quotes, whatever their script
    index = indexes.get(path) or (indexes.get(bare) if re.fullmatch(r"[\w-]+", bare) else None)
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
