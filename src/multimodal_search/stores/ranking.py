"""Ranking by cosine similarity: rows of unit length go in, matches in the order that the protocol promises come out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from multimodal_search.ids import id_order
from multimodal_search.types import Match, PointId

ROUNDING = 1e-6
"""By how much a similarity in 32 bits may fall short of a threshold and still count."""

MAX_TIES = 10_000
"""How many equal scores across the end of a page are put in order; beyond that the engine's own order stands."""


class Hit(Protocol):
    """A point as an engine found it."""

    @property
    def id(self) -> Any:
        """The id, as the engine writes it."""

    @property
    def score(self) -> float:
        """The similarity."""
        ...

    @property
    def payload(self) -> Any:
        """The fields, if they were asked for."""
        ...


def ranked_pages(
    fetch: Callable[[Sequence[int], int, bool], Sequence[Sequence[Hit]]],
    payloads_of: Callable[[Sequence[PointId]], dict[PointId, dict[str, Any]]],
    *,
    queries: int,
    limit: int,
    offset: int,
) -> list[list[Match]]:
    """One page of matches for each query, in the protocol's order, from an engine that leaves ties in any order.

    One hit more than the page is asked for, because if its score equals the last one's, which of them belongs on the
    page is decided by their ids: then more is asked for until the tie ends.

    Args:
        fetch: Called with numbers of queries, a limit, and whether payloads are wanted; gives each one's best hits,
            by falling score.
        payloads_of: The payloads of ids; points deleted since may be missing.
        queries: How many queries there are.
        limit: Most matches on a page, at least 1.
        offset: Matches before the page.
    """
    end = offset + limit
    first = offset == 0  # deeper pages fetch ids alone, and then the payloads of one page
    pages = []
    for number, found in enumerate(fetch(range(queries), end + 1, first) if queries else ()):
        hits, asked, has_payload = found, end + 1, first
        while len(hits) == asked < end + MAX_TIES and hits[-1].score == hits[end - 1].score:
            asked, has_payload = min(asked * 4, end + MAX_TIES), False
            hits = fetch([number], asked, False)[0]
        if len({hit.score for hit in hits}) < len(hits):  # without ties, sorting would change nothing, and take time
            hits = sorted(hits, key=lambda hit: (-hit.score, *id_order(point_id(hit))))
        page = hits[offset:end]
        ids = [point_id(hit) for hit in page]
        if has_payload:
            pages.append([Match(key, hit.score, hit.payload or {}) for key, hit in zip(ids, page, strict=True)])
        else:
            payloads = payloads_of(ids)
            found_still = ((key, hit) for key, hit in zip(ids, page, strict=True) if key in payloads)
            pages.append([Match(key, hit.score, payloads[key]) for key, hit in found_still])
    return pages


def point_id(point: Any) -> PointId:
    """The id of a point that an engine gave, in the protocol's form: an int, or a UUID's canonical text."""
    found = point.id
    return found if type(found) is int else str(found)
