"""Full-text search of a Qdrant collection: the index that it needs on a field, and its queries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from multimodal_search.errors import StoreError
from multimodal_search.stores.qdrant.errors import status_of
from multimodal_search.stores.qdrant_shared.payload_indexes import own_path

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models


def index_text(client: QdrantClient, collection: str, path: str, *, local: bool) -> bool:
    """Create a full-text index on the field at `path`, if it has no index yet.

    Returns:
        Whether it has one then. An index of another kind is kept: a field has one index, and the server would silently
        replace it.

    Raises:
        StoreError: The server is older than 1.20.
    """
    from qdrant_client import models

    words = models.TextIndexParams(
        type=models.TextIndexType.TEXT, tokenizer=models.TokenizerType.WORD, lowercase=True, scoring=True
    )
    if local:
        client.create_payload_index(collection, path, field_schema=words)
        return True
    indexed = _ranks(client, collection, path)
    if indexed is None:
        try:
            client.create_payload_index(collection, path, field_schema=words, wait=True)
        except Exception as error:
            status = status_of(error)
            if status == 403:  # a key that may only read
                return False
            if status in (400, 422):
                raise _too_old(collection) from error
            raise
        indexed = _ranks(client, collection, path)
        if indexed is False:  # it dropped the one setting that it does not know
            client.delete_payload_index(collection, path, wait=True)
            raise _too_old(collection)
    return indexed is not False


def text_request(words: str, *, path: str, limit: int, engine_filter: Any, with_payload: bool) -> models.QueryRequest:
    """A BM25 query for the points that contain some words."""
    from qdrant_client import models

    return models.QueryRequest(
        query=models.TextQuery(text=words), using=path, limit=limit, filter=engine_filter, with_payload=with_payload
    )


def _ranks(client: QdrantClient, collection: str, path: str) -> bool | None:
    """Whether the field's index scores by BM25; None if it has no index."""
    schema = client.get_collection(collection).payload_schema or {}
    index = {own_path(indexed): index for indexed, index in schema.items()}.get(path)
    return None if index is None else bool(getattr(index.params, "scoring", None))


def _too_old(collection: str) -> StoreError:
    return StoreError(
        f"the server that holds the collection {collection!r} has no full-text search by BM25: it came with Qdrant "
        "1.20, so update the server, or search without words"
    )
