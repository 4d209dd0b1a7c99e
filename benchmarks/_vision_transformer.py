"""A vision transformer of random weights as an ONNX file, and the files around it: speed does not depend on weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

SIDE, PATCH, HEADS = 224, 16, 12


def write_model(
    folder: Path, *, width: int = 768, layers: int = 12, text_layers: int = 12, tokens: int = 32_000
) -> None:
    """Two towers of ViT-B's size, in onnx-community's layout."""
    (folder / "onnx").mkdir(parents=True)
    _Graph(width).image(layers, folder / "onnx" / "vision_model.onnx")
    _Graph(width).text(text_layers, tokens, folder / "onnx" / "text_model.onnx")
    size = {"height": SIDE, "width": SIDE}
    half = [0.5, 0.5, 0.5]
    preprocess = {"size": size, "resample": 2, "image_mean": half, "image_std": half}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocess))
    (folder / "config.json").write_text(json.dumps({"model_type": "siglip"}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<pad>"}))
    _tokenizer(folder / "tokenizer.json")


def _tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: n for n, token in enumerate(["<pad>", *alphabet])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(path))


class _Graph:
    def __init__(self, width: int) -> None:
        self.width = width
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.random = np.random.default_rng(0)
        self.count = 0

    def image(self, layers: int, path: Path) -> None:
        from onnx import TensorProto, helper

        kernel = self._weight(self.width, 3, PATCH, PATCH)
        patches = self._node("Conv", ["pixel_values", kernel], kernel_shape=[PATCH, PATCH], strides=[PATCH, PATCH])
        flat = self._node("Reshape", [patches, self._ints(0, self.width, -1)])
        rows = self._node("Transpose", [flat], perm=[0, 2, 1])
        rows = self._node("Add", [rows, self._weight(1, (SIDE // PATCH) ** 2, self.width)])
        given = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])
        self._finish(rows, layers, given, path)

    def text(self, layers: int, tokens: int, path: Path) -> None:
        from onnx import TensorProto, helper

        rows = self._node("Gather", [self._weight(tokens, self.width), "input_ids"])
        rows = self._node("Add", [rows, self._weight(1, 64, self.width)])
        given = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", 64])
        self._finish(rows, layers, given, path)

    def _finish(self, rows: str, layers: int, given: Any, path: Path) -> None:
        import onnx
        from onnx import TensorProto, helper

        for _ in range(layers):
            rows = self._layer(rows)
        self.nodes.append(helper.make_node("ReduceMean", [rows], ["pooler_output"], axes=[1], keepdims=0))
        output = helper.make_tensor_value_info("pooler_output", TensorProto.FLOAT, ["batch", self.width])
        graph = helper.make_graph(self.nodes, "tower", [given], [output], self.weights)
        onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))

    def _layer(self, rows: str) -> str:
        heads = []
        normal = self._normalized(rows)
        for order in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):  # queries, keys turned, values
            projected = self._linear(normal, self.width, self.width)
            split = self._node("Reshape", [projected, self._ints(0, 0, HEADS, self.width // HEADS)])
            heads.append(self._node("Transpose", [split], perm=order))
        queries, keys, values = heads
        scores = self._node("MatMul", [queries, keys])
        scaled = self._node("Mul", [scores, self._constant(np.float32((self.width // HEADS) ** -0.5))])
        mixed = self._node("MatMul", [self._node("Softmax", [scaled], axis=-1), values])
        together = self._node("Transpose", [mixed], perm=[0, 2, 1, 3])
        joined = self._node("Reshape", [together, self._ints(0, 0, self.width)])
        rows = self._node("Add", [rows, self._linear(joined, self.width, self.width)])
        wide = self._linear(self._normalized(rows), self.width, 4 * self.width)
        half = self._node("Mul", [wide, self._constant(np.float32(0.5))])
        error = self._node("Erf", [self._node("Mul", [wide, self._constant(np.float32(0.5**0.5))])])
        gelu = self._node("Mul", [half, self._node("Add", [error, self._constant(np.float32(1))])])
        return self._node("Add", [rows, self._linear(gelu, 4 * self.width, self.width)])

    def _normalized(self, rows: str) -> str:
        one = self._constant(np.ones(self.width, np.float32))
        zero = self._constant(np.zeros(self.width, np.float32))
        return self._node("LayerNormalization", [rows, one, zero], axis=-1)

    def _linear(self, rows: str, inner: int, outer: int) -> str:
        product = self._node("MatMul", [rows, self._weight(inner, outer)])
        return self._node("Add", [product, self._weight(outer)])

    def _node(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        from onnx import helper

        self.count += 1
        self.nodes.append(helper.make_node(kind, inputs, [f"n{self.count}"], **attributes))
        return f"n{self.count}"

    def _weight(self, *shape: int) -> str:
        return self._constant((0.02 * self.random.standard_normal(shape, np.float32)).astype(np.float32))

    def _ints(self, *numbers: int) -> str:
        return self._constant(np.array(numbers, np.int64))

    def _constant(self, value: Any) -> str:
        from onnx import numpy_helper

        self.count += 1
        self.weights.append(numpy_helper.from_array(np.asarray(value), f"w{self.count}"))
        return f"w{self.count}"
