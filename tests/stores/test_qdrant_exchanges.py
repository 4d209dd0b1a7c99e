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
