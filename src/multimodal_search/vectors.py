"""Matrices of vectors: checks, unit length, and products that stay in one thread."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from multimodal_search.errors import EmbedderResponseError
from multimodal_search.types import FloatArray

Real = TypeVar("Real", np.float32, np.float64)


@dataclass(frozen=True, slots=True)
class Rows:
    """Vectors for some contents.

    Attributes:
        vectors: Shape `(count, dimension)`, float32; finite and not zero, but for the flawed ones, which hold NaN.
        flaws: What is wrong with a row, by its number.
    """

    vectors: FloatArray
    flaws: Mapping[int, str] = field(default_factory=dict)


def checked_rows(given: object, *, count: int, dimension: int | None, who: str) -> Rows:
    """Check an embedder's answer, row by row.

    Args:
        given: The answer; whatever it is.
        count: Of the contents that were embedded.
        dimension: How many numbers a vector has; None takes it from the first row.
        who: What messages call the embedder.

    Raises:
        EmbedderResponseError: There is not one row for each content, or none of the rows is a vector.
    """
    array = _as_matrix(given)
    rows = list(array) if array is not None else _listed(given, count, who)
    expected = f"expected {count} of {dimension or 'some'} numbers"
    if len(rows) != count:
        many = "too many" if len(rows) > count else len(rows)  # never equal here
        raise EmbedderResponseError(f"{who} returned {many} vectors, {expected}")
    if dimension is None:
        dimension = len(rows[0]) if hasattr(rows[0], "__len__") else 0
    if array is not None and array.shape[1] == dimension > 0:  # the quick way; row by row comes to the same
        with np.errstate(over="ignore"):
            vectors: FloatArray = np.array(array, dtype=np.float32, order="C")  # a copy: theirs may be reused
        flaws = dict.fromkeys(np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist(), _NOT_FINITE)
    else:
        vectors, flaws = np.empty((count, dimension), np.float32), {}
        for number, row in enumerate(rows):
            vector = as_vector(row, dimension)
            if isinstance(vector, str):
                flaws[number] = vector
            else:
                vectors[number] = vector
    vectors[list(flaws)] = np.nan
    zeros = np.flatnonzero(~vectors.any(axis=1)).tolist() if dimension else []
    flaws |= dict.fromkeys(zeros, "a vector of zeros, which nothing is near to")
    vectors[list(flaws)] = np.nan
    if len(flaws) == count > 0:
        told = "; ".join(sorted(set(flaws.values()))[:3])
        raise EmbedderResponseError(f"{who} returned {told}{'' if count == 1 else ' for every content'}, {expected}")
    return Rows(vectors, flaws)


_NOT_FINITE = "a vector that holds NaN or infinity"


def _as_matrix(given: object) -> npt.NDArray[np.generic] | None:
    """The answer as one array of two dimensions; None if it is none of real numbers."""
    if not (hasattr(given, "__array__") or isinstance(given, (list, tuple))):
        return None
    try:
        array = np.asarray(given)
    except Exception:  # noqa: BLE001 (rows of different lengths, or an array type of somebody else's)
        return None
    return array if array.ndim == 2 and array.dtype.kind in "biuf" else None


def _listed(given: object, count: int, who: str) -> list[object]:
    if isinstance(given, Iterable) and not isinstance(given, (str, bytes, Mapping, set, frozenset)):
        try:
            return list(itertools.islice(given, count + 1))
        except Exception as error:
            raise EmbedderResponseError(
                f"{who} returned no vectors, but {type(given).__name__} that raised {type(error).__name__}: {error}"
            ) from error
    raise EmbedderResponseError(f"{who} returned {type(given).__name__}, no array of numbers: expected {count} vectors")


def as_vector(row: object, dimension: int) -> FloatArray | str:
    """One row of finite numbers as float32, shape `(dimension,)`; else what it is instead, such as "no vector"."""
    try:
        vector = np.asarray(row)
    except Exception:  # noqa: BLE001 (as above)
        return "no vector of numbers"
    if vector.dtype.kind not in "biuf" or dimension == 0:  # 0 is that of a first row without numbers
        return "no vector of numbers"
    if vector.shape != (dimension,):
        size = f"{vector.size} numbers" if vector.ndim == 1 else f"shape {vector.shape}"
        return f"a vector of {size}, not of {dimension}"
    with np.errstate(over="ignore"):
        vector = vector.astype(np.float32)
    return vector if np.isfinite(vector).all() else _NOT_FINITE


def of_unit_length(rows: FloatArray) -> FloatArray:
    """Rows scaled to length 1; zeros stay.

    In 64 bits, because engines that do it in 32 turn large vectors into zeros and leave tiny ones as they are.
    """
    wide = rows.astype(np.float64)
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    lengths[lengths == 0] = 1  # or any other number: zeros stay
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


_SIDE, _DEPTH = 32, 192
"""Of a product of matrices that OpenBLAS does in one thread: up to 65,536 x 4 multiplications (its `interface/gemm.c`:
SMP_THRESHOLD_MIN, GEMM_MULTITHREAD_THRESHOLD). What comes out does not depend on them."""


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
