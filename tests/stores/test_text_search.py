"""Search by words and notes, where the contract does not reach: the engines beside each other, and what goes wrong."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qdrant_edge
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qdrant_client import QdrantClient, models
from qdrant_rest_server import QdrantServer, RefusalError, running

from multimodal_search import MemoryStore, QdrantEdgeStore, QdrantStore, QueryError, Record, StoreError, VectorStore
from multimodal_search.protocols import SupportsIndexMetadata, SupportsTextSearch
from multimodal_search.stores.bm25 import words_of
from multimodal_search.stores.keywords import WORDS, KeywordFields
from multimodal_search.stores.qdrant import text_index
from multimodal_search.types import FloatArray, StoreSchema

SCHEMA = StoreSchema(model="tiny", fingerprint="tiny-1", dimension=2)

_LETTERS = "aAbBeE éÉèÈëñßẞøØłŁœæþðİıIi ΣσςΟοάΆ ЁёЖжй 0129²½ _-.,'«\"!?/\\\n\t\xa0"  # noqa: RUF001 (Turkish)
_TEXTS = st.one_of(
    st.text(st.sampled_from(_LETTERS), max_size=12),
    st.lists(st.sampled_from(["red", "Fox", "fox", "sky", "the", "THE", "x2"]), max_size=8).map(" ".join),
)
_VALUES = st.one_of(
    _TEXTS,
    st.lists(st.one_of(_TEXTS, st.none(), st.integers(0, 2), st.lists(_TEXTS, max_size=2)), max_size=4),
    st.none(),
    st.integers(0, 2),
    st.fixed_dictionaries({"t": _TEXTS}),
)


def ones(count: int) -> FloatArray:
    return np.ones((count, 2), np.float32)


def opened(store: Any) -> Any:
    """An open store whose points' words are those in the field `t`."""
    store.ensure(SCHEMA)
    store.set_keyword_fields(["t"])
    return store


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[QdrantEdgeStore]:
    store: QdrantEdgeStore = opened(QdrantEdgeStore(tmp_path / "index"))
    yield store
    store.close()


@pytest.fixture
def server() -> Iterator[QdrantServer]:
    with running() as server:
        yield server


@pytest.mark.parametrize("make", [MemoryStore, lambda: QdrantStore("c", location=":memory:")], ids=["memory", "local"])
def test_stores_say_what_they_can(make: Any) -> None:
    assert isinstance(make(), SupportsTextSearch)
    assert isinstance(make(), SupportsIndexMetadata)


# --- ranking


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(_VALUES, min_size=1, max_size=10), words=_TEXTS, odd=st.booleans())
def test_the_engine_ranks_as_the_memory_store_does(
    edge: QdrantEdgeStore, values: list[Any], words: str, odd: bool
) -> None:
    """The oracle of all other tests is right, for everything that Europe writes."""
    memory = opened(MemoryStore())
    edge.delete([record.id for record in edge.scan(fields=())])
    where = {"odd": 1} if odd else None
    records = [Record(number, {"t": value, "odd": number % 2}) for number, value in enumerate(values)]
    answers: list[dict[Any, float]] = []
    for store in (memory, edge):
        store.upsert(records, ones(len(records)))
        found = store.search_text(words, limit=100, where=where)
        assert [match.score for match in found] == sorted((match.score for match in found), reverse=True)
        answers.append({match.id: match.score for match in found})
    assert answers[1] == pytest.approx(answers[0], abs=1e-5)


