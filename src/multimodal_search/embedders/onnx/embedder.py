"""Embeddings from ONNX files on this machine, through ONNX Runtime."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from multimodal_search._bounds import check_flags, is_whole
from multimodal_search._files import checked_path, located
from multimodal_search._text import brief
from multimodal_search._threads import Ahead
from multimodal_search.contents import Content, Image, Mixed, Modality, Text
from multimodal_search.embedders.onnx.catalogue import DEFAULT_MODEL, MODELS
from multimodal_search.embedders.onnx.files import ModelName, ModelSource
from multimodal_search.embedders.onnx.layout import ModelFiles
from multimodal_search.embedders.onnx.session import Runtime
from multimodal_search.embedders.onnx.tower import Tower
from multimodal_search.embedders.onnx.variants import SIDES, Revision, Side, Variant, checked_revision, checked_variant
from multimodal_search.embedders.prepared import PreparedImage
from multimodal_search.embedders.registry import EmbedderRef, options_of
from multimodal_search.errors import ConfigurationError, UnsupportedContentError
from multimodal_search.media.images import load_rgb
from multimodal_search.types import EmbedderSpec, FloatArray, Role
from multimodal_search.vectors import of_unit_length

_CPU_BATCH, _GPU_BATCH = 8, 32
_GPU_CONCURRENCY = 2  # while one call computes, the arrays of the next one are made
_MAX_THREADS = 1_024
_MAX_CONCURRENCY_ALONE = 8  # of graphs that take one content: as many run at once


class OnnxEmbedder:
    """Embeds texts and images with a model of two ONNX files, on this machine: CLIP, SigLIP and their like.

    The model is a name of the Hugging Face hub, downloaded on first use and kept, or a folder: of onnx-community's
    layout, of Immich's, or any with a description (docs/embedders.md). Files are found, and downloaded if need be,
    when `spec` or a vector is first asked for; each tower is loaded when it is first needed. May be used from many
    threads. Vectors have unit length.

    Args:
        model: A name of the hub, such as `"Xenova/clip-vit-base-patch32"`; a folder; or `{"image": ..., "text": ...}`
            for a model that is in two. `multimodal-search models` lists those that are known.
        revision: Commit, tag or branch of the hub's repository; one for each tower if they are in two. Default: the
            commit that this library pins for models it knows, else what is in the cache, else the newest.
        variant: Which files: `"fp32"` (default), `"fp16"`, `"int8"`, `"q4"` and others by their names, or one for each
            tower: `{"text": "int8", "image": "fp32"}`. Variants have vectors of their own.
        threads: Threads of one graph, at most 1,024. Default: one for each physical core.
        device: `"cpu"` or `"cuda"`. Default: the GPU if the installed onnxruntime has one, else the processor.
        providers: Execution providers of ONNX Runtime by name, in place of `device`.
        cache_folder: The hub's cache. Default: its usual place (`HF_HOME`, else `~/.cache/huggingface`).
        local_files_only: Whether nothing is downloaded.
        dimensions: For models that are made for it (Matryoshka): how many numbers of a vector to keep.
        language: For models of NLLB: the language of texts as a FLORES-200 code, such as `"eng_Latn"`.
        max_batch_size: Most contents in one run. Default: 8 on the processor, where more gain nothing, else 32.

    Raises:
        ConfigurationError: A setting makes no sense.
        MissingExtraError: The extra `local` is not installed.

    Examples:
        >>> embedder = OnnxEmbedder("onnx-community/siglip2-base-patch16-224-ONNX", variant={"text": "int8"})
        >>> embedder
        OnnxEmbedder('onnx-community/siglip2-base-patch16-224-ONNX', variant={'text': 'int8'})
    """

    def __init__(
        self,
        model: ModelName = DEFAULT_MODEL,
        *,
        revision: Revision = None,
        variant: Variant = None,
        threads: int | None = None,
        device: str | None = None,
        providers: Sequence[str] | None = None,
        cache_folder: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        dimensions: int | None = None,
        language: str | None = None,
        max_batch_size: int | None = None,
    ) -> None:
        check_flags(local_files_only=local_files_only)
        for name, value in (("threads", threads), ("dimensions", dimensions), ("max_batch_size", max_batch_size)):
            if value is not None and not is_whole(value, least=1):
                raise ConfigurationError(f"{name} is a whole number, 1 or more, not {brief(value)}")
        if threads is not None and threads > _MAX_THREADS:
            raise ConfigurationError(f"threads is at most {_MAX_THREADS:,}, not {brief(threads)}")
        if language is not None and (not isinstance(language, str) or not language.strip()):
            raise ConfigurationError(f"language is a text that is not empty, not {brief(language)}")
        if device not in (None, "cpu", "cuda"):
            raise ConfigurationError(f"device is 'cpu' or 'cuda', not {brief(device)}; for others name the providers")
        if providers is not None and (device is not None or not _are_names(providers)):
            raise ConfigurationError("providers is a list of names, and takes the place of device: give one of the two")
        self._settings: dict[str, Any] = {
            "model": _checked_model(model),
            "revision": revision,
            "variant": variant,
            "threads": threads,
            "device": device,
            "providers": None if providers is None else list(providers),
            "cache_folder": None if cache_folder is None else _from_root(checked_path(cache_folder, "cache_folder")),
            "local_files_only": local_files_only,
            "dimensions": dimensions,
            "language": language,
            "max_batch_size": max_batch_size,
        }
        self._runtime = Runtime.of(threads=threads, device=device, providers=providers)
        self._source = ModelSource(
            model=self._settings["model"],
            revisions=checked_revision(revision),
            variants=checked_variant(variant),
            cache_folder=self._settings["cache_folder"],
            local_files_only=local_files_only,
            language=language,
        )
        self._dimensions = dimensions
        self._max_batch_size = max_batch_size or (_CPU_BATCH if self._runtime.is_cpu else _GPU_BATCH)
        self._lock = threading.Lock()
        self._ahead = Ahead("multimodal-onnx-load")
        self._found: ModelFiles | None = None

    def __repr__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self.options.items() if name != "model")
        return f"OnnxEmbedder({self._settings['model']!r}{options})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (self.options,)

    @property
    def ref(self) -> EmbedderRef:
        """Its name and options, from which `load_embedder` makes it again.

        Of a model of the hub, the revision is the commit that is here: a branch moves, and so may what this library
        takes by default.
        """
        pinned = self._source.pinned()
        return EmbedderRef("onnx", **{**self.options, **({} if pinned is None else {"revision": pinned})})

    @property
    def options(self) -> dict[str, Any]:
        """What this embedder was made with, as far as it is not the default; for `EmbedderRef("onnx", **options)`."""
        return options_of(OnnxEmbedder, self._settings)

    @cached_property
    def spec(self) -> EmbedderSpec:
        """What this embedder is and can do. Files are found, and downloaded if need be, when it is first asked for.

        Raises:
            ConfigurationError: There is no such model, or files of it are missing or make no sense.
            EmbedderUnavailableError: The hub cannot be reached.
        """
        files, towers = self._files, self._towers
        sizes = {side: size for side, tower in towers.items() if (size := tower.stated_dimension) is not None}
        if len(set(sizes.values())) > 1:
            raise ConfigurationError(f"the towers of {self._name} give vectors of {sizes}: they belong to two models")
        # Where no file says it, the tower is asked that a search by words needs as well.
        dimension = next(iter(sizes.values())) if sizes else list(towers.values())[-1].measured_dimension()
        if self._dimensions is not None:
            if not files.matryoshka:
                raise ConfigurationError(
                    f"nothing says that the vectors of {self._name} may be cut: leave out dimensions={self._dimensions}"
                )
            if self._dimensions > dimension:
                raise ConfigurationError(
                    f"the vectors of {self._name} have {dimension} numbers: dimensions is too many"
                )
        is_alone = any(tower.is_alone for tower in towers.values())
        # On the processor one run has all its threads at work: a second one would only fight it for cores and caches.
        concurrency = 1 if self._runtime.is_cpu else _GPU_CONCURRENCY
        known = MODELS.get(self._name)
        return EmbedderSpec(
            model=self._name,
            fingerprint=files.fingerprint(self._dimensions),
            dimension=self._dimensions or dimension,
            modalities=frozenset[Modality](towers),
            languages=() if known is None else known.languages,
            max_batch_size=self._max_batch_size,
            max_concurrency=min(_MAX_CONCURRENCY_ALONE, os.cpu_count() or 1) if is_alone else concurrency,
        )

    def prepare(self, content: Content, /) -> Content:
        """Do the work on one content ahead of `embed`: images are read, turned upright, and resized for the model.

        Raises:
            UnreadableContentError: An image cannot be read.
            UnsupportedContentError: The model has no such tower.
        """
        match content:
            case Text():
                self._tower("text")
                return content
            case Image():
                self._ahead.begin(self._tower("image").load)  # beside the decoding of the first ones
                return self._prepared(content)
            case Mixed():
                raise UnsupportedContentError(f"{self._name} embeds texts and images, but not both in one vector")

    def embed(self, contents: Sequence[Content], /, *, role: Role) -> FloatArray:
        """Embed contents, all or nothing.

        Args:
            contents: Texts and images.
            role: Makes a difference for models with prefixes, such as Nomic's.

        Returns:
            Shape `(len(contents), dimension)`, float32, of unit length.

        Raises:
            ContentError: A content cannot be read, or the model has no such tower.
            ConfigurationError: The files are missing, or make no sense.
            EmbedderError: ONNX Runtime failed, or was interrupted.
        """
        vectors = np.empty((len(contents), self.spec.dimension), np.float32)
        images = {number: self._prepared(each) for number, each in enumerate(contents) if isinstance(each, Image)}
        texts = {number: each.text for number, each in enumerate(contents) if isinstance(each, Text)}
        if len(images) + len(texts) < len(contents):
            raise UnsupportedContentError(f"{self._name} embeds texts and images, but not both in one vector")
        if images:
            pixels = [image.source for image in images.values() if isinstance(image.source, PIL.Image.Image)]
            vectors[list(images)] = self._fitting(self._tower("image").embed_images(pixels))
        if texts:
            vectors[list(texts)] = self._fitting(self._tower("text").embed_texts(list(texts.values()), role=role))
        return vectors

    def is_truncated(self, content: Content, /) -> bool:
        """Whether the model sees only the beginning of a text."""
        return isinstance(content, Text) and self._tower("text").is_truncated(content.text, "document")

    def interrupt(self) -> None:
        """End the calls that are under way with an `EmbedderError`; later ones work as before."""
        if self._found is not None:
            for tower in self._towers.values():
                tower.interrupt()

    @property
    def _name(self) -> str:
        found = self._found
        return (found.name if found is not None else "") or self._source.name

    @property
    def _files(self) -> ModelFiles:
        if self._found is None:
            with self._lock:
                if self._found is None:
                    self._found = self._source.found()
        assert self._found is not None  # noqa: S101 (it is None only where nothing may be downloaded)
        return self._found

    @cached_property
    def _towers(self) -> Mapping[Side, Tower]:
        files = self._files
        given = {"image": files.image, "text": files.text}
        return {side: Tower(tower, self._runtime) for side in SIDES if (tower := given[side]) is not None}

    def _tower(self, side: Side) -> Tower:
        if side not in self._towers:
            raise UnsupportedContentError(f"{self._name} has no tower of {side}s: it embeds {', '.join(self._towers)}s")
        return self._towers[side]

    def _fitting(self, rows: FloatArray) -> FloatArray:
        """Rows of a tower as vectors of this embedder.

        Raises:
            ConfigurationError: They are of another length than its file, or the other tower, says.
        """
        rows = rows[:, : self._dimensions]
        if rows.shape[1] != self.spec.dimension:
            raise ConfigurationError(
                f"the towers of {self._name} give vectors of {self.spec.dimension} and {rows.shape[1]} numbers: they "
                "belong to two models"
            )
        return of_unit_length(rows)

    def _prepared(self, image: Image) -> Image:
        self._tower("image")
        files = self._files.image
        rules = None if files is None else files.image
        assert rules is not None  # noqa: S101 (the tower of images has them)
        if isinstance(image, PreparedImage) and image.rules == rules:
            return image
        return PreparedImage(rules.resized(load_rgb(image)), rules, name=image.label)


def _checked_model(model: ModelName) -> Any:
    """The model as it can be written down.

    Raises:
        ConfigurationError: It is no name, folder, or one for each tower.
    """
    match model:
        case Mapping():
            if not model or not set(model) <= set(SIDES):
                raise ConfigurationError(
                    f"model is a name, a folder, or {{'image': ..., 'text': ...}}, not {brief(model)}"
                )
            return {side: _checked_model(each) for side, each in model.items()}
        case str() if model.strip():
            folder = located(model)
            return _from_root(folder) if folder.is_dir() else model
        case os.PathLike():
            return _from_root(located(model))
    raise ConfigurationError(f"model is a name of the hub or a folder, not {brief(model)}")


def _are_names(providers: object) -> bool:
    """Whether this is a list of execution providers' names."""
    return isinstance(providers, (list, tuple)) and bool(providers) and all(isinstance(each, str) for each in providers)


def _from_root(folder: Path) -> Path:
    """A folder by a path that holds in every working directory; links stay, which tell a model's name in the cache."""
    return Path(os.path.abspath(folder))  # noqa: PTH100 (as above)


def _remade(options: Mapping[str, Any]) -> OnnxEmbedder:
    return OnnxEmbedder(**options)
