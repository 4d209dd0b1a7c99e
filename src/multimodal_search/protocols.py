"""`Embedder` and `VectorStore`, the protocols of backends, and small ones for what only some backends can do.

All are synchronous: plain methods are what a person writing a backend can get right, and threads give the concurrency.
`multimodal_search.testing` holds contract tests for anything that implements them; docs/writing-an-embedder.md and
docs/writing-a-store.md show a whole one each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from typing_extensions import get_protocol_members

from multimodal_search._plugins import BackendRef
from multimodal_search.contents import Content
from multimodal_search.report import TuningReport
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
    """Embeds texts and images as vectors of one space.

    Whoever made an embedder closes it, if it has something to close: an index does so only where it was given a
    function that makes the embedder.
    """

    @property
    def spec(self) -> EmbedderSpec:
        """What this embedder is and can do; never changes."""
        ...

    def embed(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
        """Embed contents, all or nothing.

        Called from up to `spec.max_concurrency` threads at once. A content's vector depends on the content and the role
        alone: not on its batch, nor on its place in it. A text is a text, even if it looks like a path, an address or a
        special token of the model.

        Args:
            contents: At most `spec.max_batch_size` contents, of `spec.modalities`; none gives shape `(0, dimension)`.
                Texts are not empty, and valid Unicode. An image comes as `prepare` gave it, or has a PIL image as its
                `source`: upright and RGB.
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
    """An embedder that preprocesses one content (decode, crop, resize) ahead of `embed`, in another thread."""

    def prepare(self, content: Content, /) -> Content:
        """Preprocess one content (decode, crop, resize) so that `embed` gives the same vector for it.

        The result should take little memory.

        Safe to call from many threads at once; preparing a prepared content changes nothing. `media.load_rgb` decodes
        an image as the library does.

        Returns:
            A content of the same modality; anything else is refused as a content at fault.

        Raises:
            ContentError: The content cannot be read, or not by this embedder.
        """
        ...


@runtime_checkable
class SupportsInterrupt(Protocol):
    """An embedder whose calls can be interrupted.

    Without this, a call goes on in its thread after Ctrl-C, and `close` of an index waits for it.
    """

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

        For the parts of a batch that failed in spite of retries, to find the item at fault.
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
class SupportsRef(Protocol):
    """An embedder that can be made again, from a name and options without secrets.

    An index in a folder keeps them, and opens with that embedder where none is given.
    """

    @property
    def ref(self) -> BackendRef:
        """What `load_embedder` needs to make one like it."""
        ...


@runtime_checkable
class SupportsTextLimit(Protocol):
    """An embedder whose model sees only the beginning of a long text, and that can tell."""

    def is_truncated(self, content: Content, /) -> bool:
        """Whether the model sees only the beginning of a text; False for other contents. Called in loading threads."""
        ...


