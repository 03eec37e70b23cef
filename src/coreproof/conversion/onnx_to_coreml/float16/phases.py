"""Angles and remainders: of a large number only what lies beyond whole turns is left, and float16 does not hold that.

From 2048 on float16 has no odd numbers, so that the sine of position 4097 is that of another one, and the 1000th step of a
diffusion is off by a quarter of a radian at its second frequency. What is counted while the model runs (positions of a free
length), fed, or added up along an axis, is computed in float32 from there to the sine, or to what a remainder leaves. What a
layer gives is not: its numbers are small, and there are many of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.float16.limits import is_huge
from coreproof.conversion.onnx_to_coreml.float16.whole_parts import FLOATS, numbers_of, passes
from coreproof.conversion.onnx_to_coreml.lowering import Array
from coreproof.conversion.onnx_to_coreml.paths import computed_from, is_fed, leading_to, names_of

_PERIODIC = ("Sin", "Cos")
_WHOLE = ("Floor", "Ceil", "Round")
_FEW = 4
"""A product of matrices with so few summands turns coordinates and positions; one with more is a layer."""
_BEHIND = 4
"""So many operators lie between a whole part and what it is taken from at most."""


def phases(graph: ir.Graph, constants: Mapping[str, Array]) -> Iterator[str]:
    """The results of periodic functions and remainders of what is counted, fed or added up, and of what leads to them."""
    for node in graph:
        source = node.inputs[0] if node.inputs else None
        if source is None or source.dtype not in FLOATS or node.op_type not in (*_PERIODIC, *_WHOLE, "Mod"):
            continue
        path = _from_what_is_exact(source, constants)
        if not path and not is_fed(source):
            continue
        behind: list[ir.Node] = []
        if node.op_type in _WHOLE:
            known = {id(value) for one in path for value in (*one.outputs, *one.inputs)} | {id(source)}
            behind = _to_remainder(node.outputs[0], known)
            if not behind:
                continue
        yield from names_of((node, *path, *behind))


def _from_what_is_exact(value: ir.Value, constants: Mapping[str, Array]) -> list[ir.Node]:
    """The operators between ``value`` and what is fed, counted or added up, where no layer lies between."""

    def follow(node: ir.Node) -> list[ir.Value] | None:
        if not (passes(node) or node.op_type == "Range" or _turns(node)):
            return None
        # whole numbers are exact, whatever they were made of
        return [v for v in _numbers(node, constants) if v.dtype is None or not v.dtype.is_integer() or is_fed(v)]

    return computed_from(value, follow, _begins)


def _begins(node: ir.Node) -> bool:
    """Whether what it gives is counted, or added up along an axis."""
    given = node.inputs[0].dtype if node.inputs and node.inputs[0] is not None else None
    whole = given is not None and given.is_integer()
    return node.op_type in ("Range", "CumSum") or (node.op_type == "Cast" and whole)


def _turns(node: ir.Node) -> bool:
    """Whether it multiplies few numbers at a time: an outer product of positions, coordinates with their directions."""
    shape = node.inputs[0].shape if node.op_type in ("MatMul", "Gemm") and node.inputs[0] is not None else None
    turned = "transA" in node.attributes and node.attributes["transA"].as_int()
    length = shape[0 if turned else -1] if shape else None
    return isinstance(length, int) and length <= _FEW


def _numbers(node: ir.Node, constants: Mapping[str, Array]) -> list[ir.Value]:
    given = [v for v in node.inputs if v is not None] if _turns(node) else numbers_of(node)
    return [v for v in given if (v.name or "") not in constants]


def _to_remainder(value: ir.Value, known: set[int]) -> list[ir.Node]:
    """The operators from a whole part to where it is taken from what it is a part of; none where it is not."""
    return leading_to(
        value,
        lambda use: (
            [use.node] if use.node.op_type == "Sub" and use.idx == 1 and id(use.node.inputs[0]) in known else []
        ),
        lambda use: use.node.op_type in ("Mul", "Identity", "Reshape"),
        _BEHIND,
    )


def large_angles(graph: ir.Graph, constants: Mapping[str, Array]) -> Iterator[str]:
    """Products with a number beyond float16 of which only a periodic function is taken, and that: small numbers again."""
    for node in graph:
        names = [v.name or "" for v in node.inputs if v is not None]
        if node.op_type == "Mul" and any(is_huge(constants[name]) for name in names if name in constants):
            readers = [use.node for use in node.outputs[0].uses()]
            if (
                readers
                and not node.outputs[0].is_graph_output()
                and all(n.op_type in (*_PERIODIC, "Tan") for n in readers)
            ):
                yield from names_of((node, *readers))
