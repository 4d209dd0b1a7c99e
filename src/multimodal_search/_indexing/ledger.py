"""Cache of what is known of items that are not in the store: failures, files that are no images, and disks.

It is a cache in a SQLite file. Losing it costs reading the files again, nothing else: a damaged one is made anew, and
one that cannot be written is kept in memory.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from multimodal_search._files import cache_folder

Result = TypeVar("Result")

LEDGER = "ledger.sqlite"
"""The name of the file in an index's folder."""

_CHUNK = 400  # SQLite takes at least 999 variables in one statement
_TABLES = """
CREATE TABLE IF NOT EXISTS files (
    path BLOB NOT NULL PRIMARY KEY, state TEXT, rules TEXT, kind TEXT, stage TEXT, reason TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS contents (
    sha256 TEXT NOT NULL, rules TEXT NOT NULL, kind TEXT, stage TEXT, reason TEXT, PRIMARY KEY (sha256, rules)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS disks (path BLOB NOT NULL PRIMARY KEY) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why an item is not in the store.

    Attributes:
        kind: `"failed"`, or `"ignored"`, for a file that is no image.
        stage: Where a failed one failed.
        reason: Why it failed; of an ignored one what it is, such as `"video"`.
    """

    kind: Literal["failed", "ignored"]
    stage: str
    reason: str

    @property
    def is_ignored(self) -> bool:
        """Whether the file is no image."""
        return self.kind == "ignored"


@dataclass(frozen=True, slots=True)
class FileState:
    """A file as it was when it was looked at: absolute path, size in bytes, time of change in nanoseconds."""

    path: str
    size: int
    mtime_ns: int

    @property
    def text(self) -> str:
        """Size and time; a time after the year 2262 is no integer of SQLite's."""
        return f"{self.size} {self.mtime_ns}"


