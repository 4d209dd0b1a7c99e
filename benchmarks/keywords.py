"""Hybrid search with other people's captions: what it finds, and what it takes beside the engine's own two calls.

Each photo of a set has five captions by five people: one is the query, one other or all four are in its payload.

    python benchmarks/keywords.py DATA    a folder with `space` (a text tower and vectors of photos) and `flickr8k_test`
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from _common import describe_machine  # isort: skip

import numpy as np
import qdrant_edge as edge

from multimodal_search import EmbedderSpec, MultimodalIndex, QdrantEdgeStore, Record
from multimodal_search.stores.keywords import WORDS

_QUERIES = 200


class SpaceEmbedder:
    """The text tower of the data."""

    spec = EmbedderSpec(model="space", fingerprint="space/1", dimension=512, modalities=frozenset({"text"}))

    def __init__(self, embed_texts: Callable[[list[str]], Any]) -> None:
        self._embed_texts = embed_texts

    def embed(self, contents: Sequence[Any], /, *, role: str) -> Any:
        """Vectors of texts."""
        return self._embed_texts([content.text for content in contents])


def medians_ms(*calls: Callable[[int], object]) -> list[float]:
    """The median time of each call, over the queries; in turns, as other programs may use the machine."""
    times: list[list[float]] = [[] for _ in calls]
    for number in range(_QUERIES):
        for call, taken in zip(calls, times, strict=True):
            began = time.perf_counter()
            call(number)
            taken.append(1e3 * (time.perf_counter() - began))
    return list(map(statistics.median, times))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--points", type=int, default=0, help="noisy copies are added up to this many points")
    parser.add_argument("--captions", type=int, default=4, help="of other people in each payload, 1 to 4")
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.data / "space"))
    import space  # type: ignore[import-not-found]  # of the data

    captions: dict[str, list[str]] = {}
    with (arguments.data / "flickr8k_test" / "captions.csv").open(encoding="utf-8") as file:
        for line in csv.DictReader(file):
            if line["language"] == "en":
                captions.setdefault(line["filename"], []).append(line["caption"])
    names = sorted(captions)
    _, hashes, vectors = space.images()
    row_of = {each: at for at, each in enumerate(hashes)}
    paths = {path.name: path for path in (arguments.data / "flickr8k_test").rglob("*.jpg")}
    rows = vectors[[row_of[hashlib.sha256(paths[name].read_bytes()).hexdigest()] for name in names]]
    more = max(0, arguments.points - len(names))
    rows = np.concatenate([rows, space.noisy_copies(rows, more)]) if more else rows
    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        store = QdrantEdgeStore(Path(folder) / "index")
        with MultimodalIndex(SpaceEmbedder(space.embed_texts), store, auto_calibrate=False) as index:
            index.add_vectors(
                Record(
                    at,
                    {
                        "filename": names[at % len(names)],
                        "caption": captions[names[at % len(names)]][1 : 1 + arguments.captions],
                    },
                    vector=row,
                )
                for at, row in enumerate(rows)
            )
            index.optimize()
            queries = [captions[name][0] for name in names]
            if not more:
                for weight in (0.0, 0.3, 0.5, 0.7, 1.0):
                    found = index.search_many(queries, limit=10, keyword_weight=weight)
                    ranks = [[hit.id for hit in hits] for hits in found]
                    recall = [np.mean([at in ids[:k] for at, ids in enumerate(ranks)]) for k in (1, 5, 10)]
                    print(f"keyword_weight={weight}: R@1 {recall[0]:.3f}, R@5 {recall[1]:.3f}, R@10 {recall[2]:.3f}")
            asked = space.embed_texts(queries[:_QUERIES]).tolist()
            index.search_many(queries[:_QUERIES])  # so that the vectors of the queries are known
            index.search(queries[0], keyword_weight=0.5)  # builds the full-text index
            shard_folder = store._folder()  # noqa: SLF001 (the engine beside the store)

            def bare(number: int, *, with_payload: bool) -> None:
                for query in (edge.Query.Nearest(asked[number]), edge.TextQuery(WORDS, queries[number])):
                    request = edge.QueryRequest(query=query, limit=200, with_payload=with_payload)
                    shard_folder.run(lambda shard, request=request: shard.query(request))

            for _ in range(2):  # the first time, everything is read
                engine, lean, ours = medians_ms(
                    lambda number: bare(number, with_payload=True),
                    lambda number: bare(number, with_payload=False),
                    lambda number: index.search(queries[number], keyword_weight=0.5),
                )
            print(
                f"{len(rows):,} points, median of {_QUERIES}: the engine's two calls {engine:.2f} ms "
                f"(without payloads {lean:.2f}), hybrid search {ours:.2f} ms: {ours / engine:.2f} times "
                f"({ours / lean:.2f})"
            )
            for fields in (["caption"], ["filename", "caption"]):
                began = time.perf_counter()
                index.set_keyword_fields(fields)
                written = time.perf_counter() - began
                index.search(queries[0], keyword_weight=0.5)
                indexed = time.perf_counter() - began - written
                print(f"words of {fields}: written in {written:.1f} s, indexed by the next search in {indexed:.1f} s")


if __name__ == "__main__":
    main()
