"""Parse the neutral filter: a mapping becomes a tree of nodes.

    {"label": "dog"}                              equal to (a list-valued field: any element is)
    {"label": ["dog", "cat"]}                     one of
    {"label": None}                               does not exist
    {"year": {"gte": 2020, "lt": 2024}}           operators, all of which must hold
    {"filename": {"glob": "2024/*/IMG_?.jpg"}}    the whole text matches: `*`, `?`, `[abc]`, `[!abc]`
    {"label": "dog", "year": {"gte": 2020}}       several fields, all of which must hold
    {"or": [{...}, {...}], "not": {...}}          combinations of filters: "and", "or", "not"
    {"and": [native, {"label": "dog"}]}           a store's own filter object, wherever a filter may stand

The meaning is Qdrant's. A field that is missing, null or an empty list does not exist, and nothing is equal to it, so
it passes `ne` and `not_in`. Numbers are equal by their size: `1` finds `1.0`, and `1.0` finds `1`, but neither finds
`True`. A number with decimals also finds its two neighbours among 64-bit floats, one unit in the last place away, as
engines that keep payloads as JSON may return one of these for it; integers beyond 2^53 are told apart, and find no
floats. Ranges compare numbers as 64-bit floats. Times without a zone are UTC. In a glob, `*` stands for any characters,
`/` among them, and case matters on every platform. A text finds what looks the same: letters whose accents are parts of
them (NFC) or characters of their own (NFD).

A field is a path: `a.b` is the key `b` of the mapping in the field `a`, `a[].b` the key `b` of each mapping in the list
`a`. A key that holds a dot, or is called "and", "or" or "not", stands in double quotes: `'"a.b"'`.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timezone

import numpy as np

from multimodal_search._bounds import MAX_CONDITIONS, MAX_PATTERN_LENGTH, check_length, check_size
from multimodal_search._payload import WORDS
from multimodal_search._text import brief, composed, is_unicode, spellings
from multimodal_search.errors import QueryError
from multimodal_search.filters.nodes import (
    MAX_EXACT,
    And,
    DatetimeRange,
    Equals,
    Exactly,
    Exists,
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

_WILDCARD = re.compile(r"\*|\?|\[(?:!|(?!!))(?:\][^\]]*|[^\]]+)\]")  # a bracket that nothing closes stands for itself
_MIN_INT, _MAX_INT = -(2**63), 2**63 - 1


def parse_filter(where: object, *, native: type | None = None) -> Node:
    """Parse a filter into a tree of nodes.

    Args:
        where: A neutral filter, or a store's own.
        native: The class of the store's own filters, if it takes any.

    Raises:
        QueryError: It makes no sense; the message names the field, the operator, and what is allowed.
    """
    if isinstance(where, Mapping):
        check_size(where, named="the filter", error=QueryError, most_fields=MAX_CONDITIONS)
    return _parsed(where, native)


def _parsed(where: object, native: type | None) -> Node:
    if native is not None and isinstance(where, native):
        return Native(where)
    if not isinstance(where, Mapping):
        raise QueryError(f"a filter is {_allowed(native)}, not {_qualified(type(where))}")
    parts = tuple(_entry(key, value, native) for key, value in where.items())
    return parts[0] if len(parts) == 1 else And(parts)


def _entry(key: object, value: object, native: type | None) -> Node:
    match key:
        case "and":
            return And(_filters(key, value, native))
        case "or":
            return Or(_filters(key, value, native))
        case "not":
            if not _is_filter(value, native):
                raise QueryError(f"'not' in a filter takes one filter ({_allowed(native)}), not {brief(value)}")
            return Not(_parsed(value, native))
    field = FieldPath.parse(key)
    if field.steps[0] == WORDS:
        raise QueryError(
            f"{WORDS!r} is where stores keep the words of a point, and no field of a payload: filter by the field that "
            "the words are from, or search for them with keyword_weight"
        )
    if not isinstance(value, Mapping):
        return _one_of(field, value) if isinstance(value, (list, tuple, set, frozenset)) else _equals(field, value)
    unknown = [name for name in value if name not in _OPERATORS and name not in _BOUNDS]
    if unknown or not value:
        named = f"has no operator {brief(unknown[0])}" if unknown else "names no operator"
        raise QueryError(
            f"the filter on the field {str(field)!r} {named}; allowed are {', '.join([*_OPERATORS, *_BOUNDS])} "
            f"(a key inside the field is written '{field}.key')"
        )
    parts = [_OPERATORS[name](field, operand) for name, operand in value.items() if name in _OPERATORS]
    bounds = {name: operand for name, operand in value.items() if name in _BOUNDS}
    if bounds:
        parts.append(_range(field, bounds))
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _filters(key: str, value: object, native: type | None) -> tuple[Node, ...]:
    if not isinstance(value, (list, tuple)) or not all(_is_filter(part, native) for part in value):
        raise QueryError(
            f"{key!r} in a filter takes a list of filters (each {_allowed(native)}), not {brief(value)}; "
            f"a payload field of that name is written '\"{key}\"', in double quotes"
        )
    return tuple(_parsed(part, native) for part in value)


def _is_filter(value: object, native: type | None) -> bool:
    return isinstance(value, Mapping) or (native is not None and isinstance(value, native))


def _allowed(native: type | None) -> str:
    return "a mapping" if native is None else f"a mapping or the store's own {_qualified(native)}"


def _qualified(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _equals(field: FieldPath, operand: object, operator: str = "eq") -> Node:
    match _scalar(field, operator, operand):
        case None:
            return Not(Exists(field))
        case float(number):
            return _near(field, number)
        case str() as text if len(texts := _spellings_of(operand, text)) > 1:
            return In(field, texts)
        case bool() | int() | str() as value:
            return Equals(field, value)


def _near(field: FieldPath, number: float) -> NumberRange:
    """A float, and its neighbours: JSON brings whole numbers back as they were, but others one unit off."""
    if number.is_integer() and abs(number) <= MAX_EXACT:
        return NumberRange(field, gte=number, lte=number)
    below, above = math.nextafter(number, -math.inf), math.nextafter(number, math.inf)
    largest = sys.float_info.max  # JSON has no infinity
    return NumberRange(field, gte=max(below, -largest), lte=min(above, largest), is_equality=True)


def _one_of(field: FieldPath, operand: object, operator: str = "in") -> Node:
    if not isinstance(operand, (list, tuple, set, frozenset)):
        raise _refused(field, operator, operand, "a list")
    values = [_scalar(field, operator, value) for value in operand]
    texts = tuple(
        dict.fromkeys(
            text
            for value, given in zip(values, operand, strict=True)
            if isinstance(value, str)
            for text in _spellings_of(given, value)
        )
    )
    integers = tuple(dict.fromkeys(value for value in values if isinstance(value, int) and not isinstance(value, bool)))
    parts = [In(field, each) for each in (texts, integers) if each]
    others = [_equals(field, value) for value in values if value is None or isinstance(value, (bool, float))]
    return parts[0] if len(parts) == 1 and not others else Or((*parts, *others))


def _exists(field: FieldPath, operand: object) -> Node:
    if not isinstance(operand, (bool, np.bool_)):
        raise _refused(field, "exists", operand, "True or False")
    return Exists(field) if operand else Not(Exists(field))


def _prefix(field: FieldPath, operand: object) -> Node:
    text = _scalar(field, "prefix", operand)
    if not isinstance(text, str):
        raise _refused(field, "prefix", operand, "a str")
    return _starts_with(field, _spellings_of(operand, text))


def _starts_with(field: FieldPath, prefixes: tuple[str, ...]) -> Node:
    parts = tuple(Prefix(field, prefix) for prefix in prefixes)
    return parts[0] if len(parts) == 1 else Or(parts)


def _spellings_of(operand: object, text: str) -> tuple[str, ...]:
    """The texts that an operand stands for."""
    return (text,) if isinstance(operand, Exactly) else spellings(text)


def _glob(field: FieldPath, operand: object) -> Node:
    pattern = _scalar(field, "glob", operand)
    if not isinstance(pattern, str):
        raise _refused(field, "glob", operand, "a str")
    of_field = f"the glob {brief(pattern)} on the field {str(field)!r}"
    check_length(len(pattern), MAX_PATTERN_LENGTH, named=of_field, of="characters", error=QueryError)
    pattern = composed(pattern)
    literals, wildcards = [""], []
    position = 0
    for found in _WILDCARD.finditer(pattern):
        literals[-1] += pattern[position : found.start()]
        position = found.end()
        if len(found[0]) == 3:  # `[*]`, as glob.escape writes it: a set of one
            literals[-1] += found[0][1]
        else:
            wildcards.append(found[0])
            literals.append("")
    literals[-1] += pattern[position:]
    if not wildcards:
        return _equals(field, literals[0])
    if set(wildcards) == {"*"} and not any(literals[1:]):
        return _starts_with(field, spellings(literals[0]))
    return Glob(field, pattern, prefix=literals[0], infix=max(literals, key=len))


_OPERATORS: dict[str, Callable[[FieldPath, object], Node]] = {
    "eq": _equals,
    "ne": lambda field, operand: Not(_equals(field, operand, "ne")),
    "in": _one_of,
    "not_in": lambda field, operand: Not(_one_of(field, operand, "not_in")),
    "exists": _exists,
    "prefix": _prefix,
    "glob": _glob,
}
_BOUNDS = ("gte", "gt", "lte", "lt")


def _range(field: FieldPath, operands: Mapping[str, object]) -> Node:
    bounds = {name: _bound(field, name, operand) for name, operand in operands.items()}
    times = {name: bound for name, bound in bounds.items() if isinstance(bound, datetime)}
    numbers = {name: bound for name, bound in bounds.items() if not isinstance(bound, datetime)}
    if times and numbers:
        raise QueryError(
            f"the filter on the field {str(field)!r} mixes numbers and times: {', '.join(numbers)} against "
            f"{', '.join(times)}"
        )
    return DatetimeRange(field, **times) if times else NumberRange(field, **numbers)  # type: ignore[arg-type]  # bounds


def _bound(field: FieldPath, operator: str, operand: object) -> float | datetime:
    match operand:
        case datetime():
            return operand.replace(tzinfo=timezone.utc) if operand.tzinfo is None else operand
        case date():
            return datetime.combine(operand, time(), tzinfo=timezone.utc)
        case str():
            moment = parse_time(operand)
            if moment is not None:
                return moment
        case _:
            value = _scalar(field, operator, operand)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return float(value)
    raise _refused(field, operator, operand, "a number, a date, a datetime or an ISO 8601 text")


def _scalar(field: FieldPath, operator: str, operand: object) -> str | bool | int | float | None:
    value = operand.item() if isinstance(operand, np.generic) else operand
    match value:
        case None | bool():
            return value
        case int() if _MIN_INT <= value <= _MAX_INT:
            return int(value)
        case float() if math.isfinite(value):
            return float(value)
        case str() if is_unicode(value):
            return str.__str__(value)  # not str(): of an Enum that is also a str, it would give the member's name
    raise _refused(field, operator, operand, "str, bool, None, finite floats and integers from -2^63 to 2^63-1")


def _refused(field: FieldPath, operator: str, operand: object, wanted: str) -> QueryError:
    return QueryError(f"the filter on the field {str(field)!r}: {operator!r} takes {wanted}, not {brief(operand)}")
