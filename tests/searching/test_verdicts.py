"""Verdicts: what the best hit of a whole answer says, whatever page, order of ids or number of copies there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tiny_embedder import TinyEmbedder, image

from multimodal_search import (
    ConfigurationError,
    Image,
    Item,
    MemoryStore,
    Mixed,
    MultimodalIndex,
    QueryError,
    Text,
    VectorStore,
)

QUERIES: list[Any] = [image(3), image(500), image(501), "anything", "else", Text("a") + Image(image(7))]


def index_of(store: VectorStore, items: list[Item], **settings: Any) -> MultimodalIndex:
    index = MultimodalIndex(TinyEmbedder(), store, **settings)
    index.add(items)
    return index


def items(count: int = 40, **payload: str) -> list[Item]:
    return [Item(image(number), id=number, payload=dict(payload)) for number in range(count)]


def test_the_verdict_goes_by_the_best_hit_of_the_first_page(new_store: Callable[[], VectorStore]) -> None:
    with index_of(new_store(), items()) as index:
        for query in QUERIES:
            first = index.search(query)
            best = first[0].relevance
            assert best is not None
            for thresholds, verdict in (((0, best), "match"), ((best, 1), "unsure"), ((1, 1), "nothing")):
                for page in (
                    {"offset": 0},
                    {"offset": 7, "limit": 3},
                    {"offset": 100},
                    {"offset": 5, "diversity": 0.5},
                ):
                    results = index.search(query, thresholds=thresholds, **page)  # type: ignore[arg-type]
                    assert results.verdict == verdict, (page, thresholds)
                    assert results.thresholds == thresholds
            assert [each.id for each in index.search(query, thresholds=(0, best)).matches] == [first[0].id]


def test_other_options_do_not_change_the_verdict() -> None:
    index = index_of(MemoryStore(), items(caption="a red boat"))
    for query in ("anything", image(500)):
        wanted = index.search(query).verdict
        for options in ({"group_by": "caption"}, {"deduplicate": True}, {"diversity": 1.0}, {"limit": 1}):
            assert index.search(query, **options).verdict == wanted  # type: ignore[arg-type]
    assert index.search("anything", keyword_weight=0.5).verdict == index.search("anything").verdict
    assert index.search(image(3), min_score=1.5).verdict == "nothing"
    assert index.search(image(3), where={"caption": "none"}).verdict == "nothing"


def test_a_crop_and_the_image_itself_are_matches_and_what_is_excluded_is_none() -> None:
    index = index_of(MemoryStore(), items())
    assert index.search(image(3)).verdict == "match"
    nearest = index.similar(3)
    assert nearest[0].id != 3
    best = nearest[0].relevance or 0
    assert index.similar(3, thresholds=(0, min(1, best + 0.001))).verdict == "unsure"


def test_there_is_no_nothing_while_a_hit_holds_all_words() -> None:
    """Whatever the model makes of them: who reads the caption would see that it is not true."""
    index = index_of(MemoryStore(), [*items(), Item(image(99), id=99, payload={"caption": "Two zeppelins, at dawn"})])
    never = (1.0, 1.0)
    hit = index.search("zeppelins at dawn", limit=41, thresholds=never)
    assert hit.verdict == "unsure"
    assert index.search("zeppelins at dusk", limit=41, thresholds=never).verdict == "nothing"
    assert index.search("...", limit=41, thresholds=never).verdict == "nothing"
    for page in (0, 20, 40):  # the keyword search looks at all of them
        found = index.search("dawn zeppelins", limit=1, offset=page, keyword_weight=0.5, thresholds=never)
        assert found.verdict == "unsure"


@pytest.mark.parametrize(
    ("caption", "query"),
    [
        ("Cafe\u0301 in Zu\u0308rich", "caf\u00e9 Z\u00dcRICH"),  # as a Mac writes names, and as they are typed
        ("Привет, мир", "ПРИВЕТ"),
        ("Die Straße", "STRASSE"),
        ("ΟΔΟΣ", "οδος"),
        ("赤い 船", "船"),
    ],
)
def test_words_of_a_hit_are_those_of_the_query_in_any_spelling(caption: str, query: str) -> None:
    index = index_of(MemoryStore(), items(caption=caption))
    assert index.search(query, thresholds=(1, 1)).verdict == "unsure"


def test_a_near_duplicate_that_holds_all_words_counts_as_a_hit() -> None:
    index = index_of(MemoryStore(), [*items(), Item(image(99), id=99, payload={"caption": "two zeppelins"})])
    found = index.search("zeppelins", limit=1, deduplicate=0.01, thresholds=(1, 1))
    assert 99 in [each.id for each in found[0].duplicates]
    assert found.verdict == "unsure"


def test_where_there_is_no_relevance_there_is_no_verdict_but_a_reason() -> None:
    index = index_of(MemoryStore(), items(caption="a"))
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (np.ones(48, np.float32), {}, "not for vectors"),
        (Text("a") - Image(image(3)), {}, "other sums"),
        (Text("a") + 0.5 * Image(image(3)), {}, "equal weight"),
        (Mixed("a", Image(image(3))), {}, "mixtures"),
        ("a", {"keyword_weight": 1}, "keyword search alone"),
    ]
    for query, options, why in cases:
        results = index.search(query, **options)
        assert (results.verdict, results.thresholds) == (None, None)
        assert why in results.relevance_unknown
    few = index_of(MemoryStore(), items(5)).search("a")
    assert few.verdict is None
    assert "not calibrated" in few.relevance_unknown


def test_thresholds_are_set_for_a_kind_of_query() -> None:
    index = index_of(MemoryStore(), items(), thresholds={"image": (1, 1)})
    assert index.search(image(500)).verdict == "nothing"
    assert index.search(image(500)).thresholds == (1, 1)
    assert index.search("a").thresholds == (0.3, 0.7)
    assert index.search(Text("a") + Image(image(500))).thresholds == (0.15, 0.45)
    assert index.search(image(500), thresholds=(0, 0)).verdict == "match"


@pytest.mark.parametrize(
    "given", [0.5, (0.5,), (0.7, 0.3), (-0.1, 1), (0, 1.1), ("a", "b"), (True, True), "ab", (0, np.nan)]
)
def test_senseless_thresholds_are_refused(given: Any) -> None:
    index = MultimodalIndex(TinyEmbedder(), MemoryStore())
    with pytest.raises(QueryError, match="two relevances from 0 to 1"):
        index.search("a", thresholds=given)
    with pytest.raises(ConfigurationError, match="two relevances from 0 to 1"):
        MultimodalIndex(TinyEmbedder(), MemoryStore(), thresholds={"text": given})
    with pytest.raises(ConfigurationError, match="'text', 'image', 'mixture'"):
        MultimodalIndex(TinyEmbedder(), MemoryStore(), thresholds={"words": (0, 1)})


def relevances(ids: list[int], copies: int = 1) -> list[float]:
    made = [Item(image(number), id=ids[number] + 1000 * copy) for copy in range(copies) for number in range(len(ids))]
    index = index_of(MemoryStore(), made)
    found = [index.search(query, limit=1)[0].relevance for query in (image(500), image(501), "a", "b", "c")]
    return [relevance for relevance in found if relevance is not None]


def test_the_order_of_ids_plays_no_part() -> None:
    before, after = relevances(list(range(200))), relevances(list(range(199, -1, -1)))
    assert len(before) == 5
    assert after == pytest.approx(before, abs=1e-6)


def test_copies_play_no_part() -> None:
    assert relevances(list(range(200)), copies=3) == pytest.approx(relevances(list(range(200))), abs=0.02)
