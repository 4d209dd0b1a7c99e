"""Opening a Qdrant collection: from many processes at once, at peers that are behind, and in few round trips."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from qdrant_rest_server import QdrantServer, RefusalError, running
from tiny_embedder import TinyEmbedder

from multimodal_search import (
    ConfigurationError,
    ContentIds,
    MultimodalIndex,
    QdrantStore,
    Record,
    StoreError,
    StoreUnavailableError,
)
from multimodal_search.stores.qdrant import info as qdrant_info
from multimodal_search.types import StoreSchema

SCHEMA = StoreSchema(model="tiny", fingerprint="tiny-1", dimension=4)
OTHER = StoreSchema(model="other", fingerprint="other-1", dimension=4)
VECTORS = models.VectorParams(size=4, distance=models.Distance.COSINE)


@pytest.fixture
def server() -> Iterator[QdrantServer]:
    with running() as server:
        yield server


@pytest.fixture
def both() -> Iterator[QdrantServer]:
    """A server that listens to REST and gRPC."""
    with running(grpc=True) as both:
        yield both


@pytest.fixture
def cluster() -> Iterator[QdrantServer]:
    with running(peers=3) as cluster:
        yield cluster


def opened(url: str, schema: StoreSchema = SCHEMA) -> QdrantStore:
    store = QdrantStore("photos", url=url)
    store.ensure(schema)
    return store


def asked_of(server: QdrantServer) -> set[str]:
    """The collections that were asked for."""
    return {path.partition("?")[0].split("/")[2] for _, path, _ in server.requests if path.startswith("/collections/")}


def side_by_side(count: int, call: Any) -> list[Any]:
    """What `count` threads that begin together get; errors are values."""
    barrier, results = threading.Barrier(count), []

    def run(number: int) -> None:
        barrier.wait()
        try:
            results.append(call(number))
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


# -- from anywhere, at once --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lag", [1, 3])
def test_thirty_processes_open_one_collection_through_a_balancer(cluster: QdrantServer, lag: int) -> None:
    """The loser of the race may ask a peer that does not know the collection yet, or none of its shards."""
    cluster.lag = lag
    schemas = [SCHEMA, OTHER]
    stores = [QdrantStore("photos", url=cluster.url) for _ in range(30)]
    results = side_by_side(30, lambda number: stores[number].ensure(schemas[number % 2]))
    assert len(set(map(str, results))) == 1, results
    assert results[0] in schemas
    assert asked_of(cluster) == {"photos"}  # nowhere a second collection, where metadata works
    assert set(cluster.indexes["photos"]) == {"filename", "root", "modality", "sha256"}
    for store in stores:
        store.close()


def test_many_processes_index_into_a_collection_that_is_new(cluster: QdrantServer) -> None:
    """The next request after opening may reach a peer that does not know the collection yet."""
    cluster.lag = 8

    def index(number: int) -> int:
        store = QdrantStore("photos", url=cluster.url)
        with MultimodalIndex(TinyEmbedder(), store, ids=ContentIds(), auto_calibrate=False) as index:
            return index.add_texts([f"text {number}", f"another {number}"]).added

    assert side_by_side(12, index) == [2] * 12
    cluster.catch_up()
    with MultimodalIndex(TinyEmbedder(), QdrantStore("photos", url=cluster.url)) as index_of_all:
        assert index_of_all.count() == 24


def test_the_metadata_of_a_peer_that_is_behind_is_asked_for_again(cluster: QdrantServer) -> None:
    """One answer without the schema is no sign of an old server."""
    client = QdrantClient(url=cluster.url, check_compatibility=False)
    client.create_collection("photos", vectors_config=VECTORS)
    cluster.lag = 4
    store = opened(cluster.url)
    assert cluster.asked("PUT", "/collections/photos__multimodal_search") == []
    cluster.catch_up()
    assert client.get_collection("photos").config.metadata == {"multimodal_search": SCHEMA.to_dict()}
    assert opened(cluster.url, OTHER).ensure(OTHER) == SCHEMA
    client.close()
    store.close()


def test_metadata_that_never_shows_is_said_to_be_missing(
    cluster: QdrantServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("multimodal_search.stores.qdrant.collection.BEHIND_S", 0.2)
    client = QdrantClient(url=cluster.url, check_compatibility=False)
    client.create_collection("photos", vectors_config=VECTORS)
    client.close()
    cluster.keeps_metadata = False  # whatever its version promises
    with pytest.raises(StoreUnavailableError, match="does not show the schema"):
        opened(cluster.url)


def test_an_alias_of_nothing_is_told_as_what_it_is(server: QdrantServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server says `already exists` of it, too."""
    monkeypatch.setattr(qdrant_info, "BEHIND_S", 0.2)
    server.aliases["photos"] = "gone"
    with pytest.raises(StoreError, match="Alias with the same name already exists"):
        opened(server.url)


