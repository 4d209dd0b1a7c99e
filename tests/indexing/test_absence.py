"""Ways in which a file can be absent, row by row as in docs/indexing.md: what was deleted, and what is out of sight."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tiny_embedder import TinyEmbedder, folder_of, image, png

from multimodal_search import (
    ConfigurationError,
    Image,
    IndexReport,
    Item,
    MemoryStore,
    MultimodalIndex,
    QdrantEdgeStore,
)
from multimodal_search._indexing.absence import DELETED, Absence, is_respelled

Mount = Callable[[Path], AbstractContextManager[None]]
Bind = Callable[[Path, Path], AbstractContextManager[None]]


@pytest.fixture
def index() -> Iterator[MultimodalIndex]:
    with MultimodalIndex(TinyEmbedder(), MemoryStore()) as index:
        yield index


@pytest.fixture
def mounted() -> Mount:
    """Mounts an empty disk on a folder, for a while."""
    return lambda folder: _mounting(folder, "-t", "tmpfs", "none")


@pytest.fixture
def bound() -> Bind:
    """Mounts a folder on another one, for a while."""
    return lambda source, folder: _mounting(folder, "--bind", str(source))


@contextmanager
def _mounting(folder: Path, *what: str) -> Iterator[None]:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root on Linux may mount a disk")
    folder.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["mount", *what, folder], capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody mount a disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def names(index: MultimodalIndex) -> list[str]:
    return sorted(record.payload["filename"] for record in index.store.scan())


def found(report: IndexReport) -> dict[str, Any]:
    """What a report says, without zeros."""
    counts = {name: getattr(report, name) for name in ("added", "updated", "moved", "unchanged", "removed", "embedded")}
    counts |= {"failed": len(report.failed), "not_seen": dict(report.not_seen)}
    return {name: value for name, value in counts.items() if value}


def sync(index: MultimodalIndex, folder: Path, **options: Any) -> dict[str, Any]:
    """Synchronise, after a dry run that must foretell it; what the report says."""
    foretold = found(index.sync_folder(folder, dry_run=True, **options))
    happened = found(index.sync_folder(folder, **options))
    assert foretold == happened
    return happened


def years(folder: Path) -> Path:
    """A folder with 2 images in `2020` and 35 in `2021`."""
    folder_of(folder / "2020", 2)
    folder_of(folder / "2021", 35, start=100)
    return folder


# -- deleted -----------------------------------------------------------------------------------------------------------


def test_a_deleted_folder_beside_others_loses_its_points(index: MultimodalIndex, tmp_path: Path) -> None:
    sync(index, years(tmp_path))
    shutil.rmtree(tmp_path / "2021")
    assert sync(index, tmp_path) == {"unchanged": 2, "removed": 35}


def test_a_file_in_the_place_of_a_folder_removes_its_points(index: MultimodalIndex, tmp_path: Path) -> None:
    sync(index, years(tmp_path))
    shutil.rmtree(tmp_path / "2021")
    (tmp_path / "2021").write_bytes(png(7))
    assert sync(index, tmp_path) == {"added": 1, "embedded": 1, "unchanged": 2, "removed": 35}


def test_a_folder_in_the_place_of_a_file_removes_its_point(index: MultimodalIndex, tmp_path: Path) -> None:
    sync(index, years(tmp_path))
    (tmp_path / "2020" / "1.png").unlink()
    folder_of(tmp_path / "2020" / "1.png", 1, start=7)
    assert sync(index, tmp_path)["removed"] == 1


# -- out of sight ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", ["nothing", "hidden file", "empty folder", "no image", "no match"])
def test_an_emptied_folder_keeps_its_points_and_is_told(index: MultimodalIndex, left: str, tmp_path: Path) -> None:
    """So looks the place of a disk that is not mounted: often with a note, and never with photos."""
    options = {"pattern": "*.png"} if left == "no match" else {}
    sync(index, years(tmp_path), **options)
    shutil.rmtree(tmp_path / "2021")
    (tmp_path / "2021").mkdir()
    match left:
        case "hidden file":
            (tmp_path / "2021" / ".nodisk").touch()
        case "empty folder":
            (tmp_path / "2021" / "lost+found").mkdir()
        case "no image":
            (tmp_path / "2021" / "DISK NOT MOUNTED.txt").write_text("mount it")
        case "no match":
            (tmp_path / "2021" / "1.jpg").write_bytes(png(1))
    assert sync(index, tmp_path, **options)["not_seen"] == {"2021/": 35}
    assert index.count() == 37
    report = index.sync_folder(tmp_path, **options)
    assert "kept, not seen: 35 below 2021/" in str(report)
    assert '"gone"' in str(report)
    assert report.to_dict()["not_seen"] == {"2021/": 35}
    if left == "nothing":
        folder_of(tmp_path / "2021", 35, start=100)
        for number in range(100, 135):
            record = next(r for r in index.store.scan() if r.payload["filename"] == f"2021/{number}.png")
            os.utime(tmp_path / "2021" / f"{number}.png", ns=(1, record.payload["mtime_ns"]))
        assert sync(index, tmp_path) == {"unchanged": 37}


@pytest.mark.parametrize("gone", ["2021/", "2021", ["2021/"], [Path("2021")], ".", "./", "absolute"])
def test_what_is_said_to_be_gone_is_removed(index: MultimodalIndex, gone: Any, tmp_path: Path) -> None:
    sync(index, years(tmp_path))
    shutil.rmtree(tmp_path / "2021")
    (tmp_path / "2021").mkdir()
    gone = tmp_path / "2021" if gone == "absolute" else gone
    assert sync(index, tmp_path, gone="2020") == {"unchanged": 2, "not_seen": {"2021/": 35}}
    assert sync(index, tmp_path, gone=gone) == {"unchanged": 2, "removed": 35}
    assert sync(index, tmp_path) == {"unchanged": 2}


def test_what_is_said_to_be_gone_and_is_there_stays(index: MultimodalIndex, tmp_path: Path) -> None:
    sync(index, years(tmp_path))
    assert sync(index, tmp_path, gone=["2021/", "2020/1.png"]) == {"unchanged": 37}


def test_a_composed_name_is_gone_as_it_is_typed(index: MultimodalIndex, tmp_path: Path) -> None:
    """Disks of Macs spell é with two characters, and keyboards with one."""
    folder_of(tmp_path, 1)
    folder_of(tmp_path / "e\u0301te\u0301", 2, start=5)
    sync(index, tmp_path)
    for path in (tmp_path / "e\u0301te\u0301").iterdir():
        path.unlink()
    assert sync(index, tmp_path, gone="\u00e9t\u00e9") == {"unchanged": 1, "removed": 2}


def test_an_option_gone_that_makes_no_sense_is_refused(index: MultimodalIndex, tmp_path: Path) -> None:
    folder_of(tmp_path, 1)
    with pytest.raises(ConfigurationError, match="prune=False"):
        index.sync_folder(tmp_path, gone="2021", prune=False)
    with pytest.raises(ConfigurationError, match="gone takes a path, not an empty text"):
        index.sync_folder(tmp_path, gone=[""])


def test_an_emptied_top_folder_is_an_error_until_it_is_said_to_be_gone(index: MultimodalIndex, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", 3)
    sync(index, folder)
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(ConfigurationError, match="gone"):
        index.sync_folder(folder)
    assert index.count() == 3
    assert sync(index, folder, gone=".") == {"removed": 3}


def test_a_link_to_nowhere_keeps_its_point(index: MultimodalIndex, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", 1)
    folder_of(tmp_path / "disk", 2, start=5)
    for number in (5, 6):
        (folder / f"{number}.png").symlink_to(tmp_path / "disk" / f"{number}.png")
    assert sync(index, folder)["added"] == 3
    (tmp_path / "disk").rename(tmp_path / "unplugged")
    assert sync(index, folder) == {"unchanged": 1, "failed": 2, "not_seen": {"./": 2}}
    (folder / "5.png").unlink()
    assert sync(index, folder) == {"unchanged": 1, "failed": 1, "removed": 1, "not_seen": {"./": 1}}
    assert sync(index, folder, gone="6.png") == {"unchanged": 1, "failed": 1, "removed": 1}


def test_a_folder_link_to_nowhere_keeps_its_points(index: MultimodalIndex, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", 1)
    folder_of(tmp_path / "disk" / "deep", 2, start=5)
    (folder / "disk").symlink_to(tmp_path / "disk")
    sync(index, folder, follow_symlinks=True)
    (tmp_path / "disk").rename(tmp_path / "unplugged")
    for follow in (True, False):
        assert sync(index, folder, follow_symlinks=follow)["not_seen"] == {"disk/": 2}
    (folder / "disk").unlink()
    assert sync(index, folder, follow_symlinks=True) == {"unchanged": 1, "removed": 2}


def test_a_link_in_a_circle_keeps_its_point(index: MultimodalIndex, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 2)
    sync(index, folder)
    (folder / "1.png").unlink()
    (folder / "1.png").symlink_to(folder / "1.png")
    assert sync(index, folder) == {"unchanged": 1, "failed": 1, "not_seen": {"./": 1}}


def test_the_place_of_a_disk_that_is_not_mounted_keeps_its_points(
    index: MultimodalIndex, mounted: Mount, tmp_path: Path
) -> None:
    folder_of(tmp_path / "2020", 2)
    with mounted(tmp_path / "2021"):
        folder_of(tmp_path / "2021" / "may", 35, start=100)
        assert sync(index, tmp_path)["added"] == 37
    assert sync(index, tmp_path) == {"unchanged": 2, "not_seen": {"2021/": 35}}


@pytest.mark.parametrize("place", ["removed", "used"])
def test_a_disk_that_was_mounted_is_missed(place: str, mounted: Mount, tmp_path: Path) -> None:
    """Some systems remove the place of a disk with it; and where it is not, a camera's import may fill it."""
    folder = folder_of(tmp_path / "photos", 2)
    with mounted(folder / "disk"):
        folder_of(folder / "disk" / "deep", 5, start=100)
        with MultimodalIndex(TinyEmbedder(), QdrantEdgeStore(tmp_path / "index")) as index:
            sync(index, folder)
    (folder / "disk").rmdir() if place == "removed" else folder_of(folder / "disk", 1, start=50)
    with MultimodalIndex(TinyEmbedder(), QdrantEdgeStore(tmp_path / "index")) as index:
        assert sync(index, folder)["not_seen"] == {"disk/": 5}
        assert sync(index, folder, gone="disk")["removed"] == 5
    folder_of(folder / "disk" / "deep", 2, start=100)
    with MultimodalIndex(TinyEmbedder(), QdrantEdgeStore(tmp_path / "index")) as index:
        sync(index, folder)
        (folder / "disk" / "deep" / "100.png").unlink()  # of a folder like any other now
        assert sync(index, folder)["removed"] == 1


