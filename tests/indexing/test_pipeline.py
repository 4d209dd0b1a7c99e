"""The pipeline: nothing twice, nothing lost, no bad item costs another."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
import PIL.Image
import pytest
from tiny_embedder import TinyEmbedder, folder_of, image, png, slowly

from multimodal_search import (
    ConfigurationError,
    ContentIds,
    EmbedderAuthError,
    EmbedderResponseError,
    Image,
    IndexingError,
    IndexingInterrupted,
    Item,
    MemoryStore,
    Mixed,
    MultimodalIndex,
    PathIds,
    Progress,
    QueryError,
    SequentialIds,
    StoreError,
    Text,
    UnsupportedContentError,
)

_DEEP: list[object] = []
_DEEP.append(_DEEP)


@pytest.fixture
def embedder() -> TinyEmbedder:
    return TinyEmbedder()


@pytest.fixture
def index(embedder: TinyEmbedder) -> Iterator[MultimodalIndex]:
    with MultimodalIndex(embedder, MemoryStore()) as index:
        yield index


def test_a_folder_is_indexed_with_paths_below_it_as_filenames(index: MultimodalIndex, tmp_path: Path) -> None:
    """The tutorial's `filename`, and what is needed to find the file again."""
    folder_of(tmp_path / "photos" / "2024", 2)
    report = index.add_images(tmp_path / "photos")
    assert (report.added, report.embedded, report.failed) == (2, 2, ())
    hit = index.search(tmp_path / "photos" / "2024" / "1.png", limit=1)[0]
    assert hit.filename == "2024/1.png"
    assert hit.path == tmp_path / "photos" / "2024" / "1.png"
    payload = hit.payload
    data = png(1)
    assert payload["root"] == str(tmp_path / "photos")
    assert payload["modality"] == "image"
    assert payload["size"] == len(data)
    assert payload["mtime_ns"] == hit.path.stat().st_mtime_ns
    assert len(payload["sha256"]) == 64


def test_indexing_again_embeds_nothing(index: MultimodalIndex, embedder: TinyEmbedder, tmp_path: Path) -> None:
    """Every call of the service costs money."""
    folder = folder_of(tmp_path, 20)
    index.add_images(folder)
    report = index.add_images(folder)
    assert (report.unchanged, report.added, report.embedded) == (20, 0, 0)
    assert embedder.embedded == 20
    assert index.count() == 20


def test_an_unchanged_file_is_not_even_read(index: MultimodalIndex, tmp_path: Path) -> None:
    """A stat and an id look-up are all it costs: here the bytes could not be read any more."""
    folder = folder_of(tmp_path, 1)
    index.add_images(folder)
    file = folder / "0.png"
    status = file.stat()
    file.write_bytes(b"?" * status.st_size)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert index.add_images(folder).unchanged == 1


def test_a_changed_file_is_embedded_anew_and_replaces_its_point(index: MultimodalIndex, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 3)
    index.add_images(folder)
    (folder / "1.png").write_bytes(png(77))
    report = index.add_images(folder)
    assert (report.updated, report.unchanged, report.embedded) == (1, 2, 1)
    assert index.count() == 3
    assert index.search(Image(png(77)), limit=1)[0].filename == "1.png"


def test_a_touched_file_keeps_its_vector(index: MultimodalIndex, embedder: TinyEmbedder, tmp_path: Path) -> None:
    """A new time on the same bytes is no reason to pay again; it is remembered, so that the next run need not read."""
    folder = folder_of(tmp_path, 1)
    index.add_images(folder)
    os.utime(folder / "0.png", ns=(1, 1))
    assert index.add_images(folder).embedded == 0
    assert index.search(image(0), limit=1)[0].payload["mtime_ns"] == 1


@pytest.mark.parametrize("ids", [PathIds(), ContentIds(), SequentialIds()])
def test_adding_twice_adds_nothing_twice(ids: PathIds | ContentIds | SequentialIds, tmp_path: Path) -> None:
    """With every way to allocate ids, and for files, bytes, PIL images and texts alike, in one run and in two."""
    folder = folder_of(tmp_path, 3)
    things = [folder / "0.png", folder / "1.png", png(11), image(12), Text("a"), "b", Mixed("c", Image(png(13)))]
    with MultimodalIndex(TinyEmbedder(max_batch_size=3), MemoryStore(), ids=ids) as index:
        report = index.add([*things, *things])
        assert (report.added, report.unchanged) == (7, 7)
        report = index.add(things)
        assert (report.added, report.unchanged, report.embedded) == (0, 7, 0)
        assert index.count() == 7


