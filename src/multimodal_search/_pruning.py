"""Which stored points have lost their files."""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Iterator
from typing import Any

from multimodal_search._job import is_gone, path_of
from multimodal_search._patience import PatientStore
from multimodal_search._sources import Walk
from multimodal_search.protocols import VectorStore
from multimodal_search.types import PointId

_CHUNK = 256


def vanished(store: VectorStore, walk: Walk, moved: Collection[PointId]) -> Iterator[list[PointId]]:
    """The points below a walked folder whose files are gone, in lists of some hundred.

    A file counts as gone only if the operating system says so: one that may not be looked at, or lies in a folder that
    could not be read, does not.

    Args:
        store: Where the points are.
        walk: The walk, at its end.
        moved: Points that are taken care of.
    """
    unread = tuple(f"{folder.rstrip(os.sep)}{os.sep}" for folder in walk.unread)
    gone = (
        record.id
        for record in PatientStore(store).scan(where=below(walk), fields=["root", "filename"])
        if record.id not in moved and (path := path_of(record)) and not path.startswith(unread)
        if is_gone(path, root=walk.root)
    )
    while chunk := list(itertools.islice(gone, _CHUNK)):
        yield chunk


def below(walk: Walk) -> dict[str, Any]:
    """The filter for points of files below a walked folder."""
    return {"root": walk.root, **({"filename": {"prefix": walk.below_root}} if walk.below_root else {})}
