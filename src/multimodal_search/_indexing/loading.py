"""From a candidate to what can be embedded and stored: read, hash, prepare."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import PIL.Image

from multimodal_search._indexing.candidate import Candidate, size_and_mtime
from multimodal_search._payload import with_user_fields
from multimodal_search.contents import Content, Image, Mixed, Text, modality_of
from multimodal_search.embedders.guarded import GuardedEmbedder
from multimodal_search.errors import ContentError, MultimodalSearchError, NotAnImageError, UnreadableContentError
from multimodal_search.media.images import pixel_bytes, pixels_at_most, read_bytes

MAX_FILE_BYTES = 512 * 1024 * 1024
"""Files beyond this are refused before they are read: no image that Pillow may decode needs as much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A candidate that has been read.

    Attributes:
        content: Prepared for the embedder.
        sha256: Of the content, in hexadecimal: of a file's bytes, a text's UTF-8, a PIL image's pixels.
        fields: The payload to store.
        held_bytes: Memory that `content` takes, roughly.
        is_truncated: Whether the model sees only the beginning of it.
    """

    content: Content
    sha256: str
    fields: dict[str, Any]
    held_bytes: int
    is_truncated: bool = False


def load(candidate: Candidate, embedder: GuardedEmbedder) -> Loaded:
    """Read one candidate; called in many threads at once.

    Raises:
        NotAnImageError: It is a file of another kind, of which no more than the first bytes were read.
        ContentError: It cannot be read, embedded, or stored with its fields.
    """
    content = candidate.content
    embedder.check(content)
    fields: dict[str, Any] = {"modality": modality_of(content)}
    if candidate.path is not None:
        size, mtime_ns = size_and_mtime(candidate.path)
        if size > MAX_FILE_BYTES:
            raise UnreadableContentError(f"{size:,} bytes are more than an image may have ({MAX_FILE_BYTES:,})")
        fields |= {"filename": candidate.filename, "root": candidate.root, "mtime_ns": mtime_ns}
    elif candidate.filename is not None:
        fields |= {"filename": candidate.filename, "root": candidate.root}
        if candidate.size_and_mtime is not None:
            fields["mtime_ns"] = candidate.size_and_mtime[1]
    elif isinstance(content, Image) and content.name is not None:
        fields["filename"] = content.label
    elif isinstance(content, Text):
        fields["text"] = content.text
    with pixels_at_most(embedder.max_pixels):
        held, key, size_bytes = _read(content)
    sha256 = hashlib.sha256(key).hexdigest()
    fields |= {"sha256": sha256, "size": size_bytes}
    fields = with_user_fields(fields, candidate.payload or {})
    try:
        prepared = embedder.prepare(held)
    except MultimodalSearchError:
        raise
    except Exception as error:  # an embedder of somebody else's may trip over one content
        raise ContentError(f"{embedder.spec.model} cannot prepare it ({type(error).__name__}: {error})") from error
    return Loaded(
        content=prepared,
        sha256=sha256,
        fields=fields,
        held_bytes=memory_bytes(prepared),
        is_truncated=embedder.is_truncated(prepared),
    )


def _read(content: Content) -> tuple[Content, bytes, int]:
    """The content with its bytes in memory, the bytes to hash, and how many bytes it has."""
    match content:
        case Text():
            encoded = content.text.encode()
            return content, encoded, len(encoded)
        case Mixed():
            try:
                read = [_read(part) for part in content.parts]
            except NotAnImageError as error:  # of somebody who meant it as one, beside a text
                raise UnreadableContentError(str(error)) from error.__cause__
            key = b"".join(hashlib.sha256(part_key).digest() for _, part_key, _ in read)
            parts = [part for part, _, _ in read if not isinstance(part, Mixed)]
            return Mixed(*parts), key, sum(size for _, _, size in read)
        case Image():
            encoded_image = read_bytes(content)
            if encoded_image is None:
                assert isinstance(content.source, PIL.Image.Image)  # noqa: S101 (nothing else has no bytes)
                key = pixel_bytes(content.source)
                return content, key, len(key)
            return Image(encoded_image, name=content.label), encoded_image, len(encoded_image)


def memory_bytes(content: Content) -> int:
    """Bytes of memory that a content holds, roughly."""
    match content:
        case Text():
            return len(content.text)
        case Mixed():
            return sum(memory_bytes(part) for part in content.parts)
        case Image(source=bytes() as encoded):
            return len(encoded)
        case Image(source=PIL.Image.Image() as image):
            return image.width * image.height * len(image.getbands())
        case Image():
            return 0
