"""Relevance in an index: when it is calibrated, what is kept, and what follows from it."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_embedder import TinyEmbedder, image

from multimodal_search import (
    ColorEmbedder,
    ConfigurationError,
    EmbedderAuthError,
    Image,
    Item,
    MemoryStore,
    MultimodalIndex,
    Progress,
    QdrantEdgeStore,
    QdrantStore,
    QueryError,
    Record,
    Role,
    Stored,
    Text,
    VectorStore,
)
from multimodal_search._relevance.reference_texts import REFERENCE_TEXTS
from multimodal_search.contents import Content
from multimodal_search.types import FloatArray

IMAGES = [Item(image(number), id=number) for number in range(40)]


def test_indexing_ends_with_a_calibration_that_gives_hits_their_relevance(
    new_store: Callable[[], VectorStore],
) -> None:
    embedder = TinyEmbedder(max_batch_size=32)
    with MultimodalIndex(embedder, new_store()) as index:
        index.add(IMAGES)
        assert embedder.roles.count("query") == -(-len(REFERENCE_TEXTS) // 32)
        hits = index.search("anything", limit=40)
        relevances = [hit.relevance for hit in hits]
        assert all(relevance is not None and 0 <= relevance <= 1 for relevance in relevances)
        assert relevances == sorted(relevances, reverse=True)  # type: ignore[type-var]
        (same,) = index.search(image(3), limit=1)
        assert same.id == 3
        assert same.relevance is not None
        assert same.relevance > 0.99
        assert index.search(image(3), limit=40).matches[0].id == 3
        assert index.similar(3, limit=1)[0].relevance is not None
        for query in (Text("a") + Text("b"), np.ones(48, np.float32), -Text("a"), Text("a") - Stored(3)):
            assert index.search(query, limit=1)[0].relevance is None
            with pytest.raises(QueryError, match="not known"):
                _ = index.search(query).matches


def test_relevance_is_the_share_of_neutral_queries_that_find_nothing_so_high() -> None:
    """By counting, with NumPy, as far as a hundred queries can tell."""
    embedder = TinyEmbedder()
    index = MultimodalIndex(embedder, MemoryStore())
    index.add(IMAGES)
    rows = np.array([record.vector for record in index.get(list(range(40)), with_vectors=True) if record])
    bank = embedder.embed([Text(text) for text in REFERENCE_TEXTS], role="query")
    best = np.sort(((bank / np.linalg.norm(bank, axis=1, keepdims=True)) @ rows.T).max(axis=1))
    for hit in index.search("anything else", limit=3):
        assert hit.relevance == pytest.approx((best < hit.score).mean(), abs=0.08)


def test_a_calibration_is_kept_and_costs_nothing_later(tmp_path: Path) -> None:
    with MultimodalIndex(TinyEmbedder(), QdrantEdgeStore(tmp_path / "index")) as index:
        index.add(IMAGES)
        before = [hit.relevance for hit in index.search("a", limit=40)]
    embedder = TinyEmbedder()
    with MultimodalIndex(embedder, QdrantEdgeStore(tmp_path / "index")) as index:
        assert [hit.relevance for hit in index.search("a", limit=40)] == before
        assert embedder.calls == [1]
        index.add(IMAGES)  # all known
        index.add([Item(image(1000), id=1000)])  # too little to matter
        assert embedder.calls == [1, 1]
        assert [hit.relevance for hit in index.search("a", limit=39) if hit.id != 1000] == before[:38]
        index.add([Item(image(number), id=number) for number in range(1001, 1030)])
        assert embedder.roles.count("query") == 1  # calibrated again, with what was embedded before
        assert [hit.relevance for hit in index.search("a", limit=80) if int(hit.id) < 1000] != before


def test_an_index_whose_images_have_changed_is_calibrated_anew() -> None:
    """Their number tells nothing of that."""
    store = MemoryStore()
    index = MultimodalIndex(TinyEmbedder(), store)
    index.add(IMAGES)
    before = store.get_index_metadata("calibration")
    assert index.add([Item(image(number + 500), id=number) for number in range(3)]).updated == 3
    assert store.get_index_metadata("calibration") == before
    assert index.add([Item(image(number + 500), id=number) for number in range(10, 20)]).updated == 10
    assert store.get_index_metadata("calibration") != before


def test_nothing_is_calibrated_where_that_is_not_wanted_or_makes_no_sense() -> None:
    for arguments, count in (({"auto_calibrate": False}, 40), ({}, 19)):
        embedder = TinyEmbedder()
        index = MultimodalIndex(embedder, MemoryStore(), **arguments)
        index.add(IMAGES[:count])
        assert "query" not in embedder.roles
        assert index.search("a")[0].relevance is None
    index.add(IMAGES[19:])
    assert index.search("a")[0].relevance is not None


def test_vectors_from_elsewhere_are_calibrated_too() -> None:
    """By the neutral queries, which are all that is embedded, once."""
    embedder = TinyEmbedder()
    index = MultimodalIndex(embedder, MemoryStore())
    records = _vectors(50)
    index.add_vectors(records[:30])
    assert sum(embedder.calls) == len(REFERENCE_TEXTS)
    assert index.search("a", limit=30).verdict is not None
    calls = len(embedder.calls)
    index.add_vectors(records[30:])
    assert len(embedder.calls) == calls
    assert all(hit.relevance is not None for hit in index.search("a", limit=50))
    quiet = TinyEmbedder()
    MultimodalIndex(quiet, MemoryStore(), auto_calibrate=False).add_vectors(records)
    assert quiet.calls == []


def test_nothing_is_embedded_for_vectors_whose_payload_names_no_modality_and_why_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Their hits could have no relevance: 122 texts, paid for in vain."""
    embedder, store = TinyEmbedder(), MemoryStore()
    index = MultimodalIndex(embedder, store)
    said = "whose payload says the same `modality`"
    records = _vectors(50)
    with caplog.at_level(logging.WARNING):
        index.add_vectors([Record(record.id, {}, vector=record.vector) for record in records])
    assert said in caplog.text
    caplog.clear()
    index.add_vectors([Record(99, {}, vector=records[0].vector)])
    assert caplog.text == ""  # it was said
    index.calibrate()
    assert said in caplog.text
    assert embedder.calls == []
    assert said in index.status().relevance_unknown
    assert f"searches have no verdict: {index.status().relevance_unknown}" in str(index.status()).splitlines()
    results = index.search("a")
    assert results.verdict is None
    assert said in results.relevance_unknown
    index.add_vectors(records)  # with their modality
    assert sum(embedder.calls) == 1 + len(REFERENCE_TEXTS)
    assert index.status().relevance_unknown == ""
    assert index.search("a").verdict is not None


