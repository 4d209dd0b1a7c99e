"""Payload indexes that filters call for: which are made, that they change no answer, and who may say no."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qdrant_edge as edge
from qdrant_client import models
from qdrant_rest_server import QdrantServer, RefusalError, running

from multimodal_search import QdrantEdgeStore, QdrantStore, QueryError, Record
from multimodal_search.stores.qdrant import filtering, index_creation
from multimodal_search.stores.qdrant_edge import folder as _qdrant_edge_folder
from multimodal_search.testing._filter_cases import CASES, PAYLOADS
from multimodal_search.types import FloatArray, StoreSchema

SCHEMA = StoreSchema(model="tiny", fingerprint="tiny-1", dimension=4)
OURS = {"filename": "keyword", "root": "keyword", "modality": "keyword", "sha256": "keyword"}
PHOTOS: list[dict[str, Any]] = [
    {"label": f"label {n % 7}", "year": 2000 + n % 20, "taken": f"20{10 + n % 10}-06-01", "best": n % 3 == 0, "n": n}
    for n in range(60)
]


def ones(count: int) -> FloatArray:
    return np.ones((count, 4), np.float32)


def photos_in(store: QdrantEdgeStore | QdrantStore) -> None:
    store.ensure(SCHEMA)
    store.upsert([Record(number, photo) for number, photo in enumerate(PHOTOS)], ones(len(PHOTOS)))


def kinds(store: QdrantEdgeStore) -> dict[str, str]:
    """What the engine itself says."""
    schema = store._folder().run(lambda shard: shard.info()).payload_schema
    return {path: str(index.data_type).rpartition(".")[2].lower() for path, index in schema.items()}


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Indexes are made whatever the number of points."""
    monkeypatch.setattr(_qdrant_edge_folder, "INDEX_PAYLOAD_FROM", 0)
    monkeypatch.setattr(index_creation, "INDEX_PAYLOAD_FROM", 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index"


@pytest.fixture
def server() -> Iterator[QdrantServer]:
    with running() as server:
        yield server


ASKED = {
    "label": ({"label": "label 3"}, "keyword"),
    "year": ({"not": {"or": [{"year": 2003}, {"year": [2004, 2005]}]}}, "float"),
    "n": ({"n": {"gte": 1}}, "float"),
    "taken": ({"taken": {"lt": "2013-01-01"}}, "datetime"),
    "best": ({"best": True}, "bool"),
}


# --- in-process


@pytest.mark.usefixtures("at_once")
def test_each_field_asked_for_gets_the_index_that_fits(path: Path) -> None:
    """And keeps it, when the index is opened anew."""
    store = QdrantEdgeStore(path)
    photos_in(store)
    assert kinds(store) == OURS
    for field, (where, kind) in ASKED.items():
        store.count(where)
        assert kinds(store)[field] == kind
    store.close()
    store = QdrantEdgeStore(path)
    store.ensure(SCHEMA)
    made = OURS | {field: kind for field, (_, kind) in ASKED.items()}
    assert kinds(store) == made == store._folder().indexes.kinds
    store.close()


def test_few_points_get_none(path: Path) -> None:
    """Reading some thousand payloads takes no longer than a blink."""
    store = QdrantEdgeStore(path)
    photos_in(store)
    for where, _ in ASKED.values():
        store.count(where)
    assert kinds(store) == OURS
    store.close()


@pytest.mark.usefixtures("at_once")
def test_it_can_be_switched_off(path: Path, server: QdrantServer) -> None:
    """Some keep their collections' indexes themselves."""
    store = QdrantEdgeStore(path, index_payload=False)
    photos_in(store)
    assert store.count({"label": "label 3"}) == 9
    assert kinds(store) == OURS
    store.close()
    with QdrantStoreOn(server, index_payload=False) as remote:
        assert remote.count({"label": "label 3"}) == 9
    assert set(server.indexes["photos"]) == set(OURS)


@pytest.mark.usefixtures("at_once")
def test_a_filter_that_cannot_find_anything_makes_no_index(path: Path) -> None:
    """A slip would settle for ever of which kind the field's index is."""
    store = QdrantEdgeStore(path)
    photos_in(store)
    for where in ({"label": 3}, {"year": "2003"}, {"taken": {"gte": 3}}, {"nowhere": "x"}, {"n": True}):
        assert store.count(where) == 0
    assert kinds(store) == OURS
    assert store.count({"label": "label 3"}) == 9
    assert kinds(store)["label"] == "keyword"
    store.close()


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    "first", [{"k": "dog"}, {"k": 1}, {"k": {"gte": 0}}, {"k": {"gte": "2000-01-01"}}, {"k": True}], ids=str
)
def test_no_index_changes_an_answer(path: Path, first: dict[str, Any]) -> None:
    """Whichever kind of value of a field that holds all kinds is asked for first: the index holds that kind alone."""
    store = QdrantEdgeStore(path)
    store.ensure(SCHEMA)
    names = list(PAYLOADS)
    store.upsert([Record(number, payload) for number, payload in enumerate(PAYLOADS.values())], ones(len(names)))
    store.count(first)
    assert "k" in kinds(store)
    wrong = []
    for where, expected in CASES:
        found = {names[int(record.id)] for record in store.scan(where=where)}
        page = store.search(ones(1), limit=len(names), where=where)[0]
        same = {names[int(match.id)] for match in page} == found and store.count(where) == len(found)
        if found != expected or not same:
            wrong.append((where, found ^ expected, same))
    assert wrong == []
    store.close()


