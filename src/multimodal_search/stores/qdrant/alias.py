"""An alias as the name of a store's collection: created with it, and moved to another collection without a gap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multimodal_search.errors import StoreError
from multimodal_search.stores.qdrant.collection import KEY, companion_of, metadata_of
from multimodal_search.stores.qdrant.errors import status_of
from multimodal_search.stores.qdrant.info import collection_info

if TYPE_CHECKING:
    from qdrant_client import QdrantClient


def first_target(name: str) -> str:
    """The collection that an alias is created for."""
    return f"{name}_1"


def target_of(client: QdrantClient, name: str) -> str | None:
    """The collection that an alias stands for; None if there is no such alias."""
    return _aliases(client).get(name)


def is_collection(client: QdrantClient, name: str) -> bool:
    """Whether there is a collection of this name that the key may see."""
    try:
        collection_info(client, name)
    except Exception as error:
        if status_of(error) in (403, 404):
            return False
        raise
    return True


def is_listed(client: QdrantClient, name: str) -> bool:
    """Whether a collection itself has this name, rather than an alias, which a token may use and not list."""
    return any(each.name == name for each in client.get_collections().collections)


def switch_alias(client: QdrantClient, alias: str, collection: str, *, timeout: int | None = None) -> str | None:
    """Let an alias stand for another collection from now on, with one request.

    The second collection of servers that drop metadata follows, by an alias of its own.

    Args:
        client: How to reach the server.
        alias: An alias, or a name that nothing has.
        collection: A collection that holds an index.
        timeout: Seconds that the server may take; None for its own limit.

    Returns:
        The collection that it stood for before, which stays as it is; None if the alias is new.

    Raises:
        StoreError: `alias` is a collection's own name, or `collection` holds no index.
    """
    from qdrant_client import models

    exists = is_collection(client, alias)  # looked up first: another process may create the alias meanwhile
    aliases = _aliases(client)
    if exists and alias not in aliases:
        raise StoreError(
            f"{alias!r} is the name of a collection, not an alias, so it cannot be switched to {collection!r}: open "
            f"{collection!r} by its own name, or delete {alias!r} first, and it becomes an alias"
        )
    here, there = companion_of(alias), companion_of(collection)
    if not is_collection(client, collection):
        raise StoreError(f"there is no collection {collection!r} to switch {alias!r} to: index into it first")
    metadata = metadata_of(collection_info(client, collection))
    has_companion = KEY not in metadata and is_collection(client, there)
    if KEY not in metadata and not has_companion:
        raise StoreError(f"the collection {collection!r} holds no index of this library: index into it first")
    actions: list[models.CreateAliasOperation | models.RenameAliasOperation | models.DeleteAliasOperation] = [
        models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=each))
        for each in (alias, here)
        if each in aliases
    ]
    for source, target in ((alias, collection), *(((here, there),) if has_companion else ())):
        actions.append(
            models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=target, alias_name=source))
        )
    client.update_collection_aliases(actions, timeout=timeout)
    return aliases.get(alias)


def _aliases(client: QdrantClient) -> dict[str, str]:
    return {each.alias_name: each.collection_name for each in client.get_aliases().aliases}
