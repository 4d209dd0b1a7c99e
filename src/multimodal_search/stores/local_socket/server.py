"""`serve_store`: one thread that waits for all clients, and others that make their calls, as long as there are any."""

from __future__ import annotations

import atexit
import os
import selectors
import socket
import threading
import time
import weakref
from collections import deque
from concurrent.futures import wait
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from multimodal_search._files import checked_path
from multimodal_search._text import brief
from multimodal_search._threads import DaemonExecutor, no_thread
from multimodal_search.errors import StoreError, StoreLockedError
from multimodal_search.protocols import VectorStore, lacking
from multimodal_search.stores.local_socket.address import Transport, forget, listen, read_address
from multimodal_search.stores.local_socket.connection import Connection
from multimodal_search.stores.local_socket.frames import ProtocolError, Received
from multimodal_search.stores.local_socket.handshake import is_served
from multimodal_search.stores.local_socket.methods import supported
from multimodal_search.stores.local_socket.session import Session

MAX_THREADS = 16
"""Calls that are made at once; others wait for their turn."""

MAX_CONNECTIONS = 500
"""Connections of all clients together; those beyond are closed at once."""

CLOSE_S = 1.0
"""Seconds that closing waits for calls under way."""


class StoreServer:
    """Serves a store to other processes of the same user on this machine; made by `serve_store`.

    The store stays the caller's, who closes it after this.
    """

    def __init__(self, store: VectorStore, place: Path, transport: Transport | None) -> None:
        self._store = store
        self._place = place
        self._pid = os.getpid()
        self._hello = {"protocols": supported(store), "store": repr(store)}
        self._listener, self._address = listen(place, transport)
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._waker, self._wakes = socket.socketpair()
        self._waker.setblocking(False)
        self._wakes.setblocking(False)
        self._connections = set[Connection]()
        self._sessions = dict[bytes, Session]()
        self._returned = deque[tuple[Connection, bool]]()
        self._executor = DaemonExecutor(MAX_THREADS, "multimodal-search-store")
        self._closing = False
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wakes, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="multimodal-search-socket", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            self._let_go()
            forget(place, self._address)
            raise no_thread(error) from error
        _servers.add(self)
        atexit.register(self.close)

    @property
    def clients(self) -> int:
        """How many clients are connected."""
        return len(self._sessions)

    def close(self) -> None:
        """Serve no longer: wait a second for the calls under way, and disconnect the clients. Twice is fine."""
        if os.getpid() != self._pid or self._closing:
            return
        self._closing = True
        atexit.unregister(self.close)
        forget(self._place, self._address)
        self._wake()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"StoreServer({self._store!r}, {str(self._place)!r})"

    def _run(self) -> None:
        while not self._closing:
            for key, _ in self._selector.select(self._timeout()):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj is self._wakes:
                    self._take_back()
                else:
                    self._hear(key.data)
            now = time.monotonic()
            for connection in [each for each in self._connections if each.deadline and each.deadline < now]:
                self._drop(connection)
        wait(self._executor.unfinished, timeout=CLOSE_S)
        for connection in list(self._connections):
            with suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)
            connection.close(self._sessions)
        self._let_go()

    def _timeout(self) -> float | None:
        deadlines = [each.deadline for each in self._connections if each.deadline]
        return max(0.0, min(deadlines) - time.monotonic()) + 0.01 if deadlines else None

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except OSError:  # it has gone again, or this process has too many files open
            time.sleep(0.01)
            return
        if len(self._connections) >= MAX_CONNECTIONS:
            accepted.close()
            return
        try:
            connection = Connection(accepted, self._address.key, self._hello)
        except OSError:
            accepted.close()
            return
        self._connections.add(connection)
        self._selector.register(accepted, selectors.EVENT_READ, connection)

    def _hear(self, connection: Connection) -> None:
        try:
            if not connection.is_trusted:
                connection.shake(self._sessions)
                return
            message = connection.read()
            if message is None:
                return
            self._selector.unregister(connection.socket)
            self._executor.submit(partial(self._serve, connection, message))
        except Exception:  # noqa: BLE001 (whatever a client sends, the others go on)
            self._drop(connection)

    def _serve(self, connection: Connection, message: Received) -> None:
        is_well = False
        try:
            connection.serve(self._store, message, lambda: not (self._closing or self._executor.is_full))
            is_well = True
        except (OSError, ProtocolError):
            pass
        finally:
            self._returned.append((connection, is_well))
            self._wake()

    def _take_back(self) -> None:
        with suppress(BlockingIOError):
            while self._wakes.recv(4096):
                pass
        while self._returned:
            connection, is_well = self._returned.popleft()
            if is_well and connection in self._connections:
                self._selector.register(connection.socket, selectors.EVENT_READ, connection)
            else:
                self._drop(connection)

    def _wake(self) -> None:
        with suppress(OSError):  # it has enough to wake up for, or is closed
            self._waker.send(b"\0")

    def _drop(self, connection: Connection) -> None:
        with suppress(KeyError, ValueError):
            self._selector.unregister(connection.socket)
        self._connections.discard(connection)
        connection.close(self._sessions)

    def _let_go(self) -> None:
        """Close this process's descriptors; the parent's stay open where this is a forked child."""
        for connection in list(self._connections):
            connection.socket.close()
        self._listener.close()
        self._selector.close()
        self._waker.close()
        self._wakes.close()


def serve_store(
    store: VectorStore, place: str | os.PathLike[str], *, transport: Transport | None = None
) -> StoreServer:
    """Serve a store to other processes of the same user on this machine, which reach it with `connect_store`.

    Args:
        store: The store; it stays the caller's.
        place: A folder, such as the one that the store keeps its data in, created if it does not exist. The file
            `socket.json` in it, which nobody but its owner can read, tells the others where to connect, and the key.
        transport: `"unix"` for a Unix socket, `"tcp"` for a port that this machine alone can reach. Default: a Unix
            socket, and a port on Windows.

    Returns:
        What serves it, until its `close()`, the end of a `with` block, or of the process.

    Raises:
        StoreLockedError: Another process serves a store there.
        StoreError: The folder cannot be written to, or its file system knows no permissions.

    Examples:
        >>> store = MemoryStore()
        >>> with serve_store(store, "photos.index"):
        ...     other = connect_store("photos.index")  # in another process
        ...     other.ensure(StoreSchema(model="m", fingerprint="f", dimension=2)) == store.stored_schema()
        True
    """
    if isinstance(store, type) or not isinstance(store, VectorStore):
        raise TypeError(
            f"serve_store takes a store, such as MemoryStore(), not {brief(store)}{lacking(store, VectorStore)}"
        )
    folder = checked_path(place, "serve_store").absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"the folder {folder} cannot be made ({error.strerror or error})") from error
    is_taken = False
    with suppress(StoreError):
        is_taken = is_served(read_address(folder))
    if is_taken:
        raise StoreLockedError(
            f"another process, or another part of this one, serves the store in {folder}: close it there"
        )
    forget(folder)  # what a process that died has left there
    return StoreServer(store, folder, transport)


_servers = weakref.WeakSet[StoreServer]()


def _after_fork() -> None:
    """In a forked child: close its copies of the parent's sockets, which would outlive that."""
    for server in list(_servers):
        server._let_go()  # noqa: SLF001 (of this file)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
