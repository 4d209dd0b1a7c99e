"""What calls of a store cost through another process, over a local socket, against those in this process.

One index is written, optimized and copied; this process opens one copy, and another process serves the other. Both are
searched in turn: one search after another, and 100 at once from as many threads. Besides: a call for which nothing is
done, which shows what the socket costs, all payloads read by `scan`, and `upsert`.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from _common import describe_machine, photo_record, vectors_alike
from multimodal_search import QdrantEdgeStore, StoreSchema, VectorStore
from multimodal_search.stores.local_socket import connect_store

LIMIT = 10
SCHEMA = StoreSchema(model="none", fingerprint="none", dimension=512)
SERVE = """
import sys
from multimodal_search import QdrantEdgeStore, StoreSchema
from multimodal_search.stores.local_socket import serve_store
store = QdrantEdgeStore(sys.argv[1])
store.ensure(StoreSchema(model="none", fingerprint="none", dimension=512))
with serve_store(store, sys.argv[1], transport=sys.argv[2]):
    print("ready", flush=True)
    sys.stdin.read()
store.close()
"""


@contextmanager
def served(folder: Path, transport: str) -> Iterator[VectorStore]:
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, str(folder), transport], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        child.stdout.readline()
        store = connect_store(folder)
        yield store
        store.close()
        child.stdin.close()


def compare(title: str, ways: dict[str, Callable[[int], object]], repeats: int, aim: str = "") -> None:
    """Each way in turn, 50 times or once: one process that waits spoils the processor's cache for the other."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    block = min(50, repeats // 5)
    for start in range(0, repeats, block):
        for name, way in ways.items():
            for number in range(start, start + block):
                began = time.perf_counter()
                way(number)
                times[name].append((time.perf_counter() - began) * 1000)
    print(title)
    for name, each in times.items():
        best = sorted(each)[len(each) // 10]
        print(f"  {name:<10} median {statistics.median(each):.3f} ms, best tenth {best:.3f} ms")
    here, shared = (statistics.median(each) for each in times.values())
    print(f"  {shared / here:.2f} times, {shared - here:+.3f} ms   {aim}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--transport", default="unix", choices=["unix", "tcp"])
    options = parser.parse_args()
    print(describe_machine("qdrant-edge-py", "numpy"))
    together = vectors_alike(options.points + 1000, SCHEMA.dimension)
    vectors, queries = together[:-1000], together[-1000:]
    with tempfile.TemporaryDirectory() as folder:
        here, there = Path(folder, "here"), Path(folder, "there")
        store = QdrantEdgeStore(here)
        store.ensure(SCHEMA)
        records = [photo_record(number) for number in range(options.points)]
        for start in range(0, options.points, 500):
            store.upsert(records[start : start + 500], vectors[start : start + 500])
        store.optimize()
        store.close()
        shutil.copytree(here, there)
        store = QdrantEdgeStore(here)
        store.ensure(SCHEMA)
        with served(there, options.transport) as other, ThreadPoolExecutor(100) as threads:
            stores: dict[str, VectorStore] = {"in-process": store, "shared": other}

            def search(store: VectorStore, number: int) -> None:
                assert len(store.search(queries[number % 1000][None], limit=LIMIT)[0]) == LIMIT

            def one(store: VectorStore) -> Callable[[int], object]:
                return lambda number: search(store, number)

            def hundred(store: VectorStore) -> Callable[[int], object]:
                return lambda number: list(threads.map(lambda at: search(store, number * 100 + at), range(100)))

            def nothing(store: VectorStore) -> Callable[[int], object]:
                return lambda _: store.get([])

            def write(store: VectorStore) -> Callable[[int], object]:
                at = slice(0, 500)
                return lambda _: store.upsert(records[at], vectors[at])

            def read(store: VectorStore) -> Callable[[int], object]:
                return lambda _: sum(1 for _ in store.scan())

            def ways(way: Callable[[VectorStore], Callable[[int], object]]) -> dict[str, Callable[[int], object]]:
                return {name: way(each) for name, each in stores.items()}

            for way in (one, hundred):  # a first time, for what is made then
                for each in ways(way).values():
                    each(0)
            compare("get([]), for which nothing is done", ways(nothing), options.repeats)
            compare("One search", ways(one), options.repeats, "[aim 1.56]")
            rounds = max(5, options.repeats // 20)
            compare("100 at once", ways(hundred), rounds, "[aim 1.25]")
            compare("scan of all points", ways(read), 5)
            compare("upsert of 500", ways(write), 20)
        store.close()


if __name__ == "__main__":
    main()
