"""Where the client of Aleph Alpha is not installed, as on Python 3.14, its embedder says so, and all else works."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from multimodal_search import AlephAlphaEmbedder, MissingExtraError

HIDDEN = """
import sys

for name in ("aleph_alpha_client", "aiohttp", "aiohttp_retry", "requests"):
    sys.modules[name] = None  # importing it fails, as if it were not installed
"""


@pytest.mark.parametrize(
    ("version", "advice"),
    [
        ((3, 14), "no release for Python 3.14: use Python 3.10 to 3.13, or another embedder"),
        ((3, 13), 'pip install "aleph-alpha-client'),
    ],
)
def test_the_embedder_names_the_package_and_what_to_do(
    version: tuple[int, int], advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, and not at the first photo of a folder."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "version_info", type("version_info", (tuple,), {"major": 3, "minor": version[1]})(version))
    with pytest.raises(MissingExtraError, match="aleph-alpha-client") as caught:
        AlephAlphaEmbedder("https://inference.example.org", "token")
    assert advice in str(caught.value)


def test_all_else_works_without_it(tmp_path: Path) -> None:
    """Of its dependencies the progress bar needs tqdm, which is a requirement of its own."""
    script = HIDDEN + (
        "from pathlib import Path\n"
        "import PIL.Image\n"
        "import multimodal_search as m\n"
        "[getattr(m, name) for name in m.__all__]\n"
        "PIL.Image.new('RGB', (40, 30), 'red').save('red.jpg')\n"
        "for store in (m.MemoryStore(), m.QdrantEdgeStore('index'), m.QdrantStore('points', location=':memory:')):\n"
        "    with m.MultimodalIndex(m.ColorEmbedder(), store) as index:\n"
        "        index.add_images(['red.jpg'], progress=True)\n"
        "        assert index.search('red', keyword_weight=0.5)[0].filename == 'red.jpg'\n"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error::ImportWarning", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert "indexing" in run.stderr, "no bar was drawn"
