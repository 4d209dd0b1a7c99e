"""Bytes that go over the wire for each image, next to the images' files and to what the tutorial sends.

The tutorial sends files as they are, in base64. `AlephAlphaEmbedder` sends the square that the model sees, of at most
384 x 384 pixels, in base64 too. The local server counts the bodies of the requests that reach it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from _common import AlephAlphaServer, add_photo_options, describe_machine, photos
from multimodal_search import AlephAlphaEmbedder, MemoryStore, MultimodalIndex


def sent_bytes(folder: Path, *, shrink: bool) -> float:
    """Bytes of request bodies for each image."""
    with (
        AlephAlphaServer(compute="hash", subprocess=True) as server,
        AlephAlphaEmbedder(server.url, server.token, shrink=shrink) as embedder,
        MultimodalIndex(embedder, MemoryStore()) as index,
    ):
        report = index.add_images(folder, progress=False)
        if report.failed:
            print(report)
        return server.stats().bytes / report.embedded


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_photo_options(parser, count=500)
    options = parser.parse_args()
    print(describe_machine("aleph-alpha-client", "pillow"))
    with tempfile.TemporaryDirectory() as temporary:
        paths = photos(options, Path(temporary, "photos"))
        files = sum(path.stat().st_size for path in paths) / len(paths)
        rows = {
            "the file": files,
            "the file in base64, as the tutorial": files * 4 / 3,
            "AlephAlphaEmbedder(shrink=False)": sent_bytes(paths[0].parent, shrink=False),
            "AlephAlphaEmbedder()": sent_bytes(paths[0].parent, shrink=True),
        }
    for name, size_bytes in rows.items():
        print(f"  {name:<36} {size_bytes / 1000:8.1f} kB an image, {size_bytes / files:.2f} of the file")
    print(f"sent / the tutorial's: {rows['AlephAlphaEmbedder()'] / (files * 4 / 3):.2f}")


if __name__ == "__main__":
    main()
