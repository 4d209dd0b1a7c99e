"""`connect_store`: a store that another process serves, with the optional protocols that it has there."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np

from multimodal_search._files import checked_path
from multimodal_search.errors import StoreUnavailableError
from multimodal_search.report import TuningReport
from multimodal_search.stores.arguments import check_schema, checked_records
from multimodal_search.stores.local_socket.connections import Connections
from multimodal_search.stores.local_socket.frames import Array
from multimodal_search.stores.local_socket.remote import Answer, Remote
from multimodal_search.stores.local_socket.values import (
    ListFilter,
    filter_to_wire,
    records_to_wire,
    sequence_to_wire,
    to_wire,
    vectors_from_wire,
)
from multimodal_search.types import Filter, FloatArray, Match, PointId, Record, StoreSchema, StoreState


class SocketStore(Remote):
    """A store that another process serves, over a local socket; made by `connect_store`.

    It has the optional protocols that the store has there, but not filters that are objects of the store's own engine.
    Its methods may be called from several threads at once. Where a connection breaks, calls are made once more on a new
    one, but `optimize`, `tune`, `verify` and `set_keyword_fields`; `upsert` and `delete` do twice what they do once.
    """

    def __init__(self, connections: Connections, shown: str) -> None:
        super().__init__(connections, shown)
        self._abandoned = deque[int]()  # scans that nobody reads on

    def ensure(self, schema: StoreSchema, /) -> StoreSchema:
        """Have the store created or opened; returns the schema of what is stored."""
        check_schema(schema)
        return StoreSchema.from_dict(self._ask("ensure", schema.to_dict()).header)

    def upsert(self, records: Sequence[Record], vectors: FloatArray, /) -> None:
        """Insert or replace records."""
        checked_records(records)
        self._ask("upsert", arrays=[_as_array(vectors)], rows=records_to_wire(records))

    def search(
        self, vectors: FloatArray, /, *, limit: int, offset: int = 0, where: Filter | None = None
    ) -> list[list[Match]]:
        """Find the points nearest to each vector."""
        return self._search("search", vectors, limit, offset, where)

    def _search(
        self, name: str, vectors: FloatArray, limit: int, offset: int, where: Filter | None
    ) -> list[list[Match]]:
        arguments = name, to_wire(limit), to_wire(offset), filter_to_wire(where)
        (lengths, has_vector), arrays, rows = self._ask("search", *arguments, arrays=[_as_array(vectors)])
        if has_vector:
            found = [
                Match(*row, vector=vector)
                for row, vector in zip(rows, vectors_from_wire(has_vector, arrays), strict=True)
            ]
        else:
            found = [Match(*row) for row in rows]
        match = iter(found)
        return [list(islice(match, length)) for length in lengths]

    def get(self, ids: Sequence[PointId], /, *, with_vectors: bool = False) -> list[Record | None]:
        """Get the records of ids, in their order; None for an id that is not stored."""
        has_vector, arrays, rows = self._ask("get", sequence_to_wire(ids), to_wire(with_vectors))
        vectors = vectors_from_wire(has_vector, arrays)
        return [None if row is None else Record(*row, vector=vector) for row, vector in zip(rows, vectors, strict=True)]

    def scan(self, *, where: Filter | None = None, fields: Sequence[str] | None = None) -> Iterator[Record]:
        """Iterate over all records that pass, in the order of ids, a page at a time."""
        arguments = filter_to_wire(where), sequence_to_wire(fields)
        return self._walk(self._begin(arguments, None), arguments)

    def _begin(self, arguments: tuple[Any, Any], after: PointId | None) -> Answer:
        ended = [self._abandoned.popleft() for _ in range(len(self._abandoned))]
        return self._ask("scan", *arguments, after, ended)

    def _walk(self, answer: Answer, arguments: tuple[Any, Any]) -> Iterator[Record]:
        number: int | None = answer.header
        try:
            while True:
                for key, payload in answer.rows:
                    if self._connections.is_closed:
                        raise self._connections.closed()
                    yield Record(key, payload)
                if number is None:
                    return
                scan, number = number, None
                answer = self._go_on(scan) or self._begin(arguments, after=answer.rows[-1][0])
                number = answer.header
        finally:
            if number is not None:
                self._abandoned.append(number)

    def _go_on(self, scan: int) -> Answer | None:
        """The next page of a scan; None if the server does not have it any more, or its answer is lost."""
        try:
            answer = self._ask("scan on", scan, repeats=False)
        except StoreUnavailableError:
            return None
        return None if answer.header is False else answer

    def delete(self, ids: Sequence[PointId], /) -> None:
        """Delete points; ids that are not stored are ignored."""
        self._ask("delete", sequence_to_wire(ids))

    def count(self, where: Filter | None = None) -> int:
        """Count the points that pass."""
        return int(self._ask("count", filter_to_wire(where)).header)

    def _attribute(self, name: str) -> Any:
        return self._ask("attribute", name).header


class _Optimize(SocketStore):
    @property
    def needs_optimize(self) -> bool:
        """Whether enough has changed since the last rebuild."""
        return bool(self._attribute("needs_optimize"))

    def optimize(self, *, on_tick: Callable[[], None] | None = None) -> bool:
        """Rebuild the search index where the store is; if this process ends, so does that."""
        return bool(self._ask("optimize", on_tick=on_tick, repeats=False).header)


class _Tuning(SocketStore):
    @property
    def tuning(self) -> TuningReport | None:
        """What the last `tune` has reached."""
        report = self._ask("tuning").header
        return None if report is None else TuningReport(**report)

    @property
    def needs_tuning(self) -> bool:
        """Whether `tune` was never called, or with many more or fewer points."""
        return bool(self._attribute("needs_tuning"))

    def tune(
        self,
        queries: Mapping[str, FloatArray],
        target: float | None = None,
        *,
        on_tick: Callable[[], None] | None = None,
    ) -> TuningReport:
        """Measure recall@10 where the store is, and search as fast from now on as a target allows."""
        arrays = [_as_array(rows) for rows in queries.values()]
        answer = self._ask("tune", list(queries), to_wire(target), arrays=arrays, on_tick=on_tick, repeats=False)
        return TuningReport(**answer.header)

    def search_exactly(
        self, vectors: FloatArray, /, *, limit: int, offset: int = 0, where: Filter | None = None
    ) -> list[list[Match]]:
        """As `search`, comparing every point that passes."""
        return self._search("search_exactly", vectors, limit, offset, where)


class _VectorsInSearch(SocketStore):
    def search_with_vectors(
        self, vectors: FloatArray, /, *, limit: int, offset: int = 0, where: Filter | None = None
    ) -> list[list[Match]]:
        """As `search`, with the vectors of matches."""
        return self._search("search_with_vectors", vectors, limit, offset, where)


class _ListFilter(SocketStore):
    def is_list(self, field: str, /) -> Filter:
        """A filter that passes where a field is a list of two values or more."""
        return ListFilter(field)


class _TextSearch(SocketStore):
    def get_keyword_fields(self) -> tuple[str, ...]:
        """The payload fields that make up the words of a point."""
        return tuple(self._ask("get keyword fields").header)

    def set_keyword_fields(self, fields: Sequence[str], /, *, on_tick: Callable[[], None] | None = None) -> bool:
        """Set these fields, and make the words of all points that have others anew."""
        return bool(self._ask("set keyword fields", sequence_to_wire(fields), on_tick=on_tick, repeats=False).header)

    def search_text(self, words: str, /, *, limit: int, where: Filter | None = None) -> list[Match]:
        """Find the points that hold at least one of some words, ranked by BM25."""
        rows = self._ask("search text", to_wire(words), to_wire(limit), filter_to_wire(where)).rows
        return [Match(*row) for row in rows]


class _HybridSearch(_TextSearch):
    def search_hybrid(
        self, vector: FloatArray | None, words: str, /, *, limit: int, where: Filter | None = None
    ) -> tuple[list[tuple[PointId, float]], list[tuple[PointId, float]]]:
        """The ids and scores of the matches of `search` for one vector, and of `search_text`."""
        arrays = [] if vector is None else [_as_array(vector)]
        length, _, rows = self._ask(
            "search hybrid", to_wire(words), to_wire(limit), filter_to_wire(where), arrays=arrays
        )
        found = [(point_id, score) for point_id, score in rows]
        return found[:length], found[length:]


class _StoredSchema(SocketStore):
    def stored_schema(self) -> StoreSchema | None:
        """The schema of what is stored; None where nothing is."""
        schema = self._ask("stored schema").header
        return None if schema is None else StoreSchema.from_dict(schema)


class _Estimates(SocketStore):
    @property
    def counts_exactly(self) -> bool:
        """Whether `count` is exact."""
        return bool(self._attribute("counts_exactly"))


class _ConcurrentUpserts(SocketStore):
    @property
    def max_concurrent_upserts(self) -> int:
        """How many calls of `upsert` an indexing run makes at once, at most."""
        return int(self._attribute("max_concurrent_upserts"))


class _Folder(SocketStore):
    @property
    def folder(self) -> Path | None:
        """The folder that the store keeps its data in."""
        folder = self._attribute("folder")
        return None if folder is None else Path(folder)


class _IndexMetadata(SocketStore):
    def get_index_metadata(self, name: str, /) -> str | None:
        """The text under a name; None if there is none."""
        return cast("str | None", self._ask("get index metadata", to_wire(name)).header)

    def set_index_metadata(self, name: str, text: str, /) -> None:
        """Store a text under a name, in place of the one before."""
        self._ask("set index metadata", to_wire(name), to_wire(text))


class _Verify(SocketStore):
    def status(self) -> StoreState:
        """Its size, and problems that are known."""
        return self._state("status", None)

    def verify(self, *, on_tick: Callable[[int], None] | None = None) -> StoreState:
        """Read everything that is stored, where it is, and find what is wrong with it."""
        return self._state("verify", on_tick)

    def _state(self, name: str, on_tick: Callable[[int], None] | None) -> StoreState:
        answer = self._ask("state", name, on_tick=on_tick, repeats=name == "status")
        size_bytes, changed, problems, advice, bytes_read = answer.header
        return StoreState(
            size_bytes=size_bytes,
            changed=None if changed is None else datetime.fromisoformat(changed),
            problems=tuple(problems),
            advice=tuple(advice),
            bytes_read=bytes_read,
        )


_PARTS: Mapping[str, type[SocketStore]] = {
    "SupportsOptimize": _Optimize,
    "SupportsTuning": _Tuning,
    "SupportsVectorsInSearch": _VectorsInSearch,
    "SupportsListFilter": _ListFilter,
    "SupportsHybridSearch": _HybridSearch,
    "SupportsTextSearch": _TextSearch,
    "SupportsStoredSchema": _StoredSchema,
    "SupportsEstimates": _Estimates,
    "SupportsConcurrentUpserts": _ConcurrentUpserts,
    "SupportsFolder": _Folder,
    "SupportsIndexMetadata": _IndexMetadata,
    "SupportsVerify": _Verify,
}
"""What a client has for each optional protocol of the store."""


@lru_cache
def _class_of(protocols: frozenset[str]) -> type[SocketStore]:
    parts = tuple(part for name, part in _PARTS.items() if name in protocols)
    return type("SocketStore", parts or (SocketStore,), {"__module__": __name__, "__doc__": SocketStore.__doc__})


def connect_store(place: str | os.PathLike[str]) -> SocketStore:
    """Connect to the store that another process of this user serves in a folder, by `serve_store`.

    Args:
        place: The folder.

    Returns:
        A store with the optional protocols of the one that is served. `close` disconnects it, and leaves that open.

    Raises:
        StoreUnavailableError: Nobody serves it, or does not answer.
        StoreError: Who does is another user, or speaks another version of the protocol.

    Examples:
        >>> with serve_store(MemoryStore(), "photos.index"):
        ...     isinstance(connect_store("photos.index"), SupportsTextSearch)
        True
    """
    connections = Connections(checked_path(place, "connect_store").absolute())
    hello = connections.greet()
    return _class_of(frozenset(hello["protocols"]))(connections, hello["store"])


def _as_array(vectors: object) -> Array:
    try:
        return np.asarray(vectors)
    except (ValueError, TypeError):  # rows of different lengths
        return np.empty(0, object)
