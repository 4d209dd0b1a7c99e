"""The connections of one client: a few, which its threads take in turns, opened as they are needed."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

from multimodal_search.errors import StoreClosedError, StoreError, StoreUnavailableError
from multimodal_search.stores.local_socket.address import Address, read_address, unserved
from multimodal_search.stores.local_socket.frames import Channel, ProtocolError
from multimodal_search.stores.local_socket.handshake import SESSION_BYTES, greet_server

FEW = 3
"""Connections up to which a new one is opened as soon as all others are busy: more take no less time for 100 calls."""

SILENT_S = 30.0
"""Seconds without an answer, after which a client looks whether the server is still there."""

_PATIENCE_S = 0.25  # before one more is opened, as the others may be busy for minutes
_MANY = 100
_CONNECT_S = 10.0
_STEP_S = 0.01


class Connections:
    """The connections of one client.

    Args:
        place: The folder that names the socket.

    Attributes:
        place: The same.
        is_closed: Whether the client was closed.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self.is_closed = False
        self._begin()
        _clients.add(self)

    def _begin(self) -> None:
        self._session = secrets.token_bytes(SESSION_BYTES)
        self._changed = threading.Condition(threading.Lock())
        self._idle: list[Channel] = []
        self._open = set[Channel]()
        self._opening = 0

    def take(self) -> Channel:
        """A connection for one call.

        Raises:
            StoreUnavailableError: Nobody serves the store, or does not answer.
            StoreError: Who does is not trusted, or has another version.
            StoreClosedError: The client was closed.
        """
        until = time.monotonic() + _PATIENCE_S
        with self._changed:
            while True:
                if self.is_closed:
                    raise self.closed()
                if self._idle:
                    return self._idle.pop()
                count, left = len(self._open) + self._opening, until - time.monotonic()
                if count < FEW or (left <= 0 and count < _MANY):
                    break
                self._changed.wait(max(left, _STEP_S))
            self._opening += 1
        channel = None
        try:
            channel, _ = self._connect()
        finally:
            with self._changed:
                self._opening -= 1
                if channel is not None:
                    self._open.add(channel)
        if self.is_closed:  # meanwhile
            self.discard(channel)
            raise self.closed()
        return channel

    def greet(self) -> dict[str, Any]:
        """What the server says of itself, on a new connection that is kept.

        Raises:
            StoreUnavailableError, StoreError: As for `take`.
        """
        channel, hello = self._connect()
        with self._changed:
            self._open.add(channel)
        self.give(channel)
        return hello

    def look(self) -> None:
        """Look whether the server is still there, as it has been silent for long.

        Raises:
            StoreUnavailableError, StoreError: As for `take`.
        """
        channel, _ = self._connect()
        channel.socket.close()

    def _connect(self) -> tuple[Channel, dict[str, Any]]:
        address = read_address(self.place)
        connection = None
        try:
            connection = _connected(address)
            greet_server(connection, address.key, self._session, self.place)
            channel = Channel(connection, copies=True)
            while (message := channel.receive()) is None:
                pass
            hello: dict[str, Any] = message.header
        except TimeoutError as error:
            raise StoreUnavailableError(
                f"the process that serves the store in {self.place} has not answered for {_CONNECT_S:g} s: it may be "
                "stopped, or overloaded",
                trouble="time-out",
            ) from error
        except (FileNotFoundError, ConnectionError) as error:
            raise unserved(self.place) from error
        except OSError as error:
            raise StoreUnavailableError(
                f"the process that serves the store in {self.place} cannot be reached ({error.strerror or error})",
                trouble="unreachable",
            ) from error
        except ProtocolError as error:
            raise StoreError(
                f"the process that serves the store in {self.place} has not greeted as it should"
            ) from error
        else:
            opened, connection = connection, None
            opened.settimeout(SILENT_S)
            return channel, hello
        finally:
            if connection is not None:
                connection.close()

    def give(self, channel: Channel) -> None:
        """Take a connection back, whose call has ended."""
        with self._changed:
            if channel in self._open:
                self._idle.append(channel)
                self._changed.notify()

    def discard(self, channel: Channel) -> None:
        """Close a connection, whose call has not."""
        with self._changed:
            self._open.discard(channel)
            self._changed.notify()
        channel.socket.close()

    def discard_idle(self) -> None:
        """Close those that are not in use: the server has ended, and they with it."""
        with self._changed:
            idle, self._idle = self._idle, []
            self._open.difference_update(idle)
        for channel in idle:
            channel.socket.close()

    def close(self) -> None:
        """Close all connections, and end the calls that wait for an answer."""
        with self._changed:
            self.is_closed = True
            channels, self._idle, self._open = list(self._open), [], set()
            self._changed.notify_all()
        for channel in channels:
            with suppress(OSError):
                channel.socket.shutdown(socket.SHUT_RDWR)
            channel.socket.close()

    def closed(self) -> StoreClosedError:
        """The error of every call after `close`."""
        return StoreClosedError(f"this connection to the store in {self.place} is closed: connect again")

    def leave_to_parent(self) -> None:
        """In a forked child: close the copies of the parent's sockets, and begin anew."""
        for channel in list(self._open):
            channel.socket.close()
        self._begin()


def _connected(address: Address) -> socket.socket:
    until = time.monotonic() + _CONNECT_S
    while True:
        try:
            return address.connect(_CONNECT_S)
        except BlockingIOError:  # a Unix socket on which too many wait already
            if time.monotonic() > until:
                raise TimeoutError from None
            time.sleep(_STEP_S)


_clients = weakref.WeakSet[Connections]()


def _after_fork() -> None:
    for each in list(_clients):
        each.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
