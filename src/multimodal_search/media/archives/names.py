"""Detect the encoding of names in zip and tar files that are not UTF-8.

Zip has code page 437 and UTF-8 (APPNOTE.TXT, appendix D). Programs on Windows write the code page of their country
without marking it, and on Unix that of the system. Names in tar files are bytes.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Sequence

_NAMES_TO_GO_BY = 100  # a tar file has no table of contents: its first names decide

_UNICODE_PATH = 0x7075  # Info-ZIP's extra field with the name in UTF-8 (APPNOTE.TXT, 4.6.9)

_HANGUL = re.compile("[\uac00-\ud7a3]")
_KANA_OR_KANJI = re.compile("[\u3041-\u3096\u30a1-\u30fc\u3005\u4e00-\u9fff]")
_HAN = re.compile("[\u4e00-\u9fff]")
_LATIN = re.compile("[\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff\u00df]")
_TWO_BESIDE = re.compile(r"[^\x00-\x7f]{2}\.|\.[^\x00-\x7f]{2}|[^\x00-\x7f]\.[^\x00-\x7f]")  # the dot: a letter
_CYRILLIC = re.compile("[\u0400-\u045f]")


def _is_common(pattern: re.Pattern[str], encoding: str, first: int, last: int) -> Callable[[str], bool]:
    """Test for characters of a script, in the part of a double-byte set that holds the common ones."""

    def test(character: str) -> bool:
        if not pattern.match(character):
            return False
        lead = character.encode(encoding)[0]
        return first <= lead <= last or not _HAN.match(character)

    return test


# Each double-byte set has its common characters first: JIS X 0208 level 1, GB 2312 level 1, Big5 level 1. In order of
# precedence, if several fit equally.
_ENCODINGS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("cp932", _is_common(_KANA_OR_KANJI, "cp932", 0x88, 0x97)),
    ("cp949", lambda character: bool(_HANGUL.match(character))),
    ("gbk", _is_common(_HAN, "gbk", 0xB0, 0xD7)),
    ("big5", _is_common(_HAN, "big5", 0xA4, 0xC6)),
    ("cp437", lambda character: bool(_LATIN.match(character))),
    ("cp850", lambda character: bool(_LATIN.match(character))),
    ("cp1252", lambda character: bool(_LATIN.match(character))),
    ("cp866", lambda character: bool(_CYRILLIC.match(character))),
    ("cp1251", lambda character: bool(_CYRILLIC.match(character))),
)


def decoded_names(names: Sequence[tuple[bytes, bytes]]) -> list[str]:
    """Decode the names of an archive's entries that are not marked as UTF-8; none is lost.

    One encoding is chosen for the whole archive: UTF-8 if all names are valid; else the code page of Japan, Korea,
    China, Taiwan, the West or Russia for which the names have the most common letters. Names that are invalid in it are
    decoded as code page 437. A name in Info-ZIP's Unicode field takes precedence.

    Args:
        names: The bytes and the extra fields of each name.
    """
    written = [_from_extra(name, extra) for name, extra in names]
    open_names = [name for (name, _), known in zip(names, written, strict=True) if known is None]
    encoding = _encoding_of(open_names)
    return [
        _decoded(name, encoding) if known is None else known for (name, _), known in zip(names, written, strict=True)
    ]


class NamesInTurn:
    """Decode the names of a tar file one by one: by the first ones and the name itself."""

    def __init__(self) -> None:
        self._seen: list[tuple[bytes, bytes]] = []

    def read(self, name: bytes, extra: bytes = b"") -> str:
        """Decode the next name, as `decoded_names` does."""
        self._seen = [*self._seen[:_NAMES_TO_GO_BY], (name, extra)]
        return decoded_names(self._seen)[-1]


def distinct(names: Sequence[str]) -> list[str]:
    """Make names unique: repeated names get a number before their last dot."""
    taken = set(names)
    seen: set[str] = set()
    result = []
    for name in names:
        number = 1
        unique = name
        stem, dot, extension = name.rpartition(".")
        while unique in seen:
            number += 1
            numbered = f"{stem} ({number}).{extension}" if dot and "/" not in extension else f"{name} ({number})"
            unique = numbered if numbered not in taken else unique
        seen.add(unique)
        result.append(unique)
    return result


def _from_extra(name: bytes, extra: bytes) -> str | None:
    while len(extra) >= 4:
        kind, length = struct.unpack("<HH", extra[:4])
        field = extra[4 : 4 + length]
        if kind == _UNICODE_PATH and len(field) > 5 and struct.unpack("<BI", field[:5]) == (1, zlib.crc32(name)):
            try:
                return field[5:].decode()
            except UnicodeDecodeError:
                return None
        extra = extra[4 + length :]
    return None


def _encoding_of(names: Sequence[bytes]) -> str:
    foreign = [name for name in names if not name.isascii()]
    if not foreign:
        return "ascii"
    if all(fits(name, "utf-8") for name in foreign):
        return "utf-8"
    return max(_ENCODINGS, key=lambda each: sum(_score(name, *each) for name in foreign))[0]


def fits(name: bytes | bytearray, encoding: str) -> bool:
    """Whether bytes are valid in an encoding."""
    try:
        name.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _score(name: bytes, encoding: str, is_common: Callable[[str], bool]) -> float:
    """Score of an encoding, -1 to 1: the share of non-ASCII bytes that are common letters, minus that of others."""
    if not fits(name, encoding):
        return -1.0
    text = name.decode(encoding)
    right = wrong = 0
    for at, character in enumerate(text):
        if not character.isascii():
            size = len(character.encode(encoding))
            is_right = is_common(character) and not _is_odd(text[:at], character, text[at + 1 :], is_single=size == 1)
            right, wrong = (right + size, wrong) if is_right else (right, wrong + size)
    return (right - wrong) / ((right + wrong) or 1)


def _is_odd(before: str, character: str, after: str, *, is_single: bool) -> bool:
    """Whether a letter is in an unlikely place, as after decoding with a wrong encoding."""
    left, right = before[-1:], after[:1]
    if not is_single:
        return any(each.isascii() and each.islower() for each in (left, right))
    is_capital_within_a_word = character.isupper() and left.islower()
    is_third_accent = _LATIN.match(character) is not None and _TWO_BESIDE.search(f"{before[-2:]}.{after[:2]}")
    return is_capital_within_a_word or bool(is_third_accent) or (right != "" and right in "@[\\]^`{|}~")


def _decoded(name: bytes, encoding: str) -> str:
    if fits(name, encoding):
        # A hidden file behind a foreign letter is half of a letter of another encoding.
        return re.sub(r"(?<=[^\x00-\x7f])\\(?=\.)", "_", name.decode(encoding))
    # Here a byte 5C may be the second half of a letter, and no backslash that parts folders.
    return re.sub(rb"(?<=[\x80-\xff])\\", b"_", name).decode("cp437")
