"""`QdrantStore` over the wire: the contract, old servers, existing collections, and everything that can go wrong."""

from __future__ import annotations

import gc
import json
import logging
import os
import re
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient, models
from qdrant_grpc_server import running_grpc
from qdrant_rest_server import MAX_REQUEST, QdrantServer, RefusalError, running
from strict_store import StrictStore

from multimodal_search import (
    ConfigurationError,
    ContentError,
    QdrantStore,
    QueryError,
    Record,
    SchemaMismatchError,
    StoreClosedError,
    StoreError,
    StoreLockedError,
    StoreUnavailableError,
    VectorStore,
)
from multimodal_search.stores.keywords import DEFAULT_KEYWORD_FIELDS
from multimodal_search.stores.qdrant import index_creation
from multimodal_search.testing.notes import IndexMetadataContract
from multimodal_search.testing.store import VectorStoreContract
from multimodal_search.testing.texts import TextSearchContract
from multimodal_search.types import FloatArray, StoreSchema

SCHEMA = StoreSchema(model="tiny", fingerprint="tiny-1", dimension=4)
OTHER = StoreSchema(model="other", fingerprint="other-1", dimension=4)
KEY = "s3cr3t-k3y-0123456789"


@pytest.fixture
def server() -> Iterator[QdrantServer]:
    with running() as server:
        yield server


def opened(url: str, schema: StoreSchema = SCHEMA, name: str = "photos") -> QdrantStore:
    store = QdrantStore(name, url=url)
    store.ensure(schema)
    return store


def ones(count: int, dimension: int = 4) -> FloatArray:
    return np.ones((count, dimension), np.float32)


class TestOverRest(TextSearchContract, IndexMetadataContract, VectorStoreContract):
    """The real client's JSON on a real socket."""

    @pytest.fixture
    def open_store(self, server: QdrantServer) -> Callable[[], VectorStore]:
        return lambda: QdrantStore("contract", url=server.url)

    @pytest.fixture
    def in_child(self, server: QdrantServer) -> str:
        return f"from multimodal_search import QdrantStore; store = QdrantStore('contract', url={server.url!r})"


class TestOverRestWithIndexes(VectorStoreContract):
    """A payload index for every field that is filtered by, as from 10,000 points on."""

    @pytest.fixture
    def open_store(self, server: QdrantServer, monkeypatch: pytest.MonkeyPatch) -> Callable[[], VectorStore]:
        monkeypatch.setattr(index_creation, "INDEX_PAYLOAD_FROM", 0)
        return lambda: QdrantStore("contract", url=server.url)

    @pytest.fixture
    def in_child(self, server: QdrantServer) -> str:
        return f"from multimodal_search import QdrantStore; store = QdrantStore('contract', url={server.url!r})"


GRPC = """
from multimodal_search import QdrantStore
from qdrant_client import QdrantClient
client = QdrantClient(url="http://127.0.0.1", grpc_port={port}, prefer_grpc=True, timeout=30, check_compatibility=False)
store = QdrantStore("contract", client=client)
"""


class TestOverGrpc(TextSearchContract, IndexMetadataContract, VectorStoreContract):
    """The same in gRPC, whose messages are built by other code of the client."""

    @pytest.fixture
    def port(self) -> Iterator[int]:
        with running_grpc() as port:
            yield port

    @pytest.fixture
    def open_store(self, port: int) -> Iterator[Callable[[], VectorStore]]:
        clients: list[QdrantClient] = []

        def open_store() -> VectorStore:
            clients.append(
                QdrantClient(
                    url="http://127.0.0.1", grpc_port=port, prefer_grpc=True, timeout=30, check_compatibility=False
                )
            )
            return QdrantStore("contract", client=clients[-1])

        yield open_store
        for client in clients:
            client.close()

    @pytest.fixture
    def in_child(self, port: int) -> str:
        return GRPC.format(port=port)


