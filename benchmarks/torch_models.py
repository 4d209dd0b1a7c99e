"""How near `SentenceTransformersEmbedder` comes to the model itself: random weights of ViT-B/16's size.

In turn, over a folder of JPEGs:

- preparing alone: every image decoded and resized for the model, in as many threads as an indexing run has;
- the model alone: the library's own forward pass on arrays that are prepared already, 8 a run;
- `MultimodalIndex.add_images`, which does both, hashes, and stores. The ideal is the slower of the two above.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
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


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))  # the model is made there
    import tiny_torch_models
    from sentence_transformers import SentenceTransformer

    parser = argparse.ArgumentParser(description=__doc__)
    add_photo_options(parser, count=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default=None)
    options = parser.parse_args()
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


if __name__ == "__main__":
    main()
