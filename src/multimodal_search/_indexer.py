"""Runs of indexing, from the first item to the calibration: one at a time, and what ends them early."""

from __future__ import annotations

import functools
import itertools
import logging
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from multimodal_search._calibrator import Calibrator
from multimodal_search._embedding import CheckedEmbedder
from multimodal_search._identity import Identities
from multimodal_search._ids import ContentIds, IdScheme
from multimodal_search._indexing import IndexingRun
from multimodal_search._patience import PatientStore
from multimodal_search._printable import brief
from multimodal_search._progress import ProgressCallback, observer
from multimodal_search._pruning import below, vanished
from multimodal_search._records import store_records
from multimodal_search._sources import Source, Total, Walk, known_total
from multimodal_search._tally import Tally
from multimodal_search.errors import (
    ConfigurationError,
    IndexingError,
    IndexingInterrupted,
    StoreError,
)
from multimodal_search.protocols import SupportsOptimize, VectorStore
from multimodal_search.results import IndexReport
from multimodal_search.types import Record, Usage

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run of indexing goes about its items."""

    raise_errors: bool
    observe: ProgressCallback
    window_bytes: int

    @classmethod
    def of(cls, on_error: str, progress: bool | ProgressCallback | None, window_bytes: int) -> RunOptions:
        """From the arguments of `MultimodalIndex.add`.

        Raises:
            ConfigurationError: One of them makes no sense.
        """
        if not isinstance(on_error, str) or on_error not in ("report", "raise"):
            raise ConfigurationError(f'on_error must be "report" or "raise", not {brief(on_error)}')
        # NaN, of which nothing is less, would have the run wait for room for ever.
        if not isinstance(window_bytes, (int, np.integer)) or isinstance(window_bytes, bool) or window_bytes < 1:
            raise ConfigurationError(f"window_bytes must be a whole number, at least 1, not {brief(window_bytes)}")
        return cls(on_error == "raise", observer(progress), window_bytes)


class Indexer:
    """Runs indexing into one store, one run at a time.

    Args:
        embedder: Turns contents into vectors.
        store: Keeps them.
        ids: How points get their ids.
        calibrator: Is asked to calibrate after runs that changed something; None does not.
    """

    def __init__(
        self, embedder: CheckedEmbedder, store: VectorStore, ids: IdScheme, calibrator: Calibrator | None
    ) -> None:
        self._embedder = embedder
        self._store = store
        self._ids = ids
        self._calibrator = calibrator
        self._stopping = threading.Event()
        self._adding = threading.Lock()
        self._adding_thread: int | None = None

    def run(
        self, source: Source, total: Total, options: RunOptions, *, prune: Walk | None = None, dry_run: bool = False
    ) -> IndexReport:
        """Index what a source yields; of a walk to prune, remove what it did not meet.

        Raises:
            IndexingError: The embedder or the store failed for good; carries the partial report.
            IndexingInterrupted: Ctrl-C; carries the partial report.
        """
        with self._one_at_a_time():
            return self._index(source, total, options, prune=prune, dry_run=dry_run)

    def store_vectors(self, records: Iterable[Record], progress: bool | ProgressCallback | None) -> IndexReport:
        """Store vectors that were made elsewhere.

        Raises:
            IndexingError: The store failed for good, or `records` raised; carries the partial report.
            IndexingInterrupted: Ctrl-C; carries the partial report.
        """
        tally = Tally(observer(progress))
        with self._one_at_a_time(), tally.watching(known_total(records)):
            try:
                store_records(records, PatientStore(self._store), self._embedder.spec.dimension, tally)
                self._optimize_if_needed(tally)
                self._calibrate_if_needed(tally, may_embed=False)
            except KeyboardInterrupt:
                report = tally.report(Usage())
                raise IndexingInterrupted(f"interrupted ({report})", report=report) from None
            except Exception as error:
                report = tally.report(Usage())
                raise IndexingError(f"{error} (until then: {report})", report=report) from error
        return tally.report(Usage())

    def interrupt(self) -> None:
        """End what is under way, as Ctrl-C does."""
        self._stopping.set()
        self._embedder.interrupt()

    def _index(
        self, source: Source, total: Total, options: RunOptions, *, prune: Walk | None, dry_run: bool
    ) -> IndexReport:
        store = PatientStore(self._store)
        tally = Tally(options.observe, dry_run=dry_run)
        run = IndexingRun(
            self._embedder,
            store,
            Identities(self._ids, store),
            tally,
            raise_errors=options.raise_errors,
            window_bytes=options.window_bytes,
            syncs=prune is not None,
            dry_run=dry_run,
            stopping=self._stopping,
        )
        with tally.watching(total):
            run.run(source)
            try:
                if prune is not None and not self._is_complete(prune, run, tally, store, dry_run=dry_run):
                    lost = vanished(store, prune, moved=run.moved, left_roots=run.left_roots)
                    for gone in itertools.chain(lost, [run.unreadable]):
                        if not dry_run:
                            store.delete(gone)
                        tally.removed += len(gone)
                if not dry_run:
                    self._optimize_if_needed(tally)
                    self._calibrate_if_needed(tally, may_embed=True)
            except KeyboardInterrupt:
                raise IndexingInterrupted(f"interrupted ({run.report()})", report=run.report()) from None
            except StoreError as error:
                raise IndexingError(f"{error} (until then: {run.report()})", report=run.report()) from error
        return run.report()

    def _optimize_if_needed(self, tally: Tally) -> None:
        if isinstance(self._store, SupportsOptimize) and self._store.needs_optimize:
            try:
                self._store.optimize(tick=functools.partial(tally.tell, stage="optimizing"))
            except StoreError as error:  # the points are stored: searching them is slower, and that is all
                warnings.warn(f"the index is complete, but {error}", RuntimeWarning, stacklevel=4)

    def _calibrate_if_needed(self, tally: Tally, *, may_embed: bool) -> None:
        if self._calibrator is None:
            return
        replaced, begin = tally.report(Usage()).updated, functools.partial(tally.tell, stage="calibrating")
        try:
            self._calibrator.update(replaced=replaced, may_embed=may_embed, begin=begin)
        except Exception as error:  # noqa: BLE001 (the points are stored: their hits have scores, and no relevance)
            _log.warning("the index is complete, but its scores were not calibrated: %s", error)

    def _is_complete(self, walk: Walk, run: IndexingRun, tally: Tally, store: PatientStore, *, dry_run: bool) -> bool:
        """Whether every point below the folder was met in the walk, so that none can have lost its file."""
        if dry_run or tally.failed or run.left_roots or not run.has_met_all:
            return False
        if isinstance(self._ids, ContentIds):  # there, several files can be one point
            return False
        return store.count(below(walk, walk.root)) <= tally.done

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        if self._adding_thread == threading.get_ident():
            raise ConfigurationError("one run of indexing at a time: this is called from within one, by its callback")
        with self._adding:
            self._adding_thread = threading.get_ident()
            try:
                yield
            finally:
                self._adding_thread = None
