"""Items at fault are found, however they make a batch fail; and a service that is down is nobody's fault."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, cast

import aleph_alpha_server
import numpy as np
import PIL.Image
import pytest
import qdrant_rest_server
from aleph_alpha_server import AlephAlphaServer
from faulty_server import Kind, Received
from tiny_embedder import TinyEmbedder

from multimodal_search import (
    AlephAlphaEmbedder,
    ContentError,
    EmbedderResponseError,
    Image,
    IndexingError,
    IndexReport,
    Item,
    MemoryStore,
    ModelVersionWarning,
    MultimodalIndex,
    QdrantStore,
    Record,
    Role,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
    Text,
)
from multimodal_search._indexing.options import RunOptions
from multimodal_search._indexing.sources import from_items
from multimodal_search.contents import Content
from multimodal_search.types import FloatArray, PointId

BATCH, COUNT = 8, 24


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries after hundredths of a second."""
    monkeypatch.setattr("multimodal_search.embedders.limiter._FIRST_PAUSE_S", 0.02)


def texts_with(server: AlephAlphaServer, culprits: Sequence[int], kind: str) -> list[str]:
    texts = [f"text {number}" for number in range(COUNT)]
    for at in culprits:
        texts[at] = f"poison {at}"
        server.poison[texts[at]] = kind
    return texts


def index_of(server: AlephAlphaServer, **settings: Any) -> MultimodalIndex:
    settings = {"max_batch_size": BATCH, "max_concurrency": 4, "timeout_s": 20.0, "retries": 3, **settings}
    return MultimodalIndex(
        AlephAlphaEmbedder(server.url, server.token, **settings), MemoryStore(), auto_calibrate=False
    )


def culprits_of(report: IndexReport) -> list[int]:
    return sorted(int(failure.name.split()[1]) for failure in report.failed)


def text_or_image(request: Received) -> str:
    return str(request.prompts[0][0]["type"])


# -- one rule for every way of failing ---------------------------------------------------------------------------------

PASSING = ["500 CUDA error", "502 bad gateway", "503 no", "408 late", "reset", "cut", "cut_chunked"]
DEFINITE = [
    "400 no", "422 no", "404 gone", "302 away", "418 no", "200 <html>", '200 {"error": 1}', "200 ", "one_too_few",
    "one_too_many",
]  # fmt: skip


@pytest.mark.parametrize("kind", [*PASSING, *DEFINITE])
def test_an_item_that_makes_every_batch_fail_fails_alone(kind: str) -> None:
    """It is named, its batch-mates are stored, and finding it takes about log2(n) calls."""
    with AlephAlphaServer() as server, index_of(server) as index:
        report = index.add_texts(texts_with(server, [5], kind))
        assert (report.added, culprits_of(report)) == (COUNT - 1, [5])
        # 503 and 408 may mean that the service has too much to do, and are repeated as often as is set.
        repeated = 3 if kind[:3] in ("503", "408") else 2 if kind in PASSING else 0
        probed = kind in DEFINITE[:2]  # a word, to tell whether the settings are refused
        assert len(server.requests) <= COUNT / BATCH + repeated + math.log2(BATCH) + 1 + probed


@pytest.mark.parametrize("kind", ["nan", "infinity", "wrong_dimension", "not_numbers"])
def test_a_row_that_is_no_vector_costs_no_call(kind: str) -> None:
    """The other rows of the answer are as good as ever."""
    with AlephAlphaServer() as server, index_of(server) as index:
        report = index.add_texts(texts_with(server, [5, 9], kind)[:-1])
        assert (report.added, culprits_of(report)) == (COUNT - 3, [5, 9])
        assert len(server.requests) == 3


class Refusing(TinyEmbedder):
    """Refuses texts that hold "poison", and gives rows for the whole batch all the same."""

    def embed(self, contents: Sequence[Content], *, role: Role) -> FloatArray:
        vectors = super().embed(contents, role=role)
        flaws = {number: "a refusal" for number, content in enumerate(contents) if "poison" in str(content)}
        if flaws:
            raise EmbedderResponseError("some were refused", vectors=vectors, flaws=flaws)
        return vectors


def test_a_row_that_an_error_names_is_not_stored_though_it_is_finite() -> None:
    with MultimodalIndex(Refusing(), MemoryStore(), auto_calibrate=False) as index:
        report = index.add_texts(["a", "poison 1", "b"])
        assert (report.added, culprits_of(report)) == (2, [1])


