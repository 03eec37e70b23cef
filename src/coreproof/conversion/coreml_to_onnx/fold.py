"""Constants that are computed while a graph grows, and whether what they make stays small enough for that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx.shape_inference
import onnx_ir as ir

from coreproof.conversion.one_node import one_node_model
from coreproof.conversion.operators import meaning

LARGEST_FOLDED = 4096
_GROW = {"ConstantOfShape", "Expand", "EyeLike", "OneHot", "Pad", "Range", "Resize", "Tile", "Upsample"}
"""Operators whose result may be of any size, however small their inputs are."""


def folded(
    operator: str, operands: Sequence[ir.Value | None], attributes: Mapping[str, object], opset: int
) -> np.ndarray | None:
    """The result of an operator on constants; None where it has to stay a node. Raises what the computation raises."""
    constants = [None if o is None else o.const_value for o in operands]
    if meaning(operator).get("random", False) or not operands or attributes.get("domain"):
        return None
    if any(o is not None and c is None for o, c in zip(operands, constants, strict=True)):
        return None
    if sum(c.size for c in constants if c is not None) > LARGEST_FOLDED:
        return None
    from onnx.reference import ReferenceEvaluator

    names = ["" if c is None else f"i{k}" for k, c in enumerate(constants)]
    plain = {k: v for k, v in attributes.items() if k != "domain" and v is not None}
    node = onnx.NodeProto(op_type=operator, input=names, output=["y"])
    node.attribute.extend(onnx.helper.make_attribute(key, value) for key, value in sorted(plain.items()))
    feeds = {n: c.numpy() for n, c in zip(names, constants, strict=True) if c is not None}
    if not _stays_small(node, feeds, opset):
        return None
    with np.errstate(all="ignore"):
        result: object = next(iter(ReferenceEvaluator(one_node_model(node, feeds, {"": opset})).run(None, feeds)))
    return result if isinstance(result, np.ndarray) and result.size <= LARGEST_FOLDED else None


def _stays_small(node: onnx.NodeProto, feeds: Mapping[str, np.ndarray], opset: int) -> bool:
    """Whether an operator on these constants makes a small constant, judged before it is computed."""
    types = {
        name: onnx.helper.make_tensor_type_proto(onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    }
    try:
        inferred = onnx.shape_inference.infer_node_outputs(
            onnx.defs.get_schema(node.op_type, opset, ""),
            node,
            types,
            {name: onnx.numpy_helper.from_array(array, name) for name, array in feeds.items()},
            opset_imports=[onnx.helper.make_opsetid("", opset)],
            ir_version=10,
        )
        lengths = [d.dim_value for d in inferred["y"].tensor_type.shape.dim if d.HasField("dim_value")]
        known = len(lengths) == len(inferred["y"].tensor_type.shape.dim) and bool(
            lengths or node.op_type not in _GROW or inferred["y"].tensor_type.HasField("shape")
        )
    except (onnx.shape_inference.InferenceError, RuntimeError, KeyError):
        return node.op_type not in _GROW  # what is wrong with it is said by the one that computes
    return math.prod(lengths) <= LARGEST_FOLDED if known else node.op_type not in _GROW
