"""The open folder of an in-process index: its lock, its schema, and the engine's shard.

    photos.index/
        schema.json         the schema, with the embedder's fingerprint; written last: a folder with one is complete
        lock, lock.json     held while a process has it open; which process
        shard/              the engine's files
        files.json          the inventory: their names, sizes and checksums
        checks              the log of checksums of all points
        notes/              index metadata, one file for each text
        optimize.lock, ...  held by the child process that rebuilds the shard

Two processes must never open a shard at once: the engine refuses the second and damages the first. Nor may a forked
child touch, or even destruct, the shard that it inherits: that overwrites newer files. Hence the care below.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from multimodal_search.errors import MultimodalSearchError, StoreClosedError, StoreError, StoreLockedError
from multimodal_search.filters.nodes import FieldPath
from multimodal_search.report import TuningReport
from multimodal_search.stores.keywords import KeywordFields
from multimodal_search.stores.qdrant_edge.checksums import PointChecks, points_in
from multimodal_search.stores.qdrant_edge.disk_space import SPARE_BYTES, TIMES_WRITTEN, check_space, size_of
from multimodal_search.stores.qdrant_edge.engine import (
    GRAPH,
    Graph,
    engine,
    flush_and_close,
    index_kinds,
    index_parameters,
)
from multimodal_search.stores.qdrant_edge.errors import raise_translated, reason_of, translated
from multimodal_search.stores.qdrant_edge.inventory import Inventory
from multimodal_search.stores.qdrant_edge.opening import Opening, acquire, check_ours, load_shard
from multimodal_search.stores.qdrant_edge.optimize import optimize_in_child
from multimodal_search.stores.qdrant_edge.place import close_descriptors
from multimodal_search.stores.qdrant_edge.process_lock import ProcessLock
from multimodal_search.stores.qdrant_shared.payload_indexes import INDEX_PAYLOAD_FROM, IndexKind, PayloadIndexes
from multimodal_search.types import StoreSchema

if TYPE_CHECKING:
    from qdrant_edge import EdgeShard
    from qdrant_edge import Filter as EdgeFilter

Result = TypeVar("Result")

FLUSH_EVERY = 10_000
"""Points written between flushes: at most so many are read again from the write-ahead log after a crash."""

FLUSH_EVERY_BYTES = 64 * 2**20
"""Bytes written between flushes, whichever comes first."""

_ENTRY_BYTES = 24


class EdgeFolder:
    """A folder that this process has open; made by `open_folder`, shared by all stores on it.

    Attributes:
        path: The folder, without links.
        schema: The stored schema.
        users: How many stores share it.
        written: Points written or deleted since it was opened or optimized.
        indexes: The payload indexes.
        keywords: Which fields make up the words of its points; None until it is read.
        problems: What was missing when it was opened.
        tuning: The recall that searches reach, and with how many candidates; None if that was never measured.
    """

    def __init__(self, path: Path, schema: StoreSchema) -> None:
        self.path = path
        self.users = 0
        self.written = 0
        self.indexes = PayloadIndexes()
        self.keywords: KeywordFields | None = None
        self.tuning: TuningReport | None = None
        self._released = False
        self._lock = threading.RLock()  # held during every call of the engine, and while `optimize` has it closed
        self._pid = os.getpid()
        self._unflushed = self._unflushed_bytes = 0
        self._process_lock = ProcessLock(path / "lock", extra="edge")
        if not acquire(self._process_lock, path):
            holder = self._process_lock.holder()
            raise StoreLockedError(
                f"{path} is held by {holder}. Only one process at a time can have an in-process index open: close it "
                "there, or use a Qdrant server (QdrantStore) for several processes",
                holder=holder,
            )
        try:
            opening = Opening(path, schema)
        except BaseException:
            self._process_lock.release()
            raise
        self.schema = opening.schema
        self._place = opening.place
        self.problems = opening.problems
        self.indexes.kinds = opening.index_kinds
        self._shard: EdgeShard | None = opening.shard
        self._checks = opening.checks
        self._inventory = opening.inventory
        self._was_intact = opening.was_intact

    def run(self, call: Callable[[EdgeShard], Result]) -> Result:
        """Run one short call that reads the shard; the engine holds the interpreter's lock meanwhile.

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
        """Run one short call that writes to the shard; durable on return.

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
            check_space(self.path, TIMES_WRITTEN * size)
            points = len(entries) // _ENTRY_BYTES
            try:
                self.checks.begin(entries)
                result = call(shard)
                self.checks.confirm(points, shard.info().points_count)
                self.written += points_in(entries)
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

    def _load(self) -> EdgeShard:
        shard = load_shard(self.path)
        with translated(self.path, loading=True):
            self.indexes.kinds = index_kinds(shard)
        self._shard = shard
        return shard

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

    def optimize(self, on_tick: Callable[[], None] | None = None, graph: Graph = GRAPH) -> bool:
        """Rebuild the shard in a child process: in this one, the engine would stop every thread until it is done.

        Args:
            on_tick: Called several times a second until it is done.
            graph: The graph to build.

        Returns:
            Whether anything was rebuilt.
        """
        with self._using() as shard:
            self._place.check()
            check_space(self.path, 2 * size_of(self.path / "shard" / "segments"))  # which are written anew
            with translated(self.path):
                flush_and_close(shard)
                self._shard, self._unflushed, self._unflushed_bytes = None, 0, 0
                # If this process dies before the new files are counted, the old ones must not be missed.
                Inventory().write(self.path)
            try:
                rebuilt = optimize_in_child(
                    self.path, on_tick or (lambda: None), graph, dimension=self.schema.dimension
                )
            finally:
                self._place.check()
                loaded = self._load()
                with translated(self.path):
                    loaded.flush()  # what loading repeated of the engine's log
                self._count_files(anew=True)
            self.written = 0
            return rebuilt

    def index_payload(self, at: FieldPath, kind: IndexKind, holds: EdgeFilter) -> None:
        """Create a payload index, if there are many points, some pass `holds`, and the field has no index yet.

        At 118,000 points it takes 0.3 s, and 0.1 to find that nothing passes.
        """
        path = at.json_path
        with self._lock:
            if path in self.indexes.kinds or self.run(lambda shard: shard.info().points_count) < INDEX_PAYLOAD_FROM:
                return
            self.indexes.tried(at, kind)
            first = engine().ScrollRequest(limit=1, filter=holds, with_payload=False)
            needed = SPARE_BYTES + TIMES_WRITTEN * self.payload_bytes()
            if not self.run(lambda shard: shard.scroll(first))[0] or shutil.disk_usage(self.path).free < needed:
                return
            made = engine().UpdateOperation.create_field_index(path, index_parameters(kind))
            self.write(lambda shard: shard.update(made), flush=True)
            self.indexes.kinds[path] = kind

    def change(self) -> str | None:
        """What happened to the folder since it was opened, for messages; None if nothing."""
        return self._place.change()

    def payload_bytes(self) -> int:
        """The disk usage of the payloads: more than any index on one of their fields takes."""
        return sum(size_of(path) for path in (self.path / "shard" / "segments").glob("*/payload_storage"))

    @property
    def checks(self) -> PointChecks:
        """The log of checksums; to be used within `run`."""
        return self._checks

    @property
    def inventory(self) -> Inventory | None:
        """The files that there were when it was last closed; to be used within `run`."""
        return self._inventory

    def release(self) -> None:
        """Release one user; the last one closes the shard and frees the lock.

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
        """Keep a shard from being destructed, which would write to its files, and close its descriptors."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(shard))
        close_descriptors(self.path)

    def _count_files(self, *, anew: bool = False) -> None:
        """Write the inventory, unless the files are the same; if that fails, less damage is noticed later."""
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


def open_folder(path: Path, schema: StoreSchema) -> EdgeFolder:
    """Open or create a folder; release it with `release`.

    Raises:
        StoreLockedError: Another process has it open.
        StoreError: It holds something else, or is damaged.
    """
    engine()
    with _registry_lock:
        folder = _open_folders.get(path.resolve())
        if folder is None:
            check_ours(path)
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(f"the folder {path} cannot be made ({reason_of(error)})") from error
            folder = EdgeFolder(path.resolve(), schema)
            _open_folders[folder.path] = folder
        elif (change := folder.change()) is not None:
            raise StoreError(f"{path} was {change} while this process had it open: close the stores on it first")
        folder.users += 1
        return folder


def closed(path: Path) -> StoreClosedError:
    """The error of every call after `close`."""
    return StoreClosedError(f"the QdrantEdgeStore on {path} is closed: open it again with a new one")


_registry_lock = threading.RLock()
_open_folders: dict[Path, EdgeFolder] = {}


@atexit.register
def _close_all() -> None:
    for folder in list(_open_folders.values()):
        folder.users = 1
        with suppress(MultimodalSearchError):
            folder.release()


def _after_fork() -> None:
    """In a forked child: forget the parent's folders, and keep them from being destructed."""
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
