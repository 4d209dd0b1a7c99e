"""The files of a model, wherever it is: a folder, two folders, or a name of the hub."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from multimodal_search._files import located
from multimodal_search._text import brief
from multimodal_search.embedders.hub.model import HubModel
from multimodal_search.embedders.onnx.catalogue import MODELS, KnownTower
from multimodal_search.embedders.onnx.layout import ModelFiles
from multimodal_search.embedders.onnx.reading import Choice, choose, read, weights_missing
from multimodal_search.embedders.onnx.variants import SIDES, Side
from multimodal_search.errors import ConfigurationError

ModelName: TypeAlias = "str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]]"
"""A name of the hub or a folder; or one for each tower."""


_COMPANIONS: Mapping[Side, frozenset[str]] = {
    "image": frozenset({"preprocessor_config.json", "visual/preprocess_cfg.json"}),
    "text": frozenset({"tokenizer.json", "textual/tokenizer.json"}),
}
"""Files that only models with that tower have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """Where a model is.

    Attributes:
        model: As `OnnxEmbedder` was given it.
        revisions: Of the hub's repository of each tower; None for the one that is known, or the newest.
        variants: Of each tower.
        cache_folder: The hub's cache; None is its usual place.
        local_files_only: Whether nothing is downloaded.
        language: A FLORES code for texts, of an NLLB model.
    """

    model: ModelName
    revisions: Mapping[Side, str | None] = field(default_factory=lambda: dict.fromkeys(SIDES))
    variants: Mapping[Side, str | None] = field(default_factory=lambda: dict.fromkeys(SIDES))
    cache_folder: Path | None = None
    local_files_only: bool = False
    language: str | None = None

    @property
    def name(self) -> str:
        """What to call the model: the hub's name of it, or its folder's."""
        match self.model:
            case Mapping():
                return " + ".join(_name_of(each) for each in self.model.values())
            case model:
                return _name_of(model)

    def found(self, *, download: bool = True) -> ModelFiles | None:
        """The model's files; downloaded, if they are not there and may be.

        Args:
            download: Whether to download what is missing; if not, None is returned for it.

        Raises:
            ConfigurationError: There is no such model, or files of it are missing or make no sense.
            EmbedderUnavailableError: The hub cannot be reached.
        """
        parts: dict[Side, ModelFiles] = {}
        for places, sides in self._places():
            files = self._found(places, sides, download=download)
            if files is None:
                return None
            parts |= dict.fromkeys(sides, files)
        image, text = parts.get("image"), parts.get("text")
        some = image or text
        assert some is not None  # noqa: S101 (there is at least one place)
        return ModelFiles(
            image=None if image is None else image.image,
            text=None if text is None else text.text,
            name=some.name,
            matryoshka=all(each.matryoshka for each in (image, text) if each is not None),
        )

    def pinned(self) -> str | dict[Side, str] | None:
        """The commits of the hub that are here, or are to be, as `OnnxEmbedder` takes `revision`; None for folders."""
        try:
            places = [(place, side) for place, sides in self._places() for side in sides if isinstance(place, HubModel)]
        except ConfigurationError:  # which the first use raises
            return None
        told = {side: place.commit() or place.revision for place, side in places}
        by_side = {side: revision for side, revision in told.items() if revision is not None}
        if len(set(by_side.values())) == 1 and len(by_side) == len(told) and not isinstance(self.model, Mapping):
            return next(iter(by_side.values()))
        return by_side or None

    def folders(self) -> list[Path]:
        """The folders that hold its files, as far as they are here."""
        found = [place if isinstance(place, Path) else place.cached() for place, _ in self._places()]
        return [folder for folder in found if folder is not None]

    def cache_folders(self) -> list[Path]:
        """The hub's cache for what is from the hub, and other folders themselves."""
        return [place if isinstance(place, Path) else place.place.parent for place, _ in self._places()]

    def _places(self) -> list[tuple[Path | HubModel, list[Side]]]:
        """Folders and repositories, each with the towers that are taken from it."""
        if isinstance(self.model, Mapping):
            return [(self._place(self.model[side], side), [side]) for side in SIDES if side in self.model]
        found: dict[Path | HubModel, list[Side]] = {}
        for side in SIDES:
            found.setdefault(self._place(self.model, side), []).append(side)
        return list(found.items())

    def _place(self, model: str | os.PathLike[str], side: Side) -> Path | HubModel:
        folder = located(model)
        if folder.is_dir():
            return folder
        name = os.fspath(model)
        is_of_hub = isinstance(model, str) and name.count("/") == 1 and not name.startswith((".", "~", "/"))
        if not is_of_hub or folder.exists():
            raise ConfigurationError(
                f"{brief(name)} is neither a folder on this machine nor a name of the hub, such as {next(iter(MODELS))}"
            )
        known = self._known.get(side)
        pinned = None if known is None else known.revision
        revision = self.revisions[side] or pinned
        is_known = not isinstance(self.model, Mapping)  # a model by its own name, which may be in two repositories
        return HubModel(
            repository=name if known is None else known.repository,
            revision=revision,
            cache_folder=self.cache_folder,
            local_files_only=self.local_files_only,
            command=self._command(name, None if is_known and revision == pinned else revision),
        )

    def _command(self, name: str, revision: str | None) -> str:
        """What downloads the same files elsewhere."""
        variants = {f" --variant {side}={told}" for side, told in self.variants.items() if told is not None}
        told = "" if revision is None else f" --revision {revision}"
        return f"multimodal-search models download {name}{''.join(sorted(variants))}{told}"

    @property
    def _known(self) -> Mapping[Side, KnownTower]:
        """What the catalogue knows of the towers, by their names, also where they are folders of the hub's cache."""
        if not isinstance(self.model, Mapping):
            name = _name_of(self.model)
            return MODELS[name].towers if name in MODELS else {}
        towers = {(side, each.repository): each for known in MODELS.values() for side, each in known.towers.items()}
        named = {side: (side, _name_of(self.model[side])) for side in SIDES if side in self.model}
        return {side: towers[name] for side, name in named.items() if name in towers}

    def _found(self, place: Path | HubModel, sides: list[Side], *, download: bool) -> ModelFiles | None:
        if isinstance(place, Path):
            return self._read(place, str(place), sides, self.variants)
        variants = {side: self.variants[side] or "fp32" for side in SIDES}
        folder, lacking = place.cached(), ""
        if folder is not None:
            try:
                return self._read(folder, place.repository, sides, variants, is_of_hub=True)
            except ConfigurationError as error:
                lacking = str(error)  # what is missing is downloaded, and what is wrong comes up again
        if not download:
            return None

        chosen: list[Choice] = []

        def needed(names: list[str], text_of: Callable[[str], str]) -> list[str]:
            chosen.append(choose(names, variants, where=place.repository, sides=sides, text_of=text_of))
            return chosen[-1].with_weights(names)

        folder = place.download(needed, lacking=lacking)
        # Which files hold the weights of a large graph, only the graph itself can say.
        if weights := weights_missing(folder, chosen[-1]):
            place.download(lambda names, _: [*chosen[-1].with_weights(names), *weights])
        return read(folder, chosen[-1], self._known, self.language)

    def _read(
        self,
        folder: Path,
        where: str,
        sides: list[Side],
        variants: Mapping[Side, str | None],
        *,
        is_of_hub: bool = False,
    ) -> ModelFiles:
        names = [
            path.relative_to(folder).as_posix()
            for pattern in ("*", "*/*")
            for path in folder.glob(pattern)
            if path.is_file()
        ]
        choice = choose(
            names, variants, where=where, sides=sides, text_of=lambda name: (folder / name).read_text("utf-8")
        )
        # A download that broke off has left the small files of both towers, and perhaps the graph of one.
        if is_of_hub and any(side not in choice.graphs and not _COMPANIONS[side].isdisjoint(names) for side in sides):
            raise ConfigurationError(f"{folder} does not hold both towers")
        return read(folder, choice, self._known, self.language)


def _name_of(model: str | os.PathLike[str]) -> str:
    """The hub's name of a model, also of its folder in the hub's cache; else the folder's own."""
    folder = located(model)
    if not folder.is_dir():
        return os.fspath(model)
    parts = folder.resolve().parts
    if len(parts) > 2 and parts[-2] == "snapshots" and parts[-3].startswith("models--"):
        return parts[-3].removeprefix("models--").replace("--", "/")
    return parts[-1]
