"""A local server that speaks Aleph Alpha's semantic embedding API strictly, and misbehaves on command.

It refuses everything that the real service would refuse or that no documentation names, so that the official client
talking to it through this library shows what really goes over the wire. Vectors are deterministic, not of unit length,
and mean something: images and texts lie close together where they are of like colour ("rot", a red square). The full
sizes of models other than luminous-base are made up.

Run as a script it serves in a process of its own, for benchmarks; `AlephAlphaServer(subprocess=True)` does that.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import hashlib
import itertools
import json
import re
import socket
import ssl
import struct
import subprocess
import sys
import threading
import urllib.request
import zlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import PIL.Image
from aiohttp import web

Vector = npt.NDArray[np.float64]
Kind = Literal[
    "reset", "hang", "drip", "drip_headers", "cut", "cut_chunked", "one_too_few", "one_too_many", "wrong_dimension",
    "ragged", "nan", "infinity", "not_numbers",
]  # fmt: skip

TOKEN = "aa-test-token/with+signs=="


@dataclass(frozen=True)
class Model:
    """What the server knows of a model; `size` is the length of its uncompressed vectors."""

    size: int
    images: bool
    context: int = 2048


MODELS = {
    "luminous-base": Model(5120, images=True),
    "luminous-extended": Model(6144, images=True),
    "luminous-supreme": Model(7168, images=False),
}

COLOURS: dict[str, tuple[tuple[int, int, int], str]] = {
    "red": ((215, 35, 35), "red rot rouge rosso rojo roja rote roter rotes"),
    "orange": ((240, 140, 30), "orange arancione naranja"),
    "yellow": ((240, 220, 50), "yellow gelb jaune giallo amarillo gelbe gelbes"),
    "green": ((50, 150, 60), "green grün vert verde grass gras wiese grüne grünes forest wald"),
    "blue": ((50, 90, 200), "blue blau bleu blu azul blaue blaues sky himmel sea meer ocean water wasser surfing"),
    "purple": ((130, 50, 150), "purple lila violet viola morado"),
    "pink": ((240, 150, 190), "pink rosa rose"),
    "brown": ((120, 80, 45), "brown braun marron marrone marrón earth erde wood holz"),
    "black": ((15, 15, 15), "black schwarz noir nero negro night nacht"),
    "white": ((245, 245, 245), "white weiß blanc bianco blanco snow schnee"),
    "grey": ((128, 128, 128), "grey gray grau gris grigio"),
}
_PALETTE = np.array([rgb for rgb, _ in COLOURS.values()], dtype=np.float64)
_WORDS = {word: index for index, (_, words) in enumerate(COLOURS.values()) for word in words.split()}


@dataclass(frozen=True)
class Received:
    """One POST request as it arrived; `number` counts from 1."""

    number: int
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any
    size_bytes: int

    @property
    def prompts(self) -> list[list[dict[str, Any]]]:
        """The prompts in it, one for `/semantic_embed`."""
        return [self.body["prompt"]] if "prompt" in self.body else list(self.body["prompts"])


@dataclass(frozen=True)
class Stats:
    """What has arrived until now."""

    requests: int = 0
    prompts: int = 0
    bytes: int = 0
    most_in_flight: int = 0


class _RefusedError(Exception):
    def __init__(self, status: int, message: str, code: str = "BAD_REQUEST") -> None:
        super().__init__(message)
        self.status = status
        self.body = json.dumps({"error": message, "code": code})


@dataclass
class _Fault:
    kind: str
    at: Collection[int] | None
    left: float
    status: int = 200
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def strikes(self, number: int) -> bool:
        if self.left <= 0 or (self.at is not None and number not in self.at):
            return False
        self.left -= 1
        return True


class AlephAlphaServer:
    """Serves on a free loopback port inside a `with` block.

    Args:
        token: The only token it accepts.
        latency_s: Seconds that every embedding takes, on top of its computation.
        compute: `"colour"` decodes images and looks at them; `"hash"` looks at bytes only, which is cheap.
        max_in_flight: From this many embedding requests at once on, further ones get 429.
        prefix: A path below which the API lives, such as `/v1`.
        certificate: Files of a certificate and its key: serve https.
        subprocess: Serve from another process: only `url`, `token` and `stats` work then.
    """

    def __init__(
        self,
        *,
        token: str = TOKEN,
        latency_s: float = 0.0,
        compute: Literal["colour", "hash"] = "colour",
        max_in_flight: int | None = None,
        prefix: str = "",
        certificate: tuple[str, str] | None = None,
        subprocess: bool = False,
    ) -> None:
        self.token = token
        self.latency_s = latency_s
        self.compute = compute
        self.max_in_flight = max_in_flight
        self.url = ""
        self.requests: list[Received] = []
        """Every POST to an embedding endpoint, in the order of arrival."""
        self.bad_prompts: set[str] = set()
        """Texts and base64 images whose whole request gets 400."""
        self.poison: dict[str, str] = {}
        """What to do, always, to requests that hold a text or base64 image: a kind, or a status and a body."""
        self.model_version = "2022-04"
        self._prefix = prefix
        self._certificate = certificate
        self._elsewhere = subprocess
        self._process: Any = None
        self._faults: list[_Fault] = []
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._in_flight = 0
        self._stats = Stats()

    # -- for tests -----------------------------------------------------------------------------------------------------

    def misbehave(self, kind: Kind, *, times: float = float("inf"), at: Collection[int] | None = None) -> None:
        """From now on do this to embedding requests: `times` times, or to those whose number is in `at`."""
        with self._lock:
            self._faults.append(_Fault(kind, at, times))

    def answer_with(
        self,
        status: int,
        body: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        times: float = float("inf"),
        at: Collection[int] | None = None,
    ) -> None:
        """From now on answer embedding requests so, before looking at them."""
        with self._lock:
            self._faults.append(_Fault("answer", at, times, status, body, headers or {}))

    def queue_full(self, *, times: float = float("inf")) -> None:
        """From now on be overloaded as the service documents it."""
        self.answer_with(503, '{"error": "Sorry we had to reject your request", "code": "QUEUE_FULL"}', times=times)

    def behave(self) -> None:
        """Forget every misbehaviour."""
        with self._lock:
            self._faults.clear()
            self.bad_prompts.clear()
            self.poison.clear()
            self.max_in_flight = None

    def stats(self) -> Stats:
        """What has arrived until now."""
        if not self._elsewhere:
            return self._stats
        with urllib.request.urlopen(f"{self.url}/_stats") as answer:
            return Stats(**json.load(answer))

    @property
    def most_in_flight(self) -> int:
        """Most embedding requests that were in flight at once."""
        return self.stats().most_in_flight

    # -- life ----------------------------------------------------------------------------------------------------------

    def __enter__(self) -> AlephAlphaServer:
        if self._elsewhere:
            self._start_process()
        else:
            started = threading.Event()
            self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)), daemon=True)
            self._thread.start()
            if not started.wait(10):
                raise RuntimeError("the local server has not started")
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process.stdout.close()
        else:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)

    def _start_process(self) -> None:
        command = [sys.executable, __file__, "--token", self.token, "--compute", self.compute, "--prefix", self._prefix]
        command += ["--latency-s", str(self.latency_s)]
        command += [] if self.max_in_flight is None else ["--max-in-flight", str(self.max_in_flight)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError("the local server's process has not started")

    async def _serve(self, started: threading.Event | None = None) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=200_000_000)
        app.router.add_get(f"{self._prefix}/version", self._version)
        app.router.add_get(f"{self._prefix}/models_available", self._models_available)
        app.router.add_get(f"{self._prefix}/_stats", self._answer_stats)
        app.router.add_post(f"{self._prefix}/semantic_embed", self._embed)
        app.router.add_post(f"{self._prefix}/batch_semantic_embed", self._embed)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        tls = None
        if self._certificate is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(*self._certificate)
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=512, ssl_context=tls)
        await site.start()
        port = runner.addresses[0][1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}{self._prefix}"
        if started is None:
            print(self.url, flush=True)  # noqa: T201 (the parent process reads it)
        else:
            started.set()
        await self._stop.wait()
        await runner.cleanup()

    # -- endpoints -----------------------------------------------------------------------------------------------------

    async def _version(self, _: web.Request) -> web.Response:
        return web.Response(text="4.7.0", content_type="text/plain")

    async def _answer_stats(self, _: web.Request) -> web.Response:
        return web.json_response(asdict(self._stats))

    async def _models_available(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.Response(status=401)
        kinds = [f"{kind}{size}" for kind in ("symmetric", "document", "query") for size in ("", "_128")]
        return web.json_response(
            [
                {
                    "name": name,
                    "image_support": model.images,
                    "embedding_types": kinds,
                    "max_context_size": model.context,
                }
                for name, model in MODELS.items()
            ]
        )

    async def _embed(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        number = next(self._numbers)
        self._in_flight += 1
        try:
            return await self._answer(request, raw, number)
        except _RefusedError as refusal:
            return web.Response(status=refusal.status, text=refusal.body, content_type="application/json")
        finally:
            self._in_flight -= 1

    async def _answer(self, request: web.Request, raw: bytes, number: int) -> web.StreamResponse:
        is_batch = request.path.endswith("/batch_semantic_embed")
        try:
            body = json.loads(raw)
        except ValueError:
            raise _RefusedError(400, "the body is no JSON") from None
        prompts = body.get("prompts", [None]) if isinstance(body, dict) else []
        if not self._elsewhere:
            query, headers = dict(request.query), dict(request.headers)
            self.requests.append(Received(number, request.path, query, headers, body, len(raw)))
        seen = self._stats
        self._stats = Stats(
            seen.requests + 1,
            seen.prompts + len(prompts),
            seen.bytes + len(raw),
            max(seen.most_in_flight, self._in_flight),
        )
        with self._lock:
            fault = next((fault for fault in self._faults if fault.strikes(number)), None)
            if fault is None:
                fault = self._poisoned(body)
        kind = "" if fault is None else fault.kind
        if fault is not None and kind == "answer":
            shown = fault.body.replace("{authorization}", request.headers.get("Authorization", ""))
            return web.Response(status=fault.status, text=shown, headers=fault.headers)
        if kind in _BREAKERS:
            return await _BREAKERS[kind](request, self._stop)
        if self.max_in_flight is not None and self._in_flight > self.max_in_flight:
            return web.Response(status=429, text="Too many requests in parallel")
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            raise _RefusedError(401, "Invalid or missing token", "UNAUTHORIZED")
        if request.content_type != "application/json":
            raise _RefusedError(415, "the body must be application/json")
        if dict(request.query) not in ({}, {"nice": "true"}):
            raise _RefusedError(400, f"unknown query parameters in {request.query_string}")
        model, prompts = _validated(body, is_batch=is_batch)
        rows, tokens = self._vectors(model, prompts, body)
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        if kind in _MANGLERS:
            at = self._poisoned_at(body)
            rows = (
                _MANGLERS[kind](rows)
                if at is None
                else [*rows[:at], *_MANGLERS[kind](rows[at : at + 1]), *rows[at + 1 :]]
            )
        embedded = {"embeddings": rows} if is_batch else {"embedding": rows[0] if rows else []}
        answer = {"model_version": self.model_version, **embedded, "num_tokens_prompt_total": tokens}
        text = json.dumps(answer)
        if kind in ("cut", "cut_chunked"):
            return await _cut(request, text.encode(), chunked=kind == "cut_chunked")
        return web.Response(text=text, content_type="application/json")

    def _poisoned_at(self, body: dict[str, Any]) -> int | None:
        prompts = [body["prompt"]] if "prompt" in body else body.get("prompts", [])
        held = [any(item["data"] in self.poison for item in prompt) for prompt in prompts]
        return held.index(True) if True in held else None

    def _poisoned(self, body: dict[str, Any]) -> _Fault | None:
        at = self._poisoned_at(body) if self.poison else None
        if at is None:
            return None
        data = [body["prompt"], *body.get("prompts", [])] if "prompt" in body else body["prompts"]
        kind = next(self.poison[item["data"]] for prompt in data for item in prompt if item["data"] in self.poison)
        status, _, text = kind.partition(" ")
        return _Fault("answer", None, 1, int(status), text) if status.isdigit() else _Fault(kind, None, 1)

    def _vectors(self, model: Model, prompts: Sequence[Any], body: dict[str, Any]) -> tuple[list[Any], int]:
        rows: list[list[float]] = []
        tokens = 0
        for prompt in prompts:
            items = [{"type": "text", "data": prompt}] if isinstance(prompt, str) else prompt
            if any(item["data"] in self.bad_prompts for item in items):
                raise _RefusedError(400, "a prompt cannot be processed", "INVALID_PROMPT")
            length = sum(144 if item["type"] == "image" else len(item["data"].split()) for item in items)
            if length > model.context:
                raise _RefusedError(400, f"prompt of {length} tokens is longer than {model.context}", "PROMPT_TOO_LONG")
            if not model.images and any(item["type"] == "image" for item in items):
                raise _RefusedError(400, f"{body['model']} takes no images", "UNSUPPORTED")
            tokens += length
            vector = np.sum([self._vector(item) for item in items], axis=0)
            # A query and its document stay close, but are not the same.
            vector[127] += {"symmetric": 0.0, "document": 0.1, "query": -0.1}[body["representation"]]
            if body.get("compress_to_size") is None:
                vector = np.concatenate([vector, np.zeros(model.size - 128)])
            if body.get("normalize", False):
                vector = vector / np.linalg.norm(vector)
            rows.append(np.round(vector, 6).tolist())
        return rows, tokens

    def _vector(self, item: dict[str, Any]) -> Vector:
        if self.compute == "hash":
            digest = hashlib.blake2b(item["data"].encode()).digest()
            return (np.frombuffer(digest * 2, dtype=np.uint8) - 127.5) / 40
        return image_vector(item["data"]) if item["type"] == "image" else text_vector(item["data"])


# -- what contents mean ------------------------------------------------------------------------------------------------


def text_vector(text: str) -> Vector:
    """128 numbers: one for each colour that the words name, the others for words without colour."""
    vector = np.zeros(128)
    for word in re.findall(r"\w+", text.lower()):
        if word in _WORDS:
            vector[_WORDS[word]] += 3.0
        else:
            vector[16 + zlib.crc32(word.encode()) % 96] += 1.0
    if not vector.any():
        vector[126] = 1.0
    return vector


def image_vector(encoded: str) -> Vector:
    """128 numbers: one for the share of each colour in the middle square of a base64 image."""
    vector = np.zeros(128)
    with _opened(encoded) as image:
        width, height = image.size
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        try:
            small = image.convert("RGB").resize((16, 16), box=(left, top, left + side, top + side))
        except OSError as error:
            raise _RefusedError(400, f"image cannot be decoded: {error}", "INVALID_IMAGE") from None
    pixels = np.asarray(small, dtype=np.float64).reshape(-1, 1, 3)
    nearest = ((pixels - _PALETTE) ** 2).sum(axis=2).argmin(axis=1)
    vector[: len(_PALETTE)] = 4.0 * np.bincount(nearest, minlength=len(_PALETTE)) / len(nearest)
    # A little of where it is bright, which no word names, so that no two photos are the same.
    bright = pixels.mean(axis=2).reshape(4, 4, 4, 4).mean(axis=(1, 3)).ravel()[:14] / 255
    vector[112:126] = 0.3 * (bright - bright.mean())
    return vector


def _opened(encoded: str) -> PIL.Image.Image:
    try:
        image = PIL.Image.open(BytesIO(base64.b64decode(encoded, validate=True)))
    except (binascii.Error, OSError) as error:
        raise _RefusedError(400, f"image cannot be decoded: {error}", "INVALID_IMAGE") from None
    image.draft("RGB", (64, 64))
    return image


# -- what the service accepts ------------------------------------------------------------------------------------------

_NUMBER = (int, float)
_OPTIONAL: dict[str, Callable[[Any], bool]] = {
    "compress_to_size": lambda value: value is None or (value == 128 and not isinstance(value, bool)),
    "normalize": lambda value: isinstance(value, bool),
    "contextual_control_threshold": lambda value: value is None or isinstance(value, _NUMBER),
    "control_log_additive": lambda value: value is None or isinstance(value, bool),
    "hosting": lambda value: value in (None, "aleph-alpha"),
}
_ITEM_FIELDS = {"text": {"type", "data", "controls"}, "image": {"type", "data", "controls", "x", "y", "size"}}


def _validated(body: Any, *, is_batch: bool) -> tuple[Model, list[Any]]:
    if not isinstance(body, dict):
        raise _RefusedError(400, "the body must be an object")
    field_name = "prompts" if is_batch else "prompt"
    required = {field_name, "representation", "model"}
    if missing := required - body.keys():
        raise _RefusedError(400, f"missing field {min(missing)}")
    if unknown := body.keys() - required - _OPTIONAL.keys():
        raise _RefusedError(400, f"unknown field {min(unknown)}")
    for name, is_valid in _OPTIONAL.items():
        if name in body and not is_valid(body[name]):
            raise _RefusedError(400, f"invalid {name}")
    if body["model"] not in MODELS:
        raise _RefusedError(400, f"unknown model {body['model']}", "UNKNOWN_MODEL")
    if body["representation"] not in ("symmetric", "document", "query"):
        raise _RefusedError(400, "invalid representation")
    prompts = body["prompts"] if is_batch else [body["prompt"]]
    if not isinstance(prompts, list) or not 1 <= len(prompts) <= 100:
        raise _RefusedError(400, "prompts must be 1 to 100")
    for prompt in prompts:
        _validate_prompt(prompt)
    return MODELS[body["model"]], prompts


def _validate_prompt(prompt: Any) -> None:
    if isinstance(prompt, str):
        prompt = [{"type": "text", "data": prompt}]
    if not isinstance(prompt, list) or not prompt:
        raise _RefusedError(400, "a prompt must be a list of items")
    for item in prompt:
        if not isinstance(item, dict) or item.get("type") not in _ITEM_FIELDS:
            raise _RefusedError(400, "an item must be of type text or image")
        if item.keys() - _ITEM_FIELDS[item["type"]]:
            raise _RefusedError(400, "an item has unknown fields")
        if not isinstance(item.get("data"), str) or not item["data"]:
            raise _RefusedError(400, "an item has no data")
        if not isinstance(item.get("controls", []), list):
            raise _RefusedError(400, "controls must be a list")
        crop = [item[name] for name in ("x", "y", "size") if name in item]
        if len(crop) not in (0, 3) or not all(isinstance(value, int) for value in crop):
            raise _RefusedError(400, "x, y and size belong together")


# -- misbehaviour ------------------------------------------------------------------------------------------------------

_MANGLERS: dict[str, Callable[[list[Any]], list[Any]]] = {
    "one_too_few": lambda rows: rows[:-1],
    "one_too_many": lambda rows: [*rows, rows[0]],
    "wrong_dimension": lambda rows: [row[:-1] for row in rows],
    "ragged": lambda rows: [rows[0][:-1], *rows[1:]],
    "nan": lambda rows: [*rows[:-1], [float("nan"), *rows[-1][1:]]],
    "infinity": lambda rows: [*rows[:-1], [1e300, *rows[-1][1:]]],
    "not_numbers": lambda rows: [["x"] * len(row) for row in rows],
}


async def _reset(request: web.Request, _: asyncio.Event) -> web.StreamResponse:
    transport = request.transport
    assert transport is not None
    # Without lingering, closing sends RST instead of FIN.
    linger = struct.pack("ii", 1, 0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()
    return web.Response()


async def _hang(_: web.Request, stop: asyncio.Event) -> web.StreamResponse:
    await stop.wait()
    return web.Response(status=503)


async def _drip(request: web.Request, stop: asyncio.Event) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    while not stop.is_set() and request.transport is not None and not request.transport.is_closing():
        await response.write(b" ")  # JSON may begin with any amount of white space
        await asyncio.sleep(0.02)
    return response


async def _drip_headers(request: web.Request, stop: asyncio.Event) -> web.StreamResponse:
    transport = request.transport
    assert transport is not None
    transport.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not stop.is_set() and not transport.is_closing():
        transport.write(b"z")
        await asyncio.sleep(0.02)
    transport.abort()
    return web.Response()


async def _cut(request: web.Request, body: bytes, *, chunked: bool) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    if chunked:
        response.enable_chunked_encoding()
    else:
        response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    await asyncio.sleep(0.01)
    if request.transport is not None:
        request.transport.close()
    return response


_BREAKERS: dict[str, Callable[[web.Request, asyncio.Event], Awaitable[web.StreamResponse]]] = {
    "reset": _reset,
    "hang": _hang,
    "drip": _drip,
    "drip_headers": _drip_headers,
}


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--token", default=TOKEN)
    parser.add_argument("--latency-s", type=float, default=0.0)
    parser.add_argument("--compute", choices=("colour", "hash"), default="colour")
    parser.add_argument("--max-in-flight", type=int)
    parser.add_argument("--prefix", default="")
    arguments = parser.parse_args()
    server = AlephAlphaServer(
        token=arguments.token,
        latency_s=arguments.latency_s,
        compute=arguments.compute,
        max_in_flight=arguments.max_in_flight,
        prefix=arguments.prefix,
    )
    server._elsewhere = True  # keep no bodies
    asyncio.run(server._serve())


if __name__ == "__main__":
    _main()
