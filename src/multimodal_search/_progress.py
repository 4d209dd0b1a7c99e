"""Progress of long calls: events for apps, sent at a bounded rate, and a bar for people."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from multimodal_search.report import Progress, ProgressCallback, Stage

TELL_S = 0.1
"""Seconds between two events when nothing is stored."""


def progress_callback(progress: bool | ProgressCallback | None, first: Stage = "indexing") -> ProgressCallback:
    """Resolve the argument `progress` to a callback.

    Args:
        progress: A callback; True for a bar, False for none, None for a bar on a terminal or in a notebook.
        first: The stage that the run begins with.

    Raises:
        TypeError: `progress` is none of these.
    """
    if callable(progress):
        return progress
    if progress is not None and not isinstance(progress, bool):
        raise TypeError(f"progress is True, False, None or a function of an event, not {type(progress).__name__}")
    if progress or (progress is None and _is_watched()):
        return _Bar(first)
    return lambda event: None


def _is_watched() -> bool:
    in_notebook = "ipykernel" in sys.modules
    return in_notebook or (sys.stderr is not None and sys.stderr.isatty())


class Ticker:
    """Sends progress events: one at once when there is news, others at most every `TELL_S` seconds.

    Args:
        on_progress: Called with each event.
        event: Makes it, given the seconds since the beginning, and whether it is the last one.
    """

    def __init__(self, on_progress: ProgressCallback, event: Callable[[float, bool], Progress]) -> None:
        self._on_progress = on_progress
        self._event = event
        self._began = time.monotonic()
        self._told_s = 0.0

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def tell(self, *, is_news: bool = False, finished: bool = False) -> None:
        """Send an event, if it is due."""
        seconds = self.seconds
        if finished or is_news or seconds - self._told_s > TELL_S:
            self._told_s = seconds
            self._on_progress(self._event(seconds, finished))

    @contextmanager
    def to_the_end(self) -> Iterator[None]:
        """Send the last event when everything within is over, or has failed."""
        try:
            yield
        except BaseException:
            with suppress(Exception):  # what went wrong before is what counts
                self.tell(finished=True)
            raise
        self.tell(finished=True)


class _Bar:
    """A bar on stderr or in a notebook for each stage, drawn by tqdm."""

    _SHARE = "{desc}: {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}]"
    _CLOCK = "{desc} [{elapsed}]"

    def __init__(self, first: Stage) -> None:
        from tqdm.auto import tqdm

        self._new = tqdm
        self._stage = first
        self._bar = tqdm(unit=" items", dynamic_ncols=True, desc=first)

    def __call__(self, event: Progress) -> None:
        if event.stage != self._stage:
            self._bar.close()
            self._stage = event.stage
            self._bar = self._new(unit=" items", dynamic_ncols=True, desc=event.stage)
        if event.stage in ("optimizing", "calibrating"):  # these count no items
            self._bar.bar_format = self._CLOCK if event.share is None else self._SHARE
            self._bar.total, self._bar.n = 1.0, event.share or 0.0
            self._bar.refresh()
        else:
            self._bar.total = event.total if event.total is None else max(event.total, event.done)
            if event.failed:
                self._bar.set_postfix(failed=event.failed, refresh=False)
            self._bar.update(event.done - self._bar.n)
        if event.finished:
            self._bar.close()
