"""What a request to one collection does."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
from pydantic import BaseModel, TypeAdapter, ValidationError
from qdrant_client import models

from .collection import Collection
from .refusals import RefusalError, internal, invalid, malformed, wrong_input
from .strict_mode import StrictMode, conditions_of, cost_of, json_path, supports_match

if TYPE_CHECKING:
    from .server import QdrantServer


class Request:
    """A request to one collection.

    Args:
        server: Whose collection it is.
        name: Of the collection, not of an alias.
        stored: The collection.
        query: The parameters behind the path.
        body: Plain values, or the model that they stand for.
    """

    def __init__(
        self, server: QdrantServer, name: str, stored: Collection, query: Mapping[str, str], body: Any
    ) -> None:
        self._server = server
        self._client = server._client
        self._name = name
        self._stored = stored
        self._query = query
        self._body = body
        self._strict = StrictMode(stored.strict_mode, self._indexes)
        timeout = int(query["timeout"]) if "timeout" in query else None
        self._strict.check_limit(timeout, "max_timeout", "timeout")

    @property
    def _indexes(self) -> dict[str, Any]:
        return self._server.indexes.get(self._name, {})

    def answer(self, method: str, action: str) -> Any:
        match method, action.split("/"):
            case "GET", [""]:
                return self.info()
            case "PATCH", [""]:
                return self._update()
            case "PUT", ["index"]:
                return self._create_index()
            case "DELETE", ["index", field]:
                return self._delete_index(field)
            case "GET", ["shards"]:
                return {"shard_keys": [{"key": key} for key in self._stored.shard_keys]}
            case "PUT", ["shards"]:
                return self._create_shard_key()
            case "POST", ["shards", "delete"]:
                return self._delete_shard_key()
            case "PUT", ["points"]:
                return self._upsert()
            case "POST", ["points", "delete"]:
                return self._delete()
            case (("POST" | "PUT"), ["points", "payload", *rest]):
                return self._change_payload(method, "".join(rest))
            case "POST", ["points", "batch"]:
                return self._update_batch()
            case "POST", ["points"]:
                return self._retrieve()
            case "POST", ["points", "count"]:
                return self._count()
            case "POST", ["points", "scroll"]:
                return self._scroll()
            case "POST", ["points", "query"]:
                return {"points": self._searched(parsed(models.QueryRequest, self._body))}
            case "POST", ["points", "query", "batch"]:
                return self._search_batch()
            case "POST", ["points", "query", "groups"]:
                return self._groups()
            case "POST", ["facet"]:
                return self._facet()
        raise RefusalError(404, "", plain=True)

    def _done(self) -> dict[str, Any]:
        self._stored.operations += 1
        status = "completed" if self._query.get("wait") == "true" else "acknowledged"
        return {"operation_id": self._stored.operations, "status": status}

    # -- the collection ------------------------------------------------------------------------------------------------

    def info(self) -> Any:
        return self._stored.info(
            points=self._client.count(self._name).count,
            indexes=self._indexes,
            unknown_fields=self._server.unknown_fields,
        )

    def _update(self) -> bool:
        self._stored.update(parsed(models.UpdateCollection, self._body), keeps_metadata=self._server.keeps_metadata)
        return True

    def _create_index(self) -> Any:
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
        self._strict.check_new_index()
        field = body["field_name"]
        server.indexes.setdefault(self._name, {})[field] = settings
        if "scoring" in settings:  # the only index that local mode has a use for
            self._client.create_payload_index(self._name, field, models.TextIndexParams.model_validate(settings))
        return self._done()

    def _delete_index(self, field: str) -> Any:
        for path in [path for path in self._indexes if json_path(path) == json_path(field)]:
            if "scoring" in self._indexes.pop(path):
                self._client.delete_payload_index(self._name, path)
        return self._done()

    def _create_shard_key(self) -> bool:
        key = parsed(models.CreateShardingKey, self._body).shard_key
        if not self._stored.custom_shards:
            raise RefusalError(400, "Bad request: Shard Key cannot be created with Auto sharding method")
        if key in self._stored.shard_keys:
            raise RefusalError(400, f"Bad request: Sharding key {key} already exists for collection {self._name}")
        self._stored.shard_keys[key] = set()
        return True

    def _delete_shard_key(self) -> bool:
        key = parsed(models.DropShardingKey, self._body).shard_key
        if key not in self._stored.shard_keys:
            raise RefusalError(400, f"Bad request: Sharding key {key} does not exist for collection {self._name}")
        ids = self._stored.shard_keys.pop(key)
        if ids:
            self._client.delete(self._name, models.PointIdsList(points=list(ids)))
        return True

    # -- writing -------------------------------------------------------------------------------------------------------

    def _upsert(self) -> Any:
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
        self._strict.check_limit(len(points), "upsert_max_batchsize", "upsert limit")
        self._stored.spend(len(points), "write")
        for point in points:
            check_id(point.id)
            self._check_vector(point.vector)
        self._keep_shard_key(request.shard_key, [point.id for point in points])
        reached, failed = self._reached([point.id for point in points])
        if reached:
            self._client.upsert(self._name, [point for point in points if point.id in reached])
        return self._written(failed)

    def _keep_shard_key(self, selector: Any, ids: Sequence[Any]) -> None:
        if not self._stored.custom_shards:
            if selector is not None:
                raise wrong_input("Shard key cannot be used with auto sharding")
            return
        keys = _shard_keys(selector)
        if not keys:
            raise wrong_input("Shard key not specified")
        for key in keys:
            if key not in self._stored.shard_keys:
                raise RefusalError(404, f"Not found: Shard key {key} not found")
            self._stored.shard_keys[key].update(ids)

    def _reached(self, ids: Sequence[Any]) -> tuple[set[Any], set[int]]:
        """Which points a write reaches, and the shards that it does not."""
        shards = {key: self._stored.shard_of(key) for key in ids}
        out = self._server.lost_shards | self._server.leaderless_shards
        return {key for key, shard in shards.items() if shard not in out}, out & set(shards.values())

    def _written(self, failed: set[int]) -> Any:
        if not failed:
            return self._done()
        why = "The service is currently unavailable"
        if not failed & self._server.lost_shards:
            why = "Failed to apply update with Medium ordering via leader peer 4771345870152325"
        shards = self._stored.params["shard_number"]
        raise internal(
            f"{len(failed)} out of {shards} shards failed to apply operation. First error captured: "
            f"Service internal error: {why}"
        )

    def _check_vector(self, vector: Any) -> None:
        dimension = self._stored.dimension
        if dimension is not None and isinstance(vector, list) and len(vector) != dimension:
            raise wrong_input(f"Vector dimension error: expected dim: {dimension}, got {len(vector)}")

    def _delete(self) -> Any:
        selector = parsed(models.PointsSelector, self._body)
        if self._stored.custom_shards:
            self._forget_shard_key(selector)
        return self._on_points(selector, functools.partial(self._client.delete, self._name))

    def _forget_shard_key(self, selector: Any) -> None:
        """Leave the points that have a copy in other shards than these."""
        stored = self._stored.shard_keys
        keys = _shard_keys(selector.shard_key)
        if not keys:
            raise wrong_input("Shard key not specified")
        for key in keys:
            if key not in stored:
                raise RefusalError(404, f"Not found: Shard key {key} not found")
            stored[key].difference_update(selector.points)
        selector.points = [point for point in selector.points if not any(point in ids for ids in stored.values())]

    def _on_points(self, selector: Any, change: Any) -> Any:
        """Change points that are told by ids or by a filter."""
        wanted = getattr(selector, "filter", None)
        self._strict.check_filter(wanted, updates=True)
        self._stored.spend(1 + cost_of(wanted), "write")
        if wanted is None:
            reached, failed = self._reached(selector.points)
            if reached:
                change(models.PointIdsList(points=[key for key in selector.points if key in reached]))
            return self._written(failed)
        failed = self._server.lost_shards | self._server.leaderless_shards
        if not failed:
            change(selector)
        return self._written(failed)

    def _change_payload(self, method: str, action: str) -> Any:
        client, name = self._client, self._name
        if action == "clear":
            return self._on_points(
                parsed(models.PointsSelector, self._body), functools.partial(client.clear_payload, name)
            )
        request = parsed(models.DeletePayload if action == "delete" else models.SetPayload, self._body)
        if request.points is not None:
            selector: Any = models.PointIdsList(points=request.points)
        else:
            selector = models.FilterSelector(filter=request.filter)
        if action == "delete":
            return self._on_points(selector, lambda points: client.delete_payload(name, request.keys, points))
        if method == "PUT":
            return self._on_points(selector, lambda points: client.overwrite_payload(name, request.payload, points))
        return self._on_points(
            selector, lambda points: client.set_payload(name, request.payload, points, key=request.key)
        )

    def _update_batch(self) -> Any:
        """What each operation would answer alone, in their order."""
        answers = []
        for operation in parsed(models.UpdateOperations, self._body).operations:
            if not isinstance(operation, models.SetPayloadOperation):
                raise NotImplementedError(type(operation).__name__)
            one = Request(self._server, self._name, self._stored, self._query, operation.set_payload)
            answers.append(one.answer("POST", "points/payload"))
        return answers

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

    def _in_shards(self, selector: Any, wanted: models.Filter | None) -> models.Filter | None:
        """A filter for the points of some shard keys."""
        if selector is None:
            return wanted
        ids: set[Any] = set()
        for key in _shard_keys(selector):
            if key not in self._stored.shard_keys:
                raise RefusalError(404, f"Not found: Shard key {key} not found")
            ids |= self._stored.shard_keys[key]
        inside = models.HasIdCondition(has_id=list(ids))
        return models.Filter(must=[inside] if wanted is None else [inside, wanted])

    def _retrieve(self) -> Any:
        request = parsed(models.PointRequest, self._body)
        for key in request.ids:
            check_id(key)
        self._read(None, len(request.ids))
        found = self._client.retrieve(
            self._name, request.ids, request.with_payload or False, request.with_vector or False
        )
        return _shown(found, request.with_payload)

    def _count(self) -> Any:
        request = parsed(models.CountRequest, self._body or {})
        self._check_known(request.filter)
        self._strict.check_filter(request.filter)
        self._strict.check_exact(True if request.exact is None else request.exact)
        self._read(request.filter)
        if self._stored.custom_shards and request.shard_key is None:  # copies in several shards count each
            asked = [self._in_shards(key, request.filter) for key in self._stored.shard_keys]
            return {"count": sum(self._client.count(self._name, count_filter=each).count for each in asked)}
        wanted = self._in_shards(request.shard_key, request.filter)
        return {"count": self._client.count(self._name, count_filter=wanted).count}

    def _scroll(self) -> Any:
        request = parsed(models.ScrollRequest, self._body or {})
        limit = 10 if request.limit is None else request.limit
        if limit < 1:
            raise invalid("scroll_request.limit", f"value {limit} invalid, must be 1 or larger")
        self._check_known(request.filter)
        self._strict.check_limit(limit, "max_query_limit", "limit")
        self._strict.check_filter(request.filter)
        self._read(request.filter)
        with_payload = True if request.with_payload is None else request.with_payload
        points, following = self._client.scroll(
            self._name,
            scroll_filter=self._in_shards(request.shard_key, request.filter),
            limit=limit,
            offset=request.offset,
            with_payload=with_payload,
            with_vectors=request.with_vector or False,
        )
        return {"points": _shown(points, with_payload), "next_page_offset": following}

    def _search_batch(self) -> Any:
        searches = parsed(models.QueryRequestBatch, self._body).searches
        self._strict.check_limit(len(searches), "search_max_batchsize", "search batch size")
        for each in searches:
            self._check_search(each)
        return [{"points": self._searched(each)} for each in searches]

    def _searched(self, request: models.QueryRequest) -> Any:
        self._check_search(request)
        self._read(request.filter)
        local = request.model_copy(
            update={
                "params": None,  # exact, all the same
                "with_payload": request.with_payload or False,
                "filter": self._in_shards(request.shard_key, request.filter),
            }
        )
        return _shown(self._client.query_batch_points(self._name, [local])[0].points, request.with_payload)

    def _check_search(self, request: Any) -> None:
        query = request.query
        if type(query).__name__ == "TextQuery" and self._server.knows_scoring != "yes":
            raise malformed("Expected some form of vector, id, or a type of query")
        limit = 10 if request.limit is None else request.limit
        if limit < 1:
            raise invalid("internal.limit", f"value {limit} invalid, must be 1 or larger")
        if (getattr(request, "offset", None) or 0) < 0:
            raise malformed(f"invalid value: integer `{request.offset}`, expected usize")
        self._check_vector(query.nearest if isinstance(query, models.NearestQuery) else query)
        self._check_known(request.filter)
        if isinstance(request, models.QueryGroupsRequest):
            self._strict.check_groups(request.group_by)
            limit *= 3 if request.group_size is None else request.group_size
        if query is not None and type(query).__name__ != "TextQuery":
            self._strict.check_full_scan(request.filter, self._stored.hnsw.get("m"))
        self._strict.check_search(request.params, request.filter, limit)
        if isinstance(query, models.NearestQuery | list):
            self._strict.check_graph(self._stored.hnsw["m"])

    def _groups(self) -> Any:
        request = parsed(models.QueryGroupsRequest, self._body)
        self._check_search(request)
        self._read(request.filter)
        groups = self._client.query_points_groups(
            self._name,
            group_by=request.group_by,
            query=request.query,
            using=request.using,
            query_filter=self._in_shards(request.shard_key, request.filter),
            score_threshold=request.score_threshold,
            limit=10 if request.limit is None else request.limit,
            group_size=3 if request.group_size is None else request.group_size,
            with_payload=request.with_payload or False,
            with_vectors=request.with_vector or False,
        ).groups
        return {"groups": [{"hits": _shown(group.hits, request.with_payload), "id": group.id} for group in groups]}

    def _facet(self) -> Any:
        request = parsed(models.FacetRequest, self._body)
        self._check_known(request.filter)
        self._strict.check_limit(10 if request.limit is None else request.limit, "max_query_limit", "limit")
        self._strict.check_filter(request.filter)
        self._strict.check_exact(request.exact)
        self._read(request.filter)
        indexes = {json_path(path): settings for path, settings in self._indexes.items()}
        if not supports_match(indexes.get(json_path(request.key))):
            raise wrong_input(
                f"No appropriate index for faceting: `{request.key}`. Please create one to facet on this field. Check "
                "https://qdrant.tech/documentation/concepts/indexing/#payload-index to see which payload schemas "
                "support Match conditions"
            )
        wanted = self._in_shards(request.shard_key, request.filter)
        found = self._client.facet(self._name, request.key, facet_filter=wanted, limit=request.limit or 10)
        return {"hits": [{"value": hit.value, "count": hit.count} for hit in found.hits]}


def _shard_keys(selector: Any) -> list[Any]:
    if selector is None:
        return []
    return selector if isinstance(selector, list) else [selector]


def _shown(points: Sequence[Any], with_payload: Any) -> list[Any]:
    """Points as the server shows them: an empty payload is one, and scores have 32 bits."""
    shown = []
    for point in points:
        changes: dict[str, Any] = {"payload": point.payload or {}} if with_payload else {"payload": None}
        if isinstance(point, models.ScoredPoint):
            changes["score"] = float(np.float32(point.score))
        shown.append(point.model_copy(update=changes))
    return shown


def check_id(key: Any) -> None:
    try:
        valid = key >= 0 if isinstance(key, int) else bool(UUID(str(key)))
    except ValueError:
        valid = False
    if not valid:
        raise malformed(f"value {key} is not a valid point ID, valid values are either an unsigned integer or a UUID")


_VARIANTS = {"field_schema": "PayloadFieldSchema", "match": "MatchInterface", "vectors": "VectorsConfig"}


@functools.cache
def _adapter(model: Any) -> TypeAdapter[Any]:
    return TypeAdapter(model)


def parsed(model: Any, body: Any, field: str | None = None) -> Any:
    """The model that a body stands for."""
    if isinstance(body, BaseModel):
        return body
    try:
        return _adapter(model).validate_python(body)
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
