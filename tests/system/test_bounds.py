"""Filters, queries and payloads come over networks: what is huge is refused in a sentence, with limit and size."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multimodal_search import (
    ColorEmbedder,
    ContentError,
    Item,
    MemoryStore,
    Mixed,
    MultimodalIndex,
    MultimodalSearchError,
    QdrantEdgeStore,
    QdrantStore,
    QueryError,
    Record,
    SearchHit,
    SearchResults,
    Stored,
    StoreSchema,
    Text,
    UnsupportedContentError,
    VectorStore,
    _bounds,
)
from multimodal_search._payload import as_json, json_safe
from multimodal_search._text import brief
from multimodal_search.embedders.color.words import read_mentions
from multimodal_search.filters.matching import passes
from multimodal_search.filters.nodes import FieldPath
from multimodal_search.filters.parsing import parse_filter
from multimodal_search.stores.arguments import checked_words
from multimodal_search.stores.bm25 import bm25

pytestmark = pytest.mark.timeout(60)  # what is quadratic takes minutes here


def nested(depth: int, key: str = "a") -> dict[str, Any]:
    inner: dict[str, Any] = {"b": 1}
    for _ in range(depth):
        inner = {key: inner}
    return inner


def holds_itself(width: int = 1) -> list[Any]:
    made: list[Any] = []
    made += [made] * width
    return made


def shared(levels: int) -> list[Any]:
    """A list that is small in memory, and of ten to the power of `levels` elements."""
    made: list[Any] = [1] * 10
    for _ in range(levels - 1):
        made = [made] * 10
    return made


HUGE_FILTERS: dict[str, tuple[Any, str]] = {
    "glob of brackets": ({"a": {"glob": "[" * 200_000}}, "200,000 characters, and may have 1,024"),
    "glob of stars": ({"a": {"glob": "*a" * 100_000}}, "200,000 characters, and may have 1,024"),
    "glob of sets": ({"a": {"glob": "[a-z]" * 100_000}}, "500,000 characters"),
    "path of lists": ({"a" + "[]" * 100_000 + "x": 1}, "200,002 characters, and may have 1,024"),
    "path of dots": ({"a." * 100_000 + "x": 1}, "200,001 characters"),
    "path of quotes": ({'"' * 100_000: 1}, "100,000 characters"),
    "not": (nested(100_000, "not"), "nested more than 64 deep"),
    "and": ({"and": [nested(100_000, "not")]}, "nested more than 64 deep"),
    "or that holds itself": ({"or": holds_itself()}, "or holds itself, in the field 'or'"),
    "many conditions": ({f"a{n}": 1 for n in range(10_001)}, "10,001 fields or more, and may hold 10,000"),
    "many alternatives": ({"or": [{"a": n} for n in range(10_001)]}, "10,001 fields or more"),
    "in of too many": ({"a": list(range(1_000_001))}, "1,000,001 values in lists or more, and may hold 1,000,000"),
    "shared lists": ({"a": shared(9)}, "values in lists"),
    "text": ({"a": "x" * 32_000_001}, "32,000,002 characters of text, and may hold 32,000,000"),
    "prefix": ({"a": {"prefix": "x" * 32_000_001}}, "32,000,008 characters of text"),
    "texts": ({"a": ["x" * 1_000_000] * 33}, "33,000,001 characters of text"),
    "integer": ({"a": 10**5000}, "integers from -2^63"),
    "range of an integer": ({"a": {"gte": 10**5000}}, "integers from -2^63"),
    "operator": ({"a": {"x" * 100_000: 1}}, "has no operator"),
}


@pytest.mark.parametrize("name", HUGE_FILTERS)
def test_huge_filters_are_refused_in_a_short_sentence(name: str) -> None:
    where, said = HUGE_FILTERS[name]
    with pytest.raises(QueryError) as caught:
        parse_filter(where)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("make", [MemoryStore, lambda: QdrantStore("a", location=":memory:")])
def test_no_store_is_asked_for_a_huge_filter(make: Callable[[], VectorStore]) -> None:
    index = MultimodalIndex(ColorEmbedder(), make())
    index.add_texts(["red"])
    for name in ("glob of brackets", "path of lists", "not", "or that holds itself", "integer"):
        where, said = HUGE_FILTERS[name]
        for ask in (
            index.count,
            lambda where: index.search("red", where=where),
            lambda where: index.duplicates(where=where),
        ):
            with pytest.raises(QueryError) as caught:
                ask(where)
            assert said in str(caught.value)


def test_large_filters_are_as_good_as_small_ones() -> None:
    """Lists of ids and of file names are long, and right."""
    ids = [f"{number:032x}" for number in range(300_000)]
    assert passes(parse_filter({"a": ids}), {"a": ids[-1]})
    assert passes(parse_filter({"a": {"not_in": list(range(500_000))}}), {"a": 500_000})
    node = parse_filter({"or": [{"a": n, "b": date(2020, 1, 1).isoformat()} for n in range(4_000)]})
    assert passes(node, {"a": 3_999, "b": "2020-01-01"})
    deep = parse_filter({"not": {"not": nested(30, "not")}} | {"b": 1})
    assert passes(deep, {"b": 1})
    assert passes(parse_filter({"a": {"glob": "*" + "?" * 1_000}}), {"a": "x" * 1_000})
    assert FieldPath.parse("a" + "[]" * 511).find({"a": []}) == []


def test_a_glob_costs_no_more_than_its_length() -> None:
    """Backtracking over several stars would take longer than the age of the universe."""
    node = parse_filter({"a": {"glob": "*a" * 500 + "b"}})
    assert not passes(node, {"a": "a" * 5_000})
    assert not passes(parse_filter({"a": {"glob": "[" * 1_000 + "*x"}}), {"a": "[" * 1_000})
    assert passes(parse_filter({"a": {"glob": "[" * 1_000 + "*x"}}), {"a": "[" * 1_000 + "x"})


HUGE_PAYLOADS: dict[str, tuple[Any, str]] = {
    "deep": ({"a": nested(100_000)}, "nested more than 64 deep, or holds itself, in the field 'a'"),
    "deep lists": ({"a": [[json.loads("[" * 80 + "]" * 80)]]}, "nested more than 64 deep"),
    "holds itself": ({"a": holds_itself()}, "nested more than 64 deep, or holds itself, in the field 'a'"),
    "holds itself twice": ({"a": holds_itself(2)}, "nested more than 64 deep, or holds itself"),
    "shared lists": ({"a": shared(9)}, "values in lists or more, and may hold 1,000,000"),
    "many fields": ({f"a{n}": 1 for n in range(100_001)}, "100,001 fields or more, and may hold 100,000"),
    "many values": ({"a": [0] * 1_000_001}, "1,000,001 values in lists"),
    "an array": ({"a": np.zeros(1_000_001, np.int8)}, "1,000,001 values in lists"),
    "a long text": ({"a": "x" * 32_000_001}, "32,000,002 characters of text"),
    "a long name": ({"a" * 1_025: 1}, "1,025 characters, and may have 1,024"),
    "a huge integer": ({"a": 10**5000}, "which JSON cannot hold"),
}


@pytest.mark.parametrize("name", HUGE_PAYLOADS)
def test_a_huge_payload_costs_its_own_item(name: str) -> None:
    payload, said = HUGE_PAYLOADS[name]
    with pytest.raises(ContentError) as caught:
        as_json(payload)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 500
    if name == "shared lists":  # a second each
        return
    index = MultimodalIndex(ColorEmbedder(), MemoryStore())
    vector = np.ones(index.embedder.spec.dimension, np.float32)
    for report in (
        index.add([Item("red", payload=payload), Item("blue", payload={"a": 1})]),
        index.add_vectors([Record(1, payload, vector=vector), Record(2, {}, vector=vector)]),
    ):
        assert report.added == 1
        assert len(report.failed) == 1
        assert said in report.failed[0].reason


STORES: dict[str, Callable[[Path], VectorStore]] = {
    "memory": lambda _: MemoryStore(),
    "qdrant": lambda _: QdrantStore("a", location=":memory:"),
    "edge": lambda path: QdrantEdgeStore(path / "index"),
}


@pytest.mark.parametrize("name", STORES)
def test_no_store_takes_a_payload_that_it_could_not_give_back(name: str, tmp_path: Path) -> None:
    """Qdrant's engine stores what is nested more than 128 deep, and then fails at every read; deeper, it crashes."""
    store = STORES[name](tmp_path)
    store.ensure(StoreSchema(model="m", fingerprint="f", dimension=2))
    one = np.ones((1, 2), np.float32)
    for payload in ({"a": nested(200)}, {"a": nested(100_000)}, {"a": holds_itself()}):
        with pytest.raises(ContentError, match="the payload of 1 is nested more than 64 deep"):
            store.upsert([Record(1, payload)], one)
    deepest = {"a": nested(62)}
    store.upsert([Record(1, deepest)], one)
    (record,) = store.get([1])
    assert record is not None
    assert record.payload == deepest
    store.close()


