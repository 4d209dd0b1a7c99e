"""The shell command `multimodal-search`; what it does is one call of the index each."""

# ruff: noqa: T201 (a command prints)

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from multimodal_search._ctrl_c import raised
from multimodal_search._extras import require
from multimodal_search._files import checked_path, located
from multimodal_search._indexing.sources import Walk, from_manifest
from multimodal_search._rendering.contact_sheet import stack
from multimodal_search._rendering.terminal import print_images
from multimodal_search._text import prose
from multimodal_search.cli import demo_images as _demo
from multimodal_search.cli.folder_index import (
    DEFAULT_EMBEDDER,
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
from multimodal_search.cli.output import can_show, print_results, print_state, save_sheet, write_files
from multimodal_search.cli.query import filter_of, query_of
from multimodal_search.contents import Image
from multimodal_search.embedders.registry import check_embedder_name, embedder_names
from multimodal_search.errors import (
    ConfigurationError,
    IndexingInterrupted,
)
from multimodal_search.index import MultimodalIndex
from multimodal_search.results import SearchResults, cards_of, rows_of

require("typer", extra="cli", purpose="the command multimodal-search")
import typer  # noqa: E402 (after the check that it is there)


def _on_disk(parameter: typer.CallbackParam, path: Path | None) -> Path | None:
    name = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.metavar
    return None if path is None else located(checked_path(path, str(name)))


_IndexedFolder = Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder that is indexed.", callback=_on_disk)]
_Images = Annotated[bool, typer.Option("--images", help="Show the images, in a terminal that can.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]
_Where = Annotated[
    str | None,
    typer.Option(metavar="JSON", help="""Only what has these fields, such as '{"year": {"gte": 2020}}'."""),
]
_KnownEmbedder = Annotated[
    str | None,
    typer.Option("--embedder", "-e", metavar="NAME", help="What FOLDER was indexed with; it is known without this."),
]

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
    """Find images again, by words or by another image.

    First index a folder, then search it. An embedder turns images and words into vectors: "color", the default, needs
    nothing and knows nothing but colours; "aleph-alpha" needs AA_HOST and AA_TOKEN in the environment.
    """


@app.command(short_help="Try it out, with images that are painted on the spot.")
def demo(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Where to put the images and the contact sheet.", callback=_on_disk),
    ] = Path("multimodal-search-demo"),
) -> None:
    """Paint some images, index them, and search them by words in three languages and by an image."""
    photos, sheet = folder / "photos", folder / "contact-sheet.png"
    print(f"{len(_demo.paint(photos))} images in {photos}")
    with raised(), indexing(photos, DEFAULT_EMBEDDER) as index:
        print(index.add_images(photos))
        image = Image(photos / _demo.IMAGE, name=_demo.IMAGE)
        found = [index.search(query, limit=4) for query in (*_demo.SEARCHES, image)]
    for results in found:
        print(f"\n{results}")
    save_sheet(stack([results.contact_sheet() for results in found]), sheet)
    print(f"\nLook at {sheet}, and search for something else:")
    print(f"  {shlex.join(['multimodal-search', 'search', 'fiori gialli', str(photos)])}")
    print("The same for images of your own:")
    print("  multimodal-search index ~/Images\n  multimodal-search search 'blue sky' ~/Images")


@app.command(name="index", short_help="Index the images of a folder, or what has changed in it.")
def index_folder(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="The folder, with all folders in it; or an archive.", callback=_on_disk),
    ],
    embedder: Annotated[
        str | None,
        typer.Option(
            "--embedder",
            "-e",
            metavar="NAME",
            help=f"One of {', '.join(embedder_names())}. [default: the one it was indexed with, or {DEFAULT_EMBEDDER}]",
        ),
    ] = None,
    pattern: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Only files that match, such as '*.jpg'; can be given repeatedly."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB", help="No files and folders that match, such as 'Private'; can be given repeatedly."
        ),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Only the files that this CSV or JSONL file names, with its other columns as fields.",
            callback=_on_disk,
        ),
    ] = None,
    prune: Annotated[bool, typer.Option(help="Remove what is indexed of files that are gone.")] = True,
    gone: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Remove what is indexed of files below this folder in FOLDER though they may only be out of sight; "
            "can be given repeatedly.",
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again what failed before and has not changed.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    failures: Annotated[bool, typer.Option("--failures", help="Name every file that failed, on stderr.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Index the images of FOLDER, or what has changed in it since last time.

    FOLDER may be a zip or tar file, too. The index is kept in FOLDER/.multimodal-search, or beside the archive. A moved
    file keeps its vector, and what is indexed of a deleted one is removed. A file that cannot be read costs nothing but
    itself. The exit status is 1 if files failed and none could be indexed.
    """
    check_place(folder)
    if (dry_run or pattern or exclude or not prune or gone) and (manifest is not None or not folder.is_dir()):
        raise ConfigurationError(
            "--dry-run, --pattern, --exclude, --gone and --no-prune are for folders, and not for manifests or archives"
        )
    if embedder is not None:
        check_embedder_name(embedder)
    if gone and not prune:
        raise ConfigurationError("--gone says what to remove, and --no-prune that nothing is: give one of them")
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


@app.command(short_help="Search an indexed folder, by words or by an image.")
def search(
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="Words, or the path of an image; - reads one from standard input.")
    ],
    folder: _IndexedFolder,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, metavar="COUNT", help="Most hits.")] = 10,
    offset: Annotated[int, typer.Option(min=0, metavar="COUNT", help="Hits to skip, for the next page.")] = 0,
    where: _Where = None,
    min_score: Annotated[
        float | None, typer.Option(metavar="SCORE", help="Only hits with at least this score.")
    ] = None,
    confident: Annotated[bool, typer.Option("--confident", help="Only hits that stand out.")] = False,
    unlike: Annotated[
        list[str] | None,
        typer.Option(metavar="QUERY", help="What hits should not be like; can be given repeatedly."),
    ] = None,
    diversity: Annotated[
        float, typer.Option(min=0, max=1, metavar="SHARE", help="How much hits should differ, 0 to 1.")
    ] = 0,
    deduplicate: Annotated[bool, typer.Option("--fold", help="Put nearly the same images behind each other.")] = False,
    group_by: Annotated[
        str | None, typer.Option(metavar="FIELD", help="Only the best hit for each value of this field.")
    ] = None,
    keyword_weight: Annotated[
        float, typer.Option(min=0, max=1, metavar="SHARE", help="How much the words in fields count, 0 to 1.")
    ] = 0,
    as_json: _Json = False,
    sheet: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write the hits as an image, such as hits.png.", callback=_on_disk),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write the hits as a page, such as hits.html.", callback=_on_disk),
    ] = None,
    images: _Images = False,
    as_text: Annotated[
        bool, typer.Option("--text", help="QUERY is words, even if it is, or looks like, the path of a file.")
    ] = False,
    embedder: _KnownEmbedder = None,
) -> None:
    """Search FOLDER by words, or by an image where QUERY is the path of a file.

    Scores are cosine similarities, at most 1; compare them within one search only. The percentage, where it is known,
    is the relevance: of 100 neutral queries, how many find nothing with so high a score. No hits are no error.
    """
    check_place(folder)
    check_indexed(folder)
    if group_by == "":
        raise ConfigurationError("--group-by takes the name of a field, such as place, and was given none")
    wanted = query_of(query, unlike or (), as_text=as_text)
    passing = None if where is None else filter_of(where)
    given = {"diversity": diversity, "deduplicate": deduplicate, "group_by": group_by, "keyword_weight": keyword_weight}
    settings: dict[str, Any] = {name: value for name, value in given.items() if value}
    with open_folder_index(folder, embedder) as index:
        results = index.search(wanted, limit=limit, offset=offset, where=passing, min_score=min_score, **settings)
    if confident:
        results = results.confident
    asked = ", unlike ".join([query, *unlike]) if unlike else results.query
    results = SearchResults([relocate_hit(hit, folder) for hit in results], asked)
    write_files(results, sheet=sheet, html=html)
    if as_json:
        print(results.to_json(indent=2))
        return
    if query == "-" and not as_text:
        print("with the image on standard input:")
    if confident and not results:
        print("nothing here looks like that")
    else:
        print_results(results, images=images)


@app.command(short_help="Find images that an indexed folder has more than once, or nearly so.")
def duplicates(
    folder: _IndexedFolder,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="SCORE",
            help="How similar two have to be. [default: what suits the embedder; 0.997 for color]",
        ),
    ] = None,
    where: _Where = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: a list of groups, each a list of hits.")] = False,
    sheet: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Also write the groups as an image, such as duplicates.png.", callback=_on_disk
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Also write the groups as a page, such as duplicates.html.", callback=_on_disk
        ),
    ] = None,
    images: _Images = False,
    embedder: _KnownEmbedder = None,
) -> None:
    """Find images that FOLDER has more than once, or nearly so: other sizes, formats, crops, shots of a series.

    Each group begins with its best copy, and scores are the similarity to that. Nothing is deleted.
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


@app.command(short_help="Say what an index holds, and what is known to be wrong with it.")
def status(folder: _IndexedFolder, as_json: _Json = False) -> None:
    """Say what the index of FOLDER holds: how many images, by which embedder, how large, when it last changed.

    And what is known to be missing, and what to do. It is quick, and needs no embedder. The exit status is 1 if the
    index cannot be opened.
    """
    with _opened(folder) as index:
        found = index.status()
    print_state(str(found), found.to_dict(), as_json=as_json)


@app.command(short_help="Read all of an index, and say what is missing or damaged.")
def verify(
    folder: _IndexedFolder,
    as_json: _Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Read every byte of the index of FOLDER, and say what is missing or damaged, and what to do.

    It needs no embedder, and changes nothing. The exit status is 0 if all is well, and 1 if it is not, or if the index
    cannot be opened.
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
