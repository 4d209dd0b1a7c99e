"""The server's side of each call: from a request to the store, and from its answer to what crosses the socket."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from typing_extensions import get_protocol_members

from multimodal_search import protocols
from multimodal_search.ids import id_order
from multimodal_search.protocols import VectorStore
from multimodal_search.stores.local_socket.frames import Array
from multimodal_search.stores.local_socket.session import Session
from multimodal_search.stores.local_socket.values import (
    from_wire,
    match_to_wire,
    record_to_wire,
    records_from_wire,
    vectors_to_wire,
)
from multimodal_search.types import PointId, Record, StoreSchema

OPTIONAL: Mapping[str, type] = {
    each.__name__: each
    for each in (
        protocols.SupportsOptimize,
        protocols.SupportsTuning,
        protocols.SupportsVectorsInSearch,
        protocols.SupportsListFilter,
        protocols.SupportsTextSearch,
        protocols.SupportsHybridSearch,
        protocols.SupportsStoredSchema,
        protocols.SupportsEstimates,
        protocols.SupportsConcurrentUpserts,
        protocols.SupportsFolder,
        protocols.SupportsIndexMetadata,
        protocols.SupportsVerify,
    )
}
"""The optional protocols that a client can have, by their names in the greeting."""


class Answer(NamedTuple):
    """What a call comes to.

    Attributes:
        value: What it returned, or what tells of the arrays and rows.
        arrays: Vectors.
        rows: The elements of a long list.
    """

    value: Any = None
    arrays: Sequence[Array] = ()
    rows: Sequence[Any] = ()


PAGE_RECORDS = 1_000
PAGE_CHARACTERS = 2**20
"""A page of a scan ends after so many records, or so many characters of their texts."""


def supported(store: VectorStore) -> list[str]:
    """The optional protocols that a store has, by name, without reading any of its properties."""
    return [
        name
        for name, protocol in OPTIONAL.items()
        if all(inspect.getattr_static(store, each, None) is not None for each in get_protocol_members(protocol))
    ]


@dataclass(frozen=True, slots=True)
class Call:
    """A call that a client asks for.

    Attributes:
        store: The store.
        session: What is held for the client.
        tick: Sends a sign of life to the client, with arguments of its callback; raises if the client has gone.
        arrays: Vectors that came with it.
        rows: A long list that did.
    """

    store: Any
    session: Session
    tick: Callable[..., None]
    arrays: list[Array]
    rows: list[Any]

    def given(self, value: Any) -> Any:
        """An argument as it was given at the other end."""
        return from_wire(value, self.store)


def method_of(name: str, call: Call, arguments: Sequence[Any]) -> Callable[[], Answer]:
    """The method that a client asks for, to be called without arguments; it raises what the store raises.

    Raises:
        KeyError: There is none of this name.
    """
    return partial(_METHODS[name], call, *arguments)


def _ensure(call: Call, schema: Mapping[str, Any]) -> Answer:
    return Answer(call.store.ensure(StoreSchema.from_dict(schema)).to_dict())


def _stored_schema(call: Call) -> Answer:
    schema = call.store.stored_schema()
    return Answer(None if schema is None else schema.to_dict())


def _upsert(call: Call) -> Answer:
    call.store.upsert(records_from_wire(call.rows, call.store), call.arrays[0])
    return Answer()


def _delete(call: Call, ids: Any) -> Answer:
    call.store.delete(call.given(ids))
    return Answer()


def _search(call: Call, name: str, limit: Any, offset: Any, where: Any) -> Answer:
    if name not in _SEARCHES:
        raise ValueError("no search of a store")
    search = getattr(call.store, name)
    pages = search(call.arrays[0], limit=call.given(limit), offset=call.given(offset), where=call.given(where))
    found = [match for page in pages for match in page]
    has_vector, vectors = vectors_to_wire(found) if name == "search_with_vectors" else ([], [])
    return Answer((list(map(len, pages)), has_vector), vectors, list(map(match_to_wire, found)))


def _search_text(call: Call, words: Any, limit: Any, where: Any) -> Answer:
    page = call.store.search_text(call.given(words), limit=call.given(limit), where=call.given(where))
    return Answer(rows=list(map(match_to_wire, page)))


def _search_hybrid(call: Call, words: Any, limit: Any, where: Any) -> Answer:
    vector, given = call.arrays[0] if call.arrays else None, call.given
    nearest, matches = call.store.search_hybrid(vector, given(words), limit=given(limit), where=given(where))
    return Answer(len(nearest), rows=[*nearest, *matches])


def _get(call: Call, ids: Any, with_vectors: Any) -> Answer:
    records = call.store.get(call.given(ids), with_vectors=call.given(with_vectors))
    has_vector, vectors = vectors_to_wire(records)
    return Answer(has_vector, vectors, list(map(record_to_wire, records)))


def _scan(call: Call, where: Any, fields: Any, after: PointId | None, ended: Sequence[int]) -> Answer:
    for number in ended:
        call.session.end(number)
    records = call.store.scan(where=call.given(where), fields=call.given(fields))
    if after is not None:
        place = id_order(after)
        records = (record for record in records if id_order(record.id) > place)
    return _page(call, records)


def _scan_on(call: Call, number: int) -> Answer:
    records = call.session.take(number)
    return Answer(False) if records is None else _page(call, records)


def _page(call: Call, records: Iterator[Record]) -> Answer:
    page, size = [], 0
    for record in records:
        page.append(record_to_wire(record))
        size += sum(map(_characters, record.payload.values()))
        if len(page) == PAGE_RECORDS or size >= PAGE_CHARACTERS:
            return Answer(call.session.keep(records), rows=page)
    return Answer(rows=page)


def _characters(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    return len(json.dumps(value)) if isinstance(value, (list, dict)) else 8


def _count(call: Call, where: Any) -> Answer:
    return Answer(call.store.count(call.given(where)))


def _attribute(call: Call, name: str) -> Answer:
    if name not in _ATTRIBUTES:
        raise ValueError("no attribute of a store")
    value = getattr(call.store, name)
    return Answer(str(value) if name == "folder" and value is not None else value)


def _optimize(call: Call) -> Answer:
    return Answer(call.store.optimize(on_tick=call.tick))


def _tuning(call: Call) -> Answer:
    report = call.store.tuning
    return Answer(None if report is None else report.to_dict())


def _tune(call: Call, kinds: list[str], target: Any) -> Answer:
    queries = dict(zip(kinds, call.arrays, strict=True))
    return Answer(call.store.tune(queries, call.given(target), on_tick=call.tick).to_dict())


def _get_keyword_fields(call: Call) -> Answer:
    return Answer(call.store.get_keyword_fields())


def _set_keyword_fields(call: Call, fields: Any) -> Answer:
    return Answer(call.store.set_keyword_fields(call.given(fields), on_tick=call.tick))


def _get_index_metadata(call: Call, name: Any) -> Answer:
    return Answer(call.store.get_index_metadata(call.given(name)))


def _set_index_metadata(call: Call, name: Any, text: Any) -> Answer:
    call.store.set_index_metadata(call.given(name), call.given(text))
    return Answer()


def _state(call: Call, name: str) -> Answer:
    state = call.store.verify(on_tick=call.tick) if name == "verify" else call.store.status()
    changed = None if state.changed is None else state.changed.isoformat()
    return Answer((state.size_bytes, changed, state.problems, state.advice, state.bytes_read))


_SEARCHES = frozenset(("search", "search_exactly", "search_with_vectors"))
_ATTRIBUTES = frozenset(("needs_optimize", "needs_tuning", "counts_exactly", "max_concurrent_upserts", "folder"))

_METHODS: Mapping[str, Callable[..., Answer]] = {
    "ensure": _ensure,
    "upsert": _upsert,
    "search": _search,
    "get": _get,
    "scan": _scan,
    "scan on": _scan_on,
    "delete": _delete,
    "count": _count,
    "attribute": _attribute,
    "optimize": _optimize,
    "tuning": _tuning,
    "tune": _tune,
    "get keyword fields": _get_keyword_fields,
    "set keyword fields": _set_keyword_fields,
    "search text": _search_text,
    "search hybrid": _search_hybrid,
    "stored schema": _stored_schema,
    "get index metadata": _get_index_metadata,
    "set index metadata": _set_index_metadata,
    "state": _state,
}
