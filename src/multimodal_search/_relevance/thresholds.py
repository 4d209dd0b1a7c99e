"""Thresholds: what the relevance of the best hit says about a whole answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias, get_args

import numpy as np

from multimodal_search._relevance.reference_bank import QueryKind
from multimodal_search._text import brief
from multimodal_search.errors import ConfigurationError, QueryError
from multimodal_search.results import Verdict

Thresholds: TypeAlias = tuple[float, float]
"""Two relevances: below the first the verdict is "nothing", from the second on "match"."""

DEFAULT_THRESHOLDS: Mapping[QueryKind, Thresholds] = {
    "text": (0.3, 0.7),
    "image": (0.1, 0.55),
    "mixture": (0.15, 0.45),
}
"""Of each kind of query: as `benchmarks/verdicts.py --choose` chooses them with one half of its queries."""


def thresholds_of(given: object) -> Thresholds:
    """Two relevances, as given.

    Raises:
        QueryError: They are something else.
    """
    numbers = (int, float, np.integer, np.floating)
    if (
        not isinstance(given, (tuple, list))
        or len(given) != 2
        or not all(isinstance(each, numbers) and not isinstance(each, bool) for each in given)
        or not 0 <= given[0] <= given[1] <= 1
    ):
        raise QueryError(
            "thresholds are two relevances from 0 to 1, such as (0.3, 0.7): below the first there is nothing, from "
            f"the second on a match; not {brief(given)}"
        )
    return float(given[0]), float(given[1])


def thresholds_of_index(given: object) -> Mapping[QueryKind, Thresholds]:
    """The thresholds of each kind of query: those of some that are given, and the defaults of the others.

    Raises:
        ConfigurationError: They are something else.
    """
    kinds = get_args(QueryKind)
    if given is None:
        return DEFAULT_THRESHOLDS
    if not isinstance(given, Mapping) or not all(kind in kinds for kind in given):
        raise ConfigurationError(
            f"thresholds has a pair of relevances for some of {', '.join(map(repr, kinds))}, such as "
            f'{{"text": (0.3, 0.7)}}, not {brief(given)}'
        )
    try:
        return {**DEFAULT_THRESHOLDS, **{kind: thresholds_of(pair) for kind, pair in given.items()}}
    except QueryError as error:
        raise ConfigurationError(str(error)) from None


def verdict_on(relevance: float, thresholds: Thresholds) -> Verdict:
    """What a best hit of that relevance says about the answer."""
    nothing_below, match_from = thresholds
    return "match" if relevance >= match_from else "nothing" if relevance < nothing_below else "unsure"
