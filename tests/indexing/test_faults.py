"""What goes wrong while indexing, caused for real: nothing that was reported is lost, and nothing hangs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qdrant_rest_server
from aleph_alpha_server import AlephAlphaServer, text_vector
from tiny_embedder import TinyEmbedder, folder_of, slowly
from urllib3.connection import HTTPConnection

from multimodal_search import (
    AlephAlphaEmbedder,
    EmbedderAuthError,
    EmbedderError,
    EmbedderQuotaError,
    EmbedderUnavailableError,
    IndexingError,
    IndexingInterrupted,
    MemoryStore,
    MultimodalIndex,
    Progress,
    QdrantEdgeStore,
    QdrantStore,
    Record,
    StoreError,
    StoreLockedError,
    StoreUnavailableError,
    Text,
)
from multimodal_search.types import Filter, FloatArray, PointId

posix = pytest.mark.skipif(os.name != "posix", reason="signals and processes are those of POSIX")

HERE = Path(__file__).parent

KILLS = 20

# Programs of their own import this very package, and these tests.
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE), *sys.path]))}


def texts(count: int, *, start: int = 0) -> Iterator[str]:
    return (f"text {number}" for number in range(start, start + count))


def stray_threads() -> list[str]:
    """Threads of this library that run now."""
    ours = "multimodal"
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(ours)]


def assert_threads_end(within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while stray_threads():
        assert time.monotonic() < deadline, stray_threads()
        time.sleep(0.02)


def assert_whole(index: MultimodalIndex, count: int | None = None) -> None:
    """Every stored point has the vector of its text; of as many as `count`, there is each once."""
    ids = [record.id for record in index.store.scan()]
    found = []
    for record in index.get(ids, with_vectors=True):
        assert record is not None
        assert record.vector is not None
        text = record.payload["text"]
        found.append(text)
        embedder = index.embedder
        if isinstance(embedder, TinyEmbedder):
            expected = np.asarray(embedder._vector(Text(text)))
        else:
            expected = np.asarray(text_vector(text), np.float32)
        cosine = expected @ record.vector / np.linalg.norm(expected) / np.linalg.norm(record.vector)
        assert cosine > 0.999, text
    if count is not None:
        assert sorted(found) == sorted(texts(count))


class StoredIds:
    """A progress callback that keeps the ids which events told to be stored."""

    def __init__(self, then: Callable[[Progress], None] = lambda event: None) -> None:
        self.ids: list[PointId] = []
        self._then = then

    def __call__(self, event: Progress) -> None:
        self.ids += event.stored
        self._then(event)


# -- kill -9 -----------------------------------------------------------------------------------------------------------

KILLED = '''
"""Forks children that index, kills each at some moment, and has others look at what is left."""
import json, os, random, signal, sys, time
from pathlib import Path
from multimodal_search import MultimodalIndex, QdrantEdgeStore
from test_faults import assert_whole, texts
from tiny_embedder import TinyEmbedder, slowly

TOTAL = 400
place, rounds = Path(sys.argv[1]), int(sys.argv[2])

def opened(path, **settings):
    return MultimodalIndex(TinyEmbedder(**settings), QdrantEdgeStore(path))

def indexing(path, log):
    index = opened(path, max_batch_size=8, max_concurrency=3, before=slowly(0.015))
    told = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    def note(event):
        if event.stored:
            os.write(told, "".join(f"{point_id}\\n" for point_id in event.stored).encode())
            os.fsync(told)
    index.add_texts(texts(TOTAL), progress=note)
    index.close()

def checking(path, log):
    lines = log.read_text() if log.exists() else ""
    reported = lines.splitlines() if lines.endswith("\\n") else lines.splitlines()[:-1]
    with opened(path, max_batch_size=8) as index:
        assert None not in index.get(reported)
        assert len(set(reported)) == len(reported)
        left = index.count()
        assert_whole(index)
        report = index.add_texts(texts(TOTAL))
        assert report.embedded <= TOTAL - len(reported), (report, len(reported))
        assert report.embedded == TOTAL - left
        assert_whole(index, TOTAL)
    os.write(1, (json.dumps(len(reported)) + "\\n").encode())

def in_child(work, *arguments):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work(*arguments)
            status = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid

for number in range(rounds):
    path, log = place / str(number), place / f"{number}.log"
    child = in_child(indexing, path, log)
    while number % 5 and not log.exists():  # of five, one is killed while it opens the index
        time.sleep(0.001)
    time.sleep(random.uniform(0.0, 0.3))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(os.waitpid(in_child(checking, path, log), 0)[1]):
        sys.exit(f"round {number}")
'''


@posix
def test_killed_at_any_moment_a_run_loses_nothing_that_it_reported(tmp_path: Path) -> None:
    """And nothing is half written, and the next run pays for nothing twice."""
    program = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", KILLED, str(tmp_path), str(KILLS)]
    environment = {**ENVIRONMENT, "OPENBLAS_NUM_THREADS": "1"}  # what forks should have one thread only
    run = subprocess.run(program, capture_output=True, text=True, timeout=120, env=environment)
    assert (run.returncode, run.stderr) == (0, "")
    reported = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(reported) == KILLS
    assert sum(0 < count < 400 for count in reported) > 3, reported  # killed in the middle


# -- Ctrl-C ------------------------------------------------------------------------------------------------------------


@contextmanager
def pressing_ctrl_c(after_s: float) -> Iterator[list[float]]:
    """Press Ctrl-C after some time; the moment stands in the list."""
    pressed: list[float] = []

    def press() -> None:
        pressed.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(after_s, press)
    timer.start()
    try:
        yield pressed
    finally:
        timer.cancel()
        timer.join()


@posix
def test_ctrl_c_ends_calls_that_hang_and_leaves_everything_usable() -> None:
    """Sixteen requests wait for a server that is silent: within a second they, and their threads, are gone."""
    with (
        AlephAlphaServer() as server,
        AlephAlphaEmbedder(server.url, server.token, max_concurrency=16, max_batch_size=4) as embedder,
        MultimodalIndex(embedder, MemoryStore()) as index,
    ):
        server.misbehave("hang", at=range(9, 10_000))
        with pressing_ctrl_c(0.8) as pressed, pytest.raises(IndexingInterrupted) as caught:
            index.add_texts(texts(1_000))
        assert time.monotonic() - pressed[0] < 1
        assert caught.value.report.added == index.count() == 32
        assert_whole(index)
        assert_threads_end()
        server.behave()
        assert embedder.embed([Text("rot")], role="query").shape == (1, 128)
        assert index.add_texts(texts(200)).embedded == 200 - 32
        assert_whole(index, 200)


@posix
def test_ctrl_c_ends_the_pauses_between_attempts() -> None:
    """An overloaded service is asked again after up to half a minute; nobody waits for that."""
    with (
        AlephAlphaServer() as server,
        AlephAlphaEmbedder(server.url, server.token, max_concurrency=8) as embedder,
        MultimodalIndex(embedder, MemoryStore()) as index,
    ):
        server.answer_with(429, "slow down", headers={"Retry-After": "60"})
        with pressing_ctrl_c(0.5) as pressed, pytest.raises(IndexingInterrupted):
            index.add_texts(texts(1_000))
        assert time.monotonic() - pressed[0] < 1
        assert_threads_end()


class AwayStore(MemoryStore):
    """Cannot be reached, from some moment on."""

    def __init__(self, *, calls: int = 0) -> None:
        super().__init__()
        self.calls_left = calls

    def _check(self) -> None:
        self.calls_left -= 1
        if self.calls_left < 0:
            raise StoreUnavailableError("the store is away")

    def upsert(self, records: Sequence[Record], vectors: FloatArray, /) -> None:
        self._check()
        super().upsert(records, vectors)

    def get(self, ids: Sequence[PointId], /, *, with_vectors: bool = False) -> list[Record | None]:
        self._check()
        return super().get(ids, with_vectors=with_vectors)


@pytest.mark.parametrize("moment", ["before it is sent", "while it connects", "behind a proxy"])
def test_a_call_can_be_interrupted_at_any_moment(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when there is no connection yet that could be cut: nothing of it goes on in the background."""

    def slow(call: Callable[..., Any]) -> Callable[..., Any]:
        def slowed(*arguments: Any, **settings: Any) -> Any:
            time.sleep(0.3)
            return call(*arguments, **settings)

        return slowed

    with AlephAlphaServer() as server:
        host = server.url
        server.misbehave("hang")
        match moment:
            case "before it is sent":
                pytest.importorskip("aleph_alpha_client")
                from multimodal_search.embedders.aleph_alpha import client

                monkeypatch.setattr(client, "_prompt", slow(client._prompt))
            case "while it connects":
                monkeypatch.setattr(HTTPConnection, "_new_conn", slow(HTTPConnection._new_conn))
            case "behind a proxy":
                host = "http://aleph-alpha.invalid"
                monkeypatch.setenv("HTTP_PROXY", server.url)
        with AlephAlphaEmbedder(host, server.token) as embedder:
            ended: list[Exception] = []

            def embed() -> None:
                try:
                    embedder.embed([Text("a")], role="document")
                except EmbedderError as error:
                    ended.append(error)

            calling = threading.Thread(target=embed)
            calling.start()
            time.sleep(0.15)
            embedder.interrupt()
            calling.join(2)
            assert [str(error) for error in ended] == ["interrupted"]
            assert_threads_end()
            assert len(server.requests) == (1 if moment == "behind a proxy" else 0)


