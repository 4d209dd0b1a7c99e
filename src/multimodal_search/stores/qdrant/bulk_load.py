"""Loading a new collection without its HNSW graph, which is built once at the end.

The collection has `m=0` meanwhile, and in its metadata the `m` to go back to: whoever opens it next finds that, if the
loading process was killed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from multimodal_search.errors import StoreError
from multimodal_search.stores.qdrant.client import Connection
from multimodal_search.stores.qdrant.collection import KEY, metadata_of
from multimodal_search.stores.qdrant.errors import status_of
from multimodal_search.stores.qdrant.info import once_known, pause, wait_until_built
from multimodal_search.stores.qdrant.strict_mode import StrictMode

if TYPE_CHECKING:
    from qdrant_client import models

MARK = f"{KEY}_bulk_load"
"""The key in the metadata."""


class BulkLoad:
    """The first load of one collection.

    Args:
        connection: How to reach it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._m: int | None = None  # to go back to

    @property
    def is_on(self) -> bool:
        """Whether the collection had no graph when it was opened, and has got none since."""
        return self._m is not None

    def hnsw_m(self, info: models.CollectionInfo) -> int:
        """The `m` of a collection, or the one that it goes back to."""
        mark = metadata_of(info).get(MARK)
        return mark if isinstance(mark, int) else info.config.hnsw_config.m

    def begin_or_end(self, info: models.CollectionInfo, *, wanted: bool) -> None:
        """Begin a load that is wanted, if no points are there yet; end one that nobody here wants.

        Args:
            info: As the server reports the collection.
            wanted: Whether this process is here to load.
        """
        metadata = metadata_of(info)
        self._m = self.hnsw_m(info) if MARK in metadata else None
        if self.is_on and not wanted:
            try:
                self.end(wait=False)
            except StoreError as error:
                if status_of(error) != 403:  # who may only read cannot help it
                    raise
        elif wanted and not self.is_on and not info.points_count:
            hindrance = _hindrance(info)
            if hindrance is not None:
                warnings.warn(
                    f"{self._connection}: bulk_load has no effect, as {hindrance}", RuntimeWarning, stacklevel=4
                )
                return
            m = info.config.hnsw_config.m
            once_known(lambda: self._set(0, m), statuses=[404])
            self._m = m

    def end(self, on_tick: Callable[[], None] | None = None, *, wait: bool = True) -> None:
        """Let the server build the graph from now on, and wait until it has; what fails may be called again.

        Raises:
            StoreError: It cannot.
        """
        if self._m is not None:
            self._set(self._m, None)
            if wait:
                pause(on_tick)
                wait_until_built(self._connection, on_tick)
            self._m = None

    def _set(self, m: int, mark: int | None) -> None:
        from qdrant_client import models

        with self._connection.calling() as client:
            client.update_collection(
                self._connection.collection,
                hnsw_config=models.HnswConfigDiff(m=m),
                metadata={MARK: mark},
                timeout=self._connection.timeout,
            )


def _hindrance(info: models.CollectionInfo) -> str | None:
    """Why a collection cannot be loaded without its graph, and what to do; None if it can."""
    if KEY not in metadata_of(info):
        return (
            "servers before Qdrant 1.16 cannot keep a mark of it: load with hnsw_m=0 instead, and call "
            "update_settings() with another hnsw_m after it"
        )
    if not StrictMode.of(info).allows_exact:
        return (
            "the collection's strict mode (search_allow_exact) refuses searches without a graph: leave bulk_load out, "
            "or allow exact searches meanwhile"
        )
    return None
