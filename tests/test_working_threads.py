"""Threads that share work: what is promised of their number, their order, their errors and their end.

No test looks at a clock: calls wait for each other at gates, so that an order that is not kept never comes to an end.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future

import pytest

from multimodal_search import MultimodalSearchError
from multimodal_search import _threads as threads
from multimodal_search._threads import DaemonExecutor, Done, SpareThreads, WorkerPool, side_by_side

LONG_S = 30.0
"""Longer than any of this takes: nobody waits so long unless something is broken."""


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Lets a process reach its limit of threads, and come back."""
    real = threading.Thread.start

    def limit(reached: bool) -> None:
        def start(thread: threading.Thread) -> None:
            if reached:
                raise RuntimeError("can't start new thread")
            real(thread)

        monkeypatch.setattr(threading.Thread, "start", start)

    return limit


# -- a pool with one inbox ---------------------------------------------------------------------------------------------


class Pool:
    """Tasks that wait at a gate each."""

    def __init__(self, count: int) -> None:
        self.inbox: queue.SimpleQueue[Done[int, int]] = queue.SimpleQueue()
        self.began: queue.SimpleQueue[tuple[int, str, bool]] = queue.SimpleQueue()
        self.gates = [threading.Event() for _ in range(10)]
        self.pool = WorkerPool[int, int](self.work, self.inbox, threads=count, name="worker")

    def work(self, task: int) -> int:
        thread = threading.current_thread()
        self.began.put((task, thread.name, thread.daemon))
        self.gates[task].wait(LONG_S)
        if task == 9:
            raise KeyError(task)
        return task * 10

    def next_begun(self) -> tuple[int, str, bool]:
        return self.began.get(timeout=LONG_S)

    def next_done(self) -> Done[int, int]:
        done = self.inbox.get(timeout=LONG_S)
        self.pool.task_done()
        return done


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = Pool(2)
    yield pool
    for gate in pool.gates:
        gate.set()
    pool.pool.stop(wait_s=LONG_S)


def test_tasks_begin_in_order_in_daemons_that_start_as_they_are_needed(pool: Pool) -> None:
    """An interpreter that wants to exit must not wait for a request that hangs."""
    assert pool.pool.in_flight == 0
    pool.pool.submit(0)
    assert pool.next_begun() == (0, "worker-0", True)
    pool.gates[0].set()
    assert pool.next_done() == Done(0, 0, None, pytest.approx(0, abs=LONG_S))
    assert pool.pool.in_flight == 0
    pool.pool.submit(1)  # there is a thread that has nothing to do
    assert pool.next_begun() == (1, "worker-0", True)
    pool.pool.submit(2)
    assert pool.next_begun() == (2, "worker-1", True)
    pool.pool.submit(3)
    pool.pool.submit(4)
    assert pool.pool.in_flight == 4
    pool.gates[2].set()
    assert pool.next_done().task == 2
    assert pool.next_begun()[:2] == (3, "worker-1")
    pool.gates[1].set()
    assert (pool.next_done().task, pool.next_begun()[:2]) == (1, (4, "worker-0"))
    assert pool.pool.in_flight == 2
    assert pool.began.empty()


def test_what_a_task_raises_is_handed_over_and_the_thread_goes_on(pool: Pool) -> None:
    pool.gates[9].set()
    pool.gates[1].set()
    pool.pool.submit(9)
    done = pool.next_done()
    assert (done.task, done.result, type(done.error)) == (9, None, KeyError)
    assert done.seconds >= 0
    pool.pool.submit(1)
    assert pool.next_done().result == 10


def test_a_pool_that_stops_drops_what_has_not_begun(pool: Pool) -> None:
    for task in range(4):
        pool.pool.submit(task)
    names = {pool.next_begun()[1], pool.next_begun()[1]}
    pool.pool.stop(wait_s=0.0)  # nobody waits
    alive = [thread for thread in threading.enumerate() if thread.name in names]
    assert len(alive) == 2
    for gate in pool.gates:
        gate.set()
    pool.pool.stop(wait_s=LONG_S)
    assert not any(thread.is_alive() for thread in alive)
    assert {pool.next_done().task, pool.next_done().task} == {0, 1}
    assert pool.inbox.empty()
    assert pool.began.empty()


def test_idle_threads_end_when_the_pool_stops(pool: Pool) -> None:
    pool.gates[1].set()
    pool.pool.submit(1)
    pool.next_done()
    (thread,) = [each for each in threading.enumerate() if each.name == "worker-0"]
    pool.pool.stop(wait_s=LONG_S)
    assert not thread.is_alive()


