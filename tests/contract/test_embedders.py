"""The contract of embedders: both of ours keep it, and each wrong one is caught by the test that names its fault."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import itertools
import shutil
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from aleph_alpha_server import TOKEN, AlephAlphaServer
from contract_cases import faults_found

from multimodal_search import AlephAlphaEmbedder, ColorEmbedder, Embedder, EmbedderSpec, Image, Mixed, Role, Text
from multimodal_search.errors import ContentError, EmbedderError, UnreadableContentError
from multimodal_search.testing.embedder import EmbedderContract
from multimodal_search.types import Content, FloatArray, Usage

DIMENSION = 24


class TestColorEmbedder(EmbedderContract):
    @pytest.fixture
    def make_embedder(self) -> Callable[[], Embedder]:
        return ColorEmbedder

    @pytest.fixture
    def in_child(self) -> str:
        return "from multimodal_search import ColorEmbedder; embedder = ColorEmbedder()"


class TestAlephAlphaEmbedder(EmbedderContract):
    @pytest.fixture
    def server(self) -> Iterator[AlephAlphaServer]:
        with AlephAlphaServer() as server:
            yield server

    @pytest.fixture
    def make_embedder(self, server: AlephAlphaServer) -> Callable[[], Embedder]:
        return lambda: AlephAlphaEmbedder(server.url, TOKEN)

    @pytest.fixture
    def in_child(self, server: AlephAlphaServer) -> str:
        make = f"AlephAlphaEmbedder({server.url!r}, {TOKEN!r})"
        return f"from multimodal_search import AlephAlphaEmbedder; embedder = {make}"


class RightEmbedder:
    """Colours of a thumbnail, and hashes of words: right in every respect, so that a fault can be put into it."""

    fingerprint = "right/1"

    def __init__(self) -> None:
        self.spec = EmbedderSpec(
            model="right",
            fingerprint=self.fingerprint,
            dimension=DIMENSION,
            modalities=frozenset({"text", "image", "mixed"}),
            max_batch_size=16,
            max_concurrency=4,
        )

    def embed(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
        return np.array([self.vector(each) for each in contents], np.float32).reshape(-1, DIMENSION)

    def prepare(self, content: Content, /) -> Content:
        match content:
            case Image():
                return Image(self.decode(content))
            case Mixed():
                return Mixed(*(self.prepare(part) for part in content.parts))  # type: ignore[arg-type]
            case Text():
                return content

    def decode(self, image: Image) -> PIL.Image.Image:
        from PIL import ImageOps

        if isinstance(image.source, PIL.Image.Image):
            return image.source.convert("RGB")
        try:
            data = image.source if isinstance(image.source, bytes) else Path(str(image.source)).read_bytes()
            return ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(data))).convert("RGB")
        except Exception as error:
            raise UnreadableContentError(f"{image.label}: {error}") from error

    def vector(self, content: Content) -> FloatArray:
        match content:
            case Text():
                return sum((self.word(word) for word in content.text.split()), np.zeros(DIMENSION, np.float32))
            case Image():
                small = self.decode(content).resize((4, 2), PIL.Image.Resampling.BOX)
                return np.asarray(small, np.float32).ravel() + 1
            case Mixed():
                return np.sum([self.vector(part) for part in content.parts], axis=0)

    def word(self, word: str) -> FloatArray:
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
        return np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)


class TestRightEmbedder(EmbedderContract):
    """A right embedder is caught by none."""

    @pytest.fixture
    def in_child(self) -> str:
        return in_child_of(RightEmbedder)

    @pytest.fixture
    def make_embedder(self) -> Callable[[], Embedder]:
        return RightEmbedder


def in_child_of(kind: type[RightEmbedder]) -> str:
    return f"from test_embedders import {kind.__name__}; embedder = {kind.__name__}()"


# -- wrong ones --------------------------------------------------------------------------------------------------------


class DoublePrecision(RightEmbedder):
    def embed(self, contents: Sequence[Content], /, *, role: Role) -> Any:
        return super().embed(contents, role=role).astype(np.float64)


class ListOfRows(RightEmbedder):
    def embed(self, contents: Sequence[Content], /, *, role: Role) -> Any:
        return list(super().embed(contents, role=role))


class NothingForNothing(RightEmbedder):
    def embed(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
        return super().embed(contents, role=role) if contents else np.zeros((0,), np.float32)


class SortedByLength(RightEmbedder):
    """As models' libraries do, which then forget to put the rows back."""

    def embed(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
        return super().embed(sorted(contents, key=repr), role=role)


class ScaledByBatch(RightEmbedder):
    """As a graph does that quantises dynamically."""

    def embed(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
        rows = super().embed(contents, role=role)
        scale = np.abs(rows).max(initial=1e-6) / 127
        return np.rint(rows / scale) * scale


class PlaceInTheBatch(RightEmbedder):
    def embed(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
        return super().embed(contents, role=role) + 0.01 * np.arange(len(contents), dtype=np.float32)[:, None]


class LastOfTwoWins(RightEmbedder):
    """Keeps vectors by a key that is not unique."""

    def embed(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
        by_type = {type(each): self.vector(each) for each in contents}
        return np.array([by_type[type(each)] for each in contents], np.float32).reshape(-1, DIMENSION)


class SharedBuffer(RightEmbedder):
    buffer = np.zeros((64, DIMENSION), np.float32)

    def embed(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
        self.buffer[: len(contents)] = super().embed(contents, role=role)
        return self.buffer[: len(contents)]


class SharedState(RightEmbedder):
    """Puts what it works on into itself."""

    def embed(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
        self.current = contents
        time.sleep(0.002)
        return super().embed(self.current, role=role)


class ReadsPaths(RightEmbedder):
    def vector(self, content: Content) -> FloatArray:
        if isinstance(content, Text) and Path(content.text).suffix and Path(content.text).exists():
            return super().vector(Image(content.text))
        return super().vector(content)


class Fetches(RightEmbedder):
    def vector(self, content: Content) -> FloatArray:
        if isinstance(content, Text) and content.text.startswith("http://"):
            try:
                with urllib.request.urlopen(content.text) as answer:
                    return super().vector(Image(answer.read()))
            except OSError:
                pass
        return super().vector(content)


class ObeysTokens(RightEmbedder):
    def vector(self, content: Content) -> FloatArray:
        return super().vector(
            Text(content.text.partition("<|endoftext|>")[0]) if isinstance(content, Text) else content
        )


class DecodesDataUris(RightEmbedder):
    def vector(self, content: Content) -> FloatArray:
        if isinstance(content, Text) and content.text.startswith("data:image/png;base64,"):
            with contextlib.suppress(ValueError):
                return super().vector(Image(base64.b64decode(content.text.partition(",")[2])))
        return super().vector(content)


class OpensFileAddresses(RightEmbedder):
    def vector(self, content: Content) -> FloatArray:
        if isinstance(content, Text) and content.text.startswith("file:"):
            with contextlib.suppress(OSError), urllib.request.urlopen(content.text) as file:
                return super().vector(Image(file.read()))
        return super().vector(content)


class RefusesDataUris(RightEmbedder):
    def vector(self, content: Content) -> FloatArray:
        if isinstance(content, Text) and content.text.startswith("data:"):
            raise ValueError("not a data URI that I know")
        return super().vector(content)


class FailsOnLongTexts(RightEmbedder):
    def vector(self, content: Content) -> FloatArray:
        if isinstance(content, Text) and len(content.text) > 10_000:
            raise RuntimeError("index out of range in self")
        return super().vector(content)


class FingerprintOfAHash(RightEmbedder):
    fingerprint = f"hash/{hash('right')}"


class FingerprintOfTheMoment(RightEmbedder):
    counter = itertools.count()

    def __init__(self) -> None:
        self.fingerprint = f"moment/{next(self.counter)}"
        super().__init__()


class HoldsALock(RightEmbedder):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class LiesOnItsSide(RightEmbedder):
    def decode(self, image: Image) -> PIL.Image.Image:
        if isinstance(image.source, bytes):
            return PIL.Image.open(io.BytesIO(image.source)).convert("RGB")
        return super().decode(image)


class PreparesTwice(RightEmbedder):
    """Each `prepare` takes a part away."""

    def prepare(self, content: Content, /) -> Content:
        prepared = super().prepare(content)
        if isinstance(prepared, Image) and isinstance(prepared.source, PIL.Image.Image):
            width, height = prepared.source.size
            return Image(prepared.source.crop((0, 0, width // 2 + 1, height)))
        return prepared


class BareErrors(RightEmbedder):
    def decode(self, image: Image) -> PIL.Image.Image:
        if isinstance(image.source, bytes):
            return PIL.Image.open(io.BytesIO(image.source)).convert("RGB")
        return super().decode(image)


class PaintsOnIt(RightEmbedder):
    def vector(self, content: Content) -> FloatArray:
        vector = super().vector(content)
        if isinstance(content, Image) and isinstance(content.source, PIL.Image.Image):
            content.source.putpixel((0, 0), 0)
        return vector


class AllTheSame(RightEmbedder):
    def vector(self, content: Content) -> FloatArray:
        return np.ones(DIMENSION, np.float32)


class HalvesBatches(RightEmbedder):
    def embed(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
        if len(contents) > self.spec.max_batch_size // 2:
            raise ContentError("too many at once")
        return super().embed(contents, role=role)


class MixesUpRoles(RightEmbedder):
    """Gives one number less to search with."""

    def embed(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
        rows = super().embed(contents, role=role)
        return rows[:, 1:] if role == "query" else rows


class NeverRecovers(RightEmbedder):
    """Once interrupted, always interrupted."""

    stopped = False

    def interrupt(self) -> None:
        self.stopped = True

    def embed(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
        if self.stopped:
            raise EmbedderError("interrupted")
        return super().embed(contents, role=role)


class CountsBackwards(RightEmbedder):
    """Tells the usage of the last call."""

    usage = Usage(calls=1, bytes_sent=0)


class PreparesSomethingElse(RightEmbedder):
    """Makes an image of a mixture."""

    def prepare(self, content: Content, /) -> Content:
        return super().prepare(content.parts[-1] if isinstance(content, Mixed) else content)  # type: ignore[arg-type]


class PadsToTheLongest(RightEmbedder):
    def embed(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
        longest = max((len(each.text) for each in contents if isinstance(each, Text)), default=0)
        return super().embed(contents, role=role) + np.float32(longest / 100)


WRONG: list[tuple[type[RightEmbedder], str]] = [
    (DoublePrecision, "test_an_answer_is_one_finite_row_of_float32_for_each_content"),
    (ListOfRows, "test_an_answer_is_one_finite_row_of_float32_for_each_content"),
    (NothingForNothing, "test_no_contents_give_no_rows"),
    (SortedByLength, "test_a_vector_depends_on_the_content_alone"),
    (ScaledByBatch, "test_a_vector_depends_on_the_content_alone"),
    (PlaceInTheBatch, "test_a_vector_depends_on_the_content_alone"),
    (LastOfTwoWins, "test_different_contents_have_different_vectors"),
    (SharedBuffer, "test_an_answer_stays_as_it_is"),
    (SharedState, "test_threads_get_their_own_answers"),
    (MixesUpRoles, "test_an_answer_is_one_finite_row_of_float32_for_each_content"),
    (PadsToTheLongest, "test_long_and_short_texts_do_not_change_each_other"),
    (NeverRecovers, "test_after_an_interrupt_it_works_as_before"),
    (CountsBackwards, "test_usage_grows"),
    (PreparesSomethingElse, "test_preparing_changes_no_vector"),
    (DecodesDataUris, "test_a_text_is_never_decoded"),
    (OpensFileAddresses, "test_a_text_is_never_read_as_a_file"),
    (ReadsPaths, "test_a_text_is_never_read_as_a_file"),
    (Fetches, "test_a_text_is_never_fetched"),
    (ObeysTokens, "test_special_tokens_in_a_text_are_text"),
    (RefusesDataUris, "test_a_text_that_looks_like_something_else_is_a_text"),
    (FailsOnLongTexts, "test_a_very_long_text_is_embedded_or_refused"),
    (FingerprintOfAHash, "test_another_process_makes_the_same_vectors_under_the_same_fingerprint"),
    (FingerprintOfTheMoment, "test_two_of_the_same_settings_have_one_fingerprint"),
    (HoldsALock, "test_a_pickle_of_it_works_or_is_refused_in_words"),
    (LiesOnItsSide, "test_images_are_turned_upright"),
    (PreparesTwice, "test_preparing_changes_no_vector"),
    (BareErrors, "test_a_broken_image_is_refused_as_a_content"),
    (PaintsOnIt, "test_what_it_is_given_stays_as_it_is"),
    (AllTheSame, "test_different_contents_have_different_vectors"),
    (HalvesBatches, "test_a_full_batch_is_taken"),
]


@pytest.mark.parametrize(("wrong", "test"), WRONG, ids=[wrong.__name__ for wrong, _ in WRONG])
def test_a_wrong_embedder_is_caught(
    wrong: type[RightEmbedder], test: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fixtures() -> dict[str, Any]:
        folder = tmp_path / "files"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        given: dict[str, Any] = {"make_embedder": wrong, "embedder": wrong(), "in_child": in_child_of(wrong)}
        return given | {"tmp_path": folder, "monkeypatch": monkeypatch}

    found = faults_found(EmbedderContract(), test, fixtures)
    monkeypatch.undo()
    assert found, f"{test} does not notice"
