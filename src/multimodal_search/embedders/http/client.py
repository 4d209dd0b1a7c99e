"""HTTP requests of one dialect, over urllib3.

Imported on first use only: it loads urllib3.
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.util import Timeout, make_headers
from urllib3.util.ssl_ import create_urllib3_context

from multimodal_search._secrets import secrets_of
from multimodal_search._text import brief
from multimodal_search.contents import Content
from multimodal_search.embedders.http.dialects import Dialect
from multimodal_search.embedders.http.served import ServedModel
from multimodal_search.errors import ConfigurationError

if TYPE_CHECKING:
    from urllib3 import HTTPResponse

    from multimodal_search.embedders.service.exchanges import Exchanges


class HttpClient:
    """Speaks a dialect.

    Args:
        exchanges: What requests go through.
        url: Address of the API, checked.
        key: The key, checked; empty for none.
        dialect: What to speak.
        dimensions: How long the vectors shall be; None leaves that to the model.
        pool_size: Connections to keep.
    """

    def __init__(
        self, exchanges: Exchanges, *, url: str, key: str, dialect: Dialect, dimensions: int | None, pool_size: int
    ) -> None:
        self._exchanges = exchanges
        self._url = url
        self._dialect = dialect
        self._dimensions = dimensions
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._pools, self._secrets = _pools(url, pool_size)
        exchanges.watch(self._pools)
        self.model = ""
        self.model_version: str | None = None
        self.max_bytes = dialect.max_bytes

    def requests(self, contents: Sequence[Content]) -> Sequence[Sequence[int]]:
        """The numbers of the contents that may stand in one request, for each request."""
        return self._dialect.requests(contents)

    def ask(self, contents: Sequence[Content], purpose: str) -> list[object]:
        """Send one request; `purpose` is the prompt."""
        return self.embed(contents, prompt=purpose, dimensions=self._dimensions)

    def embed(self, contents: Sequence[Content], *, prompt: str, dimensions: int | None) -> list[object]:
        """Send one request, with other settings."""
        body = self._dialect.body(contents, model=self.model, prompt=prompt, dimensions=dimensions)
        encoded = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        answer = self._exchange("POST", self._dialect.path, encoded)
        rows = self._dialect.rows(answer, count=len(contents))
        if isinstance(version := answer.get("model"), str) and version:
            self.model_version = version
        return rows

    def models(self) -> list[ServedModel]:
        """The models that the server has.

        Raises:
            ValueError: It answers something else; and as `ask`.
        """
        assert self._dialect.models_path is not None  # noqa: S101 (the caller has looked)
        found = []
        for each in self._exchange("GET", self._dialect.models_path, b"")["data"]:
            able = each["capabilities"] if self._dialect.names_capabilities else None
            found.append(ServedModel(str(each["id"]), None if able is None else frozenset(map(str, able))))
        return found

    def close(self) -> None:
        """Drop connections."""
        self._pools.clear()

    def _exchange(self, method: str, path: str, body: bytes) -> Any:
        def send(timeout: Timeout) -> HTTPResponse:
            answer = self._pools.request(
                method,
                f"{self._url}{path}",
                body=body or None,
                headers=self._headers,
                timeout=timeout,
                retries=False,
                redirect=False,
                preload_content=False,
            )
            return cast("HTTPResponse", answer)

        return json.loads(self._exchanges.run(send, size_bytes=len(body), secrets=self._secrets))


def _pools(url: str, size: int) -> tuple[urllib3.PoolManager, tuple[str, ...]]:
    """Pools of connections, through the proxy that the environment names; and what is secret in that.

    Raises:
        ConfigurationError: The environment names a proxy, or a file of authorities, that is none.
    """
    parts = urlsplit(url)
    context = _tls_context() if parts.scheme == "https" else None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.netloc):
        return urllib3.PoolManager(num_pools=2, maxsize=size, ssl_context=context), ()
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    try:
        at = urlsplit(proxy)
        login = f"{unquote(at.username)}:{unquote(at.password or '')}" if at.username else None
        headers = make_headers(proxy_basic_auth=login) if login else None
        manager = urllib3.ProxyManager(proxy, num_pools=2, maxsize=size, ssl_context=context, proxy_headers=headers)
    except ValueError:
        manager = None  # raised below: an older urllib3 quotes the whole address, which would come along as the context
    if manager is None:
        raise ConfigurationError(
            f"the proxy that the environment names for {parts.scheme} is not the address of an HTTP proxy (not shown "
            "here): correct the variable, or list the host in NO_PROXY"
        )
    return manager, secrets_of(proxy)


def _tls_context() -> ssl.SSLContext:
    """The authorities of the environment's file, or those of the system and of certifi."""
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)  # compares the host's name, or urllib3 does
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    if bundle:
        is_folder = os.path.isdir(bundle)  # noqa: PTH112 (as requests takes it)
        try:
            context.load_verify_locations(cafile=None if is_folder else bundle, capath=bundle if is_folder else None)
        except OSError as error:
            raise ConfigurationError(
                f"REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names {brief(bundle)}, which holds no certificates ({error})"
            ) from error
        return context
    import certifi

    context.load_default_certs()
    context.load_verify_locations(certifi.where())  # Python on macOS and in small images has no system store
    return context
