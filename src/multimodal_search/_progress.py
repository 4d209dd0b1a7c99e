"""How a run tells what it is doing: an event for apps, a bar for people."""

from __future__ import annotations

import sys

from multimodal_search.report import Progress, ProgressCallback, Stage

TELL_S = 0.1
"""Seconds between two events when nothing is stored."""


def progress_callback(progress: bool | ProgressCallback | None, first: Stage = "indexing") -> ProgressCallback:
    """What to call with each event.

    Args:
        progress: A callback; True for a bar, False for silence, None for a bar if a person watches.
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
