"""The command `backends`: which embedders and stores there are, and what is missing for each."""

# ruff: noqa: T201 (a command prints)

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from multimodal_search._plugins import BackendState
from multimodal_search._text import prose
from multimodal_search.embedders.registry import embedder_states
from multimodal_search.stores.registry import store_states


def backends(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")] = False,
) -> None:
    """List the embedders and the stores, those of other packages too, and say what is missing for each.

    The shell keeps the index of a folder in the store qdrant-edge; others are for Python. Each one is imported to see
    whether it can be: a broken one is listed with its error, and the exit status is 0 all the same.
    """
    kinds = {"embedders": list(embedder_states()), "stores": list(store_states())}
    if as_json:
        print(json.dumps({kind: [asdict(state) for state in states] for kind, states in kinds.items()}, indent=2))
        return
    for kind, states in kinds.items():
        print(f"{kind}:")
        _print(states)


def _print(states: Sequence[BackendState]) -> None:
    width = max(len(state.name) for state in states)
    for state in states:
        origin = "" if state.package == "multimodal-search" else f" (from {state.package})"
        said = f"{state.problem}: {state.remedy}" if state.remedy else state.problem
        print(f"  {state.name:{width}}  {prose(said) or 'ready'}{origin}")
