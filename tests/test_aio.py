"""`AsyncMultimodalIndex`: the same, without blocking the loop."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from multimodal_search import (
    AsyncMultimodalIndex,
    IndexingError,
    MemoryStore,
    MultimodalIndex,
    MultimodalSearchError,
    StoreClosedError,
)
from multimodal_search._searching import SearchSettings
from tiny import TinyEmbedder, folder_of, picture, slowly


def test_every_method_of_the_index_is_there_and_awaitable() -> None:
    """A method that only the sync index has would be missed in an app."""
    for name, method in inspect.getmembers(MultimodalIndex, inspect.isfunction):
        if not name.startswith("_"):
            twin = getattr(AsyncMultimodalIndex, name)
            assert inspect.iscoroutinefunction(twin) or inspect.isasyncgenfunction(twin), name
            assert _parameters(twin) == _parameters(method), name


def _parameters(method: Callable[..., object]) -> set[str]:
    """The names of all arguments; `settings` stands for those of a search."""
    names = set(inspect.signature(method).parameters)
    return names - {"settings"} | set(SearchSettings.__annotations__) if "settings" in names else names


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
            assert (await index.add(["b", picture(30)])).added == 2
            hits = await index.search(picture(3), limit=2)
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
        embedder = TinyEmbedder(max_batch=2, max_concurrency=2, before=slowly(0.02))
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
