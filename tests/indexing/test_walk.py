"""What is found in a folder, what is passed over, and how that is said; and what sources may be called."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_embedder import TinyEmbedder, folder_of, image, png

from multimodal_search import (
    ColorEmbedder,
    ConfigurationError,
    ContentIds,
    IdScheme,
    Image,
    IndexReport,
    Item,
    MemoryStore,
    MultimodalIndex,
    PathIds,
    QdrantStore,
    SequentialIds,
)


@pytest.fixture
def index() -> Iterator[MultimodalIndex]:
    with MultimodalIndex(TinyEmbedder(), MemoryStore()) as index:
        yield index


def names(index: MultimodalIndex) -> list[str]:
    return sorted(record.payload["filename"] for record in index.store.scan())


def image_at(path: Path, number: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(number))
    return path


# -- other programs' files ---------------------------------------------------------------------------------------------

CLUTTER = [
    "$RECYCLE.BIN/S-1-5-21/$RABC.jpg",
    "System Volume Information/x.jpg",
    "lost+found/x.jpg",
    "LOST.DIR/x.jpg",
    "__MACOSX/x.jpg",
    "Network Trash Folder/x.jpg",
    "2024/@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg",
    "#recycle/x.jpg",
    "#snapshot/x.jpg",
    "@Recycle/x.jpg",
    "@Recently-Snapshot/x.jpg",
    "ana/files_trashbin/files/x.jpg.d1700000000",
    "ana/files_versions/x.jpg.v1700000000",
    "appdata_oc1a2b3c4d5e/preview/x.jpg",
    "__groupfolders/trash/x.jpg",
    "Photos Library.photoslibrary/resources/derivatives/x.jpg",
    "Photos Library.photoslibrary/resources/derivatives/masters/0/x.jpg",
    "Photos Library.photoslibrary/resources/renders/x.jpg",
    "Photos Library.photoslibrary/private/x.jpg",
    "Photos Library.photoslibrary/x.jpg",
    "iPhoto Library.photolibrary/Previews/x.jpg",
    "Aperture.aplibrary/Thumbnails/x.jpg",
    "Catalog.cocatalog/Cache/x.jpg",
    "Lightroom Previews.lrdata/0/x.jpg",
    "Session/Capture/CaptureOne/Cache/Thumbnails/x.jpg",
    "Session/Capture/CaptureOne/Settings/x.jpg",
]
KEPT = [
    "a.jpg",
    "Photos Library.photoslibrary/originals/0/x.jpg",
    "Old.photoslibrary/Masters/2014/x.jpg",
    "iPhoto Library.photolibrary/Masters/x.jpg",
    "Aperture.aplibrary/Masters/x.jpg",
    "Catalog.cocatalog/Originals/x.jpg",
    "CaptureOne/Wedding/x.jpg",
    "originals/x.jpg",
    "Recycled art/x.jpg",
    "resources/derivatives/x.jpg",
    "trash/x.jpg",
    "cache/x.jpg",
    "thumbs/x.jpg",
]


@pytest.mark.parametrize("way", ["folder", "glob", "archive"])
def test_other_programs_trash_and_thumbnails_are_passed_over(index: MultimodalIndex, way: str, tmp_path: Path) -> None:
    """They would come up as photos, and cost calls; a person's own folders are never taken for them."""
    folder = tmp_path / "photos"
    for number, name in enumerate(CLUTTER + KEPT):
        image_at(folder / name, number)
    if way == "archive":
        with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
            for name in CLUTTER + KEPT:
                archive.write(folder / name, name)
        report = index.add_images(tmp_path / "photos.zip")
    else:
        report = index.add_images(folder if way == "folder" else folder / "**" / "*")
        assert report.passed_over["trash or thumbnail folder"] > 10
        assert f"passed over: {report.passed_over['trash or thumbnail folder']} trash" in str(report)
        assert report.to_dict()["passed_over"] == report.passed_over
    assert not report.failed
    assert names(index) == sorted(KEPT)


