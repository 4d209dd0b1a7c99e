"""Synchronising a folder: the index becomes what indexing anew would make it, at the least cost."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from tiny_embedder import TinyEmbedder, folder_of, image, png

from multimodal_search import (
    ConfigurationError,
    ContentIds,
    IdScheme,
    Image,
    IndexingError,
    IndexReport,
    Item,
    MemoryStore,
    MultimodalIndex,
    PathIds,
    QdrantEdgeStore,
    Record,
    SequentialIds,
    StoreError,
    UnsupportedContentError,
)
from multimodal_search.types import FloatArray, PointId

every_scheme = pytest.mark.parametrize(
    "ids", [PathIds(), ContentIds(), SequentialIds()], ids=lambda ids: type(ids).__name__
)


@pytest.fixture
def embedder() -> TinyEmbedder:
    return TinyEmbedder()


@pytest.fixture
def index(embedder: TinyEmbedder) -> Iterator[MultimodalIndex]:
    with MultimodalIndex(embedder, MemoryStore()) as index:
        yield index


def counts(report: IndexReport) -> dict[str, int]:
    """What a report counts, without zeros."""
    names = ("added", "updated", "moved", "unchanged", "removed", "embedded")
    found = {name: getattr(report, name) for name in names} | {"failed": len(report.failed)}
    return {name: count for name, count in found.items() if count}


def names(index: MultimodalIndex) -> list[str]:
    return sorted(record.payload["filename"] for record in index.store.scan())


def contents(index: MultimodalIndex) -> list[tuple[Any, ...]]:
    """What stands in an index: filename, SHA-256, vector (rounded, of unit length) and user fields."""
    records = list(index.store.scan())
    own = {"filename", "root", "sha256", "size", "mtime_ns"}
    found = []
    for record in index.get([record.id for record in records], with_vectors=True):
        assert record is not None
        assert record.vector is not None
        vector = np.asarray(record.vector) / np.linalg.norm(record.vector)
        fields = {name: value for name, value in record.payload.items() if name not in own}
        filename, sha256 = record.payload["filename"], record.payload["sha256"]
        found.append((filename, sha256, tuple(np.round(vector, 3).tolist()), fields))
    return sorted(found, key=str)


def fresh(folder: Path, ids: IdScheme | None = None) -> list[tuple[Any, ...]]:
    """What stands in an index that was made of the folder just now."""
    with MultimodalIndex(TinyEmbedder(), MemoryStore(), ids=ids) as index:
        index.add_images(folder)
        return contents(index)


def sync(index: MultimodalIndex, folder: Path, **options: Any) -> dict[str, int]:
    """Synchronise, after a dry run that must foretell it all and change nothing; the counts."""
    before = snapshot(index)
    embedder = index.embedder
    assert isinstance(embedder, TinyEmbedder)
    calls = len(embedder.calls)
    foretold = index.sync_folder(folder, dry_run=True, **options)
    assert foretold.dry_run
    assert snapshot(index) == before
    assert len(embedder.calls) == calls
    found = counts(index.sync_folder(folder, **options))
    assert counts(foretold) == found
    return found


def snapshot(index: MultimodalIndex) -> list[tuple[PointId, Any, bytes]]:
    ids = [record.id for record in index.store.scan()]
    records = [record for record in index.get(ids, with_vectors=True) if record is not None]
    return [(record.id, record.payload, np.asarray(record.vector).tobytes()) for record in records]


def shift(folder: Path, order: Sequence[str]) -> None:
    """Each file takes the name of the next one; the last name is free."""
    for number, name in reversed(list(enumerate(order[:-1]))):
        (folder / name).rename(folder / order[number + 1])


def swap(one: Path, other: Path) -> None:
    aside = one.with_name("aside.tmp")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


# -- what costs nothing ------------------------------------------------------------------------------------------------


@every_scheme
def test_unchanged_files_are_not_even_read(ids: IdScheme, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A nightly run over a million photos must cost minutes, not the reading of a disk."""
    folder = folder_of(tmp_path / "a" / "b", 12).parent
    with MultimodalIndex(TinyEmbedder(), MemoryStore(), ids=ids) as index:
        assert sync(index, folder) == {"added": 12, "embedded": 12}
        monkeypatch.setattr("multimodal_search._indexing.pipeline.load", lambda *_: pytest.fail("a file was read"))
        assert sync(index, folder) == {"unchanged": 12}


