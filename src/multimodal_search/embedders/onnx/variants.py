"""Variants of a model's files: the precision of each tower, by the names of files; and their revisions."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Literal, TypeAlias, get_args

from multimodal_search._text import brief
from multimodal_search.errors import ConfigurationError

Side: TypeAlias = Literal["image", "text"]
"""One of the two towers."""

SIDES: tuple[Side, Side] = get_args(Side)

Variant: TypeAlias = str | Mapping[str, str] | None
"""A name such as `"int8"` for both towers, one for each, or None for the default."""

Revision: TypeAlias = str | Mapping[str, str] | None
"""A commit, tag or branch for both towers, one for each, or None for the default."""

ENDINGS = {
    "fp32": ("",),
    "fp16": ("_fp16",),
    "int8": ("_int8", "_quantized"),
    "q4": ("_q4",),
    "q4f16": ("_q4f16",),
    "bnb4": ("_bnb4",),
    "uint8": ("_uint8",),
    "quantized": ("_quantized",),
}
"""How the names of files end, by variant, as transformers.js and Optimum name them; the first that is there counts."""


def checked_variant(variant: Variant) -> dict[Side, str | None]:
    """The variant of each tower; None where it is left open.

    Raises:
        ConfigurationError: It is none.
    """
    by_side = dict.fromkeys(SIDES, variant) if variant is None or isinstance(variant, str) else variant
    known = ", ".join(ENDINGS)
    if not isinstance(by_side, Mapping) or not set(by_side) <= set(SIDES):
        raise ConfigurationError(
            f"variant is one of {known}, or one for each tower, such as {{'text': 'int8', 'image': 'fp32'}}, not "
            f"{brief(variant)}"
        )
    for each in by_side.values():
        if each is not None and (not isinstance(each, str) or each not in ENDINGS):
            raise ConfigurationError(f"there is no variant {brief(each)}: it is one of {known}")
    return {side: by_side.get(side) for side in SIDES}


def checked_revision(revision: Revision) -> dict[Side, str | None]:
    """The revision of each tower; None where it is left open.

    Raises:
        ConfigurationError: It is none.
    """
    by_side = dict.fromkeys(SIDES, revision) if revision is None or isinstance(revision, str) else revision
    is_one = isinstance(by_side, Mapping) and set(by_side) <= set(SIDES)
    if not is_one or not all(each is None or (isinstance(each, str) and each.strip()) for each in by_side.values()):
        raise ConfigurationError(
            f"revision is a commit, tag or branch, or one for each tower, such as {{'text': 'main'}}, not "
            f"{brief(revision)}"
        )
    return {side: by_side.get(side) for side in SIDES}


def graph_of(names: Collection[str], stem: str, variant: str | None) -> str | None:
    """The file of a graph: of a variant, or where that is left open, fp32, or the only one that is there.

    Args:
        names: Of the files there are.
        stem: How the name begins, such as `onnx/vision_model`.
        variant: Which one.
    """
    if variant is not None:
        return next((name for end in ENDINGS[variant] if (name := f"{stem}{end}.onnx") in names), None)
    there = graphs_of(names, stem)
    plain = f"{stem}.onnx"
    return plain if plain in there else there[0] if len(there) == 1 else None


def graphs_of(names: Collection[str], stem: str) -> list[str]:
    """The files of a graph in all variants."""
    endings = "|".join(sorted({end for ends in ENDINGS.values() for end in ends}))
    return sorted(name for name in names if re.fullmatch(rf"{re.escape(stem)}(?:{endings})\.onnx", name))


def variants_of(names: Collection[str], stem: str) -> list[str]:
    """The variants that are there."""
    return [variant for variant, ends in ENDINGS.items() if any(f"{stem}{end}.onnx" in names for end in ends)]
