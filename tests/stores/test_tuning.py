"""Tuning an approximate search to a recall: known answers by NumPy, kept whatever happens, told as it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from multimodal_search import QdrantEdgeStore, QdrantStore, Record
from multimodal_search.errors import ConfigurationError
from multimodal_search.protocols import SupportsTuning
from multimodal_search.report import TuningReport
from multimodal_search.stores.qdrant_edge.tuning import candidates_of
from multimodal_search.stores.qdrant_shared.reading import EngineFilter
from multimodal_search.stores.tuning import (
    EXACT,
    Aim,
    candidates_for,
    exact_where_filtered,
    is_stale,
    read_report,
    tuned,
)
from multimodal_search.types import FloatArray, StoreSchema

POINTS, DIMENSION = 12_000, 256  # the engine itself compares all of what takes less than 10 MB
SCHEMA = StoreSchema(model="tuned", fingerprint="tuned-1", dimension=DIMENSION)


def _rows(count: int, seed: int) -> FloatArray:
    rows = np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float32)
    unit: FloatArray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


ROWS, QUERIES = _rows(POINTS, 0), _rows(200, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tuned") / "index"
    store = QdrantEdgeStore(path)
    store.ensure(SCHEMA)
    store.upsert([Record(number, {"number": number}) for number in range(POINTS)], ROWS)
    assert not store.needs_tuning  # there is no graph
    assert store.optimize()
    store.close()
    return path


@pytest.fixture
def store(folder: Path) -> Iterator[QdrantEdgeStore]:
    store = QdrantEdgeStore(folder)
    store.ensure(SCHEMA)
    yield store
    store.close()


def _recall(store: QdrantEdgeStore, queries: FloatArray) -> float:
    nearest = np.argsort(-(queries @ ROWS.T), axis=1)[:, :10]
    found = store.search(queries, limit=10)
    return float(np.mean([len({hit.id for hit in page} & set(best)) / 10 for page, best in zip(found, nearest)]))  # noqa: B905 (as many)


def test_tuning_reaches_a_target_and_says_what_others_measure(store: QdrantEdgeStore) -> None:
    """The figure is that of NumPy's exact search, on queries that decided nothing."""
    assert isinstance(store, SupportsTuning)
    report = store.tune({"text": QUERIES}, 0.95)
    assert report.points == POINTS
    assert report.hnsw_ef is not None or report.exact
    assert report.recall["text"] == pytest.approx(_recall(store, QUERIES[1::2]), abs=0.002)
    assert report.recall["text"] > 0.93
    assert store.tuning == report
    assert not store.needs_tuning


def test_a_low_target_is_reached_with_fewer_candidates(store: QdrantEdgeStore) -> None:
    """Searching no further than needed is what makes it fast."""
    low, high = store.tune({"text": QUERIES}, 0.5), store.tune({"text": QUERIES}, 1.0)
    assert low.hnsw_ef is not None
    assert low.recall["text"] < 1
    assert high.exact or (high.hnsw_ef or 0) > low.hnsw_ef


def test_exact_searches_are_numpys(store: QdrantEdgeStore) -> None:
    """Whatever the graph is tuned to."""
    store.tune({"text": QUERIES}, 0.1)
    nearest = np.argsort(-(QUERIES[:20] @ ROWS.T), axis=1)[:, :10]
    found = store.search_exactly(QUERIES[:20], limit=10)
    assert [[hit.id for hit in page] for page in found] == nearest.tolist()


def test_filters_keep_the_recall(store: QdrantEdgeStore) -> None:
    """Of half of the points, a tenth, a hundredth and a thousandth."""
    store.tune({"text": QUERIES}, 0.99)
    for share in (0.5, 0.1, 0.01, 0.001):
        where = {"number": {"lt": int(share * POINTS)}}
        found, exact = (search(QUERIES[:50], limit=10, where=where) for search in (store.search, store.search_exactly))
        shares = [len({hit.id for hit in page} & {hit.id for hit in best}) / 10 for page, best in zip(found, exact)]  # noqa: B905 (as many)
        assert np.mean(shares) > 0.98, share


