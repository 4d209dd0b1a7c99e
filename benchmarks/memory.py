"""The memory that indexing takes beyond what the store itself takes: with 10,000 items, and with 100,000.

In child processes, one for each measurement: `MultimodalIndex` indexes tiny PNG images (from a generator, or from a
folder of files) with an embedder that costs nothing; and the store alone is given the same number of vectors and like
payloads. What indexing grows by from the small to the large number should be no more than what the store grows by.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import itertools
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from _common import describe_machine, spread
from multimodal_search import EmbedderSpec, MemoryStore, MultimodalIndex, PathIds, QdrantEdgeStore, Record, Role
from multimodal_search.contents import Content
from multimodal_search.protocols import VectorStore
from multimodal_search.types import FloatArray, StoreSchema

DIMENSION, WRITE = 128, 512


class FreeEmbedder:
    """Looks at nothing."""

    spec = EmbedderSpec(
        model="free",
        fingerprint="free",
        dimension=DIMENSION,
        modalities=frozenset({"image"}),
        max_batch_size=64,
        max_concurrency=2,
    )

    def prepare(self, content: Content, /) -> Content:
        return content

    def embed(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
        return np.random.default_rng().standard_normal((len(contents), DIMENSION), np.float32)


class GraphlessStore(QdrantEdgeStore):
    """Is not optimized when indexing ends, which another process does."""

    needs_optimize = False


def images(count: int) -> Iterator[bytes]:
    """PNG files, all different: decoders ignore what follows the image."""
    file = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), (200, 30, 30)).save(file, "PNG")
    return (file.getvalue() + number.to_bytes(8, "big") for number in range(count))


def write_files(folder: Path, count: int) -> None:
    for number, image in enumerate(images(count)):
        if number % 1000 == 0:
            (folder / f"{number // 1000:03}").mkdir(parents=True)
        (folder / f"{number // 1000:03}" / f"{number % 1000:03}.png").write_bytes(image)


def record(number: int, image: bytes, folder: Path | None) -> Record:
    """As indexing writes it."""
    sha256 = hashlib.sha256(image).hexdigest()
    payload: dict[str, Any] = {"modality": "image", "sha256": sha256, "size": len(image)}
    filename = None
    if folder is not None:
        filename = f"{number // 1000:03}/{number % 1000:03}.png"
        payload |= {"filename": filename, "root": str(folder), "mtime_ns": time.time_ns()}
    return Record(PathIds().allocate(filename=filename, sha256=sha256), payload)


def write_directly(store: VectorStore, count: int, folder: Path | None) -> None:
    store.ensure(StoreSchema.of(FreeEmbedder.spec))
    made = (record(number, image, folder) for number, image in enumerate(images(count)))
    for start in range(0, count, WRITE):
        records = [next(made) for _ in range(min(WRITE, count - start))]
        store.upsert(records, FreeEmbedder().embed([None] * len(records), role="document"))  # type: ignore[list-item]


def child(way: str, store_kind: str, count: int, folder: Path | None, temporary: Path) -> None:
    """Do it in this process, and print its peak in MB."""
    store: VectorStore = MemoryStore() if store_kind == "memory" else GraphlessStore(temporary / "index")
    if way == "store":
        write_directly(store, count, folder)
    else:
        index = MultimodalIndex(FreeEmbedder(), store)
        report = index.add_images(images(count) if folder is None else folder, progress=False)
        assert report.added == count, report
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KB elsewhere
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)
    store.close()


def peak_mb(way: str, store_kind: str, count: int, folder: Path | None) -> float:
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, __file__, "--child", way, store_kind, str(count), str(folder or ""), temporary]
        return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", type=int, default=10_000)
    parser.add_argument("--large", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(describe_machine("numpy", "qdrant-edge-py"))
    with tempfile.TemporaryDirectory() as temporary:
        folders = {count: Path(temporary, str(count)) for count in (options.small, options.large)}
        for count, folder in folders.items():
            write_files(folder, count)
        for store_kind, source in itertools.product(("memory", "edge"), ("generator", "folder")):
            print(f"{store_kind} store, items from a {source}")
            grown = {}
            for way in ("store", "index"):
                small, large = (
                    [
                        peak_mb(way, store_kind, count, folder if source == "folder" else None)
                        for _ in range(options.repeats)
                    ]
                    for count, folder in folders.items()
                )
                grown[way] = statistics.median(large) - statistics.median(small)
                name = "given to the store" if way == "store" else "indexed"
                print(
                    f"  {name:<18} {spread(small, 1)} MB, {spread(large, 1)} MB: grows by {grown[way]:.1f}", flush=True
                )
            print(f"  indexed / given to the store: {grown['index'] / grown['store']:.2f}   [aim <= 1]")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        way, store_kind, count, folder, temporary = sys.argv[2:]
        child(way, store_kind, int(count), Path(folder) if folder else None, Path(temporary))
    else:
        main()
