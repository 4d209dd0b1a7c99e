"""A memory budget shared by all threads of the process, as a fair semaphore of bytes."""

from __future__ import annotations

import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LARGE_BYTES = 64 * 1024 * 1024


class MemoryBudget:
    """A semaphore of bytes, first come, first served, so that no thread waits for ever.

    A request for more than the total gets the total, and so runs alone. A thread that holds bytes must not ask for
    more. After a fork the child has its own budget: the threads that held the parent's do not exist there.

    Args:
        total_bytes: The budget.
    """

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._room = _Room(total_bytes)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._start_anew)

    def _start_anew(self) -> None:
        self._room = _Room(self.total_bytes)

    @contextmanager
    def hold(self, size_bytes: int) -> Iterator[None]:
        """Wait for bytes, and hold them in the block."""
        room = self._room  # after a fork, bytes are given back to the room that they came from
        size_bytes = min(size_bytes, self.total_bytes)
        turn = object()
        held = 0
        try:
            with room.changed:
                room.waiting.append(turn)
                try:
                    while room.waiting[0] is not turn or room.free_bytes < size_bytes:
                        room.changed.wait(0.2)  # Ctrl-C does not interrupt an endless wait on every system
                    held = size_bytes
                    room.free_bytes -= held
                finally:  # Ctrl-C ends a wait
                    room.waiting.remove(turn)
                    room.changed.notify_all()
            yield
        finally:
            if held >= _LARGE_BYTES:
                _trim()
            with room.changed:
                room.free_bytes += held
                room.changed.notify_all()


def _find_trim() -> Callable[[], object]:
    """The C function that gives freed memory back to the system: glibc keeps it for the thread that freed it."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library
        return lambda: None
    trim.argtypes = [ctypes.c_size_t]
    return lambda: trim(0)


_trim = _find_trim()


class _Room:
    def __init__(self, free_bytes: int) -> None:
        self.free_bytes = free_bytes
        self.waiting: deque[object] = deque()
        self.changed = threading.Condition()