@posix
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_is_not_lost_where_an_object_is_finalised() -> None:
    """There, Python prints the exception and goes on: the run would not stop, and its user would press again."""

    class Slow:
        def __del__(self) -> None:
            time.sleep(0.05)

    def texts_and_rubbish() -> Iterator[str]:
        for text in texts(100):
            Slow()
            yield text

    handler = signal.getsignal(signal.SIGINT)
    with MultimodalIndex(TinyEmbedder(), MemoryStore()) as index:
        with pressing_ctrl_c(0.5) as pressed, pytest.raises(IndexingInterrupted):
            index.add_texts(texts_and_rubbish())
        assert time.monotonic() - pressed[0] < 1
    assert signal.getsignal(signal.SIGINT) is handler


@posix
@pytest.mark.parametrize("calls", [0, 2])
def test_ctrl_c_ends_the_waiting_for_a_store(calls: int) -> None:
    """Whichever thread it is that waits."""
    with MultimodalIndex(TinyEmbedder(), AwayStore(calls=calls)) as index:
        with pressing_ctrl_c(0.5) as pressed, pytest.raises(IndexingInterrupted):
            index.add_texts(texts(1_000))
        assert time.monotonic() - pressed[0] < 1
        assert_threads_end()


@posix
def test_ctrl_c_while_pruning_says_what_was_done(tmp_path: Path) -> None:
    """Looking at every file of an old disk takes its time, too."""

    class SlowStore(MemoryStore):
        slow = False

        def scan(self, *, where: Filter | None = None, fields: Sequence[str] | None = None) -> Iterator[Record]:
            for record in super().scan(where=where, fields=fields):
                if self.slow and fields is not None:
                    time.sleep(0.01)
                yield record

    folder, store = folder_of(tmp_path, 100), SlowStore()
    index = MultimodalIndex(TinyEmbedder(), store)
    index.sync_folder(folder)
    (folder / "7.png").unlink()
    store.slow = True
    with pressing_ctrl_c(0.4) as pressed, pytest.raises(IndexingInterrupted) as caught:
        index.sync_folder(folder)
    assert time.monotonic() - pressed[0] < 1
    assert caught.value.report.unchanged == 99
    store.slow = False
    assert index.sync_folder(folder).removed + caught.value.report.removed == 1


