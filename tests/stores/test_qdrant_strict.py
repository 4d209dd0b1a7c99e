"""`QdrantStore` on servers in strict mode: filters get the indexes that they need, requests keep within the limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from qdrant_rest_server import QdrantServer, running

from multimodal_search import QdrantStore, VectorStore
from multimodal_search.testing.notes import IndexMetadataContract
from multimodal_search.testing.store import VectorStoreContract
from multimodal_search.testing.texts import TextSearchContract

STRICT: dict[str, Any] = {
    "enabled": True,
    "unindexed_filtering_retrieve": False,
    "unindexed_filtering_update": False,
}
LIMITED: dict[str, Any] = {
    "enabled": True,
    "max_query_limit": 100,
    "search_max_batchsize": 10,
    "upsert_max_batchsize": 100,
}


@pytest.fixture
def server() -> Iterator[QdrantServer]:
    with running() as server:
        server.strict_mode = STRICT
        yield server


class TestStrict(TextSearchContract, IndexMetadataContract, VectorStoreContract):
    """Every filter on a field without a fitting index is refused, as Qdrant Cloud does."""

    @pytest.fixture
    def open_store(self, server: QdrantServer) -> Callable[[], VectorStore]:
        return lambda: QdrantStore("contract", url=server.url)

    @pytest.fixture
    def in_child(self, server: QdrantServer) -> str:
        return f"from multimodal_search import QdrantStore; store = QdrantStore('contract', url={server.url!r})"


class TestLimited(TestStrict):
    """With limits, too."""

    @pytest.fixture
    def open_store(self, server: QdrantServer) -> Callable[[], VectorStore]:
        server.strict_mode = STRICT | LIMITED
        return lambda: QdrantStore("contract", url=server.url)
