"""What `media.file_kinds` tells of a file, and what loading makes of it: nothing that is no image is read whole."""

from __future__ import annotations

import io
import struct
import sys
import zipfile
from pathlib import Path

import PIL.Image
import pytest

from multimodal_search import ColorEmbedder, MemoryStore, MultimodalIndex
from multimodal_search._indexing.candidate import Candidate
from multimodal_search._indexing.loading import _read, load
from multimodal_search.contents import Image, Mixed, Text
from multimodal_search.embedders.guarded import GuardedEmbedder
from multimodal_search.errors import NotAnImageError, UnreadableContentError
from multimodal_search.media.file_kinds import HEAD_BYTES, kind_of
from multimodal_search.media.images import decoding_rules, load_rgb, read_bytes


def ftyp(major: bytes, *compatible: bytes) -> bytes:
    brands = b"".join(compatible)
    return struct.pack(">I4s4sI", 16 + len(brands), b"ftyp", major, 0) + brands + b"\0\0\0\x08mdat" + b"\0" * 50


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "application/epub+zip" if name == "mimetype" else "x")
    return file.getvalue()


def tiff(*entries: tuple[int, int, int, int], order: str = "<") -> bytes:
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    return head + b"".join(struct.pack(f"{order}HHII", *entry) for entry in entries) + bytes(4) + b"NIKON CORPORATION\0"


_AT = 8 + 2 + 3 * 12 + 4  # behind a directory of three entries

