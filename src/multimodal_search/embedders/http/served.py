"""The model that a server has: which one is meant, and what it embeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from multimodal_search._text import brief
from multimodal_search.contents import Modality
from multimodal_search.embedders.service.settings import require
from multimodal_search.errors import EmbedderError

_CAPABILITIES: dict[str, Modality] = {"embed": "text", "image_embed": "image"}
"""In infinity's words."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that a server has.

    Attributes:
        name: What it is called there.
        capabilities: What it can do, in the server's words; None if the server does not say.
    """

    name: str
    capabilities: frozenset[str] | None

    def modalities(self, possible: frozenset[Modality]) -> frozenset[Modality]:
        """What it embeds, of what is possible."""
        if self.capabilities is None:
            return possible
        return possible & {_CAPABILITIES[each] for each in self.capabilities & _CAPABILITIES.keys()}


def meant(models: Sequence[ServedModel], asked: str | None, *, where: str) -> ServedModel:
    """The model of a name; without a name, the only one.

    Args:
        models: Those that the server has.
        asked: The name.
        where: What messages call the server.

    Raises:
        EmbedderError: There is none of this name.
        ConfigurationError: There is not just one.
    """
    names = ", ".join(brief(each.name) for each in models) or "no model"
    found = [each for each in models if asked in (None, each.name)]
    if asked is not None and not found:
        raise EmbedderError(f"{where} is not served there: the server has {names}")
    require(len(found) == 1, f"{where} serves {names}: name one of them with model=")
    return found[0]
