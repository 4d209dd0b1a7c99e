"""One tower of a model: images or texts to vectors."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from multimodal_search.embedders.onnx.header import GraphHeader, Value
from multimodal_search.embedders.onnx.layout import TowerFiles
from multimodal_search.embedders.onnx.session import Runtime, Session
from multimodal_search.embedders.onnx.tokens import TextTokenizer
from multimodal_search.errors import ConfigurationError
from multimodal_search.types import FloatArray, Role

_OUTPUTS = {
    "image": ("image_embeds", "image_embedding", "image_embeddings", "pooler_output"),
    "text": ("text_embeds", "text_embedding", "text_embeddings", "pooler_output"),
}
"""What the vector is called, the surest first: CLIP's `pooler_output` is not yet in the space of both towers."""

_IDS = ("input_ids", "text")

_abandoned: list[object] = []
"""Sessions of a parent process: to free one would wait for its threads, which a forked child does not have."""


class Tower:
    """A tower, whose graph and tokenizer are loaded when they are first needed. Safe to use from many threads.

    Args:
        files: Where it is.
        settings: What it runs on.
    """

    def __init__(self, files: TowerFiles, settings: Runtime) -> None:
        self._files = files
        self._settings = settings
        self._lock = threading.RLock()
        self._loaded: tuple[int, Session] | None = None
        self._tokenizer: TextTokenizer | None = None

    @cached_property
    def header(self) -> GraphHeader:
        """What its graph takes and gives."""
        return self._files.header()

    @cached_property
    def stated_dimension(self) -> int | None:
        """Length of its vectors; None where the file does not say it.

        Raises:
            ConfigurationError: The file has no output that is a vector.
        """
        return self._output.shape[-1] if self._output.shape else None

    def measured_dimension(self) -> int:
        """Length of its vectors, seen by running the graph once."""
        if self._files.image is not None:
            row = self.embed_images([PIL.Image.new("RGB", self._files.image.size)])[0]
        else:
            row = self.embed_texts(["a"], role="document")[0]
        return len(row)

    @property
    def is_alone(self) -> bool:
        """Whether contents are run one by one."""
        return self._chunk == 1 or self.header.scales_by_batch

    def load(self) -> None:
        """Load the graph, and the tokenizer of texts, if that has not been done."""
        self._session()
        if self._files.tokenizer is not None:
            self._texts()

    def interrupt(self) -> None:
        """End the runs that are under way."""
        loaded = self._loaded
        if loaded is not None:
            loaded[1].interrupt()

    def embed_images(self, images: Sequence[PIL.Image.Image]) -> FloatArray:
        """Vectors of images of the model's size, shape (n, dimension), of any length.

        Raises:
            EmbedderError: The graph failed.
            ConfigurationError: It takes no such images.
        """
        rules, wanted = self._files.image, self._image_input
        assert rules is not None  # noqa: S101 (of the tower of images)
        is_raw, is_last = wanted.type == "uint8", _channels_last(wanted)
        array = rules.array(images, normalized=not is_raw)
        if is_raw != is_last:
            array = array.transpose((0, 2, 3, 1) if is_last else (0, 3, 1, 2))
        return self._vectors({wanted.name: np.ascontiguousarray(array, wanted.type)})

    def embed_texts(self, texts: Sequence[str], *, role: Role) -> FloatArray:
        """Vectors of texts, as `embed_images`."""
        # Padded to the longest, texts that are run one by one need no padding at all: a graph without a mask would take
        # it for a part of them.
        is_masked = any(each.name == "attention_mask" for each in self.header.inputs)
        rules = self._files.text
        is_padded = rules is not None and rules.pad == "length"
        groups = [[text] for text in texts] if self.is_alone or not (is_masked or is_padded) else [texts]
        return np.concatenate([self._embed_group(group, role) for group in groups])

    def is_truncated(self, text: str, role: Role) -> bool:
        """Whether the model sees only the beginning of a text."""
        return self._texts().is_truncated(text, role)

    def _embed_group(self, texts: Sequence[str], role: Role) -> FloatArray:
        ids, mask = self._texts().arrays(texts, role)
        feeds: dict[str, npt.NDArray[Any]] = {}
        for wanted in self.header.inputs:
            if wanted.name == self._ids_input.name:
                array = ids
            elif wanted.name == "attention_mask":
                array = mask
            elif wanted.name == "token_type_ids":
                array = np.zeros_like(ids)
            else:
                raise ConfigurationError(
                    f"{self._files.graph} takes {wanted.name!r}, and nothing is known of such an input: export it with "
                    "input_ids and attention_mask only"
                )
            feeds[wanted.name] = array.astype(wanted.type)
        return self._vectors(feeds, mask)

    def _vectors(self, feeds: Mapping[str, npt.NDArray[Any]], mask: npt.NDArray[np.int64] | None = None) -> FloatArray:
        session, output = self._session(), self._output.name
        rows = np.concatenate([session.run(output, chunk)[:count] for count, chunk in self._chunks(feeds)])
        rows = rows.astype(np.float32)
        if rows.ndim == 3 and self._files.pooling == "cls":
            rows = rows[:, 0]
        elif rows.ndim == 3 and self._files.pooling == "mean":
            weights = np.ones(rows.shape[:2], np.float32) if mask is None else mask.astype(np.float32)
            rows = (rows * weights[..., None]).sum(axis=1) / np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
        if rows.ndim != 2:
            raise ConfigurationError(
                f"the output {output!r} of {self._files.graph} has the shape {rows.shape}, which is not one vector for "
                "each content: name another output, or a pooling, in its description"
            )
        return rows

    def _chunks(self, feeds: Mapping[str, npt.NDArray[Any]]) -> Iterator[tuple[int, Mapping[str, npt.NDArray[Any]]]]:
        """The contents of a call in batches of the graph's size, each with how many of its rows count."""
        total = len(next(iter(feeds.values())))
        size = self._chunk or total
        step = 1 if self.header.scales_by_batch else size
        for start in range(0, total, step):
            part = {name: array[start : start + step] for name, array in feeds.items()}
            count = min(step, total - start)
            if count < size and self._chunk:
                part = {
                    name: np.concatenate([array, array[-1:].repeat(size - count, 0)]) for name, array in part.items()
                }
            yield count, part

    @cached_property
    def _chunk(self) -> int | None:
        """How many contents the graph takes at once; None for any number."""
        fixed = [each.shape[0] for each in self.header.inputs if each.shape and each.shape[0] is not None]
        if fixed:
            return fixed[0]
        return 1 if self.header.scales_by_batch else None

    @cached_property
    def _output(self) -> Value:
        there = {each.name: each for each in self.header.outputs}
        is_pooled = self._files.pooling != "none"
        usual = ("last_hidden_state",) if is_pooled else _OUTPUTS["text" if self._files.image is None else "image"]
        names = [self._files.output] if self._files.output else [name for name in usual if name in there]
        if not names and not is_pooled:
            names = [name for name, each in there.items() if len(each.shape) == 2]
        if len(names) == 0 or names[0] not in there:
            wanted = self._files.output or " or ".join(usual)
            raise ConfigurationError(
                f"{self._files.graph} has no output {wanted}, only {', '.join(there)}: name the one that is the vector "
                "in a description of the model"
            )
        return there[names[0]]

    @cached_property
    def _image_input(self) -> Value:
        rules = self._files.image
        found = [each for each in self.header.inputs if len(each.shape) == 4]
        if len(found) != 1 or len(self.header.inputs) != 1 or found[0].type not in ("float32", "float16", "uint8"):
            raise ConfigurationError(
                f"{self._files.graph} takes {_listed(self.header.inputs)}, and not one array of images, float32 of "
                "(batch, 3, height, width) or uint8 of (batch, height, width, 3)"
            )
        sides = found[0].shape[1:3] if _channels_last(found[0]) else found[0].shape[2:]
        assert rules is not None  # noqa: S101 (of the tower of images)
        if any(side not in (None, size) for side, size in zip(sides, rules.size[::-1], strict=True)):
            raise ConfigurationError(
                f"{self._files.graph} takes images of {sides[1]} x {sides[0]} pixels, and the file of preprocessing "
                f"beside it says {rules.size[0]} x {rules.size[1]}: they belong to two models"
            )
        return found[0]

    @cached_property
    def _ids_input(self) -> Value:
        found = [each for name in _IDS for each in self.header.inputs if each.name == name]
        found += [each for each in self.header.inputs if len(self.header.inputs) == 1]
        if not found or found[0].type not in ("int32", "int64"):
            raise ConfigurationError(
                f"{self._files.graph} takes {_listed(self.header.inputs)}, and no ids of tokens, int32 or int64 of "
                "(batch, length)"
            )
        return found[0]

    def _session(self) -> Session:
        loaded = self._loaded  # without the lock, which a call would wait for
        if loaded is None or loaded[0] != os.getpid():  # a forked child has none of its parent's threads
            with self._lock:
                loaded = self._loaded
                if loaded is None or loaded[0] != os.getpid():
                    _abandoned.append(loaded)
                    loaded = self._loaded = os.getpid(), Session(self._files.graph, self._settings)
        return loaded[1]

    def _texts(self) -> TextTokenizer:
        if self._tokenizer is None:
            with self._lock:
                if self._tokenizer is None:
                    assert self._files.tokenizer is not None  # noqa: S101 (of the tower of texts)
                    assert self._files.text is not None  # noqa: S101
                    self._tokenizer = TextTokenizer(self._files.tokenizer, self._files.text)
        return self._tokenizer


def _channels_last(wanted: Value) -> bool:
    """Whether the colours are the last dimension; where none is said to be 3, by the type."""
    if wanted.shape[-1] == 3 or wanted.shape[1] == 3:
        return wanted.shape[1] != 3
    return wanted.type == "uint8"


def _listed(inputs: Sequence[Value]) -> str:
    return ", ".join(f"{each.name} ({each.type or 'other'} of {list(each.shape)})" for each in inputs)
