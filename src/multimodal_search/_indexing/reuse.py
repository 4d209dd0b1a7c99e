"""Vectors that are stored already: of files that were copied or moved, or that have swapped their names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from multimodal_search._indexing.absence import DELETED, Absence, is_below, is_respelled
from multimodal_search._indexing.candidate import Candidate
from multimodal_search._indexing.job import Job, path_of
from multimodal_search._indexing.point_finder import PointFinder
from multimodal_search._indexing.retrying_store import RetryingStore
from multimodal_search._indexing.sync import FolderSync
from multimodal_search.report import Failure
from multimodal_search.types import FloatArray, PointId, Record

DISPLACED_BYTES = 64 * 1024 * 1024
"""Most memory for vectors that have lost their place in the store."""

_CHUNK = 256
_SAMPLE = 64  # points of a folder that tell whether it has moved


class Reuse:
    """Finds the vectors of contents that are stored; in a sync, also which points' files have moved.

    Args:
        store: Where points are looked up.
        finder: Tells which points have a content.
        dimension: Length of the vectors.
        sync: Tells deleted files, whose points may be moved, and notes which are.
    """

    def __init__(self, store: RetryingStore, finder: PointFinder, sync: FolderSync, *, dimension: int) -> None:
        self._store = store
        self._finder = finder
        self._sync = sync
        self._most_displaced = max(1, DISPLACED_BYTES // (4 * dimension))
        # By their contents: vectors whose places others have taken, for files that swap names or move up by one.
        self._displaced: dict[str, FloatArray] = {}
        self._has_moved_to: dict[tuple[str, str], bool] = {}

    def vectors_of(self, refresh: Sequence[Job], changed: Sequence[Job], here: Sequence[Job]) -> dict[Job, FloatArray]:
        """The vectors of the contents of jobs, as far as they are stored.

        Args:
            refresh: Jobs whose points have these contents.
            changed: Jobs whose points have others, or that have none yet.
            here: Those of `changed` whose contents are not under way elsewhere.
        """
        if self._sync.absence is not None:
            self._remember_displaced(changed)
        vectors = {job: self._displaced[job.sha256] for job in changed if job.sha256 in self._displaced}
        wanted = [*((job, job.point_id) for job in refresh), *self.claim(here).items()]
        records = self._store.get([point_id for _, point_id in wanted], with_vectors=True) if wanted else []
        for (job, _), record in zip(wanted, records, strict=True):
            # A point may have changed since it was found.
            if record is not None and record.vector is not None and record.payload.get("sha256") == job.sha256:
                vectors[job] = record.vector
        for job in here:
            if job.moved_from is not None and job not in vectors:
                self._sync.moved.discard(job.moved_from)
                job.moved_from, job.moved_record = None, None
        return vectors

    def claim(self, jobs: Sequence[Job]) -> dict[Job, PointId]:
        """Stored points with the same contents as jobs; in a sync rather those whose files are gone."""
        claimed: dict[Job, PointId] = {}
        stored = self._finder.same_content([job.sha256 for job in jobs]) if jobs else {}
        for job in jobs:
            records = stored.get(job.sha256, [])
            if self._sync.absence is not None:
                left = (
                    each for each in records if each.id not in self._sync.moved and self._has_left(each, job.candidate)
                )
                job.moved_record = next(left, None)
                job.moved_from = None if job.moved_record is None else job.moved_record.id
            if job.moved_from is not None:
                self._sync.moved.add(job.moved_from)
                claimed[job] = job.moved_from
            elif records:
                claimed[job] = records[0].id
        return claimed

    def holder(self, job: Job) -> str:
        """The file that a job's point stands for, if it is another one that is there or out of sight; else empty.

        Args:
            job: Whose content is not that of its point.
        """
        if (other := job.other_file) or job.known is None:
            return other
        path, before, root = path_of(job.known), job.known.payload.get("root"), job.candidate.root
        if not path or root is None or before is None or before == root or before in self._sync.moved_roots:
            return ""
        absence = Absence(root) if self._sync.absence is None else self._sync.absence
        return path if absence.is_out_of_sight(path) and not self._has_moved(before, root) else ""

    def _remember_displaced(self, jobs: Sequence[Job]) -> None:
        """Keep the vectors that these jobs are going to replace by those of other contents."""
        ids = [job.point_id for job in jobs if job.known is not None]
        for record in self._store.get(ids, with_vectors=True) if ids else ():
            if record is not None and record.vector is not None and "sha256" in record.payload:
                self._displaced[record.payload["sha256"]] = record.vector
        while len(self._displaced) > self._most_displaced:
            del self._displaced[next(iter(self._displaced))]

    def _has_left(self, record: Record, candidate: Candidate) -> bool:
        """Whether a record's file was deleted from the folder that a candidate is in."""
        path, root = path_of(record), candidate.root
        if self._sync.absence is None or not path or root is None or root != record.payload.get("root"):
            return False
        own, verdict = candidate.path, self._sync.absence.look(path, early=True)
        if verdict == DELETED or (own is not None and is_respelled(path, own)):
            return True
        return bool(verdict) and self._holds_one_point(verdict, root)

    def _holds_one_point(self, folder: str, root: str) -> bool:
        """Whether an emptied folder had one file only: then that is the one that was found elsewhere."""
        if not os.path.isdir(folder) or not is_below(folder, root):  # noqa: PTH112
            return False
        prefix = "" if folder == root else f"{Path(folder).relative_to(root).as_posix()}/"
        return len(self._store.find({"root": root, "filename": {"prefix": prefix}}, most=2)) == 1

    def _has_moved(self, before: str, root: str) -> bool:
        """Whether a folder that is not there is the one that is indexed: most of its files are here, by their sizes."""
        if (before, root) not in self._has_moved_to:
            records = self._store.find({"root": before}, most=_SAMPLE)
            here = [_size(path_of(record, root=root)) == record.payload.get("size") for record in records]
            self._has_moved_to[before, root] = 2 * sum(here) > len(here)
        return self._has_moved_to[before, root]


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size  # noqa: PTH116 (of many)
    except (OSError, ValueError):
        return None


def name_taken(candidate: Candidate, other: str) -> Failure:
    """Why a file may not take the place of a stored one: another folder's file of the same name, still there."""
    if candidate.path is None:
        advice = "unpack the archive, or use ids=SequentialIds()"
    else:
        try:
            advice = f"index both under a common folder: root={os.path.commonpath([other, candidate.path])!r}"
        except ValueError:  # on two drives of Windows
            advice = "index them into two indexes, or use ids=SequentialIds()"
    reason = f"the name {candidate.filename!r} is taken by {other}; {advice}"
    return Failure(name=candidate.name, stage="scan", reason=reason)
