"""Models of the Hugging Face hub that are known: what they are, and what their files do not say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from multimodal_search.embedders.onnx.layout import Pooling
from multimodal_search.embedders.onnx.variants import Side

DEFAULT_MODEL = "onnx-community/siglip2-base-patch16-224-ONNX"
"""What an index takes that is made without an embedder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownTower:
    """One tower of a known model.

    Attributes:
        repository: Of the hub.
        revision: The commit that is taken where no other is asked for; None is the newest.
        sizes_mb: Megabytes of the graph by variant, where they are known.
        pooling: How a vector is made of an output with one for each token.
        query_prefix: What comes before a text to search with.
        document_prefix: What comes before a text to be found.
    """

    repository: str
    revision: str | None = None
    sizes_mb: Mapping[str, int] = field(default_factory=dict)
    pooling: Pooling = "none"
    query_prefix: str = ""
    document_prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """A known model.

    Attributes:
        name: What `OnnxEmbedder` and `multimodal-search models` call it.
        licence: Of its weights.
        languages: ISO 639-1 codes of its texts' languages; empty for many.
        languages_said: The same for people.
        dimension: Length of its vectors.
        towers: Where they are.
    """

    name: str
    licence: str
    languages: tuple[str, ...]
    languages_said: str
    dimension: int
    towers: Mapping[Side, KnownTower]

    def download_mb(self, variants: Mapping[Side, str | None]) -> int | None:
        """Megabytes of the graphs of some variants; None where that is not known."""
        sizes = [tower.sizes_mb.get(variants[side] or "fp32") for side, tower in self.towers.items()]
        known = [size for size in sizes if size is not None]
        return sum(known) if len(known) == len(sizes) else None


_SIGLIP2 = "ba1f3b0843f24bc5417d38e19c37b287d719b2f4"
_CLIP = "d15189d7028b43f1d3e65039190477f6af591c2a"
_JINA = "ceb3e44ca4d6eceaa4f3fb58b1c1a5748b3f29b6"

MODELS = {
    model.name: model
    for model in (
        KnownModel(
            name=DEFAULT_MODEL,
            licence="Apache-2.0",
            languages=(),
            languages_said="about 100, strongest in Europe's",
            dimension=768,
            towers={
                "image": KnownTower(repository=DEFAULT_MODEL, revision=_SIGLIP2, sizes_mb={"fp32": 372, "int8": 95}),
                "text": KnownTower(repository=DEFAULT_MODEL, revision=_SIGLIP2, sizes_mb={"fp32": 1130, "int8": 283}),
            },
        ),
        KnownModel(
            name="Xenova/clip-vit-base-patch32",
            licence="MIT",
            languages=("en",),
            languages_said="English",
            dimension=512,
            towers={
                "image": KnownTower(
                    repository="Xenova/clip-vit-base-patch32", revision=_CLIP, sizes_mb={"fp32": 352, "int8": 89}
                ),
                "text": KnownTower(
                    repository="Xenova/clip-vit-base-patch32", revision=_CLIP, sizes_mb={"fp32": 254, "int8": 64}
                ),
            },
        ),
        KnownModel(
            name="jinaai/jina-clip-v1",
            licence="Apache-2.0",
            languages=("en",),
            languages_said="English",
            dimension=768,
            towers={
                "image": KnownTower(repository="jinaai/jina-clip-v1", revision=_JINA, sizes_mb={"fp32": 340}),
                "text": KnownTower(repository="jinaai/jina-clip-v1", revision=_JINA, sizes_mb={"fp32": 550}),
            },
        ),
        KnownModel(
            name="nomic-ai/nomic-embed-vision-v1.5",
            licence="Apache-2.0",
            languages=("en",),
            languages_said="English",
            dimension=768,
            towers={
                "image": KnownTower(
                    repository="nomic-ai/nomic-embed-vision-v1.5",
                    revision="e3a725bce72db07ca4adb1d83da08903f3ee02f8",
                    sizes_mb={"fp32": 372},
                    pooling="cls",
                ),
                "text": KnownTower(
                    repository="nomic-ai/nomic-embed-text-v1.5",
                    revision="e9b6763023c676ca8431644204f50c2b100d9aab",
                    sizes_mb={"fp32": 547},
                    pooling="mean",
                    query_prefix="search_query: ",
                    document_prefix="search_document: ",
                ),
            },
        ),
    )
}
"""By name."""
