"""Ends of a local socket that die, stop, or fork: what they held is freed, and what was reported stored is there."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving import child_process, eventually, served_in_child

from multimodal_search import MemoryStore, QdrantEdgeStore, Record, StoreError, StoreSchema, StoreUnavailableError
from multimodal_search.stores.local_socket import StoreServer, connect_store, connections, serve_store
from multimodal_search.types import Filter

SCHEMA = StoreSchema(model="tiny", fingerprint="tiny/2", dimension=2)
ROW = np.ones((1, 2), np.float32)
BEGIN = """
import sys
import numpy as np
from multimodal_search.types import Record
from multimodal_search.stores.local_socket import connect_store
store = connect_store(sys.argv[1])
"""
HAS_FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
HAS_STOP = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system cannot stop a process")


class Watched(MemoryStore):
    """Tells which of its scans and optimizations are under way."""

    needs_optimize = True

    def __init__(self) -> None:
        super().__init__()
        self.scans = 0
        self.optimizing = threading.Event()
        self.ended = threading.Event()

    def scan(self, *, where: Filter | None = None, fields: Sequence[str] | None = None) -> Iterator[Record]:
        return self._watched(super().scan(where=where, fields=fields))

    def _watched(self, records: Iterator[Record]) -> Iterator[Record]:
        self.scans += 1
        try:
            yield from records
        finally:
            self.scans -= 1

    def optimize(self, *, on_tick: Callable[[], None] | None = None) -> bool:
        assert on_tick is not None
        self.optimizing.set()
        try:
            while True:
                on_tick()
        finally:
            self.ended.set()


@pytest.fixture
def store() -> Iterator[Watched]:
    with closing(Watched()) as store:
        store.ensure(SCHEMA)
        store.upsert([Record(number) for number in range(2_500)], np.tile(ROW, (2_500, 1)))
        yield store


@pytest.fixture(params=["unix", "tcp"] if os.name == "posix" else ["tcp"])
def server(request: pytest.FixtureRequest, store: Watched, tmp_path: Path) -> Iterator[StoreServer]:
    with serve_store(store, tmp_path, transport=request.param) as server:
        yield server


def test_a_client_that_is_killed_amid_scans_frees_them(server: StoreServer, store: Watched, tmp_path: Path) -> None:
    program = f"""{BEGIN}
scans = [store.scan() for _ in range(5)]
print([next(scan).id for scan in scans], flush=True)
sys.stdin.read()
"""
    with child_process(program, str(tmp_path)) as child:
        assert (store.scans, server.clients) == (5, 1)
        child.kill()
        assert eventually(lambda: (store.scans, server.clients) == (0, 0))
    assert store.count() == 2_500


def test_a_client_that_is_killed_amid_an_upsert_changes_nothing(
    server: StoreServer, store: Watched, tmp_path: Path
) -> None:
    """Half of its points would be points that nobody reported."""
    program = f"""{BEGIN}
