"""Groups of near-duplicates: every vector is compared with every other, in blocks, from a temporary file."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from multimodal_search._ctrl_c import CtrlC, interrupt_flag
from multimodal_search._progress import Ticker
from multimodal_search._text import brief
from multimodal_search.errors import QueryError, StoreError
from multimodal_search.ids import id_order
from multimodal_search.protocols import VectorStore
from multimodal_search.report import Progress, ProgressCallback, Stage, share_of
from multimodal_search.stores.ranking import ROUNDING
from multimodal_search.stores.scanning import all_records
from multimodal_search.types import Filter, FloatArray, Match, PointId, Record
from multimodal_search.vectors import of_unit_length

_CHUNK = 512
_ROWS, _COLUMNS = 1024, 2048  # of the pieces of the table of all similarities, at most
_PIECE = 2**31  # multiplications for a piece, at most: a tenth of a second on one core, in which nothing ends it
_PAIRS = 2**18  # united at a time

_Rows: TypeAlias = npt.NDArray[np.intp]


def duplicate_groups(
    store: VectorStore,
    *,
    threshold: float,
    where: Filter | None = None,
    on_progress: ProgressCallback = lambda event: None,
    check: Callable[[], None] = lambda: None,
) -> list[list[Match]]:
    """Find groups of near-duplicates: the connected components of the graph of all pairs above a threshold.

    So two points of a group may be less similar than `threshold`, where others lie between them. The answer is exact.
    Memory holds ids, payloads of what is returned, and some 80 MB; the vectors are in a temporary file, which is gone
    afterwards. Time grows with the square of the number of points, unless most of them are duplicates.

    Args:
        store: Whose points.
        threshold: The least cosine similarity of near-duplicates, above 0, at most 1. A vector of zeros is similar to
            nothing.
        where: Only points whose payload passes.
        on_progress: Called with events of the stages `"reading"` and `"comparing"`; what it raises ends the run.
        check: Called several times a second; what it raises ends the run.

    Returns:
        Groups of two or more, by falling number of points, then by id. In each, first the best copy (of the largest
        `size` in its payload, then by id), then the others by falling similarity to it, which is their score.

    Raises:
        QueryError: `threshold` or `where` makes no sense.
        StoreError: The store failed, or the temporary file did not find room.
    """
    is_number = isinstance(threshold, (int, float, np.number)) and not isinstance(threshold, bool)
    if not is_number or not 0 < threshold <= 1:
        raise QueryError(
            f"threshold must be a number above 0 and at most 1 (a cosine similarity), not {brief(threshold)}"
        )
    with interrupt_flag() as ctrl_c:
        run = _Run(on_progress, ctrl_c, check)
        with run.ticker.to_the_end(), _vector_file() as vectors:
            run.tell("reading", 0, store.count(where))
            records = all_records(store, where=where)
            while chunk := list(itertools.islice(records, _CHUNK)):
                vectors.append(chunk)
                run.tell("reading", len(vectors.ids))
            roots = _components(vectors, threshold - ROUNDING, run)
            groups = _groups_of_rows(roots)
            found = _found(store, [vectors.ids[row] for group in groups for row in group.tolist()], run)
            matches = [
                _matches([vectors.ids[row] for row in group.tolist()], group, found, vectors, run) for group in groups
            ]
    left = [group for group in matches if len(group) > 1]  # others have lost members since they were read
    return sorted(left, key=lambda group: (-len(group), *id_order(group[0].id)))


class _VectorFile:
    """Vectors of unit length in a file, and their ids in memory; row i belongs to `ids[i]`."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.ids: list[PointId] = []
        self.dimension = 0

    def append(self, records: Sequence[Record]) -> None:
        rows = of_unit_length(np.array([record.vector for record in records], np.float32))
        self.dimension = rows.shape[1]
        self.ids += [record.id for record in records]
        left = memoryview(rows.tobytes())
        with _room():
            while left:
                left = left[self._file.write(left) :]

    def read(self, start: int, into: FloatArray) -> FloatArray:
        """The rows from `start` on, as many as there are and fit; a part of `into`."""
        rows = into[: len(self.ids) - start]
        self._file.seek(start * self.dimension * rows.itemsize)
        self._file.readinto(rows.data)  # type: ignore[attr-defined]  # every file for reading bytes has it
        return rows


@contextmanager
def _vector_file() -> Iterator[_VectorFile]:
    """A file that nobody else sees, and that goes with its process, however that ends."""
    with _room():
        # Without a buffer, closing it has nothing left to write, and so cannot fail.
        opened = tempfile.TemporaryFile(prefix="multimodal-search-", buffering=0)  # noqa: SIM115 (it is, below)
    with opened as file:
        yield _VectorFile(file)


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"the vectors to compare cannot be kept in a file in {tempfile.gettempdir()} ({error}): they take 4 bytes "
            "for each number. Free some space there, or set TMPDIR to a folder on another disk"
        ) from error


