"""Where items come from: folders, globs and iterables, all walked lazily, as candidates for indexing."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TypeAlias
from uuid import UUID

import PIL.Image

from multimodal_search._archives import RUBBISH, is_archive, members, place
from multimodal_search._bounds import is_iterable
from multimodal_search._failure import Failure
from multimodal_search._secrets import without_secrets
from multimodal_search.errors import ConfigurationError, UnreadableContentError
from multimodal_search.types import Content, ContentLike, Image, Item, Mixed, Payload, PointId, Text, as_content


@dataclass(slots=True, kw_only=True, eq=False)
class Candidate:
    """One thing that may be indexed, not yet read.

    Attributes:
        name: What reports call it.
        given: What to embed; None for a picture in a file, which `content` makes when it is needed.
        path: The file it is, if it is one; not for what is inside an archive.
        filename: The file's POSIX path below `root`.
        root: The indexed folder or archive, absolute.
        size_and_mtime: Of the file when it was found, in bytes and nanoseconds.
        id: The id that the user gave it.
        payload: The user's own fields; None where the source can have none, so that those of before stay.
    """

    name: str
    given: Content | None = None
    path: str | None = None
    filename: str | None = None
    root: str | None = None
    size_and_mtime: tuple[int, int] | None = None
    id: PointId | UUID | None = None
    payload: Payload | None = None

    @property
    def content(self) -> Content:
        """What to embed."""
        return Image(self.path or "", name=self.name) if self.given is None else self.given


_SINGLE = (bytes, bytearray, memoryview, PIL.Image.Image, Text, Image, Mixed, Item)

Source: TypeAlias = Iterator[Candidate | Failure]

Total: TypeAlias = int | Iterator[int] | None
"""How many candidates there will be: a number, numbers that add up to it, or unknown."""


def from_images(
    source: str | os.PathLike[str] | ContentLike | Item | Iterable[object],
    *,
    root: str | os.PathLike[str] | None,
    pattern: str | None,
    recursive: bool,
    in_order: bool,
    skip: Path | None,
) -> tuple[Source, Total]:
    """Candidates from a folder, a glob, an archive, a file, a picture, or an iterable of paths, bytes, pictures, items.

    Args:
        source: Where the pictures are.
        root: The folder that filenames are relative to; default: the indexed folder, or for single paths the
            working directory.
        pattern: Only files of a folder whose name or path below it matches, e.g. `"*.jpg"`.
        recursive: Whether to walk into folders of a folder.
        in_order: Whether a folder is walked in the order of names, holding one folder's names in memory.
        skip: A folder to leave out: the index's own.

    Raises:
        ConfigurationError: There is no such file or folder, or an option that does not fit the source.
    """
    if isinstance(source, (str, os.PathLike)):
        text = os.fspath(source)
        if not text:
            raise ConfigurationError("the path of a file or folder is empty")
        if Path(text).is_dir():
            walk = Walk(text, root=root, pattern=pattern, recursive=recursive, in_order=in_order, skip=skip)
            return walk.candidates(), walk.count()
        if pattern is not None:
            raise ConfigurationError(f"pattern={pattern!r} needs a folder, and {text!r} is none")
        if is_archive(Path(text)):
            return _from_archive(Path(text)), None
        if Path(text).exists():
            return _from_values([Path(text)], root), 1
        if glob.has_magic(text):
            start = Path(text).absolute()
            while any(map(glob.has_magic, start.parts)):
                start = start.parent
            return _from_glob(text, root_above(start, root), recursive=recursive, in_order=in_order), None
        raise ConfigurationError(f"no such file or folder: {without_secrets(text)!r} (working directory: {Path.cwd()})")
    if pattern is not None:
        raise ConfigurationError(f"pattern={pattern!r} needs a folder, not {type(source).__name__}")
    if isinstance(source, _SINGLE):
        source = [source]
    if not is_iterable(source) or hasattr(source, "read"):
        raise TypeError(
            f"add_images takes a folder, a glob or an iterable of pictures, not {type(source).__name__}; "
            "a picture in an open file is Image(file)"
        )
    return _from_values(source, root), known_total(source)


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


class Walk:
    """A walk through a folder; hidden files and folders are left out, as are pipes and the like.

    Args:
        folder: Where to begin; as given, it stands in the names of reports.
        root: The folder that filenames are relative to; default: `folder`.
        pattern: Only files whose name or path below `folder` matches.
        recursive: Whether to go into folders.
        in_order: Whether to go in the order of names, holding one folder's names in memory.
        follow_symlinks: Whether to go into folders behind symbolic links, each once.
        skip: A folder to leave out: the index's own.

    Attributes:
        root: As it is stored: absolute.
        below_root: The POSIX path of `folder` below `root`, with a slash at its end; empty if they are the same.
        unread: Folders that could not be read, absolute.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        root: str | os.PathLike[str] | None = None,
        pattern: str | None = None,
        recursive: bool = True,
        in_order: bool = False,
        follow_symlinks: bool = False,
        skip: Path | None = None,
    ) -> None:
        self.folder = os.fspath(folder)
        self._absolute = os.path.normpath(Path(self.folder).absolute())
        chosen = root_above(Path(self._absolute), root)
        self.root = str(chosen)
        relative = Path(self._absolute).relative_to(chosen).as_posix()
        self.below_root = "" if relative == "." else f"{relative}/"
        self.unread: list[str] = []
        self._pattern = pattern
        self._recursive = recursive
        self._in_order = in_order
        self._follow = follow_symlinks
        self._skip = None if skip is None else os.path.realpath(skip)

    def candidates(self) -> Source:
        """The files as candidates, and a failure for each folder that could not be read."""
        for entry, below in self._entries():
            if isinstance(entry, OSError):
                place = os.path.join(self._absolute, below)  # noqa: PTH118 (many, and quick)
                self.unread.append(place)
                yield Failure(name=os.path.join(self.folder, below), stage="scan", reason=entry.strerror or str(entry))  # noqa: PTH118
                continue
            try:
                status = entry.stat()
                size_and_mtime = (status.st_size, status.st_mtime_ns)
            except OSError:
                size_and_mtime = None  # loading it will tell why
                self.unread.append(os.path.join(self._absolute, below))  # noqa: PTH118 (a link to a folder, perhaps)
            yield Candidate(
                name=entry.path,
                path=f"{self._absolute}{os.sep}{below.replace('/', os.sep)}",
                filename=f"{self.below_root}{below}",
                root=self.root,
                size_and_mtime=size_and_mtime,
            )

    def count(self) -> Iterator[int]:
        """1 for each file that `candidates` would give; reads names only."""
        return (1 for entry, _ in self._entries() if not isinstance(entry, OSError))

    def _entries(self) -> Iterator[tuple[os.DirEntry[str] | OSError, str]]:
        """The entries of files, and the errors of folders, with their POSIX paths below the folder."""
        waiting = [(self.folder, "")]
        links: list[tuple[str, str]] = []  # after all others, so that a folder goes by its own name if it is walked
        seen: set[tuple[int, int]] = set()
        while waiting or links:
            here, prefix = (waiting or links).pop()
            below: list[tuple[str, str]] = []
            try:
                if self._follow and not self._is_new(here, seen):
                    continue
                with os.scandir(here) as entries:
                    for entry in sorted(entries, key=lambda entry: entry.name) if self._in_order else entries:
                        if entry.name.startswith(".") or entry.name.lower() in RUBBISH:
                            continue
                        if self._is_folder(entry):
                            if self._skip is None or os.path.realpath(entry.path) != self._skip:
                                folders = links if entry.is_symlink() else below
                                folders.append((entry.path, f"{prefix}{entry.name}/"))
                        elif self._is_wanted(entry, f"{prefix}{entry.name}"):
                            yield entry, f"{prefix}{entry.name}"
            except OSError as error:
                yield error, prefix
            if self._recursive:
                waiting.extend(reversed(below))

    def covers(self, filename: str) -> bool:
        """Whether a stored filename is one that this walk would come to, if there is such a file."""
        below = filename[len(self.below_root) :]
        return filename.startswith(self.below_root) and (self._recursive or "/" not in below) and self._matches(below)

    def _matches(self, below: str) -> bool:
        name = below.rpartition("/")[2]
        return self._pattern is None or fnmatch(name, self._pattern) or fnmatch(below, self._pattern)

    def _is_folder(self, entry: os.DirEntry[str]) -> bool:
        try:
            return entry.is_dir(follow_symlinks=self._follow)
        except OSError:  # a link in a circle, or into a folder that may not be looked at
            return False

    def _is_wanted(self, entry: os.DirEntry[str], below: str) -> bool:
        if not self._matches(below):
            return False
        try:
            # A link to nowhere is yielded, so that the report names it; pipes, sockets and linked folders are not.
            return entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists())
        except OSError:
            return True  # loading it will tell why

    @staticmethod
    def _is_new(folder: str, seen: set[tuple[int, int]]) -> bool:
        status = Path(folder).stat()
        place = (status.st_dev, status.st_ino)
        is_new = place not in seen
        seen.add(place)
        return is_new


