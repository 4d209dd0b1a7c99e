"""The index of a folder, as the shell keeps it: in the folder itself, so that the two move together."""

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
from multimodal_search.embedders.registry import check_embedder_name, embedder_name_of, embedder_names, load_embedder
from multimodal_search.errors import (
    ConfigurationError,
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
from multimodal_search.stores.qdrant_edge.folder import ONE_PROCESS, read_schema
from multimodal_search.stores.qdrant_edge.process_lock import ProcessLock

HIDDEN = HOME
"""The hidden folder in an indexed one, so that the two move together: `index`, and `embedder`, a name in a file."""

DEFAULT_EMBEDDER = "color"

_RETRY_DEADLINE_S = 10.0  # for another command on the same folder: most end sooner
_ATTEMPTS = 5  # where another command may just be removing what it had made for nothing
_NAME = re.compile(r"[\w.@:+-]{1,100}")  # of an embedder in another package; a damaged note is mostly something else


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
        if (index_home(folder) / "index" / "shard").exists():
            raise ConfigurationError(
                f"the index of {folder} is incomplete: {index_home(folder) / 'index' / 'schema.json'} is missing. Run "
                f"{again}, which makes it anew if it holds nothing, and says what to do if it does"
            )
        raise ConfigurationError(f"{folder} is not indexed yet: run {again}")


def is_indexed(folder: Path) -> bool:
    """Whether a folder has an index."""
    return (index_home(folder) / "index" / "schema.json").is_file()  # written last, when an index is made


def index_home(folder: Path) -> Path:
    """Where the index of a folder, or of an archive, and the name of its embedder are."""
    return folder / HIDDEN if folder.is_dir() else folder.with_name(f"{folder.name}{HIDDEN}")


def embedder_of(folder: Path, asked: str | None) -> str:
    """The name of the embedder that a folder was or will be indexed with.

    Raises:
        ConfigurationError: There is no embedder of the name that was asked for, or nobody knows which one it was.
        SchemaMismatchError: The folder was indexed with another than the one that was asked for.
    """
    if asked is not None:
        check_embedder_name(asked)
    known = _known_embedder(folder)
    if known == "" and asked is None:
        raise ConfigurationError(
            f"{_note_of(folder)} does not tell which embedder {folder} was indexed with: name it with --embedder"
        )
    if asked is not None and known not in (None, "", asked):
        raise SchemaMismatchError(
            f"{folder} was indexed with the embedder {known!r}, and {asked!r} cannot search among its vectors: "
            f"leave out --embedder, or delete {index_home(folder)} and index {folder} again with --embedder {asked}"
        )
    return asked or known or DEFAULT_EMBEDDER


def _known_embedder(folder: Path) -> str | None:
    """The name in the note, or else what the vectors tell; None where nothing does, empty if the note is garbled."""
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
    """The index that a folder has, for reading; its embedder is made when something is first to be embedded.

    Args:
        folder: A folder, or archive, that is indexed.
        asked: The name of the embedder, if the user gave one.

    Raises:
        ConfigurationError: It is not indexed, or there is no such embedder.
        SchemaMismatchError: It was indexed with another embedder than that.
        StoreLockedError: Another process has it open, for longer than some seconds.
    """
    if asked is not None:
        embedder_of(folder, asked)

    def make() -> Embedder:
        check_indexed(folder)  # else it would be made anew, where another command has just removed it
        return load_embedder(embedder_of(folder, asked))

    return _opened(folder, make)


def trying(folder: Path, asked: str | None) -> MultimodalIndex:
    """The index of a folder for a run that stores nothing: an empty one in memory, if the folder has none."""
    if is_indexed(folder):
        return open_folder_index(folder, asked)
    return MultimodalIndex(load_embedder(asked or DEFAULT_EMBEDDER), MemoryStore())


@contextmanager
def indexing(folder: Path, asked: str | None) -> Iterator[MultimodalIndex]:
    """The index of a folder, made if there is none, to index into.

    If nothing has come into one that was made here, it is removed again: it would bind the folder to its embedder, and
    answer "no hits" where nothing was indexed. What is found or removed is so while the index's lock is held, so that
    other commands may come at any moment.

    Args:
        folder: A folder, or archive.
        asked: The name of the embedder, if the user gave one.

    Raises:
        ConfigurationError: There is no such embedder, or a setting that it needs is missing.
        SchemaMismatchError: The folder was indexed with another embedder.
        StoreLockedError: Another process has it open, for longer than some seconds.
    """
    index, is_new = _opened_to_index(folder, asked)
    is_useless = False
    try:
        try:
            yield index
        finally:
            with suppress(MultimodalSearchError):  # what went wrong before is what counts
                is_useless = is_new and index.count() == 0
    finally:
        if is_useless:
            _discard(index, folder)
        else:
            index.close()


def _opened_to_index(folder: Path, asked: str | None) -> tuple[MultimodalIndex, bool]:
    """The index, and whether it was made here."""
    for _ in range(_ATTEMPTS):
        known = _known_embedder(folder)
        name = asked or known or DEFAULT_EMBEDDER
        check_embedder_name(name)
        index = _opened(folder, partial(load_embedder, name))
        is_empty = False
        try:
            is_empty = index.count() == 0  # then it binds the folder to no embedder
            if is_empty or embedder_of(folder, asked) == name:
                is_new = is_empty and not _note_of(folder).exists()
                if is_empty or known != name:
                    _ = index.embedder  # made now, to see that it is the right one
                _write_note(folder, name)
                return index, is_new
            index.close()  # another command was faster, with another embedder
        except SchemaMismatchError:
            if not is_empty:
                index.close()
                raise
            _discard(index, folder)
        except BaseException:
            index.close()
            raise
    raise StoreError(f"other commands keep changing which embedder {folder} is indexed with: try again later")


def _opened(folder: Path, make: Callable[[], Embedder]) -> MultimodalIndex:
    """The index, as soon as no other command has it open; created if there is none, which needs the embedder."""
    place, until, attempts = index_home(folder) / "index", time.monotonic() + _RETRY_DEADLINE_S, 0
    while True:
        try:
            return MultimodalIndex.open(place, embedder=make)
        except StoreLockedError as error:
            if time.monotonic() > until:
                raise StoreLockedError(str(error).replace(ONE_PROCESS, "Try again when it has finished")) from error
        except SchemaMismatchError:
            raise
        except StoreError:
            attempts += 1
            if is_indexed(folder) or attempts == _ATTEMPTS:  # else another command may just be removing it
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
    """Remove an index that is open, and holds nothing.

    What makes it an index goes while its lock is held. Everything else goes when the engine has let go of it, under the
    lock again, unless another command has taken that; and the file of the lock goes last.
    """
    home = index_home(folder)
    place = home / "index"
    with suppress(OSError):
        _note_of(folder).unlink()
    with suppress(OSError):
        (place / "schema.json").unlink()
    with suppress(StoreError):  # a store may miss what has just been removed
        index.close()
    with suppress(OSError):  # what cannot be removed stands for no index
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
    """The hit, and where its file is now: the folder may have been moved or copied since it was indexed."""
    hit = replace(hit, duplicates=tuple(relocate_hit(behind, folder) for behind in hit.duplicates))
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
