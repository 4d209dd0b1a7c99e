"""Foreign text, such as file names and captions: made safe to print, shortened, normalized."""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections.abc import Callable, Mapping
from unicodedata import normalize

from multimodal_search._secrets import without_secrets

_JOINERS = "\u200c\u200d"  # needed by Persian words and emoji, and harmless
_UNSEEN_IN_PROSE = dict.fromkeys(map(ord, "\u00ad\u200b\u200e\u200f\u2060\ufeff"))


def printable(text: str) -> str:
    r"""Escape what a terminal would interpret or cannot show, such as `\x1b`; the result is one line.

    Escaped are control characters, line ends, marks that change the reading direction, and lone surrogates, which stand
    for undecodable bytes in file names.
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def prose(text: str) -> str:
    """`printable` for prose: white space becomes single spaces, invisible marks are removed."""
    return printable(" ".join(text.translate(_UNSEEN_IN_PROSE).split()))


_NAMES = {"audio": "audio file", "text": "text file", "other": "other file"}  # plurals of kinds that are not nouns


def counted(kinds: Mapping[str, int]) -> str:
    """Counts by kind, the highest first: "8 videos, 1 linked folder"."""
    ordered = sorted(kinds.items(), key=lambda each: (-each[1], each[0]))
    return ", ".join(f"{count:,} {_NAMES.get(kind, kind)}{'' if count == 1 else 's'}" for kind, count in ordered)


def _shown(character: str) -> str:
    if character.isprintable() or character in _JOINERS:
        return character
    if unicodedata.category(character) == "Zs":  # macOS puts a narrow no-break space in names of screenshots
        return " "
    return character.encode("unicode_escape").decode("ascii")


def columns_of(text: str) -> int:
    """Width of `text` in columns of a terminal: two for a wide East Asian character, else one."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def shorten(text: str, limit: float, *, keep_end: bool = False, measure: Callable[[str], float] = columns_of) -> str:
    """Shorten a text with an ellipsis.

    Args:
        text: One line.
        limit: Maximum length in the unit of `measure`; also the maximum number of characters.
        keep_end: Cut in the middle, as for paths, whose ends matter most; otherwise at the end.
        measure: The length of a text; roughly proportional to the number of characters.
    """
    if len(text) <= limit and measure(text) <= limit:
        return text

    def cut(kept: int) -> str:
        tail = kept * 2 // 3 if keep_end else 0
        return f"{text[: kept - tail].rstrip()}…{text[len(text) - tail :].lstrip()}"

    low, high = 0, max(0, min(len(text), int(limit)) - 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if measure(cut(middle)) <= limit else (low, middle - 1)
    return cut(low)


def is_unicode(text: str) -> bool:
    """Whether a text is valid Unicode: without lone surrogates, it can be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def brief(value: object, most: int = 80) -> str:
    """The `repr` of any value, shortened and without secrets of addresses; the type's name if `repr` fails."""
    try:
        text = without_secrets(repr(value))
    except Exception:  # noqa: BLE001 (integers of more than 4,300 digits, recursion, foreign `__repr__` methods)
        text = f"<{type(value).__name__}>"
    return text if len(text) <= most else f"{text[: most - 1]}…"


def without_name(message: str, name: str) -> str:
    """An error's message without its leading `name: ` or `/folder/name: `."""
    head, found, reason = message.partition(f"{name}: ")
    return reason if name and found and reason and (not head or head[-1] in "/\\ '\"") else message


def score_text(score: float) -> str:
    """A score with three decimals."""
    return f"{round(score, 3) + 0.0:.3f}"  # + 0.0: no minus before a zero


_MAX_SPELLINGS = 16  # four path components with accents, each in NFC or NFD; deeper paths are rare


def composed(text: str) -> str:
    """The text in Unicode normalization form C (NFC), in which canonically equal texts are equal."""
    return text if text.isascii() else normalize("NFC", text)


def has_other_spelling(text: str) -> bool:
    """Whether the NFC and NFD forms of a text differ."""
    return not text.isascii() and (normalize("NFD", text) != text or normalize("NFC", text) != text)


def spellings(text: str) -> tuple[str, ...]:
    """The text and its equivalents with each path component in NFC or NFD."""
    if not has_other_spelling(text):
        return (text,)
    forms = [tuple(dict.fromkeys((normalize("NFC", part), normalize("NFD", part)))) for part in text.split("/")]
    if math.prod(map(len, forms)) > _MAX_SPELLINGS:
        return tuple(dict.fromkeys((text, normalize("NFC", text), normalize("NFD", text))))
    return tuple(dict.fromkeys((text, *map("/".join, itertools.product(*forms)))))
