"""Texts that are paths: embedded as words their letters cost money, and find nonsense without a word."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

_IMAGES = """
    3fr apng arw avif avifs bmp bpg cr2 cr3 crw dcr dds dib dng emf eps erf exr gif hdr heic heics heif heifs hif icns
    ico iiq j2c j2k jfi jfif jif jng jp2 jpc jpe jpeg jpf jpg jpm jpx jxl jxr k25 kdc mef mng mos mpo mrw nef nrw orf
    pam pbm pcd pct pcx pef pfm pgm pict png pnm ppm ps psb psd ptx qoi raf raw rw2 rwl sgi sr2 srf srw svg svgz tga tif
    tiff wbmp wdp webp wmf x3f xbm xcf xpm
"""
_OTHERS = """
    3g2 3gp 7z aac aae aif aiff avi bin bz2 csv dat db doc docx epub exe flac flv gz htm html ini ipynb json jsonl log
    m2ts m4a m4v md mid mkv mov mp3 mp4 mpeg mpg mts ndjson npy npz odp ods odt ogg opus parquet pdf ppt pptx py rar rst
    rtf sh sqlite tar tex tgz thm toml tsv txt wav webm wmv xls xlsx xml xmp xz yaml yml zip zst
"""
_IMAGE_SUFFIXES = frozenset(f".{name}" for name in _IMAGES.split())
_SUFFIXES = _IMAGE_SUFFIXES | {f".{name}" for name in _OTHERS.split()}

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://|data:[a-z]+/", re.IGNORECASE)
_ROOTED = re.compile(r"[/\\]|~[\w.-]*[/\\]|\.{1,2}([/\\]|$)|[a-z]:[/\\]", re.IGNORECASE)
_SEPARATOR = re.compile(r"[/\\]")
_MAX_LENGTH = 4096  # characters of a path on Linux; no other system takes longer ones


def is_address(text: str) -> bool:
    """Whether a text is the address of something elsewhere, such as `https://...`."""
    return _ADDRESS.match(text.strip()) is not None


def is_path_of_image(text: str) -> bool:
    """Whether a text is clearly a path, or address, where words are expected.

    It is one if it ends as the names of images do and has a separator or no blanks; or if there is a file of that name,
    and it has a separator or ends as the names of files do. `and/or` and `photo.jpg of a dog` are words.
    """
    text = text.strip()
    if not _may_be_path(text):
        return False
    has_separator = _SEPARATOR.search(text) is not None
    suffix = _suffix(text)
    if suffix in _IMAGE_SUFFIXES and (has_separator or not re.search(r"\s", text)):
        return True
    return (has_separator or suffix in _SUFFIXES) and exists(text)


def is_path_of_nothing(text: str) -> bool:
    """Whether a text that is no file's path was meant as one, at a shell, where a path is as likely as words."""
    text = text.strip()
    if not _may_be_path(text):
        return False
    if _ROOTED.match(text) or text.endswith(("/", "\\")) or _suffix(text) in _SUFFIXES:
        return True
    first, *others = _SEPARATOR.split(text)
    return bool(others) and exists(first)


def exists(text: str) -> bool:
    """Whether there is something with this path."""
    with suppress(OSError, ValueError):  # too long for a name, or no name at all
        return bool(text) and Path(text).exists()
    return False


def _may_be_path(text: str) -> bool:
    return 0 < len(text) <= _MAX_LENGTH and text.isprintable()


def _suffix(text: str) -> str:
    name = _SEPARATOR.split(text)[-1]
    stem, dot, end = name.rpartition(".")
    return f".{end.lower()}" if stem.strip() and dot else ""
