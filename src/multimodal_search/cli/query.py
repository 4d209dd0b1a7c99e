"""Parse the arguments of a search: query, `--unlike`, `--where`."""

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

_UNLIKE_WEIGHT = 0.5  # with 1, what the query and the unlike part have in common would cancel out

_MAX_BYTES = 2**28  # of an image on standard input, which may be endless


def query_of(query: str, unlike: Sequence[str], *, as_text: bool) -> Query:
    """Build the query: a text or an image, minus half of each `--unlike`.

    Raises:
        ConfigurationError: An argument is a path without an image, or an address; or standard input holds no image.
    """

    def content(text: str) -> Text | Image:
        return Text(text) if as_text else _words_or_image(text)

    wanted: QueryPart = content(query)
    for each in unlike:
        wanted = wanted - _UNLIKE_WEIGHT * content(each)
    return wanted


def filter_of(text: str) -> dict[str, Any]:
    """Parse the filter from a JSON object.

    Raises:
        QueryError: It is not a JSON object.
    """
    try:
        where = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise QueryError(f"--where is not JSON: {error}") from error
    if not isinstance(where, dict):
        raise QueryError(f'--where takes a JSON object such as {{"year": 2020}}, not {text[:80]}')
    return where


def _words_or_image(query: str) -> Text | Image:
    """A path as an image, else the text; a path without an image is refused, since its letters would be embedded."""
    if query == "-":
        return _image_on_stdin()
    path = Path(query)
    with suppress(OSError, ValueError):  # too long for the name of a file, or none
        if path.is_file():
            return Image(path)
    words = "to search for this text, add --text"
    if is_address(query):
        raise ConfigurationError(
            f"addresses are not fetched: save the image at {shorten(shown_address(query), 200)}, and search with the "
            f"path of the file; {words}"
        )
    if exists(query):
        kind = "a folder" if path.is_dir() else "not a regular file"
        raise ConfigurationError(f"{query} is {kind}: search with the path of an image, or with a text; {words}")
    if is_path_of_nothing(query):
        raise ConfigurationError(f"there is no file {query} to search with; {words}")
    return Text(query)


def _image_on_stdin() -> Image:
    if sys.stdin is None or sys.stdin.isatty():
        raise ConfigurationError(
            "the query - reads an image from standard input: redirect a file to it, as in < photo.jpg"
        )
    read = sys.stdin.buffer.read(_MAX_BYTES + 1)
    if not read:
        raise ConfigurationError("the query - reads an image from standard input, and standard input is empty")
    if len(read) > _MAX_BYTES:
        raise ConfigurationError(f"the image on standard input has more than {_MAX_BYTES:,} bytes")
    return Image(read, name="standard input")
