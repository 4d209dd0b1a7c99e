"""The identity of an open index's folder, and the file descriptors that a forked child inherits.

Mapped and open files continue to exist without their names: writes to a folder that was deleted, moved or replaced are
lost without an error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from multimodal_search.errors import StoreError, StoreLockedError

_Identity: TypeAlias = tuple[int, ...]

_WATCHED = ("lock", "shard", "shard/wal", "schema.json")


@dataclass(frozen=True, slots=True)
class Place:
    """The identity of a folder when it was opened.

    Attributes:
        path: Where it was.
        identities: What the file system calls its parts.
    """

    path: Path
    identities: tuple[_Identity | None, ...]

    @classmethod
    def of(cls, path: Path) -> Place:
        """The folder as it is now."""
        return cls(path, tuple(_identity(path / name) for name in _WATCHED))

    def check(self) -> None:
        """Check that the folder is still the same; takes some microseconds.

        Raises:
            StoreError: It is not.
        """
        if self.change() is not None:
            raise StoreError(
                f"{self.path} was {self.change()} while this process had it open, so nothing more is written to it. "
                "What was stored before is in the folder that was opened, wherever that is now: close this index, and "
                "open the one that is to be used"
            )

    def change(self) -> str | None:
        """What happened to it, for messages; None if nothing."""
        for name, before in zip(_WATCHED, self.identities, strict=True):
            now = _identity(self.path / name)
            if now == before:
                continue
            if not self.path.exists():
                return "deleted or moved"
            return f"{'emptied' if now is None else 'replaced'} ({name} is {'gone' if now is None else 'another'})"
        return None


def check_unheld(folder: Path) -> None:
    """Check that no other process has the engine's log open; the engine's own attempt would harm that process.

    Raises:
        StoreLockedError: One has, past the lock of the folder.
    """
    if sys.platform == "win32":
        return  # there, the engine cannot open files that another process has open
    import fcntl

    with suppress(FileNotFoundError, NotADirectoryError):
        descriptor = os.open(folder / "shard" / "wal", os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreLockedError(
                f"the files of {folder} are still held by another process, although its lock is free: one that was "
                "forked from a process that had it open, or one whose lock file was deleted. End that process first"
            ) from error
        except OSError:  # a file system without such locks
            pass
        finally:
            os.close(descriptor)


def close_descriptors(folder: Path) -> None:
    """Close the engine's file descriptors below a folder, for a shard that is never used or destructed again.

    In a forked child, for example, its locks would outlive the parent's closing.
    """
    for descriptor, target in _descriptors():
        if target.startswith(f"{folder / 'shard'}{os.sep}"):
            with suppress(OSError):
                os.close(descriptor)


def _identity(path: Path) -> _Identity | None:
    try:
        state = path.stat()
    except (OSError, ValueError):
        return None
    if path.suffix == ".json":  # written once, so whoever writes it anew, in place, has put another index there
        return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns
    return state.st_dev, state.st_ino


def _descriptors() -> Iterator[tuple[int, str]]:
    listing = "/proc/self/fd" if sys.platform == "linux" else "/dev/fd"
    try:
        descriptors = [int(entry.name) for entry in Path(listing).iterdir()]
    except OSError:
        return
    for descriptor in descriptors:
        with suppress(OSError):
            if sys.platform == "darwin":
                import fcntl

                yield descriptor, os.fsdecode(fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0"))
            else:
                yield descriptor, str(Path(listing, str(descriptor)).readlink())