def test_the_status_says_why_there_is_no_calibration() -> None:
    index = MultimodalIndex(TinyEmbedder(), MemoryStore(), auto_calibrate=False)
    assert index.status().to_dict()["relevance_unknown"] == ""  # without points there is nothing to say
    index.add(IMAGES)
    assert "index.calibrate() does it now" in index.status().relevance_unknown
    index.calibrate()
    assert "no verdict" not in str(index.status())


def test_reference_queries_of_ones_own_are_kept_for_points_that_come_later() -> None:
    embedder = TinyEmbedder()
    index = MultimodalIndex(embedder, MemoryStore())
    index.calibrate([f"own {number}" for number in range(30)])
    index.add(IMAGES)
    assert embedder.roles.count("query") == 4  # 30 in batches of 8: none for the library's own
    assert index.search("a").verdict is not None
    index.delete(range(40))
    index.calibrate()  # the library's own from now on
    index.add(IMAGES)
    assert embedder.roles.count("query") == 5 + -(-len(REFERENCE_TEXTS) // 8)


def test_a_best_hit_whose_payload_names_no_modality_has_no_verdict() -> None:
    index = MultimodalIndex(TinyEmbedder(), MemoryStore())
    index.add(IMAGES)
    (vector,) = TinyEmbedder().embed([Image(image(99))], role="query")
    index.add_vectors([Record(999, {}, vector=vector)])
    results = index.search(image(99), limit=5)
    assert (results[0].id, results.verdict) == (999, None)
    assert "does not say its `modality`" in results.relevance_unknown


def test_an_index_is_complete_even_if_it_cannot_be_calibrated(caplog: pytest.LogCaptureFixture) -> None:
    class Quotaless(TinyEmbedder):
        def embed(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
            if role == "query" and len(contents) > 1:
                raise EmbedderAuthError("no queries for you")
            return super().embed(contents, role=role)

    index = MultimodalIndex(Quotaless(), MemoryStore())
    with caplog.at_level(logging.WARNING):
        assert index.add(IMAGES).added == 40
    assert "not calibrated: no queries for you" in caplog.text
    assert index.search("a")[0].relevance is None
    with pytest.raises(EmbedderAuthError):
        index.calibrate()


def test_a_damaged_note_is_as_none() -> None:
    store = MemoryStore()
    index = MultimodalIndex(TinyEmbedder(), store)
    index.add(IMAGES)
    for name in ("calibration", "reference_bank"):
        store.set_index_metadata(name, '{"version": 1, "broken": ')
    again = MultimodalIndex(TinyEmbedder(), store)
    assert again.search("a")[0].relevance is None
    again.calibrate()
    assert again.search("a")[0].relevance is not None


def test_a_run_that_was_killed_between_two_notes_is_mended_by_the_next() -> None:
    """The bank is written first: what was calibrated with another one is then out of date."""
    store = MemoryStore()
    index = MultimodalIndex(TinyEmbedder(), store)
    index.add(IMAGES)
    old = store.get_index_metadata("calibration")
    index.calibrate([f"own {number}" for number in range(30)])
    new = store.get_index_metadata("calibration")
    assert old is not None
    assert old != new
    store.set_index_metadata("calibration", old)
    MultimodalIndex(TinyEmbedder(), store).add([Item(image(500), id=500), Item(image(501), id=501)])
    mended = store.get_index_metadata("calibration")
    assert mended is not None
    assert mended not in (old, new)
    assert json.loads(mended)["bank"] == json.loads(new or "")["bank"]


def test_a_store_without_notes_remembers_as_long_as_it_is_open() -> None:
    class Noteless:
        def __init__(self) -> None:
            inner = MemoryStore()
            for name in ("ensure", "upsert", "search", "get", "scan", "delete", "count", "close"):
                setattr(self, name, getattr(inner, name))

    index = MultimodalIndex(TinyEmbedder(), Noteless())  # type: ignore[arg-type]
    index.add(IMAGES)
    assert index.search("a")[0].relevance is not None


def test_reference_queries_of_ones_own_take_the_place_of_the_library_s(tmp_path: Path) -> None:
    own = [f"own {number}" for number in range(30)]
    with MultimodalIndex(TinyEmbedder(), QdrantEdgeStore(tmp_path / "index")) as index:
        index.add(IMAGES)
        before = [hit.relevance for hit in index.search("a", limit=40)]
        index.calibrate(own)
        with_own = [hit.relevance for hit in index.search("a", limit=40)]
        assert with_own != before
    with MultimodalIndex(TinyEmbedder(), QdrantEdgeStore(tmp_path / "index")) as index:
        assert [hit.relevance for hit in index.search("a", limit=40)] == with_own
        index.calibrate()
        assert [hit.relevance for hit in index.search("a", limit=40)] == before


@pytest.mark.parametrize(("queries", "said"), [(["one", "two"], "at least 20"), ([], "no reference"), ("text", "list")])
def test_reference_queries_that_cannot_serve_are_refused(queries: Any, said: str) -> None:
    index = MultimodalIndex(TinyEmbedder(), MemoryStore())
    index.add(IMAGES)
    before = index.search("a")[0].relevance
    with pytest.raises(ConfigurationError, match=said):
        index.calibrate(queries)
    assert index.search("a")[0].relevance == before


def test_an_embedder_that_refuses_neutral_texts_has_scores_only(tmp_path: Path) -> None:
    """Neutral texts that name a colour find one everywhere: an honest score beats a made-up relevance."""
    index = MultimodalIndex(ColorEmbedder(), MemoryStore())
    index.add(IMAGES)
    assert index.search("red")[0].relevance is None
    assert index.search(image(3))[0].relevance is not None


def test_hits_behind_others_have_their_relevance_too() -> None:
    index = MultimodalIndex(TinyEmbedder(), MemoryStore())
    index.add([*IMAGES, Item(Image(image(3)), id=100)])
    (hit, *_) = index.search(image(3), deduplicate=True)
    assert [behind.id for behind in hit.duplicates] == [100]
    assert hit.duplicates[0].relevance == pytest.approx(hit.relevance, abs=1e-3)


@pytest.mark.parametrize("error", [RuntimeError("boom"), OSError("boom"), NotImplementedError("boom")])
def test_whatever_goes_wrong_while_calibrating_costs_no_report(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    class Faulty(TinyEmbedder):
        def embed(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
            if role == "query":
                raise error
            return super().embed(contents, role=role)

    with caplog.at_level(logging.WARNING):
        assert MultimodalIndex(Faulty(), MemoryStore()).add(IMAGES).added == 40
    assert "boom" in caplog.text


def test_a_calibration_that_is_missing_is_made_good_by_the_next_run() -> None:
    store = MemoryStore()
    MultimodalIndex(TinyEmbedder(), store, auto_calibrate=False).add(IMAGES)
    index = MultimodalIndex(TinyEmbedder(), store)
    assert index.search("a")[0].relevance is None
    assert index.add(IMAGES).unchanged == 40
    assert index.search("a")[0].relevance is not None


def test_a_calibration_goes_with_the_points_it_tells_of() -> None:
    index = MultimodalIndex(TinyEmbedder(), MemoryStore())
    index.add(IMAGES)
    index.delete(range(30))
    index.add([Item(image(99), id=99)])
    assert index.search("a")[0].relevance is None


def test_why_relevance_is_not_known_is_said_even_where_nothing_was_found() -> None:
    """That nothing stands out is an answer; that nobody knows is another."""
    small, color = MultimodalIndex(TinyEmbedder(), MemoryStore()), MultimodalIndex(ColorEmbedder(), MemoryStore())
    small.add(IMAGES[:5])
    color.add(IMAGES)
    cases = [
        (small.search("a"), "not calibrated"),
        (color.search("red", min_score=2), "'color' refuses most neutral texts"),
        (color.search(Text("red") + Text("blue")), "single text or image"),
        (color.search("red")[:2], "'color' refuses most neutral texts"),
    ]
    for results, said in cases:
        with pytest.raises(QueryError, match=said):
            _ = results.matches
    assert len(color.search(image(3), min_score=2).matches) == 0


def test_a_note_that_cannot_be_read_costs_no_search(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with MultimodalIndex(TinyEmbedder(), QdrantEdgeStore(tmp_path / "index")) as index:
        index.add(IMAGES)
    (tmp_path / "index" / "notes" / "calibration").write_bytes(b"\xff\xfe\xff")
    with (
        MultimodalIndex(TinyEmbedder(), QdrantEdgeStore(tmp_path / "index")) as index,
        caplog.at_level(logging.WARNING),
    ):
        assert index.search("a")[0].relevance is None
        index.search("b")
        assert caplog.text.count("no relevance until") == 1
        index.add(IMAGES)
        assert index.search("a")[0].relevance is not None


@pytest.mark.timeout(60)
def test_reference_queries_are_embedded_side_by_side() -> None:
    """Through an API, eight requests one after the other take eight times as long as one."""
    together = threading.Barrier(4)
    embedder = TinyEmbedder(
        max_batch_size=8, max_concurrency=4, before=lambda call: call <= 12 and together.wait(30) and None
    )
    with MultimodalIndex(embedder, MemoryStore(), auto_calibrate=False) as index:
        index.add_vectors(_vectors(100), progress=False)
        index.calibrate()
        assert embedder.most_in_flight == 4
        assert sum(embedder.calls) == len(REFERENCE_TEXTS)
        alone = MultimodalIndex(TinyEmbedder(max_batch_size=8, max_concurrency=1), MemoryStore(), auto_calibrate=False)
        alone.add_vectors(_vectors(100), progress=False)
        alone.calibrate()
        assert index.search("a dog", limit=100).to_dicts() == alone.search("a dog", limit=100).to_dicts()


def _vectors(count: int, modality: str = "image") -> list[Record]:
    rows = np.random.default_rng(5).standard_normal((count, 48)).astype(np.float32)
    return [Record(number, {"modality": modality}, vector=row) for number, row in enumerate(rows)]


@pytest.mark.timeout(60)
def test_trouble_with_one_of_several_requests_is_heard_at_once() -> None:
    gate = threading.Event()

    def before(call: int) -> None:
        if call == 2:
            raise EmbedderAuthError("no such token")
        gate.wait(60)

    embedder = TinyEmbedder(max_batch_size=8, max_concurrency=4, before=before)
    with MultimodalIndex(embedder, MemoryStore(), auto_calibrate=False) as index:
        index.add_vectors(_vectors(100), progress=False)
        try:
            with pytest.raises(EmbedderAuthError):
                index.calibrate()
        finally:
            gate.set()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal that a program can send itself as Ctrl-C")
@pytest.mark.timeout(60)
def test_ctrl_c_ends_the_embedding_of_reference_queries() -> None:
    gate = threading.Event()

    def before(call: int) -> None:
        if call == 2:
            os.kill(os.getpid(), signal.SIGINT)
        gate.wait(60)

    with MultimodalIndex(TinyEmbedder(before=before), MemoryStore(), auto_calibrate=False) as index:
        index.add_vectors(_vectors(100), progress=False)
        try:
            with pytest.raises(KeyboardInterrupt):
                index.calibrate()
        finally:
            gate.set()


def test_the_share_of_calibrating_is_told_and_the_last_event_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar at 100 % behind which something else goes on looks like a program that hangs."""
    monkeypatch.setattr("multimodal_search._progress.TELL_S", 0.0)
    events: list[Progress] = []
    with MultimodalIndex(TinyEmbedder(), MemoryStore()) as index:
        index.add(IMAGES, progress=events.append)
    stages = [event.stage for event in events]
    assert stages == sorted(stages, reverse=True)  # indexing, then calibrating
    assert [event.finished for event in events] == [False] * (len(events) - 1) + [True]
    for stage in ("indexing", "calibrating"):
        shares = [event.share for event in events if event.stage == stage and event.share is not None]
        assert shares == sorted(shares)
        assert (len(shares) > 2, shares[-1]) == (True, 1.0)


def test_the_bar_shows_one_stage_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    with MultimodalIndex(TinyEmbedder(), MemoryStore()) as index:
        index.add(IMAGES, progress=True)
    drawn = [line.rpartition("\r")[2] for line in capsys.readouterr().err.strip().split("\n")]
    assert [line.partition(":")[0] for line in drawn] == ["indexing", "calibrating"]
    assert all("100%" in line for line in drawn)


@pytest.mark.parametrize("modalities", [("image",), ("image", "text")])
def test_a_filter_looks_at_each_payload_some_times_and_not_for_each_query(
    modalities: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """qdrant-client's local mode has no payload indexes: filtering hundreds of searches took 8 s for 1,000 points."""
    from qdrant_client.local import local_collection

    looks: list[object] = []
    original = local_collection.calculate_payload_mask

    def counted(payloads: Any, payload_filter: Any, **more: Any) -> Any:
        looks.extend([payload_filter] if payload_filter is not None else [])
        return original(payloads=payloads, payload_filter=payload_filter, **more)

    monkeypatch.setattr(local_collection, "calculate_payload_mask", counted)
    records = [
        Record(record.id, {"modality": modalities[number % len(modalities)]}, vector=record.vector)
        for number, record in enumerate(_vectors(120))
    ]
    tables = []
    for store in (QdrantStore("test", location=":memory:"), MemoryStore()):
        with MultimodalIndex(TinyEmbedder(), store) as index:
            index.add_vectors(records, progress=False)
            index.calibrate()
            tables.append([hit.relevance for hit in index.search("a dog", limit=120)])
    assert len(looks) < 40  # of some 200 searches for each of the modalities
    assert tables[0] == pytest.approx(tables[1], abs=1e-4)


@pytest.mark.parametrize(
    "error", [OSError("input/output error"), KeyError("note"), UnicodeDecodeError("utf-8", b"x", 0, 1, "no")]
)
def test_a_note_that_cannot_be_read_is_none(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """A store of somebody else's may raise anything; a search needs no calibration."""

    class Forgetful(MemoryStore):
        def get_index_metadata(self, name: str, /) -> str | None:
            raise error

    index = MultimodalIndex(TinyEmbedder(), Forgetful(), auto_calibrate=False)
    index.add_texts(["a", "b"])
    hits = index.search("a")
    assert [hit.relevance for hit in hits] == [None, None]
    assert "not calibrated" in hits.relevance_unknown
    assert "hits have no relevance until the index is calibrated again" in caplog.text
