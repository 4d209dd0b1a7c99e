"""What comes back of a search and of an indexing run, and how it shows itself."""

from __future__ import annotations

import csv
import json
import pickle
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from PIL import ImageChops

from multimodal_search._rendering import fonts as _lettering
from multimodal_search.errors import ConfigurationError, UnreadableContentError
from multimodal_search.report import IndexReport
from multimodal_search.results import Failure, SearchHit, SearchResults

RED, GREEN, BLUE = (220, 20, 20), (20, 180, 20), (20, 20, 220)
UUID_ID = "5fdc2a3e-6fe5-4e0c-9d5d-7c1f2ad0a2a4"


def hit_of(root: Path, filename: str, *, point_id: int = 1, score: float = 0.5) -> SearchHit:
    payload = {"filename": filename, "root": str(root), "modality": "image"}
    return SearchHit(id=point_id, score=score, payload=payload)


def text_hit(text: str, *, point_id: int = 1, score: float = 0.5) -> SearchHit:
    return SearchHit(id=point_id, score=score, payload={"modality": "text", "text": text})


@pytest.fixture
def image(tmp_path: Path) -> Callable[..., str]:
    """Writes an image of one colour below tmp_path; PNG, so that the colour survives."""

    def write(name: str, colour: tuple[int, int, int] = RED, size: tuple[int, int] = (300, 300)) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", size, colour).save(path, format="PNG")
        return name

    return write


