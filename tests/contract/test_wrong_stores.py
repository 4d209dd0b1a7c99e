"""The contract of stores: each store with one fault is caught by the test that names it, a right one by none."""

from __future__ import annotations

import contextlib
import itertools
import pickle
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract_cases import faults_found
from filelock import FileLock, Timeout

from multimodal_search import Match, MemoryStore, Record, StoreLockedError, StoreSchema, VectorStore
from multimodal_search.errors import MultimodalSearchError
from multimodal_search.testing._points import SCHEMA
from multimodal_search.testing.store import VectorStoreContract
from multimodal_search.types import Filter, FloatArray, PointId


class FileStore(MemoryStore):
    """Right in every respect, so that one fault can be put into it: everything in memory, and each write in a file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._guard: Any = FileLock(f"{path}.lock", timeout=0)
        self._mutex = threading.RLock()

    def ensure(self, schema: StoreSchema, /) -> StoreSchema:
        with self._mutex:
            if self._schema is None and not self._closed:
                self.lock()
                written = self.read()
                super().ensure(written[0] if written else schema)
                for records, vectors, ids in written[1:]:
                    super().upsert(records, vectors)
                    super().delete(ids)
                if not written:
                    self.write(schema)
            return super().ensure(schema)

    def stored_schema(self) -> StoreSchema | None:
        written = [] if self._closed else self.read()
        return super().stored_schema() or next(iter(written), None)

    def upsert(self, records: Sequence[Record], vectors: FloatArray, /) -> None:
        with self._mutex:
            super().upsert(records, vectors)
            self.write((list(records), vectors, []))

    def delete(self, ids: Sequence[PointId], /) -> None:
        with self._mutex:
            super().delete(ids)
            self.write(([], np.empty((0, SCHEMA.dimension), np.float32), list(ids)))

    def close(self) -> None:
        super().close()
        self._guard.release()

    def lock(self) -> None:
        try:
            self._guard.acquire()
        except Timeout as error:
            raise StoreLockedError(f"{self._path} is open in another process") from error

    def read(self) -> list[Any]:
        found = []
        if self._path.exists():
            with self._path.open("rb") as file:
                while file.peek(1):
                    found.append(pickle.load(file))
        return found

    def write(self, entry: object) -> None:
        with self._path.open("ab") as file:
            pickle.dump(entry, file)


class TestFileStore(VectorStoreContract):
    """A right store is caught by none."""

    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Callable[[], VectorStore]:
        return lambda: FileStore(tmp_path / "points")

    @pytest.fixture
    def in_child(self, tmp_path: Path) -> str:
        return in_child_of(FileStore, tmp_path / "points")


def in_child_of(kind: type[FileStore], path: Path) -> str:
    name = kind.__name__
    return f"from pathlib import Path; from test_wrong_stores import {name}; store = {name}(Path({str(path)!r}))"


# -- stores that lose something ----------------------------------------------------------------------------------------


class WritesOnClose(FileStore):
    """Durable only when it is closed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.waiting: list[object] = []

    def write(self, entry: object) -> None:
        self.waiting.append(entry)

    def close(self) -> None:
        for entry in self.waiting:
            super().write(entry)
        self.waiting = []
        super().close()


