"""Which items of a failed batch are at fault: its parts are tried until they stand alone.

An item is at fault when it fails alone while others come through. When nothing comes through, it is the embedder, and
nothing is called an item's fault; that is told apart by what has to be embedded anyway, before a part is tried.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from multimodal_search._failure import Failure
from multimodal_search._job import EmbedTask, Job, Trial
from multimodal_search.errors import ContentError, EmbedderUnavailableError

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
class _Waiting:
    """Jobs that failed together, in a call that began when `began` says."""

    trial: Trial
    jobs: Sequence[Job]
    began: float


class Isolation:
    """Decides what to try of the batches that failed; asked by the one thread that has it tried.

    Of a batch that failed fast, its first half is tried, then a half of the half that holds the culprit, and so on: the
    culprit is found after log2(n) calls, and the rest goes out together. If the rest fails, too, there are several, and
    from then on both halves are tried side by side. Of one that ran into a time-out, groups of sqrt(n) are tried side
    by side, and then the items of the groups that did, so that there are two more time-outs, however many culprits.

    Args:
        max_batch: Of the embedder.
    """

    def __init__(self, max_batch: int) -> None:
        self._max_batch = max_batch
        self._waiting: list[_Waiting] = []  # until it is known that the embedder works
        self._suspects: list[tuple[Trial, Verdict]] = []  # failed alone, and nothing has come through since
        self._due: list[EmbedTask] = []
        self._guilty: list[Verdict] = []
        self._passed_at = -math.inf
        self._in_a_row = 0  # parts that have failed since the last call that came through
        self.failure: Exception | None = None
        """Why nothing can be embedded any more, once that is clear."""
        self.message = ""
        """The same in words."""

    @property
    def is_pending(self) -> bool:
        """Whether anything waits for what becomes of other batches."""
        return bool(self._waiting or self._suspects)

    def has_control(self, in_flight: int) -> bool:
        """Whether other batches may go out: those that tell whether the embedder works, and no more."""
        return not self._waiting or (in_flight == 0 and len(self._waiting) == 1)

    def take(self) -> tuple[Sequence[EmbedTask], Sequence[Verdict]]:
        """What is to be tried, and who is at fault, since the last call."""
        due, guilty, self._due, self._guilty = self._due, self._guilty, [], []
        return due, guilty

    def drop(self) -> None:
        """Forget everything: the run ends."""
        self._waiting, self._suspects, self._due, self._guilty = [], [], [], []

    def passed(self, task: EmbedTask) -> None:
        """A task came through, or some of its contents did: the embedder works."""
        waiting, self._waiting = self._waiting, []
        self._in_a_row, self._passed_at = 0, time.monotonic()
        self._guilty += [verdict for _, verdict in self._suspects]
        self._suspects = []
        if task.trial is not None:
            task.trial.has_passed = True
            if task.others:
                self._halve(task.trial, task.others, task.rest)
            elif task.rest:
                self._try(task.trial, task.rest)
        for each in waiting:
            self._start(each.trial, each.jobs, works=True)

    def failed(self, task: EmbedTask, error: Exception, seconds: float) -> None:
        """A task failed, after some seconds."""
        trial, jobs, began = task.trial, task.jobs, time.monotonic() - seconds
        if _says_nothing(error) and self._passed_at > began:
            self._due.append(task)
            return
        is_slow = getattr(error, "trouble", "") == "time-out" or (
            seconds >= SLOW_S and (trial is not None or not _passing(error))
        )
        if trial is None:
            trial = Trial(error, is_slow=is_slow)
            if isinstance(error, ContentError):  # its own word that it works, and that a content is at fault
                self._start(trial, jobs, works=True)
            else:
                self._waiting.append(_Waiting(trial, jobs, began))
            return
        trial.error, trial.is_slow = error, trial.is_slow or is_slow
        left = [*task.others, *task.rest]
        if getattr(error, "trouble", "") == "unreachable":
            self._waiting.append(_Waiting(trial, [*jobs, *left], began))
            return
        trial.is_certain = trial.has_passed
        if not isinstance(error, ContentError):
            self._in_a_row += 1
        # All of a batch may be at fault; but where nothing came through before, that is hardly what it is.
        if self._in_a_row > (2 * self._max_batch + 8 if trial.works else max(8, self._max_batch)):
            self._give_up(trial.first_error)
        if len(jobs) == 1:
            self._suspect(trial, Verdict(jobs[0], error))
            trial.has_several = True
            self._try(trial, left)
        elif trial.is_slow:
            if trial.has_passed:
                self._start(trial, jobs, works=True)
            else:
                self._waiting.append(_Waiting(trial, jobs, began))  # a second time-out only if there is hope
            self._try(trial, left)
        elif trial.has_several:
            half = (len(jobs) + 1) // 2
            self._try(trial, jobs[:half])
            self._try(trial, jobs[half:])
        else:
            self._halve(trial, jobs, left)

    def settle(self, *, is_last: bool) -> None:
        """Go on without waiting for others, when none is under way.

        Args:
            is_last: Whether there is nothing else to embed.
        """
        waiting = self._waiting
        if len(waiting) > 1 or (waiting and is_last):
            lively = [each for each in waiting if self._passed_at > each.began]
            chosen = (lively or waiting)[0]
            has_others = any(each.trial is not chosen.trial for each in waiting)
            # Of several batches none got through, nor a part of one: more time-outs will not change that.
            is_hopeless = not lively and has_others and any(each.trial.has_groups for each in waiting)
            if is_hopeless or all(_says_nothing(each.trial.error) for each in waiting):
                self._give_up(chosen.trial.first_error, *(chosen.jobs if len(chosen.jobs) == 1 else ()))
            else:
                waiting.remove(chosen)
                self._start(chosen.trial, chosen.jobs, works=bool(lively))
        elif self._suspects and is_last and not self._due:
            suspects, self._suspects = self._suspects, []
            for trial, verdict in suspects:
                # What failed in an earlier run, too, needs no other that comes through.
                if trial.has_passed or verdict.job.failed_before:
                    self._guilty.append(verdict)
                else:
                    self._give_up(trial.first_error, verdict.job)

    def _start(self, trial: Trial, jobs: Sequence[Job], *, works: bool) -> None:
        trial.works = works
        if len(jobs) > 1 and trial.is_slow:
            size = 1 if trial.has_groups else math.isqrt(len(jobs) - 1) + 1
            trial.has_groups = True
            for start in range(0, len(jobs), size):
                self._try(trial, jobs[start : start + size])
        elif len(jobs) > 1:
            self._halve(trial, jobs, ())
        elif isinstance(trial.error, ContentError) or jobs[0].failed_before:
            self._guilty.append(Verdict(jobs[0], trial.error))
        elif not works:
            self._give_up(trial.error, jobs[0])
        elif not _passing(trial.error):
            self._guilty.append(Verdict(jobs[0], trial.error))
        elif self._max_batch > 1:
            self._try(trial, jobs)
        else:
            # It has no batch-mates, and never will have: what is remembered of it lets the next run pass.
            self._guilty.append(Verdict(jobs[0], trial.error))
            self._give_up(trial.error, jobs[0])

    def _halve(self, trial: Trial, jobs: Sequence[Job], rest: Sequence[Job]) -> None:
        """Among these jobs stands a culprit: try the first half, and if it comes through, the other."""
        if len(jobs) > 1:
            half = (len(jobs) + 1) // 2
            self._try(trial, jobs[:half], others=jobs[half:], rest=rest)
        elif isinstance(trial.error, ContentError) or trial.is_certain:
            # Only this one is left, and the error says itself that one is at fault, or is no trouble that has passed.
            self._guilty.append(Verdict(jobs[0], trial.error))
            self._try(trial, rest)
        else:
            self._try(trial, jobs, rest=rest)

    def _try(self, trial: Trial, jobs: Sequence[Job], *, others: Sequence[Job] = (), rest: Sequence[Job] = ()) -> None:
        if jobs:
            self._due.append(EmbedTask(jobs, trial, others, rest))

    def _suspect(self, trial: Trial, verdict: Verdict) -> None:
        if isinstance(verdict.error, ContentError):
            self._guilty.append(verdict)
        else:
            self._suspects.append((trial, verdict))

    def _give_up(self, error: Exception, job: Job | None = None) -> None:
        if self.failure is None:
            self.failure = error
            said = str(error) or type(error).__name__
            self.message = said if job is None else str(Failure(name=job.candidate.name, stage="embed", reason=said))


def _passing(error: Exception) -> bool:
    return isinstance(error, EmbedderUnavailableError)


def _says_nothing(error: Exception) -> bool:
    """Whether an error says nothing of what was to be embedded."""
    return isinstance(error, EmbedderUnavailableError) and error.trouble in ("overload", "unreachable")
