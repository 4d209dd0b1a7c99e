"""Checksums of the points of an in-process index, to compare stored data with what was written.

The file `checks` is a log of entries of 24 bytes: one for each point before it is written or deleted, and one that
confirms them when the engine has done so, with the number of points then. So it is right whenever the process is
killed: for unconfirmed entries, both the old and the new checksum are accepted. Confirmations hold a CRC-32 of all
entries before them. One log covers vectors, payloads, ids, index metadata and the schema, whatever the engine's files
look like.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from multimodal_search._files import atomic_write
from multimodal_search.types import FloatArray, PointId

CHECKS = "checks"
"""The name of the file in an index's folder."""

_ENTRY = struct.Struct("<BBxxI16s")  # kind, flags, CRC-32, id
_CONFIRMED = struct.Struct("<QQ")  # in place of an id: points that there are, entries that are confirmed
_WITHOUT_VECTOR = 1  # a flag
_INT, _UUID, _DELETED_INT, _DELETED_UUID, _CONFIRM, _FILE = range(1, 7)
_TAIL = 4_096 * _ENTRY.size  # read at opening: more than one write has
_COMPACT_FROM = 10_000  # entries in excess of two a point: below that, the log is not worth writing anew

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False).encode
_PLAIN = frozenset((str, int, bool, type(None)))
_has_number_to_round = re.compile(r"[:,\[]-?(?:[0-9]{1,18}[.e]|[0-9]{19})").search

Key = tuple[int, bytes]
"""The key of a checksum: a point's kind of id and its 16 bytes, or `_FILE` and the hash of a file's name."""


def payload_bytes(payload: Mapping[str, Any]) -> bytes | None:
    """Encode a payload as canonical JSON; None if the engine converts values of it in its own way."""
    try:
        text = _encode(payload)
        is_plain = _PLAIN.issuperset(map(type, payload.values()))  # as most are: its numbers are checked much faster
        if not _are_exact(payload.values()) if is_plain else _has_number_to_round(text):
            text = _encode(json.loads(text, parse_float=_rounded, parse_int=_integer))
        return text.encode()
    except (TypeError, ValueError):  # such as bytes; of a lone surrogate, which the engine refuses
        return None


def point_entry(key: PointId, row: FloatArray, payload: bytes, *, has_vector: bool = True) -> bytes:
    """The log entry of a written point, with or without its vector."""
    kind, identity = _key(key)
    if has_vector:
        return _ENTRY.pack(kind, 0, point_check(row, payload), identity)
    return _ENTRY.pack(kind, _WITHOUT_VECTOR, zlib.crc32(payload), identity)


def vector_of(point: Any) -> FloatArray | None:
    """The vector of an engine's point; None if it is lost, by damage to its files."""
    given = point.vector  # once: the engine makes the list at each access
    return np.asarray(given, np.float32) if isinstance(given, list) else None


def point_check(row: FloatArray, payload: bytes) -> int:
    """The CRC-32 of a point."""
    return zlib.crc32(row.data, zlib.crc32(payload))


def without_vector(check: int) -> int:
    """The checksum of a point whose vector the engine may normalize, from the CRC-32 of its payload."""
    return check | _WITHOUT_VECTOR << 32


def kept_as_they_are(rows: FloatArray) -> list[bool]:
    """Which rows of unit length the engine is certain not to normalize again.

    It does where the sum of squares, in 32 bits, is further than 1e-6 from 1. The order in which it adds them is its
    own: errors of both sums are below half of that up to some 1,000 dimensions, and seldom above it beyond.
    """
    squares = np.einsum("ij,ij->i", rows, rows)
    kept: list[bool] = ((np.abs(squares - 1) < 7e-7) | (squares == 0)).tolist()
    return kept


def deletion_entry(key: PointId) -> bytes:
    """The log entry of a deleted point."""
    kind, identity = _key(key)
    return _ENTRY.pack(kind + _DELETED_INT - _INT, 0, 0, identity)


