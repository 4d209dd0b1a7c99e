"""The shell command `multimodal-search`: each subcommand is one call of `MultimodalIndex`."""

# ruff: noqa: T201 (a command prints)

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from multimodal_search._ctrl_c import raised
from multimodal_search._indexing.sources import from_manifest
from multimodal_search._indexing.walk import Walk
from multimodal_search._rendering.contact_sheet import stack
from multimodal_search._rendering.terminal import print_images
from multimodal_search._text import prose
from multimodal_search.cli import demo_images as _demo
from multimodal_search.cli.backends import backends
from multimodal_search.cli.folder_index import (
    check_indexed,
    check_place,
    indexing,
    is_indexed,
    open_folder_index,
    relocate_hit,
    trying,
)
from multimodal_search.cli.manifest import Repeats
from multimodal_search.cli.manifest import items as manifest_items
from multimodal_search.cli.models import models
from multimodal_search.cli.options import AsJson, IndexedFolder, KnownEmbedder, ShowImages, Where, on_disk
from multimodal_search.cli.output import can_show, print_results, print_state, save_sheet, write_files
from multimodal_search.cli.query import filter_of, query_of
from multimodal_search.contents import Image
from multimodal_search.embedders.registry import check_embedder_name, embedder_names
from multimodal_search.errors import ConfigurationError, IndexingInterrupted
from multimodal_search.index import MultimodalIndex
from multimodal_search.results import SearchResults, cards_of, rows_of

app = typer.Typer(
    name="multimodal-search",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("multimodal-search"))
        raise typer.Exit


