"""`HttpEmbedder` keeps the contract of embedders in each dialect, against a strict local server of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from dialect_server import SERVERS, DialectServer

from multimodal_search import Embedder, HttpEmbedder
from multimodal_search.testing.embedder import EmbedderContract

SETTINGS: dict[str, dict[str, Any]] = {
    "cohere": {"dialect": "cohere"},
    "vllm": {"dialect": "cohere", "prompts": {}},
    "openai-chat": {"dialect": "openai-chat"},
    "infinity": {"dialect": "infinity"},
    "jina": {"dialect": "jina", "modalities": ["text", "image", "mixed"]},
    "voyage": {"dialect": "voyage"},
}


@pytest.fixture
def server(kind: str) -> Iterator[DialectServer]:
    with SERVERS[kind]() as server:
        yield server


@pytest.mark.parametrize("kind", SERVERS)
class TestHttpEmbedder(EmbedderContract):
    @pytest.fixture
    def make_embedder(self, kind: str, server: DialectServer) -> Callable[[], Embedder]:
        return lambda: HttpEmbedder(server.url, server.model, api_key=server.token, **SETTINGS[kind])

    @pytest.fixture
    def in_child(self, kind: str, server: DialectServer) -> str:
        arguments = f"{server.url!r}, {server.model!r}, api_key={server.token!r}, **{SETTINGS[kind]!r}"
        return f"from multimodal_search import HttpEmbedder; embedder = HttpEmbedder({arguments})"