@pytest.mark.parametrize("kind", ["500 no", "200 <html>", "400 no", "413 too large", "reset"])
@pytest.mark.parametrize("culprits", [[0], [7], [3, 4], [0, 9, 17], [0, 1, 2, 3, 5], [21, 22, 23]], ids=str)
def test_several_are_each_found_at_any_position(kind: str, culprits: list[int]) -> None:
    for max_concurrency in (1, 4):
        with AlephAlphaServer() as server, index_of(server, max_concurrency=max_concurrency) as index:
            report = index.add_texts(texts_with(server, culprits, kind))
            assert (report.added, culprits_of(report)) == (COUNT - len(culprits), culprits)


@pytest.mark.parametrize("kind", ["hang", "drip"])
@pytest.mark.parametrize("culprits", [[0], [3, 12]], ids=str)
def test_one_that_hangs_costs_two_more_time_outs(kind: str, culprits: list[int]) -> None:
    with AlephAlphaServer() as server, index_of(server, timeout_s=1.0, max_concurrency=16) as index:
        report = index.add_texts(texts_with(server, culprits, kind))
        assert (report.added, culprits_of(report)) == (COUNT - len(culprits), culprits)
        for at in culprits:
            held = [r for r in server.requests if any(prompt[0]["data"] == f"poison {at}" for prompt in r.prompts)]
            assert len(held) == 3


def test_a_firewall_that_dislikes_one_text_is_not_taken_for_a_wrong_token() -> None:
    with AlephAlphaServer() as server, index_of(server, max_concurrency=1) as index:
        report = index.add_texts(texts_with(server, [13], "403 blocked"))
        assert (report.added, culprits_of(report)) == (COUNT - 1, [13])


def test_without_batch_mates_the_run_ends_at_the_time_out_and_the_next_one_passes() -> None:
    """One deadline holds for one batch, also while others come through."""
    with AlephAlphaServer() as server, index_of(server, max_batch_size=1, timeout_s=1.0) as index:
        texts = texts_with(server, [0], "hang")
        with pytest.raises(IndexingError, match="poison 0"):
            index.add_texts(texts)
        held = [request for request in server.requests if request.prompts[0][0]["data"] == "poison 0"]
        assert len(held) == 1
        assert index.add_texts(texts).unchanged + len(server.requests) >= COUNT - 1
        assert index.count() == COUNT - 1


# -- the service is down -----------------------------------------------------------------------------------------------


def break_down(server: AlephAlphaServer, kind: str, *, at: Collection[int] | None = None) -> None:
    status, _, body = kind.partition(" ")
    if status.isdigit():
        server.answer_with(int(status), body, at=at)
    else:
        server.misbehave(cast("Kind", kind), at=at)


@pytest.mark.parametrize("kind", ["500 no", "200 <html>", "404 gone", "reset", "one_too_few", "429 slow", "hang"])
@pytest.mark.parametrize("count", [1, BATCH, COUNT])
def test_when_everything_fails_it_is_nobodys_fault(kind: str, count: int) -> None:
    with AlephAlphaServer() as server, index_of(server, timeout_s=0.6) as index:
        texts = texts_with(server, [], "")[:count]
        break_down(server, kind)
        with pytest.raises(IndexingError) as caught:
            index.add_texts(texts)
        assert (caught.value.report.added, caught.value.report.failed) == (0, ())
        assert len(server.requests) < 3 * COUNT
        server.behave()
        assert index.add_texts(texts).added == count  # nothing was held against them


@pytest.mark.parametrize("kind", ["500 no", "200 <html>", "reset"])
@pytest.mark.parametrize("at", [0, 3, 5, 7])
def test_a_service_that_breaks_down_while_items_are_tried_is_nobodys_fault(kind: str, at: int) -> None:
    """The one that was looked for may be named, but none of those that were only tried."""
    for after in range(2, 8):
        with AlephAlphaServer() as server, index_of(server, timeout_s=0.6, max_concurrency=1) as index:
            texts = texts_with(server, [at], "404 gone")
            break_down(server, kind, at=range(after, 1000))
            with pytest.raises(IndexingError) as caught:
                index.add_texts(texts)
            assert culprits_of(caught.value.report) in ([], [at])


@pytest.mark.parametrize("kind", [*PASSING[:2], *DEFINITE[:4], "hang", "nan"])
@pytest.mark.parametrize(("count", "at"), [(1, 0), (BATCH + 1, BATCH), (BATCH, 0), (2, 1)])
def test_without_others_one_harmless_call_tells_an_item_from_a_service_that_is_down(
    kind: str, count: int, at: int
) -> None:
    with AlephAlphaServer() as server, index_of(server, timeout_s=1.0) as index:
        report = index.add_texts(texts_with(server, [at], kind)[:count])
        assert (report.added, culprits_of(report)) == (count - 1, [at])


