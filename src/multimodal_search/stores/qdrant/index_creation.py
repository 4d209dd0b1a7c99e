"""Payload indexes of a server's collection: learn which exist, and create those that filters need."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from multimodal_search.filters.nodes import FieldPath, Node
from multimodal_search.stores.qdrant.client import Connection
from multimodal_search.stores.qdrant.errors import status_of
from multimodal_search.stores.qdrant_shared.payload_indexes import (
    ASK_AGAIN_S,
    INDEX_PAYLOAD_FROM,
    IndexKind,
    PayloadIndexes,
    own_path,
)

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

_log = logging.getLogger(__name__)


class CollectionIndexes:
    """The payload indexes of one collection, as last reported by the server.

    Args:
        connection: How to reach it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._known = PayloadIndexes()
        self._points = 0  # when last asked
        self._ask_from = 0.0

    @property
    def kinds(self) -> dict[str, str]:
        """Their kinds, by path."""
        return self._known.kinds

    def lacking(self, node: Node) -> dict[FieldPath, IndexKind]:
        """The indexes to create for a filter, if the points are many; asks the server first, once a minute at most."""
        if not self._known.lacking(node):
            return {}
        self._learn()
        return self._known.lacking(node) if self._points >= INDEX_PAYLOAD_FROM else {}

    def create(self, at: FieldPath, kind: IndexKind, holds: models.Filter) -> None:
        """Create a payload index on a field that has none, unless no point passes `holds`.

        If that fails, filters are slower, with the same results.
        """
        self._known.tried(at, kind)
        collection = self._connection.collection
        try:
            with self._connection.calling() as client:
                try:
                    found = client.scroll(collection, scroll_filter=holds, limit=1, with_payload=False)[0]
                except Exception as error:
                    if status_of(error) != 400:
                        raise
                    found = None  # a strict server does not filter by what has no index yet
                if found == []:
                    return
                self._ask_from = 0.0
                self._learn()  # another process may have been faster, and a second index replaces the first
                if at.json_path not in self.kinds:
                    index_field(client, collection, at.json_path, *index_settings(kind))
                    self._ask_from = 0.0
                    self._learn()
        except Exception as error:  # noqa: BLE001 (if it is not the index's alone, the search will meet it, too)
            _log.debug("no payload index on %s of %s: %s", at, self._connection, type(error).__name__)

    def _learn(self) -> None:
        """Ask the server, once a minute at most, how many points and which indexes there are."""
        if time.monotonic() < self._ask_from:
            return
        with self._connection.calling() as client:
            info = client.get_collection(self._connection.collection)
        self._points = info.points_count or 0
        self._known.kinds = {
            own_path(path): index.data_type.value for path, index in (info.payload_schema or {}).items()
        }
        self._ask_from = time.monotonic() + ASK_AGAIN_S


def index_settings(kind: IndexKind) -> tuple[Any, ...]:
    """Settings for a payload index, best first; the last one is known to all servers."""
    from qdrant_client import models

    match kind:
        case "keyword":
            plain = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD)
            return plain.model_copy(update={"prefix": True}), plain
        case "float":
            return (models.FloatIndexParams(type=models.FloatIndexType.FLOAT),)
        case "datetime":
            return (models.DatetimeIndexParams(type=models.DatetimeIndexType.DATETIME),)
        case "bool":
            return (models.BoolIndexParams(type=models.BoolIndexType.BOOL),)


def index_field(client: QdrantClient, collection: str, path: str, settings: Any, *older: Any) -> None:
    """Create a payload index, unless the key is read-only: filters are slower then, with the same results."""
    try:
        client.create_payload_index(collection, path, field_schema=settings, wait=True)
    except Exception as error:
        status = status_of(error)
        if status == 403:
            return
        if status not in (400, 422) or not older:
            raise
        index_field(client, collection, path, *older)  # an older server does not know all settings
