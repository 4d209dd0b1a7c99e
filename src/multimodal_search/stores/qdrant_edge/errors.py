"""What the in-process engine raises, as this library's errors."""

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
    """The words of an error of the file system, without its number and the path; of another error, all of it."""
    return str(getattr(error, "strerror", None) or error)


@contextmanager
def translated(path: Path, *, loading: bool = False) -> Iterator[None]:
    """Run calls of the engine and the file system on the index in the folder `path`.

    Raises:
        StoreError: Whatever went wrong, in words.
    """
    try:
        yield
    except BaseException as error:  # noqa: BLE001 (raised again)
        raise_translated(error, path, loading=loading)


def raise_translated(error: BaseException, path: Path, *, loading: bool = False) -> NoReturn:
    """What `translated` does with an error; for the one call that must take no microsecond longer than it needs."""
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
        return ConfigurationError(f"the engine takes no such value: {text}")
    if loading:
        return StoreError(
            f"the files in {path / 'shard'} cannot be loaded: {text}. If they are damaged, restore them from a copy, "
            f"or delete {path} and index again"
        )
    return StoreError(f"the engine failed on {path}: {text}")
