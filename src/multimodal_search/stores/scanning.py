"""Full scans, for stores without an index for the task: BM25 search, and all records with vectors."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterator, Mapping, Sequence

from multimodal_search.ids import id_order
from multimodal_search.protocols import VectorStore
from multimodal_search.stores.arguments import checked_words
from multimodal_search.stores.bm25 import bm25, words_of
from multimodal_search.stores.keywords import point_words
from multimodal_search.types import Filter, Match, PointId, Record

__all__ = ["all_records", "best_ids", "search_text_by_scanning"]

_CHUNK = 512


def search_text_by_scanning(
    store: VectorStore, words: str, *, fields: Sequence[str], limit: int, where: Filter | None
) -> list[Match]:
    """Search by keywords (BM25) through the words of every point: `SupportsTextSearch.search_text` for any store.

    Args:
        store: Where to search.
        words: What to look for.
        fields: The payload fields whose texts make up the words of a point.
        limit: Most matches, at least 1.
        where: Only points whose payload passes.

    Raises:
        QueryError: `words` is no text, `limit` is out of bounds, or the filter makes no sense.
    """
    words = checked_words(words, limit=limit)
    passing = None if where is None else {record.id for record in store.scan(where=where, fields=())}
    if not words_of(words):
        return []
    scores = bm25(words, ((record.id, point_words(record.payload, fields)) for record in store.scan(fields=fields)))
    best = best_ids(scores, limit=limit, among=passing)
    records = (record for record in store.get(best) if record is not None)  # else it was deleted meanwhile
    return [Match(record.id, scores[record.id], dict(record.payload)) for record in records]


def best_ids(scores: Mapping[PointId, float], *, limit: int, among: Container[PointId] | None = None) -> list[PointId]:
    """The ids with the best scores, in the order of a ranking; `among` are those that count, None for all."""
    found = [key for key in scores if among is None or key in among]
    return sorted(found, key=lambda key: (-scores[key], *id_order(key)))[:limit]


def all_records(store: VectorStore, *, where: Filter | None = None) -> Iterator[Record]:
    """Iterate over all records that pass, with their vectors, in the order of ids."""
    iterator = store.scan(where=where, fields=())
    while chunk := [record.id for record in itertools.islice(iterator, _CHUNK)]:
        for record in store.get(chunk, with_vectors=True):
            if record is not None:  # else it was deleted meanwhile
                yield record
