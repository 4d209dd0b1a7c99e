"""Indexing images with an embedder that costs nothing, against Pillow alone on as many threads.

    python benchmarks/decoding.py [--photos FOLDER] [--count 400] [--rounds 5]

Both read the same files and decode them to RGB. Ours also hashes, checks, recognises, batches, and stores in memory.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL.Image

from _common import add_photo_options, describe_machine, photos, print_ratio
from multimodal_search import EmbedderSpec, MemoryStore, MultimodalIndex, Role
from multimodal_search._indexing.pipeline import LOADERS
from multimodal_search.contents import Content
from multimodal_search.types import FloatArray


class FreeEmbedder:
    """Takes decoded images and looks at none of them."""

    spec = EmbedderSpec(
        model="free",
        fingerprint="free",
        dimension=16,
        modalities=frozenset({"image"}),
        max_batch_size=16,
        max_concurrency=1,
    )

    def embed(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
        return np.ones((len(contents), 16), np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_photo_options(parser, count=400)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(describe_machine("pillow"))
    with tempfile.TemporaryDirectory() as place:
        files = photos(options, Path(place) / "photos")
        pillow, ours = [], []
        for _ in range(options.rounds):
            pillow.append(len(files) / pillow_alone(files))
            ours.append(len(files) / indexing(files[0].parent, len(files)))
    ratios = [mine / theirs for mine, theirs in zip(ours, pillow, strict=True)]
    print(f"Pillow alone on {LOADERS} threads: {statistics.median(pillow):,.0f} images a second")
    print(f"indexing on {LOADERS} loading threads: {statistics.median(ours):,.0f} images a second")
    print_ratio("indexing / Pillow alone", ratios, aim="at least 0.85")


def pillow_alone(files: Sequence[Path]) -> float:
    def decode(path: Path) -> None:
        with PIL.Image.open(io.BytesIO(path.read_bytes())) as image:
            image.convert("RGB").load()

    began = time.perf_counter()
    with ThreadPoolExecutor(LOADERS) as threads:
        for _ in threads.map(decode, files):
            pass
    return time.perf_counter() - began


def indexing(folder: Path, count: int) -> float:
    with MultimodalIndex(FreeEmbedder(), MemoryStore()) as index:
        began = time.perf_counter()
        report = index.add_images(folder, progress=False)
        seconds = time.perf_counter() - began
    assert report.added == count, report
    return seconds


if __name__ == "__main__":
    main()
