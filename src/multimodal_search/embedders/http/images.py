"""An image as it is sent: upright, in proportion, small, a JPEG or PNG file in a data URI."""

from __future__ import annotations

import base64

from multimodal_search.contents import Image
from multimodal_search.embedders.prepared import PreparedImage
from multimodal_search.media.images import fit_within


def preprocessing(*, size: int) -> str:
    """What a fingerprint says of the pixels that are sent; the number changes when they do."""
    return f"fit{size}-1"


def as_sent(image: Image, *, size: int) -> Image:
    """An image as it is sent: read, upright, encoded, and no side longer than `size` pixels.

    Raises:
        UnreadableContentError: It cannot be read.
    """
    rules = preprocessing(size=size)
    if isinstance(image, PreparedImage) and image.rules == rules:
        return image
    return PreparedImage(fit_within(image, size=size), rules, name=image.label)


def data_uri(encoded: bytes) -> str:
    """The bytes of a JPEG or PNG file as an address that holds them (RFC 2397)."""
    kind = "png" if encoded.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(encoded).decode('ascii')}"
