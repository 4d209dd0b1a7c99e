"""What is found out about a model by loading it, remembered in the user's cache: a warm start need not load it."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from multimodal_search._files import atomic_write, cache_folder
from multimodal_search.contents import Modality

_MAX_REMEMBERED = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What an index must know of a model before anything is embedded.

    Attributes:
        dimension: Length of its vectors, uncut.
        modalities: What it embeds.
        device: What it runs on by torch's name of the kind, such as `"cpu"` or `"cuda"`.
    """

    dimension: int
    modalities: tuple[Modality, ...]
    device: str


def remembered(key: str) -> Traits | None:
    """The traits of a model; None if they are not known."""
    match _all().get(key):
        case {"dimension": int(dimension), "modalities": [*names], "device": str(device)} if dimension > 0:
            modalities = tuple(each for each in get_args(Modality) if each in names)
            return Traits(dimension=dimension, modalities=modalities, device=device) if modalities else None
    return None


def remember(key: str, traits: Traits) -> None:
    """Keep the traits of a model; without a place for it, nothing is kept."""
    kept = {name: value for name, value in _all().items() if name != key}
    kept = dict(list(kept.items())[1 - _MAX_REMEMBERED :])
    with suppress(OSError, RuntimeError):
        place = _place()
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(place) as file:
            file.write(json.dumps({**kept, key: asdict(traits)}).encode())


def _all() -> dict[str, object]:
    with suppress(OSError, ValueError, RuntimeError):  # it is a cache
        known = json.loads(_place().read_text("utf-8"))
        if isinstance(known, dict):
            return known
    return {}


def _place() -> Path:
    return cache_folder() / "sentence-transformers.json"