def extent_of(sheet: PIL.Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, width and height of what has exactly this colour."""
    mask = (np.asarray(sheet) == colour).all(axis=2)
    assert mask.any(), f"nothing on the sheet has the colour {colour}"
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)


def differ(one: PIL.Image.Image, other: PIL.Image.Image) -> bool:
    return one.size != other.size or ImageChops.difference(one, other).getbbox() is not None


class TestSearchHit:
    def test_fields_come_from_the_payload(self, tmp_path: Path) -> None:
        """Programs read hit.filename, not a dict whose keys they must know."""
        hit = hit_of(tmp_path, "trip/a.jpg")
        assert (hit.filename, hit.path, hit.modality, hit.text) == (
            "trip/a.jpg",
            tmp_path / "trip" / "a.jpg",
            "image",
            None,
        )
        assert text_hit("a dog").text == "a dog"

    @pytest.mark.parametrize(
        "payload", [{}, {"filename": 3, "root": 4, "modality": 5, "text": 6}, {"modality": "film"}]
    )
    def test_a_payload_of_another_program_gives_none_not_an_error(self, payload: dict[str, Any]) -> None:
        """Collections that others filled are searched too."""
        hit = SearchHit(id=1, score=0.5, payload=payload)
        assert (hit.filename, hit.path, hit.modality, hit.text) == (None, None, None, None)

    @pytest.mark.parametrize(
        "filename",
        ["../../etc/passwd", "/etc/passwd", "a/../../b.jpg", "a/..", "..", ".", "", "a\0b.jpg"],
    )
    def test_path_never_leads_out_of_the_root(self, tmp_path: Path, filename: str) -> None:
        """A shared index is foreign data: it must not make a viewer open whatever file it names."""
        assert hit_of(tmp_path, filename).path is None
        with pytest.raises(UnreadableContentError, match=r"hit 1"):
            hit_of(tmp_path, filename).image()

    @pytest.mark.parametrize("filename", ["..a.jpg", "a..jpg", "b/...jpg", "~/a.jpg"])
    def test_dots_that_climb_nowhere_are_fine(self, tmp_path: Path, filename: str) -> None:
        """Odd names are names."""
        assert hit_of(tmp_path, filename).path == tmp_path / filename

    @pytest.mark.parametrize("root", [None, "", 7])
    def test_without_a_root_there_is_no_path(self, root: object) -> None:
        """A name alone would be looked up in whatever folder the program runs in."""
        assert SearchHit(id=1, score=0.5, payload={"filename": "a.jpg", "root": root}).path is None

    def test_image_is_upright_rgb_of_full_size(self, tmp_path: Path) -> None:
        """A phone's photo lies on its side in the file; EXIF orientation 6 says to turn it clockwise."""
        stored = PIL.Image.new("RGB", (400, 200), BLUE)
        stored.paste(RED, (0, 0, 200, 200))  # left in the file, so at the top when upright
        exif = PIL.Image.Exif()
        exif[0x0112] = 6
        stored.save(tmp_path / "phone.png", exif=exif)
        image = hit_of(tmp_path, "phone.png").image()
        assert (image.mode, image.size) == ("RGB", (200, 400))
        assert (image.getpixel((100, 10)), image.getpixel((100, 390))) == (RED, BLUE)

    def test_a_moved_file_is_named_with_what_to_do(self, tmp_path: Path) -> None:
        """The index outlives the folder's order."""
        with pytest.raises(UnreadableContentError, match=r"gone\.jpg.*moved or deleted.*index its folder again"):
            hit_of(tmp_path, "gone.jpg").image()

    def test_a_member_of_an_archive_is_read_and_shown_as_a_file_is(self, tmp_path: Path) -> None:
        """What is wrong with it is said without the folder: pages are passed on."""
        archive = tmp_path / "photos.zip"
        PIL.Image.new("RGB", (40, 40), RED).save(tmp_path / "red.png")
        with zipfile.ZipFile(archive, "w") as file:
            file.write(tmp_path / "red.png", "2024/red.png")
            file.writestr("broken.jpg", b"\xff\xd8\xff no image")
        red, broken, gone = (hit_of(archive, name) for name in ("2024/red.png", "broken.jpg", "gone.jpg"))
        assert red.image().getpixel((5, 5)) == RED
        with pytest.raises(UnreadableContentError, match=r"photos\.zip!/broken\.jpg"):
            broken.image()
        with pytest.raises(UnreadableContentError, match=r"photos\.zip!/gone\.jpg: there is no such file"):
            gone.image()
        page = SearchResults([red, broken, gone], query="x").to_html()
        assert page.count("<img ") == 1
        assert "there is no such file in the archive" in page
        assert str(tmp_path) not in page
        archive.unlink()
        with pytest.raises(UnreadableContentError, match=r"red\.png.*moved or deleted"):
            red.image()

    def test_a_broken_file_is_named(self, tmp_path: Path) -> None:
        """An error that names no file helps nobody."""
        (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff no image")
        with pytest.raises(UnreadableContentError, match=r"broken\.jpg"):
            hit_of(tmp_path, "broken.jpg").image()

    def test_a_text_says_that_it_is_one(self) -> None:
        """Mixed results are looped over; the message tells what to read instead."""
        with pytest.raises(UnreadableContentError, match=r"hit 7: a text.*hit\.text"):
            text_hit("words", point_id=7).image()

    def test_hits_are_values(self, tmp_path: Path) -> None:
        """They are compared, kept in sets, and sent to other processes."""
        hit = hit_of(tmp_path, "a.jpg")
        assert hit == hit_of(tmp_path, "a.jpg")
        assert hit != hit_of(tmp_path, "b.jpg")
        assert len({hit, hit_of(tmp_path, "a.jpg")}) == 1
        assert pickle.loads(pickle.dumps(hit)) == hit
        with pytest.raises(AttributeError):
            hit.score = 1.0  # type: ignore[misc]


class TestSearchResults:
    def test_it_is_a_sequence(self, tmp_path: Path) -> None:
        """Everything that works on a list of hits works here."""
        hits = [hit_of(tmp_path, f"{number}.jpg", point_id=number) for number in range(5)]
        results = SearchResults(hits, query="Surfing")
        assert (len(results), results[0], results[-1], list(results)) == (5, hits[0], hits[4], hits)
        assert hits[2] in results
        assert results.index(hits[3]) == 3
        assert bool(SearchResults([], query="x")) is False
        with pytest.raises(IndexError):
            results[5]

    def test_a_slice_is_results_of_the_same_query(self, tmp_path: Path) -> None:
        """`results[:3].contact_sheet()` is what people write."""
        hits = [hit_of(tmp_path, f"{number}.jpg", point_id=number) for number in range(5)]
        part = SearchResults(hits, query="Surfing")[1:3]
        assert isinstance(part, SearchResults)
        assert (part.query, list(part)) == ("Surfing", hits[1:3])
        assert part == SearchResults(hits[1:3], query="Surfing")
        assert part != SearchResults(hits[1:3], query="Diving")
        assert hash(part) == hash(SearchResults(hits[1:3], query="Surfing"))

    def test_it_cannot_be_changed(self, tmp_path: Path) -> None:
        """Results are passed around; nobody's list changes under them."""
        hits = [hit_of(tmp_path, "a.jpg")]
        results = SearchResults(hits, query="x")
        hits.clear()
        assert len(results) == 1
        with pytest.raises(AttributeError):
            results.query = "y"  # type: ignore[misc]
        assert pickle.loads(pickle.dumps(results)) == results

    def test_repr_is_a_table(self, tmp_path: Path) -> None:
        """The first thing anybody sees of this library is a search in a terminal."""
        results = SearchResults(
            [
                hit_of(tmp_path, "val2017/000000000139.jpg", score=0.31249),
                text_hit("A surfer\n rides a wave.", score=0.2),
                SearchHit(id=12, score=-0.00001),
            ],
            query="Surfing",
        )
        assert repr(results).splitlines() == [
            "3 hits for 'Surfing'",
            "1   0.312  val2017/000000000139.jpg",
            "2   0.200  A surfer rides a wave.",
            "3   0.000  id 12",
        ]

    def test_repr_of_no_hits_says_so(self) -> None:
        """`[]` would leave people wondering whether the search ran."""
        assert repr(SearchResults([], query="Surfing")) == "no hits for 'Surfing'"

    def test_repr_of_many_stays_short(self, tmp_path: Path) -> None:
        """A thousand rows push away what was in the terminal."""
        results = SearchResults([hit_of(tmp_path, f"{n}.jpg") for n in range(1000)], query="x")
        lines = repr(results).splitlines()
        assert (len(lines), lines[0], lines[-1]) == (22, "1,000 hits for 'x'", "... and 980 more")

    def test_repr_shortens_a_long_name_in_the_middle_and_a_long_text_at_the_end(self, tmp_path: Path) -> None:
        """A path's end tells files apart; a text's start tells what it is about."""
        results = SearchResults(
            [hit_of(tmp_path, "folder/" + "x" * 500 + "/tail.jpg"), text_hit("word " * 500)], query="x"
        )
        name, text = repr(results).splitlines()[1:]
        assert name.startswith("1   0.500  folder/x")
        assert name.endswith("x/tail.jpg")
        assert text.endswith("word…")
        assert max(len(name), len(text)) <= 80

    def test_repr_counts_wide_characters_as_two(self, tmp_path: Path) -> None:
        """Chinese names would break the line in an 80-column terminal otherwise."""
        name = repr(SearchResults([hit_of(tmp_path, "海" * 200 + ".jpg")], query="x")).splitlines()[1]
        assert 30 <= name.count("海") <= 33

    @pytest.mark.parametrize(
        ("filename", "shown"),
        [
            ("a\nb.jpg", r"a\nb.jpg"),
            ("\x1b[2J\x1b]0;owned\x07.jpg", r"\x1b[2J\x1b]0;owned\x07.jpg"),
            ("\x9b31m.jpg", r"\x9b31m.jpg"),
            ("photo\u202egpj.exe", r"photo\u202egpj.exe"),
            ("undecodable\udcff.jpg", r"undecodable\udcff.jpg"),
            ("Screenshot\u202fPM.png", "Screenshot PM.png"),
            ("Größe 日本 שלום.jpg", "Größe 日本 שלום.jpg"),
        ],
    )
    def test_what_a_terminal_would_obey_is_shown_as_an_escape(self, tmp_path: Path, filename: str, shown: str) -> None:
        """Names come from other people's archives; printing one must not clear the screen or hide its extension."""
        text = repr(SearchResults([hit_of(tmp_path, filename)], query="x"))
        assert text.splitlines() == ["1 hit for 'x'", f"1   0.500  {shown}"]
        text.encode("utf-8")

    def test_a_query_is_shown_as_one_harmless_line(self) -> None:
        """Queries come over the network, too."""
        assert repr(SearchResults([], query="dogs\n\tand \x1b[2Jcats")) == r"no hits for 'dogs and \x1b[2Jcats'"

    def test_to_dicts_survives_json(self, tmp_path: Path) -> None:
        """An HTTP API returns these."""
        payload = {
            "filename": "a.jpg",
            "root": str(tmp_path),
            "label": "dog",
            "year": 2020,
            "tags": ["x"],
            "geo": {"lat": 1.5},
        }
        results = SearchResults(
            [SearchHit(id=UUID_ID, score=0.25, payload=payload), SearchHit(id=7, score=-1)], query="x"
        )
        unknown = dict.fromkeys(("relevance", "filename", "path", "modality", "text", "group"))
        expected = [
            {
                **unknown,
                "id": UUID_ID,
                "score": 0.25,
                "filename": "a.jpg",
                "path": str(tmp_path / "a.jpg"),
                "duplicates": [],
                "payload": payload,
            },
            {**unknown, "id": 7, "score": -1.0, "duplicates": [], "payload": {}},
        ]
        assert results.to_dicts() == expected
        assert json.loads(json.dumps(results.to_dicts(), allow_nan=False)) == expected

    def test_to_dicts_turns_what_json_lacks_into_what_it_has(self) -> None:
        """A store in this process may keep Python's own values."""
        payload = {
            "n": np.float32(0.5),
            "v": np.arange(2),
            "t": (1, 2),
            "x": float("nan"),
            "p": Path("a"),
            3: {"s": {4}},
        }
        hit = SearchHit(id=1, score=np.float32(0.5), payload=payload)  # type: ignore[arg-type]
        given = SearchResults([hit], query="x").to_dicts()
        assert json.loads(json.dumps(given, allow_nan=False))[0]["payload"] == {
            "n": 0.5,
            "v": [0, 1],
            "t": [1, 2],
            "x": None,
            "p": "a",
            "3": {"s": [4]},
        }


class TestContactSheet:
    def test_a_square_image_fills_its_square(self, tmp_path: Path, image: Callable[..., str]) -> None:
        """A red image of 300 pixels becomes a red square of thumbnail_px, in its own colour."""
        sheet = SearchResults([hit_of(tmp_path, image("red.png"))], query="x").contact_sheet(thumbnail_px=120)
        assert sheet.mode == "RGB"
        assert extent_of(sheet, RED)[2:] == (120, 120)

    @pytest.mark.parametrize(
        ("size", "shown"),
        [((400, 100), (120, 30)), ((100, 400), (30, 120)), ((6, 3), (120, 60)), ((3000, 2), (120, 1))],
    )
    def test_the_aspect_is_kept(
        self, tmp_path: Path, image: Callable[..., str], size: tuple[int, int], shown: tuple[int, int]
    ) -> None:
        """Stretched photos look wrong; a panorama keeps its shape, and the thinnest line one pixel."""
        hits = [hit_of(tmp_path, image("a.png", GREEN, (300, 300))), hit_of(tmp_path, image("b.png", RED, size))]
        sheet = SearchResults(hits, query="x").contact_sheet(thumbnail_px=120)
        _, top, *extent = extent_of(sheet, RED)
        assert tuple(extent) == shown
        assert abs((top + shown[1] / 2) - (extent_of(sheet, GREEN)[1] + 60)) <= 1, "in the middle of its square"

    def test_thumbnails_are_upright(self, tmp_path: Path) -> None:
        """What lies on its side in the file stands on the sheet."""
        stored = PIL.Image.new("RGB", (400, 200), BLUE)
        stored.paste(RED, (0, 0, 200, 200))
        exif = PIL.Image.Exif()
        exif[0x0112] = 6
        stored.save(tmp_path / "phone.png", exif=exif)
        sheet = SearchResults([hit_of(tmp_path, "phone.png")], query="x").contact_sheet(thumbnail_px=120)
        red, blue = extent_of(sheet, RED), extent_of(sheet, BLUE)
        assert red[0] == blue[0]
        assert red[2] == blue[2] == 60
        assert red[1] < blue[1]

    def test_hits_stand_in_order_of_rank_row_by_row(self, tmp_path: Path, image: Callable[..., str]) -> None:
        """Threads load the images, and must not shuffle them."""
        colours = [(10 * n + 5, 200 - 10 * n, 90) for n in range(17)]
        hits = [hit_of(tmp_path, image(f"{n}.png", colour)) for n, colour in enumerate(colours)]
        sheet = SearchResults(hits, query="x").contact_sheet(columns=4, thumbnail_px=64)
        places = [extent_of(sheet, colour)[:2] for colour in colours]
        assert places == sorted(places, key=lambda member_name: (member_name[1], member_name[0]))
        assert len({left for left, _ in places}) == 4
        assert len({top for _, top in places}) == 5

    @pytest.mark.parametrize(("count", "columns"), [(1, 1), (3, 3), (5, 5), (6, 3), (12, 4), (20, 5), (100, 8)])
    def test_columns_suit_the_number_of_hits(
        self, tmp_path: Path, image: Callable[..., str], count: int, columns: int
    ) -> None:
        """Three hits stand side by side; a hundred don't make a ribbon."""
        hits = [hit_of(tmp_path, image("a.png"))] * count
        results = SearchResults(hits, query="x")
        assert (
            results.contact_sheet(thumbnail_px=32).size == results.contact_sheet(columns=columns, thumbnail_px=32).size
        )

    def test_more_columns_than_hits_leave_no_empty_space(self, tmp_path: Path, image: Callable[..., str]) -> None:
        """A script that always says columns=5 gets a tidy sheet for two hits."""
        results = SearchResults([hit_of(tmp_path, image("a.png"))] * 2, query="x")
        assert results.contact_sheet(columns=5).size == results.contact_sheet(columns=2).size

    def test_query_rank_score_and_name_are_on_the_sheet(self, tmp_path: Path, image: Callable[..., str]) -> None:
        """Each label is drawn: changing one changes the pixels, and only outside the images."""
        image("a.png"), image("b.png")

        def sheet(name: str = "a.png", score: float = 0.3, query: str = "Surfing") -> PIL.Image.Image:
            return SearchResults([hit_of(tmp_path, name, score=score)], query=query).contact_sheet()

        plain = sheet()
        _, top, _, height = extent_of(plain, RED)
        below, above = (top + height, plain.height), (0, top)
        for other, (start, end) in (
            (sheet(name="b.png"), below),
            (sheet(score=0.4), below),
            (sheet(query="Diving"), above),
        ):
            changed = ImageChops.difference(plain, other).getbbox()
            assert changed is not None
            assert start <= changed[1] < changed[3] <= end

    def test_rank_is_drawn(self, tmp_path: Path, image: Callable[..., str]) -> None:
        """The same hit in first and in second place differs in its label alone."""
        results = SearchResults([hit_of(tmp_path, image("a.png"))] * 2, query="x")
        sheet = results.contact_sheet(thumbnail_px=100)
        left, top, width, height = extent_of(sheet, RED)
        pitch = width - 100
        captions = [sheet.crop((x, top + height, x + 100, sheet.height)) for x in (left, left + pitch)]
        changed = ImageChops.difference(*captions).getbbox()
        assert changed is not None
        assert changed[2] < 30, "only the digit at the left"

    def test_letters_are_dark_on_light(self, tmp_path: Path, image: Callable[..., str]) -> None:
        """Legible: the darkest ink of a caption on white reaches a contrast of 7, WCAG's AAA."""
        sheet = SearchResults([hit_of(tmp_path, image("a.png"))], query="x").contact_sheet()
        left, top, width, height = extent_of(sheet, RED)
        grey = np.asarray(sheet.crop((left, top + height, left + width, sheet.height - 40)).convert("L")) / 255
        assert (grey.max() ** 2.2 + 0.05) / (grey.min() ** 2.2 + 0.05) > 7

    @pytest.mark.parametrize("content", [None, b"", b"\xff\xd8\xff no image"])
    def test_a_missing_or_broken_file_is_drawn_as_such(
        self, tmp_path: Path, image: Callable[..., str], content: bytes | None
    ) -> None:
        """One lost file must not cost the sheet, and must not look like a white photo."""
        hits = [hit_of(tmp_path, image("good.png")), hit_of(tmp_path, "bad.jpg")]
        blank = PIL.Image.new("RGB", (8, 8), "white")
        blank.save(tmp_path / "bad.jpg")
        white = SearchResults(hits, query="x").contact_sheet()
        (tmp_path / "bad.jpg").unlink()
        if content is not None:
            (tmp_path / "bad.jpg").write_bytes(content)
        sheet = SearchResults(hits, query="x").contact_sheet()
        assert extent_of(sheet, RED)[2:] == (240, 240)
        assert sheet.size == white.size
        assert differ(sheet, white)

    def test_different_reasons_look_different(self, tmp_path: Path) -> None:
        """The sheet says why: gone is not broken, broken is not outside the folder."""
        (tmp_path / "b.jpg").write_bytes(b"\xff\xd8\xff no image")
        payloads: list[dict[str, str]] = [
            {"root": str(tmp_path), "filename": "a.jpg"},
            {"root": str(tmp_path), "filename": "b.jpg"},
            {"root": str(tmp_path), "filename": "../c.jpg"},
            {"filename": "d.jpg"},
            {},
        ]
        sheets = [
            SearchResults([SearchHit(id=1, score=0, payload=payload)], query="x")
            .contact_sheet()
            .crop((0, 100, 320, 350))
            for payload in payloads
        ]
        assert all(differ(one, other) for number, one in enumerate(sheets) for other in sheets[:number])

    def test_texts_are_cards_with_their_words(self) -> None:
        """A text hit is read on the sheet, not looked up elsewhere."""
        one, other = (
            SearchResults([text_hit(f"a {what} on the beach")], query="x").contact_sheet() for what in ("dog", "cat")
        )
        assert differ(one, other)
        blank = SearchResults([text_hit("")], query="x").contact_sheet()
        assert differ(one, blank)

    def test_a_text_hit_from_a_file_shows_its_words(self, tmp_path: Path) -> None:
        """A .txt file is no broken image."""
        payload = {"modality": "text", "text": "a dog", "filename": "a.txt", "root": str(tmp_path)}
        bare = {"modality": "text", "text": "a dog", "filename": "a.txt"}
        one, other = (
            SearchResults([SearchHit(id=1, score=0, payload=each)], query="x").contact_sheet()
            for each in (payload, bare)
        )
        assert not differ(one, other)

    def test_no_hits_is_a_readable_image(self) -> None:
        """A report script saves whatever comes; an empty result must not be an error or an empty file."""
        sheet = SearchResults([], query="Surfing").contact_sheet()
        assert sheet.width >= 300
        assert sheet.height >= 100
        assert differ(sheet, SearchResults([], query="Diving").contact_sheet())

    @pytest.mark.parametrize(
        "name",
        [
            "x" * 240 + ".png",
            "Größe über Maß Ötztal.png",
            "Gro\u0308ße.png",
            "日本の海辺.png",
            "תמונה מהים.png",
            "صورة البحر.png",
            "👩‍👩‍👧 🏖.png",
            "line\nbreak\ttab\x1b[31m.png",
            "undecodable\udcff.png",
            "e" + "\u0301" * 60 + ".png",
            " .png",
            "\u202egpj.png",
        ],
    )
    def test_any_name_can_be_drawn_and_stays_in_its_card(
        self, tmp_path: Path, image: Callable[..., str], name: str
    ) -> None:
        """File names hold anything; the worst is one that spills over the neighbour's."""
        try:
            hits = [hit_of(tmp_path, image(name)), hit_of(tmp_path, image("b.png"))]
        except (OSError, UnicodeError) as error:
            pytest.skip(f"this file system cannot hold the name: {error}")
        sheet = SearchResults(hits, query=name).contact_sheet(thumbnail_px=160)
        usual = SearchResults([hits[1], hits[1]], query=name).contact_sheet(thumbnail_px=160)
        changed = ImageChops.difference(sheet, usual).getbbox()
        assert changed is not None
        assert changed[2] <= sheet.width // 2
        assert extent_of(sheet, RED)[2:] == extent_of(usual, RED)[2:]

    @pytest.mark.parametrize("fonts", ["of this machine", "none but Pillow's"])
    def test_letters_with_and_without_accents_are_both_drawn(self, monkeypatch: pytest.MonkeyPatch, fonts: str) -> None:
        """A bare container has no font with umlauts: there ü is drawn as u, never as an empty box."""
        if fonts != "of this machine":
            monkeypatch.setattr(_lettering, "_FONTS", ())
            _lettering._best_font.cache_clear()
        try:
            umlaut, bare = (SearchResults([text_hit(text)], query="x").contact_sheet() for text in ("über", "uber"))
            _, font = _lettering.Font(20)._prepared("ü")
        finally:
            _lettering._best_font.cache_clear()
        if font.getname()[0] == "Aileron":
            assert not differ(umlaut, bare)
        else:
            assert differ(umlaut, bare)

    def test_a_very_long_query_and_text_cost_nothing(self) -> None:
        """A whole document as the query or the hit: shown in part, at once."""
        started = time.perf_counter()
        sheet = SearchResults([text_hit("word " * 1_000_000)], query="x" * 1_000_000).contact_sheet()
        assert time.perf_counter() - started < 5
        assert sheet.height < 600

    def test_a_hundred_photos_take_moments(self, tmp_path: Path) -> None:
        """Photos of 12 megapixels are read small, several at a time."""
        noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
        PIL.Image.fromarray(noise).resize((4000, 3000)).save(tmp_path / "big.jpg", quality=80)
        results = SearchResults([hit_of(tmp_path, "big.jpg", point_id=n) for n in range(100)], query="x")
        started = time.perf_counter()
        sheet = results.contact_sheet()
        assert time.perf_counter() - started < 30, "measured: about 3 s on two cores"
        assert sheet.width < 2600

    @pytest.mark.parametrize(
        ("settings", "match"),
        [
            ({"columns": 0}, "columns"),
            ({"thumbnail_px": 0}, "thumbnail_px"),
            ({"thumbnail_px": 100_000}, "thumbnail_px"),
        ],
    )
    def test_senseless_settings_are_named(self, settings: dict[str, int], match: str) -> None:
        """Before any file is read."""
        with pytest.raises(ConfigurationError, match=match):
            SearchResults([text_hit("x")], query="x").contact_sheet(**settings)

    def test_a_sheet_that_would_fill_the_memory_is_refused(self) -> None:
        """10,000 hits at 2,000 pixels are 120 GB; the error says how to get a sheet."""
        results = SearchResults([text_hit("x")] * 10_000, query="x")
        with pytest.raises(ConfigurationError, match=r"10,000 hits.*results\[:100\]"):
            results.contact_sheet(thumbnail_px=2000)

    def test_real_photos_look_like_themselves(
        self, shared_data: Path, tmp_path: Path, image: Callable[..., str]
    ) -> None:
        """Twelve photos: each square holds what Pillow itself makes of that file."""
        folder = shared_data / "flickr8k_test"
        with (folder / "captions.csv").open(encoding="utf-8", newline="") as captions:
            names = sorted({row["filename"] for row in csv.DictReader(captions)})[:12]
        colours = [(20 * n, 10, 240 - 20 * n) for n in range(12)]
        sheet, squares = (
            SearchResults(hits, query="Menschen am Strand").contact_sheet(columns=4, thumbnail_px=224)
            for hits in (
                [hit_of(folder / "images", name) for name in names],
                [hit_of(tmp_path, image(f"{n}.png", colour)) for n, colour in enumerate(colours)],
            )
        )
        for name, colour in zip(names, colours, strict=True):
            left, top, width, height = extent_of(squares, colour)
            seen = np.asarray(sheet.crop((left, top, left + width, top + height)), dtype=float)
            with PIL.Image.open(folder / "images" / name) as photo:
                assert np.abs(seen - np.asarray(photo.convert("RGB"), dtype=float)).mean() < 2

    def test_no_file_that_programs_trip_over_costs_the_sheet(self, shared_data: Path) -> None:
        """Truncated, corrupt, bombs, no images at all: each becomes a card, none an error or a warning."""
        folder = shared_data / "corner" / "files"
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        assert len(names) > 500
        hits = [hit_of(folder, name) for name in names]
        sheet = SearchResults(hits, query="x").contact_sheet(thumbnail_px=32)
        assert sheet.height > len(names) / 8 * 32


class TestFailure:
    def test_it_reads_name_and_reason(self) -> None:
        """One line for a log."""
        assert (
            str(Failure(name="val2017/x.jpg", stage="load", reason="truncated file")) == "val2017/x.jpg: truncated file"
        )

    @pytest.mark.parametrize(
        "message",
        [
            "x.jpg: truncated file",
            "/photos/x.jpg: truncated file",
            "truncated file",
            r"C:\photos\x.jpg: truncated file",
        ],
    )
    def test_the_name_stands_once(self, message: str) -> None:
        """Errors begin with the file's name, so their messages as reasons would say it twice."""
        failure = Failure(name="x.jpg", stage="load", reason=message)
        assert (failure.reason, str(failure)) == ("truncated file", "x.jpg: truncated file")

    def test_another_file_s_name_stays(self) -> None:
        """Only the item's own name goes."""
        assert Failure(name="x.jpg", stage="load", reason="xx.jpg: gone").reason == "xx.jpg: gone"

    def test_it_cannot_write_to_the_terminal(self) -> None:
        """The name and the server's message are foreign."""
        assert str(Failure(name="a\x1b[2J", stage="embed", reason="bad\nthing\x07")) == r"a\x1b[2J: bad thing\x07"


class TestIndexReport:
    def test_a_run_that_had_to_stop_does_not_say_that_there_was_nothing_to_do(self) -> None:
        assert IndexReport(seconds=0.1).so_far() == "nothing done in 0.1 s"
        assert IndexReport(added=2, embedded=2, seconds=0.1).so_far() == "2 added in 0.1 s"

    @pytest.mark.parametrize(
        ("report", "text"),
        [
            (IndexReport(seconds=0.1), "nothing to do in 0.1 s"),
            (IndexReport(), "nothing to do in under 0.1 s"),
            (IndexReport(added=4998, embedded=4998, seconds=61.2), "4,998 added in 61 s"),
            (IndexReport(unchanged=5000, seconds=2), "5,000 unchanged in 2.0 s"),
            (
                IndexReport(added=1, updated=2, unchanged=3, embedded=3, seconds=725),
                "1 added, 2 updated, 3 unchanged in 12 min 5 s",
            ),
            (IndexReport(added=10, embedded=6, seconds=1), "10 added, 6 embedded in 1.0 s"),
            (
                IndexReport(unchanged=2, ignored={"sidecar": 1, "audio": 2, "video": 1_800}, seconds=2),
                "2 unchanged, ignored: 1,800 videos, 2 audio files, 1 sidecar in 2.0 s",
            ),
            (IndexReport(passed_over={"hidden file": 2}, seconds=2), "passed over: 2 hidden files in 2.0 s"),
            (
                IndexReport(not_seen={"a/": 1, "b/": 35, "c/": 2, "d/": 1, "e/": 1}, seconds=2),
                (
                    "kept, not seen: 35 below b/; 2 below c/; 1 below a/; and 2 more "
                    '(if deleted, name them in the option "gone") in 2.0 s'
                ),
            ),
        ],
    )
    def test_it_reads_as_a_sentence_without_zeros(self, report: IndexReport, text: str) -> None:
        """`print(report)` is how most people see it."""
        assert str(report) == text

    def test_a_failure_is_named(self) -> None:
        """The README promises this line."""
        failed = (Failure(name="val2017/x.jpg", stage="load", reason="truncated file"),)
        assert (
            str(IndexReport(added=4998, embedded=4998, failed=failed, seconds=61))
            == "4,998 added, 1 failed (val2017/x.jpg: truncated file) in 61 s"
        )

    def test_of_many_failures_three_are_named(self) -> None:
        """A folder of broken files must not print thousands of lines."""
        failed = tuple(Failure(name=f"{n}.jpg", stage="load", reason="truncated") for n in range(15))
        expected = "15 failed (0.jpg: truncated; 1.jpg: truncated; 2.jpg: truncated; and 12 more) in 3.0 s"
        assert str(IndexReport(failed=failed, seconds=3)) == expected

    def test_it_cannot_write_to_the_terminal_nor_fill_it(self) -> None:
        """Names and reasons are foreign data."""
        failed = (Failure(name="\x1b[31m" + "x" * 5000, stage="load", reason="two\nlines" + "y" * 5000),)
        text = str(IndexReport(failed=failed, seconds=3))
        assert text.isprintable()
        assert len(text) < 250

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0.04, "under 0.1 s"),
            (0.4, "0.4 s"),
            (9.94, "9.9 s"),
            (9.96, "10 s"),
            (61, "61 s"),
            (119.4, "119 s"),
            (119.6, "2 min"),
            (725, "12 min 5 s"),
            (7199, "119 min 59 s"),
            (7200, "2 h"),
            (9000, "2 h 30 min"),
        ],
    )
    def test_durations_have_the_unit_that_suits_them(self, seconds: float, text: str) -> None:
        """Nobody reads 43,200 s."""
        assert str(IndexReport(seconds=seconds)) == f"nothing to do in {text}"

    def test_to_dict_survives_json(self) -> None:
        """Jobs log it; a page shows it."""
        failed = (Failure(name="a.jpg", stage="embed", reason="refused"),)
        expected = {
            "added": 1,
            "updated": 0,
            "moved": 0,
            "unchanged": 2,
            "removed": 0,
            "embedded": 1,
            "calls": 3,
            "bytes_sent": 4_000,
            "stage_seconds": {"load": 0.5},
            "dry_run": False,
            "failed": [{"name": "a.jpg", "stage": "embed", "reason": "refused"}],
            "ignored": {"video": 2},
            "not_seen": {"2021/": 35},
            "passed_over": {"linked folder": 1},
            "truncated": [],
            "seconds": 1.5,
        }
        report = IndexReport(
            added=1,
            unchanged=2,
            embedded=1,
            failed=failed,
            ignored={"video": 2},
            not_seen={"2021/": 35},
            passed_over={"linked folder": 1},
            calls=3,
            bytes_sent=4_000,
            seconds=1.5,
            stage_seconds={"load": 0.5},
        )
        given = report.to_dict()
        assert given == expected
        assert json.loads(json.dumps(given)) == expected
