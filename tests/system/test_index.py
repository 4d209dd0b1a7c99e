"""Searching, and the rest of `MultimodalIndex`."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from tiny_embedder import TinyEmbedder, image, png, slowly

from multimodal_search import (
    EmbedderSpec,
    Image,
    Item,
    MemoryStore,
    Mixed,
    MultimodalIndex,
    QueryError,
    Record,
    SchemaMismatchError,
    StoreClosedError,
    Text,
    UnreadableContentError,
    UnsupportedContentError,
)


@pytest.fixture
def index() -> MultimodalIndex:
    index = MultimodalIndex(TinyEmbedder(), MemoryStore())
    fields = [{"even": number % 2 == 0, "n": number} for number in range(9)]
    index.add([Item(Image(png(number)), id=number, payload=fields[number]) for number in range(9)])
    index.add([Item(Text(f"text {number}"), id=100 + number) for number in range(3)])
    return index


def test_an_image_finds_itself_however_it_is_given(index: MultimodalIndex, tmp_path: Path) -> None:
    (tmp_path / "query.png").write_bytes(png(3))
    ways = [tmp_path / "query.png", png(3), image(3), Image(io.BytesIO(png(3))), Image(str(tmp_path / "query.png"))]
    for query in ways:
        hit = index.search(query, limit=1)[0]
        assert hit.id == 3
        assert hit.score == pytest.approx(1, abs=1e-6)


def test_a_str_is_text_and_not_a_path(index: MultimodalIndex) -> None:
    assert index.search("text 2", limit=1)[0].id == 102
    assert index.search(Text("text 2"), limit=1)[0].text == "text 2"


@pytest.mark.parametrize(
    "path", ["/x/photo.jpg", "photos/a photo.JPG", "photo.nef", r"C:\photos\a.png", "https://me:secret@x.org/a.jpg"]
)
def test_a_str_that_is_the_path_of_an_image_is_refused(index: MultimodalIndex, path: str) -> None:
    """Its letters would be embedded and billed as words, and find nonsense."""
    for call in (lambda: index.search(path), lambda: index.search_many(["text", path]), lambda: index.search_all(path)):
        with pytest.raises(QueryError, match=r"a str is words, .*Text\(\.\.\.\)") as refused:
            call()
        assert "secret" not in str(refused.value)
    assert len(index.search(Text(path), limit=1)) == 1


def test_a_str_that_names_a_file_is_refused_and_words_are_not(
    index: MultimodalIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "notes.txt").write_text("")
    for path in ("notes.txt", "photos/", str(tmp_path / "photos"), "./notes.txt"):
        with pytest.raises(QueryError, match=r"write Path\(\.\.\.\)"):
            index.search(path)
    for words in (
        "and/or",
        "photos",
        "other.txt",
        "photo.jpg of a dog",
        "it is example.com",
        "v1.5",
        ".jpg",
        "a\nb.jpg",
    ):
        assert len(index.search(words, limit=1)) == 1
    assert len(index.search("x" * 10_000 + "/a.jpg", limit=1)) == 1


def test_a_mixed_query_is_embedded_as_one(index: MultimodalIndex) -> None:
    embedder = TinyEmbedder()
    query = Mixed("text 1", Image(image(4)))
    expected = embedder.embed([query], role="query")[0]
    hits = index.search(query, limit=12)
    assert [hit.id for hit in hits] == [hit.id for hit in index.search(expected, limit=12)]


def test_scores_and_order_are_those_of_exact_cosine(index: MultimodalIndex) -> None:
    """NumPy is the oracle."""
    query = np.random.default_rng(1).standard_normal(48).astype(np.float32)
    records = [record for record in index.store.get([*range(9), 100, 101, 102], with_vectors=True) if record]
    scores = {
        record.id: float(query @ record.vector / np.linalg.norm(query) / np.linalg.norm(record.vector))
        for record in records
        if record.vector is not None
    }
    hits = index.search(query, limit=20)
    assert [hit.id for hit in hits] == sorted(scores, key=lambda point_id: -scores[point_id])
    assert [hit.score for hit in hits] == pytest.approx([scores[hit.id] for hit in hits], abs=1e-5)
    assert [hit.id for hit in index.search(list(query), limit=4, offset=3)] == [hit.id for hit in hits[3:7]]
    assert len(index.search(query, limit=20, min_score=hits[4].score)) == 5


def test_filters_bound_a_search(index: MultimodalIndex) -> None:
    hits = index.search(image(3), where={"even": True, "n": {"gte": 4}})
    assert sorted(int(hit.id) for hit in hits) == [4, 6, 8]
    assert index.count({"even": True}) == 5


def test_many_searches_give_what_single_ones_give(index: MultimodalIndex) -> None:
    queries = ["text 0", image(1), Mixed("a", "b"), [1.0] * 48, Image(png(2)), *[f"more {n}" for n in range(10)]]
    together = index.search_many(queries, limit=3)
    assert [[hit.id for hit in found] for found in together] == [
        [hit.id for hit in index.search(query, limit=3)] for query in queries
    ]
    assert together[0].query == "text 0"
    assert index.search_many([]) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"query": "x", "limit": 0}, "limit"),
        ({"query": "x", "offset": -1}, "offset"),
        ({"query": [1.0, 2.0]}, r"\(48,\)"),
        ({"query": [float("nan")] * 48}, "NaN"),
        ({"query": ["a", "b"]}, "numbers"),
        ({"query": "x", "where": {"n": {"between": 3}}}, "between"),
    ],
)
def test_a_query_that_makes_no_sense_is_said_to(
    index: MultimodalIndex, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(QueryError, match=message):
        index.search(**arguments)  # type: ignore[arg-type]


def test_queries_that_cannot_be_embedded_name_the_reason(index: MultimodalIndex) -> None:
    with pytest.raises(UnsupportedContentError, match="empty"):
        index.search("")
    with pytest.raises(UnreadableContentError, match=r"nowhere\.png"):
        index.search(Path("nowhere.png"))
    with pytest.raises(TypeError, match="int"):
        index.search(3)  # type: ignore[arg-type]
    with pytest.raises(QueryError, match="search_many"):
        index.search_many("surfing")


def test_a_modality_the_embedder_lacks_is_refused() -> None:
    class WordsOnly(TinyEmbedder):
        def __init__(self) -> None:
            super().__init__()
            self.spec = EmbedderSpec(model="words", fingerprint="w", dimension=48, modalities=frozenset({"text"}))

    index = MultimodalIndex(WordsOnly(), MemoryStore())
    with pytest.raises(UnsupportedContentError, match="words embeds text, not image"):
        index.search(image(1))
    assert "not image" in index.add([image(1)]).failed[0].reason


def test_another_embedder_is_refused_even_with_equal_dimension() -> None:
    """Two models' vectors in one store give nonsense, and nobody notices."""
    store = MemoryStore()
    MultimodalIndex(TinyEmbedder(model="one"), store).add(["a"])
    with pytest.raises(SchemaMismatchError, match=r"'one'.*'two'"):
        MultimodalIndex(TinyEmbedder(model="two"), store)


