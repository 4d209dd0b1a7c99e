"""The layouts of models' folders, and what their files say about the inputs of the graphs.

`choose` says which files a model needs, from the names of those that there are: of a folder, or of a repository before
anything is downloaded. `read` makes a `ModelFiles` of them.

- onnx-community and Xenova: `onnx/vision_model*.onnx`, `onnx/text_model*.onnx`, and the files of transformers;
- Immich: `visual/model.onnx` and `textual/model.onnx`, with open_clip's `preprocess_cfg.json` and `config.json`;
- one tower alone: `onnx/model*.onnx` and the files of transformers;
- anything else, with a description, `multimodal-search.json`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from multimodal_search._text import brief
from multimodal_search.embedders.hub.json_file import json_of
from multimodal_search.embedders.onnx.catalogue import KnownTower
from multimodal_search.embedders.onnx.description import DESCRIPTION, described, files_described
from multimodal_search.embedders.onnx.header import GraphHeader
from multimodal_search.embedders.onnx.layout import ModelFiles, TowerFiles
from multimodal_search.embedders.onnx.pixels import INTERPOLATIONS, ImageRules
from multimodal_search.embedders.onnx.tokens import TextRules
from multimodal_search.embedders.onnx.variants import SIDES, Side, graph_of, graphs_of, variants_of
from multimodal_search.errors import ConfigurationError

_VISUAL, _TEXTUAL = "visual/model.onnx", "textual/model.onnx"
_MAX_SANE_LENGTH = 1_000_000  # tokenizers that know no limit name 1e30
_CLIP_LENGTH, _SIGLIP_LENGTH, _USUAL_LENGTH = 77, 64, 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The files of a model that are needed.

    Attributes:
        graphs: The ONNX file of each tower.
        others: All others, by their names; their weights beside them are not among these.
        is_described: Whether there is a description.
    """

    graphs: Mapping[Side, str]
    others: tuple[str, ...]
    is_described: bool = False

    @property
    def names(self) -> list[str]:
        """All of them, the graphs last, so that where these are, the others are, too."""
        return self.with_weights(())

    def with_weights(self, names: Iterable[str]) -> list[str]:
        """As `names`, with the weights of large graphs: files beside them that begin with a graph's name."""
        graphs = self.graphs.values()
        weights = [name for name in names if any(name.startswith(f"{graph}_data") for graph in graphs)]
        return [*self.others, *weights, *graphs]


def choose(
    names: Collection[str],
    variants: Mapping[Side, str | None],
    *,
    where: str,
    sides: Collection[Side] = SIDES,
    text_of: Callable[[str], str],
) -> Choice:
    """Which files a model needs.

    Args:
        names: Of those that there are, with `/` between folders.
        variants: Of each tower; None for the default.
        where: The folder or repository, for messages.
        sides: Which towers are wanted. One alone may be in files called `model*.onnx`.
        text_of: Reads a file by its name.

    Raises:
        ConfigurationError: There is no model in a layout that is known, or not in that variant.
    """
    if DESCRIPTION in names:
        graphs, others = files_described(text_of(DESCRIPTION), f"{where}/{DESCRIPTION}")
        return Choice(graphs=graphs, others=(DESCRIPTION, *others), is_described=True)
    if _VISUAL in names or _TEXTUAL in names:
        return _immich(names, variants, where, sides)
    prefix = next((each for each in ("onnx/", "") if _has_graphs(names, each)), None)
    stems: dict[Side, str]
    if prefix is not None:
        stems = {"image": f"{prefix}vision_model", "text": f"{prefix}text_model"}
    else:
        prefix = next((each for each in ("onnx/", "") if graphs_of(names, f"{each}model")), None)
        side = sides[0] if len(sides := list(sides)) == 1 else _only_side(names)
        if prefix is None or side is None:
            raise ConfigurationError(
                f"{where} holds no model in a layout that is known: neither onnx/vision_model.onnx and "
                "onnx/text_model.onnx, nor visual/model.onnx and textual/model.onnx. Describe its files in "
                f"{DESCRIPTION} beside them, as docs/embedders.md shows; there are {brief(sorted(names), 200)}"
            )
        stems, sides = {side: f"{prefix}model"}, [side]
    graphs = {}
    for side in sides:
        if not graphs_of(names, stems[side]):
            continue  # a model of images alone, or of texts alone
        graph = graph_of(names, stems[side], variants[side])
        if graph is None:
            raise ConfigurationError(
                f"{where} has no {variants[side] or 'fp32'} of its {side} tower; it has "
                f"{', '.join(variants_of(names, stems[side]))}: pass one as variant={{{side!r}: ...}}"
            )
        graphs[side] = graph
    others = ["config.json"]
    others += ["preprocessor_config.json"] if "image" in graphs else []
    others += ["tokenizer.json", "tokenizer_config.json"] if "text" in graphs else []
    return Choice(graphs=graphs, others=tuple(others))


