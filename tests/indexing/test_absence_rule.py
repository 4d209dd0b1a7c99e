"""The rule that tells deleted files from those out of sight, case by case, without an index and without mounting."""

# ruff: noqa: PTH108, PTH110, PTH116 (as the rule itself looks at files)

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from multimodal_search import MemoryStore, Record, StoreSchema
from multimodal_search._indexing import absence as absence_module
from multimodal_search._indexing.absence import DELETED, Absence, is_below, is_respelled, told
from multimodal_search._indexing.ledger import Ledger
from multimodal_search._indexing.retrying_store import RetryingStore
from multimodal_search._indexing.run_stats import RunStats
from multimodal_search._indexing.sync import FolderSync, folder_of
from multimodal_search._indexing.sync import _below as below
from multimodal_search._indexing.walk import Walk
from multimodal_search.filters.nodes import Exactly

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="paths are written as on POSIX")


class Disks:
    """The operating system, with disks where the test says so."""

    def __init__(self, disks: Mapping[str, int], *, broken: Mapping[str, Exception] | None = None) -> None:
        self.disks, self.broken = dict(disks), dict(broken or {})
        self.broken_entries: dict[str, Exception] = {}
        self.is_without_drive = False

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def stat(self, path: str) -> Any:
        if str(path) in self.broken:
            raise self.broken[str(path)]
        real = os.stat(path)
        above = [disk for disk in self.disks if is_below(str(path), disk)]
        return SimpleNamespace(  # negative numbers are no real disk's
            st_dev=self.disks[max(above, key=len)] if above else real.st_dev, st_mode=real.st_mode, st_ino=real.st_ino
        )

    def lstat(self, path: str) -> Any:
        if self.is_without_drive:
            raise FileNotFoundError(path)
        broken = self.broken_entries or self.broken
        if str(path) in broken:
            raise broken[str(path)]
        return os.lstat(path)


@pytest.fixture
def disks(monkeypatch: pytest.MonkeyPatch) -> Disks:
    system = Disks({})
    monkeypatch.setattr(absence_module, "os", system)
    monkeypatch.setattr(absence_module, "_mounts_of_the_same_system", frozenset)
    return system


def file(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return str(path)


# -- paths -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "folder", "expected"),
    [
        ("/a/b", "/a", True), ("/a/b/c", "/a", True), ("/a", "/a", True), ("/a/b", "/a/", True), ("/a", "/", True),
        ("/", "/", True), ("/ab", "/a", False), ("/a", "/a/b", False), ("/b/a", "/a", False),
    ],
)  # fmt: skip
def test_what_is_below_a_folder(path: str, folder: str, expected: bool) -> None:
    assert is_below(path, folder) is expected


@pytest.mark.parametrize(
    ("folder", "name"),
    [("/x/a", "a/"), ("/x/a/b", "a/b/"), ("/x", "./"), ("/y", "/y/"), ("/xy", "/xy/"), ("/", "/")],
)
def test_a_folder_is_told_below_the_one_that_is_synchronised(folder: str, name: str) -> None:
    assert told(folder, below="/x") == name


def test_two_files_are_not_two_spellings_of_one(tmp_path: Path) -> None:
    one, other = file(tmp_path / "a.png"), file(tmp_path / "b.png")
    assert not is_respelled(one, one)
    assert not is_respelled(one, other)
    assert not is_respelled(str(tmp_path / "A.png"), one) or not os.path.exists(tmp_path / "A.png")
    assert not is_respelled(one + "\0", one.upper() + "\0")


