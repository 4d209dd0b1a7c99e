"""Aleph Alpha's API in the words of the official client.

Imported on first use only: it loads the official client.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence

import aleph_alpha_client as sdk

from multimodal_search.contents import Content, Image, Text
from multimodal_search.embedders.aleph_alpha.transport import BearerAuth, Transport
from multimodal_search.embedders.service.contents import file_of, parts_of
from multimodal_search.embedders.service.exchanges import Exchanges


class AlephAlphaClient:
    """The official client, with our transport under it.

    Args:
        exchanges: What requests go through.
        host: Address of the API, checked.
        token: The API token, checked.
        model: The model's name.
        compress_to_size: As in the API.
        normalize: As in the API.
        hosting: As in the API.
        nice: As in the API.
        pool_size: Connections to keep.
    """

    max_bytes = math.inf

    def __init__(
        self,
        exchanges: Exchanges,
        *,
        host: str,
        token: str,
        model: str,
        compress_to_size: int | None,
        normalize: bool,
        hosting: str | None,
        nice: bool,
        pool_size: int,
    ) -> None:
        self._model = model
        self._compress_to_size = compress_to_size
        self._normalize = normalize
        self.model_version: str | None = None
        self._client = sdk.Client(
            token=token,
            host=host,
            hosting=hosting,
            nice=nice,
            total_retries=0,  # the client's own would wait without regard to the deadline, and deaf to `close`
            pool_size=pool_size,
        )
        self._client.session.auth = BearerAuth(token)
        transport = Transport(exchanges, pool_size=pool_size)
        for scheme in ("https://", "http://"):
            self._client.session.mount(scheme, transport)

    def requests(self, contents: Sequence[Content]) -> Sequence[Sequence[int]]:
        """One: a request takes anything."""
        return [range(len(contents))]

    def ask(self, contents: Sequence[Content], purpose: str) -> list[object]:
        """Send one request; `purpose` is the representation: `"symmetric"`, `"document"` or `"query"`."""
        settings = (sdk.SemanticRepresentation(purpose), self._compress_to_size, self._normalize)
        prompts = [_prompt(content) for content in contents]
        if len(prompts) == 1:
            one = self._client.semantic_embed(sdk.SemanticEmbeddingRequest(prompts[0], *settings), self._model)
            return self._rows([one.embedding], one.model_version)
        many = self._client.batch_semantic_embed(sdk.BatchSemanticEmbeddingRequest(prompts, *settings), self._model)
        return self._rows(many.embeddings, many.model_version)

    def close(self) -> None:
        """Drop connections."""
        self._client.session.close()

    def _rows(self, vectors: Iterable[object], version: object) -> list[object]:
        if isinstance(version, str) and version:
            self.model_version = version
        return list(vectors)


def _prompt(content: Content) -> sdk.Prompt:
    return sdk.Prompt([_item(part) for part in parts_of(content)])


def _item(part: Text | Image) -> sdk.Text | sdk.Image:
    if isinstance(part, Text):
        return sdk.Text(part.text, [])
    return sdk.Image(base64.b64encode(file_of(part)).decode("ascii"), None, [])
