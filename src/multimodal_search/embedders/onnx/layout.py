"""What is in a model's folder: the graph of each tower, and how its inputs are made."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from multimodal_search.embedders.hub.hashes import sha256_of
from multimodal_search.embedders.onnx.header import GraphHeader, read_header
from multimodal_search.embedders.onnx.pixels import ImageRules
from multimodal_search.embedders.onnx.tokens import TextRules

Pooling: TypeAlias = Literal["none", "cls", "mean"]
"""How one vector is made of an output that has one for each token: not at all, the first, or their average."""

FINGERPRINT_VERSION = 1
"""Raised with every change of this package that changes vectors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerFiles:
    """One tower of a model.

    Attributes:
        graph: Its ONNX file.
        output: Which of its outputs is the vector; empty for the usual names.
        pooling: How a vector is made of an output with one for each token.
        image: How images are made; None for the tower of texts.
        text: How texts are made; None for the tower of images.
        tokenizer: The file `tokenizer.json`, of the tower of texts.
    """

    graph: Path
    output: str = ""
    pooling: Pooling = "none"
    image: ImageRules | None = None
    text: TextRules | None = None
    tokenizer: Path | None = None

    def header(self) -> GraphHeader:
        """Its inputs and outputs.

        Raises:
            ConfigurationError: The file is no ONNX file.
        """
        return read_header(self.graph)

    def data_files(self) -> list[Path]:
        """The files beside the graph that hold its weights."""
        return [self.graph.parent / name for name in self.header().data_files]

    def identity(self) -> dict[str, Any]:
        """Everything that its vectors depend on."""
        files = [self.graph, *self.data_files(), *([] if self.tokenizer is None else [self.tokenizer])]
        return {
            "files": [sha256_of(path) for path in files],
            "output": self.output,
            "pooling": self.pooling,
            "image": None if self.image is None else asdict(self.image),
            "text": None if self.text is None else asdict(self.text),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """A model: one tower or two.

    Attributes:
        image: The tower of images, if it has one.
        text: The tower of texts, if it has one.
        name: What the files call the model; empty if they do not.
        matryoshka: Whether the first numbers of a vector are a vector, too, of fewer dimensions.
    """

    image: TowerFiles | None
    text: TowerFiles | None
    name: str = ""
    matryoshka: bool = False

    @property
    def towers(self) -> list[TowerFiles]:
        """Those that there are."""
        return [tower for tower in (self.image, self.text) if tower is not None]

    def fingerprint(self, dimensions: int | None) -> str:
        """What an index knows its vectors by: of the files' contents, not of their places or names."""
        identity = {
            "version": FINGERPRINT_VERSION,
            "image": None if self.image is None else self.image.identity(),
            "text": None if self.text is None else self.text.identity(),
            "dimensions": dimensions,
        }
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        return f"onnx/{digest[:32]}"
