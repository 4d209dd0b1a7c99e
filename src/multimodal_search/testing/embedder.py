"""The contract of `Embedder`, as tests: what every embedder must do, at every edge.

A backend's own tests subclass it and bring one fixture. It needs pytest.

    class TestMyEmbedder(EmbedderContract):
        in_child = "from my_package import MyEmbedder; embedder = MyEmbedder()"

        @pytest.fixture
        def make_embedder(self):
            return MyEmbedder
"""
# ruff: noqa: S101 (these are tests)

from __future__ import annotations

import copy
import http.server
import io
import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, get_args

import numpy as np
import PIL.Image
import pytest

from multimodal_search.errors import ContentError
from multimodal_search.protocols import Embedder, SupportsPrepare
from multimodal_search.types import Content, EmbedderSpec, FloatArray, Image, Mixed, Modality, Role, Text

_EXIF_ORIENTATION = 0x0112
_CHILD = """
import hashlib, json
{code}
from multimodal_search.types import Image, Text
import numpy as np, PIL.Image
pixels = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)
content = Text({text!r}) if "text" in embedder.spec.modalities else Image(PIL.Image.fromarray(pixels))
vector = embedder.embed([content], role="document")[0]
print(json.dumps([embedder.spec.fingerprint, [float(each) for each in vector]]))
"""