@every_scheme
def test_a_touched_file_is_read_once_and_keeps_its_vector(ids: IdScheme, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 3)
    with MultimodalIndex(TinyEmbedder(), MemoryStore(), ids=ids) as index:
        sync(index, folder)
        os.utime(folder / "1.png", ns=(1, 1))
        assert sync(index, folder) == {"unchanged": 3}
        assert {record.payload["mtime_ns"] for record in index.store.scan()} >= {1}


@every_scheme
def test_a_changed_file_is_embedded_anew_and_its_former_content_is_gone(ids: IdScheme, tmp_path: Path) -> None:
    """Where ids follow contents, too: there the former content is another point."""
    folder = folder_of(tmp_path, 3)
    with MultimodalIndex(TinyEmbedder(), MemoryStore(), ids=ids) as index:
        sync(index, folder)
        (folder / "1.png").write_bytes(png(77))
        changed = {"added": 1, "removed": 1} if ids == ContentIds() else {"updated": 1}
        assert sync(index, folder) == {**changed, "unchanged": 2, "embedded": 1}
        assert contents(index) == fresh(folder)
        assert index.search(image(77), limit=1)[0].score > 0.999


@every_scheme
@pytest.mark.parametrize("place", ["1b.png", "x/y/1.png"])
def test_a_moved_file_keeps_its_vector(ids: IdScheme, place: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 3)
    with MultimodalIndex(TinyEmbedder(), MemoryStore(), ids=ids) as index:
        sync(index, folder)
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / "1.png").rename(folder / place)
        assert sync(index, folder) == {"moved": 1, "unchanged": 2}
        assert contents(index) == fresh(folder)


@every_scheme
def test_a_renamed_folder_keeps_its_vectors(ids: IdScheme, tmp_path: Path) -> None:
    folder_of(tmp_path / "f" / "old", 40)
    folder_of(tmp_path / "f" / "other", 3, start=50)
    with MultimodalIndex(TinyEmbedder(), MemoryStore(), ids=ids) as index:
        sync(index, tmp_path / "f")
        (tmp_path / "f" / "old").rename(tmp_path / "f" / "new")
        assert sync(index, tmp_path / "f") == {"moved": 40, "unchanged": 3}
        assert contents(index) == fresh(tmp_path / "f")


@every_scheme
def test_a_folder_that_moved_as_a_whole_keeps_its_vectors(ids: IdScheme, tmp_path: Path) -> None:
    """Photos that were copied to a new disk: the points of the old place are that place's own business."""
    folder_of(tmp_path / "old", 5)
    with MultimodalIndex(TinyEmbedder(), MemoryStore(), ids=ids) as index:
        sync(index, tmp_path / "old")
        (tmp_path / "old").rename(tmp_path / "new")
        assert "embedded" not in sync(index, tmp_path / "new")
        assert {str(tmp_path / "new")} <= {record.payload["root"] for record in index.store.scan()}


def test_a_moved_and_edited_file_is_a_new_one(index: MultimodalIndex, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 2)
    sync(index, folder)
    (folder / "1.png").rename(folder / "2.png")
    (folder / "2.png").write_bytes(png(2))
    assert sync(index, folder) == {"added": 1, "unchanged": 1, "removed": 1, "embedded": 1}
    assert contents(index) == fresh(folder)


@every_scheme
def test_a_copy_is_found_and_costs_no_embedding(ids: IdScheme, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 2)
    with MultimodalIndex(TinyEmbedder(), MemoryStore(), ids=ids) as index:
        sync(index, folder)
        shutil.copy(folder / "1.png", folder / "copy.png")
        expected = {"unchanged": 3} if ids == ContentIds() else {"added": 1, "unchanged": 2}
        assert sync(index, folder) == expected
        if ids != ContentIds():
            assert contents(index) == fresh(folder)


@every_scheme
def test_identical_files_are_embedded_once_in_one_run(ids: IdScheme, tmp_path: Path) -> None:
    """Bursts, duplicates, placeholders: 60 files of 3 contents cost 3 embeddings, and all 60 are found."""
    folder = folder_of(tmp_path, 3)
    for number in range(57):
        (folder / f"copy-{number}.png").write_bytes(png(number % 3))
    embedder = TinyEmbedder(max_batch_size=4)
    with MultimodalIndex(embedder, MemoryStore(), ids=ids) as index:
        found = sync(index, folder)
        assert found["embedded"] == embedder.embedded == 3
        assert index.count() == (3 if ids == ContentIds() else 60)


