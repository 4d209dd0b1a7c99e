"""Files and paths: atomic writes, opening of regular files only, paths as people type them, the user's cache."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

from multimodal_search._secrets import SCHEME, shown_address
from multimodal_search._text import brief, composed, has_other_spelling
from multimodal_search.errors import ConfigurationError

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be removed
    fcntl = None  # type: ignore[assignment]


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Write a file atomically: at the end of the block it is synced to disk and replaces `path`.

    On an error, `path` stays as it was. Until then the file has no name, if the system supports that (`O_TMPFILE`), so
    that nothing is left of it if the process is killed. Elsewhere it is called `.NAME.########.part`, and leftovers of
    killed processes are removed at the next write to `path`.

    Raises:
        OSError: The file cannot be written, or `path` is not a regular file.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    _remove_left(path)
    with _new_file(path) as (file, beside):
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if not beside.exists():
                _name(file.fileno(), beside)
            if os.name == "nt":
                file.close()  # open files cannot be renamed there
            beside.replace(path)
        except BaseException:
            file.close()
            beside.unlink(missing_ok=True)
            raise
    with suppress(OSError):  # Windows cannot open folders, and need not
        folder = os.open(path.absolute().parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def _new_file(path: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """A new file, locked while it is written, and the name that it has or will have."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    file = _unnamed_file(path.absolute().parent)
    while file is None:
        file = beside.open("x+b")
        _lock(file.fileno())
        if not beside.exists():  # another process took it for a leftover before it was locked
            file.close()
            file = None
    with file:
        _lock(file.fileno())
        yield file, beside


def _unnamed_file(folder: Path) -> IO[bytes] | None:
    """A new file without a name in a folder; None if the system has no such files: Linux has, on most file systems."""
    if not hasattr(os, "O_TMPFILE") or not Path("/proc/self/fd").exists():  # needed to name it later
        return None
    try:
        return os.fdopen(os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o666), "w+b")
    except OSError:
        return None


def _name(number: int, path: Path) -> None:
    """Give a file without a name a new name."""
    folder = os.open(path.absolute().parent, os.O_RDONLY)
    try:
        # Python follows the link in /proc to the file only if it is given a folder's descriptor.
        os.link(f"/proc/self/fd/{number}", path.name, dst_dir_fd=folder, follow_symlinks=True)
    finally:
        os.close(folder)


def _remove_left(path: Path) -> None:
    """Remove leftovers of killed processes: parts of `path` that nobody has locked."""
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
    """Try to lock a file until it is closed; returns whether it was free."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def cache_folder() -> Path:
    """The folder for this library's files in the user's cache; not created.

    Raises:
        RuntimeError: The user has no home.
    """
    return _caches() / "multimodal-search"


def _caches() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    return Path(chosen) if Path(chosen).is_absolute() else Path.home() / ".cache"  # as the XDG specification has it


_MAX_PATH_LENGTH = 32_767  # characters of a path on Windows; no other system takes longer ones


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file, or a link to one, for reading bytes.

    A pipe would wait for a writer for ever; a device may be endless, or react to being opened.

    Raises:
        OSError: It is a folder, a pipe, a socket or a device; or it cannot be opened.
    """
    _check(path.stat(), path)
    # A pipe that takes its place in between must not block either.
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))  # noqa: SIM115
    try:
        _check(os.fstat(file.fileno()), path)
    except BaseException:
        file.close()
        raise
    return file


def checked_path(path: object, called_by: str) -> Path:
    """Check a path argument, and expand a leading `~`.

    Raises:
        TypeError: It is neither a `str` nor a path.
        ConfigurationError: It is empty, an address, or not a valid path on this system.
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise TypeError(f"{called_by} takes a path, as str or Path, not {type(path).__name__}")
    text = os.fspath(path)
    if not text:
        raise ConfigurationError(f"{called_by} takes a path, not an empty text")
    if is_address(text):  # it would become the name of a folder
        raise ConfigurationError(f"{called_by} takes a path, and {brief(shown_address(text))} is an address")
    try:
        is_path = len(text) <= _MAX_PATH_LENGTH and "\0" not in text and bool(os.fsencode(text))
    except UnicodeEncodeError:
        is_path = False
    if not is_path:
        raise ConfigurationError(f"{called_by} takes a path, and {brief(text)} is none that this system can spell")
    return located(text)


def is_address(path: str | Path) -> bool:
    """Whether a path is an address such as `https://...`, also with one slash only, as `Path` leaves it."""
    return SCHEME.match(str(path)) is not None


def _check(status: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def located(path: str | os.PathLike[str]) -> Path:
    """Find a path on disk: expand a leading `~`, and try both Unicode forms (NFC, NFD) of its names.

    A path that exists as written takes precedence.
    """
    found = Path(path)
    is_below_home = bool(found.parts) and found.parts[0].startswith("~")
    if not (is_below_home or has_other_spelling(str(found))) or _is_there(
        found
    ):  # most paths, without a look at the disk
        return found
    if is_below_home:
        with suppress(RuntimeError):  # no such user, or no home folder
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
    except ValueError:  # a NUL, or a lone surrogate
        return False
