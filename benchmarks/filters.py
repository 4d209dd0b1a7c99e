"""What filters cost among as many points as COCO's train2017, with payload indexes for their fields and without.

Two copies of one optimized index of clustered unit vectors are asked in turn, by searches and by counts: one whose
store makes indexes, one whose store makes none (`index_payload=False`). File names are indexed in both. What
`QdrantStore` gains is not measured, for that takes a server: its engine is the same one, so the ratios should be alike.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from _common import describe_machine, vectors_alike
from multimodal_search import PathIds, QdrantEdgeStore, Record
from multimodal_search.types import FloatArray, StoreSchema

DIMENSION, LIMIT, LABELS = 128, 10, 100
SCHEMA = StoreSchema(model="none", fingerprint="none", dimension=DIMENSION)
FIRST_DAY = datetime(2010, 1, 1, tzinfo=timezone.utc)

FILTERS: dict[str, dict[str, Any]] = {
    "label equal, 1 of 100": {"label": "label 7"},
    "label, glob `*[37]`, 1 of 5": {"label": {"glob": "*[37]"}},
    "integer equal, 1 of 15": {"year": 2015},
    "number within, 1%": {"sharpness": {"gte": 0.5, "lt": 0.51}},
    "time within, 1 of 15 years": {"taken": {"gte": "2015-01-01", "lt": "2016-01-01"}},
    "boolean, 2%": {"favourite": True},
    "file name, prefix, 1 of 15": {"filename": {"prefix": "2015/"}},
    "file name, glob `*/IMG_0007*`, 1%": {"filename": {"glob": "*/IMG_0007*"}},
    "file name, glob `2015/*7.jpg`, 1 of 150": {"filename": {"glob": "2015/*7.jpg"}},
    "file name, glob `*[05].jpg`, 1 of 5": {"filename": {"glob": "*[05].jpg"}},
}


def record(number: int, count: int) -> Record:
    taken = FIRST_DAY + timedelta(days=15 * 365.25 * number / count)
    filename = f"{taken.year}/{taken:%m-%d}/IMG_{number:06}.jpg"
    return Record(
        PathIds().allocate(filename=filename, sha256=""),
        {
            "filename": filename,
            "root": "/data/photos",
            "modality": "image",
            "sha256": f"{number:064x}",
            "size": 160_000 + number,
            "mtime_ns": 1_700_000_000_000_000_000 + number,
            "label": f"label {number % LABELS}",
            "year": taken.year,
            "sharpness": (number * 7919 % count) / count,
            "taken": taken.isoformat(),
            "favourite": number % 50 == 0,
        },
    )


def opened(path: Path, *, index_payload: bool) -> QdrantEdgeStore:
    store = QdrantEdgeStore(path, index_payload=index_payload)
    store.ensure(SCHEMA)
    return store


def write(path: Path, vectors: FloatArray, *, optimize: bool) -> None:
    store = opened(path, index_payload=False)
    for start in range(0, len(vectors), 500):
        rows = vectors[start : start + 500]
        store.upsert([record(start + number, len(vectors)) for number in range(len(rows))], rows)
    if optimize:
        began = time.perf_counter()
        store.optimize()
        print(f"optimize() without indexes took {time.perf_counter() - began:.1f} s")
    store.close()


def p50_ms(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Of each of several calls, made in turn."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    shuffled, order = random.Random(0), list(calls)
    for _ in range(repeats):
        shuffled.shuffle(order)
        for name in order:
            began = time.perf_counter()
            calls[name]()
            times[name].append((time.perf_counter() - began) * 1000)
    return {name: float(np.median(each)) for name, each in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--points", type=int, default=118_000)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    print(describe_machine("qdrant-edge-py", "numpy"))
    together = vectors_alike(options.points + 2000, DIMENSION)
    vectors, queries = together[:-2000], together[-2000:]
    row = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder, "without"), vectors, optimize=True)
        shutil.copytree(Path(folder, "without"), Path(folder, "with"))
        with_, without = (
            opened(Path(folder, "with"), index_payload=True),
            opened(Path(folder, "without"), index_payload=False),
        )

        def search(store: QdrantEdgeStore, where: dict[str, Any]) -> Callable[[], Any]:
            def call() -> Any:
                at = row.randrange(len(queries))
                return store.search(queries[at : at + 1], limit=LIMIT, where=where)

            return call

        print(f"{options.points:,} x {DIMENSION}, optimized; ms, p50 of {options.repeats}")
        print("| filter | passes | search without | search with | ratio | count without | count with | ratio | first |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
        for title, where in FILTERS.items():
            began = time.perf_counter()
            passing = with_.count(where)
            first_ms = (time.perf_counter() - began) * 1000
            assert passing == without.count(where)
            calls: dict[str, Callable[[], Any]] = {
                "search with": search(with_, where),
                "search without": search(without, where),
                "count with": partial(with_.count, where),
                "count without": partial(without.count, where),
            }
            ms = p50_ms(calls, options.repeats)
            cells = [title, f"{passing:,}"]
            for what in ("search", "count"):
                slow, fast = ms[f"{what} without"], ms[f"{what} with"]
                cells += [
                    f"{slow:.2f}",
                    f"{fast:.2f}",
                    f"{slow / fast:.0f}" if slow / fast >= 10 else f"{slow / fast:.1f}",
                ]
            print("| " + " | ".join([*cells, f"{first_ms:.0f}"]) + " |")
        print("`first`: the call that makes the index.")
        with_.close()
        without.close()
        write(Path(folder, "again"), vectors, optimize=False)
        store = opened(Path(folder, "again"), index_payload=True)
        for where in FILTERS.values():
            store.count(where)
        began = time.perf_counter()
        store.optimize()
        print(f"optimize() with indexes on five more fields took {time.perf_counter() - began:.1f} s")
        store.close()


if __name__ == "__main__":
    main()
