"""Ids of points: how an item gets one, their stored form, and their order.

Ids come from a key, so that indexing twice gives the same points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeAlias
from uuid import UUID, uuid5

import numpy as np

from multimodal_search._bounds import is_iterable
from multimodal_search._text import brief, composed, has_other_spelling
from multimodal_search.errors import ConfigurationError
from multimodal_search.types import PointId

NAMESPACE = UUID("5fdc2a3e-6fe5-4e0c-9d5d-7c1f2ad0a2a4")
"""The namespace of this library's UUIDv5 ids (RFC 9562, section 5.5); part of the storage format."""

HOW_TO_FIND_A_FILE = "to find a file's point, search or count with where={'filename': ...}"
"""What to tell who gives a name where an id is wanted."""

_MAX_INTEGER_ID = 2**64 - 1


def as_point_id(value: object) -> PointId:
    """The stored form of an id: an int in 0 to 2^64-1, or the canonical text of a UUID.

    Raises:
        ConfigurationError: `value` is neither.
    """
    match value:
        case bool():
            pass
        case int() | np.integer() if 0 <= value <= _MAX_INTEGER_ID:
            return int(value)
        case UUID():
            return str(value)
        case str():
            try:
                return str(UUID(value))
            except ValueError:
                pass
    raise ConfigurationError(f"an id is an integer from 0 to 2^64-1 or a UUID, not {brief(value)}")


def as_stored_ids(ids: object, call: str) -> list[PointId]:
    """The stored forms of the ids of points, for a method of the index.

    Raises:
        TypeError: These are no ids.
        ConfigurationError: One of them is none.
    """
    if not is_iterable(ids) or isinstance(ids, (bytes, bytearray, Mapping)):
        raise TypeError(f"{call} takes the id of a point, or several in a list, not {type(ids).__name__}")
    try:
        return [as_point_id(point_id) for point_id in ids]
    except ConfigurationError as error:
        raise ConfigurationError(f"{error}; {HOW_TO_FIND_A_FILE}") from None


@dataclass(frozen=True, slots=True)
class PathIds:
    """UUIDv5 of the POSIX path below the indexed folder; of the content's SHA-256 where there is no file.

    The same folder indexed twice, on two machines or by many workers gives the same ids. How accents are spelled does
    not count, as copying a folder may change that: the path is taken in Unicode's form NFC.

    Examples:
        >>> index = MultimodalIndex(ColorEmbedder(), MemoryStore(), ids=PathIds())
    """

    in_order: ClassVar[bool] = False
    follow_contents: ClassVar[bool] = False

    def allocate(self, *, filename: str | None, sha256: str) -> PointId:
        """The id for a file's path below the indexed folder, or else for a content's hash."""
        key = f"sha256:{sha256}" if filename is None else f"path:{composed(filename)}"
        return str(uuid5(NAMESPACE, key))

    def of_spelling(self, filename: str) -> PointId | None:
        """The id for a path in this very spelling, where a file that is spelled otherwise has the other id.

        None if there is no other spelling. Indexes from before spellings were one have these ids for paths in NFD.
        """
        if not has_other_spelling(filename):
            return None
        return str(uuid5(NAMESPACE, f"{'spelling' if composed(filename) == filename else 'path'}:{filename}"))


@dataclass(frozen=True, slots=True)
class ContentIds:
    """UUIDv5 of the content's SHA-256: two files with the same bytes are one point.

    Examples:
        >>> index = MultimodalIndex(ColorEmbedder(), MemoryStore(), ids=ContentIds())
    """

    in_order: ClassVar[bool] = False
    follow_contents: ClassVar[bool] = True

    def allocate(self, *, filename: str | None, sha256: str) -> PointId:
        """The id for a content's hash; `filename` plays no part."""
        return str(uuid5(NAMESPACE, f"sha256:{sha256}"))

    def of_spelling(self, filename: str) -> None:
        """None: names play no part."""


@dataclass(frozen=True, slots=True)
class SequentialIds:
    """0, 1, 2, ... in the order of indexing; an item that is stored already keeps its number.

    For one writer at a time: two processes would give the same numbers to different items.

    Args:
        start: The first number, 0 to 2^64-1.

    Raises:
        ConfigurationError: `start` is none.

    Examples:
        >>> index = MultimodalIndex(ColorEmbedder(), MemoryStore(), ids=SequentialIds())
        >>> index.add_texts(["red", "blue"]).added, index.get(1).payload["text"]
        (2, 'blue')
    """

    start: int = 0
    in_order: ClassVar[bool] = True
    follow_contents: ClassVar[bool] = False

    def allocate(self, *, filename: str | None, sha256: str) -> None:
        """None: the number depends on what is stored, so the index gives it."""

    def of_spelling(self, filename: str) -> None:
        """None: names play no part."""

    def __post_init__(self) -> None:
        if not isinstance(self.start, int) or isinstance(self.start, bool) or not 0 <= self.start <= _MAX_INTEGER_ID:
            raise ConfigurationError(f"SequentialIds starts at an integer from 0 to 2^64-1, not {brief(self.start)}")


IdScheme: TypeAlias = PathIds | ContentIds | SequentialIds
"""The ways to allocate ids.

`in_order` says whether ids depend on the order of indexing, and `follow_contents` whether a file whose content changes
becomes another point. `allocate` gives the id, as far as a filename and a SHA-256 tell it; `of_spelling` the one of a
filename in this very spelling.
"""


def id_order(point_id: PointId) -> tuple[bool, PointId]:
    """A key to sort ids by: integers, then UUIDs, each by size."""
    return isinstance(point_id, str), point_id
