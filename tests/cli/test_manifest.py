"""What `cli.manifest` promises of tables that people make: every good row arrives, and every bad one is named."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from multimodal_search.cli.manifest import items
from multimodal_search.contents import Image
from multimodal_search.errors import ConfigurationError
from multimodal_search.results import Failure
from multimodal_search.types import Item

Write = Callable[[str, "str | bytes"], Path]
Row = tuple[str, Any, dict[str, Any]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "photos"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return written


def read(manifest: Path, folder: Path) -> tuple[list[Row], dict[int, str]]:
    """Good rows as (path below the folder, id, payload), and the reasons of bad ones by their lines."""
    rows: list[Row] = []
    failed: dict[int, str] = {}
    for each in items(manifest, folder):
        if isinstance(each, Item):
            assert isinstance(each.content, Image)
            assert isinstance(each.content.source, Path)
            rows.append((each.content.source.relative_to(folder).as_posix(), each.id, dict(each.payload)))
        else:
            assert isinstance(each, Failure)
            assert each.stage == "scan"
            name, line = each.name.rsplit(", line ", 1)
            assert name == str(manifest)
            failed[int(line)] = each.reason
    return rows, failed


def test_a_csv_names_images_with_ids_and_fields(write: Write, folder: Path) -> None:
    """Fields become what a filter can compare; what only looks like a number (a postcode) stays text."""
    path = write(
        "m.csv",
        "filename,id,year,score,zip,note\n"
        'a.jpg,7,2020,-0.5,01067,"Hello, ""you""\nthere"\n'
        "b/c.jpg,F47AC10B-58CC-4372-A567-0E02B2C3D479,-3,1.5e-7,1e5,true\n"
        "\n"
        "d.jpg,18446744073709551615,,,,\n",
    )
    rows, failed = read(path, folder)
    assert rows == [
        ("a.jpg", 7, {"year": 2020, "score": -0.5, "zip": "01067", "note": 'Hello, "you"\nthere'}),
        (
            "b/c.jpg",
            "f47ac10b-58cc-4372-a567-0e02b2c3d479",
            {"year": -3, "score": 1.5e-7, "zip": "1e5", "note": "true"},
        ),
        ("d.jpg", 2**64 - 1, {}),
    ]
    assert not failed
    assert type(rows[0][2]["year"]) is int


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        *[("0", 0), ("-7", -7), ("123456789012345678", 123456789012345678), ("0.10", 0.1), ("3.0", 3.0)],
        *[(text, text) for text in ("-", "+5", "1,5", "1.", ".5", "1 000", "00", "-01", "NaN", "inf", "0x10", "1_000")],
        *[("9" * 25, "9" * 25), ("1.0e999", "1.0e999"), ("٣", "٣"), (" 7", " 7"), ("TRUE", "TRUE"), ("null", "null")],
    ],
)
def test_a_cell_is_a_number_only_where_it_is_written_as_one(
    cell: str, value: object, write: Write, folder: Path
) -> None:
    """A number that was guessed wrong cannot be got back: leading zeros, decimal commas, 25 digits."""
    [(_, _, payload)], _ = read(write("m.tsv", f"filename\tx\na.jpg\t{cell}\n"), folder)
    assert payload == {"x": value}
    assert type(payload["x"]) is type(value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("comma.csv", "filename,a\nx.jpg,1;2\n"),
        ("semicolon.csv", "filename;a\nx.jpg;1;2\n".replace("1;2", '"1;2"')),
        ("tab.csv", "filename\ta\nx.jpg\t1;2\n"),
        ("bar.csv", "filename|a\nx.jpg|1;2\n"),
        ("T.TSV", "filename\ta\nx.jpg\t1;2\n"),
        ("windows.csv", "filename,a\r\nx.jpg,1;2\r\n"),
        ("old-mac.csv", "filename,a\rx.jpg,1;2\r"),
        ("bom.csv", "\ufefffilename,a\nx.jpg,1;2\n"),
        ("blanks.csv", ' filename , a\nx.jpg,"1;2"\n'),
        ("quoted.csv", '"filename","a"\n"x.jpg","1;2"\n'),
        ("misleading.csv", "a,filename\n1;2,x.jpg\n"),
        ("no-end.csv", "filename,a\nx.jpg,1;2"),
        ("hugging-face.csv", "file_name,a\nx.jpg,1;2\n"),
        ("pandas.csv", ",filename,a\n0,x.jpg,1;2\n"),
        ("excel-tail.csv", "filename;a\nx.jpg;1;2\n;\n;\n".replace("1;2", '"1;2"')),
    ],
)
def test_a_csv_is_read_whoever_wrote_it(name: str, text: str, write: Write, folder: Path) -> None:
    """Excel separates with semicolons in half of Europe, and begins with a byte order mark."""
    assert read(write(name, text), folder) == ([("x.jpg", None, {"a": "1;2"})], {})


def test_a_csv_of_one_column_is_a_list_of_files(write: Write, folder: Path) -> None:
    """Nothing separates anything there."""
    assert read(write("m.csv", "filename\na;b.jpg\n"), folder) == ([("a;b.jpg", None, {})], {})


def test_json_lines_keep_their_types(write: Write, folder: Path) -> None:
    """They are there to be kept."""
    payload = {"n": 7, "x": 7.0, "ok": True, "none": None, "tags": ["a", {"b": 1}], "text": "7", "ü": "日本 🏄"}
    path = write(
        "m.jsonl",
        "\ufeff" + json.dumps({"filename": "a.jpg", "id": 12} | payload) + "\r\n\n"
        '{"file_name": "b.jpg", "filename": null, "id": null, "e": "\\ud83c\\udfc4"}',
    )
    payload["caption"] = payload.pop("text")
    assert read(path, folder) == ([("a.jpg", 12, payload), ("b.jpg", None, {"e": "🏄"})], {})


def test_a_text_is_a_caption(write: Write, folder: Path) -> None:
    """Datasets of Hugging Face call it so; the index keeps the words of indexed texts under that name."""
    assert read(write("m.csv", "file_name,text\na.jpg,a dog\n"), folder) == (
        [("a.jpg", None, {"caption": "a dog"})],
        {},
    )
    items, failures = read(write("m.jsonl", '{"file_name": "a.jpg", "text": "a", "caption": "b"}'), folder)
    assert items == []
    assert "['text']" in next(iter(failures.values()))
    with pytest.raises(ConfigurationError, match=r"rename the columns \['text'\]"):
        read(write("both.csv", "filename,text,caption\na.jpg,a,b\n"), folder)


def test_a_bad_line_costs_itself_alone(write: Write, folder: Path) -> None:
    """And is told by its number, so that it can be found in a million."""
    lines = [
        b'{"filename": "a.jpg"}',
        b'{"filename": "b.jpg"',
        b'["c.jpg"]',
        b'{"filename": 7}',
        b'{"id": 7}',
        b'{"filename": "x.jpg", "id": 1.5}',
        b'{"filename": "x.jpg", "id": true}',
        b'{"filename": "x.jpg", "y": NaN}',
        b'{"filename": "x.jpg", "y": "gr\xfcn"}',
        b'{"filename": "x.jpg", "y": "\\ud800"}',
        b'{"filename": "x.jpg", "size": 3}',
        b'{"filename": "x.jpg", "y": ' + b"[" * 100_000 + b"}",
        b'{"filename": "x.jpg", "y": ' + b"9" * 5000 + b"}",
        b'{"filename": ""}',
        b'{"filename": "z.jpg"}',
    ]
    rows, failed = read(write("m.jsonl", b"\n".join(lines)), folder)
    assert [row[0] for row in rows if not row[2]] == ["a.jpg", "z.jpg"]
    failed.pop(13, None)  # Python 3.10 of some vintages reads integers of 5,000 digits
    expected = {
        2: "JSON",
        3: "object",
        4: "text",
        5: "'filename' is missing",
        6: "an id is",
        7: "an id is",
        8: "NaN",
        9: "UTF-8",
        10: "UTF-8",
        11: "'size'",
        12: "nested",
        14: "not a file name",
    }
    assert list(failed) == list(expected)
    for line, reason in expected.items():
        assert reason in failed[line]


def test_a_bad_row_costs_itself_alone(write: Write, folder: Path) -> None:
    """Line numbers are those that an editor shows, behind a field of two lines as well."""
    text = (
        b'filename,id,note\na.jpg,,"one\ntwo"\nb.jpg,3\nc.jpg,,x,y\n,5,x\nd.jpg,no-id,x\ne.jpg,,gr\xfcn\n'
        b'f.jpg,,"x" y\ng.jpg,1.0,x\nh.jpg,-1,x\nz.jpg,,z\n'
    )
    rows, failed = read(write("m.csv", text), folder)
    assert rows == [("a.jpg", None, {"note": "one\ntwo"}), ("z.jpg", None, {"note": "z"})]
    expected = {4: "2 fields", 5: "4 fields", 6: "missing", 7: "an id is", 8: "UTF-8", 9: "CSV", 10: "id", 11: "id"}
    assert list(failed) == list(expected)
    for line, reason in expected.items():
        assert reason in failed[line]


@pytest.mark.parametrize("rest", [3, 30_000])
def test_a_stray_quotation_mark_costs_its_line_alone(rest: int, write: Write, folder: Path) -> None:
    """It opens a field that ends at the next one, or never, and would take thousands of rows with it."""
    lines = ["filename,note", "a.jpg,fine", 'b.jpg,"5 inch', *(f"{n}.jpg,x" for n in range(rest)), "bad"]
    rows, failed = read(write("m.csv", "\n".join(lines)), folder)
    assert [row[0] for row in rows] == ["a.jpg", *(f"{n}.jpg" for n in range(rest))]
    assert list(failed) == [3, rest + 4]


@pytest.mark.parametrize(
    "filename", ["../x.jpg", "a/../../x.jpg", "..", ".", "a/..", "a\0.jpg", "  ", "../photos-2/x.jpg"]
)
@pytest.mark.parametrize("kind", ["m.csv", "m.jsonl"])
def test_names_that_lead_out_of_the_folder_are_refused(filename: str, kind: str, write: Write, folder: Path) -> None:
    """A manifest may come from others, and must not make their reader index ../../private."""
    text = f"filename,a\n{filename},1\n" if kind == "m.csv" else json.dumps({"filename": filename})
    rows, failed = read(write(kind, text), folder)
    assert not rows
    assert len(failed) == 1


def test_names_inside_the_folder_are_tidied_and_absolute_ones_are_taken_as_they_are(write: Write, folder: Path) -> None:
    """An absolute path says plainly what it means."""
    absolute = folder.parent / "other" / "x.jpg"
    path = write("m.csv", f"filename\n./a/../b.jpg\n{absolute}\n{folder / 'c.jpg'}\n")
    found = [each.content.source for each in items(path, folder) if isinstance(each, Item)]  # type: ignore[union-attr]
    assert found == [folder / "b.jpg", absolute, folder / "c.jpg"]


def test_several_rows_for_one_image_are_all_given(write: Write, folder: Path) -> None:
    """With ids of their own they are points of their own: five captions of one photo."""
    path = write("m.csv", "filename,id,caption\na.jpg,1,surfer\na.jpg,2,wave\n")
    assert read(path, folder)[0] == [("a.jpg", 1, {"caption": "surfer"}), ("a.jpg", 2, {"caption": "wave"})]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", "name;label\na.jpg;x\n", r"must name the columns.*'filename'.*\['name', 'label'\]"),
        ("m.csv", "", "found: nothing"),
        ("m.csv", "\n", "found: nothing"),
        ("m.csv", "filename,a,a\n", "two columns have the same name"),
        ("m.csv", "filename,size,root,x\n", r"rename the columns \['root', 'size'\]"),
        ("m.csv", b"\xff\xfef\0i\0l\0e\0", "UTF-16; save it as UTF-8"),
        ("m.csv", b"filename,gr\xf6\xdfe\n", "first line is not valid UTF-8"),
        ("m.tsv", "filename,a\n", r"found: \['filename,a'\]"),
        ("m.jsonl", b"\xfe\xff\0{", "UTF-16"),
        ("m.json", "{}", r"ends in \.csv, .*\.jsonl, .*not '\.json'"),
    ],
)
def test_what_is_no_manifest_is_refused_at_once(
    name: str, content: str | bytes, message: str, write: Write, folder: Path
) -> None:
    """A wrong table is one error before the start, not a million failures after it."""
    path = write(name, content)
    with pytest.raises(ConfigurationError, match=message) as caught:
        items(path, folder)
    assert str(path) in str(caught.value)


def test_a_missing_manifest_is_refused_at_once(tmp_path: Path) -> None:
    """Also where the name is that of a folder."""
    (tmp_path / "folder.csv").mkdir()
    for name in ("no.csv", "no.jsonl", "folder.csv"):
        with pytest.raises(ConfigurationError, match=name):
            items(tmp_path / name, tmp_path)


@pytest.mark.parametrize("kind", ["m.csv", "m.jsonl"])
def test_memory_does_not_grow_with_the_number_of_rows(kind: str, write: Write, folder: Path) -> None:
    """Nor does a file without line ends fill it."""
    row = '{"filename": "a.jpg", "note": "%s"}\n' if kind == "m.jsonl" else "a.jpg,%s\n"
    path = write(kind, ("" if kind == "m.jsonl" else "filename,note\n") + row % ("x" * 1000) * 3000)
    tracemalloc.start()
    try:
        assert sum(isinstance(each, Item) for each in items(path, folder)) == 3000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 300_000


@pytest.mark.parametrize("kind", ["m.csv", "m.jsonl"])
def test_a_line_without_an_end_is_one_failure(
    kind: str, write: Write, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody's database dump, renamed."""
    monkeypatch.setattr("multimodal_search.cli.manifest._MAX_LINE_CHARACTERS", 1000)
    good = '{"filename": "a.jpg"}\n' if kind == "m.jsonl" else "a.jpg\n"
    path = write(kind, ("" if kind == "m.jsonl" else "filename\n") + good + "x" * 5500 + "\n" + good)
    rows, failed = read(path, folder)
    assert len(rows) == 2
    [reason] = failed.values()
    assert "more than 1,000 characters" in reason


def test_the_manifest_of_real_captions_is_read_whole(shared_data: Path) -> None:
    """5 English captions for each of 1,000 photos, and a German and a French one for most, with all their commas."""
    folder = shared_data / "flickr8k_test" / "images"
    rows, failed = read(folder.parent / "captions.csv", folder)
    assert not failed
    assert len({name for name, _, _ in rows}) == 1000
    assert sum(payload["language"] == "en" for _, _, payload in rows) == 5000
    assert all((folder / name).is_file() for name, _, _ in rows[::50])
