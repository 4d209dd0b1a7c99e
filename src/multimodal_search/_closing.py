"""Ending the long calls of an index that is closed, from whatever thread."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from multimodal_search.errors import StoreClosedError

T = TypeVar("T")


class Interruptible(Protocol):
    """Something that waits, and can be told not to."""

    def interrupt(self) -> None:
        """End the waits that go on now."""
        ...


WAIT_S = 1.0
"""How long closing waits for calls under way. Most look here several times a second; one that waits for a source that
does not answer cannot be cut short."""


class Closing:
    """Whether an index is being closed: its long calls look here between two steps, and end.

    Attributes:
        asked: Set when it is.
    """

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._asked_at = 0.0
        self._threads: list[int] = []  # of the calls under way
        self._changed = threading.Condition()
        self._waiting = weakref.WeakSet[Interruptible]()

    def check(self) -> None:
        """Go on, or not.

        Raises:
            StoreClosedError: The index was closed, or is about to be.
        """
        if self.asked.is_set():
            raise StoreClosedError("the index was closed while this call was under way")

    def watched(self, items: Iterable[T]) -> Iterator[T]:
        """Items, until the index is closed.

        Raises:
            StoreClosedError: As `check`.
        """
        for item in items:
            self.check()
            yield item

    def telling(self, tell: Callable[[float], None]) -> Callable[[float], None]:
        """A function that tells how far something is, and that ends it when the index is closed."""

        def step(share: float) -> None:
            self.check()
            tell(share)

        return step

    @contextmanager
    def call(self) -> Iterator[None]:
        """What is done within is a long call, for whose end closing waits a little."""
        thread = threading.get_ident()
        with self._changed:
            self._threads.append(thread)
        try:
            yield
        finally:
            with self._changed:
                self._threads.remove(thread)
                self._changed.notify_all()

    def ask(self) -> None:
        """End the calls under way, and later ones as well."""
        if not self.asked.is_set():
            self._asked_at = time.monotonic()
            self.asked.set()
            for each in list(self._waiting):
                each.interrupt()

    def interrupts(self, waiting: Interruptible) -> None:
        """Have the waits of something ended when the index is closed."""
        self._waiting.add(waiting)

    def wait(self) -> None:
        """Wait for the calls of other threads to end, until at most `WAIT_S` after `ask`."""
        own = threading.get_ident()  # closed by a callback of its own call: that one cannot end before

        def is_over() -> bool:
            return all(thread == own for thread in self._threads)

        with self._changed:
            self._changed.wait_for(is_over, timeout=max(0.0, self._asked_at + WAIT_S - time.monotonic()))