class EmbedderContract:
    """Subclass it, name the class `Test...`, and bring the fixture `make_embedder`.

    Attributes:
        texts: Texts that the embedder can embed, of different vectors; at least four.
        tolerance: The largest distance between two vectors of one content, as a share of their length.
        in_child: Python code that makes the same embedder in a process of its own, as a variable `embedder`. Empty where
            that is impossible: then nothing tests that the fingerprint stays equal across processes.
    """

    texts: ClassVar[Sequence[str]] = ("a red house", "ein blaues Boot", "un oiseau vert", "a black and white cat")
    tolerance: ClassVar[float] = 1e-4
    in_child: ClassVar[str] = ""

    @pytest.fixture
    def make_embedder(self) -> Callable[[], Embedder]:
        """Makes the embedder, anew at each call, with the same settings."""
        raise NotImplementedError("bring a fixture `make_embedder` that gives a function which makes your embedder")

    @pytest.fixture
    def embedder(self, make_embedder: Callable[[], Embedder]) -> Iterator[Embedder]:
        """One embedder, ready for use; closed at the end if it can be."""
        embedder = make_embedder()
        yield embedder
        close = getattr(embedder, "close", None)
        if close is not None:
            close()

    # --- what it says of itself

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

    def test_another_process_makes_the_same_vectors_under_the_same_fingerprint(self, embedder: Embedder) -> None:
        """A fingerprint from `hash`, `id` or the time locks users out of their own index; seeds must be fixed, too."""
        if not self.in_child:
            pytest.skip("set `in_child` to test that the fingerprint stays equal across processes")
        code = _CHILD.format(code=self.in_child, text=self.texts[0])
        for seed in ("1", "2"):
            done = subprocess.run(  # noqa: S603 (the code of the test's author)
                [sys.executable, "-c", code], capture_output=True, text=True, env=_environment(seed), check=False
            )
            assert done.returncode == 0, done.stderr
            fingerprint, vector = json.loads(done.stdout.splitlines()[-1])
            assert fingerprint == embedder.spec.fingerprint
            if "text" in embedder.spec.modalities:
                content: Content = Text(self.texts[0])
            else:
                pixels = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)
                content = Image(PIL.Image.fromarray(pixels))
            self._assert_equal(np.array([vector], np.float32), embedder.embed([content], role="document"))

    def test_a_pickle_of_it_works_or_is_refused_in_words(self, embedder: Embedder) -> None:
        """Process pools pickle what they are given: a bare "cannot pickle '_thread.lock' object" helps nobody."""
        contents = self._contents(embedder)
        before = self._embed(embedder, contents)  # loaded lazily, perhaps
        try:
            data = pickle.dumps(embedder)
        except Exception as error:  # noqa: BLE001 (whatever it raises is looked at)
            assert type(embedder).__name__ in str(error), f"the refusal does not name the class: {error!r}"
            return
        again = pickle.loads(data)  # noqa: S301 (made here)
        assert again.spec == embedder.spec
        self._assert_equal(self._embed(again, contents), before)

    # --- the answer

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
        short, long = Text(self.texts[0]), Text(" ".join(self.texts[1:] * 4))
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
        contents = self._contents(embedder)
        given = list(contents)
        pixels = [_pixels(content) for content in given]
        embedder.embed(given, role="document")
        assert given == contents
        assert [_pixels(content) for content in given] == pixels

    def test_threads_get_their_own_answers(self, embedder: Embedder) -> None:
        """Up to `spec.max_concurrency` calls come at once."""
        contents = self._contents(embedder)
        alone = [self._embed(embedder, [content]) for content in contents]
        with ThreadPoolExecutor(min(8, embedder.spec.max_concurrency)) as pool:
            order = [number % len(contents) for number in range(6 * len(contents))]
            answers = pool.map(lambda number: embedder.embed([contents[number]], role="document"), order)
            for number, vectors in zip(order, answers, strict=True):
                self._assert_equal(vectors, alone[number])

    # --- texts

    def test_a_text_is_never_read_as_a_file(
        self, embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Some models' own libraries take a string that looks like a path for an image: words are words."""
        self._needs_texts(embedder)
        monkeypatch.chdir(tmp_path)
        names = [f"{'-'.join(self.texts[0].split())}.png", f"{tmp_path}/{'-'.join(self.texts[0].split())}.jpg"]
        before = self._embed(embedder, [Text(name) for name in names])
        for name in names:
            _image(7).save(tmp_path / Path(name).name)
        self._assert_equal(self._embed(embedder, [Text(name) for name in names]), before)

    def test_a_text_is_never_fetched(self, embedder: Embedder) -> None:
        """An address in a user's text must not make a server fetch it."""
        self._needs_texts(embedder)
        with _counting_server() as (address, asked):
            words = "-".join(self.texts[0].split())
            embedder.embed([Text(f"{address}/{words}.png")], role="document")
            embedder.embed([Text(f"{address}/{words}.png")], role="query")
            assert asked == []

    @pytest.mark.parametrize("odd", ["data:image/png;base64,iVBORw0KGgo= {}", "file:///{}.png", "\\\\host\\{}", "{}?*"])
    def test_a_text_that_looks_like_something_else_is_a_text(self, embedder: Embedder, odd: str) -> None:
        """Captions and messages hold all sorts of things."""
        self._needs_texts(embedder)
        vectors = self._embed(embedder, [Text(odd.format(self.texts[0]))])
        assert vectors.shape == (1, embedder.spec.dimension)

    @pytest.mark.parametrize("token", ["<|endoftext|>", "</s>", "[SEP]", "<eos>", "<pad>", "<image>"])
    def test_special_tokens_in_a_text_are_text(self, embedder: Embedder, token: str) -> None:
        """A tokenizer that obeys them loses all that comes after."""
        self._needs_texts(embedder)
        short, whole = self.texts[0], f"{self.texts[0]} {token} {self.texts[1]}"
        vectors = self._embed(embedder, [Text(short), Text(whole)])
        assert not self._is_close(*vectors), f"what stands after {token} plays no part"

    def test_a_very_long_text_is_embedded_or_refused(self, embedder: Embedder) -> None:
        """A book among captions costs itself at most: it is cut, or refused as a content."""
        self._needs_texts(embedder)
        good, book = Text(self.texts[0]), Text(" ".join(self.texts) * 2_000)
        alone = self._embed(embedder, [good])
        try:
            vectors = self._embed(embedder, [good, book])
        except ContentError:
            with pytest.raises(ContentError):
                self._embed(embedder, [book])
        else:
            self._assert_equal(vectors[:1], alone)

    # --- images

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "CMYK", "1", "I;16"])
    def test_images_of_every_mode_are_embedded(self, embedder: Embedder, mode: str) -> None:
        """Photos come in grey, with transparency, for printing, and with palettes."""
        self._needs_images(embedder)
        image = PIL.Image.new("I;16", (40, 30), 20_000) if mode == "I;16" else _image(3).convert(mode)
        buffer = io.BytesIO()
        image.save(buffer, "TIFF")
        assert np.isfinite(self._embed(embedder, [self._given(embedder, buffer.getvalue())])).all()

    @pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (3, 2_000), (257, 255)])
    def test_images_of_every_shape_are_embedded(self, embedder: Embedder, size: tuple[int, int]) -> None:
        """A line of one pixel is an image, too."""
        self._needs_images(embedder)
        vectors = self._embed(embedder, [Image(_image(5).resize(size))])
        assert vectors.shape == (1, embedder.spec.dimension)

    def test_images_are_turned_upright(self, embedder: Embedder) -> None:
        """Phones store photos on their side, and say so in the EXIF data."""
        if not isinstance(embedder, SupportsPrepare):
            pytest.skip("it has no `prepare`: the library turns images upright")
        self._needs_images(embedder)
        upright = _image(2).resize((60, 40))
        exif = PIL.Image.Exif()
        exif[_EXIF_ORIENTATION] = 6
        turned, straight = io.BytesIO(), io.BytesIO()
        upright.transpose(PIL.Image.Transpose.ROTATE_90).save(turned, "PNG", exif=exif)
        upright.save(straight, "PNG")
        contents = [self._given(embedder, each.getvalue()) for each in (turned, straight)]
        first, second = self._embed(embedder, contents)
        assert self._is_close(first, second)

    def test_preparing_changes_no_vector(self, embedder: Embedder, tmp_path: Path) -> None:
        """`prepare` does a part of the work in another thread; whether it was called must not matter."""
        if not isinstance(embedder, SupportsPrepare):
            pytest.skip("it has no `prepare`")
        contents = self._contents(embedder)
        if "image" in embedder.spec.modalities:
            _image(11).save(tmp_path / "a.png")
            contents += [Image(tmp_path / "a.png"), Image((tmp_path / "a.png").read_bytes())]
        plain = self._embed(embedder, contents)
        prepared = [embedder.prepare(content) for content in contents]
        assert all(isinstance(each, (Text, Image, Mixed)) for each in prepared)
        self._assert_equal(self._embed(embedder, prepared), plain)
        self._assert_equal(self._embed(embedder, [embedder.prepare(each) for each in prepared]), plain)

    @pytest.mark.parametrize(
        "data", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40], ids=["empty", "text", "cut"]
    )
    def test_a_broken_image_is_refused_as_a_content(self, embedder: Embedder, data: bytes) -> None:
        """Any other error would end the run for all the others."""
        if not isinstance(embedder, SupportsPrepare):
            pytest.skip("it has no `prepare`: the library decodes images")
        self._needs_images(embedder)
        with pytest.raises(ContentError):
            embedder.prepare(Image(data))

    # --- how it is done

    def _embed(self, embedder: Embedder, contents: Sequence[Content], *, role: Role = "document") -> FloatArray:
        size = embedder.spec.max_batch_size
        parts = [embedder.embed(contents[start : start + size], role=role) for start in range(0, len(contents), size)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _contents(self, embedder: Embedder) -> list[Content]:
        modalities = embedder.spec.modalities
        contents: list[Content] = [Text(text) for text in self.texts] if "text" in modalities else []
        if "image" in modalities:
            contents += [Image(_image(number)) for number in range(4)]
        if "mixed" in modalities:
            contents.append(Mixed(Text(self.texts[0]), Image(_image(9))))
        return contents

    def _given(self, embedder: Embedder, data: bytes) -> Image:
        """An image as the library gives it: as it is where there is `prepare`, else decoded."""
        if isinstance(embedder, SupportsPrepare):
            return Image(data)
        with PIL.Image.open(io.BytesIO(data)) as image:
            return Image(image.convert("RGB"))

    def _is_close(self, first: FloatArray, second: FloatArray) -> bool:
        distance = float(np.linalg.norm(first.astype(np.float64) - second.astype(np.float64)))
        return distance <= self.tolerance * float(max(np.linalg.norm(first), np.linalg.norm(second)))

    def _assert_equal(self, vectors: FloatArray, expected: FloatArray) -> None:
        assert vectors.shape == expected.shape
        for number, (first, second) in enumerate(zip(vectors, expected, strict=True)):
            assert self._is_close(first, second), f"row {number} differs"

    def _needs_texts(self, embedder: Embedder) -> None:
        if "text" not in embedder.spec.modalities:
            pytest.skip("it embeds no texts")

    def _needs_images(self, embedder: Embedder) -> None:
        if "image" not in embedder.spec.modalities:
            pytest.skip("it embeds no images")


def _image(number: int) -> PIL.Image.Image:
    """An image of 12 patches, unlike those of other numbers."""
    patches = np.random.default_rng(number).integers(0, 256, (3, 4, 3), np.uint8)
    return PIL.Image.fromarray(patches).resize((64, 48), PIL.Image.Resampling.NEAREST)


def _pixels(content: Content) -> bytes:
    source = content.source if isinstance(content, Image) else None
    return source.tobytes() if isinstance(source, PIL.Image.Image) else b""


def _environment(seed: str) -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONHASHSEED": seed}


class _counting_server:  # noqa: N801 (used as a function)
    """A local server that notes what it is asked for."""

    def __enter__(self) -> tuple[str, list[str]]:
        asked: list[str] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_error(404)

            do_HEAD = do_GET

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}", asked

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
