"""64 searches in flight through `AsyncMultimodalIndex`, against a service that takes 150 ms to embed a query.

64 tasks search one after another. Ideal would be 64 answers every 150 ms; bare aiohttp, which only sends the same
requests and searches nothing, shows what of that the local server and this machine allow.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable

import aiohttp

from _common import AlephAlphaServer, Rates, describe_machine, print_ratio, vectors_alike
from multimodal_search import AlephAlphaEmbedder, AsyncMultimodalIndex, MemoryStore, Record
from multimodal_search.types import StoreSchema

LATENCY_S = 0.150
POINTS = 1000

Search = Callable[[str], Awaitable[object]]


async def all_searches(search: Search, in_flight: int, each: int) -> None:
    async def one_after_another(task: int) -> None:
        for number in range(each):
            await search(f"query {task} {number}")

    await asyncio.gather(*(one_after_another(task) for task in range(in_flight)))


async def measure(rates: Rates, server: AlephAlphaServer, in_flight: int, each: int, rounds: int) -> None:
    store = MemoryStore()
    with AlephAlphaEmbedder(server.url, server.token, max_concurrency=in_flight) as embedder:
        store.ensure(StoreSchema.of(embedder.spec))
        records = [Record(number, {"filename": f"{number}.jpg"}) for number in range(POINTS)]
        store.upsert(records, vectors_alike(POINTS, embedder.spec.dimension))
        connector = aiohttp.TCPConnector(limit=0)
        headers = {"Authorization": f"Bearer {server.token}"}
        async with (
            AsyncMultimodalIndex(embedder, store, max_workers=in_flight) as index,
            aiohttp.ClientSession(server.url, headers=headers, connector=connector) as session,
        ):

            async def ask(query: str) -> None:
                prompt = [{"type": "text", "data": query}]
                body = {"model": "luminous-base", "representation": "symmetric", "compress_to_size": 128}
                async with session.post("/semantic_embed", json={**body, "prompt": prompt}) as answer:
                    await answer.json()

            ways: dict[str, Search] = {"aiohttp": ask, "ours": index.search}
            for number in range(rounds + 1):
                for name, search in ways.items():
                    if number == 0:  # imports, connections
                        await all_searches(search, in_flight, 1)
                        continue
                    with rates.measured(name, in_flight * each):
                        await all_searches(search, in_flight, each)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--each", type=int, default=30, help="searches of each task, in a round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(describe_machine("aleph-alpha-client", "aiohttp", "numpy"))
    rates = Rates(("aiohttp", "ours"))
    with AlephAlphaServer(latency_s=LATENCY_S, compute="hash", subprocess=True) as server:
        asyncio.run(measure(rates, server, options.in_flight, options.each, options.rounds))
    rates.print("searches")
    ideal = options.in_flight / LATENCY_S
    print_ratio(f"aiohttp / ideal ({ideal:.1f} a second)", rates.against("aiohttp", ideal))
    print_ratio("ours / ideal", rates.against("ours", ideal), "aim >= 0.9")


if __name__ == "__main__":
    main()
