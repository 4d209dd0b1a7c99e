"""How near `SentenceTransformersEmbedder` comes to the model itself: random weights of ViT-B/16's size.

In turn, over a folder of JPEGs:

- preparing alone: every image decoded and resized for the model, in as many threads as an indexing run has;
- the model alone: the library's own forward pass on arrays that are prepared already, 8 a run;
- `MultimodalIndex.add_images`, which does both, hashes, and stores. The ideal is the slower of the two above.

Then, with another process that runs the same model by hand on the same cores: what each keeps of a half, once with ours
beside it, once with the model by hand.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from _common import Rates, add_photo_options, describe_machine, photos, print_ratio
from multimodal_search import Image, MemoryStore, MultimodalIndex, SentenceTransformersEmbedder
from multimodal_search._indexing.pipeline import LOADERS


def prepare(embedder: SentenceTransformersEmbedder, paths: Sequence[Path]) -> list[Any]:
    with ThreadPoolExecutor(LOADERS) as pool:
        return list(pool.map(lambda path: embedder.prepare(Image(path.read_bytes())), paths))


def run(library: Any, pixels: Any, batch: int) -> None:
    import torch

    with torch.inference_mode():
        for start in range(0, len(pixels), batch):
            features = {"pixel_values": pixels[start : start + batch].to(library.device), "modality": "image"}
            library(features)["sentence_embedding"].cpu()


def index(embedder: SentenceTransformersEmbedder, folder: Path) -> None:
    with MultimodalIndex(embedder, MemoryStore(), auto_calibrate=False) as made:
        report = made.add_images(folder, progress=False)
        assert not report.failed


def beside(model: Path, count: int, ways: dict[str, Callable[[], None]], rounds: int) -> None:
    """Each way and another process at once, both against half of what the model does alone, round for round."""
    command = [sys.executable, __file__, "--loop", str(model)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdin is not None
    assert other.stdout is not None
    other.stdout.readline()  # it is loaded
    kept: dict[str, list[float]] = {}
    for _ in range(rounds):
        began = time.perf_counter()
        ways["the model by hand"]()
        half = count / (time.perf_counter() - began) / 2
        for name, way in ways.items():
            print("go", file=other.stdin, flush=True)
            other.stdout.readline()
            began = time.perf_counter()
            way()
            kept.setdefault(name, []).append(count / (time.perf_counter() - began) / half)
            print("end", file=other.stdin, flush=True)
            kept.setdefault(f"the other beside {name}", []).append(float(other.stdout.readline()) / half)
    other.communicate()
    for name, shares in kept.items():
        print_ratio(f"of a half, {name}", shares, "0.8")


def loop(model: Path) -> None:
    """Run the model from one line until the next, and print how many images a second that was; again and again."""
    import torch
    from sentence_transformers import SentenceTransformer

    library, pixels = SentenceTransformer(str(model), local_files_only=True), torch.zeros(4, 3, 224, 224)
    run(library, pixels, 4)
    print("loaded", flush=True)
    while sys.stdin.readline():
        over = threading.Event()
        waiting = threading.Thread(target=lambda over=over: (sys.stdin.readline(), over.set()), daemon=True)
        waiting.start()
        print("go", flush=True)
        began, count = time.perf_counter(), 0
        while not over.is_set():
            run(library, pixels, 4)
            count += 4
        print(count / (time.perf_counter() - began), flush=True)
        waiting.join()


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))  # the model is made there
    import tiny_torch_models
    from sentence_transformers import SentenceTransformer

    parser = argparse.ArgumentParser(description=__doc__)
    add_photo_options(parser, count=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default=None)
    parser.add_argument("--loop", type=Path, metavar="MODEL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loop:
        loop(options.loop)
        return
    print(describe_machine("torch", "sentence-transformers", "transformers", "numpy", "pillow"))
    with tempfile.TemporaryDirectory() as temporary:
        model, folder = Path(temporary) / "model", Path(temporary) / "photos"
        tiny_torch_models.large(model)
        paths = photos(options, folder)
        embedder = SentenceTransformersEmbedder(model, dtype=options.dtype)
        index(embedder, folder)  # loads the model
        library = SentenceTransformer(str(model), local_files_only=True)
        size = 8 if library.device.type == "cpu" else embedder.spec.max_batch_size
        images = [each.source for each in prepare(embedder, paths)]
        pixels = library[0].processor.image_processor(images=images, return_tensors="pt")["pixel_values"]
        rates = Rates(["preparing alone", "the model alone", "ours"])
        for _ in range(options.rounds):
            with rates.measured("preparing alone", len(paths)):
                prepare(embedder, paths)
            with rates.measured("the model alone", len(paths)):
                run(library, pixels, size)
            with rates.measured("ours", len(paths)):
                index(embedder, folder)
        rates.print("images")
        alone = statistics.median(rates.against("the model alone", 1))
        slower = "preparing alone" if rates.against("preparing alone", alone)[0] < 1 else "the model alone"
        print_ratio(f"ours against {slower}", rates.ratios("ours", slower), "0.9")
        ways = {"ours": lambda: index(embedder, folder), "the model by hand": lambda: run(library, pixels, size)}
        beside(model, len(paths), ways, options.rounds)


if __name__ == "__main__":
    main()
