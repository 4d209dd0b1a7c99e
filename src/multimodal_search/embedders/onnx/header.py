"""Inputs, outputs and operators of an ONNX file, without reading its weights.

An ONNX file is one Protocol Buffers message, `ModelProto`; the numbers of fields below are those of onnx.proto
(github.com/onnx/onnx, IR version 13), which never change. Weights are stepped over.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from multimodal_search._text import shorten
from multimodal_search.errors import ConfigurationError

_GRAPH, _FUNCTIONS = 7, 25  # of ModelProto
_NODE, _INITIALIZER, _INPUT, _OUTPUT = 1, 5, 11, 12  # of GraphProto
_OPERATOR = 4  # of NodeProto
_TENSOR_NAME, _EXTERNAL_DATA = 8, 13  # of TensorProto
_VALUE_NAME, _VALUE_TYPE = 1, 2  # of ValueInfoProto
_TENSOR_TYPE = 1  # of TypeProto
_ELEMENT, _SHAPE = 1, 2  # of TypeProto.Tensor
_DIMENSION, _DIMENSION_VALUE = 1, 1  # of TensorShapeProto
_KEY, _VALUE = 1, 2  # of StringStringEntryProto

_TYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 10: "float16", 11: "float64"}
_DYNAMIC = b"DynamicQuantize"  # ...Linear, and what it is fused to, ...MatMul and others of com.microsoft
_LARGE_NODE_BYTES = 1 << 20  # a constant, not a graph within the graph

_Part: TypeAlias = tuple[int, int]
"""Where a message begins and ends in the file."""


@dataclass(frozen=True, slots=True)
class Value:
    """An input or output of a graph.

    Attributes:
        name: Its name.
        type: Of its elements, as NumPy calls it; empty for another one.
        shape: Its dimensions; None for one that is free.
    """

    name: str
    type: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class GraphHeader:
    """What a graph takes and gives.

    Attributes:
        inputs: Those that are to be given.
        outputs: What it gives.
        data_files: Names of the files beside it that hold its weights.
        scales_by_batch: Whether numbers are quantised while it runs, on a scale that depends on the whole batch.
    """

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    data_files: tuple[str, ...]
    scales_by_batch: bool


def read_header(path: Path) -> GraphHeader:
    """The header of an ONNX file.

    Raises:
        ConfigurationError: It is no ONNX file, or not all of one.
        OSError: It cannot be read.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(data).header()
    except (ValueError, IndexError, UnicodeDecodeError):  # ValueError: an empty file
        beginning = path.read_bytes()[:200].decode("ascii", "replace")
        is_pointer = beginning.startswith("version https://git-lfs")
        what = "a Git LFS pointer, not the file itself" if is_pointer else f"it begins with {shorten(beginning, 20)!r}"
        raise ConfigurationError(
            f"{path} is no ONNX file, or not all of one ({path.stat().st_size:,} bytes; {what}): copy or download it "
            "again"
        ) from None


class _Reader:
    def __init__(self, data: mmap.mmap) -> None:
        self._data = data

    def header(self) -> GraphHeader:
        inputs: list[Value] = []
        outputs: list[Value] = []
        weights: set[str] = set()
        data_files: dict[str, None] = {}
        whole = list(self._fields((0, len(self._data))))
        graphs = [part for number, part in whole if number == _GRAPH]
        scales_by_batch = any(self._data.find(_DYNAMIC, *part) >= 0 for number, part in whole if number == _FUNCTIONS)
        for number, part in self._fields(graphs[0]):
            if number == _NODE:
                scales_by_batch = scales_by_batch or self._scales_by_batch(part)
            elif number == _INITIALIZER:
                for name, location in self._weights(part):
                    weights.add(name)
                    data_files |= dict.fromkeys([location] if location else [])
            elif number == _INPUT:
                inputs.append(self._value(part))
            elif number == _OUTPUT:
                outputs.append(self._value(part))
        if not inputs or not outputs:
            raise ValueError
        # Before IR version 4, weights were listed among the inputs.
        wanted = tuple(value for value in inputs if value.name not in weights)
        return GraphHeader(wanted, tuple(outputs), tuple(data_files), scales_by_batch)

    def _scales_by_batch(self, part: _Part) -> bool:
        start, end = part
        if end - start > _LARGE_NODE_BYTES:
            return any(
                number == _OPERATOR and self._text(field).startswith(_DYNAMIC.decode())
                for number, field in self._fields(part)
            )
        return self._data.find(_DYNAMIC, start, end) >= 0  # in a graph within it, too

    def _weights(self, part: _Part) -> Iterator[tuple[str, str]]:
        name, location = "", ""
        for number, field in self._fields(part):
            if number == _TENSOR_NAME:
                name = self._text(field)
            elif number == _EXTERNAL_DATA:
                entry = {key: self._text(value) for key, value in self._fields(field)}
                if entry.get(_KEY) == "location":
                    location = entry.get(_VALUE, "")
        yield name, location

    def _value(self, part: _Part) -> Value:
        name, kind = "", 0
        shape: tuple[int | None, ...] = ()
        for number, field in self._fields(part):
            if number == _VALUE_NAME:
                name = self._text(field)
            elif number == _VALUE_TYPE:
                for tensor in (inner for key, inner in self._fields(field) if key == _TENSOR_TYPE):
                    for key, inner in self._fields(tensor):
                        if key == _ELEMENT:
                            kind = inner[0]
                        elif key == _SHAPE:
                            shape = tuple(self._dimension(each) for at, each in self._fields(inner) if at == _DIMENSION)
        return Value(name, _TYPES.get(kind, ""), shape)

    def _dimension(self, part: _Part) -> int | None:
        for number, field in self._fields(part):
            if number == _DIMENSION_VALUE and field[0] > 0:
                return field[0]
        return None

    def _fields(self, part: _Part) -> Iterator[tuple[int, _Part]]:
        """The fields of a message; of a number, the number itself stands in the place of its beginning."""
        at, end = part
        while at < end:
            key, at = self._number(at)
            match key & 7:
                case 0:
                    value, at = self._number(at)
                    yield key >> 3, (value, value)
                case 1:
                    at += 8
                case 2:
                    length, at = self._number(at)
                    if at + length > end:
                        raise ValueError
                    yield key >> 3, (at, at + length)
                    at += length
                case 5:
                    at += 4
                case _:
                    raise ValueError

    def _number(self, at: int) -> tuple[int, int]:
        number, shift = 0, 0
        while True:
            byte = self._data[at]
            number |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                return number, at
            if shift > 63:
                raise ValueError

    def _text(self, part: _Part) -> str:
        return self._data[part[0] : part[1]].decode()