def test_any_payload_becomes_json() -> None:
    """A hit that cannot be written must not cost the others: what is too deep, or too much, is left out of it."""
    for payload in (nested(100_000), {"a": holds_itself()}):
        results = SearchResults([SearchHit(id=1, score=0.5, payload=payload), SearchHit(id=2, score=0.4)], "q")
        assert [hit["id"] for hit in json.loads(results.to_json())["hits"]] == [1, 2]
        assert "<li>" in results.to_html()
    assert len(json.dumps(json_safe(holds_itself(2), most=1_000))) < 100_000
    assert json_safe(nested(63)) == nested(63)
    assert json_safe(nested(65)) == nested(64) | json.loads(json.dumps(nested(65)).replace('{"b": 1}', '"…"'))


def right_nested(depth: int) -> Any:
    query: Any = Text("red")
    for _ in range(depth):
        query = Text("blue") + 0.5 * query
    return query


HUGE_QUERIES: dict[str, tuple[Any, type[MultimodalSearchError], str]] = {
    "nested sum": (right_nested(50_000), QueryError, "nested more than 64 deep"),
    "sum of many": (sum((Text(str(n)) for n in range(10_000)), Text("red")), QueryError, "10,001 parts, and may have"),
    "long text": ("red " * 300_000, UnsupportedContentError, "1,200,000 characters, and may have 1,000,000"),
    "long text in a mixture": (Mixed("red " * 300_000), UnsupportedContentError, "1,200,000 characters"),
    "long mixture": (Mixed(*["red"] * 10_001), UnsupportedContentError, "10,001 parts, and may have 10,000"),
    "vector": ([0.5] * 1_000_000, QueryError, "has shape"),
    "no vector": ([[0.5]] * 1_000_000, QueryError, "holds numbers only"),
    "huge number": ([10**5000], QueryError, "holds numbers only"),
}


