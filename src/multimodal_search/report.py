"""One item that could not be indexed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from multimodal_search._secrets import without_secrets
from multimodal_search._text import printable, prose, without_name

Stage: TypeAlias = Literal["scan", "load", "embed", "write"]
"""Where in an indexing run something happened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One item that could not be indexed.

    Attributes:
        name: Its file, id or description.
        stage: Where it failed.
        reason: Why; an error's message is taken without the name that it begins with.
    """

    name: str
    stage: Stage
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", without_secrets(without_name(self.reason, self.name)))
        object.__setattr__(self, "name", without_secrets(self.name))  # an address may have been taken for a path

    def __str__(self) -> str:
        return f"{printable(self.name)}: {prose(self.reason)}"

    def to_dict(self) -> dict[str, str]:
        """As a plain dict of what JSON knows."""
        return {"name": self.name, "stage": self.stage, "reason": self.reason}
