"""The writing stage of an indexing run: finished jobs into the store, some together, in as many threads as it takes."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np

from multimodal_search._indexing.job import Job, WriteTask
from multimodal_search._indexing.retrying_store import RetryingStore
from multimodal_search._indexing.writing import MAX_RECORDS, RecordWriter, Written
from multimodal_search._threads import Done, WorkerPool
from multimodal_search.types import Record


class WriteStage:
    """Writes jobs in a few threads; its methods are called by the deciding thread alone.

    No two jobs with one id are here at once, so that writes may pass each other. Only one that also deletes the points
    which its jobs have moved away from has the store for itself.

    Args:
        store: Where the points go.
        inbox: Where finished tasks go.
    """

    def __init__(self, store: RetryingStore, inbox: queue.SimpleQueue[Done[Any, Any]]) -> None:
        self._store = store
        self.max_concurrency = store.max_concurrent_upserts
        self._records = RecordWriter(store, threads=self.max_concurrency)
        self.workers = WorkerPool[WriteTask, Written](
            self._write, inbox, threads=self.max_concurrency, name="multimodal-write"
        )
        self._queued: deque[WriteTask] = deque()
        self._moves = False  # whether a write that moves points is under way

    @property
    def is_pending(self) -> bool:
        """Whether jobs wait to be written."""
        return bool(self._queued)

    def add(self, writes: Iterable[WriteTask]) -> None:
        """Queue jobs with their vectors."""
        self._queued += writes

    def go_on(self) -> None:
        """Have queued jobs written, as far as there are threads for it."""
        while self._queued and self.workers.in_flight < self.max_concurrency and not self._moves:
            is_alone = self.workers.in_flight == 0
            if not is_alone and self._queued[0].moves:
                break
            task = self._next(may_move=is_alone)
            self._moves = task.moves
            self.workers.submit(task)

    def collect(self) -> None:
        """Count a finished task out."""
        self.workers.task_done()
        self._moves = False

    def give_up(self) -> None:
        """Write nothing any more that has not begun."""
        self._queued.clear()

    def _next(self, *, may_move: bool) -> WriteTask:
        """Take as many jobs as go into one write, at least the first ones."""
        writes: list[WriteTask] = []
        jobs: list[Job] = []
        while self._queued and (not writes or len(jobs) + len(self._queued[0].jobs) <= MAX_RECORDS):
            if self._queued[0].moves and not may_move:
                break
            writes.append(self._queued.popleft())
            jobs += writes[-1].jobs
        return WriteTask(jobs, np.concatenate([write.vectors for write in writes]))

    def _write(self, task: WriteTask) -> Written:
        written = self._records.write([Record(job.point_id, job.fields) for job in task.jobs], task.vectors)
        left = [place for number in written.done if (place := task.jobs[number].moved_from) is not None]
        if left:
            self._store.delete(left)
        return written
