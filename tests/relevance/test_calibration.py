"""Relevance: what a score means in one index, against NumPy."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_embedder import TinyEmbedder, image

from multimodal_search import (
    ColorEmbedder,
    ConfigurationError,
    EmbedderError,
    Image,
    MemoryStore,
    Mixed,
    QdrantEdgeStore,
    Record,
    Role,
    StoreSchema,
    VectorStore,
)
from multimodal_search._relevance.calibration import LEVELS, Calibration, calibrate
from multimodal_search._relevance.reference_bank import ReferenceBank, embed_bank
from multimodal_search._relevance.reference_texts import REFERENCE_TEXTS
from multimodal_search.contents import Content, Modality
from multimodal_search.embedders.guarded import GuardedEmbedder
from multimodal_search.types import FloatArray

DIMENSION = 24


def unit(count: int, *, seed: int, dimension: int = DIMENSION) -> FloatArray:
    rows = np.random.default_rng(seed).standard_normal((count, dimension), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def bank_of(text: FloatArray, image: FloatArray | None = None) -> ReferenceBank:
    none = np.empty((0, text.shape[1]), np.float32)
    return ReferenceBank(fingerprint="f", origin="own", text=text, image=none if image is None else image)


@pytest.fixture(params=["memory", "edge"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VectorStore]:
    store: VectorStore = MemoryStore() if request.param == "memory" else QdrantEdgeStore(tmp_path / "index")
    store.ensure(StoreSchema(model="m", fingerprint="f", dimension=DIMENSION))
    yield store
    store.close()


def fill(store: VectorStore, rows: FloatArray, modality: Modality, start: int = 0) -> None:
    store.upsert([Record(start + number, {"modality": modality}) for number in range(len(rows))], rows)


def without_copies(scores: FloatArray) -> float:
    """The first of falling scores after the last gap among the first nine, written down anew."""
    distances = 1 - scores[:9].astype(float)
    gaps = np.flatnonzero(distances[1:] > 1.65 * distances[:-1])
    return float(scores[gaps[-1] + 1 if len(gaps) else 0])


def gumbel(values: FloatArray) -> tuple[float, float]:
    """By least squares over the sorted values from the 10th to the 70th hundredth, written down anew."""
    places = (np.arange(len(values)) + 0.5) / len(values)
    body = (places >= 0.1) & (places <= 0.7)
    scale, location = np.polyfit(-np.log(-np.log(places[body])), np.sort(values.astype(float))[body], 1)
    return float(location), float(scale)


def test_a_texts_relevance_comes_from_the_reference_queries_best_scores(store: VectorStore) -> None:
    """The known answer: the share of them that stay below the score, or the Gumbel fit, if that is more."""
    images, texts = unit(300, seed=1), unit(120, seed=2)
    fill(store, images, "image")
    fill(store, texts[:40], "text", start=1000)  # another modality, where every text of the bank finds itself
    calibration = calibrate(store, bank_of(texts))
    best = np.sort((texts @ images.T).max(axis=1))
    location, scale = gumbel(best)
    for score in np.quantile(best, np.linspace(0.05, 0.99, 50)):
        counted = np.interp(score, best, (np.arange(120) + 0.5) / 120)
        fitted = np.exp(-np.exp(-(score - location) / scale))
        assert calibration.relevance("text", "image", score) == pytest.approx(max(counted, fitted), abs=0.01)
    for score in (best[-1] + scale, best[-1] + 2 * scale):  # beyond what was counted, the tail goes on
        expected = np.exp(-np.exp(-(score - location) / scale))
        assert calibration.relevance("text", "image", score) == pytest.approx(expected, abs=0.003)


def test_an_images_relevance_comes_from_the_images_that_are_there(store: VectorStore) -> None:
    """Each is searched for among all others: the share of them whose best score is lower, or the fit, if that is more.

    The fit is Gumbel's for -log(1 - score): distances to nearest neighbours follow a Weibull distribution.
    """
    images = unit(200, seed=3)
    fill(store, images, "image")
    calibration = calibrate(store, bank_of(unit(0, seed=0)))
    cosines = images @ images.T
    np.fill_diagonal(cosines, -1)
    best = np.sort([without_copies(np.sort(row)[::-1]) for row in cosines])
    location, scale = gumbel(-np.log(1 - best))
    assert set(calibration.tables) == {("image", "image")}
    for score in np.quantile(best, np.linspace(0.1, 0.97, 30)):
        counted = np.interp(score, best, (np.arange(200) + 0.5) / 200)
        fitted = np.exp(-np.exp(-(-np.log(1 - score) - location) / scale))
        assert calibration.relevance("image", "image", score) == pytest.approx(max(counted, fitted), abs=0.03)


def test_twins_do_not_raise_the_bar_for_images(store: VectorStore) -> None:
    """Bursts are in every camera roll: counting alone would ask for a score as high as between two of a burst."""
    images = unit(200, seed=4)
    noise = 0.05 * np.random.default_rng(5).standard_normal((20, DIMENSION), np.float32)
    fill(store, np.concatenate([images, images[:20] + noise]), "image")
    calibration = calibrate(store, bank_of(unit(0, seed=0)))
    alone = np.quantile((images @ images.T - 2 * np.eye(200)).max(axis=1), 0.995)
    relevance = calibration.relevance("image", "image", (1 + float(alone)) / 2)
    assert relevance is not None
    assert relevance > 0.99


def test_the_same_image_twice_is_no_neighbour(store: VectorStore) -> None:
    images = unit(60, seed=6)
    fill(store, np.concatenate([images, images]), "image")
    fill(store, images, "image", start=500)
    twice = calibrate(store, bank_of(unit(0, seed=0))).tables["image", "image"]
    assert twice[LEVELS.index(0.5)] == pytest.approx(
        np.median((images @ images.T - 2 * np.eye(60)).max(axis=1)), abs=0.01
    )


def test_true_matches_in_the_bank_do_not_raise_the_bar(store: VectorStore) -> None:
    """To ask for a dog is neutral, and in some collections it finds dogs."""
    images, texts = unit(300, seed=7), unit(120, seed=8)
    fill(store, images, "image")
    neutral = calibrate(store, bank_of(texts)).tables["text", "image"]
    matching = np.concatenate([texts[:100], images[:20] + 0.1 * texts[100:]])
    mixed = calibrate(store, bank_of(matching)).tables["text", "image"]
    at = LEVELS.index(0.95)
    counted = np.quantile((matching / np.linalg.norm(matching, axis=1, keepdims=True) @ images.T).max(axis=1), 0.95)
    assert counted > 0.9
    assert mixed[at] == pytest.approx(neutral[at], abs=0.1)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    store = MemoryStore()
    store.ensure(StoreSchema(model="m", fingerprint="f", dimension=DIMENSION))
    fill(store, unit(100, seed=9), "image")
    return calibrate(store, bank_of(unit(100, seed=10)))


@given(scores=st.lists(st.floats(-1.01, 1.01), min_size=2, max_size=20), kind=st.sampled_from(["text", "image"]))
def test_relevance_is_between_0_and_1_and_never_falls_as_the_score_rises(
    calibration: Calibration, scores: list[float], kind: str
) -> None:
    found = [calibration.relevance("text" if kind == "text" else "image", "image", score) for score in sorted(scores)]
    values = [each for each in found if each is not None]
    assert len(values) == len(scores)
    assert all(0 <= each <= 1 for each in values)
    assert values == sorted(values)


def test_what_was_not_calibrated_has_no_relevance(calibration: Calibration) -> None:
    """No text is in that index, and a point of another program does not say what it is."""
    assert calibration.relevance("text", "text", 0.9) is None
    assert calibration.relevance("text", None, 0.9) is None
    assert calibration.relevance("text", "image", 0.9) is not None


@pytest.mark.parametrize("count", [0, 1, 19])
def test_too_few_points_are_not_calibrated(store: VectorStore, count: int) -> None:
    fill(store, unit(count, seed=11), "image")
    assert calibrate(store, bank_of(unit(100, seed=12))).tables == {}


def test_points_that_are_all_the_same_are_not_calibrated(store: VectorStore) -> None:
    fill(store, np.repeat(unit(1, seed=13), 50, axis=0), "image")
    assert ("image", "image") not in calibrate(store, bank_of(unit(100, seed=14))).tables


def test_where_most_neutral_texts_score_alike_they_are_counted(store: VectorStore) -> None:
    """Models that know only some words place all others where no image is."""
    images, texts = unit(100, seed=27), np.zeros((100, DIMENSION), np.float32)
    images[:, 0], texts[:80, 0], texts[80:] = 0, 1, images[80:] + 0.2 * unit(20, seed=28)
    fill(store, images, "image")
    calibration = calibrate(store, bank_of(texts))
    assert [calibration.relevance("text", "image", score) for score in (-0.1, 0.01)] == pytest.approx(
        [0, 0.8], abs=0.01
    )
    assert calibration.relevance("text", "image", 0.9999) == LEVELS[-1]


def test_an_index_that_has_changed_by_a_tenth_is_calibrated_anew() -> None:
    bank, other = bank_of(unit(20, seed=1)), bank_of(unit(20, seed=2))
    calibration = Calibration(bank=bank.digest, count=1000, tables={})
    stale = [calibration.is_stale(count, bank) for count in (880, 900, 1000, 1100, 1120)]
    assert stale == [True, False, False, False, True]
    assert calibration.is_stale(1000, other)
    assert Calibration(bank=bank.digest, count=0, tables={}).is_stale(1, bank)


def test_a_calibration_comes_back_from_its_note(calibration: Calibration) -> None:
    note = calibration.to_note()
    assert Calibration.from_note(note) == calibration
    assert len(note) < 20_000


def test_a_bank_comes_back_from_its_note_up_to_a_thousandth() -> None:
    bank = bank_of(unit(122, seed=15, dimension=5120), unit(5, seed=16, dimension=5120))
    note = bank.to_note()
    again = ReferenceBank.from_note(note)
    assert again is not None
    assert (again.fingerprint, again.origin, again.text.dtype) == ("f", "own", np.float32)
    documents = unit(50, seed=17, dimension=5120)
    assert np.abs(again.text @ documents.T - bank.text @ documents.T).max() < 0.001
    assert (bank.text * again.text).sum(axis=1).min() > 0.999
    assert again.image.shape == bank.image.shape
    assert len(note) < 1_000_000


def test_an_empty_bank_comes_back_from_its_note() -> None:
    again = ReferenceBank.from_note(bank_of(unit(0, seed=0)).to_note())
    assert again is not None
    assert again.text.shape == again.image.shape == (0, DIMENSION)


def damaged(note: str) -> Iterator[str]:
    """Cut, and with each field gone or of another type."""
    yield from ("", "null", "[]", "1", "{}", "no JSON", "[" * 100_000, note[: len(note) // 2])
    fields = json.loads(note)
    for name in fields:
        yield json.dumps({key: value for key, value in fields.items() if key != name})
        yield from (json.dumps({**fields, name: value}) for value in (None, 0, -1.5, [], [1], {"text/image": [1, 2]}))
    yield json.dumps({**fields, "version": 2})


def test_a_damaged_note_means_not_calibrated(calibration: Calibration) -> None:
    """Searching goes on without relevance; no index fails to open because of it."""
    for note in damaged(calibration.to_note()):
        read = Calibration.from_note(note)
        assert read is None or all(0 <= (read.relevance(*key, 0.5) or 0) <= 1 for key in read.tables), note[:80]
    scores = list(calibration.tables["text", "image"])
    for table in ([*scores[:-1], float("nan")], scores[::-1], scores[1:], [*scores[:-1], 10**400], ["x", *scores[1:]]):
        fields = {**json.loads(calibration.to_note()), "tables": {"text/image": table}}
        assert Calibration.from_note(json.dumps(fields)) is None
    assert Calibration.from_note(None) is None


def test_a_damaged_bank_is_embedded_again() -> None:
    note = bank_of(unit(30, seed=18)).to_note()
    fields = json.loads(note)
    texts = fields["text"]
    for broken in (
        *({**texts, "shape": shape} for shape in ([29, DIMENSION], [-1, DIMENSION], [30], None, [float("inf"), 1])),
        *({**texts, "int8": data} for data in ("AA", "\u00e4", None, texts["int8"][:-8])),
    ):
        assert ReferenceBank.from_note(json.dumps({**fields, "text": broken})) is None
    for short in damaged(note):
        read = ReferenceBank.from_note(short)
        assert read is None or isinstance(read.origin, str)
    assert ReferenceBank.from_note(None) is None


def test_the_librarys_own_texts_are_enough_and_differ() -> None:
    assert len(set(REFERENCE_TEXTS)) == len(REFERENCE_TEXTS) >= 100
    assert all(text == text.strip() and text for text in REFERENCE_TEXTS)


def test_the_bank_is_embedded_as_queries_in_batches() -> None:
    embedder = TinyEmbedder(max_batch_size=50)
    bank = embed_bank(GuardedEmbedder(embedder))
    assert bank.text.shape == (len(REFERENCE_TEXTS), 48)
    assert np.allclose(np.linalg.norm(bank.text, axis=1), 1, atol=1e-6)
    assert bank.image.shape == (0, 48)
    assert set(embedder.roles) == {"query"}
    assert embedder.calls == [50, 50, len(REFERENCE_TEXTS) - 100]
    assert bank.serves(embedder.spec)
    assert not bank.serves(TinyEmbedder(model="other").spec)


def test_texts_that_the_embedder_refuses_are_left_out() -> None:
    refused = (REFERENCE_TEXTS[3], REFERENCE_TEXTS[77])
    bank = embed_bank(GuardedEmbedder(TinyEmbedder(refuse=refused)))
    expected = embed_bank(GuardedEmbedder(TinyEmbedder()))
    kept = [row for row, text in enumerate(REFERENCE_TEXTS) if text not in refused]
    assert np.array_equal(bank.text, expected.text[kept])


def test_an_embedder_that_refuses_most_texts_has_no_neutral_ones() -> None:
    """What a colour embedder understands names colours, which every collection holds: such a bank proves nothing."""
    bank = embed_bank(GuardedEmbedder(ColorEmbedder()))
    assert bank.text.shape[0] == 0
    phrases = [f"{word} {number}" for number in range(20) for word in ("red", "no colour at all")]
    own = embed_bank(GuardedEmbedder(ColorEmbedder()), phrases)
    assert own.text.shape[0] == 20


def test_an_embedder_of_images_alone_has_no_bank_of_texts() -> None:
    class Images(TinyEmbedder):
        def __init__(self) -> None:
            super().__init__()
            self.spec = type(self.spec)(model="images", fingerprint="p", dimension=48, modalities=frozenset({"image"}))

        def embed(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
            raise AssertionError("nothing is to be embedded")

    assert embed_bank(GuardedEmbedder(Images())).text.shape == (0, 48)


def test_the_users_own_bank_takes_the_place_of_the_librarys() -> None:
    embedder = GuardedEmbedder(TinyEmbedder())
    own = embed_bank(embedder, [f"query {number}" for number in range(30)])
    assert (own.text.shape, own.image.shape, own.origin) == ((30, 48), (0, 48), "own")
    both = embed_bank(embedder, [Image(image(number)) for number in range(25)])
    assert (both.text.shape[0], both.image.shape[0]) == (len(REFERENCE_TEXTS), 25)
    assert len(embed_bank(embedder, (f"query {number}" for number in range(5000))).text) == 500


def test_the_users_own_images_calibrate_searches_by_image(store: VectorStore) -> None:
    images, own = unit(300, seed=19), unit(100, seed=20)
    fill(store, images, "image")
    table = calibrate(store, bank_of(unit(0, seed=0), own)).tables["image", "image"]
    assert table[LEVELS.index(0.5)] == pytest.approx(np.median((own @ images.T).max(axis=1)), abs=0.02)


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        ([], "there are no reference queries"),
        ("a dog", "not one of them"),
        ([f"dog {number}" for number in range(19)], "of the 19 given texts tiny can embed 19"),
        ([Image(b"no image %d" % number) for number in range(30)], "of the 30 given images tiny can embed 0"),
        ([Mixed("a dog", Image(image(1)))] * 30, "neither"),
    ],
)
def test_a_bank_that_cannot_serve_is_refused(queries: Sequence[str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        embed_bank(GuardedEmbedder(TinyEmbedder()), queries)


def test_an_embedder_that_fails_is_heard() -> None:
    """The caller decides what a missing calibration means; a bank of the texts that happened to work would lie."""

    def fail(call: int) -> None:
        if call == 2:
            raise EmbedderError("gone")

    with pytest.raises(EmbedderError):
        embed_bank(GuardedEmbedder(TinyEmbedder(before=fail, max_concurrency=1)))
