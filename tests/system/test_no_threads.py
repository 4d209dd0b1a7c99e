"""A process at its limit of threads: what can go on does, and what cannot says why."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from tiny_embedder import png

from multimodal_search import (
    AlephAlphaEmbedder,
    AsyncMultimodalIndex,
    ColorEmbedder,
    Image,
    IndexingError,
    MemoryStore,
    MultimodalIndex,
    MultimodalSearchError,
    SearchHit,
    SearchResults,
    Text,
    UnreadableContentError,
)
from multimodal_search.media.images import read_bytes


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many more may be started; the operating system's own limit would end the test's other threads, too."""
    left = {"left": 0}
    start = threading.Thread.start

    def limited(self: threading.Thread) -> None:
        if not left["left"]:
            raise RuntimeError("can't start new thread")
        left["left"] -= 1
        start(self)

    monkeypatch.setattr(threading.Thread, "start", limited)
    return left


def test_a_run_that_can_start_no_thread_ends_with_a_report(threads: dict[str, int]) -> None:
    index = MultimodalIndex(ColorEmbedder(), MemoryStore())
    with pytest.raises(IndexingError, match=r"no thread can be started \(can't start new thread\).*ulimit") as caught:
        index.add_texts(["red"])
    assert caught.value.report.added == 0
    threads["left"] = 100
    assert index.add_texts(["red"]).added == 1


def test_a_run_goes_on_with_as_many_threads_as_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that loads, one that embeds and one that writes are enough."""
    start = threading.Thread.start

    def first_ones(self: threading.Thread) -> None:
        if not self.name.endswith("-0"):
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", first_ones)
    index = MultimodalIndex(ColorEmbedder(), MemoryStore(), auto_calibrate=False)
    assert index.add_texts([f"red {number}" for number in range(100)]).added == 100


@pytest.mark.usefixtures("threads")
def test_hits_are_shown_by_this_thread_alone(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(3))
    payload = {"root": str(tmp_path), "filename": "a.png", "modality": "image"}
    results = SearchResults([SearchHit(id=1, score=0.5, payload=payload)], "q")
    assert "data:image/png" in results.to_html()
    assert results.contact_sheet().width > 0


@pytest.mark.usefixtures("threads")
def test_others_say_so() -> None:
    with pytest.raises(UnreadableContentError, match="can't start new thread"):
        read_bytes(Image.from_url("http://127.0.0.1:1/a.png", allow_private=True))
    with (
        AlephAlphaEmbedder("http://127.0.0.1:1", "token") as embedder,
        pytest.raises(MultimodalSearchError, match="no thread can be started"),
    ):
        embedder.embed([Text("a")], role="query")

    async def search() -> None:
        index = AsyncMultimodalIndex(ColorEmbedder(), MemoryStore())
        with pytest.raises(MultimodalSearchError, match="no thread can be started"):
            await index.search("red")

    asyncio.run(search())