def points_in(entries: bytes) -> int:
    """How many entries are of points, not of files."""
    kinds = entries[:: _ENTRY.size]
    return len(kinds) - kinds.count(_FILE)


def file_entry(name: str, content: bytes) -> bytes:
    """The log entry of a written file of the index's own."""
    return _ENTRY.pack(_FILE, 0, zlib.crc32(content), file_key(name)[1])


def file_key(name: str) -> Key:
    """The key of a file."""
    return _FILE, hashlib.blake2b(name.encode(), digest_size=16).digest()


def point_key(key: PointId) -> Key:
    """The key of a point."""
    return _key(key)


class PointChecks:
    """The open log of one index; used by one thread at a time.

    Args:
        folder: The index's folder.

    Attributes:
        is_new: Whether there was no log.
        points: How many points there are at least.
        length: The log's length in bytes.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / CHECKS
        self.is_new = not self.path.exists()
        self.points = 0
        self.length = 0
        self._crc = 0
        self._file = self.path.open("ab+", buffering=0)
        self._read_tail()

    def begin(self, entries: bytes) -> None:
        """Log what is about to be written.

        Raises:
            OSError: The disk is full, or fails; the log is as before.
        """
        try:
            if self._file.write(entries) != len(entries):
                raise OSError(28, "No space left on device")  # noqa: TRY301 (what a short write means)
        except OSError:
            os.ftruncate(self._file.fileno(), self.length)
            raise
        self.length += len(entries)
        self._crc = zlib.crc32(entries, self._crc)

    def confirm(self, entries: int, points: int) -> None:
        """Log that the last so many entries were written, and how many points there are now."""
        self.begin(_ENTRY.pack(_CONFIRM, 0, self._crc, _CONFIRMED.pack(points, entries)))
        self.points = points

    def expected(self) -> Expected:
        """Read the whole log; returns the checksums that it expects."""
        return Expected.of(self.path.read_bytes())

    def replace(self, certain: Iterable[bytes], uncertain: Iterable[bytes], points: int) -> None:
        """Rewrite the log, from confirmed and unconfirmed entries.

        Raises:
            OSError: It cannot be written; the old one is still there.
        """
        entries, rest = list(certain), list(uncertain)
        body = b"".join(entries)
        body += _ENTRY.pack(_CONFIRM, 0, zlib.crc32(body), _CONFIRMED.pack(points, len(entries)))
        with atomic_write(self.path) as file:
            file.write(body + b"".join(rest))
        self._file.close()
        self._file = self.path.open("ab+", buffering=0)
        self.is_new = False
        self._read_tail()

    def compact(self) -> None:
        """Rewrite the log if most of its entries are of points that were replaced or deleted since.

        Raises:
            OSError: As for `replace`.
        """
        if self.length // _ENTRY.size <= 2 * self.points + _COMPACT_FROM:
            return
        expected = self.expected()
        if not expected.is_damaged:
            self.replace(expected.certain(), expected.uncertain(), self.points)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read_tail(self) -> None:
        size = os.fstat(self._file.fileno()).st_size
        self.length = size - size % _ENTRY.size  # a last part is of a write that was cut off
        if self.length != size:
            os.ftruncate(self._file.fileno(), self.length)
        start = max(0, self.length - _TAIL)
        if not self._parse(start) and start:
            self._parse(0)

    def _parse(self, start: int) -> bool:
        """Find the last confirmation after an offset, and what it says."""
        self._file.seek(start)
        tail = self._file.read(self.length - start)
        for at in range(len(tail) - _ENTRY.size, -1, -_ENTRY.size):
            kind, _, crc, identity = _ENTRY.unpack_from(tail, at)
            if kind == _CONFIRM:
                after = tail[at + _ENTRY.size :: _ENTRY.size]  # the kinds of the entries after it
                deleted = after.count(_DELETED_INT) + after.count(_DELETED_UUID)
                self.points = max(0, _CONFIRMED.unpack(identity)[0] - deleted)
                self._crc = zlib.crc32(tail[at:], crc)
                return True
        self.points, self._crc = 0, zlib.crc32(tail)
        return False


class Expected:
    """The checksums that a log expects.

    Attributes:
        checks: For each point and file the checks that it may have; None among them if it need not be there.
        is_damaged: Whether the log itself is.
    """

    def __init__(self) -> None:
        self.checks: dict[Key, tuple[int | None, ...]] = {}
        self.is_damaged = False

    @classmethod
    def of(cls, log: bytes) -> Expected:
        """Parse the bytes of a log."""
        self, waiting = cls(), list[tuple[int, int, bytes]]()
        crc, checked = 0, 0
        for number, (kind, flags, crc_32, identity) in enumerate(_ENTRY.iter_unpack(log[: len(log) // 24 * 24])):
            check = crc_32 | flags << 32
            if kind != _CONFIRM:
                self.is_damaged |= not _INT <= kind <= _FILE
                waiting.append((kind, check, identity))
                continue
            here = number * _ENTRY.size
            crc = zlib.crc32(log[checked:here], crc)
            checked = here
            self.is_damaged |= crc != check
            confirmed = len(waiting) - min(len(waiting), _CONFIRMED.unpack(identity)[1])
            self._add(waiting[:confirmed], certain=False)
            self._add(waiting[confirmed:], certain=True)
            waiting = []
        self._add(waiting, certain=False)
        return self

    def points(self) -> Iterator[tuple[PointId, tuple[int | None, ...]]]:
        """The points, and the checksums that each may have."""
        for (kind, identity), checks in self.checks.items():
            if kind != _FILE:
                yield _id(kind, identity), checks

    def files(self) -> Iterator[tuple[int | None, ...]]:
        """The checksums that each file may have."""
        for (kind, _), checks in self.checks.items():
            if kind == _FILE:
                yield checks

    def certain(self) -> Iterator[bytes]:
        """Entries to confirm."""
        for (kind, identity), checks in self.checks.items():
            if checks[0] is not None:
                yield _ENTRY.pack(kind, checks[0] >> 32, checks[0] & 0xFFFFFFFF, identity)

    def uncertain(self) -> Iterator[bytes]:
        """Entries that stay unconfirmed."""
        for (kind, identity), checks in self.checks.items():
            for check in checks[1:]:
                is_deletion = check is None and kind != _FILE
                kept = check or 0
                kind_now = kind + (_DELETED_INT - _INT) * is_deletion
                yield _ENTRY.pack(kind_now, kept >> 32, kept & 0xFFFFFFFF, identity)

    def _add(self, entries: Iterable[tuple[int, int, bytes]], *, certain: bool) -> None:
        for kind, check, identity in entries:
            is_deletion = kind in (_DELETED_INT, _DELETED_UUID)
            key = (kind - (_DELETED_INT - _INT), identity) if is_deletion else (kind, identity)
            new = None if is_deletion else check
            if not certain:
                self.checks[key] = (*self.checks.get(key, (None,)), new)
            elif is_deletion:
                self.checks.pop(key, None)
            else:
                self.checks[key] = (check,)


def _are_exact(values: Iterable[Any]) -> bool:
    """Whether the engine stores all of some texts, integers, booleans and nulls exactly."""
    return all(-(2**63) <= value < 2**63 for value in values if type(value) is int)


def _rounded(text: str) -> float:
    """Round a float to six digits: the engine parses some with an error in the last bit."""
    return float(f"{float(text):.6g}")


def _integer(text: str) -> int | float:
    """Parse an integer; above 64 bits it becomes a float, as in the engine."""
    value = int(text)
    return value if -(2**63) <= value < 2**63 else _rounded(text)


def _key(key: PointId) -> Key:
    if isinstance(key, int):
        return _INT, key.to_bytes(16, "big")
    return _UUID, bytes.fromhex(key.replace("-", ""))


def _id(kind: int, identity: bytes) -> PointId:
    if kind == _INT:
        return int.from_bytes(identity, "big")
    text = identity.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
