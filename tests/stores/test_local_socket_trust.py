"""Who may connect to a served store, and what the server makes of rubbish: nobody else, and nothing."""

from __future__ import annotations

import json
import os
import random
import socket
import stat
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving import eventually, served_in_child

from multimodal_search import MemoryStore, Record, StoreError, StoreSchema, StoreUnavailableError
from multimodal_search.stores.local_socket import StoreServer, connect_store, connection, handshake, serve_store
from multimodal_search.stores.local_socket import address as addresses
from multimodal_search.stores.local_socket.address import ADDRESS_FILE, Address, listen, read_address
from multimodal_search.stores.local_socket.frames import Channel, message_of
from multimodal_search.stores.local_socket.handshake import ServerHandshake, greet_server

SCHEMA = StoreSchema(model="tiny", fingerprint="tiny/2", dimension=2)
HAS_PERMISSIONS = pytest.mark.skipif(os.name == "nt", reason="Windows has no modes of files")
TRANSPORTS = ["unix", "tcp"] if hasattr(socket, "AF_UNIX") else ["tcp"]


@pytest.fixture(params=TRANSPORTS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreServer]:
    with closing(MemoryStore()) as store:
        store.ensure(SCHEMA)
        store.upsert([Record(number) for number in range(3)], np.ones((3, 2), np.float32))
        with serve_store(store, tmp_path, transport=request.param) as server:
            yield server


def bare(place: Path) -> socket.socket:
    """A connection of somebody who has proved nothing yet."""
    return read_address(place).connect(30)


def trusted(place: Path) -> socket.socket:
    """A connection of a client, which may send what it likes from now on."""
    opened = bare(place)
    greet_server(opened, read_address(place).key, os.urandom(16), place)
    assert Channel(opened, copies=True).receive() is not None
    return opened


def is_closed(opened: socket.socket) -> bool:
    """Whether the server has closed a connection, or does so soon."""
    with opened, suppress(ConnectionError):
        while opened.recv(1000):
            pass
    return True


def still_serves(place: Path) -> bool:
    with closing(connect_store(place)) as client:
        return client.count() == 3 and [record.id for record in client.scan()] == [0, 1, 2]


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n\r\n" * 20, bytes(1000), b"\xff" * 124])
def test_who_does_not_know_the_protocol_is_disconnected(server: StoreServer, tmp_path: Path, first: bytes) -> None:
    opened = bare(tmp_path)
    opened.sendall(first)
    assert is_closed(opened)
    assert server.clients == 0
    assert still_serves(tmp_path)


def test_who_does_not_know_the_key_is_disconnected(server: StoreServer, tmp_path: Path) -> None:
    """Nor is anything made of what it sends after its wrong proof."""
    opened = bare(tmp_path)
    with pytest.raises((ConnectionError, StoreError)):
        greet_server(opened, bytes(32), bytes(16), tmp_path)
    with suppress(OSError):
        opened.sendall(b"".join(message_of(["delete", [[0, 1, 2]]])))
    assert is_closed(opened)
    assert still_serves(tmp_path)


def test_a_client_of_another_version_is_disconnected(server: StoreServer, tmp_path: Path, monkeypatch: Any) -> None:
    key = read_address(tmp_path).key
    with bare(tmp_path) as opened:
        greeting = ServerHandshake(key, opened.recv(44)[12:])
        monkeypatch.setattr(handshake, "VERSION", 2)
        answer = handshake._ANSWER.pack(b"MMSSTORE", 2, bytes(16), bytes(32), bytes(32))
        assert len(answer) == greeting.answer_bytes
        opened.sendall(answer)
        monkeypatch.undo()
        assert is_closed(opened)
    assert still_serves(tmp_path)


@pytest.fixture
def false_server(tmp_path: Path) -> Iterator[Callable[[Callable[[socket.socket, Address], None]], None]]:
    """Begins to listen where a store should be, and does something with the first connection."""
    threads: list[threading.Thread] = []

    def begin(talk: Callable[[socket.socket, Address], None]) -> None:
        listener, address = listen(tmp_path, None)

        def run() -> None:
            with listener:
                opened, _ = listener.accept()
                with opened, suppress(OSError):
                    talk(opened, address)

        threads.append(threading.Thread(target=run))
        threads[0].start()

    yield begin
    for thread in threads:
        thread.join(60)
    addresses.forget(tmp_path)


