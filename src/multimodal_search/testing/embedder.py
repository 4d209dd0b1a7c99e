"""The contract of `Embedder`, as tests: what every embedder must do, at every edge.

A backend's own tests subclass it and bring two fixtures. It needs the extra `testing`, which is pytest and hypothesis.

    class TestMyEmbedder(EmbedderContract):
        @pytest.fixture
        def make_embedder(self):
            return MyEmbedder

        @pytest.fixture
        def in_child(self):
            return "from my_package import MyEmbedder; embedder = MyEmbedder()"
"""
# ruff: noqa: S101 (these are tests)

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import ClassVar, get_args

import numpy as np
import pytest

from multimodal_search.contents import Content, Image, Modality, Text
from multimodal_search.protocols import Embedder, SupportsInterrupt, SupportsUsage
from multimodal_search.testing._child import output_of
from multimodal_search.testing._concurrency import run_at_once
from multimodal_search.testing._embedding_images import EmbeddingImagesContract
from multimodal_search.testing._embedding_texts import EmbeddingTextsContract
from multimodal_search.testing._images import image, pixels_of
from multimodal_search.types import EmbedderSpec, Role, Usage

_IN_CHILD = """
import json, sys
from multimodal_search.contents import Image, Text
from multimodal_search.testing._images import image

names = {}
exec(sys.argv[1], names)
embedder = names["embedder"]
content = Text(sys.argv[2]) if "text" in embedder.spec.modalities else Image(image(1))
vector = embedder.embed([content], role="document")[0]
print(json.dumps([embedder.spec.fingerprint, [float(number) for number in vector]]))
"""


