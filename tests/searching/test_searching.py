"""Searching: the algebra of queries, and what may be done to hits, against NumPy and on every store."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tiny_embedder import TinyEmbedder, image

from multimodal_search import (
    ConfigurationError,
    EmbedderError,
    EmbedderSpec,
    Image,
    Item,
    MemoryStore,
    Mixed,
    MultimodalIndex,
    QdrantEdgeStore,
    QdrantStore,
    QueryError,
    Record,
    Role,
    SearchHit,
    Stored,
    SupportsTextSearch,
    Text,
    UnsupportedContentError,
    Vector,
    VectorStore,
)
from multimodal_search._searching.stages import BLOCK
from multimodal_search.contents import Content
from multimodal_search.types import FloatArray

DIMENSION = 48
CLOSE, ROUNDING = 5e-6, 1e-6

Rows = npt.NDArray[np.float64]


def rows_of(count: int, *, seed: int = 0, clusters: int | None = None) -> Rows:
    """Rows of unit length; in clusters, so that there is something to fold and to spread."""
    random = np.random.default_rng(seed)
    rows = random.standard_normal((count, DIMENSION))
    if clusters is not None:
        rows = random.standard_normal((clusters, DIMENSION))[random.integers(0, clusters, count)] + rows * 0.12
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit.astype(np.float32).astype(np.float64)


def payload_of(number: int) -> dict[str, Any]:
    return {"n": number, "album": f"album {number % 7}", "odd": number % 2 == 1, "tags": [number % 3, "all"]}


def filled(store: VectorStore, rows: Rows, embedder: TinyEmbedder | None = None) -> MultimodalIndex:
    index = MultimodalIndex(embedder or TinyEmbedder(), store, auto_calibrate=False)
    index.add_vectors(
        Record(number, payload_of(number), vector=row.astype(np.float32)) for number, row in enumerate(rows)
    )
    return index


ROWS = rows_of(300, seed=3590, clusters=12)  # with which no two scores of these tests are closer than 4e-6


@pytest.fixture
def index(new_store: Callable[[], VectorStore]) -> Iterator[MultimodalIndex]:
    with filled(new_store(), ROWS) as index:
        yield index


@pytest.fixture
def memory_index() -> MultimodalIndex:
    return filled(MemoryStore(), ROWS)


def unit(vector: npt.ArrayLike) -> Rows:
    wide = np.asarray(vector, np.float64)
    return wide / np.linalg.norm(wide)


def order(vector: Rows, *, rows: Rows = ROWS) -> list[int]:
    scores = rows @ unit(vector)
    return sorted(range(len(rows)), key=lambda number: (-scores[number], number))


def ids(hits: Sequence[SearchHit] | Iterator[SearchHit]) -> list[Any]:
    return [hit.id for hit in hits]


# -- the algebra -------------------------------------------------------------------------------------------------------


def embedded(*contents: Any) -> list[Rows]:
    prepared = [Image(content.source) if isinstance(content, Image) else content for content in contents]
    return [unit(row) for row in TinyEmbedder().embed(prepared, role="query")]


A_TEXT, ANOTHER, A_IMAGE = Text("beach"), Text("people"), Image(image(5), name="a.jpg")


def test_every_kind_of_query_becomes_the_vector_that_arithmetic_says(index: MultimodalIndex) -> None:
    beach, people, photo, both = embedded(A_TEXT, ANOTHER, A_IMAGE, Mixed("beach", A_IMAGE))
    raw = np.random.default_rng(3).standard_normal(DIMENSION) * 9
    cases: list[tuple[Any, Rows]] = [
        ("beach", beach),
        (A_TEXT, beach),
        (A_IMAGE, photo),
        (Mixed("beach", A_IMAGE), both),
        (Stored(7), ROWS[7]),
        (Vector(raw), raw),
        (raw, raw),
        (raw.tolist(), raw),
        (3 * A_TEXT, beach),
        (-A_TEXT, -beach),
        (A_TEXT + 0.5 * A_IMAGE - ANOTHER, beach + 0.5 * photo - people),
        (A_TEXT * 2 - 0.25 * Stored(3), 2 * beach - 0.25 * ROWS[3]),
        (Vector(raw) + A_TEXT, unit(raw) + beach),
        (2 * (A_TEXT - 0.5 * ANOTHER) + A_IMAGE, 2 * beach - people + photo),
        (A_TEXT - (ANOTHER - A_IMAGE), beach - people + photo),
        (A_TEXT + A_TEXT, beach),
        (Mixed("beach", A_IMAGE) - np.float32(0.5) * Stored(9), both - 0.5 * ROWS[9]),
        (-(-1 * A_TEXT) * 1, beach),
    ]
    for query, vector in cases:
        hits = index.search(query, limit=20)
        assert ids(hits) == order(vector)[:20], query
        assert [hit.score for hit in hits] == pytest.approx((ROWS @ unit(vector))[ids(hits)], abs=CLOSE), query
    together = index.search_many([query for query, _ in cases], limit=20)
    assert [ids(hits) for hits in together] == [order(vector)[:20] for _, vector in cases]


WRITTEN = [
    "Text('beach') + 0.5 * Image('a.jpg') - Text('people')",
    "-Text('a')",
    "2 * Text('a') - 0.25 * (Text('b') + Stored(3))",
    "Text('a') - (Text('b') - Text('c'))",
    "Mixed(Text('at night'), Image('a.jpg')) + Vector([0.5, -1])",
    "-(Text('a') + Text('b')) + 1e-05 * Stored('00000000-0000-0000-0000-000000000007')",
    "-0.5 * Text('a') + Text('b')",
]


@pytest.mark.parametrize("written", WRITTEN)
def test_a_query_is_a_value_that_prints_as_it_was_written(written: str) -> None:
    """Programs keep queries in sets and logs, and send them to other processes."""
    names = {"Text": Text, "Image": Image, "Mixed": Mixed, "Stored": Stored, "Vector": Vector}
    query, again = eval(written, names), eval(written, names)
    assert repr(query) == written
    assert query == again
    assert hash(query) == hash(again)
    assert pickle.loads(pickle.dumps(query)) == query
    assert query != eval("Text('a') + Text('z')", names)
    with pytest.raises((AttributeError, TypeError)):  # which one, depends on Python's version
        query.other = 1


def test_a_long_vector_prints_short_and_equals_by_its_numbers() -> None:
    assert repr(Vector([0.1] * 128)) == "Vector(<128 numbers>)"
    assert Vector(np.ones(3)) == Vector([1, 1, 1]) != Vector([1, 1, 2])
    assert Stored(UUID(int=7)) == Stored("00000000-0000-0000-0000-000000000007")


def test_results_say_what_was_searched_for(memory_index: MultimodalIndex) -> None:
    assert memory_index.search("beach").query == "beach"
    assert memory_index.search(A_TEXT - 0.5 * ANOTHER).query == "Text('beach') - 0.5 * Text('people')"
    assert memory_index.search(A_IMAGE).query == "a.jpg"
    assert memory_index.similar([1, 2], unlike=3).query == "Stored(1) + Stored(2) - Stored(3)"


def test_all_parts_of_all_queries_are_embedded_in_one_call() -> None:
    embedder = TinyEmbedder()
    index = filled(MemoryStore(), ROWS, embedder)
    index.search(A_TEXT + 0.5 * A_IMAGE - ANOTHER + 0.1 * A_TEXT)
    assert embedder.calls == [3]
    index.search_many([A_IMAGE - Text("c"), "d", Mixed("e", A_IMAGE), "d"])
    assert embedder.calls == [3, 4]


def test_a_text_is_embedded_once_however_often_it_is_asked() -> None:
    embedder = TinyEmbedder()
    index = filled(MemoryStore(), ROWS, embedder)
    pages = [index.search("beach", limit=5, offset=offset) for offset in (0, 5, 10)]
    assert [ids(page) for page in pages] == [order(embedded(A_TEXT)[0])[at : at + 5] for at in (0, 5, 10)]
    index.search(A_TEXT + Stored(1))
    assert embedder.calls == [1]


def test_images_are_read_again_because_files_change(tmp_path: Path) -> None:
    index = filled(MemoryStore(), ROWS)
    image(1).save(tmp_path / "query.png")
    first = ids(index.search(tmp_path / "query.png"))
    image(2).save(tmp_path / "query.png")
    assert ids(index.search(tmp_path / "query.png")) != first


def test_remembered_texts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multimodal_search._searching.encoder.REMEMBERED", 3)
    embedder = TinyEmbedder()
    index = filled(MemoryStore(), ROWS, embedder)
    for text in ["a", "b", "c", "a", "d", "a", "b"]:  # "b" was asked for longest ago when "d" came
        index.search(text)
    assert len(embedder.calls) == 5


SENSELESS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: A_TEXT - Text("beach"), QueryError, "cancel"),
    (lambda: 0 * A_TEXT, QueryError, "cancel"),
    (lambda: A_TEXT + Stored(999), QueryError, "999"),
    (lambda: Stored("00000000-0000-0000-0000-000000000007"), QueryError, "no point with the id"),
    (lambda: float("nan") * A_TEXT, QueryError, "finite"),
    (lambda: 10**400 * A_TEXT, QueryError, "finite"),
    (lambda: [0.0] * DIMENSION, QueryError, "zero"),
    (lambda: Vector([1.0, 2.0]), QueryError, r"\(48,\)"),
    (lambda: Vector([]), QueryError, "one row"),
    (lambda: Vector(np.ones((2, 2))), QueryError, "one row"),
    (lambda: Vector([True, "a"]), QueryError, "numbers only"),
    (lambda: Vector("abc"), TypeError, "list of numbers"),
    (lambda: A_TEXT + Text("  "), UnsupportedContentError, "empty"),
    (lambda: Mixed(), UnsupportedContentError, "."),
    (lambda: {"a": 1}, TypeError, "Stored"),
    (lambda: None, TypeError, "something to search with"),
    (lambda: A_TEXT + "people", TypeError, "unsupported operand"),
    (lambda: A_TEXT * A_TEXT, TypeError, "unsupported operand"),
    (lambda: True * A_TEXT, TypeError, "unsupported operand"),
    (lambda: np.ones(3) * A_TEXT, TypeError, "unsupported operand|ufunc"),
    (lambda: Stored("seven"), Exception, "seven"),
]


@pytest.mark.parametrize("case", SENSELESS, ids=range(len(SENSELESS)))
def test_a_query_without_sense_is_said_to(
    case: tuple[Callable[[], Any], type[Exception], str], memory_index: MultimodalIndex
) -> None:
    make, error, said = case
    with pytest.raises(error, match=said):
        memory_index.search(make())


def test_an_embedder_that_takes_no_mixture_says_what_to_write_instead() -> None:
    class Apart(TinyEmbedder):
        def __init__(self) -> None:
            super().__init__()
            self.spec = EmbedderSpec(
                model="apart", fingerprint="a", dimension=DIMENSION, modalities=frozenset({"text", "image"})
            )

    index = filled(MemoryStore(), ROWS, Apart())
    with pytest.raises(UnsupportedContentError, match=r"not mixed.*Text\('beach'\) \+ Image\(a\.jpg\)"):
        index.search(Mixed("beach", A_IMAGE))
    assert len(index.search(A_TEXT + A_IMAGE)) == 10


# -- more like this ----------------------------------------------------------------------------------------------------


def test_similar_never_returns_its_examples(index: MultimodalIndex) -> None:
    (photo,) = embedded(A_IMAGE)
    cases: list[tuple[dict[str, Any], Rows, set[int]]] = [
        ({"like": 7}, ROWS[7], {7}),
        ({"like": [7, 9]}, ROWS[7] + ROWS[9], {7, 9}),
        ({"like": [7, 9], "unlike": 3}, (ROWS[7] + ROWS[9]) - ROWS[3], {3, 7, 9}),
        ({"like": 7, "unlike": [3, 4]}, 2 * ROWS[7] - (ROWS[3] + ROWS[4]) / 2, {3, 4, 7}),
        ({"like": [], "unlike": [3]}, -ROWS[3], {3}),
        ({"like": [A_IMAGE, 5]}, photo + ROWS[5], {5}),
    ]
    for arguments, vector, without in cases:
        expected = [number for number in order(vector) if number not in without]
        assert ids(index.similar(**arguments, limit=15)) == expected[:15]
        assert ids(index.similar(**arguments, limit=7, offset=6)) == expected[6:13]
        assert ids(index.similar(**arguments, limit=400)) == expected
        odd = [number for number in expected if number % 2]
        assert ids(index.similar(**arguments, limit=5, where={"odd": True})) == odd[:5]


def test_similar_needs_an_example_that_is_stored(memory_index: MultimodalIndex) -> None:
    for arguments, said in (({"like": []}, "needs an example"), ({"like": 999}, "999"), ({"like": [1, 999]}, "999")):
        with pytest.raises(QueryError, match=said):
            memory_index.similar(**arguments)  # type: ignore[arg-type]


# -- pages -------------------------------------------------------------------------------------------------------------

QUERY = ROWS[11] + ROWS[20] * 0.7

SETTINGS: list[dict[str, Any]] = [
    {},
    {"min_score": 0.2},
    {"diversity": 0.5},
    {"deduplicate": 0.95},
    {"deduplicate": 0.95, "diversity": 0.3, "min_score": -0.1},
    {"group_by": "album"},
    {"group_by": "tags", "where": {"odd": True}},
    {"where": {"n": {"gte": 250}}, "diversity": 1},
]


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_page_after_page_is_one_long_page(index: MultimodalIndex, setting: dict[str, Any]) -> None:
    """Nothing twice and nothing lost, whatever is done to the hits."""
    long = index.search(QUERY, limit=1000, **setting)
    if "group_by" not in setting:
        assert ids(index.search_all(QUERY, **setting)) == ids(long)
    for size in (7, 150):
        pages = [index.search(QUERY, limit=size, offset=offset, **setting) for offset in range(0, len(long), size)]
        assert ids([hit for page in pages for hit in page]) == ids(long)
    assert len(index.search(QUERY, limit=5, offset=len(long), **setting)) == 0
    (among_many,) = index.search_many([QUERY], limit=1000, **setting)
    assert ids(among_many) == ids(long)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    limit=st.integers(1, 60),
    offset=st.integers(0, 320),
    least=st.one_of(st.none(), st.floats(-0.5, 0.9)),
)
def test_a_page_is_what_numpy_says(
    index: MultimodalIndex, seed: int, limit: int, offset: int, least: float | None
) -> None:
    """The order is total, `min_score` cuts the same hits everywhere, and an offset skips what comes before it."""
    query = np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32).astype(np.float64)
    scores = ROWS @ unit(query)
    assume(np.diff(np.sort(scores)).min() > ROUNDING)  # closer ones may change places
    assume(least is None or np.abs(scores - least).min() > CLOSE)
    expected = [number for number in order(query) if least is None or scores[number] >= least]
    hits = index.search(query, limit=limit, offset=offset, min_score=least)
    assert ids(hits) == expected[offset : offset + limit]
    assert ids(index.search_all(query, min_score=least)) == expected


def test_all_hits_are_fetched_as_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    store = MemoryStore()
    index = filled(store, rows_of(3000))
    search = store.search
    monkeypatch.setattr(store, "search", lambda *a, **k: asked.append(k["limit"]) or search(*a, **k))
    hits = index.search_all(QUERY)
    assert asked == []
    next(hits)
    assert asked == [BLOCK]
    assert len(list(hits)) == 2999
    assert sum(asked) < 2 * 4096


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 2.5}, "limit"),
        ({"limit": True}, "limit"),
        ({"offset": -1}, "offset"),
        ({"min_score": "high"}, "min_score"),
        ({"diversity": 1.5}, "diversity"),
        ({"diversity": float("nan")}, "diversity"),
        ({"keyword_weight": -0.1}, "keyword_weight"),
        ({"deduplicate": 1.2}, "deduplicate"),
        ({"deduplicate": "yes"}, "deduplicate"),
        ({"group_size": 2}, "group_by"),
        ({"group_by": "a..b"}, "no field"),
        ({"group_by": "album", "group_size": 0}, "group_size"),
        ({"keyword_fields": "caption"}, "keyword_fields"),
    ],
)
def test_settings_without_sense_are_refused(
    memory_index: MultimodalIndex, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(QueryError, match=said):
        memory_index.search(QUERY, **arguments)


# -- words -------------------------------------------------------------------------------------------------------------

WORDS = ["dog", "cat", "beach", "red", "house", "tree"]
CAPTIONS = [
    " ".join(np.random.default_rng(number).choice(WORDS, 1 + number % 5)) if number % 3 else None
    for number in range(len(ROWS))
]


@pytest.fixture
def captioned(new_store: Callable[[], VectorStore]) -> Iterator[MultimodalIndex]:
    with MultimodalIndex(TinyEmbedder(), new_store()) as index:
        index.add_vectors(
            Record(number, payload_of(number) | {"caption": caption} if caption else {}, vector=row.astype(np.float32))
            for number, (caption, row) in enumerate(zip(CAPTIONS, ROWS, strict=True))
        )
        yield index


def fused(vector: Rows, by_words: Sequence[int], weight: float, numbers: Sequence[int]) -> list[int]:
    """Reciprocal rank fusion as its definition says."""
    scores = ROWS @ unit(vector)
    by_vector = [number for number in order(vector) if number in set(numbers)]
    share = {number: (1 - weight) / (60 + rank) for rank, number in enumerate(by_vector[:BLOCK], start=1)}
    for rank, number in enumerate(by_words[:BLOCK], start=1):
        share[number] = share.get(number, 0) + weight / (60 + rank)
    best = sorted(share, key=lambda number: (-share[number], -scores[number], number))
    rest = [number for number in by_vector[BLOCK:] if number not in share]
    return [number for number in best if share[number]] + (rest if weight < 1 else [])


@pytest.mark.parametrize("weight", [0.2, 0.5, 1])
def test_words_and_vectors_are_fused_by_reciprocal_rank(captioned: MultimodalIndex, weight: float) -> None:
    store = captioned.store
    assert isinstance(store, SupportsTextSearch)
    (vector,) = embedded(Text("dog on a beach"))
    for where, numbers in ((None, range(300)), ({"odd": True}, [n for n in range(300) if n % 3 and n % 2])):
        matches = store.search_text("dog on a beach", limit=300, where=where)
        by_words = [int(match.id) for match in matches]
        assert set(by_words) == {n for n in numbers if CAPTIONS[n] and {"dog", "beach"} & set(CAPTIONS[n].split())}
        expected = fused(vector, by_words, weight, numbers)
        hits = captioned.search("dog on a beach", limit=300, keyword_weight=weight, where=where)
        assert ids(hits) == expected
        scores = dict(enumerate(ROWS @ unit(vector)))
        if weight == 1:
            scores = {int(match.id): match.score / matches[0].score for match in matches}
        assert [hit.score for hit in hits] == pytest.approx([scores[n] for n in expected], abs=CLOSE)
        assert [hit.payload["n"] for hit in hits if hit.payload] == [n for n in expected if CAPTIONS[n]]
        pages = [
            captioned.search("dog on a beach", limit=11, offset=at, keyword_weight=weight, where=where)
            for at in range(0, len(expected), 11)
        ]
        assert ids([hit for page in pages for hit in page]) == expected
        least = 0.8 if weight == 1 else 0.05
        kept = [n for n in expected if scores[n] >= least]
        assert 0 < len(kept) < len(expected)
        assert (
            ids(captioned.search("dog on a beach", limit=300, keyword_weight=weight, where=where, min_score=least))
            == kept
        )


def test_words_come_from_all_texts_that_count_for_a_hit(captioned: MultimodalIndex) -> None:
    """Those that count against one are not what is looked for."""
    query = Mixed("cat", A_IMAGE) + 0.5 * Text("house") - Text("dog")
    for hit in captioned.search(query, limit=300, keyword_weight=1):
        assert {"cat", "house"} & set(hit.payload["caption"].split())


def test_words_alone_need_no_embedding() -> None:
    """An account is not billed, nor a model asked, for what a full-text search answers."""

    class Unreachable(TinyEmbedder):
        def embed(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
            raise EmbedderError("nobody is there")

    index = MultimodalIndex(Unreachable(), MemoryStore(), auto_calibrate=False)
    index.add_vectors(
        Record(number, {"caption": caption, "modality": "image"}, vector=ROWS[number])
        for number, caption in enumerate(["a red apple", "a red, red apple", "a boat", "apple"])
    )
    for query in ("red apple", Text("red apple") + 0.5 * A_IMAGE - Text("boat"), Mixed("red apple", A_IMAGE)):
        hits = index.search(query, keyword_weight=1)
        assert ids(hits) == [1, 0, 3]
        assert hits[0].score == 1
        assert 1 > hits[1].score > hits[2].score > 0
        assert "keyword search alone" in hits.relevance_unknown
        assert [hit.relevance for hit in hits] == [None] * 3
    assert ids(index.search("red apple", keyword_weight=1, min_score=hits[1].score)) == [1, 0]
    assert ids(index.search("red apple", keyword_weight=1, offset=1, limit=1)) == [0]
    assert ids(index.search_many(["boat", "apple"], keyword_weight=1)[0]) == [2]
    assert ids(index.search_all("boat", keyword_weight=1)) == [2]
    assert ids(index.similar(Text("boat"), keyword_weight=1.0)) == [2]
    assert ids(index.search("red apple", keyword_weight=1, group_by="modality")) == [1]
    assert set(ids(index.search("red apple", keyword_weight=1, deduplicate=True, diversity=0.3))) <= {0, 1, 3}
    with pytest.raises(EmbedderError):
        index.search("red apple", keyword_weight=0.99)


def test_words_need_a_text_and_a_store_that_has_words(captioned: MultimodalIndex) -> None:
    for query in (A_IMAGE, Stored(3), A_IMAGE - Text("dog"), ROWS[3]):
        with pytest.raises(QueryError, match="needs a text in the query"):
            captioned.search(query, keyword_weight=0.5)


def test_a_store_without_words_is_read() -> None:
    """Hybrid search works with any store; what it finds is what a store with an index finds."""

    class Wordless:
        """All that a vector store must have, and nothing more."""

        def __init__(self) -> None:
            inner = MemoryStore()
            for name in ("ensure", "upsert", "search", "get", "scan", "delete", "count", "close"):
                setattr(self, name, getattr(inner, name))

    found = []
    for store in (Wordless(), MemoryStore()):
        index = filled(store, ROWS)  # type: ignore[arg-type]
        index.add(Item(Text(text), id=900 + at) for at, text in enumerate(("a red dog", "blue cat", "red fox")))
        found.append([(hit.id, hit.score) for hit in index.search("red dog", limit=50, keyword_weight=0.5)])
        found.append([(hit.id, hit.score) for hit in index.search("red dog", keyword_weight=1)])
        if isinstance(store, MemoryStore):
            index.set_keyword_fields(["caption"])
            assert index.keyword_fields == ("caption",)
        else:
            with pytest.raises(ConfigurationError, match="SupportsTextSearch"):
                index.set_keyword_fields(["caption"])
    assert found[:2] == found[2:]
    assert [each for each, _ in found[1]] == [900, 902]


def test_fields_restrict_what_the_words_found(captioned: MultimodalIndex) -> None:
    """Of those that hold a word somewhere, the ones that hold it there; the others are as if they were not."""
    records = [
        Record(800, {"caption": "zebra", "title": "a lion and a lion"}, vector=ROWS[0]),
        Record(801, {"caption": "lion", "title": "zebra", "k": 1}, vector=ROWS[1]),
        Record(802, {"title": "lion", "keywords": ["zebra"], "k": 1}, vector=ROWS[2]),
        Record(803, {"author": "lion"}, vector=ROWS[3]),
    ]
    captioned.add_vectors(records, progress=False)

    def found(**settings: Any) -> list[object]:
        return ids(captioned.search("lion", keyword_weight=1, **settings))

    assert set(found()) == {800, 801, 802}
    assert found(keyword_fields=["title"]) in ([800, 802], [802, 800])
    assert found(keyword_fields=["caption"]) == [801]
    assert found(keyword_fields=["title", "caption"], where={"k": 1}) in ([801, 802], [802, 801])
    assert found(keyword_fields=["author"]) == [803]
    assert found(keyword_fields=["author", "caption"], where={"k": 1}) == [801]
    assert found(keyword_fields=["nobody"]) == []
    captioned.delete([record.id for record in records])


# -- diversity, folding, groups ----------------------------------------------------------------------------------------


def mmr(vector: Rows, diversity: float, numbers: Sequence[int], rows: Rows = ROWS) -> list[int]:
    """Maximal marginal relevance as its definition says, without any thought for speed."""
    left, taken = list(numbers), []
    scores, closeness = rows @ unit(vector), rows @ rows.T
    while left:
        nearest = closeness[np.ix_(left, taken)].max(axis=1, initial=-1 if taken else 0)
        gains = (1 - diversity) * scores[left] - diversity * nearest
        best = left[int(np.argmax(np.round(gains, 6)))]
        left.remove(best)
        taken.append(best)
    return taken


@pytest.mark.parametrize("diversity", [0.1, 0.5, 0.9, 1])
def test_diverse_hits_are_those_of_maximal_marginal_relevance(index: MultimodalIndex, diversity: float) -> None:
    best = order(QUERY)
    expected = mmr(QUERY, diversity, best[:BLOCK]) + mmr(QUERY, diversity, best[BLOCK:])
    hits = index.search(QUERY, limit=400, diversity=diversity)
    assert ids(hits) == expected
    assert [hit.score for hit in hits] == pytest.approx((ROWS @ unit(QUERY))[expected], abs=CLOSE)
    assert hits[0].id == best[0]


def test_without_diversity_hits_are_in_the_order_of_their_scores(index: MultimodalIndex) -> None:
    assert ids(index.search(QUERY, limit=300, diversity=0)) == order(QUERY)


def test_nearly_equal_hits_stand_behind_the_best_of_them(index: MultimodalIndex) -> None:
    threshold = 0.55
    close = np.clip(ROWS @ ROWS.T, -1, 1)
    assert np.abs(close - threshold).min() > 1e-6
    kept: list[int] = []
    behind: dict[int, list[int]] = {}
    best = order(QUERY)
    for number in best:
        near = [at for at in kept if close[at, number] >= threshold]
        if near:
            behind.setdefault(near[0], []).append(number)
        else:
            kept.append(number)
    assert 3 < len(kept) < 100
    hits = index.search(QUERY, limit=300, deduplicate=threshold)
    assert ids(hits) == kept
    first_block = set(best[:BLOCK])
    for hit in hits:
        expected = [number for number in behind.get(int(hit.id), []) if number in first_block]
        assert ids(hit.duplicates) == expected or not first_block.issuperset([hit.id])


def test_groups_come_in_the_order_of_their_best_hits(index: MultimodalIndex) -> None:
    best = order(QUERY)
    albums = list(dict.fromkeys(number % 7 for number in best))
    hits = index.search(QUERY, limit=4, offset=1, group_by="album", group_size=3)
    assert ids(hits) == [n for album in albums[1:5] for n in [at for at in best if at % 7 == album][:3]]
    assert [hit.group for hit in hits] == [f"album {album}" for album in albums[1:5] for _ in range(3)]
    one_each = index.search(QUERY, group_by="album")
    assert ids(one_each) == [next(at for at in best if at % 7 == album) for album in albums]
    odd = index.search(QUERY, group_by="album", group_size=2, limit=2, where={"odd": True}, min_score=-0.9)
    assert all(int(hit.id) % 2 for hit in odd)


def test_values_of_several_types_and_lists_make_groups(index: MultimodalIndex) -> None:
    best = order(QUERY)
    hits = index.search(QUERY, group_by="tags", group_size=2)
    groups = {hit.group for hit in hits}
    assert groups == {"all", 0, 1, 2}
    assert ids([hit for hit in hits if hit.group == "all"]) == best[:2]
    assert ids([hit for hit in hits if hit.group == 1]) == [n for n in best if n % 3 == 1][:2]
    assert {hit.group for hit in index.search(QUERY, group_by="odd")} == {True, False}


def test_a_hit_without_the_field_is_a_group_of_its_own(index: MultimodalIndex) -> None:
    index.add_vectors([Record(1000 + n, {"lonely": n}, vector=ROWS[11].astype(np.float32)) for n in range(2)])
    hits = index.search(ROWS[11], limit=5, group_by="album")
    assert [hit.group for hit in hits[:3]] == ["album 4", None, None]
    assert ids(hits[:3]) == [11, 1000, 1001]


def test_stores_agree_in_everything(tmp_path: Path) -> None:
    """The same hits in the same order, whichever store."""
    stores = [MemoryStore(), QdrantEdgeStore(tmp_path / "index"), QdrantStore("x", location=":memory:")]
    indexes = [filled(store, ROWS) for store in stores]
    for setting in [*SETTINGS, {"deduplicate": True, "group_by": "album", "group_size": 3, "diversity": 0.7}]:
        found = [index.search(QUERY, limit=40, offset=3, **setting) for index in indexes]
        assert ids(found[0]) == ids(found[1]) == ids(found[2]), setting
        for hits in found[1:]:
            assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in found[0]], abs=CLOSE)
    for index in indexes:
        index.close()


# -- what happens meanwhile, and at the edges --------------------------------------------------------------------------


def test_hits_do_not_end_where_a_point_was_deleted_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that is short because a point of it has gone is not the last one."""
    store = QdrantEdgeStore(tmp_path / "index")
    with filled(store, rows_of(1000)) as index:
        payloads_of = store._payloads_of

        def deleting(wanted: Sequence[Any]) -> dict[Any, dict[str, Any]]:
            store.delete(wanted[:1])
            return payloads_of(wanted)

        monkeypatch.setattr(store, "_payloads_of", deleting)
        hits = ids(index.search_all(QUERY))
        assert len(hits) == len(set(hits)) >= 990