def test_a_server_of_another_version_is_named(false_server: Any, tmp_path: Path) -> None:
    """One sentence, with both versions and what to do."""
    false_server(lambda opened, _: opened.sendall(struct.pack(">8sI32s", b"MMSSTORE", 7, bytes(32))))
    with pytest.raises(StoreError, match=r"speaks version 7 of .* this one version 1: use the same release") as error:
        connect_store(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert not isinstance(error.value, StoreUnavailableError)


def test_a_server_that_does_not_know_the_key_is_not_trusted(false_server: Any, tmp_path: Path) -> None:
    def talk(opened: socket.socket, _: Address) -> None:
        opened.sendall(struct.pack(">8sI32s", b"MMSSTORE", 1, bytes(32)))
        assert opened.recv(1000)
        opened.sendall(bytes(32))

    false_server(talk)
    with pytest.raises(StoreError, match="does not know its key, so it is not trusted"):
        connect_store(tmp_path)


def test_a_server_that_is_something_else_is_not_trusted(false_server: Any, tmp_path: Path) -> None:
    false_server(lambda opened, _: opened.sendall(b"SSH-2.0-OpenSSH_9.6" + bytes(100)))
    with pytest.raises(StoreError, match=r"is no store: remove socket\.json"):
        connect_store(tmp_path)


@pytest.mark.parametrize("sent", [b"", b"\0\0\0\x20", b"\0\0\0\x28\0\0\0\0[[[", b"rubbish"])
def test_a_server_that_stops_or_sends_rubbish_ends_the_call(false_server: Any, tmp_path: Path, sent: bytes) -> None:
    """It ends with an error; nothing waits for ever, and nothing is believed."""

    def talk(opened: socket.socket, address: Address) -> None:
        greeted = ServerHandshake.new(address.key)
        opened.sendall(greeted.greeting)
        checked = greeted.check(opened.recv(greeted.answer_bytes))
        assert checked is not None
        opened.sendall(checked[1] + b"".join(message_of({"protocols": [], "store": "x"})))
        opened.recv(1000)
        opened.sendall(sent)

    false_server(talk)
    with closing(connect_store(tmp_path)) as client, pytest.raises(StoreError):
        client.count()


def test_the_key_is_never_sent() -> None:
    key = os.urandom(32)
    ends = socket.socketpair()
    heard = b""
    with ends[0], ends[1]:
        server = ServerHandshake.new(key)
        ends[1].sendall(server.greeting)
        thread = threading.Thread(target=lambda: greet_server(ends[0], key, bytes(16), Path()))
        thread.start()
        answer = ends[1].recv(server.answer_bytes)
        checked = server.check(answer)
        assert checked is not None
        ends[1].sendall(checked[1])
        thread.join(60)
        heard += server.greeting + answer + checked[1]
    assert not any(key[at : at + 8] in heard for at in range(24))
    assert "key" not in repr(Address("tcp", 1, key))


MESSAGES: dict[str, bytes] = {
    "huge lengths": struct.pack(">II", 2**32 - 1, 2**32 - 1),
    "a huge header": struct.pack(">II", 2**31, 0),
    "no JSON": struct.pack(">II", 8, 0) + b"{[}]    ",
    "no ASCII": struct.pack(">II", 8, 0) + b"\xff" * 8,
    "deep JSON": struct.pack(">II", 400_000, 0) + b"[" * 400_000,
    "an empty header": struct.pack(">II", 0, 0),
    "a number": struct.pack(">II", 8, 0) + b"7       ",
    "two messages": b"".join(message_of(["count", [None]])) * 2,
    "no method": b"".join(message_of(["__class__", []])),
    "a method of Python": b"".join(message_of(["close", []])),
    "a method that is none": b"".join(message_of([["count"], []])),
    "no arguments": b"".join(message_of(["count", 7])),
    "arrays cut off": struct.pack(">II", 40, 0) + b'[["count",[null]],[["<f4",[3]]]]'.ljust(40),
    "a huge array": struct.pack(">II", 64, 0) + b'[["count",[null]],[["<f4",[4611686018427387904,8]]]]'.ljust(64),
    "a negative array": struct.pack(">II", 40, 0) + b'[["count",[null]],[["<f4",[-1]]]]'.ljust(40),
    "an array of objects": struct.pack(">II", 64, 8) + b'[["upsert",[]],[["|O",[1]]]]\n[[1,{}]]'.ljust(64) + b"x" * 8,
    "rows that are none": struct.pack(">II", 40, 0) + b'[["upsert",[]],[]]\n7'.ljust(40),
    "an empty line": struct.pack(">II", 40, 0) + b'[["count",[null]],[]]\n\n'.ljust(40),
    "an array of a structure": struct.pack(">II", 40, 8) + b'[["count",[null]],[["f4,f4",[1]]]]'.ljust(40) + bytes(8),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_what_is_no_call_ends_the_connection_and_nothing_else(server: StoreServer, tmp_path: Path, name: str) -> None:
    with closing(connect_store(tmp_path)) as client:
        opened = trusted(tmp_path)
        opened.sendall(MESSAGES[name])
        assert is_closed(opened)
        assert client.count() == 3
    assert still_serves(tmp_path)


CALLS: list[Any] = [
    ["count", []],
    ["count", [{"opaque": 7}]],
    ["count", [{"set": [{"mapping": []}]}]],
    ["count", [{"a": 1, "b": 2}]],
    ["attribute", ["__class__"]],
    ["attribute", ["_lock"]],
    ["search", ["close", 1, 0, None]],
    ["search", ["search", 1, 0, None]],
    ["scan", [None, None, [1], []]],
    ["upsert", [[[1, 7]]]],
    ["upsert", []],
    ["ensure", [{"model": 1}]],
    ["tune", [["a"], 1]],
    ["optimize", []],
]


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_a_call_that_makes_no_sense_is_answered_with_an_error(server: StoreServer, tmp_path: Path, call: Any) -> None:
    """Or ends its connection; the store is called with nothing that its protocol does not have."""
    with trusted(tmp_path) as opened:
        channel = Channel(opened, copies=True)
        channel.send(message_of(call))
        with suppress(ConnectionError):
            message = channel.receive()
            assert message is not None
            assert message[0][0] == "failed"
    assert still_serves(tmp_path)


def test_random_bytes_harm_nobody(server: StoreServer, tmp_path: Path) -> None:
    """Among them whole calls of which one byte is another, and ones that are cut off."""
    chance = random.Random(1)
    whole = b"".join(message_of(["search", ["search", 2, 0, {"mapping": [["n", 1]]}]], [np.ones((1, 2), np.float32)]))
    for number in range(150):
        data = bytearray(whole)
        if number % 3 == 0:
            data = bytearray(chance.randbytes(chance.randrange(1, 200)))
        elif number % 3 == 1:
            data[chance.randrange(len(data))] = chance.randrange(256)
        else:
            del data[chance.randrange(len(data)) :]
        with trusted(tmp_path) as opened:
            opened.sendall(data)
    assert still_serves(tmp_path)
    assert eventually(lambda: server.clients == 0)


def test_a_call_that_is_half_sent_changes_nothing(server: StoreServer, tmp_path: Path) -> None:
    """However much of it has arrived."""
    rows = np.ones((500, 2), np.float32)
    records = [[number, {"text": "x" * 200}] for number in range(500)]
    whole = b"".join(message_of(["upsert", []], [rows], records))
    for sent in (1, 8, 100, len(whole) // 2, len(whole) - 1):
        with trusted(tmp_path) as opened:
            opened.sendall(whole[:sent])
    assert eventually(lambda: server.clients == 0)
    assert still_serves(tmp_path)
    opened = trusted(tmp_path)
    opened.sendall(whole)
    assert Channel(opened, copies=True).receive() == (["done", None], [], [])
    opened.close()
    with closing(connect_store(tmp_path)) as client:
        assert client.count() == 500


def test_who_stops_in_the_middle_is_disconnected(server: StoreServer, tmp_path: Path, monkeypatch: Any) -> None:
    """After a while, in which all others are served: neither a thread nor much memory waits for the rest."""
    monkeypatch.setattr(connection, "REST_S", 0.3)
    monkeypatch.setattr(connection, "HANDSHAKE_S", 0.3)
    silent = [bare(tmp_path) for _ in range(20)]
    halves = [trusted(tmp_path) for _ in range(20)]
    for opened in halves:
        opened.sendall(struct.pack(">II", 2**29, 2**29) + b"[")
    assert still_serves(tmp_path)
    for opened in (*silent, *halves):
        assert is_closed(opened)
    assert eventually(lambda: server.clients == 0)


def test_a_slow_client_is_waited_for(server: StoreServer, tmp_path: Path) -> None:
    """A call that arrives byte by byte is a call."""
    with trusted(tmp_path) as opened:
        for byte in b"".join(message_of(["count", [None]])):
            opened.sendall(bytes([byte]))
        assert Channel(opened, copies=True).receive() == (["done", 3], [], [])


def test_who_does_not_read_its_answers_is_disconnected(server: StoreServer, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(connection, "REST_S", 0.3)
    with closing(connect_store(tmp_path)) as client:
        client.upsert([Record(0, {"text": "x" * 20_000_000})], np.ones((1, 2), np.float32))
        greedy = [trusted(tmp_path) for _ in range(3)]
        for opened in greedy:
            opened.sendall(b"".join(message_of(["get", [[0], False]])))
        assert client.count() == 3
        assert eventually(lambda: server.clients == 1)
        for opened in greedy:
            assert is_closed(opened)
        assert client.count() == 3


@HAS_PERMISSIONS
def test_nobody_else_can_read_the_key_or_reach_the_socket(tmp_path: Path) -> None:
    """Whatever the process's umask."""
    before = os.umask(0)
    try:
        with closing(MemoryStore()) as store, serve_store(store, tmp_path / "index"):
            path = tmp_path / "index" / ADDRESS_FILE
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            told = json.loads(path.read_text())
            assert told["transport"] == "unix"
            at = Path(told["at"])
            assert stat.S_IMODE(at.stat().st_mode) == 0o600
            assert stat.S_IMODE(at.parent.stat().st_mode) == 0o700
    finally:
        os.umask(before)
    assert not at.parent.exists()
    assert not list((tmp_path / "index").iterdir())


@HAS_PERMISSIONS
def test_a_key_that_others_can_read_is_not_trusted(server: StoreServer, tmp_path: Path) -> None:
    """Who could read it can pretend to be the server."""
    path = tmp_path / ADDRESS_FILE
    path.chmod(0o640)
    with pytest.raises(StoreError, match="can be read by others, so it is not trusted"):
        connect_store(tmp_path)
    path.chmod(0o600)
    assert still_serves(tmp_path)


@HAS_PERMISSIONS
def test_the_socket_of_another_user_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(MemoryStore()) as store, serve_store(store, tmp_path):
        address = read_address(tmp_path)
        monkeypatch.setattr(os, "geteuid", lambda: 4_000_000)
        with pytest.raises(StoreError, match="is another user's, or can be read by others"):
            connect_store(tmp_path)
        with pytest.raises(StoreError, match="is no socket of this user, so it is not trusted"):
            address.connect(1)
        monkeypatch.undo()
        connect_store(tmp_path).close()


@HAS_PERMISSIONS
def test_a_link_in_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    with closing(MemoryStore()) as store, serve_store(store, tmp_path / "a"):
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / ADDRESS_FILE).symlink_to(tmp_path / "a" / ADDRESS_FILE)
        with pytest.raises(StoreError, match=r"socket\.json cannot be read"):
            connect_store(tmp_path / "b")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"transport": "unix", "at": 7, "key": "00"}', "\xff"])
def test_a_file_that_makes_no_sense_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / ADDRESS_FILE
    path.write_text(text, "latin-1")
    path.chmod(0o600)
    with pytest.raises(StoreError, match=r"socket\.json cannot be read .*: remove it, and serve the store again"):
        connect_store(tmp_path)
    with closing(MemoryStore()) as store, serve_store(store, tmp_path):
        connect_store(tmp_path).close()


@HAS_PERMISSIONS
def test_a_file_system_without_permissions_is_not_shared_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As FAT has none: everybody could read the key."""
    monkeypatch.setattr(addresses, "_is_private", lambda found: False)
    with closing(MemoryStore()) as store:
        with pytest.raises(StoreError, match=r"keeps no file to its owner alone .*cannot be shared"):
            serve_store(store, tmp_path)
        assert not list(tmp_path.iterdir())


def test_what_a_killed_server_left_is_replaced(tmp_path: Path) -> None:
    """Its socket and the file; nobody is told that they are locked."""
    code = "from multimodal_search import MemoryStore; store = MemoryStore()"
    place = tmp_path / "place"
    with served_in_child(code, place) as child:
        connect_store(place).close()
        left = read_address(place)
        child.kill()
        child.wait()
    with pytest.raises(StoreUnavailableError, match="no process serves the store") as caught:
        connect_store(place)
    assert caught.value.trouble == "unreachable"
    with closing(MemoryStore()) as store, serve_store(store, place):
        assert read_address(place) != left
        if isinstance(left.at, str):
            assert not Path(left.at).parent.exists()
        connect_store(place).close()


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this Python has no Unix sockets")
def test_paths_may_be_longer_than_those_of_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the index, and of the folder for temporary files."""
    deep = tmp_path / ("a" * 120) / ("b" * 120)
    deep.mkdir(parents=True)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with closing(MemoryStore()) as store, serve_store(store, deep):
        at = read_address(deep).at
        assert len(os.fsencode(str(at))) <= 100
        connect_store(deep).close()
        assert [each.name for each in deep.iterdir()] == [ADDRESS_FILE]
    monkeypatch.setattr(addresses, "_MAX_PATH_BYTES", 10)
    with closing(MemoryStore()) as store, pytest.raises(StoreError, match=r"their paths are too long.*set TMPDIR"):
        serve_store(store, deep)