class EmbedderContract(EmbeddingTextsContract, EmbeddingImagesContract):
    """Subclass it, name the class `Test...`, and bring the fixtures `make_embedder` and `in_child`.

    Attributes:
        texts: Texts that the embedder can embed, of different vectors; at least four.
        tolerance: The largest distance between two vectors of one content, as a share of their length.
    """

    texts: ClassVar[Sequence[str]] = ("a red house", "ein blaues Boot", "un oiseau vert", "a black and white cat")
    tolerance: ClassVar[float] = 1e-4

    @pytest.fixture
    def make_embedder(self) -> Callable[[], Embedder]:
        """Makes the embedder, anew at each call, with the same settings."""
        raise NotImplementedError("bring a fixture `make_embedder` that gives a function which makes your embedder")

    @pytest.fixture
    def in_child(self) -> str:
        """Python code that makes the same embedder in another process, as a variable `embedder`."""
        raise NotImplementedError(
            "bring a fixture `in_child` that gives Python code, such as\n"
            "    from my_package import MyEmbedder; embedder = MyEmbedder()"
        )

    @pytest.fixture
    def embedder(self, make_embedder: Callable[[], Embedder]) -> Iterator[Embedder]:
        """One embedder, ready for use; closed at the end if it can be."""
        embedder = make_embedder()
        yield embedder
        close = getattr(embedder, "close", None)
        if close is not None:
            close()

    def test_it_is_an_embedder(self, embedder: Embedder) -> None:
        """A method that is missing would only be missed in the middle of a run."""
        assert isinstance(embedder, Embedder)

    def test_the_spec_is_whole_and_never_changes(self, embedder: Embedder) -> None:
        """An index relies on it from beginning to end, and keeps the fingerprint for years."""
        spec = embedder.spec
        assert isinstance(spec, EmbedderSpec)
        assert spec.model.strip()
        assert spec.fingerprint.strip()
        assert spec.modalities
        assert spec.modalities <= set(get_args(Modality))
        before = copy.copy(spec)
        self._embed(embedder, self._contents(embedder))
        assert embedder.spec == before

    def test_two_of_the_same_settings_have_one_fingerprint(self, make_embedder: Callable[[], Embedder]) -> None:
        """Otherwise an index could not be opened again."""
        first, second = make_embedder(), make_embedder()
        assert first.spec == second.spec
        contents = self._contents(first)
        self._assert_equal(self._embed(first, contents), self._embed(second, contents))

    def test_another_process_makes_the_same_vectors_under_the_same_fingerprint(
        self, embedder: Embedder, in_child: str
    ) -> None:
        """A fingerprint from `hash`, `id` or the time locks users out of their own index; seeds must be fixed, too."""
        content: Content = Text(self.texts[0]) if "text" in embedder.spec.modalities else Image(image(1))
        expected = self._embed(embedder, [content])
        for seed in ("1", "2"):
            said = output_of(_IN_CHILD, in_child, self.texts[0], PYTHONHASHSEED=seed)
            fingerprint, vector = json.loads(said)
            assert fingerprint == embedder.spec.fingerprint
            self._assert_equal(np.array([vector], np.float32), expected)

    def test_a_pickle_of_it_works_or_is_refused_in_words(self, embedder: Embedder) -> None:
        """Process pools pickle what they are given: a bare "cannot pickle '_thread.lock' object" helps nobody."""
        contents = self._contents(embedder)
        before = self._embed(embedder, contents)  # loaded lazily, perhaps
        try:
            data = pickle.dumps(embedder)
        except Exception as error:
            if type(embedder).__name__ in str(error):
                return
            raise
        again = pickle.loads(data)  # noqa: S301 (made here)
        assert again.spec == embedder.spec
        self._assert_equal(self._embed(again, contents), before)

    @pytest.mark.parametrize("role", get_args(Role))
    def test_an_answer_is_one_finite_row_of_float32_for_each_content(self, embedder: Embedder, role: Role) -> None:
        """Anything else is refused in the middle of a run."""
        contents = self._contents(embedder)
        vectors = self._embed(embedder, contents, role=role)
        assert isinstance(vectors, np.ndarray)
        assert vectors.dtype == np.float32
        assert vectors.shape == (len(contents), embedder.spec.dimension)
        assert np.isfinite(vectors).all()
        assert (np.linalg.norm(vectors, axis=1) > 0).all(), "a zero vector has no direction, so nothing finds it"

    @pytest.mark.parametrize("role", get_args(Role))
    def test_no_contents_give_no_rows(self, embedder: Embedder, role: Role) -> None:
        """The shape still tells the dimension."""
        vectors = embedder.embed([], role=role)
        assert vectors.shape == (0, embedder.spec.dimension)
        assert vectors.dtype == np.float32

    def test_different_contents_have_different_vectors(self, embedder: Embedder) -> None:
        """An answer that is the same for everything passes every other test."""
        vectors = self._embed(embedder, self._contents(embedder))
        for number, row in enumerate(vectors):
            for other in vectors[number + 1 :]:
                assert not self._is_close(row, other)

    @pytest.mark.parametrize("role", get_args(Role))
    def test_a_vector_depends_on_the_content_alone(self, embedder: Embedder, role: Role) -> None:
        """Not on the batch, the place in it, or what came before: else indexing twice gives two answers."""
        contents = self._contents(embedder)
        alone = np.concatenate([self._embed(embedder, [content], role=role) for content in contents])
        self._assert_equal(self._embed(embedder, contents, role=role), alone)
        self._assert_equal(self._embed(embedder, contents[::-1], role=role), alone[::-1])
        twice = [contents[0], *contents[:2], contents[0]]
        self._assert_equal(self._embed(embedder, twice, role=role), alone[[0, 0, 1, 0]])

    def test_long_and_short_texts_do_not_change_each_other(self, embedder: Embedder) -> None:
        """Padding to the longest text of a batch must not reach into the vectors of the others."""
        if "text" not in embedder.spec.modalities:
            pytest.skip("it embeds no texts")
        short, long = Text(self.texts[0]), Text(" ".join([*self.texts[1:]] * 4))
        alone = np.concatenate([self._embed(embedder, [each]) for each in (short, long)])
        self._assert_equal(self._embed(embedder, [short, long]), alone)

    def test_a_full_batch_is_taken(self, embedder: Embedder) -> None:
        """`spec.max_batch_size` is what the library sends."""
        contents = self._contents(embedder)
        full = [contents[number % len(contents)] for number in range(embedder.spec.max_batch_size)]
        vectors = self._embed(embedder, full)
        assert len(vectors) == len(full)
        self._assert_equal(vectors[: len(contents)], self._embed(embedder, contents[: len(full)]))

    def test_an_answer_stays_as_it_is(self, embedder: Embedder) -> None:
        """An array that the next call writes to again would change vectors that wait to be stored."""
        contents = self._contents(embedder)
        first = self._embed(embedder, contents[:1])
        kept = first.copy()
        self._embed(embedder, contents[1:2])
        np.testing.assert_array_equal(first, kept)

    def test_what_it_is_given_stays_as_it_is(self, embedder: Embedder) -> None:
        """The caller may send the same contents again, and shows the same images to others."""
        contents, size = self._contents(embedder), embedder.spec.max_batch_size
        pixels = [pixels_of(content) for content in contents]
        for start in range(0, len(contents), size):
            given = contents[start : start + size]
            embedder.embed(given, role="document")
            assert given == contents[start : start + size]
        assert [pixels_of(content) for content in contents] == pixels

    def test_threads_get_their_own_answers(self, embedder: Embedder) -> None:
        """Up to `spec.max_concurrency` calls come at once."""
        contents = self._contents(embedder)
        alone = [self._embed(embedder, [content]) for content in contents]

        def ask(first: int) -> None:
            for number in range(first, first + 2 * len(contents)):
                at = number % len(contents)
                self._assert_equal(embedder.embed([contents[at]], role="document"), alone[at])

        run_at_once([partial(ask, number) for number in range(min(6, embedder.spec.max_concurrency))])

    def test_after_an_interrupt_it_works_as_before(self, embedder: Embedder) -> None:
        """`interrupt` ends the calls that are under way, and no later ones."""
        if not isinstance(embedder, SupportsInterrupt):
            pytest.skip("it has no `interrupt`")
        contents = self._contents(embedder)
        before = self._embed(embedder, contents)
        embedder.interrupt()
        embedder.interrupt()
        self._assert_equal(self._embed(embedder, contents), before)

    def test_usage_grows(self, embedder: Embedder) -> None:
        """Reports show the difference between two readings."""
        if not isinstance(embedder, SupportsUsage):
            pytest.skip("it has no `usage`")
        before = embedder.usage
        self._embed(embedder, self._contents(embedder))
        after = embedder.usage
        assert isinstance(after, Usage)
        assert after.calls > before.calls >= 0
        assert after.bytes_sent >= before.bytes_sent >= 0