def root_above(folder: Path, root: str | os.PathLike[str] | None) -> Path:
    """The folder that filenames are relative to, checked to lie above what is indexed.

    Raises:
        ConfigurationError: It does not.
    """
    folder = Path(os.path.normpath(folder.absolute()))
    if root is None:
        return folder
    chosen = Path(os.path.normpath(Path(root).absolute()))
    if not folder.is_relative_to(chosen):
        raise ConfigurationError(f"root={str(chosen)!r} must be a folder above {str(folder)!r}")
    return chosen


def size_and_mtime(path: str) -> tuple[int, int]:
    """Of a regular file, in bytes and nanoseconds.

    Raises:
        UnreadableContentError: It is missing, or no regular file.
    """
    try:
        status = Path(path).stat()
    except OSError as error:
        raise UnreadableContentError(error.strerror or str(error)) from error
    except ValueError as error:  # a NUL in the name
        raise UnreadableContentError(str(error)) from error
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableContentError("not a regular file")
    return status.st_size, status.st_mtime_ns


def _from_glob(pattern: str, root: Path, *, recursive: bool, in_order: bool) -> Source:
    found: Iterable[str] = glob.iglob(pattern, recursive=recursive)  # noqa: PTH207 (Path.glob takes no absolute pattern)
    for text in sorted(found) if in_order else found:
        if not Path(text).is_dir():
            yield _from_file(Path(text), root)


