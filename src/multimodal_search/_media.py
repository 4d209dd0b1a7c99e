"""Turns a picture from anywhere into upright RGB pixels, or into the bytes that a model needs to see.

Embedded colour profiles play no part: the models were trained on pictures whose profiles were ignored.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import io
import logging
import stat
import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import PIL.Image
import PIL.ImageFile

from multimodal_search._remote import fetch
from multimodal_search.errors import UnreadableContentError
from multimodal_search.types import Image, RemotePicture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

MAX_PIXELS = 178_956_970
"""Most pixels that are decoded, 0.7 GB in memory: Pillow's own limit. Cameras make 151 million."""

_MAX_PIXELS_IN_PYTHON = 4096 * 4096  # of formats whose decoder is a loop in Python, at 2 us a pixel: half a minute
# Measured on photos of 384 x 384: PSNR 36 to 44 dB at 0.25 to 0.45 bytes a pixel, and coloured edges stay sharp; 4:2:0
# at quality 90 takes 10% less and loses 0.8 dB.
_JPEG_SETTINGS = {"quality": 88, "subsampling": "4:4:4"}
_BITS_PER_SAMPLE, _PHOTOMETRIC_INTERPRETATION, _ORIENTATION = 258, 262, 274  # TIFF 6.0 tags
_TURNS = {  # EXIF 2.32, section 4.6.4: what turns a picture of each orientation upright
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
# Pillow finds its plugins, and loads a picture that was opened, upon first use, and not for two threads at once.
_finding_plugins, _loading_given_picture = threading.Lock(), threading.Lock()


def read_bytes(image: Image) -> bytes | None:
    """The encoded bytes of a picture: its file's, as given, or as fetched; None for a PIL picture.

    Raises:
        UnreadableContentError: The file is missing, a folder, empty or not permitted, or the fetch failed.
    """
    match image.source:
        case PIL.Image.Image():
            return None
        case RemotePicture():
            return fetch(image.source, label=image.label)
        case bytes():
            data = image.source
        case path:
            with _translated(image):
                _check_file(path)
                data = path.read_bytes()
    if not data:
        raise UnreadableContentError(f"{image.label}: empty file")
    return data


def load_rgb(image: Image, *, at_least: int | None = None) -> PIL.Image.Image:
    """The pixels of a picture as a person sees them: upright, RGB, on white where transparent, the first frame.

    A PIL picture that was given is never changed. Its EXIF orientation counts as a file's does, so turn one by
    `PIL.ImageOps.exif_transpose`, which removes the orientation.

    Args:
        image: The picture.
        at_least: A JPEG may come smaller than it is, for speed, while its shorter side keeps this many pixels.

    Returns:
        A picture of mode RGB, for the caller to keep or to change.

    Raises:
        UnreadableContentError: It cannot be read or decoded, or has more than `MAX_PIXELS` pixels.
    """
    with _translated(image), _opened(image) as (picture, samples):
        rgb, _ = _decoded(picture, samples, at_least)
        rgb.info.clear()  # what the file said of itself would be acted on a second time
        return rgb


def square_for_model(image: Image, *, size: int) -> bytes:
    """What a model sees that crops pictures to their central square and resizes it to `size` x `size`.

    The crop is that of torchvision's `CenterCrop` to the shorter side. Nothing is enlarged: a smaller square keeps its
    pixels. Bytes that are such a square already are returned untouched, whatever metadata they hold.

    Args:
        image: The picture.
        size: Most pixels of a side.

    Returns:
        A JPEG file; or a PNG file, where there are few colours and it is no larger.

    Raises:
        UnreadableContentError: The picture cannot be read or decoded, or has more than `MAX_PIXELS` pixels.
    """
    data = read_bytes(image)
    with _translated(image), _opened(image if data is None else Image(data)) as (picture, samples):
        if data is not None and _is_fit(picture, size):
            return data
        # From twice the size on, the averaging of pixels within the JPEG decoder leaves no difference to be seen.
        rgb, (width, height) = _decoded(picture, samples, at_least=2 * size)
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


def pixels_key(picture: PIL.Image.Image) -> bytes:
    """All that makes up a PIL picture, as bytes to hash: mode, size, palette, transparency, orientation, pixels.

    Raises:
        UnreadableContentError: It was opened from a file, and cannot be decoded.
    """
    image = Image(picture)
    with _translated(image), _opened(image) as (copy, _):
        palette = copy.getpalette("RGBA") if copy.mode in ("P", "PA") else None
        parts = (copy.mode, copy.size, palette, copy.info.get("transparency"), _orientation(copy))
        return repr(parts).encode() + copy.tobytes()


class _RefusedError(Exception):
    """Why a picture was not decoded; the message is for the user."""


@contextmanager
def _opened(image: Image) -> Iterator[tuple[PIL.Image.Image, _Samples]]:
    """A picture to be decoded, and changed: of a PIL picture that was given, a copy."""
    match image.source:
        case PIL.Image.Image() as given:
            _check(given)
            with _loading_given_picture:
                samples = _Samples.of(given)
                given.load()
            yield given.copy(), samples
            return
        case Path() as path:
            _check_file(path)
            file: BinaryIO = path.open("rb")  # read no further than to where it is clear what it is
        case _:
            file = io.BytesIO(read_bytes(image) or b"")
    with file, _recognized(file) as picture:
        _check(picture)
        yield picture, _Samples.of(picture)


def _check_file(path: Path) -> None:
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise _RefusedError("is a folder")
    if not stat.S_ISREG(status.st_mode):  # a pipe or a device may never end
        raise _RefusedError("not a regular file")
    if status.st_size == 0:
        raise _RefusedError("empty file")


def _recognized(file: BinaryIO) -> PIL.Image.Image:
    with _finding_plugins:
        PIL.Image.preinit()  # the common formats first, so that they are tried first
        PIL.Image.init()
    try:
        return PIL.Image.open(file)
    except PIL.UnidentifiedImageError:
        file.seek(0)
        start = file.read(12)
        if start[4:8] != b"ftyp" or start[8:] not in _HEIF_BRANDS:
            raise
    try:
        # Not by registering its opener, which would change what every other user of Pillow in this process can open.
        heif_file_type: Callable[[BinaryIO], PIL.Image.Image] = importlib.import_module("pillow_heif").HeifImageFile
    except ImportError as error:
        raise _RefusedError(
            'HEIC needs another package; install it with: pip install "multimodal-search[heif]"'
        ) from error
    file.seek(0)
    return heif_file_type(file)


def _check(picture: PIL.Image.Image) -> None:
    # Pillow decodes EPS by running Ghostscript, and stubs (WMF, GRIB, ...) by whatever was registered for them.
    if picture.format == "EPS" or isinstance(picture, PIL.ImageFile.StubImageFile):
        raise _RefusedError(f"{picture.format} is not supported; convert it to PNG")
    is_slow = any(tile[0] in PIL.Image.DECODERS for tile in getattr(picture, "tile", ()))
    limit = _MAX_PIXELS_IN_PYTHON if is_slow else MAX_PIXELS
    if picture.width * picture.height > limit:
        raise _RefusedError(f"{picture.width} x {picture.height} pixels, more than {limit:,}")
    if not picture.width or not picture.height:
        raise _RefusedError("has no pixels")


def _decoded(
    picture: PIL.Image.Image, samples: _Samples, at_least: int | None
) -> tuple[PIL.Image.Image, tuple[int, int]]:
    """Upright RGB pixels, and the size that they have, or would have had if they had not been decoded smaller."""
    size = picture.size
    is_smaller = (
        at_least is not None
        and picture.format in ("JPEG", "MPO")
        and picture.draft(None, (at_least, at_least)) is not None
    )
    picture.load()
    if not is_smaller:
        size = picture.size  # some formats tell it only now
    orientation = _orientation(picture)
    rgb = _flattened(picture, samples)
    if orientation == 1:
        return rgb, size
    return rgb.transpose(_TURNS[orientation]), size[::-1] if orientation > 4 else size


def _orientation(picture: PIL.Image.Image) -> int:
    """The EXIF orientation that a loaded picture still has: TIFF and HEIC files are upright once loaded."""
    try:
        orientation: Any = picture.getexif().get(_ORIENTATION)
        is_turned = orientation in _TURNS
    except Exception:  # noqa: BLE001 - anything can be wrong with an EXIF block, and none of it loses the picture
        return 1
    return int(orientation) if is_turned else 1


def _flattened(picture: PIL.Image.Image, samples: _Samples) -> PIL.Image.Image:
    """The pixels as RGB, on white; the picture itself if it is that already."""
    if picture.mode[0] in "IF":
        return _grey(picture, samples).convert("RGB")
    if picture.mode in ("La", "RGBa"):  # Pillow converts these to LA and RGBA alone
        picture = picture.convert(picture.mode.upper())
    if picture.has_transparency_data:
        key = picture.info.get("transparency")
        if isinstance(key, tuple):
            picture.info["transparency"] = tuple(int(part * samples.key_factor) for part in key)
        elif isinstance(key, int):
            picture.info["transparency"] = int(key * samples.key_factor)
        try:
            transparent = picture.convert("RGBA")
        except (TypeError, ValueError):
            del picture.info["transparency"]  # left over from another mode, or nonsense: it hides nothing
        else:
            flat = PIL.Image.new("RGB", picture.size, (255, 255, 255))
            flat.paste(transparent, mask=transparent)
            return flat
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _grey(picture: PIL.Image.Image, samples: _Samples) -> PIL.Image.Image:
    """Samples of more than 8 bits as 8 bits, scaled where Pillow would cut them off at 255."""
    values = np.asarray(picture)
    black, white = 0.0, samples.white
    if white is None:
        finite = values[np.isfinite(values)]
        lowest, highest = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        usual = [level for level in (1.0, 255.0, 65535.0) if highest <= level and (level > 1 or picture.mode == "F")]
        black, white = (0.0, usual[0]) if usual and lowest >= 0 else (lowest, highest)
    with np.errstate(all="ignore"):  # floats hold anything, and what is no number is black
        scaled = (values.astype(np.float32) - np.float32(black)) * np.float32(255 / ((white - black) or 1))
        grey = np.rint(np.nan_to_num(scaled).clip(0, 255)).astype(np.uint8)
    if samples.is_negative:
        grey = 255 - grey
    if isinstance(key := picture.info.get("transparency"), int):
        grey[values == key] = 255
    return PIL.Image.fromarray(grey)


@dataclass(frozen=True, slots=True)
class _Samples:
    """What a file says about its samples and its Pillow mode does not.

    Attributes:
        white: The value of white, of samples of more than 8 bits; None if the file does not say.
        is_negative: Whether 0 is white in samples of more than 8 bits, which Pillow leaves so.
        key_factor: From the depth in which a transparent colour is written to the depth of the pixels.
    """

    white: float | None
    is_negative: bool
    key_factor: float

    @classmethod
    def of(cls, picture: PIL.Image.Image) -> _Samples:
        """To be asked before `load`, which forgets the half of it."""
        tags: dict[int, Any] = getattr(picture, "tag_v2", {})
        bits = 16
        if picture.format == "TIFF":
            bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
        is_16_bit = picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in ("PNG", "PPM"))
        tiles: list[tuple[Any, ...]] = getattr(picture, "tile", [])
        raw_mode = tiles[0][3] if tiles and picture.format == "PNG" else ""
        return cls(
            white=2.0**bits - 1 if is_16_bit and picture.format is not None else None,
            is_negative=tags.get(_PHOTOMETRIC_INTERPRETATION) == 0 and picture.mode[0] in "IF",
            key_factor={"L;2": 85, "L;4": 17, "RGB;16B": 1 / 256}.get(raw_mode, 1),
        )


