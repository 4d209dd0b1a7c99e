"""The folder of an in-process index: its lock, its schema, and the engine's open shard.

    photos.index/
        schema.json         which embedder's vectors it holds; written last, so a folder that has one is complete
        lock, lock.json     held while a process has it open; who that is
        shard/              the engine's files
        files.json          which files those are, their sizes and checksums
        checks              the checksums of all points
        notes/              what the index must remember beside its points, one file each
        optimize.lock, ...  held by the child process that rebuilds the shard

Two processes must never open a shard at once: the engine refuses the second and damages the first. Nor may a forked
child touch, or even destruct, the shard that it inherits: that overwrites newer files. Hence the care below.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from multimodal_search._files import atomic_write
from multimodal_search.errors import MultimodalSearchError, StoreClosedError, StoreError, StoreLockedError
from multimodal_search.filters.nodes import FieldPath
from multimodal_search.stores.qdrant_edge.checksums import (
    CHECKS,
    PointChecks,
    file_entry,
    payload_bytes,
    point_entry,
    vector_of,
)
from multimodal_search.stores.qdrant_edge.engine import (
    create_shard,
    engine,
    flush_and_close,
    index_parameters,
)
from multimodal_search.stores.qdrant_edge.errors import raise_translated, translated
from multimodal_search.stores.qdrant_edge.inventory import CONFIG, INVENTORY, Inventory
from multimodal_search.stores.qdrant_edge.optimize import optimize_in_child
from multimodal_search.stores.qdrant_edge.place import Place, check_unheld, close_descriptors
from multimodal_search.stores.qdrant_edge.plausible import dangerous
from multimodal_search.stores.qdrant_edge.process_lock import ProcessLock
from multimodal_search.stores.qdrant_shared.payload_indexes import (
    INDEX_PAYLOAD_FROM,
    IndexKind,
    PayloadIndexes,
    own_path,
)
from multimodal_search.stores.ranking import point_id
from multimodal_search.types import StoreSchema

if TYPE_CHECKING:
    from qdrant_edge import EdgeShard
    from qdrant_edge import Filter as EdgeFilter

Result = TypeVar("Result")

INDEX_FROM = 10_000
"""Points without search structures from which on building them pays; fewer are searched exactly in under 1 ms."""

FLUSH_EVERY = 10_000
"""Points written between flushes: at most so many are read again from the write-ahead log after a crash."""

FLUSH_EVERY_BYTES = 64 * 2**20
"""Bytes written between flushes, whichever comes first."""

SPARE_BYTES = 64 * 2**20
"""Free space that is left beside what a write takes: the engine writes through mapped memory, and where the disk has no
room for that, the operating system ends the process on the spot."""

_TIMES_WRITTEN = 4
"""How much space a write takes at most for each of its bytes: in the log, where numbers take 5 bytes instead of 4, in
the storage, and in payload indexes."""

_ENTRY_BYTES = 24
_READ = 1_000

ONE_PROCESS = (
    "Only one process at a time can have an in-process index open: close it there, or use a Qdrant server "
    "(QdrantStore) for several processes"
)
"""What to do about a folder that another process holds, for those who write programs."""

RESTORE = "Restore the folder from a copy, or delete {path} and index again"
"""What to do about an index whose files are damaged."""

_OURS = {"schema.json", "schema.json.new", "shard", "shard.new", "notes", CHECKS, INVENTORY}
_OURS |= {f"ledger.sqlite{end}" for end in ("", "-journal", "-wal", "-shm")}
_OURS |= {f"{lock}{end}" for lock in ("lock", "optimize.lock") for end in ("", ".json", ".json.new")}
_OURS |= {".DS_Store", "Thumbs.db", "desktop.ini"}  # what file managers leave in folders that look empty


class EdgeFolder:
    """A folder that this process has open; made by `open_folder`, shared by all stores on it.

    Attributes:
        path: The folder, without links.
        schema: What it holds.
        users: How many stores share it.
        written: Points written or deleted since it was opened or optimized.
        indexes: The payload indexes.
        problems: What was missing when it was opened.
    """

    def __init__(self, path: Path, schema: StoreSchema) -> None:
        self.path = path
        self.users = 0
        self.written = 0
        self.indexes = PayloadIndexes()
        self.problems: tuple[str, ...] = ()
        self._shard: EdgeShard | None = None
        self._released = False
        self._lock = threading.RLock()  # held during every call of the engine, and while `optimize` has it closed
        self._pid = os.getpid()
        self._unflushed = self._unflushed_bytes = 0
        self._inventory: Inventory | None = None
        self._was_intact = True  # when it was opened, as far as a look at its small files tells
        self._checks: PointChecks | None = None
        self._process_lock = ProcessLock(path / "lock", extra="edge")
        if not self._acquire(self._process_lock):
            holder = self._process_lock.holder()
            raise StoreLockedError(f"{path} is held by {holder}. {ONE_PROCESS}", holder=holder)
        try:
            self.schema = self._load_or_create(schema)
            self._place = Place.of(path)
        except BaseException:
            self._shard = None
            if self._checks is not None:
                self._checks.close()
            self._process_lock.release()
            raise

    def run(self, call: Callable[[EdgeShard], Result]) -> Result:
        """Let `call` have the shard, for one short call that reads: the engine holds the interpreter's lock meanwhile.

        Args:
            call: Takes the shard; other threads wait until it returns.

        Raises:
            StoreClosedError: The last store on the folder was closed.
            StoreError: The engine failed.
        """
        with self._using() as shard:
            try:
                return call(shard)
            except BaseException as error:  # noqa: BLE001 (raised again)
                raise_translated(error, self.path)

    def write(
        self, call: Callable[[EdgeShard], Result], entries: bytes = b"", *, size: int = 0, flush: bool = False
    ) -> Result:
        """Let `call` have the shard, for one short call that writes; durable on return.

        Args:
            call: Takes the shard; other threads wait until it returns.
            entries: The log entries of what it writes.
            size: How many bytes that is.
            flush: Whether it makes files that are to be counted at once.

        Raises:
            StoreClosedError: The last store on the folder was closed.
            StoreError: The engine failed, the disk is full, or the folder is no longer the one that was opened.
        """
        with self._using() as shard:
            self._place.check()
            self._check_space(SPARE_BYTES + _TIMES_WRITTEN * size)
            points = len(entries) // _ENTRY_BYTES
            try:
                self.checks.begin(entries)
                result = call(shard)
                self.checks.confirm(points, shard.info().points_count)
                self.written += points
                self._unflushed += points
                self._unflushed_bytes += size
                if flush or self._unflushed >= FLUSH_EVERY or self._unflushed_bytes >= FLUSH_EVERY_BYTES:
                    self._flush(shard)
            except BaseException as error:  # noqa: BLE001 (raised again)
                raise_translated(error, self.path)
            self._place.check()
            return result

    @contextmanager
    def _using(self) -> Iterator[EdgeShard]:
        self._check_process()
        with self._lock:
            if self._released:
                raise closed(self.path)
            yield self._shard or self._load()

    def _flush(self, shard: EdgeShard) -> None:
        shard.flush()
        self._unflushed = self._unflushed_bytes = 0
        self._inventory = Inventory.of_sizes(self.path, self._inventory)
        self._inventory.write(self.path)

    def _check_process(self) -> None:
        """Refuse to work in a forked child.

        Raises:
            StoreError: This is not the process that opened the folder.
        """
        if os.getpid() != self._pid:
            raise StoreError(
                f"{self.path} was opened by process {self._pid}; this is {os.getpid()}, forked from it, and the two "
                "cannot share it: use it in the parent alone, or use a Qdrant server (QdrantStore)"
            )

    def optimize(self, on_tick: Callable[[], None] | None = None) -> bool:
        """Rebuild the shard in a child process, for here the engine would stop every thread until it is done.

        Returns:
            Whether anything was rebuilt.
        """
        with self._using() as shard:
            self._place.check()
            self._check_space(SPARE_BYTES + 2 * size_of(self.path / "shard" / "segments"))  # which are written anew
            with translated(self.path):
                flush_and_close(shard)
                self._shard, self._unflushed, self._unflushed_bytes = None, 0, 0
                # If this process dies before the new files are counted, the old ones must not be missed.
                Inventory().write(self.path)
            try:
                rebuilt = optimize_in_child(self.path, on_tick or (lambda: None))
            finally:
                self._place.check()
                loaded = self._load()
                with translated(self.path):
                    loaded.flush()  # what loading repeated of the engine's log
                self._count_files(anew=True)
            self.written = 0
            return rebuilt

    def index_payload(self, at: FieldPath, kind: IndexKind, holds: EdgeFilter) -> None:
        """Make a payload index, if the points are many, some pass `holds`, and the field has none yet.

        At 118,000 points it takes 0.3 s, and 0.1 to find that nothing passes.
        """
        path = at.json_path
        with self._lock:
            if path in self.indexes.kinds or self.run(lambda shard: shard.info().points_count) < INDEX_PAYLOAD_FROM:
                return
            self.indexes.tried(at, kind)
            first = engine().ScrollRequest(limit=1, filter=holds, with_payload=False)
            needed = SPARE_BYTES + _TIMES_WRITTEN * self.payload_bytes()
            if not self.run(lambda shard: shard.scroll(first))[0] or shutil.disk_usage(self.path).free < needed:
                return
            made = engine().UpdateOperation.create_field_index(path, index_parameters(kind))
            self.write(lambda shard: shard.update(made), flush=True)
            self.indexes.kinds[path] = kind

    def change(self) -> str | None:
        """What has happened to the folder since it was opened, in words; None if nothing has."""
        return self._place.change()

    def payload_bytes(self) -> int:
        """What the payloads take on the disk: more than any index on one of their fields does."""
        return sum(size_of(path) for path in (self.path / "shard" / "segments").glob("*/payload_storage"))

    @property
    def checks(self) -> PointChecks:
        """The log of checksums; to be used within `run`."""
        if self._checks is None:
            raise closed(self.path)
        return self._checks

    @property
    def inventory(self) -> Inventory | None:
        """The files that there were when it was last closed; to be used within `run`."""
        return self._inventory

    def release(self) -> None:
        """One user less; the last one closes the shard and lets other processes in.

        Raises:
            StoreError: What was written last cannot be brought to the disk, or the folder is no longer the one that
                was opened.
        """
        if os.getpid() != self._pid:
            return  # it is the parent's, who may still use it
        with self._lock, _registry_lock:
            self.users -= 1
            if self.users > 0 or self._released:
                return
            self._released = True
            del _open_folders[self.path]
            try:
                self._close()
            finally:
                self._shard = None
                self.checks.close()
                self._process_lock.release()

    def _close(self) -> None:
        if self._shard is None:
            return
        change = self._place.change()
        if change is not None:
            self._abandon(self._shard)  # which would write to paths that are another index's now
            if self.written:
                raise StoreError(
                    f"{self.path} was {change} while this process had it open: what it wrote, {self.written:,} points "
                    "written or deleted, is in the folder that it opened, wherever that is now"
                )
            return
        if self._unflushed and shutil.disk_usage(self.path).free < SPARE_BYTES // 8:
            self._abandon(self._shard)  # without room, flushing ends the process; the engine's log has everything
            return
        with translated(self.path):
            flush_and_close(self._shard)
        self._count_files()

    def _abandon(self, shard: EdgeShard) -> None:
        """Keep a shard from ever being destructed, which would have it write to its files, and take its locks."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(shard))
        close_descriptors(self.path)

    def _count_files(self, *, anew: bool = False) -> None:
        """Keep what files there are now, unless they are the same; without that, less is noticed, and that is all."""
        with suppress(OSError):
            self.checks.compact()
            before, length = self._inventory, self.checks.length
            if before is not None and before.log_length == length and not anew:  # nothing was written
                # What had been changed already when it was opened is damage, and must not be kept.
                is_changed_by_engine = self._was_intact and not before.still_holds(self.path)
                if not is_changed_by_engine:
                    return
            self._inventory = Inventory.of(self.path, before, log_length=length)
            self._inventory.write(self.path)

    def _acquire(self, lock: ProcessLock) -> bool:
        try:
            return lock.acquire()
        except (OSError, NotImplementedError) as error:
            raise StoreError(
                f"{self.path} cannot be locked ({error}): an index needs a folder that it can write to"
            ) from error

    def _check_space(self, needed: int) -> None:
        try:
            free = shutil.disk_usage(self.path).free
        except OSError as error:
            raise StoreError(f"{self.path} cannot be written to ({error}): is its disk still there?") from error
        if free < needed:
            raise StoreError(
                f"the disk that holds {self.path} is full: {free / 2**20:,.0f} MB are free, and this needs "
                f"{needed / 2**20:,.0f}. What was stored is safe; free some space and try again"
            )

    def _load_or_create(self, wanted: StoreSchema) -> StoreSchema:
        stored = read_schema(self.path)
        if stored is not None:
            self._open_checked()
            return stored
        self._discard_unfinished()
        self._check_space(SPARE_BYTES)
        with translated(self.path):
            create_shard(self.path / "shard.new", wanted.dimension, index_from=INDEX_FROM)
            (self.path / "shard.new").rename(self.path / "shard")
            (self.path / CHECKS).unlink(missing_ok=True)
            (self.path / INVENTORY).unlink(missing_ok=True)
            self._checks = PointChecks(self.path)
        self._load()
        text = json.dumps(wanted.to_dict(), indent=2)
        with translated(self.path):
            self.checks.begin(file_entry("schema.json", text.encode()))
            write_durably(self.path / "schema.json", text)
            self.checks.confirm(1, 0)
            self._inventory = Inventory.of_sizes(self.path, None)
            self._inventory.write(self.path)
        return wanted

    def _open_checked(self) -> None:
        """Open a folder that is complete, and notice what is missing."""
        try:
            self._checks = PointChecks(self.path)
        except OSError as error:
            raise StoreError(
                f"{self.path / CHECKS} cannot be read ({error}): {RESTORE.format(path=self.path)}"
            ) from error
        try:
            self._inventory = Inventory.read(self.path)
        except (OSError, ValueError) as error:
            self._found_wrong(
                f"{self.path / INVENTORY} cannot be read ({error}), so that missing files are not noticed"
            )
        with translated(self.path):
            wrong = dangerous(self.path)
            if self._inventory is not None:
                wrong += self._inventory.missing(self.path, log_length=self.checks.length)
        if wrong:
            some = ", ".join(wrong[:3]) + (", ..." if len(wrong) > 3 else "")
            raise StoreError(f"files of {self.path} are damaged: {some}. {RESTORE.format(path=self.path)}")
        if self._inventory is not None and self._inventory.log_length == self.checks.length:
            with translated(self.path):
                self._was_intact = self._inventory.still_holds(self.path)
        else:
            self._check_space(SPARE_BYTES)  # the engine may be about to repeat what a process that died wrote last
        self._check_settings(read_schema(self.path))
        shard = self._load()
        with translated(self.path):
            points = shard.info().points_count
            if self.checks.is_new:
                self._make_checks(shard)
        if points < self.checks.points:
            self._found_wrong(
                f"{self.path} has lost {self.checks.points - points:,} of {self.checks.points:,} points: its files "
                "are damaged. Restore them from a copy, or run verify to see which are lost, and index those again"
            )

    def _check_settings(self, schema: StoreSchema | None) -> None:
        """See that the engine's settings are ours: it takes others as they are, such as to keep no log."""
        path = self.path / CONFIG
        try:
            settings = json.loads(path.read_bytes())
            vectors = settings["vectors"][""]
            found = (vectors["size"], vectors["distance"], settings["wal_enabled"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreError(f"{path} cannot be read ({error!r}). {RESTORE.format(path=self.path)}") from error
        if schema is not None and found != (schema.dimension, "Cosine", True):
            raise StoreError(f"{path} is damaged: it says {found}. {RESTORE.format(path=self.path)}")

    def _found_wrong(self, problem: str) -> None:
        self.problems += (problem,)
        warnings.warn(problem, RuntimeWarning, stacklevel=7)

    def _make_checks(self, shard: EdgeShard) -> None:
        """Make the log of checksums of what is there, for a folder that has none: 118,000 points take 2 s."""
        edge, position, more = engine(), None, True
        entries = [file_entry("schema.json", (self.path / "schema.json").read_bytes())]
        if (self.path / "notes").is_dir():
            entries += [file_entry(f"notes/{note.name}", note.read_bytes()) for note in (self.path / "notes").iterdir()]
        points = 0
        while more:
            request = edge.ScrollRequest(offset=position, limit=_READ, with_payload=True, with_vector=True)
            found, position = shard.scroll(request)
            more = position is not None
            points += len(found)
            for point in found:
                row = vector_of(point)
                if row is not None:
                    entries.append(point_entry(point_id(point), row, payload_bytes(point.payload or {}) or b""))
        self.checks.replace(entries, (), points)

    def _discard_unfinished(self) -> None:
        """Remove what a process that died while creating the folder left; it holds no points yet."""
        shutil.rmtree(self.path / "shard.new", ignore_errors=True)
        shutil.rmtree(self.path / "notes", ignore_errors=True)
        if not (self.path / "shard").exists():
            return
        self._load()
        points = self.run(lambda shard: shard.info().points_count)
        self.run(flush_and_close)
        self._shard = None
        if points:
            raise StoreError(
                f"{self.path} holds {points} points but has lost its schema.json, which says of which embedder they "
                "are: restore that file, or delete the folder and index again"
            )
        with translated(self.path):
            shutil.rmtree(self.path / "shard")

    def _load(self) -> EdgeShard:
        rebuilding = ProcessLock(self.path / "optimize.lock", extra="edge")
        if not self._acquire(rebuilding):
            raise StoreLockedError(
                f"{self.path} is being optimized by {rebuilding.holder()}, which outlived the process that started it: "
                "it ends by itself, so try again in some minutes, or end it; no data is lost either way"
            )
        try:
            # What an optimization that was killed had written so far; nothing refers to it.
            shutil.rmtree(self.path / "shard" / "temp_segments", ignore_errors=True)
            check_unheld(self.path)
            with translated(self.path, loading=True):
                shard: EdgeShard = engine().EdgeShard.load(str(self.path / "shard"))
                schema = shard.info().payload_schema
        finally:
            rebuilding.release()
        self._shard = shard
        kinds = {own_path(path): str(index.data_type) for path, index in schema.items()}
        self.indexes.kinds = {path: kind.rpartition(".")[2].lower() for path, kind in kinds.items()}
        return shard


def open_folder(path: Path, schema: StoreSchema) -> EdgeFolder:
    """The folder, opened or created; to be given back with `release`.

    Raises:
        StoreLockedError: Another process has it open.
        StoreError: It holds something else, or is damaged.
    """
    engine()
    with _registry_lock:
        folder = _open_folders.get(path.resolve())
        if folder is None:
            _check_ours(path)
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(f"the folder {path} cannot be made: {error}") from error
            folder = EdgeFolder(path.resolve(), schema)
            _open_folders[folder.path] = folder
        elif (change := folder.change()) is not None:
            raise StoreError(f"{path} was {change} while this process had it open: close the stores on it first")
        folder.users += 1
        return folder


def stored_schema(path: Path) -> StoreSchema | None:
    """What a folder holds; None where there is none, or no index in it.

    Raises:
        StoreError: It holds something else, or is damaged.
    """
    _check_ours(path)
    return read_schema(path)


def read_schema(path: Path) -> StoreSchema | None:
    """What `schema.json` says; None if there is none.

    Raises:
        StoreError: It is damaged.
    """
    try:
        return StoreSchema.from_dict(json.loads((path / "schema.json").read_text("utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, TypeError) as error:  # ConfigurationError is a ValueError
        raise StoreError(
            f"{path / 'schema.json'} cannot be read ({error}): restore it, or delete {path} and index again"
        ) from error


def closed(path: Path) -> StoreClosedError:
    """What every call after `close` raises."""
    return StoreClosedError(f"the QdrantEdgeStore on {path} is closed: open it again with a new one")


def _check_ours(path: Path) -> None:
    try:
        names = {entry.name for entry in path.iterdir()}
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"{path} is no folder that can be read ({error}): an index needs one of its own") from error
    names = {name for name in names if not name.endswith(".part")}  # of a process that died while it wrote a file
    if "schema.json" in names:
        return
    for inner in (path / "index", path / ".multimodal-search" / "index"):
        if (inner / "schema.json").is_file():
            raise StoreError(f"{path} is no index itself, its index is {inner}: open that")
    if foreign := sorted(names - _OURS):
        raise StoreError(
            f"{path} is no index of this library and holds other files ({', '.join(foreign[:3])}): "
            "give the index a folder of its own, one that is empty or does not exist"
        )


def size_of(path: Path) -> int:
    """What the files below a folder take on the disk: sparse ones take less than they are long."""
    size = 0
    for parent, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):  # gone meanwhile
                state = Path(parent, name).stat()
                size += getattr(state, "st_blocks", -(-state.st_size // 512)) * 512
    return size


def write_durably(path: Path, text: str) -> None:
    """Write a file, in a folder that is made if need be, so that after a crash it holds the old text or the new one."""
    path.parent.mkdir(exist_ok=True)
    with atomic_write(path) as file:
        file.write(text.encode())


_registry_lock = threading.RLock()
_open_folders: dict[Path, EdgeFolder] = {}


@atexit.register
def _close_all() -> None:
    for folder in list(_open_folders.values()):
        folder.users = 1
        with suppress(MultimodalSearchError):
            folder.release()


def _after_fork() -> None:
    """In a forked child: forget the parent's folders, and see that they are never destructed here."""
    global _registry_lock  # noqa: PLW0603 (a thread that the child does not have may hold the parent's)
    _registry_lock = threading.RLock()
    for folder in _open_folders.values():
        close_descriptors(folder.path)
        # One reference that nobody gives back: destructed, the shard would overwrite the parent's newer files, and
        # the lock would be released for the parent, too.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(folder))
    _open_folders.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
