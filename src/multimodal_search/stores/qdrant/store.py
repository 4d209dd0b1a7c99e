"""A collection on a Qdrant server, in Qdrant Cloud, or in qdrant-client's own local mode."""

from __future__ import annotations

import inspect
import json
import logging
import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

import numpy as np

from multimodal_search._files import checked_path
from multimodal_search._payload import check_stored
from multimodal_search._secrets import secrets_of, shown_address
from multimodal_search._text import brief
from multimodal_search.errors import ConfigurationError, ContentError, StoreClosedError, StoreError
from multimodal_search.filters.nodes import DatetimeRange, FieldPath, NumberRange, top_level_path
from multimodal_search.filters.parsing import parse_filter
from multimodal_search.ids import as_point_id
from multimodal_search.stores.arguments import checked_name, checked_text, checked_words, rows_to_search, rows_to_store
from multimodal_search.stores.qdrant.client import check_url, checked_key, is_local
from multimodal_search.stores.qdrant.collection import Collection, CollectionSettings, index_field, index_settings
from multimodal_search.stores.qdrant.errors import status_of, translated
from multimodal_search.stores.qdrant.local_mode import PassingPoints
from multimodal_search.stores.qdrant.notes import get_index_metadata, set_index_metadata
from multimodal_search.stores.qdrant.text_index import index_text, text_request
from multimodal_search.stores.qdrant_shared.filters import Conditions, Translation, payload_selector, pick
from multimodal_search.stores.qdrant_shared.payload_indexes import (
    ASK_AGAIN_S,
    INDEX_PAYLOAD_FROM,
    IndexKind,
    PayloadIndexes,
    any_value,
    own_path,
)
from multimodal_search.stores.ranking import point_id, ranked_pages
from multimodal_search.stores.scanning import search_text_by_scanning
from multimodal_search.types import Filter, FloatArray, Match, PointId, Record, StoreSchema

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

_log = logging.getLogger(__name__)

_WRITE_POINTS = 1_000
_WRITE_BYTES = 16_000_000  # of JSON; servers refuse requests above 32 MB
_FLOAT_BYTES = 22  # of one float in JSON, at most, with its comma
_READ = 1_000
_MAX_S_LENGTH = 1e6  # eleven days; not every system has timers for much more
_QUERIES = 32
_MAX_IDS = 500_000  # that one request lists: 20 MB of JSON

_local_lock = threading.RLock()  # qdrant-client's local mode is not safe to use from several threads