def _components(vectors: _VectorFile, least: float, run: _Run) -> _Rows:
    """For each row the smallest row of its component, in the graph of pairs with a similarity of `least` or more."""
    count = len(vectors.ids)
    parents = np.arange(count)  # a forest: each row points to a smaller one of its component, or to itself
    columns = max(1, min(_COLUMNS, _PIECE // (_ROWS * max(1, vectors.dimension))))
    above, beside = (np.empty((most, vectors.dimension), np.float32) for most in (_ROWS, columns))
    done, pairs = 0, count * (count + 1) // 2
    for top in range(0, count, _ROWS):
        rows = vectors.read(top, above)
        for left in range(top, count, columns):
            width = min(columns, count - left)
            row_roots = _roots(parents, np.arange(top, top + len(rows)))
            column_roots = _roots(parents, np.arange(left, left + width))
            # Where all are one component already, no pair can tell anything new: equal images cost next to nothing.
            if (row_roots != row_roots[0]).any() or (column_roots != row_roots[0]).any():
                similar = np.flatnonzero(rows @ vectors.read(left, beside).T >= np.float32(least))
                for start in range(0, len(similar), _PAIRS):
                    run.check()
                    numbers = similar[start : start + _PAIRS]
                    _unite(parents, row_roots[numbers // width], column_roots[numbers % width])
            done += len(rows) * width
            run.tell("comparing", count * min(done, pairs) // pairs, count)
    return _roots(parents, np.arange(count))


def _unite(parents: _Rows, ones: _Rows, others: _Rows) -> None:
    """Make each of some rows and its counterpart one component. Every two rounds halve what is left."""
    ones, others = _roots(parents, ones), _roots(parents, others)
    while (differ := ones != others).any():
        ones, others = ones[differ], others[differ]
        np.minimum.at(parents, np.maximum(ones, others), np.minimum(ones, others))
        ones, others = _roots(parents, ones), _roots(parents, others)


def _roots(parents: _Rows, rows: _Rows) -> _Rows:
    """The smallest row of the component of each row; and the way there is short from now on."""
    roots = parents[rows]
    while ((higher := parents[roots]) != roots).any():
        roots = higher
    parents[rows] = roots
    return roots


def _groups_of_rows(roots: _Rows) -> list[_Rows]:
    """The rows of each component that has more than one."""
    order = np.argsort(roots, kind="stable")
    bounds = np.flatnonzero(np.diff(roots[order])) + 1
    return [rows for rows in np.split(order, bounds) if len(rows) > 1]


def _found(store: VectorStore, ids: Sequence[PointId], run: _Run) -> dict[PointId, Record]:
    found: dict[PointId, Record] = {}
    for start in range(0, len(ids), _CHUNK):
        records = store.get(ids[start : start + _CHUNK])
        found |= {record.id: record for record in records if record is not None}
        run.tell()
    return found


def _matches(
    ids: Sequence[PointId], rows: _Rows, found: dict[PointId, Record], vectors: _VectorFile, run: _Run
) -> list[Match]:
    """One group, as it is returned; without the points that are gone."""
    members = [(found[key], row) for key, row in zip(ids, rows.tolist(), strict=True) if key in found]
    if not members:
        return []
    best, row_of_best = min(members, key=lambda member: (-_size(member[0]), *id_order(member[0].id)))
    one = np.empty((1, vectors.dimension), np.float32)
    ideal = vectors.read(row_of_best, one)[0].astype(np.float64)
    matches = [Match(best.id, 1.0, best.payload)]
    for record, row in members:
        run.check()
        if record is not best:
            score = np.float32(ideal @ vectors.read(row, one)[0].astype(np.float64))
            matches.append(Match(record.id, min(1.0, float(score)), record.payload))
    return [matches[0], *sorted(matches[1:], key=lambda match: (-match.score, *id_order(match.id)))]


def _size(record: Record) -> float:
    value: Any = record.payload.get("size")
    return value if isinstance(value, (int, float)) else -1


class _Run:
    """One call: sends progress events, and ends the call where Ctrl-C or `check` demands it."""

    def __init__(self, on_progress: ProgressCallback, ctrl_c: CtrlC, check: Callable[[], None]) -> None:
        self._check = check
        self._ctrl_c = ctrl_c
        self._stage: Stage | None = None
        self._done = self._total = 0
        self.ticker = Ticker(on_progress, self._event)

    def check(self) -> None:
        """Raise what is to end the call."""
        self._check()
        if self._ctrl_c.is_pressed:
            raise KeyboardInterrupt

    def tell(self, stage: Stage | None = None, done: int | None = None, total: int | None = None) -> None:
        """Send an event, if it is due; what is not said is as before."""
        self.check()
        is_news = stage is not None and stage != self._stage
        self._stage = stage or self._stage
        self._done = self._done if done is None else done
        self._total = self._total if total is None else total
        self.ticker.tell(is_news=is_news)

    def _event(self, seconds: float, finished: bool) -> Progress:
        return Progress(
            done=self._done,
            total=self._total,
            failed=0,
            seconds=seconds,
            finished=finished,
            stage=self._stage or "reading",
            share=share_of(self._done, self._total),
        )
