"""The contract of `SupportsTextSearch`, as tests, to be mixed in beside the one of `VectorStore`.

class TestMyStore(TextSearchContract, VectorStoreContract):
    ...
"""
# ruff: noqa: S101 (these are tests)

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import pytest

from multimodal_search.errors import ConfigurationError, ContentError, QueryError, StoreClosedError
from multimodal_search.protocols import SupportsHybridSearch, SupportsTextSearch, SupportsVectorsInSearch, VectorStore
from multimodal_search.testing._points import SCHEMA, axes, uuid
from multimodal_search.types import Match, PointId, Record

FIELDS = ("filename", "caption", "title", "description", "keywords", "text", "ocr")
"""The payload fields that make up the words of a point in a new store."""

WORDS = "multimodal_search_words"
"""The field in which a store may keep them."""

CLOSE = 1e-5
"""How far a score may be from the formula's: some roundings of 32-bit floats."""

_CORPUS: list[dict[str, Any]] = [
    {"t": "a red fox"},
    {"t": "The FOX and the other fox", "k": 1},
    {"t": ["blue", "sky, and a fox"], "k": 1},
    {"t": "nothing"},
    {"t": ""},
    {"t": "--- ... ---"},
    {"t": []},
    {"t": None},
    {"t": 7},
    {"t": {"u": "fox"}},
    {"t": ["sky", 7, None, {"u": "fox"}]},
    {"other": "fox"},
    {},
]

_WORDS: list[tuple[str, str, bool]] = [
    ("Straße", "straße", True),
    ("Straße", "STRASSE", False),
    ("l'été à Zürich", "ÉTÉ", True),
    ("l'été à Zürich", "L", True),
    ("l'été à Zürich", "ete", False),
    ("café-crème", "crème", True),
    ("snake_case", "case", True),
    ("İstanbul", "İSTANBUL", True),
    ("İstanbul", "istanbul", False),
    ("ΟΔΟΣ", "οδος", True),
    ("ΟΔΟΣ", "οδοσ", False),
    ("Ёлка и снег", "ёлка", True),
    ("IMG_2024-05-01.jpg", "2024", True),
    ("IMG_2024-05-01.jpg", "img 7", True),
    ("3.14", "14", True),
    ("x2", "x", False),
    ("running", "run", False),
    ("the", "THE", True),
    ("\U0001f98a fox", "\U0001f98a", False),
    ("日本、東京", "東京", True),
]
"""Texts, words, and whether these find it."""


