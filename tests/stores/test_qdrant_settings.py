"""The settings of a collection and of its searches: what the server is asked for, and what is told of it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from qdrant_cases import SCHEMA, ones, opened
from qdrant_client import QdrantClient, models
from qdrant_rest_server import QdrantServer, running

from multimodal_search import (
    ColorEmbedder,
    ConfigurationError,
    MultimodalIndex,
    QdrantStore,
    QueryError,
    Record,
    StoreRef,
    Text,
    TuningReport,
)
from multimodal_search.stores.qdrant import QdrantSettings
from multimodal_search.stores.qdrant.settings import CollectionSettings


@pytest.fixture
def server() -> Iterator[QdrantServer]:
    with running() as server:
        yield server


# --- creating


def test_a_collection_is_created_with_its_settings(server: QdrantServer) -> None:
    opened(
        server,
        shard_number=3,
        replication_factor=2,
        write_consistency_factor=2,
        on_disk=True,
        on_disk_payload=False,
        datatype="float16",
        quantization="int8",
        hnsw_m=32,
        hnsw_ef_construct=200,
        hnsw_on_disk=True,
    ).close()
    (body,) = server.asked("PUT", r"/collections/photos(\?.*)?")
    del body["metadata"]
    assert body == {
        "vectors": {"size": 4, "distance": "Cosine", "on_disk": True, "datatype": "float16"},
        "shard_number": 3,
        "replication_factor": 2,
        "write_consistency_factor": 2,
        "on_disk_payload": False,
        "hnsw_config": {"m": 32, "ef_construct": 200, "on_disk": True},
        "quantization_config": {"scalar": {"type": "int8", "always_ram": True}},
    }


def test_what_is_not_set_is_left_to_the_server(server: QdrantServer) -> None:
    opened(server).close()
    (body,) = server.asked("PUT", r"/collections/photos(\?.*)?")
    assert body.keys() == {"vectors", "metadata"}
    assert body["vectors"] == {"size": 4, "distance": "Cosine"}


def test_a_quantization_of_the_client_is_taken_as_it_is(server: QdrantServer) -> None:
    product = models.ProductQuantization(product=models.ProductQuantizationConfig(compression="x16"))
    opened(server, quantization=product).close()
    (body,) = server.asked("PUT", r"/collections/photos(\?.*)?")
    assert body["quantization_config"] == {"product": {"compression": "x16"}}
    opened(server, quantization=product).close()  # and known again


# --- searching


def searches(server: QdrantServer) -> list[Any]:
    return [body["searches"][0].get("params") for body in server.asked("POST", r".*/points/query/batch.*")]


def test_filters_search_with_acorn(server: QdrantServer) -> None:
    """The graph alone loses the neighbours of a filter that one point in five passes."""
    store = opened(server)
    store.search(ones(1), limit=1)
    store.search(ones(1), limit=1, where={"filename": "a"})
    assert searches(server) == [None, {"acorn": {"enable": True}}]
    server.forget_requests()
    store = opened(server, acorn=False)
    store.search(ones(1), limit=1, where={"filename": "a"})
    assert searches(server) == [None]
    store.close()


def test_each_search_has_the_settings_of_its_store(server: QdrantServer) -> None:
    store = opened(server, hnsw_ef=256, rescore=True, oversampling=2)
    store.search(ones(1), limit=1)
    assert searches(server) == [{"hnsw_ef": 256, "quantization": {"rescore": True, "oversampling": 2.0}}]
    store.close()


@pytest.mark.parametrize(("given", "sent"), [("majority", "majority"), ("all", "all"), (2, "2"), (None, None)])
def test_readings_ask_for_copies_that_agree(server: QdrantServer, given: Any, sent: str | None) -> None:
    store = opened(server, read_consistency=given)
    store.upsert([Record(1, {"t": "a"})], ones(1))
    server.forget_requests()
    store.search(ones(1), limit=1)
    store.get([1])
    list(store.scan())
    store.search_text("a", limit=1)
    read = [path for method, path, _ in server.requests if method == "POST"]
    assert len(read) == 4
    assert [f"consistency={sent}" in path for path in read] == [sent is not None] * 4
    store.close()


# --- collections that exist


def test_other_settings_are_told_and_changed_when_asked_to(server: QdrantServer) -> None:
    """A graph of a hundred million points takes hours: opening an index must not begin to build it anew."""
    opened(server, on_disk=True).close()
    wanted: QdrantSettings = {
        "shard_number": 6,
        "datatype": "float16",
        "on_disk": False,
        "replication_factor": 2,
        "hnsw_m": 32,
        "quantization": "binary",
    }
    with pytest.warns(RuntimeWarning) as told:
        store = opened(server, **wanted)
    (said,) = [str(each.message) for each in told]
    assert said == (
        "the collection 'photos' was created with other settings, shard_number=1 and replication_factor=1 and "
        "on_disk=True and datatype='float32' and hnsw_m=16 and quantization=None, and keeps them: update_settings() "
        "changes replication_factor and on_disk and hnsw_m and quantization; shard_number and datatype can only be "
        "chosen for a new collection"
    )
    assert not server.asked("PATCH", ".*")
    assert store.update_settings() == ("replication_factor", "on_disk", "hnsw_m", "quantization")
    (body,) = server.asked("PATCH", ".*")
    assert body == {
        "params": {"replication_factor": 2},
        "vectors": {"": {"on_disk": False}},
        "hnsw_config": {"m": 32},
        "quantization_config": {"binary": {"always_ram": True}},
    }
    assert store.update_settings() == ()
    assert len(server.asked("PATCH", ".*")) == 1
    store.close()
    del wanted["shard_number"], wanted["datatype"]
    opened(server, **wanted).close()  # without a word


def test_a_store_without_settings_opens_any_collection_quietly(server: QdrantServer) -> None:
    opened(server, shard_number=6, quantization="int8", hnsw_m=8, datatype="float16").close()
    opened(server).close()


@pytest.mark.parametrize(
    ("reported", "differs"),
    [
        ({"memory": "cold"}, False),
        ({"memory": "cached"}, True),
        ({"memory": "cached", "on_disk": True}, True),
        ({"on_disk": True}, False),
    ],
)
def test_newer_servers_say_in_other_words_what_is_on_disk(reported: dict[str, Any], differs: bool) -> None:
    info = models.CollectionInfo.model_validate(
        {
            "status": "green",
            "optimizer_status": "ok",
            "segments_count": 1,
            "payload_schema": {},
            "config": {
                "params": {"vectors": {"size": 4, "distance": "Cosine"} | reported},
                "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000},
                "optimizer_config": {"default_segment_number": 0, "flush_interval_sec": 5},
                "quantization_config": {"scalar": {"type": "int8", "memory": "pinned"}},
            },
        }
    )
    assert ("on_disk" in CollectionSettings(on_disk=True, quantization="int8").differing(info, 16)) is differs
    assert "quantization" not in CollectionSettings(quantization="int8").differing(info, 16)


def test_local_mode_has_no_use_for_settings() -> None:
    """And says nothing, so that a program can be tried out without a server."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = QdrantStore(
            "photos", location=":memory:", shard_number=2, quantization="int8", hnsw_ef=64, bulk_load=True
        )
        store.ensure(SCHEMA)
        store.upsert([Record(1, {"filename": "a"})], ones(1))
        assert [hit.id for hit in store.search(ones(1), limit=1, where={"filename": "a"})[0]] == [1]
        assert not store.needs_optimize
        store.close()


