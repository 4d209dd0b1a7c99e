"""The nodes of a parsed filter: an abstract syntax tree, which each store translates or evaluates."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, TypeAlias

from multimodal_search._bounds import MAX_PATH_LENGTH, check_length
from multimodal_search._text import brief, is_unicode
from multimodal_search.errors import QueryError

_SEGMENT = re.compile(r'(?:"(?P<quoted>[^"\\]*)"|(?P<bare>[^."\\]+?))(?P<each>(?:\[\])*)(?P<end>\.|\Z)')

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")
_TIME = re.compile(
    r"\s*(\d{4})-(\d\d)-(\d\d)"
    r"(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?(?: ?(?:Z|z|UTC)| ?(?P<sign>[+-])(\d\d)(?::?(\d\d))?)?)?)?"
)


MAX_EXACT = 2**53 - 1
"""The largest integer that no other number equals as a 64-bit float."""


class Exactly(str):
    """A text in a filter that is compared as it is, without its other Unicode normalization form."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class FieldPath:
    """The path to a value in a payload.

    Attributes:
        steps: Keys of mappings, outermost first; None stands for each element of a list.
    """

    steps: tuple[str | None, ...]

    @classmethod
    def parse(cls, text: object) -> FieldPath:
        """Parse the notation of users, such as `a.b`, `a[].b` and `"a.b"`.

        Raises:
            QueryError: It is no path.
        """
        if isinstance(text, str):
            check_length(
                len(text), MAX_PATH_LENGTH, named=f"the field {brief(text)}", of="characters", error=QueryError
            )
        steps: list[str | None] = []
        position, end = 0, "."  # or anything else that is not the end
        if isinstance(text, str) and is_unicode(text):
            while segment := _SEGMENT.match(text, position):  # none begins where the text ends
                quoted = segment["quoted"]
                steps.append(segment["bare"] if quoted is None else quoted)
                steps += [None] * (len(segment["each"]) // 2)
                position, end = segment.end(), segment["end"]
        if end:
            raise QueryError(
                f"{brief(text)} is no field of a payload: write 'a' or 'a.b', and a key that holds dots in double "
                "quotes, as in '\"a.b\"'; a key that holds double quotes or backslashes cannot be filtered by"
            )
        return cls(tuple(steps))

    @property
    def json_path(self) -> str:
        """In Qdrant's syntax, where keys of other than ASCII letters, digits, `_` and `-` are quoted."""
        return "".join("[]" if step is None else f".{_quoted(step)}" for step in self.steps)[1:]

    def find(self, payload: Mapping[str, Any]) -> list[Any]:
        """The values at this place: none, one, or where the path leads through lists, several."""
        found: list[Any] = [payload]
        for step in self.steps:
            if step is None:
                found = [element for value in found if isinstance(value, list) for element in value]
            else:
                found = [value[step] for value in found if isinstance(value, Mapping) and step in value]
        return found

    def __str__(self) -> str:
        return self.json_path


def top_level_path(key: str) -> str | None:
    """Qdrant's path to a payload's own field `key`, whatever it holds; None if Qdrant has no way to write it."""
    return None if '"' in key or "\\" in key else _quoted(key)


def _quoted(key: str) -> str:
    return key if _PLAIN_KEY.fullmatch(key) else f'"{key}"'


@dataclass(frozen=True, slots=True)
class And:
    """Every part passes; without parts, everything does."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one part passes; without parts, nothing does."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not pass."""

    part: Node


@dataclass(frozen=True, slots=True)
class Equals:
    """A value is this one, of the same type; an integer up to `MAX_EXACT` is also equal to the float of its size."""

    field: FieldPath
    value: str | bool | int


@dataclass(frozen=True, slots=True)
class In:
    """A value is one of these texts, or of these integers, as for `Equals`."""

    field: FieldPath
    values: tuple[str, ...] | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NumberRange:
    """A number lies within all the bounds that are given; compared as 64-bit floats.

    Attributes:
        is_equality: Whether it stands for a float, which JSON may bring back one unit in the last place off.
    """

    field: FieldPath
    gte: float | None = None
    gt: float | None = None
    lte: float | None = None
    lt: float | None = None
    is_equality: bool = dataclasses.field(default=False, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class DatetimeRange:
    """A text that is an ISO 8601 time lies within all the bounds that are given, which have time zones."""

    field: FieldPath
    gte: datetime | None = None
    gt: datetime | None = None
    lte: datetime | None = None
    lt: datetime | None = None


@dataclass(frozen=True, slots=True)
class Prefix:
    """A text begins with the prefix; case matters."""

    field: FieldPath
    prefix: str


@dataclass(frozen=True, slots=True)
class Glob:
    """A text matches a pattern, whole; case matters.

    Attributes:
        field: Where the text stands.
        pattern: In the words of `fnmatch.fnmatchcase`, with at least one wildcard that no prefix could replace; it and
            the texts are compared with accents as parts of their letters.
        prefix: What all such texts begin with, in one of its spellings.
        infix: The longest text that all of them hold, in one of its spellings.
    """

    field: FieldPath
    pattern: str
    prefix: str
    infix: str


@dataclass(frozen=True, slots=True)
class Exists:
    """There is a value other than null and the empty list."""

    field: FieldPath


@dataclass(frozen=True, slots=True)
class Native:
    """A store's own filter object, passed through."""

    filter: object


FieldNode: TypeAlias = Equals | In | NumberRange | DatetimeRange | Prefix | Glob
"""A condition on the values of one field."""


Node: TypeAlias = And | Or | Not | Exists | Native | FieldNode
"""A filter, or a part of one."""


def parse_time(text: str) -> datetime | None:
    """Parse an ISO 8601 time, in the forms that Qdrant reads; None if it is none."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, zone_hours, zone_minutes = match.groups()
    try:
        offset = timedelta(hours=int(zone_hours or 0), minutes=int(zone_minutes or 0))
        return datetime(
            int(year),
            int(month),
            int(day),
            int(hour or 0),
            int(minute or 0),
            int(second or 0),
            int((fraction or "")[:6].ljust(6, "0")),
            tzinfo=timezone(-offset if sign == "-" else offset),
        )
    except ValueError:
        return None
