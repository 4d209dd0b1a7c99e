"""Calibration: the distribution of the best scores that neutral queries get in one index."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, cast, get_args

import numpy as np
import numpy.typing as npt

from multimodal_search._relevance.reference_bank import MIN_QUERIES, QueryKind, ReferenceBank
from multimodal_search._relevance.sample import Sample, sample_of
from multimodal_search._threads import at_once
from multimodal_search.contents import Modality
from multimodal_search.protocols import VectorStore
from multimodal_search.types import Filter
from multimodal_search.vectors import of_unit_length

_Scores = npt.NDArray[np.float64]

CALIBRATION_NOTE = "calibration"
"""The name of the note that a calibration is kept under."""

LEVELS = (0.001, 0.005, *(number / 100 for number in range(1, 100)), 0.995, 0.999, 0.9999)
"""The relevances at which a table holds scores; between them it is linear."""

_BODY = (0.1, 0.7)
"""The part of the reference scores, from the lowest on, that tails are fitted to: some queries find what they ask for,
and their high scores say nothing about those that don't."""

_SAME = 0.9995
"""From this score on two images count as the same one; no score of 32 bits is just that."""

_COPIES = 8
"""So many of the nearest others of an image may be copies of it: other sizes, formats, crops, shots of a burst."""

_APART = 1.65
"""Copies end where the distance (1 - score) grows by this factor from one of the nearest others to the next."""

