"""What `get`, `scan` and `count` must do, and filters."""
# ruff: noqa: S101 (these are tests)

from __future__ import annotations

import numpy as np
import pytest

from multimodal_search.errors import QueryError
from multimodal_search.protocols import VectorStore
from multimodal_search.testing._filter_cases import CASES, INVALID, PAYLOADS
from multimodal_search.testing._payload_cases import AWKWARD
from multimodal_search.testing._points import DIMENSION, axes, uuid
from multimodal_search.types import PointId, Record


class ReadingContract:
    """A part of `VectorStoreContract`."""

    def test_get_keeps_the_order_and_the_gaps(self, store: VectorStore) -> None:
        """The caller pairs answers with what was asked."""
        store.upsert([Record(1), Record(uuid(2)), Record(3)], axes(0, 1, 2))
        wanted: list[PointId] = [3, 99, uuid(2), uuid(99), 3, 1]
        assert [record and record.id for record in store.get(wanted)] == [3, None, uuid(2), None, 3, 1]

    def test_scan_gives_each_record_once_in_order(self, store: VectorStore) -> None:
        """3,000 is more than a page of any store, and what was seen may change meanwhile."""
        ids: list[PointId] = [*range(1_500), *(uuid(number) for number in range(1_500))]
        order = np.random.default_rng(3).permutation(len(ids))
        rows = axes(*(number % DIMENSION for number in range(len(ids))))
        store.upsert([Record(ids[at], {"at": int(at), "half": int(at) % 2, "x y": 1}) for at in order], rows)
        seen: list[PointId] = []
        for record in store.scan(fields=["at", "missing"]):
            assert record.payload == {"at": len(seen)}
            seen.append(record.id)
            if len(seen) % 500 == 0:
                store.delete(seen[-100:-50])
                store.upsert([Record(seen[-1], {"new": True})], axes(0))
        assert seen == ids
        assert store.count() == 3_000 - 6 * 50
        assert sum(1 for _ in store.scan(where={"half": 1})) == store.count({"half": 1})
        assert next(store.scan(where={"at": 7}, fields=["x y", "half"])).payload == {"x y": 1, "half": 1}
        assert next(store.scan(fields=())).payload == {}

    def test_two_scans_do_not_disturb_each_other(self, store: VectorStore) -> None:
        """Each has its own place, though both read the same points."""
        store.upsert([Record(number) for number in range(4)], axes(0, 1, 2, 3))
        first, second = store.scan(), store.scan(where={})
        seen = [next(each).id for each in (first, first, second, first, second)]
        assert seen == [0, 1, 0, 2, 1]
        assert [record.id for record in first] == [3]
        assert [record.id for record in second] == [2, 3]

    def test_scan_finds_fields_of_any_name(self, store: VectorStore) -> None:
        """Also of those that the engine's paths have no way to write."""
        for payload in AWKWARD:
            store.upsert([Record(1, payload)], axes(0))
            for name, value in payload.items():
                assert next(store.scan(fields=[name])).payload == {name: value}

    def test_filters(self, filled: VectorStore) -> None:
        """Known answers, from what Qdrant's engine says."""
        names = list(PAYLOADS)
        wrong = []
        for where, expected in CASES:
            for found in (filled.scan(where=where), filled.search(axes(0), limit=len(names), where=where)[0]):
                passed = {names[int(each.id)] for each in found}
                if passed != expected or filled.count(where) != len(expected):
                    wrong.append((where, "too many", passed - expected, "too few", expected - passed))
        assert wrong == []

    def test_invalid_filters_are_refused(self, filled: VectorStore) -> None:
        """A filter that is silently ignored finds the wrong things."""
        for where in INVALID:
            with pytest.raises(QueryError):
                filled.count(where)
            with pytest.raises(QueryError):
                filled.scan(where=where)  # at the call, not when the first record is asked for
            with pytest.raises(QueryError):
                filled.search(axes(0), limit=1, where=where)

    @pytest.fixture
    def filled(self, store: VectorStore) -> VectorStore:
        """A store with the payloads that filters are tried on."""
        store.upsert(
            [Record(number, payload) for number, payload in enumerate(PAYLOADS.values())], axes(*[0] * len(PAYLOADS))
        )
        return store
