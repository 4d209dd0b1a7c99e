"""Arguments and answers as they cross the socket: what JSON can hold.

Payloads are JSON as they are. Arguments may be anything, as the store has the words to refuse them with: what JSON
cannot hold is sent as a mapping of one entry, whose key says what it is, and ordinary mappings as one of those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

import numpy as np

from multimodal_search._bounds import MAX_DEPTH, is_iterable, is_small_and_flat
from multimodal_search._payload import check_stored
from multimodal_search._text import brief
from multimodal_search.errors import ContentError, QueryError
from multimodal_search.filters.nodes import Exactly
from multimodal_search.protocols import SupportsListFilter, VectorStore
from multimodal_search.types import Match, Record

_SCALARS = frozenset((str, int, float, bool, type(None)))


@dataclass(frozen=True, slots=True)
class ListFilter:
    """What `SupportsListFilter.is_list` gives at this end: the field, for which the store makes the filter."""

    field: str


def to_wire(value: object, depth: int = 0) -> Any:
    """An argument as JSON holds it."""
    if type(value) in _SCALARS:
        return value
    if depth > MAX_DEPTH + 8:  # no store takes it: its end is not looked at
        return None
    match value:
        case Exactly():
            return {"exactly": str.__str__(value)}
        case np.generic():
            return to_wire(value.item(), depth + 1) if type(value.item()) in _SCALARS else _opaque(value)
        case str():
            return str.__str__(value)
        case int():
            return int(value)
        case float():
            return float(value)
        case list() | range():
            return [to_wire(each, depth + 1) for each in value]
        case tuple():
            return {"tuple": [to_wire(each, depth + 1) for each in value]}
        case set() | frozenset():
            return {"set": [to_wire(each, depth + 1) for each in value]}
        case Mapping():
            return {"mapping": [[to_wire(each, depth + 1) for each in entry] for entry in value.items()]}
        case datetime():
            return {"datetime": value.isoformat()}
        case date():
            return {"date": value.isoformat()}
        case UUID():
            return {"uuid": str(value)}
        case ListFilter(field):
            return {"list filter": field}
    return _opaque(value)


def _opaque(value: object) -> dict[str, Any]:
    kind = type(value)
    return {"opaque": [kind.__module__, kind.__qualname__, kind.__name__, brief(value, 200)]}


def from_wire(value: Any, store: VectorStore) -> Any:
    """An argument as it was given at the other end; what cannot be sent, as something that looks like it in messages.

    Raises:
        ValueError, TypeError, KeyError: It is none.
    """
    if isinstance(value, list):
        return [from_wire(each, store) for each in value]
    if not isinstance(value, dict):
        return value
    ((kind, held),) = value.items()
    match kind:
        case "mapping":
            return {from_wire(key, store): from_wire(each, store) for key, each in held}
        case "exactly":
            return Exactly(held)
        case "tuple":
            return tuple(from_wire(each, store) for each in held)
        case "set":
            return frozenset(from_wire(each, store) for each in held)
        case "datetime":
            return datetime.fromisoformat(held)
        case "date":
            return date.fromisoformat(held)
        case "uuid":
            return UUID(held)
        case "list filter" if isinstance(store, SupportsListFilter):
            return store.is_list(held)
        case "opaque":
            module, qualname, name, shown = map(str, held)
            looks = {"__module__": module, "__qualname__": qualname, "__repr__": lambda _: shown}
            return type(name, (), looks)()
    raise ValueError("no argument")


def filter_to_wire(where: object) -> Any:
    """A filter.

    Raises:
        QueryError: It is, or holds, a filter object of the store's engine, which cannot be sent.
    """
    wire = None if where is None else to_wire(where)
    if foreign := _foreign(wire):
        raise QueryError(
            f"the filter holds a {foreign}, which cannot be sent to the process that has the store open: write it as a "
            "mapping, or search in that process"
        )
    return wire


def _foreign(wire: Any) -> str | None:
    """The class of something in a filter that neither Python nor NumPy has."""
    if isinstance(wire, list):
        return next(filter(None, map(_foreign, wire)), None)
    if not isinstance(wire, dict):
        return None
    ((kind, held),) = wire.items()
    if kind == "opaque":
        return None if held[0] in ("builtins", "numpy") else f"{held[0]}.{held[1]}"
    return _foreign(held) if kind in ("mapping", "tuple", "set") else None


def sequence_to_wire(values: object) -> Any:
    """Ids, or names of fields: whatever gives them one by one, unless it is a text."""
    if is_iterable(values) and not isinstance(values, (str, bytes)):
        return [each if type(each) in _SCALARS else to_wire(each) for each in values]
    return to_wire(values)


def records_to_wire(records: Iterable[Record]) -> list[list[Any]]:
    """Records to store, without their vectors.

    Raises:
        ContentError: A payload holds what JSON cannot hold, or is too large; the message names the record.
    """
    return [[to_wire(record.id), _payload_to_wire(record.payload, record.id)] for record in records]


def _payload_to_wire(payload: Any, key: object) -> Any:
    if is_small_and_flat(payload):
        return payload
    check_stored(payload, key)
    return _plain(payload, key)


def _plain(value: Any, key: object) -> Any:
    if type(value) in _SCALARS:
        return value
    match value:
        case str():
            return str.__str__(value)
        case int():
            return int(value)
        case float():
            return float(value)
        case Mapping() if all(isinstance(name, str) for name in value):
            return {str.__str__(name): _plain(below, key) for name, below in value.items()}
        case list() | tuple():
            return [_plain(below, key) for below in value]
    raise ContentError(
        f"the payload of {brief(key)} holds a value that JSON or UTF-8 cannot represent: {brief(value, 200)}"
    )


def records_from_wire(wire: Sequence[Any], store: VectorStore) -> list[Record]:
    """Records to store."""
    return [Record(from_wire(key, store), payload) for key, payload in wire]


def record_to_wire(record: Record | None) -> list[Any] | None:
    """A record that was read, without its vector."""
    return None if record is None else [record.id, dict(record.payload)]


def vectors_to_wire(found: Sequence[Record | Match | None]) -> tuple[list[bool], list[Any]]:
    """Which of what was found has a vector, and these vectors as one array."""
    vectors = [each.vector for each in found if each is not None and each.vector is not None]
    has_vector = [each is not None and each.vector is not None for each in found]
    return has_vector, [np.asarray(vectors, np.float32)] if vectors else []


def vectors_from_wire(has_vector: Sequence[bool], arrays: Sequence[Any]) -> list[Any]:
    """The vectors of what was found, None where there is none."""
    rows = iter(arrays[0]) if arrays else iter(())
    return [next(rows) if each else None for each in has_vector]


def match_to_wire(match: Match) -> list[Any]:
    """A match, without its vector."""
    return [match.id, match.score, dict(match.payload)]
