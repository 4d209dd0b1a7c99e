"""The inventory of an in-process index: its engine's files, their sizes and checksums, in `files.json`.

It is written when the index is closed, and tells at the next opening, by a look at each file's size, what is missing or
cut off. Checksums count for as long as nothing was written since; of files that the engine never changes, for ever.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multimodal_search._replacing import replacing

INVENTORY = "files.json"
"""The name of the file in an index's folder."""

_BLOCK = 64 * 1024
_ZEROS = bytes(_BLOCK)
_VERSION = 1

_NEVER_CHANGED = {
    "matrix.dat",
    "graph.bin",
    "links.bin",
    "links_compressed.bin",
    "hnsw_config.json",
    "id_tracker.mappings",
    "values_to_points.bin",
    "point_to_values.bin",
    "prefix_index.bin",
    "mmap_field_index_config.json",
}
"""Names of the files of optimized segments that the engine writes once (qdrant-edge-py 0.9)."""

VERSIONS = ("mutable_id_tracker.versions", "id_tracker.versions")
"""Names of the files that say which write a point is of; with a version of the future, later writes are left out."""

CONFIG = "shard/edge_config.json"
"""The file of the engine's settings."""

_JOURNAL = "tracker_journal.dat"
"""What the engine carries over into the file `tracker.dat` beside it, at the next loading already."""

_DEADLY = "id_tracker.mappings"
"""The name of a file from which the engine takes sizes of memory, unseen; of optimized segments."""

_PASSING = ("open-", "closed-", "first-index")
"""How names begin of the files of the engine's write-ahead log, which come and go as it writes."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What files there were.

    Attributes:
        files: Their sizes and checksums, by path below the index's folder; a checksum is None where it is not known.
        log_length: Length of the log `checks` then; -1 if checksums count for files alone that are never changed.
    """

    files: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    log_length: int = -1

    @classmethod
    def read(cls, folder: Path) -> Inventory | None:
        """The inventory in a folder; None if there is none.

        Raises:
            ValueError: It is damaged.
            OSError: It cannot be read.
        """
        try:
            text = (folder / INVENTORY).read_bytes()
        except FileNotFoundError:
            return None
        try:
            stored: dict[str, Any] = json.loads(text)
            body = json.dumps(stored["files"], sort_keys=True)
            if stored["crc"] != zlib.crc32(f"{stored['log_length']}{body}".encode()):
                raise ValueError("its checksum differs")
            return cls(
                {str(path): (int(size), crc) for path, (size, crc) in stored["files"].items()}, stored["log_length"]
            )
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"it holds something else: {error}") from error

    def write(self, folder: Path) -> None:
        """Keep it in a folder.

        Raises:
            OSError: It cannot be written; the one before is still there.
        """
        body = json.dumps(self.files, sort_keys=True)
        crc = zlib.crc32(f"{self.log_length}{body}".encode())
        stored = {"version": _VERSION, "log_length": self.log_length, "crc": crc, "files": self.files}
        with replacing(folder / INVENTORY) as file:
            file.write(json.dumps(stored, indent=1, sort_keys=True).encode())

    @classmethod
    def of(cls, folder: Path, before: Inventory | None, *, log_length: int) -> Inventory:
        """What there is now, all files read but those that were never changed since `before`.

        Raises:
            OSError: A file cannot be read.
        """
        known = {} if before is None else before.files
        files: dict[str, tuple[int, int | None]] = {}
        for name, path in _files(folder):
            size, crc = known.get(name, (0, None))
            if crc is None or not is_never_changed(name):
                size, crc = path.stat().st_size, None if _is_mended(path) else checksum(path)
            files[name] = (size, crc)
        return cls(files, log_length)

    @classmethod
    def of_sizes(cls, folder: Path, before: Inventory | None) -> Inventory:
        """What there is now, with checksums only of files that are never changed, as far as they were known.

        Raises:
            OSError: A file cannot be looked at.
        """
        known = {} if before is None else before.files
        files: dict[str, tuple[int, int | None]] = {}
        for name, path in _files(folder):
            crc = known[name][1] if name in known and is_never_changed(name) else None
            files[name] = (path.stat().st_size, crc)
        return cls(files)

    def missing(self, folder: Path, *, log_length: int) -> list[str]:
        """What is missing or cut off, one phrase each; looks at each file's size only."""
        is_unchanged, found = log_length == self.log_length, []
        for name, (size, _) in self.files.items():
            try:
                now = (folder / name).stat().st_size
            except FileNotFoundError:
                now = -1
            except OSError as error:
                found.append(f"{name} ({error.strerror})")
                continue
            is_passing = name.rpartition("/")[2].startswith(_PASSING)
            if now < 0 and (is_unchanged or not is_passing):
                found.append(f"{name} (missing)")
            elif name == CONFIG:
                continue  # written anew whenever it is loaded
            elif 0 <= now != size and (is_unchanged or is_never_changed(name) or (now < size and not is_passing)):
                found.append(f"{name} ({now:,} bytes instead of {size:,})")
        return found

    def deadly(self, folder: Path) -> list[str]:
        """The damaged ones among the files that end the process when they are loaded; 2 ms for 118,000 points."""
        known = ((name, crc) for name, (_, crc) in self.files.items() if name.endswith(f"/{_DEADLY}"))
        return [name for name, crc in known if crc is not None and checksum(folder / name) != crc]

    def damaged(self, folder: Path, *, log_length: int) -> Iterator[tuple[str, int, bool]]:
        """Every file, how many bytes of it were read, and whether it is another than it was."""
        is_unchanged = log_length == self.log_length
        for name, (size, crc) in self.files.items():
            path = folder / name
            if crc is None or not (is_unchanged or is_never_changed(name)):
                continue
            try:
                yield name, size, path.stat().st_size != size or checksum(path) != crc
            except OSError:
                yield name, 0, True


