"""`QdrantStore` on servers in strict mode: filters get the indexes that they need, requests keep within the limits."""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from qdrant_cases import SCHEMA, ones, opened
from qdrant_client import QdrantClient, models
from qdrant_rest_server import QdrantServer, RefusalError, running

from multimodal_search import (
    ColorEmbedder,
    MemoryStore,
    MultimodalIndex,
    QdrantEdgeStore,
    QdrantStore,
    QueryError,
    Record,
    StoreError,
    StoreUnavailableError,
    VectorStore,
)
from multimodal_search.protocols import counts_exactly
from multimodal_search.testing._filter_cases import CASES, PAYLOADS
from multimodal_search.testing.notes import IndexMetadataContract
from multimodal_search.testing.store import VectorStoreContract
from multimodal_search.testing.texts import TextSearchContract

STRICT: dict[str, Any] = {
    "enabled": True,
    "unindexed_filtering_retrieve": False,
    "unindexed_filtering_update": False,
}
LIMITED: dict[str, Any] = {
    "enabled": True,
    "max_query_limit": 100,
    "search_max_batchsize": 10,
    "upsert_max_batchsize": 100,
}
PHOTOS: list[dict[str, Any]] = [
    {
        "label": f"label {n % 7}",
        "year": 2000 + n % 20,
        "taken": f"20{10 + n % 10}-06-01",
        "best": n % 3 == 0,
        "n": n,
        "place": {"name": f"town {n % 3}"},
        "tags": [{"of": "a"}, {"of": f"b{n % 2}"}] if n % 5 else [],
        "filename": f"2024/IMG_{n}.jpg",
    }
    for n in range(60)
]


@pytest.fixture
def server() -> Iterator[QdrantServer]:
    with running(grpc=True) as server:
        server.strict_mode = STRICT
        yield server


@pytest.fixture(params=["rest", "grpc"])
def client(request: pytest.FixtureRequest, server: QdrantServer) -> Iterator[QdrantClient]:
    """A client of each protocol; `grpc` does everything over gRPC."""
    client = QdrantClient(
        url=server.url,
        grpc_port=server.grpc_port,
        prefer_grpc=request.param == "grpc",
        timeout=30,
        check_compatibility=False,
    )
    yield client
    client.close()


def opened_with(client: QdrantClient) -> QdrantStore:
    store = QdrantStore("photos", client=client)
    store.ensure(SCHEMA)
    return store


def filled(server: QdrantServer, **settings: Any) -> QdrantStore:
    store = opened(server, **settings)
    store.upsert([Record(number, photo) for number, photo in enumerate(PHOTOS)], ones(len(PHOTOS)))
    return store


def kinds(server: QdrantServer) -> dict[str, str]:
    return {path: settings["type"] for path, settings in server.indexes["photos"].items()}


def set_strict_mode(server: QdrantServer, **settings: Any) -> None:
    """As whoever runs the server does it, while the store is open."""
    server.collections["photos"].strict_mode = settings


class TestStrict(TextSearchContract, IndexMetadataContract, VectorStoreContract):
    """Every filter on a field without a fitting index is refused, as Qdrant Cloud does."""

    @pytest.fixture
    def open_store(self, server: QdrantServer) -> Callable[[], VectorStore]:
        return lambda: QdrantStore("contract", url=server.url)

    @pytest.fixture
    def in_child(self, server: QdrantServer) -> str:
        return f"from multimodal_search import QdrantStore; store = QdrantStore('contract', url={server.url!r})"


class TestStrictOverGrpc(TestStrict):
    """Whose client builds other messages, and reads strict mode and indexes out of others."""

    @pytest.fixture
    def open_store(self, server: QdrantServer) -> Iterator[Callable[[], VectorStore]]:
        clients: list[QdrantClient] = []

        def open_store() -> VectorStore:
            clients.append(
                QdrantClient(
                    url=server.url, grpc_port=server.grpc_port, prefer_grpc=True, timeout=30, check_compatibility=False
                )
            )
            return QdrantStore("contract", client=clients[-1])

        yield open_store
        for client in clients:
            client.close()


class TestLimited(TestStrict):
    """With limits, too."""

    @pytest.fixture
    def open_store(self, server: QdrantServer) -> Callable[[], VectorStore]:
        server.strict_mode = STRICT | LIMITED
        return lambda: QdrantStore("contract", url=server.url)


