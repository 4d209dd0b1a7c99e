"""Entry point of the command `multimodal-search` and of `python -m multimodal_search`."""

# Nothing is imported before Ctrl-C is handled, not even `typing`, which alone takes longer than everything before.
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import TextIO

_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main() -> None:
    """Run the command; errors and warnings of this library, and Ctrl-C, print one line instead of a traceback."""
    try:
        import atexit
        import signal

        before = signal.getsignal(signal.SIGINT)
        if before is not signal.default_int_handler:  # Ctrl-C is ignored, as in background jobs
            _run()
            return
        # KeyboardInterrupt would be printed and swallowed in callbacks that Python makes while it imports modules or
        # exits. While something is indexed it is raised all the same, to end that in order.
        signal.signal(signal.SIGINT, _end)
        try:
            _run()
        finally:
            signal.signal(signal.SIGINT, before)
            atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # all is done then, and said
    except KeyboardInterrupt:
        _end()


def _end(number: int = 0, frame: FrameType | None = None) -> None:
    """End the process at once."""
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
        if isinstance(stream, io.TextIOWrapper):  # file names may not fit the terminal's encoding
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
            print(end="", flush=True)  # noqa: T201 (a write error can still be reported here)
    except MultimodalSearchError as error:
        _fail(str(error))
    except OSError as error:
        if not error.filename and _drop_output():
            _fail("" if isinstance(error, BrokenPipeError) else f"the output cannot be written: {error.strerror}")
        _fail(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
    except RuntimeError as error:
        if "start new thread" not in str(error):
            raise
        _fail("no more threads can be started: close other programs, or raise the limit (ulimit -u)")


def _drop_output() -> bool:
    """Whether the output cannot be written; if so it is dropped, since Python would try again at exit."""
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

    if message:  # a pipe that was closed early, as by `head`, needs no message
        _say(message)
    sys.exit(1)


if __name__ == "__main__":
    main()
