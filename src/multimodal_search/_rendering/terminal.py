"""Thumbnails of hits in a terminal: by its graphics protocol (Kitty, Sixel), or as coloured half blocks."""

from __future__ import annotations

import itertools
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from types import ModuleType
from typing import TYPE_CHECKING

import PIL.Image

from multimodal_search._extras import require
from multimodal_search._rendering.card import Card, group_text, percent_text, sections, thread_map
from multimodal_search._text import printable, prose, score_text, shorten

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_CELLS_WIDE, _CELLS_HIGH, _GAP = 24, 10, 2  # of one image, in characters
_SIDE_PX = 480  # high-density terminals have up to 20 pixels in the width of a character


def shows_images() -> bool:
    """Whether stdout is a terminal that can show images.

    The terminal is queried for its graphics protocol and answers on stdin, so stdin must be a terminal, too.
    """
    streams = (sys.__stdin__, sys.__stdout__, sys.stdout)
    if not all(stream is not None and stream.isatty() for stream in streams) or not _has_size():
        return False
    console = _console()
    return not console.is_dumb_terminal and console.color_system is not None and not console.no_color


def print_images(cards: Sequence[Card]) -> None:
    """Print hits in rows as wide as the terminal: a thumbnail or a text above rank, score and name.

    Call it only if `shows_images()`: the terminal is queried once, and has to answer.

    Raises:
        MissingExtraError: The extra `cli` is not installed.
    """
    _renderable()  # raises before anything is printed
    console = _console()
    columns = max(1, (console.width + _GAP) // (_CELLS_WIDE + _GAP))
    groups = sections(cards)
    in_order = [card for group in groups for card in group.cards]
    with closing(thread_map(in_order, lambda card: card.thumbnail(_SIDE_PX, enlarge=True))) as thumbnails:
        for group in groups:
            if group.heading is not None:
                console.print(_line(group.heading, console.width), style="bold")
                console.print()
            for start in range(0, len(group.cards), columns):
                row = group.cards[start : start + columns]
                _print_row(console, row, list(itertools.islice(thumbnails, len(row))), with_group=not group.heading)


def _print_row(
    console: Console, cards: Sequence[Card], shown: Sequence[PIL.Image.Image | str], *, with_group: bool
) -> None:
    from rich.table import Table

    grid = Table.grid(padding=(0, _GAP, 0, 0))
    width = min(_CELLS_WIDE, console.width)
    for _ in cards:
        grid.add_column(width=width, no_wrap=False, vertical="bottom")
    grid.add_row(*[_image(card, each_shown, width) for card, each_shown in zip(cards, shown, strict=True)])
    grid.add_row(*[_line(_numbers(card, with_group=with_group), width) for card in cards], style="bold")
    grid.add_row(*[_line(card.name, width, keep_end=True) for card in cards])
    console.print(grid)
    console.print()


def _image(card: Card, shown: PIL.Image.Image | str, width: int) -> RenderableType:
    from rich.text import Text

    if isinstance(shown, str):
        words = shorten(prose((card.text or "") if card.is_text else shown), width * (_CELLS_HIGH - 2))
        return Text(words, style="" if card.is_text else "italic")
    # A character is about twice as high as wide; the library knows exactly.
    cells = max(1, min(width, round(_CELLS_HIGH * 2 * shown.width / shown.height)))
    height = "auto" if cells * shown.height > 3 * shown.width else 1  # not "auto" if that might give 0 lines
    image: RenderableType = _renderable().Image(shown, width=cells, height=height)
    return image


def _numbers(card: Card, *, with_group: bool) -> str:
    parts = [f"{card.rank}", score_text(card.score)]
    if card.relevance is not None:
        parts.append(percent_text(card.relevance))
    if card.duplicates:
        parts.append(f"+{len(card.duplicates):,}")
    if with_group and card.group is not None:
        parts.append(group_text(card.group))
    return "  ".join(parts)


def _line(text: str, width: int, *, keep_end: bool = False) -> RenderableType:
    """Foreign text as one line without control characters."""
    from rich.text import Text

    return Text(shorten(printable(text), width, keep_end=keep_end), no_wrap=True, overflow="ellipsis")


def _renderable() -> ModuleType:
    """The drawing library; importing it queries the terminal."""
    # It logs a traceback if it has to guess.
    logging.getLogger("textual_image").addHandler(logging.NullHandler())
    return require("textual_image.renderable", extra="cli", purpose="showing images in the terminal")


def _has_size() -> bool:
    try:
        return min(os.get_terminal_size()) > 0
    except OSError:
        return False


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)