def test_the_originals_of_a_library_are_found_when_it_is_indexed_itself(index: MultimodalIndex, tmp_path: Path) -> None:
    library = tmp_path / "Photos Library.photoslibrary"
    image_at(library / "originals/0/x.jpg", 1)
    image_at(library / "resources/derivatives/masters/x.jpg", 2)
    assert index.add_images(library).added == 1
    assert index.add_images(library / "resources").added == 1  # what a user names is what the user wants


@pytest.mark.parametrize(("name", "mark"), [("thumbs", ".immich"), ("storage", ".ppstorage")])
def test_folders_that_programs_have_marked_as_their_own_are_passed_over(
    index: MultimodalIndex, name: str, mark: str, tmp_path: Path
) -> None:
    image_at(tmp_path / name / "x.jpg", 1)
    image_at(tmp_path / "library" / "x.jpg", 2)
    (tmp_path / name / mark).touch()
    (tmp_path / "library" / ".immich").touch()
    assert index.add_images(tmp_path).added == 1


def test_what_is_stored_of_trash_and_thumbnails_leaves_the_index(index: MultimodalIndex, tmp_path: Path) -> None:
    """As an index would be that is made anew; a dry run says so, and without pruning they stay."""
    image_at(tmp_path / "a.jpg", 1)
    thumbnail = image_at(tmp_path / "2024" / "@eaDir" / "b.jpg", 2)
    assert index.add_images([thumbnail], root=tmp_path).added == 1
    assert index.sync_folder(tmp_path, dry_run=True).removed == 1
    assert index.sync_folder(tmp_path, prune=False).removed == 0
    assert names(index) == ["2024/@eaDir/b.jpg", "a.jpg"]
    assert index.sync_folder(tmp_path).removed == 1
    assert names(index) == ["a.jpg"]
    assert thumbnail.exists()


def test_a_photo_is_not_lost_with_its_copy_in_the_trash(tmp_path: Path) -> None:
    """With `ContentIds` they are one point, which may have stood for the copy."""
    copy = image_at(tmp_path / "#recycle" / "a.jpg", 1)
    with MultimodalIndex(TinyEmbedder(), MemoryStore(), ids=ContentIds()) as index:
        index.add_images([copy], root=tmp_path)
        image_at(tmp_path / "a.jpg", 1)
        for _ in range(2):
            assert index.sync_folder(tmp_path).failed == ()
            assert names(index) == ["a.jpg"]


# -- indexes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["index", "deep/below/an.index"])
def test_indexes_in_a_folder_are_passed_over(place: str, tmp_path: Path) -> None:
    """Their files are no photos: those of the engine, of qdrant-client's local mode, and of a server."""
    folder = folder_of(tmp_path / "photos", 2)
    with MultimodalIndex.open(folder / place / "engine", embedder=ColorEmbedder()) as other:
        other.add_images(folder)
    (folder / place / "server" / "collections").mkdir(parents=True)
    (folder / place / "server" / "raft_state.json").write_text("{}")
    (folder / place / "unfinished" / "shard.new").mkdir(parents=True)
    (folder / place / "unfinished" / "lock").touch()
    image_at(folder / "photos.zip.multimodal-search" / "index" / "x.png")
    image_at(folder / ".multimodal-search" / "index" / "x.png")
    with MultimodalIndex(ColorEmbedder(), QdrantStore("x", path=folder / place / "client")) as index:
        report = index.sync_folder(folder)
        assert (report.added, report.failed) == (2, ())
        assert report.passed_over == {"index folder": 4}  # beside the one of this very index
        assert index.sync_folder(folder).unchanged == 2
        assert index.add_images(folder / "**" / "*").unchanged == 2


