"""How many calls are in flight at once, found by trying; and how long to wait before the next attempt."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from multimodal_search.errors import EmbedderError

CLOSED = "this embedder has been closed: make a new one"
INTERRUPTED = "interrupted"

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0


class Pace:
    """A limit on calls in flight: shrunk when the service is overloaded, grown by one for each round of successes.

    That is additive increase and multiplicative decrease, as in TCP (RFC 5681, section 3.1), with one difference: where
    a service refuses some calls of many, those that are still in flight tell how many it takes. The limit shrinks to
    these, but at most by half for calls that were sent together.

    Args:
        most: The limit to begin with, and never to exceed.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._floor = 1.0
        self._in_flight = 0
        self._shrunk_at = 0.0
        self._succeeded_at = 0.0
        self._troubles = 0
        # Two conditions, so that a place that becomes free wakes one that waits for it, and none that pauses.
        lock = threading.Lock()
        self._freed = threading.Condition(lock)
        self._ended = threading.Condition(lock)
        self._interruptions = 0
        self._closed = False

    @contextmanager
    def turn(self, deadline: float) -> Iterator[None]:
        """Wait for a free place and hold it.

        The wait ends at `deadline` (on the clock of `time.monotonic`) with or without a place: an attempt that has no
        time left fails by itself.

        Raises:
            EmbedderError: `close` or `interrupt` was called.
        """
        with self._freed:
            self._wait(self._freed, lambda: self._in_flight < int(self._limit), deadline - time.monotonic())
            self._in_flight += 1
        try:
            yield
        finally:
            with self._freed:
                self._in_flight -= 1
                self._freed.notify()

    def succeeded(self) -> None:
        """The service took a call: try a little more."""
        with self._freed:
            self._succeeded_at = time.monotonic()
            self._troubles = 0
            self._limit = min(float(self._most), self._limit + 1.0 / self._limit)
            self._freed.notify()

    def overloaded(self, *, since: float) -> int:
        """The service did not take a call sent at `since`; to be said while the call still holds its place.

        Returns:
            How many times in a row that was so, without a success in between; calls sent together are one time.
        """
        with self._freed:
            if since >= self._shrunk_at:
                self._shrunk_at = time.monotonic()
                self._floor = max(1.0, self._limit / 2)
                self._troubles += 1
            self._limit = max(self._floor, min(self._limit, self._in_flight - 1.0))
            return max(1, self._troubles)

    def has_succeeded_since(self, moment: float) -> bool:
        """Whether the service has taken any call since then, on the clock of `time.monotonic`."""
        return self._succeeded_at > moment

    def pause(self, seconds: float) -> None:
        """Wait.

        Raises:
            EmbedderError: `close` or `interrupt` was called before or meanwhile.
        """
        with self._ended:
            self._wait(self._ended, lambda: False, seconds)

    def interrupt(self) -> None:
        """End every wait that goes on now."""
        with self._ended:
            self._interruptions += 1
            self._notify_all()

    def close(self) -> None:
        """End every wait, for good."""
        with self._ended:
            self._closed = True
            self._notify_all()

    def _notify_all(self) -> None:
        self._freed.notify_all()
        self._ended.notify_all()

    def _wait(self, changed: threading.Condition, until: Callable[[], bool], seconds: float) -> None:
        before = self._interruptions
        changed.wait_for(lambda: until() or self._closed or self._interruptions > before, timeout=max(0.0, seconds))
        if self._closed:
            raise EmbedderError(CLOSED)
        if self._interruptions > before:
            raise EmbedderError(INTERRUPTED)


def pause_after(attempts: int, *, asked_s: float | None = None) -> float:
    """Seconds to wait: doubling, or what the service asks for; with jitter, so that not all come back together.

    Args:
        attempts: How many have failed.
        asked_s: What the service asked for, if it did.
    """
    own_s: float = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (attempts - 1)) * random.uniform(0.5, 1.0)  # noqa: S311
    return max(own_s, (asked_s or 0.0) + own_s / 10)
