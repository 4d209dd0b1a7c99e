"""Keyword search in Qdrant's engine: the words of each point in one field beside its payload, and a BM25 index on it.

The words are written with the point. The index is made by the first keyword search, and not before all points have
their words: until then, payloads are read. The engine writes to a field that has no index in place, so that neither
vectors nor the HNSW graph are touched when words are written anew.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Protocol

import numpy as np

from multimodal_search._threads import at_once
from multimodal_search.errors import StoreError
from multimodal_search.stores.arguments import checked_words, rows_to_search
from multimodal_search.stores.keywords import WORDS, KeywordFields, point_words
from multimodal_search.stores.qdrant_shared.reading import CHUNK, EngineFilter, QdrantReading, T
from multimodal_search.stores.ranking import Hit, ranked_ids, ranked_pages
from multimodal_search.stores.scanning import search_text_by_scanning
from multimodal_search.types import Filter, FloatArray, Match, PointId

_log = logging.getLogger(__name__)


class StoredWords(Protocol):
    """The words of the points of one store, as one of Qdrant's SDKs reaches them."""

    @property
    def keywords(self) -> KeywordFields:
        """Which fields make them up, as kept with the store."""

    def keep(self, keywords: KeywordFields, /) -> None:
        """Keep that with the store, durably."""

    def index(self) -> bool:
        """Create the full-text index on `WORDS`, if there is none; returns whether there is one then."""
        ...

    def drop_index(self) -> None:
        """Delete the index, if there is one."""

    def write(self, ids_of: Mapping[str, Sequence[PointId]], /) -> None:
        """Write words to points that are there, durably: at most `CHUNK` ids, by words."""


class KeywordSearch(QdrantReading):
    """The keyword search of a store on Qdrant's engine, over the calls that each SDK makes in its own way."""

    _has_told = False  # that points have no words yet

    @property
    def _is_remote(self) -> bool:
        """Whether two requests at once take less time than one after the other."""
        return False

    def get_keyword_fields(self) -> tuple[str, ...]:
        """The payload fields that make up the words of a point."""
        self._ready()
        return self._words.keywords.fields

    def set_keyword_fields(self, fields: Sequence[str], /, *, on_tick: Callable[[], None] | None = None) -> bool:
        """Set which payload fields make up the words of a point, and write the words of all points that have others.

        Vectors stay as they are. If the process is killed meanwhile, keyword search reads payloads until the next call
        or indexing run has completed it. No other process may write to the store meanwhile.

        Returns:
            Whether there was anything to do.

        Raises:
            ConfigurationError: `fields` is no list of names.
            StoreError: It failed; the next call goes on.
        """
        self._ready()
        wanted = KeywordFields.given(fields)
        if self._words.keywords == wanted:
            return False
        self._words.keep(replace(wanted, complete=False))
        self._words.drop_index()
        records = self._walk(None, [*wanted.fields, WORDS])
        while page := list(islice(records, CHUNK)):
            ids_of: dict[str, list[PointId]] = {}
            for record in page:
                words = point_words(record.payload, wanted.fields)
                if record.payload.get(WORDS) != words:
                    ids_of.setdefault(words, []).append(record.id)
            if ids_of:
                self._words.write(ids_of)
            if on_tick is not None:
                on_tick()
        self._words.keep(wanted)
        return True

    def search_text(self, words: str, /, *, limit: int, where: Filter | None = None) -> list[Match]:
        """Find the points that hold some words, by BM25; the first search builds the full-text index.

        Replaced and deleted points count in how rare a word is until the engine optimizes.
        """
        self._ready()
        sought = checked_words(words, limit=limit)

        def ranked(passing: EngineFilter) -> list[Match]:
            def fetch(_: Sequence[int], count: int, with_payload: bool) -> Sequence[Sequence[Hit]]:
                return [self._query_text(sought, count, passing, with_payload)]

            return ranked_pages(fetch, self._payloads_of, queries=1, limit=limit, offset=0, cosines=False)[0]

        return self._by_words(lambda: self._asked(where, ranked), lambda: self._scanned(sought, limit, where))

    def search_hybrid(
        self, vector: FloatArray | None, words: str, /, *, limit: int, where: Filter | None = None
    ) -> tuple[list[tuple[PointId, float]], list[tuple[PointId, float]]]:
        """Find the points nearest to a vector, and those that hold some words: their ids and scores."""
        schema = self._ready()
        sought = checked_words(words, limit=limit)

        def nearest() -> list[tuple[PointId, float]]:
            if vector is None:
                return []
            rows = rows_to_search(vector[np.newaxis], schema, limit=limit, offset=0)

            def ranked(passing: EngineFilter) -> list[tuple[PointId, float]]:
                fetch = self._nearest(rows, passing)
                return ranked_ids(lambda count: fetch([0], count, False)[0], limit=limit, spare=1, cosines=True)

            return self._asked(where, ranked)

        def ranked_matches(passing: EngineFilter) -> list[tuple[PointId, float]]:
            # As many more as are wanted: of short texts, many have the same score.
            return ranked_ids(
                lambda count: self._query_text(sought, count, passing, False),
                limit=limit,
                spare=limit,
                cosines=False,
            )

        def scanned_matches() -> list[tuple[PointId, float]]:
            return [(match.id, match.score) for match in self._scanned(sought, limit, where)]

        def matches() -> list[tuple[PointId, float]]:
            return self._by_words(lambda: self._asked(where, ranked_matches), scanned_matches)

        found = at_once([nearest, matches], name="multimodal-search") if self._is_remote else [nearest(), matches()]
        return found[0], found[1]

    def _by_words(self, ranked: Callable[[], T], scanned: Callable[[], T]) -> T:
        """The answer of the index, or without one, of a scan; asked for again if other fields are set meanwhile."""
        while True:
            keywords = self._words.keywords
            if not self._is_indexed():
                return scanned()
            try:
                return ranked()
            except StoreError:
                if self._words.keywords == keywords:
                    raise

    def _is_indexed(self) -> bool:
        if self._words.keywords.complete:
            return self._words.index()
        if not self._has_told:
            self._has_told = True
            _log.warning("%r: keyword searches read every point until index.optimize() has written their words", self)
        return False

    def _scanned(self, words: str, limit: int, where: Filter | None) -> list[Match]:
        return search_text_by_scanning(self, words, fields=self.get_keyword_fields(), limit=limit, where=where)

    @property
    @abstractmethod
    def _words(self) -> StoredWords:
        """The words of the open store."""

    @abstractmethod
    def _query_text(self, words: str, limit: int, engine_filter: EngineFilter, with_payload: bool) -> Sequence[Hit]:
        """The points that hold some words, by falling score, from the index."""
