"""One candidate in an indexing run, and the tasks of other threads."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from multimodal_search._indexing.candidate import Candidate
from multimodal_search._indexing.ledger import FileState
from multimodal_search._indexing.loading import Loaded
from multimodal_search._indexing.run_stats import Outcome
from multimodal_search._payload import user_fields, with_user_fields
from multimodal_search.contents import Modality
from multimodal_search.errors import ContentError
from multimodal_search.media.system_files import is_below_clutter
from multimodal_search.report import Failure
from multimodal_search.types import FloatArray, PointId, Record


@dataclass(slots=True, eq=False)
class Job:
    """One candidate, and what is known about it by now.

    Attributes:
        candidate: What may be indexed.
        id: Of its point, once that is known.
        known: The point's stored record, if there is one.
        previous_records: What the store held for its very file when the run came to it.
        looked_up: Whether `known` is what the store holds.
        in_flight_id: The id under which it is counted among those under way.
        holds_keys: Ids and hashes for which other jobs wait until this one is through.
        is_loaded: Whether it has been to the loading threads, which gave it `loaded` or `failure`.
        loaded: What was read.
        given_bytes: Memory that the content took when it came, if it came in memory; while a file is read, its size.
        failure: What is wrong with it.
        ignored: What its file is instead of an image, if it is none.
        failed_before: Whether its content failed in an earlier run, and is tried again.
        moved_from: The point whose place it takes, of a file that is gone.
        moved_record: That point's record.
    """

    candidate: Candidate
    id: PointId | None
    known: Record | None = None
    previous_records: Sequence[Record] = ()
    looked_up: bool = False
    in_flight_id: PointId | None = None
    holds_keys: tuple[object, ...] = ()
    is_loaded: bool = False
    loaded: Loaded | None = None
    given_bytes: int = 0
    failure: Failure | None = None
    ignored: str = ""
    failed_before: bool = False
    moved_from: PointId | None = None
    moved_record: Record | None = None

    @property
    def point_id(self) -> PointId:
        """The id, for jobs that have one for certain."""
        assert self.id is not None  # noqa: S101 (given by then, at the latest)
        return self.id

    @property
    def sha256(self) -> str:
        """Of the content, once it is loaded."""
        return "" if self.loaded is None else self.loaded.sha256

    @property
    def truncated_name(self) -> str | None:
        """Its name, if the model sees only the beginning of its text."""
        return self.candidate.name if self.loaded is not None and self.loaded.is_truncated else None

    @property
    def file_state(self) -> FileState | None:
        """Its file as it was found; None if it is none."""
        path, found = self.candidate.path, self.candidate.size_and_mtime
        return None if path is None or found is None else FileState(path, *found)

    @property
    def content_key(self) -> tuple[str, str]:
        """The key under which jobs wait for another one with the same content."""
        return "sha256", self.sha256

    @property
    def fields(self) -> dict[str, Any]:
        """The payload to store, once it is loaded; fields that the user once gave stay, if the source has none."""
        if self.loaded is None:
            return {}
        before = self.known if self.moved_record is None else self.moved_record
        if self.candidate.payload is not None or before is None:
            return self.loaded.fields
        return {**user_fields(before.payload), **self.loaded.fields}

    @property
    def held_bytes(self) -> int:
        """Memory that the content takes: as it came, and once it is loaded, as that."""
        return self.given_bytes if self.loaded is None else self.loaded.held_bytes

    @property
    def is_content_known(self) -> bool:
        """Whether the stored point has this very content."""
        return self.known is not None and self.known.payload.get("sha256") == self.sha256

    def is_at_place_of(self, record: Record) -> bool:
        """Whether a stored point stands for this very file."""
        place = (self.candidate.root, self.candidate.filename)
        return None not in place and place == (record.payload.get("root"), record.payload.get("filename"))

    def is_untouched_since(self, record: Record) -> bool:
        """Whether a file is where, and as, it was when it was indexed, and its fields are the same too; unread."""
        if self.candidate.path is None or self.candidate.size_and_mtime is None or not self.is_at_place_of(record):
            return False
        stored = record.payload
        if self.candidate.size_and_mtime != (stored.get("size"), stored.get("mtime_ns")):
            return False
        if self.candidate.payload is None:
            return True
        try:
            return with_user_fields({}, self.candidate.payload) == user_fields(stored)
        except ContentError:
            return False  # loading it will tell why

    @property
    def outcome(self) -> Outcome:
        """How to count it, when it is stored."""
        if self.moved_from is not None:
            return "moved"
        if self.known is None:
            return "added"
        if not self.is_content_known or user_fields(self.known.payload) != user_fields(self.fields):
            return "updated"
        # The same content and fields: only its place or its time had changed.
        return "unchanged" if self.known.payload.get("filename") == self.fields.get("filename") else "moved"

    @property
    def other_file(self) -> str:
        """The file that the stored point stands for, if it may be there and is not the candidate's; else empty."""
        if self.known is None or self.candidate.root is None or self.candidate.filename is None:
            return ""
        path = path_of(self.known)
        own = self.candidate.path or os.path.join(self.candidate.root, self.candidate.filename)  # noqa: PTH118
        return "" if not path or _is_same(path, own) or is_gone(path, root=self.known.payload["root"]) else path

    @property
    def is_kept_by_other(self) -> bool:
        """Whether the stored point stands for another file, which is as it was when it was indexed."""
        if self.known is None or self.candidate.id is not None or not self.other_file:
            return False
        if is_below_clutter(str(self.known.payload.get("filename"))):  # such as a copy in the trash
            return False
        try:
            status = os.stat(self.other_file)  # noqa: PTH116
        except OSError:
            return True  # in an archive, or not to be looked at just now
        stored = self.known.payload
        return (status.st_size, status.st_mtime_ns) == (stored.get("size"), stored.get("mtime_ns"))


