"""Which nodes on known operands leave a constant packed: what dequantises it, and what only moves its axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.lowering import Array
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.packed import FEWEST, moved, pack, packed_array, packed_in


def kept_packed(node: ir.Node, operands: Sequence[Operand | None], target: int) -> list[Array] | None:
    """The node's output as a packed constant; None where it is none, or needs none in a program for ``target``."""
    first = operands[0] if operands else None
    if not isinstance(first, np.ndarray) or first.size < FEWEST or target < 16:
        return None
    if node.op_type == "DequantizeLinear":
        return _dequantised(node, first, operands)
    if packed_in(first) is None:
        return None
    if node.op_type == "Identity":
        return [first]
    move = _move(node, first, operands)
    # any other operator computes with the numbers, and packed they are none
    return None if move is None else [moved(first, move)]


def holds_blocks(graph: ir.Graph) -> bool:
    """Whether the graph has weights with scales for blocks of them, which Core ML holds from iOS 18 on."""
    for node in graph.all_nodes():
        if node.op_type == "DequantizeLinear" and node.inputs[0] is not None and node.inputs[0].is_initializer():
            block = node.attributes.get("block_size")
            if block is not None and block.as_int():
                return True
        if node.op_type == "MatMulNBits" and len(node.inputs) < 5:
            return True
        if node.op_type in ("GatherBlockQuantized", "QMoE"):
            return True
    return False


def _dequantised(node: ir.Node, numbers: Array, operands: Sequence[Operand | None]) -> list[Array] | None:
    scale, zero = operands[1], (*operands, None)[2]
    if not isinstance(scale, np.ndarray) or not isinstance(zero, np.ndarray | None):
        return None
    axis, block = (node.attributes.get(name) for name in ("axis", "block_size"))
    packed = pack(
        numbers,
        scale,
        zero,
        # ONNX, DequantizeLinear: the default axis is 1
        axis=1 if axis is None else axis.as_int(),
        block_size=0 if block is None else block.as_int(),
        name=node.outputs[0].name or "",
    )
    return None if packed is None else [packed_array(packed)]


def _move(node: ir.Node, array: Array, operands: Sequence[Operand | None]) -> Callable[[Array], Array] | None:
    """What the node does to any array of that many axes, where it only orders them; None where it does more."""
    if node.op_type == "Transpose":
        order = tuple(node.attributes["perm"].as_ints()) if "perm" in node.attributes else None
        return lambda part: np.transpose(part, order)
    axes = node.attributes["axes"].as_ints() if "axes" in node.attributes else (*operands, None)[1]
    if node.op_type == "Unsqueeze" and axes is not None and not _is_value(axes):
        added = tuple(int(axis) for axis in np.asarray(axes).reshape(-1))
        return lambda part: np.expand_dims(part, added)
    if node.op_type == "Squeeze" and not _is_value(axes):
        at = range(array.ndim) if axes is None else (int(axis) % array.ndim for axis in np.asarray(axes).reshape(-1))
        # without axes Squeeze takes all of length 1, and no others
        gone = tuple(axis for axis in at if array.shape[axis] == 1)
        return lambda part: np.squeeze(part, gone)
    return None


def _is_value(axes: object) -> bool:
    """Whether the axes are computed while the model runs."""
    return axes is not None and not isinstance(axes, np.ndarray | list | tuple)
