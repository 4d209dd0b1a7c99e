"""Tiny models of random weights, in the layouts of real ones, and the same arithmetic in NumPy."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

DIMENSION = 24
SIDE = 16
MEAN, STD = (0.5, 0.4, 0.3), (0.5, 0.25, 0.2)

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Weights:
    """Of both towers: an image is a product of its pixels, a text of its tokens and their places."""

    length: int = 64
    side: int = SIDE
    seed: int = 0

    @property
    def image(self) -> Array:
        """Shape (3 * side * side, DIMENSION)."""
        return _random(self.seed, (3 * self.side * self.side, DIMENSION))

    @property
    def tokens(self) -> Array:
        """Shape (tokens, DIMENSION)."""
        return _random(self.seed + 1, (VOCABULARY, DIMENSION))

    @property
    def places(self) -> Array:
        """Shape (length, DIMENSION)."""
        return _random(self.seed + 2, (self.length, DIMENSION))

    def embed_image(self, pixels: Array) -> Array:
        """Of normalised pixels, shape (3, side, side)."""
        return unit(np.tanh(pixels.reshape(-1).astype(np.float64) @ self.image))

    def embed_text(self, ids: list[int], mask: list[int] | None = None) -> Array:
        """Of padded ids; masked ones count nothing."""
        rows = self.tokens[ids] * self.places[: len(ids)]
        weights = np.ones(len(ids)) if mask is None else np.array(mask)
        return unit(np.tanh((rows * weights[:, None]).sum(axis=0)))


def unit(vector: Array) -> Array:
    return vector / np.linalg.norm(vector)


def _random(seed: int, shape: tuple[int, ...]) -> Array:
    return np.random.default_rng(seed).normal(0, 0.2, shape).astype(np.float32)


# -- tokens: one for each byte, so that any text has some --------------------------------------------------------------

EOS, PAD = 1, 0
SPECIAL = ["<pad>", "</s>", "<bos>", "<|endoftext|>", "<eos>", "eng_Latn", "deu_Latn"]
VOCABULARY = len(SPECIAL) + 256


def tokenizer() -> Any:
    """Bytes as tokens, and one at the end."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *alphabet])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(SPECIAL)
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", EOS)])
    return made


def ids_of(text: str, length: int) -> list[int]:
    """What the tokenizer makes of a text, by hand: its bytes, cut, the end, padding."""
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    (found,) = (
        [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)] if text else [[]]
    )
    ids = [len(SPECIAL) + alphabet.index(letter) for word, _ in found for letter in word]
    ids = [*ids[: length - 1], EOS]
    return ids + [PAD] * (length - len(ids))


# -- graphs ------------------------------------------------------------------------------------------------------------


