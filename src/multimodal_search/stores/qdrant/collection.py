"""Create or open the collection of a store, and store the schema with it.

The schema is in the collection's metadata. Servers before 1.16 drop metadata silently; there it becomes the payload of
the only point of a second collection, `<name>__multimodal_search`, which has no vectors. A peer of a cluster may be
behind: what is missing in one answer is asked for again, before it counts as missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from multimodal_search._threads import at_once
from multimodal_search.errors import ConfigurationError, SchemaMismatchError, StoreError, StoreUnavailableError
from multimodal_search.stores.keywords import NOTE, KeywordFields
from multimodal_search.stores.qdrant.errors import already_exists, said_by, status_of
from multimodal_search.stores.qdrant.index_creation import index_field, index_settings
from multimodal_search.stores.qdrant.info import BEHIND_S, PAUSE_S, collection_info, once_known, server_version
from multimodal_search.stores.qdrant.ports import check_ports
from multimodal_search.stores.qdrant.settings import CollectionSettings
from multimodal_search.stores.qdrant.strict_mode import StrictMode
from multimodal_search.stores.qdrant_shared.payload_indexes import INDEXED_FIELDS
from multimodal_search.types import StoreSchema

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

KEY = "multimodal_search"
"""The key of the schema in the metadata."""

_ALL_WORDS = KeywordFields(complete=True).to_text()
_METADATA_SINCE = (1, 16)
_THREADS = "multimodal-open"  # of requests made at the same time, since a cloud is 50 ms away
_CLAIM_S = 5.0
_NEW_S = 2.0  # for how long what was read counts as what there is
_UNKNOWN_S = 1.0  # how long metadata is looked for on a server that does not say its version


def companion_of(collection: str) -> str:
    """The name of the second collection, on servers that drop metadata."""
    return f"{collection}__{KEY}"


def metadata_of(info: models.CollectionInfo) -> dict[str, Any]:
    """The metadata of a collection; none on servers before 1.16."""
    return getattr(info.config, "metadata", None) or {}


@dataclass(frozen=True, slots=True)
class OpenedCollection:
    """A collection that exists, with a schema.

    Attributes:
        schema: What it holds.
        info: Its description, as last read.
        has_companion: Whether the schema was in the second collection, so that index metadata may be there, too.
        read_at: When it was read, on the clock of `time.monotonic`.
    """

    schema: StoreSchema
    info: models.CollectionInfo
    has_companion: bool = False
    read_at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """A named collection, which may not exist yet.

    Attributes:
        client: How to reach it.
        rest: The same over REST, where `client` uses gRPC and both ports have to be of one server; else None.
        name: What it, or an alias of it, is called.
        local: Whether the client keeps it in this process, where payload indexes mean nothing.
        settings: What to create it with.
        adopt: Whether one that has points but no schema may be taken for one of the caller's embedder.
        tell_once: Logs a warning, once in a process.
        timeout: Seconds that the server may take for a request; None for as long as it likes.
    """

    client: QdrantClient
    rest: QdrantClient | None = None
    name: str
    local: bool
    settings: CollectionSettings
    adopt: bool
    tell_once: Callable[[str], None]
    timeout: int | None = None

    def ensure(self, schema: StoreSchema, opened: OpenedCollection | None = None) -> OpenedCollection:
        """Create or open the collection.

        Args:
            schema: To create it with.
            opened: What `stored` has just found, if it has.

        Raises:
            SchemaMismatchError: Its vectors are of another kind than any of this library's, or have another length.
            ConfigurationError: Its two ports are of different servers.
            StoreError: It has points of an unknown embedder.
        """
        if opened is None or time.monotonic() > opened.read_at + _NEW_S:
            info = self._look()
            if info is None:
                info = self._create(schema)
            opened = self._opened(info)
            if opened is None:
                self._check_vectors(info, schema)
                opened = self._adopt(info, schema)
        self._check_vectors(opened.info, opened.schema)
        self._index_payload(opened.info)
        return opened

    def stored(self) -> OpenedCollection | None:
        """The collection with its schema; None if it does not exist, or has no schema."""
        info = self._look()
        return None if info is None else self._opened(info)

    def _look(self) -> models.CollectionInfo | None:
        """The description of the collection, whose ports are checked meanwhile; None if there is none."""
        if self.rest is None:
            return self._info(self.name)
        calls: list[Callable[[], Any]] = [
            partial(self._info, self.name),
            partial(check_ports, self.rest, self.client, self.name),
        ]
        info, _ = at_once(calls, name=_THREADS)
        return cast("models.CollectionInfo | None", info)

    def _info(self, name: str) -> models.CollectionInfo | None:
        try:
            return once_known(partial(collection_info, self.client, name), statuses=[500])
        except Exception as error:
            if status_of(error) == 404:
                return None
            raise

    def _create(self, schema: StoreSchema) -> models.CollectionInfo:
        """Create the collection, unless another process is faster; returns its description."""
        try:
            self._writer.create_collection(
                self.name,
                metadata={KEY: schema.to_dict(), f"{KEY}_note_{NOTE}": _ALL_WORDS, **self.settings.metadata},
                timeout=self.timeout,
                **self.settings.creation(schema.dimension),
            )
        except Exception as error:
            if not already_exists(error) and status_of(error) != 500 and self._info(self.name) is None:
                raise
            try:
                info = once_known(partial(collection_info, self.client, self.name))
            except Exception as missing:
                if status_of(missing) == 404:
                    raise error from None  # as where an alias of nothing has this name
                raise
            if self.rest is not None:
                check_ports(self.rest, self.client, self.name)
            return info
        if self.local:
            return self.client.get_collection(self.name)
        if self.rest is not None:
            check_ports(self.rest, self.client, self.name)
        index_calls = [partial(self._index_field, name) for name in INDEXED_FIELDS]
        calls: list[Callable[[], Any]] = [self._read_back, *index_calls]
        created, *made = at_once(calls, name=_THREADS)
        return _with_indexes(created, INDEXED_FIELDS, made)

    @property
    def _writer(self) -> QdrantClient:
        """What creates the collection: the client of the URL that the user gave."""
        return self.client if self.rest is None else self.rest

    def _opened(self, info: models.CollectionInfo) -> OpenedCollection | None:
        """The collection with its schema; None if it has none."""
        fields = metadata_of(info).get(KEY)
        has_companion = fields is None
        fields = self._read_companion() if fields is None else fields
        if fields is None:
            return None
        try:
            return OpenedCollection(StoreSchema.from_dict(fields), info, has_companion)
        except ConfigurationError as error:
            raise StoreError(f"the collection {self.name!r} has a schema that cannot be read: {error}") from error

    def _adopt(self, info: models.CollectionInfo, schema: StoreSchema) -> OpenedCollection:
        # A strict server counts roughly, perhaps to 0.
        if not self.adopt and once_known(self._first_points, statuses=[500]):
            points = self.client.count(self.name, exact=False, timeout=self.timeout).count
            raise StoreError(
                f"the collection {self.name!r} holds {points} points of an unknown embedder: if they all are of "
                f"{schema.model!r}, pass adopt=True to QdrantStore once, else choose another collection"
            )
        try:
            once_known(
                lambda: self.client.update_collection(self.name, metadata={KEY: schema.to_dict()}, timeout=self.timeout)
            )
        except Exception as error:
            if status_of(error) != 403:
                raise
            missing = said_by(error).removeprefix("Forbidden: ")
            if not self.adopt:
                raise StoreError(
                    f"the collection {self.name!r} has no schema, and the key or token may not store one ({missing}): "
                    "open it once with a key that may, or pass adopt=True, which does without"
                ) from error
            self.tell_once(
                f"the schema is not stored, as the key or token lacks a right ({missing}), so that adopt=True is "
                "needed each time"
            )
            return OpenedCollection(schema, info)
        return self._opened(self._read_back()) or self._claim_companion(info, schema)

    def _first_points(self) -> Sequence[object]:
        return self.client.scroll(self.name, limit=1, with_payload=False, timeout=self.timeout)[0]

    def _read_back(self) -> models.CollectionInfo:
        """The description once it shows the schema; or without, if the server is too old for metadata."""
        deadline: float | None = None
        version = None
        while True:
            info = once_known(partial(collection_info, self.client, self.name))
            if KEY in metadata_of(info):
                return info
            if deadline is None:
                version = server_version(self.client)
                deadline = time.monotonic() + (_UNKNOWN_S if version is None else BEHIND_S)
            is_late = time.monotonic() > deadline
            if (is_late and version is None) or (version is not None and version < _METADATA_SINCE):
                return info
            if is_late:
                raise StoreUnavailableError(
                    f"the collection {self.name!r} does not show the schema that was stored with it; try again later",
                    trouble="internal",
                )
            time.sleep(PAUSE_S)

    @property
    def _companion(self) -> str:
        return companion_of(self.name)

    def _read_companion(self) -> dict[str, Any] | None:
        try:
            points = once_known(
                lambda: self.client.retrieve(self._companion, ids=[0], with_payload=True, timeout=self.timeout),
                statuses=[500],
            )
        except Exception as error:
            if status_of(error) in (403, 404):  # 403: of a token for this one collection, whether there is another
                return None
            raise
        return points[0].payload if points else None

    def _claim_companion(self, info: models.CollectionInfo, schema: StoreSchema) -> OpenedCollection:
        """Write the schema to the second collection, unless another process is doing so."""
        from qdrant_client import models

        try:
            self.client.create_collection(self._companion, vectors_config={}, timeout=self.timeout)
        except Exception as error:
            if not already_exists(error) and self._info(self._companion) is None:
                raise
            deadline = time.monotonic() + _CLAIM_S
            while time.monotonic() < deadline:
                fields = self._read_companion()
                if fields is not None:
                    return OpenedCollection(StoreSchema.from_dict(fields), info, has_companion=True)
                time.sleep(0.1)
            # Whoever was faster has died in between.
        point = models.PointStruct(id=0, vector={}, payload=schema.to_dict())
        once_known(lambda: self.client.upsert(self._companion, [point], wait=True))
        return OpenedCollection(schema, info, has_companion=True)

    def _check_vectors(self, info: models.CollectionInfo, schema: StoreSchema) -> None:
        from qdrant_client import models

        vectors = info.config.params.vectors
        if not isinstance(vectors, models.VectorParams):
            raise SchemaMismatchError(
                f"the collection {self.name!r} has named vectors or none ({', '.join(vectors or ())}), but this "
                "library keeps one unnamed vector for each point: choose another collection"
            )
        if vectors.size != schema.dimension or vectors.distance != models.Distance.COSINE:
            raise SchemaMismatchError(
                f"the collection {self.name!r} holds vectors of {vectors.size} dimensions for {vectors.distance.value} "
                f"distance, but {schema.model!r} needs {schema.dimension} and Cosine: choose another collection"
            )

    def _index_payload(self, info: models.CollectionInfo) -> None:
        if self.local:
            return
        schema, most = info.payload_schema, StrictMode.of(info).max_payload_index_count
        missing = [name for name in INDEXED_FIELDS if name not in schema]
        missing = missing[: None if most is None else max(0, most - len(schema))]
        if missing:
            _with_indexes(info, missing, at_once([partial(self._index_field, name) for name in missing], name=_THREADS))

    def _index_field(self, name: str) -> object:
        """Create the index on one of the library's fields; returns its settings, None if the server refuses it."""
        try:
            return once_known(lambda: index_field(self._writer, self.name, name, *index_settings("keyword")))
        except Exception as error:
            if status_of(error) != 400:  # as where a collection may have few indexes
                raise
            return None


def _with_indexes(info: models.CollectionInfo, names: Sequence[str], made: Sequence[object]) -> models.CollectionInfo:
    """Add indexes that were made since to a description."""
    from qdrant_client import models

    for name, params in zip(names, made, strict=True):
        if params is not None:
            kind = models.PayloadSchemaType.KEYWORD
            info.payload_schema[name] = models.PayloadIndexInfo(data_type=kind, params=cast("Any", params), points=0)
    return info