# --- indexes


FILTERS: list[tuple[dict[str, Any], int, str, str]] = [
    ({"label": "label 3"}, 9, "label", "keyword"),
    ({"label": ["label 3", "label 4"]}, 17, "label", "keyword"),
    ({"label": {"not_in": ["label 3"]}}, 51, "label", "keyword"),
    ({"label": {"prefix": "lab"}}, 60, "label", "keyword"),
    ({"label": {"glob": "l*[34]"}}, 17, "label", "keyword"),
    ({"year": 2003}, 3, "year", "float"),
    ({"year": [2003, 2004]}, 6, "year", "float"),
    ({"year": {"ne": 2003}}, 57, "year", "float"),
    ({"year": {"gte": 2010}}, 30, "year", "float"),
    ({"taken": {"lt": "2012-01-01"}}, 12, "taken", "datetime"),
    ({"best": True}, 20, "best", "bool"),
    ({"label": None}, 0, "label", "keyword"),
    ({"year": {"exists": True}}, 60, "year", "float"),
    ({"best": {"exists": False}}, 0, "best", "bool"),
    ({"place.name": "town 1"}, 20, "place.name", "keyword"),
    ({"tags[].of": "b1"}, 24, "tags[].of", "keyword"),
    ({"nowhere": None}, 60, "nowhere", "keyword"),
]


@pytest.mark.parametrize(("where", "count", "field", "kind"), FILTERS, ids=str)
def test_the_first_filter_makes_the_index_that_fits(
    server: QdrantServer, client: QdrantClient, where: dict[str, Any], count: int, field: str, kind: str
) -> None:
    """However few points there are; and the second filter costs one request, as elsewhere."""
    with_index = opened_with(client)
    with_index.upsert([Record(number, photo) for number, photo in enumerate(PHOTOS)], ones(len(PHOTOS)))
    assert with_index.count(where) == count
    assert kinds(server)[field] == kind
    assert not [each for each in server.exchanges if each.status >= 400 and each.method != "GET"]  # it asked first
    server.requests.clear()
    assert with_index.count(where) == count
    assert {path.partition("?")[0] for _, path, _ in server.requests} <= {
        "/collections/photos/points/count",
        "/collections/photos/points/scroll",
    }
    with_index.close()


@pytest.mark.parametrize("first", [case for case, _ in CASES], ids=str)
def test_a_field_of_all_kinds_of_values_is_filtered_rightly(server: QdrantServer, first: dict[str, Any]) -> None:
    """A field has one index, which serves one kind of value: others are looked up, with the same answers."""
    store = opened(server)
    names = list(PAYLOADS)
    store.upsert([Record(number, payload) for number, payload in enumerate(PAYLOADS.values())], ones(len(names)))
    store.count(first)
    for where, expected in CASES[:: 1 if first == {"k": "dog"} else 9]:
        assert {names[int(record.id)] for record in store.scan(where=where)} == expected, where
    store.close()


def test_a_slip_does_not_decide_of_what_kind_an_index_is(server: QdrantServer) -> None:
    """The values of the field do."""
    store = filled(server)
    for where in ({"label": 3}, {"year": "2003"}, {"best": {"gte": 3}}, {"n": True}):
        assert store.count(where) == 0
    assert {path: kind for path, kind in kinds(server).items() if path in ("label", "year", "best", "n")} == {
        "label": "keyword",
        "year": "float",
        "best": "bool",
        "n": "float",
    }
    store.close()


def test_large_integers_are_told_apart(server: QdrantServer) -> None:
    """An index of floats takes neighbours for the same: those are read, and decided here."""
    store = opened(server)
    values = [2**63 - 1, 2**63 - 2, -(2**63), 2**53, 2**53 + 1, 2.0**53, 7, 7.0, True, "7"]
    store.upsert([Record(number, {"k": value}) for number, value in enumerate(values)], ones(len(values)))
    for number in range(5):
        assert [record.id for record in store.scan(where={"k": values[number]})] == [number]
    assert [record.id for record in store.scan(where={"k": [7, 2**53 + 1]})] == [4, 6, 7]
    assert kinds(server)["k"] == "float"
    assert [record.id for record in store.scan(where={"k": True})] == [8]
    assert [record.id for record in store.scan(where={"k": "7"})] == [9]
    store.close()


