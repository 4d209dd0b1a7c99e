"""Distinguish deleted files from those that are only out of sight, as on a disk that is not mounted."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

from multimodal_search.media.system_files import is_clutter, is_hidden

DELETED: Final = "deleted"
"""The verdict on a file that is there no more; a folder's path would be absolute."""

# Paths are strings here, and looked at with `os`: there may be millions.
# ruff: noqa: PTH110, PTH112, PTH116, PTH118, PTH120, PTH121, PTH208


class Absence:
    """Decides whether a missing file was deleted, or is only out of sight.

    That a file is missing proves nothing: its disk may not be mounted, and then its folder is empty, or missing too.
    A file counts as deleted if the nearest folder above it that is there can be read, and there is a witness: a file
    met by this run in that folder, or below it on the same file system, that is still there. It is out of sight if it
    or a folder above it is a link to nowhere, if looking at it fails for another reason than that it is missing, or if
    it was on another disk that is not mounted. What the user says is deleted is deleted.

    Called from the deciding thread only.

    Args:
        folder: The folder that is synchronized, absolute.
        unread: Folders that could not be read, absolute; may grow meanwhile.
        gone: Paths, below the folder or absolute, whose missing files the user says are deleted.
        disks: Mount points of earlier runs: what is below them is out of sight while nothing is mounted there.
    """

    def __init__(
        self, folder: str, *, unread: Collection[str] = (), gone: Iterable[str] = (), disks: Iterable[str] = ()
    ) -> None:
        self._folder = folder
        self._unread = unread
        self._gone = [_comparable(os.path.normpath(os.path.join(folder, each))) for each in gone]
        self._disks = set(disks)
        self._new_disks: set[str] = set()
        self._same_system = _mounts_of_the_same_system()
        self._witnesses: dict[str, str] = {}  # by folder: a file in it, or below it on the same file system
        self._last_met = ""
        self._with_files: dict[str, bool] = {}

    @property
    def gone_elsewhere(self) -> Collection[str]:
        """Paths outside the folder whose missing files the user says are deleted."""
        return [each for each in self._gone if not is_below(each, _comparable(self._folder))]

    @property
    def new_disks(self) -> Collection[str]:
        """Mount points above the files that were met, as far as they were not known."""
        return self._new_disks

    @property
    def lost_disks(self) -> Collection[str]:
        """Mount points of earlier runs where nothing is mounted, and whose files the user says are deleted."""
        if not self._gone:  # as would come out below, for less
            return []
        is_all_said = self._is_said(self._folder)
        return [
            disk
            for disk in self._disks
            if (self._is_said(disk) or (is_all_said and is_below(self._folder, disk))) and not _is_mount(disk)
        ]

    def is_out_of_sight(self, path: str) -> bool:
        """Whether a file that is not there may come back, as far as that can be told without having met others."""
        return self.look(path, early=True) not in ("", DELETED)

    def met(self, path: str) -> None:
        """Note a file that was read, or is as it was when it was indexed."""
        self._last_met = path
        here = os.path.dirname(path)
        if here in self._witnesses:  # one is enough: another would only take time
            return
        try:
            device = os.stat(here).st_dev
            while True:
                self._witnesses[here] = path
                above = os.path.dirname(here)
                if above == here:
                    return
                if os.stat(above).st_dev != device or self._is_mount_of_the_same_system(here):
                    break
                here = above
        except OSError:  # it went away meanwhile, and so is no witness for the folders above it
            return
        if here not in self._disks:
            self._new_disks.add(here)
            self._disks.add(here)

    def look(self, path: str, *, early: bool = False) -> str:
        """Whether a file is there (empty), is `DELETED`, or else the folder that it is out of sight with.

        Args:
            path: The file, absolute.
            early: Whether the run has still to meet files: any file in the folder is a witness then.
        """
        trouble = False
        try:
            if stat.S_ISREG(os.stat(path).st_mode):
                return ""
        except (FileNotFoundError, NotADirectoryError):
            pass
        except (OSError, ValueError):  # a ValueError: its name is none that this locale can spell
            trouble = True
        here = below = path
        while True:
            try:
                mode = os.lstat(here).st_mode
                break
            except (FileNotFoundError, NotADirectoryError):
                pass
            except (OSError, ValueError):
                trouble = True
            below, here = here, os.path.dirname(here)
            if here == below:  # a drive that is not there
                return os.path.dirname(path)
        is_folder = here != path and os.path.isdir(here)
        folder = here if is_folder else os.path.dirname(here)
        if self._is_said(path):
            return DELETED if self._is_alive() else self._folder
        if trouble:
            return below if below != path else os.path.dirname(path)
        if stat.S_ISLNK(mode) and not os.path.exists(here):  # what is no link was there a moment ago
            return here if here != path else folder
        lost = [each for each in self._unread if is_below(path, each)]
        lost += [disk for disk in self._disks if is_below(path, disk) and not _is_mount(disk)]
        if lost:
            return min(lost, key=len)  # the highest: all are folders above the file
        witness = self._witnesses.get(folder)
        if witness is None:
            return DELETED if early and self._has_files(folder) else folder
        # Looked at after the file: had its disk gone before that, this one would be missing, too.
        return DELETED if os.path.lexists(witness) else folder

    def _is_mount_of_the_same_system(self, folder: str) -> bool:
        # Where there are none, and nothing is said (below), to say so at once only saves time.
        return bool(self._same_system) and os.path.realpath(folder) in self._same_system

    def _is_said(self, path: str) -> bool:
        return any(is_below(_comparable(path), gone) for gone in self._gone) if self._gone else False

    def _is_alive(self) -> bool:
        return os.path.lexists(self._last_met) if self._last_met else os.path.isdir(self._folder)

    def _has_files(self, folder: str) -> bool:
        """Whether there is a file in a folder, or below it on the same file system; hidden ones do not count."""
        if folder not in self._with_files:
            self._with_files[folder] = _holds_file(folder)
        return self._with_files[folder]