class BuffersInTheProgram(FileStore):
    """Leaves in a buffer of the program what the operating system should have."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.file = path.open("ab", buffering=2**20)

    def write(self, entry: object) -> None:
        pickle.dump(entry, self.file)

    def close(self) -> None:
        self.file.close()
        super().close()


class ForgetsReplacements(FileStore):
    """Writes new points, and replaces others in memory alone."""

    def upsert(self, records: Sequence[Record], vectors: FloatArray, /) -> None:
        is_new = [record is None for record in self.get([each.id for each in records])]
        MemoryStore.upsert(self, records, vectors)
        new = [record for record, fresh in zip(records, is_new, strict=True) if fresh]
        self.write((new, np.asarray(vectors)[is_new], []))


class ForgetsDeletions(FileStore):
    def delete(self, ids: Sequence[PointId], /) -> None:
        MemoryStore.delete(self, ids)


class ForgetsVectorsOfReplacements(FileStore):
    """Replaces payloads, and keeps the vector that it has."""

    def upsert(self, records: Sequence[Record], vectors: FloatArray, /) -> None:
        before = self.get([each.id for each in records], with_vectors=True)
        super().upsert(records, vectors)
        kept = [row if old is None else old.vector for row, old in zip(np.asarray(vectors), before, strict=True)]
        self.write((list(records), np.array(kept, np.float32).reshape(-1, SCHEMA.dimension), []))


class HasNoLock(FileStore):
    """Any number of processes may open it, and none sees what the others write."""

    def lock(self) -> None:
        """Keep nobody out."""


class LeavesItsLock(FileStore):
    """Its lock is a file that stays when the process is killed."""

    def lock(self) -> None:
        try:
            self._path.with_suffix(".pid").touch(exist_ok=False)
        except FileExistsError as error:
            raise StoreLockedError(f"{self._path} is open in another process") from error

    def close(self) -> None:
        super().close()
        self._path.with_suffix(".pid").unlink(missing_ok=True)


class TakesTheNewSchema(FileStore):
    def ensure(self, schema: StoreSchema, /) -> StoreSchema:
        super().ensure(schema)
        self._schema = schema
        return schema


# -- threads -----------------------------------------------------------------------------------------------------------


class SwapsAnswers(FileStore):
    """Keeps what it is asked in itself."""

    def search(
        self, vectors: FloatArray, /, *, limit: int, offset: int = 0, where: Filter | None = None
    ) -> list[list[Match]]:
        self.asked = vectors
        time.sleep(1e-4)
        return super().search(self.asked, limit=limit, offset=offset, where=where)


class HasNoMutex(MemoryStore):
    """As a store of lists and dicts is that trusts the interpreter's lock."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._lock = contextlib.nullcontext()  # type: ignore[assignment]  # which is the fault


class SearchesABitLater(FileStore):
    """Searches in a copy that is renewed now and then, as engines do that refresh once a second."""

    copied: tuple[float, Any] = (0, None)

    def search(
        self, vectors: FloatArray, /, *, limit: int, offset: int = 0, where: Filter | None = None
    ) -> list[list[Match]]:
        if time.monotonic() - self.copied[0] > 1:
            copy = MemoryStore()
            copy.ensure(self.ensure(SCHEMA))
            records = [each for each in self.get([each.id for each in self.scan()], with_vectors=True) if each]
            rows = np.array([each.vector for each in records], np.float32).reshape(-1, SCHEMA.dimension)
            copy.upsert(records, rows)
            self.copied = (time.monotonic(), copy)
        found: list[list[Match]] = self.copied[1].search(vectors, limit=limit, offset=offset, where=where)
        return found


class CountsWhatWas(FileStore):
    """Keeps counts, and forgets that a replacement changes them."""

    def count(self, where: Filter | None = None) -> int:
        self.counts: dict[str, int] = getattr(self, "counts", {})
        return self.counts.setdefault(f"{len(self._ids)} {where}", super().count(where))


# -- what it is given, and gives ---------------------------------------------------------------------------------------


class NormalizesInPlace(FileStore):
    def upsert(self, records: Sequence[Record], vectors: FloatArray, /) -> None:
        if isinstance(vectors, np.ndarray) and vectors.ndim == 2 and vectors.dtype == np.float32:
            lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
            vectors /= np.where(lengths == 0, 1, lengths).astype(np.float32)
        super().upsert(records, vectors)


class EmptiesLists(FileStore):
    """Takes the ids out of the list that it was given."""

    def delete(self, ids: Sequence[PointId], /) -> None:
        taken = []
        while len(ids) and isinstance(ids, list):
            taken.append(ids.pop())
        super().delete(taken or ids)


class AddsToFilters(FileStore):
    """Writes into the filter that it was given."""

    def count(self, where: Filter | None = None) -> int:
        found = super().count(where)
        if isinstance(where, dict):
            where["modality"] = "image"
        return found


