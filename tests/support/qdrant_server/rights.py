"""What a key or token may do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .refusals import RefusalError

Need = Literal["read", "write", "manage"]


@dataclass(frozen=True)
class Access:
    """What one caller may do.

    Attributes:
        everywhere: Its rights to all collections, if it is no token for single ones.
        collections: "rw" or "r" for each collection of a token.
    """

    everywhere: Literal["manage", "read"] | None
    collections: Mapping[str, str]

    def check(self, need: Need, collection: str | None) -> None:
        """Refuse what it may not do; `collection` is None for what concerns the whole server."""
        if self.everywhere == "manage" or (self.everywhere == "read" and need == "read"):
            return
        if self.everywhere == "read":
            raise _forbidden("Global manage access is required")
        if need == "manage":
            raise _forbidden("Global access is required")
        if collection is None:
            return
        if collection not in self.collections:
            raise _forbidden(f"Access to collection {collection} is required")
        if need == "write" and self.collections[collection] != "rw":
            raise _forbidden(f"Write access to collection {collection} is required")

    def sees(self, collection: str) -> bool:
        return self.everywhere is not None or collection in self.collections


def _forbidden(what: str) -> RefusalError:
    return RefusalError(403, f"Forbidden: {what}")


_MANAGED = {("PUT", ""), ("PATCH", ""), ("DELETE", ""), ("PUT", "shards"), ("POST", "shards/delete")}
_READING = {
    "points",
    "points/count",
    "points/scroll",
    "points/query",
    "points/query/batch",
    "points/query/groups",
    "facet",
}


def need_of(method: str, action: str) -> Need:
    """What a request to a collection needs."""
    if (method, action) in _MANAGED:
        return "manage"
    return "read" if method == "GET" or (method == "POST" and action in _READING) else "write"
