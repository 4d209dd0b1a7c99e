"""Walk through a folder or a glob, and count what is left out."""

from __future__ import annotations

import errno
import glob
import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from multimodal_search._files import checked_path, located
from multimodal_search._indexing.candidate import Candidate, Source
from multimodal_search._indexing.patterns import PathGlob, Steps, patterns
from multimodal_search._text import counted, is_unicode, printable
from multimodal_search.errors import ConfigurationError
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


class Walk:
    """A walk through a folder.

    Left out are hidden files and folders, what other programs keep beside images (`system_files`), indexes, links to
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
        """Check that there is a file that is wanted, or a folder that cannot be read.

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
        key = (status.st_dev, status.st_ino)
        is_new = key not in seen
        seen.add(key)
        return is_new


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def split_glob(path: Path, *, recursive: bool) -> tuple[Path, list[str]]:
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


def root_above(folder: Path, root: str | os.PathLike[str] | None) -> Path:
    """The folder that filenames are relative to, checked to lie above what is indexed.

    Raises:
        ConfigurationError: It does not, or it cannot be stored.
    """
    folder = Path(os.path.normpath(folder.absolute()))
    chosen = folder if root is None else Path(os.path.normpath(located(checked_path(root, "root=")).absolute()))
    if not folder.is_relative_to(chosen):
        raise ConfigurationError(f"root={str(chosen)!r} must be a folder above {str(folder)!r}")
    return storable(chosen)


def storable(path: Path) -> Path:
    """An absolute path under which something is to be stored.

    Raises:
        ConfigurationError: It cannot be stored; names that are not UTF-8 come from old disks.
    """
    if not is_unicode(str(path)):
        raise ConfigurationError(
            f"{printable(str(path))}: the path is not valid UTF-8, as paths in a store must be: rename the folder"
        )
    return path