def test_an_index_that_somebody_made_is_used_where_it_serves(server: QdrantServer) -> None:
    """And kept, where it does not."""
    store = filled(server)
    client = store._connection._client
    assert client is not None
    client.create_payload_index("photos", "year", models.PayloadSchemaType.INTEGER)
    client.create_payload_index("photos", "label", models.TextIndexParams(type=models.TextIndexType.TEXT))
    client.create_payload_index("photos", "n", models.PayloadSchemaType.DATETIME)
    again = opened(server)
    assert again.count({"year": 2003}) == 3
    assert again.count({"year": {"gte": 2010}}) == 30
    assert again.count({"label": "label 3"}) == 9
    assert again.count({"label": {"glob": "?abel 3"}}) == 9
    assert again.count({"label": {"prefix": "label"}}) == 60
    assert again.count({"n": {"lt": 7}}) == 7
    assert again.count({"n": [1, 2]}) == 2
    assert {field: kinds(server)[field] for field in ("year", "label", "n")} == {
        "year": "integer",
        "label": "text",
        "n": "datetime",
    }
    again.close()
    store.close()


def test_an_index_without_prefixes_is_made_anew_with_them(server: QdrantServer) -> None:
    """As collections of earlier versions have them; its other settings stay."""
    store = filled(server)
    client = store._connection._client
    assert client is not None
    for field in ("root", "filename"):
        client.create_payload_index(
            "photos", field, models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, on_disk=True)
        )
    store.close()
    again = opened(server)
    assert again.count({"filename": {"prefix": "2024/IMG_1"}}) == 11
    assert again.count({"filename": {"glob": "2024/IMG_1?.jpg"}}) == 10
    assert server.indexes["photos"]["filename"] == {"type": "keyword", "on_disk": True, "prefix": True}
    assert "prefix" not in server.indexes["photos"]["root"]  # which nobody asked for prefixes
    again.close()


def test_a_server_that_knows_no_prefixes_finds_them_all_the_same(server: QdrantServer) -> None:
    """Before 1.19: what has a text in the field is read, and decided here."""
    server.version = "1.18.0"
    store = filled(server)
    assert store.count({"filename": {"prefix": "2024/IMG_1"}}) == 11
    assert store.count({"label": {"glob": "l*[34]"}}) == 17
    store.close()


def test_strict_mode_that_is_switched_on_later_is_met(server: QdrantServer, client: QdrantClient) -> None:
    """The refusal names the index: it is made, and the request sent again, once."""
    server.strict_mode = None
    filled(server).close()
    store = opened_with(client)
    assert store.count({"label": "label 3"}) == 9
    set_strict_mode(server, **STRICT)
    assert store.count({"label": "label 3"}) == 9
    assert len(list(store.scan(where={"year": 2003, "best": True}))) == 1
    assert len(store.search(ones(1), limit=60, where={"taken": {"lt": "2012-01-01"}})[0]) == 12
    assert {"label", "year", "best", "taken"} <= set(kinds(server))
    store.close()


def test_a_peer_that_has_not_heard_of_an_index_is_asked_again() -> None:
    """Behind a balancer: an index is known to the peer that made it, and some milliseconds later to the others."""
    with running(peers=3) as cluster:
        cluster.strict_mode = STRICT
        store = filled(cluster)
        cluster.lag = 4
        for where, count, _, _ in FILTERS:
            assert store.count(where) == count
            assert len(list(store.scan(where=where))) == count
        refusals = {"left": 3}

        def refuse(method: str, path: str) -> None:
            if path.endswith("/count") and refusals["left"]:
                refusals["left"] -= 1
                raise RefusalError(
                    400,
                    'Bad request: Index required but not found for "year" of one of the following types: '
                    "[float, integer]. Help: Create an index for this key or use a different filter.",
                )

        cluster.before = refuse
        assert store.count({"year": 2003}) == 3
        store.close()


