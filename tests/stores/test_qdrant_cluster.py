"""What passes in a cluster: leaders that die, nodes that start again, shards without a copy."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from qdrant_rest_server import QdrantServer, RefusalError, running
from tiny_embedder import TinyEmbedder

from multimodal_search import IndexingError, MultimodalIndex, Progress, QdrantStore, Record, StoreUnavailableError
from multimodal_search.types import StoreSchema

SCHEMA = StoreSchema(model="tiny", fingerprint="tiny-1", dimension=4)
DEAD_LEADER = (
    "Service internal error: 1 out of 3 shards failed to apply operation. First error captured: Service internal "
    "error: Failed to apply update with Medium ordering via leader peer 42: Service internal error: The service is "
    "currently unavailable"
)


@pytest.fixture
def cluster() -> Iterator[QdrantServer]:
    with running(peers=3) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses as short as the troubles of these tests."""
    monkeypatch.setattr("multimodal_search.embedders.limiter._FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr("multimodal_search.embedders.limiter._MAX_PAUSE_S", 0.1)


def index_of(cluster: QdrantServer) -> MultimodalIndex:
    return MultimodalIndex(TinyEmbedder(), QdrantStore("tests", url=cluster.url), auto_calibrate=False)


def texts(count: int) -> list[str]:
    return [f"text {number}" for number in range(count)]


def failing(cluster: QdrantServer, what: Callable[[str, str], bool], times: int, error: RefusalError) -> list[str]:
    """Have some requests fail so many times; returns what failed, as it does."""
    failed: list[str] = []

    def before(method: str, path: str) -> None:
        if what(method, path) and len(failed) < times:
            failed.append(f"{method} {path}")
            raise error

    cluster.before = before
    return failed


def is_write(method: str, path: str) -> bool:
    return method == "PUT" and path.endswith("/points")


def test_writes_that_fail_for_long_while_reads_work_blame_no_record(cluster: QdrantServer) -> None:
    """A leader is dead: any copy answers reads meanwhile, and no write comes through until another one is elected."""
    with index_of(cluster) as index:
        failed = failing(cluster, is_write, 9, RefusalError(500, DEAD_LEADER))
        report = index.add_texts(texts(40))
        assert len(failed) == 9
        assert (report.added, report.failed, index.count()) == (40, (), 40)
        vector = np.ones(48, np.float32)
        failed = failing(cluster, is_write, 9, RefusalError(500, DEAD_LEADER))
        report = index.add_vectors([Record(number, vector=vector) for number in range(20)])
        assert len(failed) == 9
        assert (report.added, report.failed, index.count()) == (20, (), 60)


def test_a_write_that_went_half_through_is_repeated_whole(cluster: QdrantServer) -> None:
    """The shards whose leaders live take their part; the rest is written when the others are back."""
    with index_of(cluster) as index:
        cluster.leaderless_shards = {1}
        threading.Timer(0.5, cluster.leaderless_shards.clear).start()
        report = index.add_texts(texts(60))
        assert (report.added, report.failed, index.count()) == (60, (), 60)
        assert len(cluster.asked("PUT", r"/collections/tests/points.*")) > 1


def test_a_shard_without_a_copy_ends_no_run(cluster: QdrantServer) -> None:
    """Everything is 500 then, reads as well as writes, until its node is back."""
    index = index_of(cluster)

    def lose(event: Progress) -> None:
        if event.done >= 20 and not times:
            times.append(time.monotonic())
            cluster.lost_shards = {0, 1}
            threading.Timer(0.7, cluster.lost_shards.clear).start()

    times: list[float] = []
    report = index.add_texts(texts(300), progress=lose)
    assert times
    assert (report.added, report.failed, index.count()) == (300, (), 300)
    assert len({record.id for record in index.store.scan()}) == 300
    index.close()


def test_waiting_is_told_once_with_what_for(cluster: QdrantServer, caplog: pytest.LogCaptureFixture) -> None:
    with index_of(cluster) as index:
        failing(cluster, is_write, 6, RefusalError(500, DEAD_LEADER))
        with caplog.at_level(logging.WARNING):
            index.add_texts(texts(10))
    (record,) = caplog.records
    assert "waiting up to 300 s for the store" in record.getMessage()
    assert "1 out of 3 shards failed" in record.getMessage()


def test_a_pause_that_the_server_asks_for_is_kept(cluster: QdrantServer) -> None:
    with index_of(cluster) as index:
        began = time.monotonic()
        failed = failing(cluster, is_write, 1, RefusalError(429, "Write rate limit exceeded", retry_after=1))
        report = index.add_texts(texts(10))
        assert len(failed) == 1
        assert time.monotonic() - began >= 1.0
        assert (report.added, report.failed) == (10, ())


def test_trouble_that_stays_ends_the_run_and_blames_nobody(
    cluster: QdrantServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("multimodal_search._indexing.retrying_store.RETRY_DEADLINE_S", 0.5)
    with index_of(cluster) as index:
        failing(cluster, is_write, 10_000, RefusalError(500, DEAD_LEADER))
        with pytest.raises(IndexingError, match="Failed to apply update") as caught:
            index.add_texts(texts(10))
        assert isinstance(caught.value.__cause__, StoreUnavailableError)
        assert (caught.value.report.added, caught.value.report.failed) == (0, ())


def test_closing_ends_the_wait(cluster: QdrantServer) -> None:
    """A cluster may be in trouble for minutes; whoever closes the index does not wait for it."""
    index = index_of(cluster)
    failed = failing(cluster, is_write, 10_000, RefusalError(500, DEAD_LEADER))

    def close() -> None:
        while len(failed) < 3:
            time.sleep(0.01)
        index.close()
        closed.append(time.monotonic())

    closed: list[float] = []
    thread = threading.Thread(target=close)
    thread.start()
    with pytest.raises(IndexingError, match="closed"):
        index.add_texts(texts(10))
    thread.join()
    assert time.monotonic() - closed[0] < 2


def test_a_long_time_out_is_told_to_the_server(cluster: QdrantServer) -> None:
    """A server ends a read after 60 s by itself, and a change of a collection after 10 s.

    A write of points has no such limit, and with one it may be answered before it is done.
    """
    for timeout_s, expected in ((60, []), (90.5, ["timeout=91"] * 5)):
        store = QdrantStore("photos", url=cluster.url, timeout_s=timeout_s)
        store.ensure(SCHEMA)
        cluster.forget_requests()
        vector = np.ones((1, 4), np.float32)
        store.upsert([Record(1)], vector)
        store.search(vector, limit=1)
        store.count()
        store.get([1])
        list(store.scan())
        store.set_index_metadata("terms", "one")
        store.delete([1])
        queries = [path.partition("?")[2].split("&") for _, path, _ in cluster.requests]
        assert [query for query in queries if "wait=true" in query and "timeout=91" in query] == []
        assert [part for query in queries for part in query if part.startswith("timeout")] == expected
        store.close()


def test_a_long_time_out_keeps_to_the_servers_strict_mode(cluster: QdrantServer) -> None:
    cluster.strict_mode = {"enabled": True, "max_timeout": 70}
    store = QdrantStore("photos", url=cluster.url, timeout_s=90)
    store.ensure(SCHEMA)
    store.count()
    assert "timeout=70" in cluster.requests[-1][1]
    store.close()
