"""BM25 ranking of texts, with the arithmetic of Qdrant's engine.

The score of a text is the sum, over the distinct words of the query, of

    ln(1 + (N - n + 0.5) / (n + 0.5)) * tf * (k1 + 1) / (tf + k1 * (1 - b + b * length / average))

where tf is how often it holds the word, `length` how many words it holds, n how many texts hold the word, N how many
hold any word at all, and `average` their mean length (Robertson and Zaragoza, "The Probabilistic Relevance
Framework: BM25 and Beyond", 2009).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Generic, TypeVar

import numpy as np

__all__ = ["WordIndex", "bm25", "words_of"]

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


class WordIndex(Generic[Key]):
    """An inverted index of texts in memory, by words."""

    def __init__(self) -> None:
        self._lengths: dict[Key, int] = {}  # of texts that hold a word
        self._total = 0
        self._texts: dict[str, dict[Key, int]] = {}  # which hold a word, and how often

    def put(self, key: Key, text: str) -> None:
        """Index a text under a key that has none."""
        held = words_of(text)
        if held:
            self._lengths[key] = length = _rounded(len(held))
            self._total += length
            for word, count in Counter(held).items():
                self._texts.setdefault(word, {})[key] = count

    def remove(self, key: Key, text: str) -> None:
        """Remove a text that was put under a key."""
        self._total -= self._lengths.pop(key, 0)
        for word in set(words_of(text)):
            holders = self._texts[word]
            del holders[key]
            if not holders:
                del self._texts[word]

    def scores(self, words: str) -> dict[Key, float]:
        """Score the texts that hold at least one of some words by BM25."""
        found: dict[Key, list[tuple[int, int]]] = {}
        points_with = []
        for number, word in enumerate(dict.fromkeys(words_of(words))):
            holders = self._texts.get(word, {})
            points_with.append(len(holders))
            for key, count in holders.items():
                found.setdefault(key, []).append((number, count))
        held = ((key, self._lengths[key], counts) for key, counts in found.items())
        return _scores(held, points_with, points=len(self._lengths), total_length=self._total)


def bm25(words: str, texts: Iterable[tuple[Key, str]], *, points: int | None = None) -> dict[Key, float]:
    """Score the texts that hold at least one of some words by BM25.

    Args:
        words: What to look for.
        texts: A key for each text, and the text.
        points: How many texts hold any word at all, where `texts` are only those that may hold one of `words`; their
            mean length counts as that of all.
    """
    asked = {word: number for number, word in enumerate(dict.fromkeys(words_of(words)))}
    if not asked:
        return {}
    count = total_length = 0
    points_with = [0] * len(asked)
    found: list[tuple[Key, int, list[tuple[int, int]]]] = []
    for key, text in texts:
        held = words_of(text)
        if not held:
            continue
        length = _rounded(len(held))
        count += 1
        total_length += length
        # Sorted, so that sums come out the same to the last bit, in whatever order a text holds the words; of 32 bits
        # one in some hundred million would differ, so that no test can tell.
        frequencies = sorted(Counter(asked[word] for word in held if word in asked).items())
        if frequencies:
            found.append((key, length, frequencies))
            for number, _ in frequencies:
                points_with[number] += 1
    if points is not None and points > count:
        total_length, count = total_length * points // max(1, count), points
    return _scores(found, points_with, points=count, total_length=total_length)


def _scores(
    found: Iterable[tuple[Key, int, Sequence[tuple[int, int]]]],
    points_with: Sequence[int],
    *,
    points: int,
    total_length: int,
) -> dict[Key, float]:
    """BM25 scores of texts: of each its key, its length, and how often it holds which word."""
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
