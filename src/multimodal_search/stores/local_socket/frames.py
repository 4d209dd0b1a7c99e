"""Messages on a socket: two lengths, lines of JSON, and the bytes of arrays.

Nothing is ever unpickled. JSON is written in ASCII, so that every text comes back as it was, lone surrogates too, and
floats come back to the last bit. The first line is the header; long lists follow in lines of a few hundred elements, as
JSON is written and read without giving way to other threads. Arrays begin at multiples of 8 bytes, and are read where
they lie.
"""

from __future__ import annotations

import json
import math
import re
import socket
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

Message: TypeAlias = Sequence[bytes | memoryview]
"""Its bytes, in a few parts, so that large arrays are not copied."""


class Received(NamedTuple):
    """A message that has arrived.

    Attributes:
        header: What it is about.
        arrays: Vectors.
        rows: The elements of a long list.
    """

    header: Any
    arrays: list[Array]
    rows: list[Any]


MAX_MESSAGE_BYTES = 2**30
"""Bytes of one message: 500,000 vectors of 512 dimensions."""

_ROWS = 256  # in a line
_LENGTHS = struct.Struct(">II")  # of the header, of the arrays
_SMALL = 2**16  # bytes of the buffer that each connection keeps
_READS = 64  # of a large message before others have their turn
_KIND = re.compile(r"[<>|=]?[biufcSUOVmM][0-9]{0,9}(\[[a-zA-Z0-9]{1,9}\])?")
_SENT_KINDS = "biufc"  # of the other kinds, whose arrays are refused anyway, the shape is enough for the message


class ProtocolError(Exception):
    """What arrived is no message: the connection cannot be used any more."""


class TooLargeError(Exception):
    """A message is larger than one may be; nothing of it was sent."""


def message_of(header: Any, arrays: Sequence[Array] = (), rows: Sequence[Any] = ()) -> Message:
    """A message, to be sent.

    Args:
        header: What JSON can hold.
        arrays: Vectors; of those that hold no numbers, the shape and the dtype alone.
        rows: The elements of a long list, which JSON can hold.

    Raises:
        TooLargeError: It is too large.
        TypeError, ValueError: JSON cannot hold the header, or one of the rows.
    """
    flat = [array for array in map(np.ascontiguousarray, arrays) if array.nbytes and array.dtype.kind in _SENT_KINDS]
    kinds = [[array.dtype.str if _KIND.fullmatch(array.dtype.str) else "|O", array.shape] for array in arrays]
    lines = [_json([header, kinds])]
    lines += [_json(rows[start : start + _ROWS]) for start in range(0, len(rows), _ROWS)]
    text = "\n".join(lines).encode("ascii")
    text += b" " * (-(_LENGTHS.size + len(text)) % 8)
    length = sum(array.nbytes + -array.nbytes % 8 for array in flat)
    if len(text) + length > MAX_MESSAGE_BYTES:
        raise TooLargeError
    parts: list[bytes | memoryview] = [_LENGTHS.pack(len(text), length) + text]
    for array in flat:
        parts += [array.reshape(-1).view(np.uint8).data, bytes(-array.nbytes % 8)]
    return [b"".join(parts)] if length < _SMALL else parts


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


class Channel:
    """One end of a connection, which takes turns in sending and receiving a message.

    Args:
        connection: The socket.
        copies: Whether the arrays of messages belong to whoever receives them, and several messages may come at once;
            else arrays are valid until the next message, which is not sent before this one is answered.
    """

    def __init__(self, connection: socket.socket, *, copies: bool) -> None:
        self.socket = connection
        self._copies = copies
        self._small = np.empty(_SMALL, np.uint8)
        self._reset()

    def _reset(self) -> None:
        self._buffer = self._small
        self._view = self._small.data
        self._filled = 0
        self._lengths: tuple[int, int] | None = None

    @property
    def is_amid_message(self) -> bool:
        """Whether a part of a message has arrived."""
        return self._filled > 0

    def send(self, message: Message) -> None:
        """Send a message.

        Raises:
            OSError: The other end has gone, or does not read.
        """
        for part in message:
            self.socket.sendall(part)

    def receive(self) -> Received | None:
        """Receive a message, or go on with one of which a part has arrived.

        Returns:
            The message; None if it is a large one, and there is more of it to be read.

        Raises:
            BlockingIOError, TimeoutError: Not all of it has arrived within the socket's time-out; the rest may come.
            ProtocolError: It is none.
            ConnectionError: The other end has gone.
        """
        for _ in range(_READS):
            if self._lengths is None and self._filled >= _LENGTHS.size:
                self._begin()
            if self._lengths is not None and self._filled >= _LENGTHS.size + sum(self._lengths):
                try:
                    return self._message(*self._lengths)
                except (ValueError, TypeError, RecursionError) as error:
                    raise ProtocolError("it cannot be read") from error
            count = self.socket.recv_into(self._view[self._filled :])
            if not count:
                raise ConnectionResetError("the other end has closed the connection")
            self._filled += count
        return None

    def _begin(self) -> None:
        header, arrays = self._lengths = _LENGTHS.unpack_from(self._view)
        size = _LENGTHS.size + header + arrays
        if header + arrays > MAX_MESSAGE_BYTES or (_LENGTHS.size + header) % 8:
            raise ProtocolError("no lengths of a message")
        if size > _SMALL:
            try:
                self._buffer = np.empty(size, np.uint8)  # takes memory as it is filled
            except MemoryError as error:
                raise ProtocolError("there is no memory for it") from error
            self._buffer[: self._filled] = self._small[: self._filled]
            self._view = self._buffer.data

    def _message(self, text_bytes: int, array_bytes: int) -> Received:
        start = _LENGTHS.size + text_bytes
        end, filled = start + array_bytes, self._filled
        first, *lines = str(self._view[_LENGTHS.size : start], "ascii").split("\n")
        header, kinds = json.loads(first)
        rows = [row for line in lines for row in json.loads(line)]
        arrays = []
        for kind, shape in kinds:
            array, start = self._array(kind, shape, start, end)
            arrays.append(array)
        if start != end:
            raise ValueError("the arrays have another length")
        self._reset()
        if filled > end:
            if not self._copies:
                raise ValueError("more than one message at once")
            self._filled = filled - end
            self._small[: self._filled] = self._small[end:filled].copy()
        return Received(header, arrays, rows)

    def _array(self, kind: str, shape: Sequence[int], start: int, most: int) -> tuple[Array, int]:
        """An array that begins somewhere in the message, and where the next one does."""
        if not _KIND.fullmatch(kind) or not all(type(each) is int and each >= 0 for each in shape):
            raise ValueError("no array")
        dtype, count = np.dtype(kind), math.prod(shape)
        if dtype.kind not in _SENT_KINDS:
            return np.broadcast_to(np.zeros((), dtype), tuple(shape)), start
        if not count:
            return np.zeros(tuple(shape), dtype), start
        end = start + count * dtype.itemsize
        if end > most:
            raise ValueError("an array that is cut off")
        array = np.frombuffer(self._buffer, dtype, count, start).reshape(tuple(shape))
        if self._copies and self._buffer is self._small:
            array = array.copy()
        return array, end + -end % 8