def test_members_of_groups_are_those_of_the_one_ranking(index: MultimodalIndex) -> None:
    """An image that stands behind another must not come back as a member of its own group."""
    for setting in ({"deduplicate": 0.55}, {"diversity": 0.6}, {"deduplicate": 0.55, "diversity": 0.2}, {}):
        stream = index.search(QUERY, limit=300, **setting)  # type: ignore[arg-type]
        members: dict[str, list[Any]] = {}
        for hit in stream:
            members.setdefault(hit.payload["album"], []).append(hit.id)
        expected = [each for group in members.values() for each in group[:3]]
        found = index.search(QUERY, limit=300, group_by="album", group_size=3, **setting)  # type: ignore[arg-type]
        assert ids(found) == expected


def test_values_of_different_types_are_different_groups(new_store: Callable[[], VectorStore]) -> None:
    values: list[Any] = [1, 1.5, True, "1", 2.0]
    with MultimodalIndex(TinyEmbedder(), new_store()) as index:
        index.add_vectors(
            Record(number, {"and": values[number % 5]}, vector=row.astype(np.float32))
            for number, row in enumerate(ROWS[:50])
        )
        hits = index.search(QUERY, group_by="and", group_size=20)
        assert len(hits) == 50
        for value in values:
            numbers = [int(hit.id) for hit in hits if type(hit.group) is type(value) and hit.group == value]
            assert sorted(numbers) == [n for n in range(50) if values[n % 5] is value]


