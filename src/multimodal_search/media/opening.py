"""Read the bytes of an image, and open them with Pillow or pillow-heif, without decoding pixels."""

from __future__ import annotations

import importlib
import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import PIL.features
import PIL.Image

from multimodal_search._files import is_address, open_regular
from multimodal_search.contents import Image, RemoteImage
from multimodal_search.media.file_kinds import HEAD_BYTES, kind_of, names_an_image
from multimodal_search.media.limits import check_icon
from multimodal_search.media.refusals import DamagedError, OtherKindError, RefusedError, name_of, translated
from multimodal_search.media.remote import fetch

CODECS = {"AVIF": "avif", "JPEG 2000": "jpg_2000", "WebP": "webp"}  # optional in builds of Pillow
_finding_plugins = threading.Lock()  # Pillow loads its plugins on first use, which is not thread-safe


def read_bytes(image: Image) -> bytes | None:
    """Read the encoded bytes of an image: from its file, as given, or fetched from its address.

    Of a file that is not an image, or of a format that is never decoded, only the first 4 KiB are read.

    Args:
        image: A path, bytes, an address or a PIL image, as `Image`.

    Returns:
        The bytes in the file's own format, such as JPEG; None for a PIL image, which has none.

    Raises:
        NotAnImageError: It is a file of another kind, such as a video.
        UnreadableContentError: The file is missing, a folder, empty or not permitted, or the fetch failed.
    """
    match image.source:
        case PIL.Image.Image():
            return None
        case RemoteImage():
            data = fetch(image.source, label=image.label)
        case bytes():
            data = image.source
        case path:
            with translated(image), opened_file(path) as file:
                return file.read()
    with translated(image):
        if not data:
            raise RefusedError("empty file")
        _check_kind(data[:HEAD_BYTES], name_of(image))
    return data


def opened_file(path: Path) -> BinaryIO:
    """Open a file that may be an image; of others, only the first bytes are read."""
    if is_address(path) and not path.exists():
        raise RefusedError("an address, not a path: to fetch the image, use Image.from_url(...)")
    file = open_regular(path)
    try:
        head = file.read(HEAD_BYTES)
        _check_kind(head, path.name)
        file.seek(0)
        kind = kind_of(head, path.name)
        if kind.kind != "image" and not names_an_image(path.name):  # a format that only Pillow knows, or not an image
            with recognized(file, path.name):
                file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def _check_kind(head: bytes, name: str) -> None:
    """Refuse a file that is not an image, or of a format that is never decoded, by its first bytes and its name."""
    kind = kind_of(head, name)
    if not head:
        if kind.kind == "image" or (kind.name == "" and not os.path.splitext(name)[1]):  # noqa: PTH122
            raise RefusedError("empty file")
        raise OtherKindError("empty file", kind.kind)
    if kind.is_undecodable:
        raise RefusedError(f"{kind.name}: {kind.advice}")
    if kind.kind == "image" or kind.name == "" or (kind.name == "text" and (not name or names_an_image(name))):
        return  # the decoder will decide
    if names_an_image(name):
        raise RefusedError(f"{kind.name}, not an image as its name says")
    advice = "; to index the images in it, index it by itself or unpack it" if kind.kind == "archive" else ""
    raise OtherKindError(f"{kind.name}, not an image{advice}", kind.kind)


def recognized(file: BinaryIO, name: str) -> PIL.Image.Image:
    """Open a file as an image, without decoding its pixels.

    Raises:
        RefusedError: It is not an image, or of a format that needs another package.
        DamagedError: It is an image that Pillow cannot open.
    """
    head = file.read(HEAD_BYTES)
    kind = kind_of(head, name)
    if kind.name == "HEIC":
        return _heif(file)
    if kind.name in ("ICO or CUR", "ICNS"):
        check_icon(file)
    with _finding_plugins:
        PIL.Image.preinit()  # loads the common formats, so that they are tried first
        PIL.Image.init()
    try:
        return _opened_by_pillow(file)
    except PIL.UnidentifiedImageError as error:
        if kind.name in CODECS and not PIL.features.check(CODECS[kind.name]):
            raise RefusedError(
                f"{kind.name} needs a Pillow that was built with it; install one with: pip install --upgrade pillow"
            ) from ImportError(CODECS[kind.name])
        if kind.kind == "image" and kind.is_sure:
            raise DamagedError(
                f"{kind.name}: damaged, or of a variant that cannot be decoded; convert it to PNG or JPEG"
            ) from error
        if kind.kind == "image" or names_an_image(name):
            raise RefusedError(
                f"{kind.name or 'unknown data'}, not an image as its name says"
                if kind.kind != "image"
                else f"damaged at its start, or another kind of file than its name says ({kind.name})"
            ) from error
        raise OtherKindError(f"{kind.name or 'of an unknown format'}, not an image", kind.kind) from error


def _opened_by_pillow(file: BinaryIO) -> PIL.Image.Image:
    """As `PIL.Image.open`, without its limit of pixels, which is global to the process and lower than ours."""
    file.seek(0)
    head = file.read(16)
    for name in PIL.Image.ID:
        factory, accepts = PIL.Image.OPEN[name]
        accepted = accepts is None or accepts(head)
        if not accepted or isinstance(accepted, str):  # a text says what this Pillow was built without
            continue
        file.seek(0)
        try:
            return factory(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue
    raise PIL.UnidentifiedImageError


def _heif(file: BinaryIO) -> PIL.Image.Image:
    try:
        # Without registering its opener, which would change Pillow for the whole process.
        heif_file_type: Callable[[BinaryIO], PIL.Image.Image] = importlib.import_module("pillow_heif").HeifImageFile
    except ImportError as error:
        raise RefusedError(
            'HEIC needs another package; install it with: pip install "multimodal-search[heif]"'
        ) from error
    file.seek(0)
    return heif_file_type(file)