def test_opening_waits_for_a_peer_without_shards_and_not_for_a_refusal(
    server: QdrantServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qdrant_info, "BEHIND_S", 0.3)
    opened(server.url).close()

    def fail(method: str, path: str) -> None:
        raise RefusalError(500, "Service internal error: 1 of 1 read operations failed")

    server.before = fail
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="read operations failed") as caught:
        opened(server.url)
    assert time.monotonic() - began >= 0.3
    assert caught.value.trouble == "internal"


def test_index_metadata_is_stored_through_a_peer_that_is_behind(cluster: QdrantServer) -> None:
    """And a second collection is not made for it."""
    store = opened(cluster.url)
    cluster.catch_up()
    cluster.lag = 5
    store.set_index_metadata("terms", "one")
    cluster.catch_up()
    assert store.get_index_metadata("terms") == "one"
    assert asked_of(cluster) == {"photos"}
    store.close()


# -- newer and older servers -------------------------------------------------------------------------------------------


def test_a_newer_servers_unknown_settings_are_passed_over(server: QdrantServer) -> None:
    """qdrant-client refuses the whole answer for them; what it knows is enough."""
    opened(server.url).close()
    server.unknown_fields = True
    client = QdrantClient(url=server.url, check_compatibility=False)
    with pytest.raises(Exception, match=r"extra_forbidden|Extra inputs"):
        client.get_collection("photos")
    client.close()
    store = opened(server.url, OTHER)
    assert store.ensure(OTHER) == SCHEMA
    store.set_index_metadata("terms", "one")
    assert store.get_index_metadata("terms") == "one"
    assert not server.asked("PUT", "/collections/photos/index.*")[4:]
    store.close()


def test_parts_that_are_unknown_are_left_out_and_no_others() -> None:
    known = {
        "status": "green",
        "optimizer_status": "ok",
        "points_count": 3,
        "segments_count": 1,
        "config": {
            "params": {"vectors": {"size": 4, "distance": "Cosine"}},
            "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000},
            "optimizer_config": {
                "deleted_threshold": 0.2,
                "vacuum_min_vector_number": 1_000,
                "default_segment_number": 0,
                "flush_interval_sec": 5,
            },
            "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0},
            "metadata": {"multimodal_search": SCHEMA.to_dict()},
        },
        "payload_schema": {
            "filename": {"data_type": "keyword", "params": {"type": "keyword", "prefix": True}, "points": 3}
        },
    }
    expected = models.CollectionInfo.model_validate(known)
    newer: Any = models.CollectionInfo.model_validate(known).model_dump(mode="json", exclude_none=True)
    newer["config"]["params"]["vectors"]["warmth"] = 1
    newer["config"]["params"]["vectors"]["layout"] = {"rows": [1]}
    newer["config"]["hnsw_config"]["beam"] = "wide"
    newer["config"]["quantization_config"] = {"fractal": {"bits": 3}}
    newer["payload_schema"]["filename"]["params"]["suffix"] = True
    newer["payload_schema"]["place"] = {"data_type": "sphere", "points": 1}
    assert qdrant_info._known_parts(newer) == expected
    assert qdrant_info._known_parts({"hello": 1}) is None


# -- round trips -------------------------------------------------------------------------------------------------------


def test_a_new_collection_takes_three_round_trips_and_an_old_one_one(server: QdrantServer) -> None:
    """Not there; create; its description and four indexes at once. A cloud is 30 to 80 ms away."""
    server.latency_s = 0.05
    store = opened(server.url)
    assert [method for method, *_ in server.requests] == ["GET", "PUT", "GET", "PUT", "PUT", "PUT", "PUT"] or sorted(
        method for method, *_ in server.requests
    ) == ["GET", "GET", "PUT", "PUT", "PUT", "PUT", "PUT"]
    assert server.round_trips() == 3
    server.forget_requests()
    assert opened(server.url).ensure(SCHEMA) == SCHEMA
    assert [(method, path) for method, path, _ in server.requests] == [("GET", "/collections/photos")] * 2
    store.close()


def test_an_index_opens_with_one_request(server: QdrantServer) -> None:
    """Also where the schema is asked for before the embedder is made."""
    with MultimodalIndex(TinyEmbedder(), QdrantStore("photos", url=server.url)):
        pass
    for embedder in (TinyEmbedder(), lambda: TinyEmbedder(), None):
        server.forget_requests()
        with MultimodalIndex(embedder, QdrantStore("photos", url=server.url)):
            assert len(server.requests) == 1


