"""A collection whose points lie in shards by a payload field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from qdrant_cases import SCHEMA, ones
from qdrant_client import QdrantClient, models
from qdrant_rest_server import QdrantServer, RefusalError, running
from tiny_embedder import TinyEmbedder

from multimodal_search import ContentError, MultimodalIndex, QdrantStore, Record, StoreError


@pytest.fixture
def server() -> Iterator[QdrantServer]:
    with running(grpc=True) as server:
        yield server


@pytest.fixture(params=[False, True], ids=["rest", "grpc"])
def client(server: QdrantServer, request: pytest.FixtureRequest) -> Iterator[QdrantClient]:
    client = QdrantClient(
        url=server.url, grpc_port=server.grpc_port, prefer_grpc=request.param, timeout=30, check_compatibility=False
    )
    yield client
    client.close()


def opened(client: QdrantClient, field: str | None = "tenant") -> QdrantStore:
    store = QdrantStore("photos", client=client, shard_key_field=field)
    store.ensure(SCHEMA)
    return store


def shards(server: QdrantServer) -> dict[Any, Any]:
    return {key: sorted(ids) for key, ids in server.collections["photos"].shard_keys.items()}


def tenants(*names: Any) -> list[Record]:
    return [Record(number, {"tenant": name, "n": number}) for number, name in enumerate(names)]


def selected(server: QdrantServer) -> list[Any]:
    """The shard keys of the last searches."""
    found = []
    for body in server.asked("POST", r".*/points/query/batch.*"):
        plain = body if isinstance(body, dict) else body.model_dump(mode="json", exclude_none=True)
        keys = plain["searches"][0].get("shard_key")
        found.append(keys if keys is None or isinstance(keys, list) else [keys])
    return found


def test_points_lie_in_the_shards_of_their_keys(server: QdrantServer, client: QdrantClient) -> None:
    store = opened(client)
    store.upsert(tenants("a", "b", "a", 7), ones(4))
    assert shards(server) == {"a": [0, 2], "b": [1], 7: [3]}
    assert store.count() == 4
    assert [record.id for record in store.scan()] == [0, 1, 2, 3]
    assert [record is not None for record in store.get([0, 3, 9])] == [True, True, False]
    store.delete([0, 1, 9])
    assert shards(server) == {"a": [2], "b": [], 7: [3]}
    assert store.count() == 2


@pytest.mark.parametrize(
    ("where", "keys"),
    [
        ({"tenant": "a"}, ["a"]),
        ({"tenant": 7}, [7]),
        ({"tenant": {"in": ["a", "b"]}}, ["a", "b"]),
        ({"tenant": "a", "n": {"gte": 0}}, ["a"]),
        ({"or": [{"tenant": "a"}, {"tenant": "b"}]}, ["a", "b"]),
        ({"or": [{"tenant": "a"}, {"n": 1}]}, None),
        ({"not": {"tenant": "a"}}, None),
        ({"tenant": {"prefix": "a"}}, None),
        ({"tenant": "unknown"}, None),
        ({"n": 1}, None),
        (None, None),
    ],
)
def test_a_filter_on_the_field_goes_to_its_shards(server: QdrantServer, where: Any, keys: Any) -> None:
    """Others go to all, and find the same as any store."""
    client = QdrantClient(url=server.url, check_compatibility=False)
    plain = QdrantStore("photos", location=":memory:")
    plain.ensure(SCHEMA)
    store = opened(client)
    for each in (store, plain):
        each.upsert(tenants("a", "b", "a", 7), ones(4))
    server.forget_requests()
    found = [hit.id for hit in store.search(ones(1), limit=9, where=where)[0]]
    assert found == [hit.id for hit in plain.search(ones(1), limit=9, where=where)[0]]
    assert selected(server) == [keys]
    plain.close()
    client.close()


def test_gone_is_the_copy_of_a_point_that_moved(server: QdrantServer, client: QdrantClient) -> None:
    """Ids are unique in one shard key only: the server would keep both."""
    store = opened(client)
    store.upsert(tenants("a", "a", "b"), ones(3))
    store.upsert([Record(0, {"tenant": "b"})], ones(1))
    assert shards(server) == {"a": [1], "b": [0, 2]}
    assert store.count() == 3
    assert [hit.id for hit in store.search(ones(1), limit=9, where={"tenant": "a"})[0]] == [1]
    # Killed in between, a process leaves both copies, and writing the point again mends that.
    server.collections["photos"].shard_keys["a"].add(0)
    store.upsert([Record(0, {"tenant": "b"})], ones(1))
    assert shards(server) == {"a": [1], "b": [0, 2]}


def test_a_write_of_points_that_stay_deletes_nothing(server: QdrantServer, client: QdrantClient) -> None:
    store = opened(client)
    store.upsert(tenants("a", "b"), ones(2))
    server.forget_requests()
    store.upsert(tenants("a", "b"), ones(2))
    assert [(method, path.split("?")[0].rpartition("/")[2]) for method, path, _ in server.requests] == [
        ("PUT", "points"), ("POST", "count"), ("PUT", "points"), ("POST", "count")
    ]  # fmt: skip


@pytest.mark.parametrize("payload", [{}, {"tenant": None}, {"tenant": 1.0}, {"tenant": True}, {"tenant": ["a"]}])
def test_a_record_without_a_key_is_refused_by_name(server: QdrantServer, payload: Any) -> None:
    """And nothing is stored of what came with it."""
    client = QdrantClient(url=server.url, check_compatibility=False)
    store = opened(client)
    with pytest.raises(ContentError, match=r"payload of 1 needs a text or a whole number.*'tenant'"):
        store.upsert([Record(0, {"tenant": "a"}), Record(1, payload)], ones(2))
    assert shards(server) == {}
    client.close()


def test_the_field_is_kept_with_the_collection(server: QdrantServer, client: QdrantClient) -> None:
    """A program that only adds need not know of it."""
    opened(client)
    store = opened(client, field=None)
    store.upsert(tenants("a"), ones(1))
    assert shards(server) == {"a": [0]}
    with pytest.raises(StoreError, match=r"not lie in shards by 'owner', but by 'tenant'"):
        opened(client, field="owner")


def test_a_collection_without_shard_keys_cannot_get_them(server: QdrantServer, client: QdrantClient) -> None:
    opened(client, field=None)
    with pytest.raises(StoreError, match="only a new collection"):
        opened(client)


def test_a_key_that_another_process_created_is_used(server: QdrantServer, client: QdrantClient) -> None:
    one, other = opened(client), opened(client)
    one.upsert(tenants("a"), ones(1))
    other.upsert(tenants("b", "a"), ones(2))
    assert shards(server) == {"a": [1], "b": [0]}
    one.delete([0, 1])  # in keys that it has not met, too
    assert shards(server) == {"a": [], "b": []}


def test_a_key_that_a_node_does_not_know_yet_is_waited_for(server: QdrantServer, client: QdrantClient) -> None:
    store = opened(client)
    refused: list[str] = []

    def refuse(method: str, path: str) -> None:
        if method == "PUT" and path.partition("?")[0].endswith("/points") and len(refused) < 2:
            refused.append(path)
            raise RefusalError(404, "Not found: Shard key a not found")

    server.before = refuse
    store.upsert(tenants("a"), ones(1))
    assert shards(server) == {"a": [0]}
    assert len(refused) == 2


def test_a_server_that_is_not_a_cluster_says_why(server: QdrantServer) -> None:
    client = QdrantClient(url=server.url, check_compatibility=False)
    store = opened(client)

    def refuse(method: str, path: str) -> None:
        if path.endswith("/shards") and method == "PUT":
            raise RefusalError(400, "Bad request: Distributed mode disabled")

    server.before = refuse
    with pytest.raises(StoreError, match="Distributed mode disabled"):
        store.upsert(tenants("a"), ones(1))
    client.close()


@pytest.mark.parametrize("over_grpc", [False, True], ids=["rest", "grpc"])
def test_values_that_a_token_may_not_add_are_refused_by_name(server: QdrantServer, over_grpc: bool) -> None:
    def index(key: str | None) -> MultimodalIndex:
        port = server.grpc_port if over_grpc else None
        settings: dict[str, Any] = {"shard_key_field": "tenant"}
        store = QdrantStore("photos", url=server.url, api_key=key, prefer_grpc=over_grpc, grpc_port=port, **settings)
        return MultimodalIndex(TinyEmbedder(), store, auto_calibrate=False)

    vector = np.ones(48, np.float32)
    with index(None) as owner:
        owner.add_vectors([Record(100, {"tenant": "old"}, vector=vector)])
    server.key, server.tokens = "the-key-of-all", {"the-token-of-one": {"photos": "rw"}}
    with index("the-token-of-one") as user:
        report = user.add_vectors(
            [Record(number, {"tenant": "new" if number == 3 else "old"}, vector=vector) for number in range(8)]
        )
        assert (report.added, len(report.failed), user.count()) == (7, 1, 8)
        assert "may not create the shards of tenant='new'" in str(report.failed[0])


def test_a_strict_server_that_does_not_count_is_asked_to_delete(server: QdrantServer) -> None:
    server.strict_mode = {"enabled": True, "search_allow_exact": False}
    client = QdrantClient(url=server.url, check_compatibility=False)
    store = opened(client)
    store.upsert(tenants("a", "b"), ones(2))
    store.upsert([Record(0, {"tenant": "b"})], ones(1))
    assert shards(server) == {"a": [], "b": [0, 1]}
    client.close()


def test_local_mode_has_no_shards() -> None:
    store = QdrantStore("photos", location=":memory:", shard_key_field="tenant")
    store.ensure(SCHEMA)
    store.upsert(tenants("a", "b"), ones(2))
    assert [hit.id for hit in store.search(ones(1), limit=9, where={"tenant": "a"})[0]] == [0]
    store.close()


def test_each_key_has_as_many_shards_as_were_asked_for(server: QdrantServer) -> None:
    client = QdrantClient(url=server.url, check_compatibility=False)
    QdrantStore("photos", client=client, shard_key_field="tenant", shard_number=2).ensure(SCHEMA)
    (body,) = server.asked("PUT", r"/collections/photos(\?.*)?")
    assert (body["sharding_method"], body["shard_number"]) == (models.ShardingMethod.CUSTOM.value, 2)
    client.close()
