"""What an embedder says of itself is checked where it is said; its vectors and its index depend on it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_embedder import TinyEmbedder

from multimodal_search import (
    ColorEmbedder,
    ConfigurationError,
    EmbedderSpec,
    MemoryStore,
    MultimodalIndex,
    QdrantEdgeStore,
    Record,
    StoreSchema,
)
from multimodal_search._searching.options import SearchOptions

RIGHT: dict[str, Any] = {
    "model": "m",
    "fingerprint": "f",
    "dimension": 4,
    "modalities": frozenset({"text"}),
    "languages": ("en",),
    "max_batch_size": 2,
    "max_concurrency": 1,
    "duplicate_threshold": 0.9,
}


@pytest.mark.parametrize(
    ("setting", "values"),
    [
        ("model", ["", "  ", None, 7, b"m", "\ud800"]),
        ("fingerprint", ["", "\n", None, 7, b"f", "\ud800"]),
        ("dimension", [0, -1, 1.5, 4.0, float("nan"), True, None, "4", np.float32(4)]),
        ("max_batch_size", [0, -1, 1.5, float("inf"), True, None, "4"]),
        ("max_concurrency", [0, -1, 1.5, float("nan"), True, None, "4"]),
        ("modalities", [frozenset(), {"video"}, {"text", "sound"}, "text", None, 7, {7}]),
        ("languages", ["en", None, 7, ("",), (None,), (b"en",)]),
        ("duplicate_threshold", [0, -0.5, 1.01, float("nan"), True, None, "0.9", 10**5000]),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(setting: str, values: Sequence[object]) -> None:
    for value in values:
        with pytest.raises(ConfigurationError, match=rf"^EmbedderSpec\.{setting} must be "):
            EmbedderSpec(**(RIGHT | {setting: value}))


def test_what_makes_sense_is_kept_in_one_form() -> None:
    given = RIGHT | {"dimension": np.int64(4), "modalities": ["text", "image"], "languages": ["en"]}
    spec = EmbedderSpec(**given)
    assert (spec.dimension, type(spec.dimension)) == (4, int)
    assert spec.modalities == frozenset({"text", "image"})
    assert spec.languages == ("en",)
    assert (
        EmbedderSpec(model="m", fingerprint="f", dimension=1, modalities=frozenset({"text"})).duplicate_threshold
        == 0.99
    )


def pairs(embedder: TinyEmbedder, *cosines: float) -> list[Record]:
    """Two records for each cosine, which are as similar as that, and to no others."""
    records = []
    for number, cosine in enumerate(cosines):
        one, other = np.zeros((2, embedder.spec.dimension), np.float32)
        one[2 * number] = other[2 * number] = 1
        other *= cosine
        other[2 * number + 1] = (1 - cosine**2) ** 0.5
        records += [Record(2 * number, {}, vector=one), Record(2 * number + 1, {}, vector=other)]
    return records


def test_duplicates_and_folds_begin_at_the_embedders_own_threshold() -> None:
    """0.99 is right for one model, and takes different photos for the same with another."""
    embedder = TinyEmbedder()
    embedder.spec = replace(embedder.spec, duplicate_threshold=0.95)
    index = MultimodalIndex(embedder, MemoryStore(), auto_calibrate=False)
    records = pairs(embedder, 0.94, 0.96, 0.985)
    index.add_vectors(records)
    assert [[hit.id for hit in group] for group in index.duplicates()] == [[2, 3], [4, 5]]
    assert [[hit.id for hit in group] for group in index.duplicates(0.97)] == [[4, 5]]
    assert len(index.duplicates(threshold=0.5)) == 3
    for at, duplicates in ((0, []), (2, [3]), (4, [5])):
        hits = index.search(records[at].vector, deduplicate=True)  # type: ignore[arg-type]  # they have vectors
        assert [hit.id for hit in hits[0].duplicates] == duplicates
    assert [hit.id for hit in index.search(records[2].vector, deduplicate=0.99)[0].duplicates] == []  # type: ignore[arg-type]
    assert SearchOptions(deduplicate=True).deduplicate is True


def test_the_color_embedder_brings_the_threshold_that_was_measured_for_it() -> None:
    """Of 499,500 pairs of different photos, 12 are more similar than 0.99, and none than 0.997: docs/searching.md."""
    assert ColorEmbedder().spec.duplicate_threshold == 0.997


def test_the_color_embedder_takes_no_different_photos_for_the_same(shared_data: Path) -> None:
    index = MultimodalIndex(ColorEmbedder(), MemoryStore(), auto_calibrate=False)
    index.add_images(shared_data / "flickr8k_test" / "images", progress=False)
    assert index.count() == 1_000
    assert len(index.duplicates(0.99, progress=False)) == 6
    assert index.duplicates(progress=False) == []


def test_an_index_keeps_the_threshold_for_when_the_embedder_is_not_at_hand(tmp_path: Path) -> None:
    MultimodalIndex(ColorEmbedder(), QdrantEdgeStore(tmp_path / "index")).close()
    store = QdrantEdgeStore(tmp_path / "index")
    assert store.ensure(StoreSchema.of(ColorEmbedder().spec)).duplicate_threshold == 0.997
    store.close()


def test_the_threshold_is_no_part_of_what_must_agree(tmp_path: Path) -> None:
    """An index of before has none, and is of the same embedder all the same."""
    MultimodalIndex(ColorEmbedder(), QdrantEdgeStore(tmp_path / "index")).close()
    path = tmp_path / "index" / "schema.json"
    fields = json.loads(path.read_text())
    assert fields.pop("duplicate_threshold") == 0.997
    path.write_text(json.dumps(fields))
    with MultimodalIndex(ColorEmbedder(), QdrantEdgeStore(tmp_path / "index")) as index:
        assert index.duplicates() == []
    assert StoreSchema.from_dict(fields) == StoreSchema.of(ColorEmbedder().spec)
    assert StoreSchema.from_dict(fields).duplicate_threshold == 0.99
