"""`AsyncMultimodalIndex`: the same index for code that runs in an event loop."""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import InvalidStateError, wait
from contextlib import suppress
from types import TracebackType
from typing import Concatenate, NoReturn, ParamSpec, TypeVar, overload
from uuid import UUID

from typing_extensions import Self, Unpack

from multimodal_search._bounds import is_whole
from multimodal_search._closing import WAIT_S
from multimodal_search._indexing.options import ImagesSettings, RunSettings, SyncSettings
from multimodal_search._searching.options import SearchSettings
from multimodal_search._searching.searcher import Example
from multimodal_search._text import brief
from multimodal_search._threads import DaemonExecutor, no_thread
from multimodal_search.contents import ContentLike, Text
from multimodal_search.embedders.late import EmbedderSource
from multimodal_search.errors import ConfigurationError, StoreClosedError
from multimodal_search.ids import IdScheme
from multimodal_search.index import MultimodalIndex
from multimodal_search.media.images import MAX_PIXELS
from multimodal_search.protocols import VectorStore
from multimodal_search.query import Query
from multimodal_search.report import IndexReport, IndexStatus, ProgressCallback, VerifyReport
from multimodal_search.results import SearchHit, SearchResults
from multimodal_search.types import Filter, Item, PointId, Record

P = ParamSpec("P")
R = TypeVar("R")

_HITS_AT_ONCE = 100