def test_a_store_in_the_very_folder_leaves_the_photos_beside_it_to_be_found(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", 2)
    with MultimodalIndex(ColorEmbedder(), QdrantStore("x", path=folder)) as index:
        report = index.sync_folder(folder)
        assert (report.added, report.failed) == (2, ())


def test_an_index_is_no_folder_of_images(index: MultimodalIndex, tmp_path: Path) -> None:
    with MultimodalIndex.open(tmp_path / "index", embedder=ColorEmbedder()):
        pass
    with pytest.raises(ConfigurationError, match=r"no file.*index folder"):
        index.add_images(tmp_path / "index")


# -- what the user leaves out ------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for number, name in enumerate(["a.jpg", "B.JPG", "c.png", "Private/d.jpg", "2024/private/e.JPG", "2024/f.jpg"]):
        image_at(tmp_path / "photos" / name, number)
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("pattern", "exclude", "found"),
    [
        ("*.jpg", None, ["2024/f.jpg", "2024/private/e.JPG", "B.JPG", "Private/d.jpg", "a.jpg"]),
        ("**/*.jpg", None, ["2024/f.jpg", "2024/private/e.JPG", "B.JPG", "Private/d.jpg", "a.jpg"]),
        (["*.png", "A.*"], None, ["a.jpg", "c.png"]),
        ("2024/*", None, ["2024/f.jpg", "2024/private/e.JPG"]),
        ([], (), ["2024/f.jpg", "2024/private/e.JPG", "B.JPG", "Private/d.jpg", "a.jpg", "c.png"]),
        (None, "private", ["2024/f.jpg", "B.JPG", "a.jpg", "c.png"]),
        (None, "Private/", ["2024/f.jpg", "B.JPG", "a.jpg", "c.png"]),
        (None, "2024/private", ["2024/f.jpg", "B.JPG", "Private/d.jpg", "a.jpg", "c.png"]),
        (None, ["*.jpg", "2024"], ["c.png"]),
        (None, "**/private/**", ["2024/f.jpg", "B.JPG", "a.jpg", "c.png"]),
        ("*.JPG", ["2024/*"], ["B.JPG", "Private/d.jpg", "a.jpg"]),
    ],
    ids=str,
)
def test_patterns_choose_by_name_or_path_whatever_the_case(
    index: MultimodalIndex,
    pattern: str | list[str] | None,
    exclude: str | list[str] | None,
    found: list[str],
    tree: Path,
) -> None:
    """Cameras write .JPG, and what is dropped without a word is missed too late."""
    report = index.sync_folder(tree, pattern=pattern, exclude=exclude)
    assert names(index) == found
    assert index.add_images(tree, pattern=pattern, exclude=exclude).unchanged == len(found)
    if pattern == "2024/*":
        assert report.passed_over == {"unmatched file": 4}
    if exclude == ["*.jpg", "2024"]:
        assert report.passed_over == {"excluded file": 3, "excluded folder": 1}


def test_points_of_files_that_are_excluded_later_stay(index: MultimodalIndex, tree: Path) -> None:
    """As with a pattern: leaving out is no deleting, even where such a file is gone."""
    image_at(tree / "Private" / "g.jpg", 9)  # a folder without a file may be a disk that is not there
    index.sync_folder(tree)
    (tree / "Private" / "d.jpg").unlink()
    (tree / "a.jpg").unlink()
    assert index.sync_folder(tree, exclude="private").removed == 1
    assert "Private/d.jpg" in names(index)
    assert index.sync_folder(tree, pattern="*.JPG").removed == 1


@pytest.mark.parametrize("name", ["[2020] trip", "[A-Z]", "[!x].raw", "a]b[c"])
def test_a_name_with_brackets_is_met_as_it_is_typed(index: MultimodalIndex, name: str, tmp_path: Path) -> None:
    """Whoever copies a folder's name does not think of sets of letters."""
    image_at(tmp_path / name / "a.jpg", 1)
    image_at(tmp_path / "b.jpg", 2)
    index.add_images(tmp_path, exclude=name.upper())
    assert names(index) == ["b.jpg"]
    index.add_images(tmp_path, pattern=f"{name}/*")
    assert names(index) == sorted([f"{name}/a.jpg", "b.jpg"])


def test_a_glob_leaves_out_what_is_excluded(index: MultimodalIndex, tree: Path) -> None:
    assert index.add_images(tree / "**" / "*.jpg", exclude=["private", "a.*"]).added == 2
    assert names(index) == ["2024/f.jpg", "B.JPG"]


@pytest.mark.parametrize("option", ["pattern", "exclude"])
@pytest.mark.parametrize("value", ["", "/", "/Private", "../*.jpg", [""], 5, [5], b"*.jpg", "[" * 200_000])
def test_a_pattern_that_is_none_is_refused(index: MultimodalIndex, option: str, value: object, tree: Path) -> None:
    for add in (index.add_images, index.sync_folder):
        with pytest.raises(ConfigurationError, match=option):
            add(tree, **{option: value})  # type: ignore[operator]


