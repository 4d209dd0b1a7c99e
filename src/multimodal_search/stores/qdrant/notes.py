"""Index metadata of a Qdrant collection, in the collection's own metadata.

Each text has a key of its own, beside the schema's: servers merge metadata key by key, so that two writers cannot
overwrite each other's texts. If a server drops metadata, a text is a point of the second collection, beside the schema.
What the key may not write is kept in this process, for all its handles of the collection.
Opening the collection reads all of its metadata: it is for small texts, read and written seldom.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid5

from multimodal_search.ids import NAMESPACE
from multimodal_search.stores.keywords import NOTE
from multimodal_search.stores.qdrant.client import Connection
from multimodal_search.stores.qdrant.collection import KEY, OpenedCollection, companion_of, metadata_of
from multimodal_search.stores.qdrant.errors import said_by, status_of
from multimodal_search.stores.qdrant.info import collection_info, once_known
from multimodal_search.stores.tuning import TUNING_NOTE

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

_kept: dict[tuple[str, str], str] = {}  # by collection with its server, and name

_CONTENTS = {NOTE: ("keyword fields are", "optimize"), TUNING_NOTE: ("tuning is", "optimize")}
"""What some of the texts hold, and the method of an index that writes them; the others are the calibration's."""


def get_index_metadata(
    connection: Connection, opened: OpenedCollection | None, name: str, *, info: models.CollectionInfo | None = None
) -> str | None:
    """Get a text of the index metadata; None if there is none of this name.

    Args:
        connection: To the collection.
        opened: What opening it found.
        name: Of the text.
        info: The collection's description, where it need not be asked for.
    """
    kept = _kept.get((connection.place, name))
    if kept is not None:
        return kept
    with connection.calling() as client:
        known = metadata_of(collection_info(client, connection.collection) if info is None else info)
        text = known.get(_key(name))
        if text is None and opened is not None and opened.has_companion:
            points = client.retrieve(companion_of(connection.collection), ids=[_id(name)], with_payload=True)
            text = (points[0].payload or {}).get("text") if points else None
    return None if text is None else str(text)


def kept_metadata(connection: Connection, opened: OpenedCollection, name: str) -> str | None:
    """A text of the index metadata as it was when the collection was opened, without asking again."""
    text = _kept.get((connection.place, name)) or metadata_of(opened.info).get(_key(name))
    return None if text is None else str(text)


def set_index_metadata(
    connection: Connection, opened: OpenedCollection | None, name: str, text: str, *, for_all: bool = False
) -> None:
    """Store a text of the index metadata under a name, or keep it in this process, where the key may not store it.

    Args:
        connection: To the collection.
        opened: What opening it found.
        name: Of the text.
        text: The text.
        for_all: Whether it is of no use in this process alone, so that a key that may not store it is refused.
    """
    has_companion = opened is not None and opened.has_companion
    with connection.calling() as client:
        try:
            _store(client, connection, name, text, has_companion=has_companion)
        except Exception as error:
            if for_all or status_of(error) != 403:
                raise
            missing = said_by(error).removeprefix("Forbidden: ")
            _kept[connection.place, name] = text
            what, method = _CONTENTS.get(name, ("calibration is", "calibrate"))
            connection.tell_once(
                f"the {what} kept in this process only, as the key or token lacks a right ({missing}); "
                f"index.{method}() with one that has it stores it"
            )
        else:
            _kept.pop((connection.place, name), None)


def _store(client: QdrantClient, connection: Connection, name: str, text: str, *, has_companion: bool) -> None:
    collection = connection.collection
    once_known(lambda: client.update_collection(collection, metadata={_key(name): text}, timeout=connection.timeout))
    if not has_companion or _key(name) in _metadata(client, collection):
        return
    from qdrant_client import models

    point = models.PointStruct(id=_id(name), vector={}, payload={"note": name, "text": text})
    client.upsert(companion_of(collection), [point], wait=True)


def _metadata(client: QdrantClient, collection: str) -> dict[str, Any]:
    return metadata_of(collection_info(client, collection))


def _key(name: str) -> str:
    return f"{KEY}_note_{name}"


def _id(name: str) -> str:
    return str(uuid5(NAMESPACE, f"note:{name}"))
