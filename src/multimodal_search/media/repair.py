"""Repair image files: drop texts, profiles and animations, mend lengths and checksums; pixels stay the same.

Viewers show an image whose pixels are all there. Pillow reads all else as well, and gives up over some of it.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

_CHUNK_BYTES = 1024 * 1024
_MAX_ORIENTATION_BYTES = 1024 * 1024  # of an EXIF block; cameras write 64 kB at most
_PNG = b"\x89PNG\r\n\x1a\n"
# PNG (third edition), table 8: samples of each colour type; and table 17: the passes of an interlaced image.
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PNG_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_JPEG_NEEDED = {*range(0xC0, 0xD0), 0xDB, 0xDC, 0xDD} - {0xC8}  # frames, tables, restart intervals
# TIFF 6.0 and its supplements: the tags that decoders need.
_TIFF_NEEDED = {
    *(254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325),
    *(332, 338, 339, 347, 512, 513, 514, 519, 520, 521, 529, 530, 532),
}


def without_extras(data: bytes) -> bytes | None:
    """An image file without anything that its pixels do not need; None for other formats."""
    if data.startswith(_PNG):
        return _png(data)
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data)
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _tiff(data)
    if data.startswith(b"\0\0\2\0"):
        return _icon(data)
    if data[4:8] == b"ftyp":
        # ISO/IEC 14496-12, 8.11.6: an item's entry names its type; one of an unknown type is passed over.
        return re.sub(rb"(infe.{8})Exif", rb"\1skip", data, flags=re.DOTALL)
    return None


# -- PNG ---------------------------------------------------------------------------------------------------------------


def _png(data: bytes) -> bytes:
    header, kept, pixels = b"", [], []
    for kind, body, whole, is_right in _png_chunks(data):
        match kind:
            case b"IHDR":
                header = body
                kept.append(whole)
            case b"PLTE":
                kept.append(whole)
            case b"tRNS" if is_right and len(body) == {0: 2, 2: 6}.get(header[9] if len(header) > 9 else 0, len(body)):
                kept += [whole] if body else []
            case b"eXIf" if is_right and len(body) < _MAX_ORIENTATION_BYTES:
                kept.append(whole)
            case b"zTXt" | b"tEXt" if is_right and body.startswith(b"Raw profile type exif\0"):
                kept += [whole] if _is_small(kind, body) else []
            case b"IDAT":
                pixels.append(body)
    if pixels:
        kept.append(_png_chunk(b"IDAT", _with_right_checksum(b"".join(pixels), header)))
    return b"".join([_PNG, *kept, _png_chunk(b"IEND", b"")])


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes, bool]]:
    """Type, content, the whole chunk, and whether its checksum is right; of a truncated chunk, what is there."""
    at = len(_PNG)
    while len(data) >= at + 12:
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        if not kind.isalpha():
            return
        whole = data[at : at + 12 + length]
        body = whole[8 : 8 + length]
        # Checksums of pixels are not checked, as in Pillow.
        yield kind, body, whole, kind == b"IDAT" or struct.pack(">I", zlib.crc32(whole[4:-4])) == whole[-4:]
        at += 12 + length
        if kind == b"IEND":
            return


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _is_small(kind: bytes, body: bytes) -> bool:
    if kind == b"tEXt":
        return len(body) < _MAX_ORIENTATION_BYTES
    try:
        inflater = zlib.decompressobj()
        inflater.decompress(body.partition(b"\0")[2][1:], _MAX_ORIENTATION_BYTES)
    except zlib.error:
        return False
    return inflater.eof


def _with_right_checksum(stream: bytes, header: bytes) -> bytes:
    """A zlib stream with the right checksum, if it holds all pixels."""
    if len(header) != 13:
        return stream
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    checksum, size, packed = 1, 0, stream[2:]
    expected = _png_size(header)
    try:
        while not inflater.eof and size <= expected + _CHUNK_BYTES:
            piece = inflater.decompress(packed, _CHUNK_BYTES)
            packed = inflater.unconsumed_tail
            if not piece and not packed:
                break
            checksum = zlib.adler32(piece, checksum)
            size += len(piece)
    except zlib.error:
        return stream
    if not inflater.eof or size < expected:
        return stream
    end = len(stream) - len(inflater.unused_data)
    return stream[:end] + struct.pack(">I", checksum)


def _png_size(header: bytes) -> int:
    """Size of the pixels of a PNG in bytes, with the filter byte of each row."""
    width, height, depth, colour_type, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    bits = depth * _PNG_SAMPLES.get(colour_type, 4)
    sizes = [(width, height)]
    if interlaced:
        sizes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in _PNG_PASSES]
    return sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sizes if columns > 0 and rows > 0)


# -- JPEG --------------------------------------------------------------------------------------------------------------


def _jpeg(data: bytes) -> bytes:
    kept = [b"\xff\xd8"]
    at = 2
    while (at := data.find(b"\xff", at)) >= 0:
        marker = data[at + 1] if at + 1 < len(data) else 0xD9
        if marker in (0x00, 0xFF):
            at += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without a length
            at += 2
            continue
        if marker in (0xD9, 0xDA):
            break
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + length]
        is_needed = marker in _JPEG_NEEDED or (
            (marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 14)
            or (marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12)
            or (marker == 0xE1 and body.startswith(b"Exif\0\0"))
        )
        if is_needed:
            kept.append(data[at : at + 2 + length])
        at += 2 + max(length, 2)
    return b"".join(kept) + (data[at:] if at >= 0 else b"")


def jpeg_scans(file: BinaryIO) -> int:
    """Count the scans from here to the end of a file; the position stays where it was."""
    start = file.tell()
    count, last = 0, b""
    while piece := file.read(_CHUNK_BYTES):
        # In coded data, FF is followed by 0 or by a restart number (ISO/IEC 10918-1, B.1.1.5).
        count += (last + piece).count(b"\xff\xda")
        last = piece[-1:]
    file.seek(start)
    return count


def has_all_scans(data: bytes) -> bool:
    """Whether the scans of a progressive JPEG hold every coefficient to its last bit (Annex G); else True."""
    frame = re.search(rb"\xff[\xc2\xc6\xca\xce]..(.....)(.)", data, re.DOTALL)
    start = data.find(b"\xff\xda")
    if frame is None or not 0 <= frame.start() < start:
        return True
    missing = {(component, k) for component in range(frame[2][0]) for k in range(64)}
    identifiers = {data[frame.end() + 3 * n]: n for n in range(frame[2][0]) if frame.end() + 3 * n < len(data)}
    while start >= 0:
        count = data[start + 4] if start + 4 < len(data) else 0
        scan = data[start + 5 : start + 8 + 2 * count]
        if count <= 4 and len(scan) == 2 * count + 3:
            first, last, bits = scan[-3:]
            if bits & 15 == 0:
                missing -= {
                    (identifiers.get(scan[2 * n], -1), k) for n in range(count) for k in range(first, min(last, 63) + 1)
                }
        start = data.find(b"\xff\xda", start + 2)
    return not missing


# -- WebP --------------------------------------------------------------------------------------------------------------


def _webp(data: bytes) -> bytes:
    kept = []
    at = 12
    while len(data) >= at + 8:
        kind, length = struct.unpack("<4sI", data[at : at + 8])
        chunk = data[at : at + 8 + length]
        chunk += bytes(length % 2 if len(chunk) == 8 + length else 0)  # at the end of a file it may be missing
        if kind == b"VP8X" and len(chunk) >= 9:
            chunk = chunk[:8] + bytes([chunk[8] & ~0x2C]) + chunk[9:]  # no profile, Exif, XMP (RFC 9649, 2.7)
        if kind in (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF"):
            kept.append(chunk)
        at += 8 + length + length % 2
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body


# -- CUR ---------------------------------------------------------------------------------------------------------------


def _icon(data: bytes) -> bytes:
    """Convert a cursor to an icon, which Pillow reads also with PNG inside; planes and bits replace the hotspot."""
    end = 6 + 16 * int.from_bytes(data[4:6], "little")
    entries = [
        data[at : at + 4] + b"\1\0\x20\0" + data[at + 8 : at + 16] for at in range(6, min(end, len(data) - 15), 16)
    ]
    return b"\0\0\1\0" + data[4:6] + b"".join(entries) + data[6 + 16 * len(entries) :]


# -- TIFF --------------------------------------------------------------------------------------------------------------


def _tiff(data: bytes) -> bytes | None:
    order = "<" if data.startswith(b"II") else ">"
    try:
        (at,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, at)
    except struct.error:
        return None
    entries = [data[place : place + 12] for place in range(at + 2, at + 2 + 12 * count, 12)]
    needed = [
        entry for entry in entries if len(entry) == 12 and struct.unpack(f"{order}H", entry[:2])[0] in _TIFF_NEEDED
    ]
    directory = struct.pack(f"{order}H", len(needed)) + b"".join(needed) + bytes(4)
    end = at + len(directory)
    return data[:at] + directory + data[end:] if len(needed) <= count else None
