"""Constants that are computed while a graph grows, and whether what they make stays small enough for that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir

from coreproof.conversion.operators import meaning
from coreproof.conversion.reference import computed, result_shapes

LARGEST_FOLDED = 4096
_GROW = {"ConstantOfShape", "Expand", "EyeLike", "OneHot", "Pad", "Range", "Resize", "Tile", "Upsample"}
"""Operators whose result may be of any size, however small their inputs are."""


def folded(
    operator: str, operands: Sequence[ir.Value | None], attributes: Mapping[str, object], opset: int
) -> np.ndarray | None:
    """The result of an operator on constants; None where it has to stay a node. Raises what the computation raises."""
    constants = [None if o is None else o.const_value for o in operands]
    # a random number is drawn anew in each run
    if meaning(operator).get("random", False) or not operands or attributes.get("domain"):
        return None
    if any(o is not None and c is None for o, c in zip(operands, constants, strict=True)):
        return None
    if sum(c.size for c in constants if c is not None) > LARGEST_FOLDED:
        return None
    names = ["" if c is None else f"i{k}" for k, c in enumerate(constants)]
    plain = {k: v for k, v in attributes.items() if k != "domain" and v is not None}
    node = onnx.NodeProto(op_type=operator, input=names, output=["y"])
    node.attribute.extend(onnx.helper.make_attribute(key, value) for key, value in sorted(plain.items()))
    feeds = {n: c.numpy() for n, c in zip(names, constants, strict=True) if c is not None}
    # asked before anything is computed: a few numbers may ask for more than memory holds
    shape = result_shapes(node, feeds, {"": opset}).get("y")
    if operator in _GROW if shape is None else math.prod(shape) > LARGEST_FOLDED:
        return None
    (result,) = computed(node, feeds, {"": opset})
    return result if isinstance(result, np.ndarray) and result.size <= LARGEST_FOLDED else None
