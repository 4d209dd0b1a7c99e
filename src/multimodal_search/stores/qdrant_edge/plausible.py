"""Plausibility checks of numbers in the engine's files, without checksums.

The files are those of qdrant-edge-py 0.9. The engine does not check them: wrong ones make it allocate any amount of
memory, drop writes without an error, or create an index on a field that can never be loaded again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_MAPPING_BYTES = {
    1: 13,
    2: 21,
    3: 9,
    4: 17,
}  # of entries: integers and UUIDs with offsets, and deleted ones
_WITH_OFFSET = (1, 2)
_FAR_OFF = 2**20  # offsets beyond the entries: the engine takes some 30 MB for them, and gives none so far off
_FAR_AHEAD = 2**24  # writes that can come after what a segment says of itself, before it is flushed; far above any


def dangerous(folder: Path) -> list[str]:
    """Files that would make the engine allocate memory without bound at loading, one phrase each.

    Raises:
        OSError: One cannot be read.
    """
    files = _segments(folder).glob("*/mutable_id_tracker.mappings")
    return [f"{_name(file, folder)} (offsets out of bounds)" for file in files if not _has_plausible_offsets(file)]


def implausible(folder: Path) -> Iterator[str]:
    """Files that would make writes get lost, or payloads be misread, one phrase each."""
    for path in _segments(folder).glob("*/*.versions"):
        if not _has_plausible_versions(path):
            yield f"{_name(path, folder)} (versions of the future)"
    for path in _segments(folder).glob("*/**/tracker.dat"):
        if not _has_plausible_pointers(path):
            yield f"{_name(path, folder)} (pointers to nowhere)"


def _segments(folder: Path) -> Path:
    return folder / "shard" / "segments"


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _has_plausible_offsets(path: Path) -> bool:
    """Whether the offsets of points are at most a little above their number."""
    log = path.read_bytes()
    width = _MAPPING_BYTES.get(log[0] if log else 0, 0)
    if width and len(log) % width == 0:
        table = np.frombuffer(log, np.uint8).reshape(-1, width)
        if log[0] in _WITH_OFFSET and bool((table[:, 0] == log[0]).all()):  # as long as nothing was deleted
            return int(table[:, -4:].copy().view("<u4").max()) <= len(table) + _FAR_OFF
    at, entries, farthest = 0, 0, 0
    while at < len(log) and (width := _MAPPING_BYTES.get(log[at], 0)):
        if log[at] in _WITH_OFFSET:
            farthest = max(farthest, int.from_bytes(log[at + width - 4 : at + width], "little"))
        at += width
        entries += 1
    return farthest <= entries + _FAR_OFF


def _has_plausible_versions(path: Path) -> bool:
    """Whether no point has a version far in the future: later writes to it would be dropped without an error."""
    try:
        versions = np.frombuffer(path.read_bytes()[: path.stat().st_size // 8 * 8], "<u8")
        last = json.loads(path.with_name("segment.json").read_bytes())["version"] or 0
        return not versions.size or int(versions.max()) <= last + _FAR_AHEAD
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _has_plausible_pointers(path: Path) -> bool:
    """Whether all pointers of a storage point into its pages, also those of deleted points.

    They follow their count, in four integers each: whether there is one, the page, the block, and the length.
    """
    try:
        content, pages = path.read_bytes(), len(list(path.parent.glob("page_*.dat")))
        settings = json.loads(path.with_name("config.json").read_bytes())
        blocks = settings["page_size_bytes"] // settings["block_size_bytes"]
        count = int.from_bytes(content[:4], "little")
        if len(content) < 4 + 16 * count:
            return False
        table = np.frombuffer(content, "<u4", offset=4, count=4 * count).reshape(-1, 4)
        there = table[table[:, 0] == 1]
        return bool((table[:, 0] <= 1).all() and (there[:, 1] < pages).all() and (there[:, 2] < blocks).all())
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return False
