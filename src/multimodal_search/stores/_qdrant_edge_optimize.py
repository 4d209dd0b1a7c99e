"""The program that rebuilds a shard's search structures, in a process of its own.

`python -m multimodal_search.stores._qdrant_edge_optimize FOLDER` writes `True` if it rebuilt anything, `False` if not.
It holds `optimize.lock`, so that nobody opens the shard even if the process that started this one is killed.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from multimodal_search._extras import require
from multimodal_search._locks import ProcessLock


def main(path: Path) -> None:
    """Rebuild the shard of the index in the folder `path`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this process itself
    lock = ProcessLock(path / "optimize.lock", extra="edge")
    if not lock.acquire():
        sys.exit(f"{path} is being optimized already, by {lock.holder()}")
    try:
        shard = require("qdrant_edge", extra="edge", purpose="optimize").EdgeShard.load(str(path / "shard"))
        rebuilt = shard.optimize()
        shard.flush()
        shard.close()
    finally:
        lock.release()
    sys.stdout.write(f"{rebuilt}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