def test_without_any_thread_a_task_fails_and_says_what_to_do(pool: Pool, no_threads: Callable[[bool], None]) -> None:
    no_threads(True)
    pool.pool.submit(1)
    assert pool.pool.in_flight == 1
    done = pool.next_done()
    assert done.task == 1
    assert isinstance(done.error, MultimodalSearchError)
    assert "no thread can be started (can't start new thread)" in str(done.error)
    no_threads(False)
    pool.gates[2].set()
    pool.pool.submit(2)
    assert pool.next_done() == Done(2, 20, None, pytest.approx(0, abs=LONG_S))
    assert pool.began.get(timeout=LONG_S)[0] == 2
    assert pool.began.empty()  # the one that failed was not queued as well


def test_without_more_threads_those_that_there_are_do_the_work(pool: Pool, no_threads: Callable[[bool], None]) -> None:
    pool.pool.submit(1)
    pool.next_begun()
    no_threads(True)
    pool.pool.submit(2)
    for gate in pool.gates:
        gate.set()
    assert [pool.next_done().result, pool.next_done().result] == [10, 20]


def names_of(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


# -- a list that is worked off -----------------------------------------------------------------------------------------


def test_results_come_in_the_order_of_tasks() -> None:
    """Whichever is done first."""
    second_done = threading.Event()

    def work(task: str) -> str:
        if task == "a":
            second_done.wait(LONG_S)
        if task == "b":
            second_done.set()
        return task.upper()

    steps: list[int] = []
    assert side_by_side(work, ["a", "b", "c"], threads=2, name="side", step=steps.append) == ["A", "B", "C"]
    assert steps[0] == 0
    assert steps[-1] == 3
    assert steps == sorted(steps)
    assert side_by_side(work, [], threads=2, name="side", step=steps.append) == []
    assert steps[-1] == 0


def test_no_more_threads_than_asked_for_work_at_a_time() -> None:
    lock, now, most = threading.Lock(), 0, 0
    both = threading.Barrier(2)

    def work(task: int) -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        if task < 2:
            both.wait(LONG_S)  # needs two
        with lock:
            now -= 1
        return task

    assert side_by_side(work, range(20), threads=2, name="side", step=lambda done: None) == list(range(20))
    assert most == 2


def test_the_first_error_ends_the_work() -> None:
    """No other task begins."""
    begun: list[int] = []
    gate = threading.Event()

    def work(task: int) -> int:
        begun.append(task)
        if task:
            gate.wait(LONG_S)
        raise ValueError(task)

    with pytest.raises(ValueError, match="0"):
        side_by_side(work, range(10), threads=1, name="first-error", step=lambda done: None)
    (thread,) = names_of("first-error-0")
    gate.set()
    thread.join(LONG_S)
    assert not thread.is_alive()
    assert begun in ([0], [0, 1])


def test_what_a_step_raises_ends_the_wait_while_tasks_hang() -> None:
    """As Ctrl-C does; those under way go on, and nobody waits for them."""
    gate, looks = threading.Event(), 0

    def step(done: int) -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            side_by_side(lambda task: gate.wait(LONG_S), [1], threads=1, name="hanging", step=step)
        (thread,) = [each for each in threading.enumerate() if each.name == "hanging-0"]
        assert thread.is_alive()
    finally:
        gate.set()
    thread.join(LONG_S)
    assert not thread.is_alive()


# -- spare threads -----------------------------------------------------------------------------------------------------


def wait_until(is_so: Callable[[], bool]) -> None:
    """Look again and again; the test's own time limit ends a wait in vain."""
    pause = threading.Event()
    while not is_so():
        pause.wait(0.005)


def test_a_thread_that_is_done_takes_the_next_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SpareThreads, "IDLE_S", LONG_S)
    spare = SpareThreads("spare-1")
    ran: queue.SimpleQueue[threading.Thread] = queue.SimpleQueue()
    spare.run(lambda: ran.put(threading.current_thread()))
    first = ran.get(timeout=LONG_S)
    assert (first.name, first.daemon) == ("spare-1", True)
    wait_until(lambda: bool(spare._idle))
    spare.run(lambda: ran.put(threading.current_thread()))
    assert ran.get(timeout=LONG_S) is first


def test_a_call_that_hangs_costs_its_thread_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SpareThreads, "IDLE_S", 0.01)
    spare = SpareThreads("spare-2")
    gate = threading.Event()
    ran: queue.SimpleQueue[threading.Thread] = queue.SimpleQueue()
    spare.run(lambda: gate.wait(LONG_S) and None)
    spare.run(lambda: ran.put(threading.current_thread()))
    ran.get(timeout=LONG_S)
    wait_until(lambda: len(names_of("spare-2")) == 1)
    gate.set()
    wait_until(lambda: names_of("spare-2") == [])
    assert spare._idle == []


def test_a_thread_that_waits_in_vain_ends_and_another_one_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SpareThreads, "IDLE_S", 0.01)
    spare = SpareThreads("spare-3")
    for _ in range(3):
        ran = threading.Event()
        spare.run(ran.set)
        assert ran.wait(LONG_S)
        wait_until(lambda: names_of("spare-3") == [])


