"""The indexing pipeline: scan, load, embed, write. Every stage is bounded; items that fail are skipped and reported.

The calling thread decides everything and owns all state. It pulls candidates from a source, recognizes what is stored,
has the rest loaded, embedded and written by threads that hold no state and answer through one inbox, and counts.
"""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, TypeAlias

from multimodal_search._ctrl_c import CtrlC, interrupt_flag
from multimodal_search._indexing.candidate import Source
from multimodal_search._indexing.embed_stage import Embedded, EmbedStage
from multimodal_search._indexing.failed_contents import FailedContents
from multimodal_search._indexing.job import EmbedTask, Job, LoadTask, ProbeTask, Task, WriteTask
from multimodal_search._indexing.ledger import Ledger
from multimodal_search._indexing.loading import Loaded, load, memory_bytes
from multimodal_search._indexing.model_version import ModelVersions
from multimodal_search._indexing.point_finder import PointFinder
from multimodal_search._indexing.recognition import Recognition
from multimodal_search._indexing.retrying_store import RetryingStore
from multimodal_search._indexing.reuse import Reuse
from multimodal_search._indexing.run_stats import RunStats
from multimodal_search._indexing.sync import FolderSync
from multimodal_search._indexing.verdicts import Verdicts
from multimodal_search._indexing.write_stage import WriteStage
from multimodal_search._indexing.writing import Written
from multimodal_search._threads import Done, WorkerPool
from multimodal_search.embedders.late import LateEmbedder
from multimodal_search.errors import (
    ConfigurationError,
    ContentError,
    IndexingError,
    IndexingInterrupted,
    SchemaMismatchError,
    StoreError,
)
from multimodal_search.media.images import decoding_rules
from multimodal_search.report import Failure, IndexReport
from multimodal_search.types import Record

LOOK_UP = 256  # candidates whose ids are looked up in the store together
LINGER_S = 1.0  # seconds that a batch waits to become full
LOADERS = min(8, (os.cpu_count() or 1) + 2)
GRACE_S = 5.0  # how long calls under way may still answer when the run has to stop

_Inbox: TypeAlias = "queue.SimpleQueue[Done[Any, Any]]"


