"""A store whose calls are retried for a while when it cannot be reached."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from multimodal_search._closing import Closing
from multimodal_search.embedders.limiter import ConcurrencyLimiter, Passing
from multimodal_search.errors import StoreError, StoreRefusedError, StoreUnavailableError
from multimodal_search.ids import id_order
from multimodal_search.protocols import SupportsOptimize, VectorStore, concurrent_upserts, counts_exactly
from multimodal_search.types import Filter, FloatArray, PointId, Record

T = TypeVar("T")

RETRY_DEADLINE_S = 300.0
"""How long a call is repeated, from its first attempt on: a server or a node that starts again may take minutes."""

_MAX_CALLS = 1_000  # in flight: more than there are threads, for a store says what it can take by taking its time
_REFUSALS = 2  # attempts to write that fail, each followed by a read that does not
_TOLD_AFTER = 2  # attempts: most trouble is over by then

_log = logging.getLogger(__name__)


class RetryingStore:
    """Wraps a store: each call is retried for up to `RETRY_DEADLINE_S`, or until the index is closed.

    Args:
        store: Anything that implements the protocol.
        closing: Tells whether the index is being closed.
    """

    def __init__(self, store: VectorStore, closing: Closing | None = None) -> None:
        self._store = store
        self._closing = Closing() if closing is None else closing
        self._given_up = threading.Event()
        self._telling = threading.Lock()  # held by the call that has told of the trouble that others share
        self._limiter = ConcurrencyLimiter(_MAX_CALLS, ended=StoreUnavailableError)
        self._closing.interrupts(self._limiter)

    def upsert(self, records: Sequence[Record], vectors: FloatArray) -> None:
        """As the store's.

        Raises:
            StoreRefusedError: Several attempts failed, and the store answers meanwhile: it is this request that fails.
            StoreUnavailableError: The store has not come back within `RETRY_DEADLINE_S`.
            StoreError: As the store's.
            ContentError: As the store's.
        """
        attempts, refusals = 0, 0

        def wait(error: StoreUnavailableError) -> bool:
            nonlocal attempts, refusals
            attempts += 1
            # A store that says itself that a part of it fails, or that is not there, says nothing of the records.
            may_be_theirs = error.trouble in ("time-out", "other")
            refusals = refusals + 1 if may_be_theirs and attempts > 1 and self._answers(records) else 0
            return refusals < _REFUSALS

        try:
            self._retry(lambda: self._store.upsert(records, vectors), wait=wait)
        except StoreUnavailableError as error:
            if refusals < _REFUSALS:
                raise
            raise StoreRefusedError(f"the store answers, but breaks off this write ({error})") from error

    def delete(self, ids: Sequence[PointId]) -> None:
        """As the store's."""
        self._retry(lambda: self._store.delete(ids))

    def get(self, ids: Sequence[PointId], *, with_vectors: bool = False) -> list[Record | None]:
        """As the store's."""
        return self._retry(lambda: self._store.get(ids, with_vectors=with_vectors))

    def find(self, where: Filter, *, most: int, fields: Sequence[str] | None = None) -> list[Record]:
        """The first records, at most `most`, that pass a filter."""
        return self._retry(lambda: list(itertools.islice(self._store.scan(where=where, fields=fields), most)))

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

        while (record := self._retry(following)) is not None:
            last = record.id
            yield record

    def next_number(self, first: int) -> int:
        """One more than the largest integer id; `first` if there is none."""

        def scan() -> int:
            numbers = (record.id for record in self._store.scan(fields=()) if isinstance(record.id, int))
            return max((number + 1 for number in numbers), default=first)

        return self._retry(scan)

    @property
    def needs_optimize(self) -> bool:
        """Whether `optimize` would make searching faster."""
        return isinstance(self._store, SupportsOptimize) and self._store.needs_optimize

    def optimize(self, *, on_tick: Callable[[], None] | None = None) -> bool:
        """As the store's, if it has any."""
        store = self._store
        return isinstance(store, SupportsOptimize) and self._retry(lambda: store.optimize(on_tick=on_tick))

    @property
    def counts_exactly(self) -> bool:
        """Whether `count` is exact."""
        return counts_exactly(self._store)

    @property
    def max_concurrent_upserts(self) -> int:
        """From how many threads `upsert` is worth calling at once."""
        return concurrent_upserts(self._store)

    def count(self, where: Filter) -> int:
        """As the store's."""
        return self._retry(lambda: self._store.count(where))

    def give_up(self) -> None:
        """End every wait: the next failure counts."""
        self._given_up.set()
        self._limiter.interrupt()

    def _answers(self, records: Sequence[Record]) -> bool:
        try:
            self._store.get([record.id for record in records[:1]])
        except StoreError:
            return False
        return True

    def _retry(self, call: Callable[[], T], *, wait: Callable[[StoreUnavailableError], bool] = lambda error: True) -> T:
        """Repeat a call while the store cannot be reached; `wait` says whether to, before each pause."""

        def passing(error: Exception) -> Passing | None:
            if not isinstance(error, StoreUnavailableError) or self._given_up.is_set() or not wait(error):
                return None
            return Passing(asked_s=error.retry_after_s, is_overload=True)

        has_told = False

        def on_repeat(error: Exception, attempts: int, pause_s: float) -> None:
            nonlocal has_told
            if attempts == _TOLD_AFTER and self._telling.acquire(blocking=False):
                has_told = True
                _log.warning("waiting up to %d s for the store, as %s", RETRY_DEADLINE_S, error)

        self._closing.check()
        try:
            return self._limiter.repeat(
                lambda _: call(), within_s=RETRY_DEADLINE_S, passing=passing, on_repeat=on_repeat
            )
        except StoreUnavailableError:
            self._closing.check()  # which ends every wait
            raise
        finally:
            if has_told:
                self._telling.release()
