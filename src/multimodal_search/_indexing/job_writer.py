"""Writes of finished jobs: some together, and the points that they have moved away from are deleted."""

from __future__ import annotations

from collections import deque

import numpy as np

from multimodal_search._indexing.job import Job, WriteTask
from multimodal_search._indexing.retrying_store import RetryingStore
from multimodal_search._indexing.writing import MAX_RECORDS, RecordWriter, Written
from multimodal_search.types import Record


class JobWriter:
    """Writes the points of one run's jobs; used by one thread at a time.

    Args:
        store: Where they go.
    """

    def __init__(self, store: RetryingStore) -> None:
        self._store = store
        self._writer = RecordWriter(store)

    def write(self, task: WriteTask) -> Written:
        """Store jobs with their vectors."""
        written = self._writer.write([Record(job.point_id, job.fields) for job in task.jobs], task.vectors)
        left = [place for number in written.done if (place := task.jobs[number].moved_from) is not None]
        if left:
            self._store.delete(left)
        return written


def next_write(embedded: deque[WriteTask]) -> WriteTask:
    """Take as many jobs as go into one write, at least the first ones."""
    writes: list[WriteTask] = []
    jobs: list[Job] = []
    while embedded and (not writes or len(jobs) + len(embedded[0].jobs) <= MAX_RECORDS):
        writes.append(embedded.popleft())
        jobs += writes[-1].jobs
    return WriteTask(jobs, np.concatenate([write.vectors for write in writes]))
