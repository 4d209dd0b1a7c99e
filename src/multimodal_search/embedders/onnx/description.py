"""`multimodal-search.json`: a description of ONNX files that are in no layout of their own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from multimodal_search._text import brief
from multimodal_search.embedders.onnx.layout import ModelFiles, TowerFiles
from multimodal_search.embedders.onnx.pixels import INTERPOLATIONS, ImageRules
from multimodal_search.embedders.onnx.tokens import TextRules
from multimodal_search.embedders.onnx.variants import SIDES, Side
from multimodal_search.errors import ConfigurationError

DESCRIPTION = "multimodal-search.json"

_CHOICES = {
    "resize": ("squash", "shortest"),
    "interpolation": tuple(INTERPOLATIONS),
    "pad": ("length", "longest"),
    "clean": ("none", "lower", "spaces", "canonicalize"),
    "pooling": ("none", "cls", "mean"),
}
_FILES = {"image": ("graph",), "text": ("graph", "tokenizer")}


def files_described(text: str, where: str) -> tuple[dict[Side, str], list[str]]:
    """The graph of each tower, and the other files that a description names.

    Raises:
        ConfigurationError: It makes no sense.
    """
    towers = _towers(text, where)
    return {side: tower["graph"] for side, tower in towers.items()}, [
        tower["tokenizer"] for tower in towers.values() if "tokenizer" in tower
    ]


def described(folder: Path, language: str | None) -> ModelFiles:
    """The model of a folder with a description.

    Raises:
        ConfigurationError: The description makes no sense.
    """
    where = str(folder / DESCRIPTION)
    text = (folder / DESCRIPTION).read_text("utf-8")
    whole, towers = json.loads(text), _towers(text, where)
    made: dict[Side, TowerFiles | None] = {"image": None, "text": None}
    for side, told in towers.items():
        rest = {key: value for key, value in told.items() if key not in ("graph", "tokenizer", "output", "pooling")}
        tower = {key: told[key] for key in ("output", "pooling") if key in told}
        graph = folder / told["graph"]
        if side == "image":
            made[side] = TowerFiles(graph=graph, image=_image_rules(rest, where), **tower)
        else:
            if language:
                rest["language"] = language
            rules = _made(TextRules, {"pad": "length", **rest}, f"{where}: text")
            made[side] = TowerFiles(graph=graph, text=rules, tokenizer=folder / told["tokenizer"], **tower)
    return ModelFiles(
        image=made["image"],
        text=made["text"],
        name=str(whole.get("model", "")),
        matryoshka=whole.get("matryoshka") is True,
    )


def _towers(text: str, where: str) -> dict[Side, dict[str, Any]]:
    try:
        whole = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"{where} is no JSON: {error}") from None
    if not isinstance(whole, dict) or not set(whole) <= {"model", "matryoshka", *SIDES} or not set(whole) & set(SIDES):
        raise ConfigurationError(
            f"{where} is an object with image, text or both, and beside them model and matryoshka only, not "
            f"{brief(whole)}"
        )
    towers: dict[Side, dict[str, Any]] = {}
    for side in SIDES:
        if side not in whole:
            continue
        tower = whole[side]
        if not isinstance(tower, dict) or not all(isinstance(tower.get(name), str) for name in _FILES[side]):
            raise ConfigurationError(f"{where}: {side} is an object that names {' and '.join(_FILES[side])}")
        for name in _FILES[side]:
            if Path(tower[name]).is_absolute() or ".." in Path(tower[name]).parts:
                raise ConfigurationError(f"{where}: {tower[name]} is not in its own folder")
        for name, choices in _CHOICES.items():
            if name in tower and tower[name] not in choices:
                raise ConfigurationError(f"{where}: {name} is one of {', '.join(choices)}, not {brief(tower[name])}")
        towers[side] = tower
    return towers


def _image_rules(told: Mapping[str, Any], where: str) -> ImageRules:
    size = told.get("size")
    sides = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, list) else ()
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ConfigurationError(f"{where}: image has a size, in pixels: 224, or [width, height], not {brief(size)}")
    numbers = {
        name: tuple(float(value) for value in told[name])
        for name in ("mean", "std")
        if isinstance(told.get(name), list) and len(told[name]) == 3
    }
    rest = {"resize": "squash", "shortest": min(sides), "interpolation": "bicubic", **told, "size": sides, **numbers}
    rules: ImageRules = _made(ImageRules, rest, f"{where}: image")
    return rules


def _made(kind: Any, given: Mapping[str, Any], where: str) -> Any:
    """A dataclass of what is given, whose keys are its fields, and whose values have their types."""
    wanted = {each.name: each for each in fields(kind)}
    unknown = sorted(set(given) - set(wanted))
    missing = [name for name, each in wanted.items() if each.default is MISSING and name not in given]
    wrong = [
        name
        for name, each in wanted.items()
        if name in given and each.default is not MISSING and type(given[name]) is not type(each.default)
    ]
    if unknown or missing or wrong:
        problem = (
            f"{unknown[0]} is not known"
            if unknown
            else f"{missing[0]} is missing"
            if missing
            else f"{wrong[0]} is {brief(given[wrong[0]])}, not such a value as {wanted[wrong[0]].default!r}"
        )
        raise ConfigurationError(f"{where}: {problem}; it has {', '.join(wanted)}")
    return kind(**given)
