"""The entry point of the command: also `python -m multimodal_search`."""

# Nothing is imported before Ctrl-C is taken care of, not even `typing`: that alone takes longer than all before it.
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import TextIO

_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main() -> None:
    """Run the command; an error or a warning of this library, or Ctrl-C, is one line, not a traceback."""
    try:
        import atexit
        import signal

        before = signal.getsignal(signal.SIGINT)
        if before is not signal.default_int_handler:  # who ignores Ctrl-C, as what runs in the background, goes on to
            _run()
            return
        # The exception that Ctrl-C raises otherwise is printed, and swallowed, where Python calls back into a program
        # that it imports or ends. While something is indexed it is raised all the same, to end that in order.
        signal.signal(signal.SIGINT, _end)
        try:
            _run()
        finally:
            signal.signal(signal.SIGINT, before)
            atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # all is done then, and said
    except KeyboardInterrupt:
        _end()


def _end(number: int = 0, frame: FrameType | None = None) -> None:
    """End the process on the spot."""
    import os

    try:
        os.write(2, b"\nmultimodal-search: interrupted\n" if os.isatty(2) else b"multimodal-search: interrupted\n")
    finally:
        os._exit(_INTERRUPTED)


def _run() -> None:
    import io
    import sys
    import warnings
    from pathlib import Path

    from multimodal_search.errors import UnknownLanguageWarning

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
                _say(message.finding if isinstance(message, UnknownLanguageWarning) else str(message))
            else:
                others(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        _run_app()


def _run_app() -> None:
    from multimodal_search.errors import MultimodalSearchError

    try:
        from multimodal_search.cli.app import app

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
    except RuntimeError as error:
        if "start new thread" not in str(error):
            raise
        _fail("the system lets this program start no more threads: end other programs, or raise the limit (ulimit -u)")


def _drop_output() -> bool:
    """Whether what was printed cannot be written; if so, it is dropped, as Python would try again at its end."""
    import os
    import sys

    try:
        print(end="", flush=True)  # noqa: T201
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        return True
    return False


def _say(message: str) -> None:
    import sys

    from multimodal_search._secrets import without_secrets
    from multimodal_search._text import prose

    print(f"multimodal-search: {without_secrets(prose(message))}", file=sys.stderr)  # noqa: T201


def _fail(message: str) -> None:
    import sys

    if message:  # whoever closes a pipe early, as `head` does, needs none
        _say(message)
    sys.exit(1)


if __name__ == "__main__":
    main()
