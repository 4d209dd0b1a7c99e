"""The ledger: verdicts on files and contents outlive a process, and losing them costs nothing else."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tiny_embedder import TinyEmbedder, folder_of, png

from multimodal_search import (
    IndexingError,
    IndexReport,
    Item,
    MemoryStore,
    MultimodalIndex,
    NotAnImageError,
    Progress,
    QdrantEdgeStore,
    QdrantStore,
    VectorStore,
)
from multimodal_search._indexing.indexer import ledger_of
from multimodal_search._indexing.ledger import FileState, Ledger, Verdict, ledger_path
from multimodal_search.errors import UnreadableContentError

HERE = Path(__file__).parent

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
    ledger.remember_contents([("ab", BROKEN)], rules="1")
    ledger.forget_contents(["ab"])
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
    in_cache = ledger_path(None, "x")
    assert in_cache is not None
    assert in_cache.parent == tmp_path / "multimodal-search"
    assert ledger_path(None, "x") != ledger_path(None, "y")


# -- wired into runs of indexing ---------------------------------------------------------------------------------------


VIDEO_BYTES = b"\0\0\0\x20ftypisom" + bytes(100)


@pytest.fixture
def sniffing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have videos, and sidecars, recognised by their first bytes."""
    _sniff(monkeypatch.setattr)


def _sniff(replace: Callable[[str, Any], object]) -> None:
    from multimodal_search._indexing import loading as _loading

    def load(candidate: Any, embedder: Any) -> Any:
        if candidate.path is not None:
            head = Path(candidate.path).read_bytes()[:12]
            for start, kind in ((b"\0\0\0\x20ftyp", "video"), (b"<x:xmpmeta", "sidecar"), (b"ID3", "audio")):
                if head.startswith(start):
                    raise NotAnImageError(f"{candidate.name}: a {kind}, and no image", kind=kind)
        return _loading.load(candidate, embedder)

    replace("multimodal_search._indexing.pipeline.load", load)


class Store(MemoryStore):
    """In memory, with a folder for a ledger."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.folder = path


class Reads:
    """Counts the files that are loaded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from multimodal_search._indexing import pipeline as _indexing

        self.names: list[str] = []
        load = _indexing.load

        def counted(candidate: Any, embedder: Any) -> Any:
            self.names.append(Path(candidate.path).name)
            return load(candidate, embedder)

        monkeypatch.setattr("multimodal_search._indexing.pipeline.load", counted)

    def take(self) -> list[str]:
        taken, self.names = sorted(self.names), []
        return taken


