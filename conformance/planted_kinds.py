"""The errors that are planted: each changes a node of a copy, and says whether it could."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

Error = Callable[[ir.Node, np.random.Generator], bool]


def _weight(
    node: ir.Node, least: int = 2, place: int | None = None, dtype: ir.DataType = ir.DataType.FLOAT
) -> ir.Value | None:
    values = [node.inputs[place]] if place is not None and place < len(node.inputs) else list(node.inputs)
    for value in values:
        tensor = None if value is None else value.const_value
        if value is not None and tensor is not None and len(tensor.shape) >= least and tensor.dtype == dtype:
            return value
    return None


def _give(node: ir.Node, value: ir.Value, array: np.ndarray) -> None:
    """Gives this node alone another weight."""
    name = f"{value.name}_planted"
    fresh = ir.Value(name=name, const_value=ir.Tensor(array, name=name), type=value.type, shape=value.shape)
    node.graph.register_initializer(fresh)  # type: ignore[union-attr]
    node.replace_input_with(list(node.inputs).index(value), fresh)


def _changed(
    change: Callable[[np.ndarray, np.random.Generator], np.ndarray],
    least: int,
    place: int | None,
    dtype: ir.DataType = ir.DataType.FLOAT,
) -> Error:
    def error(node: ir.Node, rng: np.random.Generator) -> bool:
        value = _weight(node, least, place, dtype)
        if value is None or value.const_value is None:
            return False
        array = value.const_value.numpy()
        fresh = change(array, rng)
        if fresh.shape != array.shape or np.array_equal(fresh, array):
            return False
        _give(node, value, np.ascontiguousarray(fresh).reshape(array.shape))  # contiguous, and a scalar still
        return True

    return error


def _noise(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return array + (0.1 * array.std() * rng.standard_normal(array.shape)).astype(np.float32)


def _swap(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    order = np.arange(array.shape[0])
    pair = rng.choice(len(order), 2, replace=False) if len(order) > 1 else [0, 0]
    order[pair] = order[pair[::-1]]
    return array[order]


def _transpose(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return array.swapaxes(0, 1)


def _negate_one(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    fresh = array.copy()
    fresh[rng.integers(len(fresh))] *= -1
    return fresh


def _nothing(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.zeros_like(array)


def _attribute(name: str, change: Callable[[Any, np.random.Generator], Any], default: Any = None) -> Error:
    def error(node: ir.Node, rng: np.random.Generator) -> bool:
        old = node.attributes[name].value if name in node.attributes else default
        new = None if old is None else change(old, rng)
        if new is None or new == old:
            return False
        node.attributes.add(ir.convenience.convert_attribute(name, new))
        return True

    return error


def _operator(to: str, **attributes: Any) -> Error:
    def error(node: ir.Node, rng: np.random.Generator) -> bool:
        node.op_type = to
        for name in list(node.attributes):
            del node.attributes[name]
        for name, value in attributes.items():
            node.attributes.add(ir.convenience.convert_attribute(name, value))
        return True

    return error


def _shift_pads(pads: Any, rng: np.random.Generator) -> list[int]:
    half = len(pads) // 2
    return [0] * half + [a + b for a, b in zip(pads[:half], pads[half:], strict=True)]


def _same_lengths(node: ir.Node, rng: np.random.Generator) -> bool:
    """Another order of axes that gives the same shape."""
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if shape is None or "perm" not in node.attributes:
        return False
    order = list(node.attributes["perm"].as_ints())
    twins = [(i, j) for i in range(len(order)) for j in range(i) if shape[order[i]] == shape[order[j]] != 1]
    if not twins:
        return False
    i, j = twins[rng.integers(len(twins))]
    order[i], order[j] = order[j], order[i]
    node.attributes.add(ir.convenience.convert_attribute("perm", order))
    return True


def _other_order(node: ir.Node, rng: np.random.Generator) -> bool:
    """Inputs the other way round, where their shapes are alike."""
    a, b = node.inputs[:2]
    if a is None or b is None or a.shape is None or a.shape != b.shape or a is b:
        return False
    node.replace_input_with(0, b)
    node.replace_input_with(1, a)
    return True


def _other_place(node: ir.Node, rng: np.random.Generator) -> bool:
    """A Gather or Slice at a neighbouring index."""
    value = node.inputs[1]
    if value is None or value.const_value is None or value.const_value.size != 1:
        return False
    array = value.const_value.numpy()
    _give(node, value, (array + 1 if array.item() == 0 else array - 1).astype(array.dtype))
    return True


_WEIGHTS: dict[str, Error] = {
    "noisy weights": _changed(_noise, 2, None),
    "two channels swapped": _changed(_swap, 2, None),
    "weights transposed": _changed(_transpose, 2, None),
    "a channel negated": _changed(_negate_one, 2, None),
}
_BIAS: dict[str, Error] = {"bias dropped": _changed(_nothing, 1, 2)}
ERRORS: dict[str, dict[str, Error]] = {
    "Conv": {**_WEIGHTS, **_BIAS, "pads shifted": _attribute("pads", _shift_pads)},
    "ConvTranspose": {**_WEIGHTS, **_BIAS},
    "Gemm": {**_WEIGHTS, **_BIAS},
    "MatMul": _WEIGHTS,
    "BatchNormalization": {
        "epsilon": _attribute("epsilon", lambda old, rng: 0.1, 1e-5),
        "scale swapped": _changed(_swap, 1, 1),
        "bias dropped": _changed(_nothing, 1, 2),
        "mean dropped": _changed(_nothing, 1, 3),
    },
    "LayerNormalization": {
        "epsilon": _attribute("epsilon", lambda old, rng: 0.3, 1e-5),
        "scale changed": _changed(lambda array, rng: array * np.float32(0.9), 1, 1),
    },
    "Relu": {"left out": _operator("Identity"), "leaky": _operator("LeakyRelu", alpha=0.1)},
    "Gelu": {"made a ReLU": _operator("Relu"), "made a sigmoid": _operator("Sigmoid")},
    "MaxPool": {"pads shifted": _attribute("pads", _shift_pads), "made an average": _operator("AveragePool")},
    "Softmax": {"wrong axis": _attribute("axis", lambda old, rng: 1 if old in (-1, 3) else -1, -1)},
    "Add": {"made a difference": _operator("Sub"), "made a maximum": _operator("Max")},
    "Mul": {"made a sum": _operator("Add")},
    "Sub": {"made a sum": _operator("Add"), "other order": _other_order},
    "Sigmoid": {
        "made a hyperbolic tangent": _operator("Tanh"),
        "made a hard sigmoid": _operator("HardSigmoid", alpha=0.15),
    },
    "Tanh": {"left out": _operator("Identity"), "made a sigmoid": _operator("Sigmoid")},
    "Concat": {"other order": _other_order},
    "Transpose": {"wrong axes": _same_lengths},
    "Gather": {"neighbouring index": _other_place},
    "QuantizeLinear": {"another scale": _changed(lambda array, rng: array * np.float32(1.3), 0, 1)},
    "DequantizeLinear": {
        "another scale": _changed(lambda array, rng: array * np.float32(1.3), 0, 1),
        "two channels swapped": _changed(_swap, 2, 0, ir.DataType.INT8),
        "a channel negated": _changed(_negate_one, 2, 0, ir.DataType.INT8),
    },
    "ReduceMean": {"made a maximum": _operator("ReduceMax", keepdims=0)},
}