def test_an_index_that_somebody_dropped_is_made_again(server: QdrantServer) -> None:
    """So are the library's own."""
    store = filled(server)
    assert store.count({"year": 2003}) == 3
    for field in ("year", "filename"):
        del server.indexes["photos"][field]
    assert store.count({"year": 2003}) == 3
    assert store.count({"filename": "2024/IMG_1.jpg"}) == 1
    assert kinds(server)["year"] == "float"
    store.close()


@pytest.mark.parametrize("where", [{"year": 2003}, {"filename": {"prefix": "2024"}}], ids=str)
def test_an_index_that_the_server_asks_for_in_vain_is_asked_for_once(
    server: QdrantServer, where: dict[str, Any]
) -> None:
    """A server that says so for ever must not be asked for ever."""
    store = filled(server)
    store.count(where)

    def refuse(method: str, path: str) -> None:
        if path.endswith("/count"):
            field = next(iter(where))
            raise RefusalError(
                400, f'Bad request: Index required but not found for "{field}" of one of the following types: [geo].'
            )

    server.before = refuse
    with pytest.raises(QueryError, match="one of the kind"):
        store.count(where)
    store.close()


def test_a_native_filter_gets_the_indexes_that_its_refusal_names(server: QdrantServer) -> None:
    """They cannot be made ahead; two fields are two refusals."""
    store = filled(server)
    native = models.Filter(
        must=[
            models.FieldCondition(key="year", match=models.MatchValue(value=2003)),
            models.FieldCondition(key="place.name", match=models.MatchValue(value="town 1")),
            models.IsNullCondition(is_null=models.PayloadField(key="absent")),
        ],
        must_not=[models.FieldCondition(key="label", match=models.MatchPrefix(prefix="x"))],
    )
    wanted = {n for n, photo in enumerate(PHOTOS) if photo["year"] == 2003 and n % 3 == 1}
    assert store.count(native) == 0  # null is not absent
    native = models.Filter(must=native.must[:2], must_not=native.must_not)  # type: ignore[index]
    assert {record.id for record in store.scan(where={"and": [native, {"best": False}]})} == wanted
    assert kinds(server)["year"] == "integer"
    assert server.indexes["photos"]["label"] == {"type": "keyword", "prefix": True}
    store.close()


def test_a_native_filter_that_needs_another_index_than_there_is_says_so(server: QdrantServer) -> None:
    """A field has one: to replace it would take it from other filters."""
    store = filled(server)
    assert store.count({"year": 2003}) == 3
    native = models.Filter(must=[models.FieldCondition(key="year", match=models.MatchValue(value=2003))])
    with pytest.raises(QueryError, match=r"'year' .*integer.*unindexed_filtering_retrieve.*one of the kind float"):
        store.count(native)
    store.close()


def test_without_index_payload_a_filter_says_which_index_it_needs(server: QdrantServer) -> None:
    """Some keep their collections' indexes themselves."""
    store = filled(server, index_payload=False)
    assert store.count({"filename": "2024/IMG_1.jpg"}) == 1
    with pytest.raises(QueryError, match=r"'year' .*kind float.*index_payload=True"):
        store.count({"year": 2003})
    store.close()


def test_a_key_that_may_not_make_indexes_is_told_which_one_is_wanted(server: QdrantServer) -> None:
    """A token that may only read, or the read-only key."""
    filled(server).close()
    server.key, server.tokens = "all", {"reader": {"photos": "r"}}
    store = opened(server, api_key="reader")
    assert store.count({"filename": {"prefix": "2024/IMG_1"}}) == 11
    with pytest.raises(StoreError, match=r"'year' .*kind float.*API key may not make it"):
        store.count({"year": 2003})
    writer = opened(server, api_key="all")
    assert writer.count({"year": 2003}) == 3
    assert store.count({"year": 2003}) == 3
    writer.close()
    store.close()


def test_more_indexes_than_a_collection_may_have_are_an_error(server: QdrantServer) -> None:
    """Which names the setting; a field that has one can be filtered by."""
    server.strict_mode = STRICT | {"max_payload_index_count": 5}
    store = filled(server)
    assert store.count({"year": 2003}) == 3
    with pytest.raises(QueryError, match=r"'label' .*5 at most \(`max_payload_index_count`\)"):
        store.count({"label": "label 3"})
    assert store.count({"year": 2003, "filename": {"prefix": "2024"}}) == 3
    store.close()


