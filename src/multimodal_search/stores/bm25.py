"""BM25 ranking of the texts in a payload field, with the arithmetic of Qdrant's engine.

A point's score is the sum, over the distinct words of the query, of

    ln(1 + (N - n + 0.5) / (n + 0.5)) * tf * (k1 + 1) / (tf + k1 * (1 - b + b * length / average))

where tf is how often its field holds the word, `length` how many words it holds, n how many points hold the word, N how
many hold any word at all, and `average` their mean length (Robertson and Zaragoza, "The Probabilistic Relevance
Framework: BM25 and Beyond", 2009).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Hashable, Iterable
from typing import TypeVar

import numpy as np

__all__ = ["bm25", "words_of"]

Key = TypeVar("Key", bound=Hashable)

K1 = 1.2
B = 0.75

_LENGTH_BITS = 13
"""Leading bits of a document length that the engine keeps: from 8,192 words on, lengths are rounded down."""

_WORD = re.compile(r"[^\W_]+")


def words_of(text: str) -> list[str]:
    """Tokenize a text into its runs of letters and digits, in lower case.

    Text without spaces between words, as Chinese and Japanese, is one word from one punctuation mark to the next. The
    engine's letters include the vowel signs of Arabic, Hebrew, Hindi and others; Python's do not.
    """
    # Split first: in lower case, İ is an i and a combining dot, which is not a letter.
    return [word.lower() for word in _WORD.findall(text)]


def bm25(words: str, values: Iterable[tuple[Key, object]]) -> dict[Key, float]:
    """Score the fields that contain at least one of some words by BM25.

    Args:
        words: What to look for.
        values: A key for each point, and the value of its field: a text, or a list of texts, which count as one
            document; other values are ignored.
    """
    asked = {word: number for number, word in enumerate(dict.fromkeys(words_of(words)))}
    if not asked:
        return {}
    points = total_length = 0
    points_with = [0] * len(asked)
    found: list[tuple[Key, int, list[tuple[int, int]]]] = []
    for key, value in values:
        texts = value if isinstance(value, list) else [value]
        held = [word for text in texts if isinstance(text, str) for word in words_of(text)]
        if not held:
            continue
        length = _rounded(len(held))
        points += 1
        total_length += length
        # Sorted, so that sums come out the same to the last bit, in whatever order a text holds the words; of 32 bits
        # one in some hundred million would differ, so that no test can tell.
        frequencies = sorted(Counter(asked[word] for word in held if word in asked).items())
        if frequencies:
            found.append((key, length, frequencies))
            for number, _ in frequencies:
                points_with[number] += 1
    weights = [math.log(1 + (points - n + 0.5) / (n + 0.5)) for n in points_with]
    scores = {}
    for key, length, frequencies in found:
        norm = K1 * (1 - B + B * length * points / total_length)
        terms = (weights[number] * tf * (K1 + 1) / (tf + norm) for number, tf in frequencies)
        scores[key] = float(np.float32(sum(terms)))  # in 32 bits, as engines score
    return scores


def _rounded(length: int) -> int:
    lost = max(length.bit_length() - _LENGTH_BITS, 0)
    return length >> lost << lost
