"""The index of a folder in the shell, stored in the folder itself so that both move together."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from multimodal_search._files import atomic_write
from multimodal_search.embedders.kept import NOTE, ref_of
from multimodal_search.embedders.registry import (
    check_embedder_name,
    embedder_name_of,
    embedder_names,
    load_embedder,
    missing_of,
)
from multimodal_search.errors import (
    ConfigurationError,
    MissingExtraError,
    MultimodalSearchError,
    SchemaMismatchError,
    StoreError,
    StoreLockedError,
)
from multimodal_search.index import MultimodalIndex
from multimodal_search.media.archives.members import is_archive
from multimodal_search.media.system_files import HOME
from multimodal_search.protocols import Embedder
from multimodal_search.results import SearchHit
from multimodal_search.stores.memory import MemoryStore
from multimodal_search.stores.qdrant_edge.opening import read_schema
from multimodal_search.stores.qdrant_edge.process_lock import ProcessLock

HIDDEN = HOME
"""Hidden folder inside an indexed folder: holds `index`, and the file `embedder` with the embedder's name."""

_DEFAULT_EMBEDDER = "MULTIMODAL_SEARCH_EMBEDDER"
"""The environment variable that names the embedder of folders that are not indexed yet."""

_STAND_IN = "color"  # for a dry run of a new folder, which embeds nothing: its model need not be downloaded

_RETRY_DEADLINE_S = 10.0  # waiting for another command on the same folder; most end sooner
_ATTEMPTS = 5  # while another command may be removing an index that it created and did not need
_NAME = re.compile(r"[\w.@:+-]{1,100}")  # of an embedder in another package; a damaged file rarely matches


def check_place(folder: Path) -> None:
    """Check that a folder or archive exists.

    Raises:
        ConfigurationError: It does not.
    """
    if not folder.is_dir() and not is_archive(folder):
        raise ConfigurationError(f"{folder} {'is a file, not a folder' if folder.exists() else 'does not exist'}")


def check_indexed(folder: Path) -> None:
    """Check that a folder has an index.

    Raises:
        ConfigurationError: It has none, or an incomplete one.
    """
    if not is_indexed(folder):
        again = shlex.join(["multimodal-search", "index", str(folder)])
        if (index_home(folder) / "index" / "shard").exists():
            raise ConfigurationError(
                f"the index of {folder} is incomplete: {index_home(folder) / 'index' / 'schema.json'} is missing. Run "
                f"{again}: it creates the index again if it is empty, and says what to do if it is not"
            )
        if (folder / "schema.json").is_file() and (folder / "shard").is_dir():
            raise ConfigurationError(
                f"{folder} is an index itself, which a program keeps in a folder of its own: open it in Python, with "
                "MultimodalIndex.open. The shell takes the folder of the images"
            )
        raise ConfigurationError(f"{folder} is not indexed yet: run {again}")


def is_indexed(folder: Path) -> bool:
    """Whether a folder has an index."""
    return (index_home(folder) / "index" / "schema.json").is_file()  # written last, when an index is made


def index_home(folder: Path) -> Path:
    """The hidden folder that holds the index of a folder or an archive, and the name of its embedder."""
    return folder / HIDDEN if folder.is_dir() else folder.with_name(f"{folder.name}{HIDDEN}")


def embedder_of(folder: Path, asked: str | None) -> str:
    """The name of the embedder that a folder was or will be indexed with.

    Raises:
        ConfigurationError: `asked` is not an embedder, or the folder's embedder is unknown.
        SchemaMismatchError: The folder was indexed with another embedder than `asked`.
    """
    if asked is not None:
        check_embedder_name(asked)
    known = _known_embedder(folder)
    if known == "" and asked is None:
        raise ConfigurationError(
            f"{_note_of(folder)} does not name the embedder that {folder} was indexed with: pass it with --embedder"
        )
    if asked is not None and known not in (None, "", asked):
        raise SchemaMismatchError(
            f"{folder} was indexed with the embedder {known!r}, and {asked!r} cannot search among its vectors: "
            f"leave out --embedder, or delete {index_home(folder)} and index {folder} again with --embedder {asked}"
        )
    return asked or known or default_embedder_name()


