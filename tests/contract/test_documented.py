"""The store and the embedder that the docs show keep their contracts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from documented import SQLiteStore, ThumbnailEmbedder

from multimodal_search import Embedder, VectorStore
from multimodal_search.testing.embedder import EmbedderContract
from multimodal_search.testing.store import VectorStoreContract


class TestSQLiteStore(VectorStoreContract):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Callable[[], VectorStore]:
        return lambda: SQLiteStore(tmp_path / "points.db")

    @pytest.fixture
    def in_child(self, tmp_path: Path) -> str:
        return f"from documented import SQLiteStore; store = SQLiteStore({str(tmp_path / 'points.db')!r})"


class TestThumbnailEmbedder(EmbedderContract):
    @pytest.fixture
    def make_embedder(self) -> Callable[[], Embedder]:
        return ThumbnailEmbedder

    @pytest.fixture
    def in_child(self) -> str:
        return "from documented import ThumbnailEmbedder; embedder = ThumbnailEmbedder()"
