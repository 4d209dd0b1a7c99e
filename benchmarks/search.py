"""What a search costs beyond Qdrant's engine itself, and what it finds, among as many points as COCO's train2017.

One index of clustered unit vectors, with ids and payloads as indexing writes them, is searched in turn with
`QdrantEdgeStore.search`, with `MultimodalIndex.search` (both with a vector, so that nothing is embedded), and with
the engine's own call on the same shard, its payloads read. Every call has a query of its own, for one that has just
been searched finds everything in the processor's cache.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge

from _common import describe_machine, photo_record, vectors_alike
from multimodal_search import EmbedderSpec, MultimodalIndex, QdrantEdgeStore, Role
from multimodal_search.contents import Content
from multimodal_search.types import Filter, FloatArray

DIMENSION, LIMIT, LABELS = 128, 10, 100


class NoEmbedder:
    """All queries here are vectors."""

    spec = EmbedderSpec(
        model="none", fingerprint="none", dimension=DIMENSION, modalities=frozenset({"image"}), max_batch_size=1
    )

    def embed(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
        raise NotImplementedError


def raw_search(shard: qdrant_edge.EdgeShard, query: list[float], where: qdrant_edge.Filter | None) -> list[Any]:
    request = qdrant_edge.QueryRequest(
        query=qdrant_edge.Query.Nearest(query), limit=LIMIT, with_payload=True, filter=where
    )
    return [(hit.id, hit.score, hit.payload) for hit in shard.query(request)]


def compare(
    title: str, index: MultimodalIndex, queries: FloatArray, repeats: int, where: Filter | None, engine_filter: Any
) -> None:
    store = index.store
    shard = store._folder().run(lambda shard: shard)  # type: ignore[attr-defined]  # noqa: SLF001 (no other may open it)
    lists = queries.tolist()
    ways: dict[str, Callable[[int], Any]] = {
        "engine": lambda row: raw_search(shard, lists[row], engine_filter),
        "store": lambda row: store.search(queries[row : row + 1], limit=LIMIT, where=where),
        "index": lambda row: index.search(queries[row], limit=LIMIT, where=where),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    shuffled = random.Random(0)
    order = list(ways)
    for _ in range(repeats):
        shuffled.shuffle(order)
        for name in order:
            row = shuffled.randrange(len(queries))
            began = time.perf_counter()
            ways[name](row)
            times[name].append((time.perf_counter() - began) * 1000)
    print(title)
    base = np.median(times["engine"])
    for name, each in times.items():
        p50, p99 = np.percentile(each, (50, 99))
        aim = "" if name == "engine" else f"   {p50 / base:.2f} of the engine's p50, {p50 - base:+.3f} ms"
        print(f"  {name:<8} p50 {p50:.3f} ms, p99 {p99:.3f} ms{aim}")


def recall(index: MultimodalIndex, vectors: FloatArray, queries: FloatArray) -> float:
    """The share of the ten nearest, by NumPy, that a search finds."""
    found = 0
    for query in queries:
        nearest = np.argpartition(vectors @ query, -LIMIT)[-LIMIT:]
        names = {f"{number:012}.jpg" for number in nearest}
        found += len(names & {hit.filename for hit in index.search(query, limit=LIMIT)})
    return found / (LIMIT * len(queries))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--points", type=int, default=118_000)
    parser.add_argument("--repeats", type=int, default=2000)
    options = parser.parse_args()
    print(describe_machine("qdrant-edge-py", "numpy"))
    together = vectors_alike(options.points + 2000, DIMENSION)
    vectors, queries = together[:-2000], together[-2000:]
    label = qdrant_edge.FieldCondition("label", match=qdrant_edge.MatchValue("label 7"))
    one_label = ({"label": "label 7"}, qdrant_edge.Filter(must=[label]))
    starts = qdrant_edge.FieldCondition("filename", match=qdrant_edge.MatchPrefix("0000000007"))
    one_name = ({"filename": {"prefix": "0000000007"}}, qdrant_edge.Filter(must=[starts]))
    with (
        tempfile.TemporaryDirectory() as folder,
        MultimodalIndex(NoEmbedder(), QdrantEdgeStore(Path(folder, "index"))) as index,
    ):
        began = time.perf_counter()
        for start in range(0, options.points, 500):
            rows = vectors[start : start + 500]
            index.store.upsert(
                [
                    photo_record(start + number, label=f"label {(start + number) % LABELS}")
                    for number in range(len(rows))
                ],
                rows,
            )
        print(f"{options.points:,} x {DIMENSION}, written in {time.perf_counter() - began:.1f} s")
        compare("Before optimize()", index, queries, options.repeats // 10, None, None)
        print(f"  recall@{LIMIT} against NumPy: {recall(index, vectors, queries[:200]):.4f}")
        began = time.perf_counter()
        index.optimize()
        print(f"optimize() took {time.perf_counter() - began:.1f} s")
        compare("After optimize()   [aim: at most 1.15]", index, queries, options.repeats, None, None)
        print(f"  recall@{LIMIT} against NumPy: {recall(index, vectors, queries[:1000]):.4f}")
        compare("Filtered: one label of 100, a field of the user's", index, queries, options.repeats // 10, *one_label)
        compare("Filtered: names that begin with 0000000007", index, queries, options.repeats // 10, *one_name)


if __name__ == "__main__":
    main()
