"""The fields stored beside a vector: this library's own, and the user's as JSON."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from datetime import date, datetime, time
from pathlib import PurePath
from typing import Any, TypeAlias
from uuid import UUID

import numpy as np

from multimodal_search._printable import is_unicode
from multimodal_search.errors import ContentError

RESERVED = frozenset({"filename", "root", "modality", "sha256", "size", "mtime_ns"})
"""Fields that this library writes; a user's field may not have such a name."""

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

_DEEPEST = 64
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
    for name in user:
        if not isinstance(name, str) or not is_unicode(name):
            raise ContentError(f"payload field {name!r}: names of fields must be str, and valid Unicode")
        if name in reserved or name in own:
            raise ContentError(f"payload field {name!r} is written by the index itself: give yours another name")
    return {**own, **{name: _json(value, name) for name, value in user.items()}}


def as_json(fields: Mapping[str, Any]) -> dict[str, Json]:
    """Fields as plain JSON values, whatever their names.

    Raises:
        ContentError: A value is none that JSON can hold.
    """
    return with_user_fields({}, fields, reserved=frozenset())


def user_fields(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a stored payload that are not this library's bookkeeping."""
    return {name: value for name, value in payload.items() if name not in RESERVED}


def json_safe(value: object) -> Any:
    """The nearest thing that JSON can hold, of what any program may have stored.

    A float that is no number becomes null, as JSON has none, and bytes become Base64.
    """
    match value:
        case None | bool() | str() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(key): json_safe(inner) for key, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [json_safe(inner) for inner in value]
        case np.generic() | np.ndarray():
            return json_safe(value.tolist())
        case date() | datetime() | time():
            return value.isoformat()
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode()
        case _:
            return str(value)


def _json(value: object, field: str, depth: int = 0) -> Json:
    if depth > _DEEPEST:
        raise ContentError(f"payload field {field[:80]!r} is nested more than {_DEEPEST} deep, or holds itself")
    match value:
        case None | bool():
            return value
        case str():
            if is_unicode(value):
                return value
            raise ContentError(
                f"payload field {field!r} holds a lone surrogate, which is no valid Unicode: {value!r:.80}"
            )
        case int() if -_MAX_INTEGER - 1 <= value <= _MAX_INTEGER:
            return int(value)
        case float() if math.isfinite(value):
            return float(value)
        case Mapping():
            if all(isinstance(name, str) and is_unicode(name) for name in value):
                return {name: _json(below, f"{field}.{name}", depth + 1) for name, below in value.items()}
        case list() | tuple():
            return [_json(below, field, depth + 1) for below in value]
        case datetime() | date():
            return value.isoformat()
        case UUID() | PurePath():
            return str(value)
        case np.generic() | np.ndarray():
            return _json(value.tolist(), field, depth + 1)
    raise ContentError(f"payload field {field!r} holds {value!r:.80} ({type(value).__name__}), which JSON cannot hold")
