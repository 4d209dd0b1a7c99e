"""Find the items that make a batch fail, by bisection.

An item is at fault when it fails alone while others come through. Where nothing else tells whether the embedder works,
one call with a neutral content does, a probe: when that fails too, nothing is called an item's fault.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from multimodal_search._indexing.job import EmbedTask, Job, ProbeTask, Trial
from multimodal_search.contents import modality_of
from multimodal_search.errors import ContentError, EmbedderUnavailableError
from multimodal_search.report import Failure

SLOW_S = 20.0
"""From here on a failure is as bad as a time-out; few HTTP clients give up earlier."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """An item at fault.

    Attributes:
        job: The item.
        error: What came of embedding it.
    """

    job: Job
    error: Exception


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """Jobs that failed together, to be judged once it is known whether the embedder works.

    Attributes:
        trial: The search that they belong to.
        jobs: These.
        error: What came of them.
        began: When, on the clock of `time.monotonic`, the call began.
        is_alone: Whether it is a single part, which is at fault if the embedder works.
    """

    trial: Trial
    jobs: Sequence[Job]
    error: Exception
    began: float
    is_alone: bool = False


class Isolation:
    """Decides what to try of the batches that failed; asked by the one thread that has it tried.

    Of a batch that failed fast, its first half is tried, then a half of the half that holds the culprit, and so on: the
    culprit is found after log2(n) calls, and the rest goes out together. If the rest fails, too, there are several, and
    its halves are searched side by side. Of one that ran into a time-out, groups of sqrt(n) are tried side by side, and
    then the items of the groups that did, so that there are two more time-outs, however many culprits.

    A batch waits until another one has come through, so that none is tried while the embedder is down. An item that
    fails alone is at fault if a part came through just before it, meanwhile, or next. Whole batches do not tell that:
    an embedder may repeat them until it is up again.

    Args:
        max_batch_size: Of the embedder.
    """

    def __init__(self, max_batch_size: int) -> None:
        self._max_batch = max_batch_size
        self._most_in_a_row = max(3, math.ceil(math.log2(max_batch_size)))  # what it takes to find one item
        self._held: list[_Held] = []
        self._due: list[EmbedTask | ProbeTask] = []
        self._guilty: list[Verdict] = []
        self._passed_at = self._part_passed_at = -math.inf
        self._in_a_row = 0  # parts that have failed since the last call that came through
        self.failure: Exception | None = None
        """Why nothing can be embedded any more, once that is clear."""
        self.message = ""
        """The same in words."""

    @property
    def is_pending(self) -> bool:
        """Whether anything waits for what becomes of other calls."""
        return bool(self._held)

    @property
    def is_in_doubt(self) -> bool:
        """Whether the embedder may be down, so that no other batch should go out."""
        return any(not each.is_alone for each in self._held)

    def take(self) -> tuple[Sequence[EmbedTask | ProbeTask], Sequence[Verdict]]:
        """What is to be tried, and who is at fault, since the last call."""
        due, guilty, self._due, self._guilty = self._due, self._guilty, [], []
        return due, guilty

    def drop(self) -> None:
        """Forget everything: the run ends."""
        self._held, self._due, self._guilty = [], [], []

    def passed(self, task: EmbedTask | ProbeTask) -> None:
        """A task came through, or some of its contents did: the embedder works."""
        self._passed_at, self._in_a_row = time.monotonic(), 0
        is_part = isinstance(task, EmbedTask) and task.trial is not None
        if is_part:
            self._part_passed_at = self._passed_at
        held, self._held = self._held, []
        for each in held:
            each.trial.works = True
            if not each.is_alone:
                self._start(each)
            elif is_part or (isinstance(task, ProbeTask) and not task.is_repeated):
                self._guilty.append(Verdict(each.jobs[0], each.error))
            elif isinstance(task, ProbeTask):  # the embedder was down, maybe then as well
                self._try(each.trial, each.jobs)
            else:
                self._held.append(each)
        if isinstance(task, EmbedTask) and task.trial is not None:
            task.trial.works = True
            task.trial.most_passed = max(task.trial.most_passed, len(task.jobs))
            if task.others:  # without others there is no rest either
                self._halve(task.trial, task.others, task.rest)

    def failed(self, task: EmbedTask | ProbeTask, error: Exception, seconds: float) -> None:
        """A task failed, after some seconds."""
        began = time.monotonic() - seconds
        if isinstance(task, ProbeTask):
            if self._held and self._passed_at <= began:
                # It may be down for a moment only, unless it was for as long as a batch is repeated.
                if not task.is_repeated and all(each.trial.works for each in self._held):
                    self._due.append(ProbeTask(task.modality, is_repeated=True))
                else:
                    self._give_up(self._held[0].trial.first_error)
            return
        if _says_nothing(error) and self._passed_at > began:
            self._due.append(task)
            return
        is_slow = getattr(error, "trouble", "") == "time-out" or (
            seconds >= SLOW_S and (task.trial is not None or not _passing(error))
        )
        if task.trial is None:
            each = _Held(Trial(error, is_slow=is_slow), task.jobs, error, began)
            if isinstance(error, ContentError):  # its own word that it works, and that a content is at fault
                each.trial.works = True
                self._start(each)
            else:
                self._held.append(each)
        else:
            task.trial.error, task.trial.is_slow = error, task.trial.is_slow or is_slow
            self._part_failed(task, task.trial, error, began)

    def decide(self) -> None:
        """Go on when nothing is under way that could tell whether the embedder works."""
        if all(_says_nothing(each.error) for each in self._held):
            self._give_up(self._held[0].trial.first_error)
            return
        first = self._held[0]
        trial = first.trial
        # One that works has been searched.
        if len(self._held) == 1 < len(first.jobs) and not (trial.is_slow or trial.is_searched):
            self._held.clear()
            trial.works = self._passed_at > first.began
            self._start(first)  # if not, then a part of it may tell
            return
        content = first.jobs[0].loaded.content if first.jobs[0].loaded is not None else None
        self._due.append(ProbeTask("text" if content is None else modality_of(content)))

    def _part_failed(self, task: EmbedTask, trial: Trial, error: Exception, began: float) -> None:
        jobs, left = task.jobs, [*task.others, *task.rest]
        if _says_nothing(error):
            self._held.append(_Held(trial, [*jobs, *left], error, began))
            return
        if trial.works:
            trial.least_failed = min(trial.least_failed, len(jobs))
        if not isinstance(error, ContentError):
            self._in_a_row += 1
        if len(jobs) == 1:
            # What is left is tried next, and tells more than what came through just before; a probe is not worth it.
            came_through = self._part_passed_at > began or (trial.works and self._in_a_row == 1 and not left)
            if isinstance(error, ContentError) or came_through:
                self._guilty.append(Verdict(jobs[0], error))
            else:
                self._held.append(_Held(trial, jobs, error, began, is_alone=True))
            trial.has_several = True
            self._try(trial, left)
        elif self._in_a_row > self._most_in_a_row:
            self._held.append(_Held(trial, jobs, error, began))
            self._try(trial, left)
        elif trial.is_slow:
            self._start(_Held(trial, jobs, error, began))
            self._try(trial, left)
        elif task.is_rest or (trial.has_several and not task.others):
            trial.has_several = False
            self._try(trial, task.others)
            half = (len(jobs) + 1) // 2
            self._try(trial, jobs[:half])
            self._try(trial, jobs[half:])
        else:
            self._halve(trial, jobs, left)

    def _start(self, held: _Held) -> None:
        """Search for the items at fault among jobs that failed together."""
        trial, jobs, error = held.trial, held.jobs, held.error
        trial.is_searched = True
        if _says_nothing(error):
            self._due.append(EmbedTask(jobs))
        elif len(jobs) > 1 and trial.is_slow:
            size = 1 if trial.has_groups or len(jobs) <= _FEW else math.isqrt(len(jobs) - 1) + 1
            trial.has_groups = True
            for start in range(0, len(jobs), size):
                self._try(trial, jobs[start : start + size])
        elif len(jobs) > 1:
            self._halve(trial, jobs, ())
        elif jobs[0].failed_before or not _passing(error):
            self._guilty.append(Verdict(jobs[0], error))
        elif trial.is_slow and self._max_batch == 1:
            # The time-out is over, and so is the run; what is remembered of it lets the next one pass.
            self._guilty.append(Verdict(jobs[0], error))
            self._give_up(error, jobs[0])
        else:
            self._try(trial, jobs)

    def _halve(self, trial: Trial, jobs: Sequence[Job], rest: Sequence[Job]) -> None:
        """Among these jobs stands a culprit: try the first half, and if it comes through, the other."""
        if len(jobs) > 1:
            half = (len(jobs) + 1) // 2
            self._try(trial, jobs[:half], others=jobs[half:], rest=rest)
        elif rest:
            self._due.append(EmbedTask(rest, trial, others=jobs, is_rest=True))
        elif isinstance(trial.error, ContentError) or trial.is_certain:
            self._guilty.append(Verdict(jobs[0], trial.error))  # all others of its batch have come through
        else:
            self._try(trial, jobs)

    def _try(self, trial: Trial, jobs: Sequence[Job], *, others: Sequence[Job] = (), rest: Sequence[Job] = ()) -> None:
        if jobs:
            self._due.append(EmbedTask(jobs, trial, others, rest))

    def _give_up(self, error: Exception, job: Job | None = None) -> None:
        if self.failure is None:
            self.failure = error
            said = str(error) or type(error).__name__
            self.message = said if job is None else str(Failure(name=job.candidate.name, stage="embed", reason=said))


_FEW = 3  # of so few, groups would cost as many calls as single items, and another time-out


def _passing(error: Exception) -> bool:
    return isinstance(error, EmbedderUnavailableError)


def _says_nothing(error: Exception) -> bool:
    """Whether an error says nothing of what was to be embedded."""
    return isinstance(error, EmbedderUnavailableError) and error.trouble in ("overload", "unreachable")
