"""Every store against the one contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_embedder import folder_of

from multimodal_search import (
    ColorEmbedder,
    MemoryStore,
    MultimodalIndex,
    QdrantEdgeStore,
    QdrantStore,
    Record,
    StoreSchema,
    VectorStore,
)
from multimodal_search.filters.matching import passes
from multimodal_search.filters.parsing import parse_filter
from multimodal_search.stores.qdrant_edge import folder as _qdrant_edge_folder
from multimodal_search.stores.ranking import MAX_TIES, ranked_pages
from multimodal_search.testing.notes import IndexMetadataContract
from multimodal_search.testing.store import VectorStoreContract
from multimodal_search.testing.texts import TextSearchContract


class TestMemoryStore(TextSearchContract, IndexMetadataContract, VectorStoreContract):
    persistent = False

    @pytest.fixture
    def open_store(self) -> Callable[[], VectorStore]:
        return MemoryStore


class TestQdrantStoreInMemory(TextSearchContract, IndexMetadataContract, VectorStoreContract):
    persistent = False

    @pytest.fixture
    def open_store(self) -> Callable[[], VectorStore]:
        return lambda: QdrantStore("contract", location=":memory:")


class TestQdrantEdgeStore(TextSearchContract, IndexMetadataContract, VectorStoreContract):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Callable[[], VectorStore]:
        return lambda: QdrantEdgeStore(tmp_path / "index")

    @pytest.fixture
    def in_child(self, tmp_path: Path) -> str:
        return edge_in_child(tmp_path)


class TestQdrantEdgeStoreWithIndexes(VectorStoreContract):
    """A payload index for every field that is filtered by, as from 10,000 points on."""

    @pytest.fixture
    def in_child(self, tmp_path: Path) -> str:
        return edge_in_child(tmp_path)

    @pytest.fixture
    def open_store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], VectorStore]:
        monkeypatch.setattr(_qdrant_edge_folder, "INDEX_PAYLOAD_FROM", 0)
        return lambda: QdrantEdgeStore(tmp_path / "index")


def edge_in_child(folder: Path) -> str:
    return f"from multimodal_search import QdrantEdgeStore; store = QdrantEdgeStore({str(folder / 'index')!r})"


def test_indexing_leaves_out_the_folder_that_a_store_names(tmp_path: Path) -> None:
    """And none that is merely called `path` in a store of somebody else's."""

    class InFolder(MemoryStore):
        path = tmp_path / "photos"

        def __init__(self, folder: Path | None) -> None:
            super().__init__()
            self.folder = folder

    for name in ("photos", "store"):
        folder_of(tmp_path / name, 2)
    for folder, added in ((tmp_path / "store", 2), (None, 4)):
        with MultimodalIndex(ColorEmbedder(), InFolder(folder), auto_calibrate=False) as index:
            assert index.add_images(tmp_path, progress=False).added == added
            assert index.sync_folder(tmp_path, progress=False).unchanged == added
    assert QdrantEdgeStore(tmp_path / "index").folder == tmp_path / "index"
    assert QdrantStore("a", path=tmp_path / "index").folder == tmp_path / "index"
    assert QdrantStore("a", location=":memory:").folder is None


@dataclass(frozen=True)
class Hit:
    id: int
    score: float
    payload: dict[str, Any] | None = None


def test_a_sea_of_equals_is_not_fetched_whole() -> None:
    """A million copies of a blank page must not be loaded for each search that finds them."""
    asked: list[tuple[int, bool]] = []

    def fetch(numbers: Sequence[int], limit: int, with_payload: bool) -> list[list[Hit]]:
        asked.append((limit, with_payload))
        hits = [Hit(1, 1.0), *(Hit(number, 0.5) for number in range(10**6, 10**6 - limit, -1))][:limit]
        return [hits for _ in numbers]

    def payloads_of(ids: Sequence[int | str]) -> dict[int | str, dict[str, Any]]:
        return {each: {"id": each} for each in ids if each != 1}  # 1 was deleted in between

    (page,) = ranked_pages(fetch, payloads_of, queries=1, limit=3, offset=0)
    assert asked[0] == (4, True)
    assert [limit for limit, _ in asked[1:]] == sorted({limit for limit, _ in asked[1:]})
    assert asked[-1] == (3 + MAX_TIES, False)
    assert [match.payload["id"] for match in page] == [match.id for match in page]
    assert len(page) == 2


def test_the_memory_store_finds_by_its_indexed_fields_what_a_look_at_everything_finds() -> None:
    """It keeps lists of who has which file name and hash: those must follow every change."""
    random = np.random.default_rng(7)
    store = MemoryStore()
    store.ensure(StoreSchema(model="m", fingerprint="f", dimension=2))
    truth: dict[int, dict[str, Any]] = {}
    values: list[Any] = ["a", "b", ["a", "c"], 3, None]
    for _ in range(400):
        number = int(random.integers(20))
        if random.random() < 0.3:
            store.delete([number])
            truth.pop(number, None)
        else:
            payload = {"filename": values[random.integers(5)], "sha256": values[random.integers(5)], "n": number % 3}
            store.upsert([Record(number, payload)], np.ones((1, 2), np.float32))
            truth[number] = payload
        for where in ({"filename": "a"}, {"sha256": {"in": ["b", "c"]}, "n": 1}, {"or": [{"filename": "c"}, {"n": 2}]}):
            found = [record.id for record in store.scan(where=where)]
            assert found == sorted(at for at, fields in truth.items() if passes(parse_filter(where), fields))