@runtime_checkable
class VectorStore(Protocol):
    """Stores vectors with payloads, and searches them by cosine similarity.

    All methods may be called from several threads at once, and what one has written, all see when the call returns.
    What a method is given stays as it is, and what it returns belongs to the caller. Ids are integers from 0 to 2^64-1,
    NumPy's too, or UUIDs in canonical text form; in every order, integers come before UUIDs, each by size. Cosines need
    lengths in 64 bits: the square of 3e38 overflows 32 bits. A zero vector has the score 0 with everything.

    After `close()` every other method raises `StoreClosedError`. Every method may raise `StoreUnavailableError` where
    trying later may help, and `StoreError` where the storage fails.
    """

    def ensure(self, schema: StoreSchema, /) -> StoreSchema:
        """Create the storage for `schema`, or open what is there; called before anything else, and again at any time.

        Returns:
            The schema of what is stored now. The caller compares; a differing schema changes nothing in the store.

        Raises:
            StoreLockedError: Another process holds it, and the storage cannot be shared.
            StoreUnavailableError: It cannot be reached.
        """
        ...

    def upsert(self, records: Sequence[Record], vectors: FloatArray, /) -> None:
        """Insert records, or replace those with the same ids, whole; durable and visible on return.

        What has returned survives a kill of the process. Arguments that are refused change nothing.

        Args:
            records: Their ids and payloads; where an id stands twice, the last one wins. None is fine. Payloads hold
                JSON values, which come back with their types: 1, 1.0 and true differ.
            vectors: Shape `(len(records), dimension)`, float32, finite, in any memory layout, perhaps read-only; row i
                belongs to `records[i]`.

        Raises:
            ContentError: A vector holds NaN or infinity; the message names its record.
            ConfigurationError: An id is neither an integer from 0 to 2^64-1 nor a UUID.
            SchemaMismatchError: The vectors have another dimension than the stored ones.
            StoreRefusedError: The storage takes no record of such a size or content; the index tries others alone.
            StoreError: `vectors` is no array of one row of numbers for each record.
        """
        ...

    def search(
        self, vectors: FloatArray, /, *, limit: int, offset: int = 0, where: Filter | None = None
    ) -> list[list[Match]]:
        """Find the points nearest to each of several vectors.

        Args:
            vectors: Shape `(n, dimension)`, float32, finite; of any length, which plays no part.
            limit: Most matches for each vector, at least 1; NumPy's integers too, as for `offset`.
            offset: Matches to skip for each vector, for paging; at any depth.
            where: Only points whose payload passes: of those, the nearest ones.

        Returns:
            A list for each vector, by falling score, which is a Python float from -1 to 1; equal scores by id.

        Raises:
            QueryError: The filter makes no sense, `limit` or `offset` is out of bounds, or `vectors` is no array of
                finite numbers in rows.
            SchemaMismatchError: The vectors have another dimension than the stored ones.
        """
        ...

    def get(self, ids: Sequence[PointId], /, *, with_vectors: bool = False) -> list[Record | None]:
        """The records of ids, in their order; None for an id that is not stored.

        Args:
            ids: Any number of them; the same one may stand there several times.
            with_vectors: Whether records have their `vector`, float32, of the direction that was stored; its length
                may be 1 instead.

        Raises:
            ConfigurationError: An id is neither an integer from 0 to 2^64-1 nor a UUID.
        """
        ...

    def scan(self, *, where: Filter | None = None, fields: Sequence[str] | None = None) -> Iterator[Record]:
        """All records that pass, lazily, each once, in the order of ids.

        Several iterators may be under way at once, and records may be written and deleted meanwhile. One that is under
        way when the store is closed raises `StoreClosedError` at its next step.

        Args:
            where: Only points whose payload passes.
            fields: Only these payload fields, by their literal names: `a.b` is the field of that name, and no path.
                None gives all, an empty sequence none.

        Raises:
            QueryError: The filter makes no sense. As `StoreClosedError`, it is raised by the call itself, not by the
                first step of the iterator; so `scan` is no generator function, but may return a generator.
        """
        ...

    def delete(self, ids: Sequence[PointId], /) -> None:
        """Delete points, durably on return; ids that are not stored are fine.

        Raises:
            ConfigurationError: An id is neither an integer from 0 to 2^64-1 nor a UUID.
        """
        ...

    def count(self, where: Filter | None = None) -> int:
        """Count the points that pass: exactly, unless the store says otherwise by `SupportsEstimates`.

        Raises:
            QueryError: The filter makes no sense.
        """
        ...

    def close(self) -> None:
        """Release everything, so that another process may open it; twice is fine."""
        ...