def default_embedder_name() -> str:
    """The embedder of a folder that is not indexed yet, where none is named.

    Raises:
        MissingExtraError: The extra `local` is not installed.
    """
    chosen = os.environ.get(_DEFAULT_EMBEDDER, "").strip()
    if not chosen and (missing := missing_of("onnx")):
        raise MissingExtraError(
            f"to find images by meaning, with a model on this machine: {missing}; to find them by colours, which needs "
            "nothing: --embedder color"
        )
    return chosen or "onnx"


def _known_embedder(folder: Path) -> str | None:
    """The name in the file `embedder`, else by the fingerprint; None if unknown, empty if the file is damaged."""
    noted: str | None
    try:
        noted = _note_of(folder).read_text("utf-8").strip()
    except FileNotFoundError:
        noted = None
    except (OSError, ValueError):  # no permission, a folder, no UTF-8
        noted = ""
    if noted in embedder_names():
        return noted
    with suppress(StoreError):  # damaged: opening it says so
        schema = read_schema(index_home(folder) / "index")
        if schema is not None and (told := embedder_name_of(schema.fingerprint)) is not None:
            return told
    if noted is None or _NAME.fullmatch(noted):  # of a package that is not installed any more: using it says so
        return noted
    return ""


def _note_of(folder: Path) -> Path:
    return index_home(folder) / "embedder"


def open_folder_index(folder: Path, asked: str | None) -> MultimodalIndex:
    """Open the index of a folder for reading; the embedder is created on first use.

    Args:
        folder: An indexed folder or archive.
        asked: The name of the embedder, if the user gave one.

    Raises:
        ConfigurationError: It is not indexed, or there is no such embedder.
        SchemaMismatchError: It was indexed with another embedder.
        StoreLockedError: Another process kept it open for more than 10 s.
    """
    if asked is not None:
        embedder_of(folder, asked)

    def make() -> Embedder:
        check_indexed(folder)  # otherwise it would be created, if another command has just removed it
        return _loaded(folder, embedder_of(folder, asked))

    return _opened(folder, make)


def trying(folder: Path, asked: str | None) -> MultimodalIndex:
    """Open the index of a folder for a dry run: an empty one in memory if the folder has none."""
    if is_indexed(folder):
        return open_folder_index(folder, asked)
    return MultimodalIndex(load_embedder(asked or _STAND_IN), MemoryStore())


@contextmanager
def indexing(folder: Path, asked: str | None) -> Iterator[MultimodalIndex]:
    """Open the index of a folder for writing; create it if there is none.

    A new index that stays empty is removed again: it would bind the folder to its embedder, and answer "no hits" where
    nothing was indexed. It is checked and removed while the index's lock is held, so that other commands may run at the
    same time.

    Args:
        folder: A folder or archive.
        asked: The name of the embedder, if the user gave one.

    Raises:
        ConfigurationError: There is no such embedder, or a setting that it needs is missing.
        SchemaMismatchError: The folder was indexed with another embedder.
        StoreLockedError: Another process kept it open for more than 10 s.
    """
    index, is_new = _opened_to_index(folder, asked)
    is_useless = False
    try:
        try:
            yield index
        finally:
            with suppress(MultimodalSearchError):  # the first error counts
                is_useless = is_new and index.count() == 0
    finally:
        if is_useless:
            _discard(index, folder)
        else:
            index.close()


