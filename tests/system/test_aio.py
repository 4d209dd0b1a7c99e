"""`AsyncMultimodalIndex`: the same, without blocking the loop."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
from tiny_embedder import TinyEmbedder, folder_of, image, slowly

from multimodal_search import (
    AsyncMultimodalIndex,
    IndexingError,
    MemoryStore,
    MultimodalIndex,
    MultimodalSearchError,
    QdrantEdgeStore,
    Record,
    StoreClosedError,
)
from multimodal_search._indexing.options import ImagesSettings, RunSettings, SyncSettings
from multimodal_search._searching.options import SearchSettings

_SETTINGS = {kind.__name__: kind for kind in (RunSettings, ImagesSettings, SyncSettings, SearchSettings)}


def test_every_method_of_the_index_is_there_and_awaitable() -> None:
    """A method that only the sync index has would be missed in an app."""
    for name, method in inspect.getmembers(MultimodalIndex, inspect.isfunction):
        if not name.startswith("_"):
            twin = getattr(AsyncMultimodalIndex, name)
            assert inspect.iscoroutinefunction(twin) or inspect.isasyncgenfunction(twin), name
            assert _parameters(twin) == _parameters(method), name


def _parameters(method: Callable[..., object]) -> set[str]:
    """The names of all arguments, those that stand in a TypedDict included."""
    parameters = dict(inspect.signature(method).parameters)
    if "settings" not in parameters:
        return set(parameters)
    kind = str(parameters.pop("settings").annotation).removeprefix("Unpack[").removesuffix("]")
    return set(parameters) | set(get_type_hints(_SETTINGS[kind]))


def test_all_hits_come_as_an_async_iterator() -> None:
    async def main() -> None:
        async with AsyncMultimodalIndex(TinyEmbedder(), MemoryStore()) as index:
            await index.add_texts(f"text {number}" for number in range(250))
            hits = [hit.id async for hit in index.search_all("text 7")]
            assert len(set(hits)) == len(hits) == 250
            async for hit in index.search_all("text 7"):
                assert hit.text == "text 7"
                break
            assert [hit.id for hit in await index.similar(hits[0], limit=249)] == hits[1:]

    asyncio.run(main())


def test_it_indexes_and_searches(tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncMultimodalIndex(TinyEmbedder(), MemoryStore()) as index:
            assert (await index.add_images(folder_of(tmp_path, 5))).added == 5
            assert (await index.add_texts(["a"])).added == 1
            assert (await index.add(["b", image(30)])).added == 2
            hits = await index.search(image(3), limit=2)
            assert hits[0].filename == "3.png"
            assert [len(found) for found in await index.search_many(["a", "b"], limit=4)] == [4, 4]
            assert await index.count({"modality": "text"}) == 2
            stored = await index.get(hits[0].id)
            assert stored is not None
            await index.delete(hits[0].id)
            assert await index.get([hits[0].id]) == [None]
            assert await index.optimize() is False

    asyncio.run(main())


def test_it_opens_by_await_by_async_with_or_by_its_first_call(tmp_path: Path) -> None:
    async def main() -> None:
        index = await AsyncMultimodalIndex.open(tmp_path / "a.index", embedder=TinyEmbedder())
        await index.add_texts(["a"])
        await index.close()
        async with AsyncMultimodalIndex.open(tmp_path / "a.index", embedder=TinyEmbedder()) as again:
            assert await again.count() == 1
        lazy = AsyncMultimodalIndex(TinyEmbedder(), MemoryStore())
        assert await lazy.count() == 0
        await lazy.close()

    asyncio.run(main())


def test_the_loop_goes_on_while_calls_wait() -> None:
    """A web server must answer others meanwhile: here the loop itself lets 64 waiting calls go."""

    async def main() -> None:
        gate = threading.Event()
        embedder = TinyEmbedder(max_concurrency=64, before=lambda call: gate.wait(30) and None)
        async with AsyncMultimodalIndex(embedder, MemoryStore()) as index:
            searches = asyncio.gather(*(index.search(f"text {number}") for number in range(64)))
            while embedder.in_flight < 64:
                await asyncio.sleep(0.005)
            gate.set()
            assert len(await searches) == 64

    asyncio.run(main())


def test_errors_come_through() -> None:
    async def main() -> None:
        index = AsyncMultimodalIndex(TinyEmbedder(), MemoryStore())
        with pytest.raises(IndexingError):
            await index.add_images(["missing.png"], on_error="raise")
        await index.close()
        await index.close()

    asyncio.run(main())


def test_a_closed_index_says_so() -> None:
    async def main() -> None:
        index = await AsyncMultimodalIndex(TinyEmbedder(), MemoryStore())
        await index.close()
        with pytest.raises(StoreClosedError):
            await index.count()

    asyncio.run(main())


def test_closing_ends_a_run_that_goes_on() -> None:
    """An app that is told to stop must not go on embedding for hours."""

    async def main() -> None:
        embedder = TinyEmbedder(max_batch_size=2, max_concurrency=2, before=slowly(0.02))
        store = MemoryStore()
        index = AsyncMultimodalIndex(embedder, store)
        running = asyncio.create_task(index.add_texts(f"text {number}" for number in range(100_000)))
        while len(embedder.calls) < 4:
            await asyncio.sleep(0.01)
        await index.close()
        with pytest.raises(MultimodalSearchError, match="interrupted"):
            await running
        assert len(embedder.calls) < 5_000

    asyncio.run(main())


def _records(count: int | None = None) -> Iterator[Record]:
    random = np.random.default_rng(0)
    for number in itertools.count() if count is None else range(count):
        yield Record(number, {"modality": "text"}, vector=random.standard_normal(48).astype(np.float32))


_WITH_POINTS = {"duplicates", "one group of duplicates", "export", "all hits"}
"""The calls that take long because there are many points."""


def _and_then_nothing(first: list[Any], gate: threading.Event) -> Iterator[Any]:
    """A source that does not answer any more: a queue that nobody fills, a disk that hangs."""
    yield from first
    gate.wait(60)


async def _all_hits(index: AsyncMultimodalIndex) -> int:
    return len([hit async for hit in index.search_all(np.ones(48, np.float32))])


_LONG_CALLS: dict[str, Callable[[AsyncMultimodalIndex, Path, threading.Event], Coroutine[Any, Any, object]]] = {
    "vectors without end": lambda index, path, gate: index.add_vectors(_records()),
    "vectors of which no more come": lambda index, path, gate: index.add_vectors(
        _and_then_nothing(list(_records(3)), gate)
    ),
    "texts of which no more come": lambda index, path, gate: index.add_texts(_and_then_nothing(["a"], gate)),
    "duplicates": lambda index, path, gate: index.duplicates(0.9999),
    "one group of duplicates": lambda index, path, gate: index.duplicates(0.01),
    "export": lambda index, path, gate: index.export(path / "out.parquet"),
    "all hits": lambda index, path, gate: _all_hits(index),
    "calibrating": lambda index, path, gate: index.calibrate(f"query {number}" for number in range(30)),
    "dry run": lambda index, path, gate: index.sync_folder(path / "photos", dry_run=True),
}


@pytest.mark.parametrize("name", _LONG_CALLS)
@pytest.mark.timeout(60)
def test_closing_ends_every_kind_of_long_call(name: str, tmp_path: Path) -> None:
    """An app that is told to stop has some seconds: what it waits for must not be an endless source."""
    gate = threading.Event()  # never set before the end: whoever waits for it is not waited for

    async def main() -> None:
        before = (lambda call: gate.wait(60) and None) if name == "calibrating" else lambda call: None
        index = AsyncMultimodalIndex(TinyEmbedder(before=before), MemoryStore(), auto_calibrate=False)
        if name in _WITH_POINTS:
            await index.add_vectors(_records(30_000))
        if name == "dry run":
            folder_of(tmp_path / "photos", 500)
        running = asyncio.create_task(_LONG_CALLS[name](index, tmp_path, gate))
        await asyncio.sleep(0.05)
        await asyncio.wait_for(index.close(), 20)
        with pytest.raises((StoreClosedError, IndexingError), match="closed"):
            await asyncio.wait_for(running, 20)
        assert not list(tmp_path.glob("*.parquet"))

    try:
        asyncio.run(main())
    finally:
        gate.set()


@pytest.mark.timeout(120)
def test_closing_ends_the_building_of_a_graph_and_loses_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        index = AsyncMultimodalIndex(TinyEmbedder(), QdrantEdgeStore(tmp_path / "index"), auto_calibrate=False)
        records = itertools.islice(_records(), 12_000)
        running = asyncio.create_task(index.add_vectors(records, progress=lambda event: noted.append(event.stage)))
        noted: list[str] = []
        while "optimizing" not in noted:
            await asyncio.sleep(0.05)
        await asyncio.wait_for(index.close(), 30)
        with pytest.raises(IndexingError, match="closed") as stop:
            await running
        assert stop.value.report.added == 12_000

    asyncio.run(main())
    with MultimodalIndex.open(tmp_path / "index", embedder=TinyEmbedder()) as index:
        assert len(index) == 12_000


def test_a_program_ends_though_a_call_does_not() -> None:
    """A thread that waits for ever must not keep the interpreter from exiting."""
    code = """
