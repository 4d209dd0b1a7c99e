"""Promises of `media.remote`: addresses are fetched within their bounds, never inside the user's own network."""

from __future__ import annotations

import base64
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from multimodal_search.contents import Image, RemoteImage
from multimodal_search.errors import UnreadableContentError
from multimodal_search.media import remote as _remote
from multimodal_search.media.images import load_rgb, read_bytes
from multimodal_search.media.remote import is_public

IMAGE = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\x00\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)


@dataclass
class Server:
    """A web server in this process; `answers` says what each path does, `seen` what was asked."""

    port: int
    answers: dict[str, Callable[[BaseHTTPRequestHandler], None]]
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what these tests are about."""


@pytest.fixture
def server() -> Iterator[Server]:
    with _QuietServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as running:
        described = Server(running.server_address[1], {"/image.gif": sends(IMAGE)})

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                described.seen.append((self.path, dict(self.headers.items())))
                described.answers[self.path](self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in the base class
                pass

        running.RequestHandlerClass = Handler
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield described
        running.shutdown()
        thread.join()


def sends(body: bytes, status: int = 200, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def redirects(location: str, status: int = 302) -> Callable[[BaseHTTPRequestHandler], None]:
    return sends(b"", status, Location=location)


def drips(start: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    """Sends `start`, and then a byte every few hundredths of a second until nobody listens."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(start)
        while True:
            handler.wfile.write(b"x")
            time.sleep(0.02)

    return answer


def image(url: str, *, timeout_s: float = 10, max_size_bytes: int = 100_000, allow_private: bool = True) -> Image:
    return Image.from_url(url, timeout_s=timeout_s, max_size_bytes=max_size_bytes, allow_private=allow_private)


def refusal(asked: Image) -> str:
    with pytest.raises(UnreadableContentError) as caught:
        read_bytes(asked)
    return str(caught.value).removeprefix(f"{asked.label}: ")