def _is_same(path: str, other: str) -> bool:
    """Whether two paths are one file, by whatever names."""
    if path == other:
        return True
    try:
        return os.path.samefile(path, other)  # noqa: PTH121
    except (OSError, ValueError):  # a ValueError: its name is none that this locale can spell
        return False


def path_of(record: Record, *, root: str | None = None) -> str:
    """The file that a stored record stands for, or would below another root; empty if it stands for none."""
    # A string, for there may be millions.
    root, filename = record.payload.get("root") if root is None else root, record.payload.get("filename")
    return os.path.join(root, filename) if isinstance(root, str) and isinstance(filename, str) else ""  # noqa: PTH118


def is_gone(path: str, *, root: str) -> bool:
    """Whether there is no such file below a root any more, by the word of the operating system.

    One that may not be looked at is not gone, nor is one in an archive that is there.
    """
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        return not os.path.isfile(root)  # noqa: PTH113
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class LoadTask:
    """A job to load."""

    job: Job


@dataclass(slots=True, eq=False)
class Trial:
    """The search for the items at fault in a batch that failed.

    Attributes:
        error: What came of the batch, then of the part that failed last.
        is_slow: Whether failing takes as long as a time-out.
        has_groups: Whether it is tried in groups already, as is done where failing is slow.
        is_searched: Whether parts of it have been tried.
        works: Whether anything has come through since the batch failed.
        least_failed: Items in the smallest part that has failed after that.
        most_passed: Items in the largest part that has come through.
        has_several: Whether one item at fault has been found, so that a part that fails now holds another.
        first_error: What came of the batch.
    """

    error: Exception
    is_slow: bool = False
    has_groups: bool = False
    is_searched: bool = False
    works: bool = False
    least_failed: float = math.inf
    most_passed: int = 0
    has_several: bool = False
    first_error: Exception = field(init=False)

    def __post_init__(self) -> None:
        self.first_error = self.error

    @property
    def is_certain(self) -> bool:
        """Whether a part has failed while the embedder worked, and for no other reason than what is in it."""
        return self.least_failed <= self.most_passed


@dataclass(frozen=True, slots=True)
class EmbedTask:
    """Jobs to embed in one call.

    Attributes:
        jobs: These.
        trial: What they are tried for, if they are a part of a batch that failed.
        others: Hold an item at fault if these do not.
        rest: More of that batch, of which nothing is known, to be tried when the one at fault is found.
        is_rest: Whether these are that rest, and `others` the one.
    """

    jobs: Sequence[Job]
    trial: Trial | None = None
    others: Sequence[Job] = ()
    rest: Sequence[Job] = ()
    is_rest: bool = False


@dataclass(frozen=True, slots=True)
class ProbeTask:
    """A neutral content to embed, to see whether the embedder works.

    Attributes:
        modality: As of what has failed.
        is_repeated: Whether the call is repeated while trouble may pass.
    """

    modality: Modality
    is_repeated: bool = False


@dataclass(frozen=True, slots=True)
class WriteTask:
    """Jobs to store with their vectors, shape `(len(jobs), dimension)`."""

    jobs: Sequence[Job]
    vectors: FloatArray

    @property
    def moves(self) -> bool:
        """Whether points have to be deleted, as jobs take their places."""
        return any(job.moved_from is not None for job in self.jobs)


Task: TypeAlias = LoadTask | EmbedTask | ProbeTask | WriteTask
"""What other threads do."""