def test_a_segment_that_was_rebuilt_ranks_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph of `optimize` makes new files, and so does opening anew; points may lie in several segments."""
    monkeypatch.setattr("multimodal_search.stores.qdrant_edge.engine.INDEX_FROM", 100)
    random = np.random.default_rng(5)
    memory, edge = opened(MemoryStore()), opened(QdrantEdgeStore(tmp_path / "index"))

    def write(numbers: range) -> None:
        records = [
            Record(number, {"t": [f"w{word}" for word in random.integers(60, size=random.integers(9))]})
            for number in numbers
        ]
        for store in (memory, edge):
            store.upsert(records, random.normal(size=(len(records), 2)).astype(np.float32))

    def compare(close: float = 1e-5) -> None:
        for words in ("w1 w2 w3", "w7"):
            answers = [
                {match.id: match.score for match in store.search_text(words, limit=10_000)} for store in (memory, edge)
            ]
            assert answers[0].keys() == answers[1].keys()
            assert answers[1] == pytest.approx(answers[0], abs=close)

    write(range(1_000))
    compare()
    assert edge.optimize()
    compare()
    write(range(1_000, 1_400))
    compare()
    write(range(200))
    for store in (memory, edge):
        store.delete(list(range(300, 600)))
    compare(close=0.5)  # what was replaced and deleted in a rebuilt segment counts until it is rebuilt again
    assert edge.optimize()
    compare()
    edge.close()
    edge = opened(QdrantEdgeStore(tmp_path / "index"))
    compare()
    edge.close()


def test_very_long_texts_are_measured_as_the_engine_does(edge: QdrantEdgeStore) -> None:
    """From 8,192 words on it keeps leading bits alone."""
    memory = opened(MemoryStore())
    records = [Record(n, {"t": "x " * n + "fox fox fox"}) for n in (1, 8_187, 8_190, 16_383, 40_001)]
    for store in (memory, edge):
        store.upsert(records, ones(len(records)))
    found, expected = (store.search_text("fox", limit=9) for store in (edge, memory))
    assert {match.id: match.score for match in found} == pytest.approx({m.id: m.score for m in expected}, abs=1e-6)


def test_words_are_runs_of_letters_and_digits() -> None:
    assert words_of("L'été: 3.14 İstanbul, Straße_x2 ΟΔΟΣ!") == [
        "l", "été", "3", "14", "i̇stanbul", "straße", "x2", "οδος"
    ]  # fmt: skip


# --- the in-process engine's index


def test_fields_stay_free_for_the_indexes_of_filters(edge: QdrantEdgeStore) -> None:
    """A field has one index, and the engine would put a new one in the place of the old without a word."""

    def kinds() -> dict[str, str]:
        folder = edge._folder()
        return {path: str(index.data_type) for path, index in folder.run(lambda s: s.info()).payload_schema.items()}

    edge.upsert([Record(1, {"filename": "a fox", "t": "fox", "n": "fox"})], ones(1))
    keyword = qdrant_edge.UpdateOperation.create_field_index("t", qdrant_edge.KeywordIndexParams())
    edge._folder().run(lambda shard: shard.update(keyword))
    before = kinds()
    for _ in range(2):
        assert [match.id for match in edge.search_text("fox", limit=5)] == [1]
    assert kinds() == before | {WORDS: "PayloadSchemaType.Text"}


def test_an_index_on_the_words_that_does_not_rank_is_kept(edge: QdrantEdgeStore) -> None:
    edge.upsert([Record(1, {"t": "fox"})], ones(1))
    plain = qdrant_edge.UpdateOperation.create_field_index(WORDS, qdrant_edge.TextIndexParams())
    edge._folder().run(lambda shard: shard.update(plain))
    assert [match.id for match in edge.search_text("fox", limit=5)] == [1]


def test_filters_of_the_engine_pass_through(edge: QdrantEdgeStore) -> None:
    edge.upsert([Record(n, {"t": "fox", "k": n, "filename": "fox"}) for n in range(4)], ones(4))
    native = qdrant_edge.Filter(must=[qdrant_edge.FieldCondition("k", match=qdrant_edge.MatchValue(2))])
    assert [match.id for match in edge.search_text("fox", limit=5, where=native)] == [2]
    with pytest.raises(QueryError, match="mapping"):
        edge.search_text("fox", limit=5, where=models.Filter())


def test_threads_may_search_a_field_for_the_first_time_at_once(edge: QdrantEdgeStore) -> None:
    edge.upsert([Record(n, {"t": "fox"}) for n in range(500)], ones(500))
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(len(edge.search_text("fox", limit=500)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [500] * 8


# --- words that are not there yet


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("kind", ["edge", "server", "grpc", "local"])
def test_points_without_words_are_found_by_reading_until_words_are_complete(
    kind: str, tmp_path: Path, stack: ExitStack
) -> None:
    """An index that was made before, and one whose writer was killed: neither loses a point, at any moment."""
    if kind == "edge":
        store: Any = QdrantEdgeStore(tmp_path / "index")
    elif kind == "local":
        store = QdrantStore("photos", location=":memory:")
    else:
        server = stack.enter_context(running(grpc=kind == "grpc"))
        settings: Any = {"prefer_grpc": True, "grpc_port": server.grpc_port} if kind == "grpc" else {}
        store = QdrantStore("photos", url=server.url, **settings)
    store.ensure(SCHEMA)
    store.upsert([Record(n, {"caption": f"fox {n}", "k": n}) for n in range(5)], ones(5))
    store._words.write({"wolf": [0, 1], "": [2]})
    store._words.keep(KeywordFields())
    for _ in range(2):
        assert [match.id for match in store.search_text("fox", limit=9)] == [0, 1, 2, 3, 4]
        assert [point_id for point_id, _ in store.search_hybrid(None, "fox", limit=9)[1]] == [0, 1, 2, 3, 4]
    store.upsert([Record(5, {"caption": "fox 5"})], ones(1))
    before = store.get(range(6))
    assert store.set_keyword_fields(store.get_keyword_fields())
    assert not store.set_keyword_fields(store.get_keyword_fields())
    assert store._words.keywords == KeywordFields(complete=True)
    assert [match.id for match in store.search_text("fox", limit=9)] == [0, 1, 2, 3, 4, 5]
    assert store.search_text("wolf", limit=9) == []
    assert store.get(range(6)) == before
    if kind == "edge":
        assert store.verify().problems == ()
        store._words.write({"wolf": [3]})
        assert "1 point is missed by keyword search: 3" in store.verify().problems
    store.close()


_SETTER = """
import sys
from multimodal_search import QdrantEdgeStore
from multimodal_search.types import StoreSchema
store = QdrantEdgeStore(sys.argv[1])
store.ensure(StoreSchema(model="tiny", fingerprint="tiny-1", dimension=2))
print("ready", flush=True)
store.set_keyword_fields(["note"], on_tick=lambda: print("tick", flush=True))
"""


def test_a_process_that_is_killed_while_it_sets_fields_loses_no_word(tmp_path: Path) -> None:
    store: Any = QdrantEdgeStore(tmp_path / "index")
    store.ensure(SCHEMA)
    store.upsert([Record(n, {"caption": "fox", "note": "wolf"}) for n in range(5_000)], ones(5_000))
    assert len(store.search_text("fox", limit=5_000)) == 5_000
    store.close()
    process = subprocess.Popen(
        [sys.executable, "-c", _SETTER, str(tmp_path / "index")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "tick":
            process.kill()
            break
    process.wait()
    process.stdout.close()
    store = QdrantEdgeStore(tmp_path / "index")
    store.ensure(SCHEMA)
    assert store.get_keyword_fields() == ("note",)
    assert len(store.search_text("wolf", limit=5_000)) == 5_000
    assert store.search_text("fox", limit=5) == []
    store.set_keyword_fields(store.get_keyword_fields())
    assert len(store.search_text("wolf", limit=5_000)) == 5_000
    assert store.search_text("fox", limit=5) == []
    assert store.verify().problems == ()
    store.close()


# --- servers


def test_a_server_is_asked_for_its_index_once(server: QdrantServer) -> None:
    store = opened(QdrantStore("photos", url=server.url))
    store.upsert([Record(1, {"t": "fox", "filename": "fox"})], ones(1))
    for _ in range(3):
        store.search_text("fox", limit=5)
    made = [body["field_schema"] for body in server.asked("PUT", ".*/index.*") if body["field_name"] == WORDS]
    assert made == [{"type": "text", "tokenizer": "word", "lowercase": True, "scoring": True}]
    assert server.indexes["photos"]["filename"]["type"] == "keyword"
    store.close()


def test_somebody_elses_index_on_the_words_stays(server: QdrantServer) -> None:
    store = opened(QdrantStore("photos", url=server.url))
    store.upsert([Record(1, {"t": "fox"})], ones(1))
    server.indexes["photos"][WORDS] = {"type": "text", "tokenizer": "multilingual", "scoring": True}
    with pytest.raises(StoreError, match="text index"):  # which local mode, behind the server, does not have
        store.search_text("fox", limit=5)
    assert server.indexes["photos"][WORDS]["tokenizer"] == "multilingual"
    store.close()


@pytest.mark.parametrize("knows", ["refuses", "drops"])
def test_an_older_server_is_scanned_with_a_warning(
    server: QdrantServer, knows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said once a process, the hits are those of any store, and no index is left that would help nobody."""
    monkeypatch.setattr(text_index, "_warned", [])
    monkeypatch.setattr(QdrantClient, "info", lambda _: 1 / 0)  # behind a proxy that passes on collections alone
    server.knows_scoring = knows
    store = opened(QdrantStore("photos", url=server.url))
    store.upsert([Record(n, {"t": "fox " * n}) for n in range(1, 4)], ones(3))
    with pytest.warns(RuntimeWarning, match=r"Qdrant 1\.20"):
        found = store.search_text("fox", limit=2)
    assert [match.id for match in found] == [3, 2]
    assert [match.id for match in store.search_text("fox", limit=5, where={"t": "fox "})] == [1]
    assert WORDS not in server.indexes["photos"]
    assert len(server.asked("PUT", "/collections/photos/index.*")) == 5  # four of the library's own, and one try
    monkeypatch.setattr(text_index, "MAX_SCANNED", 2)
    with pytest.raises(StoreError, match=r"3 points.* limit is 2.*Qdrant 1\.20"):
        store.search_text("fox", limit=5)
    store.close()