class IndexingRun:
    """One run of the pipeline; used once.

    Args:
        embedder: Turns contents into vectors; created when the first content is loaded.
        store: Takes them; already ensured.
        finder: Finds the stored point of a candidate.
        sync: What is found out about files that moved, changed or were deleted; says whether it is a dry run.
        stats: Counts what is done, and sends progress events.
        raise_errors: Whether the first failed item ends the run.
        window_bytes: Most bytes of loaded contents that wait in memory.
        stopping: Set from elsewhere to end the run as Ctrl-C does.
        ledger: What is known of items that are in no store; None where nothing is to be remembered.
        retry_failed: Whether items that failed for good are tried again.
        versions: Watches which version of the model the service has; None where nobody does.
    """

    def __init__(
        self,
        embedder: LateEmbedder,
        store: RetryingStore,
        finder: PointFinder,
        sync: FolderSync,
        stats: RunStats,
        *,
        raise_errors: bool,
        window_bytes: int,
        stopping: threading.Event | None = None,
        ledger: Ledger | None = None,
        retry_failed: bool = False,
        versions: ModelVersions | None = None,
    ) -> None:
        schema = embedder.schema
        self._embedder = embedder
        self._store = store
        self._sync = sync
        self._stats = stats
        self._raise_errors = raise_errors
        self._stopping = threading.Event() if stopping is None else stopping
        self._window_bytes = window_bytes

        self._inbox: _Inbox = queue.SimpleQueue()
        self._loaders = WorkerPool[LoadTask, Loaded](
            lambda task: load(task.job.candidate, embedder.ready()),
            self._inbox,
            threads=LOADERS,
            name="multimodal-load",
        )
        failed_contents = FailedContents(ledger, schema.fingerprint, retry=retry_failed and not sync.dry_run)
        self._stage = EmbedStage(embedder, self._inbox, failed_contents, versions)
        self._writes = WriteStage(store, self._inbox)
        self._to_load: deque[Job] = deque()
        self._loading: deque[Job] = deque()  # in the order of the source, so that ids and batches come out the same
        self._loaded: list[Job] = []
        self._ready: deque[Job] = deque()
        self._lingering_since = 0.0
        self._alive = 0
        self._held_bytes = 0
        self._verdicts = Verdicts(
            ledger,
            rules=f"{decoding_rules(embedder.max_pixels)}\n{schema.fingerprint}",
            retry_failed=retry_failed,
            dry_run=sync.dry_run,
        )
        reuse = Reuse(store, finder, sync, dimension=schema.dimension)
        self._recognition = Recognition(finder, reuse, sync, failed_contents, self._verdicts, stats)
        self._fatal: Exception | None = None
        self._message = ""
        self._store_failed = False
        self._stop_by = math.inf
        self._used_before = embedder.usage

    def run(self, source: Source) -> None:
        """Index everything the source yields.

        Raises:
            IndexingError: The embedder or the store failed for good, or an item failed and `raise_errors` is set.
            IndexingInterrupted: Ctrl-C.
        """
        try:
            with interrupt_flag() as ctrl_c:
                self._loop(source, ctrl_c)
        except KeyboardInterrupt:
            self._store.give_up()
            for workers in self._workers:
                workers.stop(wait_s=0.0)  # so that none takes up another task when the one at hand is interrupted
            self._embedder.interrupt()
            report = self.report()
            raise IndexingInterrupted(f"interrupted ({report.so_far()})", report=report) from None
        finally:
            for workers in self._workers:
                workers.stop(wait_s=0.0 if workers.in_flight else 1.0)
            self._verdicts.flush()
        if self._fatal is not None:
            report = self.report()
            raise IndexingError(f"{self._message} (until then: {report.so_far()})", report=report) from self._fatal

    def report(self) -> IndexReport:
        """What has been done so far."""
        return self._stats.report(self._embedder.usage - self._used_before)

    def _loop(self, source: Source, ctrl_c: CtrlC) -> None:
        exhausted = False
        while True:
            if self._fatal is not None:
                exhausted = True
                self._discard_pending()
            try:
                if not exhausted and self._has_room():
                    exhausted = not self._pull(source)
                self._advance(exhausted=exhausted)
            except SchemaMismatchError:  # of the embedder, which is created when there is something to load
                raise
            except StoreError as error:
                self._store_failed = True
                self._abort(error)
                continue
            in_flight = self._in_flight()
            # Nothing is under way, and nothing waits: jobs come back that waited for a finished one, or for room.
            if exhausted and not in_flight and not self._is_pending():
                break
            self._receive(block=in_flight > 0 and (exhausted or not self._has_room()))
            if time.monotonic() > self._stop_by:  # what is still under way shares the trouble: it will not come back
                self._embedder.interrupt()
                self._stop_by += GRACE_S
            self._stats.tell()
            if self._stopping.is_set() or ctrl_c.is_pressed:
                raise KeyboardInterrupt

    def _is_pending(self) -> bool:
        waits = self._to_load or self._loading or self._loaded or self._ready
        return bool(waits or self._stage.is_pending or self._writes.is_pending)

    @property
    def _window_items(self) -> int:
        batches = self._stage.max_concurrency + self._writes.max_concurrency + 1
        return self._stage.max_batch_size * batches + 4 * LOADERS

    def _has_room(self) -> bool:
        return self._alive < self._window_items and self._held_bytes < self._window_bytes

    def _may_load(self) -> bool:
        # A single content larger than the window is loaded all the same, when nothing else could make room.
        others = self._in_flight() or self._loaded or self._ready or self._writes.is_pending
        return self._held_bytes < self._window_bytes or not others

    @property
    def _workers(self) -> tuple[WorkerPool[Any, Any], ...]:
        return self._loaders, self._stage.workers, self._writes.workers

    def _in_flight(self) -> int:
        return sum(workers.in_flight for workers in self._workers)

    def _pull(self, source: Source) -> bool:
        """Take some candidates, set aside those that are stored unchanged, and queue the others for loading."""
        began = time.monotonic()
        jobs: list[Job] = []
        more = True
        while len(jobs) < min(LOOK_UP, self._window_items - self._alive) and self._held_bytes < self._window_bytes:
            if time.monotonic() > began + 0.05:  # a slow source must not hold back what it has yielded already
                break
            try:
                candidate = next(source, None)
            except Exception as error:  # noqa: BLE001 (the user's own iterable may raise anything)
                self._abort(error, f"the source of items raised {type(error).__name__}: {error}")
                break
            if candidate is None:
                more = False
                break
            if isinstance(candidate, Failure):
                self._fail(candidate)
                continue
            try:
                job = self._recognition.job_of(candidate)
            except ConfigurationError as error:
                self._fail(Failure(name=candidate.name, stage="scan", reason=str(error)))
                continue
            if candidate.given is not None:
                job.given_bytes = memory_bytes(candidate.given)
                self._held_bytes += job.given_bytes
            jobs.append(job)
        for job, records in zip(jobs, self._recognition.look_up(jobs), strict=True):
            self._admit(job, records)
        self._stats.stage_seconds["scan"] += time.monotonic() - began
        return more

    def _admit(self, job: Job, records: Sequence[Record]) -> None:
        job.looked_up = job.id is not None and not self._recognition.is_in_flight(job.id)
        untouched = next((record for record in job.previous_records if job.is_untouched_since(record)), None)
        if untouched is not None:
            self._held_bytes -= job.held_bytes
            self._stats.count("unchanged")
            self._sync.mark_stale(job, except_id=untouched.id)
            self._sync.met(job)
            return
        if job.failure is not None or job.ignored:  # as an earlier run found out
            self._alive += 1
            self._finish(job, job.failure)
            return
        self._stage.begin()
        self._alive += 1
        self._recognition.begin(job, records)
        self._loading.append(job)
        self._to_load.append(job)

    def _advance(self, *, exhausted: bool) -> None:
        """Move everything on that can move on."""
        while self._to_load and self._loaders.in_flight < 2 * LOADERS and self._may_load():
            job = self._to_load.popleft()
            if job.candidate.path is not None and job.candidate.size_and_mtime is not None:
                job.given_bytes = job.candidate.size_and_mtime[0]  # while it is read, it is in memory whole
                self._held_bytes += job.given_bytes
            self._loaders.submit(LoadTask(job))
        while self._loading and self._loading[0].is_loaded:
            job = self._loading.popleft()
            if job.failure is not None or job.ignored:
                self._finish(job, job.failure)
            else:
                self._loaded.append(job)

        batch = self._stage.max_batch_size
        # Batches go out full, except when nothing is under way that could fill them, or the source is so slow.
        waits = self._loaders.in_flight > 0 or not (exhausted or not (self._in_flight() or self._writes.is_pending))
        now = time.monotonic()
        if not self._loaded and not self._ready:
            self._lingering_since = now
        waits = waits and now - self._lingering_since < LINGER_S
        # Looked up together while there is enough to embed: with a remote store each look-up is a round trip.
        if self._loaded and (not waits or len(self._loaded) >= (batch if len(self._ready) < batch else LOOK_UP)):
            self._recognize()
        while self._ready and self._stage.has_slot:
            if len(self._ready) < batch and (waits or self._loaded):
                break
            jobs = [self._ready.popleft() for _ in range(min(batch, len(self._ready)))]
            self._stage.submit(jobs)
        self._take_embedded(self._stage.go_on())
        self._writes.go_on()

    def _recognize(self) -> None:
        """Set those loaded jobs aside whose content is stored already, and queue the others for embedding."""
        jobs, self._loaded, self._lingering_since = self._loaded, [], time.monotonic()
        recognized = self._recognition.recognize(jobs)
        self._ready += recognized.to_embed
        self._writes.add(recognized.writes)
        for job, failure in recognized.finished:
            self._finish(job, failure)
        if recognized.error is not None:
            raise recognized.error

    def _receive(self, *, block: bool) -> None:
        """Take in what the other threads have finished; wait for the first if asked to."""
        try:
            # With a timeout, so that Ctrl-C gets through where a wait without one cannot be interrupted.
            done = self._inbox.get(timeout=0.2) if block else self._inbox.get_nowait()
            while True:
                self._handle(done)
                done = self._inbox.get_nowait()
        except queue.Empty:
            pass

    def _handle(self, done: Done[Task, Any]) -> None:
        task, error = done.task, done.error
        match task:
            case LoadTask():
                self._loaders.task_done()
                self._stats.stage_seconds["load"] += done.seconds
                self._take_loaded(task.job, done.result, error)
            case EmbedTask() | ProbeTask():
                self._stats.stage_seconds["embed"] += done.seconds
                self._take_embedded(self._stage.collect(task, done.result, error, done.seconds))
            case WriteTask():
                self._writes.collect()
                self._stats.stage_seconds["write"] += done.seconds
                self._take_written(task, done.result, error)

    def _take_written(self, task: WriteTask, written: Written | None, error: BaseException | None) -> None:
        if written is not None:
            error = written.error
            for number in written.done:
                job = task.jobs[number]
                self._stats.count(job.outcome, stored=job.point_id)
                self._finish(job)
            for number, reason in written.refused.items():
                job = task.jobs[number]
                self._finish(job, Failure(name=job.candidate.name, stage="write", reason=reason))
        if error is not None:
            self._store_failed = True
            self._abort(error)

    def _take_loaded(self, job: Job, loaded: Loaded | None, error: BaseException | None) -> None:
        job.is_loaded = True
        if isinstance(error, (ContentError, ConfigurationError)):
            self._verdicts.reject(job, error)
            if job.candidate.path is not None:  # nothing of it is in memory any more
                self._held_bytes -= job.given_bytes
                job.given_bytes = 0
        elif error is not None:
            self._abort(error)
        else:
            self._held_bytes -= job.held_bytes
            job.loaded, job.candidate.given = loaded, None  # what came is not needed any more
            self._held_bytes += job.held_bytes
            self._sync.met(job)

    def _take_embedded(self, embedded: Embedded) -> None:
        self._writes.add(embedded.writes)
        self._stats.count_embedded(job.truncated_name for each in embedded.writes for job in each.jobs)
        for job, failure in embedded.failed:
            self._finish(job, failure)
        if embedded.error is not None:
            self._abort(embedded.error, embedded.message)

    def _finish(self, job: Job, failure: Failure | None = None) -> None:
        if failure is not None:
            self._fail(failure)
        if job.ignored:
            self._stats.ignored[job.ignored] += 1
        self._sync.mark_stale(job, except_id=None if failure is not None or job.ignored else job.id)
        self._alive -= 1
        self._held_bytes -= job.held_bytes
        self._loaded[:0] = self._recognition.end(job)  # before later ones with the same id

    def _fail(self, failure: Failure) -> None:
        self._stats.failed.append(failure)
        if self._raise_errors and self._fatal is None:
            self._abort(ContentError(str(failure)))

    def _abort(self, error: BaseException, message: str | None = None) -> None:
        """End the run: nothing new begins, and what has been embedded is still written."""
        if not isinstance(error, Exception):
            raise error
        if self._fatal is None:
            self._fatal = error
            self._message = message or str(error) or type(error).__name__
            self._stop_by = time.monotonic() + GRACE_S
        if self._store_failed:
            self._store.give_up()

    def _discard_pending(self) -> None:
        for queued in (self._to_load, self._loading, self._loaded, self._ready):
            queued.clear()
        self._stage.give_up()
        if self._store_failed:
            self._writes.give_up()