# --- values


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("shard_number", [0, -1, 1.5, True, "2"]),
        ("replication_factor", [0, "2"]),
        ("write_consistency_factor", [0]),
        ("shard_key_field", ["", 1]),
        ("on_disk", [1, "yes"]),
        ("on_disk_payload", [0]),
        ("datatype", ["float64", "uint8", 16, ["float16"]]),
        ("quantization", ["int4", 8, True, {"scalar": {}}, np.ones(2)]),
        ("hnsw_m", [-1, 2.0]),
        ("hnsw_ef_construct", [3]),
        ("hnsw_on_disk", ["no"]),
        ("bulk_load", [None, 1]),
        ("alias", ["photos", None]),
        ("read_consistency", [0, "most", True, 1.0]),
        ("hnsw_ef", [0]),
        ("acorn", [None, 0.4]),
        ("rescore", [1]),
        ("oversampling", [0.5, "2", True, float("nan"), float("inf")]),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(name: str, values: list[Any]) -> None:
    assert name in QdrantSettings.__annotations__
    for value in values:
        settings: Any = {name: value}
        with pytest.raises(ConfigurationError, match=rf"^{name} must be "):
            QdrantStore("photos", url="http://localhost:1", **settings)


def test_settings_go_with_a_reference() -> None:
    """Another process makes its own store of it."""
    reference = StoreRef("qdrant", collection="photos", url="http://localhost:1", quantization="int8", hnsw_ef=64)
    assert "photos" in repr(reference.load())


