"""Entries of a zip file, by its table of contents (central directory)."""

from __future__ import annotations

import calendar
import os
import stat
import struct
import zipfile
from collections.abc import Callable, Generator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO, TypeAlias, cast

from multimodal_search.media.archives.entry import Entry, InflationBudget
from multimodal_search.media.archives.names import decoded_names, distinct, fits
from multimodal_search.media.refusals import RefusedError

_Opened: TypeAlias = IO[bytes] | zipfile.ZipExtFile

_READABLE = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # zipfile inflates the others without any bound
_OTHER_METHODS = {9: "deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard"}
_ENCRYPTED, _UTF8 = 0x1, 0x800  # bits of a header's flags
# APPNOTE.TXT, 4.3.7 and 4.3.12: headers of a file and of its line in the table of contents, up to the name.
_FILE, _HEADER_BYTES = b"PK\x03\x04", 30
_DIRECTORY, _DIRECTORY_BYTES = b"PK\x01\x02", 46


def zip_entries(path: Path, meter: InflationBudget) -> Generator[Entry, None, None]:
    """Yield every entry that is not a folder; of several with one name, the last.

    The table of contents is at the end of the file, and is held in memory: about 0.5 kB for each entry.

    Raises:
        RefusedError: The table of contents is missing, as after an interrupted download, or damaged.
    """
    with path.open("rb") as file:
        try:
            archive, has_bad_names = _opened(file)
        except Exception as error:
            raise RefusedError(
                f"its table of contents is missing or damaged ({error}), as after an interrupted download: download "
                f"it again, or repair it with: zip -FF {path.name} --out repaired.zip"
            ) from error
        with archive:
            # By the name as written: zipfile truncates the other one at a NUL.
            infos = list({(info.orig_filename, info.flag_bits & _UTF8): info for info in archive.infolist()}.values())
            for info, name in zip(infos, _names(infos), strict=True):
                if not name.endswith(("/", "\\")):
                    opener = partial(_without_its_name, file) if has_bad_names else archive.open
                    yield _entry(partial(opener, info), info, name, meter)


def _opened(file: BinaryIO) -> tuple[zipfile.ZipFile, bool]:
    """The archive, and whether it has names marked as UTF-8 that are not, which zipfile refuses to read."""
    try:
        return zipfile.ZipFile(file), False
    except UnicodeDecodeError:
        # cast: zipfile needs no more than tell, seek and read, but is declared to take whole file objects
        return zipfile.ZipFile(cast("BinaryIO", _UnmarkedNames(file))), True


class _UnmarkedNames:
    """A zip file; in its table of contents, the UTF-8 mark of names that are not UTF-8 is removed while reading."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        data = bytearray(self._file.read(size))
        at = 0
        while data.startswith(_DIRECTORY, at) and at + _DIRECTORY_BYTES <= len(data):
            flags = int.from_bytes(data[at + 8 : at + 10], "little")
            lengths = struct.unpack_from("<HHH", data, at + 28)  # of name, extra field and comment
            name = data[at + _DIRECTORY_BYTES : at + _DIRECTORY_BYTES + lengths[0]]
            if flags & _UTF8 and not fits(name, "utf-8"):
                data[at + 8 : at + 10] = (flags & ~_UTF8).to_bytes(2, "little")
            at += _DIRECTORY_BYTES + sum(lengths)
        return bytes(data)


def _without_its_name(file: BinaryIO, info: zipfile.ZipInfo) -> zipfile.ZipExtFile:
    """Open an entry as zipfile does, without comparing the name in its local header."""
    file.seek(info.header_offset)
    header = file.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES or not header.startswith(_FILE):
        raise zipfile.BadZipFile("the table of contents points to no entry")
    file.seek(sum(struct.unpack_from("<HH", header, 26)), os.SEEK_CUR)
    return zipfile.ZipExtFile(file, "r", info)


def _names(infos: Sequence[zipfile.ZipInfo]) -> list[str]:
    """Names of entries; zipfile has decoded those without the UTF-8 mark as code page 437: decode them again."""
    unmarked = [info for info in infos if not info.flag_bits & _UTF8]
    decoded = iter(decoded_names([(info.orig_filename.encode("cp437"), info.extra) for info in unmarked]))
    return distinct([info.orig_filename if info.flag_bits & _UTF8 else next(decoded) for info in infos])


def _entry(open_it: Callable[[], _Opened], info: zipfile.ZipInfo, name: str, meter: InflationBudget) -> Entry:
    opened: _Opened | None = None

    def read(size: int) -> bytes:
        nonlocal opened
        try:
            if opened is None:
                opened = open_it()
            data = opened.read(size)
            if not data:
                opened.close()
        except Exception as error:
            raise RefusedError(f"damaged: {error or type(error).__name__}") from error
        meter.take(len(data))
        return data

    unix_mode = info.external_attr >> 16 if info.create_system == 3 else 0
    return Entry(
        raw_name=name,
        size_bytes=info.file_size,
        mtime_ns=_mtime_ns(info.date_time),
        refusal=_refusal(info.flag_bits, info.compress_type, unix_mode),
        read=read,
    )


def _refusal(flags: int, method: int, unix_mode: int) -> str | None:
    if stat.S_ISLNK(unix_mode):
        return "a link; links in archives are not followed"
    if stat.S_IFMT(unix_mode) not in (0, stat.S_IFREG):
        return "not a regular file"
    if flags & _ENCRYPTED:
        return "encrypted; unpack the archive with its password"
    if method not in _READABLE:
        name = _OTHER_METHODS.get(method, f"method {method}")
        return f"compressed with {name}, which is not read; repack the archive with deflate"
    return None


def _mtime_ns(date_time: tuple[int, int, int, int, int, int]) -> int | None:
    """Nanoseconds since 1970; a time without a zone is taken as UTC, so that it is the same on every machine."""
    try:
        return calendar.timegm(datetime(*date_time).timetuple()) * 1_000_000_000
    except ValueError:
        return None