class ReadsMemoryAsItLies(FileStore):
    """Takes the bytes of an array for its rows."""

    def upsert(self, records: Sequence[Record], vectors: FloatArray, /) -> None:
        if isinstance(vectors, np.ndarray) and vectors.ndim == 2 and not vectors.flags.c_contiguous:
            vectors = np.frombuffer(vectors.tobytes("A"), vectors.dtype).reshape(vectors.shape)
        super().upsert(records, vectors)


class SharesItsRows(FileStore):
    """Gives views of its own memory."""

    def get(self, ids: Sequence[PointId], /, *, with_vectors: bool = False) -> list[Record | None]:
        found = super().get(ids, with_vectors=with_vectors)
        return [
            each if each is None or not with_vectors else replace(each, vector=self._rows[self._row_of[each.id]])
            for each in found
        ]


class WritesAccentsItsWay(FileStore):
    """Normalizes texts, so that a file is not found again under its name."""

    def upsert(self, records: Sequence[Record], vectors: FloatArray, /) -> None:
        super().upsert([Record(each.id, self.composed(each.payload)) for each in records], vectors)

    def composed(self, value: Any) -> Any:
        match value:
            case Mapping():
                return {key: self.composed(below) for key, below in value.items()}
            case list():
                return [self.composed(below) for below in value]
            case str():
                return unicodedata.normalize("NFC", value)
        return value


class MergesPayloads(FileStore):
    """Keeps the fields that a new version of a record lacks."""

    def upsert(self, records: Sequence[Record], vectors: FloatArray, /) -> None:
        before = self.get([each.id for each in records])
        merged = [
            each if old is None else Record(each.id, {**old.payload, **each.payload})
            for each, old in zip(records, before, strict=True)
        ]
        super().upsert(merged, vectors)


class KnowsPythonsIntegersOnly(FileStore):
    def upsert(self, records: Sequence[Record], vectors: FloatArray, /) -> None:
        if not all(type(record.id) in (int, str, bool, float, type(None)) for record in records):
            raise TypeError("Object of type int64 is not JSON serializable")
        super().upsert(records, vectors)


class KnowsPythonsLimitsOnly(FileStore):
    def search(
        self, vectors: FloatArray, /, *, limit: int, offset: int = 0, where: Filter | None = None
    ) -> list[list[Match]]:
        if type(limit) is not int or type(offset) is not int:
            raise TypeError("Error binding parameter: type 'numpy.int64' is not supported")
        return super().search(vectors, limit=limit, offset=offset, where=where)


class TakesSomeIds(FileStore):
    """Has the limit of SQLite for what one statement may hold."""

    def get(self, ids: Sequence[PointId], /, *, with_vectors: bool = False) -> list[Record | None]:
        if len(ids) > 32_766:
            raise RuntimeError("too many SQL variables")
        return super().get(ids, with_vectors=with_vectors)


class TakesAnyId(FileStore):
    """Cuts ids to 64 bits, and rounds what is no integer."""

    def upsert(self, records: Sequence[Record], vectors: FloatArray, /) -> None:
        super().upsert([Record(self.id(each.id), each.payload) for each in records], vectors)

    def id(self, point_id: Any) -> PointId:
        return int(point_id) % 2**64 if isinstance(point_id, (int, float, np.integer)) else point_id


class WritesWhatIsRight(FileStore):
    """Of a batch with a vector that is none, writes the others before it fails."""

    def upsert(self, records: Sequence[Record], vectors: FloatArray, /) -> None:
        for number, record in enumerate(records) if len(records) == len(vectors) else ():
            super().upsert([record], vectors[number : number + 1])


# -- scores and pages --------------------------------------------------------------------------------------------------


class NormsIn32Bits(FileStore):
    def search(
        self, vectors: FloatArray, /, *, limit: int, offset: int = 0, where: Filter | None = None
    ) -> list[list[Match]]:
        rows = np.asarray(vectors)
        if rows.ndim == 2 and rows.dtype == np.float32 and np.isfinite(rows).all() and len(rows):
            with np.errstate(over="ignore"):
                lengths = np.sqrt(np.sum(rows * rows, axis=1, keepdims=True, dtype=np.float32))
            vectors = rows / np.where(lengths == 0, np.float32(1), lengths)
        return super().search(vectors, limit=limit, offset=offset, where=where)