def test_everything_goes_over_grpc_too() -> None:
    with running(grpc=True) as server:
        client = QdrantClient(
            url=server.url, grpc_port=server.grpc_port, prefer_grpc=True, timeout=30, check_compatibility=False
        )
        settings: QdrantSettings = {
            "alias": True,
            "on_disk": True,
            "datatype": "float16",
            "quantization": "binary",
            "hnsw_m": 24,
            "bulk_load": True,
            "hnsw_ef": 100,
            "read_consistency": "all",
            "oversampling": 3.0,
        }
        store = QdrantStore("photos", client=client, **settings)
        store.ensure(SCHEMA)
        created = server.collections["photos_1"]
        assert created.params["vectors"] == {"size": 4, "distance": "Cosine", "on_disk": True, "datatype": "float16"}
        assert created.quantization == {"binary": {"always_ram": True}}
        assert created.hnsw["m"] == 0
        store.upsert([Record(1, {"filename": "a"})], ones(1))
        server.forget_requests()
        assert [hit.id for hit in store.search(ones(1), limit=1, where={"filename": "a"})[0]] == [1]
        (body,) = server.asked("POST", r".*/points/query/batch.*")
        params = models.QueryRequestBatch.model_validate(body).searches[0].params
        assert params is not None
        assert params.quantization is not None
        assert params.acorn is not None
        assert (params.hnsw_ef, params.quantization.oversampling, params.acorn.enable) == (100, 3.0, True)
        assert store.optimize()
        assert created.hnsw["m"] == 24
        QdrantStore("photos", client=client, **settings).ensure(SCHEMA)  # without a word
        other = QdrantStore("photos", client=client, hnsw_m=48, on_disk=False)
        with pytest.warns(RuntimeWarning, match="hnsw_m=24"):
            other.ensure(SCHEMA)
        assert other.update_settings() == ("on_disk", "hnsw_m")
        assert (created.hnsw["m"], created.params["vectors"]["on_disk"]) == (48, False)
        client.close()


# --- tuning


def _spread(count: int) -> Any:
    """Vectors of which no two are as near to anything: equal scores are asked for again."""
    return np.random.default_rng(0).standard_normal((count, 4)).astype(np.float32)


def _params(server: QdrantServer) -> list[Any]:
    """The parameters of the searches that the server was asked for."""
    batches = server.asked("POST", r"/collections/photos/points/query/batch(\?.*)?")
    return [search.get("params") for batch in batches for search in batch["searches"]]