@pytest.mark.parametrize(("version", "made"), [("1.19.3", False), ("1.20.0", True), ("1.100.2-dev", True)])
def test_a_server_that_says_its_version_gets_no_useless_index(
    server: QdrantServer, version: str, made: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever opens an old server's index by words leaves nothing to clean up, not even for a moment."""
    monkeypatch.setattr(text_index, "_warned", ["said"])
    server.version = version
    store = opened(QdrantStore("photos", url=server.url))
    store.upsert([Record(1, {"t": "fox"})], ones(1))
    assert [match.id for match in store.search_text("fox", limit=5)] == [1]
    assert bool([body for body in server.asked("PUT", ".*/index.*") if body["field_name"] == WORDS]) is made
    store.close()


def test_an_index_that_another_node_does_not_show_yet_is_waited_for(server: QdrantServer) -> None:
    """Behind a load balancer, the next request goes to a node that learns of it some milliseconds later."""
    store = opened(QdrantStore("photos", url=server.url))
    store.upsert([Record(1, {"t": "fox"})], ones(1))
    hidden: list[Any] = []

    def hide(method: str, path: str) -> None:
        if WORDS in server.indexes["photos"] and not hidden:
            hidden.append(server.indexes["photos"].pop(WORDS))
        elif hidden[:1] != [None] and hidden:
            server.indexes["photos"][WORDS] = hidden[0]
            hidden[0] = None

    server.before = hide
    assert [match.id for match in store.search_text("fox", limit=5)] == [1]
    assert server.indexes["photos"][WORDS]["scoring"] is True
    assert hidden == [None]
    store.close()


def test_a_key_that_may_only_read_searches_by_words_and_writes_no_note(
    server: QdrantServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the index the search is slow but right; a note is kept in the process, until somebody may store it."""
    writer = opened(QdrantStore("photos", url=server.url))
    writer.upsert([Record(1, {"t": "fox"}), Record(2, {"t": "dog"})], ones(2))
    writer.set_index_metadata("terms", "old")

    def refuse(method: str, path: str) -> None:
        if method in ("PUT", "PATCH", "DELETE"):
            raise RefusalError(403, "Forbidden: Global manage access is required")

    server.before = refuse
    reader = opened(QdrantStore("photos", url=server.url))
    assert [match.id for match in reader.search_text("fox", limit=5)] == [1]
    assert reader.get_index_metadata("terms") == "old"
    reader.set_index_metadata("terms", "new")
    assert reader.get_index_metadata("terms") == "new"
    reader.set_index_metadata("tuning", "{}")
    with pytest.raises(StoreError, match="manage access is required"):  # before any word is written
        reader.set_keyword_fields(["other"])
    assert reader.get_keyword_fields() == ("t",)
    assert [match.id for match in reader.search_text("fox", limit=5)] == [1]
    assert "the tuning is kept in this process only" in caplog.text
    assert "index.optimize() with one that has it stores it" in caplog.text
    server.before = lambda method, path: None
    assert (server.collections["photos"].metadata or {})["multimodal_search_note_terms"] == "old"
    writer.set_index_metadata("terms", "newer")
    assert reader.get_index_metadata("terms") == "newer"
    writer.close()
    reader.close()


def test_an_index_that_was_dropped_is_made_again(server: QdrantServer) -> None:
    store = opened(QdrantStore("photos", url=server.url))
    store.upsert([Record(1, {"t": "fox"})], ones(1))
    assert len(store.search_text("fox", limit=5)) == 1
    del server.indexes["photos"][WORDS]
    server._client.delete_payload_index("photos", WORDS)
    with pytest.raises(StoreError, match="text index"):
        store.search_text("fox", limit=5)
    assert len(store.search_text("fox", limit=5)) == 1
    store.close()


@pytest.mark.parametrize("kind", ["edge", "server"])
def test_fields_that_are_set_while_words_are_searched_for_fail_no_search(
    kind: str, tmp_path: Path, server: QdrantServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index goes after the search has seen it: what the first steps of `set_keyword_fields` do."""
    store = opened(QdrantEdgeStore(tmp_path / "index") if kind == "edge" else QdrantStore("photos", url=server.url))
    store.upsert([Record(n, {"t": f"fox {n}"}) for n in range(3)], ones(3))
    ask = store._query_text
    for search in (
        lambda: [match.id for match in store.search_text("fox", limit=5)],
        lambda: [point_id for point_id, _ in store.search_hybrid(None, "fox", limit=5)[1]],
    ):
        assert search() == [0, 1, 2]

        def set_meanwhile(*arguments: Any) -> Any:
            store._words.keep(KeywordFields(("t",)))
            store._words.drop_index()
            return ask(*arguments)

        monkeypatch.setattr(store, "_query_text", set_meanwhile)
        assert search() == [0, 1, 2]
        monkeypatch.setattr(store, "_query_text", ask)
        assert store.set_keyword_fields(["t"])
    store.close()


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"fields": "abc", "complete": true}', '{"fields": [1]}', "{}", "", None]
)
def test_fields_that_cannot_be_read_are_the_usual_ones(text: str | None) -> None:
    assert KeywordFields.of(text) == KeywordFields()


