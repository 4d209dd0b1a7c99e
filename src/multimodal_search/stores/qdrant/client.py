"""What `QdrantStore` is told of a server and its client, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from multimodal_search.errors import ConfigurationError

if TYPE_CHECKING:
    from qdrant_client import QdrantClient


def checked_key(api_key: str | None) -> str | None:
    """The key without the white space that a file or a form adds; HTTP errors would print a key that is no header."""
    if api_key is None:
        return None
    key = api_key.strip() if isinstance(api_key, str) else ""
    if not key or not key.isascii() or not key.isprintable():
        raise ConfigurationError("api_key is empty or holds characters that no key has")
    return key


def check_url(url: object) -> None:
    """See that an address can be read. Nothing of it is quoted: it may hold a password."""
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
        if parts is not None and parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return
    except ValueError:
        pass
    raise ConfigurationError(
        "url is the address of a server, as http://localhost:6333, and starts with http:// or https://; "
        "what is given is none (a password in it needs %2F for /, %23 for #, %3F for ? and %40 for @)"
    )


def is_local(client: QdrantClient) -> bool:
    """Whether a client is qdrant-client's own local mode, and reaches no server."""
    options = client.init_options
    return options.get("path") is not None or options.get("location") == ":memory:"