INTERRUPTED = '''
"""Indexes until it is interrupted; then says so, and when."""
import json, sys, threading, time
from multimodal_search import AlephAlphaEmbedder, IndexingInterrupted, MultimodalIndex, QdrantEdgeStore
from test_faults import assert_threads_end, texts
from tiny_embedder import TinyEmbedder

path, url, token = sys.argv[1:]
def wait(call):
    if call > 6:
        time.sleep(60)
embedder = AlephAlphaEmbedder(url, token, max_concurrency=16, max_batch_size=4) if url else TinyEmbedder(before=wait)
index = MultimodalIndex(embedder, QdrantEdgeStore(path))
def note(event):
    if event.done >= 24:
        print("begun", flush=True)
try:
    index.add_texts(texts(1_000), progress=note)
except IndexingInterrupted as interrupted:
    print(json.dumps({"at": time.monotonic(), "added": interrupted.report.added, "count": index.count()}), flush=True)
if url:
    assert_threads_end()
index.close()
'''


@posix
@pytest.mark.parametrize("embedder", ["hanging server", "hanging model"])
def test_a_program_that_is_interrupted_ends(embedder: str, tmp_path: Path) -> None:
    """No thread that hangs keeps it from that, and what it stored is there."""
    if embedder == "hanging server":
        pytest.importorskip("aleph_alpha_client")
    path = tmp_path / "index"
    with AlephAlphaServer() as server:
        server.misbehave("hang", at=range(9, 10_000))
        address = [server.url, server.token] if embedder == "hanging server" else ["", ""]
        program = [sys.executable, "-c", INTERRUPTED, str(path), *address]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        child = subprocess.Popen(program, **pipes, env=ENVIRONMENT)
        assert child.stdout is not None
        assert child.stdout.readline() == "begun\n"
        time.sleep(0.2)
        pressed = time.monotonic()
        child.send_signal(signal.SIGINT)
        output, errors = child.communicate(timeout=20)
        assert (child.returncode, errors) == (0, "")
        told = json.loads(output.splitlines()[-1])
        assert told["at"] - pressed < 1
        assert told["added"] == told["count"] >= 24
        server.behave()
        with AlephAlphaEmbedder(server.url, server.token) as remote:
            again = remote if embedder == "hanging server" else TinyEmbedder()
            with MultimodalIndex(again, QdrantEdgeStore(path)) as index:
                assert index.count() == told["count"]
                assert index.add_texts(texts(200)).embedded == 200 - told["count"]
                assert_whole(index, 200)


