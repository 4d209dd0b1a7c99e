"""Which stored points have lost their files."""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Iterator
from typing import Any

from multimodal_search._filters import Exactly
from multimodal_search._job import is_gone, path_of
from multimodal_search._patience import PatientStore
from multimodal_search._sources import Walk
from multimodal_search.types import PointId

_CHUNK = 256


def vanished(
    store: PatientStore, walk: Walk, *, moved: Collection[PointId], left_roots: Collection[str]
) -> Iterator[list[PointId]]:
    """The points below a walked folder whose files are gone, or are other programs' own, in lists of some hundred.

    A file counts as gone only if the operating system says so: one that may not be looked at, or lies in a folder that
    could not be read, does not.

    Args:
        store: Where the points are.
        walk: The walk, at its end.
        moved: Points that are taken care of.
        left_roots: Folders that are gone, and have become the walk's: their points are looked for here.
    """
    unread = tuple(f"{folder.rstrip(os.sep)}{os.sep}" for folder in walk.unread)
    gone = (
        record.id
        for root in (walk.root, *left_roots)
        for record in store.scan(where=below(walk, root), fields=["root", "filename"])
        if record.id not in moved and walk.covers(str(record.payload.get("filename")))
        if walk.is_clutter(str(record.payload.get("filename")))
        or ((path := path_of(record, root=walk.root)) and not path.startswith(unread) and is_gone(path, root=walk.root))
    )
    while chunk := list(itertools.islice(gone, _CHUNK)):
        yield chunk


def below(walk: Walk, root: str) -> dict[str, Any]:
    """The filter for points of files below a walked folder, by their root."""
    # Exactly: a folder whose name is spelled otherwise is another one.
    return {"root": Exactly(root), **({"filename": {"prefix": Exactly(walk.below_root)}} if walk.below_root else {})}
