"""Ranking by cosine similarity: rows of unit length go in, matches in the order that the protocol promises come out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from multimodal_search._bounds import is_whole
from multimodal_search._text import brief
from multimodal_search.errors import ContentError, QueryError, SchemaMismatchError, StoreError
from multimodal_search.types import FloatArray, Match, PointId, Record, StoreSchema

Real = TypeVar("Real", np.float32, np.float64)

ROUNDING = 1e-6
"""By how much a similarity in 32 bits may fall short of a threshold and still count."""

_SIDE, _DEPTH = 32, 192
"""Of a product of matrices that OpenBLAS does in one thread: up to 65,536 x 4 multiplications (its `interface/gemm.c`:
SMP_THRESHOLD_MIN, GEMM_MULTITHREAD_THRESHOLD)."""

MOST_TIES = 10_000
"""How many equal scores across the end of a page are put in order; beyond that the engine's own order stands."""


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


def of_unit_length(rows: FloatArray) -> FloatArray:
    """Rows scaled to length 1; zeros stay.

    In 64 bits, because engines that do it in 32 turn large vectors into zeros and leave tiny ones as they are.
    """
    wide = rows.astype(np.float64)
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    lengths[lengths == 0] = 1
    wide /= lengths[:, np.newaxis]
    return wide.astype(np.float32)


def products(rows: npt.NDArray[Real], vector: npt.NDArray[Real]) -> npt.NDArray[Real]:
    """The product of each of some rows, shape `(n, dimension)`, and a vector, shape `(n,)`, in the calling thread.

    `rows @ vector` is BLAS's, which from 10,000 or 500,000 numbers on, by its version, has threads of its own do it.
    They wait for each other without sleeping: beside other threads of ours, or other programs, a search that takes a
    quarter of a millisecond was seen to take eight.
    """
    found: npt.NDArray[Real] = np.einsum("ij,j->i", rows, vector)
    return found


def table_of_products(rows: FloatArray, others: FloatArray) -> FloatArray:
    """`rows @ others.T`, shape `(len(rows), len(others))`, in pieces that BLAS does in the calling thread."""
    table = np.zeros((len(rows), len(others)), np.float32)
    for top in range(0, len(rows), _SIDE):
        for left in range(0, len(others), _SIDE):
            for start in range(0, rows.shape[1], _DEPTH):
                part = slice(start, start + _DEPTH)
                piece = rows[top : top + _SIDE, part] @ others[left : left + _SIDE, part].T
                table[top : top + _SIDE, left : left + _SIDE] += piece
    return table


def id_order(point_id: PointId) -> tuple[bool, PointId]:
    """A key to sort ids by: integers, then UUIDs, each by size."""
    return isinstance(point_id, str), point_id


class Hit(Protocol):
    """A point as an engine found it."""

    @property
    def id(self) -> Any: ...
    @property
    def score(self) -> float: ...
    @property
    def payload(self) -> Any: ...


def ranked_pages(
    fetch: Callable[[Sequence[int], int, bool], Sequence[Sequence[Hit]]],
    payloads_of: Callable[[Sequence[PointId]], dict[PointId, dict[str, Any]]],
    *,
    queries: int,
    limit: int,
    offset: int,
) -> list[list[Match]]:
    """One page of matches for each query, in the protocol's order, from an engine that leaves ties in any order.

    One hit more than the page is asked for, because if its score equals the last one's, which of them belongs on the
    page is decided by their ids: then more is asked for until the tie ends.

    Args:
        fetch: Called with numbers of queries, a limit, and whether payloads are wanted; gives each one's best hits,
            by falling score.
        payloads_of: The payloads of ids; points deleted since may be missing.
        queries: How many queries there are.
        limit: Most matches on a page, at least 1.
        offset: Matches before the page.
    """
    end = offset + limit
    first = offset == 0  # deeper pages fetch ids alone, and then the payloads of one page
    pages = []
    for number, found in enumerate(fetch(range(queries), end + 1, first) if queries else ()):
        hits, asked, has_payload = found, end + 1, first
        while len(hits) == asked < end + MOST_TIES and hits[-1].score == hits[end - 1].score:
            asked, has_payload = min(asked * 4, end + MOST_TIES), False
            hits = fetch([number], asked, False)[0]
        if len({hit.score for hit in hits}) < len(hits):
            hits = sorted(hits, key=lambda hit: (-hit.score, *id_order(point_id(hit))))
        page = hits[offset:end]
        ids = [point_id(hit) for hit in page]
        if has_payload:
            pages.append([Match(key, hit.score, hit.payload or {}) for key, hit in zip(ids, page, strict=True)])
        else:
            payloads = payloads_of(ids)
            found_still = ((key, hit) for key, hit in zip(ids, page, strict=True) if key in payloads)
            pages.append([Match(key, hit.score, payloads[key]) for key, hit in found_still])
    return pages


def point_id(point: Any) -> PointId:
    """The id of a point that an engine gave, in the protocol's form: an int, or a UUID's canonical text."""
    found = point.id
    return found if type(found) is int else str(found)
