"""What an index says of its own state: `status`, `verify`, and what opening notices of damaged files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from tiny_embedder import TinyEmbedder

from multimodal_search import (
    AsyncMultimodalIndex,
    ColorEmbedder,
    MemoryStore,
    MultimodalIndex,
    Progress,
    QdrantEdgeStore,
    QdrantStore,
    Record,
    SchemaMismatchError,
    StoreError,
    VectorStore,
    VerifyReport,
)
from multimodal_search._indexing.integrity import verify
from multimodal_search.stores.qdrant_edge import checksums as _qdrant_edge_checks
from multimodal_search.stores.qdrant_edge import disk_space
from multimodal_search.stores.qdrant_edge import inventory as _qdrant_edge_inventory
from multimodal_search.stores.qdrant_edge.checksums import Expected, PointChecks
from multimodal_search.types import FloatArray, StoreSchema

HERE = Path(__file__).parent

SCHEMA = StoreSchema(model="tiny", fingerprint="tiny-1", dimension=8)
POINTS = 600

posix = pytest.mark.skipif(os.name != "posix", reason="needs fork and SIGKILL")


def rows(count: int, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)


def payload(number: int) -> dict[str, object]:
    return {"filename": f"{number % 7}/{number}.jpg", "n": number, "in": {"here": [number, 0.1]}}


def opened(path: Path) -> QdrantEdgeStore:
    store = QdrantEdgeStore(path)
    store.ensure(SCHEMA)
    return store


def verified(store: VectorStore) -> VerifyReport:
    return verify(store, SCHEMA, lambda event: None)


def filled(path: Path, points: int = POINTS) -> QdrantEdgeStore:
    """Points that were replaced and deleted, two sessions, and a note."""
    store = opened(path)
    store.upsert([Record(number, {"old": number}) for number in range(points // 2)], rows(points // 2, seed=1))
    store.set_index_metadata("calibration", "some text")
    store.close()
    store = opened(path)
    store.upsert([Record(number, payload(number)) for number in range(points + 5)], rows(points + 5))
    store.delete(range(points, points + 5))
    return store


@pytest.fixture(scope="module")
def closed_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index that was closed."""
    path = tmp_path_factory.mktemp("closed") / "index"
    filled(path).close()
    return path


@pytest.fixture(scope="module")
def killed_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index whose process was killed after its last write."""
    if os.name != "posix":
        pytest.skip("needs fork and SIGKILL")
    path = tmp_path_factory.mktemp("killed") / "index"
    code = "import os, sys, pathlib; from test_verify import filled; filled(pathlib.Path(sys.argv[1])); os._exit(0)"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, cwd=HERE)
    return path


@pytest.fixture(scope="module")
def optimized_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with a graph, and points written since."""
    path = tmp_path_factory.mktemp("optimized") / "index"
    store = filled(path, 10_500)
    assert store.optimize()
    store.upsert([Record(3, payload(3))], rows(4)[3:])
    store.close()
    return path


def asked(path: Path) -> QdrantEdgeStore:
    """An optimized index with payload indexes of each kind, with and without counted files."""
    store = opened(path)
    rich = [Record(number, payload(number) | _fields(number)) for number in range(10_500)]
    store.upsert(rich, rows(10_500))
    assert store.optimize()
    assert store.count({"in.price": {"gte": 1_000.0}}) == 4_500
    assert store.count({"taken": {"lt": datetime(2020, 2, 1, tzinfo=timezone.utc)}}) == 1_488
    assert store.count({"flag": True}) == 5_250
    assert store.count({"in.here": "house"}) == 10_500
    store.upsert(rich[3_000:3_500], rows(10_500)[3_000:3_500])
    return store


def _fields(number: int) -> dict[str, object]:
    seconds = timedelta(seconds=1) * 3_600 * number
    taken = (datetime(2020, 1, 1, tzinfo=timezone.utc) + seconds % timedelta(days=365)).isoformat()
    here = ["house", f"no {number}"]
    return {"taken": taken, "flag": number % 2 == 0, "in": {"here": here, "price": number % 3_500 / 2}}


