"""Qdrant's engine in this process, on a folder: no server, one process at a time."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from functools import cache
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from multimodal_search._files import checked_path
from multimodal_search._payload import check_stored
from multimodal_search._text import brief
from multimodal_search.errors import ContentError, StoreError
from multimodal_search.filters.nodes import DatetimeRange, NumberRange, top_level_path
from multimodal_search.filters.parsing import parse_filter
from multimodal_search.ids import as_point_id
from multimodal_search.stores.arguments import checked_name, checked_text, checked_words, rows_to_search, rows_to_store
from multimodal_search.stores.qdrant_edge.checksums import (
    deletion_entry,
    kept_as_they_are,
    payload_bytes,
    point_entry,
    vector_of,
)
from multimodal_search.stores.qdrant_edge.engine import engine
from multimodal_search.stores.qdrant_edge.folder import (
    INDEX_FROM,
    EdgeFolder,
    closed,
    open_folder,
    stored_schema,
)
from multimodal_search.stores.qdrant_edge.notes import get_index_metadata, set_index_metadata
from multimodal_search.stores.qdrant_edge.text_index import index_text, text_request
from multimodal_search.stores.qdrant_edge.verify import status_of, verify
from multimodal_search.stores.qdrant_shared.filters import Conditions, Translation, payload_selector, pick
from multimodal_search.stores.qdrant_shared.payload_indexes import any_value
from multimodal_search.stores.ranking import point_id, ranked_pages
from multimodal_search.stores.scanning import search_text_by_scanning
from multimodal_search.types import Filter, FloatArray, Match, PointId, Record, StoreSchema, StoreState

if TYPE_CHECKING:
    from qdrant_edge import Filter as EdgeFilter
    from qdrant_edge import ScoredPoint

# The engine holds the interpreter's lock during a call, so that no other thread moves: calls are kept short.
_WRITE = 500
_WRITE_BYTES = 4 * 2**20  # of a write, unless a single point has more: the space that it needs is looked for first
_READ = 1_000
_QUERIES = 16


class QdrantEdgeStore:
    """Keeps vectors in a folder, through the engine of Qdrant inside this process.

    What `upsert` and `delete` acknowledged is there again after the process was killed; a loss of power can cost the
    last moments. A folder belongs to one process at a time, and there several stores on it share it. It is made by
    `ensure` if it does not exist, and can be moved or copied while no process has it open. Up to 10,000 points are
    searched exactly; of more, `optimize` builds an HNSW graph, in a child process. `where` also takes a
    `qdrant_edge.Filter`, on its own or within a filter.

    Args:
        path: The folder.
        index_payload: Whether filters on fields of the user's own get payload indexes, from 10,000 points on: each is
            made at the first filter that names its field, in a fraction of a second.

    Raises:
        MissingExtraError: The extra `edge` is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], *, index_payload: bool = True) -> None:
        self._edge = engine()
        self._path = checked_path(path, "QdrantEdgeStore")
        self._index_payload = index_payload
        self._open: EdgeFolder | None = None
        self._closed = False
        self._opening = threading.Lock()

    @property
    def path(self) -> Path:
        """The folder."""
        return self._path

    @property
    def folder(self) -> Path:
        """The folder, which indexing leaves out."""
        return self._path

    def ensure(self, schema: StoreSchema, /) -> StoreSchema:
        """Open the folder, or create it for `schema`; returns what it holds.

        Raises:
            StoreLockedError: Another process has it open.
            StoreError: It holds something else, or is damaged.
        """
        with self._opening:
            if self._closed:
                raise closed(self._path)
            if self._open is None:
                self._open = open_folder(self._path, schema)
        return self._folder().schema

    def stored_schema(self) -> StoreSchema | None:
        """What the folder holds; None where it holds no index, or does not exist.

        Raises:
            StoreError: It holds something else, or is damaged.
        """
        with self._opening:
            if self._closed:
                raise closed(self._path)
            return stored_schema(self._path) if self._open is None else self._open.schema

    def upsert(self, records: Sequence[Record], vectors: FloatArray, /) -> None:
        """Insert or replace records."""
        folder = self._folder()
        rows = rows_to_store(records, vectors, folder.schema)
        last = {as_point_id(record.id): number for number, record in enumerate(records)}
        row_bytes = 4 * folder.schema.dimension
        waiting, size = list[tuple[PointId, int, Record, bytes | None]](), 0
        for key, number in last.items():
            record = records[number]
            check_stored(record.payload, key)
            payload = payload_bytes(record.payload)
            bytes_needed = row_bytes + len(payload or b"")
            if waiting and (len(waiting) == _WRITE or size + bytes_needed > _WRITE_BYTES):
                self._write_points(folder, rows, waiting, size)
                waiting, size = [], 0
            waiting.append((key, number, record, payload))
            size += bytes_needed
        if waiting:
            self._write_points(folder, rows, waiting, size)

    def search(
        self, vectors: FloatArray, /, *, limit: int, offset: int = 0, where: Filter | None = None
    ) -> list[list[Match]]:
        """The nearest points: exactly, or once optimized, with HNSW."""
        folder = self._folder()
        queries = rows_to_search(vectors, folder.schema, limit=limit, offset=offset)
        engine_filter, _ = self._translate(folder, where)
        edge = self._edge
        # ACORN also walks through neighbours that do not pass: without it, a filter that one point in five passes
        # makes holes in the graph, and 118,000 points give 73 to 77 of 100 nearest ones, with it 99.97.
        acorn = None if engine_filter is None else edge.AcornSearchParams(enable=True, max_selectivity=1.0)
        parameters = None if acorn is None else edge.SearchParams(acorn=acorn)

        def fetch(numbers: Sequence[int], count: int, with_payload: bool) -> list[list[ScoredPoint]]:
            requests = [
                edge.QueryRequest(
                    query=edge.Query.Nearest(queries[number]),
                    limit=count,
                    with_payload=with_payload,
                    filter=engine_filter,
                    params=parameters,
                )
                for number in numbers
            ]
            found: list[list[ScoredPoint]] = []
            for start in range(0, len(requests), _QUERIES):
                batch = edge.QueryBatchRequest(requests[start : start + _QUERIES])
                found += folder.run(methodcaller("query_batch", batch))
            return found

        return ranked_pages(fetch, self._payloads_of, queries=len(queries), limit=limit, offset=offset)

    def get(self, ids: Sequence[PointId], /, *, with_vectors: bool = False) -> list[Record | None]:
        """The records of ids, in their order."""
        folder = self._folder()
        wanted = [as_point_id(each) for each in ids]
        found: dict[PointId, Record] = {}
        for start in range(0, len(wanted), _READ):
            chunk = wanted[start : start + _READ]
            for point in folder.run(methodcaller("retrieve", chunk, True, with_vectors)):
                vector = vector_of(point) if with_vectors else None
                if with_vectors and vector is None:
                    raise StoreError(
                        f"the point {point_id(point)} in {self._path} has lost its vector: its files are damaged. Run "
                        "verify to see what else is, and index it again"
                    )
                found[point_id(point)] = Record(point_id(point), point.payload or {}, vector=vector)
        return [found.get(each) for each in wanted]

    def scan(self, *, where: Filter | None = None, fields: Sequence[str] | None = None) -> Iterator[Record]:
        """All records that pass, in the order of ids; `fields` are names of the payload's own fields."""
        folder = self._folder()
        engine_filter, ids = self._translate(folder, where)
        # The engine looks at all of the ids that a filter lists for every page: the more, the fewer pages.
        return self._walk(folder, engine_filter, fields, page=max(_READ, ids // 10))

    def delete(self, ids: Sequence[PointId], /) -> None:
        """Remove points."""
        folder = self._folder()
        wanted = [as_point_id(each) for each in ids]
        for start in range(0, len(wanted), _READ):
            chunk = wanted[start : start + _READ]
            operation = self._edge.UpdateOperation.delete_points(chunk)
            folder.write(methodcaller("update", operation), b"".join(map(deletion_entry, chunk)))

    def count(self, where: Filter | None = None) -> int:
        """How many points pass."""
        folder = self._folder()
        engine_filter, _ = self._translate(folder, where)
        request = self._edge.CountRequest(exact=True, filter=engine_filter)
        return folder.run(lambda shard: shard.count(request))

    def search_text(self, words: str, /, *, field: str, limit: int, where: Filter | None = None) -> list[Match]:
        """The points that hold some words, by BM25, from an index by words that the first search of a field builds.

        A field that has an index of another kind, as `filename` has, keeps that, and is read through at each search.
        What was replaced or deleted since `optimize` still counts among how rare a word is, until the next one.
        """
        folder = self._folder()
        sought, path = checked_words(words, limit=limit), top_level_path(field)
        engine_filter, _ = self._translate(folder, where)
        if path is None or not index_text(folder, path):
            return search_text_by_scanning(self, sought, field=field, limit=limit, where=where)

        def fetch(_: Sequence[int], count: int, with_payload: bool) -> list[list[ScoredPoint]]:
            request = text_request(
                sought, path=path, limit=count, engine_filter=engine_filter, with_payload=with_payload
            )
            return [folder.run(methodcaller("query", request))]

        return ranked_pages(fetch, self._payloads_of, queries=1, limit=limit, offset=0, cosines=False)[0]

    def get_index_metadata(self, name: str, /) -> str | None:
        """The text of a note; None if there is none of this name."""
        return get_index_metadata(self._folder(), checked_name(name))

    def set_index_metadata(self, name: str, text: str, /) -> None:
        """Keep a text under a name, in a file of the folder."""
        set_index_metadata(self._folder(), checked_name(name), checked_text(name, text))

    @property
    def needs_optimize(self) -> bool:
        """Whether 10,000 points or more are searched without the help of a graph, or were replaced or deleted."""
        folder = self._folder()
        info = folder.run(lambda shard: shard.info())
        # The engine counts replaced and deleted vectors among the indexed ones; what was written tells the rest.
        changed = max(info.points_count - info.indexed_vectors_count, folder.written)
        return info.points_count >= INDEX_FROM and changed >= INDEX_FROM

    def optimize(self, *, on_tick: Callable[[], None] | None = None) -> bool:
        """Build the HNSW graph, in a child process; about 20 s for 118,000 points of 128 dimensions on two cores.

        Raises:
            StoreError: It failed; the data is as before.
        """
        return self._folder().optimize(on_tick)

    def status(self) -> StoreState:
        """Its size, and what was found missing when it was opened; quick."""
        return status_of(self._folder())

    def verify(self, *, on_tick: Callable[[int], None] | None = None) -> StoreState:
        """Compare every byte with checksums that were kept when it was written; some seconds for 118,000 points."""
        return verify(self._folder(), self.count, on_tick or (lambda points: None))

    def close(self) -> None:
        """Write everything out, and let other processes have the folder."""
        with self._opening:
            folder, self._open, self._closed = self._open, None, True
        if folder is not None:
            folder.release()

    def __repr__(self) -> str:
        return f"QdrantEdgeStore({str(self._path)!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a QdrantEdgeStore cannot be pickled or copied: its folder belongs to one process")

    def _folder(self) -> EdgeFolder:
        folder = self._open
        if folder is None:
            raise closed(self._path) if self._closed else StoreError("call ensure(schema) before anything else")
        return folder

    def _payloads_of(self, ids: Sequence[PointId]) -> dict[PointId, dict[str, Any]]:
        return {record.id: dict(record.payload) for record in self.get(ids) if record is not None}

    def _write_points(
        self,
        folder: EdgeFolder,
        rows: FloatArray,
        points: Sequence[tuple[PointId, int, Record, bytes | None]],
        size: int,
    ) -> None:
        vectors = rows[[number for _, number, _, _ in points]]
        made, entries = [], []
        kept = kept_as_they_are(vectors)
        for at, (vector, (key, _, record, payload)) in enumerate(zip(vectors.tolist(), points, strict=True)):
            point = _point(self._edge, key, vector, record)
            made.append(point)
            text = payload_bytes(point.payload) if payload is None else payload
            entries.append(point_entry(key, vectors[at], text or b"", has_vector=kept[at]))
        operation = self._edge.UpdateOperation.upsert_points(made)
        folder.write(methodcaller("update", operation), b"".join(entries), size=size)

    def _translate(self, folder: EdgeFolder, where: Filter | None) -> tuple[EdgeFilter | None, int]:
        """The engine's filter, and how many ids it lists."""
        if where is None or isinstance(where, self._edge.Filter):
            return where, 0
        node = parse_filter(where, native=self._edge.Filter)

        def fetch_candidates(filters: list[EdgeFilter], field: str) -> Iterator[Record]:
            return self._walk(folder, filters[0], [field])

        translation = Translation(
            words=_conditions(), kinds=folder.indexes.kinds, fetch_candidates=fetch_candidates, most_ids=sys.maxsize
        )
        if self._index_payload:
            for at, kind in folder.indexes.lacking(node).items():
                folder.index_payload(at, kind, translation.filter_of(any_value(at, kind)))
        return translation.filter_of(node), translation.ids

    def _walk(
        self, folder: EdgeFolder, engine_filter: EdgeFilter | None, fields: Sequence[str] | None, *, page: int = _READ
    ) -> Iterator[Record]:
        edge, selector = self._edge, payload_selector(fields)
        position, more = None, True
        while more:
            request = edge.ScrollRequest(offset=position, limit=page, filter=engine_filter, with_payload=selector)
            if self._closed:
                raise closed(self._path)
            points, position = folder.run(methodcaller("scroll", request))
            more = position is not None
            for point in points:
                yield Record(point_id(point), pick(point.payload, fields))


def _point(edge: Any, key: PointId, vector: list[float], record: Record) -> Any:
    try:
        return edge.Point(key, vector, dict(record.payload))
    except (TypeError, ValueError) as error:
        raise ContentError(
            f"the payload of {key!r} holds something that JSON or UTF-8 cannot: {brief(dict(record.payload), 200)}"
        ) from error


def _time_text(moment: datetime) -> str:
    """For the engine, which reads no offsets that have seconds, as local times before 1900 do."""
    try:
        return moment.astimezone(timezone.utc).isoformat()
    except OverflowError:  # in the first or last hours that there are
        return moment.replace(tzinfo=timezone.utc).isoformat()


@cache
def _conditions() -> Conditions:
    edge = engine()

    def on(path: str, **condition: Any) -> Any:
        return edge.FieldCondition(path, **condition)

    def between(path: str, node: NumberRange) -> Any:
        return on(path, range=edge.RangeFloat(gte=node.gte, gt=node.gt, lte=node.lte, lt=node.lt))

    def during(path: str, node: DatetimeRange) -> Any:
        bounds = ((name, getattr(node, name)) for name in ("gte", "gt", "lte", "lt"))
        texts = {name: None if bound is None else _time_text(bound) for name, bound in bounds}
        return on(path, range=edge.RangeDateTime(**texts))

    def equals(path: str, value: str | bool | int) -> Any:
        # The binding takes Python's bools for the integers 0 and 1; it knows NumPy's for what they are.
        return on(path, match=edge.MatchValue(np.bool_(value) if isinstance(value, bool) else value))

    return Conditions(
        native=edge.Filter,
        must=lambda parts: edge.Filter(must=parts),
        should=lambda parts: edge.Filter(should=parts),
        must_not=lambda parts: edge.Filter(must_not=parts),
        equals=equals,
        one_of=lambda path, values: on(path, match=edge.MatchAny(values)),
        between=between,
        during=during,
        starts_with=lambda path, prefix: on(path, match=edge.MatchPrefix(prefix)),
        contains=lambda path, text: on(path, match=edge.MatchSubstring(text)),
        is_empty=edge.IsEmptyCondition,
        has_id=lambda ids: edge.HasIdCondition(set(ids)),
    )