@pytest.mark.parametrize("place", ["removed", "used"])
def test_a_bind_mount_is_missed(place: str, bound: Bind, tmp_path: Path) -> None:
    """It is of the file system around it, as in containers, so that no device number tells it."""
    folder, elsewhere = folder_of(tmp_path / "photos", 2), folder_of(tmp_path / "else where" / "deep", 5, start=100)
    with MultimodalIndex(TinyEmbedder(), MemoryStore()) as index:
        with bound(elsewhere.parent, folder / "a disk"):
            assert sync(index, folder)["added"] == 7
        (folder / "a disk").rmdir() if place == "removed" else folder_of(folder / "a disk", 1, start=50)
        assert sync(index, folder)["not_seen"] == {"a disk/": 5}
        assert sync(index, folder)["not_seen"] == {"a disk/": 5}
        assert sync(index, folder, gone="a disk")["removed"] == 5


def test_a_disk_of_which_a_part_is_gone_is_still_missed(mounted: Mount, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", 2)
    with MultimodalIndex(TinyEmbedder(), MemoryStore()) as index:
        with mounted(folder / "disk"):
            folder_of(folder / "disk" / "a", 3, start=100)
            folder_of(folder / "disk" / "b", 4, start=200)
            sync(index, folder)
        folder_of(folder / "disk", 1, start=50)
        assert sync(index, folder, gone="disk/a") == {
            "added": 1, "embedded": 1, "unchanged": 2, "removed": 3, "not_seen": {"disk/": 4}
        }  # fmt: skip
        assert sync(index, folder) == {"unchanged": 3, "not_seen": {"disk/": 4}}


def test_a_folder_that_was_another_disk_keeps_its_points(mounted: Mount, tmp_path: Path) -> None:
    """The top folder itself: what lies in it while its disk is not there is not the whole of it."""
    folder = tmp_path / "photos"
    with MultimodalIndex(TinyEmbedder(), MemoryStore()) as index:
        with mounted(folder):
            sync(index, folder_of(folder, 5))
        folder_of(folder, 1, start=50)
        assert sync(index, folder) == {"added": 1, "embedded": 1, "not_seen": {"./": 5}}


def test_disks_side_by_side_do_not_vouch_for_each_other(index: MultimodalIndex, mounted: Mount, tmp_path: Path) -> None:
    """Where disks are mounted and their places removed, all that is left says nothing about the missing one."""
    with mounted(tmp_path / "one"):
        folder_of(tmp_path / "one", 2)
        folder_of(tmp_path / "two", 3, start=10)
        sync(index, tmp_path)
        shutil.rmtree(tmp_path / "two")
        assert sync(index, tmp_path) == {"unchanged": 2, "not_seen": {"./": 3}}


def test_a_dead_mount_keeps_its_points(index: MultimodalIndex, tmp_path: Path) -> None:
    """A share whose server has gone answers everything with an error."""
    sync(index, years(tmp_path))
    shutil.rmtree(tmp_path / "2021")
    (tmp_path / "2021").mkdir()
    with dead_mount(tmp_path / "2021"):
        assert sync(index, tmp_path) == {"unchanged": 2, "failed": 1, "not_seen": {"2021/": 35}}
        assert index.count() == 37


@contextmanager
def dead_mount(folder: Path) -> Iterator[None]:
    """Mount a file system in user space whose program has ended: each call fails with ENOTCONN."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root on Linux may mount a disk")
    libc = ctypes.CDLL(None)
    try:
        device = os.open("/dev/fuse", os.O_RDWR)
    except OSError:
        pytest.skip("this system has no file systems in user space")
    settings = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    failed = libc.mount(b"none", os.fsencode(folder), b"fuse", 0, settings)
    os.close(device)
    if failed:
        pytest.skip("this system lets nobody mount a disk")
    try:
        yield
    finally:
        libc.umount2(os.fsencode(folder), 2)


# -- the folder goes away meanwhile ------------------------------------------------------------------------------------


class Leaving(MemoryStore):
    """Calls `leave` once, at a chosen call."""

    def __init__(self) -> None:
        super().__init__()
        self.at = ""
        self.leave: Callable[[], object] = lambda: None

    def _come_to(self, place: str) -> None:
        if self.at == place:
            self.at = ""
            self.leave()

    def get(self, *args: Any, **options: Any) -> Any:
        self._come_to("walking")
        return super().get(*args, **options)

    def upsert(self, *args: Any, **options: Any) -> None:
        super().upsert(*args, **options)
        self._come_to("writing")

    def scan(self, **options: Any) -> Any:
        self._come_to("before pruning")
        for number, record in enumerate(super().scan(**options)):
            if number == 300:
                self._come_to("while pruning")
            yield record

    def delete(self, *args: Any, **options: Any) -> None:
        super().delete(*args, **options)
        self._come_to("between batches")


MOMENTS = ["walking", "embedding", "writing", "before pruning", "while pruning", "between batches"]


@pytest.mark.parametrize("how", ["moved", "emptied"])
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("options", [{}, {"gone": "."}], ids=["plain", "gone"])
def test_a_folder_that_goes_away_during_a_run_loses_no_points(
    moment: str, how: str, options: dict[str, Any], tmp_path: Path
) -> None:
    folder = folder_of(tmp_path / "photos", 600)
    store, embedder = Leaving(), TinyEmbedder(max_batch_size=64)
    deleted = [folder / f"{number}.png" for number in range(280)]

    def leave() -> None:
        (folder.rename(tmp_path / "elsewhere") if how == "moved" else shutil.rmtree(folder))
        if how == "emptied":
            folder.mkdir()

    with MultimodalIndex(embedder, store) as index:
        index.sync_folder(folder)
        for path in deleted:
            path.unlink()
        folder_of(folder, 10, start=1_000)
        store.at, store.leave = moment, leave
        if moment == "embedding":
            embedder.before = lambda _: leave() if folder.exists() and any(folder.iterdir()) else None
        index.sync_folder(folder, **options)
        left = set(names(index))
        assert {f"{number}.png" for number in range(280, 600)} <= left
        assert not folder.exists() or not any(folder.iterdir())


def test_what_goes_away_between_two_looks_is_not_deleted(
    index: MultimodalIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is looked at before its witness: when the disk goes away in between, the witness is missing, too."""
    folder = folder_of(tmp_path / "photos", 20)
    sync(index, folder)
    (folder / "3.png").unlink()
    lexists = os.path.lexists

    def unplug(path: str) -> bool:
        if folder.exists():
            folder.rename(tmp_path / "elsewhere")
        return lexists(path)

    monkeypatch.setattr("os.path.lexists", unplug)
    report = index.sync_folder(folder)
    assert (report.removed, index.count()) == (0, 20)
    assert list(report.not_seen) == ["./"]


def test_one_disk_of_several_goes_away_during_a_run(index: MultimodalIndex, mounted: Mount, tmp_path: Path) -> None:
    folder_of(tmp_path / "2020", 2)
    with mounted(tmp_path / "2021"):
        folder_of(tmp_path / "2021", 35, start=100)
        index.sync_folder(tmp_path)
        (tmp_path / "2020" / "1.png").unlink()
        (tmp_path / "2020" / "2.png").write_bytes(png(2))
        embedder = index.embedder
        assert isinstance(embedder, TinyEmbedder)
        embedder.before = lambda _: subprocess.run(["umount", "-l", tmp_path / "2021"], check=False) and None
        report = index.sync_folder(tmp_path)
        subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path / "2021"], check=True)  # for the fixture to unmount
    assert (report.added, report.removed, report.not_seen) == (1, 1, {"2021/": 35})


