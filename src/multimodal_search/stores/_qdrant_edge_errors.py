"""What the in-process engine raises, as this library's errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from multimodal_search.errors import (
    ConfigurationError,
    MultimodalSearchError,
    SchemaMismatchError,
    StoreError,
    StoreLockedError,
)


@contextmanager
def translated(path: Path, *, loading: bool = False) -> Iterator[None]:
    """Run calls of the engine and the file system on the index in the folder `path`.

    Raises:
        StoreError: Whatever went wrong, in words.
    """
    try:
        yield
    except MultimodalSearchError:
        raise
    except Exception as error:  # the engine raises that, bare, with text
        raise _translate(error, path, loading=loading) from error
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # of the engine's language: no Exception, and not importable
            raise _translate(error, path, loading=loading) from error
        raise


def _translate(error: BaseException, path: Path, *, loading: bool) -> MultimodalSearchError:
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