@pytest.mark.parametrize("kind", ["500 no", "200 <html>", "hang"])
def test_a_whole_collection_of_bad_items_is_told_item_by_item(kind: str) -> None:
    with AlephAlphaServer() as server, index_of(server, timeout_s=1.0, max_concurrency=16) as index:
        report = index.add_texts(texts_with(server, range(COUNT), kind))
        assert (report.added, culprits_of(report)) == (0, list(range(COUNT)))
        server.poison.clear()
        assert index.add_texts(["another"]).added == 1


def test_a_harmless_image_stands_for_images() -> None:
    """Where a service cannot take images any more, and takes texts, no image is at fault."""
    images = [Item(Image(PIL.Image.new("RGB", (64, 64), (number, 0, 0))), id=number) for number in range(1, 4)]
    with AlephAlphaServer() as server, index_of(server) as index:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(aleph_alpha_server, "_opened", lambda _: 1 / 0)
            with pytest.raises(IndexingError):
                index.add(images)
            assert index.add_texts(["a"]).added == 1
        assert index.add(images).added == 3
        prompts = [text_or_image(request) for request in server.requests]
        assert prompts.count("text") == 1


def test_nothing_is_called_at_fault_for_being_refused_among_too_many() -> None:
    """429 says nothing of the contents, however often it comes."""
    with (
        AlephAlphaServer(latency_s=0.05, max_in_flight=1) as server,
        index_of(server, max_batch_size=2, max_concurrency=16, timeout_s=0.3) as index,
    ):
        report = index.add_texts(texts_with(server, [], ""))
        assert (report.added, report.failed) == (COUNT, ())


# -- remembered --------------------------------------------------------------------------------------------------------


def run_again(index: MultimodalIndex, texts: Sequence[str], *, retry_failed: bool) -> IndexReport:
    options = RunOptions.of(progress=False, retry_failed=retry_failed)
    return index._indexer.run(from_items(texts), len(texts), options)


def test_what_failed_for_good_is_not_tried_again_until_that_is_asked_for() -> None:
    with AlephAlphaServer() as server, index_of(server) as index:
        texts = texts_with(server, [5, 11], "500 no")
        texts.append("poison 5")  # the same content again
        reasons = [failure.reason for failure in index.add_texts(texts).failed]
        assert len(reasons) == 3
        assert not any("earlier run" in reason for reason in reasons)
        calls = len(server.requests)
        report = index.add_texts(texts)
        assert (report.unchanged, len(report.failed), len(server.requests)) == (COUNT - 2, 3, calls)
        assert all("failed in an earlier run; retry_failed=True" in failure.reason for failure in report.failed)
        assert {failure.stage for failure in report.failed} == {"embed"}
        assert len(run_again(index, texts, retry_failed=True).failed) == 3
        assert len(server.requests) > calls
        server.behave()
        assert run_again(index, texts, retry_failed=True).added == 2
        assert not index.add_texts(texts).failed


def test_what_failed_in_an_earlier_run_is_reported_though_the_store_fails() -> None:
    class Unreadable(MemoryStore):
        is_unreadable = False

        def scan(self, *, where=None, fields=None):  # type: ignore[no-untyped-def]
            if self.is_unreadable and isinstance(where, dict) and set(where) == {"sha256"}:
                raise StoreError("the disk is broken")
            return super().scan(where=where, fields=fields)

    store = Unreadable()
    with MultimodalIndex(TinyEmbedder(refuse=["bad"]), store) as index:
        assert len(index.add_texts(["bad", "good"]).failed) == 1
        store.is_unreadable = True
        with pytest.raises(IndexingError, match="the disk is broken") as caught:
            index.add_texts(["bad", "new"])
        assert [failure.stage for failure in caught.value.report.failed] == ["embed"]


# -- embedders of third parties ----------------------------------------------------------------------------------------


class Foreign(TinyEmbedder):
    """Answers with whatever `answer` makes of the right vectors."""

    def __init__(self, answer: Callable[[Sequence[Any], FloatArray], Any], **settings: Any) -> None:
        super().__init__(max_batch_size=4, **settings)
        self.answer = answer

    def embed(self, contents, /, *, role):  # type: ignore[no-untyped-def]
        return self.answer(contents, super().embed(contents, role=role))


def _bad(contents: Sequence[Any]) -> int | None:
    return next((number for number, content in enumerate(contents) if content.text == "bad"), None)


