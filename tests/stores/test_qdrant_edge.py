"""The in-process engine on a real disk: who may open a folder, what survives, what `optimize` does."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from multimodal_search import (
    ContentError,
    MissingExtraError,
    QdrantEdgeStore,
    QueryError,
    Record,
    SchemaMismatchError,
    StoreClosedError,
    StoreError,
    StoreLockedError,
    SupportsOptimize,
)
from multimodal_search.stores.qdrant_edge import disk_space
from multimodal_search.testing._filter_cases import CASES, PAYLOADS
from multimodal_search.types import FloatArray, StoreSchema

SCHEMA = StoreSchema(model="tiny", fingerprint="tiny-1", dimension=8)
T = TypeVar("T")

PREAMBLE = """
import os, sys, time
import numpy as np
from multimodal_search import QdrantEdgeStore, Record, MultimodalSearchError
from multimodal_search.types import StoreSchema
store = QdrantEdgeStore(sys.argv[1])
SCHEMA = StoreSchema(model="tiny", fingerprint="tiny-1", dimension=8)
def vectors(start, stop):
    return np.random.default_rng(start).normal(size=(stop - start, 8)).astype(np.float32)
def write(start, stop):
    store.upsert([Record(n, {"n": n}) for n in range(start, stop)], vectors(start, stop))
def say(*words):
    print(*words, flush=True)
