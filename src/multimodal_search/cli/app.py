"""The shell command `multimodal-search`; what it does is one call of the index each."""

# ruff: noqa: T201 (a command prints)

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import PIL.Image

from multimodal_search._ctrl_c import raised
from multimodal_search._extras import require
from multimodal_search._files import checked_path, located
from multimodal_search._indexing.sources import Walk, from_manifest
from multimodal_search._path_text import exists, is_address, is_path_of_nothing
from multimodal_search._rendering.contact_sheet import stack
from multimodal_search._rendering.terminal import print_images, shows_images
from multimodal_search._secrets import shown_address
from multimodal_search._text import printable, prose, shorten
from multimodal_search.cli import demo_images as _demo
from multimodal_search.cli.backends import backends
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
from multimodal_search.contents import Image, QueryPart, Text
from multimodal_search.embedders.registry import check_embedder_name, embedder_names
from multimodal_search.errors import (
    ConfigurationError,
    IndexingInterrupted,
    QueryError,
)
from multimodal_search.index import MultimodalIndex
from multimodal_search.query import Query
from multimodal_search.report import IndexReport
from multimodal_search.results import SearchResults, cards_of

require("typer", extra="cli", purpose="the command multimodal-search")
import typer  # noqa: E402 (after the check that it is there)

_UNLIKE_WEIGHT = 0.5  # of what hits should not be like: with 1, what both have in common would play no part

_MAX_BYTES = 2**28  # of an image on standard input: what is there may have no end


def _on_disk(parameter: typer.CallbackParam, path: Path | None) -> Path | None:
    name = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.metavar
    return None if path is None else located(checked_path(path, str(name)))


_IndexedFolder = Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder that is indexed.", callback=_on_disk)]
_Images = Annotated[bool, typer.Option("--images", help="Show the images, in a terminal that can.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]
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
    _save(stack([results.contact_sheet() for results in found]), sheet)
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
    repeats = Repeats()
    try:
        with raised(), trying(folder, embedder) if dry_run else indexing(folder, embedder) as index:
            report = _index(
                index,
                folder,
                pattern,
                exclude,
                manifest,
                repeats,
                prune=prune,
                gone=gone or (),
                retry_failed=retry_failed,
                dry_run=dry_run,
                quiet=quiet,
            )
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


def _index(
    index: MultimodalIndex,
    folder: Path,
    pattern: Sequence[str] | None,
    exclude: Sequence[str] | None,
    manifest: Path | None,
    repeats: Repeats,
    *,
    prune: bool,
    gone: Sequence[str],
    retry_failed: bool,
    dry_run: bool,
    quiet: bool,
) -> IndexReport:
    bar = False if quiet else None
    if manifest is not None:
        items = from_manifest(manifest_items(manifest, folder, repeats), folder)
        return index.add_images(items, progress=bar, retry_failed=retry_failed)
    if folder.is_dir():
        return index.sync_folder(
            folder,
            pattern=pattern,
            exclude=exclude,
            prune=prune,
            gone=gone,
            dry_run=dry_run,
            progress=bar,
            retry_failed=retry_failed,
        )
    return index.add_images(folder, progress=bar, retry_failed=retry_failed)


@app.command(short_help="Search an indexed folder, by words or by an image.")
def search(
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="Words, or the path of an image; - reads one from standard input.")
    ],
    folder: _IndexedFolder,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, metavar="COUNT", help="Most hits.")] = 10,
    offset: Annotated[int, typer.Option(min=0, metavar="COUNT", help="Hits to skip, for the next page.")] = 0,
    where: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="""Only what has these fields, such as '{"year": {"gte": 2020}}'."""),
    ] = None,
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
    wanted = _query(query, unlike or (), as_text=as_text)
    passing = None if where is None else _filter(where)
    given = {"diversity": diversity, "deduplicate": deduplicate, "group_by": group_by, "keyword_weight": keyword_weight}
    settings: dict[str, Any] = {name: value for name, value in given.items() if value}
    with open_folder_index(folder, embedder) as index:
        results = index.search(wanted, limit=limit, offset=offset, where=passing, min_score=min_score, **settings)
    if confident:
        results = results.confident
    asked = ", unlike ".join([query, *unlike]) if unlike else results.query
    results = SearchResults([relocate_hit(hit, folder) for hit in results], asked)
    _write(results, sheet=sheet, html=html)
    if as_json:
        print(results.to_json(indent=2))
        return
    if query == "-" and not as_text:
        print("with the image on standard input:")
    if confident and not results:
        print("nothing here looks like that")
    else:
        _show(results, images=images)


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
    where: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="""Only what has these fields, such as '{"year": {"gte": 2020}}'."""),
    ] = None,
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
    passing = None if where is None else _filter(where)
    with open_folder_index(folder, embedder) as index:
        found = index.duplicates(threshold, where=passing)
    groups = [[relocate_hit(hit, folder) for hit in group] for group in found]
    if as_json:
        print(json.dumps([SearchResults(group, "").to_dicts() for group in groups], indent=2, allow_nan=False))
    numbered = [
        replace(hit, group=f"group {number:,}") for number, group in enumerate(groups, start=1) for hit in group
    ]
    results = SearchResults(numbered, f"duplicates in {folder}")
    _write(results, sheet=sheet, html=html)
    if as_json:
        return
    if not groups:
        print("no duplicates")
        return
    print(f"{len(groups):,} {'group' if len(groups) == 1 else 'groups'}, {len(numbered):,} images")
    if _can_show(images=images):
        print_images(cards_of(numbered))
        return
    for group in groups:
        print()
        print(str(SearchResults(group, "")).partition("\n")[2])  # without its heading