@pytest.fixture(scope="module")
def asked_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index whose process was killed when it had made payload indexes."""
    if os.name != "posix":
        pytest.skip("needs fork and SIGKILL")
    path = tmp_path_factory.mktemp("asked") / "index"
    code = "import os, sys, pathlib; from test_verify import asked; asked(pathlib.Path(sys.argv[1])); os._exit(0)"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, cwd=HERE)
    return path


def outcome(path: Path, points: int) -> str:
    """What comes of opening an index, verifying it, and asking it for everything."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            store = opened(path)
        except StoreError as error:
            return "refused" if str(path) in str(error) else f"wrong: {error}"
    try:
        report = verified(store)
        if not report.ok:
            assert report.advice
            return "found"
        vectors = rows(points)
        records = store.get(range(points))
        everything = (
            store.count() == points
            and all(record is not None and record.payload == payload(at) for at, record in enumerate(records))
            and [page[0].id for page in store.search(vectors[::20], limit=1)] == list(range(0, points, 20))
            and all(store.count({"filename": str(payload(at)["filename"])}) == 1 for at in range(0, points, 50))
            and store.get_index_metadata("calibration") == "some text"
        )
        return "right" if everything else "wrong"
    finally:
        with suppress(StoreError):  # what is damaged may not be flushed either
            store.close()


