"""An index tunes its store with queries like those that will come, tells what was reached, and searches exactly."""

from __future__ import annotations

import logging
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from multimodal_search import EmbedderSpec, MemoryStore, MultimodalIndex, QdrantEdgeStore, Record
from multimodal_search.contents import Content
from multimodal_search.types import FloatArray, Role

POINTS, DIMENSION = 11_000, 240


class WordEmbedder:
    """Texts lie apart from what is stored: far out along one axis."""

    spec = EmbedderSpec(model="words", fingerprint="words-1", dimension=DIMENSION, modalities=frozenset({"text"}))

    def __init__(self) -> None:
        self.calls = 0

    def embed(self, contents: list[Content], /, *, role: Role) -> FloatArray:
        self.calls += 1
        seeds = [zlib.crc32(repr(content).encode()) for content in contents]
        rows = np.stack([np.random.default_rng(seed).standard_normal(DIMENSION) for seed in seeds])
        rows[:, 0] += 30
        return rows.astype(np.float32)


def _rows(count: int) -> FloatArray:
    return np.random.default_rng(0).standard_normal((count, DIMENSION)).astype(np.float32)


def test_indexing_and_optimizing_tune_with_words_and_says_what_they_reach(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Stored points alone are found so easily that tuning with them would make searches by words worse."""
    caplog.set_level(logging.INFO)
    embedder = WordEmbedder()
    rows = _rows(POINTS)
    with MultimodalIndex(embedder, QdrantEdgeStore(tmp_path / "index")) as index:
        index.add_vectors(Record(at, {"modality": "image"}, vector=row) for at, row in enumerate(rows))
        first = index.status().tuning
        assert first is not None
        assert set(first.recall) == {"text", "image"}
        assert first.recall["text"] < first.target  # such points have no structure for a graph to follow
        assert "out of reach of this graph" in str(index.status())
        calls = embedder.calls
        assert index.optimize()  # with more links
        second = index.status().tuning
        assert second is not None
        assert second.recall["text"] > first.recall["text"]
        assert (first.hnsw_m, second.hnsw_m) == (16, 32)
        assert not index.optimize()
        assert embedder.calls == calls  # the neutral queries are embedded once
        assert index.status().to_dict()["tuning"]["points"] == POINTS
        assert any("recall@10" in record.getMessage() for record in caplog.records)
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        for row in _rows(POINTS + 5)[POINTS:]:
            nearest = np.argsort(-(unit @ row))[:10].tolist()
            assert [hit.id for hit in index.search(row, exact=True)] == nearest
            pages = index.search(row, limit=4, offset=3, exact=True, min_score=-1.0, deduplicate=True)
            assert [hit.id for hit in pages] == nearest[3:7]


def test_a_store_that_was_never_tuned_says_so(tmp_path: Path) -> None:
    """As one that a program has written to without an index."""
    store = QdrantEdgeStore(tmp_path / "index")
    with MultimodalIndex(WordEmbedder(), store) as index:
        store.upsert([Record(at) for at in range(POINTS)], _rows(POINTS))
        store.optimize()
        assert store.tuning is None
        assert "recall was never measured" in str(index.status())
        assert not index.optimize()
        assert index.status().tuning is not None


def test_an_index_told_of_ten_times_as_many_points_is_measured_again(tmp_path: Path) -> None:
    """When it was tuned small, and has grown by another process, say: its status asks for it, `optimize` does it."""
    with MultimodalIndex(WordEmbedder(), QdrantEdgeStore(tmp_path / "index")) as index:
        index.add_vectors(Record(at, {"modality": "image"}, vector=row) for at, row in enumerate(_rows(POINTS)))
        store = index.store
        assert isinstance(store, QdrantEdgeStore)
        assert store.tuning is not None
        store._keep_tuning(replace(store.tuning, points=POINTS // 10, hnsw_ef=64, reason=""))
    with MultimodalIndex(WordEmbedder(), QdrantEdgeStore(tmp_path / "index")) as again:
        assert "recall was measured at 1,100 points: optimize() measures it" in str(again.status())
        assert not again.optimize()  # the graph is as it was
        tuning = again.status().tuning
        assert tuning is not None
        assert (tuning.points, tuning.hnsw_ef) == (POINTS, 384)
        assert "optimize() measures it" not in str(again.status())


def test_exact_stores_need_no_tuning() -> None:
    """They are what others are measured by."""
    with MultimodalIndex(WordEmbedder(), MemoryStore()) as index:
        index.add_vectors(Record(at, vector=row) for at, row in enumerate(_rows(30)))
        assert not index.optimize()
        assert index.status().tuning is None
        row = _rows(31)[30]
        assert list(index.search(row, exact=True)) == list(index.search(row))
