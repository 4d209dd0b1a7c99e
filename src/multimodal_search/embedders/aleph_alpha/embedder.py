"""Embeddings from Aleph Alpha's API, through the official client."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from multimodal_search._bounds import is_whole
from multimodal_search._text import prose, shorten
from multimodal_search.contents import Content, Image, Mixed, Modality, Text, modality_of
from multimodal_search.embedders.aleph_alpha.images import PREPROCESSING, as_sent
from multimodal_search.embedders.aleph_alpha.settings import (
    MAX_TIMEOUT_S,
    AlephAlphaSettings,
    Representation,
    checked_host,
    checked_token,
    require,
    require_client,
)
from multimodal_search.errors import EmbedderError, EmbedderResponseError, UnsupportedContentError
from multimodal_search.types import EmbedderSpec, FloatArray, Role, Usage
from multimodal_search.vectors import checked_rows

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from multimodal_search.embedders.aleph_alpha.service import AlephAlphaService

# Limits and sizes are those of Aleph Alpha's API documentation, version 4.7.0.
_MAX_PROMPTS = 100
_IMAGE_MODELS = frozenset({"luminous-base", "luminous-extended"})
_FULL_SIZES = {"luminous-base": 5120}
_COMPRESSED_SIZE = 128
_LANGUAGES = ("en", "fr", "de", "it", "es")
_PROBE = Text("a")


class AlephAlphaEmbedder:
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
        require(
            isinstance(timeout_s, (int, float)) and 0 < timeout_s <= MAX_TIMEOUT_S,
            f"timeout_s must be a number of seconds above 0, up to {MAX_TIMEOUT_S:,.0f}",
        )
        require(is_whole(retries, least=0), "retries must be a whole number, 0 or more")
        require(is_whole(max_concurrency, least=1), "max_concurrency must be a whole number, 1 or more")
        require(
            is_whole(max_batch_size, least=1) and max_batch_size <= _MAX_PROMPTS,
            f"max_batch_size must be from 1 to {_MAX_PROMPTS}, the service's own limit",
        )
        self._host = checked_host(host)
        self._token = checked_token(token)
        self._model = model.strip()
        self._compress_to_size = compress_to_size
        self._representation: Representation = representation
        self._normalize = normalize
        self._hosting = hosting
        self._nice = nice
        self._timeout_s = timeout_s
        self._retries = retries
        self._max_concurrency = max_concurrency
        self._max_batch = max_batch_size
        self._shrink = shrink

        has_images = self._model in _IMAGE_MODELS
        self._modalities = frozenset[Modality](("text", "image", "mixed") if has_images else ("text",))
        self._dimension = compress_to_size or _FULL_SIZES.get(self._model)
        self._accepted: set[str] = set()  # the representations that the service has taken with these settings
        self._closed = False
        self._begin()

    @classmethod
    def from_env(cls, **settings: Unpack[AlephAlphaSettings]) -> Self:
        """An embedder with the host in `AA_HOST` and the token in `AA_TOKEN`.

        Args:
            settings: As for the class.

        Raises:
            ConfigurationError: A variable is missing, or a setting makes no sense.
        """
        for name, meaning in (("AA_HOST", "the address of the API"), ("AA_TOKEN", "an API token")):
            require(bool(os.environ.get(name, "").strip()), f"set the environment variable {name} to {meaning}")
        return cls(os.environ["AA_HOST"], os.environ["AA_TOKEN"], **settings)

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
        if self._dimension is None:
            self._renew_after_fork()
            with self._probe_lock:
                if self._dimension is None:
                    self.embed([_PROBE], role="document")
        if self._dimension is None:  # pragma: no cover (`embed` has set it)
            raise EmbedderResponseError(f"{self._where} has told no dimension")
        size = self._compress_to_size or "full"
        length = "unit" if self._normalize else "raw"
        return EmbedderSpec(
            model=self._model,
            fingerprint="/".join(
                ("aleph-alpha", self._model, str(size), self._representation, length, PREPROCESSING[self._shrink])
            ),
            dimension=self._dimension,
            modalities=self._modalities,
            languages=_LANGUAGES,
            max_batch_size=self._max_batch,
            max_concurrency=self._max_concurrency,
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
                f"{_label(content)}: {self._model} embeds text only; images need luminous-base or luminous-extended"
            )
        match content:
            case Text():
                if not content.text.strip():
                    raise UnsupportedContentError("the text is empty")
                return content
            case Image():
                return as_sent(content, shrink=self._shrink)
            case Mixed():
                if not content.parts:
                    raise UnsupportedContentError("Mixed() has no parts: give it at least one Text or Image")
                return Mixed(*(self.prepare(part) for part in content.parts))  # type: ignore[arg-type]  # parts stay parts

    def embed(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
        """Embed contents in one request, all or nothing.

        Args:
            contents: At most `spec.max_batch_size` texts, images or mixtures of them; a mixture is one prompt.
            role: Makes a difference with `representation="asymmetric"` only.

        Returns:
            Shape `(len(contents), spec.dimension)`, float32, of unit length only with `normalize=True`.

        Raises:
            ContentError: A content cannot be read, or the service refuses one of them; it does not say which.
            EmbedderAuthError: The service refuses the token.
            EmbedderQuotaError: The account has no credit left.
            EmbedderUnavailableError: The service is still busy, unreachable or silent after all attempts.
            EmbedderResponseError: It returned something else than a vector for each content.
            EmbedderError: It refuses the settings, or this embedder has been closed.
            ConfigurationError: There are too many contents.
        """
        return self._embed(contents, role, once=False)

    def embed_once(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
        """As `embed`, with one attempt, except where the service says that it has too many requests."""
        return self._embed(contents, role, once=True)

    @property
    def model_version(self) -> str | None:
        """What the service called its model in its last answer; None before the first one."""
        self._renew_after_fork()
        return None if self._service is None else self._service.model_version

    @property
    def usage(self) -> Usage:
        """Requests sent, repeated ones too, and the bytes of their bodies."""
        self._renew_after_fork()
        return Usage() if self._service is None else self._service.usage

    def interrupt(self) -> None:
        """End the calls that are under way with an `EmbedderError`; later ones work as before."""
        self._renew_after_fork()
        if self._service is not None:
            self._service.interrupt()

    def close(self) -> None:
        """Drop connections and end every wait: calls under way raise `EmbedderError`. Twice is fine."""
        self._renew_after_fork()
        with self._lock:
            self._closed = True
            if self._service is not None:
                self._service.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an AlephAlphaEmbedder cannot be pickled or copied, as it holds a token: make one in each "
            "process, with AlephAlphaEmbedder(host=..., token=...) or from_env()"
        )

    @property
    def _where(self) -> str:
        return f"Aleph Alpha at {self._host} (model {self._model})"

    def _begin(self) -> None:
        self._service: AlephAlphaService | None = None
        self._lock = threading.Lock()
        self._probe_lock = threading.Lock()
        self._pid = os.getpid()

    def _renew_after_fork(self) -> None:
        if self._pid != os.getpid():  # a forked child has none of its parent's threads, and may not use its connections
            self._begin()

    def _embed(self, contents: Sequence[Content], role: Role, *, once: bool) -> FloatArray:
        if not contents:
            return np.empty((0, self.spec.dimension), dtype=np.float32)
        require(
            len(contents) <= self._max_batch,
            f"embed takes at most max_batch_size={self._max_batch} contents, not {len(contents)}: split them",
        )
        prepared = [self.prepare(content) for content in contents]
        representation = "symmetric" if self._representation == "symmetric" else role
        self._connected()  # loads the client before the clock starts
        deadline = time.monotonic() + self._timeout_s
        try:
            return self._vectors(prepared, representation, self._timeout_s, once=once)
        except UnsupportedContentError as error:
            refusal = error
        # The same status says that a setting is wrong. A harmless word tells: nobody should halve batches for that.
        if representation not in self._accepted and refusal.vectors is None:
            try:
                self._vectors([_PROBE], representation, deadline - time.monotonic(), once=once)
            except UnsupportedContentError:
                raise EmbedderError(
                    f"{refusal}. It refuses even a single word: check model={self._model!r}, compress_to_size="
                    f"{self._compress_to_size}, representation={self._representation!r} and hosting={self._hosting!r}"
                ) from None
        subject = _label(contents[0]) if len(contents) == 1 else f"one of {len(contents)} contents"
        raise UnsupportedContentError(f"{subject}: {refusal}", vectors=refusal.vectors, flaws=refusal.flaws)

    def _connected(self) -> AlephAlphaService:
        self._renew_after_fork()
        with self._lock:
            if self._closed:
                raise EmbedderError("this embedder has been closed: make a new one")
            if self._service is None:
                from multimodal_search.embedders.aleph_alpha.service import AlephAlphaService

                self._service = AlephAlphaService(
                    host=self._host,
                    token=self._token,
                    model=self._model,
                    hosting=self._hosting,
                    nice=self._nice,
                    retries=self._retries,
                    max_concurrency=self._max_concurrency,
                )
            return self._service

    def _vectors(self, prepared: Sequence[Content], representation: str, within_s: float, *, once: bool) -> FloatArray:
        rows = self._connected().semantic_embed(
            prepared,
            representation=representation,
            compress_to_size=self._compress_to_size,
            normalize=self._normalize,
            within_s=within_s,
            once=once,
        )
        from multimodal_search.embedders.aleph_alpha.service import TooLarge

        refused = {number: row.reason for number, row in enumerate(rows) if isinstance(row, TooLarge)}
        if len(refused) == len(rows):
            raise UnsupportedContentError(refused[0])
        kept = [number for number in range(len(rows)) if number not in refused]
        vectors = self._checked([rows[number] for number in kept], len(prepared) - len(refused))
        self._accepted.add(representation)
        if refused:
            spread = np.full((len(rows), vectors.shape[1]), np.nan, np.float32)
            spread[kept] = vectors
            raise UnsupportedContentError(
                next(iter(refused.values())),
                vectors=spread,
                flaws={number: f"no vector: {reason}" for number, reason in refused.items()},
            )
        return vectors

    def _checked(self, answer: object, count: int) -> FloatArray:
        try:
            rows = checked_rows(answer, count=count, dimension=self._dimension, who=self._where)
        except EmbedderResponseError as error:
            raise EmbedderResponseError(
                f"{error}: check that the model can do compress_to_size={self._compress_to_size}"
            ) from None
        with self._lock:
            if self._dimension is None and not rows.flaws:
                self._dimension = rows.vectors.shape[1]
        for number, flaw in rows.flaws.items():
            raise EmbedderResponseError(
                f"{self._where} returned {flaw} for content {number + 1} of {count}: the service has a fault, tell "
                "its operator",
                vectors=rows.vectors,
                flaws=rows.flaws,
            )
        return rows.vectors


def _label(content: Content) -> str:
    """What messages call a content."""
    match content:
        case Image():
            return content.label
        case Text():
            return repr(shorten(prose(content.text[:200]), 40))
        case Mixed():
            return f"Mixed({', '.join(map(_label, content.parts))})"