# -- moved -------------------------------------------------------------------------------------------------------------


def test_a_file_moved_out_of_a_folder_that_is_met_later_is_moved(index: MultimodalIndex, tmp_path: Path) -> None:
    """Its labels go with it, in whatever order the folders come."""
    for name in ("a", "b"):
        folder_of(tmp_path / name, 2, start=10 if name == "a" else 20)
    index.add_images([Item(Image(tmp_path / "b" / "20.png"), payload={"label": "cat"})], root=tmp_path)
    sync(index, tmp_path)
    (tmp_path / "b" / "20.png").rename(tmp_path / "a" / "20.png")
    assert sync(index, tmp_path) == {"moved": 1, "unchanged": 3}
    (tmp_path / "a" / "20.png").rename(tmp_path / "b" / "20.png")
    assert sync(index, tmp_path) == {"moved": 1, "unchanged": 3}
    labels = [record.payload.get("label") for record in index.store.scan() if record.payload["filename"] == "b/20.png"]
    assert labels == ["cat"]


def test_a_file_that_was_alone_in_its_folder_is_moved(index: MultimodalIndex, tmp_path: Path) -> None:
    folder_of(tmp_path, 2)
    folder_of(tmp_path / "inbox", 1, start=7)
    sync(index, tmp_path)
    (tmp_path / "inbox" / "7.png").rename(tmp_path / "7.png")
    assert sync(index, tmp_path) == {"moved": 1, "unchanged": 2}
    (tmp_path / "7.png").unlink()
    assert sync(index, tmp_path) == {"unchanged": 2, "removed": 1}


