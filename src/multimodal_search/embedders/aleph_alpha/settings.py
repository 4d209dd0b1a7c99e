"""The settings of `AlephAlphaEmbedder`, and what host and token must look like."""

from __future__ import annotations

import importlib.util
import re
import sys
from typing import Literal, TypeAlias, TypedDict
from urllib.parse import urlsplit

from multimodal_search.errors import ConfigurationError, MissingExtraError

Representation: TypeAlias = Literal["symmetric", "asymmetric"]
"""One space for documents and queries alike, or one for each."""

MAX_TIMEOUT_S = 1e6
"""Eleven days; not every system has timers for much more."""


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


def checked_host(host: str) -> str:
    """The address of an API, without blanks and a slash at its end.

    Raises:
        ConfigurationError: It is none.
    """
    host = (host if isinstance(host, str) else "").strip().rstrip("/")  # None comes from os.environ.get
    # Nothing is quoted: what stands here by mistake may be the token, or hold a password.
    wanted = "host must be the address of the API, such as https://inference.example.org"
    try:
        parts = urlsplit(host)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or re.fullmatch(r"[!-~]+", host) is None:
        raise ConfigurationError(f"{wanted}, in plain ASCII")
    require("@" not in parts.netloc, f"{wanted}, without a user name or password")
    require(not parts.query and not parts.fragment, f"{wanted}: a path may follow, but neither ? nor #")
    return host


def checked_token(token: str) -> str:
    """An API token, without blanks around it.

    Raises:
        ConfigurationError: It is none.
    """
    token = (token if isinstance(token, str) else "").strip()
    require(bool(token), "token is empty: pass an API token of Aleph Alpha, or set AA_TOKEN and use from_env")
    require(
        re.fullmatch(r"[!-~]+", token) is not None,
        "token holds blanks, control or non-ASCII characters (not shown here): copy it again, in one line",
    )
    return token


def require(condition: bool, message: str) -> None:
    """Raise a `ConfigurationError`, unless a setting is right."""
    if not condition:
        raise ConfigurationError(message)


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
