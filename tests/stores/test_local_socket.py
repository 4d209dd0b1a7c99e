"""A store over a local socket is that store: its protocols, its errors, its filters; for several clients at once."""

from __future__ import annotations

import copy
import inspect
import itertools
import pickle
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from serving import eventually
from typing_extensions import get_protocol_members

from multimodal_search import (
    ColorEmbedder,
    ConfigurationError,
    ContentError,
    MemoryStore,
    MultimodalIndex,
    QdrantEdgeStore,
    QdrantStore,
    QueryError,
    Record,
    StoreClosedError,
    StoreError,
    StoreRefusedError,
    StoreSchema,
    StoreUnavailableError,
    VectorStore,
    protocols,
)
from multimodal_search.errors import MultimodalSearchError, NotAnImageError, SchemaMismatchError, StoreLockedError
from multimodal_search.filters.nodes import Exactly
from multimodal_search.stores.local_socket import (
    SocketStore,
    StoreServer,
    connect_store,
    connections,
    frames,
    methods,
    serve_store,
)
from multimodal_search.stores.local_socket import session as sessions
from multimodal_search.stores.local_socket.frames import Channel, message_of
from multimodal_search.stores.local_socket.methods import OPTIONAL
from multimodal_search.stores.local_socket.server import MAX_THREADS
from multimodal_search.types import Filter, FloatArray, Match, StoreState

SCHEMA = StoreSchema(model="tiny", fingerprint="tiny/2", dimension=2, duplicate_threshold=0.5)
ROW = np.array([[1, 0]], np.float32)


def filled(store: VectorStore, count: int, **fields: Any) -> None:
    store.ensure(SCHEMA)
    store.upsert([Record(number, {"n": number, **fields}) for number in range(count)], np.tile(ROW, (count, 1)))


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    with closing(MemoryStore()) as store:
        filled(store, 5)
        yield store


@pytest.fixture
def server(store: MemoryStore, tmp_path: Path) -> Iterator[StoreServer]:
    with serve_store(store, tmp_path) as server:
        yield server


@pytest.fixture
def client(server: StoreServer, tmp_path: Path) -> Iterator[Any]:
    with closing(connect_store(tmp_path)) as client:
        yield client


def members(store: object) -> set[str]:
    """The optional protocols that a store has, without reading its properties."""
    return {
        name
        for name, each in OPTIONAL.items()
        if all(inspect.getattr_static(store, member, None) is not None for member in get_protocol_members(each))
    }


@pytest.mark.parametrize("kind", ["memory", "edge", "qdrant"])
def test_a_client_has_the_protocols_of_the_store(kind: str, tmp_path: Path) -> None:
    """No fewer, or the index does without them; and no more, or it asks for what there is not."""
    made: VectorStore = {
        "memory": MemoryStore,
        "edge": lambda: QdrantEdgeStore(tmp_path / "index"),
        "qdrant": lambda: QdrantStore("a", location=":memory:"),
    }[kind]()
    with closing(made), serve_store(made, tmp_path / "place"), closing(connect_store(tmp_path / "place")) as client:
        assert isinstance(client, SocketStore)
        assert isinstance(client, VectorStore)
        assert members(client) == members(made)
        client.ensure(SCHEMA)
        for each in OPTIONAL.values():
            assert isinstance(client, each) == isinstance(made, each)
        if isinstance(client, protocols.SupportsFolder):
            assert client.folder == made.folder  # type: ignore[attr-defined]  # it has one then
        if isinstance(client, protocols.SupportsConcurrentUpserts):
            assert client.max_concurrent_upserts == made.max_concurrent_upserts  # type: ignore[attr-defined]  # as above


def test_every_optional_protocol_of_stores_is_served() -> None:
    """A new one must not be forgotten here."""
    of_embedders = {"Prepare", "Interrupt", "EmbedOnce", "ModelVersion", "Usage", "Ref", "TextLimit"}
    names = {name for name in vars(protocols) if name.startswith("Supports")}
    assert set(OPTIONAL) == names - {f"Supports{each}" for each in of_embedders}