def test_what_is_found_elsewhere_while_its_disk_is_out_of_sight_is_a_copy(
    index: MultimodalIndex, tmp_path: Path
) -> None:
    sync(index, years(tmp_path))
    shutil.copytree(tmp_path / "2021", tmp_path / "copies")
    shutil.rmtree(tmp_path / "2021")
    (tmp_path / "2021").mkdir()
    assert sync(index, tmp_path) == {"added": 35, "unchanged": 2, "not_seen": {"2021/": 35}}


def test_files_of_a_folder_that_moved_away_stay_out_of_sight(index: MultimodalIndex, tmp_path: Path) -> None:
    """Some photos were copied from a disk to another place: the others are still on the disk."""
    folder_of(tmp_path / "disk" / "photos", 5)
    folder_of(tmp_path / "home", 2)
    sync(index, tmp_path / "disk" / "photos")
    shutil.rmtree(tmp_path / "disk" / "photos")
    told = found(index.sync_folder(tmp_path / "home"))
    disk = f"{(tmp_path / 'disk' / 'photos').as_posix()}/"
    assert told == {"unchanged": 2, "not_seen": {disk: 3}}
    assert index.count() == 5
    assert sync(index, tmp_path / "home", gone=disk) == {"unchanged": 2, "removed": 3}