def test_a_collection_may_have_fewer_indexes_than_the_library_has_fields(server: QdrantServer) -> None:
    """It opens, and its points are found where no strict mode asks for the others."""
    server.strict_mode = {"enabled": True, "max_payload_index_count": 2}
    store = filled(server)
    assert len(kinds(server)) == 2
    assert store.count({"sha256": None}) == 60
    store.close()


# --- limits


def test_requests_keep_within_the_limits(server: QdrantServer) -> None:
    """Pages, batches of queries and of points."""
    server.strict_mode = STRICT | LIMITED
    store = opened(server)
    vectors = np.random.default_rng(0).normal(size=(330, 4)).astype(np.float32)
    store.upsert([Record(number, {"half": number % 2}) for number in range(330)], vectors)
    memory = MemoryStore()
    memory.ensure(SCHEMA)
    memory.upsert([Record(number, {"half": number % 2}) for number in range(330)], vectors)
    queries = vectors[:12]
    for limit, offset in ((100, 0), (60, 60), (165, 0), (150, 133), (1_000, 0)):
        for where in (None, {"half": 1}):
            found = store.search(queries, limit=limit, offset=offset, where=where)
            expected = memory.search(queries, limit=limit, offset=offset, where=where)
            assert [[match.id for match in page] for page in found] == [
                [match.id for match in page] for page in expected
            ]
    assert len(list(store.scan())) == 330
    store.delete(range(300))
    assert store.count() == 30
    assert not [each for each in server.exchanges if each.status >= 400 and each.method != "GET"]
    store.close()


def test_equal_scores_come_once_each_over_several_pages(server: QdrantServer) -> None:
    """An engine may put other ones of them on a page than on the next; here it turns them round at each request."""
    server.strict_mode = {"enabled": True, "max_query_limit": 50}
    store = opened(server)
    rows = np.repeat(np.eye(4, dtype=np.float32), 60, axis=0)
    store.upsert([Record(number) for number in range(240)], rows)
    query = np.array([[4, 3, 2, 1]], np.float32)
    for limit in (49, 50, 100, 170, 240, 500):
        page = store.search(query, limit=limit)[0]
        assert [match.id for match in page] == list(range(240))[:limit]
    store.close()


def test_more_values_than_a_condition_may_have_are_several(server: QdrantServer) -> None:
    """One after another, where the number of conditions allows it; else in several requests, where those can be merged.

    Indexing looks for hundreds of names at once.
    """
    server.strict_mode = STRICT | {"condition_max_size": 20, "filter_max_conditions": 4}
    store = filled(server)
    names = [f"2024/IMG_{n}.jpg" for n in range(0, 60, 2)]
    assert len(store.search(ones(1), limit=60, where={"filename": names})[0]) == 30
    many = [f"2024/IMG_{n}.jpg" for n in range(500)]
    assert [record.id for record in store.scan(where={"filename": many}, fields=())] == list(range(60))
    assert store.count({"filename": many, "label": "label 3"}) == 9
    assert store.count({"filename": many, "year": list(range(2000, 2010))}) == 30
    with pytest.raises(QueryError, match=r"25 conditions.* 4 at most \(`filter_max_conditions`"):
        store.search(ones(1), limit=1, where={"filename": many})
    assert not [each for each in server.exchanges if each.status >= 400 and each.method != "GET"]
    store.close()


def test_more_conditions_than_a_filter_may_have_name_the_setting(server: QdrantServer) -> None:
    """What one filter cannot say is one sentence."""
    server.strict_mode = STRICT | {"filter_max_conditions": 20}
    store = filled(server)
    assert len(store.search(ones(1), limit=60, where={"n": list(range(20))})[0]) == 20
    with pytest.raises(QueryError, match=r"30 conditions.* 20 at most \(`filter_max_conditions`"):
        store.search(ones(1), limit=60, where={"n": list(range(30))})
    with pytest.raises(QueryError, match="filter_max_conditions"):
        list(store.scan(where={"and": [{"n": {"lt": n}} for n in range(30)]}))
    store.close()


def test_limits_that_are_lowered_later_are_met(server: QdrantServer) -> None:
    """The collection is asked again when a request is refused."""
    store = filled(server)
    set_strict_mode(server, **STRICT, max_query_limit=20)
    assert len(store.search(ones(1), limit=60)[0]) == 60
    assert len(list(store.scan())) == 60
    store.close()


