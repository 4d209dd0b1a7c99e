"""Queries of a server's collection, in as many requests as its limits ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from multimodal_search.stores.qdrant.client import Connection
from multimodal_search.stores.qdrant.strict_mode import StrictMode

if TYPE_CHECKING:
    from qdrant_client import models


def query(
    connection: Connection, requests: Sequence[models.QueryRequest], strict: StrictMode, *, at_once: int
) -> list[list[models.ScoredPoint]]:
    """The points of each query, by falling score.

    Args:
        connection: To the collection.
        requests: The queries, each with a limit.
        strict: The collection's strict mode.
        at_once: Most queries in one request.
    """
    at_once = max(1, strict.queries(at_once))
    found: list[list[models.ScoredPoint]] = [[] for _ in requests]
    pages = {number: _page(request, [], strict) for number, request in enumerate(requests)}
    while pages:
        numbers = list(pages)
        for start in range(0, len(numbers), at_once):
            some = numbers[start : start + at_once]
            with connection.calling() as client:
                answers = client.query_batch_points(connection.collection, [pages[number] for number in some])
            for number, answer in zip(some, answers, strict=True):
                found[number] += answer.points
                limit = pages.pop(number).limit
                if len(answer.points) == limit and len(found[number]) < (requests[number].limit or 0):
                    pages[number] = _page(requests[number], found[number], strict)
    return found


def _page(request: models.QueryRequest, found: Sequence[models.ScoredPoint], strict: StrictMode) -> models.QueryRequest:
    """The next request for a query whose points come in several pages.

    Which of equal scores an engine puts on a page depends on the page's size. So the points found with the last score
    are excluded by their ids, and those above it by their number: nothing comes twice, and nothing is lost.
    """
    limit = request.limit or 0
    if not found:
        return request.model_copy(update={"limit": strict.points(limit)})
    from qdrant_client import models

    tied = [point.id for point in found if point.score == found[-1].score]
    others: list[Any] = [] if request.filter is None else [request.filter]
    rest: models.Filter | None = models.Filter(must=others, must_not=[models.HasIdCondition(has_id=tied)])
    if strict.excess(rest):  # too many ids: the engine's order is kept
        tied, rest = [], request.filter
    return request.model_copy(
        update={"limit": strict.points(limit - len(found)), "offset": len(found) - len(tied), "filter": rest}
    )
