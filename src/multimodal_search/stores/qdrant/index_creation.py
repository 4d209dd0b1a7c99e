"""Payload indexes of a server's collection: learn which exist, and create those that filters need.

Where strict mode asks for them, they are made at the first filter on a field, however few points there are. Elsewhere
they make filters faster, from some thousand points on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from multimodal_search.errors import QueryError, StoreError
from multimodal_search.filters.matching import elements
from multimodal_search.filters.nodes import FieldPath, Node
from multimodal_search.stores.qdrant.client import Connection
from multimodal_search.stores.qdrant.errors import status_of
from multimodal_search.stores.qdrant.info import collection_info
from multimodal_search.stores.qdrant.strict_mode import StrictMode, missing_index
from multimodal_search.stores.qdrant_shared.filters import payload_selector
from multimodal_search.stores.qdrant_shared.payload_indexes import (
    ASK_AGAIN_S,
    INDEX_PAYLOAD_FROM,
    IndexKind,
    PayloadIndexes,
    any_value,
    fields_of,
    needs_prefixes,
    own_path,
    suits,
)

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

_log = logging.getLogger(__name__)

_PAUSE_S, _BEHIND_S = 0.02, 2.0  # between looks at, and at most until, a peer that is behind
_SAMPLE = 100  # points whose values say what kind of index a field gets, where a filter may not ask for one
_KINDS: tuple[IndexKind, ...] = ("bool", "float", "keyword", "datetime")
_WITH_PREFIX = "keyword (with prefix: true)"


class CollectionIndexes:
    """The payload indexes of one collection, as last reported by the server, and its strict mode.

    Args:
        connection: How to reach it.
        may_create: Whether filters may have indexes created.

    Attributes:
        strict: Its strict mode.
        prefixed: The paths of indexes of texts that serve prefixes, too.
    """

    def __init__(self, connection: Connection, *, may_create: bool) -> None:
        self.strict = StrictMode()
        self.prefixed: set[str] = set()
        self._connection = connection
        self._may_create = may_create
        self._known = PayloadIndexes()
        self._unprefixed: set[str] = set()  # indexes of texts that the server could not give prefixes
        self._points = 0  # when last asked
        self._ask_from = 0.0
        self._creating = threading.Lock()

    @property
    def kinds(self) -> dict[str, str]:
        """Their kinds, by path."""
        return self._known.kinds

    def learn(self, info: models.CollectionInfo) -> None:
        """Take over what the server says of the collection."""
        schema = {own_path(path): index for path, index in (info.payload_schema or {}).items()}
        self._points = info.points_count or 0
        self._known.kinds = {path: _kind_of(index) for path, index in schema.items()}
        self.prefixed = {path for path, index in schema.items() if getattr(index.params, "prefix", None)}
        self.strict = StrictMode.of(info)
        self._connection.limit_timeout(self.strict.max_timeout)
        self._ask_from = time.monotonic() + ASK_AGAIN_S

    @property
    def points(self) -> int:
        """How many points there are, as last heard, with those that this process has written since."""
        return self._points

    def grow(self, points: int) -> None:
        """Count points that this process has written since the server was last asked."""
        self._points += points

    def forget(self) -> None:
        """Forget what the server said, as of another collection."""
        self.strict, self.prefixed, self._known, self._unprefixed = StrictMode(), set(), PayloadIndexes(), set()
        self._points, self._ask_from = 0, 0.0

    def provide(self, node: Node, filter_of: Callable[[Node], models.Filter]) -> None:
        """Create the indexes that a filter needs, as far as they are missing.

        Args:
            node: The filter.
            filter_of: Translates a filter.

        Raises:
            QueryError: The filter needs an index that may not be created.
            StoreError: The server refuses to create one that the filter needs.
        """
        if self.strict.needs_indexes:
            with self._creating:
                for at, kind in fields_of(node).items():
                    if at.json_path not in self.kinds:
                        self._create_needed(at, kind)
                for at in needs_prefixes(node):
                    self._add_prefixes(at.json_path)
        elif self._may_create and self._known.lacking(node):
            self._ask()
            if self._points >= INDEX_PAYLOAD_FROM:
                for at, kind in self._known.lacking(node).items():
                    self._create_useful(at, kind, filter_of(any_value(at, kind)))

    def mend(self, error: StoreError, until: dict[str, float]) -> bool:
        """Learn from a refusal: what the server asks for may have changed since it was last asked.

        Args:
            error: The refusal.
            until: How long the request may be repeated for a field's index; empty at first, and kept here.

        Returns:
            Whether the request may pass now.

        Raises:
            QueryError: It needs an index that may not be created.
            StoreError: The server refuses to create it.
        """
        before = self.strict, self.kinds, self.prefixed
        with self._connection.calling() as client:
            self.learn(collection_info(client, self._connection.collection))
        has_changed = before != (self.strict, self.kinds, self.prefixed)
        path, types = missing_index(error) or ("", [])
        if path in until:
            self._check_kind(path, types, error)
            time.sleep(_PAUSE_S)  # a peer of a cluster hears of an index a little after the one that made it
            return bool(path) and time.monotonic() < until[path]
        until[path] = time.monotonic() + _BEHIND_S
        if has_changed or not path:
            return has_changed
        with self._creating:
            if path not in self.kinds:
                self._create_needed(FieldPath.parse(path), types[0] if len(types) == 1 else None, types)
            elif _WITH_PREFIX in types and path not in self.prefixed:
                self._add_prefixes(path)
            else:
                self._check_kind(path, types, error)
        return True

    def _check_kind(self, path: str, types: list[str], error: StoreError) -> None:
        """Check that a field's index may serve a filter, if there is one."""
        kind = self.kinds.get(path)
        if kind is None or kind in types or (kind == "keyword" and _WITH_PREFIX in types):
            return
        raise QueryError(
            f"a filter on the field {path!r} of {self._connection} needs a payload index of the kind "
            f"{' or '.join(types)}, as the collection's strict mode refuses others (`unindexed_filtering_retrieve`); "
            f"the field has one of the kind {kind}, and can have one at most: use a filter that this one serves, or "
            "replace the index"
        ) from error

    def _create_needed(self, at: FieldPath, kind: str | None, types: list[str] | None = None) -> None:
        """Create an index without which the server refuses the filter."""
        path = at.json_path
        chosen = self._kind_for(at, kind) if kind is None or kind in _KINDS else kind
        if types and chosen not in types and _WITH_PREFIX not in types:
            chosen = "float" if "float" in types else types[0]
        most, has = self.strict.max_payload_index_count, len(self.kinds)
        if not self._may_create:
            raise QueryError(
                f"{_needed(self._connection, path, chosen)}, and the store may not make it: create it, or open the "
                "store with index_payload=True"
            )
        if most is not None and has >= most:
            raise QueryError(
                f"{_needed(self._connection, path, chosen)}, but it has {has} payload indexes, and its strict mode "
                f"takes {most} at most (`max_payload_index_count`): delete one, or filter by another field"
            )
        with self._connection.calling() as client:
            self.learn(collection_info(client, self._connection.collection))
        if path in self.kinds:
            return  # another process was faster, and a second index would replace its
        self._create(path, index_settings(chosen), f"{_needed(self._connection, path, chosen)}")

    def _add_prefixes(self, path: str) -> None:
        """Make an index of texts anew, so that it serves prefixes; it is made of the payloads, and loses nothing."""
        if self.kinds.get(path) != "keyword" or path in self.prefixed | self._unprefixed or not self._may_create:
            return
        self._unprefixed.add(path)  # not to be tried again
        from qdrant_client import models

        with self._connection.calling() as client:
            info = collection_info(client, self._connection.collection)
            self.learn(info)
            index = {own_path(each): index for each, index in (info.payload_schema or {}).items()}.get(path)
            if index is None or index.data_type.value != "keyword" or path in self.prefixed:
                return
            params = index.params or models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD)
            index_field(client, self._connection.collection, path, params.model_copy(update={"prefix": True}), params)
            self.learn(collection_info(client, self._connection.collection))

    def _create(self, path: str, settings: tuple[Any, ...], needed: str) -> None:
        with self._connection.calling() as client:
            if index_field(client, self._connection.collection, path, *settings) is None:
                raise StoreError(
                    f"{needed}, and the API key may not make it: use one that may write to the collection, or have "
                    "the index made by whoever may"
                )
            self.learn(collection_info(client, self._connection.collection))
        if path not in self.kinds:  # as a peer says that has not heard of it yet
            self._known.kinds[path] = settings[0].type.value
            self.prefixed |= {path} if getattr(settings[0], "prefix", None) else set()

    def _kind_for(self, at: FieldPath, wanted: str | None) -> str:
        """The kind of index that some values of a field ask for: a slip in a filter must not decide it."""
        with self._connection.calling() as client:
            points, _ = client.scroll(
                self._connection.collection,
                limit=self.strict.points(_SAMPLE),
                with_payload=payload_selector([str(at.steps[0])]),
            )
        values = [value for point in points for value in elements(at, point.payload or {})]
        fitting = [kind for kind in _KINDS for value in values if suits(value, kind)]
        return wanted if wanted and (wanted in fitting or not fitting) else (fitting or ["keyword"])[0]

    def _create_useful(self, at: FieldPath, kind: IndexKind, holds: models.Filter) -> None:
        """Create a payload index on a field that has none, unless no point passes `holds`.

        If that fails, filters are slower, with the same results.
        """
        self._known.tried(at, kind)
        collection = self._connection.collection
        try:
            with self._connection.calling() as client:
                if client.scroll(collection, scroll_filter=holds, limit=1, with_payload=False)[0] == []:
                    return
                # Another process may have been faster, and a second index would replace its.
                self.learn(collection_info(client, collection))
                if at.json_path not in self.kinds:
                    index_field(client, collection, at.json_path, *index_settings(kind))
                    self.learn(collection_info(client, collection))
        except Exception as error:  # noqa: BLE001 (if it is not the index's alone, the search will meet it, too)
            _log.debug("no payload index on %s of %s: %s", at, self._connection, type(error).__name__)

    def _ask(self) -> None:
        """Ask the server, once a minute at most, how many points and which indexes there are."""
        if time.monotonic() < self._ask_from:
            return
        with self._connection.calling() as client:
            self.learn(collection_info(client, self._connection.collection))


