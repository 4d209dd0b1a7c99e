"""`QdrantStore`: a collection on a Qdrant server, in Qdrant Cloud, or in qdrant-client's local mode."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from multimodal_search._payload import check_stored
from multimodal_search._text import brief
from multimodal_search.errors import ContentError, StoreError
from multimodal_search.stores.arguments import check_schema, checked_ids, checked_name, checked_text, rows_to_store
from multimodal_search.stores.qdrant.client import Connection
from multimodal_search.stores.qdrant.collection import Collection, CollectionSettings
from multimodal_search.stores.qdrant.filtering import MAX_IDS, Filtering, distinct
from multimodal_search.stores.qdrant.index_creation import CollectionIndexes
from multimodal_search.stores.qdrant.local_mode import PassingPoints
from multimodal_search.stores.qdrant.notes import get_index_metadata, set_index_metadata
from multimodal_search.stores.qdrant.querying import query
from multimodal_search.stores.qdrant.text_index import index_text, text_request
from multimodal_search.stores.qdrant_shared.reading import CHUNK, EngineFilter, Fetch, QdrantReading, T, last_of_each
from multimodal_search.types import Filter, FloatArray, Match, Payload, PointId, Record, StoreSchema

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

_WRITE_POINTS = 1_000
_WRITE_BYTES = 16_000_000  # of JSON; servers refuse requests above 32 MB
_FLOAT_BYTES = 22  # of one float in JSON, at most, with its comma
_QUERIES = 32


class QdrantStore(QdrantReading):
    """Vector store on a collection of Qdrant.

    Exactly one of `url`, `path`, `location` and `client` is given. The collection is created by `ensure` if it does
    not exist, with cosine distance and indexes on `filename`, `root`, `modality` and `sha256`; several processes may
    do so at once. `where` also takes a `qdrant_client.models.Filter`, on its own or within a filter.

    Args:
        collection: Its name, or an alias of it.
        url: Of a server, as `http://localhost:6333` or `https://....cloud.qdrant.io`; without a port it is 6333.
        api_key: The server's API key; never shown in a repr or an error.
        prefer_grpc: Whether to talk gRPC (on port 6334) where possible, which sends vectors in a quarter of the bytes.
        path: A folder for qdrant-client's local mode: for trying out, up to some thousand points. `QdrantEdgeStore`
            does the same at any size.
        location: `":memory:"` for local mode without a folder.
        client: A client to use; `close` leaves it open.
        timeout_s: Seconds that one request may take, rounded up to whole ones.
        adopt: Whether to open a collection whose points are of an unknown embedder, trusting the caller that they are
            of this one.
        shard_number: Shards to create the collection with.
        replication_factor: Copies of each shard to create it with.
        write_consistency_factor: Copies that must acknowledge a write, to create it with.
        on_disk: Whether to create it with vectors kept on disk.
        quantization: A quantization setting of `qdrant_client.models` to create it with.
        index_payload: Whether filters on the user's own fields get payload indexes, from 10,000 points on, and from
            the first one on where the collection's strict mode refuses filters without: each is created at the first
            filter that names its field, if the API key allows it.

    Raises:
        ConfigurationError: The settings contradict each other, or one of them is malformed.

    Examples:
        >>> store = QdrantStore("photos", location=":memory:")  # or url="http://localhost:6333"
        >>> with MultimodalIndex(ColorEmbedder(), store) as index:
        ...     print(index.add_images("photos").added)
        3
    """

    def __init__(
        self,
        collection: str,
        *,
        url: str | None = None,
        api_key: str | None = None,
        prefer_grpc: bool = False,
        path: str | PathLike[str] | None = None,
        location: str | None = None,
        client: QdrantClient | None = None,
        timeout_s: float = 60.0,
        adopt: bool = False,
        shard_number: int | None = None,
        replication_factor: int | None = None,
        write_consistency_factor: int | None = None,
        on_disk: bool | None = None,
        quantization: object = None,
        index_payload: bool = True,
    ) -> None:
        self._connection = Connection(
            collection,
            url=url,
            api_key=api_key,
            prefer_grpc=prefer_grpc,
            path=path,
            location=location,
            client=client,
            timeout_s=timeout_s,
        )
        self._adopt = adopt
        self._settings = CollectionSettings(
            shard_number=shard_number,
            replication_factor=replication_factor,
            write_consistency_factor=write_consistency_factor,
            on_disk=on_disk,
            quantization=quantization,
        )
        self._schema: StoreSchema | None = None
        self._texts: set[str] = set()  # paths of fields that are known to be indexed by words
        self._indexes = CollectionIndexes(self._connection, may_create=index_payload)
        self._filtering = Filtering(self._connection, self._indexes, self._walk)
        self._opening = threading.Lock()

    @property
    def collection(self) -> str:
        """The name of the collection."""
        return self._connection.collection

    @property
    def folder(self) -> Path | None:
        """The folder of local mode, which indexing leaves out of walks; None for a server or local mode in memory."""
        return None if self._connection.path is None else Path(self._connection.path)

    def ensure(self, schema: StoreSchema, /) -> StoreSchema:
        """Create or open the collection; returns its stored schema.

        Raises:
            SchemaMismatchError: The collection's vectors have another length or distance, or names.
            StoreError: It holds points of an unknown embedder; see `adopt`.
            StoreUnavailableError: The server cannot be reached.
        """
        check_schema(schema)
        with self._opening:
            with self._connection.calling() as client:
                opened = self._collection_of(client).ensure(schema)
            self._indexes.learn(opened.info)
            self._schema = opened.schema
            return self._schema

    def stored_schema(self) -> StoreSchema | None:
        """The stored schema; None if the collection does not exist, or has no schema.

        Raises:
            StoreError: Its schema cannot be read.
            StoreUnavailableError: The server cannot be reached.
        """
        with self._opening:
            self._connection.check_open()
            if self._connection.would_create_folder:
                return None
            with self._connection.calling() as client:
                return self._collection_of(client).stored()

    def upsert(self, records: Sequence[Record], vectors: FloatArray, /) -> None:
        """Insert or replace records."""
        schema = self._ready()
        from qdrant_client import models

        rows = rows_to_store(records, vectors, schema)
        last = last_of_each(records)
        payloads = {number: records[number].payload for number in last.values()}
        sizes = [schema.dimension * _FLOAT_BYTES + _json_size(payloads[number], key) for key, number in last.items()]
        points = list(last.items())
        for start, stop in _chunks(sizes, self._indexes.strict.upserts(_WRITE_POINTS)):
            numbers = [number for _, number in points[start:stop]]
            batch = models.Batch(
                ids=[key for key, _ in points[start:stop]],
                vectors=rows[numbers].tolist(),
                payloads=[dict(payloads[number]) for number in numbers],
            )
            with self._connection.calling() as client:
                # Medium: one replica puts writes in order, so that of two to a point the later one stays everywhere.
                client.upsert(self.collection, batch, wait=True, ordering=models.WriteOrdering.MEDIUM)

    def delete(self, ids: Sequence[PointId], /) -> None:
        """Delete points; ids that are not stored are ignored."""
        self._ready()
        from qdrant_client import models

        wanted = checked_ids(ids)
        for start in range(0, len(wanted), CHUNK):
            points = models.PointIdsList(points=list(wanted[start : start + CHUNK]))
            with self._connection.calling() as client:
                client.delete(self.collection, points, wait=True, ordering=models.WriteOrdering.MEDIUM)

    @property
    def counts_exactly(self) -> bool:
        """Whether `count` is exact, however many points there are: false where strict mode forbids it."""
        return self._indexes.strict.allows_exact

    def count(self, where: Filter | None = None) -> int:
        """Count the points that pass.

        Exactly, unless the collection's strict mode forbids that (`search_allow_exact`, see `counts_exactly`): then the
        server's estimate is given, except for as few points as it lists in one request.
        """
        self._ready()
        parts = self._filtering.parts(where)
        if len(parts) > 1:
            return sum(1 for _ in self.scan(where=where, fields=()))

        def counted(engine_filter: EngineFilter) -> int:
            condition, exact, least = engine_filter.condition, self.counts_exactly, 0
            if not exact:
                points, following = self._scroll(condition, None, CHUNK, False)
                if following is None:
                    return len(points)
                least = len(points) + 1
            with self._connection.calling() as client:
                return max(least, client.count(self.collection, count_filter=condition, exact=exact).count)

        return self._asked(parts[0], counted)

    def scan(self, *, where: Filter | None = None, fields: Sequence[str] | None = None) -> Iterator[Record]:
        """Iterate over all records that pass, in the order of ids; `fields` are top-level names of the payload."""
        scan = super().scan

        def merged() -> Iterator[Record]:
            parts = [scan(where=part, fields=fields) for part in self._filtering.parts(where)]
            return parts[0] if len(parts) == 1 else distinct(parts)

        return self._filtering.scanned(merged)

    def get_index_metadata(self, name: str, /) -> str | None:
        """Get a text of the index metadata; None if there is none of this name."""
        self._ready()
        with self._connection.calling() as client:
            return get_index_metadata(client, self.collection, checked_name(name))

    def set_index_metadata(self, name: str, text: str, /) -> None:
        """Store a text of the index metadata under a name, in the collection's metadata."""
        self._ready()
        with self._connection.calling() as client:
            set_index_metadata(client, self.collection, checked_name(name), checked_text(name, text))

    def close(self) -> None:
        """Close the connection; a client passed as `client=` stays open."""
        with self._opening:
            self._connection.close()

    def __repr__(self) -> str:
        return f"QdrantStore({self.collection!r}, {self._connection!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a QdrantStore cannot be pickled or copied: make one in each process, as QdrantStore(collection, url=...)"
        )

    @property
    def url(self) -> str | None:
        """The URL of the server, without secrets; None without one."""
        return self._connection.url

    def _collection_of(self, client: QdrantClient) -> Collection:
        return Collection(
            client=client,
            name=self.collection,
            local=self._connection.is_local,
            settings=self._settings,
            adopt=self._adopt,
        )

    def _ready(self) -> StoreSchema:
        self._connection.check_open()
        if self._schema is None:
            raise StoreError("call ensure(schema) before anything else")
        return self._schema

    def _translate(self, where: Filter | None) -> EngineFilter:
        return self._filtering.translate(where)

    def _asked(self, where: Filter | None, call: Callable[[EngineFilter], T]) -> T:
        return self._filtering.asked(where, call)

    def _nearest(self, queries: Sequence[list[float]], engine_filter: EngineFilter) -> Fetch:
        from qdrant_client import models

        def fetch(numbers: Sequence[int], count: int, with_payload: bool) -> list[list[models.ScoredPoint]]:
            requests = [
                models.QueryRequest(
                    query=models.NearestQuery(nearest=queries[number]),
                    limit=count,
                    filter=engine_filter.condition,
                    with_payload=with_payload,
                )
                for number in numbers
            ]
            found = self._query(requests, engine_filter.ids)
            if self._connection.is_local:
                # It scores in 64 bits, where equal vectors can differ in the last one: in 32, ties are ties.
                for point in (point for points in found for point in points):
                    point.score = float(np.float32(point.score))
            return found

        if not self._connection.is_local or engine_filter.condition is None or len(queries) < 2:
            return fetch
        points = PassingPoints(self._connection, engine_filter.condition)

        def fetch_local(numbers: Sequence[int], count: int, with_payload: bool) -> list[list[Match]]:
            found = [list(points.best(queries[number], count)) for number in numbers]
            if not with_payload:
                return found
            payloads = self._payloads_of([hit.id for hits in found for hit in hits])
            return [[Match(hit.id, hit.score, payloads.get(hit.id, {})) for hit in hits] for hits in found]

        return fetch_local

    def _has_text_index(self, path: str) -> bool:
        if path not in self._texts:
            with self._connection.calling() as client:
                if not index_text(client, self.collection, path, local=self._connection.is_local):
                    return False
            self._texts.add(path)
            self._indexes.kinds.setdefault(path, "text")
        return True

    def _query_text(
        self, words: str, path: str, limit: int, engine_filter: EngineFilter, with_payload: bool
    ) -> Sequence[models.ScoredPoint]:
        request = text_request(
            words, path=path, limit=limit, engine_filter=engine_filter.condition, with_payload=with_payload
        )
        try:
            return self._query([request], engine_filter.ids)[0]
        except StoreError:
            self._texts.discard(path)  # somebody may have dropped the index: the next search looks again
            raise

    def _query(self, requests: Sequence[models.QueryRequest], ids: int) -> list[list[models.ScoredPoint]]:
        at_once = min(_QUERIES, MAX_IDS // max(1, ids))
        return query(self._connection, requests, self._indexes.strict, at_once=at_once)

    def _retrieve(self, ids: Sequence[PointId], with_vectors: bool) -> Sequence[models.Record]:
        with self._connection.calling() as client:
            return client.retrieve(self.collection, ids=ids, with_payload=True, with_vectors=with_vectors)

    def _scroll(
        self, condition: Any, position: Any, limit: int, selector: bool | list[str]
    ) -> tuple[Sequence[models.Record], Any]:
        self._ready()
        with self._connection.calling() as client:
            return client.scroll(
                self.collection,
                scroll_filter=condition,
                limit=self._indexes.strict.points(limit),
                offset=position,
                with_payload=selector,
            )


def _json_size(payload: Payload, key: PointId) -> int:
    check_stored(payload, key)
    try:
        return len(json.dumps(dict(payload), ensure_ascii=False, allow_nan=False).encode())
    except (TypeError, ValueError) as error:
        raise ContentError(
            f"the payload of {key!r} holds a value that JSON or UTF-8 cannot represent: {brief(payload, 200)}"
        ) from error


def _chunks(sizes: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Bounds of batches, so that no request has too many points or bytes."""
    start = total = 0
    for number, size in enumerate(sizes):
        if number > start and (number - start == most or total + size > _WRITE_BYTES):
            yield start, number
            start, total = number, 0
        total += size
    if start < len(sizes):
        yield start, len(sizes)
