"""The contract of `VectorStore`, as tests: what every store must do, at every edge.

A backend's own tests subclass it and bring one fixture. It needs pytest and hypothesis.

    class TestMyStore(VectorStoreContract):
        @pytest.fixture
        def open_store(self, tmp_path):
            return lambda: MyStore(tmp_path / "vectors")
"""
# ruff: noqa: S101 (these are tests)

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multimodal_search.errors import ContentError, QueryError, SchemaMismatchError, StoreClosedError, StoreError
from multimodal_search.filters.matching import passes
from multimodal_search.filters.parsing import parse_filter
from multimodal_search.ids import id_order
from multimodal_search.protocols import SupportsStoredSchema, VectorStore
from multimodal_search.testing._filter_cases import CASES, PAYLOADS, SENSELESS
from multimodal_search.testing._points import DIMENSION, SCHEMA, axes, uuid
from multimodal_search.types import PointId, Record, StoreSchema

CLOSE = 2e-6
"""How far a score may be from NumPy's: some roundings of 32-bit floats."""


_KEYS = st.sampled_from(["a", "b c", "n", "d.e"])
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(-3, 3).map(lambda n: n / 2),
    st.sampled_from(["", "x", "xy"]),
)
_VALUES = st.one_of(_SCALARS, st.lists(_SCALARS, max_size=3))
_PAYLOADS = st.dictionaries(st.sampled_from(["a", "b c", "n"]), _VALUES, max_size=3)
_CONDITIONS = st.one_of(
    _SCALARS,
    st.lists(_SCALARS, max_size=3),
    st.fixed_dictionaries({"gte": st.integers(-3, 3)}, optional={"lt": st.floats(-3, 3)}),
    st.fixed_dictionaries({"prefix": st.sampled_from(["", "x"])}),
    st.fixed_dictionaries({"glob": st.sampled_from(["*", "?", "x?", "*y", "[!x]*", "x"])}),
    st.fixed_dictionaries({"not_in": st.lists(_SCALARS, max_size=3)}),
    st.fixed_dictionaries({"exists": st.booleans(), "ne": _SCALARS}),
)
_FILTERS: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.dictionaries(_KEYS, _CONDITIONS, max_size=2),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"or": st.lists(inner, max_size=2)}),
        st.fixed_dictionaries({"and": st.lists(inner, max_size=2)}),
        st.fixed_dictionaries({"not": inner}),
    ),
    max_leaves=4,
)


AWKWARD: list[dict[str, Any]] = [
    {},
    {"text": "Ünï¢ødé 日本 \U0001f3c4 \u200d \x00 \n 'quotes\" \\"},
    {"null": None, "yes": True, "no": False, "zero": 0},
    {"largest": 2**63 - 1, "smallest": -(2**63), "odd": 2**53 + 1, "time_ns": 1_700_000_000_123_456_789},
    {"nested": {"list": [1, [2, [3, {"deep": [None, {}]}]]], "empty": {}, "none": []}},
    {"one": 1, "float": 1.0, "half": 0.5, "tenth": 0.1, "huge": 1e308, "minus": -2.25},
    {"": 1, "a.b": 2, "a b": 3, 'q"uote': 4, "back\\slash": 5, "a[0]": 6, "ключ": 7},
    {"long": "x" * 100_000},
]
"""Payloads that something on the way might change."""


