"""Weights of a NeuralNetwork, written as bytes: protobuf takes a numpy array number by number, at seconds for each ten million.

coremltools hands each weight to the protobuf as ``message.floatValue.extend(weight.flatten())``. While it does, large
weights of convolutions and linear layers are arrays whose ``flatten`` gives a placeholder of two numbers and keeps the
array; afterwards each placeholder is replaced by the array's bytes, which is what a packed repeated float field consists of.
Other large constants, whose length coremltools checks, only walk faster: as a list of Python floats.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from google.protobuf.message import Message

from coreproof.conversion.onnx_to_coreml.mil import Program
from coreproof.model.coreml.proto import Model_pb2, NeuralNetwork_pb2
from coreproof.model.files.wire import varint_bytes

_SMALLEST = 1024
_MARK = float(np.float32(-2.7182817e-33))
"""First number of a placeholder; the second is the array's position. Real weights of two numbers are never replaced."""
_PLAIN = ("conv", "conv_transpose", "linear")
"""Operations whose weight coremltools passes on unseen."""
_FLOAT_VALUE_TAG = b"\x0a"
"""Field 1 of WeightParams, length-delimited (NeuralNetwork.proto)."""


class _Listed(np.ndarray):
    """An array that is walked as Python floats, four times as fast as numpy's scalars."""

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tolist())


class _Kept(np.ndarray):
    """An array that gives a placeholder of itself when it is flattened."""

    kept: list[np.ndarray]

    def __array_finalize__(self, source: object) -> None:
        self.kept = getattr(source, "kept", [])

    def flatten(self, order: Literal["C", "F", "A", "K"] | None = "C") -> np.ndarray:
        plain = np.asarray(self)
        if plain.size < _SMALLEST:
            return plain.flatten(order)
        # some layers store weights column by column: then the order is theirs
        self.kept.append(np.ascontiguousarray(plain, np.float32) if order == "C" else plain.flatten(order))
        return np.array([_MARK, len(self.kept) - 1])


def keep_large(program: Program) -> list[np.ndarray]:
    """Prepares the large float constants of a MIL program; the list returned fills while the program is exported."""
    kept: list[np.ndarray] = []
    for operation in program.functions["main"].operations:
        if operation.op_type != "const":
            continue
        value = operation.outputs[0]._sym_val
        array = getattr(value, "val", None)
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or array.size < _SMALLEST:
            continue
        readers = operation.outputs[0].child_ops
        if readers and all(r.op_type in _PLAIN and r.inputs.get("weight") is operation.outputs[0] for r in readers):
            value.val = array.view(_Kept)
            value.val.kept = kept
        else:
            value.val = array.view(_Listed)
    return kept


def fill_in(spec: Model_pb2.Model, kept: list[np.ndarray]) -> None:
    """Replaces every placeholder in the specification by the bytes of its array."""
    filled = set()
    for weights in _weight_messages(spec.neuralNetwork):
        values = weights.floatValue
        # the position was cut to float32 with the rest, which holds whole numbers up to 2**24
        if len(values) != 2 or values[0] != _MARK:
            continue
        index = int(values[1])
        weights.Clear()
        # packed repeated floats are little-endian, one behind the other (Protocol Buffers, encoding)
        data = kept[index].astype("<f4", copy=False).tobytes()
        weights.MergeFromString(_FLOAT_VALUE_TAG + varint_bytes(len(data)) + data)
        filled.add(index)
    if len(filled) != len(kept):
        raise RuntimeError(f"{len(kept)} large weights were exported, {len(filled)} found in the specification")


def _weight_messages(message: Message) -> Iterator[NeuralNetwork_pb2.WeightParams]:
    """Every WeightParams below ``message``."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for part in value if field.is_repeated else (value,):
            if field.message_type.name == "WeightParams":
                yield part
            else:
                yield from _weight_messages(part)
