"""`MultimodalIndex`: an embedder and a store, put together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NoReturn, TypeAlias, overload
from uuid import UUID

import numpy as np
from typing_extensions import Self, Unpack

from multimodal_search._bounds import MAX_PARTS, MAX_QUERIES, at_most, check_flags, is_iterable, is_whole
from multimodal_search._closing import Closing
from multimodal_search._files import checked_path, located
from multimodal_search._indexing.indexer import Indexer, RunOptions
from multimodal_search._indexing.integrity import status_of, verify
from multimodal_search._indexing.model_version import ModelVersions
from multimodal_search._indexing.pipeline import WINDOW_BYTES
from multimodal_search._indexing.sources import Walk, from_images, from_items, known_total
from multimodal_search._parquet import read, write, writing
from multimodal_search._progress import progress_callback
from multimodal_search._relevance.calibrator import Calibrator
from multimodal_search._searching.duplicates import duplicate_groups
from multimodal_search._searching.encoder import QueryEncoder
from multimodal_search._searching.languages import LanguageWatch
from multimodal_search._searching.searcher import (
    KEYWORD_FIELDS,
    MAX_HITS,
    Searcher,
    SearchOptions,
    SearchSettings,
    hit_of,
)
from multimodal_search._text import brief, printable
from multimodal_search.contents import ContentLike, QueryPart, Text
from multimodal_search.embedders.late import EmbedderSource, LateEmbedder
from multimodal_search.errors import (
    ConfigurationError,
    QueryError,
    SchemaMismatchError,
)
from multimodal_search.ids import HOW_TO_FIND_A_FILE, ContentIds, IdScheme, PathIds, SequentialIds, as_point_id
from multimodal_search.media.images import MAX_PIXELS
from multimodal_search.protocols import Embedder, SupportsFolder, SupportsOptimize, SupportsStoredSchema, VectorStore
from multimodal_search.query import Query, Stored
from multimodal_search.report import IndexReport, IndexStatus, ProgressCallback, VerifyReport
from multimodal_search.results import SearchHit, SearchResults
from multimodal_search.stores.scanning import all_records
from multimodal_search.types import Filter, Item, Match, PointId, Record, StoreSchema

Example: TypeAlias = "PointId | UUID | QueryPart"
"""What `similar` can be shown: a stored point by its id, or a term, such as `Image("a.jpg")`."""


class MultimodalIndex:
    """Images and texts that can be found again by words or by another image.

    Methods may be called from several threads; one `add` runs at a time.

    Args:
        embedder: Turns contents into vectors. A function without arguments that gives an embedder is called when
            something is first to be embedded, so that what embeds nothing needs no credentials and loads no weights.
            With None an existing index opens, for all that embeds nothing: reading, deleting, finding duplicates,
            searching by stored points and vectors.
        store: Keeps them. It is created if it does not exist yet, and closed with the index.
        ids: How points get their ids.
        auto_calibrate: Whether runs of indexing that change much end with `calibrate`, so that hits have a relevance.
            The first time, it embeds 122 short texts; later ones embed nothing.
        max_pixels: Most pixels of an image that is decoded, to index it or to search with it; the default lets the
            200-megapixel photos of phones through. What needs much memory to be decoded waits for its turn.

    Raises:
        SchemaMismatchError: The store holds another embedder's vectors.
        ConfigurationError: There is no embedder, and the store holds no index.
        StoreError: The store cannot be opened.
    """

    def __init__(
        self,
        embedder: EmbedderSource | None,
        store: VectorStore,
        *,
        ids: IdScheme | None = None,
        auto_calibrate: bool = True,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self._ids: IdScheme = PathIds() if ids is None else ids
        if isinstance(store, type) or not isinstance(store, VectorStore):
            raise TypeError(f"the second argument is a store, such as MemoryStore(), not {brief(store)}")
        if not isinstance(self._ids, (PathIds, ContentIds, SequentialIds)):
            raise TypeError(f"ids is PathIds(), ContentIds() or SequentialIds(), not {brief(ids)}")
        if not is_whole(max_pixels, least=1):
            raise ConfigurationError(f"max_pixels is a number of pixels, 1 or more, not {brief(max_pixels)}")
        check_flags(auto_calibrate=auto_calibrate)
        self._embedder = LateEmbedder(embedder, mismatch=_mismatch, max_pixels=max_pixels)
        self._store = store
        self._closing = Closing()
        self._calibrator = Calibrator(self._embedder, store, self._closing)
        versions = ModelVersions(self._embedder, store)
        encoder = QueryEncoder(self._embedder, store, on_text=self._check_language, on_answer=versions.look)
        self._searcher = Searcher(
            store, encoder, self._calibrator, nearly_equal=lambda: self._embedder.schema.duplicate_threshold
        )
        self._indexer = Indexer(
            self._embedder, store, self._ids, self._calibrator if auto_calibrate else None, versions, self._closing
        )
        self._languages: LanguageWatch | None = None
        try:
            wanted = self._expected_schema()
            self._schema = stored = store.ensure(wanted)
            if stored != wanted:
                raise SchemaMismatchError(_mismatch(stored, wanted))  # noqa: TRY301 (to be closed like any other)
        except BaseException:
            store.close()
            self._embedder.close()
            raise

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        embedder: EmbedderSource | None = None,
        ids: IdScheme | None = None,
        auto_calibrate: bool = True,
        max_pixels: int = MAX_PIXELS,
    ) -> Self:
        """Create or open an index that lives in a folder, in this process, through Qdrant's engine.

        Args:
            path: The folder; made if it does not exist, unless there is no embedder.
            embedder: Turns contents into vectors; the same one as when the index was made. As for the class, it may be
                a function that makes it; and None opens an index that exists, for all that embeds nothing.
            ids: How points get their ids.
            auto_calibrate: As for the class.
            max_pixels: As for the class.

        Raises:
            MissingExtraError: The extra `edge` is not installed.
            StoreLockedError: Another process has it open.
            SchemaMismatchError: It was made with another embedder.
            ConfigurationError: There is no embedder, and no index in the folder.
        """
        place = located(checked_path(path, "MultimodalIndex.open"))
        if os.fspath(place) == ":memory:":
            raise ConfigurationError(
                '":memory:" would be a folder of that name: use MultimodalIndex(embedder, MemoryStore())'
            )
        from multimodal_search.stores.qdrant_edge import QdrantEdgeStore

        return cls(embedder, QdrantEdgeStore(place), ids=ids, auto_calibrate=auto_calibrate, max_pixels=max_pixels)

    @property
    def embedder(self) -> Embedder:
        """The embedder this index was made with; made now, if it was given as a function.

        Raises:
            ConfigurationError: There is none.
        """
        return self._embedder.ready().embedder

    @property
    def store(self) -> VectorStore:
        """The store this index was made with."""
        return self._store

    def add(
        self,
        items: Iterable[Item | ContentLike] | Item | ContentLike,
        *,
        on_error: str = "report",
        progress: bool | ProgressCallback | None = None,
        window_bytes: int = WINDOW_BYTES,
        retry_failed: bool = False,
    ) -> IndexReport:
        """Index items: texts, images and mixtures, in any order.

        What is stored already with the same content is recognised, and costs no embedding. A bad item costs itself
        alone: it stands in `report.failed`. What the report counts is durable.

        Args:
            items: Iterated lazily. A bare `str` is text; `Path`, bytes and PIL images are images.
            on_error: `"report"`, or `"raise"` to stop at the first item that fails.
            progress: A callback for apps, True for a bar, False for silence; default: a bar if a person watches.
            window_bytes: Most bytes of loaded contents that wait in memory.
            retry_failed: Whether items that failed for good in an earlier run, and have not changed, are tried again.

        Returns:
            What was done.

        Raises:
            IndexingError: The embedder or the store failed for good; carries the partial report.
            IndexingInterrupted: Ctrl-C; carries the partial report.
            ConfigurationError: The index was opened without an embedder.
        """
        options = RunOptions.of(on_error, progress, window_bytes, retry_failed=retry_failed)
        return self._indexer.run(from_items(items), known_total(items), options)

    def add_images(
        self,
        source: str | os.PathLike[str] | Iterable[object] | ContentLike | Item,
        *,
        root: str | os.PathLike[str] | None = None,
        pattern: str | Iterable[str] | None = None,
        exclude: str | Iterable[str] | None = None,
        recursive: bool = True,
        on_error: str = "report",
        progress: bool | ProgressCallback | None = None,
        window_bytes: int = WINDOW_BYTES,
        retry_failed: bool = False,
    ) -> IndexReport:
        """Index images: of a folder, of a glob, or any iterable of paths, bytes, PIL images and `Item`s.

        In a folder every file is tried, except those that are passed over, as `report.passed_over` says: hidden ones,
        other programs' trash and thumbnails, indexes. What is broken stands in `report.failed`, and what is no image
        is counted in `report.ignored`, unless its own path was given.

        Args:
            source: A folder, a glob such as `"photos/**/*.jpg"`, a file, or an iterable, in which a `str` is a path.
                What there is under a path goes before what it means as a glob; `~` is the home folder.
            root: The folder that stored filenames are relative to; default: the indexed folder, the part of a glob
                before its first wildcard, or for single paths the working directory, unless the file is stored below
                another folder already.
            pattern: Only files of a folder whose name or path below it matches, e.g. `"*.jpg"`, or one of several
                patterns. Neither case nor the spelling of accents matters.
            exclude: No files and folders of a folder or glob whose name or path below it matches, e.g. `"Private"`, or
                one of several patterns.
            recursive: Whether to go into folders of the folder.
            on_error: As for `add`.
            progress: As for `add`.
            window_bytes: As for `add`.
            retry_failed: As for `add`.

        Returns:
            What was done.

        Raises:
            ConfigurationError: There is no such file or folder, or none that matches.
            IndexingError: As for `add`.
            IndexingInterrupted: As for `add`.
        """
        candidates, total, passed_over = from_images(
            source,
            root=root,
            pattern=pattern,
            exclude=exclude,
            recursive=recursive,
            in_order=isinstance(self._ids, SequentialIds),
            skip=self._store.folder if isinstance(self._store, SupportsFolder) else None,
        )
        options = RunOptions.of(on_error, progress, window_bytes, retry_failed=retry_failed)
        return self._indexer.run(candidates, total, options, passed_over=passed_over)

    def sync_folder(
        self,
        folder: str | os.PathLike[str],
        *,
        root: str | os.PathLike[str] | None = None,
        pattern: str | Iterable[str] | None = None,
        exclude: str | Iterable[str] | None = None,
        recursive: bool = True,
        follow_symlinks: bool = False,
        prune: bool = True,
        gone: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
        dry_run: bool = False,
        on_error: str = "report",
        progress: bool | ProgressCallback | None = None,
        window_bytes: int = WINDOW_BYTES,
        retry_failed: bool = False,
    ) -> IndexReport:
        """Make the index what indexing a folder anew would make it, at the least cost.

        An unchanged file costs a stat and an id look-up. A changed one is embedded anew. A moved or renamed one, known
        by its SHA-256, keeps its vector, as does a copy. The point of a deleted file is removed, if `prune` says so;
        that of a file which cannot be read or seen just now, as when its disk is not mounted, stays: `not_seen` in
        the report.

        Args:
            folder: The folder. Hidden files and folders, other programs' trash and thumbnails, and indexes are passed
                over, as `report.passed_over` says. What is stored of trash and thumbnails is removed.
            root: The folder above it that stored filenames are relative to; default: the folder itself.
            pattern: Only files whose name or path below the folder matches this, or one of several patterns; neither
                case nor the spelling of accents matters. Stored points of others stay.
            exclude: No files and folders whose name or path below the folder matches this, or one of several patterns.
                Stored points of these stay.
            recursive: Whether to go into folders of the folder.
            follow_symlinks: Whether to go into folders behind symbolic links.
            prune: Whether points of deleted files are removed.
            gone: Folders and files whose points are to be removed though they may only be out of sight, below the
                folder, as `not_seen` in the report names them; "." for all. What is there stays.
            dry_run: Only say what would happen: new and changed files are read, but nothing is embedded or written.
            on_error: As for `add`.
            progress: As for `add`.
            window_bytes: As for `add`.
            retry_failed: As for `add`.

        Returns:
            What was done, or with `dry_run` what would be.

        Raises:
            ConfigurationError: The folder is missing, or holds no file that is wanted; nothing is removed then.
            IndexingError: As for `add`.
            IndexingInterrupted: As for `add`.
        """
        if not _is_folder(folder):
            raise ConfigurationError(f"no such folder: {os.fspath(folder)!r} (working directory: {Path.cwd()})")
        walk = Walk(
            folder,
            root=root,
            pattern=pattern,
            exclude=exclude,
            recursive=recursive,
            in_order=isinstance(self._ids, SequentialIds),
            follow_symlinks=follow_symlinks,
            skip=self._store.folder if isinstance(self._store, SupportsFolder) else None,
        )
        check_flags(prune=prune, dry_run=dry_run)
        names = _paths(gone, "gone")
        if names and not prune:
            raise ConfigurationError("gone says what to remove, and prune=False that nothing is: give one of them")
        if not any(os.path.normpath(each) == "." for each in names):
            walk.refuse_empty(
                ", so nothing is synchronised and nothing removed: is its disk mounted? If its files are really "
                'deleted, give "." as the option gone'
            )
        options = RunOptions.of(on_error, progress, window_bytes, retry_failed=retry_failed)
        return self._indexer.run(
            walk.candidates(),
            walk.count(),
            options,
            passed_over=walk.passed_over,
            prune=walk if prune else None,
            gone=names,
            dry_run=dry_run,
        )

    def add_texts(
        self,
        texts: Iterable[str | Text | Item],
        *,
        on_error: str = "report",
        progress: bool | ProgressCallback | None = None,
        window_bytes: int = WINDOW_BYTES,
        retry_failed: bool = False,
    ) -> IndexReport:
        """Index texts; each is kept in its point's payload as `text`.

        Args:
            texts: Texts, or `Item`s of texts with ids or fields of their own.
            on_error: As for `add`.
            progress: As for `add`.
            window_bytes: As for `add`.
            retry_failed: As for `add`.

        Returns:
            What was done.

        Raises:
            IndexingError: As for `add`.
            IndexingInterrupted: As for `add`.
        """
        if isinstance(texts, (str, bytes, Mapping)) or not is_iterable(texts):
            if not isinstance(texts, str):
                raise TypeError(f"add_texts takes an iterable of texts, not {type(texts).__name__}")
            raise TypeError(
                f"add_texts takes an iterable of texts; for a single one write add_texts([{brief(texts, 40)}])"
            )
        options = RunOptions.of(on_error, progress, window_bytes, retry_failed=retry_failed)
        return self._indexer.run(from_items(texts), known_total(texts), options)

    def add_vectors(self, records: Iterable[Record], *, progress: bool | ProgressCallback | None = None) -> IndexReport:
        """Store vectors that were made elsewhere, by the very model that this index's embedder uses.

        Nothing is embedded, and payloads are taken as they are: to have images found again by `SearchHit.path`, give
        them `root` and `filename`.

        Args:
            records: `Record(id, payload, vector=...)`, iterated lazily; vectors have the embedder's dimension. A record
                whose id is stored already replaces that one.
            progress: As for `add`.

        Returns:
            What was done; a bad record costs itself alone.

        Raises:
            IndexingError: The store failed, or `records` raised; carries the partial report.
            IndexingInterrupted: Ctrl-C; carries the partial report.
        """
        return self._indexer.store_vectors(records, progress)

    def export(self, path: str | os.PathLike[str]) -> int:
        """Write all ids, vectors and payloads to a Parquet file, in bounded memory; see `add_export`.

        Args:
            path: The file; replaced when the new one is complete.

        Returns:
            How many points were written.

        Raises:
            ConfigurationError: The file cannot be written: there is no such folder, no room, no permission.
            MissingExtraError: The extra `parquet` is not installed.
        """
        file = checked_path(path, "export")
        if not file.name:
            raise ConfigurationError(f"export takes the path of a file, and {os.fspath(path)!r} is a folder")
        with self._closing.call(), writing(file):
            return write(file, self._closing.watched(all_records(self._store)), self._embedder.schema)

    def add_export(
        self, path: str | os.PathLike[str], *, progress: bool | ProgressCallback | None = None
    ) -> IndexReport:
        """Store what `export` wrote, from this or another store, without embedding again.

        Args:
            path: A Parquet file of `export`; or of another program, with a column `vector` or `embedding`, maybe `id`,
                and other columns that become payload, whose vectors must come from the model of this index.
            progress: As for `add`.

        Returns:
            What was done.

        Raises:
            SchemaMismatchError: The file holds another embedder's vectors.
            ConfigurationError: It has no column of vectors.
            MissingExtraError: The extra `parquet` is not installed.
            IndexingError: As for `add_vectors`.
        """
        schema, records = read(checked_path(path, "add_export"))
        wanted = self._embedder.schema
        if schema is not None and schema != wanted:
            raise SchemaMismatchError(_mismatch(schema, wanted, str(path)))
        return self.add_vectors(records, progress=progress)

    def search(
        self,
        query: Query,
        limit: int = 10,
        offset: int = 0,
        where: Filter | None = None,
        min_score: float | None = None,
        *,
        diversity: float = 0.0,
        deduplicate: bool | float = False,
        group_by: str | None = None,
        group_size: int = 1,
        keyword_weight: float = 0.0,
        keyword_fields: Sequence[str] = KEYWORD_FIELDS,
        hub_correction: bool = False,
    ) -> SearchResults:
        """Find what is nearest to a text, an image, a stored point, a vector, or a weighted sum of such.

        Args:
            query: `str` is text, and refused where it is the path of an image; `Path`, bytes and PIL images are
                images; numbers are a vector. `Text`, `Image`,
                `Mixed`, `Stored` and `Vector` can be combined: `Text("beach") + 0.5 * Image("a.jpg") - Text("people")`.
            limit: Most hits, at least 1; with `group_by`, most groups.
            offset: Hits to skip, for paging; with `group_by`, groups.
            where: Only points whose payload passes, e.g. `{"label": "dog", "year": {"gte": 2020}}`.
            min_score: Only hits whose cosine similarity is at least this.
            diversity: Weight of novelty in maximal marginal relevance (MMR), 0 (off) to 1; hits are re-ranked in blocks
                of 200.
            deduplicate: Whether to collapse near-duplicates: a hit whose cosine similarity to a better hit reaches this
                threshold moves into that hit's `duplicates`. True is the embedder's own threshold.
            group_by: A payload field: hits with the same value stand together, groups in the order of their best hits.
                A hit without that field is a group of its own, one with several values is in each of theirs.
            group_size: Most hits of a group. Other members than its best hit are looked for among 1,000 hits at a time.
            keyword_weight: Hybrid search: the weight, 0 to 1, of BM25 ranks in `keyword_fields` against vector ranks,
                combined by reciprocal rank fusion (RRF). `score` stays the cosine. With 1, keywords alone count:
                nothing is embedded, and `score` is the BM25 score as a share of the best match's, above 0 to 1.
            keyword_fields: The payload fields to look for words in.
            hub_correction: Whether hits that are near to everything go back in the order; needs `calibrate` with
                reference queries like those that are really asked.

        Returns:
            Hits by falling score, unless one of the options says otherwise.

        Raises:
            QueryError: An argument makes no sense, or the store cannot do that.
            ConfigurationError: There is something to embed, and the index was opened without an embedder.
            ContentError: The query cannot be read or embedded.
            EmbedderError: The embedder failed.
            StoreError: The store failed.
        """
        options = SearchOptions(
            limit=limit,
            offset=offset,
            where=where,
            min_score=min_score,
            diversity=diversity,
            deduplicate=deduplicate,
            group_by=group_by,
            group_size=group_size,
            keyword_weight=keyword_weight,
            keyword_fields=keyword_fields,
            hub_correction=hub_correction,
        )
        return self._searcher.search([query], options)[0]

    def search_many(
        self,
        queries: Sequence[Query],
        limit: int = 10,
        offset: int = 0,
        where: Filter | None = None,
        min_score: float | None = None,
        **settings: Unpack[SearchSettings],
    ) -> list[SearchResults]:
        """Several searches at once: contents are embedded in batches, and the store is asked once.

        Args:
            queries: As for `search`, each.
            limit: As for `search`, for each query.
            offset: As for `search`.
            where: As for `search`.
            min_score: As for `search`.
            **settings: The others of `search`.

        Returns:
            Results for each query, in their order.
        """
        if isinstance(queries, (str, bytes, Mapping, QueryPart)) or not is_iterable(queries):
            raise QueryError(f"search_many takes a list of queries, not {type(queries).__name__}; for one use search")
        options = SearchOptions(limit=limit, offset=offset, where=where, min_score=min_score, **settings)
        asked = at_most(queries, MAX_QUERIES, named="search_many", of="queries")
        return self._searcher.search(asked, options)

    def search_all(
        self,
        query: Query,
        where: Filter | None = None,
        min_score: float | None = None,
        **settings: Unpack[SearchSettings],
    ) -> Iterator[SearchHit]:
        """All hits, best first, fetched as they are asked for: for going on until one has seen enough.

        Args:
            query: As for `search`.
            where: As for `search`.
            min_score: As for `search`.
            **settings: The others of `search`.

        Returns:
            An iterator. The query is embedded before it is returned.

        Raises:
            QueryError: As for `search`; the iterator raises what the store does.
        """
        options = SearchOptions(limit=MAX_HITS, where=where, min_score=min_score, **settings)
        return self._searcher.iterate(query, options)

    def similar(
        self,
        like: Example | Sequence[Example],
        limit: int = 10,
        offset: int = 0,
        where: Filter | None = None,
        min_score: float | None = None,
        *,
        unlike: Example | Sequence[Example] = (),
        **settings: Unpack[SearchSettings],
    ) -> SearchResults:
        """More like this: what is nearest to stored points, and not to others; never these points themselves.

        With several examples it is nearest to their average; examples of what is not wanted push away from theirs:
        2 * average(like) - average(unlike), which is Qdrant's strategy "average vector" with parts of unit length.

        Args:
            like: The id of a point, or several. `Image`, `Text` and other terms count as examples, too.
            limit: As for `search`.
            offset: As for `search`.
            where: As for `search`.
            min_score: As for `search`.
            unlike: Examples of what is not wanted.
            **settings: The others of `search`.

        Returns:
            Hits by falling score.

        Raises:
            QueryError: As for `search`; also if an id is not stored, or there is no example.
        """
        options = SearchOptions(limit=limit, offset=offset, where=where, min_score=min_score, **settings)
        return self._searcher.similar(_examples(like), _examples(unlike), options)

    def duplicates(
        self,
        threshold: float | None = None,
        *,
        where: Filter | None = None,
        progress: bool | ProgressCallback | None = None,
    ) -> list[SearchResults]:
        """Groups of points that are nearly the same: copies, other sizes and formats, shots of a series.

        Every vector is compared with every other, from a temporary file, in bounded memory: 118,000 of 128 numbers take
        a minute or two on two cores, twice as many four times as long.

        Args:
            threshold: The cosine similarity from which on two points are nearly the same, above 0, at most 1; default:
                the embedder's own, `spec.duplicate_threshold`. Those linked by such pairs are one group, so some of its
                members may be less similar.
            where: Only points whose payload passes.
            progress: As for `add`.

        Returns:
            Groups by falling size. Each begins with its best copy, the one with the largest file; the scores of the
            others are their similarity to it.

        Raises:
            QueryError: `threshold` or `where` makes no sense.
            StoreError: The store failed, or the temporary file found no room.
        """
        if threshold is None:
            threshold = self._embedder.schema.duplicate_threshold
        with self._closing.call():
            groups = duplicate_groups(
                self._store,
                threshold=threshold,
                where=where,
                on_progress=progress_callback(progress, "reading"),
                check=self._closing.check,
            )
        return [SearchResults(map(hit_of, group), f"nearly the same as {_name_of(group[0])}") for group in groups]

    @overload  # a str is a Sequence of str too, but here it is one id
    def get(self, ids: PointId | UUID, *, with_vectors: bool = False) -> Record | None: ...  # type: ignore[overload-overlap]

    @overload
    def get(self, ids: Sequence[PointId | UUID], *, with_vectors: bool = False) -> list[Record | None]: ...

    def get(
        self, ids: PointId | UUID | Sequence[PointId | UUID], *, with_vectors: bool = False
    ) -> Record | list[Record | None] | None:
        """The stored record of an id, or the records of several ids in their order; None where nothing is stored."""
        if isinstance(ids, (str, int, np.integer, UUID)):
            return self._store.get([_stored_id(ids)], with_vectors=with_vectors)[0]
        return self._store.get(_point_ids(ids, "get"), with_vectors=with_vectors)

    def delete(self, ids: PointId | UUID | Iterable[PointId | UUID]) -> None:
        """Remove points, durably; ids that are not stored are fine."""
        given = [ids] if isinstance(ids, (str, int, np.integer, UUID)) else ids
        self._store.delete(_point_ids(given, "delete"))

    def count(self, where: Filter | None = None) -> int:
        """How many points there are, or how many pass a filter; exact."""
        return self._store.count(where)

    def calibrate(self, reference_queries: Iterable[ContentLike] | None = None) -> None:
        """Find out what scores mean in this index, so that hits have a `relevance`: see docs/searching.md.

        Runs of indexing do it by themselves; this is for collections that were filled otherwise, for after many
        changes, and for reference queries of one's own.

        Args:
            reference_queries: Texts and images, at least 20 of a kind and better 100, that might be asked of this
                collection and mostly are not in it. They are embedded as queries, and kept with the index until others
                are given. None takes the library's own: neutral texts, and for images a sample of the index's.

        Raises:
            ConfigurationError: Too few of one's own can be used.
            EmbedderError: The embedder failed.
            StoreError: The store failed.
        """
        self._calibrator.calibrate(reference_queries)

    def optimize(self) -> bool:
        """Have the store rebuild its search structures, where it has such and enough has changed.

        Returns:
            Whether anything was rebuilt.
        """
        with self._closing.call():
            return isinstance(self._store, SupportsOptimize) and self._store.optimize(on_tick=self._closing.check)

    def status(self) -> IndexStatus:
        """How many points the index holds, made by which embedder, how large it is, and what is known to be missing.

        Quick: nothing is read. What is damaged inside files is found by `verify` alone.

        Raises:
            StoreError: The store failed.
        """
        return status_of(self._store, self._schema)

    def verify(self, *, progress: bool | ProgressCallback | None = None) -> VerifyReport:
        """Read everything that is stored, and find what is missing, damaged, or not found by searching.

        In a folder, that is every byte: points are compared with checksums that were kept when they were written, and
        files with those of when the index was last closed. At other stores, it is what can be asked for.

        Args:
            progress: As for `add`.

        Returns:
            Whether all is well (`ok`), and if not, what is wrong and what to do.

        Raises:
            StoreUnavailableError: The store cannot be reached.
            StoreClosedError: The index is closed.
        """
        return verify(self._store, self._schema, progress_callback(progress, "verifying"))

    def close(self) -> None:
        """Close the store, and the embedder if the index made it: one that was given may serve other indexes.

        Calls that other threads have under way end soon: runs of indexing with an `IndexingError` that has the report,
        others with a `StoreClosedError`. They are waited for a second at most.
        """
        self._closing.ask()
        self._closing.wait()
        try:
            self._store.close()
        finally:
            self._embedder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return self.count()

    def __bool__(self) -> bool:
        return True  # an index without points is an index

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._embedder!r}, {self._store!r})"

    def _expected_schema(self) -> StoreSchema:
        """What the store is to hold: as the embedder says, or where that need not be made yet, as the store does."""
        if self._embedder.made is None:
            can_tell = isinstance(self._store, SupportsStoredSchema)
            stored = self._store.stored_schema() if isinstance(self._store, SupportsStoredSchema) else None
            if stored is not None:
                self._embedder.stands_for(stored)
            elif not self._embedder.is_given:
                why = "there is no index in it yet" if can_tell else "it cannot tell what it holds"
                raise ConfigurationError(
                    f"{self._store!r} needs an embedder, as {why}: pass embedder=, such as ColorEmbedder()"
                )
        return self._embedder.schema

    def _check_language(self, text: str) -> None:
        if self._languages is None:
            self._languages = LanguageWatch(self._embedder.ready().spec)
        self._languages.check(text)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a MultimodalIndex cannot be pickled or copied: open it in each process, and share it between threads"
        )

    def _interrupt(self) -> None:
        """End what is under way, as Ctrl-C does; for `AsyncMultimodalIndex`, whose calls run in threads."""
        self._closing.ask()
        self._embedder.interrupt()


def _point_ids(ids: object, call: str) -> list[PointId]:
    if not is_iterable(ids) or isinstance(ids, (bytes, bytearray, Mapping)):
        raise TypeError(f"{call} takes the id of a point, or several in a list, not {type(ids).__name__}")
    return [_stored_id(point_id) for point_id in ids]


def _name_of(match: Match) -> str:
    name = match.payload.get("filename")
    return name if isinstance(name, str) else f"id {match.id}"


def _stored_id(value: object) -> PointId:
    try:
        return as_point_id(value)
    except ConfigurationError as error:
        raise ConfigurationError(f"{error}; {HOW_TO_FIND_A_FILE}") from None


def _is_folder(folder: str | os.PathLike[str]) -> bool:
    path = checked_path(folder, "sync_folder")
    try:
        return located(path).is_dir()
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ConfigurationError(f"{printable(os.fspath(folder))}: {reason}") from error


def _paths(given: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], option: str) -> list[str]:
    """One path or several, as texts."""
    several: Iterable[object] = [given] if isinstance(given, (str, bytes, os.PathLike)) else given
    if not is_iterable(several):
        raise TypeError(f"{option} takes a path or several, not {type(given).__name__}")
    return [str(checked_path(each, option)) for each in several]


def _examples(given: Example | Sequence[Example]) -> list[QueryPart]:
    several = isinstance(given, Iterable) and not isinstance(given, (str, bytes, Mapping, np.ndarray, QueryPart))
    examples: list[QueryPart] = []
    wanted: Iterable[object] = given if several else [given]  # type: ignore[assignment]  # several are iterable
    for each in at_most(wanted, MAX_PARTS, named="similar", of="examples"):
        if isinstance(each, np.integer):
            each = int(each)  # noqa: PLW2901 (the same)
        if not isinstance(each, (str, int, UUID, QueryPart)):
            raise QueryError(
                f"similar takes ids of stored points, and terms such as Image(...), Text(...) and Vector(...), "
                f"not {type(each).__name__}"
            )
        examples.append(each if isinstance(each, QueryPart) else Stored(each))
    return examples


def _mismatch(stored: StoreSchema, wanted: StoreSchema, holder: str = "the store") -> str:
    """What differs between two schemas, and what to do."""
    if stored.version != wanted.version:
        later = stored.version > wanted.version
        advice = "update multimodal-search" if later else "use that version, or index again into another store"
        return (
            f"{holder} was written by {'a later' if later else 'an earlier'} version of this library (storage format "
            f"{stored.version}, this one knows {wanted.version}): {advice}"
        )
    names = ("model", "dimension", "fingerprint")
    pairs = ((name, getattr(stored, name), getattr(wanted, name)) for name in names)
    differing = ", ".join(f"{name} {held!r} instead of {given!r}" for name, held, given in pairs if held != given)
    return (
        f"{holder} holds vectors of {stored.model!r} ({stored.dimension} dimensions, {stored.fingerprint}), and the "
        f"embedder is {wanted.model!r}: {differing}. Their vectors cannot be compared: open it with the embedder it "
        "was made with, or index into another store"
    )
