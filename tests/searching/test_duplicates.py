"""Nearly equal points: every pair that NumPy finds, in groups, in little memory."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from multimodal_search import (
    ColorEmbedder,
    Image,
    MemoryStore,
    MultimodalSearchError,
    Progress,
    QdrantEdgeStore,
    QueryError,
    Record,
    StoreError,
    StoreSchema,
    VectorStore,
)
from multimodal_search._searching import duplicates
from multimodal_search._searching.duplicates import duplicate_groups
from multimodal_search.types import FloatArray, Match, PointId

DIMENSION = 16


@pytest.fixture(params=["memory", "edge"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VectorStore]:
    opened: VectorStore = MemoryStore() if request.param == "memory" else QdrantEdgeStore(tmp_path / "index")
    with_schema(opened)
    yield opened
    opened.close()


def with_schema(store: VectorStore, dimension: int = DIMENSION) -> VectorStore:
    store.ensure(StoreSchema(model="test", fingerprint="test", dimension=dimension))
    return store


def put(store: VectorStore, vectors: FloatArray, sizes: Sequence[int] | None = None) -> None:
    payloads = [{"n": row} if sizes is None else {"n": row, "size": sizes[row]} for row in range(len(vectors))]
    store.upsert([Record(row, payload) for row, payload in enumerate(payloads)], vectors)


def at_angles(*degrees: float) -> FloatArray:
    """Vectors whose similarities are the cosines of the differences of their angles."""
    vectors = np.zeros((len(degrees), DIMENSION), np.float32)
    vectors[:, 0], vectors[:, 1] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return vectors


def ids(groups: Sequence[Sequence[Match]]) -> list[list[PointId]]:
    return [[match.id for match in group] for group in groups]


def similarities(vectors: FloatArray) -> npt.NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    unit = np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0)
    return unit @ unit.T


def expected(vectors: FloatArray, threshold: float) -> set[frozenset[int]]:
    """Connected components of all similar pairs, by NumPy's matrix product and a walk."""
    near = similarities(vectors) >= threshold - 1e-6
    components, seen = set[frozenset[int]](), set[int]()
    for start in range(len(vectors)):
        members, waiting = {start}, [start]
        while start not in seen and waiting:
            new = set(np.flatnonzero(near[waiting.pop()]).tolist()) - members
            members |= new
            waiting += new
        if len(members) > 1:
            components.add(frozenset(members))
        seen |= members
    return components


def test_copies_are_grouped_with_the_best_one_first(store: VectorStore) -> None:
    """Whoever clears up keeps the largest file, and sees how far the others are from it."""
    put(store, at_angles(0, 90, 2, 1, 91, 45), sizes=[10, 7, 30, 20, 7, 99])
    groups = duplicate_groups(store, threshold=0.99)
    assert ids(groups) == [[2, 3, 0], [1, 4]]
    assert [match.score for match in groups[0]] == pytest.approx([1, np.cos(np.radians(1)), np.cos(np.radians(2))])
    assert groups[0][0].payload == {"n": 2, "size": 30}


def test_a_chain_is_one_group_though_its_ends_are_far_apart(store: VectorStore) -> None:
    put(store, at_angles(0, 8, 16, 24, 80))
    (group,) = duplicate_groups(store, threshold=0.985)  # 10 degrees
    assert [match.id for match in group] == [0, 1, 2, 3]
    assert group[-1].score == pytest.approx(np.cos(np.radians(24)))


def test_a_pair_at_exactly_the_threshold_counts(store: VectorStore) -> None:
    vectors = np.zeros((4, DIMENSION), np.float32)
    vectors[:2, :2] = [[1, 0], [0.6, 0.8]]
    vectors[2:, 2:4] = [[1, 0], [0.599, 0.8]]
    put(store, vectors)
    assert ids(duplicate_groups(store, threshold=0.6)) == [[0, 1]]
    assert duplicate_groups(store, threshold=1) == []
    store.upsert([Record(9)], vectors[:1] * 7)
    assert ids(duplicate_groups(store, threshold=1)) == [[0, 9]], "the length of a vector means nothing"


def test_vectors_of_zeros_are_like_nothing(store: VectorStore) -> None:
    put(store, np.zeros((5, DIMENSION), np.float32))
    assert duplicate_groups(store, threshold=0.01) == []


def test_an_empty_store_has_none(store: VectorStore) -> None:
    events: list[Progress] = []
    assert duplicate_groups(store, threshold=0.9, on_progress=events.append) == []
    assert events[-1].finished