def test_path_ids_do_not_depend_on_where_the_folder_is(tmp_path: Path) -> None:
    """Two machines, or a folder that has moved, give the same points."""
    stores = []
    for place in ("here", "there"):
        store = MemoryStore()
        index = MultimodalIndex(TinyEmbedder(), store)
        index.add_images(folder_of(tmp_path / place, 3))
        stores.append({record.id for record in store.scan()})
    assert stores[0] == stores[1]


def test_sequential_ids_count_in_the_order_of_names_and_go_on_later(tmp_path: Path) -> None:
    """0, 1, 2, ... as in the tutorial; what is stored keeps its number."""
    with MultimodalIndex(TinyEmbedder(max_batch_size=2), MemoryStore(), ids=SequentialIds()) as index:
        index.add_images(folder_of(tmp_path / "a", 5))
        assert [index.get(number).payload["filename"] for number in range(5)] == [f"{n}.png" for n in range(5)]  # type: ignore[union-attr]
        folder_of(tmp_path / "a", 1, start=9)
        index.add_images(tmp_path / "a")
        assert index.get(5).payload["filename"] == "9.png"  # type: ignore[union-attr]
        assert index.count() == 6


def test_content_ids_make_one_point_of_equal_files(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 2)
    (folder / "copy.png").write_bytes(png(0))
    with MultimodalIndex(TinyEmbedder(), MemoryStore(), ids=ContentIds()) as index:
        assert index.add_images(folder).added == 2
        assert index.add_images(folder).embedded == 0
        assert index.count() == 2


def test_an_item_brings_its_id_and_fields(index: MultimodalIndex) -> None:
    own = uuid4()
    taken = {"year": 2024, "day": date(2024, 5, 1), "tags": ("a", "b"), "place": Path("x/y"), "n": np.int64(3)}
    index.add([Item(Image(png(1)), id=own, payload=taken), Item("words", id=7)])
    stored = index.get(own)
    assert stored is not None
    expected = {"year": 2024, "day": "2024-05-01", "tags": ["a", "b"], "place": str(Path("x/y")), "n": 3}
    assert {name: stored.payload[name] for name in taken} == expected
    seven = index.get(7)
    assert seven is not None
    assert seven.payload["text"] == "words"


def test_new_fields_are_stored_without_embedding_again(index: MultimodalIndex, embedder: TinyEmbedder) -> None:
    """Correcting a label must not cost a call; the vector stays what it was."""
    index.add([Item(Text("a"), id=1, payload={"label": "cat"})])
    before = index.get(1, with_vectors=True)
    report = index.add([Item(Text("a"), id=1, payload={"label": "dog"})])
    after = index.get(1, with_vectors=True)
    assert (report.updated, report.embedded, embedder.embedded) == (1, 0, 1)
    assert before is not None
    assert after is not None
    assert after.payload["label"] == "dog"
    np.testing.assert_allclose(before.vector, after.vector, atol=1e-6)


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (Item("x", payload={"filename": "mine"}), "'filename' is written by the index"),
        (Item("x", payload={"text": "mine"}), "'text' is written by the index"),
        (Item(image(3), payload={"text": "mine"}), "'text' is written by the index"),
        (Item("x", payload={"a": {"b": object()}}), "'a.b'"),
        (Item("x", payload={"a": float("nan")}), "'a'"),
        (Item("x", payload={"a": "\ud800"}), "surrogate"),
        (Text("\ud800"), "surrogate"),
        (Item("x", payload={"\ud800": 1}), "Unicode"),
        (Item("x", payload={"a": {"\ud800": 1}}), "'a'"),
        (Item("x", payload={"a": _DEEP}), "deep"),
        (Image("a\0b.png"), "null"),
        (Item("x", id="no uuid"), "'no uuid'"),
        (Item("x", id=-1), "-1"),
        (Item("  "), "empty"),
        (Image("missing.png"), "No such file"),
        (Image(b"no image"), ""),
        (42, "not int"),
    ],
)
def test_a_bad_item_costs_itself_alone(index: MultimodalIndex, item: object, reason: str) -> None:
    """And the report says what is wrong with it."""
    report = index.add(["good", item, "better"])  # type: ignore[list-item]
    assert report.added == 2
    assert len(report.failed) == 1
    assert reason in report.failed[0].reason
    assert report.failed[0].name


