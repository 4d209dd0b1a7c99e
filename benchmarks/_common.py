"""What the benchmarks share: photos to index, the local server, and a line that says what they ran on."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

_ROOT = Path(__file__).resolve().parents[1]
_SHARED_PHOTOS = _ROOT.parent / "shared" / "data" / "flickr8k_test" / "images"
_SIZE = (640, 480)  # as most of COCO's images

sys.path.insert(0, str(_ROOT / "tests" / "support"))  # the local server is part of the tests
from aleph_alpha_server import AlephAlphaServer  # noqa: E402

from multimodal_search import PathIds, Record  # noqa: E402

__all__ = [
    "AlephAlphaServer",
    "Rates",
    "add_photo_options",
    "describe_machine",
    "photo_record",
    "photos",
    "print_ratio",
    "spread",
    "vectors_alike",
]


def add_photo_options(parser: argparse.ArgumentParser, *, count: int) -> None:
    """Options that say which photos to use."""
    parser.add_argument("--photos", type=Path, help="a folder of your own photos (default: made here, of 640 x 480)")
    parser.add_argument("--count", type=int, default=count, help="how many photos (default: %(default)s)")


def photos(options: argparse.Namespace, folder: Path) -> list[Path]:
    """The photos to use, in a new folder: links to the user's own, or made from the tests' photos, or painted."""
    folder.mkdir()
    own = () if options.photos is None else (path for path in sorted(options.photos.rglob("*")) if path.is_file())
    chosen = list(islice(own, options.count))
    if options.photos is not None:
        for number, path in enumerate(chosen):
            (folder / f"{number:06}{path.suffix}").symlink_to(path.absolute())
        print(f"{len(chosen):,} photos of {options.photos}")
        return sorted(folder.iterdir())
    sources = sorted(_SHARED_PHOTOS.glob("*.jpg"))

    def make(number: int) -> Path:
        path = folder / f"{number:06}.jpg"
        image = _enlarged(sources[number % len(sources)], number // len(sources)) if sources else _painted(number)
        image.save(path, quality=95)
        return path

    with ThreadPoolExecutor() as pool:
        made = list(pool.map(make, range(options.count)))
    kind = "real photos, enlarged from 224 x 224 to" if sources else "synthetic photos of"
    size_kb = sum(path.stat().st_size for path in made) / len(made) / 1000
    print(f"{len(made):,} {kind} 640 x 480, {size_kb:.1f} kB each on average")
    return made


def _enlarged(path: Path, variant: int) -> PIL.Image.Image:
    """The middle of a photo; variants are shifted, so that no two files are the same."""
    with PIL.Image.open(path) as image:
        rgb = image.convert("RGB")
    height = rgb.width * 3 / 4
    top = ((rgb.height - height) / 2 + 5 * variant) % (rgb.height - height + 1)
    box = (0, top, rgb.width, top + height)
    enlarged: PIL.Image.Image = rgb.resize(_SIZE, PIL.Image.Resampling.LANCZOS, box=box)
    return enlarged


def _painted(number: int) -> PIL.Image.Image:
    """Clouds of colour with detail at every scale, which compress about as photos do."""
    random = np.random.default_rng(number)
    total = np.zeros((_SIZE[1], _SIZE[0], 3))
    for side, weight in ((4, 60), (16, 30), (64, 15), (256, 8)):
        noise = random.normal(128, 60, (side * 3 // 4, side, 3)).clip(0, 255).astype(np.uint8)
        cloud = PIL.Image.fromarray(noise).resize(_SIZE, PIL.Image.Resampling.BICUBIC)
        total += weight / 113 * np.asarray(cloud, np.float64)
    return PIL.Image.fromarray(total.astype(np.uint8))


def describe_machine(*packages: str) -> str:
    """The machine and the versions, in one line; no name of it."""
    versions = [f"{package} {version(package)}" for package in packages]
    load = f", load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores{load}, {platform.system()}, Python {platform.python_version()}, {', '.join(versions)}"


class Rates:
    """How many things a second each of several ways does, round for round, and at what cost of processor time."""

    def __init__(self, ways: Iterable[str]) -> None:
        self._rates: dict[str, list[float]] = {way: [] for way in ways}
        self._cpu_ms: dict[str, list[float]] = {way: [] for way in self._rates}

    @contextmanager
    def measured(self, way: str, count: int) -> Iterator[None]:
        """Time what a way does to `count` things."""
        began, cpu_s = time.perf_counter(), time.process_time()
        yield
        self._rates[way].append(count / (time.perf_counter() - began))
        self._cpu_ms[way].append((time.process_time() - cpu_s) * 1000 / count)

    def ratios(self, way: str, other: str) -> list[float]:
        """In each round, by how much a way is faster than another."""
        return [rate / base for rate, base in zip(self._rates[way], self._rates[other], strict=True)]

    def against(self, way: str, ideal: float) -> list[float]:
        """In each round, what a way reached of an ideal rate."""
        return [rate / ideal for rate in self._rates[way]]

    def print(self, things: str) -> None:
        """Median, and smallest to largest."""
        for way, rates in self._rates.items():
            cpu_ms = statistics.median(self._cpu_ms[way])
            print(f"  {way:<18} {spread(rates, 1)} {things}/s, {cpu_ms:.2f} ms of processor time each in this process")


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median, smallest and largest."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def print_ratio(name: str, ratios: Sequence[float], aim: str = "") -> None:
    """A ratio, with what it should be."""
    print(f"{name}: {spread(ratios)}{f'   [{aim}]' if aim else ''}")


def photo_record(number: int, **more: Any) -> Record:
    """A point as indexing a folder stores it, with more fields in its payload."""
    filename = f"{number:012}.jpg"
    payload = {
        "filename": filename,
        "root": "/data/coco/train2017",
        "modality": "image",
        "sha256": f"{number:064x}",
        "size": 160_000 + number,
        "mtime_ns": 1_700_000_000_000_000_000 + number,
    }
    return Record(PathIds().allocate(filename=filename, sha256=""), payload | more)


def vectors_alike(count: int, dimension: int) -> npt.NDArray[np.float32]:
    """Unit vectors in clusters, as embeddings are: 250 or so around each of their centres."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((max(1, count // 250), dimension), np.float32)
    rows = centres[random.integers(0, len(centres), count)]
    rows += 0.7 * random.standard_normal((count, dimension), np.float32)
    unit: npt.NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