@pytest.mark.parametrize("name", HUGE_QUERIES)
def test_huge_queries_are_refused_in_a_short_sentence(name: str) -> None:
    query, kind, said = HUGE_QUERIES[name]
    index = MultimodalIndex(ColorEmbedder(), MemoryStore())
    for ask in (index.search, lambda query: index.search_many([query]), index.search_all):
        with pytest.raises(kind) as caught:
            ask(query)
        assert said in str(caught.value)
        assert len(str(caught.value)) < 500


def test_a_long_sum_and_a_long_word_are_read() -> None:
    index = MultimodalIndex(ColorEmbedder(), MemoryStore())
    index.add_texts(["red", "blue"])
    hits = index.search(sum((Text("blue") for _ in range(2_000)), Text("red")))
    assert hits[0].text == "blue"
    assert read_mentions("rot" * 30_000) == []
    assert [mention.shade for mention in read_mentions("rotweiß")] == ["red", "white"]


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda index: index.search("red", limit=10**5000), "limit must be a whole number"),
        (lambda index: index.search("red", limit=2**31), "limit must be a whole number from 1 to 2,147,483,647"),
        (lambda index: index.search("red", offset=-1), "offset must be a whole number from 0"),
        (lambda index: index.search("red", offset=10**5000), "offset must be a whole number"),
        (lambda index: index.search("red", diversity=10**5000), "diversity must be a number"),
        (lambda index: index.search("red", deduplicate=10**5000), "deduplicate must be True"),
        (lambda index: index.search("red", min_score="x" * 100_000), "min_score must be a number"),
        (lambda index: index.search("red", group_by="a[]" * 100_000), "300,000 characters"),
        (lambda index: index.search("red", keyword_weight=0.5, keyword_fields=["a"] * 101), "1 to 100 names"),
        (
            lambda index: index.search("red", keyword_weight=0.5, keyword_fields=["a" * 2_000]),
            "at most 1,024 characters",
        ),
        (
            lambda index: index.search(" ".join(map(str, range(10_001))), keyword_weight=1),
            "10,001 words, and may have 10,000",
        ),
        (lambda index: index.search("ab " * 400_000, keyword_weight=1), "1,200,000 characters, and may have 1,000,000"),
        (lambda index: index.search_many(itertools.repeat("red")), "more than 100,000 queries"),
        (lambda index: index.similar(map(Stored, itertools.count())), "more than 10,000 examples"),
        (lambda index: index.duplicates(threshold=10**5000), "threshold must be a number"),
        (lambda index: index.similar("x" * 100_000), "is no id of a stored point"),
    ],
)
def test_options_have_bounds(ask: Callable[[Any], object], said: str) -> None:
    index = MultimodalIndex(ColorEmbedder(), MemoryStore())
    index.add_texts(["red"])
    with pytest.raises(QueryError) as caught:
        ask(index)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 500


