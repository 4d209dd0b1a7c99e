"""Limits of decoding: pixels, scans of a JPEG, formats with decoders in Python."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, BinaryIO

import PIL.Image
import PIL.ImageFile

from multimodal_search.media.pixels import tile_pixels
from multimodal_search.media.refusals import RefusedError
from multimodal_search.media.repair import jpeg_scans

MAX_PIXELS = 16_384 * 12_288
"""Default maximum of pixels of an image: that of phones with a 200-megapixel sensor."""

_pixel_limit: ContextVar[int | None] = ContextVar("pixel_limit", default=None)

# 10 s in decoders that are written in Python and hold its lock. Measured with Pillow 13, in microseconds a pixel.
_MAX_PYTHON_US = 10_000_000
_US_OF_DECODER = {"BLP1": 0.4, "BLP2": 0.9, "MSP": 0.1, "SGI16": 0.02, "bmp_rle": 0.5, "qoi": 1.1, "xpm": 1.5}
_US_OF_OTHER_DECODERS = 2.0  # ppm, ppm_plain, dds_rgb
# Each scan of a progressive JPEG visits all of its blocks. libjpeg-turbo warns of small files with hundreds of empty
# ones (report LJT-01-004) and has callers set a limit (TJPARAM_SCANLIMIT). Encoders write ten or so, at most dozens.
_MAX_SCANNED_PIXELS = 64 * MAX_PIXELS
_MAX_INNER_BYTES = 64 * 1024 * 1024  # of an icon, which holds complete images of other sizes


@contextmanager
def pixels_at_most(limit: int) -> Iterator[None]:
    """Set the maximum of pixels of an image for what this thread decodes in the block."""
    before = _pixel_limit.set(limit)
    try:
        yield
    finally:
        _pixel_limit.reset(before)


def check_icon(file: BinaryIO) -> None:
    """Refuse an icon that holds an image of too many pixels: Pillow decodes it when it opens the icon."""
    file.seek(0)
    data = file.read(_MAX_INNER_BYTES)
    sizes = [struct.unpack(">II", found[1]) for found in re.finditer(rb"(?:IHDR|ihdr)(.{8})", data, re.DOTALL)]
    for width, height in sizes:
        check_size(width, height)
    if data.startswith(b"\0\0"):
        for entry in range(6, min(6 + 16 * int.from_bytes(data[4:6], "little"), len(data) - 15), 16):
            at = int.from_bytes(data[entry + 12 : entry + 16], "little")
            header = data[at : at + 20]
            if len(header) == 20 and header.startswith((b"\x28\0\0\0", b"\x6c\0\0\0", b"\x7c\0\0\0")):
                width, height, compression = struct.unpack("<4xii4xI", header)  # the mask below it doubles the height
                check_size(width, abs(height) // 2, "bmp_rle" if compression in (1, 2) else None)


def check_image(image: PIL.Image.Image, size: tuple[int, int]) -> None:
    """Refuse an opened image that has too many pixels, or would take too long to decode.

    Args:
        image: The image, not loaded.
        size: Its width and height in the file.

    Raises:
        RefusedError: It has or would, or Pillow decodes its format by running another program.
    """
    # Pillow runs Ghostscript for EPS, and for stubs (WMF, GRIB, ...) whatever was registered for them.
    if image.format == "EPS" or isinstance(image, PIL.ImageFile.StubImageFile):
        raise RefusedError(f"{image.format} is not supported; convert it to PNG")
    slow = [tile[0] for tile in getattr(image, "tile", ()) if tile[0] in PIL.Image.DECODERS]
    check_size(*size, slow[0] if slow else None)
    if tile_pixels(image) > _limit():
        raise RefusedError(f"a tile of {tile_pixels(image):,} pixels, more than max_pixels={_limit():,}")
    if image.format in ("JPEG", "MPO") and _comes_in_scans(image):
        assert isinstance(image, PIL.ImageFile.ImageFile)  # noqa: S101 (as every opened one is)
        scans = 1 if image.fp is None else 1 + jpeg_scans(image.fp)  # type: ignore[arg-type]  # IO[bytes]
        if scans * max(size[0] * size[1], 64 * 64) > _MAX_SCANNED_PIXELS:
            raise RefusedError(
                f"a JPEG of {size[0]} x {size[1]} pixels in {scans:,} scans, too slow to decode; save it again"
            )


def _comes_in_scans(image: Any) -> bool:
    """Whether a JPEG has several scans: it is progressive, or its first scan lacks components."""
    if image.info.get("progressive"):
        return True
    if image.fp is None:
        return False
    at = image.fp.tell()
    image.fp.seek(max(0, at - 16))
    start = image.fp.read(16)  # ends with the header of the first scan: how many components, and two bytes for each
    image.fp.seek(at)
    found = start.rfind(b"\xff\xda")
    return bool(0 <= found < 12 and start[found + 4] < image.layers)


def check_size(width: int, height: int, python_decoder: str | None = None) -> None:
    """Refuse an image of too many pixels, or none.

    Args:
        width: In pixels.
        height: In pixels.
        python_decoder: The name of Pillow's decoder, if it is written in Python.

    Raises:
        RefusedError: There are too many pixels, or none.
    """
    pixels = width * height
    if width <= 0 or height <= 0:
        raise RefusedError("has no pixels")
    if pixels > _limit():
        raise RefusedError(f"{width} x {height} pixels, more than max_pixels={_limit():,}")
    if python_decoder is not None:
        limit = int(_MAX_PYTHON_US / _US_OF_DECODER.get(python_decoder, _US_OF_OTHER_DECODERS))
        if pixels > limit:
            raise RefusedError(
                f"{width} x {height} pixels, more than {limit:,}, of a format that is slow to decode; convert it to PNG"
            )


def _limit() -> int:
    return _pixel_limit.get() or MAX_PIXELS
