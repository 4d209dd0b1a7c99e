"""Decode images within the memory budget, after repair if the file is damaged but its pixels are complete."""

from __future__ import annotations

import io
import os
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import PIL.Image
import PIL.ImageChops

from multimodal_search.contents import Image
from multimodal_search.media.limits import check_image, check_size
from multimodal_search.media.memory_budget import MemoryBudget
from multimodal_search.media.opening import opened_file, read_bytes, recognized
from multimodal_search.media.orientation import orientation_of
from multimodal_search.media.pixels import Samples, peak_bytes
from multimodal_search.media.refusals import DamagedError, RefusedError, name_of
from multimodal_search.media.repair import has_all_scans, without_extras
from multimodal_search.media.uncommon_kinds import is_misread, uncommon

_Made = TypeVar("_Made")

DECODING = MemoryBudget(1024 * 1024 * 1024)
"""Memory for decoding in all threads of the process; eight photos of 24 megapixels at once take 0.8 GB."""

_JPEG_END = b"\xff\xd9"
_NOISE = random.Random(0).randbytes(64 * 1024).replace(b"\xff", b"\xfe") + _JPEG_END  # noqa: S311 (no secret)
_loading_given_image = threading.Lock()  # Pillow loads an opened image on first use, which is not thread-safe


@dataclass(frozen=True, slots=True)
class Opened:
    """An opened image, not yet decoded.

    Attributes:
        image: The image; may be changed.
        samples: Properties of its samples.
        full_size: Width and height in the file.
        is_mended: Whether the file had to be repaired for Pillow.
    """

    image: PIL.Image.Image
    samples: Samples
    full_size: tuple[int, int]
    is_mended: bool = False


def made_of(image: Image, min_side_px: int | None, make: Callable[[Opened], _Made]) -> _Made:
    """Open an image and apply a function to it within the memory budget; retry with a repaired file on errors.

    Args:
        image: The image.
        min_side_px: As for `load_rgb`.
        make: The function that decodes.
    """
    match image.source:
        case PIL.Image.Image() as given:
            return _made_of_given(given, make)
        case Path() as path:
            file: BinaryIO = opened_file(path)
        case _:
            file = io.BytesIO(read_bytes(image) or b"")

    def once(read_from: BinaryIO) -> _Made:
        decoded = recognized(read_from, name_of(image))
        full_size = decoded.size
        if min_side_px is not None and decoded.format in ("JPEG", "MPO"):
            decoded.draft(None, (min_side_px, min_side_px))
        check_image(decoded, full_size)
        if is_misread(decoded):
            raise DamagedError("TIFF: of a variant that cannot be decoded; convert it to PNG or JPEG")
        if decoded.format in ("PNG", "TIFF"):  # asking these for the orientation would load them
            is_turned = decoded.format == "TIFF" or "exif" in decoded.info
            decoded.info.pop("xmp", None)  # Pillow would apply its orientation to a TIFF
        else:
            is_turned = orientation_of(decoded) > 1
        size_bytes = peak_bytes(decoded, full_size=full_size, is_turned=is_turned, encoded_bytes=_size_bytes(read_from))
        opened = Opened(decoded, Samples.of(decoded), full_size, is_mended=read_from is not file)
        with DECODING.hold(size_bytes):
            try:
                return make(opened)
            finally:
                del decoded, opened  # before their memory is given back

    with file:
        try:
            return once(file)
        except (RefusedError, MemoryError, PIL.Image.DecompressionBombError):
            raise
        except Exception as error:  # noqa: BLE001 (anything can be wrong beside the pixels, too)
            file.seek(0)
            data = file.read()
            return _made_of_bare(data, error, once)


def _made_of_given(given: PIL.Image.Image, make: Callable[[Opened], _Made]) -> _Made:
    with _loading_given_image:  # an image that is not loaded yet is read from a file that other threads may read
        check_image(given, given.size)
    size_bytes = 2 * peak_bytes(given, full_size=given.size, is_turned=True, encoded_bytes=0)
    with DECODING.hold(size_bytes):
        with _loading_given_image:
            samples = Samples.of(given)
            given.load()
        return make(Opened(given.copy(), samples, given.size))


def _made_of_bare(data: bytes, error: Exception, once: Callable[[BinaryIO], _Made]) -> _Made:
    """Decode a file that Pillow cannot read, if its pixels are complete: without extras, or as an uncommon kind.

    Raises:
        Exception: The error in the pixels.
    """
    bare = without_extras(data)
    try:
        if bare is not None:
            return once(io.BytesIO(bare))
        about_pixels = error
    except Exception as about_bare:  # noqa: BLE001 (as above)
        about_pixels = about_bare
    if (image := uncommon(data)) is not None:
        check_size(*image.size)
        with DECODING.hold(image.peak_bytes):
            known = image.as_known_tiff()
        return once(io.BytesIO(known))
    if bare is None or not bare.startswith(b"\xff\xd8"):
        raise about_pixels
    is_cut_off = "truncated" in f"{error} {about_pixels}"
    bare = bare.rstrip(b"\xff")  # half of the end mark
    if is_cut_off and has_all_scans(bare) and _is_whole_but_for_its_end(bare):
        return once(io.BytesIO(bare + _JPEG_END))
    raise about_pixels if "truncated" in str(about_pixels) else error from None


def _is_whole_but_for_its_end(data: bytes) -> bool:
    """Whether a JPEG has all its pixels: then they do not depend on what follows the end of the file.

    The decoder fills in missing pixels from what follows, without an error.
    """
    try:
        first, second = (recognized(io.BytesIO(data + end), "") for end in (_JPEG_END, _NOISE))
        check_image(first, first.size)
        with DECODING.hold(3 * peak_bytes(first, full_size=first.size, is_turned=False, encoded_bytes=2 * len(data))):
            return PIL.ImageChops.difference(first, second).getbbox(alpha_only=False) is None
    except (OSError, SyntaxError, ValueError, RefusedError):
        return False


def _size_bytes(file: BinaryIO) -> int:
    at = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(at)
    return size
