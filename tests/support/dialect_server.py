"""Local servers that speak the five dialects of `HttpEmbedder` strictly, and misbehave on command.

Each is written from its vendor's pages and refuses unknown fields, wrong types and batches that are too large; that of
infinity answers as a recorded server 0.0.78 does, which a test holds it to.

    cohere       https://docs.cohere.com/reference/embed
    cohere, vllm https://docs.vllm.ai/en/latest/serving/openai_compatible_server/
    openai-chat  https://docs.vllm.ai/en/latest/models/pooling_models/
    infinity     https://github.com/michaelfeil/infinity, run and recorded
    jina         https://api.jina.ai/redoc#tag/embeddings
    voyage       https://docs.voyageai.com/reference/multimodal-embeddings-api

Vectors mean what those of `aleph_alpha_server` do: images and texts of like colour lie close together.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import json
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import numpy as np
from aiohttp import web
from aleph_alpha_server import Vector, image_vector, text_vector
from faulty_server import MANGLERS, FaultyServer, Received, RefusedError, cut

Part = tuple[str, str]
"""`"text"` and a text, or `"image"` and base64."""


@functools.cache
def _projection(dimension: int) -> Vector:
    return np.random.default_rng(0).standard_normal((128, dimension)) / np.sqrt(dimension)


class DialectServer(FaultyServer):
    """Serves one model.

    Args:
        dimension: Of the model's vectors, which have unit length.
        matryoshka: Whether they may be cut; they are not normalized again.
        prompts: The `input_type`s, tasks or instructions that the model knows.
        settings: As for `FaultyServer`.
    """

    dialect: ClassVar[str]
    path: ClassVar[str]
    model: ClassVar[str] = "tiny"

    def __init__(
        self, *, dimension: int = 64, matryoshka: bool = True, prompts: Collection[str] | None = None, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.dimension = dimension
        self.matryoshka = matryoshka
        self.prompts = self.own_prompts if prompts is None else prompts
        self.requests: list[Received] = []
        """Every POST to the embedding endpoint, in the order of arrival."""
        self.contents: list[list[list[Part]]] = []
        """What each of those that were understood held."""
        self.most_in_flight = 0

    own_prompts: ClassVar[Collection[str]] = ()
    undecodable: ClassVar[str] = "an image cannot be decoded"

    def _understood(self, body: dict[str, Any]) -> tuple[list[list[Part]], str, int | None]:
        """The contents, the prompt and the dimensions of a request."""
        raise NotImplementedError

    def _reply(self, rows: list[Any], contents: list[list[Part]], body: dict[str, Any]) -> dict[str, Any]:
        usage = {"prompt_tokens": len(contents), "total_tokens": len(contents)}
        return {"object": "list", "data": _listed(rows), "model": self.model, "usage": usage}

    def _refusal(self, status: int, message: str) -> Any:
        return {"detail": message}

    def _add_routes(self, app: web.Application) -> None:
        app.router.add_post(f"{self._prefix}{self.path}", self._embed)
        app.router.add_get(f"{self._prefix}/v1/models", self._models)

    async def _models(self, request: web.Request) -> web.Response:
        self._check_token(request)
        return web.json_response({"object": "list", "data": [{"id": self.model, "object": "model"}]})

    def _check_token(self, request: web.Request) -> None:
        if request.headers.get("Authorization") != (f"Bearer {self.token}" if self.token else None):
            raise web.HTTPUnauthorized(text=json.dumps(self._refusal(401, "Unauthorized")))

    async def _answer(self, request: web.Request, raw: bytes, number: int) -> web.StreamResponse:
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        body = json.loads(raw)
        self.requests.append(Received(number, request.path, dict(request.query), dict(request.headers), body, len(raw)))
        fault = self._fault(number)
        if (misbehaved := await self._misbehaved(request, fault)) is not None:
            return misbehaved
        try:
            self._check_token(request)
            _check(request.content_type == "application/json" and not request.query, "the body must be JSON")
            contents, prompt, dimensions = self._understood(body)
            held = {part[1] for parts in contents for part in parts}
            _check(not held & self.bad_prompts, "an input cannot be processed")
            self.contents.append(contents)
            rows: list[Any] = [self._vector(parts, prompt, dimensions) for parts in contents]
        except Refused as refusal:
            refused = refusal.whole or self._refusal(refusal.status, str(refusal))
            return web.json_response(refused, status=refusal.status)
        except RefusedError:
            return web.json_response(self._refusal(400, self.undecodable), status=400)
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        kind = "" if fault is None else fault.kind
        if kind in MANGLERS:
            rows = MANGLERS[kind](rows)
        told = self._reply(rows, contents, body)
        if kind == "shuffled":
            told["data"].reverse()
        if kind == "misnumbered":
            told["data"][-1]["index"] = 0
        text = json.dumps(told)
        if kind in ("cut", "cut_chunked"):
            return await cut(request, text.encode(), chunked=kind == "cut_chunked")
        return web.Response(text=text, content_type="application/json")

    def _vector(self, parts: list[Part], prompt: str, dimensions: int | None) -> list[float]:
        whole = np.sum([image_vector(held) if kind == "image" else text_vector(held) for kind, held in parts], axis=0)
        if prompt:
            whole[127] += sum(map(ord, prompt)) / 1e4
        vector = whole @ _projection(self.dimension)
        vector /= np.linalg.norm(vector)
        return [float(number) for number in np.round(vector, 6)[:dimensions]]

    def _cut_to(self, dimensions: Any) -> int | None:
        if dimensions is None:
            return None
        _check(isinstance(dimensions, int) and not isinstance(dimensions, bool), "dimensions must be an integer")
        if not self.matryoshka:
            raise Refused(400, f'Model "{self.model}" does not support matryoshka representation')
        _check(1 <= dimensions <= self.dimension, f"dimensions must be from 1 to {self.dimension}")
        return int(dimensions)

    def _check_model(self, body: dict[str, Any]) -> None:
        if body["model"] != self.model:
            raise Refused(404, f"The model `{body['model']}` does not exist.")


class Refused(Exception):  # noqa: N818 (an answer)
    """A request that the service refuses; `whole` is the body if it is not the usual one."""

    def __init__(self, status: int, message: str, whole: Any = None) -> None:
        super().__init__(message)
        self.status = status
        self.whole = whole


class CohereServer(DialectServer):
    """Cohere's own: an input type is required, and there is no list of models."""

    dialect, path = "cohere", "/v2/embed"
    own_prompts = ("search_document", "search_query", "classification", "clustering", "image")
    needs_prompt = True

    def _refusal(self, status: int, message: str) -> Any:
        return {"id": "8b2e1b5c", "message": message}

    def _understood(self, body: dict[str, Any]) -> tuple[list[list[Part]], str, int | None]:
        optional = {
            "input_type": str,
            "texts": list,
            "images": list,
            "inputs": list,
            "max_tokens": int,
            "output_dimension": int,
            "embedding_types": list,
            "truncate": str,
            "priority": int,
        }
        _check_fields(body, {"model": str}, optional)
        self._check_model(body)
        _check(sum(name in body for name in ("texts", "images", "inputs")) == 1, "give one of texts, images, inputs")
        prompt = body.get("input_type", "")
        if self.needs_prompt or prompt:
            _check(prompt in self.prompts, f"valid input_type must be provided with the model, not {prompt!r}")
        _check(body.get("embedding_types") == ["float"], "only embedding_types [float] is known here")
        inputs = body["inputs"]
        _check(1 <= len(inputs) <= 96, f"invalid request: inputs must have at most 96 elements, not {len(inputs)}")
        if len(json.dumps(body)) > 20_000_000:
            raise Refused(413, "the request is larger than 20 MB")
        for each in inputs:
            _check_fields(each, {"content": list}, {})
        return (
            [_chat_parts(each["content"]) for each in inputs],
            prompt,
            self._cut_to(body.get("output_dimension")),
        )

    def _reply(self, rows: list[Any], contents: list[list[Part]], body: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": "8b2e1b5c",
            "embeddings": {"float": rows},
            "texts": [],
            "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": len(contents)}},
            "response_type": "embeddings_by_type",
        }


