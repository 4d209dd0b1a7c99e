"""The index of a folder, as the shell keeps it: in the folder itself, so that the two move together."""

from __future__ import annotations

import os
import shlex
import time
from dataclasses import replace
from pathlib import Path

from multimodal_search._archives import is_archive
from multimodal_search._clutter import HOME
from multimodal_search._registry import check_embedder_name, make_embedder
from multimodal_search.errors import ConfigurationError, SchemaMismatchError, StoreLockedError
from multimodal_search.index import MultimodalIndex
from multimodal_search.results import SearchHit
from multimodal_search.stores._qdrant_edge_folder import ONE_PROCESS

HIDDEN = HOME
"""The hidden folder in an indexed one, so that the two move together: `index`, and `embedder`, a name in a file."""

DEFAULT_EMBEDDER = "color"

_PATIENCE_S = 10.0  # for another command on the same folder: most end sooner


def check_place(folder: Path) -> None:
    """See that there is such a folder, or archive.

    Raises:
        ConfigurationError: There is none.
    """
    if not folder.is_dir() and not is_archive(folder):
        raise ConfigurationError(f"{folder} {'is a file, not a folder' if folder.exists() else 'does not exist'}")


def check_indexed(folder: Path) -> None:
    """See that a folder has an index.

    Raises:
        ConfigurationError: It has none yet.
    """
    if not is_indexed(folder):
        again = shlex.join(["multimodal-search", "index", str(folder)])
        raise ConfigurationError(f"{folder} is not indexed yet: run {again}")


def is_indexed(folder: Path) -> bool:
    """Whether a folder has an index."""
    return (home_of(folder) / "index" / "schema.json").is_file()  # written last, when an index is made


def home_of(folder: Path) -> Path:
    """Where the index of a folder, or of an archive, and the name of its embedder are."""
    return folder / HIDDEN if folder.is_dir() else folder.with_name(f"{folder.name}{HIDDEN}")


def embedder_of(folder: Path, asked: str | None) -> str:
    """The name of the embedder that a folder was or will be indexed with.

    Raises:
        ConfigurationError: There is no embedder of the name that was asked for.
        SchemaMismatchError: The folder was indexed with another than the one that was asked for.
    """
    if asked is not None:
        check_embedder_name(asked)
    try:
        known = (home_of(folder) / "embedder").read_text("utf-8").strip()
    except FileNotFoundError:
        return asked or DEFAULT_EMBEDDER
    if asked not in (None, known):
        raise SchemaMismatchError(
            f"{folder} was indexed with the embedder {known!r}, and {asked!r} cannot search among its vectors: "
            f"leave out --embedder, or delete {home_of(folder)} and index {folder} again with --embedder {asked}"
        )
    return known


def opened(folder: Path, embedder: str) -> MultimodalIndex:
    """The index of a folder, opened or created, with the name of its embedder beside it.

    Raises:
        StoreLockedError: Another process has it open, for longer than some seconds.
    """
    place, made, until = home_of(folder) / "index", make_embedder(embedder), time.monotonic() + _PATIENCE_S
    while True:
        try:
            index = MultimodalIndex.open(place, embedder=made)
            break
        except StoreLockedError as error:
            if time.monotonic() > until:
                raise StoreLockedError(str(error).replace(ONE_PROCESS, "Try again when it has finished")) from error
        time.sleep(0.1)
    note = home_of(folder) / "embedder"
    if not note.exists():
        note.write_text(f"{embedder}\n", "utf-8")
    return index


def found_again(hit: SearchHit, folder: Path) -> SearchHit:
    """The hit, and where its file is now: the folder may have been moved or copied since it was indexed."""
    hit = replace(hit, folded=tuple(found_again(behind, folder) for behind in hit.folded))
    stored, root = Path(str(hit.payload.get("root"))), os.path.normpath(folder.absolute())
    if hit.path is None or stored == Path(stored.anchor):  # as of a file outside the folder that a manifest named
        return hit
    here = replace(hit, payload={**hit.payload, "root": root})
    if not folder.is_dir():  # an archive
        return here
    is_below = stored.is_relative_to(root) and _is_there(hit.path)  # as where a program indexed a folder in the folder
    return here if not is_below and here.path is not None and _is_there(here.path) else hit


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: no name for a file in this locale
        return False
    except OSError:  # a folder that may not be read for the moment
        pass
    return True
