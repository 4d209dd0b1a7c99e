"""The services that embedders are tested against: each a strict local server, and the embedder that speaks with it."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Any

from aleph_alpha_server import AlephAlphaServer
from dialect_server import SERVERS, DialectServer

from multimodal_search import AlephAlphaEmbedder, HttpEmbedder

DIALECT_SETTINGS: dict[str, dict[str, Any]] = {
    "cohere": {"dialect": "cohere"},
    "vllm": {"dialect": "cohere", "prompts": {}},
    "openai-chat": {"dialect": "openai-chat"},
    "infinity": {"dialect": "infinity"},
    "jina": {"dialect": "jina", "modalities": ["text", "image", "mixed"]},
    "voyage": {"dialect": "voyage"},
}


@dataclass(frozen=True)
class Service:
    """One of them, by its name."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)

    def server(self, **settings: Any) -> AlephAlphaServer | DialectServer:
        """Its local server."""
        return AlephAlphaServer(**settings) if self.name == "aleph-alpha" else SERVERS[self.name](**settings)

    def embedder(
        self, server: AlephAlphaServer | DialectServer, *, key: str | None = None, url: str | None = None, **others: Any
    ) -> AlephAlphaEmbedder | HttpEmbedder:
        """An embedder for it."""
        url, key = url or server.url, key or server.token
        if isinstance(server, AlephAlphaServer):
            return AlephAlphaEmbedder(url, key, **others)
        return HttpEmbedder(url, server.model, api_key=key, **{**self.settings, **others})


SERVICES = {
    "aleph-alpha": Service("aleph-alpha"),
    **{name: Service(name, settings) for name, settings in DIALECT_SETTINGS.items()},
}


def shown(error: BaseException) -> str:
    """Every text that a traceback or a log of this error could show: the whole chain, suppressed links too."""
    texts: list[str] = []
    queue: list[BaseException | None] = [error]
    while queue:
        link = queue.pop()
        if link is not None:
            texts += [str(link), repr(link), repr(link.args)]
            queue += [link.__cause__, link.__context__]
    return "\n".join(texts)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
