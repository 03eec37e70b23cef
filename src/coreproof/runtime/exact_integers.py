"""exact_integers: products of 8-bit integers that ONNX Runtime adds up exactly on every processor.

On x86-64 without VNNI its kernel for unsigned activations and signed weights adds pairs of products in 16 bits and stops at their
end (ONNX Runtime's documentation, "Quantize ONNX models: when and why to use U8U8"): sums of large weights come out wrong, and
otherwise than on another machine. Weights that are moved by 128, with their zero point, mean the same and are added exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper

if TYPE_CHECKING:
    import onnxruntime as ort

_WEIGHTS = {
    ("", "QLinearConv"): (2, 3, 5),
    ("", "QLinearMatMul"): (2, 3, 5),
    ("", "MatMulInteger"): (2, 1, 3),
    ("", "ConvInteger"): (2, 1, 3),
    ("com.microsoft", "QGemm"): (2, 3, 5),
    ("com.microsoft", "MatMulIntegerToFloat"): (4, 1, 5),
    ("com.microsoft", "DynamicQuantizeMatMul"): (None, 1, 3),
}
"""Of each operator the places of the activations' zero point, of the weights and of their zero point, among its inputs.
Without the first it makes unsigned activations by itself."""


def add_exactly(part: onnx.ModelProto, shared: Mapping[str, ort.OrtValue]) -> dict[str, ort.OrtValue]:
    """Moves the stored int8 weights of ``part`` that meet uint8 activations by 128; returns what is then shared in memory.

    ``shared`` are the stored tensors that are no part of the message.
    """
    stored = {tensor.name: tensor for tensor in part.graph.initializer}
    unsigned = _unsigned(part.graph)
    moved = dict(shared)
    left: set[str] = set()
    for node in part.graph.node:
        if (places := _WEIGHTS.get((node.domain, node.op_type))) is None:
            continue
        above, weights, zero = ("" if at is None or at >= len(node.input) else node.input[at] for at in places)
        if places[0] is not None and (above or node.input[0]) not in unsigned:
            continue
        if weights not in stored or (zero and zero not in stored):
            continue
        if stored[weights].data_type != onnx.TensorProto.INT8:
            continue
        left |= {weights, zero}
        node.input[places[1]] = _moved(part, stored, moved, weights)
        node.input.extend([""] * (places[2] + 1 - len(node.input)))
        node.input[places[2]] = _moved(part, stored, moved, zero) if zero else _middle(part, stored)
    _drop(part, left - _read(part.graph), moved)
    _decode_for_each(part)
    _give_each_its_own(part, moved)
    return moved


def _unsigned(graph: onnx.GraphProto) -> set[str]:
    """The values of ``graph`` that are known to be uint8: stored, fed, or made by what makes no other."""
    found = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.UINT8}
    found |= {
        v.name for v in (*graph.input, *graph.value_info) if v.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    }
    for node in graph.node:
        if node.op_type == "DynamicQuantizeLinear":
            found |= {node.output[0], *node.output[2:]}
        # without a zero point it is uint8 by the operator's definition, unless an attribute says otherwise
        elif (
            node.op_type == "QuantizeLinear" and not node.attribute and (len(node.input) < 3 or node.input[2] in found)
        ):
            found.add(node.output[0])
    return found


def _read(graph: onnx.GraphProto) -> set[str]:
    """The names that nodes read and that the graph answers, nested graphs with it."""
    nested = (a.g for node in graph.node for a in node.attribute if a.type == onnx.AttributeProto.GRAPH)
    own = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    return own.union(*(_read(inner) for inner in nested))


def _drop(part: onnx.ModelProto, names: set[str], shared: dict[str, ort.OrtValue]) -> None:
    """Takes out stored tensors that nobody reads: the engine refuses to be given values for those."""
    for name in names:
        shared.pop(name, None)
    kept = [tensor for tensor in part.graph.initializer if tensor.name not in names]
    if len(kept) < len(part.graph.initializer):
        del part.graph.initializer[:]
        part.graph.initializer.extend(kept)


def _decode_for_each(part: onnx.ModelProto) -> None:
    """Every reader of a stored int8 tensor's DequantizeLinear gets a node of its own, and so does an output of the graph.

    ONNX Runtime's optimiser does the same, with the tensor shared: see ``_give_each_its_own``.
    """
    small = {tensor.name for tensor in part.graph.initializer if tensor.data_type == onnx.TensorProto.INT8}
    given = {output.name for output in part.graph.output}
    first = {
        node.output[0]: node
        for node in part.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in small
    }
    if not first:
        return
    taken, added = set(given), dict[str, list[onnx.NodeProto]]()
    for count, node in enumerate(part.graph.node):
        for at, name in enumerate(node.input):
            if name not in first:
                continue
            if name not in taken:
                taken.add(name)
                continue
            again = onnx.NodeProto()
            again.CopyFrom(first[name])
            again.name = again.output[0] = node.input[at] = f"{name}/read_by_{count}_{at}"
            added.setdefault(name, []).append(again)
    if added:
        nodes = [
            one for node in part.graph.node for one in (node, *added.get(node.output[0] if node.output else "", ()))
        ]
        nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del part.graph.node[:]
        part.graph.node.extend(nodes)


def _give_each_its_own(part: onnx.ModelProto, shared: dict[str, ort.OrtValue]) -> None:
    """Every reader of an int8 tensor gets one of its own name.

    ONNX Runtime itself moves weights that its optimiser joins to such products, and refuses the model where two share a tensor.
    """
    stored = {tensor.name: tensor for tensor in part.graph.initializer}
    taken: set[str] = set()
    for count, node in enumerate(part.graph.node):
        for at, name in enumerate(node.input):
            if name not in stored or stored[name].data_type != onnx.TensorProto.INT8:
                continue
            if name not in taken:
                taken.add(name)
                continue
            tensor = part.graph.initializer.add()
            tensor.CopyFrom(stored[name])
            tensor.name = node.input[at] = f"{name}/read_by_{count}_{at}"
            if name in shared:
                shared[tensor.name] = shared[name]


def _moved(
    part: onnx.ModelProto, stored: dict[str, onnx.TensorProto], shared: dict[str, ort.OrtValue], name: str
) -> str:
    """The name of a stored int8 tensor as uint8, 128 above what it was; made when it is first asked for."""
    import onnxruntime as ort

    fresh = f"{name}/above_zero"
    if fresh not in stored:
        old = shared[name].numpy() if name in shared else numpy_helper.to_array(stored[name])
        # the sign's bit turned over is 128 more
        new = np.ascontiguousarray(old).view(np.uint8) ^ np.uint8(128)
        tensor = part.graph.initializer.add()
        if name in shared:
            tensor.CopyFrom(stored[name])
            shared[fresh] = ort.OrtValue.ortvalue_from_numpy(new)
        else:
            tensor.CopyFrom(numpy_helper.from_array(new.reshape(old.shape)))
        tensor.name, tensor.data_type = fresh, onnx.TensorProto.UINT8
        stored[fresh] = tensor
    return fresh


def _middle(part: onnx.ModelProto, stored: dict[str, onnx.TensorProto]) -> str:
    """The zero point of weights that had none: 0, moved as they are."""
    name = "/above_zero"
    if name not in stored:
        stored[name] = part.graph.initializer.add()
        stored[name].CopyFrom(numpy_helper.from_array(np.array(128, np.uint8), name))
    return name