def is_never_changed(name: str) -> bool:
    """Whether the engine writes a file of this name once, and never again."""
    return name.rpartition("/")[2] in _NEVER_CHANGED


def _is_mended(path: Path) -> bool:
    """Whether the engine may change a file by loading it: versions of deleted points, its settings, trackers."""
    has_journal = path.name == "tracker.dat" and path.with_name(_JOURNAL).exists()
    return has_journal or path.name in (*VERSIONS, Path(CONFIG).name)


def checksum(path: Path) -> int:
    """The CRC-32 of a file's blocks that hold anything: most of the engine's files are mostly holes.

    Raises:
        OSError: It cannot be read.
    """
    crc = 0
    for at, block in filled_blocks(path):
        crc = zlib.crc32(block, zlib.crc32(at.to_bytes(8, "little"), crc))
    return crc


def filled_blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    """The blocks of a file that are not all zeros, and where they begin.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        end = os.fstat(file.fileno()).st_size
        at = 0
        while (at := _next_data(file.fileno(), at, end)) < end:
            at -= at % _BLOCK
            file.seek(at)
            block = file.read(_BLOCK)
            if not block:
                break
            if block != _ZEROS[: len(block)]:
                yield at, block
            at += _BLOCK


def _next_data(descriptor: int, at: int, end: int) -> int:
    """Where the next bytes are that are no hole; `at` itself where the file system does not say."""
    if at >= end or not hasattr(os, "SEEK_DATA"):
        return at
    try:
        return max(at, os.lseek(descriptor, at, os.SEEK_DATA))
    except OSError as error:
        return end if error.errno == 6 else at  # ENXIO: there are none


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    top = folder / "shard"
    for parent, folders, names in os.walk(top):
        if "temp_segments" in folders and Path(parent) == top:
            folders.remove("temp_segments")
        for name in names:
            path = Path(parent, name)
            if name != _JOURNAL and not name.startswith("tmp-"):
                yield path.relative_to(folder).as_posix(), path