@app.callback()
def _describe(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Search images by text or by another image.

    Index a folder first, then search it. An embedder turns images and texts into vectors: "onnx", the default, finds
    by meaning with a model on this machine, downloaded once (1.5 GB); "color" needs no download, and compares colours
    only; "aleph-alpha" uses Aleph Alpha's API and reads AA_HOST and AA_TOKEN from the environment.
    """


@app.command(short_help="Try it with generated images.")
def demo(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Where to write the images and the contact sheet.", callback=on_disk),
    ] = Path("multimodal-search-demo"),
) -> None:
    """Generate twenty images, index them, and search them by text in three languages and by an image."""
    photos, sheet = folder / "photos", folder / "contact-sheet.png"
    print(f"{len(_demo.paint(photos))} images in {photos}, searched by their colours (the embedder color, no download)")
    with raised(), indexing(photos, "color") as index:
        print(index.add_images(photos))
        image = Image(photos / _demo.IMAGE, name=_demo.IMAGE)
        found = [index.search(query, limit=4) for query in (*_demo.SEARCHES, image)]
    for results in found:
        print(f"\n{results}")
    save_sheet(stack([results.contact_sheet() for results in found]), sheet)
    print(f"\nThe contact sheet is {sheet}. Search for something else:")
    print(f"  {shlex.join(['multimodal-search', 'search', 'fiori gialli', str(photos)])}")
    print("Index and search your own images, by meaning with a model on this machine (downloaded once, 1.5 GB):")
    print("  multimodal-search index ~/photos\n  multimodal-search search 'blue sky' ~/photos")


@app.command(name="index", short_help="Index the images of a folder, or update its index.")
def index_folder(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="A folder, searched recursively, or a zip or tar file.", callback=on_disk
        ),
    ],
    embedder: Annotated[
        str | None,
        typer.Option(
            "--embedder",
            "-e",
            metavar="NAME",
            help=f"One of {', '.join(embedder_names())}. [default: as stored, or onnx]",
        ),
    ] = None,
    pattern: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Index matching files only, such as '*.jpg'. Repeatable."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Skip matching files and folders, such as 'Private'. Repeatable."),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Index the files listed in a CSV or JSONL file; its other columns become payload fields.",
            callback=on_disk,
        ),
    ] = None,
    prune: Annotated[bool, typer.Option(help="Remove points of deleted files.")] = True,
    gone: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Remove points of missing files below this folder in FOLDER, even if its disk may only be unmounted. "
            "Repeatable.",
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Retry unchanged files that failed before.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report what would change, and change nothing.")] = False,
    failures: Annotated[bool, typer.Option("--failures", help="List every failed file on stderr.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Index the images of FOLDER, or update its index.

    The index is kept in FOLDER/.multimodal-search, or next to FOLDER if that is a zip or tar file. New and changed
    files are embedded, moved files keep their vectors, and points of deleted files are removed. Files that cannot be
    read are skipped and reported. The exit status is 1 if files failed and none could be indexed.
    """
    check_place(folder)
    if (dry_run or pattern or exclude or not prune or gone) and (manifest is not None or not folder.is_dir()):
        raise ConfigurationError(
            "--dry-run, --pattern, --exclude, --gone and --no-prune need a folder, not a manifest or an archive"
        )
    if embedder is not None:
        check_embedder_name(embedder)
    if gone and not prune:
        raise ConfigurationError("--gone removes points, and --no-prune keeps all of them: give one of the two")
    is_new = not is_indexed(folder)
    if is_new and folder.is_dir():
        walk = Walk(folder, pattern=pattern, exclude=exclude)
        if manifest is None:
            walk.refuse_empty(", so there is nothing to index")
    repeats, bar = Repeats(), False if quiet else None
    try:
        with raised(), trying(folder, embedder) if dry_run else indexing(folder, embedder) as index:
            if manifest is not None:
                rows = from_manifest(manifest_items(manifest, folder, repeats), folder)
                report = index.add_images(rows, progress=bar, retry_failed=retry_failed)
            elif folder.is_dir():
                report = index.sync_folder(
                    folder,
                    pattern=pattern,
                    exclude=exclude,
                    prune=prune,
                    gone=gone or (),
                    dry_run=dry_run,
                    progress=bar,
                    retry_failed=retry_failed,
                )
            else:
                report = index.add_images(folder, progress=bar, retry_failed=retry_failed)
    except KeyboardInterrupt as stop:
        said = str(stop) if isinstance(stop, IndexingInterrupted) else "interrupted"
        print(f"\n{said}; the next run goes on from there", file=sys.stderr)
        raise typer.Exit(130) from None
    print(report)
    if repeats.count:
        print(f"multimodal-search: {prose(f'{manifest}: {repeats}')}", file=sys.stderr)
    for failure in sorted(report.failed, key=lambda failure: failure.name) if failures else ():
        print(failure, file=sys.stderr)
    if report.failed and not (report.added or report.updated or report.moved or report.unchanged):
        raise typer.Exit(1)


@app.command(short_help="Search an indexed folder by text or by an image.")
def search(
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="A text, or the path of an image; - reads an image from stdin.")
    ],
    folder: IndexedFolder,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, metavar="COUNT", help="Maximum number of hits.")] = 10,
    offset: Annotated[int, typer.Option(min=0, metavar="COUNT", help="Number of hits to skip.")] = 0,
    where: Where = None,
    min_score: Annotated[float | None, typer.Option(metavar="SCORE", help="Minimum score of a hit.")] = None,
    matches: Annotated[
        bool, typer.Option("--matches", help="Only hits whose relevance reaches the upper threshold.")
    ] = False,
    thresholds: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="Relevances, 0 to 1: nothing below LOW, a match from HIGH on."),
    ] = None,
    unlike: Annotated[
        list[str] | None,
        typer.Option(metavar="QUERY", help="A text or image to subtract from the query, with weight 0.5. Repeatable."),
    ] = None,
    diversity: Annotated[
        float, typer.Option(min=0, max=1, metavar="SHARE", help="Diversity of hits (MMR), 0 to 1.")
    ] = 0,
    deduplicate: Annotated[
        bool, typer.Option("--deduplicate", help="Collapse near-duplicates into their best hit.")
    ] = False,
    group_by: Annotated[
        str | None, typer.Option(metavar="FIELD", help="The best hit for each value of this field.")
    ] = None,
    keyword_weight: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="SHARE",
            help="Hybrid search: weight of keywords (BM25) in file names, captions and other texts, 0 to 1.",
        ),
    ] = 0,
    as_json: AsJson = False,
    sheet: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a contact sheet of the hits, such as hits.png.", callback=on_disk),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write an HTML page of the hits, such as hits.html.", callback=on_disk),
    ] = None,
    images: ShowImages = False,
    as_text: Annotated[bool, typer.Option("--text", help="Take QUERY as text, even if it looks like a path.")] = False,
    embedder: KnownEmbedder = None,
) -> None:
    """Search FOLDER by text, or by an image if QUERY is the path of a file.

    Scores are cosine similarities, at most 1, comparable within one search only. The percentage, if known, is the
    relevance: the share of neutral queries whose best hit scores lower. If that of the best hit is below a threshold,
    the first line says "perhaps", and below a lower one "nothing here looks like that", which was also said of 2 to 5 %
    of captions of indexed photos when it was measured. The exit status is 0 without hits, too.
    """
    check_place(folder)
    check_indexed(folder)
    if group_by == "":
        raise ConfigurationError("--group-by takes the name of a payload field, such as place, not an empty text")
    wanted = query_of(query, unlike or (), as_text=as_text)
    passing = None if where is None else filter_of(where)
    given = {"diversity": diversity, "deduplicate": deduplicate, "group_by": group_by, "keyword_weight": keyword_weight}
    settings: dict[str, Any] = {name: value for name, value in given.items() if value}
    settings |= {} if thresholds is None else {"thresholds": thresholds}
    with open_folder_index(folder, embedder) as index:
        results = index.search(wanted, limit=limit, offset=offset, where=passing, min_score=min_score, **settings)
    if matches:
        results = results.matches
    asked = ", unlike ".join([query, *unlike]) if unlike else results.query
    results = results.with_hits([relocate_hit(hit, folder) for hit in results], asked)
    write_files(results, sheet=sheet, html=html)
    if as_json:
        print(results.to_json(indent=2))
        return
    if query == "-" and not as_text:
        print("with the image on standard input:")
    print_results(results, images=images)