def _from_archive(archive: Path) -> Source:
    root = os.path.normpath(archive.absolute())
    for member in members(archive):
        if isinstance(member, Failure):
            yield member
            continue
        name = place(archive, member.name)
        yield Candidate(
            name=name,
            given=Image(member.data, name=name),
            filename=member.name,
            root=root,
            size_and_mtime=None if member.mtime_ns is None else (len(member.data), member.mtime_ns),
        )


def _from_values(values: Iterable[object], root: str | os.PathLike[str] | None) -> Source:
    for number, value in enumerate(values):
        # In a list of pictures a string is a path; everywhere else it is text.
        yield _from_value(Path(value) if isinstance(value, str) else value, number, root)


def _from_value(value: object, number: int, root: str | os.PathLike[str] | None) -> Candidate | Failure:
    try:
        if isinstance(value, Failure):
            return value
        item = value if isinstance(value, Item) else Item(as_content(value))
    except (TypeError, ValueError) as error:
        return Failure(name=f"item {number}", stage="scan", reason=str(error))
    content = item.content
    if isinstance(content, Image) and isinstance(content.source, PIL.Image.Image):
        try:
            content = _own_picture(content)
        except Exception as error:  # noqa: BLE001 (Pillow raises anything over a broken file)
            return Failure(name=f"item {number} ({content!r:.60})", stage="load", reason=str(error) or repr(error))
    if isinstance(content, Image) and isinstance(content.source, Path):
        return _from_file(content.source, _root_of(content.source, root), item=item)
    name = content.label if isinstance(content, Image) and content.name else f"item {number} ({content!r:.60})"
    return Candidate(given=content, name=name, id=item.id, payload=item.payload)


def _own_picture(image: Image) -> Image:
    """A picture that stays as it is now: its owner may read the next frame into it, close its file, or paint on it."""
    assert isinstance(image.source, PIL.Image.Image)  # noqa: S101 (as the caller has seen)
    return Image(image.source.copy(), name=image.name)


def _from_file(path: Path, root: Path, *, item: Item | None = None) -> Candidate:
    # A lexical normalisation: resolving symbolic links would name files that the user never mentioned.
    absolute = Path(os.path.normpath(path.absolute()))
    try:
        status: tuple[int, int] | None = size_and_mtime(str(absolute))
    except UnreadableContentError:
        status = None  # loading it will tell why
    return Candidate(
        name=str(path),
        path=str(absolute),
        filename=absolute.relative_to(root).as_posix(),
        root=str(root),
        size_and_mtime=status,
        id=None if item is None else item.id,
        payload=item.payload if item is not None and item.payload else None,
    )


def _root_of(path: Path, root: str | os.PathLike[str] | None) -> Path:
    """The root for a single path: the one given, the working directory, or the top of the file system."""
    chosen = Path(os.path.normpath(Path.cwd() if root is None else Path(root).absolute()))
    path = Path(os.path.normpath(path.absolute()))
    return chosen if path.is_relative_to(chosen) else Path(path.anchor)
