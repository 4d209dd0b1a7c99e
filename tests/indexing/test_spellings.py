"""Names whose accents are parts of their letters, or characters of their own: they look the same, and are the same."""

from __future__ import annotations

import itertools
import os
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid5

import numpy as np
import pytest
from tiny_embedder import TinyEmbedder, image, png

from multimodal_search import (
    ContentIds,
    IdScheme,
    Item,
    MemoryStore,
    MultimodalIndex,
    PathIds,
    QdrantEdgeStore,
    QdrantStore,
    Record,
    SequentialIds,
    VectorStore,
)
from multimodal_search._text import spellings
from multimodal_search.cli.manifest import items
from multimodal_search.ids import NAMESPACE

NFC, NFD = (unicodedata.normalize(form, "Österreich/Übung ü.png") for form in ("NFC", "NFD"))
MIXED = NFD.split("/")[0] + "/" + NFC.split("/")[1]

every_scheme = pytest.mark.parametrize(
    "ids", [PathIds(), ContentIds(), SequentialIds()], ids=lambda ids: type(ids).__name__
)


def _tells_spellings_apart() -> bool:
    """Whether this file system does; those of Macs and some servers do not."""
    return os.name == "posix" and os.uname().sysname == "Linux"


two_files = pytest.mark.skipif(not _tells_spellings_apart(), reason="here, both spellings are one file")


@pytest.fixture
def index() -> Iterator[MultimodalIndex]:
    with MultimodalIndex(TinyEmbedder(), MemoryStore()) as index:
        yield index


def stored(index: MultimodalIndex) -> dict[str, str | int]:
    return {record.payload["filename"]: record.id for record in index.store.scan()}


def write(folder: Path, name: str, number: int = 0) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(number))
    return path


def test_a_text_has_the_spellings_that_its_parts_have() -> None:
    assert spellings("a/b.png") == ("a/b.png",)
    assert spellings("日本/🏄") == ("日本/🏄",)
    assert set(spellings(NFC)) == set(spellings(NFD)) == {NFC, NFD, MIXED, NFC.split("/")[0] + "/" + NFD.split("/")[1]}
    deep = "/".join(["é"] * 50)
    assert spellings(deep) == (deep, unicodedata.normalize("NFD", deep))  # and not 2**50


# -- filters -----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "edge", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VectorStore]:
    makers: dict[str, Callable[[], VectorStore]] = {
        "memory": MemoryStore,
        "edge": lambda: QdrantEdgeStore(tmp_path / "index"),
        "local": lambda: QdrantStore("x", location=":memory:"),
    }
    store = makers[request.param]()
    yield store
    store.close()


def test_filters_find_names_in_either_spelling(store: VectorStore) -> None:
    """Names from a Mac are not as typed, and nothing would be found, silently."""
    with MultimodalIndex(TinyEmbedder(), store, auto_calibrate=False) as index:
        names = [NFC, NFD, MIXED, "Osterreich/a.png"]
        index.add_vectors(
            Record(
                number,
                {"filename": name, "root": f"/{name.split('/')[0]}", "tags": [name]},
                vector=np.ones(48, np.float32),
            )
            for number, name in enumerate(names)
        )
        folder, name = "Österreich", NFC.split("/")[1]
        for form, field in itertools.product(("NFC", "NFD"), ("filename", "tags")):
            typed = [unicodedata.normalize(form, text) for text in (folder, name, "?sterreich/*Übung*")]
            where: list[Any] = [
                f"{typed[0]}/{typed[1]}",
                {"eq": f"{typed[0]}/{typed[1]}"},
                [f"{typed[0]}/{typed[1]}", "other"],
                {"prefix": f"{typed[0]}/"},
                {"glob": f"{typed[0]}/*"},
                {"glob": f"*{typed[1][:3]}*"},
                {"glob": f"{typed[0]}/?bung ?.png"},
                {"glob": typed[2]},
                {"glob": f"[{typed[0]}]*{typed[1]}"},
                {"glob": f"{typed[0]}/{typed[1]}"},
            ]
            for each in where:
                found = [record.id for record in store.scan(where={field: each})]
                if isinstance(each, dict) and str(each.get("glob", "")).startswith("["):
                    assert set(found) == {0, 1, 2}
                else:
                    assert found == [0, 1, 2], each
            assert index.count({field: {"ne": where[0]}}) == index.count({field: {"not_in": where[2]}}) == 1
            assert index.count({"root": f"/{typed[0]}"}) == 3
        assert index.count({"filename": {"glob": "Osterreich/*"}}) == 1
        assert index.count({"filename": {"prefix": "Osterreich"}}) == 1


