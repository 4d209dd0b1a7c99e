"""Write records in chunks of bounded size, and find the ones that the store refuses."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from multimodal_search._indexing.retrying_store import RetryingStore
from multimodal_search.errors import ContentError, StoreError, StoreRefusedError
from multimodal_search.types import FloatArray, Record

MAX_RECORDS = 512
"""Records in one write."""

MAX_BYTES = 16 * 2**20
"""Bytes of payloads in one write, roughly: half of what a Qdrant server takes (32 MB), for JSON is longer."""


@dataclass(slots=True)
class Written:
    """The outcome of a write.

    Attributes:
        done: Numbers of those that are stored.
        refused: Why the store refuses one, by its number.
        error: Why the others are not stored: the store is out of order.
    """

    done: list[int] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)
    error: StoreError | None = None


class RecordWriter:
    """Writes records of one run, in one thread or several.

    A write that the store refuses for its size or content is halved until the record at fault stands alone. When it
    takes none of a write's records, nor of as many writes before it as there are threads, or has taken none at all, it
    is the store that is at fault, except where records are too large for it.

    Args:
        store: Where they go.
        threads: How many write at once, at most.
    """

    def __init__(self, store: RetryingStore, *, threads: int = 1) -> None:
        self._store = store
        self._threads = threads
        self._lock = threading.Lock()
        self._may_fail = 0  # writes of which none is taken, before it is the store that is at fault

    def write(self, records: Sequence[Record], vectors: FloatArray) -> Written:
        """Write records with their vectors, shape `(len(records), dimension)`."""
        written = Written()
        uncertain: dict[int, StoreRefusedError] = {}
        parts = [range(start, stop) for start, stop in _parts(records)][::-1]
        while parts:
            part = parts.pop()
            try:
                self._store.upsert([records[number] for number in part], vectors[part.start : part.stop])
            except (ContentError, StoreRefusedError) as error:
                if len(part) > 1:
                    half = part.start + len(part) // 2
                    parts += [range(half, part.stop), range(part.start, half)]
                    continue
                written.refused[part.start] = str(error)
                if isinstance(error, StoreRefusedError) and not error.too_large:
                    uncertain[part.start] = error
            except StoreError as error:
                written.error = error
                return written
            else:
                written.done += part
        with self._lock:
            if uncertain and not written.done and not self._may_fail:
                written.refused = {number: why for number, why in written.refused.items() if number not in uncertain}
                written.error = next(iter(uncertain.values()))
            self._may_fail = self._threads if written.done else max(0, self._may_fail - 1)
        return written


def payload_bytes(value: object) -> int:
    """Estimate the bytes of a payload as JSON."""
    match value:
        case str():
            return len(value) + 2
        case dict():
            return sum(len(name) + 4 + payload_bytes(each) for name, each in value.items()) + 2
        case list() | tuple():
            return sum(payload_bytes(each) + 1 for each in value) + 2
    return 8


def _parts(records: Sequence[Record]) -> Iterator[tuple[int, int]]:
    """Where the writes begin and end."""
    start = size = 0
    for number, record in enumerate(records):
        more = payload_bytes(record.payload)
        if number > start and (size + more > MAX_BYTES or number - start >= MAX_RECORDS):
            yield start, number
            start, size = number, 0
        size += more
    if start < len(records):
        yield start, len(records)