def _raising(error: Exception) -> Callable[[Sequence[Any], FloatArray], Any]:
    def answer(contents: Sequence[Any], rows: FloatArray) -> Any:
        if _bad(contents) is not None:
            raise error
        return rows

    return answer


def _instead(row: object) -> Callable[[Sequence[Any], FloatArray], Any]:
    return lambda contents, rows: [row if number == _bad(contents) else each for number, each in enumerate(rows)]


@pytest.mark.parametrize(
    "answer",
    [
        _raising(KeyError("pixel_values")),
        _raising(RuntimeError("CUDA out of memory")),
        _raising(MemoryError()),
        _raising(TimeoutError("60 s")),
        _instead(None),
        _instead([]),
        _instead("text"),
        _instead([float("nan")] * 48),
        _instead([1e300] * 48),
        _instead(np.ones(48, complex)),
        _instead([None] * 48),
        _instead(["1.0"] * 48),
        _instead(np.ones((1, 48))),
        lambda contents, rows: None if _bad(contents) is not None else rows,
        lambda contents, rows: "vectors" if _bad(contents) is not None else rows,
        lambda contents, rows: rows[:0] if _bad(contents) is not None else rows,
    ],
)
def test_an_embedder_that_trips_over_one_content_costs_that_alone(
    answer: Callable[[Sequence[Any], FloatArray], Any],
) -> None:
    texts = [f"text {number}" for number in range(12)]
    texts[6] = "bad"
    with MultimodalIndex(Foreign(answer), MemoryStore(), auto_calibrate=False) as index:
        report = index.add_texts(texts)
        assert report.added == 11
        assert [failure.name for failure in report.failed] == ["item 6 (Text('bad'))"]
        assert "tiny" in report.failed[0].reason


@pytest.mark.parametrize(
    "answer",
    [
        lambda contents, rows: (row for row in rows),
        lambda contents, rows: list(rows),
        lambda contents, rows: [row.tolist() for row in rows],
        lambda contents, rows: rows.astype(np.float64),
        lambda contents, rows: np.asfortranarray(rows),
    ],
)
def test_vectors_may_come_in_any_form(answer: Callable[[Sequence[Any], FloatArray], Any]) -> None:
    with MultimodalIndex(Foreign(answer), MemoryStore(), auto_calibrate=False) as index:
        assert index.add_texts([f"text {number}" for number in range(10)]).added == 10
        assert index.search("text 3", limit=1)[0].text == "text 3"


@pytest.mark.parametrize("prepared", [None, "bad", b"bad", 7, ["bad"]], ids=repr)
def test_a_prepare_that_returns_no_content_costs_that_item(prepared: Any) -> None:
    class Preparing(TinyEmbedder):
        def prepare(self, content):  # type: ignore[no-untyped-def]
            return prepared if content == Text("bad") else content

    with MultimodalIndex(Preparing(), MemoryStore(), auto_calibrate=False) as index:
        report = index.add_texts(["good", "bad", "fine"])
        assert report.added == 2
        assert f"`prepare` returned {type(prepared).__name__}" in report.failed[0].reason
        with pytest.raises(ContentError, match="prepare"):
            index.search("bad")


# -- which version of the model ----------------------------------------------------------------------------------------


def test_another_version_of_the_model_is_told_once_a_run() -> None:
    """Vectors of two versions may have nothing in common; the fingerprint is the same."""
    with AlephAlphaServer() as server, index_of(server) as index:
        index.add_texts(["a"])
        server.model_version = "2025-01"
        with pytest.warns(ModelVersionWarning, match=r"'2025-01'.*'2022-04'.*new index") as caught:
            index.add_texts([f"b {number}" for number in range(40)])
        assert len(caught) == 1
        with pytest.warns(ModelVersionWarning):
            index.add_texts(["c"])
        index.search("d")  # was told already
        other = MultimodalIndex(index.embedder, index.store, auto_calibrate=False)
        with pytest.warns(ModelVersionWarning):
            other.search("e")
        index.delete([hit.id for hit in index.search("a", limit=100)])
        index.add_texts(["f"])  # nothing of the old version is left
        server.model_version = "2022-04"
        with pytest.warns(ModelVersionWarning, match=r"'2022-04'.*'2025-01'"):
            index.add_texts(["g"])


# -- processes ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_makes_its_own_connections_and_threads() -> None:
    """And what it does to its embedder is not done to its parent's."""
    with AlephAlphaServer() as server, AlephAlphaEmbedder(server.url, server.token, timeout_s=10) as embedder:
        expected = embedder.embed([Text("red")], role="query")
        child = os.fork()
        if child == 0:
            status = 1
            try:
                embedder.interrupt()
                if np.array_equal(embedder.embed([Text("red")], role="query"), expected):
                    status = 0
                embedder.close()
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        np.testing.assert_array_equal(embedder.embed([Text("red")], role="query"), expected)


