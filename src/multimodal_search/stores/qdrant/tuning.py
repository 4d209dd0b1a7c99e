"""The tuning of a collection: kept in its metadata, and what it says of searches and of its graph."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from multimodal_search.errors import QueryError
from multimodal_search.report import TuningReport
from multimodal_search.stores.qdrant.client import Connection
from multimodal_search.stores.qdrant.collection import OpenedCollection
from multimodal_search.stores.qdrant.index_creation import CollectionIndexes
from multimodal_search.stores.qdrant.info import collection_info, wait_until_built
from multimodal_search.stores.qdrant.notes import get_index_metadata, kept_metadata, set_index_metadata
from multimodal_search.stores.qdrant.settings import CollectionSettings
from multimodal_search.stores.qdrant_shared.reading import EngineFilter
from multimodal_search.stores.tuning import (
    EXACT,
    TUNING_NOTE,
    Aim,
    Ask,
    candidates_for,
    is_stale,
    read_report,
    tuned,
)
from multimodal_search.types import FloatArray

if TYPE_CHECKING:
    from qdrant_client import models

TUNE_FROM = 10_000
"""Points from which on tuning pays: fewer are searched without a graph, or as good as exactly with it."""

_UNMEASURED = 256
"""The candidates of searches where no exact search is allowed to measure with, or no graph is there to be measured."""

_MAX_M, _USUAL_MAX_M = 64, 32  # with a recall_target, and without


class CollectionTuning:
    """How one collection is searched.

    Args:
        connection: How to reach it.
        settings: What the store is set to; its own `hnsw_ef` counts before any that was tuned.
        indexes: The collection's strict mode, and number of points.
    """

    def __init__(self, connection: Connection, settings: CollectionSettings, indexes: CollectionIndexes) -> None:
        self._connection = connection
        self._indexes = indexes
        self._settings = settings
        self.report: TuningReport | None = None

    def learn(self, opened: OpenedCollection) -> None:
        """Take over what is kept with a collection that was opened."""
        text = kept_metadata(self._connection, opened, TUNING_NOTE)
        if text is None and opened.has_companion:
            text = get_index_metadata(self._connection, opened, TUNING_NOTE)
        self.report = read_report(text)

    def keep(self, opened: OpenedCollection | None, report: TuningReport) -> None:
        """Keep a report with the collection, and search as it says."""
        set_index_metadata(self._connection, opened, TUNING_NOTE, json.dumps(report.to_dict()))
        self.report = report

    def search_params(self, engine_filter: EngineFilter, hits: int) -> models.SearchParams | None:
        """The parameters of searches for so many hits, those before their pages included; None if there are none.

        Raises:
            QueryError: They are to be exact, and the collection's strict mode forbids that.
        """
        strict, keep = self._indexes.strict, engine_filter.candidates
        if keep == EXACT and not strict.allows_exact:
            raise QueryError(
                f"exact searches of {self._connection} are forbidden by the collection's strict mode "
                "(`search_allow_exact`): search without exact=True"
            )
        if keep is None:
            keep = self._settings.hnsw_ef
        if keep is None:
            points = self._indexes.points if strict.allows_exact else None
            keep = candidates_for(self.report, hits, offset=engine_filter.offset, points=points)
        most_ef, most_oversampling = strict.search_max_hnsw_ef, strict.search_max_oversampling
        return self._settings.search_params(engine_filter.condition is not None, keep, most_ef, most_oversampling)

    def is_due(self) -> bool:
        """Whether a graph that the server has built is of unknown recall; asks the server only if that may be."""
        if self._connection.is_local or not self._is_stale():
            return False
        from qdrant_client import models

        info = self._info()
        self._indexes.learn(info)
        is_built = info.status == models.CollectionStatus.GREEN and bool(info.indexed_vectors_count)
        return is_built and self._is_stale()

    def _is_stale(self) -> bool:
        """Whether there are enough points for a graph, and none was measured with about as many."""
        points, report = self._indexes.points, self.report
        return points >= TUNE_FROM and (report is None or report.hnsw_m is None or is_stale(report, points))

    def tuned(self, ask: Ask, queries: Mapping[str, FloatArray], aim: Aim, on_tick: Callable[[], None]) -> TuningReport:
        """What tuning finds, once the server has built its graph."""
        if self._connection.is_local:
            points = self._info().points_count or 0
            return TuningReport(target=aim.target, points=points, exact=True)
        info = wait_until_built(self._connection, on_tick)
        self._indexes.learn(info)
        points, strict = info.points_count or 0, self._indexes.strict
        m: int | None = info.config.hnsw_config.m
        own = self._settings.hnsw_ef
        most = strict.search_max_hnsw_ef
        if not strict.allows_exact:
            reason = "the collection's strict mode forbids exact searches (`search_allow_exact`) to compare with"
            keep = min(own or _UNMEASURED, most or _UNMEASURED)
            return TuningReport(target=aim.target, points=points, hnsw_ef=keep, hnsw_m=m, reason=reason)
        if not info.indexed_vectors_count:
            if points < TUNE_FROM:
                return TuningReport(target=aim.target, points=points, exact=True)
            m, aim = None, replace(aim, candidates=[_UNMEASURED])  # which a graph that is built later is searched with
        if own is not None:
            aim = replace(aim, candidates=[own])
        elif most is not None:
            aim = replace(aim, candidates=[each for each in aim.candidates if each <= most] or [most])
        return tuned(ask, queries, aim=aim, points=points, hnsw_m=m, may_be_exact=own is None, on_tick=on_tick)

    def densify(self) -> bool:
        """Have the server build a denser graph, where the present one has not reached the target.

        Returns:
            Whether it was told to.
        """
        report, own = self.report, (self._settings.hnsw_m, self._settings.hnsw_ef, self._settings.hnsw_ef_construct)
        if report is None or not report.recall or not report.reason or any(each is not None for each in own):
            return False
        hnsw = self._info().config.hnsw_config
        most = _USUAL_MAX_M if self._settings.recall_target is None else _MAX_M
        if report.hnsw_m != hnsw.m or not 0 < hnsw.m < most:
            return False
        from qdrant_client import models

        denser = models.HnswConfigDiff(m=min(most, 2 * hnsw.m), ef_construct=2 * hnsw.ef_construct)
        with self._connection.calling() as client:
            client.update_collection(self._connection.collection, hnsw_config=denser, timeout=self._connection.timeout)
        return True

    def _info(self) -> models.CollectionInfo:
        with self._connection.calling() as client:
            return collection_info(client, self._connection.collection)
