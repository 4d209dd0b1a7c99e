"""The embedder that an index was made with, kept with the index as a name and options."""

from __future__ import annotations

import json
import os

from multimodal_search.embedders.registry import EmbedderRef
from multimodal_search.errors import ConfigurationError
from multimodal_search.protocols import Embedder, SupportsRef

NOTE = "embedder"
"""The name of the index metadata that holds it."""


def text_of(embedder: Embedder) -> str | None:
    """An embedder as a text to keep; None for one that cannot be made again from a name and options."""
    if not isinstance(embedder, SupportsRef):
        return None
    ref = embedder.ref
    return json.dumps({"name": ref.name, "options": ref.options}, default=os.fspath)


def ref_of(text: str | None) -> EmbedderRef | None:
    """The embedder of a text that was kept; None where there is none, or it is damaged."""
    try:
        told = json.loads(text or "")
        return EmbedderRef(told["name"], **told["options"])
    except (ConfigurationError, KeyError, TypeError, ValueError):
        return None
