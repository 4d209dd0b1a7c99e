"""Exact in-memory store on NumPy; nothing is persisted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from multimodal_search._payload import check_stored
from multimodal_search.errors import StoreClosedError, StoreError
from multimodal_search.filters.matching import passes
from multimodal_search.filters.nodes import And, Equals, FieldPath, In, Node
from multimodal_search.filters.parsing import parse_filter
from multimodal_search.ids import as_point_id, id_order
from multimodal_search.stores.arguments import (
    check_schema,
    checked_fields,
    checked_ids,
    checked_name,
    checked_text,
    checked_words,
    rows_to_search,
    rows_to_store,
)
from multimodal_search.stores.bm25 import WordIndex
from multimodal_search.stores.keywords import DEFAULT_KEYWORD_FIELDS, KeywordFields, check_free, point_words
from multimodal_search.stores.scanning import best_ids
from multimodal_search.types import Filter, FloatArray, Match, PointId, Record, StoreSchema
from multimodal_search.vectors import of_unit_length, products

_LISTED_FIELDS = ("filename", "sha256")
"""Fields whose values have a list of ids each, as hardly two points share one: indexing asks for them all the time, and
such filters need not read every payload."""


class MemoryStore:
    """Exact in-memory vector store: for tests, trials, and about 10,000 points.

    Nothing is persisted. Each search compares with every vector. Payloads are copied in and out, so that stored ones
    change through `upsert` alone.

    Examples:
        >>> index = MultimodalIndex(ColorEmbedder(), MemoryStore())
        >>> index.add_texts(["red", "blue"]).added
        2
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._closed = False
        self._schema: StoreSchema | None = None
        self._ids: list[PointId] = []  # row i of `_rows` belongs to `_ids[i]` and `_payloads[i]`
        self._payloads: list[dict[str, Any]] = []
        self._row_of: dict[PointId, int] = {}
        self._ids_with: dict[str, dict[str, set[PointId]]] = {field: {} for field in _LISTED_FIELDS}
        self._notes: dict[str, str] = {}
        self._keyword_fields: tuple[str, ...] = DEFAULT_KEYWORD_FIELDS
        self._words: WordIndex[PointId] | None = None  # made by the first keyword search
        self._rows: FloatArray = np.empty((0, 0), np.float32)  # longer than `_ids`: it grows by doubling

    def ensure(self, schema: StoreSchema, /) -> StoreSchema:
        """Set the schema if there is none yet; returns the schema of the store."""
        check_schema(schema)
        with self._lock:
            if self._closed:
                raise _closed()
            if self._schema is None:
                self._schema = schema
                self._rows = np.empty((0, schema.dimension), np.float32)
            return self._schema

    def stored_schema(self) -> StoreSchema | None:
        """The schema of the store; None before `ensure`."""
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
                check_free(record.payload, record.id)
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
        """Find the points nearest to each vector, exactly."""
        with self._lock:
            schema = self._open()
            rows_asked = rows_to_search(vectors, schema, limit=limit, offset=offset)
            queries = of_unit_length(np.array(rows_asked, np.float32).reshape(-1, schema.dimension))
            passing = self._passing(where)
            rows = self._rows[: len(self._ids)] if passing is None else self._rows[passing]
            pages = []
            for query in queries:
                best = _best(rows, query, offset + limit)
                positions = best if passing is None else passing[best]
                # Rounded to 32 bits, equal vectors score equally wherever they stand: ties are ties.
                exact = products(self._rows[positions].astype(np.float64), query.astype(np.float64))
                scores = np.clip(exact, -1, 1).astype(np.float32)
                found = [(float(score), int(at)) for score, at in zip(scores, positions, strict=True)]
                found.sort(key=lambda hit: (-hit[0], *id_order(self._ids[hit[1]])))
                page = found[offset : offset + limit]
                pages.append([Match(self._ids[at], score, _copy(self._payloads[at])) for score, at in page])
            return pages

    def get(self, ids: Sequence[PointId], /, *, with_vectors: bool = False) -> list[Record | None]:
        """Get the records of ids, in their order; None for an id that is not stored."""
        with self._lock:
            self._open()
            return [self._record(point_id, with_vectors=with_vectors) for point_id in checked_ids(ids)]

    def scan(self, *, where: Filter | None = None, fields: Sequence[str] | None = None) -> Iterator[Record]:
        """Iterate over the records that pass at the call, without those deleted meanwhile, in the order of ids."""
        with self._lock:
            self._open()
            passing = self._passing(where)
            positions = range(len(self._ids)) if passing is None else passing.tolist()
            ids = sorted((self._ids[position] for position in positions), key=id_order)
            names = checked_fields(fields)
        return self._walk(ids, names)

    def delete(self, ids: Sequence[PointId], /) -> None:
        """Delete points; ids that are not stored are ignored."""
        with self._lock:
            self._open()
            for point_id in checked_ids(ids):
                hole = self._row_of.pop(point_id, None)
                if hole is None:
                    continue
                self._unlist(self._ids[hole], self._payloads[hole])
                last_id, last_payload = self._ids.pop(), self._payloads.pop()
                if hole < len(self._ids):  # the last one moves into the hole
                    self._ids[hole], self._payloads[hole], self._row_of[last_id] = last_id, last_payload, hole
                    self._rows[hole] = self._rows[len(self._ids)]

    def count(self, where: Filter | None = None) -> int:
        """Count the points that pass, exactly."""
        with self._lock:
            self._open()
            passing = self._passing(where)
            return len(self._ids) if passing is None else len(passing)

    def get_keyword_fields(self) -> tuple[str, ...]:
        """The payload fields that make up the words of a point."""
        with self._lock:
            self._open()
            return self._keyword_fields

    def set_keyword_fields(self, fields: Sequence[str], /, *, on_tick: Callable[[], None] | None = None) -> bool:
        """Set which payload fields make up the words of a point; returns whether they were others."""
        with self._lock:
            self._open()
            wanted = KeywordFields.given(fields).fields
            if wanted == self._keyword_fields:
                return False
            self._keyword_fields, self._words = wanted, None
            return True

    def search_text(self, words: str, /, *, limit: int, where: Filter | None = None) -> list[Match]:
        """Find the points that hold at least one of some words, ranked by BM25."""
        with self._lock:
            self._open()
            sought, passing = checked_words(words, limit=limit), self._passing(where)
            if self._words is None:
                self._words = WordIndex()
                for point_id, payload in zip(self._ids, self._payloads, strict=True):
                    self._words.put(point_id, point_words(payload, self._keyword_fields))
            scores = self._words.scores(sought)
            among = None if passing is None else {self._ids[at] for at in passing.tolist()}
            best = best_ids(scores, limit=limit, among=among)
            return [Match(each, scores[each], _copy(self._payloads[self._row_of[each]])) for each in best]

    def get_index_metadata(self, name: str, /) -> str | None:
        """Get a text of the index metadata; None if there is none of this name."""
        with self._lock:
            self._open()
            return self._notes.get(checked_name(name))

    def set_index_metadata(self, name: str, text: str, /) -> None:
        """Store a text of the index metadata under a name."""
        with self._lock:
            self._open()
            self._notes[checked_name(name)] = checked_text(name, text)

    def close(self) -> None:
        """Release the memory; the data is gone."""
        with self._lock:
            self._closed = True
            self._notes, self._words = {}, None
            self._ids, self._payloads, self._row_of = [], [], {}
            self._ids_with = {field: {} for field in _LISTED_FIELDS}
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

    def _passing(self, where: Filter | None) -> np.ndarray[Any, np.dtype[np.intp]] | None:
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
        """The ids of all points that may pass, if a listed field narrows them down; else None."""
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
        if self._words is not None:
            self._words.put(point_id, point_words(payload, self._keyword_fields))
        for field, ids_with in self._ids_with.items():
            for value in _texts(payload.get(field)):
                ids_with.setdefault(value, set()).add(point_id)

    def _unlist(self, point_id: PointId, payload: Mapping[str, Any]) -> None:
        if self._words is not None:
            self._words.remove(point_id, point_words(payload, self._keyword_fields))
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
    """Positions of the `count` best rows, and of all others whose rounded score may equal the last one's."""
    scores = products(rows, query)
    if count >= len(scores):
        return np.arange(len(scores))
    last = scores[np.argpartition(scores, -count)[-count]]
    rounding = 2 * rows.shape[1] * np.finfo(np.float32).eps  # of two dot products of rows of unit length, at most
    return np.flatnonzero(scores >= last - rounding)


def _texts(value: object) -> Sequence[str]:
    """The texts of a field's value, as filters see it: itself, or the elements of a list."""
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]


def _copy(value: Any) -> Any:
    """A deep copy of a value, of plain JSON types."""
    if isinstance(value, Mapping):
        return {key: _copy(below) for key, below in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copy(below) for below in value]
    return value


def _closed() -> StoreClosedError:
    return StoreClosedError("the MemoryStore is closed, and its data is gone: make a new one")