def test_exact_copies_are_folded_whatever_rounding_says(new_store: Callable[[], VectorStore]) -> None:
    rows = rows_of(100)
    with filled(new_store(), np.concatenate([rows, rows])) as index:
        hits = index.search(QUERY, limit=300, deduplicate=1.0)
        assert len(hits) == 100
        assert all(len(hit.duplicates) == 1 for hit in hits)


def test_diversity_heeds_the_order_that_words_have_made(captioned: MultimodalIndex) -> None:
    by_words = captioned.search("dog on a beach", limit=20, keyword_weight=0.9)
    hardly_diverse = captioned.search("dog on a beach", limit=20, keyword_weight=0.9, diversity=0.001)
    assert len(set(ids(by_words)) & set(ids(hardly_diverse))) >= 18


@pytest.mark.parametrize("weights", [(1e200, 3e200), (1e-200, 3e-200), (1e300, 1.0)])
def test_weights_may_be_huge_and_tiny(memory_index: MultimodalIndex, weights: tuple[float, float]) -> None:
    one, other = weights
    largest = max(weights)
    query = one * Stored(3) + other * Stored(4)
    assert ids(memory_index.search(query)) == order(one / largest * ROWS[3] + other / largest * ROWS[4])[:10]


def test_weights_beyond_all_numbers_are_refused(memory_index: MultimodalIndex) -> None:
    for make in (lambda: 1e200 * (1e200 * A_TEXT), lambda: 1e200 * (1e200 * A_TEXT + Stored(3))):
        with pytest.raises(QueryError, match=r"finite|too large"):
            memory_index.search(make())