def test_broken_files_are_reported_by_name(index: MultimodalIndex, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", 5)
    (folder / "cut.png").write_bytes(png(9)[:40])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("no image")
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / ".hidden").write_text("not looked at")
    report = index.add_images(folder)
    assert report.added == 5
    names = sorted(Path(failure.name).name for failure in report.failed)
    assert names == ["cut.png", "empty.jpg", "gone.png"]
    assert report.ignored == {"text": 1}
    assert all(failure.reason and failure.name not in failure.reason for failure in report.failed)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this platform")
def test_a_pipe_among_the_files_does_not_hang_the_run(index: MultimodalIndex, tmp_path: Path) -> None:
    """Opening a pipe waits for a writer, for ever."""
    folder = folder_of(tmp_path, 1)
    os.mkfifo(folder / "pipe.png")
    assert index.add_images(folder).added == 1
    assert "regular" in index.add_images([folder / "pipe.png"]).failed[0].reason


@pytest.mark.parametrize("culprits", [[0], [31], [13], [4, 5], [0, 31], list(range(32))])
def test_culprits_are_found_by_halving_and_the_rest_is_stored(culprits: list[int]) -> None:
    """One refused text must cost neither its 31 neighbours nor 31 calls."""
    embedder = TinyEmbedder(max_batch_size=32, max_concurrency=1, refuse=[f"text {number}" for number in culprits])
    with MultimodalIndex(embedder, MemoryStore(), auto_calibrate=False) as index:
        report = index.add_texts([f"text {number}" for number in range(128)])
        assert report.added == 128 - len(culprits)
        found = sorted(int(failure.name.split("text ")[1].rstrip("')")) for failure in report.failed)
        assert found == culprits
        assert all("refused" in failure.reason for failure in report.failed)
        if len(culprits) == 1:
            assert len(embedder.calls) <= 128 / 32 + math.log2(32) + 1  # the last batch may be left over
        assert index.count() == 128 - len(culprits)


def test_images_and_fields_that_a_source_uses_again_are_kept_as_they_were(index: MultimodalIndex) -> None:
    """A video's buffer, the frames of an animation, a dict that is filled anew: all change after they were yielded."""

    def items() -> Iterator[Item]:
        canvas, fields = image(0), dict[str, object]()
        for number in range(40):
            canvas.paste(image(number))
            fields["n"] = number
            yield Item(Image(canvas), payload=fields)

    assert index.add(items()).added == 40
    for number in range(40):
        assert index.search(image(number), limit=1)[0].payload["n"] == number


def test_an_image_whose_file_is_closed_after_it_was_yielded_is_indexed(index: MultimodalIndex, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 5)

    def images() -> Iterator[PIL.Image.Image]:
        for path in folder.iterdir():
            with PIL.Image.open(path) as opened:
                yield opened

    assert index.add_images(images()).added == 5


@pytest.mark.parametrize("content", [Text("a"), Image(png(1)), image(1), Mixed("a", "b"), "a", png(1)])
def test_a_single_content_may_be_given_as_it_is(index: MultimodalIndex, content: object) -> None:
    assert index.add(content).added == 1  # type: ignore[arg-type]


def test_an_open_file_is_not_taken_for_a_list_of_its_lines(index: MultimodalIndex, tmp_path: Path) -> None:
    folder_of(tmp_path, 1)
    for method in (index.add, index.add_images):
        with (tmp_path / "0.png").open("rb") as file, pytest.raises(TypeError):
            method(file)


def test_sequential_numbers_keep_clear_of_ids_of_the_users_own() -> None:
    with MultimodalIndex(TinyEmbedder(), MemoryStore(), ids=SequentialIds()) as index:
        assert index.add([Item("a", id=0), "b", Item("c", id=7), "d"]).added == 4
        assert index.count() == 4
        named = Image(png(5), name="upload.png")
        index.add([named])
        assert index.add([named]).unchanged == 1


def test_a_record_that_the_store_refuses_costs_itself_alone() -> None:
    class Picky(MemoryStore):
        def upsert(self, records, vectors, /):  # type: ignore[no-untyped-def]
            if any(record.payload.get("text") == "text 7" for record in records):
                raise UnsupportedContentError("no sevens")
            super().upsert(records, vectors)

    with MultimodalIndex(TinyEmbedder(), Picky()) as index:
        report = index.add_texts(f"text {number}" for number in range(20))
        assert (report.added, index.count()) == (19, 19)
        assert [(failure.stage, failure.reason) for failure in report.failed] == [("write", "no sevens")]


