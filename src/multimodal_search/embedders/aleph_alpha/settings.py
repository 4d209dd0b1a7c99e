"""The settings of `AlephAlphaEmbedder`, and the client that it needs."""

from __future__ import annotations

import importlib.util
import sys
from typing import Literal, TypeAlias, TypedDict

from multimodal_search.errors import MissingExtraError

Representation: TypeAlias = Literal["symmetric", "asymmetric"]
"""One space for documents and queries alike, or one for each."""


class AlephAlphaSettings(TypedDict, total=False):
    """The keyword settings of `AlephAlphaEmbedder`, for `AlephAlphaEmbedder.from_env`."""

    model: str
    compress_to_size: int | None
    representation: Representation
    normalize: bool
    hosting: str | None
    nice: bool
    timeout_s: float
    retries: int
    max_concurrency: int
    max_batch_size: int
    shrink: bool


def require_client() -> None:
    """See that the official client is installed, without loading it."""
    if importlib.util.find_spec("aleph_alpha_client") is not None:
        return
    needs = "AlephAlphaEmbedder needs the package 'aleph-alpha-client', which"
    if sys.version_info >= (3, 14):
        raise MissingExtraError(
            f"{needs} has no release for Python {sys.version_info.major}.{sys.version_info.minor}: "
            "use Python 3.10 to 3.13, or another embedder"
        )
    raise MissingExtraError(f'{needs} is not installed. Install it with: pip install "aleph-alpha-client>=8.0"')
