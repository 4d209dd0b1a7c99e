"""Check what a store is given: vectors to store and to search with, payloads, words, names and texts of metadata."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from multimodal_search._bounds import MAX_TEXT_LENGTH, MAX_WORDS, check_length, is_whole
from multimodal_search._payload import check_stored
from multimodal_search._text import brief
from multimodal_search.errors import ConfigurationError, ContentError, QueryError, SchemaMismatchError, StoreError
from multimodal_search.stores.bm25 import words_of
from multimodal_search.types import FloatArray, Record, StoreSchema
from multimodal_search.vectors import of_unit_length

__all__ = ["check_payload", "checked_name", "checked_text", "checked_words", "rows_to_search", "rows_to_store"]

_NAME = re.compile(r"[a-z0-9_]{1,100}")


def checked_name(name: str) -> str:
    """The name of a text of metadata.

    Raises:
        ConfigurationError: It is no such name.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(f"a note's name is 1 to 100 lower-case letters, digits and _, not {brief(name, 120)}")
    return name


def checked_text(name: str, text: str) -> str:
    """The text of metadata under `name`.

    Raises:
        ConfigurationError: It is no text that UTF-8 can hold.
    """
    try:
        text.encode()
    except (AttributeError, UnicodeEncodeError) as error:
        raise ConfigurationError(f"the note {name!r} is no text that UTF-8 can hold: {brief(text, 120)}") from error
    return text


def check_payload(record: Record) -> None:
    """See that a record's payload has a size and depth that any store can write, and read again.

    Raises:
        ContentError: It has not; the message names the record.
    """
    check_stored(record.payload, record.id)


def rows_to_store(records: Sequence[Record], vectors: FloatArray, schema: StoreSchema) -> FloatArray:
    """Vectors to store, scaled to unit length (zeros stay), shape `(len(records), dimension)`.

    Raises:
        ContentError: A vector is not finite; the message names its record.
        SchemaMismatchError: They have another length than the store's.
        StoreError: They are no array of one row of numbers for each record.
    """
    rows = np.asarray(vectors)
    if rows.ndim != 2 or rows.dtype.kind not in "fiu" or len(rows) != len(records):
        raise StoreError(
            f"{len(records)} records need vectors of shape ({len(records)}, {schema.dimension}) and dtype float32, "
            f"not {rows.shape} and {rows.dtype}"
        )
    _check_dimension(rows, schema)
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise ContentError(f"the vector of {records[int(finite.argmin())].id!r} holds NaN or infinite values")
    return of_unit_length(rows)


def rows_to_search(vectors: FloatArray, schema: StoreSchema, *, limit: int, offset: int) -> list[list[float]]:
    """Vectors to search with, of a length that 32-bit engines can scale to 1 themselves.

    Raises:
        QueryError: They are no finite numbers in rows, or `limit` or `offset` is out of bounds.
        SchemaMismatchError: They have another length than the store's.
    """
    if not (is_whole(limit, least=1) and is_whole(offset, least=0)):
        raise QueryError(
            f"limit must be a whole number, at least 1, and offset at least 0, not {brief(limit)} and {brief(offset)}"
        )
    rows = np.asarray(vectors)
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise QueryError(
            f"searching needs vectors of shape (n, {schema.dimension}) and dtype float32, not {rows.shape} and "
            f"{rows.dtype}"
        )
    _check_dimension(rows, schema)
    lists: list[list[float]] = rows.tolist()
    lengths = [math.hypot(*row) for row in lists]  # a tenth of the time that NumPy takes for one row
    if not all(map(math.isfinite, lengths)):
        raise QueryError("a vector to search with holds NaN or infinite values")
    if any(not 1e-6 < length < 1e6 for length in lengths):
        lists = of_unit_length(rows).tolist()
    return lists


def _check_dimension(rows: FloatArray, schema: StoreSchema) -> None:
    if rows.shape[1] != schema.dimension and len(rows):
        raise SchemaMismatchError(
            f"the store holds vectors of {schema.dimension} dimensions ({schema.model}), these have {rows.shape[1]}: "
            "use the embedder that the store was made with"
        )


def checked_words(words: str, *, limit: int) -> str:
    """What to look for, in a form that any engine takes.

    Raises:
        QueryError: `words` is no text, or `limit` is out of bounds.
    """
    if not isinstance(words, str):
        raise QueryError(f"the words to search for are a str, not {type(words).__name__}")
    if limit < 1:
        raise QueryError(f"limit must be at least 1, not {limit}")
    check_length(len(words), MAX_TEXT_LENGTH, named="the text to search for", of="characters", error=QueryError)
    check_length(len(set(words_of(words))), MAX_WORDS, named="the text to search for", of="words", error=QueryError)
    return words.encode(errors="replace").decode()  # halves of surrogate pairs are no part of a word
