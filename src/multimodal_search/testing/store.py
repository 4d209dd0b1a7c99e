"""The contract of `VectorStore`, as tests: what every store must do, at every edge.

A backend's own tests subclass it and bring two fixtures. It needs the extra `testing`, which is pytest and hypothesis.

    class TestMyStore(VectorStoreContract):
        @pytest.fixture
        def open_store(self, tmp_path):
            return lambda: MyStore(tmp_path / "vectors")

        @pytest.fixture
        def in_child(self, tmp_path):
            return f"from my_package import MyStore; store = MyStore({str(tmp_path / 'vectors')!r})"
"""
# ruff: noqa: S101 (these are tests)

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest

from multimodal_search.errors import StoreClosedError
from multimodal_search.protocols import SupportsStoredSchema, VectorStore
from multimodal_search.testing._durability import DurabilityContract
from multimodal_search.testing._points import DIMENSION, SCHEMA, axes, uuid
from multimodal_search.testing._reading import ReadingContract
from multimodal_search.testing._searching import SearchingContract
from multimodal_search.testing._threads import ThreadsContract
from multimodal_search.testing._writing import WritingContract
from multimodal_search.types import Record, StoreSchema


class VectorStoreContract(WritingContract, SearchingContract, ReadingContract, ThreadsContract, DurabilityContract):
    """Subclass it, name the class `Test...`, and bring the fixtures `open_store` and `in_child`.

    Attributes:
        persistent: Whether what was stored is there again when the store is closed and opened anew. A store that keeps
            nothing says False here; the tests of durability and of several processes are skipped then, and it needs no
            `in_child`.
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
