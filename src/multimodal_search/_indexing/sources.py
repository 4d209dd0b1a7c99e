"""Where items come from: folders, globs and iterables, all walked lazily, as candidates for indexing."""

from __future__ import annotations

import errno
import glob
import itertools
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from uuid import UUID

import PIL.Image

from multimodal_search._bounds import is_iterable
from multimodal_search._files import checked_path, located
from multimodal_search._indexing.patterns import PathGlob, Steps, patterns
from multimodal_search._text import brief, counted, is_unicode, printable
from multimodal_search.contents import Content, ContentLike, Image, Mixed, Text, as_content
from multimodal_search.errors import ConfigurationError, UnreadableContentError
from multimodal_search.media.archives.members import is_archive, member_name, members
from multimodal_search.media.system_files import (
    HEAD,
    HOME,
    index_marks,
    is_below_clutter,
    is_clutter,
    is_hidden,
    is_marked,
)
from multimodal_search.report import Failure
from multimodal_search.types import Item, Payload, PointId


@dataclass(slots=True, kw_only=True, eq=False)
class Candidate:
    """One thing that may be indexed, not yet read.

    Attributes:
        name: What reports call it.
        given: What to embed; None for an image in a file, which `content` makes when it is needed.
        path: The file it is, if it is one; not for what is inside an archive.
        filename: The file's POSIX path below `root`.
        root: The indexed folder or archive, absolute.
        size_and_mtime: Of the file when it was found, in bytes and nanoseconds.
        has_root: Whether `root` follows from what the user gave; else it was chosen here, and where the very file is
            stored below another folder, that one goes before.
        id: The id that the user gave it.
        is_named: Whether the user named this very file, and not a folder or a pattern.
        payload: The user's own fields; None where the source can have none, so that those of before stay.
    """

    name: str
    given: Content | None = None
    path: str | None = None
    filename: str | None = None
    root: str | None = None
    size_and_mtime: tuple[int, int] | None = None
    has_root: bool = True
    id: PointId | UUID | None = None
    is_named: bool = False
    payload: Payload | None = None

    @property
    def content(self) -> Content:
        """What to embed."""
        return Image(self.path or "", name=self.name) if self.given is None else self.given


_SINGLE = (bytes, bytearray, memoryview, PIL.Image.Image, Text, Image, Mixed, Item)

Source: TypeAlias = Iterator[Candidate | Failure]

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
                folder, parts = _split_glob(path, recursive=recursive)
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
                _storable(path.absolute())
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


def _refuse(source: str, **options: object) -> None:
    for option, value in options.items():
        if value is not None:
            raise ConfigurationError(f"{option}={value!r} needs a folder, and {source!r} is none")


def _split_glob(path: Path, *, recursive: bool) -> tuple[Path, list[str]]:
    """The folder before a glob's first wildcard, and the parts behind it; a folder called `[2020]` is no wildcard.

    Raises:
        ConfigurationError: There is no such folder, or the glob leads out of it.
    """
    parts = list(path.parts)
    folder = Path(parts.pop(0)) if path.anchor else Path()
    while parts and (not glob.has_magic(parts[0]) or os.path.lexists(folder / parts[0])):
        folder = located(folder / parts.pop(0))
    if not folder.is_dir():
        raise ConfigurationError(f"no such folder: {str(folder)!r}, in {str(path)!r} (working directory: {Path.cwd()})")
    if os.pardir in parts:
        raise ConfigurationError(f"{str(path)!r} goes up by '..' behind its first wildcard: write it without that")
    return folder, [part if recursive or part != "**" else "*" for part in parts]


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