def _opened_to_index(folder: Path, asked: str | None) -> tuple[MultimodalIndex, bool]:
    """The index, and whether it was created here."""
    for _ in range(_ATTEMPTS):
        known = _known_embedder(folder)
        name = asked or known or default_embedder_name()
        check_embedder_name(name)
        index = _opened(folder, partial(_loaded, folder, name))
        is_empty = False
        try:
            is_empty = index.count() == 0  # then the folder is not bound to an embedder
            if is_empty or embedder_of(folder, asked) == name:
                is_new = is_empty and not _note_of(folder).exists()
                if is_empty or known != name:
                    _ = index.embedder  # created now, to check that it is the right one
                _write_note(folder, name)
                return index, is_new
            index.close()  # another command was first, with another embedder
        except SchemaMismatchError:
            if not is_empty:
                index.close()
                raise
            _discard(index, folder)
        except BaseException:
            index.close()
            raise
    raise StoreError(f"other commands keep changing the embedder of {folder}: try again later")


def _loaded(folder: Path, name: str) -> Embedder:
    """The embedder of this name, with the options that are kept in the index, if it was made with it."""
    try:
        kept = ref_of((index_home(folder) / "index" / "notes" / NOTE).read_text("utf-8"))
    except (OSError, ValueError):
        kept = None
    return kept.load() if kept is not None and kept.name == name else load_embedder(name)


def _opened(folder: Path, make: Callable[[], Embedder]) -> MultimodalIndex:
    """The index, once no other command has it open; created if there is none, which needs the embedder."""
    place, until, attempts = index_home(folder) / "index", time.monotonic() + _RETRY_DEADLINE_S, 0
    while True:
        try:
            return MultimodalIndex.open(place, embedder=make)
        except StoreLockedError as error:
            if time.monotonic() > until:
                if error.holder is None:
                    raise
                said = f"{place} is held by {error.holder}. Try again when it has finished"
                raise StoreLockedError(said, holder=error.holder) from error
        except SchemaMismatchError:
            raise
        except StoreError:
            attempts += 1
            if is_indexed(folder) or attempts == _ATTEMPTS:  # otherwise another command may be removing it
                raise
        time.sleep(0.1)


def _write_note(folder: Path, name: str) -> None:
    text = f"{name}\n".encode()
    with suppress(OSError):
        if _note_of(folder).read_bytes() == text:
            return
    with atomic_write(_note_of(folder)) as file:
        file.write(text)


def _discard(index: MultimodalIndex, folder: Path) -> None:
    """Close and remove an empty index.

    The schema is removed while the index's lock is held. Everything else is removed after the engine has closed its
    files, under the lock again unless another command has taken it; the lock file is removed last.
    """
    home = index_home(folder)
    place = home / "index"
    with suppress(OSError):
        _note_of(folder).unlink()
    with suppress(OSError):
        (place / "schema.json").unlink()
    with suppress(StoreError):  # the store may miss the files just removed
        index.close()
    with suppress(OSError):  # what cannot be removed is not an index any more
        lock = ProcessLock(place / "lock", extra="edge")
        if not lock.acquire():
            return
        try:
            if not is_indexed(folder):
                for entry in place.iterdir():
                    if entry.is_dir() and not entry.is_symlink():
                        shutil.rmtree(entry, ignore_errors=True)
                    elif not entry.name.startswith("lock"):
                        entry.unlink()
                for last in place.iterdir():
                    last.unlink()
                place.rmdir()
                home.rmdir()
        finally:
            lock.release()


def relocate_hit(hit: SearchHit, folder: Path) -> SearchHit:
    """The hit with its file's present path: the folder may have been moved or copied since it was indexed."""
    hit = replace(hit, duplicates=tuple(relocate_hit(behind, folder) for behind in hit.duplicates))
    stored, root = Path(str(hit.payload.get("root"))), os.path.normpath(folder.absolute())
    if hit.path is None or stored == Path(stored.anchor):  # a file outside the folder, listed in a manifest
        return hit
    here = replace(hit, payload={**hit.payload, "root": root})
    if not folder.is_dir():  # an archive
        return here
    is_below = stored.is_relative_to(root) and _is_there(hit.path)  # as if a program indexed a folder inside the folder
    return here if not is_below and here.path is not None and _is_there(here.path) else hit


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: not a file name in this locale
        return False
    except OSError:  # a folder that cannot be read at the moment
        pass
    return True
