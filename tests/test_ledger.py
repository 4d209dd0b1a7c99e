"""The ledger: verdicts on files and contents outlive a process, and losing them costs nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from multimodal_search._ledger import FileState, Ledger, Verdict, ledger_path

VIDEO = Verdict("ignored", "load", "video")
BROKEN = Verdict("failed", "load", "truncated file")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index" / "ledger.sqlite"


def test_verdicts_outlive_the_process_that_found_them(path: Path) -> None:
    file = FileState("/photos/a.mp4", 7, 9)
    with_surrogate = FileState("/photos/\udcff.jpg", 1, 2)
    Ledger(path).remember_files([(file, VIDEO), (with_surrogate, BROKEN)], rules="1")
    Ledger(path).remember_contents([("ab", BROKEN)], rules="1")
    ledger = Ledger(path)
    assert ledger.of_files([with_surrogate, FileState("/photos/b.jpg", 7, 9), file], rules="1") == [BROKEN, None, VIDEO]
    assert ledger.of_contents(["ab", "cd"], rules="1") == {"ab": BROKEN}


@pytest.mark.parametrize("now", [FileState("/a", 8, 9), FileState("/a", 7, 10), FileState("/b", 7, 9)])
def test_a_file_that_changed_is_unknown(path: Path, now: FileState) -> None:
    ledger = Ledger(path)
    ledger.remember_files([(FileState("/a", 7, 9), BROKEN)], rules="1")
    assert ledger.of_files([now], rules="1") == [None]


def test_other_rules_know_nothing_of_it(path: Path) -> None:
    ledger = Ledger(path)
    ledger.remember_files([(FileState("/a", 7, 9), BROKEN)], rules="Pillow 11")
    ledger.remember_contents([("ab", BROKEN)], rules="Pillow 11")
    assert ledger.of_files([FileState("/a", 7, 9)], rules="Pillow 12") == [None]
    assert ledger.of_contents(["ab"], rules="Pillow 12") == {}


def test_what_is_forgotten_is_unknown(path: Path) -> None:
    ledger = Ledger(path)
    ledger.remember_files([(FileState("/a", 7, 9), BROKEN)], rules="1")
    ledger.remember_contents([("ab", BROKEN)], rules="1")
    ledger.forget_files(["/a"])
    ledger.forget_contents(["ab"])
    assert ledger.of_files([FileState("/a", 7, 9)], rules="1") == [None]
    assert ledger.of_contents(["ab"], rules="1") == {}


def test_many_files_are_looked_up_at_once(path: Path) -> None:
    ledger = Ledger(path)
    files = [FileState(f"/{number}", number, 1) for number in range(3_000)]
    ledger.remember_files([(file, VIDEO) for file in files[::2]], rules="1")
    assert ledger.of_files(files, rules="1") == [VIDEO, None] * 1_500


def test_a_damaged_file_is_made_anew(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database at all" * 100)
    ledger = Ledger(path)
    assert ledger.of_contents(["ab"], rules="1") == {}
    ledger.remember_contents([("ab", BROKEN)], rules="1")
    assert Ledger(path).of_contents(["ab"], rules="1") == {"ab": BROKEN}


def test_where_nothing_can_be_written_it_is_kept_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ledger = Ledger(tmp_path / "file" / "ledger.sqlite")
    ledger.remember_contents([("ab", BROKEN)], rules="1")
    assert ledger.of_contents(["ab"], rules="1") == {"ab": BROKEN}


def test_it_lies_in_the_index_s_folder_or_in_the_user_s_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert ledger_path(tmp_path / "ix", "x") == tmp_path / "ix" / "ledger.sqlite"
    assert ledger_path(None, "x").parent == tmp_path / "multimodal-search"
    assert ledger_path(None, "x") != ledger_path(None, "y")
