"""A store whose collection is strict, on whatever server it is."""

from __future__ import annotations

from qdrant_client import models

from multimodal_search import QdrantStore
from multimodal_search.types import StoreSchema

STRICT_MODE = models.StrictModeConfig(
    enabled=True,
    unindexed_filtering_retrieve=False,
    unindexed_filtering_update=False,
    max_query_limit=100,
    search_max_batchsize=10,
    upsert_max_batchsize=100,
    max_timeout=60,
)
"""What Qdrant Cloud sets, and limits; without `search_allow_exact`, under which counts are estimates."""


class StrictStore(QdrantStore):
    """Sets strict mode when it opens its collection, as whoever runs the server may, and opens it again."""

    def ensure(self, schema: StoreSchema, /) -> StoreSchema:
        """Create or open the collection, make it strict, and read it as a strict one."""
        super().ensure(schema)
        with self._connection.calling() as client:
            client.update_collection(self.collection, strict_mode_config=STRICT_MODE)
        return super().ensure(schema)
