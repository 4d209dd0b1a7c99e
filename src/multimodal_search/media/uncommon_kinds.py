"""Convert BMP and TIFF variants that Pillow does not read to TIFF that it does.

Pillow has a list of combinations of depth, channels and byte order; the formats allow more.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.TiffImagePlugin

_Array = npt.NDArray[Any]

_STRIP_SAMPLES = 256 * 1024
_WHITES = (1.0, 255.0, 65535.0)  # of floats and signed integers, by the brightest


class Uncommon(Protocol):
    """An image whose samples can be read here.

    Attributes:
        size: Width and height of what is decoded, in pixels.
        peak_bytes: The most memory that `as_known_tiff` takes.
    """

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        ...

    @property
    def peak_bytes(self) -> int:
        """Memory that decoding takes."""
        ...

    def as_known_tiff(self) -> bytes:
        """The image as a TIFF file that Pillow knows.

        Raises:
            OSError: It is cut off.
        """


def uncommon(data: bytes) -> Uncommon | None:
    """The image in a BMP or TIFF file; None if the variant is not supported here either."""
    try:
        if data.startswith(b"BM"):
            return _Bmp.of(data)
        return _Tiff.of(data) if data.startswith((b"II", b"MM")) else None
    except (struct.error, IndexError, KeyError, ValueError):
        return None


def is_misread(image: Any) -> bool:
    """Whether Pillow decodes a TIFF file to wrong pixels without an error."""
    if image.format != "TIFF":
        return False
    tags: dict[int, Any] = image.tag_v2
    is_deep = max(tags.get(_BITS, (1,))) > 8
    colours = tags.get(_COLOURS, ()) if image.mode in ("P", "PA") else ()
    return bool((is_deep and tags.get(_PLANAR) == 2 and tags.get(_CHANNELS, 1) > 1) or (colours and max(colours) < 256))


def _scaled(values: _Array, white: float) -> _Array:
    """Samples as 8 bits."""
    scaled: _Array = np.rint(values.astype(np.float32) * np.float32(255 / white)).clip(0, 255)
    return scaled.astype(np.uint8)


def _written(pixels: _Array, orientation: int = 1) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "TIFF", tiffinfo={274: orientation})
    return file.getvalue()


# -- BMP ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bmp:
    data: bytes
    size: tuple[int, int]
    is_top_down: bool
    bits: int
    start: int
    masks: tuple[int, ...]
    palette: _Array

    @classmethod
    def of(cls, data: bytes) -> _Bmp | None:
        """By Microsoft's description of the headers, and OS/2's: 12, 16 or 64 bytes."""
        start, header = struct.unpack_from("<II", data, 10)
        compression = used = 0
        if header == 12:
            width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        elif header == 16:
            width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
        else:
            width, height, _, bits, compression, _, _, _, used = struct.unpack_from("<iiHHIIiiI", data, 18)
        masks = (0x7C00, 0x3E0, 0x1F, 0) if bits == 16 else (0xFF0000, 0xFF00, 0xFF, 0)
        if compression in (3, 6) and header != 64 and bits in (16, 32):
            masks = struct.unpack_from("<IIII", data, 54)
            if compression == 3 and header < 56:
                masks = (*masks[:3], 0)
        elif compression != 0 or bits not in (1, 2, 4, 8, 16, 24, 32):
            return None
        each = 3 if header == 12 else 4
        place = 14 + header
        count = min(used or 2**bits, 2**bits) if bits <= 8 else 0
        palette = np.frombuffer(data[place : min(place + each * count, start)], np.uint8)
        return cls(
            data=data,
            size=(width, abs(height)),
            is_top_down=height < 0,
            bits=bits,
            start=start,
            masks=masks,
            palette=palette[: len(palette) // each * each].reshape(-1, each)[:, 2::-1],
        )

    @property
    def peak_bytes(self) -> int:
        return 16 * self.size[0] * self.size[1] + 2 * len(self.data)

    def as_known_tiff(self) -> bytes:
        width, height = self.size
        stride = (width * self.bits + 31) // 32 * 4
        needed = stride * (height - 1) + (width * self.bits + 7) // 8
        if len(self.data) < self.start + needed:
            raise OSError("truncated file")
        data = self.data[self.start : self.start + stride * height].ljust(stride * height, b"\0")
        rows = np.frombuffer(data, np.uint8).reshape(height, stride)
        pixels = np.zeros((height, width, 4), np.uint8)
        for part in _strips(height, width):
            pixels[part] = self._pixels(rows[part])
        if not self.masks[3]:
            pixels[..., 3] = 255
        return _written(pixels if self.is_top_down else pixels[::-1])

    def _pixels(self, rows: _Array) -> _Array:
        width = self.size[0]
        if self.bits <= 8:
            palette = np.zeros((256, 4), np.uint8)
            palette[: len(self.palette), :3] = self.palette
            shifts = np.arange(8 - self.bits, -1, -self.bits, dtype=np.uint8)
            indexes = (rows[..., None] >> shifts & (2**self.bits - 1)).reshape(len(rows), -1)
            return np.asarray(palette[indexes[:, :width]])
        size = self.bits // 8
        whole = np.zeros((len(rows), width, 4), np.uint8)
        whole[..., :size] = rows[:, : width * size].reshape(len(rows), width, size)
        values = whole.view("<u4")[..., 0]
        channels = np.zeros((len(rows), width, 4), np.uint8)
        for number, mask in enumerate(self.masks):
            if mask:
                lowest = mask & -mask
                channels[..., number] = _scaled((values & np.uint32(mask)) // np.uint32(lowest), mask // lowest)
        return channels


# -- TIFF --------------------------------------------------------------------------------------------------------------

# TIFF 6.0, by tag; the two of rows and columns as bytes are what is given to libtiff in place of samples.
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_OFFSETS, _ORIENTATION, _CHANNELS, _ROWS, _COUNTS, _PLANAR, _PREDICTOR, _COLOURS = (
    273,
    274,
    277,
    278,
    279,
    284,
    317,
    320,
)
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS, _EXTRA, _FORMAT = 322, 323, 324, 325, 338, 339
_NEEDED = {*range(_WIDTH, _FORMAT + 1)} - {*range(280, 283)}
_FORMATS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_LOSSLESS = {1, 5, 8, 32773, 32946, 34925, 50000}  # none, LZW, deflate, PackBits, deflate, LZMA, Zstandard
_COLOUR_CHANNELS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4}  # white is 0, black is 0, RGB, palette, CMYK
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_MAX_CHANNELS = 16  # CMYK with alpha and spot colours; what satellites see in hundreds of bands is no photo


@dataclass(frozen=True, slots=True)
class _Tiff:
    data: bytes
    order: str
    tags: dict[int, tuple[int, ...]]

    @classmethod
    def of(cls, data: bytes) -> _Tiff | None:
        order = "<" if data.startswith(b"II") else ">"
        image = cls(data, order, _first_directory(data, order))
        bits, sample_format, photometric = image._first(_BITS, 1), image._first(_FORMAT, 1), image.tags[_PHOTOMETRIC][0]
        depths = {_UNSIGNED: {*range(1, 17), 32}, _SIGNED: {8, 16, 32}, _FLOAT: {16, 32, 64}}
        is_known = (
            bits in depths.get(sample_format, ())
            and len({*image.tags.get(_BITS, ())}) <= 1
            and len({*image.tags.get(_FORMAT, ())}) <= 1
            and image._first(_COMPRESSION, 1) in _LOSSLESS
            and _COLOUR_CHANNELS.get(photometric, math.inf) <= image._channels <= _MAX_CHANNELS
            and (sample_format == _UNSIGNED or photometric in (1, 2))
            and (image._first(_PREDICTOR, 1) == 1 or bits in (8, 16, 32, 64))
            and (photometric != 3 or len(image.tags[_COLOURS]) >= 3 * 2**bits)
            and image.size[0] > 0 < image.size[1]
        )
        return image if is_known else None

    @property
    def size(self) -> tuple[int, int]:
        width, height = self._first(_WIDTH, 0), self._first(_HEIGHT, 0)
        return max(width, self._first(_TILE_WIDTH, 0)), max(height, self._first(_TILE_HEIGHT, 0))

    @property
    def peak_bytes(self) -> int:
        each = self._channels * self._first(_BITS, 1) // 8 + 1
        return (2 * each + 12) * self.size[0] * self.size[1] + 2 * len(self.data)

    def as_known_tiff(self) -> bytes:
        width, height = self._first(_WIDTH, 0), self._first(_HEIGHT, 0)
        is_planar = self._first(_PLANAR, 1) == 2 and self._channels > 1
        wanted = [*range(min(self._channels, self._colours + (self._alpha is not None)))] if is_planar else [0]
        planes = [self._plane(number, self._channels if is_planar else 1) for number in wanted]
        channels = 1 if is_planar else self._channels
        is_grey = self._colours == 1 and self._first(_PHOTOMETRIC, 1) != 3 and self._alpha is None
        is_deep = is_grey and (self._first(_FORMAT, 1) != _UNSIGNED or self._first(_BITS, 1) == 32)  # no known white
        white = self._white(planes, channels)
        shape = (height, width) if is_grey else (height, width, 3)
        result = np.empty(shape, np.float32 if is_deep else np.uint16 if is_grey else np.uint8)
        for part in _strips(height, width * channels):
            samples = np.concatenate([self._samples(plane[part], channels) for plane in planes], axis=2)
            with np.errstate(all="ignore"):  # floats hold anything
                if is_grey:
                    grey = samples[..., 0]
                    grey = white - grey if self._first(_PHOTOMETRIC, 1) == 0 else grey
                    result[part] = grey if is_deep else np.rint(grey * (65535 / white))
                else:
                    result[part] = self._rgb(samples, white)
        return _written(result, self._first(_ORIENTATION, 1))

    def _first(self, tag: int, default: int) -> int:
        return (self.tags.get(tag) or (default,))[0]

    @property
    def _channels(self) -> int:
        return self._first(_CHANNELS, max(1, len(self.tags.get(_BITS, ()))))

    @property
    def _colours(self) -> int:
        return _COLOUR_CHANNELS[self._first(_PHOTOMETRIC, 1)]

    @property
    def _alpha(self) -> int | None:
        """1 where colours are multiplied by alpha, 2 where they are not, None without alpha."""
        kind = self._first(_EXTRA, 0)
        return kind if kind in (1, 2) and self._channels > self._colours else None

    def _plane(self, number: int, count: int) -> _Array:
        """The bytes of the rows of a plane, as libtiff unpacks them when told that each is a pixel."""
        bits = self._first(_BITS, 1) * (self._channels if count == 1 else 1)
        tags = {tag: self.tags[tag] for tag in (_HEIGHT, _COMPRESSION, _FILL_ORDER, _ROWS) if tag in self.tags}
        width = self._first(_WIDTH, 0)
        offsets, counts = _OFFSETS, _COUNTS
        if _TILE_WIDTH in self.tags:
            tile = self._first(_TILE_WIDTH, 0)
            width = -(-width // tile) * tile
            tags |= {_TILE_WIDTH: (tile * bits // 8,), _TILE_HEIGHT: self.tags[_TILE_HEIGHT]}
            offsets, counts = _TILE_OFFSETS, _TILE_COUNTS
        tags |= {_WIDTH: ((width * bits + 7) // 8,), _BITS: (8,), _PHOTOMETRIC: (1,), _CHANNELS: (1,)}
        for tag in (offsets, counts):
            each = len(self.tags[tag]) // count
            tags[tag] = self.tags[tag][number * each : (number + 1) * each]
        body, directory = self.data.ljust(-(-len(self.data) // 2) * 2, b"\0"), b""
        after = len(body) + 2 + 12 * len(tags) + 4
        lists = b""
        for tag, values in sorted(tags.items()):
            packed = struct.pack(f"<{len(values)}I", *values)
            directory += struct.pack("<HHI", tag, 4, len(values))
            directory += packed if len(values) == 1 else struct.pack("<I", after + len(lists))
            lists += packed if len(values) > 1 else b""
        data = b"II*\0" + struct.pack("<I", len(body)) + body[8:]
        data += struct.pack("<H", len(tags)) + directory + bytes(4) + lists
        with PIL.TiffImagePlugin.TiffImageFile(io.BytesIO(data)) as image:
            image.im = PIL.Image.new("L", image.size).im  # Pillow's limit is one of pixels, and these are bytes
            return np.asarray(image)

    def _samples(self, rows: _Array, channels: int) -> _Array:
        """Rows of bytes as samples: rows x columns x channels."""
        width, bits, count = self._first(_WIDTH, 0), self._first(_BITS, 1), len(rows)
        kind = {_UNSIGNED: "u", _SIGNED: "i", _FLOAT: "f"}[self._first(_FORMAT, 1)]
        if bits not in (8, 16, 32, 64):
            each = np.unpackbits(rows, axis=1)[:, : width * channels * bits].reshape(count, width, channels, bits)
            return np.asarray(each @ (1 << np.arange(bits - 1, -1, -1)))
        size = bits // 8
        rows = np.ascontiguousarray(rows)
        tile = min(self._first(_TILE_WIDTH, width), rows.shape[1] // (channels * size))
        match self._first(_PREDICTOR, 1):
            case 2:  # differences of samples
                values = rows.view(f"{self.order}u{size}").reshape(count, -1, tile, channels)
                rows = np.cumsum(values, axis=2, dtype=f"u{size}").astype(values.dtype).view(np.uint8)
            case 3:  # differences of bytes, the highest of all samples first (Adobe Photoshop TIFF Technical Note 3)
                differences = rows.reshape(count, -1, tile * size, channels)
                planes = np.cumsum(differences, axis=2, dtype=np.uint8).reshape(count, -1, size, tile * channels)
                rows = np.ascontiguousarray(planes.swapaxes(2, 3))
                return rows.view(f">f{size}").reshape(count, -1, channels)[:, :width]
        return rows.reshape(count, -1).view(f"{self.order}{kind}{size}").reshape(count, -1, channels)[:, :width]

    def _white(self, planes: list[_Array], channels: int) -> float:
        if self._first(_FORMAT, 1) == _UNSIGNED:
            return float(2 ** self._first(_BITS, 1) - 1)
        highest = 0.0
        for plane in planes:
            for part in _strips(len(plane), plane.shape[1]):
                values = self._samples(plane[part], channels)
                highest = max(highest, float(np.max(values, where=np.isfinite(values), initial=0)))
        return next((white for white in _WHITES if highest <= white), highest)

    def _rgb(self, samples: _Array, white: float) -> _Array:
        """8-bit colours on white."""
        height, width = samples.shape[:2]
        if self._first(_PHOTOMETRIC, 1) == 3:
            colours = np.array(self.tags[_COLOURS]).reshape(3, -1).T
            colours = colours // 256 if colours.max() > 255 else colours  # some programs write 8 bits
            rgb = colours.astype(np.uint8)[samples[..., 0]]
        else:
            rgb = _scaled(np.nan_to_num(samples[..., : self._colours]), white)
        if self._colours == 4:
            cmyk = PIL.Image.frombytes("CMYK", (width, height), rgb.tobytes())
            rgb = np.asarray(cmyk.convert("RGB"))
        if self._first(_PHOTOMETRIC, 1) == 0:
            rgb = 255 - rgb
        rgb = np.broadcast_to(rgb, (height, width, 3))
        if self._alpha is None:
            return rgb
        alpha = _scaled(samples[..., self._colours, None], white).astype(np.uint16)
        seen = rgb.astype(np.uint16) if self._alpha == 1 else rgb * alpha // 255
        return np.asarray(np.minimum(seen + 255 - alpha, 255), np.uint8)


def _strips(height: int, row_samples: int) -> Iterator[slice]:
    rows = max(1, _STRIP_SAMPLES // max(1, row_samples))
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))


def _first_directory(data: bytes, order: str) -> dict[int, tuple[int, ...]]:
    """The whole numbers of the first directory, by tag, of TIFF or BigTIFF."""
    is_big = data[2:4] in (b"+\0", b"\0+")
    (at,) = struct.unpack_from(f"{order}{'Q' if is_big else 'I'}", data, 8 if is_big else 4)
    (count,) = struct.unpack_from(f"{order}{'Q' if is_big else 'H'}", data, at)
    entry, first, inline = (20, at + 8, 8) if is_big else (12, at + 2, 4)
    tags = {}
    for place in range(first, min(first + entry * count, len(data) - entry + 1), entry):
        tag, kind, number = struct.unpack_from(f"{order}HH{'Q' if is_big else 'I'}", data, place)
        size = struct.calcsize(_FORMATS.get(kind, "x"))
        if kind not in _FORMATS or (number * size > len(data) and tag not in _NEEDED):
            continue
        value = place + entry - inline
        if number * size > inline:
            (value,) = struct.unpack_from(f"{order}{'Q' if is_big else 'I'}", data, value)
        if value + number * size <= len(data) or tag in _NEEDED:
            tags[tag] = struct.unpack_from(f"{order}{number}{_FORMATS[kind]}", data, value)
    return tags
