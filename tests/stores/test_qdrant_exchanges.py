"""The tests' own Qdrant server answers as a real one did: what it was asked and answered was recorded."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from grpc import RpcError  # type: ignore[import-untyped]  # has no stubs
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse
from qdrant_rest_server import QdrantServer, running

QUERY = {"query": [1.0, 0.0, 0.0, 0.0], "limit": 1}
NOT_WHOLE: dict[str, bytes] = {
    "query, NaN": b'{"query": [NaN, 0.0, 0.0, 0.0]}',
    "upsert, 40 MB": b"x" * 40_000_065,
    "not JSON": b"{nope",
    "limits, 101 points": json.dumps(
        {"batch": {"ids": list(range(1, 102)), "vectors": [[1.0, 0.0, 0.0, 0.0]] * 101, "payloads": [{}] * 101}}
    ).encode(),
    "limits, a batch of 120 queries": json.dumps({"searches": [QUERY] * 120}).encode(),
}
"""Requests of which the recording holds the beginning or the length alone."""

DIFFERENT = {
    "limits, a batch of 120 queries": "the recorded answer is cut",
}
"""Exchanges whose answers are of another shape here, and why."""

KEYS = {
    "no key": None,
    "a wrong key": "wrong",
    "read-only key": "reads",
    "token rw": "writes photos",
    "token r": "reads photos",
    "a token for another collection": "writes others",
}
SERVERS = {
    "plain": {},
    "strict": {
        "strict_mode": {
            "enabled": True,
            "unindexed_filtering_retrieve": False,
            "unindexed_filtering_update": False,
        }
    },
    "limits": {
        "strict_mode": {
            "enabled": True,
            "max_query_limit": 100,
            "search_allow_exact": False,
            "upsert_max_batchsize": 100,
        }
    },
    "keyed": {
        "key": "everything",
        "read_only_key": "reads",
        "tokens": {
            "writes photos": {"photos": "rw"},
            "reads photos": {"photos": "r"},
            "writes others": {"others": "rw"},
        },
    },
}


def recorded(folder: Path) -> Iterator[dict[str, Any]]:
    for line in (folder / "qdrant-1.19" / "exchanges.jsonl").read_text("utf-8").splitlines():
        yield json.loads(line)


def shape(value: Any) -> Any:
    """Names and types, without the values, and without which points they are: equal scores have no order."""
    if isinstance(value, dict):
        return {name: name if name in {"id", "payload"} else shape(each) for name, each in value.items()}
    if isinstance(value, list):
        shapes = [shape(each) for each in value]
        return [each for at, each in enumerate(shapes) if each not in shapes[:at]]
    return type(value).__name__


def compared(status: int, kind: str | None, response: Any) -> tuple[int, str | None, Any, str | None]:
    """What must be equal: errors to the letter, but for the place in a body."""
    error = response["status"]["error"] if isinstance(response, dict) and status >= 400 else None
    said = response if isinstance(response, str) else error
    return status, kind, shape(response), said and re.sub(r" at line \d+ column \d+", "", said)


def asked(server: QdrantServer, exchange: dict[str, Any]) -> tuple[int, str | None, Any]:
    request, name = exchange["request"], exchange["name"]
    headers = {"Content-Type": "application/json"}
    key = KEYS.get(name.partition(":")[0], server.key)
    if key is not None:
        headers["api-key"] = key
    body = NOT_WHOLE.get(name, None if request is None else json.dumps(request).encode())
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    try:
        connection.request(exchange["method"], exchange["path"], body, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
    finally:
        connection.close()
    kind = answer.getheader("Content-Type")
    return answer.status, kind, json.loads(text) if kind == "application/json" else text


@pytest.mark.parametrize("setup", SERVERS)
def test_the_server_answers_as_a_real_one_did(setup: str, shared_data: Path) -> None:
    """Or the other tests would show how the store gets on with something that nobody runs."""
    with running() as server:
        server.version = "1.19.0"
        for name, value in SERVERS[setup].items():
            setattr(server, name, value)
        differing = {}
        for exchange in recorded(shared_data):
            if exchange["server"] == setup:
                expected = compared(exchange["status"], exchange["content_type"], exchange["response"])
                found = compared(*asked(server, exchange))
                if found != expected and exchange["name"] not in DIFFERENT:
                    differing[exchange["name"]] = (expected, found)
    assert differing == {}


def test_each_difference_is_of_an_exchange(shared_data: Path) -> None:
    names = {exchange["name"] for exchange in recorded(shared_data)}
    assert DIFFERENT.keys() | NOT_WHOLE.keys() <= names


STATES: dict[str, tuple[dict[str, Any], int, str]] = {
    "dimension": ({}, 400, "INVALID_ARGUMENT"),
    "key": ({"key": "everything"}, 401, "UNAUTHENTICATED"),
    "lock": ({"locked": "Write operations are forbidden"}, 403, "FAILED_PRECONDITION"),
    "quota": ({"full": True}, 507, "RESOURCE_EXHAUSTED"),
    "lost shard": ({"lost_shards": {0}}, 500, "INTERNAL"),
    "dead leader": ({"leaderless_shards": {0}}, 500, "INTERNAL"),
}


@pytest.mark.parametrize("state", STATES)
def test_both_protocols_refuse_in_the_same_words(state: str) -> None:
    """What one of them is refused, the other must not get."""
    settings, status, code = STATES[state]
    with running(grpc=True) as server:
        clients = [
            QdrantClient(url=server.url, grpc_port=server.grpc_port, prefer_grpc=grpc, check_compatibility=False)
            for grpc in (False, True)
        ]
        clients[0].create_collection("photos", models.VectorParams(size=2, distance=models.Distance.COSINE))
        for name, value in settings.items():
            setattr(server, name, value)
        vector = [1.0, 2.0, 3.0] if state == "dimension" else [1.0, 2.0]
        said = []
        for client in clients:
            with pytest.raises((UnexpectedResponse, RpcError)) as caught:
                client.upsert("photos", [models.PointStruct(id=1, vector=vector)])
            said.append(caught.value)
            client.close()
        rest, grpc = said
        assert isinstance(rest, UnexpectedResponse)
        assert rest.status_code == status
        assert grpc.code().name == code
        assert grpc.details() in rest.content.decode()


def test_peers_know_of_a_collection_one_after_the_other() -> None:
    """Behind a balancer, what one of them answered is news to the next."""
    with running(peers=3) as server:
        server.lag = 1
        client = QdrantClient(url=server.url, check_compatibility=False)
        client.create_collection("photos", models.VectorParams(size=2, distance=models.Distance.COSINE))
        seen = []
        for _ in range(9):
            try:
                seen.append(client.get_collection("photos").points_count)
            except UnexpectedResponse as error:
                seen.append(error.status_code)
        client.close()
        assert seen == [404, 404, 0, 500, 500, 0, 0, 0, 0]


def test_an_idle_connection_is_closed() -> None:
    with running() as server:
        server.idle_s = 0.2
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
        for _ in range(2):
            connection.request("GET", "/collections")
            connection.getresponse().read()
        assert connection.sock.recv(1) == b""
        connection.close()


@pytest.mark.parametrize("grpc", [False, True], ids=["rest", "grpc"])
def test_refusals_of_strict_mode_come_in_the_order_of_the_server(grpc: bool) -> None:
    """The limit, substrings, the sizes of filters, indexes, exactness, and the settings of a search."""
    with running(grpc=True) as server:
        client = QdrantClient(
            url=server.url, grpc_port=server.grpc_port, prefer_grpc=grpc, timeout=30, check_compatibility=False
        )
        client.create_collection("photos", models.VectorParams(size=4, distance=models.Distance.COSINE))
        client.create_payload_index("photos", "label", models.PayloadSchemaType.KEYWORD)
        limits = {"max_query_limit": 100, "filter_max_conditions": 2, "condition_max_size": 2}
        server.collections["photos"].strict_mode = {
            "enabled": True,
            "unindexed_filtering_retrieve": False,
            "search_allow_exact": False,
            **limits,
        }

        def refusal(limit: int = 3, group_by: str | None = None, exact: bool = True, **matches: Any) -> str:
            conditions: list[Any] = [models.FieldCondition(key=key, match=match) for key, match in matches.items()]
            params = models.SearchParams(exact=exact)
            asked: dict[str, Any] = {"query": [1.0, 0, 0, 0], "query_filter": models.Filter(must=conditions)}
            try:
                if group_by is None:
                    client.query_points("photos", limit=limit, search_params=params, **asked)
                else:
                    client.query_points_groups("photos", group_by, limit=limit, group_size=50, **asked)
            except (UnexpectedResponse, RpcError) as error:
                said = error.details() if grpc else json.loads(error.content)["status"]["error"]
                return str(said).removeprefix("Bad request: ").partition(". Help")[0]
            return ""

        substring, value = models.MatchSubstring(substring="a"), models.MatchValue(value="a")
        many, none = models.MatchAny(any=["a", "b", "c"]), models.MatchAny(any=[])
        assert refusal(limit=101, label=substring) == 'Limit exceeded 101 > 100 for "limit"'
        assert refusal(label=substring, a=many, b=many).startswith(
            'Substring matching is not allowed, used for "label"'
        )
        assert refusal(a=many, b=many, c=many) == "Filter condition limit reached (3 > 2)"
        assert refusal(a=many) == "Condition size limit reached (3 > 2)"
        assert refusal(a=value).startswith('Index required but not found for "a"')
        assert refusal(a=none) == "Exact search disabled!"
        assert refusal(a=none, exact=False) == ""
        assert refusal(group_by="label", limit=3) == 'Limit exceeded 150 > 100 for "limit"'
        assert refusal(group_by="a", limit=3) == 'Index required but not found for "a"'
        client.update_collection("photos", hnsw_config=models.HnswConfigDiff(m=0))
        assert refusal(exact=False).startswith("Request is forbidden because global vector indexing is disabled")
        client.close()