@pytest.fixture
def resolves(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Gives host names addresses; returns the list of names that were looked up."""
    real = socket.getaddrinfo
    asked: list[str] = []

    def use(**hosts: list[str]) -> list[str]:
        def getaddrinfo(host: str, *args: object, **kwargs: object) -> object:
            asked.append(host)
            answers = hosts.get(host.replace(".", "_"), [host])
            return real(answers.pop(0), *args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        return asked

    return use


# --- Fetching -------------------------------------------------------------------------------------------------------


def test_an_image_is_fetched(server: Server) -> None:
    asked = image(server.url("/image.gif"))
    assert read_bytes(asked) == IMAGE
    assert load_rgb(asked).getpixel((0, 0)) == (255, 0, 0)
    path, headers = server.seen[0]
    assert path == "/image.gif"
    assert headers["Host"] == f"127.0.0.1:{server.port}"
    assert "Authorization" not in headers


def test_paths_and_queries_arrive_as_they_were_written(server: Server) -> None:
    """Signed addresses break when anything in them is quoted twice or not at all."""
    server.answers["/a%20b/%C3%A9?x=%2F&y=1%202"] = sends(IMAGE)
    assert read_bytes(image(server.url("/a b/%C3%A9?x=%2F&y=1 2#fragment"))) == IMAGE


def test_redirects_are_followed(server: Server) -> None:
    server.answers["/a"] = redirects("/b", 301)
    server.answers["/b"] = redirects(server.url("/c"), 308)
    server.answers["/c"] = redirects("image.gif", 303)
    assert read_bytes(image(server.url("/a"))) == IMAGE


def test_redirects_come_to_an_end(server: Server) -> None:
    server.answers["/a"] = redirects("/a")
    assert refusal(image(server.url("/a"))) == "more than 5 redirects"
    assert len(server.seen) == 6


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x"])
def test_redirects_leave_the_web_nowhere(server: Server, location: str) -> None:
    server.answers["/a"] = redirects(location)
    assert refusal(image(server.url("/a"))) == "only http and https addresses are fetched"


def test_answers_that_are_no_image_are_refused_with_a_reason(server: Server) -> None:
    """Each reason stands alone in a report, beside the address."""
    server.answers["/404"] = sends(b"no", 404)
    server.answers["/empty"] = sends(b"")
    server.answers["/short"] = sends(IMAGE, Content_Length="1000", Connection="close")
    server.answers["/packed"] = sends(IMAGE, Content_Encoding="gzip")
    server.answers["/html"] = sends(b"<html>not found</html>")
    server.answers["/short"] = lambda handler: (
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + IMAGE),
        setattr(handler, "close_connection", True),
    )[0]
    server.answers["/noise"] = lambda handler: (
        handler.wfile.write(b"\x16\x03\x01 noise\r\n\r\n"),
        setattr(handler, "close_connection", True),
    )[0]
    assert refusal(image(server.url("/404"))) == "the server answered HTTP 404"
    assert refusal(image(server.url("/empty"))) == "the server answered with nothing"
    assert refusal(image(server.url("/short"))) == "the connection broke off"
    assert refusal(image(server.url("/packed"))) == (
        "the server answered with a compressed body, which was not asked for"
    )
    assert refusal(image(server.url("/noise"))).startswith("cannot be fetched (")
    with pytest.raises(UnreadableContentError, match="/html: an HTML page, not an image"):
        load_rgb(image(server.url("/html")))


def test_nothing_that_a_server_says_is_quoted(server: Server) -> None:
    """It may say what it was sent, in whatever form."""
    sent = base64.b64encode(b"me:hunter22").decode()
    server.answers["/packed"] = sends(IMAGE, Content_Encoding=sent)
    server.answers["/noise"] = lambda handler: (
        handler.wfile.write(f"HTTP/1.1 {sent}\r\n\r\n".encode()),
        setattr(handler, "close_connection", True),
    )[0]
    for path in ("/packed", "/noise"):
        said = refusal(image(server.url(path, "me:hunter22@127.0.0.1")))
        assert sent[:8].lower() not in said.lower()


def test_hosts_that_do_not_answer_are_refused() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    assert refusal(image(f"http://127.0.0.1:{port}/x")) == "cannot be fetched (connection refused)"
    assert refusal(image("http://no-such-host.invalid/x")).startswith("cannot be fetched (")


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http://host:port/", "http://a..b/", "http:///x"])
def test_addresses_that_are_none_are_refused(url: str) -> None:
    assert refusal(image(url)) in ("not a valid address", "only http and https addresses are fetched")


def test_the_name_of_an_image_stands_in_its_errors(server: Server) -> None:
    named = Image.from_url(server.url("/x"), name="the cat")
    with pytest.raises(UnreadableContentError, match=r"^the cat: "):
        read_bytes(named)


# --- Bounds ---------------------------------------------------------------------------------------------------------


def test_an_image_larger_than_allowed_is_refused(server: Server) -> None:
    """By its declared length before any of it is read, and by what arrives where none is declared."""
    size = len(IMAGE)
    assert read_bytes(image(server.url("/image.gif"), max_size_bytes=size)) == IMAGE
    assert refusal(image(server.url("/image.gif"), max_size_bytes=size - 1)) == f"larger than {size - 1} bytes"

    server.answers["/declared"] = drips(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    assert refusal(image(server.url("/declared"))) == "larger than 100,000 bytes"

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            handler.wfile.write(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")

    server.answers["/endless"] = endless
    assert refusal(image(server.url("/endless"))) == "larger than 100,000 bytes"


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX-Endless: ",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000\r\n",
    ],
    ids=["status", "headers", "body", "body of known length", "chunked body"],
)
def test_a_server_that_drips_is_hung_up_on_in_time(server: Server, start: bytes) -> None:
    """A socket's time-out starts anew with every byte: without a deadline this would take hours."""
    server.answers["/drip"] = drips(start)
    started = time.monotonic()
    assert refusal(image(server.url("/drip"), timeout_s=0.4)) == "took longer than 0.4 s"
    assert time.monotonic() - started < 1.5


def test_a_server_that_says_nothing_is_hung_up_on_in_time() -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as deaf:
        port = deaf.server_address[1]
        started = time.monotonic()
        for scheme in ("http", "https"):
            assert refusal(image(f"{scheme}://127.0.0.1:{port}/", timeout_s=0.3)) == "took longer than 0.3 s"
        assert time.monotonic() - started < 2


def test_redirects_share_the_time_of_one_fetch(server: Server) -> None:
    def slowly(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(0.25)
        redirects("/slow")(handler)

    server.answers["/slow"] = slowly
    assert refusal(image(server.url("/slow"), timeout_s=0.6)) == "took longer than 0.6 s"


def test_a_resolver_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead name server costs half a minute and more, and no socket's time-out covers it."""
    done = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        done.wait(20)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    started = time.monotonic()
    assert refusal(image("http://example.org/", timeout_s=0.3)) == "took longer than 0.3 s"
    assert time.monotonic() - started < 1.5
    done.set()


# --- The user's own network -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.9.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "192.0.2.1", "198.18.0.1", "224.0.0.1", "224.0.1.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
        "::", "::1", "fe80::1", "fe80::1%2", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "ff0e::1", "2001:db8::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:c0a8:101::1", "2001:0:5ef5:79fd:0:0:80ff:fffe",
    ],
)  # fmt: skip
def test_private_addresses_are_not_public(address: str) -> None:
    """Cloud metadata, routers and printers answer anybody who asks from inside."""
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1"]
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::ffff:127.0.0.1]", "[::1]", "0"],
)
def test_loopback_is_refused_however_it_is_written(server: Server, host: str) -> None:
    """The resolver understands decimal, octal and short forms; what counts is where they lead."""
    reason = refusal(image(server.url("/image.gif", host), allow_private=False))
    assert reason == f"{host.strip('[]')} is in a private network; pass allow_private=True if that is meant" or (
        reason.startswith("cannot be fetched (")  # a system without IPv6, or a resolver that wants dots
    )
    assert server.seen == []