def index_settings(kind: str) -> tuple[Any, ...]:
    """Settings for a payload index, best first; the last one is known to all servers."""
    from qdrant_client import models

    match kind:
        case "float":
            return (models.FloatIndexParams(type=models.FloatIndexType.FLOAT),)
        case "datetime":
            return (models.DatetimeIndexParams(type=models.DatetimeIndexType.DATETIME),)
        case "bool":
            return (models.BoolIndexParams(type=models.BoolIndexType.BOOL),)
        case "integer":  # which only a native filter asks for
            return (models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER),)
        case "uuid":
            return (models.UuidIndexParams(type=models.UuidIndexType.UUID),)
        case "geo":
            return (models.GeoIndexParams(type=models.GeoIndexType.GEO),)
        case _ if kind.startswith("text"):
            phrases = "phrase_matching" in kind or None
            return (models.TextIndexParams(type=models.TextIndexType.TEXT, phrase_matching=phrases),)
    plain = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD)
    return plain.model_copy(update={"prefix": True}), plain


def index_field(client: QdrantClient, collection: str, path: str, settings: Any, *older: Any) -> Any:
    """Create a payload index, unless the key is read-only: filters are slower then, with the same results.

    Returns:
        Its settings: some may be unknown to an older server; None if the key may not create one.
    """
    try:
        client.create_payload_index(collection, path, field_schema=settings, wait=True)
    except Exception as error:
        status = status_of(error)
        if status == 403:
            return None
        if status not in (400, 422) or not older:
            raise
        return index_field(client, collection, path, *older)  # an older server does not know all settings
    return settings


def _kind_of(index: models.PayloadIndexInfo) -> str:
    """The kind of an index; one of integers may serve equality alone, or ranges alone."""
    lacking = [name for name in ("lookup", "range") if getattr(index.params, name, None) is False]
    return " without ".join([index.data_type.value, *lacking])


def _needed(connection: Connection, path: str, kind: str) -> str:
    return (
        f"a filter on the field {path!r} of {connection} needs a payload index of the kind {kind}, as the collection's "
        "strict mode refuses filters without one (`unindexed_filtering_retrieve`)"
    )
