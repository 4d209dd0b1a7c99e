"""Keyword search of one store: by the words of its points, or in some fields of their payloads alone."""

from __future__ import annotations

from collections.abc import Sequence

from multimodal_search._text import composed
from multimodal_search.protocols import SupportsTextSearch, VectorStore
from multimodal_search.stores.bm25 import bm25, words_of
from multimodal_search.stores.keywords import DEFAULT_KEYWORD_FIELDS, point_words
from multimodal_search.stores.scanning import best_ids, search_text_by_scanning
from multimodal_search.types import Filter, Match, Payload


def keyword_matches(
    store: VectorStore, words: str, fields: Sequence[str] | None, *, limit: int, where: Filter | None
) -> list[Match]:
    """The points that hold at least one of some words, ranked by BM25.

    Args:
        store: Where to search. One without keyword search is read whole.
        words: What to look for.
        fields: Only these payload fields; None for all that make up the words of a point. What the store finds is then
            ranked by the words in these fields, or if some of them are no words of a point, every point is read.
        limit: Most matches.
        where: Only points whose payload passes.
    """
    if not isinstance(store, SupportsTextSearch):
        return search_text_by_scanning(
            store, words, fields=DEFAULT_KEYWORD_FIELDS if fields is None else fields, limit=limit, where=where
        )
    if is_restricted(store, fields):
        assert fields is not None  # noqa: S101 (for mypy)
        if not set(fields) <= set(store.get_keyword_fields()):
            return search_text_by_scanning(store, words, fields=fields, limit=limit, where=where)
        points = max(1, store.count())
        found = {match.id: match for match in store.search_text(words, limit=points)}
        passing = None if where is None else {match.id for match in store.search_text(words, limit=points, where=where)}
        texts = ((match.id, point_words(match.payload, fields)) for match in found.values())
        scores = bm25(words, texts, points=points)
        best = best_ids(scores, limit=limit, among=passing)
        return [Match(each, scores[each], found[each].payload) for each in best]
    return store.search_text(words, limit=limit, where=where)


def is_restricted(store: SupportsTextSearch, fields: Sequence[str] | None) -> bool:
    """Whether a keyword search looks in other fields than those that make up the words of a point."""
    return fields is not None and set(fields) != set(store.get_keyword_fields())


def holds_all(store: VectorStore, words: str, payload: Payload, fields: Sequence[str] | None) -> bool:
    """Whether a point holds all of some words, in the fields that make up its words or in those given."""
    if fields is None:
        fields = store.get_keyword_fields() if isinstance(store, SupportsTextSearch) else DEFAULT_KEYWORD_FIELDS
    wanted = _compared(words)
    return bool(wanted) and wanted <= _compared(point_words(payload, fields))


def _compared(text: str) -> set[str]:
    """The words of a text as readers compare them: whatever their case, and whether é is one character or two."""
    return {word.casefold() for word in words_of(composed(text))}
