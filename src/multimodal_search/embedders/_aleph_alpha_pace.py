"""How many requests are in flight at once: what the service takes, found by trying."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from multimodal_search.errors import EmbedderError

CLOSED = "this embedder has been closed: make a new one"


class Pace:
    """A limit on requests in flight: halved when the service is overloaded, grown by one for each round of successes.

    That is additive increase and multiplicative decrease, as in TCP (RFC 5681, section 3.1).

    Args:
        most: The limit to begin with, and never to exceed.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._in_flight = 0
        self._shrunk_at = 0.0
        self._changed = threading.Condition()
        self._closed = threading.Event()

    @contextmanager
    def turn(self, deadline: float) -> Iterator[None]:
        """Wait for a free place and hold it.

        The wait ends at `deadline` (on the clock of `time.monotonic`) with or without a place: an attempt that has no
        time left fails by itself.

        Raises:
            EmbedderError: `close` was called.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._in_flight < int(self._limit) or self._closed.is_set(),
                timeout=max(0.0, deadline - time.monotonic()),
            )
            self._refuse_if_closed()
            self._in_flight += 1
        try:
            yield
        finally:
            with self._changed:
                self._in_flight -= 1
                self._changed.notify()

    def succeeded(self) -> None:
        """The service took a request: try a little more."""
        with self._changed:
            self._limit = min(float(self._most), self._limit + 1.0 / self._limit)
            self._changed.notify()

    def overloaded(self, *, since: float) -> None:
        """The service did not take a request sent at `since`; of those sent together only the first one counts."""
        with self._changed:
            if since >= self._shrunk_at:
                self._limit = max(1.0, self._limit / 2)
                self._shrunk_at = time.monotonic()

    def pause(self, seconds: float) -> None:
        """Wait.

        Raises:
            EmbedderError: `close` was called before or meanwhile.
        """
        self._closed.wait(seconds)
        self._refuse_if_closed()

    def close(self) -> None:
        """End every wait."""
        self._closed.set()
        with self._changed:
            self._changed.notify_all()

    def _refuse_if_closed(self) -> None:
        if self._closed.is_set():
            raise EmbedderError(CLOSED)
