"""Records that bring their vectors along: checked and stored in pieces, without an embedder."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator

import numpy as np

from multimodal_search._failure import Failure
from multimodal_search._ids import as_point_id
from multimodal_search._patience import PatientStore
from multimodal_search._payload import as_json
from multimodal_search._tally import Tally
from multimodal_search.errors import ConfigurationError, ContentError
from multimodal_search.protocols import VectorStore
from multimodal_search.types import Filter, FloatArray, Record

_CHUNK = 512


def store_records(records: Iterable[Record], store: PatientStore, dimension: int, tally: Tally) -> None:
    """Store records with their vectors; a bad one costs itself alone.

    Args:
        records: Iterated lazily.
        store: Where they go.
        dimension: Of the store's vectors.
        tally: Counts them.
    """
    iterator = iter(records)
    while chunk := list(itertools.islice(iterator, _CHUNK)):
        began = time.monotonic()
        good: dict[int | str, tuple[Record, FloatArray]] = {}
        for record in chunk:
            try:
                checked, vector = _checked(record, dimension)
            except (ContentError, ConfigurationError) as error:
                tally.failed.append(Failure(name=str(getattr(record, "id", record)), stage="load", reason=str(error)))
            else:
                if good.pop(checked.id, None) is not None:
                    tally.settle("updated")  # by the later one of the same id
                good[checked.id] = (checked, vector)
        ids = list(good)
        known = store.get(ids) if ids else []
        if good:
            store.upsert([record for record, _ in good.values()], np.stack([vector for _, vector in good.values()]))
        for point_id, before in zip(ids, known, strict=True):
            tally.settle("added" if before is None else "updated", stored=point_id)
        tally.stage_seconds["write"] += time.monotonic() - began
        tally.tell()


def all_records(store: VectorStore, *, where: Filter | None = None) -> Iterator[Record]:
    """Every record of a store that passes, with its vector, in the order of ids."""
    iterator = store.scan(where=where, fields=())
    while chunk := [record.id for record in itertools.islice(iterator, _CHUNK)]:
        for record in store.get(chunk, with_vectors=True):
            if record is not None:  # else it was deleted meanwhile
                yield record


def _checked(record: Record, dimension: int) -> tuple[Record, FloatArray]:
    if not isinstance(record, Record) or record.vector is None:
        raise ContentError("add_vectors takes Records with a vector: Record(id, payload, vector=...)")
    try:
        vector = np.asarray(record.vector, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ContentError(f"its vector holds something else than numbers: {error}") from error
    if vector.shape != (dimension,):
        raise ContentError(f"its vector has the shape {vector.shape}, and the index needs ({dimension},)")
    if not np.isfinite(vector).all():
        raise ContentError("its vector holds NaN or infinity")
    return Record(as_point_id(record.id), as_json(record.payload)), vector
