"""Where items come from: folders, globs and iterables, all walked lazily, as candidates for indexing."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import TypeAlias
from uuid import UUID

import PIL.Image

from multimodal_search.errors import ConfigurationError
from multimodal_search.results import Failure
from multimodal_search.types import Content, ContentLike, Image, Item, Payload, PointId, as_content

_RUBBISH = frozenset({"thumbs.db", "desktop.ini"})  # left in photo folders by Windows


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One thing that may be indexed, not yet read.

    Attributes:
        content: What to embed.
        name: What reports call it.
        path: The file it is in, if it is in one.
        filename: The file's POSIX path below `root`.
        root: The indexed folder, absolute.
        id: The id that the user gave it.
        payload: The user's own fields.
    """

    content: Content
    name: str
    path: Path | None = None
    filename: str | None = None
    root: str | None = None
    id: PointId | UUID | None = None
    payload: Payload = field(default_factory=dict)


Source: TypeAlias = Iterator[Candidate | Failure]


def from_images(
    source: str | os.PathLike[str] | ContentLike | Item | Iterable[object],
    *,
    root: str | os.PathLike[str] | None,
    pattern: str | None,
    recursive: bool,
    in_order: bool,
) -> Source:
    """Candidates from a folder, a glob, a file, one picture, or an iterable of paths, bytes, pictures and items.

    Args:
        source: Where the pictures are.
        root: The folder that filenames are relative to; default: the indexed folder, or for single paths the
            working directory.
        pattern: Only files of a folder whose name or path below it matches, e.g. `"*.jpg"`.
        recursive: Whether to walk into folders of a folder.
        in_order: Whether a folder is walked in the order of names, holding one folder's names in memory.

    Raises:
        ConfigurationError: There is no such file or folder, or an option that does not fit the source.
    """
    if isinstance(source, (str, os.PathLike)):
        text = os.fspath(source)
        if Path(text).is_dir():
            folder = Path(text)
            return _walk(folder, _root(root, folder.absolute()), pattern, recursive=recursive, in_order=in_order)
        if pattern is not None:
            raise ConfigurationError(f"pattern={pattern!r} needs a folder, and {text!r} is none")
        if Path(text).exists():
            return _from_values([Path(text)], root)
        if glob.has_magic(text):
            start = Path(text).absolute()
            while any(map(glob.has_magic, start.parts)):
                start = start.parent
            return _from_glob(text, _root(root, start), recursive=recursive, in_order=in_order)
        raise ConfigurationError(f"no such file or folder: {text!r} (working directory: {Path.cwd()})")
    if pattern is not None:
        raise ConfigurationError(f"pattern={pattern!r} needs a folder, not {type(source).__name__}")
    if isinstance(source, (bytes, bytearray, PIL.Image.Image, Image, Item)):
        source = [source]
    if not isinstance(source, Iterable):
        raise TypeError(f"add_images takes a folder, a glob or an iterable of pictures, not {type(source).__name__}")
    return _from_values(source, root)


def from_items(items: Iterable[object] | Item) -> Source:
    """Candidates from items and contents; a `str` is text."""
    if isinstance(items, (str, bytes, Item, os.PathLike, PIL.Image.Image)):
        items = [items]
    for number, value in enumerate(items):
        yield _from_value(value, number, None)


def _walk(folder: Path, root: Path, pattern: str | None, *, recursive: bool, in_order: bool) -> Source:
    """Every file below a folder; hidden files and folders are left out."""
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        below: list[Path] = []
        try:
            with os.scandir(here) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name) if in_order else entries:
                    if entry.name.startswith(".") or entry.name.lower() in _RUBBISH:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        below.append(Path(entry.path))
                    elif (entry.is_file() or not _is_there(entry)) and _matches(Path(entry.path), folder, pattern):
                        yield _from_file(Path(entry.path), root)
        except OSError as error:
            yield Failure(name=str(here), stage="scan", reason=error.strerror or str(error))
        if recursive:
            waiting.extend(reversed(below))


def _is_there(entry: os.DirEntry[str]) -> bool:
    # A link to nowhere is yielded, so that the report names it; pipes, sockets and linked folders are not.
    return Path(entry.path).exists()


def _matches(path: Path, folder: Path, pattern: str | None) -> bool:
    return pattern is None or fnmatch(path.name, pattern) or fnmatch(path.relative_to(folder).as_posix(), pattern)


def _from_glob(pattern: str, root: Path, *, recursive: bool, in_order: bool) -> Source:
    found: Iterable[str] = glob.iglob(pattern, recursive=recursive)  # noqa: PTH207 (Path.glob takes no absolute pattern)
    for text in sorted(found) if in_order else found:
        if not Path(text).is_dir():
            yield _from_file(Path(text), root)


def _from_values(values: Iterable[object], root: str | os.PathLike[str] | None) -> Source:
    for number, value in enumerate(values):
        # In a list of pictures a string is a path; everywhere else it is text.
        yield _from_value(Path(value) if isinstance(value, str) else value, number, root)


def _from_value(value: object, number: int, root: str | os.PathLike[str] | None) -> Candidate | Failure:
    try:
        item = value if isinstance(value, Item) else Item(as_content(value))
    except (TypeError, ValueError) as error:
        return Failure(name=f"item {number}", stage="scan", reason=str(error))
    content = item.content
    if isinstance(content, Image) and isinstance(content.source, Path):
        return _from_file(content.source, _root_of(content.source, root), item=item)
    name = content.name if isinstance(content, Image) and content.name else f"item {number} ({content!r:.60})"
    return Candidate(content=content, name=name, id=item.id, payload=item.payload)


def _from_file(path: Path, root: Path, *, item: Item | None = None) -> Candidate:
    # A lexical normalisation: resolving symbolic links would name files that the user never mentioned.
    absolute = Path(os.path.normpath(path.absolute()))
    return Candidate(
        content=Image(absolute, name=str(path)),
        name=str(path),
        path=absolute,
        filename=absolute.relative_to(root).as_posix(),
        root=str(root),
        id=None if item is None else item.id,
        payload={} if item is None else item.payload,
    )


def _root(root: str | os.PathLike[str] | None, default: Path) -> Path:
    """The folder that filenames are relative to, checked to lie above what is indexed."""
    default = Path(os.path.normpath(default))
    if root is None:
        return default
    chosen = Path(os.path.normpath(Path(root).absolute()))
    if not default.is_relative_to(chosen):
        raise ConfigurationError(f"root={str(chosen)!r} must be a folder above {str(default)!r}")
    return chosen


def _root_of(path: Path, root: str | os.PathLike[str] | None) -> Path:
    """The root for a single path: the one given, the working directory, or the top of the file system."""
    chosen = Path(os.path.normpath(Path.cwd() if root is None else Path(root).absolute()))
    path = Path(os.path.normpath(path.absolute()))
    return chosen if path.is_relative_to(chosen) else Path(path.anchor)
