"""A file lock that one process at a time can hold, and that names its holder."""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from multimodal_search._extras import require


class ProcessLock:
    """A lock of the operating system on a file, released when its process ends in any way.

    The file `<name>.json` beside it names the holder, for messages; it may be stale.

    Args:
        path: The lock's file; its folder exists.
        extra: The extra of this library that installs what locks need.
    """

    def __init__(self, path: Path, *, extra: str) -> None:
        filelock = require("filelock", extra=extra, purpose=f"a lock on {path.parent}")
        # Not bound to a thread: an index may be opened in one and closed in another.
        self._lock = filelock.FileLock(str(path), timeout=0, thread_local=False)
        self._busy: type[Exception] = filelock.Timeout
        self._path = path
        self._identity: tuple[int, int] | None = None
        self._owner = path.with_name(f"{path.name}.json")

    def acquire(self) -> bool:
        """Take the lock if it is free, without waiting; returns whether it was.

        Raises:
            OSError: The folder cannot be written to.
        """
        try:
            self._lock.acquire()
        except self._busy:
            return False
        since = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._identity = _identity(self._path)
        with suppress(OSError):  # a full disk: the lock holds without it
            # One short write: whoever reads a part of it learns no name, and that is all.
            self._owner.unlink(missing_ok=True)
            self._owner.write_text(
                json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}), "utf-8"
            )
        return True

    def release(self) -> None:
        """Release the lock."""
        if self._identity == _identity(self._path):  # else the folder is another's now
            with suppress(OSError):
                self._owner.unlink(missing_ok=True)
        self._lock.release()

    def holder(self) -> str:
        """The holder of the lock, for messages, after `acquire` returned False."""
        try:
            owner = json.loads(self._owner.read_text("utf-8"))
            pid, host, since = int(owner["pid"]), str(owner["host"]), str(owner["since"])
        except (OSError, ValueError, KeyError, TypeError):
            return "another process, which has not said its name"
        if host == socket.gethostname() and not _runs(pid):
            return f"a process that process {pid} (since {since}, now ended) started, or one that has not said its name"
        return f"process {pid} on {host}, since {since}"


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino


def _runs(pid: int) -> bool:
    if os.name == "nt":
        return True  # signal 0 would end the process there
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
