"""Stored factors below float16's normal numbers, which keep few digits there: what they scale is computed in float32.

5.7e-6 is 96 of float16's smallest steps, half of one off: every product with it is wrong by half a percent. Scales of quantised
activations are of that size, and so are factors between units (micrometres, shares of a million).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.float16.limits import LOOKED_AT, LOST, share_lost
from coreproof.conversion.onnx_to_coreml.lowering import Array
from coreproof.conversion.onnx_to_coreml.paths import names_of
from coreproof.model.numbers import UNIT_ROUNDOFF

_FACTORS = {"Mul": (0, 1), "Div": (0, 1), "MatMul": (0, 1), "Gemm": (0, 1), "Conv": (1,), "ConvTranspose": (1,)}
"""Where the operators hold factors."""

_STEPPED = ("QuantizeLinear", "DequantizeLinear")
_IN_ONE_FACTOR = ("QLinearConv", "QLinearMatMul")
"""Their scales are made one factor, in float32 (``ops/quantization.py``)."""


def faint_factors(graph: ir.Graph, constants: Mapping[str, Array]) -> Iterator[str]:
    """The results of what multiplies by such a factor, divides by one, or counts in steps of one."""
    for node in graph:
        if any(_is_faint(node, value, constants) for value in _factors(node)):
            yield from names_of([node])


def fine_steps(graph: ir.Graph, constants: Mapping[str, Array]) -> Iterator[str]:
    """The results of quantised operators whose steps are too fine for float16, or too many: scales below it, 16 bits and more.

    What is fed is counted in float32 as well: it comes in float32, and is an integer behind this. In float16 it would lie at
    another step already where the network begins, and each layer makes more of it.
    """
    fed = {v.name for v in graph.inputs}
    narrow = (ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.UINT4, ir.DataType.INT4)
    for node in graph:
        if node.op_type not in _STEPPED and not node.op_type.startswith("QLinear"):
            continue
        given = [v for v in node.inputs if v is not None]
        packed = node.op_type in _IN_ONE_FACTOR or given[0].const_value is not None
        known = [constants[v.name or ""] for v in given if (v.name or "") in constants]
        # stored weights are multiplied out or packed before float16 rounds a scale
        fine = any(share_lost(array) > (LOST if packed else UNIT_ROUNDOFF["float16"]) for array in known)
        # what is counted in steps: the numbers and the zero point, not the scale
        counted = [given[0], *given[2:]] if node.op_type in _STEPPED else []
        many = any(v.dtype is not None and v.dtype.is_integer() and v.dtype not in narrow for v in counted)
        # the first quantisation: all that follows counts on from its steps
        enters = node.op_type == "QuantizeLinear" and given[0].name in fed
        if fine or many or enters:
            yield from names_of([node])


def _factors(node: ir.Node) -> list[ir.Value]:
    places = _FACTORS.get(node.op_type, ())
    return [value for at, value in enumerate(node.inputs) if at in places and value is not None]


def _is_faint(node: ir.Node, value: ir.Value, constants: Mapping[str, Array]) -> bool:
    """Whether float16 takes more of a stored operand as a whole than the rounding of usual numbers does."""
    if (value.name or "") not in constants:
        return False
    array = constants[value.name or ""]
    if array.dtype != np.float32 or not array.size:
        return False
    some = array.reshape(-1)[:LOOKED_AT].astype(np.float64)
    alpha = node.attributes["alpha"].value if node.op_type == "Gemm" and "alpha" in node.attributes else 1.0
    some *= alpha if isinstance(alpha, float) else 1.0
    size = np.sqrt(np.mean(np.square(some)))
    if not 0 < size < np.finfo(np.float16).tiny:
        return False
    off = np.sqrt(np.mean(np.square(some.astype(np.float16).astype(np.float64) - some)))
    return bool(off > UNIT_ROUNDOFF["float16"] * size)
