"""The options of an indexing run: as keyword arguments, and checked."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypedDict

from typing_extensions import Unpack

from multimodal_search._bounds import check_flags, is_whole
from multimodal_search._progress import progress_callback
from multimodal_search._text import brief
from multimodal_search.errors import ConfigurationError
from multimodal_search.report import ProgressCallback

WINDOW_BYTES = 256 * 1024 * 1024


class RunSettings(TypedDict, total=False):
    """The keyword settings of `MultimodalIndex.add`."""

    on_error: str
    progress: bool | ProgressCallback | None
    window_bytes: int
    retry_failed: bool


class ImagesSettings(RunSettings, total=False):
    """The keyword settings of `MultimodalIndex.add_images`."""

    root: str | os.PathLike[str] | None
    pattern: str | Iterable[str] | None
    exclude: str | Iterable[str] | None
    recursive: bool


class SyncSettings(ImagesSettings, total=False):
    """The keyword settings of `MultimodalIndex.sync_folder`."""

    follow_symlinks: bool
    prune: bool
    gone: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
    dry_run: bool


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options of an indexing run, checked; `MultimodalIndex.add` documents them."""

    raise_errors: bool
    on_progress: ProgressCallback
    window_bytes: int
    retry_failed: bool

    @classmethod
    def of(cls, **settings: Unpack[RunSettings]) -> RunOptions:
        """From the arguments of `MultimodalIndex.add`.

        Raises:
            ConfigurationError: One of them makes no sense.
            TypeError: There is no such argument, or one has the wrong type.
        """
        unknown = settings.keys() - RunSettings.__annotations__.keys()
        if unknown:
            known = ", ".join(RunSettings.__annotations__)
            raise TypeError(f"unexpected keyword argument {min(unknown)!r}: the settings of a run are {known}")
        on_error = settings.get("on_error", "report")
        window_bytes = settings.get("window_bytes", WINDOW_BYTES)
        retry_failed = settings.get("retry_failed", False)
        if not isinstance(on_error, str) or on_error not in ("report", "raise"):
            raise ConfigurationError(f'on_error must be "report" or "raise", not {brief(on_error)}')
        # NaN, of which nothing is less, would have the run wait for room for ever.
        if not is_whole(window_bytes, least=1):
            raise ConfigurationError(f"window_bytes must be a whole number, at least 1, not {brief(window_bytes)}")
        check_flags(retry_failed=retry_failed)
        return cls(on_error == "raise", progress_callback(settings.get("progress")), window_bytes, retry_failed)
