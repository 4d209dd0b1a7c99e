"""Count the round trips of each operation on a Qdrant server: requests that wait for each other, as a cloud makes felt.

Requests that are under way at the same time count as one. The server is the one of the tests, on this machine; it is
given a delay, so that what can be sent at the same time is.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from _common import describe_machine  # isort: skip  (first: it finds the tests' server)

import numpy as np
from qdrant_rest_server import QdrantServer, running
from tiny_embedder import TinyEmbedder

from multimodal_search import Item, MultimodalIndex, QdrantStore, Record, Text

_WORDS = ("red", "green", "blue", "yellow", "white", "black", "orange", "brown")


def records(count: int, dimension: int) -> list[Record]:
    """Points with captions, of random vectors."""
    random = np.random.default_rng(0)
    rows = random.standard_normal((count, dimension)).astype(np.float32)
    return [
        Record(
            number,
            {
                "filename": f"{number}.jpg",
                "modality": "image",
                "caption": " ".join(random.choice(_WORDS, random.integers(2, 60))),
                "album": f"album {number % 7}",
                "city": f"city {number % 400}",
                "year": 2000 + number % 25,
            },
            vector=row,
        )
        for number, row in enumerate(rows)
    ]


def measure(server: QdrantServer, count: int) -> dict[str, int]:
    """The round trips of each operation, in an index of so many points."""
    trips: dict[str, int] = {}

    def counted(name: str, call: Callable[[], object]) -> None:
        server.forget_requests()
        call()
        trips[name] = server.round_trips()

    def open_index() -> MultimodalIndex:
        return MultimodalIndex(TinyEmbedder(), QdrantStore("photos", url=server.url))

    server.latency_s = 0.0
    server.forget_requests()
    server.latency_s = 0.02
    index = open_index()
    trips["open a new one"] = server.round_trips()
    server.latency_s = 0.0
    index.add_vectors(records(count, TinyEmbedder().spec.dimension))
    index.calibrate()
    index.close()
    server.latency_s = 0.02
    server.forget_requests()
    index = open_index()
    trips["open again"] = server.round_trips()
    some = index.store.get([3])[0]
    assert some is not None
    counted("first search", lambda: index.search("red"))
    counted("search", lambda: index.search("red"))
    counted("search with a filter", lambda: index.search("red", where={"year": {"gte": 2010}}))
    counted("page 3", lambda: index.search("red", offset=20))
    counted("page 300", lambda: index.search("red", offset=count - 20))
    counted("similar to a stored point", lambda: index.similar(3))
    counted("100 searches at once", lambda: index.search_many([f"red {number}" for number in range(100)]))
    counted("diversity", lambda: index.search("red", diversity=0.5))
    counted("deduplicate", lambda: index.search("red", deduplicate=True))
    counted("group_by, 7 groups", lambda: index.search("red", group_by="album"))
    counted("group_by, 400 groups", lambda: index.search("red", group_by="city"))
    counted("group_by, 3 of each", lambda: index.search("red", group_by="city", group_size=3))
    counted("hybrid search, first", lambda: index.search("red", keyword_weight=0.5))
    counted("hybrid search", lambda: index.search("red", keyword_weight=0.5))
    counted("hybrid search, two words", lambda: index.search("red blue", keyword_weight=0.5))
    counted("hybrid search, page 3", lambda: index.search("red", keyword_weight=0.5, offset=20))
    counted("hybrid search in a field", lambda: index.search("red", keyword_weight=0.5, keyword_fields=["caption"]))
    counted("keywords alone", lambda: index.search("red", keyword_weight=1))
    counted("glob *5.jpg", lambda: index.search("red", where={"filename": {"glob": "*5.jpg"}}))
    counted("glob *5.jpg, page 2", lambda: index.search("red", where={"filename": {"glob": "*5.jpg"}}, offset=10))
    texts = [Item(Text(f"text {number}"), payload={"n": number}) for number in range(10)]
    counted("add 10 texts", lambda: index.add(texts, progress=False))
    counted("add them again", lambda: index.add(texts, progress=False))
    more = [Item(Text(f"more {number}")) for number in range(count // 5)]
    counted("add many, and calibrate", lambda: index.add(more, progress=False))
    index.close()
    return trips


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=1_000, help="points in the index (default: %(default)s)")
    options = parser.parse_args()
    print(describe_machine("qdrant-client"))
    with running() as server:
        for name, trips in measure(server, options.count).items():
            print(f"  {name:<28} {trips:3}")


if __name__ == "__main__":
    main()
