"""Loading a new collection without its HNSW graph, and what comes after: the end, a kill, others who open it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from qdrant_cases import ones, opened
from qdrant_rest_server import QdrantServer, RefusalError, running

from multimodal_search import ColorEmbedder, MultimodalIndex, QdrantStore, Record, StoreError, SupportsOptimize


@pytest.fixture
def server() -> Iterator[QdrantServer]:
    with running() as server:
        yield server


def links(server: QdrantServer) -> Any:
    return server.collections["photos"].hnsw["m"]


def marks(server: QdrantServer) -> set[str]:
    usual = {"multimodal_search", "multimodal_search_note_keyword_fields"}
    return set(server.collections["photos"].metadata or ()) - usual


def test_the_graph_is_built_when_the_load_has_ended(server: QdrantServer) -> None:
    store = opened(server, bulk_load=True, hnsw_m=24)
    assert links(server) == 0
    store.upsert([Record(1)], ones(1))
    assert isinstance(store, SupportsOptimize)
    assert store.needs_optimize
    ticks: list[None] = []
    assert store.optimize(on_tick=lambda: ticks.append(None))
    assert ticks
    assert (links(server), marks(server)) == (24, set())
    assert not store.needs_optimize
    assert not store.optimize()
    store.close()


def test_an_index_ends_it_after_its_first_run(server: QdrantServer) -> None:
    """Nobody has to think of it."""
    with MultimodalIndex(ColorEmbedder(), QdrantStore("photos", url=server.url, bulk_load=True)) as index:
        assert links(server) == 0
        assert index.add_texts(["a red apple", "a blue sky"], progress=False).added == 2
        assert (links(server), [name for name in marks(server) if "bulk" in name]) == (16, [])
        assert not index.optimize()


_KILLED = """
import os, signal, sys
import numpy as np
from multimodal_search import QdrantStore, Record
from multimodal_search.types import StoreSchema
store = QdrantStore("photos", url=sys.argv[1], bulk_load=True)
store.ensure(StoreSchema(model="tiny", fingerprint="tiny-1", dimension=4))
store.upsert([Record(1)], np.ones((1, 4), np.float32))
os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
"""


def test_the_next_opening_ends_the_load_of_a_process_that_was_killed(server: QdrantServer) -> None:
    process = subprocess.run([sys.executable, "-c", _KILLED, server.url], timeout=120, check=False)
    assert process.returncode != 0
    assert links(server) == 0
    again = opened(server, bulk_load=True)  # goes on loading, and ends it itself
    assert again.needs_optimize
    assert links(server) == 0
    again.close()
    store = opened(server)
    assert (links(server), marks(server)) == (16, set())
    assert not store.needs_optimize
    assert store.count() == 1
    store.close()


def test_an_index_that_serves_searches_keeps_its_graph(server: QdrantServer) -> None:
    store = opened(server)
    store.upsert([Record(1)], ones(1))
    opened(server, bulk_load=True).close()
    assert (links(server), marks(server)) == (16, set())
    assert not server.asked("PATCH", ".*")
    store.close()


def test_whoever_may_only_read_leaves_a_load_alone(server: QdrantServer) -> None:
    opened(server, bulk_load=True).close()
    server.key, server.read_only_key = "all", "read"
    store = opened(server, api_key="read")
    assert links(server) == 0
    assert store.count() == 0
    store.close()


def test_a_load_that_may_not_change_the_collection_says_so(server: QdrantServer) -> None:
    opened(server).close()
    server.key, server.tokens = "all", {"mine": {"photos": "rw"}}
    with pytest.raises(StoreError, match="lacks a right"):
        opened(server, api_key="mine", bulk_load=True)


def test_a_server_without_metadata_loads_as_ever(server: QdrantServer) -> None:
    """Nothing could tell the next process that the graph is missing."""
    server.version = "1.15.5"
    with pytest.warns(RuntimeWarning, match=r"bulk_load has no effect.*1\.16"):
        opened(server, bulk_load=True).close()
    assert links(server) == 16


def test_a_server_that_allows_no_exact_search_keeps_its_graph(server: QdrantServer) -> None:
    """Without a graph it would refuse every search, until the load has ended."""
    server.strict_mode = {"enabled": True, "search_allow_exact": False}
    with pytest.warns(RuntimeWarning, match="bulk_load has no effect.*search_allow_exact"):
        store = opened(server, bulk_load=True)
    assert (links(server), marks(server)) == (16, set())
    store.upsert([Record(1)], ones(1))
    assert [hit.id for hit in store.search(ones(1), limit=1)[0]] == [1]
    store.close()


@pytest.mark.parametrize("failing", ["PATCH", "GET"])
def test_a_cluster_in_trouble_at_the_end_of_a_load_is_waited_for(server: QdrantServer, failing: str) -> None:
    failed: list[str] = []

    def fail(method: str, path: str) -> None:
        if server.asked("PUT", ".*/points.*") and method == failing and len(failed) < 2:
            failed.append(path)
            raise RefusalError(500, "Service internal error: 1 of 1 read operations failed")

    store = QdrantStore("photos", url=server.url, bulk_load=True)
    with MultimodalIndex(ColorEmbedder(), store, auto_calibrate=False) as index:
        server.before = fail
        assert index.add_texts(["a red apple"], progress=False).added == 1
        assert len(failed) == 2
        assert (links(server), store.needs_optimize) == (16, False)


def test_the_graph_that_cannot_be_built_is_told(server: QdrantServer, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(server, bulk_load=True)
    stored = server.collections["photos"]
    report = stored.info

    def failing(**known: Any) -> Any:
        return report(**known) | {"status": "red", "optimizer_status": {"error": "No space left on device"}}

    monkeypatch.setattr(stored, "info", failing)
    with pytest.raises(StoreError, match="No space left"):
        store.optimize()
    store.close()


def test_a_server_that_goes_away_leaves_the_mark(server: QdrantServer) -> None:
    store = opened(server, bulk_load=True)

    def refuse(method: str, path: str) -> None:
        if method == "PATCH":
            raise RefusalError(503, "gone")

    server.before = refuse
    with pytest.raises(StoreError):
        store.optimize()
    assert store.needs_optimize
    server.before = lambda method, path: None
    assert store.optimize()
    assert links(server) == 16
    store.close()


def test_a_load_does_not_look_like_another_setting(server: QdrantServer) -> None:
    """The graph's `m` is 0 only meanwhile."""
    opened(server, bulk_load=True, hnsw_m=24).close()
    store = opened(server, bulk_load=True, hnsw_m=24)
    assert store.update_settings() == ()
    assert (links(server), marks(server)) == (24, set())
    store.close()


def test_a_peer_that_does_not_know_a_new_collection_yet_is_asked_again_to_begin(server: QdrantServer) -> None:
    refusals = iter([RefusalError(404, "Not found: Collection `photos` doesn't exist!")])

    def lag(method: str, path: str) -> None:
        if method == "PATCH" and (refusal := next(refusals, None)) is not None:
            raise refusal

    server.before = lag
    store = opened(server, bulk_load=True)
    assert store.needs_optimize
    store.close()
