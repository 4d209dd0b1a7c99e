"""A collection whose points lie in shards by a payload field: each of its values is a shard key of the server's."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from multimodal_search._text import brief
from multimodal_search.errors import ContentError, StoreError, StoreRefusedError
from multimodal_search.filters.nodes import And, Equals, In, Node, Or, top_level_path
from multimodal_search.stores.qdrant.client import Connection
from multimodal_search.stores.qdrant.errors import said_by, status_of
from multimodal_search.stores.qdrant.writing import MAX_POINTS, Point, write_points
from multimodal_search.stores.qdrant_shared.payload_indexes import ASK_AGAIN_S
from multimodal_search.stores.qdrant_shared.reading import CHUNK
from multimodal_search.types import PointId

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

ShardKey: TypeAlias = "str | int"

_NEW_S = 5.0  # for how long a node may not know a key that another one has created


class ShardKeys:
    """The shard keys of one collection.

    Args:
        connection: How to reach it.
        field: The payload field that holds the key of a point.
    """

    def __init__(self, connection: Connection, field: str) -> None:
        self._connection = connection
        self._field = field
        self._known: set[ShardKey] = set()
        self._ask_from = 0.0

    def write(self, points: Sequence[Point], *, max_points: int = MAX_POINTS) -> None:
        """Write points to the shards of their keys, which are created when first met.

        A copy of a point that lies in another shard, as its field has changed, is deleted after that.

        Raises:
            ContentError: A point's field is no shard key.
            StoreError: The server refuses a request or cannot be reached; requests before that one are done.
        """
        groups: dict[ShardKey, list[Point]] = {}
        for point in points:
            groups.setdefault(self._key_of(point), []).append(point)
        for key, group in groups.items():
            self._write_group(key, group, max_points)
            self._delete_copies(key, [point.id for point in group])

    def delete(self, ids: Sequence[PointId]) -> None:
        """Delete points in all shards."""
        self._delete(ids, self._list())

    def all(self) -> list[ShardKey]:
        """All keys."""
        return sorted(self._list(), key=str)

    def of_filter(self, node: Node) -> tuple[ShardKey, ...] | None:
        """The keys of all shards that can hold points that pass; None if they are not known."""
        wanted = _wanted(node, top_level_path(self._field))
        if wanted is None:
            return None
        if not wanted <= self._known and time.monotonic() >= self._ask_from:
            self._list()
        return tuple(sorted(wanted, key=str)) if wanted and wanted <= self._known else None

    def forget(self) -> None:
        """Ask for the keys again, as somebody may have dropped one."""
        self._known, self._ask_from = set(), 0.0

    def _key_of(self, point: Point) -> ShardKey:
        key = point.payload.get(self._field)
        if isinstance(key, str) or (type(key) is int and 0 <= key < 2**64):
            return key
        raise ContentError(
            f"the payload of {point.id!r} needs a text or a whole number from 0 as {self._field!r}, which says in "
            f"which shard of {self._connection.collection!r} it lies, not {brief(key)}"
        )

    def _write_group(self, key: ShardKey, points: Sequence[Point], max_points: int) -> None:
        until = time.monotonic() + _NEW_S
        while True:
            self._create(key)
            try:
                write_points(self._connection, points, max_points=max_points, shard_key=key)
            except StoreError as error:
                # By a node that has not heard of it yet, or as somebody has dropped it.
                is_unknown = status_of(error) in (400, 404) and "hard key" in str(error)
                if not is_unknown or time.monotonic() > until:
                    raise
                self.forget()
                time.sleep(0.1)
            else:
                return

    def _create(self, key: ShardKey) -> None:
        if key in self._known or key in self._list():
            return
        with self._connection.calling() as client:
            try:
                client.create_shard_key(self._connection.collection, key, timeout=self._connection.timeout)
            except Exception as error:
                said = said_by(error)
                if status_of(error) == 403 and said.startswith("Forbidden: "):
                    raise StoreRefusedError(
                        f"{self._connection}: the key or token may not create the shards of {self._field}={brief(key)} "
                        f"({said.removeprefix('Forbidden: ')}); write such a record once with one that may"
                    ) from error
                if key not in self._keys(client):  # else another process was faster
                    raise
        self._known.add(key)

    def _delete_copies(self, key: ShardKey, ids: Sequence[PointId]) -> None:
        """Delete points from all shards but those of one key, if more copies are counted than there are points."""
        from qdrant_client import models

        for start in range(0, len(ids), CHUNK):
            some = ids[start : start + CHUNK]
            with self._connection.calling() as client:
                try:
                    these = models.Filter(must=[models.HasIdCondition(has_id=list(some))])
                    copies = client.count(self._connection.collection, count_filter=these, exact=True).count
                except Exception as error:
                    if status_of(error) != 400:
                        raise
                    copies = len(some) + 1  # a strict server does not count exactly
            if copies > len(some):
                self._delete(some, self._list() - {key})

    def _delete(self, ids: Sequence[PointId], keys: set[ShardKey]) -> None:
        from qdrant_client import models

        if not keys:
            return
        for start in range(0, len(ids), CHUNK):
            with self._connection.calling() as client:
                client.delete(
                    self._connection.collection,
                    models.PointIdsList(points=list(ids[start : start + CHUNK])),
                    wait=True,
                    ordering=models.WriteOrdering.MEDIUM,
                    shard_key_selector=sorted(keys, key=str),
                )

    def _list(self) -> set[ShardKey]:
        """All keys, as the server has them now."""
        with self._connection.calling() as client:
            self._known = self._keys(client)
        self._ask_from = time.monotonic() + ASK_AGAIN_S
        return self._known

    def _keys(self, client: QdrantClient) -> set[ShardKey]:
        return {each.key for each in client.list_shard_keys(self._connection.collection).shard_keys or ()}


def _wanted(node: Node, path: str | None) -> set[ShardKey] | None:
    """The values that a field must have for a point to pass; None if it may have others."""
    match node:
        case Equals() if node.field.json_path == path and not isinstance(node.value, bool):
            return {node.value}
        case In() if node.field.json_path == path:
            return set(node.values)
        case And():
            found = [each for part in node.parts if (each := _wanted(part, path)) is not None]
            return set.intersection(*found) if found else None
        case Or():
            all_of = [_wanted(part, path) for part in node.parts]
            return None if not all_of or None in all_of else {key for each in all_of for key in each or ()}
    return None
