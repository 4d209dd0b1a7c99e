"""Multimodal semantic search with Aleph Alpha and Qdrant: the tutorial, whole.

Index a folder of COCO images with luminous-base into a Qdrant collection, then find images by an image and by the
word "Surfing", and write what was found as contact sheets.

    export AA_HOST=https://your-aleph-alpha-installation AA_TOKEN=your-token
    python examples/coco_aleph_alpha.py val2017 --query-image val2017/000000000139.jpg

docs/tutorial.md tells where the images are and how to start Qdrant.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from multimodal_search import AlephAlphaEmbedder, MultimodalIndex, MultimodalSearchError, QdrantStore, SequentialIds


def main() -> None:
    """Index, search, and show."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="a folder of COCO images, such as val2017")
    parser.add_argument("--query-image", type=Path, help="an image to search with (default: the first of the folder)")
    parser.add_argument("--query", default="Surfing", help="words to search with, in en, fr, de, it or es")
    parser.add_argument("--limit", type=int, default=3)
    parser.add_argument("--collection", default="COCO")
    parser.add_argument(
        "--qdrant",
        default=os.environ.get("QDRANT_URL", "http://localhost:6333"),
        help='the address of Qdrant, or ":memory:" to try this without a server (default: %(default)s)',
    )
    parser.add_argument("--output", type=Path, default=Path(), help="the folder for the contact sheets")
    options = parser.parse_args()

    if options.qdrant == ":memory:":
        store = QdrantStore(options.collection, location=":memory:")
    else:
        store = QdrantStore(options.collection, url=options.qdrant, api_key=os.environ.get("QDRANT_API_KEY"))

    with (
        AlephAlphaEmbedder.from_env(model="luminous-base", compress_to_size=128) as embedder,
        MultimodalIndex(embedder, store, ids=SequentialIds()) as index,
    ):
        # Images are cropped and shrunk as the service would, sent in batches, many at once. Running this again
        # embeds only what is new; a broken file is reported, and costs nothing but itself.
        print(index.add_images(options.folder))

        query_image = options.query_image or min(options.folder.rglob("*.jpg"), default=None)
        if query_image is None:
            sys.exit(f"{options.folder} holds no *.jpg to search with: name an image with --query-image")
        options.output.mkdir(parents=True, exist_ok=True)
        for name, query in (("image", query_image), ("words", options.query)):
            results = index.search(query, limit=options.limit)
            print(results)
            results.contact_sheet().save(options.output / f"{name}.png")


if __name__ == "__main__":
    try:
        main()
    except MultimodalSearchError as error:  # a missing token, no Qdrant, a folder that is not there: it says what to do
        sys.exit(f"{error} (docs/tutorial.md tells what this example needs)")
    except KeyboardInterrupt as stop:
        sys.exit(str(stop) or "interrupted")