@app.command(short_help="Find duplicate and near-duplicate images in an indexed folder.")
def duplicates(
    folder: IndexedFolder,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="SCORE",
            help="Minimum cosine similarity of duplicates. [default: the embedder's; 0.997 for color]",
        ),
    ] = None,
    where: Where = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: a list of groups, each a list of hits.")] = False,
    sheet: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write a contact sheet of the groups, such as duplicates.png.", callback=on_disk
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write an HTML page of the groups, such as duplicates.html.", callback=on_disk
        ),
    ] = None,
    images: ShowImages = False,
    embedder: KnownEmbedder = None,
) -> None:
    """Find duplicates and near-duplicates in FOLDER: other sizes, formats, crops, shots of a series.

    Each group begins with its best copy; scores are cosine similarities to it. Nothing is deleted.
    """
    check_place(folder)
    check_indexed(folder)
    passing = None if where is None else filter_of(where)
    with open_folder_index(folder, embedder) as index:
        found = index.duplicates(threshold, where=passing)
    groups = [[relocate_hit(hit, folder) for hit in group] for group in found]
    if as_json:
        print(json.dumps([SearchResults(group, "").to_dicts() for group in groups], indent=2, allow_nan=False))
    numbered = [
        replace(hit, group=f"group {number:,}") for number, group in enumerate(groups, start=1) for hit in group
    ]
    results = SearchResults(numbered, f"duplicates in {folder}")
    write_files(results, sheet=sheet, html=html)
    if as_json:
        return
    if not groups:
        print("no duplicates")
        return
    print(f"{len(groups):,} {'group' if len(groups) == 1 else 'groups'}, {len(numbered):,} images")
    if can_show(images=images):
        print_images(cards_of(numbered))
        return
    for group in groups:
        print("", *rows_of(group), sep="\n")


app.command(short_help="List the embedders and stores, and what is missing for each.")(backends)
app.add_typer(models, name="models", short_help="List models that run on this machine, and download them.")


@app.command(short_help="Show what an index holds, and its known problems.")
def status(folder: IndexedFolder, as_json: AsJson = False) -> None:
    """Show what the index of FOLDER holds: number of images, embedder, size on disk, time of the last change.

    Known problems are listed with what to do. The command is fast and needs no embedder. The exit status is 1 if the
    index cannot be opened.
    """
    with _opened(folder) as index:
        found = index.status()
    print_state(str(found), found.to_dict(), as_json=as_json)


@app.command(short_help="Check every byte of an index.")
def verify(
    folder: IndexedFolder,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Check every byte of the index of FOLDER, and report what is missing or damaged and what to do.

    The command needs no embedder and changes nothing. The exit status is 0 if the index is complete, and 1 if it is
    not, or if it cannot be opened.
    """
    with _opened(folder) as index:
        found = index.verify(progress=False if quiet else None)
    print_state(str(found), found.to_dict(), as_json=as_json)
    if not found.ok:
        raise typer.Exit(1)


def _opened(folder: Path) -> MultimodalIndex:
    check_place(folder)
    check_indexed(folder)
    return open_folder_index(folder, None)
