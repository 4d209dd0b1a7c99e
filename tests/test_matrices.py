"""Matrices of vectors: an embedder's answer row by row, and unit length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from multimodal_search import EmbedderResponseError
from multimodal_search.types import FloatArray
from multimodal_search.vectors import Rows, checked_rows, of_unit_length, table_of_products

NOT_FINITE = "a vector that holds NaN or infinity"
NO_NUMBERS = "no vector of numbers"


def checked(given: object, *, count: int = 2, dimension: int | None = 3) -> Rows:
    return checked_rows(given, count=count, dimension=dimension, who="m")


class Tensor:
    """An array of another library, which NumPy can read."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.array(self.values, dtype)


@pytest.mark.parametrize("dimension", [3, None])
@pytest.mark.parametrize(
    "given",
    [
        [[1, 2, 3], [4, 5, 6]],
        ((1, 2, 3), (4, 5, 6)),
        [np.array([1, 2, 3]), np.array([4.0, 5, 6])],
        np.array([[1, 2, 3], [4, 5, 6]], np.float64),
        np.array([[1, 2, 3], [4, 5, 6]], np.uint8),
        np.asfortranarray(np.array([[1, 2, 3], [4, 5, 6]], np.float32)),
        Tensor([[1, 2, 3], [4, 5, 6]]),
        [Tensor([1, 2, 3]), Tensor([4, 5, 6])],
        {1: [1, 2, 3], 2: [4, 5, 6]}.values(),
    ],
    ids=lambda given: type(given).__name__,
)
def test_whatever_holds_a_row_for_each_content_is_a_matrix(given: object, dimension: int | None) -> None:
    rows = checked(given, dimension=dimension)
    assert rows.vectors.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert (rows.vectors.dtype, rows.vectors.flags.c_contiguous, dict(rows.flaws)) == (np.float32, True, {})


