"""The pipeline: scan, load, embed, write. Every stage is bounded; a bad item costs itself alone.

One thread, the caller's, decides everything and owns all state. It pulls candidates from the source, recognises what is
stored already, has the rest loaded by some threads, forms batches, has those embedded by others, and finished vectors
written by one, and counts. Those threads hold no state, and answer through one inbox.
"""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Collection, Sequence
from typing import Any, TypeAlias

import numpy as np

from multimodal_search._ctrl_c import CtrlC, interrupt_flag
from multimodal_search._indexing.absence import Absence
from multimodal_search._indexing.candidate import Source
from multimodal_search._indexing.embed_stage import Embedded, EmbedStage
from multimodal_search._indexing.failed_contents import FailedContents
from multimodal_search._indexing.identity import Identities
from multimodal_search._indexing.job import EmbedTask, Job, LoadTask, ProbeTask, Task, WriteTask
from multimodal_search._indexing.ledger import Ledger
from multimodal_search._indexing.loading import Loaded, load, memory_bytes
from multimodal_search._indexing.model_version import ModelVersions
from multimodal_search._indexing.retrying_store import RetryingStore
from multimodal_search._indexing.reuse import Reuse, name_taken
from multimodal_search._indexing.tally import RunStats
from multimodal_search._indexing.verdicts import Verdicts
from multimodal_search._indexing.writing import MAX_RECORDS, RecordWriter, Written
from multimodal_search._threads import Done, WorkerPool
from multimodal_search.embedders.guarded import GuardedEmbedder
from multimodal_search.errors import (
    ConfigurationError,
    ContentError,
    IndexingError,
    IndexingInterrupted,
    StoreError,
)
from multimodal_search.media.images import decoding_rules
from multimodal_search.report import Failure, IndexReport
from multimodal_search.types import PointId, Record, Usage

LOOK_UP = 256  # candidates whose ids are looked up in the store together
LINGER_S = 1.0  # seconds that a batch waits to become full
LOADERS = min(8, (os.cpu_count() or 1) + 2)
WINDOW_BYTES = 256 * 1024 * 1024
GRACE_S = 5.0  # how long calls under way may still answer when the run has to stop

_Inbox: TypeAlias = "queue.SimpleQueue[Done[Any, Any]]"