class TextSearchContract:
    """Mix it into a subclass of `VectorStoreContract`."""

    persistent: ClassVar[bool]

    @pytest.fixture
    def corpus(self, store: VectorStore) -> SupportsTextSearch:
        """A store with some texts, point i for text i."""
        records = [Record(number, payload) for number, payload in enumerate(_CORPUS)]
        store.upsert(records, axes(*[0] * len(records)))
        return of_field(store)

    def test_scores_are_those_of_bm25(self, corpus: SupportsTextSearch) -> None:
        """By hand: five fields hold words, 3, 6, 5, 1 and 1 of them; "fox" is in three fields, "sky" in two."""
        average = 16 / 5
        fox, sky = math.log(1 + 2.5 / 3.5), math.log(1 + 3.5 / 2.5)

        def term(weight: float, tf: int, length: int) -> float:
            return weight * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * length / average))

        found = corpus.search_text("fox", limit=10)
        assert _scores(found) == pytest.approx({0: term(fox, 1, 3), 1: term(fox, 2, 6), 2: term(fox, 1, 5)}, abs=CLOSE)
        found = corpus.search_text("Sky fox!", limit=10)
        expected = {
            2: term(fox, 1, 5) + term(sky, 1, 5),
            10: term(sky, 1, 1),
            0: term(fox, 1, 3),
            1: term(fox, 2, 6),
        }
        assert _scores(found) == pytest.approx(expected, abs=CLOSE)
        assert [match.id for match in found] == sorted(expected, key=lambda each: -expected[each])
        assert all(type(match.score) is float for match in found)
        assert found[0].payload == _CORPUS[int(found[0].id)]

    def test_a_word_asked_for_twice_counts_once(self, corpus: SupportsTextSearch) -> None:
        """Whoever repeats a word does not mean it more."""
        once = corpus.search_text("fox", limit=10)
        assert corpus.search_text("fox FOX, fox", limit=10) == once

    def test_words_that_hold_no_word_find_nothing(self, corpus: SupportsTextSearch) -> None:
        """Nor does anything fail: it is what people type."""
        for words in ("", "   ", "?!", "-_-", "\x00", "\ud800", "zebra"):
            assert corpus.search_text(words, limit=10) == []

    def test_words_that_no_point_has_find_nothing(self, store: VectorStore) -> None:
        """An empty store, and one of points without texts; that is no error."""
        for _ in range(2):
            assert searching(store).search_text("fox", limit=10) == []
            store.upsert([Record(1, {"k": 1}), Record(2)], axes(0, 0))

    def test_only_points_that_pass_are_found_and_all_count(self, corpus: SupportsTextSearch) -> None:
        """How rare a word is does not depend on the filter: scores are the same with and without."""
        everywhere = _scores(corpus.search_text("fox sky", limit=10))
        for where, passing in (
            ({"k": 1}, {1, 2}),
            ({"k": {"ne": 1}}, {0, 10}),
            ({"t": "a red fox"}, {0}),
            ({"t": ["a red fox", "blue"]}, {0, 2}),
            ({"or": []}, set()),
        ):
            found = _scores(corpus.search_text("fox sky", limit=10, where=where))
            assert found == pytest.approx({each: everywhere[each] for each in passing}, abs=CLOSE)

    def test_filters_on_the_field_itself_stay_exact(self, store: VectorStore) -> None:
        """To be found by its words, a field must not lose being found by its whole value."""
        values: list[Any] = ["dog", "Dog", "dog house", ["dog", "cat"], 5, None, ""]
        store.upsert([Record(number, {"t": value}) for number, value in enumerate(values)], axes(*[0] * len(values)))
        of_field(store)
        assert len(searching(store).search_text("dog", limit=10)) == 4
        store.upsert([Record(7, {"t": "dog"})], axes(0))
        for where, expected in (
            ({"t": "dog"}, [0, 3, 7]),
            ({"t": {"in": ["cat", "Dog"]}}, [1, 3]),
            ({"t": {"prefix": "dog"}}, [0, 2, 3, 7]),
            ({"t": {"ne": "dog"}}, [1, 2, 4, 5, 6]),
            ({"t": 5}, [4]),
            ({"t": {"exists": False}}, [5]),
        ):
            assert [record.id for record in store.scan(where=where)] == expected
            assert store.count(where) == len(expected)
        assert len(searching(store).search_text("dog", limit=10)) == 5

    def test_the_words_of_a_point_are_one_text_of_some_fields(self, store: VectorStore) -> None:
        """By hand: 3, 3, 2 and 1 words. A word in three fields is one, and one twice in a field is two."""
        assert searching(store).get_keyword_fields() == FIELDS
        payloads: list[dict[str, Any]] = [
            {"filename": "sea/red_boat.jpg", "caption": "Red boat", "title": "BOAT"},
            {"description": "boat", "keywords": ["boat", "harbour"], "ocr": "boat, boat"},
            {"text": "red car", "sha256": "boat"},
            {"note": "boat", "filename": "1.jpg", "caption": None, "title": 7},
        ]
        store.upsert([Record(at, payload) for at, payload in enumerate(payloads)], axes(0, 0, 0, 0))
        weight, average = math.log(1 + 2.5 / 2.5), 9 / 4
        expected = {
            1: weight * 2 * 2.2 / (2 + 1.2 * (0.25 + 0.75 * 3 / average)),
            0: weight * 1 * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 3 / average)),
        }
        found = searching(store).search_text("boat", limit=9)
        assert [match.id for match in found] == [1, 0]
        assert _scores(found) == pytest.approx(expected, abs=CLOSE)
        assert searching(store).search_text("jpg", limit=9) == []

    def test_payloads_show_no_words(self, store: VectorStore) -> None:
        """Whoever reads a point gets what was stored, and filters and fields of any name are as before."""
        payload = {"filename": "sea/red boat.jpg", "caption": "a boat", "k": 1}
        store.upsert([Record(1, payload), Record(2)], axes(0, 1))
        for _ in range(2):
            assert [record and record.payload for record in store.get([1, 2])] == [payload, {}]
            assert [record and record.payload for record in store.get([1], with_vectors=True)] == [payload]
            assert [record.payload for record in store.scan()] == [payload, {}]
            assert [record.payload for record in store.scan(fields=["k", WORDS])] == [{"k": 1}, {}]
            assert [match.payload for match in store.search(axes(0), limit=2)[0]] == [payload, {}]
            assert [match.payload for match in store.search(axes(0), limit=1, offset=1)[0]] == [{}]
            if isinstance(store, SupportsVectorsInSearch):
                assert [match.payload for match in store.search_with_vectors(axes(0), limit=2)[0]] == [payload, {}]
            assert [match.payload for match in searching(store).search_text("boat", limit=1)] == [payload]
            assert store.count({"filename": {"prefix": "sea/"}}) == store.count({"caption": "a boat"}) == 1
        with pytest.raises(ContentError, match="3"):
            store.upsert([Record(3, {WORDS: "fox"})], axes(0))
        assert store.count() == 2

    def test_other_fields_make_up_the_words_from_then_on(self, store: VectorStore) -> None:
        """The words of all points are made anew; vectors and payloads stay as they are."""
        vectors = axes(0, 1, 2, 3)
        store.upsert([Record(at, {"caption": f"fox {at}", "note": f"wolf {at}", "k": at}) for at in range(4)], vectors)
        before = store.get(range(4), with_vectors=True)
        assert len(searching(store).search_text("fox", limit=9)) == 4
        ticks: list[None] = []
        assert searching(store).set_keyword_fields(["note", "other"], on_tick=lambda: ticks.append(None))
        for _ in range(2):
            assert searching(store).get_keyword_fields() == ("note", "other")
            assert searching(store).search_text("fox", limit=9) == []
            assert [match.id for match in searching(store).search_text("wolf", limit=9)] == [0, 1, 2, 3]
            assert not searching(store).set_keyword_fields(["note", "other"])
        after = store.get(range(4), with_vectors=True)
        assert before == after
        for old, new in zip(before, after, strict=True):
            assert old is not None
            assert new is not None
            np.testing.assert_array_equal(old.vector, new.vector)
        store.upsert([Record(0, {"caption": "wolf"}), Record(9, {"other": ["wolf"]})], axes(0, 1))
        assert [match.id for match in searching(store).search_text("wolf", limit=9)] == [9, 1, 2, 3]
        for wrong in ("caption", [], [1], None, [b"caption"]):
            with pytest.raises(ConfigurationError):
                searching(store).set_keyword_fields(wrong)  # type: ignore[arg-type]  # on purpose
        assert searching(store).get_keyword_fields() == ("note", "other")

    def test_ranks_of_both_kinds_at_once(self, store: VectorStore) -> None:
        """What hybrid search asks for is what the two searches give, each alone."""
        if not isinstance(store, SupportsHybridSearch):
            pytest.skip("this store has no search_hybrid")
        random = np.random.default_rng(3)
        rows = random.normal(size=(300, 8)).astype(np.float32)
        texts = [" ".join(random.choice(["fox", "sky", "red", "a"], size=3)) for _ in range(300)]
        store.upsert([Record(at, {"text": text, "k": at % 2}) for at, text in enumerate(texts)], rows)
        for where, limit in ((None, 7), ({"k": 1}, 50), (None, 300)):
            nearest, matches = store.search_hybrid(rows[0], "fox red", limit=limit, where=where)
            alone = (
                store.search(rows[:1], limit=limit, where=where)[0],
                store.search_text("fox red", limit=limit, where=where),
            )
            for together, one in zip((nearest, matches), alone, strict=True):
                assert [point_id for point_id, _ in together] == [match.id for match in one]
                assert dict(together) == pytest.approx(_scores(one), abs=CLOSE)
        assert store.search_hybrid(None, "nobody", limit=3) == ([], [])

    def test_words_of_many_languages(self, store: VectorStore) -> None:
        """Runs of letters and digits, without regard to case, with regard to accents."""
        store.upsert([Record(at, {"t": text}) for at, (text, *_) in enumerate(_WORDS)], axes(*[0] * len(_WORDS)))
        of_field(store)
        wrong = []
        for at, (text, words, expected) in enumerate(_WORDS):
            found = {match.id for match in searching(store).search_text(words, limit=100)}
            if (at in found) != expected:
                wrong.append((text, words))
        assert wrong == []

    def test_fields_of_any_name(self, store: VectorStore) -> None:
        """A payload's own field, even if its name looks like a path."""
        names = ["clé", "a.b", "a b", "x[0]", "日本", "not", 'q"uote', "back\\slash", ""]
        payload: dict[str, Any] = {name: f"word{at}" for at, name in enumerate(names)} | {"a": {"b": "inner"}}
        store.upsert([Record(1, payload)], axes(0))
        searching(store).set_keyword_fields(names)
        for _ in range(2):
            for at in range(len(names)):
                assert [match.id for match in searching(store).search_text(f"word{at}", limit=5)] == [1]
            assert searching(store).search_text("inner", limit=5) == []
            store.upsert([Record(1, payload)], axes(0))

    def test_what_is_written_later_is_found_at_once(self, store: VectorStore) -> None:
        """The index by words follows every change."""
        assert of_field(store).search_text("fox", limit=5) == []
        store.upsert([Record(1, {"t": "fox"}), Record(uuid(2), {"t": "fox"}), Record(3, {"t": "fox"})], axes(0, 1, 2))
        assert _ids(store, "fox") == [1, 3, uuid(2)]
        store.upsert([Record(1, {"t": "wolf"}), Record(3, {})], axes(0, 1))
        assert _ids(store, "fox") == [uuid(2)]
        assert _ids(store, "wolf") == [1]
        store.delete([uuid(2)])
        assert _ids(store, "fox") == []

    def test_equal_scores_are_in_the_order_of_ids(self, store: VectorStore) -> None:
        """Two searches give the same, also where a page ends among equals."""
        ids: list[PointId] = [*range(30), *(uuid(number) for number in range(30))]
        order = np.random.default_rng(4).permutation(60)
        store.upsert([Record(ids[at], {"t": "fox"}) for at in order], axes(*[0] * 60))
        of_field(store)
        assert _ids(store, "fox", limit=100) == ids
        for limit in (1, 7, 30, 59):
            assert _ids(store, "fox", limit=limit) == ids[:limit]

    def test_words_and_limits_without_sense_are_refused(self, corpus: SupportsTextSearch) -> None:
        """Rather than being taken for something else."""
        with pytest.raises(QueryError):
            corpus.search_text("fox", limit=0)
        with pytest.raises(QueryError):
            corpus.search_text(b"fox", limit=1)  # type: ignore[arg-type]  # on purpose
        for words in ("fox", ""):
            with pytest.raises(QueryError):
                corpus.search_text(words, limit=1, where={"k": {"equals": 1}})

    def test_what_was_indexed_by_words_is_found_after_opening_anew(self, open_store: Callable[[], VectorStore]) -> None:
        """The index by words is part of what is stored."""
        if not self.persistent:
            pytest.skip("this store is not persistent")
        store = open_store()
        store.ensure(SCHEMA)
        store.upsert([Record(1, {"t": "red fox"}), Record(2, {"t": "dog"})], axes(0, 1))
        of_field(store)
        before = searching(store).search_text("fox", limit=5)
        store.close()
        store = open_store()
        store.ensure(SCHEMA)
        assert searching(store).get_keyword_fields() == ("t",)
        assert searching(store).search_text("fox", limit=5) == before
        store.upsert([Record(3, {"t": "fox"})], axes(0))
        assert _ids(store, "fox") == [3, 1]
        store.close()

    def test_searching_by_words_after_close_says_so(self, store: VectorStore) -> None:
        """As everything else does."""
        store.close()
        with pytest.raises(StoreClosedError):
            searching(store).search_text("fox", limit=1)
        with pytest.raises(StoreClosedError):
            searching(store).set_keyword_fields(["t"])


def searching(store: VectorStore) -> SupportsTextSearch:
    """The store, which must be one that searches by words."""
    assert isinstance(store, SupportsTextSearch)
    return store


def of_field(store: VectorStore) -> SupportsTextSearch:
    """The same, whose points' words are those in the field `t`."""
    searching(store).set_keyword_fields(["t"])
    return searching(store)


def _ids(store: VectorStore, words: str, *, limit: int = 10) -> list[PointId]:
    return [match.id for match in searching(store).search_text(words, limit=limit)]


def _scores(found: list[Match]) -> Mapping[PointId, float]:
    return {match.id: match.score for match in found}
