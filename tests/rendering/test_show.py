"""Relevance, groups and near-duplicates, wherever hits show themselves; hits as JSON for other programs."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema
import numpy as np
import PIL.Image
import pytest
from paths import ROOT
from PIL import ImageChops

from multimodal_search import QueryError
from multimodal_search.results import SearchHit, SearchResults, Verdict, heading_of

SCHEMA = json.loads((ROOT / "docs" / "search-results.schema.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
NOT_SHOWN = SearchHit(id=99, score=0)
RED, GREEN, BLUE = (220, 20, 20), (20, 180, 20), (20, 20, 220)


def hit(name: str = "a.png", score: float = 0.5, root: Path | None = None, **known: Any) -> SearchHit:
    payload = {"filename": name, "modality": "image"} | ({} if root is None else {"root": str(root)})
    return SearchHit(id=1, score=score, payload=payload, **known)


class TestTable:
    def test_relevance_groups_and_duplicates_have_columns_of_their_own(self) -> None:
        behind = (NOT_SHOWN,) * 3
        results = SearchResults(
            [
                hit("a.png", 0.312, relevance=0.999, group="beach", duplicates=behind),
                hit("b.png", 0.25, relevance=1.0, group="日本"),
                hit("c.png", -0.25, relevance=0.05),
            ],
            "Surfing",
        )
        assert repr(results).splitlines() == [
            "3 hits for 'Surfing'",
            "1   0.312   99 %  beach  a.png  +3",
            "2   0.250  100 %  日本   b.png",
            "3  -0.250    5 %         c.png",
        ]

    def test_what_is_shown_as_a_threshold_reaches_it(self) -> None:
        """Rounded to the nearest, 0.966 would look as if it did."""
        shown = [repr(SearchResults([hit(relevance=value)], "x")).split()[6] for value in (0.966, 0.97, 0.29, 1.0, 0.0)]
        assert shown == ["96", "97", "29", "100", "0"]
        hits = [hit(relevance=0.97), hit(relevance=0.966), hit(relevance=None)]
        assert list(SearchResults(hits, "x", verdict="match", thresholds=(0.3, 0.97)).matches) == hits[:1]

    def test_matches_are_not_told_where_relevance_is_not_known(self) -> None:
        assert len(SearchResults([], "x", verdict="nothing", thresholds=(0.3, 0.7)).matches) == 0
        with pytest.raises(QueryError, match="because of this"):
            _ = SearchResults([hit(relevance=None)], "x", relevance_unknown="because of this").matches
        with pytest.raises(QueryError, match="not come from a search"):
            _ = SearchResults([hit(relevance=1.0)], "x").matches

    @pytest.mark.parametrize(
        ("verdict", "said"), [(None, ""), ("match", ""), ("unsure", "perhaps"), ("nothing", "nothing here looks like")]
    )
    def test_every_view_says_the_verdict(self, verdict: Verdict | None, said: str) -> None:
        for hits in ([hit()], []):
            said = "" if said == "perhaps" and not hits else said  # "no hits: perhaps" would make no sense
            results = SearchResults(hits, "x" * 200, verdict=verdict, thresholds=(0.3, 0.7))
            for text in (repr(results), str(results), heading_of(results), results.to_html(), results._repr_html_()):
                assert said in text
                for other in {"perhaps", "nothing here looks like"} - {said}:
                    assert other not in text
            assert len(repr(results).splitlines()[0]) <= 80
            assert json.loads(results.to_json())["verdict"] == verdict
            assert results[:1].verdict == results.with_hits([]).verdict == verdict

    def test_why_there_is_no_verdict_is_in_the_json_and_views_claim_nothing(self) -> None:
        """Where hits have scores only, a reason above each table would be noise."""
        why = "the index is not calibrated"
        results = SearchResults([hit()], "x", relevance_unknown=why)
        said = json.loads(results.to_json())
        assert (said["verdict"], said["relevance_unknown"]) == (None, why)
        VALIDATOR.validate(said)
        plain = SearchResults([hit()], "x")
        assert repr(results) == repr(plain)
        assert results.to_html() == plain.to_html()
        assert results._repr_html_() == plain._repr_html_()
        assert ImageChops.difference(results.contact_sheet(), plain.contact_sheet()).getbbox() is None

    def test_lines_stay_within_eighty_columns(self) -> None:
        full = hit("x" * 500 + ".png", relevance=1.0, group="g" * 500, duplicates=(NOT_SHOWN,) * 1000)
        for line in repr(SearchResults([full], "x")).splitlines():
            assert len(line) <= 80
        assert line.endswith(".png  +1,000")

    def test_a_group_cannot_steer_the_terminal(self) -> None:
        assert r"\x1b[2J\n" in repr(SearchResults([hit(group="\x1b[2J\n")], "x"))


class TestJson:
    def test_every_kind_of_hit_is_as_the_schema_says(self, tmp_path: Path) -> None:
        behind = hit("c.png", duplicates=(hit(),))
        hits = [
            hit("a.png", 0.5, tmp_path, relevance=0.97, group="beach", duplicates=(hit("b.png"), behind)),
            SearchHit(id=2**64 - 1, score=1, group=True, payload={"modality": "text", "text": "a\udcff \0 ש"}),
            SearchHit(id=str(UUID(int=1)), score=-1.0000001, group=2020, payload={"modality": "mixed"}),
            SearchHit(id=0, score=float("nan"), group=0.5, payload={"modality": "film", "filename": 3, "text": 4}),
        ]
        results = SearchResults(hits, "x")
        text = results.to_json()
        assert text.isascii()
        assert "\n" not in text
        assert "\n" in results.to_json(indent=2)
        whole = json.loads(text, parse_constant=pytest.fail)
        VALIDATOR.validate(whole)
        given = whole["hits"]
        assert given == results.to_dicts()
        assert [each["id"] for each in given] == [each.id for each in hits]
        assert [each["filename"] for each in given[0]["duplicates"]] == ["b.png", "c.png"]
        assert len(given[0]["duplicates"][1]["duplicates"]) == 1
        assert [each["group"] for each in given] == ["beach", True, 2020, 0.5]
        assert [each["score"] for each in given] == [0.5, 1.0, -1.0000001, None]
        assert given[1]["text"] == "a\udcff \0 ש"
        none = {"query": "x", "verdict": None, "relevance_unknown": None, "hits": []}
        assert json.loads(SearchResults([], "x").to_json()) == none
        VALIDATOR.validate(none)

    def test_the_schema_names_the_keys_that_there_are_and_checks_them(self) -> None:
        """A schema that lets everything pass describes nothing."""
        VALIDATOR.check_schema(SCHEMA)
        described = SCHEMA["$defs"]["hit"]
        given = hit().to_dict()
        assert list(given) == described["required"] == list(described["properties"])
        whole = json.loads(SearchResults([], "x").to_json())
        assert list(whole) == SCHEMA["required"] == list(SCHEMA["properties"])

        def is_valid(changed: object) -> bool:
            return bool(VALIDATOR.is_valid({**whole, "hits": [changed]}))

        assert is_valid(given)
        for name in given:
            assert not is_valid({key: value for key, value in given.items() if key != name})
            assert not is_valid({**given, name: object()})
        assert not is_valid({**given, "duplicates": [{"id": 1}]})
        for name in whole:
            assert not VALIDATOR.is_valid({key: value for key, value in whole.items() if key != name})
            assert not VALIDATOR.is_valid({**whole, name: object()})
        pages = [page.read_text("utf-8") for page in (ROOT / "docs").glob("*.md")]
        [table] = [text for text in pages if "](search-results.schema.json)" in text]
        table = table[table.index("**The JSON**") :].partition("](search-results.schema.json)")[0]
        assert [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")] == list(given)

    @pytest.mark.parametrize(
        ("value", "kept"),
        [
            (2**100, 2**100),
            (date(2020, 2, 29), "2020-02-29"),
            (np.int64(7), 7),
            (np.float32(0.5), 0.5),
            (np.bool_(True), True),
            (np.datetime64("2020-02-29"), "2020-02-29"),
            (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
            (np.array([np.nan, 1.0]), [None, 1.0]),
            (float("inf"), None),
            (-0.0, 0.0),
            (b"\xff\x00", "/wA="),
            (bytearray(b"ab"), "YWI="),
            pytest.param(memoryview(b"ab"), "YWI=", id="memoryview"),
            (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
            (Decimal("1.50"), "1.50"),
            (Path("a") / "b", str(Path("a") / "b")),
            ((1, {2}), [1, [2]]),
            ({1: {None: 2}}, {"1": {"None": 2}}),
        ],
        ids=str,
    )
    def test_payloads_keep_the_nearest_thing_that_json_has(self, value: object, kept: object) -> None:
        """A store in this process may keep Python's own values, and other programs other things."""
        text = SearchResults([SearchHit(id=1, score=0, payload={"x": value})], "x").to_json()
        assert json.loads(text, parse_constant=pytest.fail)["hits"][0]["payload"] == {"x": kept}


