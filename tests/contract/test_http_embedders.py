"""`HttpEmbedder` keeps the contract of embedders in each dialect, against a strict local server of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from dialect_server import SERVERS, DialectServer
from service_cases import DIALECT_SETTINGS

from multimodal_search import Embedder, HttpEmbedder
from multimodal_search.testing.embedder import EmbedderContract


@pytest.fixture
def server(kind: str) -> Iterator[DialectServer]:
    with SERVERS[kind]() as server:
        yield server


@pytest.mark.parametrize("kind", SERVERS)
class TestHttpEmbedder(EmbedderContract):
    @pytest.fixture
    def make_embedder(self, kind: str, server: DialectServer) -> Callable[[], Embedder]:
        return lambda: HttpEmbedder(server.url, server.model, api_key=server.token, **DIALECT_SETTINGS[kind])

    @pytest.fixture
    def in_child(self, kind: str, server: DialectServer) -> str:
        arguments = f"{server.url!r}, {server.model!r}, api_key={server.token!r}, **{DIALECT_SETTINGS[kind]!r}"
        return f"from multimodal_search import HttpEmbedder; embedder = HttpEmbedder({arguments})"
