"""Fonts for contact sheets: finds an installed font that has a text's characters; measures, shortens, wraps text."""

from __future__ import annotations

import unicodedata
from functools import cache, lru_cache
from pathlib import Path
from typing import cast

from PIL import ImageDraw, ImageFont

from multimodal_search._text import shorten

_FONTS = (
    # For European and often Greek and Cyrillic letters: Linux, Windows, macOS.
    "NotoSans-Regular.ttf",
    "DejaVuSans.ttf",
    "LiberationSans-Regular.ttf",
    "segoeui.ttf",
    "Arial.ttf",
    # For characters that those lack.
    "NotoSansCJK-Regular.ttc",
    "wqy-microhei.ttc",
    "msyh.ttc",
    "YuGothM.ttc",
    "malgun.ttf",
    "Hiragino Sans GB.ttc",
    "Arial Unicode.ttf",
    "NotoSansArabic-Regular.ttf",
    "NotoSansHebrew-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansThai-Regular.ttf",
)
_UNASSIGNED = "\u0378"  # in no font, so it is drawn as any missing character
_BEYOND_ASCII = "…·°©™«»“”\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}"  # in Pillow's own font
_PLAIN_SPELLINGS = str.maketrans(  # of characters that Unicode does not decompose
    {"ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d"}
    | {"\N{EN DASH}": "-", "\N{EM DASH}": "-", "„": '"', "\N{SINGLE LOW-9 QUOTATION MARK}": "'", "€": "EUR"}
    | {"\N{MULTIPLICATION SIGN}": "x"}
)


class Font:
    """A font size, in whatever fonts the text needs.

    Args:
        size_px: Em size in pixels.
    """

    def __init__(self, size_px: int) -> None:
        self.size_px = size_px
        self._fonts: dict[str | None, ImageFont.FreeTypeFont] = {}

    @property
    def line_px(self) -> int:
        """Line height: from one baseline to the next."""
        return round(self.size_px * 1.35)

    def length(self, text: str) -> float:
        """Width of `text` in pixels."""
        shown, font = self._prepared(text)
        return font.getlength(shown)

    def fit(self, text: str, width_px: float, *, keep_end: bool = False) -> str:
        """Shorten `text` to a width, with an ellipsis at the end, or in the middle with `keep_end`."""
        return shorten(text, width_px, keep_end=keep_end, measure=self.length)

    def wrap(self, text: str, width_px: float, *, max_lines: int) -> list[str]:
        """Wrap `text` to a width; the last line ends in an ellipsis if not all fits."""
        lines: list[str] = []
        rest = text[: max_lines * int(width_px)].strip()  # no visible character is narrower than a pixel
        while rest and len(lines) < max_lines:
            line = self._first_line(rest, width_px)
            lines.append(line.rstrip())
            rest = rest[len(line) :].lstrip()
        if rest:
            lines[-1] = self.fit(f"{lines[-1]}…", width_px)
        return lines

    def _first_line(self, text: str, width_px: float) -> str:
        """The start of `text` that fits, broken at a space if there is one."""
        if len(text) <= width_px and self.length(text) <= width_px:
            return text
        start = self.fit(text, width_px).removesuffix("…")
        if start and not text[len(start)].isspace():
            start = start.rpartition(" ")[0] or start  # a word wider than the line, or Chinese, breaks anywhere
        return start or text[0]

    def draw(self, canvas: ImageDraw.ImageDraw, left: float, baseline: float, text: str, colour: str) -> None:
        """Draw one line from its left end."""
        shown, font = self._prepared(text)
        canvas.text((left, baseline), shown, fill=colour, font=font, anchor="ls")

    def _prepared(self, text: str) -> tuple[str, ImageFont.FreeTypeFont]:
        text = unicodedata.normalize("NFC", text)  # macOS writes ü in file names as two characters (NFD)
        name = _best_font(frozenset(text))
        if name not in self._fonts:
            self._fonts[name] = _load(name, self.size_px)
        return (text if name else _plainly_spelled(text)), self._fonts[name]


def _load(path: str | None, size_px: int) -> ImageFont.FreeTypeFont:
    if path is not None:
        return ImageFont.truetype(path, size_px)
    return cast("ImageFont.FreeTypeFont", ImageFont.load_default(size_px))  # with a size: FreeType or an error


@lru_cache(maxsize=1024)
def _best_font(characters: frozenset[str]) -> str | None:
    """Path of the first font with all the characters, else of the one that lacks the fewest; None: Pillow's own."""
    fewest: tuple[int, str | None] = (len(characters) + 1, None)
    for name in _FONTS:
        path = _installed(name)
        if path is not None:
            lacking = sum(not _has(path, character) for character in characters)
            fewest = min(fewest, (lacking, path), key=lambda pair: pair[0])
            if lacking == 0:
                break
    return fewest[1]


@cache
def _installed(name: str) -> str | None:
    try:
        return str(Path(str(ImageFont.truetype(name, 16).path)).absolute())
    except OSError:
        return None


@cache
def _probe(path: str) -> tuple[ImageFont.FreeTypeFont, tuple[tuple[int, int], bytes]]:
    font = ImageFont.truetype(path, 16, layout_engine=ImageFont.Layout.BASIC)
    return font, _glyph(font, _UNASSIGNED)


def _glyph(font: ImageFont.FreeTypeFont, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)


@lru_cache(maxsize=16384)
def _has(path: str, character: str) -> bool:
    # Pillow cannot be asked which characters a font has, but a missing one looks like any other missing one.
    if character.isspace() or unicodedata.category(character) == "Cf":
        return True
    font, missing = _probe(path)
    return _glyph(font, character) != missing


def _plainly_spelled(text: str) -> str:
    """Letters without accents, for Pillow's own font, which has little more than ASCII."""
    return "".join(map(_plain, text))


def _plain(character: str) -> str:
    if character.isascii() or character in _BEYOND_ASCII:
        return character
    bare = unicodedata.normalize("NFKD", character.translate(_PLAIN_SPELLINGS)).encode("ascii", "ignore").decode()
    return bare or ("" if unicodedata.combining(character) else "?")
