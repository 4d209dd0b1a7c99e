"""Which parts of a failed batch are tried, step by step: every call is a call to a paid service."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from multimodal_search import ContentError, EmbedderError, EmbedderUnavailableError, Image
from multimodal_search._indexing import isolation as isolation_module
from multimodal_search._indexing.isolation import SLOW_S, Isolation
from multimodal_search._indexing.job import EmbedTask, Job, ProbeTask, Trial
from multimodal_search.contents import Content, Mixed, Text

Outcome = Exception | None

ANSWERS = EmbedderError("no vector")
PASSES = EmbedderUnavailableError("502 bad gateway")
HANGS = EmbedderUnavailableError("nothing came for 20 s", trouble="time-out")
BUSY = EmbedderUnavailableError("429 slow down", trouble="overload")
GONE = EmbedderUnavailableError("connection refused", trouble="unreachable")
NAMED = ContentError("too large")


def jobs(count: int, *, failed_before: Collection[int] = ()) -> list[Job]:
    return [
        cast(
            "Job",
            SimpleNamespace(
                number=number,
                loaded=SimpleNamespace(content=Text(str(number))),
                failed_before=number in failed_before,
                candidate=SimpleNamespace(name=f"item {number}"),
            ),
        )
        for number in range(count)
    ]


def told(batch: Sequence[Job]) -> str:
    return "".join(f"{cast('Any', job).number:x}" for job in batch)


class Run:
    """An embedder with one worker, whose calls take a second each, or `seconds` when they fail."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *,
        fails: Callable[[list[int]], Outcome],
        probe: Callable[[ProbeTask], Outcome] = lambda task: None,
        seconds: float = 1.0,
        max_batch_size: int = 8,
    ) -> None:
        self.now = 1000.0
        monkeypatch.setattr(isolation_module, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.isolation = Isolation(max_batch_size)
        self.fails, self.probe, self.seconds = fails, probe, seconds
        self.calls: list[str] = []
        self.guilty: list[int] = []

    def outcome(self, task: EmbedTask | ProbeTask) -> Outcome:
        if isinstance(task, ProbeTask):
            self.calls.append("??" if task.is_repeated else "?")
            return self.probe(task)
        self.calls.append(told(task.jobs))
        return self.fails([cast("Any", job).number for job in task.jobs])

    def call(self, task: EmbedTask | ProbeTask) -> None:
        error = self.outcome(task)
        self.now += self.seconds if error is not None else 1.0
        if error is None:
            self.isolation.passed(task)
        else:
            self.isolation.failed(task, error, self.seconds)

    def go(self, *batches: Sequence[Job], most_calls: int = 60) -> Run:
        waiting: list[EmbedTask | ProbeTask] = [EmbedTask(batch) for batch in batches]
        while waiting and self.isolation.failure is None:
            self.call(waiting.pop(0))
            assert len(self.calls) < most_calls, self.calls
            waiting += self._taken()
            if not waiting and self.isolation.is_pending:
                self.isolation.decide()
                waiting += self._taken()
        return self

    def _taken(self) -> Sequence[EmbedTask | ProbeTask]:
        due, guilty = self.isolation.take()
        self.guilty += [cast("Any", verdict.job).number for verdict in guilty]
        return due


def failing(
    *numbers: int, error: Exception = ANSWERS, out: Exception | None = None, at: Collection[int] = ()
) -> Callable[[list[int]], Outcome]:
    """Calls fail that hold one of some items, and, for another reason, the calls of some numbers, from 1 on."""
    calls = 0

    def outcome(batch: list[int]) -> Outcome:
        nonlocal calls
        calls += 1
        return out if calls in at else error if set(numbers) & set(batch) else None

    return outcome


def failing_once() -> Callable[[ProbeTask], Outcome]:
    outcomes: list[Outcome] = [PASSES]
    return lambda task: outcomes.pop() if outcomes else None


@pytest.mark.parametrize("error", [ANSWERS, PASSES, NAMED], ids=["answers", "passes", "named"])
@pytest.mark.parametrize(
    ("count", "culprits", "calls"),
    [
        (8, [0], "01234567 0123 01 0 1234567"),
        (8, [5], "01234567 0123 45 4 67"),
        (8, [2], "01234567 0123 01 2 34567"),
        (5, [2], "01234 012 01 34"),
        (8, [3, 4], "01234567 0123 01 2 4567 3 45 67 4 5"),
    ],
    ids=str,
)
def test_one_is_found_by_halves_and_then_the_rest_goes_out_together(
    count: int, culprits: list[int], calls: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """log2(n) calls, and one for the rest; of two, halves of the rest side by side."""
    run = Run(monkeypatch, fails=failing(*culprits, error=error)).go(jobs(count))
    if (count, error is NAMED) == (5, False):
        calls += " 2"  # what is left over is at fault if it fails alone
    assert (" ".join(run.calls), sorted(run.guilty)) == (calls, culprits)
    assert (run.isolation.failure, run.isolation.is_pending) == (None, False)


@pytest.mark.parametrize(
    ("count", "error", "calls"),
    [
        (8, NAMED, "01234567 0123 45 6"),
        (8, ANSWERS, "01234567 0123 45 6 7"),
        (2, NAMED, "01 0"),
        (2, ANSWERS, "01 0 1"),
    ],
)
def test_the_last_one_is_tried_alone_unless_its_error_says_enough(
    count: int, error: Exception, calls: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(monkeypatch, fails=failing(count - 1, error=error)).go(jobs(count))
    assert (" ".join(run.calls), run.guilty) == (calls, [count - 1])


@pytest.mark.parametrize(
    ("error", "seconds", "is_slow"), [(HANGS, 1.0, True), (ANSWERS, SLOW_S, True), (ANSWERS, SLOW_S - 0.1, False)]
)
@pytest.mark.parametrize(
    ("count", "culprits", "calls"),
    [
        (3, [1], "012 ? 0 1 2"),
        (4, [1], "0123 ? 01 23 0 1"),
        (8, [0], "01234567 ? 012 345 67 0 1 2"),
        (8, [3, 4], "01234567 ? 012 345 67 3 4 5"),
        (9, [2], "012345678 ? 012 345 678 0 1 2"),
        (10, [2], "0123456789 ? 0123 4567 89 0 1 2 3"),
        (16, [3, 12], "0123456789abcdef ? 0123 4567 89ab cdef 0 1 2 3 c d e f"),
    ],
    ids=str,
)
def test_what_fails_slowly_is_tried_in_groups_side_by_side(
    count: int,
    culprits: list[int],
    calls: str,
    error: Exception,
    seconds: float,
    is_slow: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two more time-outs, however many culprits."""
    run = Run(monkeypatch, fails=failing(*culprits, error=error), seconds=seconds, max_batch_size=count).go(jobs(count))
    assert sorted(run.guilty) == culprits
    assert (" ".join(run.calls) == calls) == is_slow


def test_a_passing_error_of_a_batch_may_have_been_repeated_and_says_nothing_of_its_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Slow for that; of its parts, which are not repeated, it counts."""
    run = Run(monkeypatch, fails=failing(2, error=PASSES), seconds=SLOW_S).go(jobs(8))
    assert (" ".join(run.calls), run.guilty) == ("01234567 0123 01 23 4567 2 3", [2])
    run = Run(monkeypatch, fails=failing(3, 4, error=PASSES), seconds=SLOW_S).go(jobs(8))
    assert " ".join(run.calls) == "01234567 0123 01 23 4567 2 3 4 5 6 7"


@pytest.mark.parametrize(
    ("culprits", "error", "calls"),
    [
        (range(8), NAMED, "01234567 0123 01 0 1234567 1234 567 12 56 1 5 234 67 23 4 6 2 7 3"),
        (
            range(1, 8),
            ANSWERS,
            "01234567 0123 01 0 234567 1 234 567 23 4 ? 56 2 5 3 67 ? 6 7 ?",
        ),
        (
            [0, 1, 2, 3, 5],
            ANSWERS,
            "01234567 0123 01 0 1234567 ? 1234 12 1 234567 ? 234 23 2 34567 ? 345 34 3 4567 ? 45 4 67",
        ),
        (
            range(8),
            ANSWERS,
            "01234567 0123 01 0 1234567 ? 1234 12 1 234567 ? 234 23 2 34567 ? 345 34 3 4567 ? 45 4 567 56 7 ? 5 6 ?",
        ),
        (range(8), HANGS, "01234567 ? 012 345 67 0 1 2 3 4 5 6 7 ?"),
    ],
    ids=str,
)
def test_many_are_each_found(
    culprits: Sequence[int], error: Exception, calls: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a probe where so many calls in a row have failed as no single culprit takes."""
    run = Run(monkeypatch, fails=failing(*culprits, error=error)).go(jobs(8))
    assert (" ".join(run.calls), sorted(run.guilty)) == (calls, list(culprits))


def test_among_sixteen_four_failures_in_a_row_are_no_reason_for_a_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, fails=failing(0), max_batch_size=16).go(jobs(16))
    assert (" ".join(run.calls), run.guilty) == ("0123456789abcdef 01234567 0123 01 0 123456789abcdef", [0])
    run = Run(monkeypatch, fails=failing(3, 12), max_batch_size=16).go(jobs(16))
    assert " ".join(run.calls) == "0123456789abcdef 01234567 0123 01 2 456789abcdef 3 456789 abcdef abc def ab"
    assert sorted(run.guilty) == [3, 12]


# -- batches beside each other -----------------------------------------------------------------------------------------


def test_a_batch_that_came_through_lets_the_search_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    all_jobs = jobs(16)
    run = Run(monkeypatch, fails=failing(5)).go(all_jobs[:8], all_jobs[8:])
    assert (" ".join(run.calls), run.guilty) == ("01234567 89abcdef 0123 45 4 67", [5])


def test_of_two_batches_that_fail_none_is_tried_before_a_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    all_jobs = jobs(12)
    run = Run(monkeypatch, fails=failing(5, 9)).go(all_jobs[:8], all_jobs[8:])
    assert (" ".join(run.calls), sorted(run.guilty)) == ("01234567 89ab ? 0123 89 45 8 4 ab 67", [5, 9])


def test_doubt_ends_with_the_next_call_that_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then no other batch goes out."""
    all_jobs = jobs(16)
    first, second = EmbedTask(all_jobs[:8]), EmbedTask(all_jobs[8:])
    isolation = Run(monkeypatch, fails=failing()).isolation
    assert (isolation.is_pending, isolation.is_in_doubt) == (False, False)
    isolation.failed(first, ANSWERS, 1.0)
    assert (isolation.is_pending, isolation.is_in_doubt) == (True, True)
    assert isolation.take() == ([], [])
    isolation.passed(second)
    assert (isolation.is_pending, isolation.is_in_doubt) == (False, False)
    due, guilty = isolation.take()
    assert ([told(task.jobs) for task in due if isinstance(task, EmbedTask)], guilty) == (["0123"], [])
    assert isolation.take() == ([], [])


def test_a_content_error_leaves_no_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the embedder's own word that it works."""
    isolation = Run(monkeypatch, fails=failing()).isolation
    isolation.failed(EmbedTask(jobs(8)), NAMED, 1.0)
    assert (isolation.is_pending, isolation.is_in_doubt) == (False, False)
    assert len(isolation.take()[0]) == 1


def test_a_run_that_ends_forgets_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    isolation = Run(monkeypatch, fails=failing()).isolation
    isolation.failed(EmbedTask(jobs(8)), ANSWERS, 1.0)
    isolation.failed(EmbedTask(jobs(8)), NAMED, 1.0)
    isolation.failed(EmbedTask(jobs(1)), NAMED, 1.0)
    isolation.drop()
    assert not isolation.is_pending
    assert isolation.take() == ([], [])


# -- one item ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "calls"), [(ANSWERS, "0 ?"), (PASSES, "0 ? 0"), (HANGS, "0 ? 0"), (NAMED, "0")], ids=str
)
def test_one_alone_is_at_fault_where_a_harmless_content_is_not(
    error: Exception, calls: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that may pass is tried once more: a minute ago the service may have been down."""
    run = Run(monkeypatch, fails=failing(0, error=error)).go(jobs(1))
    assert (" ".join(run.calls), run.guilty) == (calls, [0])


def test_without_batch_mates_a_time_out_ends_the_run_and_names_the_item(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next run, which remembers that, goes on."""
    run = Run(monkeypatch, fails=failing(0, error=HANGS), max_batch_size=1).go(jobs(1))
    assert (" ".join(run.calls), run.guilty) == ("0 ?", [0])
    assert (run.isolation.failure, run.isolation.message) == (HANGS, "item 0: nothing came for 20 s")
    run = Run(monkeypatch, fails=failing(0, error=HANGS), max_batch_size=1).go(jobs(1, failed_before=[0]))
    assert (" ".join(run.calls), run.guilty, run.isolation.failure) == ("0 ?", [0], None)
    run = Run(monkeypatch, fails=failing(0, error=PASSES), max_batch_size=1).go(jobs(1, failed_before=[0]))
    assert (" ".join(run.calls), run.guilty) == ("0 ?", [0])
    run = Run(monkeypatch, fails=failing(0, error=PASSES), max_batch_size=1).go(jobs(1))
    assert (" ".join(run.calls), run.guilty) == ("0 ? 0", [0])


# -- the embedder is down ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (ANSWERS, "0123 4567 ?"),
        (PASSES, "0123 4567 ?"),
        (HANGS, "0123 4567 ?"),
        (BUSY, "0123 4567"),
        (GONE, "0123 4567"),
    ],
    ids=str,
)
def test_where_nothing_comes_through_nobody_is_at_fault(
    error: Exception, calls: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither too many calls nor no connection says anything of a content: no probe is worth it."""
    all_jobs = jobs(8)
    run = Run(monkeypatch, fails=lambda batch: error, probe=lambda task: error).go(all_jobs[:4], all_jobs[4:])
    assert (" ".join(run.calls), run.guilty) == (calls, [])
    assert (run.isolation.failure, run.isolation.message) == (error, str(error))


def test_the_first_error_is_told_and_an_error_without_words_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = EmbedderError("")
    run = Run(monkeypatch, fails=lambda batch: silent, probe=lambda task: ANSWERS).go(jobs(1))
    assert (run.isolation.failure, run.isolation.message) == (silent, "EmbedderError")
    run = Run(monkeypatch, fails=failing(5, out=BUSY, at=[3])).go(jobs(8))
    assert (" ".join(run.calls), run.guilty, run.isolation.failure) == ("01234567 0123 45", [], ANSWERS)


@pytest.mark.parametrize(
    ("at", "calls"),
    [
        ([1], "01234567 0123 45 4 67"),
        ([2], "01234567 0123 01 2 4567 3 45 67 4"),
        ([3], "01234567 0123 45 4 67"),
        ([5], "01234567 0123 45 4 67 5 6 7"),
        ([2, 3], "01234567 0123 01 0 234567 1 234 567 56 5 67"),
    ],
    ids=str,
)
@pytest.mark.parametrize("out", [ANSWERS, PASSES], ids=["answers", "passes"])
def test_a_moment_of_trouble_while_one_is_looked_for_misleads_nobody(
    out: Exception, at: list[int], calls: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(monkeypatch, fails=failing(5, out=out, at=at)).go(jobs(8))
    assert (" ".join(run.calls), run.guilty) == (calls, [5])


@pytest.mark.parametrize(("at", "calls"), [(1, "01234567"), (2, "01234567 0123"), (4, "01234567 0123 45 4")])
def test_too_much_to_do_while_one_is_looked_for_ends_the_run_without_blame(
    at: int, calls: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embedder itself has waited as long as it is set to."""
    run = Run(monkeypatch, fails=failing(5, out=BUSY, at=[at])).go(jobs(8))
    assert (" ".join(run.calls), run.guilty) == (calls, [])
    assert run.isolation.failure is (BUSY if at == 1 else ANSWERS)


def test_a_batch_refused_for_too_much_to_do_goes_out_again_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    all_jobs = jobs(16)
    run = Run(monkeypatch, fails=failing(5, out=BUSY, at=[2])).go(all_jobs[:8], all_jobs[8:])
    assert (" ".join(run.calls), run.guilty) == ("01234567 89abcdef ? 0123 89abcdef 45 4 67", [5])


def test_too_much_to_do_while_another_call_came_through_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task goes out once more, as it was."""
    run = Run(monkeypatch, fails=failing())
    task = EmbedTask(jobs(4))
    run.isolation.passed(EmbedTask(jobs(1)))
    run.isolation.failed(task, BUSY, 5.0)  # began 5 s ago, before the other one ended
    assert run.isolation.take() == ([task], [])
    run.now += 10
    run.isolation.failed(task, BUSY, 5.0)  # began 5 s after it ended
    assert (run.isolation.take(), run.isolation.is_pending) == (([], []), True)
    run.isolation.passed(EmbedTask(jobs(1)))
    ((again,), _) = run.isolation.take()
    assert (again, again is task) == (EmbedTask(task.jobs), False)


def test_a_probe_that_fails_is_repeated_where_the_embedder_has_worked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed meanwhile is tried once more then: it may have been down already."""
    all_but_0 = failing(*range(1, 8))
    run = Run(monkeypatch, fails=all_but_0, probe=failing_once()).go(jobs(8))
    assert " ".join(run.calls) == "01234567 0123 01 0 234567 1 234 567 23 4 ? ?? 1 56 2 4 5 3 67 ? 6 7 ?"
    assert (sorted(run.guilty), run.isolation.failure) == (list(range(1, 8)), None)
    run = Run(monkeypatch, fails=all_but_0, probe=lambda task: PASSES).go(jobs(8))
    assert (" ".join(run.calls[-2:]), run.guilty, run.isolation.failure) == ("? ??", [], ANSWERS)


def test_a_probe_that_fails_is_not_repeated_where_nothing_has_worked(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, fails=failing(*range(8)), probe=failing_once()).go(jobs(8))
    assert (" ".join(run.calls), run.guilty) == ("01234567 0123 01 0 1234567 ?", [])
    assert run.isolation.failure is ANSWERS


def test_a_probe_that_fails_after_another_call_came_through_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, fails=failing())
    run.isolation.failed(EmbedTask(jobs(8)), ANSWERS, 1.0)
    run.isolation.failed(EmbedTask(jobs(1)), ANSWERS, 1.0)
    run.isolation.decide()
    (probe,), _ = run.isolation.take()
    run.isolation.passed(EmbedTask(jobs(2)))
    run.now += 1
    run.isolation.failed(probe, PASSES, 5.0)
    assert run.isolation.failure is None


def test_at_first_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    isolation = Run(monkeypatch, fails=failing()).isolation
    assert (isolation.failure, isolation.message, isolation.take()) == (None, "", ([], []))


# -- how many failures in a row are too many -------------------------------------------------------------------------


def test_as_many_failures_in_a_row_as_one_culprit_takes_are_no_reason_for_a_probe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Run(monkeypatch, fails=failing(0, 1), max_batch_size=4).go(jobs(4))
    assert " ".join(run.calls) == "0123 01 0 123 12 3 1 2"
    run = Run(monkeypatch, fails=failing(0), max_batch_size=32).go(jobs(32))
    assert [len(call) for call in run.calls[1:5]] == [16, 8, 4, 2]
    assert "?" not in run.calls


def test_failures_in_a_row_are_counted_over_all_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    all_jobs = jobs(16)
    run = Run(monkeypatch, fails=failing(0, 8), max_batch_size=9).go(all_jobs[:8], all_jobs[8:])
    assert " ".join(run.calls[:9]) == "01234567 89abcdef ? 0123 89ab 01 89 0 8"
    assert sorted(run.guilty) == [0, 8]
    run = Run(monkeypatch, fails=failing(0, 8)).go(all_jobs[:8], all_jobs[8:])  # of eight, four are too many
    assert " ".join(run.calls) == "01234567 89abcdef ? 0123 89ab 01 89 0 abcdef 1234567 8 9"
    assert sorted(run.guilty) == [0, 8]


# -- what comes through meanwhile --------------------------------------------------------------------------------------


@pytest.fixture
def one(monkeypatch: pytest.MonkeyPatch) -> tuple[Run, EmbedTask, EmbedTask, EmbedTask]:
    """A run, a single item that is tried, a part of another search, and a whole batch."""
    first, second, third = jobs(3)
    return (
        Run(monkeypatch, fails=failing()),
        EmbedTask([first], Trial(ANSWERS)),
        EmbedTask([second], Trial(ANSWERS)),
        EmbedTask([third]),
    )


def guilty_of(run: Run) -> list[int]:
    return [cast("Any", verdict.job).number for verdict in run.isolation.take()[1]]


One = tuple[Run, EmbedTask, EmbedTask, EmbedTask]


def test_one_that_fails_while_another_part_comes_through_is_at_fault(one: One) -> None:
    run, single, part, _ = one
    run.isolation.passed(part)
    run.now += 1
    run.isolation.failed(single, ANSWERS, 5.0)
    assert (guilty_of(run), run.isolation.is_pending) == ([0], False)


def test_one_that_fails_before_another_part_comes_through_is_at_fault_then(one: One) -> None:
    run, single, part, _ = one
    run.isolation.failed(single, ANSWERS, 1.0)
    assert (guilty_of(run), run.isolation.is_pending, run.isolation.is_in_doubt) == ([], True, False)
    run.isolation.passed(part)
    assert (guilty_of(run), run.isolation.is_pending) == ([0], False)


def test_one_that_fails_after_another_part_came_through_is_not_yet_at_fault(one: One) -> None:
    run, single, part, _ = one
    run.isolation.passed(part)
    run.now += 5
    run.isolation.failed(single, ANSWERS, 5.0)
    assert (guilty_of(run), run.isolation.is_pending) == ([], True)


def test_a_whole_batch_that_comes_through_tells_nothing_of_one_that_failed(one: One) -> None:
    """The embedder may have repeated it until it was up again."""
    run, single, _, batch = one
    run.isolation.passed(batch)
    run.now += 1
    run.isolation.failed(single, ANSWERS, 5.0)
    assert (guilty_of(run), run.isolation.is_pending) == ([], True)
    run.isolation.passed(batch)
    assert (run.isolation.take(), run.isolation.is_pending) == (([], []), True)
    run.isolation.passed(ProbeTask("text"))
    assert (guilty_of(run), run.isolation.is_pending) == ([0], False)


def test_a_repeated_probe_that_comes_through_has_one_that_failed_tried_again(one: One) -> None:
    run, single, _, _ = one
    run.isolation.failed(single, ANSWERS, 1.0)
    run.isolation.passed(ProbeTask("text", is_repeated=True))
    due, guilty = run.isolation.take()
    assert [told(task.jobs) for task in due if isinstance(task, EmbedTask)] == ["0"]
    assert (guilty, run.isolation.is_pending) == ([], False)


def test_the_first_part_that_fails_after_others_came_through_is_at_fault_where_nothing_is_left_to_try(one: One) -> None:
    """As long as something is left, that is tried next, and tells more."""
    run, single, part, _ = one
    assert single.trial is not None
    single.trial.works = True
    run.isolation.failed(single, ANSWERS, 1.0)
    assert guilty_of(run) == [0]
    run.isolation.failed(single, ANSWERS, 1.0)  # the second in a row
    assert guilty_of(run) == []
    run.isolation.passed(part)
    assert guilty_of(run) == [0]
    run.now += 5
    run.isolation.failed(EmbedTask(single.jobs, single.trial, rest=part.jobs), ANSWERS, 1.0)
    due, guilty = run.isolation.take()
    assert ([told(task.jobs) for task in due if isinstance(task, EmbedTask)], guilty) == (["1"], [])


# -- probes ------------------------------------------------------------------------------------------------------------


def test_a_probe_that_fails_says_nothing_where_nothing_waits_for_it(one: One) -> None:
    run, *_ = one
    run.isolation.failed(ProbeTask("text"), PASSES, 1.0)
    assert (run.isolation.take(), run.isolation.failure) == (([], []), None)


@pytest.mark.parametrize(("seconds", "is_down"), [(5.0, False), (1.0, True), (0.5, True)])
def test_a_probe_that_fails_says_nothing_where_a_batch_came_through_since_it_began(
    one: One, seconds: float, is_down: bool
) -> None:
    run, single, _, batch = one
    run.isolation.failed(single, ANSWERS, 1.0)
    run.isolation.passed(batch)
    run.now += 1
    run.isolation.failed(ProbeTask("text", is_repeated=True), PASSES, seconds)
    assert (run.isolation.failure is not None) == is_down
    assert run.isolation.take() == ([], [])


def test_a_probe_is_repeated_only_where_the_embedder_has_worked_for_all_that_wait(one: One) -> None:
    """It may be down for a moment; but of a search that has seen nothing come through, that is not known."""
    run, single, part, _ = one
    assert single.trial is not None
    run.isolation.failed(part, ANSWERS, 1.0)
    single.trial.works = True
    run.isolation.failed(single, ANSWERS, 1.0)  # the second in a row
    run.isolation.failed(ProbeTask("text"), PASSES, 1.0)
    assert (run.isolation.take(), run.isolation.failure) == (([], []), ANSWERS)


def test_a_batch_that_fails_while_another_came_through_is_not_sent_again_as_it_was(one: One) -> None:
    """Only what says nothing of the contents, such as too many calls, is."""
    run, _, _, batch = one
    run.isolation.passed(batch)
    run.now += 1
    run.isolation.failed(EmbedTask(jobs(4)), ANSWERS, 5.0)
    assert (run.isolation.take(), run.isolation.is_in_doubt) == (([], []), True)


def test_after_a_content_error_the_embedder_is_known_to_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a part that fails, and larger ones that come through, convict the last one without a call."""
    run = Run(monkeypatch, fails=lambda batch: NAMED if len(batch) == 4 else ANSWERS if 1 in batch else None)
    run.go(jobs(4))
    assert (" ".join(run.calls), run.guilty) == ("0123 01 0 23", [1])


@pytest.mark.parametrize(
    ("content", "modality"),
    [(Text("a"), "text"), (Image(b"a"), "image"), (Mixed("a", Image(b"a")), "mixed"), (None, "text")],
    ids=str,
)
def test_a_probe_is_of_the_kind_that_failed(content: Content | None, modality: str, one: One) -> None:
    run, single, _, _ = one
    loaded = None if content is None else SimpleNamespace(content=content)
    cast("Any", single.jobs[0]).loaded = loaded
    run.isolation.failed(single, ANSWERS, 1.0)
    run.isolation.decide()
    assert run.isolation.take() == ([ProbeTask(cast("Any", modality))], [])


def test_a_search_that_has_seen_nothing_come_through_asks_for_a_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than that it begins anew with what is left."""
    run = Run(monkeypatch, fails=lambda batch: NAMED if len(batch) == 1 else ANSWERS, max_batch_size=8)
    run.go(jobs(16), most_calls=200)
    assert run.calls[1:7] == ["01234567", "0123", "01", "0", "123456789abcdef", "?"]
    assert sorted(run.guilty) == list(range(16))


def test_the_first_reason_to_give_up_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    isolation = Run(monkeypatch, fails=failing(), max_batch_size=1).isolation
    first, second = jobs(2)
    isolation.failed(EmbedTask([first]), HANGS, 20.0)
    isolation.failed(EmbedTask([second]), EmbedderUnavailableError("again", trouble="time-out"), 20.0)
    isolation.passed(ProbeTask("text"))
    assert (isolation.failure, isolation.message) == (HANGS, "item 0: nothing came for 20 s")


# -- what is known of the embedder while a part is tried ---------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "calls"), [(5.0, "01 0 23"), (1.0, "01 0 23 1")])
def test_a_batch_that_came_through_while_another_failed_is_proof_that_the_embedder_works(
    seconds: float, calls: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the one that is left needs no call of its own; if it came through before, it does."""
    run = Run(monkeypatch, fails=failing(1))
    batch = jobs(4)
    run.isolation.passed(EmbedTask(jobs(1)))
    run.now += 1
    run.isolation.failed(EmbedTask(batch), ANSWERS, seconds)
    run.isolation.decide()
    (first,), _ = run.isolation.take()
    waiting = [first]
    while waiting:
        run.call(waiting.pop(0))
        waiting += run._taken()
    assert (" ".join(run.calls), run.guilty) == (calls, [1])


def test_the_one_that_is_left_is_tried_where_its_part_failed_before_anything_came_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Run(monkeypatch, fails=failing(1)).go(jobs(4))
    assert (" ".join(run.calls), run.guilty) == ("0123 01 0 23 1", [1])


def test_what_has_failed_slowly_once_is_tried_in_groups_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, fails=lambda batch: HANGS if len(batch) == 16 else ANSWERS if 3 in batch else None)
    run.go(jobs(16))
    assert (" ".join(run.calls[1:]), run.guilty) == ("? 0123 4567 89ab cdef 0 1 2 3", [3])
