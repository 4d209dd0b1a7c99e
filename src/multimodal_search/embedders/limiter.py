"""Adaptive concurrency (AIMD) for calls of a service, and retries with backoff."""

from __future__ import annotations

import itertools
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from multimodal_search.errors import EmbedderError, MultimodalSearchError

CLOSED = "this embedder has been closed: make a new one"
INTERRUPTED = "interrupted"

_FIRST_PAUSE_S = 0.5
_MAX_PAUSE_S = 30.0
_MAX_DOUBLINGS = 6  # which is past the longest pause; a thousand would be past what a float can hold
_ATTEMPTS_BESIDE_OTHERS = 3  # two pauses of half a second and one: as long as a load balancer needs for another backend

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Passing:
    """What a temporary failure of a call says about repeating it.

    Attributes:
        asked_s: Seconds that the service asked to wait, if it did.
        retries: Attempts after the first one, at most; None for as many as there is time for.
        is_overload: Whether it says that there are too many calls, and nothing of this call itself. Any other trouble
            is the call's own when it has had a few attempts, and others came through meanwhile.
    """

    asked_s: float | None = None
    retries: int | None = None
    is_overload: bool = False


class ConcurrencyLimiter:
    """Adaptive limit on calls in flight (AIMD): shrunk on overload, grown by one for each round of successes.

    That is additive increase and multiplicative decrease, as in TCP (RFC 5681, section 3.1), with one difference: where
    a service refuses some calls of many, those that are still in flight tell how many it takes. The limit shrinks to
    these, but at most by half for calls that were sent together.

    Args:
        most: The limit to begin with, and never to exceed.
        ended: The error of calls that `close` or `interrupt` ends.
    """

    def __init__(self, most: int, *, ended: type[MultimodalSearchError] = EmbedderError) -> None:
        self._most = most
        self._ended_with = ended
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

    def repeat(
        self,
        attempt: Callable[[float], Result],
        *,
        within_s: float,
        passing: Callable[[Exception], Passing | None],
        at_once: bool = False,
        on_repeat: Callable[[Exception, int, float], None] = lambda error, attempts, pause_s: None,
    ) -> Result:
        """Make a call, and retry it while its failure may be temporary.

        Args:
            attempt: Makes it once; given the deadline, on the clock of `time.monotonic`.
            within_s: Seconds for all attempts and pauses together. Waiting for a place among our own calls does not
                count while others come through: then all that is missing is the place.
            passing: What an error says of that; None for trouble that stays.
            at_once: Whether the first attempt goes out whatever the limit, and its failure does not lower that, unless
                it says that there are too many calls.
            on_repeat: Told the error, how many attempts there were, and the pause before the next one.

        Returns:
            What the attempt that succeeded returned.

        Raises:
            Exception: What the last attempt raised.
            EmbedderError: `close` or `interrupt` was called; or what else was given as `ended`.
        """
        first = time.monotonic()
        deadline = first + within_s
        for attempts in itertools.count(1):
            is_free = at_once and attempts == 1
            with self.slot(-math.inf if is_free else deadline) as waited_s:
                deadline += waited_s
                began = time.monotonic()
                try:
                    result = attempt(deadline)
                except Exception as error:  # noqa: BLE001 (raised below, if it is not to be repeated)
                    failure = error
                    trouble = passing(error)
                    lowers = trouble is not None and (trouble.is_overload or not is_free)
                    troubles = self.on_overload(since=began) if lowers else 0
                else:
                    self.on_success()
                    return result
            if trouble is None or (trouble.retries is not None and attempts > trouble.retries):
                break
            if attempts >= _ATTEMPTS_BESIDE_OTHERS and not trouble.is_overload and self.has_succeeded_since(first):
                break
            # Where others come through, all that is missing is a place, and the limit sees to that.
            pause_s = backoff_s(min(attempts, troubles + attempts // 2), asked_s=trouble.asked_s)
            if time.monotonic() + pause_s >= deadline:
                break
            on_repeat(failure, attempts, pause_s)
            self.pause(pause_s)
        raise failure

    @contextmanager
    def slot(self, deadline: float) -> Iterator[float]:
        """Wait for a free place and hold it.

        The wait ends at `deadline` (on the clock of `time.monotonic`), or that long after the last success of others,
        with or without a place: an attempt that has no time left fails by itself.

        Yields:
            The seconds of the wait up to the last success of others.

        Raises:
            EmbedderError: `close` or `interrupt` was called; or what else was given as `ended`.
        """
        with self._freed:
            began = time.monotonic()
            shift_s = 0.0
            while True:
                self._wait(self._freed, self._has_slot, deadline + shift_s - time.monotonic())
                shift_s = max(0.0, self._succeeded_at - began)
                if self._has_slot() or time.monotonic() >= deadline + shift_s:
                    break
            self._in_flight += 1
        try:
            yield shift_s
        finally:
            with self._freed:
                self._in_flight -= 1
                self._freed.notify()

    def on_success(self) -> None:
        """Note that the service took a call: raise the limit a little."""
        with self._freed:
            self._succeeded_at = time.monotonic()
            self._troubles = 0
            self._limit = min(float(self._most), self._limit + 1.0 / self._limit)
            self._freed.notify()

    def on_overload(self, *, since: float) -> int:
        """Note that the service did not take a call sent at `since`; call it while that still holds its place.

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

    def _has_slot(self) -> bool:
        return self._in_flight < int(self._limit)

    def _notify_all(self) -> None:
        self._freed.notify_all()
        self._ended.notify_all()

    def _wait(self, changed: threading.Condition, until: Callable[[], bool], seconds: float) -> None:
        before = self._interruptions
        changed.wait_for(lambda: until() or self._closed or self._interruptions > before, timeout=max(0.0, seconds))
        if self._closed:
            raise self._ended_with(CLOSED)
        if self._interruptions > before:
            raise self._ended_with(INTERRUPTED)


def backoff_s(attempts: int, *, asked_s: float | None = None) -> float:
    """Exponential backoff with jitter: doubling seconds, or what the service asks for in `Retry-After`.

    Args:
        attempts: How many have failed.
        asked_s: What the service asked for, if it did.
    """
    doublings = min(attempts - 1, _MAX_DOUBLINGS)
    own_s: float = min(_MAX_PAUSE_S, _FIRST_PAUSE_S * 2**doublings) * random.uniform(0.5, 1.0)  # noqa: S311
    return max(own_s, (asked_s or 0.0) + own_s / 10)
