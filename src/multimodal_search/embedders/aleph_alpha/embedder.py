"""Embeddings from Aleph Alpha's API, through the official client."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NoReturn

from multimodal_search._bounds import is_whole
from multimodal_search.contents import Content, Image, Mixed, Modality, Text, modality_of
from multimodal_search.embedders.aleph_alpha.images import PREPROCESSING, as_sent
from multimodal_search.embedders.aleph_alpha.settings import AlephAlphaSettings, Representation, require_client
from multimodal_search.embedders.registry import EmbedderRef, options_of
from multimodal_search.embedders.service.contents import label_of
from multimodal_search.embedders.service.embedder import ServiceEmbedder
from multimodal_search.embedders.service.settings import Pacing, checked_address, checked_key, require
from multimodal_search.errors import UnsupportedContentError
from multimodal_search.types import EmbedderSpec, Role

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from multimodal_search.embedders.service.service import EmbeddingService

# Limits and sizes are those of Aleph Alpha's API documentation, version 4.7.0.
_MAX_PROMPTS = 100
_IMAGE_MODELS = frozenset({"luminous-base", "luminous-extended"})
_FULL_SIZES = {"luminous-base": 5120}
_COMPRESSED_SIZE = 128
_LANGUAGES = ("en", "fr", "de", "it", "es")


class AlephAlphaEmbedder(ServiceEmbedder):
    """Turns texts and images into vectors with Aleph Alpha's Luminous models.

    Aleph Alpha deprecated these models in 2026: they live on in on-premise installations. Nothing is loaded or sent
    before the first use. May be used from many threads; use it in a `with` block, or call `close`. Proxies and a
    private certificate authority are taken from the environment (`HTTPS_PROXY`, `REQUESTS_CA_BUNDLE`).

    Args:
        host: Address of the API, such as `https://inference.example.org`; there is no public default.
        token: The API token. It never shows in a repr, a message or a log.
        model: The model; images need `luminous-base` or `luminous-extended`.
        compress_to_size: 128, or None for the model's full size (5120 for luminous-base).
        representation: `"symmetric"` embeds documents and queries alike; `"asymmetric"` embeds them for each other,
            which suits short queries against long texts.
        normalize: Whether the service returns vectors of unit length. Cosine similarity is the same either way.
        hosting: `"aleph-alpha"` keeps requests in Aleph Alpha's own data centres; None lets the service choose.
        nice: Whether requests yield to other users' requests.
        timeout_s: Seconds that one call of `embed` may wait for the service, all attempts and pauses together. Waiting
            for a place among `max_concurrency` does not count while others come through.
        retries: Attempts after the first one where trouble may pass; a host that cannot be reached gets two at most.
        max_concurrency: Most requests in flight. The number shrinks while the service is overloaded.
        max_batch_size: Most contents in one request, at most 100. The default keeps a request of shrunk images under
            1 MB, which is as much as many gateways let through.
        shrink: Whether images are cropped and resized to what the model sees before they are sent, which takes
            far less time on the wire; False sends them whole.

    Raises:
        ConfigurationError: A setting makes no sense.
        MissingExtraError: The official client is not installed: it has no release for Python 3.14.

    Examples:
        >>> embedder = AlephAlphaEmbedder(host="https://inference.example.org", token="...", model="luminous-base")
        >>> embedder.spec.dimension
        128
    """

    def __init__(
        self,
        host: str,
        token: str,
        model: str = "luminous-base",
        *,
        compress_to_size: int | None = 128,
        representation: Representation = "symmetric",
        normalize: bool = False,
        hosting: str | None = None,
        nice: bool = False,
        timeout_s: float = 120.0,
        retries: int = 8,
        max_concurrency: int = 32,
        max_batch_size: int = 16,
        shrink: bool = True,
    ) -> None:
        require_client()
        require(isinstance(model, str) and bool(model.strip()), "model must be a name, such as 'luminous-base'")
        require(
            compress_to_size is None or (is_whole(compress_to_size, least=1) and compress_to_size == _COMPRESSED_SIZE),
            "compress_to_size must be 128, or None for the full size",
        )
        require(
            isinstance(representation, str) and representation in ("symmetric", "asymmetric"),
            "representation must be 'symmetric' or 'asymmetric'",
        )
        require(isinstance(normalize, bool), "normalize must be True or False")
        pacing = Pacing(
            timeout_s=timeout_s,
            retries=retries,
            max_concurrency=max_concurrency,
            max_batch_size=max_batch_size,
            batch_limit=_MAX_PROMPTS,
        )
        self._host = checked_address(host, setting="host", example="https://inference.example.org")
        self._token = checked_key(
            token, setting="token", advice="pass an API token of Aleph Alpha, or set AA_TOKEN and use from_env"
        )
        self._model = model.strip()
        self._compress_to_size = compress_to_size
        self._representation: Representation = representation
        self._normalize = normalize
        self._hosting = hosting
        self._nice = nice
        self._shrink = shrink
        self._options: dict[str, Any] = {
            "compress_to_size": compress_to_size,
            "representation": representation,
            "normalize": normalize,
            "hosting": hosting,
            "nice": nice,
            "timeout_s": timeout_s,
            "retries": retries,
            "max_concurrency": max_concurrency,
            "max_batch_size": max_batch_size,
            "shrink": shrink,
        }
        has_images = self._model in _IMAGE_MODELS
        self._modalities = frozenset[Modality](("text", "image", "mixed") if has_images else ("text",))
        super().__init__(pacing, dimension=compress_to_size or _FULL_SIZES.get(self._model))

    @classmethod
    def from_env(
        cls, host: str | None = None, token: str | None = None, **settings: Unpack[AlephAlphaSettings]
    ) -> Self:
        """An embedder with the host in `AA_HOST` and the token in `AA_TOKEN`, where they are not given.

        Args:
            host: As for the class.
            token: As for the class.
            settings: As for the class.

        Raises:
            ConfigurationError: A variable is missing, or a setting makes no sense.
        """
        host, token = host or os.environ.get("AA_HOST", "").strip(), token or os.environ.get("AA_TOKEN", "").strip()
        require(bool(host), "set the environment variable AA_HOST to the address of the API")
        require(bool(token), "set the environment variable AA_TOKEN to an API token")
        return cls(host, token, **settings)

    @property
    def ref(self) -> EmbedderRef:
        """What makes it again, without the token: that comes from `AA_TOKEN` then."""
        options = options_of(AlephAlphaEmbedder, self._options)
        return EmbedderRef("aleph-alpha", host=self._host, model=self._model, **options)

    def __repr__(self) -> str:
        return (
            f"AlephAlphaEmbedder(host={self._host!r}, token='***', model={self._model!r}, "
            f"compress_to_size={self._compress_to_size}, representation={self._representation!r})"
        )

    @property
    def spec(self) -> EmbedderSpec:
        """What this embedder is and can do.

        With `compress_to_size=None` and a model whose full size is not documented, a word is embedded once to see it.

        Raises:
            EmbedderError: That failed.
        """
        size = self._compress_to_size or "full"
        length = "unit" if self._normalize else "raw"
        return EmbedderSpec(
            model=self._model,
            fingerprint="/".join(
                ("aleph-alpha", self._model, str(size), self._representation, length, PREPROCESSING[self._shrink])
            ),
            dimension=self._known_dimension(),
            modalities=self._modalities,
            languages=_LANGUAGES,
            max_batch_size=self._pacing.max_batch_size,
            max_concurrency=self._pacing.max_concurrency,
        )

    def prepare(self, content: Content, /) -> Content:
        """Do the work on one content ahead of `embed`: images are read, turned upright, cropped and shrunk.

        Raises:
            UnreadableContentError: An image cannot be read.
            UnsupportedContentError: A text is empty, or the model takes no images.
        """
        modality = modality_of(content)
        if modality not in self._modalities:
            raise UnsupportedContentError(
                f"{label_of(content)}: {self._model} embeds text only; images need luminous-base or luminous-extended"
            )
        match content:
            case Text():
                if not content.text.strip():
                    raise UnsupportedContentError("the text is empty")
                return content
            case Image():
                self._connect_ahead()
                return as_sent(content, shrink=self._shrink)
            case Mixed():
                if not content.parts:
                    raise UnsupportedContentError("Mixed() has no parts: give it at least one Text or Image")
                return Mixed(*(self.prepare(part) for part in content.parts))  # type: ignore[arg-type]  # parts stay parts

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an AlephAlphaEmbedder cannot be pickled or copied, as it holds a token: make one in each "
            "process, with AlephAlphaEmbedder(host=..., token=...) or from_env()"
        )

    @property
    def _where(self) -> str:
        return f"Aleph Alpha at {self._host} (model {self._model})"

    @property
    def _settings(self) -> str:
        return (
            f"model={self._model!r}, compress_to_size={self._compress_to_size}, "
            f"representation={self._representation!r} and hosting={self._hosting!r}"
        )

    def _purpose(self, role: Role) -> str:
        return "symmetric" if self._representation == "symmetric" else role

    def _connect(self) -> EmbeddingService:
        from multimodal_search.embedders.aleph_alpha.client import AlephAlphaClient
        from multimodal_search.embedders.service.exchanges import Exchanges
        from multimodal_search.embedders.service.refusals import Wording
        from multimodal_search.embedders.service.service import EmbeddingService

        exchanges = Exchanges(self._token)
        client = AlephAlphaClient(
            exchanges,
            host=self._host,
            token=self._token,
            model=self._model,
            compress_to_size=self._compress_to_size,
            normalize=self._normalize,
            hosting=self._hosting,
            nice=self._nice,
            pool_size=self._pacing.max_concurrency,
        )
        words = Wording(where=self._where, address="host", key="token", smaller="keep shrink=True")
        return EmbeddingService(client, exchanges, words=words, pacing=self._pacing)
