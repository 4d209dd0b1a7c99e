"""Batch search with a filter in qdrant-client's local mode, which would read every payload for each query."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from multimodal_search.stores.qdrant.client import Connection
from multimodal_search.stores.qdrant_shared.reading import CHUNK
from multimodal_search.stores.ranking import point_id
from multimodal_search.types import FloatArray, Match, PointId
from multimodal_search.vectors import of_unit_length, products

if TYPE_CHECKING:
    from qdrant_client import models


class PassingPoints:
    """The points that pass a filter, read once, for exact search with many vectors.

    Args:
        connection: To local mode.
        engine_filter: The filter.
    """

    def __init__(self, connection: Connection, engine_filter: models.Filter) -> None:
        collection = connection.collection
        with connection.calling() as client:
            most = max(1, client.count(collection, exact=True).count)
            points, _ = client.scroll(collection, scroll_filter=engine_filter, limit=most, with_payload=False)
        found: list[tuple[PointId, Sequence[float]]] = []
        for start in range(0, len(points), CHUNK):
            ids = [point.id for point in points[start : start + CHUNK]]
            with connection.calling() as client:
                read = client.retrieve(collection, ids=ids, with_payload=False, with_vectors=True)
            found += ((point_id(point), np.asarray(point.vector, np.float32)) for point in read)  # type: ignore[misc]
        self._ids = [key for key, _ in found]
        self._rows = np.array([vector for _, vector in found], np.float64)

    def best(self, query: Sequence[float], count: int) -> Iterator[Match]:
        """The nearest points by falling score, at most `count`, without payloads."""
        if not self._ids:
            return
        vector: FloatArray = of_unit_length(np.array([query], np.float32))[0]
        scores = products(self._rows, vector.astype(np.float64)).astype(np.float32)
        few = np.argpartition(-scores, min(count, len(scores) - 1))[:count]
        for at in few[np.argsort(-scores[few], kind="stable")].tolist():
            yield Match(self._ids[at], float(scores[at]), {})
