"""The options of a search, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from multimodal_search._bounds import MAX_PATH_LENGTH
from multimodal_search._relevance.thresholds import Thresholds, thresholds_of
from multimodal_search._text import brief
from multimodal_search.errors import QueryError
from multimodal_search.filters.nodes import FieldPath
from multimodal_search.types import Filter

_MAX_TEXT_FIELDS = 100
MAX_HITS = 2**31 - 1
"""The greatest limit: all hits."""


class SearchSettings(TypedDict, total=False):
    """The keyword settings of `MultimodalIndex.search`."""

    diversity: float
    deduplicate: bool | float
    group_by: str | None
    group_size: int
    keyword_weight: float
    keyword_fields: Sequence[str] | None
    thresholds: tuple[float, float] | None
    exact: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """The options of a search, checked; `MultimodalIndex.search` documents them.

    Raises:
        QueryError: A value makes no sense.
    """

    limit: int = 10
    offset: int = 0
    where: Filter | None = None
    min_score: float | None = None
    diversity: float = 0.0
    deduplicate: bool | float = False
    group_by: str | None = None
    group_size: int = 1
    keyword_weight: float = 0.0
    keyword_fields: Sequence[str] | None = None
    thresholds: Thresholds | None = None
    exact: bool = False

    def __post_init__(self) -> None:
        for name, value, least in (
            ("limit", self.limit, 1),
            ("offset", self.offset, 0),
            ("group_size", self.group_size, 1),
        ):
            if type(value) is not int:
                if not isinstance(value, np.integer):
                    raise QueryError(f"{name} must be a whole number from {least} to {MAX_HITS:,}, not {brief(value)}")
                object.__setattr__(self, name, int(value))
            if not least <= value <= MAX_HITS:
                raise QueryError(f"{name} must be a whole number from {least} to {MAX_HITS:,}, not {brief(value)}")
        if self.keyword_fields is not None and not _are_names(self.keyword_fields):
            raise QueryError(
                f"keyword_fields is a list of 1 to {_MAX_TEXT_FIELDS} names of payload fields, of at most "
                f"{MAX_PATH_LENGTH:,} characters each, not {brief(self.keyword_fields)}"
            )
        if self.min_score is not None and not (_is_number(self.min_score) and self.min_score == self.min_score):
            raise QueryError(f"min_score must be a number, not {brief(self.min_score)}")
        for name, share in (("diversity", self.diversity), ("keyword_weight", self.keyword_weight)):
            if not _is_number(share) or not 0 <= share <= 1:
                raise QueryError(f"{name} must be a number from 0 to 1, not {brief(share)}")
        if not isinstance(self.exact, (bool, np.bool_)):
            raise QueryError(f"exact must be True or False, not {brief(self.exact)}")
        if not isinstance(self.deduplicate, bool) and not (_is_number(self.deduplicate) and 0 < self.deduplicate <= 1):
            raise QueryError(
                f"deduplicate must be True, False, or a cosine above 0 and up to 1, not {brief(self.deduplicate)}"
            )
        if self.thresholds is not None:
            object.__setattr__(self, "thresholds", thresholds_of(self.thresholds))
        if self.group_by is not None:
            FieldPath.parse(self.group_by)
        elif self.group_size != 1:
            raise QueryError("group_size goes with group_by, the field to group by")

    @property
    def by_keywords_alone(self) -> bool:
        """Whether vectors play no part, so that nothing need be embedded."""
        return self.keyword_weight == 1

    @property
    def compares_hits(self) -> bool:
        """Whether hits are compared with each other, for which their vectors are needed."""
        return bool(self.diversity or self.deduplicate)

    @property
    def is_plain(self) -> bool:
        """Whether the store's own page is the answer."""
        return not (self.diversity or self.deduplicate or self.group_by or self.keyword_weight)


def _are_names(value: object) -> bool:
    return (
        isinstance(value, (list, tuple))
        and 1 <= len(value) <= _MAX_TEXT_FIELDS
        and all(isinstance(each, str) and len(each) <= MAX_PATH_LENGTH for each in value)
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
