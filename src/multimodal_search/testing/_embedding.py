"""What the tests of embedders share: contents to embed, and how to compare vectors."""
# ruff: noqa: S101 (these are tests)

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import PIL.Image
import pytest

from multimodal_search.contents import Content, Image, Mixed, Text
from multimodal_search.protocols import Embedder, SupportsPrepare
from multimodal_search.testing._images import image
from multimodal_search.types import FloatArray, Role


class EmbeddingContract:
    """A part of `EmbedderContract`."""

    texts: ClassVar[Sequence[str]]
    tolerance: ClassVar[float]

    def _embed(self, embedder: Embedder, contents: Sequence[Content], *, role: Role = "document") -> FloatArray:
        size = embedder.spec.max_batch_size
        parts = [embedder.embed(contents[start : start + size], role=role) for start in range(0, len(contents), size)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _contents(self, embedder: Embedder) -> list[Content]:
        modalities = embedder.spec.modalities
        contents: list[Content] = [Text(text) for text in self.texts] if "text" in modalities else []
        if "image" in modalities:
            contents += [Image(image(number)) for number in range(4)]
        if "mixed" in modalities:
            contents.append(Mixed(Text(self.texts[0]), Image(image(9))))
        return contents

    def _given(self, embedder: Embedder, data: bytes) -> Content:
        """An image as the library gives it to `embed`: prepared if the embedder can do that, else decoded."""
        if isinstance(embedder, SupportsPrepare):
            return embedder.prepare(Image(data))
        with PIL.Image.open(io.BytesIO(data)) as opened:
            return Image(opened.convert("RGB"))

    def _is_close(self, first: FloatArray, second: FloatArray) -> bool:
        distance = float(np.linalg.norm(first.astype(np.float64) - second.astype(np.float64)))
        return distance <= self.tolerance * float(max(np.linalg.norm(first), np.linalg.norm(second)))

    def _assert_equal(self, vectors: FloatArray, expected: FloatArray) -> None:
        assert vectors.shape == expected.shape
        for number, (first, second) in enumerate(zip(vectors, expected, strict=True)):
            assert self._is_close(first, second), f"row {number} differs"

    def _needs_texts(self, embedder: Embedder) -> None:
        if "text" not in embedder.spec.modalities:
            pytest.skip("it embeds no texts")

    def _needs_images(self, embedder: Embedder) -> None:
        if "image" not in embedder.spec.modalities:
            pytest.skip("it embeds no images")
