"""Scanning a folder again whose files are all as they were: files per second, memory, and calls of the embedder.

    python benchmarks/rescan.py [--files 118000]

The same files are also only listed and asked for their status (`os.scandir`, `stat`): what any program must do. The
index is `QdrantEdgeStore`. Peak memory is that of processes of their own, for a tenth of the files and for all.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from _common import describe_machine
from multimodal_search import EmbedderSpec, MultimodalIndex, QdrantEdgeStore, Role
from multimodal_search.contents import Content
from multimodal_search.types import FloatArray


class FreeEmbedder:
    """Costs nothing, and counts its calls."""

    spec = EmbedderSpec(
        model="free",
        fingerprint="free",
        dimension=128,
        modalities=frozenset({"image"}),
        max_batch_size=256,
        max_concurrency=1,
    )
    calls = 0

    def prepare(self, content: Content, /) -> Content:
        return content  # these files are no images: reading them is not measured here

    def embed(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
        self.calls += 1
        rows = np.random.default_rng(self.calls).standard_normal((len(contents), 128))
        return rows.astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=118_000)
    parser.add_argument("--rescan", type=Path, help=argparse.SUPPRESS)  # what a process of its own does
    options = parser.parse_args()
    if options.rescan is not None:
        rescan(options.rescan)
        return
    print(describe_machine("qdrant-edge-py"))
    peaks = []
    for files in (options.files // 10, options.files):
        with tempfile.TemporaryDirectory() as place:
            prepare(Path(place), files)
            run = subprocess.run(
                [sys.executable, __file__, "--rescan", place], check=True, stdout=subprocess.PIPE, text=True
            )
            rate, bare, calls, before, peak = map(float, run.stdout.split())
            peaks.append(peak - before)
            print(
                f"{files:,} files: {rate:,.0f} a second, {rate / bare:.2f} of a bare scan; "
                f"{calls:.0f} embedding calls; peak {peak - before:.0f} MB over {before:.0f} MB before"
            )
    print(f"memory that scanning took: {peaks[0]:.0f} MB for a tenth of the files, {peaks[1]:.0f} MB for all")


def prepare(place: Path, files: int) -> None:
    photos = place / "photos"
    for number in range(files):
        if number % 1_000 == 0:
            folder = photos / f"{number // 1_000:04}"
            folder.mkdir(parents=True)
        (folder / f"{number:08}.jpg").write_bytes(b"%d" % number)
    with MultimodalIndex(FreeEmbedder(), QdrantEdgeStore(place / "index")) as index:
        report = index.sync_folder(photos, progress=False)
        assert report.added == files, report


def rescan(place: Path) -> None:
    embedder = FreeEmbedder()
    with MultimodalIndex(embedder, QdrantEdgeStore(place / "index")) as index:
        index.count()
        bare = min(bare_scan(place / "photos") for _ in range(2))  # the cache is warm after the first
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        began = time.perf_counter()
        report = index.sync_folder(place / "photos", progress=False)
        seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert (report.unchanged, report.added, report.updated, report.failed) == (index_size(place), 0, 0, ()), report
    print(report.unchanged / seconds, report.unchanged / bare, embedder.calls, before, peak)


def index_size(place: Path) -> int:
    return sum(1 for _ in (place / "photos").rglob("*.jpg"))


def bare_scan(folder: Path) -> float:
    began = time.perf_counter()
    for here, _, names in os.walk(folder):
        for name in names:
            os.stat(os.path.join(here, name))  # noqa: PTH116, PTH118 (what is bare is what is measured)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
