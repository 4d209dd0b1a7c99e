"""The counts of an indexing run, sent as progress events and reported at the end."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal, TypeAlias

from multimodal_search._progress import Ticker
from multimodal_search._secrets import without_secrets
from multimodal_search.report import Failure, IndexReport, Progress, ProgressCallback, Stage, share_of
from multimodal_search.types import PointId, Usage

Outcome: TypeAlias = Literal["added", "updated", "moved", "unchanged"]
"""What can come of an item that does not fail."""


class RunStats:
    """The counts of one run.

    Args:
        on_progress: Called with each event.
        dry_run: Whether nothing is embedded or written.
    """

    def __init__(self, on_progress: ProgressCallback, *, dry_run: bool = False) -> None:
        self.total: int | None = None
        self.embedded = 0
        self.removed = 0
        self.truncated: list[str] = []
        self.failed: list[Failure] = []
        self.ignored: Counter[str] = Counter()
        self.not_seen: Counter[str] = Counter()
        self.passed_over: Counter[str] = Counter()
        self.stage_seconds = {"scan": 0.0, "load": 0.0, "embed": 0.0, "write": 0.0}
        self._outcomes: Counter[Outcome] = Counter()
        self._stored: list[PointId] = []
        self._dry_run = dry_run
        self._ticker = Ticker(on_progress, self._event)
        self._stage: Stage = "indexing"
        self._share: float | None = None

    @contextmanager
    def watching(self, total: int | Iterator[int] | None) -> Iterator[None]:
        """Send the last event at the end, and add up the numbers that make the total meanwhile."""
        over = threading.Event()

        def add_up(numbers: Iterator[int]) -> None:
            found = 0
            with suppress(OSError):
                for number in numbers:
                    if over.is_set():
                        return
                    found += number
                self.total = found

        if isinstance(total, Iterator):
            with suppress(RuntimeError):  # no more threads can be started: then the total is not known
                threading.Thread(target=add_up, args=(total,), name="multimodal-count", daemon=True).start()
        else:
            self.total = total
        try:
            with self._ticker.to_the_end():
                yield
        finally:
            over.set()

    def count(self, outcome: Outcome, stored: PointId | None = None) -> None:
        """Count an item that has come through, with the id of its point if that was written."""
        self._outcomes[outcome] += 1
        if stored is not None:
            self._stored.append(stored)

    def count_embedded(self, truncated: Iterable[str | None]) -> None:
        """Count items that the embedder turned into vectors, each by its name if only its beginning was seen."""
        for name in truncated:
            self.embedded += 1
            if name is not None:
                self.truncated.append(without_secrets(name))

    @property
    def met(self) -> int:
        """Items that have come through."""
        return sum(self._outcomes.values())

    @property
    def done(self) -> int:
        """Items finished."""
        return self.met + len(self.failed) + sum(self.ignored.values())

    def report(self, usage: Usage) -> IndexReport:
        """Everything so far; `usage` is what the embedder has sent for it."""
        return IndexReport(
            added=self._outcomes["added"],
            updated=self._outcomes["updated"],
            moved=self._outcomes["moved"],
            unchanged=self._outcomes["unchanged"],
            removed=self.removed,
            embedded=self.embedded,
            truncated=tuple(self.truncated),
            failed=tuple(self.failed),
            ignored=dict(self.ignored),
            not_seen=dict(self.not_seen),
            passed_over=dict(self.passed_over),
            calls=usage.calls,
            bytes_sent=usage.bytes_sent,
            seconds=self._ticker.seconds,
            stage_seconds=dict(self.stage_seconds),
            dry_run=self._dry_run,
        )

    def tell(self, *, stage: Stage | None = None, share: float | None = None) -> None:
        """Send an event, if there is news or some time has passed.

        Args:
            stage: What is done now; as before, if it is not said.
            share: How much of it is done, 0 to 1, where that is known and no matter of counting items.
        """
        is_new = stage is not None and stage != self._stage
        if is_new or share is not None:
            self._stage, self._share = stage or self._stage, share
        self._ticker.tell(is_news=is_new or bool(self._stored))

    def _event(self, seconds: float, finished: bool) -> Progress:
        stored, self._stored = tuple(self._stored), []
        return Progress(
            done=self.done,
            total=self.total,
            failed=len(self.failed),
            seconds=seconds,
            finished=finished,
            stage=self._stage,
            share=share_of(self.done, self.total) if self._stage == "indexing" else self._share,
            stored=stored,
        )
