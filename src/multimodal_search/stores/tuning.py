"""Tune an approximate search: the fewest candidates (`hnsw_ef`) whose recall@10 reaches a target.

Texts lie apart from images in the space of a model, so a graph of images is harder to search by words than by images:
the default of HNSW libraries, 100 candidates, finds .95 of the ten nearest by words among 118,000 images, and .99 by
image.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from multimodal_search._text import brief
from multimodal_search.errors import ConfigurationError
from multimodal_search.report import TuningReport
from multimodal_search.stores.ranking import ROUNDING
from multimodal_search.types import FloatArray

__all__ = [
    "EXACT",
    "TUNING_NOTE",
    "Aim",
    "candidates_for",
    "checked_target",
    "exact_is_as_fast",
    "exact_where_filtered",
    "is_stale",
    "read_report",
    "tuned",
]

TUNING_NOTE = "tuning"
"""The name of the index metadata that a report is kept under."""

EXACT = 0
"""In place of a number of candidates: compare every point."""

_TARGET = 0.99  # by default
_CANDIDATES = (64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
_USUAL_CANDIDATES = 384  # at most, by default: some twice as long as with HNSW libraries' 100
_SMALL = 20_000  # points that are compared one by one in a few milliseconds
_LIMIT = 10
_BATCH = 64
_MAX_CANDIDATES = 2**31 - 1  # as somebody may have set them; engines take no more than 64 bits
_EXACT_POINTS = 20  # a candidate costs as much as comparing some 20 points one after another, at 128 to 768 dimensions
_LONG = 200  # hits
_PER_HIT, _PER_HIT_OF_LONG = 1, 2  # candidates
_PER_HIT_BEHIND = 4  # behind an offset: each hit that is missed before it moves the page by one
_FILTERED = 3  # times as long a candidate takes with ACORN
_RARE = 0.15  # of the points
_GROWTH = 2  # times as many points as were measured with, or as few: what the graph finds may be another

Ask: TypeAlias = Callable[[FloatArray, int], Sequence[Sequence[float]]]
"""The scores of the ten best points of each query, searched for with so many candidates, or `EXACT`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What tuning aims at.

    Attributes:
        target: The recall@10.
        candidates: The numbers of candidates to try, rising.
    """

    target: float = _TARGET
    candidates: Sequence[int] = tuple(keep for keep in _CANDIDATES if keep <= _USUAL_CANDIDATES)

    @classmethod
    def of(cls, target: float | None) -> Aim:
        """A target that is to be reached with up to 2,048 candidates; None for .99, with up to 384.

        Raises:
            ConfigurationError: It is no number above 0 and up to 1.
        """
        return cls() if target is None else cls(target=checked_target(target), candidates=_CANDIDATES)


def tuned(
    ask: Ask,
    queries: Mapping[str, FloatArray],
    *,
    aim: Aim,
    points: int,
    hnsw_m: int | None = None,
    may_be_exact: bool = True,
    on_tick: Callable[[], None] = lambda: None,
) -> TuningReport:
    """Find the fewest candidates with which searches for every kind of query reach a recall.

    Every second query decides which these are; the others are what the recall is then measured with.

    Args:
        ask: Searches.
        queries: For each kind of query, shape `(n, dimension)`, float32.
        aim: The recall@10 to reach, and what to try.
        points: How many points there are.
        hnsw_m: The links of each point in the graph.
        may_be_exact: Whether every point may be compared where that is as fast.
        on_tick: Called between searches; what it raises ends the tuning.

    Raises:
        StoreError: The store failed.
    """
    target, keep, reached = aim.target, aim.candidates[-1], False

    def scores(rows: FloatArray, keep: int) -> list[Sequence[float]]:
        found: list[Sequence[float]] = []
        for start in range(0, len(rows), _BATCH):
            on_tick()
            found += ask(rows[start : start + _BATCH], keep)
        return found

    nearest = {kind: scores(rows, EXACT) for kind, rows in queries.items() if len(rows) > 1}
    nearest = {kind: found for kind, found in nearest.items() if found[0]}
    if not nearest:
        reason = "there was nothing to search for"
        return TuningReport(target=target, points=points, hnsw_m=hnsw_m, reason=reason)

    def recall(keep: int, *, start: int) -> dict[str, float]:
        return {
            kind: _recall(scores(queries[kind][start::2], keep), every[start::2]) for kind, every in nearest.items()
        }

    for keep in aim.candidates:
        if may_be_exact and exact_is_as_fast(points, keep):
            every = dict.fromkeys(nearest, 1.0)
            return TuningReport(target=target, points=points, exact=True, recall=every, hnsw_m=hnsw_m)
        reached = min(recall(keep, start=0).values()) >= target
        if reached:
            break
    found = recall(keep, start=1)
    reached = reached or min(found.values()) >= target  # else it would be said to be missed beside a figure that is not
    reason = "" if reached else f"with up to {keep} candidates, the target is out of reach of this graph"
    return TuningReport(target=target, points=points, hnsw_ef=keep, recall=found, hnsw_m=hnsw_m, reason=reason)


def exact_is_as_fast(points: int, candidates: int) -> bool:
    """Whether comparing every point takes no longer than a search that keeps so many candidates."""
    return points <= _EXACT_POINTS * candidates


def exact_where_filtered(passing: int, points: int, candidates: int) -> bool:
    """Whether every point that passes a filter is to be compared, though a search with ACORN may be faster.

    It is where that takes no longer, and where few pass: of the nearest of 118,000 images, captions find .997 where one
    in four passes, .988 where one in ten does, and .93 where one in 20 does, with 256 candidates as with 512.
    """
    return passing <= _RARE * points or exact_is_as_fast(passing, _FILTERED * candidates)


def candidates_for(
    report: TuningReport | None, limit: int, *, offset: int = 0, points: int | None = None
) -> int | None:
    """How many candidates a search of a tuned store keeps; `EXACT` to compare every point, None for the default.

    Long pages need more than short ones: their last hits are as hard to find as the tenth of ten. Later pages need
    still more. Among 15,534 images, captions find hits 91 to 100 to .97 with 256 candidates, and to .99 with 384.

    Args:
        report: What tuning has found; None if the store was never tuned.
        limit: How many hits the search is to give, those before its page included.
        offset: How many of them are before its page.
        points: How many points there are; None where searches may not be exact.
    """
    if report is None or (report.hnsw_ef is None and not report.exact):
        return None
    if report.exact:
        # No longer true when there are many more: then the graph is searched until it is measured again.
        return EXACT if points is not None and points <= _SMALL else _USUAL_CANDIDATES
    keep = report.hnsw_ef or 0
    if limit > _LIMIT:
        keep += limit * (_PER_HIT_BEHIND if offset else _PER_HIT_OF_LONG if limit > _LONG else _PER_HIT)
    return EXACT if points is not None and limit > _LIMIT and exact_is_as_fast(points, keep) else keep


def is_stale(report: TuningReport | None, points: int) -> bool:
    """Whether recall was never measured, or with half or less, or twice or more, as many points."""
    if report is not None and report.exact and points > _SMALL:
        return True
    return report is None or not report.points / _GROWTH < points < report.points * _GROWTH


def checked_target(target: object) -> float:
    """Check a recall that is to be aimed at.

    Raises:
        ConfigurationError: It is no number above 0 and up to 1.
    """
    is_number = isinstance(target, (int, float, np.floating)) and not isinstance(target, bool)
    if not is_number or not 0 < float(target) <= 1:  # type: ignore[arg-type]  # it is a number then
        raise ConfigurationError(f"recall_target must be a number above 0 and up to 1, not {brief(target)}")
    return float(target)  # type: ignore[arg-type]  # as above


def read_report(text: str | None) -> TuningReport | None:
    """A report from the text that is kept of it; None if there is none, or none that can be understood."""
    try:
        fields: dict[str, Any] = json.loads(text or "null")
        ef, m = fields["hnsw_ef"], fields["hnsw_m"]
        report = TuningReport(
            target=checked_target(fields["target"]),
            points=int(fields["points"]),
            exact=bool(fields["exact"]),
            hnsw_ef=None if ef is None else int(ef),
            recall={str(kind): float(share) for kind, share in fields["recall"].items()},
            hnsw_m=None if m is None else int(m),
            reason=str(fields["reason"]),
        )
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError, ConfigurationError):
        return None
    sensible = report.points >= 0 and (report.hnsw_ef is None or 0 < report.hnsw_ef <= _MAX_CANDIDATES)
    return report if sensible and all(0 <= share <= 1 for share in report.recall.values()) else None


def _recall(found: Sequence[Sequence[float]], nearest: Sequence[Sequence[float]]) -> float:
    """The share of the nearest that was found; of equal scores, any will do."""
    wanted = sum(map(len, nearest))
    hits = sum(
        min(len(best), sum(score >= best[-1] - ROUNDING for score in scores)) if best else 0
        for scores, best in zip(found, nearest, strict=True)
    )
    return hits / wanted if wanted else 1.0