def test_no_call_is_lost_between_waiting_and_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that has given up waiting may just have been picked for a call."""
    monkeypatch.setattr(SpareThreads, "IDLE_S", 0.0)
    spare = SpareThreads("spare-4")
    for _ in range(300):
        ran = threading.Event()
        spare.run(ran.set)
        assert ran.wait(LONG_S)


def test_without_a_thread_the_call_is_refused(no_threads: Callable[[bool], None]) -> None:
    no_threads(True)
    with pytest.raises(MultimodalSearchError, match=r"ulimit -u.*max_concurrency") as caught:
        SpareThreads("spare-5").run(lambda: None)
    assert isinstance(caught.value.__cause__, RuntimeError)


# -- an executor -------------------------------------------------------------------------------------------------------


def test_calls_beyond_the_limit_wait_for_their_turn() -> None:
    executor = DaemonExecutor(2, "executor-1")
    gates = [threading.Event() for _ in range(4)]
    began: queue.SimpleQueue[int] = queue.SimpleQueue()

    def call(number: int, *, factor: int) -> int:
        began.put(number)
        gates[number].wait(LONG_S)
        return number * factor

    futures = [executor.submit(call, number, factor=3) for number in range(4)]
    assert {began.get(timeout=LONG_S), began.get(timeout=LONG_S)} == {0, 1}
    assert began.empty()
    assert executor._working == 2
    assert futures[0].running()  # so that it cannot be cancelled any more
    assert not futures[0].cancel()
    assert executor.unfinished == set(futures)
    gates[1].set()
    assert began.get(timeout=LONG_S) == 2
    assert futures[1].result(LONG_S) == 3
    assert futures[1] not in executor.unfinished
    assert began.empty()
    for gate in gates:
        gate.set()
    assert [future.result(LONG_S) for future in futures] == [0, 3, 6, 9]
    wait_until(lambda: executor._working == 0)
    assert executor.submit(call, 3, factor=1).result(LONG_S) == 3  # and it starts again
    assert executor.unfinished == set()


def test_what_a_call_raises_is_its_futures(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = DaemonExecutor(1, "executor-2")

    def fail() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        executor.submit(fail).result(LONG_S)
    assert executor.submit(lambda: 7).result(LONG_S) == 7


def test_a_call_that_was_cancelled_is_not_made() -> None:
    executor = DaemonExecutor(1, "executor-3")
    gate, made = threading.Event(), threading.Event()
    first: Future[bool] = executor.submit(gate.wait, LONG_S)
    second = executor.submit(made.set)
    third: Future[int] = executor.submit(lambda: 3)
    assert second.cancel()
    gate.set()
    assert first.result(LONG_S)
    assert third.result(LONG_S) == 3
    assert not made.is_set()
    assert executor.unfinished == set()
    with pytest.raises(CancelledError):
        second.result(0)


def test_a_future_that_was_settled_meanwhile_does_no_harm() -> None:
    """Whoever closes the index fails the calls that are under way."""
    executor = DaemonExecutor(1, "executor-4")
    gate, began = threading.Event(), threading.Event()

    def call() -> int:
        began.set()
        gate.wait(LONG_S)
        return 1

    first = executor.submit(call)
    second: Future[int] = executor.submit(lambda: 2)
    third: Future[int] = executor.submit(lambda: 3)
    began.wait(LONG_S)
    first.set_exception(MultimodalSearchError("closed"))
    second.set_result(0)  # done before its turn
    gate.set()
    assert third.result(LONG_S) == 3
    assert second.result(LONG_S) == 0


def test_the_step_is_a_tenth_of_a_second() -> None:
    """How long Ctrl-C, and whoever waits for others, may wait for a look."""
    assert (threads.STEP_S, SpareThreads.IDLE_S) == (0.1, 1.0)


def test_an_executor_goes_on_with_the_threads_that_there_are(no_threads: Callable[[bool], None]) -> None:
    """Or says that there are none, and is as good as before when there may be some again."""
    executor = DaemonExecutor(2, "executor-5")
    gate = threading.Event()
    no_threads(True)
    with pytest.raises(MultimodalSearchError, match="no thread can be started"):
        executor.submit(gate.wait, LONG_S)
    assert not executor.unfinished
    assert not executor.is_full
    no_threads(False)
    first = executor.submit(gate.wait, LONG_S)
    no_threads(True)
    second, third = executor.submit(lambda: 2), executor.submit(lambda: 3)
    assert executor.is_full
    gate.set()
    assert [each.result(LONG_S) for each in (first, second, third)] == [True, 2, 3]
    no_threads(False)
    gate = threading.Event()
    both = [executor.submit(gate.wait, LONG_S), executor.submit(lambda: gate.set() or 7)]
    assert [each.result(LONG_S) for each in both] == [True, 7]