class QdrantStore:
    """Keeps vectors in a collection of Qdrant.

    Exactly one of `url`, `path`, `location` and `client` says where. The collection is created by `ensure` if it does
    not exist, with cosine distance and indexes on `filename`, `root`, `modality` and `sha256`; several processes may
    do so at once. `where` also takes a `qdrant_client.models.Filter`, on its own or within a filter.

    Args:
        collection: Its name, or an alias of it.
        url: Of a server, as `http://localhost:6333` or `https://....cloud.qdrant.io`; without a port it is 6333.
        api_key: What the server asks for. It shows in no repr and no error.
        prefer_grpc: Whether to talk gRPC (on port 6334) where possible, which sends vectors in a quarter of the bytes.
        path: A folder for qdrant-client's local mode: for trying out, up to some thousand points. `QdrantEdgeStore`
            does the same at any size.
        location: `":memory:"` for local mode without a folder.
        client: A client to use; `close` leaves it open.
        timeout_s: Seconds that one request may take, rounded up to whole ones.
        adopt: Whether to take a collection that holds points without saying of which embedder, trusting the caller
            that they are of the one at hand.
        shard_number: Shards to create the collection with.
        replication_factor: Copies of each shard to create it with.
        write_consistency_factor: Copies that must acknowledge a write, to create it with.
        on_disk: Whether to create it with vectors kept on disk.
        quantization: A quantization setting of `qdrant_client.models` to create it with.
        index_payload: Whether filters on fields of the user's own get payload indexes, from 10,000 points on: each is
            made at the first filter that names its field, if the key may do so.

    Raises:
        ConfigurationError: The settings make no sense together.
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
        if not isinstance(collection, str) or not collection:
            raise ConfigurationError(f"QdrantStore needs the name of a collection, not {brief(collection)}")
        places = {"url": url, "path": path, "location": location, "client": client}
        given = [name for name, place in places.items() if place is not None]
        if len(given) != 1:
            raise ConfigurationError(
                f"QdrantStore needs exactly one of {', '.join(places)}, not {' and '.join(given) or 'none'}; "
                'a server of your own is url="http://localhost:6333"'
            )
        if location is not None and (not isinstance(location, str) or location != ":memory:"):
            raise ConfigurationError('location is ":memory:" or nothing; a server is given as url, a folder as path')
        if url is not None:
            check_url(url)
        if client is not None and (isinstance(client, type) or not hasattr(client, "get_collection")):
            raise ConfigurationError(f"client is a QdrantClient, not {brief(client)}")
        if client is not None and inspect.iscoroutinefunction(client.get_collection):
            raise ConfigurationError("client is a QdrantClient, not an AsyncQdrantClient")
        if api_key is not None and url is None:
            raise ConfigurationError("api_key goes with url")
        if not isinstance(timeout_s, (int, float)) or isinstance(timeout_s, bool) or not 0 < timeout_s <= _MAX_S_LENGTH:
            raise ConfigurationError(f"timeout_s must be a number of seconds above 0, not {brief(timeout_s)}")
        self._collection = collection
        self._url = url
        self._api_key = checked_key(api_key)
        given_options = getattr(client, "init_options", None) or {}  # of a client that the user made
        keys = (self._api_key, given_options.get("api_key"))
        addresses = (url, given_options.get("url"))
        self._secrets = (
            *(key for key in keys if isinstance(key, str) and key),
            *(secret for address in addresses if isinstance(address, str) for secret in secrets_of(address)),
        )
        self._prefer_grpc = prefer_grpc
        self._path = None if path is None else fspath(checked_path(path, "QdrantStore"))
        self._timeout_s = timeout_s
        self._adopt = adopt
        self._settings = CollectionSettings(
            shard_number=shard_number,
            replication_factor=replication_factor,
            write_consistency_factor=write_consistency_factor,
            on_disk=on_disk,
            quantization=quantization,
        )
        self._index_payload = index_payload
        self._client = client
        self._owns_client = client is None
        self._local = url is None and (client is None or is_local(client))
        self._schema: StoreSchema | None = None
        self._texts: set[str] = set()  # paths of fields that are known to be indexed by words
        self._indexes = PayloadIndexes()
        self._points = 0  # when last asked
        self._ask_from = 0.0
        self._closed = False
        self._opening = threading.Lock()

    @property
    def collection(self) -> str:
        """The collection's name."""
        return self._collection

    @property
    def folder(self) -> Path | None:
        """The folder of local mode, which indexing leaves out; None for a server or memory."""
        return None if self._path is None else Path(self._path)

    def ensure(self, schema: StoreSchema, /) -> StoreSchema:
        """Create or open the collection; returns the schema of what it holds.

        Raises:
            SchemaMismatchError: The collection's vectors have another length or distance, or names.
            StoreError: It holds points and does not say of which embedder; see `adopt`.
            StoreUnavailableError: The server cannot be reached.
        """
        with self._opening:
            if self._closed:
                raise self._closed_error()
            with self._calling():
                self._schema = self._at_server().ensure(schema)
            return self._schema

    def stored_schema(self) -> StoreSchema | None:
        """The schema of what the collection holds; None where there is no collection, or it does not say.

        Raises:
            StoreError: Its schema cannot be read.
            StoreUnavailableError: The server cannot be reached.
        """
        with self._opening:
            if self._closed:
                raise self._closed_error()
            if self._client is None and self._path is not None and not Path(self._path).is_dir():
                return None  # which connecting would make
            with self._calling():
                return self._at_server().stored()

    def upsert(self, records: Sequence[Record], vectors: FloatArray, /) -> None:
        """Insert or replace records."""
        client, schema = self._ready()
        from qdrant_client import models

        rows = rows_to_store(records, vectors, schema)
        last = {as_point_id(record.id): number for number, record in enumerate(records)}
        payloads = {number: dict(records[number].payload) for number in last.values()}
        sizes = [schema.dimension * _FLOAT_BYTES + _json_size(payloads[number], key) for key, number in last.items()]
        points = list(last.items())
        for start, stop in _chunks(sizes):
            numbers = [number for _, number in points[start:stop]]
            batch = models.Batch(
                ids=[key for key, _ in points[start:stop]],
                vectors=rows[numbers].tolist(),
                payloads=[payloads[number] for number in numbers],
            )
            with self._calling():
                # Medium: one replica puts writes in order, so that of two to a point the later one stays everywhere.
                client.upsert(self._collection, batch, wait=True, ordering=models.WriteOrdering.MEDIUM)

    def search(
        self, vectors: FloatArray, /, *, limit: int, offset: int = 0, where: Filter | None = None
    ) -> list[list[Match]]:
        """The nearest points, as the collection's index finds them."""
        client, schema = self._ready()
        from qdrant_client import models

        queries = rows_to_search(vectors, schema, limit=limit, offset=offset)
        engine_filter, ids = self._translate(client, where)
        queries_at_once = max(1, min(_QUERIES, _MAX_IDS // max(1, ids)))

        def fetch(numbers: Sequence[int], count: int, with_payload: bool) -> list[list[models.ScoredPoint]]:
            requests = [
                models.QueryRequest(
                    query=models.NearestQuery(nearest=queries[number]),
                    limit=count,
                    filter=engine_filter,
                    with_payload=with_payload,
                )
                for number in numbers
            ]
            found: list[list[models.ScoredPoint]] = []
            for start in range(0, len(requests), queries_at_once):
                with self._calling():
                    answers = client.query_batch_points(self._collection, requests[start : start + queries_at_once])
                found += [answer.points for answer in answers]
            if self._local:
                # It scores in 64 bits, where equal vectors can differ in the last one: in 32, ties are ties.
                for point in (point for points in found for point in points):
                    point.score = float(np.float32(point.score))
            return found

        if self._local and engine_filter is not None and len(queries) > 1:
            points = PassingPoints(client, self._collection, engine_filter, self._calling)

            def fetch_local(numbers: Sequence[int], count: int, with_payload: bool) -> list[list[Match]]:
                found = [list(points.best(queries[number], count)) for number in numbers]
                if not with_payload:
                    return found
                payloads = self._payloads_of([hit.id for hits in found for hit in hits])
                return [[Match(hit.id, hit.score, payloads.get(hit.id, {})) for hit in hits] for hits in found]

            return ranked_pages(fetch_local, self._payloads_of, queries=len(queries), limit=limit, offset=offset)
        return ranked_pages(fetch, self._payloads_of, queries=len(queries), limit=limit, offset=offset)

    def get(self, ids: Sequence[PointId], /, *, with_vectors: bool = False) -> list[Record | None]:
        """The records of ids, in their order."""
        client, _ = self._ready()
        wanted = [as_point_id(each) for each in ids]
        found: dict[PointId, Record] = {}
        for start in range(0, len(wanted), _READ):
            chunk = wanted[start : start + _READ]
            with self._calling():
                points = client.retrieve(self._collection, ids=chunk, with_payload=True, with_vectors=with_vectors)
            for point in points:
                vector = np.asarray(point.vector, np.float32) if with_vectors else None
                found[point_id(point)] = Record(point_id(point), point.payload or {}, vector=vector)
        return [found.get(each) for each in wanted]

    def scan(self, *, where: Filter | None = None, fields: Sequence[str] | None = None) -> Iterator[Record]:
        """All records that pass, in the order of ids; `fields` are names of the payload's own fields."""
        client, _ = self._ready()
        engine_filter, ids = self._translate(client, where)
        # All of the ids that a filter lists travel with every page: the more, the fewer pages.
        return self._walk(engine_filter, fields, page=max(_READ, ids // 10))

    def delete(self, ids: Sequence[PointId], /) -> None:
        """Remove points."""
        client, _ = self._ready()
        from qdrant_client import models

        wanted = [as_point_id(each) for each in ids]
        for start in range(0, len(wanted), _READ):
            points = models.PointIdsList(points=list(wanted[start : start + _READ]))
            with self._calling():
                client.delete(self._collection, points, wait=True, ordering=models.WriteOrdering.MEDIUM)

    def count(self, where: Filter | None = None) -> int:
        """How many points pass."""
        client, _ = self._ready()
        engine_filter, _ = self._translate(client, where)
        with self._calling():
            return client.count(self._collection, count_filter=engine_filter, exact=True).count

    def search_text(self, words: str, /, *, field: str, limit: int, where: Filter | None = None) -> list[Match]:
        """The points that hold some words, by BM25, from an index by words that the first search of a field builds.

        An index by words that is there already is used with its own tokenizer. A field that has an index of another
        kind, as `filename` has, keeps that, and is read through at each search.

        Raises:
            StoreError: The server is older than 1.20.
        """
        client, _ = self._ready()
        sought, path = checked_words(words, limit=limit), top_level_path(field)
        engine_filter, _ = self._translate(client, where)
        if path is not None and path not in self._texts:
            with self._calling():
                if index_text(client, self._collection, path, local=self._local):
                    self._texts.add(path)
                    self._indexes.kinds.setdefault(path, "text")
        if path not in self._texts:
            return search_text_by_scanning(self, sought, field=field, limit=limit, where=where)

        def fetch(_: Sequence[int], count: int, with_payload: bool) -> list[list[models.ScoredPoint]]:
            request = text_request(
                sought, path=path, limit=count, engine_filter=engine_filter, with_payload=with_payload
            )
            with self._calling():
                return [answer.points for answer in client.query_batch_points(self._collection, [request])]

        try:
            return ranked_pages(fetch, self._payloads_of, queries=1, limit=limit, offset=0, cosines=False)[0]
        except StoreError:
            self._texts.discard(path)  # somebody may have dropped the index: the next search looks again
            raise

    def get_index_metadata(self, name: str, /) -> str | None:
        """The text of a note; None if there is none of this name."""
        client, _ = self._ready()
        with self._calling():
            return get_index_metadata(client, self._collection, checked_name(name))

    def set_index_metadata(self, name: str, text: str, /) -> None:
        """Keep a text under a name, in the collection's metadata."""
        client, _ = self._ready()
        with self._calling():
            set_index_metadata(client, self._collection, checked_name(name), checked_text(name, text))

    def close(self) -> None:
        """Let go of the connection, unless the client was given."""
        with self._opening:
            client, self._client, self._closed = self._client, None, True
        if client is not None and self._owns_client:
            with self._calling():
                client.close()

    def __repr__(self) -> str:
        if self._url is not None:
            place = f"url={shown_address(self._url)!r}"
        elif self._path is not None:
            place = f"path={self._path!r}"
        else:
            place = 'location=":memory:"' if self._owns_client else "client=..."
        return f"QdrantStore({self._collection!r}, {place})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a QdrantStore cannot be pickled or copied: make one in each process, as QdrantStore(collection, url=...)"
        )

    @property
    def url(self) -> str | None:
        """The address of the server, without secrets; None for one that is not reached by an address."""
        return None if self._url is None else shown_address(self._url)

    @property
    def _where(self) -> str:
        at = self._path if self._url is None else shown_address(self._url)
        return f"the Qdrant collection {self._collection!r}{'' if at is None else f' at {at}'}"

    def _at_server(self) -> Collection:
        if self._client is None:
            self._client = self._connect()
        return Collection(
            client=self._client,
            name=self._collection,
            local=self._local,
            settings=self._settings,
            adopt=self._adopt,
        )

    def _connect(self) -> QdrantClient:
        from qdrant_client import QdrantClient

        if self._url is None:
            if self._path is None:
                return QdrantClient(location=":memory:")
            # The threads take turns, see `_local_lock`, and then SQLite is content with several.
            return QdrantClient(path=self._path, force_disable_check_same_thread=True)
        plain = urlsplit(self._url)
        here = plain.hostname in ("localhost", "127.0.0.1", "::1")
        if self._api_key is not None and plain.scheme == "http" and not here:
            _log.warning("the API key for %s is sent unencrypted: use https://", shown_address(self._url))
        return QdrantClient(
            url=self._url,
            # As `api_key`, it would also raise a warning, which stops programs that turn warnings into errors.
            headers=None if self._api_key is None else {"api-key": self._api_key},
            prefer_grpc=self._prefer_grpc,
            timeout=math.ceil(self._timeout_s),
            check_compatibility=False,  # a request in the background, whose only effect is a warning
        )

    @contextmanager
    def _calling(self) -> Iterator[None]:
        with translated(self._where, self._secrets):
            if self._local:
                with _local_lock:
                    yield
            else:
                yield

    def _ready(self) -> tuple[QdrantClient, StoreSchema]:
        client, schema = self._client, self._schema
        if self._closed:
            raise self._closed_error()
        if client is None or schema is None:
            raise StoreError("call ensure(schema) before anything else")
        return client, schema

    def _closed_error(self) -> StoreClosedError:
        return StoreClosedError(f"the QdrantStore on {self._collection!r} is closed: open it again with a new one")

    def _payloads_of(self, ids: Sequence[PointId]) -> dict[PointId, dict[str, Any]]:
        return {record.id: dict(record.payload) for record in self.get(ids) if record is not None}

    def _translate(self, client: QdrantClient, where: Filter | None) -> tuple[models.Filter | None, int]:
        """The client's filter, and how many ids it lists."""
        from qdrant_client import models

        if where is None or isinstance(where, models.Filter):
            return where, 0
        node = parse_filter(where, native=models.Filter)

        def fetch_candidates(filters: list[models.Filter], field: str) -> Iterator[Record]:
            try:
                yield from self._walk(filters[0], [field])
            except StoreError:
                if len(filters) == 1:
                    raise
                yield from self._walk(filters[1], [field])  # of a server that knows no prefixes or substrings

        lacking = {} if self._local else self._indexes.lacking(node)
        if lacking:
            self._learn_indexes(client)
        translation = Translation(
            words=_conditions(), kinds=self._indexes.kinds, fetch_candidates=fetch_candidates, most_ids=_MAX_IDS
        )
        if lacking and self._index_payload and self._points >= INDEX_PAYLOAD_FROM:
            for at, kind in self._indexes.lacking(node).items():
                self._make_index(client, at, kind, translation.filter_of(any_value(at, kind)))
            translation.kinds = self._indexes.kinds
        return translation.filter_of(node), translation.ids

    def _learn_indexes(self, client: QdrantClient) -> None:
        """Ask the server, once a minute at most, how many points and which indexes there are."""
        if time.monotonic() < self._ask_from:
            return
        with self._calling():
            info = client.get_collection(self._collection)
        self._points = info.points_count or 0
        self._indexes.kinds = {
            own_path(path): index.data_type.value for path, index in (info.payload_schema or {}).items()
        }
        self._ask_from = time.monotonic() + ASK_AGAIN_S

    def _make_index(self, client: QdrantClient, at: FieldPath, kind: IndexKind, holds: models.Filter) -> None:
        """Make a payload index for a field that has none; where that is not to be, filters are slower and as right."""
        self._indexes.tried(at, kind)
        try:
            try:
                found = client.scroll(self._collection, scroll_filter=holds, limit=1, with_payload=False)[0]
            except Exception as error:
                if status_of(error) != 400:
                    raise
                found = None  # a strict server does not filter by what has no index yet
            if found == []:
                return
            self._ask_from = 0.0
            self._learn_indexes(client)  # another process may have been faster, and a second index replaces the first
            if at.json_path not in self._indexes.kinds:
                index_field(client, self._collection, at.json_path, *index_settings(kind))
                self._ask_from = 0.0
                self._learn_indexes(client)
        except Exception as error:  # noqa: BLE001 (if it is not the index's alone, the search will meet it, too)
            _log.debug("no payload index on %s of %s: %s", at, self._where, type(error).__name__)

    def _walk(
        self, engine_filter: models.Filter | None, fields: Sequence[str] | None, *, page: int = _READ
    ) -> Iterator[Record]:
        selector = payload_selector(fields)
        position, more = None, True
        while more:
            client, _ = self._ready()
            with self._calling():
                points, position = client.scroll(
                    self._collection, scroll_filter=engine_filter, limit=page, offset=position, with_payload=selector
                )
            more = position is not None
            for point in points:
                yield Record(point_id(point), pick(point.payload, fields))


def _json_size(payload: dict[str, Any], key: PointId) -> int:
    check_stored(payload, key)
    try:
        return len(json.dumps(payload, ensure_ascii=False, allow_nan=False).encode())
    except (TypeError, ValueError) as error:
        raise ContentError(
            f"the payload of {key!r} holds something that JSON or UTF-8 cannot: {brief(payload, 200)}"
        ) from error


def _chunks(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where to cut, so that no request holds too many points or bytes."""
    start = total = 0
    for number, size in enumerate(sizes):
        if number > start and (number - start == _WRITE_POINTS or total + size > _WRITE_BYTES):
            yield start, number
            start, total = number, 0
        total += size
    if start < len(sizes):
        yield start, len(sizes)


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
