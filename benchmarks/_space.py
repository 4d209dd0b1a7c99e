"""A recorded text-image space, of any size: its photos and their noisy copies, and captions of some of the photos."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from multimodal_search import EmbedderSpec
from multimodal_search.contents import Content, Text
from multimodal_search.types import FloatArray, Role

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
"""A folder with `space` and `flickr8k_test`."""

DIMENSION = 512
_SETS = ("flickr8k", "clothing", "flowers")


class Space:
    """The space that is recorded in a folder.

    Args:
        data: The folder.
    """

    def __init__(self, data: Path = DATA) -> None:
        self._data = data
        self._module = _imported(data / "space" / "space.py")

    def images(self, points: int) -> FloatArray:
        """So many vectors of images: of photos first, then of noisy copies."""
        photos: FloatArray = np.concatenate([self._module.images(name)[2] for name in _SETS])
        if points <= len(photos):
            return photos[:points]
        return np.concatenate([photos, self._module.noisy_copies(photos, points - len(photos))])

    def embed_texts(self, texts: list[str]) -> FloatArray:
        """What its text tower gives, shape `(len(texts), 512)`."""
        rows: FloatArray = self._module.embed_texts(texts)
        return rows

    def captions(self) -> list[str]:
        """English captions of some of the photos, each once, in an order by chance that is always the same."""
        with (self._data / "flickr8k_test" / "captions.csv").open(encoding="utf-8") as file:
            texts = sorted({row["caption"] for row in csv.DictReader(file) if row["language"] == "en"})
        return [texts[at] for at in np.random.default_rng(1).permutation(len(texts))]

    def far(self) -> list[str]:
        """Texts about what is on none of the photos."""
        lines = (self._data / "space" / "far.txt").read_text(encoding="utf-8").split("\n")
        return [line for line in lines if line.strip()]

    def crops(self) -> FloatArray:
        """Vectors of the middles of 500 of the photos."""
        rows: FloatArray = self._module.crops()[1]
        return rows


class SpaceEmbedder:
    """The text tower of a space."""

    spec = EmbedderSpec(
        model="space",
        fingerprint="space-1",
        dimension=DIMENSION,
        modalities=frozenset({"text"}),
        max_batch_size=64,
    )

    def __init__(self, space: Space) -> None:
        self._space = space

    def embed(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
        return self._space.embed_texts([content.text for content in contents if isinstance(content, Text)])


def _imported(path: Path) -> ModuleType:
    found = importlib.util.spec_from_file_location("space", path)
    assert found is not None and found.loader is not None, path  # noqa: PT018 (one thing is missing)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module