"""

posix = pytest.mark.skipif(os.name != "posix", reason="needs fork and SIGKILL")


def start(code: str, path: Path) -> subprocess.Popen[str]:
    """Another Python program, with `store` on `path`."""
    script = PREAMBLE + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(program: subprocess.Popen[str]) -> list[str]:
    """The lines it wrote, once it has ended well."""
    output, complaint = program.communicate(timeout=60)
    assert program.returncode == 0, complaint
    return output.splitlines()


def wait_for(line: str, program: subprocess.Popen[str]) -> None:
    assert program.stdout is not None
    assert program.stdout.readline().strip() == line


def rows(count: int, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)


def opened(path: Path) -> QdrantEdgeStore:
    store = QdrantEdgeStore(path)
    store.ensure(SCHEMA)
    return store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "photos.index"


HOLD = """
store.ensure(SCHEMA)
write(0, 10)
say("open")
sys.stdin.read()
store.close()
"""


# --- the folder


def test_the_folder_says_what_it_holds(path: Path) -> None:
    """A person who finds the folder can tell what it is, and what to open it with."""
    opened(path).close()
    ours = ["checks", "files.json", "lock", "notes", "optimize.lock", "schema.json", "shard"]
    assert sorted(entry.name for entry in path.iterdir()) == ours
    assert json.loads((path / "schema.json").read_text()) == SCHEMA.to_dict()


def test_a_folder_can_be_moved(path: Path, tmp_path: Path) -> None:
    """An index lives beside the photos, and moves with them."""
    store = opened(path)
    store.upsert([Record(1, {"a": 1})], rows(1))
    store.close()
    moved = tmp_path / "other disk" / "Fotos ä"
    moved.parent.mkdir()
    path.rename(moved)
    store = opened(moved)
    assert store.get([1]) == [Record(1, {"a": 1})]
    store.close()


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    """`QdrantEdgeStore("~/photos")` is a slip, and must not litter the images."""
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(StoreError, match=r"other files \(holiday.jpg\)"):
        opened(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["holiday.jpg"]
    with pytest.raises(StoreError, match="not a folder"):
        opened(tmp_path / "holiday.jpg")
    with pytest.raises(StoreError, match="not a folder"):
        opened(tmp_path / "holiday.jpg" / "index")


def test_an_empty_folder_will_do(path: Path) -> None:
    path.mkdir()
    (path / ".DS_Store").write_bytes(b"")
    opened(path).close()


@pytest.mark.parametrize("left", ["shard.new", "shard", "nothing"])
def test_a_creation_that_was_killed_is_begun_again(path: Path, left: str) -> None:
    """Whatever moment it died at, no hand is needed: `schema.json` is written last."""
    opened(path).close()
    (path / "schema.json").unlink()
    if left == "shard.new":
        (path / "shard").rename(path / "shard.new")
        shutil.rmtree(path / "shard.new" / "segments")
    elif left == "nothing":
        shutil.rmtree(path / "shard")
    store = QdrantEdgeStore(path)
    other = StoreSchema(model="other", fingerprint="other-1", dimension=3)
    assert store.ensure(other) == other
    store.upsert([Record(1)], np.ones((1, 3), np.float32))
    assert store.count() == 1
    store.close()
    assert not (path / "shard.new").exists()


def test_a_lost_schema_is_no_reason_to_delete_the_points(path: Path) -> None:
    store = opened(path)
    store.upsert([Record(1)], rows(1))
    store.close()
    schema = (path / "schema.json").read_text()
    (path / "schema.json").unlink()
    with pytest.raises(StoreError, match=r"1 points but has lost its schema\.json"):
        opened(path)
    (path / "schema.json").write_text(schema)
    store = opened(path)
    assert store.count() == 1
    store.close()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"model": "m"}', "\0"])
def test_a_damaged_schema_is_named(path: Path, text: str) -> None:
    opened(path).close()
    (path / "schema.json").write_text(text)
    with pytest.raises(StoreError, match=r"schema.json cannot be read"):
        opened(path)


@pytest.mark.parametrize("victim", ["segment.json", "deleted/status.dat", "edge_config.json"])
def test_a_damaged_shard_is_named(path: Path, victim: str) -> None:
    """Also where the engine panics, which raises something that is no `Exception`."""
    store = opened(path)
    store.upsert([Record(number, {"filename": "a"}) for number in range(100)], rows(100))
    store.close()
    damaged = next((path / "shard").rglob(victim))
    damaged.write_bytes(b"\xff" * (damaged.stat().st_size // 2))
    with pytest.raises(StoreError, match="index again"):
        opened(path)
    shutil.rmtree(path)
    opened(path).close()  # the failures have left no lock behind


def test_rubbish_of_a_killed_optimization_is_removed(path: Path) -> None:
    """The engine never does, and it is 43 MB a time at 64,000 points."""
    opened(path).close()
    rubbish = path / "shard" / "temp_segments" / "1234"
    rubbish.mkdir(parents=True)
    (rubbish / "chunk_0.mmap").write_bytes(b"\0" * 1000)
    opened(path).close()
    assert not rubbish.parent.exists()


def test_a_full_disk_is_noticed_before_it_kills_the_process(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine writes through mapped memory: without room on the disk, that is a SIGBUS, not an error."""
    store = opened(path)
    store.upsert([Record(1)], rows(1))
    monkeypatch.setattr(disk_space, "SPARE_BYTES", 2**62)
    with pytest.raises(StoreError, match="is full"):
        store.upsert([Record(2)], rows(1))
    with pytest.raises(StoreError, match="is full"):
        store.delete([1])
    with pytest.raises(StoreError, match="is full"):
        store.optimize()
    assert store.count() == 1
    monkeypatch.undo()
    store.upsert([Record(2)], rows(1))
    assert store.count() == 2
    store.close()


def test_payloads_that_the_engine_cannot_hold_are_named(path: Path) -> None:
    store = opened(path)
    for wrong in ({"a": {1, 2}}, {"a": float("nan")}, {"name": "caf\udce9.jpg"}):
        with pytest.raises(ContentError, match="77"):
            store.upsert([Record(1), Record(77, wrong)], rows(2))
    with pytest.raises(QueryError, match=r"a mapping or the store's own (qdrant_edge\.)?Filter, not str"):
        store.count("n > 1")
    store.close()


def test_the_engines_own_filters_pass_through(path: Path) -> None:
    """What the neutral filter cannot say, a circle on the globe for one."""
    import qdrant_edge as edge

    store = opened(path)
    places = [{"at": {"lon": 13.4, "lat": 52.5}}, {"at": {"lon": 2.35, "lat": 48.86}}]
    store.upsert([Record(number, place) for number, place in enumerate(places)], rows(2))
    circle = edge.GeoRadius(edge.GeoPoint(13.0, 52.0), 100_000.0)
    near = edge.Filter(must=[edge.FieldCondition("at", geo_radius=circle)])
    assert [record.id for record in store.scan(where=near)] == [0]
    assert store.search(rows(1), limit=5, where=near)[0][0].id == 0
    store.close()