class IndexingRun:
    """One run of the pipeline; used once.

    Args:
        embedder: Turns contents into vectors.
        store: Takes them; already ensured.
        identities: Tells which stored point a candidate is.
        tally: Counts what is done, and tells whoever watches.
        raise_errors: Whether the first failed item ends the run.
        window_bytes: Most bytes of loaded contents that wait in memory.
        absence: In a sync, tells deleted files, whose points may be moved or removed; else None.
        dry_run: Whether nothing is embedded or written.
        stopping: Set from elsewhere to end the run as Ctrl-C does.
        ledger: What is known of items that are in no store; None where nothing is to be remembered.
        retry_failed: Whether items that failed for good are tried again.
        versions: Watches which version of the model the service has; None where nobody does.
    """

    def __init__(
        self,
        embedder: GuardedEmbedder,
        store: RetryingStore,
        identities: Identities,
        tally: RunStats,
        *,
        raise_errors: bool,
        window_bytes: int = WINDOW_BYTES,
        absence: Absence | None = None,
        dry_run: bool = False,
        stopping: threading.Event | None = None,
        ledger: Ledger | None = None,
        retry_failed: bool = False,
        versions: ModelVersions | None = None,
    ) -> None:
        spec = embedder.spec
        self._embedder = embedder
        self._store = store
        self._identities = identities
        self._tally = tally
        self._raise_errors = raise_errors
        self._stopping = threading.Event() if stopping is None else stopping
        self._window_bytes = window_bytes
        self._window_items = spec.max_batch_size * (spec.max_concurrency + 2) + 4 * LOADERS
        self._dry_ids: set[PointId] | None = set() if dry_run else None

        self._inbox: _Inbox = queue.SimpleQueue()
        self._loaders = WorkerPool[LoadTask, Loaded](self._load, self._inbox, threads=LOADERS, name="multimodal-load")
        self._failed_contents = FailedContents(ledger, spec.fingerprint, retry=retry_failed and not dry_run)
        self._stage = EmbedStage(embedder, self._inbox, self._failed_contents, versions)
        self._embedders = self._stage.workers
        self._writer = WorkerPool[WriteTask, Written](self._write, self._inbox, threads=1, name="multimodal-write")

        self._to_load: deque[Job] = deque()
        self._loading: deque[Job] = deque()  # in the order of the source, so that ids and batches come out the same
        self._loaded: list[Job] = []
        self._ready: deque[Job] = deque()
        self._waiting: dict[object, list[Job]] = {}  # by an id or a hash in flight: the jobs that have it too
        self._embedded: deque[WriteTask] = deque()
        self._lingering_since = 0.0
        self._alive = 0
        self._alive_ids: Counter[PointId] = Counter()
        self._held_bytes = 0
        self._reuse = Reuse(store, identities, dimension=spec.dimension, absence=absence)
        self._outdated: Sequence[PointId] = ()
        self._dry_contents: set[str] = set()  # that would have to be embedded
        self._moved_roots: set[str] = set()
        self._ledger = ledger
        self._retry_failed = retry_failed
        self._verdicts = Verdicts(
            ledger,
            rules=f"{decoding_rules(embedder.max_pixels)}\n{spec.fingerprint}",
            retry_failed=retry_failed,
            dry_run=dry_run,
        )
        self._record_writer = RecordWriter(store)
        self._met_all = True
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
            for workers in (self._loaders, self._embedders, self._writer):
                workers.stop(wait_s=0.0)  # so that none takes up another task when the one at hand is interrupted
            self._embedder.interrupt()
            report = self.report()
            raise IndexingInterrupted(f"interrupted ({report.so_far()})", report=report) from None
        finally:
            for workers in (self._loaders, self._embedders, self._writer):
                workers.stop(wait_s=0.0 if workers.in_flight else 1.0)
            self._verdicts.flush()
        if self._fatal is not None:
            report = self.report()
            raise IndexingError(f"{self._message} (until then: {report.so_far()})", report=report) from self._fatal

    def report(self) -> IndexReport:
        """What has been done so far."""
        used = self._embedder.usage
        before = self._used_before
        return self._tally.report(
            Usage(calls=used.calls - before.calls, bytes_sent=used.bytes_sent - before.bytes_sent)
        )

    @property
    def unreadable(self) -> Sequence[PointId]:
        """Points whose files are there, but hold something else now that is not in these points; in a sync only."""
        return self._outdated

    @property
    def moved(self) -> Collection[PointId]:
        """Points whose contents were found at other places; in a sync only."""
        return {*self._reuse.moved, *(self._dry_ids or ())}

    @property
    def moved_roots(self) -> Collection[str]:
        """Folders that are gone, whose points now stand for files of this run."""
        return self._moved_roots

    @property
    def has_met_all(self) -> bool:
        """Whether each item that was counted stands for a point of its own place."""
        return self._met_all

    # -- the deciding thread -------------------------------------------------------------------------------------------

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
            self._tally.tell()
            if self._stopping.is_set() or ctrl_c.is_pressed:
                raise KeyboardInterrupt
        try:
            self._outdated = self._reuse.outdated(but=self._dry_ids or ())
        except StoreError as error:
            self._abort(error)

    def _is_pending(self) -> bool:
        waits = self._to_load or self._loading or self._loaded or self._ready or self._embedded
        return bool(waits or self._stage.is_pending)

    def _has_room(self) -> bool:
        return self._alive < self._window_items and self._held_bytes < self._window_bytes

    def _may_load(self) -> bool:
        # A single content larger than the window is loaded all the same, when nothing else could make room.
        others = self._in_flight() or self._loaded or self._ready or self._embedded
        return self._held_bytes < self._window_bytes or not others

    def _in_flight(self) -> int:
        return self._loaders.in_flight + self._embedders.in_flight + self._writer.in_flight

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
                job = Job(candidate, self._identities.id_before_reading(candidate))
            except ConfigurationError as error:
                self._fail(Failure(name=candidate.name, stage="scan", reason=str(error)))
                continue
            if candidate.given is not None:
                job.given_bytes = memory_bytes(candidate.given)
                self._held_bytes += job.given_bytes
            jobs.append(job)
        ids, known = self._identities.find_by_id_or_path([(job.candidate, job.id) for job in jobs])
        for job, point_id, records in zip(jobs, ids, known, strict=True):
            job.id = point_id
            job.previous_records = [record for record in records if job.is_at_place_of(record)]
        self._verdicts.recall(jobs)
        for job, records in zip(jobs, known, strict=True):
            self._admit(job, records)
        self._tally.stage_seconds["scan"] += time.monotonic() - began
        return more

    def _admit(self, job: Job, records: Sequence[Record]) -> None:
        # While a twin is under way, what the store holds now may not be what it holds then.
        job.looked_up = job.id is not None and job.id not in self._alive_ids
        untouched = next((record for record in job.previous_records if job.is_untouched_since(record)), None)
        if untouched is not None:
            self._held_bytes -= job.held_bytes
            self._tally.settle("unchanged")
            self._reuse.mark_stale(job, but=untouched.id)
            self._reuse.met(job)
            return
        if job.failure is not None or job.ignored:  # as an earlier run found out
            self._alive += 1
            self._finish(job, job.failure)
            return
        if records and (job.id is not None or not self._identities.follow_contents):
            job.known = records[0]
            job.id = records[0].id
        self._alive += 1
        if job.id is not None:
            self._alive_ids[job.id] += 1
            job.in_flight_id = job.id
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

        batch = self._embedder.spec.max_batch_size
        # Batches go out full, except when nothing is under way that could fill them, or the source is so slow.
        waits = self._loaders.in_flight > 0 or not (exhausted or not (self._in_flight() or self._embedded))
        now = time.monotonic()
        if not self._loaded and not self._ready:
            self._lingering_since = now
        waits = waits and now - self._lingering_since < LINGER_S
        # Looked up together while there is enough to embed: with a remote store each look-up is a round trip.
        if self._loaded and (not waits or len(self._loaded) >= (batch if len(self._ready) < batch else LOOK_UP)):
            self._recognise()
        while self._ready and self._stage.has_place:
            if len(self._ready) < batch and (waits or self._loaded):
                break
            jobs = [self._ready.popleft() for _ in range(min(batch, len(self._ready)))]
            self._stage.submit(jobs)
        self._settle_embed(self._stage.go_on())
        if self._embedded and self._writer.in_flight == 0:
            self._submit_write()

    def _recognise(self) -> None:
        """Give ids to loaded jobs, and set those aside whose content is stored already."""
        jobs, self._loaded = self._loaded, []
        new = [job for job in jobs if not job.looked_up]
        found = self._identities.find_by_content([(job.candidate, job.id, job.sha256) for job in new]) if new else []
        for job, (point_id, record) in zip(new, found, strict=True):
            job.id, job.known, job.looked_up = point_id, record, True
        refresh: list[Job] = []
        changed: list[Job] = []
        for job in jobs:
            if job.point_id in self._waiting and job.point_id not in job.holds_keys:
                self._wait(job, job.point_id)
            elif not job.is_content_known:
                if job.candidate.id is None and (other := self._reuse.holder(job, moved_roots=self._moved_roots)):
                    self._finish(job, name_taken(job.candidate, other))
                else:
                    changed.append(job)
                    self._own(job, job.point_id)
            elif job.known is not None and (dict(job.known.payload) == job.fields or job.is_kept_by_other):
                self._met_all = self._met_all and not job.is_kept_by_other
                self._tally.settle("unchanged")
                self._finish(job)
            else:
                self._own(job, job.point_id)
                refresh.append(job)
        changed = self._without_failed(changed)
        for job in refresh:
            self._note_root(job)
        if self._dry_ids is None:
            self._dispatch(refresh, changed)
        else:
            free = {*refresh, *self._reuse.claim(changed)}
            for job in refresh + changed:
                self._settle_dry(job, self._dry_ids, is_free=job in free)

    def _without_failed(self, changed: Sequence[Job]) -> list[Job]:
        """Those jobs whose contents have not failed for good before; the others fail now."""
        failed = self._failed_contents.among(job.sha256 for job in changed)
        for job in changed:
            job.failed_before = self._failed_contents.is_retried(job.sha256)
            if job.sha256 in failed:
                self._finish(job, Failure(name=job.candidate.name, stage="embed", reason=failed[job.sha256]))
        return [job for job in changed if job.sha256 not in failed]

    def _dispatch(self, refresh: Sequence[Job], changed: Sequence[Job]) -> None:
        """Have jobs written whose contents have a vector already, and the others embedded."""
        # A content that is under way is not looked for: it may be moving from one point to another just now.
        here = [job for job in changed if job.content_key not in self._waiting]
        vectors = self._reuse.vectors_of(refresh, changed, here)
        for job in [*refresh, *changed]:
            if job in vectors and job.moved_from is None:
                continue
            if job.content_key not in self._waiting:
                self._own(job, job.content_key)
                if job not in vectors:
                    self._ready.append(job)
            elif job not in vectors:
                self._wait(job, job.content_key)
        if vectors:
            self._embedded.append(WriteTask(list(vectors), np.stack(list(vectors.values()))))

    def _note_root(self, job: Job) -> None:
        """Remember a folder that has moved, so that what is left of it can be removed."""
        before = None if job.known is None else job.known.payload.get("root")
        if isinstance(before, str) and before != job.candidate.root and not os.path.exists(before):  # noqa: PTH110
            self._moved_roots.add(before)

    def _own(self, job: Job, key: object) -> None:
        if key not in self._waiting:
            job.holds_keys = (*job.holds_keys, key)
            self._waiting[key] = []

    def _wait(self, job: Job, key: object) -> None:
        job.looked_up = False
        self._waiting[key].append(job)

    def _settle_dry(self, job: Job, seen: set[PointId], *, is_free: bool) -> None:
        self._tally.settle("unchanged" if job.point_id in seen else job.outcome)
        seen.add(job.point_id)
        if not is_free and job.sha256 not in self._dry_contents:
            self._dry_contents.add(job.sha256)
            self._tally.embedded += 1
        self._finish(job)

    def _submit_write(self) -> None:
        writes: list[WriteTask] = []
        size = 0
        while self._embedded and (not writes or size + len(self._embedded[0].jobs) <= MAX_RECORDS):
            writes.append(self._embedded.popleft())
            size += len(writes[-1].jobs)
        jobs = [job for write in writes for job in write.jobs]
        self._writer.submit(WriteTask(jobs, np.concatenate([write.vectors for write in writes])))

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
                self._loaders.settle()
                self._tally.stage_seconds["load"] += done.seconds
                self._settle_load(task.job, done.result, error)
            case EmbedTask() | ProbeTask():
                self._tally.stage_seconds["embed"] += done.seconds
                self._settle_embed(self._stage.settle(task, done.result, error, done.seconds))
            case WriteTask():
                self._writer.settle()
                self._tally.stage_seconds["write"] += done.seconds
                self._settle_write(task, done.result, error)

    def _settle_write(self, task: WriteTask, written: Written | None, error: BaseException | None) -> None:
        if written is not None:
            error = written.error
            for number in written.done:
                job = task.jobs[number]
                self._tally.settle(job.outcome, stored=job.point_id)
                self._finish(job)
            for number, reason in written.refused.items():
                job = task.jobs[number]
                self._finish(job, Failure(name=job.candidate.name, stage="write", reason=reason))
        if error is not None:
            self._store_failed = True
            self._abort(error)

    def _settle_load(self, job: Job, loaded: Loaded | None, error: BaseException | None) -> None:
        job.is_loaded = True
        if isinstance(error, (ContentError, ConfigurationError)):
            self._verdicts.settle(job, error)
            if job.candidate.path is not None:  # nothing of it is in memory any more
                self._held_bytes -= job.given_bytes
                job.given_bytes = 0
        elif error is not None:
            self._abort(error)
        else:
            self._held_bytes -= job.held_bytes
            job.loaded, job.candidate.given = loaded, None  # what came is not needed any more
            self._held_bytes += job.held_bytes
            self._reuse.met(job)

    def _settle_embed(self, embedded: Embedded) -> None:
        self._embedded += embedded.writes
        self._tally.embedded += sum(len(write.jobs) for write in embedded.writes)
        for job, failure in embedded.failed:
            self._finish(job, failure)
        if embedded.error is not None:
            self._abort(embedded.error, embedded.message)

    def _finish(self, job: Job, failure: Failure | None = None) -> None:
        if failure is not None:
            self._fail(failure)
        if job.ignored:
            self._tally.ignored[job.ignored] += 1
        self._reuse.mark_stale(job, but=None if failure is not None or job.ignored else job.id)
        self._alive -= 1
        if job.in_flight_id is not None:
            self._alive_ids[job.in_flight_id] -= 1
            if not self._alive_ids[job.in_flight_id]:
                del self._alive_ids[job.in_flight_id]
        self._held_bytes -= job.held_bytes
        self._identities.settled(job.candidate, job.sha256)
        for key in job.holds_keys:
            self._loaded.extend(self._waiting.pop(key))

    def _fail(self, failure: Failure) -> None:
        self._tally.failed.append(failure)
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
        self._to_load.clear()
        self._loading.clear()
        self._loaded.clear()
        self._ready.clear()
        self._stage.give_up()
        if self._store_failed:
            self._embedded.clear()

    # -- the other threads ---------------------------------------------------------------------------------------------

    def _load(self, task: LoadTask) -> Loaded:
        return load(task.job.candidate, self._embedder)

    def _write(self, task: WriteTask) -> Written:
        written = self._record_writer.write([Record(job.point_id, job.fields) for job in task.jobs], task.vectors)
        left = [place for number in written.done if (place := task.jobs[number].moved_from) is not None]
        if left:
            self._store.delete(left)
        return written
