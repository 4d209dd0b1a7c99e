"""The entry point of the command: also `python -m multimodal_search`."""

from __future__ import annotations

import sys

from multimodal_search.errors import IndexingInterrupted, MultimodalSearchError


def main() -> None:
    """Run the command; an error of this library is one line, not a traceback."""
    try:
        from multimodal_search.cli import app

        app()
    except IndexingInterrupted as stop:
        print(f"\n{stop}; the next run goes on from there", file=sys.stderr)  # noqa: T201
        sys.exit(130)
    except MultimodalSearchError as error:
        print(f"multimodal-search: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


if __name__ == "__main__":
    main()
