"""What the server holds for one client."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, cast

from multimodal_search.types import Record

MAX_SCANS = 64
"""Half-read scans that are kept for one client; it asks for the rest of others anew."""


class Session:
    """What the server holds for one client, from its first connection to the end of its last: half-read scans."""

    def __init__(self) -> None:
        self.connections = 0
        self._scans: dict[int, Iterator[Record]] = {}
        self._lock = threading.Lock()

    def keep(self, records: Iterator[Record]) -> int:
        """Keep a half-read scan, under a new number; the oldest one makes room for it."""
        with self._lock:
            number = secrets.randbits(52)  # the next server must not take it for one of its own
            self._scans[number] = records
            oldest = self._scans.pop(next(iter(self._scans))) if len(self._scans) > MAX_SCANS else None
        _end(oldest)
        return number

    def take(self, number: int) -> Iterator[Record] | None:
        """Take a scan out, to go on with it; None if it is not there, or another call is at it."""
        with self._lock:
            return self._scans.pop(number, None)

    def end(self, number: int) -> None:
        """End a scan that nobody reads on."""
        _end(self.take(number))

    def close(self) -> None:
        """End all scans."""
        with self._lock:
            scans, self._scans = list(self._scans.values()), {}
        for each in scans:
            _end(each)


def _end(records: Iterator[Record] | None) -> None:
    with suppress(Exception):  # whatever a store's iterator does in the end, nobody waits for it
        if records is not None:
            cast("Any", records).close()