def test_a_filter_leaves_points_out(store: VectorStore) -> None:
    """Not even as links between those that stay."""
    put(store, at_angles(0, 8, 16, 90, 91))
    assert ids(duplicate_groups(store, threshold=0.985)) == [[0, 1, 2], [3, 4]]
    assert ids(duplicate_groups(store, threshold=0.985, where={"not": {"n": 1}})) == [[3, 4]]


@pytest.mark.parametrize("threshold", [0, -0.1, 1.001, float("nan"), True, "0.9", None])
def test_a_threshold_that_makes_no_sense_is_refused(threshold: float) -> None:
    with pytest.raises(QueryError, match="above 0 and at most 1"):
        duplicate_groups(MemoryStore(), threshold=threshold)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 60),
    centres=st.integers(1, 12),
    noise=st.sampled_from([0, 0.05, 0.2, 0.5]),
    threshold=st.sampled_from([0.5, 0.8, 0.9, 0.97, 1.0]),
    pieces=st.sampled_from([(1, 3), (4, 4), (7, 5), (64, 64)]),
)
def test_the_groups_are_those_that_numpy_finds(
    store: VectorStore,
    seed: int,
    count: int,
    centres: int,
    noise: float,
    threshold: float,
    pieces: tuple[int, int],
) -> None:
    """However the table of all pairs is cut into pieces."""
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((centres, DIMENSION))[random.integers(0, centres, count)]
    vectors = (vectors + noise * random.standard_normal(vectors.shape)).astype(np.float32)
    assume(not (np.abs(similarities(vectors) - (threshold - 1e-6)) < 5e-7).any())  # else rounding decides
    store.delete(range(60))
    put(store, vectors)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_ROWS", pieces[0])
        patch.setattr(duplicates, "_COLUMNS", pieces[1])
        patch.setattr(duplicates, "_PAIRS", 5)
        groups = duplicate_groups(store, threshold=threshold)
    assert {frozenset(int(match.id) for match in group) for group in groups} == expected(vectors, threshold)
    order = [(-len(group), int(group[0].id)) for group in groups]
    assert order == sorted(order)


def test_thousands_of_points_cut_into_pieces_are_compared_as_numpy_does() -> None:
    random = np.random.default_rng(3)
    vectors = np.repeat(random.standard_normal((2_500, DIMENSION)), 2, axis=0)
    vectors = (vectors + 0.15 * random.standard_normal(vectors.shape)).astype(np.float32)[random.permutation(5_000)]
    store = with_schema(MemoryStore())
    put(store, vectors)
    groups = duplicate_groups(store, threshold=0.97)
    assert {frozenset(int(match.id) for match in group) for group in groups} == expected(vectors, 0.97)
    assert len(groups) > 1_000


def test_five_thousand_equal_points_are_one_group(store: VectorStore) -> None:
    """A camera that took the same image all night makes twelve million pairs."""
    put(store, np.ones((5_000, DIMENSION), np.float32))
    (group,) = duplicate_groups(store, threshold=1)
    assert [match.id for match in group] == list(range(5_000))
    assert {match.score for match in group} == {1.0}


def test_recompressed_and_smaller_photos_are_recognised_and_no_others(shared_data: Path) -> None:
    """At the threshold that the documentation proposes for colours."""
    embedder = ColorEmbedder()
    photos = sorted((shared_data / "flickr8k_test" / "images").glob("*.jpg"))[:200]
    images = [Image(path) for path in photos]
    images += [Image(file) for path in photos[:20] for file in copies(path)]
    store = with_schema(MemoryStore(), embedder.spec.dimension)
    put(store, embedder.embed(images, role="document"))
    groups = duplicate_groups(store, threshold=0.997)
    assert [sorted(map(int, group)) for group in ids(groups)] == [[n, 200 + 2 * n, 201 + 2 * n] for n in range(20)]


