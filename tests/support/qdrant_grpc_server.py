"""The gRPC face of the server for tests: real messages on a real socket, answered by qdrant-client's local mode."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc  # type: ignore[import-untyped]  # has no stubs
from qdrant_client import QdrantClient, models
from qdrant_client import grpc as messages
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc, grpc_to_payload
from qdrant_client.grpc.collections_service_pb2_grpc import CollectionsServicer, add_CollectionsServicer_to_server
from qdrant_client.grpc.points_service_pb2_grpc import PointsServicer, add_PointsServicer_to_server


class _Shared:
    def __init__(
        self, client: QdrantClient, lock: threading.Lock, indexes: dict[str, dict[str, models.PayloadIndexInfo]]
    ) -> None:
        self.client = client
        self.lock = lock
        self.indexes = indexes  # by collection and field

    def must_exist(self, name: str, context: Any) -> None:
        if not self.client.collection_exists(name):
            context.abort(grpc.StatusCode.NOT_FOUND, f"Not found: Collection `{name}` doesn't exist!")


class _Collections(_Shared, CollectionsServicer):
    def Get(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self.lock:
            self.must_exist(request.collection_name, context)
            info = self.client.get_collection(request.collection_name)
            info.payload_schema = self.indexes.get(request.collection_name, {})
            return messages.GetCollectionInfoResponse(result=RestToGrpc.convert_collection_info(info))

    def Create(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self.lock:
            vectors = GrpcToRest.convert_vectors_config(request.vectors_config)
            self.client.create_collection(
                request.collection_name, vectors_config=vectors, metadata=grpc_to_payload(request.metadata) or None
            )
            return messages.CollectionOperationResponse(result=True)

    def Update(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self.lock:
            self.client.update_collection(request.collection_name, metadata=grpc_to_payload(request.metadata))
            return messages.CollectionOperationResponse(result=True)


class _Points(_Shared, PointsServicer):
    def CreateFieldIndex(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self.lock:
            params = GrpcToRest.convert_payload_schema_params(request.field_index_params)
            self.indexes.setdefault(request.collection_name, {})[request.field_name] = models.PayloadIndexInfo(
                data_type=models.PayloadSchemaType(params.type.value), params=params, points=0
            )
            if isinstance(params, models.TextIndexParams):
                self.client.create_payload_index(request.collection_name, request.field_name, params)
            return _done()

    def Upsert(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self.lock:
            points = [GrpcToRest.convert_point_struct(point) for point in request.points]
            self.client.upsert(request.collection_name, points)
            return _done()

    def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self.lock:
            ids = [GrpcToRest.convert_point_id(each) for each in request.points.points.ids]
            self.client.delete(request.collection_name, models.PointIdsList(points=ids))
            return _done()

    def Get(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self.lock:
            self.must_exist(request.collection_name, context)
            found = self.client.retrieve(
                request.collection_name,
                [GrpcToRest.convert_point_id(each) for each in request.ids],
                with_payload=True,
                with_vectors=request.with_vectors.enable,
            )
            return messages.GetResponse(result=_records(found))

    def Count(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self.lock:
            self.must_exist(request.collection_name, context)
            counted = self.client.count(request.collection_name, count_filter=_filter(request), exact=request.exact)
            return messages.CountResponse(result=messages.CountResult(count=counted.count))

    def Scroll(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self.lock:
            points, following = self.client.scroll(
                request.collection_name,
                scroll_filter=_filter(request),
                limit=request.limit,
                offset=GrpcToRest.convert_point_id(request.offset) if request.HasField("offset") else None,
                with_payload=GrpcToRest.convert_with_payload_selector(request.with_payload),
            )
            return messages.ScrollResponse(
                result=_records(points),
                next_page_offset=None if following is None else RestToGrpc.convert_extended_point_id(following),
            )

    def QueryBatch(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self.lock:
            requests = [
                models.QueryRequest(
                    query=GrpcToRest.convert_query(each.query),
                    using=each.using if each.HasField("using") else None,
                    filter=_filter(each),
                    limit=each.limit,
                    offset=each.offset if each.HasField("offset") else None,
                    with_payload=GrpcToRest.convert_with_payload_selector(each.with_payload),
                    with_vector=each.with_vectors.enable,
                )
                for each in request.query_points
            ]
            answers = self.client.query_batch_points(request.collection_name, requests)
            return messages.QueryBatchResponse(
                result=[
                    messages.BatchResult(result=[RestToGrpc.convert_scored_point(point) for point in answer.points])
                    for answer in answers
                ]
            )


def _records(points: list[Any]) -> list[Any]:
    return [
        RestToGrpc.convert_retrieved_point(point.model_copy(update={"payload": point.payload or {}}))
        for point in points
    ]


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


def _done() -> Any:
    result = messages.UpdateResult(operation_id=1, status=messages.UpdateStatus.Completed)
    return messages.PointsOperationResponse(result=result)


@contextmanager
def running_grpc() -> Iterator[int]:
    """The port of a server."""
    client, lock = QdrantClient(location=":memory:"), threading.Lock()
    server = grpc.server(ThreadPoolExecutor(4))
    shared: tuple[QdrantClient, threading.Lock, dict[str, dict[str, models.PayloadIndexInfo]]] = (client, lock, {})
    add_CollectionsServicer_to_server(_Collections(*shared), server)  # type: ignore[no-untyped-call]  # generated
    add_PointsServicer_to_server(_Points(*shared), server)  # type: ignore[no-untyped-call]  # generated
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(grace=None).wait()
        client.close()
