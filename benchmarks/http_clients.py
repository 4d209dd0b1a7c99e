"""HTTP clients with 32 requests in flight on kept connections, in threads, against a local server: urllib3 and httpx.

"ours" is urllib3 as embedders of services use it, with a thread of its own for each exchange, which a deadline that
holds takes.

Each request is one of 16 shrunk images, 400 kB of JSON, and each answer one of 16 vectors of 1,024 numbers. The server
answers at once, in a process of its own. What counts is the client's own work, since an embedder shares its cores with
the decoding of images: seconds of CPU time a request, and requests a second.

    python benchmarks/http_clients.py
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import urllib3
from aiohttp import web

from _common import Rates, describe_machine, print_ratio
from _local_server import serve, served
from multimodal_search.embedders.service.exchanges import Exchanges

IN_FLIGHT, BODY_BYTES, PATH = 32, 400_000, "/embeddings"
ANSWER = json.dumps({"data": [{"index": row, "embedding": [0.0123456] * 1024} for row in range(16)]}).encode()


async def answer(request: web.Request) -> web.Response:
    assert len(await request.read()) == BODY_BYTES
    return web.Response(body=ANSWER, content_type="application/json")


@contextmanager
def by_urllib3(url: str, body: bytes) -> Iterator[Callable[[], int]]:
    pool = urllib3.PoolManager(num_pools=1, maxsize=IN_FLIGHT, retries=False)
    yield lambda: len(pool.request("POST", url, body=body).data)
    pool.clear()


@contextmanager
def by_httpx(url: str, body: bytes) -> Iterator[Callable[[], int]]:
    limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
    with httpx.Client(limits=limits, timeout=60) as client:
        yield lambda: len(client.post(url, content=body).content)


@contextmanager
def by_ours(url: str, body: bytes) -> Iterator[Callable[[], int]]:
    exchanges = Exchanges()
    pool = urllib3.PoolManager(num_pools=1, maxsize=IN_FLIGHT)
    exchanges.watch(pool)

    def ask() -> int:
        exchanges.begin()
        exchanges.set_deadline(time.monotonic() + 60)
        settings = {"retries": False, "preload_content": False}
        return len(
            exchanges.run(
                lambda timeout: pool.request("POST", url, body=body, timeout=timeout, **settings), size_bytes=0
            )
        )

    yield ask
    pool.clear()


CLIENTS = {"urllib3": by_urllib3, "ours": by_ours, "httpx": by_httpx}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", action="store_true")
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve(PATH, answer))
        return
    print(describe_machine("urllib3", "httpx", "aiohttp"))
    body = b"x" * BODY_BYTES
    rates = Rates(CLIENTS)
    with served(__file__) as address, ThreadPoolExecutor(IN_FLIGHT) as threads:
        for _ in range(arguments.rounds):
            for name, client in CLIENTS.items():
                with client(address + PATH, body) as ask:
                    list(threads.map(lambda _, ask=ask: ask(), range(2 * IN_FLIGHT)))  # connections are there
                    with rates.measured(name, arguments.requests):
                        sizes = set(threads.map(lambda _, ask=ask: ask(), range(arguments.requests)))
                    assert sizes == {len(ANSWER)}
    rates.print("requests")
    print_ratio("httpx / urllib3, requests a second", rates.ratios("httpx", "urllib3"))
    print_ratio("ours / urllib3, requests a second", rates.ratios("ours", "urllib3"))


if __name__ == "__main__":
    main()
