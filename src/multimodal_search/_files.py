"""Files and their paths: written atomically, opened only if regular, and found as people write them."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

from multimodal_search._secrets import SCHEME, shown_address
from multimodal_search._text import brief, composed, has_other_spelling
from multimodal_search.errors import ConfigurationError

try:
    import fcntl
except ImportError:  # Windows, where nobody can remove a file that somebody has open
    fcntl = None  # type: ignore[assignment]


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
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


_MAX_PATH_LENGTH = 32_767  # characters of a path on Windows; no other system takes longer ones


def open_regular(path: Path) -> BinaryIO:
    """A regular file, or a link to one, opened for reading bytes.

    A pipe would wait for a writer for ever, a device may never end, or do something as it is opened.

    Raises:
        OSError: It is a folder, a pipe, a socket or a device; or it cannot be opened.
    """
    _check(path.stat(), path)
    # Whoever puts a pipe in its place in between must not make this wait either.
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))  # noqa: SIM115
    try:
        _check(os.fstat(file.fileno()), path)
    except BaseException:
        file.close()
        raise
    return file


def checked_path(path: object, called_by: str) -> Path:
    """A path as it was handed to a function; a `~` at its beginning is the home folder.

    Raises:
        TypeError: It is no `str` and no path.
        ConfigurationError: It is empty, an address, or none that this system can spell.
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise TypeError(f"{called_by} takes a path, as str or Path, not {type(path).__name__}")
    text = os.fspath(path)
    if not text:
        raise ConfigurationError(f"{called_by} takes a path, and was given an empty one")
    if is_address(text):  # of which a folder would be made
        raise ConfigurationError(f"{called_by} takes a path, and {brief(shown_address(text))} is an address")
    try:
        is_path = len(text) <= _MAX_PATH_LENGTH and "\0" not in text and bool(os.fsencode(text))
    except UnicodeEncodeError:
        is_path = False
    if not is_path:
        raise ConfigurationError(f"{called_by} takes a path, and {brief(text)} is none that this system can spell")
    return located(text)


def is_address(path: str | Path) -> bool:
    """Whether a path begins as an address does, such as `https://...`, also with the one slash that `Path` leaves."""
    return SCHEME.match(str(path)) is not None


def _check(status: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def located(path: str | os.PathLike[str]) -> Path:
    """The path as the disk has it.

    A `~` at its beginning is the home folder. A name that is not there is looked for in its other spelling, with
    accents as parts of their letters or as characters of their own. What is there as it is written goes before both.
    """
    found = Path(path)
    is_below_home = bool(found.parts) and found.parts[0].startswith("~")
    if not (is_below_home or has_other_spelling(str(found))) or _is_there(found):  # the most, without asking the disk
        return found
    if is_below_home:
        with suppress(RuntimeError):  # there is no such user, or none that has a home
            found = found.expanduser()
    return _respelled(found) if has_other_spelling(str(found)) and not _is_there(found) else found


def _respelled(path: Path) -> Path:
    found = Path(path.anchor)
    for part in path.parts[1:] if path.anchor else path.parts:
        if has_other_spelling(part) and not _is_there(found / part):
            with suppress(OSError):
                wanted = composed(part)
                part = next((name for name in os.listdir(found) if composed(name) == wanted), part)  # noqa: PLW2901, PTH208
        found /= part
    return found


def _is_there(path: Path) -> bool:
    try:
        return os.path.lexists(path)
    except ValueError:  # a NUL, or half a character
        return False
