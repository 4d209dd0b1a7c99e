"""Create or open the collection of a store, and store the schema with it.

The schema is in the collection's metadata. Servers before 1.16 drop metadata silently, so it is read back; where it is
missing then, it becomes the payload of the only point of a second collection, `<name>__multimodal_search`, which has no
vectors.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from multimodal_search.errors import ConfigurationError, SchemaMismatchError, StoreError
from multimodal_search.stores.qdrant.errors import status_of
from multimodal_search.stores.qdrant.index_creation import index_field, index_settings
from multimodal_search.stores.qdrant.strict_mode import StrictMode
from multimodal_search.stores.qdrant_shared.payload_indexes import INDEXED_FIELDS
from multimodal_search.types import StoreSchema

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

KEY = "multimodal_search"
"""The key of the schema in the metadata."""

_CLAIM_S = 5.0


def companion_of(collection: str) -> str:
    """The name of the second collection, on servers that drop metadata."""
    return f"{collection}__{KEY}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionSettings:
    """Settings to create a collection with; None leaves one to the server."""

    shard_number: int | None = None
    replication_factor: int | None = None
    write_consistency_factor: int | None = None
    on_disk: bool | None = None
    quantization: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedCollection:
    """A collection that is open: its schema, and what the server said of it last."""

    schema: StoreSchema
    info: models.CollectionInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """A named collection, which may not exist yet.

    Attributes:
        client: How to reach it.
        name: What it, or an alias of it, is called.
        local: Whether the client keeps it in this process, where payload indexes mean nothing.
        settings: What to create it with.
        adopt: Whether one that has points but no schema may be taken for one of the caller's embedder.
    """

    client: QdrantClient
    name: str
    local: bool
    settings: CollectionSettings
    adopt: bool

    def ensure(self, schema: StoreSchema) -> OpenedCollection:
        """Create or open the collection.

        Raises:
            SchemaMismatchError: Its vectors are of another kind than any of this library's, or have another length.
            StoreError: It has points of an unknown embedder.
        """
        info = self._info(self.name)
        if info is None:
            info = self._create(schema)
        stored = self._stored(info)
        if stored is None:
            self._check_vectors(info, schema)
            stored = self._adopt(schema)
        self._check_vectors(info, stored)
        self._index_payload(info)
        return OpenedCollection(schema=stored, info=info)

    def stored(self) -> StoreSchema | None:
        """The stored schema; None if the collection does not exist, or has no schema."""
        info = self._info(self.name)
        return None if info is None else self._stored(info)

    def _info(self, name: str) -> models.CollectionInfo | None:
        try:
            return self.client.get_collection(name)
        except Exception as error:
            if status_of(error) == 404:
                return None
            raise

    def _create(self, schema: StoreSchema) -> models.CollectionInfo:
        from qdrant_client import models

        try:
            self.client.create_collection(
                self.name,
                vectors_config=models.VectorParams(
                    size=schema.dimension, distance=models.Distance.COSINE, on_disk=self.settings.on_disk
                ),
                shard_number=self.settings.shard_number,
                replication_factor=self.settings.replication_factor,
                write_consistency_factor=self.settings.write_consistency_factor,
                quantization_config=self.settings.quantization,
                metadata={KEY: schema.to_dict()},
            )
        except Exception:
            # Another process may have been faster: servers of different versions say that in different ways.
            info = self._info(self.name)
            if info is None:
                raise
            return info
        return self.client.get_collection(self.name)

    def _stored(self, info: models.CollectionInfo) -> StoreSchema | None:
        fields = (getattr(info.config, "metadata", None) or {}).get(KEY)
        fields = self._read_companion() if fields is None else fields
        if fields is None:
            return None
        try:
            return StoreSchema.from_dict(fields)
        except ConfigurationError as error:
            raise StoreError(f"the collection {self.name!r} has a schema that cannot be read: {error}") from error

    def _adopt(self, schema: StoreSchema) -> StoreSchema:
        # A strict server counts roughly, perhaps to 0.
        if not self.adopt and self.client.scroll(self.name, limit=1, with_payload=False)[0]:
            points = self.client.count(self.name, exact=False).count
            raise StoreError(
                f"the collection {self.name!r} holds {points} points of an unknown embedder. If they all are of "
                f"{schema.model!r}, pass adopt=True to QdrantStore once; else choose another collection"
            )
        self.client.update_collection(self.name, metadata={KEY: schema.to_dict()})
        stored = self._stored(self.client.get_collection(self.name))
        return self._claim_companion(schema) if stored is None else stored

    @property
    def _companion(self) -> str:
        return companion_of(self.name)

    def _read_companion(self) -> dict[str, Any] | None:
        try:
            points = self.client.retrieve(self._companion, ids=[0], with_payload=True)
        except Exception as error:
            if status_of(error) == 404:
                return None
            raise
        return points[0].payload if points else None

    def _claim_companion(self, schema: StoreSchema) -> StoreSchema:
        """Write the schema to the second collection, unless another process is doing so."""
        from qdrant_client import models

        try:
            self.client.create_collection(self._companion, vectors_config={})
        except Exception:
            if self._info(self._companion) is None:
                raise
            deadline = time.monotonic() + _CLAIM_S
            while time.monotonic() < deadline:
                fields = self._read_companion()
                if fields is not None:
                    return StoreSchema.from_dict(fields)
                time.sleep(0.1)
            # Whoever was faster has died in between.
        point = models.PointStruct(id=0, vector={}, payload=schema.to_dict())
        self.client.upsert(self._companion, [point], wait=True)
        return schema

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
        from qdrant_client import models

        most = StrictMode.of(info).max_payload_index_count
        for field in INDEXED_FIELDS:
            if field not in info.payload_schema and (most is None or len(info.payload_schema) < most):
                made = index_field(self.client, self.name, field, *index_settings("keyword"))
                if made is not None:
                    kind = models.PayloadSchemaType.KEYWORD
                    info.payload_schema[field] = models.PayloadIndexInfo(data_type=kind, params=made, points=0)
