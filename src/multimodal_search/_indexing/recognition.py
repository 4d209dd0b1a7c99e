"""Recognize items that are stored already, and contents that have a stored vector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from multimodal_search._indexing.candidate import Candidate
from multimodal_search._indexing.failed_contents import FailedContents
from multimodal_search._indexing.job import Job, WriteTask
from multimodal_search._indexing.point_finder import PointFinder
from multimodal_search._indexing.reuse import Reuse, name_taken
from multimodal_search._indexing.run_stats import RunStats
from multimodal_search._indexing.sync import FolderSync
from multimodal_search._indexing.verdicts import Verdicts
from multimodal_search.errors import StoreError
from multimodal_search.report import Failure
from multimodal_search.types import PointId, Record


@dataclass(slots=True)
class Recognized:
    """What is left to do for loaded jobs.

    Attributes:
        finished: Those with nothing left to do, and why they failed, if they did.
        to_embed: Those without a stored vector.
        writes: Those with a stored vector.
        error: Why stored vectors could not be looked up, so that the other jobs are in none of these.
    """

    finished: list[tuple[Job, Failure | None]] = field(default_factory=list)
    to_embed: list[Job] = field(default_factory=list)
    writes: list[WriteTask] = field(default_factory=list)
    error: StoreError | None = None


class Recognition:
    """Compares jobs with what is stored, and with each other: of two with one id or content, one waits.

    Args:
        finder: Finds their stored points.
        reuse: Finds their stored vectors.
        sync: Notes moved folders, and plans dry runs.
        failed_contents: Knows contents that failed before.
        verdicts: Knows files that could not be loaded before.
        stats: Counts jobs that are unchanged.
    """

    def __init__(
        self,
        finder: PointFinder,
        reuse: Reuse,
        sync: FolderSync,
        failed_contents: FailedContents,
        verdicts: Verdicts,
        stats: RunStats,
    ) -> None:
        self._finder = finder
        self._reuse = reuse
        self._sync = sync
        self._failed_contents = failed_contents
        self._verdicts = verdicts
        self._stats = stats
        self._waiting: dict[object, list[Job]] = {}  # by an id or a hash in flight: the jobs that have it too
        self._ids_in_flight: Counter[PointId] = Counter()
        self._dry_contents: set[str] = set()  # that would have to be embedded

    def job_of(self, candidate: Candidate) -> Job:
        """A candidate as a job.

        Raises:
            ConfigurationError: The user gave an id that is none, or the file's name cannot be stored.
        """
        return Job(candidate, self._finder.id_before_reading(candidate))

    def look_up(self, jobs: Sequence[Job]) -> list[Sequence[Record]]:
        """The stored records of jobs, as far as they can be found before these are loaded."""
        ids, found = self._finder.find_by_id_or_path([(job.candidate, job.id) for job in jobs])
        for job, point_id, records in zip(jobs, ids, found, strict=True):
            job.id = point_id
            job.previous_records = [record for record in records if job.is_at_place_of(record)]
        self._verdicts.recall(jobs)
        return found

    def is_in_flight(self, point_id: PointId) -> bool:
        """Whether a job with this id is under way, so that what the store holds now may not be what it holds then."""
        return point_id in self._ids_in_flight

    def begin(self, job: Job, records: Sequence[Record]) -> None:
        """Count a job as under way, at its stored point, if that stays the same whatever the job holds."""
        if records and (job.id is not None or not self._finder.scheme.follow_contents):
            job.known, job.id = records[0], records[0].id
        if job.id is not None:
            self._ids_in_flight[job.id] += 1
            job.in_flight_id = job.id

    def end(self, job: Job) -> list[Job]:
        """Forget a job that is finished, and get those that have waited for it."""
        if job.in_flight_id is not None:
            self._ids_in_flight[job.in_flight_id] -= 1
            if not self._ids_in_flight[job.in_flight_id]:
                del self._ids_in_flight[job.in_flight_id]
        self._finder.forget(job.candidate, job.sha256)
        return [each for key in job.holds_keys for each in self._waiting.pop(key)]

    def recognize(self, jobs: Sequence[Job]) -> Recognized:
        """Give ids to loaded jobs, and find out what is left to do for each."""
        result = Recognized()
        new = [job for job in jobs if not job.looked_up]
        found = self._finder.find_by_content([(job.candidate, job.id, job.sha256) for job in new]) if new else []
        for job, (point_id, record) in zip(new, found, strict=True):
            job.id, job.known, job.looked_up = point_id, record, True
        refresh: list[Job] = []
        changed: list[Job] = []
        for job in jobs:
            if job.point_id in self._waiting and job.point_id not in job.holds_keys:
                self._wait(job, job.point_id)
            elif not job.is_content_known:
                if job.candidate.id is None and (other := self._reuse.holder(job)):
                    result.finished.append((job, name_taken(job.candidate, other)))
                else:
                    changed.append(job)
                    self._hold(job, job.point_id)
            elif job.known is not None and (dict(job.known.payload) == job.fields or job.is_kept_by_other):
                self._sync.has_shared_points = self._sync.has_shared_points or job.is_kept_by_other
                self._stats.count("unchanged")
                result.finished.append((job, None))
            else:
                self._hold(job, job.point_id)
                refresh.append(job)
        changed = self._without_failed(changed, result)
        for job in refresh:
            self._sync.note_moved_root(job)
        try:
            if self._sync.dry_run:
                free = {*refresh, *self._reuse.claim(changed)}
                for job in refresh + changed:
                    self._plan(job, is_free=job in free)
                    result.finished.append((job, None))
            else:
                self._dispatch(refresh, changed, result)
        except StoreError as error:
            result.error = error
        return result

    def _without_failed(self, changed: Sequence[Job], result: Recognized) -> list[Job]:
        """Those jobs whose contents have not failed for good before; the others fail now."""
        failed = self._failed_contents.among(job.sha256 for job in changed)
        for job in changed:
            job.failed_before = self._failed_contents.is_retried(job.sha256)
            if job.sha256 in failed:
                failure = Failure(name=job.candidate.name, stage="embed", reason=failed[job.sha256])
                result.finished.append((job, failure))
        return [job for job in changed if job.sha256 not in failed]

    def _dispatch(self, refresh: Sequence[Job], changed: Sequence[Job], result: Recognized) -> None:
        """Have jobs written whose contents have a vector already, and the others embedded."""
        # A content that is under way is not looked for: it may be moving from one point to another just now.
        here = [job for job in changed if job.content_key not in self._waiting]
        vectors = self._reuse.vectors_of(refresh, changed, here)
        for job in [*refresh, *changed]:
            if job in vectors and job.moved_from is None:
                continue
            if job.content_key not in self._waiting:
                self._hold(job, job.content_key)
                if job not in vectors:
                    result.to_embed.append(job)
            elif job not in vectors:
                self._wait(job, job.content_key)
        if vectors:
            result.writes.append(WriteTask(list(vectors), np.stack(list(vectors.values()))))

    def _plan(self, job: Job, *, is_free: bool) -> None:
        """Count what a dry run would do with a job."""
        self._stats.count("unchanged" if job.point_id in self._sync.planned else job.outcome)
        self._sync.planned.add(job.point_id)
        if not is_free and job.sha256 not in self._dry_contents:
            self._dry_contents.add(job.sha256)
            self._stats.embedded += 1

    def _hold(self, job: Job, key: object) -> None:
        if key not in self._waiting:
            job.holds_keys = (*job.holds_keys, key)
            self._waiting[key] = []

    def _wait(self, job: Job, key: object) -> None:
        job.looked_up = False
        self._waiting[key].append(job)
