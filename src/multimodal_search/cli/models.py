"""The command `models`: which models run on this machine, where their files are, and how they come there."""

# ruff: noqa: T201 (a command prints)

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from multimodal_search._extras import require
from multimodal_search.embedders.onnx.catalogue import DEFAULT_MODEL, MODELS
from multimodal_search.embedders.onnx.files import ModelSource
from multimodal_search.embedders.onnx.variants import SIDES, checked_revision, checked_variant
from multimodal_search.errors import ConfigurationError

models = typer.Typer(invoke_without_command=True, rich_markup_mode=None)

_Name = Annotated[
    str, typer.Argument(metavar="NAME", help="A name of the Hugging Face hub, such as those that are listed.")
]
_Variant = Annotated[
    list[str] | None,
    typer.Option(
        metavar="VARIANT", help="fp32, fp16, int8, q4; or one tower's, as text=int8. Repeatable. [default: fp32]"
    ),
]
_Cache = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="The hub's cache. [default: HF_HOME, or ~/.cache/huggingface]")
]
_Revision = Annotated[
    list[str] | None,
    typer.Option(
        metavar="REVISION", help="Commit, tag or branch; or one tower's, as text=main. [default: pinned, or newest]"
    ),
]


@models.callback()
def list_models(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")] = False,
    cache_folder: _Cache = None,
) -> None:
    """List the models that are known: licence, languages, dimensions, download, and whether they are here.

    Any other model with one ONNX file for images and one for texts can be used from Python; see docs/embedders.md.
    """
    if context.invoked_subcommand is not None:
        return
    rows = [_row(name, cache_folder) for name in MODELS]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        size = f"{row['download_mb']:,} MB" if row["download_mb"] else "unknown size"
        print(f"{row['name']}{' (default)' if row['default'] else ''}")
        print(f"  {row['licence']}; {row['languages']}; {row['dimension']} dimensions; {size}; {row['state']}")
    print('They need the extra local: pip install "multimodal-search[local]"')


@models.command(short_help="Download a model.")
def download(
    name: _Name = DEFAULT_MODEL,
    variant: _Variant = None,
    revision: _Revision = None,
    cache_folder: _Cache = None,
) -> None:
    """Download the files of a model that are needed, and print the folder of the cache that they are in."""
    source = _source(name, variant, revision, cache_folder)
    source.found()
    print(_cache_of(source))


@models.command(short_help="Print where a model's files are.")
def path(
    name: _Name = DEFAULT_MODEL,
    variant: _Variant = None,
    revision: _Revision = None,
    cache_folder: _Cache = None,
) -> None:
    """Print the folders of a downloaded model, one a line. The exit status is 1 if it is not here."""
    source = _source(name, variant, revision, cache_folder)
    if source.found(download=False) is None:
        raise ConfigurationError(f"{name} is not in {_cache_of(source)}: run multimodal-search models download {name}")
    for folder in source.folders():
        print(folder)


def _source(name: str, variant: list[str] | None, revision: list[str] | None, cache_folder: Path | None) -> ModelSource:
    require("onnxruntime", extra="local", purpose="the command models")
    return ModelSource(
        model=name,
        revisions=checked_revision(_by_side("--revision", revision)),
        variants=checked_variant(_by_side("--variant", variant)),
        cache_folder=cache_folder,
    )


def _by_side(option: str, told: list[str] | None) -> dict[str, str]:
    """What an option says of each tower: `int8` of both, `text=int8` of one."""
    found: dict[str, str] = {}
    for each in told or ():
        side, equals, chosen = each.rpartition("=")
        if equals and side not in SIDES:
            raise ConfigurationError(f"{option} {each}: the towers are {' and '.join(SIDES)}, as in text={chosen}")
        found |= {one: chosen for one in SIDES if side in ("", one)}
    return found


def _cache_of(source: ModelSource) -> Path:
    return source.cache_folders()[0]


def _row(name: str, cache_folder: Path | None) -> dict[str, Any]:
    known = MODELS[name]
    try:
        is_here = _source(name, None, None, cache_folder).found(download=False) is not None
        state = "downloaded" if is_here else "not downloaded"
    except ConfigurationError as error:  # the extra is missing, or the files are damaged
        is_here, state = False, str(error)
    return {
        "name": name,
        "licence": known.licence,
        "languages": known.languages_said,
        "dimension": known.dimension,
        "download_mb": known.download_mb(checked_variant(None)),
        "extra": "local",
        "downloaded": is_here,
        "state": state,
        "default": name == DEFAULT_MODEL,
    }
