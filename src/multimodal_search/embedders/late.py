"""The embedder of an index, created when something is first embedded: reading an index needs none."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import TypeAlias

from multimodal_search._text import brief
from multimodal_search.embedders.guarded import GuardedEmbedder
from multimodal_search.errors import ConfigurationError, MultimodalSearchError, SchemaMismatchError
from multimodal_search.media.images import MAX_PIXELS
from multimodal_search.protocols import Embedder, lacking
from multimodal_search.types import StoreSchema, Usage

EmbedderSource: TypeAlias = "Embedder | Callable[[], Embedder]"
"""An embedder, or a function without arguments that makes it."""


class LateEmbedder:
    """An embedder that is created on first use, or is missing; the stored schema says what it was.

    Safe to use from many threads.

    Args:
        source: The embedder, a function that makes it, or None: then nothing can be embedded.
        max_pixels: The largest image that is decoded for it.
        accept: Given an embedder and the stored schema of another one, returns if it may be used all the same, and
            raises if not; without it, none may.

    Raises:
        TypeError: `source` is something else.
    """

    def __init__(
        self,
        source: EmbedderSource | None,
        *,
        max_pixels: int = MAX_PIXELS,
        accept: Callable[[GuardedEmbedder, StoreSchema], None] | None = None,
    ) -> None:
        is_embedder = not isinstance(source, type) and isinstance(source, Embedder)
        if isinstance(source, type) or not (source is None or is_embedder or _takes_nothing(source)):
            raise TypeError(
                "the embedder is an object such as ColorEmbedder(), a function without arguments that makes one, or "
                f"None, not {brief(source)}{lacking(source, Embedder)}"
            )
        self._source = source
        self.max_pixels = max_pixels
        self._accept = accept
        self._lock = threading.Lock()
        self._schema: StoreSchema | None = None
        self._made: GuardedEmbedder | None = None
        self._used_before = Usage()
        self._is_ours = not is_embedder
        if isinstance(source, Embedder):
            self._take(source)

    @property
    def schema(self) -> StoreSchema:
        """Model, fingerprint and dimension of its vectors."""
        if self._schema is None:
            return StoreSchema.of(self.ready().spec)
        return self._schema

    @property
    def is_given(self) -> bool:
        """Whether something can be embedded."""
        return self._source is not None

    @property
    def made(self) -> GuardedEmbedder | None:
        """The embedder, if it has been made."""
        return self._made

    @property
    def usage(self) -> Usage:
        """What it has sent since it was made or given; one that a function returns may have served others before."""
        return Usage() if self._made is None else self._made.usage - self._used_before

    def stands_for(self, schema: StoreSchema) -> None:
        """Use a stored schema as the embedder's, without creating it."""
        self._schema = StoreSchema(
            model=schema.model,
            fingerprint=schema.fingerprint,
            dimension=schema.dimension,
            duplicate_threshold=schema.duplicate_threshold,
        )

    def ready(self) -> GuardedEmbedder:
        """The embedder, made now if it was not yet.

        Raises:
            ConfigurationError: There is none, or a setting that it needs is missing.
            SchemaMismatchError: It is not the one that the index was made with.
        """
        made = self._made  # without the lock, which a search by vector would wait for
        if made is not None:
            return made
        with self._lock:
            if self._made is not None:
                return self._made
            if self._source is None:
                raise ConfigurationError(self._missing())
            try:
                embedder = self._source()  # type: ignore[operator]  # an embedder was taken when it was given
            except MultimodalSearchError:
                raise
            except Exception as error:
                raise ConfigurationError(
                    f"{self._name}, which is to make the embedder, failed ({type(error).__name__}: {error})"
                ) from error
            if isinstance(embedder, type) or not isinstance(embedder, Embedder):
                lacks = lacking(embedder, Embedder)
                raise TypeError(f"{self._name} gives {brief(embedder)}, which is no embedder{lacks}")
            stored = self._schema
            try:
                if stored is not None:
                    self._check(GuardedEmbedder(embedder, max_pixels=self.max_pixels), stored)
            except BaseException:
                _close(embedder)
                raise
            made = self._take(embedder)
            if stored is not None:
                self.stands_for(stored)
            return made

    def check(self, stored: StoreSchema) -> None:
        """Check an embedder that was given against what is stored.

        Raises:
            SchemaMismatchError: It is another one, and not accepted.
        """
        if self._made is not None and stored != self._schema:
            self._check(self._made, stored)
            self.stands_for(stored)

    def give(self, source: EmbedderSource) -> None:
        """Set what makes the embedder, where there was none."""
        if self._source is None:
            self._source = source

    def interrupt(self) -> None:
        """End the calls that are under way, as soon as the embedder can."""
        if self._made is not None:
            self._made.interrupt()

    def close(self) -> None:
        """Close the embedder, if it was made here: one that was given may serve others."""
        with self._lock:
            made = self._made if self._is_ours else None
        if made is not None:
            _close(made.embedder)

    def __repr__(self) -> str:
        if self._made is not None:
            return repr(self._made.embedder)
        return "None" if self._source is None else f"<{self._name}>"

    def _check(self, embedder: GuardedEmbedder, stored: StoreSchema) -> None:
        wanted = StoreSchema.of(embedder.spec)
        if stored == wanted:
            return
        if self._accept is None:
            raise SchemaMismatchError(stored.mismatch(wanted))
        self._accept(embedder, stored)

    @property
    def _name(self) -> str:
        """What to call the function; without its arguments, among which may be a token."""
        return str(getattr(self._source, "__qualname__", type(self._source).__name__))

    def _take(self, embedder: Embedder) -> GuardedEmbedder:
        made = GuardedEmbedder(embedder, max_pixels=self.max_pixels)
        self._used_before, self._schema = made.usage, StoreSchema.of(made.spec)
        self._made = made
        return made

    def _missing(self) -> str:
        was = self.schema
        return (
            "this index was opened without an embedder, and here something is to be embedded: open it with embedder=, "
            f"the one that it was made with ({was.model!r}, {was.dimension} dimensions, {was.fingerprint}). Without "
            "one, what is stored can be read, deleted, and searched with Stored(id), Vector(...) and similar"
        )


def _takes_nothing(source: object) -> bool:
    """Whether something can be called without arguments, as far as that can be told without calling it."""
    if not callable(source):
        return False
    try:
        inspect.signature(source).bind()
    except TypeError:
        return False
    except ValueError:  # some builtins do not tell
        pass
    return True


def _close(embedder: Embedder) -> None:
    close = getattr(embedder, "close", None)  # no part of the protocol: most have nothing to close
    if callable(close):
        close()
