"""A picture that shows hits: thumbnails and cards of text, each with its rank, score and name."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import PIL.Image
from PIL import ImageDraw

from multimodal_search._archives import read_member
from multimodal_search._lettering import Lettering
from multimodal_search._media import load_rgb
from multimodal_search._printable import printable, prose, score_text, without_name
from multimodal_search.errors import ConfigurationError, MultimodalSearchError
from multimodal_search.types import Image

_PAGE, _CARD, _BORDER = "#f4f5f7", "#ffffff", "#dfe2e6"
_MAT, _FAINT = "#eceef1", "#b4bac2"  # behind a picture that does not fill its square
_INK, _GREY = "#1c2127", "#5b6470"  # contrast with white: 16 and 6 (WCAG asks for 4.5)
_PAPER, _PAPER_EDGE = "#fdf8ea", "#c9b87c"
_WARNING_PAPER, _WARNING, _WARNING_INK = "#fbf0ee", "#d9a29a", "#8c2f22"
_MOST_PIXELS = 250_000_000
_SMALLEST_PX, _LARGEST_PX = 32, 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One hit, as it is to be drawn: its picture, else its text, else what is wrong.

    Attributes:
        rank: Its place, from 1.
        score: Its score.
        name: What to call it below the picture.
        path: The file of its picture.
        archive: The archive that this file is inside of, if it is inside one.
        text: Its text.
        problem: Why there is neither.
    """

    rank: int
    score: float
    name: str
    path: Path | None = None
    archive: Path | None = None
    text: str | None = None
    problem: str = ""


def draw_contact_sheet(cards: Sequence[Card], *, title: str, columns: int | None, thumbnail_px: int) -> PIL.Image.Image:
    """Draw cards row by row below a heading.

    Args:
        cards: In the order in which to draw them; none gives a picture that says so.
        title: The heading.
        columns: Cards in a row; None chooses, for a sheet about as wide as a screen.
        thumbnail_px: The side of the square that each picture is fitted into.

    Returns:
        An RGB picture.

    Raises:
        ConfigurationError: `columns` or `thumbnail_px` makes no sense, or the sheet would be huge.
        ImportError: Pillow was built without FreeType; the wheels on PyPI have it.
    """
    if not _SMALLEST_PX <= thumbnail_px <= _LARGEST_PX:
        raise ConfigurationError(f"thumbnail_px must be {_SMALLEST_PX} to {_LARGEST_PX}, not {thumbnail_px}")
    if columns is not None and columns < 1:
        raise ConfigurationError(f"columns must be at least 1, not {columns}")
    return _Sheet(len(cards), title=title, columns=columns, thumbnail_px=thumbnail_px).draw(cards)


def stack(sheets: Sequence[PIL.Image.Image]) -> PIL.Image.Image:
    """Several contact sheets as one, below each other, aligned on the left.

    Args:
        sheets: At least one.

    Returns:
        An RGB picture, as wide as the widest.
    """
    width, height = max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets)
    together = PIL.Image.new("RGB", (width, height), _PAGE)
    top = 0
    for sheet in sheets:
        together.paste(sheet, (0, top))
        top += sheet.height
    return together


