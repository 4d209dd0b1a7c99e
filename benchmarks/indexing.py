"""Pictures indexed a second through the Aleph Alpha API, and searches with 64 in flight.

A local server in a process of its own answers every request after 150 ms, whatever is in it. Three ways to index the
same folder through it, in turn, several rounds:

(a) the tutorial's loop: one request per picture, one after the other, with the original file;
(b) the best loop we could write by hand with asyncio: the pictures cropped and shrunk in threads, in batches, many
    requests in flight; with the official client's AsyncClient, and with bare aiohttp;
(c) `MultimodalIndex.add_images`, which besides looks up what is stored, hashes, and survives what goes wrong.

(b) and (c) have the same batch size, requests in flight, loader threads, preparation and kind of store.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import aiohttp
import numpy as np
from _common import AlephAlphaServer, add_photo_options, describe_machine, median, photos, spread
from aleph_alpha_client import (
    AsyncClient,
    BatchSemanticEmbeddingRequest,
    Client,
    Prompt,
    SemanticEmbeddingRequest,
    SemanticRepresentation,
)
from aleph_alpha_client import Image as PromptImage

from multimodal_search import (
    AlephAlphaEmbedder,
    AsyncMultimodalIndex,
    Image,
    MemoryStore,
    MultimodalIndex,
    QdrantEdgeStore,
    Record,
    StoreSchema,
    VectorStore,
)
from multimodal_search._indexing import LOADERS
from multimodal_search._media import square_for_model

LATENCY_S = 0.150
BATCH, IN_FLIGHT = 16, 32  # AlephAlphaEmbedder's defaults
MODEL = "luminous-base"
SYMMETRIC = SemanticRepresentation.Symmetric

Embed = Callable[[list[str]], Awaitable[list[list[float]]]]


def tutorial(server: AlephAlphaServer, paths: Sequence[Path], store: VectorStore) -> None:
    client = Client(server.token, host=server.url)
    for number, path in enumerate(paths):
        prompt = Prompt([PromptImage.from_file(path)])
        request = SemanticEmbeddingRequest(prompt, SYMMETRIC, compress_to_size=128)
        vector = client.semantic_embed(request, MODEL).embedding
        store.upsert([Record(number, {"filename": path.name})], np.array([vector], np.float32))


async def by_hand(embed: Embed, paths: Sequence[Path], store: VectorStore) -> None:
    loop = asyncio.get_running_loop()
    batches: Iterator[Sequence[Path]] = iter([paths[at : at + BATCH] for at in range(0, len(paths), BATCH)])
    writing = asyncio.Lock()

    def prepare(path: Path) -> str:
        return base64.b64encode(square_for_model(Image(path.read_bytes()), size=384)).decode()

    async def work() -> None:
        for batch in batches:
            prepared = await asyncio.gather(*(loop.run_in_executor(loaders, prepare, path) for path in batch))
            vectors = np.array(await embed(prepared), np.float32)
            records = [Record(str(uuid5(NAMESPACE_URL, path.name)), {"filename": path.name}) for path in batch]
            async with writing:
                await asyncio.to_thread(store.upsert, records, vectors)

    with ThreadPoolExecutor(LOADERS) as loaders:
        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))


async def with_async_client(server: AlephAlphaServer, paths: Sequence[Path], store: VectorStore) -> None:
    async with AsyncClient(server.token, host=server.url) as client:

        async def embed(pictures: list[str]) -> list[list[float]]:
            prompts = [Prompt([PromptImage(picture, None, [])]) for picture in pictures]
            request = BatchSemanticEmbeddingRequest(prompts, SYMMETRIC, compress_to_size=128)
            return list((await client.batch_semantic_embed(request, MODEL)).embeddings)

        await by_hand(embed, paths, store)


async def with_aiohttp(server: AlephAlphaServer, paths: Sequence[Path], store: VectorStore) -> None:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {server.token}"}) as session:
        fixed = {"model": MODEL, "representation": "symmetric", "compress_to_size": 128}

        async def embed(pictures: list[str]) -> list[list[float]]:
            prompts = [[{"type": "image", "data": picture}] for picture in pictures]
            body = json.dumps({"prompts": prompts, **fixed}).encode()
            headers = {"Content-Type": "application/json"}
            async with session.post(f"{server.url}/batch_semantic_embed", data=body, headers=headers) as answer:
                answer.raise_for_status()
                return list((await answer.json())["embeddings"])

        await by_hand(embed, paths, store)


def ours(server: AlephAlphaServer, paths: Sequence[Path], store: VectorStore) -> None:
    with AlephAlphaEmbedder(server.url, server.token, MODEL, max_batch=BATCH, max_concurrency=IN_FLIGHT) as embedder:
        index = MultimodalIndex(embedder, store)
        report = index.add_images(paths[0].parent, progress=False)
        print(f"  {report}")


WAYS: dict[str, Callable[[AlephAlphaServer, Sequence[Path], VectorStore], None]] = {
    "(a) tutorial": tutorial,
    "(b1) AsyncClient": lambda *arguments: asyncio.run(with_async_client(*arguments)),
    "(b2) aiohttp": lambda *arguments: asyncio.run(with_aiohttp(*arguments)),
    "(c) ours": ours,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_photo_options(parser, count=1500)
    parser.add_argument("--store", choices=("memory", "edge"), default="memory")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, AlephAlphaServer(
        latency_s=LATENCY_S, compute="hash", subprocess=True
    ) as server:
        folder = Path(temporary, "photos")
        folder.mkdir()
        paths = photos(options, folder)
        rates: dict[str, list[float]] = {name: [] for name in WAYS}
        for number in range(options.rounds):
            for name, index_them in WAYS.items():
                store = MemoryStore() if options.store == "memory" else QdrantEdgeStore(Path(temporary, f"{name} {number}"))
                with AlephAlphaEmbedder(server.url, server.token) as e: store.ensure(StoreSchema.of(e.spec))
                some = paths[:20] if name == "(a) tutorial" else paths
                began = time.perf_counter()
                index_them(server, some, store)
                rates[name].append(len(some) / (time.perf_counter() - began))
                assert store.count() == len(some)
                print(name, rates[name][-1])
                store.close()

main()
