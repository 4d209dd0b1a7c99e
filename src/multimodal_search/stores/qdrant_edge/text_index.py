"""The words of the points of an in-process index: which fields make them up, the full-text index, and its queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from multimodal_search.stores.keywords import NOTE, WORDS, KeywordFields
from multimodal_search.stores.qdrant_edge.engine import engine
from multimodal_search.stores.qdrant_edge.folder import EdgeFolder
from multimodal_search.stores.qdrant_edge.notes import get_index_metadata, set_index_metadata
from multimodal_search.stores.qdrant_shared.payload_indexes import own_path
from multimodal_search.types import PointId

if TYPE_CHECKING:
    from qdrant_edge import EdgeShard, QueryRequest


@dataclass(frozen=True, slots=True)
class FolderWords:
    """The words of the points in a folder.

    Attributes:
        folder: The folder.
    """

    folder: EdgeFolder

    @property
    def keywords(self) -> KeywordFields:
        """Which fields make them up; read once, and kept in a folder without points."""
        if self.folder.keywords is None:
            text = get_index_metadata(self.folder, NOTE)
            if text is None and not self.folder.run(lambda shard: shard.info().points_count):
                self.keep(KeywordFields(complete=True))
            else:
                self.folder.keywords = KeywordFields.of(text)
        assert self.folder.keywords is not None  # noqa: S101 (for mypy)
        return self.folder.keywords

    def keep(self, keywords: KeywordFields, /) -> None:
        """Keep in the folder which fields make them up."""
        set_index_metadata(self.folder, NOTE, keywords.to_text())
        self.folder.keywords = keywords

    def index(self) -> bool:
        """Create the full-text index, if there is no index: 118,000 captions take about 1 s.

        Returns:
            Whether there is one then that scores by BM25.
        """
        folder = self.folder
        indexed = folder.run(_ranks)
        if indexed is None:
            indexed = folder.write(_create, size=folder.payload_bytes(), flush=True)
            folder.indexes.kinds.setdefault(WORDS, "text")
        return indexed

    def drop_index(self) -> None:
        """Delete the index, if there is one."""
        if self.folder.run(_ranks) is not None:
            dropped = engine().UpdateOperation.delete_field_index(WORDS)
            self.folder.write(lambda shard: shard.update(dropped), flush=True)
            self.folder.indexes.kinds.pop(WORDS, None)

    def write(self, ids_of: Mapping[str, Sequence[PointId]], /) -> None:
        """Write words to points that are there."""
        edge = engine()
        operations = [edge.UpdateOperation.set_payload(list(ids), {WORDS: words}) for words, ids in ids_of.items()]

        def update(shard: EdgeShard) -> None:
            for operation in operations:
                shard.update(operation)

        self.folder.write(update, size=sum(len(words.encode()) * len(ids) for words, ids in ids_of.items()))


def text_request(words: str, *, limit: int, engine_filter: Any, with_payload: Any) -> QueryRequest:
    """A BM25 query for the points that hold some words."""
    edge = engine()
    request: QueryRequest = edge.QueryRequest(
        query=edge.TextQuery(WORDS, words), limit=limit, with_payload=with_payload, filter=engine_filter
    )
    return request


def _ranks(shard: EdgeShard) -> bool | None:
    """Whether the index on the words scores by BM25; None if there is none."""
    indexes = {own_path(indexed): index for indexed, index in shard.info().payload_schema.items()}
    index = indexes.get(WORDS)
    return None if index is None else getattr(index.params, "scoring", None) is not None


def _create(shard: EdgeShard) -> bool:
    indexed = _ranks(shard)
    if indexed is None:
        edge = engine()
        words = edge.TextIndexParams(
            tokenizer=edge.TokenizerType.Word, lowercase=True, scoring=True, memory=edge.Memory.Cold
        )
        shard.update(edge.UpdateOperation.create_field_index(WORDS, words))
        indexed = True
    return indexed