def test_what_was_looked_up_before_opening_is_looked_up_again_later(
    server: QdrantServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ensure` says what is stored now."""
    opened(server.url).close()
    store = QdrantStore("photos", url=server.url)
    assert store.stored_schema() == SCHEMA
    monkeypatch.setattr("multimodal_search.stores.qdrant.collection._NEW_S", 0.0)
    client = QdrantClient(url=server.url, check_compatibility=False)
    client.delete_collection("photos")
    client.close()
    assert store.ensure(OTHER) == OTHER
    store.close()


def test_index_metadata_takes_one_request(server: QdrantServer) -> None:
    store = opened(server.url)
    server.forget_requests()
    store.set_index_metadata("terms", "one")
    assert store.get_index_metadata("terms") == "one"
    assert store.get_index_metadata("other") is None
    assert [(method, path) for method, path, _ in server.requests] == [
        ("PATCH", "/collections/photos"),
        ("GET", "/collections/photos"),
        ("GET", "/collections/photos"),
    ]
    store.close()


# -- two ports ---------------------------------------------------------------------------------------------------------


def test_the_grpc_port_is_asked_for_where_it_cannot_be_known() -> None:
    """6334 may be another server's, which would be written to."""
    with pytest.raises(ConfigurationError, match=r"needs grpc_port= .* port 6433"):
        QdrantStore("photos", url="http://localhost:6433", prefer_grpc=True)
    for url in ("http://localhost", "http://localhost:6333", "https://a.cloud.qdrant.io"):
        QdrantStore("photos", url=url, prefer_grpc=True)
    QdrantStore("photos", url="http://localhost:6433", prefer_grpc=True, grpc_port=6434)
    with pytest.raises(ConfigurationError, match="goes with url"):
        QdrantStore("photos", location=":memory:", grpc_port=6334)
    for port in (0, 65_536, "6334", True):
        with pytest.raises(ConfigurationError, match="grpc_port is a number"):
            QdrantStore("photos", url="http://localhost", prefer_grpc=True, grpc_port=port)  # type: ignore[arg-type]


@pytest.mark.parametrize("peers", [1, 3])
def test_over_grpc_all_of_it_works_on_the_two_ports_of_one_server(peers: int) -> None:
    """Of a cluster, the two ports may lead to different peers."""
    with running(peers=peers, grpc=True) as server:
        server.lag = 2
        store = QdrantStore("photos", url=server.url, prefer_grpc=True, grpc_port=server.grpc_port)
        assert store.ensure(SCHEMA) == SCHEMA
        server.catch_up()
        server.lag = 0
        store.upsert([Record(1, {"a": 1})], np.ones((1, 4), np.float32))
        store.set_index_metadata("terms", "one")
        assert store.get_index_metadata("terms") == "one"
        again = QdrantStore("photos", url=server.url, prefer_grpc=True, grpc_port=server.grpc_port)
        assert again.ensure(OTHER) == SCHEMA
        assert list(again.scan()) == [Record(1, {"a": 1})]
        assert asked_of(server) == {"photos"}
        store.close()
        again.close()


def test_opening_over_grpc_takes_one_round_trip(both: QdrantServer) -> None:
    """The description, and both ports' peers, at the same time."""
    store = QdrantStore("photos", url=both.url, prefer_grpc=True, grpc_port=both.grpc_port)
    store.ensure(SCHEMA)
    store.close()
    both.latency_s = 0.05
    both.forget_requests()
    store = QdrantStore("photos", url=both.url, prefer_grpc=True, grpc_port=both.grpc_port)
    store.ensure(SCHEMA)
    assert len(both.exchanges) == 3
    store.close()


@pytest.mark.parametrize("known_to", ["neither", "url", "other", "both"])
def test_nothing_is_written_to_another_server(
    both: QdrantServer, known_to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port that is somebody else's must not get a collection, an index or a point."""
    monkeypatch.setattr("multimodal_search.stores.qdrant.ports.BEHIND_S", 0.3)
    monkeypatch.setattr(qdrant_info, "BEHIND_S", 0.3)
    with running(grpc=True) as other:
        for server, name in ((both, "url"), (other, "other")):
            if known_to in (name, "both"):
                opened(server.url).close()
            server.forget_requests()
        store = QdrantStore("photos", url=both.url, prefer_grpc=True, grpc_port=other.grpc_port)
        with pytest.raises(ConfigurationError, match="lead to different servers"):
            store.ensure(SCHEMA)
        if known_to != "neither":
            with pytest.raises(ConfigurationError, match="lead to different servers"):
                store.stored_schema()
        assert {method for method, *_ in other.requests} <= {"GET"}
        store.close()


def test_ports_are_compared_by_what_they_say_of_the_collection_where_no_peers_are_told(both: QdrantServer) -> None:
    """A proxy may pass on nothing else."""

    def refuse(method: str, path: str) -> None:
        if path.endswith("/cluster"):
            raise RefusalError(403, "Forbidden: Global access is required")

    with running(grpc=True) as other:
        for server, schema in ((both, SCHEMA), (other, OTHER)):
            opened(server.url, schema).close()
            server.before = refuse
        store = QdrantStore("photos", url=both.url, prefer_grpc=True, grpc_port=both.grpc_port)
        assert store.ensure(OTHER) == SCHEMA
        store.close()
        store = QdrantStore("photos", url=both.url, prefer_grpc=True, grpc_port=other.grpc_port)
        with pytest.raises(ConfigurationError, match="lead to different servers"):
            store.ensure(SCHEMA)
        store.close()
