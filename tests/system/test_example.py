"""The example, which is the tutorial: as a person runs it, over real photos."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import pytest
from aleph_alpha_server import AlephAlphaServer
from paths import ROOT
from qdrant_client import QdrantClient

from multimodal_search import QdrantStore

EXAMPLE = ROOT / "examples" / "coco_aleph_alpha.py"
PHOTOS = 30


@pytest.fixture(scope="module")
def server() -> Iterator[AlephAlphaServer]:
    with AlephAlphaServer() as server:
        yield server


@pytest.fixture(scope="module")
def photos(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photos, as the downloaded ones of COCO would be."""
    folder = tmp_path_factory.mktemp("coco") / "val2017"
    folder.mkdir()
    for path in sorted((shared_data / "flickr8k_test" / "images").iterdir())[:PHOTOS]:
        shutil.copy(path, folder)
    return folder


def run_example(server: AlephAlphaServer, *arguments: str | Path) -> str:
    """What the example prints, run unchanged in a process of its own."""
    environment = {**os.environ, "AA_HOST": server.url, "AA_TOKEN": server.token}
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=environment,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_answers(printed: str, image: Path, sheets: Path) -> None:
    """The image finds itself first, the words find three, and both were drawn."""
    by_image, by_words = (
        re.findall(r"^\d +(\d\.\d{3}) +(?:\d+ % +)?(.+)$", part, flags=re.MULTILINE)
        for part in printed.split("hits for 'Surfing'")
    )
    assert by_image[0] == ("1.000", image.name)
    assert (len(by_image), len(by_words)) == (3, 3)
    for name in ("image.png", "words.png"):
        with PIL.Image.open(sheets / name) as sheet:
            assert sheet.width > 3 * 240


def test_the_tutorial_runs_from_beginning_to_end(server: AlephAlphaServer, photos: Path, tmp_path: Path) -> None:
    """What the tutorial showed no longer runs anywhere; this has to."""
    image = sorted(photos.iterdir())[7]
    printed = run_example(
        server, photos, "--query-image", image, "--qdrant", ":memory:", "--output", tmp_path / "sheets"
    )
    assert printed.startswith(f"{PHOTOS} added in ")
    check_answers(printed, image, tmp_path / "sheets")
    models = {(r.body["model"], r.body["representation"], r.body["compress_to_size"]) for r in server.requests}
    assert models == {("luminous-base", "symmetric", 128)}


def test_ids_are_numbers_from_0_as_in_the_tutorial(
    server: AlephAlphaServer, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tutorial's readers know them so; and running it twice must double nothing."""
    spec = importlib.util.spec_from_file_location("coco_aleph_alpha", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    client = QdrantClient(":memory:")  # given to the store, it stays open for a look inside
    monkeypatch.setattr(example, "QdrantStore", lambda collection, **_: QdrantStore(collection, client=client))
    monkeypatch.setattr(sys, "argv", ["example", str(photos), "--output", str(tmp_path)])
    monkeypatch.setenv("AA_HOST", server.url)
    monkeypatch.setenv("AA_TOKEN", server.token)
    for _ in range(2):
        example.main()
        points, _ = client.scroll("COCO", limit=2 * PHOTOS)
        names = [path.name for path in sorted(photos.iterdir())]
        assert [(point.id, (point.payload or {})["filename"]) for point in points] == list(enumerate(names))
    client.close()


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "set the environment variable AA_HOST to the address of the API"),
        ({"AA_HOST": "http://127.0.0.1:9"}, "set the environment variable AA_TOKEN"),
        ({"AA_HOST": "http://127.0.0.1:9", "AA_TOKEN": "a-token"}, "'COCO' at http://127.0.0.1:9 cannot be reached"),
    ],
)
def test_what_is_missing_is_said_in_one_line(tmp_path: Path, environment: dict[str, str], said: str) -> None:
    """To somebody who tries the tutorial for the first time, who has neither."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(("AA_", "QDRANT_"))}
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), str(tmp_path), "--qdrant", "http://127.0.0.1:9"],
        capture_output=True,
        text=True,
        env={**others, **environment},
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert done.stderr.endswith("(docs/tutorial.md tells what this example needs)\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
def test_the_tutorial_runs_against_a_server(server: AlephAlphaServer, photos: Path, tmp_path: Path) -> None:
    """Against a Qdrant of one's own, twice: the second run embeds the query alone."""
    url = os.environ.get("QDRANT_URL")
    if not url:
        pytest.skip("needs a Qdrant server: set QDRANT_URL to its address (and QDRANT_API_KEY, if it asks for one)")
    collection = f"test-example-{uuid.uuid4()}"
    image = min(photos.iterdir())
    client = QdrantClient(url=url, api_key=os.environ.get("QDRANT_API_KEY"), check_compatibility=False)
    try:
        for expected in (f"{PHOTOS} added in ", f"{PHOTOS} unchanged in "):
            printed = run_example(server, photos, "--collection", collection, "--output", tmp_path)
            assert printed.startswith(expected)
            check_answers(printed, image, tmp_path)
        points, _ = client.scroll(collection, limit=2 * PHOTOS)
        assert [point.id for point in points] == list(range(PHOTOS))
    finally:
        for name in (collection, f"{collection}__multimodal_search"):
            client.delete_collection(name)
        client.close()
