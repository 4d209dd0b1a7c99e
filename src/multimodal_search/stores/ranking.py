"""Ranked pages: matches by falling score, equal scores by id, from an engine that orders ties arbitrarily."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from multimodal_search.ids import id_order
from multimodal_search.types import Match, PointId

__all__ = ["MAX_TIES", "ROUNDING", "Hit", "point_id", "ranked_ids", "ranked_pages"]

ROUNDING = 1e-6
"""Tolerance when a 32-bit cosine similarity is compared with a threshold."""

MAX_TIES = 10_000
"""Most equal scores across the end of a page that are sorted by id; beyond that, the engine's order is kept."""


class Hit(Protocol):
    """A scored point, as an engine returns it."""

    @property
    def id(self) -> Any:
        """The id, in the engine's form."""

    @property
    def score(self) -> float:
        """The score; higher is closer."""
        ...

    @property
    def payload(self) -> Any:
        """The payload, if it was asked for."""
        ...


def ranked_pages(
    fetch: Callable[[Sequence[int], int, bool], Sequence[Sequence[Hit]]],
    payloads_of: Callable[[Sequence[PointId]], dict[PointId, dict[str, Any]]],
    *,
    queries: int,
    limit: int,
    offset: int,
    cosines: bool = True,
    fetch_page: Callable[[Sequence[int], int, int], Sequence[Sequence[Hit]]] | None = None,
) -> list[list[Match]]:
    """Build one page of matches for each query, in the protocol's order, from an engine that orders ties arbitrarily.

    One hit more than the page needs is fetched. If its score equals the last one's, ids decide which of them is on the
    page, so more hits are fetched until the tie ends.

    Args:
        fetch: Called with numbers of queries, a limit, and whether payloads are wanted; gives each one's best hits,
            by falling score.
        payloads_of: The payloads of ids; points deleted since may be missing.
        queries: How many queries there are.
        limit: Most matches on a page, at least 1.
        offset: Matches before the page.
        cosines: Whether scores are cosines, of which rounding makes 1.0000001: they are cut to -1 and 1.
        fetch_page: For engines that page themselves, so that a page is one call: called with numbers of queries, an
            offset and a limit; gives hits with payloads, and vectors if they have any. One hit more is asked for on
            either side of the page; where such a one has the score of its neighbour on the page, `fetch` is called.
    """

    def scores_of(hits: Sequence[Hit]) -> list[float]:
        scores = [hit.score for hit in hits]
        if cosines and scores and (scores[0] > 1 or scores[-1] < -1):
            return [min(1.0, max(-1.0, score)) for score in scores]
        return scores

    limit, offset = int(limit), int(offset)  # NumPy's, perhaps, which engines do not take
    end = offset + limit
    start = max(0, offset - 1)
    whole = fetch_page is not None or start == offset  # else ids alone are fetched, and then the payloads of one page
    pages = []
    if not queries:
        return []
    if fetch_page is None:
        start, every = 0, fetch(range(queries), end + 1, whole)
    else:
        every = fetch_page(range(queries), start, end + 1 - start)
    for number, hits in enumerate(every):
        scores, asked, skipped, has_payload = scores_of(hits), end + 1, start, whole
        tied_before = start > 0 and len(hits) > 1 and scores[0] == scores[1]
        tied_after = start > 0 and len(hits) == asked - start and scores[-1] == scores[-2]
        if tied_before or tied_after:  # ids decide which of them are on the page, so all hits before it must be known
            hits, has_payload, skipped = fetch([number], asked, False)[0], False, 0  # noqa: PLW2901 (the same, longer)
            scores = scores_of(hits)
        while len(hits) == asked < end + MAX_TIES and scores[-1] == scores[end - 1]:
            asked, has_payload = min(asked * 4, end + MAX_TIES), False
            hits = fetch([number], asked, False)[0]  # noqa: PLW2901 (the same)
            scores = scores_of(hits)
        page = list(zip(map(point_id, hits), scores, hits, strict=True))
        if len(set(scores)) < len(scores):  # without ties, sorting would only take time
            page.sort(key=lambda each: (-each[1], *id_order(each[0])))
        page = page[offset - skipped : end - skipped]
        if has_payload:
            vectors = [None if fetch_page is None else getattr(hit, "vector", None) for _, _, hit in page]
            pages.append(
                [
                    Match(key, score, hit.payload or {}, vector=vector)
                    for (key, score, hit), vector in zip(page, vectors, strict=True)
                ]
            )
        else:
            payloads = payloads_of([key for key, _, _ in page])
            pages.append([Match(key, score, payloads[key]) for key, score, _ in page if key in payloads])
    return pages


def ranked_ids(
    fetch: Callable[[int], Sequence[Hit]], *, limit: int, spare: int, cosines: bool
) -> list[tuple[PointId, float]]:
    """The ids and scores of the best matches of one query, in the protocol's order, as `ranked_pages` has them.

    Args:
        fetch: Called with a limit; gives the best hits, by falling score.
        limit: Most matches, at least 1.
        spare: How many hits more than that are fetched at first: several, where equal scores are many.
        cosines: As for `ranked_pages`.
    """
    limit = int(limit)
    asked = limit + spare
    hits = fetch(asked)
    while len(hits) == asked < limit + MAX_TIES and hits[-1].score == hits[limit - 1].score:
        asked = min(asked * 4, limit + MAX_TIES)
        hits = fetch(asked)
    found = [(point_id(hit), hit.score) for hit in hits]
    if len(found) > limit:
        least = found[limit - 1][1]
        found = [each for at, each in enumerate(found) if at < limit or each[1] == least]
    if cosines:
        found = [(key, min(1.0, max(-1.0, score))) for key, score in found]
    if len({score for _, score in found}) < len(found):
        found.sort(key=lambda each: (-each[1], *id_order(each[0])))
    return found[:limit]


def point_id(point: Any) -> PointId:
    """The id of an engine's point in the protocol's form: an int, or a UUID's canonical text."""
    found = point.id
    return found if type(found) is int else str(found)
