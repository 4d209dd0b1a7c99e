"""Query points: requests and answers without the models of qdrant-client, which take longer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from multimodal_search.stores.keywords import WORDS
from multimodal_search.stores.qdrant.writing import dense_prefix
from multimodal_search.types import Match

if TYPE_CHECKING:
    from qdrant_client import models

    from multimodal_search.stores.qdrant.client import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class PointsQuery:
    """What one search asks for.

    Attributes:
        vector: The numbers of the vector to search with; None for words.
        words: What to look for by BM25, without a vector, in the words of the points.
        limit: Most points.
        offset: Nearer points to leave out.
        condition: The filter; None lets every point pass.
        with_payload: Whether to get payloads, less the words of the points.
        with_vectors: Whether to get vectors.
        params: How to search.
        shard_keys: Of the shards to look in; None for all.
    """

    vector: Sequence[float] | None = None
    words: str = ""
    limit: int
    offset: int = 0
    condition: models.Filter | None = None
    with_payload: bool = True
    with_vectors: bool = False
    params: models.SearchParams | None = None
    shard_keys: Sequence[str | int] | None = None


def without_words() -> models.PayloadSelectorExclude:
    """The selector of all of a payload but the words of its point."""
    from qdrant_client import models

    return models.PayloadSelectorExclude(exclude=[WORDS])


def query_points(
    connection: Connection,
    queries: Sequence[PointsQuery],
    consistency: models.ReadConsistencyType | int | None = None,
) -> list[list[Match]]:
    """The points that each of some queries finds, by falling score, in one request.

    Args:
        connection: To their collection.
        queries: What is asked for.
        consistency: How many copies must agree on what is read.

    Raises:
        StoreError: The server refuses the request or cannot be reached.
    """
    if connection.is_local:
        return _query_local(connection, queries)
    query = _query_grpc if connection.prefers_grpc else _query_rest
    return query(connection, queries, consistency)


def _query_rest(connection: Connection, queries: Sequence[PointsQuery], consistency: Any) -> list[list[Match]]:
    from pydantic_core import to_json

    def body_of(query: PointsQuery) -> bytes:
        rest: dict[str, Any] = {
            "limit": query.limit,
            "with_payload": {"exclude": [WORDS]} if query.with_payload else False,
        }
        if query.offset:
            rest["offset"] = query.offset
        if query.with_vectors:
            rest["with_vector"] = True
        if query.shard_keys is not None:
            rest["shard_key"] = query.shard_keys
        if query.vector is None:
            rest["using"] = WORDS
        asked = {"text": query.words} if query.vector is None else {"nearest": query.vector}
        parts = [b'{"query":%b,%b' % (to_json(asked), to_json(rest)[1:-1])]
        for name, model in (("filter", query.condition), ("params", query.params)):
            if model is not None:
                text = model.model_dump_json(by_alias=True, exclude_unset=True, exclude_none=True)
                parts.append(b'"%b":%b' % (name.encode(), text.encode()))
        return b",".join(parts) + b"}"

    with connection.calling() as client:
        answer = client.http.client.request(
            type_=dict[str, Any],
            method="POST",
            url="/collections/{collection_name}/points/query/batch",
            path_params={"collection_name": connection.collection},
            params=_parameters(connection, consistency),
            headers={"Content-Type": "application/json"},
            content=b'{"searches":[%b]}' % b",".join(map(body_of, queries)),
        )
        return [
            [
                Match(
                    point["id"],
                    point["score"],
                    point.get("payload") or {},
                    vector=np.array(point["vector"], np.float32) if query.with_vectors else None,
                )
                for point in found["points"]
            ]
            for query, found in zip(queries, answer["result"], strict=True)
        ]


def _parameters(connection: Connection, consistency: Any) -> dict[str, str]:
    parameters = {} if connection.timeout is None else {"timeout": str(connection.timeout)}
    if consistency is not None:
        parameters["consistency"] = str(getattr(consistency, "value", consistency))
    return parameters


def _query_grpc(connection: Connection, queries: Sequence[PointsQuery], consistency: Any) -> list[list[Match]]:
    from qdrant_client import grpc, models
    from qdrant_client.conversions.conversion import RestToGrpc, grpc_to_payload

    request = grpc.QueryBatchPoints(
        collection_name=connection.collection,
        read_consistency=None if consistency is None else RestToGrpc.convert_read_consistency(consistency),
        timeout=connection.timeout,
    )
    shown = grpc.WithPayloadSelector(exclude=grpc.PayloadExcludeSelector(fields=[WORDS]))
    for query in queries:
        message = request.query_points.add(
            collection_name=connection.collection,
            using=WORDS if query.vector is None else None,
            limit=query.limit,
            offset=query.offset or None,
            with_payload=shown if query.with_payload else grpc.WithPayloadSelector(enable=False),
            with_vectors=grpc.WithVectorsSelector(enable=True) if query.with_vectors else None,
            filter=None if query.condition is None else RestToGrpc.convert_filter(query.condition),
            params=None if query.params is None else RestToGrpc.convert_search_params(query.params),
            shard_key_selector=None
            if query.shard_keys is None
            else RestToGrpc.convert_shard_key_selector(list(query.shard_keys)),
        )
        if query.vector is None:
            message.query.CopyFrom(RestToGrpc.convert_query(models.TextQuery(text=query.words)))
        else:
            vector = np.array(query.vector, "<f4")
            message.query.nearest.dense.MergeFromString(dense_prefix(len(vector)) + vector.tobytes())
    with connection.calling() as client:
        answer = client.grpc_points.QueryBatch(request, timeout=connection.request_s)
        return [
            [
                Match(
                    point.id.num if point.id.HasField("num") else point.id.uuid,
                    point.score,
                    grpc_to_payload(point.payload),
                    vector=_grpc_vector(point.vectors.vector) if query.with_vectors else None,
                )
                for point in found.result
            ]
            for query, found in zip(queries, answer.result, strict=True)
        ]


def _grpc_vector(vector: Any) -> Any:
    return np.array(vector.dense.data if vector.HasField("dense") else vector.data, np.float32)


def _query_local(connection: Connection, queries: Sequence[PointsQuery]) -> list[list[Match]]:
    from qdrant_client import models

    requests = [
        models.QueryRequest(
            query=models.TextQuery(text=query.words)
            if query.vector is None
            else models.NearestQuery(nearest=list(query.vector)),
            using=WORDS if query.vector is None else None,
            limit=query.limit,
            offset=query.offset or None,
            filter=query.condition,
            with_payload=without_words() if query.with_payload else False,
            with_vector=query.with_vectors,
        )
        for query in queries
    ]
    with connection.calling() as client:
        answers = client.query_batch_points(connection.collection, requests)
    # Local mode scores in 64 bits, where equal vectors can differ in the last one: in 32, ties are ties.
    return [
        [
            Match(
                point.id if isinstance(point.id, int) else str(point.id),
                float(np.float32(point.score)),
                point.payload or {},
                vector=np.asarray(point.vector, np.float32) if query.with_vectors else None,
            )
            for point in answer.points
        ]
        for query, answer in zip(queries, answers, strict=True)
    ]
