"""SHA-256 of large files, remembered by their size and time of change: a warm start reads none of them."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import suppress
from pathlib import Path

from multimodal_search._files import atomic_write, cache_folder

_CHUNK_BYTES = 1 << 20
_MAX_REMEMBERED = 1_000
_lock = threading.Lock()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal.

    It is remembered in the user's cache, for as long as the file has the same size and time of change.

    Raises:
        OSError: It cannot be read.
    """
    real = path.resolve()
    status = real.stat()
    state = [status.st_size, status.st_mtime_ns]
    with _lock:
        match _remembered().get(str(real)):
            case [size, time, str(known)] if [size, time] == state:
                return known
    digest = hashlib.sha256()
    with real.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    found = digest.hexdigest()
    with _lock:
        _remember(str(real), [*state, found])
    return found


def _remembered() -> dict[str, list[object]]:
    with suppress(OSError, ValueError, RuntimeError):  # it is a cache
        known = json.loads(_place().read_text("utf-8"))
        if isinstance(known, dict):
            return known
    return {}


def _remember(name: str, state: list[object]) -> None:
    kept = {key: value for key, value in _remembered().items() if key != name}
    kept = dict(list(kept.items())[-_MAX_REMEMBERED:])
    with suppress(OSError, RuntimeError, UnicodeError):
        place = _place()
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(place) as file:
            file.write(json.dumps({**kept, name: state}).encode())


def _place() -> Path:
    return cache_folder() / "sha256.json"