def test_a_folder_of_local_mode_keeps_both(tmp_path: Path) -> None:
    for _ in range(2):
        store = opened(QdrantStore("c", path=tmp_path / "local"))
        store.upsert([Record(1, {"t": "fox"})], ones(1))
        assert [match.id for match in store.search_text("fox", limit=5)] == [1]
        assert store.get_index_metadata("terms") in (None, "text")
        store.set_index_metadata("terms", "text")
        store.close()
    store = opened(QdrantStore("c", path=tmp_path / "local"))
    assert store.get_index_metadata("terms") == "text"
    store.close()


# --- notes on servers


def test_a_note_leaves_the_schema_and_everybody_elses_metadata(server: QdrantServer) -> None:
    """Metadata belongs to whoever runs the collection."""
    store = opened(QdrantStore("photos", url=server.url))
    client = QdrantClient(url=server.url, check_compatibility=False)
    client.update_collection("photos", metadata={"owner": "me", "nested": {"a": 1}})
    store.set_index_metadata("terms", "one")
    store.set_index_metadata("terms", "two")
    store.set_index_metadata("other", "three")
    assert client.get_collection("photos").config.metadata == {
        "multimodal_search": SCHEMA.to_dict(),
        "owner": "me",
        "nested": {"a": 1},
        "multimodal_search_note_terms": "two",
        "multimodal_search_note_other": "three",
        "multimodal_search_note_keyword_fields": '{"fields": ["t"], "complete": true}',
    }
    client.close()
    store.close()


