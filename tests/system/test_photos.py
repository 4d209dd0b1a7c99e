"""The whole, on real photos and on the strangest files there are."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from aleph_alpha_server import AlephAlphaServer

from multimodal_search import AlephAlphaEmbedder, ColorEmbedder, Embedder, Image, MultimodalIndex, QdrantEdgeStore


@pytest.fixture(params=["color", "aleph-alpha"])
def embedder(request: pytest.FixtureRequest) -> Iterator[Embedder]:
    """The embedder that needs nothing, and the real client on a real socket."""
    if request.param == "color":
        yield ColorEmbedder()
    else:
        with AlephAlphaServer() as server, AlephAlphaEmbedder(server.url, server.token) as embedder:
            yield embedder


def test_each_of_a_thousand_photos_finds_itself_first(shared_data: Path, tmp_path: Path, embedder: Embedder) -> None:
    """What is wrong anywhere between the file and the hit shows here."""
    photos = shared_data / "flickr8k_test" / "images"
    with MultimodalIndex(embedder, QdrantEdgeStore(tmp_path / "index")) as index:
        report = index.add_images(photos)
        assert (report.added, report.failed) == (1_000, ())
        paths = sorted(photos.iterdir())
        found = index.search_many(paths, limit=1)
        assert sum(hits[0].path == path for hits, path in zip(found, paths, strict=True)) == 1_000
        assert min(hits[0].score for hits in found) > 0.9999
        again = index.add_images(photos)
        assert (again.unchanged, again.embedded) == (1_000, 0)


def test_every_strange_file_is_indexed_or_reported_by_name(shared_data: Path, tmp_path: Path) -> None:
    """No crash, no hang, no warning, nothing on stderr: in a process of its own, where all of that would show."""
    folder = shared_data / "corner" / "files"
    program = (
        "import json, sys; from multimodal_search import *\n"
        "with MultimodalIndex.open(sys.argv[1], embedder=ColorEmbedder()) as index:\n"
        "    report = index.add_images(sys.argv[2])\n"
        "    names = [record.payload['filename'] for record in index.store.scan()]\n"
        "print(json.dumps({'names': names, 'report': report.to_dict()}))"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(tmp_path / "index"), str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert (run.returncode, run.stderr) == (0, "")
    told = json.loads(run.stdout)
    failures = told["report"]["failed"]
    failed = {Path(failure["name"]).relative_to(folder).as_posix(): failure["reason"] for failure in failures}
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(told["names"]) | set(failed) <= files
    assert not set(told["names"]) & set(failed)
    assert len(files) == len(told["names"]) + len(failed) + sum(told["report"]["ignored"].values())
    assert all(reason and "\n" not in reason for reason in failed.values())
    with (shared_data / "corner" / "labels.csv").open(encoding="utf-8", newline="") as file:
        readable = {row["filename"] for row in csv.DictReader(file) if row["pillow13_result"] == "ok"}
    assert len(readable & set(failed)) < 0.05 * len(readable)


def test_photos_that_differ_in_their_exif_rotation_alone_embed_alike(shared_data: Path, embedder: Embedder) -> None:
    """Cameras rarely turn the pixels: they say how the image is to be turned."""
    folder = shared_data / "corner" / "files"
    samples = "exif_samples/jpg/orientation"
    hopper = "pillow_tests/hopper_orientation_*.webp"
    for pattern in (f"{samples}/landscape_*.jpg", f"{samples}/portrait_*.jpg", hopper):
        files = sorted(folder.glob(pattern))
        assert len(files) >= 4
        vectors = embedder.embed([Image(path) for path in files], role="document")
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        assert (unit @ unit.T).min() > 0.99, pattern
