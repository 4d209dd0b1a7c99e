"""What a command searches for, from its arguments: words, an image, what hits should be unlike, a filter."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from multimodal_search._path_text import exists, is_address, is_path_of_nothing
from multimodal_search._secrets import shown_address
from multimodal_search._text import shorten
from multimodal_search.contents import Image, QueryPart, Text
from multimodal_search.errors import ConfigurationError, QueryError
from multimodal_search.query import Query

_UNLIKE_WEIGHT = 0.5  # of what hits should not be like: with 1, what both have in common would play no part

_MAX_BYTES = 2**28  # of an image on standard input: what is there may have no end


def query_of(query: str, unlike: Sequence[str], *, as_text: bool) -> Query:
    """The query: a text or an image, less half of each that hits should be unlike.

    Raises:
        ConfigurationError: A text is neither words nor the path of an image, or standard input holds no image.
    """

    def content(text: str) -> Text | Image:
        return Text(text) if as_text else _words_or_image(text)

    wanted: QueryPart = content(query)
    for each in unlike:
        wanted = wanted - _UNLIKE_WEIGHT * content(each)
    return wanted


def filter_of(text: str) -> dict[str, Any]:
    """The filter in a JSON object.

    Raises:
        QueryError: The text is no JSON object.
    """
    try:
        where = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise QueryError(f"--where is no JSON: {error}") from error
    if not isinstance(where, dict):
        raise QueryError(f'--where takes a JSON object such as {{"year": 2020}}, not {text[:80]}')
    return where


def _words_or_image(query: str) -> Text | Image:
    """A query as it was meant: what is no image, and no words either, is said rather than embedded as words."""
    if query == "-":
        return _image_on_stdin()
    path = Path(query)
    with suppress(OSError, ValueError):  # too long for the name of a file, or none
        if path.is_file():
            return Image(path)
    words = "--text searches for these words"
    if is_address(query):
        raise ConfigurationError(
            f"addresses are not fetched, so {shorten(shown_address(query), 200)} is no query: save the image, and "
            f"search with the path of its file; {words}"
        )
    if exists(query):
        kind = "a folder" if path.is_dir() else "no regular file"
        raise ConfigurationError(f"{query} is {kind}: search with the path of an image in it, or words; {words}")
    if is_path_of_nothing(query):
        raise ConfigurationError(f"there is no image {query} to search with; {words}")
    return Text(query)


def _image_on_stdin() -> Image:
    if sys.stdin is None or sys.stdin.isatty():
        raise ConfigurationError("- reads an image from standard input, and nothing is passed there: < photo.jpg")
    read = sys.stdin.buffer.read(_MAX_BYTES + 1)
    if not read:
        raise ConfigurationError("- reads an image from standard input, and that is empty")
    if len(read) > _MAX_BYTES:
        raise ConfigurationError(f"- reads an image of up to {_MAX_BYTES:,} bytes from standard input; that has more")
    return Image(read, name="standard input")