def _is_fit(picture: PIL.Image.Image, size: int) -> bool:
    if not (
        picture.format in ("JPEG", "PNG")
        and picture.mode in ("L", "RGB")
        and picture.width == picture.height <= size
        and not picture.has_transparency_data
        and not getattr(picture, "is_animated", False)
    ):
        return False
    picture.load()
    return _orientation(picture) == 1


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
    """Keep decoders silent, and turn whatever foreign data makes them raise into an error that names the picture."""
    try:
        with _silence:
            yield
    except UnreadableContentError:
        raise
    except _RefusedError as error:
        raise UnreadableContentError(f"{image.label}: {error}") from error.__cause__
    except Exception as error:
        raise UnreadableContentError(f"{image.label}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())[:80] or type(error).__name__
    match error:
        case FileNotFoundError():
            return "no such file"
        case PIL.UnidentifiedImageError():
            return "not a picture, or of an unknown format"
        case PIL.Image.DecompressionBombError():
            return "too many pixels"
        case MemoryError():
            return "needs more memory than there is"
        case OSError() if error.errno is not None and error.strerror:
            return error.strerror.lower()
        case _ if "truncated" in text.lower():
            return "truncated file"
        case _:
            return f"cannot be decoded ({text})"


class _Silence:
    """While a thread is inside, what decoders have to say about its pictures does not reach the user.

    Pillow speaks through `warnings` and `logging`, libtiff by writing to file descriptor 2. `warnings.catch_warnings`
    would swap the filters of all threads, and put them back in the wrong order when two threads overlap. So there is
    one filter here, which applies to the threads inside and to no other, and goes when the last of them has left.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads_inside = 0
        self._filter: Any = ("ignore", _ThisThread(), Warning, None, 0)
        self._log_handler = logging.NullHandler()  # or else `logging` prints errors that no handler took
        self._set_libtiff_error_handler = _libtiff_error_handler_setter()
        self._libtiff_error_handler: int | None = None

    def __enter__(self) -> None:
        filters: Any = warnings.filters
        with self._lock:
            self._threads_inside += 1
            if self._threads_inside == 1:
                logging.getLogger("PIL").addHandler(self._log_handler)
                self._libtiff_error_handler = self._set_libtiff_error_handler(None)
            if filters[:1] != [self._filter]:
                filters.insert(0, self._filter)
        self._filter[1].depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._filter[1].depth -= 1
        filters: Any = warnings.filters
        with self._lock:
            self._threads_inside -= 1
            if self._threads_inside == 0:
                logging.getLogger("PIL").removeHandler(self._log_handler)
                self._set_libtiff_error_handler(self._libtiff_error_handler)
                while self._filter in filters:
                    filters.remove(self._filter)


class _ThisThread(threading.local):
    """Stands where a warning filter has its pattern: matches any message, in the threads that are inside."""

    depth = 0

    def match(self, message: str, /) -> bool:
        return self.depth > 0


def _libtiff_error_handler_setter() -> Callable[[int | None], int | None]:
    """Sets what libtiff calls with its errors, None for nothing, and returns what it called before."""
    try:
        setter = ctypes.CDLL(importlib.import_module("PIL._imaging").__file__).TIFFSetErrorHandler
    except (AttributeError, OSError):  # Pillow was built without libtiff, or with it sealed inside, as on Windows
        return lambda handler: handler
    setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
    return setter


_silence = _Silence()


@functools.cache
def decoding_rules() -> str:
    """What decides whether a file can be decoded, beside the file: a verdict under other rules is worth another try."""
    return f"multimodal-search {version('multimodal-search')}, Pillow {PIL.__version__}"
