"""A Qdrant collection with keys and tokens that may not do everything."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from qdrant_rest_server import QdrantServer, running
from tiny_embedder import TinyEmbedder

from multimodal_search import MultimodalIndex, QdrantStore, Record, StoreError
from multimodal_search.types import StoreSchema

SCHEMA = StoreSchema(model="tiny", fingerprint="tiny-1", dimension=4)
OTHER = StoreSchema(model="other", fingerprint="other-1", dimension=4)
ADMIN, READER = "admin-key-0123456789", "read-key-0123456789"
WRITE_TOKEN, READ_TOKEN, ELSEWHERE = "rw-token-0123456789", "r-token-0123456789", "x-token-0123456789"
TEXTS = [f"text {number}" for number in range(300)]


@pytest.fixture
def server() -> Iterator[QdrantServer]:
    with running(grpc=True) as server:
        server.key, server.read_only_key = ADMIN, READER
        server.tokens = {
            WRITE_TOKEN: {"tests": "rw"},
            READ_TOKEN: {"tests": "r"},
            ELSEWHERE: {"others": "rw"},
        }
        yield server


@pytest.fixture(params=[False, True], ids=["rest", "grpc"])
def over_grpc(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def store_of(server: QdrantServer, key: str, *, over_grpc: bool = False, adopt: bool = False) -> QdrantStore:
    port = server.grpc_port if over_grpc else None
    return QdrantStore("tests", url=server.url, api_key=key, prefer_grpc=over_grpc, grpc_port=port, adopt=adopt)


def indexed(server: QdrantServer, count: int = 20) -> None:
    """As the owner of the server does, without calibrating."""
    with MultimodalIndex(TinyEmbedder(), store_of(server, ADMIN), auto_calibrate=False) as index:
        index.add_texts(TEXTS[:count])


def test_a_token_for_one_collection_indexes_and_searches_with_relevance(
    server: QdrantServer, over_grpc: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The calibration, which it may not store, is kept in the process, and told once."""
    indexed(server)
    with caplog.at_level(logging.WARNING):
        for start in (0, 150):  # an index each, in the same process
            with MultimodalIndex(TinyEmbedder(), store_of(server, WRITE_TOKEN, over_grpc=over_grpc)) as index:
                report = index.add_texts(TEXTS[start : start + 150])
                assert report.failed == ()
                index.add_texts(["one more", f"another {start}"])
                results = index.search("text 7", limit=3)
                assert results[0].relevance is not None
                assert index.status().points == index.count()
    (record,) = caplog.records
    assert "kept in this process only, as the key or token lacks a right (Global access is required)" in record.message
    assert "'tests'" in record.message
    assert WRITE_TOKEN not in caplog.text
    caplog.clear()
    with MultimodalIndex(TinyEmbedder(), store_of(server, ADMIN)) as index:
        index.calibrate()
    assert any(name.startswith("multimodal_search_note") for name in server.collections["tests"].metadata or {})


@pytest.mark.parametrize("key", [READ_TOKEN, READER])
def test_keys_that_may_only_read_search_and_filter(server: QdrantServer, key: str, over_grpc: bool) -> None:
    indexed(server)
    with MultimodalIndex(TinyEmbedder(), store_of(server, key, over_grpc=over_grpc)) as index:
        hits = index.search("text 7", limit=3, where={"text": "text 7"})
        assert [hit.payload["text"] for hit in hits] == ["text 7"]
        assert len(index.similar(hits[0].id, limit=2)) == 2
        assert index.status().points == 20
        with pytest.raises(StoreError, match="lacks a right") as caught:
            index.store.delete([1])
        wanted = "Write access to collection tests is required" if key == READ_TOKEN else "Global manage access"
        assert wanted in str(caught.value)
        assert "api_key" not in str(caught.value)


def test_a_collection_that_is_not_in_the_token_is_told_as_that(server: QdrantServer, over_grpc: bool) -> None:
    indexed(server)
    store = store_of(server, ELSEWHERE, over_grpc=over_grpc)
    with pytest.raises(StoreError, match="Access to collection tests is required"):
        store.ensure(SCHEMA)
    store.close()


def test_a_token_that_may_not_create_a_collection_says_so(server: QdrantServer) -> None:
    store = store_of(server, WRITE_TOKEN)
    with pytest.raises(StoreError, match=r"lacks a right \(Global access is required\)"):
        store.ensure(SCHEMA)
    store.close()


def test_a_wrong_key_is_about_the_key(server: QdrantServer, over_grpc: bool) -> None:
    store = store_of(server, "wrong-key-0123456789", over_grpc=over_grpc)
    with pytest.raises(StoreError, match=r"refused the credentials .*check api_key"):
        store.ensure(SCHEMA)
    store.close()


@pytest.mark.parametrize("key", [WRITE_TOKEN, READ_TOKEN])
def test_a_collection_without_a_schema_opens_on_the_callers_word(
    server: QdrantServer, key: str, over_grpc: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The second collection, which is not there, is 403 for a token; nor may it store the schema."""
    client = QdrantClient(url=server.url, headers={"api-key": ADMIN}, check_compatibility=False)
    client.create_collection("tests", vectors_config=models.VectorParams(size=4, distance=models.Distance.COSINE))
    client.upsert("tests", models.Batch(ids=[1], vectors=[[1.0, 0.0, 0.0, 0.0]]))
    client.close()
    with pytest.raises(StoreError, match=r"1 points of an unknown embedder.* adopt=True"):
        store_of(server, key, over_grpc=over_grpc).ensure(SCHEMA)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            store = store_of(server, key, over_grpc=over_grpc, adopt=True)
            assert store.ensure(SCHEMA) == SCHEMA
            assert store.search(np.ones((1, 4), np.float32), limit=1)[0][0].id == 1
            store.close()
    assert len(caplog.records) == 1
    assert "Global access is required" in caplog.text
    store = store_of(server, ADMIN, adopt=True)
    assert store.ensure(OTHER) == OTHER  # nothing was stored
    store.close()


def test_an_empty_collection_without_a_schema_needs_a_right_that_is_named(server: QdrantServer) -> None:
    client = QdrantClient(url=server.url, headers={"api-key": ADMIN}, check_compatibility=False)
    client.create_collection("tests", vectors_config=models.VectorParams(size=4, distance=models.Distance.COSINE))
    client.close()
    store = store_of(server, WRITE_TOKEN)
    with pytest.raises(StoreError, match=r"has no schema, and .* \(Global access is required\): open it once"):
        store.ensure(SCHEMA)
    store.close()
    store = store_of(server, WRITE_TOKEN, adopt=True)
    assert store.ensure(SCHEMA) == SCHEMA
    store.upsert([Record(1)], np.ones((1, 4), np.float32))
    assert store.count() == 1
    store.close()
