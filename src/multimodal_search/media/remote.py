"""Fetch an image from an address, bounded in size and time, without being led into the user's own network.

A name is resolved once, each address is checked, and the connection goes to the very address that was checked, so a
name that changes its answer in between gains nothing. Every redirect goes through the same check. Neither proxies nor
netrc are used: a proxy would resolve names unchecked, and netrc holds passwords that nobody meant to send.
"""

# Why not httpx or urllib3, which are installed anyway: their time-outs are for each read, so a server that sends a byte
# now and then holds them for ever, also before the headers end, where neither gives access to the socket except through
# hooks (httpcore's trace events, subclasses of urllib3's connections). Resolving within the deadline, checking and
# pinning addresses, redirects and the hang-up would all stay here; what they replace is `_Connection` and `_body`.

from __future__ import annotations

import base64
import functools
import http.client
import ipaddress
import queue
import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from multimodal_search._secrets import secrets_of, without_secrets
from multimodal_search.errors import UnreadableContentError
from multimodal_search.media.refusals import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from multimodal_search.contents import RemoteImage

_Endpoint: TypeAlias = tuple[int, tuple[Any, ...]]  # address family and socket address, as getaddrinfo gives them

_MAX_REDIRECTS = 5
_DEFAULT_PORTS = {"http": 80, "https": 443}
_CHUNK_BYTES = 64 * 1024
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are the IPv4 address that is reached
_KEPT_BY_QUOTING = "/%:@!$&'()*+,;=~?-._"


def fetch(remote: RemoteImage, *, label: str) -> bytes:
    """Fetch the bytes at an address.

    Args:
        remote: The address and its bounds; user name and password in it are sent as basic authentication.
        label: Name of the image in errors.

    Raises:
        UnreadableContentError: The address is refused, cannot be reached, or answers with an error, with nothing, with
            too much or too slowly.
    """
    deadline = time.monotonic() + remote.timeout_s
    url = remote.url
    cause: OSError | None = None
    try:
        for _ in range(_MAX_REDIRECTS + 1):
            answer = _get(url, remote, deadline)
            if isinstance(answer, bytes):
                return answer
            url = urljoin(url, answer)
        reason = f"more than {_MAX_REDIRECTS} redirects"
    except RefusedError as error:
        reason = str(error)
    except (OSError, http.client.HTTPException, RuntimeError, ValueError) as error:  # RuntimeError: no more threads
        if isinstance(error, TimeoutError) or time.monotonic() >= deadline:
            reason = f"took longer than {remote.timeout_s:g} s"
        elif isinstance(error, (http.client.InvalidURL, ValueError)) and not isinstance(error, OSError):
            reason = "not a valid address, or redirected to one that is not"
        elif isinstance(error, http.client.HTTPException) and not isinstance(error, OSError):
            reason = "cannot be fetched (the server does not speak HTTP, or breaks off)"
        else:
            reason = f"cannot be fetched ({_first_words(error)})"
        cause = error if isinstance(error, OSError) else None  # the others quote addresses, and answers
    # Outside of `except`, so that no foreign error hangs on it.
    raise UnreadableContentError(f"{label}: {without_secrets(reason, *secrets_of(remote.url))}") from cause


def is_public(address: str) -> bool:
    """Whether an IP address is public; an IPv6 address that embeds an IPv4 address counts as the latter."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            embedded = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if embedded is not None:
            return is_public(str(embedded))
        if ip.is_site_local:
            return False
    # Python counts multicast and some reserved networks as global.
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _get(url: str, remote: RemoteImage, deadline: float) -> bytes | str:
    """The body at an address, or the address that it redirects to."""
    parts, host, port = _parsed(url)
    shown_host = f"[{host}]" if ":" in host else host

    connected = _connect(host, port, remote, deadline)
    try:
        if parts.scheme == "https":
            connected.settimeout(_remaining(deadline))  # bounds the whole handshake, not one read of it
            connected = _tls_context().wrap_socket(connected, server_hostname=host)
        with _hung_up_at(deadline, connected):
            connection = _Connection(host, connected)
            connection.request(
                "GET",
                quote(parts.path or "/", safe=_KEPT_BY_QUOTING)
                + (f"?{quote(parts.query, safe=_KEPT_BY_QUOTING)}" if parts.query else ""),
                headers={
                    "Host": shown_host if port == _DEFAULT_PORTS[parts.scheme] else f"{shown_host}:{port}",
                    "User-Agent": "multimodal-search",
                    "Accept": "image/*",
                    "Connection": "close",
                    **_authorization(parts),
                },
            )
            with connection.getresponse() as response:
                if response.status in (301, 302, 303, 307, 308) and response.headers["Location"]:
                    return str(response.headers["Location"])
                if response.status != 200:
                    raise RefusedError(f"the server answered HTTP {response.status}")
                return _body(response, remote, deadline)
    finally:
        connected.close()


def _parsed(url: str) -> tuple[SplitResult, str, int]:
    """The parts of an address, its host in ASCII, and its port."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme not in _DEFAULT_PORTS or not host:
            raise RefusedError("only http and https addresses are fetched")
        ascii_host = host if ":" in host else host.encode("idna").decode("ascii")
        return parts, ascii_host, _DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
    except ValueError:
        raise RefusedError("not a valid address") from None  # the cause can quote a password


