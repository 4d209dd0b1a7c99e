"""Payload indexes: which ones the filters on a large collection need.

Without one, the engine reads the payload of every point: 120 ms at 118,000 points, with one 0.2 to 1. A field has one
index at most: making another replaces it. An index of texts or booleans changes no answer. Neither does one of floats,
except for ranges of times, nor one of times, except for ranges of numbers: `Translation` keeps those from the engine.
One of integers would hide floats from ranges, and take 1.0 for 1: this library makes none.
"""

from __future__ import annotations

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
    FieldNode,
    FieldPath,
    Glob,
    In,
    Node,
    Not,
    NumberRange,
    Or,
    Prefix,
)

INDEXED_FIELDS = ("filename", "root", "modality", "sha256")
"""The library's own fields that filters often name: a new collection has keyword indexes on them."""

INDEX_PAYLOAD_FROM = 10_000
"""Points from which on filters get payload indexes: reading the payloads of fewer takes 10 ms at most."""

ASK_AGAIN_S = 60.0
"""Seconds between two attempts to learn of indexes, or to create one."""

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
        for part in _on_fields(node):
            path, kind = part.field.json_path, _kind_for(part)
            if path not in self.kinds and self._not_before.get((path, kind), now) <= now:
                lacking.setdefault(part.field, kind)
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


def _on_fields(node: Node) -> Iterator[FieldNode]:
    match node:
        case And(parts) | Or(parts):
            for part in parts:
                yield from _on_fields(part)
        case Not(part):
            yield from _on_fields(part)
        case Equals() | In() | NumberRange() | DatetimeRange() | Prefix() | Glob():
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
