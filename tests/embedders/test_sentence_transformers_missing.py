"""`SentenceTransformersEmbedder` where its packages are not installed."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec

import pytest

from multimodal_search import EmbedderRef, MissingExtraError, SentenceTransformersEmbedder
from multimodal_search.embedders.registry import embedder_states


@pytest.fixture(params=["torch", "sentence_transformers"])
def missing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    package = str(request.param)
    find = importlib.util.find_spec

    def without(name: str, parent: str | None = None) -> ModuleSpec | None:
        return None if name == package else find(name, parent)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    return package


def test_the_error_names_the_extra(missing: str) -> None:
    with pytest.raises(MissingExtraError, match=r'pip install "multimodal-search\[torch\]"'):
        SentenceTransformersEmbedder("owner/name")
    with pytest.raises(MissingExtraError, match="torch"):
        EmbedderRef("sentence-transformers", model="owner/name").load()


def test_the_list_of_backends_says_so(missing: str) -> None:
    if missing == "torch":
        pytest.skip("it comes with sentence-transformers")
    (state,) = [each for each in embedder_states() if each.name == "sentence-transformers"]
    assert "sentence_transformers" in state.problem
    assert state.remedy == 'pip install "multimodal-search[torch]"'
