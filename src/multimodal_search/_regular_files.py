"""Paths that others have chosen, in payloads, archives, manifests and arguments: checked before anything is opened."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

from multimodal_search._secrets import shown_address
from multimodal_search._text import brief
from multimodal_search.errors import ConfigurationError

_LONGEST = 32_767  # characters of a path on Windows; no other system takes longer ones
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # a letter alone is a drive of Windows


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
    """A path as it was handed to a function.

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
        is_path = len(text) <= _LONGEST and "\0" not in text and bool(os.fsencode(text))
    except UnicodeEncodeError:
        is_path = False
    if not is_path:
        raise ConfigurationError(f"{called_by} takes a path, and {brief(text)} is none that this system can spell")
    return Path(text)


def is_address(path: str | Path) -> bool:
    """Whether a path begins as an address does, such as `https://...`, also with the one slash that `Path` leaves."""
    return _SCHEME.match(str(path)) is not None


def _check(status: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
