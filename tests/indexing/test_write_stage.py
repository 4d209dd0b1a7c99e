"""Several threads that write at once, where the store says that it can take them: faster, and with the same outcome."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_rest_server import QdrantServer, RefusalError, running
from tiny_embedder import TinyEmbedder, folder_of

from multimodal_search import (
    IndexingError,
    IndexingInterrupted,
    Item,
    MemoryStore,
    MultimodalIndex,
    QdrantStore,
    Record,
    StoreRefusedError,
    Text,
    VectorStore,
)
from multimodal_search._indexing.retrying_store import RetryingStore
from multimodal_search._indexing.writing import RecordWriter
from multimodal_search.types import FloatArray, PointId, StoreSchema

posix = pytest.mark.skipif(os.name != "posix", reason="signals and processes are those of POSIX")


class SharedStore(MemoryStore):
    """A store that takes its time for a write, takes several at once, and watches which ones those are."""

    def __init__(self, writers: int = 4) -> None:
        super().__init__()
        self.max_concurrent_upserts = writers
        self.in_flight = self.most_in_flight = 0
        self.ids_in_flight: list[PointId] = []
        self.overlaps: list[str] = []
        self.deleting = False
        self._watching = threading.Lock()

    def upsert(self, records: Sequence[Record], vectors: FloatArray, /) -> None:
        ids = [record.id for record in records]
        with self._watching:
            self.overlaps += [f"two writes of {point_id}" for point_id in ids if point_id in self.ids_in_flight]
            self.overlaps += ["a write beside a deletion"] if self.deleting else []
            self.ids_in_flight += ids
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        time.sleep(0.01)
        super().upsert(records, vectors)
        with self._watching:
            self.in_flight -= 1
            self.ids_in_flight = [point_id for point_id in self.ids_in_flight if point_id not in ids]

    def delete(self, ids: Sequence[PointId], /) -> None:
        with self._watching:
            self.overlaps += ["a deletion beside a write"] if self.in_flight else []
            self.deleting = True
        time.sleep(0.01)
        super().delete(ids)
        self.deleting = False


@pytest.fixture
def cluster() -> Iterator[QdrantServer]:
    with running(peers=3, grpc=True) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses as short as the troubles of these tests."""
    monkeypatch.setattr("multimodal_search.embedders.limiter._FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr("multimodal_search.embedders.limiter._MAX_PAUSE_S", 0.1)


def index_of(store: VectorStore, **settings: Any) -> MultimodalIndex:
    return MultimodalIndex(TinyEmbedder(**settings), store, auto_calibrate=False)


def texts(count: int) -> list[str]:
    return [f"text {number}" for number in range(count)]


def slow_writes(server: QdrantServer, *, together: int = 1) -> None:
    """Let each write take 50 ms, as to a server far away, and the first ones until so many are under way."""
    under_way, are_together, lock = 0, threading.Event(), threading.Lock()

    def before(method: str, path: str) -> None:
        nonlocal under_way
        if method == "PUT" and "/points" in path:
            with lock:
                under_way += 1
                if under_way >= together:
                    are_together.set()
            are_together.wait(30)
            time.sleep(0.05)
            with lock:
                under_way -= 1

    server.before = before


def most_writes_at_once(server: QdrantServer) -> int:
    """As the server saw them."""
    writes = [each for each in server.exchanges if each.method == "PUT" and "/points" in each.path]
    return max(sum(other.started <= each.started < other.ended for other in writes) for each in writes)


def assert_same(index: MultimodalIndex, plain: MultimodalIndex) -> None:
    """Two indexes hold the same points."""
    ids = [record.id for record in plain.store.scan()]
    assert [record.id for record in index.store.scan()] == ids
    for found, expected in zip(index.get(ids, with_vectors=True), plain.get(ids, with_vectors=True), strict=True):
        assert found is not None
        assert expected is not None
        assert found.payload == expected.payload
        rows = np.array([found.vector, expected.vector])
        first, second = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        assert np.allclose(first, second, atol=1e-5)


@pytest.mark.parametrize("prefers_grpc", [False, True], ids=["rest", "grpc"])
@pytest.mark.parametrize(("given", "expected"), [({}, 3), ({"write_concurrency": 4}, 4), ({"write_concurrency": 1}, 1)])
def test_as_many_writes_are_under_way_as_the_store_says(
    cluster: QdrantServer, given: dict[str, Any], expected: int, prefers_grpc: bool
) -> None:
    port = cluster.grpc_port if prefers_grpc else None
    store = QdrantStore("tests", url=cluster.url, prefer_grpc=prefers_grpc, grpc_port=port, **given)
    with index_of(store, max_concurrency=8) as index:
        slow_writes(cluster, together=expected)
        report = index.add_texts(texts(240))
        assert (report.added, report.failed) == (240, ())
        assert most_writes_at_once(cluster) == expected
        with index_of(MemoryStore()) as plain:
            plain.add_texts(texts(240))
            assert_same(index, plain)


def test_one_writer_where_nothing_says_more() -> None:
    with running() as server, index_of(QdrantStore("tests", url=server.url)) as index:
        slow_writes(server)
        index.add_texts(texts(100))
        assert most_writes_at_once(server) == 1
    local = QdrantStore("tests", location=":memory:", write_concurrency=4)
    local.ensure(StoreSchema(model="tiny", fingerprint="tiny-1", dimension=48))
    assert local.max_concurrent_upserts == 1
    assert RetryingStore(MemoryStore()).max_concurrent_upserts == 1
    assert RetryingStore(SharedStore(0)).max_concurrent_upserts == 1
    assert RetryingStore(SharedStore(3)).max_concurrent_upserts == 3


def test_no_more_items_are_held_than_there_is_room_for() -> None:
    """A store that does not answer holds up the source, after a batch for each writer."""
    release, taken = threading.Event(), 0

    class Stuck(SharedStore):
        def upsert(self, records: Sequence[Record], vectors: FloatArray, /) -> None:
            release.wait()
            super().upsert(records, vectors)

    def source() -> Iterator[str]:
        nonlocal taken
        for text in texts(3_000):
            taken += 1
            yield text

    def wait() -> None:
        seen = -1
        while seen != taken or not taken:
            seen = taken
            time.sleep(0.3)
        held.append(taken)
        release.set()

    held: list[int] = []
    watcher = threading.Thread(target=wait)
    watcher.start()
    with index_of(Stuck(4)) as index:
        assert index.add_texts(source()).added == 3_000
    watcher.join()
    assert held[0] < 300


def test_the_last_version_of_an_id_stays() -> None:
    items = [Item(Text(f"version {version} of {number}"), id=number) for version in range(12) for number in range(40)]
    store = SharedStore()
    with index_of(store, max_batch_size=4, max_concurrency=4) as index, index_of(MemoryStore()) as plain:
        report, expected = index.add(items), plain.add(items)
        assert_same(index, plain)
        assert [record.payload["text"] for record in store.scan()] == [f"version 11 of {each}" for each in range(40)]
        assert (report.added, report.updated, report.failed) == (expected.added, expected.updated, ())
    assert store.overlaps == []
    assert store.most_in_flight == 4


def test_points_are_moved_by_one_write_alone(tmp_path: Path) -> None:
    store = SharedStore()
    folder = folder_of(tmp_path / "photos", 60)
    with index_of(store, max_batch_size=4, max_concurrency=4) as index, index_of(MemoryStore()) as plain:
        index.sync_folder(folder)
        for number in range(0, 60, 2):
            (folder / f"{number}.png").rename(folder / f"moved {number}.png")
        folder_of(folder, 80, start=60)
        report = index.sync_folder(folder)
        assert (report.moved, report.added, report.removed, report.failed) == (30, 80, 0, ())
        plain.sync_folder(folder)
        assert_same(index, plain)
    assert store.overlaps == []
    assert store.most_in_flight > 1


@pytest.mark.parametrize("way", ["400", "413"])
def test_a_record_too_large_fails_alone_amid_others(cluster: QdrantServer, way: Any) -> None:
    with index_of(QdrantStore("tests", url=cluster.url)) as index:
        cluster.max_request, cluster.too_large = 40_000, way
        slow_writes(cluster, together=2)
        given = texts(200)
        for at in (3, 90, 91, 150):
            given[at] = f"{at} " + "x" * 50_000
        report = index.add_texts(given)
        assert (report.added, len(report.failed), index.count()) == (196, 4, 196)
        assert {failure.name.split()[1] for failure in report.failed} == {"3", "90", "91", "150"}
        assert most_writes_at_once(cluster) > 1


def test_trouble_of_a_cluster_passes(cluster: QdrantServer) -> None:
    failed: list[str] = []

    def before(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("/points") and len(cluster.requests) >= 3 and len(failed) < 15:
            failed.append(path)
            raise RefusalError(500, "Service internal error: 1 out of 3 shards failed to apply operation")

    with index_of(QdrantStore("tests", url=cluster.url)) as index:
        cluster.before = before
        report = index.add_texts(texts(200))
        assert len(failed) == 15
        assert (report.added, report.failed, index.count()) == (200, (), 200)


def test_refused_records_beside_each_other_blame_no_store() -> None:
    """As many in a row as there are threads: the others of these may have come through meanwhile."""

    class Picky(MemoryStore):
        def upsert(self, records: Sequence[Record], vectors: FloatArray, /) -> None:
            if any("bad" in record.payload for record in records):
                raise StoreRefusedError("not this one")
            super().upsert(records, vectors)

    store = Picky()
    store.ensure(StoreSchema(model="tiny", fingerprint="tiny-1", dimension=4))
    row = np.ones((1, 4), np.float32)
    good, bad = [Record(1)], [Record(2, {"bad": True})]
    writer = RecordWriter(RetryingStore(store), threads=3)
    assert writer.write(good, row).done == [0]
    assert [writer.write(bad, row).error is None for _ in range(4)] == [True, True, True, False]
    assert writer.write(good, row).done == [0]
    assert writer.write(bad, row).error is None
    alone = RecordWriter(RetryingStore(store))
    assert alone.write(bad, row).error is not None
    assert alone.write(good, row).done == [0]
    assert [alone.write(bad, row).error is None for _ in range(2)] == [True, False]


def test_a_store_that_fails_for_good_ends_the_run_and_what_came_through_counts() -> None:
    class Full(SharedStore):
        def upsert(self, records: Sequence[Record], vectors: FloatArray, /) -> None:
            if any(record.payload["text"] == "text 150" for record in records):
                raise OSError("no space left on device")
            super().upsert(records, vectors)

    stored: list[PointId] = []
    store = Full()
    with index_of(store) as index:
        with pytest.raises(IndexingError) as failure:
            index.add_texts(texts(400), progress=lambda event: stored.extend(event.stored))
        kept = [record.id for record in store.scan()]
    assert failure.value.report is not None
    assert failure.value.report.added == len(stored) == len(kept)
    assert set(stored) == set(kept)


@pytest.mark.parametrize("ended", ["ctrl-c", "close"])
def test_a_run_that_is_ended_has_stored_what_it_reported(ended: str) -> None:
    class Kept(SharedStore):
        def close(self) -> None:
            if not records:
                records.update({each.id: each for each in self.scan()})
            super().close()

    stored: list[PointId] = []
    records: dict[PointId, Record] = {}
    index = index_of(Kept())
    threads: list[threading.Thread] = []

    def end(event: Any) -> None:
        stored.extend(event.stored)
        if event.done > 60 and not threads:
            threads.append(threading.Thread(target=index.close if ended == "close" else lambda: None))
            threads[0].start()
            if ended == "ctrl-c":
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(IndexingInterrupted if ended == "ctrl-c" else IndexingError) as stop:
        index.add_texts(texts(2_000), progress=end)
    threads[0].join()
    index.close()
    assert stop.value.report is not None
    assert 60 < stop.value.report.added < 2_000
    assert len(stored) == stop.value.report.added
    assert set(stored) <= records.keys()


CHILD = """
import os, sys
from multimodal_search import MultimodalIndex, QdrantStore
from tiny_embedder import TinyEmbedder

def note(event):
    if event.stored:
        os.write(1, "".join(f"{point_id}\\n" for point_id in event.stored).encode())

store = QdrantStore("tests", url=sys.argv[1], write_concurrency=4)
with MultimodalIndex(TinyEmbedder(), store, auto_calibrate=False) as index:
    index.add_texts([f"text {number}" for number in range(1_000)], progress=note)
"""


@posix
def test_what_was_reported_survives_kill_9(cluster: QdrantServer) -> None:
    cluster.latency_s = 0.01
    support = str(Path(__file__).parents[1] / "support")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([support, *filter(None, sys.path)])}
    child = subprocess.Popen([sys.executable, "-c", CHILD, cluster.url], stdout=subprocess.PIPE, env=environment)
    assert child.stdout is not None
    reported = [child.stdout.readline() for _ in range(100)]
    child.kill()
    reported += child.stdout.readlines()
    child.wait()
    child.stdout.close()
    cluster.latency_s = 0.0
    ids = [line.decode().strip() for line in reported if line.endswith(b"\n")]
    assert 100 <= len(ids) < 1_000
    with index_of(QdrantStore("tests", url=cluster.url)) as index:
        assert None not in index.get(ids)
        left = index.count()
        report = index.add_texts(texts(1_000))
        assert (report.added, report.unchanged, index.count()) == (1_000 - left, left, 1_000)


def test_look_ups_stay_full_however_long_a_run_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch waits only so long to become full; a run that takes longer looks up no item alone for that."""
    monkeypatch.setattr("multimodal_search._indexing.pipeline.LINGER_S", 0.2)
    looked_up: list[int] = []

    class Far(MemoryStore):
        def get(self, ids: Sequence[PointId], /, *, with_vectors: bool = False) -> list[Record | None]:
            looked_up.append(len(ids))
            time.sleep(0.01)
            return super().get(ids, with_vectors=with_vectors)

    with index_of(Far(), max_batch_size=64, max_concurrency=8) as index:
        assert index.add_texts(texts(2_000)).added == 2_000
    assert len(looked_up) < 100, looked_up
