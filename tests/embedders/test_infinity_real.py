"""`HttpEmbedder` against a real infinity server with a tiny random CLIP, where one is installed.

It needs a virtual environment of its own: `pip install "infinity-emb[server,torch]" aiohttp`, with its command
`infinity_emb` on the path, or named in the environment variable INFINITY_EMB.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from paths import SUPPORT
from service_cases import free_port

from multimodal_search import Embedder, HttpEmbedder, Image, MemoryStore, MultimodalIndex, Text
from multimodal_search.errors import ContentError, EmbedderAuthError, EmbedderError
from multimodal_search.testing.embedder import EmbedderContract

COMMAND = os.environ.get("INFINITY_EMB") or shutil.which("infinity_emb")
KEY = "a-key-of-this-test"

pytestmark = pytest.mark.skipif(COMMAND is None, reason="infinity_emb is not installed")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    assert COMMAND is not None
    folder = tmp_path_factory.mktemp("infinity") / "tiny"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    environment |= {"DO_NOT_TRACK": "1"}
    python = Path(COMMAND).with_name("python")
    subprocess.run([python, SUPPORT / "tiny_clip.py", folder], check=True, env=environment, capture_output=True)
    port = free_port()
    command = [COMMAND, "v2", "--model-id", str(folder), "--served-model-name", "tiny", "--engine", "torch"]
    command += ["--device", "cpu", "--no-bettertransformer", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--api-key", KEY]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            address = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 240
            while not is_there(address):
                assert server.poll() is None, "the server has ended"
                assert time.monotonic() < deadline, "the server has not started"
                time.sleep(0.2)
            yield address
        finally:
            server.terminate()


def is_there(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


class TestRealInfinity(EmbedderContract):
    @pytest.fixture
    def make_embedder(self, url: str) -> Callable[[], Embedder]:
        return lambda: HttpEmbedder.infinity(url, api_key=KEY)

    @pytest.fixture
    def in_child(self, url: str) -> str:
        return f"from multimodal_search import HttpEmbedder; embedder = HttpEmbedder.infinity({url!r}, api_key={KEY!r})"


def test_it_says_what_it_has(url: str) -> None:
    with HttpEmbedder.infinity(url, api_key=KEY) as embedder:
        assert embedder.spec.model == "tiny"
        assert embedder.spec.dimension == 24
        assert embedder.spec.modalities == {"text", "image"}


def test_shorter_vectors_have_unit_length(url: str) -> None:
    with HttpEmbedder.infinity(url, api_key=KEY, dimensions=12) as embedder:
        vectors = embedder.embed([Text("a dog")], role="document")
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    with (
        HttpEmbedder.infinity(url, api_key=KEY, dimensions=99) as embedder,
        pytest.raises(EmbedderError, match="takes a word without dimensions: leave out dimensions=99"),
    ):
        embedder.embed([Text("a dog")], role="document")


def test_a_wrong_key_is_told(url: str) -> None:
    with HttpEmbedder.infinity(url, api_key="wrong") as embedder, pytest.raises(EmbedderAuthError, match="api_key"):
        embedder.embed([Text("a dog")], role="document")


def test_a_long_text_fails_alone_and_is_not_shown(url: str) -> None:
    """It is refused from 122,881 characters on, with all of it in the answer."""
    with HttpEmbedder.infinity(url, api_key=KEY) as embedder:
        embedder.embed([Text("a dog")], role="document")
        with pytest.raises(ContentError, match="422") as caught:
            embedder.embed([Text("secret " * 20_000)], role="document")
        assert str(caught.value).count("secret") <= 7  # the beginning, as the item's name


def test_images_and_texts_are_indexed_and_found(url: str) -> None:
    colours = {name: PIL.Image.new("RGB", (90, 60), name) for name in ("red", "green", "blue", "white", "black")}
    with (
        HttpEmbedder.infinity(url, api_key=KEY) as embedder,
        MultimodalIndex(embedder, MemoryStore(), auto_calibrate=False) as index,
    ):
        report = index.add([Image(image, name=name) for name, image in colours.items()])
        assert report.added == 5
        best = index.search(Image(colours["blue"]), limit=1)[0]
        assert best.score == pytest.approx(1, abs=1e-5)