def test_an_embedder_that_trips_over_one_content_costs_that_alone() -> None:
    class Tripping(TinyEmbedder):
        def prepare(self, content):  # type: ignore[no-untyped-def]
            if content == Text("bad"):
                raise KeyError("bad")
            return content

    with MultimodalIndex(Tripping(), MemoryStore()) as index:
        report = index.add_texts(["good", "bad", "fine"])
        assert report.added == 2
        assert "KeyError" in report.failed[0].reason


def test_indexing_from_within_a_progress_callback_is_refused_and_does_not_hang(index: MultimodalIndex) -> None:
    with pytest.raises(ConfigurationError, match="one run"):
        index.add(["a"], progress=lambda event: index.add(["b"]) and None)


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes on POSIX only")
@pytest.mark.parametrize("ids", [PathIds(), ContentIds(), SequentialIds()])
def test_a_name_that_is_not_utf_8_costs_its_file_alone(ids: PathIds, tmp_path: Path) -> None:
    """Old disks and archives are full of them."""
    folder = folder_of(tmp_path, 2)
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(png(5))
    with MultimodalIndex(TinyEmbedder(), MemoryStore(), ids=ids) as index:
        report = index.add_images(folder)
        assert report.added == 2
        assert "UTF-8" in report.failed[0].reason
        assert str(report).isprintable()


def test_two_folders_with_files_of_the_same_name_do_not_overwrite_each_other(
    index: MultimodalIndex, tmp_path: Path
) -> None:
    """Ids come from the path below the folder: a clash must be said, not settled by losing an image."""
    one, two = folder_of(tmp_path / "one", 1), tmp_path / "two"
    two.mkdir()
    (two / "0.png").write_bytes(png(5))
    index.add_images(one)
    report = index.add_images(two)
    assert report.added == report.updated == 0
    assert str(tmp_path) in report.failed[0].reason
    assert index.add_images(two, root=tmp_path).added == 1
    assert index.search(image(5), limit=1)[0].filename == "two/0.png"


