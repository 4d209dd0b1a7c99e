"""Translate filters to Qdrant's conditions, for which qdrant-client and qdrant-edge have classes of their own.

Where Qdrant has no condition for a part of a filter, or would answer it wrongly, the field of the candidate records is
read, the part is evaluated here, and a condition on the ids of those that pass replaces it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from multimodal_search._text import spellings
from multimodal_search.errors import QueryError
from multimodal_search.filters.matching import passing_values
from multimodal_search.filters.nodes import (
    MAX_EXACT,
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
    top_level_path,
)
from multimodal_search.stores.qdrant_shared.payload_indexes import serves
from multimodal_search.types import PointId, Record

_FEW = 100
"""Most texts that are listed; more become the ids of their points."""

_BRANCHES = 8
"""Ranges that are tried in turn on each point of a field without an index: 10 take 60 ms at 10,000 points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Constructors of one SDK's conditions; paths are in Qdrant's syntax.

    Attributes:
        native: Its class of whole filters.
        must: A filter that all of several conditions must pass.
        should: One that at least one of several conditions must pass.
        must_not: One that none of several conditions may pass.
        equals: A value at a path is this one.
        one_of: A value at a path is one of these, all texts or all integers.
        between: A number at a path is within bounds.
        during: A time at a path is within bounds.
        starts_with: A text at a path has this prefix.
        contains: A text at a path holds this text.
        is_empty: Nothing, null or an empty list is at a path.
        has_id: A point is one of these.
    """

    native: type
    must: Callable[[list[Any]], Any]
    should: Callable[[list[Any]], Any]
    must_not: Callable[[list[Any]], Any]
    equals: Callable[[str, str | bool | int], Any]
    one_of: Callable[[str, list[Any]], Any]
    between: Callable[[str, NumberRange], Any]
    during: Callable[[str, DatetimeRange], Any]
    starts_with: Callable[[str, str], Any]
    contains: Callable[[str, str], Any]
    is_empty: Callable[[str], Any]
    has_id: Callable[[list[PointId]], Any]


@dataclass(slots=True, kw_only=True)
class Translation:
    """The translation of one filter.

    Attributes:
        words: The constructors of the SDK's conditions.
        kinds: The kinds of payload indexes, by path.
        fetch_candidates: Returns the records that pass the first of some filters that the store supports, with the
            payload field of this name.
        most_ids: Most ids that the whole filter may list.
        is_strict: Whether the store takes only conditions that an index of their field serves. Every field of the
            filter has an index then.
        prefixed: The paths whose indexes serve prefixes, too; of interest only to a strict store.
        has_substrings: Whether the store may know conditions on texts within texts.
        most_listed: Most values or ids in one condition; None without a limit.
        ids: How many ids the filter lists.
    """

    words: Conditions
    kinds: Mapping[str, str]
    fetch_candidates: Callable[[list[Any], str], Iterable[Record]]
    most_ids: int
    is_strict: bool = False
    prefixed: Collection[str] = ()
    has_substrings: bool = True
    most_listed: int | None = None
    ids: int = field(default=0, init=False)

    def filter_of(self, node: Node) -> Any:
        """The SDK's filter object.

        Raises:
            QueryError: It would have to list too many ids.
        """
        condition = self._condition(node)
        return condition if isinstance(condition, self.words.native) else self.words.must([condition])

    def _condition(self, node: Node) -> Any:
        words = self.words
        match node:
            case Native(filter_):
                return filter_
            case And(parts):
                return words.must([self._condition(part) for part in parts])
            case Or(parts):
                return words.should([self._condition(part) for part in parts]) if parts else words.has_id([])
            case Not(Exists(at)):
                return words.is_empty(at.json_path)
            case Not(part):
                return words.must_not([self._condition(part)])
            case Exists(at):
                return words.must_not([words.is_empty(at.json_path)])
            case Equals(_, int() as value) if not isinstance(value, bool):
                return self._one_of_numbers(node, [value])
            case In(_, (int(), *_) as values):
                return self._one_of_numbers(node, sorted(value for value in values if isinstance(value, int)))
            case _:
                return self._on_field(node, node.field.json_path)

    def _on_field(self, node: FieldNode, path: str) -> Any:
        words, kind = self.words, self.kinds.get(path)
        if self.is_strict and not (kind is not None and serves(kind, node, prefixed=path in self.prefixed)):
            return self._looked_up(node, path)
        match node:
            case Equals(_, value):
                return words.equals(path, value)
            case In(_, values):
                return self._listed(lambda some: words.one_of(path, some), list(values))
            case NumberRange():
                # The engine takes numbers and times for the same where an index holds one of them.
                return self._looked_up(node, path) if kind == "datetime" else words.between(path, node)
            case DatetimeRange():
                return (
                    self._looked_up(node, path)
                    if (kind or "").startswith(("float", "integer"))
                    else words.during(path, node)
                )
            case Prefix(_, prefix):
                return words.starts_with(path, prefix)
            case Glob():
                return self._looked_up(node, path)

    def _one_of_numbers(self, node: Equals | In, values: list[int]) -> Any:
        """Some integers, and the floats that are equal to them, by size, as an index of floats answers it."""
        words, at, path = self.words, node.field, node.field.json_path
        kind = self.kinds.get(path)
        if kind in ("integer", "integer without range"):
            return self._listed(lambda some: words.one_of(path, some), values)
        if kind == "datetime" or (self.is_strict and kind != "float"):
            return self._looked_up(node, path)
        sized = [value for value in values if abs(value) <= MAX_EXACT]
        parts = self._sized(at, sized, flat=kind == "float")
        if large := [value for value in values if abs(value) > MAX_EXACT]:
            if self.is_strict:
                parts.append(self._looked_up(In(at, tuple(large)), path))
            else:
                bounds = self._between(at, large[0], large[-1])
                parts.append(words.must([bounds, words.one_of(path, large)]))
        return self._any(parts)

    def _sized(self, at: FieldPath, values: list[int], *, flat: bool) -> list[Any]:
        """A range for each value. Without an index, each range is tried on each point: then they make a tree."""
        if flat or len(values) <= _BRANCHES:
            return [self._between(at, value, value) for value in values]
        size = -(-len(values) // _BRANCHES)
        branches = [values[start : start + size] for start in range(0, len(values), size)]
        return [
            self.words.must(
                [self._between(at, some[0], some[-1]), self.words.should(self._sized(at, some, flat=False))]
            )
            for some in branches
        ]

    def _between(self, at: FieldPath, least: int, most: int) -> Any:
        lower, upper = float(least), float(most)
        if max(-least, most) > MAX_EXACT:  # a float may be on either side of it
            lower, upper = math.nextafter(lower, -math.inf), math.nextafter(upper, math.inf)
        return self.words.between(at.json_path, NumberRange(at, gte=lower, lte=upper))

    def _looked_up(self, node: FieldNode, path: str) -> Any:
        ids: list[PointId] = []
        values: set[Any] = set()
        for record in self.fetch_candidates(self._narrower(node, path), str(node.field.steps[0])):
            if passing := passing_values(node, record.payload):
                ids.append(record.id)
                values.update(passing)
        if 0 < len(values) <= _FEW and self.kinds.get(path) == "keyword" and isinstance(node, (Glob, Prefix)):
            return self._listed(lambda some: self.words.one_of(path, some), sorted(values))
        self.ids += len(ids)
        if self.ids > self.most_ids:
            raise QueryError(
                f"the filter on the field {path!r} passes for more than {self.most_ids:,} records, too many to list "
                "them: narrow the filter, or use a prefix"
            )
        return self._listed(self.words.has_id, ids)

    def _narrower(self, node: FieldNode, path: str) -> list[Any]:
        """Filters that all records accepted by the node pass: the best one, and one that every server supports."""
        words = self.words
        exists = words.must_not([words.is_empty(path)])
        parts = []
        match node:
            case Glob(_, _, prefix, infix):
                if prefix and (not self.is_strict or path in self.prefixed):
                    parts.append(self._any([words.starts_with(path, text) for text in spellings(prefix)]))
                if infix and self.has_substrings and infix != prefix:
                    parts.append(self._any([words.contains(path, text) for text in spellings(infix)]))
            case In(at, (int(), *_) as values) if self.kinds.get(path) == "float":
                parts.append(self._between(at, int(min(values)), int(max(values))))
        return [words.must(parts), exists] if parts else [exists]

    def _listed(self, condition: Callable[[list[Any]], Any], values: list[Any]) -> Any:
        """A condition on one of some values, or several, of no more values than the store takes in one."""
        size = self.most_listed or max(1, len(values))
        return self._any([condition(values[start : start + size]) for start in range(0, max(1, len(values)), size)])

    def _any(self, parts: list[Any]) -> Any:
        return parts[0] if len(parts) == 1 else self.words.should(parts)


def payload_selector(fields: Sequence[str] | None) -> bool | list[str]:
    """The engine's selector for payload fields of these names (None: all); it may return more."""
    if fields is None:
        return True
    paths = [path for field in fields if (path := top_level_path(field)) is not None]
    return (paths if len(paths) == len(fields) else True) if fields else False


def pick(payload: Mapping[str, Any] | None, fields: Sequence[str] | None) -> dict[str, Any]:
    """Exactly the fields of these names (None: all) of an engine's payload."""
    if fields is None:
        return dict(payload or {})
    return {field: payload[field] for field in fields if field in payload} if payload else {}
