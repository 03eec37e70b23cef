"""Floats of which the whole part is taken: float16 has no number beyond 65504, and beyond 2048 not each whole one.

``(seconds * 1000).long()`` is infinite in float16 from 66 seconds on, and a step off before. Operators between what is fed and
the cast are computed in float32; of what a layer gives, those from the factor on that makes it large.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf

import numpy as np
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.lowering import Array
from coreproof.conversion.onnx_to_coreml.magnitudes import BOUNDED
from coreproof.conversion.onnx_to_coreml.paths import MOST, computed_from, is_fed, names_of
from coreproof.conversion.operators import meaning
from coreproof.model.numbers import FLOAT16_MAX

_ELEMENTWISE = frozenset(
    [
        "Add",
        "Sub",
        "Sum",
        "Mul",
        "Div",
        "Mod",
        "Pow",
        "Sqrt",
        "Exp",
        "Log",
        "Reciprocal",
        "Abs",
        "Neg",
        "Sign",
        "Cast",
        "Floor",
        "Ceil",
        "Round",
        "Relu",
        "Clip",
        "Max",
        "Min",
        "Where",
        "CumSum",
        "Sigmoid",
        "Tanh",
        "Sin",
        "Cos",
        "ReduceSum",
        "ReduceMean",
        "ReduceMax",
        "ReduceMin",
        "ReduceProd",
        "ReduceL1",
        "ReduceSumSquare",
    ]
)
"""Arithmetic between what is fed and a cast; a product of matrices, a convolution and the like are layers."""
_CHOOSES = ("Where",)
"""Operators whose first operand is no number."""
FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, None)
"""Dtypes of which whole parts are taken; a file may say none."""


def whole_parts(graph: ir.Graph, constants: Mapping[str, Array]) -> Iterator[str]:
    """The results of casts of floats to integers, and of what is computed in float32 for them."""
    for node in graph:
        source = node.inputs[0] if node.inputs else None
        if node.op_type not in ("Cast", "CastLike") or source is None or source.dtype not in FLOATS:
            continue
        if not _is_made_whole(node):
            continue
        path = _from_what_is_fed(source) or _from_large_factors(source, constants)
        if path or is_fed(source):
            yield from names_of((node, *path))


def _is_made_whole(node: ir.Node) -> bool:
    if node.op_type != "Cast":
        return node.outputs[0].dtype is not None and node.outputs[0].dtype.is_integer()
    to = node.attributes["to"].as_int()
    # a number that names no type is refused where the cast is converted
    return to in set(ir.DataType) and ir.DataType(to).is_integer()


def _from_what_is_fed(value: ir.Value) -> list[ir.Node]:
    """The operators between what is fed and ``value``, where no layer lies between."""
    return computed_from(value, lambda node: numbers_of(node) if passes(node) else None, lambda _: False)


def _from_large_factors(value: ir.Value, constants: Mapping[str, Array]) -> list[ir.Node]:
    """The operators from a stored factor above 1 to ``value``, where what it multiplies is not known to stay within float16."""
    path: list[ir.Node] = []
    large, factor = 0, 1.0
    while len(path) < MOST and (node := value.producer()) is not None and passes(node):
        read = [v for v in numbers_of(node) if (v.name or "") not in constants]
        if len(read) != 1 or node.op_type == "Cast" or _bound(node, constants) < inf:
            break
        path.append(node)
        size = _factor(node, constants)
        factor *= size
        if size > 1:
            large = len(path)
        value = read[0]
    made = value.producer()
    # integers that no input has are positions and lengths
    if made is None or made.op_type == "Cast" or "positions" in meaning(made.op_type):
        return []
    return path[:large] if _bound(made, constants) * factor > FLOAT16_MAX else []


def _bound(node: ir.Node, constants: Mapping[str, Array]) -> float:
    """The largest size of what a bounded function gives; infinite for any other operator."""
    if node.op_type != "Clip":
        return BOUNDED.get(node.op_type, inf)
    bounds = [constants.get(v.name or "") for v in node.inputs[1:] if v is not None]
    if len(bounds) != 2 or any(b is None or not b.size for b in bounds):
        return inf
    return max(float(np.abs(b).max()) for b in bounds if b is not None)


def passes(node: ir.Node) -> bool:
    """Whether it computes element by element, along an axis, or hands numbers on: no layer."""
    handed = "hands_on" in meaning(node.op_type) and not node.op_type.startswith("Scatter")
    return handed or node.op_type in (*_ELEMENTWISE, "Gather", "GatherND")


def numbers_of(node: ir.Node) -> list[ir.Value]:
    """The operands of which a result is made: no axes, no shapes, no condition."""
    if node.op_type in _CHOOSES:
        given = node.inputs[1:]
    elif node.op_type in _ELEMENTWISE or node.op_type == "Concat":
        given = node.inputs if not node.op_type.startswith(("Reduce", "Cum")) else node.inputs[:1]
    else:
        given = node.inputs[:1]
    return [v for v in given if v is not None and v.dtype != ir.DataType.BOOL]


def _factor(node: ir.Node, constants: Mapping[str, Array]) -> float:
    """The largest size of a stored factor; 1 where there is none."""
    if node.op_type not in ("Mul", "Div"):
        return 1.0
    known = [constants[v.name or ""] for v in node.inputs if v is not None and (v.name or "") in constants]
    sizes = [np.abs(array.astype(np.float64)) for array in known if array.size]
    if not sizes:
        return 1.0
    if node.op_type == "Mul":
        return float(sizes[0].max())
    least = float(sizes[0].min())
    return 1 / least if least else inf
