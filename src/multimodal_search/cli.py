"""The shell command `multimodal-search`; what it does is one call of the index each."""

# ruff: noqa: T201 (a command prints)

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

from multimodal_search import _demo
from multimodal_search._extras import require
from multimodal_search._registry import embedder_names, make_embedder
from multimodal_search.errors import ConfigurationError
from multimodal_search.index import MultimodalIndex
from multimodal_search.results import SearchResults, stack

require("typer", extra="cli", purpose="the command multimodal-search")
import typer  # noqa: E402 (after the check that it is there)

INDEX_FOLDER = ".multimodal-search"
"""Where `index` puts its data: a hidden folder in the indexed one, so that the two move together."""

app = typer.Typer(
    name="multimodal-search",
    help="Find pictures again, by words or by another picture.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

EmbedderName = Annotated[
    str, typer.Option("--embedder", "-e", help=f"What turns pictures and words into vectors: {', '.join(embedder_names())}.")
]
AnExistingFolder = Annotated[Path, typer.Argument(exists=True, file_okay=False, show_default=False, metavar="FOLDER")]


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where to put the pictures, the index and the contact sheet.")] = Path(
        "multimodal-search-demo"
    ),
) -> None:
    """Paint some pictures, index them, and search them by words in three languages and by a picture."""
    photos = folder / "photos"
    print(f"{len(_demo.paint(photos))} pictures in {photos}")
    with MultimodalIndex.open(folder / "index", embedder=make_embedder("color")) as index:
        print(index.add_images(photos, progress=True))
        found = [index.search(query, limit=4) for query in (*_demo.SEARCHES, photos / _demo.PICTURE)]
    for results in found:
        print(f"\n{results!r}")
    sheet = folder / "contact-sheet.png"
    stack([results.contact_sheet() for results in found]).save(sheet)
    print(f"\nLook at {sheet}. The same for your own pictures:")
    print("  multimodal-search index FOLDER\n  multimodal-search search 'blue sky' FOLDER")


@app.command(name="index")
def index_folder(
    folder: AnExistingFolder,
    embedder: EmbedderName = "color",
    pattern: Annotated[str | None, typer.Option(help="Only files that match, such as '*.jpg'.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Index the pictures of FOLDER, or what is new in it since last time."""
    with MultimodalIndex.open(folder / INDEX_FOLDER, embedder=make_embedder(embedder)) as index:
        report = index.add_images(folder, pattern=pattern, progress=False if quiet else None)
    print(report)
    if report.failed and not (report.added or report.updated or report.unchanged):
        raise typer.Exit(1)


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="Words, or the path of a picture.", show_default=False)],
    folder: AnExistingFolder,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most hits.")] = 10,
    embedder: EmbedderName = "color",
    min_score: Annotated[float | None, typer.Option(help="Only hits with at least this score.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")] = False,
    sheet: Annotated[Path | None, typer.Option(help="Also write the hits as a picture to this file.")] = None,
) -> None:
    """Search the indexed FOLDER by words, or by a picture where QUERY is the path of a file."""
    place = folder / INDEX_FOLDER
    if not place.is_dir():
        again = shlex.join(["multimodal-search", "index", str(folder)])
        raise ConfigurationError(f"{folder} is not indexed yet: run {again}")
    wanted = Path(query) if Path(query).is_file() else query
    with MultimodalIndex.open(place, embedder=make_embedder(embedder)) as index:
        results = index.search(wanted, limit=limit, min_score=min_score)
    if sheet is not None:
        results.contact_sheet().save(sheet)
    print(_as_json(results) if as_json else results)


def _as_json(results: SearchResults) -> str:
    return json.dumps(results.to_dicts(), ensure_ascii=False, indent=2)
