"""Turns an image from anywhere into upright RGB pixels, or into the bytes that a model needs to see.

Embedded colour profiles play no part: the models were trained on images whose profiles were ignored.
"""

from __future__ import annotations

import importlib
import io
import os
import random
import re
import struct
import textwrap
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import PIL.features
import PIL.Image
import PIL.ImageChops
import PIL.ImageFile

from multimodal_search._files import is_address, open_regular
from multimodal_search.contents import Image, RemoteImage
from multimodal_search.errors import NotAnImageError, UnreadableContentError
from multimodal_search.media.file_kinds import HEAD_BYTES, kind_of, names_an_image
from multimodal_search.media.memory_budget import MemoryBudget
from multimodal_search.media.pixels import Samples, peak_bytes, tile_pixels, to_rgb
from multimodal_search.media.remote import fetch
from multimodal_search.media.repair import has_all_scans, jpeg_scans, without_extras
from multimodal_search.media.silence import silence
from multimodal_search.media.uncommon_kinds import is_misread, uncommon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_Made = TypeVar("_Made")

MAX_PIXELS = 16_384 * 12_288
"""Most pixels of an image that is decoded, unless set otherwise: what phones with a 200-megapixel sensor write."""

DECODING = MemoryBudget(1024 * 1024 * 1024)
"""Memory for decoding in all threads of the process: eight photos of 24 megapixels at once take 0.8 GB."""

_pixel_limit: ContextVar[int | None] = ContextVar("pixel_limit", default=None)

