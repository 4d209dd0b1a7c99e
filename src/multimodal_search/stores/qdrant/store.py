"""`QdrantStore`: a collection on a Qdrant server, in Qdrant Cloud, or in qdrant-client's local mode."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import cache
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from multimodal_search.errors import StoreError
from multimodal_search.filters.nodes import DatetimeRange, FieldPath, NumberRange
from multimodal_search.filters.parsing import parse_filter
from multimodal_search.stores.arguments import check_schema, checked_ids, checked_name, checked_text, rows_to_store
from multimodal_search.stores.qdrant.candidates import Candidates
from multimodal_search.stores.qdrant.client import Connection
from multimodal_search.stores.qdrant.collection import Collection, CollectionSettings, OpenedCollection
from multimodal_search.stores.qdrant.index_creation import CollectionIndexes
from multimodal_search.stores.qdrant.local_mode import PassingPoints
from multimodal_search.stores.qdrant.notes import get_index_metadata, set_index_metadata
from multimodal_search.stores.qdrant.querying import NearestQuery, query_nearest
from multimodal_search.stores.qdrant.text_index import index_text, text_request
from multimodal_search.stores.qdrant.writing import Point, write_points
from multimodal_search.stores.qdrant_shared.filters import Conditions, Translation
from multimodal_search.stores.qdrant_shared.payload_indexes import any_value
from multimodal_search.stores.qdrant_shared.reading import (
    CHUNK,
    EngineFilter,
    Fetch,
    FetchPage,
    QdrantReading,
    last_of_each,
)
from multimodal_search.types import Filter, FloatArray, Match, PointId, Record, StoreSchema

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

_QUERIES = 128  # in one request
_MAX_IDS = 500_000  # that one request lists: 20 MB of JSON


class QdrantStore(QdrantReading):
    """Vector store on a collection of Qdrant.

    Exactly one of `url`, `path`, `location` and `client` is given. The collection is created by `ensure` if it does
    not exist, with cosine distance and indexes on `filename`, `root`, `modality` and `sha256`; several processes may
    do so at once. `where` also takes a `qdrant_client.models.Filter`, on its own or within a filter.

    Args:
        collection: Its name, or an alias of it.
        url: Of a server, as `http://localhost:6333` or `https://....cloud.qdrant.io`; without a port it is 6333.
        api_key: The server's API key; never shown in a repr or an error.
        prefer_grpc: Whether to talk gRPC where possible, which sends vectors in a quarter of the bytes.
        grpc_port: The port for gRPC, of the same server, as opening checks; 6334 if the URL's port is 6333 or none.
        path: A folder for qdrant-client's local mode: for trying out, up to some thousand points. `QdrantEdgeStore`
            does the same at any size.
        location: `":memory:"` for local mode without a folder.
        client: A client to use; `close` leaves it open.
        timeout_s: Seconds that one request may take, rounded up to whole ones; above 60, the server is told, too.
        adopt: Whether to open a collection whose points are of an unknown embedder, trusting the caller that they are
            of this one.
        shard_number: Shards to create the collection with.
        replication_factor: Copies of each shard to create it with.
        write_consistency_factor: Copies that must acknowledge a write, to create it with.
        on_disk: Whether to create it with vectors kept on disk.
        quantization: A quantization setting of `qdrant_client.models` to create it with.
        index_payload: Whether filters on the user's own fields get payload indexes, from 10,000 points on: each is
            created at the first filter that names its field, if the API key allows it.

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
        grpc_port: int | None = None,
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
            grpc_port=grpc_port,
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
        self._index_payload = index_payload
        self._opened: OpenedCollection | None = None
        self._found: OpenedCollection | None = None  # by `stored_schema`, for `ensure` right after it
        self._texts: set[str] = set()  # paths of fields that are known to be indexed by words
        self._indexes = CollectionIndexes(self._connection)
        self._candidates = Candidates()
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
            found, self._found = self._found, None
            with self._connection.calling() as client:
                self._opened = self._collection_of(client).ensure(schema, found)
            return self._opened.schema

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
                self._found = self._collection_of(client).stored()
            return None if self._found is None else self._found.schema

    def upsert(self, records: Sequence[Record], vectors: FloatArray, /) -> None:
        """Insert or replace records."""
        schema = self._ready()
        rows = rows_to_store(records, vectors, schema)
        last = last_of_each(records).items()
        points = [Point.of(key, rows[at], records[at].payload) for key, at in last]
        with self._candidates.changing():
            write_points(self._connection, points)

    def search_with_vectors(
        self, vectors: FloatArray, /, *, limit: int, offset: int = 0, where: Filter | None = None
    ) -> list[list[Match]]:
        """Find the points nearest to each vector, as `search` does, and get their vectors with them."""
        return self._pages(vectors, limit=limit, offset=offset, where=where, with_vectors=True)

    def is_list(self, field: str, /) -> Filter:
        """A filter that passes for points whose field is a list of two values or more."""
        from qdrant_client import models

        path = FieldPath.parse(field).json_path
        several = models.FieldCondition(key=path, values_count=models.ValuesCount(gt=1))
        return models.Filter(must=[several])

    def delete(self, ids: Sequence[PointId], /) -> None:
        """Delete points; ids that are not stored are ignored."""
        self._ready()
        from qdrant_client import models

        wanted = checked_ids(ids)
        for start in range(0, len(wanted), CHUNK):
            points = models.PointIdsList(points=list(wanted[start : start + CHUNK]))
            with self._candidates.changing(), self._connection.calling() as client:
                client.delete(self.collection, points, wait=True, ordering=models.WriteOrdering.MEDIUM)

    def count(self, where: Filter | None = None) -> int:
        """Count the points that pass, exactly."""
        self._ready()
        condition = self._translate(where).condition
        with self._connection.calling() as client:
            return client.count(self.collection, count_filter=condition, exact=True).count

    def get_index_metadata(self, name: str, /) -> str | None:
        """Get a text of the index metadata; None if there is none of this name."""
        self._ready()
        return get_index_metadata(self._connection, self._opened, checked_name(name))

    def set_index_metadata(self, name: str, text: str, /) -> None:
        """Store a text of the index metadata under a name: in this process only, where the API key may do no more."""
        self._ready()
        set_index_metadata(self._connection, self._opened, checked_name(name), checked_text(name, text))

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
            rest=self._connection.rest(),
            name=self.collection,
            local=self._connection.is_local,
            settings=self._settings,
            adopt=self._adopt,
            tell_once=self._connection.tell_once,
            timeout=self._connection.timeout,
        )

    def _ready(self) -> StoreSchema:
        self._connection.check_open()
        if self._opened is None:
            raise StoreError("call ensure(schema) before anything else")
        return self._opened.schema

    def _translate(self, where: Filter | None) -> EngineFilter:
        from qdrant_client import models

        if where is None or isinstance(where, models.Filter):
            return EngineFilter(where)
        node = parse_filter(where, native=models.Filter)

        def fetch_candidates(filters: list[models.Filter], field: str) -> Iterator[Record]:
            return self._candidates.of(filters[0], field, lambda: walk(filters, field))

        def walk(filters: list[models.Filter], field: str) -> Iterator[Record]:
            try:
                yield from self._walk(filters[0], [field])
            except StoreError:
                if len(filters) == 1:
                    raise
                yield from self._walk(filters[1], [field])  # of a server that knows no prefixes or substrings

        lacking = {} if self._connection.is_local else self._indexes.lacking(node)
        translation = Translation(
            words=_conditions(), kinds=self._indexes.kinds, fetch_candidates=fetch_candidates, most_ids=_MAX_IDS
        )
        if self._index_payload:
            for at, kind in lacking.items():
                self._indexes.create(at, kind, translation.filter_of(any_value(at, kind)))
            translation.kinds = self._indexes.kinds
        return EngineFilter(translation.filter_of(node), translation.ids)

    def _nearest(self, queries: Sequence[list[float]], engine_filter: EngineFilter) -> Fetch:
        def fetch(numbers: Sequence[int], count: int, with_payload: bool) -> list[list[Match]]:
            return self._ask(
                [
                    NearestQuery(
                        vector=queries[number],
                        limit=count,
                        condition=engine_filter.condition,
                        with_payload=with_payload,
                    )
                    for number in numbers
                ],
                engine_filter,
            )

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

    def _paged(
        self, queries: Sequence[list[float]], engine_filter: EngineFilter, with_vectors: bool
    ) -> FetchPage | None:
        def fetch_page(numbers: Sequence[int], offset: int, limit: int) -> list[list[Match]]:
            return self._ask(
                [
                    NearestQuery(
                        vector=queries[number],
                        limit=limit,
                        offset=offset,
                        condition=engine_filter.condition,
                        with_vectors=with_vectors,
                    )
                    for number in numbers
                ],
                engine_filter,
            )

        return fetch_page

    def _ask(self, queries: Sequence[NearestQuery], engine_filter: EngineFilter) -> list[list[Match]]:
        most = max(1, min(_QUERIES, _MAX_IDS // max(1, engine_filter.ids)))
        starts = range(0, len(queries), most)
        return [page for at in starts for page in query_nearest(self._connection, queries[at : at + most])]

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
            with self._connection.calling() as client:
                return client.query_batch_points(self.collection, [request])[0].points
        except StoreError:
            self._texts.discard(path)  # somebody may have dropped the index: the next search looks again
            raise

    def _retrieve(self, ids: Sequence[PointId], with_vectors: bool) -> Sequence[models.Record]:
        with self._connection.calling() as client:
            return client.retrieve(self.collection, ids=ids, with_payload=True, with_vectors=with_vectors)

    def _scroll(
        self, condition: Any, position: Any, limit: int, selector: bool | list[str]
    ) -> tuple[Sequence[models.Record], Any]:
        self._ready()
        with self._connection.calling() as client:
            return client.scroll(
                self.collection, scroll_filter=condition, limit=limit, offset=position, with_payload=selector
            )


@cache
def _conditions() -> Conditions:
    from qdrant_client import models

    def on(path: str, **condition: Any) -> Any:
        return models.FieldCondition(key=path, **condition)

    def between(path: str, node: NumberRange) -> Any:
        return on(path, range=models.Range(gte=node.gte, gt=node.gt, lte=node.lte, lt=node.lt))

    def during(path: str, node: DatetimeRange) -> Any:
        return on(path, range=models.DatetimeRange(gte=node.gte, gt=node.gt, lte=node.lte, lt=node.lt))

    return Conditions(
        native=models.Filter,
        must=lambda parts: models.Filter(must=parts),
        should=lambda parts: models.Filter(should=parts),
        must_not=lambda parts: models.Filter(must_not=parts),
        equals=lambda path, value: on(path, match=models.MatchValue(value=value)),
        one_of=lambda path, values: on(path, match=models.MatchAny(any=values)),
        between=between,
        during=during,
        starts_with=lambda path, prefix: on(path, match=models.MatchPrefix(prefix=prefix)),
        contains=lambda path, text: on(path, match=models.MatchSubstring(substring=text)),
        is_empty=lambda path: models.IsEmptyCondition(is_empty=models.PayloadField(key=path)),
        has_id=lambda ids: models.HasIdCondition(has_id=list(ids)),
    )
