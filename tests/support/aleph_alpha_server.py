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
import json
import re
import subprocess
import sys
import urllib.request
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import PIL.Image
from aiohttp import web
from faulty_server import MANGLERS, TOKEN, Fault, FaultyServer, Received, RefusedError, cut

Vector = npt.NDArray[np.float64]


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
class ReceivedPrompts(Received):
    """One POST request."""

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


class AlephAlphaServer(FaultyServer):
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
        super().__init__(
            token=token, latency_s=latency_s, max_in_flight=max_in_flight, prefix=prefix, certificate=certificate
        )
        self.compute = compute
        self.requests: list[ReceivedPrompts] = []
        """Every POST to an embedding endpoint, in the order of arrival."""
        self.model_version = "2022-04"
        self._elsewhere = subprocess
        self._process: Any = None
        self._stats = Stats()

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
        if not self._elsewhere:
            return super().__enter__()
        self._start_process()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            super().__exit__()
            return
        self._process.terminate()
        self._process.wait(10)
        self._process.stdout.close()

    def _start_process(self) -> None:
        command = [sys.executable, __file__, "--token", self.token, "--compute", self.compute, "--prefix", self._prefix]
        command += ["--latency-s", str(self.latency_s)]
        command += [] if self.max_in_flight is None else ["--max-in-flight", str(self.max_in_flight)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError("the local server's process has not started")

    def _add_routes(self, app: web.Application) -> None:
        app.router.add_get(f"{self._prefix}/version", self._version)
        app.router.add_get(f"{self._prefix}/models_available", self._models_available)
        app.router.add_get(f"{self._prefix}/_stats", self._answer_stats)
        app.router.add_post(f"{self._prefix}/semantic_embed", self._embed)
        app.router.add_post(f"{self._prefix}/batch_semantic_embed", self._embed)

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

    async def _answer(self, request: web.Request, raw: bytes, number: int) -> web.StreamResponse:
        is_batch = request.path.endswith("/batch_semantic_embed")
        try:
            body = json.loads(raw)
        except ValueError:
            raise RefusedError(400, "the body is no JSON") from None
        prompts = body.get("prompts", [None]) if isinstance(body, dict) else []
        if not self._elsewhere:
            query, headers = dict(request.query), dict(request.headers)
            self.requests.append(ReceivedPrompts(number, request.path, query, headers, body, len(raw)))
        seen = self._stats
        self._stats = Stats(
            seen.requests + 1,
            seen.prompts + len(prompts),
            seen.bytes + len(raw),
            max(seen.most_in_flight, self._in_flight),
        )
        fault = self._fault(number) or self._poisoned(body)
        kind = "" if fault is None else fault.kind
        if (answer := await self._misbehaved(request, fault)) is not None:
            return answer
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            raise RefusedError(401, "Invalid or missing token", "UNAUTHORIZED")
        if request.content_type != "application/json":
            raise RefusedError(415, "the body must be application/json")
        if dict(request.query) not in ({}, {"nice": "true"}):
            raise RefusedError(400, f"unknown query parameters in {request.query_string}")
        model, prompts = _validated(body, is_batch=is_batch)
        rows, tokens = self._vectors(model, prompts, body)
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        if kind in MANGLERS:
            at = self._poisoned_at(body)
            rows = (
                MANGLERS[kind](rows)
                if at is None
                else [*rows[:at], *MANGLERS[kind](rows[at : at + 1]), *rows[at + 1 :]]
            )
        embedded = {"embeddings": rows} if is_batch else {"embedding": rows[0] if rows else []}
        told = {"model_version": self.model_version, **embedded, "num_tokens_prompt_total": tokens}
        text = json.dumps(told)
        if kind in ("cut", "cut_chunked"):
            return await cut(request, text.encode(), chunked=kind == "cut_chunked")
        return web.Response(text=text, content_type="application/json")

    def _poisoned_at(self, body: dict[str, Any]) -> int | None:
        prompts = [body["prompt"]] if "prompt" in body else body.get("prompts", [])
        held = [any(item["data"] in self.poison for item in prompt) for prompt in prompts]
        return held.index(True) if True in held else None

    def _poisoned(self, body: dict[str, Any]) -> Fault | None:
        at = self._poisoned_at(body) if self.poison else None
        if at is None:
            return None
        data = [body["prompt"], *body.get("prompts", [])] if "prompt" in body else body["prompts"]
        kind = next(self.poison[item["data"]] for prompt in data for item in prompt if item["data"] in self.poison)
        status, _, text = kind.partition(" ")
        return Fault("answer", None, 1, int(status), text) if status.isdigit() else Fault(kind, None, 1)

    def _vectors(self, model: Model, prompts: Sequence[Any], body: dict[str, Any]) -> tuple[list[Any], int]:
        rows: list[list[float]] = []
        tokens = 0
        for prompt in prompts:
            items = [{"type": "text", "data": prompt}] if isinstance(prompt, str) else prompt
            if any(item["data"] in self.bad_prompts for item in items):
                raise RefusedError(400, "a prompt cannot be processed", "INVALID_PROMPT")
            length = sum(144 if item["type"] == "image" else len(item["data"].split()) for item in items)
            if length > model.context:
                raise RefusedError(400, f"prompt of {length} tokens is longer than {model.context}", "PROMPT_TOO_LONG")
            if not model.images and any(item["type"] == "image" for item in items):
                raise RefusedError(400, f"{body['model']} takes no images", "UNSUPPORTED")
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
            raise RefusedError(400, f"image cannot be decoded: {error}", "INVALID_IMAGE") from None
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
        raise RefusedError(400, f"image cannot be decoded: {error}", "INVALID_IMAGE") from None
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
        raise RefusedError(400, "the body must be an object")
    field_name = "prompts" if is_batch else "prompt"
    required = {field_name, "representation", "model"}
    if missing := required - body.keys():
        raise RefusedError(400, f"missing field {min(missing)}")
    if unknown := body.keys() - required - _OPTIONAL.keys():
        raise RefusedError(400, f"unknown field {min(unknown)}")
    for name, is_valid in _OPTIONAL.items():
        if name in body and not is_valid(body[name]):
            raise RefusedError(400, f"invalid {name}")
    if body["model"] not in MODELS:
        raise RefusedError(400, f"unknown model {body['model']}", "UNKNOWN_MODEL")
    if body["representation"] not in ("symmetric", "document", "query"):
        raise RefusedError(400, "invalid representation")
    prompts = body["prompts"] if is_batch else [body["prompt"]]
    if not isinstance(prompts, list) or not 1 <= len(prompts) <= 100:
        raise RefusedError(400, "prompts must be 1 to 100")
    for prompt in prompts:
        _validate_prompt(prompt)
    return MODELS[body["model"]], prompts


def _validate_prompt(prompt: Any) -> None:
    if isinstance(prompt, str):
        prompt = [{"type": "text", "data": prompt}]
    if not isinstance(prompt, list) or not prompt:
        raise RefusedError(400, "a prompt must be a list of items")
    for item in prompt:
        if not isinstance(item, dict) or item.get("type") not in _ITEM_FIELDS:
            raise RefusedError(400, "an item must be of type text or image")
        if item.keys() - _ITEM_FIELDS[item["type"]]:
            raise RefusedError(400, "an item has unknown fields")
        if not isinstance(item.get("data"), str) or not item["data"]:
            raise RefusedError(400, "an item has no data")
        if not isinstance(item.get("controls", []), list):
            raise RefusedError(400, "controls must be a list")
        crop = [item[name] for name in ("x", "y", "size") if name in item]
        if len(crop) not in (0, 3) or not all(isinstance(value, int) for value in crop):
            raise RefusedError(400, "x, y and size belong together")


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
