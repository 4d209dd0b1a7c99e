"""An image as it is sent: upright, in proportion, small, a JPEG or PNG file in a data URI."""

from __future__ import annotations

import base64

from multimodal_search.contents import Image
from multimodal_search.media.images import fit_within


def preprocessing(*, size: int) -> str:
    """What a fingerprint says of the pixels that are sent; the number changes when they do."""
    return f"fit{size}-1"


class _FittedImage(Image):
    """An image as it is sent, which need not be looked at again."""

    __slots__ = ("size",)

    size: int

    def __init__(self, encoded: bytes, *, name: str, size: int) -> None:
        super().__init__(encoded, name=name)
        object.__setattr__(self, "size", size)


def as_sent(image: Image, *, size: int) -> Image:
    """An image as it is sent: read, upright, encoded, and no side longer than `size` pixels.

    Raises:
        UnreadableContentError: It cannot be read.
    """
    if isinstance(image, _FittedImage) and image.size == size:
        return image
    return _FittedImage(fit_within(image, size=size), name=image.label, size=size)


def data_uri(encoded: bytes) -> str:
    """The bytes of a JPEG or PNG file as an address that holds them (RFC 2397)."""
    kind = "png" if encoded.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(encoded).decode('ascii')}"
