"""Which stored point an item is: ids are allocated here, and what is stored already is recognised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from multimodal_search._ids import IdScheme, SequentialIds, as_point_id
from multimodal_search._patience import PatientStore
from multimodal_search._printable import is_unicode
from multimodal_search._sources import Candidate
from multimodal_search.errors import ConfigurationError
from multimodal_search.types import PointId, Record

_MOST = 16
"""Most stored points with the same content, or at the same place, that are looked at, on average of a look-up."""

_Place: TypeAlias = tuple[str | None, str | None]
"""A root and a filename; for what is in no file, None and its SHA-256."""


class Identities:
    """Finds the stored points of candidates, and gives ids to those that have none.

    Args:
        scheme: How ids are allocated.
        store: Where points are looked up.
    """

    def __init__(self, scheme: IdScheme, store: PatientStore) -> None:
        self._scheme = scheme
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
            given = as_point_id(candidate.id)
            if isinstance(given, int):
                self._least = max(self._least, given + 1)  # so that no other item is given this number
            return given
        if candidate.filename is None or isinstance(self._scheme, SequentialIds) or self._scheme.needs_hash:
            return None
        return self._scheme.allocate(filename=candidate.filename, sha256="")

    def known_before_reading(self, candidates: Sequence[tuple[Candidate, PointId | None]]) -> list[Sequence[Record]]:
        """The stored records of each candidate, as far as its id or its place tells.

        There is one at most, except where ids follow contents: a run that was killed may have left a file's old ones.
        """
        known = self._by_id([point_id for _, point_id in candidates])
        # Where the id tells nothing, the place may: the user may have given the point another id.
        new = [(candidate, record) for (candidate, _), record in zip(candidates, known, strict=True)]
        at_place = self._by_place([each for each, record in new if record is None and each.id is None])
        return [
            (record,) if record is not None else () if candidate.id is not None else at_place.get(_place(candidate), ())
            for candidate, record in new
        ]

    @property
    def follow_contents(self) -> bool:
        """Whether a file whose content changes becomes another point."""
        return not isinstance(self._scheme, SequentialIds) and self._scheme.needs_hash

    def known_after_reading(
        self, contents: Sequence[tuple[Candidate, PointId | None, str]]
    ) -> list[tuple[PointId, Record | None]]:
        """The id, and the stored record, of each candidate whose content has been read.

        Args:
            contents: Candidates, their ids as far as they have one, and the SHA-256 of their contents.
        """
        ids = [self._id_of(candidate, point_id, sha256) for candidate, point_id, sha256 in contents]
        if isinstance(self._scheme, SequentialIds):
            new = [(candidate, sha256) for candidate, point_id, sha256 in contents if point_id is None]
            stored = {place: records[0] for place, records in self._by_place([each for each, _ in new]).items()}
            stored |= self._by_hash([sha256 for candidate, sha256 in new if candidate.filename is None])
            ids = [
                self._number_of(_place(candidate, sha256), stored) if point_id is None else point_id
                for (candidate, _, sha256), point_id in zip(contents, ids, strict=True)
            ]
        found = zip(ids, self._by_id(ids), strict=True)
        return [(point_id, record) for point_id, record in found if point_id is not None]

    def same_content(self, hashes: Sequence[str]) -> dict[str, list[Record]]:
        """The stored records of contents, by their SHA-256; not necessarily all where there are very many."""
        wanted = sorted(set(hashes))
        most = _MOST * len(wanted)
        records = self._store.find({"sha256": {"in": wanted}}, most=most) if wanted else []
        found: dict[str, list[Record]] = {}
        for record in records:
            found.setdefault(record.payload["sha256"], []).append(record)
        if len(records) == most:  # copies of some may have kept others out
            for sha256 in set(wanted) - found.keys():
                found[sha256] = self._store.find({"sha256": sha256}, most=_MOST)
        return found

    def settled(self, candidate: Candidate, sha256: str) -> None:
        """Forget what was remembered of a candidate while it was in flight."""
        self._numbered.pop(_place(candidate, sha256), None)

    def _id_of(self, candidate: Candidate, point_id: PointId | None, sha256: str) -> PointId | None:
        if point_id is not None or isinstance(self._scheme, SequentialIds):
            return point_id
        return self._scheme.allocate(filename=candidate.filename, sha256=sha256)

    def _by_id(self, ids: Sequence[PointId | None]) -> list[Record | None]:
        given = [point_id for point_id in ids if point_id is not None]
        records = iter(self._store.get(given) if given else ())
        return [None if point_id is None else next(records) for point_id in ids]

    def _by_place(self, candidates: Sequence[Candidate]) -> dict[_Place, list[Record]]:
        roots = sorted({candidate.root for candidate in candidates if candidate.root is not None})
        names = sorted({candidate.filename for candidate in candidates if candidate.filename is not None})
        where = {"root": {"in": roots}, "filename": {"in": names}}
        records = self._store.find(where, most=(_MOST + len(roots)) * len(names)) if names else ()
        found: dict[_Place, list[Record]] = {}
        for record in records:
            found.setdefault((record.payload["root"], record.payload["filename"]), []).append(record)
        return found

    def _by_hash(self, hashes: Sequence[str]) -> dict[_Place, Record]:
        wanted = sorted(set(hashes))
        where = {"sha256": {"in": wanted}, "root": None}
        records = self._store.find(where, most=_MOST * len(wanted)) if wanted else ()
        return {(None, record.payload["sha256"]): record for record in records}

    def _number_of(self, place: _Place, stored: Mapping[_Place, Record]) -> PointId:
        """The number of a place under `SequentialIds`: the one it has, or the next."""
        if place in stored:
            return stored[place].id
        if place not in self._numbered:
            if self._next is None:
                start = self._scheme.start if isinstance(self._scheme, SequentialIds) else 0
                self._next = self._store.next_number(start)
            self._numbered[place] = max(self._next, self._least)
            self._next = self._numbered[place] + 1
        return self._numbered[place]


def _place(candidate: Candidate, sha256: str = "") -> _Place:
    return (candidate.root, candidate.filename) if candidate.filename is not None else (None, sha256)
