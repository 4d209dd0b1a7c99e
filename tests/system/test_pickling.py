"""What travels between processes does; what cannot says so in one sentence."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from multimodal_search import (
    AsyncMultimodalIndex,
    ColorEmbedder,
    ContentIds,
    Failure,
    Image,
    IndexReport,
    Item,
    Match,
    MemoryStore,
    Mixed,
    MultimodalIndex,
    PathIds,
    QdrantEdgeStore,
    QdrantStore,
    Record,
    SearchHit,
    SearchResults,
    SequentialIds,
    Stored,
    StoreSchema,
    Text,
    Vector,
)

HIT = SearchHit(id=7, score=0.5, payload={"filename": "a.jpg"}, relevance=0.9, group="x")
VALUES = [
    Text("a"),
    Image("a.jpg"),
    Image(b"abc", name="a"),
    Image.from_url("https://h.example/a.jpg", timeout_s=3),
    Mixed("a", Image("a.jpg")),
    Text("a") + 0.5 * Image("a.jpg") - Stored(7) + Vector([1, 2]),
    Item("a", id=3, payload={"year": 2020}),
    Record(3, {"year": 2020}),
    Match(3, 0.5, {"year": 2020}),
    HIT,
    SearchResults([HIT], "a", relevance_unknown="b"),
    SearchResults([HIT], "a", verdict="unsure", thresholds=(0.3, 0.7)),
    IndexReport(added=3, failed=(Failure(name="a.jpg", stage="load", reason="no such file"),), stage_seconds={"x": 1}),
    ColorEmbedder().spec,
    StoreSchema.of(ColorEmbedder().spec),
    PathIds(),
    ContentIds(),
    SequentialIds(3),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_are_pickled_and_copied(value: object) -> None:
    """They are what a program sends to its workers, and gets back."""
    for again in (pickle.loads(pickle.dumps(value)), copy.deepcopy(value)):
        assert type(again) is type(value)
        assert again == value
        assert sorted(repr(again)) == sorted(repr(value))  # sets have no order


def test_an_image_of_pixels_is_pickled_with_them() -> None:
    again = pickle.loads(pickle.dumps(Image(PIL.Image.new("RGB", (2, 3), (1, 2, 3)), name="a")))
    assert isinstance(again.source, PIL.Image.Image)
    assert again.source.getpixel((1, 2)) == (1, 2, 3)


def test_the_color_embedder_is_pickled() -> None:
    again = pickle.loads(pickle.dumps(ColorEmbedder()))
    assert again.spec == ColorEmbedder().spec
    assert np.array_equal(again.embed([Text("red")], role="query"), ColorEmbedder().embed([Text("red")], role="query"))


MAKERS: dict[str, Callable[[Path], object]] = {
    "a MultimodalIndex": lambda _: MultimodalIndex(ColorEmbedder(), MemoryStore()),
    "an AsyncMultimodalIndex": lambda _: AsyncMultimodalIndex(ColorEmbedder(), MemoryStore()),
    "a MemoryStore": lambda _: MemoryStore(),
    "a QdrantStore": lambda _: QdrantStore("a", location=":memory:"),
    "a QdrantEdgeStore": lambda path: QdrantEdgeStore(path / "index"),
}


@pytest.mark.parametrize("name", MAKERS)
def test_what_holds_a_lock_or_a_connection_says_what_to_do_instead(name: str, tmp_path: Path) -> None:
    """`cannot pickle '_thread.lock' object` names nothing that a user has written."""
    made = MAKERS[name](tmp_path)
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=f"^{name} cannot be pickled or copied"):
            attempt(made)