def test_a_missing_extra_names_the_command(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setitem(sys.modules, "qdrant_edge", None)
    with pytest.raises(MissingExtraError, match=r'pip install "multimodal-search\[edge\]"'):
        QdrantEdgeStore(path)


def test_before_ensure_there_is_nothing(path: Path) -> None:
    store = QdrantEdgeStore(path)
    with pytest.raises(StoreError, match=r"call ensure\(schema\)"):
        store.count()
    assert not path.exists()
    store.close()
    with pytest.raises(StoreClosedError):
        store.ensure(SCHEMA)


def test_a_point_that_has_lost_its_vector_is_an_error_and_reading_its_payload_is_none(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(path)
    store.upsert([Record(1, {"label": "a"})], np.ones((1, 8), np.float32))
    monkeypatch.setattr("multimodal_search.stores.qdrant_edge.store.vector_of", lambda point: None)
    assert store.get([1]) == [Record(1, {"label": "a"})]
    with pytest.raises(StoreError, match=r"the point 1 in .* has lost its vector: .*verify"):
        store.get([1], with_vectors=True)
    store.close()


# --- one process at a time


def test_the_message_says_who_holds_the_folder_and_what_to_do(path: Path) -> None:
    """Users of local Qdrant stand before a lock that nobody explains."""
    holder = start(HOLD, path)
    wait_for("open", holder)
    with pytest.raises(StoreLockedError) as caught:
        opened(path)
    said = str(caught.value)
    assert f"process {holder.pid} on {socket.gethostname()}, since 20" in said
    assert str(caught.value.holder).startswith(f"process {holder.pid} on {socket.gethostname()}, since 20")
    assert "close it there" in said
    assert "QdrantStore" in said
    assert finish(holder) == []
    store = opened(path)  # the refused attempt has harmed neither of them
    assert store.count() == 10
    store.close()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks Linux which files are open")
@pytest.mark.parametrize("failing", ["Opening._make_checks", "index_kinds", "Place.of"])
def test_what_fails_while_a_folder_is_opened_leaves_no_file_of_it_open(
    failing: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is free then: an engine that writes to its files later, as it does at its end, would harm the next."""
    store = opened(path)
    store.upsert([Record(1, {})], np.ones((1, 8), np.float32))
    store.close()
    (path / "checks").unlink()
    with monkeypatch.context() as patched:

        def fail(*_: object) -> None:
            raise OSError("no such device")

        patched.setattr(f"multimodal_search.stores.qdrant_edge.opening.{failing}", fail)
        with pytest.raises((StoreError, OSError), match="no such device") as caught:
            opened(path)
        links = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        assert [link for link in links if link.is_relative_to(path)] == []
        assert caught.value  # which holds the frames of all that had been called
    store = opened(path)
    assert store.count() == 1
    store.close()


@posix
def test_a_lock_ends_with_its_process(path: Path) -> None:
    """There is no file to delete by hand after a crash, and no data lost."""
    holder = start(HOLD, path)
    wait_for("open", holder)
    holder.kill()
    holder.communicate()
    assert (path / "lock.json").exists()
    store = opened(path)
    assert store.count() == 10
    store.close()


def test_the_message_does_not_believe_what_is_stale(path: Path) -> None:
    """The owner's file may be left from one that crashed before, or be no file of ours at all."""
    holder = start(HOLD, path)
    wait_for("open", holder)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for text, said in (
        (json.dumps({"pid": ended.pid, "host": socket.gethostname(), "since": "2026-01-01"}), "now ended"),
        ("gibberish", "has not said its name"),
    ):
        (path / "lock.json").write_text(text)
        with pytest.raises(StoreLockedError, match=said):
            opened(path)
    assert finish(holder) == []


@posix
def test_a_folder_that_may_not_be_written_to_is_said_in_words(path: Path) -> None:
    """An index on a read-only disk, or somebody else's: what to do, and no number of an error."""
    opened(path).close()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "photos.index"
        shutil.copytree(path, folder)
        (folder / "lock").unlink(missing_ok=True)
        folder.chmod(0o555)
        Path(place).chmod(0o755)
        user = os.geteuid()
        if user == 0:  # who may write everywhere
            os.seteuid(65534)
        try:
            with pytest.raises(StoreError) as caught:
                opened(folder)
        finally:
            os.seteuid(user)
            folder.chmod(0o755)
    assert str(caught.value) == (
        f"{folder} cannot be locked (Permission denied): an index needs a folder that it can write to, even to be "
        "searched. Make the folder writable, or copy it to a place that is"
    )


def test_stores_of_one_process_share_the_folder(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two parts of a program open the same index, by whatever path; the last one to close lets go."""
    first = opened(path)
    (tmp_path / "link").symlink_to(path, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    second, third = opened(Path("photos.index")), opened(tmp_path / "link")
    first.upsert([Record(1)], rows(1))
    assert second.count() == third.count() == 1
    first.close()
    first.close()
    assert second.count() == 1
    with pytest.raises(StoreClosedError):
        first.count()
    second.close()
    assert finish(start('store.ensure(SCHEMA) if 0 else say("locked?")\n', path)) == ["locked?"]
    with pytest.raises(AssertionError, match="StoreLockedError"):
        finish(start("store.ensure(SCHEMA)", path))
    third.close()
    assert finish(start("store.ensure(SCHEMA); say(store.count()); store.close()", path)) == ["1"]


def test_a_folder_deleted_while_open_is_noticed(path: Path) -> None:
    """In a notebook, somebody removes the folder to start afresh, and forgets the open index."""
    store = opened(path)
    shutil.rmtree(path)
    with pytest.raises(StoreError, match="was deleted or moved while this process had it open"):
        opened(path)
    store.close()
    opened(path).close()


def test_an_exit_without_close_loses_nothing(path: Path) -> None:
    assert finish(start("store.ensure(SCHEMA); write(0, 700); say('done')", path)) == ["done"]
    store = opened(path)
    assert store.count() == 700
    store.close()


# --- forks


@posix
def test_a_forked_child_keeps_its_hands_off(path: Path) -> None:
    """Left to itself, the engine in the child overwrites the parent's newer files when the child merely exits."""
    lines = finish(
        start(
            """
            import warnings
            warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 and later warn of forks beside threads
            store.ensure(SCHEMA)
            write(0, 1000)
            pid = os.fork()
            if pid == 0:
                time.sleep(1)
                for call in (store.count, lambda: store.search(vectors(0, 1), limit=1), store.optimize,
                             lambda: QdrantEdgeStore(sys.argv[1]).ensure(SCHEMA)):
                    try:
                        call()
                    except MultimodalSearchError as error:
                        say(type(error).__name__, "forked from" in str(error), f"process {os.getppid()}" in str(error))
                store.close()
                del store
                sys.exit(0)
            write(1000, 2000)
            store._open._shard.flush()
            write(2000, 3000)
            os.waitpid(pid, 0)
            write(3000, 4000)
            store.close()
            store = QdrantEdgeStore(sys.argv[1])
            store.ensure(SCHEMA)
            say(store.count(), len([r for r in store.scan() if r.payload == {"n": r.id}]))
            store.close()
            """,
            path,
        )
    )
    assert lines == ["StoreError True True"] * 3 + ["StoreLockedError False True", "4000 4000"]


@posix
def test_a_forked_child_that_lives_on_is_in_nobodys_way(path: Path) -> None:
    """A worker of a pool, or of a web server, holds none of the engine's locks, which outlive the parent's closing."""
    lines = finish(
        start(
            """
            import warnings
            warnings.simplefilter("ignore", DeprecationWarning)
            store.ensure(SCHEMA)
            write(0, 10)
            pid = os.fork()
            if pid == 0:
                time.sleep(60)
                os._exit(0)
            store.close()
            store = QdrantEdgeStore(sys.argv[1])
            store.ensure(SCHEMA)
            say(store.count())
            write(10, 20)
            store.optimize()
            say(store.count())
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            store.close()
            """,
            path,
        )
    )
    assert lines == ["10", "20"]


# --- durability


@posix
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_kill_9_loses_nothing_that_was_acknowledged(path: Path, seed: int) -> None:
    """The promise of `upsert`, at a moment that nobody chose."""
    writer = start(
        """
        store.ensure(SCHEMA)
        say("open")
        for start in range(0, 10**9, 137):
            write(start, start + 137)
            if start % 274:
                store.delete([start])
            say(start)
        """,
        path,
    )
    wait_for("open", writer)
    time.sleep(random.Random(seed).uniform(0.1, 1.5))
    writer.kill()
    output, _ = writer.communicate()
    acknowledged = [int(line) for line in output.split("\n")[:-1]]
    assert acknowledged, "it wrote nothing in that time"
    store = opened(path)
    stored = {record.id: record for record in store.scan()}
    for first in acknowledged:
        ids = range(first + (first % 274 != 0), first + 137)
        assert [stored[each].payload["n"] for each in ids] == list(ids)
        assert (first in stored) == (first % 274 == 0)
    last = acknowledged[-1]
    expected = np.random.default_rng(last).normal(size=(137, 8)).astype(np.float32)
    assert store.search(expected[5:6], limit=1)[0][0].id == last + 5
    store.upsert([Record(1, {"new": True})], rows(1))
    assert store.get([1]) == [Record(1, {"new": True})]
    store.close()


# --- optimizing


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12,000 points, not optimized, among them the payloads that filters are tried on, in an indexed field."""
    path = tmp_path_factory.mktemp("large") / "index"
    store = opened(path)
    vectors = rows(12_000)
    store.upsert([Record(number, {"n": number}) for number in range(12_000)], vectors)
    indexed = [
        {"filename" if key == "k" else key: value for key, value in payload.items()} for payload in PAYLOADS.values()
    ]
    store.upsert([Record(number, payload) for number, payload in enumerate(indexed)], vectors[: len(indexed)])
    store.close()
    return path


@pytest.fixture
def copy(large: Path, path: Path) -> Path:
    """A copy of it, to work on."""
    shutil.copytree(large, path)
    return path


def best(store: QdrantEdgeStore, queries: FloatArray) -> list[list[int | str]]:
    return [[match.id for match in page] for page in store.search(queries, limit=5)]


def test_optimizing_changes_speed_and_nothing_else(copy: Path) -> None:
    store = opened(copy)
    assert isinstance(store, SupportsOptimize)
    queries = rows(20, seed=9)
    exact = best(store, queries)
    assert store.needs_optimize
    assert store.optimize()
    assert not store.needs_optimize
    assert not store.optimize()
    found = best(store, queries)
    assert np.mean([len(set(a) & set(b)) / 5 for a, b in zip(exact, found, strict=True)]) > 0.95
    assert store.count() == 12_000
    store.upsert([Record(7, {"new": True})], queries[:1])
    assert store.search(queries[:1], limit=1)[0][0].payload == {"new": True}
    assert not store.needs_optimize
    store.close()
    store = opened(copy)
    assert store.get([7]) == [Record(7, {"new": True})]
    assert not store.needs_optimize
    store.close()


def test_replacing_the_points_calls_for_optimizing_again(copy: Path) -> None:
    """The engine still counts the old vectors as indexed ones, while the new ones are not."""
    store = opened(copy)
    assert store.optimize()
    store.upsert([Record(number) for number in range(9_999)], rows(9_999, seed=1))
    assert not store.needs_optimize
    store.upsert([Record(number) for number in range(9_999, 12_000)], rows(2_001, seed=1))
    assert store.needs_optimize
    assert store.optimize()
    assert not store.needs_optimize
    store.close()


def test_filters_mean_the_same_with_an_index_before_and_after(copy: Path) -> None:
    """The engine answers from payloads, an index in memory, or one on disk: three programs, one meaning."""
    store = opened(copy)
    names = list(PAYLOADS)
    for _ in range(2):
        for where, expected in CASES:
            on_filename = json.loads(
                json.dumps(where, default=lambda time: time.isoformat()).replace('"k', '"filename')
            )
            if "k" in where and isinstance(where["k"], tuple):
                on_filename = {"filename": list(where["k"])}
            found = {names[int(each.id)] for each in store.scan(where={"and": [on_filename, {"n": None}]})}
            assert found == expected - {"two fields"}, where
        assert store.optimize() or not store.needs_optimize
    store.close()


def test_the_process_goes_on_while_it_optimizes(copy: Path) -> None:
    """In this process, the engine would stop every thread: no progress, no Ctrl-C, no web page."""
    store = opened(copy)
    ticks, counted = [], []
    work = threading.Thread(target=store.optimize)
    work.start()
    waiting = threading.Thread(target=lambda: counted.append(store.count()))
    waiting.start()  # another call waits, and is then answered
    while work.is_alive():
        ticks.append(time.monotonic())
        time.sleep(0.01)
    waiting.join()
    assert counted == [12_000]
    assert len(ticks) > 10
    assert max(np.diff(ticks)) < 1
    store.close()


@posix
def test_an_optimization_that_is_killed_is_an_error_and_no_loss(copy: Path) -> None:
    store = opened(copy)
    failed: list[StoreError] = []

    def optimize() -> None:
        try:
            store.optimize()
        except StoreError as error:
            failed.append(error)

    work = threading.Thread(target=optimize)
    work.start()
    os.kill(_child_of(copy), signal.SIGKILL)
    work.join()
    assert "status -9. Its data is intact" in str(failed[0])
    assert store.count() == 12_000
    assert store.needs_optimize
    assert store.optimize()
    store.close()


@posix
def test_a_killed_parent_leaves_no_chance_for_two_at_once(copy: Path) -> None:
    """The child still works on the shard; whoever comes next is told to wait for it."""
    parent = start("store.ensure(SCHEMA); store.optimize()", copy)
    child = _child_of(copy)
    os.kill(child, signal.SIGSTOP)  # else it might be done too soon for this test
    parent.kill()
    parent.wait()
    with pytest.raises(StoreLockedError, match=f"being optimized by process {child} .*ends by itself") as caught:
        opened(copy)
    assert f"process {child} " in str(caught.value.holder)
    os.kill(child, signal.SIGCONT)
    store = _eventually(lambda: opened(copy))
    parent.communicate()
    assert store.count() == 12_000
    store.close()


@posix
def test_ctrl_c_ends_an_optimization(copy: Path) -> None:
    """Within a second, with the child gone and the store usable."""
    program = start(
        """
        store.ensure(SCHEMA)
        say("open")
        try:
            store.optimize()
        except KeyboardInterrupt:
            say("interrupted", store.count())
        store.close()
        """,
        copy,
    )
    wait_for("open", program)
    child = _child_of(copy)
    os.kill(child, signal.SIGSTOP)
    pressed = time.monotonic()
    program.send_signal(signal.SIGINT)
    assert finish(program) == ["interrupted 12000"]
    assert time.monotonic() - pressed < 5
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_nothing_in_the_users_folder_comes_in_the_childs_way(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """People call their scripts `filelock.py` and `json.py`."""
    for name in ("filelock.py", "json.py", "qdrant_edge.py"):
        (path.parent / name).write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(path.parent)
    store = opened(path)
    assert not store.optimize()  # it ran, and found nothing to do
    store.close()


def test_a_vector_of_another_length_is_refused_by_name(path: Path) -> None:
    store = opened(path)
    with pytest.raises(SchemaMismatchError, match=r"8 dimensions \(tiny\), these have 9"):
        store.search(np.ones((1, 9), np.float32), limit=1)
    store.close()


def _child_of(path: Path) -> int:
    """The process that optimizes the folder, once there is one that is not this one."""

    def find() -> int:
        pid = int(json.loads((path / "optimize.lock.json").read_text())["pid"])
        command = Path(f"/proc/{pid}/cmdline")
        if command.exists() and b"qdrant_edge.optimize" not in command.read_bytes():
            raise StoreError("still the opening process")
        return pid

    return _eventually(find)


def _eventually(attempt: Callable[[], T]) -> T:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with suppress(StoreError, OSError, ValueError):
            return attempt()
        time.sleep(0.01)
    return attempt()
