"""What zip and tar files have in common: an entry not yet read, why one is refused, the budget of the whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

CHUNK_BYTES = 64 * 1024
"""Most bytes that are asked for at once."""


class RefusedError(Exception):
    """One entry cannot be read, and the others are not affected; or no entry can, for a known reason."""


class TooLargeError(Exception):
    """An archive inflates out of all proportion, or cannot be read in bounded memory; the rest of it is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file inside an archive, before anything of it is read.

    Attributes:
        raw_name: As the archive writes it, not to be trusted.
        size_bytes: As the archive declares it, not to be trusted.
        mtime_ns: When the file was changed, in nanoseconds since 1970.
        refusal: Why it cannot be read: a link, encrypted.
        read: Gives the next bytes, at most as many as asked for, none at the end. Raises `RefusedError` where only
            this entry is damaged; any other exception ends the archive.
    """

    raw_name: str
    size_bytes: int
    mtime_ns: int | None
    refusal: str | None
    read: Callable[[int], bytes]


class InflationBudget:
    """Counts what an archive inflates to.

    Args:
        budget_bytes: Most bytes it may inflate to.
    """

    def __init__(self, budget_bytes: float) -> None:
        self._budget_bytes = budget_bytes
        self._left = budget_bytes

    def take(self, size_bytes: int) -> None:
        """Count bytes that were inflated.

        Raises:
            TooLargeError: Now there are too many.
        """
        self._left -= size_bytes
        if self._left < 0:
            raise TooLargeError(
                f"inflates to more than {self._budget_bytes:,.0f} bytes, out of all proportion to its size; "
                "if you trust it, unpack it and index the folder"
            )