def test_private_addresses_are_fetched_from_if_allowed(server: Server) -> None:
    assert read_bytes(image(server.url("/image.gif", "localhost"), allow_private=True)) == IMAGE


def test_every_redirect_is_checked_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual way in: a public address that redirects to a private one."""
    monkeypatch.setattr(_remote, "is_public", lambda address: address == "127.0.0.1")
    server.answers["/in"] = redirects(server.url("/secret", "127.0.0.2"))
    server.answers["/secret"] = sends(b"secret")
    assert refusal(image(server.url("/in"), allow_private=False)) == (
        "127.0.0.2 is in a private network; pass allow_private=True if that is meant"
    )
    assert [path for path, _ in server.seen] == ["/in"]


def test_a_name_is_resolved_once_and_the_checked_address_is_used(
    server: Server, monkeypatch: pytest.MonkeyPatch, resolves: Callable[..., list[str]]
) -> None:
    """A name that is public when checked and private when connected to is the other way in."""
    monkeypatch.setattr(_remote, "is_public", lambda address: address == "127.0.0.1")
    asked = resolves(images_example=["127.0.0.1", "127.0.0.2"])
    assert read_bytes(image(server.url("/image.gif", "images.example"), allow_private=False)) == IMAGE
    assert asked == ["images.example"]
    assert server.seen[0][1]["Host"] == f"images.example:{server.port}"


def test_an_international_name_is_asked_for_in_ascii(server: Server, resolves: Callable[..., list[str]]) -> None:
    resolves(**{"xn--bcher-kva_example": ["127.0.0.1"]})
    assert read_bytes(image(server.url("/image.gif", "bücher.example"))) == IMAGE
    assert server.seen[0][1]["Host"] == f"xn--bcher-kva.example:{server.port}"


def test_proxies_and_netrc_play_no_part(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A proxy would resolve names unchecked; netrc would send passwords that nobody meant to send."""
    (tmp_path / "netrc").write_text("default login somebody password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert read_bytes(image(server.url("/image.gif"))) == IMAGE
    assert "Authorization" not in server.seen[0][1]


# --- Secrets --------------------------------------------------------------------------------------------------------


def test_a_password_in_an_address_is_sent_to_its_host_and_shown_nowhere(
    server: Server, resolves: Callable[..., list[str]]
) -> None:
    """Errors end up in logs and in reports."""
    resolves(other_example=["127.0.0.1"])
    server.answers["/missing"] = sends(b"", 404)
    server.answers["/away"] = redirects(server.url("/missing", "other.example"))
    for path in ("/missing", "/away"):
        with pytest.raises(UnreadableContentError) as caught:
            read_bytes(image(server.url(path, "me:hunter%322@127.0.0.1")))
        error: BaseException | None = caught.value
        assert str(error) == f"{server.url(path)}: the server answered HTTP 404"
        while error is not None:
            assert "hunter" not in repr(error)
            error = error.__cause__ or error.__context__
    authorizations = [headers.get("Authorization") for _, headers in server.seen]
    expected = "Basic " + base64.b64encode(b"me:hunter22").decode()
    assert authorizations == [expected, expected, None]


def test_an_invalid_address_does_not_quote_its_password() -> None:
    """The standard library's messages name the piece that they could not read."""
    with pytest.raises(UnreadableContentError) as caught:
        _remote.fetch(RemoteImage("http://me:pass/word@host/"), label="x")
    error: BaseException | None = caught.value
    while error is not None:
        assert "pass" not in str(error)
        error = error.__cause__


# --- TLS ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of `images.example`, signed by itself, with its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command to make a certificate")
    file = tmp_path_factory.mktemp("tls") / "certificate.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=images.example",
         "-addext", "subjectAltName=DNS:images.example", "-keyout", str(file) + ".key", "-out", str(file)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    file.write_text(file.read_text() + Path(f"{file}.key").read_text())
    return file


@pytest.fixture
def tls_server(certificate: Path) -> Iterator[tuple[int, list[str | None]]]:
    """Its port, and the names that clients asked for (SNI)."""
    asked: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda _socket, name, _context: asked.append(name)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sends(IMAGE)(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in the base class
            pass

    class TlsServer(_QuietServer):
        def get_request(self) -> tuple[socket.socket, object]:
            connection, address = super().get_request()
            try:
                return context.wrap_socket(connection, server_side=True), address
            except OSError:
                connection.close()
                raise

    with TlsServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running.server_address[1], asked
        running.shutdown()
        thread.join()


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    _remote._tls_context.cache_clear()
    yield
    _remote._tls_context.cache_clear()


@pytest.mark.usefixtures("trusted")
def test_https_asks_for_and_checks_the_name_though_it_connects_to_an_address(
    tls_server: tuple[int, list[str | None]], resolves: Callable[..., list[str]]
) -> None:
    """Pinning the address must not cost the check of whom we talk to."""
    port, asked = tls_server
    resolves(images_example=["127.0.0.1"], impostor_example=["127.0.0.1"])
    assert read_bytes(image(f"https://images.example:{port}/x")) == IMAGE
    assert asked == ["images.example"]
    assert "hostname mismatch" in refusal(image(f"https://impostor.example:{port}/x"))


def test_https_refuses_a_certificate_that_nobody_vouches_for(
    tls_server: tuple[int, list[str | None]], resolves: Callable[..., list[str]]
) -> None:
    port, _ = tls_server
    resolves(images_example=["127.0.0.1"])
    assert "certificate verify failed" in refusal(image(f"https://images.example:{port}/x"))