def test_an_old_server_keeps_notes_all_the_same(server: QdrantServer) -> None:
    """In the second collection, beside the schema; after an upgrade they are still there."""
    server.version = "1.15.5"
    store = opened(QdrantStore("photos", url=server.url))
    assert store.get_index_metadata("terms") is None
    store.set_index_metadata("terms", "old")
    store.set_index_metadata("other", "x" * 400_000)
    assert store.get_index_metadata("terms") == "old"
    assert store.count() == 0
    other = StoreSchema(model="other", fingerprint="other-1", dimension=2)
    assert store.ensure(other) == SCHEMA
    server.version = "1.20.0"
    assert store.get_index_metadata("terms") == "old"
    store.set_index_metadata("terms", "new")
    assert [store.get_index_metadata(name) for name in ("terms", "other")] == ["new", "x" * 400_000]
    assert store.ensure(other) == SCHEMA
    store.close()


# --- notes in a folder


def test_notes_stay_through_optimize_and_are_a_part_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("multimodal_search.stores.qdrant_edge.engine.INDEX_FROM", 100)
    store = opened(QdrantEdgeStore(tmp_path / "index"))
    store.upsert([Record(n) for n in range(300)], np.random.default_rng(1).normal(size=(300, 2)).astype(np.float32))
    store.set_index_metadata("terms", "text")
    assert store.optimize()
    assert store.get_index_metadata("terms") == "text"
    store.close()
    assert (tmp_path / "index" / "notes" / "terms").read_text() == "text"
    (tmp_path / "index" / "notes" / "terms").write_bytes(b"\xff")
    store = opened(QdrantEdgeStore(tmp_path / "index"))
    with pytest.raises(StoreError, match=r"notes.terms"):
        store.get_index_metadata("terms")
    store.close()


