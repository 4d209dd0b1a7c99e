"""Entries of a tar file, plain or compressed, in order."""

from __future__ import annotations

import bz2
import gzip
import lzma
import math
import tarfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, cast

from typing_extensions import Self

from multimodal_search._text import is_unicode
from multimodal_search.media.archives.entry import CHUNK_BYTES, Entry, InflationBudget, TooLargeError
from multimodal_search.media.archives.names import NamesInTurn

Compression: TypeAlias = Literal["none", "gz", "bz2", "xz"]

_MAX_HEADER_BYTES = 1024 * 1024  # tarfile holds a header in memory, whatever size it claims to have
_MAX_XZ_MEMORY_BYTES = 256 * 1024 * 1024  # xz -9 needs 65 MiB; a file may ask for 4 GiB


def tar_entries(path: Path, compression: Compression, meter: InflationBudget) -> Generator[Entry, None, None]:
    """Yield every entry that is not a folder; the caller reads each before it asks for the next.

    Raises:
        Exception: Whatever tarfile and the decompressors raise if the file is truncated or damaged.
    """
    with ExitStack() as stack:
        file = stack.enter_context(path.open("rb"))
        stream: _Stream
        match compression:
            case "none":
                stream = _Stream(file, seekable=True)
            case "gz":
                stream = _Stream(stack.enter_context(gzip.GzipFile(fileobj=file)), meter)
            case "bz2":
                stream = _Stream(stack.enter_context(bz2.BZ2File(file)), meter)
            case "xz":
                stream = _Stream(_XzFile(file), meter)
        # cast: tarfile needs no more than tell, seek and read, but is declared to take whole file objects
        archive = tarfile.TarFile(fileobj=cast("Any", stream), tarinfo=_Header, encoding="utf-8")
        names = NamesInTurn()
        while not stream.end_mark_seen and (header := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # typeshed leaves it out
            archive.pax_headers = {}  # else tarfile keeps every header it has seen
            if not header.isdir():
                yield _entry(header, _name(header.name, names), stream)


def _name(name: str, names: NamesInTurn) -> str:
    """The name of an entry; tarfile keeps invalid UTF-8 as surrogates."""
    return name if is_unicode(name) else names.read(name.encode("utf-8", "surrogateescape"))


def _entry(header: tarfile.TarInfo, name: str, stream: _Stream) -> Entry:
    left = header.size

    def read(size: int) -> bytes:
        nonlocal left
        if left == header.size:
            stream.seek(header.offset_data)
        data = stream.read(min(size, left))
        if not data and left:
            raise EOFError("it ends in the middle of a file")
        left -= len(data)
        return data

    return Entry(
        raw_name=name,
        size_bytes=header.size,
        mtime_ns=_mtime_ns(header.mtime),
        refusal=_refusal(header),
        read=read,
    )


def _refusal(header: tarfile.TarInfo) -> str | None:
    if header.issym() or header.islnk():
        return f"a link to {header.linkname!r}; links in archives are not followed"
    if header.issparse():
        return "a sparse file, which is not supported; pack it without --sparse"
    return None if header.isreg() and header.size >= 0 else "not a regular file"


def _mtime_ns(seconds: float) -> int | None:
    return int(seconds * 1_000_000_000) if math.isfinite(seconds) and abs(seconds) < 2**33 else None


class _Header(tarfile.TarInfo):
    """A header; a damaged one raises an error, where tarfile would take it as the end of the archive."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        stream = cast("_Stream", tarfile_.fileobj)
        try:
            with stream.bounded(_MAX_HEADER_BYTES):
                return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # typeshed leaves it out
            stream.end_mark_seen = True  # Python 3.10 would read on if there is nothing before it
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError("it ends too early" if stream.at_end else str(error)) from error


class _Source(Protocol):
    def read1(self, size: int, /) -> bytes: ...
    def seek(self, offset: int, /) -> int: ...


class _Stream:
    """The content of a tar file, read forwards only: headers that point backwards could loop for ever.

    Args:
        source: The file or its decompressor.
        meter: Budget for what is read.
        seekable: Whether data can be skipped without reading it.
    """

    def __init__(self, source: _Source, meter: InflationBudget | None = None, *, seekable: bool = False) -> None:
        self._source = source
        self._meter = meter
        self._seekable = seekable
        self._position = 0
        self._bound: int | None = None
        self.at_end = False
        self.end_mark_seen = False

    @contextmanager
    def bounded(self, size_bytes: int) -> Iterator[None]:
        """Limit the bytes read in the block; an inner limit has no effect."""
        before = self._bound
        if before is None:
            self._bound = self._position + size_bytes
        try:
            yield
        finally:
            self._bound = before

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        if position < self._position:
            raise tarfile.ReadError("a header points backwards")
        if self._seekable:
            self._source.seek(position)
            self._position = position
        while self._position < position and self.read(min(CHUNK_BYTES, position - self._position)):
            pass

    def read(self, size: int) -> bytes:
        if self._bound is not None and self._position + size > self._bound:
            raise TooLargeError(f"has a header of more than {_MAX_HEADER_BYTES:,} bytes")
        pieces = []
        while size > 0:
            # Not read(): if a damaged file makes it raise, what it has inflated so far is lost.
            piece = self._source.read1(min(size, CHUNK_BYTES))
            if not piece:
                self.at_end = True
                break
            if self._meter is not None:
                self._meter.take(len(piece))
            pieces.append(piece)
            size -= len(piece)
            self._position += len(piece)
        return b"".join(pieces)


class _XzFile:
    """The content of an xz file, inflated in bounded memory; `lzma.open` has no such setting."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._decompressor = self._new()

    @staticmethod
    def _new() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MAX_XZ_MEMORY_BYTES)

    def read1(self, size: int, /) -> bytes:
        while True:
            packed = b""
            if self._decompressor.eof:  # several streams may follow each other, with zeros between them
                packed = self._decompressor.unused_data.lstrip(b"\0")
                while not packed:
                    packed = self._file.read(CHUNK_BYTES)
                    if not packed:
                        return b""
                    packed = packed.lstrip(b"\0")
                self._decompressor = self._new()
            elif self._decompressor.needs_input:
                packed = self._file.read(CHUNK_BYTES)
                if not packed:
                    raise EOFError("it ends in the middle of the compressed data")
            data = self._decompressor.decompress(packed, size)
            if data:
                return data

    def seek(self, offset: int, /) -> int:
        raise NotImplementedError  # never called: not seekable