@pytest.mark.usefixtures("at_once")
def test_large_integers_are_told_apart_by_an_index_of_floats(path: Path) -> None:
    """Times in nanoseconds, for which a float has too few bits."""
    store = QdrantEdgeStore(path)
    store.ensure(SCHEMA)
    largest, time_ns = 2**63 - 1, 1_700_000_000_123_456_789
    values = [largest, largest - 1, -largest - 1, time_ns, time_ns + 1, *range(300)]
    store.upsert([Record(number, {"n": value}) for number, value in enumerate(values)], ones(len(values)))
    for value in values[:5]:
        assert [values[int(record.id)] for record in store.scan(where={"n": value})] == [value]
    assert kinds(store)["n"] == "float"
    assert store.count({"n": [time_ns, largest]}) == 2
    assert store.count({"n": [time_ns, largest, *range(100, 250), 1000]}) == 152
    assert store.count({"n": {"not_in": list(range(300))}}) == 5
    store.close()


def test_indexes_outlive_optimizing(path: Path) -> None:
    """It writes every segment anew, in another process."""
    store = QdrantEdgeStore(path)
    store.ensure(SCHEMA)
    random = np.random.default_rng(0)
    for start in range(0, 11_000, 1_000):
        records = [
            Record(number, {"label": f"label {number % 10}", "name": f"{number % 100}/IMG_{number}.jpg"})
            for number in range(start, start + 1_000)
        ]
        store.upsert(records, random.normal(size=(1_000, 4)).astype(np.float32))
    for _ in range(2):
        assert store.count({"label": "label 3"}) == 1_100
        assert store.count({"name": {"glob": "[34]?/*_???3.jpg"}}) == _matching("[34]?/*_???3.jpg")
        assert kinds(store) == OURS | {"label": "keyword", "name": "keyword"}
        if store.needs_optimize:
            assert store.optimize()
    store.close()


def _matching(pattern: str) -> int:
    return sum(fnmatchcase(f"{number % 100}/IMG_{number}.jpg", pattern) for number in range(11_000))