import asyncio, threading
from multimodal_search import AsyncMultimodalIndex, ColorEmbedder, MemoryStore

def source():
    yield "red"
    threading.Event().wait()

async def main():
    index = AsyncMultimodalIndex(ColorEmbedder(), MemoryStore())
    running = asyncio.create_task(index.add_texts(source()))
    await asyncio.sleep(0.2)
    await index.close()
    try:
        await running
    except Exception as error:
        print(type(error).__name__)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "StoreClosedError"


@pytest.mark.timeout(60)
def test_closing_from_another_thread_ends_what_is_under_way(tmp_path: Path) -> None:
    """The sync index, as of an app's window: neither a crash, nor a KeyboardInterrupt where nobody pressed a key."""
    gate = threading.Event()
    index = MultimodalIndex(TinyEmbedder(), MemoryStore(), auto_calibrate=False)
    index.add_vectors(_records(30_000), progress=False)
    calls: dict[str, Callable[[], object]] = {
        "add_vectors": lambda: index.add_vectors(_records(), progress=False),
        "duplicates": lambda: index.duplicates(0.9999, progress=False),
        "export": lambda: index.export(tmp_path / "out.parquet"),
        "search_all": lambda: [hit for _ in range(100) for hit in index.search_all(np.ones(48, np.float32))],
    }
    ended: dict[str, BaseException | None] = {}

    def call(name: str) -> None:
        try:
            calls[name]()
            ended[name] = None
        except BaseException as error:
            ended[name] = error

    threads = [threading.Thread(target=call, args=(name,)) for name in calls]
    for thread in threads:
        thread.start()
    gate.wait(0.1)
    index.close()
    for thread in threads:
        thread.join()
    assert {name: type(error) for name, error in ended.items()} == {
        "add_vectors": IndexingError,
        "duplicates": StoreClosedError,
        "export": StoreClosedError,
        "search_all": StoreClosedError,
    }


def test_an_index_can_be_closed_by_the_callback_of_its_own_run() -> None:
    index = MultimodalIndex(TinyEmbedder(), MemoryStore(), auto_calibrate=False)
    with pytest.raises(IndexingError, match="closed"):
        index.add((f"text {number}" for number in range(10_000)), progress=lambda event: index.close())


def test_no_more_calls_run_at_once_than_were_asked_for() -> None:
    async def main() -> None:
        embedder = TinyEmbedder(max_concurrency=8, before=slowly(0.05))
        async with AsyncMultimodalIndex(embedder, MemoryStore(), max_workers=3) as index:
            await asyncio.gather(*(index.search(f"text {number}") for number in range(12)))
        assert embedder.most_in_flight == 3

    asyncio.run(main())
    with pytest.raises(ValueError, match="max_workers"):
        AsyncMultimodalIndex(TinyEmbedder(), MemoryStore(), max_workers=0)
