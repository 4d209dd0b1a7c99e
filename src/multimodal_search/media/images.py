"""Turns an image from anywhere into upright RGB pixels, or into the bytes that a model needs to see.

Embedded colour profiles play no part: the models were trained on images whose profiles were ignored.
"""

from __future__ import annotations

import importlib
import io

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
    "is_decodable_as_it_is",
    "load_rgb",
    "pixel_bytes",
    "pixels_at_most",
    "read_bytes",
]

_MAX_KEPT_PIXELS = 32_000_000
# Measured on photos of 384 x 384: PSNR 36 to 44 dB at 0.25 to 0.45 bytes a pixel, and coloured edges stay sharp; 4:2:0
# at quality 90 takes 10% less and loses 0.8 dB.
_JPEG_SETTINGS = {"quality": 88, "subsampling": "4:4:4"}


def decoding_rules(max_pixels: int = MAX_PIXELS) -> str:
    """All that decides whether a file can be decoded, besides the file: where it changes, a refusal may not hold."""
    try:
        heif = importlib.import_module("pillow_heif").__version__
    except ImportError:
        heif = "none"
    codecs = ",".join(name for name in ("libtiff", *CODECS.values()) if PIL.features.check(name))
    return f"decoding 1; pillow {PIL.__version__} ({codecs}); pillow-heif {heif}; max_pixels {max_pixels}"


def load_rgb(image: Image, *, min_side_px: int | None = None) -> PIL.Image.Image:
    """The pixels of an image as a person sees them: upright, RGB, on white where transparent, the first frame.

    A PIL image that was given is never changed. Its EXIF orientation counts as a file's does, so turn one by
    `PIL.ImageOps.exif_transpose`, which removes the orientation.

    Args:
        image: The image.
        min_side_px: A JPEG, or an image of more than 32 megapixels, may come smaller than it is, while its shorter side
            keeps this many pixels.

    Returns:
        An image of mode RGB, for the caller to keep or to change.

    Raises:
        UnreadableContentError: It cannot be read or decoded, or has more pixels than `pixels_at_most` allows, or
            `MAX_PIXELS`.
    """

    def made(opened: Opened) -> PIL.Image.Image:
        rgb, _ = _decoded(opened)
        if min_side_px is not None and rgb.width * rgb.height > _MAX_KEPT_PIXELS:
            # Here, where its memory is accounted for, and averaged as within the JPEG decoder.
            rgb = rgb.reduce(max(1, min(rgb.size) // (4 * min_side_px)))
        rgb.info.clear()  # what the file said of itself would be acted on a second time
        return rgb

    with translated(image):
        return made_of(image, min_side_px, made)


def center_crop(image: Image, *, size: int) -> bytes:
    """What a model sees that crops images to their central square and resizes it to `size` x `size`.

    The crop is that of torchvision's `CenterCrop` to the shorter side. Nothing is enlarged: a smaller square keeps its
    pixels. Bytes that are such a square already are returned untouched, whatever metadata they hold.

    Args:
        image: The image.
        size: Most pixels of a side.

    Returns:
        A JPEG file; or a PNG file, where there are few colours and it is no larger.

    Raises:
        UnreadableContentError: As for `load_rgb`.
    """
    data = read_bytes(image)

    def made(opened: Opened) -> bytes:
        if data is not None and not opened.is_mended and _is_fit(opened.image, size):
            return data
        rgb, (width, height) = _decoded(opened)
        side = min(width, height)
        left, top = round((width - side) / 2), round((height - side) / 2)  # half to even, as torchvision rounds
        x_scale, y_scale = rgb.width / width, rgb.height / height
        square = rgb.resize(
            (min(side, size),) * 2,
            PIL.Image.Resampling.BICUBIC,
            box=(left * x_scale, top * y_scale, (left + side) * x_scale, (top + side) * y_scale),
            reducing_gap=3.0,  # Pillow documents it as indistinguishable from fair resampling
        )
        square.info.clear()
        return _encoded(square)

    with translated(image):
        # From twice the size on, the averaging of pixels within the JPEG decoder leaves no difference to be seen.
        return made_of(image if data is None else Image(data, name=name_of(image)), 2 * size, made)


def is_decodable_as_it_is(image: Image, *, min_side_px: int) -> bool:
    """Whether any program can decode the file of an image, and not only one that knows what to leave out.

    Raises:
        UnreadableContentError: As for `load_rgb`.
    """

    def made(opened: Opened) -> bool:
        opened.image.load()
        return not opened.is_mended

    with translated(image):
        return made_of(image, min_side_px, made)


def pixel_bytes(decoded: PIL.Image.Image) -> bytes:
    """All that makes up a PIL image, as bytes to hash: mode, size, palette, transparency, orientation, pixels.

    Raises:
        UnreadableContentError: It was opened from a file, and cannot be decoded.
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
    """Upright RGB pixels, and the size that they have, or would have had if they had not been decoded smaller."""
    image = opened.image
    is_smaller = image.size != opened.full_size
    image.load()
    for decoder in ("_decoder", "_heif_file"):  # of WebP, AVIF and HEIF: they hold as much again as the image
        vars(image).pop(decoder, None)
    size = opened.full_size if is_smaller else image.size  # some formats tell it only now
    orientation = orientation_of(image)
    rgb = to_rgb(image, opened.samples)
    if orientation == 1:
        return rgb, size
    return rgb.transpose(TURNS[orientation]), size[::-1] if orientation > 4 else size


def _is_fit(image: PIL.Image.Image, size: int) -> bool:
    if not (
        image.format in ("JPEG", "PNG")
        and image.mode in ("L", "RGB")
        and image.width == image.height <= size
        and not image.has_transparency_data
        and not getattr(image, "is_animated", False)
    ):
        return False
    image.load()
    return orientation_of(image) == 1


def _encoded(square: PIL.Image.Image) -> bytes:
    jpeg = io.BytesIO()
    square.save(jpeg, "JPEG", **_JPEG_SETTINGS)
    if square.getcolors(256) is None:
        return jpeg.getvalue()
    png = io.BytesIO()  # a graphic: without loss, and often in less
    square.save(png, "PNG")
    return min(png, jpeg, key=lambda file: file.tell()).getvalue()
