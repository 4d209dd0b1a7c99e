"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from multimodal_search._files import checked_path, located


def on_disk(parameter: typer.CallbackParam, path: Path | None) -> Path | None:
    """Check a path of the command line, and take `~` for the home folder.

    Raises:
        ConfigurationError: It cannot be a path.
    """
    name = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.metavar
    return None if path is None else located(checked_path(path, str(name)))


IndexedFolder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="An indexed folder or archive.", callback=on_disk)
]
ShowImages = Annotated[bool, typer.Option("--images", help="Show the images in the terminal, if it supports colours.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Where = Annotated[
    str | None,
    typer.Option(metavar="JSON", help="""Filter by payload fields, such as '{"year": {"gte": 2020}}'."""),
]
KnownEmbedder = Annotated[
    str | None,
    typer.Option(
        "--embedder", "-e", metavar="NAME", help="The embedder that FOLDER was indexed with. [default: as stored]"
    ),
]