def test_searches_keep_as_many_candidates_as_were_tuned_also_after_opening_again(server: QdrantServer) -> None:
    """It is kept in the collection's metadata, so that every process searches alike, and no request more is made."""
    store = opened(server)
    store.upsert([Record(number) for number in range(40)], _spread(40))
    store._keep_tuning(TuningReport(target=0.99, points=40, hnsw_ef=192, hnsw_m=16))  # as of a larger one
    store.close()
    again = opened(server)
    before = server.round_trips()
    again.search(ones(1), limit=10)
    assert server.round_trips() == before + 1
    again.search_exactly(ones(1), limit=10)
    assert _params(server) == [{"hnsw_ef": 192}, {"exact": True}]
    assert again.tuning == TuningReport(target=0.99, points=40, hnsw_ef=192, hnsw_m=16)
    again.close()


def test_the_users_own_number_of_candidates_counts_and_its_recall_is_measured(server: QdrantServer) -> None:
    store = opened(server, hnsw_ef=77)
    store.upsert([Record(number) for number in range(40)], _spread(40))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("multimodal_search.stores.qdrant.tuning.TUNE_FROM", 10)
        report = store.tune({"text": np.eye(4, dtype=np.float32)})
    assert (report.hnsw_ef, report.recall) == (77, {"text": 1.0})
    assert {tuple(sorted(params)) for params in _params(server)} == {("exact",), ("hnsw_ef",)}
    store.close()


def test_where_exact_searches_are_forbidden_recall_is_not_measured_and_that_is_said(server: QdrantServer) -> None:
    """A figure that nobody has measured is worse than none."""
    server.strict_mode = {"enabled": True, "search_allow_exact": False, "search_max_hnsw_ef": 200}
    store = opened(server)
    store.upsert([Record(number) for number in range(40)], _spread(40))
    report = store.tune({"text": np.eye(4, dtype=np.float32)})
    assert (report.recall, report.hnsw_ef) == ({}, 200)
    assert "not measured: the collection's strict mode forbids exact searches (`search_allow_exact`)" in str(report)
    store.search(ones(1), limit=10)
    assert _params(server) == [{"hnsw_ef": 200}]
    with pytest.raises(QueryError, match="search without exact=True"):
        store.search_exactly(ones(1), limit=10)
    store.close()


def test_a_server_without_a_graph_is_measured_again_once_it_has_one(
    server: QdrantServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 0 indexed vectors, any number of candidates finds all: the fewest would be too few for the graph to come."""
    monkeypatch.setattr("multimodal_search.stores.qdrant.tuning.TUNE_FROM", 10)
    monkeypatch.setattr("multimodal_search.stores.tuning._EXACT_POINTS", 0)
    store = opened(server)
    store.upsert([Record(number) for number in range(40)], _spread(40))
    queries = {"text": np.eye(4, dtype=np.float32)}
    assert not store.needs_tuning
    report = store.tune(queries)
    assert (report.hnsw_ef, report.hnsw_m, report.recall) == (256, None, {"text": 1.0})
    assert not store.needs_tuning
    server.collections["photos"].indexed_vectors = 40
    assert store.needs_tuning
    assert (store.tune(queries).hnsw_ef, store.needs_tuning) == (64, False)
    store.close()


def test_an_index_on_a_server_that_forbids_exact_searches_says_that_nothing_was_measured(
    server: QdrantServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In its status, and in the log."""
    monkeypatch.setattr("multimodal_search.stores.qdrant.tuning.TUNE_FROM", 10)
    server.strict_mode = {"enabled": True, "search_allow_exact": False}
    with MultimodalIndex(ColorEmbedder(), QdrantStore("photos", url=server.url)) as index:
        rows = np.random.default_rng(0).standard_normal(
            (40, len(ColorEmbedder().embed([Text("red")], role="query")[0]))
        )
        server.collections["photos"].indexed_vectors = 40
        index.add_vectors(Record(number, vector=row) for number, row in enumerate(rows.astype(np.float32)))
        told = "recall@10 was not measured: the collection's strict mode forbids exact searches"
        assert told in str(index.status())
        assert told in caplog.text
        assert "recall was never measured" not in str(index.status())
