"""Decode images to upright RGB, crop or shrink them for a model, and hash their pixels.

Embedded colour profiles are ignored, as in the training data of the models.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable

import PIL.features
import PIL.Image

from multimodal_search.contents import Image
from multimodal_search.media.decoding import Opened, made_of
from multimodal_search.media.limits import MAX_PIXELS, pixels_at_most
from multimodal_search.media.opening import CODECS, read_bytes
from multimodal_search.media.orientation import TURNS, orientation_of
from multimodal_search.media.pixels import to_rgb
from multimodal_search.media.refusals import name_of, translated

__all__ = [
    "MAX_PIXELS",
    "center_crop",
    "decoding_rules",
    "fit_within",
    "is_decodable_as_it_is",
    "load_rgb",
    "pixel_bytes",
    "pixels_at_most",
    "read_bytes",
]

_MAX_KEPT_PIXELS = 32_000_000
_MIN_SIDE = 28
# Measured on photos of 384 x 384: PSNR 36 to 44 dB at 0.25 to 0.45 bytes a pixel, and coloured edges stay sharp; 4:2:0
# at quality 90 takes 10% less and loses 0.8 dB.
_JPEG_SETTINGS = {"quality": 88, "subsampling": "4:4:4"}


def decoding_rules(max_pixels: int = MAX_PIXELS) -> str:
    """Versions and limits that decide whether a file can be decoded: if they change, failed files are tried again."""
    try:
        heif = importlib.import_module("pillow_heif").__version__
    except ImportError:
        heif = "none"
    codecs = ",".join(name for name in ("libtiff", *CODECS.values()) if PIL.features.check(name))
    return f"decoding 1; pillow {PIL.__version__} ({codecs}); pillow-heif {heif}; max_pixels {max_pixels}"


def load_rgb(image: Image, *, min_side_px: int | None = None) -> PIL.Image.Image:
    """Decode an image as a person sees it: upright, RGB, transparency on white, the first frame.

    A PIL image is copied, never changed. Its EXIF orientation is applied as that of a file is; if you turn one
    yourself, use `PIL.ImageOps.exif_transpose`, which also removes the orientation.

    Memory: all threads of the process share a budget of 1 GiB for decoding, and wait while it is used up.

    Args:
        image: A path, bytes, an address or a PIL image, as `Image`.
        min_side_px: If given, a JPEG, or an image of more than 32 megapixels, may be decoded at a smaller size, with
            at least this many pixels on its shorter side.

    Returns:
        A PIL image of mode `"RGB"`, 8 bits a channel, owned by the caller.

    Raises:
        NotAnImageError: It is a file of another kind, such as a video.
        UnreadableContentError: It cannot be read or decoded, or has more than `max_pixels` (201,326,592, unless the
            index sets it).
    """

    def made(opened: Opened) -> PIL.Image.Image:
        rgb, _ = _decoded(opened)
        if min_side_px is not None and rgb.width * rgb.height > _MAX_KEPT_PIXELS:
            # Here, within the memory budget, and averaged as in the JPEG decoder.
            rgb = rgb.reduce(max(1, min(rgb.size) // (4 * min_side_px)))
        rgb.info.clear()  # orientation and transparency would be applied again
        return rgb

    with translated(image):
        return made_of(image, min_side_px, made)


def center_crop(image: Image, *, size: int) -> bytes:
    """Crop an image to its central square, and resize it to at most `size` x `size` pixels.

    The crop is that of torchvision's `CenterCrop` to the shorter side. Smaller squares are not enlarged. Bytes that are
    such a square already are returned unchanged, with their metadata.

    Args:
        image: The image.
        size: Maximum side in pixels.

    Returns:
        A JPEG file; or a PNG file, if it has at most 256 colours and is not larger.

    Raises:
        UnreadableContentError: As for `load_rgb`.
    """

    def square(rgb: PIL.Image.Image, full: tuple[int, int]) -> PIL.Image.Image:
        width, height = full
        side = min(width, height)
        left, top = round((width - side) / 2), round((height - side) / 2)  # half to even, as torchvision rounds
        x_scale, y_scale = rgb.width / width, rgb.height / height
        return rgb.resize(
            (min(side, size),) * 2,
            PIL.Image.Resampling.BICUBIC,
            box=(left * x_scale, top * y_scale, (left + side) * x_scale, (top + side) * y_scale),
            reducing_gap=3.0,  # Pillow documents it as indistinguishable from fair resampling
        )

    return _as_file(image, size, lambda opened: opened.width == opened.height <= size, square)


def fit_within(image: Image, *, size: int) -> bytes:
    """Shrink an image so that no side is longer than `size` pixels; its proportions stay.

    Smaller images are not enlarged, but a side of less than 28 pixels is stretched to 28: models in services refuse
    images that have less than one patch (Qwen2-VL's preprocessing), or few pixels (infinity). Bytes of an upright JPEG
    or PNG that fits are returned unchanged.

    Args:
        image: The image.
        size: Maximum of either side in pixels, at least 28.

    Returns:
        A JPEG file; or a PNG file, if it has at most 256 colours and is not larger.

    Raises:
        UnreadableContentError: As for `load_rgb`.
    """

    def shrunk(rgb: PIL.Image.Image, full: tuple[int, int]) -> PIL.Image.Image:
        scale = min(1.0, size / max(full))
        width, height = (max(_MIN_SIDE, round(side * scale)) for side in full)
        return rgb.resize((width, height), PIL.Image.Resampling.BICUBIC, reducing_gap=3.0)

    return _as_file(image, size, lambda opened: max(opened.size) <= size and min(opened.size) >= _MIN_SIDE, shrunk)


def is_decodable_as_it_is(image: Image, *, min_side_px: int) -> bool:
    """Whether Pillow can decode the file as it is, without repair.

    Raises:
        UnreadableContentError: As for `load_rgb`.
    """

    def made(opened: Opened) -> bool:
        opened.image.load()
        return not opened.is_mended

    with translated(image):
        return made_of(image, min_side_px, made)


def pixel_bytes(decoded: PIL.Image.Image) -> bytes:
    """The content of a PIL image as bytes to hash: mode, size, palette, transparency, orientation, pixels.

    Raises:
        UnreadableContentError: It was opened from a file that cannot be decoded.
    """

    def made(opened: Opened) -> bytes:
        copy = opened.image
        palette = copy.getpalette("RGBA") if copy.mode in ("P", "PA") else None
        parts = (copy.mode, copy.size, palette, copy.info.get("transparency"), orientation_of(copy))
        return repr(parts).encode() + copy.tobytes()

    image = Image(decoded)
    with translated(image):
        return made_of(image, None, made)


def _decoded(opened: Opened) -> tuple[PIL.Image.Image, tuple[int, int]]:
    """Upright RGB pixels, and their size before any decoding at a smaller size."""
    image = opened.image
    is_smaller = image.size != opened.full_size
    image.load()
    for decoder in ("_decoder", "_heif_file"):  # of WebP, AVIF and HEIF: they hold as much memory again as the image
        vars(image).pop(decoder, None)
    size = opened.full_size if is_smaller else image.size  # some formats know it only now
    orientation = orientation_of(image)
    rgb = to_rgb(image, opened.samples)
    if orientation == 1:
        return rgb, size
    return rgb.transpose(TURNS[orientation]), size[::-1] if orientation > 4 else size


def _as_file(
    image: Image,
    size: int,
    is_small: Callable[[PIL.Image.Image], bool],
    resized: Callable[[PIL.Image.Image, tuple[int, int]], PIL.Image.Image],
) -> bytes:
    """An image file to send: the given bytes if they are small and plain, else the resized image."""
    data = read_bytes(image)

    def made(opened: Opened) -> bytes:
        if data is not None and not opened.is_mended and is_small(opened.image) and _is_plain(opened.image):
            return data
        small = resized(*_decoded(opened))
        small.info.clear()
        return _encoded(small)

    with translated(image):
        # From twice the size on, the averaging in the JPEG decoder makes no visible difference.
        return made_of(image if data is None else Image(data, name=name_of(image)), 2 * size, made)


def _is_plain(image: PIL.Image.Image) -> bool:
    if not (
        image.format in ("JPEG", "PNG")
        and image.mode in ("L", "RGB")
        and not image.has_transparency_data
        and not getattr(image, "is_animated", False)
    ):
        return False
    image.load()
    return orientation_of(image) == 1


def _encoded(image: PIL.Image.Image) -> bytes:
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", **_JPEG_SETTINGS)
    if image.getcolors(256) is None:
        return jpeg.getvalue()
    png = io.BytesIO()  # a graphic: lossless, and often smaller
    image.save(png, "PNG")
    return min(png, jpeg, key=lambda file: file.tell()).getvalue()
