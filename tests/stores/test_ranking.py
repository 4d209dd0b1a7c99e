"""Pages in the protocol's order, from an engine that leaves ties in any order: every call that is made is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from multimodal_search.stores.ranking import MAX_TIES, ROUNDING, point_id, ranked_pages
from multimodal_search.types import Match, PointId


@dataclass(frozen=True)
class Hit:
    id: Any
    score: float
    payload: Any = None


class Engine:
    """Gives the same hits for every query, and remembers what it was asked."""

    def __init__(self, hits: Sequence[Hit]) -> None:
        self.hits = hits
        self.asked: list[tuple[list[int], int, bool]] = []
        self.payloads_asked: list[list[PointId]] = []

    def fetch(self, queries: Sequence[int], limit: int, with_payload: bool) -> list[list[Hit]]:
        self.asked.append((list(queries), limit, with_payload))
        payload = {"from": "fetch"} if with_payload else None
        return [[Hit(hit.id, hit.score, payload) for hit in self.hits[:limit]] for _ in queries]

    def payloads_of(self, ids: Sequence[PointId]) -> dict[PointId, dict[str, Any]]:
        self.payloads_asked.append(list(ids))
        return {each: {"from": "payloads_of"} for each in ids}

    def pages(self, *, queries: int = 1, limit: int, offset: int = 0) -> list[list[Match]]:
        return ranked_pages(self.fetch, self.payloads_of, queries=queries, limit=limit, offset=offset)


def ids_of(page: Sequence[Match]) -> list[PointId]:
    return [match.id for match in page]


def test_without_ties_one_call_is_enough() -> None:
    engine = Engine([Hit(7, 0.9), Hit(3, 0.8), Hit(5, 0.7), Hit(1, 0.6)])
    pages = engine.pages(queries=2, limit=2)
    assert pages == [[Match(7, 0.9, {"from": "fetch"}), Match(3, 0.8, {"from": "fetch"})]] * 2
    assert engine.asked == [([0, 1], 3, True)]
    assert engine.payloads_asked == []


def test_without_queries_nothing_is_asked() -> None:
    engine = Engine([Hit(1, 0.5)])
    assert engine.pages(queries=0, limit=2) == []
    assert engine.asked == []


def test_a_tie_that_ends_before_the_page_does_is_put_in_order() -> None:
    """Within what was fetched: no second call, and the payloads that came with it."""
    engine = Engine([Hit(7, 0.9), Hit(5, 0.9), Hit(6, 0.9), Hit(1, 0.3)])
    (page,) = engine.pages(limit=3)
    assert ids_of(page) == [5, 6, 7]
    assert engine.asked == [([0], 4, True)]


def test_a_tie_across_the_end_is_fetched_until_it_ends() -> None:
    """Which of them stands on the page is decided by their ids, so that all of them must be known."""
    engine = Engine([Hit(1, 0.9), *(Hit(number, 0.5) for number in range(40, 10, -1)), Hit(2, 0.4)])
    (first, second) = engine.pages(queries=2, limit=3)
    assert (
        first
        == second
        == [Match(each, score, {"from": "payloads_of"}) for each, score in ((1, 0.9), (11, 0.5), (12, 0.5))]
    )
    assert engine.asked == [
        ([0, 1], 4, True), ([0], 16, False), ([0], 64, False), ([1], 16, False), ([1], 64, False),
    ]  # fmt: skip
    assert engine.payloads_asked == [[1, 11, 12]] * 2


def test_a_tie_that_begins_after_the_page_is_left_alone() -> None:
    engine = Engine([Hit(2, 0.9), Hit(9, 0.5), Hit(8, 0.5), Hit(7, 0.5)])
    (page,) = engine.pages(limit=1)
    assert ids_of(page) == [2]
    assert engine.asked == [([0], 2, True)]


def test_a_tie_is_fetched_up_to_a_bound() -> None:
    """The engine's order stands beyond it: a million blank pages must not be loaded for each search."""
    engine = Engine([Hit(number, 0.5) for number in range(3 * MAX_TIES, 0, -1)])
    (page,) = engine.pages(limit=2)
    assert [limit for _, limit, _ in engine.asked] == [3, 12, 48, 192, 768, 3072, MAX_TIES + 2]
    assert ids_of(page) == [2 * MAX_TIES - 1, 2 * MAX_TIES]


def test_a_deeper_page_fetches_payloads_for_itself_alone() -> None:
    engine = Engine([Hit(number, 1 - number / 100) for number in range(20)])
    (page,) = engine.pages(limit=2, offset=10)
    assert page == [Match(10, 0.9, {"from": "payloads_of"}), Match(11, 0.89, {"from": "payloads_of"})]
    assert engine.asked == [([0], 13, False)]
    assert engine.payloads_asked == [[10, 11]]


def test_a_point_that_is_deleted_between_two_calls_is_left_out() -> None:
    engine = Engine([Hit(1, 0.9), Hit(2, 0.8), Hit(3, 0.7)])
    engine.payloads_of = lambda ids: {2: {"k": 1}}  # type: ignore[method-assign]
    assert engine.pages(limit=2, offset=1) == [[Match(2, 0.8, {"k": 1})]]


def test_a_hit_without_fields_has_an_empty_payload() -> None:
    engine = Engine([])
    engine.fetch = lambda queries, limit, with_payload: [[Hit(1, 0.9, None)]]  # type: ignore[method-assign]
    assert engine.pages(limit=1) == [[Match(1, 0.9, {})]]


def test_equal_scores_come_in_the_order_of_ids_numbers_first() -> None:
    low, high = UUID(int=1), UUID(int=2)
    engine = Engine([Hit(high, 0.5), Hit(10, 0.5), Hit(low, 0.5), Hit(9, 0.5), Hit(4, 0.7)][::-1])
    (page,) = engine.pages(limit=10)
    assert ids_of(page) == [4, 9, 10, str(low), str(high)]


def test_a_similarity_in_32_bits_may_fall_short_by_some_roundings() -> None:
    """A float32 near 1 is off by up to 6e-8, and a sum of many products by some of these."""
    assert ROUNDING == 1e-6


@pytest.mark.parametrize(
    ("found", "stored"), [(7, 7), (UUID(int=7), str(UUID(int=7))), (str(UUID(int=7)), str(UUID(int=7)))]
)
def test_an_id_is_a_number_or_the_text_of_a_uuid(found: Any, stored: PointId) -> None:
    assert point_id(Hit(found, 0.5)) == stored
    assert type(point_id(Hit(found, 0.5))) is type(stored)
