"""Which payload indexes the filters on a large collection call for.

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
"""The library's own fields that filters name all the time: a new collection gets indexes of texts on them."""

INDEX_PAYLOAD_FROM = 10_000
"""Points from which on filters get indexes: reading the payloads of fewer takes 10 ms at most."""

ASK_AGAIN_S = 60.0
"""Seconds until it is asked again what there is to index."""

IndexKind: TypeAlias = Literal["keyword", "float", "datetime", "bool"]


@dataclass(slots=True)
class PayloadIndexes:
    """The payload indexes of one collection, as far as this process knows.

    Attributes:
        kinds: Their kinds, as the engine calls them, by path in Qdrant's syntax, as `own_path` gives it.
    """

    kinds: dict[str, str] = field(default_factory=dict)
    _not_before: dict[tuple[str, IndexKind], float] = field(default_factory=dict)

    def lacking(self, node: Node) -> dict[FieldPath, IndexKind]:
        """The indexes that a filter calls for, of fields that have none, and were not tried in vain a moment ago."""
        now, lacking = time.monotonic(), dict[FieldPath, IndexKind]()
        for part in _on_fields(node):
            path, kind = part.field.json_path, _kind_for(part)
            if path not in self.kinds and self._not_before.get((path, kind), now) <= now:
                lacking.setdefault(part.field, kind)
        return lacking

    def tried(self, at: FieldPath, kind: IndexKind) -> None:
        """Not to be tried again for a minute."""
        self._not_before[at.json_path, kind] = time.monotonic() + ASK_AGAIN_S


def own_path(path: str) -> str:
    """The path of an index as this library writes it: the engine leaves out quotes that we put."""
    try:
        return FieldPath.parse(path).json_path
    except QueryError:
        return path


def any_value(at: FieldPath, kind: IndexKind) -> Node:
    """What passes where there is anything for such an index to hold.

    A filter that finds nothing, as one that takes a field of texts for one of numbers, must not settle of which kind
    the field's index is.
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
