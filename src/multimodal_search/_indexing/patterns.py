"""Patterns for names of files, with `*`, `?` and `[abc]`; neither case nor the spelling of accents matters."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from fnmatch import translate
from typing import TypeAlias

from multimodal_search._bounds import is_iterable
from multimodal_search._text import brief, composed
from multimodal_search.errors import ConfigurationError

_MAX_LENGTH = 4096  # characters: Linux's PATH_MAX, the most bytes of a path; translating a pattern takes their square

Steps: TypeAlias = frozenset[int]
"""How far along the parts of a glob a folder is, by each way that leads to it."""


def patterns(given: str | Iterable[str] | None, *, option: str) -> Patterns | None:
    """One pattern or several; None where none is given.

    Raises:
        ConfigurationError: One is empty, too long, or no text.
    """
    if given is None:
        return None
    if not is_iterable(given) or isinstance(given, (bytes, os.PathLike)):
        raise ConfigurationError(f"{option} takes a pattern such as '*.jpg', or several, not {brief(given)}")
    several = (given,) if isinstance(given, str) else tuple(given)
    for pattern in several:
        if not isinstance(pattern, str) or not pattern.strip("/"):
            raise ConfigurationError(f"{option} takes a pattern such as '*.jpg', or several, not {brief(pattern)}")
        if os.path.isabs(pattern) or os.pardir in re.split(r"[/\\]", pattern):  # noqa: PTH117 (a pattern is no path)
            raise ConfigurationError(
                f"{option}={brief(pattern)} can match nothing: names and paths below the folder are matched; "
                "write it as it stands there"
            )
    return Patterns(several, option=option) if several else None


class Patterns:
    """What matches one of several patterns, by its name or by its POSIX path; in a path, `*` crosses `/`.

    Args:
        given: In the words of `fnmatch`. `**/` at the beginning may also stand for no folder at all.
        option: What messages call them.
    """

    def __init__(self, given: Sequence[str], *, option: str) -> None:
        self.given = given
        self._compiled = [_compiled(form, option) for pattern in given for form in _forms(pattern)]

    def match(self, path: str) -> bool:
        """Whether a file's or a folder's path, or its name, matches."""
        path = composed(path)
        name = path.rpartition("/")[2]
        return any(each.match(name) or each.match(path) for each in self._compiled)

    def match_any_folder(self, path: str) -> bool:
        """Whether a path matches, or a folder on the way to it."""
        parts = path.split("/")
        return any(self.match("/".join(parts[:end])) for end in range(1, len(parts) + 1))

    def __str__(self) -> str:
        return " or ".join(map(repr, self.given))


class PathGlob:
    """A glob, part by part as a walk goes down: `*` stays within a part, and `**` is any number of folders.

    Args:
        parts: What stands between the slashes.
    """

    def __init__(self, parts: Sequence[str]) -> None:
        self._parts = parts
        self._compiled = [_compiled(part, "the glob") for part in parts]
        self.start: Steps = self._on(frozenset({0}))

    def after(self, steps: Steps, name: str, *, linked: bool = False) -> Steps:
        """How far it is behind a name; `**` does not lead into linked folders, as these may lead back."""
        found = set()
        for step in steps:
            if step == len(self._parts):
                continue
            part = self._parts[step]
            if part == "**":
                if not name.startswith(".") and not linked:
                    found.add(step)
            elif name.startswith(".") <= part.startswith(".") and self._compiled[step].match(composed(name)):
                found.add(step + 1)
        return self._on(found)

    def goes_on(self, steps: Steps) -> bool:
        """Whether it may match something in a folder."""
        return any(step < len(self._parts) for step in steps)

    def accepts(self, steps: Steps) -> bool:
        """Whether the whole glob matches."""
        return len(self._parts) in steps

    def _on(self, steps: Iterable[int]) -> Steps:
        found = set(steps)
        for step, part in enumerate(self._parts):
            if step in found and part == "**":
                found.add(step + 1)
        return frozenset(found)


def _compiled(pattern: str, option: str) -> re.Pattern[str]:
    if len(pattern) > _MAX_LENGTH:
        raise ConfigurationError(
            f"{option}: a pattern may have {_MAX_LENGTH:,} characters, not {len(pattern):,}: {pattern:.40}..."
        )
    pattern = composed(pattern)
    literal = pattern.replace("[", "[[]")  # as a folder called `[2020] trip` is typed
    forms = dict.fromkeys((pattern, literal))
    return re.compile("|".join(map(translate, forms)), re.IGNORECASE)


def _forms(pattern: str) -> tuple[str, ...]:
    # A folder may be written with a slash behind it, and Windows writes others.
    pattern = pattern.replace(os.sep, "/").rstrip("/").removeprefix("./")
    return (pattern, pattern[3:]) if pattern.startswith("**/") and len(pattern) > 3 else (pattern,)