@runtime_checkable
class SupportsOptimize(Protocol):
    """A store with a search index to rebuild, such as an HNSW graph."""

    @property
    def needs_optimize(self) -> bool:
        """Whether enough has changed since the last rebuild."""
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
class SupportsTuning(Protocol):
    """A store whose search is approximate, as through an HNSW graph, and can be tuned to a recall, or be exact.

    Other stores are taken to be exact.
    """

    @property
    def tuning(self) -> TuningReport | None:
        """What the last `tune` has reached; None before the first one. It is kept with the points."""
        ...

    @property
    def needs_tuning(self) -> bool:
        """Whether `tune` was never called, or with half or less, or twice or more, as many points.

        False while the graph is not built yet, and where so few points are stored that searches are exact.
        """
        ...

    def tune(
        self,
        queries: Mapping[str, FloatArray],
        target: float | None = None,
        *,
        on_tick: Callable[[], None] | None = None,
    ) -> TuningReport:
        """Measure recall@10 against exact search, and search as fast from now on as a target allows.

        The smallest effort that reaches the target for every kind of query is kept with the points. Where no effort
        reaches it, the next `optimize` builds a better graph. The recall that is reported is measured with queries that
        did not decide the effort. `stores.tuning.tuned` does this for any store.

        Args:
            queries: Queries like those that will come, for each kind, `"text"`, `"image"` or `"vector"`: shape
                `(n, dimension)`, float32. Some 100 of a kind tell a recall to within .01.
            target: The recall@10 to reach, above 0 and up to 1, whatever time searches take then; None for what the
                store is set to, by default .99, if it takes no longer than the store finds sensible.
            on_tick: Called between searches, in the calling thread; what it raises ends the tuning.

        Raises:
            ConfigurationError: `target` is no such number.
        """
        ...

    def search_exactly(
        self, vectors: FloatArray, /, *, limit: int, offset: int = 0, where: Filter | None = None
    ) -> list[list[Match]]:
        """As `search`, comparing every point that passes.

        Raises:
            QueryError: As for `search`; also where the storage forbids exact searches.
        """
        ...


@runtime_checkable
class SupportsVectorsInSearch(Protocol):
    """A store, as one on a server, that can give the vectors of matches with them: for MMR, which else asks `get`."""

    def search_with_vectors(
        self, vectors: FloatArray, /, *, limit: int, offset: int = 0, where: Filter | None = None
    ) -> list[list[Match]]:
        """As `search`; each match has its `vector`, as `get` gives it, or None where the store would have to ask again.

        A page of less than `limit` matches is the last one.
        """
        ...


@runtime_checkable
class SupportsListFilter(Protocol):
    """A store with a filter of its own for fields that are lists, so that grouped searches need few pages."""

    def is_list(self, field: str, /) -> Filter:
        """A filter that passes for all payloads whose field is a list of two values or more, and for few others."""
        ...


@runtime_checkable
class SupportsTextSearch(Protocol):
    """A store with keyword search (BM25) in the words of each point.

    These are one text, which the store makes of some fields of the payload when a point is stored, as
    `stores.keywords.point_words` does; it is part of no payload that the store returns.
    """

    def get_keyword_fields(self) -> tuple[str, ...]:
        """The payload fields that make up the words; kept with the store, `DEFAULT_KEYWORD_FIELDS` in a new one."""
        ...

    def set_keyword_fields(self, fields: Sequence[str], /, *, on_tick: Callable[[], None] | None = None) -> bool:
        """Set these fields, durably, and make the words of all points that have others anew; vectors stay.

        With the same fields, complete what is not, such as the words of points that were stored before words were kept.

        Args:
            fields: Their names.
            on_tick: Called now and then until it is done, in the calling thread.

        Returns:
            Whether there was anything to do.

        Raises:
            ConfigurationError: `fields` is no list of names.
        """
        ...

    def search_text(self, words: str, /, *, limit: int, where: Filter | None = None) -> list[Match]:
        """Find the points that hold at least one of some words, ranked by BM25.

        Words are compared without regard to case.

        Args:
            words: What to look for; one that holds no word finds nothing.
            limit: Most matches, at least 1.
            where: Only points whose payload passes.

        Returns:
            By falling BM25 score (Robertson and Zaragoza 2009, k1 = 1.2, b = 0.75), which `Match.score` holds; equal
            scores by id.

        Raises:
            QueryError: The filter makes no sense, `limit` is out of bounds, or `words` is no text.
        """
        ...