def image_graph(
    path: Path,
    weights: Weights,
    *,
    name: str = "pixel_values",
    output: str = "pooler_output",
    batch: int | str = "batch",
    raw: bool = False,
    kind: str = "float32",
    dynamic: bool = False,
    external: bool = False,
    more_outputs: bool = True,
    known_dimension: bool = True,
    hidden: bool = False,
) -> None:
    """A tower of images: of normalised float32, or of raw uint8 that it normalises itself."""
    from onnx import TensorProto, helper, numpy_helper

    side = weights.side
    nodes, constants = [], [numpy_helper.from_array(weights.image, "weights")]
    now = name
    if raw:
        constants += [
            numpy_helper.from_array(np.array(STD, np.float32) * 255, "std"),
            numpy_helper.from_array(np.array(MEAN, np.float32) / np.array(STD, np.float32), "mean"),
        ]
        nodes += [
            helper.make_node("Cast", [now], ["as_float"], to=TensorProto.FLOAT),
            helper.make_node("Div", ["as_float", "std"], ["divided"]),
            helper.make_node("Sub", ["divided", "mean"], ["normal"]),
            helper.make_node("Transpose", ["normal"], ["channels_first"], perm=[0, 3, 1, 2]),
        ]
        now = "channels_first"
    elif kind == "float16":
        nodes.append(helper.make_node("Cast", [now], ["as_float"], to=TensorProto.FLOAT))
        now = "as_float"
    nodes.append(helper.make_node("Flatten", [now], ["flat"], axis=1))
    now = "flat"
    if dynamic:  # what `quantize_dynamic` puts before a product
        nodes += [
            helper.make_node("DynamicQuantizeLinear", [now], ["small", "scale", "zero"]),
            helper.make_node("DequantizeLinear", ["small", "scale", "zero"], ["again"]),
        ]
        now = "again"
    nodes += [
        helper.make_node("MatMul", [now, "weights"], ["product"]),
        helper.make_node("Tanh", ["product"], [output]),
    ]
    shape = [batch, side, side, 3] if raw else [batch, 3, side, side]
    element = TensorProto.UINT8 if raw else TensorProto.FLOAT16 if kind == "float16" else TensorProto.FLOAT
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, [batch, DIMENSION if known_dimension else "d"])]
    if hidden:
        nodes.append(helper.make_node("Unsqueeze", [output, "one"], ["last_hidden_state"]))
        constants.append(numpy_helper.from_array(np.array([1]), "one"))
        outputs = [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [batch, 1, DIMENSION])]
    elif more_outputs:
        nodes.append(helper.make_node("Unsqueeze", ["flat", "one"], ["last_hidden_state"]))
        constants.append(numpy_helper.from_array(np.array([1]), "one"))
        outputs.insert(0, helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [batch, 1, "n"]))
    _save(path, nodes, [helper.make_tensor_value_info(name, element, shape)], outputs, constants, external=external)


def text_graph(
    path: Path,
    weights: Weights,
    *,
    name: str = "input_ids",
    output: str = "pooler_output",
    batch: int | str = "batch",
    kind: str = "int64",
    length: int | str = "length",
    mask: bool = False,
    dynamic: bool = False,
    hidden: bool = False,
    external: bool = False,
) -> None:
    """A tower of texts. With `hidden`, its output is one vector for each token."""
    from onnx import TensorProto, helper, numpy_helper

    element = {"int32": TensorProto.INT32, "int64": TensorProto.INT64}[kind]
    inputs = [helper.make_tensor_value_info(name, element, [batch, length])]
    constants = [numpy_helper.from_array(weights.tokens, "tokens"), numpy_helper.from_array(weights.places, "places")]
    constants += [numpy_helper.from_array(np.array([number]), str(number)) for number in (0, 1, 2)]
    nodes = [
        helper.make_node("Gather", ["tokens", name], ["rows"]),
        helper.make_node("Shape", [name], ["shape"]),
        helper.make_node("Slice", ["shape", "1", "2"], ["count"]),
        helper.make_node("Slice", ["places", "0", "count"], ["used"]),
        helper.make_node("Mul", ["rows", "used"], ["placed"]),
    ]
    now = "placed"
    if mask:
        inputs.append(helper.make_tensor_value_info("attention_mask", element, [batch, length]))
        nodes += [
            helper.make_node("Cast", ["attention_mask"], ["numbers"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["numbers", "2"], ["column"]),
            helper.make_node("Mul", [now, "column"], ["masked"]),
        ]
        now = "masked"
    if hidden:
        nodes.append(helper.make_node("Identity", [now], ["last_hidden_state"]))
        outputs = [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [batch, length, DIMENSION])]
    else:
        if dynamic:
            nodes += [
                helper.make_node("DynamicQuantizeLinear", [now], ["small", "scale", "zero"]),
                helper.make_node("DequantizeLinear", ["small", "scale", "zero"], ["again"]),
            ]
            now = "again"
        nodes += [
            helper.make_node("ReduceSum", [now, "1"], ["sum"], keepdims=0),
            helper.make_node("Tanh", ["sum"], [output]),
        ]
        outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, [batch, DIMENSION])]
    _save(path, nodes, inputs, outputs, constants, external=external)