def test_large_numbers_in_a_vector_warn_nobody(memory_index: MultimodalIndex) -> None:
    assert ids(memory_index.search((ROWS[3] * 1e30).astype(np.float32))) == order(ROWS[3])[:10]


def test_numbers_of_numpy_are_numbers(index: MultimodalIndex) -> None:
    hits = index.search(QUERY, limit=np.int64(5), offset=np.int32(3), group_by="n", group_size=np.int16(1))  # type: ignore[arg-type]
    assert ids(hits) == order(QUERY)[3:8]
    assert ids(index.similar(np.int64(7), limit=3)) == order(ROWS[7])[1:4]  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [Path("a.jpg"), b"\x89PN", np.ones(48), None, 1.5, {1: 2}, "red", [1, None]])
def test_similar_says_what_it_takes(memory_index: MultimodalIndex, wrong: Any) -> None:
    with pytest.raises(QueryError, match=r"Image\(\.\.\.\)"):
        memory_index.similar(wrong)


@pytest.mark.parametrize(
    "arguments",
    [{"min_score": float("nan")}, {"keyword_weight": 1, "keyword_fields": [1]}, {"limit": None}],
)
def test_settings_of_no_meaning_are_refused(memory_index: MultimodalIndex, arguments: dict[str, Any]) -> None:
    with pytest.raises(QueryError, match=next(iter(arguments)) if len(arguments) == 1 else "keyword_fields"):
        memory_index.search("a", **arguments)


