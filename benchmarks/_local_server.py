"""A local server in a process of its own, for benchmarks of what talks HTTP.

A benchmark calls itself with `--serve`, where it awaits `serve`; `served` starts that process and gives its address.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from aiohttp import web

_MOST_BYTES = 100_000_000  # of a request


async def serve(path: str, answer: Callable[[web.Request], Awaitable[web.Response]]) -> None:
    """Answer what is posted to a path, until the process is ended; the server's address is printed first."""
    app = web.Application(client_max_size=_MOST_BYTES)
    app.router.add_post(path, answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=512).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


@contextmanager
def served(program: str) -> Iterator[str]:
    """The address of what `program --serve` serves."""
    with subprocess.Popen([sys.executable, program, "--serve"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()
