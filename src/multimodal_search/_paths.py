"""Paths as people write them: below their home, and in another spelling than the disk's."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from multimodal_search._printable import printable
from multimodal_search._spellings import composed, has_other_spelling
from multimodal_search.errors import ConfigurationError


def located(path: str | os.PathLike[str]) -> Path:
    """The path as the disk has it.

    A `~` at its beginning is the home folder. A name that is not there is looked for in its other spelling, with
    accents as parts of their letters or as characters of their own. What is there as it is written goes before both.
    """
    found = Path(path)
    if not found.parts or _is_there(found):
        return found
    if found.parts[0].startswith("~"):
        with suppress(RuntimeError):  # there is no such user, or none that has a home
            found = found.expanduser()
    return _respelled(found) if has_other_spelling(str(found)) and not _is_there(found) else found


def checked_folder(path: Path) -> Path:
    """An absolute path under which something is to be stored.

    Raises:
        ConfigurationError: It cannot be stored; names that are not UTF-8 come from old disks.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ConfigurationError(
            f"{printable(str(path))}: the path is not valid UTF-8, as paths in a store must be: rename the folder"
        ) from None
    return path


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
