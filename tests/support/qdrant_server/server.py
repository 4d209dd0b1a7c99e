"""The state of a server, and what it answers: the same for both of its faces."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, TypeAdapter, ValidationError
from qdrant_client import QdrantClient, models

from .collection import Collection
from .refusals import RefusalError, invalid, malformed, no_collection, wrong_input
from .strict_mode import StrictMode, conditions_of, cost_of, json_path, supports_match

MAX_REQUEST = 32 * 2**20

T = TypeVar("T")


@dataclass(frozen=True)
class Exchange:
    """One request and how it went.

    Attributes:
        face: By which protocol it came.
        path: As in REST, with its parameters.
        started: When it came, in seconds of `time.monotonic`.
        ended: When its answer was ready.
        status: As in HTTP.
    """

    face: Literal["rest", "grpc"]
    method: str
    path: str
    started: float
    ended: float
    status: int


class QdrantServer:
    """The state of one server.

    Attributes:
        url: Where it listens.
        version: What it says it is; setting it settles what it knows.
        key: What it asks of every request, if anything.
        keeps_metadata: Whether it is of 1.16 or later.
        knows_prefixes: Whether it is of 1.19 or later.
        knows_substrings: Whether it is of 1.20 or later.
        knows_scoring: Whether it is of 1.20 or later; if not, whether it says so or drops what it does not know.
        strict_mode: The settings of strict mode that a new collection gets, as Qdrant Cloud's do.
        max_request: Bytes that the body of a REST request may have.
        too_large: How it refuses a body above that: by 413, by 400 as Qdrant does, or by hanging up unread.
        before: Called with the method and path of each request; may sleep or raise `RefusalError`.
        check: Called with the body of each request; may raise `RefusalError`.
        requests: Method, path and body of each request so far.
        exchanges: When each of them came, and when it was answered.
    """

    def __init__(self) -> None:
        self.url = ""
        self.key: str | None = None
        self.strict_mode: dict[str, Any] | None = None
        self.max_request = MAX_REQUEST
        self.too_large: Literal["413", "400", "cut"] = "413"
        self.before: Callable[[str, str], None] = lambda method, path: None
        self.check: Callable[[Any], None] = lambda body: None
        self.requests: list[tuple[str, str, Any]] = []
        self.exchanges: list[Exchange] = []
        self.sizes: list[int] = []
        self.indexes: dict[str, dict[str, Any]] = {}
        self.collections: dict[str, Collection] = {}
        self.aliases: dict[str, str] = {}
        self.version = "1.20.0"
        self._client = QdrantClient(location=":memory:")
        self._lock = threading.Lock()

    @property
    def version(self) -> str:
        return self._version

    @version.setter
    def version(self, version: str) -> None:
        self._version = version
        number = tuple(map(int, version.split(".")[:2]))
        self.keeps_metadata = number >= (1, 16)
        self.knows_prefixes = number >= (1, 19)
        self.knows_substrings = number >= (1, 20)
        self.knows_scoring: Literal["yes", "refuses", "drops"] = "yes" if number >= (1, 20) else "drops"

    def asked(self, method: str, pattern: str) -> list[Any]:
        """The bodies of the requests so far whose path matches."""
        return [body for verb, path, body in self.requests if verb == method and re.fullmatch(pattern, path)]

    def round_trips(self) -> int:
        """How many of the requests so far came one after the other: those at one time count as one."""
        count, free = 0, float("-inf")
        for exchange in sorted(self.exchanges, key=lambda exchange: exchange.ended):
            if exchange.started >= free:
                count, free = count + 1, exchange.ended
        return count

    def close(self) -> None:
        self._client.close()

    # -- one request ---------------------------------------------------------------------------------------------------

    def answer(self, method: str, path: str, query: Mapping[str, str], body: Any, key: str | None) -> Any:
        """What a request is answered with: plain values, or models of qdrant-client.

        Args:
            method: As in REST, for both faces.
            path: As in REST.
            query: The parameters behind the path.
            body: Plain values, or the model that they stand for.
            key: The credentials, if there are any.
        """
        if self.key is not None and key != self.key:
            raise RefusalError(401, "Must provide an API key or an Authorization bearer token", plain=True)
        self.before(method, path)
        self.check(body)
        place = path.strip("/").split("/")
        with self._lock:
            match method, place:
                case _, ["collections", name, *rest]:
                    return self._in_collection(method, name, "/".join(rest), query, body)
        raise RefusalError(404, "", plain=True)

    def _in_collection(self, method: str, name: str, action: str, query: Mapping[str, str], body: Any) -> Any:
        if (method, action) == ("PUT", ""):
            return self._create(name, body)
        name = self.aliases.get(name, name)
        if name not in self.collections:
            raise no_collection(name)
        request = _Request(self, name, self.collections[name], query, body)
        request.strict.check_limit(request.timeout, "max_timeout", "timeout")
        match method, action.split("/"):
            case "GET", [""]:
                return request.info()
            case "PATCH", [""]:
                return request.update()
            case "DELETE", [""]:
                del self.collections[name]
                self.indexes.pop(name, None)
                return self._client.delete_collection(name)
            case "PUT", ["index"]:
                return request.create_index()
            case "DELETE", ["index", field]:
                return request.delete_index(field)
            case "PUT", ["points"]:
                return request.upsert()
            case "POST", ["points"]:
                return request.retrieve()
            case "POST", ["points", "delete"]:
                return request.delete()
            case "POST", ["points", "count"]:
                return request.count()
            case "POST", ["points", "scroll"]:
                return request.scroll()
            case "POST", ["points", "query"]:
                return request.search()
            case "POST", ["points", "query", "batch"]:
                return request.search_batch()
            case "POST", ["points", "query", "groups"]:
                return request.groups()
            case "POST", ["facet"]:
                return request.facet()
        raise RefusalError(404, "", plain=True)

    def _create(self, name: str, body: Any) -> bool:
        if name in self.collections:
            raise wrong_input(f"Collection `{name}` already exists!", 409)
        request = parsed(models.CreateCollection, body)
        stored = Collection.created(request, shards=1, copies=1, strict_mode=self.strict_mode)
        if not self.keeps_metadata:
            stored.metadata = None
        self._client.create_collection(name, vectors_config=request.vectors or {})
        self.collections[name] = stored
        return True


class _Request:
    """A request to one collection."""

    def __init__(
        self, server: QdrantServer, name: str, stored: Collection, query: Mapping[str, str], body: Any
    ) -> None:
        self._server = server
        self._client = server._client
        self._name = name
        self._stored = stored
        self._query = query
        self._body = body
        self.strict = StrictMode(stored.strict_mode, self._indexes)
        self.timeout = int(query["timeout"]) if "timeout" in query else None

    @property
    def _indexes(self) -> dict[str, Any]:
        return self._server.indexes.get(self._name, {})

    def _done(self) -> dict[str, Any]:
        self._stored.operations += 1
        status = "completed" if self._query.get("wait") == "true" else "acknowledged"
        return {"operation_id": self._stored.operations, "status": status}

    # -- the collection ------------------------------------------------------------------------------------------------

    def info(self) -> Any:
        return self._stored.info(
            points=self._client.count(self._name).count,
            indexes=self._indexes,
            counts={},
        )

    def update(self) -> bool:
        self._stored.update(parsed(models.UpdateCollection, self._body), keeps_metadata=self._server.keeps_metadata)
        return True

    def create_index(self) -> Any:
        server, body = self._server, self._body
        schema = body["field_schema"]
        settings = {"type": schema} if isinstance(schema, str) else dict(schema)
        if "prefix" in settings and not server.knows_prefixes:
            raise malformed("data did not match any variant of untagged enum PayloadFieldSchema")
        if "scoring" in settings and server.knows_scoring != "yes":
            if server.knows_scoring == "refuses":
                raise malformed("data did not match any variant of untagged enum PayloadFieldSchema")
            del settings["scoring"]
        parsed(models.PayloadFieldSchema, settings, "field_schema")
        self.strict.check_new_index()
        field = body["field_name"]
        server.indexes.setdefault(self._name, {})[field] = settings
        if "scoring" in settings:  # the only index that local mode has a use for
            self._client.create_payload_index(self._name, field, models.TextIndexParams.model_validate(settings))
        return self._done()

    def delete_index(self, field: str) -> Any:
        self._indexes.pop(field, None)
        return self._done()

    # -- writing -------------------------------------------------------------------------------------------------------

    def upsert(self) -> Any:
        request = parsed(models.PointInsertOperations, self._body)
        if isinstance(request, models.PointsBatch):
            batch = request.batch
            payloads = batch.payloads or [None] * len(batch.ids)
            points = [
                models.PointStruct(id=key, vector=vector, payload=payload)
                for key, vector, payload in zip(batch.ids, batch.vectors, payloads, strict=True)
            ]
        else:
            points = request.points
        self.strict.check_limit(len(points), "upsert_max_batchsize", "upsert limit")
        self._stored.spend(len(points), "write")
        for point in points:
            check_id(point.id)
            self._check_vector(point.vector)
        self._client.upsert(self._name, points)
        return self._done()

    def _check_vector(self, vector: Any) -> None:
        dimension = self._stored.dimension
        if dimension is not None and isinstance(vector, list) and len(vector) != dimension:
            raise wrong_input(f"Vector dimension error: expected dim: {dimension}, got {len(vector)}")

    def delete(self) -> Any:
        selector = parsed(models.PointsSelector, self._body)
        wanted = getattr(selector, "filter", None)
        self.strict.check_filter(wanted, updates=True)
        self._stored.spend(1 + cost_of(wanted), "write")
        self._client.delete(self._name, selector)
        return self._done()

    # -- reading -------------------------------------------------------------------------------------------------------

    def _read(self, wanted: models.Filter | None, cost: int = 1) -> None:
        self._check_known(wanted)
        self._stored.spend(cost + cost_of(wanted), "read")

    def _check_known(self, wanted: models.Filter | None) -> None:
        for _, condition in conditions_of(wanted) if wanted is not None else ():
            match = getattr(condition, "match", None)
            if (isinstance(match, models.MatchPrefix) and not self._server.knows_prefixes) or (
                isinstance(match, models.MatchSubstring) and not self._server.knows_substrings
            ):
                raise malformed("data did not match any variant of untagged enum MatchInterface")

    def retrieve(self) -> Any:
        request = parsed(models.PointRequest, self._body)
        for key in request.ids:
            check_id(key)
        self._read(None, len(request.ids))
        payload = True if request.with_payload is None else request.with_payload
        return self._client.retrieve(self._name, request.ids, payload, request.with_vector or False)

    def count(self) -> Any:
        request = parsed(models.CountRequest, self._body or {})
        self.strict.check_exact(True if request.exact is None else request.exact)
        self.strict.check_filter(request.filter)
        self._read(request.filter)
        return {"count": self._client.count(self._name, count_filter=request.filter).count}

    def scroll(self) -> Any:
        request = parsed(models.ScrollRequest, self._body or {})
        if request.limit is not None and request.limit < 1:
            raise invalid("scroll_request.limit", f"value {request.limit} invalid, must be 1 or larger")
        limit = 10 if request.limit is None else request.limit
        self.strict.check_limit(limit, "max_query_limit", "limit")
        self.strict.check_filter(request.filter)
        self._read(request.filter)
        points, following = self._client.scroll(
            self._name,
            scroll_filter=request.filter,
            limit=limit,
            offset=request.offset,
            with_payload=True if request.with_payload is None else request.with_payload,
            with_vectors=request.with_vector or False,
        )
        return {"points": points, "next_page_offset": following}

    def search(self) -> Any:
        return {"points": self._searched(parsed(models.QueryRequest, self._body))}

    def search_batch(self) -> Any:
        searches = parsed(models.QueryRequestBatch, self._body).searches
        self.strict.check_limit(len(searches), "search_max_batchsize", "search batch size")
        for each in searches:
            self.strict.check_search(each.params, each.filter, 10 if each.limit is None else each.limit)
        return [{"points": self._searched(each)} for each in searches]

    def _searched(self, request: models.QueryRequest) -> Any:
        self._check_query(request)
        if request.limit is not None and request.limit < 1:
            raise invalid("internal.limit", f"value {request.limit} invalid, must be 1 or larger")
        if request.offset is not None and request.offset < 0:
            raise malformed(f"invalid value: integer `{request.offset}`, expected usize")
        self.strict.check_search(request.params, request.filter, 10 if request.limit is None else request.limit)
        self._read(request.filter)
        local = request.model_copy(
            update={"params": None, "with_payload": request.with_payload or False, "shard_key": None}
        )
        return self._client.query_batch_points(self._name, [local])[0].points

    def _check_query(self, request: models.QueryRequest | models.QueryGroupsRequest) -> None:
        query = request.query
        if type(query).__name__ == "TextQuery" and self._server.knows_scoring != "yes":
            raise malformed("Expected some form of vector, id, or a type of query")
        self._check_vector(query.nearest if isinstance(query, models.NearestQuery) else query)

    def groups(self) -> Any:
        request = parsed(models.QueryGroupsRequest, self._body)
        self._check_query(request)
        self.strict.check_search(request.params, request.filter, 10 if request.limit is None else request.limit)
        self.strict.check_groups(request.group_by)
        self._read(request.filter)
        groups = self._client.query_points_groups(
            self._name,
            group_by=request.group_by,
            query=request.query,
            using=request.using,
            query_filter=request.filter,
            score_threshold=request.score_threshold,
            limit=10 if request.limit is None else request.limit,
            group_size=3 if request.group_size is None else request.group_size,
            with_payload=request.with_payload or False,
            with_vectors=request.with_vector or False,
        ).groups
        return {"groups": [{"hits": group.hits, "id": group.id} for group in groups]}

    def facet(self) -> Any:
        request = parsed(models.FacetRequest, self._body)
        indexes = {json_path(path): settings for path, settings in self._indexes.items()}
        self.strict.check_limit(request.limit, "max_query_limit", "limit")
        self.strict.check_exact(request.exact)
        self.strict.check_filter(request.filter)
        self._read(request.filter)
        if not supports_match(indexes.get(json_path(request.key))):
            raise wrong_input(
                f"No appropriate index for faceting: `{request.key}`. Please create one to facet on this field. Check "
                "https://qdrant.tech/documentation/concepts/indexing/#payload-index to see which payload schemas "
                "support Match conditions"
            )
        hits = self._client.facet(
            self._name, request.key, facet_filter=request.filter, limit=request.limit or 10, exact=bool(request.exact)
        ).hits
        return {"hits": [{"value": hit.value, "count": hit.count} for hit in hits]}


def check_id(key: Any) -> None:
    try:
        valid = key >= 0 if isinstance(key, int) else bool(UUID(str(key)))
    except ValueError:
        valid = False
    if not valid:
        raise malformed(f"value {key} is not a valid point ID, valid values are either an unsigned integer or a UUID")


_VARIANTS = {
    "field_schema": "PayloadFieldSchema",
    "match": "MatchInterface",
    "vectors": "VectorsConfig",
}


def parsed(model: Any, body: Any, field: str | None = None) -> Any:
    """The model that a body stands for."""
    if isinstance(body, BaseModel):
        return body
    try:
        return TypeAdapter(model).validate_python(body)
    except ValidationError as error:
        places = {str(part) for each in error.errors() for part in each["loc"]} | {field}
        if "query" in places:
            raise malformed("Expected some form of vector, id, or a type of query") from error
        if "payloads" in places or "payload" in places:
            raise malformed("invalid type: sequence, expected a map") from error
        for place, variant in _VARIANTS.items():
            if place in places:
                raise malformed(f"data did not match any variant of untagged enum {variant}") from error
        raise malformed(str(error).splitlines()[0]) from error