# --- counting


def test_where_counting_exactly_is_forbidden_it_is_an_estimate(server: QdrantServer) -> None:
    """Of as few points as one request lists, it is exact all the same."""
    server.strict_mode = {"enabled": True, "search_allow_exact": False, "max_query_limit": 20}
    store = filled(server)
    assert not store.counts_exactly
    assert not counts_exactly(store)
    assert store.count({"label": "label 3"}) == 9
    assert store.count({"label": "none"}) == 0
    assert store.count() > 20
    assert not [each for each in server.exchanges if each.status >= 400 and each.method != "GET"]
    assert opened(server).counts_exactly is False
    store.close()
    assert counts_exactly(MemoryStore())


def test_nothing_is_concluded_from_an_estimate(tmp_path: Path, server: QdrantServer) -> None:
    """One that is too low says that no file is missing, and one that differs from what was read, that points are."""

    class Low(QdrantStore):
        def count(self, where: Any = None) -> int:
            return super().count(where) // 2

    server.strict_mode = {"enabled": True, "search_allow_exact": False}
    for number in range(6):
        PIL.Image.new("RGB", (32, 32), (40 * number, 90, 200 - 30 * number)).save(tmp_path / f"{number}.png")
    with MultimodalIndex(ColorEmbedder(), Low("photos", url=server.url), auto_calibrate=False) as index:
        index.sync_folder(tmp_path, progress=False)
        (tmp_path / "3.png").unlink()
        assert index.sync_folder(tmp_path, progress=False).removed == 1
        assert index.verify(progress=False).problems == ()


# --- floats


def test_floats_are_found_again(server: QdrantServer, client: QdrantClient, tmp_path: Path) -> None:
    """Engines that read JSON without round trip store some of them one unit in the last place off."""
    random_ = random.Random(1)
    values = [random_.random() * 10.0 ** random_.randint(-3, 6) for _ in range(300)]
    records = [Record(number, {"k": value}) for number, value in enumerate(values)]
    server.rounds_floats = True
    edge = QdrantEdgeStore(tmp_path / "index")
    writer = opened(server)  # over REST, where numbers are rounded; gRPC then asks for the exact ones
    writer.upsert(records, ones(len(values)))
    writer.close()
    edge.ensure(SCHEMA)
    edge.upsert(records, ones(len(values)))
    for store in (opened_with(client), edge):
        back = [record.payload["k"] for record in store.scan()]
        assert any(came != value for came, value in zip(back, values, strict=True))
        assert all(abs(came - value) <= 2 * math.ulp(value) for came, value in zip(back, values, strict=True))
        for number, value in enumerate(values):
            assert [record.id for record in store.scan(where={"k": value})] == [number]
        store.close()


# --- walks


def test_a_narrow_range_is_no_equality(server: QdrantServer) -> None:
    store = opened(server)
    store.upsert([Record(at, {"n": 2**53 - 1 + at}) for at in range(2)], ones(2))
    assert [record.id for record in store.scan(where={"n": {"gte": 2**53, "lte": 2**53 + 2}})] == [1]
    store.close()


def test_a_walk_does_not_begin_again_with_another_filter(server: QdrantServer) -> None:
    """When the server is away, or in the middle of a walk: the plainer filter is for servers that do not know one."""
    server.strict_mode = None
    store = opened(server)
    store.upsert([Record(n, {"name": f"a/{n}.jpg"}) for n in range(2_500)], ones(2_500))
    where = {"name": {"glob": "a/*?.jpg"}}
    bodies: list[Any] = []
    refusals = {1: 503}  # by the number of the request

    def refuse(body: Any) -> None:
        if isinstance(body, dict) and "limit" in body and "filter" in body:
            bodies.append(body)
            if status := refusals.get(len(bodies)):
                raise RefusalError(status, "Format error in JSON body: no")

    server.check = refuse
    for at, status, error in ((1, 503, StoreUnavailableError), (2, 503, StoreUnavailableError), (2, 400, StoreError)):
        bodies.clear()
        refusals = {at: status}
        with pytest.raises(error):
            store.count(where)
        assert len(bodies) == at
        assert all("prefix" in str(body) for body in bodies)
    bodies.clear()
    refusals = {1: 400}
    assert store.count(where) == 2_500
    assert ["prefix" in str(body) for body in bodies[:2]] == [True, False]
    store.close()