def test_an_index_that_was_never_finished_leaves_no_notes(tmp_path: Path) -> None:
    """What another embedder's index remembered must not turn up in a new one."""
    store = opened(QdrantEdgeStore(tmp_path / "index"))
    store.set_index_metadata("terms", "text")
    store.close()
    (tmp_path / "index" / "schema.json").unlink()
    store = opened(QdrantEdgeStore(tmp_path / "index"))
    assert store.get_index_metadata("terms") is None
    store.close()


_WRITER = """
import sys
from multimodal_search import QdrantEdgeStore
from multimodal_search.types import StoreSchema
store = QdrantEdgeStore(sys.argv[1])
store.ensure(StoreSchema(model="tiny", fingerprint="tiny-1", dimension=2))
print("ready", flush=True)
number = 0
while True:
    number += 1
    store.set_index_metadata("terms", f"{number}," * (400_000 // len(f"{number},")))
    print(number, flush=True)
"""


def test_a_process_that_is_killed_leaves_the_old_note_or_the_new_one(tmp_path: Path) -> None:
    """Of 400 kB, at any moment; and never an older one than what it had acknowledged."""
    for pause in (0.0, 0.013, 0.031):
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path / "index")], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "5":
                break
        time.sleep(pause)
        process.kill()
        acknowledged = [int(line) for line in process.stdout if line.endswith("\n")] or [5]
        process.wait()
        process.stdout.close()
        store: QdrantEdgeStore = opened(QdrantEdgeStore(tmp_path / "index"))
        text = store.get_index_metadata("terms")
        assert text is not None
        number = int(text.partition(",")[0])
        assert text == f"{number}," * (400_000 // len(f"{number},"))
        assert number >= acknowledged[-1]
        store.close()


def test_two_threads_may_write_one_note(edge: VectorStore) -> None:
    assert isinstance(edge, SupportsIndexMetadata)
    texts = ["a" * 200_000, "b" * 100_000]
    threads = [
        threading.Thread(target=lambda text=text: [edge.set_index_metadata("terms", text) for _ in range(5)])
        for text in texts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert edge.get_index_metadata("terms") in texts
