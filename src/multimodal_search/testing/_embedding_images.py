"""What an embedder must do with images, and what `prepare` must leave as it is."""
# ruff: noqa: S101 (these are tests)

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from multimodal_search.contents import Image, modality_of
from multimodal_search.errors import ContentError
from multimodal_search.protocols import Embedder, SupportsPrepare
from multimodal_search.testing._embedding import EmbeddingContract
from multimodal_search.testing._images import encoded, image

_EXIF_ORIENTATION = 0x0112


class EmbeddingImagesContract(EmbeddingContract):
    """A part of `EmbedderContract`."""

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "CMYK", "1", "I;16"])
    def test_images_of_every_mode_are_embedded(self, embedder: Embedder, mode: str) -> None:
        """Photos come in grey, with transparency, for printing, and with palettes."""
        self._needs_images(embedder)
        of_mode = PIL.Image.new("I;16", (40, 30), 20_000) if mode == "I;16" else image(3).convert(mode)
        assert np.isfinite(self._embed(embedder, [self._given(embedder, encoded(of_mode, "TIFF"))])).all()

    @pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (3, 2_000), (257, 255)])
    def test_images_of_every_shape_are_embedded(self, embedder: Embedder, size: tuple[int, int]) -> None:
        """A line of one pixel is an image, too."""
        self._needs_images(embedder)
        vectors = self._embed(embedder, [Image(image(5).resize(size))])
        assert vectors.shape == (1, embedder.spec.dimension)

    def test_images_are_turned_upright(self, embedder: Embedder) -> None:
        """Phones store photos on their side, and say so in the EXIF data."""
        if not isinstance(embedder, SupportsPrepare):
            pytest.skip("it has no `prepare`: the library turns images upright")
        self._needs_images(embedder)
        upright = image(2).resize((60, 40))
        exif = PIL.Image.Exif()
        exif[_EXIF_ORIENTATION] = 6
        turned = encoded(upright.transpose(PIL.Image.Transpose.ROTATE_90), "PNG", exif=exif)
        first, second = self._embed(
            embedder, [self._given(embedder, each) for each in (turned, encoded(upright, "PNG"))]
        )
        assert self._is_close(first, second)

    def test_preparing_changes_no_vector(self, embedder: Embedder, tmp_path: Path) -> None:
        """`prepare` does a part of the work in another thread; whether it was called must not matter."""
        if not isinstance(embedder, SupportsPrepare):
            pytest.skip("it has no `prepare`")
        contents = self._contents(embedder)
        plain = self._embed(embedder, contents)  # images are decoded; from here on, some others are files
        if "image" in embedder.spec.modalities:
            image(11).save(tmp_path / "a.png")
            contents += [Image(tmp_path / "a.png"), Image((tmp_path / "a.png").read_bytes())]
            plain = np.concatenate([plain, *[self._embed(embedder, [Image(image(11))])] * 2])
        prepared = [embedder.prepare(content) for content in contents]
        assert [modality_of(each) for each in prepared] == [modality_of(each) for each in contents]
        self._assert_equal(self._embed(embedder, prepared), plain)
        self._assert_equal(self._embed(embedder, [embedder.prepare(each) for each in prepared]), plain)

    @pytest.mark.parametrize(
        "data", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40], ids=["empty", "text", "cut"]
    )
    def test_a_broken_image_is_refused_as_a_content(self, embedder: Embedder, data: bytes) -> None:
        """Any other error would end the run for all the others."""
        if not isinstance(embedder, SupportsPrepare):
            pytest.skip("it has no `prepare`: the library decodes images")
        self._needs_images(embedder)
        with pytest.raises(ContentError):
            embedder.prepare(Image(data))
