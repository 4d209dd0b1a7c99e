"""Entries of zip and tar files before they are read, and the inflation budget of an archive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

CHUNK_BYTES = 64 * 1024
"""Bytes that are read at once."""


class TooLargeError(Exception):
    """An archive inflates to too much, or cannot be read in bounded memory; the rest of it is not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file inside an archive, before its content is read.

    Attributes:
        raw_name: Name as written in the archive; untrusted.
        size_bytes: Size as declared by the archive; untrusted.
        mtime_ns: Modification time, in nanoseconds since 1970.
        refusal: Why it cannot be read, such as that it is a link or encrypted; None if it can.
        read: Returns up to as many bytes as asked for, empty at the end. Raises `RefusedError` if only this entry is
            damaged; any other exception ends the archive.
    """

    raw_name: str
    size_bytes: int
    mtime_ns: int | None
    refusal: str | None
    read: Callable[[int], bytes]


class InflationBudget:
    """Limits the bytes that an archive inflates to.

    Args:
        budget_bytes: Maximum of inflated bytes.
    """

    def __init__(self, budget_bytes: float) -> None:
        self._budget_bytes = budget_bytes
        self._left = budget_bytes

    def take(self, size_bytes: int) -> None:
        """Count inflated bytes.

        Raises:
            TooLargeError: The budget is used up.
        """
        self._left -= size_bytes
        if self._left < 0:
            raise TooLargeError(
                f"inflates to more than {self._budget_bytes:,.0f} bytes, far beyond its size; if you trust it, "
                "unpack it and index the folder"
            )
