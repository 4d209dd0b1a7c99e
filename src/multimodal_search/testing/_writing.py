"""What `upsert` and `delete` must do."""
# ruff: noqa: S101 (these are tests)

from __future__ import annotations

import copy

import numpy as np
import pytest

from multimodal_search.errors import ConfigurationError, ContentError, QueryError, SchemaMismatchError, StoreError
from multimodal_search.protocols import VectorStore
from multimodal_search.testing._payload_cases import AWKWARD, types_of
from multimodal_search.testing._points import CLOSE, DIMENSION, axes, uuid
from multimodal_search.types import PointId, Record


class WritingContract:
    """A part of `VectorStoreContract`."""

    def test_an_empty_batch_is_fine(self, store: VectorStore) -> None:
        """Callers need no special case when a run finds nothing to do."""
        store.upsert([], np.empty((0, DIMENSION), np.float32))
        store.delete([])
        assert store.get([]) == []
        assert store.search(np.empty((0, DIMENSION), np.float32), limit=1) == []
        assert store.count() == 0

    def test_the_last_one_of_an_id_in_a_batch_wins(self, store: VectorStore) -> None:
        """As if the batch had been written record by record."""
        store.upsert([Record(1, {"v": 1}), Record(2, {"v": 2}), Record(1, {"v": 3})], axes(0, 1, 2))
        assert store.get([1, 2]) == [Record(1, {"v": 3}), Record(2, {"v": 2})]
        assert store.count() == 2
        assert [match.score for match in store.search(axes(2), limit=2)[0]] == pytest.approx([1, 0], abs=CLOSE)

    def test_upsert_replaces_vector_and_payload_whole(self, store: VectorStore) -> None:
        """A field that a new version of an item lacks must not stay behind, and be found."""
        store.upsert([Record(1, {"a": 1, "b": {"c": 2}})], axes(0))
        store.upsert([Record(1, {"b": {"d": 3}})], axes(1))
        assert store.get([1]) == [Record(1, {"b": {"d": 3}})]
        assert store.count({"a": {"exists": True}}) == 0
        assert store.search(axes(1), limit=1)[0][0].score == pytest.approx(1, abs=CLOSE)

    def test_payloads_come_back_as_they_were(self, store: VectorStore) -> None:
        """To the type: JSON tells 1, 1.0 and true apart, and so do filters."""
        store.upsert([Record(number, payload) for number, payload in enumerate(AWKWARD)], axes(*[0] * len(AWKWARD)))
        found = {match.id: match.payload for match in store.search(axes(0), limit=len(AWKWARD))[0]}
        for number, (record, payload) in enumerate(zip(store.scan(), AWKWARD, strict=True)):
            got = store.get([number])[0]
            assert got is not None
            for stored in (got.payload, record.payload, found[number]):
                assert stored == payload
                assert types_of(stored) == types_of(payload)

    def test_what_is_stored_cannot_be_changed_from_outside(self, store: VectorStore) -> None:
        """What was found belongs to the caller, who may well edit it."""
        payload = {"list": [1]}
        vectors = axes(0)
        store.upsert([Record(1, payload)], vectors)
        payload["list"].append(2)
        vectors[:] = 7
        for _ in range(2):
            for stored in (store.get([1])[0], next(store.scan()), store.search(axes(0), limit=1)[0][0]):
                assert stored is not None
                assert stored.payload == {"list": [1]}
                stored.payload["list"].append(3)
        assert store.search(axes(0), limit=1)[0][0].score == pytest.approx(1, abs=CLOSE)

    def test_ids_are_integers_or_uuids_to_their_ends(self, store: VectorStore) -> None:
        """Hashes make ids as large as they get."""
        ids: list[PointId] = [0, 1, 2**64 - 1, uuid(0), "ffffffff-ffff-ffff-ffff-ffffffffffff"]
        store.upsert([Record(each) for each in ids], axes(0, 1, 2, 3, 4))
        assert [record.id for record in store.scan()] == ids
        assert [record and record.id for record in store.get(ids)] == ids
        assert store.search(axes(2), limit=1)[0][0].id == 2**64 - 1
        store.delete(ids)
        assert store.count() == 0

    def test_deleting_takes_what_is_there_and_minds_nothing_else(self, store: VectorStore) -> None:
        """Whoever deletes twice wants the same as who deletes once."""
        store.upsert([Record(number, {"n": number}) for number in range(6)], axes(0, 1, 2, 3, 4, 5))
        store.delete([1, 99, uuid(99), 4, 1])
        assert [record.id for record in store.scan()] == [0, 2, 3, 5]
        assert store.get([1, 4, 5]) == [None, None, Record(5, {"n": 5})]
        assert store.count({"n": {"gte": 1}}) == 3
        assert {match.id for match in store.search(axes(4), limit=9)[0]} == {0, 2, 3, 5}
        store.upsert([Record(1)], axes(1))
        assert store.search(axes(1), limit=1)[0][0].id == 1

    def test_vectors_of_another_shape_are_refused(self, store: VectorStore) -> None:
        """The wrong embedder, or a row too few, is noticed before anything is written."""
        with pytest.raises(SchemaMismatchError):
            store.upsert([Record(1)], np.ones((1, DIMENSION + 1), np.float32))
        with pytest.raises(SchemaMismatchError):
            store.search(np.ones((1, DIMENSION - 1), np.float32), limit=1)
        for wrong in (np.ones(DIMENSION, np.float32), axes(0, 1), np.array([["a"] * DIMENSION])):
            with pytest.raises(StoreError):
                store.upsert([Record(1)], wrong)
        with pytest.raises(QueryError):
            store.search(np.ones(DIMENSION, np.float32), limit=1)
        assert store.count() == 0

    def test_vectors_that_are_not_finite_are_refused(self, store: VectorStore) -> None:
        """One NaN in an index can spoil the order of every search."""
        vectors = axes(0, 1)
        for wrong in (np.nan, np.inf, -np.inf):
            vectors[1, 3] = wrong
            with pytest.raises(ContentError, match="77"):
                store.upsert([Record(1), Record(77)], vectors)
            with pytest.raises(QueryError):
                store.search(vectors, limit=1)
        assert store.count() == 0

    def test_what_it_is_given_stays_as_it_is(self, store: VectorStore) -> None:
        """Callers use their arrays and lists again, after a failure for one; arrays may be read-only."""
        records = [Record(1, {"a": [1], "b": {"c": 2}}), Record(2, {"a": [2]})]
        vectors = axes(0, 1) * np.float32(3)
        ids: list[PointId] = [1, 2, 99]
        where, fields = {"a": {"in": [1, 2]}}, ["a"]
        given = (records, vectors, ids, where, fields)
        before = copy.deepcopy(given)
        vectors.setflags(write=False)
        store.upsert(records, vectors)
        store.search(vectors, limit=2, where=where)
        store.get(ids, with_vectors=True)
        list(store.scan(where=where, fields=fields))
        store.count(where)
        store.delete(ids)
        np.testing.assert_array_equal(vectors, before[1])
        assert given[0] == before[0]
        assert given[2:] == before[2:]

    def test_arrays_of_any_layout_are_read_row_by_row(self, store: VectorStore) -> None:
        """A slice or a transposed array lies otherwise in memory than its rows read."""
        rows = np.random.default_rng(5).normal(size=(4, DIMENSION)).astype(np.float32)
        for layout in (np.asfortranarray(rows), np.repeat(rows, 2, axis=0)[::2], np.repeat(rows, 2, axis=1)[:, ::2]):
            store.upsert([Record(number) for number in range(4)], layout)
            for query in (rows, layout):
                assert [page[0].id for page in store.search(query, limit=1)] == [0, 1, 2, 3]
            assert [page[0].score for page in store.search(rows, limit=1)] == pytest.approx([1] * 4, abs=CLOSE)

    def test_numbers_of_numpy_are_numbers(self, store: VectorStore) -> None:
        """Ids and limits often come out of an array."""
        ids: list[PointId] = [np.int64(5), np.uint64(2**64 - 1), np.int32(7)]
        plain = [5, 7, 2**64 - 1]
        store.upsert([Record(each) for each in ids], axes(0, 1, 0))
        stored = [record.id for record in store.scan()]
        found = [record and record.id for record in store.get(ids)]
        page = store.search(axes(0), limit=np.int64(2), offset=np.int64(1))[0]
        assert (stored, found, [match.id for match in page]) == (plain, [5, 2**64 - 1, 7], plain[1:])
        assert {type(each) for each in (*stored, *found, *(match.id for match in page))} == {int}
        store.delete(ids[:2])
        assert [record.id for record in store.scan()] == [7]

    def test_tuples_and_ranges_are_sequences(self, store: VectorStore) -> None:
        """Ids and records need not be lists."""
        store.upsert(tuple(Record(number) for number in range(3)), axes(0, 1, 2))
        assert [record and record.id for record in store.get(range(4))] == [0, 1, 2, None]
        store.delete((0, 1))
        assert [record.id for record in store.scan(fields=("a",))] == [2]

    @pytest.mark.parametrize("wrong", [-1, 2**64, 1.5, True, "no UUID", None], ids=repr)
    def test_invalid_ids_are_refused(self, store: VectorStore, wrong: PointId) -> None:
        """An id that is cut or rounded replaces the point of another item."""
        store.upsert([Record(1)], axes(0))
        with pytest.raises(ConfigurationError):
            store.upsert([Record(2), Record(wrong)], axes(1, 2))
        with pytest.raises(ConfigurationError):
            store.get([wrong])
        with pytest.raises(ConfigurationError):
            store.delete([wrong])
        assert [record.id for record in store.scan()] == [1]

    def test_many_ids_at_once(self, store: VectorStore) -> None:
        """Databases limit how many values one statement may have; callers do not know that limit."""
        store.upsert([Record(number) for number in (0, 20_000, 39_999)], axes(0, 1, 2))
        many = range(40_000)
        assert [record.id for record in store.get(many) if record is not None] == [0, 20_000, 39_999]
        store.delete(many)
        assert store.count() == 0
