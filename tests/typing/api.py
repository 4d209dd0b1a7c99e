"""The public API as users call it: mypy checks this file, and nothing runs it.

`assert_type` holds what a call gives; a `type: ignore` that is not needed is an error, so each one holds that mypy
refuses its line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import numpy as np
import numpy.typing as npt
import PIL.Image
from typing_extensions import assert_type

from multimodal_search import (
    AlephAlphaEmbedder,
    AsyncMultimodalIndex,
    ColorEmbedder,
    ContentIds,
    Embedder,
    EmbedderSpec,
    HttpEmbedder,
    Image,
    IndexReport,
    IndexStatus,
    Item,
    Match,
    MemoryStore,
    Mixed,
    MultimodalIndex,
    OnnxEmbedder,
    PathIds,
    PointId,
    Progress,
    QdrantEdgeStore,
    QdrantStore,
    Record,
    Role,
    SearchHit,
    SearchResults,
    SequentialIds,
    Stored,
    StoreSchema,
    SupportsIndexMetadata,
    SupportsOptimize,
    SupportsTextSearch,
    SupportsTuning,
    SupportsVectorsInSearch,
    SupportsVerify,
    Text,
    TuningReport,
    Vector,
    VectorStore,
    VerifyReport,
)
from multimodal_search.stores.local_socket import connect_store, serve_store
from multimodal_search.types import Content, Filter


def making_an_index() -> None:
    with MultimodalIndex.open("photos.index", embedder=ColorEmbedder()) as index:
        assert_type(index, MultimodalIndex)
    MultimodalIndex.open(Path("photos.index"), embedder=lambda: ColorEmbedder(), ids=SequentialIds())
    MultimodalIndex.open("photos.index")
    MultimodalIndex.open("photos.index", embedder=OnnxEmbedder(variant={"text": "int8"}, threads=2), accept_equal=True)
    OnnxEmbedder({"image": Path("one"), "text": "two"}, providers=["CPUExecutionProvider"], cache_folder=Path("cache"))
    OnnxEmbedder(threads="two")  # type: ignore[arg-type]
    MultimodalIndex(None, MemoryStore(), ids=ContentIds(), auto_calibrate=False, max_pixels=10**9)
    MultimodalIndex(ColorEmbedder(), QdrantStore("photos", url="http://localhost:6333", api_key="key"), ids=PathIds())
    MultimodalIndex(ColorEmbedder(), QdrantEdgeStore("photos.index"))
    MultimodalIndex(ColorEmbedder)  # type: ignore[call-arg]
    MultimodalIndex(ColorEmbedder(), "photos.index")  # type: ignore[arg-type]
    AlephAlphaEmbedder(host="https://example.org", token="token", model="luminous-base", compress_to_size=None)
    AlephAlphaEmbedder.from_env(representation="asymmetric", timeout_s=10)
    AlephAlphaEmbedder.from_env(representation="both")  # type: ignore[arg-type]
    HttpEmbedder("http://localhost:8000", dialect="openai-chat", prompts={"query": "Find:"}, modalities={"text"})
    HttpEmbedder("http://localhost:8000", dialect="openai")  # type: ignore[arg-type]
    assert_type(HttpEmbedder.cohere("embed-v4.0", dimensions=512), HttpEmbedder)
    HttpEmbedder.vllm("http://localhost:8000", dimension=512)  # type: ignore[call-arg]
    AlephAlphaEmbedder.from_env(batch=3)  # type: ignore[call-arg]


def indexing(index: MultimodalIndex) -> None:
    assert_type(index.add_images("photos"), IndexReport)
    index.add_images(Path("photos"), pattern=["*.jpg", "*.png"], exclude="Private", recursive=False)
    index.add_images([Path("a.jpg"), b"bytes", PIL.Image.new("RGB", (1, 1)), Image("a.jpg"), Item(Path("b.jpg"))])
    index.add_texts(["a red house", Text("a blue boat"), Item("a green door", id=7, payload={"label": "door"})])
    index.add("a text")
    index.add([Mixed("at night", Image("a.jpg")), Item(Image.from_url("https://example.org/cat.jpg"))])
    index.add(7)  # type: ignore[arg-type]
    report = index.sync_folder("photos", gone="2021", dry_run=True, progress=show)
    assert_type(report.added, int)
    assert_type(report.to_dict(), dict[str, Any])
    index.add_vectors(Record(number, {"label": "x"}, vector=np.ones(3, np.float32)) for number in range(3))
    assert_type(index.export("photos.parquet"), int)
    assert_type(index.add_export("photos.parquet"), IndexReport)


def show(event: Progress) -> None:
    assert_type(event.done, int)
    assert_type(event.total, int | None)


def searching(index: MultimodalIndex, vector: npt.NDArray[np.float32]) -> None:
    results = index.search("blue", limit=5, offset=5, where={"year": {"gte": 2020}}, min_score=0.2)
    assert_type(results, SearchResults)
    assert_type(results[0], SearchHit)
    assert_type(results[:3], SearchResults)
    assert_type(results.matches, SearchResults)
    assert_type(results.verdict, Literal["match", "unsure", "nothing"] | None)
    assert_type(results.thresholds, tuple[float, float] | None)
    assert_type(results.contact_sheet(columns=3), PIL.Image.Image)
    assert_type(results.to_html(), str)
    assert_type(results.to_json(indent=2), str)
    for hit in results:
        assert_type(hit, SearchHit)
        assert_type(hit.id, PointId)
        assert_type(hit.score, float)
        assert_type(hit.relevance, float | None)
        assert_type(hit.filename, str | None)
        assert_type(hit.path, Path | None)
        assert_type(hit.image(), PIL.Image.Image)
    index.search(Path("a.jpg"), diversity=0.3, deduplicate=True, group_by="label", group_size=2)
    index.search("a red bike", keyword_weight=0.5, keyword_fields=["caption"], thresholds=(0.2, 0.6), exact=True)
    assert_type(index.keyword_fields, tuple[str, ...])
    index.set_keyword_fields([*index.keyword_fields, "camera"])
    for query in (vector, [0.1, 0.2], Vector(vector), Stored(7), b"bytes", PIL.Image.new("RGB", (1, 1))):
        index.search(query)
    index.search(Text("beach") + 0.5 * Image("a.jpg") - Text("people") * 2 + -Stored(7))
    index.search("blue", 5, keyword_wait=0.5)  # type: ignore[call-arg]
    assert_type(index.search_many(["red", Image("a.jpg")], limit=3, diversity=0.2), list[SearchResults])
    assert_type(index.search_all("blue", group_by="label"), Iterator[SearchHit])
    assert_type(index.similar([7, UUID(int=1), Image("a.jpg")], unlike=Text("red")), SearchResults)
    assert_type(index.duplicates(0.97, where={"modality": "image"}), list[SearchResults])


def points(index: MultimodalIndex) -> None:
    assert_type(index.get(7), Record | None)
    assert_type(index.get(UUID(int=1), with_vectors=True), Record | None)
    assert_type(index.get([7, "6ba7b810-9dad-11d1-80b4-00c04fd430c8"]), list[Record | None])
    index.delete([7, UUID(int=1)])
    assert_type(index.count({"label": ["dog", "cat"]}), int)
    assert_type(len(index), int)
    assert_type(index.optimize(), bool)
    assert_type(index.status(), IndexStatus)
    assert_type(index.verify(progress=False), VerifyReport)
    index.calibrate(reference_queries=["a forklift", Image("a.jpg")])


async def in_an_event_loop() -> None:
    async with AsyncMultimodalIndex.open("photos.index", embedder=ColorEmbedder()) as index:
        assert_type(await index.add_images("photos"), IndexReport)
        assert_type(await index.search("red", keyword_weight=0.5), SearchResults)
        assert_type(await index.search_many(["red", "blue"]), list[SearchResults])
        assert_type(await index.count(), int)
        async for hit in index.search_all("red"):
            assert_type(hit, SearchHit)


class OneVector:
    """An embedder is whatever fits the protocol."""

    spec = EmbedderSpec(model="one", fingerprint="one/1", dimension=1, modalities=frozenset({"text"}))

    def embed(self, contents: Sequence[Content], /, *, role: Role) -> npt.NDArray[np.float32]:
        return np.ones((len(contents), 1), np.float32)


class NotAnEmbedder:
    spec = OneVector.spec

    def embed(self, contents: Sequence[str], /) -> list[float]:
        return [1.0 for _ in contents]


class OneStore:
    """A store is whatever fits the protocol."""

    def ensure(self, schema: StoreSchema, /) -> StoreSchema:
        return schema

    def upsert(self, records: Sequence[Record], vectors: npt.NDArray[np.float32], /) -> None: ...

    def search(
        self, vectors: npt.NDArray[np.float32], /, *, limit: int, offset: int = 0, where: Filter | None = None
    ) -> list[list[Match]]:
        return [[] for _ in vectors]

    def get(self, ids: Sequence[PointId], /, *, with_vectors: bool = False) -> list[Record | None]:
        return [None for _ in ids]

    def scan(self, *, where: Filter | None = None, fields: Sequence[str] | None = None) -> Iterator[Record]:
        return iter(())

    def delete(self, ids: Sequence[PointId], /) -> None: ...

    def count(self, where: Filter | None = None) -> int:
        return 0

    def close(self) -> None: ...


def protocols() -> None:
    embedder: Embedder = OneVector()
    store: VectorStore = OneStore()
    MultimodalIndex(embedder, store)
    MultimodalIndex(NotAnEmbedder(), store)  # type: ignore[arg-type]
    stores: list[VectorStore] = [MemoryStore(), QdrantStore("photos"), QdrantEdgeStore("photos.index")]
    for each in stores:
        if isinstance(each, SupportsOptimize):
            assert_type(each.needs_optimize, bool)
        if isinstance(each, SupportsTextSearch):
            each.search_text("red", limit=3)
        if isinstance(each, SupportsTuning):
            assert_type(each.tune({"text": np.zeros((2, 3), np.float32)}, 0.99), TuningReport)
            assert_type(each.search_exactly(np.zeros((1, 3), np.float32), limit=3), list[list[Match]])
        if isinstance(each, SupportsVectorsInSearch):
            assert_type(each.search_with_vectors(np.zeros((1, 3), np.float32), limit=3), list[list[Match]])
        if isinstance(each, SupportsIndexMetadata):
            assert_type(each.get_index_metadata("name"), str | None)
    if isinstance(store, SupportsVerify):
        store.status()
    with serve_store(store, "photos.index") as server:
        assert_type(server.clients, int)
        shared: VectorStore = connect_store("photos.index")
    serve_store(shared, Path("other"), transport="udp")  # type: ignore[arg-type]