class VllmServer(CohereServer):
    """vLLM in Cohere's dialect: the input types are the model's own prompts, most models have none."""

    own_prompts = ()
    needs_prompt = False

    def _refusal(self, status: int, message: str) -> Any:
        return {"error": {"message": message, "type": "BadRequestError", "param": None, "code": status}}


class ChatServer(DialectServer):
    """vLLM's embeddings of a chat."""

    dialect, path = "openai-chat", "/v1/embeddings"

    _refusal = VllmServer._refusal

    def _understood(self, body: dict[str, Any]) -> tuple[list[list[Part]], str, int | None]:
        optional = {"encoding_format": str, "dimensions": int, "user": str, "add_special_tokens": bool}
        _check_fields(body, {"model": str, "messages": list}, optional)
        self._check_model(body)
        _check(body.get("encoding_format", "float") == "float", "only float is known here")
        roles = [message.get("role") for message in body["messages"]]
        _check(roles in (["user"], ["system", "user"]), f"unknown roles {roles}")
        for message in body["messages"]:
            _check_fields(message, {"role": str, "content": list}, {})
        prompt = ""
        if len(roles) == 2:
            ((_, prompt),) = _chat_parts(body["messages"][0]["content"])
        return [_chat_parts(body["messages"][-1]["content"])], prompt, self._cut_to(body.get("dimensions"))


