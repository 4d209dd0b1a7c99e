"""Translate the errors of the in-process engine to this library's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from multimodal_search.errors import (
    ConfigurationError,
    MultimodalSearchError,
    SchemaMismatchError,
    StoreError,
    StoreLockedError,
)


def reason_of(error: Exception) -> str:
    """The message of an error; of an OSError without its number and path."""
    return str(getattr(error, "strerror", None) or error)


@contextmanager
def translated(path: Path, *, loading: bool = False) -> Iterator[None]:
    """Translate the errors of calls of the engine and the file system on the index in `path`.

    Raises:
        StoreError: A call failed.
    """
    try:
        yield
    except BaseException as error:  # noqa: BLE001 (raised again)
        raise_translated(error, path, loading=loading)


def raise_translated(error: BaseException, path: Path, *, loading: bool = False) -> NoReturn:
    """Raise the translation of an error; without the cost of a context manager, for the most frequent calls."""
    # The engine raises bare `Exception`, and where it panics, something that is none and cannot be imported.
    foreign = isinstance(error, Exception) and not isinstance(error, MultimodalSearchError)
    if foreign or type(error).__name__ == "PanicException":
        raise _translation(error, path, loading=loading) from error
    raise error


def _translation(error: BaseException, path: Path, *, loading: bool) -> MultimodalSearchError:
    text = str(error)
    if "No space left" in text or "os error 28" in text:
        return StoreError(f"the disk that holds {path} is full: free some space, then open it again ({text})")
    if "WouldBlock" in text:
        return StoreLockedError(
            f"the files of {path} are still held by a process that was forked from one that had it open: end that first"
        )
    if "Vector dimension error" in text:
        return SchemaMismatchError(f"{path} does not hold vectors of that length ({text})")
    if isinstance(error, TypeError):
        return ConfigurationError(f"the engine does not take this value: {text}")
    if loading:
        return StoreError(
            f"the files in {path / 'shard'} cannot be loaded: {text}. If they are damaged, restore them from a copy, "
            f"or delete {path} and index again"
        )
    return StoreError(f"the engine failed on {path}: {text}")
