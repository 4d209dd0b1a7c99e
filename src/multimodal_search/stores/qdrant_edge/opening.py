"""Open or create the folder of an in-process index: its schema, its shard, and a check of its files."""

from __future__ import annotations

import json
import shutil
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from multimodal_search._files import atomic_write
from multimodal_search.errors import StoreError, StoreLockedError
from multimodal_search.stores.qdrant_edge.checksums import (
    CHECKS,
    PointChecks,
    file_entry,
    payload_bytes,
    point_entry,
    vector_of,
)
from multimodal_search.stores.qdrant_edge.disk_space import check_space
from multimodal_search.stores.qdrant_edge.engine import (
    create_shard,
    engine,
    flush_and_close,
    index_kinds,
    without_words,
)
from multimodal_search.stores.qdrant_edge.errors import reason_of, translated
from multimodal_search.stores.qdrant_edge.inventory import CONFIG, INVENTORY, Inventory
from multimodal_search.stores.qdrant_edge.place import Place, check_unheld
from multimodal_search.stores.qdrant_edge.plausible import dangerous
from multimodal_search.stores.qdrant_edge.process_lock import ProcessLock
from multimodal_search.stores.qdrant_shared.reading import CHUNK
from multimodal_search.stores.ranking import point_id
from multimodal_search.types import StoreSchema

if TYPE_CHECKING:
    from qdrant_edge import EdgeShard

RESTORE = "Restore the folder from a copy, or delete {path} and index again"
"""The advice for an index whose files are damaged."""

_OURS = {"schema.json", "schema.json.new", "shard", "shard.new", "notes", "socket.json", CHECKS, INVENTORY}
_OURS |= {f"ledger.sqlite{end}" for end in ("", "-journal", "-wal", "-shm")}
_OURS |= {f"{lock}{end}" for lock in ("lock", "optimize.lock") for end in ("", ".json", ".json.new")}
_OURS |= {".DS_Store", "Thumbs.db", "desktop.ini"}  # what file managers leave in folders that look empty


class Opening:
    """A folder as it was found when it was opened, or made when it was created.

    Args:
        path: The folder; its lock is held.
        wanted: The schema to create it with, if it holds no index yet.

    Attributes:
        schema: The schema of its points.
        shard: The engine's shard, loaded.
        index_kinds: The kinds of its payload indexes, by path.
        place: Its identity.
        checks: The log of checksums.
        inventory: The files that it had when it was last closed.
        was_intact: Whether its small files were as they had been left.
        problems: What is missing.

    Raises:
        StoreLockedError: Its shard is being optimized, or another process has its files open.
        StoreError: It is damaged, or the disk is full.
    """

    def __init__(self, path: Path, wanted: StoreSchema) -> None:
        self.path = path
        self.inventory: Inventory | None = None
        self.was_intact = True  # as far as a look at its small files tells
        self.problems: tuple[str, ...] = ()
        self.checks: PointChecks
        self.shard: EdgeShard
        try:
            self.schema = self._load_or_create(wanted)
            with translated(path, loading=True):
                self.index_kinds = index_kinds(self.shard)
            self.place = Place.of(path)
        except BaseException:
            if hasattr(self, "checks"):
                self.checks.close()
            if hasattr(self, "shard"):
                # While the lock is held: later, its end would write to files that another process may have open.
                with suppress(Exception):
                    self.shard.close()
            raise

    def _load_or_create(self, wanted: StoreSchema) -> StoreSchema:
        stored = read_schema(self.path)
        if stored is not None:
            self._open_checked()
            return stored
        self._discard_unfinished()
        check_space(self.path)
        with translated(self.path):
            create_shard(self.path / "shard.new", wanted.dimension)
            (self.path / "shard.new").rename(self.path / "shard")
            (self.path / CHECKS).unlink(missing_ok=True)
            (self.path / INVENTORY).unlink(missing_ok=True)
            self.checks = PointChecks(self.path)
        self.shard = load_shard(self.path)
        text = json.dumps(wanted.to_dict(), indent=2).encode()
        with translated(self.path):
            self.checks.begin(file_entry("schema.json", text))
            with atomic_write(self.path / "schema.json") as file:
                file.write(text)
            self.checks.confirm(1, 0)
            self.inventory = Inventory.of_sizes(self.path, None)
            self.inventory.write(self.path)
        return wanted

    def _open_checked(self) -> None:
        """Open a complete folder, and notice what is missing of it."""
        try:
            self.checks = PointChecks(self.path)
        except OSError as error:
            raise StoreError(
                f"{self.path / CHECKS} cannot be read ({reason_of(error)}): {RESTORE.format(path=self.path)}"
            ) from error
        try:
            self.inventory = Inventory.read(self.path)
        except (OSError, ValueError) as error:
            self._found_wrong(
                f"{self.path / INVENTORY} cannot be read ({reason_of(error)}), so that missing files are not noticed"
            )
        with translated(self.path):
            wrong = dangerous(self.path)
            if self.inventory is not None:
                wrong += self.inventory.missing(self.path, log_length=self.checks.length)
        if wrong:
            some = ", ".join(wrong[:3]) + (", ..." if len(wrong) > 3 else "")
            raise StoreError(f"files of {self.path} are damaged: {some}. {RESTORE.format(path=self.path)}")
        if self.inventory is not None and self.inventory.log_length == self.checks.length:
            with translated(self.path):
                self.was_intact = self.inventory.still_holds(self.path)
        else:
            check_space(self.path)  # the engine may be about to repeat what a process that died wrote last
        self._check_settings(read_schema(self.path))
        self.shard = load_shard(self.path)
        with translated(self.path):
            points = self.shard.info().points_count
            if self.checks.is_new:
                self._make_checks()
        if points < self.checks.points:
            self._found_wrong(
                f"{self.path} has lost {self.checks.points - points:,} of {self.checks.points:,} points: its files "
                "are damaged. Restore them from a copy, or run verify to see which are lost, and index those again"
            )

    def _check_settings(self, schema: StoreSchema | None) -> None:
        """Check the engine's settings, as it obeys damaged ones, such as to write no log."""
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
        warnings.warn(problem, RuntimeWarning, stacklevel=8)

    def _make_checks(self) -> None:
        """Create the log of checksums for a folder that has none: 118,000 points take 2 s."""
        edge, position, more = engine(), None, True
        entries = [file_entry("schema.json", (self.path / "schema.json").read_bytes())]
        if (self.path / "notes").is_dir():
            entries += [file_entry(f"notes/{note.name}", note.read_bytes()) for note in (self.path / "notes").iterdir()]
        points = 0
        while more:
            request = edge.ScrollRequest(offset=position, limit=CHUNK, with_payload=without_words(), with_vector=True)
            found, position = self.shard.scroll(request)
            more = position is not None
            points += len(found)
            for point in found:
                row = vector_of(point)
                if row is not None:
                    entries.append(point_entry(point_id(point), row, payload_bytes(point.payload or {}) or b""))
        self.checks.replace(entries, (), points)

    def _discard_unfinished(self) -> None:
        """Remove the remains of a process that died while it created the folder; they hold no points yet."""
        shutil.rmtree(self.path / "shard.new", ignore_errors=True)
        shutil.rmtree(self.path / "notes", ignore_errors=True)
        if not (self.path / "shard").exists():
            return
        shard = load_shard(self.path)
        with translated(self.path):
            points = shard.info().points_count
            flush_and_close(shard)
        if points:
            raise StoreError(
                f"{self.path} holds {points} points but has lost its schema.json, which names their embedder: "
                "restore that file, or delete the folder and index again"
            )
        with translated(self.path):
            shutil.rmtree(self.path / "shard")


