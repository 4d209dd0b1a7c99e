"""Whatever is handed to an index, what comes out is an answer, or one of this library's errors in a sentence.

A bare `KeyError` or `cannot unpack non-iterable NoneType` names nothing that a user has written, and slips past
`except MultimodalSearchError`. Values of a wrong type may also be a `TypeError` that says what is expected.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import PIL.Image
import pytest

import multimodal_search
from multimodal_search import (
    AlephAlphaEmbedder,
    AsyncMultimodalIndex,
    ColorEmbedder,
    EmbedderSpec,
    Image,
    IndexingError,
    Item,
    MemoryStore,
    Mixed,
    MultimodalIndex,
    MultimodalSearchError,
    QdrantEdgeStore,
    QdrantStore,
    Record,
    SearchHit,
    SearchResults,
    SequentialIds,
    Stored,
    Text,
    Vector,
)
from multimodal_search.errors import StoreClosedError

PACKAGE = str(Path(multimodal_search.__file__).parent)


class Strange:
    """Of no type that anybody knows, and not even to be shown."""

    def __repr__(self) -> str:
        raise ValueError("no repr")


WRONG: dict[str, Any] = {
    "None": None,
    "True": True,
    "nan": float("nan"),
    "inf": float("inf"),
    "huge": 10**5000,
    "larger than 64 bits": 2**64,
    "negative": -1,
    "fraction": 0.5,
    "decimal": Decimal("0.5"),
    "complex": 1j,
    "empty text": "",
    "text": "x",
    "surrogate": "\ud800",
    "NUL": "a\0b",
    "bytes": b"x",
    "bytearray": bytearray(b"x"),
    "empty list": [],
    "list of None": [None],
    "nested list": [[[]]],
    "list of huge": [10**400],
    "tuple": (1, "a"),
    "set": {1, "a"},
    "empty mapping": {},
    "mapping": {"a": object()},
    "mapping of None": {None: None},
    "mapping of int": {1: 2},
    "array": np.zeros((2, 2)),
    "array of objects": np.array([None, "a"], dtype=object),
    "array of no dimension": np.array(3.0),
    "array of texts": np.array(["a"]),
    "a class": dict,
    "a function": len,
    "an object": object(),
    "what has no repr": Strange(),
    "a path": Path("missing.png"),
    "a folder": Path("/"),
    "a date": date(2020, 1, 1),
    "a term": Text("red"),
    "an image": Image("missing.png"),
    "no image": Image(b"no image"),
    "an empty mixture": Mixed(),
    "an id": Stored(12345),
    "a vector": Vector([1.0]),
    "an item": Item("red"),
    "a record": Record(1, {}),
    "records of nothing": [Record(1, {}), Record("no id", {}), Record(2, {}, vector=np.ones(3, np.float32))],
    "a generator": (each for each in ()),
    "an ellipsis": ...,
}

CALLS: dict[str, Callable[[MultimodalIndex, Any], object]] = {
    "search": lambda index, value: index.search(value),
    "search limit": lambda index, value: index.search("red", limit=value),
    "search offset": lambda index, value: index.search("red", offset=value),
    "search where": lambda index, value: index.search("red", where=value),
    "search field": lambda index, value: index.search("red", where={"a": value}),
    "search eq": lambda index, value: index.search("red", where={"a": {"eq": value}}),
    "search range": lambda index, value: index.search("red", where={"a": {"gte": value}}),
    "search in": lambda index, value: index.search("red", where={"a": {"in": value}}),
    "search glob": lambda index, value: index.search("red", where={"a": {"glob": value}}),
    "search prefix": lambda index, value: index.search("red", where={"a": {"prefix": value}}),
    "search exists": lambda index, value: index.search("red", where={"a": {"exists": value}}),
    "search or": lambda index, value: index.search("red", where={"or": value}),
    "search not": lambda index, value: index.search("red", where={"not": value}),
    "search min_score": lambda index, value: index.search("red", min_score=value),
    "search diversity": lambda index, value: index.search("red", diversity=value),
    "search fold": lambda index, value: index.search("red", deduplicate=value),
    "search group_by": lambda index, value: index.search("red", group_by=value),
    "search group_size": lambda index, value: index.search("red", group_by="a", group_size=value),
    "search keyword_weight": lambda index, value: index.search("red", keyword_weight=value),
    "search keyword_fields": lambda index, value: index.search("red", keyword_weight=0.5, keyword_fields=value),
    "search_many": lambda index, value: index.search_many(value),
    "search_many of one": lambda index, value: index.search_many([value]),
    "search_all": lambda index, value: list(index.search_all("red", where=value)),
    "similar": lambda index, value: index.similar(value),
    "similar to one": lambda index, value: index.similar([value]),
    "unlike": lambda index, value: index.similar(1, unlike=value),
    "get": lambda index, value: index.get(value),
    "get of one": lambda index, value: index.get([value]),
    "delete": lambda index, value: index.delete(value),
    "delete of one": lambda index, value: index.delete([value]),
    "count": lambda index, value: index.count(value),
    "duplicates": lambda index, value: index.duplicates(value),
    "duplicates where": lambda index, value: index.duplicates(where=value),
    "add": lambda index, value: index.add(value),
    "add of one": lambda index, value: index.add([value]),
    "add on_error": lambda index, value: index.add(["red"], on_error=value),
    "add progress": lambda index, value: index.add(["red"], progress=value),
    "add window": lambda index, value: index.add(["red"], window_bytes=value),
    "add payload": lambda index, value: index.add([Item("red", payload={"a": value})]),
    "add id": lambda index, value: index.add([Item("red", id=value)]),
    "add_texts": lambda index, value: index.add_texts(value),
    "add_texts of one": lambda index, value: index.add_texts([value]),
    "add_images of one": lambda index, value: index.add_images([value]),
    "add_vectors": lambda index, value: index.add_vectors(value),
    "add_vectors of one": lambda index, value: index.add_vectors([value]),
    "add_vectors vector": lambda index, value: index.add_vectors([Record(1, {}, vector=value)]),
    "add_vectors id": lambda index, value: index.add_vectors([Record(value, {}, vector=ONES)]),
    "add_vectors payload": lambda index, value: index.add_vectors([Record(1, value, vector=ONES)]),
    "export": lambda index, value: index.export(value),
    "add_export": lambda index, value: index.add_export(value),
    "sync_folder": lambda index, value: index.sync_folder(value),
    "sync_folder root": lambda index, value: index.sync_folder("photos", root=value, dry_run=True),
    "sync_folder gone": lambda index, value: index.sync_folder("photos", gone=value, dry_run=True),
    "sync_folder prune": lambda index, value: index.sync_folder("photos", prune=value, dry_run=True),
    "sync_folder pattern": lambda index, value: index.sync_folder("photos", pattern=value, dry_run=True),
    "add retry_failed": lambda index, value: index.add(["red"], retry_failed=value),
    "add_images root": lambda index, value: index.add_images([], root=value),
    "calibrate": lambda index, value: index.calibrate(value),
    "image": lambda index, value: index.search(Image(value)),
    "text": lambda index, value: index.search(Text(value)),
    "mixture": lambda index, value: index.search(Mixed(value)),
    "vector": lambda index, value: index.search(Vector(value)),
    "weight": lambda index, value: index.search(value * Text("red")),
}
NOT_TRIED = {
    ("sync_folder", "a folder"),  # the whole disk
    ("add progress", "a class"),  # what fails in a callback is the user's own
    ("add progress", "a function"),
}
ONES = np.ones(ColorEmbedder().spec.dimension, np.float32)


def complaint(call: Callable[[], object]) -> str:
    """What is wrong with what a call raises; empty if it raises nothing, or what it may."""
    try:
        call()
    except MultimodalSearchError as error:
        said = str(error)
        return "" if said and len(said) < 1_000 else f"{type(error).__name__} of {len(said)} characters"
    except TypeError as error:
        *_, last = traceback.extract_tb(error.__traceback__)
        ours = last.filename.startswith(PACKAGE) and (last.line or "").startswith("raise TypeError")
        python = "unsupported operand" in str(error) or "can't multiply" in str(error)  # of an operator of the user's
        return "" if ours or python else f"TypeError: {error} ({last.filename}:{last.lineno})"
    except Exception as error:
        *_, last = traceback.extract_tb(error.__traceback__)
        return f"{type(error).__name__}: {str(error)[:100]} ({last.filename}:{last.lineno})"
    return ""


@pytest.fixture(params=["memory", "qdrant", "edge"], scope="module")
def index(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MultimodalIndex]:
    made: dict[str, Callable[[], Any]] = {
        "memory": MemoryStore,
        "qdrant": lambda: QdrantStore("a", location=":memory:"),
        "edge": lambda: QdrantEdgeStore(tmp_path_factory.mktemp("fuzz") / "index"),
    }
    with MultimodalIndex(ColorEmbedder(), made[request.param](), ids=SequentialIds(), auto_calibrate=False) as opened:
        yield opened


@pytest.mark.parametrize("name", CALLS)
def test_wrong_values_are_answered_in_sentences(
    name: str, index: MultimodalIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    PIL.Image.new("RGB", (8, 8), "red").save(tmp_path / "photos" / "a.png")
    monkeypatch.chdir(tmp_path)
    index.add([Item("red", payload={"a": "x", "b": [1, 2.5, None]}), Item("blue boat", payload={"caption": "red"})])
    complaints = {}
    for kind, value in WRONG.items():
        if (name, kind) not in NOT_TRIED:
            said = complaint(lambda value=value: CALLS[name](index, value))  # type: ignore[misc]
            complaints |= {kind: said} if said else {}
    assert complaints == {}
    assert index.search("red", limit=1), "the index still answers"


MAKINGS: dict[str, Callable[[Any], object]] = {
    "embedder": lambda value: MultimodalIndex(value, MemoryStore()),
    "store": lambda value: MultimodalIndex(ColorEmbedder(), value),
    "ids": lambda value: MultimodalIndex(ColorEmbedder(), MemoryStore(), ids=7 if value is None else value),
    "open": lambda value: MultimodalIndex.open(value, embedder=ColorEmbedder()).close(),
    "edge": lambda value: QdrantEdgeStore(value),
    "collection": lambda value: QdrantStore(value, location=":memory:"),
    "url": lambda value: QdrantStore("a", url=value),
    "location": lambda value: QdrantStore("a", location=value),
    "path": lambda value: QdrantStore("a", path=value),
    "client": lambda value: QdrantStore("a", client=value),
    "timeout of qdrant": lambda value: QdrantStore("a", location=":memory:", timeout_s=value),
    "api_key": lambda value: QdrantStore("a", url="http://localhost:6333", api_key=value),
    "host": lambda value: AlephAlphaEmbedder(value, "token"),
    "token": lambda value: AlephAlphaEmbedder("http://localhost", value),
    "model": lambda value: AlephAlphaEmbedder("http://localhost", "token", value),
    "size": lambda value: AlephAlphaEmbedder("http://localhost", "token", compress_to_size=value),
    "representation": lambda value: AlephAlphaEmbedder("http://localhost", "token", representation=value),
    "retries": lambda value: AlephAlphaEmbedder("http://localhost", "token", retries=value),
    "time-out": lambda value: AlephAlphaEmbedder("http://localhost", "token", timeout_s=value),
    "concurrency": lambda value: AlephAlphaEmbedder("http://localhost", "token", max_concurrency=value),
    "batch": lambda value: AlephAlphaEmbedder("http://localhost", "token", max_batch_size=value),
    "workers": lambda value: AsyncMultimodalIndex(ColorEmbedder(), MemoryStore(), max_workers=value),
    "pixels": lambda value: MultimodalIndex(ColorEmbedder(), MemoryStore(), max_pixels=value),
    "calibrating": lambda value: MultimodalIndex(ColorEmbedder(), MemoryStore(), auto_calibrate=value),
    "modalities": lambda value: EmbedderSpec(model="a", fingerprint="a", dimension=1, modalities=value),
    "hits": lambda value: SearchResults(value, "q"),
    "query of hits": lambda value: str(SearchResults([], value)),
    "address": lambda value: Image.from_url(value),
    "timeout of an address": lambda value: Image.from_url("http://h", timeout_s=value),
    "size of an address": lambda value: Image.from_url("http://h", max_size_bytes=value),
    "item": lambda value: Item(value),
    "payload": lambda value: Item("red", payload=value),
    "name": lambda value: repr(Image(b"x", name=value)),
    "page": lambda value: RESULTS.to_html(value),
    "columns": lambda value: RESULTS.contact_sheet(columns=value),
    "thumbnails": lambda value: RESULTS.contact_sheet(thumbnail_px=value),
    "payload of a hit": lambda value: shown(SearchHit(id=1, score=0.5, payload={"a": value, "caption": value})),
    "fields of a hit": lambda value: shown(SearchHit(id=1, score=0.5, payload={"filename": value, "root": value})),
    "group of a hit": lambda value: shown(SearchHit(id=1, score=0.5, group=value)),
}
RESULTS = SearchResults([SearchHit(id=1, score=0.5, payload={"filename": "a.png"})], "q")


def shown(hit: SearchHit) -> None:
    results = SearchResults([hit], "q")
    results.to_html()
    results.to_json()
    str(results)
    results._repr_html_()


@pytest.mark.parametrize("name", MAKINGS)
def test_what_is_made_of_wrong_values_says_so(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    complaints = {}
    for kind, value in WRONG.items():
        said = complaint(lambda value=value: MAKINGS[name](value))  # type: ignore[misc]
        complaints |= {kind: said} if said else {}
    assert complaints == {}


@pytest.mark.parametrize("make", [MemoryStore, lambda: QdrantStore("a", location=":memory:")])
def test_a_closed_index_says_so(make: Callable[[], Any]) -> None:
    index = MultimodalIndex(ColorEmbedder(), make())
    index.add_texts(["red"])
    index.close()
    index.close()
    calls: list[Callable[[], object]] = [
        lambda: index.search("red"),
        lambda: index.search_many(["red"]),
        lambda: list(index.search_all("red")),
        lambda: index.similar(uuid4()),
        lambda: index.duplicates(),
        lambda: index.get(1),
        lambda: index.delete(1),
        lambda: index.count(),
        lambda: index.calibrate(),
        lambda: index.export("a.parquet"),
    ]
    for call in calls:
        with pytest.raises(StoreClosedError, match="closed"):
            call()
    for run in (lambda: index.add(["red"]), lambda: index.add_vectors([Record(1, {}, vector=ONES)])):
        with pytest.raises((StoreClosedError, IndexingError), match="closed"):
            run()