@pytest.mark.parametrize("offset", [10, 20, 40])
def test_later_pages_nearly_keep_the_recall(store: QdrantEdgeStore, offset: int) -> None:
    """Each hit that is missed before a page moves it by one: with 256 candidates, the fifth page has .3 of its hits."""
    store._keep_tuning(TuningReport(target=0.99, points=POINTS, hnsw_ef=256))
    exact = store.search_exactly(QUERIES, limit=10, offset=offset)
    found = store.search(QUERIES, limit=10, offset=offset)
    shares = [len({hit.id for hit in page} & {hit.id for hit in best}) / 10 for page, best in zip(found, exact)]  # noqa: B905 (as many)
    assert np.mean(shares) > 0.7


def test_where_few_points_pass_a_filter_they_are_all_compared(store: QdrantEdgeStore) -> None:
    """A graph is as hard to walk through then as it is short to do without."""
    store._keep_tuning(TuningReport(target=0.99, points=POINTS, hnsw_ef=64))
    kept = []
    for passing in (12_000, 6_000, 3_800, 1_800, 600, 0):
        passes = store._translate({"number": {"lt": passing}})
        kept.append(candidates_of(store._folder(), 10, passes))
    assert kept == [64, 64, EXACT, EXACT, EXACT, EXACT]
    assert candidates_of(store._folder(), 10, EngineFilter()) == 64
    assert exact_where_filtered(75_000, 500_000, 64)  # some 25 ms, and true
    assert not exact_where_filtered(76_000, 500_000, 512)