def _body(response: http.client.HTTPResponse, remote: RemoteImage, deadline: float) -> bytes:
    expected = response.length
    body = bytearray()
    while max(len(body), expected or 0) <= remote.max_size_bytes:
        chunk = response.read(min(_CHUNK_BYTES, remote.max_size_bytes + 1 - len(body)))
        if not chunk:
            break
        body += chunk
    else:
        raise RefusedError(f"larger than {remote.max_size_bytes:,} bytes")
    if time.monotonic() >= deadline:  # the connection was closed here, so the body may look complete and is not
        raise TimeoutError
    if expected is not None and len(body) < expected:
        raise RefusedError("the connection broke off")
    if not body:
        raise RefusedError("the server answered with nothing")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise RefusedError("the server answered with a compressed body, which was not asked for")
    return bytes(body)


def _connect(host: str, port: int, remote: RemoteImage, deadline: float) -> socket.socket:
    """Connect to the first permitted address of a host that answers."""
    endpoints = _resolve(host, port, deadline)
    if not remote.allow_private:
        public = [(family, address) for family, address in endpoints if is_public(str(address[0]))]
        if not public:
            raise RefusedError(f"{host} is in a private network; pass allow_private=True if that is meant")
        endpoints = public
    for tried, (family, address) in enumerate(endpoints, start=1):
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            # One address that does not answer must not use up the time of the others.
            connection.settimeout(_remaining(deadline) / (len(endpoints) - tried + 1))
            connection.connect(address)
            connection.settimeout(_remaining(deadline))
        except OSError:
            connection.close()
            if tried == len(endpoints):
                raise
        else:
            return connection
    raise OSError(f"{host} has no address")


def _resolve(host: str, port: int, deadline: float) -> list[_Endpoint]:
    """Resolve the addresses of a host, in a thread, since a resolver has no time limit of its own."""
    answers: queue.SimpleQueue[list[_Endpoint] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put([(family, address) for family, _, _, _, address in found])
        except (OSError, ValueError) as error:
            answers.put(error)

    threading.Thread(target=ask, name="multimodal-search-resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=_remaining(deadline))
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, Exception):
        raise answer
    return answer


class _Connection(http.client.HTTPConnection):
    """HTTP over a socket that is already connected to a checked address."""

    def __init__(self, host: str, connected: socket.socket) -> None:
        super().__init__(host)
        self.sock = connected


@contextmanager
def _hung_up_at(deadline: float, connected: socket.socket) -> Iterator[None]:
    """Close a connection at a deadline: a socket's own timeout starts again with every byte that arrives."""

    def hang_up() -> None:
        with suppress(OSError):  # it was closed in time
            socket.socket.shutdown(connected, socket.SHUT_RDWR)

    timer = threading.Timer(_remaining(deadline), hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@functools.cache
def _tls_context() -> ssl.SSLContext:
    import certifi

    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())  # Python on macOS and in small images has no system store
    return context


def _authorization(parts: SplitResult) -> dict[str, str]:
    if parts.username is None:
        return {}
    credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    return {"Authorization": f"Basic {base64.b64encode(credentials).decode('ascii')}"}


def _remaining(deadline: float) -> float:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError
    return remaining


def _first_words(error: Exception) -> str:
    text = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    return " ".join(text.split())[:100].lower()
