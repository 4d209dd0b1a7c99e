"""Other processes on both ends of a local socket: one that serves a store, and some that use it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_SERVE = """
import sys
from multimodal_search.stores.local_socket import serve_store
names = {}
exec(sys.argv[1], names)
with serve_store(names["store"], sys.argv[2], transport=sys.argv[3] or None):
    print("ready", flush=True)
    sys.stdin.read()
names["store"].close()
"""


@contextmanager
def child_process(program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A program in a process of its own, which has printed its first line, and is killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as child:
        try:
            assert child.stdout is not None
            line = child.stdout.readline()
            assert line, f"it ended with {child.wait()}"
            yield child
        finally:
            child.kill()


@contextmanager
def served_in_child(code: str, place: Path, *, transport: str = "") -> Iterator[subprocess.Popen[str]]:
    """A process that serves the store which some code opens as a variable `store`; it is killed at the end."""
    with child_process(_SERVE, code, str(place), transport) as child:
        yield child


def eventually(is_true: Callable[[], bool], within_s: float = 30.0) -> bool:
    """Whether something becomes true, as soon as it does."""
    until = time.monotonic() + within_s
    while not is_true():
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True
