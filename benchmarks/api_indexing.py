"""Indexing through an API as a user meets it: a whole process with its start, against the tutorial's loop.

Local servers, each in a process of its own, answer every request after 150 ms, however much is in it: Aleph Alpha's,
for the tutorial's loop and for `AlephAlphaEmbedder`, and one in Cohere's dialect for `HttpEmbedder`. Round for round:

- the tutorial's loop over 20 images, with the client imported: one request an image, one after the other;
- ours over all of them in a process that has imported and used everything, calibration included;
- ours as a new process: Python, imports, opening, scan, indexing, calibration, exit.

    python benchmarks/api_indexing.py --photos FOLDER
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from aiohttp import web

from _common import AlephAlphaServer, Rates, add_photo_options, describe_machine, photos, print_ratio
from _local_server import serve, served
from indexing import LATENCY_S, tutorial
from multimodal_search import MemoryStore
from multimodal_search.types import StoreSchema

EMBEDDERS = ("AlephAlphaEmbedder", "HttpEmbedder")
WAYS = ["tutorial", *(f"{name}, {how}" for name in EMBEDDERS for how in ("warm", "process"))]
OURS = """
from multimodal_search import {embedder}, MemoryStore, MultimodalIndex
with {made} as embedder:
    report = MultimodalIndex(embedder, MemoryStore()).add_images({folder!r}, progress=False, on_error="raise")
assert report.added == {count}
"""


async def answer(request: web.Request) -> web.Response:
    """In Cohere's dialect, with vectors made of the request's bytes."""
    body = await request.read()
    seed = int.from_bytes(hashlib.sha256(body).digest()[:8], "little")
    rows = np.random.default_rng(seed).standard_normal((body.count(b'{"content":'), 128)).round(6).tolist()
    await asyncio.sleep(LATENCY_S)
    return web.json_response({"embeddings": {"float": rows}})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_photo_options(parser, count=1000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve("/v2/embed", answer))
        return
    print(describe_machine("aleph-alpha-client", "urllib3", "pillow", "numpy"))
    with (
        tempfile.TemporaryDirectory() as temporary,
        AlephAlphaServer(latency_s=LATENCY_S, compute="hash", subprocess=True) as server,
        served(__file__) as url,
    ):
        paths = photos(options, Path(temporary, "photos"))
        made = {
            "AlephAlphaEmbedder": f"AlephAlphaEmbedder({server.url!r}, {server.token!r})",
            "HttpEmbedder": f'HttpEmbedder({url!r}, "tiny", dialect="cohere")',
        }
        programs = {
            name: OURS.format(embedder=name, made=how, folder=str(paths[0].parent), count=len(paths))
            for name, how in made.items()
        }
        rates = Rates(WAYS)

        def run(way: str) -> None:
            name, _, how = way.partition(", ")
            if not how:
                store = MemoryStore()
                store.ensure(StoreSchema(model="m", fingerprint="m", dimension=128))
                tutorial(server, paths[:20], store)
            elif how == "warm":
                exec(programs[name], {})
            else:
                subprocess.run([sys.executable, "-c", programs[name]], check=True)

        for number in range(-1, options.rounds):
            for way in random.sample(WAYS, len(WAYS)):
                if number < 0:  # so that nobody's first time is measured
                    run(way)
                    continue
                with rates.measured(way, 20 if way == "tutorial" else len(paths)):
                    run(way)
    rates.print("images")
    for name in programs:
        print_ratio(f"{name}, warm / tutorial", rates.ratios(f"{name}, warm", "tutorial"), "aim > 100")
        print_ratio(f"{name}, whole process / tutorial", rates.ratios(f"{name}, process", "tutorial"), "aim > 60")


if __name__ == "__main__":
    main()
