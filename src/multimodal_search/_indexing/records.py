"""Store records with precomputed vectors, in chunks, without an embedder."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

import numpy as np

from multimodal_search._indexing.retrying_store import RetryingStore
from multimodal_search._indexing.run_stats import RunStats
from multimodal_search._indexing.writing import MAX_BYTES, MAX_RECORDS, RecordWriter, payload_bytes
from multimodal_search._payload import as_json
from multimodal_search.errors import ConfigurationError, ContentError
from multimodal_search.ids import as_point_id
from multimodal_search.report import Failure
from multimodal_search.types import FloatArray, PointId, Record
from multimodal_search.vectors import as_vector

_END = object()


def store_records(records: Iterable[Record], store: RetryingStore, dimension: int, stats: RunStats) -> None:
    """Store records with their vectors; records that fail are skipped and listed as such.

    Args:
        records: Iterated lazily; as many are held as go into one write.
        store: Where they go.
        dimension: Of the store's vectors.
        stats: Counts them.
    """
    writer, source = RecordWriter(store), iter(records)
    held: dict[PointId, tuple[Record, FloatArray]] = {}
    size = 0
    while True:
        try:
            record = next(source, _END)
        except Exception:
            _store(held, store, writer, stats)  # what came before the source failed
            raise
        if record is _END:
            break
        try:
            checked, vector = _checked(record, dimension)
        except (ContentError, ConfigurationError) as error:
            stats.failed.append(Failure(name=_name(record), stage="load", reason=str(error)))
            stats.tell()
            continue
        more = payload_bytes(checked.payload)
        if len(held) >= MAX_RECORDS or (held and size + more > MAX_BYTES):
            _store(held, store, writer, stats)
            held, size = {}, 0
        if held.pop(checked.id, None) is not None:
            stats.count("updated")  # by the later one of the same id
        held[checked.id] = (checked, vector)
        size += more
    _store(held, store, writer, stats)


def _store(
    held: Mapping[PointId, tuple[Record, FloatArray]], store: RetryingStore, writer: RecordWriter, stats: RunStats
) -> None:
    if not held:
        return
    began = time.monotonic()
    ids = list(held)
    known = store.get(ids)
    written = writer.write([record for record, _ in held.values()], np.stack([row for _, row in held.values()]))
    for number in written.done:
        stats.count("added" if known[number] is None else "updated", stored=ids[number])
    for number, reason in written.refused.items():
        stats.failed.append(Failure(name=str(ids[number]), stage="write", reason=reason))
    stats.stage_seconds["write"] += time.monotonic() - began
    if written.error is not None:
        raise written.error
    stats.tell()


def _name(record: object) -> str:
    return f"{record!r:.80}" if getattr(record, "id", None) is None else str(getattr(record, "id"))  # noqa: B009


def _checked(record: object, dimension: int) -> tuple[Record, FloatArray]:
    if not isinstance(record, Record) or record.vector is None:
        raise ContentError("add_vectors takes Records with a vector: Record(id, payload, vector=...)")
    vector = as_vector(record.vector, dimension)
    if isinstance(vector, str):
        raise ContentError(f"it has {vector}")
    return Record(as_point_id(record.id), as_json(record.payload)), vector