def test_all_hits_may_be_asked_for() -> None:
    index = MultimodalIndex(ColorEmbedder(), MemoryStore())
    index.add_texts(["red", "blue"])
    assert len(index.search("red", limit=2**31 - 1)) == 2
    assert len(index.search("red", limit=2**31 - 1, offset=2**31 - 1)) == 0


def test_long_texts_are_ranked_by_words_in_time_that_grows_with_their_length() -> None:
    """Words were counted one by one through every text: 1,000 of them in texts of a million took minutes."""
    words = [f"w{number}" for number in range(10_000)]
    text = " ".join(words * 20)
    scores = bm25(checked_words(" ".join(words), limit=1), [(1, text), (2, "w1 w2"), (3, "nothing")])
    assert set(scores) == {1, 2}
    assert scores[1] > scores[2] > 0


def test_anything_has_a_short_form() -> None:
    class Silent:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    assert brief("abc") == "'abc'"
    assert brief(Silent()) == "<Silent>"
    assert brief(10**5000) == "<int>" if sys.version_info >= (3, 11) else len(brief(10**5000)) == 80
    assert len(brief("x" * 1_000)) == 80
    assert brief(nested(100_000)) == "<dict>"


def test_limits_are_far_from_what_is_needed() -> None:
    """Three that other limits depend on."""
    assert _bounds.MAX_DEPTH < 128, "Qdrant's engine cannot read what is deeper"
    assert _bounds.MAX_VALUES >= 500_000, "a request to Qdrant may list as many ids"
    assert _bounds.MAX_PATH_LENGTH**2 < 10_000_000, "the regular expression of a path is quadratic"
