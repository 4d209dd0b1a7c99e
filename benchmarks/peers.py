"""Searching in-process, here and elsewhere: one by one and a hundred at once, among as many points as COCO has.

The same clustered unit vectors with file names are searched, in one run and in turn, with Qdrant's engine itself, with
`QdrantEdgeStore` and `MultimodalIndex`, with qdrant-client's local mode, with Chroma, and with LanceDB with and without
an HNSW index. Each answers with the ten nearest and their file names. Graphs are built with each one's own defaults (16
or 20 neighbours); what decides between speed and recall when searching is set, for peers, to the smallest of some
values whose recall reaches that of ours, or a given one.

`--space FOLDER` searches a recorded text-image space instead, as large as asked for, with captions, in an index that
`recall.py --folder` has made and tuned.

Peers that are not installed are left out: they are no extras of this library.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge

from _common import describe_machine, vectors_alike
from _space import Space, SpaceEmbedder
from multimodal_search import MultimodalIndex, PathIds, QdrantEdgeStore, Record
from multimodal_search.types import FloatArray
from search import DIMENSION, LIMIT, NoEmbedder

BATCH, WRITE = 100, 500
OURS, RAW = "ours: MultimodalIndex", "Qdrant's engine"
SHORT = 0.001  # of our recall, that a peer's may fall
_CHROMA = (10, 20, 35, 50, 70, 100, 150, 200, 250, 300, 400, 500, 700, 1_000, 1_500)
_LANCE = ((20, 1), (20, 2), (50, 2), (100, 2), (150, 3), (200, 4), (300, 4), (400, 4), (500, 4), (700, 4), (1_000, 10))


@dataclass
class Way:
    """One way to search; `one` and `many` answer with file names."""

    name: str
    one: Callable[[int], list[str]]
    many: Callable[[Sequence[int]], list[list[str]]]
    settings: str = ""
    recall: float = 0.0
    one_ms: list[float] = field(default_factory=list)
    many_ms: list[float] = field(default_factory=list)  # for each query of a batch

    def row(self) -> str:
        p50, p99 = np.percentile(self.one_ms, (50, 99))
        rates = (1000 / np.mean(self.one_ms), 1000 / np.mean(self.many_ms))
        return (
            f"  {self.name:<24} {p50:>8.3f} {p99:>9.3f} {rates[0]:>9,.0f} {rates[1]:>9,.0f} {self.recall:>9.4f}"
            f"  {self.settings}"
        )


def name_of(number: int) -> str:
    return f"{number:012}.jpg"


def chunks(points: int, size: int) -> Iterator[range]:
    return (range(start, min(start + size, points)) for start in range(0, points, size))


def written(stack: ExitStack, folder: Path, vectors: FloatArray) -> MultimodalIndex:
    index = stack.enter_context(MultimodalIndex(NoEmbedder(), QdrantEdgeStore(folder)))
    store = index.store
    for part in chunks(len(vectors), WRITE):
        records = [
            Record(PathIds().allocate(filename=name_of(each), sha256=""), {"filename": name_of(each)}) for each in part
        ]
        store.upsert(records, vectors[part.start : part.stop])
    index.optimize()
    return index


def ours(index: MultimodalIndex, queries: FloatArray) -> Iterator[Way]:
    store = index.store
    assert isinstance(store, QdrantEdgeStore)
    keep = store.tuning.hnsw_ef if store.tuning is not None else None
    shard = store._folder().run(lambda shard: shard)  # noqa: SLF001 (no other may open it)
    lists = queries.tolist()

    def request(row: int) -> qdrant_edge.QueryRequest:
        return qdrant_edge.QueryRequest(
            query=qdrant_edge.Query.Nearest(lists[row]),
            limit=LIMIT,
            with_payload=True,
            params=None if keep is None else qdrant_edge.SearchParams(hnsw_ef=keep),
        )

    def names(hits: Iterable[Any]) -> list[str]:
        return [hit.payload["filename"] for hit in hits]

    yield Way(
        RAW,
        lambda row: names(shard.query(request(row))),
        lambda rows: list(map(names, shard.query_batch(qdrant_edge.QueryBatchRequest([request(row) for row in rows])))),
    )
    yield Way(
        "ours: QdrantEdgeStore",
        lambda row: names(store.search(queries[row : row + 1], limit=LIMIT)[0]),
        lambda rows: list(map(names, store.search(queries[list(rows)], limit=LIMIT))),
    )
    yield Way(
        OURS,
        lambda row: [hit.filename or "" for hit in index.search(queries[row], limit=LIMIT)],
        lambda rows: [
            [hit.filename or "" for hit in hits]
            for hits in index.search_many([queries[row] for row in rows], limit=LIMIT)
        ],
    )


def local_qdrant(stack: ExitStack, folder: Path, vectors: FloatArray, queries: FloatArray) -> Iterator[Way]:
    import warnings

    from qdrant_client import QdrantClient, models

    client = QdrantClient(":memory:")
    stack.callback(client.close)
    size = models.VectorParams(size=vectors.shape[1], distance=models.Distance.COSINE)
    client.create_collection("peers", vectors_config=size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that 20,000 points are many for it, which this is about
        for part in chunks(len(vectors), WRITE):
            payloads = [{"filename": name_of(each)} for each in part]
            rows = vectors[part.start : part.stop].tolist()
            client.upsert("peers", models.Batch(ids=list(part), vectors=rows, payloads=payloads))
    lists = queries.tolist()

    def names(answer: Any) -> list[str]:
        return [point.payload["filename"] for point in answer.points]

    def many(rows: Sequence[int]) -> list[list[str]]:
        requests = [models.QueryRequest(query=lists[row], limit=LIMIT, with_payload=True) for row in rows]
        return list(map(names, client.query_batch_points("peers", requests)))

    yield Way(
        "qdrant-client :memory:",
        lambda row: names(client.query_points("peers", lists[row], limit=LIMIT)),
        many,
        "exact",
    )


def chroma(stack: ExitStack, folder: Path, vectors: FloatArray, queries: FloatArray) -> Iterator[Way]:
    import chromadb

    def opened() -> Any:
        return chromadb.PersistentClient(str(folder), settings=chromadb.Settings(anonymized_telemetry=False))

    client = opened()
    collection = client.create_collection("peers", configuration={"hnsw": {"space": "cosine"}})
    for part in chunks(len(vectors), 5_000):
        collection.add(
            ids=[str(each) for each in part],
            embeddings=vectors[part.start : part.stop],
            metadatas=[{"filename": name_of(each)} for each in part],
        )

    def many(rows: Sequence[int]) -> list[list[str]]:
        found = collection.query(query_embeddings=queries[list(rows)], n_results=LIMIT, include=["metadatas"])
        return [[each["filename"] for each in metadatas] for metadatas in found["metadatas"]]

    for ef in _CHROMA:
        collection.modify(configuration={"hnsw": {"ef_search": ef}})
        client.close()  # what is loaded keeps what it was loaded with
        client.clear_system_cache()
        client = opened()
        collection = client.get_collection("peers")
        yield Way("Chroma, persistent", lambda row: many([row])[0], many, f"ef_search={ef}")


def lance(stack: ExitStack, folder: Path, vectors: FloatArray, queries: FloatArray, *, graph: bool) -> Iterator[Way]:
    import lancedb
    import pyarrow as pa
    from lancedb.index import IvfHnswSq

    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), vectors.shape[1])
    names = pa.array([name_of(each) for each in range(len(vectors))])
    table = lancedb.connect(folder).create_table("peers", pa.table({"vector": flat, "filename": names}))
    if graph:
        table.create_index("vector", config=IvfHnswSq(distance_type="cosine", num_partitions=1))

    def answers(rows: Sequence[int], ef: int, refine: int) -> list[list[str]]:
        query = table.search(queries[rows[0]] if len(rows) == 1 else [queries[row] for row in rows])
        query = query.distance_type("cosine").limit(LIMIT).select(["filename", "_distance"])
        found = (query.ef(ef).nprobes(1).refine_factor(refine) if graph else query).to_arrow()
        filenames = found["filename"].to_pylist()
        if len(rows) == 1:
            return [filenames]
        hits: list[list[str]] = [[] for _ in rows]
        for number, filename in zip(found["query_index"].to_pylist(), filenames, strict=True):
            hits[number].append(filename)
        return hits

    for ef, refine in _LANCE if graph else ((0, 0),):
        yield Way(
            f"LanceDB, {'IVF_HNSW_SQ' if graph else 'flat'}",
            lambda row, ef=ef, refine=refine: answers([row], ef, refine)[0],  # type: ignore[misc]
            lambda rows, ef=ef, refine=refine: answers(rows, ef, refine),  # type: ignore[misc]
            f"1 partition, ef={ef}, refine_factor={refine}" if graph else "exact",
        )


def recall(way: Way, nearest: list[set[str]]) -> float:
    found = sum(len(set(way.one(row)) & wanted) for row, wanted in enumerate(nearest))
    return found / (LIMIT * len(nearest))


def first_good_enough(ways: Iterator[Way], nearest: list[set[str]], least: float) -> Way:
    """The first way that reaches a recall, or else the last one."""
    for way in ways:
        way.recall = recall(way, nearest)
        print(f"    {way.name}, {way.settings}: recall@{LIMIT} {way.recall:.4f}")
        if way.recall >= least:
            break
    return way


def measure(ways: list[Way], queries: int, singles: int, batches: int) -> None:
    """Each in turn, with queries of its own, for one that was just searched is in the processor's cache."""
    shuffled = random.Random(0)
    order = list(ways)
    for number in range(singles):
        shuffled.shuffle(order)
        for way in order:
            row = shuffled.randrange(queries)
            began = time.perf_counter()
            way.one(row)
            way.one_ms.append((time.perf_counter() - began) * 1000)
        if number % max(1, singles // batches) == 0:
            for way in order:
                rows = shuffled.sample(range(queries), BATCH)
                began = time.perf_counter()
                way.many(rows)
                way.many_ms.append((time.perf_counter() - began) * 1000 / BATCH)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--points", type=int, default=118_000)
    parser.add_argument("--repeats", type=int, default=500, help="single searches with each (default: %(default)s)")
    parser.add_argument("--batches", type=int, default=10, help=f"of {BATCH} with each (default: %(default)s)")
    parser.add_argument("--space", type=Path, metavar="FOLDER", help="search the space in this index, with captions")
    parser.add_argument("--recall", type=float, help=f"that peers must reach (default: ours, less {SHORT})")
    parser.add_argument("--only", nargs="+", metavar="PACKAGE", help="the peers to compare with (default: all)")
    options = parser.parse_args()
    space = None if options.space is None else Space()
    if space is None:
        together = vectors_alike(options.points + 2000, DIMENSION)
        vectors, queries = together[:-2000], together[-2000:]
    else:
        vectors, queries = space.images(options.points), space.embed_texts(space.captions()[:2000])
    nearest = [
        {name_of(number) for number in np.argpartition(vectors @ query, -LIMIT)[-LIMIT:]} for query in queries[:500]
    ]
    peers = {
        "qdrant_client": [local_qdrant],
        "chromadb": [chroma],
        "lancedb": [lambda *given: lance(*given, graph=True), lambda *given: lance(*given, graph=False)],
    }
    peers = {package: some for package, some in peers.items() if package in (options.only or peers)}
    present = [package for package in peers if importlib.util.find_spec(package)]
    print(describe_machine("qdrant-edge-py", "numpy", *present))
    for package in peers.keys() - present:
        print(f"{package} is left out: pip install {package}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        began = time.perf_counter()
        if space is None:
            index = written(stack, folder / "ours", vectors)
            print(f"ours: written and optimized in {time.perf_counter() - began:.0f} s")
        else:
            index = stack.enter_context(MultimodalIndex(SpaceEmbedder(space), QdrantEdgeStore(options.space)))
            assert index.count() == len(vectors), f"{options.space} holds {index.count():,} points"
        ways = list(ours(index, queries))
        for way in ways:
            way.recall = recall(way, nearest)
        least = options.recall or ways[-1].recall - SHORT
        for number, peer in enumerate(peer for package in present for peer in peers[package]):
            began = time.perf_counter()
            ways.append(first_good_enough(peer(stack, folder / str(number), vectors, queries), nearest, least))
            print(f"{ways[-1].name}: written, indexed and set in {time.perf_counter() - began:.0f} s")
        before = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        measure(ways, len(queries), options.repeats, options.batches)
        after = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    print(
        f"{options.points:,} x {vectors.shape[1]}, limit {LIMIT}; load average {before:.1f} before, {after:.1f} after"
    )
    print(f"  {'':<24} {'p50 ms':>8} {'p99 ms':>9} {'one: /s':>9} {BATCH:>4}: /s {f'recall@{LIMIT}':>11}")
    for way in ways:
        print(way.row())
    by_name = {way.name: way for way in ways}
    mine = by_name[OURS]
    for way in ways:
        if way is not mine:
            one = np.median(mine.one_ms) / np.median(way.one_ms)
            many = np.median(mine.many_ms) / np.median(way.many_ms)
            print(f"{OURS} / {way.name}: {one:.3f} one by one, {many:.3f} in batches (of the median time)")


if __name__ == "__main__":
    main()