KINDS: list[tuple[bytes, str, str, str]] = [
    (ftyp(b"isom", b"iso2", b"avc1"), "", "video", "MPEG-4"),
    (ftyp(b"mp42", b"mp41"), "IMG_1.MP4", "video", "MPEG-4"),
    (ftyp(b"qt  ", b"qt  "), "live.mov", "video", "QuickTime"),
    (ftyp(b"3gp4"), "old.3gp", "video", ""),
    (ftyp(b"M4A "), "a.m4a", "audio", ""),
    (ftyp(b"heic", b"mif1", b"heic"), "", "image", "HEIC"),
    (ftyp(b"mif1", b"heic"), "", "image", "HEIC"),
    (ftyp(b"mif1", b"avif", b"miaf"), "", "image", "AVIF"),
    (ftyp(b"avif", b"mif1"), "", "image", "AVIF"),
    (ftyp(b"crx "), "a.CR3", "image", "Canon raw"),
    (b"\0\0\0\x08wide\0\0\x10\0mdat" + b"\0" * 40, "old.mov", "video", "QuickTime"),
    (b"\x1a\x45\xdf\xa3" + b"\0" * 30, "", "video", "Matroska"),
    (b"RIFF\0\0\1\0AVI LIST", "", "video", "AVI"),
    (b"RIFF\0\0\1\0WAVEfmt ", "", "audio", "WAV"),
    (b"RIFF\0\0\1\0WEBPVP8 ", "", "image", "WebP"),
    (b"\0\0\1\xba\x44\0\4\0", "", "video", "MPEG"),
    ((b"\x47" + b"\0" * 187) * 5, "00001.ts", "video", "transport"),
    ((b"\0\0\0\0\x47" + b"\0" * 187) * 5, "00001.MTS", "video", "transport"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + b"\0" * 20, "a.wmv", "video", "Windows Media"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + b"\0" * 20, "a.wma", "audio", ""),
    (b"FLV\x01\5\0\0\0\x09", "", "video", "Flash"),
    (b"OggS" + b"\0" * 24 + b"\x80theora", "", "video", "Ogg"),
    (b"OggS" + b"\0" * 24 + b"OpusHead", "", "audio", "Ogg"),
    (b"ID3\4\0\0\0\0\0\0", "", "audio", "MP3"),
    (b"fLaC\0\0\0\x22", "", "audio", "FLAC"),
    (b"%PDF-1.7\n", "", "document", "PDF"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 30, "a.doc", "document", ""),
    (zipped("[Content_Types].xml", "word/document.xml"), "a.docx", "document", ""),
    (zipped("mimetype", "a.xhtml"), "book.epub", "document", ""),
    (zipped("a.jpg"), "photos.zip", "archive", "ZIP"),
    (b"Rar!\x1a\x07\1\0", "", "archive", "RAR"),
    (b"7z\xbc\xaf\x27\x1c", "", "archive", "7z"),
    (b"\x1f\x8b\x08\0", "", "archive", "gzip"),
    (b"\0" * 257 + b"ustar\0" + b"00" + b"\0" * 247, "a.tar", "archive", "tar"),
    (b"<?xml version='1.0'?><plist/>", "IMG_1.AAE", "sidecar", "AAE"),
    (b"\xff\xd8\xff\xe0 a small JPEG", "MOV_1.THM", "sidecar", "THM"),
    (b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>", "a.xml", "sidecar", "XMP"),
    (b'{"title": "IMG_1.jpg"}', "IMG_1.jpg.json", "sidecar", "JSON"),
    (b'{"title": "IMG_1.jpg"}', "IMG_1.jpg.supplemental-metadata.json", "sidecar", "JSON"),
    (b'{"a": 1}', "settings.json", "text", "JSON"),
    (b"hello", "LICENSE", "text", "text"),
    ("Grüße".encode("utf-16"), "notes", "text", ""),
    (b"<!DOCTYPE html><html><svg></svg>", "a.htm", "text", "HTML"),
    (b"\x7fELF\2\1\1", "tool", "program", "ELF"),
    (b"MZ\x90\0\3\0", "setup.exe", "program", ""),
    (b"#!/bin/sh\necho", "run", "text", "script"),
    (b"OTTO\0\x0b", "", "font", "OpenType"),
    (b"\0\1\0\0\0\x12\1\0", "a.ttf", "font", "TrueType"),
    (b"%!PS-AdobeFont-1.0: Utopia", "a.pfa", "font", ""),
    (b"SQLite format 3\0", "catalog.lrcat", "other", "SQLite"),
    (b"\x01\x02\x03\x04", "thing.xyz", "other", ""),
    (tiff((256, 3, 1, 10)), "scan.tif", "image", "TIFF"),
    (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "photo.txt", "image", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "", "image", "PNG"),
    (b"BM\x9a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0", "", "image", "BMP"),
    (b"BMW is a maker of cars", "cars.txt", "text", ""),
    (b"P6\n1 1\n255\n\0\0\0", "", "image", "PNM"),
    (b"/* a comment */ int main() {}", "a.c", "text", ""),
]
UNDECODABLE: list[tuple[bytes, str, str]] = [
    (tiff((256, 3, 1, 160)), "DSC_1.NEF", "a Nikon raw file (NEF): export it as JPEG or TIFF"),
    (tiff((254, 4, 1, 1), (271, 2, 18, _AT), (330, 4, 1, 99)), "x", "a Nikon raw file: export it as JPEG or TIFF"),
    (tiff((50706, 1, 4, 1)), "x", "a camera raw file (DNG): export it as JPEG or TIFF"),
    (tiff((50706, 1, 4, 1), order=">"), "x", "a camera raw file (DNG): export it as JPEG or TIFF"),
    (b"II*\0\x10\0\0\0CR\2\0", "", "a Canon raw file (CR2): export it as JPEG or TIFF"),
    (ftyp(b"crx "), "", "a Canon raw file (CR3): export it as JPEG or TIFF"),
    (b"FUJIFILMCCD-RAW 0201", "", "a Fujifilm raw file (RAF): export it as JPEG or TIFF"),
    (
        b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI\x50\0\x20\6",
        "icon.png",
        "a PNG file made for iPhones (CgBI): convert it to PNG or JPEG",
    ),
    (b"\xff\x0a\xfa\x7f", "", "a JPEG XL image: convert it to PNG or JPEG"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "", "a JPEG XL image: convert it to PNG or JPEG"),
    (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "", "a drawing (SVG): export it as PNG"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n", "", "a drawing in PostScript (EPS): export it as PNG"),
    (b"\xc5\xd0\xd3\xc6" + b"\0" * 28, "", "a drawing in PostScript (EPS): export it as PNG"),
    (b"\xd7\xcd\xc6\x9a" + b"\0" * 20, "", "a drawing (WMF): export it as PNG"),
    (b"gimp xcf v011\0", "", "a GIMP file (XCF): export it as PNG"),
    (b"v/1\x01\2\0\0\0", "", "an OpenEXR image: convert it to PNG or JPEG"),
]


@pytest.mark.parametrize(("head", "name", "kind", "words"), KINDS)
def test_the_kind_of_a_file_is_told_from_its_first_bytes(head: bytes, name: str, kind: str, words: str) -> None:
    found = kind_of(head, name)
    assert found.kind == kind
    assert words in found.name


@pytest.mark.parametrize(("head", "name", "reason"), UNDECODABLE)
def test_an_image_that_is_never_decoded_says_what_it_is_and_what_to_do(
    head: bytes, name: str, reason: str, tmp_path: Path
) -> None:
    """It counts as failed: whoever has it wants it found, and can do something about it."""
    path = tmp_path / (name or "file")
    path.write_bytes(head)
    for read in (read_bytes, load_rgb):
        with pytest.raises(UnreadableContentError) as caught:
            read(Image(path))
        assert str(caught.value) == f"{path}: {reason}"
        assert not isinstance(caught.value, NotAnImageError)


def test_readable_images_are_taken_for_nothing_else(shared_data: Path) -> None:
    """A raw file is refused by its first bytes; no TIFF of a camera or a scanner may be, nor any other image."""
    files = [*(shared_data / "flickr8k_test" / "images").glob("*.jpg")][:50]
    files += (shared_data / "corner" / "files" / "exif_samples").rglob("*.*")
    assert len(files) > 60
    for path in files:
        kind = kind_of(path.read_bytes()[:HEAD_BYTES], path.name)
        if kind.kind == "image" and not kind.is_undecodable:
            continue
        with pytest.raises(UnreadableContentError):  # what is refused can be opened by nobody
            load_rgb(Image(path))
        with PIL.Image.open(path) as opened:
            raise AssertionError(f"{path}: {kind}, but {opened.format}")


def load_file(path: Path) -> None:
    load(Candidate(name=str(path), path=str(path), filename=path.name, root=str(path.parent)), EMBEDDER)


EMBEDDER = GuardedEmbedder(ColorEmbedder())


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        ("clip.mp4", ftyp(b"isom"), "video"),
        ("clip", ftyp(b"isom"), "video"),
        ("clip.mp4", b"\x01\x02\x03", "video"),
        ("a.json", b"{}", "text"),
        ("LICENSE", b"words", "text"),
        ("noise.dat", b"\x01\x02\x03\x04", "other"),
        ("noise", b"\x07\x02\x03\x04", "other"),
        ("empty.mp4", b"", "video"),
        ("empty.xyz", b"", "other"),
    ],
)
def test_a_file_of_another_kind_is_refused_before_it_is_read(name: str, head: bytes, kind: str, tmp_path: Path) -> None:
    """Videos among photos have hundreds of megabytes: to read them, at every run, would cost more than the photos."""
    path = tmp_path / name
    with path.open("wb") as file:
        file.write(head)
        if head:
            file.truncate(400 * 1024 * 1024)  # sparse
    if name == "LICENSE":
        path.write_bytes(head)
    before = _bytes_read()
    with pytest.raises(NotAnImageError) as caught:
        load_file(path)
    assert caught.value.kind == kind
    assert _bytes_read() - before < 2_000_000


