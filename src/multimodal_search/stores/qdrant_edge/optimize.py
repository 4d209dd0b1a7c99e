"""Optimize a shard, which builds its HNSW graph, in a child process: the parent's part, and the child's program.

`main(FOLDER, ...)` writes `True` if it rebuilt anything, `False` if not. It holds `optimize.lock`, so that no process
opens the shard even if the process that started this one is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from multimodal_search.errors import StoreError
from multimodal_search.stores.qdrant_edge.engine import GRAPH, Graph, engine, graph_settings
from multimodal_search.stores.qdrant_edge.process_lock import ProcessLock

_TICK_S = 0.2


def optimize_in_child(path: Path, on_tick: Callable[[], None], graph: Graph = GRAPH, *, dimension: int = 0) -> bool:
    """Optimize the shard of the index in the folder `path`, which must be closed, in a child process.

    Args:
        path: The folder.
        graph: The graph to build; another than the engine's own needs the `dimension`.
        dimension: Of the vectors.
        on_tick: Called several times a second until it is done.

    Returns:
        Whether anything was rebuilt.

    Raises:
        StoreError: It failed; the data is as before.
    """
    if not sys.executable or getattr(sys, "frozen", False):
        raise StoreError("optimizing needs a Python interpreter to start, and this program is packed without one")
    root = Path(__file__).resolve().parents[3]
    given = [] if graph == GRAPH else [str(dimension), str(graph.m), str(graph.ef_construct)]
    child = subprocess.Popen(  # noqa: S603 (our own program, and a path that is no option)
        [sys.executable, "-c", f"import sys; from {__name__} import main; main(*sys.argv[1:])", str(path), *given],
        cwd=root,  # first on the child's path, so that nothing in the user's folder shadows this package
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *filter(None, sys.path)])},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    try:
        while True:
            on_tick()
            with suppress(subprocess.TimeoutExpired):
                output, complaint = child.communicate(timeout=_TICK_S)
                break
    except BaseException:
        child.kill()
        child.communicate()
        raise
    if child.returncode == 0:
        return output.strip() == "True"
    reason = complaint.strip().rpartition("\n")[2] or f"its process ended with status {child.returncode}"
    raise StoreError(f"optimizing {path} failed: {reason}. Its data is intact; searching stays slower")


def main(folder: str, *settings: str) -> None:
    """Optimize the shard of the index in a folder.

    Args:
        folder: The folder.
        settings: The dimension of its vectors, and the graph to build, if that is not the engine's own.
    """
    path = Path(folder)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this process itself
    lock = ProcessLock(path / "optimize.lock", extra="edge")
    if not lock.acquire():
        sys.exit(f"{path} is being optimized already, by {lock.holder()}")
    try:
        dimension, *graph = map(int, settings or [0])
        config = graph_settings(dimension, Graph(*graph)) if graph else None
        shard = engine().EdgeShard.load(str(path / "shard"), config)
        rebuilt = shard.optimize()
        shard.flush()
        shard.close()
    finally:
        lock.release()
    sys.stdout.write(f"{rebuilt}\n")
