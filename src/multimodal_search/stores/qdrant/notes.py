"""Index metadata of a Qdrant collection, in the collection's own metadata.

Each text has a key of its own, beside the schema's: servers merge metadata key by key, so that two writers cannot
overwrite each other's texts. If a server drops metadata, a text is a point of the second collection, beside the schema.
Opening the collection reads all of its metadata: it is for small texts, read and written seldom.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid5

from multimodal_search.ids import NAMESPACE
from multimodal_search.stores.qdrant.collection import KEY, companion_of
from multimodal_search.stores.qdrant.errors import status_of

if TYPE_CHECKING:
    from qdrant_client import QdrantClient


def get_index_metadata(client: QdrantClient, collection: str, name: str) -> str | None:
    """Get a text of the index metadata; None if there is none of this name."""
    text = _metadata(client, collection).get(_key(name))
    if text is None:
        try:
            points = client.retrieve(companion_of(collection), ids=[_id(name)], with_payload=True)
        except Exception as error:
            if status_of(error) == 404:
                return None
            raise
        text = (points[0].payload or {}).get("text") if points else None
    return None if text is None else str(text)


def set_index_metadata(client: QdrantClient, collection: str, name: str, text: str) -> None:
    """Store a text of the index metadata under a name."""
    client.update_collection(collection, metadata={_key(name): text})
    if _key(name) in _metadata(client, collection):
        return
    from qdrant_client import models

    point = models.PointStruct(id=_id(name), vector={}, payload={"note": name, "text": text})
    client.upsert(companion_of(collection), [point], wait=True)


def _metadata(client: QdrantClient, collection: str) -> dict[str, Any]:
    return getattr(client.get_collection(collection).config, "metadata", None) or {}


def _key(name: str) -> str:
    return f"{KEY}_note_{name}"


def _id(name: str) -> str:
    return str(uuid5(NAMESPACE, f"note:{name}"))
