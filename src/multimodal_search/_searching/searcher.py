"""Search: encode queries, find and rank hits, and add their relevance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias
from uuid import UUID

import numpy as np

from multimodal_search._bounds import MAX_PARTS, at_most
from multimodal_search._relevance.calibrator import Calibrator
from multimodal_search._searching.encoder import Encoded, QueryEncoder
from multimodal_search._searching.hubs import hub_penalty
from multimodal_search._searching.languages import LanguageWatch
from multimodal_search._searching.options import SearchOptions
from multimodal_search._searching.stages import Hits, Search, hit_of, search_pages
from multimodal_search.contents import Modality, QueryPart, Sum, weighted_parts
from multimodal_search.embedders.late import LateEmbedder
from multimodal_search.errors import QueryError
from multimodal_search.protocols import SupportsTextSearch, VectorStore
from multimodal_search.query import Query, Stored, described, query_text
from multimodal_search.results import SearchHit, SearchResults
from multimodal_search.types import FloatArray, PointId

Example: TypeAlias = "PointId | UUID | QueryPart"
"""What `similar` takes as an example: a stored point by its id, or a part of a query, such as `Image("a.jpg")`."""


class Searcher:
    """Searches one store with queries of any kind.

    Args:
        embedder: Knows its languages and the least cosine of near-duplicates.
        store: Where to search.
        encoder: Turns queries into vectors.
        calibrator: Knows the relevance of scores there.
    """

    def __init__(
        self, embedder: LateEmbedder, store: VectorStore, encoder: QueryEncoder, calibrator: Calibrator
    ) -> None:
        self._embedder = embedder
        self._store = store
        self._encoder = encoder
        self._calibrator = calibrator
        self._languages: LanguageWatch | None = None

    def search(self, queries: Sequence[Query], options: SearchOptions) -> list[SearchResults]:
        """Results for each query, in their order.

        Raises:
            QueryError: A query or an option makes no sense for this store.
        """
        if not queries:
            return []
        found: Iterable[Iterable[SearchHit]]
        if options.is_plain:
            encoded = self._encode(queries)
            kinds, found = encoded.kinds, self._plain(encoded.vectors, options)
        else:
            kinds, searches = self._searches(queries, options)
            found = [search.hits() for search in searches]
        return [
            self._results(query, kind, hits, options) for query, kind, hits in zip(queries, kinds, found, strict=True)
        ]

    def iterate(self, query: Query, options: SearchOptions) -> Hits:
        """All hits of a query, lazily."""
        kinds, searches = self._searches([query], options)
        return iter(self._with_relevance(kinds[0], searches[0].hits()))

    def similar(
        self, like: Example | Sequence[Example], unlike: Example | Sequence[Example], options: SearchOptions
    ) -> SearchResults:
        """Find points similar to some examples and not to others; the examples themselves are left out.

        Raises:
            QueryError: There is no example, or one is not stored.
        """
        wanted, unwanted = _parts(like), _parts(unlike)
        if not wanted and not unwanted:
            raise QueryError("similar needs an example: the id of a stored point, or several")
        query = _contrast(wanted, unwanted)
        parts = [part for _, part in weighted_parts(query)]
        without = frozenset(part.id for part in parts if isinstance(part, Stored))
        kinds, searches = self._searches([query], options)
        return self._results(query, kinds[0], replace(searches[0], without=without).hits(), options)

    def _encode(self, queries: Sequence[Query]) -> Encoded:
        encoded = self._encoder.encode(queries)
        for text in encoded.new_texts:
            if self._languages is None:
                self._languages = LanguageWatch(self._embedder.ready().spec)
            self._languages.check(text)
        return encoded

    def _results(
        self, query: Query, kind: Modality | None, hits: Iterable[SearchHit], options: SearchOptions
    ) -> SearchResults:
        if options.by_keywords_alone:
            unknown = "it is known for vector search, and these hits come from keyword search alone"
        else:
            unknown = self._calibrator.why_unknown(kind)
        if not unknown:
            hits = self._with_relevance(kind, hits)
        return SearchResults(hits, described(query), relevance_unknown=unknown)

    def _plain(self, vectors: FloatArray, options: SearchOptions) -> list[list[SearchHit]]:
        limit, offset, where = options.limit, options.offset, options.where
        pages = search_pages(self._store, vectors, limit=limit, offset=offset, where=where, exact=options.exact)
        if options.min_score is not None:
            least = options.min_score
            pages = [[match for match in page if match.score >= least] for page in pages]
        return [list(map(hit_of, page)) for page in pages]

    def _searches(
        self, queries: Sequence[Query], options: SearchOptions
    ) -> tuple[Sequence[Modality | None], list[Search]]:
        """The kind and the search of each query; invalid options are refused before anything is embedded."""
        words = [self._query_text(query, options) for query in queries]
        penalty = self._hub_penalty() if options.hub_correction else None
        kinds: Sequence[Modality | None] = [None] * len(queries)
        vectors: Iterable[FloatArray | None] = [None] * len(queries)
        if not options.by_keywords_alone:
            encoded = self._encode(queries)
            kinds, vectors = encoded.kinds, encoded.vectors
        duplicate_threshold = self._embedder.schema.duplicate_threshold if options.deduplicate is True else 0.0
        return kinds, [
            Search(
                store=self._store,
                vector=vector,
                options=options,
                duplicate_threshold=duplicate_threshold,
                words=each,
                hub_penalty=penalty,
            )
            for vector, each in zip(vectors, words, strict=True)
        ]

    def _query_text(self, query: Query, options: SearchOptions) -> str:
        words = query_text(query) if options.keyword_weight else ""
        if options.keyword_weight and not isinstance(self._store, SupportsTextSearch):
            raise QueryError(
                f"keyword_weight needs a store with keyword search (SupportsTextSearch); {self._store!r} has none"
            )
        if options.keyword_weight and not words.strip():
            raise QueryError(
                "keyword_weight needs a text in the query, and this one has none, or only with a negative weight"
            )
        return words

    def _hub_penalty(self) -> Callable[[FloatArray], FloatArray]:
        bank = self._calibrator.bank
        if bank is None or bank.origin != "own" or not len(bank.text):
            raise QueryError(
                "hub_correction needs texts like those that are really asked, some 100 captions for example: "
                "index.calibrate(reference_queries=[...])"
            )
        return partial(hub_penalty, bank=bank.text)

    def _with_relevance(self, kind: Modality | None, hits: Iterable[SearchHit]) -> Iterable[SearchHit]:
        calibration = self._calibrator.calibration if kind in ("text", "image") else None
        if calibration is None or kind is None or kind == "mixed":
            return hits
        return (
            replace(
                hit,
                relevance=calibration.relevance(kind, hit.modality, hit.score),
                duplicates=tuple(self._with_relevance(kind, hit.duplicates)),
            )
            for hit in hits
        )


def _parts(given: Example | Sequence[Example]) -> list[QueryPart]:
    """One example or several, as parts of a query."""
    several = isinstance(given, Iterable) and not isinstance(given, (str, bytes, Mapping, np.ndarray, QueryPart))
    examples: list[QueryPart] = []
    wanted: Iterable[object] = given if several else [given]  # type: ignore[assignment]  # several are iterable
    for each in at_most(wanted, MAX_PARTS, named="similar", of="examples"):
        if isinstance(each, np.integer):
            each = int(each)  # noqa: PLW2901 (the same)
        if not isinstance(each, (str, int, UUID, QueryPart)):
            raise QueryError(
                f"similar takes ids of stored points, and parts of a query such as Image(...), Text(...) and "
                f"Vector(...), not {type(each).__name__}"
            )
        examples.append(each if isinstance(each, QueryPart) else Stored(each))
    return examples


def _contrast(like: Sequence[QueryPart], unlike: Sequence[QueryPart]) -> QueryPart:
    """2 * average(like) - average(unlike); where only one side is given, that average alone."""
    factor = 2 if like and unlike else 1
    terms = [term if factor == len(like) else term * (factor / len(like)) for term in like]
    terms += [-term if len(unlike) == 1 else term * (-1 / len(unlike)) for term in unlike]
    return terms[0] if len(terms) == 1 else Sum(tuple(terms))