def test_all_hits_are_refused_before_the_first_is_asked_for(memory_index: MultimodalIndex) -> None:
    with pytest.raises(QueryError, match="needs a text in the query"):
        memory_index.search_all(A_IMAGE, keyword_weight=0.5)


def test_times_from_before_time_zones_can_be_filtered_by(new_store: Callable[[], VectorStore]) -> None:
    """Local mean time is some seconds off whole minutes, which not every engine reads."""
    berlin = timezone(timedelta(minutes=53, seconds=28))
    with MultimodalIndex(TinyEmbedder(), new_store()) as index:
        index.add_vectors(
            Record(n, {"t": f"{1870 + n}-06-01T00:00:00Z"}, vector=ROWS[n].astype(np.float32)) for n in range(20)
        )
        assert index.count({"t": {"lt": datetime(1880, 1, 1, tzinfo=berlin)}}) == 10
        assert index.count({"t": {"lt": datetime.max.replace(tzinfo=timezone(-timedelta(hours=5)))}}) == 20


@pytest.mark.parametrize("query", ["caf\udce9", Mixed("red", "caf\udce9"), Text("red") + Text("\ud800")])
def test_words_that_are_no_unicode_are_refused_before_they_are_embedded(query: Any) -> None:
    """As a shell passes what is typed in another encoding than its own; a service would be sent garbage."""
    embedder = TinyEmbedder()
    with (
        MultimodalIndex(embedder, MemoryStore()) as index,
        pytest.raises(UnsupportedContentError, match="no valid Unicode"),
    ):
        index.search(query)
    assert not embedder.calls
