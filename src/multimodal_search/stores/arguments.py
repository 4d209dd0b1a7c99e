"""Check what a store is given: schemas, ids, records, vectors, limits, fields, words, and metadata of the index."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from multimodal_search._bounds import MAX_TEXT_LENGTH, MAX_WORDS, check_length, is_iterable, is_whole
from multimodal_search._payload import check_stored
from multimodal_search._text import brief, is_unicode
from multimodal_search.errors import ConfigurationError, ContentError, QueryError, SchemaMismatchError, StoreError
from multimodal_search.ids import as_point_id
from multimodal_search.stores.bm25 import words_of
from multimodal_search.types import FloatArray, PointId, Record, StoreSchema
from multimodal_search.vectors import of_unit_length

__all__ = [
    "check_payload",
    "check_schema",
    "checked_fields",
    "checked_ids",
    "checked_name",
    "checked_records",
    "checked_text",
    "checked_words",
    "rows_to_search",
    "rows_to_store",
]

MAX_LIMIT = 2**62
"""The largest `limit` and `offset`: engines take integers of 64 bits, and get some more than were asked for."""

_NAME = re.compile(r"[a-z0-9_]{1,100}")


def check_schema(schema: object) -> None:
    """Check that a store is opened with a schema.

    Raises:
        ConfigurationError: It is something else.
    """
    if not isinstance(schema, StoreSchema):
        raise ConfigurationError(f"ensure takes a StoreSchema, not {brief(schema)}")


def checked_ids(ids: Sequence[PointId]) -> list[PointId]:
    """Check the ids of points; returns them with UUIDs in canonical form.

    Raises:
        ConfigurationError: They are not a sequence, or one of them is not an id.
    """
    if not is_iterable(ids) or isinstance(ids, (str, bytes)):
        raise ConfigurationError(f"ids are given as a list of them, not as {brief(ids)}")
    return [as_point_id(each) for each in ids]


def checked_fields(fields: Sequence[str] | None) -> list[str] | None:
    """Check the names of the payload fields that `scan` returns; None for all.

    Raises:
        QueryError: They are not a sequence of names.
    """
    if fields is None:
        return None
    names = None if not is_iterable(fields) or isinstance(fields, (str, bytes)) else list(fields)
    if names is None or not all(isinstance(name, str) for name in names):
        raise QueryError(f"fields are a list of names of payload fields, or None for all, not {brief(fields)}")
    return names


def checked_name(name: str) -> str:
    """Check the name of a text of the index metadata.

    Raises:
        ConfigurationError: It has other characters, or too many.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"a name of index metadata is 1 to 100 lower-case letters, digits and _, not {brief(name, 120)}"
        )
    return name


def checked_text(name: str, text: str) -> str:
    """Check the text of the index metadata `name`.

    Raises:
        ConfigurationError: It is not a str, or not valid Unicode.
    """
    if not isinstance(text, str) or not is_unicode(text):
        raise ConfigurationError(f"the index metadata {name!r} is not valid Unicode text: {brief(text, 120)}")
    return text


def check_payload(record: Record) -> None:
    """See that a record's payload has a size and depth that any store can write, and read again.

    Raises:
        ContentError: It has not; the message names the record.
    """
    check_stored(record.payload, record.id)


def checked_records(records: Sequence[Record]) -> Sequence[Record]:
    """Check the records to store.

    Raises:
        ConfigurationError: They are not a sequence of records.
    """
    if not isinstance(records, Sequence) or not all(isinstance(record, Record) for record in records):
        raise ConfigurationError(f"upsert takes a list of Record, not {brief(records)}")
    return records


def rows_to_store(records: Sequence[Record], vectors: FloatArray, schema: StoreSchema) -> FloatArray:
    """Check vectors to store; returns them at unit length (zeros stay), shape `(len(records), dimension)`.

    Raises:
        ContentError: A vector is not finite; the message names its record.
        SchemaMismatchError: They have another length than the store's.
        ConfigurationError: `records` is not a sequence of records.
        StoreError: They are not an array with one row of numbers for each record.
    """
    checked_records(records)
    rows = _as_array(vectors)
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
    """Check query vectors; returns them at lengths that a 32-bit engine can normalize.

    Raises:
        QueryError: They are not rows of finite numbers, or `limit` or `offset` is out of bounds.
        SchemaMismatchError: They have another length than the store's.
    """
    _check_whole(limit, least=1, named="limit")
    _check_whole(offset, least=0, named="offset")
    rows = _as_array(vectors)
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


def _as_array(vectors: object) -> FloatArray:
    try:
        return np.asarray(vectors)
    except (ValueError, TypeError):  # rows of different lengths
        return np.empty(0, object)


def _check_whole(value: object, *, least: int, named: str) -> None:
    if not is_whole(value, least=least) or value > MAX_LIMIT:  # type: ignore[operator]  # it is an integer then
        raise QueryError(f"{named} must be a whole number, at least {least} and at most 2^62, not {brief(value)}")


def _check_dimension(rows: FloatArray, schema: StoreSchema) -> None:
    if rows.shape[1] != schema.dimension and len(rows):
        raise SchemaMismatchError(
            f"the store holds vectors of {schema.dimension} dimensions ({schema.model}), these have {rows.shape[1]}: "
            "use the embedder that the store was made with"
        )


def checked_words(words: str, *, limit: int) -> str:
    """Check the words to search for; returns them as valid Unicode.

    Raises:
        QueryError: `words` is not a str or too long, or `limit` is out of bounds.
    """
    if not isinstance(words, str):
        raise QueryError(f"the words to search for are a str, not {type(words).__name__}")
    _check_whole(limit, least=1, named="limit")
    check_length(len(words), MAX_TEXT_LENGTH, named="the text to search for", of="characters", error=QueryError)
    check_length(len(set(words_of(words))), MAX_WORDS, named="the text to search for", of="words", error=QueryError)
    return words.encode(errors="replace").decode()  # lone surrogates are never part of a word