# Of decoders that are loops in Python and hold its lock, 10 s. Measured with Pillow 13, in microseconds a pixel.
_MAX_PYTHON_US = 10_000_000
_US_OF_DECODER = {"BLP1": 0.4, "BLP2": 0.9, "MSP": 0.1, "SGI16": 0.02, "bmp_rle": 0.5, "qoi": 1.1, "xpm": 1.5}
_US_OF_OTHER_DECODERS = 2.0  # ppm, ppm_plain, dds_rgb
# Each scan of a progressive JPEG visits all of its blocks. libjpeg-turbo warns of small files with hundreds of empty
# ones (report LJT-01-004) and has callers set a limit (TJPARAM_SCANLIMIT). Encoders write ten or so, at most dozens.
_MAX_SCANNED_PIXELS = 64 * MAX_PIXELS
_JPEG_END = b"\xff\xd9"
_NOISE = random.Random(0).randbytes(64 * 1024).replace(b"\xff", b"\xfe") + _JPEG_END  # noqa: S311 (no secret)
_MAX_KEPT_PIXELS = 32_000_000
_MAX_INNER_BYTES = 64 * 1024 * 1024  # of an icon, which holds whole images of a size of their own
# Measured on photos of 384 x 384: PSNR 36 to 44 dB at 0.25 to 0.45 bytes a pixel, and coloured edges stay sharp; 4:2:0
# at quality 90 takes 10% less and loses 0.8 dB.
_JPEG_SETTINGS = {"quality": 88, "subsampling": "4:4:4"}
_ORIENTATION = 274  # TIFF 6.0 tag
_TURNS = {  # EXIF 2.32, section 4.6.4: what turns an image of each orientation upright
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
_CODECS = {"AVIF": "avif", "JPEG 2000": "jpg_2000", "WebP": "webp"}  # what a Pillow may be built without
# Pillow finds its plugins, and loads an image that was opened, upon first use, and not for two threads at once.
_finding_plugins, _loading_given_image = threading.Lock(), threading.Lock()


@contextmanager
def pixels_at_most(limit: int) -> Iterator[None]:
    """Set the most pixels that an image may have, for what this thread decodes meanwhile."""
    before = _pixel_limit.set(limit)
    try:
        yield
    finally:
        _pixel_limit.reset(before)


def decoding_rules(max_pixels: int = MAX_PIXELS) -> str:
    """All that decides whether a file can be decoded, besides the file: where it changes, a refusal may not hold."""
    try:
        heif = importlib.import_module("pillow_heif").__version__
    except ImportError:
        heif = "none"
    codecs = ",".join(name for name in ("libtiff", *_CODECS.values()) if PIL.features.check(name))
    return f"decoding 1; pillow {PIL.__version__} ({codecs}); pillow-heif {heif}; max_pixels {max_pixels}"


def read_bytes(image: Image) -> bytes | None:
    """The encoded bytes of an image: its file's, as given, or as fetched; None for a PIL image.

    A file is read no further than to where it is clear that it is no image, or one that is never decoded.

    Raises:
        NotAnImageError: It is a file of another kind.
        UnreadableContentError: The file is missing, a folder, empty or not permitted, or the fetch failed.
    """
    match image.source:
        case PIL.Image.Image():
            return None
        case RemoteImage():
            data = fetch(image.source, label=image.label)
        case bytes():
            data = image.source
        case path:
            with _translated(image), _opened_file(path) as file:
                return file.read()
    with _translated(image):
        if not data:
            raise _RefusedError("empty file")
        _check_kind(data[:HEAD_BYTES], _name(image))
    return data


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

    def made(opened: _Opened) -> PIL.Image.Image:
        rgb, _ = _decoded(opened)
        if min_side_px is not None and rgb.width * rgb.height > _MAX_KEPT_PIXELS:
            # Here, where its memory is accounted for, and averaged as within the JPEG decoder.
            rgb = rgb.reduce(max(1, min(rgb.size) // (4 * min_side_px)))
        rgb.info.clear()  # what the file said of itself would be acted on a second time
        return rgb

    with _translated(image):
        return _made_of(image, min_side_px, made)


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

    def made(opened: _Opened) -> bytes:
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

    with _translated(image):
        # From twice the size on, the averaging of pixels within the JPEG decoder leaves no difference to be seen.
        return _made_of(image if data is None else Image(data, name=_name(image)), 2 * size, made)


def is_decodable_as_it_is(image: Image, *, min_side_px: int) -> bool:
    """Whether any program can decode the file of an image, and not only one that knows what to leave out.

    Raises:
        UnreadableContentError: As for `load_rgb`.
    """

    def made(opened: _Opened) -> bool:
        opened.image.load()
        return not opened.is_mended

    with _translated(image):
        return _made_of(image, min_side_px, made)


def pixel_bytes(decoded: PIL.Image.Image) -> bytes:
    """All that makes up a PIL image, as bytes to hash: mode, size, palette, transparency, orientation, pixels.

    Raises:
        UnreadableContentError: It was opened from a file, and cannot be decoded.
    """

    def made(opened: _Opened) -> bytes:
        copy = opened.image
        palette = copy.getpalette("RGBA") if copy.mode in ("P", "PA") else None
        parts = (copy.mode, copy.size, palette, copy.info.get("transparency"), _orientation(copy))
        return repr(parts).encode() + copy.tobytes()

    image = Image(decoded)
    with _translated(image):
        return _made_of(image, None, made)


class _RefusedError(Exception):
    """Why an image was not decoded; the message is for the user."""


class _DamagedError(Exception):
    """What an image is whose format is known, and that Pillow cannot open."""


class _OtherKindError(_RefusedError):
    """What a file is that is no image."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class _Opened:
    """An image that is ready to be decoded.

    Attributes:
        image: It, to be changed at will.
        samples: What is known of its samples.
        full_size: The size that it has in the file.
        is_mended: Whether Pillow could not read the file as it is.
    """

    image: PIL.Image.Image
    samples: Samples
    full_size: tuple[int, int]
    is_mended: bool = False


def _made_of(image: Image, min_side_px: int | None, make: Callable[[_Opened], _Made]) -> _Made:
    """What a function makes of an image that is ready to be decoded, within the budget of memory.

    Args:
        image: The image.
        min_side_px: As for `load_rgb`.
        make: The function.
    """
    match image.source:
        case PIL.Image.Image() as given:
            return _made_of_given(given, make)
        case Path() as path:
            file: BinaryIO = _opened_file(path)
        case _:
            file = io.BytesIO(read_bytes(image) or b"")

    def once(read_from: BinaryIO) -> _Made:
        decoded = _recognized(read_from, _name(image))
        full_size = decoded.size
        if min_side_px is not None and decoded.format in ("JPEG", "MPO"):
            decoded.draft(None, (min_side_px, min_side_px))
        _check(decoded, full_size)
        if is_misread(decoded):
            raise _DamagedError("TIFF: of a variant that cannot be decoded; convert it to PNG or JPEG")
        if decoded.format in ("PNG", "TIFF"):  # to ask these would load them
            is_turned = decoded.format == "TIFF" or "exif" in decoded.info
            decoded.info.pop("xmp", None)  # by which Pillow would turn a TIFF
        else:
            is_turned = _orientation(decoded) > 1
        size_bytes = peak_bytes(decoded, full_size=full_size, is_turned=is_turned, encoded_bytes=_size_bytes(read_from))
        opened = _Opened(decoded, Samples.of(decoded), full_size, is_mended=read_from is not file)
        with DECODING.hold(size_bytes):
            try:
                return make(opened)
            finally:
                del decoded, opened  # while their memory is accounted for

    with file:
        try:
            return once(file)
        except (_RefusedError, MemoryError, PIL.Image.DecompressionBombError):
            raise
        except Exception as error:  # noqa: BLE001 (anything can be wrong beside the pixels, too)
            file.seek(0)
            data = file.read()
            return _made_of_bare(data, error, once)


def _made_of_given(given: PIL.Image.Image, make: Callable[[_Opened], _Made]) -> _Made:
    with _loading_given_image:  # what is not loaded yet is read from a file that others may be reading
        _check(given, given.size)
    size_bytes = 2 * peak_bytes(given, full_size=given.size, is_turned=True, encoded_bytes=0)
    with DECODING.hold(size_bytes):
        with _loading_given_image:
            samples = Samples.of(given)
            given.load()
        return make(_Opened(given.copy(), samples, given.size))


def _made_of_bare(data: bytes, error: Exception, once: Callable[[BinaryIO], _Made]) -> _Made:
    """What can be made of a file over which Pillow gave up, where its pixels are whole.

    Raises:
        Exception: What is wrong with the pixels.
    """
    bare = without_extras(data)
    try:
        if bare is not None:
            return once(io.BytesIO(bare))
        about_pixels = error
    except Exception as about_bare:  # noqa: BLE001 (as above)
        about_pixels = about_bare
    if (image := uncommon(data)) is not None:
        _check_size(*image.size)
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
    """Whether a JPEG has all its pixels: then they are the same, whatever follows where the file ends.

    The decoder makes up what is missing from what comes next, and says nothing.
    """
    try:
        first, second = (_recognized(io.BytesIO(data + end), "") for end in (_JPEG_END, _NOISE))
        _check(first, first.size)
        with DECODING.hold(3 * peak_bytes(first, full_size=first.size, is_turned=False, encoded_bytes=2 * len(data))):
            return PIL.ImageChops.difference(first, second).getbbox(alpha_only=False) is None
    except (OSError, SyntaxError, ValueError, _RefusedError):
        return False


def _size_bytes(file: BinaryIO) -> int:
    at = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(at)
    return size


def _opened_file(path: Path) -> BinaryIO:
    """A file that may be an image, at its start; nothing of others is read beyond the first bytes."""
    if is_address(path) and not path.exists():
        raise _RefusedError("an address, not a path: to fetch the image write Image.from_url(...)")
    file = open_regular(path)
    try:
        head = file.read(HEAD_BYTES)
        _check_kind(head, path.name)
        file.seek(0)
        kind = kind_of(head, path.name)
        if kind.kind != "image" and not names_an_image(path.name):  # a format that only Pillow knows, or none
            with _recognized(file, path.name):
                file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def _check_kind(head: bytes, name: str) -> None:
    """Refuse a file whose first bytes, or whose name, tell that it is no image, or one that is never decoded."""
    kind = kind_of(head, name)
    if not head:
        if kind.kind == "image" or (kind.name == "" and not os.path.splitext(name)[1]):  # noqa: PTH122
            raise _RefusedError("empty file")
        raise _OtherKindError("empty file", kind.kind)
    if kind.is_undecodable:
        raise _RefusedError(f"{kind.name}: {kind.advice}")
    if kind.kind == "image" or kind.name == "" or (kind.name == "text" and (not name or names_an_image(name))):
        return  # the decoder will tell
    if names_an_image(name):
        raise _RefusedError(f"{kind.name}, and no image as its name says")
    advice = "; to index the images in it, index it by itself or unpack it" if kind.kind == "archive" else ""
    raise _OtherKindError(f"{kind.name}, not an image{advice}", kind.kind)


def _recognized(file: BinaryIO, name: str) -> PIL.Image.Image:
    head = file.read(HEAD_BYTES)
    kind = kind_of(head, name)
    if kind.name == "HEIC":
        return _heif(file)
    if kind.name in ("ICO or CUR", "ICNS"):
        _check_icon(file)
    with _finding_plugins:
        PIL.Image.preinit()  # the common formats first, so that they are tried first
        PIL.Image.init()
    try:
        return _opened_by_pillow(file)
    except PIL.UnidentifiedImageError as error:
        if kind.name in _CODECS and not PIL.features.check(_CODECS[kind.name]):
            raise _RefusedError(
                f"{kind.name} needs a Pillow that was built with it; install one with: pip install --upgrade pillow"
            ) from ImportError(_CODECS[kind.name])
        if kind.kind == "image" and kind.is_sure:
            raise _DamagedError(
                f"{kind.name}: damaged, or of a variant that cannot be decoded; convert it to PNG or JPEG"
            ) from error
        if kind.kind == "image" or names_an_image(name):
            was = f"{kind.name or 'unknown data'}, and no image as its name says"
            raise _RefusedError(
                was if kind.kind != "image" else f"damaged at its start, or no {kind.name} image as its name says"
            ) from error
        raise _OtherKindError(f"{kind.name or 'of an unknown format'}, not an image", kind.kind) from error


def _opened_by_pillow(file: BinaryIO) -> PIL.Image.Image:
    """What `PIL.Image.open` does, but for its limit of pixels: that is of the whole process, and less than ours."""
    file.seek(0)
    head = file.read(16)
    for name in PIL.Image.ID:
        factory, accepts = PIL.Image.OPEN[name]
        accepted = accepts is None or accepts(head)
        if not accepted or isinstance(accepted, str):  # a text tells what this Pillow was built without
            continue
        file.seek(0)
        try:
            return factory(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue
    raise PIL.UnidentifiedImageError


def _heif(file: BinaryIO) -> PIL.Image.Image:
    try:
        # Not by registering its opener, which would change what every other user of Pillow in this process can open.
        heif_file_type: Callable[[BinaryIO], PIL.Image.Image] = importlib.import_module("pillow_heif").HeifImageFile
    except ImportError as error:
        raise _RefusedError(
            'HEIC needs another package; install it with: pip install "multimodal-search[heif]"'
        ) from error
    file.seek(0)
    return heif_file_type(file)


def _check_icon(file: BinaryIO) -> None:
    """Refuse an icon that holds an image which would be refused by itself: Pillow decodes it when it opens the icon."""
    file.seek(0)
    data = file.read(_MAX_INNER_BYTES)
    sizes = [struct.unpack(">II", found[1]) for found in re.finditer(rb"(?:IHDR|ihdr)(.{8})", data, re.DOTALL)]
    for width, height in sizes:
        _check_size(width, height)
    if data.startswith(b"\0\0"):
        for entry in range(6, min(6 + 16 * int.from_bytes(data[4:6], "little"), len(data) - 15), 16):
            at = int.from_bytes(data[entry + 12 : entry + 16], "little")
            header = data[at : at + 20]
            if len(header) == 20 and header.startswith((b"\x28\0\0\0", b"\x6c\0\0\0", b"\x7c\0\0\0")):
                width, height, compression = struct.unpack("<4xii4xI", header)  # and below it a mask of as many rows
                _check_size(width, abs(height) // 2, "bmp_rle" if compression in (1, 2) else None)


def _check(image: PIL.Image.Image, size: tuple[int, int]) -> None:
    # Pillow decodes EPS by running Ghostscript, and stubs (WMF, GRIB, ...) by whatever was registered for them.
    if image.format == "EPS" or isinstance(image, PIL.ImageFile.StubImageFile):
        raise _RefusedError(f"{image.format} is not supported; convert it to PNG")
    slow = [tile[0] for tile in getattr(image, "tile", ()) if tile[0] in PIL.Image.DECODERS]
    _check_size(*size, slow[0] if slow else None)
    if tile_pixels(image) > _limit():
        raise _RefusedError(f"a tile of {tile_pixels(image):,} pixels, more than max_pixels={_limit():,}")
    if image.format in ("JPEG", "MPO") and _comes_in_scans(image):
        assert isinstance(image, PIL.ImageFile.ImageFile)  # noqa: S101 (as every opened one is)
        scans = 1 if image.fp is None else 1 + jpeg_scans(image.fp)  # type: ignore[arg-type]  # IO[bytes]
        if scans * max(size[0] * size[1], 64 * 64) > _MAX_SCANNED_PIXELS:
            raise _RefusedError(
                f"a JPEG of {size[0]} x {size[1]} pixels in {scans:,} scans, which would take minutes; save it anew"
            )


def _comes_in_scans(image: Any) -> bool:
    """Whether a JPEG's decoder has to read to the end: it is progressive, or its first scan lacks components."""
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


def _check_size(width: int, height: int, python_decoder: str | None = None) -> None:
    pixels = width * height
    if width <= 0 or height <= 0:
        raise _RefusedError("has no pixels")
    if pixels > _limit():
        raise _RefusedError(f"{width} x {height} pixels, more than max_pixels={_limit():,}")
    if python_decoder is not None:
        limit = int(_MAX_PYTHON_US / _US_OF_DECODER.get(python_decoder, _US_OF_OTHER_DECODERS))
        if pixels > limit:
            raise _RefusedError(
                f"{width} x {height} pixels, more than {limit:,}, of a format that is slow to decode; convert it to PNG"
            )


def _limit() -> int:
    return _pixel_limit.get() or MAX_PIXELS


def _decoded(opened: _Opened) -> tuple[PIL.Image.Image, tuple[int, int]]:
    """Upright RGB pixels, and the size that they have, or would have had if they had not been decoded smaller."""
    image = opened.image
    is_smaller = image.size != opened.full_size
    image.load()
    for decoder in ("_decoder", "_heif_file"):  # of WebP, AVIF and HEIF: they hold as much again as the image
        vars(image).pop(decoder, None)
    size = opened.full_size if is_smaller else image.size  # some formats tell it only now
    orientation = _orientation(image)
    rgb = to_rgb(image, opened.samples)
    if orientation == 1:
        return rgb, size
    return rgb.transpose(_TURNS[orientation]), size[::-1] if orientation > 4 else size


def _orientation(image: PIL.Image.Image) -> int:
    """The EXIF orientation that an image still has: TIFF and HEIC files are upright once loaded.

    One that stands in XMP alone is not followed: neither browsers nor image viewers do.
    """
    try:
        orientation: Any = image.getexif().get(_ORIENTATION)
        is_turned = orientation in _TURNS
        if is_turned and image.info.keys() & {"xmp", "XML:com.adobe.xmp"}:  # Pillow asks that where Exif says nothing
            own = PIL.Image.Exif()
            own.load(image.info.get("exif") or b"")
            is_turned = _ORIENTATION in own or "Raw profile type exif" in image.info
    except Exception:  # noqa: BLE001 - anything can be wrong with an EXIF block, and none of it loses the image
        return 1
    return int(orientation) if is_turned else 1


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
    return _orientation(image) == 1


def _encoded(square: PIL.Image.Image) -> bytes:
    jpeg = io.BytesIO()
    square.save(jpeg, "JPEG", **_JPEG_SETTINGS)
    if square.getcolors(256) is None:
        return jpeg.getvalue()
    png = io.BytesIO()  # a graphic: without loss, and often in less
    square.save(png, "PNG")
    return min(png, jpeg, key=lambda file: file.tell()).getvalue()


@contextmanager
def _translated(image: Image) -> Iterator[None]:
    """Keep decoders silent, and turn whatever foreign data makes them raise into an error that names the image."""
    try:
        with silence:
            yield
    except UnreadableContentError:
        raise
    except _OtherKindError as error:
        raise NotAnImageError(f"{image.label}: {error}", kind=error.kind) from error.__cause__
    except (_RefusedError, _DamagedError) as error:
        raise UnreadableContentError(f"{image.label}: {error}") from error.__cause__
    except Exception as error:
        raise UnreadableContentError(f"{image.label}: {_reason(error)}") from error


def _name(image: Image) -> str:
    """What tells by its end what a file should be."""
    return "" if image.name is None and isinstance(image.source, (bytes, PIL.Image.Image)) else image.label


def _reason(error: Exception) -> str:
    text = textwrap.shorten(str(error), 80, placeholder=" ...")
    match error:
        case FileNotFoundError():
            return "no such file"
        case PIL.Image.DecompressionBombError():
            most = PIL.Image.MAX_IMAGE_PIXELS or 0
            return f"more pixels than Pillow's own limit for this format, PIL.Image.MAX_IMAGE_PIXELS = {most:,}"
        case MemoryError():
            return "needs more memory than there is"
        case OSError() if error.errno is not None and error.strerror:
            return error.strerror.lower()
        case _ if "truncated" in text.lower():
            return "truncated file"
        case _ if not text or "decoder object" in text:  # of WebP
            return "damaged or cut off"
        case _:
            return f"cannot be decoded ({text})"
