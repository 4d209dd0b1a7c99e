"""The pipeline: scan, load, embed, write. Every stage is bounded; a bad item costs itself alone.

One thread, the caller's, decides everything and owns all state. It pulls candidates from the source, recognises what is
stored already, has the rest loaded by some threads, forms batches, has those embedded by others, and finished vectors
written by one, and counts. Those threads hold no state, and answer through one inbox.
"""

from __future__ import annotations

import os
import queue
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from multimodal_search._batching import Done, Workers
from multimodal_search._embedding import CheckedEmbedder
from multimodal_search._identity import Identities
from multimodal_search._loading import Loaded, load
from multimodal_search._payload import user_fields, with_user_fields
from multimodal_search._progress import IndexProgress, ProgressCallback
from multimodal_search._sources import Candidate, Source
from multimodal_search.errors import ConfigurationError, ContentError, IndexingError, IndexingInterrupted
from multimodal_search.protocols import VectorStore
from multimodal_search.results import Failure, IndexReport
from multimodal_search.types import FloatArray, PointId, Record

LOOK_UP = 256  # candidates whose ids are looked up in the store together
LINGER_S = 1.0  # seconds that a batch waits to become full
WRITE = 512  # most records in one write
LOADERS = min(8, (os.cpu_count() or 1) + 2)
WINDOW_BYTES = 256 * 1024 * 1024


@dataclass(slots=True, eq=False)
class _Job:
    """One candidate on its way through the pipeline."""

    candidate: Candidate
    id: PointId | None
    known: Record | None = None
    looked_up: bool = False  # whether `known` is what the store holds
    counted_id: PointId | None = None  # as it stands in the count of ids under way
    owns_id: bool = False  # whether other jobs of this id wait for this one
    came_back: bool = False  # from the loading threads, with one of these two:
    loaded: Loaded | None = None
    failure: Failure | None = None

    @property
    def sha256(self) -> str:
        return "" if self.loaded is None else self.loaded.sha256

    @property
    def fields(self) -> dict[str, Any]:
        return {} if self.loaded is None else self.loaded.fields

    @property
    def held_bytes(self) -> int:
        return 0 if self.loaded is None else self.loaded.held_bytes


@dataclass(frozen=True, slots=True)
class _Load:
    job: _Job


@dataclass(frozen=True, slots=True)
class _Batch:
    """Jobs to embed in one call; `others` hold a culprit if these do not."""

    jobs: Sequence[_Job]
    others: Sequence[_Job] = ()


@dataclass(frozen=True, slots=True)
class _Write:
    jobs: Sequence[_Job]
    vectors: FloatArray


_Task: TypeAlias = _Load | _Batch | _Write
_Inbox: TypeAlias = "queue.SimpleQueue[Done[Any, Any]]"


