"""The connection of `QdrantStore`: checked settings, and the `QdrantClient` made from them."""

from __future__ import annotations

import inspect
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from multimodal_search._files import checked_path
from multimodal_search._secrets import secrets_of, shown_address, without_secrets
from multimodal_search._text import brief
from multimodal_search.errors import ConfigurationError, StoreClosedError
from multimodal_search.stores.qdrant.errors import translated

if TYPE_CHECKING:
    import httpx
    from qdrant_client import QdrantClient

_log = logging.getLogger(__name__)

_MAX_SECONDS = 1e6  # eleven days; not every system has timers for much more

_GRPC_S = 5  # qdrant-client's own timeout of gRPC calls
_SERVERS_TIMEOUT_S = 60.0  # servers end a read then, unless the request says otherwise
_KEEP_ALIVE_S = 3.0  # servers close idle connections after 5 s; what is sent at that moment is lost
_REPEATED_BYTES = 1_000_000  # above that, a connection may be closed for the size
_NEW_S = 2.0  # after opening, during which a peer may not know the collection yet: 180 ms were seen
_REST_PORT, _GRPC_PORT = 6333, 6334

_told = set[tuple[str, str]]()  # warnings, by collection with its server

_local_lock = threading.RLock()  # qdrant-client's local mode is not safe to use from several threads


class Connection:
    """A `QdrantClient` for one collection, made at first use; its errors are translated to this library's.

    Args: as for `QdrantStore`.

    Attributes:
        collection: The name of the collection, or an alias of it.
        path: The folder of local mode, if it has one.
        is_local: Whether the client is qdrant-client's own local mode, and reaches no server.
        timeout: Seconds for a request to carry, where `timeout_s` is more than servers take by themselves; else None.
            Not for writes of points: without it the server takes as long as it needs, with it it may answer 200 before.

    Raises:
        ConfigurationError: The settings contradict each other, or one of them is malformed.
    """

    def __init__(
        self,
        collection: str,
        *,
        url: str | None,
        api_key: str | None,
        prefer_grpc: bool,
        grpc_port: int | None,
        path: str | PathLike[str] | None,
        location: str | None,
        client: QdrantClient | None,
        timeout_s: float,
    ) -> None:
        if not isinstance(collection, str) or not collection:
            raise ConfigurationError(f"QdrantStore needs the name of a collection, not {brief(collection)}")
        places = {"url": url, "path": path, "location": location, "client": client}
        given = [name for name, place in places.items() if place is not None]
        if len(given) != 1:
            raise ConfigurationError(
                f"QdrantStore needs exactly one of {', '.join(places)}, not {' and '.join(given) or 'none'}; "
                'a server of your own is url="http://localhost:6333"'
            )
        if location is not None and (not isinstance(location, str) or location != ":memory:"):
            raise ConfigurationError('location is ":memory:" or nothing; a server is given as url, a folder as path')
        if url is not None:
            check_url(url)
        if client is not None and (isinstance(client, type) or not hasattr(client, "get_collection")):
            raise ConfigurationError(f"client is a QdrantClient, not {brief(client)}")
        if client is not None and inspect.iscoroutinefunction(client.get_collection):
            raise ConfigurationError("client is a QdrantClient, not an AsyncQdrantClient")
        if api_key is not None and url is None:
            raise ConfigurationError("api_key goes with url")
        if not isinstance(timeout_s, (int, float)) or isinstance(timeout_s, bool) or not 0 < timeout_s <= _MAX_SECONDS:
            raise ConfigurationError(f"timeout_s must be a number of seconds above 0, not {brief(timeout_s)}")
        self._grpc_port = checked_grpc_port(grpc_port, url, prefer_grpc=prefer_grpc)
        self.collection = collection
        self._url = url
        self._api_key = checked_key(api_key)
        given_options = getattr(client, "init_options", None) or {}  # of a client that the user made
        keys = (self._api_key, given_options.get("api_key"))
        addresses = (url, given_options.get("url"))
        self._server = url or given_options.get("url") or f"{given_options.get('host')}:{given_options.get('port')}"
        self._opened_at = -math.inf
        self._secrets = (
            *(key for key in keys if isinstance(key, str) and key),
            *(secret for address in addresses if isinstance(address, str) for secret in secrets_of(address)),
        )
        self._prefer_grpc = bool(given_options.get("prefer_grpc", prefer_grpc))
        self._request_s = math.ceil(timeout_s if client is None else given_options.get("timeout") or _GRPC_S)
        self.path = None if path is None else fspath(checked_path(path, "QdrantStore"))
        self._timeout_s = timeout_s
        self.timeout: int | None = None
        self.limit_timeout(None)
        self._client = client
        self._owns_client = client is None
        self._rest: QdrantClient | None = None
        self._is_closed = False
        self.is_local = url is None and (client is None or is_local(client))

    @property
    def url(self) -> str | None:
        """The URL of the server, without secrets; None without one."""
        return None if self._url is None else shown_address(self._url)

    @property
    def prefers_grpc(self) -> bool:
        """Whether the client talks gRPC where it can."""
        return self._prefer_grpc

    @property
    def request_s(self) -> int:
        """Seconds that a gRPC call may take, where the client is called below its own methods."""
        return self._request_s

    @property
    def place(self) -> str:
        """The collection with its server, as one text."""
        return f"{shown_address(str(self._server))} {self.collection}"

    @property
    def would_create_folder(self) -> bool:
        """Whether making the client creates the folder of local mode."""
        return self._client is None and self.path is not None and not Path(self.path).is_dir()

    def check_open(self) -> None:
        """Check that the connection is not closed.

        Raises:
            StoreClosedError: It is.
        """
        if self._is_closed:
            raise StoreClosedError(f"the QdrantStore on {self.collection!r} is closed: open it again with a new one")

    @contextmanager
    def calling(self) -> Iterator[QdrantClient]:
        """Provide the client, made at first use, and translate the errors of calls on it.

        Raises:
            StoreClosedError: The connection was closed.
            StoreError: A call failed.
        """
        client = self._client
        self.check_open()
        with self._translated():
            if client is None:
                client = self._client = self._connect(prefer_grpc=self._prefer_grpc)
            yield client

    def rest(self) -> QdrantClient | None:
        """A client of the URL over REST, where the other one uses gRPC on a port of its own; else None."""
        if self._url is not None and self._prefer_grpc and self._rest is None:
            self._rest = self._connect(prefer_grpc=False)
        return self._rest

    def opened(self) -> None:
        """Note that the collection exists."""
        self._opened_at = time.monotonic()

    def limit_timeout(self, most: int | None) -> None:
        """Ask the server for no more seconds than the strict mode of its collection allows, if it sets a limit."""
        if self._timeout_s > _SERVERS_TIMEOUT_S:
            asked = math.ceil(self._timeout_s)
            self.timeout = min(asked, most or asked)

    def tell_once(self, message: str) -> None:
        """Log a warning about the collection, once in this process."""
        if (self.place, message) not in _told:
            _told.add((self.place, message))
            _log.warning("%s: %s", self, without_secrets(message, *self._secrets))

    def close(self) -> None:
        """Close the client; one passed as `client=` stays open."""
        self._is_closed = True
        client, self._client = self._client, None
        rest, self._rest = self._rest, None
        for each in (client if self._owns_client else None, rest):
            if each is not None:
                with self._translated():
                    each.close()

    def __str__(self) -> str:
        at = self.path if self._url is None else self.url
        return f"the Qdrant collection {self.collection!r}{'' if at is None else f' at {at}'}"

    def __repr__(self) -> str:
        if self._url is not None:
            return f"url={self.url!r}"
        if self.path is not None:
            return f"path={self.path!r}"
        return 'location=":memory:"' if self._owns_client else "client=..."

    @contextmanager
    def _translated(self) -> Iterator[None]:
        is_new = time.monotonic() < self._opened_at + _NEW_S
        with translated(str(self), self._secrets, is_new=is_new):
            if self.is_local:
                with _local_lock:
                    yield
            else:
                yield

    def _connect(self, *, prefer_grpc: bool) -> QdrantClient:
        import httpx
        from qdrant_client import QdrantClient

        if self._url is None:
            if self.path is None:
                return QdrantClient(location=":memory:")
            # The threads take turns, see `_local_lock`, and then SQLite is content with several.
            return QdrantClient(path=self.path, force_disable_check_same_thread=True)
        plain = urlsplit(self._url)
        here = plain.hostname in ("localhost", "127.0.0.1", "::1")
        if self._api_key is not None and plain.scheme == "http" and not here:
            _log.warning("the API key for %s is sent unencrypted: use https://", shown_address(self._url))
        client = QdrantClient(
            url=self._url,
            # As `api_key`, it would also raise a warning, which stops programs that turn warnings into errors.
            headers=None if self._api_key is None else {"api-key": self._api_key},
            prefer_grpc=prefer_grpc,
            grpc_port=self._grpc_port,
            timeout=math.ceil(self._timeout_s),
            check_compatibility=False,  # a request in the background, whose only effect is a warning
            limits=httpx.Limits(keepalive_expiry=_KEEP_ALIVE_S),
        )
        client.http.client.add_middleware(_repeated_when_disconnected)
        return client


