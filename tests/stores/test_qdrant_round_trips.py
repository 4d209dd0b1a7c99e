"""How many requests that wait for each other an operation on a Qdrant server takes, and that its answer stays the same.

A cloud is 30 to 80 ms away. The server counts; it takes its time, so that what can be sent at once is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient
from qdrant_grpc_server import running_grpc
from qdrant_rest_server import QdrantServer, running
from tiny_embedder import TinyEmbedder

from multimodal_search import (
    ContentError,
    Item,
    MemoryStore,
    MultimodalIndex,
    QdrantStore,
    Record,
    SearchHit,
    Text,
    VectorStore,
)
from multimodal_search.stores.qdrant import candidates

COUNT = 700
DIMENSION = TinyEmbedder().spec.dimension
ROWS = np.random.default_rng(5).standard_normal((COUNT, DIMENSION)).astype(np.float32)
ROWS[50:60] = ROWS[50]  # equal scores
ROWS[300:310] = ROWS[300] + 1e-3 * np.random.default_rng(6).standard_normal((10, DIMENSION)).astype(np.float32)
TAGS: Sequence[Any] = ("a", "b", ["a", "b"], ["b", "c"], ["c"], [], None, 1, 1.5, True, {"x": 1}, ["a", 2])


def payload(number: int) -> dict[str, Any]:
    return {
        "filename": f"{number}.jpg",
        "modality": "image",
        "caption": " ".join(["red", *(["sky"] * (number % 40)), f"w{number % 9}"]),
        "album": f"album {number % 5}",
        "city": f"city {number % 350}",
        "lists": ["x", "y"] if number % 3 else ["y", f"z{number % 4}"],
        "tags": TAGS[number % len(TAGS)],
        "n": number,
    }


RECORDS = [Record(number, payload(number), vector=row) for number, row in enumerate(ROWS)]


def filled(store: VectorStore) -> MultimodalIndex:
    index = MultimodalIndex(TinyEmbedder(), store)
    index.add_vectors(RECORDS, progress=False)
    return index


@pytest.fixture(scope="module")
def shared() -> Iterator[QdrantServer]:
    with running() as server:
        filled(QdrantStore("photos", url=server.url)).close()
        yield server


@pytest.fixture
def server(shared: QdrantServer) -> Iterator[QdrantServer]:
    shared.latency_s = 0.02
    yield shared
    shared.latency_s = 0.0


def trips(server: QdrantServer, call: Callable[[], object]) -> int:
    server.forget_requests()
    call()
    return server.round_trips()


@pytest.fixture
def index(server: QdrantServer) -> Iterator[MultimodalIndex]:
    with MultimodalIndex(TinyEmbedder(), QdrantStore("photos", url=server.url)) as index:
        index.search("red")  # reads the calibration
        yield index


def test_the_first_search_reads_the_calibration_once(server: QdrantServer) -> None:
    with MultimodalIndex(TinyEmbedder(), QdrantStore("photos", url=server.url)) as index:
        assert trips(server, lambda: index.search("red")) == 2
        assert trips(server, lambda: index.search("red")) == 1
        assert trips(server, lambda: index.search("red", where={"album": "none"})) == 1


@pytest.mark.parametrize(
    ("settings", "most"),
    [
        ({}, 1),
        ({"offset": 20}, 1),
        ({"offset": COUNT - 5}, 1),
        ({"diversity": 0.5}, 1),
        ({"deduplicate": 0.99}, 1),
        ({"diversity": 0.5, "deduplicate": 0.99, "offset": 30}, 3),  # a full block of hits that are kept
        ({"group_by": "city"}, 1),
        ({"group_by": "album"}, 2),
        ({"group_by": "album", "group_size": 3}, 2),
    ],
    ids=str,
)
def test_a_search_takes_as_few_round_trips_as_it_can(
    server: QdrantServer, index: MultimodalIndex, settings: dict[str, Any], most: int
) -> None:
    assert trips(server, lambda: index.search("red", **settings)) <= most


def test_many_searches_are_one_request(server: QdrantServer, index: MultimodalIndex) -> None:
    assert trips(server, lambda: index.search_many(list(ROWS[100:200]), limit=3)) == 1
    assert len(server.requests) == 1


def test_similar_reads_the_example_and_searches(server: QdrantServer, index: MultimodalIndex) -> None:
    assert trips(server, lambda: index.similar(3, diversity=0.4)) == 2


def test_hybrid_search_asks_for_words_and_vectors_at_once(server: QdrantServer, index: MultimodalIndex) -> None:
    def search() -> object:
        return index.search("w3", keyword_weight=0.5)

    search()  # makes the full-text index
    assert trips(server, search) == 2


def test_a_walk_for_a_glob_serves_the_next_pages_until_something_is_written(
    server: QdrantServer, index: MultimodalIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = {"filename": {"glob": "*5.jpg"}}
    server.version = "1.19.0"
    try:
        first = index.search("red", limit=5, where=where)
        assert trips(server, lambda: index.search("red", limit=5, offset=5, where=where)) == 1
        assert trips(server, lambda: index.search("green", where=where)) == 1
        index.add_vectors([Record(9_005, {"filename": "9005.jpg"}, vector=ROWS[0])], progress=False)
        assert 9_005 in {hit.id for hit in index.search(ROWS[0], limit=3, where=where)}
        index.delete([9_005])
        assert 9_005 not in {hit.id for hit in index.search(ROWS[0], limit=3, where=where)}
        assert [hit.id for hit in index.search("red", limit=5, where=where)] == [hit.id for hit in first]
        monkeypatch.setattr(candidates, "KEPT_S", -1.0)  # others may have written
        index.delete([9_005])
        index.search("red", where=where)
        assert trips(server, lambda: index.search("red", where=where)) > 1
    finally:
        server.version = "1.20.0"


def test_adding_texts_looks_each_thing_up_once() -> None:
    with running() as server, filled(QdrantStore("photos", url=server.url)) as index:
        index.calibrate()
        server.latency_s = 0.02
        texts = [Item(Text(f"text {number}")) for number in range(10)]
        assert trips(server, lambda: index.add(texts, progress=False)) <= 6
        assert trips(server, lambda: index.add(texts, progress=False)) <= 2


# -- the answers stay the same -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["rest", "grpc"])
def indexes(request: pytest.FixtureRequest, shared: QdrantServer) -> Iterator[tuple[MultimodalIndex, MultimodalIndex]]:
    """An index on a server, and the same in memory."""
    memory = filled(MemoryStore())
    if request.param == "rest":
        with MultimodalIndex(TinyEmbedder(), QdrantStore("photos", url=shared.url)) as index:
            yield index, memory
        return
    with running_grpc() as port:
        client = QdrantClient(
            url="http://127.0.0.1", grpc_port=port, prefer_grpc=True, timeout=30, check_compatibility=False
        )
        with filled(QdrantStore("photos", client=client)) as index:
            yield index, memory
        client.close()


def seen(hits: Sequence[SearchHit]) -> list[Any]:
    return [(hit.id, hit.payload, hit.group, seen(hit.duplicates)) for hit in hits]


@pytest.mark.parametrize("seed", range(30))
def test_random_searches_equal_those_in_memory(indexes: tuple[MultimodalIndex, MultimodalIndex], seed: int) -> None:
    """Hit by hit: mixtures, filters, pages, diversity, groups, near-duplicates."""
    random = np.random.default_rng(seed)
    query = ROWS[random.integers(COUNT)] + random.choice([0.0, 0.3, 1.0]) * random.standard_normal(DIMENSION)
    settings: dict[str, Any] = {"limit": int(random.choice([1, 7, 40, 300])), "offset": int(random.choice([0, 3, 250]))}
    if random.random() < 0.5:
        settings["where"] = [{"n": {"gte": 100}}, {"album": ["album 1", "album 3"]}, {"not": {"tags": "a"}}][seed % 3]
    if random.random() < 0.3:
        settings["min_score"] = 0.0
    match seed % 4:
        case 0:
            settings["diversity"] = 0.4
        case 1:
            settings["deduplicate"] = 0.99
        case 2:
            settings["group_by"] = str(random.choice(["album", "city", "lists", "tags"]))
            settings["group_size"] = int(random.choice([1, 1, 3]))
    server, memory = indexes
    found, expected = (index.search(query.astype(np.float32), **settings) for index in (server, memory))
    assert seen(found) == seen(expected), settings
    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-5)


def test_similar_equals_that_in_memory(indexes: tuple[MultimodalIndex, MultimodalIndex]) -> None:
    for settings in ({}, {"diversity": 0.3, "limit": 220}, {"deduplicate": 0.99, "offset": 190}):
        server, memory = (index.similar([50, 301], unlike=7, **settings) for index in indexes)  # type: ignore[arg-type]
        assert seen(server) == seen(memory)


def test_what_is_written_over_the_wire_is_what_was_given(indexes: tuple[MultimodalIndex, MultimodalIndex]) -> None:
    store = indexes[0].store
    fields = {"é": None, "deep": {"a": [1, 1.0, True, {"b": []}]}, "big": 2**53 + 1, "text": '"\\\n\x00\U0001f98a'}
    key = "0191e2a8-0000-7000-8000-000000000001"
    store.upsert([Record(2**63, fields), Record(key, fields)], ROWS[:2])
    for record, row in zip(store.get([2**63, key], with_vectors=True), ROWS, strict=False):
        assert record is not None
        assert record.payload == fields
        assert [type(value) for value in record.payload["deep"]["a"][:3]] == [int, float, bool]
        assert record.vector == pytest.approx(row / np.linalg.norm(row), abs=1e-6)
    with pytest.raises(ContentError, match="77"):
        store.upsert([Record(1), Record(77, {"a": {1, 2}})], ROWS[:2])
    store.delete([2**63, key])