class VectorStoreContract:
    """Subclass it, name the class `Test...`, and bring the fixture `open_store`.

    Attributes:
        persistent: Whether what was stored is there again when the store is closed and opened anew.
    """

    persistent: ClassVar[bool] = True

    @pytest.fixture
    def open_store(self) -> Callable[[], VectorStore]:
        """Opens the storage of this test, anew at each call; it is empty at first."""
        raise NotImplementedError("bring a fixture `open_store` that gives a function which opens your store")

    @pytest.fixture
    def store(self, open_store: Callable[[], VectorStore]) -> Iterator[VectorStore]:
        """An empty store, ready for use."""
        store = open_store()
        assert store.ensure(SCHEMA) == SCHEMA
        yield store
        store.close()

    # --- opening

    def test_it_is_a_vector_store(self, store: VectorStore) -> None:
        """A method that is missing would only be missed in the middle of a run."""
        assert isinstance(store, VectorStore)

    def test_it_starts_empty(self, store: VectorStore) -> None:
        """The first search of a new index finds nothing; it does not fail."""
        assert store.count() == 0
        assert list(store.scan()) == []
        assert store.search(axes(0, 1), limit=3) == [[], []]
        assert store.get([1, uuid(1)]) == [None, None]

    def test_ensure_says_what_is_stored_and_changes_nothing(self, store: VectorStore) -> None:
        """Vectors of two embedders must never mix: the caller sees the difference, the store stays as it was."""
        store.upsert([Record(1)], axes(0))
        other = StoreSchema(model="other", fingerprint="other-1", dimension=DIMENSION + 1)
        assert store.ensure(other) == SCHEMA
        assert store.ensure(SCHEMA) == SCHEMA
        assert store.count() == 1
        assert store.search(axes(0), limit=1)[0][0].id == 1

    def test_what_was_stored_is_there_after_opening_anew(self, open_store: Callable[[], VectorStore]) -> None:
        """An index outlives the program that made it, and still knows whose vectors it holds."""
        if not self.persistent:
            pytest.skip("this store keeps nothing, on purpose")
        store = open_store()
        store.ensure(SCHEMA)
        store.upsert([Record(1, {"a": "é"}), Record(uuid(2)), Record(3)], axes(0, 1, 2))
        store.delete([3])
        store.close()
        store = open_store()
        other = StoreSchema(model="other", fingerprint="other-1", dimension=DIMENSION)
        assert store.ensure(other) == SCHEMA
        assert list(store.scan()) == [Record(1, {"a": "é"}), Record(uuid(2))]
        assert [match.id for match in store.search(axes(1), limit=1)[0]] == [uuid(2)]
        store.close()

    def test_what_is_stored_is_known_before_it_is_opened(self, open_store: Callable[[], VectorStore]) -> None:
        """So an index opens without its embedder; and asking creates nothing."""
        store = open_store()
        if not isinstance(store, SupportsStoredSchema):
            pytest.skip("this store does not say what it holds before it is opened (SupportsStoredSchema)")
        assert store.stored_schema() is None
        assert store.stored_schema() is None
        store.ensure(SCHEMA)
        assert store.stored_schema() == SCHEMA
        store.upsert([Record(1)], axes(0))
        store.close()
        with pytest.raises(StoreClosedError):
            store.stored_schema()
        if self.persistent:
            store = open_store()
            assert isinstance(store, SupportsStoredSchema)
            assert store.stored_schema() == SCHEMA
            assert store.ensure(SCHEMA) == SCHEMA
            assert store.count() == 1
            store.close()

    def test_closing_twice_is_fine(self, store: VectorStore) -> None:
        """A `with` block and an explicit `close()` get along."""
        store.close()
        store.close()

    def test_after_close_everything_says_so(self, store: VectorStore) -> None:
        """Not some error of the engine, and no silence: even a scan that was under way notices."""
        store.upsert([Record(number) for number in range(3)], axes(0, 1, 2))
        running = store.scan()
        store.close()
        calls: list[Callable[[], object]] = [
            lambda: store.ensure(SCHEMA),
            lambda: store.upsert([Record(1)], axes(0)),
            lambda: store.search(axes(0), limit=1),
            lambda: store.get([1]),
            store.scan,
            lambda: store.delete([1]),
            store.count,
            lambda: list(running),
        ]
        for call in calls:
            with pytest.raises(StoreClosedError):
                call()

    # --- writing

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
                assert _types(stored) == _types(payload)

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
        with pytest.raises(SchemaMismatchError, match="8 dimensions"):
            store.upsert([Record(1)], np.ones((1, DIMENSION + 1), np.float32))
        with pytest.raises(SchemaMismatchError, match="8 dimensions"):
            store.search(np.ones((1, DIMENSION - 1), np.float32), limit=1)
        for wrong in (np.ones(DIMENSION, np.float32), axes(0, 1), np.array([["a"] * DIMENSION])):
            with pytest.raises(StoreError, match=r"\(1, 8\)"):
                store.upsert([Record(1)], wrong)
        with pytest.raises(QueryError, match=r"\(n, 8\)"):
            store.search(np.ones(DIMENSION, np.float32), limit=1)
        assert store.count() == 0

    def test_vectors_that_are_not_finite_are_refused(self, store: VectorStore) -> None:
        """One NaN in an index can spoil the order of every search."""
        vectors = axes(0, 1)
        for wrong in (np.nan, np.inf, -np.inf):
            vectors[1, 3] = wrong
            with pytest.raises(ContentError, match="77"):
                store.upsert([Record(1), Record(77)], vectors)
            with pytest.raises(QueryError, match="NaN or infinite"):
                store.search(vectors, limit=1)
        assert store.count() == 0

    # --- searching

    def test_scores_are_cosines(self, store: VectorStore) -> None:
        """-1 to 1, higher is closer, whatever the lengths of the vectors."""
        rows = np.zeros((5, DIMENSION), np.float32)
        rows[:, :2] = np.array([[3, 4], [4, 3], [-3, -4], [-4, 3], [1e-20, 0]])
        store.upsert([Record(number) for number in range(5)], rows)
        query = np.zeros((1, DIMENSION), np.float32)
        query[0, :2] = [3e18, 4e18]
        found = store.search(query, limit=5)[0]
        assert [match.id for match in found] == [0, 1, 4, 3, 2]
        assert [match.score for match in found] == pytest.approx([1, 0.96, 0.6, 0, -1], abs=CLOSE)
        assert all(type(match.score) is float for match in found)

    def test_a_zero_vector_is_as_far_from_everything_as_a_right_angle(self, store: VectorStore) -> None:
        """It has no direction; NaN scores would spoil the order of the rest."""
        rows = axes(0, 0, 1)
        rows[1] = 0
        store.upsert([Record(0), Record(1), Record(2)], rows)
        assert [match.score for match in store.search(rows[1:2], limit=5)[0]] == [0, 0, 0]
        assert {match.id: match.score for match in store.search(axes(0), limit=5)[0]} == pytest.approx(
            {0: 1, 1: 0, 2: 0}
        )

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

    def test_pages_without_sense_are_refused(self, store: VectorStore) -> None:
        """Rather than being taken for something else."""
        for limit, offset in ((0, 0), (-1, 0), (1, -1)):
            with pytest.raises(QueryError, match="at least"):
                store.search(axes(0), limit=limit, offset=offset)

    @settings(
        max_examples=40,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    )
    @given(payloads=st.lists(_PAYLOADS, min_size=1, max_size=12), where=_FILTERS, seed=st.integers(0, 2**32 - 1))
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

    # --- reading

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

    def test_filters_without_sense_are_refused(self, filled: VectorStore) -> None:
        """A filter that is silently ignored finds the wrong things."""
        for where, said in SENSELESS:
            with pytest.raises(QueryError, match=said):
                filled.count(where)
            with pytest.raises(QueryError, match=said):
                filled.scan(where=where)
            with pytest.raises(QueryError, match=said):
                filled.search(axes(0), limit=1, where=where)

    @pytest.fixture
    def filled(self, store: VectorStore) -> VectorStore:
        """A store with the payloads that filters are tried on."""
        store.upsert(
            [Record(number, payload) for number, payload in enumerate(PAYLOADS.values())], axes(*[0] * len(PAYLOADS))
        )
        return store

    # --- threads

    def test_threads_do_not_disturb_each_other(self, store: VectorStore) -> None:
        """An indexing run writes while a web page searches."""
        wrong: list[BaseException] = []
        written = threading.Event()

        def write(worker: int) -> None:
            for batch in range(5):
                ids = [worker * 1_000 + batch * 20 + number for number in range(20)]
                store.upsert([Record(each, {"worker": worker}) for each in ids], axes(*(each % 8 for each in ids)))
                store.delete(ids[:5])

        def read() -> None:
            while not written.is_set():
                for page in store.search(axes(0, 1), limit=5):
                    assert all(match.payload["worker"] in range(3) for match in page)
                assert store.count({"worker": 1}) <= 100
                assert all(record.id in range(3_000) for record in store.scan(where={"worker": 2}))

        def run(work: Callable[[], None]) -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 (whatever it is, the test shows it)
                wrong.append(error)

        def writing(worker: int) -> Callable[[], None]:
            return lambda: write(worker)

        writers = [threading.Thread(target=run, args=(writing(worker),)) for worker in range(3)]
        readers = [threading.Thread(target=run, args=(read,)) for _ in range(2)]
        for thread in writers + readers:
            thread.start()
        for thread in writers:
            thread.join()
        written.set()
        for thread in readers:
            thread.join()
        assert wrong == []
        assert store.count() == 3 * 5 * 15


def _types(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _types(below) for key, below in value.items()}
    return [_types(below) for below in value] if isinstance(value, list) else type(value)