def test_a_folder_that_has_moved_keeps_its_points(index: MultimodalIndex, tmp_path: Path) -> None:
    folder_of(tmp_path / "old", 3)
    index.add_images(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    report = index.add_images(tmp_path / "new")
    assert (report.embedded, report.added, index.count()) == (0, 0, 3)
    assert index.search(image(1), limit=1)[0].path == tmp_path / "new" / "1.png"


def test_globs_lists_and_single_files_are_sources_too(
    index: MultimodalIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of(tmp_path / "a" / "b", 3)
    monkeypatch.chdir(tmp_path)
    assert index.add_images("a/**/[01].png").added == 2
    assert index.add_images("a/b/2.png").added == 1
    # What is stored keeps its name; below the working directory it would have another.
    assert index.add_images(["a/b/0.png", tmp_path / "a/b/1.png"]).unchanged == 2
    names = sorted(record.payload["filename"] for record in index.store.scan())
    assert names == ["a/b/2.png", "b/0.png", "b/1.png"]
    assert index.add_images(png(50)).added == 1
    assert index.add_images(image(number) for number in range(60, 64)).added == 4


@pytest.mark.parametrize("source", ["nowhere", Path("nowhere")])
def test_a_missing_folder_is_an_error_that_names_it(index: MultimodalIndex, source: str | Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere"):
        index.add_images(source)


def test_a_list_given_to_add_texts_as_one_string_is_refused(index: MultimodalIndex) -> None:
    """Else a text would be indexed letter by letter."""
    with pytest.raises(TypeError, match="add_texts"):
        index.add_texts("hello")


def test_trouble_that_stays_stops_the_run_and_keeps_what_was_done() -> None:
    """With an empty account no further call makes sense; what was paid for must not be lost."""

    def refuse(call: int) -> None:
        if call > 3:
            raise EmbedderAuthError("the token was refused")

    embedder = TinyEmbedder(max_batch_size=5, max_concurrency=1, before=refuse)
    with MultimodalIndex(embedder, MemoryStore(), auto_calibrate=False) as index:
        with pytest.raises(IndexingError, match="token was refused") as caught:
            index.add_texts(f"text {number}" for number in range(10_000))
        assert caught.value.report.added == index.count() == 15
        assert isinstance(caught.value.__cause__, EmbedderAuthError)
        assert len(embedder.calls) <= 5


def test_a_store_that_fails_stops_the_run() -> None:
    class FullStore(MemoryStore):
        def upsert(self, records, vectors, /):  # type: ignore[no-untyped-def]
            if self.count() >= 512:
                raise StoreError("the disk is full")
            super().upsert(records, vectors)

    with MultimodalIndex(TinyEmbedder(max_batch_size=100), FullStore()) as index:
        with pytest.raises(IndexingError, match="disk is full") as caught:
            index.add_texts(f"text {number}" for number in range(100_000))
        assert caught.value.report.added == index.count()


def test_a_source_that_raises_keeps_what_it_yielded(index: MultimodalIndex) -> None:
    def texts() -> Iterator[str]:
        yield from ("a", "b", "c")
        raise OSError("the database went away")

    with pytest.raises(IndexingError, match="database went away") as caught:
        index.add_texts(texts())
    assert isinstance(caught.value.__cause__, OSError)


def test_on_error_raise_stops_at_the_first_bad_item(index: MultimodalIndex) -> None:
    with pytest.raises(IndexingError, match=r"missing\.png"):
        index.add_images(["missing.png"], on_error="raise")
    with pytest.raises(ConfigurationError, match="on_error"):
        index.add([], on_error="ignore")


@pytest.mark.parametrize("vectors", ["few", "narrow", "nan"])
def test_an_embedder_that_breaks_its_promise_is_caught(vectors: str) -> None:
    """Else wrong vectors would be stored beside right names."""

    class Liar(TinyEmbedder):
        def embed(self, contents, /, *, role):  # type: ignore[no-untyped-def]
            good = super().embed(contents, role=role)
            return {"few": good[1:], "narrow": good[:, 1:], "nan": good * np.nan}[vectors]

    with MultimodalIndex(Liar(), MemoryStore()) as index:
        with pytest.raises(IndexingError) as caught:
            index.add_texts(["a", "b"])
        assert isinstance(caught.value.__cause__, EmbedderResponseError)
        assert index.count() == 0


def test_no_more_calls_are_in_flight_than_the_embedder_takes() -> None:
    embedder = TinyEmbedder(max_batch_size=4, max_concurrency=3, before=slowly(0.01))
    with MultimodalIndex(embedder, MemoryStore(), auto_calibrate=False) as index:
        index.add_texts(f"text {number}" for number in range(200))
    assert embedder.most_in_flight == 3
    assert len(embedder.calls) == 50


def test_sources_are_pulled_only_as_far_as_the_window_reaches() -> None:
    """Memory depends on the window, not on the number of items."""
    pulled = 0
    furthest = 0

    def texts() -> Iterator[str]:
        nonlocal pulled
        for number in range(3_000):
            pulled += 1
            yield f"text {number}"

    def event(progress: Progress) -> None:
        nonlocal furthest
        furthest = max(furthest, pulled - progress.done)

    embedder = TinyEmbedder(max_batch_size=4, max_concurrency=2, before=slowly(0.0005))
    with MultimodalIndex(embedder, MemoryStore()) as index:
        index.add_texts(texts(), progress=event)
    assert pulled == 3_000
    assert furthest <= 4 * (2 + 2) + 4 * 8 + 16


def test_a_window_of_bytes_holds_back_big_images() -> None:
    """Decoded images are large: two of them may be all that fits."""
    loaded = 0

    class Watched(TinyEmbedder):
        most = 0

        def prepare(self, content):  # type: ignore[no-untyped-def]
            nonlocal loaded
            loaded += 1
            return Image(image(loaded, (100, 100)))

        def embed(self, contents, /, *, role):  # type: ignore[no-untyped-def]
            Watched.most = max(Watched.most, loaded - self.embedded)
            return super().embed(contents, role=role)

    embedder = Watched(max_batch_size=2, max_concurrency=1, before=slowly(0.002))
    with MultimodalIndex(embedder, MemoryStore(), auto_calibrate=False) as index:
        report = index.add_images((png(number) for number in range(60)), window_bytes=60_000)
    assert report.added == 60
    assert Watched.most < 40


@pytest.mark.parametrize("window_bytes", [1, 600, 5_000])
def test_contents_larger_than_the_window_go_through_one_by_one(window_bytes: int) -> None:
    """A window that is too small must not bring the run to a stand."""
    embedder = TinyEmbedder(max_batch_size=4)
    with MultimodalIndex(embedder, MemoryStore()) as index:
        images = (image(number, (30, 30)) for number in range(30))
        assert index.add_images(images, window_bytes=window_bytes).added == 30


def test_progress_tells_what_is_stored_and_ends(index: MultimodalIndex) -> None:
    events: list[Progress] = []
    index.add(["a", "b", 3, "c"], progress=events.append)  # type: ignore[list-item]
    last = events[-1]
    assert (last.done, last.total, last.failed, last.finished) == (4, 4, 1, True)
    stored = [point_id for event in events for point_id in event.stored]
    assert sorted(map(str, stored)) == sorted(str(record.id) for record in index.store.scan())
    assert all(isinstance(UUID(str(point_id)), UUID) for point_id in stored)


def test_a_person_at_a_terminal_sees_a_bar_and_a_log_file_does_not(
    index: MultimodalIndex, capsys: pytest.CaptureFixture[str]
) -> None:
    index.add(["a"])
    assert capsys.readouterr().err == ""
    index.add(["b"], progress=True)
    assert "indexing" in capsys.readouterr().err


def test_ctrl_c_stops_within_a_second_and_says_what_is_stored() -> None:
    """Even while calls hang; the threads end by themselves."""
    embedder = TinyEmbedder(max_batch_size=2, max_concurrency=2, before=lambda call: time.sleep(0 if call < 5 else 1.5))
    with MultimodalIndex(embedder, MemoryStore(), auto_calibrate=False) as index:
        pressed: list[float] = []

        def interrupt() -> None:
            pressed.append(time.monotonic())
            os.kill(os.getpid(), 2)

        timer = threading.Timer(0.5, interrupt)
        timer.start()
        with pytest.raises(IndexingInterrupted) as caught:
            index.add_texts(f"text {number}" for number in range(1_000))
        assert time.monotonic() - pressed[0] < 1
        assert caught.value.report.added == index.count() == 8
        deadline = time.monotonic() + 5
        while any(thread.name.startswith("multimodal") for thread in threading.enumerate()):
            assert time.monotonic() < deadline, "stray threads"
            time.sleep(0.05)


def test_threads_are_gone_after_a_run(index: MultimodalIndex) -> None:
    before = set(threading.enumerate())  # another test may have left one in a call that hangs
    index.add_texts(f"text {number}" for number in range(100))
    left = set(threading.enumerate()) - before
    assert not [thread.name for thread in left if thread.name.startswith("multimodal")]


def test_a_slow_source_does_not_hold_back_what_it_has_yielded(
    index: MultimodalIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A camera that gives an image a minute: the first is searchable before the last has come."""
    monkeypatch.setattr("multimodal_search._indexing.pipeline.LINGER_S", 0.1)
    seen: list[int] = []

    def texts() -> Iterator[str]:
        for number in range(10):
            yield f"text {number}"
            time.sleep(0.15)
            seen.append(index.count())

    index.add_texts(texts())
    assert seen[-1] >= 2


@pytest.mark.parametrize("start", [-3, 2**64, 1.5, True, "0", None])
def test_numbers_that_no_point_can_have_are_refused_at_once(start: object) -> None:
    """They would be replaced in silence by 0, and the points be looked for in vain."""
    with pytest.raises(ConfigurationError, match="SequentialIds"):
        SequentialIds(start)  # type: ignore[arg-type]


def test_a_name_in_the_place_of_an_id_is_told_how_to_find_the_file(index: MultimodalIndex) -> None:
    for call in (index.get, index.delete, index.similar, lambda name: index.get([name])):
        with pytest.raises((ConfigurationError, QueryError), match=r"'a\.jpg'.*where=\{'filename': \.\.\.\}"):
            call("a.jpg")
    assert "leave it out" in index.add([Item("x", id="a.jpg")]).failed[0].reason


def test_an_unknown_option_of_a_run_is_named() -> None:
    """A slip in an option must not pass as if it had been heeded."""
    index = MultimodalIndex(TinyEmbedder(), MemoryStore())
    with pytest.raises(TypeError, match=r"'on_eror'.* on_error, progress, window_bytes, retry_failed"):
        index.add_texts(["a"], on_eror="raise")  # type: ignore[call-arg]
    assert index.count() == 0
