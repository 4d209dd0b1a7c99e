"""Reasons why an image cannot be read or decoded, and their translation to errors that name the image."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

import PIL.Image

from multimodal_search.contents import Image
from multimodal_search.errors import NotAnImageError, UnreadableContentError
from multimodal_search.media.silence import silence


class RefusedError(Exception):
    """An image, a member of an archive or an address is not read; the message is the reason."""


class DamagedError(Exception):
    """An image of a known format cannot be opened by Pillow."""


class OtherKindError(RefusedError):
    """A file is not an image; the message says what it is."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


@contextmanager
def translated(image: Image) -> Iterator[None]:
    """Silence decoders, and turn whatever they raise into an error that names the image."""
    try:
        with silence:
            yield
    except UnreadableContentError:
        raise
    except OtherKindError as error:
        raise NotAnImageError(f"{image.label}: {error}", kind=error.kind) from error.__cause__
    except (RefusedError, DamagedError) as error:
        raise UnreadableContentError(f"{image.label}: {error}") from error.__cause__
    except Exception as error:
        raise UnreadableContentError(f"{image.label}: {_reason(error)}") from error


def name_of(image: Image) -> str:
    """The file name whose extension says what the file should be; empty if there is none."""
    return "" if image.name is None and isinstance(image.source, (bytes, PIL.Image.Image)) else image.label


def _reason(error: Exception) -> str:
    text = textwrap.shorten(str(error), 80, placeholder=" ...")
    match error:
        case FileNotFoundError():
            return "no such file"
        case PIL.Image.DecompressionBombError():
            most = PIL.Image.MAX_IMAGE_PIXELS or 0
            return f"more pixels than Pillow's own limit for this format, PIL.Image.MAX_IMAGE_PIXELS = {most:,}"
        case MemoryError():
            return "needs more memory than there is"
        case OSError() if error.errno is not None and error.strerror:
            return error.strerror.lower()
        case _ if "truncated" in text.lower():
            return "truncated file"
        case _ if not text or "decoder object" in text:  # of WebP
            return "damaged or cut off"
        case _:
            return f"cannot be decoded ({text})"
