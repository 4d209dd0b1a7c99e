"""Images whose pixels are whole are shown, whatever is wrong beside them; without their pixels they are refused."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.features
import PIL.Image
import pytest

from multimodal_search.contents import Image
from multimodal_search.errors import UnreadableContentError
from multimodal_search.media.images import center_crop, is_decodable_as_it_is, load_rgb, pixels_at_most
from multimodal_search.media.refusals import _reason


def photo(width: int = 64, height: int = 48) -> PIL.Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    channels = (x * 255 / width, y * 255 / height, 127 + 120 * np.sin(12 * x / width + 20 * y / height))
    return PIL.Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def encoded(kind: str, image: PIL.Image.Image | None = None, **options: object) -> bytes:
    file = io.BytesIO()
    (image or photo()).save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes, wrong: int = 0) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ wrong)


def assert_shows(data: bytes, expected: bytes) -> None:
    assert load_rgb(Image(data)).tobytes() == load_rgb(Image(expected)).tobytes()
    assert center_crop(Image(data), size=32) == center_crop(Image(expected), size=32)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_what_had_to_be_mended_is_not_passed_on_as_it_is(kind: str) -> None:
    """An image that fits a model is sent untouched; the service would refuse this one with its whole batch."""
    good = encoded(kind, photo(48, 48))
    bad = good[:33] + PNG_EXTRAS["gamma"] + good[33:] if kind == "PNG" else good[:-2]
    assert center_crop(Image(good), size=64) == good
    assert not is_decodable_as_it_is(Image(bad), min_side_px=8)
    with PIL.Image.open(io.BytesIO(center_crop(Image(bad), size=64))) as sent:
        sent.load()
        assert sent.size == (48, 48)


def refusal(data: bytes) -> str:
    with pytest.raises(UnreadableContentError) as caught:
        load_rgb(Image(data, name="it"))
    return str(caught.value).removeprefix("it: ")


# -- PNG ---------------------------------------------------------------------------------------------------------------

_XMP = b"<x:xmpmeta>" + b"<rdf:li>history of an editor</rdf:li>" * 40000
PNG_EXTRAS = {
    "a large profile": chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(range(256)) * 6000, 0)),
    "a large text": chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"node " * 400_000)),
    "large XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(_XMP)),
    "many texts": b"".join(chunk(b"tEXt", b"c%d\0" % n + b"x" * 1_000_000) for n in range(66)),
    "a checksum of a text": chunk(b"tEXt", b"k\0v", wrong=1),
    "a checksum of a private chunk": chunk(b"prVt", b"hello", wrong=1),
    "an unknown compression": chunk(b"zTXt", b"Comment\0\x07x"),
    "a broken stream": chunk(b"zTXt", b"Comment\0\0not zlib"),
    "no profile": chunk(b"iCCP", b""),
    "a profile of no compression": chunk(b"iCCP", b"icc\0\x09x"),
    "gamma": chunk(b"gAMA", b"\0"),
    "resolution": chunk(b"pHYs", b"\0"),
    "chromaticities": chunk(b"cHRM", b"\0"),
    "rendering intent": chunk(b"sRGB", b""),
    "transparency": chunk(b"tRNS", b""),
    "transparency of another kind": chunk(b"tRNS", b"\0"),
    "Exif": chunk(b"eXIf", b"nonsense"),
    "Exif with a wrong checksum": chunk(b"eXIf", b"II*\0\x08\0\0\0", wrong=1),
    "animation": chunk(b"acTL", b"\0"),
    "animation out of sequence": chunk(b"acTL", b"\0\0\0\2\0\0\0\0") + chunk(b"fcTL", b"\0\0\0\7" + bytes(22)),
    "a frame beyond the canvas": chunk(b"acTL", b"\0\0\0\1\0\0\0\0")
    + chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 999, 999, 0, 0, 1, 1, 0, 0)),
}


@pytest.mark.parametrize("extra", PNG_EXTRAS.values(), ids=PNG_EXTRAS)
@pytest.mark.parametrize("before", [True, False], ids=["before the pixels", "behind them"])
def test_a_png_is_shown_whatever_is_beside_its_pixels(extra: bytes, before: bool) -> None:
    """Nothing of that is used. Editors and AI programs write megabytes of it."""
    good = encoded("PNG")
    at = 33 if before else len(good) - 12
    assert_shows(good[:at] + extra + good[at:], good)


def test_a_png_with_a_wrong_checksum_of_its_stream_or_without_its_end_is_shown() -> None:
    good = encoded("PNG")
    end = good.index(b"IEND") - 4
    wrong = bytearray(good)
    wrong[end - 5] ^= 0xFF  # the last byte of the stream: its Adler-32
    assert_shows(bytes(wrong), good)
    assert_shows(good[:end], good)
    assert_shows(good + b"trailing" * 100, good)


@pytest.mark.parametrize("options", [{}, {"bits": 4}], ids=["RGB", "palette"])
def test_a_png_whose_pixels_are_cut_off_is_refused(options: dict[str, object]) -> None:
    """With a broken text before them, too: the reason is the pixels."""
    good = encoded("PNG", photo().convert("P") if options else photo(), **options)
    for data in (good, good[:33] + PNG_EXTRAS["gamma"] + good[33:]):
        cut = data[: len(data) - 200]
        assert refusal(cut) == "truncated file"


def test_a_png_keeps_its_colours_and_its_orientation_when_its_extras_go() -> None:
    exif = PIL.Image.Exif()
    exif[274] = 6
    palette = photo().convert("P")
    good = encoded("PNG", palette, transparency=bytes([0, 128] * 64), exif=exif)
    assert load_rgb(Image(good)).size == (48, 64)
    assert_shows(good[:33] + PNG_EXTRAS["a large text"] + good[33:], good)


# -- JPEG --------------------------------------------------------------------------------------------------------------


def with_segment(data: bytes, marker: int, body: bytes) -> bytes:
    return data[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body + data[2:]


JPEG_EXTRAS = {
    "Photoshop": (0xED, b"Photoshop 3.0\x008BIM\x04\x04"),
    "a short JFIF": (0xE0, b"JFIF"),
    "a short Adobe": (0xEE, b"Adobe"),
    "a short profile": (0xE2, b"ICC_PROFILE\0"),
    "an index of more images": (0xE2, b"MPF\0II*\0\xff\xff\xff\xff"),
    "an index of images elsewhere": (
        0xE2,
        b"MPF\0" + b"MM\0*\0\0\0\x08\0\2" + b"\xb0\1\0\4\0\0\0\1\0\0\0\2" * 2 + bytes(4),
    ),
    "Exif": (0xE1, b"Exif\0\0II*\0\xff"),
    "a comment": (0xFE, b"\xff\xd8\xff\xda\xff\xd9"),
}


@pytest.mark.parametrize(("marker", "body"), JPEG_EXTRAS.values(), ids=JPEG_EXTRAS)
def test_a_jpeg_is_shown_whatever_is_beside_its_pixels(marker: int, body: bytes) -> None:
    good = encoded("JPEG")
    assert_shows(with_segment(good, marker, body), good)


def test_a_jpeg_with_garbage_between_its_segments_is_shown() -> None:
    good = encoded("JPEG")
    assert_shows(good[:20] + b"garbage" + good[20:] + b"more garbage", good)


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}], ids=["baseline", "progressive", "444"]
)
@pytest.mark.parametrize("extra", [False, True], ids=["", "with a broken segment"])
def test_a_jpeg_without_its_end_mark_is_shown(options: dict[str, object], extra: bool) -> None:
    """Cameras whose battery died, and downloads that miss two bytes: every viewer shows them."""
    good = encoded("JPEG", **options)
    data = with_segment(good, *JPEG_EXTRAS["Photoshop"]) if extra else good
    assert_shows(data[:-2], good)
    assert_shows(data[:-1], good)


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
@pytest.mark.parametrize("missing", [12, 40, 400, 900])
def test_a_jpeg_whose_pixels_are_cut_off_is_refused(options: dict[str, object], missing: int) -> None:
    """The decoder would make up the rest in grey, and say nothing."""
    good = encoded("JPEG", photo(200, 200), quality=90, **options)
    assert refusal(good[:-missing]) == "truncated file"


def test_a_progressive_jpeg_that_ends_between_two_scans_is_refused() -> None:
    """It has all of its area, and half of its detail."""
    good = encoded("JPEG", photo(200, 200), progressive=True)
    scans = [at for at in range(len(good)) if good.startswith(b"\xff\xda", at)]
    assert len(scans) > 5
    for at in scans[2:]:
        begin = good.rindex(b"\xff\xc4", 0, at) if b"\xff\xc4" in good[at - 300 : at] else at
        assert refusal(good[:begin]) == "truncated file"


# -- others ------------------------------------------------------------------------------------------------------------


def _webp_of_wrong_size(data: bytes, by: int) -> bytes:
    return data[:4] + struct.pack("<I", len(data) - 8 + by) + data[8:]


@pytest.mark.parametrize("by", [-20, -2, 2, 1000])
def test_a_webp_whose_header_tells_a_wrong_size_is_shown(by: int) -> None:
    good = encoded("WEBP", lossless=True)
    assert_shows(_webp_of_wrong_size(good, by), good)
    assert refusal(good[: len(good) // 2])


def test_a_webp_without_its_last_byte_is_shown_if_that_only_fills_up() -> None:
    datas = [encoded("WEBP", photo(8, height), lossless=True) for height in range(1, 30)]
    odd, even = (next(data for data in datas if data[16] % 2 == wanted) for wanted in (1, 0))
    assert_shows(odd[:-1], odd)
    assert refusal(odd[:-2]) == refusal(even[:-1]) == "damaged or cut off"


def test_a_webp_with_broken_metadata_is_shown() -> None:
    good = encoded("WEBP", lossless=True)
    with_exif = encoded("WEBP", lossless=True, exif=b"Exif\0\0nonsense", icc_profile=b"nonsense")
    assert_shows(_webp_of_wrong_size(with_exif, 64), good)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize(
    ("tag", "kind", "count", "value"), [(282, 5, 1, 2**31), (700, 1, 99, 2**31), (34675, 7, 9**6, 8)]
)
def test_a_tiff_with_a_bad_tag_is_shown(compression: str, tag: int, kind: int, count: int, value: int) -> None:
    """A resolution, XMP or a profile that lies outside of the file."""
    good = encoded("TIFF", compression=compression, dpi=(72, 72))
    at = struct.unpack("<I", good[4:8])[0]
    number = struct.unpack("<H", good[at : at + 2])[0]
    entries = [good[at + 2 + 12 * n : at + 14 + 12 * n] for n in range(number)]
    entries = [entry for entry in entries if struct.unpack("<H", entry[:2])[0] != tag]
    entries.append(struct.pack("<HHII", tag, kind, count, value))
    entries.sort(key=lambda entry: struct.unpack("<H", entry[:2])[0])
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    bad = good[:4] + struct.pack("<I", len(good)) + good[8:] + directory
    assert_shows(bad, good)


def test_a_gif_without_its_end_is_shown() -> None:
    good = encoded("GIF", photo().convert("P"))
    assert_shows(good[:-1], good)


@pytest.mark.skipif(not PIL.features.check("avif"), reason="this Pillow was built without AVIF")
def test_an_avif_with_broken_exif_is_shown() -> None:
    exif = PIL.Image.Exif()
    exif[305] = "a program of this name"
    good = encoded("AVIF", exif=exif, quality=90)
    assert good.count(b"II*\0") + good.count(b"MM\0*") == 1
    broken = good.replace(b"II*\0", b"XX*\0").replace(b"MM\0*", b"XX\0*")
    assert load_rgb(Image(broken)).size == (64, 48)
    assert np.abs(np.asarray(load_rgb(Image(broken))).astype(int) - np.asarray(load_rgb(Image(good)))).max() == 0


# -- orientation -------------------------------------------------------------------------------------------------------

_TURNED_BY_XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "TIFF with LZW", "AVIF"])
def test_an_orientation_that_only_xmp_has_is_not_followed(kind: str) -> None:
    """Browsers and viewers do not, so that the photo looks upright to its owner as it is; Pillow would turn it."""
    if kind == "AVIF" and not PIL.features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    options: dict[str, object] = {"xmp": _TURNED_BY_XMP}
    if kind == "PNG":
        plain = encoded("PNG")
        xmp = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + _TURNED_BY_XMP)
        datas = [plain[:33] + xmp + plain[33:], plain[:-12] + xmp + plain[-12:]]
    elif kind.startswith("TIFF"):
        tags = PIL.TiffImagePlugin.ImageFileDirectory_v2()  # type: ignore[attr-defined]  # loaded by saving one
        tags[700] = _TURNED_BY_XMP
        datas = [encoded("TIFF", tiffinfo=tags, compression="tiff_lzw" if "LZW" in kind else None)]
    else:
        datas = [encoded(kind, **options)]
    for data in datas:
        assert b'tiff:Orientation="6"' in data
        assert load_rgb(Image(data)).size == (64, 48)
        assert load_rgb(Image(PIL.Image.open(io.BytesIO(data)))).size in {
            (64, 48),
            (48, 64) if "TIFF" in kind else (64, 48),
        }


def test_the_orientation_of_exif_goes_before_that_of_xmp() -> None:
    exif = PIL.Image.Exif()
    exif[274] = 3
    data = encoded("JPEG", quality=95, exif=exif, xmp=_TURNED_BY_XMP)
    difference = np.asarray(load_rgb(Image(data))).astype(int) - np.asarray(
        photo().transpose(PIL.Image.Transpose.ROTATE_180)
    )
    assert np.abs(difference).mean() < 5  # turned another way it would differ by 40 and more


# -- work and memory ---------------------------------------------------------------------------------------------------


def many_scans(side: int, count: int) -> bytes:
    """A progressive JPEG of `count` scans that say nothing, of one bit for each block or less."""

    def table(kind: int, symbol: int) -> bytes:
        return b"\xff\xc4\0\x14" + bytes([kind << 4, 1]) + bytes(15) + bytes([symbol])

    blocks = ((side + 7) // 8) ** 2
    data = b"\xff\xd8\xff\xdb\0\x43\0" + b"\1" * 64
    data += b"\xff\xc2" + struct.pack(">HBHHB", 11, 8, side, side, 1) + b"\1\x11\0" + table(0, 0) + table(1, 0xE0)
    data += b"\xff\xda\0\x08\1\1\0\0\0\0" + bytes((blocks + 7) // 8)
    bits = ("0" + "1" * 14) * -(-blocks // 32767)
    bits += "1" * (-len(bits) % 8)
    empty = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)).replace(b"\xff", b"\xff\0")
    data += b"\xff\xda\0\x08\1\1\0\1\x3f\1" + empty
    return data + (b"\xff\xda\0\x08\1\1\0\1\x3f\x10" + empty) * count + b"\xff\xd9"


def test_a_jpeg_of_hundreds_of_scans_is_refused_before_it_is_decoded() -> None:
    """Half a megabyte that keeps a processor busy for minutes."""
    assert refusal(many_scans(13_000, 300)) == (
        "a JPEG of 13000 x 13000 pixels in 302 scans, too slow to decode; save it again"
    )
    assert load_rgb(Image(many_scans(64, 300))).size == (64, 64)  # no work at all
    assert load_rgb(Image(encoded("JPEG", photo(300, 300), progressive=True))).size == (300, 300)


def _ico(dib_side: int, compression: int, size_in_directory: int = 0) -> bytes:
    dib = struct.pack("<IiiHHIIiiII", 40, dib_side, 2 * dib_side, 1, 8, compression, 0, 0, 0, 256, 0) + bytes(1024)
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, size_in_directory, size_in_directory, 0, 0, 1, 8, len(dib), 22) + dib


def test_an_icon_is_judged_by_the_image_inside() -> None:
    """Pillow decodes it on opening: a slow one takes minutes, a large one gigabytes."""
    assert "slow to decode" in refusal(_ico(6000, 1))
    assert "more than max_pixels" in refusal(_ico(20_000, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)) + b"\0" * 50
    icon = struct.pack("<HHHBBBBHHII", 0, 1, 1, 0, 0, 0, 0, 1, 32, len(bomb), 22) + bomb
    assert refusal(icon) == "40000 x 40000 pixels, more than max_pixels=201,326,592"
    icns = b"icns" + struct.pack(">I", 16 + len(bomb)) + b"ic10" + struct.pack(">I", 8 + len(bomb)) + bomb
    assert refusal(icns) == "40000 x 40000 pixels, more than max_pixels=201,326,592"
    assert load_rgb(Image(encoded("ICO", photo(48, 48)))).size == (48, 48)


def test_slow_decoders_are_bounded_by_what_they_cost() -> None:
    assert "slow to decode" in refusal(b"P6\n4096 4096\n300\n" + bytes(100))
    assert "slow to decode" in refusal(b"P3\n4096 4096\n255\n" + b"0 " * 100)
    assert load_rgb(Image(b"P6\n2 1\n300\n" + struct.pack(">6H", 300, 0, 0, 150, 150, 150))).size == (2, 1)


def test_a_tile_larger_than_allowed_is_refused() -> None:
    """Libtiff decodes tiles whole: 10 x 10 pixels in one of 60,000 x 60,000 would take gigabytes."""
    entries = [(256, 3, 1, 10), (257, 3, 1, 10), (258, 3, 1, 8), (259, 3, 1, 5), (262, 3, 1, 1), (277, 3, 1, 1)]
    entries += [(322, 4, 1, 60_000), (323, 4, 1, 60_000), (324, 4, 1, 8), (325, 4, 1, 100)]
    data = b"II*\0" + struct.pack("<IH", 8, len(entries))
    data += b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(104)
    assert refusal(data) == "a tile of 3,600,000,000 pixels, more than max_pixels=201,326,592"


def test_max_pixels_lets_the_photos_of_phones_through_and_can_be_set() -> None:
    """16,320 x 12,240 and 12,288 x 16,384 are what 200-megapixel sensors write. Decoded smaller, they cost little."""
    data = encoded("JPEG", PIL.Image.new("L", (12_288, 16_384), 90), quality=30)
    assert len(center_crop(Image(data), size=64)) > 100
    with pixels_at_most(12_288 * 16_384 - 1):
        assert refusal(data) == "12288 x 16384 pixels, more than max_pixels=201,326,591"
    larger = encoded("JPEG", PIL.Image.new("L", (15_000, 14_000), 90), quality=30)
    assert "more than max_pixels" in refusal(larger)
    with pixels_at_most(210_000_000):
        assert load_rgb(Image(larger), min_side_px=100).size == (1875, 1750)


_PEAK = """
import sys, threading
from pathlib import Path
from multimodal_search import ColorEmbedder, Image
from multimodal_search.media.images import load_rgb
load_rgb(Image(b"P5 1 1 255 0"))
def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
before = peak()
data = open(sys.argv[1], "rb").read()
threads = [threading.Thread(target=ColorEmbedder().prepare, args=(Image(data),)) for _ in range(int(sys.argv[2]))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(peak() - before)
"""


def peak_mb(path: Path, threads: int) -> float:
    command = [sys.executable, "-c", _PEAK, str(path), str(threads)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, timeout=200).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs the peak of resident memory from /proc")
def test_eight_threads_decode_bombs_within_the_budget(tmp_path: Path) -> None:
    """A WebP of 38 bytes may take a gigabyte, and so would each of eight at once."""
    bomb = tmp_path / "bomb.webp"
    bomb.write_bytes(encoded("WEBP", PIL.Image.new("RGBA", (3500, 3500), (200, 30, 30, 128)), lossless=True, method=0))
    assert bomb.stat().st_size < 200
    assert peak_mb(bomb, 8) < 1024


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs the peak of resident memory from /proc")
@pytest.mark.parametrize(
    ("make", "most"),
    [
        (lambda: encoded("PNG", PIL.Image.new("I;16", (5000, 4000), 30_000)), 8),
        (lambda: encoded("TIFF", PIL.Image.new("F", (5000, 4000), 0.5)), 10),
        (lambda: encoded("TIFF", PIL.Image.new("CMYK", (5000, 4000))), 10),
        (lambda: encoded("PNG", PIL.Image.new("RGBA", (5000, 4000), (1, 2, 3, 4))), 10),
        (lambda: encoded("PNG", PIL.Image.new("P", (5000, 4000))), 7),
    ],
    ids=["16-bit grey", "float", "CMYK", "alpha", "palette"],
)
def test_what_is_made_rgb_takes_no_more_than_itself_and_the_result(
    make: Callable[[], bytes], most: float, tmp_path: Path
) -> None:
    """In bytes a pixel; the encoded file counts, too."""
    (tmp_path / "image").write_bytes(data := make())
    assert peak_mb(tmp_path / "image", 1) * 2**20 - 2 * len(data) < most * 5000 * 4000


# -- values ------------------------------------------------------------------------------------------------------------


def grey_tiff(values: np.ndarray, bits: int, sample_format: int) -> bytes:  # type: ignore[type-arg]  # of any kind
    raw = values.tobytes()
    height, width = values.shape
    entries = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, 1, bits),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
    ]
    entries += [(277, 3, 1, 1), (278, 3, 1, height), (279, 4, 1, len(raw)), (339, 3, 1, sample_format)]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(raw)) + raw + directory


def levels(data: bytes) -> list[int]:
    return [int(value) for value in np.asarray(load_rgb(Image(data)))[0, :, 0]]


def test_integers_of_every_kind_are_bright_where_their_values_are_high() -> None:
    """Pillow takes unsigned 32-bit samples for signed: the brightest half would come out darkest."""
    unsigned = grey_tiff(np.array([[0, 2**30, 2**31, 2**32 - 1]], dtype="<u4"), 32, 1)
    assert levels(unsigned) == [0, 64, 128, 255]
    assert levels(grey_tiff(np.array([[-(2**31), 0, 2**31 - 1]], dtype="<i4"), 32, 2)) == [0, 128, 255]
    assert levels(grey_tiff(np.array([[0, 16384, 32767]], dtype="<i2"), 16, 2)) == [0, 128, 255]
    assert levels(grey_tiff(np.array([[-32768, 0, 32767]], dtype="<i2"), 16, 2)) == [0, 128, 255]
    assert levels(grey_tiff(np.array([[0, 32768, 65535]], dtype="<u2"), 16, 1)) == [0, 128, 255]
    assert levels(grey_tiff(np.array([[0.0, 0.5, 1.0]], dtype="<f4"), 32, 3)) == [0, 128, 255]


def test_large_images_are_scaled_as_a_whole_and_not_strip_by_strip() -> None:
    values = np.zeros((1100, 2048), dtype="<f4")  # more than one strip
    values[0, :2] = [1000.0, 500.0]
    assert levels(grey_tiff(values, 32, 3))[:3] == [4, 2, 0]  # of 65,535, the next usual white
    values[1099, 0] = -1000.0
    assert levels(grey_tiff(values, 32, 3))[:3] == [255, 191, 128]


@pytest.mark.parametrize("mode", ["P", "LA", "RGBA", "CMYK", "1", "L", "YCbCr", "I;16"])
def test_an_image_of_many_strips_is_that_of_its_parts(mode: str) -> None:
    small = photo(64, 50)
    if mode == "I;16":
        small = PIL.Image.fromarray(np.asarray(small.convert("L")).astype(np.uint16) * 257)
    elif mode in ("LA", "RGBA"):
        small.putalpha(128)
        small = small.convert(mode)
    else:
        small = small.convert(mode)
    large = PIL.Image.new(mode, (64 * 30, 50 * 30))
    if mode == "P":
        large.putpalette(small.getpalette() or [])
    for y in range(30):
        for x in range(30):
            large.paste(small, (64 * x, 50 * y))
    expected = np.tile(np.asarray(load_rgb(Image(small))), (30, 30, 1))
    assert np.array_equal(np.asarray(load_rgb(Image(large))), expected)


def test_an_xbm_is_black_where_its_bits_are_set() -> None:
    """As X11 and every viewer have it; Pillow shows the negative."""
    data = b"#define a_width 8\n#define a_height 1\nstatic char a_bits[] = {\n0x01 };\n"
    assert levels(data) == [0] + [255] * 7


def test_the_first_frame_of_an_animation_stands_on_its_canvas() -> None:
    """What it does not cover is transparent, and so white; not of whatever colour has the number 0."""
    image = PIL.Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    data = bytearray(encoded("GIF", image))
    data[6:10] = struct.pack("<HH", 20, 10)
    at = bytes(data).index(b",\0\0\0\0")
    data[at + 1 : at + 5] = struct.pack("<HH", 3, 2)
    shown = load_rgb(Image(bytes(data)))
    assert shown.size == (20, 10)
    assert [shown.getpixel(at) for at in ((0, 0), (3, 2), (6, 5), (7, 6))] == [
        (255, 255, 255),
        (255, 0, 0),
        (255, 0, 0),
        (255, 255, 255),
    ]


def test_the_first_frame_of_a_webp_stands_on_its_canvas() -> None:
    frames = [PIL.Image.new("RGB", (20, 10), colour) for colour in ("red", "blue")]
    file = encoded("WEBP", frames[0], save_all=True, append_images=frames[1:], lossless=True)
    at = file.index(b"ANMF") + 8
    larger = bytearray(file)
    canvas = file.index(b"VP8X") + 8 + 4
    larger[canvas : canvas + 6] = struct.pack("<I", 39)[:3] + struct.pack("<I", 29)[:3]
    larger[at : at + 6] = struct.pack("<I", 5)[:3] + struct.pack("<I", 4)[:3]  # at 10, 8
    shown = load_rgb(Image(bytes(larger)))
    assert shown.size == (40, 30)
    assert shown.getpixel((0, 0)) == (255, 255, 255)
    assert shown.getpixel((10, 8)) == (255, 0, 0)
    assert shown.getpixel((29, 17)) == (255, 0, 0)
    assert shown.getpixel((30, 18)) == (255, 255, 255)


def test_reasons_end_with_a_whole_word() -> None:
    reason = _reason(ValueError("the decoder has very much to say about this file, " * 5))
    assert len(reason) < 110
    assert reason.endswith(" ...)")
    assert reason.startswith("cannot be decoded (the decoder has very much to say")