def test_a_folder_does_not_take_the_points_of_one_that_is_out_of_sight(index: MultimodalIndex, tmp_path: Path) -> None:
    """Files of two folders that have the same names: neither may replace the other's because its disk is away."""
    folder_of(tmp_path / "disk" / "photos", 3)
    other = tmp_path / "other"
    other.mkdir()
    for number in range(3):
        image(number + 50, (40 + number, 30)).save(other / f"{number}.png")
    index.add_images(tmp_path / "disk" / "photos")
    shutil.rmtree(tmp_path / "disk" / "photos")
    assert len(index.add_images(other).failed) == 3
    assert sync(index, other) == {"failed": 3}
    assert index.search(image(0), limit=1)[0].score > 0.999


def test_a_folder_on_a_disk_that_is_mounted_elsewhere_is_the_same(index: MultimodalIndex, tmp_path: Path) -> None:
    """Also for the photos that were edited in between."""
    folder_of(tmp_path / "media" / "a" / "photos", 9)
    sync(index, tmp_path / "media" / "a" / "photos")
    (tmp_path / "run").mkdir()
    (tmp_path / "media" / "a").rename(tmp_path / "run" / "b")
    (tmp_path / "run" / "b" / "photos" / "0.png").write_bytes(png(77))
    report = index.sync_folder(tmp_path / "run" / "b" / "photos")
    assert found(report) == {"updated": 1, "unchanged": 8, "embedded": 1}