def _save(path: Path, nodes: Any, inputs: Any, outputs: Any, constants: Any, *, external: bool) -> None:
    import onnx
    from onnx import helper

    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    options = (
        {"save_as_external_data": True, "location": f"{path.name}_data", "size_threshold": 1024} if external else {}
    )
    onnx.save_model(model, str(path), **options)


# -- layouts -----------------------------------------------------------------------------------------------------------


def siglip2(folder: Path, **graphs: Any) -> Weights:
    """As onnx-community has it: float32, with int8 and fp16 beside it; the tokenizer keeps the case."""
    weights = Weights(**graphs)
    image_graph(folder / "onnx" / "vision_model.onnx", weights, external=True)
    text_graph(folder / "onnx" / "text_model.onnx", weights)
    image_graph(folder / "onnx" / "vision_model_int8.onnx", weights, dynamic=True)
    text_graph(folder / "onnx" / "text_model_quantized.onnx", weights, dynamic=True)
    image_graph(folder / "onnx" / "vision_model_fp16.onnx", weights, kind="float16")
    size = {"height": weights.side, "width": weights.side}
    write(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "SiglipImageProcessor",
            "do_resize": True,
            "size": size,
            "resample": 2,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": MEAN,
            "image_std": STD,
        },
    )
    write(folder / "config.json", {"model_type": "siglip", "text_config": {"model_type": "siglip_text_model"}})
    write(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "GemmaTokenizer", "model_max_length": 10**30, "pad_token": "<pad>"},
    )
    save_tokenizer(folder / "tokenizer.json")
    return weights


def clip(folder: Path) -> Weights:
    """As Xenova has it: shortest side and crop, a mask, 77 tokens, projections beside the pooled output."""
    weights = Weights(length=77, seed=10)
    image_graph(folder / "onnx" / "vision_model.onnx", weights, output="image_embeds")
    text_graph(folder / "onnx" / "text_model.onnx", weights, output="text_embeds", mask=True)
    write(
        folder / "preprocessor_config.json",
        {
            "crop_size": weights.side,
            "do_center_crop": True,
            "do_normalize": True,
            "do_resize": True,
            "feature_extractor_type": "CLIPFeatureExtractor",
            "image_mean": MEAN,
            "image_std": STD,
            "resample": 3,
            "size": weights.side,
        },
    )
    write(folder / "config.json", {"model_type": "clip", "projection_dim": DIMENSION})
    write(folder / "tokenizer_config.json", {"model_max_length": 77, "pad_token": {"content": "<pad>"}})
    save_tokenizer(folder / "tokenizer.json")
    return weights


def immich_old(folder: Path) -> Weights:
    """Normalised float32 and int32, the batch fixed at 1."""
    weights = Weights(length=32, seed=20)
    image_graph(
        folder / "visual" / "model.onnx", weights, name="image", output="image_embedding", batch=1, more_outputs=False
    )
    text_graph(
        folder / "textual" / "model.onnx",
        weights,
        name="text",
        output="text_embedding",
        batch=1,
        kind="int32",
        length=32,
    )
    _immich(folder, weights, clean=None, resize_mode=None)
    return weights


def immich_new(folder: Path) -> Weights:
    """Raw uint8, normalised inside, the batch free, the tokenizer's texts canonicalized."""
    weights = Weights(length=32, seed=30)
    image_graph(folder / "visual" / "model.onnx", weights, name="image", output="image_embedding", raw=True)
    text_graph(folder / "textual" / "model.onnx", weights, name="text", output="text_embedding", kind="int32")
    _immich(folder, weights, clean="canonicalize", resize_mode="squash")
    return weights


def immich_mclip(folder: Path) -> Weights:
    """Multilingual CLIP: ids and a mask, int32."""
    weights = Weights(length=32, seed=40)
    image_graph(folder / "visual" / "model.onnx", weights, name="image", output="image_embedding", raw=True)
    text_graph(folder / "textual" / "model.onnx", weights, output="text_embedding", kind="int32", mask=True)
    _immich(folder, weights, clean=None, resize_mode="squash")
    return weights


