"""One hit, as it is to be shown: its rank, score and name with a thumbnail, a text, or what is wrong."""

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
    """One hit, as it is to be shown: its image, else its text, else what is wrong.

    Attributes:
        rank: Its place, from 1.
        score: Its score.
        name: What to call it below the image.
        relevance: 0 to 1; None where it is not known.
        group: The value that it was grouped by; None without one.
        file: The file of its image.
        text: Its text, where that is what it is.
        caption: The words that are stored beside its image.
        problem: Why there is neither image nor text.
        payload: The fields stored with it.
        duplicates: What stands behind it.
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
        """Whether its text is what there is to show."""
        return self.file is None and self.text is not None

    def thumbnail(self, side_px: int, *, enlarge: bool = False) -> PIL.Image.Image | str:
        """Its image, to fit into a square; or why there is none.

        Args:
            side_px: The side of the square.
            enlarge: Whether a smaller image is made to fill it.

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
    """Cards of one group, below a heading; without one where hits are not grouped."""

    heading: str | None
    cards: tuple[Card, ...]


def sections(cards: Sequence[Card]) -> list[Section]:
    """The groups of cards, in the order of their first ones; a single one without heading where none has company.

    A heading over each single card would be a list of headings: there the group is to stand on the card.
    """
    groups: dict[tuple[str, str], list[Card]] = {}  # 1, True and "1" are three groups
    for card in cards:
        groups.setdefault((type(card.group).__name__, brief(card.group, 1_000_000)), []).append(card)
    if all(len(alike) == 1 or alike[0].group is None for alike in groups.values()):
        return [Section(None, tuple(cards))]
    return [Section(group_text(alike[0].group) or "without a group", tuple(alike)) for alike in groups.values()]


def group_text(group: object) -> str:
    """The value of a group as a short line; nothing for None."""
    return "" if group is None else shorten(printable(group if isinstance(group, str) else brief(group)), 60)


def percent_text(relevance: float) -> str:
    """A relevance in percent, rounded down: what is shown as 90 % is 0.9 or more."""
    return f"{int(relevance * 100 + 1e-9)} %"


def each(cards: Sequence[Card], make: Callable[[Card], _Made]) -> Generator[_Made, None, None]:
    """What `make` makes of each card, in their order, by several threads: decoding releases the interpreter lock."""
    threads = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        try:
            made = threads.map(make, cards)
        except RuntimeError:  # no more threads can be started
            made = map(make, cards)
        yield from made
    finally:
        threads.shutdown(cancel_futures=True)  # Ctrl-C does not wait for hundreds of images
