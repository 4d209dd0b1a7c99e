"""Convert decoded pixels of any mode to RGB on white, in strips; estimate the memory of decoding."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageChops

_STRIP_PIXELS = 1024 * 1024
_BITS_PER_SAMPLE, _PHOTOMETRIC_INTERPRETATION, _SAMPLE_FORMAT = 258, 262, 339  # TIFF 6.0 tags
_TILE_WIDTH, _TILE_LENGTH, _SAMPLES_PER_PIXEL = 322, 323, 277
_UNSIGNED, _SIGNED = 1, 2  # SampleFormat

_BYTES_OF_MODE = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}  # all others have 4
# Measured as the peak of resident memory, with Pillow 13, on 3000 x 3000 pixels, less the image itself: decoders that
# hold more than some rows. WebP holds two canvases and the result (14.1), OpenJPEG 32 bits a sample (15.4, of three
# samples), libheif and libavif planes (5.2, 5.5; twice that where samples have more than 8 bits).
_BYTES_OF_DECODER = {"WEBP": 14, "JPEG2000": 21, "AVIF": 12, "HEIF": 12, "ICO": 12, "ICNS": 24, "CUR": 8}
_BYTES_OF_OTHER_DECODERS = 4


@dataclass(frozen=True, slots=True)
class Samples:
    """Properties of a file's samples that its Pillow mode does not tell.

    Attributes:
        white: The value of white, of samples of more than 8 bits; None if the file does not say.
        usual_whites: What white may be, if the file does not say, by the brightest sample.
        is_negative: Whether 0 is white, and Pillow leaves it so.
        is_unsigned: Whether 32-bit samples, which Pillow takes for signed, are not.
        key_factor: From the depth in which a transparent colour is written to the depth of the pixels.
        frame: Where the first image of an animation is on its canvas, which is transparent elsewhere; None if it fills
            the canvas.
    """

    white: float | None
    usual_whites: tuple[float, ...]
    is_negative: bool
    is_unsigned: bool
    key_factor: float
    frame: tuple[int, int, int, int] | None

    @classmethod
    def of(cls, image: PIL.Image.Image) -> Samples:
        """Read them before `load`, which drops half of them."""
        tags: dict[int, Any] = getattr(image, "tag_v2", {})
        bits = 16
        if image.format == "TIFF":
            bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
        sample_format = tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0]
        is_16_bit = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
        tiles: list[tuple[Any, ...]] = getattr(image, "tile", [])
        raw_mode = tiles[0][3] if tiles and image.format == "PNG" else ""
        usual = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
        return cls(
            white=2.0**bits - 1 if is_16_bit and image.format is not None else None,
            usual_whites=(32767.0,) if bits == 16 and sample_format == _SIGNED else usual,
            # XBM: a bit that is set is black (X11 protocol, bitmap files).
            is_negative=(tags.get(_PHOTOMETRIC_INTERPRETATION) == 0 and image.mode[0] in "IF") or image.format == "XBM",
            is_unsigned=image.format == "TIFF" and image.mode == "I" and (bits, sample_format) == (32, _UNSIGNED),
            key_factor={"L;2": 85, "L;4": 17, "RGB;16B": 1 / 256}.get(raw_mode, 1),
            frame=_frame(image, tiles),
        )


def _frame(image: PIL.Image.Image, tiles: list[tuple[Any, ...]]) -> tuple[int, int, int, int] | None:
    box = None
    if image.format == "GIF" and tiles:
        box = tiles[0][1]
    elif image.format == "WEBP" and getattr(image, "is_animated", False):
        box = _first_webp_frame(image)
    return None if box in (None, (0, 0, *image.size)) else box


def _first_webp_frame(image: Any) -> tuple[int, int, int, int] | None:
    """The frame's box (RFC 9649, 2.7.1.1): offsets in units of 2 pixels, and size minus 1, in 3 bytes each."""
    image.fp.seek(0)
    head = image.fp.read(1024 * 1024)
    at = head.find(b"ANMF") + 8
    if at < 8 or len(head) < at + 12:
        return None
    x, y, width, height = (struct.unpack("<I", head[at + n : at + n + 3] + b"\0")[0] for n in (0, 3, 6, 9))
    return 2 * x, 2 * y, 2 * x + width + 1, 2 * y + height + 1


def peak_bytes(image: PIL.Image.Image, *, full_size: tuple[int, int], is_turned: bool, encoded_bytes: int) -> int:
    """Upper bound of the memory that decoding an image to RGB takes.

    Args:
        image: The image, open and not loaded; a JPEG at the size that it is decoded at.
        full_size: Width and height in the file.
        is_turned: Whether it will be turned upright.
        encoded_bytes: Size of the file, which some decoders hold in memory.
    """
    each = _BYTES_OF_MODE.get(image.mode, 4) + 4 * is_turned
    if image.mode != "RGB" or image.has_transparency_data:
        each += 4
    decoder = 0
    if image.format in ("JPEG", "MPO"):
        # All coefficients of a JPEG in several scans, 16 bits each, at any decoded size.
        layers = getattr(image, "layer", [])
        if image.info.get("progressive") and layers:
            most = max(layer[1] for layer in layers) * max(layer[2] for layer in layers)
            decoder = full_size[0] * full_size[1] * 2 * sum(layer[1] * layer[2] for layer in layers) // (most or 1)
    elif image.format not in ("PNG", "GIF", "BMP", None):
        pixels = max(full_size[0] * full_size[1], tile_pixels(image))
        decoder = pixels * _BYTES_OF_DECODER.get(image.format or "", _BYTES_OF_OTHER_DECODERS)
    return image.width * image.height * each + decoder + encoded_bytes


