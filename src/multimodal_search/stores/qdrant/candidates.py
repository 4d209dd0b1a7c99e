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
    """The walks through a collection of the last seconds, until something is written."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._writes = 0
        self._walks: dict[tuple[str, str], tuple[float, list[Record]]] = {}

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Forget all records, before and after something is written."""
        self._forget()
        try:
            yield
        finally:
            self._forget()

    def _forget(self) -> None:
        with self._lock:
            self._writes += 1
            self._walks.clear()

    def of(self, condition: models.Filter, field: str, walk: Callable[[], Iterator[Record]]) -> Iterator[Record]:
        """The records of a walk: those of an earlier one, or else its own, which are kept if they are not too many.

        Args:
            condition: The filter of the walk.
            field: The payload field that its records have.
            walk: Makes it.
        """
        key, now = (condition.model_dump_json(exclude_none=True), field), time.monotonic()
        with self._lock:
            writes = self._writes
            self._walks = {each: kept for each, kept in self._walks.items() if kept[0] > now}
            known = self._walks.get(key)
        if known is not None:
            yield from known[1]
            return
        records: list[Record] = []
        for record in walk():
            if len(records) <= _MAX_RECORDS:
                records.append(record)
            yield record
        with self._lock:
            if writes == self._writes and len(records) <= _MAX_RECORDS and len(self._walks) < _MAX_WALKS:
                self._walks[key] = time.monotonic() + KEPT_S, records
