"""Cards: what is shown of a hit, with a thumbnail, a text, or the reason why there is neither."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import PIL.Image

from multimodal_search._text import brief, printable, shorten, without_name
from multimodal_search.errors import MultimodalSearchError
from multimodal_search.media.image_file import ImageFile
from multimodal_search.media.images import load_rgb

_Made = TypeVar("_Made")


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What is shown of a hit: its image, else its text, else the reason why there is neither.

    Attributes:
        rank: Rank, from 1.
        score: Score.
        name: Name below the image.
        relevance: 0 to 1; None if it is not known.
        group: Value that the search was grouped by; None without one.
        file: File of the image.
        text: Text, if the hit is one.
        caption: Text stored with the image.
        problem: Why there is neither image nor text.
        payload: The stored fields.
        duplicates: Cards of the hit's near-duplicates.
    """

    rank: int
    score: float
    name: str
    relevance: float | None = None
    group: object = None
    file: ImageFile | None = None
    text: str | None = None
    caption: str | None = None
    problem: str = ""
    payload: Mapping[str, Any] = field(default_factory=dict)
    duplicates: tuple[Card, ...] = ()

    @property
    def is_text(self) -> bool:
        """Whether the card shows a text."""
        return self.file is None and self.text is not None

    def thumbnail(self, side_px: int, *, enlarge: bool = False) -> PIL.Image.Image | str:
        """The image, fitted into a square; or the reason why there is none.

        Args:
            side_px: Side of the square in pixels.
            enlarge: Whether a smaller image is enlarged to fill it.

        Returns:
            An upright RGB image, or the reason.
        """
        if self.file is None:
            return self.problem
        try:
            image = load_rgb(self.file.image(), min_side_px=side_px)
        except MultimodalSearchError as error:
            return without_name(str(error), self.file.name)
        scale = min(side_px / image.width, side_px / image.height)
        if scale >= 1 and not enlarge:
            return image
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        # Pillow: a gap of 3 is "indistinguishable from fair resampling", and faster by several times.
        return image.resize(size, PIL.Image.Resampling.LANCZOS, reducing_gap=3.0)


@dataclass(frozen=True, slots=True)
class Section:
    """Cards of one group and its heading; None if hits are not grouped."""

    heading: str | None
    cards: tuple[Card, ...]


def sections(cards: Sequence[Card]) -> list[Section]:
    """Sections of cards by group, in the order of their first cards.

    If no group has two cards, there is one section without a heading, and the group is shown on each card.
    """
    groups: dict[tuple[str, str], list[Card]] = {}  # 1, True and "1" are three groups
    for card in cards:
        groups.setdefault((type(card.group).__name__, brief(card.group, 1_000_000)), []).append(card)
    if all(len(alike) == 1 or alike[0].group is None for alike in groups.values()):
        return [Section(None, tuple(cards))]
    return [Section(group_text(alike[0].group) or "without a group", tuple(alike)) for alike in groups.values()]


def group_text(group: object) -> str:
    """The value of a group as a short line; empty for None."""
    return "" if group is None else shorten(printable(group if isinstance(group, str) else brief(group)), 60)


def percent_text(relevance: float) -> str:
    """A relevance in percent, rounded down: 90 % is at least 0.9."""
    return f"{int(relevance * 100 + 1e-9)} %"


def thread_map(cards: Sequence[Card], make: Callable[[Card], _Made]) -> Generator[_Made, None, None]:
    """Apply `make` to each card in threads, and yield the results in order: decoding releases the interpreter lock."""
    threads = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        try:
            made = threads.map(make, cards)
        except RuntimeError:  # no more threads can be started
            made = map(make, cards)
        yield from made
    finally:
        threads.shutdown(cancel_futures=True)  # Ctrl-C does not wait for hundreds of images