if "QDRANT_URL" in os.environ:
    GRPC_PORT = os.environ.get("QDRANT_GRPC_PORT")  # where it is not the usual one
    SETTINGS: dict[str, Any] = {"url": os.environ["QDRANT_URL"], "api_key": os.environ.get("QDRANT_API_KEY")}

    @pytest.mark.parametrize("kind", [QdrantStore, StrictStore], ids=["plain", "strict"])
    @pytest.mark.parametrize("prefer_grpc", [False, True], ids=["rest", "grpc"])
    class TestOnRealServer(TextSearchContract, IndexMetadataContract, VectorStoreContract):
        """On collections of its own, which it removes."""

        @pytest.fixture
        def name(self) -> str:
            return f"contract-{uuid4().hex}"

        @pytest.fixture
        def settings(self, prefer_grpc: bool) -> dict[str, Any]:
            port = {"grpc_port": int(GRPC_PORT)} if prefer_grpc and GRPC_PORT else {}
            return {"prefer_grpc": prefer_grpc} | port

        @pytest.fixture
        def in_child(self, name: str, kind: type[QdrantStore], settings: dict[str, Any]) -> str:
            return (
                f"import os; from {kind.__module__} import {kind.__name__}; "
                f"store = {kind.__name__}({name!r}, url=os.environ['QDRANT_URL'], "
                f"api_key=os.environ.get('QDRANT_API_KEY'), **{settings})"
            )

        @pytest.fixture
        def open_store(
            self, name: str, kind: type[QdrantStore], settings: dict[str, Any]
        ) -> Iterator[Callable[[], VectorStore]]:
            yield lambda: kind(name, **SETTINGS, **settings)
            client = QdrantClient(**SETTINGS, check_compatibility=False)
            for each in (name, f"{name}__multimodal_search"):
                client.delete_collection(each)
            client.close()

else:

    def test_on_a_real_server() -> None:
        pytest.skip("no Qdrant server: QDRANT_URL (and QDRANT_API_KEY, if it asks for one) is not set")


# --- creating and opening


def test_a_collection_is_created_with_what_was_asked_for(server: QdrantServer) -> None:
    """All of it is settled at creation, and can hardly be changed later."""
    store = QdrantStore(
        "photos",
        url=server.url,
        shard_number=3,
        replication_factor=2,
        write_consistency_factor=2,
        on_disk=True,
        quantization=models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8)),
    )
    store.ensure(SCHEMA)
    (body,) = server.asked("PUT", r"/collections/photos(\?.*)?")
    assert body["vectors"] == {"size": 4, "distance": "Cosine", "on_disk": True}
    assert (body["shard_number"], body["replication_factor"], body["write_consistency_factor"]) == (3, 2, 2)
    assert body["quantization_config"] == {"scalar": {"type": "int8"}}
    fields = json.loads(body["metadata"].pop("multimodal_search_note_keyword_fields"))
    assert fields == {"fields": list(DEFAULT_KEYWORD_FIELDS), "complete": True}
    assert body["metadata"] == {"multimodal_search": SCHEMA.to_dict()}
    assert server.indexes["photos"] == {
        "filename": {"type": "keyword", "prefix": True},
        "root": {"type": "keyword", "prefix": True},
        "modality": {"type": "keyword", "prefix": True},
        "sha256": {"type": "keyword", "prefix": True},
    }
    opened(server.url).close()
    assert len(server.asked("PUT", "/collections/photos/index.*")) == 4  # the second time there was nothing to do
    store.close()


def test_an_older_server_gets_the_index_it_knows(server: QdrantServer) -> None:
    server.knows_prefixes = False
    opened(server.url).close()
    assert server.indexes["photos"]["filename"] == {"type": "keyword"}


def test_an_old_server_keeps_the_schema_all_the_same(server: QdrantServer) -> None:
    """In a second collection, where nothing counts or finds it."""
    server.version = "1.15.5"
    store = opened(server.url)
    assert store.count() == 0
    assert store.search(ones(1), limit=5) == [[]]
    store.upsert([Record(0, {"a": 1})], ones(1))
    assert list(store.scan()) == [Record(0, {"a": 1})]
    store.delete([0])
    assert store.ensure(OTHER) == SCHEMA
    assert opened(server.url, OTHER).ensure(OTHER) == SCHEMA
    server.version = "1.20.0"  # the server is upgraded
    assert opened(server.url).ensure(OTHER) == SCHEMA


