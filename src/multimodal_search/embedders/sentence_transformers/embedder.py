"""Embeddings from models on this machine, through sentence-transformers and torch."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from multimodal_search._files import checked_path, located
from multimodal_search._text import brief
from multimodal_search._threads import Ahead
from multimodal_search.contents import Content, Image, Mixed, Text, modality_of
from multimodal_search.embedders.prepared import PreparedImage
from multimodal_search.embedders.registry import EmbedderRef, options_of
from multimodal_search.embedders.sentence_transformers.folder import ModelFolder, ModelPlace
from multimodal_search.embedders.sentence_transformers.model import TorchModel
from multimodal_search.embedders.sentence_transformers.settings import TorchSettings
from multimodal_search.embedders.sentence_transformers.traits import Traits, remember, remembered
from multimodal_search.errors import ConfigurationError, EmbedderError, MissingExtraError, UnsupportedContentError
from multimodal_search.media.images import load_rgb
from multimodal_search.types import EmbedderSpec, FloatArray, Role
from multimodal_search.vectors import of_unit_length

_VERSION = 2
"""Raised with every change of this package that changes vectors: it is in the fingerprint."""

_MAX_CONCURRENCY = 2
"""Calls on a GPU: one computes, while the next one's numbers are made and copied. On a processor one call computes at a
time, with all threads: in turns, two would fight for the caches, and a search would wait for both."""


class SentenceTransformersEmbedder:
    """Embeds texts and images with a model of sentence-transformers or transformers, on this machine.

    Whatever `SentenceTransformer` loads and embeds texts or images with: SigLIP, CLIP, jina-clip, EmbeddingGemma,
    Qwen3-VL-Embedding, and models of texts alone. `spec.modalities` says which; `"mixed"` is among them where the model
    takes a text and an image together. The model is loaded when it is first needed, beside the first images. May be
    used from many threads. Vectors have unit length.

    A text is a text, even if it is a path, an address or holds special tokens. SigLIP's texts are lower-cased and
    padded as it was trained.

    Args:
        model: A name of the Hugging Face hub, such as `"google/siglip2-base-patch16-224"`, downloaded on first use and
            kept; or a folder.
        device: Such as `"cpu"`, `"cuda"`, `"cuda:1"`, `"mps"`. Default: a GPU if there is one.
        dtype: Of weights and arithmetic: `"float32"`, `"bfloat16"` or `"float16"`, or one of torch's. Default: as the
            model's configuration says, else float32. Each has vectors of its own.
        dimensions: For models that are made for it (Matryoshka): how many numbers of a vector to keep.
        truncate_dim: What sentence-transformers calls `dimensions`.
        revision: Commit, tag or branch of the hub's repository. Default: what is in the cache, else the newest.
        prompts: Texts before texts, by name, added to the model's own.
        query_prompt: What comes before a text to search with: a text, or the name of a prompt. Default: the model's
            prompt called `query`, `SearchQuery`, `Retrieval-query` or similar, else its default prompt.
        document_prompt: The same for a text to be found: `document`, `passage`, `Retrieval-document` or similar.
        image_prompt: The same for an image, for models that are given chats, where it is the message of the system.
            Default: the model's default prompt.
        trust_remote_code: Whether Python code that comes with the model is run, as some need.
        local_files_only: Whether nothing is downloaded.
        cache_folder: The hub's cache. Default: its usual place (`SENTENCE_TRANSFORMERS_HOME`, `HF_HOME`, else
            `~/.cache/huggingface`).
        max_tokens: Most tokens of a text. Default: what the model reads, but no more than 8,192; longer texts are cut.
        max_batch_size: Most contents in one call.
        threads: Threads of torch on a processor, for all that torch does in this process. Default: its own choice.

    Raises:
        ConfigurationError: A setting makes no sense.
        MissingExtraError: The extra `torch` is not installed.

    Examples:
        >>> embedder = SentenceTransformersEmbedder("google/siglip2-base-patch16-224", device="cpu")
        >>> embedder
        SentenceTransformersEmbedder('google/siglip2-base-patch16-224', device='cpu')
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        device: str | None = None,
        dtype: object = None,
        dimensions: int | None = None,
        truncate_dim: int | None = None,
        revision: str | None = None,
        prompts: Mapping[str, str] | None = None,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        image_prompt: str | None = None,
        trust_remote_code: bool = False,
        local_files_only: bool = False,
        cache_folder: str | os.PathLike[str] | None = None,
        max_tokens: int | None = None,
        max_batch_size: int = 32,
        threads: int | None = None,
    ) -> None:
        if not isinstance(model, (str, os.PathLike)) or not os.fspath(model).strip():
            raise ConfigurationError(f"model is a name of the hub or a folder, not {brief(model)}")
        if revision is not None and (not isinstance(revision, str) or not revision.strip()):
            raise ConfigurationError(f"revision is a text that is not empty, not {brief(revision)}")
        if dimensions is not None and truncate_dim is not None:
            raise ConfigurationError("dimensions and truncate_dim are one setting: give one of the two")
        _require()
        self._options: dict[str, Any] = {
            "model": os.fspath(model),
            "device": device,
            "dtype": None if dtype in (None, "auto") else str(dtype).removeprefix("torch."),
            "dimensions": truncate_dim if dimensions is None else dimensions,
            "revision": revision,
            "prompts": prompts,
            "query_prompt": query_prompt,
            "document_prompt": document_prompt,
            "image_prompt": image_prompt,
            "trust_remote_code": trust_remote_code,
            "local_files_only": local_files_only,
            "cache_folder": None if cache_folder is None else str(cache_folder),
            "max_tokens": max_tokens,
            "max_batch_size": max_batch_size,
            "threads": threads,
        }
        of_place = ("model", "revision", "cache_folder")
        run = {name: value for name, value in self._options.items() if name not in of_place}
        self._settings = TorchSettings(**{**run, "prompts": {} if prompts is None else prompts})
        self._place = ModelPlace(
            model=self._options["model"],
            revision=revision,
            cache_folder=None if cache_folder is None else checked_path(cache_folder, "cache_folder"),
            local_files_only=local_files_only,
        )
        self._lock = threading.Lock()
        self._loaded: TorchModel | None = None
        self._ahead = Ahead("multimodal-torch-load")

    def __repr__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self.options.items() if name != "model")
        return f"SentenceTransformersEmbedder({self._options['model']!r}{options})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (self.options,)

    @property
    def ref(self) -> EmbedderRef:
        """Its name and options, from which `load_embedder` makes it again.

        A folder is named by its whole path, a model of the hub with the commit that was found.

        Whether code that comes with a model may run is not among them: whoever opens an index says that anew.
        """
        folder = located(self._options["model"])
        options = {**self.options, "model": str(folder.absolute())} if folder.is_dir() else self.options
        options = {name: value for name, value in options.items() if name != "trust_remote_code"}
        found = self.__dict__.get("_folder")  # not looked for now, which might download it
        if isinstance(found, ModelFolder) and found.path.parent.name == "snapshots" and not folder.is_dir():
            options["revision"] = found.path.name
        return EmbedderRef("sentence-transformers", **options)

    @property
    def options(self) -> dict[str, Any]:
        """What it was made with, where that is not the default; for `EmbedderRef("sentence-transformers", ...)`."""
        return options_of(SentenceTransformersEmbedder, self._options)

    @cached_property
    def spec(self) -> EmbedderSpec:
        """What this embedder is and can do.

        Files are found, and downloaded if need be, when it is first asked for; a model that this machine has never run
        is loaded, too.

        Raises:
            ConfigurationError: There is no such model, or it cannot be loaded.
            EmbedderUnavailableError: The hub cannot be reached.
        """
        dimensions, traits = self._settings.dimensions, self._traits
        if dimensions is not None and dimensions > traits.dimension:
            raise ConfigurationError(
                f"the vectors of {self._folder.name} have {traits.dimension} numbers: dimensions={dimensions} is too "
                "many"
            )
        return EmbedderSpec(
            model=self._folder.name,
            fingerprint=self._fingerprint,
            dimension=dimensions or traits.dimension,
            modalities=frozenset(traits.modalities),
            max_batch_size=self._settings.max_batch_size,
            max_concurrency=1 if traits.device == "cpu" else _MAX_CONCURRENCY,
        )

    def prepare(self, content: Content, /) -> Content:
        """Do the work on one content ahead of `embed`: images are read, turned upright, and resized for the model.

        Raises:
            UnreadableContentError: An image cannot be read.
            UnsupportedContentError: The model does not embed such a content.
            EmbedderError: The model cannot be loaded.
        """
        self._check(content)
        match content:
            case Text():
                self._load_ahead()
                return content
            case Image():
                self._load_ahead()
                return self._prepared(content)
            case Mixed():
                parts = (self._prepared(each) if isinstance(each, Image) else each for each in content.parts)
                return Mixed(*parts)

    def embed(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
        """Embed contents, all or nothing.

        Args:
            contents: Texts and images, and `Mixed` of both if the model takes them together.
            role: Makes a difference for models with prompts.

        Returns:
            Shape `(len(contents), dimension)`, float32, of unit length.

        Raises:
            ContentError: A content cannot be read, or the model does not embed it.
            ConfigurationError: The model cannot be loaded.
            EmbedderError: The model failed, or was interrupted.
        """
        dimension = self.spec.dimension
        vectors = np.empty((len(contents), dimension), np.float32)
        prepared = [self.prepare(content) for content in contents]
        for modality in sorted({modality_of(content) for content in prepared}):  # one kind of content a call
            numbers = [number for number, content in enumerate(prepared) if modality_of(content) == modality]
            rows = self._model.embed(modality, [_alone(prepared[number]) for number in numbers], role=role)
            vectors[numbers] = of_unit_length(rows[:, :dimension])
        return vectors

    def is_truncated(self, content: Content, /) -> bool:
        """Whether the model sees only the beginning of a text."""
        return isinstance(content, Text) and self._model.is_truncated(content.text, "document")

    def interrupt(self) -> None:
        """End the calls that are under way with an `EmbedderError`, after the batch that is computed now."""
        loaded = self._loaded
        if loaded is not None:
            loaded.interrupt()

    def close(self) -> None:
        """Free the model's memory; whoever embeds something later loads it again."""
        with self._lock:
            self._loaded = None
            self._ahead.reset()

    @cached_property
    def _folder(self) -> ModelFolder:
        return self._place.found()

    @cached_property
    def _dtype(self) -> str:
        return self._settings.dtype_of(self._folder.config)

    @cached_property
    def _fingerprint(self) -> str:
        identity = {
            "version": _VERSION,
            "files": self._folder.digest(),
            **self._settings.identity(self._folder.config),
        }
        whole = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        return f"sentence-transformers/{whole[:32]}"

    @cached_property
    def _traits(self) -> Traits:
        known = remembered(self._key_of_traits)
        if known is None:
            known = self._model.traits()
            remember(self._key_of_traits, known)
        return known

    @property
    def _key_of_traits(self) -> str:
        versions = (importlib.metadata.version(package) for package in ("sentence-transformers", "torch"))
        return " ".join((self._folder.digest(), *versions, self._settings.device or "auto"))

    @property
    def _model(self) -> TorchModel:
        loaded = self._loaded  # without the lock, which a call would wait for
        if loaded is None:
            with self._lock:
                loaded = self._loaded
                if loaded is None:
                    loaded = self._loaded = TorchModel(self._folder, self._settings, self._dtype)
                    known = remembered(self._key_of_traits)
                    if known is not None and known.device != loaded.device:  # this machine has got or lost a GPU
                        remember(self._key_of_traits, replace(known, device=loaded.device))
        return loaded

    def _check(self, content: Content) -> None:
        if modality_of(content) not in self.spec.modalities:
            can = ", ".join(sorted(self.spec.modalities))
            raise UnsupportedContentError(f"{self.spec.model} embeds {can}, not {modality_of(content)}")

    def _prepared(self, image: Image) -> Image:
        key = self._fingerprint
        if isinstance(image, PreparedImage) and image.rules == key:
            return image
        decoded = load_rgb(image)  # beside the loading of the model
        try:
            steps = self._model.steps
        except ConfigurationError as error:  # not this image's fault, as it would be taken for
            raise EmbedderError(str(error)) from error
        return PreparedImage(decoded if steps is None else steps.resized(decoded), key, name=image.label)

    def _load_ahead(self) -> None:
        """Begin to load the model, beside the decoding of the first images."""
        if self._loaded is None:
            self._ahead.begin(lambda: self._model)


def _alone(content: Content) -> Text | Image | Mixed:
    """A content, of a `Mixed` of one part that part."""
    return content.parts[0] if isinstance(content, Mixed) and len(content.parts) == 1 else content


def _remade(options: Mapping[str, Any]) -> SentenceTransformersEmbedder:
    return SentenceTransformersEmbedder(**options)


def _require() -> None:
    """See that the packages are there, without loading them: that takes seconds."""
    for package in ("torch", "sentence_transformers"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(
                f"SentenceTransformersEmbedder needs the package {package!r}, which is not installed. "
                'Install it with: pip install "multimodal-search[torch]"'
            )
