"""The full-text index of a Qdrant collection on the words of its points, and how they are written anew."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from multimodal_search.errors import StoreError
from multimodal_search.stores.keywords import NOTE, WORDS, KeywordFields
from multimodal_search.stores.qdrant.client import Connection
from multimodal_search.stores.qdrant.collection import OpenedCollection
from multimodal_search.stores.qdrant.errors import status_of
from multimodal_search.stores.qdrant.index_creation import CollectionIndexes
from multimodal_search.stores.qdrant.info import collection_info, server_version
from multimodal_search.stores.qdrant.notes import get_index_metadata, set_index_metadata
from multimodal_search.stores.qdrant.shard_keys import ShardKeys
from multimodal_search.stores.qdrant.writing import MAX_POINTS
from multimodal_search.stores.qdrant_shared.payload_indexes import own_path
from multimodal_search.types import PointId

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

RANKS_FROM = (1, 20)
"""The version of Qdrant that ranks by BM25."""

MAX_SCANNED = 100_000
"""Points that a keyword search reads on an older server."""

_SEEN_S = 2.0  # until when an index that was made is visible, whichever node of a cluster answers

_warned: list[str] = []
"""That the servers of this process are old is said once."""


class CollectionWords:
    """The words of the points of one collection, and its full-text index, as far as this process knows of it.

    Args:
        connection: How to reach it.
        indexes: Its payload indexes.
    """

    def __init__(self, connection: Connection, indexes: CollectionIndexes) -> None:
        self._connection = connection
        self._indexes = indexes
        self.open(None, None)

    def open(self, opened: OpenedCollection | None, shard_keys: ShardKeys | None) -> None:
        """Take over what opening the collection found; None where it has to be opened again."""
        self._opened, self._shard_keys = opened, shard_keys
        self._keywords: KeywordFields | None = None
        self._is_ready = False
        self._version: str | None = None  # of a server that cannot rank

    @property
    def keywords(self) -> KeywordFields:
        """Which fields make them up, as opening the collection found it."""
        if self._keywords is None:
            info = None if self._opened is None else self._opened.info
            self._keywords = KeywordFields.of(get_index_metadata(self._connection, self._opened, NOTE, info=info))
        return self._keywords

    def keep(self, keywords: KeywordFields, /) -> None:
        """Keep with the collection which fields make them up; others than before only where all will know of them."""
        others = keywords.fields != self.keywords.fields
        set_index_metadata(self._connection, self._opened, NOTE, keywords.to_text(), for_all=others)
        self._keywords = keywords

    def index(self) -> bool:
        """Create the full-text index, if there is none; returns whether there is one then.

        Without one, a keyword search reads all points: where the key may not make indexes, where the collection may
        have no more of them, where somebody has made one of another kind, which is kept, and where the server is older
        than 1.20, on which nothing is created.

        Raises:
            StoreError: The server is older than 1.20, and the points are too many to be read.
        """
        if self._is_ready:
            return True
        with self._connection.calling() as client:
            self._is_ready = self._version is None and self._index(client)
            if self._version is not None:
                self._check_scan(client, self._version)
        if self._is_ready:
            self._indexes.kinds.setdefault(WORDS, "text")
        return self._is_ready

    def forget(self) -> None:
        """Look for the index again before the next search, as somebody may have dropped it."""
        self._is_ready = False

    def drop_index(self) -> None:
        """Delete the index, if there is one."""
        if self._connection.is_local:  # where it is none
            return
        self.forget()
        with self._connection.calling() as client:
            if self._ranks(client) is not None:
                client.delete_payload_index(self._connection.collection, WORDS, wait=True)
        self._indexes.kinds.pop(WORDS, None)

    def write(self, ids_of: Mapping[str, Sequence[PointId]], /) -> None:
        """Write words to points that are there."""
        from qdrant_client import models

        most = self._indexes.strict.upserts(MAX_POINTS)
        keys = None if self._shard_keys is None else self._shard_keys.all()
        operations: list[models.UpdateOperation] = [
            models.SetPayloadOperation(
                set_payload=models.SetPayload(payload={WORDS: words}, points=list(ids[at : at + most]), shard_key=keys)
            )
            for words, ids in ids_of.items()
            for at in range(0, len(ids), most)
        ]
        for start in range(0, len(operations), most):
            with self._connection.calling() as client:
                client.batch_update_points(
                    self._connection.collection,
                    operations[start : start + most],
                    wait=True,
                    ordering=models.WriteOrdering.MEDIUM,
                )

    def _index(self, client: QdrantClient) -> bool:
        from qdrant_client import models

        words = models.TextIndexParams(
            type=models.TextIndexType.TEXT, tokenizer=models.TokenizerType.WORD, lowercase=True, scoring=True
        )
        if self._connection.is_local:
            client.create_payload_index(self._connection.collection, WORDS, field_schema=words)
            return True
        ranks = self._ranks(client)
        if ranks is not None:
            return ranks
        version = server_version(client)
        if version is not None and version < RANKS_FROM:
            self._version = f"Qdrant {'.'.join(map(str, version))}"
            return False
        try:
            client.create_payload_index(self._connection.collection, WORDS, field_schema=words, wait=True)
        except Exception as error:
            if status_of(error) == 403:  # a key that may only read
                return False
            if status_of(error) not in (400, 422):
                raise
            self._version = "older than 1.20" if version is None else None  # else it has enough indexes, or so
            return False
        until = time.monotonic() + _SEEN_S
        while (ranks := self._ranks(client)) is None and time.monotonic() < until:
            time.sleep(0.05)  # the node that answered may not know yet what another one has made
        if ranks is False:  # it dropped the one setting that it does not know
            client.delete_payload_index(self._connection.collection, WORDS, wait=True)
            self._version = "older than 1.20"
        return ranks is not False

    def _ranks(self, client: QdrantClient) -> bool | None:
        """Whether the index on the words scores by BM25; None if there is none."""
        schema = collection_info(client, self._connection.collection).payload_schema or {}
        index = {own_path(indexed): index for indexed, index in schema.items()}.get(WORDS)
        return None if index is None else bool(getattr(index.params, "scoring", None))

    def _check_scan(self, client: QdrantClient, version: str) -> None:
        points = collection_info(client, self._connection.collection).points_count or 0
        if points > MAX_SCANNED:
            raise StoreError(
                f"{self._connection}: a keyword search would read all of its {points:,} points, and the limit is "
                f"{MAX_SCANNED:,}, as its server is {version}: update it to Qdrant 1.20, which has an index for words, "
                "or search without keyword_weight"
            )
        if not _warned:
            _warned.append(version)
            warnings.warn(
                f"{self._connection}: keyword searches read every point, as its server is {version}; from Qdrant 1.20 "
                "on there is an index for words (said once)",
                RuntimeWarning,
                stacklevel=5,
            )
