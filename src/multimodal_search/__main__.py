"""The entry point of the command: also `python -m multimodal_search`."""

from __future__ import annotations

import io
import sys

from multimodal_search._printable import prose
from multimodal_search.errors import MultimodalSearchError


def main() -> None:
    """Run the command; an error of this library or of the file system is one line, not a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files can hold what a terminal's encoding cannot
            stream.reconfigure(errors="backslashreplace")
    try:
        from multimodal_search.cli import app

        app()
    except MultimodalSearchError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))


def _fail(message: str) -> None:
    print(f"multimodal-search: {prose(message)}", file=sys.stderr)  # noqa: T201
    sys.exit(1)


if __name__ == "__main__":
    main()
