"""The fields stored beside a vector: this library's own, and the user's as JSON."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time
from pathlib import PurePath
from typing import Any, TypeAlias
from uuid import UUID

import numpy as np

from multimodal_search._bounds import (
    MAX_DEPTH,
    MAX_FIELDS,
    MAX_PATH_LENGTH,
    MAX_VALUES,
    check_length,
    check_size,
    is_small_and_flat,
)
from multimodal_search._text import brief, is_unicode
from multimodal_search.errors import ContentError

WORDS = "multimodal_search_words"
"""The field in which a store keeps the words of a point, beside its payload; no payload or filter may name it."""

RESERVED = frozenset({"filename", "root", "modality", "sha256", "size", "mtime_ns", "text", WORDS})
"""Fields that this library writes; a user's field may not have such a name. A caption has the field `caption`."""

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

_MAX_INTEGER_BITS = 4096  # bits; Python writes integers of up to 4,300 digits
_MAX_INTEGER = 2**63 - 1  # what Qdrant's engine keeps exactly


def with_user_fields(
    own: Mapping[str, Json], user: Mapping[str, Any], *, reserved: frozenset[str] = RESERVED
) -> dict[str, Json]:
    """This library's fields and the user's, which become plain JSON values.

    Dates become ISO 8601 text, paths and UUIDs text, tuples lists, NumPy scalars and arrays Python's own values.

    Raises:
        ContentError: A user's field has a reserved name, or a value that JSON cannot hold.
    """
    if not isinstance(user, Mapping):
        raise ContentError(f"a payload maps names to values; this one is a {type(user).__name__}")
    check_size(user, named="the payload", error=ContentError, most_fields=MAX_FIELDS)
    for name in user:
        if not isinstance(name, str) or not is_unicode(name):
            raise ContentError(f"payload field {brief(name)}: names of fields must be str, and valid Unicode")
        check_length(
            len(name), MAX_PATH_LENGTH, named=f"payload field {brief(name)}", of="characters", error=ContentError
        )
        if name in reserved or name in own:
            raise ContentError(f"payload field {name!r} is written by the index itself: give yours another name")
    return {**own, **{name: _json(value, name) for name, value in user.items()}}


def as_json(fields: Mapping[str, Any]) -> dict[str, Json]:
    """Fields as plain JSON values, whatever their names.

    Raises:
        ContentError: A value is none that JSON can hold.
    """
    return with_user_fields({}, fields, reserved=frozenset())


def check_stored(payload: Mapping[str, Any], key: object) -> None:
    """See that a record's payload has a size that any store can write, and read again.

    Raises:
        ContentError: It has not, or is no mapping of names; the message names the record.
    """
    if is_small_and_flat(payload):
        return
    if not isinstance(payload, Mapping):
        raise ContentError(f"the payload of {brief(key)} maps names of fields to values; this is {brief(payload)}")
    if not all(isinstance(name, str) for name in payload):
        raise ContentError(f"the payload of {brief(key)} has a field whose name is no str: {brief(dict(payload))}")
    check_size(payload, named=f"the payload of {brief(key)}", error=ContentError, most_fields=MAX_FIELDS)


def user_fields(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a stored payload that are not this library's own; of an image, a `text` is not."""
    own = RESERVED if payload.get("modality") == "text" else RESERVED - {"text"}
    return {name: value for name, value in payload.items() if name not in own}


def json_safe(value: object, *, most: int = MAX_VALUES) -> Any:
    """The nearest thing that JSON can hold, of what any program may have stored.

    A float that is no number becomes null, as JSON has none, and bytes become Base64. What is nested deeper than 64
    levels, as something that holds itself is, becomes "…", as does what comes after `most` values.
    """
    return _json_safe(value, 0, iter(range(most)))


def _json_safe(value: object, depth: int, left: Iterator[int]) -> Any:
    def inside(inner: object) -> Any:
        return _json_safe(inner, depth + 1, left)

    if depth > MAX_DEPTH or next(left, None) is None:
        return "…"
    match value:
        case None | bool() | str():
            return value
        case int():
            return value if value.bit_length() <= _MAX_INTEGER_BITS else "…"
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(key): inside(inner) for key, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [inside(inner) for inner in value]
        case np.generic() | np.ndarray():
            return inside(value.tolist())
        case date() | datetime() | time():
            return value.isoformat()
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode()
        case _:
            try:
                return str(value)
            except Exception:  # noqa: BLE001 (it may be anybody's)
                return brief(value)


def _json(value: object, field: str) -> Json:
    match value:
        case None | bool():
            return value
        case str():
            if is_unicode(value):
                return value
            raise ContentError(
                f"payload field {brief(field)} holds a lone surrogate, which is no valid Unicode: {brief(value)}"
            )
        case int() if -_MAX_INTEGER - 1 <= value <= _MAX_INTEGER:
            return int(value)
        case float() if math.isfinite(value):
            return float(value)
        case Mapping():
            if all(isinstance(name, str) and is_unicode(name) for name in value):
                return {name: _json(below, f"{field}.{name}") for name, below in value.items()}
        case list() | tuple():
            return [_json(below, field) for below in value]
        case datetime() | date():
            return value.isoformat()
        case UUID() | PurePath():
            return str(value)
        case np.generic() | np.ndarray():
            return _json(value.tolist(), field)
    raise ContentError(
        f"payload field {brief(field)} holds {brief(value)} ({type(value).__name__}), which JSON cannot hold"
    )
