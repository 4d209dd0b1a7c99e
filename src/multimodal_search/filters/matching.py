"""Evaluate a parsed filter on a payload."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, cast

from multimodal_search._text import composed
from multimodal_search.errors import QueryError
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
    parse_time,
)


def passes(node: Node, payload: Mapping[str, Any]) -> bool:
    """Whether a payload of JSON types passes a filter, as Qdrant's engine decides it.

    Raises:
        QueryError: The filter holds a store's own filter object.
    """
    match node:
        case And(parts):
            return all(passes(part, payload) for part in parts)
        case Or(parts):
            return any(passes(part, payload) for part in parts)
        case Not(part):
            return not passes(part, payload)
        case Exists(field):
            return any(value is not None and value != [] for value in field.find(payload))
        case Native():
            raise QueryError("a store's own filter means nothing outside of that store")
        case _:
            return any(_accepts(node, value) for value in elements(node.field, payload))


def passing_values(node: FieldNode, payload: Mapping[str, Any]) -> list[Any]:
    """The values of a payload that make it pass; none if it does not."""
    return [value for value in elements(node.field, payload) if _accepts(node, value)]


def elements(field: FieldPath, payload: Mapping[str, Any]) -> Iterable[Any]:
    """The values at a place, those of lists one by one."""
    for value in field.find(payload):
        if isinstance(value, list):
            yield from value
        else:
            yield value


def _accepts(node: FieldNode, value: object) -> bool:
    match node:
        case Equals(_, wanted):
            return _is_one_of(value, (wanted,))
        case In(_, values):
            return _is_one_of(value, values)
        case NumberRange():
            return type(value) in (int, float) and _within(node, float(cast("float", value)))
        case DatetimeRange():
            moment = parse_time(value) if isinstance(value, str) else None
            return moment is not None and _within(node, moment)
        case Prefix(_, prefix):
            return isinstance(value, str) and value.startswith(prefix)
        case Glob(_, pattern):
            return isinstance(value, str) and fnmatchcase(composed(value), pattern)


def _is_one_of(value: object, values: Sequence[str | bool | int]) -> bool:
    if isinstance(value, float):
        return type(values[0]) is int and abs(value) <= MAX_EXACT and value in values
    return type(value) is type(values[0]) and value in values


def _within(bounds: NumberRange | DatetimeRange, value: Any) -> bool:
    return (
        (bounds.gte is None or value >= bounds.gte)
        and (bounds.gt is None or value > bounds.gt)
        and (bounds.lte is None or value <= bounds.lte)
        and (bounds.lt is None or value < bounds.lt)
    )