def _bytes_read() -> int:
    if not sys.platform.startswith("linux"):
        return 0
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("photo.jpg", b"", "empty file"),
        ("photo", b"", "empty file"),
        ("photo.jpg", b"\0" * 5000, "damaged at its start, or another kind of file than its name says (JPG)"),
        ("photo.jpg", b"<!DOCTYPE html><html>404", "an HTML page, not an image as its name says"),
        ("photo.jpg", ftyp(b"isom"), "an MPEG-4 video, not an image as its name says"),
        (
            "photo.jpg",
            b"\xff\xd8\xff\xe0",
            "JPEG: damaged, or of a variant that cannot be decoded; convert it to PNG or JPEG",
        ),
        (
            "scan.tif",
            tiff((256, 3, 1, 9)),
            "TIFF: damaged, or of a variant that cannot be decoded; convert it to PNG or JPEG",
        ),
    ],
)
def test_what_its_name_or_bytes_call_an_image_is_a_broken_one(
    name: str, data: bytes, reason: str, tmp_path: Path
) -> None:
    """Nobody may lose a photo without a word: it counts as failed, not as another kind of file."""
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UnreadableContentError) as caught:
        load_file(path)
    assert not isinstance(caught.value, NotAnImageError)
    assert str(caught.value) == f"{path}: {reason}"


def test_members_of_archives_and_given_bytes_are_told_apart_too(tmp_path: Path) -> None:
    with pytest.raises(NotAnImageError) as caught:
        load(Candidate(name="x", given=Image(ftyp(b"qt  "), name="p.zip!/live.mov")), EMBEDDER)
    assert caught.value.kind == "video"
    (tmp_path / "clip.mp4").write_bytes(ftyp(b"isom"))
    mixed = Mixed(Text("a cat"), Image(tmp_path / "clip.mp4"))
    with pytest.raises(UnreadableContentError) as meant:
        _read(mixed)
    assert not isinstance(meant.value, NotAnImageError)


def test_large_files_are_read_one_after_the_other(tmp_path: Path) -> None:
    """Their bytes count while they are read, not only once they are there; here each is larger than the window."""
    for number in range(4):
        with (tmp_path / f"{number}.jpg").open("wb") as file:
            file.write(b"\xff\xd8\xff\xe0")
            file.truncate(4_000_000)
    alive: list[int] = []
    most = 0

    class Watching(ColorEmbedder):
        def prepare(self, content):  # type: ignore[no-untyped-def]  # as its base has it
            nonlocal most
            alive.append(1)
            most = max(most, len(alive))
            try:
                return super().prepare(content)
            finally:
                alive.pop()

    with MultimodalIndex(Watching(), MemoryStore()) as index:
        report = index.sync_folder(tmp_path, progress=False, window_bytes=1_000_000)
    assert len(report.failed) == 4
    assert most == 1


def test_decoding_rules_name_all_that_a_refusal_depends_on() -> None:
    """Whoever remembers refusals forgets them when this changes."""
    assert PIL.__version__ in decoding_rules()
    assert decoding_rules(1000) != decoding_rules() == decoding_rules()