def test_a_matrix_is_a_copy() -> None:
    """An embedder may write its next answer into the same array."""
    given = np.ones((2, 3), np.float32)
    rows = checked(given)
    given[:] = 7
    assert rows.vectors.tolist() == [[1, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize(
    ("row", "flaw"),
    [
        ([1, float("nan"), 3], NOT_FINITE),
        ([1, float("-inf"), 3], NOT_FINITE),
        ([1, 1e39, 3], NOT_FINITE),  # more than 32 bits hold
        ([1, 2], "a vector of 2 numbers, not of 3"),
        ([1, 2, 3, 4], "a vector of 4 numbers, not of 3"),
        ([[1, 2, 3]], "a vector of shape (1, 3), not of 3"),
        (7, "a vector of shape (), not of 3"),
        (["1", "2", "3"], NO_NUMBERS),
        ([1j, 2, 3], NO_NUMBERS),
        ([[1], [2, 3]], NO_NUMBERS),
        (None, NO_NUMBERS),
    ],
    ids=repr,
)
def test_a_row_that_is_no_vector_is_named_and_the_others_are_kept(row: object, flaw: str) -> None:
    for number in (0, 1):
        given: list[object] = [[4, 5, 6], [4, 5, 6]]
        given[number] = row
        rows = checked(given)
        assert dict(rows.flaws) == {number: flaw}
        assert np.isnan(rows.vectors[number]).all()
        assert rows.vectors[1 - number].tolist() == [4, 5, 6]


def test_a_matrix_with_a_bad_row_names_it() -> None:
    """The quick way, where the answer is one array."""
    rows = checked(np.array([[1, 2, 3], [1, np.inf, 3]]))
    assert dict(rows.flaws) == {1: NOT_FINITE}
    assert rows.vectors[0].tolist() == [1, 2, 3]
    assert np.isnan(rows.vectors[1]).all()
    with pytest.raises(EmbedderResponseError, match="m returned a vector that holds NaN or infinity for every content"):
        checked(np.full((2, 3), 1e39))


@pytest.mark.parametrize(
    ("given", "count", "message"),
    [
        ([[1, 2, 3]], 2, "m returned 1 vectors, expected 2 of 3 numbers"),
        ([[1, 2, 3]] * 3, 2, "m returned too many vectors, expected 2 of 3 numbers"),
        (np.ones((0, 3)), 2, "m returned 0 vectors, expected 2 of 3 numbers"),
        ([[1, 2]], 1, "m returned a vector of 2 numbers, not of 3, expected 1 of 3 numbers"),
        (
            [[1, 2], [1, 2]],
            2,
            "m returned a vector of 2 numbers, not of 3 for every content, expected 2 of 3 numbers",
        ),
        (
            [[1, 2], "x", [1], [1, 2, float("nan")], [1] * 5],
            5,
            "m returned "
            + "; ".join(f"a vector of {size} numbers, not of 3" for size in (1, 2, 5))
            + " for every content, expected 5 of 3 numbers",
        ),
        (None, 2, "m returned NoneType, no array of numbers: expected 2 vectors"),
        (7, 2, "m returned int, no array of numbers: expected 2 vectors"),
        ("ab", 2, "m returned str, no array of numbers: expected 2 vectors"),
        (b"ab", 2, "m returned bytes, no array of numbers: expected 2 vectors"),
        ({0: [1, 2, 3], 1: [1, 2, 3]}, 2, "m returned dict, no array of numbers: expected 2 vectors"),
        ({1, 2}, 2, "m returned set, no array of numbers: expected 2 vectors"),
        (frozenset({1, 2}), 2, "m returned frozenset, no array of numbers: expected 2 vectors"),
    ],
    ids=repr,
)
def test_an_answer_that_is_no_matrix_is_refused(given: object, count: int, message: str) -> None:
    with pytest.raises(EmbedderResponseError) as caught:
        checked(given, count=count)
    assert str(caught.value) == message


def test_without_a_dimension_the_first_row_says_it() -> None:
    rows = checked([[1, 2], [1, 2, 3]], dimension=None)
    assert rows.vectors[0].tolist() == [1, 2]
    assert dict(rows.flaws) == {1: "a vector of 3 numbers, not of 2"}
    with pytest.raises(EmbedderResponseError, match="m returned 0 vectors, expected 1 of some numbers"):
        checked([], count=1, dimension=None)
    for empty in ([[]], [7], [[], [1, 2]], np.empty((1, 0))):
        with pytest.raises(
            EmbedderResponseError, match=r"m returned no vector of numbers.*, expected \d of some numbers"
        ):
            checked(empty, count=len(empty), dimension=None)


def test_nothing_asked_is_nothing_given() -> None:
    assert dict(Rows(np.ones((1, 3), np.float32)).flaws) == {}
    assert checked([], count=0).vectors.shape == (0, 3)
    assert checked(np.empty((0, 3)), count=0).vectors.shape == (0, 3)


def test_an_answer_without_end_is_read_no_further_than_needed() -> None:
    read = []

    def endless() -> Iterator[list[int]]:
        while True:
            read.append(1)
            yield [1, 2, 3]

    with pytest.raises(EmbedderResponseError, match="m returned too many vectors"):
        checked(endless())
    assert len(read) == 3


def test_a_sequence_that_makes_its_rows_when_asked_is_read_no_further_than_needed() -> None:
    read = []

    class Lazy(Sequence[list[int]]):
        def __len__(self) -> int:
            return 10**6

        def __getitem__(self, number: Any) -> Any:
            read.append(number)
            return [1, 2, 3]

    with pytest.raises(EmbedderResponseError, match="m returned too many vectors"):
        checked(Lazy())
    assert read == [0, 1, 2]


def test_numbers_beyond_32_bits_are_infinite_beside_a_row_of_another_length_too() -> None:
    rows = checked([[1, 1e39, 3], [1, 2], [1, 2, 3]], count=3)
    assert dict(rows.flaws) == {0: NOT_FINITE, 1: "a vector of 2 numbers, not of 3"}


def test_an_answer_that_raises_while_it_is_read_says_so() -> None:
    def broken() -> Iterator[list[int]]:
        yield [1, 2, 3]
        raise OSError("gone")

    with pytest.raises(EmbedderResponseError, match="m returned no vectors, but generator that raised OSError: gone"):
        checked(broken())


def test_an_array_type_that_raises_is_no_matrix() -> None:
    class Broken:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            raise RuntimeError("on another device")

        def __iter__(self) -> Iterator[list[int]]:
            return iter([[1, 2, 3], [4, 5, 6]])

    assert checked(Broken()).vectors.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert dict(checked([Broken(), [1, 2, 3]]).flaws) == {0: NO_NUMBERS}


def test_rows_are_scaled_to_length_1_whatever_their_size() -> None:
    rows = np.array([[3, 4], [0, 0], [3e-30, -4e-30], [3e30, 4e30], [0, -2]], np.float32)
    scaled = of_unit_length(rows)
    assert scaled.dtype == np.float32
    expected: FloatArray = np.array([[0.6, 0.8], [0, 0], [0.6, -0.8], [0.6, 0.8], [0, -1]], np.float32)
    np.testing.assert_allclose(scaled, expected, rtol=1e-6)
    assert rows.tolist()[0] == [3, 4]  # the caller's own stay


def test_products_of_matrices_are_in_the_order_of_their_rows() -> None:
    """Whole numbers below 2^24 have exact products, so that no part may be left out or counted twice."""
    random = np.random.default_rng(3)
    for count, others, dimension in ((33, 65, 193), (32, 32, 192), (1, 64, 385), (0, 3, 5), (3, 0, 5)):
        rows = random.integers(-9, 10, (count, dimension)).astype(np.float32)
        columns = random.integers(-9, 10, (others, dimension)).astype(np.float32)
        table = table_of_products(rows, columns)
        assert table.dtype == np.float32
        assert np.array_equal(table, rows @ columns.T)