records = [Record(number, {{"text": "x" * 5_000}}) for number in range(5_000, 10_000)]
channel = store._connections.take()
send, sent = channel.socket.sendall, 0
class Cut:
    def sendall(self, data):
        send(bytes(data)[: len(data) // 2])
        print("half", flush=True)
        sys.stdin.read()
channel.socket = Cut()
store._connections.give(channel)
store.upsert(records, np.ones((5_000, 2), np.float32))
"""
    with child_process(program, str(tmp_path)) as child:
        child.kill()
        assert eventually(lambda: server.clients == 0)
    assert store.count() == 2_500
    with closing(connect_store(tmp_path)) as client:
        client.upsert([Record(5_000)], ROW)
        assert client.count() == 2_501


def test_a_client_that_is_killed_ends_its_optimization(server: StoreServer, store: Watched, tmp_path: Path) -> None:
    program = f"""{BEGIN}
ticks = []
store.optimize(on_tick=lambda: ticks.append(1) or (len(ticks) == 1 and print("begun", flush=True)))
"""
    with child_process(program, str(tmp_path)) as child:
        assert store.optimizing.wait(60)
        child.kill()
        assert store.ended.wait(60)
    assert eventually(lambda: server.clients == 0)


def test_nothing_that_was_reported_is_lost_when_the_server_is_killed(tmp_path: Path) -> None:
    """Five times, amid writes of several threads; clients go on with the next server as if nothing had been."""
    code = f"from multimodal_search import QdrantEdgeStore; store = QdrantEdgeStore({str(tmp_path / 'index')!r})"
    place = tmp_path / "place"
    stored: list[int] = []
    deleted: list[int] = []
    failed: list[BaseException] = []
    with contextlib.ExitStack() as stack:
        for life in range(5):
            with served_in_child(code, place) as child:
                if life == 0:
                    client = stack.enter_context(closing(connect_store(place)))
                client.ensure(SCHEMA)
                enough = threading.Event()

                def write(
                    thread: int, client: Any = client, life: int = life, enough: threading.Event = enough
                ) -> None:
                    first = (life * 4 + thread) * 100_000
                    for number in range(first, first + 100_000, 10):
                        try:
                            client.upsert([Record(number + at) for at in range(10)], np.tile(ROW, (10, 1)))
                            stored.extend(range(number, number + 10))
                            client.delete([number])
                            deleted.append(number)
                        except StoreUnavailableError as error:
                            failed.append(error)
                            return
                        if number - first > 200:
                            enough.set()

                with ThreadPoolExecutor(4) as threads:
                    calls = [threads.submit(write, thread) for thread in range(4)]
                    assert enough.wait(60)
                    child.kill()
                    for call in calls:
                        call.result(60)
    assert len(failed) == 20
    with closing(QdrantEdgeStore(tmp_path / "index")) as store:
        assert store.ensure(SCHEMA) == SCHEMA
        left = {record.id for record in store.scan(fields=())}
    assert set(stored) - set(deleted) <= left | unacknowledged(deleted, stored)
    assert not left & set(deleted)


def unacknowledged(deleted: list[int], stored: list[int]) -> set[int]:
    """Points whose deletion was under way when the server was killed: it may have been done."""
    return {number for number in stored if number % 10 == 0} - set(deleted)


@HAS_STOP
def test_a_server_that_is_stopped_is_waited_for_a_bounded_time(tmp_path: Path, monkeypatch: Any) -> None:
    code = "from multimodal_search import MemoryStore; store = MemoryStore()"
    with served_in_child(code, tmp_path) as child, closing(connect_store(tmp_path)) as client:
        client.ensure(SCHEMA)
        monkeypatch.setattr(connections, "SILENT_S", 0.2)
        monkeypatch.setattr(connections, "_CONNECT_S", 0.3)
        with closing(connect_store(tmp_path)) as impatient:
            assert impatient.count() == 0
            child.send_signal(signal.SIGSTOP)
            try:
                os.waitpid(child.pid, os.WUNTRACED)
                with pytest.raises(StoreUnavailableError, match=r"has not answered for 0\.3 s: it may be") as caught:
                    impatient.count()
                assert caught.value.trouble == "time-out"
            finally:
                child.send_signal(signal.SIGCONT)
            assert impatient.count() == client.count() == 0


def test_a_long_call_is_waited_for(server: StoreServer, store: Watched, tmp_path: Path, monkeypatch: Any) -> None:
    """As long as the server is there: however long nothing is heard of the call itself."""
    looks = threading.Semaphore(0)
    look = connections.Connections.look

    def counted(self: connections.Connections) -> None:
        look(self)
        looks.release()

    def wait_for_looks(where: Filter | None = None) -> int:
        for _ in range(3):
            assert looks.acquire(timeout=60)
        return 7

    monkeypatch.setattr(connections, "SILENT_S", 0.05)
    monkeypatch.setattr(connections.Connections, "look", counted)
    store.count = wait_for_looks  # type: ignore[method-assign]  # of this one
    with closing(connect_store(tmp_path)) as client:
        assert client.count() == 7


@HAS_FORK
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Python 3.12 on, about a fork beside threads
def test_a_forked_child_has_connections_of_its_own(server: StoreServer, tmp_path: Path) -> None:
    """Two processes that read answers from one socket would get those of each other."""
    client = connect_store(tmp_path)
    scan = client.scan()
    assert next(scan).id == 0
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def ask() -> None:
        found = [client.get([number])[0].id for number in range(200)]  # type: ignore[union-attr]  # they are there
        theirs.send((found, [record.id for record in scan]))

    child = context.Process(target=ask)
    child.start()
    assert [client.get([number])[0].id for number in range(200)] == list(range(200))  # type: ignore[union-attr]
    assert ours.recv() == (list(range(200)), list(range(1, 2_500)))
    child.join(60)
    assert child.exitcode == 0
    assert [record.id for record in scan] == list(range(1, 2_500))
    client.close()
    assert eventually(lambda: server.clients == 0)


@HAS_FORK
def test_a_forked_child_does_not_keep_its_parent_alive(server: StoreServer, store: Watched, tmp_path: Path) -> None:
    """The server notices the death of a client whose child lives on, and holds nothing for it."""
    program = f"""{BEGIN}
import os
scan = store.scan()
next(scan)
if os.fork():
    print("forked", flush=True)
else:
    os.close(0)
    import time
    time.sleep(600)
sys.stdin.read()
"""
    with child_process(program, str(tmp_path)) as child:
        try:
            assert (store.scans, server.clients) == (1, 1)
            (grandchild,) = children_of(child.pid)
            child.kill()
            assert eventually(lambda: (store.scans, server.clients) == (0, 0))
        finally:
            os.kill(grandchild, signal.SIGKILL)


@HAS_FORK
def test_a_forked_child_of_the_server_is_no_server(tmp_path: Path) -> None:
    """It would accept connections that nobody serves, for as long as it lives."""
    program = """
import os, sys, time
from multimodal_search import MemoryStore
from multimodal_search.stores.local_socket import connect_store, serve_store
store = MemoryStore()
server = serve_store(store, sys.argv[1])
client = connect_store(sys.argv[1])
client.stored_schema()
if os.fork():
    print("forked", flush=True)
    sys.stdin.read()
else:
    os.close(0)
    server.close()  # it is the parent's
    time.sleep(600)
"""
    with child_process(program, str(tmp_path)) as child:
        (grandchild,) = children_of(child.pid)
        try:
            with closing(connect_store(tmp_path)) as client:
                client.ensure(SCHEMA)
                child.kill()
                child.wait()
                with pytest.raises(StoreUnavailableError, match="no process serves the store"):
                    client.count()
            with closing(MemoryStore()) as store, serve_store(store, tmp_path):
                connect_store(tmp_path).close()
        finally:
            os.kill(grandchild, signal.SIGKILL)


def children_of(pid: int) -> list[int]:
    """The children of a process."""
    if sys.platform != "linux":
        pytest.skip("it asks /proc who its children are")
    children: list[int] = []

    def found() -> bool:
        children[:] = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return bool(children)

    assert eventually(found)
    return children


def test_a_process_that_exits_leaves_nothing(tmp_path: Path) -> None:
    """Without a call of `close`, and with a client that is connected."""
    program = """
import sys
from multimodal_search import MemoryStore
from multimodal_search.stores.local_socket import serve_store
store = MemoryStore()
server = serve_store(store, sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
"""
    with child_process(program, str(tmp_path)) as child, closing(connect_store(tmp_path)) as client:
        client.ensure(SCHEMA)
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.close()
        assert child.wait(60) == 0
        assert not list(tmp_path.iterdir())
        with pytest.raises(StoreError, match="no process serves"):
            client.count()
