"""Embedders by name, for the shell: this library's own, and those of other packages through entry points."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points

from multimodal_search.errors import ConfigurationError
from multimodal_search.protocols import Embedder

GROUP = "multimodal_search.embedders"
"""The entry-point group: each entry names a callable without arguments that gives an embedder."""


def _aleph_alpha() -> Embedder:
    from multimodal_search.embedders.aleph_alpha import AlephAlphaEmbedder

    return AlephAlphaEmbedder.from_env()


def _color() -> Embedder:
    from multimodal_search.embedders.color import ColorEmbedder

    return ColorEmbedder()


_OWN: dict[str, Callable[[], Embedder]] = {"aleph-alpha": _aleph_alpha, "color": _color}


def embedder_names() -> list[str]:
    """The names that `make_embedder` knows."""
    return sorted({*_OWN, *(entry.name for entry in entry_points(group=GROUP))})


def make_embedder(name: str) -> Embedder:
    """The embedder of a name, set up from its defaults and the environment.

    Raises:
        ConfigurationError: No such name, or a setting of that embedder is missing.
    """
    if name in _OWN:
        return _OWN[name]()
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            embedder = entry.load()()
            if not isinstance(embedder, Embedder):
                raise ConfigurationError(f"the entry point {name!r} ({entry.value}) gives {embedder!r}, no embedder")
            return embedder
    raise ConfigurationError(f"no embedder is called {name!r}; there are: {', '.join(embedder_names())}")
