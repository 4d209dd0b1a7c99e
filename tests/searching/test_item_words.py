"""The words of items, through an index: they follow files, payloads and settings, and nothing shows them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from qdrant_rest_server import QdrantServer, running
from tiny_embedder import TinyEmbedder, folder_of, png

from multimodal_search import (
    ConfigurationError,
    Image,
    Item,
    MemoryStore,
    MultimodalIndex,
    QdrantEdgeStore,
    QdrantStore,
    QueryError,
    Record,
    VectorStore,
)
from multimodal_search.stores.keywords import WORDS, KeywordFields

FIELDS = ("filename", "caption", "title", "description", "keywords", "text", "ocr")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def server() -> Iterator[QdrantServer]:
    with running(grpc=True) as server:
        yield server


@pytest.fixture(params=["memory", "edge", "rest", "grpc", "strict"])
def store(request: pytest.FixtureRequest, tmp_path: Path, server: QdrantServer) -> VectorStore:
    """An empty store of each kind, and one on a server in strict mode with limits below a block of hybrid search."""
    match request.param:
        case "memory":
            return MemoryStore()
        case "edge":
            return QdrantEdgeStore(tmp_path / "index")
        case "strict":
            server.strict_mode = {
                "enabled": True,
                "unindexed_filtering_retrieve": False,
                "unindexed_filtering_update": False,
                "max_query_limit": 100,
                "search_max_batchsize": 10,
                "upsert_max_batchsize": 100,
            }
        case "grpc":
            return QdrantStore("photos", url=server.url, prefer_grpc=True, grpc_port=server.grpc_port)
    return QdrantStore("photos", url=server.url)


def found(index: MultimodalIndex, words: str, **settings: Any) -> list[str]:
    """The names of what holds some words."""
    return sorted(hit.filename or "" for hit in index.search(words, keyword_weight=1, **settings))


def test_a_renamed_file_is_found_by_its_new_name_and_not_embedded(store: VectorStore, tmp_path: Path) -> None:
    folder, embedder = folder_of(tmp_path / "photos", 3), TinyEmbedder()
    names = sorted(path.name for path in folder.iterdir())
    with MultimodalIndex(embedder, store, auto_calibrate=False) as index:
        index.sync_folder(folder)
        before = list(embedder.calls)
        assert not index.search("zebra", keyword_weight=1)
        (folder / names[0]).rename(folder / "a zebra.png")
        assert index.sync_folder(folder).moved == 1
        assert embedder.calls == before
        assert found(index, "zebra") == ["a zebra.png"]
        assert found(index, Path(names[0]).stem) == []


def test_other_fields_of_an_item_are_its_words_and_nothing_is_embedded(store: VectorStore, tmp_path: Path) -> None:
    folder, embedder = folder_of(tmp_path / "photos", 2), TinyEmbedder()
    path = min(folder.iterdir())
    with MultimodalIndex(embedder, store, auto_calibrate=False) as index:
        index.add([Item(path, payload={"caption": "a zebra", "camera": "nikon"})])
        before = list(embedder.calls)
        index.add([Item(path, payload={"caption": ["a lion", "ein Löwe"], "camera": "leica"})])
        assert found(index, "zebra") == []
        assert found(index, "LÖWE") == found(index, "lion") != []
        assert found(index, "leica") == []
        index.set_keyword_fields([*index.keyword_fields, "camera"])
        assert found(index, "leica") == found(index, "lion")
        assert embedder.calls == before


def test_page_after_page_gives_what_one_long_page_gives(store: VectorStore) -> None:
    """Also where a server gives at most 100 points at a time, and where a page ends among equal scores."""
    random = np.random.default_rng(6)
    rows = random.normal(size=(320, TinyEmbedder().spec.dimension)).astype(np.float32)
    texts = [" ".join(random.choice(["fox", "sky", "red", "a"], size=3)) for _ in rows]
    memory = MultimodalIndex(TinyEmbedder(), MemoryStore(), auto_calibrate=False)
    with MultimodalIndex(TinyEmbedder(), store, auto_calibrate=False) as index:
        for each in (memory, index):
            each.add_vectors(
                Record(at, {"caption": text, "k": at % 2}, vector=row)
                for at, (text, row) in enumerate(zip(texts, rows, strict=True))
            )
        for weight in (0.5, 1):
            for where in (None, {"k": 1}):
                settings: Any = {"keyword_weight": weight, "where": where}
                whole = index.search("red fox", limit=60, **settings)
                pages = [index.search("red fox", limit=30, offset=at, **settings) for at in (0, 30)]
                assert [hit.id for page in pages for hit in page] == [hit.id for hit in whole]
                scores = [hit.score for page in pages for hit in page]
                assert scores == pytest.approx([hit.score for hit in whole], abs=1e-6)
                assert [hit.id for hit in memory.search("red fox", limit=60, **settings)] == [hit.id for hit in whole]
                everything = [hit.id for hit in index.search_all("red fox", **settings)]
                assert len(set(everything)) == len(everything) > 60


def test_keyword_search_alone_has_all_matches(store: VectorStore) -> None:
    """Ranks are fused for the first 200 of each kind; where there is one kind, whoever asks for more gets more."""
    with MultimodalIndex(TinyEmbedder(), store, auto_calibrate=False) as index:
        index.add(Item(f"a fox {at}", id=at, payload={"k": at % 250}) for at in range(300))
        assert len(index.search("fox", limit=1_000, keyword_weight=1)) == 300
        assert [hit.id for hit in index.search("fox", limit=7, offset=250, keyword_weight=1)] == list(range(250, 257))
        assert len(list(index.search_all("fox", keyword_weight=1, keyword_fields=["text"]))) == 300
        assert len(index.search("fox", limit=1_000, keyword_weight=1, group_by="k")) == 250
        assert len(list(index.search_all("fox", keyword_weight=1, where={"k": {"lt": 50}}))) == 100


def test_a_server_in_strict_mode_has_an_index_on_the_words(server: QdrantServer) -> None:
    server.strict_mode = {"enabled": True, "unindexed_filtering_retrieve": False, "max_query_limit": 50}
    with MultimodalIndex(TinyEmbedder(), QdrantStore("photos", url=server.url), auto_calibrate=False) as index:
        index.add_texts([f"a fox {number}" for number in range(120)])
        where = {"text": {"ne": "a fox 3"}}
        assert len(index.search("fox", limit=120, keyword_weight=0.5, where=where)) == 119
        assert server.indexes["photos"][WORDS]["scoring"] is True
        assert server.indexes["photos"]["text"]["type"] == "keyword"
        index.set_keyword_fields(["text"])
        assert index.search("fox 7", limit=1, keyword_weight=1)[0].payload["text"] == "a fox 7"


def test_nothing_shows_the_words(store: VectorStore, tmp_path: Path) -> None:
    """Neither records, hits, files nor filters: what is read is what was given."""
    with MultimodalIndex(TinyEmbedder(), store, auto_calibrate=False) as index:
        index.add([Item(Image(png(1), name="red fox.png"), id=1, payload={"caption": "a fox"}), Item("a wolf", id=2)])
        before = {record.id: dict(record.payload) for record in index.store.scan()}
        hits = [*index.search("fox", keyword_weight=0.5), *index.search("fox", keyword_weight=1), *index.similar(1)]
        assert {hit.id for hit in hits} == {1, 2}
        assert all(dict(hit.payload) == before[hit.id] for hit in hits)
        assert WORDS not in str(before)
        assert WORDS not in index.search("fox", keyword_weight=0.5).to_json()
        index.search("fox", keyword_weight=0.5).to_html(tmp_path / "hits.html")
        assert WORDS not in (tmp_path / "hits.html").read_text("utf-8")
        index.export(tmp_path / "photos.parquet")
        assert WORDS not in str(pq.read_table(tmp_path / "photos.parquet").to_pylist())
        copy = MultimodalIndex(TinyEmbedder(), MemoryStore(), auto_calibrate=False)
        assert copy.add_export(tmp_path / "photos.parquet").added == 2
        assert [hit.id for hit in copy.search("fox", keyword_weight=1)] == [1]
        for value in ("a fox", {"exists": True}, {"glob": "*fox*"}, None):
            for name in (WORDS, f'"{WORDS}"', f"{WORDS}[]"):
                with pytest.raises(QueryError, match=r"no field of a payload.*keyword_weight"):
                    index.count({"not": {name: value}})


def test_a_field_of_the_name_of_the_words_is_refused_alone(store: VectorStore, tmp_path: Path) -> None:
    """With a sentence that says what to do; the other items are stored."""
    with MultimodalIndex(TinyEmbedder(), store, auto_calibrate=False) as index:
        report = index.add([Item("a fox", id=1, payload={WORDS: "mine"}), Item("a wolf", id=2)])
        row = np.ones(TinyEmbedder().spec.dimension, np.float32)
        given = index.add_vectors([Record(3, {WORDS: "mine"}, vector=row), Record(4, {}, vector=row)])
        table = pa.table({"id": [5], "vector": [row.tolist()], WORDS: ["mine"]})
        pq.write_table(table, tmp_path / "foreign.parquet")
        foreign = index.add_export(tmp_path / "foreign.parquet")
        for each, added in ((report, 1), (given, 1), (foreign, 0)):
            assert each.added == added
            (failure,) = each.failed
            assert WORDS in failure.reason
            assert "give yours another name" in failure.reason
        assert sorted(record.id for record in index.store.scan()) == [2, 4]
        with pytest.raises(ConfigurationError, match=r"no field of a payload: name the fields that the words are from"):
            index.set_keyword_fields(["caption", WORDS])
        assert index.keyword_fields == FIELDS


@pytest.mark.parametrize(
    "wrong", ["caption", b"caption", [], (), [1], None, {"caption": 1}, [f"f{n}" for n in range(500)], ["a" * 2_000]]
)
def test_senseless_fields_are_refused_and_change_nothing(store: VectorStore, wrong: Any) -> None:
    with MultimodalIndex(TinyEmbedder(), store, auto_calibrate=False) as index:
        index.add_texts(["a fox"])
        with pytest.raises(ConfigurationError, match="keyword fields are a list of 1 to 100 names"):
            index.set_keyword_fields(wrong)
        assert index.keyword_fields == FIELDS
        if wrong is not None:
            with pytest.raises(QueryError, match="keyword_fields is a list of 1 to 100 names"):
                index.search("fox", keyword_weight=0.5, keyword_fields=wrong)
        for weight in (-0.1, 1.1, float("nan"), float("inf"), "0.5", None, True):
            with pytest.raises(QueryError, match="keyword_weight must be a number from 0 to 1"):
                index.search("fox", keyword_weight=weight)  # type: ignore[arg-type]
        assert len(index.search("fox", keyword_weight=1)) == 1


def test_values_of_any_kind_have_the_words_of_their_texts(store: VectorStore) -> None:
    """Of numbers and mappings none; of a list those of its texts; of a very long text all."""
    captions: list[Any] = [
        7,
        3.5,
        True,
        None,
        {"en": "fox"},
        [["fox"], {"en": "fox"}],
        ["a fox", 7, None, "and a wolf"],
        "word " * 200_000 + "fox",
        "\x00fox\u200b",
        "",
    ]
    with MultimodalIndex(TinyEmbedder(), store, auto_calibrate=False) as index:
        report = index.add(
            Item(f"text {at}", id=at, payload={"caption": caption}) for at, caption in enumerate(captions)
        )
        assert report.added == len(captions)
        assert sorted(hit.id for hit in index.search("fox", limit=20, keyword_weight=1)) == [6, 7, 8]
        assert [hit.id for hit in index.search("wolf", keyword_weight=1)] == [6]
        assert [hit.payload["caption"] for hit in index.search("wolf", keyword_weight=1)] == [captions[6]]


def test_an_index_of_an_earlier_version_gets_its_words(
    tmp_path: Path, stack: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    """It has neither the field nor what says that all points have it: `optimize` writes both, embedding nothing."""
    embedder = TinyEmbedder()

    def open_index() -> MultimodalIndex:
        return MultimodalIndex.open(tmp_path / "index", embedder=embedder)

    with open_index() as index:
        index.add([Item("a fox"), Item("a wolf", payload={"caption": "grey"})])
        store: Any = index.store
        import qdrant_edge

        ids = [record.id for record in store.scan()]
        gone = qdrant_edge.UpdateOperation.delete_payload(ids, [WORDS])
        store._folder().write(lambda shard: shard.update(gone), flush=True)
    (tmp_path / "index" / "notes" / "keyword_fields").unlink()
    for complete in (False, True):
        index = stack.enter_context(open_index())
        store = index.store
        assert store._words.keywords == KeywordFields(complete=complete)
        for words, weight in (("fox", 1), ("grey", 1), ("fox", 0.5)):
            assert len(index.search(words, keyword_weight=weight, limit=1)) == 1
        assert not index.search("zebra", keyword_weight=1)
        told = [each for each in caplog.messages if "until index.optimize() has written their words" in each]
        assert len(told) == 1  # and no more with words that are complete
        embedded = list(embedder.calls)
        index.optimize()
        assert index.verify().problems == () or not complete
        assert len(index.search("grey", keyword_weight=1)) == 1
        assert embedder.calls == embedded
        index.close()


_SETTER = """
import sys
from tiny_embedder import TinyEmbedder
from multimodal_search import MultimodalIndex
with MultimodalIndex.open(sys.argv[1], embedder=TinyEmbedder()) as index:
    index.store.set_keyword_fields(["note"], on_tick=lambda: print("tick", flush=True))
