"""The entry point of the command: also `python -m multimodal_search`."""

from __future__ import annotations

import io
import os
import sys
import warnings
from pathlib import Path
from typing import TextIO

from multimodal_search._printable import prose
from multimodal_search.errors import MultimodalSearchError, UnknownLanguageWarning


def main() -> None:
    """Run the command; an error or a warning of this library is one line, not a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files can hold what a terminal's encoding cannot
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        others = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, UnknownLanguageWarning) or Path(filename).is_relative_to(Path(__file__).parent):
                _say(str(message).partition(" This is said once; ")[0])  # the rest is how to silence it in Python
            else:
                others(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        _run()


def _run() -> None:
    try:
        from multimodal_search.cli import app

        try:
            app()
        finally:
            print(end="", flush=True)  # noqa: T201 (what cannot be written is found out while it can still be said)
    except MultimodalSearchError as error:
        _fail(str(error))
    except OSError as error:
        if not error.filename and _drop_output():
            _fail("" if isinstance(error, BrokenPipeError) else f"the output cannot be written: {error.strerror}")
        _fail(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))


def _drop_output() -> bool:
    """Whether what was printed cannot be written; if so, it is dropped, as Python would try again at its end."""
    try:
        print(end="", flush=True)  # noqa: T201
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        return True
    return False


def _say(message: str) -> None:
    print(f"multimodal-search: {prose(message)}", file=sys.stderr)  # noqa: T201


def _fail(message: str) -> None:
    if message:  # whoever closes a pipe early, as `head` does, needs none
        _say(message)
    sys.exit(1)


if __name__ == "__main__":
    main()
