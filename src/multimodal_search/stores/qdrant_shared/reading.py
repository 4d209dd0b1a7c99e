"""Reading from Qdrant's engine: what the server's and the in-process engine's stores do alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

import numpy as np

from multimodal_search.ids import as_point_id
from multimodal_search.protocols import VectorStore
from multimodal_search.report import TuningReport
from multimodal_search.stores.arguments import checked_fields, checked_ids, rows_to_search
from multimodal_search.stores.keywords import WORDS
from multimodal_search.stores.qdrant_shared.filters import payload_selector, pick
from multimodal_search.stores.ranking import Hit, point_id, ranked_pages
from multimodal_search.stores.tuning import EXACT, Aim
from multimodal_search.types import Filter, FloatArray, Match, PointId, Record, StoreSchema

CHUNK = 1_000
"""Points that one request reads or deletes."""

FetchPage: TypeAlias = Callable[[Sequence[int], int, int], Sequence[Sequence[Hit]]]
"""As `ranked_pages` calls it: numbers of queries, an offset, and a limit."""

T = TypeVar("T")

Fetch: TypeAlias = Callable[[Sequence[int], int, bool], Sequence[Sequence[Hit]]]
"""As `ranked_pages` calls it: numbers of queries, a limit, and whether payloads are wanted."""


@dataclass(frozen=True, slots=True)
class EngineFilter:
    """A filter as one of Qdrant's SDKs spells it.

    Attributes:
        condition: The SDK's filter object; None lets every point pass.
        ids: How many ids it lists.
        shard_keys: The keys of all shards that can hold points that pass, where a collection has such keys; None for
            all shards.
        candidates: How many candidates a search keeps: `tuning.EXACT` to compare every point that passes, None for as
            many as the store is tuned to.
        offset: How many hits come before the page that is asked for.
    """

    condition: Any = None
    ids: int = 0
    shard_keys: tuple[str | int, ...] | None = None
    candidates: int | None = None
    offset: int = 0


class QdrantReading(VectorStore, ABC):
    """The reading half of a store on Qdrant's engine, over the calls that each SDK makes in its own way."""

    def search(
        self, vectors: FloatArray, /, *, limit: int, offset: int = 0, where: Filter | None = None
    ) -> list[list[Match]]:
        """Find the points nearest to each vector: exactly, or with the HNSW graph where there is one."""
        return self._pages(vectors, limit=limit, offset=offset, where=where)

    def search_exactly(
        self, vectors: FloatArray, /, *, limit: int, offset: int = 0, where: Filter | None = None
    ) -> list[list[Match]]:
        """Find the points nearest to each vector, comparing every point that passes."""
        return self._pages(vectors, limit=limit, offset=offset, where=where, candidates=EXACT)

    def tune(
        self,
        queries: Mapping[str, FloatArray],
        target: float | None = None,
        *,
        on_tick: Callable[[], None] | None = None,
    ) -> TuningReport:
        """Measure recall@10 against exact search, and keep the smallest `hnsw_ef` that reaches the target.

        With neither `target` nor the setting `recall_target`, that is .99 with at most 384 candidates, so that a search
        takes some twice as long as with the engine's own number; else the target, with at most 2,048.

        Raises:
            ConfigurationError: `target` is no number above 0 and up to 1.
        """
        self._ready()
        aim = Aim.of(self._recall_target if target is None else target)
        report = self._tuned(queries, aim, on_tick or (lambda: None))
        self._keep_tuning(report)
        return report

    def _scores(self, vectors: FloatArray, candidates: int) -> list[list[float]]:
        """The scores of the ten nearest points of each query, searched for with so many candidates."""
        pages = self._pages(vectors, limit=10, offset=0, where=None, candidates=candidates)
        return [[match.score for match in page] for page in pages]

    def _pages(
        self,
        vectors: FloatArray,
        *,
        limit: int,
        offset: int,
        where: Filter | None,
        with_vectors: bool = False,
        candidates: int | None = None,
    ) -> list[list[Match]]:
        queries = rows_to_search(vectors, self._ready(), limit=limit, offset=offset)

        def ranked(engine_filter: EngineFilter) -> list[list[Match]]:
            if candidates is not None or offset:
                engine_filter = replace(engine_filter, candidates=candidates, offset=int(offset))
            return ranked_pages(
                self._nearest(queries, engine_filter),
                self._payloads_of,
                queries=len(queries),
                limit=limit,
                offset=offset,
                fetch_page=self._paged(queries, engine_filter, with_vectors) if offset or with_vectors else None,
            )

        return self._asked(where, ranked)

    def get(self, ids: Sequence[PointId], /, *, with_vectors: bool = False) -> list[Record | None]:
        """Get the records of ids, in their order; None for an id that is not stored."""
        self._ready()
        wanted = checked_ids(ids)
        found: dict[PointId, Record] = {}
        for start in range(0, len(wanted), CHUNK):
            for point in self._retrieve(wanted[start : start + CHUNK], with_vectors):
                key = point_id(point)
                vector = self._vector_of(point) if with_vectors else None
                found[key] = Record(key, point.payload or {}, vector=vector)
        return [found.get(each) for each in wanted]

    def scan(self, *, where: Filter | None = None, fields: Sequence[str] | None = None) -> Iterator[Record]:
        """Iterate over all records that pass, in the order of ids; `fields` are top-level names of the payload."""
        self._ready()
        names, engine_filter = checked_fields(fields), self._translate(where)
        if names is not None:
            names = [name for name in names if name != WORDS]
        # All of the ids that a filter lists are sent, and looked at, with every page: the more, the fewer pages.
        return self._walk(engine_filter.condition, names, page=max(CHUNK, engine_filter.ids // 10))

    def _walk(self, condition: Any, fields: Sequence[str] | None, *, page: int = CHUNK) -> Iterator[Record]:
        selector = payload_selector(fields)
        position, more = None, True
        while more:
            points, position = self._scroll(condition, position, page, selector)
            more = position is not None
            for point in points:
                yield Record(point_id(point), pick(point.payload, fields))

    def _payloads_of(self, ids: Sequence[PointId]) -> dict[PointId, dict[str, Any]]:
        return {record.id: dict(record.payload) for record in self.get(ids) if record is not None}

    def _vector_of(self, point: Any) -> FloatArray:
        return np.asarray(point.vector, np.float32)

    def _asked(self, where: Filter | None, call: Callable[[EngineFilter], T]) -> T:
        """The answer to a call with the engine's own filter."""
        return call(self._translate(where))

    _recall_target: float | None

    @abstractmethod
    def _tuned(self, queries: Mapping[str, FloatArray], aim: Aim, on_tick: Callable[[], None]) -> TuningReport:
        """What tuning finds."""

    @abstractmethod
    def _keep_tuning(self, report: TuningReport) -> None:
        """Search as a report says from now on, also after opening again."""

    @abstractmethod
    def _ready(self) -> StoreSchema:
        """The schema of the open store.

        Raises:
            StoreClosedError: It is closed.
            StoreError: `ensure` was not called yet.
        """

    @abstractmethod
    def _translate(self, where: Filter | None) -> EngineFilter:
        """The engine's own filter."""

    @abstractmethod
    def _nearest(self, queries: Sequence[list[float]], engine_filter: EngineFilter) -> Fetch:
        """What fetches the nearest points of each query, by falling score; payloads less `WORDS`."""

    def _paged(
        self, queries: Sequence[list[float]], engine_filter: EngineFilter, with_vectors: bool
    ) -> FetchPage | None:
        """What fetches a page of them, with payloads; None where pages are no cheaper than ids and then payloads."""
        return None

    @abstractmethod
    def _retrieve(self, ids: Sequence[PointId], with_vectors: bool) -> Sequence[Any]:
        """The points of at most `CHUNK` ids, in any order, with payloads, less `WORDS`."""

    @abstractmethod
    def _scroll(
        self, condition: Any, position: Any, limit: int, selector: bool | list[str]
    ) -> tuple[Sequence[Any], Any]:
        """A page of points in the order of ids, and the position of the next one; None if it is the last.

        A selector of True is all of the payload but `WORDS`.
        """


def last_of_each(records: Sequence[Record]) -> dict[PointId, int]:
    """The numbers of the records to store, by id: of those with the same id, the last one."""
    return {as_point_id(record.id): number for number, record in enumerate(records)}