# -- trouble that stays ------------------------------------------------------------------------------------------------


class Proxy:
    """Passes connections on to a port of this machine, and cuts them all when told to."""

    def __init__(self, target: str) -> None:
        self._target = ("127.0.0.1", int(target.rpartition(":")[2]))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.cuts = 0
        self.url = f"http://127.0.0.1:{self._port}"
        self._listen()

    def cut(self) -> None:
        """End all connections, and refuse new ones."""
        self.cuts += 1
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def restore(self) -> None:
        """Take new connections again, at the same port."""
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._listen()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        for thread in self._threads:
            thread.join()

    def _start(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _listen(self) -> None:
        self._start(self._accept, self._listener)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                here, _ = listener.accept()
            except OSError:
                return
            there = socket.create_connection(self._target)
            with self._lock:
                self._open |= {here, there}
            self._start(self._pass_on, here, there)
            self._start(self._pass_on, there, here)

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._open.discard(source)
        source.close()


@pytest.mark.parametrize(
    ("status", "cause", "says"), [(401, EmbedderAuthError, "check it"), (402, EmbedderQuotaError, "top up")]
)
def test_a_refused_token_or_an_empty_account_stops_the_run_at_once(
    status: int, cause: type[Exception], says: str
) -> None:
    """One error that says what to do; no further requests; what was paid for is kept."""
    with (
        AlephAlphaServer(latency_s=0.01) as server,
        AlephAlphaEmbedder(server.url, server.token, max_concurrency=4, max_batch_size=8) as embedder,
        MultimodalIndex(embedder, MemoryStore()) as index,
    ):
        server.answer_with(status, "no", at=range(20, 10_000))
        stored = StoredIds()
        with pytest.raises(IndexingError, match=says) as caught:
            index.add_texts(texts(100_000), progress=stored)
        assert isinstance(caught.value.__cause__, cause)
        assert caught.value.report.added == index.count() == len(stored.ids) == 19 * 8
        assert f"{19 * 8} added" in str(caught.value)
        assert len(server.requests) <= 19 + 4
        assert_whole(index)
        server.behave()
        assert index.add_texts(texts(200)).embedded == 200 - 19 * 8


def test_a_host_that_dies_stops_the_run_soon() -> None:
    with (
        AlephAlphaServer(latency_s=0.01) as server,
        Proxy(server.url) as proxy,
        AlephAlphaEmbedder(proxy.url, server.token, max_concurrency=8, max_batch_size=4) as embedder,
        MultimodalIndex(embedder, MemoryStore()) as index,
    ):
        stored = StoredIds(lambda event: proxy.cut() if event.done > 100 and not proxy.cuts else None)
        began = time.monotonic()
        with pytest.raises(IndexingError, match="cannot be reached after 3 attempts") as caught:
            index.add_texts(texts(100_000), progress=stored)
        assert time.monotonic() - began < 20
        assert isinstance(caught.value.__cause__, EmbedderUnavailableError)
        assert caught.value.report.added == index.count() == len(stored.ids) > 100
        assert_whole(index)
        assert_threads_end()


def test_a_name_that_no_server_has_stops_the_run_soon() -> None:
    with (
        AlephAlphaEmbedder("https://nowhere.invalid", "token", max_concurrency=8) as embedder,
        MultimodalIndex(embedder, MemoryStore()) as index,
    ):
        began = time.monotonic()
        with pytest.raises(IndexingError, match=r"nowhere\.invalid .*check host") as caught:
            index.add_texts(texts(1_000))
        assert time.monotonic() - began < 20
        assert caught.value.report.added == 0


def test_calls_under_way_do_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """One is refused for good while the others hang: they would for two minutes."""
    monkeypatch.setattr("multimodal_search._indexing.pipeline.GRACE_S", 0.5)
    with (
        AlephAlphaServer() as server,
        AlephAlphaEmbedder(server.url, server.token, max_concurrency=8, max_batch_size=4) as embedder,
        MultimodalIndex(embedder, MemoryStore()) as index,
    ):
        server.misbehave("hang", at=range(2, 8))
        server.answer_with(401, "no", at=[8])
        began = time.monotonic()
        with pytest.raises(IndexingError, match="refuses the token"):
            index.add_texts(texts(1_000))
        assert time.monotonic() - began < 5
        assert_threads_end()


def test_a_full_disk_stops_the_run_and_keeps_what_was_stored(tmp_path: Path) -> None:
    """The engine writes through mapped memory: a disk that fills up under it would end the process on the spot."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(disk)], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        ballast = disk / "ballast"

        def fill(event: Progress) -> None:
            if event.done > 500 and not ballast.exists():
                ballast.write_bytes(b"x" * (shutil.disk_usage(disk).free - 60 * 2**20))

        stored = StoredIds(fill)
        with MultimodalIndex(TinyEmbedder(), QdrantEdgeStore(disk / "index")) as index:
            with pytest.raises(IndexingError, match=r"disk .* is full.* free some space") as caught:
                index.add_texts(texts(100_000), progress=stored)
            assert isinstance(caught.value.__cause__, StoreError)
            assert caught.value.report.added == index.count() == len(stored.ids) > 500
        with MultimodalIndex(TinyEmbedder(), QdrantEdgeStore(disk / "index")) as index:
            assert None not in index.get(stored.ids)
            assert_whole(index)
            ballast.unlink()
            assert index.add_texts(texts(3_000)).embedded == 3_000 - len(stored.ids)
            assert_whole(index, 3_000)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# -- trouble that passes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["429", "503", "reset", "cut", "hang"])
def test_trouble_that_passes_costs_no_item(trouble: str) -> None:
    """A run over night meets all of them."""
    with (
        AlephAlphaServer(latency_s=0.02) as server,
        AlephAlphaEmbedder(server.url, server.token, max_concurrency=4, max_batch_size=4, timeout_s=2) as embedder,
        MultimodalIndex(embedder, MemoryStore()) as index,
    ):
        at = [*range(5, 9), 20, 40]
        match trouble:
            case "429":
                server.answer_with(429, "too many", headers={"Retry-After": "1"}, at=at)
            case "503":
                server.answer_with(503, '{"error": "rejected", "code": "QUEUE_FULL"}', at=at)
            case "hang":
                server.misbehave("hang", at=[5, 20])
            case "reset" | "cut":
                server.misbehave(trouble, at=at)
        report = index.add_texts(texts(400))
        assert (report.added, report.failed, report.embedded) == (400, (), 400)
        assert report.calls == len(server.requests) > 100
        assert_whole(index, 400)


def test_a_service_that_takes_eight_at_once_gets_eight_from_sixty_four() -> None:
    """Nobody knows what a service takes before it refuses; no item pays for finding out."""
    with (
        AlephAlphaServer(latency_s=0.05, max_in_flight=8, compute="hash") as server,
        AlephAlphaEmbedder(server.url, server.token, max_concurrency=64, max_batch_size=4) as embedder,
        MultimodalIndex(embedder, MemoryStore()) as index,
    ):
        report = index.add_texts(texts(1_200))
        assert (report.added, report.failed) == (1_200, ())
        assert server.most_in_flight > 8
        assert len(server.requests) < 1.6 * 300


def test_a_slow_service_is_not_given_up_because_of_a_long_queue() -> None:
    """It takes one call at once, and works: that most wait longer than a call may take is our own doing."""
    with (
        AlephAlphaServer(latency_s=0.1, max_in_flight=1) as server,
        AlephAlphaEmbedder(server.url, server.token, max_concurrency=16, max_batch_size=4, timeout_s=0.8) as embedder,
        MultimodalIndex(embedder, MemoryStore()) as index,
    ):
        report = index.add_texts(texts(80))
        assert (report.added, report.failed) == (80, ())


def test_any_embedder_may_say_that_it_is_busy() -> None:
    """The index waits as long as it is told to, sends fewer calls at once, and tries again."""

    class Busy(TinyEmbedder):
        refused = 0

        def embed(self, contents, /, *, role):  # type: ignore[no-untyped-def]
            if self.in_flight >= 2:
                self.refused += 1
                raise EmbedderUnavailableError("busy", retry_after_s=0.02)
            return super().embed(contents, role=role)

    embedder = Busy(max_batch_size=4, max_concurrency=16, before=slowly(0.005))
    with MultimodalIndex(embedder, MemoryStore()) as index:
        report = index.add_texts(texts(1_200))
        assert (report.added, report.failed) == (1_200, ())
        assert embedder.refused < 300 / 2
        assert_whole(index, 1_200)


def test_an_embedder_that_stays_busy_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multimodal_search.embedders.guarded.RETRY_DEADLINE_S", 1.0)

    def refuse(call: int) -> None:
        if call > 10:
            raise EmbedderUnavailableError("the model is away")

    with MultimodalIndex(TinyEmbedder(max_batch_size=4, before=refuse), MemoryStore()) as index:
        began = time.monotonic()
        with pytest.raises(IndexingError, match="model is away") as caught:
            index.add_texts(texts(1_000))
        assert time.monotonic() - began < 10
        assert caught.value.report.added == index.count() == 40


# -- the store's connection --------------------------------------------------------------------------------------------


def test_a_connection_that_is_cut_and_restored_costs_nothing() -> None:
    """All connections end at once, and for a second new ones are refused: the run waits, and goes on."""
    with qdrant_rest_server.running() as server, Proxy(server.url) as proxy:

        def cut(event: Progress) -> None:
            if event.done > (100, 400, 10_000)[proxy.cuts]:
                proxy.cut()
                threading.Timer(1.0, proxy.restore).start()

        stored = StoredIds(cut)
        with MultimodalIndex(TinyEmbedder(before=slowly(0.002)), QdrantStore("tests", url=proxy.url)) as index:
            report = index.add_texts(texts(700), progress=stored)
            assert proxy.cuts == 2
            assert (report.added, report.embedded, report.failed) == (700, 700, ())
            assert len(stored.ids) == len(set(stored.ids)) == 700
            assert_whole(index, 700)


def test_every_kind_of_request_to_a_store_is_repeated(tmp_path: Path) -> None:
    """Looking up, writing, and in a synchronisation scanning and deleting."""
    refused: set[tuple[str, str]] = set()
    with (
        qdrant_rest_server.running() as server,
        MultimodalIndex(TinyEmbedder(), QdrantStore("tests", url=server.url)) as index,
    ):
        folder = folder_of(tmp_path, 30)
        index.sync_folder(folder)
        for number in range(10):
            (folder / f"{number}.png").unlink()
        (folder / "20.png").rename(folder / "40.png")
        folder_of(folder, 3, start=50)

        def refuse_once(method: str, path: str) -> None:
            kind = (method, path.rpartition("/")[2])
            if kind not in refused:
                refused.add(kind)
                raise qdrant_rest_server.RefusalError(503, "shutting down")

        server.before = refuse_once
        report = index.sync_folder(folder)
        assert (report.added, report.moved, report.removed, report.unchanged) == (3, 1, 10, 19)
        server.before = lambda method, path: None
        assert index.count() == 23
    assert {("PUT", "points"), ("POST", "points"), ("POST", "scroll"), ("POST", "delete"), ("POST", "count")} <= refused


def test_a_scan_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    """Of ten thousand points some hundred may have been looked at: each is removed once."""

    class Flaky(MemoryStore):
        broken = False
        cuts = 0

        def scan(self, *, where: Filter | None = None, fields: Sequence[str] | None = None) -> Iterator[Record]:
            for number, record in enumerate(super().scan(where=where, fields=fields)):
                if self.broken and fields is not None and number == 40 * (self.cuts + 1):
                    self.cuts += 1
                    raise StoreUnavailableError("cut")
                yield record

    store = Flaky()
    index = MultimodalIndex(TinyEmbedder(), store)
    folder = folder_of(tmp_path, 100)
    index.sync_folder(folder)
    for number in range(90):
        (folder / f"{number}.png").unlink()
    store.broken = True
    assert index.sync_folder(folder).removed == 90
    assert store.cuts == 2
    assert index.count() == 10


def test_a_store_that_stays_away_stops_the_run_with_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multimodal_search._indexing.retrying_store.RETRY_DEADLINE_S", 1.5)
    with qdrant_rest_server.running() as server, Proxy(server.url) as proxy:
        stored = StoredIds(lambda event: proxy.cut() if event.done > 100 and not proxy.cuts else None)
        with MultimodalIndex(TinyEmbedder(before=slowly(0.002)), QdrantStore("tests", url=proxy.url)) as index:
            began = time.monotonic()
            with pytest.raises(IndexingError, match="cannot be reached") as caught:
                index.add_texts(texts(100_000), progress=stored)
            assert time.monotonic() - began < 15
            assert isinstance(caught.value.__cause__, StoreUnavailableError)
            assert caught.value.report.added == len(stored.ids) > 100
            proxy.restore()
            assert None not in index.get(stored.ids)
            assert_whole(index)


# -- optimizing --------------------------------------------------------------------------------------------------------


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Optimizing pays from 2,000 points on, as far as the engine is concerned."""
    for module in ("qdrant_edge.store", "qdrant_edge.engine"):
        monkeypatch.setattr(f"multimodal_search.stores.{module}.INDEX_FROM", 2_000)


@pytest.mark.usefixtures("early")
def test_a_run_that_has_earned_it_ends_with_optimizing(tmp_path: Path) -> None:
    """In a child process; events go on meanwhile, so that nobody believes the program to hang."""
    events: list[Progress] = []
    store = QdrantEdgeStore(tmp_path / "index")
    with MultimodalIndex(TinyEmbedder(max_batch_size=100), store) as index:
        index.add_texts(texts(1_900), progress=events.append)
        assert {event.stage for event in events} - {"calibrating"} == {"indexing"}
        index.add_texts(texts(2_500), progress=events.append)
        assert {event.stage for event in events} - {"calibrating"} == {"indexing", "optimizing"}
        assert events[-1].finished
        assert sum(len(event.stored) for event in events) == 2_500
        assert not store.needs_optimize
        assert_whole(index, 2_500)


@posix
@pytest.mark.usefixtures("early")
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for the child in /proc")
def test_an_optimizing_that_is_killed_costs_speed_and_nothing_else(tmp_path: Path) -> None:
    """The points are stored: to call the run failed would be a lie."""
    path = tmp_path / "index"
    killed: list[int] = []

    def kill(event: Progress) -> None:
        if event.stage == "optimizing" and not killed:
            killed.extend(children_that_optimize(path))
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    store = QdrantEdgeStore(path)
    with MultimodalIndex(TinyEmbedder(max_batch_size=100), store) as index:
        with pytest.warns(RuntimeWarning, match="the index is complete, but optimizing .* data is intact"):
            report = index.add_texts(texts(2_500), progress=kill)
        assert (report.added, len(killed)) == (2_500, 1)
        assert_whole(index, 2_500)
    with MultimodalIndex(TinyEmbedder(max_batch_size=100), QdrantEdgeStore(path)) as index:
        assert not (path / "shard" / "temp_segments").exists()
        assert_whole(index, 2_500)
        index.add_texts(texts(2_501))  # which tries again
        assert not index.optimize()
        assert_whole(index, 2_501)


def children_that_optimize(path: Path) -> list[int]:
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdigit():
                command = (process / "cmdline").read_bytes()
                if b"qdrant_edge.optimize" in command and os.fsencode(path) in command:
                    found.append(int(process.name))
    return found


# -- two processes -----------------------------------------------------------------------------------------------------

HOLDING = """
import sys
from multimodal_search import MultimodalIndex
from test_faults import texts
from tiny_embedder import TinyEmbedder
index = MultimodalIndex.open(sys.argv[1], embedder=TinyEmbedder())
index.add_texts(texts(100))
print("open", flush=True)
for line in sys.stdin:
    print(index.add_texts(texts(200)).added, index.count(), flush=True)
"""


@posix
def test_a_second_process_is_refused_and_does_no_harm(tmp_path: Path) -> None:
    """With the name of the first one; and when that one is killed, nothing is left to clean up."""
    path = tmp_path / "index"
    program = [sys.executable, "-c", HOLDING, str(path)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with subprocess.Popen(program, **pipes, env=ENVIRONMENT) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(StoreLockedError, match=f"process {holder.pid} "):
                MultimodalIndex.open(path, embedder=TinyEmbedder())
            assert time.monotonic() - began < 2
        holder.stdin.write("more\n")
        assert holder.stdout.readline() == "100 200\n"
        holder.kill()
    with MultimodalIndex.open(path, embedder=TinyEmbedder()) as index:
        assert_whole(index, 200)
        assert index.add_texts(texts(300)).embedded == 100
