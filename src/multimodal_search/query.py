"""Queries: what can be searched with.

"surfing"                                    text
Path("a.jpg"), bytes, a PIL image          an image
Mixed("at night", Image("a.jpg"))            several contents that the embedder takes as one prompt
Stored(7)                                    a stored point
Vector(...), [0.1, ...], a NumPy array       a vector
Text("beach") + 0.5 * Image("a.jpg") - Text("people")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

import numpy as np
import numpy.typing as npt

from multimodal_search._path_text import is_address, is_path_of_image
from multimodal_search._text import brief
from multimodal_search.contents import (
    ContentLike,
    Image,
    Mixed,
    QueryPart,
    Text,
    as_content,
    check_parts,
    weighted_parts,
)
from multimodal_search.errors import ConfigurationError, QueryError
from multimodal_search.ids import HOW_TO_FIND_A_FILE, as_point_id
from multimodal_search.types import FloatArray, PointId

_HUGE = 2.0**1023
_SHOWN = 8


@dataclass(frozen=True, slots=True, init=False)
class Stored(QueryPart):
    """A stored point to search with: for points similar to it, or with `-`, dissimilar.

    Args:
        id: The point's id.

    Raises:
        QueryError: It is no id.

    Examples:
        >>> first = index.search("red", limit=1)[0]
        >>> index.search(Stored(first.id), limit=1)[0].filename
        'red.jpg'
    """

    id: PointId

    def __init__(self, id: PointId | UUID) -> None:  # noqa: A002
        try:
            object.__setattr__(self, "id", as_point_id(id))
        except ConfigurationError:
            raise QueryError(
                f"{brief(id)} is no id of a stored point, which are integers from 0 to 2^64-1 or UUIDs; to search by "
                f"words or by an image write Text(...) or Image(...); {HOW_TO_FIND_A_FILE}"
            ) from None

    def __repr__(self) -> str:
        return f"Stored({self.id!r})"


@dataclass(frozen=True, slots=True, init=False)
class Vector(QueryPart):
    """A vector to search with, in the embedder's space.

    Args:
        values: Shape `(dimension,)`; kept as 32-bit floats.

    Raises:
        QueryError: The values are not a row of finite numbers.

    Examples:
        >>> vector = ColorEmbedder().embed([Text("blue")], role="query")[0]
        >>> index.search(Vector(vector), limit=1)[0].filename
        'blue.jpg'
    """

    values: tuple[float, ...]

    def __init__(self, values: Sequence[float] | npt.NDArray[np.floating]) -> None:
        object.__setattr__(self, "values", tuple(as_numbers(values).tolist()))

    def __repr__(self) -> str:
        if len(self.values) > _SHOWN:
            return f"Vector(<{len(self.values)} numbers>)"
        return f"Vector([{', '.join(f'{value:.6g}' for value in self.values)}])"


Query: TypeAlias = "ContentLike | QueryPart | Sequence[float] | npt.NDArray[np.floating]"
"""What can be searched with: text (`str`), an image (`Path`, bytes, PIL), `Mixed`, `Stored`, a vector, or a sum."""


def as_query_part(query: Query) -> QueryPart:
    """Wrap a query as a part that can be weighted and added.

    Raises:
        QueryError: It is a list or an array that is not a vector, a sum of too many parts, or a `str` that is the path
            of an image.
        TypeError: It is nothing that can be searched with.
    """
    if isinstance(query, QueryPart):
        check_parts(query)
        return query
    if isinstance(query, str) and is_path_of_image(query):
        if is_address(query):  # not shown: it may hold a password
            raise QueryError(
                "a str is words, and this one is the address of an image: to search with that write "
                "Image.from_url(...), to search for these words Text(...)"
            )
        raise QueryError(
            f"a str is words, and {brief(query, 200)} is the path of a file: to search with the image write Path(...), "
            "to search for these words Text(...)"
        )
    if isinstance(query, (list, tuple, np.ndarray)):
        return Vector(query)
    try:
        return as_content(query)
    except TypeError:
        raise TypeError(
            "expected something to search with: a str, a Path, bytes, a PIL image, Text, Image, Mixed, Stored, "
            f"Vector, a list of numbers, or a sum of such, not {type(query).__name__}"
        ) from None


def described(query: Query) -> str:
    """Describe a query in a short text."""
    match query:
        case str():
            return query
        case Text():
            return query.text
        case list() | tuple() | np.ndarray():
            return f"<vector of {len(query)}>"
    part = as_query_part(query)
    return part.label if isinstance(part, Image) else repr(part)


def query_text(query: Query) -> str:
    """The text of a query for keyword search: its parts with a positive weight; empty if there is none."""
    texts: list[str] = []
    for weight, part in weighted_parts(as_query_part(query)):
        inner = part.parts if isinstance(part, Mixed) else (part,)
        texts += [each.text for each in inner if isinstance(each, Text) and weight > 0]
    return " ".join(texts)


def _is_number(value: object) -> bool:
    if isinstance(value, (int, float)):
        return not isinstance(value, bool) and not abs(value) >= _HUGE
    return isinstance(value, (np.integer, np.floating))


def as_numbers(values: Sequence[float] | npt.NDArray[np.floating]) -> FloatArray:
    """Check a row of finite numbers, and convert it to 32-bit floats."""
    if not isinstance(values, (list, tuple, np.ndarray)):
        raise TypeError(f"a vector is a list of numbers or a NumPy array, not {type(values).__name__}")
    given = np.asarray(values) if isinstance(values, np.ndarray) or all(map(_is_number, values)) else None
    if given is None or given.dtype.kind not in "fiu":
        raise QueryError(f"a query vector holds numbers only, not {brief(values)}; several queries are for search_many")
    if given.ndim != 1 or not len(given):
        raise QueryError(f"a query vector is one row of numbers, not an array of shape {given.shape}")
    with np.errstate(over="ignore"):
        vector = given.astype(np.float32)
    if not np.isfinite(vector).all():
        raise QueryError("the query vector holds NaN or infinity")
    return vector