def test_a_filter_costs_no_recall(path: Path) -> None:
    """What does not pass makes holes in the graph, which the search must find its way around."""
    store = QdrantEdgeStore(path)
    store.ensure(StoreSchema(model="wide", fingerprint="wide-1", dimension=1_536))
    random = np.random.default_rng(0)
    centres = random.standard_normal((44, 1_536), np.float32)
    vectors = centres[random.integers(0, 44, 11_000)] + 0.7 * random.standard_normal((11_000, 1_536), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    fifth = random.random(11_000) < 1 / 5
    for start in range(0, 11_000, 500):
        records = [Record(number, {"fifth": bool(fifth[number])}) for number in range(start, start + 500)]
        store.upsert(records, vectors[start : start + 500])
    assert store.optimize()
    queries = vectors[~fifth][:50]
    passing = np.flatnonzero(fifth)
    found = store.search(queries, limit=10, where={"fifth": True})
    nearest = [set(passing[np.argsort(vectors[passing] @ query)[-10:]].tolist()) for query in queries]
    recall = np.mean([len(best & {match.id for match in page}) / 10 for best, page in zip(nearest, found, strict=True)])
    assert recall > 0.98
    store.close()


def test_a_scan_of_a_glob_that_most_points_match_is_whole(path: Path) -> None:
    """Its pages are larger, for the engine looks at every id that the filter lists for each of them."""
    store = QdrantEdgeStore(path)
    store.ensure(SCHEMA)
    store.upsert([Record(number, {"name": f"{number}.jpg"}) for number in range(12_000)], ones(12_000))
    where = {"name": {"glob": "*?.jpg"}}
    assert [record.id for record in store.scan(where=where, fields=())] == list(range(12_000))
    assert store.count(where) == 12_000
    assert store.count({"not": where}) == 0
    store.close()


def test_an_engines_own_filter_stands_within_a_neutral_one(path: Path) -> None:
    """Alone it passes through; here it is one condition among others."""
    store = QdrantEdgeStore(path)
    photos_in(store)
    late = edge.Filter(must=[edge.FieldCondition("n", range=edge.RangeFloat(gte=50))])
    expected = {number for number in range(50, 60) if number % 7 == 3}
    assert {record.id for record in store.scan(where={"and": [late, {"label": "label 3"}]})} == expected
    assert {match.id for match in store.search(ones(1), limit=60, where={"and": [{"label": "label 3"}, late]})[0]} == (
        expected
    )
    assert store.count({"not": late}) == 50
    assert store.count({"or": [late, {"n": {"lt": 5}}]}) == 15
    assert store.count({"and": [late, {"label": {"glob": "label [3]"}}, {"label": {"glob": "?abel*3"}}]}) == 2
    theirs = models.Filter(must=[])
    with pytest.raises(QueryError, match=r"'or' .*Filter"):
        store.count({"or": [theirs]})
    store.close()


# --- on a server


class QdrantStoreOn:
    """A store with the photos in it."""

    def __init__(self, server: QdrantServer, **settings: bool) -> None:
        self._store = QdrantStore("photos", url=server.url, **settings)  # type: ignore[arg-type]

    def __enter__(self) -> QdrantStore:
        photos_in(self._store)
        return self._store

    def __exit__(self, *_: object) -> None:
        self._store.close()


@pytest.mark.usefixtures("at_once")
def test_a_servers_collection_gets_them_too(server: QdrantServer) -> None:
    """Once: later filters cost one request, as before."""
    with QdrantStoreOn(server) as store:
        for where, _ in ASKED.values():
            store.count(where)
        schemas = {field: schema["type"] for field, schema in server.indexes["photos"].items()}
        assert schemas == OURS | {field: kind for field, (_, kind) in ASKED.items()}
        assert server.indexes["photos"]["label"]["prefix"] is True
        server.requests.clear()
        for where, _ in ASKED.values():
            store.count(where)
        assert [path.partition("?")[0] for _, path, _ in server.requests] == ["/collections/photos/points/count"] * 5
        (year,) = [body for body in server.asked("POST", r".*/count.*") if "year" in str(body)]
        assert "'range'" in str(year)
        assert "'match'" not in str(year)  # which an index of floats does not answer


def test_a_servers_small_collection_gets_none_and_is_asked_once_a_minute(server: QdrantServer) -> None:
    """Each request costs a round trip."""
    with QdrantStoreOn(server) as store:
        for asked, ask_from in ((0, None), (1, 0.0)):  # opening has asked; then a minute later
            server.requests.clear()
            store._indexes._ask_from = store._indexes._ask_from if ask_from is None else ask_from
            for _ in range(3):
                store.count({"label": "label 3"})
            assert len(server.asked("GET", r".*/photos")) == asked
        assert set(server.indexes["photos"]) == set(OURS)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("status", [403, 400, 500])
def test_a_server_that_makes_no_index_is_no_error(server: QdrantServer, status: int) -> None:
    """A key that may only read still finds what it asks for, and is not refused again for each search."""
    with QdrantStoreOn(server) as store:

        def refuse(method: str, path: str) -> None:
            if path.endswith("/index"):
                raise RefusalError(status, "Forbidden")

        server.before = refuse
        server.requests.clear()
        for _ in range(3):
            assert store.count({"label": "label 3"}) == 9
        tries = len(server.asked("PUT", r".*/index.*"))
        assert tries == (2 if status == 400 else 1)  # with and without what older servers do not know


@pytest.mark.usefixtures("at_once")
def test_an_index_that_someone_else_made_is_never_replaced(server: QdrantServer) -> None:
    """A server keeps one for each field: making another kind drops the first."""
    with QdrantStoreOn(server) as store:
        server.indexes["photos"]["year"] = {"type": "integer"}
        server.indexes["photos"]["n"] = {"type": "datetime"}
        assert store.count({"year": 2003}) == 3
        assert store.count({"n": {"gte": 50}}) == 10
        assert store.count({"n": 50}) == 1
        assert server.indexes["photos"]["year"] == {"type": "integer"}
        assert server.indexes["photos"]["n"] == {"type": "datetime"}
        assert "range" not in str(server.asked("POST", r".*/count.*"))  # which that index would answer wrongly


def test_an_old_server_resolves_globs_without_narrowing_them(server: QdrantServer) -> None:
    """Before 1.19 it knows no prefixes."""
    with QdrantStoreOn(server) as store:
        expected = [number for number in range(60) if number % 7 in (3, 4)]
        where = {"label": {"glob": "label [34]"}}
        assert [record.id for record in store.scan(where=where)] == expected
        old = [body for body in server.asked("POST", r".*/scroll.*") if "prefix" in str(body)]
        assert len(old) == 1

        def refuse(body: Any) -> None:
            if "prefix" in str(body) or "substring" in str(body):
                raise RefusalError(400, "Format error in JSON body: data did not match any variant")

        server.check = refuse
        assert [record.id for record in store.scan(where=where)] == expected


def test_a_clients_own_filter_stands_within_a_neutral_one(server: QdrantServer) -> None:
    """As in-process, with the client's classes."""
    late = models.Filter(must=[models.FieldCondition(key="n", range=models.Range(gte=50))])
    with QdrantStoreOn(server) as store:
        expected = {number for number in range(50, 60) if number % 7 == 3}
        assert {record.id for record in store.scan(where={"and": [late, {"label": "label 3"}]})} == expected
        assert store.count({"not": late}) == 50
        assert store.count({"or": [late, {"n": {"lt": 5}}]}) == 15
        with pytest.raises(QueryError, match=r"'and' .*Filter"):
            store.count({"and": [edge.Filter(must=[])]})


def test_more_ids_than_a_request_can_hold_are_an_error(server: QdrantServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers refuse requests above 32 MB, in words that help nobody."""
    monkeypatch.setattr(filtering, "MAX_IDS", 20)
    with QdrantStoreOn(server) as store:
        found = store.search(np.tile(ones(1), (40, 1)), limit=2, where={"label": {"glob": "*[3]"}})
        assert len(found) == 40
        assert all(len(page) == 2 for page in found)
        with pytest.raises(QueryError, match=r"'label' passes for more than 20 records.*prefix"):
            store.count({"label": {"glob": "?abel*"}})


@pytest.mark.usefixtures("at_once")
def test_searching_for_words_and_filtering_leave_each_other_s_indexes(path: Path) -> None:
    """A field has one index, and the engine replaces it in silence; it also writes some names without our quotes."""
    store = QdrantEdgeStore(path)
    store.ensure(SCHEMA)
    store.upsert([Record(n, {"clé": "a b", "text": "b c"}) for n in range(3)], ones(3))
    store.set_keyword_fields(["clé", "text"])
    for _ in range(2):
        assert len(store.search_text("b", limit=5)) == 3
        assert store.count({"clé": "a b"}) == store.count({"text": "b c"}) == 3
    store.close()
    store = QdrantEdgeStore(path)
    store.ensure(SCHEMA)
    assert store.count({"clé": "a b", "text": {"prefix": "b"}}) == 3
    assert kinds(store) == OURS | {"clé": "keyword", "text": "keyword", "multimodal_search_words": "text"}
    store.close()
