"""Full-text search of a Qdrant collection: the index that it needs on a field, and its queries."""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING

from multimodal_search.errors import StoreError
from multimodal_search.stores.qdrant.client import Connection
from multimodal_search.stores.qdrant.errors import status_of
from multimodal_search.stores.qdrant.info import collection_info, server_version
from multimodal_search.stores.qdrant_shared.payload_indexes import own_path

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

RANKS_FROM = (1, 20)
"""The version of Qdrant that ranks by BM25."""

MAX_SCANNED = 100_000
"""Points that a keyword search reads on an older server."""

_SEEN_S = 2.0  # until when an index that was made is visible, whichever node of a cluster answers

_warned: list[str] = []
"""That the servers of this process are old is said once."""


class TextIndexes:
    """The full-text indexes of one collection, as far as this process knows them.

    Args:
        connection: How to reach it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._paths: set[str] = set()  # of fields that are known to be indexed by words
        self._version: str | None = None  # of a server that cannot rank

    def ready(self, path: str) -> bool:
        """Create a full-text index on the field at `path`, if it has no index yet; returns whether it has one then.

        Without one, a keyword search reads that field of every point: where the key may not make indexes, where the
        field has an index of another kind, which is kept, as a field has one index, and where the server is older than
        1.20, on which nothing is created.

        Raises:
            StoreError: The server is older than 1.20, and the points are too many to be read.
        """
        if path in self._paths:
            return True
        with self._connection.calling() as client:
            ranks = self._version is None and self._index(client, path)
            if self._version is not None:
                self._check_scan(client, self._version)
        if ranks:
            self._paths.add(path)
        return ranks

    def forget(self, path: str) -> None:
        """Look again before the next search, as somebody may have dropped the index."""
        self._paths.discard(path)

    def _index(self, client: QdrantClient, path: str) -> bool:
        from qdrant_client import models

        words = models.TextIndexParams(
            type=models.TextIndexType.TEXT, tokenizer=models.TokenizerType.WORD, lowercase=True, scoring=True
        )
        if self._connection.is_local:
            client.create_payload_index(self._connection.collection, path, field_schema=words)
            return True
        ranks = self._ranks(client, path)
        if ranks is not None:
            return ranks
        version = server_version(client)
        if version is not None and version < RANKS_FROM:
            self._version = f"Qdrant {'.'.join(map(str, version))}"
            return False
        try:
            client.create_payload_index(self._connection.collection, path, field_schema=words, wait=True)
        except Exception as error:
            if status_of(error) == 403:  # a key that may only read
                return False
            if status_of(error) not in (400, 422):
                raise
            self._version = "older than 1.20" if version is None else None  # else it has enough indexes, or so
            return False
        until = time.monotonic() + _SEEN_S
        while (ranks := self._ranks(client, path)) is None and time.monotonic() < until:
            time.sleep(0.05)  # the node that answered may not know yet what another one has made
        if ranks is False:  # it dropped the one setting that it does not know
            client.delete_payload_index(self._connection.collection, path, wait=True)
            self._version = "older than 1.20"
        return ranks is not False

    def _ranks(self, client: QdrantClient, path: str) -> bool | None:
        """Whether the field's index scores by BM25; None if it has no index."""
        schema = collection_info(client, self._connection.collection).payload_schema or {}
        index = {own_path(indexed): index for indexed, index in schema.items()}.get(path)
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
