"""What `search` must do."""
# ruff: noqa: S101 (these are tests)

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from multimodal_search.errors import ConfigurationError, QueryError
from multimodal_search.filters.matching import passes
from multimodal_search.filters.parsing import parse_filter
from multimodal_search.ids import id_order
from multimodal_search.protocols import SupportsListFilter, SupportsTuning, SupportsVectorsInSearch, VectorStore
from multimodal_search.testing._payload_cases import RANDOM_FILTERS, RANDOM_PAYLOADS
from multimodal_search.testing._points import CLOSE, DIMENSION, axes, uuid
from multimodal_search.types import PointId, Record

# After `_payload_cases`, which says what to install where hypothesis is missing.
from hypothesis import HealthCheck, given, settings  # isort: skip
from hypothesis import strategies as st  # isort: skip


class SearchingContract:
    """A part of `VectorStoreContract`."""

    def test_scores_are_cosines(self, store: VectorStore) -> None:
        """-1 to 1, higher is closer, whatever the lengths of the vectors."""
        rows = np.zeros((5, DIMENSION), np.float32)
        rows[:, :2] = np.array([[3, 4], [4, 3], [-3, -4], [-4, 3], [1, 0]])
        store.upsert([Record(number) for number in range(5)], rows)
        query = np.zeros((1, DIMENSION), np.float32)
        query[0, :2] = [30, 40]
        found = store.search(query, limit=5)[0]
        assert [match.id for match in found] == [0, 1, 4, 3, 2]
        assert [match.score for match in found] == pytest.approx([1, 0.96, 0.6, 0, -1], abs=CLOSE)
        assert all(type(match.score) is float for match in found)

    def test_lengths_are_computed_in_64_bits(self, store: VectorStore) -> None:
        """The square of 3e38 overflows 32 bits, and that of 1e-30 is zero there; both are numbers a vector may hold."""
        rows = np.zeros((4, DIMENSION), np.float32)
        rows[:, :2] = np.array([[2.4e38, 3.2e38], [3e-30, 4e-30], [-3e-44, -4e-44], [4e18, 3e18]], np.float32)
        store.upsert([Record(number) for number in range(4)], rows)
        for query in rows:
            found = {match.id: match.score for match in store.search(query[np.newaxis], limit=4)[0]}
            exact = rows.astype(np.float64) @ query.astype(np.float64)
            exact /= np.linalg.norm(rows.astype(np.float64), axis=1) * np.linalg.norm(query.astype(np.float64))
            assert found == pytest.approx(dict(enumerate(exact.tolist())), abs=CLOSE)

    def test_no_score_is_beyond_1(self, store: VectorStore) -> None:
        """Rounding makes 1.0000001 of a cosine, whose angle is then NaN, and which no threshold of 1 expects."""
        rows = np.random.default_rng(6).normal(size=(120, DIMENSION)).astype(np.float32)
        store.upsert([Record(number) for number in range(120)], rows)
        scores = [match.score for page in store.search(np.concatenate([rows, -rows]), limit=120) for match in page]
        assert (max(scores), min(scores)) == pytest.approx((1, -1), abs=CLOSE)
        assert max(scores) <= 1
        assert min(scores) >= -1

    def test_a_zero_vector_is_as_far_from_everything_as_a_right_angle(self, store: VectorStore) -> None:
        """It has no direction; NaN scores would spoil the order of the rest."""
        rows = axes(0, 0, 1)
        rows[1] = 0
        store.upsert([Record(0), Record(1), Record(2)], rows)
        assert [match.score for match in store.search(rows[1:2], limit=5)[0]] == [0, 0, 0]
        assert {match.id: match.score for match in store.search(axes(0), limit=5)[0]} == pytest.approx(
            {0: 1, 1: 0, 2: 0}
        )

    def test_tuning_is_told_as_it_is_and_exact_searches_find_everything(self, store: VectorStore) -> None:
        """Whatever it is tuned to, what it finds when it compares all is what NumPy finds."""
        if not isinstance(store, SupportsTuning):
            pytest.skip("this store's search is exact, or cannot be tuned (SupportsTuning)")
        rows = np.random.default_rng(8).normal(size=(150, DIMENSION)).astype(np.float32)
        store.upsert([Record(number, {"even": number % 2 == 0}) for number in range(150)], rows)
        report = store.tune({"text": rows[:40], "image": rows[40:80]}, 0.9)
        assert (report.target, report.points) == (0.9, 150)
        assert report.exact or report.reason or min(report.recall.values()) > 0.8
        assert store.tuning == report
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        for where, among in ((None, range(150)), ({"even": True}, range(0, 150, 2))):
            for row in rows[:5]:
                nearest = sorted(among, key=lambda at: -float(unit[at] @ row))
                (page,) = store.search_exactly(row[np.newaxis], limit=7, offset=2, where=where)
                assert [match.id for match in page] == nearest[2:9]
        for target in (0, 1.5, float("nan")):
            with pytest.raises(ConfigurationError):
                store.tune({"text": rows[:4]}, target)

    def test_vectors_come_with_matches_as_get_gives_them(self, store: VectorStore) -> None:
        """On every page, whatever is equal there; a page that is short is the last one."""
        if not isinstance(store, SupportsVectorsInSearch):
            pytest.skip("this store gives no vectors with matches (SupportsVectorsInSearch)")
        rows = np.random.default_rng(7).normal(size=(40, DIMENSION)).astype(np.float32)
        rows[10:20] = rows[10]
        store.upsert([Record(number, {"even": number % 2 == 0}) for number in range(40)], rows)
        for where in (None, {"even": True}):
            expected = store.search(rows[:2], limit=50, where=where)
            for offset, limit in ((0, 50), (0, 7), (3, 9), (15, 5), (18, 40), (60, 3)):
                pages = store.search_with_vectors(rows[:2], limit=limit, offset=offset, where=where)
                for page, whole in zip(pages, expected, strict=True):
                    wanted = whole[offset : offset + limit]
                    assert [(match.id, match.payload) for match in page] == [(each.id, each.payload) for each in wanted]
                    assert [match.score for match in page] == pytest.approx([each.score for each in wanted], abs=CLOSE)
                for match in (match for page in pages for match in page):
                    (record,) = store.get([match.id], with_vectors=True)
                    assert record is not None
                    assert record.vector is not None
                    if match.vector is not None:
                        assert match.vector.dtype == np.float32
                        assert match.vector == pytest.approx(record.vector)
        assert all(match.vector is not None for match in store.search_with_vectors(rows[:1], limit=9)[0])

    def test_fields_with_several_values_pass_the_filter_for_them(self, store: VectorStore) -> None:
        """A group's best hit may be in another group as well: such hits must not be left out with that one."""
        if not isinstance(store, SupportsListFilter):
            pytest.skip("this store has no filter for lists (SupportsListFilter)")
        values: list[Any] = [["a", "b"], ["a", 1], ["a", "b", "c"], "a", 7, None, []]
        payloads = [{}, *({"and": value} for value in values)]
        store.upsert([Record(number, each) for number, each in enumerate(payloads)], axes(*range(len(payloads))))
        passing = {record.id for record in store.scan(where=store.is_list('"and"'))}
        assert {1, 2, 3} <= passing
        combined = {"and": [{'"and"': "a"}, {"or": [{'"and"': 7}, store.is_list('"and"')]}]}
        assert [record.id for record in store.scan(where=combined)] == [1, 2, 3]

    def test_vectors_come_back_with_their_direction(self, store: VectorStore) -> None:
        """Moved files keep their vectors, which are read and written again."""
        rows = np.random.default_rng(1).normal(size=(3, DIMENSION)).astype(np.float32)
        store.upsert([Record(number) for number in range(3)], rows)
        for record, row in zip(store.get([0, 1, 2], with_vectors=True), rows, strict=True):
            assert record is not None
            assert record.vector is not None
            assert record.vector.dtype == np.float32
            length = np.linalg.norm(record.vector)
            assert record.vector / length == pytest.approx(row / np.linalg.norm(row), abs=1e-6)
        assert [record and record.vector for record in store.get([0])] == [None]

    def test_vectors_that_came_back_belong_to_the_caller(self, store: VectorStore) -> None:
        """An array that shares the store's memory lets a caller change what is stored."""
        store.upsert([Record(1)], axes(0))
        record = store.get([1], with_vectors=True)[0]
        assert record is not None
        assert record.vector is not None
        if record.vector.flags.writeable:
            record.vector[:] = axes(5)[0]
        assert store.search(axes(0), limit=1)[0][0].score == pytest.approx(1, abs=CLOSE)

    def test_ties_are_in_the_order_of_ids_and_pages_fit_together(self, store: VectorStore) -> None:
        """Page after page gives what one long page gives: nothing twice, nothing lost, even among equals."""
        ids: list[PointId] = [*range(40), *(uuid(number) for number in range(40))]
        order = np.random.default_rng(2).permutation(80)
        rows = axes(*(0 if number % 4 else 1 for number in range(80)))
        store.upsert([Record(ids[at], {"at": int(at)}) for at in order], rows[order])
        query = axes(0) + axes(1) * np.float32(0.5)
        long = [match.id for match in store.search(query, limit=100)[0]]
        assert long == [ids[at] for at in range(80) if at % 4] + [ids[at] for at in range(80) if not at % 4]
        for size in (1, 7, 60, 80):
            pages = [store.search(query, limit=size, offset=start)[0] for start in range(0, 80, size)]
            assert [match.id for page in pages for match in page] == long
            assert all(ids[match.payload["at"]] == match.id for page in pages for match in page)
        assert store.search(query, limit=5, offset=80) == [[]]
        filtered = store.search(query, limit=4, offset=2, where={"at": {"lt": 12}})[0]
        assert [match.id for match in filtered] == [3, 5, 6, 7]

    def test_each_vector_has_its_own_answer(self, store: VectorStore) -> None:
        """Many searches at once give what each gives alone."""
        store.upsert([Record(number) for number in range(DIMENSION)], axes(*range(DIMENSION)))
        queries = axes(*(number % DIMENSION for number in range(50)))
        assert [page[0].id for page in store.search(queries, limit=2)] == [n % DIMENSION for n in range(50)]

    def test_each_vector_has_its_own_page(self, store: VectorStore) -> None:
        """`offset` and `limit` hold for each of several vectors, not for all of them together."""
        store.upsert([Record(number) for number in range(4)], axes(0, 0, 1, 1))
        queries = axes(0, 1, 0)
        assert [[match.id for match in page] for page in store.search(queries, limit=2, offset=1)] == [
            [1, 2],
            [3, 0],
            [1, 2],
        ]
        assert [len(page) for page in store.search(queries, limit=100_000)] == [4, 4, 4]

    def test_deep_pages_go_on_where_the_last_one_ended(self, store: VectorStore) -> None:
        """Engines have limits of their own, 1,000 for one; a caller that pages on must not get the same hits again."""
        ids = list(range(2_200))
        store.upsert([Record(each, {"even": each % 2 == 0}) for each in ids], axes(*[0] * len(ids)))
        for offset in (999, 1_000, 1_050, 2_197):
            page = store.search(axes(0), limit=3, offset=offset)[0]
            assert [match.id for match in page] == ids[offset : offset + 3]
        page = store.search(axes(0), limit=2, offset=1_001, where={"even": True})[0]
        assert [match.id for match in page] == [2_002, 2_004]
        assert [match.id for match in store.search(axes(0), limit=2_000)[0]] == ids[:2_000]

    def test_a_page_is_full_of_what_passes(self, store: VectorStore) -> None:
        """Filtering what was found leaves pages empty where others pass that are further away."""
        store.upsert([Record(number, {"near": number < 90}) for number in range(100)], axes(*[0] * 90, *[1] * 10))
        page = store.search(axes(0), limit=5, where={"near": False})[0]
        assert [match.id for match in page] == [90, 91, 92, 93, 94]
        page = store.search(axes(0), limit=5, offset=7, where={"near": False})[0]
        assert [match.id for match in page] == [97, 98, 99]

    def test_invalid_limits_and_offsets_are_refused(self, store: VectorStore) -> None:
        """Rather than being taken for something else."""
        for limit, offset in ((0, 0), (-1, 0), (1, -1)):
            with pytest.raises(QueryError):
                store.search(axes(0), limit=limit, offset=offset)

    @settings(
        max_examples=40,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    )
    @given(
        payloads=st.lists(RANDOM_PAYLOADS, min_size=1, max_size=12),
        where=RANDOM_FILTERS,
        seed=st.integers(0, 2**32 - 1),
    )
    def test_searches_are_what_numpy_says(
        self, store: VectorStore, payloads: list[dict[str, Any]], where: dict[str, Any], seed: int
    ) -> None:
        """Random vectors, payloads and filters, against exact search over the payloads that pass."""
        store.delete([record.id for record in store.scan(fields=())])
        rows = np.random.default_rng(seed).normal(size=(len(payloads) + 1, DIMENSION)).astype(np.float32)
        ids = [number if number % 2 else uuid(number) for number in range(len(payloads))]
        store.upsert([Record(each, payload) for each, payload in zip(ids, payloads, strict=True)], rows[:-1])
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        exact = dict(zip(ids, (unit[:-1] @ unit[-1]).tolist(), strict=True))
        passing = {each for each, payload in zip(ids, payloads, strict=True) if passes(parse_filter(where), payload)}

        limit = max(1, len(passing) // 2)
        found = store.search(rows[-1:], limit=limit, where=where)[0]
        best = sorted(passing, key=lambda each: -exact[each])[:limit]
        assert [match.score for match in found] == pytest.approx([exact[each] for each in best], abs=CLOSE)
        assert {match.id: match.score for match in found} == pytest.approx(
            {match.id: exact[match.id] for match in found}, abs=CLOSE
        )
        assert {match.id for match in found} <= passing
        assert [record.id for record in store.scan(where=where)] == sorted(passing, key=id_order)
        assert store.count(where) == len(passing)