def load_shard(path: Path) -> EdgeShard:
    """Load the shard of an index that this process holds the lock of.

    Raises:
        StoreLockedError: It is being optimized, or another process has its files open.
        StoreError: Its files are damaged.
    """
    rebuilding = ProcessLock(path / "optimize.lock", extra="edge")
    if not acquire(rebuilding, path):
        holder = rebuilding.holder()
        raise StoreLockedError(
            f"{path} is being optimized by {holder}, which outlived the process that started it: "
            "it ends by itself, so try again in some minutes, or end it; no data is lost either way",
            holder=f"{holder}, which optimizes it",
        )
    try:
        # What an optimization that was killed had written so far; nothing refers to it.
        shutil.rmtree(path / "shard" / "temp_segments", ignore_errors=True)
        check_unheld(path)
        with translated(path, loading=True):
            shard: EdgeShard = engine().EdgeShard.load(str(path / "shard"))
    finally:
        rebuilding.release()
    return shard


def acquire(lock: ProcessLock, path: Path) -> bool:
    """Take a lock of the index in the folder `path`, if it is free; whether it was.

    Raises:
        StoreError: The folder cannot be written to.
    """
    try:
        return lock.acquire()
    except (OSError, NotImplementedError) as error:
        raise StoreError(
            f"{path} cannot be locked ({reason_of(error)}): an index needs a folder that it can write to, even to be "
            "searched. Make the folder writable, or copy it to a place that is"
        ) from error


def stored_schema(path: Path) -> StoreSchema | None:
    """Check a folder, and read its schema; None if it does not exist, or has no index.

    Raises:
        StoreError: It holds something else, or is damaged.
    """
    check_ours(path)
    return read_schema(path)


def read_schema(path: Path) -> StoreSchema | None:
    """Read `schema.json`; None if there is none.

    Raises:
        StoreError: It is damaged.
    """
    try:
        return StoreSchema.from_dict(json.loads((path / "schema.json").read_text("utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, TypeError) as error:  # ConfigurationError is a ValueError
        raise StoreError(
            f"{path / 'schema.json'} cannot be read ({reason_of(error)}): restore it, or delete {path} and index again"
        ) from error


def check_ours(path: Path) -> None:
    """Check that a folder is an index, or can become one.

    Raises:
        StoreError: It holds something else.
    """
    try:
        names = {entry.name for entry in path.iterdir()}
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(
            f"{path} is not a folder that can be read ({reason_of(error)}): an index needs one of its own"
        ) from error
    names = {name for name in names if not name.endswith(".part")}  # of a process that died while it wrote a file
    if "schema.json" in names:
        return
    for inner in (path / "index", path / ".multimodal-search" / "index"):
        if (inner / "schema.json").is_file():
            raise StoreError(f"{path} is not an index itself; its index is {inner}: open that")
    if foreign := sorted(names - _OURS):
        raise StoreError(
            f"{path} is not an index of this library and holds other files ({', '.join(foreign[:3])}): "
            "give the index a folder of its own, one that is empty or does not exist"
        )
