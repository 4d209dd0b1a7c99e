"""`QdrantStore`: a collection on a Qdrant server, in Qdrant Cloud, or in qdrant-client's local mode."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from typing_extensions import Unpack

from multimodal_search.errors import StoreError
from multimodal_search.filters.nodes import FieldPath, Node
from multimodal_search.report import TuningReport
from multimodal_search.stores.arguments import check_schema, checked_ids, checked_name, checked_text, rows_to_store
from multimodal_search.stores.qdrant.administration import CollectionAdministration
from multimodal_search.stores.qdrant.candidates import Candidates
from multimodal_search.stores.qdrant.client import Connection
from multimodal_search.stores.qdrant.collection import Collection, OpenedCollection
from multimodal_search.stores.qdrant.filtering import MAX_IDS, Filtering, distinct
from multimodal_search.stores.qdrant.index_creation import CollectionIndexes
from multimodal_search.stores.qdrant.local_mode import PassingPoints
from multimodal_search.stores.qdrant.notes import get_index_metadata, set_index_metadata
from multimodal_search.stores.qdrant.paging import query_in_pages
from multimodal_search.stores.qdrant.querying import PointsQuery, query_points, without_words
from multimodal_search.stores.qdrant.settings import CollectionSettings, QdrantSettings
from multimodal_search.stores.qdrant.text_index import CollectionWords
from multimodal_search.stores.qdrant.writing import MAX_POINTS, Point, write_points
from multimodal_search.stores.qdrant_shared.keyword_search import KeywordSearch
from multimodal_search.stores.qdrant_shared.reading import CHUNK, EngineFilter, Fetch, FetchPage, T, last_of_each
from multimodal_search.stores.tuning import Aim
from multimodal_search.types import Filter, FloatArray, Match, PointId, Record, StoreSchema

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

_QUERIES = 128  # in one request


class QdrantStore(CollectionAdministration, KeywordSearch):
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
        index_payload: Whether filters on the user's own fields get payload indexes, from 10,000 points on, and from
            the first one on where the collection's strict mode refuses filters without: each is created at the first
            filter that names its field, if the API key allows it.
        settings: How the collection is created and searched: shards and copies, quantization, the HNSW graph, and more;
            see `QdrantSettings`. A collection that exists with others keeps those, with a warning.

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
        index_payload: bool = True,
        **settings: Unpack[QdrantSettings],
    ) -> None:
        connection = Connection(
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
        indexes = CollectionIndexes(connection, may_create=index_payload)
        super().__init__(connection, CollectionSettings(**settings), indexes)
        self._recall_target = self._settings.recall_target
        self._adopt = adopt
        self._opened: OpenedCollection | None = None
        self._found: OpenedCollection | None = None  # by `stored_schema`, for `ensure` right after it
        self._candidates = Candidates()
        self._words_of = CollectionWords(connection, indexes)
        self._filtering = Filtering(connection, self._indexes, self._walk, self._candidates, self._shard_keys_of)
        self._opening = threading.Lock()

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
            self._opened = self._open(schema, found)
            self._words_of.open(self._opened, self._shard_keys)
            self._connection.opened()
            self._candidates.forget()
            self._indexes.learn(self._opened.info)
            self._tuning.learn(self._opened)
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
                self._found = self._collection_of(client, self.collection).stored()
            return None if self._found is None else self._found.schema

    def upsert(self, records: Sequence[Record], vectors: FloatArray, /) -> None:
        """Insert or replace records."""
        schema = self._ready()
        rows = rows_to_store(records, vectors, schema)
        last = last_of_each(records).items()
        fields = self.get_keyword_fields()
        points = [Point.of(key, rows[at], records[at].payload, fields) for key, at in last]

        def write() -> None:
            most = self._indexes.strict.upserts(MAX_POINTS)
            if self._shard_keys is None:
                write_points(self._connection, points, max_points=most)
            else:
                self._shard_keys.write(points, max_points=most)

        with self._candidates.changing():
            self._filtering.mended(write)
        self._indexes.grow(len(points))

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
        with self._candidates.changing():
            if self._shard_keys is not None:
                self._shard_keys.delete(wanted)
                return
            for start in range(0, len(wanted), CHUNK):
                points = models.PointIdsList(points=list(wanted[start : start + CHUNK]))
                with self._connection.calling() as client:
                    client.delete(self.collection, points, wait=True, ordering=models.WriteOrdering.MEDIUM)

    @property
    def max_concurrent_upserts(self) -> int:
        """How many requests with points an indexing run has under way at once; see `write_concurrency`."""
        if self._opened is None or self._connection.is_local:
            return 1
        return self._settings.writers(self._opened.info)

    def count(self, where: Filter | None = None) -> int:
        """Count the points that pass.

        Exactly, unless the collection's strict mode forbids that (`search_allow_exact`, see `counts_exactly`): then the
        server's estimate is given, except for as few points as it lists in one request.
        """
        self._ready()
        parts = self._filtering.mended(lambda: self._filtering.parts(where))
        if len(parts) > 1:
            return sum(1 for _ in self.scan(where=where, fields=()))

        def counted(engine_filter: EngineFilter) -> int:
            condition, exact, least = engine_filter.condition, self.counts_exactly, 0
            if not exact:
                points, following = self._scroll(condition, None, CHUNK, False)
                if following is None:
                    return len(points)
                least = len(points) + 1
            timeout = self._connection.timeout
            with self._connection.calling() as client:
                answer = client.count(self.collection, count_filter=condition, exact=exact, timeout=timeout)
            return max(least, answer.count)

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

    def _collection_of(self, client: QdrantClient, name: str) -> Collection:
        return Collection(
            client=client,
            rest=self._connection.rest(),
            name=name,
            local=self._connection.is_local,
            settings=self._settings,
            adopt=self._adopt,
            tell_once=self._connection.tell_once,
            timeout=self._connection.timeout,
        )

    def _forget(self) -> None:
        self._opened = self._found = self._shard_keys = None
        self._candidates.forget()
        self._words_of.open(None, None)
        self._indexes.forget()

    def _ready(self) -> StoreSchema:
        self._connection.check_open()
        if self._opened is None:
            raise StoreError("call ensure(schema) before anything else")
        return self._opened.schema

    def _translate(self, where: Filter | None) -> EngineFilter:
        return self._filtering.translate(where)

    def _asked(self, where: Filter | None, call: Callable[[EngineFilter], T]) -> T:
        return self._filtering.asked(where, call)

    def _shard_keys_of(self, node: Node) -> tuple[str | int, ...] | None:
        return None if self._shard_keys is None else self._shard_keys.of_filter(node)

    def _nearest(self, queries: Sequence[list[float]], engine_filter: EngineFilter) -> Fetch:
        def fetch(numbers: Sequence[int], count: int, with_payload: bool) -> list[list[Match]]:
            asked = [PointsQuery(vector=queries[at], limit=count, with_payload=with_payload) for at in numbers]
            return self._ask(asked, engine_filter)

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
            asked = [
                PointsQuery(vector=queries[at], limit=limit, offset=offset, with_vectors=with_vectors) for at in numbers
            ]
            return self._ask(asked, engine_filter)

        return fetch_page

    def _ask(self, queries: Sequence[PointsQuery], engine_filter: EngineFilter) -> list[list[Match]]:
        condition, keys, strict = engine_filter.condition, engine_filter.shard_keys, self._indexes.strict
        hits = max((query.offset + query.limit for query in queries), default=1) - 1  # one is asked for beyond the page
        params = self._tuning.search_params(engine_filter, hits)
        consistency = self._settings.consistency()
        return query_in_pages(
            [
                replace(query, condition=condition, params=params if query.vector else None, shard_keys=keys)
                for query in queries
            ],
            lambda some: query_points(self._connection, some, consistency),
            strict,
            at_once=min(_QUERIES, MAX_IDS // max(1, engine_filter.ids)),
        )

    @property
    def _words(self) -> CollectionWords:
        return self._words_of

    def _tuned(self, queries: Mapping[str, FloatArray], aim: Aim, on_tick: Callable[[], None]) -> TuningReport:
        return self._tuning.tuned(self._scores, queries, aim, on_tick)

    def _keep_tuning(self, report: TuningReport) -> None:
        self._tuning.keep(self._opened, report)

    @property
    def _is_remote(self) -> bool:
        return not self._connection.is_local

    def _query_text(self, words: str, limit: int, engine_filter: EngineFilter, with_payload: bool) -> Sequence[Match]:
        try:
            return self._ask([PointsQuery(words=words, limit=limit, with_payload=with_payload)], engine_filter)[0]
        except StoreError:
            self._words.forget()
            raise

    def _retrieve(self, ids: Sequence[PointId], with_vectors: bool) -> Sequence[models.Record]:
        def retrieved() -> Sequence[models.Record]:
            consistency, timeout = self._settings.consistency(), self._connection.timeout
            with self._connection.calling() as client:
                return client.retrieve(
                    self.collection, ids, without_words(), with_vectors, consistency=consistency, timeout=timeout
                )

        return self._filtering.mended(retrieved)

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
                with_payload=without_words() if selector is True else selector,
                consistency=self._settings.consistency(),
                timeout=self._connection.timeout,
            )