class _Scores(FileStore):
    def search(
        self, vectors: FloatArray, /, *, limit: int, offset: int = 0, where: Filter | None = None
    ) -> list[list[Match]]:
        found = super().search(vectors, limit=limit, offset=offset, where=where)
        return [[replace(match, score=self.score(match.score)) for match in page] for page in found]

    def score(self, score: float) -> float:
        raise NotImplementedError


class ScoresAbove1(_Scores):
    def score(self, score: float) -> float:
        return score * (1 + 2**-22)


class ScoresAreDistances(_Scores):
    def score(self, score: float) -> float:
        return 1 - score


class ScoresAreRounded(_Scores):
    def score(self, score: float) -> float:
        return round(score, 4)


class ScoresAreNumPys(_Scores):
    def score(self, score: float) -> Any:
        return np.float32(score)


class IgnoresDeepOffsets(FileStore):
    def search(
        self, vectors: FloatArray, /, *, limit: int, offset: int = 0, where: Filter | None = None
    ) -> list[list[Match]]:
        return super().search(vectors, limit=limit, offset=0 if offset >= 1_000 else offset, where=where)


class OffsetOfAllTogether(FileStore):
    """Skips `offset` matches of the first page alone."""

    def search(
        self, vectors: FloatArray, /, *, limit: int, offset: int = 0, where: Filter | None = None
    ) -> list[list[Match]]:
        first = super().search(vectors[:1], limit=limit, offset=offset, where=where)
        return [*first, *super().search(vectors[1:], limit=limit, where=where)]


class FiltersAfterwards(FileStore):
    """Looks for the nearest, and then leaves out what does not pass."""

    def search(
        self, vectors: FloatArray, /, *, limit: int, offset: int = 0, where: Filter | None = None
    ) -> list[list[Match]]:
        passing = {record.id for record in self.scan(where=where, fields=())}
        found = super().search(vectors, limit=limit, offset=offset)
        return [[match for match in page if match.id in passing] for page in found]


class TiesAsTheyCome(FileStore):
    def search(
        self, vectors: FloatArray, /, *, limit: int, offset: int = 0, where: Filter | None = None
    ) -> list[list[Match]]:
        found = super().search(vectors, limit=limit + offset, where=where)
        order = {each: number for number, each in enumerate(self._ids)}
        return [sorted(page, key=lambda match: (-match.score, order[match.id]))[offset:] for page in found]


# -- reading -----------------------------------------------------------------------------------------------------------


class ScanIsAGenerator(FileStore):
    """Nothing happens, and nothing fails, before the first record is asked for."""

    def scan(self, *, where: Filter | None = None, fields: Sequence[str] | None = None) -> Iterator[Record]:
        yield from super().scan(where=where, fields=fields)


class OneCursorForAll(FileStore):
    """A second scan goes on where the first one is."""

    def scan(self, *, where: Filter | None = None, fields: Sequence[str] | None = None) -> Iterator[Record]:
        self.cursor = super().scan(where=where, fields=fields)
        return (next(self.cursor) for _ in itertools.takewhile(lambda _: self._has_more(), itertools.count()))

    def _has_more(self) -> bool:
        first = next(self.cursor, None)
        if first is not None:
            self.cursor = itertools.chain([first], self.cursor)
        return first is not None


class FieldsArePaths(FileStore):
    def scan(self, *, where: Filter | None = None, fields: Sequence[str] | None = None) -> Iterator[Record]:
        if fields is not None:
            fields = [field.partition(".")[0] for field in fields]
        return super().scan(where=where, fields=fields)


class IgnoresWhatItDoesNotKnow(FileStore):
    """Lets everything pass where a filter makes no sense."""

    def count(self, where: Filter | None = None) -> int:
        try:
            return super().count(where)
        except MultimodalSearchError:
            return super().count()