class JinaServer(DialectServer):
    """Jina's API."""

    dialect, path = "jina", "/v1/embeddings"
    own_prompts = ("retrieval.query", "retrieval.passage", "text-matching", "code.query", "code.passage")

    def _understood(self, body: dict[str, Any]) -> tuple[list[list[Part]], str, int | None]:
        optional = {
            "task": str,
            "dimensions": int,
            "normalized": bool,
            "late_chunking": bool,
            "truncate": bool,
            "embedding_type": str,
            "return_multivector": bool,
        }
        _check_fields(body, {"model": str, "input": list}, optional, status=422)
        self._check_model(body)
        _check(body.get("embedding_type", "float") == "float", "only float is known here")
        _check(not body.get("task") or body["task"] in self.prompts, f"unknown task {body.get('task')}", 422)
        _check(1 <= len(body["input"]) <= 512, "input must have 1 to 512 items", 422)
        contents = []
        for each in body["input"]:
            _check_fields(each, {}, {"text": str, "image": str}, status=422)
            _check(bool(each), "an input is empty", 422)
            contents.append([(kind, _base64(held) if kind == "image" else held) for kind, held in each.items()])
        return contents, body.get("task", ""), self._cut_to(body.get("dimensions"))


class VoyageServer(DialectServer):
    """Voyage AI's multimodal embeddings."""

    dialect, path = "voyage", "/v1/multimodalembeddings"
    own_prompts = ("document", "query")

    def _understood(self, body: dict[str, Any]) -> tuple[list[list[Part]], str, int | None]:
        optional = {"input_type": str, "truncation": bool, "output_encoding": str, "output_dimension": int}
        _check_fields(body, {"model": str, "inputs": list}, optional)
        self._check_model(body)
        prompt = body.get("input_type", "")
        _check(not prompt or prompt in self.prompts, f"unknown input_type {prompt}")
        _check(1 <= len(body["inputs"]) <= 1000, "inputs must be 1 to 1000")
        contents = []
        for each in body["inputs"]:
            _check_fields(each, {"content": list}, {})
            parts: list[Part] = []
            for part in each["content"]:
                kind = part.get("type")
                _check(kind in ("text", "image_base64"), f"unknown type {kind}")
                _check_fields(part, {"type": str, kind: str}, {})
                parts.append(("text", part["text"]) if kind == "text" else ("image", _data_uri(part["image_base64"])))
            _check(bool(parts), "a content is empty")
            contents.append(parts)
        return contents, prompt, self._cut_to(body.get("output_dimension"))

    def _reply(self, rows: list[Any], contents: list[list[Part]], body: dict[str, Any]) -> dict[str, Any]:
        usage = {"text_tokens": 1, "image_pixels": 1, "total_tokens": len(contents)}
        return {"object": "list", "data": _listed(rows), "model": self.model, "usage": usage}


