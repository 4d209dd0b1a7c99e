"""The tuning of an in-process index: kept in its folder, and what it says of searches and of the next graph."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping

from multimodal_search.errors import StoreError
from multimodal_search.report import TuningReport
from multimodal_search.stores.qdrant_edge.engine import GRAPH, INDEX_FROM, Graph, engine
from multimodal_search.stores.qdrant_edge.folder import EdgeFolder
from multimodal_search.stores.qdrant_edge.inventory import CONFIG
from multimodal_search.stores.qdrant_edge.notes import get_index_metadata, set_index_metadata
from multimodal_search.stores.qdrant_shared.reading import EngineFilter
from multimodal_search.stores.tuning import (
    EXACT,
    TUNING_NOTE,
    Aim,
    Ask,
    candidates_for,
    exact_where_filtered,
    is_stale,
    read_report,
    tuned,
)
from multimodal_search.types import FloatArray

_log = logging.getLogger(__name__)

_DENSE, _DENSEST = Graph(m=32, ef_construct=200), Graph(m=64, ef_construct=400)
_DENSE_FROM = 50_000  # points: of 118,000, captions find .978 with 256 candidates and 16 links, and .997 with 32


def read_tuning(folder: EdgeFolder) -> None:
    """Read what was kept of the last tuning; what cannot be read counts as none."""
    try:
        folder.tuning = read_report(get_index_metadata(folder, TUNING_NOTE))
    except StoreError as error:
        _log.warning("searches keep the engine's own number of candidates until optimize() is called: %s", error)


def keep_tuning(folder: EdgeFolder, report: TuningReport) -> None:
    """Keep a report with the index, and search as it says."""
    text = json.dumps(report.to_dict())
    set_index_metadata(folder, TUNING_NOTE, text)
    folder.tuning = report


def candidates_of(folder: EdgeFolder, limit: int, engine_filter: EngineFilter) -> int | None:
    """How many candidates a search for so many hits keeps; see `candidates_for` and `exact_where_filtered`."""
    points = folder.checks.points
    keep = candidates_for(folder.tuning, limit, offset=engine_filter.offset, points=points)
    if engine_filter.condition is None or keep == EXACT:
        return keep
    request = engine().CountRequest(exact=False, filter=engine_filter.condition)  # an estimate, in 0.01 ms
    passing = folder.run(lambda shard: shard.count(request))
    return EXACT if exact_where_filtered(passing, points, keep or GRAPH.ef_construct) else keep


def needs_tuning(folder: EdgeFolder) -> bool:
    """Whether there is a graph whose recall is not known, or no longer."""
    info = folder.run(lambda shard: shard.info())
    has_graph = info.points_count >= INDEX_FROM and info.indexed_vectors_count > 0
    return has_graph and is_stale(folder.tuning, info.points_count)


def tuned_folder(
    folder: EdgeFolder,
    ask: Ask,
    queries: Mapping[str, FloatArray],
    aim: Aim,
    on_tick: Callable[[], None],
) -> TuningReport:
    """What tuning finds; where there is no graph, searches are exact."""
    info = folder.run(lambda shard: shard.info())
    if not info.indexed_vectors_count:
        return TuningReport(target=aim.target, points=info.points_count, exact=True)
    points, links = info.points_count, _present_graph(folder).m
    return tuned(ask, queries, aim=aim, points=points, hnsw_m=links, on_tick=on_tick)


def next_graph(folder: EdgeFolder, *, whatever_it_takes: bool) -> Graph:
    """The graph to build next: denser for many points, and where the present one has not reached the target.

    Args:
        folder: The index.
        whatever_it_takes: Whether it may be so dense that building it takes ten times as long as the engine's own.
    """
    present, report = _present_graph(folder), folder.tuning
    wanted = GRAPH if folder.checks.points < _DENSE_FROM else _DENSE
    if report is not None and report.hnsw_m == present.m and report.recall and report.reason:
        wanted = min(
            _DENSEST if whatever_it_takes else _DENSE, Graph(m=2 * present.m, ef_construct=2 * present.ef_construct)
        )
    return max(present, wanted)


def _present_graph(folder: EdgeFolder) -> Graph:
    try:
        settings = json.loads((folder.path / CONFIG).read_bytes()).get("hnsw_config") or {}
        return Graph(m=int(settings["m"]), ef_construct=int(settings["ef_construct"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return GRAPH
