"""Threads: workers with one inbox, a parallel map, spare threads, an executor of daemon threads, a call made ahead."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar

from multimodal_search.errors import MultimodalSearchError

STEP_S = 0.1
"""Seconds between two looks at what else goes on, where one waits for others."""

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Done(Generic[T, R]):
    """One finished task.

    Attributes:
        task: What was submitted.
        result: What came of it, if it did not fail.
        error: What it raised, if it failed.
        seconds: How long it took.
    """

    task: T
    result: R | None = None
    error: BaseException | None = None
    seconds: float = 0.0


class WorkerPool(Generic[T, R]):
    """Threads that call one function on tasks, in the order of submission.

    They are daemons: an interpreter that wants to exit never waits for a request that hangs.

    Args:
        work: The function.
        inbox: Where finished tasks go.
        threads: How many run at once, at most; they start as they are needed.
        name: Of the threads, for debuggers.
    """

    def __init__(
        self, work: Callable[[T], R], inbox: queue.SimpleQueue[Done[T, R]], *, threads: int, name: str
    ) -> None:
        self._work = work
        self._inbox = inbox
        self._tasks: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._limit = threads
        self._name = name
        self._stopped = False
        self.in_flight = 0

    def submit(self, task: T) -> None:
        """Queue a task; called from one thread only, which also takes from the inbox and calls `task_done`.

        Where no more threads can be started, those that there are do the work; without any, the task fails.
        """
        self.in_flight += 1
        if len(self._threads) < min(self._limit, self.in_flight):
            number = len(self._threads)
            thread = threading.Thread(target=self._run, name=f"{self._name}-{number}", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                if not self._threads:
                    self._inbox.put(Done(task, error=no_thread(error)))
                    return
            else:
                self._threads.append(thread)
        self._tasks.put(task)

    def task_done(self) -> None:
        """Count one finished task out."""
        self.in_flight -= 1

    def stop(self, *, wait_s: float) -> None:
        """Drop the tasks that have not started, and let the threads end; wait for them at most `wait_s` seconds."""
        self._stopped = True
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join(timeout=wait_s)

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None and not self._stopped:
            began = time.monotonic()
            result: R | None = None
            failure: BaseException | None = None
            try:
                result = self._work(task)
            except BaseException as error:  # noqa: BLE001 (handed to the thread that decides)
                failure = error
            self._inbox.put(Done(task, result, failure, time.monotonic() - began))


def no_thread(error: RuntimeError) -> MultimodalSearchError:
    """What Python's `can't start new thread` means, and what to do about it."""
    return MultimodalSearchError(
        f"no thread can be started ({error}): this process has reached its limit of threads or of memory; raise that "
        "(ulimit -u, or the limit of pids of the container), or set a smaller max_concurrency"
    )


def side_by_side(
    work: Callable[[T], R], tasks: Sequence[T], *, threads: int, name: str, step: Callable[[int], None]
) -> list[R]:
    """Map a function over tasks in a few threads.

    Args:
        work: The function.
        tasks: What to call it on; they begin in this order.
        threads: How many run at once, at most.
        name: Of the threads, for debuggers.
        step: Called in the calling thread with the number of tasks that are done, several times a second; what it
            raises ends the wait.

    Returns:
        The results, in the order of the tasks.

    Raises:
        BaseException: What the first task that failed has raised. Then, as after Ctrl-C, no other task begins; those
            under way go on in their threads, and nobody waits for them.
    """
    inbox: queue.SimpleQueue[Done[int, R]] = queue.SimpleQueue()
    workers = WorkerPool[int, R](lambda number: work(tasks[number]), inbox, threads=threads, name=name)
    results: dict[int, R] = {}
    try:
        for number in range(len(tasks)):
            workers.submit(number)
        while len(results) < len(tasks):
            step(len(results))
            # With a timeout, so that Ctrl-C gets through where a wait without one cannot be interrupted.
            with suppress(queue.Empty):
                done = inbox.get(timeout=STEP_S)
                if done.error is not None:
                    raise done.error
                results[done.task] = done.result  # type: ignore[assignment]  # there is one, where there is no error
        step(len(results))
    finally:
        workers.stop(wait_s=0.0)
    return [results[number] for number in range(len(tasks))]


def at_once(calls: Sequence[Callable[[], R]], *, name: str) -> list[R]:
    """Make some calls at the same time, the first one in the calling thread.

    Where no thread can be started, they are made one after the other.

    Raises:
        Exception: What the first one that failed has raised.
    """
    results: dict[int, R] = {}
    errors: dict[int, Exception] = {}

    def make(number: int) -> None:
        try:
            results[number] = calls[number]()
        except Exception as error:  # noqa: BLE001 (raised in the calling thread)
            errors[number] = error

    threads: list[threading.Thread] = []
    for number in range(1, len(calls)):
        thread = threading.Thread(target=make, args=(number,), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            make(number)
        else:
            threads.append(thread)
    make(0)
    for thread in threads:
        while thread.is_alive():
            thread.join(STEP_S)  # with a timeout, so that Ctrl-C gets through
    if errors:
        raise errors[min(errors)]
    return [results[number] for number in range(len(calls))]


class SpareThreads:
    """Threads that run one call each and then wait a little for the next, so that not every call starts its own.

    They are daemons, and there is no limit: a call that never ends costs its thread alone.

    Args:
        name: Of the threads, for debuggers.
    """

    IDLE_S = 1.0

    def __init__(self, name: str) -> None:
        self._name = name
        self._idle: list[queue.SimpleQueue[Callable[[], None]]] = []
        self._lock = threading.Lock()

    def run(self, call: Callable[[], None]) -> None:
        """Have a call made, which must not raise.

        Raises:
            MultimodalSearchError: No thread can be started.
        """
        with self._lock:
            inbox = self._idle.pop() if self._idle else None
        if inbox is None:
            inbox = queue.SimpleQueue()
            try:
                threading.Thread(target=self._work, args=(inbox,), name=self._name, daemon=True).start()
            except RuntimeError as error:
                raise no_thread(error) from error
        inbox.put(call)

    def _work(self, inbox: queue.SimpleQueue[Callable[[], None]]) -> None:
        while True:
            try:
                inbox.get(timeout=self.IDLE_S)()
            except queue.Empty:
                with self._lock:
                    if inbox in self._idle:
                        self._idle.remove(inbox)
                        return
                continue  # a call is on its way
            with self._lock:
                self._idle.append(inbox)


class Ahead:
    """Begins something once, in a thread of its own, ahead of those who need what comes of it.

    They do it themselves where it fails, and get its error then.

    Args:
        name: Of the thread, for debuggers.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._has_begun = False

    def begin(self, call: Callable[[], object]) -> None:
        """Begin, unless it has begun already; where no thread can be started, leave it to them."""
        with self._lock:
            is_first, self._has_begun = not self._has_begun, True
        if is_first:
            with suppress(RuntimeError):
                threading.Thread(target=_quietly, args=(call,), name=self._name, daemon=True).start()

    def reset(self) -> None:
        """Begin again the next time."""
        self._has_begun = False


def _quietly(call: Callable[[], object]) -> None:
    with suppress(Exception):
        call()


class DaemonExecutor(Executor):
    """Makes calls in threads that an interpreter which wants to exit never waits for, unlike `ThreadPoolExecutor`'s.

    Args:
        most: Calls at the same time, at most; others wait for their turn.
        name: Of the threads, for debuggers.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._threads = SpareThreads(name)
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._working = 0
        self._unfinished: set[Future[Any]] = set()

    def submit(self, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Have a call made, as soon as its turn has come.

        Where no more threads can be started, those that there are make it.

        Raises:
            MultimodalSearchError: There are none.
        """
        future: Future[R] = Future()
        waiting = future, lambda: call(*args, **kwargs)
        with self._lock:
            self._unfinished.add(future)
            self._waiting.append(waiting)
            starts = self._working < self._most
            self._working += starts
        future.add_done_callback(self._unfinished.discard)
        if starts:
            try:
                self._threads.run(self._work)
            except MultimodalSearchError:
                with self._lock:
                    self._working -= 1
                    is_alone = not self._working
                    if is_alone:
                        self._waiting.remove(waiting)
                        self._unfinished.discard(future)
                if is_alone:
                    raise
        return future

    @property
    def is_full(self) -> bool:
        """Whether calls wait for their turn."""
        return bool(self._waiting)

    @property
    def unfinished(self) -> set[Future[Any]]:
        """The calls that have not come to their end."""
        return set(self._unfinished)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._working -= 1
                    return
                future, call = self._waiting.popleft()
            if future.done() or not future.set_running_or_notify_cancel():
                continue
            with suppress(InvalidStateError):  # nobody waits for it any more
                try:
                    result = call()
                except BaseException as error:  # noqa: BLE001 (handed to whoever waits for the call)
                    future.set_exception(error)
                else:
                    future.set_result(result)
