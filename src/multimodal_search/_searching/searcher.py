"""Search: encode queries, find and rank hits, and add their relevance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias
from uuid import UUID

import numpy as np

from multimodal_search._bounds import MAX_PARTS, at_most
from multimodal_search._relevance.calibrator import Calibrator
from multimodal_search._relevance.reference_bank import QueryKind
from multimodal_search._relevance.thresholds import DEFAULT_THRESHOLDS, Thresholds, verdict_on
from multimodal_search._searching.encoder import Encoded, QueryEncoder
from multimodal_search._searching.keywords import holds_all
from multimodal_search._searching.languages import LanguageWatch
from multimodal_search._searching.options import SearchOptions
from multimodal_search._searching.pages import answers, search_pages
from multimodal_search._searching.stages import Hits, Search, hit_of
from multimodal_search._searching.whole import Whole
from multimodal_search.contents import QueryPart, Sum, weighted_parts
from multimodal_search.embedders.late import LateEmbedder
from multimodal_search.errors import QueryError
from multimodal_search.protocols import VectorStore
from multimodal_search.query import Query, Stored, described, query_text
from multimodal_search.results import SearchHit, SearchResults
from multimodal_search.types import FloatArray, Match, PointId

Example: TypeAlias = "PointId | UUID | QueryPart"
"""What `similar` takes as an example: a stored point by its id, or a part of a query, such as `Image("a.jpg")`."""


class Searcher:
    """Searches one store with queries of any kind.

    Args:
        embedder: Knows its languages and the least cosine of near-duplicates.
        store: Where to search.
        encoder: Turns queries into vectors.
        calibrator: Knows the relevance of scores there.
        thresholds: Of verdicts, by the kind of query, where a search names none.
    """

    def __init__(
        self,
        embedder: LateEmbedder,
        store: VectorStore,
        encoder: QueryEncoder,
        calibrator: Calibrator,
        thresholds: Mapping[QueryKind, Thresholds] = DEFAULT_THRESHOLDS,
    ) -> None:
        self._embedder = embedder
        self._store = store
        self._encoder = encoder
        self._calibrator = calibrator
        self._thresholds = thresholds
        self._languages: LanguageWatch | None = None

    def search(self, queries: Sequence[Query], options: SearchOptions) -> list[SearchResults]:
        """Results for each query, in their order.

        Raises:
            QueryError: A query or an option makes no sense for this store.
        """
        if not queries:
            return []
        if options.is_plain:
            encoded = self._encode(queries)
            kinds = encoded.kinds
            pages, wholes = self._plain(encoded, options)
        else:
            kinds, searches = self._searches(queries, options)
            pages, wholes = [list(search.hits()) for search in searches], [search.whole for search in searches]
        return [
            self._results(query, kind, hits, options, whole)
            for query, kind, hits, whole in zip(queries, kinds, pages, wholes, strict=True)
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
        search = replace(searches[0], without=without)
        return self._results(query, kinds[0], list(search.hits()), options, search.whole)

    def _encode(self, queries: Sequence[Query]) -> Encoded:
        encoded = self._encoder.encode(queries)
        for text in encoded.new_texts:
            if self._languages is None:
                self._languages = LanguageWatch(self._embedder.ready().spec)
            self._languages.check(text)
        return encoded

    def _results(
        self, query: Query, kind: QueryKind | None, hits: list[SearchHit], options: SearchOptions, whole: Whole
    ) -> SearchResults:
        if options.by_keywords_alone:
            unknown = "it is known for vector search, and these hits come from keyword search alone"
        else:
            unknown = self._calibrator.why_unknown(kind)
        if unknown or kind is None:  # for type checkers
            return SearchResults(hits, described(query), relevance_unknown=unknown)
        hits = list(self._with_relevance(kind, hits))
        thresholds = options.thresholds or self._thresholds[kind]
        best = next(iter(self._with_relevance(kind, [] if whole.best is None else [whole.best])), None)
        if best is None or (options.min_score is not None and best.score < options.min_score and not hits):
            return SearchResults(hits, described(query), verdict="nothing", thresholds=thresholds)
        if best.relevance is None:
            unknown = self._calibrator.why_unknown_of(best.modality)
            return SearchResults(hits, described(query), relevance_unknown=unknown)
        verdict = verdict_on(best.relevance, thresholds)
        if verdict == "nothing" and kind != "image":
            matches = self._store.get(whole.matches) if whole.matches else []
            shown = [each for hit in hits for each in (hit, *hit.duplicates)]
            payloads = [found.payload for found in [*shown, *matches] if found is not None]
            if any(holds_all(self._store, query_text(query), each, options.keyword_fields) for each in payloads):
                verdict = "unsure"
        return SearchResults(hits, described(query), verdict=verdict, thresholds=thresholds)

    def _plain(self, encoded: Encoded, options: SearchOptions) -> tuple[list[list[SearchHit]], list[Whole]]:
        """A page of hits of each query, and the best one, which stands on the first page."""
        vectors, where, exact = encoded.vectors, options.where, options.exact

        def pages(limit: int, offset: int) -> Sequence[Sequence[Match]]:
            return search_pages(self._store, vectors, limit=limit, offset=offset, where=where, exact=exact)

        calls: list[Callable[[], Sequence[Sequence[Match]]]] = [lambda: pages(options.limit, options.offset)]
        if options.offset and any(encoded.kinds):
            calls.append(lambda: pages(1, 0))
        found, *first = answers(self._store, calls)
        if options.min_score is not None:
            least = options.min_score
            found = [[match for match in page if match.score >= least] for page in found]
        hits = [list(map(hit_of, page)) for page in found]
        firsts = [list(map(hit_of, page)) for page in first[0]] if first else hits
        return hits, [Whole(page[0] if page else None) for page in firsts]

    def _searches(
        self, queries: Sequence[Query], options: SearchOptions
    ) -> tuple[Sequence[QueryKind | None], list[Search]]:
        """The kind and the search of each query; invalid options are refused before anything is embedded."""
        words = [self._query_text(query, options) for query in queries]
        kinds: Sequence[QueryKind | None] = [None] * len(queries)
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
            )
            for vector, each in zip(vectors, words, strict=True)
        ]

    def _query_text(self, query: Query, options: SearchOptions) -> str:
        words = query_text(query) if options.keyword_weight else ""
        if options.keyword_weight and not words.strip():
            raise QueryError(
                "keyword_weight needs a text in the query, and this one has none, or only with a negative weight"
            )
        return words

    def _with_relevance(self, kind: QueryKind | None, hits: Iterable[SearchHit]) -> Iterable[SearchHit]:
        if kind is None or (calibration := self._calibrator.calibration) is None:
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