_BATCH, _MIXTURES = 128, 256
_DRIFT = 0.1
_VERSION = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The distribution of neutral queries' best scores in one index; relevance is the percentile of a score in it.

    Attributes:
        bank: The digest of the bank that it was made with.
        count: Points in the index when it was made.
        tables: For a kind of query and a modality of items: the score of each of `LEVELS`, rising.
    """

    bank: str
    count: int
    tables: Mapping[tuple[QueryKind, Modality], tuple[float, ...]]

    def relevance(self, kind: QueryKind, modality: Modality | None, score: float) -> float | None:
        """The percentile of a score among the best scores of neutral queries, 0 to 1; None if that is not known.

        Args:
            kind: What the query is made of.
            modality: What the found point is made of.
            score: Cosine similarity of the two.
        """
        table = None if modality is None else self.tables.get((kind, modality))  # no table has None: for type checkers
        if table is None:
            return None
        at = bisect_right(table, score)
        if at == 0:
            # Down to 0 at a score of -1, so that no two scores of different rank become equal.
            return max(0.0, LEVELS[0] * (score + 1) / (table[0] + 1)) if table[0] > -1 else 0.0
        if at == len(table):
            return LEVELS[-1]
        low, high = table[at - 1], table[at]
        return LEVELS[at - 1] + (LEVELS[at] - LEVELS[at - 1]) * (score - low) / (high - low)

    def is_stale(self, count: int, bank: ReferenceBank, *, replaced: int = 0) -> bool:
        """Whether the index, or the bank, has changed so much that it should be calibrated again.

        Args:
            count: Points in the index now.
            bank: The bank that there is now.
            replaced: Points that had another vector when it was made.
        """
        return self.has_drifted(count, replaced=replaced) or bank.digest != self.bank

    def has_drifted(self, count: int, *, replaced: int) -> bool:
        """Whether the points have changed so much; arguments as of `is_stale`."""
        return abs(count - self.count) + replaced > _DRIFT * self.count

    def to_note(self) -> str:
        """As a text to keep with the index, a few kilobytes."""
        tables = {f"{kind}/{modality}": table for (kind, modality), table in self.tables.items()}
        return json.dumps({"version": _VERSION, "bank": self.bank, "count": self.count, "tables": tables})

    @classmethod
    def from_note(cls, note: str | None) -> Calibration | None:
        """From what `to_note` gave; None if there is nothing, or nothing that can be understood."""
        try:
            fields = json.loads(note or "null")  # which has no version, as whatever else is no calibration
            if fields["version"] != _VERSION:
                return None
            tables = dict(map(_read_table, fields["tables"].items()))
            return cls(bank=str(fields["bank"]), count=int(fields["count"]), tables=tables)
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError):
            return None


def _read_table(entry: tuple[str, Any]) -> tuple[tuple[QueryKind, Modality], tuple[float, ...]]:
    name, scores = entry
    kind, modality = name.split("/")
    table = tuple(map(float, scores))
    if kind not in get_args(QueryKind) or modality not in get_args(Modality) or not _is_table(table):
        raise ValueError(name)
    return (cast("QueryKind", kind), cast("Modality", modality)), table


def _is_table(table: Sequence[float]) -> bool:
    return len(table) == len(LEVELS) and bool(np.isfinite(table).all() and (np.diff(table) > 0).all())


def can_calibrate(store: VectorStore) -> bool:
    """Whether there are enough points of one modality.

    Raises:
        StoreError: The store failed.
    """
    return max(_counts(store)[1].values()) >= MIN_QUERIES


def calibrate(
    store: VectorStore, bank: ReferenceBank, *, tell: Callable[[float], None] = lambda share: None
) -> Calibration:
    """Estimate the distribution of the best scores of reference queries among a store's points.

    For queries by text these are the bank's texts. For queries by image they are the bank's images, or, if it has
    none, a sample of the index's own, each searched for among all others but for copies of it: an image that comes
    nearer to its best hit than that is a match for it. For mixtures they are sums of the two. A kind or modality with
    fewer than 20 queries or points is left out.

    Args:
        store: Whose scores.
        bank: The reference queries.
        tell: Called between searches with the share that is done; what it raises ends the calibration.

    Raises:
        StoreError: The store failed.
    """
    total, counts = _counts(store)
    # Where all points are of one modality, no filter need look at each of them.
    only: dict[Modality, Filter | None] = {
        each: None if counts[each] == total else {"modality": each} for each in counts
    }
    own_images = not len(bank.image) and counts["image"] >= MIN_QUERIES
    images = sample_of(store, only["image"]) if own_images else Sample.of_others(bank.image)
    texts = Sample.of_others(bank.text)
    queries: dict[QueryKind, Sample] = {"text": texts, "image": images, "mixture": _mixed(texts, images)}
    tables: dict[tuple[QueryKind, Modality], tuple[float, ...]] = {}
    enough = [modality for modality, count in counts.items() if count >= MIN_QUERIES]
    searches = len(enough) * sum(map(len, queries.values()))
    searched = 0

    for modality in enough:
        for kind, sample in queries.items():
            best: list[float] = []
            for start in range(0, len(sample), _BATCH):
                tell(searched / searches)
                some = sample[start : start + _BATCH]
                best += _best_scores(store, some, only[modality])
                searched += len(some)
            scores = _scores_at_levels(
                np.array(best), sample.weights, among_images=kind == "image" and modality == "image"
            )
            if scores is not None and _is_table(table := tuple(scores.tolist())):
                tables[kind, modality] = table
    tell(1.0)
    return Calibration(bank=bank.digest, count=total, tables=tables)


def _counts(store: VectorStore) -> tuple[int, Mapping[Modality, int]]:
    """How many points there are, and of each modality."""
    modalities: tuple[Modality, ...] = get_args(Modality)
    calls = [partial(store.count, None if each is None else {"modality": each}) for each in (None, *modalities)]
    total, *of_each = at_once(calls, name="multimodal-calibrate")
    return total, dict(zip(modalities, of_each, strict=True))


def _mixed(texts: Sample, images: Sample) -> Sample:
    """Each of some images with one of the texts, in equal parts."""
    if len(texts) < MIN_QUERIES:
        return texts[:0]
    images = images[:_MIXTURES]
    others = texts.vectors[np.arange(len(images)) % len(texts)]
    return Sample(vectors=of_unit_length(images.vectors + others), weights=images.weights, ids=images.ids)


def _best_scores(store: VectorStore, sample: Sample, where: Filter | None) -> Iterator[float]:
    """The best score that each vector gets; NaN if it gets none.

    A point of the index does not find itself, nor what is the same image, nor copies of it.
    """
    limit = _COPIES + 3 if sample.ids else 2
    for row, page in enumerate(store.search(sample.vectors, limit=limit, where=where)):
        scores = [match.score for match in page if not sample.ids or match.id != sample.ids[row]]
        others = [score for score in scores if score < _SAME]
        yield (_without_copies(others) if sample.ids else others[0]) if others else math.nan


def _without_copies(scores: Sequence[float]) -> float:
    """The best of some falling scores, but for the first few if a gap parts them from the rest, as it does copies."""
    pairs = list(pairwise(scores))[:_COPIES]
    ends = [at for at, (score, following) in enumerate(pairs, start=1) if 1 - following > _APART * (1 - score)]
    return scores[ends[-1] if ends else 0]


def _scores_at_levels(best: _Scores, weights: _Scores, *, among_images: bool) -> _Scores | None:
    """The score of each level, from the best scores of reference queries, of which each counts by its weight.

    A level's score is the lower of two: that which so many reference queries stay below, and that which they would
    stay below if they followed the Gumbel distribution, as maxima do, whose body is theirs. The fit sees through
    reference queries that find what they ask for; the count through scores that follow no such distribution.

    Among images scores come close to 1, where they cannot follow it. But distances to nearest neighbours follow a
    Weibull distribution, so their logarithms follow Gumbel's, and 1 - score is half the squared distance.
    """
    is_known = np.isfinite(best)
    best, weights = best[is_known], weights[is_known]
    if len(best) < MIN_QUERIES:
        return None
    order = np.argsort(best)
    best, weights = best[order], weights[order]
    places = (np.cumsum(weights) - weights / 2) / weights.sum()
    levels = np.array(LEVELS)
    counted: _Scores = np.interp(levels, places, best)
    # 1e-9, or any other number below 1 - _SAME, which is the least there is.
    fit = _gumbel(-np.log(np.maximum(1 - best, 1e-9)) if among_images else best, places)
    if fit is None:  # a model that knows only some words: all other texts score 0
        return _rising(counted)
    fitted = fit[0] + fit[1] * _gumbel_quantile(levels)
    if among_images:
        fitted = 1 - np.exp(-fitted)
    within = (levels > places[0]) & (levels < places[-1])  # what so few can be counted for
    return _rising(np.where(within, np.minimum(fitted, counted), fitted))


def _rising(scores: _Scores) -> _Scores:
    """The same, with each at least a little above the one before, as equal counts are not."""
    rising: _Scores = np.maximum.accumulate(scores) + 1e-9 * np.arange(len(scores))
    return rising


def _gumbel(values: _Scores, places: _Scores) -> tuple[float, float] | None:
    """Location and scale of the Gumbel distribution whose quantiles lie nearest to those of the body of some values.

    None where the body is a single value: where its scale is some roundings of 32 bits, as 1e-6 is.

    Args:
        values: Rising.
        places: The share of all that lies below each, 0 to 1.
    """
    body = (places >= _BODY[0]) & (places <= _BODY[1])
    expected, seen = _gumbel_quantile(places[body]), values[body]
    centred = expected - expected.mean()
    scale = float(centred @ seen / (centred @ centred))
    return (float(seen.mean() - scale * expected.mean()), scale) if scale > 1e-6 else None


def _gumbel_quantile(places: _Scores) -> _Scores:
    """Of the standard Gumbel distribution, exp(-exp(-x))."""
    quantile: _Scores = -np.log(-np.log(places))
    return quantile
