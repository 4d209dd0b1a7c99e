"""How near `OnnxEmbedder` comes to the model itself, on this machine: random weights of ViT-B/16's size.

In turn, over a folder of JPEGs:

- preparing alone: every image decoded and resized for the model, in as many threads as an indexing run has;
- the model alone: ONNX Runtime by hand, on arrays that are prepared already, 8 a run; with its own defaults, and
  with threads that do not spin, as ours;
- `MultimodalIndex.add_images`, which does both, hashes, and stores. The ideal is the slower of the two above.

Then, with another process that runs the same model by hand on the same cores: what each keeps of a half. And a first
search by words: what loading the tower of texts takes, and later searches against the tower's own run.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from _common import Rates, add_photo_options, describe_machine, photos, print_ratio
from _vision_transformer import write_model
from multimodal_search import Image, MemoryStore, MultimodalIndex, OnnxEmbedder, Text
from multimodal_search._indexing.pipeline import LOADERS

BATCH = 8


def session(model: Path, tower: str = "vision", *, spinning: bool = True) -> Any:
    """By hand, with ONNX Runtime's own defaults, in which threads that wait for work spin; or without that."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    path = model / "onnx" / f"{tower}_model.onnx"
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(bare: Any, arrays: Sequence[Any]) -> None:
    for start in range(0, len(arrays), BATCH):
        bare.run(["pooler_output"], {"pixel_values": np.stack(arrays[start : start + BATCH])})


def prepare(embedder: OnnxEmbedder, paths: Sequence[Path]) -> list[Any]:
    with ThreadPoolExecutor(LOADERS) as pool:
        return list(pool.map(lambda path: embedder.prepare(Image(path.read_bytes())), paths))


def arrays_of(paths: Sequence[Path]) -> list[Any]:
    found = []
    for path in paths:
        with PIL.Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB").resize((224, 224), PIL.Image.Resampling.BILINEAR), np.float32)
        found.append(((pixels / 255 - 0.5) / 0.5).transpose(2, 0, 1))
    return found


def index(embedder: OnnxEmbedder, folder: Path) -> None:
    with MultimodalIndex(embedder, MemoryStore(), auto_calibrate=False) as made:
        report = made.add_images(folder, progress=False)
        assert not report.failed


def beside(model: Path, folder: Path, paths: Sequence[Path], embedder: OnnxEmbedder, alone: float) -> None:
    """Both at once, each against half of what the model does alone."""
    command = [sys.executable, __file__, "--loop", str(model), str(folder)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    other.stdout.readline()  # it is under way
    began = time.perf_counter()
    index(embedder, folder)
    ours = len(paths) / (time.perf_counter() - began)
    theirs = float(other.communicate("end\n")[0])
    print(f"beside another process: ours {ours / (alone / 2):.2f}, the other {theirs / (alone / 2):.2f} of a half")


def loop(model: Path, folder: Path) -> None:
    """Run the model until a line comes, and print how many images a second that was."""
    import threading

    bare, arrays = session(model), arrays_of(sorted(folder.iterdir())[:BATCH])
    run(bare, arrays)
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), over.set()), daemon=True).start()
    print("go", flush=True)
    began, count = time.perf_counter(), 0
    while not over.is_set():
        run(bare, arrays)
        count += BATCH
    print(count / (time.perf_counter() - began))


def search(model: Path) -> None:
    bare, ids = session(model, "text"), np.zeros((1, 64), np.int64)
    embedder = OnnxEmbedder(model)
    with MultimodalIndex(embedder, MemoryStore(), auto_calibrate=False) as made:
        began = time.perf_counter()
        made.search("a dog")
        print(f"first search, the tower of texts loaded by it: {1000 * (time.perf_counter() - began):.0f} ms")

        def ours(number: int) -> object:
            return made.search(Text(f"a dog {number}"))

        def theirs(number: int) -> object:
            return bare.run(["pooler_output"], {"input_ids": ids})

        times: dict[Any, list[float]] = {ours: [], theirs: []}
        for start in range(0, 60, 20):  # in turn by blocks: threads that spin after one run would slow the next down
            for way, seconds in times.items():
                for number in range(start, start + 20):
                    began = time.perf_counter()
                    way(number)
                    seconds.append(time.perf_counter() - began)
    alone = statistics.median(times[theirs])
    print(f"the tower alone: {1000 * alone:.1f} ms")
    print_ratio("later searches against the tower alone", [each / alone for each in times[ours]], "1.1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_photo_options(parser, count=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loop", nargs=2, metavar=("MODEL", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loop:
        loop(*map(Path, options.loop))
        return
    print(describe_machine("onnxruntime", "numpy", "pillow"))
    with tempfile.TemporaryDirectory() as temporary:
        model, folder = Path(temporary) / "model", Path(temporary) / "photos"
        write_model(model)
        paths = photos(options, folder)
        embedder, arrays = OnnxEmbedder(model), arrays_of(paths)
        bare = {"the model alone": session(model), "not spinning": session(model, spinning=False)}
        index(embedder, folder)  # loads the tower
        rates = Rates(["preparing alone", *bare, "ours"])
        for _ in range(options.rounds):
            with rates.measured("preparing alone", len(paths)):
                prepare(embedder, paths)
            for way, by_hand in bare.items():
                with rates.measured(way, len(paths)):
                    run(by_hand, arrays)
            with rates.measured("ours", len(paths)):
                index(embedder, folder)
        rates.print("images")
        alone = max(statistics.median(rates.against(way, 1)) for way in bare)
        is_preparing_slower = statistics.median(rates.against("preparing alone", alone)) < 1
        for way in ["preparing alone"] if is_preparing_slower else bare:
            print_ratio(f"ours against {way}", rates.ratios("ours", way), "0.9")
        beside(model, folder, paths, embedder, alone)
        search(model)


if __name__ == "__main__":
    main()
