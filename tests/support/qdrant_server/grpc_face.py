"""The gRPC API on a real socket: what comes is asked of the server as a request of REST would be."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode

import grpc  # type: ignore[import-untyped]  # has no stubs
from pydantic import BaseModel
from qdrant_client import grpc as messages
from qdrant_client import models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc, grpc_to_payload
from qdrant_client.grpc.collections_service_pb2_grpc import CollectionsServicer, add_CollectionsServicer_to_server
from qdrant_client.grpc.points_service_pb2_grpc import PointsServicer, add_PointsServicer_to_server
from qdrant_client.grpc.qdrant_pb2_grpc import QdrantServicer, add_QdrantServicer_to_server

from .cluster import Peer
from .refusals import LockedError, RefusalError
from .rest_face import one_off
from .server import Exchange, QdrantServer

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.ALREADY_EXISTS,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    507: grpc.StatusCode.RESOURCE_EXHAUSTED,
}


class _Face:
    def __init__(self, server: QdrantServer, peer: Callable[[], Peer]) -> None:
        self._server = server
        self._peer = peer

    def ask(self, context: Any, request: Any, method: str, action: str | None, body: Any = None) -> Any:
        """What the server answers; ends the call where it refuses.

        Args:
            context: Of the call.
            request: Its message, for the options that REST has in the path.
            method: As in REST.
            action: The path behind that of the collection; None for what has no collection.
            body: The model that the message stands for.
        """
        place = "/collections" if action is None else f"/collections/{quote(request.collection_name, safe='')}"
        return self.ask_at(context, request, method, place + (f"/{action}" if action else ""), body)

    def ask_at(self, context: Any, request: Any, method: str, path: str, body: Any = None) -> Any:
        server = self._server
        options = _options(request)
        full = f"{path}?{urlencode(options)}" if options else path
        started, status = time.monotonic(), 200
        server.requests.append((method, full, _shown(body)))
        given = dict(context.invocation_metadata())
        key = given.get("api-key") or given.get("authorization", "").partition("Bearer ")[2] or None
        try:
            return server.answer(self._peer(), method, path, options, body, key)
        except (RefusalError, ValueError) as error:
            refusal = error if isinstance(error, RefusalError) else RefusalError(400, f"Wrong input: {error}")
            status = refusal.status
            if refusal.retry_after is not None:
                context.set_trailing_metadata([("retry-after", str(refusal.retry_after))])
            locked = isinstance(refusal, LockedError)
            context.abort(grpc.StatusCode.FAILED_PRECONDITION if locked else _CODES[status], str(refusal))
        finally:
            server.exchanges.append(Exchange("grpc", method, full, started, time.monotonic(), status))


class _Health(_Face, QdrantServicer):
    def HealthCheck(self, request: Any, context: Any) -> Any:  # noqa: N802
        return messages.HealthCheckReply(**self.ask_at(context, request, "GET", "/").content)


class _Collections(_Face, CollectionsServicer):
    def List(self, request: Any, context: Any) -> Any:  # noqa: N802
        found = self.ask(context, request, "GET", None)["collections"]
        return messages.ListCollectionsResponse(
            collections=[messages.CollectionDescription(name=each["name"]) for each in found]
        )

    def Get(self, request: Any, context: Any) -> Any:  # noqa: N802
        info = models.CollectionInfo.model_validate(_known(self.ask(context, request, "GET", "")))
        return messages.GetCollectionInfoResponse(result=RestToGrpc.convert_collection_info(info))

    def CollectionClusterInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        info = models.CollectionClusterInfo.model_validate(self.ask(context, request, "GET", "cluster"))
        return RestToGrpc.convert_collection_cluster_info(info)

    def CollectionExists(self, request: Any, context: Any) -> Any:  # noqa: N802
        exists = self.ask(context, request, "GET", "exists")["exists"]
        return messages.CollectionExistsResponse(result=messages.CollectionExists(exists=exists))

    def Create(self, request: Any, context: Any) -> Any:  # noqa: N802
        body = models.CreateCollection(
            vectors=_converted(request, "vectors_config", GrpcToRest.convert_vectors_config),
            hnsw_config=_converted(request, "hnsw_config", GrpcToRest.convert_hnsw_config_diff),
            wal_config=_converted(request, "wal_config", GrpcToRest.convert_wal_config_diff),
            optimizers_config=_converted(request, "optimizers_config", GrpcToRest.convert_optimizers_config_diff),
            shard_number=_converted(request, "shard_number"),
            on_disk_payload=_converted(request, "on_disk_payload"),
            replication_factor=_converted(request, "replication_factor"),
            write_consistency_factor=_converted(request, "write_consistency_factor"),
            quantization_config=_converted(request, "quantization_config", GrpcToRest.convert_quantization_config),
            sharding_method=_converted(request, "sharding_method", GrpcToRest.convert_sharding_method),
            strict_mode_config=_converted(request, "strict_mode_config", GrpcToRest.convert_strict_mode_config),
            metadata=grpc_to_payload(request.metadata) or None,
        )
        return messages.CollectionOperationResponse(result=self.ask(context, request, "PUT", "", body))

    def Update(self, request: Any, context: Any) -> Any:  # noqa: N802
        body = GrpcToRest.convert_update_collection(request)
        body.metadata = grpc_to_payload(request.metadata) or None
        return messages.CollectionOperationResponse(result=self.ask(context, request, "PATCH", "", body))

    def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        return messages.CollectionOperationResponse(result=self.ask(context, request, "DELETE", ""))

    def UpdateAliases(self, request: Any, context: Any) -> Any:  # noqa: N802
        actions = [GrpcToRest.convert_alias_operations(each) for each in request.actions]
        body = models.ChangeAliasesOperation(actions=actions)
        done = self.ask_at(context, request, "POST", "/collections/aliases", body)
        return messages.CollectionOperationResponse(result=done)

    def ListCollectionAliases(self, request: Any, context: Any) -> Any:  # noqa: N802
        return _aliases(self.ask(context, request, "GET", "aliases"))

    def ListAliases(self, request: Any, context: Any) -> Any:  # noqa: N802
        return _aliases(self.ask_at(context, request, "GET", "/aliases"))

    def CreateShardKey(self, request: Any, context: Any) -> Any:  # noqa: N802
        body = GrpcToRest.convert_create_shard_key(request.request)
        return messages.CreateShardKeyResponse(result=self.ask(context, request, "PUT", "shards", body))

    def DeleteShardKey(self, request: Any, context: Any) -> Any:  # noqa: N802
        body = GrpcToRest.convert_delete_shard_key(request.request)
        return messages.DeleteShardKeyResponse(result=self.ask(context, request, "POST", "shards/delete", body))

    def ListShardKeys(self, request: Any, context: Any) -> Any:  # noqa: N802
        found = self.ask(context, request, "GET", "shards")["shard_keys"]
        keys = [messages.ShardKeyDescription(key=RestToGrpc.convert_shard_key(each["key"])) for each in found]
        return messages.ListShardKeysResponse(shard_keys=keys)


class _Points(_Face, PointsServicer):
    def CreateFieldIndex(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.HasField("field_index_params"):
            params = GrpcToRest.convert_payload_schema_params(request.field_index_params)
            schema = params.model_dump(mode="json", exclude_none=True)
        else:
            schema = messages.FieldType.Name(request.field_type).removeprefix("FieldType").lower()
        body = {"field_name": request.field_name, "field_schema": schema}
        return _update(self.ask(context, request, "PUT", "index", body))

    def DeleteFieldIndex(self, request: Any, context: Any) -> Any:  # noqa: N802
        return _update(self.ask(context, request, "DELETE", f"index/{quote(request.field_name, safe='')}"))

    def Upsert(self, request: Any, context: Any) -> Any:  # noqa: N802
        points = [GrpcToRest.convert_point_struct(point) for point in request.points]
        for point in points:
            point.payload = self._stored(point.payload)
        return _update(self.ask(context, request, "PUT", "points", models.PointsList(points=points, **_key(request))))

    def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        selector = _selector(request.points).model_copy(update=_key(request))
        return _update(self.ask(context, request, "POST", "points/delete", selector))

    def SetPayload(self, request: Any, context: Any) -> Any:  # noqa: N802
        return _update(self.ask(context, request, "POST", "points/payload", self._payload(request)))

    def UpdateBatch(self, request: Any, context: Any) -> Any:  # noqa: N802
        operations: list[Any] = [
            models.SetPayloadOperation(set_payload=self._payload(each.set_payload)) for each in request.operations
        ]
        answers = self.ask(context, request, "POST", "points/batch", models.UpdateOperations(operations=operations))
        return messages.UpdateBatchResponse(result=[_update(each).result for each in answers])

    def OverwritePayload(self, request: Any, context: Any) -> Any:  # noqa: N802
        return _update(self.ask(context, request, "PUT", "points/payload", self._payload(request)))

    def DeletePayload(self, request: Any, context: Any) -> Any:  # noqa: N802
        body = models.DeletePayload(keys=list(request.keys), **_points_or_filter(request.points_selector))
        return _update(self.ask(context, request, "POST", "points/payload/delete", body))

    def ClearPayload(self, request: Any, context: Any) -> Any:  # noqa: N802
        return _update(self.ask(context, request, "POST", "points/payload/clear", _selector(request.points)))

    def Get(self, request: Any, context: Any) -> Any:  # noqa: N802
        body = models.PointRequest(
            ids=[GrpcToRest.convert_point_id(each) for each in request.ids], **_shown_parts(request), **_key(request)
        )
        return messages.GetResponse(result=_records(self.ask(context, request, "POST", "points", body)))

    def Count(self, request: Any, context: Any) -> Any:  # noqa: N802
        body = models.CountRequest(filter=_filter(request), exact=_converted(request, "exact"), **_key(request))
        count = self.ask(context, request, "POST", "points/count", body)["count"]
        return messages.CountResponse(result=messages.CountResult(count=count))

    def Scroll(self, request: Any, context: Any) -> Any:  # noqa: N802
        body = models.ScrollRequest(
            filter=_filter(request),
            limit=_converted(request, "limit"),
            offset=_converted(request, "offset", GrpcToRest.convert_point_id),
            **_shown_parts(request),
            **_key(request),
        )
        found = self.ask(context, request, "POST", "points/scroll", body)
        following = found["next_page_offset"]
        return messages.ScrollResponse(
            result=_records(found["points"]),
            next_page_offset=None if following is None else RestToGrpc.convert_extended_point_id(following),
        )

    def Query(self, request: Any, context: Any) -> Any:  # noqa: N802
        found = self.ask(context, request, "POST", "points/query", _search(request))
        return messages.QueryResponse(result=_scored(found["points"]))

    def QueryBatch(self, request: Any, context: Any) -> Any:  # noqa: N802
        body = models.QueryRequestBatch(searches=[_search(each) for each in request.query_points])
        found = self.ask(context, request, "POST", "points/query/batch", body)
        return messages.QueryBatchResponse(
            result=[messages.BatchResult(result=_scored(each["points"])) for each in found]
        )

    def QueryGroups(self, request: Any, context: Any) -> Any:  # noqa: N802
        body = models.QueryGroupsRequest(
            query=_converted(request, "query", GrpcToRest.convert_query),
            using=_converted(request, "using"),
            filter=_filter(request),
            params=_converted(request, "params", GrpcToRest.convert_search_params),
            score_threshold=_converted(request, "score_threshold"),
            limit=_converted(request, "limit"),
            group_size=_converted(request, "group_size"),
            group_by=request.group_by,
            **_shown_parts(request),
            **_key(request),
        )
        found = self.ask(context, request, "POST", "points/query/groups", body)["groups"]
        groups = [models.PointGroup(hits=_whole(each["hits"]), id=each["id"]) for each in found]
        return messages.QueryGroupsResponse(result=RestToGrpc.convert_groups_result(models.GroupsResult(groups=groups)))

    def Facet(self, request: Any, context: Any) -> Any:  # noqa: N802
        body = models.FacetRequest(
            key=request.key,
            filter=_filter(request),
            limit=_converted(request, "limit"),
            exact=_converted(request, "exact"),
            **_key(request),
        )
        hits = self.ask(context, request, "POST", "facet", body)["hits"]
        return messages.FacetResponse(
            hits=[RestToGrpc.convert_facet_value_hit(models.FacetValueHit(**each)) for each in hits]
        )

    def _payload(self, request: Any) -> Any:
        return models.SetPayload(
            payload=self._stored(grpc_to_payload(request.payload)),
            key=_converted(request, "key"),
            **_points_or_filter(request.points_selector),
        )

    def _stored(self, value: Any) -> Any:
        """What becomes of a payload: it is kept as JSON, whatever it came as."""
        if not self._server.rounds_floats:
            return value
        if isinstance(value, dict):
            return {key: self._stored(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self._stored(each) for each in value]
        return one_off(value) if isinstance(value, float) else value


def _converted(request: Any, field: str, convert: Callable[[Any], Any] = lambda value: value) -> Any:
    return convert(getattr(request, field)) if request.HasField(field) else None


def _options(request: Any) -> dict[str, str]:
    """What REST says behind the path."""
    fields = request.DESCRIPTOR.fields_by_name
    options = {}
    if "wait" in fields and request.HasField("wait"):
        options["wait"] = str(request.wait).lower()
    if "ordering" in fields and request.HasField("ordering"):
        options["ordering"] = GrpcToRest.convert_write_ordering(request.ordering).value
    if "read_consistency" in fields and request.HasField("read_consistency"):
        consistency = GrpcToRest.convert_read_consistency(request.read_consistency)
        options["consistency"] = str(getattr(consistency, "value", consistency))
    if "timeout" in fields and request.HasField("timeout"):
        options["timeout"] = str(request.timeout)
    return options


def _shown(body: Any) -> Any:
    """A body as `requests` keeps it; of points to write, their ids."""
    if isinstance(body, models.PointsList):
        return {"points": [{"id": point.id} for point in body.points]}
    return body.model_dump(mode="json", exclude_none=True) if isinstance(body, BaseModel) else body


def _known(info: Any) -> Any:
    """Settings that the protocol has no fields for are not sent."""
    if isinstance(info, dict):
        return {key: _known(each) for key, each in info.items() if key != "novelty"}
    return info


def _key(request: Any) -> dict[str, Any]:
    return {"shard_key": _converted(request, "shard_key_selector", GrpcToRest.convert_shard_key_selector)}


def _shown_parts(request: Any) -> dict[str, Any]:
    return {
        "with_payload": _converted(request, "with_payload", GrpcToRest.convert_with_payload_selector),
        "with_vector": _converted(request, "with_vectors", GrpcToRest.convert_with_vectors_selector),
    }


def _search(request: Any) -> models.QueryRequest:
    return GrpcToRest.convert_query_points(request).model_copy(update={"filter": _filter(request)})


def _points_or_filter(selector: Any) -> dict[str, Any]:
    if selector.HasField("filter"):
        return {"filter": _filter(selector)}
    return {"points": [GrpcToRest.convert_point_id(each) for each in selector.points.ids]}


def _selector(selector: Any) -> Any:
    chosen = _points_or_filter(selector)
    return models.FilterSelector(**chosen) if "filter" in chosen else models.PointIdsList(**chosen)


def _whole(points: list[Any]) -> list[Any]:
    """A message always has a payload, be it an empty one."""
    return [point.model_copy(update={"payload": point.payload or {}}) for point in points]


def _records(points: list[Any]) -> list[Any]:
    return [RestToGrpc.convert_retrieved_point(point) for point in _whole(points)]


def _scored(points: list[Any]) -> list[Any]:
    return [RestToGrpc.convert_scored_point(point) for point in _whole(points)]


def _aliases(found: Any) -> Any:
    return messages.ListAliasesResponse(aliases=[messages.AliasDescription(**each) for each in found["aliases"]])


def _filter(request: Any) -> models.Filter | None:
    return _without_empty_lists(GrpcToRest.convert_filter(request.filter)) if request.HasField("filter") else None


def _without_empty_lists(given: models.Filter) -> models.Filter:
    """Which gRPC cannot tell from none, and local mode can."""
    for name in ("must", "should", "must_not"):
        parts = getattr(given, name) or None
        for part in parts or ():
            if isinstance(part, models.Filter):
                _without_empty_lists(part)
        setattr(given, name, parts)
    return given


def _update(done: dict[str, Any]) -> Any:
    status = messages.UpdateStatus.Completed if done["status"] == "completed" else messages.UpdateStatus.Acknowledged
    result = messages.UpdateResult(operation_id=done["operation_id"], status=status)
    return messages.PointsOperationResponse(result=result)


@contextmanager
def listening_grpc(server: QdrantServer, peer: Callable[[], Peer]) -> Iterator[int]:
    """The port of a face of a server; `peer` says who answers the next request."""
    listener = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", -1)])
    add_QdrantServicer_to_server(_Health(server, peer), listener)  # type: ignore[no-untyped-call]  # generated
    add_CollectionsServicer_to_server(_Collections(server, peer), listener)  # type: ignore[no-untyped-call]
    add_PointsServicer_to_server(_Points(server, peer), listener)  # type: ignore[no-untyped-call]
    port: int = listener.add_insecure_port("127.0.0.1:0")
    listener.start()
    try:
        yield port
    finally:
        listener.stop(grace=None).wait()
