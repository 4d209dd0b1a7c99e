"""Contact sheets: one image with the thumbnails or texts of hits, each with rank, score and name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import closing

import numpy as np
import PIL.Image
from PIL import ImageDraw

from multimodal_search._rendering.card import Card, Section, group_text, percent_text, sections, thread_map
from multimodal_search._rendering.fonts import Font
from multimodal_search._text import brief, printable, prose, score_text
from multimodal_search.errors import ConfigurationError

_PAGE, _CARD, _BORDER = "#f4f5f7", "#ffffff", "#dfe2e6"
_MAT, _FAINT = "#eceef1", "#b4bac2"  # behind an image that does not fill its square
_INK, _GREY = "#1c2127", "#5b6470"  # contrast with white: 16 and 6 (WCAG asks for 4.5)
_PAPER, _PAPER_EDGE = "#fdf8ea", "#c9b87c"
_WARNING_PAPER, _WARNING, _WARNING_INK = "#fbf0ee", "#d9a29a", "#8c2f22"
_MAX_PIXELS = 250_000_000
_MIN_PX, _MAX_PX = 32, 2048
_MAX_COLUMNS = 10_000


def draw_contact_sheet(
    cards: Sequence[Card], *, title: str, verdict: str = "", columns: int | None, thumbnail_px: int
) -> PIL.Image.Image:
    """Draw cards in rows below a heading.

    Args:
        cards: Cards in order; without any, the sheet says "no hits".
        title: Heading.
        verdict: What is said of the answer beside the number of hits.
        columns: Cards in a row; None: by their number, for a sheet about as wide as a screen.
        thumbnail_px: Side of the square that each image is fitted into.

    Returns:
        An RGB image.

    Raises:
        ConfigurationError: `columns` or `thumbnail_px` is out of range, or the sheet would have too many pixels.
        ImportError: Pillow was built without FreeType; the wheels on PyPI have it.
    """
    if not isinstance(thumbnail_px, (int, np.integer)) or not _MIN_PX <= thumbnail_px <= _MAX_PX:
        raise ConfigurationError(f"thumbnail_px must be {_MIN_PX} to {_MAX_PX}, not {brief(thumbnail_px)}")
    if columns is not None and (not isinstance(columns, (int, np.integer)) or not 1 <= columns <= _MAX_COLUMNS):
        raise ConfigurationError(f"columns must be a whole number from 1 to {_MAX_COLUMNS:,}, not {brief(columns)}")
    return _Sheet(sections(cards), title=title, verdict=verdict, columns=columns, thumbnail_px=thumbnail_px).draw()


def stack(sheets: Sequence[PIL.Image.Image]) -> PIL.Image.Image:
    """Stack contact sheets vertically, aligned on the left.

    Args:
        sheets: At least one.

    Returns:
        An RGB image, as wide as the widest sheet.
    """
    width, height = max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets)
    together = PIL.Image.new("RGB", (width, height), _PAGE)
    top = 0
    for sheet in sheets:
        together.paste(sheet, (0, top))
        top += sheet.height
    return together


class _Sheet:
    """Layout of a sheet, in pixels and in proportion to the thumbnails."""

    def __init__(
        self, groups: Sequence[Section], *, title: str, verdict: str, columns: int | None, thumbnail_px: int
    ) -> None:
        self.groups = groups
        self.has_headings = any(group.heading is not None for group in groups)
        count = sum(len(group.cards) for group in groups)
        largest = max((len(group.cards) for group in groups), default=0)
        side = thumbnail_px
        self.side = side
        self.small = Font(min(26, max(11, round(side / 17))))
        self.large = Font(round(self.small.size_px * 1.9))
        self.padding = max(4, round(side / 24))
        self.gap = max(6, round(side / 14))
        self.margin = max(12, round(side / 9))
        self.card_width = side + 2 * self.padding
        self.card_height = side + 2 * self.padding + round(self.small.line_px * 2.2)

        self.heading_height = round(self.large.line_px * 1.1)

        self.columns = max(1, min(columns or _default_columns(count), largest))
        if count:
            content = self.columns * (self.card_width + self.gap) - self.gap
            body = sum(map(self._height, groups)) - self.gap
        else:
            content, body = 2 * side, side // 2
        self.title_lines = self.large.wrap(prose(title), content, max_lines=3)
        counted = "" if count == 0 else "1 hit" if count == 1 else f"{count:,} hits"
        self.subtitle = self.small.fit(": ".join(filter(None, (counted, verdict))), content)
        title_height = len(self.title_lines) * self.large.line_px
        self.top = self.margin + title_height + (round(self.small.line_px * 1.3) if self.subtitle else 0) + self.gap
        self.width = content + 2 * self.margin
        self.height = self.top + body + self.margin
        if self.width * self.height > _MAX_PIXELS:
            raise ConfigurationError(
                f"a contact sheet of {count:,} hits with thumbnails of {side} pixels would have "
                f"{self.width:,} x {self.height:,} pixels; take fewer hits (`results[:100]`) or a smaller thumbnail_px"
            )

    def _height(self, group: Section) -> int:
        """Height of a group with its heading and the gap below it."""
        rows = math.ceil(len(group.cards) / self.columns)
        return rows * (self.card_height + self.gap) + (0 if group.heading is None else self.heading_height)

    def draw(self) -> PIL.Image.Image:
        sheet = PIL.Image.new("RGB", (self.width, self.height), _PAGE)
        canvas = ImageDraw.Draw(sheet)
        self._draw_heading(canvas)
        cards = [card for group in self.groups for card in group.cards]
        if not cards:
            self._draw_no_hits(canvas)
            return sheet
        # Thumbnails that wait to be drawn take less memory than the sheet.
        with closing(thread_map(cards, lambda card: card.thumbnail(self.side, enlarge=True))) as thumbnails:
            top = self.top
            for group in self.groups:
                self._draw_group(sheet, canvas, group, thumbnails, top)
                top += self._height(group)
        return sheet

    def _draw_group(
        self,
        sheet: PIL.Image.Image,
        canvas: ImageDraw.ImageDraw,
        group: Section,
        thumbnails: Iterator[PIL.Image.Image | str],
        top: int,
    ) -> None:
        if group.heading is not None:
            heading = self.large.fit(group.heading, self.width - 2 * self.margin)
            self.large.draw(canvas, self.margin, top + self.large.size_px, heading, _INK)
            top += self.heading_height
        for place, card in enumerate(group.cards):
            row, column = divmod(place, self.columns)
            left = self.margin + column * (self.card_width + self.gap)
            below = top + row * (self.card_height + self.gap)
            self._draw_card(sheet, canvas, card, next(thumbnails), left, below)

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
        elif card.is_text:
            self._draw_text(canvas, card.text or "", left, top)
        else:
            self._draw_blank(canvas, card, shown, left, top)
        if card.duplicates:
            self._draw_badge(canvas, f"+{len(card.duplicates):,}", left + self.side, top)
        self._draw_caption(canvas, card, left, top + self.side)

    def _draw_caption(self, canvas: ImageDraw.ImageDraw, card: Card, left: int, top: int) -> None:
        baseline = top + round(self.small.line_px * 1.15)
        rank, score = f"{card.rank:,}", score_text(card.score)
        if card.relevance is not None:
            score = f"{score} · {percent_text(card.relevance)}"
        self.small.draw(canvas, left, baseline, rank, _INK)
        start, end = left + self.small.length(rank) + self.padding, left + self.side - self.small.length(score)
        self.small.draw(canvas, end, baseline, score, _GREY)
        if not self.has_headings and card.group is not None:
            group = self.small.fit(group_text(card.group), max(0, end - self.padding - start))
            self.small.draw(canvas, start, baseline, group, _GREY)
        name = self.small.fit(printable(card.name), self.side, keep_end=True)
        self.small.draw(canvas, left, baseline + self.small.line_px, name, _INK)

    def _draw_badge(self, canvas: ImageDraw.ImageDraw, label: str, right: int, top: int) -> None:
        """White on dark in the upper right corner, to be read on any image."""
        inset = max(2, self.padding // 2)
        height, width = self.small.line_px, round(self.small.length(label) + self.small.size_px * 0.9)
        left, top = right - inset - width, top + inset
        canvas.rounded_rectangle((left, top, left + width, top + height), height / 2, fill=_INK, outline=_CARD)
        start = left + (width - self.small.length(label)) / 2
        self.small.draw(canvas, start, top + (height + self.small.size_px * 0.72) / 2, label, _CARD)

    def _draw_text(self, canvas: ImageDraw.ImageDraw, text: str, left: int, top: int) -> None:
        canvas.rectangle((left, top, left + self.side - 1, top + self.side - 1), fill=_PAPER)
        canvas.rectangle((left, top, left + max(1, self.side // 80), top + self.side - 1), fill=_PAPER_EDGE)
        inset = self.side // 14
        room = self.side - 2 * inset
        font, lines = self.small, [""]
        for scale in (1.6, 1.35, 1.15):  # the largest font that shows all of the text
            font = Font(round(self.small.size_px * scale))
            lines = font.wrap(prose(text), room, max_lines=max(1, room // font.line_px))
            if not lines or not lines[-1].endswith("…"):
                break
        for number, line in enumerate(lines):
            baseline = top + inset + font.size_px + number * font.line_px
            font.draw(canvas, left + inset, baseline, line, _INK)

    def _draw_blank(self, canvas: ImageDraw.ImageDraw, card: Card, reason: str, left: int, top: int) -> None:
        """A crossed-out frame and the reason, centred; red if the file of an image cannot be read."""
        failed = card.file is not None
        fill, lines_colour, ink = (_WARNING_PAPER, _WARNING, _WARNING_INK) if failed else (_MAT, _FAINT, _GREY)
        side, font = self.side, self.small
        canvas.rectangle((left, top, left + side - 1, top + side - 1), fill=fill)
        icon_height, stroke = round(side * 0.16), max(1, side // 100)
        room = round(side * 0.86)
        lines = font.wrap(prose(reason), room, max_lines=max(1, round(side * 0.6) // font.line_px))
        icon_top = top + (side - icon_height - round((len(lines) + 0.5) * font.line_px)) // 2
        icon_left = left + round((side - 1.35 * icon_height) / 2)
        icon = (icon_left, icon_top, icon_left + round(1.35 * icon_height), icon_top + icon_height)
        canvas.rectangle(icon, outline=lines_colour, width=stroke)
        canvas.line((icon[0], icon[3], icon[2], icon[1]), fill=lines_colour, width=stroke)
        for number, line in enumerate(lines):
            baseline = icon[3] + round((number + 1.4) * font.line_px)
            font.draw(canvas, left + (side - font.length(line)) / 2, baseline, line, ink)


def _default_columns(count: int) -> int:
    """Up to five in one row; beyond that at most eight columns, evenly filled, so that the sheet is wider than high."""
    if count <= 5:
        return count
    most = min(8, math.ceil(math.sqrt(count * 1.5)))
    return math.ceil(count / math.ceil(count / most))
