"""Vector stores by name: this library's own, and those of other packages through entry points."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from multimodal_search._plugins import BackendRef, BackendState, OwnBackend, Plugins
from multimodal_search.protocols import VectorStore

__all__ = ["GROUP", "StoreRef", "load_store", "store_names"]

GROUP = "multimodal_search.stores"
"""The entry-point group: each entry names a callable that gives a store, and takes its options by keyword."""

_OWN = {
    "memory": OwnBackend("multimodal_search.stores.memory:MemoryStore"),
    "qdrant": OwnBackend(
        "multimodal_search.stores.registry:qdrant_from_env", module="qdrant_client", install="qdrant-client"
    ),
    "qdrant-edge": OwnBackend(
        "multimodal_search.stores.qdrant_edge:QdrantEdgeStore", module="qdrant_edge", install="multimodal-search[edge]"
    ),
}

_PLUGINS = Plugins[VectorStore]("store", GROUP, VectorStore, _OWN)  # type: ignore[type-abstract]  # for `isinstance`


def load_store(name: str, **options: Any) -> VectorStore:
    """Make the store of a name; nothing is opened or created before `ensure`.

    Args:
        name: `"memory"`, `"qdrant"` (which takes `QDRANT_URL` and `QDRANT_API_KEY` from the environment where they are
            not given), `"qdrant-edge"`, or what another package calls its own; `multimodal-search backends` lists them.
        options: What that store takes.

    Raises:
        ConfigurationError: No such name, an option makes no sense, or its package is broken or not installed.

    Example:
        >>> load_store("memory")
        MemoryStore(0 points)
    """
    return _PLUGINS.load(name, options)


class StoreRef(BackendRef):
    """A store by its name and options: a small value to pickle and to store, from which a process makes its own.

    It holds no secrets: backends take those from the environment of the process that calls `load`.

    Args:
        name: As for `load_store`.
        options: As for `load_store`, without secrets: texts, numbers, paths, and lists and mappings of them.

    Raises:
        ConfigurationError: An option is a secret, or no such value.

    Example:
        >>> StoreRef("qdrant", collection="photos", url="http://localhost:6333")
        StoreRef('qdrant', collection='photos', url='http://localhost:6333')
    """

    __slots__ = ()

    def load(self) -> VectorStore:
        """Make the store.

        Raises:
            ConfigurationError: As `load_store`.
        """
        return load_store(self.name, **self.options)


def store_names() -> list[str]:
    """The names that `load_store` knows."""
    return _PLUGINS.names()


def store_states() -> Iterator[BackendState]:
    """Each store, and what it lacks."""
    return _PLUGINS.states()


def qdrant_from_env(
    collection: str, *, url: str | None = None, api_key: str | None = None, **settings: Any
) -> VectorStore:
    """A `QdrantStore`, with what is not given of a server from `QDRANT_URL` and `QDRANT_API_KEY`.

    Raises:
        ConfigurationError: The settings make no sense together.
    """
    from multimodal_search.stores.qdrant import QdrantStore

    if not {"path", "location", "client"} & set(settings):
        url = url or os.environ.get("QDRANT_URL", "").strip() or None
        api_key = api_key or os.environ.get("QDRANT_API_KEY", "").strip() or None
    return QdrantStore(collection, url=url, api_key=api_key if url else None, **settings)