class TestContactSheet:
    def sheet(self, hits: list[SearchHit], **settings: int) -> PIL.Image.Image:
        return SearchResults(hits, "x").contact_sheet(thumbnail_px=120, **settings)

    def place(self, sheet: PIL.Image.Image, colour: tuple[int, int, int]) -> tuple[int, int]:
        """Left and top of the card with this colour."""
        rows, columns = np.nonzero((np.asarray(sheet) == colour).all(axis=2))
        assert rows.size > 5000
        return int(columns.min()), int(rows.min())

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        for name, colour in (("r.png", RED), ("g.png", GREEN), ("b.png", BLUE)):
            PIL.Image.new("RGB", (200, 200), colour).save(tmp_path / name)
        return tmp_path

    def test_relevance_stands_beside_the_score(self, root: Path) -> None:
        plain, with_it, other = (
            self.sheet([hit("r.png", root=root, relevance=relevance)]) for relevance in (None, 0.97, 0.12)
        )
        left, top = self.place(plain, RED)
        for one, another in ((plain, with_it), (with_it, other)):
            changed = ImageChops.difference(one, another).getbbox()
            assert changed is not None
            assert left < changed[0]
            assert top + 120 <= changed[1]

    def test_the_verdict_stands_beside_the_number_of_hits_unless_they_match(self, root: Path) -> None:
        """Whoever is sent the sheet sees nothing else of the answer."""
        for hits in ([hit("r.png", root=root)] * 4, [hit("r.png", root=root)], []):
            none, match, unsure, nothing = (
                SearchResults(hits, "x", verdict=verdict).contact_sheet(thumbnail_px=120)
                for verdict in (None, "match", "unsure", "nothing")
            )
            assert none.tobytes() == match.tobytes()
            assert len({sheet.tobytes() for sheet in (match, unsure, nothing)}) == (3 if hits else 2)
            if hits:
                changed = ImageChops.difference(match, nothing).getbbox()
                assert changed is not None
                assert changed[3] < self.place(match, RED)[1], "above the first card"

    def test_the_number_of_duplicates_is_legible_on_any_image(self, root: Path) -> None:
        """In the upper right corner, light on dark."""
        plain, duplicates = (self.sheet([hit("r.png", root=root, duplicates=(NOT_SHOWN,) * n)]) for n in (0, 3))
        left, top = self.place(plain, RED)
        box = ImageChops.difference(plain, duplicates).getbbox()
        assert box is not None
        assert left + 60 < box[0] < box[2] <= left + 120
        assert top <= box[1] < box[3] < top + 40
        grey = np.asarray(duplicates.crop(box).convert("L")) / 255
        assert (grey.max() ** 2.2 + 0.05) / (grey.min() ** 2.2 + 0.05) > 7

    def test_groups_stand_below_their_headings(self, root: Path) -> None:
        hits = [
            hit("r.png", root=root, group="one"),
            hit("g.png", root=root, group="two"),
            hit("b.png", root=root, group="one"),
        ]
        sheet = self.sheet(hits)
        red, green, blue = (self.place(sheet, colour) for colour in (RED, GREEN, BLUE))
        assert red[1] == blue[1] < green[1]
        assert red[0] == green[0] < blue[0]
        assert sheet.height > self.sheet([hit("r.png", root=root)] * 4, columns=2).height, "with headings"

    def test_a_group_of_one_stands_on_its_card(self, root: Path) -> None:
        """A heading over each single card would be a list of headings."""
        grouped, plain = (
            self.sheet([hit("r.png", root=root, group=group), *[hit("g.png", root=root)] * 2])
            for group in ("beach", None)
        )
        assert grouped.size == plain.size
        changed = ImageChops.difference(grouped, plain).getbbox()
        assert changed is not None
        assert changed[3] - changed[1] < 20
