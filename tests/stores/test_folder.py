"""A store says by `SupportsFolder` which folder is its own, and by nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image as PILImage
from tiny_embedder import TinyEmbedder

from multimodal_search import (
    MemoryStore,
    MultimodalIndex,
    QdrantEdgeStore,
    QdrantStore,
    SupportsFolder,
    VectorStore,
)

LOCAL: dict[str, Callable[[Path], VectorStore]] = {
    "edge": QdrantEdgeStore,
    "local mode": lambda folder: QdrantStore("photos", path=folder),
}


def image_at(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PILImage.new("RGB", (8, 8), (number, 0, 0)).save(path)


def names(index: MultimodalIndex) -> list[str]:
    return sorted(str(record.payload["filename"]) for record in index.store.scan())


@pytest.mark.parametrize("kind", LOCAL)
def test_the_folder_of_a_store_is_left_out_of_walks(kind: str, tmp_path: Path) -> None:
    """An index may lie within the photos: what its engine keeps there is not the user's."""
    store = LOCAL[kind](tmp_path / "index")
    assert isinstance(store, SupportsFolder)
    assert store.folder == tmp_path / "index"
    with MultimodalIndex(TinyEmbedder(), store) as index:
        image_at(tmp_path / "index" / "inside.png", 1)
        image_at(tmp_path / "a.png", 2)
        index.add_images(tmp_path)
        assert names(index) == ["a.png"]
        index.sync_folder(tmp_path)
        assert names(index) == ["a.png"]
        assert index.status().store == str(tmp_path / "index")


def test_a_store_without_a_folder_says_so() -> None:
    assert QdrantStore("photos", location=":memory:").folder is None
    assert QdrantStore("photos", url="http://localhost:6333").folder is None
    assert not isinstance(MemoryStore(), SupportsFolder)


def test_an_unrelated_attribute_called_path_means_nothing(tmp_path: Path) -> None:
    """A store of somebody else's may call anything so, as the path of its API, and it may look like a folder."""

    class ApiStore(MemoryStore):
        path = str(tmp_path / "api")

    image_at(tmp_path / "api" / "a.png", 1)
    image_at(tmp_path / "b.png", 2)
    (tmp_path / "api" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with MultimodalIndex(TinyEmbedder(), ApiStore()) as index:
        assert index.add_images(tmp_path).added == 2
        assert index.sync_folder(tmp_path).unchanged == 2
        assert names(index) == ["api/a.png", "b.png"]
        assert index.status().store == repr(index.store)
    assert not (tmp_path / "api" / "ledger.sqlite").exists()
