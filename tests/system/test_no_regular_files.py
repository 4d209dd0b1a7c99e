"""Pipes, devices, sockets and folders in the place of files: said at once, and never waited for.

Payloads may be anybody's, and what they name is opened to be shown.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from multimodal_search import (
    ColorEmbedder,
    ConfigurationError,
    Image,
    Item,
    MemoryStore,
    Mixed,
    MultimodalIndex,
    SearchHit,
    SearchResults,
    UnreadableContentError,
)
from multimodal_search._files import open_regular
from multimodal_search.cli.manifest import items
from multimodal_search.media.archives.members import is_archive, members, read_member

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files"),
    pytest.mark.timeout(60),
]


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path has at most some 100 characters
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


KINDS: dict[str, Callable[[Path], None]] = {
    "a pipe": _pipe,
    "a link to a pipe": lambda path: (_pipe(path.with_name("real")), path.symlink_to("real"))[1],
    "a device without an end": lambda path: path.symlink_to("/dev/zero"),
    "a device without a beginning": lambda path: path.symlink_to("/dev/null"),
    "random numbers": lambda path: path.symlink_to("/dev/random"),
    "a terminal": lambda path: path.symlink_to("/dev/tty"),
    "a socket": _socket,
    "a folder": lambda path: path.mkdir(),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest) -> Callable[[Path], Path]:
    def made(path: Path) -> Path:
        KINDS[request.param](path)
        return path

    return made


@pytest.mark.parametrize("root", ["photos", "photos.zip", "photos.tar.gz"])
@pytest.mark.parametrize("is_root", [True, False])
def test_hits_whose_payload_names_one_are_shown_as_unreadable(
    root: str, is_root: bool, make: Callable[[Path], Path], tmp_path: Path
) -> None:
    folder = tmp_path / root
    if is_root:
        make(folder)
    else:
        folder.mkdir()
        make(folder / "a.png")
    hit = SearchHit(id=1, score=0.5, payload={"root": str(folder), "filename": "a.png", "modality": "image"})
    results = SearchResults([hit], "q")
    with pytest.raises(UnreadableContentError):
        hit.image()
    assert "broken" in results.to_html()
    assert "broken" in results._repr_html_()
    assert results.contact_sheet().width > 0


def test_none_is_indexed_or_searched_with(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path / "a.png")
    index = MultimodalIndex(ColorEmbedder(), MemoryStore())
    for query in (path, Image(path), Mixed("red", Image(path))):
        with pytest.raises(UnreadableContentError):
            index.search(query)
    report = index.add([path, Item(path, id=3), Image(path), Mixed("red", Image(path))])
    assert len(report.failed) == 4
    assert index.count() == 0


def test_none_is_an_archive_or_a_manifest_or_an_export(make: Callable[[Path], Path], tmp_path: Path) -> None:
    for name in ("a.zip", "a.tar", "a.tar.gz"):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        path = make(folder / name)
        assert not is_archive(path)
        assert len(list(members(path))) == 1
        with pytest.raises(UnreadableContentError):
            read_member(path, "a.png")
    (tmp_path / "other").mkdir()
    with pytest.raises(ConfigurationError):
        items(make(tmp_path / "other" / "a.csv"), tmp_path)
    (tmp_path / "more").mkdir()
    pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    with pytest.raises(ConfigurationError):
        MultimodalIndex(ColorEmbedder(), MemoryStore()).add_export(make(tmp_path / "more" / "a.parquet"))


def test_a_pipe_that_takes_a_files_place_in_between_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was looked at is not what is opened, if somebody is quick."""
    file, path = tmp_path / "file", tmp_path / "a.zip"
    file.write_bytes(b"x")
    os.mkfifo(path)
    status = file.stat()
    monkeypatch.setattr(Path, "stat", lambda _: status)
    with pytest.raises(OSError, match="not a regular file"):
        open_regular(path)
