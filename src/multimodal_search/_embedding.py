"""An embedder as the index uses it: bounded, and checked where foreign data enters."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from multimodal_search._media import load_rgb
from multimodal_search.errors import EmbedderResponseError, UnsupportedContentError
from multimodal_search.protocols import Embedder, SupportsPrepare
from multimodal_search.types import Content, FloatArray, Image, Mixed, Role, Text, modality_of


class CheckedEmbedder:
    """Wraps an embedder: at most `max_concurrency` calls at once, and nothing but the promised vectors comes out.

    Args:
        embedder: Anything that implements the protocol.
    """

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self.spec = embedder.spec
        self._slots = threading.BoundedSemaphore(self.spec.max_concurrency)

    def check(self, content: Content) -> None:
        """Refuse a content that this embedder cannot embed, before anything is read.

        Raises:
            UnsupportedContentError: It is empty, or of a modality that the embedder does not have.
        """
        modality = modality_of(content)
        if modality not in self.spec.modalities:
            can = ", ".join(sorted(self.spec.modalities))
            raise UnsupportedContentError(f"{self.spec.model} embeds {can}, not {modality}")
        if isinstance(content, Text) and not content.text.strip():
            raise UnsupportedContentError("the text is empty")
        if isinstance(content, Mixed):
            for part in content.parts:
                if isinstance(part, Text) and not part.text.strip():
                    raise UnsupportedContentError("a text in Mixed is empty")

    def prepare(self, content: Content) -> Content:
        """What `embed` needs of a content: pictures are read, upright, and as small as the embedder allows.

        Raises:
            ContentError: The content cannot be read or embedded.
        """
        self.check(content)
        if isinstance(self.embedder, SupportsPrepare):
            return self.embedder.prepare(content)
        match content:
            case Image():
                return Image(load_rgb(content), name=content.label)
            case Mixed():
                return Mixed(*(self.prepare(part) for part in content.parts))  # type: ignore[arg-type]  # parts stay parts
            case Text():
                return content

    def embed(self, contents: Sequence[Content], *, role: Role) -> FloatArray:
        """Embed prepared contents, at most `spec.max_batch` of them.

        Returns:
            Shape `(len(contents), dimension)`, float32, finite.

        Raises:
            EmbedderResponseError: The embedder broke its promise.
        """
        with self._slots:
            vectors = np.asarray(self.embedder.embed(contents, role=role), dtype=np.float32)
        expected = (len(contents), self.spec.dimension)
        if vectors.shape != expected:
            raise EmbedderResponseError(f"{self.spec.model} returned vectors of shape {vectors.shape}, not {expected}")
        if not np.isfinite(vectors).all():
            raise EmbedderResponseError(f"{self.spec.model} returned a vector that holds NaN or infinity")
        return vectors
