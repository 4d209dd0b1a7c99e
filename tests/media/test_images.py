"""What `media.images` promises of images: read right, or refused with a reason, and never a surprise in between."""

from __future__ import annotations

import csv
import io
import json
import os
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL
import PIL.features
import PIL.GribStubImagePlugin
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFile
import pytest

from multimodal_search import media as _media
from multimodal_search.contents import Image
from multimodal_search.errors import UnreadableContentError
from multimodal_search.media.images import center_crop, load_rgb, pixel_bytes, pixels_at_most, read_bytes
from multimodal_search.media.silence import silence

Pixels = npt.NDArray[np.int16]


def encoded(image: PIL.Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(width: int, height: int, *, depth: int, colour_type: int, rows: bytes, extra: dict[bytes, bytes]) -> bytes:
    """A PNG file made by hand, for what Pillow does not write; `rows` without their filter bytes."""
    stride = len(rows) // height
    filtered = b"".join(b"\0" + rows[y * stride : (y + 1) * stride] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    chunks = {b"IHDR": header, **extra, b"IDAT": zlib.compress(filtered), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks.items()
    )


def pixels(image: Image | PIL.Image.Image | bytes, **options: int) -> Pixels:
    return np.asarray(load_rgb(image if isinstance(image, Image) else Image(image), **options)).astype(np.int16)


def photo(width: int, height: int) -> PIL.Image.Image:
    """Something smooth with many colours and no symmetry."""
    y, x = np.mgrid[0:height, 0:width]
    channels = (x * 255 / width, y * 255 / height, 127 + 120 * np.sin(12 * x / width + 20 * y / height))
    return PIL.Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def numbered(width: int, height: int) -> PIL.Image.Image:
    """Column x has red x, row y has green y."""
    y, x = np.mgrid[0:height, 0:width]
    return PIL.Image.fromarray(np.stack((x, y, 0 * x), axis=-1).astype(np.uint8))


# --- The files that programs trip over ------------------------------------------------------------------------------

_DECODE_ALL = """
import json, sys, time
from pathlib import Path
import PIL.Image
from multimodal_search.media.images import load_rgb
from multimodal_search.errors import UnreadableContentError
from multimodal_search.contents import Image

results = {}
for name in json.load(sys.stdin):
    started = time.perf_counter()
    try:
        image = load_rgb(Image(Path(name)))
        result = "ok" if image.mode == "RGB" and min(image.size) > 0 else f"{image.mode} {image.size}"
    except UnreadableContentError as error:
        result = str(error)
    except BaseException as error:
        result = f"LEAKED {error!r}"
    results[name] = result, time.perf_counter() - started
json.dump({"results": results, "heif_is_registered": "HEIF" in PIL.Image.OPEN}, sys.stdout)
"""

_UNLIKE_THE_LABELS = {
    "pillow_tests/png_decompression_dos.png": "its text is a bomb, and its pixels are whole",
    "pillow_tests/truncated_jpeg.jpg": "it lacks half of its end mark, and no pixel",
    # Pillow raises at the end of the first `load` and not in a second one, so the label says "ok".
    "pillow_tests/broken_data_stream.png": "its compressed stream breaks off: half of the image is missing",
    # Pillow does not know what they are made of; see test_uncommon_kinds.
    **dict.fromkeys(
        (
            "image_rs_tests/tests/bad/tiff/TODO hpredict_cmyk.tiff",
            "image_rs_tests/tests/images/bmp/images/V3_A4_R4_G4_B4_Top_Down.bmp",
            "image_rs_tests/tests/images/bmp/images/V3_X4_R4_G4_B4_Top_Down.bmp",
            "image_rs_tests/tests/images/bmp/images/lenient/pal8oversizepal.bmp",
            "image_rs_tests/tests/images/bmp/images/pal2.bmp",
            "image_rs_tests/tests/images/bmp/images/rgb16-231.bmp",
            "image_rs_tests/tests/images/bmp/images/rgba16-1924.bmp",
            "image_rs_tests/tests/images/tiff/testsuite/rgb32f_bw.tiff",
            "image_rs_tests/tests/reference/hdr/images/old-rle.hdr.tiff",
            "image_rs_tests/tests/reference/hdr/images/scale.hdr.tiff",
            "pillow_tests/bmp/b/badpalettesize.bmp",
            "pillow_tests/bmp/g/rgb32bf.bmp",
        ),
        "of an uncommon kind, as browsers and ImageMagick show it",
    ),
}


@pytest.fixture(scope="module")
def labels(shared_data: Path) -> dict[str, dict[str, str]]:
    with (shared_data / "corner" / "labels.csv").open(encoding="utf-8", newline="") as file:
        return {row["filename"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def decoding(shared_data: Path, labels: dict[str, dict[str, str]]) -> tuple[dict[str, tuple[str, float]], str, bool]:
    """Every corner file decoded in another process: result and seconds of each; its stderr; whether HEIF leaked."""
    root = shared_data / "corner" / "files"
    process = subprocess.run(
        [sys.executable, "-W", "always", "-c", _DECODE_ALL],
        input=json.dumps([str(root / name) for name in labels]),
        capture_output=True,
        text=True,
        check=True,
        timeout=250,
    )
    answer = json.loads(process.stdout)
    results = {Path(name).relative_to(root).as_posix(): tuple(found) for name, found in answer["results"].items()}
    return results, process.stderr, answer["heif_is_registered"]


def test_corner_files_load_or_are_refused_by_name(
    shared_data: Path, decoding: tuple[dict[str, tuple[str, float]], str, bool]
) -> None:
    """One bad file must cost itself alone, and whoever reads the report must find it."""
    results, _, _ = decoding
    assert len(results) == 823
    root = shared_data / "corner" / "files"
    wrong = [
        (name, result)
        for name, (result, _) in results.items()
        if result != "ok" and not (result.startswith(f"{root / name}: ") and len(result) - len(str(root / name)) < 120)
    ]
    assert wrong == []


def test_corner_files_put_nothing_on_stderr(decoding: tuple[dict[str, tuple[str, float]], str, bool]) -> None:
    """Neither Python warnings nor what C libraries write by themselves may cut through a progress bar."""
    _, stderr, _ = decoding
    assert stderr == ""


def test_corner_files_take_no_more_than_seconds(decoding: tuple[dict[str, tuple[str, float]], str, bool]) -> None:
    """A file made to hang a decoder must not hang a run over a million."""
    results, _, _ = decoding
    assert {name: seconds for name, (_, seconds) in results.items() if seconds > 5} == {}


def test_reading_heic_registers_nothing_with_pillow(
    decoding: tuple[dict[str, tuple[str, float]], str, bool], labels: dict[str, dict[str, str]]
) -> None:
    """A library that makes `PIL.Image.open` open other files changes programs that merely import it."""
    pytest.importorskip("pillow_heif", reason="needs the extra heif")
    results, _, heif_is_registered = decoding
    assert {results[name][0] for name, row in labels.items() if row["format"] == "HEIF"} == {"ok"}
    assert not heif_is_registered


@pytest.mark.skipif(int(PIL.__version__.split(".")[0]) != 13, reason="the labels were made with Pillow 13")
def test_corner_files_agree_with_the_labels(
    decoding: tuple[dict[str, tuple[str, float]], str, bool], labels: dict[str, dict[str, str]]
) -> None:
    """What Pillow can read, we read: refusing too much would be as bad as crashing."""
    pytest.importorskip("pillow_heif", reason="needs the extra heif")
    results, _, _ = decoding
    disagreeing = {
        name for name, row in labels.items() if (results[name][0] == "ok") != (row["pillow13_result"] == "ok")
    }
    assert disagreeing == set(_UNLIKE_THE_LABELS)


@pytest.mark.parametrize(
    "pattern",
    [
        "exif_samples/jpg/orientation/landscape_*.jpg",
        "exif_samples/jpg/orientation/portrait_*.jpg",
        "pillow_tests/hopper_orientation_*.webp",
        "pillow_tests/g4_orientation_*.tif",
        "avif_samples/kimono*.avif",
    ],
)
def test_photos_of_every_orientation_load_the_same(shared_data: Path, pattern: str) -> None:
    """A photo taken with the camera held sideways must not be embedded lying on its side."""
    if pattern.endswith("avif") and not PIL.features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    files = sorted((shared_data / "corner" / "files").glob(pattern))
    assert len(files) >= 4
    first, *others = [pixels(Image(file)) for file in files]
    for other in others:
        assert other.shape == first.shape
        assert np.abs(other - first).mean() < 5  # each was compressed by itself; another turn differs by 40 and more


# --- Orientation ----------------------------------------------------------------------------------------------------

_STORED = {  # EXIF 2.32, table of section 4.6.4: which side of the scene the stored row 0 and column 0 are
    1: lambda upright: upright,  # top, left
    2: lambda upright: upright[:, ::-1],  # top, right
    3: lambda upright: upright[::-1, ::-1],  # bottom, right
    4: lambda upright: upright[::-1],  # bottom, left
    5: lambda upright: upright.swapaxes(0, 1),  # left, top
    6: lambda upright: upright.swapaxes(0, 1)[::-1],  # right, top
    7: lambda upright: upright.swapaxes(0, 1)[::-1, ::-1],  # right, bottom
    8: lambda upright: upright.swapaxes(0, 1)[:, ::-1],  # left, bottom
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF", "PIL"])
def test_every_orientation_of_every_format_is_turned_upright_once(kind: str, orientation: int) -> None:
    """Some decoders turn images themselves; turning those again would be as wrong as not turning the others."""
    upright = np.asarray(photo(384, 256))
    stored = PIL.Image.fromarray(np.ascontiguousarray(_STORED[orientation](upright)))
    exif = PIL.Image.Exif()
    exif[274] = orientation
    image: Image
    if kind == "HEIF":
        heif = pytest.importorskip("pillow_heif", reason="needs the extra heif")
        file = io.BytesIO()
        heif.from_pillow(stored).save(file, quality=95, exif=exif.tobytes())
        image = Image(file.getvalue())
    elif kind == "PIL":
        image = Image(PIL.Image.open(io.BytesIO(encoded(stored, "PNG", exif=exif))))
    elif kind == "AVIF" and not PIL.features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    else:
        options = {} if kind in ("PNG", "TIFF") else {"quality": 95}
        image = Image(encoded(stored, kind, exif=exif, **options))
    loaded = pixels(image)
    assert loaded.shape == upright.shape
    assert np.abs(loaded - upright).mean() < 3


def test_a_loaded_image_is_not_turned_again() -> None:
    """Loaded images are passed on as contents, and each stage may load what it was given."""
    exif = PIL.Image.Exif()
    exif[274] = 6
    once = load_rgb(Image(encoded(photo(40, 20), "JPEG", exif=exif)))
    twice = load_rgb(Image(once))
    assert once.size == twice.size == (20, 40)
    assert once.tobytes() == twice.tobytes()


@pytest.mark.parametrize(
    "block",
    [b"Exif\0\0", b"Exif\0\0II*\0", b"Exif\0\0" + b"\xff" * 40, b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01" * 30],
    ids=["empty", "short", "noise", "ends early"],
)
def test_a_bad_exif_block_does_not_lose_the_image(block: bytes) -> None:
    """Editors damage EXIF blocks; the photo in the file is fine."""
    assert load_rgb(Image(encoded(photo(40, 20), "JPEG", exif=block))).size == (40, 20)


# --- Modes, transparency, depth -------------------------------------------------------------------------------------


def filled(mode: str, value: object, **info: object) -> PIL.Image.Image:
    image = PIL.Image.new(mode, (2, 2), value)  # type: ignore[arg-type]
    image.info.update(info)
    return image


def palette_image(mode: str = "P", index: object = 1, **info: object) -> PIL.Image.Image:
    image = PIL.Image.new(mode, (2, 2))
    image.putpalette([0, 0, 0, 200, 100, 0])
    image.paste(index, (0, 0, 2, 2))  # type: ignore[arg-type]
    image.info.update(info)
    return image


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (filled("1", 1), (255, 255, 255)),
        (filled("L", 77), (77, 77, 77)),
        (filled("RGB", (1, 2, 3)), (1, 2, 3)),
        (filled("RGBX", (1, 2, 3, 0)), (1, 2, 3)),
        (filled("RGBA", (255, 0, 0, 255)), (255, 0, 0)),
        (filled("RGBA", (255, 0, 0, 0)), (255, 255, 255)),
        (filled("RGBA", (200, 0, 100, 51)), (244, 204, 224)),  # 0.2 of the colour and 0.8 of white
        (filled("LA", (100, 51)), (224, 224, 224)),
        (filled("RGBA", (200, 0, 100, 51)).convert("RGBa"), (244, 204, 224)),  # premultiplied
        (filled("LA", (100, 51)).convert("La"), (224, 224, 224)),
        (filled("CMYK", (0, 0, 0, 0)), (255, 255, 255)),
        (filled("CMYK", (0, 255, 255, 0)), (255, 0, 0)),
        (filled("YCbCr", (76, 85, 255)), (254, 0, 0)),
        (filled("HSV", (85, 255, 255)), (0, 255, 0)),
        (filled("LAB", (255, 128, 128)), (255, 255, 255)),
        (palette_image(), (200, 100, 0)),
        (palette_image(transparency=1), (255, 255, 255)),
        (palette_image(transparency=0), (200, 100, 0)),
        (palette_image(transparency=b"\xff\x33"), (244, 224, 204)),
        (palette_image("PA", (1, 51)), (244, 224, 204)),
        (filled("RGB", (9, 8, 7), transparency=(9, 8, 7)), (255, 255, 255)),
        (filled("RGB", (9, 8, 6), transparency=(9, 8, 7)), (9, 8, 6)),
        (filled("RGB", (9, 8, 6), transparency=b"nonsense"), (9, 8, 6)),
        (filled("L", 9, transparency=9), (255, 255, 255)),
        (filled("L", 8, transparency=9), (8, 8, 8)),
        (filled("I;16", 65535), (255, 255, 255)),
        (filled("I;16", 32896), (128, 128, 128)),
        (filled("I;16B", 32896), (128, 128, 128)),
        (filled("I;16", 300, transparency=300), (255, 255, 255)),
        (filled("I;16", 200), (200, 200, 200)),  # 8-bit values, as `convert("I;16")` leaves them
        (filled("I", 32896), (128, 128, 128)),
        (filled("I", 128), (128, 128, 128)),
        (filled("I", 70000), (0, 0, 0)),  # of no usual range and flat, so nothing is brighter than anything
        (filled("F", 0.5), (128, 128, 128)),
        (filled("F", 128.0), (128, 128, 128)),
        (filled("F", 32896.0), (128, 128, 128)),
        (filled("F", float("nan")), (0, 0, 0)),
    ],
    ids=lambda value: f"{value.mode} {value.info}" if isinstance(value, PIL.Image.Image) else None,
)
def test_every_mode_gives_known_colours(image: PIL.Image.Image, expected: tuple[int, int, int]) -> None:
    """A model sees colours: a wrong conversion is a wrong vector that nobody notices."""
    loaded = pixels(image)
    assert loaded.shape == (2, 2, 3)
    assert np.abs(loaded - expected).max() <= 1


def test_floats_and_integers_of_unusual_range_are_stretched_from_dark_to_bright() -> None:
    """Heights, temperatures and the like: all white, as Pillow makes them, shows nothing."""
    heights = PIL.Image.fromarray(np.array([[-100.0, 0.0, 100.0, np.nan]], dtype=np.float32))
    assert pixels(heights)[0, :, 0].tolist() == [0, 128, 255, 0]
    signed = PIL.Image.fromarray(np.array([[-(2**31), 0, 2**31 - 1]], dtype=np.int32))
    assert pixels(signed)[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_files_are_scaled_by_their_depth_not_cut_off(kind: str) -> None:
    """Pillow turns all above 255 of 65535 white: scans and microscope images would all look alike."""
    values = np.array([[0, 255, 8224, 32896, 65535]], dtype=np.uint16)
    image = PIL.Image.fromarray(values)
    file = encoded(image.convert("I") if kind == "PPM" else image, kind)
    assert pixels(file)[0, :, 0].tolist() == [0, 1, 32, 128, 255]
    opened = PIL.Image.open(io.BytesIO(file))
    assert pixels(opened)[0, :, 0].tolist() == [0, 1, 32, 128, 255]


def test_a_dark_16_bit_file_stays_dark() -> None:
    """Its depth is known, so it is not guessed from its brightest pixel."""
    file = encoded(PIL.Image.fromarray(np.array([[0, 200]], dtype=np.uint16)), "PNG")
    assert pixels(file)[0, :, 0].tolist() == [0, 1]


def test_a_12_bit_file_is_scaled_by_12_bits(shared_data: Path) -> None:
    """Its white is 4095; by 16 bits it would be nearly black. Its values are 0 to 30 of 4095."""
    file = shared_data / "corner" / "files" / "pillow_tests" / "12bit.cropped.tif"
    with PIL.Image.open(file) as image:
        expected = np.rint(np.asarray(image).astype(float) * 255 / 4095)
    assert expected.max() == 2
    assert np.array_equal(pixels(Image(file))[:, :, 0], expected)


def test_a_16_bit_tiff_with_zero_as_white_is_not_a_negative() -> None:
    """Pillow leaves these inverted (8-bit ones it turns)."""
    file = encoded(PIL.Image.fromarray(np.array([[0, 65535, 8224]], dtype=np.uint16)), "TIFF")
    black_is_zero, white_is_zero = (struct.pack("<HHIHH", 262, 3, 1, value, 0) for value in (1, 0))
    assert file.count(black_is_zero) == 1
    assert pixels(file.replace(black_is_zero, white_is_zero))[0, :, 0].tolist() == [255, 0, 223]


@pytest.mark.parametrize(
    ("depth", "colour_type", "rows", "key", "expected"),
    [
        (1, 0, b"\x40", b"\0\1", [0, 255, 0, 0]),
        (2, 0, b"\x1b", b"\0\1", [0, 255, 170, 255]),  # samples 0, 1, 2, 3; 1 is transparent
        (4, 0, b"\x07\x0f", b"\0\7", [0, 255, 0, 255]),
        (8, 0, b"\x07\x0f\0\1", b"\0\7", [255, 15, 0, 1]),
        (16, 0, b"\x12\x34\xff\xff\0\0\x80\x80", b"\x12\x34", [255, 255, 0, 128]),
        (16, 2, b"\x12\x34" * 3 + b"\x40\0" * 3 + b"\0\0" * 3 + b"\x80\x80" * 3, b"\x12\x34" * 3, [255, 64, 0, 128]),
    ],
    ids=["1-bit", "2-bit", "4-bit", "8-bit", "16-bit", "16-bit RGB"],
)
def test_a_colour_key_of_any_depth_is_transparent(
    depth: int, colour_type: int, rows: bytes, key: bytes, expected: list[int]
) -> None:
    """A PNG names its transparent colour in its own depth, Pillow keeps the pixels in another."""
    file = png(4, 1, depth=depth, colour_type=colour_type, rows=rows, extra={b"tRNS": key})
    assert pixels(file)[0, :, 0].tolist() == expected


def test_an_animation_shows_its_first_frame() -> None:
    frames = [PIL.Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "PNG", "WEBP"):
        options: dict[str, object] = {"lossless": True} if kind == "WEBP" else {}
        file = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert pixels(file)[4, 4].tolist() == [255, 0, 0], kind


# --- Images that were given ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "image",
    [
        palette_image(transparency=b"\xff\x33"),
        palette_image("PA", (1, 51)),
        filled("RGB", (9, 8, 7), transparency=(9, 8, 7)),
        filled("RGB", (9, 8, 7)),
        filled("I;16", 300, transparency=300),
        filled("La", (9, 8)),
    ],
    ids=lambda image: image.mode,
)
def test_a_given_image_is_never_changed(image: PIL.Image.Image) -> None:
    """It belongs to the caller, who may be about to show it."""

    def state() -> tuple[object, ...]:
        palette = image.getpalette("RGBA") if image.mode in ("P", "PA") else None
        return image.mode, image.size, dict(image.info), palette, image.tobytes()

    before = state()
    loaded = load_rgb(Image(image))
    loaded.paste((1, 1, 1), (0, 0, 2, 2))
    center_crop(Image(image), size=1)
    pixel_bytes(image)
    assert state() == before


def test_one_lazily_opened_image_may_be_loaded_by_many_threads() -> None:
    """Pillow reads on first use; two threads that do so at once would share one file position."""
    exif = PIL.Image.Exif()
    exif[274] = 6
    data = encoded(photo(300, 200), "PNG", exif=exif)
    expected = load_rgb(Image(data)).tobytes()
    for _ in range(10):
        decoded = PIL.Image.open(io.BytesIO(data))
        with ThreadPoolExecutor(8) as threads:
            loaded = list(threads.map(lambda image: load_rgb(image).tobytes(), [Image(decoded)] * 8))
        assert set(loaded) == {expected}


def test_pixels_key_is_the_same_bytes_today_and_tomorrow() -> None:
    """It goes into stored hashes: another form of it would make every image look changed."""
    assert pixel_bytes(PIL.Image.new("L", (2, 1), 7)) == b"('L', (2, 1), None, None, 1)\x07\x07"


def test_pixels_key_tells_apart_what_looks_different() -> None:
    turned = filled("L", 7)
    exif = PIL.Image.Exif()
    exif[274] = 6
    turned.info["exif"] = exif.tobytes()
    other_palette = palette_image()
    other_palette.putpalette([0, 0, 0, 1, 2, 3])
    images = [
        filled("L", 7),
        filled("L", 8),
        PIL.Image.new("L", (4, 1), 7),
        filled("L", 7, transparency=7),
        turned,
        filled("I;16", 7),
        palette_image(),
        other_palette,
        palette_image(transparency=1),
    ]
    assert len({pixel_bytes(image) for image in images}) == len(images)
    assert pixel_bytes(filled("L", 7, dpi=(72, 72))) == pixel_bytes(filled("L", 7))


# --- What cannot be read --------------------------------------------------------------------------------------------


def refusal(image: Image) -> str:
    with pytest.raises(UnreadableContentError) as caught:
        load_rgb(image)
    with pytest.raises(UnreadableContentError) as caught_again:
        center_crop(image, size=64)
    assert str(caught.value) == str(caught_again.value)
    assert str(caught.value).startswith(f"{image.label}: ")
    return str(caught.value)[len(image.label) + 2 :]


def test_what_is_no_file_is_refused_with_a_reason(tmp_path: Path) -> None:
    """The reason stands in a report beside thousands of others: short, and enough to act on."""
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "folder.jpg").mkdir()
    assert refusal(Image(tmp_path / "missing.jpg")) == "no such file"
    assert refusal(Image(tmp_path / "folder.jpg")) == "is a folder"
    assert refusal(Image(tmp_path / "empty.jpg")) == "empty file"
    assert refusal(Image(tmp_path / "text.jpg")) == "text, not an image as its name says"
    assert refusal(Image(b"", name="upload")) == "empty file"
    assert refusal(Image(b"not an image")) == "text, not an image"
    assert refusal(Image(b"\x07\x00nothing known")) == "of an unknown format, not an image"
    for name in ("missing.jpg", "folder.jpg", "empty.jpg"):
        with pytest.raises(UnreadableContentError, match=name):
            read_bytes(Image(tmp_path / name))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    """Opening one blocks until somebody writes, which may be never."""
    os.mkfifo(tmp_path / "pipe.jpg")
    assert refusal(Image(tmp_path / "pipe.jpg")) == "not a regular file"


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX permissions")
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "locked.jpg").write_bytes(b"x")
    (tmp_path / "locked.jpg").chmod(0)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)  # root may read everything
    try:
        assert refusal(Image(tmp_path / "locked.jpg")) == "permission denied"
    finally:
        if is_root:
            os.seteuid(0)


def test_truncated_files_are_refused() -> None:
    """Half a photo has a vector too: a wrong one."""
    for kind in ("JPEG", "PNG", "GIF", "BMP"):
        data = encoded(photo(200, 200), kind)
        assert refusal(Image(data[: len(data) // 2], name="half")) == "truncated file", kind
    for kind in ("WEBP", "TIFF"):
        data = encoded(photo(200, 200), kind)
        assert refusal(Image(data[: len(data) // 2], name="half")), kind


def test_any_damage_to_a_file_is_refused_or_survived() -> None:
    """Whatever bytes a decoder meets, only one kind of exception comes out, and no warning."""
    noise = np.random.default_rng(7)
    formats = ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO", "TGA", "PCX", "SGI", "JPEG2000", "DDS"]
    for kind in formats:
        data = encoded(photo(64, 64), kind)
        for _ in range(25):
            damaged = np.frombuffer(data, dtype=np.uint8).copy()
            places = noise.integers(0, min(len(damaged), 400), size=4)
            damaged[places] = noise.integers(0, 256, size=4)
            image = Image(damaged.tobytes(), name="damaged")
            try:
                assert load_rgb(image).mode == "RGB"
            except UnreadableContentError as error:
                assert str(error).startswith("damaged: ")  # noqa: PT017 - it may as well load


def test_a_pixel_bomb_is_refused_before_it_is_decoded() -> None:
    """41 bytes can ask for gigabytes."""
    bomb = png(50_000, 50_000, depth=8, colour_type=2, rows=b"\0" * 50_000, extra={})
    started = time.perf_counter()
    assert refusal(Image(bomb)) == "50000 x 50000 pixels, more than max_pixels=201,326,592"
    assert time.perf_counter() - started < 1


def test_our_own_limit_holds_whatever_pillows_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that work with large scans switch Pillow's limit off for the whole process."""
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", None)
    with pixels_at_most(99):
        assert refusal(Image(encoded(photo(10, 10), "PNG"))) == "10 x 10 pixels, more than max_pixels=99"
        assert refusal(Image(photo(10, 10))) == "10 x 10 pixels, more than max_pixels=99"
    with pixels_at_most(100):
        assert load_rgb(Image(encoded(photo(10, 10), "PNG"))).size == (10, 10)


def test_a_large_image_below_the_limit_loads_without_pillows_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow warns from half its limit on; a 108-megapixel phone photo is no cause for that."""
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 60)
    assert load_rgb(Image(encoded(photo(10, 10), "PNG"))).size == (10, 10)


def test_a_text_bomb_is_not_set_off() -> None:
    """A megabyte of nothing compresses to a kilobyte; a chunk can hold that many times over."""
    bomb = b"comment\0\0" + zlib.compress(b"\0" * 200_000_000, 9)
    file = png(1, 1, depth=8, colour_type=0, rows=b"\0", extra={b"zTXt": bomb})
    started = time.perf_counter()
    assert load_rgb(Image(file)).size == (1, 1)
    assert time.perf_counter() - started < 2


def test_a_bomb_for_a_slow_decoder_is_refused_at_once() -> None:
    """Pillow decodes some formats in Python; what other formats may have would keep it busy for minutes."""
    header = struct.pack("<7I44x", 124, 0x1007, 5000, 5000, 20_000, 0, 0)
    masks = struct.pack("<8I", 32, 0x41, 0, 32, 0xFF, 0xFF00, 0xFF0000, 0xFF000000)
    bomb = b"DDS " + header + masks + struct.pack("<5I", 0x1000, 0, 0, 0, 0) + b"1234"
    started = time.perf_counter()
    assert refusal(Image(bomb)) == (
        "5000 x 5000 pixels, more than 5,000,000, of a format that is slow to decode; convert it to PNG"
    )
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize("start", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"])
def test_eps_is_refused_without_running_ghostscript(
    start: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """PostScript is a program; no image may start another one."""
    script = tmp_path / "gs"
    script.write_text(f"#!/bin/sh\ntouch {tmp_path / 'started'}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert refusal(Image(start + b"newpath\n%%EOF\n")) == "a drawing in PostScript (EPS): export it as PNG"
    assert not (tmp_path / "started").exists()


def test_formats_that_others_may_have_handlers_for_are_refused_without_running_them() -> None:
    """Pillow hands GRIB, HDF5 and the like to whatever was registered for them, and WMF to Windows."""

    class Handler(PIL.ImageFile.StubHandler):
        def open(self, im: PIL.ImageFile.StubImageFile) -> None:
            im._size = (1, 1)

        def load(self, im: PIL.ImageFile.StubImageFile) -> PIL.Image.Image:
            raise AssertionError("was run")

        def save(self, im: PIL.Image.Image, fp: object, filename: str) -> None:
            pass

    PIL.GribStubImagePlugin.register_handler(Handler())
    try:
        assert refusal(Image(b"GRIB\0\0\0\1" + b"\0" * 20)) == "scientific data (GRIB): convert it to PNG or JPEG"
    finally:
        PIL.GribStubImagePlugin.register_handler(None)


def test_heic_without_its_package_names_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every phone makes HEIC files; whoever meets one must learn what is missing."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    file = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 40
    with pytest.raises(UnreadableContentError, match=r'pip install "multimodal-search\[heif\]"'):
        load_rgb(Image(file))


# --- Silence --------------------------------------------------------------------------------------------------------

_SPOILED_TIFF = """
import io, os, warnings
import PIL.Image
from multimodal_search.media.images import load_rgb
from multimodal_search.errors import UnreadableContentError
from multimodal_search.contents import Image

file = io.BytesIO()
PIL.Image.effect_noise((64, 64), 80).save(file, "TIFF", compression="tiff_lzw")
spoiled = bytearray(file.getvalue())
spoiled[100:2000] = bytes(1900)
for _ in range(2):
    try:
        load_rgb(Image(bytes(spoiled)))
    except UnreadableContentError:
        pass
os.write(2, b"now Pillow by itself\\n")
try:
    PIL.Image.open(io.BytesIO(spoiled)).load()
except OSError:
    pass
"""


def test_libtiff_is_silent_for_us_and_speaks_to_others_afterwards() -> None:
    """It writes to file descriptor 2 past Python. The host's own use of it is not ours to silence."""
    process = subprocess.run([sys.executable, "-c", _SPOILED_TIFF], capture_output=True, text=True, check=True)
    before, _, after = process.stderr.partition("now Pillow by itself\n")
    assert before == ""
    if sys.platform != "win32":
        assert after != ""  # or else this test shows nothing


def test_warnings_of_other_threads_are_not_silenced() -> None:
    """The host may be in the middle of collecting its own."""
    inside, leave = threading.Event(), threading.Event()

    def be_silent() -> None:
        with silence:
            inside.set()
            leave.wait(10)
            warnings.warn("in the silent thread", stacklevel=1)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        filters_before = list(warnings.filters)
        thread = threading.Thread(target=be_silent)
        thread.start()
        assert inside.wait(10)
        warnings.warn("in the host's thread", stacklevel=1)
        leave.set()
        thread.join()
        assert list(warnings.filters) == filters_before
    assert [str(warning.message) for warning in caught] == ["in the host's thread"]


def test_many_threads_decode_at_once() -> None:
    """The pipeline decodes in threads; good, bad and talkative files must not disturb each other."""
    exif = PIL.Image.Exif()
    exif[274] = 6
    good = [
        encoded(photo(64, 48), "JPEG", exif=exif),
        encoded(photo(64, 48), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01" * 30),
        encoded(photo(64, 48), "PNG"),
        encoded(photo(64, 48).convert("P"), "PNG", transparency=bytes(range(256))),
        encoded(photo(64, 48), "TIFF", compression="tiff_lzw"),
        encoded(photo(64, 48), "WEBP"),
    ]
    bad = encoded(photo(64, 48), "TIFF", compression="tiff_lzw")[:2000]
    expected = [load_rgb(Image(data)).tobytes() for data in good]

    def decode(turn: int) -> bool:
        which = turn % (len(good) + 1)
        if which == len(good):
            with pytest.raises(UnreadableContentError):
                load_rgb(Image(bad))
            return True
        return load_rgb(Image(good[which])).tobytes() == expected[which]

    filters_before = list(warnings.filters)
    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(decode, range(700)))
    assert list(warnings.filters) == filters_before


# --- Decoding smaller -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("min_side_px", "expected"),
    [(None, (1000, 804)), (100, (125, 101)), (101, (250, 201)), (202, (500, 402)), (403, (1000, 804)), (5000, None)],
)
def test_a_jpeg_is_decoded_no_smaller_than_asked_for(min_side_px: int | None, expected: tuple[int, int] | None) -> None:
    """By 8, 4 or 2, whichever leaves the shorter side long enough; libjpeg rounds sides up."""
    data = encoded(photo(1000, 804), "JPEG", quality=95)
    loaded = load_rgb(Image(data), min_side_px=min_side_px)
    assert loaded.size == (expected or (1000, 804))
    difference = np.asarray(photo(1000, 804).resize(loaded.size, PIL.Image.Resampling.BOX)).astype(int) - loaded
    assert np.abs(difference).mean() < 3


def test_other_formats_and_given_images_keep_their_size() -> None:
    assert load_rgb(Image(encoded(photo(400, 300), "PNG")), min_side_px=10).size == (400, 300)
    given = PIL.Image.open(io.BytesIO(encoded(photo(400, 300), "JPEG")))
    assert load_rgb(Image(given), min_side_px=10).size == (400, 300)
    assert given.size == (400, 300)


# --- The square for a model -----------------------------------------------------------------------------------------


def square(image: Image | bytes | PIL.Image.Image, size: int) -> PIL.Image.Image:
    result = PIL.Image.open(io.BytesIO(center_crop(image if isinstance(image, Image) else Image(image), size=size)))
    result.load()
    return result


@pytest.mark.parametrize(
    ("width", "height", "left", "top"),
    [(4, 4, 0, 0), (6, 4, 1, 0), (5, 4, 0, 0), (7, 4, 2, 0), (9, 4, 2, 0), (4, 7, 0, 2), (4, 9, 0, 2), (1, 9, 0, 4)],
)
def test_the_crop_is_torchvisions_center_crop(width: int, height: int, left: int, top: int) -> None:
    """`int(round((height - crop_height) / 2.0))`, where Python rounds halves to even numbers."""
    side = min(width, height)
    expected = np.asarray(numbered(width, height))[top : top + side, left : left + side]
    assert np.array_equal(np.asarray(square(numbered(width, height), 100)), expected)


def test_nothing_is_enlarged() -> None:
    """More pixels than there are would be bytes on the wire and nothing for the model."""
    assert square(encoded(photo(200, 300), "JPEG"), 384).size == (200, 200)
    assert square(encoded(photo(600, 500), "JPEG"), 384).size == (384, 384)


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (1601, 1200), (3000, 4001)])
def test_it_is_what_the_service_would_have_seen(size: tuple[int, int]) -> None:
    """Cropping and shrinking beforehand must not change the vector, so the pixels must be the same to the eye."""
    data = encoded(photo(*size), "JPEG", quality=95)
    side = min(size)
    left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
    with PIL.Image.open(io.BytesIO(data)) as whole:
        seen = whole.crop((left, top, left + side, top + side)).resize((384, 384), PIL.Image.Resampling.BICUBIC)
    difference = np.asarray(seen).astype(int) - np.asarray(square(data, 384))
    assert np.abs(difference).mean() < 1.5


def test_decoding_a_large_jpeg_smaller_leaves_fine_detail_as_it_is(shared_data: Path) -> None:
    """Phones make 12 megapixels. Decoded at a quarter, the way down to 384 pixels would cost 10 dB more."""
    files = sorted((shared_data / "flickr8k_test" / "images").glob("*.jpg"))[:64]
    wall = PIL.Image.new("RGB", (8 * 224, 8 * 224))
    for number, file in enumerate(files):
        with PIL.Image.open(file) as tile:
            wall.paste(tile, (number % 8 * 224, number // 8 * 224))
    data = encoded(wall, "JPEG", quality=93)
    with PIL.Image.open(io.BytesIO(data)) as whole:
        seen = whole.resize((384, 384), PIL.Image.Resampling.BICUBIC)
    through_jpeg = PIL.Image.open(io.BytesIO(encoded(seen, "JPEG", quality=88, subsampling=0)))
    error = np.asarray(seen).astype(float) - np.asarray(square(data, 384))
    floor = np.asarray(seen).astype(float) - np.asarray(through_jpeg)
    assert (error**2).mean() < 1.3 * (floor**2).mean()


def test_real_photos_shrink_and_look_the_same(shared_data: Path) -> None:
    """Fewer bytes are the point of it; the error is bounded by what JPEG at quality 90 costs."""
    bytes_before = bytes_after = 0
    for file in sorted((shared_data / "flickr8k_test" / "images").glob("*.jpg"))[:40]:
        with PIL.Image.open(file) as small:
            data = encoded(small.resize((640, 480), PIL.Image.Resampling.LANCZOS), "JPEG", quality=93)
        with PIL.Image.open(io.BytesIO(data)) as whole:
            seen = whole.crop((80, 0, 560, 480)).resize((384, 384), PIL.Image.Resampling.BICUBIC)
        sent = center_crop(Image(data), size=384)
        with PIL.Image.open(io.BytesIO(sent)) as received:
            error = np.asarray(seen).astype(float) - np.asarray(received)
        assert 10 * np.log10(255**2 / (error**2).mean()) > 37  # dB
        bytes_before += len(data)
        bytes_after += len(sent)
    assert bytes_after < 0.55 * bytes_before


def test_the_square_of_a_turned_photo_is_upright() -> None:
    exif = PIL.Image.Exif()
    exif[274] = 6
    for size in ((640, 480), (3200, 2400)):  # the second is decoded smaller
        stored = photo(*size)
        upright = square(stored.transpose(PIL.Image.Transpose.ROTATE_270), 100)
        turned = square(encoded(stored, "JPEG", exif=exif, quality=95), 100)
        assert np.abs(np.asarray(upright).astype(int) - np.asarray(turned)).mean() < 2
        assert not turned.getexif()


@pytest.mark.parametrize(
    "data",
    [
        encoded(photo(64, 64), "JPEG"),
        encoded(photo(40, 40).convert("L"), "JPEG"),
        encoded(photo(64, 64), "PNG"),
        encoded(photo(64, 64).convert("L"), "PNG"),
        encoded(photo(64, 64), "JPEG", progressive=True),
    ],
    ids=["JPEG", "grey JPEG", "PNG", "grey PNG", "progressive JPEG"],
)
def test_bytes_that_fit_are_returned_untouched(data: bytes, tmp_path: Path) -> None:
    """Whoever prepared their images must get the vectors of their images, not of our JPEG of them."""
    assert center_crop(Image(data), size=64) is data
    (tmp_path / "fit").write_bytes(data)
    assert center_crop(Image(tmp_path / "fit"), size=64) == data


@pytest.mark.parametrize(
    "image",
    [photo(640, 480), photo(64, 64).convert("RGBA"), PIL.Image.new("RGB", (500, 300), "teal"), numbered(9, 200)],
    ids=["photo", "alpha", "flat", "thin"],
)
def test_preparing_what_is_prepared_changes_nothing(image: PIL.Image.Image) -> None:
    """Each stage may prepare what it was given: a second JPEG generation would change the vector."""
    once = center_crop(Image(image), size=64)
    assert center_crop(Image(once), size=64) is once


def test_bytes_that_do_not_fit_are_made_to() -> None:
    """Each of these would reach the service as something else than the image that a person sees."""
    exif = PIL.Image.Exif()
    exif[274] = 3
    with_exif: dict[str, object] = {"exif": exif}
    small = photo(64, 64)
    animated: dict[str, object] = {"save_all": True, "append_images": [photo(64, 64).convert("L").convert("RGB")]}
    unfit = {
        "too large": encoded(photo(65, 65), "PNG"),
        "not square": encoded(photo(64, 63), "PNG"),
        "turned JPEG": encoded(small, "JPEG", **with_exif),
        "turned PNG": encoded(small, "PNG", **with_exif),
        "alpha": encoded(small.convert("RGBA"), "PNG"),
        "palette": encoded(small.convert("P"), "PNG"),
        "colour key": encoded(small, "PNG", transparency=(1, 2, 3)),
        "16-bit": encoded(PIL.Image.new("I;16", (64, 64), 3000), "PNG"),
        "CMYK": encoded(small.convert("CMYK"), "JPEG"),
        "WebP": encoded(small, "WEBP"),
        "animated": encoded(small, "PNG", **animated),
    }
    for what, data in unfit.items():
        made = center_crop(Image(data), size=64)
        assert made is not data, what
        image = PIL.Image.open(io.BytesIO(made))
        assert image.format in ("JPEG", "PNG"), what
        assert image.mode == "RGB", what
        assert image.width == image.height <= 64, what
        assert not image.info.keys() & {"exif", "transparency", "icc_profile"}, what


def test_fit_bytes_that_cannot_be_decoded_are_refused() -> None:
    """The service would refuse them with its whole batch."""
    data = encoded(photo(64, 64), "JPEG")
    with pytest.raises(UnreadableContentError, match="truncated"):
        center_crop(Image(data[:-200]), size=64)


def test_graphics_become_png_and_photos_jpeg() -> None:
    """JPEG blurs letters and is larger for them."""
    drawing = PIL.Image.new("RGB", (300, 300), "white")
    PIL.ImageDraw.Draw(drawing).rectangle((50, 50, 200, 150), fill="red", outline="black")
    assert square(drawing, 384).format == "PNG"
    assert np.array_equal(np.asarray(square(drawing, 384)), np.asarray(drawing))
    assert square(photo(300, 300), 384).format == "JPEG"


def test_read_bytes_gives_what_is_there(tmp_path: Path) -> None:
    data = encoded(photo(2, 2), "PNG")
    (tmp_path / "a.bin").write_bytes(data)
    assert read_bytes(Image(tmp_path / "a.bin")) == data
    assert read_bytes(Image(data)) is data
    assert read_bytes(Image(photo(2, 2))) is None


# --- The door: what authors of embedders use ------------------------------------------------------------------------


def test_the_door_of_the_room_gives_bytes_and_pixels_and_loads_neither_before() -> None:
    code = (
        "import sys, multimodal_search.media as media; assert 'PIL' not in sys.modules; "
        "from multimodal_search.media import load_rgb, read_bytes; "
        "from multimodal_search.media import images; "
        "assert (load_rgb, read_bytes) == (images.load_rgb, images.read_bytes); print(media.__all__)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "['load_rgb', 'read_bytes']"
    with pytest.raises(AttributeError, match="nonsense"):
        _media.nonsense  # noqa: B018