# -- what is on the disk -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_name_is_found_as_typed_and_stays_as_it_is_on_the_disk(
    index: MultimodalIndex, form: str, tmp_path: Path
) -> None:
    path = write(tmp_path, NFD)
    typed = unicodedata.normalize(form, NFC)
    assert index.sync_folder(tmp_path, pattern=f"{typed.split('/')[0].upper()}/*").added == 1
    on_disk = next(iter(stored(index)))
    hit = index.search(image(0), where={"filename": typed})[0]
    assert hit.path is not None
    assert hit.path.samefile(path)
    assert index.add([Item(hit.path)]).unchanged == 1
    assert index.add_images([tmp_path / typed]).failed == ()
    assert index.add_images(tmp_path / typed, root=tmp_path).failed == ()
    assert index.add_images(tmp_path / typed.split("/")[0], root=tmp_path).failed == ()
    assert index.add_images(tmp_path / typed.split("/")[0] / "*.png", root=tmp_path).failed == ()
    assert index.search(tmp_path / typed, limit=1)[0].id == hit.id
    (tmp_path / "list.csv").write_text(f"filename,label\n{typed},dog\n", "utf-8")
    assert index.add_images(items(tmp_path / "list.csv", tmp_path), root=tmp_path).failed == ()
    assert index.count({"label": "dog"}) == index.count() == 1
    if _tells_spellings_apart():
        assert on_disk == NFD == next(iter(stored(index)))
    path.unlink()
    write(tmp_path, "other.png", 3)
    write(tmp_path, f"{on_disk.split('/')[0]}/other.png", 4)  # shows that the folder can be seen
    assert index.sync_folder(tmp_path, exclude=typed.split("/")[0]).removed == 0
    assert index.sync_folder(tmp_path, pattern=[typed, "other.png"], gone=typed).removed == 1


def test_ids_are_those_of_the_composed_name() -> None:
    assert PathIds().allocate(filename=NFD, sha256="") == PathIds().allocate(filename=NFC, sha256="")
    assert PathIds().allocate(filename=NFC, sha256="") == str(uuid5(NAMESPACE, f"path:{NFC}"))


@every_scheme
@pytest.mark.parametrize("moved", [False, True])
def test_a_copy_in_the_other_spelling_keeps_its_points(ids: IdScheme, moved: bool, tmp_path: Path) -> None:
    """Copying a folder from a Mac to another system may change the spelling of all names."""
    folder, copy = tmp_path / "mac", tmp_path / ("linux" if moved else "mac")
    path = write(folder, NFD)
    with MultimodalIndex(TinyEmbedder(), MemoryStore(), ids=ids) as index:
        assert index.sync_folder(folder).added == 1
        before = stored(index)[next(iter(stored(index)))]
        path.unlink()
        path.parent.rmdir()
        write(copy, NFC)
        if moved:
            folder.rmdir()
        report = index.sync_folder(copy)
        assert (report.embedded, report.failed) == (0, ())
        if not isinstance(ids, SequentialIds):  # whose numbers go by place alone
            assert list(stored(index).values()) == [before]
        assert index.sync_folder(copy).unchanged == 1


@pytest.mark.parametrize("moved", [False, True])
def test_an_index_from_before_spellings_were_one_goes_on(moved: bool, tmp_path: Path) -> None:
    """There, a name in NFD has an id of that spelling: the point is found by its place, or by that id."""
    folder = tmp_path / "photos"
    write(folder, NFD)
    store = MemoryStore()
    embedder = TinyEmbedder()
    with MultimodalIndex(embedder, store) as index:
        index.sync_folder(folder)
        (record,) = index.get(list(stored(index).values()), with_vectors=True)
        assert record is not None
        index.delete(record.id)
        old = str(uuid5(NAMESPACE, f"path:{record.payload['filename']}"))
        index.add_vectors([Record(old, record.payload, vector=record.vector)])
        if moved:
            folder.rename(tmp_path / "new")
            folder = tmp_path / "new"
        for _ in range(2):
            report = index.sync_folder(folder)
            assert (report.unchanged, report.added, report.embedded, report.failed) == (1, 0, 0, ())
            assert list(stored(index).values()) == [old]


# -- both spellings in one folder --------------------------------------------------------------------------------------