class InfinityServer(DialectServer):
    """infinity 0.0.78: names of models are not checked, vectors are cut and left so, refusals repeat the input."""

    dialect, path = "infinity", "/embeddings"
    capabilities: Collection[str] = ("embed", "image_embed")
    undecodable = (
        "<class 'infinity_emb.primitives.ImageCorruption'> -> error decoding data URI: cannot identify image file "
        "<_io.BytesIO object at 0x7f890af1cfe0>"
    )

    def _add_routes(self, app: web.Application) -> None:
        app.router.add_post(f"{self._prefix}/embeddings", self._embed)
        app.router.add_post(f"{self._prefix}/embeddings_image", self._embed)
        app.router.add_get(f"{self._prefix}/models", self._models)
        app.router.add_get(f"{self._prefix}/health", self._health)
        app.router.add_route("*", "/{anything:.*}", self._not_found)

    async def _not_found(self, request: web.Request) -> web.Response:
        return web.json_response({"detail": "Not Found"}, status=404)

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"unix": 1795709961.4290073})

    async def _models(self, request: web.Request) -> web.Response:
        self._check_token(request)
        stats = {"queue_fraction": 0.0, "queue_absolute": 0, "results_pending": 0, "batch_size": 32}
        model = {
            "id": self.model,
            "stats": stats,
            "object": "model",
            "owned_by": "infinity",
            "created": 1795709961,
            "backend": "torch",
            "capabilities": list(self.capabilities),
        }
        return web.json_response({"data": [model], "object": "list"})

    def _refusal(self, status: int, message: str) -> Any:
        if status == 401:
            return {"detail": "Unauthorized"}
        return {"error": {"message": message, "type": None, "param": None, "code": status}}

    def _understood(self, body: dict[str, Any]) -> tuple[list[list[Part]], str, int | None]:
        optional = {"model": str, "modality": str, "dimensions": int, "encoding_format": str, "user": str}
        _check_fields(body, {"input": list}, optional, status=422)
        modality, inputs = body.get("modality", "text"), body["input"]
        self._check_length(inputs, modality)
        if modality == "audio":
            raise Refused(
                400,
                f"ModelNotDeployedError: model=`{self.model}` does not support `embed` for modality `audio`. Reason: "
                "the loaded moded cannot fully embed it",
            )
        _check(modality in ("text", "image"), f"unknown modality {modality}", 422)
        if (dimensions := body.get("dimensions")) is not None and not 1 <= dimensions <= self.dimension:
            raise Refused(
                400,
                "<class 'infinity_emb.primitives.MatryoshkaDimError'> -> matryoshka_dim="
                f"{dimensions} is not in a valid range. Select between 1 and {self.dimension}.",
            )
        if modality == "text":
            return [[("text", each)] for each in inputs], "", dimensions
        try:
            return [[("image", _data_uri(each))] for each in inputs], "", dimensions
        except Refused:
            raise Refused(
                400,
                "<class 'infinity_emb.primitives.ImageCorruption'> -> error opening an image in your request image "
                "from url: Media URL address is blacklisted",
            ) from None

    async def _answer(self, request: web.Request, raw: bytes, number: int) -> web.StreamResponse:
        if request.path.endswith("/embeddings_image"):
            raw = json.dumps({**json.loads(raw), "modality": "image"}).encode()
        return await super()._answer(request, raw, number)

    def _check_length(self, inputs: list[Any], modality: str) -> None:
        most = 32 if modality == "image" else 2048
        loc = ["body", modality, "input"]
        text_loc = [*loc, "list[constrained-str]"]
        image_loc = [*loc, "list[union[function-after[validate(), str],function-wrap[wrap_val()]]]"]
        others = [("string_type", "constrained-str", "Input should be a valid string")]
        if modality == "image":
            others = [
                ("string_type", "function-after[validate(), str]", "Input should be a valid string"),
                ("url_type", "function-wrap[wrap_val()]", "URL input should be a string or URL"),
            ]
        not_one = [{"type": kind, "loc": [*loc, at], "msg": text, "input": inputs} for kind, at, text in others]
        flaw: dict[str, Any] = {}
        if len(inputs) > most:
            flaw = {
                "type": "too_long",
                "loc": image_loc if modality == "image" else text_loc,
                "msg": f"List should have at most {most} items after validation, not {len(inputs)}",
                "input": inputs,
                "ctx": {"field_type": "List", "max_length": most, "actual_length": len(inputs)},
            }
        elif not inputs:
            flaw = {
                "type": "too_short",
                "loc": text_loc,
                "msg": "List should have at least 1 item after validation, not 0",
                "input": inputs,
                "ctx": {"field_type": "List", "min_length": 1, "actual_length": 0},
            }
        for number, each in enumerate(inputs):
            if modality == "text" and len(each) > 122_880:
                flaw = {
                    "type": "string_too_long",
                    "loc": [*text_loc, number],
                    "msg": "String should have at most 122880 characters",
                    "input": each,
                    "ctx": {"max_length": 122_880},
                }
        if flaw:
            raise Refused(422, "", {"detail": [flaw, *not_one]})

    def _reply(self, rows: list[Any], contents: list[list[Part]], body: dict[str, Any]) -> dict[str, Any]:
        if body.get("encoding_format") == "base64":
            rows = [base64.b64encode(np.asarray(row, np.float32).tobytes()).decode() for row in rows]
        characters = sum(len(held) for parts in contents for _, held in parts)
        return {
            **super()._reply(rows, contents, body),
            "usage": {"prompt_tokens": characters, "total_tokens": characters},
            "id": "infinity-2654557f-d35d-4832-b9b9-18bbfd6f7170",
            "created": 1795709961,
        }


