"""Detect the kind of a file by its first bytes, and by its name if these are ambiguous."""

from __future__ import annotations

import os
import re
import struct

from multimodal_search.media.signatures import CONVERT, EXPORT, EXPORT_AS_PNG, SIGNATURES, UNKNOWN, FileKind

HEAD_BYTES = 4096
"""Number of first bytes that `kind_of` reads."""


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
# Brands of ISO base media files (ISO/IEC 14496-12; registered at https://mp4ra.org). All others are videos.
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_AVIF_BRANDS = {b"avif", b"avis"}
_AUDIO_BRANDS = {b"M4A ", b"M4B ", b"M4P ", b"aax ", b"F4A ", b"F4B "}
_QUICKTIME_ATOMS = {b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}  # of videos older than ftyp
_ZIP_DOCUMENTS = re.compile(
    rb"\[Content_Types\]\.xml|_rels/|mimetypeapplication/(epub|vnd\.(oasis|sun))|^word/|^xl/|^ppt/"
)
_ZIP_DRAWINGS = re.compile(rb"mimetype(application/x-krita|image/openraster)")


def kind_of(head: bytes, name: str = "") -> FileKind:
    """Detect the kind of a file.

    Args:
        head: The first bytes, up to `HEAD_BYTES`.
        name: Name or path; its extension decides only if the bytes are ambiguous.
    """
    head = head[:HEAD_BYTES]
    extension = os.path.splitext(name)[1].lower().removeprefix(".")  # noqa: PTH122 (a name may be no path)
    if extension in ("xmp", "aae", "thm"):  # THM: a JPEG thumbnail, stored beside a video or raw file
        return FileKind("sidecar", f"a sidecar of another file ({extension.upper()})")
    by_name = _by_name(name, extension)
    if head[4:8] == b"ftyp":
        return _iso_media(head)
    if head[4:8] in _QUICKTIME_ATOMS and not _is_text(head):
        return FileKind("video", "a QuickTime video")
    for offset, magic, kind in SIGNATURES:
        if head.startswith(magic, offset):
            return _closer_look(kind, head, extension)
    if _is_transport_stream(head):
        return FileKind("video", "an MPEG transport stream")
    if head.startswith(b"OggS"):
        is_video = b"theora" in head or b"OVP80" in head
        return FileKind("video", "an Ogg video") if is_video else FileKind("audio", "an Ogg recording")
    if head.startswith(b"MZ") and by_name.kind != "image":
        return FileKind("program", "a Windows program")
    if head.startswith(b"BM") and head[15:18] == b"\0\0\0":  # size of its header, below 256
        return FileKind("image", "BMP")
    if re.match(rb"P[1-7Ffy][\s#]", head):
        return FileKind("image", "PNM")
    if head[:4] in (b"\0\0\1\0", b"\0\0\2\0") and by_name.name != "TGA":
        return FileKind("image", "ICO or CUR", is_sure=False)
    if _is_text(head):
        return _text(head, by_name)
    return by_name


def names_an_image(name: str) -> bool:
    """Whether a file name has the extension of an image format."""
    extension = os.path.splitext(name)[1].lower().removeprefix(".")  # noqa: PTH122
    return extension in _RAW_EXTENSIONS or _KIND_OF_EXTENSION.get(extension) == "image"


def _by_name(name: str, extension: str) -> FileKind:
    if extension in _RAW_EXTENSIONS:
        maker = _RAW_EXTENSIONS[extension]
        return FileKind("image", f"a {maker} raw file ({extension.upper()})", EXPORT, is_sure=False)
    if extension in ("json", "xml") and _KIND_OF_EXTENSION.get(_inner_extension(name)) in ("image", "video"):
        return FileKind("sidecar", f"a sidecar of another file ({extension.upper()})", is_sure=False)
    if extension not in _KIND_OF_EXTENSION:
        return UNKNOWN
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
    """The inner extension: jpg of `photo.jpg.json`, and of Google Takeout's `photo.jpg.supplemental-metadata.json`."""
    stem = os.path.splitext(name)[0].lower()  # noqa: PTH122
    found = re.search(r"\.(\w{2,4})(\(\d+\))?(\.supp[\w-]*(\(\d+\))?)?$", stem)
    return found[1] if found else ""


