"""BM25 against the formula, worked out by hand; engines are held to the same by the contract."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from multimodal_search.stores.bm25 import bm25, words_of


def weight(points: int, holding: int) -> float:
    return math.log(1 + (points - holding + 0.5) / (holding + 0.5))


def term(tf: int, length: int, average: float) -> float:
    return tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * length / average))


def test_a_score_is_the_sum_of_its_words_terms() -> None:
    """Three texts hold words, 2, 4 and 6 of them; what holds none counts neither as a point nor for the mean length."""
    values = [
        ("two", "fox hen"),
        ("none", "--"),
        ("four", "fox fox fox owl"),
        ("six", "a b c d e owl"),
        ("empty", ""),
    ]
    fox, owl = weight(3, 2), weight(3, 2)
    assert bm25("fox", values) == pytest.approx({"two": fox * term(1, 2, 4), "four": fox * term(3, 4, 4)}, rel=1e-6)
    assert bm25("owl fox OWL", values) == pytest.approx(
        {
            "two": fox * term(1, 2, 4),
            "four": fox * term(3, 4, 4) + owl * term(1, 4, 4),
            "six": owl * term(1, 6, 4),
        },
        rel=1e-6,
    )
    assert bm25("hen", values)["two"] == pytest.approx(weight(3, 1) * term(1, 2, 4), rel=1e-6)
    assert bm25("yak", values) == bm25("?", values) == {}


def test_scores_are_32_bit_floats_of_python() -> None:
    """As engines give them: 64 bits would order what is equal to them, and NumPy's do not go into JSON."""
    ((_, score),) = bm25("fox", [("a", "fox")]).items()
    assert type(score) is float
    assert score == float(np.float32(score))


def test_the_order_of_words_in_a_text_does_not_count() -> None:
    """Equal texts must score the same to the last bit, or ties are broken by rounding instead of by id."""
    words = ["ant", "bee", "cat", "dog", "eel", "fly", "gnu"]
    rows = [(number, " ".join(words[number:] + words[:number]) + " bee cat cat") for number in range(7)]
    assert len(set(bm25(" ".join(words), rows).values())) == 1


@pytest.mark.parametrize(
    ("length", "counted"), [(8191, 8191), (8192, 8192), (8193, 8192), (16_383, 16_382), (16_387, 16_384)]
)
def test_long_texts_are_as_long_as_the_engine_says(length: int, counted: int) -> None:
    """It keeps 13 bits of a length. With a short text beside it the mean shows what was counted."""
    short = "fox " * 100
    scores = bm25("fox", [("long", "fox " + "a " * (length - 1)), ("short", short)])
    mean = (counted + 100) / 2
    assert scores["long"] == float(np.float32(weight(2, 2) * term(1, counted, mean)))


def test_words_are_runs_of_letters_and_digits_in_lower_case() -> None:
    assert words_of("IMG_2024-05-01 (Zürich), l'été!") == ["img", "2024", "05", "01", "zürich", "l", "été"]
    assert words_of("İ") == ["i\u0307"]
    assert words_of(" _-") == []


def test_without_words_no_text_is_read() -> None:
    """There may be a million of them."""

    def texts() -> Iterator[tuple[int, str]]:
        raise AssertionError("nothing is asked")
        yield 1, "fox"

    assert bm25("-- ?", texts()) == {}
