"""Stores over a local socket against the one contract: what a client has is what the store has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serving import served_in_child

from multimodal_search import MemoryStore, QdrantStore, VectorStore
from multimodal_search.stores.local_socket import connect_store, serve_store
from multimodal_search.testing.notes import IndexMetadataContract
from multimodal_search.testing.store import VectorStoreContract
from multimodal_search.testing.texts import TextSearchContract


class ServedContract(TextSearchContract, IndexMetadataContract, VectorStoreContract):
    """The store is open in one place all the time, so that what was stored is there when a client connects again."""

    @pytest.fixture
    def open_store(self, tmp_path: Path, served: None) -> Callable[[], VectorStore]:
        return lambda: connect_store(tmp_path / "place")

    @pytest.fixture
    def in_child(self, tmp_path: Path, served: None) -> str:
        place = str(tmp_path / "place")
        return f"from multimodal_search.stores.local_socket import connect_store; store = connect_store({place!r})"


class TestServedMemoryStore(ServedContract):
    @pytest.fixture
    def served(self, tmp_path: Path) -> Iterator[None]:
        store = MemoryStore()
        with serve_store(store, tmp_path / "place"):
            yield
        store.close()


class TestServedQdrantStore(ServedContract):
    """With the protocols that neither of the others has."""

    @pytest.fixture
    def served(self, tmp_path: Path) -> Iterator[None]:
        store = QdrantStore("contract", location=":memory:")
        with serve_store(store, tmp_path / "place", transport="tcp"):
            yield
        store.close()


class TestServedQdrantEdgeStore(ServedContract):
    """In another process, as in real life."""

    @pytest.fixture
    def served(self, tmp_path: Path) -> Iterator[None]:
        code = f"from multimodal_search import QdrantEdgeStore; store = QdrantEdgeStore({str(tmp_path / 'index')!r})"
        with served_in_child(code, tmp_path / "place"):
            yield
