"""An index that is named by an alias, and moves to another collection without a gap."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from qdrant_rest_server import QdrantServer, running

from multimodal_search import ConfigurationError, QdrantStore, Record, StoreError
from multimodal_search.types import FloatArray, StoreSchema

SCHEMA = StoreSchema(model="tiny", fingerprint="tiny-1", dimension=4)
OTHER = StoreSchema(model="other", fingerprint="other-1", dimension=6)


@pytest.fixture
def server() -> Iterator[QdrantServer]:
    with running() as server:
        yield server


def opened(server: QdrantServer, name: str, schema: StoreSchema = SCHEMA, *, alias: bool = False) -> QdrantStore:
    store = QdrantStore(name, url=server.url, alias=alias)
    store.ensure(schema)
    return store


def ones(count: int, dimension: int = 4) -> FloatArray:
    return np.ones((count, dimension), np.float32)


def test_a_name_is_an_alias_from_the_start_and_moves(server: QdrantServer) -> None:
    for _ in range(2):
        store = opened(server, "photos", alias=True)
        assert server.aliases == {"photos": "photos_1"}
    store.upsert([Record(1)], ones(1))
    store.set_index_metadata("terms", "one")
    new = opened(server, "photos_2", OTHER)
    new.upsert([Record(2)], ones(1, 6))
    new.set_index_metadata("terms", "two")
    server.forget_requests()
    assert store.switch_to("photos_2") == "photos_1"
    (body,) = server.asked("POST", r"/collections/aliases.*")  # one request, between whose halves nobody can look
    assert [next(iter(action)) for action in body["actions"]] == ["delete_alias", "create_alias"]
    with pytest.raises(StoreError, match="ensure"):
        store.count()
    assert store.ensure(SCHEMA) == OTHER
    assert [record.id for record in store.scan()] == [2]
    assert store.get_index_metadata("terms") == "two"
    assert store.switch_to("photos_1") == "photos_2"  # and back
    assert opened(server, "photos").get_index_metadata("terms") == "one"
    store.close()
    new.close()


def test_searches_never_miss_it(server: QdrantServer) -> None:
    """While the alias moves to and fro, every request finds a whole index."""
    mover, reader = opened(server, "photos", alias=True), opened(server, "photos")
    mover.upsert([Record(1)], ones(1))
    opened(server, "photos_2").upsert([Record(1)], ones(1))
    done = threading.Event()
    found: list[int] = []

    def search() -> None:
        while not done.is_set():
            found.append(len(reader.search(ones(1), limit=5)[0]))

    thread = threading.Thread(target=search)
    thread.start()
    for target in ("photos_2", "photos_1") * 10:
        mover.switch_to(target)
    done.set()
    thread.join()
    assert set(found) == {1}
    mover.close()
    reader.close()


def test_a_collection_of_its_own_name_cannot_move(server: QdrantServer) -> None:
    store = opened(server, "photos")
    opened(server, "photos_2").close()
    with pytest.raises(StoreError, match=r"'photos' is the name of a collection, not an alias.*'photos_2'"):
        store.switch_to("photos_2")
    assert store.count() == 0  # it is open as before
    with pytest.raises(StoreError, match="without alias=True"):
        opened(server, "photos", alias=True)
    assert server.aliases == {}
    store.close()


def test_an_alias_goes_to_an_index_only(server: QdrantServer) -> None:
    """Else the next search would fail, or find what an unknown embedder made."""
    store = opened(server, "photos", alias=True)
    client = QdrantClient(url=server.url, check_compatibility=False)
    client.create_collection("foreign", vectors_config=models.VectorParams(size=4, distance=models.Distance.COSINE))
    with pytest.raises(StoreError, match="no collection 'nothing'"):
        store.switch_to("nothing")
    with pytest.raises(StoreError, match="'foreign' holds no index"):
        store.switch_to("foreign")
    with pytest.raises(ConfigurationError):
        store.switch_to("")
    assert server.aliases == {"photos": "photos_1"}
    client.close()
    store.close()


def test_many_processes_create_one(server: QdrantServer) -> None:
    stores = [QdrantStore("photos", url=server.url, alias=True) for _ in range(6)]
    failures: list[Exception] = []

    def ensure(store: QdrantStore) -> None:
        try:
            store.ensure(SCHEMA)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=ensure, args=[store]) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert server.aliases == {"photos": "photos_1"}
    assert set(server.collections) == {"photos_1"}
    for store in stores:
        store.close()


def test_a_token_for_the_alias_opens_it_though_it_may_not_list_it(server: QdrantServer) -> None:
    for name in ("photos", "plain"):
        store = QdrantStore(name, url=server.url, alias=name == "photos")
        store.ensure(SCHEMA)
        store.close()
    server.key, server.tokens = "the-key-of-all", {"the-token-of-one": {"photos": "rw", "plain": "rw"}}
    store = QdrantStore("photos", url=server.url, api_key="the-token-of-one", alias=True)
    store.ensure(SCHEMA)
    assert store.count() == 0
    store.close()
    with pytest.raises(StoreError, match="'plain' is the name of a collection, not an alias"):
        QdrantStore("plain", url=server.url, api_key="the-token-of-one", alias=True).ensure(SCHEMA)


def test_the_second_collection_of_an_old_server_moves_along(server: QdrantServer) -> None:
    """Before 1.16 it holds the schema and the index metadata."""
    server.version = "1.15.5"
    store = opened(server, "photos", alias=True)
    store.set_index_metadata("terms", "one")
    assert server.aliases == {"photos": "photos_1", "photos__multimodal_search": "photos_1__multimodal_search"}
    new = opened(server, "photos_2", OTHER)
    new.set_index_metadata("terms", "two")
    assert store.switch_to("photos_2") == "photos_1"
    assert store.ensure(SCHEMA) == OTHER
    assert store.get_index_metadata("terms") == "two"
    server.version = "1.20.0"  # after an upgrade of the server, too
    newest = opened(server, "photos_3")
    assert store.switch_to("photos_3") == "photos_2"
    assert store.ensure(OTHER) == SCHEMA
    assert store.get_index_metadata("terms") is None
    for each in (store, new, newest):
        each.close()


def test_local_mode_has_aliases_too() -> None:
    store = QdrantStore("photos", location=":memory:", alias=True)
    store.ensure(SCHEMA)
    store.upsert([Record(1)], ones(1))
    assert store.count() == 1
    store.close()


def test_a_walk_for_a_glob_is_not_kept_for_another_collection_or_after_another_stores_writes(
    server: QdrantServer,
) -> None:
    server.version = "1.19.0"  # which knows no substrings
    where = {"filename": {"glob": "*.j*g"}}
    for number, name in enumerate(["first", "second"]):
        opened(server, name).upsert([Record(number, {"filename": f"{name}.jpg"})], ones(1))
    store = opened(server, "photos", alias=True)
    for number, name in enumerate(["first", "second"]):
        store.switch_to(name)
        store.ensure(SCHEMA)
        assert [record.id for record in store.scan(where=where)] == [number]
    opened(server, "second").upsert([Record(7, {"filename": "new.jpg"})], ones(1))
    assert [record.id for record in store.scan(where=where)] == [1, 7]