class IndexingRun:
    """One run of the pipeline; used once.

    Args:
        embedder: Turns contents into vectors.
        store: Takes them; already ensured.
        identities: Tells which stored point a candidate is.
        raise_errors: Whether the first failed item ends the run.
        observe: Called with each event.
        total: How many candidates there will be, if known.
        window_bytes: Most bytes of loaded contents that wait in memory.
    """

    def __init__(
        self,
        embedder: CheckedEmbedder,
        store: VectorStore,
        identities: Identities,
        *,
        raise_errors: bool,
        observe: ProgressCallback,
        total: int | None = None,
        window_bytes: int = WINDOW_BYTES,
    ) -> None:
        spec = embedder.spec
        self._embedder = embedder
        self._store = store
        self._identities = identities
        self._raise_errors = raise_errors
        self._observe = observe
        self._total = total
        self._window_bytes = window_bytes
        self._window_items = spec.max_batch * (spec.max_concurrency + 2) + 4 * LOADERS

        self._inbox: _Inbox = queue.SimpleQueue()
        self._loaders = Workers[_Load, Loaded](self._load, self._inbox, threads=LOADERS, name="multimodal-load")
        self._embedders = Workers[_Batch, FloatArray](
            self._embed, self._inbox, threads=spec.max_concurrency, name="multimodal-embed"
        )
        self._writer = Workers[_Write, None](self._write, self._inbox, threads=1, name="multimodal-write")

        self._to_load: deque[_Job] = deque()
        self._loading: deque[_Job] = deque()  # in the order of the source, so that ids and batches come out the same
        self._loaded: list[_Job] = []
        self._ready: deque[_Job] = deque()
        self._waiting: dict[PointId, list[_Job]] = {}  # by an id in flight: the jobs that have it too
        self._embedded: deque[_Write] = deque()
        self._lingering_since = 0.0
        self._alive = 0
        self._alive_ids: Counter[PointId] = Counter()
        self._held_bytes = 0
        self._fatal: Exception | None = None
        self._message = ""
        self._store_failed = False

        self._started = time.monotonic()
        self._told = 0.0
        self._counts = {"added": 0, "updated": 0, "unchanged": 0, "embedded": 0}
        self._failed: list[Failure] = []
        self._stored: list[PointId] = []

    def run(self, source: Source) -> IndexReport:
        """Index everything the source yields.

        Raises:
            IndexingError: The embedder or the store failed for good, or an item failed and `raise_errors` is set.
            IndexingInterrupted: Ctrl-C.
        """
        try:
            self._go(source)
        except KeyboardInterrupt:
            report = self.report()
            raise IndexingInterrupted(f"interrupted ({report})", report=report) from None
        finally:
            self._stop()
            self._tell(finished=True)
        report = self.report()
        if self._fatal is not None:
            raise IndexingError(f"{self._message} (until then: {report})", report=report) from self._fatal
        return report

    def report(self) -> IndexReport:
        """What has been done so far."""
        return IndexReport(**self._counts, failed=tuple(self._failed), seconds=time.monotonic() - self._started)

    # -- the deciding thread -------------------------------------------------------------------------------------------

    def _go(self, source: Source) -> None:
        exhausted = False
        while True:
            if self._fatal is not None:
                exhausted = True
                self._drop()
            if not exhausted and self._has_room():
                exhausted = not self._pull(source)
            self._advance(exhausted=exhausted)
            in_flight = self._in_flight()
            if exhausted and not in_flight:
                return
            self._receive(block=in_flight > 0 and (exhausted or not self._has_room()))
            self._tell()

    def _has_room(self) -> bool:
        return self._alive < self._window_items and self._held_bytes < self._window_bytes

    def _in_flight(self) -> int:
        return self._loaders.in_flight + self._embedders.in_flight + self._writer.in_flight

    def _pull(self, source: Source) -> bool:
        """Take some candidates, set aside those that are stored unchanged, and queue the others for loading."""
        jobs: list[_Job] = []
        more = True
        patience = time.monotonic() + 0.05  # a slow source must not hold back what it has yielded already
        while len(jobs) < min(LOOK_UP, self._window_items - self._alive) and time.monotonic() < patience:
            try:
                candidate = next(source, None)
            except Exception as error:  # noqa: BLE001 (the user's own iterable may raise anything)
                self._stop_at(error, f"the source of items raised {type(error).__name__}: {error}")
                break
            if candidate is None:
                more = False
                break
            if isinstance(candidate, Failure):
                self._fail(candidate)
                continue
            try:
                jobs.append(_Job(candidate, self._identities.id_before_reading(candidate)))
            except ConfigurationError as error:
                self._fail(Failure(name=candidate.name, stage="scan", reason=str(error)))
        known = self._identities.known_before_reading([(job.candidate, job.id) for job in jobs]) if jobs else []
        for job, record in zip(jobs, known, strict=True):
            job.known = record
            # While a twin is under way, what the store holds now may not be what it holds then.
            job.looked_up = job.id is not None and job.id not in self._alive_ids
            if record is not None:
                job.id = record.id
                if _is_untouched(job.candidate, record):
                    self._counts["unchanged"] += 1
                    continue
            self._alive += 1
            if job.id is not None:
                self._alive_ids[job.id] += 1
                job.counted_id = job.id
            self._loading.append(job)
            self._to_load.append(job)
        return more

    def _advance(self, *, exhausted: bool) -> None:
        """Move everything on that can move on."""
        while self._to_load and self._loaders.in_flight < 2 * LOADERS and self._held_bytes < self._window_bytes:
            self._loaders.submit(_Load(self._to_load.popleft()))
        while self._loading and self._loading[0].came_back:
            job = self._loading.popleft()
            if job.failure is None:
                self._loaded.append(job)
            else:
                self._finish(job, job.failure)

        batch = self._embedder.spec.max_batch
        # Batches go out full, except when nothing is under way that could fill them, or a source is so slow.
        waits = self._loaders.in_flight > 0 or not (exhausted or self._embedders.in_flight == 0)
        now = time.monotonic()
        if not self._loaded and not self._ready:
            self._lingering_since = now
        waits = waits and now - self._lingering_since < LINGER_S
        if len(self._loaded) >= batch or (self._loaded and not waits):
            self._recognise()
        while self._embedders.in_flight < self._embedder.spec.max_concurrency and self._ready:
            if len(self._ready) < batch and (waits or self._loaded):
                break
            jobs = [self._ready.popleft() for _ in range(min(batch, len(self._ready)))]
            self._embedders.submit(_Batch(jobs))
        if self._embedded and self._writer.in_flight == 0:
            self._submit_write()

    def _recognise(self) -> None:
        """Give ids to loaded jobs, and set those aside whose content is stored already."""
        jobs, self._loaded = self._loaded, []
        new = [job for job in jobs if not job.looked_up]
        found = (
            self._identities.known_after_reading([(job.candidate, job.id, job.sha256) for job in new]) if new else []
        )
        for job, (point_id, record) in zip(new, found, strict=True):
            job.id, job.known, job.looked_up = point_id, record, True
        refresh: list[_Job] = []
        for job in jobs:
            assert job.id is not None  # noqa: S101 (given above, at the latest)
            if job.id in self._waiting:
                job.looked_up = False
                self._waiting[job.id].append(job)
            elif job.known is None or job.known.payload.get("sha256") != job.sha256:
                taken = None if job.known is None else _taken_by(job.known, job.candidate)
                if taken is None:
                    self._own(job)
                    self._ready.append(job)
                else:
                    self._finish(job, Failure(name=job.candidate.name, stage="scan", reason=taken))
            elif dict(job.known.payload) == job.fields or _other_file(job.known, job.candidate):
                self._counts["unchanged"] += 1
                self._finish(job)
            else:
                self._own(job)
                refresh.append(job)
        if refresh:
            self._refresh(refresh)

    def _own(self, job: _Job) -> None:
        assert job.id is not None  # noqa: S101 (only recognised jobs come here)
        job.owns_id = True
        self._waiting[job.id] = []

    def _refresh(self, jobs: Sequence[_Job]) -> None:
        """Write new payloads beside the vectors that are stored."""
        records = self._store.get([job.id for job in jobs if job.id is not None], with_vectors=True)
        kept: list[tuple[_Job, FloatArray]] = []
        for job, record in zip(jobs, records, strict=True):
            if record is None or record.vector is None:  # deleted by somebody else since
                self._ready.append(job)
            else:
                kept.append((job, record.vector))
        if kept:
            self._embedded.append(_Write([job for job, _ in kept], np.stack([vector for _, vector in kept])))

    def _submit_write(self) -> None:
        writes: list[_Write] = []
        size = 0
        while self._embedded and (not writes or size + len(self._embedded[0].jobs) <= WRITE):
            writes.append(self._embedded.popleft())
            size += len(writes[-1].jobs)
        jobs = [job for write in writes for job in write.jobs]
        self._writer.submit(_Write(jobs, np.concatenate([write.vectors for write in writes])))

    def _receive(self, *, block: bool) -> None:
        """Take in what the other threads have finished; wait for the first if asked to."""
        try:
            # With a timeout, so that Ctrl-C gets through where a wait without one cannot be interrupted.
            done = self._inbox.get(timeout=0.2) if block else self._inbox.get_nowait()
            while True:
                self._settle(done)
                done = self._inbox.get_nowait()
        except queue.Empty:
            pass

    def _settle(self, done: Done[_Task, Any]) -> None:
        task, error = done.task, done.error
        if isinstance(task, _Load):
            self._loaders.settle()
            task.job.came_back = True
            if isinstance(error, (ContentError, ConfigurationError)):
                name = task.job.candidate.name
                task.job.failure = Failure(name=name, stage="load", reason=str(error).removeprefix(f"{name}: "))
            elif error is not None:
                self._stop_at(error)
            else:
                task.job.loaded = done.result
                self._held_bytes += task.job.held_bytes
        elif isinstance(task, _Batch):
            self._embedders.settle()
            if isinstance(error, ContentError):
                for job in task.jobs:
                    job.failure = Failure(name=job.candidate.name, stage="embed", reason=str(error))
                self._narrow(task.jobs)
                self._ready.extendleft(reversed(task.others))
            elif error is not None:
                self._stop_at(error)
            else:
                self._counts["embedded"] += len(task.jobs)
                self._embedded.append(_Write(task.jobs, np.asarray(done.result)))
                self._narrow(task.others)
        else:
            self._writer.settle()
            if error is not None:
                self._store_failed = True
                self._stop_at(error)
            else:
                for job in task.jobs:
                    self._count_written(job)

    def _narrow(self, jobs: Sequence[_Job]) -> None:
        """Among these jobs stands one that the embedder refuses: halve until it stands alone.

        When a first half goes through, the culprit is in the other, which need not be tried whole; when it does not,
        the other half is innocent for all we know, and joins the next batch. So a culprit costs log2(n) calls.
        """
        if len(jobs) == 1:
            self._finish(jobs[0], jobs[0].failure)
        elif jobs and self._fatal is None:
            half = (len(jobs) + 1) // 2
            self._embedders.submit(_Batch(jobs[:half], others=jobs[half:]))

    def _count_written(self, job: _Job) -> None:
        if job.known is None:
            self._counts["added"] += 1
        elif job.known.payload.get("sha256") == job.sha256 and user_fields(job.known.payload) == user_fields(
            job.fields
        ):
            self._counts["unchanged"] += 1  # only its place or time had changed
        else:
            self._counts["updated"] += 1
        if job.id is not None:
            self._stored.append(job.id)
        self._finish(job)

    def _finish(self, job: _Job, failure: Failure | None = None) -> None:
        if failure is not None:
            self._fail(failure)
        self._alive -= 1
        if job.counted_id is not None:
            self._alive_ids[job.counted_id] -= 1
            if not self._alive_ids[job.counted_id]:
                del self._alive_ids[job.counted_id]
        self._held_bytes -= job.held_bytes
        self._identities.settled(job.candidate, job.sha256)
        if job.owns_id and job.id is not None:
            self._loaded.extend(self._waiting.pop(job.id))

    def _fail(self, failure: Failure) -> None:
        self._failed.append(failure)
        if self._raise_errors and self._fatal is None:
            self._fatal = ContentError(str(failure))

    def _stop_at(self, error: BaseException, message: str | None = None) -> None:
        """End the run: nothing new begins, and what has been embedded is still written."""
        if not isinstance(error, Exception):
            raise error
        if self._fatal is None:
            self._fatal = error
            self._message = message or str(error) or type(error).__name__

    def _drop(self) -> None:
        self._to_load.clear()
        self._loading.clear()
        self._loaded.clear()
        self._ready.clear()
        if self._store_failed:
            self._embedded.clear()

    def _stop(self) -> None:
        for workers in (self._loaders, self._embedders, self._writer):
            workers.stop(wait_s=0.0 if workers.in_flight else 1.0)

    def _tell(self, *, finished: bool = False) -> None:
        seconds = time.monotonic() - self._started
        if not (finished or self._stored or seconds - self._told > 0.1):
            return
        self._told = seconds
        stored, self._stored = tuple(self._stored), []
        done = self._counts["added"] + self._counts["updated"] + self._counts["unchanged"] + len(self._failed)
        event = IndexProgress(
            done=done, total=self._total, failed=len(self._failed), seconds=seconds, finished=finished, stored=stored
        )
        self._observe(event)

    # -- the other threads ---------------------------------------------------------------------------------------------

    def _load(self, task: _Load) -> Loaded:
        return load(task.job.candidate, self._embedder)

    def _embed(self, batch: _Batch) -> FloatArray:
        contents = [job.loaded.content for job in batch.jobs if job.loaded is not None]
        return self._embedder.embed(contents, role="document")

    def _write(self, write: _Write) -> None:
        records = [Record(job.id, job.fields) for job in write.jobs if job.id is not None]
        self._store.upsert(records, write.vectors)