def _holds_file(folder: str) -> bool:
    waiting = [folder]
    try:
        device = os.stat(folder).st_dev
        while waiting:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if is_hidden(entry.name) or is_clutter("", entry.name, is_folder=entry.is_dir()):
                        continue
                    if entry.is_file():
                        return True
                    if entry.is_dir(follow_symlinks=False) and entry.stat().st_dev == device:
                        waiting.append(entry.path)
    except OSError:
        pass
    return False


def _is_mount(folder: str) -> bool:
    try:
        if os.stat(folder).st_dev != os.stat(os.path.dirname(folder)).st_dev:
            return True
        return os.path.realpath(folder) in _mounts_of_the_same_system()
    except OSError:
        return False


def _mounts_of_the_same_system() -> frozenset[str]:
    """Mount points of the file system that is around them, as bind mounts are: no device tells them; on Linux only."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return frozenset()
    mounts = {fields[0]: fields for line in lines if len(fields := line.split()) > 4}  # as in proc_pid_mountinfo(5)
    inner = (each[4] for each in mounts.values() if each[1] in mounts and mounts[each[1]][2] == each[2])
    octal = re.compile(rb"\\([0-7]{3})")  # as which spaces stand there
    return frozenset(os.fsdecode(octal.sub(lambda code: bytes([int(code[1], 8)]), each)) for each in inner)


def is_below(path: str, folder: str) -> bool:
    """Whether a path is a folder's, or below it."""
    return path == folder or path.startswith(f"{folder.rstrip(os.sep)}{os.sep}")


def is_respelled(path: str, other: str) -> bool:
    """Whether a file is found under a name only because the file system takes it for another one, such as in capitals.

    Args:
        path: The name that may be no more.
        other: A name that was just found in a folder.
    """
    # The same path would come to False below, after a look at the disk.
    if path == other or _comparable(path).casefold() != _comparable(other).casefold():
        return False
    try:
        if not os.path.samefile(path, other):
            return False
        # Where capitals count, these are two names of one file, and both are listed.
        while path != other:
            path, name = os.path.split(path)
            other, other_name = os.path.split(other)
            if name != other_name and name not in os.listdir(path):
                return True
    except (OSError, ValueError):
        pass
    return False


def _comparable(path: str) -> str:
    """A path as people type it, however the disk spells its accents."""
    return unicodedata.normalize("NFC", path)


def told(folder: str, *, below: str) -> str:
    """A folder as reports name it: its POSIX path below the one that is synchronized, with a slash at its end."""
    if not is_below(folder, below):
        return f"{Path(folder).as_posix().rstrip('/')}/"
    return f"{Path(os.path.relpath(folder, below)).as_posix()}/"
