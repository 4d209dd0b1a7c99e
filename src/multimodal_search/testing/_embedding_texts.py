"""What an embedder must do with texts: words are words, whatever they look like."""
# ruff: noqa: S101 (these are tests)

from __future__ import annotations

import base64
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import pytest

from multimodal_search.contents import Text
from multimodal_search.errors import ContentError
from multimodal_search.protocols import Embedder
from multimodal_search.testing._embedding import EmbeddingContract
from multimodal_search.testing._images import encoded, image
from multimodal_search.types import Role


class EmbeddingTextsContract(EmbeddingContract):
    """A part of `EmbedderContract`."""

    def test_a_text_is_never_read_as_a_file(
        self, embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Some models' own libraries take a string that looks like a path for an image: words are words."""
        self._needs_texts(embedder)
        monkeypatch.chdir(tmp_path)
        words = "-".join(self.texts[0].split())
        names = [f"{words}.png", str(tmp_path / f"{words}.jpg"), (tmp_path / f"{words}.png").as_uri()]
        before = [self._embed(embedder, [Text(name) for name in names], role=role) for role in get_args(Role)]
        for suffix in ("png", "jpg"):
            image(7).save(tmp_path / f"{words}.{suffix}")
        for role, expected in zip(get_args(Role), before, strict=True):
            self._assert_equal(self._embed(embedder, [Text(name) for name in names], role=role), expected)

    def test_a_text_is_never_decoded(self, embedder: Embedder) -> None:
        """A `data:` URI holds an image, and pages of text hold such URIs."""
        self._needs_texts(embedder)
        self._needs_images(embedder)
        data = encoded(image(7), "PNG")
        text = Text(f"data:image/png;base64,{base64.b64encode(data).decode()}")
        for role in get_args(Role):
            try:
                of_text = self._embed(embedder, [text], role=role)
            except ContentError:  # too long for it, or none of its words
                continue
            of_image = self._embed(embedder, [self._given(embedder, data)], role=role)
            assert not self._is_close(of_text[0], of_image[0])

    def test_a_text_is_never_fetched(self, embedder: Embedder) -> None:
        """An address in a user's text must not make a server fetch it."""
        self._needs_texts(embedder)
        with listening_server() as (address, asked):
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


@contextmanager
def listening_server() -> Iterator[tuple[str, list[str]]]:
    """A local server: its address, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_POST = do_GET  # noqa: N815 (the names that the base class calls)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
