"""An embedder as the index uses it: bounded, and checked where foreign data enters."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import numpy as np

from multimodal_search._media import MAX_PIXELS, load_rgb, pixels_at_most
from multimodal_search._pace import Pace, pause_after
from multimodal_search.errors import EmbedderResponseError, EmbedderUnavailableError, UnsupportedContentError
from multimodal_search.protocols import Embedder, SupportsInterrupt, SupportsPrepare, SupportsUsage
from multimodal_search.types import Content, FloatArray, Image, Mixed, Role, Text, Usage, modality_of

PATIENCE_S = 120.0
"""How long a call is repeated, from its first attempt on, while trouble may pass."""

REPEATS = 5
"""How often a call is repeated that the embedder has repeated itself in vain, while others come through."""


class CheckedEmbedder:
    """Wraps an embedder: at most `max_concurrency` calls at once, repeated while trouble may pass, and checked.

    Args:
        embedder: Anything that implements the protocol.
        max_pixels: Most pixels of an image that is decoded.
    """

    def __init__(self, embedder: Embedder, *, max_pixels: int = MAX_PIXELS) -> None:
        self.embedder = embedder
        self.max_pixels = max_pixels
        self.spec = embedder.spec
        # Asked once: looking through a protocol's members costs more than many a call.
        self._preparer = embedder if isinstance(embedder, SupportsPrepare) else None
        self._pace = Pace(self.spec.max_concurrency)
        self._calls = itertools.count(1)
        self._called = 0

    def check(self, content: Content) -> None:
        """Refuse a content that this embedder cannot embed, before anything is read.

        Raises:
            UnsupportedContentError: It is empty, or of a modality that the embedder does not have.
        """
        modality = modality_of(content)
        if modality not in self.spec.modalities:
            can = ", ".join(sorted(self.spec.modalities))
            raise UnsupportedContentError(f"{self.spec.model} embeds {can}, not {modality}")
        if isinstance(content, Text) and not content.text.strip():
            raise UnsupportedContentError("the text is empty")
        if isinstance(content, Mixed):
            if not content.parts:
                raise UnsupportedContentError("a Mixed of no parts is nothing to embed: give it texts and pictures")
            for part in content.parts:
                if isinstance(part, Text) and not part.text.strip():
                    raise UnsupportedContentError("a text in Mixed is empty")

    def prepare(self, content: Content) -> Content:
        """What `embed` needs of a content: pictures are read, upright, and as small as the embedder allows.

        Raises:
            ContentError: The content cannot be read or embedded.
        """
        self.check(content)
        with pixels_at_most(self.max_pixels):
            return self._prepared(content)

    def _prepared(self, content: Content) -> Content:
        if self._preparer is not None:
            return self._preparer.prepare(content)
        match content:
            case Image():
                return Image(load_rgb(content), name=content.label)
            case Mixed():
                return Mixed(*(self.prepare(part) for part in content.parts))  # type: ignore[arg-type]  # parts stay parts
            case Text():
                return content

    def embed(self, contents: Sequence[Content], *, role: Role) -> FloatArray:
        """Embed prepared contents, at most `spec.max_batch` of them.

        Returns:
            Shape `(len(contents), dimension)`, float32, finite.

        Raises:
            ContentError: One of the contents is at fault.
            EmbedderResponseError: The embedder broke its promise.
            EmbedderUnavailableError: Trouble has not passed within `PATIENCE_S`.
        """
        deadline = time.monotonic() + PATIENCE_S
        for attempts in itertools.count(1):
            with self._pace.turn(deadline):
                began = time.monotonic()
                try:
                    return self._attempt(contents, role)
                except EmbedderUnavailableError as error:
                    failure = error
                    self._pace.overloaded(since=began)
            if failure.exhausted:
                # Among too many it may have waited for its turn in vain: now they are fewer.
                if attempts > REPEATS or not self._pace.has_succeeded_since(began):
                    raise failure
                deadline = time.monotonic() + PATIENCE_S
                continue
            pause_s = pause_after(attempts, asked_s=failure.retry_after_s)
            if time.monotonic() + pause_s >= deadline:
                raise failure
            self._pace.pause(pause_s)
        raise AssertionError  # pragma: no cover (the loop above has no end)

    def interrupt(self) -> None:
        """End the calls that are under way, as soon as the embedder can."""
        self._pace.interrupt()
        if isinstance(self.embedder, SupportsInterrupt):
            self.embedder.interrupt()

    @property
    def usage(self) -> Usage:
        """What has been sent; for an embedder that does not count, how often it was called."""
        return self.embedder.usage if isinstance(self.embedder, SupportsUsage) else Usage(calls=self._called)

    def _attempt(self, contents: Sequence[Content], role: Role) -> FloatArray:
        self._called = next(self._calls)
        given = self.embedder.embed(contents, role=role)
        try:
            with np.errstate(over="ignore"):
                vectors = np.array(given, dtype=np.float32)  # a copy: theirs may be reused
        except (TypeError, ValueError) as error:
            raise EmbedderResponseError(f"{self.spec.model} returned no array of numbers: {error}") from error
        self._pace.succeeded()
        expected = (len(contents), self.spec.dimension)
        if vectors.shape != expected:
            raise EmbedderResponseError(f"{self.spec.model} returned vectors of shape {vectors.shape}, not {expected}")
        if not np.isfinite(vectors).all():
            raise EmbedderResponseError(f"{self.spec.model} returned a vector that holds NaN or infinity")
        return vectors
