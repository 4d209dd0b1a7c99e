"""The spellings of a name: with accents as parts of their letters (NFC), or as characters of their own (NFD).

Keyboards and most systems write the first, old Macs the second, and both look the same. The folders of a path may
have been made by different systems, so each part of it has a spelling of its own.
"""

from __future__ import annotations

import itertools
import math
from unicodedata import normalize

_MOST = 16  # spellings of one text: four parts with accents, each in either form; deeper paths are rare


def composed(text: str) -> str:
    """The text in Unicode's normalization form C, in which texts that look the same are the same."""
    return text if text.isascii() else normalize("NFC", text)


def has_other_spelling(text: str) -> bool:
    """Whether there is another text that looks the same."""
    return not text.isascii() and (normalize("NFD", text) != text or normalize("NFC", text) != text)


def spellings(text: str) -> tuple[str, ...]:
    """The text and all others that look the same, as far as each part of a path is wholly in one form."""
    if not has_other_spelling(text):
        return (text,)
    forms = [tuple(dict.fromkeys((normalize("NFC", part), normalize("NFD", part)))) for part in text.split("/")]
    if math.prod(map(len, forms)) > _MOST:
        return tuple(dict.fromkeys((text, normalize("NFC", text), normalize("NFD", text))))
    return tuple(dict.fromkeys((text, *map("/".join, itertools.product(*forms)))))