# -- names in capitals -------------------------------------------------------------------------------------------------


@pytest.fixture
def careless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have files found by names in other capitals, as disks of Macs and Windows do."""
    real = {name: getattr(os, name) for name in ("stat", "lstat")}

    def find(call: str) -> Callable[..., os.stat_result]:
        def look(path: Any, **options: Any) -> os.stat_result:
            try:
                return real[call](path, **options)  # type: ignore[no-any-return]
            except FileNotFoundError:
                folder, name = os.path.split(os.fspath(path))
                for each in Path(folder).iterdir():
                    if each.name.casefold() == name.casefold():
                        return real[call](each, **options)  # type: ignore[no-any-return]
                raise

        return look

    for name in real:
        monkeypatch.setattr(f"os.{name}", find(name))


@pytest.mark.usefixtures("careless")
def test_a_file_renamed_in_capitals_is_moved(index: MultimodalIndex, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 2)
    sync(index, folder)
    (folder / "1.png").rename(folder / "1.PNG")
    assert sync(index, folder) == {"moved": 1, "unchanged": 1}
    assert names(index) == ["0.png", "1.PNG"]


def test_two_names_of_one_file_are_two_files(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    try:
        os.link(tmp_path / "a.png", tmp_path / "A.png")
    except OSError:
        pytest.skip("this file system does not tell capitals, or has no links")
    assert not is_respelled(str(tmp_path / "a.png"), str(tmp_path / "A.png"))


# -- the rule itself ---------------------------------------------------------------------------------------------------


def test_without_a_witness_nothing_is_deleted(tmp_path: Path) -> None:
    absence = Absence(str(tmp_path))
    file = str(folder_of(tmp_path, 2) / "5.png")
    assert absence.look(file) == str(tmp_path)
    absence.met(str(tmp_path / "0.png"))
    assert absence.look(file) == DELETED
    assert absence.look(str(tmp_path / "0.png")) == ""
    (tmp_path / "0.png").unlink()
    assert absence.look(file) == str(tmp_path)


def test_a_name_that_cannot_be_looked_up_is_out_of_sight(tmp_path: Path) -> None:
    absence = Absence(str(tmp_path))
    absence.met(str(folder_of(tmp_path, 1) / "0.png"))
    assert absence.look(str(tmp_path / ("x" * 300))) == str(tmp_path)
    assert absence.look(str(tmp_path / "x\0")) == str(tmp_path)
