"""A fixed number of threads that work off a queue and hand their results to one inbox."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from multimodal_search.errors import MultimodalSearchError

T = TypeVar("T")
R = TypeVar("R")


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


class Workers(Generic[T, R]):
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
        """Queue a task; called from one thread only, which also takes from the inbox and calls `settle`.

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

    def settle(self) -> None:
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
