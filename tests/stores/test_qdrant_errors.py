"""What a Qdrant server refuses, over REST and gRPC: each as the error, and in the words, that tell what to do."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Literal

import httpx
import numpy as np
import pytest
from qdrant_client.http.exceptions import UnexpectedResponse
from qdrant_rest_server import QdrantServer, RefusalError, running
from tiny_embedder import TinyEmbedder

from multimodal_search import (
    MultimodalIndex,
    QdrantStore,
    Record,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
)
from multimodal_search.stores.qdrant.errors import status_of, translated
from multimodal_search.types import StoreSchema

SCHEMA = StoreSchema(model="tiny", fingerprint="tiny-1", dimension=4)
ONE = np.ones((1, 4), np.float32)


@pytest.fixture
def server() -> Iterator[QdrantServer]:
    with running(grpc=True) as server:
        yield server


@pytest.fixture(params=[False, True], ids=["rest", "grpc"])
def store(request: pytest.FixtureRequest, server: QdrantServer) -> Iterator[QdrantStore]:
    port = server.grpc_port if request.param else None
    store = QdrantStore("photos", url=server.url, prefer_grpc=bool(request.param), grpc_port=port)
    store.ensure(SCHEMA)
    yield store
    store.close()


def refused(server: QdrantServer, store: QdrantStore, error: RefusalError) -> StoreError:
    """What a write raises that the server refuses."""

    def refuse(method: str, path: str) -> None:
        raise error

    server.before = refuse
    with pytest.raises(StoreError) as caught:
        store.upsert([Record(1)], ONE)
    return caught.value


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (500, "Service internal error: 1 of 1 read operations failed:\n  The service is currently unavailable"),
        (500, "Service internal error: 2 out of 6 shards failed to apply operation"),
        (500, "Service internal error: 0 of 0 read operations failed"),
        (503, "Shard unavailable: no active replicas"),
    ],
)
def test_a_clusters_trouble_passes(server: QdrantServer, store: QdrantStore, status: int, said: str) -> None:
    error = refused(server, store, RefusalError(status, said))
    assert isinstance(error, StoreUnavailableError)
    assert " ".join(said.split()) in str(error)
    assert "\n" not in str(error)
    assert error.trouble not in ("time-out", "other")  # which could be a record's


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (507, "Insufficient storage: the quota of this node is used up"),
        (500, "Service internal error: No space left on device: WAL buffer size exceeds available disk space"),
        (400, "Bad request: Max vector storage size limit of 1000 bytes reached!. Help: Delete points"),
    ],
)
def test_a_full_node_and_a_quota_are_told_as_that(
    server: QdrantServer, store: QdrantStore, status: int, said: str
) -> None:
    """Waiting does not help, and no record is at fault."""
    error = refused(server, store, RefusalError(status, said))
    assert type(error) is StoreError
    assert "has no room left" in str(error)
    assert said in str(error)


def test_a_lock_is_told_as_a_lock(server: QdrantServer, store: QdrantStore) -> None:
    server.locked = "Write operations are forbidden"
    with pytest.raises(StoreError, match=r"locked against writing .*Write operations are forbidden") as caught:
        store.upsert([Record(1)], ONE)
    assert type(caught.value) is StoreError
    assert "key" not in str(caught.value)
    assert store.count() == 0  # reading goes on


def test_retry_after_is_kept(server: QdrantServer, store: QdrantStore) -> None:
    server.busy = 7
    with pytest.raises(StoreUnavailableError) as caught:
        store.count()
    assert (caught.value.retry_after_s, caught.value.trouble) == (7.0, "overload")


def test_a_rate_limit_that_one_request_is_above_makes_requests_smaller(
    server: QdrantServer, store: QdrantStore
) -> None:
    """Without Retry-After, as no pause would help."""
    said = "Rate limiting exceeded: Write rate limit exceeded, operation size is above the limit"
    error = refused(server, store, RefusalError(429, said))
    assert isinstance(error, StoreRefusedError)
    assert not error.too_large


@pytest.mark.parametrize("status", [400, 422])
def test_a_record_that_the_server_calls_invalid_costs_itself(server: QdrantServer, status: int) -> None:
    def check(body: object) -> None:
        if "strange" in str(body):
            raise RefusalError(status, "Wrong input: a strange value")

    server.check = check
    with MultimodalIndex(TinyEmbedder(), QdrantStore("tests", url=server.url), auto_calibrate=False) as index:
        vector = np.ones(48, np.float32)
        records = [Record(number, {"a": "strange" if number == 3 else "plain"}, vector=vector) for number in range(9)]
        report = index.add_vectors(records)
        assert report.added == index.count() == 8
        (failure,) = report.failed
        assert failure.name == "3"
        assert "a strange value" in failure.reason


@pytest.mark.parametrize("way", ["400", "413", "cut"])
def test_one_record_above_32_mb_costs_itself(server: QdrantServer, way: Literal["400", "413", "cut"]) -> None:
    """By name; the others of its batch are stored, those before it and those after it."""
    server.too_large = way
    vector = np.ones(48, np.float32)
    records = [
        Record(number, {"page": "\u00e4" * 17_000_000 if number == 5 else "short"}, vector=vector)
        for number in range(20)
    ]
    with MultimodalIndex(TinyEmbedder(), QdrantStore("tests", url=server.url), auto_calibrate=False) as index:
        report = index.add_vectors(records)
        assert (report.added, index.count()) == (19, 19)
        assert [(failure.name, failure.stage) for failure in report.failed] == [("5", "write")]
    port = server.grpc_port
    over_grpc = QdrantStore("tests", url=server.url, prefer_grpc=True, grpc_port=port)
    with MultimodalIndex(TinyEmbedder(), over_grpc, auto_calibrate=False) as index:
        report = index.add_vectors(records)  # gRPC has no such limit
        assert (report.added, report.updated, report.failed) == (1, 19, ())


def test_an_answer_that_the_client_does_not_know_is_told_apart_from_another_servers(server: QdrantServer) -> None:
    store = QdrantStore("photos", url=server.url)
    store.ensure(SCHEMA)
    store.upsert([Record(1)], ONE)
    answer = type(server).answer
    for wrong, said in (({"count": "many"}, "is it too old a release"), (None, "does not come from a Qdrant server")):
        server.answer = lambda *args, wrong=wrong: wrong  # type: ignore[method-assign]
        with pytest.raises(StoreError, match=said):
            store.count()
    server.answer = answer.__get__(server)  # type: ignore[method-assign]
    store.close()


def test_a_connection_that_the_server_closes_when_idle_costs_nothing(server: QdrantServer) -> None:
    """It is closed at the very moment at which the next request is sent: that is sent again, once."""
    server.idle_s = 0.3
    store = QdrantStore("photos", url=server.url)
    store.ensure(SCHEMA)
    for pause_s in (0.28, 0.29, 0.295, 0.3, 0.305, 0.31):
        time.sleep(pause_s)
        assert store.count() == 0
    store.close()


def test_a_connection_that_is_closed_without_an_answer_is_tried_once_more() -> None:
    """And only once: a server that never answers is told as such."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        seen: list[bytes] = []

        def serve() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    seen.append(connection.recv(65_536))

        thread = threading.Thread(target=serve)
        thread.start()
        store = QdrantStore("photos", url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=5)
        with pytest.raises(StoreUnavailableError, match="without sending a response"):
            store.ensure(SCHEMA)
        thread.join()
        assert len(seen) == 2
        store.close()


@pytest.mark.parametrize("secrets", [(), ("a-key",)], ids=["shown", "hidden"])
def test_the_status_of_a_refusal_is_known_also_where_its_words_are_hidden(secrets: tuple[str, ...]) -> None:
    """Then the error of the client, which has the status, is left out."""
    answer = UnexpectedResponse(403, "Forbidden", b'{"status":{"error":"Forbidden: a-key"}}', httpx.Headers())
    with pytest.raises(StoreError) as caught, translated("the collection", secrets):
        raise answer
    assert (caught.value.__cause__ is None) == ("a-key" not in str(caught.value)) == bool(secrets)
    assert status_of(caught.value) == 403
