"""Images indexed in a second through the Aleph Alpha API: the tutorial's loop, asyncio by hand, and this library.

A local server, in a process of its own, answers every request after 150 ms, however much is in it. In turn:

- the tutorial's loop: one request an image, one after the other, with the official client and the original file;
- the best loop that we could write by hand with asyncio: images cropped and shrunk in threads, batches, many
  requests in flight; with the official AsyncClient, and with bare aiohttp;
- `MultimodalIndex.add_images`, which besides hashes, looks up what is stored, and survives what goes wrong;
- the same with `shrink=False`, which sends the originals;
- the preparation alone, with nothing sent: no way that prepares images can be faster.

All but the first have the same batches, requests in flight, loader threads, preparation and kind of store.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import random
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import aiohttp
import aleph_alpha_client as sdk
import numpy as np

from _common import AlephAlphaServer, Rates, add_photo_options, describe_machine, photos, print_ratio
from multimodal_search import AlephAlphaEmbedder, Image, MemoryStore, MultimodalIndex, QdrantEdgeStore, Record
from multimodal_search._indexing.pipeline import LOADERS
from multimodal_search.media.images import center_crop
from multimodal_search.protocols import VectorStore
from multimodal_search.types import StoreSchema

LATENCY_S = 0.150
BATCH, IN_FLIGHT = 16, 32  # the defaults of AlephAlphaEmbedder
SETTINGS: dict[str, Any] = {"model": "luminous-base", "compress_to_size": 128}
SYMMETRIC = sdk.SemanticRepresentation.Symmetric

Embed = Callable[[Sequence[str]], Awaitable[Sequence[Sequence[float]]]]
"""From base64 images to vectors, in one request."""


def tutorial(server: AlephAlphaServer, paths: Sequence[Path], store: VectorStore) -> None:
    client = sdk.Client(server.token, host=server.url)
    for number, path in enumerate(paths):
        prompt = sdk.Prompt([sdk.Image.from_file(path)])
        request = sdk.SemanticEmbeddingRequest(prompt, SYMMETRIC, compress_to_size=128)
        vector = client.semantic_embed(request, SETTINGS["model"]).embedding
        store.upsert([Record(number, {"filename": path.name})], np.array([vector], np.float32))


def prepare(path: Path) -> str:
    return base64.b64encode(center_crop(Image(path.read_bytes()), size=384)).decode()


async def by_hand(embed: Embed, paths: Sequence[Path], store: VectorStore) -> None:
    loop = asyncio.get_running_loop()
    batches = iter([paths[start : start + BATCH] for start in range(0, len(paths), BATCH)])
    writing = asyncio.Lock()

    async def work() -> None:
        for batch in batches:
            prepared = await asyncio.gather(*(loop.run_in_executor(loaders, prepare, path) for path in batch))
            vectors = np.array(await embed(prepared), np.float32)
            records = [Record(str(uuid5(NAMESPACE_URL, path.name)), {"filename": path.name}) for path in batch]
            async with writing:
                await asyncio.to_thread(store.upsert, records, vectors)

    with ThreadPoolExecutor(LOADERS) as loaders:
        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))


async def async_client(server: AlephAlphaServer, paths: Sequence[Path], store: VectorStore) -> None:
    async with sdk.AsyncClient(server.token, host=server.url) as client:

        async def embed(images: Sequence[str]) -> Sequence[Sequence[float]]:
            prompts = [sdk.Prompt([sdk.Image(image, None, [])]) for image in images]
            request = sdk.BatchSemanticEmbeddingRequest(prompts, SYMMETRIC, compress_to_size=128)
            return (await client.batch_semantic_embed(request, SETTINGS["model"])).embeddings

        await by_hand(embed, paths, store)


async def bare_aiohttp(server: AlephAlphaServer, paths: Sequence[Path], store: VectorStore) -> None:
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(server.url, headers=headers) as session:

        async def embed(images: Sequence[str]) -> Sequence[Sequence[float]]:
            prompts = [[{"type": "image", "data": image}] for image in images]
            body = json.dumps({"prompts": prompts, "representation": "symmetric", **SETTINGS}).encode()
            async with session.post("/batch_semantic_embed", data=body, raise_for_status=True) as answer:
                return list((await answer.json())["embeddings"])

        await by_hand(embed, paths, store)


def ours(server: AlephAlphaServer, paths: Sequence[Path], store: VectorStore, *, shrink: bool = True) -> None:
    with AlephAlphaEmbedder(
        server.url, server.token, **SETTINGS, max_batch_size=BATCH, max_concurrency=IN_FLIGHT, shrink=shrink
    ) as embedder:
        MultimodalIndex(embedder, store).add_images(paths[0].parent, progress=False, on_error="raise")


def preparation(server: AlephAlphaServer, paths: Sequence[Path], store: VectorStore) -> None:
    with ThreadPoolExecutor(LOADERS) as loaders:
        list(loaders.map(prepare, paths))


WAYS: dict[str, Callable[[AlephAlphaServer, Sequence[Path], VectorStore], None]] = {
    "tutorial": tutorial,
    "AsyncClient": lambda *given: asyncio.run(async_client(*given)),
    "aiohttp": lambda *given: asyncio.run(bare_aiohttp(*given)),
    "ours": ours,
    "ours, originals": lambda *given: ours(*given, shrink=False),
    "preparation": preparation,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_photo_options(parser, count=600)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--store", choices=("memory", "edge"), default="memory", help="default: %(default)s")
    options = parser.parse_args()
    print(describe_machine("aleph-alpha-client", "aiohttp", "pillow", "numpy", "qdrant-edge-py"))
    rates = Rates(WAYS)
    with (
        tempfile.TemporaryDirectory() as temporary,
        AlephAlphaServer(latency_s=LATENCY_S, compute="hash", subprocess=True) as server,
    ):
        paths = photos(options, Path(temporary, "photos"))
        ours(server, paths[:BATCH], MemoryStore())  # so that nobody's first time is measured
        for number in range(options.rounds):
            for name in random.sample(list(WAYS), len(WAYS)):
                edge = options.store == "edge"
                store = QdrantEdgeStore(Path(temporary, f"{name} {number}")) if edge else MemoryStore()
                embedder = AlephAlphaEmbedder(server.url, server.token, **SETTINGS, shrink=name != "ours, originals")
                store.ensure(StoreSchema.of(embedder.spec))
                chosen = paths[:20] if name == "tutorial" else paths
                with rates.measured(name, len(chosen)):
                    WAYS[name](server, chosen, store)
                if name != "preparation" and store.count() != len(chosen):
                    raise SystemExit(f"{name} stored {store.count()} of {len(chosen)} images")
                store.close()
    rates.print("images")
    print_ratio("ours / tutorial", rates.ratios("ours", "tutorial"), "aim > 100")
    print_ratio("ours, originals / tutorial", rates.ratios("ours, originals", "tutorial"))
    print_ratio("ours / by hand with AsyncClient", rates.ratios("ours", "AsyncClient"), "aim >= 0.95")
    print_ratio("ours / by hand with aiohttp", rates.ratios("ours", "aiohttp"), "aim >= 0.95")
    print_ratio("ours / preparation alone", rates.ratios("ours", "preparation"))


if __name__ == "__main__":
    main()