def test_what_is_passed_over_is_said(index: MultimodalIndex, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", 1)
    folder_of(tmp_path / "elsewhere", 1)
    (folder / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    for hidden in (".a.png", "._0.png", ":2eDS_Store", "Thumbs.db", "Icon\r"):
        (folder / hidden).write_bytes(b"")
    image_at(folder / ".thumbnails" / "x.png")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.png")
    report = index.sync_folder(folder)
    assert report.added == 1
    expected = {"hidden file": 3, "system file": 2, "hidden folder": 1, "linked folder": 1, "special file": 1}
    assert report.passed_over == {kind: count for kind, count in expected.items() if kind != "special file"} | (
        {"special file": 1} if hasattr(os, "mkfifo") else {}
    )
    assert "passed over: 3 hidden files, 2 system files, 1 hidden folder, 1 linked folder" in str(report)
    assert "linked folder" not in index.sync_folder(folder, follow_symlinks=True).passed_over
    assert index.add_images([folder / "0.png"]).passed_over == {}
    assert index.add_images(folder / "**" / "*.png").passed_over["linked folder"] == 1


# -- what sources are called -------------------------------------------------------------------------------------------


def added(report: IndexReport) -> int:
    assert not report.failed
    return report.added


def test_a_path_that_is_there_goes_before_its_reading_as_a_glob(
    index: MultimodalIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders are called `[2020] trip`, and `[2020]` is also a character class."""
    folder = tmp_path / "[2020] trip"
    for number, name in enumerate(["a.jpg", "[b].jpg", "day [1]/c.jpg", "b.jpg"]):
        image_at(folder / name, number)
    image_at(tmp_path / "2 trip" / "d.jpg", 9)
    monkeypatch.chdir(folder)
    assert added(index.add_images("[b].jpg")) == 1
    assert added(index.add_images(str(folder / "*.jpg"))) == 2
    assert names(index) == ["[b].jpg", "a.jpg", "b.jpg"]
    assert added(index.add_images(tmp_path / "*" / "day [1]" / "*.JPG")) == 1
    assert added(index.add_images(folder, root=tmp_path)) == 3
    assert added(index.add_images(tmp_path / "[0-9] trip" / "*.jpg")) == 1


@pytest.mark.parametrize(
    "source", ["phtos/*.jpg", "photos/*.jpeg", "photos/*/*.gif", "[photos]", "photos/2024*", "emp[t]y/*", "empty"]
)
def test_an_input_that_matches_nothing_is_an_error_that_names_it(
    index: MultimodalIndex, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report of nothing to do would be taken for one that all is indexed."""
    image_at(tmp_path / "photos" / "a.jpg")
    image_at(tmp_path / "photos" / "2024-05" / "b.jpg")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError) as raised:
        index.add_images(source)
    assert source.partition("/")[0] in str(raised.value)
    assert ("**" in str(raised.value)) == (source == "photos/2024*")
    assert index.count() == 0


def test_a_pattern_that_matches_nothing_is_an_error_and_an_empty_list_is_none(
    index: MultimodalIndex, tree: Path
) -> None:
    for add in (index.add_images, index.sync_folder):
        with pytest.raises(ConfigurationError, match=r"'\*\.jpeg' or '\*\.gif'.*6 unmatched files"):
            add(tree, pattern=["*.jpeg", "*.gif"])  # type: ignore[operator]
    assert index.add_images([]).added == 0


def test_globs_mean_what_they_do_in_the_shell(
    index: MultimodalIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(["a.jpg", "x/b.jpg", "x/y/c.jpg", ".h/d.jpg", "x/.e.jpg"]):
        image_at(tmp_path / name, number)
    (tmp_path / "link").symlink_to(tmp_path / "x", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    found = {
        "*.jpg": ["a.jpg"],
        "*/*.jpg": ["link/b.jpg", "x/b.jpg"],
        "**/*.jpg": ["a.jpg", "x/b.jpg", "x/y/c.jpg"],
        "**": ["a.jpg", "x/b.jpg", "x/y/c.jpg"],
        "x/**/c.jpg": ["y/c.jpg"],
        ".*/*.jpg": [".h/d.jpg"],
        "x/[!b]*/*": ["y/c.jpg"],
        "./x/*": ["b.jpg"],
        "x/../*.jpg": ["a.jpg"],
    }
    for pattern, expected in found.items():
        with MultimodalIndex(TinyEmbedder(), MemoryStore()) as fresh:
            assert added(fresh.add_images(pattern)) == len(expected)
            assert names(fresh) == expected
    with MultimodalIndex(TinyEmbedder(), MemoryStore()) as fresh:
        assert fresh.add_images("**/*.jpg", recursive=False).added == 2
    with pytest.raises(ConfigurationError, match=r"'\.\.' behind its first wildcard"):
        index.add_images("x/*/../../*.jpg")


def test_a_tilde_is_the_home_folder(index: MultimodalIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    folder_of(tmp_path / "home" / "photos", 2)
    with zipfile.ZipFile(tmp_path / "home" / "a.zip", "w") as archive:
        archive.writestr("7.png", png(7))
    assert added(index.add_images("~/photos")) == 2
    assert index.sync_folder("~/photos").unchanged == 2
    assert index.add_images("~/photos/*.png").unchanged == 2
    assert index.add_images("~/photos/0.png", root="~/photos").unchanged == 1
    assert index.add_images([Path("~/photos/0.png"), Item(Image("~/photos/1.png"))]).unchanged == 2
    assert added(index.add_images("~/a.zip")) == 1
    assert index.search(Path("~/photos/1.png"), limit=1)[0].filename == "1.png"
    with MultimodalIndex.open("~/index", embedder=TinyEmbedder()):
        assert (tmp_path / "home" / "index").is_dir()
    image_at(tmp_path / "work" / "~" / "8.png", 8)  # what is there goes before
    assert added(index.add_images("~")) == 1


# -- the same file -----------------------------------------------------------------------------------------------------


def test_a_stored_file_meets_its_point_however_it_is_named(
    index: MultimodalIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`add([Item(hit.path, ...)])` is how one gives fields to a hit; a second point would be a duplicate for ever."""
    folder_of(tmp_path / "photos" / "2024", 2)
    index.add_images(tmp_path / "photos")
    (tmp_path / "short").symlink_to(tmp_path / "photos" / "2024", target_is_directory=True)
    path = index.search(image(0), limit=1)[0].path
    assert path is not None
    assert index.add([Item(path, payload={"label": "dog"})]).updated == 1
    for here, name in (
        (tmp_path, "photos/2024/0.png"),
        (tmp_path / "photos", "./2024/../2024/0.png"),
        (tmp_path / "photos" / "2024", "0.png"),
        (tmp_path, "short/0.png"),
    ):
        monkeypatch.chdir(here)
        assert index.add([Path(name), Path(name).absolute()]).unchanged == 2
        assert index.add_images(name).unchanged == 1
    assert index.count() == 2
    found = index.search(image(0), limit=1)[0]
    assert (found.filename, found.payload["label"]) == ("2024/0.png", "dog")


@pytest.mark.parametrize("ids", [PathIds(), ContentIds(), SequentialIds()], ids=lambda ids: type(ids).__name__)
def test_a_file_that_is_named_in_several_ways_is_one_point(
    ids: IdScheme, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path / "photos", 1)
    monkeypatch.chdir(tmp_path)
    ways = ["photos/0.png", "./photos/0.png", folder / "0.png", "photos/../photos/0.png", Image("photos/0.png")]
    with MultimodalIndex(TinyEmbedder(), MemoryStore(), ids=ids) as index:
        report = index.add_images(ways)
        assert (report.added, report.embedded, index.count()) == (1, 1, 1)
        with MultimodalIndex(TinyEmbedder(), MemoryStore(), ids=ids) as other:
            other.sync_folder(folder)
            report = other.add_images(ways)
            assert (report.added, other.count(), names(other)) == (0, 1, ["0.png"])


def test_the_point_with_an_id_of_ones_own_is_met_too(index: MultimodalIndex, tmp_path: Path) -> None:
    folder_of(tmp_path, 1)
    index.add_images([Item(tmp_path / "0.png", id=7, payload={"label": "dog"})], root=tmp_path)
    assert index.add([Item(tmp_path / "0.png", payload={"label": "cat"})]).updated == 1
    assert [(record.id, record.payload["label"]) for record in index.store.scan()] == [(7, "cat")]


def test_a_file_below_a_link_meets_its_point_by_its_real_name(index: MultimodalIndex, tmp_path: Path) -> None:
    folder_of(tmp_path / "disk" / "photos", 1)
    (tmp_path / "home").symlink_to(tmp_path / "disk", target_is_directory=True)
    index.add_images(tmp_path / "home" / "photos")
    assert index.add([tmp_path / "disk" / "photos" / "0.png"]).unchanged == 1


def test_a_root_that_does_not_hold_a_file_costs_that_file_alone(index: MultimodalIndex, tmp_path: Path) -> None:
    folder_of(tmp_path / "a", 1)
    folder_of(tmp_path / "b", 1, start=5)
    report = index.add_images([tmp_path / "a" / "0.png", tmp_path / "b" / "5.png"], root=tmp_path / "a")
    assert (report.added, names(index)) == (1, ["0.png"])
    assert "root=" in report.failed[0].reason
    assert report.failed[0].name.endswith("5.png")
    with pytest.raises(ConfigurationError, match="root="):
        index.add_images(tmp_path / "b" / "5.png", root=tmp_path / "a")
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("7.png", png(7))
    with pytest.raises(ConfigurationError, match="root="):
        index.add_images(tmp_path / "c.zip", root=tmp_path)
    with pytest.raises(ConfigurationError, match="root="):
        index.add_images([tmp_path / "a" / "0.png"], root="")
    with pytest.raises(TypeError):
        index.add_images([tmp_path / "a" / "0.png"], root=5)  # type: ignore[arg-type]


# -- names that cannot be stored, or are none --------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes on POSIX only")
@pytest.mark.parametrize("way", ["add_images", "sync_folder", "glob", "archive", "root"])
def test_a_folder_whose_name_is_not_utf_8_is_refused_by_name(index: MultimodalIndex, way: str, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"Fr\xfchjahr")
    image_at(folder / "below" / "a.png")
    with zipfile.ZipFile(folder / "b.zip", "w") as archive:
        archive.writestr("7.png", png(7))
    add = index.sync_folder if way == "sync_folder" else index.add_images
    source = {"glob": folder / "*" / "*.png", "archive": folder / "b.zip", "root": folder / "below"}.get(way, folder)
    with pytest.raises(ConfigurationError, match=r"Fr\\udcfchjahr.*UTF-8") as raised:
        add(source, root=folder if way == "root" else None)
    assert str(raised.value).isprintable()
    assert "filter" not in str(raised.value)


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes on POSIX only")
def test_a_folder_below_whose_name_is_not_utf_8_is_one_failure(index: MultimodalIndex, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", 2)
    folder_of(folder / os.fsdecode(b"Fr\xfchjahr") / "below", 9)
    for _ in range(2):
        report = index.sync_folder(folder)
        assert report.added + report.unchanged == 2
        assert [failure.reason for failure in report.failed] == ["its name is not valid UTF-8: rename the folder"]
        assert str(report).isprintable()


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + "/*.jpg", "a\0b", "a\0b.zip", "a\0b/*.jpg", "\ud800", ""])
def test_a_path_that_no_system_can_spell_is_refused_by_name(index: MultimodalIndex, name: str, tmp_path: Path) -> None:
    for add in (index.add_images, index.sync_folder):
        with pytest.raises(ConfigurationError) as raised:
            add(f"{tmp_path}/{name}" if name else "")  # type: ignore[operator]
        assert str(raised.value).isprintable()
    if "*" not in name and name[:1] != "x":
        with pytest.raises(ConfigurationError, match=r"spell|empty"):
            MultimodalIndex.open(f"{tmp_path}/{name}" if name else "", embedder=TinyEmbedder())
    report = index.add(["good", Path(f"{tmp_path}/{name}")])
    assert (report.added, len(report.failed)) == (1, 1)
