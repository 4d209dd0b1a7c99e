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

_DECREASE = 0.8
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0


class Pace:
    """A limit on calls in flight: lowered when the service is overloaded, grown by one for each round of successes.

    That is additive increase and multiplicative decrease, as in TCP. It is halved until the first success after that
    (RFC 5681, section 3.1), and then multiplied by 0.8: what the service takes is nearly known, and to fall far below
    it would idle (RFC 9438 takes 0.7 for the same reason).

    Args:
        most: The limit to begin with, and never to exceed.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._in_flight = 0
        self._shrunk_at = 0.0
        self._is_settled = False
        self._changed = threading.Condition()
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
        with self._changed:
            self._wait(lambda: self._in_flight < int(self._limit), max(0.0, deadline - time.monotonic()))
            self._in_flight += 1
        try:
            yield
        finally:
            with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()  # some of those who wait here only pause

    def succeeded(self) -> None:
        """The service took a call: try a little more."""
        with self._changed:
            self._limit = min(float(self._most), self._limit + 1.0 / self._limit)
            self._is_settled = self._shrunk_at > 0
            self._changed.notify_all()

    def overloaded(self, *, since: float) -> None:
        """The service did not take a call sent at `since`; of those sent together only the first one counts."""
        with self._changed:
            if since >= self._shrunk_at:
                self._limit = max(1.0, self._limit * (_DECREASE if self._is_settled else 0.5))
                self._is_settled = False
                self._shrunk_at = time.monotonic()

    def pause(self, seconds: float) -> None:
        """Wait.

        Raises:
            EmbedderError: `close` or `interrupt` was called before or meanwhile.
        """
        with self._changed:
            self._wait(lambda: False, seconds)

    def interrupt(self) -> None:
        """End every wait that goes on now."""
        with self._changed:
            self._interruptions += 1
            self._changed.notify_all()

    def close(self) -> None:
        """End every wait, for good."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _wait(self, until: Callable[[], bool], seconds: float) -> None:
        before = self._interruptions
        self._changed.wait_for(
            lambda: until() or self._closed or self._interruptions > before, timeout=max(0.0, seconds)
        )
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
