"""The stages of a search: a stream of the nearest points, and what is done to it on the way to the user.

    nearest points, page by page  ->  fused with keyword search (RRF)  ->  min_score  ->  without the examples
        ->  near-duplicates collapsed  ->  MMR  ->  grouped  ->  offset and limit

Each stage is lazy and works on this side of the protocol, so every store gives the same. Those that compare hits with
each other work on blocks of 200 hits, wherever a page begins or ends: page after page gives what one long page gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any, TypeAlias

import numpy as np

from multimodal_search._searching.keywords import is_restricted, keyword_matches
from multimodal_search._searching.options import MAX_HITS, SearchOptions
from multimodal_search._searching.pages import answers, checked_pages, search_pages
from multimodal_search._searching.whole import Whole
from multimodal_search.errors import QueryError, StoreRefusedError
from multimodal_search.filters.nodes import Exactly, FieldPath
from multimodal_search.ids import id_order
from multimodal_search.protocols import (
    SupportsHybridSearch,
    SupportsListFilter,
    SupportsVectorsInSearch,
    VectorStore,
)
from multimodal_search.results import SearchHit
from multimodal_search.stores.ranking import ROUNDING
from multimodal_search.types import Filter, FloatArray, Match, Payload, PointId, Record
from multimodal_search.vectors import of_unit_length, products, table_of_products

BLOCK = 200
"""Hits that are compared with each other: by MMR, for near-duplicates, and by the fusion with keyword search (RRF)."""

GROUPED = 5 * BLOCK
"""Hits at a time whose groups are put together, where groups have more than one."""

_RRF = 60
"""Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms Condorcet and individual rank learning methods",
SIGIR 2009: the constant that keeps the first few ranks from deciding alone."""


_MAX_PAGE_LENGTH = 4096
_MAX_EXCLUDED = 1_000  # groups that one filter leaves out

Hits: TypeAlias = Iterator[SearchHit]

Ranking: TypeAlias = Sequence[tuple[PointId, float]]
"""Ids and scores, best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One search in one store.

    Attributes:
        store: Where to search.
        vector: Shape `(dimension,)`, float32; None for keyword search alone.
        options: What is asked for.
        words: The text of keyword search; empty without it.
        without: Ids that are no hits.
        whole: Known once the hits are iterated over.
        duplicate_threshold: The least cosine of near-duplicates, if the options name none.
    """

    store: VectorStore
    vector: FloatArray | None
    options: SearchOptions
    duplicate_threshold: float
    words: str = ""
    without: frozenset[PointId] = frozenset()
    whole: Whole = field(default_factory=Whole, repr=False)
    _vectors: dict[PointId, FloatArray] = field(default_factory=dict, repr=False)

    def hits(self) -> Hits:
        """The hits of the page that the options ask for."""
        options = self.options
        end = options.offset + options.limit
        if options.group_by is None:
            return islice(self._ranked(), options.offset, end)
        return (hit for group in islice(self._groups(options.group_by), options.offset, end) for hit in group)

    def _ranked(self) -> Hits:
        """All hits in their order, before they are grouped."""
        options = self.options
        hits = self._fused() if options.keyword_weight else self._nearest(min_score=options.min_score)
        hits = (hit for hit in hits if hit.id not in self.without)
        if options.deduplicate:
            hits = self._deduplicated(
                hits, self.duplicate_threshold if options.deduplicate is True else float(options.deduplicate)
            )
        if options.diversity:
            hits = self._by_block(hits, self._diverse)
        return hits

    def _nearest(self, *, start: int = 0, min_score: float | None = None, among: Filter | None = None) -> Hits:
        """The points nearest to the vector from some rank on, in pages that grow.

        Args:
            start: The rank.
            min_score: Where they end.
            among: A filter in place of the one in the options.
        """
        # A graph is searched the better the longer the page: what a later one brings up again was met before.
        met: set[PointId] = set()
        offset, size = start, self._first_page
        where = self.options.where if among is None else among
        while self.vector is not None:
            page, is_last = self._page(self.vector, limit=size, offset=offset, where=where)
            for match in page:
                if min_score is not None and match.score < min_score:
                    return
                if match.id not in met:
                    met.add(match.id)
                    hit = hit_of(match)
                    if start == 0 and self.whole.best is None and match.id not in self.without:
                        self.whole.best = hit
                    yield hit
            if is_last:
                return
            offset, size = offset + size, min(2 * size, _MAX_PAGE_LENGTH)

    def _page(
        self, vector: FloatArray, *, limit: int, offset: int, where: Filter | None
    ) -> tuple[Sequence[Match], bool]:
        """A page of the nearest points, and whether it is the last one.

        The first one comes with vectors, if a stage needs them and the store can give them.
        """
        row, store = vector[np.newaxis], self.store
        exact, needs_vectors = self.options.exact, self.options.compares_hits
        if offset or exact or not needs_vectors or not isinstance(store, SupportsVectorsInSearch):
            (page,) = search_pages(store, row, limit=limit, offset=offset, where=where, exact=exact)
            return page, not page  # a short one is not the last: points may have been deleted while it was made
        (page,) = checked_pages(store, store.search_with_vectors(row, limit=limit, where=where), 1)
        self._keep_vectors(page)
        return page, len(page) < limit

    @property
    def _first_page(self) -> int:
        options = self.options
        if options.group_by is not None and options.group_size > 1:
            return GROUPED
        if options.limit == MAX_HITS or not options.is_plain:
            return BLOCK + len(self.without)
        return min(options.offset + options.limit + len(self.without), _MAX_PAGE_LENGTH)

    def _fused(self) -> Hits:
        """Hybrid search: the first block of vector and keyword matches by reciprocal rank fusion (RRF), then the rest.

        Scores are cosines; for keyword search alone, a match's share of the best BM25 score.
        """
        options = self.options
        nearest, matches, payloads = self._rankings()
        self.whole.matches = [point_id for point_id, _ in matches]
        fused: dict[PointId, float] = {}
        _add_ranks(fused, nearest, weight=1 - options.keyword_weight)
        _add_ranks(fused, matches, weight=options.keyword_weight)
        scores = dict(nearest)
        if self.vector is None:
            scores = {point_id: score / (matches[0][1] or 1) for point_id, score in matches}
        order = sorted((point_id for point_id, share in fused.items() if share), key=fused.__getitem__, reverse=True)
        start, size = 0, min(BLOCK, self._end)
        best = next((point_id for point_id, _ in nearest if point_id not in self.without), None)
        while start < len(order):
            end = min(start + size, len(order))
            while end < len(order) and fused[order[end]] == fused[order[end - 1]]:
                end += 1
            block = order[start:end]
            self._read(block if best is None or best in block else [*block, best], payloads, scores)
            if best is not None and best in payloads:
                self.whole.best = SearchHit(id=best, score=scores[best], payload=payloads[best])
            best = None
            there = [point_id for point_id in block if point_id in payloads and point_id in scores]
            for point_id in sorted(there, key=lambda each: (-fused[each], -scores[each], *id_order(each))):
                if options.min_score is None or scores[point_id] >= options.min_score:
                    yield SearchHit(id=point_id, score=scores[point_id], payload=payloads[point_id])
            start, size = end, BLOCK
        if options.keyword_weight < 1:
            rest = self._nearest(start=len(nearest), min_score=options.min_score)
            yield from (hit for hit in rest if hit.id not in fused)

    def _rankings(self) -> tuple[Ranking, Ranking, dict[PointId, Payload]]:
        """The first block of the nearest points and of keyword matches, and their payloads as far as they are known."""
        options, store, fields = self.options, self.store, self.options.keyword_fields
        if isinstance(store, SupportsHybridSearch) and not options.exact and not is_restricted(store, fields):
            return (*store.search_hybrid(self.vector, self.words, limit=self._most_matches, where=options.where), {})

        # Without regard to `min_score`, which would change the ranks of others.
        def nearest_hits() -> list[SearchHit]:
            return list(islice(self._nearest(), BLOCK))

        def matches_found() -> list[Match]:
            return keyword_matches(store, self.words, fields, limit=self._most_matches, where=options.where)

        calls: list[Callable[[], Any]] = [nearest_hits, matches_found]
        nearest, matches = answers(store, calls)
        payloads = {found.id: found.payload for found in [*nearest, *matches]}
        return [(hit.id, hit.score) for hit in nearest], [(match.id, match.score) for match in matches], payloads

    @property
    def _most_matches(self) -> int:
        """How many keyword matches are asked for: of keyword search alone, as many as may become hits."""
        if self.vector is not None or self._end <= BLOCK:
            return BLOCK
        return max(BLOCK, min(self._end, self.store.count()))

    @property
    def _end(self) -> int:
        """How many of the points found may become hits: all, where hits are compared or grouped."""
        options = self.options
        if options.compares_hits or options.group_by is not None:
            return MAX_HITS
        return options.offset + options.limit + len(self.without)

    def _read(self, ids: Sequence[PointId], payloads: dict[PointId, Payload], scores: dict[PointId, float]) -> None:
        """Add the payloads and scores of points that have none yet; of those that are there."""
        unscored = [point_id for point_id in ids if point_id not in scores]
        bare = [point_id for point_id in ids if point_id not in payloads and point_id in scores]
        if bare and (self.options.compares_hits or (unscored and isinstance(self.store, SupportsVectorsInSearch))):
            unscored, bare = unscored + bare, []  # one request instead of two
        for some in (unscored, bare):
            records = self.store.get(some, with_vectors=some is unscored) if some else []
            self._keep_vectors(records)
            payloads |= {record.id: record.payload for record in records if record is not None}
        if self.vector is not None:
            known = [point_id for point_id in unscored if point_id in self._vectors and point_id not in scores]
            scores |= self._scores(self.vector, known)

    def _scores(self, vector: FloatArray, ids: Sequence[PointId]) -> dict[PointId, float]:
        """The cosines of points that only keyword search has found."""
        query = of_unit_length(vector[np.newaxis])[0].astype(np.float64)
        rows = self._unit_vectors(ids)
        return {point_id: float(np.float32(row.astype(np.float64) @ query)) for point_id, row in rows.items()}

    def _by_block(self, hits: Hits, ordered: Callable[[Sequence[SearchHit], FloatArray], Iterable[SearchHit]]) -> Hits:
        while block := list(islice(hits, BLOCK)):
            rows = self._unit_vectors([hit.id for hit in block])
            block = [hit for hit in block if hit.id in rows]  # less what was deleted in between
            if block:
                yield from ordered(block, np.stack([rows[hit.id] for hit in block]))

    def _diverse(self, block: Sequence[SearchHit], rows: FloatArray) -> list[SearchHit]:
        """Re-rank by maximal marginal relevance (MMR).

        Carbonell and Goldstein, "The use of MMR, diversity-based reranking for reordering documents and producing
        summaries", SIGIR 1998, with lambda = 1 - diversity: of what is left, each time the hit whose score, less its
        greatest similarity to those already taken, is the greatest.
        """
        diversity = float(self.options.diversity)
        wide = rows.astype(np.float64)
        scores = (1 - diversity) * _strengths(block)
        closest = np.zeros(len(block))
        is_left = np.ones(len(block), bool)
        order: list[int] = []
        for _ in block:
            gains = np.where(is_left, np.round(scores - diversity * closest, 6), -np.inf)  # rounded: ties are ties
            best = int(gains.argmax())
            is_left[best] = False
            similarity = products(wide, wide[best])
            closest = similarity if not order else np.maximum(closest, similarity)
            order.append(best)
        return [block[at] for at in order]

    def _deduplicated(self, hits: Hits, threshold: float) -> Hits:
        """Collapse near-duplicates: move each into the better hit's `duplicates`; drop those of later blocks."""
        earlier: list[FloatArray] = []
        threshold -= ROUNDING

        def deduplicate(block: Sequence[SearchHit], rows: FloatArray) -> list[SearchHit]:
            kept: list[int] = []
            behind: dict[int, list[SearchHit]] = {}
            is_near = table_of_products(rows, rows) >= threshold
            for number, hit in enumerate(block):
                if any(products(each, rows[number]).max() >= threshold for each in earlier):
                    continue
                best = next((at for at in kept if is_near[at, number]), None)
                if best is None:
                    kept.append(number)
                else:
                    behind.setdefault(best, []).append(hit)
            if kept:
                earlier.append(rows[kept])
            return [replace(block[at], duplicates=tuple(behind.get(at, ()))) for at in kept]

        return self._by_block(hits, deduplicate)

    def _groups(self, field_name: str) -> Iterator[Sequence[SearchHit]]:
        """Groups in the order of their best hits; what has no such field is a group of its own.

        Other members than the best hit are looked for among so many hits that a page's end plays no part.
        """
        path = FieldPath.parse(field_name)
        met: set[tuple[type, object]] = set()
        hits = self._of_new_groups(path, met)
        while some := list(islice(hits, 1 if self.options.group_size == 1 else GROUPED)):
            groups: dict[tuple[type, object], list[SearchHit]] = {}
            for hit in some:
                values = _scalars(path, hit.payload)
                if not values:
                    groups[type(hit), hit.id] = [hit]
                for value in values:
                    members = groups.setdefault((type(value), value), [])
                    if len(members) < self.options.group_size:
                        members.append(replace(hit, group=value))
            yield from (members for key, members in groups.items() if key not in met)
            met.update(groups)

    def _of_new_groups(self, path: FieldPath, met: Set[tuple[type, object]]) -> Hits:
        """All hits in their order, perhaps without some whose groups were all met before.

        After a block of hits, a store that can is asked only for points of other groups: a few groups of many points
        would take a walk through all of them.

        Args:
            path: The field to group by.
            met: The groups of the hits that were taken, by the time the next one is.
        """
        options, store = self.options, self.store
        others = replace(options, group_by=None, group_size=1)
        hits, excluded = self._ranked(), 0
        if not (others.is_plain and options.group_size == 1 and isinstance(store, SupportsListFilter)):
            yield from hits
            return
        key = path.steps[0]
        field_name = f'"{key}"'
        can_exclude = len(path.steps) == 1 and key is not None and '"' not in key and "\\" not in key
        while True:
            count = 0
            for hit in islice(hits, BLOCK):
                count += 1
                yield hit
            if count < BLOCK:
                return
            texts = [value for kind, value in met if kind is str]
            can_exclude = can_exclude and len(texts) == len(met) <= _MAX_EXCLUDED
            if not can_exclude or len(texts) == excluded:
                continue
            excluded = len(texts)
            is_other = {"or": [{"not": {field_name: {"in": list(map(Exactly, texts))}}}, store.is_list(field_name)]}
            where = is_other if options.where is None else {"and": [options.where, is_other]}
            following = self._nearest(min_score=options.min_score, among=where)
            try:
                first = next(following, None)
            except (QueryError, StoreRefusedError):  # too many conditions for this store: all hits are walked through
                can_exclude = False
                continue
            if first is None:
                return
            hits = (hit for hit in chain([first], following) if hit.id not in self.without)

    def _unit_vectors(self, ids: Sequence[PointId]) -> Mapping[PointId, FloatArray]:
        """The vectors of ids at unit length; each is read once."""
        if len(self._vectors) > 4 * BLOCK:
            self._vectors.clear()
        unknown = [point_id for point_id in ids if point_id not in self._vectors]
        self._keep_vectors(self.store.get(unknown, with_vectors=True) if unknown else ())
        return {point_id: self._vectors[point_id] for point_id in ids if point_id in self._vectors}

    def _keep_vectors(self, points: Sequence[Record | Match | None]) -> None:
        found = {point.id: point.vector for point in points if point is not None and point.vector is not None}
        if found:
            self._vectors.update(zip(found, of_unit_length(np.stack(list(found.values()))), strict=True))


def hit_of(match: Match) -> SearchHit:
    """Convert a store's match to a `SearchHit`."""
    return SearchHit(id=match.id, score=match.score, payload=match.payload)


def _strengths(block: Sequence[SearchHit]) -> Any:
    """How much each hit of a block counts when it is weighted against something else.

    These are the scores, in falling order: a stage that has put the hits in another order is to be heeded.
    """
    return -np.sort([-hit.score for hit in block])


def _add_ranks(fused: dict[PointId, float], ranking: Ranking, *, weight: float) -> None:
    for rank, (point_id, _) in enumerate(ranking, start=1):
        fused[point_id] = fused.get(point_id, 0) + weight / (_RRF + rank)


def _scalars(path: FieldPath, payload: Payload) -> list[Any]:
    """The values of a field that hits can be grouped by; of a list, each."""
    found = [inner for value in path.find(payload) for inner in (value if isinstance(value, list) else [value])]
    return [value for value in found if isinstance(value, (str, int, float, bool))]
