"""How large filters, queries and payloads may be, whoever sends them; each error names the limit and the size.

None of the limits is one that a sensible request meets. They are there because filters, queries and payloads come over
networks, and a single one must not keep a processor busy for minutes, fill the memory, or end the process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeGuard

import numpy as np

from multimodal_search._text import brief
from multimodal_search.errors import MultimodalSearchError, QueryError

MAX_DEPTH = 64
"""Levels of mappings and lists within each other. Qdrant's engine stores more, and then cannot read what is deeper than
128, the limit of its JSON parser; Python's own ends near 1,000."""

MAX_CONDITIONS = 10_000
"""Conditions in one filter; of values in a list, as `{"id": [...]}` has, there may be `MAX_VALUES`."""

MAX_FIELDS = 100_000
"""Fields in one payload, those of its fields' own mappings included."""

MAX_VALUES = 1_000_000
"""Elements of all lists in one filter or payload: twice the 500,000 ids that `QdrantStore` sends in one request."""

MAX_CHARACTERS = 32_000_000
"""Characters of all texts in one filter or payload: Qdrant's server takes no request above 32 MB."""

MAX_PATH_LENGTH = 1_024
"""Characters in the name of a field, or in the path to one."""

MAX_PATTERN_LENGTH = 1_024
"""Characters in a glob; the path of a file has 4,096 at most on Linux, 1,024 on macOS."""

MAX_TEXT_LENGTH = 1_000_000
"""Characters of a text to embed or to search for: a thick book. No model reads more than its first pages."""

MAX_WORDS = 10_000
"""Words that are looked for in one search."""

MAX_PARTS = 10_000
"""Parts of one query: of a weighted sum, of a `Mixed`, examples of `similar`."""

MAX_QUERIES = 100_000
"""Queries of one `search_many`."""


def check_size(value: object, *, named: str, error: type[MultimodalSearchError], most_fields: int) -> None:
    """See that a filter or a payload has a size that can be worked with, whatever it is made of.

    Args:
        value: Mappings, lists and scalars.
        named: What the error calls it.
        error: What is raised.
        most_fields: Entries that all mappings may have together.

    Raises:
        MultimodalSearchError: It is nested too deeply, holds itself, or holds too much; of the class `error`.
    """
    fields = values = characters = 0
    waiting: list[tuple[Any, int, object]] = [(value, 0, None)]  # its depth, and the field that it is in
    while waiting:
        outer, depth, top = waiting.pop()
        if depth > MAX_DEPTH:
            raise error(
                f"{named} is nested more than {MAX_DEPTH} deep, or holds itself, in the field {str(top)[:80]!r}"
            )
        is_mapping = isinstance(outer, Mapping)
        if is_mapping:
            fields += len(outer)
            characters += sum(len(key) for key in outer if isinstance(key, str))
        else:
            values += outer.size if isinstance(outer, np.ndarray) else len(outer)
        for size, most, what in (
            (fields, most_fields, "fields"),
            (values, MAX_VALUES, "values in lists"),
            (characters, MAX_CHARACTERS, "characters of text"),
        ):
            if size > most:
                raise error(f"{named} holds {size:,} {what} or more, and may hold {most:,}")
        inside: Iterable[tuple[object, Any]] = outer.items() if is_mapping else ((top, each) for each in _of(outer))
        for key, inner in inside:
            if isinstance(inner, str):
                characters += len(inner)
            elif isinstance(inner, (dict, list, tuple, set, frozenset, np.ndarray, Mapping)):
                waiting.append((inner, depth + 1, key if depth == 0 else top))
    if characters > MAX_CHARACTERS:
        raise error(f"{named} holds {characters:,} characters of text, and may hold {MAX_CHARACTERS:,}")


def check_length(length: int, most: int, *, named: str, of: str, error: type[MultimodalSearchError]) -> None:
    """See that a text or a list is not too long.

    Args:
        length: How long it is.
        most: How long it may be.
        named: What the error calls it.
        of: What the length counts.
        error: What is raised.

    Raises:
        MultimodalSearchError: It is too long; of the class `error`.
    """
    if length > most:
        raise error(f"{named} has {length:,} {of}, and may have {most:,}")


def is_iterable(values: object) -> TypeGuard[Iterable[Any]]:
    """Whether something can be iterated, which an array without a dimension cannot, though it has the method."""
    return isinstance(values, Iterable) and not (isinstance(values, np.ndarray) and values.ndim == 0)


def is_whole(value: object, *, least: int) -> bool:
    """Whether a setting is a whole number, and not below the least one."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= least)


def check_flags(**flags: object) -> None:
    """See that settings are True or False: of others, such as "no", nobody knows what they mean.

    Raises:
        TypeError: One is something else.
    """
    for name, value in flags.items():
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{name} is True or False, not {brief(value)}")


def at_most(values: Iterable[Any], most: int, *, named: str, of: str) -> list[Any]:
    """What an iterable yields, which may be without an end.

    Raises:
        QueryError: It yields too much.
    """
    taken: list[Any] = []
    for value in values:
        if len(taken) == most:
            raise QueryError(f"{named} has more than {most:,} {of}, the most that it may have")
        taken.append(value)
    return taken


def _of(values: Any) -> Iterator[Any]:
    """The elements of a list; of an array, those that may be lists again."""
    return iter(values.ravel() if values.dtype == object else ()) if isinstance(values, np.ndarray) else iter(values)
