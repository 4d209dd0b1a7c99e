"""Embeddings from Aleph Alpha's API, through the official client."""

from __future__ import annotations

import base64
import itertools
import math
import os
import random
import re
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict
from urllib.parse import urlsplit

import numpy as np
import PIL.Image

from multimodal_search._printable import prose, shorten
from multimodal_search.embedders._aleph_alpha_pace import Pace
from multimodal_search.errors import (
    ConfigurationError,
    EmbedderAuthError,
    EmbedderError,
    EmbedderQuotaError,
    EmbedderResponseError,
    EmbedderUnavailableError,
    UnsupportedContentError,
)
from multimodal_search.types import Content, EmbedderSpec, FloatArray, Image, Mixed, Modality, Role, Text, modality_of

if TYPE_CHECKING:
    from types import TracebackType

    from aleph_alpha_client import Client, Prompt
    from typing_extensions import Self, Unpack

    from multimodal_search.embedders._aleph_alpha_transport import BadStatus, NoAnswer, Transport

Representation: TypeAlias = Literal["symmetric", "asymmetric"]
"""One space for documents and queries alike, or one for each."""

# Limits and sizes are those of Aleph Alpha's API documentation, version 4.7.0.
_MAX_PROMPTS = 100
_IMAGE_MODELS = frozenset({"luminous-base", "luminous-extended"})
_FULL_SIZES = {"luminous-base": 5120}
_COMPRESSED_SIZE = 128
_LANGUAGES = ("en", "fr", "de", "it", "es")
_IMAGE_SIZE = 384  # the model sees the middle square of a picture, at this size
_PREPROCESSING = {True: "square384-1", False: "whole-1"}  # by `shrink`; the number changes when the pixels sent do

_CONTENT_STATUSES = frozenset({400, 413, 422})
_PASSING_STATUSES = frozenset({408, 429})
_UNREACHABLE_RETRIES = 2
_LONGEST_PAUSE_S = 30.0
_PROBE = "a"


class AlephAlphaSettings(TypedDict, total=False):
    """The keyword settings of `AlephAlphaEmbedder`, for `AlephAlphaEmbedder.from_env`."""

    model: str
    compress_to_size: int | None
    representation: Representation
    normalize: bool
    hosting: str | None
    nice: bool
    timeout_s: float
    retries: int
    max_concurrency: int
    max_batch: int
    shrink: bool


class AlephAlphaEmbedder:
    """Turns texts and pictures into vectors with Aleph Alpha's Luminous models.

    Nothing is loaded or sent before the first use. May be used from many threads; use it in a `with` block, or call
    `close`. Proxies and a private certificate authority are taken from the environment (`HTTPS_PROXY`,
    `REQUESTS_CA_BUNDLE`).

    Args:
        host: Address of the API, such as `https://inference.example.org`; there is no public default.
        token: The API token. It never shows in a repr, a message or a log.
        model: The model; pictures need `luminous-base` or `luminous-extended`.
        compress_to_size: 128, or None for the model's full size (5120 for luminous-base).
        representation: `"symmetric"` embeds documents and queries alike; `"asymmetric"` embeds them for each other,
            which suits short queries against long texts.
        normalize: Whether the service returns vectors of unit length. Cosine similarity is the same either way.
        hosting: `"aleph-alpha"` keeps requests in Aleph Alpha's own data centres; None leaves the choice to the service.
        nice: Whether requests yield to other users' requests.
        timeout_s: Seconds that one call of `embed` may wait for the service, all attempts and pauses together.
        retries: Attempts after the first one where trouble may pass; a host that cannot be reached gets two at most.
        max_concurrency: Most requests in flight. The number shrinks while the service is overloaded.
        max_batch: Most contents in one request, at most 100. The default keeps a request of shrunk pictures under
            1 MB, which is as much as many gateways let through.
        shrink: Whether pictures are cropped and resized to what the model sees before they are sent, which takes
            far less time on the wire; False sends them whole.

    Raises:
        ConfigurationError: A setting makes no sense.
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
        max_batch: int = 16,
        shrink: bool = True,
    ) -> None:
        _require(bool(model.strip()), "model must be a name, such as 'luminous-base'")
        _require(compress_to_size in (_COMPRESSED_SIZE, None), "compress_to_size must be 128, or None for the full size")
        _require(representation in ("symmetric", "asymmetric"), "representation must be 'symmetric' or 'asymmetric'")
        _require(isinstance(normalize, bool), "normalize must be True or False")
        _require(math.isfinite(timeout_s) and timeout_s > 0, "timeout_s must be a number of seconds above 0")
        _require(retries >= 0, "retries must be 0 or more")
        _require(max_concurrency >= 1, "max_concurrency must be 1 or more")
        _require(1 <= max_batch <= _MAX_PROMPTS, f"max_batch must be from 1 to {_MAX_PROMPTS}, the service's own limit")
        self._host = _checked_host(host)
        self._token = _checked_token(token)
        self._model = model.strip()
        self._compress_to_size = compress_to_size
        self._representation: Representation = representation
        self._normalize = normalize
        self._hosting = hosting
        self._nice = nice
        self._timeout_s = timeout_s
        self._retries = retries
        self._max_concurrency = max_concurrency
        self._max_batch = max_batch
        self._shrink = shrink

        has_images = self._model in _IMAGE_MODELS
        self._modalities = frozenset[Modality](("text", "image", "mixed") if has_images else ("text",))
        self._dimension = compress_to_size or _FULL_SIZES.get(self._model)
        self._accepted: set[str] = set()  # the representations that the service has taken with these settings
        self._pace = Pace(max_concurrency)
        self._connection: tuple[Client, Transport] | None = None
        self._lock = threading.Lock()
        self._probe_lock = threading.Lock()

    @classmethod
    def from_env(cls, **settings: Unpack[AlephAlphaSettings]) -> Self:
        """An embedder with the host in `AA_HOST` and the token in `AA_TOKEN`.

        Args:
            settings: As for the class.

        Raises:
            ConfigurationError: A variable is missing, or a setting makes no sense.
        """
        for name, meaning in (("AA_HOST", "the address of the API"), ("AA_TOKEN", "an API token")):
            _require(bool(os.environ.get(name, "").strip()), f"set the environment variable {name} to {meaning}")
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
            with self._probe_lock:
                if self._dimension is None:
                    self.embed([Text(_PROBE)], role="document")
        if self._dimension is None:  # pragma: no cover (`embed` has set it)
            raise EmbedderResponseError(f"{self._where} has told no dimension")
        size = self._compress_to_size or "full"
        length = "unit" if self._normalize else "raw"
        return EmbedderSpec(
            model=self._model,
            fingerprint="/".join(
                ("aleph-alpha", self._model, str(size), self._representation, length, _PREPROCESSING[self._shrink])
            ),
            dimension=self._dimension,
            modalities=self._modalities,
            languages=_LANGUAGES,
            max_batch=self._max_batch,
            max_concurrency=self._max_concurrency,
        )

    def prepare(self, content: Content, /) -> Content:
        """Do the work on one content ahead of `embed`: pictures are read, turned upright, cropped and shrunk.

        Raises:
            UnreadableContentError: A picture cannot be read.
            UnsupportedContentError: A text is empty, or the model takes no pictures.
        """
        if modality_of(content) not in self._modalities if not isinstance(content, Mixed) or content.parts else False:
            raise UnsupportedContentError("")
        raise NotImplementedError
