"""Find the stored point of an item, by its id, its path or its content, and give an id to what has none."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from multimodal_search._indexing.candidate import Candidate
from multimodal_search._indexing.retrying_store import RetryingStore
from multimodal_search._text import composed, is_unicode
from multimodal_search.errors import ConfigurationError
from multimodal_search.filters.nodes import Exactly
from multimodal_search.ids import IdScheme, SequentialIds, as_point_id
from multimodal_search.types import PointId, Record

_MAX_POINTS = 16
"""Most stored points with the same content, or at the same place, that are looked at, on average of a look-up."""

_FILES_AT_ONCE = 64  # files that are looked for below all folders that they are in, some ten names each

_Place: TypeAlias = tuple[str | None, str | None]
"""A root and a filename; for what is in no file, None and its SHA-256."""


class PointFinder:
    """Finds the stored points of candidates, and gives ids to those that have none.

    Args:
        scheme: How ids are allocated.
        store: Where points are looked up.
    """

    def __init__(self, scheme: IdScheme, store: RetryingStore) -> None:
        self.scheme = scheme
        self._store = store
        self._next: int | None = None
        self._least = 0
        self._numbered: dict[_Place, int] = {}  # numbers given, but not stored yet

    def id_before_reading(self, candidate: Candidate) -> PointId | None:
        """The id of a candidate, if it does not depend on the content.

        Raises:
            ConfigurationError: The user gave an id that is none, or the file's name cannot be stored.
        """
        if not is_unicode(f"{candidate.root}/{candidate.filename}"):
            raise ConfigurationError("its path is not valid UTF-8, as paths in a store must be: rename it")
        if candidate.id is not None:
            try:
                given = as_point_id(candidate.id)
            except ConfigurationError as error:
                raise ConfigurationError(f"{error}; leave it out to have one allocated") from None
            if isinstance(given, int):
                self._least = max(self._least, given + 1)  # so that no other item is given this number
            return given
        if candidate.filename is None or self.scheme.follow_contents:
            return None
        return self.scheme.allocate(filename=candidate.filename, sha256="")

    def find_by_id_or_path(
        self, candidates: Sequence[tuple[Candidate, PointId | None]]
    ) -> tuple[list[PointId | None], list[Sequence[Record]]]:
        """The id and the stored records of each candidate, as far as its id or its path tells.

        There is one record at most, except where ids follow contents: a run that was killed may have left a file's old
        ones. A file whose place was chosen for lack of a better one gets that of its stored point.
        """
        ids, known = self._look_up(candidates)
        # Where the id tells nothing, the place may: the user may have given the point another id.
        asked = [candidate for candidate, _ in candidates]
        own = [record is not None and _is_at(record, each) for each, record in zip(asked, known, strict=True)]
        at_place = self._by_place(
            [each for each, is_own in zip(asked, own, strict=True) if each.id is None and not is_own]
        )
        astray = [
            each
            for each, is_own in zip(asked, own, strict=True)
            if not each.has_root and each.size_and_mtime is not None  # there is such a file
            if each.id is None and not is_own and _place(each) not in at_place
        ]
        elsewhere = self._by_file(astray) if astray else {}
        found: list[Sequence[Record]] = []
        for number, (candidate, record) in enumerate(zip(asked, known, strict=True)):
            if (other := elsewhere.get(id(candidate))) is not None:
                candidate.root, candidate.filename = other.payload["root"], other.payload["filename"]
                ids[number] = None if self.scheme.follow_contents else other.id
                found.append((other,))
            elif own[number] or candidate.id is not None:
                found.append(() if record is None else (record,))
            elif _place(candidate) in at_place:
                found.append(at_place[_place(candidate)])
            else:
                found.append(() if record is None else (record,))
        return ids, found

    def find_by_content(
        self, contents: Sequence[tuple[Candidate, PointId | None, str]]
    ) -> list[tuple[PointId, Record | None]]:
        """The id, and the stored record, of each candidate whose content has been read.

        Args:
            contents: Candidates, their ids as far as they have one, and the SHA-256 of their contents.
        """
        ids = [
            self.scheme.allocate(filename=candidate.filename, sha256=sha256) if point_id is None else point_id
            for candidate, point_id, sha256 in contents
        ]
        if isinstance(self.scheme, SequentialIds):
            start = self.scheme.start
            new = [(candidate, sha256) for candidate, point_id, sha256 in contents if point_id is None]
            stored = {place: records[0] for place, records in self._by_place([each for each, _ in new]).items()}
            stored |= self._by_hash([sha256 for candidate, sha256 in new if candidate.filename is None])
            ids = [
                self._number_of(_place(candidate, sha256), stored, start) if point_id is None else point_id
                for (candidate, _, sha256), point_id in zip(contents, ids, strict=True)
            ]
        ids, known = self._look_up([(each, point_id) for (each, _, _), point_id in zip(contents, ids, strict=True)])
        return [(point_id, record) for point_id, record in zip(ids, known, strict=True) if point_id is not None]

    def same_content(self, hashes: Sequence[str]) -> dict[str, list[Record]]:
        """The stored records of contents, by their SHA-256; not necessarily all where there are very many."""
        wanted = sorted(set(hashes))
        most = _MAX_POINTS * len(wanted)
        records = self._store.find({"sha256": {"in": wanted}}, most=most) if wanted else []
        found: dict[str, list[Record]] = {}
        for record in records:
            found.setdefault(record.payload["sha256"], []).append(record)
        if len(records) == most:  # copies of some may have kept others out
            for sha256 in set(wanted) - found.keys():
                found[sha256] = self._store.find({"sha256": sha256}, most=_MAX_POINTS)
        return found

    def forget(self, candidate: Candidate, sha256: str) -> None:
        """Forget the number of a candidate that is no longer in flight: it is stored now, or never will be."""
        self._numbered.pop(_place(candidate, sha256), None)

    def _look_up(
        self, candidates: Sequence[tuple[Candidate, PointId | None]]
    ) -> tuple[list[PointId | None], list[Record | None]]:
        """The stored records by ids; of files whose names can be spelled otherwise, the ids of their own spelling."""
        ids = [point_id for _, point_id in candidates]
        known = self._by_id(ids)
        own = [self._id_of_spelling(candidate, point_id) for candidate, point_id in candidates]
        for number, (point_id, record) in enumerate(zip(own, self._by_id(own), strict=True)):
            if point_id is None:
                continue
            candidate, other = candidates[number][0], known[number]
            is_own = record is not None and record.payload.get("filename") == candidate.filename
            name = composed(candidate.filename or "") if other is None else other.payload.get("filename")
            root = candidate.root if other is None else other.payload.get("root")
            may_be_there = other is not None or candidate.path is not None
            if is_own or (may_be_there and _is_another(root, name, candidate)):
                ids[number], known[number] = point_id, record
        return ids, known

    def _id_of_spelling(self, candidate: Candidate, point_id: PointId | None) -> PointId | None:
        """Another id that a candidate may have, than the one that all spellings of its name share."""
        if candidate.id is not None or candidate.filename is None:
            return None
        is_shared = point_id == self.scheme.allocate(filename=candidate.filename, sha256="")
        return self.scheme.of_spelling(candidate.filename) if is_shared else None

    def _by_id(self, ids: Sequence[PointId | None]) -> list[Record | None]:
        given = [point_id for point_id in ids if point_id is not None]
        records = iter(self._store.get(given) if given else ())
        return [None if point_id is None else next(records) for point_id in ids]

    def _by_place(self, candidates: Sequence[Candidate]) -> dict[_Place, list[Record]]:
        roots = sorted({candidate.root for candidate in candidates if candidate.root is not None})
        names = sorted({candidate.filename for candidate in candidates if candidate.filename is not None})
        where = {"root": {"in": [*map(Exactly, roots)]}, "filename": {"in": [*map(Exactly, names)]}}
        records = self._store.find(where, most=(_MAX_POINTS + len(roots)) * len(names)) if names else ()
        found: dict[_Place, list[Record]] = {}
        for record in records:
            found.setdefault((record.payload["root"], record.payload["filename"]), []).append(record)
        return found

    def _by_file(self, candidates: Sequence[Candidate]) -> dict[int, Record]:
        """The stored points of the very files of candidates, by `id()` of these, below whatever root they are."""
        found: dict[int, Record] = {}
        for start in range(0, len(candidates), _FILES_AT_ONCE):
            asked = candidates[start : start + _FILES_AT_ONCE]
            named: dict[str, list[Candidate]] = {}
            for candidate in asked:
                for name in _names_below(candidate.path or ""):
                    named.setdefault(composed(name), []).append(candidate)
            where = {"filename": {"in": sorted(named)}}
            for record in self._store.find(where, most=_MAX_POINTS * len(named)):
                for candidate in named.get(composed(str(record.payload.get("filename"))), ()):
                    known = found.get(id(candidate))
                    if _is_file(record, candidate.path) and (known is None or not _is_spelled(known, candidate.path)):
                        found[id(candidate)] = record
        return found

    def _by_hash(self, hashes: Sequence[str]) -> dict[_Place, Record]:
        wanted = sorted(set(hashes))
        where = {"sha256": {"in": wanted}, "root": None}
        records = self._store.find(where, most=_MAX_POINTS * len(wanted)) if wanted else ()
        return {(None, record.payload["sha256"]): record for record in records}

    def _number_of(self, place: _Place, stored: Mapping[_Place, Record], start: int) -> PointId:
        """The number of a place under `SequentialIds`: the one it has, or the next."""
        if place in stored:
            return stored[place].id
        if place not in self._numbered:
            if self._next is None:
                self._next = self._store.next_number(start)
            self._numbered[place] = max(self._next, self._least)
            self._next = self._numbered[place] + 1
        return self._numbered[place]


def _is_at(record: Record, candidate: Candidate) -> bool:
    return (record.payload.get("root"), record.payload.get("filename")) == (candidate.root, candidate.filename)


def _is_another(root: object, filename: object, candidate: Candidate) -> bool:
    """Whether a name is that of another file than a candidate, and that file is there."""
    if filename == candidate.filename or not isinstance(root, str) or not isinstance(filename, str):
        return False
    own = candidate.path or os.path.join(str(candidate.root), str(candidate.filename))  # noqa: PTH118
    try:
        # A link is a file of its own.
        return not os.path.samestat(os.lstat(os.path.join(root, filename)), os.lstat(own))  # noqa: PTH118
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        return root == candidate.root  # in an archive, which is read just now
    except (OSError, ValueError):
        return True


def _names_below(path: str) -> Iterator[str]:
    """What a file may be called below the folders that it is in, by its path and by the one without links."""
    for each in dict.fromkeys((path, os.path.realpath(path))):
        parts = Path(each).parts[1:]
        yield from ("/".join(parts[start:]) for start in range(len(parts)))


def _is_spelled(record: Record, path: str | None) -> bool:
    root, filename = record.payload.get("root"), record.payload.get("filename")
    return isinstance(root, str) and isinstance(filename, str) and os.path.normpath(f"{root}/{filename}") == path


def _is_file(record: Record, path: str | None) -> bool:
    """Whether a stored point is that of a file."""
    root, filename = record.payload.get("root"), record.payload.get("filename")
    if path is None or not isinstance(root, str) or not isinstance(filename, str):
        return False
    try:
        return _is_spelled(record, path) or os.path.samefile(os.path.join(root, filename), path)  # noqa: PTH118, PTH121
    except (OSError, ValueError):
        return False


def _place(candidate: Candidate, sha256: str = "") -> _Place:
    return (candidate.root, candidate.filename) if candidate.filename is not None else (None, sha256)
