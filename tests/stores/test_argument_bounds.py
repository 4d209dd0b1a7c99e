"""What a store checks before it asks its engine: the edges of each argument."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from multimodal_search import (
    ConfigurationError,
    ContentError,
    QueryError,
    Record,
    SchemaMismatchError,
    StoreError,
    StoreSchema,
)
from multimodal_search._bounds import MAX_TEXT_LENGTH, MAX_WORDS
from multimodal_search.stores.arguments import (
    checked_name,
    checked_text,
    checked_words,
    rows_to_search,
    rows_to_store,
)

SCHEMA = StoreSchema(model="m", fingerprint="f", dimension=2)


@pytest.mark.parametrize("name", ["a", "0", "_", "a_1", "x" * 100])
def test_the_name_of_index_metadata(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize("name", ["", "x" * 101, "A", "a-b", "a b", "é", "a\n", None, 1, b"a"], ids=repr)
def test_no_name_of_index_metadata(name: Any) -> None:
    """Stores make file names and ids of them."""
    with pytest.raises(ConfigurationError, match="1 to 100 lower-case letters"):
        checked_name(name)


def test_the_text_of_index_metadata() -> None:
    for text in ("", "é", "\x00", "🏄"):
        assert checked_text("n", text) == text
    for wrong in ("\ud800", None, 7):
        with pytest.raises(ConfigurationError, match="the index metadata 'n' is not valid Unicode text"):
            checked_text("n", wrong)  # type: ignore[arg-type]


def test_rows_to_store_are_scaled() -> None:
    records = [Record(1, {}), Record(2, {}), Record(3, {})]
    for rows in (
        np.array([[3, 4], [0, 0], [0, -2]], np.float32),
        np.array([[3, 4], [0, 0], [0, -2]]),
        [[3, 4], [0, 0], [0, -2]],
    ):
        stored = rows_to_store(records, rows, SCHEMA)  # type: ignore[arg-type]
        np.testing.assert_allclose(stored, [[0.6, 0.8], [0, 0], [0, -1]], rtol=1e-6)
    assert rows_to_store([], np.empty((0, 2), np.float32), SCHEMA).shape == (0, 2)
    assert len(rows_to_store([], np.empty((0, 5), np.float32), SCHEMA)) == 0  # nothing has no dimension


@pytest.mark.parametrize(
    "rows",
    [
        np.ones((1, 2)), np.ones((3, 2)), np.ones(2), np.ones((2, 2, 1)), np.ones((2, 2), bool),
        np.ones((2, 2), complex),
        np.array([["1", "2"]] * 2), np.full((2, 2), None),
    ],
    ids=lambda rows: f"{rows.shape} {rows.dtype}",
)  # fmt: skip
def test_what_is_no_row_for_each_record_is_not_stored(rows: Any) -> None:
    with pytest.raises(StoreError, match=r"2 records need vectors of shape \(2, 2\) and dtype float32"):
        rows_to_store([Record(1, {}), Record(2, {})], rows, SCHEMA)


def test_a_record_whose_vector_is_not_finite_is_named() -> None:
    records = [Record(number, {}) for number in (10, 20, 30)]
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(ContentError, match="the vector of 20 holds NaN"):
            rows_to_store(records, np.array([[1, 1], [1, bad], [bad, 1]]), SCHEMA)


@pytest.mark.parametrize("dimension", [1, 3])
def test_vectors_of_another_length_say_which_model_made_the_store(dimension: int) -> None:
    rows = np.ones((1, dimension), np.float32)
    with pytest.raises(SchemaMismatchError, match=rf"2 dimensions \(m\), these have {dimension}"):
        rows_to_store([Record(1, {})], rows, SCHEMA)
    with pytest.raises(SchemaMismatchError, match=rf"2 dimensions \(m\), these have {dimension}"):
        rows_to_search(rows, SCHEMA, limit=1, offset=0)


def test_rows_to_search_are_left_alone_where_engines_can_scale_them() -> None:
    """What is sent is what the caller gave, so that scores do not differ by a rounding."""
    for length in (1.0, 1.01e-6, 0.99e6):
        assert rows_to_search(np.array([[length, 0]]), SCHEMA, limit=1, offset=0) == [[length, 0]]
    assert rows_to_search(np.empty((0, 2)), SCHEMA, limit=1, offset=0) == []
    assert rows_to_search(np.array([[3, 4]], np.uint8), SCHEMA, limit=1, offset=0) == [[3, 4]]


@pytest.mark.parametrize("length", [1e-6, 0.5e-6, 1e-30, 1e6, 2e6, 1e30])
def test_rows_to_search_are_scaled_where_engines_would_lose_them(length: float) -> None:
    """Their 32-bit squares of such lengths come out as nothing or as infinity."""
    found = rows_to_search(np.array([[0.6 * length, 0.8 * length], [1, 0]]), SCHEMA, limit=1, offset=0)
    np.testing.assert_allclose(found, [[0.6, 0.8], [1, 0]], rtol=1e-6)


def test_zeros_to_search_with_stay() -> None:
    assert rows_to_search(np.zeros((1, 2)), SCHEMA, limit=1, offset=0) == [[0, 0]]


@pytest.mark.parametrize(
    "rows",
    [np.ones(2), np.ones((1, 2, 1)), np.ones((1, 2), bool), np.ones((1, 2), complex), np.array([["1", "2"]])],
    ids=lambda rows: f"{rows.shape} {rows.dtype}",
)
def test_what_is_no_row_is_not_searched_with(rows: Any) -> None:
    with pytest.raises(QueryError, match=r"searching needs vectors of shape \(n, 2\) and dtype float32"):
        rows_to_search(rows, SCHEMA, limit=1, offset=0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_query_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(QueryError, match="a vector to search with holds NaN"):
        rows_to_search(np.array([[1, 0], [0, bad]]), SCHEMA, limit=1, offset=0)


@pytest.mark.parametrize(
    ("limit", "offset"), [(0, 0), (-1, 0), (1, -1), (1.5, 0), (1, 0.5), (True, 0), (1, None), ("1", 0)]
)
def test_a_page_begins_at_0_and_holds_at_least_1(limit: Any, offset: Any) -> None:
    with pytest.raises(
        QueryError, match=r"(limit|offset) must be a whole number, at least [01] and at most 2\^62, not"
    ):
        rows_to_search(np.ones((1, 2)), SCHEMA, limit=limit, offset=offset)


def test_words_to_search_for() -> None:
    assert checked_words("a red fox", limit=1) == "a red fox"
    assert checked_words("fox \ud800", limit=1) == "fox ?"
    with pytest.raises(QueryError, match="the words to search for are a str, not bytes"):
        checked_words(b"fox", limit=1)  # type: ignore[arg-type]
    with pytest.raises(QueryError, match="limit must be a whole number, at least 1"):
        checked_words("fox", limit=0)
    with pytest.raises(QueryError, match=r"the text to search for .*characters"):
        checked_words(" " * (MAX_TEXT_LENGTH + 1), limit=1)
    words = " ".join(map(str, range(MAX_WORDS)))
    assert checked_words(f"{words} 1 2 3", limit=1)  # each counts once
    with pytest.raises(QueryError, match=r"the text to search for .*words"):
        checked_words(f"{words} fox", limit=1)