def _closer_look(kind: FileKind, head: bytes, extension: str) -> FileKind:
    match kind.name:
        case "TIFF":
            return _tiff(head, extension)
        case "a ZIP archive":
            if _ZIP_DRAWINGS.search(head, 30):
                return FileKind("image", "a layered drawing (KRA or ORA)", EXPORT_AS_PNG)
            is_document = _ZIP_DOCUMENTS.search(head, 30) or _KIND_OF_EXTENSION.get(extension) == "document"
            return FileKind("document", "an Office document or book") if is_document else kind
        case "a PDF document" if extension == "ai":
            return FileKind("document", "an Illustrator drawing")
        case "an Office document or another OLE file" if extension in ("fpx", "mic"):
            return FileKind("image", f"a {extension.upper()} image", CONVERT)
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
        return FileKind("image", "a Canon raw file (CR3)", EXPORT)
    if major in (b"jp2 ", b"jpx ", b"jpm "):
        return FileKind("image", "JPEG 2000")
    if major in _AVIF_BRANDS or (major in (b"mif1", b"msf1", b"miaf") and brands & _AVIF_BRANDS):
        return FileKind("image", "AVIF")
    if major in _HEIF_BRANDS or major in (b"mif1", b"msf1", b"mif2", b"miaf"):
        return FileKind("image", "HEIC")
    if major in _AUDIO_BRANDS:
        return FileKind("audio", "an MPEG-4 recording")
    if major == b"jxl ":
        return FileKind("image", "a JPEG XL image", CONVERT)
    return FileKind("video", "a QuickTime video" if major == b"qt  " else "an MPEG-4 video")


def _tiff(head: bytes, extension: str) -> FileKind:
    """A TIFF file, or a camera's raw format based on TIFF."""
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
        return FileKind("image", "a camera raw file (DNG)", EXPORT)
    # TIFF/EP (ISO 12234-2): the first directory holds a thumbnail (NewSubfileType 1), SubIFDs what the sensor saw.
    if 330 in tags and tags.get(254, (0, 0))[1] & 1:
        length, place = tags.get(271, (0, 0))
        maker = head[place : place + length].split(b"\0")[0].split(b" ")[0].decode("ascii", "replace").capitalize()
        return FileKind("image", f"a {maker or 'camera'} raw file", EXPORT)
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
        return error.start > len(head) - 4 and len(head) == HEAD_BYTES  # cut within a character
    return True


def _text(head: bytes, by_name: FileKind) -> FileKind:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    lower = start[:1024].lower()
    if start.startswith(b"%!"):
        return FileKind("image", "a drawing in PostScript (EPS)", EXPORT_AS_PNG)
    if re.search(rb"<svg[\s>]", lower) and not lower.startswith((b"<!doctype html", b"<html")):
        return FileKind("image", "a drawing (SVG)", EXPORT_AS_PNG)
    if start.startswith((b"<x:xmpmeta", b"<?xpacket")) or b"<x:xmpmeta" in lower:
        return FileKind("sidecar", "a sidecar of another file (XMP)")
    if re.match(rb"(/\*|#define)", start) and (b"_bits[]" in head or re.search(rb"#define\s+\S*width\s", head)):
        return FileKind("image", "XBM")
    if lower.startswith((b"<!doctype html", b"<html", b"<head")):
        return FileKind("text", "an HTML page")
    if re.match(rb"image type:", lower):
        return FileKind("image", "IM")
    if by_name.kind == "image":  # a text is not an image, whatever its name
        return FileKind("text", "text")
    return by_name if by_name.kind != "other" or by_name.name else FileKind("text", "text")
