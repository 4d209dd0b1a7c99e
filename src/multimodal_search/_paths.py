"""Paths as people write them: below their home, and in another spelling than the disk's."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from multimodal_search._spellings import composed, has_other_spelling


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
