"""How the two ends of a connection begin: a version, and a proof of the key in both directions, which is never sent.

The server greets with its version and a challenge of 32 random bytes. The client answers with its own version, session
and challenge, and HMAC-SHA-256 over both challenges; the server proves that it has the key as well. The greeting keeps
this layout in all versions, so that two of them can tell.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

from multimodal_search.errors import StoreError
from multimodal_search.stores.local_socket.address import Address

VERSION = 1
"""Of the messages: any change of them is another version."""

SESSION_BYTES = 16
"""What the connections of one client have in common: random, as its scans belong to it."""

_MAGIC = b"MMSSTORE"
_GREETING = struct.Struct(">8sI32s")
_ANSWER = struct.Struct(f">8sI{SESSION_BYTES}s32s32s")
_PROOF_BYTES = 32
_LOOK_S = 2.0


def _proof(key: bytes, end: bytes, *challenges: bytes) -> bytes:
    return hmac.new(key, b"".join((end, *challenges)), hashlib.sha256).digest()


@dataclass(frozen=True, slots=True)
class ServerHandshake:
    """The server's part.

    Attributes:
        key: The key.
        challenge: Random bytes.
    """

    key: bytes
    challenge: bytes

    @classmethod
    def new(cls, key: bytes) -> ServerHandshake:
        """For a new connection."""
        return cls(key, secrets.token_bytes(32))

    @property
    def greeting(self) -> bytes:
        """What is sent first."""
        return _GREETING.pack(_MAGIC, VERSION, self.challenge)

    @property
    def answer_bytes(self) -> int:
        """The length of the client's answer."""
        return _ANSWER.size

    def check(self, answer: bytes) -> tuple[bytes, bytes] | None:
        """The client's session, and the server's own proof; None if the client has another version, or no key."""
        magic, version, session, challenge, proof = _ANSWER.unpack(answer)
        expected = _proof(self.key, b"client", self.challenge, challenge, session)
        if magic != _MAGIC or version != VERSION or not hmac.compare_digest(proof, expected):
            return None
        return session, _proof(self.key, b"server", challenge, self.challenge, session)


def is_served(address: Address) -> bool:
    """Whether somebody listens there who speaks this protocol, in whatever version."""
    try:
        with address.connect(_LOOK_S) as connection:
            return _read(connection, _GREETING.size).startswith(_MAGIC)
    except (OSError, StoreError):
        return False


def greet_server(connection: socket.socket, key: bytes, session: bytes, place: Path) -> None:
    """The client's part, on a connection with a time-out.

    Raises:
        StoreError: The server has another version, or does not know the key.
        OSError: It does not answer, or has gone.
    """
    magic, version, challenge = _GREETING.unpack(_read(connection, _GREETING.size))
    if magic != _MAGIC:
        raise StoreError(
            f"what listens in the name of {place} is no store: remove socket.json there, and serve it again"
        )
    if version != VERSION:
        raise StoreError(
            f"the process that has {place} open speaks version {version} of this library's local protocol, and this "
            f"one version {VERSION}: use the same release of multimodal-search in both, or close it there"
        )
    own = secrets.token_bytes(32)
    proof = _proof(key, b"client", challenge, own, session)
    connection.sendall(_ANSWER.pack(_MAGIC, VERSION, session, own, proof))
    if not hmac.compare_digest(_read(connection, _PROOF_BYTES), _proof(key, b"server", own, challenge, session)):
        raise StoreError(f"what listens in the name of {place} does not know its key, so it is not trusted")


def _read(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        some = connection.recv(count - len(data))
        if not some:
            raise ConnectionResetError("the other end has closed the connection")
        data += some
    return data
