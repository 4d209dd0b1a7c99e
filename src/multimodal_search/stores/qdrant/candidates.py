"""Records that a filter was evaluated on in this process, kept for a moment: page 2 needs the same ones as page 1."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from multimodal_search.types import Record

if TYPE_CHECKING:
    from qdrant_client import models

KEPT_S = 5.0
"""How long records are kept: other processes may write meanwhile."""

_MAX_RECORDS = 200_000
_MAX_WALKS = 8


class Candidates:
    """The walks through a collection of the last seconds, until this process writes something.

    To whatever collection: another store may be of the same one, by an alias of it, say.
    """

    _lock = threading.Lock()
    _writes = 0

    def __init__(self) -> None:
        self._walks: dict[tuple[str, str], tuple[float, int, list[Record]]] = {}

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Forget all records, before and after something is written."""
        self.forget()
        try:
            yield
        finally:
            self.forget()

    def forget(self) -> None:
        """Forget all records."""
        with Candidates._lock:
            Candidates._writes += 1

    def of(self, condition: models.Filter, field: str, walk: Callable[[], Iterator[Record]]) -> Iterator[Record]:
        """The records of a walk: those of an earlier one, or else its own, which are kept if they are not too many.

        Args:
            condition: The filter of the walk.
            field: The payload field that its records have.
            walk: Makes it.
        """
        key, now = (condition.model_dump_json(exclude_none=True), field), time.monotonic()
        with Candidates._lock:
            writes = Candidates._writes
            self._walks = {each: kept for each, kept in self._walks.items() if kept[0] > now and kept[1] == writes}
            known = self._walks.get(key)
        if known is not None:
            yield from known[2]
            return
        records: list[Record] = []
        for record in walk():
            if len(records) <= _MAX_RECORDS:
                records.append(record)
            yield record
        with Candidates._lock:
            if writes == Candidates._writes and len(records) <= _MAX_RECORDS and len(self._walks) < _MAX_WALKS:
                self._walks[key] = time.monotonic() + KEPT_S, writes, records