# --- all together


@pytest.mark.parametrize("limits", [{}, {"condition_max_size": 50}], ids=["strict", "limited"])
@pytest.mark.parametrize(
    "ask", [lambda store, where: store.count(where), lambda store, where: len(list(store.scan(where=where)))]
)
def test_the_index_that_a_walk_for_a_glob_needs_is_made_again(
    server: QdrantServer, client: QdrantClient, limits: dict[str, Any], ask: Callable[[VectorStore, Any], int]
) -> None:
    server.strict_mode = STRICT | limits
    store = opened_with(client)
    store.upsert([Record(number, {"note": f"some words {number}"}) for number in range(20)], ones(20))
    where = {"note": {"glob": "*words 1?"}}
    assert store.count(where) == 10
    server.indexes["photos"].pop("note")
    store.upsert([Record(99, {})], ones(1))  # so that the walk is made again
    assert ask(store, where) == 10


def test_an_index_that_was_replaced_by_another_kind_is_told_in_one_sentence(
    server: QdrantServer, client: QdrantClient
) -> None:
    store = opened_with(client)
    store.upsert([Record(1, {"n": 3})], ones(1))
    native = models.Filter(must=[models.FieldCondition(key="n", match=models.MatchValue(value=3))])
    assert store.count(native) == 1
    server.indexes["photos"]["n"] = {"type": "float"}
    with pytest.raises(QueryError, match=r"'n' of .* of the kind integer, .* has one of the kind float,"):
        store.count(native)
    assert store.count({"n": 3}) == 1


@pytest.mark.parametrize("lacking", ["range", "lookup"])
def test_an_index_of_integers_may_serve_equality_or_ranges_alone(
    server: QdrantServer, client: QdrantClient, lacking: str
) -> None:
    opened_with(client).upsert([Record(number, {"n": number}) for number in range(30)], ones(30))
    server.indexes["photos"]["n"] = {"type": "integer", lacking: False}
    store = opened_with(client)
    assert (store.count({"n": 3}), store.count({"n": [3, 4]}), store.count({"n": {"gte": 3}})) == (1, 2, 27)
    assert store.count({"n": {"gte": "2020-01-01"}}) == 0


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.search(ones(1), limit=3),
        lambda store: store.get([1]),
        lambda store: list(store.scan()),
        lambda store: store.upsert([Record(number, {}) for number in range(60)], ones(60)),
    ],
    ids=["search", "get", "scan", "upsert"],
)
def test_limits_of_writes_and_times_that_are_set_later_are_met(
    server: QdrantServer, ask: Callable[[QdrantStore], object]
) -> None:
    server.strict_mode = None
    store = opened(server, timeout_s=90)
    store.upsert([Record(1, {})], ones(1))
    set_strict_mode(server, enabled=True, max_timeout=70, upsert_max_batchsize=10)
    ask(store)
    assert store.count() in {1, 60}
    store.close()


def test_searches_take_no_more_than_the_limits_of_their_settings(server: QdrantServer) -> None:
    server.strict_mode = {"enabled": True, "search_max_oversampling": 2.0, "search_max_hnsw_ef": 10}
    filled(server, oversampling=4.0, hnsw_ef=50).search(ones(1), limit=3)
    [request, *_] = server.asked("POST", ".*/points/query/batch.*")
    assert request["searches"][0]["params"] == {"hnsw_ef": 10, "quantization": {"oversampling": 2.0}}