def test_what_was_tuned_survives_opening_again(folder: Path) -> None:
    """It belongs to the graph, not to the process."""
    for _ in range(2):
        store = QdrantEdgeStore(folder)
        store.ensure(SCHEMA)
        report = store.tuning or store.tune({"text": QUERIES}, 0.9)
        store.close()
    assert store is not None
    again = QdrantEdgeStore(folder)
    again.ensure(SCHEMA)
    assert again.tuning == report
    again.close()


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_what_was_tuned_survives_a_kill(folder: Path) -> None:
    """As soon as `tune` has returned."""
    program = f"""
        import os, signal, numpy as np
        from multimodal_search import QdrantEdgeStore
        from multimodal_search.types import StoreSchema
        store = QdrantEdgeStore({str(folder)!r})
        store.ensure(StoreSchema(model="tuned", fingerprint="tuned-1", dimension={DIMENSION}))
        rows = np.random.default_rng(5).standard_normal((40, {DIMENSION})).astype(np.float32)
        print(store.tune({{"image": rows}}, .77), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False)
    assert run.returncode == -signal.SIGKILL, run.stderr
    store = QdrantEdgeStore(folder)
    store.ensure(SCHEMA)
    assert str(store.tuning) == run.stdout.strip()
    store.close()


@pytest.mark.parametrize("target", [0, -1, 1.01, float("nan"), "most", True])
def test_a_senseless_target_is_refused(target: object, tmp_path: Path) -> None:
    for make in (
        lambda: QdrantEdgeStore(tmp_path, recall_target=target),  # type: ignore[arg-type]  # that is the test
        lambda: QdrantStore("photos", location=":memory:", recall_target=target),  # type: ignore[typeddict-item]  # as above
    ):
        with pytest.raises(ConfigurationError, match="recall_target must be a number above 0"):
            make()


def _asked(recall_of: dict[int, float]) -> object:
    """Searches that find a share of the ten best which depends on the candidates."""

    def ask(rows: FloatArray, keep: int) -> Sequence[Sequence[float]]:
        found = 10 if keep == EXACT else round(10 * recall_of[keep])
        return [[1 - 0.01 * rank for rank in range(found)] + [0.1] * (10 - found) for _ in rows]

    return ask


def test_the_smallest_number_that_reaches_the_target_is_kept_and_a_miss_is_told() -> None:
    """With its figure."""
    aim, rows = Aim(target=0.9, candidates=(64, 128, 256)), {"text": QUERIES}
    ask = _asked({64: 0.7, 128: 0.9, 256: 1.0})
    assert tuned(ask, rows, aim=aim, points=10**6).hnsw_ef == 128  # type: ignore[arg-type]  # it is one
    missed = tuned(_asked({64: 0.5, 128: 0.6, 256: 0.7}), rows, aim=aim, points=10**6)  # type: ignore[arg-type]  # as above
    assert (missed.hnsw_ef, missed.recall) == (256, {"text": 0.7})
    assert "0.700 by text (target 0.9" in str(missed)
    assert "out of reach" in str(missed)
    assert tuned(ask, rows, aim=aim, points=2_000).exact  # type: ignore[arg-type]  # as above
    assert "not measured" in str(tuned(ask, {}, aim=aim, points=10**6))  # type: ignore[arg-type]  # as above


def test_a_target_that_the_reported_queries_reach_is_not_said_to_be_missed() -> None:
    """Though those that decide are harder: with the most candidates there are, the first of two finds half."""

    def ask(rows: FloatArray, keep: int) -> Sequence[Sequence[float]]:
        return [[1.0, 0.9 if keep == EXACT or row[0] else 0.1] for row in rows]

    rows = np.array([[0], [1]] * 10, np.float32)
    report = tuned(ask, {"text": rows}, aim=Aim(candidates=(64, 128)), points=10**6)
    assert (report.hnsw_ef, report.recall, report.reason) == (128, {"text": 1.0}, "")


def test_a_tuned_index_of_another_size_measures_again() -> None:
    """Half or twice as many points already make another graph."""
    report = TuningReport(target=0.99, points=15_000, hnsw_ef=256, recall={"text": 0.99})
    assert [is_stale(report, points) for points in (7_500, 8_000, 29_000, 30_000, 150_000)] == [
        True, False, False, True, True,
    ]  # fmt: skip
    assert is_stale(None, 15_000)
    assert read_report(json.dumps(report.to_dict())) == report
    assert [read_report(text) for text in (None, "", "{}", "[]", '{"target": 7}')] == [None] * 5


def test_long_pages_keep_more_candidates() -> None:
    """Their last hits are as hard to find as the tenth of ten; from some length on, comparing all is as fast."""
    report = TuningReport(target=0.99, points=100_000, hnsw_ef=256)
    assert candidates_for(report, 10, points=100_000) == 256
    assert candidates_for(report, 100, points=100_000) == 356
    assert candidates_for(report, 100, offset=90, points=100_000) == 656
    assert candidates_for(report, 100, offset=90, points=13_000) == EXACT
    assert candidates_for(report, 10_000, points=100_000) == EXACT
    assert candidates_for(report, 1_000, points=100_000) == 2_256
    assert candidates_for(report, 10_000) == 20_256  # where searches may not be exact
    assert candidates_for(None, 10) is None


@pytest.mark.parametrize(
    "damage",
    [
        {"hnsw_ef": 10**30},
        {"hnsw_ef": 0},
        {"points": -1},
        {"points": float("inf")},
        {"recall": {"text": -3}},
        {"recall": {"text": float("nan")}},
        {"target": 7},
        {"recall": [1]},
    ],
)
def test_a_report_that_makes_no_sense_counts_as_none(damage: dict[str, object]) -> None:
    """Else every search would ask the engine for what it cannot take."""
    report = TuningReport(target=0.99, points=100_000, hnsw_ef=256, recall={"text": 0.99}, hnsw_m=16)
    assert read_report(json.dumps(report.to_dict())) == report
    assert read_report(json.dumps({**report.to_dict(), **damage})) is None
