"""The neutral filter in Qdrant's words, which qdrant-client and qdrant-edge spell with classes of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from multimodal_search._filters import (
    All,
    AnyOf,
    Between,
    During,
    Equals,
    Exists,
    Node,
    Not,
    OneOf,
    StartsWith,
    parse_filter,
    top_level_path,
)
from multimodal_search.errors import QueryError
from multimodal_search.types import Filter


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterWords:
    """How one SDK spells conditions; paths are in Qdrant's syntax.

    Attributes:
        native: Its class of whole filters, which passes through untouched.
        must: A filter that all of several conditions must pass.
        should: One that at least one of several conditions must pass.
        must_not: One that none of several conditions may pass.
        equals: A value at a path is this one.
        one_of: A value at a path is one of these, all texts or all integers.
        between: A number at a path is within bounds.
        during: A time at a path is within bounds.
        starts_with: A text at a path has this prefix.
        is_empty: Nothing, null or an empty list is at a path.
        nothing: A condition that no point passes.
    """

    native: type
    must: Callable[[list[Any]], Any]
    should: Callable[[list[Any]], Any]
    must_not: Callable[[list[Any]], Any]
    equals: Callable[[str, str | bool | int], Any]
    one_of: Callable[[str, list[Any]], Any]
    between: Callable[[str, Between], Any]
    during: Callable[[str, During], Any]
    starts_with: Callable[[str, str], Any]
    is_empty: Callable[[str], Any]
    nothing: Callable[[], Any]


def translate_filter(where: Filter | None, words: FilterWords) -> Any:
    """The SDK's filter object for a neutral filter; one of its own passes through, None stays None.

    Raises:
        QueryError: It makes no sense, or is another SDK's.
    """
    if where is None or isinstance(where, words.native):
        return where
    if not isinstance(where, Mapping):
        raise QueryError(
            f"a filter is a mapping or a {words.native.__module__}.{words.native.__qualname__}, "
            f"not {type(where).__module__}.{type(where).__qualname__}"
        )
    condition = _condition(parse_filter(where), words)
    return condition if isinstance(condition, words.native) else words.must([condition])


def _condition(node: Node, words: FilterWords) -> Any:
    match node:
        case All(parts):
            return words.must([_condition(part, words) for part in parts])
        case AnyOf(parts):
            return words.should([_condition(part, words) for part in parts]) if parts else words.nothing()
        case Not(Exists(field)):
            return words.is_empty(field.json_path)
        case Not(part):
            return words.must_not([_condition(part, words)])
        case Exists(field):
            return words.must_not([words.is_empty(field.json_path)])
        case Equals(field, value):
            return words.equals(field.json_path, value)
        case OneOf(field, values):
            return words.one_of(field.json_path, list(values))
        case Between(field):
            return words.between(field.json_path, node)
        case During(field):
            return words.during(field.json_path, node)
        case StartsWith(field, prefix):
            return words.starts_with(field.json_path, prefix)


def payload_selector(fields: Sequence[str] | None) -> bool | list[str]:
    """What to ask an engine for, to get the payload's fields of these names (None: all); perhaps more than them."""
    if fields is None:
        return True
    paths = [path for field in fields if (path := top_level_path(field)) is not None]
    return (paths if len(paths) == len(fields) else True) if fields else False


def pick(payload: Mapping[str, Any] | None, fields: Sequence[str] | None) -> dict[str, Any]:
    """Exactly the fields of these names (None: all) of a payload that an engine gave."""
    if fields is None:
        return dict(payload or {})
    return {field: payload[field] for field in fields if field in payload} if payload else {}
