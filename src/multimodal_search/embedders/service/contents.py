"""Contents as they are sent: what messages call them, the bytes of their images, and their size."""

from __future__ import annotations

from multimodal_search._text import prose, shorten
from multimodal_search.contents import Content, Image, Mixed, Text


def label_of(content: Content) -> str:
    """What messages call a content."""
    match content:
        case Image():
            return content.label
        case Text():
            return repr(shorten(prose(content.text[:200]), 40))
        case Mixed():
            return f"Mixed({', '.join(map(label_of, content.parts))})"


def parts_of(content: Content) -> tuple[Text | Image, ...]:
    """The parts of a mixture; of anything else, itself."""
    return content.parts if isinstance(content, Mixed) else (content,)


def file_of(image: Image) -> bytes:
    """The bytes of an image that `prepare` has made."""
    assert isinstance(image.source, bytes)  # noqa: S101 (so does `prepare` leave it)
    return image.source


def size_bytes(content: Content) -> int:
    """In proportion to the bytes of a request that a content takes."""
    return sum(
        len(part.text.encode()) if isinstance(part, Text) else len(file_of(part)) * 4 // 3 for part in parts_of(content)
    )
