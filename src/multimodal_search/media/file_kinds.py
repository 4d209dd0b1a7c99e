"""Tells from a file's first bytes, and from its name where these are silent, what kind of file it is."""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from typing import TypeAlias

HEAD_BYTES = 4096
"""As many first bytes as `kind_of` looks at."""

_EXPORT = "export it as JPEG or TIFF"
_CONVERT = "convert it to PNG or JPEG"
_PNG = "export it as PNG"


@dataclass(frozen=True, slots=True)
class FileKind:
    """What a file is.

    Attributes:
        kind: "image", "video", "audio", "document", "archive", "sidecar", "text", "program", "font" or "other".
        name: The format in words, such as "a QuickTime video"; empty if only `kind` is known.
        advice: What to do with an image of a format that is never decoded; empty for every other file.
        is_sure: Whether the first bytes say so, and not the name alone.
    """

    kind: str
    name: str = ""
    advice: str = ""
    is_sure: bool = True

    @property
    def is_undecodable(self) -> bool:
        """Whether it is an image of a format that is never decoded."""
        return self.kind == "image" and self.advice != ""


_UNKNOWN = FileKind("other", is_sure=False)

_Row: TypeAlias = tuple[int, bytes, FileKind]


def _rows(kind: str, *rows: tuple[str, str | bytes], offset: int = 0, advice: str = "") -> list[_Row]:
    """One row for each format: what it is called, and the bytes that it has at an offset."""
    return [
        (offset, magic.encode("latin-1") if isinstance(magic, str) else magic, FileKind(kind, name, advice))
        for name, magic in rows
    ]


