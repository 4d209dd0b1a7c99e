"""Tables of scores, read at their edges, and what is asked of a store to fill them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import numpy as np
import pytest

from multimodal_search import MemoryStore, Record, StoreSchema, VectorStore
from multimodal_search._relevance.calibration import CALIBRATION_NOTE, LEVELS, Calibration, _without_copies, calibrate
from multimodal_search._relevance.reference_bank import ReferenceBank
from multimodal_search.contents import Modality
from multimodal_search.types import Filter, FloatArray, Match

D = 24
TABLE = tuple(0.2 + number / 200 for number in range(len(LEVELS)))
"""Rises by 0.005 for each level, from 0.2."""

ONE = Calibration(bank="b", count=100, tables={("text", "image"): TABLE})


def unit(count: int, seed: int) -> FloatArray:
    rows = np.random.default_rng(seed).standard_normal((count, D), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def bank_of(text: FloatArray, image: FloatArray | None = None) -> ReferenceBank:
    return ReferenceBank(fingerprint="f", origin="own", text=text, image=unit(0, 0) if image is None else image)


def store_of(rows: FloatArray, modality: Modality = "image") -> MemoryStore:
    store = MemoryStore()
    store.ensure(StoreSchema(model="m", fingerprint="f", dimension=rows.shape[1]))
    store.upsert([Record(number, {"modality": modality}) for number in range(len(rows))], rows)
    return store


def relevance(score: float, of: Calibration = ONE) -> float:
    found = of.relevance("text", "image", score)
    assert found is not None
    return found


def test_the_levels_are_those_that_notes_hold_scores_for() -> None:
    """Others would give the scores in every stored note another meaning."""
    assert CALIBRATION_NOTE == "calibration"
    assert len(LEVELS) == 104
    assert LEVELS[:4] == (0.001, 0.005, 0.01, 0.02)
    assert LEVELS[-5:] == (0.98, 0.99, 0.995, 0.999, 0.9999)
    assert list(LEVELS[2:-3]) == [number / 100 for number in range(1, 100)]


@pytest.mark.parametrize("number", [0, 1, 2, 50, len(LEVELS) - 2, len(LEVELS) - 1])
def test_a_score_of_the_table_has_its_level(number: int) -> None:
    assert relevance(TABLE[number]) == pytest.approx(LEVELS[number], abs=1e-9)


@pytest.mark.parametrize("number", [0, 1, 50, len(LEVELS) - 2])
def test_between_two_scores_of_the_table_relevance_is_linear(number: int) -> None:
    score = TABLE[number] + (TABLE[number + 1] - TABLE[number]) / 4
    assert relevance(score) == pytest.approx(LEVELS[number] + (LEVELS[number + 1] - LEVELS[number]) / 4, abs=1e-9)


def test_above_the_table_is_its_highest_level() -> None:
    assert relevance(TABLE[-1]) == relevance(TABLE[-1] + 1e-6) == relevance(1.0) == LEVELS[-1]


@pytest.mark.parametrize(("score", "expected"), [(-0.4, 0.0005), (-1.0, 0.0), (-1.1, 0.0), (0.2 - 1e-12, 0.001)])
def test_below_the_table_relevance_falls_to_0_at_the_lowest_cosine(score: float, expected: float) -> None:
    """So that no two scores of different rank become equal."""
    assert relevance(score) == pytest.approx(expected, abs=1e-9)
    assert relevance(score) >= 0


def test_a_table_may_begin_below_0() -> None:
    table = tuple(np.linspace(-0.5, 0.9, len(LEVELS)).tolist())
    calibration = Calibration(bank="b", count=1, tables={("text", "image"): table})
    assert relevance(-0.75, calibration) == pytest.approx(0.0005, abs=1e-9)


@pytest.mark.parametrize("lowest", [-1.0, -1.5])
def test_a_table_that_begins_at_the_lowest_cosine_has_nothing_below(lowest: float) -> None:
    calibration = Calibration(
        bank="b", count=1, tables={("text", "image"): tuple(np.linspace(lowest, 0.9, len(LEVELS)).tolist())}
    )
    assert relevance(lowest - 0.1, calibration) == 0
    assert relevance(lowest, calibration) == pytest.approx(0.001)


def test_replaced_vectors_count_as_changes() -> None:
    bank = bank_of(unit(20, 1))
    calibration = Calibration(bank=bank.digest, count=1000, tables={})
    changes = ((1000, 100), (1000, 101), (950, 51), (1050, 50))
    stale = [calibration.is_stale(count, bank, replaced=some) for count, some in changes]
    assert stale == [False, True, True, False]


def test_a_note_is_read_as_it_was_written_or_not_at_all() -> None:
    fields = json.loads(ONE.to_note())
    assert fields == {"version": 2, "bank": "b", "count": 100, "tables": {"text/image": list(TABLE)}}
    assert Calibration.from_note(json.dumps(fields)) == ONE
    level = [*TABLE[:5], TABLE[4], *TABLE[6:]]  # twice the same score
    for wrong in (
        {"version": 0}, {"version": 1}, {"version": 3},
        {"tables": {"sound/image": TABLE}}, {"tables": {"text/video": TABLE}},
        {"tables": {"text": TABLE}}, {"tables": {"text/image/x": TABLE}}, {"tables": {"text/image": TABLE[:-1]}},
        {"tables": {"text/image": [*TABLE, 0.9]}}, {"tables": {"text/image": level}},
        {"tables": {"text/image": [*TABLE[:-1], float("inf")]}},
    ):  # fmt: skip
        assert Calibration.from_note(json.dumps({**fields, **wrong})) is None, wrong


@pytest.mark.parametrize(("points", "texts", "images", "kinds"), [
    (20, 20, 0, {"text", "image", "mixture"}), (20, 19, 20, {"image"}), (20, 20, 19, {"text"}), (19, 50, 50, set()),
    (20, 0, 0, {"image"}),
])  # fmt: skip
def test_twenty_points_and_twenty_queries_are_enough(points: int, texts: int, images: int, kinds: set[str]) -> None:
    """Without images in the bank, the index's own are the queries."""
    calibration = calibrate(store_of(unit(points, 1)), bank_of(unit(texts, 2), unit(images, 3)))
    assert {kind for kind, _ in calibration.tables} == kinds
    assert calibration.count == points


