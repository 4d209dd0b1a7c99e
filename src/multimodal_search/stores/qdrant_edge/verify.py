"""Verify an in-process index: whether files, points, payload indexes and vectors are as written."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from operator import methodcaller
from typing import TYPE_CHECKING

from multimodal_search.errors import QueryError, StoreClosedError, StoreError
from multimodal_search.filters.nodes import FieldPath
from multimodal_search.stores.keywords import WORDS, own_payload, point_words
from multimodal_search.stores.qdrant_edge.checksums import (
    CHECKS,
    Expected,
    file_key,
    payload_bytes,
    point_check,
    point_key,
    vector_of,
    without_vector,
)
from multimodal_search.stores.qdrant_edge.disk_space import size_of
from multimodal_search.stores.qdrant_edge.engine import engine
from multimodal_search.stores.qdrant_edge.errors import reason_of
from multimodal_search.stores.qdrant_edge.fields import NO_INDEX, FieldCheck
from multimodal_search.stores.qdrant_edge.folder import EdgeFolder
from multimodal_search.stores.qdrant_edge.inventory import Inventory
from multimodal_search.stores.qdrant_edge.opening import RESTORE
from multimodal_search.stores.qdrant_edge.plausible import implausible
from multimodal_search.stores.qdrant_edge.text_index import FolderWords
from multimodal_search.stores.qdrant_shared.reading import CHUNK
from multimodal_search.stores.ranking import point_id
from multimodal_search.types import Filter, PointId, StoreState

if TYPE_CHECKING:
    from qdrant_edge import Record as EdgeRecord

_NAMED = 5  # ids and files in a message
_UNREADABLE = 100  # points that are tried one by one, before the rest of them is left out

_AGAIN = (
    "Index the same files or records again: what is missing is stored anew. Delete damaged points by id first, or "
    "they count as unchanged"
)


def status_of(folder: EdgeFolder) -> StoreState:
    """The size of an index, and what was missing when it was opened."""
    changed, size = folder.run(lambda _: (folder.checks.path.stat().st_mtime, size_of(folder.path)))
    advice = ("Run verify to find out what is damaged",) if folder.problems else ()
    return StoreState(
        size_bytes=size,
        changed=datetime.fromtimestamp(changed, timezone.utc),
        problems=folder.problems,
        advice=advice,
    )


def verify(folder: EdgeFolder, count: Callable[[Filter], int], on_tick: Callable[[int], None]) -> StoreState:
    """Compare everything in an index's folder with the checksums from when it was written.

    Args:
        folder: The index.
        count: How many of its points pass a filter.
        on_tick: Called now and then with the number of points that were read.
    """
    reading = _Reading(folder, count, on_tick)
    files = reading.files()
    expected = folder.run(lambda _: folder.checks.expected())
    points = reading.points(expected)
    advice = []
    if points:
        advice.append(_AGAIN)
    problems = dict.fromkeys([*folder.problems, *files, *points])
    if problems:
        advice.append(RESTORE.format(path=folder.path))
    return StoreState(problems=tuple(problems), advice=tuple(advice), bytes_read=reading.bytes_read)


class _Reading:
    def __init__(self, folder: EdgeFolder, count: Callable[[Filter], int], on_tick: Callable[[int], None]) -> None:
        self._folder = folder
        self._count = count
        self._tick = on_tick
        self.bytes_read = 0

    def files(self) -> list[str]:
        """Files of the engine that differ from what was written."""
        folder, damaged = self._folder, list[str]()
        inventory = folder.run(lambda _: folder.inventory) or Inventory()
        damaged += folder.run(lambda _: inventory.missing(folder.path, log_length=folder.checks.length))
        # Read without holding the folder, unless something was written since: then only what is never changed counts.
        length = folder.run(lambda _: folder.checks.length)
        for name, size, is_damaged in inventory.damaged(folder.path, log_length=length):
            self.bytes_read += size
            self._tick(0)
            if is_damaged and folder.run(lambda _: folder.checks.length) == length:
                damaged.append(f"{name} (other bytes than were written)")
        damaged += implausible(folder.path)
        return [f"files are damaged: {_listed(damaged)}"] if damaged else []

    def points(self, expected: Expected) -> list[str]:
        """Lost and damaged points, and what searching and filtering finds of the others."""
        folder = self._folder
        problems, damaged, unreadable, unknown = list[str](), list[PointId](), list[PointId](), list[PointId]()
        without, wordless, keywords = list[PointId](), list[PointId](), FolderWords(folder).keywords
        if expected.is_damaged:
            problems.append(f"{CHECKS} is damaged, so that points cannot be compared with what was written")
        self._own_files(expected, problems)
        fields = [FieldCheck(FieldPath(("_",)), NO_INDEX)]
        for path, kind in folder.indexes.kinds.items():
            with suppress(QueryError):  # a key that no filter can name
                fields.append(FieldCheck(FieldPath.parse(path), kind))
        found = 0
        for page, bad in self._pages():
            unreadable += bad
            for point in page:
                key, whole = point_id(point), point.payload or {}
                payload = own_payload(whole)
                found += 1
                text = payload_bytes(payload) or b""
                row = vector_of(point)
                if row is None:
                    without.append(key)
                    expected.checks.pop(point_key(key), None)
                    continue
                self.bytes_read += len(text) + row.nbytes
                checks = expected.checks.pop(point_key(key), None)
                if checks is None:
                    unknown.append(key)
                elif point_check(row, text) not in checks and without_vector(zlib.crc32(text)) not in checks:
                    damaged.append(key)
                elif keywords.complete and whole.get(WORDS) != point_words(payload, keywords.fields):
                    wordless.append(key)
                for field in fields:
                    field.add(whole)
            self._tick(found)
        lost = [key for key, checks in expected.points() if None not in checks]
        lost = [key for key in lost if key not in set(unreadable)]
        wrong = {"lost": lost, "unreadable": unreadable, "damaged": damaged, "missed by keyword search": wordless}
        for what, ids in wrong.items():
            if ids:
                problems.append(f"{len(ids):,} {'points are' if len(ids) > 1 else 'point is'} {what}: {_listed(ids)}")
        if unknown and not expected.is_damaged:
            problems.append(f"{len(unknown):,} points are in no log, as of an older copy: {_listed(unknown)}")
        if without:
            problems.append(f"only {found - len(without):,} of {found:,} points have a vector: not {_listed(without)}")
        elif not unreadable:
            problems += self._found(fields, found)
        return problems

    def _own_files(self, expected: Expected, problems: list[str]) -> None:
        path = self._folder.path
        notes = sorted((path / "notes").iterdir()) if (path / "notes").is_dir() else []
        for file in [path / "schema.json", *(note for note in notes if not note.name.endswith(".part"))]:
            name = file.relative_to(path).as_posix()
            checks = expected.checks.pop(file_key(name), None)
            try:
                content = file.read_bytes()
            except OSError as error:
                problems.append(f"{name} cannot be read ({reason_of(error)})")
                continue
            self.bytes_read += len(content)
            if checks is not None and zlib.crc32(content) not in checks:
                problems.append(f"{name} differs from what was written")
        gone = sum(1 for checks in expected.files() if None not in checks)
        if gone:
            problems.append(f"{gone} files in {path / 'notes'} are missing")

    def _pages(self) -> Iterator[tuple[Sequence[EdgeRecord], list[PointId]]]:
        """Pages of points with vectors and payloads, and the ids of unreadable ones."""
        edge, position, more, tried = engine(), None, True, 0
        while more:
            request = edge.ScrollRequest(offset=position, limit=CHUNK, with_payload=False)
            ids, position = self._folder.run(methodcaller("scroll", request))
            more = position is not None
            wanted = [point_id(point) for point in ids]
            page, bad = self._retrieve(wanted, one_by_one=tried < _UNREADABLE)
            tried += len(bad)
            yield page, bad

    def _retrieve(self, ids: list[PointId], *, one_by_one: bool) -> tuple[list[EdgeRecord], list[PointId]]:
        try:
            page: list[EdgeRecord] = self._folder.run(methodcaller("retrieve", ids, True, True))
        except StoreClosedError:
            raise
        except StoreError:
            if len(ids) == 1 or not one_by_one:
                return [], ids
            parts = [self._retrieve([each], one_by_one=False) for each in ids]
            return [point for page, _ in parts for point in page], [key for _, bad in parts for key in bad]
        there = {point_id(point) for point in page}
        return page, [key for key in ids if key not in there]

    def _found(self, fields: Sequence[FieldCheck], points: int) -> list[str]:
        """Whether payload indexes and flags of deleted vectors agree with the points."""
        problems = [problem for field in fields if (problem := field.problem(self._folder, self._count)) is not None]
        edge = engine()
        here = edge.Filter(must=[edge.HasVectorCondition("")])
        try:
            vectors = self._folder.run(methodcaller("count", edge.CountRequest(exact=True, filter=here)))
        except StoreClosedError:
            raise
        except StoreError as error:
            problems.append(str(error))
        else:
            if vectors != points:
                problems.append(f"only {vectors:,} of {points:,} points have a vector that can be found")
        return problems


def _listed(names: Sequence[object]) -> str:
    return ", ".join(map(str, names[:_NAMED])) + (", ..." if len(names) > _NAMED else "")