app.command(short_help="List the embedders and stores, and what is missing for each.")(backends)


@app.command(short_help="Say what an index holds, and what is known to be wrong with it.")
def status(folder: _IndexedFolder, as_json: _Json = False) -> None:
    """Say what the index of FOLDER holds: how many images, by which embedder, how large, when it last changed.

    And what is known to be missing, and what to do. It is quick, and needs no embedder. The exit status is 1 if the
    index cannot be opened.
    """
    with _for_state(folder) as index:
        found = index.status()
    _print_state(str(found), found.to_dict(), as_json=as_json)


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
    with _for_state(folder) as index:
        found = index.verify(progress=False if quiet else None)
    _print_state(str(found), found.to_dict(), as_json=as_json)
    if not found.ok:
        raise typer.Exit(1)


def _for_state(folder: Path) -> MultimodalIndex:
    check_place(folder)
    check_indexed(folder)
    return open_folder_index(folder, None)


def _print_state(text: str, fields: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(fields, indent=2, allow_nan=False))
    else:
        print("\n".join(map(printable, text.splitlines())))


def _query(query: str, unlike: Sequence[str], *, as_text: bool) -> Query:
    def content(text: str) -> Text | Image:
        return Text(text) if as_text else _words_or_image(text)

    wanted: QueryPart = content(query)
    for each in unlike:
        wanted = wanted - _UNLIKE_WEIGHT * content(each)
    return wanted


def _filter(text: str) -> dict[str, Any]:
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


def _write(results: SearchResults, *, sheet: Path | None, html: Path | None) -> None:
    if sheet is not None:
        _save(results.contact_sheet(), sheet)
    if html is not None:
        results.to_html(html)


def _show(results: SearchResults, *, images: bool) -> None:
    if results and _can_show(images=images):
        print(str(results).partition("\n")[0], end="\n\n")
        print_images(cards_of(results))
    else:
        print(results)


def _can_show(*, images: bool) -> bool:
    """Whether images are wanted, and can be shown; says so where they cannot."""
    if images and not shows_images():
        print("multimodal-search: --images needs a terminal with colours; here are the names alone", file=sys.stderr)
        return False
    return images


def _save(image: PIL.Image.Image, path: Path) -> None:
    try:
        image.save(path)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ConfigurationError(f"the contact sheet cannot be written to {path}: {reason.lower()}") from error