def weights_missing(folder: Path, choice: Choice) -> list[str]:
    """The files of weights that the chosen graphs name and the folder lacks, by their names in it."""
    graphs = [folder / name for name in choice.graphs.values()]
    paths = [path for graph in graphs for path in TowerFiles(graph=graph).data_files()]
    return [path.relative_to(folder).as_posix() for path in paths if not path.is_file()]


def read(folder: Path, choice: Choice, known: Mapping[Side, KnownTower], language: str | None) -> ModelFiles:
    """The model of a folder that holds the chosen files.

    Args:
        folder: Where they are.
        choice: Which they are.
        known: What is known of its towers beyond that.
        language: A FLORES code for texts, of an NLLB model.

    Raises:
        ConfigurationError: A file is missing, or makes no sense.
    """
    for name in choice.names:
        if not (folder / name).is_file():
            raise ConfigurationError(f"{folder / name} is missing: copy or download the model's files again")
    try:
        if choice.is_described:
            model = described(folder, language)
        else:
            reads = _of_open_clip if _VISUAL in choice.names or _TEXTUAL in choice.names else _of_transformers
            image, text = (
                reads(folder, side, choice.graphs[side], language) if side in choice.graphs else None for side in SIDES
            )
            model = ModelFiles(image=image, text=text)
    except ConfigurationError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{folder}: {', '.join(choice.others)} do not describe a model ({type(error).__name__}: {error}). Copy or "
            "download them again"
        ) from error
    for tower in model.towers:
        for path in tower.data_files():
            if not path.is_file():
                raise ConfigurationError(f"{path} is missing, which holds the weights of {tower.graph.name}")
    image, text = (
        tower if tower is None or side not in known else _with(tower, known[side])
        for side, tower in zip(SIDES, (model.image, model.text), strict=True)
    )
    return replace(model, image=image, text=text)


def _with(tower: TowerFiles, known: KnownTower) -> TowerFiles:
    text = tower.text
    if text is not None:
        text = replace(text, query_prefix=known.query_prefix, document_prefix=known.document_prefix)
    return replace(tower, pooling=known.pooling, text=text)


def _has_graphs(names: Collection[str], prefix: str) -> bool:
    return bool(graphs_of(names, f"{prefix}vision_model") or graphs_of(names, f"{prefix}text_model"))


def _only_side(names: Collection[str]) -> Side | None:
    if "preprocessor_config.json" in names:
        return None if "tokenizer.json" in names else "image"
    return "text" if "tokenizer.json" in names else None


def _immich(names: Collection[str], variants: Mapping[Side, str | None], where: str, sides: Collection[Side]) -> Choice:
    if any(variants[side] not in (None, "fp32") for side in sides):
        raise ConfigurationError(f"{where} has one variant only: leave out variant=")
    places: dict[Side, str] = {"image": _VISUAL, "text": _TEXTUAL}
    graphs = {side: places[side] for side in sides if places[side] in names}
    others = []
    if "image" in graphs:
        others.append("visual/preprocess_cfg.json")
    if "text" in graphs:
        at_root = "tokenizer_config.json" in names and "textual/tokenizer_config.json" not in names
        others += ["config.json", "textual/tokenizer.json"]
        others.append("tokenizer_config.json" if at_root else "textual/tokenizer_config.json")
    return Choice(graphs=graphs, others=tuple(others))


def _of_open_clip(folder: Path, side: Side, graph: str, language: str | None) -> TowerFiles:
    path = folder / graph
    tower = TowerFiles(graph=path)
    if side == "image":
        place = folder / "visual" / "preprocess_cfg.json"
        return replace(tower, image=_open_clip_image(json_of(place), place))
    config = json_of(folder / "config.json").get("text_cfg", {})
    local = folder / "textual" / "tokenizer_config.json"
    tokens = json_of(local if local.is_file() else folder / "tokenizer_config.json")
    clean = (config.get("tokenizer_kwargs") or {}).get("clean")
    length = fixed_length(tower.header()) or int(config.get("context_length", _CLIP_LENGTH))
    rules = TextRules(
        length=length,
        pad="length",
        pad_token=_token(tokens.get("pad_token"), "<pad>"),
        clean="canonicalize" if clean == "canonicalize" else "spaces",
        language=language or "",
    )
    return replace(tower, text=rules, tokenizer=folder / "textual" / "tokenizer.json")


def _open_clip_image(config: Mapping[str, Any], place: Path) -> ImageRules:
    size = config.get("size", 224)
    height, width = (size[0], size[-1]) if isinstance(size, list) else (size, size)
    mode = config.get("resize_mode", "shortest")
    return _image_rules(
        place,
        size=(width, height),
        resize=mode,
        shortest=min(width, height),
        interpolation=config.get("interpolation", "bicubic"),
        mean=config.get("mean"),
        std=config.get("std"),
    )