class Walk:
    """A walk through a folder.

    Left out are hidden files and folders, what other programs keep beside images (`_clutter`), indexes, links to
    folders, pipes and the like. They are counted.

    Args:
        folder: Where to begin; as given, it stands in the names of reports.
        root: The folder that filenames are relative to; default: `folder`.
        pattern: Only files whose name or path below `folder` matches one of these.
        exclude: No files and folders whose name or path below `folder` matches one of these.
        glob: Only files whose path below `folder` is matched by these parts.
        recursive: Whether to go into folders.
        in_order: Whether to go in the order of names, holding one folder's names in memory.
        follow_symlinks: Whether to go into folders behind symbolic links, each once.
        skip: A folder to leave out: the index's own.

    Attributes:
        root: As it is stored: absolute.
        below_root: The POSIX path of `folder` below `root`, with a slash at its end; empty if they are the same.
        unread: Folders that could not be read, absolute.
        passed_over: What `candidates` has left out, by its kind.

    Raises:
        ConfigurationError: `root` is not above `folder`, or a pattern or the folder's path makes no sense.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        root: str | os.PathLike[str] | None = None,
        pattern: str | Iterable[str] | None = None,
        exclude: str | Iterable[str] | None = None,
        glob: list[str] | None = None,
        recursive: bool = True,
        in_order: bool = False,
        follow_symlinks: bool = False,
        skip: Path | None = None,
    ) -> None:
        self.folder = os.fspath(located(folder))
        self._absolute = os.path.normpath(Path(self.folder).absolute())
        chosen = root_above(Path(self._absolute), root)
        self.root = str(chosen)
        relative = Path(self._absolute).relative_to(chosen).as_posix()
        self.below_root = "" if relative == "." else f"{relative}/"
        self.unread: list[str] = []
        self.passed_over: Counter[str] = Counter()
        self._pattern = patterns(pattern, option="pattern")
        self._exclude = patterns(exclude, option="exclude")
        self._glob = None if glob is None else PathGlob(glob)
        self._asked = str(Path(self.folder, *(glob or ())))
        self._recursive = recursive
        self._in_order = in_order
        self._follow = follow_symlinks
        self._skip = None if skip is None else os.path.realpath(skip)

    def candidates(self) -> Source:
        """The files as candidates, and a failure for each folder that could not be read."""
        self.passed_over.clear()
        absolute = f"{self._absolute.rstrip(os.sep)}{os.sep}"
        for entry, below in self._entries(self.passed_over):
            path = f"{absolute}{below if os.sep == '/' else below.replace('/', os.sep)}"
            if isinstance(entry, OSError):
                self.unread.append(path)
                yield Failure(name=str(Path(self.folder, below)), stage="scan", reason=entry.strerror or str(entry))
                continue
            try:
                status = entry.stat()
                size_and_mtime = (status.st_size, status.st_mtime_ns)
            except OSError:
                size_and_mtime = None  # loading it will tell why
                self.unread.append(path)  # a link to a folder, perhaps
            yield Candidate(
                name=below if self.folder == "." else entry.path,
                path=path,
                filename=f"{self.below_root}{below}",
                root=self.root,
                size_and_mtime=size_and_mtime,
            )

    def count(self) -> Iterator[int]:
        """1 for each file that `candidates` would give; reads names only."""
        return (1 for entry, _ in self._entries(Counter()) if not isinstance(entry, OSError))

    def refuse_empty(self, advice: str = "") -> None:
        """See that there is a file that is wanted, or a folder that cannot be read.

        Raises:
            ConfigurationError: There is none.
        """
        passed_over: Counter[str] = Counter()
        if next(self._entries(passed_over), None) is None:
            wanted = "" if self._pattern is None else f" that matches {self._pattern}"
            said = f" (passed over: {counted(passed_over)})" if passed_over else ""
            holds = f"{printable(self._asked)} {'matches' if self._glob else 'holds'} no file{wanted}"
            folders = f"; it matches folders, whose files are {os.path.join(self._asked, '**')!r}"  # noqa: PTH118
            raise ConfigurationError(holds + (folders if passed_over["matching folder"] else "") + advice + said)

    def _entries(self, passed_over: Counter[str]) -> Iterator[tuple[os.DirEntry[str] | OSError, str]]:
        """The entries of files, and the errors of folders, with their POSIX paths below the folder."""
        start: Steps = frozenset() if self._glob is None else self._glob.start
        waiting = [(self.folder, "", start)]
        links: list[tuple[str, str, Steps]] = []  # after all others, so that a folder goes by its own name if walked
        seen: set[tuple[int, int]] = set()
        while waiting or links:
            here, prefix, steps = (waiting or links).pop()
            parent = prefix[:-1].rpartition("/")[2] if prefix else os.path.basename(self._absolute)  # noqa: PTH119 (many)
            below: list[tuple[str, str, Steps]] = []
            try:
                if self._follow and not self._is_new(here, seen):
                    continue
                with os.scandir(here) as entries:
                    for entry in self._listed(entries, parent, passed_over, is_top=not prefix):
                        path, is_folder = f"{prefix}{entry.name}", self._is_folder(entry)
                        is_link = not is_folder and entry.is_symlink() and _leads_to_folder(entry)
                        after = steps if self._glob is None else self._glob.after(steps, entry.name, linked=is_link)
                        # A glob may name a folder that is a link.
                        is_folder = is_folder or (is_link and self._glob is not None and self._glob.goes_on(after))
                        kind = self._kind_left_out(entry, path, parent, after, is_folder=is_folder, is_link=is_link)
                        if kind == "" and is_link and self._glob is not None:
                            would_go_on = self._glob.goes_on(self._glob.after(steps, entry.name))
                            kind = "linked folder" if would_go_on else ""
                        if kind is not None:
                            passed_over.update([kind] if kind else [])
                        elif not is_folder:
                            yield entry, path
                        elif self._skip is not None and os.path.realpath(entry.path) == self._skip:
                            continue
                        elif not is_unicode(entry.name):
                            yield OSError(errno.EILSEQ, "its name is not valid UTF-8: rename the folder"), path
                        else:
                            (links if entry.is_symlink() else below).append((entry.path, f"{path}/", after))
            except OSError as error:
                yield error, prefix
            if self._recursive:
                waiting.extend(reversed(below))

    def _listed(
        self, entries: Iterator[os.DirEntry[str]], folder: str, passed_over: Counter[str], *, is_top: bool
    ) -> Iterator[os.DirEntry[str]]:
        """What is in a folder; nothing if that is an index, or another program's storage."""
        head = list(itertools.islice(entries, HEAD))
        names = {entry.name for entry in head}
        marks = index_marks(names)
        if not is_top and is_marked(folder, names):
            passed_over["trash or thumbnail folder"] += 1
            return iter(())
        if marks and (not is_top or not marks.isdisjoint(("shard", "shard.new"))):
            passed_over["index folder"] += 1
            return iter(())
        if marks:  # a store in the indexed folder itself: only its own files are left out
            head = [entry for entry in head if entry.name not in marks]
        found = itertools.chain(head, entries)
        return iter(sorted(found, key=lambda entry: entry.name)) if self._in_order else found

    def _kind_left_out(
        self, entry: os.DirEntry[str], path: str, parent: str, after: Steps, *, is_folder: bool, is_link: bool
    ) -> str | None:
        """What an entry that is left out is, empty if that is no news; None if it is wanted."""
        name, what = entry.name, "folder" if is_folder or is_link else "file"
        if is_hidden(name) and not (self._glob is not None and after):  # a glob may name it, as in `.cache/*.jpg`
            return "" if name == HOME else f"hidden {what}"
        if is_clutter(parent, name, is_folder=what == "folder"):
            return "system file" if what == "file" else "trash or thumbnail folder"
        if self._exclude is not None and self._exclude.match(path):
            return f"excluded {what}"
        if is_folder and name.endswith(HOME):
            return "index folder"
        if self._glob is not None and not (self._glob.goes_on(after) if is_folder else self._glob.accepts(after)):
            return "matching folder" if self._glob.accepts(after) else ""
        if is_folder:
            return None
        if is_link:
            return "linked folder"
        if not self._is_match(path):
            return "unmatched file"
        try:
            # A link to nowhere is wanted, so that the report names it; pipes, sockets and the like are not.
            return None if entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists()) else "special file"
        except OSError:
            return None  # loading it will tell why

    def covers(self, filename: str) -> bool:
        """Whether a stored filename is one that this walk would come to, if there is such a file."""
        if not filename.startswith(self.below_root):
            return False
        below = filename[len(self.below_root) :]
        is_excluded = self._exclude is not None and self._exclude.match_any_folder(below)
        return (self._recursive or "/" not in below) and not is_excluded and self._is_match(below)

    def is_clutter(self, filename: str) -> bool:
        """Whether a stored filename, which this walk covers, is one of another program's that it would leave out."""
        return is_below_clutter(filename[len(self.below_root) :], parent=os.path.basename(self._absolute))  # noqa: PTH119

    def _is_match(self, below: str) -> bool:
        return self._pattern is None or self._pattern.match(below)

    def _is_folder(self, entry: os.DirEntry[str]) -> bool:
        try:
            return entry.is_dir(follow_symlinks=self._follow)
        except OSError:  # a link in a circle, or into a folder that may not be looked at
            return False

    @staticmethod
    def _is_new(folder: str, seen: set[tuple[int, int]]) -> bool:
        status = Path(folder).stat()
        member_name = (status.st_dev, status.st_ino)
        is_new = member_name not in seen
        seen.add(member_name)
        return is_new


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def root_above(folder: Path, root: str | os.PathLike[str] | None) -> Path:
    """The folder that filenames are relative to, checked to lie above what is indexed.

    Raises:
        ConfigurationError: It does not, or it cannot be stored.
    """
    folder = Path(os.path.normpath(folder.absolute()))
    chosen = folder if root is None else Path(os.path.normpath(located(checked_path(root, "root=")).absolute()))
    if not folder.is_relative_to(chosen):
        raise ConfigurationError(f"root={str(chosen)!r} must be a folder above {str(folder)!r}")
    return _storable(chosen)


def _storable(path: Path) -> Path:
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
    # A lexical normalisation: resolving symbolic links would name files that the user never mentioned.
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