@two_files
@every_scheme
@pytest.mark.parametrize("order", list(itertools.permutations([NFC, NFD, MIXED])), ids=str)
def test_files_that_look_the_same_are_all_stored_and_stay(
    ids: IdScheme, order: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whatever order they appear, and when one of them is deleted later."""
    numbers = {NFC: 1, NFD: 2, MIXED: 3}
    with MultimodalIndex(TinyEmbedder(), MemoryStore(), ids=ids) as index:
        for count, name in enumerate(order, start=1):  # one after the other
            write(tmp_path, name, numbers[name])
            report = index.sync_folder(tmp_path)
            assert (report.added, report.failed, index.count()) == (1, (), count)
        before = stored(index)
        assert set(before) == set(order)
        assert index.sync_folder(tmp_path).unchanged == 3
        for name, number in numbers.items():
            assert index.search(image(number), limit=1)[0].filename == name
        (tmp_path / order[0]).unlink()
        report = index.sync_folder(tmp_path, gone=order[0])  # its folder is empty, as if a disk were not there
        assert (report.removed, report.unchanged, report.failed) == (1, 2, ())
        assert stored(index) == {name: before[name] for name in order[1:]}
        write(tmp_path, order[1], 9)
        report = index.sync_folder(tmp_path)
        assert (report.updated + report.added, report.failed, index.count()) == (1, (), 2)
        write(tmp_path, order[0], 7)
        assert index.sync_folder(tmp_path).failed == ()
        assert set(stored(index)) == set(order)
        assert index.sync_folder(tmp_path).unchanged == 3


@two_files
@every_scheme
def test_files_that_look_the_same_are_stored_in_one_run(ids: IdScheme, tmp_path: Path) -> None:
    folders = [[NFC, NFD], [NFD, NFC], [MIXED, NFD, NFC]]
    for number, (order, batch) in enumerate(itertools.product(folders, (1, 8))):
        folder = tmp_path / str(number)
        for name in order:
            write(folder, name, len(name))
        paths = [folder / name for name in order]
        with MultimodalIndex(TinyEmbedder(max_batch_size=batch), MemoryStore(), ids=ids) as index:
            assert index.sync_folder(folder, dry_run=True).failed == ()
            report = index.add_images(paths, root=folder)
            expected = len(order) if not isinstance(ids, ContentIds) else len({len(name) for name in order})
            assert (index.count(), report.failed) == (expected, ())
            before = stored(index)
            assert index.sync_folder(folder).unchanged == len(order)
            assert stored(index) == before


@two_files
def test_a_dry_run_tells_files_that_look_the_same_apart(index: MultimodalIndex, tmp_path: Path) -> None:
    write(tmp_path, NFC, 1)
    write(tmp_path, NFD, 2)
    assert index.sync_folder(tmp_path, dry_run=True).added == 2


@pytest.mark.parametrize("order", [[NFC, NFD], [NFD, NFC]], ids=str)
def test_members_of_an_archive_that_look_the_same_are_all_stored(
    index: MultimodalIndex, order: list[str], tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number, name in enumerate(order):
            archive.writestr(name, png(number))
    assert index.add_images(tmp_path / "a.zip").added == 2
    before = stored(index)
    assert set(before) == {NFC, NFD}
    report = index.add_images(tmp_path / "a.zip")
    assert (report.unchanged, stored(index)) == (2, before)


def test_a_name_in_an_archive_has_the_id_of_the_composed_name(index: MultimodalIndex, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(NFD, png(1))
    index.add_images(tmp_path / "a.zip")
    assert stored(index) == {NFD: PathIds().allocate(filename=NFC, sha256="")}


@two_files
def test_the_points_of_a_folder_that_looks_the_same_are_left_alone(index: MultimodalIndex, tmp_path: Path) -> None:
    """They are of another folder: its files are not missing here."""
    one, two = (tmp_path / unicodedata.normalize(form, "Österreich") for form in ("NFC", "NFD"))
    write(one, "a.png", 1)
    write(two, "b.png", 2)
    write(two, "c.png", 3)
    index.sync_folder(one)
    index.sync_folder(two)
    (two / "c.png").unlink()
    assert index.sync_folder(one).removed == 0
    assert index.sync_folder(two).removed == 1
    assert set(stored(index)) == {"a.png", "b.png"}
    assert index.sync_folder(one, root=tmp_path).failed == ()
    assert index.sync_folder(two, root=tmp_path).removed == 0


@two_files
def test_a_link_from_one_spelling_to_the_other_is_a_file_of_its_own(index: MultimodalIndex, tmp_path: Path) -> None:
    """People make them to have a name as typed; the two must not take each other's place at every run."""
    path = write(tmp_path, NFD)
    (tmp_path / NFC).parent.mkdir()
    (tmp_path / NFC).symlink_to(path)
    assert index.sync_folder(tmp_path).added == 2
    before = stored(index)
    assert set(before) == {NFC, NFD}
    assert index.sync_folder(tmp_path).unchanged == 2
    assert stored(index) == before