def test_get_and_delete_take_one_id_or_many(index: MultimodalIndex) -> None:
    one = index.get(3)
    assert one is not None
    assert one.payload["n"] == 3
    assert index.get(999) is None
    many = index.get([3, 999, 100])
    assert [record and record.id for record in many] == [3, None, 100]
    index.delete(3)
    index.delete([4, 4, 12345, UUID(int=5)])
    assert index.get(3) is None
    assert index.count() == len(index) == 10


def test_queries_have_the_role_of_queries() -> None:
    """Asymmetric models embed a question and a document differently."""
    embedder = TinyEmbedder()
    index = MultimodalIndex(embedder, MemoryStore())
    index.add(["a"])
    index.search("a")
    assert embedder.roles == ["document", "query"]


def test_searching_while_indexing_is_allowed() -> None:
    embedder = TinyEmbedder(max_batch_size=4, max_concurrency=2, before=slowly(0.002))
    index = MultimodalIndex(embedder, MemoryStore())
    failures: list[BaseException] = []

    def search() -> None:
        try:
            for number in range(30):
                index.search(f"text {number}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    index.add_texts(f"text {number}" for number in range(300))
    for thread in threads:
        thread.join()
    assert failures == []
    assert index.count() == 300
    assert embedder.most_in_flight <= 2


def test_a_closed_index_says_so(index: MultimodalIndex) -> None:
    index.close()
    index.close()
    with pytest.raises(StoreClosedError):
        index.search("text 1")


def test_records_come_with_vectors_when_asked(index: MultimodalIndex) -> None:
    with_vector, without = index.get(3, with_vectors=True), index.get(3)
    assert isinstance(with_vector, Record)
    assert with_vector.vector is not None
    assert with_vector.vector.shape == (48,)
    assert without is not None
    assert without.vector is None