def test_schemas_states_and_reports_come_as_they_are(tmp_path: Path) -> None:
    """To the last field, also those that play no part in comparing."""
    when = datetime(2026, 1, 31, 12, 30, 1, 5, tzinfo=timezone.utc)
    state = StoreState(size_bytes=7, changed=when, problems=("a", "b"), advice=("c",), bytes_read=9)

    class Verified(MemoryStore):
        def status(self) -> StoreState:
            return state

        def verify(self, *, on_tick: Callable[[int], None] | None = None) -> StoreState:
            assert on_tick is not None
            on_tick(1)
            on_tick(2)
            return StoreState()

    ticks: list[int] = []
    with closing(Verified()) as store, serve_store(store, tmp_path), closing(connect_store(tmp_path)) as client:
        assert isinstance(client, protocols.SupportsVerify)
        assert client.ensure(SCHEMA).to_dict() == SCHEMA.to_dict()
        assert client.status() == state
        assert client.verify(on_tick=ticks.append) == client.verify() == StoreState()
        assert ticks == [1, 2]


ERRORS: list[Exception] = [
    StoreError("a"),
    StoreUnavailableError("slow, at https://h.example/", retry_after_s=1.5, trouble="overload"),
    StoreRefusedError("large", too_large=True),
    StoreLockedError("locked", holder="process 42"),
    StoreClosedError("closed"),
    SchemaMismatchError("b"),
    ContentError("the payload of 'ü\ud800\n'"),
    NotAnImageError("c", kind="video"),
    QueryError("d"),
    ConfigurationError("e"),
    MultimodalSearchError("f"),
    TypeError("g"),
    ValueError("h"),
    MemoryError("i"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_arrive_as_they_were_raised(error: Exception, server: StoreServer, store: Any, client: Any) -> None:
    """The class decides what the index does: try again, halve the batch, give up."""

    def fails(where: Filter | None = None) -> int:
        raise error

    store.count = fails
    with pytest.raises(type(error)) as caught:
        client.count()
    assert type(caught.value) is type(error)
    assert str(caught.value) == str(error)
    assert vars(caught.value) == vars(error)
    del store.count
    assert client.count() == 5


def test_other_errors_arrive_as_errors_of_the_store(store: Any, client: Any) -> None:
    """A class of anybody's is not made from a name that came over a socket; a subclass is what it stems from."""

    class OwnError(QueryError):
        pass

    for error, kind, said in (
        (OSError(28, "No space left"), StoreError, r"^the store failed \(OSError: '\[Errno 28\] No space left'\)$"),
        (KeyError("a"), StoreError, "KeyError"),
        (OwnError("mine"), QueryError, "^mine$"),
        (SystemExit(3), StoreError, "SystemExit"),
    ):

        def fails(where: Filter | None = None, *, error: BaseException = error) -> int:
            raise error

        store.count = fails
        with pytest.raises(kind, match=said) as caught:
            client.count()
        assert type(caught.value) is kind


def test_filters_mean_what_they_mean_in_the_process_of_the_store(store: MemoryStore, client: Any) -> None:
    """Dates, sets, tuples, numbers of NumPy, and texts that are compared as they are spelled."""
    store.upsert([Record(9, {"t": "2020-06-01", "a": "\u00e9", "n": 9})], ROW)
    wheres: list[Any] = [
        {"t": {"gte": date(2020, 1, 1), "lt": datetime(2021, 1, 1, tzinfo=timezone.utc)}},
        {"n": {"in": {9, 77}}},
        {"n": (9, 77)},
        {"n": np.int64(9)},
        {"n": {"gt": np.float32(4.5)}},
        {"a": "e\u0301"},
        {"and": ({"a": Exactly("\u00e9")}, {"n": frozenset([9])})},
    ]
    for where in wheres:
        assert client.count(where) == store.count(where) == 1
        assert [record.id for record in client.scan(where=where)] == [9]
    assert client.count({"a": Exactly("e\u0301")}) == 0
    assert client.get([UUID(int=3), "00000000-0000-0000-0000-000000000004"]) == [None, None]


class Engine:
    """A filter object of some engine."""


def test_a_filter_object_of_the_engine_is_refused(client: Any) -> None:
    """It is of this process, and cannot be sent; one sentence says what to do."""
    for where in (Engine(), {"and": [{"n": 1}, Engine()]}):
        with pytest.raises(QueryError, match=r"holds a test_local_socket\.Engine, which cannot be sent .* mapping"):
            client.count(where)
    with pytest.raises(QueryError, match="a filter is a mapping, not object"):
        client.count(object())
    with pytest.raises(QueryError, match="is no field of a payload"):
        client.count({("a", frozenset([frozenset([1])])): 1})
    loop: dict[str, Any] = {}
    loop["not"] = loop
    with pytest.raises(QueryError, match="nested"):
        client.count(loop)


def test_payloads_that_json_cannot_hold_are_refused(client: Any) -> None:
    """Silently changed they would be found by nobody; nothing of the call is stored."""
    for payload in ({"a": [b"x"]}, {"a": {1: 2}}, {"a": {"b": date(2020, 1, 1)}}, {"a": np.float32(1)}):
        with pytest.raises(ContentError, match="the payload of 8 holds a value that JSON"):
            client.upsert([Record(7), Record(8, payload)], np.ones((2, 2), np.float32))
    assert client.get([7, 8]) == [None, None]
    client.upsert([Record(7, {"a": (1, 2), "b": float("inf")})], ROW)
    assert client.get([7])[0].payload == {"a": [1, 2], "b": float("inf")}


def test_vectors_of_any_kind_arrive(client: Any) -> None:
    """Half floats, big-endian ones, integers, lists of lists; and what was found belongs to the caller."""
    for rows in (np.array([[0, 1]], np.float16), np.array([[0, 1]], ">f8"), np.array([[0, 1]]), [[0.0, 1.0]]):
        client.upsert([Record(50)], rows)
        (record,) = client.get([50], with_vectors=True)
        np.testing.assert_array_equal(record.vector, [0, 1])
        record.vector[:] = 7
        assert client.search(rows, limit=1)[0][0].id == 50


WRONG_ARRAYS = [
    np.array([["a", "b"]]),
    np.array([[b"a", b"b"]]),
    np.array([["2020-01-01", "2020-01-02"]], "M8[ns]"),
    np.array([[None, []]], object),
    np.array([(1, 2.0)], "i4,f8"),
    np.array([[1j, 2]]),
    np.array([[True, False]]),
    np.array(7),
    *([np.array([["a", "b"]], np.dtypes.StringDType())] if hasattr(np.dtypes, "StringDType") else []),
]


@pytest.mark.parametrize("rows", WRONG_ARRAYS, ids=lambda rows: str(rows.dtype))
def test_arrays_that_hold_no_vectors_are_refused_as_by_the_store(client: Any, store: Any, rows: Any) -> None:
    """In its words, though the array itself is not sent."""
    for call in ("search", "upsert"):
        said = []
        for each in (store, client):
            with pytest.raises((StoreError, QueryError)) as caught:
                each.search(rows, limit=1) if call == "search" else each.upsert([Record(1)], rows)
            said.append((type(caught.value), str(caught.value)))
        if rows.dtype.kind in "biufcSUOM":
            assert said[0] == said[1]
    assert client.count() == 5


def test_large_messages_go_through_both_ways(client: Any) -> None:
    """Larger than any buffer of a socket, or of this library; with others after them on the same connection."""
    count = 3_000
    rows = np.random.default_rng(0).normal(size=(count, 2)).astype(np.float32)
    payloads = [{"n": number, "text": "ü" * (number % 400)} for number in range(count)]
    for _ in range(2):
        client.upsert([Record(number, payload) for number, payload in enumerate(payloads)], rows)
        found = client.get(range(count), with_vectors=True)
        assert [record.payload for record in found] == payloads
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        np.testing.assert_allclose(np.stack([record.vector for record in found]), unit, atol=1e-6)
        assert client.count() == count
        assert len(client.search(rows[:3], limit=count)[2]) == count


def test_messages_are_bounded_in_size(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In both directions; the connection is as good as before."""
    client.upsert([Record(number, {"text": "x" * 1000}) for number in range(100)], np.tile(ROW, (100, 1)))
    monkeypatch.setattr(frames, "MAX_MESSAGE_BYTES", 50_000)
    with pytest.raises(StoreRefusedError, match=r"the answer has more than .* ask for less at once") as caught:
        client.get(range(100))
    assert caught.value.too_large
    with pytest.raises(StoreRefusedError, match=r"a call has more than .* give less at once") as caught:
        client.upsert([Record(1, {"text": "y" * 60_000})], ROW)
    assert caught.value.too_large
    assert client.get([1])[0].payload == {"text": "x" * 1000}
    assert sum(1 for _ in client.scan(fields=["n"])) == 100


class Counted(MemoryStore):
    """Counts the records that its scans have given."""

    given = 0
    open_scans = 0

    def scan(self, *, where: Filter | None = None, fields: Sequence[str] | None = None) -> Iterator[Record]:
        return self._counted(super().scan(where=where, fields=fields))

    def _counted(self, records: Iterator[Record]) -> Iterator[Record]:
        self.open_scans += 1
        try:
            for record in records:
                self.given += 1
                yield record
        finally:
            self.open_scans -= 1


def test_scans_come_in_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of so many records, or so many characters, as they are asked for; one that is left is freed."""
    with closing(Counted()) as store, serve_store(store, tmp_path), closing(connect_store(tmp_path)) as client:
        filled(store, 3_500)
        scan = client.scan()
        assert store.given == 1_000
        next(scan)
        assert [record.id for record in itertools.islice(scan, 1_500)] == list(range(1, 1_501))
        assert (store.given, store.open_scans) == (2_000, 1)
        del scan
        assert next(client.scan(fields=())).payload == {}
        assert eventually(lambda: store.open_scans == 1)  # the last one
        monkeypatch.setattr(methods, "PAGE_CHARACTERS", 10_000)
        filled(store, 100, text=["x" * 100])
        before = store.given
        assert next(client.scan()).id == 0
        assert store.given - before < 100
        assert [record.id for record in client.scan()] == list(range(3_500))


def test_more_half_read_scans_than_are_kept_go_on_all_the_same(store: Any, client: Any, monkeypatch: Any) -> None:
    """The server keeps a few; it begins the others anew, where they had come to."""
    monkeypatch.setattr(methods, "PAGE_RECORDS", 2)
    monkeypatch.setattr(sessions, "MAX_SCANS", 3)
    store.upsert([Record(str(UUID(int=1))), Record(str(UUID(int=2)))], np.tile(ROW, (2, 1)))
    expected = [0, 1, 2, 3, 4, str(UUID(int=1)), str(UUID(int=2))]
    scans = [client.scan() for _ in range(8)]
    read = [[next(scan).id for scan in scans] for _ in expected]
    assert read == [[each] * 8 for each in expected]
    assert [list(scan) for scan in scans] == [[]] * 8


def test_two_clients_see_each_other(server: StoreServer, client: Any, tmp_path: Path) -> None:
    with closing(connect_store(tmp_path)) as other:
        assert server.clients == 2
        client.upsert([Record(7, {"v": 1})], ROW)
        assert other.get([7]) == [Record(7, {"v": 1})]
        other.delete([7])
        assert client.get([7]) == [None]
    assert eventually(lambda: server.clients == 1)
    assert client.count() == 5


def test_many_threads_of_one_client_get_their_own_answers(server: StoreServer, client: Any) -> None:
    """Through a few connections."""

    def ask(number: int) -> None:
        assert client.count({"n": {"lt": number % 5}}) == number % 5
        assert client.get([number % 5])[0].payload == {"n": number % 5}

    with ThreadPoolExecutor(50) as threads:
        list(threads.map(ask, range(500)))
    assert server.clients == 1


def test_a_bounded_number_of_calls_is_made_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many clients there are: each has a thread, and what it reads in memory."""
    monkeypatch.setattr(connections, "FEW", 40)
    under_way: list[int] = []
    most: list[int] = []
    full = threading.Event()

    class Counting(MemoryStore):
        def count(self, where: Filter | None = None) -> int:
            under_way.append(1)
            most.append(len(under_way))
            if len(under_way) == MAX_THREADS:
                full.set()
            assert full.wait(60)
            under_way.pop()
            return 7

    with (
        closing(Counting()) as store,
        serve_store(store, tmp_path),
        closing(connect_store(tmp_path)) as client,
        ThreadPoolExecutor(40) as threads,
    ):
        assert list(threads.map(lambda _: client.count(), range(200))) == [7] * 200
    assert max(most) == MAX_THREADS


class Waiting(MemoryStore):
    """Its `count` waits until it may go on, and its `optimize` until somebody has had enough."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.may_go_on, self.was_ended = threading.Event(), threading.Event(), threading.Event()
        self.needs_optimize = True

    def count(self, where: Filter | None = None) -> int:
        if where is not None:
            self.entered.set()
            assert self.may_go_on.wait(60)
        return super().count()

    def optimize(self, *, on_tick: Callable[[], None] | None = None) -> bool:
        assert on_tick is not None
        self.entered.set()
        try:
            while not self.may_go_on.wait(0.01):
                on_tick()
        except BaseException:
            self.was_ended.set()
            raise
        return True


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Waiting]:
    with closing(Waiting()) as store:
        filled(store, 5)
        yield store
        store.may_go_on.set()


def test_a_long_call_keeps_no_other_waiting(waiting: Waiting, tmp_path: Path) -> None:
    """Nor do as many as there are connections at first."""
    with (
        serve_store(waiting, tmp_path),
        closing(connect_store(tmp_path)) as client,
        ThreadPoolExecutor(4) as threads,
    ):
        calls = [threads.submit(client.count, {"n": 1}) for _ in range(4)]
        assert waiting.entered.wait(60)
        assert client.count() == 5
        waiting.may_go_on.set()
        assert [call.result(60) for call in calls] == [5] * 4


def test_what_a_callback_raises_ends_the_call_at_the_other_end(waiting: Waiting, tmp_path: Path) -> None:
    """An index that is closed ends its optimization so."""
    with serve_store(waiting, tmp_path), closing(connect_store(tmp_path)) as client:
        assert isinstance(client, protocols.SupportsOptimize)
        assert client.needs_optimize

        def tick() -> None:
            raise ConnectionError("enough")

        with pytest.raises(ConnectionError, match=r"^enough$"):
            client.optimize(on_tick=tick)
        assert waiting.was_ended.wait(60)
        waiting.may_go_on.set()
        assert client.optimize(on_tick=tick) is True
        assert client.count() == 5


def test_closing_a_client_ends_its_calls(waiting: Waiting, tmp_path: Path) -> None:
    with serve_store(waiting, tmp_path), ThreadPoolExecutor(1) as threads:
        client = connect_store(tmp_path)
        call = threads.submit(client.count, {"n": 1})
        assert waiting.entered.wait(60)
        client.close()
        with pytest.raises(StoreClosedError, match="connect again"):
            call.result(60)
        waiting.may_go_on.set()


def test_a_server_that_is_closed_lets_calls_under_way_end(waiting: Waiting, tmp_path: Path) -> None:
    """Those that take a second or less; and says to everybody else that it has closed."""
    with ThreadPoolExecutor(2) as threads, closing(connect_closed(waiting, tmp_path)) as (client, server):
        call = threads.submit(client.count, {"n": 1})
        assert waiting.entered.wait(60)
        ending = threads.submit(server.close)
        waiting.may_go_on.set()
        assert call.result(60) == 5
        ending.result(60)
        with pytest.raises(StoreUnavailableError, match="no process serves the store") as caught:
            client.count()
        assert caught.value.trouble == "unreachable"
        assert not list(tmp_path.iterdir())


def test_a_server_that_is_closed_does_not_wait_for_ever(waiting: Waiting, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as threads, closing(connect_closed(waiting, tmp_path)) as (client, server):
        call = threads.submit(client.count, {"n": 1})
        assert waiting.entered.wait(60)
        server.close()
        server.close()
        with pytest.raises(StoreUnavailableError):
            call.result(60)
        waiting.may_go_on.set()


class connect_closed(tuple[Any, StoreServer]):  # noqa: N801 (as a function)
    """A client and its server, both closed in the end."""

    def __new__(cls, store: VectorStore, place: Path) -> connect_closed:
        server = serve_store(store, place)
        return super().__new__(cls, (connect_store(place), server))

    def close(self) -> None:
        self[0].close()
        self[1].close()


def test_a_client_goes_on_with_the_next_server(store: MemoryStore, tmp_path: Path, monkeypatch: Any) -> None:
    """Its reads and its writes, and scans where they had come to: never with a scan of another."""
    monkeypatch.setattr(methods, "PAGE_RECORDS", 2)
    with serve_store(store, tmp_path):
        client = connect_store(tmp_path)
        scan = client.scan()
        assert next(scan).id == 0
    with pytest.raises(StoreUnavailableError, match=f"no process serves the store in {tmp_path}"):
        connect_store(tmp_path)
    with serve_store(store, tmp_path, transport="tcp"), closing(client):
        other = client.scan(where={"n": {"gte": 2}})
        assert next(other).id == 2
        assert [record.id for record in scan] == [1, 2, 3, 4]
        assert [record.id for record in other] == [3, 4]
        client.upsert([Record(7)], ROW)
        client.delete([0])
        assert client.count() == 5


def test_a_store_is_served_once(server: StoreServer, store: MemoryStore, tmp_path: Path) -> None:
    with pytest.raises(StoreLockedError, match=f"serves the store in {tmp_path}"):
        serve_store(store, tmp_path)
    with closing(connect_store(tmp_path)) as client:
        assert client.count() == 5


def test_only_a_store_is_served(tmp_path: Path) -> None:
    for wrong in (MemoryStore, "photos", None):
        with pytest.raises(TypeError, match="serve_store takes a store, such as MemoryStore"):
            serve_store(wrong, tmp_path)  # type: ignore[arg-type]  # on purpose
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be made"), closing(MemoryStore()) as store:
        serve_store(store, tmp_path / "file" / "below")
    with pytest.raises(StoreUnavailableError, match="no process serves"):
        connect_store(tmp_path / "nowhere")


def test_a_client_is_of_one_process(client: Any, tmp_path: Path) -> None:
    for way in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match=r"^a SocketStore cannot be pickled or copied"):
            way(client)
    assert repr(client) == f"SocketStore({str(tmp_path)!r}, MemoryStore(5 points))"


def test_an_index_works_through_a_socket(tmp_path: Path) -> None:
    """Adding, finding, deleting, by words and by image: all that the index does with a store."""
    with closing(MemoryStore()) as store, serve_store(store, tmp_path):
        with MultimodalIndex(ColorEmbedder(), connect_store(tmp_path)) as index:
            assert index.add_texts(["red", "blue", "green boat"]).added == 3
            assert index.search("blue", limit=1)[0].payload["text"] == "blue"
            assert index.search("green", limit=1, keyword_weight=0.9)[0].payload["text"] == "green boat"
            assert index.search("blue", limit=3, diversity=0.5, deduplicate=True)
            index.delete([hit.id for hit in index.search("red", limit=1)])
        with MultimodalIndex(None, connect_store(tmp_path)) as index:
            assert index.count() == 2


def test_answers_are_those_of_the_store(tmp_path: Path) -> None:
    """Also of one that gives vectors with some matches only."""

    class Partly(MemoryStore):
        def search_with_vectors(self, vectors: FloatArray, /, **settings: Any) -> list[list[Match]]:
            pages = self.search(vectors, **settings)
            return [
                [Match(each.id, each.score, each.payload, vector=ROW[0] if each.id == 1 else None) for each in page]
                for page in pages
            ]

    with closing(Partly()) as store, serve_store(store, tmp_path), closing(connect_store(tmp_path)) as client:
        assert isinstance(client, protocols.SupportsVectorsInSearch)
        client.ensure(SCHEMA)
        assert client.search_with_vectors(ROW, limit=3) == [[]]
        filled(store, 3)
        (page,) = client.search_with_vectors(ROW, limit=3)
        assert page == store.search_with_vectors(ROW, limit=3)[0]
        assert [match.vector is not None for match in page] == [False, True, False]
        np.testing.assert_array_equal(page[1].vector, [1, 0])


def test_a_server_that_nobody_asks_does_nothing(server: StoreServer, client: Any) -> None:
    """Its thread waits without a time-out, also where clients are connected, and those that made calls end."""
    assert client.count() == 5
    assert server._timeout() is None
    assert eventually(lambda: not server._executor.unfinished)
    wakes: list[object] = []
    select = server._selector.select
    server._selector.select = lambda timeout: wakes.append(timeout) or select(timeout)  # type: ignore[method-assign, func-returns-value, arg-type]
    assert client.count() == 5
    assert eventually(lambda: not server._executor.unfinished)
    assert set(wakes) == {None}
    assert len(wakes) <= 3


def test_a_server_without_threads_goes_on_when_it_has_some(
    server: StoreServer, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fails)
        with pytest.raises(StoreUnavailableError, match="broke during a call"):
            client.count()
    assert client.count() == 5


def test_long_lists_are_written_and_read_in_short_lines() -> None:
    """JSON gives way to no other thread, such as that of an event loop, within a line."""
    ours, theirs = socket.socketpair()
    with ours, theirs, ThreadPoolExecutor(1) as threads:
        rows = [[number, {"text": "\n"}] for number in range(1_000)]
        message = message_of("header", [ROW], rows)
        lines = bytes(message[0][8:]).split(b"\n")
        assert max(line.count(b"text") for line in lines) == 256
        sending = threads.submit(Channel(ours, copies=True).send, message)
        channel = Channel(theirs, copies=True)
        while (received := channel.receive()) is None:
            pass
        sending.result(60)
    assert (received.header, received.rows) == ("header", rows)
    np.testing.assert_array_equal(received.arrays[0], ROW)


def test_an_index_in_a_folder_is_served_in_that_folder(tmp_path: Path) -> None:
    """Before it is made, and after; the file there is no foreign one, and no damage, also if it was left behind."""
    folder = tmp_path / "index"
    with closing(QdrantEdgeStore(folder)) as store, serve_store(store, folder):
        left = (folder / "socket.json").read_bytes()
        with MultimodalIndex(ColorEmbedder(), connect_store(folder)) as index:
            assert index.add_texts(["red", "blue"]).added == 2
            assert index.status().store == str(folder)
            assert index.verify().problems == ()
    (folder / "socket.json").write_bytes(left)
    (folder / "socket.json").chmod(0o600)
    with MultimodalIndex.open(folder) as index:
        assert index.count() == 2
        assert index.verify().problems == ()
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "socket.json").write_bytes(left)
    with MultimodalIndex.open(tmp_path / "new", embedder=ColorEmbedder()) as index:
        assert index.add_texts(["red"]).added == 1
