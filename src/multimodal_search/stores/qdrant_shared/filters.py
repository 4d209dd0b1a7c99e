"""Translate filters to Qdrant's conditions, for which qdrant-client and qdrant-edge have classes of their own.

Where Qdrant has no condition for a part of a filter, or would answer it wrongly, the field of the candidate records is
read, the part is evaluated here, and a condition on the ids of those that pass replaces it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from multimodal_search._text import spellings
from multimodal_search.errors import QueryError
from multimodal_search.filters.matching import passing_values
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
    top_level_path,
)
from multimodal_search.types import PointId, Record

_FEW = 100
"""Most values that are listed; more become a range, or the ids of their points."""


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
        ids: How many it lists.
    """

    words: Conditions
    kinds: Mapping[str, str]
    fetch_candidates: Callable[[list[Any], str], Iterable[Record]]
    most_ids: int
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
            case _:
                return self._on_field(node, node.field.json_path)

    def _on_field(self, node: FieldNode, path: str) -> Any:
        words, kind = self.words, self.kinds.get(path)
        match node:
            case Equals(_, value):
                return self._by_size(node.field, words.equals(path, value), [value])
            case In(_, values):
                return self._by_size(node.field, words.one_of(path, list(values)), values)
            case NumberRange():
                # The engine takes numbers and times for the same where an index holds one of them.
                return self._looked_up(node, path) if kind == "datetime" else words.between(path, node)
            case DatetimeRange():
                return self._looked_up(node, path) if kind in ("float", "integer") else words.during(path, node)
            case Prefix(_, prefix):
                return words.starts_with(path, prefix)
            case Glob():
                return self._looked_up(node, path)

    def _by_size(self, at: FieldPath, condition: Any, values: Sequence[Any]) -> Any:
        """Add a range to a condition on integers, which an index of floats can answer."""
        words = self.words
        if self.kinds.get(at.json_path) != "float" or isinstance(values[0], (str, bool)):
            return condition
        if len(values) > _FEW:
            sized = [words.between(at.json_path, NumberRange(at, gte=float(min(values)), lte=float(max(values))))]
        else:
            sized = [
                words.between(at.json_path, NumberRange(at, gte=float(value), lte=float(value))) for value in values
            ]
        return words.must([words.should(sized), condition])

    def _looked_up(self, node: FieldNode, path: str) -> Any:
        ids: list[PointId] = []
        values: set[Any] = set()
        for record in self.fetch_candidates(self._narrower(node, path), str(node.field.steps[0])):
            if passing := passing_values(node, record.payload):
                ids.append(record.id)
                values.update(passing)
        if 0 < len(values) <= _FEW and self.kinds.get(path) == "keyword":
            return self.words.one_of(path, sorted(values))
        self.ids += len(ids)
        if self.ids > self.most_ids:
            raise QueryError(
                f"the filter on the field {path!r} passes for more than {self.most_ids:,} records, too many to list "
                "them: narrow the filter, or use a prefix"
            )
        return self.words.has_id(ids)

    def _narrower(self, node: FieldNode, path: str) -> list[Any]:
        """Filters that all records accepted by the node pass: the best one, and one that every server supports."""
        words = self.words
        exists = words.must_not([words.is_empty(path)])
        if not isinstance(node, Glob):
            return [exists]
        parts = [self._any([words.starts_with(path, text) for text in spellings(node.prefix)])] if node.prefix else []
        if node.infix and node.infix != node.prefix:
            parts.append(self._any([words.contains(path, text) for text in spellings(node.infix)]))
        return [words.must(parts), exists] if parts else [exists]

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
