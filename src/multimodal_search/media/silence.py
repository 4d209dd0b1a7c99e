"""Silence the warnings, log records and stderr messages of image decoders."""

from __future__ import annotations

import ctypes
import importlib
import logging
import threading
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class _Silence:
    """Context manager that silences decoders in the threads that are inside.

    Pillow speaks through `warnings` and `logging`, libtiff by writing to file descriptor 2. `warnings.catch_warnings`
    would swap the filters of all threads, and put them back in the wrong order when two threads overlap. So there is
    one filter here, which applies to the threads inside and to no other, and goes when the last of them has left.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads_inside = 0
        self._filter: Any = ("ignore", _ThisThread(), Warning, None, 0)
        self._log_handler = logging.NullHandler()  # otherwise `logging` prints errors without a handler
        self._set_libtiff_error_handler = _libtiff_error_handler_setter()
        self._libtiff_error_handler: int | None = None

    def __enter__(self) -> None:
        filters: Any = warnings.filters
        with self._lock:
            self._threads_inside += 1
            if self._threads_inside == 1:
                logging.getLogger("PIL").addHandler(self._log_handler)
                self._libtiff_error_handler = self._set_libtiff_error_handler(None)
            if filters[:1] != [self._filter]:
                filters.insert(0, self._filter)
        self._filter[1].depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._filter[1].depth -= 1
        filters: Any = warnings.filters
        with self._lock:
            self._threads_inside -= 1
            if self._threads_inside == 0:
                logging.getLogger("PIL").removeHandler(self._log_handler)
                self._set_libtiff_error_handler(self._libtiff_error_handler)
                while self._filter in filters:
                    filters.remove(self._filter)


class _ThisThread(threading.local):
    """Takes the place of a warning filter's pattern: matches any message in the threads that are inside."""

    depth = 0

    def match(self, message: str, /) -> bool:
        return self.depth > 0


def _libtiff_error_handler_setter() -> Callable[[int | None], int | None]:
    """Sets libtiff's error handler, None for no handler, and returns the previous one."""
    try:
        setter = ctypes.CDLL(importlib.import_module("PIL._imaging").__file__).TIFFSetErrorHandler
    except (AttributeError, OSError):  # Pillow was built without libtiff, or does not export it, as on Windows
        return lambda handler: handler
    setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
    return setter


silence = _Silence()
