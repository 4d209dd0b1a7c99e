"""The two protocols that make a backend, and the small ones for what only some backends can do.

Both are synchronous: plain methods are what a person writing a backend can get right, and threads give the concurrency.
`multimodal_search.testing` holds contract tests for anything that implements them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from multimodal_search.contents import Content
from multimodal_search.types import (
    EmbedderSpec,
    Filter,
    FloatArray,
    Match,
    PointId,
    Record,
    Role,
    StoreSchema,
    StoreState,
    Usage,
)


@runtime_checkable
class Embedder(Protocol):
    """Turns texts and images into vectors of one space."""

    @property
    def spec(self) -> EmbedderSpec:
        """What this embedder is and can do; never changes."""
        ...

    def embed(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
        """Embed contents, all or nothing.

        Called from up to `spec.max_concurrency` threads at once.

        Args:
            contents: At most `spec.max_batch_size` contents, of `spec.modalities`; none gives shape `(0, dimension)`.
            role: Whether the vectors are to be stored (`"document"`) or to search with (`"query"`).

        Returns:
            Shape `(len(contents), spec.dimension)`, float32, finite, row i for `contents[i]`; not necessarily of
            unit length.

        Raises:
            ContentError: A content is at fault; the caller may try the others.
            EmbedderError: The service or model failed; `EmbedderUnavailableError` if trying later may help.
        """
        ...


@runtime_checkable
class SupportsPrepare(Protocol):
    """An embedder that can do the work on one content (decode, crop, shrink) ahead of `embed`, in another thread."""

    def prepare(self, content: Content, /) -> Content:
        """Preprocess one content (decode, crop, resize) so that `embed` gives the same vector for it.

        The result should take little memory. Safe to call from many threads at once; preparing a prepared content
        changes nothing.

        Raises:
            ContentError: The content cannot be read, or not by this embedder.
        """
        ...


@runtime_checkable
class SupportsInterrupt(Protocol):
    """An embedder whose calls can be cut short, for Ctrl-C."""

    def interrupt(self) -> None:
        """End all calls of `embed` that are under way, soon and with an error; later calls work as before."""
        ...


@runtime_checkable
class SupportsEmbedOnce(Protocol):
    """An embedder that repeats failed calls itself, and can make a single attempt instead.

    The index repeats calls of other embedders, and never those of this one.
    """

    def embed_once(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
        """As `embed`, with one attempt, except where the service says that it has too many calls.

        Used for the parts of a batch that failed, to find the item at fault.
        """
        ...


@runtime_checkable
class SupportsModelVersion(Protocol):
    """An embedder whose service says which version of the model it has."""

    @property
    def model_version(self) -> str | None:
        """As it stood in the last answer; None before the first one."""
        ...


@runtime_checkable
class SupportsUsage(Protocol):
    """An embedder that counts what it sends."""

    @property
    def usage(self) -> Usage:
        """What has been sent since this embedder was made."""
        ...


@runtime_checkable
class VectorStore(Protocol):
    """Keeps vectors with payloads, and finds the nearest ones by cosine similarity.

    All methods may be called from several threads. After `close()` every other method raises `StoreClosedError`.
    """

    def ensure(self, schema: StoreSchema, /) -> StoreSchema:
        """Create the storage for `schema`, or open what is there; called before anything else.

        Returns:
            The schema of what is stored now. The caller compares; a differing schema changes nothing in the store.

        Raises:
            StoreLockedError: Another process holds it.
            StoreUnavailableError: It cannot be reached.
        """
        ...

    def upsert(self, records: Sequence[Record], vectors: FloatArray, /) -> None:
        """Insert records, or replace those with the same ids, whole; durable and visible on return.

        Args:
            records: Their ids and payloads; where an id stands twice, the last one wins. None is fine.
            vectors: Shape `(len(records), dimension)`, float32, finite; row i belongs to `records[i]`.
        """
        ...

    def search(
        self, vectors: FloatArray, /, *, limit: int, offset: int = 0, where: Filter | None = None
    ) -> list[list[Match]]:
        """Find the points nearest to each of several vectors.

        Args:
            vectors: Shape `(n, dimension)`, float32, finite.
            limit: Most matches for each vector, at least 1.
            offset: Matches to skip, for paging.
            where: Only points whose payload passes.

        Returns:
            A list for each vector, by falling score; equal scores by id, integers before UUIDs.

        Raises:
            QueryError: The filter makes no sense.
        """
        ...

    def get(self, ids: Sequence[PointId], /, *, with_vectors: bool = False) -> list[Record | None]:
        """The records of ids, in their order; None for an id that is not stored."""
        ...

    def scan(self, *, where: Filter | None = None, fields: Sequence[str] | None = None) -> Iterator[Record]:
        """All records that pass, lazily, each once, in the order of ids.

        Args:
            where: Only points whose payload passes.
            fields: Only these payload fields; None gives all, an empty sequence none.
        """
        ...

    def delete(self, ids: Sequence[PointId], /) -> None:
        """Remove points, durably on return; ids that are not stored are fine."""
        ...

    def count(self, where: Filter | None = None) -> int:
        """How many points pass, exactly."""
        ...

    def close(self) -> None:
        """Release everything; twice is fine."""
        ...


@runtime_checkable
class SupportsOptimize(Protocol):
    """A store that answers faster after it has rebuilt its search structures."""

    @property
    def needs_optimize(self) -> bool:
        """Whether enough has changed for `optimize` to pay."""
        ...

    def optimize(self, *, on_tick: Callable[[], None] | None = None) -> bool:
        """Rebuild, which can take minutes; other calls wait meanwhile.

        Args:
            on_tick: Called several times a second until it is done, in the calling thread.

        Returns:
            Whether anything was rebuilt.
        """
        ...


@runtime_checkable
class SupportsTextSearch(Protocol):
    """A store that also finds points by the words in a payload field."""

    def search_text(self, words: str, /, *, field: str, limit: int, where: Filter | None = None) -> list[Match]:
        """Find the points whose field holds at least one of some words, ranked by BM25.

        Words are compared without regard to case. A field that is a list of texts counts as all of them together.

        Args:
            words: What to look for; one that holds no word finds nothing.
            field: A payload's own field.
            limit: Most matches, at least 1.
            where: Only points whose payload passes.

        Returns:
            By falling BM25 score (Robertson and Zaragoza 2009, k1 = 1.2, b = 0.75), which `Match.score` holds; equal
            scores by id.

        Raises:
            QueryError: The filter makes no sense.
        """
        ...


@runtime_checkable
class SupportsStoredSchema(Protocol):
    """A store that can say what it holds before it is opened, so that an index opens without an embedder."""

    def stored_schema(self) -> StoreSchema | None:
        """The schema of what is stored; None where nothing is. Creates nothing, and may be called before `ensure`.

        Raises:
            StoreUnavailableError: It cannot be reached.
        """
        ...


@runtime_checkable
class SupportsIndexMetadata(Protocol):
    """A store with key-value metadata: small texts kept with the collection, e.g. the calibration."""

    def get_index_metadata(self, name: str, /) -> str | None:
        """The text of a note; None if there is none of this name."""
        ...

    def set_index_metadata(self, name: str, text: str, /) -> None:
        """Keep a text under a name, in place of the one before; all or nothing, and durable on return.

        Args:
            name: Lower-case letters, digits and `_`.
            text: Up to some hundred kilobytes.
        """
        ...


@runtime_checkable
class SupportsVerify(Protocol):
    """A store that can check itself, beyond what reading every point through `VectorStore` shows."""

    def status(self) -> StoreState:
        """Its size, and what is known to be wrong; quick."""
        ...

    def verify(self, *, on_tick: Callable[[int], None] | None = None) -> StoreState:
        """Read everything that is stored, and find what is wrong with it.

        Args:
            on_tick: Called now and then with the number of points read so far, in the calling thread.
        """
        ...