def test_a_content_is_found_among_many_copies_of_another(index: MultimodalIndex, tmp_path: Path) -> None:
    """A look-up that stopped after so many records would miss it, and it would be paid for again."""
    folder = folder_of(tmp_path, 2)
    for number in range(120):
        (folder / f"c{number}.png").write_bytes(png(0))
    sync(index, folder)
    (folder / "new-0.png").write_bytes(png(0))
    (folder / "new-1.png").write_bytes(png(1))
    assert sync(index, folder) == {"added": 2, "unchanged": 122}


# -- names that change hands -------------------------------------------------------------------------------------------


@every_scheme
@pytest.mark.parametrize("count", [2, 120])
def test_files_that_swap_their_names_keep_their_vectors(ids: IdScheme, count: int, tmp_path: Path) -> None:
    """Also where the two are so far apart that one is written before the other is looked at."""
    folder = folder_of(tmp_path, count)
    with MultimodalIndex(TinyEmbedder(max_batch_size=2, max_concurrency=1), MemoryStore(), ids=ids) as index:
        sync(index, folder)
        for number in range(count // 2):
            swap(folder / f"{number}.png", folder / f"{count - 1 - number}.png")
        assert "embedded" not in sync(index, folder)
        assert contents(index) == fresh(folder)


@every_scheme
@pytest.mark.parametrize("count", [2, 120])
@pytest.mark.parametrize("up", [True, False])
def test_files_that_all_move_up_or_down_by_one_keep_their_vectors(
    ids: IdScheme, count: int, up: bool, tmp_path: Path
) -> None:
    """What renumbering a folder does: every name but one now stands for another image."""
    folder = folder_of(tmp_path, count)
    order = [f"{number}.png" for number in range(count + 1)]
    with MultimodalIndex(TinyEmbedder(max_batch_size=2, max_concurrency=1), MemoryStore(), ids=ids) as index:
        sync(index, folder)
        if not up:
            (folder / "0.png").rename(folder / order[-1])
        shift(folder, order if up else order[:0:-1])
        assert "embedded" not in sync(index, folder)
        assert contents(index) == fresh(folder)


@every_scheme
def test_a_file_moved_over_another_leaves_one(ids: IdScheme, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 3)
    with MultimodalIndex(TinyEmbedder(), MemoryStore(), ids=ids) as index:
        sync(index, folder)
        (folder / "0.png").replace(folder / "1.png")
        assert "embedded" not in sync(index, folder)
        assert contents(index) == fresh(folder)


def test_a_point_of_two_equal_files_stays_while_one_of_them_does(tmp_path: Path) -> None:
    """Where ids follow contents, two files are one point, which names one of them."""
    folder = folder_of(tmp_path, 2)
    shutil.copy(folder / "0.png", folder / "zero.png")
    with MultimodalIndex(TinyEmbedder(), MemoryStore(), ids=ContentIds()) as index:
        sync(index, folder)
        named = next(name for name in names(index) if name != "1.png")
        other = ({"0.png", "zero.png"} - {named}).pop()
        (folder / named).write_bytes(png(5))  # changed ...
        assert sync(index, folder) == {"added": 1, "moved": 1, "unchanged": 1, "embedded": 1}
        assert names(index) == sorted(["1.png", named, other])
        shutil.copy(folder / other, folder / "last.png")
        (folder / other).unlink()  # ... or deleted
        assert sync(index, folder) == {"moved": 1, "unchanged": 2}
        assert names(index) == sorted(["1.png", "last.png", named])


# -- what is removed, and what is not ----------------------------------------------------------------------------------


@every_scheme
def test_the_point_of_a_deleted_file_is_removed_unless_told_otherwise(ids: IdScheme, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a", 300)
    with MultimodalIndex(TinyEmbedder(max_batch_size=64), MemoryStore(), ids=ids) as index:
        sync(index, folder)
        for number in range(290):
            (folder / f"{number}.png").unlink()
        assert sync(index, folder, prune=False) == {"unchanged": 10}
        assert index.count() == 300
        assert sync(index, folder) == {"unchanged": 10, "removed": 290}
        assert contents(index) == fresh(folder)


def test_without_pruning_a_moved_file_is_an_added_one(index: MultimodalIndex, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 2)
    sync(index, folder)
    (folder / "0.png").rename(folder / "2.png")
    assert sync(index, folder, prune=False) == {"added": 1, "unchanged": 1}
    assert names(index) == ["0.png", "1.png", "2.png"]


@every_scheme
@pytest.mark.parametrize("what", ["garbage", "empty", "refused"])
def test_the_point_of_a_file_that_has_become_no_image_is_removed(ids: IdScheme, what: str, tmp_path: Path) -> None:
    """Else a search would find what is not there any more. The file itself is reported."""

    class Choosy(TinyEmbedder):
        def embed(self, contents, /, *, role):  # type: ignore[no-untyped-def]
            if what == "refused" and any(content.source.width == 7 for content in contents):
                raise UnsupportedContentError("the model refused an image of this batch")
            return super().embed(contents, role=role)

    folder = folder_of(tmp_path, 3)
    with MultimodalIndex(Choosy(), MemoryStore(), ids=ids) as index:
        sync(index, folder)
        if what == "refused":
            image(1, (7, 7)).save(folder / "1.png")
            report = index.sync_folder(folder)
        else:
            (folder / "1.png").write_bytes(b"no image" if what == "garbage" else b"")
            assert sync(index, folder) == {"unchanged": 2, "removed": 1, "failed": 1}
            report = index.sync_folder(folder)
        assert report.failed[0].name == str(folder / "1.png")
        assert names(index) == ["0.png", "2.png"]
        (folder / "1.png").write_bytes(png(1))
        assert sync(index, folder)["added"] == 1


@pytest.mark.parametrize("garbage", [True, False])
def test_the_points_of_another_folder_are_left_alone(index: MultimodalIndex, garbage: bool, tmp_path: Path) -> None:
    """Though their files have the same names, and so under path ids the same points."""
    folder_of(tmp_path / "one", 2)
    folder_of(tmp_path / "two", 1, start=7)
    (tmp_path / "two" / "0.png").write_bytes(b"no image" if garbage else png(55))
    sync(index, tmp_path / "one")
    assert sync(index, tmp_path / "two") == {"added": 1, "embedded": 1, "failed": 1}
    assert names(index) == ["0.png", "1.png", "7.png"]
    assert index.search(image(0), limit=1)[0].path == tmp_path / "one" / "0.png"


@every_scheme
def test_folders_below_a_common_root_are_synchronised_separately(ids: IdScheme, tmp_path: Path) -> None:
    """Each on its own schedule; what was deleted in one is the other run's business."""
    folder_of(tmp_path / "a", 3)
    folder_of(tmp_path / "b", 3, start=10)
    folder_of(tmp_path / "ab", 1, start=20)
    with MultimodalIndex(TinyEmbedder(), MemoryStore(), ids=ids) as index:
        for name in ("a", "b", "ab"):
            sync(index, tmp_path / name, root=tmp_path)
        assert names(index) == ["a/0.png", "a/1.png", "a/2.png", "ab/20.png", "b/10.png", "b/11.png", "b/12.png"]
        (tmp_path / "a" / "0.png").unlink()
        (tmp_path / "b" / "10.png").unlink()
        assert sync(index, tmp_path / "a", root=tmp_path) == {"unchanged": 2, "removed": 1}
        assert "b/10.png" in names(index)
        assert sync(index, tmp_path / "b", root=tmp_path) == {"unchanged": 2, "removed": 1}
        (tmp_path / "a" / "1.png").rename(tmp_path / "b" / "1.png")  # from one to the other
        assert sync(index, tmp_path / "b", root=tmp_path) == {"unchanged": 2, "moved": 1}
        assert sync(index, tmp_path / "a", root=tmp_path) == {"unchanged": 1}
        assert sync(index, tmp_path) == sync(index, tmp_path) == {"unchanged": 5}
        assert contents(index) == fresh(tmp_path)


@pytest.mark.parametrize("state", ["missing", "empty", "hidden only", "no match"])
def test_a_folder_without_files_removes_nothing(index: MultimodalIndex, state: str, tmp_path: Path) -> None:
    """More likely its disk is not mounted than that every image was deleted."""
    folder = folder_of(tmp_path / "photos", 3)
    sync(index, folder)
    shutil.rmtree(folder)
    if state != "missing":
        folder.mkdir()
    if state == "hidden only":
        (folder / ".hidden.png").write_bytes(png(1))
    if state == "no match":
        folder_of(folder, 3)
    for dry_run in (True, False):
        with pytest.raises(ConfigurationError, match="photos"):
            index.sync_folder(folder, dry_run=dry_run, pattern="*.jpg" if state == "no match" else None)
    assert index.count() == 3


def test_a_subfolder_that_cannot_be_read_keeps_its_points(
    index: MultimodalIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that went away, a network share that hangs: its files are not there, and not gone either."""
    folder_of(tmp_path / "here", 2)
    away = folder_of(tmp_path / "away" / "deep", 3, start=10).parent
    sync(index, tmp_path)
    shutil.rmtree(away / "deep")
    (tmp_path / "here" / "0.png").unlink()
    scandir = os.scandir

    def broken(path: str | os.PathLike[str]) -> Any:
        if Path(path) == away:
            raise OSError(5, "Input/output error")
        return scandir(path)

    monkeypatch.setattr("os.scandir", broken)
    assert sync(index, tmp_path) == {"unchanged": 1, "removed": 1, "failed": 1}
    failure = index.sync_folder(tmp_path).failed[0]
    assert failure.name.startswith(str(away))
    assert "Input/output error" in failure.reason
    assert names(index) == ["away/deep/10.png", "away/deep/11.png", "away/deep/12.png", "here/1.png"]
    monkeypatch.undo()
    assert sync(index, tmp_path, gone="away") == {"unchanged": 1, "removed": 3}


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
@pytest.mark.parametrize("closed", ["folder", "file"])
def test_what_may_not_be_looked_at_keeps_its_point(closed: str) -> None:
    """Permissions come and go; and a look at such a file is an error that must not end the run."""
    with tempfile.TemporaryDirectory() as place, MultimodalIndex(TinyEmbedder(), MemoryStore()) as index:
        folder_of(Path(place) / "open", 2)
        secret = folder_of(Path(place) / "secret", 2, start=10)
        copy = Path(place) / "open" / "copy.png"
        sync(index, Path(place))
        os.utime(secret / "10.png", ns=(1, 1))
        shutil.copy(secret / "10.png", copy)  # whose twin is asked after
        with unprivileged(Path(place)):
            (secret if closed == "folder" else secret / "10.png").chmod(0)
            found = sync(index, Path(place))
            (secret if closed == "folder" else secret / "10.png").chmod(0o700)
        assert found == {"added": 1, "unchanged": 2 if closed == "folder" else 3, "failed": 1}
        assert names(index) == ["open/0.png", "open/1.png", "open/copy.png", "secret/10.png", "secret/11.png"]


@contextmanager
def unprivileged(folder: Path) -> Iterator[None]:
    """For a while, be a user to whom permissions apply, and who owns a folder."""
    user = os.geteuid()
    if user != 0:
        yield
        return
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, 65534, 65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


# -- what is looked at -------------------------------------------------------------------------------------------------


def test_hidden_files_and_the_indexs_own_folder_are_left_out(tmp_path: Path) -> None:
    """An index beside the photos moves with them; its files are no photos."""
    folder_of(tmp_path, 2)
    folder_of(tmp_path / ".thumbnails", 2, start=10)
    (tmp_path / ".hidden.png").write_bytes(png(20))
    (tmp_path / "Thumbs.db").write_bytes(b"of Windows")
    with MultimodalIndex(TinyEmbedder(), QdrantEdgeStore(tmp_path / "search")) as index:
        assert sync(index, tmp_path) == {"added": 2, "embedded": 2}
        assert sync(index, tmp_path) == {"unchanged": 2}
        (tmp_path / "1.png").rename(tmp_path / ".1.png")
        assert sync(index, tmp_path) == {"unchanged": 1, "removed": 1}


def test_a_file_renamed_within_a_synchronised_index_on_disk_keeps_its_vector(tmp_path: Path) -> None:
    """The engine's own vectors go from point to point unharmed."""
    folder = folder_of(tmp_path / "photos", 30)
    for start in (0, 1):
        with MultimodalIndex.open(tmp_path / "index", embedder=TinyEmbedder()) as index:
            if start:
                shift(folder, [f"{number}.png" for number in range(31)])
            found = sync(index, folder)
            assert found.get("embedded", 0) == (0 if start else 30)
            assert contents(index) == fresh(folder)


def test_links_to_folders_are_followed_when_asked_and_loops_end(index: MultimodalIndex, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", 1)
    folder_of(tmp_path / "elsewhere", 2, start=5)
    (folder / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (tmp_path / "elsewhere" / "back").symlink_to(folder, target_is_directory=True)
    assert sync(index, folder) == {"added": 1, "embedded": 1}
    assert sync(index, folder, follow_symlinks=True) == {"added": 2, "unchanged": 1, "embedded": 2}
    assert names(index) == ["0.png", "link/5.png", "link/6.png"]
    (tmp_path / "elsewhere" / "5.png").unlink()
    assert sync(index, folder, follow_symlinks=True) == {"unchanged": 2, "removed": 1}


def test_not_going_into_folders_leaves_their_points(index: MultimodalIndex, tmp_path: Path) -> None:
    folder_of(tmp_path, 1)
    folder_of(tmp_path / "below", 2, start=5)
    sync(index, tmp_path)
    assert sync(index, tmp_path, recursive=False) == {"unchanged": 1}
    assert len(names(index)) == 3


def test_fields_that_a_user_gave_outlive_a_synchronisation(index: MultimodalIndex, tmp_path: Path) -> None:
    """Labels that somebody has typed must not be wiped because a folder knows nothing of them."""
    folder = folder_of(tmp_path, 4)
    items = [Item(Image(folder / f"{number}.png"), payload={"label": f"cat {number}"}) for number in range(4)]
    index.add_images(items, root=folder)
    (folder / "1.png").rename(folder / "moved.png")
    (folder / "2.png").write_bytes(png(77))
    os.utime(folder / "3.png", ns=(1, 1))
    assert sync(index, folder) == {"updated": 1, "moved": 1, "unchanged": 2, "embedded": 1}
    labels = {record.payload["filename"]: record.payload["label"] for record in index.store.scan()}
    assert labels == {"0.png": "cat 0", "moved.png": "cat 1", "2.png": "cat 2", "3.png": "cat 3"}


def test_points_with_ids_of_the_users_own_are_kept_in_step(index: MultimodalIndex, tmp_path: Path) -> None:
    """Indexed from a table with ids, then as a folder: a file is one point all the same."""
    folder = folder_of(tmp_path, 2)
    index.add_images([Item(Image(folder / "0.png"), id=7), Item(Image(folder / "1.png"), id=8)], root=folder)
    assert sync(index, folder) == {"unchanged": 2}
    (folder / "0.png").write_bytes(png(50))
    (folder / "1.png").unlink()
    assert sync(index, folder) == {"updated": 1, "removed": 1, "embedded": 1}
    assert [record.id for record in index.store.scan()] == [7]


@pytest.mark.parametrize("window_bytes", [1, 2_000])
def test_a_small_window_loses_no_file(index: MultimodalIndex, tmp_path: Path, window_bytes: int) -> None:
    """What waits for room is still to come when nothing else is under way."""
    folder = folder_of(tmp_path, 60)
    assert sync(index, folder, window_bytes=window_bytes) == {"added": 60, "embedded": 60}


def test_what_lies_behind_a_link_that_leads_nowhere_just_now_keeps_its_points(
    index: MultimodalIndex, tmp_path: Path
) -> None:
    """An external disk that is not plugged in has not lost its photos."""
    folder = folder_of(tmp_path / "photos", 1)
    folder_of(tmp_path / "disk", 2, start=5)
    (folder / "disk").symlink_to(tmp_path / "disk")
    sync(index, folder, follow_symlinks=True)
    (tmp_path / "disk").rename(tmp_path / "unplugged")
    assert sync(index, folder, follow_symlinks=True) == {"unchanged": 1, "failed": 1}
    assert index.count() == 3


def test_a_bad_link_costs_none_of_its_neighbours(index: MultimodalIndex, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 10)
    (folder / "loop").symlink_to(folder / "loop")
    assert index.add_images(folder).added == 10


def test_a_pattern_leaves_the_points_of_other_files_as_they_are(index: MultimodalIndex, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 2)
    (folder / "other.jpg").write_bytes(png(9))
    sync(index, folder)
    (folder / "other.jpg").unlink()
    (folder / "1.png").unlink()
    assert sync(index, folder, pattern="*.png") == {"unchanged": 1, "removed": 1}
    assert index.count() == 2


def test_a_folder_by_another_name_is_the_same_folder(index: MultimodalIndex, tmp_path: Path) -> None:
    """Homes and temporary folders are links on many machines."""
    real = folder_of(tmp_path / "real", 2)
    (tmp_path / "link").symlink_to(real)
    sync(index, real)
    (real / "0.png").write_bytes(png(44))
    assert sync(index, tmp_path / "link") == {"updated": 1, "unchanged": 1, "embedded": 1}


def test_what_was_deleted_while_a_folder_moved_is_removed(index: MultimodalIndex, tmp_path: Path) -> None:
    folder_of(tmp_path / "old", 3)
    sync(index, tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    (tmp_path / "new" / "1.png").unlink()
    found = index.sync_folder(tmp_path / "new")
    assert (found.unchanged, found.removed, index.count()) == (2, 1, 2)


def test_equal_images_of_two_roots_do_not_hide_a_deleted_file(index: MultimodalIndex, tmp_path: Path) -> None:
    for name in ("a", "b"):
        folder_of(tmp_path / name, 1)
    (tmp_path / "b" / "more.png").write_bytes(png(30))
    index.sync_folder(tmp_path / "a")
    index.sync_folder(tmp_path / "b")
    (tmp_path / "b" / "more.png").unlink()
    assert index.sync_folder(tmp_path / "b", dry_run=True).removed == 1
    assert index.sync_folder(tmp_path / "b").removed == 1


def test_events_of_a_synchronisation_end_with_everything_done(index: MultimodalIndex, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 5)
    events: list[Any] = []
    index.sync_folder(folder, progress=events.append)
    assert (events[-1].done, events[-1].finished) == (5, True)
    assert len({point_id for event in events for point_id in event.stored}) == 5


# -- anything, in any order --------------------------------------------------------------------------------------------

PLACES = ["a.png", "b.png", "c.png", "x/a.png", "x/b.png", "x/y/a.png", "z/c.png", "z/d.png", "e.png", "f.png"]
place = st.sampled_from(PLACES)
file = st.integers(0, len(PLACES) - 1)  # one of those that are there
number = st.integers(0, 6)


class Faults:
    """Makes a store fail on command, before or after it did what was asked."""

    before: Callable[[str], None] = staticmethod(lambda call: None)
    after: Callable[[str], None] = staticmethod(lambda call: None)

    def upsert(self, records: Sequence[Record], vectors: FloatArray, /) -> None:
        self.before("upsert")
        super().upsert(records, vectors)  # type: ignore[misc]
        self.after("upsert")

    def delete(self, ids: Sequence[PointId], /) -> None:
        self.before("delete")
        super().delete(ids)  # type: ignore[misc]
        self.after("delete")


class FaultyMemoryStore(Faults, MemoryStore):
    pass


class FaultyEdgeStore(Faults, QdrantEdgeStore):
    pass


class Countdown:
    """Raises at its nth call, and from then on."""

    def __init__(self, calls: int, error: Exception) -> None:
        self._left = calls
        self._error = error

    def __call__(self, _: object = None) -> None:
        self._left -= 1
        if self._left <= 0:
            raise self._error


class AnyOrder(RuleBasedStateMachine):
    """People do anything to a folder; whenever a synchronisation succeeds, the index is that of the folder."""

    ids: ClassVar[IdScheme] = PathIds()
    on_disk: ClassVar[bool] = False

    @initialize(numbers=st.lists(number, min_size=3, max_size=6))
    def begin(self, numbers: list[int]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sync"))
        self.clock = 1
        self.store: FaultyMemoryStore | FaultyEdgeStore = FaultyMemoryStore()
        self.open()
        self.files: dict[str, bytes] = {}
        for name, number in zip(PLACES, numbers, strict=False):
            self.put(name, png(number))

    def open(self) -> None:
        if self.on_disk:
            self.store.close()
            self.store = FaultyEdgeStore(self.folder / "index")
        self.embedder = TinyEmbedder(max_batch_size=2)
        self.index = MultimodalIndex(self.embedder, self.store, ids=self.ids)

    def teardown(self) -> None:
        if hasattr(self, "files"):
            self.synchronise()
            self.store.close()
            shutil.rmtree(self.folder)

    # -- what people do

    def put(self, name: str, data: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.files[name] = data
        self.date(name)

    def date(self, name: str) -> None:
        self.clock += 1  # file systems count time in ticks of some milliseconds, and this is faster
        os.utime(self.folder / name, ns=(self.clock, self.clock))

    def named(self, file: int) -> str:
        return sorted(self.files)[file % len(self.files)]

    @rule(name=place, number=number)
    def write(self, name: str, number: int) -> None:
        self.put(name, png(number))

    @rule(file=file, number=number)
    def edit(self, file: int, number: int) -> None:
        self.put(self.named(file), png(number))

    @rule(file=file)
    def spoil(self, file: int) -> None:
        self.put(self.named(file), b"no image")

    @rule(file=file)
    def touch(self, file: int) -> None:
        self.date(self.named(file))

    @rule(file=file, name=place)
    def move(self, file: int, name: str) -> None:
        source, target = self.named(file), self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (self.folder / source).replace(target)
        self.files[name] = self.files.pop(source)

    @rule(file=file, name=place)
    def copy(self, file: int, name: str) -> None:
        self.put(name, self.files[self.named(file)])

    @rule(files=st.lists(file, min_size=2, max_size=5))
    def swap(self, files: list[int]) -> None:
        for one, other in itertools.pairwise(map(self.named, files)):
            if one != other:
                swap(self.folder / one, self.folder / other)
                self.files[one], self.files[other] = self.files[other], self.files[one]

    @rule(file=file)
    def delete(self, file: int) -> None:
        if len(self.files) > 1:
            name = self.named(file)
            (self.folder / name).unlink()
            del self.files[name]

    @rule()
    def reopen(self) -> None:
        self.open()

    # -- what the index does

    def new_contents(self) -> int:
        stored = {record.payload["sha256"] for record in self.store.scan()}
        images = {hashlib.sha256(data).hexdigest() for data in self.files.values() if data != b"no image"}
        return len(images - stored)

    @rule()
    def synchronise(self) -> None:
        new, embedded = self.new_contents(), self.embedder.embedded
        sync(self.index, self.folder, gone=".")  # emptied folders are none of disks
        assert self.embedder.embedded - embedded == new
        found, expected = contents(self.index), fresh(self.folder, self.ids)
        if self.ids == ContentIds():  # which of several equal files it names is nobody's business
            for filename, sha256, *_ in found:
                assert hashlib.sha256(self.files[filename]).hexdigest() == sha256
            found, expected = (sorted((each[1:] for each in side), key=str) for side in (found, expected))
        assert found == expected
        stale = [record for record in self.store.scan() if not self.is_current(record)]
        assert not stale

    def is_current(self, record: Record) -> bool:
        status = (self.folder / record.payload["filename"]).stat()
        return (status.st_size, status.st_mtime_ns) == (record.payload["size"], record.payload["mtime_ns"])

    @rule(calls=st.integers(1, 4), what=st.sampled_from(["embed", "before", "after"]))
    def crash(self, calls: int, what: str) -> None:
        countdown = Countdown(calls, StoreError("the disk is full"))
        new, embedded = self.new_contents(), self.embedder.embedded
        if what == "embed":
            self.embedder.before = countdown
        else:
            setattr(self.store, what, countdown)
        stopped: IndexingError | None = None
        try:
            self.index.sync_folder(self.folder)
        except IndexingError as error:
            stopped = error
        if stopped is not None:
            assert "disk is full" in str(stopped)
            assert stopped.report.added <= self.index.count()
        self.embedder.before = self.store.before = self.store.after = lambda _: None
        # Parts of a batch of 8 that fails are tried down to single ones, and something harmless beside them.
        most = 4 * new + 2 if what == "embed" else new
        assert self.embedder.embedded - embedded <= most


class AnyOrderContentIds(AnyOrder):
    ids = ContentIds()


class AnyOrderSequentialIds(AnyOrder):
    ids = SequentialIds()


class AnyOrderOnDisk(AnyOrder):
    on_disk = True


EXAMPLES = int(os.environ.get("SYNC_EXAMPLES", "30"))
for machine in (AnyOrder, AnyOrderContentIds, AnyOrderSequentialIds, AnyOrderOnDisk):
    examples = EXAMPLES // 10 if machine.on_disk else EXAMPLES
    machine.TestCase.settings = settings(max_examples=examples, stateful_step_count=25, deadline=None)
TestAnyOrderPathIds = AnyOrder.TestCase
TestAnyOrderContentIds = AnyOrderContentIds.TestCase
TestAnyOrderSequentialIds = AnyOrderSequentialIds.TestCase
TestAnyOrderOnDisk = AnyOrderOnDisk.TestCase
