"""The collection of a `QdrantStore` as a whole: opening it, its settings, the graph after a bulk load, aliases."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

from multimodal_search.errors import ConfigurationError, StoreError
from multimodal_search.report import TuningReport
from multimodal_search.stores.qdrant.alias import first_target, is_collection, is_listed, switch_alias, target_of
from multimodal_search.stores.qdrant.bulk_load import BulkLoad
from multimodal_search.stores.qdrant.client import Connection
from multimodal_search.stores.qdrant.collection import Collection, OpenedCollection
from multimodal_search.stores.qdrant.index_creation import CollectionIndexes
from multimodal_search.stores.qdrant.info import collection_info, pause, wait_until_built
from multimodal_search.stores.qdrant.settings import CollectionSettings
from multimodal_search.stores.qdrant.shard_keys import ShardKeys
from multimodal_search.stores.qdrant.tuning import CollectionTuning
from multimodal_search.types import StoreSchema

if TYPE_CHECKING:
    from qdrant_client import QdrantClient


class CollectionAdministration(ABC):
    """The half of `QdrantStore` that is about the collection as a whole.

    Args:
        connection: How to reach it.
        settings: What it should be like.
        indexes: Its payload indexes, strict mode, and number of points.
    """

    def __init__(self, connection: Connection, settings: CollectionSettings, indexes: CollectionIndexes) -> None:
        self._connection = connection
        self._settings = settings
        self._indexes = indexes
        self._bulk = BulkLoad(connection)
        self._tuning = CollectionTuning(connection, settings, indexes)
        self._shard_keys: ShardKeys | None = None

    @property
    def needs_optimize(self) -> bool:
        """Whether the collection is loaded without its HNSW graph, by `bulk_load`."""
        return self._bulk.is_on

    def optimize(self, *, on_tick: Callable[[], None] | None = None) -> bool:
        """End a bulk load: the server builds the HNSW graph, which is waited for. Otherwise a server does so by itself.

        Where the graph has not reached the target of `tune`, the server builds one with twice as many links, up to 64,
        unless `hnsw_m`, `hnsw_ef_construct` or `hnsw_ef` is set.

        Raises:
            StoreError: The server cannot build it.
        """
        self._ready()
        if self._bulk.is_on:
            self._bulk.end(on_tick)
            return True
        if not self._tuning.densify():
            return False
        pause(on_tick)
        wait_until_built(self._connection, on_tick)
        return True

    @property
    def collection(self) -> str:
        """The name of the collection."""
        return self._connection.collection

    @property
    def url(self) -> str | None:
        """The URL of the server, without secrets; None without one."""
        return self._connection.url

    @property
    def counts_exactly(self) -> bool:
        """Whether `count` is exact, however many points there are: false where strict mode forbids it."""
        return self._indexes.strict.allows_exact

    @property
    def tuning(self) -> TuningReport | None:
        """The recall that searches reach, as `tune` has measured it; None if it was never called."""
        self._ready()
        return self._tuning.report

    @property
    def needs_tuning(self) -> bool:
        """Whether the recall of the graph is not known, or was measured with half or twice as many points.

        False below 10,000 points, while the server builds the graph, and in local mode, which is exact.
        """
        self._ready()
        return self._tuning.is_due()

    def update_settings(self) -> tuple[str, ...]:
        """Give the collection those settings of this store that it can still get; the server applies them meanwhile.

        Changing `hnsw_m`, `hnsw_ef_construct` or `quantization` makes the server build anew what they shape, which
        takes as long as at first; searching goes on with the old ones. A bulk load ends.

        Returns:
            The names of the settings that were changed.

        Raises:
            StoreError: The server refuses them, or the key may not change a collection.
        """
        self._ready()
        self._bulk.end(wait=False)
        with self._connection.calling() as client:
            info = collection_info(client, self._connection.collection)
            differing = self._settings.differing(info, info.config.hnsw_config.m)
            changes = self._settings.changes(differing)
            if changes:
                client.update_collection(self._connection.collection, timeout=self._connection.timeout, **changes)
        return tuple(name for name in differing if self._settings.can_change(name))

    def switch_to(self, collection: str) -> str | None:
        """Let the alias that this store is named by stand for another collection from now on, with one request.

        Every request that comes later, of any program, goes to the other collection. A program that has opened the
        index before should open it again, as the other collection may be of another embedder; this store has to.

        Args:
            collection: A collection that holds an index.

        Returns:
            The collection that the alias stood for before, which stays as it is; None if the alias is new.

        Raises:
            ConfigurationError: `collection` is no name.
            StoreError: This store is not named by an alias, or `collection` holds no index.
        """
        self._connection.check_open()
        if not isinstance(collection, str) or not collection:
            raise ConfigurationError("collection must be the name of a collection that holds an index")
        with self._connection.calling() as client:
            former = switch_alias(client, self._connection.collection, collection, timeout=self._connection.timeout)
        self._forget()
        return former

    def _create_alias(self, client: QdrantClient, schema: StoreSchema) -> None:
        """Create the alias that the settings ask for, with a collection, unless it is there."""
        name = self._connection.collection
        exists = is_collection(client, name)  # looked up first: another process may create the alias meanwhile
        if target_of(client, name) is not None:
            return
        if exists and not is_listed(client, name):  # an alias, of a collection that a token may not see
            return
        if exists:
            raise StoreError(
                f"{name!r} is the name of a collection, not an alias: open it without alias=True, or choose a new name "
                "for an index that can be switched to another collection later"
            )
        target = first_target(name)
        self._collection_of(client, target).ensure(schema)
        switch_alias(client, name, target, timeout=self._connection.timeout)

    def _open(self, schema: StoreSchema, found: OpenedCollection | None) -> OpenedCollection:
        """Create or open the collection, compare it to the settings, and begin or end a bulk load."""
        name = self._connection.collection
        with self._connection.calling() as client:
            if self._settings.alias:
                self._create_alias(client, schema)
            opened = self._collection_of(client, name).ensure(schema, found)
        info = opened.info
        if self._connection.is_local:
            return opened
        differing = self._settings.differing(info, self._bulk.hnsw_m(info))
        if differing:
            warnings.warn(self._settings.advice(name, differing), RuntimeWarning, stacklevel=4)
        field = self._settings.shard_key_field_of(info, name)
        self._shard_keys = None if field is None else ShardKeys(self._connection, field)
        self._bulk.begin_or_end(info, wanted=self._settings.bulk_load)
        return opened

    @abstractmethod
    def _ready(self) -> StoreSchema:
        """The schema of the open store."""

    @abstractmethod
    def _forget(self) -> None:
        """Forget what is known of the collection, so that the store has to be opened again."""

    @abstractmethod
    def _collection_of(self, client: QdrantClient, name: str) -> Collection:
        """A collection with the settings of this store."""