SERVERS: Mapping[str, type[DialectServer]] = {
    "cohere": CohereServer,
    "vllm": VllmServer,
    "openai-chat": ChatServer,
    "infinity": InfinityServer,
    "jina": JinaServer,
    "voyage": VoyageServer,
}


def _check(is_right: bool, message: str, status: int = 400) -> None:
    if not is_right:
        raise Refused(status, message)


def _check_fields(given: Any, required: Mapping[str, type], optional: Mapping[str, type], *, status: int = 400) -> None:
    _check(isinstance(given, dict), "an object is expected", status)
    known = {**required, **optional}
    _check(not required.keys() - given.keys(), f"missing: {sorted(required.keys() - given.keys())}", status)
    _check(not given.keys() - known.keys(), f"unknown: {sorted(given.keys() - known.keys())}", status)
    for name, value in given.items():
        _check(type(value) is known[name], f"{name} must be {known[name].__name__}", status)


def _listed(rows: list[Any]) -> list[dict[str, Any]]:
    return [{"object": "embedding", "embedding": row, "index": number} for number, row in enumerate(rows)]


def _chat_parts(content: list[Any]) -> list[Part]:
    parts: list[Part] = []
    for part in content:
        if part.get("type") == "text":
            _check_fields(part, {"type": str, "text": str}, {})
            parts.append(("text", part["text"]))
        else:
            _check_fields(part, {"type": str, "image_url": dict}, {})
            _check(part["type"] == "image_url", f"unknown type {part['type']}")
            _check_fields(part["image_url"], {"url": str}, {"detail": str})
            parts.append(("image", _data_uri(part["image_url"]["url"])))
    _check(bool(parts), "a content is empty")
    return parts


def _data_uri(address: str) -> str:
    """The base64 in a data URI of an image; anything else would be an address to fetch."""
    head, comma, encoded = address.partition(",")
    _check(comma == "," and head in ("data:image/jpeg;base64", "data:image/png;base64"), "that is no image")
    return _base64(encoded)


def _base64(encoded: str) -> str:
    try:
        base64.b64decode(encoded, validate=True)
    except ValueError:
        raise Refused(400, "that is no base64") from None
    return encoded
