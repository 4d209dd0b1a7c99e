"""A file that is replaced as a whole, or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows, where nobody can remove a file that somebody has open
    fcntl = None  # type: ignore[assignment]


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A new file that takes the place of `path` when all went well, and is safe on the disk by then.

    Until then it has no name, where the system can do that, so that nothing is left of it however the process ends.
    Elsewhere it is called `.NAME.########.part`, and what a process that was killed has left of such is removed when
    `path` is next replaced.

    Raises:
        OSError: It cannot be written, or `path` is no file.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    _remove_left(path)
    with _new_file(path) as (file, beside):
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if not beside.exists():
                _name(file.fileno(), beside)
            if os.name == "nt":
                file.close()  # what is open there cannot be renamed
            beside.replace(path)
        except BaseException:
            file.close()
            beside.unlink(missing_ok=True)
            raise
    with suppress(OSError):  # Windows opens no folders, and keeps the new name anyway
        folder = os.open(path.absolute().parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def _new_file(path: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """A new file, locked for as long as it is written, and the name that it has, or shall have."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    file = _unnamed_file(path.absolute().parent)
    while file is None:
        file = beside.open("x+b")
        _lock(file.fileno())
        if not beside.exists():  # somebody who removes what is left was here before the lock
            file.close()
            file = None
    with file:
        _lock(file.fileno())
        yield file, beside


def _unnamed_file(folder: Path) -> IO[bytes] | None:
    """A new file without a name in a folder; None where there is no such thing: Linux has it, on most file systems."""
    if not hasattr(os, "O_TMPFILE") or not Path("/proc/self/fd").exists():  # through which it gets a name later
        return None
    try:
        return os.fdopen(os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o666), "w+b")
    except OSError:
        return None


def _name(number: int, path: Path) -> None:
    """Give a file without a name one, which must be new."""
    folder = os.open(path.absolute().parent, os.O_RDONLY)
    try:
        # Only with a folder's number does Python follow the link, which /proc holds, to the file itself.
        os.link(f"/proc/self/fd/{number}", path.name, dst_dir_fd=folder, follow_symlinks=True)
    finally:
        os.close(folder)


def _remove_left(path: Path) -> None:
    """Remove what processes that were killed have left of `path`: nobody holds a lock on it."""
    ours = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.part")
    with suppress(OSError):
        with os.scandir(path.absolute().parent) as entries:
            left = [Path(entry.path) for entry in entries if ours.fullmatch(entry.name)]
        for part in left:
            with suppress(OSError), part.open("r+b") as file:
                if _lock(file.fileno()):
                    part.unlink()
            if fcntl is None:
                with suppress(OSError):
                    part.unlink()


def _lock(number: int) -> bool:
    """Take the lock on a file, until it is closed; whether it was free."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
