"""The entries of a zip file: by its table of contents, or where that is missing, one after the other."""

from __future__ import annotations

import calendar
import stat
import struct
import zipfile
import zlib
from collections.abc import Generator, Sequence
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from multimodal_search.media.archives.entry import CHUNK_BYTES, Entry, InflationBudget, RefusedError
from multimodal_search.media.archives.names import NamesInTurn, decoded_names, distinct

_READABLE = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # zipfile inflates the others without any bound
_OTHER_METHODS = {9: "deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard"}
_ENCRYPTED, _SIZES_FOLLOW, _UTF8 = 0x1, 0x8, 0x800  # bits of a header's flags

_FILE = b"PK\x03\x04"
_DIRECTORY = b"PK\x01\x02"
_SIZES = b"PK\x07\x08"


def zip_entries(path: Path, meter: InflationBudget) -> Generator[Entry, None, None]:
    """Every entry that is no folder; of several with one name, the last.

    The table of contents stands at the end and is held in memory, about half a kilobyte for each entry. Where it is
    missing, as in half a download, the files are found one after the other, and an error comes at the end.

    Raises:
        Exception: Whatever zipfile and zlib raise where the file is cut off or damaged.
    """
    with path.open("rb") as file:
        try:
            archive = zipfile.ZipFile(file)
        except Exception as error:  # noqa: BLE001 (damage makes zipfile raise nearly anything)
            file.seek(0)
            yield from _without_directory(file, meter, error)
            return
        with archive:
            # By the name as it is written: zipfile cuts the other one off at a NUL.
            infos = list({(info.orig_filename, info.flag_bits & _UTF8): info for info in archive.infolist()}.values())
            for info, name in zip(infos, _names(infos), strict=True):
                if not name.endswith(("/", "\\")):
                    yield _entry(archive, info, name, meter)


def _names(infos: Sequence[zipfile.ZipInfo]) -> list[str]:
    """The names of entries; zipfile has read as code page 437, where each byte is a letter, what may be anything."""
    unmarked = [info for info in infos if not info.flag_bits & _UTF8]
    decoded = iter(decoded_names([(info.orig_filename.encode("cp437"), info.extra) for info in unmarked]))
    return distinct([info.orig_filename if info.flag_bits & _UTF8 else next(decoded) for info in infos])


def _entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, meter: InflationBudget) -> Entry:
    opened: zipfile.ZipExtFile | None = None

    def read(size: int) -> bytes:
        nonlocal opened
        try:
            if opened is None:
                opened = archive.open(info)  # type: ignore[assignment]  # declared as IO[bytes]
            assert opened is not None  # noqa: S101 (for mypy)
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


def _refusal(flags: int, method: int, unix_mode: int = 0) -> str | None:
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
    """Nanoseconds since 1970, of a time without a zone taken as UTC, so that it is the same on every machine."""
    try:
        return calendar.timegm(datetime(*date_time).timetuple()) * 1_000_000_000
    except ValueError:
        return None


# -- without a table of contents ---------------------------------------------------------------------------------------


def _without_directory(file: BinaryIO, meter: InflationBudget, error: Exception) -> Generator[Entry, None, None]:
    """What can be found by going from file to file, and then `error`, with how many that were."""
    count = 0
    names = NamesInTurn()
    while True:
        header = file.read(30)
        if len(header) < 30 or not header.startswith(_FILE):
            break
        flags, method, time, date, crc, packed, size, name_length, extra_length = struct.unpack("<6xHHHHIIIHH", header)
        name = file.read(name_length)
        extra = file.read(extra_length)
        if len(name) + len(extra) < name_length + extra_length:
            break
        if 0xFFFFFFFF in (packed, size):
            size, packed = _long_sizes(extra)
        sizes_follow = bool(flags & _SIZES_FOLLOW)
        refusal = _refusal(flags, method)
        if sizes_follow and (refusal is not None or method == zipfile.ZIP_STORED):
            break  # nothing tells where it ends
        content = _Content(
            file, meter, deflated=method != zipfile.ZIP_STORED, size_and_crc=None if sizes_follow else (packed, crc)
        )
        count += 1
        try:
            written_name = name.decode() if flags & _UTF8 else names.read(name, extra)
        except UnicodeDecodeError:  # marked as what it is not
            written_name = names.read(name, extra)
        if not written_name.endswith(("/", "\\")):
            yield Entry(
                raw_name=written_name,
                size_bytes=None if sizes_follow else size,
                mtime_ns=_mtime_ns(_dos_time(date, time)),
                refusal=refusal,
                read=content.read,
            )
        content.skip()
    raise zipfile.BadZipFile(
        f"its table of contents is missing or damaged ({error}); without it, {count:,} files were found"
    )


