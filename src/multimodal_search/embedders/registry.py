"""Embedders by name: this library's own, and those of other packages through entry points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from multimodal_search._plugins import BackendRef, BackendState, OwnBackend, Plugins, missing
from multimodal_search.errors import MissingExtraError
from multimodal_search.protocols import Embedder

__all__ = ["GROUP", "EmbedderRef", "embedder_names", "load_embedder"]

GROUP = "multimodal_search.embedders"
"""The entry-point group: each entry names a callable that gives an embedder, and takes its options by keyword."""

_OWN = {
    "aleph-alpha": OwnBackend(
        "multimodal_search.embedders.aleph_alpha:AlephAlphaEmbedder.from_env",
        module="aleph_alpha_client",
        install="aleph-alpha-client",
        environment=("AA_HOST", "AA_TOKEN"),
        before=(3, 14),
    ),
    "color": OwnBackend("multimodal_search.embedders.color:ColorEmbedder"),
    "http": OwnBackend(
        "multimodal_search.embedders.http:HttpEmbedder.from_env",
        environment=("HTTP_EMBEDDER_URL", "HTTP_EMBEDDER_DIALECT"),
    ),
    "onnx": OwnBackend(
        "multimodal_search.embedders.onnx:OnnxEmbedder", module="onnxruntime", install="multimodal-search[local]"
    ),
    "sentence-transformers": OwnBackend(
        "multimodal_search.embedders.sentence_transformers:SentenceTransformersEmbedder",
        module="sentence_transformers",
        install="multimodal-search[torch]",
    ),
}
"""By name, which is also what their fingerprints begin with."""

_PLUGINS = Plugins[Embedder]("embedder", GROUP, Embedder, _OWN)  # type: ignore[type-abstract]  # for `isinstance`


def load_embedder(name: str, **options: Any) -> Embedder:
    """Make the embedder of a name.

    Args:
        name: `"color"`, `"onnx"` (a model on this machine), `"aleph-alpha"` (which takes `AA_HOST` and `AA_TOKEN` from
            the environment where `host` and `token` are not given), `"http"` (`HTTP_EMBEDDER_URL`,
            `HTTP_EMBEDDER_DIALECT` and `HTTP_EMBEDDER_MODEL` where `url`, `dialect` and `model` are not given), or what
            another package calls its own;
            `multimodal-search backends` lists them.
        options: What that embedder takes.

    Raises:
        ConfigurationError: No such name, a setting of that embedder is missing or makes no sense, or its package is
            broken.

    Example:
        >>> load_embedder("color").spec.model
        'color'
    """
    return _PLUGINS.load(name, options)


class EmbedderRef(BackendRef):
    """An embedder by its name and options: a small value to pickle and to store, from which a process makes its own.

    It holds no secrets: backends take those from the environment of the process that calls `load`.

    Args:
        name: As for `load_embedder`.
        options: As for `load_embedder`, without secrets: texts, numbers, paths, and lists and mappings of them.

    Raises:
        ConfigurationError: An option is a secret, or no such value.

    Example:
        >>> EmbedderRef("aleph-alpha", host="https://inference.example.org", compress_to_size=None)
        EmbedderRef('aleph-alpha', host='https://inference.example.org', compress_to_size=None)
        >>> EmbedderRef("color").load().spec.model
        'color'
    """

    __slots__ = ()

    def load(self) -> Embedder:
        """Make the embedder. `MultimodalIndex(ref.load, store)` does so when something is first to be embedded.

        Raises:
            ConfigurationError: As `load_embedder`.
        """
        return load_embedder(self.name, **self.options)


def options_of(embedder: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of an embedder's settings that are not its defaults, for an `EmbedderRef`.

    Args:
        embedder: Its class.
        settings: What it was made with, by name.
    """
    usual = embedder.__init__.__kwdefaults__ or {}  # type: ignore[misc]  # of a class, not of an instance
    return {name: value for name, value in settings.items() if name not in usual or value != usual[name]}


def default_embedder() -> Embedder:
    """The embedder of an index that is made without one: it finds by meaning, with a model on this machine.

    Raises:
        MissingExtraError: The extra `local` is not installed.
    """
    if lacking := missing_of("onnx"):
        raise MissingExtraError(
            f"an index finds by meaning with a model on this machine: {lacking}; or name an embedder: "
            "ColorEmbedder() compares colours, and needs nothing"
        )
    return load_embedder("onnx")


def embedder_names() -> list[str]:
    """The names that `load_embedder` knows."""
    return _PLUGINS.names()


def embedder_states() -> Iterator[BackendState]:
    """Each embedder, and what it lacks."""
    return _PLUGINS.states()


def missing_of(name: str) -> str:
    """What to do before an embedder of this library can be used; empty if it can."""
    problem, remedy = missing(_OWN[name])
    return remedy or problem


def embedder_name_of(fingerprint: str) -> str | None:
    """The name of this library's embedder that gives vectors of a fingerprint; None if it is none of them."""
    name = fingerprint.partition("/")[0]
    return name if name in _OWN else None


def check_embedder_name(name: str) -> None:
    """Check that there is an embedder of this name, without creating it.

    Raises:
        ConfigurationError: There is none.
    """
    _PLUGINS.check(name)
