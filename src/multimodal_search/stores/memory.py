"""Vectors in NumPy arrays of this process: exact, and gone with it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from multimodal_search._payload import check_stored
from multimodal_search.errors import StoreClosedError, StoreError
from multimodal_search.filters.matching import passes
from multimodal_search.filters.nodes import And, Equals, FieldPath, In, Node
from multimodal_search.filters.parsing import parse_filter
from multimodal_search.ids import as_point_id, id_order
from multimodal_search.stores.arguments import checked_name, checked_text, checked_words, rows_to_search, rows_to_store
from multimodal_search.stores.bm25 import bm25
from multimodal_search.types import Filter, FloatArray, Match, PointId, Record, StoreSchema
from multimodal_search.vectors import of_unit_length, products

_INDEXED_FIELDS = ("filename", "sha256")
"""What indexing asks for all the time: such filters need not look at every payload."""


class MemoryStore:
    """Keeps everything in memory and compares with every vector: for tests, trials, and some ten thousand points.

    Nothing is written anywhere. Payloads are copied in and out, so what is stored changes through `upsert` alone.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._closed = False
        self._schema: StoreSchema | None = None
        self._ids: list[PointId] = []  # row i of `_rows` belongs to `_ids[i]` and `_payloads[i]`
        self._payloads: list[dict[str, Any]] = []
        self._row_of: dict[PointId, int] = {}
        self._ids_with: dict[str, dict[str, set[PointId]]] = {field: {} for field in _INDEXED_FIELDS}
        self._notes: dict[str, str] = {}
        self._rows: FloatArray = np.empty((0, 0), np.float32)  # longer than `_ids`: it grows by doubling

    def ensure(self, schema: StoreSchema, /) -> StoreSchema:
        """Take the schema, unless there is one; returns the one that holds."""
        with self._lock:
            if self._closed:
                raise _closed()
            if self._schema is None:
                self._schema = schema
                self._rows = np.empty((0, schema.dimension), np.float32)
            return self._schema

    def stored_schema(self) -> StoreSchema | None:
        """The schema that holds; None before there is one."""
        with self._lock:
            if self._closed:
                raise _closed()
            return self._schema

    def upsert(self, records: Sequence[Record], vectors: FloatArray, /) -> None:
        """Insert or replace records."""
        with self._lock:
            rows = rows_to_store(records, vectors, self._open())
            ids = [as_point_id(record.id) for record in records]
            for record in records:
                check_stored(record.payload, record.id)
            payloads = [_copy(record.payload) for record in records]
            new = [point_id for point_id in dict.fromkeys(ids) if point_id not in self._row_of]
            self._make_room(len(self._ids) + len(new))
            for point_id in new:
                self._row_of[point_id] = len(self._ids)
                self._ids.append(point_id)
                self._payloads.append({})
            for point_id, payload, row in zip(ids, payloads, rows, strict=True):
                position = self._row_of[point_id]
                self._unlist(point_id, self._payloads[position])
                self._payloads[position] = payload
                self._list(point_id, payload)
                self._rows[position] = row

    def search(
        self, vectors: FloatArray, /, *, limit: int, offset: int = 0, where: Filter | None = None
    ) -> list[list[Match]]:
        """The nearest points, exactly."""
        with self._lock:
            schema = self._open()
            rows_asked = rows_to_search(vectors, schema, limit=limit, offset=offset)
            queries = of_unit_length(np.array(rows_asked, np.float32).reshape(-1, schema.dimension))
            engine_filter = self._translate(where)
            rows = self._rows[: len(self._ids)] if engine_filter is None else self._rows[engine_filter]
            pages = []
            for query in queries:
                best = _best(rows, query, offset + limit)
                positions = best if engine_filter is None else engine_filter[best]
                # Rounded to 32 bits, equal vectors score equally wherever they stand: ties are ties.
                exact = products(self._rows[positions].astype(np.float64), query.astype(np.float64))
                scores = np.clip(exact, -1, 1).astype(np.float32)
                found = [(float(score), int(at)) for score, at in zip(scores, positions, strict=True)]
                found.sort(key=lambda hit: (-hit[0], *id_order(self._ids[hit[1]])))
                page = found[offset : offset + limit]
                pages.append([Match(self._ids[at], score, _copy(self._payloads[at])) for score, at in page])
            return pages

    def get(self, ids: Sequence[PointId], /, *, with_vectors: bool = False) -> list[Record | None]:
        """The records of ids, in their order."""
        with self._lock:
            self._open()
            return [self._record(as_point_id(point_id), with_vectors=with_vectors) for point_id in ids]

    def scan(self, *, where: Filter | None = None, fields: Sequence[str] | None = None) -> Iterator[Record]:
        """All records that passed when it was called and are still there, in the order of ids."""
        with self._lock:
            self._open()
            engine_filter = self._translate(where)
            positions = range(len(self._ids)) if engine_filter is None else engine_filter.tolist()
            ids = sorted((self._ids[position] for position in positions), key=id_order)
        return self._walk(ids, fields)

    def delete(self, ids: Sequence[PointId], /) -> None:
        """Remove points."""
        with self._lock:
            self._open()
            for point_id in map(as_point_id, ids):
                hole = self._row_of.pop(point_id, None)
                if hole is None:
                    continue
                self._unlist(self._ids[hole], self._payloads[hole])
                last_id, last_payload = self._ids.pop(), self._payloads.pop()
                if hole < len(self._ids):  # the last one moves into the hole
                    self._ids[hole], self._payloads[hole], self._row_of[last_id] = last_id, last_payload, hole
                    self._rows[hole] = self._rows[len(self._ids)]

    def count(self, where: Filter | None = None) -> int:
        """How many points pass."""
        with self._lock:
            self._open()
            engine_filter = self._translate(where)
            return len(self._ids) if engine_filter is None else len(engine_filter)

    def search_text(self, words: str, /, *, field: str, limit: int, where: Filter | None = None) -> list[Match]:
        """The points that hold some words, by BM25."""
        with self._lock:
            self._open()
            sought, engine_filter = checked_words(words, limit=limit), self._translate(where)
            scores = bm25(sought, ((at, payload.get(field)) for at, payload in enumerate(self._payloads)))
            found = list(scores) if engine_filter is None else [at for at in engine_filter.tolist() if at in scores]
            best = sorted(found, key=lambda at: (-scores[at], *id_order(self._ids[at])))[:limit]
            return [Match(self._ids[at], scores[at], _copy(self._payloads[at])) for at in best]

    def get_index_metadata(self, name: str, /) -> str | None:
        """The text of a note; None if there is none of this name."""
        with self._lock:
            self._open()
            return self._notes.get(checked_name(name))

    def set_index_metadata(self, name: str, text: str, /) -> None:
        """Keep a text under a name."""
        with self._lock:
            self._open()
            self._notes[checked_name(name)] = checked_text(name, text)

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._closed = True
            self._notes = {}
            self._ids, self._payloads, self._row_of = [], [], {}
            self._ids_with = {field: {} for field in _INDEXED_FIELDS}
            self._rows = np.empty((0, 0), np.float32)

    def __repr__(self) -> str:
        return f"MemoryStore({'closed' if self._closed else f'{len(self._ids)} points'})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a MemoryStore cannot be pickled or copied, and belongs to one process: use MultimodalIndex.export"
        )

    def _open(self) -> StoreSchema:
        if self._closed:
            raise _closed()
        if self._schema is None:
            raise StoreError("call ensure(schema) before anything else: the store has no schema yet")
        return self._schema

    def _make_room(self, count: int) -> None:
        if count > len(self._rows):
            grown = np.empty((max(count, 2 * len(self._rows), 1024), self._rows.shape[1]), np.float32)
            grown[: len(self._ids)] = self._rows[: len(self._ids)]
            self._rows = grown

    def _translate(self, where: Filter | None) -> np.ndarray[Any, np.dtype[np.intp]] | None:
        """Positions of the points that pass; None for all of them."""
        if where is None:
            return None
        node = parse_filter(where)
        listed = self._listed(node)
        if listed is None:
            return np.flatnonzero([passes(node, payload) for payload in self._payloads])
        positions = sorted(self._row_of[point_id] for point_id in listed)
        return np.array([at for at in positions if passes(node, self._payloads[at])], np.intp)

    def _listed(self, node: Node) -> set[PointId] | None:
        """The ids of all points that may pass, where an indexed field tells; None where it does not."""
        match node:
            case And(parts):
                found = [listed for part in parts if (listed := self._listed(part)) is not None]
                return min(found, key=len) if found else None
            case Equals(FieldPath((field,)), value) if field in self._ids_with:
                return self._ids_with[field].get(value, set()) if isinstance(value, str) else None
            case In(FieldPath((field,)), values) if field in self._ids_with:
                if all(isinstance(value, str) for value in values):
                    return set().union(*(self._ids_with[field].get(str(value), ()) for value in values))
        return None

    def _list(self, point_id: PointId, payload: Mapping[str, Any]) -> None:
        for field, ids_with in self._ids_with.items():
            for value in _texts(payload.get(field)):
                ids_with.setdefault(value, set()).add(point_id)

    def _unlist(self, point_id: PointId, payload: Mapping[str, Any]) -> None:
        for field, ids_with in self._ids_with.items():
            for value in _texts(payload.get(field)):
                ids = ids_with.get(value, set())
                ids.discard(point_id)
                if not ids:
                    ids_with.pop(value, None)

    def _record(self, point_id: PointId, *, with_vectors: bool) -> Record | None:
        position = self._row_of.get(point_id)
        if position is None:
            return None
        vector = self._rows[position].copy() if with_vectors else None
        return Record(point_id, _copy(self._payloads[position]), vector=vector)

    def _walk(self, ids: Sequence[PointId], fields: Sequence[str] | None) -> Iterator[Record]:
        for point_id in ids:
            with self._lock:
                self._open()
                record = self._record(point_id, with_vectors=False)
            if record is not None:
                payload = record.payload
                if fields is not None:
                    payload = {field: payload[field] for field in fields if field in payload}
                yield Record(point_id, payload)


def _best(rows: FloatArray, query: FloatArray, count: int) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Positions of the `count` best rows, and of all others whose score might round to the last one's."""
    scores = products(rows, query)
    if count >= len(scores):
        return np.arange(len(scores))
    last = scores[np.argpartition(scores, -count)[-count]]
    rounding = 2 * rows.shape[1] * np.finfo(np.float32).eps  # of two dot products of rows of unit length, at most
    return np.flatnonzero(scores >= last - rounding)


def _texts(value: object) -> Sequence[str]:
    """The texts that a field's value has, as filters see it: itself, or the elements of a list."""
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]


def _copy(value: Any) -> Any:
    """Plain JSON values, nothing shared with the original."""
    if isinstance(value, Mapping):
        return {key: _copy(below) for key, below in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copy(below) for below in value]
    return value


def _closed() -> StoreClosedError:
    return StoreClosedError("the MemoryStore is closed, and what it held is gone: make a new one")