@runtime_checkable
class SupportsHybridSearch(SupportsTextSearch, Protocol):
    """A store that ranks by vector and by words without reading payloads: only those of few hits are needed then."""

    def search_hybrid(
        self, vector: FloatArray | None, words: str, /, *, limit: int, where: Filter | None = None
    ) -> tuple[list[tuple[PointId, float]], list[tuple[PointId, float]]]:
        """The ids and scores of the matches of `search` for one vector, shape `(dimension,)`, and of `search_text`.

        Without a vector, the first list is empty.
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
class SupportsEstimates(Protocol):
    """A store whose `count` may be an estimate, as on a server that is not allowed to count exactly."""

    @property
    def counts_exactly(self) -> bool:
        """Whether `count` is exact. If not, nothing is concluded from it, as that points are missing."""
        ...


@runtime_checkable
class SupportsConcurrentUpserts(Protocol):
    """A store that is written faster by several threads at once, as a cluster whose nodes share the work."""

    @property
    def max_concurrent_upserts(self) -> int:
        """How many calls of `upsert` an indexing run makes at once, at most, with different ids; at least 1.

        Read when a run begins, after `ensure`. Other stores get one call after the other.
        """
        ...


@runtime_checkable
class SupportsFolder(Protocol):
    """A store that keeps its data in a folder on this machine."""

    @property
    def folder(self) -> Path | None:
        """The folder that the store keeps its data in; None where it keeps them elsewhere, as on a server.

        Indexing leaves this folder out of walks, and keeps `ledger.sqlite` in it, a cache of the files that failed.
        """
        ...


@runtime_checkable
class SupportsIndexMetadata(Protocol):
    """A store with key-value metadata: small texts kept with the collection, e.g. the calibration."""

    def get_index_metadata(self, name: str, /) -> str | None:
        """The text under a name; None if there is none.

        Raises:
            ConfigurationError: `name` is no such name.
        """
        ...

    def set_index_metadata(self, name: str, text: str, /) -> None:
        """Store a text under a name, in place of the one before; all or nothing, and durable on return.

        Args:
            name: 1 to 100 lower-case letters, digits and `_`.
            text: Up to some hundred kilobytes.

        Raises:
            ConfigurationError: `name` is no such name, or `text` is no valid Unicode.
        """
        ...


@runtime_checkable
class SupportsVerify(Protocol):
    """A store that can verify its own integrity, beyond what reading every point through `VectorStore` shows."""

    def status(self) -> StoreState:
        """Its size, and problems that are known; quick."""
        ...

    def verify(self, *, on_tick: Callable[[int], None] | None = None) -> StoreState:
        """Read everything that is stored, and find what is wrong with it.

        Args:
            on_tick: Called now and then with the number of points read so far, in the calling thread.
        """
        ...


def lacking(value: object, protocol: type) -> str:
    """The end of a sentence that refuses a value: which members of a protocol it lacks; empty for a class."""
    names = () if isinstance(value, type) else sorted(get_protocol_members(protocol))
    missing = [name for name in names if not hasattr(value, name)]
    return f": it lacks {', '.join(missing)}" if 0 < len(missing) < len(names) else ""


def counts_exactly(store: VectorStore) -> bool:
    """Whether a store's `count` is exact."""
    return store.counts_exactly if isinstance(store, SupportsEstimates) else True


def concurrent_upserts(store: VectorStore) -> int:
    """From how many threads a store's `upsert` is worth calling at once."""
    return max(1, store.max_concurrent_upserts) if isinstance(store, SupportsConcurrentUpserts) else 1


def folder_of_store(store: VectorStore) -> Path | None:
    """The folder that a store keeps its data in; None if it has none."""
    return store.folder if isinstance(store, SupportsFolder) else None
