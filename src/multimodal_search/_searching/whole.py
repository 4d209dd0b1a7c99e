"""What a verdict needs to know of a whole answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from multimodal_search.results import SearchHit
from multimodal_search.types import PointId


@dataclass(slots=True)
class Whole:
    """What is known of a whole answer, whatever page of it is asked for.

    Attributes:
        best: The hit nearest to the vector; None before there is one.
        matches: Ids of the first matches of keyword search.
    """

    best: SearchHit | None = None
    matches: Sequence[PointId] = ()
