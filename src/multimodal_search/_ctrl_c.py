"""Ctrl-C that does not get lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass(slots=True)
class CtrlC:
    """Whether Ctrl-C has been pressed."""

    is_pressed: bool = False


@contextmanager
def interrupt_flag() -> Iterator[CtrlC]:
    """Note Ctrl-C, in addition to the `KeyboardInterrupt` that it raises.

    That one gets lost where it strikes while an object is finalised: Python prints it, and goes on. Only in the main
    thread is there something to do, and only where nobody has a handler of their own.
    """
    noted = CtrlC()
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield noted
        return

    def handle(number: int, frame: FrameType | None) -> None:
        noted.is_pressed = True
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, handle)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def raised() -> Iterator[None]:
    """Have Ctrl-C raise `KeyboardInterrupt`, as Python does by itself, in a program that otherwise handles it.

    A program that ignores it goes on ignoring it.
    """
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    if not is_main or not callable(before):
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
