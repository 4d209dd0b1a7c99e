"""The state of a synchronization: which points' files have moved, changed, or were deleted."""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from multimodal_search._indexing.absence import DELETED, Absence, is_below, told
from multimodal_search._indexing.job import Job, path_of
from multimodal_search._indexing.ledger import Ledger
from multimodal_search._indexing.retrying_store import RetryingStore
from multimodal_search._indexing.run_stats import RunStats
from multimodal_search._indexing.walk import Walk
from multimodal_search.filters.nodes import Exactly
from multimodal_search.types import PointId

_CHUNK = 256


class FolderSync:
    """What a run finds out about the files of stored points, and the points that are deleted for that at its end.

    A run that does not synchronize a folder has one too: it says which folders have moved, and deletes nothing.

    Args:
        store: Where the points are.
        stats: Counts what is removed, and what stays because its file is out of sight.
        walk: The folder that is synchronized; None if no point may be moved or deleted.
        ledger: Knows the disks of earlier runs.
        gone: Paths whose missing files the user says are deleted.
        dry_run: Whether nothing is embedded or written.

    Attributes:
        absence: Tells deleted files from those that are out of sight; None without a walk.
        dry_run: As above.
        moved: Points whose contents were found in other files.
        moved_roots: Folders that are gone, whose points now stand for files of this run.
        planned: In a dry run, the points that would be stored.
        has_shared_points: Whether an item was counted whose point stands for another file.
    """

    def __init__(
        self,
        store: RetryingStore,
        stats: RunStats,
        walk: Walk | None,
        ledger: Ledger,
        *,
        gone: Sequence[str] = (),
        dry_run: bool = False,
    ) -> None:
        self._store = store
        self._stats = stats
        self._walk = walk
        self._ledger = ledger
        self.absence: Absence | None = None
        if walk is not None:
            self.absence = Absence(folder_of(walk), unread=walk.unread, gone=gone, disks=ledger.disks())
        self.dry_run = dry_run
        self.moved: set[PointId] = set()
        self.moved_roots: set[str] = set()
        self.planned: set[PointId] = set()
        self.has_shared_points = False
        self._stale: dict[PointId, str] = {}

    def met(self, job: Job) -> None:
        """Note that a job's file is there, and holds something."""
        if self.absence is not None and job.candidate.path is not None:
            self.absence.met(job.candidate.path)

    def mark_stale(self, job: Job, *, except_id: PointId | None = None) -> None:
        """Note that what the store held for a job's file is not what the file holds now, except for one point."""
        if self.absence is not None:
            self._stale |= {record.id: path_of(record) for record in job.previous_records if record.id != except_id}

    def note_moved_root(self, job: Job) -> None:
        """Note a folder that is gone, if a job's point is from there, so that what is left of it can be removed."""
        before = None if job.known is None else job.known.payload.get("root")
        if isinstance(before, str) and before != job.candidate.root and not os.path.exists(before):  # noqa: PTH110
            self.moved_roots.add(before)

    def prune(self, *, follow_contents: bool) -> None:
        """Delete the points of deleted files and stale points, after the walk.

        Args:
            follow_contents: Whether several files can be one point.
        """
        if self._walk is None or self.absence is None:
            return
        if follow_contents or not self._is_complete(self._walk, self.absence):
            for ids in itertools.chain(self._find_deleted(self._walk, self.absence), [self._find_stale()]):
                if not self.dry_run and ids:
                    self._store.delete(ids)
                self._stats.removed += len(ids)
        if not self.dry_run:
            self._ledger.remember_disks(self.absence.new_disks)
            self._ledger.forget_disks(self.absence.lost_disks)

    def _is_complete(self, walk: Walk, absence: Absence) -> bool:
        """Whether every point below the folder was met in the walk, so that none can have lost its file."""
        if self.dry_run or self._stats.failed or self.moved_roots or absence.gone_elsewhere or self.has_shared_points:
            return False
        # An estimate may be too low: then every point is looked at.
        return self._store.counts_exactly and self._store.count(_below(walk, walk.root)) <= self._stats.met

    def _find_stale(self) -> list[PointId]:
        """Stale points that still stand for the same files.

        Where ids follow contents, another file that has the content may have taken the point.
        """
        ids = [point_id for point_id in self._stale if point_id not in self.planned]
        chunks = (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))
        records = (record for chunk in chunks for record in self._store.get(chunk) if record is not None)
        return [record.id for record in records if path_of(record) == self._stale[record.id]]

    def _find_deleted(self, walk: Walk, absence: Absence) -> Iterator[list[PointId]]:
        """The points below the folder whose files were deleted, or are other programs' own, in lists of some hundred.

        Each file is looked at twice, the second time when its list is full: what went out of sight meanwhile stays.
        """
        here = folder_of(walk)
        kept: Collection[PointId] = self.moved | self.planned

        def is_deleted(filename: str, root: str) -> bool:
            if walk.is_clutter(filename):
                return True
            # Below the walk's own root, the look would find it, too.
            if root != walk.root and os.path.isfile(os.path.join(walk.root, filename)):  # noqa: PTH113, PTH118 (many)
                return False  # it has moved with the folder
            verdict = absence.look(os.path.join(root, filename))  # noqa: PTH118
            if verdict not in ("", DELETED):
                top = os.path.normpath(os.path.join(root, walk.below_root))  # noqa: PTH118
                self._stats.not_seen[told(top if is_below(top, verdict) else verdict, below=here)] += 1
            return verdict == DELETED

        candidates = (
            (record.id, str(record.payload["filename"]), root)
            for root in dict.fromkeys((walk.root, *self.moved_roots, *absence.gone_elsewhere))
            for record in self._store.scan(where=_below(walk, root), fields=["root", "filename"])
            if record.id not in kept
            and walk.covers(str(record.payload.get("filename")))
            and is_deleted(str(record.payload["filename"]), root)
        )
        while chunk := list(itertools.islice(candidates, _CHUNK)):
            yield [point_id for point_id, filename, root in chunk if is_deleted(filename, root)]


def _below(walk: Walk, root: str) -> dict[str, Any]:
    """The filter for points of files below a walked folder, by their root."""
    # Exactly: a folder whose name is spelled otherwise is another one.
    return {"root": Exactly(root), **({"filename": {"prefix": Exactly(walk.below_root)}} if walk.below_root else {})}


def folder_of(walk: Walk) -> str:
    """The walked folder, absolute."""
    return os.path.normpath(os.path.join(walk.root, walk.below_root))  # noqa: PTH118 (as paths are stored)