"""


def test_a_killed_setting_of_fields_is_completed_by_the_next_run(tmp_path: Path) -> None:
    row = np.ones((1, TinyEmbedder().spec.dimension), np.float32)
    with MultimodalIndex.open(tmp_path / "index", embedder=TinyEmbedder(), auto_calibrate=False) as index:
        index.add_vectors(Record(n, {"caption": "fox", "note": "wolf"}, vector=row[0]) for n in range(3_000))
    command = [sys.executable, "-c", _SETTER, str(tmp_path / "index")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "tick"
        process.kill()
    with MultimodalIndex.open(tmp_path / "index", embedder=TinyEmbedder(), auto_calibrate=False) as index:
        store: Any = index.store
        assert index.keyword_fields == ("note",)
        assert not store._words.keywords.complete
        assert len(index.search("wolf", limit=3_000, keyword_weight=1)) == 3_000
        assert not index.search("fox", keyword_weight=1)
        index.add_texts(["anything"])
        assert store._words.keywords.complete
        assert not index.search("fox", keyword_weight=1)
        assert index.verify().problems == ()


def test_the_shell_shows_no_words(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", 2)
    names = sorted(path.name for path in folder.iterdir())
    rows = [{"filename": name, "caption": f"a zebra {at}"} for at, name in enumerate(names)]
    (tmp_path / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")

    def run(*arguments: object) -> str:
        command = [sys.executable, "-m", "multimodal_search", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout + done.stderr

    told = run("index", folder, "--manifest", tmp_path / "captions.jsonl", "-e", "color", "--quiet")
    assert "2 added" in told
    hits = run("search", "zebra 1", folder, "--keyword-weight", 1, "--json")
    assert [hit["payload"]["caption"] for hit in json.loads(hits)["hits"]] == ["a zebra 1", "a zebra 0"]
    assert WORDS not in hits + run("status", folder, "--json") + run("search", "red", folder) + run("verify", folder)
    (tmp_path / "captions.jsonl").write_text(json.dumps({**rows[0], WORDS: "mine"}) + "\n", "utf-8")
    command = [sys.executable, "-m", "multimodal_search", "index", str(folder), "--quiet", "--failures"]
    command += ["--manifest", str(tmp_path / "captions.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"line 1: the index itself writes fields called ['{WORDS}']: rename yours" in done.stderr
