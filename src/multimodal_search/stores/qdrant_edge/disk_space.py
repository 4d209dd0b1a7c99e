"""Disk space of an index: how much its files take, and whether a write fits."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from multimodal_search.errors import StoreError
from multimodal_search.stores.qdrant_edge.errors import reason_of

SPARE_BYTES = 64 * 2**20
"""Free space to leave beside what a write takes: the engine writes through mapped memory, and where the disk has no
room for that, the operating system ends the process on the spot."""

TIMES_WRITTEN = 4
"""How much space a write takes at most for each of its bytes: in the log, where numbers take 5 bytes instead of 4, in
the storage, and in payload indexes."""


def check_space(path: Path, extra: int = 0) -> None:
    """Check that the disk of a folder has `SPARE_BYTES` free, and `extra` bytes more.

    Raises:
        StoreError: It has not, or is gone.
    """
    needed = SPARE_BYTES + extra
    try:
        free = shutil.disk_usage(path).free
    except OSError as error:
        raise StoreError(f"{path} cannot be written to ({reason_of(error)}): is its disk still there?") from error
    if free < needed:
        raise StoreError(
            f"the disk that holds {path} is full: {free / 2**20:,.0f} MB are free, and this needs "
            f"{needed / 2**20:,.0f}. What was stored is safe; free some space and try again"
        )


def size_of(path: Path) -> int:
    """The disk usage of the files below a folder; sparse files take less than their length."""
    size = 0
    for parent, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):  # gone meanwhile
                state = Path(parent, name).stat()
                size += getattr(state, "st_blocks", -(-state.st_size // 512)) * 512
    return size
