"""An index without its embedder, or with one that is made late: what embeds nothing needs no credentials."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_embedder import TinyEmbedder, folder_of, png

from multimodal_search import (
    AsyncMultimodalIndex,
    ColorEmbedder,
    ConfigurationError,
    Embedder,
    MemoryStore,
    MissingExtraError,
    MultimodalIndex,
    QdrantEdgeStore,
    QdrantStore,
    Record,
    SchemaMismatchError,
    Stored,
    StoreError,
    StoreSchema,
    SupportsStoredSchema,
    Text,
    Usage,
    Vector,
    VectorStore,
)

Open = Callable[..., MultimodalIndex]


@pytest.fixture(params=["edge", "qdrant"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens one index again and again, with this embedder or that; it holds three images and one of them twice."""
    stores: dict[str, Callable[[], VectorStore]] = {
        "edge": lambda: QdrantEdgeStore(tmp_path / "index"),
        "qdrant": lambda: QdrantStore("photos", path=str(tmp_path / "qdrant")),
    }

    def opener(embedder: Any = None) -> MultimodalIndex:
        return MultimodalIndex(embedder, stores[request.param](), auto_calibrate=False)

    folder = folder_of(tmp_path / "photos", 3)
    (folder / "copy.png").write_bytes(png(1))
    with opener(TinyEmbedder()) as index:
        assert index.add_images(folder).added == 4
    return opener


class Factory:
    """Makes an embedder, counts how often, and fails as long as it is told to."""

    def __init__(self, embedder: Embedder | None = None) -> None:
        self.embedder = TinyEmbedder() if embedder is None else embedder
        self.made = 0
        self.fails: Exception | None = None

    def __call__(self) -> Embedder:
        if self.fails is not None:
            raise self.fails
        self.made += 1
        return self.embedder


def test_all_that_embeds_nothing_works_without_an_embedder(reopen: Open, tmp_path: Path) -> None:
    """Somebody who wants to see his duplicates should not have to look for a token."""
    with reopen() as index:
        assert (index.count(), len(index), bool(index)) == (4, 4, True)
        [first, *_] = index.store.scan()
        record = index.get(first.id, with_vectors=True)
        assert record is not None
        assert record.vector is not None
        [group] = index.duplicates()
        assert sorted(hit.filename or "" for hit in group) == ["1.png", "copy.png"]
        assert index.search(record.vector, limit=1)[0].score == pytest.approx(1)
        assert index.search(Vector(record.vector) + Stored(first.id), limit=1)[0].id == first.id
        assert index.search_many([Stored(first.id), list(record.vector)])[1][0].score == pytest.approx(1)
        assert first.id not in [hit.id for hit in index.similar(first.id)]
        assert next(index.search_all(Stored(first.id))).id == first.id
        assert index.export(tmp_path / "photos.parquet") == 4
        assert index.add_vectors([Record(7, {}, vector=np.ones(48, np.float32))], progress=False).added == 1
        assert index.add_export(tmp_path / "photos.parquet", progress=False).failed == ()
        index.delete(7)
        assert index.count() == 4
        assert index.optimize() is False
        assert repr(index).startswith("MultimodalIndex(None, Qdrant")


@pytest.mark.parametrize(
    "call",
    [
        lambda index: index.search("a red house"),
        lambda index: index.search(png(1)),
        lambda index: index.search(Text("a") - Stored(1)),
        lambda index: index.search_many(["a"]),
        lambda index: index.search_all("a"),
        lambda index: index.similar([Text("a")]),
        lambda index: index.add(["a"]),
        lambda index: index.add_texts(["a"]),
        lambda index: index.add_images([png(1)]),
        lambda index: index.calibrate(),
        lambda index: index.embedder,
    ],
)
def test_what_embeds_says_which_embedder_is_missing(tmp_path: Path, call: Callable[[MultimodalIndex], object]) -> None:
    """Named, with what to pass: the person who opened it may never have made it."""
    store = MemoryStore()
    MultimodalIndex(TinyEmbedder(), store).add_vectors([Record(1, {}, vector=np.ones(48, np.float32))], progress=False)
    index = MultimodalIndex(None, store)
    with pytest.raises(ConfigurationError, match=r"embedder=, .* \('tiny', 48 dimensions, tiny-1\)"):
        call(index)
    assert index.count() == 1


def test_a_new_index_without_an_embedder_is_refused_and_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows the length of its vectors; a folder's is that of a model on this machine, if that can run."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else found(name))
    for path in (tmp_path / "new" / "index", tmp_path):
        with pytest.raises(MissingExtraError) as caught:
            MultimodalIndex.open(path)
        assert str(caught.value) == (
            'an index finds by meaning with a model on this machine: pip install "multimodal-search[local]"; or name '
            "an embedder: ColorEmbedder() compares colours, and needs nothing"
        )
    with pytest.raises(ConfigurationError, match="needs an embedder"):
        MultimodalIndex(None, QdrantStore("photos", path=str(tmp_path / "qdrant")))
    with pytest.raises(ConfigurationError, match="needs an embedder"):
        MultimodalIndex(None, QdrantStore("photos", location=":memory:"))
    with pytest.raises(ConfigurationError, match="needs an embedder"):
        MultimodalIndex(None, MemoryStore())
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "letter.txt").write_text("no index")
    with pytest.raises(StoreError, match=r"holds other files \(letter\.txt\)"):
        MultimodalIndex.open(tmp_path)