class _Sheet:
    """The measures of a sheet, all in pixels and in proportion to the thumbnails."""

    def __init__(self, count: int, *, title: str, columns: int | None, thumbnail_px: int) -> None:
        side = thumbnail_px
        self.side = side
        self.small = Lettering(min(26, max(11, round(side / 17))))
        self.large = Lettering(round(self.small.size_px * 1.9))
        self.padding = max(4, round(side / 24))
        self.gap = max(6, round(side / 14))
        self.margin = max(12, round(side / 9))
        self.card_width = side + 2 * self.padding
        self.card_height = side + 2 * self.padding + round(self.small.line_px * 2.2)

        self.columns = max(1, min(columns or _pleasing_columns(count), count))
        rows = math.ceil(count / self.columns)
        if count:
            content = self.columns * (self.card_width + self.gap) - self.gap
            body = rows * (self.card_height + self.gap) - self.gap
        else:
            content, body = 2 * side, side // 2
        self.title_lines = self.large.wrap(prose(title), content, max_lines=3)
        self.subtitle = "" if count == 0 else "1 hit" if count == 1 else f"{count:,} hits"
        title_height = len(self.title_lines) * self.large.line_px
        self.top = self.margin + title_height + (round(self.small.line_px * 1.3) if count else 0) + self.gap
        self.width = content + 2 * self.margin
        self.height = self.top + body + self.margin
        if self.width * self.height > _MOST_PIXELS:
            raise ConfigurationError(
                f"a contact sheet of {count:,} hits with thumbnails of {side} pixels would have "
                f"{self.width:,} x {self.height:,} pixels; take fewer hits (`results[:100]`) or a smaller thumbnail_px"
            )

    def draw(self, cards: Sequence[Card]) -> PIL.Image.Image:
        sheet = PIL.Image.new("RGB", (self.width, self.height), _PAGE)
        canvas = ImageDraw.Draw(sheet)
        self._draw_heading(canvas)
        if not cards:
            self._draw_no_hits(canvas)
        # Decoding releases the interpreter lock. What waits to be drawn is thumbnails, smaller than the sheet.
        threads = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
        try:
            for place, (card, shown) in enumerate(zip(cards, threads.map(self._thumbnail, cards), strict=True)):
                row, column = divmod(place, self.columns)
                left = self.margin + column * (self.card_width + self.gap)
                top = self.top + row * (self.card_height + self.gap)
                self._draw_card(sheet, canvas, card, shown, left, top)
        finally:
            threads.shutdown(cancel_futures=True)  # Ctrl-C does not wait for hundreds of pictures
        return sheet

    def _draw_heading(self, canvas: ImageDraw.ImageDraw) -> None:
        baseline = self.margin + self.large.size_px
        for line in self.title_lines:
            self.large.draw(canvas, self.margin, baseline, line, _INK)
            baseline += self.large.line_px
        baseline += self.small.line_px - self.large.size_px
        self.small.draw(canvas, self.margin, baseline, self.subtitle, _GREY)

    def _draw_no_hits(self, canvas: ImageDraw.ImageDraw) -> None:
        right, bottom = self.width - self.margin - 1, self.height - self.margin - 1
        box = (self.margin, self.top, right, bottom)
        canvas.rounded_rectangle(box, self.padding * 0.6, fill=_CARD, outline=_BORDER)
        left = (self.width - self.large.length("no hits")) / 2
        self.large.draw(canvas, left, (self.top + bottom + self.large.size_px * 0.7) / 2, "no hits", _GREY)

    def _thumbnail(self, card: Card) -> PIL.Image.Image | str:
        """The card's picture, to fit into the square; or why there is none."""
        if card.path is None:
            return card.problem
        try:
            picture = load_rgb(_image_of(card.path, card.archive), at_least=self.side)
        except MultimodalSearchError as error:
            return without_name(str(error), str(card.path))
        scale = min(self.side / picture.width, self.side / picture.height)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        # Pillow: a gap of 3 is "indistinguishable from fair resampling", and faster by several times.
        return picture.resize(size, PIL.Image.Resampling.LANCZOS, reducing_gap=3.0)

    def _draw_card(
        self,
        sheet: PIL.Image.Image,
        canvas: ImageDraw.ImageDraw,
        card: Card,
        shown: PIL.Image.Image | str,
        left: int,
        top: int,
    ) -> None:
        right, bottom = left + self.card_width - 1, top + self.card_height - 1
        canvas.rounded_rectangle((left, top, right, bottom), self.padding * 0.6, fill=_CARD, outline=_BORDER)
        left, top = left + self.padding, top + self.padding
        if isinstance(shown, PIL.Image.Image):
            canvas.rectangle((left, top, left + self.side - 1, top + self.side - 1), fill=_MAT)
            sheet.paste(shown, (left + (self.side - shown.width) // 2, top + (self.side - shown.height) // 2))
        elif card.path is None and card.text is not None:
            self._draw_text(canvas, card.text, left, top)
        else:
            self._draw_blank(canvas, card, shown, left, top)
        self._draw_caption(canvas, card, left, top + self.side)

    def _draw_caption(self, canvas: ImageDraw.ImageDraw, card: Card, left: int, top: int) -> None:
        baseline = top + round(self.small.line_px * 1.15)
        score = score_text(card.score)
        self.small.draw(canvas, left, baseline, f"{card.rank:,}", _INK)
        self.small.draw(canvas, left + self.side - self.small.length(score), baseline, score, _GREY)
        name = self.small.fit(printable(card.name), self.side, keep_end=True)
        self.small.draw(canvas, left, baseline + self.small.line_px, name, _INK)

    def _draw_text(self, canvas: ImageDraw.ImageDraw, text: str, left: int, top: int) -> None:
        canvas.rectangle((left, top, left + self.side - 1, top + self.side - 1), fill=_PAPER)
        canvas.rectangle((left, top, left + max(1, self.side // 80), top + self.side - 1), fill=_PAPER_EDGE)
        inset = self.side // 14
        room = self.side - 2 * inset
        lettering, lines = self.small, [""]
        for scale in (1.6, 1.35, 1.15):  # the largest letters that show all of the text
            lettering = Lettering(round(self.small.size_px * scale))
            lines = lettering.wrap(prose(text), room, max_lines=max(1, room // lettering.line_px))
            if not lines or not lines[-1].endswith("…"):
                break
        for number, line in enumerate(lines):
            baseline = top + inset + lettering.size_px + number * lettering.line_px
            lettering.draw(canvas, left + inset, baseline, line, _INK)

    def _draw_blank(self, canvas: ImageDraw.ImageDraw, card: Card, reason: str, left: int, top: int) -> None:
        """A crossed-out frame and the reason, in the middle; in red where there should have been a picture."""
        failed = card.path is not None
        fill, lines_colour, ink = (_WARNING_PAPER, _WARNING, _WARNING_INK) if failed else (_MAT, _FAINT, _GREY)
        side, lettering = self.side, self.small
        canvas.rectangle((left, top, left + side - 1, top + side - 1), fill=fill)
        icon_height, stroke = round(side * 0.16), max(1, side // 100)
        room = round(side * 0.86)
        lines = lettering.wrap(prose(reason), room, max_lines=max(1, round(side * 0.6) // lettering.line_px))
        icon_top = top + (side - icon_height - round((len(lines) + 0.5) * lettering.line_px)) // 2
        icon_left = left + round((side - 1.35 * icon_height) / 2)
        icon = (icon_left, icon_top, icon_left + round(1.35 * icon_height), icon_top + icon_height)
        canvas.rectangle(icon, outline=lines_colour, width=stroke)
        canvas.line((icon[0], icon[3], icon[2], icon[1]), fill=lines_colour, width=stroke)
        for number, line in enumerate(lines):
            baseline = icon[3] + round((number + 1.4) * lettering.line_px)
            lettering.draw(canvas, left + (side - lettering.length(line)) / 2, baseline, line, ink)


def _pleasing_columns(count: int) -> int:
    """Up to five in one row; beyond that a sheet wider than high, of at most eight columns, with rows evenly filled."""
    if count <= 5:
        return count
    most = min(8, math.ceil(math.sqrt(count * 1.5)))
    return math.ceil(count / math.ceil(count / most))


def _image_of(path: Path, archive: Path | None) -> Image:
    if archive is None:
        return Image(path)
    return Image(read_member(archive, path.relative_to(archive).as_posix()), name=str(path))