def _of_transformers(folder: Path, side: Side, graph: str, language: str | None) -> TowerFiles:
    tower = TowerFiles(graph=folder / graph)
    if side == "image":
        place = folder / "preprocessor_config.json"
        return replace(tower, image=transformers_image(json_of(place), place))
    config, tokens = json_of(folder / "config.json"), json_of(folder / "tokenizer_config.json")
    rules = _transformers_text(config, tokens, tower.header())
    return replace(tower, text=replace(rules, language=language or ""), tokenizer=folder / "tokenizer.json")


def transformers_image(config: Mapping[str, Any], place: Path) -> ImageRules:
    """What an image processor of transformers does, from its configuration.

    Raises:
        ConfigurationError: It is none of those that bring all images to one size.
    """
    size, crop = config.get("size", 224), config.get("crop_size")
    mode = config.get("resize_mode", "shortest")
    if isinstance(size, Mapping) and "height" in size:
        width, height = int(size["width"]), int(size["height"])
        mode = "squash"
    else:
        shortest = size.get("shortest_edge") if isinstance(size, Mapping) else size
        if not isinstance(shortest, int):
            raise ConfigurationError(f"{place}: size is {brief(size)}, and not a height and width or a shortest_edge")
        width = height = shortest
    shortest = min(width, height)
    if crop is not None and config.get("do_center_crop", False):
        cropped = (int(crop["width"]), int(crop["height"])) if isinstance(crop, Mapping) else (int(crop), int(crop))
        if mode == "squash" and cropped != (width, height):
            raise ConfigurationError(
                f"{place}: a crop of {cropped} after a resize to {(width, height)} is not supported"
            )
        width, height = cropped
    elif mode == "shortest" and config.get("do_center_crop") is False:
        raise ConfigurationError(f"{place}: images of no fixed size (do_center_crop is false) are not supported")
    is_normalized = config.get("do_normalize", True)
    return _image_rules(
        place,
        size=(width, height),
        resize=mode,
        shortest=shortest,
        interpolation=config.get("resample", config.get("interpolation", "bicubic")),
        mean=config.get("image_mean", config.get("mean")) if is_normalized else (0.0, 0.0, 0.0),
        std=config.get("image_std", config.get("std")) if is_normalized else (1.0, 1.0, 1.0),
        scale=float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0,
    )


def _image_rules(place: Path, *, interpolation: object, mean: object, std: object, **others: Any) -> ImageRules:
    names = {each.value: name for name, each in INTERPOLATIONS.items()}
    name = names.get(interpolation) if isinstance(interpolation, int) else str(interpolation).lower()
    if name not in INTERPOLATIONS or others["resize"] not in ("squash", "shortest"):
        raise ConfigurationError(
            f"{place}: resizing by {brief(interpolation)}, {brief(others['resize'])} is not supported"
        )
    for each in (mean, std):
        if not isinstance(each, (list, tuple)) or len(each) != 3:
            raise ConfigurationError(f"{place}: mean and std are three numbers each, not {brief(each)}")
    return ImageRules(interpolation=name, mean=_numbers(mean), std=_numbers(std), **others)


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _transformers_text(config: Mapping[str, Any], tokens: Mapping[str, Any], header: GraphHeader) -> TextRules:
    inner = config.get("text_config") or {}
    kind = str(config.get("model_type", ""))
    positions = inner.get("max_position_embeddings", config.get("max_position_embeddings"))
    told = tokens.get("model_max_length")
    fixed = fixed_length(header)
    if kind.startswith("siglip"):
        # Trained on lower-cased texts of 64 tokens, padding included, and pooled at the last one; the tokenizer's own
        # files say neither (Tschannen et al. 2025, SigLIP 2, section 2.1).
        length = fixed or positions or _SIGLIP_LENGTH
        return TextRules(length=length, pad="length", pad_token=_token(tokens.get("pad_token"), "<pad>"), clean="lower")
    is_clip = kind in ("clip", "clip_text_model")
    usual = _CLIP_LENGTH if is_clip else _USUAL_LENGTH
    limits = [each for each in (told, positions) if isinstance(each, (int, float)) and 0 < each < _MAX_SANE_LENGTH]
    return TextRules(
        length=fixed or int(min(limits, default=usual)),
        pad="length" if is_clip or fixed else "longest",
        pad_token=_token(tokens.get("pad_token"), "<|endoftext|>" if is_clip else "[PAD]"),
    )


def fixed_length(header: GraphHeader) -> int | None:
    """How many tokens a graph takes; None for any number."""
    return next((each.shape[1] for each in header.inputs if len(each.shape) == 2 and each.shape[1] is not None), None)


def _token(told: object, usual: str) -> str:
    if isinstance(told, Mapping):
        told = told.get("content")
    return told if isinstance(told, str) and told else usual