def _immich(folder: Path, weights: Weights, *, clean: str | None, resize_mode: str | None) -> None:
    preprocess = {"size": [weights.side] * 2, "mode": "RGB", "mean": MEAN, "std": STD, "interpolation": "bicubic"}
    write(
        folder / "visual" / "preprocess_cfg.json",
        {**preprocess, **({"resize_mode": resize_mode, "fill_color": 0} if resize_mode else {})},
    )
    kwargs = {"tokenizer_kwargs": {"clean": clean}} if clean else {}
    write(folder / "config.json", {"embed_dim": DIMENSION, "text_cfg": {"context_length": weights.length, **kwargs}})
    write(folder / "textual" / "tokenizer_config.json", {"pad_token": "<pad>"})
    save_tokenizer(folder / "textual" / "tokenizer.json")


def described(folder: Path, **more: Any) -> Weights:
    """What a firm exported itself."""
    weights = Weights(length=48, seed=50)
    image_graph(folder / "see.onnx", weights, name="x", output="y", more_outputs=False)
    text_graph(folder / "read.onnx", weights, name="ids", output="z", kind="int32")
    save_tokenizer(folder / "words.json")
    told = {
        "model": "our-clip",
        "matryoshka": True,
        "image": {
            "graph": "see.onnx",
            "size": weights.side,
            "resize": "squash",
            "interpolation": "bilinear",
            "mean": MEAN,
            "std": STD,
        },
        "text": {"graph": "read.onnx", "tokenizer": "words.json", "length": 48, "pad_token": "<pad>", "clean": "lower"},
    }
    write(folder / "multimodal-search.json", {**told, **more})
    return weights


def nomic(image: Path, text: Path) -> tuple[Weights, Weights]:
    """Two folders with one tower each, which give a vector for each token."""
    weights = Weights(length=40, seed=60)
    image_graph(image / "onnx" / "model.onnx", weights, hidden=True)
    size = {"height": weights.side, "width": weights.side}
    write(
        image / "preprocessor_config.json",
        {"size": size, "resample": 3, "image_mean": MEAN, "image_std": STD, "do_center_crop": True, "crop_size": size},
    )
    write(image / "config.json", {"model_type": "nomic_bert"})
    text_graph(text / "onnx" / "model.onnx", weights, mask=True, hidden=True)
    write(text / "config.json", {"model_type": "nomic_bert"})
    write(text / "tokenizer_config.json", {"model_max_length": 40, "pad_token": "<pad>"})
    save_tokenizer(text / "tokenizer.json")
    return weights, weights


LAYOUTS: dict[str, Callable[[Path], Weights]] = {
    "siglip2": siglip2,
    "clip": clip,
    "immich-old": immich_old,
    "immich-new": immich_new,
    "immich-mclip": immich_mclip,
    "described": described,
}


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), "utf-8")


def save_tokenizer(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer().save(str(path))


# -- images by hand ----------------------------------------------------------------------------------------------------


def pixels_of(image: PIL.Image.Image, *, squash: bool, bilinear: bool = False, side: int = SIDE) -> Array:
    """Normalised pixels, shape (3, side, side), as transformers' image processors make them, step by step."""
    filter_ = PIL.Image.Resampling.BILINEAR if bilinear else PIL.Image.Resampling.BICUBIC
    if squash:
        small = image.resize((side, side), filter_)
    else:
        short = min(image.size)
        width, height = (int(side * each / short) for each in image.size)
        whole = image.resize((width, height), filter_)
        left, top = (width - side) // 2, (height - side) // 2
        small = whole.crop((left, top, left + side, top + side))
    numbers = np.asarray(small, np.float64) / 255
    return ((numbers - np.array(MEAN)) / np.array(STD)).transpose(2, 0, 1)