class Ledger:
    """Remembers verdicts on files, by path, size and time, and on contents, by SHA-256.

    A verdict holds for one set of rules: whatever it depends on beside the file, such as a decoder's version or an
    embedder's fingerprint. Under other rules it counts as unknown. May be called from several threads.

    Args:
        path: The SQLite file, made when there is something to remember; None keeps everything in memory.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known of any file; quickly told."""
        if self._connection is None and (self._path is None or not self._path.exists()):
            return True
        return not self._run(lambda connection: connection.execute("SELECT 1 FROM files LIMIT 1").fetchone())

    def of_files(self, files: Sequence[FileState], *, rules: str) -> list[Verdict | None]:
        """The verdict on each file, if there is one and it is as it was then."""
        found: dict[bytes, tuple[str, Verdict]] = {}

        def look_up(connection: sqlite3.Connection) -> None:
            for start in range(0, len(files), _CHUNK):
                paths = [os.fsencode(file.path) for file in files[start : start + _CHUNK]]
                select = "SELECT path, state, kind, stage, reason FROM files WHERE rules = ? AND path IN"
                rows = connection.execute(f"{select} ({','.join('?' * len(paths))})", (rules, *paths))
                found.update({path: (state, Verdict(*verdict)) for path, state, *verdict in rows})

        self._run(look_up)
        verdicts: list[Verdict | None] = []
        for file in files:
            state, verdict = found.get(os.fsencode(file.path), ("", None))
            verdicts.append(verdict if state == file.text else None)
        return verdicts

    def of_contents(self, hashes: Iterable[str], *, rules: str) -> dict[str, Verdict]:
        """The verdicts on contents, by their SHA-256; those without one are left out."""
        if self._connection is None and (self._path is None or not self._path.exists()):
            return {}  # nothing was ever remembered: no file need be made
        wanted = sorted(set(hashes))
        found: dict[str, Verdict] = {}

        def look_up(connection: sqlite3.Connection) -> None:
            for start in range(0, len(wanted), _CHUNK):
                chunk = wanted[start : start + _CHUNK]
                select = "SELECT sha256, kind, stage, reason FROM contents WHERE rules = ? AND sha256 IN"
                rows = connection.execute(f"{select} ({','.join('?' * len(chunk))})", (rules, *chunk))
                found.update({sha256: Verdict(*verdict) for sha256, *verdict in rows})

        self._run(look_up)
        return found

    def remember_files(self, verdicts: Iterable[tuple[FileState, Verdict]], *, rules: str) -> None:
        """Keep verdicts on files, in place of those before."""
        rows = [
            (os.fsencode(file.path), file.text, rules, verdict.kind, verdict.stage, _storable(verdict.reason))
            for file, verdict in verdicts
        ]
        self._write("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", rows)

    def remember_contents(self, verdicts: Iterable[tuple[str, Verdict]], *, rules: str) -> None:
        """Keep verdicts on contents, in place of those before."""
        rows = [(sha256, rules, verdict.kind, verdict.stage, _storable(verdict.reason)) for sha256, verdict in verdicts]
        self._write("INSERT OR REPLACE INTO contents VALUES (?, ?, ?, ?, ?)", rows)

    def forget_contents(self, hashes: Iterable[str]) -> None:
        """Drop what is known of contents, under all rules."""
        self._write("DELETE FROM contents WHERE sha256 = ?", [(sha256,) for sha256 in hashes])

    def disks(self) -> list[str]:
        """The mount points above indexed files."""
        if self._connection is None and (self._path is None or not self._path.exists()):
            return []
        rows = self._run(lambda connection: connection.execute("SELECT path FROM disks").fetchall())
        return [os.fsdecode(path) for (path,) in rows or ()]

    def remember_disks(self, paths: Iterable[str]) -> None:
        """Keep mount points."""
        self._write("INSERT OR IGNORE INTO disks VALUES (?)", [(os.fsencode(path),) for path in paths])

    def forget_disks(self, paths: Iterable[str]) -> None:
        """Drop mount points."""
        self._write("DELETE FROM disks WHERE path = ?", [(os.fsencode(path),) for path in paths])

    def close(self) -> None:
        """Close the file; the next call opens it again. What is kept in memory stays."""
        with self._lock:
            if self._path is not None:
                self._disconnect()

    def __del__(self) -> None:
        self._disconnect()  # from Python 3.13 on, a connection that nobody closes is a warning

    def _disconnect(self) -> None:
        if self._connection is not None and self._pid == os.getpid():
            with suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        def write(connection: sqlite3.Connection) -> None:
            with connection:
                connection.executemany(statement, rows)

        if rows:
            self._run(write)

    def _run(self, call: Callable[[sqlite3.Connection], Result]) -> Result | None:
        """Make a call; if the file is damaged, what it held is lost."""
        with self._lock:
            try:
                return call(self._open())
            except sqlite3.Error as error:
                self._disconnect()
                if _is_out_of_reach(error):
                    self._path = None
                elif not _is_busy(error):
                    self._discard()  # damaged, or of another version
            with suppress(sqlite3.Error):
                return call(self._open())
            return None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None or self._pid != os.getpid():  # a forked child may not use its parent's
            self._pid = os.getpid()
            if self._path is not None:
                with suppress(OSError):
                    self._path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                ":memory:" if self._path is None else self._path, timeout=5.0, check_same_thread=False
            )
            self._connection.execute("PRAGMA synchronous = OFF")  # survives kill -9, and a loss of power costs little
            self._connection.executescript(_TABLES)
        return self._connection

    def _discard(self) -> None:
        if self._path is not None:
            for end in ("", "-journal"):
                with suppress(OSError):
                    self._path.with_name(f"{self._path.name}{end}").unlink(missing_ok=True)


def ledger_path(folder: Path | None, name: str) -> Path | None:
    """Where the ledger of an index is: in its folder; for a store elsewhere, in the user's cache.

    Args:
        folder: The index's folder, if it is in one.
        name: What tells the store from others, such as its address and collection; hashed.

    Returns:
        None for a user without a home.
    """
    if folder is not None:
        return folder / LEDGER
    try:
        cache = cache_folder()
    except RuntimeError:  # a user without a home
        return None
    return cache / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.sqlite"


def _storable(text: str) -> str:
    """A text that may quote the name of a file, as SQLite takes it."""
    return text.encode("utf-8", "backslashreplace").decode()


def _is_out_of_reach(error: sqlite3.Error) -> bool:
    """Whether nothing is wrong with the file itself: a full disk, or a folder that cannot be written to."""
    words = ("unable to open", "readonly", "read-only", "full", "disk i/o")
    return isinstance(error, sqlite3.OperationalError) and any(each in str(error).lower() for each in words)


def _is_busy(error: sqlite3.Error) -> bool:
    return "locked" in str(error) or "busy" in str(error)