# From the formats' own specifications, as `file` (https://github.com/file/file/tree/master/magic) collects them.
# The first row that fits counts.
_MAGICS: list[_Row] = [
    *_rows(
        "image",
        ("a Canon raw file (CR2)", "II*\0\x10\0\0\0CR"),
        ("a Canon raw file (CRW)", "II\x1a\0\0\0HEAPCCDR"),
        ("an Olympus raw file (ORF)", "IIRO"),
        ("an Olympus raw file (ORF)", "IIRS"),
        ("an Olympus raw file (ORF)", "MMOR"),
        ("a Panasonic raw file (RW2)", "IIU\0"),
        ("a Fujifilm raw file (RAF)", "FUJIFILMCCD-RAW"),
        ("a Sigma raw file (X3F)", "FOVb"),
        ("a Minolta raw file (MRW)", "\0MRM"),
        advice=_EXPORT,
    ),
    *_rows(
        "image",
        ("a JPEG XL image", "\xff\x0a"),
        ("a JPEG XL image", "\0\0\0\x0cJXL \r\n\x87\n"),
        ("a JPEG XR image", "II\xbc\x01"),
        ("a FLIF image", "FLIF"),
        ("a BPG image", "BPG\xfb"),
        ("a farbfeld image", "farbfeld"),
        ("a JBIG2 image", "\x97JB2\r\n\x1a\n"),
        ("an animation (MNG)", "\x8aMNG\r\n\x1a\n"),
        ("a JNG image", "\x8bJNG\r\n\x1a\n"),
        ("an OpenEXR image", "v/1\x01"),
        ("a Radiance HDR image", "#?RADIANCE"),
        ("a Radiance HDR image", "#?RGBE"),
        ("a film scan (DPX)", "SDPX"),
        ("a film scan (DPX)", "XPDS"),
        ("a film scan (Cineon)", "\x80\x2a\x5f\xd7"),
        ("a texture (KTX)", "\xabKTX"),
        ("scientific data (GRIB)", "GRIB"),
        ("scientific data (BUFR)", "BUFR"),
        ("scientific data (HDF5)", "\x89HDF\r\n\x1a\n"),
        advice=_CONVERT,
    ),
    *_rows(
        "image",
        ("a large Photoshop file (PSB)", "8BPS\0\2"),
        ("a GIMP file (XCF)", "gimp xcf"),
        ("a drawing in PostScript (EPS)", "\xc5\xd0\xd3\xc6"),
        ("a drawing (WMF)", "\xd7\xcd\xc6\x9a"),
        ("a drawing (WMF)", "\1\0\x09\0\0\3"),
        advice=_PNG,
    ),
    *_rows("image", ("a drawing (EMF)", " EMF"), offset=40, advice=_PNG),
    *_rows("image", ("an IFF image (ILBM)", "ILBM"), ("an IFF image (PBM)", "PBM "), offset=8, advice=_CONVERT),
    *_rows("image", ("a PNG file made for iPhones (CgBI)", "CgBI"), offset=12, advice=_CONVERT),
    *_rows("image", ("a medical image (DICOM)", "DICM"), offset=128, advice=_CONVERT),
    *_rows(
        "image",
        ("JPEG", "\xff\xd8\xff"),
        ("PNG", "\x89PNG\r\n\x1a\n"),
        ("GIF", "GIF87a"),
        ("GIF", "GIF89a"),
        ("TIFF", "II*\0"),
        ("TIFF", "MM\0*"),
        ("TIFF", "II+\0"),
        ("TIFF", "MM\0+"),
        ("JPEG 2000", "\0\0\0\x0cjP  \r\n\x87\n"),
        ("JPEG 2000", "\xff\x4f\xff\x51"),
        ("Photoshop", "8BPS"),
        ("DDS", "DDS "),
        ("QOI", "qoif"),
        ("ICNS", "icns"),
        ("FITS", "SIMPLE  ="),
        ("SGI", "\x01\xda"),
        ("Sun raster", "\x59\xa6\x6a\x95"),
        ("BLP", "BLP1"),
        ("BLP", "BLP2"),
        ("XPM", "/* XPM */"),
    ),
    *_rows("image", ("WebP", "WEBP"), offset=8),
    *_rows("other", ("a Corel drawing", "CDR"), offset=8),
    *_rows("video", ("an AVI video", "AVI "), offset=8),
    *_rows(
        "audio", ("a WAV recording", "WAVE"), ("an AIFF recording", "AIFF"), ("an AIFF recording", "AIFC"), offset=8
    ),
    *_rows(
        "video",
        ("an MPEG video", "\0\0\1\xba"),
        ("an MPEG video", "\0\0\1\xb3"),
        ("a Windows Media file", "\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
        ("a Flash video", "FLV\x01"),
        ("a RealMedia video", ".RMF"),
        ("a Matroska or WebM video", "\x1a\x45\xdf\xa3"),
        ("a raw video (Y4M)", "YUV4MPEG2"),
        ("an MXF video", "\x06\x0e\x2b\x34"),
        ("a Flash animation", "FWS"),
        ("a Flash animation", "CWS"),
        ("a DV video", "\x1f\x07\0"),
    ),
    *_rows(
        "audio",
        ("an MP3 recording", "ID3"),
        ("an MP3 recording", "\xff\xfb"),
        ("an MP3 recording", "\xff\xf3"),
        ("an MP3 recording", "\xff\xf2"),
        ("an AAC recording", "\xff\xf1"),
        ("an AAC recording", "\xff\xf9"),
        ("a FLAC recording", "fLaC"),
        ("a MIDI file", "MThd"),
        ("an AMR recording", "#!AMR"),
        ("a WavPack recording", "wvpk"),
        ("a Monkey's Audio recording", "MAC "),
        ("an Apple audio file (CAF)", "caff"),
        ("an AU recording", ".snd"),
        ("a DSD recording", "DSD "),
    ),
    *_rows(
        "font",
        ("a PostScript font", "%!PS-AdobeFont"),
        ("a PostScript font", "%!FontType"),
        ("a TrueType font", "\0\1\0\0\0"),
        ("a TrueType font", "true\0"),
        ("an OpenType font", "OTTO"),
        ("a collection of fonts", "ttcf"),
        ("a web font (WOFF)", "wOFF"),
        ("a web font (WOFF2)", "wOF2"),
        ("an X11 font (PCF)", "\1fcp"),
        ("an X11 font (BDF)", "STARTFONT"),
    ),
    *_rows(
        "document",
        ("a PDF document", "%PDF-"),
        ("an RTF document", "{\\rtf"),
        ("a DjVu document", "AT&TFORM"),
        ("an Office document or another OLE file", "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
        ("a help file (CHM)", "ITSF"),
    ),
    *_rows(
        "archive",
        ("a RAR archive", "Rar!\x1a\x07"),
        ("a 7z archive", "7z\xbc\xaf\x27\x1c"),
        ("a gzip file", "\x1f\x8b\x08"),
        ("a bzip2 file", "BZh"),
        ("an xz file", "\xfd7zXZ\0"),
        ("a Zstandard file", "\x28\xb5\x2f\xfd"),
        ("an LZ4 file", "\x04\x22\x4d\x18"),
        ("a compressed file (Z)", "\x1f\x9d"),
        ("a cabinet archive", "MSCF"),
        ("an archive (ar)", "!<arch>\n"),
        ("an archive (xar)", "xar!"),
        ("an archive (cpio)", "070701"),
        ("a ZIP archive", "PK\x03\x04"),
        ("a ZIP archive", "PK\x05\x06"),
    ),
    *_rows("archive", ("a tar archive", "ustar"), offset=257),
    *_rows("archive", ("an LHA archive", "-lh"), offset=2),
    *_rows(
        "program",
        ("a program (ELF)", "\x7fELF"),
        ("a program (Mach-O)", "\xcf\xfa\xed\xfe"),
        ("a program (Mach-O)", "\xce\xfa\xed\xfe"),
        ("a program (Mach-O or Java)", "\xca\xfe\xba\xbe"),
        ("a program (WebAssembly)", "\0asm"),
        ("a program (Android)", "dex\n"),
    ),
    *_rows("text", ("a script", "#!")),
    *_rows(
        "other",
        ("an SQLite database", "SQLite format 3\0"),
        ("a disk image", "conectix"),
        ("a disk image", "KDMV"),
        ("a disk image", "QFI\xfb"),
        ("a Windows shortcut", "L\0\0\0\x01\x14\x02\0"),
        ("Python data", "\x80\x04\x95"),
        ("NumPy data", "\x93NUMPY"),
    ),
]

_EXTENSIONS = {
    "image": (
        "jpg jpeg jpe jfif jif png apng gif bmp dib tif tiff webp heic heif hif avif jp2 j2k jpx jpf j2c ico "
        "cur icns psd tga icb vda vst pcx dcx ppm pgm pbm pnm pfm pam sgi rgb rgba bw dds qoi xbm xpm fits "
        "fit fts im msp ras sun blp mpo pcd pxr fli flc wal ftc ftu gbr xvthumb spi jps insp jxl jxr wdp hdr "
        "exr xcf psb eps svg svgz dcm"
    ),
    "video": (
        "mp4 m4v mov qt mkv webm avi mpg mpeg mpe m2v m1v ts mts m2ts m2t vob wmv asf flv f4v 3gp 3g2 ogv rm "
        "rmvb mxf dv lrv insv braw r3d divx swf trec"
    ),
    "audio": "mp3 m4a m4b aac wav flac ogg oga opus wma aiff aif aifc amr mid midi ape wv caf au",
    "document": (
        "pdf doc docx xls xlsx ppt pptx odt ods odp odg rtf epub mobi azw3 pages numbers key djvu chm xps msg eml"
    ),
    "archive": "zip cbz rar cbr 7z tar gz tgz bz2 tbz xz txz zst lz4 cab lzh jar iso dmg",
    "sidecar": "xmp aae thm pp3 dop cos vrd nksc on1 arp",
    "text": (
        "txt md rst csv tsv json jsonl xml html htm css js py c h cpp java go rs sh bat ps1 ini cfg conf toml "
        "yaml yml log tex bib srt vtt sub nfo url m3u m3u8 gpx kml geojson sql diff patch"
    ),
    "program": "exe dll so dylib msi apk class pyc o a app deb rpm sys com",
    "font": "ttf otf ttc woff woff2 pfb bdf pcf fon",
    "other": (
        "db sqlite sqlite3 lrcat lrdata mdb vhd vmdk img dat pkl npy npz parquet h5 lnk tmp bak part crdownload torrent"
    ),
}
_KIND_OF_EXTENSION = {extension: kind for kind, extensions in _EXTENSIONS.items() for extension in extensions.split()}
_RAW_EXTENSIONS = {
    **dict.fromkeys(("nef", "nrw"), "Nikon"),
    **dict.fromkeys(("cr2", "cr3", "crw"), "Canon"),
    **dict.fromkeys(("arw", "sr2", "srf"), "Sony"),
    **dict.fromkeys(("orf", "ori"), "Olympus"),
    **dict.fromkeys(("rw2", "rwl", "raw"), "camera"),
    **dict.fromkeys(("pef", "ptx"), "Pentax"),
    **dict.fromkeys(("dcr", "kdc", "k25"), "Kodak"),
    **dict.fromkeys(("3fr", "fff"), "Hasselblad"),
    "raf": "Fujifilm",
    "srw": "Samsung",
    "x3f": "Sigma",
    "mrw": "Minolta",
    "iiq": "Phase One",
    "mos": "Leaf",
    "mef": "Mamiya",
    "erf": "Epson",
    "dng": "camera",
    "gpr": "GoPro",
}
# Brands of ISO base media files (ISO/IEC 14496-12; registered at https://mp4ra.org). What is not here is a video.
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_AVIF_BRANDS = {b"avif", b"avis"}
_AUDIO_BRANDS = {b"M4A ", b"M4B ", b"M4P ", b"aax ", b"F4A ", b"F4B "}
_QUICKTIME_ATOMS = {b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}  # of films older than ftyp
_ZIP_DOCUMENTS = re.compile(
    rb"\[Content_Types\]\.xml|_rels/|mimetypeapplication/(epub|vnd\.(oasis|sun))|^word/|^xl/|^ppt/"
)
_ZIP_DRAWINGS = re.compile(rb"mimetype(application/x-krita|image/openraster)")


def kind_of(head: bytes, name: str = "") -> FileKind:
    """What a file is.

    Args:
        head: Its first bytes, `HEAD_BYTES` of them if it has as many.
        name: Its name or path; only what stands behind the last dot counts, and only where the bytes leave it open.
    """
    head = head[:HEAD_BYTES]
    extension = os.path.splitext(name)[1].lower().removeprefix(".")  # noqa: PTH122 (a name may be no path)
    if extension in ("xmp", "aae", "thm"):  # a THM is a JPEG: a video's or raw file's thumbnail, stored beside it
        return FileKind("sidecar", f"a sidecar of another file ({extension.upper()})")
    by_name = _by_name(name, extension)
    if head[4:8] == b"ftyp":
        return _iso_media(head)
    if head[4:8] in _QUICKTIME_ATOMS and not _is_text(head):
        return FileKind("video", "a QuickTime video")
    for offset, magic, kind in _MAGICS:
        if head.startswith(magic, offset):
            return _closer_look(kind, head, extension)
    if _is_transport_stream(head):
        return FileKind("video", "an MPEG transport stream")
    if head.startswith(b"OggS"):
        is_video = b"theora" in head or b"OVP80" in head
        return FileKind("video", "an Ogg video") if is_video else FileKind("audio", "an Ogg recording")
    if head.startswith(b"MZ") and by_name.kind != "image":
        return FileKind("program", "a Windows program")
    if head.startswith(b"BM") and head[15:18] == b"\0\0\0":  # the size of its header, below 256
        return FileKind("image", "BMP")
    if re.match(rb"P[1-7Ffy][\s#]", head):
        return FileKind("image", "PNM")
    if head[:4] in (b"\0\0\1\0", b"\0\0\2\0") and by_name.name != "TGA":
        return FileKind("image", "ICO or CUR", is_sure=False)
    if _is_text(head):
        return _text(head, by_name)
    return by_name


def names_an_image(name: str) -> bool:
    """Whether what stands behind the last dot of a name is said of images, whatever is in the file."""
    extension = os.path.splitext(name)[1].lower().removeprefix(".")  # noqa: PTH122
    return extension in _RAW_EXTENSIONS or _KIND_OF_EXTENSION.get(extension) == "image"


def _by_name(name: str, extension: str) -> FileKind:
    if extension in _RAW_EXTENSIONS:
        maker = _RAW_EXTENSIONS[extension]
        return FileKind("image", f"a {maker} raw file ({extension.upper()})", _EXPORT, is_sure=False)
    if extension in ("json", "xml") and _KIND_OF_EXTENSION.get(_inner_extension(name)) in ("image", "video"):
        return FileKind("sidecar", f"a sidecar of another file ({extension.upper()})", is_sure=False)
    if extension not in _KIND_OF_EXTENSION:
        return _UNKNOWN
    kind = _KIND_OF_EXTENSION[extension]
    return FileKind(kind, extension.upper() if kind == "image" else f"{_A[kind]} ({extension.upper()})", is_sure=False)


_A = {
    "video": "a video",
    "audio": "a recording",
    "document": "a document",
    "archive": "an archive",
    "sidecar": "a sidecar of another file",
    "text": "text",
    "program": "a program",
    "font": "a font",
    "other": "data",
}


def _inner_extension(name: str) -> str:
    """Of `photo.jpg.json`: jpg; of what Google Takeout writes, `photo.jpg.supplemental-metadata.json`, too."""
    stem = os.path.splitext(name)[0].lower()  # noqa: PTH122
    found = re.search(r"\.(\w{2,4})(\(\d+\))?(\.supp[\w-]*(\(\d+\))?)?$", stem)
    return found[1] if found else ""


def _closer_look(kind: FileKind, head: bytes, extension: str) -> FileKind:
    match kind.name:
        case "TIFF":
            return _tiff(head, extension)
        case "a ZIP archive":
            if _ZIP_DRAWINGS.search(head, 30):
                return FileKind("image", "a layered drawing (KRA or ORA)", _PNG)
            is_document = _ZIP_DOCUMENTS.search(head, 30) or _KIND_OF_EXTENSION.get(extension) == "document"
            return FileKind("document", "an Office document or book") if is_document else kind
        case "a PDF document" if extension == "ai":
            return FileKind("document", "an Illustrator drawing")
        case "an Office document or another OLE file" if extension in ("fpx", "mic"):
            return FileKind("image", f"a {extension.upper()} image", _CONVERT)
        case "a Windows Media file" if extension == "wma":
            return FileKind("audio", "a Windows Media recording")
        case "a script" if head.startswith((b"#!AMR", b"#!SILK")):
            return FileKind("audio", "a recording")
    return kind


def _iso_media(head: bytes) -> FileKind:
    size = struct.unpack(">I", head[:4])[0]
    brands = {head[at : at + 4] for at in (8, *range(16, min(max(size, 16), len(head)), 4))}
    major = head[8:12]
    if major == b"crx ":
        return FileKind("image", "a Canon raw file (CR3)", _EXPORT)
    if major in (b"jp2 ", b"jpx ", b"jpm "):
        return FileKind("image", "JPEG 2000")
    if major in _AVIF_BRANDS or (major in (b"mif1", b"msf1", b"miaf") and brands & _AVIF_BRANDS):
        return FileKind("image", "AVIF")
    if major in _HEIF_BRANDS or major in (b"mif1", b"msf1", b"mif2", b"miaf"):
        return FileKind("image", "HEIC")
    if major in _AUDIO_BRANDS:
        return FileKind("audio", "an MPEG-4 recording")
    if major == b"jxl ":
        return FileKind("image", "a JPEG XL image", _CONVERT)
    return FileKind("video", "a QuickTime video" if major == b"qt  " else "an MPEG-4 video")


def _tiff(head: bytes, extension: str) -> FileKind:
    """A TIFF file, or what a camera made of that format."""
    if extension in _RAW_EXTENSIONS:
        return _by_name("", extension)
    order = "<" if head.startswith(b"II") else ">"
    tags: dict[int, tuple[int, int]] = {}
    if head[2:4] in (b"*\0", b"\0*"):
        at = struct.unpack(f"{order}I", head[4:8].ljust(4, b"\0"))[0]
        for entry in range(at + 2, min(at + 2 + 12 * 64, len(head) - 11), 12):
            tag, _, count, value = struct.unpack(f"{order}HHII", head[entry : entry + 12])
            tags[tag] = (count, value)
    if 50706 in tags:  # DNGVersion, DNG 1.7
        return FileKind("image", "a camera raw file (DNG)", _EXPORT)
    # TIFF/EP (ISO 12234-2): the first directory holds a thumbnail (NewSubfileType 1), SubIFDs what the sensor saw.
    if 330 in tags and tags.get(254, (0, 0))[1] & 1:
        length, place = tags.get(271, (0, 0))
        maker = head[place : place + length].split(b"\0")[0].split(b" ")[0].decode("ascii", "replace").capitalize()
        return FileKind("image", f"a {maker or 'camera'} raw file", _EXPORT)
    return FileKind("image", "TIFF")


def _is_transport_stream(head: bytes) -> bool:
    """ISO/IEC 13818-1: a packet of 188 bytes begins with 47; Blu-ray writes 4 more before each."""
    return any(
        len(head) > start + 2 * step and all(head[start + step * n] == 0x47 for n in range(min(5, len(head) // step)))
        for start, step in ((0, 188), (4, 192))
    )


def _is_text(head: bytes) -> bool:
    if head.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        return True
    return head != b"" and not re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]", head) and _is_utf8(head)


def _is_utf8(head: bytes) -> bool:
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4 and len(head) == HEAD_BYTES  # cut off within a character
    return True


def _text(head: bytes, by_name: FileKind) -> FileKind:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    lower = start[:1024].lower()
    if start.startswith(b"%!"):
        return FileKind("image", "a drawing in PostScript (EPS)", _PNG)
    if re.search(rb"<svg[\s>]", lower) and not lower.startswith((b"<!doctype html", b"<html")):
        return FileKind("image", "a drawing (SVG)", _PNG)
    if start.startswith((b"<x:xmpmeta", b"<?xpacket")) or b"<x:xmpmeta" in lower:
        return FileKind("sidecar", "a sidecar of another file (XMP)")
    if re.match(rb"(/\*|#define)", start) and (b"_bits[]" in head or re.search(rb"#define\s+\S*width\s", head)):
        return FileKind("image", "XBM")
    if lower.startswith((b"<!doctype html", b"<html", b"<head")):
        return FileKind("text", "an HTML page")
    if re.match(rb"image type:", lower):
        return FileKind("image", "IM")
    if by_name.kind == "image":  # a name is not enough to make an image of a text, but it says what was expected
        return FileKind("text", "text")
    return by_name if by_name.kind != "other" or by_name.name else FileKind("text", "text")
