"""An embedder small enough to reason about, with faults on command."""

from __future__ import annotations

import hashlib
import io
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import PIL.Image

from multimodal_search import EmbedderSpec, Image, Mixed, Role, Text, UnsupportedContentError
from multimodal_search.contents import Content
from multimodal_search.types import FloatArray

SIDE = 4


class TinyEmbedder:
    """Images become their 4 x 4 thumbnails, texts a vector drawn from their hash.

    Args:
        max_batch_size: As in `EmbedderSpec`.
        max_concurrency: As in `EmbedderSpec`.
        refuse: Texts that fail their whole batch.
        before: Called with the number of the call (from 1) before each; may raise or sleep.
        model: The name; part of the fingerprint.
    """

    def __init__(
        self,
        *,
        max_batch_size: int = 8,
        max_concurrency: int = 2,
        refuse: Sequence[str] = (),
        before: Callable[[int], None] = lambda call: None,
        model: str = "tiny",
    ) -> None:
        self.spec = EmbedderSpec(
            model=model,
            fingerprint=f"{model}-1",
            dimension=SIDE * SIDE * 3,
            modalities=frozenset({"text", "image", "mixed"}),
            max_batch_size=max_batch_size,
            max_concurrency=max_concurrency,
        )
        self.refuse = set(refuse)
        self.before = before
        self.calls: list[int] = []
        self.roles: list[Role] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self._lock = threading.Lock()

    def embed(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
        with self._lock:
            self.calls.append(len(contents))
            self.roles.append(role)
            call = len(self.calls)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            self.before(call)
            if any(isinstance(content, Text) and content.text in self.refuse for content in contents):
                raise UnsupportedContentError("the model refused a text of this batch")
            return np.array([self._vector(content) for content in contents], np.float32).reshape(
                -1, self.spec.dimension
            )
        finally:
            with self._lock:
                self.in_flight -= 1

    def _vector(self, content: Content) -> FloatArray:
        match content:
            case Text():
                seed = int.from_bytes(hashlib.sha256(content.text.encode()).digest()[:8], "little")
                return np.random.default_rng(seed).standard_normal(self.spec.dimension).astype(np.float32)
            case Image():
                assert isinstance(content.source, PIL.Image.Image), "without `prepare`, images come decoded"
                small = content.source.resize((SIDE, SIDE), PIL.Image.Resampling.BOX)
                return np.asarray(small, np.float32).ravel() + 1
            case Mixed():
                return np.sum([self._vector(part) for part in content.parts], axis=0, dtype=np.float32)

    @property
    def embedded(self) -> int:
        """Contents embedded as documents so far, those of failed calls too."""
        return sum(size for size, role in zip(self.calls, self.roles, strict=True) if role == "document")


def slowly(seconds: float) -> Callable[[int], None]:
    """For `before`: every call takes this long."""
    return lambda call: time.sleep(seconds)


def image(number: int, size: tuple[int, int] = (16, 12)) -> PIL.Image.Image:
    """An image unlike those of other numbers."""
    pixels = np.random.default_rng(number).integers(0, 256, (3, 4, 3), np.uint8)
    return PIL.Image.fromarray(pixels).resize(size, PIL.Image.Resampling.NEAREST)


def png(number: int) -> bytes:
    """The bytes of such an image's PNG file."""
    buffer = io.BytesIO()
    image(number).save(buffer, "PNG")
    return buffer.getvalue()


def folder_of(path: Path, count: int, *, start: int = 0) -> Path:
    """A folder with images 0.png, 1.png, ..."""
    path.mkdir(parents=True, exist_ok=True)
    for number in range(start, start + count):
        (path / f"{number}.png").write_bytes(png(number))
    return path
