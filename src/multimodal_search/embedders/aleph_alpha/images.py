"""An image as Aleph Alpha's API is sent it: upright, and cropped to a square or whole."""

from __future__ import annotations

from io import BytesIO

import PIL.ExifTags
import PIL.Image

from multimodal_search.contents import Image
from multimodal_search.media.images import center_crop, is_decodable_as_it_is, load_rgb, read_bytes

PREPROCESSING = {True: "square384-1", False: "whole-1"}  # by `shrink`; the number changes when the pixels sent do

_IMAGE_SIZE = 384  # the model sees the middle square of an image, at this size
_MAX_JPEG_SIDE = 65_500  # that libjpeg writes


class _SquareImage(Image):
    """An image as it is sent with `shrink=True`, which need not be looked at again."""

    __slots__ = ()


class _WholeImage(Image):
    """An image as it is sent with `shrink=False`, which need not be looked at again."""

    __slots__ = ()


def as_sent(image: Image, *, shrink: bool) -> Image:
    """An image as it is sent: read, upright, encoded, and with `shrink` the middle square of it only.

    Raises:
        UnreadableContentError: It cannot be read.
    """
    prepared = _SquareImage if shrink else _WholeImage
    if isinstance(image, prepared):
        return image
    encoded = center_crop(image, size=_IMAGE_SIZE) if shrink else _whole(image)
    return prepared(encoded, name=image.label)


def _whole(image: Image) -> bytes:
    """An upright image that is not cropped: the file's own bytes where the service can take them as they are."""
    encoded = read_bytes(image)
    if encoded is not None:
        image = Image(encoded, name=image.label)
        # What the service cannot decode must not spoil a request with others.
        if _is_plain(encoded) and is_decodable_as_it_is(image, min_side_px=_IMAGE_SIZE):
            return encoded
    decoded, buffer = load_rgb(image), BytesIO()
    if max(decoded.size) <= _MAX_JPEG_SIDE:
        decoded.save(buffer, "JPEG", quality=95, subsampling=0)
    else:
        decoded.save(buffer, "PNG")
    return buffer.getvalue()


def _is_plain(encoded: bytes) -> bool:
    """Whether this is a JPEG or PNG file that looks the same to a program that knows pixels only."""
    try:
        with PIL.Image.open(BytesIO(encoded), formats=("JPEG", "PNG")) as image:
            is_upright = image.getexif().get(PIL.ExifTags.Base.Orientation, 1) not in range(2, 9)
            return is_upright and image.mode in ("RGB", "L") and not image.has_transparency_data
    except Exception:  # noqa: BLE001 (Pillow raises anything on foreign data; `load_rgb` will tell whether it matters)
        return False
