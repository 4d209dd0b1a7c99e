"""A candidate for indexing, not yet read."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from uuid import UUID

from multimodal_search.contents import Content, Image
from multimodal_search.errors import UnreadableContentError
from multimodal_search.report import Failure
from multimodal_search.types import Payload, PointId


@dataclass(slots=True, kw_only=True, eq=False)
class Candidate:
    """One candidate for indexing, not yet read.

    Attributes:
        name: What reports call it.
        given: What to embed; None for an image in a file, which `content` makes when it is needed.
        path: The file it is, if it is one; not for what is inside an archive.
        filename: The file's POSIX path below `root`.
        root: The indexed folder or archive, absolute.
        size_and_mtime: Of the file when it was found, in bytes and nanoseconds.
        has_root: Whether `root` follows from what the user gave; else it was chosen here, and where the very file is
            stored below another folder, that one goes before.
        id: The id that the user gave it.
        is_named: Whether the user named this very file, and not a folder or a pattern.
        payload: The user's own fields; None where the source can have none, so that those of before stay.
    """

    name: str
    given: Content | None = None
    path: str | None = None
    filename: str | None = None
    root: str | None = None
    size_and_mtime: tuple[int, int] | None = None
    has_root: bool = True
    id: PointId | UUID | None = None
    is_named: bool = False
    payload: Payload | None = None

    @property
    def content(self) -> Content:
        """What to embed."""
        return Image(self.path or "", name=self.name) if self.given is None else self.given


Source: TypeAlias = Iterator[Candidate | Failure]


def size_and_mtime(path: str) -> tuple[int, int]:
    """Size in bytes and time of change in nanoseconds of a regular file.

    Raises:
        UnreadableContentError: It is missing, or no regular file.
    """
    try:
        status = Path(path).stat()
    except OSError as error:
        raise UnreadableContentError(error.strerror or str(error)) from error
    except ValueError as error:  # a NUL in the name
        raise UnreadableContentError(str(error)) from error
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableContentError("not a regular file")
    return status.st_size, status.st_mtime_ns
