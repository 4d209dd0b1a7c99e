"""How long it takes to find all nearly equal points of a QdrantEdgeStore, in how much memory, and whether it finds all.

In a child process for each number of points, the smallest for comparison: unit vectors in clusters, of which some have
near copies (cosine similarity 0.99 and above) that must all be found, with payloads as indexing writes them.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from _common import describe_machine, photo_record, vectors_alike
from multimodal_search import Progress, QdrantEdgeStore, StoreSchema
from multimodal_search._searching.duplicates import duplicate_groups

DIMENSION, THRESHOLD, SMALL = 128, 0.98, 5_000


def planted(points: int, share: float) -> tuple[np.ndarray, np.ndarray, set[frozenset[int]]]:  # type: ignore[type-arg]
    """Vectors, which of them each is a copy of (itself if none), and the groups that must be found."""
    random = np.random.default_rng(1)
    vectors = vectors_alike(points, DIMENSION)
    original = np.arange(points)
    copies = random.choice(np.arange(points // 2, points), int(points * share), replace=False)
    original[copies] = random.integers(0, points // 2, len(copies))
    rows = vectors[original]
    rows[copies] += 0.1 / DIMENSION**0.5 * random.standard_normal((len(copies), DIMENSION)).astype(np.float32)
    groups: dict[int, set[int]] = {}
    for number, source in enumerate(original.tolist()):
        groups.setdefault(source, set()).add(number)
    return rows, original, {frozenset(group) for group in groups.values() if len(group) > 1}


def peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def write(folder: str, points: int, share: float) -> None:
    rows, _, _ = planted(points, share)
    store = QdrantEdgeStore(folder)
    store.ensure(StoreSchema(model="none", fingerprint="none", dimension=DIMENSION))
    for start in range(0, points, 500):
        part = rows[start : start + 500]
        store.upsert([photo_record(start + number) for number in range(len(part))], part)
    store.close()


def find(folder: str) -> dict[str, object]:
    store = QdrantEdgeStore(folder)
    store.ensure(StoreSchema(model="none", fingerprint="none", dimension=DIMENSION))
    next(iter(store.scan()))
    store.get([photo_record(0).id], with_vectors=True)
    before, began = peak_mb(), time.perf_counter()
    read_s = 0.0

    def on_progress(event: Progress) -> None:
        nonlocal read_s
        if event.stage == "reading":
            read_s = event.seconds

    groups = duplicate_groups(store, threshold=THRESHOLD, on_progress=on_progress)
    seconds = time.perf_counter() - began
    store.close()
    found = [[int(match.payload["filename"][:12]) for match in group] for group in groups]
    return {"seconds": seconds, "read_s": read_s, "peak_mb": peak_mb(), "before_mb": before, "groups": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--points", type=int, default=118_000)
    parser.add_argument("--copies", type=float, default=0.05, help="the share that are copies (default: %(default)s)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child == "write":
        write(sys.stdin.read(), options.points, options.copies)
        return
    if options.child == "find":
        print(json.dumps(find(sys.stdin.read())))
        return
    print(describe_machine("qdrant-edge-py", "numpy"))
    for points in (SMALL, options.points):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--points", str(points), "--copies", str(options.copies), "--child"]
            place = str(Path(folder, "index"))
            subprocess.run([*command, "write"], input=place, text=True, check=True)
            out = subprocess.run([*command, "find"], input=place, text=True, check=True, stdout=subprocess.PIPE).stdout
        told = json.loads(out)
        groups = {frozenset(group) for group in told["groups"]}
        _, _, wanted = planted(points, options.copies)
        recall = len(groups & wanted) / len(wanted)
        print(
            f"{points:,} x {DIMENSION}: {told['seconds']:.1f} s, of which reading {told['read_s']:.1f} s; peak "
            f"{told['peak_mb']:.0f} MB, {told['peak_mb'] - told['before_mb']:.0f} MB above the open store; "
            f"{len(wanted):,} groups planted, {recall:.4f} of them found [aim: 1], {len(groups - wanted):,} others"
        )


if __name__ == "__main__":
    main()
