"""Settings of embedders of services: addresses, keys and pacing, checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from multimodal_search._bounds import is_whole
from multimodal_search.errors import ConfigurationError

_MAX_TIMEOUT_S = 1e6  # eleven days; not every system has timers for much more


def require(condition: bool, message: str) -> None:
    """Raise a `ConfigurationError`, unless a setting is right."""
    if not condition:
        raise ConfigurationError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacing:
    """How fast a service is asked, and for how long.

    Attributes:
        timeout_s: Seconds for all attempts and pauses of a call together.
        retries: Attempts after the first one.
        max_concurrency: Most requests in flight.
        max_batch_size: Most contents in a call.
        batch_limit: The service's own limit of that.

    Raises:
        ConfigurationError: One makes no sense.
    """

    timeout_s: float
    retries: int
    max_concurrency: int
    max_batch_size: int
    batch_limit: int

    def __post_init__(self) -> None:
        require(
            isinstance(self.timeout_s, (int, float)) and 0 < self.timeout_s <= _MAX_TIMEOUT_S,
            f"timeout_s must be a number of seconds above 0, up to {_MAX_TIMEOUT_S:,.0f}",
        )
        require(is_whole(self.retries, least=0), "retries must be a whole number, 0 or more")
        require(is_whole(self.max_concurrency, least=1), "max_concurrency must be a whole number, 1 or more")
        require(
            is_whole(self.max_batch_size, least=1) and self.max_batch_size <= self.batch_limit,
            f"max_batch_size must be from 1 to {self.batch_limit:,}, the service's own limit",
        )


def checked_address(address: str, *, setting: str, example: str) -> str:
    """The address of an API, without blanks and a slash at its end.

    Args:
        address: What was given.
        setting: What the setting is called.
        example: An address, for messages.

    Raises:
        ConfigurationError: It is none.
    """
    address = (address if isinstance(address, str) else "").strip().rstrip("/")  # None comes from os.environ.get
    # Nothing is quoted: what stands here by mistake may be the key, or hold a password.
    wanted = f"{setting} must be the address of the API, such as {example}"
    try:
        parts = urlsplit(address)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or re.fullmatch(r"[!-~]+", address) is None:
        raise ConfigurationError(f"{wanted}, in plain ASCII")
    require("@" not in parts.netloc, f"{wanted}, without a user name or password")
    require(not parts.query and not parts.fragment, f"{wanted}: a path may follow, but neither ? nor #")
    return address


def checked_key(key: str, *, setting: str, advice: str) -> str:
    """A token or key of an API, without blanks around it.

    Args:
        key: What was given.
        setting: What the setting is called.
        advice: What to do where it is empty.

    Raises:
        ConfigurationError: It is none.
    """
    key = (key if isinstance(key, str) else "").strip()
    require(bool(key), f"{setting} is empty: {advice}")
    require(
        re.fullmatch(r"[!-~]+", key) is not None,
        f"{setting} holds blanks, control or non-ASCII characters (not shown here): copy it again, in one line",
    )
    return key
