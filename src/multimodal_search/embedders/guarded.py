"""An embedder as the index uses it: limited, retried, and checked where foreign data enters."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

import numpy as np

from multimodal_search._bounds import MAX_PARTS, MAX_TEXT_LENGTH, check_length
from multimodal_search._text import brief, is_unicode
from multimodal_search.contents import Content, Image, Mixed, Text, modality_of
from multimodal_search.embedders.limiter import ConcurrencyLimiter, Passing
from multimodal_search.errors import (
    ConfigurationError,
    ContentError,
    EmbedderError,
    EmbedderResponseError,
    EmbedderUnavailableError,
    MultimodalSearchError,
    UnsupportedContentError,
)
from multimodal_search.media.images import MAX_PIXELS, load_rgb, pixels_at_most
from multimodal_search.protocols import (
    Embedder,
    SupportsEmbedOnce,
    SupportsInterrupt,
    SupportsModelVersion,
    SupportsPrepare,
    SupportsTextLimit,
    SupportsUsage,
)
from multimodal_search.types import FloatArray, Role, Usage
from multimodal_search.vectors import Rows, checked_rows

RETRY_DEADLINE_S = 120.0
"""How long a call is repeated, from its first attempt on, while trouble may pass."""


class GuardedEmbedder:
    """Wraps an embedder: at most `max_concurrency` calls at once, retried on temporary failures, and checked.

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
        self._repeater = embedder if isinstance(embedder, SupportsEmbedOnce) else None
        self._versioned = embedder if isinstance(embedder, SupportsModelVersion) else None
        self._text_limited = embedder if isinstance(embedder, SupportsTextLimit) else None
        self._limiter_of_process = (os.getpid(), ConcurrencyLimiter(self.spec.max_concurrency))
        self._calls = itertools.count(1)
        self._called = 0

    def check(self, content: Content) -> None:
        """Refuse a content that this embedder cannot embed, before anything is read.

        Raises:
            UnsupportedContentError: It is empty, no valid Unicode, or of a modality that the embedder does not have.
        """
        modality = modality_of(content)
        if modality not in self.spec.modalities:
            can = ", ".join(sorted(self.spec.modalities))
            raise UnsupportedContentError(f"{self.spec.model} embeds {can}, not {modality}")
        if isinstance(content, Text) and not content.text.strip():
            raise UnsupportedContentError("the text is empty")
        if isinstance(content, Mixed):
            if not content.parts:
                raise UnsupportedContentError("a Mixed of no parts is nothing to embed: give it texts and images")
            check_length(len(content.parts), MAX_PARTS, named="a Mixed", of="parts", error=UnsupportedContentError)
            for part in content.parts:
                if isinstance(part, Text) and not part.text.strip():
                    raise UnsupportedContentError("a text in Mixed is empty")
        for part in content.parts if isinstance(content, Mixed) else (content,):
            if isinstance(part, Text):
                check_length(
                    len(part.text), MAX_TEXT_LENGTH, named="the text", of="characters", error=UnsupportedContentError
                )
                if not is_unicode(part.text):  # as a shell passes what is not in its encoding
                    raise UnsupportedContentError(
                        f"the text holds a lone surrogate, which is no valid Unicode: {brief(part)}"
                    )

    def prepare(self, content: Content) -> Content:
        """What `embed` needs of a content: images are read, upright, and as small as the embedder allows.

        Raises:
            ContentError: The content cannot be read or embedded.
        """
        self.check(content)
        with pixels_at_most(self.max_pixels):
            if self._preparer is not None:
                return self._prepared(self._preparer, content)
            match content:
                case Image():
                    return Image(load_rgb(content), name=content.label)
                case Mixed():
                    return Mixed(*(self.prepare(part) for part in content.parts))  # type: ignore[arg-type]  # as they are
                case Text():
                    return content

    def is_truncated(self, content: Content) -> bool:
        """Whether the model is known to see only the beginning of a text."""
        if self._text_limited is None or not isinstance(content, Text):
            return False
        try:
            return self._text_limited.is_truncated(content) is True
        except Exception:  # noqa: BLE001 (it only informs; `embed` will tell what is wrong)
            return False

    def embed(self, contents: Sequence[Content], *, role: Role) -> FloatArray:
        """Embed prepared contents, at most `spec.max_batch_size` of them, all or nothing.

        Returns:
            Shape `(len(contents), dimension)`, float32, finite.

        Raises:
            ContentError: One of the contents is at fault.
            EmbedderResponseError: The embedder broke its promise.
            EmbedderUnavailableError: Trouble has not passed within `RETRY_DEADLINE_S`.
            EmbedderError: The embedder raised something else.
        """
        rows = self.embed_each(contents, role=role)
        for number, flaw in rows.flaws.items():
            raise EmbedderResponseError(
                f"{self.spec.model} returned {flaw} for content {number + 1} of {len(contents)}",
                vectors=rows.vectors,
                flaws=rows.flaws,
            )
        return rows.vectors

    def embed_each(self, contents: Sequence[Content], *, role: Role, once: bool = False) -> Rows:
        """Embed prepared contents; a flawed vector does not spoil the others.

        Args:
            contents: At most `spec.max_batch_size`.
            role: As for `embed`.
            once: Whether the call is not repeated, except where the service has too many of them.

        Raises:
            EmbedderError: As `embed`.
            ContentError: As `embed`.
        """

        def passing(error: Exception) -> Passing | None:
            # An embedder that can leave repeating calls does repeat them, and one deadline holds for all attempts.
            if self._repeater is not None or not isinstance(error, EmbedderUnavailableError):
                return None
            return Passing(asked_s=error.retry_after_s, is_overload=True, retries=0 if once else None)

        return self._limiter.repeat(
            lambda deadline: self._attempt(contents, role, once=once),
            within_s=RETRY_DEADLINE_S,
            passing=passing,
            at_once=once,
        )

    def check_unchanged(self) -> None:
        """Check that the embedder's `spec` is what it was.

        Raises:
            ConfigurationError: Its `spec` has changed.
        """
        spec = self.embedder.spec
        if spec != self.spec:
            raise ConfigurationError(
                f"the embedder's spec has changed since this index was opened, from {self.spec} to {spec}: open the "
                "index again with it"
            )

    @property
    def model_version(self) -> str | None:
        """What the service calls its model now; None if it does not say."""
        version = None if self._versioned is None else self._versioned.model_version
        return version if isinstance(version, str) and version else None

    def interrupt(self) -> None:
        """End the calls that are under way, as soon as the embedder can."""
        self._limiter.interrupt()
        if isinstance(self.embedder, SupportsInterrupt):
            self.embedder.interrupt()

    @property
    def usage(self) -> Usage:
        """What has been sent; for an embedder that does not count, how often it was called."""
        return self.embedder.usage if isinstance(self.embedder, SupportsUsage) else Usage(calls=self._called)

    @property
    def _limiter(self) -> ConcurrencyLimiter:
        pid, limiter = self._limiter_of_process
        if pid != os.getpid():  # in a forked child, the calls that hold its places and its lock are not there
            limiter = ConcurrencyLimiter(self.spec.max_concurrency)
            self._limiter_of_process = (os.getpid(), limiter)
        return limiter

    def _prepared(self, preparer: SupportsPrepare, content: Content) -> Content:
        model = self.spec.model
        try:
            prepared: object = preparer.prepare(content)
        except MultimodalSearchError:
            raise
        except Exception as error:  # an embedder of somebody else's may trip over one content
            raise ContentError(f"{model} cannot prepare it ({type(error).__name__}: {error})") from error
        wanted = modality_of(content)
        if not isinstance(prepared, (Text, Image, Mixed)):
            raise ContentError(
                f"{model} cannot prepare it: `prepare` returned {type(prepared).__name__}, not the {wanted} to embed"
            )
        if modality_of(prepared) != wanted:
            raise ContentError(
                f"{model} cannot prepare it: `prepare` made {modality_of(prepared)} of a content that is {wanted}"
            )
        return prepared

    def _attempt(self, contents: Sequence[Content], role: Role, *, once: bool) -> Rows:
        self._called = next(self._calls)
        model, embedder = self.spec.model, self.embedder
        count, dimension = len(contents), self.spec.dimension
        try:
            if once and self._repeater is not None:
                given: object = self._repeater.embed_once(contents, role=role)
            else:
                given = embedder.embed(contents, role=role)
        except (EmbedderResponseError, UnsupportedContentError) as error:
            if error.vectors is None:
                raise
            rows = checked_rows(error.vectors, count=count, dimension=dimension, who=model)
            named = {number: flaw for number, flaw in error.flaws.items() if 0 <= number < count}
            rows.vectors[list(named)] = np.nan
            return Rows(rows.vectors, {**rows.flaws, **named})
        except MultimodalSearchError:
            raise
        except Exception as error:  # an embedder of somebody else's may raise anything
            raise EmbedderError(f"{model} failed ({type(error).__name__}: {error})") from error
        return checked_rows(given, count=count, dimension=dimension, who=model)
