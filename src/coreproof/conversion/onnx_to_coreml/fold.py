"""Constant folding: a node whose operands are all known is computed here, by ONNX's own reference implementation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.lowering import Array
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.operators import ONNX, meaning
from coreproof.conversion.reference import computed, result_shapes
from coreproof.model.budget import afford

_MOST_ELEMENTS = 1 << 26


def is_foldable(node: ir.Node, operands: Sequence[Operand | None]) -> bool:
    """Whether every operand is known and the result does not depend on chance or on nested graphs."""
    if ONNX.traits(node.op_type).get("sequences", False) and node.op_type != "Identity":
        return False
    nested = any(a.type == ir.AttributeType.GRAPH for a in node.attributes.values())
    if nested or meaning(node.op_type).get("random", False):
        return False
    if node.op_type == "Shape":
        return operands[0] is not None and _fixed_shape(operands[0]) is not None
    return all(o is None or isinstance(o, np.ndarray) for o in operands)


def fold(node: ir.Node, operands: Sequence[Operand | None], opset: int, domains: dict[str, int]) -> list[Array] | None:
    """The node's outputs as arrays; None where the reference implementation cannot compute them."""
    if node.op_type == "Constant" and "value" in node.attributes:
        return [node.attributes["value"].as_tensor().numpy()]
    if node.op_type == "Shape":
        shape = (None if operands[0] is None else _fixed_shape(operands[0])) or ()
        start, end = (node.attributes.get(k) for k in ("start", "end"))
        return [np.array(shape[start.as_int() if start else 0 : end.as_int() if end else None], np.int64)]
    names = ["" if o is None else f"i{k}" for k, o in enumerate(operands)]
    outputs = [f"o{k}" for k, _ in enumerate(node.outputs)]
    attributes = [ir.to_proto(a) for a in node.attributes.values()]
    proto = onnx.NodeProto(op_type=node.op_type, domain=node.domain, input=names, output=outputs, attribute=attributes)
    feeds = {n: o for n, o in zip(names, operands, strict=True) if isinstance(o, np.ndarray)}
    opsets = {**domains, node.domain: opset}
    for name, lengths in result_shapes(proto, feeds, opsets).items():  # the operands are small, the result need not be
        what = f"the constant {node.outputs[outputs.index(name)].name!r}"
        afford(what, lengths, 8, where=f"node {node.name!r} ({node.op_type})")
    try:
        results = computed(proto, feeds, opsets)
    except Exception:  # the reference implementation, on operands that may be anything: the handler says what is wrong
        return None
    arrays = [np.asarray(r) for r in results]
    return arrays if all(a.size <= _MOST_ELEMENTS for a in arrays) else None


def _fixed_shape(operand: Operand) -> tuple[int, ...] | None:
    shape = tuple(operand.shape)
    return tuple(map(int, shape)) if all(isinstance(d, int | np.integer) for d in shape) else None
