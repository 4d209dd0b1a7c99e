"""Errors travel: between processes, into logs, and through copies."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

from multimodal_search import (
    EmbedderUnavailableError,
    Failure,
    IndexingError,
    IndexingInterrupted,
    IndexReport,
    NotAnImageError,
    StoreLockedError,
    errors,
)

REPORT = IndexReport(added=3, failed=(Failure(name="a.jpg", stage="load", reason="no such file"),))
CARRIED: dict[str, dict[str, Any]] = {
    "NotAnImageError": {"kind": "video"},
    "EmbedderUnavailableError": {"retry_after_s": 2.5, "trouble": "time-out"},
    "EmbedderResponseError": {"vectors": None, "flaws": {3: "a vector that holds NaN"}},
    "UnsupportedContentError": {"vectors": None, "flaws": {3: "no vector: too large"}},
    "StoreLockedError": {"holder": "process 42 on host"},
    "StoreRefusedError": {"too_large": True},
    "StoreUnavailableError": {"retry_after_s": 2.5, "trouble": "internal"},
    "UnknownLanguageWarning": {"advice": ""},
    "IndexingError": {"report": REPORT},
    "IndexingInterrupted": {"report": REPORT},
}
KINDS = [
    kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, BaseException) and not name.startswith("_")
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_is_pickled_and_copied_with_what_it_carries(kind: type[BaseException]) -> None:
    carried = CARRIED.get(kind.__name__, {})
    error = kind("a.jpg: no such file", **carried)
    error.noted = ["by a program"]  # type: ignore[attr-defined]  # what anybody may add
    copies = [pickle.loads(pickle.dumps(error, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for again in (*copies, copy.copy(error), copy.deepcopy(error)):
        assert type(again) is kind
        assert str(again) == "a.jpg: no such file"
        assert again.args == error.args
        assert vars(again) == vars(error) == {**carried, "noted": ["by a program"]}


def fail(number: int) -> None:
    """In another process."""
    if number == 0:
        raise IndexingError("the disk is full", report=REPORT)
    if number == 1:
        raise NotAnImageError("a.mp4: a video", kind="video")
    if number == 2:
        raise EmbedderUnavailableError("busy", retry_after_s=3)
    raise StoreLockedError("held by another process")


def test_errors_come_back_from_a_process_pool() -> None:
    """One that cannot be unpickled breaks the whole pool, and what was raised is never seen."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        raised = [pool.submit(fail, number).exception() for number in range(4)]
    assert [type(error) for error in raised] == [
        IndexingError,
        NotAnImageError,
        EmbedderUnavailableError,
        StoreLockedError,
    ]
    assert isinstance(raised[0], IndexingError)
    assert raised[0].report == REPORT


def test_an_interruption_stays_one() -> None:
    again = pickle.loads(pickle.dumps(IndexingInterrupted("interrupted", report=REPORT)))
    assert isinstance(again, KeyboardInterrupt)
    assert not isinstance(again, Exception)