class CarelessPaths:
    """Paths of a disk to which capitals, and how accents are spelled, are all the same."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os.path, name)

    def samefile(self, path: str, other: str) -> bool:
        if "gone" in path:
            raise FileNotFoundError(path)
        return "another" not in path


@pytest.mark.parametrize(
    ("path", "other", "listed", "expected"),
    [
        ("1.png", "1.PNG", ["1.PNG"], True),
        ("1.png", "1.PNG", ["1.png", "1.PNG"], False),  # where capitals count, these are two links to one file
        ("1.PNG", "1.PNG", ["1.PNG"], False),
        ("2.png", "1.PNG", ["1.PNG"], False),  # two links as well
        ("A/1.png", "a/1.png", ["a/1.png"], True),
        ("A/1.png", "a/1.PNG", ["a/1.PNG", "A/1.png"], False),
        ("e\u0301.png", "\xe9.PNG", ["\xe9.PNG"], True),
        ("another.png", "ANOTHER.png", ["ANOTHER.png"], False),
        ("gone.png", "GONE.png", [], False),
    ],
)
def test_a_file_that_is_found_by_another_spelling_of_its_name(
    path: str, other: str, listed: list[str], expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in listed:
        file(tmp_path / each)
    careless = Disks({})
    careless.path = CarelessPaths()  # type: ignore[attr-defined]
    monkeypatch.setattr(absence_module, "os", careless)
    assert is_respelled(str(tmp_path / path), str(tmp_path / other)) is expected


# -- mounts ------------------------------------------------------------------------------------------------------------

MOUNTINFO = rb"""20 1 8:1 / / rw - ext4 /dev/sda1 rw
21 20 8:1 /srv/photos /home/me/my\040photos rw - ext4 /dev/sda1 rw
22 20 8:2 / /media/disk rw - ext4 /dev/sdb1 rw
23 99 8:1 / /elsewhere rw - ext4 /dev/sda1 rw
24 22 8:2 /a /media/disk/b\134c rw - ext4 /dev/sdb1 rw
25 20 8:1 /
26 20 8:1 / /short
"""


def test_mounts_of_the_file_system_around_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """No device number tells a bind mount from a folder; the kernel's list does, where spaces stand in octal digits."""
    files = {"/proc/self/mountinfo": MOUNTINFO}
    monkeypatch.setattr(absence_module, "Path", lambda path: SimpleNamespace(read_bytes=lambda: files[path]))
    assert absence_module._mounts_of_the_same_system() == {"/home/me/my photos", "/media/disk/b\\c", "/short"}


def test_without_a_list_of_mounts_there_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(absence_module, "Path", lambda path: tmp_path / "none")
    assert absence_module._mounts_of_the_same_system() == frozenset()


