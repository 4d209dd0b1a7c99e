"""Sources of candidates for indexing: folders, globs, archives and iterables, all iterated lazily."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import PIL.Image

from multimodal_search._bounds import is_iterable
from multimodal_search._files import checked_path, located
from multimodal_search._indexing.candidate import Candidate, Source, size_and_mtime
from multimodal_search._indexing.walk import Walk, root_above, split_glob, storable
from multimodal_search._text import brief, printable
from multimodal_search.contents import ContentLike, Image, Mixed, Text, as_content
from multimodal_search.errors import ConfigurationError, UnreadableContentError
from multimodal_search.media.archives.members import is_archive, member_name, members
from multimodal_search.report import Failure
from multimodal_search.types import Item

_SINGLE = (bytes, bytearray, memoryview, PIL.Image.Image, Text, Image, Mixed, Item)

Total: TypeAlias = int | Iterator[int] | None
"""How many candidates there will be: a number, numbers that add up to it, or unknown."""


PassedOver: TypeAlias = Counter[str]
"""How many files and folders a walk has left out so far, by what they are, such as "hidden file"."""


def from_images(
    source: str | os.PathLike[str] | ContentLike | Item | Iterable[object],
    *,
    root: str | os.PathLike[str] | None,
    pattern: str | Iterable[str] | None,
    exclude: str | Iterable[str] | None,
    recursive: bool,
    in_order: bool,
    skip: Path | None,
) -> tuple[Source, Total, PassedOver]:
    """Candidates from a folder, a glob, an archive, a file, an image, or an iterable of paths, bytes, images, items.

    What there is under a path goes before what it may mean as a glob.

    Args:
        source: Where the images are.
        root: The folder that filenames are relative to; default: the indexed folder, or for single paths the
            working directory.
        pattern: Only files of a folder whose name or path below it matches one of these, e.g. `"*.jpg"`.
        exclude: No files and folders of a folder, or of a glob, whose name or path below it matches one of these.
        recursive: Whether to walk into folders of a folder.
        in_order: Whether a folder is walked in the order of names, holding one folder's names in memory.
        skip: A folder to leave out: the index's own.

    Raises:
        ConfigurationError: There is no such file or folder, none that matches, or an option does not fit the source.
    """
    if root is not None:
        checked_path(root, "root=")
    if isinstance(source, (str, os.PathLike)):
        checked_path(source, "add_images")
        text = os.fspath(source)
        try:
            path = located(text)
            walk = None
            if path.is_dir():
                walk = Walk(
                    path, root=root, pattern=pattern, exclude=exclude, recursive=recursive, in_order=in_order, skip=skip
                )
            elif glob.has_magic(text) and not os.path.lexists(path):
                _refuse(text, pattern=pattern)
                folder, parts = split_glob(path, recursive=recursive)
                walk = Walk(folder, root=root, exclude=exclude, glob=parts, in_order=in_order, skip=skip)
            if walk is not None:
                walk.refuse_empty()
                return walk.candidates(), walk.count(), walk.passed_over
            _refuse(text, pattern=pattern, exclude=exclude)
            if is_archive(path):
                if root is not None:
                    raise ConfigurationError(
                        f"root= is for files and folders, and {text!r} is an archive: leave it out"
                    )
                storable(path.absolute())
                inside = Counter[str]()
                return _from_archive(path, inside), None, inside
            if os.path.lexists(path):
                root_above(path, root)
                return _from_values([path], root), 1, Counter()
        except (OSError, ValueError) as error:
            if isinstance(error, ConfigurationError):
                raise
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise ConfigurationError(f"{printable(text)}: {reason}") from error
        raise ConfigurationError(f"no such file or folder: {text!r} (working directory: {Path.cwd()})")
    _refuse(type(source).__name__, pattern=pattern, exclude=exclude)
    if isinstance(source, _SINGLE):
        source = [source]
    if not is_iterable(source) or hasattr(source, "read"):
        raise TypeError(
            f"add_images takes a folder, a glob or an iterable of images, not {type(source).__name__}; "
            "an image in an open file is Image(file)"
        )
    return _from_values(source, root), known_total(source), Counter()


def from_folder(
    folder: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None,
    pattern: str | Iterable[str] | None,
    exclude: str | Iterable[str] | None,
    recursive: bool,
    follow_symlinks: bool,
    gone: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    prune: bool,
    in_order: bool,
    skip: Path | None,
) -> tuple[Walk, list[str]]:
    """The walk through a folder that is to be synchronized, and the paths whose missing files are deleted.

    The arguments are those of `MultimodalIndex.sync_folder` and of `Walk`.

    Raises:
        ConfigurationError: The folder is missing, or holds no file that is wanted, or an option makes no sense.
    """
    if not _is_folder(folder):
        raise ConfigurationError(f"no such folder: {os.fspath(folder)!r} (working directory: {Path.cwd()})")
    walk = Walk(
        folder,
        root=root,
        pattern=pattern,
        exclude=exclude,
        recursive=recursive,
        in_order=in_order,
        follow_symlinks=follow_symlinks,
        skip=skip,
    )
    names = _paths(gone, "gone")
    if names and not prune:
        raise ConfigurationError("gone says what to remove, and prune=False that nothing is: give one of them")
    if not any(os.path.normpath(each) == "." for each in names):
        walk.refuse_empty(
            ", so nothing is synchronized and nothing removed: is its disk mounted? If its files are really "
            'deleted, give "." as the option gone'
        )
    return walk, names


def _is_folder(folder: str | os.PathLike[str]) -> bool:
    path = checked_path(folder, "sync_folder")
    try:
        return located(path).is_dir()
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ConfigurationError(f"{printable(os.fspath(folder))}: {reason}") from error


def _paths(given: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], option: str) -> list[str]:
    """One path or several, as texts."""
    several: Iterable[object] = [given] if isinstance(given, (str, bytes, os.PathLike)) else given
    if not is_iterable(several):
        raise TypeError(f"{option} takes a path or several, not {type(given).__name__}")
    return [str(checked_path(each, option)) for each in several]


def _refuse(source: str, **options: object) -> None:
    for option, value in options.items():
        if value is not None:
            raise ConfigurationError(f"{option}={value!r} needs a folder, and {source!r} is none")


def known_total(items: object) -> int | None:
    """How many items there are, if that can be told without iterating."""
    return len(items) if isinstance(items, (list, tuple, set, frozenset, dict)) else None


def from_items(items: object) -> Source:
    """Candidates from items and contents; a `str` is text.

    Raises:
        TypeError: `items` is neither.
    """
    if isinstance(items, (str, os.PathLike, *_SINGLE)):
        items = [items]
    if not is_iterable(items) or hasattr(items, "read"):
        raise TypeError(f"expected an iterable of items or contents, not {type(items).__name__}")
    return (_from_value(value, number, None) for number, value in enumerate(items))


def from_manifest(items: Iterable[Item | Failure], folder: Path) -> Source:
    """Candidates that a manifest names: files below its folder by their names there, others by their whole paths."""
    for number, item in enumerate(items):
        source = item.content.source if isinstance(item, Item) and isinstance(item.content, Image) else None
        is_below = isinstance(source, Path) and source.is_relative_to(os.path.normpath(folder.absolute()))
        yield _from_value(item, number, source.anchor if isinstance(source, Path) and not is_below else folder)


def _from_archive(archive: Path, passed_over: Counter[str]) -> Source:
    root = os.path.normpath(archive.absolute())
    for member in members(archive, passed_over):
        if isinstance(member, Failure):
            yield member
            continue
        name = member_name(archive, member.name)
        yield Candidate(
            name=name,
            given=Image(member.data, name=name),
            filename=member.name,
            root=root,
            size_and_mtime=None if member.mtime_ns is None else (len(member.data), member.mtime_ns),
        )


def _from_values(values: Iterable[object], root: str | os.PathLike[str] | None) -> Source:
    for number, value in enumerate(values):
        # In a list of images a string is a path; everywhere else it is text.
        yield _from_value(Path(value) if isinstance(value, str) else value, number, root)


def _from_value(value: object, number: int, root: str | os.PathLike[str] | None) -> Candidate | Failure:
    try:
        if isinstance(value, (Failure, Candidate)):
            return value
        item = value if isinstance(value, Item) else Item(as_content(value))
    except (TypeError, ValueError) as error:
        return Failure(name=f"item {number}", stage="scan", reason=str(error))
    content = item.content
    if isinstance(content, Image) and isinstance(content.source, PIL.Image.Image):
        try:
            content = _own_image(content)
        except Exception as error:  # noqa: BLE001 (Pillow raises anything over a broken file)
            return Failure(name=f"item {number} ({brief(content, 60)})", stage="load", reason=str(error) or repr(error))
    if isinstance(content, Image) and isinstance(content.source, Path):
        try:
            return _from_file(content.source, root, item)
        except ConfigurationError as error:
            return Failure(name=str(content.source), stage="scan", reason=str(error))
    name = content.label if isinstance(content, Image) and content.name else f"item {number} ({brief(content, 60)})"
    return Candidate(given=content, name=name, is_named=True, id=item.id, payload=item.payload)


def _own_image(image: Image) -> Image:
    """An image that stays as it is now: its owner may read the next frame into it, close its file, or paint on it."""
    assert isinstance(image.source, PIL.Image.Image)  # noqa: S101 (as the caller has seen)
    return Image(image.source.copy(), name=image.name)


def _from_file(path: Path, root: str | os.PathLike[str] | None, item: Item) -> Candidate:
    # A lexical normalization: resolving symbolic links would name files that the user never mentioned.
    absolute = Path(os.path.normpath(located(path).absolute()))
    if root is None:
        here = Path.cwd()
        below = here if absolute.is_relative_to(here) else Path(absolute.anchor)
    else:
        below = Path(os.path.normpath(located(root).absolute()))
        if not absolute.is_relative_to(below):
            raise ConfigurationError(f"root={str(below)!r} must be a folder above {str(absolute)!r}")
    try:
        status: tuple[int, int] | None = size_and_mtime(str(absolute))
    except UnreadableContentError:
        status = None  # loading it will tell why
    return Candidate(
        name=str(path),
        path=str(absolute),
        filename=absolute.relative_to(below).as_posix(),
        root=str(below),
        size_and_mtime=status,
        has_root=root is not None,
        is_named=True,
        id=item.id,
        payload=item.payload or None,
    )
