"""Where a store is served: a file in a folder that names the socket and holds the key, for its owner's eyes only.

The socket itself is never in that folder, which may be on a file system without sockets, and is copied and backed up:
it is in a new folder of its own among the user's temporary ones, where its path is short enough for every system (104
bytes on macOS, 108 on Linux). Where Python has no Unix sockets, as on Windows, it is a TCP port of this machine alone.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from multimodal_search.errors import StoreError, StoreUnavailableError

ADDRESS_FILE = "socket.json"
"""The name of the file in the folder."""

Transport: TypeAlias = Literal["unix", "tcp"]

_PREFIX = "multimodal-search-"
_MAX_PATH_BYTES = 100
_LOOPBACK = "127.0.0.1"
_BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Address:
    """Where a store is served.

    Attributes:
        transport: A Unix socket, or a TCP port of this machine.
        at: The path of the socket, or the number of the port.
        key: What both ends know.
    """

    transport: Transport
    at: str | int
    key: bytes = field(repr=False)

    def connect(self, timeout_s: float) -> socket.socket:
        """A connection, of which nothing is trusted yet.

        Raises:
            OSError: There is nobody.
            StoreError: The socket is another user's.
        """
        if isinstance(self.at, int):
            connection = socket.create_connection((_LOOPBACK, self.at), timeout=timeout_s)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        found = os.lstat(self.at)
        if not stat.S_ISSOCK(found.st_mode) or not _is_own(found):
            raise StoreError(f"{self.at} is no socket of this user, so it is not trusted: remove it")
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout_s)
            connection.connect(self.at)
        except BaseException:
            connection.close()
            raise
        return connection


def listen(place: Path, transport: Transport | None) -> tuple[socket.socket, Address]:
    """Begin to listen, and name the socket in the folder `place`.

    Args:
        place: The folder.
        transport: None for a Unix socket where there are any.

    Raises:
        StoreError: The folder cannot be written to, or keeps no file to its owner alone; or there is no room for a
            socket.
    """
    transport = transport or ("unix" if hasattr(socket, "AF_UNIX") else "tcp")
    listener, at = _unix_listener() if transport == "unix" else _tcp_listener()
    address = Address(transport, at, secrets.token_bytes(32))
    try:
        _write(place, address)
    except BaseException as error:
        listener.close()
        _remove_socket(address)
        if isinstance(error, OSError):
            raise StoreError(
                f"{place} keeps no file to its owner alone ({error.strerror or error}), so that it cannot be shared "
                "with other processes: make it writable, or move it to a file system with permissions"
            ) from error
        raise
    return listener, address


def _unix_listener() -> tuple[socket.socket, str]:
    reason: object = "their paths are too long"
    for base in _bases():
        try:
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))  # mode 0700
        except OSError as error:
            reason = error
            continue
        at, listener = str(folder / "socket"), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if len(os.fsencode(at)) <= _MAX_PATH_BYTES:
                listener.bind(at)
                os.chmod(at, 0o600)  # noqa: PTH101 (as the socket's own calls, on a str)
                listener.listen(_BACKLOG)
                return listener, at
        except OSError as error:
            reason = error
        listener.close()
        shutil.rmtree(folder, ignore_errors=True)
    raise StoreError(f"no temporary folder of this user has room for a socket ({reason}): set TMPDIR to one that has")


def _bases() -> Iterator[Path]:
    """Folders for what a user's programs need while they run."""
    for name in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):  # noqa: S108 (a folder of its own there)
        if name:
            yield Path(name)


def _tcp_listener() -> tuple[socket.socket, int]:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows: nobody else may take the port while it is ours
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        listener.bind((_LOOPBACK, 0))
        listener.listen(_BACKLOG)
    except BaseException as error:
        listener.close()
        if isinstance(error, OSError):
            raise StoreError(f"no port of this machine can be listened at ({error})") from error
        raise
    return listener, int(listener.getsockname()[1])


def _write(place: Path, address: Address) -> None:
    text = json.dumps({"transport": address.transport, "at": address.at, "key": address.key.hex()}).encode()
    part = place / f"{ADDRESS_FILE}.{secrets.token_hex(4)}.part"
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(text)
        if not _is_private(part.stat()):
            raise PermissionError("its file system has no permissions")  # noqa: TRY301 (to be removed)
        part.replace(place / ADDRESS_FILE)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read_address(place: Path) -> Address:
    """Where the store in a folder is served.

    Raises:
        StoreUnavailableError: Nobody serves it.
        StoreError: The file is another user's, or others can read it.
    """
    path = place / ADDRESS_FILE
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            if not _is_private(os.fstat(file.fileno())):
                raise StoreError(
                    f"{path} is another user's, or can be read by others, so it is not trusted: only who has the store "
                    "open can let others take part, and only their own processes"
                )
            told = json.loads(file.read(10_000))
        address = Address(told["transport"], told["at"], bytes.fromhex(told["key"]))
        if not isinstance(address.at, int if address.transport == "tcp" else str):
            raise TypeError("at")  # noqa: TRY301 (as for what else is wrong)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise unserved(place) from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{path} cannot be read ({error}): remove it, and serve the store again") from error
    return address


def unserved(place: Path) -> StoreUnavailableError:
    """The error where nobody serves the store of a folder, or no longer."""
    return StoreUnavailableError(
        f"no process serves the store in {place}: the one that had it open has closed it, or has ended; open it in "
        "this process, or serve it again",
        trouble="unreachable",
    )


def forget(place: Path, address: Address | None = None) -> None:
    """Remove a socket and the file that names it, if that still does.

    Args:
        place: The folder.
        address: Where it was served; None for whatever the file says.
    """
    with suppress(OSError):
        with suppress(StoreError):
            found = read_address(place)
            if address is None or found == address:
                (place / ADDRESS_FILE).unlink(missing_ok=True)
            address = address or found
        for part in place.glob(f"{ADDRESS_FILE}.*.part"):  # of a process that died as it wrote it
            part.unlink(missing_ok=True)
    if address is not None:
        _remove_socket(address)


def _remove_socket(address: Address) -> None:
    """Remove a Unix socket with its folder, if they are this library's and this user's."""
    if isinstance(address.at, str):
        folder = Path(address.at).parent
        with suppress(OSError):
            if folder.name.startswith(_PREFIX) and _is_own(folder.lstat()) and not folder.is_symlink():
                shutil.rmtree(folder)


def _is_own(found: os.stat_result) -> bool:
    return not hasattr(os, "geteuid") or found.st_uid == os.geteuid()


def _is_private(found: os.stat_result) -> bool:
    """Whether a file is regular, this user's, and closed to all others; Windows keeps that by the folder's rights."""
    if not stat.S_ISREG(found.st_mode):
        return False
    return os.name == "nt" or (_is_own(found) and not found.st_mode & 0o077)
