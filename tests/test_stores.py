"""Every store against the one contract."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from multimodal_search import MemoryStore, QdrantEdgeStore, QdrantStore, VectorStore
from multimodal_search.testing.store import VectorStoreContract


class TestMemoryStore(VectorStoreContract):
    persistent = False

    @pytest.fixture
    def open_store(self) -> Callable[[], VectorStore]:
        return MemoryStore


class TestQdrantStoreInMemory(VectorStoreContract):
    persistent = False

    @pytest.fixture
    def open_store(self) -> Callable[[], VectorStore]:
        return lambda: QdrantStore("contract", location=":memory:")


class TestQdrantEdgeStore(VectorStoreContract):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Callable[[], VectorStore]:
        return lambda: QdrantEdgeStore(tmp_path / "index")
