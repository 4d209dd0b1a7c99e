"""A model that is loaded: texts, images and both to vectors."""

from __future__ import annotations

import importlib
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, get_args

import numpy as np
import PIL.Image

from multimodal_search._extras import require
from multimodal_search._text import prose, shorten
from multimodal_search.contents import Image, Mixed, Modality, Text
from multimodal_search.embedders.sentence_transformers.folder import ModelFolder
from multimodal_search.embedders.sentence_transformers.images import ImageSteps
from multimodal_search.embedders.sentence_transformers.settings import TorchSettings
from multimodal_search.embedders.sentence_transformers.texts import TextRules, prompt_of
from multimodal_search.embedders.sentence_transformers.traits import Traits
from multimodal_search.errors import ConfigurationError, EmbedderError, UnsupportedContentError
from multimodal_search.types import FloatArray, Role

_CPU_CHUNK = 8  # contents between two looks at whether to go on; larger ones are no faster on a processor


class TorchModel:
    """A loaded model. Safe to use from many threads, of which one at a time computes.

    Args:
        folder: Its files.
        settings: How it runs.
        dtype: Of its weights, by torch's name.

    Raises:
        ConfigurationError: sentence-transformers cannot load it, or this machine has no such device.
        MissingExtraError: The extra `torch` is not installed.
    """

    def __init__(self, folder: ModelFolder, settings: TorchSettings, dtype: str) -> None:
        self._torch = require("torch", extra="torch", purpose="SentenceTransformersEmbedder")
        library = require("sentence_transformers", extra="torch", purpose="SentenceTransformersEmbedder")
        self._name = folder.name
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._interrupts = 0
        if settings.threads is not None:
            self._torch.set_num_threads(settings.threads)
        try:
            with _quiet():
                self._model = library.SentenceTransformer(
                    str(folder.path),
                    device=self._device(settings.device),
                    prompts=dict(settings.prompts),
                    trust_remote_code=settings.trust_remote_code,
                    local_files_only=settings.local_files_only or not settings.trust_remote_code,
                    model_kwargs={"dtype": getattr(self._torch, dtype)},
                )
                self._model.eval()
        except ConfigurationError:
            raise
        except Exception as error:  # of whatever its files hold
            raise ConfigurationError(
                f"sentence-transformers {library.__version__} cannot load {folder.path}: "
                f"{type(error).__name__}: {shorten(prose(str(error)), 300)}"
            ) from error
        self._prompts = {
            role: prompt_of(role, settings.prompt_of(role), self._model.prompts, self._model.default_prompt_name)
            for role in get_args(Role)
        }
        self._is_chat = "message" in self._model.modalities
        default = self._model.default_prompt_name
        self._image_prompt = prompt_of("image", settings.image_prompt, self._model.prompts, default)
        modules = {role: self._module("text", role) for role in get_args(Role)}
        rules = {
            id(module): TextRules(
                getattr(module, "tokenizer", None), getattr(module, "config", None), settings.max_tokens
            )
            for module in modules.values()
        }
        self._texts: dict[Role, TextRules] = {role: rules[id(module)] for role, module in modules.items()}
        # Modules of other kinds, such as static embeddings, take texts only, and as they are.
        self._is_plain = not any(hasattr(module, "input_formatter") for module in modules.values())
        self._chunk = _CPU_CHUNK if self.device == "cpu" else settings.max_batch_size
        self.steps = self._image_steps() if self._model.supports("image") else None

    def traits(self) -> Traits:
        """Its dimension and modalities, found by embedding something.

        Raises:
            ConfigurationError: It embeds neither texts nor images, or not in one space.
        """
        probe = PIL.Image.linear_gradient("L").convert("RGB")
        text, image = Text("a"), Image(probe if self.steps is None else self.steps.resized(probe))
        sizes: dict[Modality, int] = {}
        probes: dict[Modality, Text | Image | Mixed] = {"text": text, "image": image, "mixed": Mixed(text, image)}
        for modality, content in probes.items():
            if not self._supports(modality):
                continue
            try:
                sizes[modality] = self.embed(modality, [content], role="document").shape[1]
            except Exception as error:
                raise ConfigurationError(
                    f"{self._name} says that it embeds {modality}, and fails at it: {shorten(prose(str(error)), 300)}"
                ) from error
        if not sizes:
            embeds = ", ".join(str(each) for each in self._model.modalities) or "nothing"
            raise ConfigurationError(f"{self._name} embeds {embeds}, and neither texts nor images")
        if len(set(sizes.values())) > 1:
            raise ConfigurationError(f"{self._name} gives vectors of {sizes} numbers, which are not of one space")
        return Traits(dimension=next(iter(sizes.values())), modalities=tuple(sizes), device=self.device)

    @property
    def device(self) -> str:
        """What it runs on, by torch's name of the kind."""
        return str(self._model.device.type)

    def embed(self, modality: Modality, contents: Sequence[Text | Image | Mixed], *, role: Role) -> FloatArray:
        """Vectors of contents of one modality, shape (n, dimension), of any length.

        Args:
            modality: Of all of them.
            contents: Images of PIL, resized by `steps`.
            role: Of their vectors.

        Raises:
            UnsupportedContentError: The model does not take such a `Mixed`.
            EmbedderError: It failed, or was interrupted.
        """
        if os.getpid() != self._pid:
            raise EmbedderError(
                f"{self._name} was loaded before this process was forked, and torch does not work in it: use "
                'multiprocessing with the start method "spawn", or make the embedder in the process that uses it'
            )
        interrupts, found = self._interrupts, np.empty((0, 0), np.float32)
        # The longest first, so that a batch is padded little.
        order = sorted(range(len(contents)), key=lambda number: -_length(contents[number]))
        for start in range(0, len(order), self._chunk):
            chunk = order[start : start + self._chunk]
            rows = self._rows(modality, [contents[number] for number in chunk], role, interrupts)
            if not found.size:
                found = np.empty((len(contents), rows.shape[1]), np.float32)
            found[chunk] = rows
        return found

    def interrupt(self) -> None:
        """End the calls that are under way, after the batch that is computed now."""
        self._interrupts += 1

    def is_truncated(self, text: str, role: Role) -> bool:
        """Whether the model sees only the beginning of a text."""
        return self._texts[role].is_truncated(self._prompts[role] + text)

    def _rows(
        self, modality: Modality, contents: Sequence[Text | Image | Mixed], role: Role, interrupts: int
    ) -> FloatArray:
        torch = self._torch
        try:
            with torch.inference_mode():
                pixels = self._pixels(contents) if modality == "image" else None
                with self._lock:  # not around the copies to and from a GPU, which has another call's work meanwhile
                    self._check_on(interrupts)
                    made = self._encoded(modality, contents, role) if pixels is None else self._computed(pixels, role)
                return np.asarray(made.float().cpu())
        except (EmbedderError, UnsupportedContentError):
            raise
        except torch.OutOfMemoryError as error:
            raise EmbedderError(
                f"{self._name} needs more memory than the GPU has free for {len(contents)} contents: set a smaller "
                "max_batch_size, or dtype='bfloat16'"
            ) from error
        except Exception as error:  # of any model's code
            raise EmbedderError(
                f"{self._name} failed ({type(error).__name__}: {shorten(prose(str(error)), 300)})"
            ) from error

    def _check_on(self, interrupts: int) -> None:
        if self._interrupts != interrupts:
            raise EmbedderError(f"{self._name} was interrupted")

    def _pixels(self, contents: Sequence[Text | Image | Mixed]) -> Any | None:
        """The numbers of images that come to one size, on the model's device; None for others."""
        if self.steps is None or not self.steps.is_fixed:
            return None
        images = [each.source for each in contents if isinstance(each, Image)]
        return self.steps.tensor(images, self._model.device)  # type: ignore[arg-type]  # PIL's, as promised

    def _computed(self, pixels: Any, role: Role) -> Any:
        rows = self._model({"pixel_values": pixels, "modality": "image", "task": role}, task=role)["sentence_embedding"]
        return rows[:, : self._model.truncate_dim]  # as `encode` does, for a model that was saved so

    def _encoded(self, modality: Modality, contents: Sequence[Text | Image | Mixed], role: Role) -> Any:
        return self._model.encode(
            [self._input(each, role) for each in contents],
            prompt=self._image_prompt if modality == "image" else self._prompts[role],
            task=role,
            processing_kwargs=dict(self._texts[role].processing) or None,
            batch_size=len(contents),
            show_progress_bar=False,
            convert_to_tensor=True,
        )

    def _input(self, content: Text | Image | Mixed, role: Role) -> Any:
        """A content as sentence-transformers is given it: it takes a plain string for an image if it looks like one."""
        match content:
            case Text():
                text = self._texts[role].cleaned(content.text)
                return text if self._is_plain else {"text": text}
            case Image():
                return {"image": content.source}
            case Mixed() if self._is_chat:
                parts = [{"type": kind, **each} for each in self._parts(content, role) for kind in each]
                return [{"role": "user", "content": parts}]
            case Mixed():
                pair = {kind: value for each in self._parts(content, role) for kind, value in each.items()}
                if len(content.parts) != 2 or len(pair) != 2:
                    raise UnsupportedContentError(f"{self._name} embeds one text with one image, and no other Mixed")
                return pair

    def _parts(self, content: Mixed, role: Role) -> list[Any]:
        return [self._input(part, role) for part in content.parts]

    def _module(self, modality: str, role: Role) -> Any:
        """The first module that a content passes through: in a model of several routes, the first of its route."""
        first = self._model[0]
        if not hasattr(first, "sub_modules"):
            return first
        try:
            return first.sub_modules[first._resolve_route(task=role, modality=modality)][0]  # noqa: SLF001 (no public way)
        except ValueError:  # it has no route for such a content
            return None

    def _supports(self, modality: Modality) -> bool:
        return bool(self._model.supports(("image", "text") if modality == "mixed" else modality))

    def _image_steps(self) -> ImageSteps | None:
        modules = {id(module): module for role in get_args(Role) if (module := self._module("image", role)) is not None}
        if len(modules) != 1:  # documents and queries are made in two ways
            return None
        (module,) = modules.values()
        processor = getattr(module, "processor", None)
        processor = getattr(processor, "image_processor", processor)
        if not callable(processor):
            return None

        def whole(image: PIL.Image.Image) -> dict[str, Any]:
            return dict(module.preprocess([{"image": image}]))

        return ImageSteps(processor, whole)

    def _device(self, wanted: str | None) -> str | None:
        if wanted in (None, "auto"):
            return None  # the library's choice: a GPU if there is one
        if wanted is not None and wanted.startswith("cuda") and not self._torch.cuda.is_available():
            raise ConfigurationError(
                f"device={wanted!r}, and this torch ({self._torch.__version__}) finds no GPU: install a build of torch "
                "for CUDA, or leave out device"
            )
        return wanted


def _length(content: Text | Image | Mixed) -> int:
    match content:
        case Text():
            return len(content.text)
        case Mixed():
            return sum(map(_length, content.parts))
        case Image():
            return 0


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bars and remarks of transformers about loading; its errors are raised."""
    told: Any = importlib.import_module("transformers.utils.logging")

    has_bars, level = told.is_progress_bar_enabled(), told.get_verbosity()
    told.disable_progress_bar()
    told.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        told.set_verbosity(level)
        if has_bars:
            told.enable_progress_bar()
