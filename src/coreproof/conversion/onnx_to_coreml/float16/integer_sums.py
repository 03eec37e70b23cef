"""Integers that become floats to be scaled down: as float16 they may be infinite, where the scaled number is a usual one.

ONNX Runtime's ``quantize_dynamic`` writes every product so: ``MatMulInteger``, ``Cast``, ``Mul`` by the product of both scales.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.lowering import Array
from coreproof.conversion.onnx_to_coreml.paths import names_of
from coreproof.conversion.operators import meaning

_SUMS = ("MatMulInteger", "ConvInteger")
_SCALES = ("Mul", "Div")
_TERMS = ("Add", "Sub", "Sum")
_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_LARGE = (ir.DataType.INT32, ir.DataType.INT64, ir.DataType.UINT32, ir.DataType.UINT64, ir.DataType.UINT16)


def integer_sums(graph: ir.Graph, constants: Mapping[str, Array]) -> Iterator[str]:
    """The results of what makes floats of such integers, of what scales them, and of what their scales are made of."""
    for node in graph:
        if node.op_type in _SUMS:
            for cast in _casts(node):
                yield from _to_its_scale(cast)
        elif _is_cast(node) and node.inputs[0] is not None and node.inputs[0].dtype in _LARGE:
            scaled = [n for n, _ in node.outputs[0].uses() if _makes_smaller(n, node.outputs[0], constants)]
            if scaled:
                yield from names_of((node, *scaled))


def _is_cast(node: ir.Node) -> bool:
    # a file may ask for a type that there is not
    return node.op_type == "Cast" and "to" in node.attributes and node.attributes["to"].value in _FLOATS


def _handed_on(node: ir.Node) -> bool:
    return node.op_type in _TERMS or meaning(node.op_type).get("hands_on") in ("whole", "reshaped")


def _casts(node: ir.Node, depth: int = 4) -> Iterator[ir.Node]:
    """The casts to floats of what a node gives, a bias of integers and another shape between."""
    for reader, _ in node.outputs[0].uses():
        if _is_cast(reader):
            yield reader
        elif depth and _handed_on(reader):
            yield from _casts(reader, depth - 1)


def _to_its_scale(node: ir.Node, depth: int = 4) -> Iterator[str]:
    yield from names_of([node])
    for reader, _ in node.outputs[0].uses():
        if reader.op_type in _SCALES:
            # the product of two scales may be smaller than float16's numbers
            makers = [v.producer() for v in reader.inputs if v is not None and v is not node.outputs[0]]
            yield from names_of(
                (reader, *(maker for maker in makers if maker is not None and maker.op_type in _SCALES))
            )
        elif depth and _handed_on(reader):
            yield from _to_its_scale(reader, depth - 1)


def _makes_smaller(node: ir.Node, value: ir.Value, constants: Mapping[str, Array]) -> bool:
    """Whether a node multiplies by stored numbers below 1, or divides by such above."""
    if node.op_type not in _SCALES or (node.op_type == "Div" and node.inputs[0] is not value):
        return False
    others = [constants.get(v.name or "") for v in node.inputs if v is not None and v is not value]
    if not others or any(other is None or not other.size for other in others):
        return False
    most = max(float(np.abs(other).max()) for other in others if other is not None)
    return most > 1 if node.op_type == "Div" else most < 1
