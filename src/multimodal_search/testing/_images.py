"""Images that contracts embed."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import PIL.Image

from multimodal_search.contents import Content, Image


def image(number: int) -> PIL.Image.Image:
    """An image of 12 patches, unlike those of other numbers."""
    patches = np.random.default_rng(number).integers(0, 256, (3, 4, 3), np.uint8)
    return PIL.Image.fromarray(patches).resize((64, 48), PIL.Image.Resampling.NEAREST)


def encoded(given: PIL.Image.Image, kind: str, **settings: Any) -> bytes:
    """The bytes of an image's file."""
    buffer = io.BytesIO()
    given.save(buffer, kind, **settings)
    return buffer.getvalue()


def pixels_of(content: Content) -> bytes:
    """The pixels of an image that is decoded; of everything else, nothing."""
    source = content.source if isinstance(content, Image) else None
    return source.tobytes() if isinstance(source, PIL.Image.Image) else b""
