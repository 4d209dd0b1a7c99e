"""The inventory of an in-process index: the sizes and checksums of the engine's files, in `files.json`.

It is written when the index is closed. At the next opening, the files' sizes show what is missing or truncated.
Checksums are valid until something is written; of files that the engine never changes, for ever.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multimodal_search._files import atomic_write

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
    "data.bin",
    "data_block_index.bin",
    "histogram_borders.bin",
    "histogram_config.json",
    "postings.dat",
    "vocab.dat",
    "term_frequencies.dat",
    "point_to_tokens_count.dat",
    "point_to_doc_len.dat",
}
"""Names of the files of optimized segments that the engine writes once (qdrant-edge-py 0.9)."""

VERSIONS = ("mutable_id_tracker.versions", "id_tracker.versions")
"""Names of the files that say which write a point is of; with a version of the future, later writes are left out."""

CONFIG = "shard/edge_config.json"
"""The file of the engine's settings."""

_JOURNAL = "tracker_journal.dat"
"""The file that the engine merges into `tracker.dat` beside it when it is loaded."""

_COUNTED_OUT = {"id_tracker.mappings", "point_to_values.bin"}
"""Of those, the ones that are read whole at opening: garbled, they have the engine ask for any amount of memory, and
where it gets none, end the process."""

_SMALL = 64 * 1024  # bytes of files that are read at closing: 118,000 points have 57, which takes 2 ms

_PASSING = ("open-", "closed-", "first-index")
"""Prefixes of files of the engine's write-ahead log, which are created and deleted as it writes."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """The files of an index at one moment.

    Attributes:
        files: Their sizes and checksums, by path below the index's folder; a checksum is None where it is not known.
        log_length: Length of the log `checks` then; -1 if checksums count for files alone that are never changed.
    """

    files: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    log_length: int = -1

    @classmethod
    def read(cls, folder: Path) -> Inventory | None:
        """Read the inventory of a folder; None if there is none.

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
        """Write it to a folder.

        Raises:
            OSError: It cannot be written; the one before is still there.
        """
        body = json.dumps(self.files, sort_keys=True)
        crc = zlib.crc32(f"{self.log_length}{body}".encode())
        stored = {"version": _VERSION, "log_length": self.log_length, "crc": crc, "files": self.files}
        with atomic_write(folder / INVENTORY) as file:
            file.write(json.dumps(stored, indent=1, sort_keys=True).encode())

    @classmethod
    def of(cls, folder: Path, before: Inventory | None, *, log_length: int) -> Inventory:
        """Take the inventory of a folder, reading all files but those that the engine never changes and `before` knows.

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
        """Take the inventory of a folder, with checksums only of files that the engine never changes.

        Raises:
            OSError: A file cannot be looked at.
        """
        known = {} if before is None else before.files
        files: dict[str, tuple[int, int | None]] = {}
        for name, path in _files(folder):
            size, crc = known.get(name, (0, None))
            if not is_never_changed(name):
                size, crc = path.stat().st_size, None
            elif crc is None:
                size, crc = path.stat().st_size, checksum(path)
            files[name] = (size, crc)
        return cls(files)

    def missing(self, folder: Path, *, log_length: int) -> list[str]:
        """Files that are missing, truncated, or dangerous to load, one phrase each; reads few of them."""
        is_unchanged, found = log_length == self.log_length, []
        for name, (size, crc) in self.files.items():
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
            elif crc is not None and name.rpartition("/")[2] in _COUNTED_OUT and checksum(folder / name) != crc:
                found.append(f"{name} (other bytes than were written)")
        return found

    def still_holds(self, folder: Path) -> bool:
        """Whether the files are the same, by their sizes, and the small ones by their checksums.

        The engine may change files without being asked to write anything, when it repeats what its log holds: then the
        small ones say so.

        Raises:
            OSError: A file cannot be read.
        """
        found = 0
        for name, path in _files(folder):
            size, crc = self.files.get(name, (-1, None))
            if path.stat().st_size != size or (crc is not None and size <= _SMALL and checksum(path) != crc):
                return False
            found += 1
        return found == len(self.files)

    def damaged(self, folder: Path, *, log_length: int) -> Iterator[tuple[str, int, bool]]:
        """Read every file with a valid checksum: its name, the bytes read, and whether it differs."""
        is_unchanged = log_length == self.log_length
        for name, (size, crc) in self.files.items():
            path = folder / name
            if crc is None or not (is_unchanged or is_never_changed(name)):
                continue
            try:
                state = path.stat()
                held = min(size, getattr(state, "st_blocks", size) * 512)  # holes are not read
                yield name, held, state.st_size != size or checksum(path) != crc
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
    """The CRC-32 of a file's non-zero blocks: most of the engine's files are mostly holes.

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
    """The offset of the next bytes outside a hole; `at` itself if the file system does not tell."""
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