def tile_pixels(image: PIL.Image.Image) -> int:
    """Pixels of one tile of a TIFF, which libtiff decodes as a whole; it may be larger than the image."""
    tags: dict[int, Any] = getattr(image, "tag_v2", {})
    width, length = tags.get(_TILE_WIDTH, 0), tags.get(_TILE_LENGTH, 0)
    return width * length if isinstance(width, int) and isinstance(length, int) else 0


def to_rgb(image: PIL.Image.Image, samples: Samples) -> PIL.Image.Image:
    """Convert loaded pixels to RGB on white; an RGB image is returned as it is. May change the image's `info`."""
    if image.mode == "RGB" and not image.has_transparency_data:
        rgb = image
    else:
        _mend_key(image, samples)
        scale = _scale(image, samples) if image.mode[0] in "IF" else (0.0, 255.0)
        if image.width * image.height <= _STRIP_PIXELS:
            rgb = _strip(image, samples, scale)
        else:
            rgb = PIL.Image.new("RGB", image.size)
            for top, strip in _strips(image):
                rgb.paste(_strip(strip, samples, scale), (0, top))
    if samples.frame is not None:
        canvas = PIL.Image.new("RGB", rgb.size, (255, 255, 255))
        canvas.paste(rgb.crop(samples.frame), samples.frame[:2])
        return canvas
    return rgb


def _strips(image: PIL.Image.Image) -> Iterator[tuple[int, PIL.Image.Image]]:
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _mend_key(image: PIL.Image.Image, samples: Samples) -> None:
    """Scale the transparent colour to the depth of the pixels, or drop it if it is invalid."""
    key = image.info.get("transparency")
    if image.mode[0] in "IF" or not image.has_transparency_data:
        return
    if isinstance(key, tuple):
        image.info["transparency"] = tuple(int(part * samples.key_factor) for part in key)
    elif isinstance(key, int):
        image.info["transparency"] = int(key * samples.key_factor)
    if image.mode in ("La", "RGBa"):
        return
    try:
        image.crop((0, 0, 1, 1)).convert("RGBA")
    except (TypeError, ValueError):
        del image.info["transparency"]  # left over from another mode, or invalid


def _strip(image: PIL.Image.Image, samples: Samples, scale: tuple[float, float]) -> PIL.Image.Image:
    if image.mode[0] in "IF":
        return _grey(image, samples, *scale).convert("RGB")
    if image.mode in ("La", "RGBa"):  # Pillow converts these to LA and RGBA only
        image = image.convert(image.mode.upper())
    if image.has_transparency_data:
        transparent = image.convert("RGBA")
        flat = PIL.Image.new("RGB", image.size, (255, 255, 255))
        flat.paste(transparent, mask=transparent)
        return flat
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    return PIL.ImageChops.invert(rgb) if samples.is_negative else rgb


def _values(image: PIL.Image.Image, samples: Samples) -> npt.NDArray[Any]:
    values = np.asarray(image)
    return values.view(np.uint32) if samples.is_unsigned else values


def _scale(image: PIL.Image.Image, samples: Samples) -> tuple[float, float]:
    """Values of black and white for samples of more than 8 bits."""
    if samples.white is not None:
        return 0.0, samples.white
    lowest, highest = np.inf, -np.inf
    for _, strip in _strips(image):
        values = _values(strip, samples)
        if image.mode == "F":
            values = values[np.isfinite(values)]
        if values.size:
            lowest, highest = min(lowest, float(values.min())), max(highest, float(values.max()))
    if lowest > highest:  # all NaN
        lowest = highest = 0.0
    usual = [level for level in samples.usual_whites if highest <= level]
    return (0.0, usual[0]) if usual and lowest >= 0 else (lowest, highest)


def _grey(image: PIL.Image.Image, samples: Samples, black: float, white: float) -> PIL.Image.Image:
    """Scale samples of more than 8 bits to 8 bits; Pillow would clip them at 255."""
    values = _values(image, samples)
    with np.errstate(all="ignore"):  # floats may be infinite; NaN becomes black
        scaled = (values.astype(np.float32) - np.float32(black)) * np.float32(255 / ((white - black) or 1))
        grey = np.rint(np.nan_to_num(scaled).clip(0, 255)).astype(np.uint8)
    if samples.is_negative:
        grey = 255 - grey
    if isinstance(key := image.info.get("transparency"), int):
        grey[values == key] = 255
    return PIL.Image.fromarray(grey)