def test_an_embedder_is_made_when_something_is_first_embedded(reopen: Open) -> None:
    """And once, however many threads ask."""
    factory = Factory()
    with reopen(factory) as index:
        index.duplicates()
        index.similar(next(iter(index.store.scan())).id)
        assert factory.made == 0
        start = threading.Barrier(8)

        def search(number: int) -> None:
            start.wait()
            index.search(f"words {number}")

        threads = [threading.Thread(target=search, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert factory.made == 1
        assert index.embedder is factory.embedder
        assert index.add_texts(["new"], progress=False).added == 1
        assert factory.made == 1


def test_a_function_with_a_token_is_shown_without_it(reopen: Open) -> None:
    def make(token: str) -> Embedder:
        return TinyEmbedder()

    with reopen(functools.partial(make, "secret-token")) as index:
        assert "secret" not in repr(index)


def test_an_embedder_that_cannot_be_made_is_tried_again(reopen: Open) -> None:
    """As when the token was forgotten, and set after the first complaint."""
    factory = Factory()
    factory.fails = ConfigurationError("set the environment variable AA_TOKEN")
    with reopen(factory) as index:
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="AA_TOKEN"):
                index.search("words")
        factory.fails = None
        assert len(index.search("words")) == 4


def test_an_embedder_that_is_made_late_is_checked(reopen: Open) -> None:
    """Two models' vectors must never mix, whenever the second one appears."""
    with reopen(Factory(TinyEmbedder(model="other"))) as index:
        assert index.count() == 4
        for call in (lambda: index.search("words"), lambda: index.add_texts(["new"])):
            with pytest.raises(SchemaMismatchError, match=r"'tiny'.*'other'"):
                call()
        assert index.count() == 4
    with reopen(lambda: 3) as index, pytest.raises(TypeError, match="gives 3, which is no embedder"):
        index.search("words")


def test_for_a_new_index_an_embedder_is_made_at_once(tmp_path: Path) -> None:
    """Before anything is created: a missing token must leave nothing that binds the folder to its embedder."""
    factory = Factory()
    factory.fails = ConfigurationError("set the environment variable AA_TOKEN")
    with pytest.raises(ConfigurationError, match="AA_TOKEN"):
        MultimodalIndex.open(tmp_path / "index", embedder=factory)
    assert not (tmp_path / "index").exists()
    factory.fails = None
    with MultimodalIndex.open(tmp_path / "index", embedder=factory) as index:
        assert factory.made == 1
        assert len(index.search("words")) == 0


class Closing(TinyEmbedder):
    """Counts how often it is closed."""

    closed = 0

    def close(self) -> None:
        self.closed += 1


def test_the_index_closes_what_it_made_and_nothing_else(tmp_path: Path) -> None:
    """An embedder that was given may serve other indexes; of one that was made, nobody else knows."""
    given, made, unused = Closing(), Closing(), Closing()
    with MultimodalIndex.open(tmp_path / "index", embedder=given):
        pass
    assert given.closed == 0
    with MultimodalIndex.open(tmp_path / "index", embedder=lambda: made) as index:
        index.search("words")
    assert made.closed == 1
    with MultimodalIndex.open(tmp_path / "index", embedder=lambda: unused):
        pass
    assert unused.closed == 0


def test_a_report_counts_the_calls_of_its_run_alone(reopen: Open) -> None:
    """A function may return an embedder that has worked for others before."""

    class Counting(TinyEmbedder):
        @property
        def usage(self) -> Usage:
            return Usage(calls=len(self.calls))

    shared = Counting()
    with MultimodalIndex(shared, MemoryStore()) as other:
        other.add_texts(["one", "two"], progress=False)
    with reopen(lambda: shared) as index:
        assert index.add_texts(["three"], progress=False).calls == 1


def test_without_an_embedder_nothing_is_said_of_a_calibration_that_needs_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photos = folder_of(tmp_path / "photos", 40)
    with MultimodalIndex.open(tmp_path / "index", embedder=TinyEmbedder(), auto_calibrate=False) as index:
        index.add_images(photos, progress=False)
    with MultimodalIndex.open(tmp_path / "index") as index:
        assert index.add_images(photos, progress=False).unchanged == 40
    assert caplog.records == []


class Silent:
    """A store of somebody who implements `VectorStore` and nothing else."""

    def __init__(self) -> None:
        inner = MemoryStore()
        self.ensure, self.upsert, self.search, self.get = inner.ensure, inner.upsert, inner.search, inner.get
        self.scan, self.delete, self.count, self.close = inner.scan, inner.delete, inner.count, inner.close


def test_a_store_that_cannot_say_what_it_holds_has_the_embedder_made_at_once() -> None:
    assert not isinstance(Silent(), SupportsStoredSchema)
    with pytest.raises(ConfigurationError, match="needs an embedder, as it cannot tell what it holds"):
        MultimodalIndex(None, Silent())
    factory = Factory()
    MultimodalIndex(factory, Silent())
    assert factory.made == 1


def test_a_format_of_the_future_is_refused_without_an_embedder_too(tmp_path: Path) -> None:
    MultimodalIndex.open(tmp_path / "index", embedder=TinyEmbedder()).close()
    schema = tmp_path / "index" / "schema.json"
    schema.write_text(json.dumps({**json.loads(schema.read_text()), "version": 2}))
    with pytest.raises(SchemaMismatchError):
        MultimodalIndex.open(tmp_path / "index")


@pytest.mark.parametrize("given", [TinyEmbedder, 3, "color"])
def test_what_is_neither_an_embedder_nor_makes_one_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match=r"the embedder is an object such as ColorEmbedder\(\), a function"):
        MultimodalIndex(given, MemoryStore())