class Spying(MemoryStore):
    """Remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.searches: list[tuple[int, int, Filter | None]] = []
        self.got: list[list[int | str]] = []

    def search(
        self, vectors: FloatArray, /, *, limit: int, offset: int = 0, where: Filter | None = None
    ) -> list[list[Match]]:
        self.searches.append((len(vectors), limit, where))
        return super().search(vectors, limit=limit, offset=offset, where=where)

    def get(self, ids: Sequence[int | str], /, *, with_vectors: bool = False) -> list[Record | None]:
        self.got.append(list(ids))
        return super().get(ids, with_vectors=with_vectors)


def spying(count: int, **modalities: int) -> Spying:
    store = Spying()
    store.ensure(StoreSchema(model="m", fingerprint="f", dimension=D))
    store.upsert([Record(number, {"modality": "image"}) for number in range(count)], unit(count, 1))
    for start, (modality, more) in enumerate(modalities.items(), start=1):
        store.upsert([Record(start * 10**6 + number, {"modality": modality}) for number in range(more)], unit(more, 5))
    return store


def test_where_all_points_are_images_no_filter_looks_at_each() -> None:
    """Of texts the two best are asked for, of images eleven: itself, and up to eight copies of it, do not count."""
    store = spying(100)
    calibrate(store, bank_of(unit(70, 2)))
    assert store.searches == [(70, 2, None), (100, 11, None), (100, 11, None)]
    other = spying(100, text=20)
    calibrate(other, bank_of(unit(70, 2)))
    assert {json.dumps(where) for _, _, where in other.searches} == {'{"modality": "image"}', '{"modality": "text"}'}
    assert sum(count for count, _, _ in other.searches) == 2 * (70 + 100 + 100)


def test_too_few_images_are_no_queries() -> None:
    """Nor are they read, or searched with, for the sake of other modalities."""
    store = spying(19, text=40)
    calibrate(store, bank_of(unit(30, 2)))
    assert store.got == []
    assert store.searches == [(30, 2, {"modality": "text"})]


def test_progress_is_told_before_each_search_and_ends_with_1() -> None:
    told: list[float] = []
    calibrate(spying(100), bank_of(unit(70, 2)), tell=told.append)
    assert told == pytest.approx([0, 70 / 270, 170 / 270, 1])
    nothing: list[float] = []
    calibrate(spying(5), bank_of(unit(70, 2)), tell=nothing.append)
    assert nothing == [1.0]


def test_the_sample_is_drawn_from_all_ids_by_their_hash() -> None:
    """Of an index that has grown, most are the same again; none of them depends on the order of ids."""
    small, large = spying(1500), spying(3000)
    for store in (small, large):
        calibrate(store, bank_of(unit(0, 0)))
    (first,), (second,) = small.got, large.got
    by_hash = sorted(range(3000), key=lambda number: blake2b(str(number).encode(), digest_size=8).digest())
    assert second == by_hash[:1024]
    assert [number for number in second if number < 1500] == first[: sum(number < 1500 for number in second)]
    assert abs(np.mean([int(number) for number in second]) - 1500) < 150
    few = spying(100)
    calibrate(few, bank_of(unit(0, 0)))
    assert sorted(few.got[0]) == list(range(100))


def test_the_sample_reads_no_more_than_the_first_million_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multimodal_search._relevance.sample._MAX_READ", 2000)

    class Huge(Spying):
        read = 0

        def count(self, where: Filter | None = None) -> int:
            return 10**9 if where is None or where == {"modality": "image"} else 0

        def scan(self, *, where: Filter | None = None, fields: Sequence[str] | None = None) -> Iterator[Record]:
            assert (where, fields) == (None, ())
            for number in range(10**6):
                self.read += 1
                yield Record(number, {})

    store = Huge()
    store.ensure(StoreSchema(model="m", fingerprint="f", dimension=D))
    calibrate(store, bank_of(unit(0, 0)))
    assert len(store.got[0]) == 1024
    assert store.read <= 2000


def test_images_without_a_vector_are_no_queries() -> None:
    """The zero vector, as of a blank image, is as near to all as to none."""
    rows = unit(40, 1)
    rows[3] = rows[30] = 0
    store = Spying()
    store.ensure(StoreSchema(model="m", fingerprint="f", dimension=D))
    store.upsert([Record(number, {"modality": "image"}) for number in range(40)], rows)
    calibrate(store, bank_of(unit(0, 0)))
    assert [count for count, _, _ in store.searches] == [38]


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([0.6, 0.55, 0.5, 0.48], 0.6),
        ([0.9, 0.55, 0.5, 0.48], 0.55),  # a copy
        ([0.95, 0.8, 0.4, 0.38], 0.4),  # two, of which one is another size
        ([0.9, 0.85, 0.84, 0.83, 0.5], 0.5),  # a burst
        ([0.9] * 8 + [0.5, 0.1], 0.5),  # eight at most
        ([0.9] * 9 + [0.5], 0.9),
        ([0.9, 0.84], 0.9),  # 0.16 is 1.6 times 0.1
        ([0.9, 0.83], 0.83),  # and 0.17 is 1.7 times that
        ([0.7], 0.7),
    ],
)
def test_copies_are_no_neighbours(scores: list[float], best: float) -> None:
    assert _without_copies(scores) == best


def test_where_a_subject_fills_the_index_the_others_count_as_well() -> None:
    """A folder of dresses would else say how near to each other all images are."""
    random = np.random.default_rng(3)
    dresses = np.zeros((900, D), np.float32) + np.eye(D, dtype=np.float32)[0] + 0.1 * unit(900, 4)
    others = unit(100, 5)
    rows = np.concatenate([dresses / np.linalg.norm(dresses, axis=1, keepdims=True), others])
    table = calibrate(store_of(rows[random.permutation(1000)]), bank_of(unit(0, 0))).tables["image", "image"]
    alone = calibrate(store_of(others), bank_of(unit(0, 0))).tables["image", "image"]
    counted = np.quantile((rows[:900] @ rows[:900].T - 2 * np.eye(900)).max(axis=1), 0.1)
    assert table[LEVELS.index(0.5)] < alone[LEVELS.index(0.99)] < 0.95 < counted


def test_an_image_is_no_neighbour_of_its_own_however_a_store_rounds() -> None:
    """One that keeps vectors in 8 bits finds an image itself at less than 0.9995."""

    class Rounding(MemoryStore):
        def search(
            self, vectors: FloatArray, /, *, limit: int, offset: int = 0, where: Filter | None = None
        ) -> list[list[Match]]:
            pages = super().search(vectors, limit=limit, offset=offset, where=where)
            return [[replace(match, score=match.score - 0.001) for match in page] for page in pages]

    images = unit(40, 1)
    store = Rounding()
    store.ensure(StoreSchema(model="m", fingerprint="f", dimension=D))
    store.upsert([Record(number, {"modality": "image"}) for number in range(40)], images)
    table = calibrate(store, bank_of(unit(0, 0))).tables["image", "image"]
    nearest = np.sort(images @ images.T, axis=1)[:, -2]
    assert table[LEVELS.index(0.5)] == pytest.approx(np.median(nearest) - 0.001, abs=0.05)


@pytest.mark.parametrize("store", [MemoryStore()])
def test_an_empty_index_has_no_tables(store: VectorStore) -> None:
    store.ensure(StoreSchema(model="m", fingerprint="f", dimension=D))
    assert calibrate(store, bank_of(unit(100, 1), unit(100, 2))) == Calibration(
        bank=bank_of(unit(100, 1), unit(100, 2)).digest, count=0, tables={}
    )


def rows_of(table: Any) -> FloatArray:
    return np.array(table, np.float64)  # type: ignore[return-value]


@pytest.mark.parametrize("among_images", [False, True])
@pytest.mark.parametrize(
    ("count", "body", "counted_levels"),
    [(120, slice(12, 84), [0.005, 0.995]), (100, slice(10, 70), [0.01, 0.99]), (25, slice(2, 18), [0.03, 0.97])],
)
def test_beyond_what_was_counted_a_table_follows_the_gumbel_distribution_of_the_body(
    count: int, body: slice, counted_levels: list[float], among_images: bool
) -> None:
    """The scores from the 10th to the 70th hundredth, by least squares; of images those of -log(1 - score)."""
    points, texts = unit(300, 1), unit(count, 2)
    bank = bank_of(unit(0, 0), texts) if among_images else bank_of(texts)
    table = rows_of(calibrate(store_of(points), bank).tables["image" if among_images else "text", "image"])
    best = np.sort((texts.astype(float) @ points.T.astype(float)).max(axis=1))
    values = -np.log(1 - best) if among_images else best
    places = (np.arange(count) + 0.5) / count  # those of the body from 0.1 to 0.7, both included
    scale, location = np.polyfit(-np.log(-np.log(places[body])), values[body], 1)
    levels = np.array(LEVELS)
    fitted = location - scale * np.log(-np.log(levels))
    fitted = 1 - np.exp(-fitted) if among_images else fitted
    counted = np.quantile(best, levels, method="hazen")
    is_counted = (levels > 0.5 / count) & (levels < 1 - 0.5 / count)
    assert [LEVELS[at] for at in np.flatnonzero(is_counted)[[0, -1]]] == counted_levels
    expected = np.where(is_counted, np.minimum(fitted, counted), fitted)
    np.testing.assert_allclose(table, np.maximum.accumulate(expected), atol=2e-6)


def test_a_table_rises_where_queries_score_alike() -> None:
    """Equal counts are told apart by a billionth, so that no step of the table has length 0."""
    images, texts = np.zeros((100, D), np.float32), np.zeros((100, D), np.float32)
    images[:, 0] = texts[:, 1] = 1
    texts[90:, 0] = np.linspace(0.1, 0.9, 10)
    table = calibrate(store_of(images), bank_of(texts)).tables["text", "image"]
    steps = np.diff(rows_of(table))
    assert steps.min() == pytest.approx(1e-9, rel=1e-3)
    assert table[0] == pytest.approx(0, abs=1e-12)
