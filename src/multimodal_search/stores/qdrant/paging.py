"""Queries in as many requests as the limits of a collection ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from multimodal_search.stores.qdrant.querying import PointsQuery
from multimodal_search.stores.qdrant.strict_mode import StrictMode
from multimodal_search.types import Match

if TYPE_CHECKING:
    from qdrant_client import models

Ask: TypeAlias = Callable[[Sequence[PointsQuery]], Sequence[Sequence[Match]]]


def query_in_pages(queries: Sequence[PointsQuery], ask: Ask, strict: StrictMode, *, at_once: int) -> list[list[Match]]:
    """The points that each query finds, by falling score.

    Args:
        queries: What is asked for.
        ask: Makes one request.
        strict: The collection's strict mode.
        at_once: Most queries in one request.
    """
    at_once = max(1, strict.queries(at_once))
    found: list[list[Match]] = [[] for _ in queries]
    pages = {number: _page(query, [], strict) for number, query in enumerate(queries)}
    while pages:
        numbers = list(pages)
        for start in range(0, len(numbers), at_once):
            some = numbers[start : start + at_once]
            for number, points in zip(some, ask([pages[number] for number in some]), strict=True):
                found[number] += points
                limit = pages.pop(number).limit
                if len(points) == limit and len(found[number]) < queries[number].limit:
                    pages[number] = _page(queries[number], found[number], strict)
    return found


def _page(query: PointsQuery, found: Sequence[Match], strict: StrictMode) -> PointsQuery:
    """The next request for a query whose points come in several pages.

    Which of equal scores an engine puts on a page depends on the page's size. So the points found with the last score
    are excluded by their ids, and those above it by their number: nothing comes twice, and nothing is lost.
    """
    limit = strict.points(query.limit - len(found))
    if not found:
        return query if limit == query.limit else replace(query, limit=limit)
    from qdrant_client import models

    tied: list[Any] = [point.id for point in found if point.score == found[-1].score]
    others: list[Any] = [] if query.condition is None else [query.condition]
    rest: models.Filter | None = models.Filter(must=others, must_not=[models.HasIdCondition(has_id=tied)])
    if strict.excess(rest):  # too many ids: the engine's order is kept
        tied, rest = [], query.condition
    return replace(query, limit=limit, offset=query.offset + len(found) - len(tied), condition=rest)
