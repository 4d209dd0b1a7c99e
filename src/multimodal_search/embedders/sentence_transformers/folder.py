"""A model's files, in a folder of one's own or in the hub's cache, and what they are known by."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multimodal_search._files import located
from multimodal_search._text import brief
from multimodal_search.embedders.hub.hashes import sha256_of
from multimodal_search.embedders.hub.json_file import json_of
from multimodal_search.embedders.hub.model import HubModel
from multimodal_search.errors import ConfigurationError

_MODULE = re.compile(r"(?:[a-z]+_)?\d+_\w+")
"""How sentence-transformers names the folders of modules, such as `1_Pooling` and `query_0_Transformer`."""

_WEIGHTS = re.compile(r"(?:model|pytorch_model|adapter_model)(?:-\d+-of-\d+)?\.(?:safetensors|bin)")
_ENDINGS = (".json", ".jinja", ".model", ".py")
_OTHERS = ("vocab.txt", "merges.txt")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolder:
    """A model's files.

    Attributes:
        name: What to call the model: the hub's name of it, or its folder's.
        path: The folder.
        files: Those that its vectors depend on, by their names with `/` between folders.
    """

    name: str
    path: Path
    files: tuple[str, ...]

    @classmethod
    def of(cls, path: Path, name: str) -> ModelFolder:
        """The model of a folder.

        Raises:
            ConfigurationError: It holds none, or not all of its files.
        """
        there = {
            each.relative_to(path).as_posix()
            for pattern in ("*", "*/*", "*/*/*")
            for each in path.glob(pattern)
            if each.is_file()
        }
        files = needed(there)
        if not {"config.json", "modules.json"} & there:
            raise ConfigurationError(
                f"{path} holds no model: neither config.json, as transformers saves models, nor modules.json, as "
                "sentence-transformers does"
            )
        if not any(_WEIGHTS.fullmatch(each.rpartition("/")[2]) for each in files):
            raise ConfigurationError(
                f"{path} holds no weights, such as model.safetensors: copy or download the model's files again"
            )
        for index in [each for each in files if each.endswith((".safetensors.index.json", ".bin.index.json"))]:
            shards = set(json_of(path / index).get("weight_map", {}).values())
            missing = sorted(f"{index.rpartition('/')[0]}/{shard}".lstrip("/") for shard in shards) if shards else []
            missing = [each for each in missing if each not in there]
            if missing and index.startswith("pytorch_model") and "model.safetensors" in there:
                continue  # of a second copy of the weights, which is not read
            if missing:
                raise ConfigurationError(f"{path / missing[0]} is missing: copy or download the model's files again")
        return cls(name=name, path=path, files=tuple(files))

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration of its transformer; empty where it has none."""
        found = [each for each in self.files if re.fullmatch(r"(?:0_\w+/)?config\.json", each)]
        return json_of(self.path / min(found, key=len)) if found else {}

    def digest(self) -> str:
        """What it is known by: SHA-256 of the names and hashes of its files."""
        whole = hashlib.sha256()
        for name in self.files:
            whole.update(f"{name}\0{_hash_of(self.path / name)}\n".encode())
        return whole.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPlace:
    """Where a model is to be found.

    Attributes:
        model: A folder, or a name of the hub.
        revision: Of the hub's repository; None is the one in the cache, else the newest.
        cache_folder: The hub's cache; None is its usual place.
        local_files_only: Whether nothing is downloaded.
    """

    model: str
    revision: str | None
    cache_folder: Path | None
    local_files_only: bool

    def found(self) -> ModelFolder:
        """Its files; downloaded, if they are not there and may be.

        Raises:
            ConfigurationError: There is no such model, or files of it are missing.
            EmbedderUnavailableError: The hub cannot be reached.
        """
        folder = located(self.model)
        if folder.is_dir():
            return ModelFolder.of(folder, folder.resolve().name)
        if self.model.count("/") != 1 or self.model.startswith((".", "~", "/")) or folder.exists():
            raise ConfigurationError(
                f"{brief(self.model)} is neither a folder on this machine nor a name of the hub, such as "
                "'google/siglip2-base-patch16-224'"
            )
        of_library = os.environ.get("SENTENCE_TRANSFORMERS_HOME")
        hub = HubModel(
            repository=self.model,
            revision=self.revision,
            cache_folder=self.cache_folder or (Path(of_library) if of_library else None),
            local_files_only=self.local_files_only,
        )
        cached = hub.cached()
        if cached is not None:
            try:
                return ModelFolder.of(cached, self.model)
            except ConfigurationError:  # a part of it, such as its ONNX files
                pass
        return ModelFolder.of(hub.download(lambda names, text_of: needed(names)), self.model)


def needed(names: Collection[str]) -> list[str]:
    """Of a model's files, those that are loaded; of weights in two formats, those in safetensors."""
    found = []
    for name in names:
        folder, _, file = name.rpartition("/")
        if folder and not all(_MODULE.fullmatch(each) for each in folder.split("/")):
            continue  # of another library, such as onnx/, or of training
        is_weights = _WEIGHTS.fullmatch(file) is not None
        if is_weights or file in _OTHERS or (file.endswith(_ENDINGS) and not file.startswith((".", "trainer_state"))):
            found.append(name)
    safe = {name.rpartition("/")[0] for name in found if name.endswith(".safetensors")}
    return sorted(
        name for name in found if name.rpartition("/")[0] not in safe or not name.endswith((".bin", ".bin.index.json"))
    )


def _hash_of(path: Path) -> str:
    real = path.resolve()
    # The hub's cache calls large files by their SHA-256.
    return real.name if real.parent.name == "blobs" and _SHA256.fullmatch(real.name) else sha256_of(real)
