"""Recall of words against images in a real text-image space: with default settings, tuned, and exactly.

Needs a recorded space, whose noisy copies make it as large as asked for, and the captions of its test photos. Measured
are captions, texts about what is on no photo, and crops; with captions also later pages, all hits up to some rank,
hybrid search, and filters. `--usual` builds a second index, with the graph that HNSW libraries build by default, and
searches both in turn. Times are medians of one run; compare them with each other.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from _common import describe_machine
from _space import DATA, DIMENSION, Space, SpaceEmbedder
from multimodal_search import MultimodalIndex, PathIds, PointId, QdrantEdgeStore, Record, StoreSchema
from multimodal_search.stores.qdrant_edge.engine import GRAPH
from multimodal_search.types import Filter, FloatArray

_LIMIT, _USUAL = 10, 100  # candidates that HNSW libraries keep by default
_SHARES = (0.5, 0.1, 0.01, 0.001)
_OFFSETS = (10, 20, 40, 90)
_RANKS = (100, 1_000, 5_000)
_SOME, _FEW = 100, 25  # queries, of what takes longer

Found: TypeAlias = Sequence[PointId]
Search: TypeAlias = Callable[[int], Found]
"""The ids that a query finds, by its number."""


def _records(rows: FloatArray, words: Sequence[str]) -> Iterator[Record]:
    """Images, some with a caption, which no other has, and each with a number from 0 to 1 by chance."""
    shares = np.random.default_rng(2).random(len(rows))
    for number, (row, share) in enumerate(zip(rows, shares.tolist(), strict=True)):
        filename = f"{number:012}.jpg"
        payload = {"filename": filename, "modality": "image", "share": share}
        caption = {"caption": words[number]} if number < len(words) else {}
        yield Record(PathIds().allocate(filename=filename, sha256=""), payload | caption, vector=row)


def _measured(ways: Mapping[str, Search], nearest: Sequence[Found]) -> None:
    """Searches each way in turn, and prints what they find of what is nearest, and their median times."""
    shares: dict[str, list[float]] = {name: [] for name in ways}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number, wanted in enumerate(nearest):
        for name, search in ways.items():
            began = time.perf_counter()
            found = search(number)
            times[name].append(1000 * (time.perf_counter() - began))
            shares[name].append(len(set(found) & set(wanted)) / len(wanted) if wanted else 1.0)
    first = next(iter(ways))
    for name, each in shares.items():
        p50, base = np.median(times[name]), np.median(times[first])
        against = f", {p50 / base:.2f} of {first}" if name != first else ""
        print(f"  {name}: recall {np.mean(each):.4f}, {each.count(0)} without any, p50 {p50:.2f} ms{against}")


def _usual(folder: Path, rows: FloatArray, words: Sequence[str]) -> QdrantEdgeStore:
    """The same points with the graph of before."""
    is_there, store = folder.exists(), QdrantEdgeStore(folder)
    store.ensure(StoreSchema(model="space", fingerprint="space-1", dimension=DIMENSION))
    if not is_there:
        records = list(_records(rows, words))
        for start in range(0, len(rows), 1_000):
            store.upsert(records[start : start + 1_000], rows[start : start + 1_000])
        store._folder().optimize(None, GRAPH)  # noqa: SLF001 (what is no longer built)
    return store


def _ids(store: QdrantEdgeStore, row: FloatArray, candidates: int | None) -> Found:
    (page,) = store._pages(row[np.newaxis], limit=_LIMIT, offset=0, where=None, candidates=candidates)  # noqa: SLF001 (what it was)
    return [match.id for match in page]


def _by_kind(index: MultimodalIndex, usual: QdrantEdgeStore | None, kinds: Mapping[str, FloatArray]) -> None:
    store = index.store
    assert isinstance(store, QdrantEdgeStore)
    for kind, some in kinds.items():
        pages = store.search_exactly(some, limit=_LIMIT)
        print(f"{kind}, the nearest {_LIMIT}:")
        ways: dict[str, Search] = {
            f"{_USUAL} candidates": lambda at, some=some: _ids(store, some[at], _USUAL),  # type: ignore[misc]
            "tuned": lambda at, some=some: _ids(store, some[at], None),  # type: ignore[misc]
        }
        if usual is not None:
            ways = {"graph and candidates of before": lambda at, some=some: _ids(usual, some[at], _USUAL)} | ways  # type: ignore[misc]
        _measured(ways, [[match.id for match in page] for page in pages])


def _by_words(index: MultimodalIndex, captions: Sequence[str], rows: FloatArray) -> None:
    """Pages, all hits, hybrid search and filters, as a user asks for them."""

    def compare(what: str, queries: Any, **options: Any) -> None:
        exact = [[hit.id for hit in index.search(query, exact=True, **options)] for query in queries]
        _measured({what: lambda at: [hit.id for hit in index.search(queries[at], **options)]}, exact)

    print("captions, tuned, against exact searches:")
    for offset in _OFFSETS:
        compare(f"hits {offset + 1} to {offset + _LIMIT}", rows, offset=offset)
    for share in _SHARES:
        compare(f"{share:.1%} pass", rows, where={"share": {"lt": share}})
        compare(f"{share:.1%} pass, hits 21 to 30", rows, where={"share": {"lt": share}}, offset=20)
    for weight in (0.2, 0.5, 0.8):
        compare(f"keyword_weight={weight}", captions, keyword_weight=weight)
    for rank in _RANKS:
        compare(f"limit={rank}", rows[:_FEW], limit=rank)
        for where in (None, {"share": {"lt": 0.1}}):
            exact = [[hit.id for hit in index.search(row, limit=rank, where=where, exact=True)] for row in rows[:_FEW]]
            what = f"search_all, the first {rank}, {'all' if where is None else '10 %'} pass"
            _measured({what: lambda at: _first(index, rows[at], rank, where)}, exact)  # noqa: B023 (called at once)


def _first(index: MultimodalIndex, row: FloatArray, rank: int, where: Filter | None) -> Found:
    return [hit.id for hit in islice(index.search_all(row, where=where), rank)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--points", type=int, default=15_534)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--data", type=Path, default=DATA, help="with space/ and flickr8k_test/")
    parser.add_argument("--folder", type=Path, help="keep the index there, or take the one that is")
    parser.add_argument("--usual", action="store_true", help="compare with the graph that was built before")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    space = Space(options.data)
    rows, words = space.images(options.points), space.captions()
    captions = words[: options.queries]
    kinds = {
        "captions": space.embed_texts(captions),
        "far": space.embed_texts(space.far()),
        "crops": space.crops()[: options.queries],
    }
    print(describe_machine("qdrant-edge-py", "numpy"))
    with ExitStack() as stack:
        temporary = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        folder = options.folder or Path(temporary) / "index"
        is_there = folder.exists()
        index = stack.enter_context(MultimodalIndex(SpaceEmbedder(space), QdrantEdgeStore(folder)))
        if not is_there:
            began = time.perf_counter()
            index.add_vectors(_records(rows, words), progress=False)
            print(f"{len(rows):,} points written and optimized in {time.perf_counter() - began:.0f} s")
            began = time.perf_counter()
            index.optimize()  # which embeds the neutral texts
            print(f"tuned in {time.perf_counter() - began:.0f} s")
        print(index.status())
        usual = _usual(folder.with_name(f"{folder.name}-usual"), rows, words) if options.usual else None
        if usual is not None:
            stack.callback(usual.close)
        _by_kind(index, usual, kinds)
        _by_words(index, captions[:_SOME], kinds["captions"][:_SOME])


if __name__ == "__main__":
    main()
