"""One connection, as the server has it: the handshake, and then calls, one at a time."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from multimodal_search.errors import StoreRefusedError
from multimodal_search.protocols import VectorStore
from multimodal_search.stores.local_socket.errors import error_to_wire
from multimodal_search.stores.local_socket.frames import (
    MAX_MESSAGE_BYTES,
    Channel,
    ProtocolError,
    Received,
    TooLargeError,
    message_of,
)
from multimodal_search.stores.local_socket.handshake import ServerHandshake
from multimodal_search.stores.local_socket.methods import Answer, Call, method_of
from multimodal_search.stores.local_socket.session import Session

REST_S = 30.0
"""Seconds that the rest of a message may take to arrive, and that a client may take to read an answer."""

HANDSHAKE_S = 5.0
"""Seconds that a client may take to prove that it knows the key."""

LINGER_S = 0.005
"""Seconds that a thread waits for the next call of the same client, before others have it."""


class Connection:
    """One connection.

    Args:
        connection: The socket.
        key: The key that the client must prove.
        hello: What the client is told first.

    Attributes:
        socket: The socket.
        deadline: When the rest of a message must have arrived; None if nothing is awaited.
        is_trusted: Whether the client has proved that it knows the key.
    """

    def __init__(self, connection: socket.socket, key: bytes, hello: dict[str, Any]) -> None:
        connection.setblocking(False)
        if connection.family == socket.AF_INET:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = connection
        self.deadline: float | None = time.monotonic() + HANDSHAKE_S
        self._held = Session()
        self.is_trusted = False
        self._channel = Channel(connection, copies=False)
        self._handshake = ServerHandshake.new(key)
        self._answer = b""
        self._hello = hello
        connection.send(self._handshake.greeting)  # 44 bytes: a new socket has room for them

    def shake(self, sessions: dict[bytes, Session]) -> None:
        """Read what has arrived of the client's part of the handshake, and finish it if that is whole.

        Args:
            sessions: What clients hold, by the client.

        Raises:
            OSError: The client has gone, has another version, or does not know the key.
        """
        some = self.socket.recv(self._handshake.answer_bytes - len(self._answer))
        self._answer += some
        if some and len(self._answer) < self._handshake.answer_bytes:
            return
        checked = self._handshake.check(self._answer) if some else None
        if checked is None:
            raise ConnectionRefusedError("no client of this version with the key")
        session, proof = checked
        self.socket.send(proof)
        self._channel.send(message_of(self._hello))
        self._held = sessions.setdefault(session, self._held)
        self._held.connections += 1
        self.is_trusted, self.deadline = True, None

    def read(self) -> Received | None:
        """What has arrived of a call; None if it is not whole.

        Raises:
            ProtocolError: It is none.
            OSError: The client has gone.
        """
        message = None
        with suppress(BlockingIOError, TimeoutError):
            message = self._channel.receive()
        if message is None:
            if self._channel.is_amid_message:
                self.deadline = self.deadline or time.monotonic() + REST_S
        else:
            self.deadline = None
        return message

    def serve(self, store: VectorStore, message: Received | None, may_linger: Callable[[], bool]) -> None:
        """Make a call, and those that follow at once, in a thread that does nothing else meanwhile.

        Args:
            store: Where.
            message: The call.
            may_linger: Whether there is nothing else for the thread to do.

        Raises:
            ProtocolError: It is none.
            OSError: The client has gone, or does not read.
        """
        try:
            while message is not None:
                self.socket.settimeout(REST_S)
                self._answer_to(store, message)
                message = None
                if may_linger():
                    self.socket.settimeout(LINGER_S)
                    message = self.read()
            self.socket.setblocking(False)
        except _GoneError as gone:
            raise ConnectionResetError("the client has gone") from gone

    def _answer_to(self, store: VectorStore, message: Received) -> None:
        try:
            name, arguments = message.header
            call = Call(store, self._held, self._tick, message.arrays, message.rows)
            method = method_of(name, call, arguments)
        except (ValueError, TypeError, KeyError) as error:
            raise ProtocolError("no call of a store") from error
        try:
            self._send("done", method())
        except _GoneError:
            raise
        except BaseException as error:  # noqa: BLE001 (raised at the other end)
            self._send("failed", Answer(error_to_wire(error)))

    def _send(self, kind: str, answer: Answer) -> None:
        try:
            self._channel.send(message_of([kind, answer.value], answer.arrays, answer.rows))
        except TooLargeError:
            limit = MAX_MESSAGE_BYTES // 2**20
            raise StoreRefusedError(
                f"the answer has more than {limit:,} MiB, the most that another process is sent: ask for less at once",
                too_large=True,
            ) from None
        except OSError as error:
            raise _GoneError from error

    def _tick(self, *arguments: object) -> None:
        self._send("tick", Answer(arguments))

    def close(self, sessions: dict[bytes, Session]) -> None:
        """Close it, and free what the client held, if it has no other."""
        self.socket.close()
        if self.is_trusted:
            self.is_trusted = False
            self._held.connections -= 1
            if not self._held.connections:
                self._held.close()
                for key in [key for key, each in sessions.items() if each is self._held]:
                    del sessions[key]


class _GoneError(BaseException):
    """The client has gone in the middle of a call; no store takes it for an error of its own."""