def _repeated_when_disconnected(request: httpx.Request, send: Callable[[httpx.Request], httpx.Response]) -> Any:
    """Send a request again, once, if the server closed the connection instead of answering, as it does when idle.

    All requests of this library mean the same when they arrive twice.
    """
    import httpx

    try:
        return send(request)
    except Exception as error:
        source = getattr(error, "source", None)
        if not isinstance(source, httpx.RemoteProtocolError) or len(request.content) > _REPEATED_BYTES:
            raise
    return send(request)


def checked_grpc_port(port: int | None, url: str | None, *, prefer_grpc: bool) -> int:
    """Check a gRPC port; without one, it is 6334 if the URL's is the usual one."""
    if port is None:
        other = None if url is None or not prefer_grpc else urlsplit(url).port
        if other not in (None, _REST_PORT):
            raise ConfigurationError(
                f"QdrantStore needs grpc_port= for prefer_grpc=True, as url has the port {other}: 6334 may be another "
                "server's"
            )
        return _GRPC_PORT
    if url is None:
        raise ConfigurationError("grpc_port goes with url")
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65_536:
        raise ConfigurationError(f"grpc_port is a number from 1 to 65535, not {brief(port)}")
    return port


def checked_key(api_key: str | None) -> str | None:
    """Check an API key; returns it without white space around it, as HTTP errors print keys that are not headers."""
    if api_key is None:
        return None
    key = api_key.strip() if isinstance(api_key, str) else ""
    if not key or not key.isascii() or not key.isprintable():
        raise ConfigurationError("api_key is empty or holds characters that no key has")
    return key


def check_url(url: object) -> None:
    """Check a URL; errors quote nothing of it, as it may hold a password."""
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
        if parts is not None and parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return
    except ValueError:
        pass
    raise ConfigurationError(
        "url must be the address of a server, as http://localhost:6333, and start with http:// or https://; "
        "this is not one (a password in it needs %2F for /, %23 for #, %3F for ? and %40 for @)"
    )


def is_local(client: QdrantClient) -> bool:
    """Whether a client is qdrant-client's own local mode, and reaches no server."""
    options = client.init_options
    return options.get("path") is not None or options.get("location") == ":memory:"