def copies(path: Path) -> Iterator[bytes]:
    """A photo recompressed, and a photo of half the size."""
    with PIL.Image.open(path) as image:
        for width, quality in ((image.width, 60), (image.width // 2, 90)):
            file = io.BytesIO()
            image.resize((width, image.height * width // image.width)).save(file, "JPEG", quality=quality)
            yield file.getvalue()


def test_progress_is_told_of_both_stages_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multimodal_search._progress.TELL_S", 0.0)
    store = with_schema(MemoryStore())
    put(store, np.random.default_rng(0).standard_normal((3_000, DIMENSION)).astype(np.float32))
    events: list[Progress] = []
    duplicate_groups(store, threshold=0.99, on_progress=events.append)
    assert [event.finished for event in events] == [False] * (len(events) - 1) + [True]
    for stage in ("reading", "comparing"):
        done = [event.done for event in events if event.stage == stage]
        assert done == sorted(done)
        assert (len(done) > 2, done[-1]) == (True, 3_000)
    assert {event.total for event in events} == {3_000}


class EnoughError(Exception):
    pass


def test_what_the_observer_raises_ends_it_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C, or an app's own way to stop."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("multimodal_search._progress.TELL_S", 0.0)
    store = with_schema(MemoryStore())
    put(store, np.random.default_rng(0).standard_normal((5_000, DIMENSION)).astype(np.float32))
    events: list[Progress] = []

    def stop(event: Progress) -> None:
        events.append(event)
        if event.stage == "comparing" and not event.finished:
            raise EnoughError

    with pytest.raises(EnoughError):
        duplicate_groups(store, threshold=0.99, on_progress=stop)
    assert events[-1].finished
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal that a program can send itself as Ctrl-C")
def test_ctrl_c_ends_it_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = with_schema(MemoryStore(), 64)
    put(store, np.random.default_rng(0).standard_normal((60_000, 64)).astype(np.float32))
    timers: list[threading.Timer] = []
    pressed: list[float] = []

    def press() -> None:
        pressed.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    def on_progress(event: Progress) -> None:
        if event.stage == "comparing" and not timers:
            timers.append(threading.Timer(0.1, press))
            timers[0].start()

    with pytest.raises(KeyboardInterrupt):
        duplicate_groups(store, threshold=0.99, on_progress=on_progress)
    assert time.monotonic() - pressed[0] < 1
    assert list(tmp_path.iterdir()) == []


def test_points_that_are_deleted_meanwhile_are_left_out() -> None:
    store = with_schema(MemoryStore())
    put(store, at_angles(0, 1, 45, 46, 90, 91, 92))
    assert ids(duplicate_groups(store, threshold=0.999)) == [[4, 5, 6], [0, 1], [2, 3]]
    assert ids(duplicate_groups(_DeletesAfterReading(store, [0, 1, 2, 5]), threshold=0.999)) == [[4, 6]]


class _DeletesAfterReading(MemoryStore):
    """Another store, out of which points vanish when all vectors have been read."""

    def __init__(self, of: VectorStore, gone: Sequence[PointId]) -> None:
        super().__init__()
        with_schema(self)
        found = [record for record in of.get([record.id for record in of.scan()], with_vectors=True) if record]
        self.upsert(found, np.array([record.vector for record in found], np.float32))
        self.gone = gone

    def get(self, ids: Sequence[PointId], /, *, with_vectors: bool = False) -> list[Record | None]:
        if not with_vectors:
            self.delete(self.gone)
        return super().get(ids, with_vectors=with_vectors)


def test_a_disk_without_room_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(StoreError, match=r"gone.*TMPDIR") as caught:
        duplicate_groups(with_schema(MemoryStore()), threshold=0.9)
    assert isinstance(caught.value, MultimodalSearchError)


def full() -> IO[bytes]:
    return Path("/dev/full").open("r+b", buffering=0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_disk_that_fills_up_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **options: full())
    store = with_schema(MemoryStore())
    put(store, at_angles(0, 1))
    with pytest.raises(StoreError, match="No space left"):
        duplicate_groups(store, threshold=0.9)


PEAK = """
import json, resource, sys
import numpy as np
from multimodal_search import Record
from multimodal_search._searching.duplicates import duplicate_groups

class Made:
    "Makes its vectors when it is asked, so that it holds none; two of a hundred are the same."
    def __init__(self, count):
        self.size = count
    def count(self, where=None):
        return self.size
    def scan(self, *, where=None, fields=None):
        return (Record(number) for number in range(self.size))
    def get(self, ids, /, *, with_vectors=False):
        return [Record(id, vector=self.vector(id - (id % 100 == 1))) for id in ids]
    def vector(self, number):
        return np.random.default_rng(number).standard_normal(256, np.float32)

groups = duplicate_groups(Made(int(sys.argv[1])), threshold=0.99)
print(json.dumps([len(groups), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows does not tell a process its own peak memory")
def test_memory_does_not_grow_with_the_vectors() -> None:
    """Five times as many points: of 16 MB more of vectors none is held, only ids and the groups themselves."""
    peaks = []
    for count in (4_000, 20_000):
        run = subprocess.run([sys.executable, "-c", PEAK, str(count)], capture_output=True, text=True, check=True)
        groups, peak = json.loads(run.stdout)
        assert groups == count // 100
        peaks.append(peak * (1 if sys.platform == "darwin" else 1024))
    assert peaks[1] - peaks[0] < 16_000 * 256 * 4 / 2
