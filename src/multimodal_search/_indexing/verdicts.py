"""Remember which files cannot be indexed, so that later runs need not read them."""

from __future__ import annotations

from collections.abc import Sequence

from multimodal_search._indexing.job import Job
from multimodal_search._indexing.ledger import FileState, Ledger, Verdict
from multimodal_search.errors import (
    ConfigurationError,
    ContentError,
    NotAnImageError,
    UnreadableContentError,
    UnsupportedContentError,
)
from multimodal_search.report import Failure

_WRITE = 256  # verdicts that are written together; a run that is killed loses fewer


class Verdicts:
    """Remembers which files cannot be loaded, or are no images.

    Args:
        ledger: Where verdicts are kept; None where nothing is to be remembered.
        rules: What verdicts depend on besides the file: the decoders and the embedder's fingerprint.
        retry_failed: Whether files that failed for good are tried again.
        dry_run: Whether nothing is written.
    """

    def __init__(self, ledger: Ledger | None, *, rules: str, retry_failed: bool, dry_run: bool) -> None:
        self._ledger = ledger
        self._rules = rules
        self._retry_failed = retry_failed
        self._dry_run = dry_run
        self._new: list[tuple[FileState, Verdict]] = []

    def recall(self, jobs: Sequence[Job]) -> None:
        """Mark jobs whose files an earlier run could not load, and that have not changed since; nothing is read."""
        if self._ledger is None or self._ledger.is_empty:
            return
        states = {
            job: state
            for job in jobs
            if (state := job.file_state) is not None and not any(map(job.is_untouched_since, job.previous_records))
        }
        verdicts = self._ledger.of_files(list(states.values()), rules=self._rules) if states else []
        for job, verdict in zip(states, verdicts, strict=True):
            if verdict is None:
                continue
            if verdict.is_ignored and not job.candidate.is_named:
                job.ignored = verdict.reason
            elif not verdict.is_ignored and not self._retry_failed:
                reason = f"{verdict.reason} (as found earlier)"
                job.failure = Failure(name=job.candidate.name, stage="load", reason=reason)

    def reject(self, job: Job, error: ContentError | ConfigurationError) -> None:
        """Say why a job could not be loaded, and remember that if its file is to blame."""
        if isinstance(error, NotAnImageError) and not job.candidate.is_named:
            job.ignored = error.kind
            self._note(job, Verdict("ignored", "load", error.kind))
            return
        job.failure = Failure(name=job.candidate.name, stage="load", reason=str(error))
        if not _is_garbage(error):
            job.previous_records = ()  # whether these still hold nobody can tell just now
        elif isinstance(error, (UnreadableContentError, UnsupportedContentError)):
            self._note(job, Verdict("failed", "load", job.failure.reason))

    def flush(self) -> None:
        """Write what is not written yet."""
        if self._ledger is not None and self._new:
            self._ledger.remember_files(self._new, rules=self._rules)
        self._new = []

    def _note(self, job: Job, verdict: Verdict) -> None:
        # With the state from before it was read: if it was changed since, it is another file for the next run.
        if self._ledger is not None and not self._dry_run and (state := job.file_state) is not None:
            self._new.append((state, verdict))
            if len(self._new) >= _WRITE:
                self.flush()


def _is_garbage(error: ContentError | ConfigurationError) -> bool:
    """Whether a file is at fault itself, and not the disk, the memory, or a package that is missing."""
    cause = error.__cause__
    if isinstance(error, ConfigurationError) or isinstance(cause, (MemoryError, ImportError)):
        return False
    return not (isinstance(cause, OSError) and cause.errno is not None)