# -- writing -----------------------------------------------------------------------------------------------------------


class Picky(MemoryStore):
    """Refuses writes that hold one of the given texts."""

    def __init__(self, refused: Sequence[str], error: Exception) -> None:
        super().__init__()
        self.refused, self.error = set(refused), error
        self.writes: list[int] = []

    def upsert(self, records: Sequence[Record], vectors: FloatArray, /) -> None:
        self.writes.append(len(records))
        if any(record.payload.get("text") in self.refused for record in records):
            raise self.error
        super().upsert(records, vectors)


@pytest.mark.parametrize(
    "error",
    [
        StoreRefusedError("32 MB at most", too_large=True),
        StoreRefusedError("no such value"),
        ContentError("no such value"),
        StoreUnavailableError("connection reset while writing"),
    ],
    ids=["too large", "refused", "content", "cut"],
)
@pytest.mark.parametrize("refused", [[0], [19], [3, 4, 11]], ids=str)
def test_a_record_that_the_store_refuses_costs_itself_alone(error: Exception, refused: list[int]) -> None:
    texts = [f"text {number}" for number in range(20)]
    store = Picky([texts[number] for number in refused], error)
    with MultimodalIndex(TinyEmbedder(), store, auto_calibrate=False) as index:
        report = index.add_texts(texts)
        assert (report.added, index.count()) == (20 - len(refused), 20 - len(refused))
        assert sorted(failure.name for failure in report.failed) == sorted(
            f"item {number} (Text({texts[number]!r}))" for number in refused
        )
        assert {failure.stage for failure in report.failed} == {"write"}


def test_a_store_that_refuses_everything_ends_the_run() -> None:
    texts = [f"text {number}" for number in range(20)]
    with MultimodalIndex(TinyEmbedder(), Picky(texts, StoreRefusedError("strict")), auto_calibrate=False) as index:
        with pytest.raises(IndexingError, match="strict") as caught:
            index.add_texts(texts)
        assert isinstance(caught.value.__cause__, StoreError)
        assert (caught.value.report.added, caught.value.report.failed) == (0, ())


def test_vectors_that_the_store_refuses_cost_themselves_alone() -> None:
    store = Picky(["bad"], StoreRefusedError("no"))
    with MultimodalIndex(TinyEmbedder(), store, auto_calibrate=False) as index:
        vector = np.ones(48, np.float32)
        records = [Record(number, {"text": "bad" if number == 7 else "good"}, vector=vector) for number in range(30)]
        report = index.add_vectors(records)
        assert (report.added, [failure.name for failure in report.failed]) == (29, ["7"])


@pytest.mark.parametrize("way", ["413", "400", "cut"])
def test_a_record_above_the_limit_of_a_server_costs_itself_alone(
    way: Literal["413", "400", "cut"],
) -> None:
    """However the server says so; some hang up while the client is still sending."""
    with qdrant_rest_server.running() as server:
        server.max_request, server.too_large = 300_000, way
        store = QdrantStore("tests", url=server.url)
        with MultimodalIndex(TinyEmbedder(), store, auto_calibrate=False) as index:
            items = [Item(Text(f"text {number}"), payload={"page": "x" * 10_000}) for number in range(20)]
            items[6] = Item(Text("text 6"), payload={"page": "x" * 400_000})
            report = index.add(items)
            assert (report.added, index.count()) == (19, 19)
            assert [(failure.name, failure.stage) for failure in report.failed] == [
                ("item 6 (Text('text 6'))", "write")
            ]
            vector = np.ones(48, np.float32)
            records = [
                Record(number, {"page": "x" * (400_000 if number == 3 else 9)}, vector=vector) for number in range(9)
            ]
            report = index.add_vectors(records)
            assert (report.added, [failure.name for failure in report.failed]) == (8, ["3"])


def test_large_payloads_do_not_pile_up_in_one_write() -> None:
    """Nor in memory: a source may have any number of them."""
    store = Picky([], StoreError("never"))
    seen: list[PointId] = []

    def records():  # type: ignore[no-untyped-def]
        for number in range(30):
            seen.append(number)
            if number > 12:
                assert store.count() > 0  # what came before is on its way
            yield Record(number, {"page": "x" * 2_000_000}, vector=np.ones(48, np.float32))

    with MultimodalIndex(TinyEmbedder(), store, auto_calibrate=False) as index:
        assert index.add_vectors(records()).added == 30
        assert max(store.writes) <= 8