def test_the_async_index_opens_without_an_embedder_too(tmp_path: Path) -> None:
    with MultimodalIndex.open(tmp_path / "index", embedder=TinyEmbedder()) as made:
        made.add_texts(["a"], progress=False)

    async def use() -> int:
        async with AsyncMultimodalIndex.open(tmp_path / "index") as index:
            with pytest.raises(ConfigurationError, match="without an embedder"):
                await index.search("words")
            return await index.count()

    assert asyncio.run(use()) == 1


@pytest.fixture
def of_aleph_alpha(tmp_path: Path) -> Path:
    """The folder of an index that `luminous-base` made."""
    schema = StoreSchema(model="luminous-base", fingerprint="aleph-alpha/luminous-base/128", dimension=128)
    store = QdrantEdgeStore(tmp_path / "index")
    store.ensure(schema)
    rows = np.eye(3, 128, dtype=np.float32)[[0, 0, 1]]
    store.upsert([Record(number, {"filename": f"{number}.jpg"}) for number in range(3)], rows)
    store.close()
    return tmp_path / "index"


def test_reading_loads_no_sdk_and_asks_for_no_credentials(of_aleph_alpha: Path) -> None:
    code = (
        "import sys; from multimodal_search import *\n"
        "with MultimodalIndex.open(sys.argv[1], embedder=AlephAlphaEmbedder.from_env) as index:\n"
        "    print(len(index.duplicates()), index.count(), index.similar(0)[0].id)\n"
        "    index.delete(2)\n"
        "print(*sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AA_")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(of_aleph_alpha)], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.returncode == 0, done.stderr
    printed, modules = done.stdout.splitlines()
    assert printed == "1 3 1"
    assert not {"aleph_alpha_client", "requests", "aiohttp", "qdrant_client"} & set(modules.split())


def test_a_folder_that_has_not_changed_is_indexed_again_without_making_the_embedder(tmp_path: Path) -> None:
    """A nightly run over photos that are all known should not fail for a token that has expired."""
    folder = folder_of(tmp_path / "photos", 5)
    factory = Factory()
    with MultimodalIndex.open(tmp_path / "index", embedder=factory, auto_calibrate=False) as index:
        assert index.add_images(folder, progress=False).added == 5
    factory.made = 0
    factory.fails = ConfigurationError("set AA_TOKEN")
    with MultimodalIndex.open(tmp_path / "index", embedder=factory, auto_calibrate=False) as index:
        assert index.add_images(folder, progress=False).unchanged == 5
        (folder / "0.png").unlink()
        report = index.sync_folder(folder, progress=False)
        assert (report.unchanged, report.removed, factory.made) == (4, 1, 0)
        (folder / "new.png").write_bytes(png(9))
        with pytest.raises(ConfigurationError, match="AA_TOKEN"):
            index.sync_folder(folder, progress=False)
        assert index.count() == 4
        factory.fails = None
        assert index.sync_folder(folder, progress=False).added == 1


def test_an_unchanged_folder_needs_no_embedder_at_all(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", 3)
    with MultimodalIndex.open(tmp_path / "index", embedder=TinyEmbedder(), auto_calibrate=False) as index:
        index.add_images(folder, progress=False)
    with MultimodalIndex.open(tmp_path / "index") as index:
        assert index.sync_folder(folder, progress=False).unchanged == 3
        (folder / "0.png").write_bytes(png(9))
        with pytest.raises(ConfigurationError, match="opened without an embedder"):
            index.sync_folder(folder, progress=False)


def test_another_embedder_than_the_stored_one_is_refused_when_it_is_made(tmp_path: Path) -> None:
    """Also in the middle of a run, and by its own error."""
    folder = folder_of(tmp_path / "photos", 3)
    with MultimodalIndex.open(tmp_path / "index", embedder=TinyEmbedder(), auto_calibrate=False) as index:
        index.add_images(folder, progress=False)
    with MultimodalIndex.open(tmp_path / "index", embedder=functools.partial(ColorEmbedder)) as index:
        assert index.add_images(folder, progress=False).unchanged == 3
        with pytest.raises(SchemaMismatchError):
            index.add_texts(["red"], progress=False)
        assert index.count() == 3
