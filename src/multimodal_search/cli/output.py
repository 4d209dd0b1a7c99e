"""Output of the commands: tables, images in the terminal, JSON, contact sheets, HTML pages."""

# ruff: noqa: T201 (a command prints)

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import PIL.Image

from multimodal_search._rendering.terminal import print_images, shows_images
from multimodal_search._text import printable
from multimodal_search.errors import ConfigurationError
from multimodal_search.results import SearchResults, cards_of, heading_of


def print_state(text: str, fields: dict[str, Any], *, as_json: bool) -> None:
    """Print the state of an index, as text or as JSON."""
    if as_json:
        print(json.dumps(fields, indent=2, allow_nan=False))
    else:
        print("\n".join(map(printable, text.splitlines())))


def write_files(results: SearchResults, *, sheet: Path | None, html: Path | None) -> None:
    """Write hits as a contact sheet and as an HTML page, each if a file is named for it."""
    if sheet is not None:
        save_sheet(results.contact_sheet(), sheet)
    if html is not None:
        results.to_html(html)


def print_results(results: SearchResults, *, images: bool) -> None:
    """Print hits as a table, or with their images if these are wanted and the terminal can show them."""
    if results and can_show(images=images):
        print(heading_of(results), end="\n\n")
        print_images(cards_of(results))
    else:
        print(results)


def can_show(*, images: bool) -> bool:
    """Whether images are wanted and the terminal can show them; prints a message if it cannot."""
    if images and not shows_images():
        print("multimodal-search: --images needs a terminal with colours; printing names only", file=sys.stderr)
        return False
    return images


def save_sheet(image: PIL.Image.Image, path: Path) -> None:
    """Write a contact sheet, in the format of the file extension.

    Raises:
        ConfigurationError: The file cannot be written, or its extension is not that of an image format.
    """
    try:
        image.save(path)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ConfigurationError(f"the contact sheet cannot be written to {path}: {reason.lower()}") from error
