"""Opens files whose names others have chosen: payloads, archives, manifests."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


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


def _check(status: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
