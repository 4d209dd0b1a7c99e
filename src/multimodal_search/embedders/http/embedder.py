"""Embeddings over HTTP, from vendors and from self-hosted servers."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import PIL.Image

from multimodal_search._bounds import is_whole
from multimodal_search._plugins import Option
from multimodal_search._text import brief, is_unicode
from multimodal_search.contents import Content, Image, Mixed, Modality, Text, modality_of
from multimodal_search.embedders.http import images, texts
from multimodal_search.embedders.http.dialects import DIALECTS, DialectName
from multimodal_search.embedders.http.served import meant
from multimodal_search.embedders.http.settings import (
    HttpSettings,
    base_of,
    checked_modalities,
    checked_prompts,
    key_for,
)
from multimodal_search.embedders.registry import EmbedderRef
from multimodal_search.embedders.service.contents import label_of
from multimodal_search.embedders.service.embedder import PROBE, ServiceEmbedder
from multimodal_search.embedders.service.settings import Pacing, checked_address, require
from multimodal_search.errors import EmbedderError, MultimodalSearchError, UnsupportedContentError
from multimodal_search.types import EmbedderSpec, FloatArray, Role
from multimodal_search.vectors import of_unit_length

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from multimodal_search.embedders.http.client import HttpClient
    from multimodal_search.embedders.service.service import EmbeddingService

_MIN_IMAGE_SIZE, _MAX_IMAGE_SIZE = 32, 8192
_MAX_DIMENSIONS = 100_000
_TIMEOUT_S, _RETRIES = 120.0, 8


class HttpEmbedder(ServiceEmbedder):
    """Turns texts and images into vectors with a model behind HTTP: a vendor's, or one that you serve yourself.

    `HttpEmbedder.cohere`, `.voyage`, `.jina`, `.vllm` and `.infinity` know the address or the dialect. Nothing is
    loaded or sent before the first use; the length of the vectors is asked once, by embedding a word, unless
    `dimensions` says it. May be used from many threads; use it in a `with` block, or call `close`. Proxies and a
    private certificate authority are taken from the environment (`HTTPS_PROXY`, `REQUESTS_CA_BUNDLE`).

    Images are sent as bytes, upright, whole and shrunk. An address in a text is never fetched: it is a text.

    Args:
        url: Address of the API, such as `https://api.cohere.com` or `http://localhost:8000`.
        model: The model's name there; None asks the server (vLLM, infinity), which must have one model only.
        dialect: `"cohere"` (Cohere, vLLM), `"openai-chat"` (vLLM), `"infinity"`, `"jina"` or `"voyage"`.
        api_key: The key. Default: `COHERE_API_KEY`, `VOYAGE_API_KEY` or `JINA_API_KEY` of the environment, each for
            the vendor's own address only; `VLLM_API_KEY` or `INFINITY_API_KEY` for other addresses of these dialects.
            It never shows in a repr, a message or a log.
        dimensions: How long the vectors shall be, for models that allow it (Matryoshka); they are of unit length then.
        known_dimension: How long the model's own vectors are, if you know it: then nothing is embedded to see it. Not
            together with `dimensions`.
        prompts: What the service is told of the roles `"document"` and `"query"`: the `input_type` (cohere, voyage),
            the `task` (jina), or the text of a system message (openai-chat). Default: the vendor's; `{}` for none, as
            for models that have none. In vLLM's cohere dialect they name the model's own prompts.
        modalities: What may be sent, of `"text"`, `"image"` and `"mixed"`. Default: what the dialect can; infinity is
            asked. For jina, which leaves it to the model, `"mixed"` must be named.
        image_size: The longer side of an image in pixels, 32 to 8192. Default: 1024; 768 for infinity, 512 for jina.
        timeout_s: Seconds that one call of `embed` may wait for the service, all attempts and pauses together. Waiting
            for a place among `max_concurrency` does not count while others come through.
        retries: Attempts after the first one where trouble may pass; a host that cannot be reached gets two at most.
        max_concurrency: Most requests in flight. Default: 32; 4 for infinity. The number shrinks while the service is
            overloaded.
        max_batch_size: Most contents in a call. Default: 16; 32 for infinity, 1 for openai-chat. A call becomes several
            requests where the dialect allows fewer contents, kinds or bytes in one.

    Raises:
        ConfigurationError: A setting makes no sense, or the vendor's key is missing.

    Examples:
        >>> embedder = HttpEmbedder("http://localhost:8000", "mine", dialect="openai-chat", dimensions=256)
        >>> embedder.spec.dimension
        256
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        dialect: DialectName,
        api_key: str | None = None,
        dimensions: int | None = None,
        known_dimension: int | None = None,
        prompts: Mapping[Role, str] | None = None,
        modalities: Collection[Modality] | None = None,
        image_size: int | None = None,
        timeout_s: float = _TIMEOUT_S,
        retries: int = _RETRIES,
        max_concurrency: int | None = None,
        max_batch_size: int | None = None,
    ) -> None:
        require(
            isinstance(dialect, str) and dialect in DIALECTS,
            f"dialect must be one of {', '.join(DIALECTS)}, not {brief(dialect)}",
        )
        spoken = DIALECTS[dialect]
        size = spoken.image_size if image_size is None else image_size
        is_name = isinstance(model, str) and bool(model.strip()) and is_unicode(model)
        require(is_name or model is None, "model must be a name, as the service calls it")
        for named, length in (("dimensions", dimensions), ("known_dimension", known_dimension)):
            is_length = length is None or (is_whole(length, least=1) and length <= _MAX_DIMENSIONS)
            require(is_length, f"{named} must be a whole number, 1 or more, or None")
        require(None in (dimensions, known_dimension), "give dimensions or known_dimension, not both")
        require(
            is_whole(size, least=_MIN_IMAGE_SIZE) and size <= _MAX_IMAGE_SIZE,
            f"image_size must be a whole number of pixels from {_MIN_IMAGE_SIZE} to {_MAX_IMAGE_SIZE:,}",
        )
        pacing = Pacing(
            timeout_s=timeout_s,
            retries=retries,
            max_concurrency=spoken.concurrency if max_concurrency is None else max_concurrency,
            max_batch_size=spoken.batch_size if max_batch_size is None else max_batch_size,
            batch_limit=spoken.max_contents,
        )
        example = spoken.vendor or "http://localhost:8000"
        self._url = base_of(checked_address(url, setting="url", example=example), spoken)
        require(
            is_name or (spoken.models_path is not None and self._url.lower() != spoken.vendor),
            f"model must be named: {self._url} does not say which it has",
        )
        self._key = key_for(self._url, spoken, api_key)
        self._name: DialectName = dialect
        self._dialect = spoken
        self._model = None if model is None else model.strip()
        self._dimensions = dimensions
        self._prompts = checked_prompts(prompts, spoken)
        self._possible = checked_modalities(modalities, spoken)
        self._image_size = size
        given: dict[str, Option] = {
            "dimensions": dimensions,
            "prompts": None if prompts is None else {str(role): prompt for role, prompt in prompts.items()},
            "modalities": None if modalities is None else [str(each) for each in sorted(modalities)],
            "image_size": image_size,
            "timeout_s": None if timeout_s == _TIMEOUT_S else timeout_s,
            "retries": None if retries == _RETRIES else retries,
            "max_concurrency": max_concurrency,
            "max_batch_size": max_batch_size,
        }
        self._options = {name: value for name, value in given.items() if value is not None}
        self._served: tuple[str, frozenset[Modality]] | None = None
        if self._model is not None and dialect != "infinity":
            self._served = (self._model, self._possible)
        super().__init__(pacing, dimension=dimensions or known_dimension)

    @classmethod
    def cohere(cls, model: str = "embed-v4.0", **settings: Unpack[HttpSettings]) -> Self:
        """A model of Cohere; the key from `api_key` or `COHERE_API_KEY`.

        Args:
            model: Its name there.
            settings: As for the class.

        Raises:
            ConfigurationError: There is no key, or a setting makes no sense.
        """
        return cls(DIALECTS["cohere"].vendor, model, dialect="cohere", **settings)

    @classmethod
    def voyage(cls, model: str = "voyage-multimodal-3.5", **settings: Unpack[HttpSettings]) -> Self:
        """A multimodal model of Voyage AI; the key from `api_key` or `VOYAGE_API_KEY`.

        Args:
            model: Its name there.
            settings: As for the class.

        Raises:
            ConfigurationError: There is no key, or a setting makes no sense.
        """
        return cls(DIALECTS["voyage"].vendor, model, dialect="voyage", **settings)

    @classmethod
    def jina(cls, model: str = "jina-embeddings-v4", **settings: Unpack[HttpSettings]) -> Self:
        """A model of Jina; the key from `api_key` or `JINA_API_KEY`.

        Args:
            model: Its name there.
            settings: As for the class.

        Raises:
            ConfigurationError: There is no key, or a setting makes no sense.
        """
        return cls(DIALECTS["jina"].vendor, model, dialect="jina", **settings)

    @classmethod
    def vllm(cls, url: str, model: str | None = None, **settings: Unpack[HttpSettings]) -> Self:
        """A model that vLLM serves, spoken to in Cohere's dialect, without prompts unless some are given.

        Args:
            url: Address of the server.
            model: Its name there; None asks the server.
            settings: As for the class.

        Raises:
            ConfigurationError: A setting makes no sense.
        """
        if settings.get("prompts") is None:
            settings["prompts"] = {}
        return cls(url, model, dialect="cohere", **settings)

    @classmethod
    def infinity(cls, url: str, model: str | None = None, **settings: Unpack[HttpSettings]) -> Self:
        """A model that infinity serves.

        Args:
            url: Address of the server, with the prefix that it was started with.
            model: Its name there; None asks the server.
            settings: As for the class.

        Raises:
            ConfigurationError: A setting makes no sense.
        """
        return cls(url, model, dialect="infinity", **settings)

    @classmethod
    def from_env(
        cls,
        url: str | None = None,
        model: str | None = None,
        *,
        dialect: DialectName | None = None,
        **settings: Unpack[HttpSettings],
    ) -> Self:
        """An embedder with what is not given from `HTTP_EMBEDDER_URL`, `..._DIALECT` and `..._MODEL`.

        Args:
            url: As for the class.
            model: As for the class.
            dialect: As for the class.
            settings: As for the class.

        Raises:
            ConfigurationError: A variable is missing, or a setting makes no sense.
        """
        found = {name: os.environ.get(f"HTTP_EMBEDDER_{name}", "").strip() for name in ("URL", "DIALECT", "MODEL")}
        require(bool(url or found["URL"]), "set the environment variable HTTP_EMBEDDER_URL to the address of the API")
        require(
            bool(dialect or found["DIALECT"]),
            f"set the environment variable HTTP_EMBEDDER_DIALECT to one of {', '.join(DIALECTS)}",
        )
        spoken = cast("DialectName", dialect or found["DIALECT"])  # checked by the class
        return cls(url or found["URL"], model or found["MODEL"] or None, dialect=spoken, **settings)

    @property
    def ref(self) -> EmbedderRef:
        """What makes it again, without the key: that comes from the environment then."""
        known = {} if self._dimensions or not self._dimension else {"known_dimension": self._dimension}
        return EmbedderRef("http", url=self._url, model=self._model, dialect=self._name, **self._options, **known)

    def __repr__(self) -> str:
        key = ", api_key='***'" if self._key else ""
        size = "" if self._dimensions is None else f", dimensions={self._dimensions}"
        return f"HttpEmbedder({self._url!r}, {self._model!r}, dialect={self._name!r}{key}{size})"

    @property
    def spec(self) -> EmbedderSpec:
        """What this embedder is and can do; asks the server for what no setting says.

        Raises:
            EmbedderError: That failed.
        """
        model, modalities = self._serves()
        size = "full" if self._dimensions is None else str(self._dimensions)
        prompts = ",".join(f"{role}={prompt}" for role, prompt in self._prompts.items()) or "plain"
        return EmbedderSpec(
            model=model,
            fingerprint="/".join(
                ("http", self._name, model, size, prompts, images.preprocessing(size=self._image_size))
            ),
            dimension=self._known_dimension(),
            modalities=modalities,
            max_batch_size=self._pacing.max_batch_size,
            max_concurrency=self._pacing.max_concurrency,
        )

    def prepare(self, content: Content, /) -> Content:
        """Do the work on one content ahead of `embed`: images are read, turned upright and shrunk.

        Raises:
            UnreadableContentError: An image cannot be read.
            UnsupportedContentError: A text is empty, or the model or the dialect does not take the content.
        """
        model, modalities = self._serves()
        if modality_of(content) not in modalities:
            can = ", ".join(sorted(modalities))
            raise UnsupportedContentError(f"{label_of(content)}: {model} embeds {can}, not {modality_of(content)}")
        self._dialect.check(content)
        if not isinstance(content, Mixed):
            return self._sent(content)
        if not content.parts:
            raise UnsupportedContentError("Mixed() has no parts: give it at least one Text or Image")
        return Mixed(*map(self._sent, content.parts))

    def _sent(self, part: Text | Image) -> Text | Image:
        if isinstance(part, Image):
            self._connect_ahead()
            return images.as_sent(part, size=self._image_size)
        if not part.text.strip() or not is_unicode(part.text):
            raise UnsupportedContentError("the text is empty, or no valid Unicode")
        return texts.as_sent(part)

    @property
    def _where(self) -> str:
        model = self._model if self._served is None else self._served[0]
        return f"{self._name} at {self._url}{'' if model is None else f' (model {model})'}"

    @property
    def _settings(self) -> str:
        prompts = dict(self._prompts)
        return f"model={self._model!r}, dimensions={self._dimensions} and prompts={prompts}"

    def _purpose(self, role: Role) -> str:
        return self._prompts.get(role, "")

    def _connect(self) -> EmbeddingService:
        from multimodal_search.embedders.http.client import HttpClient
        from multimodal_search.embedders.service.exchanges import Exchanges
        from multimodal_search.embedders.service.refusals import Wording
        from multimodal_search.embedders.service.service import EmbeddingService

        exchanges = Exchanges(*[self._key] if self._key else [])
        self._client: HttpClient = HttpClient(
            exchanges,
            url=self._url,
            key=self._key,
            dialect=self._dialect,
            dimensions=self._dimensions,
            pool_size=self._pacing.max_concurrency,
        )
        if self._served is not None:
            self._client.model = self._served[0]
        words = Wording(where=self._where, address="url", key="api_key", smaller="choose a smaller image_size")
        return EmbeddingService(self._client, exchanges, words=words, pacing=self._pacing)

    def _serves(self) -> tuple[str, frozenset[Modality]]:
        """The model's name and what it embeds; the server is asked once, where only it knows."""
        if self._served is None:
            self._renew_after_fork()
            with self._probe_lock:
                if self._served is None:
                    models = self._connected().call(self._client.models, within_s=self._pacing.timeout_s)
                    model = meant(models, self._model, where=self._where)
                    modalities = model.modalities(self._possible)
                    if not modalities:
                        raise EmbedderError(f"{self._where} embeds neither texts nor images: choose another model")
                    self._client.model = model.name
                    self._served = (model.name, modalities)
        return self._served

    def _harmless(self) -> Content:
        if "text" in self._serves()[1]:
            return PROBE
        file = io.BytesIO()
        PIL.Image.new("RGB", (64, 64), (128, 128, 128)).save(file, "PNG")
        return images.as_sent(Image(file.getvalue(), name="a grey square"), size=self._image_size)

    def _checked(self, answer: object, count: int) -> FloatArray:
        vectors = super()._checked(answer, count)
        # A vector that is cut is shorter; some services leave it so.
        return vectors if self._dimensions is None else of_unit_length(vectors)

    def _blamed(self, refusal: UnsupportedContentError, purpose: str, within_s: float) -> EmbedderError:
        """Which setting it is: the word is sent without one of them."""
        client, service, probe = self._client, self._connected(), [self._harmless()]
        deadline = time.monotonic() + within_s
        without: list[tuple[str, object, dict[str, Any]]] = []
        if self._dimensions is not None:
            without.append(("dimensions", self._dimensions, {"prompt": purpose, "dimensions": None}))
        if purpose:
            without.append(("prompts", dict(self._prompts), {"prompt": "", "dimensions": self._dimensions}))
        for name, value, others in without:
            try:
                service.call(partial(client.embed, probe, **others), within_s=deadline - time.monotonic())
            except MultimodalSearchError:
                continue
            return EmbedderError(f"{refusal}. It takes a word without {name}: leave out {name}={value}, or change it")
        return super()._blamed(refusal, purpose, within_s)
