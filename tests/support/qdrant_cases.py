"""A small collection on the tests' Qdrant server, and vectors for it."""

from __future__ import annotations

from typing import Any

import numpy as np
from qdrant_rest_server import QdrantServer

from multimodal_search import QdrantStore
from multimodal_search.types import FloatArray, StoreSchema

SCHEMA = StoreSchema(model="tiny", fingerprint="tiny-1", dimension=4)


def opened(server: QdrantServer, **settings: Any) -> QdrantStore:
    """A store on the collection `photos`."""
    store = QdrantStore("photos", url=server.url, **settings)
    store.ensure(SCHEMA)
    return store


def ones(count: int) -> FloatArray:
    """Vectors of a store, all alike."""
    return np.ones((count, SCHEMA.dimension), np.float32)