@pytest.mark.parametrize("version", ["1.20.0", "1.15.5"])
def test_many_processes_may_create_it_at_once(server: QdrantServer, version: str) -> None:
    """The workers of a cluster start together; whoever is first decides, and all of them agree on it."""
    server.version = version
    schemas = [SCHEMA, OTHER] * 4
    stores = [QdrantStore("photos", url=server.url) for _ in schemas]
    barrier = threading.Barrier(len(stores))
    results: list[StoreSchema] = []

    def ensure(store: QdrantStore, schema: StoreSchema) -> None:
        barrier.wait()
        results.append(store.ensure(schema))

    threads = [threading.Thread(target=ensure, args=pair) for pair in zip(stores, schemas, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == len(stores)
    assert len(set(results)) == 1
    assert opened(server.url).ensure(SCHEMA) == results[0]


def test_a_claim_that_was_never_made_good_is_taken_over(server: QdrantServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process can die between creating the second collection and writing to it."""
    monkeypatch.setattr("multimodal_search.stores.qdrant.collection._CLAIM_S", 0.2)
    server.version = "1.15.5"
    client = QdrantClient(url=server.url, check_compatibility=False)
    client.create_collection("photos__multimodal_search", vectors_config={})
    client.close()
    assert opened(server.url).ensure(OTHER) == SCHEMA
    assert opened(server.url, OTHER).ensure(OTHER) == SCHEMA


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    client = QdrantClient(location=":memory:")
    yield client
    client.close()


def existing(client: QdrantClient, size: int = 4, points: int = 0, distance: str = "COSINE") -> None:
    client.create_collection(
        "photos", vectors_config=models.VectorParams(size=size, distance=models.Distance[distance])
    )
    if points:
        client.upsert("photos", models.Batch(ids=list(range(points)), vectors=ones(points, size).tolist()))


def test_an_empty_collection_of_somebody_else_is_adopted(client: QdrantClient) -> None:
    """Administrators create collections with settings of their own."""
    existing(client)
    store = QdrantStore("photos", client=client)
    assert store.ensure(SCHEMA) == SCHEMA
    assert QdrantStore("photos", client=client).ensure(OTHER) == SCHEMA


def test_a_collection_with_points_is_adopted_only_on_the_callers_word(client: QdrantClient) -> None:
    """Nobody but the caller can know of which embedder they are; a wrong guess spoils every search."""
    existing(client, points=3)
    with pytest.raises(StoreError, match=r"holds 3 points .*adopt=True"):
        QdrantStore("photos", client=client).ensure(SCHEMA)
    store = QdrantStore("photos", client=client, adopt=True)
    assert store.ensure(SCHEMA) == SCHEMA
    assert store.count() == 3
    assert QdrantStore("photos", client=client).ensure(OTHER) == SCHEMA  # from then on it says so itself


@pytest.mark.parametrize(("size", "distance", "points"), [(5, "COSINE", 0), (5, "COSINE", 2), (4, "DOT", 0)])
def test_no_word_makes_vectors_of_another_kind_fit(client: QdrantClient, size: int, distance: str, points: int) -> None:
    existing(client, size, points, distance)
    with pytest.raises(SchemaMismatchError, match="choose another collection"):
        QdrantStore("photos", client=client, adopt=True).ensure(SCHEMA)


@pytest.mark.parametrize("vectors", [{}, {"image": models.VectorParams(size=4, distance=models.Distance.COSINE)}])
def test_collections_with_named_vectors_or_none_are_refused(
    client: QdrantClient, vectors: dict[str, models.VectorParams]
) -> None:
    client.create_collection("photos", vectors_config=vectors)
    with pytest.raises(SchemaMismatchError, match="named vectors"):
        QdrantStore("photos", client=client, adopt=True).ensure(SCHEMA)


def test_metadata_of_somebody_else_stays(client: QdrantClient) -> None:
    client.create_collection(
        "photos",
        vectors_config=models.VectorParams(size=4, distance=models.Distance.COSINE),
        metadata={"owner": "museum"},
    )
    QdrantStore("photos", client=client).ensure(SCHEMA)
    metadata = client.get_collection("photos").config.metadata
    assert metadata == {"owner": "museum", "multimodal_search": SCHEMA.to_dict()}


def test_a_schema_that_cannot_be_read_is_an_error(client: QdrantClient) -> None:
    client.create_collection(
        "photos",
        vectors_config=models.VectorParams(size=4, distance=models.Distance.COSINE),
        metadata={"multimodal_search": {"model": "?"}},
    )
    with pytest.raises(StoreError, match="schema that cannot be read"):
        QdrantStore("photos", client=client).ensure(SCHEMA)


def test_a_client_that_was_given_stays_open(client: QdrantClient) -> None:
    store = QdrantStore("photos", client=client)
    store.ensure(SCHEMA)
    store.close()
    with pytest.raises(StoreClosedError):
        store.count()
    assert client.count("photos").count == 0


def test_clients_own_filters_pass_through(client: QdrantClient) -> None:
    store = QdrantStore("photos", client=client)
    store.ensure(SCHEMA)
    store.upsert([Record(1, {"tags": ["a", "b"]}), Record(2, {"tags": ["a"]})], ones(2))
    two = models.Filter(must=[models.FieldCondition(key="tags", values_count=models.ValuesCount(gte=2))])
    assert [record.id for record in store.scan(where=two)] == [1]
    with pytest.raises(QueryError, match=r"qdrant_client\.\S+\.Filter, not list"):
        store.count([two])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_local_mode_keeps_a_folder(tmp_path: Path) -> None:
    store = QdrantStore("photos", path=tmp_path / "local")
    store.ensure(SCHEMA)
    store.upsert([Record(1, {"a": 1})], ones(1))
    with pytest.raises(StoreLockedError, match="already accessed"):
        QdrantStore("photos", path=tmp_path / "local").ensure(SCHEMA)
    gc.collect()  # the client does not close its lock file when it is refused
    thread = threading.Thread(target=lambda: store.upsert([Record(2)], ones(1)))
    thread.start()
    thread.join()
    store.close()
    store = QdrantStore("photos", path=str(tmp_path / "local"))
    assert store.ensure(OTHER) == SCHEMA
    assert [record.id for record in store.scan()] == [1, 2]
    assert repr(store) == f"QdrantStore('photos', path={str(tmp_path / 'local')!r})"
    store.close()


# --- large batches


def test_requests_stay_below_what_servers_take(server: QdrantServer) -> None:
    """A batch of 40 MB is fine for the caller, and a request of 40 MB is not for the server."""
    store = opened(server.url)
    text = "ä" * 500_000
    store.upsert([Record(number, {"note": text}) for number in range(40)], ones(40))
    assert max(server.sizes) < MAX_REQUEST * 0.75
    assert len(server.asked("PUT", "/collections/photos/points.*")) == 3
    assert store.count() == 40
    store.upsert([Record(number) for number in range(2_500)], ones(2_500))
    assert len(server.asked("PUT", "/collections/photos/points.*")) == 6
    assert store.count() == 2_500
    store.close()


def test_writes_wait_and_are_ordered(server: QdrantServer) -> None:
    """Without `wait`, the server acknowledges what nobody can find yet."""
    store = opened(server.url)
    store.upsert([Record(1)], ones(1))
    store.delete([1])
    writes = [
        path for method, path, _ in server.requests if re.search(r"/points(/delete)?\?", path) and method != "GET"
    ]
    assert len(writes) == 2
    for path in writes:
        assert "wait=true" in path
        assert "ordering=medium" in path
    store.close()


def test_a_payload_that_json_cannot_hold_is_named(server: QdrantServer) -> None:
    store = opened(server.url)
    for wrong in ({"a": {1, 2}}, {"a": float("nan")}, {"name": "caf\udce9.jpg"}):
        with pytest.raises(ContentError, match="77"):
            store.upsert([Record(1), Record(77, wrong)], ones(2))
    assert store.count() == 0
    store.close()


# --- what can go wrong


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="exactly one of url, path, location, client, not none"):
        QdrantStore("photos")
    with pytest.raises(ConfigurationError, match="not url and path"):
        QdrantStore("photos", url="http://localhost", path="x")
    with pytest.raises(ConfigurationError, match="http://"):
        QdrantStore("photos", url="localhost:6333")
    with pytest.raises(ConfigurationError, match=":memory:"):
        QdrantStore("photos", location="localhost")
    with pytest.raises(ConfigurationError, match="name of a collection"):
        QdrantStore("", location=":memory:")
    with pytest.raises(ConfigurationError, match="timeout_s"):
        QdrantStore("photos", url="http://localhost", timeout_s=0)
    with pytest.raises(ConfigurationError, match="api_key goes with url"):
        QdrantStore("photos", location=":memory:", api_key=KEY)
    with pytest.raises(ConfigurationError, match="not an AsyncQdrantClient"):
        QdrantStore("photos", client=AsyncQdrantClient(location=":memory:"))  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize("prefer_grpc", [False, True], ids=["rest", "grpc"])
def test_a_server_that_is_not_there(prefer_grpc: bool) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"  # nobody listens
    grpc_port = int(url.rpartition(":")[2]) if prefer_grpc else None
    store = QdrantStore("photos", url=url, prefer_grpc=prefer_grpc, grpc_port=grpc_port, timeout_s=2)
    with pytest.raises(StoreUnavailableError, match=r"'photos' at http://127\.0\.0\.1:\d+") as caught:
        store.ensure(SCHEMA)
    assert isinstance(caught.value, ConnectionError)
    with pytest.raises(StoreError, match="ensure"):
        store.count()
    store.close()


def test_a_server_that_does_not_answer(server: QdrantServer) -> None:
    store = QdrantStore("photos", url=server.url, timeout_s=1)
    store.ensure(SCHEMA)
    server.before = lambda method, path: time.sleep(3)
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="timeout_s"):
        store.count()
    assert time.monotonic() - started < 2.5
    store.close()


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_server_that_is_busy(server: QdrantServer, status: int) -> None:
    store = opened(server.url)

    def refuse(method: str, path: str) -> None:
        raise RefusalError(status, "too much to do")

    server.before = refuse
    with pytest.raises(StoreUnavailableError, match="too much to do"):
        store.search(ones(1), limit=1)
    store.close()


def test_a_collection_that_vanishes(server: QdrantServer) -> None:
    store = opened(server.url)
    client = QdrantClient(url=server.url, check_compatibility=False)
    client.delete_collection("photos")
    client.close()
    with pytest.raises(StoreError, match="does not exist, or no longer"):
        store.count()
    assert store.ensure(SCHEMA) == SCHEMA
    assert store.count() == 0
    store.close()


def test_what_the_server_says_comes_through(server: QdrantServer) -> None:
    store = opened(server.url)

    def refuse(method: str, path: str) -> None:
        raise RefusalError(400, 'Bad request: Index required but not found for "label"')

    server.before = refuse
    with pytest.raises(StoreError, match="Index required but not found"):
        store.count({"label": "dog"})
    store.close()


def test_something_else_that_answers() -> None:
    """A proxy's login page, say."""
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 12\r\nConnection: close\r\n\r\n<html></html"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(page)

        thread = threading.Thread(target=serve)
        thread.start()
        store = QdrantStore("photos", url=f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(StoreError, match="does not come from a Qdrant server"):
            store.ensure(SCHEMA)
        thread.join()
        store.close()


# --- secrets


def everything_said(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error)


def test_a_key_is_sent_and_never_shown(server: QdrantServer) -> None:
    """In tracebacks, which end up in logs and issue trackers, nor in reprs; and http on this machine is no warning."""
    server.key = KEY
    store = QdrantStore("photos", url=server.url, api_key=f"{KEY}\n")
    assert store.ensure(SCHEMA) == SCHEMA
    assert KEY not in repr(store)

    server.key = "another one"
    with pytest.raises(StoreError, match="refused the credentials") as caught:
        store.count()
    assert KEY not in everything_said(caught.value)

    def echo(method: str, path: str) -> None:
        raise RefusalError(403, f"the key {KEY} may not do that")

    server.key, server.before = KEY, echo
    with pytest.raises(StoreError, match=r"the key \*\*\* may not do that") as caught:
        store.count()
    assert KEY not in everything_said(caught.value)
    store.close()


def test_a_key_that_may_only_read_can_open(server: QdrantServer) -> None:
    """Where an administrator removed an index, searching is slow, and still searching."""
    opened(server.url).close()
    server.indexes.clear()

    def read_only(method: str, path: str) -> None:
        if method == "PUT":
            raise RefusalError(403, "Global access is required")

    server.before = read_only
    store = opened(server.url)
    assert store.count() == 0
    store.close()


@pytest.mark.parametrize("key", ["", "  ", "a\nb", "schlüssel"])
def test_keys_that_are_none_are_refused_without_showing_them(key: str) -> None:
    with pytest.raises(ConfigurationError, match="api_key is empty or holds") as caught:
        QdrantStore("photos", url="http://localhost:6333", api_key=key)
    assert key.strip() == "" or key not in str(caught.value)


def test_a_key_over_plain_http_is_logged_where_others_may_listen(caplog: pytest.LogCaptureFixture) -> None:
    """Logged, not warned: programs that turn warnings into errors must still reach their own network's server."""
    store = QdrantStore("photos", url="http://user:pass@qdrant.invalid:6333/q", api_key=KEY, timeout_s=5)
    assert repr(store) == "QdrantStore('photos', url='http://qdrant.invalid:6333/q')"
    with caplog.at_level(logging.WARNING), pytest.raises(StoreUnavailableError) as caught:
        store.ensure(SCHEMA)
    assert "unencrypted" in caplog.text
    for text in (caplog.text, everything_said(caught.value)):
        assert KEY not in text
        assert "pass" not in text
    store.close()
