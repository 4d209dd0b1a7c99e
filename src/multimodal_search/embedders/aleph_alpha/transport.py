"""The HTTP under the official client: its requests become exchanges that end at a deadline.

Imported on first use only: it loads `requests`.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from multimodal_search._secrets import secrets_of

if TYPE_CHECKING:
    from urllib3 import HTTPResponse

    from multimodal_search.embedders.service.exchanges import Exchanges


class BearerAuth(AuthBase):
    """Sends the token. As the session's `auth` it keeps `requests` from taking a password out of a netrc file."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Add the header."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class Transport(HTTPAdapter):
    """An adapter for the client's `requests` session.

    Args:
        exchanges: What its requests go through.
        pool_size: Connections to keep.
    """

    def __init__(self, exchanges: Exchanges, *, pool_size: int) -> None:
        self._exchanges = exchanges
        super().__init__(pool_connections=2, pool_maxsize=pool_size, max_retries=0)

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> Response:
        """Exchange one request for one whole, successful answer, before this thread's deadline (not `timeout`)."""
        answers: list[Response] = []

        def sent(timeout: Any) -> HTTPResponse:
            answer = HTTPAdapter.send(
                self, request, stream=True, timeout=timeout, verify=verify, cert=cert, proxies=proxies
            )
            answers.append(answer)
            raw: HTTPResponse = answer.raw
            return raw

        secrets = tuple(secret for proxy in (proxies or {}).values() for secret in secrets_of(proxy or ""))
        body = self._exchanges.run(sent, size_bytes=len(request.body or b""), secrets=secrets)
        answers[0].raw = BytesIO(body)  # the client reads it from there
        return answers[0]

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Set up the pool, so that its connections are known to `interrupt`."""
        super().init_poolmanager(*args, **kwargs)
        self._exchanges.watch(self.poolmanager)

    def proxy_manager_for(self, proxy: Any, **kwargs: Any) -> Any:
        """The same for the pool of a proxy."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        self._exchanges.watch(manager)
        return manager
