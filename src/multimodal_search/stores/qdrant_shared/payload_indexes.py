"""Payload indexes: which ones the filters on a large collection need.

Without one, the engine reads the payload of every point: 120 ms at 118,000 points, with one 0.2 to 1. A field has one
index at most: making another replaces it. An index of texts or booleans changes no answer. Neither does one of floats,
except for ranges of times, nor one of times, except for ranges of numbers: `Translation` keeps those from the engine.
One of integers would hide floats from ranges: this library makes none.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Literal, TypeAlias

from multimodal_search.errors import QueryError
from multimodal_search.filters.nodes import (
    And,
    DatetimeRange,
    Equals,
    Exists,
    FieldNode,
    FieldPath,
    Glob,
    In,
    Native,
    Node,
    Not,
    NumberRange,
    Or,
    Prefix,
    parse_time,
)

INDEXED_FIELDS = ("filename", "root", "modality", "sha256")
"""The library's own fields that filters often name: a new collection has keyword indexes on them."""

INDEX_PAYLOAD_FROM = 10_000
"""Points from which on filters get payload indexes: reading the payloads of fewer takes 10 ms at most."""

ASK_AGAIN_S = 60.0
"""Seconds between two attempts to learn of indexes, or to create one."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

IndexKind: TypeAlias = Literal["keyword", "float", "datetime", "bool"]


@dataclass(slots=True)
class PayloadIndexes:
    """The payload indexes of one collection that this process knows of.

    Attributes:
        kinds: Their kinds, as the engine calls them, by path in Qdrant's syntax, as `own_path` gives it.
    """

    kinds: dict[str, str] = field(default_factory=dict)
    _not_before: dict[tuple[str, IndexKind], float] = field(default_factory=dict)

    def lacking(self, node: Node) -> dict[FieldPath, IndexKind]:
        """The indexes that a filter needs on fields without one, except those tried in the last minute."""
        now, lacking = time.monotonic(), dict[FieldPath, IndexKind]()
        for at, kind in fields_of(node).items():
            path = at.json_path
            if kind is not None and path not in self.kinds and self._not_before.get((path, kind), now) <= now:
                lacking[at] = kind
        return lacking

    def tried(self, at: FieldPath, kind: IndexKind) -> None:
        """Record an attempt: no other for a minute."""
        self._not_before[at.json_path, kind] = time.monotonic() + ASK_AGAIN_S


def own_path(path: str) -> str:
    """The path of an index in this library's spelling: the engine drops some quotes."""
    try:
        return FieldPath.parse(path).json_path
    except QueryError:
        return path


def any_value(at: FieldPath, kind: IndexKind) -> Node:
    """A filter that passes if a field has any value for an index of this kind.

    A filter of the wrong type, as a range of numbers on a field of texts, must not decide the kind of the field's
    index.
    """
    match kind:
        case "keyword":
            return Prefix(at, "")
        case "float":
            return NumberRange(at, gte=-sys.float_info.max)
        case "datetime":
            return DatetimeRange(at, gte=datetime.min.replace(tzinfo=timezone.utc))
        case "bool":
            return Or((Equals(at, True), Equals(at, False)))


def serves(kind: str, node: FieldNode, *, prefixed: bool) -> bool:
    """Whether an index of a kind answers a condition; `prefixed` is whether one of texts answers prefixes, too.

    Source: what a server in strict mode asks for, by kind of condition.
    """
    match node:
        case Prefix():
            return kind == "keyword" and prefixed
        case NumberRange():
            return kind in ("float", "integer", "integer without lookup")
        case Equals(_, str() as text):
            return kind == "keyword" or (kind == "uuid" and _UUID.fullmatch(text) is not None)
        case In(_, (str(), *_) as texts):
            return kind == "keyword" or (kind == "uuid" and all(_UUID.fullmatch(str(text)) for text in texts))
        case Glob():
            return True  # what narrows it down is asked for with care
    return kind == _kind_for(node)


def suits(value: object, kind: IndexKind) -> bool:
    """Whether an index of a kind holds a value."""
    match value:
        case bool():
            return kind == "bool"
        case int() | float():
            return kind == "float"
        case str():
            return kind == "keyword" or (kind == "datetime" and parse_time(value) is not None)
    return False


def fields_of(node: Node) -> dict[FieldPath, IndexKind | None]:
    """The fields of a filter, each with the kind of index for its first condition; None if any kind serves it."""
    fields: dict[FieldPath, IndexKind | None] = {}
    for part in _on_fields(node):
        kind = None if isinstance(part, Exists) else _kind_for(part)
        fields[part.field] = fields.get(part.field) or kind
    return fields


def needs_prefixes(node: Node) -> set[FieldPath]:
    """The fields of a filter that prefixes are asked of."""
    return {
        part.field for part in _on_fields(node) if isinstance(part, Prefix) or (isinstance(part, Glob) and part.prefix)
    }


def _on_fields(node: Node) -> Iterator[FieldNode | Exists]:
    match node:
        case And(parts) | Or(parts):
            for part in parts:
                yield from _on_fields(part)
        case Not(part):
            yield from _on_fields(part)
        case Native():
            pass
        case _:
            yield node


def _kind_for(node: FieldNode) -> IndexKind:
    match node:
        case Equals(_, bool()):
            return "bool"
        case Equals(_, int()) | In(_, (int(), *_)) | NumberRange():
            return "float"
        case DatetimeRange():
            return "datetime"
    return "keyword"
