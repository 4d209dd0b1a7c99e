"""Embedders by name, for the shell: this library's own, and those of other packages through entry points."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

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
"""By name, which is also what their fingerprints begin with."""


def embedder_names() -> list[str]:
    """The names that `make_embedder` knows."""
    return sorted({*_OWN, *_others()})


def embedder_name_of(fingerprint: str) -> str | None:
    """The name of this library's embedder that gives vectors of a fingerprint; None if it is none of them."""
    name = fingerprint.partition("/")[0]
    return name if name in _OWN else None


def check_embedder_name(name: str) -> None:
    """Check that there is an embedder of this name, without creating it.

    Raises:
        ConfigurationError: There is none.
    """
    if name not in embedder_names():
        raise ConfigurationError(f"no embedder is called {name!r}; there are: {', '.join(embedder_names())}")


def make_embedder(name: str) -> Embedder:
    """The embedder of a name, set up from its defaults and the environment.

    Raises:
        ConfigurationError: No such name, a setting of that embedder is missing, or its package is broken.
    """
    check_embedder_name(name)
    if name in _OWN:
        return _OWN[name]()
    entry = _others()[name]
    try:
        make = entry.load()
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"the embedder {name!r} ({entry.value}) cannot be loaded: {error}") from error
    embedder = make()
    if not isinstance(embedder, Embedder):
        raise ConfigurationError(f"the entry point {name!r} ({entry.value}) gives {embedder!r}, which is no embedder")
    return embedder


def _others() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}