def test_a_mount_has_another_device_or_is_listed(disks: Disks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, bound = tmp_path / "disk", tmp_path / "bound"
    disk.mkdir()
    bound.mkdir()
    disks.disks[str(disk)] = -2
    monkeypatch.setattr(absence_module, "_mounts_of_the_same_system", lambda: frozenset({os.path.realpath(bound)}))
    is_mount = absence_module._is_mount
    assert [is_mount(str(each)) for each in (disk, bound, tmp_path, tmp_path / "none")] == [True, True, False, False]
    (disk / "a").mkdir()
    assert not is_mount(str(disk / "a"))


# -- witnesses ---------------------------------------------------------------------------------------------------------


def test_a_file_vouches_for_the_folders_above_it_up_to_its_disk(disks: Disks, tmp_path: Path) -> None:
    disk = tmp_path / "media" / "disk"
    disks.disks[str(disk)] = -2
    absence = Absence(str(tmp_path))
    absence.met(file(disk / "a" / "1.png"))
    assert set(absence.new_disks) == {str(disk)}
    for gone in (disk / "2.png", disk / "a" / "2.png", disk / "gone" / "2.png"):
        assert absence.look(str(gone)) == DELETED
    assert absence.look(str(tmp_path / "media" / "2.png")) == str(tmp_path / "media")
    assert absence.look(str(tmp_path / "gone" / "2.png")) == str(tmp_path)


def test_a_file_vouches_for_no_folder_beside_its_own(disks: Disks, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    absence = Absence(str(tmp_path))
    absence.met(file(tmp_path / "a" / "1.png"))
    assert absence.look(str(tmp_path / "b" / "1.png")) == str(tmp_path / "b")
    assert absence.look(str(tmp_path / "c" / "1.png")) == DELETED
    absence.met(file(tmp_path / "b" / "2.png"))
    assert absence.look(str(tmp_path / "b" / "1.png")) == DELETED
    assert set(absence.new_disks) == set()


def test_a_bind_mount_ends_what_a_file_vouches_for(
    disks: Disks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = tmp_path / "bound"
    one = file(bound / "a" / "1.png")
    monkeypatch.setattr(absence_module, "_mounts_of_the_same_system", lambda: frozenset({os.path.realpath(bound)}))
    absence = Absence(str(tmp_path))
    absence.met(one)
    assert set(absence.new_disks) == {str(bound)}
    assert absence.look(str(bound / "2.png")) == DELETED
    assert absence.look(str(tmp_path / "2.png")) == str(tmp_path)


def test_a_disk_that_is_known_is_not_new(disks: Disks, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disks.disks[str(disk)] = -2
    absence = Absence(str(tmp_path), disks=[str(disk)])
    absence.met(file(disk / "1.png"))
    absence.met(file(disk / "2.png"))
    assert set(absence.new_disks) == set()


def test_a_file_that_went_away_meanwhile_vouches_for_nothing_above(disks: Disks, tmp_path: Path) -> None:
    one = str(tmp_path / "a" / "1.png")
    absence = Absence(str(tmp_path))
    absence.met(one)
    assert absence.look(str(tmp_path / "2.png")) == str(tmp_path)


# -- looks -------------------------------------------------------------------------------------------------------------


def test_a_file_is_there_if_it_is_a_regular_one(disks: Disks, tmp_path: Path) -> None:
    one = file(tmp_path / "1.png")
    (tmp_path / "2.png").mkdir()
    (tmp_path / "link").symlink_to(one)
    absence = Absence(str(tmp_path))
    absence.met(one)
    assert (absence.look(one), absence.look(str(tmp_path / "link"))) == ("", "")
    assert absence.look(str(tmp_path / "2.png")) == DELETED
    assert absence.look(str(tmp_path / "1.png" / "3.png")) == DELETED


def test_links_to_nowhere_are_out_of_sight(disks: Disks, tmp_path: Path) -> None:
    absence = Absence(str(tmp_path))
    absence.met(file(tmp_path / "1.png"))
    (tmp_path / "2.png").symlink_to(tmp_path / "none.png")
    (tmp_path / "folder").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert absence.look(str(tmp_path / "2.png")) == str(tmp_path)
    assert absence.look(str(tmp_path / "folder" / "3.png")) == str(tmp_path / "folder")
    assert absence.look(str(tmp_path / "loop")) == str(tmp_path)


@pytest.mark.parametrize(
    "error", [PermissionError(13, "no"), OSError(5, "dead disk"), ValueError("spelling")], ids=repr
)
def test_what_cannot_be_looked_at_is_out_of_sight(disks: Disks, tmp_path: Path, error: Exception) -> None:
    """With the highest folder that could not be looked at."""
    absence = Absence(str(tmp_path))
    absence.met(file(tmp_path / "1.png"))
    lost = tmp_path / "a" / "2.png"
    disks.broken = {str(lost): error}
    assert absence.look(str(lost)) == str(tmp_path / "a")
    disks.broken = {str(lost): error, str(tmp_path / "a"): error}
    assert absence.look(str(lost)) == str(tmp_path / "a")


def test_the_highest_folder_that_cannot_be_looked_at_is_told(disks: Disks, tmp_path: Path) -> None:
    absence = Absence(str(tmp_path))
    absence.met(file(tmp_path / "1.png"))
    hidden = [tmp_path / "a" / "b", tmp_path / "a" / "b" / "c", tmp_path / "a" / "b" / "c" / "2.png"]
    (tmp_path / "a").mkdir()
    disks.broken = {str(each): PermissionError(13, "no") for each in hidden}
    assert absence.look(str(hidden[-1])) == str(hidden[0])


def test_a_link_that_leads_somewhere_is_a_folder_as_any_other(disks: Disks, tmp_path: Path) -> None:
    file(tmp_path / "there" / "1.png")
    (tmp_path / "link").symlink_to(tmp_path / "there")
    absence = Absence(str(tmp_path))
    absence.met(str(tmp_path / "link" / "1.png"))
    assert absence.look(str(tmp_path / "link" / "2.png")) == DELETED


def test_a_link_that_is_still_there_is_a_witness_wherever_it_leads(disks: Disks, tmp_path: Path) -> None:
    target = file(tmp_path / "elsewhere" / "1.png")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "link.png").symlink_to(target)
    absence = Absence(str(tmp_path), gone=["said"])
    absence.met(str(tmp_path / "a" / "link.png"))
    os.unlink(target)
    assert absence.look(str(tmp_path / "a" / "2.png")) == DELETED
    assert absence.look(str(tmp_path / "said" / "3.png")) == DELETED


def test_a_disk_that_is_not_mounted_hides_nothing_elsewhere(disks: Disks, tmp_path: Path) -> None:
    absence = Absence(str(tmp_path), disks=[str(tmp_path / "disk")])
    absence.met(file(tmp_path / "1.png"))
    assert absence.look(str(tmp_path / "2.png")) == DELETED


def test_either_of_two_looks_that_fails_is_enough(disks: Disks, tmp_path: Path) -> None:
    """At what an entry leads to, and at the entry itself."""
    absence = Absence(str(tmp_path))
    absence.met(file(tmp_path / "1.png"))
    there, gone = file(tmp_path / "a" / "2.png"), str(tmp_path / "a" / "3.png")
    absence.met(there)
    disks.broken, disks.broken_entries = {there: PermissionError(13, "no")}, {"none": OSError()}
    assert absence.look(there) == str(tmp_path / "a")
    assert absence.look(gone) == DELETED
    disks.broken, disks.broken_entries = {}, {gone: PermissionError(13, "no")}
    assert absence.look(gone) == str(tmp_path / "a")


def test_a_drive_that_is_not_there_is_out_of_sight(disks: Disks, tmp_path: Path) -> None:
    """On Windows no folder above such a file exists."""
    disks.is_without_drive = True
    assert Absence(str(tmp_path)).look("/Z/photos/1.png") == "/Z/photos"


def test_below_a_folder_that_could_not_be_read_all_is_out_of_sight(disks: Disks, tmp_path: Path) -> None:
    unread: list[str] = []
    absence = Absence(str(tmp_path), unread=unread)
    absence.met(file(tmp_path / "1.png"))
    assert absence.look(str(tmp_path / "a" / "b" / "2.png")) == DELETED
    unread += [str(tmp_path / "a" / "b"), str(tmp_path / "a"), str(tmp_path / "c")]
    assert absence.look(str(tmp_path / "a" / "b" / "2.png")) == str(tmp_path / "a")
    assert absence.look(str(tmp_path / "b" / "2.png")) == DELETED


def test_below_a_disk_that_is_not_mounted_all_is_out_of_sight(disks: Disks, tmp_path: Path) -> None:
    disk = str(tmp_path / "disk")
    absence = Absence(str(tmp_path), disks=[disk])
    absence.met(file(tmp_path / "disk" / "1.png"))
    assert absence.look(f"{disk}/2.png") == disk
    disks.disks[disk] = -2
    assert absence.look(f"{disk}/2.png") == DELETED


def test_a_disk_that_goes_away_during_the_run_is_missed(disks: Disks, tmp_path: Path) -> None:
    disk = str(tmp_path / "disk")
    disks.disks[disk] = -2
    absence = Absence(str(tmp_path))
    absence.met(file(tmp_path / "disk" / "a" / "1.png"))
    absence.met(file(tmp_path / "disk" / "b" / "1.png"))
    assert absence.look(f"{disk}/a/2.png") == DELETED
    disks.disks.clear()
    assert absence.look(f"{disk}/a/2.png") == disk


def test_before_the_run_has_met_files_any_file_is_a_witness(disks: Disks, tmp_path: Path) -> None:
    absence = Absence(str(tmp_path))
    lost = str(tmp_path / "2.png")
    assert absence.is_out_of_sight(lost)
    file(tmp_path / "a" / ".hidden")
    file(tmp_path / "a" / "Thumbs.db")
    (tmp_path / "folder").mkdir()
    assert absence.look(lost, early=True) == str(tmp_path)  # looked at once: what was seen holds for the run
    again = Absence(str(tmp_path))
    assert again.is_out_of_sight(lost)
    one = file(tmp_path / "a" / "b" / "1.png")
    found = Absence(str(tmp_path))
    assert found.look(lost, early=True) == DELETED
    assert not found.is_out_of_sight(lost)
    assert not found.is_out_of_sight(one)
    assert found.look(lost) == str(tmp_path)
    assert absence.look(lost, early=True) == str(tmp_path)


def test_files_of_another_disk_are_no_witnesses(disks: Disks, tmp_path: Path) -> None:
    file(tmp_path / "disk" / "1.png")
    file(tmp_path / "elsewhere" / "2.png")
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    assert not absence_module._holds_file(str(folder))
    assert not absence_module._holds_file(str(tmp_path / "none"))
    assert absence_module._holds_file(str(tmp_path))
    disks.disks[str(tmp_path)] = -2  # and so the folders in it are on another one
    assert not absence_module._holds_file(str(tmp_path))
    file(tmp_path / "3.png")
    assert absence_module._holds_file(str(tmp_path))


# -- what the user says ------------------------------------------------------------------------------------------------


def test_what_the_user_says_is_deleted_is_deleted(disks: Disks, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    absence = Absence(
        str(tmp_path), gone=["a", "e\u0301", str(tmp_path / "x" / ".." / "b")], unread=[str(tmp_path / "a")]
    )
    for path in ("a/1.png", "\xe9/1.png", "b/1.png"):
        assert absence.look(str(tmp_path / path)) == DELETED
    assert absence.look(str(tmp_path / "c" / "1.png")) == str(tmp_path)
    assert absence.look(file(tmp_path / "a" / "2.png")) == ""


def test_what_the_user_says_holds_while_the_folder_itself_is_there(disks: Disks, tmp_path: Path) -> None:
    """If it, or the file met last, went away during the run, it is the disk that is gone."""
    folder = tmp_path / "photos"
    one = file(folder / "1.png")
    absence = Absence(str(folder), gone=["a"])
    assert absence.look(str(folder / "a" / "1.png")) == DELETED
    absence.met(one)
    assert absence.look(str(folder / "a" / "1.png")) == DELETED
    os.unlink(one)
    assert absence.look(str(folder / "a" / "1.png")) == str(folder)
    gone = Absence(str(tmp_path / "none"), gone=["a"])
    assert gone.look(str(tmp_path / "none" / "a" / "1.png")) == str(tmp_path / "none")


def test_paths_elsewhere_that_the_user_says_are_deleted(disks: Disks, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    absence = Absence(str(folder), gone=["a", "/old/photos/", str(folder)])
    assert list(absence.gone_elsewhere) == ["/old/photos"]
    assert absence.look("/old/photos/1.png") in (DELETED, str(folder))
    assert list(Absence(str(folder)).gone_elsewhere) == []


def test_disks_that_the_user_says_are_gone_are_forgotten(disks: Disks, tmp_path: Path) -> None:
    """Unless something is mounted there."""
    old, there, other = (tmp_path / name for name in ("old", "there", "other"))
    there.mkdir()
    disks.disks[str(there)] = -2
    known = [str(old), str(there), str(other)]
    assert list(Absence(str(tmp_path), disks=known).lost_disks) == []
    assert list(Absence(str(tmp_path), disks=known, gone=["old", "there"]).lost_disks) == [str(old)]
    below_disk = Absence(str(old / "photos"), disks=known, gone=["."])
    assert list(below_disk.lost_disks) == [str(old)]
    assert list(Absence(str(old / "photos"), disks=known, gone=["a"]).lost_disks) == []


# -- which points lose their files -------------------------------------------------------------------------------------


class Walked:
    """The end of a walk over a folder, `below_root` of its root."""

    def __init__(self, root: Path, below_root: str = "", *, skipped: str = "", clutter: str = "") -> None:
        self.root, self.below_root, self.skipped, self.clutter = str(root), below_root, skipped, clutter

    def is_clutter(self, filename: str) -> bool:
        return filename == self.clutter

    def covers(self, filename: str) -> bool:
        return filename != self.skipped


def store_of(*payloads: Mapping[str, Any]) -> MemoryStore:
    store = MemoryStore()
    store.ensure(StoreSchema(model="m", fingerprint="f", dimension=1))
    records = [Record(number, payload) for number, payload in enumerate(payloads)]
    store.upsert(records, np.ones((len(records), 1), np.float32))
    return store


def deleted(
    store: MemoryStore, walk: Walked, absence: Absence, **options: Any
) -> tuple[list[list[Any]], dict[str, int]]:
    """What is found to be deleted, in its lists, and what is not seen."""
    stats = RunStats(lambda event: None)
    sync = FolderSync(cast("RetryingStore", store), stats, None, Ledger(None))
    for name, value in options.items():
        setattr(sync, name, set(value))
    return list(sync._find_deleted(cast("Walk", walk), absence)), dict(stats.not_seen)


def test_points_whose_files_are_gone_are_found(disks: Disks, tmp_path: Path) -> None:
    root = str(tmp_path)
    names = ["here.png", "gone.png", "moved.png", "skipped.png", "clutter.png"]
    store = store_of(
        *({"root": root, "filename": name} for name in names), {"root": "/other", "filename": "gone.png"}, {}
    )
    absence = Absence(root)
    for name in ("here.png", "clutter.png"):
        absence.met(file(tmp_path / name))
    walk = Walked(tmp_path, skipped="skipped.png", clutter="clutter.png")
    assert deleted(store, walk, absence, moved=[2]) == ([[1, 4]], {})


def test_points_out_of_sight_are_counted_by_folder(disks: Disks, tmp_path: Path) -> None:
    root = str(tmp_path)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    names = ["a/1.png", "a/2.png", "b/1.png", "c/1.png"]
    store = store_of(*({"root": root, "filename": name} for name in names))
    assert deleted(store, Walked(tmp_path), Absence(root)) == ([], {"a/": 2, "b/": 1, "./": 1})


def test_a_folder_out_of_sight_above_the_walked_one_is_told_as_that(disks: Disks, tmp_path: Path) -> None:
    root = str(tmp_path)
    store = store_of({"root": root, "filename": "a/b/1.png"}, {"root": root, "filename": "c/1.png"})
    walk = Walked(tmp_path, "a/b/")
    absence = Absence(folder_of(cast("Walk", walk)))
    assert deleted(store, walk, absence) == ([], {"./": 1})  # and what is not below it is not looked for


def test_points_of_a_folder_that_has_moved_are_looked_for_at_both_places(disks: Disks, tmp_path: Path) -> None:
    new = tmp_path / "new"
    one = file(new / "1.png")
    store = store_of(
        {"root": str(tmp_path / "old"), "filename": "1.png"}, {"root": str(tmp_path / "old"), "filename": "2.png"}
    )
    absence = Absence(str(new))
    absence.met(one)
    assert deleted(store, Walked(new), absence) == ([], {})
    found, _ = deleted(store, Walked(new), absence, moved_roots=[str(tmp_path / "old"), str(new)])
    assert found == [[1]]


def test_lists_hold_some_hundred_and_are_looked_at_twice(disks: Disks, tmp_path: Path) -> None:
    """What went out of sight meanwhile stays."""
    root = str(tmp_path)
    store = store_of(*({"root": root, "filename": f"{number}.png"} for number in range(600)))
    absence = Absence(root)
    witness = file(tmp_path / "here.png")
    absence.met(witness)
    found, _ = deleted(store, Walked(tmp_path), absence)
    assert [len(each) for each in found] == [256, 256, 88]
    assert sorted(number for each in found for number in each) == list(range(600))
    looks = 0

    class Leaving(Absence):
        def look(self, path: str, *, early: bool = False) -> str:
            nonlocal looks
            looks += 1
            if looks == 257 and os.path.exists(witness):
                os.unlink(witness)
            return super().look(path, early=early)

    leaving = Leaving(root)
    leaving.met(witness)
    found, not_seen = deleted(store, Walked(tmp_path), leaving)
    assert found == [[]]
    assert not_seen == {"./": 600}


def test_the_filter_for_points_below_a_folder() -> None:
    """Exactly: a folder whose name is spelled otherwise is another one."""
    walk = cast("Walk", Walked(Path("/photos"), "2024/"))
    assert below(walk, "/p\xe9") == {"root": Exactly("/p\xe9"), "filename": {"prefix": Exactly("2024/")}}
    assert type(below(walk, "/p")["root"]) is type(below(walk, "/p")["filename"]["prefix"]) is Exactly
    assert below(cast("Walk", Walked(Path("/photos"))), "/p") == {"root": "/p"}
    assert folder_of(walk) == "/photos/2024"
