"""The state of an index: `IndexStatus`, which reads no points, and `VerifyReport`, which reads everything."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from multimodal_search.errors import StoreClosedError, StoreError, StoreUnavailableError
from multimodal_search.protocols import (
    SupportsOptimize,
    SupportsTuning,
    SupportsVerify,
    VectorStore,
    counts_exactly,
    folder_of_store,
)
from multimodal_search.report import IndexStatus, Progress, ProgressCallback, VerifyReport
from multimodal_search.stores.scanning import all_records
from multimodal_search.types import FloatArray, Record, StoreSchema, StoreState

_CHUNK = 512
_SAMPLE = 200  # vectors that are searched for: about 0.3 s, and finds what more than 1 point in 70 suffers from
_UNFOUND = 0.02  # of them may miss themselves: HNSW is approximate, and leaves a few points without links
_NAMED = 5  # ids in a message


def status_of(store: VectorStore, schema: StoreSchema, *, relevance_unknown: str) -> IndexStatus:
    """The state of an index, from what its store knows; reads no points.

    Args:
        store: Of the index.
        schema: Of the index.
        relevance_unknown: Why its hits have no relevance, if they have none.

    Raises:
        StoreError: The store failed.
    """
    state = store.status() if isinstance(store, SupportsVerify) else StoreState()
    points = store.count()
    needs_optimize = isinstance(store, SupportsOptimize) and store.needs_optimize
    folder = folder_of_store(store)
    advice = [*state.advice]
    if not points and not state.problems:
        advice.append("nothing is indexed yet")
    if needs_optimize:
        advice.append("searching becomes faster with optimize()")
    tuning = store.tuning if isinstance(store, SupportsTuning) else None
    if isinstance(store, SupportsTuning) and store.needs_tuning:
        then = "never measured" if tuning is None else f"measured at {tuning.points:,} points"
        advice.append(f"recall was {then}: optimize() measures it, and sets searches to it")
    return IndexStatus(
        store=repr(store) if folder is None else str(folder),
        points=points,
        model=schema.model,
        fingerprint=schema.fingerprint,
        dimension=schema.dimension,
        size_bytes=state.size_bytes,
        changed=state.changed,
        needs_optimize=needs_optimize,
        tuning=tuning,
        relevance_unknown=relevance_unknown if points else "",
        problems=state.problems,
        advice=tuple(advice),
    )


def verify(store: VectorStore, schema: StoreSchema, on_progress: ProgressCallback) -> VerifyReport:
    """Read every point of a store, and have the store check itself.

    Raises:
        StoreUnavailableError: The store cannot be reached.
        StoreClosedError: The store is closed.
    """
    began = time.monotonic()
    problems, advice = dict[str, None](), dict[str, None]()  # in order, each once
    points, bytes_read = 0, 0

    def tell(done: int, *, finished: bool = False) -> None:
        seconds = time.monotonic() - began
        on_progress(Progress(done=done, total=total, failed=0, seconds=seconds, finished=finished, stage="verifying"))

    total: int | None = None
    with _noted(problems):
        total = store.count()
        tell(0)
        check = _PointCheck(schema)
        records = all_records(store)
        while chunk := list(itertools.islice(records, _CHUNK)):
            check.add(chunk)
            tell(check.points)
        points, bytes_read = check.points, check.bytes_read
        problems |= dict.fromkeys(check.problems(counted=store.count() if counts_exactly(store) else check.points))
        problems |= dict.fromkeys(_search_problems(store, check.sample))
    if isinstance(store, SupportsVerify):
        with _noted(problems):
            state = store.verify(on_tick=tell)
            problems |= dict.fromkeys(state.problems)
            advice |= dict.fromkeys(state.advice)
            bytes_read += state.bytes_read
    tell(points, finished=True)
    return VerifyReport(
        points=points,
        bytes_read=bytes_read,
        seconds=time.monotonic() - began,
        problems=tuple(problems),
        advice=tuple(advice),
    )


@contextmanager
def _noted(problems: dict[str, None]) -> Iterator[None]:
    """Take an error of the store for a finding: it is damaged so that it cannot be read."""
    try:
        yield
    except (StoreUnavailableError, StoreClosedError):
        raise
    except StoreError as error:
        problems[str(error)] = None


class _PointCheck:
    """What can be said of points by reading them: each once, vectors of the schema's length, finite, of length 1."""

    def __init__(self, schema: StoreSchema) -> None:
        self._schema = schema
        self._seen: set[int | str] = set()
        self._twice: list[int | str] = []
        self._bad: list[int | str] = []
        self._random = np.random.default_rng(0)
        self.points = 0
        self.bytes_read = 0
        self.sample: list[Record] = []

    def add(self, records: Sequence[Record]) -> None:
        for record in records:
            if record.id in self._seen:
                self._twice.append(record.id)
            self._seen.add(record.id)
            self.points += 1
            vector = record.vector
            if vector is None or vector.shape != (self._schema.dimension,) or not _is_of_unit_length(vector):
                self._bad.append(record.id)
                continue
            self.bytes_read += vector.nbytes + len(str(record.payload))
            # A uniform sample of a sequence of unknown length (reservoir sampling, Vitter 1985).
            if len(self.sample) < _SAMPLE:
                self.sample.append(record)
            elif (at := int(self._random.integers(self.points))) < _SAMPLE:
                self.sample[at] = record

    def problems(self, *, counted: int) -> list[str]:
        found = []
        if counted != self.points:
            found.append(f"the store counts {counted:,} points, and {self.points:,} can be read")
        if self._twice:
            found.append(f"{_named(self._twice)} stored more than once")
        if self._bad:
            found.append(f"{_named(self._bad)} without a vector of {self._schema.dimension} numbers and length 1")
        return found


def _is_of_unit_length(vector: FloatArray) -> bool:
    with np.errstate(all="ignore"):
        length = float(np.linalg.norm(vector.astype(np.float64)))
    return abs(length - 1) < 1e-3 or length == 0  # also where a store keeps 16-bit floats; NaN and infinity are neither


def _search_problems(store: VectorStore, sample: Sequence[Record]) -> list[str]:
    """Whether stored vectors find their own points."""
    lost = []
    asked = [record for record in sample if record.vector is not None and record.vector.any()]
    for start in range(0, len(asked), _CHUNK):
        chunk = asked[start : start + _CHUNK]
        pages = store.search(np.stack([record.vector for record in chunk if record.vector is not None]), limit=10)
        for record, page in zip(chunk, pages, strict=True):
            # Of many equal vectors, as blank pages have, others may fill the page.
            if all(match.id != record.id for match in page) and not (page and page[-1].score > 1 - 1e-3):
                lost.append(record.id)
    if len(lost) > _UNFOUND * len(asked):
        return [f"of {len(asked)} vectors searched for, {_named(lost)} not found by their own"]
    return []


def _named(ids: Sequence[int | str]) -> str:
    """So many points, and which: the beginning of a sentence."""
    listed = ", ".join(map(str, ids[:_NAMED])) + (", ..." if len(ids) > _NAMED else "")
    return f"{len(ids):,} {'points' if len(ids) != 1 else 'point'} ({listed}) {'are' if len(ids) != 1 else 'is'}"