def _long_sizes(extra: bytes) -> tuple[int, int]:
    """The size and the packed size in a header's zip64 field, which always has both (APPNOTE.TXT, 4.5.3)."""
    while len(extra) >= 4:
        kind, length = struct.unpack("<HH", extra[:4])
        if kind == 1 and length >= 16 and len(extra) >= 20:
            size, packed = struct.unpack("<QQ", extra[4:20])
            return size, packed
        extra = extra[4 + length :]
    raise zipfile.BadZipFile("a header lacks its sizes")


def _dos_time(date: int, time: int) -> tuple[int, int, int, int, int, int]:
    return (date >> 9) + 1980, date >> 5 & 15, date & 31, time >> 11, time >> 5 & 63, (time & 31) * 2


class _Content:
    """The content of a file whose header has just been read; leaves the position behind it.

    Args:
        file: The archive.
        meter: Counts what is inflated.
        deflated: Whether it is compressed.
        size_and_crc: Its bytes in the archive and the checksum of its content; None if they follow the content.
    """

    def __init__(
        self, file: BinaryIO, meter: InflationBudget, *, deflated: bool, size_and_crc: tuple[int, int] | None
    ) -> None:
        self._file = file
        self._meter = meter
        self._start = file.tell()
        self._size_and_crc = size_and_crc
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS) if deflated else None
        self._crc = 0
        self._ended = False

    def read(self, size: int) -> bytes:
        """The next bytes; none at the end."""
        if self._ended:
            return b""
        data = self._stored(size) if self._inflater is None else self._inflated(self._inflater, size)
        self._meter.take(len(data))
        self._crc = zlib.crc32(data, self._crc)
        if not data:
            self._ended = True
            crc = self._size_and_crc[1] if self._size_and_crc is not None else self._following_crc()
            if crc != self._crc:
                raise RefusedError("damaged: its checksum does not fit")
        return data

    def skip(self) -> None:
        """Go behind the content, whatever of it has been read."""
        if self._size_and_crc is not None:
            self._file.seek(self._start + self._size_and_crc[0])
            return
        try:
            while self.read(CHUNK_BYTES):
                pass
        except RefusedError:
            pass  # nobody wanted it

    def _packed(self, size: int) -> bytes:
        """The next bytes as they are in the archive."""
        if self._size_and_crc is not None:
            size = min(size, self._start + self._size_and_crc[0] - self._file.tell())
        return self._file.read(size)

    def _stored(self, size: int) -> bytes:
        assert self._size_and_crc is not None  # noqa: S101 (the caller sees to it)
        data = self._packed(size)
        if not data and self._file.tell() < self._start + self._size_and_crc[0]:
            raise EOFError("it ends in the middle of a file")
        return data

    def _inflated(self, inflater: zlib._Decompress, size: int) -> bytes:
        while not inflater.eof:
            packed = inflater.unconsumed_tail or self._packed(CHUNK_BYTES)
            if not packed:
                raise EOFError("it ends in the middle of a file")
            try:
                data = inflater.decompress(packed, size)
            except zlib.error as error:
                if self._size_and_crc is None:
                    raise  # nothing tells where the next file begins
                raise RefusedError(f"damaged: {error}") from error
            if data:
                return data
        return b""

    def _following_crc(self) -> int:
        """The checksum behind the content: with or without a mark, and before sizes of 4 or of 8 bytes each."""
        assert self._inflater is not None  # noqa: S101 (the caller sees to it)
        end = self._file.tell() - len(self._inflater.unused_data)
        self._file.seek(end)
        tail = self._file.read(28)
        at = 4 if tail.startswith(_SIZES) else 0
        if len(tail) < at + 12:
            raise EOFError("it ends in the middle of a file")
        length = at + 12
        if tail[at + 20 : at + 24] in (_FILE, _DIRECTORY):
            length = at + 20
        self._file.seek(end + length)
        return int.from_bytes(tail[at : at + 4], "little")
