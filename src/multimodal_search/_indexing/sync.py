"""Which stored points have lost their files."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

from multimodal_search._indexing.absence import DELETED, Absence, is_below, told
from multimodal_search._indexing.retrying_store import RetryingStore
from multimodal_search._indexing.sources import Walk
from multimodal_search.filters.nodes import Exactly
from multimodal_search.types import PointId

_CHUNK = 256


def find_deleted(
    store: RetryingStore,
    walk: Walk,
    absence: Absence,
    *,
    moved: Collection[PointId],
    moved_roots: Collection[str],
    not_seen: Counter[str],
) -> Iterator[list[PointId]]:
    """The points below a walked folder whose files were deleted, or are other programs' own, in lists of some hundred.

    Each file is looked at twice, the second time when its list is full: what went out of sight meanwhile stays.

    Args:
        store: Where the points are.
        walk: The walk, at its end.
        absence: Tells deleted files from those that are out of sight.
        moved: Points that are taken care of.
        moved_roots: Folders that are gone, and have become the walk's: their points are looked for, too.
        not_seen: Counts the points that stay because their files are out of sight, by folder.
    """
    here = folder_of(walk)

    def is_deleted(filename: str, root: str) -> bool:
        if walk.is_clutter(filename):
            return True
        # Below the walk's own root, the look would find it, too.
        if root != walk.root and os.path.isfile(os.path.join(walk.root, filename)):  # noqa: PTH113, PTH118 (many)
            return False  # it has moved with the folder
        verdict = absence.look(os.path.join(root, filename))  # noqa: PTH118
        if verdict not in ("", DELETED):
            top = os.path.normpath(os.path.join(root, walk.below_root))  # noqa: PTH118
            not_seen[told(top if is_below(top, verdict) else verdict, below=here)] += 1
        return verdict == DELETED

    candidates = (
        (record.id, str(record.payload["filename"]), root)
        for root in dict.fromkeys((walk.root, *moved_roots, *absence.gone_elsewhere))
        for record in store.scan(where=below(walk, root), fields=["root", "filename"])  # others would only take time
        if record.id not in moved
        and walk.covers(str(record.payload.get("filename")))
        and is_deleted(str(record.payload["filename"]), root)
    )
    while chunk := list(itertools.islice(candidates, _CHUNK)):
        yield [point_id for point_id, filename, root in chunk if is_deleted(filename, root)]


def below(walk: Walk, root: str) -> dict[str, Any]:
    """The filter for points of files below a walked folder, by their root."""
    # Exactly: a folder whose name is spelled otherwise is another one.
    return {"root": Exactly(root), **({"filename": {"prefix": Exactly(walk.below_root)}} if walk.below_root else {})}


def folder_of(walk: Walk) -> str:
    """The walked folder, absolute."""
    return os.path.normpath(os.path.join(walk.root, walk.below_root))  # noqa: PTH118 (as paths are stored)
