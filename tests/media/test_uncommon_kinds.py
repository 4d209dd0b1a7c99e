"""BMP and TIFF files of kinds that Pillow refuses, or misreads, and that viewers show."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest

from multimodal_search.contents import Image
from multimodal_search.errors import UnreadableContentError
from multimodal_search.media.images import load_rgb, pixels_at_most

Array = npt.NDArray[Any]

WIDTH, HEIGHT = 60, 44  # no multiple of a tile's side


def photo() -> Array:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    channels = (x * 255 / WIDTH, y * 255 / HEIGHT, 127 + 120 * np.sin(12 * x / WIDTH + 20 * y / HEIGHT))
    return np.stack(channels, axis=-1).astype(np.uint8)


RGB = photo()
GREY = RGB[..., 2]


def shown(data: bytes) -> Array:
    return np.asarray(load_rgb(Image(data))).astype(int)


def assert_looks_like(data: bytes, expected: Array, within: float) -> None:
    image = shown(data)
    if expected.ndim == 2:
        expected = np.stack([expected] * 3, axis=-1)
    assert image.shape == expected.shape
    assert np.abs(image - expected).max() <= within


# -- TIFF --------------------------------------------------------------------------------------------------------------


def tiff(
    samples: Array, photometric: int, parts: Sequence[bytes] | None = None, *, big: bool = False, **tags: Any
) -> bytes:
    """A TIFF of one strip, or of the parts that are given, in the byte order of the samples."""
    order = ">" if samples.dtype.byteorder == ">" else "<"
    channels = samples.shape[2] if samples.ndim == 3 else 1
    kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    values: dict[int, Sequence[int]] = {
        256: [WIDTH],
        257: [HEIGHT],
        258: [8 * samples.dtype.itemsize] * channels,
        259: [1],
        262: [photometric],
        277: [channels],
        339: [kind] * channels,
        **{int(tag.removeprefix("t")): value for tag, value in tags.items()},
    }
    parts = [samples.tobytes()] if parts is None else parts
    start = 16 if big else 8
    values[324 if 322 in values else 273] = [start + sum(map(len, parts[:n])) for n in range(len(parts))]
    values[325 if 322 in values else 279] = [*map(len, parts)]
    body = b"".join(parts)
    body += bytes(len(body) % 2)
    number, count = ("Q", "Q") if big else ("I", "H")
    size = 8 if big else 4
    lists, entries = b"", b""
    after = start + len(body) + struct.calcsize(f"={count}{number}") + len(values) * (4 + 2 * size)
    for tag, each in sorted(values.items()):
        packed = struct.pack(f"{order}{len(each)}I", *each)
        if len(packed) > size:
            packed, lists = struct.pack(f"{order}{number}", after + len(lists)), lists + packed
        entries += struct.pack(f"{order}HH{number}", tag, 4, len(each)) + packed.ljust(size, b"\0")
    head = b"II" if order == "<" else b"MM"
    head += (
        struct.pack(f"{order}HHHQ", 43, 8, 0, 16 + len(body)) if big else struct.pack(f"{order}HI", 42, 8 + len(body))
    )
    return head + body + struct.pack(f"{order}{count}", len(values)) + entries + bytes(size) + lists


def packed(samples: Array, bits: int) -> bytes:
    rows = (samples.reshape(len(samples), -1)[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(rows.reshape(len(samples), -1).astype(np.uint8), axis=1).tobytes()


def tiled(samples: Array, side: int) -> list[Array]:
    padded = np.pad(samples, [(0, -HEIGHT % side), (0, -WIDTH % side), (0, 0)])
    return [
        padded[y : y + side, x : x + side] for y in range(0, len(padded), side) for x in range(0, padded.shape[1], side)
    ]


def differences(samples: Array) -> bytes:
    kind = f"{samples.dtype.str[0]}u{samples.dtype.itemsize}"
    values = samples.view(kind).astype(np.uint64)
    return bytes(np.diff(values, axis=1, prepend=np.uint64(0)).astype(kind).tobytes())


def byte_differences(samples: Array) -> bytes:
    rows, _, channels = samples.shape
    highest_first = samples.astype(samples.dtype.newbyteorder(">")).view(np.uint8).reshape(rows, -1, samples.itemsize)
    planes = highest_first.swapaxes(1, 2).reshape(rows, -1, channels)
    return bytes(np.diff(planes, axis=1, prepend=np.uint8(0)).tobytes())


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["u4", "f2", "f4", "f8"])
def test_deep_colours_are_shown(kind: str, order: str) -> None:
    deep = RGB / 255 if kind[0] == "f" else RGB.astype(np.uint64) * (2**32 - 1) // 255
    assert_looks_like(tiff(deep.astype(order + kind), 2), RGB, 1)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["u4", "f2", "f8"])
def test_deep_grey_is_shown(kind: str, order: str) -> None:
    deep = GREY / 255 if kind[0] == "f" else GREY.astype(np.uint64) * (2**32 - 1) // 255
    assert_looks_like(tiff(deep.astype(order + kind), 1), GREY, 10)  # integers of 32 bits are stretched


@pytest.mark.parametrize("bits", [2, 4, 5, 6, 10, 12, 14])
def test_samples_of_any_number_of_bits_are_shown(bits: int) -> None:
    for samples, photometric in ((RGB, 2), (GREY, 1)):
        few = np.rint(samples / 255 * (2**bits - 1)).astype(int)
        number = samples.size // (WIDTH * HEIGHT)
        data = tiff(samples, photometric, [packed(few, bits)], t258=[bits] * number)
        assert_looks_like(data, samples, 255 / (2**bits - 1) / 2 + 1)


def test_grey_with_zero_as_white_is_no_negative() -> None:
    assert_looks_like(tiff((65535 - GREY.astype(">u2") * 257).astype(">u2"), 0), GREY, 1)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [3, 4])
def test_planes_of_16_bits_are_shown(channels: int, order: str) -> None:
    """Pillow reads their bytes as 8-bit samples, without a word."""
    deep = np.dstack([RGB, np.full((HEIGHT, WIDTH, channels - 3), 255)]).astype(f"{order}u2") * 257
    deep = deep.astype(f"{order}u2")
    planes = [deep[..., number].tobytes() for number in range(channels)]
    extra: dict[str, Any] = {"t338": [2]} if channels == 4 else {}
    assert_looks_like(tiff(deep, 2, planes, t284=[2], **extra), RGB, 1)


@pytest.mark.parametrize("is_tiled", [False, True])
@pytest.mark.parametrize(
    ("kind", "predictor"), [("f2", 3), ("f4", 3), ("f8", 3), ("f4", 2), ("u4", 2), (">u4", 2), ("u4", 1)]
)
def test_compressed_deep_colours_are_shown(kind: str, predictor: int, is_tiled: bool) -> None:
    deep = RGB / 255 if kind[0] == "f" else RGB.astype(np.uint64) * (2**32 - 1) // 255
    deep = deep.astype(kind)
    write: dict[int, Callable[[Array], bytes]] = {1: lambda part: part.tobytes(), 2: differences, 3: byte_differences}
    parts = [
        zlib.compress(write[predictor](np.ascontiguousarray(part)))
        for part in (tiled(deep, 16) if is_tiled else [deep])
    ]
    size: dict[str, Any] = {"t322": [16], "t323": [16]} if is_tiled else {"t278": [HEIGHT]}
    assert_looks_like(tiff(deep, 2, parts, t259=[8], t317=[predictor], **size), RGB, 1)


def test_alpha_beside_uncommon_samples_is_shown_on_white() -> None:
    alpha = np.tile(np.linspace(0, 65535, WIDTH).astype("u2"), (HEIGHT, 1))
    grey = GREY.astype("u2") * 257
    expected = np.rint((GREY * (alpha / 65535.0)) + 255 * (1 - alpha / 65535.0))
    assert_looks_like(tiff(np.dstack([grey, alpha]), 1, t338=[2]), expected, 2)
    multiplied = (grey * (alpha / 65535.0)).astype("u2")
    assert_looks_like(tiff(np.dstack([multiplied, alpha]), 1, t338=[1]), expected, 2)


def test_cmyk_with_a_channel_more_is_shown() -> None:
    cmyk = np.asarray(PIL.Image.fromarray(RGB).convert("CMYK"))
    more = np.dstack([cmyk, np.zeros((HEIGHT, WIDTH), np.uint8)])
    assert_looks_like(tiff(more, 5, t338=[0]), RGB, 2)


@pytest.mark.parametrize("factor", [1, 257])
@pytest.mark.parametrize("bits", [4, 8, 16])
def test_palettes_of_any_depth_are_shown(bits: int, factor: int) -> None:
    """Some programs write colours of 8 bits where the format has 16."""
    palette = np.stack([np.linspace(0, 255, 2**bits)] * 3).astype(int) * factor
    palette[1] //= 2
    indexes = np.rint(GREY / 255.0 * (2**bits - 1)).astype(int)
    data = tiff(
        GREY,
        3,
        [packed(indexes, bits) if bits < 16 else indexes.astype("<u2").tobytes()],
        t258=[bits],
        t320=palette.ravel().tolist(),
    )
    step = 255 / (2**bits - 1)
    assert_looks_like(data, np.dstack([GREY, GREY / 2, GREY]), step / 2 + 1)


def test_bigtiff_of_either_order_is_shown() -> None:
    assert_looks_like(tiff(RGB.astype("<u2") * 257, 2, big=True), RGB, 1)
    assert_looks_like(tiff((RGB.astype(">u2") * 257).astype(">u2"), 2, big=True), RGB, 1)


def test_an_orientation_is_followed() -> None:
    assert_looks_like(tiff(RGB.astype("f8") / 255, 2, t274=[6]), np.rot90(RGB, -1), 1)


def test_uncommon_kinds_that_are_cut_off_too_large_or_nonsense_are_refused() -> None:
    good = tiff(RGB.astype("f8") / 255, 2, [zlib.compress((RGB / 255.0).tobytes())], t259=[8])
    for end in range(0, len(good) - 1, 97):
        with pytest.raises(UnreadableContentError):
            load_rgb(Image(good[:end]))
    with (
        pixels_at_most(1000),
        pytest.raises(UnreadableContentError, match="60 x 44 pixels, more than max_pixels=1,000"),
    ):
        load_rgb(Image(good))
    with pytest.raises(UnreadableContentError, match="TIFF: damaged, or of a variant that cannot be decoded"):
        load_rgb(Image(tiff(RGB, 2, t258=[5, 6, 5])))


def test_any_damage_to_an_uncommon_kind_is_refused_or_survived() -> None:
    random = np.random.default_rng(1)
    goods = [
        tiff(RGB.astype("f8") / 255, 2),
        bmp(2, bytes(16 * HEIGHT), palette=bytes(16)),
        bmp(32, bytes(4 * RGB.size // 3), (0x3FF, 0xFFC00, 0x3FF00000)),
    ]
    for good in goods:
        heads = [*range(60), *range(len(good) - 260, len(good))]
        for _ in range(150):
            bad = bytearray(good)
            for at in random.choice(heads, 2):
                bad[at] = random.integers(256)
            try:
                with pixels_at_most(10**6):
                    load_rgb(Image(bytes(bad)))
            except UnreadableContentError:
                pass


# -- BMP ---------------------------------------------------------------------------------------------------------------


def bmp(
    bits: int,
    pixels: bytes,
    masks: Sequence[int] = (),
    *,
    palette: bytes = b"",
    header: int = 40,
    compression: int | None = None,
    height: int = HEIGHT,
    used: int = 0,
) -> bytes:
    if header == 16:
        head = struct.pack("<IiiHH", 16, WIDTH, height, 1, bits)
    else:
        compression = (3 if masks else 0) if compression is None else compression
        head = struct.pack("<IiiHHIIiiII", header, WIDTH, height, 1, bits, compression, 0, 0, 0, used, 0)
        head += struct.pack(f"<{len(masks)}I", *masks)
        head = head.ljust(header, b"\0")
    start = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + head + palette + pixels


def bit_fields(masks: Sequence[int], bits: int, alpha: int = 255) -> bytes:
    values = np.zeros((HEIGHT, WIDTH), np.uint64)
    for channel, mask in zip([*np.moveaxis(RGB, 2, 0), np.full((HEIGHT, WIDTH), alpha)], masks, strict=False):
        if mask:
            lowest = mask & -mask
            values |= np.rint(channel / 255 * (mask // lowest)).astype(np.uint64) * np.uint64(lowest)
    return values[::-1].astype(f"<u{bits // 8}").tobytes()


@pytest.mark.parametrize("header", [40, 52, 56, 108, 124])
@pytest.mark.parametrize(
    ("masks", "bits", "within"),
    [
        ((0xF00, 0xF0, 0xF), 16, 9),
        ((0x1F, 0x7E0, 0xF800), 16, 5),
        ((0xE0, 0x1C, 0x3), 16, 43),
        ((0x3FF00000, 0xFFC00, 0x3FF), 32, 1),
        ((0xFF, 0xFF00, 0xFF0000), 32, 0),
        ((0xFF0000, 0xFF00, 0xFF), 32, 0),
    ],
)
def test_bit_fields_of_any_layout_are_shown(masks: tuple[int, ...], bits: int, within: int, header: int) -> None:
    assert_looks_like(
        bmp(bits, bit_fields(masks, bits), (*masks, 0) if header > 52 else masks, header=header), RGB, within
    )


def test_alpha_in_bit_fields_is_shown_on_white() -> None:
    masks = (0xF00, 0xF0, 0xF, 0xF000)
    for compression, header in ((6, 40), (3, 56)):
        for alpha, expected in ((255, RGB), (0, np.full_like(RGB, 255))):
            data = bmp(16, bit_fields(masks, 16, alpha), masks, compression=compression, header=header)
            assert_looks_like(data, expected, 9)


def test_palettes_of_uncommon_size_are_shown() -> None:
    palette = bytes(level for grey in (0, 85, 170, 255) for level in (grey, grey, grey, 0))
    few = np.rint(GREY / 85).astype(int)
    rows = packed(few[::-1], 2)
    stride = (WIDTH * 2 + 31) // 32 * 4
    rows = b"".join(rows[at : at + WIDTH // 4].ljust(stride, b"\0") for at in range(0, len(rows), WIDTH // 4))
    assert_looks_like(bmp(2, rows, palette=palette), GREY, 43)
    assert_looks_like(bmp(2, rows, palette=palette, header=16), GREY, 43)
    ramp = bytes(level for grey in range(256) for level in (grey, grey, grey, 0))
    assert_looks_like(bmp(8, GREY[::-1].tobytes(), palette=ramp, used=300), GREY, 0)


def test_an_uncommon_bmp_that_is_cut_off_is_refused() -> None:
    masks = (0x3FF00000, 0xFFC00, 0x3FF)
    with pytest.raises(UnreadableContentError, match="truncated file"):
        load_rgb(Image(bmp(32, bit_fields(masks, 32)[:-50], masks)))


# -- CUR ---------------------------------------------------------------------------------------------------------------


def test_a_cursor_that_holds_png_is_shown() -> None:
    file = io.BytesIO()
    PIL.Image.fromarray(RGB).save(file, "PNG")
    inner = file.getvalue()
    entry = struct.pack("<BBBBHHII", WIDTH, HEIGHT, 0, 0, 5, 7, len(inner), 22)
    assert_looks_like(struct.pack("<HHH", 0, 2, 1) + entry + inner, RGB, 0)
