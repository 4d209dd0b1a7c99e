"""`MultimodalIndex`: an embedder and a store, put together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import NoReturn, overload
from uuid import UUID

import numpy as np
from typing_extensions import Self, Unpack

from multimodal_search._bounds import MAX_QUERIES, at_most, check_flags, is_iterable, is_whole
from multimodal_search._closing import Closing
from multimodal_search._files import checked_path, located
from multimodal_search._indexing.equal_embedder import check_equal
from multimodal_search._indexing.indexer import Indexer
from multimodal_search._indexing.integrity import status_of, verify
from multimodal_search._indexing.model_version import ModelVersions
from multimodal_search._indexing.options import WINDOW_BYTES, RunOptions, RunSettings
from multimodal_search._indexing.sources import from_folder, from_images, from_items, known_total
from multimodal_search._parquet import read, write, writing
from multimodal_search._progress import progress_callback
from multimodal_search._relevance.calibrator import Calibrator
from multimodal_search._relevance.thresholds import thresholds_of_index
from multimodal_search._relevance.tuner import Tuner
from multimodal_search._searching.duplicates import duplicate_groups
from multimodal_search._searching.encoder import QueryEncoder
from multimodal_search._searching.options import MAX_HITS, SearchOptions, SearchSettings
from multimodal_search._searching.searcher import Example, Searcher
from multimodal_search._searching.stages import hit_of
from multimodal_search._text import brief
from multimodal_search.contents import ContentLike, QueryPart, Text
from multimodal_search.embedders.kept import NOTE, ref_of, text_of
from multimodal_search.embedders.late import EmbedderSource, LateEmbedder
from multimodal_search.embedders.registry import default_embedder
from multimodal_search.errors import ConfigurationError, QueryError, SchemaMismatchError, StoreError
from multimodal_search.ids import ContentIds, IdScheme, PathIds, SequentialIds, as_stored_ids
from multimodal_search.media.images import MAX_PIXELS
from multimodal_search.protocols import (
    Embedder,
    SupportsIndexMetadata,
    SupportsOptimize,
    SupportsStoredSchema,
    SupportsTextSearch,
    VectorStore,
    folder_of_store,
    lacking,
)
from multimodal_search.query import Query
from multimodal_search.report import IndexReport, IndexStatus, ProgressCallback, VerifyReport
from multimodal_search.results import SearchHit, SearchResults
from multimodal_search.stores.keywords import DEFAULT_KEYWORD_FIELDS
from multimodal_search.stores.scanning import all_records
from multimodal_search.types import Filter, Item, Match, PointId, Record, StoreSchema


class MultimodalIndex:
    """Index of images and texts, searched by words, by another image, or by both.

    Methods may be called from several threads; one `add` runs at a time.

    Args:
        embedder: Turns contents into vectors. A function without arguments that returns an embedder is called when
            something is first embedded, so that other calls need no credentials and load no weights. With None, an
            existing index opens for everything that embeds nothing: reading, deleting, finding near-duplicates,
            searching by stored points and vectors.
        store: Keeps the vectors and payloads. It is created if it does not exist yet, and closed with the index.
        ids: How points get their ids; default: `PathIds()`.
        auto_calibrate: Whether indexing runs that change much end with `calibrate`, so that hits have a relevance.
            The first time, 122 short texts are embedded; later nothing is.
        max_pixels: Most pixels of an image that is decoded, to index it or to search with it. The default admits the
            200-megapixel photos of phones. Images that need much memory are decoded one after another.
        accept_equal: Whether an embedder with another fingerprint is accepted if it gives the same vectors, as the same
            model does through another library: up to 32 stored items are embedded anew at each opening, and each must
            have a cosine of 0.999 to its stored vector.
        thresholds: Pairs of relevances for the verdicts of searches, by the kind of query, where others than the
            defaults are wanted: `{"text": (0.3, 0.7), "image": (0.1, 0.55), "mixture": (0.15, 0.45)}`. Below the first
            the verdict is `"nothing"`, from the second on `"match"`.

    Raises:
        SchemaMismatchError: The store holds another embedder's vectors.
        ConfigurationError: There is no embedder, and the store holds no index.
        StoreError: The store cannot be opened.

    Examples:
        >>> from multimodal_search import ColorEmbedder, MemoryStore, MultimodalIndex
        >>> with MultimodalIndex(ColorEmbedder(), MemoryStore()) as index:
        ...     report = index.add_images("photos")
        ...     print(index.search("blue", limit=1)[0].filename)
        blue.jpg
    """

    def __init__(
        self,
        embedder: EmbedderSource | None,
        store: VectorStore,
        *,
        ids: IdScheme | None = None,
        auto_calibrate: bool = True,
        max_pixels: int = MAX_PIXELS,
        accept_equal: bool = False,
        thresholds: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        self._ids: IdScheme = PathIds() if ids is None else ids
        if isinstance(store, type) or not isinstance(store, VectorStore):
            lacks = lacking(store, VectorStore)
            raise TypeError(f"the second argument is a store, such as MemoryStore(), not {brief(store)}{lacks}")
        if not isinstance(self._ids, (PathIds, ContentIds, SequentialIds)):
            raise TypeError(f"ids is PathIds(), ContentIds() or SequentialIds(), not {brief(ids)}")
        if not is_whole(max_pixels, least=1):
            raise ConfigurationError(f"max_pixels is a number of pixels, 1 or more, not {brief(max_pixels)}")
        check_flags(auto_calibrate=auto_calibrate, accept_equal=accept_equal)
        pairs = thresholds_of_index(thresholds)
        accept = partial(check_equal, store) if accept_equal else None
        self._embedder = LateEmbedder(embedder, max_pixels=max_pixels, accept=accept)
        self._store = store
        self._closing = Closing()
        self._calibrator = Calibrator(self._embedder, store, self._closing)
        versions = ModelVersions(self._embedder, store)
        encoder = QueryEncoder(self._embedder, store, on_answer=versions.check)
        self._searcher = Searcher(self._embedder, store, encoder, self._calibrator, pairs)
        self._tuner = Tuner(store, self._calibrator, self._closing)
        calibrator = self._calibrator if auto_calibrate else None
        self._indexer = Indexer(self._embedder, store, self._ids, calibrator, self._tuner, versions, self._closing)
        try:
            wanted = self._expected_schema()
            self._schema = stored = store.ensure(wanted)
            if not isinstance(stored, StoreSchema):
                raise StoreError(f"{store!r} answered `ensure` with {brief(stored)}, not with its schema")  # noqa: TRY301
            if stored != wanted:
                if not accept_equal:
                    raise SchemaMismatchError(stored.mismatch(wanted))  # noqa: TRY301 (to be closed like any other)
                self._embedder.check(stored)
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
        accept_equal: bool = False,
        thresholds: Mapping[str, tuple[float, float]] | None = None,
    ) -> Self:
        """Create or open an index in a folder, in this process, with Qdrant's embedded engine.

        Args:
            path: The folder; created if it does not exist.
            embedder: As for the class. Default: for an index that exists, the one that it was made with, if that can be
                made again from a name and options, which the index keeps; for a new one `OnnxEmbedder()`, whose model
                is downloaded on first use (1.5 GB).
            ids: As for the class.
            auto_calibrate: As for the class.
            max_pixels: As for the class.
            accept_equal: As for the class.
            thresholds: As for the class.

        Raises:
            MissingExtraError: The extra `edge` is not installed; or for a new index without an embedder, `local`.
            StoreLockedError: Another process has it open.
            SchemaMismatchError: It was made with another embedder.

        Examples:
            >>> with MultimodalIndex.open("photos.index", embedder=ColorEmbedder()) as index:
            ...     print(index.add_images("photos").added)
            3
        """
        place = located(checked_path(path, "MultimodalIndex.open"))
        if os.fspath(place) == ":memory:":
            raise ConfigurationError(
                '":memory:" would be a folder of that name: use MultimodalIndex(embedder, MemoryStore())'
            )
        from multimodal_search.stores.qdrant_edge import QdrantEdgeStore

        store = QdrantEdgeStore(place)
        index = cls(
            embedder if embedder is not None or store.stored_schema() is not None else default_embedder,
            store,
            ids=ids,
            auto_calibrate=auto_calibrate,
            max_pixels=max_pixels,
            accept_equal=accept_equal,
            thresholds=thresholds,
        )
        index._remember_embedder(store)
        return index

    @property
    def embedder(self) -> Embedder:
        """The embedder of this index; created now, if it was given as a function.

        Raises:
            ConfigurationError: There is none.
        """
        return self._embedder.ready().embedder

    @property
    def store(self) -> VectorStore:
        """The store of this index."""
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

        Items that are stored with the same content are recognized and not embedded again. Items that fail are skipped
        and listed in `report.failed`. What the report counts is durable.

        Args:
            items: Iterated lazily. A bare `str` is text; `Path`, bytes and PIL images are images.
            on_error: `"report"`, or `"raise"` to stop at the first item that fails.
            progress: A callback for apps, True for a bar, False for neither. Default: a progress bar on a terminal or
                in a notebook.
            window_bytes: Most bytes of loaded contents that wait in memory; default 256 MiB.
            retry_failed: Whether to try items again that failed for good in an earlier run and have not changed.

        Raises:
            IndexingError: The embedder or the store failed for good; carries the partial report.
            IndexingInterrupted: Ctrl-C; carries the partial report.
            ConfigurationError: The index was opened without an embedder.

        Examples:
            >>> report = index.add([Item(Path("query.jpg"), id=7, payload={"label": "apple"}), Text("a green door")])
            >>> report.added, index.get(7).payload["label"]
            (2, 'apple')
        """
        options = RunOptions.of(
            on_error=on_error, progress=progress, window_bytes=window_bytes, retry_failed=retry_failed
        )
        return self._indexer.run(from_items(items), known_total(items), options)

    def add_images(
        self,
        source: str | os.PathLike[str] | Iterable[object] | ContentLike | Item,
        *,
        root: str | os.PathLike[str] | None = None,
        pattern: str | Iterable[str] | None = None,
        exclude: str | Iterable[str] | None = None,
        recursive: bool = True,
        **settings: Unpack[RunSettings],
    ) -> IndexReport:
        """Index images: of a folder, of a glob, or any iterable of paths, bytes, PIL images and `Item`s.

        In a folder every file is tried, except those that are passed over and counted in `report.passed_over`: hidden
        files, other programs' trash and thumbnails, indexes. Broken images are listed in `report.failed`; files that
        are no images are counted in `report.ignored`, unless their own path was given.

        Args:
            source: A folder, a glob such as `"photos/**/*.jpg"`, a file, or an iterable, in which a `str` is a path.
                A path that exists is not read as a glob; `~` is the home folder.
            root: The folder that stored filenames are relative to. Default: the indexed folder, the part of a glob
                before its first wildcard, or for single paths the working directory, unless the file is stored below
                another folder already.
            pattern: Only files of a folder whose name or path below it matches this, e.g. `"*.jpg"`, or one of several
                patterns. Neither case nor the spelling of accents matters.
            exclude: No files and folders of a folder or glob whose name or path below it matches this, e.g.
                `"Private"`, or one of several patterns.
            recursive: Whether to go into folders of the folder.
            **settings: `on_error`, `progress`, `window_bytes` and `retry_failed`, as for `add`.

        Raises:
            ConfigurationError: There is no such file or folder, or none that matches.
            IndexingError, IndexingInterrupted: As for `add`.

        Examples:
            >>> index.add_images("photos").unchanged
            3
            >>> index.add_images([Path("query.jpg")]).added
            1
        """
        candidates, total, passed_over = from_images(
            source,
            root=root,
            pattern=pattern,
            exclude=exclude,
            recursive=recursive,
            in_order=self._ids.in_order,
            skip=folder_of_store(self._store),
        )
        return self._indexer.run(candidates, total, RunOptions.of(**settings), passed_over=passed_over)

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
        **settings: Unpack[RunSettings],
    ) -> IndexReport:
        """Synchronize the index with a folder: add new files, re-embed changed ones, delete those that are gone.

        An unchanged file costs a stat and an id look-up. A moved or renamed file, known by its SHA-256, keeps its
        vector, as does a copy. The point of a file that cannot be read or seen just now, as when its disk is not
        mounted, stays, and is counted in `report.not_seen`.

        Args:
            folder: The folder. Hidden files and folders, other programs' trash and thumbnails, and indexes are passed
                over and counted in `report.passed_over`; stored points of trash and thumbnails are deleted.
            root: The folder above it that stored filenames are relative to; default: the folder itself.
            pattern: Only files whose name or path below the folder matches this, as for `add_images`. Stored points of
                others stay.
            exclude: No files and folders whose name or path below the folder matches this, as for `add_images`. Stored
                points of these stay.
            recursive: Whether to go into folders of the folder.
            follow_symlinks: Whether to go into folders behind symbolic links.
            prune: Whether to delete the points of deleted files.
            gone: Folders and files whose points are to be deleted though they may only be out of sight, below the
                folder, as `report.not_seen` names them; "." for all. What is there stays.
            dry_run: Only report what would happen: new and changed files are read, but nothing is embedded or written.
            **settings: `on_error`, `progress`, `window_bytes` and `retry_failed`, as for `add`.

        Returns:
            What was done, or with `dry_run` what would be.

        Raises:
            ConfigurationError: The folder is missing, or holds no file that is wanted; nothing is deleted then.
            IndexingError, IndexingInterrupted: As for `add`.

        Examples:
            >>> report = index.sync_folder("photos", dry_run=True)
            >>> report.added, report.unchanged, report.removed
            (0, 3, 0)
        """
        walk, names = from_folder(
            folder,
            root=root,
            pattern=pattern,
            exclude=exclude,
            recursive=recursive,
            follow_symlinks=follow_symlinks,
            gone=gone,
            prune=prune,
            in_order=self._ids.in_order,
            skip=folder_of_store(self._store),
        )
        check_flags(prune=prune, dry_run=dry_run)
        return self._indexer.run(
            walk.candidates(),
            walk.count(),
            RunOptions.of(**settings),
            passed_over=walk.passed_over,
            prune=walk if prune else None,
            gone=names,
            dry_run=dry_run,
        )

    def add_texts(self, texts: Iterable[str | Text | Item], **settings: Unpack[RunSettings]) -> IndexReport:
        """Index texts; each is kept in its point's payload as `text`.

        Args:
            texts: Texts, or `Item`s of texts with ids or fields of their own.
            **settings: `on_error`, `progress`, `window_bytes` and `retry_failed`, as for `add`.

        Raises:
            IndexingError, IndexingInterrupted: As for `add`.

        Examples:
            >>> index.add_texts(["a red house", "ein blaues Boot"]).added
            2
        """
        if isinstance(texts, (str, bytes, Mapping)) or not is_iterable(texts):
            if not isinstance(texts, str):
                raise TypeError(f"add_texts takes an iterable of texts, not {type(texts).__name__}")
            raise TypeError(
                f"add_texts takes an iterable of texts; for a single one write add_texts([{brief(texts, 40)}])"
            )
        return self._indexer.run(from_items(texts), known_total(texts), RunOptions.of(**settings))

    def add_vectors(self, records: Iterable[Record], *, progress: bool | ProgressCallback | None = None) -> IndexReport:
        """Store precomputed vectors, made by the very model that this index's embedder uses.

        Payloads are stored as they are: `SearchHit.path` needs `root` and `filename` in them, and relevance `modality`,
        which is `"text"`, `"image"` or `"mixed"`. Nothing is embedded but, once 20 points have the same modality, the
        neutral queries of the calibration; `auto_calibrate=False` leaves them out.

        Args:
            records: `Record(id, payload, vector=...)`, iterated lazily; vectors have the embedder's dimension. A record
                whose id is stored already replaces that one.
            progress: As for `add`.

        Returns:
            What was done; records that fail are skipped and listed in `report.failed`.

        Raises:
            IndexingError: The store failed, or `records` raised; carries the partial report.
            IndexingInterrupted: Ctrl-C; carries the partial report.

        Examples:
            >>> (record,) = index.get([index.search("red", limit=1)[0].id], with_vectors=True)
            >>> index.add_vectors([Record(7, {"label": "copy"}, vector=record.vector)]).added
            1
        """
        return self._indexer.store_vectors(records, progress)

    def export(self, path: str | os.PathLike[str]) -> int:
        """Write all ids, vectors and payloads to a Parquet file, in bounded memory; see `add_export`.

        Args:
            path: The file; replaced when the new one is complete.

        Returns:
            How many points were written.

        Raises:
            ConfigurationError: The file cannot be written: there is no such folder, no space, no permission.
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
            path: A Parquet file of `export`; or of another program, with a column `vector` or `embedding`, optionally
                `id`, and other columns that become payload, whose vectors must come from the model of this index.
            progress: As for `add`.

        Raises:
            SchemaMismatchError: The file holds another embedder's vectors.
            ConfigurationError: It has no column of vectors.
            MissingExtraError: The extra `parquet` is not installed.
            IndexingError: As for `add_vectors`.
        """
        schema, records = read(checked_path(path, "add_export"))
        wanted = self._embedder.schema
        if schema is not None and schema != wanted:
            raise SchemaMismatchError(schema.mismatch(wanted, holder=str(path)))
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
        keyword_fields: Sequence[str] | None = None,
        thresholds: tuple[float, float] | None = None,
        exact: bool = False,
    ) -> SearchResults:
        """Find the points nearest to a text, an image, a stored point, a vector, or a weighted sum of these.

        Args:
            query: `str` is text, and refused if it is the path of an image; `Path`, bytes and PIL images are images;
                numbers are a vector. `Text`, `Image`, `Mixed`, `Stored` and `Vector` can be combined:
                `Text("beach") + 0.5 * Image("a.jpg") - Text("people")`.
            limit: Most hits, at least 1; with `group_by`, most groups.
            offset: Hits to skip, for paging; with `group_by`, groups.
            where: Only points whose payload passes this filter, e.g. `{"label": "dog", "year": {"gte": 2020}}`.
            min_score: Only hits whose cosine similarity is at least this.
            diversity: Weight of novelty in maximal marginal relevance (MMR), 0 (off) to 1; hits are re-ranked in blocks
                of 200.
            deduplicate: Whether to collapse near-duplicates: a hit whose cosine similarity to a better hit reaches this
                threshold moves into that hit's `duplicates`. True is the embedder's own threshold.
            group_by: A payload field: hits with the same value are grouped, groups in the order of their best hits.
                A hit without that field is a group of its own, one with several values is in each of theirs.
            group_size: Most hits of a group. Other members than its best hit are looked for among 1,000 hits at a time.
            keyword_weight: Hybrid search: the weight, 0 to 1, of BM25 ranks by the words of items, those in
                `index.keyword_fields`, against vector ranks, combined by reciprocal rank fusion (RRF). `score` stays
                the cosine. With 1, keywords alone count: nothing is embedded, and `score` is the BM25 score as a share
                of the best match's, above 0 to 1.
            keyword_fields: Only these payload fields, for the keyword search; default: all that make up the words of an
                item. Fast for some of these; for others, every item is read.
            thresholds: The two relevances that `results.verdict` goes by; default: those of the index for this kind of
                query.
            exact: Whether to compare every point that passes, where the store would search through a graph (HNSW) that
                misses some of the nearest; slower.

        Returns:
            Hits by falling score, unless one of the options says otherwise, with a verdict on the whole answer.

        Raises:
            QueryError: An argument makes no sense, or the store cannot do that.
            ConfigurationError: The query has to be embedded, and the index was opened without an embedder.
            ContentError: The query cannot be read or embedded.
            EmbedderError: The embedder failed.
            StoreError: The store failed.

        Examples:
            >>> [hit.filename for hit in index.search("blue", limit=1)]
            ['blue.jpg']
            >>> index.search(Image("query.jpg"), where={"filename": {"ne": "red.jpg"}})[0].filename
            'green.jpg'
            >>> index.search("red", keyword_weight=0.5, deduplicate=True)[0].filename  # hybrid search
            'red.jpg'
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
            thresholds=thresholds,
            exact=exact,
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
        """Run several searches at once: queries are embedded in batches, and the store is asked once.

        Args:
            queries: As for `search`, each.
            limit: As for `search`, for each query.
            offset: As for `search`.
            where: As for `search`.
            min_score: As for `search`.
            **settings: The others of `search`.

        Returns:
            Results for each query, in their order.

        Examples:
            >>> [results[0].filename for results in index.search_many(["red", "blue"], limit=1)]
            ['red.jpg', 'blue.jpg']
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
        """Iterate over all hits, best first; pages are fetched lazily.

        Args:
            query: As for `search`.
            where: As for `search`.
            min_score: As for `search`.
            **settings: The others of `search`.

        Returns:
            An iterator. The query is embedded before it is returned.

        Raises:
            QueryError: As for `search`; the iterator raises what the store does.

        Examples:
            >>> [hit.filename for hit in index.search_all("blue") if hit.score > 0.1]
            ['blue.jpg']
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
        """Find points similar to some examples and not to others; stored examples are never among the hits.

        The query is 2 * average(like) - average(unlike), Qdrant's recommendation strategy "average vector" with parts
        of unit length; without `unlike`, it is average(like).

        Args:
            like: The id of a point, or several. `Image`, `Text` and other parts of a query count as examples, too.
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

        Examples:
            >>> red, green = (index.search(word, limit=1)[0].id for word in ("red", "green"))
            >>> index.similar(red, unlike=green)[0].filename
            'blue.jpg'
        """
        options = SearchOptions(limit=limit, offset=offset, where=where, min_score=min_score, **settings)
        return self._searcher.similar(like, unlike, options)

    def duplicates(
        self,
        threshold: float | None = None,
        *,
        where: Filter | None = None,
        progress: bool | ProgressCallback | None = None,
    ) -> list[SearchResults]:
        """Find groups of near-duplicates: copies, other sizes and formats, shots of a series.

        Every vector is compared with every other, from a temporary file, in bounded memory: 118,000 of 128 numbers take
        a minute or two on two cores, twice as many four times as long.

        Args:
            threshold: The least cosine similarity of two near-duplicates, above 0, at most 1; default: the embedder's
                own, `spec.duplicate_threshold`. Points linked by such pairs are one group, so some of its members may
                be less similar.
            where: Only points whose payload passes this filter.
            progress: As for `add`.

        Returns:
            Groups by falling size. Each begins with its best copy, the one with the largest file; the scores of the
            others are their similarity to it.

        Raises:
            QueryError: `threshold` or `where` makes no sense.
            StoreError: The store failed, or there was no space for the temporary file.

        Examples:
            >>> index.search("red", limit=1)[0].image().save("copy.png")
            >>> report = index.add_images(["copy.png"])
            >>> [len(group) for group in index.duplicates()]
            [2]
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
        """Get the stored record of an id, or those of several ids in their order; None where nothing is stored.

        Examples:
            >>> hit = index.search("red", limit=1)[0]
            >>> index.get(hit.id).payload["filename"], index.get([hit.id, 7])[1]
            ('red.jpg', None)
        """
        if isinstance(ids, (str, int, np.integer, UUID)):
            return self._store.get(as_stored_ids([ids], "get"), with_vectors=with_vectors)[0]
        return self._store.get(as_stored_ids(ids, "get"), with_vectors=with_vectors)

    def delete(self, ids: PointId | UUID | Iterable[PointId | UUID]) -> None:
        """Delete points, durably; ids that are not stored are ignored.

        Examples:
            >>> index.delete([hit.id for hit in index.search("red", limit=1)])
            >>> index.count()
            2
        """
        given = [ids] if isinstance(ids, (str, int, np.integer, UUID)) else ids
        self._store.delete(as_stored_ids(given, "delete"))

    def count(self, where: Filter | None = None) -> int:
        """Count the points, or those that pass a filter; exact, unless the store can only estimate (`QdrantStore`).

        Examples:
            >>> index.count(), index.count({"filename": {"glob": "*e*.jpg"}})
            (3, 3)
        """
        return self._store.count(where)

    def calibrate(self, reference_queries: Iterable[ContentLike] | None = None) -> None:
        """Estimate the best scores of neutral queries; `hit.relevance` is a score's percentile among these.

        Indexing runs do it by themselves; call it for collections that were filled otherwise, after many changes, and
        to use reference queries of your own. See docs/searching.md. Of fewer than 20 points with the same `modality` in
        their payload nothing is known: a warning in the log says so, and `status`.

        Args:
            reference_queries: Texts and images, at least 20 of a kind and better 100, that might be asked of this
                collection and mostly are not in it. They are embedded as queries, and kept with the index until others
                are given. None takes the library's own: neutral texts, and for images a sample of the index's.

        Raises:
            ConfigurationError: Too few of your own can be used.
            EmbedderError: The embedder failed.
            StoreError: The store failed.
        """
        self._calibrator.calibrate(reference_queries)

    def optimize(self) -> bool:
        """Rebuild the store's search graph (HNSW) if enough has changed, tune searches to a recall, and calibrate.

        Tuning measures recall@10 against exact search, with the neutral queries of the calibration, which are embedded
        the first time, and with stored points; `status` tells what was reached. It is done where the graph is new, or
        the index half or twice as large as when it was last tuned; calibrating, where that has changed scores.

        Returns:
            Whether anything was rebuilt.

        Raises:
            EmbedderError: The embedder failed.
            StoreError: The store failed.
        """
        self._indexer.complete_words()
        with self._closing.call():
            check = self._closing.check
            rebuilt = isinstance(self._store, SupportsOptimize) and self._store.optimize(on_tick=check)
            if self._tuner.update(rebuilt=rebuilt, may_embed=True, tell=check):
                self._calibrator.update(replaced=len(self), tell=lambda share: None)
            return rebuilt

    @property
    def keyword_fields(self) -> tuple[str, ...]:
        """The payload fields that make up the words of an item, for `keyword_weight`; kept with the index.

        Examples:
            >>> index.keyword_fields
            ('filename', 'caption', 'title', 'description', 'keywords', 'text', 'ocr')
        """
        return (
            self._store.get_keyword_fields() if isinstance(self._store, SupportsTextSearch) else DEFAULT_KEYWORD_FIELDS
        )

    def set_keyword_fields(self, fields: Sequence[str]) -> None:
        """Set which payload fields make up the words of an item, for `keyword_weight`; kept with the index.

        The words of all items that have others are made anew from their payloads; nothing is embedded. No other process
        may write to the index meanwhile, and those that have it open should open it again.

        Args:
            fields: Their names. Of each, a text or a list of texts counts; of `filename`, its words without extension.

        Raises:
            ConfigurationError: `fields` is no list of names, or the store has no keyword search.
            StoreError: The store failed; the next call goes on.

        Examples:
            >>> index.set_keyword_fields([*index.keyword_fields, "camera"])
            >>> index.keyword_fields[-1]
            'camera'
        """
        if not isinstance(self._store, SupportsTextSearch):
            raise ConfigurationError(
                f"{self._store!r} keeps no words of items (SupportsTextSearch): name the fields at each search, as "
                "keyword_fields="
            )
        self._indexer.set_keyword_fields(self._store, fields)

    def status(self) -> IndexStatus:
        """Report the number of points, their embedder, the size, and what is known to be missing.

        Quick: nothing is read. Damage inside files is found by `verify` alone.

        Raises:
            StoreError: The store failed.
        """
        return status_of(self._store, self._schema, relevance_unknown=self._calibrator.unknown)

    def verify(self, *, progress: bool | ProgressCallback | None = None) -> VerifyReport:
        """Read everything that is stored, and report what is missing, damaged, or not found by searching.

        In a folder, that is every byte: points are compared with checksums that were kept when they were written, and
        files with those of when the index was last closed. Other stores are checked as far as they can be asked.

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
        """Close the store, and the embedder if the index created it: one that was given may serve other indexes.

        Calls under way in other threads end soon: indexing runs with an `IndexingError` that carries the report, others
        with a `StoreClosedError`. `close` waits for them a second at most.
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

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a MultimodalIndex cannot be pickled or copied: open it in each process, and share it between threads"
        )

    def _remember_embedder(self, store: SupportsIndexMetadata) -> None:
        """Keep what the embedder is made of with a new index, and take what is kept where no embedder is given."""
        with suppress(StoreError):  # the index is whole without it
            kept, made = ref_of(store.get_index_metadata(NOTE)), self._embedder.made
            if kept is not None:
                self._embedder.give(kept.load)
            elif made is not None and (text := text_of(made.embedder)) is not None:
                store.set_index_metadata(NOTE, text)

    def _expected_schema(self) -> StoreSchema:
        """The embedder's schema, or where the embedder need not be created yet, the stored one."""
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

    def _interrupt(self) -> None:
        """End the calls under way, as Ctrl-C does; for `AsyncMultimodalIndex`, whose calls run in threads."""
        self._closing.ask()
        self._embedder.interrupt()


def _name_of(match: Match) -> str:
    name = match.payload.get("filename")
    return name if isinstance(name, str) else f"id {match.id}"
