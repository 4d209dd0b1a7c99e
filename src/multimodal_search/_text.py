"""Foreign text made fit to show: file names, captions and messages come from other people's disks and payloads."""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections.abc import Callable, Mapping
from unicodedata import normalize

from multimodal_search._secrets import without_secrets

_JOINERS = "\u200c\u200d"  # Persian words and emoji need them, and they do no harm
_UNSEEN_IN_PROSE = dict.fromkeys(map(ord, "\u00ad\u200b\u200e\u200f\u2060\ufeff"))


def printable(text: str) -> str:
    r"""`text` on one line, with what a terminal would obey, or could not show, as an escape such as `\x1b`.

    That covers control and escape characters, line ends, marks that reverse the reading direction, and the
    lone surrogates that stand for undecodable bytes in file names.
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def prose(text: str) -> str:
    """`printable`, for words rather than names: white space becomes single blanks, invisible marks go."""
    return printable(" ".join(text.translate(_UNSEEN_IN_PROSE).split()))


_NAMES = {"audio": "audio file", "text": "text file", "other": "other file"}  # of kinds that are no plain nouns


def counted(kinds: Mapping[str, int]) -> str:
    """How many there are of each kind, the most first: "8 videos, 1 linked folder"."""
    ordered = sorted(kinds.items(), key=lambda each: (-each[1], each[0]))
    return ", ".join(f"{count:,} {_NAMES.get(kind, kind)}{'' if count == 1 else 's'}" for kind, count in ordered)


def _shown(character: str) -> str:
    if character.isprintable() or character in _JOINERS:
        return character
    if unicodedata.category(character) == "Zs":  # macOS puts a narrow no-break space in names of screenshots
        return " "
    return character.encode("unicode_escape").decode("ascii")


def columns_of(text: str) -> int:
    """How many columns of a terminal `text` takes: two for a wide East Asian character, else one."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def shorten(text: str, limit: float, *, keep_end: bool = False, measure: Callable[[str], float] = columns_of) -> str:
    """As much of `text` as fits, with an ellipsis for the rest.

    Args:
        text: One line.
        limit: The greatest length, in the unit of `measure`; also the greatest number of characters.
        keep_end: Cut out of the middle, as suits a path, whose end says most; else cut the end off.
        measure: The length of a text; at most about the number of characters times a constant.
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
    """Whether a text can be encoded, which one with lone surrogates cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def brief(value: object, most: int = 80) -> str:
    """The `repr` of what may be anything, cut off and without secrets of addresses; of what has none, what it is."""
    try:
        text = without_secrets(repr(value))
    except Exception:  # noqa: BLE001 (integers of more than 4,300 digits, what holds itself, anybody's own `__repr__`)
        text = f"<{type(value).__name__}>"
    return text if len(text) <= most else f"{text[: most - 1]}…"


def without_name(message: str, name: str) -> str:
    """An error's message less the `name: ` (or `/folder/name: `) that it begins with."""
    head, found, reason = message.partition(f"{name}: ")
    return reason if name and found and reason and (not head or head[-1] in "/\\ '\"") else message


def score_text(score: float) -> str:
    """A score with three digits."""
    return f"{round(score, 3) + 0.0:.3f}"  # + 0.0: no minus before a zero


_MAX_SPELLINGS = 16  # spellings of one text: four parts with accents, each in either form; deeper paths are rare


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
    if math.prod(map(len, forms)) > _MAX_SPELLINGS:
        return tuple(dict.fromkeys((text, normalize("NFC", text), normalize("NFD", text))))
    return tuple(dict.fromkeys((text, *map("/".join, itertools.product(*forms)))))
