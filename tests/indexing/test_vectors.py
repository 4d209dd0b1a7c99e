"""Vectors that come from elsewhere, go elsewhere, and come back; images inside archives."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_embedder import TinyEmbedder, folder_of, image, png

from multimodal_search import (
    EmbedderSpec,
    IndexingError,
    MemoryStore,
    MultimodalIndex,
    Progress,
    QdrantEdgeStore,
    QdrantStore,
    Record,
    SchemaMismatchError,
    SearchHit,
    SequentialIds,
    VectorStore,
)


@pytest.fixture(params=["memory", "edge", "qdrant"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VectorStore]:
    store: VectorStore = {
        "memory": MemoryStore,
        "edge": lambda: QdrantEdgeStore(tmp_path / "index"),
        "qdrant": lambda: QdrantStore("vectors", location=":memory:"),
    }[request.param]()
    yield store
    store.close()


def rows(count: int, seed: int = 0) -> np.ndarray:  # type: ignore[type-arg]
    return np.random.default_rng(seed).standard_normal((count, 48)).astype(np.float32)


def test_vectors_made_elsewhere_are_found(store: VectorStore) -> None:
    """People who come from another system have paid for their vectors already."""
    index = MultimodalIndex(TinyEmbedder(), store)
    vectors = rows(1_000)
    events: list[Progress] = []
    records = (Record(n, {"filename": f"{n}.jpg", "n": n}, vector=vector) for n, vector in enumerate(vectors))
    report = index.add_vectors(records, progress=events.append)
    assert (report.added, report.embedded, report.calls) == (1_000, 0, 0)
    assert sorted(int(point_id) for event in events for point_id in event.stored) == list(range(1_000))
    hit = index.search(vectors[417], limit=1)[0]
    assert (hit.id, hit.filename) == (417, "417.jpg")
    again = index.add_vectors([Record(417, {"n": -1}, vector=vectors[3])])
    assert (again.added, again.updated, index.count()) == (0, 1, 1_000)


def test_a_bad_record_costs_itself_alone() -> None:
    index = MultimodalIndex(TinyEmbedder(), MemoryStore())
    good, short, broken = rows(1)[0], np.ones(3, np.float32), np.full(48, np.nan, np.float32)
    records = [
        Record(1, vector=good),
        Record(2, vector=short),
        Record(3, vector=broken),
        Record(4),
        Record("five", vector=good),
        Record(6, {"x": object()}, vector=good),
        Record(7, vector=good),
        Record(7, {"last": True}, vector=good),
    ]
    report = index.add_vectors(records)
    assert [failure.name for failure in report.failed] == ["2", "3", "4", "five", "6"]
    assert sorted(int(record.id) for record in index.store.scan()) == [1, 7]
    assert report.added + report.updated + len(report.failed) == len(records)
    seven = index.get(7)
    assert seven is not None
    assert seven.payload == {"last": True}


def test_records_that_raise_keep_what_came_before() -> None:
    def records() -> Iterator[Record]:
        for number in range(600):
            yield Record(number, vector=rows(1)[0])
        raise OSError("the cursor is gone")

    index = MultimodalIndex(TinyEmbedder(), MemoryStore())
    with pytest.raises(IndexingError, match="cursor is gone") as caught:
        index.add_vectors(records())
    assert caught.value.report.added == index.count() == 600


def test_an_export_comes_back_into_any_store_without_embedding(store: VectorStore, tmp_path: Path) -> None:
    """Moving from one store to another must not cost an API call per image."""
    pytest.importorskip("pyarrow", reason="needs the extra parquet")
    embedder = TinyEmbedder()
    source = MultimodalIndex(embedder, MemoryStore())
    source.add_images(folder_of(tmp_path / "photos", 30))
    source.add_texts(["a", "ünïcode"])
    assert source.export(tmp_path / "all.parquet") == 32
    spent = embedder.embedded

    target = MultimodalIndex(embedder, store)
    assert target.add_export(tmp_path / "all.parquet").added == 32
    assert embedder.embedded == spent
    query = rows(1, seed=5)[0]
    expected, got = source.search(query, limit=32), target.search(query, limit=32)
    assert [hit.id for hit in got] == [hit.id for hit in expected]
    assert [dict(hit.payload) for hit in got] == [dict(hit.payload) for hit in expected]
    assert [hit.score for hit in got] == pytest.approx([hit.score for hit in expected], abs=1e-5)
    assert target.add_images(tmp_path / "photos").unchanged == 30


def test_an_export_of_another_embedder_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs the extra parquet")
    source = MultimodalIndex(TinyEmbedder(model="one"), MemoryStore())
    source.add_texts(["a"])
    source.export(tmp_path / "all.parquet")
    target = MultimodalIndex(TinyEmbedder(model="two"), MemoryStore())
    with pytest.raises(SchemaMismatchError, match=r"all\.parquet.*'one'.*'two'"):
        target.add_export(tmp_path / "all.parquet")
    assert target.count() == 0


def test_another_programs_parquet_file_is_taken(tmp_path: Path) -> None:
    """clip-retrieval, Hugging Face data sets and Chroma exports are Parquet too."""
    pa = pytest.importorskip("pyarrow", reason="needs the extra parquet")
    vectors = rows(5)
    table = pa.table(
        {"embedding": list(vectors), "caption": [f"caption {n}" for n in range(5)], "id": [str(n) for n in range(5)]}
    )
    pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "foreign.parquet")
    index = MultimodalIndex(TinyEmbedder(), MemoryStore())
    assert index.add_export(tmp_path / "foreign.parquet").added == 5
    hit = index.search(vectors[2], limit=1)[0]
    assert hit.id == 2
    assert hit.payload["caption"] == "caption 2"


@pytest.mark.parametrize("form", ["zip", "gztar", "tar"])
def test_images_inside_archives_are_indexed_and_shown(form: str, tmp_path: Path) -> None:
    """Data sets come as archives, and unpacking them takes disk that people may not have."""
    photos = folder_of(tmp_path / "photos" / "below", 4)
    (photos / "cut.png").write_bytes(png(1)[:50])
    archive = shutil.make_archive(str(tmp_path / "set"), form, tmp_path / "photos")
    embedder = TinyEmbedder()
    index = MultimodalIndex(embedder, MemoryStore())
    report = index.add_images(archive)
    assert (report.added, [Path(failure.name).name for failure in report.failed]) == (4, ["cut.png"])
    hit = index.search(image(2), limit=1)[0]
    assert hit.filename == "below/2.png"
    assert hit.image().tobytes() == image(2).tobytes()
    again = index.add_images(archive)
    assert (again.unchanged, again.embedded) == (4, 0)
    # Unpacked later, the same files are the same points, and keep their vectors.
    assert index.add_images(photos.parent).embedded == 0
    assert index.count() == 4


def test_an_archive_cannot_name_files_outside_of_it(tmp_path: Path) -> None:
    """`../../etc/passwd` in somebody's archive must lead nowhere."""
    (tmp_path / "0.png").write_bytes(png(0))
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        archive.add(tmp_path / "0.png", arcname="../outside.png")
        archive.add(tmp_path / "0.png", arcname="good.png")
    index = MultimodalIndex(TinyEmbedder(), MemoryStore())
    report = index.add_images(tmp_path / "evil.tar")
    assert report.added == 1
    assert "outside.png" in report.failed[0].name
    hit = SearchHit(id=1, score=1, payload={"root": str(tmp_path / "evil.tar"), "filename": "../outside.png"})
    assert hit.path is None


def test_sequential_ids_hold_for_archives(tmp_path: Path) -> None:
    folder_of(tmp_path / "photos", 3)
    archive = shutil.make_archive(str(tmp_path / "set"), "zip", tmp_path / "photos")
    index = MultimodalIndex(TinyEmbedder(), MemoryStore(), ids=SequentialIds())
    index.add_images(archive)
    assert index.add_images(archive).unchanged == 3
    assert sorted(int(record.id) for record in index.store.scan()) == [0, 1, 2]


def test_what_an_embedder_sends_stands_in_the_report() -> None:
    """The bill can be checked against it."""

    class Words(TinyEmbedder):
        def __init__(self) -> None:
            super().__init__(max_batch_size=4)
            self.spec = EmbedderSpec(
                model="w", fingerprint="w", dimension=48, modalities=frozenset({"text"}), max_batch_size=4
            )

    index = MultimodalIndex(Words(), MemoryStore())
    report = index.add_texts([f"text {number}" for number in range(10)])
    assert (report.calls, report.bytes_sent) == (3, 0)
    assert set(report.stage_seconds) == {"scan", "load", "embed", "write"}
    assert index.add_texts(["text 1"]).calls == 0
