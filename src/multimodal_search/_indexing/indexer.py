"""Indexing runs, from the first item to the calibration: one at a time, and what ends them early."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from multimodal_search._closing import Closing
from multimodal_search._indexing.candidate import Source
from multimodal_search._indexing.ledger import Ledger, ledger_path
from multimodal_search._indexing.model_version import ModelVersions
from multimodal_search._indexing.options import RunOptions
from multimodal_search._indexing.pipeline import IndexingRun
from multimodal_search._indexing.point_finder import PointFinder
from multimodal_search._indexing.records import store_records
from multimodal_search._indexing.retrying_store import RetryingStore
from multimodal_search._indexing.run_stats import RunStats
from multimodal_search._indexing.sources import PassedOver, Total, known_total
from multimodal_search._indexing.sync import FolderSync
from multimodal_search._indexing.walk import Walk
from multimodal_search._progress import progress_callback
from multimodal_search._relevance.calibrator import Calibrator
from multimodal_search._relevance.tuner import Tuner
from multimodal_search.embedders.late import LateEmbedder
from multimodal_search.errors import (
    ConfigurationError,
    IndexingError,
    IndexingInterrupted,
    StoreClosedError,
    StoreError,
)
from multimodal_search.ids import IdScheme
from multimodal_search.protocols import SupportsTextSearch, VectorStore, folder_of_store
from multimodal_search.report import IndexReport, ProgressCallback
from multimodal_search.types import Record, Usage

_log = logging.getLogger(__name__)


class Indexer:
    """Runs indexing into one store, one run at a time.

    Args:
        embedder: Turns contents into vectors.
        store: Keeps them.
        ids: How points get their ids.
        calibrator: Is asked to calibrate after runs that changed something; None does not.
        tuner: Is asked to tune the store after runs that changed it much.
        versions: Watches which version of the model the service has.
        closing: Ends runs when the index is closed.
    """

    def __init__(
        self,
        embedder: LateEmbedder,
        store: VectorStore,
        ids: IdScheme,
        calibrator: Calibrator | None,
        tuner: Tuner,
        versions: ModelVersions,
        closing: Closing,
    ) -> None:
        self._embedder = embedder
        self._store = store
        self._ids = ids
        self._calibrator = calibrator
        self._tuner = tuner
        self._versions = versions
        self._ledger = ledger_of(store)
        self._closing = closing
        self._adding = threading.Lock()
        self._adding_thread: int | None = None

    def run(
        self,
        source: Source,
        total: Total,
        options: RunOptions,
        *,
        passed_over: PassedOver | None = None,
        prune: Walk | None = None,
        gone: Sequence[str] = (),
        dry_run: bool = False,
    ) -> IndexReport:
        """Index what a source yields; after a walk to prune, delete the points of deleted files.

        Args:
            source: What may be indexed.
            total: How many that is.
            options: How to go about it.
            passed_over: Counts what the source passes over.
            prune: The walk that `source` is, if points may be removed.
            gone: Paths whose missing files the user says are deleted.
            dry_run: Whether nothing is embedded or written.

        Raises:
            IndexingError: The embedder or the store failed for good, or the index was closed; carries the partial
                report.
            IndexingInterrupted: Ctrl-C; carries the partial report.
        """
        with self._one_at_a_time():
            try:
                return self._index(
                    source, total, options, passed_over=passed_over, prune=prune, gone=gone, dry_run=dry_run
                )
            except IndexingInterrupted as stop:
                if not self._closing.asked.is_set():
                    raise
                # By `close`, in whatever thread: a KeyboardInterrupt where nobody pressed a key would end the program.
                raise IndexingError(f"the index was closed: {stop}", report=stop.report) from None
            finally:
                self._ledger.close()  # so that an index at rest holds no other file than its store's

    def store_vectors(self, records: Iterable[Record], progress: bool | ProgressCallback | None) -> IndexReport:
        """Store precomputed vectors.

        Raises:
            IndexingError: The store failed for good, `records` raised, or the index was closed; carries the partial
                report.
            IndexingInterrupted: Ctrl-C; carries the partial report.
        """
        stats = RunStats(progress_callback(progress))
        with self._one_at_a_time(), stats.watching(known_total(records)):
            try:
                watched = self._closing.watched(records)
                store = RetryingStore(self._store, self._closing)
                store_records(watched, store, self._embedder.schema.dimension, stats)
                self._complete_words(stats)
                self._optimize_if_needed(stats)
                self._calibrate_if_needed(stats)
            except KeyboardInterrupt:
                report = stats.report(Usage())
                raise IndexingInterrupted(f"interrupted ({report.so_far()})", report=report) from None
            except Exception as error:
                report = stats.report(Usage())
                raise IndexingError(f"{error} (until then: {report.so_far()})", report=report) from error
        return stats.report(Usage())

    def set_keyword_fields(self, store: SupportsTextSearch, fields: Sequence[str]) -> None:
        """Set which payload fields make up the words of the points in a store, between two runs."""
        with self._one_at_a_time():
            store.set_keyword_fields(fields, on_tick=self._closing.check)

    def complete_words(self) -> None:
        """Write the words of points that have none yet; a run that is under way does so at its end."""
        if self._adding.acquire(blocking=False):
            try:
                with self._closing.call():
                    complete_words(self._store, self._closing.check)
            finally:
                self._adding.release()

    def _index(
        self,
        source: Source,
        total: Total,
        options: RunOptions,
        *,
        passed_over: PassedOver | None,
        prune: Walk | None,
        gone: Sequence[str],
        dry_run: bool,
    ) -> IndexReport:
        self._versions.begin()
        store = RetryingStore(self._store, self._closing)
        stats = RunStats(options.on_progress, dry_run=dry_run)
        if passed_over is not None:
            stats.passed_over = passed_over
        sync = FolderSync(store, stats, prune, self._ledger, gone=gone, dry_run=dry_run)
        run = IndexingRun(
            self._embedder,
            store,
            PointFinder(self._ids, store),
            sync,
            stats,
            raise_errors=options.raise_errors,
            window_bytes=options.window_bytes,
            stopping=self._closing.asked,
            ledger=self._ledger,
            retry_failed=options.retry_failed,
            versions=self._versions,
        )
        with stats.watching(total):
            run.run(source)
            try:
                sync.prune(follow_contents=self._ids.follow_contents)
                if not dry_run:
                    self._complete_words(stats)
                    self._optimize_if_needed(stats)
                    self._calibrate_if_needed(stats)
            except KeyboardInterrupt:
                raise IndexingInterrupted(f"interrupted ({run.report().so_far()})", report=run.report()) from None
            except StoreError as error:
                raise IndexingError(f"{error} (until then: {run.report().so_far()})", report=run.report()) from error
        return run.report()

    def _ticker(self, stats: RunStats) -> Callable[[], None]:
        """What a store calls while it optimizes: tells of that, and ends it when the index is closed."""

        def tick() -> None:
            self._closing.check()
            stats.tell(stage="optimizing")

        return tick

    def _complete_words(self, stats: RunStats) -> None:
        try:
            complete_words(self._store, self._ticker(stats))
        except StoreClosedError:
            raise
        except StoreError as error:  # the points are stored: keyword search is slower, and that is all
            _log.warning("the index is complete, but keyword search is slow: %s", error)

    def _optimize_if_needed(self, stats: RunStats) -> None:
        store, rebuilt, on_tick = RetryingStore(self._store, self._closing), False, self._ticker(stats)
        if store.needs_optimize:
            try:
                rebuilt = store.optimize(on_tick=on_tick)
            except StoreClosedError:
                raise
            except StoreError as error:  # the points are stored: searching them is slower, and that is all
                warnings.warn(f"the index is complete, but {error}", RuntimeWarning, stacklevel=4)
                return
        try:
            self._tuner.update(rebuilt=rebuilt, may_embed=self._calibrator is not None, tell=on_tick)
        except StoreClosedError:
            raise
        except Exception as error:  # noqa: BLE001 (the points are stored: searches are as fast and true as before)
            _log.warning("the index is complete, but its search was not tuned: %s", error)

    def _calibrate_if_needed(self, stats: RunStats) -> None:
        if self._calibrator is None:
            return
        replaced = stats.report(Usage()).updated
        try:
            self._calibrator.update(
                replaced=replaced,
                tell=lambda share: stats.tell(stage="calibrating", share=share),
            )
        except StoreClosedError:
            raise
        except Exception as error:  # noqa: BLE001 (the points are stored: their hits have scores, and no relevance)
            _log.warning("the index is complete, but its scores were not calibrated: %s", error)

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        if self._adding_thread == threading.get_ident():
            raise ConfigurationError("one run of indexing at a time: this is called from within one, by its callback")
        with self._closing.call(), self._adding:
            self._adding_thread = threading.get_ident()
            try:
                yield
            finally:
                self._adding_thread = None


def complete_words(store: VectorStore, on_tick: Callable[[], None]) -> None:
    """Write the words of those points that were stored before a store kept words."""
    if isinstance(store, SupportsTextSearch):
        store.set_keyword_fields(store.get_keyword_fields(), on_tick=on_tick)


def ledger_of(store: VectorStore) -> Ledger:
    """The ledger that goes with a store: in its folder; of a server's, in the user's cache; else in memory."""
    folder = folder_of_store(store)
    if folder is not None:
        return Ledger(ledger_path(folder, ""))
    if isinstance(getattr(store, "url", None), str):
        return Ledger(ledger_path(None, repr(store)))
    return Ledger(None)  # it is gone with the process, or nobody can tell it from others