WRONG: list[tuple[type[Any], str]] = [
    (WritesOnClose, "test_what_was_written_survives_a_kill"),
    (BuffersInTheProgram, "test_what_was_written_survives_a_kill"),
    (ForgetsReplacements, "test_what_was_written_survives_a_kill"),
    (ForgetsVectorsOfReplacements, "test_what_was_written_survives_a_kill"),
    (ForgetsDeletions, "test_what_was_written_survives_a_kill"),
    (LeavesItsLock, "test_what_was_written_survives_a_kill"),
    (HasNoLock, "test_another_process_is_refused_or_sees_everything"),
    (TakesTheNewSchema, "test_ensure_says_what_is_stored_and_changes_nothing"),
    (SwapsAnswers, "test_threads_get_their_own_answers"),
    (HasNoMutex, "test_threads_do_not_disturb_each_other"),
    (SearchesABitLater, "test_what_was_written_is_found_at_once"),
    (CountsWhatWas, "test_what_was_written_is_found_at_once"),
    (NormalizesInPlace, "test_what_it_is_given_stays_as_it_is"),
    (EmptiesLists, "test_what_it_is_given_stays_as_it_is"),
    (AddsToFilters, "test_what_it_is_given_stays_as_it_is"),
    (ReadsMemoryAsItLies, "test_arrays_of_any_layout_are_read_row_by_row"),
    (SharesItsRows, "test_vectors_that_came_back_belong_to_the_caller"),
    (WritesAccentsItsWay, "test_payloads_come_back_as_they_were"),
    (MergesPayloads, "test_upsert_replaces_vector_and_payload_whole"),
    (KnowsPythonsIntegersOnly, "test_numbers_of_numpy_are_numbers"),
    (KnowsPythonsLimitsOnly, "test_numbers_of_numpy_are_numbers"),
    (TakesSomeIds, "test_many_ids_at_once"),
    (TakesAnyId, "test_invalid_ids_are_refused"),
    (WritesWhatIsRight, "test_vectors_that_are_not_finite_are_refused"),
    (NormsIn32Bits, "test_lengths_are_computed_in_64_bits"),
    (ScoresAbove1, "test_no_score_is_beyond_1"),
    (ScoresAreDistances, "test_scores_are_cosines"),
    (ScoresAreRounded, "test_searches_are_what_numpy_says"),
    (ScoresAreNumPys, "test_scores_are_cosines"),
    (IgnoresDeepOffsets, "test_deep_pages_go_on_where_the_last_one_ended"),
    (OffsetOfAllTogether, "test_each_vector_has_its_own_page"),
    (FiltersAfterwards, "test_a_page_is_full_of_what_passes"),
    (TiesAsTheyCome, "test_ties_are_in_the_order_of_ids_and_pages_fit_together"),
    (ScanIsAGenerator, "test_invalid_filters_are_refused"),
    (OneCursorForAll, "test_two_scans_do_not_disturb_each_other"),
    (FieldsArePaths, "test_scan_finds_fields_of_any_name"),
    (IgnoresWhatItDoesNotKnow, "test_invalid_filters_are_refused"),
]


@pytest.mark.parametrize(("wrong", "test"), WRONG, ids=[wrong.__name__ for wrong, _ in WRONG])
def test_a_wrong_store_is_caught(wrong: type[Any], test: str, tmp_path: Path) -> None:
    contract = VectorStoreContract()
    numbers = itertools.count()
    opened: list[VectorStore] = []

    def fixtures() -> dict[str, Any]:
        path = tmp_path / str(next(numbers))

        def open_store() -> VectorStore:
            opened.append(wrong(path))
            return opened[-1]

        given: dict[str, Any] = {"open_store": open_store, "in_child": in_child_of(wrong, path)}
        if issubclass(wrong, MemoryStore) and "open_store" not in _parameters(test):
            given["store"] = given["filled"] = open_store()
            given["store"].ensure(SCHEMA)
            if "filled" in _parameters(test):
                fill = VectorStoreContract.filled
                given["filled"] = getattr(fill, "__wrapped__", fill)(contract, given["store"])
        return given

    found = faults_found(contract, test, fixtures)
    for store in opened:
        with contextlib.suppress(Exception):
            store.close()
    assert found, f"{test} does not notice"


def _parameters(test: str) -> set[str]:
    code = getattr(VectorStoreContract, test).__code__
    return set(code.co_varnames)