def _damages(path: Path) -> Iterator[tuple[Path, Callable[[Path], None]]]:
    for file in sorted(each for each in path.rglob("*") if each.is_file() and "lock" not in each.name):
        size, name = file.stat().st_size, file.relative_to(path)
        yield name, Path.unlink
        if size:
            yield name, lambda copy, size=size: os.truncate(copy, size // 2)
        content = np.flatnonzero(np.frombuffer(file.read_bytes(), np.uint8))
        if len(content):
            middle = int(content[len(content) // 2])
            yield name, lambda copy, at=middle: _garble(copy, at)


def _garble(path: Path, at: int, count: int = 400) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(at)
        file.write(np.random.default_rng(at).bytes(min(count, size - at)))


def _copy(index: Path, copy: Path) -> None:
    """Without the holes that most of the engine's files consist of."""

    def without_holes(source: str, target: str) -> None:
        size, blocks = Path(source).stat().st_size, _qdrant_edge_inventory.filled_blocks(Path(source))
        with Path(target).open("wb") as file:
            for at, block in blocks:
                file.seek(at)
                file.write(block)
            file.truncate(size)

    shutil.copytree(index, copy, copy_function=without_holes)


def _try_all(path: Path, points: int, copy: Path, every: int) -> dict[str, int]:
    counts = {"right": 0, "found": 0, "refused": 0, "wrong": 0}
    for number, (name, damage) in enumerate(_damages(path)):
        if number % every:
            continue
        _copy(path, copy)
        damage(copy / name)
        result = outcome(copy, points)
        assert not result.startswith("wrong"), f"{name}, damage {number}: {result}"
        counts[result] += 1
        shutil.rmtree(copy)
    return counts


@pytest.mark.parametrize("state", ["closed", "killed"])
def test_no_damage_passes_unseen(state: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Half of the points can be gone, with everything else as it was: nobody counts their photos."""
    path: Path = request.getfixturevalue(f"{state}_index")
    shutil.copytree(path, tmp_path / "intact")
    assert outcome(tmp_path / "intact", POINTS) == "right"
    counts = _try_all(path, POINTS, tmp_path / "copy", every=11)
    assert counts["found"] + counts["refused"] > 5


def test_no_damage_to_a_graph_passes_unseen(optimized_index: Path, tmp_path: Path) -> None:
    shutil.copytree(optimized_index, tmp_path / "intact")
    assert outcome(tmp_path / "intact", 10_500) == "right"
    for name in ("links_compressed.bin", "matrix.dat", "id_tracker.mappings", "values_to_points.bin"):
        for number, damage in enumerate((lambda path: _garble(path, 5_000), Path.unlink)):
            copy = tmp_path / f"{name}-{number}"
            _copy(optimized_index, copy)
            damage(next(copy.rglob(name)))
            assert outcome(copy, 10_500) in (("refused",) if number else ("found", "refused"))
            shutil.rmtree(copy)


@pytest.mark.parametrize("asked", ["filter", "words", "both"])
def test_an_index_that_was_asked_before_it_was_optimized_opens_again(asked: str, tmp_path: Path) -> None:
    """The engine makes its indexes of fields once more when it opens what was optimized, and changes files by that."""
    path = tmp_path / "index"
    store = filled(path, 10_500)
    if asked != "words":
        assert store.count({"n": {"gte": 10_000}}) == 500
    if asked != "filter":
        assert store.search_text("1", limit=1)
    assert store.optimize()
    store.close()
    for _ in range(2):
        assert outcome(path, 10_500) == "right"


@pytest.mark.parametrize("deleted", [0, 5])
def test_a_damaged_number_does_not_take_all_memory(deleted: int, tmp_path: Path) -> None:
    """The engine makes room for as many points as the greatest offset says, and the process ends where it gets none."""
    path = tmp_path / "index"
    store = opened(path)
    store.upsert([Record(number, {}) for number in range(40)], rows(40))
    store.delete(range(deleted))
    store.close()
    with next(path.rglob("mutable_id_tracker.mappings")).open("r+b") as file:
        file.seek(13 * 5 + 9)  # the offset of the point 5
        file.write(b"\xff\xff\xff\x0f")
    with pytest.raises(StoreError, match="offsets out of bounds"):
        opened(path)


def test_damage_is_not_taken_for_what_was_written_by_who_only_reads(closed_index: Path, tmp_path: Path) -> None:
    path = tmp_path / "index"
    shutil.copytree(closed_index, path)
    _garble(next(path.rglob("vector_storage/deleted/status.dat")), 8, 4)
    for _ in range(3):
        assert outcome(path, POINTS) in ("found", "refused")


def _zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _set(path: Path) -> None:
    path.write_bytes(b"\xff" * path.stat().st_size)


@pytest.mark.parametrize(
    ("pattern", "damage", "expected"),
    [
        ("*in_price*null/has_values/flags_a.dat", _zero, "payload index of 'in.price'"),
        ("*taken*null/has_values/flags_a.dat", _zero, "payload index of 'taken'"),
        ("*price*/data.bin", _zero, "data.bin"),
        ("*taken*/data_block_index.bin", _zero, "data_block_index.bin"),
        ("*here*/values_to_points.bin", lambda path: _garble(path, 5_000), "values_to_points.bin"),
        ("*flag*/*/flags_a.dat", _zero, "payload index of 'flag'"),
        ("vector_storage/deleted.dat", _set, "have a vector"),
    ],
)  # fmt: skip
def test_filters_that_find_something_else_are_found(
    pattern: str, damage: Callable[[Path], None], expected: str, asked_index: Path, tmp_path: Path
) -> None:
    """After `kill -9` there are no checksums of files that the engine changes: what filters find is compared."""
    path = tmp_path / "index"
    shutil.copytree(asked_index, path)
    files = [each for each in path.glob(f"shard/segments/*/**/{pattern}") if "mutable" not in each.name]
    assert files
    for file in files:
        damage(file)
    store = opened(path)
    problems = verified(store).problems
    assert any(expected in problem for problem in problems), problems
    with suppress(StoreError):
        store.close()


def test_a_pointer_of_a_deleted_point_is_looked_at(closed_index: Path, tmp_path: Path) -> None:
    """No point is wrong; but a payload index that is begun with it can never be loaded again."""
    path = tmp_path / "index"
    shutil.copytree(closed_index, path)
    opened(path).close()
    with next(path.glob("shard/segments/*/payload_storage/tracker.dat")).open("r+b") as file:
        file.seek(4 + 16 * (POINTS + 2))
        file.write(np.array([1, 0, 2**30, 100], "<u4").tobytes())
    (path / "files.json").unlink()  # as where the file was changed since it was counted
    store = opened(path)
    assert any("pointers to nowhere" in problem for problem in verified(store).problems)
    store.close()


def test_what_was_asked_before_kill_9_is_right(asked_index: Path, tmp_path: Path) -> None:
    shutil.copytree(asked_index, tmp_path / "index")
    store = opened(tmp_path / "index")
    assert verified(store).problems == ()
    store.close()


@pytest.mark.parametrize("name", ["point_to_values.bin", "id_tracker.mappings"])
def test_files_that_can_end_the_process_are_read_before_the_engine_does(
    name: str, asked_index: Path, tmp_path: Path
) -> None:
    shutil.copytree(asked_index, tmp_path / "index")
    for file in (tmp_path / "index").rglob(name):
        _garble(file, 0)
    with pytest.raises(StoreError, match=name.replace(".", r"\.")):
        opened(tmp_path / "index")


def test_damage_is_remembered_past_later_writes(optimized_index: Path, tmp_path: Path) -> None:
    """Closing an index takes note of its files: not of damaged ones as if they were right."""
    copy = tmp_path / "copy"
    shutil.copytree(optimized_index, copy)
    _garble(next(copy.rglob("links_compressed.bin")), 5_000)
    store = opened(copy)
    store.upsert([Record(99_999, payload(1))], rows(1))
    store.close()
    assert outcome(copy, 10_500) == "found"


def test_lost_points_are_told_at_opening_and_by_name(closed_index: Path, tmp_path: Path) -> None:
    """As when a copy of an older shard was put beside newer files; indexing again mends it."""
    path = tmp_path / "index"
    store = opened(path)
    store.upsert([Record(number, payload(number)) for number in range(40)], rows(50)[:40])
    store.close()
    shutil.copytree(path / "shard", tmp_path / "shard")
    store = opened(path)
    store.upsert([Record(number, payload(number)) for number in range(40, 50)], rows(50)[40:])
    store.close()
    shutil.rmtree(path / "shard")
    shutil.copytree(tmp_path / "shard", path / "shard")
    (path / "files.json").unlink()
    with pytest.warns(RuntimeWarning, match="has lost 10 of 50 points"):
        store = opened(path)
    assert "has lost 10 of 50 points" in store.status().problems[0]
    report = verified(store)
    assert not report.ok
    assert "10 points are lost: 40, 41, 42, 43, 44, ..." in report.problems
    assert any("Index the same files or records again" in line for line in report.advice)
    store.upsert([Record(number, payload(number)) for number in range(40, 49)], rows(50)[40:49])
    store.delete([49])
    store.close()
    store = opened(path)
    assert verified(store).ok
    store.close()


def test_a_point_that_cannot_be_read_is_named_and_the_others_are_not(tmp_path: Path) -> None:
    store = opened(tmp_path / "index")
    texts = [np.random.default_rng(number).bytes(100).hex() for number in range(1200)]  # which are not compressed
    store.upsert([Record(number, {"text": text}) for number, text in enumerate(texts)], rows(1200))
    store.close()
    page = next((tmp_path / "index").glob("shard/segments/*/payload_storage/page_0.dat"))
    content = page.read_bytes()
    _garble(page, content.index(texts[777][:20].encode()), 10)
    store = opened(tmp_path / "index")
    assert {"1 point is damaged: 777", "1 point is unreadable: 777"} & set(verified(store).problems)
    store.close()


@posix
@pytest.mark.parametrize("seed", range(3))
def test_after_kill_9_nothing_is_called_damaged(tmp_path: Path, seed: int) -> None:
    """At whatever moment: what was being written may be there or not, and neither is a fault."""
    code = """
import sys, os, pathlib, signal, threading, random, time
from test_verify import *
path, seed = pathlib.Path(sys.argv[1]), int(sys.argv[2])
store = opened(path)
threading.Timer(random.Random(seed).uniform(.05, .5), lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
for start in range(0, 10**9, 61):
    at = start % 2_000
    store.upsert([Record(n, payload(n + start)) for n in range(at, at + 61)], rows(61, seed=start))
    store.delete([at + 7, at + 1_000])
"""
    path = tmp_path / "index"
    for attempt in range(2):
        subprocess.run([sys.executable, "-c", code, str(path), str(seed + 10 * attempt)], cwd=HERE)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            store = opened(path)
        assert verified(store).problems == ()
        store.close()


def test_the_log_of_checksums_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_qdrant_edge_checks, "_COMPACT_FROM", 100)
    store = filled(tmp_path / "index")
    for _ in range(5):
        store.upsert([Record(number, payload(number)) for number in range(POINTS)], rows(POINTS))
    store.close()
    assert (tmp_path / "index" / "checks").stat().st_size < 24 * (POINTS + 50)
    assert outcome(tmp_path / "index", POINTS) == "right"


def test_what_was_not_confirmed_may_be_there_or_not(tmp_path: Path) -> None:
    checks = PointChecks(tmp_path)
    one, two = (_qdrant_edge_checks.point_entry(number, rows(1)[0], b"{}") for number in (1, 2))
    checks.begin(one)
    checks.confirm(1, 1)
    checks.begin(_qdrant_edge_checks.deletion_entry(1))
    checks.begin(two)
    checks.close()
    checks = PointChecks(tmp_path)
    assert checks.points == 0
    key = [_qdrant_edge_checks.point_key(number) for number in (1, 2)]
    check = _qdrant_edge_checks.point_check(rows(1)[0], b"{}")
    assert checks.expected().checks == {key[0]: (check, None), key[1]: (None, check)}
    before = checks.expected()
    checks.replace(before.certain(), before.uncertain(), 1)
    assert checks.expected().checks == before.checks
    assert not checks.expected().is_damaged
    checks.close()
    log = bytearray((tmp_path / "checks").read_bytes())
    log[8] ^= 1
    assert Expected.of(bytes(log)).is_damaged


def test_an_index_from_before_gets_its_checksums_when_it_is_opened(closed_index: Path, tmp_path: Path) -> None:
    copy = tmp_path / "index"
    shutil.copytree(closed_index, copy)
    (copy / "checks").unlink()
    (copy / "files.json").unlink()
    assert outcome(copy, POINTS) == "right"
    _garble(next(copy.rglob("chunk_0.mmap")), 400)
    assert outcome(copy, POINTS) == "found"


@pytest.mark.parametrize(
    "odd",
    [
        {"big": 2**70, "small": -(2**66), "list": [2**64, 2**63]},
        {"tuple": (1, (2, 3))},
        {"bytes": b"x"},
        {"numpy": np.float32(0.1)},
        {"floats": np.random.default_rng(0).normal(size=200).tolist(), "tiny": 1.2345678901234567e-300},
        {"order": 1, "": {"b": 1, "a": [True, None, -0.0, 1e22, 5e-324]}},
        {"text": 'nul \0, "quotes", \u2028, \U0001f600'},
    ],
)
def test_whatever_the_engine_makes_of_a_payload_is_what_is_compared(odd: dict[str, object], tmp_path: Path) -> None:
    store = opened(tmp_path / "index")
    store.upsert([Record(1, odd), Record("8d1f3f0e-6c4e-4d5a-9f0e-000000000001", odd)], rows(2))
    assert verified(store).problems == ()
    store.close()


@pytest.mark.parametrize("dimension", [2, 3000])
def test_vectors_of_any_length_are_compared_as_the_engine_keeps_them(dimension: int, tmp_path: Path) -> None:
    schema = StoreSchema(model="m", fingerprint="m-1", dimension=dimension)
    store = QdrantEdgeStore(tmp_path / "index")
    store.ensure(schema)
    vectors = np.random.default_rng(0).normal(size=(300, dimension)).astype(np.float32) * 1e10
    vectors[0] = 0
    store.upsert([Record(number) for number in range(300)], vectors)
    assert verify(store, schema, lambda event: None).problems == ()
    store.close()


def test_holes_of_files_are_not_counted_as_read(tmp_path: Path) -> None:
    """The engine's files for payloads are 32 MB long, and hold next to nothing here."""
    with MultimodalIndex(TinyEmbedder(), QdrantEdgeStore(tmp_path / "index"), auto_calibrate=False) as index:
        index.add_texts([f"text {number}" for number in range(30)])
    with MultimodalIndex(TinyEmbedder(), QdrantEdgeStore(tmp_path / "index"), auto_calibrate=False) as index:
        size = index.status().size_bytes
        assert size is not None
        assert 30 * 48 * 4 < index.verify().bytes_read < 2 * size


# --- any store


@pytest.mark.parametrize("make", [MemoryStore, lambda: QdrantStore("verify", location=":memory:")])
def test_stores_without_checks_of_their_own_are_read_through(make: Callable[[], VectorStore]) -> None:
    with MultimodalIndex(TinyEmbedder(), make(), auto_calibrate=False) as index:
        index.add_texts([f"text {number}" for number in range(30)])
        events: list[Progress] = []
        report = index.verify(progress=events.append)
        assert report.ok
        assert report.points == 30
        assert report.bytes_read > 30 * 48 * 4
        assert str(report).startswith("nothing is wrong: 30 points")
        assert report.to_dict()["ok"] is True
        assert {event.stage for event in events} == {"verifying"}
        assert (events[-1].done, events[-1].total, events[-1].finished) == (30, 30, True)
        status = index.status()
        assert (status.points, status.model, status.dimension) == (30, "tiny", 48)
        assert status.problems == ()


def test_what_a_store_gives_wrongly_is_told() -> None:
    class Forgetful(MemoryStore):
        def count(self, where: object = None) -> int:
            return super().count() + 2

        def get(self, ids: object, *, with_vectors: bool = False) -> list[Record | None]:  # type: ignore[override]
            found = super().get(ids, with_vectors=with_vectors)  # type: ignore[arg-type]
            return [
                Record(each.id, each.payload, vector=np.full(8, np.nan, np.float32)) if each and each.id == 3 else each
                for each in found
            ]

    store = Forgetful()
    store.ensure(SCHEMA)
    store.upsert([Record(number) for number in range(10)], rows(10))
    report = verified(store)
    assert report.problems == (
        "the store counts 12 points, and 10 can be read",
        "1 point (3) is without a vector of 8 numbers and length 1",
    )
    assert str(report).startswith("2 problems: 10 points")


def test_status_is_told_for_people_and_for_programs(tmp_path: Path) -> None:
    with MultimodalIndex.open(tmp_path / "index", embedder=ColorEmbedder(), auto_calibrate=False) as index:
        assert index.status().advice == ("nothing is indexed yet",)
        index.add_texts(["red", "blue"])
        status = index.status()
        assert status.points == 2
        assert status.size_bytes is not None
        assert 1_000 < status.size_bytes < 10**8
        fields = status.to_dict()
        assert fields["model"] == "color"
        assert fields["changed"].endswith("+00:00")
        assert "2 points" in str(status)
        assert "embedder: color (88 dimensions, color/1)" in str(status)
        assert index.verify().ok


async def _asked(path: Path) -> tuple[int, bool]:
    async with AsyncMultimodalIndex.open(path, embedder=ColorEmbedder(), auto_calibrate=False) as index:
        return (await index.status()).points, (await index.verify()).ok


def test_the_asynchronous_index_has_both(tmp_path: Path) -> None:
    import asyncio

    assert asyncio.run(_asked(tmp_path / "index")) == (0, True)


def test_a_mismatch_says_what_differs(tmp_path: Path) -> None:
    """Of two long fingerprints, people see no difference; and of a later format, nothing else may differ."""

    def refused(**changes: object) -> str:
        store = MemoryStore()
        store.ensure(StoreSchema(**{"model": "tiny", "fingerprint": "tiny-1", "dimension": 48, **changes}))  # type: ignore[arg-type]
        with pytest.raises(SchemaMismatchError) as caught:
            MultimodalIndex(TinyEmbedder(), store)
        return str(caught.value)

    assert "a later version of this library (storage format 2, this one knows 1)" in refused(version=2)
    assert "an earlier version of this library (storage format 0, this one knows 1)" in refused(version=0)
    said = refused(fingerprint="tiny-0")
    assert "fingerprint 'tiny-0' instead of 'tiny-1'" in said
    assert "instead of 48" not in said
    said = refused(model="other", dimension=3, fingerprint="other-1")
    assert "model 'other' instead of 'tiny'" in said
    assert "dimension 3 instead of 48" in said


def test_the_folder_around_an_index_says_where_the_index_is(closed_index: Path, tmp_path: Path) -> None:
    """The shell keeps the index of a folder in `.multimodal-search/index`."""
    shutil.copytree(closed_index, tmp_path / "photos" / ".multimodal-search" / "index")
    for path in (tmp_path / "photos" / ".multimodal-search", tmp_path / "photos"):
        with pytest.raises(StoreError, match=r"its index is .*\.multimodal-search/index: open that"):
            opened(path)


def test_a_ledger_beside_nothing_is_no_stranger(tmp_path: Path) -> None:
    path = tmp_path / "index"
    path.mkdir()
    for name in ("ledger.sqlite", "ledger.sqlite-journal", ".schema.json.0a1b2c3d.part"):
        (path / name).write_bytes(b"")
    opened(path).close()


# --- a folder that changes while it is open


def _moved(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def _deleted(path: Path) -> None:
    shutil.rmtree(path)


def _replaced(path: Path) -> None:
    _deleted(path)
    code = "import sys, pathlib; from test_verify import opened; opened(pathlib.Path(sys.argv[1])).close()"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, cwd=HERE)


def _shard_replaced(path: Path) -> None:
    (path / "shard").rename(path / "gone")
    shutil.copytree(path / "gone", path / "shard")


def _cleaned(path: Path) -> None:
    (path / "lock").unlink()


def _restored_in_place(path: Path) -> None:
    text = (path / "schema.json").read_bytes()
    (path / "schema.json").write_bytes(text)
    os.utime(path / "schema.json", (1, 1))


@posix
@pytest.mark.parametrize("happens", [_moved, _deleted, _replaced, _shard_replaced, _cleaned, _restored_in_place])
def test_nothing_is_acknowledged_that_goes_to_another_folder(happens: Callable[[Path], None], tmp_path: Path) -> None:
    """Files that are open go on to exist without their names, and what is written to them is lost."""
    path = tmp_path / "index"
    store = opened(path)
    store.upsert([Record(1)], rows(1))
    happens(path)
    for write in (
        lambda: store.upsert([Record(2)], rows(1)),
        lambda: store.delete([1]),
        lambda: store.set_index_metadata("a", "b"),
        store.optimize,
    ):
        with pytest.raises(StoreError, match="while this process had it open"):
            write()
    assert store.count() == 1
    assert store.search(rows(1), limit=1)[0][0].id == 1
    with pytest.raises(StoreError, match="what it wrote, 1 points written or deleted, is in the folder"):
        store.close()
    store.close()


@posix
def test_a_deleted_lock_lets_nobody_in(tmp_path: Path) -> None:
    """A cleaner removed it; the engine's own attempt to open the folder would harm who has it open."""
    path = tmp_path / "index"
    store = opened(path)
    store.upsert([Record(1)], rows(1))
    (path / "lock").unlink()
    code = "import sys, pathlib; from test_verify import opened; opened(pathlib.Path(sys.argv[1]))"
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, cwd=HERE)
    assert "StoreLockedError" in run.stderr
    assert "still held by another process, although its lock is free" in run.stderr
    with pytest.raises(StoreError, match="lock is"):
        store.upsert([Record(2)], rows(1))
    with pytest.raises(StoreError, match="is in the folder"):
        store.close()
    store = opened(path)
    assert store.count() == 1
    store.close()


# --- full disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 160 MB."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk, on Linux")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "none", str(tmp_path)], check=False)
    if mounted.returncode:
        pytest.skip("this system lets nobody mount disks")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


@pytest.mark.parametrize("size", [100, 100_000, 5_000_000])
def test_a_full_disk_is_an_error_whatever_the_size_of_payloads(size: int, small_disk: Path) -> None:
    """Without room, the operating system ends the process, and no error is told."""
    code = """
import sys, os, pathlib
from test_verify import *
path, size = pathlib.Path(sys.argv[1]), int(sys.argv[2])
store, stored = opened(path), 0
try:
    for start in range(0, 10**6, 500):
        count = max(1, min(500, 10**7 // size))
        text = os.urandom(size // 2).hex()
        store.upsert([Record(stored + n, {"text": text[n:]}) for n in range(count)], rows(count))
        stored += count
        if size == 100 and stored > 20_000:
            with open(path.parent / "other", "wb") as file:
                file.write(bytes(os.statvfs(path).f_bavail * 4096 - 2**26))
except StoreError as error:
    print("full" if "is full" in str(error) else error)
for call in (store.optimize, lambda: store.set_index_metadata("a", "b" * 10**6), lambda: store.delete([0])):
    try:
        call()
    except StoreError as error:
        print("full" if "is full" in str(error) else error)
store.close()
print(stored)
"""
    path = small_disk / "index"
    run = subprocess.run([sys.executable, "-c", code, str(path), str(size)], capture_output=True, text=True, cwd=HERE)
    assert run.returncode == 0, run.stderr
    *said, stored = run.stdout.split()
    assert set(said) == {"full"}
    subprocess.run(["mount", "-o", "remount,size=400m", str(small_disk)], check=True)
    store = opened(path)
    assert store.count() >= int(stored) - 1 > 0  # the one that was deleted, if there was room for that
    assert verified(store).problems == ()
    store.close()


def test_a_disk_that_others_fill_ends_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushing would: what was written last stays in the engine's log instead, for the next opening."""
    store = opened(tmp_path / "index")
    store.upsert([Record(1)], rows(1))
    monkeypatch.setattr(disk_space, "SPARE_BYTES", 2**62)
    store.close()
    monkeypatch.undo()
    store = opened(tmp_path / "index")
    assert store.count() == 1
    assert verified(store).ok
    store.close()
