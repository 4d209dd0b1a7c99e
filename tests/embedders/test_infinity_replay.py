"""The local server of infinity's dialect answers as a recorded one did, so that tests against it mean something."""

from __future__ import annotations

import base64
import io
import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from dialect_server import InfinityServer

_ITEMS = re.compile(r"\.\.\. (\d+) (items|numbers)")
_CHARACTERS = re.compile(r"(.*)\.\.\. (\d+) characters", re.DOTALL)


def whole(value: Any) -> Any:
    """A recorded request with its long values restored; an image that was cut becomes another one."""
    if isinstance(value, dict):
        return {name: whole(each) for name, each in value.items()}
    if isinstance(value, list):
        if value and isinstance(value[-1], str) and (cut := _ITEMS.fullmatch(value[-1])):
            return [whole(value[number % (len(value) - 1)]) for number in range(int(cut[1]))]
        return [whole(each) for each in value]
    if isinstance(value, str) and (cut := _CHARACTERS.fullmatch(value)):
        if value.startswith("data:image"):
            return an_image()
        return (cut[1] * int(cut[2]))[: int(cut[2])]
    return value


def an_image() -> str:
    file = io.BytesIO()
    PIL.Image.new("RGB", (40, 30), (200, 30, 30)).save(file, "JPEG")
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def shape(value: Any) -> Any:
    """An answer without what differs between models, machines and moments: numbers, ids, times, addresses."""
    if isinstance(value, dict):
        return {
            name: "…" if name in ("input", "id", "created", "unix") else shape(each) for name, each in value.items()
        }
    if isinstance(value, list):
        if value and isinstance(value[-1], str) and (cut := _ITEMS.fullmatch(value[-1])):
            return [shape(value[0]), int(cut[1])]
        if len(value) > 4:
            return [shape(value[0]), len(value)]
        return [shape(each) for each in value]
    if isinstance(value, str) and "infinity_emb" not in value and "Error" not in value and len(value) > 60:
        return "a long text"
    if isinstance(value, str):
        return re.sub(r"0x[0-9a-f]+", "0x", value)[:120]
    return type(value).__name__


def exchanges(shared_data: Path) -> list[dict[str, Any]]:
    lines = (shared_data / "infinity-0.0.78" / "exchanges.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def answered(server: InfinityServer, path: str, request: Any, token: str) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    data = None if request is None else json.dumps(request).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{server.url}{path}", data, headers)) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.parametrize("number", range(25))
def test_the_local_server_answers_as_infinity_does(shared_data: Path, number: int) -> None:
    recorded = exchanges(shared_data)
    assert len(recorded) == 25
    each = recorded[number]
    with InfinityServer(dimension=24) as server:
        token = "wrong" if each["name"] == "a wrong key" else server.token
        status, answer = answered(server, each["path"], whole(each["request"]), token)
    assert status == each["status"], each["name"]
    given = shape(each["response"])
    assert shape(answer) == given, each["name"]