class AsyncMultimodalIndex:
    """`MultimodalIndex` with awaitable methods, each of which runs the sync one in a thread of its own executor.

    The loop never blocks, not even for opening: the store is opened by `async with`, by awaiting the index itself, or
    else by the first call. A cancelled call stops waiting; what its thread has begun goes on to its end. Progress
    callbacks are called in that thread.

    Args:
        embedder: As for `MultimodalIndex`.
        store: As for `MultimodalIndex`.
        ids: As for `MultimodalIndex`.
        auto_calibrate: As for `MultimodalIndex`.
        max_pixels: As for `MultimodalIndex`.
        accept_equal: As for `MultimodalIndex`.
        thresholds: As for `MultimodalIndex`.
        max_workers: Most calls at the same time. Embedding is bounded by the embedder's `max_concurrency` besides.

    Examples:
        >>> import asyncio
        >>> async def main():
        ...     async with AsyncMultimodalIndex(ColorEmbedder(), MemoryStore()) as index:
        ...         await index.add_images("photos")
        ...         return (await index.search("blue", limit=1))[0].filename
        >>> asyncio.run(main())
        'blue.jpg'
    """

    def __init__(
        self,
        embedder: EmbedderSource | None,
        store: VectorStore,
        *,
        ids: IdScheme | None = None,
        auto_calibrate: bool = True,
        max_pixels: int = MAX_PIXELS,
        accept_equal: bool = False,
        thresholds: Mapping[str, tuple[float, float]] | None = None,
        max_workers: int = 64,
    ) -> None:
        opener = functools.partial(
            MultimodalIndex,
            embedder,
            store,
            ids=ids,
            auto_calibrate=auto_calibrate,
            max_pixels=max_pixels,
            accept_equal=accept_equal,
            thresholds=thresholds,
        )
        self._set_up(opener, max_workers)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        embedder: EmbedderSource | None = None,
        ids: IdScheme | None = None,
        auto_calibrate: bool = True,
        max_pixels: int = MAX_PIXELS,
        accept_equal: bool = False,
        thresholds: Mapping[str, tuple[float, float]] | None = None,
        max_workers: int = 64,
    ) -> Self:
        """As `MultimodalIndex.open`; write `async with AsyncMultimodalIndex.open(...)` or `await` it."""
        self = cls.__new__(cls)
        opener = functools.partial(
            MultimodalIndex.open,
            path,
            embedder=embedder,
            ids=ids,
            auto_calibrate=auto_calibrate,
            max_pixels=max_pixels,
            accept_equal=accept_equal,
            thresholds=thresholds,
        )
        self._set_up(opener, max_workers)
        return self

    def _set_up(self, opener: Callable[[], MultimodalIndex], max_workers: int) -> None:
        self._opener = opener
        self._opened: MultimodalIndex | None = None
        self._closed = False
        self._lock = threading.Lock()
        if not is_whole(max_workers, least=1):
            raise ConfigurationError(f"max_workers must be a whole number, at least 1, not {brief(max_workers)}")
        self._executor = DaemonExecutor(max_workers, "multimodal-search")

    def __reduce__(self) -> NoReturn:
        raise TypeError("an AsyncMultimodalIndex cannot be pickled or copied: open it in each process")

    async def add(
        self, items: Iterable[Item | ContentLike] | Item | ContentLike, **settings: Unpack[RunSettings]
    ) -> IndexReport:
        """As `MultimodalIndex.add`."""
        return await self._call(MultimodalIndex.add, items, **settings)

    async def add_images(
        self,
        source: str | os.PathLike[str] | Iterable[object] | ContentLike | Item,
        **settings: Unpack[ImagesSettings],
    ) -> IndexReport:
        """As `MultimodalIndex.add_images`."""
        return await self._call(MultimodalIndex.add_images, source, **settings)

    async def sync_folder(self, folder: str | os.PathLike[str], **settings: Unpack[SyncSettings]) -> IndexReport:
        """As `MultimodalIndex.sync_folder`."""
        return await self._call(MultimodalIndex.sync_folder, folder, **settings)

    async def add_texts(self, texts: Iterable[str | Text | Item], **settings: Unpack[RunSettings]) -> IndexReport:
        """As `MultimodalIndex.add_texts`."""
        return await self._call(MultimodalIndex.add_texts, texts, **settings)

    async def add_vectors(
        self, records: Iterable[Record], *, progress: bool | ProgressCallback | None = None
    ) -> IndexReport:
        """As `MultimodalIndex.add_vectors`."""
        return await self._call(MultimodalIndex.add_vectors, records, progress=progress)

    async def export(self, path: str | os.PathLike[str]) -> int:
        """As `MultimodalIndex.export`."""
        return await self._call(MultimodalIndex.export, path)

    async def add_export(
        self, path: str | os.PathLike[str], *, progress: bool | ProgressCallback | None = None
    ) -> IndexReport:
        """As `MultimodalIndex.add_export`."""
        return await self._call(MultimodalIndex.add_export, path, progress=progress)

    async def search(
        self,
        query: Query,
        limit: int = 10,
        offset: int = 0,
        where: Filter | None = None,
        min_score: float | None = None,
        **settings: Unpack[SearchSettings],
    ) -> SearchResults:
        """As `MultimodalIndex.search`."""
        return await self._call(MultimodalIndex.search, query, limit, offset, where, min_score, **settings)

    async def search_many(
        self,
        queries: Sequence[Query],
        limit: int = 10,
        offset: int = 0,
        where: Filter | None = None,
        min_score: float | None = None,
        **settings: Unpack[SearchSettings],
    ) -> list[SearchResults]:
        """As `MultimodalIndex.search_many`."""
        return await self._call(MultimodalIndex.search_many, queries, limit, offset, where, min_score, **settings)

    async def search_all(
        self,
        query: Query,
        where: Filter | None = None,
        min_score: float | None = None,
        **settings: Unpack[SearchSettings],
    ) -> AsyncIterator[SearchHit]:
        """As `MultimodalIndex.search_all`; `async for` fetches hits as it goes on."""
        hits = await self._call(MultimodalIndex.search_all, query, where, min_score, **settings)
        while some := await self._call(lambda index: list(itertools.islice(hits, _HITS_AT_ONCE))):
            for hit in some:
                yield hit

    async def similar(
        self,
        like: Example | Sequence[Example],
        limit: int = 10,
        offset: int = 0,
        where: Filter | None = None,
        min_score: float | None = None,
        *,
        unlike: Example | Sequence[Example] = (),
        **settings: Unpack[SearchSettings],
    ) -> SearchResults:
        """As `MultimodalIndex.similar`."""
        return await self._call(
            MultimodalIndex.similar, like, limit, offset, where, min_score, unlike=unlike, **settings
        )

    async def duplicates(
        self,
        threshold: float | None = None,
        *,
        where: Filter | None = None,
        progress: bool | ProgressCallback | None = None,
    ) -> list[SearchResults]:
        """As `MultimodalIndex.duplicates`."""
        return await self._call(MultimodalIndex.duplicates, threshold, where=where, progress=progress)

    @overload  # a str is a Sequence of str too, but here it is one id
    async def get(self, ids: PointId | UUID, *, with_vectors: bool = False) -> Record | None: ...  # type: ignore[overload-overlap]

    @overload
    async def get(self, ids: Sequence[PointId | UUID], *, with_vectors: bool = False) -> list[Record | None]: ...

    async def get(
        self, ids: PointId | UUID | Sequence[PointId | UUID], *, with_vectors: bool = False
    ) -> Record | list[Record | None] | None:
        """As `MultimodalIndex.get`."""
        return await self._call(lambda index: index.get(ids, with_vectors=with_vectors))

    async def delete(self, ids: PointId | UUID | Iterable[PointId | UUID]) -> None:
        """As `MultimodalIndex.delete`."""
        await self._call(MultimodalIndex.delete, ids)

    async def count(self, where: Filter | None = None) -> int:
        """As `MultimodalIndex.count`."""
        return await self._call(MultimodalIndex.count, where)

    @property
    def keyword_fields(self) -> tuple[str, ...]:
        """As `MultimodalIndex.keyword_fields`."""
        return self._index().keyword_fields

    async def set_keyword_fields(self, fields: Sequence[str]) -> None:
        """As `MultimodalIndex.set_keyword_fields`."""
        await self._call(MultimodalIndex.set_keyword_fields, fields)

    async def calibrate(self, reference_queries: Iterable[ContentLike] | None = None) -> None:
        """As `MultimodalIndex.calibrate`."""
        await self._call(MultimodalIndex.calibrate, reference_queries)

    async def optimize(self) -> bool:
        """As `MultimodalIndex.optimize`."""
        return await self._call(MultimodalIndex.optimize)

    async def status(self) -> IndexStatus:
        """As `MultimodalIndex.status`."""
        return await self._call(MultimodalIndex.status)

    async def verify(self, *, progress: bool | ProgressCallback | None = None) -> VerifyReport:
        """As `MultimodalIndex.verify`."""
        return await self._call(MultimodalIndex.verify, progress=progress)

    async def close(self) -> None:
        """As `MultimodalIndex.close`, and embedding that is under way is cut short.

        A call that does not end within a second or two, as one whose items come from a source that does not answer, is
        waited for no longer: it raises a `StoreClosedError`.
        """
        await asyncio.to_thread(self._close)

    async def __aenter__(self) -> Self:
        return await self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __await__(self) -> Generator[object, None, Self]:
        return self._ready().__await__()

    async def _ready(self) -> Self:
        await self._call(lambda index: None)
        return self

    async def _call(self, method: Callable[Concatenate[MultimodalIndex, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        if self._closed:
            raise StoreClosedError("the index is closed; open another")

        def work() -> R:
            return method(self._index(), *args, **kwargs)

        loop = asyncio.get_running_loop()
        try:
            waiting = loop.run_in_executor(self._executor, work)
        except RuntimeError as error:
            if self._closed:  # meanwhile
                raise StoreClosedError("the index is closed; open another") from error
            raise no_thread(error) from error
        return await waiting

    def _index(self) -> MultimodalIndex:
        with self._lock:
            if self._opened is None:
                self._opened = self._opener()
                if self._closed:  # meanwhile, by somebody who has not waited
                    self._opened.close()
            return self._opened

    def _close(self) -> None:
        self._closed = True
        opened = self._opened
        if opened is not None:
            opened._interrupt()  # noqa: SLF001 (its twin)
        _, left = wait(self._executor.unfinished, timeout=WAIT_S)
        if opened is not None:
            opened.close()
        for call in left:
            with suppress(InvalidStateError):  # it has ended just now
                call.set_exception(StoreClosedError("the index was closed while this call was under way"))