@pytest.fixture
def reads(sniffing: None, monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


def mixed_folder(path: Path) -> Path:
    """Three images, two videos, a sidecar and a broken image."""
    folder_of(path, 3)
    for number in range(2):
        (path / f"{number}.mp4").write_bytes(VIDEO_BYTES)
    (path / "0.xmp").write_bytes(b"<x:xmpmeta/>")
    (path / "broken.png").write_bytes(png(9)[:60])
    return path


ALL = ["0.mp4", "0.png", "0.xmp", "1.mp4", "1.png", "2.png", "broken.png"]


@pytest.mark.parametrize("call", ["sync_folder", "add_images"])
def test_what_cannot_be_indexed_is_not_read_again(call: str, reads: Reads, tmp_path: Path) -> None:
    """Nightly runs over a folder with videos would read them all, every night."""
    folder = mixed_folder(tmp_path / "photos")
    for run in range(3):
        with MultimodalIndex(TinyEmbedder(), QdrantEdgeStore(tmp_path / "index")) as index:
            report = getattr(index, call)(folder)
        assert reads.take() == ([] if run else ALL)
        assert (report.added, report.unchanged) == ((0, 3) if run else (3, 0))
        assert report.ignored == {"video": 2, "sidecar": 1}
        (failure,) = report.failed
        assert (failure.name, failure.stage) == (str(folder / "broken.png"), "load")
        assert failure.reason.endswith("(as found earlier)") == bool(run)
        assert "1 failed" in str(report)
        assert "ignored: 2 videos, 1 sidecar" in str(report)
        assert report.to_dict()["ignored"] == {"video": 2, "sidecar": 1}


def test_ignored_files_are_done(sniffing: None, tmp_path: Path) -> None:
    events: list[Progress] = []
    with MultimodalIndex(TinyEmbedder(), MemoryStore()) as index:
        for _ in range(2):
            index.sync_folder(mixed_folder(tmp_path), progress=events.append)
            assert (events[-1].done, events[-1].total, events[-1].failed) == (7, 7, 1)


def test_a_run_that_only_ignores_has_something_to_tell(sniffing: None, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(VIDEO_BYTES)
    (tmp_path / "b.mp3").write_bytes(b"ID3")
    (tmp_path / "c.mp3").write_bytes(b"ID3")
    with MultimodalIndex(TinyEmbedder(), MemoryStore()) as index:
        for _ in range(2):
            assert str(index.add_images(tmp_path)).startswith("ignored: 2 audio files, 1 video in")


@pytest.mark.parametrize("named", ["path", "list", "item"])
def test_a_file_that_was_named_is_failed_and_not_ignored(named: str, sniffing: None, tmp_path: Path) -> None:
    """Who names one file wants to hear why it was not indexed; also after a run that ignored it."""
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(VIDEO_BYTES)
    with MultimodalIndex(TinyEmbedder(), MemoryStore()) as index:
        assert index.add_images(str(tmp_path / "*.mp4")).ignored == {"video": 1}
        for _ in range(2):
            match named:
                case "path":
                    report = index.add_images(clip)
                case "list":
                    report = index.add_images([str(clip)])
                case _:
                    report = index.add([Item(clip)])
            assert report.ignored == {}
            assert "a video, and no image" in report.failed[0].reason


def test_a_changed_file_is_tried_again(reads: Reads, tmp_path: Path) -> None:
    folder = mixed_folder(tmp_path)
    with MultimodalIndex(TinyEmbedder(), MemoryStore()) as index:
        index.sync_folder(folder)
        reads.take()
        (folder / "broken.png").write_bytes(png(9))
        os.utime(folder / "0.mp4", ns=(1, 1))
        report = index.sync_folder(folder)
        assert (report.added, report.failed, report.ignored) == (1, (), {"video": 2, "sidecar": 1})
        assert reads.take() == ["0.mp4", "broken.png"]


def test_failed_files_are_tried_again_when_asked(reads: Reads, tmp_path: Path) -> None:
    folder = mixed_folder(tmp_path)
    with MultimodalIndex(TinyEmbedder(), MemoryStore()) as index:
        index.sync_folder(folder)
        reads.take()
        for _ in range(2):
            report = index.sync_folder(folder, retry_failed=True)
            assert reads.take() == ["broken.png"]
            assert not report.failed[0].reason.endswith("(as found earlier)")
        assert index.add_images(folder, retry_failed=True).ignored == {"video": 2, "sidecar": 1}


def test_other_rules_and_other_embedders_try_again(
    reads: Reads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer Pillow may decode it, and another embedder may take it."""
    folder = mixed_folder(tmp_path / "photos")

    def run(model: str) -> list[str]:
        with MultimodalIndex(TinyEmbedder(model=model), Store(tmp_path / "index")) as index:
            index.sync_folder(folder)
        return [name for name in reads.take() if name not in {"0.png", "1.png", "2.png"}]

    unreadable = ["0.mp4", "0.xmp", "1.mp4", "broken.png"]
    assert run("a") == unreadable
    assert run("a") == []
    assert run("b") == unreadable
    monkeypatch.setattr("multimodal_search._indexing.pipeline.decoding_rules", lambda max_pixels: "a newer one")
    assert run("b") == unreadable
    assert run("b") == []


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), MemoryError(), ImportError("no such codec")])
def test_passing_trouble_is_not_remembered(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that hiccups, memory that runs out, a package that is missing: nothing is wrong with the file."""
    folder = folder_of(tmp_path, 2)

    def load(*_: object) -> Any:
        raise UnreadableContentError("cannot be read just now") from error

    with MultimodalIndex(TinyEmbedder(), MemoryStore()) as index:
        with monkeypatch.context() as patched:
            patched.setattr("multimodal_search._indexing.pipeline.load", load)
            assert len(index.sync_folder(folder).failed) == 2
        assert index.sync_folder(folder).added == 2


def test_an_item_whose_fields_are_refused_is_not_remembered(tmp_path: Path) -> None:
    """The fault is none of the file's: the next run may bring other fields."""
    file = folder_of(tmp_path, 1) / "0.png"
    with MultimodalIndex(TinyEmbedder(), MemoryStore()) as index:
        assert len(index.add([Item(file, payload={"sha256": "mine"})]).failed) == 1
        assert index.add([Item(file, payload={"label": "cat"})]).added == 1


@pytest.mark.parametrize("now", ["broken", "video"])
def test_a_remembered_verdict_removes_what_the_store_holds_for_the_file(
    now: str, sniffing: None, tmp_path: Path
) -> None:
    """The run that found out was killed before it removed the point; the next one has to."""
    folder = folder_of(tmp_path, 3)
    with MultimodalIndex(TinyEmbedder(), MemoryStore()) as index:
        index.sync_folder(folder)
        (folder / "1.png").write_bytes(VIDEO_BYTES if now == "video" else png(9)[:60])
        index.sync_folder(folder, prune=False)
        assert index.count() == 3
        report = index.sync_folder(folder)
        assert (report.removed, report.unchanged, index.count()) == (1, 2, 2)
        assert (len(report.failed), report.ignored) == ((0, {"video": 1}) if now == "video" else (1, {}))


def test_an_ignored_file_does_not_stand_for_a_deleted_one(sniffing: None, tmp_path: Path) -> None:
    """As many files as points are no sign that each point has its file."""
    folder = folder_of(tmp_path, 3)
    with MultimodalIndex(TinyEmbedder(), MemoryStore()) as index:
        index.sync_folder(folder)
        (folder / "1.png").unlink()
        (folder / "1.mp4").write_bytes(VIDEO_BYTES)
        assert index.sync_folder(folder).removed == 1


def test_a_dry_run_remembers_nothing(reads: Reads, tmp_path: Path) -> None:
    folder = mixed_folder(tmp_path / "photos")
    with MultimodalIndex(TinyEmbedder(), Store(tmp_path / "index")) as index:
        for _ in range(2):
            assert index.sync_folder(folder, dry_run=True).ignored == {"video": 2, "sidecar": 1}
            assert reads.take() == ALL
    assert not (tmp_path / "index").exists()


def test_on_error_raise_does_not_stop_at_what_is_ignored(sniffing: None, tmp_path: Path) -> None:
    folder = mixed_folder(tmp_path)
    (folder / "broken.png").unlink()
    with MultimodalIndex(TinyEmbedder(), MemoryStore()) as index:
        assert index.sync_folder(folder, on_error="raise").added == 3
        (folder / "broken.png").write_bytes(png(9)[:60])
        for _ in range(2):
            with pytest.raises(IndexingError, match=r"broken\.png"):
                index.sync_folder(folder, on_error="raise")


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_ledger
from multimodal_search import MultimodalIndex
from tiny_embedder import TinyEmbedder

def replace(name, value):
    import multimodal_search._indexing.pipeline as module
    module.load = value

test_ledger._sniff(replace)
folder = Path({folder!r})
opened = []
with MultimodalIndex(TinyEmbedder(), test_ledger.QdrantEdgeStore({index!r})) as index:
    sys.addaudithook(
        lambda event, args: opened.append(args[0]) if event == "open" and str(args[0]).startswith(str(folder)) else None
    )
    {before}
    report = index.sync_folder(folder)
print(len(set(opened)), len(report.failed), sum(report.ignored.values()), report.unchanged)
"""


def child(folder: Path, before: str = "pass") -> subprocess.CompletedProcess[str]:
    code = CHILD.format(tests=str(HERE), folder=str(folder), index=str(folder.parent / "index"), before=before)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)


def test_the_next_process_opens_no_file(tmp_path: Path) -> None:
    folder = mixed_folder(tmp_path / "photos")
    assert child(folder).stdout.split()[1:] == ["1", "3", "0"]
    assert child(folder).stdout.split() == ["0", "1", "3", "3"]


def test_a_killed_run_costs_reading_again_and_nothing_else(tmp_path: Path) -> None:
    folder = mixed_folder(tmp_path / "photos")
    for number in range(600):
        (folder / f"b{number}.png").write_bytes(png(9)[:60] + b"%d" % number)
    kill = "from multimodal_search._indexing import ledger as _ledger; import os, signal; "
    kill += "w = _ledger.Ledger.remember_files"
    kill += "; _ledger.Ledger.remember_files = lambda *a, **k: (w(*a, **k), os.kill(os.getpid(), signal.SIGKILL))"
    assert child(folder, kill).returncode != 0
    opened, *counts = child(folder).stdout.split()
    assert counts[:2] == ["601", "3"]
    assert 0 < int(opened) <= 607 - 256
    assert child(folder).stdout.split() == ["0", "601", "3", "3"]


@pytest.mark.parametrize("loss", ["deleted", "damaged", "cut", "a folder", "other tables"])
def test_losing_it_costs_reading_again_and_nothing_else(loss: str, reads: Reads, tmp_path: Path) -> None:
    folder = mixed_folder(tmp_path / "photos")
    ledger = tmp_path / "index" / "ledger.sqlite"

    def run() -> IndexReport:
        with MultimodalIndex(TinyEmbedder(), QdrantEdgeStore(tmp_path / "index")) as index:
            return index.sync_folder(folder)

    run()
    reads.take()
    data = bytearray(ledger.read_bytes())
    ledger.unlink()
    match loss:
        case "damaged":
            data[20:3_000] = bytes(3_000 - 20)
            ledger.write_bytes(data)
        case "cut":
            ledger.write_bytes(data[: len(data) // 2])
        case "a folder":
            ledger.mkdir()
        case "other tables":
            with closing(sqlite3.connect(ledger)) as connection:
                connection.execute("CREATE TABLE files (x)")
    for _ in range(2):
        report = run()
        assert (report.unchanged, len(report.failed), report.ignored) == (3, 1, {"video": 2, "sidecar": 1})
        assert [name for name in reads.take() if name in {"0.png", "1.png", "2.png"}] == []
    if loss != "a folder":
        run()
        assert reads.take() == []


@pytest.mark.parametrize("options", ["ro", "size=4k"], ids=["read-only", "full"])
def test_where_nothing_can_be_written_runs_go_on(options: str, sniffing: None, tmp_path: Path) -> None:
    """What was known stays known, if it can be read."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root on Linux may mount a disk")
    folder, place = mixed_folder(tmp_path / "photos"), tmp_path / "index"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", place], check=False).returncode:
        pytest.skip("this system lets nobody mount a disk")
    try:
        with MultimodalIndex(TinyEmbedder(), Store(place)) as index:
            for _ in range(3):
                report = index.sync_folder(folder)
                assert (len(report.failed), report.ignored) == (1, {"video": 2, "sidecar": 1})
            assert report.failed[0].reason.endswith("(as found earlier)")
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_two_processes_can_write_to_it(path: Path) -> None:
    code = """
import sys
from pathlib import Path
from multimodal_search._indexing.ledger import Ledger, Verdict
ledger = Ledger(Path(sys.argv[1]))
for number in range(200):
    ledger.remember_contents([(f"{sys.argv[2]}{number}", Verdict("failed", "embed", "refused"))], rules="1")
"""
    running = [subprocess.Popen([sys.executable, "-c", code, path, name]) for name in "ab"]
    assert [each.wait(120) for each in running] == [0, 0]
    hashes = [f"{name}{number}" for name in "ab" for number in range(200)]
    assert len(Ledger(path).of_contents(hashes, rules="1")) == 400


def test_a_time_far_away_and_a_strange_name_are_kept(path: Path) -> None:
    file = FileState("/a", 7, 2**70)
    verdict = Verdict("failed", "load", "\udcff.png: broken")
    Ledger(path).remember_files([(file, verdict)], rules="1")
    (found,) = Ledger(path).of_files([file], rules="1")
    assert found is not None
    assert found.reason == "\\udcff.png: broken"


def test_nothing_is_made_where_there_is_nothing_to_remember(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    assert ledger.is_empty
    assert ledger.disks() == []
    ledger.remember_disks([])
    assert list(tmp_path.iterdir()) == []
    ledger.remember_disks(["/media/disk"])
    assert ledger.is_empty
    assert Ledger(tmp_path / "ledger.sqlite").disks() == ["/media/disk"]


def test_each_kind_of_store_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two collections of a server must not share one, and secrets have no place in its name."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))

    def file_of(store: VectorStore) -> Path | None:
        return ledger_of(store)._path

    server = "http://me:secret@localhost:6333"
    assert file_of(QdrantEdgeStore(tmp_path / "ix")) == tmp_path / "ix" / "ledger.sqlite"
    assert file_of(MemoryStore()) is None
    assert file_of(QdrantStore("a", location=":memory:")) is None
    one, other = file_of(QdrantStore("a", url=server)), file_of(QdrantStore("b", url=server))
    assert one is not None
    assert one != other
    assert one == file_of(QdrantStore("a", url="http://localhost:6333"))
    assert "secret" not in str(one)
