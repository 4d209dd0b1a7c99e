"""The same weights through ONNX and through torch: another fingerprint, and the same vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="the extra torch is not installed")
pytest.importorskip("onnxruntime", reason="the extra local is not installed")
pytest.importorskip("onnx", reason="onnx, which torch exports with, is not installed")

pytest.importorskip("qdrant_edge", reason="the extra edge is not installed")

import tiny_torch_models
import torch
import transformers

from multimodal_search import (
    Image,
    MultimodalIndex,
    OnnxEmbedder,
    SchemaMismatchError,
    SentenceTransformersEmbedder,
    Text,
)
from multimodal_search.testing._images import encoded, image

TEXTS = ["a red dog", "Der blaue Hund", "x " * 30, *(f"text {number}" for number in range(20))]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("same")
    tiny_torch_models.siglip(folder / "torch")
    tiny_torch_models.siglip_as_onnx(folder / "torch", folder / "onnx")
    return folder


def made(kind: str, models: Path) -> OnnxEmbedder | SentenceTransformersEmbedder:
    if kind == "onnx":
        return OnnxEmbedder(models / "onnx")
    return SentenceTransformersEmbedder(models / "torch", device="cpu")


def filled(kind: str, models: Path, folder: Path) -> Path:
    """An index of texts and four images."""
    (folder / "photos").mkdir()
    for number, size in enumerate([(64, 48), (30, 47), (32, 32), (200, 61)]):
        (folder / "photos" / f"{number}.png").write_bytes(encoded(image(number).resize(size), "PNG"))
    with MultimodalIndex.open(folder / "index", embedder=made(kind, models), auto_calibrate=False) as index:
        index.add_texts(TEXTS, progress=False)
        assert index.add_images(folder / "photos", progress=False).added == 4
    return folder / "index"


def test_the_vectors_are_the_same(models: Path) -> None:
    contents = [*map(Text, TEXTS), Image(image(1)), Image(image(2).resize((61, 200)))]
    onnx, torch_ = (made(kind, models).embed(contents, role="document") for kind in ("onnx", "torch"))
    np.testing.assert_allclose(onnx, torch_, atol=1e-4)


@pytest.mark.parametrize(("first", "then"), [("onnx", "torch"), ("torch", "onnx")])
def test_an_index_of_one_opens_with_the_other_where_that_is_asked_for(
    models: Path, tmp_path: Path, first: str, then: str
) -> None:
    folder = filled(first, models, tmp_path)
    with pytest.raises(SchemaMismatchError, match="fingerprint"):
        MultimodalIndex.open(folder, embedder=made(then, models))
    with MultimodalIndex.open(folder, embedder=made(then, models), accept_equal=True) as index:
        assert index.search("der blaue hund", limit=1)[0].text == "Der blaue Hund"
        assert index.search(tmp_path / "photos" / "1.png", limit=1)[0].payload["filename"] == "1.png"
        assert index.add_texts(["one more"], progress=False).added == 1


def test_other_weights_are_refused_with_the_figure(models: Path, tmp_path: Path) -> None:
    """As of the same model, trained on."""
    folder, other = filled("onnx", models, tmp_path), tmp_path / "other"
    tiny_torch_models.siglip(other)
    model = transformers.SiglipModel.from_pretrained(models / "torch")
    with torch.no_grad():
        for parameter in model.vision_model.parameters():
            parameter.mul_(1.5)
    model.save_pretrained(other)
    with pytest.raises(SchemaMismatchError, match=r"Of 27 stored items .* 23 have a cosine of 0.999 .* is -?0\.\d{4}"):
        MultimodalIndex.open(folder, embedder=SentenceTransformersEmbedder(other, device="cpu"), accept_equal=True)
