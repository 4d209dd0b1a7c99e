"""Recall of words against images in a real text-image space: with default settings, tuned, and exactly.

Needs a recorded space, whose noisy copies make it as large as asked for, and the captions of its test photos. Times
are medians of one run; compare them with each other.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from _common import describe_machine
from multimodal_search import EmbedderSpec, MultimodalIndex, QdrantEdgeStore, Record
from multimodal_search.contents import Content, Text
from multimodal_search.types import FloatArray, Role

_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
_LIMIT, _UNTUNED = 10, 100  # candidates that HNSW libraries keep by default
_SHARES = (0.5, 0.1, 0.01, 0.001)


class SpaceEmbedder:
    """The text tower of the recorded space."""

    def __init__(self, space: ModuleType) -> None:
        self._space = space
        self.spec = EmbedderSpec(
            model="space", fingerprint="space-1", dimension=512, modalities={"text"}, max_batch_size=64
        )

    def embed(self, contents: list[Content], /, *, role: Role) -> FloatArray:
        rows: FloatArray = self._space.embed_texts([content.text for content in contents if isinstance(content, Text)])
        return rows


def _space(folder: Path) -> ModuleType:
    found = importlib.util.spec_from_file_location("space", folder / "space.py")
    assert found is not None and found.loader is not None, folder  # noqa: PT018 (one thing is missing)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def _records(rows: FloatArray) -> Iterator[Record]:
    for number, row in enumerate(rows):
        yield Record(number, {"modality": "image", "number": number}, vector=row)


def _captions(data: Path, count: int) -> list[str]:
    with (data / "flickr8k_test" / "captions.csv").open(encoding="utf-8") as file:
        texts = [row["caption"] for row in csv.DictReader(file) if row["language"] == "en"]
    return [texts[at] for at in np.random.default_rng(1).choice(len(texts), count, replace=False)]


def _measured(search: Callable[[FloatArray], Any], queries: FloatArray, nearest: list[set[int]]) -> tuple[str, float]:
    shares, times = [], []
    for query, wanted in zip(queries, nearest, strict=True):
        began = time.perf_counter()
        page = search(query[np.newaxis])[0]
        times.append(1000 * (time.perf_counter() - began))
        shares.append(len({hit.id for hit in page} & wanted) / max(1, len(wanted)))
    p50 = float(np.median(times))
    return f"recall@{_LIMIT} {np.mean(shares):.4f}, {shares.count(0)} without any, p50 {p50:.2f} ms", p50


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--points", type=int, default=15_534)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--data", type=Path, default=_DATA, help="with space/ and flickr8k_test/")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    space = _space(options.data / "space")
    rows = np.concatenate([space.images(name)[2] for name in ("flickr8k", "clothing", "flowers")])
    if options.points > len(rows):
        rows = np.concatenate([rows, space.noisy_copies(rows, options.points - len(rows))])
    rows = rows[: options.points]
    far = (options.data / "space" / "far.txt").read_text(encoding="utf-8").split("\n")
    kinds = {
        "captions": space.embed_texts(_captions(options.data, options.queries)),
        "far": space.embed_texts([text for text in far if text.strip()]),
        "crops": space.crops()[1][: options.queries],
    }
    print(describe_machine("qdrant-edge-py", "numpy"))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        store = QdrantEdgeStore(Path(folder) / "index")
        with MultimodalIndex(SpaceEmbedder(space), store) as index:
            began = time.perf_counter()
            index.add_vectors(_records(rows), progress=False)
            print(f"{len(rows):,} points written and optimized in {time.perf_counter() - began:.0f} s")
            began = time.perf_counter()
            index.optimize()  # which embeds the neutral texts
            print(f"tuned in {time.perf_counter() - began:.0f} s\n{index.status()}")
            for kind, some in kinds.items():
                nearest = [set(np.argpartition(-(rows @ query), _LIMIT)[:_LIMIT].tolist()) for query in some]
                default, ms = _measured(
                    lambda row: store._pages(row, limit=_LIMIT, offset=0, where=None, candidates=_UNTUNED),  # noqa: SLF001 (what it was)
                    some,
                    nearest,
                )
                tuned, tuned_ms = _measured(lambda row: store.search(row, limit=_LIMIT), some, nearest)
                exact, _ = _measured(lambda row: store.search_exactly(row, limit=_LIMIT), some[:50], nearest[:50])
                print(f"{kind}: {_UNTUNED} candidates {default}; tuned {tuned}; exact {exact}")
                print(f"{kind}: tuned / {_UNTUNED} candidates: {tuned_ms / ms:.2f} (of the median time)")
            for share in _SHARES:
                where = {"number": {"lt": int(share * len(rows))}}
                some = kinds["captions"][:100]
                nearest = [{hit.id for hit in page} for page in store.search_exactly(some, limit=_LIMIT, where=where)]
                found, _ = _measured(
                    lambda row, where=where: store.search(row, limit=_LIMIT, where=where),  # type: ignore[misc]
                    some,
                    nearest,
                )
                print(f"captions, {share:.1%} pass: {found}")


if __name__ == "__main__":
    main()
