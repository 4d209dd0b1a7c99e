"""A store as an indexing run uses it: calls are repeated for a while when it cannot be reached."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from multimodal_search._closing import Closing
from multimodal_search._pace import pause_after
from multimodal_search._ranking import id_order
from multimodal_search.errors import StoreUnavailableError
from multimodal_search.protocols import VectorStore
from multimodal_search.types import Filter, FloatArray, PointId, Record

T = TypeVar("T")

PATIENCE_S = 60.0
"""How long a call is repeated, from its first attempt on."""

_LOOK_S = 0.2  # between two looks whether the index is being closed


class PatientStore:
    """Wraps a store: each call is repeated until it goes through or `PATIENCE_S` have passed, or the index is closed.

    Args:
        store: Anything that implements the protocol.
        closing: Tells whether the index is being closed.
    """

    def __init__(self, store: VectorStore, closing: Closing | None = None) -> None:
        self._store = store
        self._closing = Closing() if closing is None else closing
        self._given_up = threading.Event()

    def upsert(self, records: Sequence[Record], vectors: FloatArray) -> None:
        """As the store's."""
        self._patiently(lambda: self._store.upsert(records, vectors))

    def delete(self, ids: Sequence[PointId]) -> None:
        """As the store's."""
        self._patiently(lambda: self._store.delete(ids))

    def get(self, ids: Sequence[PointId], *, with_vectors: bool = False) -> list[Record | None]:
        """As the store's."""
        return self._patiently(lambda: self._store.get(ids, with_vectors=with_vectors))

    def find(self, where: Filter, *, most: int, fields: Sequence[str] | None = None) -> list[Record]:
        """The first records, at most `most`, that pass a filter."""
        return self._patiently(lambda: list(itertools.islice(self._store.scan(where=where, fields=fields), most)))

    def scan(self, *, where: Filter | None = None, fields: Sequence[str] | None = None) -> Iterator[Record]:
        """As the store's; after trouble it goes on behind the last record that came through."""
        records = self._store.scan(where=where, fields=fields)
        last: PointId | None = None

        def following() -> Record | None:
            nonlocal records
            try:
                return next(records, None)
            except StoreUnavailableError:
                records = self._store.scan(where=where, fields=fields)
                if last is not None:
                    seen = id_order(last)
                    records = itertools.dropwhile(lambda record: id_order(record.id) <= seen, records)
                raise

        while (record := self._patiently(following)) is not None:
            last = record.id
            yield record

    def next_number(self, first: int) -> int:
        """One more than the largest integer id; `first` if there is none."""

        def scan() -> int:
            numbers = (record.id for record in self._store.scan(fields=()) if isinstance(record.id, int))
            return max((number + 1 for number in numbers), default=first)

        return self._patiently(scan)

    def count(self, where: Filter) -> int:
        """As the store's."""
        return self._patiently(lambda: self._store.count(where))

    def give_up(self) -> None:
        """End every wait: the next failure counts."""
        self._given_up.set()

    def _patiently(self, call: Callable[[], T]) -> T:
        deadline = time.monotonic() + PATIENCE_S
        for attempts in itertools.count(1):
            self._closing.check()
            try:
                return call()
            except StoreUnavailableError:
                pause_s = pause_after(attempts)
                if self._given_up.is_set() or time.monotonic() + pause_s >= deadline:
                    raise
                self._wait(pause_s)
        raise AssertionError  # pragma: no cover (the loop above has no end)

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._given_up.wait(min(left, _LOOK_S)):
            self._closing.check()
