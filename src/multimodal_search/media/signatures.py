"""Signatures: the first bytes by which file formats are told apart ("magic numbers")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

EXPORT = "export it as JPEG or TIFF"
CONVERT = "convert it to PNG or JPEG"
EXPORT_AS_PNG = "export it as PNG"


@dataclass(frozen=True, slots=True)
class FileKind:
    """Kind and format of a file.

    Attributes:
        kind: "image", "video", "audio", "document", "archive", "sidecar", "text", "program", "font" or "other".
        name: The format in words, such as "a QuickTime video"; empty if only `kind` is known.
        advice: What to do with an image of a format that is never decoded; empty for every other file.
        is_sure: Whether it was detected by the first bytes, not by the name alone.
    """

    kind: str
    name: str = ""
    advice: str = ""
    is_sure: bool = True

    @property
    def is_undecodable(self) -> bool:
        """Whether it is an image of a format that is never decoded."""
        return self.kind == "image" and self.advice != ""


UNKNOWN = FileKind("other", is_sure=False)

_Row: TypeAlias = tuple[int, bytes, FileKind]


def _rows(kind: str, *rows: tuple[str, str | bytes], offset: int = 0, advice: str = "") -> list[_Row]:
    """One row for each format: its name, and its bytes at an offset."""
    return [
        (offset, magic.encode("latin-1") if isinstance(magic, str) else magic, FileKind(kind, name, advice))
        for name, magic in rows
    ]


# From the formats' own specifications, as `file` (https://github.com/file/file/tree/master/magic) collects them.
# The first row that matches counts.
SIGNATURES: list[_Row] = [
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
        advice=EXPORT,
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
        advice=CONVERT,
    ),
    *_rows(
        "image",
        ("a large Photoshop file (PSB)", "8BPS\0\2"),
        ("a GIMP file (XCF)", "gimp xcf"),
        ("a drawing in PostScript (EPS)", "\xc5\xd0\xd3\xc6"),
        ("a drawing (WMF)", "\xd7\xcd\xc6\x9a"),
        ("a drawing (WMF)", "\1\0\x09\0\0\3"),
        advice=EXPORT_AS_PNG,
    ),
    *_rows("image", ("a drawing (EMF)", " EMF"), offset=40, advice=EXPORT_AS_PNG),
    *_rows("image", ("an IFF image (ILBM)", "ILBM"), ("an IFF image (PBM)", "PBM "), offset=8, advice=CONVERT),
    *_rows("image", ("a PNG file made for iPhones (CgBI)", "CgBI"), offset=12, advice=CONVERT),
    *_rows("image", ("a medical image (DICOM)", "DICM"), offset=128, advice=CONVERT),
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
