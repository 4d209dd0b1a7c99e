"""Index metadata of an in-process index: one file for each text, in the folder `notes`."""

from __future__ import annotations

from multimodal_search._files import atomic_write
from multimodal_search.errors import StoreError
from multimodal_search.stores.qdrant_edge.checksums import file_entry
from multimodal_search.stores.qdrant_edge.errors import reason_of
from multimodal_search.stores.qdrant_edge.folder import EdgeFolder


def get_index_metadata(folder: EdgeFolder, name: str) -> str | None:
    """Get a text of the index metadata; None if there is none of this name."""
    return folder.run(lambda _: _read(folder, name))


def set_index_metadata(folder: EdgeFolder, name: str, text: str) -> None:
    """Store a text of the index metadata under a name, atomically."""
    content = text.encode()
    folder.write(lambda _: _write(folder, name, content), file_entry(f"notes/{name}", content), size=len(content))


def _read(folder: EdgeFolder, name: str) -> str | None:
    path = folder.path / "notes" / name
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(
            f"the file {path} of the index metadata cannot be read ({reason_of(error)}): restore it, or delete it"
        ) from error


def _write(folder: EdgeFolder, name: str, content: bytes) -> None:
    path = folder.path / "notes" / name
    try:
        path.parent.mkdir(exist_ok=True)
        with atomic_write(path) as file:
            file.write(content)
    except OSError as error:
        raise StoreError(
            f"the file {path} of the index metadata cannot be written ({reason_of(error)}): "
            "its former text is still there"
        ) from error