def random_filter(source: random.Random, depth: int = 0) -> dict[str, Any]:
    field = source.choice(["label", "year", "taken", "best", "n", "place.name", "tags[].of", "mixed", "none"])
    value: Any = source.choice([0, 1, 1.0, 2003, 2003.5, "label 3", "town 1", "a", "b1", True, False, None, "x", 0.5])
    kind = source.randrange(10 if depth < 2 else 7)
    match kind:
        case 0 | 1:
            return {field: value}
        case 2:
            return {field: [source.choice([1, 2003, "label 3", 0.5, True]) for _ in range(source.randrange(4))]}
        case 3:
            return {field: {"gte": source.choice([0, 2005, 0.5, "2013-01-01"])}}
        case 4:
            return {field: {"exists": source.random() < 0.5}}
        case 5:
            return {field: {"prefix": source.choice(["", "la", "town", "2", "a"])}}
        case 6:
            return {field: {"glob": source.choice(["*3", "l*[34]", "?own 1", "201?-*"])}}
        case 7:
            return {"not": random_filter(source, depth + 1)}
        case 8:
            return {"or": [random_filter(source, depth + 1) for _ in range(source.randrange(3))]}
    return {"and": [random_filter(source, depth + 1) for _ in range(source.randrange(3))]}


@pytest.mark.parametrize("limits", [{}, LIMITED | {"search_allow_exact": False}], ids=["strict", "limited"])
def test_200_random_filters_find_what_a_look_at_everything_finds(
    server: QdrantServer, client: QdrantClient, limits: dict[str, Any]
) -> None:
    """`MemoryStore` evaluates filters itself."""
    server.strict_mode = STRICT | limits
    mixed: list[Any] = [0, 1, 1.0, 0.5, True, "a", "x", None, [], [1, "a"], {"b": 1}, "2013-01-01"]
    payloads = [photo | {"mixed": mixed[n % len(mixed)]} for n, photo in enumerate(PHOTOS)]
    rows = np.random.default_rng(3).normal(size=(60, 4)).astype(np.float32)
    memory, store = MemoryStore(), opened_with(client)
    for each in (memory, store):
        each.ensure(SCHEMA)
        each.upsert([Record(number, payload) for number, payload in enumerate(payloads)], rows)
    source = random.Random(5)
    for _ in range(200):
        where = random_filter(source)
        expected = [record.id for record in memory.scan(where=where)]
        assert [record.id for record in store.scan(where=where)] == expected, where
        assert store.count(where) == len(expected), where
        (page,) = store.search(rows[:1], limit=20, where=where)
        assert [match.id for match in page] == [
            match.id for match in memory.search(rows[:1], limit=20, where=where)[0]
        ], where
    store.close()


@pytest.mark.parametrize(
    "limits",
    [
        {},
        LIMITED
        | {
            "search_allow_exact": False,
            "filter_max_conditions": 8,
            "condition_max_size": 16,
            "max_payload_index_count": 6,
        },
    ],
    ids=["strict", "limited"],
)
def test_an_index_works_whole(server: QdrantServer, tmp_path: Path, shared_data: Path, limits: dict[str, Any]) -> None:
    """Indexing, searching, what is similar, duplicates, groups, verification, export, and following a folder."""
    server.strict_mode = STRICT | limits
    folder = tmp_path / "photos"
    folder.mkdir()
    photos = sorted((shared_data / "flickr8k_test" / "images").iterdir())[:130]
    for number, photo in enumerate(photos):
        shutil.copy(photo, folder / f"{number % 3}_{photo.name}")
    shutil.copy(photos[0], folder / "copy.jpg")
    embedder = ColorEmbedder()
    with MultimodalIndex(embedder, QdrantStore("photos", url=server.url)) as index:
        assert index.add_images(folder, progress=False).added == 131
        assert index.add_images(folder, progress=False).unchanged == 131
        hits = index.search("red", limit=20, where={"filename": {"prefix": "1_"}})
        assert len(hits) == 20
        assert index.search("red", limit=120, where={"filename": {"glob": "[12]_*"}})
        assert index.similar(hits[0].id, limit=5)
        assert any(len(group) == 2 for group in index.duplicates(progress=False))
        assert index.search("red", limit=5, group_by="root")
        assert index.search("red", limit=3, where={"size": {"gte": 1}, "modality": "image"})
        assert index.verify(progress=False).problems == ()
        index.export(tmp_path / "all.parquet")
        (folder / "copy.jpg").unlink()
        (folder / f"0_{photos[0].name}").rename(folder / "moved.jpg")
        report = index.sync_folder(folder, progress=False)
        assert (report.removed, report.failed) == (1, ())
        assert limits or index.count() == 130  # else it is an estimate
    assert not [each for each in server.exchanges if each.status == 400]