def _is_untouched(candidate: Candidate, known: Record) -> bool:
    """Whether a file is where, and as, it was when it was indexed, and its fields are the same too."""
    stored = known.payload
    if candidate.path is None or (candidate.root, candidate.filename) != (stored.get("root"), stored.get("filename")):
        return False
    try:
        status = candidate.path.stat()
        fields = with_user_fields({}, candidate.payload)
    except (OSError, ContentError):
        return False  # loading it will tell why
    same_file = (status.st_size, status.st_mtime_ns) == (stored.get("size"), stored.get("mtime_ns"))
    return same_file and fields == user_fields(stored)


def _other_file(known: Record, candidate: Candidate) -> Path | None:
    """The file that a stored point stands for, if it is there and is not the candidate's."""
    root, filename = known.payload.get("root"), known.payload.get("filename")
    if not (isinstance(root, str) and isinstance(filename, str)) or candidate.path is None:
        return None
    path = Path(root, filename)
    return path if path != candidate.path and path.is_file() else None


def _taken_by(known: Record, candidate: Candidate) -> str | None:
    """Why a file may not take the place of a stored one: another folder's file of the same name, still there."""
    other = _other_file(known, candidate)
    if other is None or candidate.id is not None or candidate.root is None:
        return None
    root, filename = known.payload["root"], known.payload["filename"]
    common = os.path.commonpath([root, candidate.root])
    return f"the name {filename!r} is taken by {other}; index both under a common folder: root={common!r}"
