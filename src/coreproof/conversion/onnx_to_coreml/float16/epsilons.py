"""Epsilons that float16 does not hold: what they guard, from the squares before it on, is computed in float32.

An epsilon guards a division, a root or a logarithm. Where its rounding to the smallest float16 number tells nobody apart
(``x / (norm(x) + 1e-8)``), it is raised to that number; where it would (``log(x + 1e-8)``, ``1 / (x + 1e-8)``, a norm whose
squares vanish before it does), the operators from the squares to the guarded one are kept in float32. A normalisation's own
epsilon is looked at in ``faint_epsilons``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.float16.limits import LOST, share_lost
from coreproof.conversion.onnx_to_coreml.lowering import Array
from coreproof.conversion.onnx_to_coreml.paths import is_shaped, leading_to, names_of, to_operators
from coreproof.conversion.operators import meaning
from coreproof.model.numbers import FLOAT16_MAX, UNIT_ROUNDOFF

_SQUARED = ("Pow", "Mul", "ReduceSumSquare")
_TO_SQUARES = ("Sqrt", "ReduceSum", "ReduceMean", "ReduceL2", "ReduceL1", "Sub", *_SQUARED)
_CARRIES = ("Add", "Sum", "Max", "Min", "Where", "Mul", "MatMul")
_BOUNDS = ("Add", "Sub", "Max", "Min", "Clip", "Where", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")


def guarded(graph: ir.Graph, constants: Mapping[str, Array]) -> Iterator[str]:
    """The values that are computed in float32 because of an epsilon."""
    for node in graph:
        # the operators by which an epsilon comes in: added, or as a lower bound
        if node.op_type not in ("Add", "Sub", "Sum", "Max", "Clip", "Where"):
            continue
        given = [v for v in node.inputs if v is not None]
        lost = [v for v in given if (v.name or "") in constants and _is_lost(constants[v.name or ""])]
        # before opset 11 the bounds of Clip are attributes
        bound = node.attributes.get("min")
        if not lost and not (bound is not None and _is_lost(np.array([bound.as_float()]))):
            continue
        before = [n for v in given if (v.name or "") not in constants for n in _towards_squares(v, constants)]
        summed = any(_sums_squares(n) for n in before)
        if _to_what_is_guarded(node, constants, summed):
            # what is wide is not raised: cast for another division it would be 0 there
            path = _to_what_is_guarded(node, constants, True)
            # squares of small numbers vanish in float16 before the epsilon reaches them
            squares = before if any(n.op_type in _SQUARED for n in before) else []
            yield from names_of((node, *squares, *path))


def beyond_edges(graph: ir.Graph, constants: Mapping[str, Array]) -> Iterator[str]:
    """Comparisons with what a small number was added to, so that it lies beyond an edge, with all from the sum on.

    The last edge of a spline's bins is moved by 1e-6, so that its end belongs to the last bin. In float16 1 stays 1: the end
    then has a bin of its own, which there is not.
    """
    for node in graph:
        if node.op_type in ("Add", "Sub") and any(_is_slight(constants.get(v.name or "")) for v in node.inputs if v):
            path = leading_to(
                node.outputs[0],
                lambda use: [use.node] if meaning(use.node.op_type).get("compares") else [],
                lambda use: "hands_on" in meaning(use.node.op_type) or use.node.op_type == "Concat",
            )
            if path:
                yield from names_of((node, *path))


def _is_slight(stored: Array | None) -> bool:
    """Whether float16 makes nothing of adding it to 1."""
    return stored is not None and stored.size == 1 and 0 < abs(float(stored.reshape(-1)[0])) < UNIT_ROUNDOFF["float16"]


def at_edges(graph: ir.Graph, constants: Mapping[str, Array]) -> Iterator[str]:
    """Logarithms of what is held off an edge that float16 does not tell from it, with all from there on.

    ``log(x / max(1 - x, 1e-5))`` divides by what makes a quotient beyond float16, ``log(1 - clip(x, 1e-7, 1 - 1e-7))`` subtracts
    from 1 what is 1 there: an inverse sigmoid, a cross entropy.
    """
    for node in graph:
        # both are infinite at the edge: log at 0, atanh at 1
        if node.op_type not in ("Log", "Atanh") or node.inputs[0] is None:
            continue
        if path := _towards_edge(node.inputs[0], constants):
            yield from names_of((node, *path))


def _towards_edge(
    value: ir.Value, constants: Mapping[str, Array], depth: int = 6, *, divides: bool = False
) -> list[ir.Node]:
    """The operators between such a bound and ``value``, that with the bound among them; none where there is none."""
    node = value.producer()
    if node is None or not depth:
        return []
    quotient = node.op_type in ("Div", "Reciprocal")
    if not (quotient or node.op_type in _BOUNDS or is_shaped(node.op_type)):
        return []
    given = node.inputs[:1] if is_shaped(node.op_type) else node.inputs
    found: list[ir.Node] = []
    bounds = [np.array([node.attributes[n].as_float()]) for n in ("min", "max") if n in node.attributes]
    for at, each in enumerate(given):
        if each is None:
            continue
        known = constants.get(each.name or "")
        if known is not None:
            bounds.append(known)
        else:
            # what stands below a fraction bar grows as it shrinks: there a small bound is the edge
            under = divides or node.op_type == "Reciprocal" or (quotient and at == 1)
            found += _towards_edge(each, constants, depth - 1, divides=under)
    edge = node.op_type in _BOUNDS and any(_is_edge(bound, divides=divides) for bound in bounds)
    if edge:
        found += [made for each in given for made in _from_sigmoid(each)]
    return [node, *found] if edge or found else []


def _from_sigmoid(value: ir.Value | None, depth: int = 4) -> list[ir.Node]:
    """What leads from a sigmoid to a value that is held off an edge: in float16 it is 1 from 9 on, and 0.0005 away before."""
    node = None if value is None or not depth else value.producer()
    if node is None or node.op_type in ("Sigmoid", "Softmax"):
        return [] if node is None else [node]
    if not (node.op_type in _BOUNDS or is_shaped(node.op_type)):
        return []
    given = node.inputs[:1] if is_shaped(node.op_type) else node.inputs
    found = [made for each in given for made in _from_sigmoid(each, depth - 1)]
    return [node, *found] if found else []


def _is_edge(bound: Array, *, divides: bool) -> bool:
    """Whether float16 takes it for 1, or has no number for what 1 divided by it is."""
    if bound.size != 1 or bound.dtype == np.float16:
        return False
    size = abs(float(bound.reshape(-1)[0]))
    rounds_to_one = size != 1 and abs(size - 1) < 0.5 and float(np.float16(size)) == 1
    return rounds_to_one or (divides and 0 < size < 1 / FLOAT16_MAX)


def _towards_squares(value: ir.Value, constants: Mapping[str, Array], depth: int = 6) -> list[ir.Node]:
    """The operators between the squares of a norm and ``value``, the squares with them."""
    node = value.producer()
    if node is None or not (node.op_type in _TO_SQUARES or is_shaped(node.op_type)) or not depth:
        return []
    if node.op_type in _SQUARED:
        return [node]
    read = [v for v in node.inputs[:2] if v is not None and (v.name or "") not in constants]
    further = [n for v in read for n in _towards_squares(v, constants, depth - 1)]
    return [node, *further] if further or node.op_type != "Sub" else []


def _sums_squares(node: ir.Node) -> bool:
    """Whether it adds squares up, and does not average them: a norm, whose vector may be as small as it likes."""
    if node.op_type == "ReduceSumSquare":
        return True
    made = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
    return node.op_type == "ReduceSum" and made is not None and made.op_type in ("Pow", "Mul")


def _to_what_is_guarded(
    node: ir.Node, constants: Mapping[str, Array], summed: bool, rooted: bool = False, depth: int = 4
) -> list[ir.Node]:
    """The operators behind ``node`` up to the one that its epsilon guards; none where a raised epsilon serves as well.

    No more than ``depth`` others compute with it in between.
    """
    found: list[ir.Node] = []
    for use in node.outputs[0].uses():
        reader, at = use.node, use.idx
        if (is_shaped(reader.op_type) and at == 0) or reader.op_type in ("Abs", "Neg"):
            further = _to_what_is_guarded(reader, constants, summed, rooted, depth)
            found += [reader, *further] if further else []
        elif reader.op_type == "Log":
            found.append(reader)
        elif _shrinks(reader, at, constants):
            # a scale, ``amax(abs(x)).clamp(min=1e-8) / 127``: of what a bound is raised to nothing is left
            further = _to_what_is_guarded(reader, constants, True, rooted, depth)
            found += [reader, *further] if further else []
        elif depth and (reader.op_type in _CARRIES or _is_whole_power(reader, at, constants)):
            # two raised ones multiplied, ``(norm(x) + eps) * (norm(y) + eps)``, are zero
            shrinks = _multiplies(reader, at, constants)
            further = _to_what_is_guarded(reader, constants, summed or shrinks, rooted, depth - 1)
            found += [reader, *further] if further else []
        elif reader.op_type == "Div" and (logarithms := to_operators(reader.outputs[0], "Log")):
            found += [reader, *logarithms]
        elif reader.op_type == "Sqrt" or _exponent(reader, at, constants) == 0.5:
            further = _to_what_is_guarded(reader, constants, summed, True, depth)
            if further or not _divides_only(reader):
                found += [reader, *further]
        elif _exponent(reader, at, constants) is not None:
            found += [reader, *to_operators(reader.outputs[0], "Mul")]
        elif reader.op_type == "Reciprocal" or (reader.op_type == "Div" and at == 1):
            inverse = reader.op_type == "Reciprocal" or (
                reader.inputs[0] is not None and reader.inputs[0].name in constants
            )
            factors = to_operators(reader.outputs[0], "Mul")
            only_factor = rooted and _multiplies_only(reader.outputs[0])
            if summed or (inverse and not only_factor):
                found += [reader, *(factors if inverse else [])]
    return found


def _shrinks(node: ir.Node, at: int, constants: Mapping[str, Array]) -> bool:
    """Whether it makes a smaller number of what it reads, by a constant."""
    if node.op_type not in ("Mul", "Div") or len(node.inputs) != 2 or (node.op_type == "Div" and at != 0):
        return False
    other = node.inputs[1 - at]
    known = constants.get(other.name or "") if other is not None else None
    if known is None or known.dtype.kind != "f" or not known.size or not np.all(known):
        return False
    smallest, largest = (float(end(np.abs(known))) for end in (np.min, np.max))
    return smallest > 1 if node.op_type == "Div" else largest < 1


def _is_whole_power(node: ir.Node, at: int, constants: Mapping[str, Array]) -> bool:
    return node.op_type == "Pow" and at == 0 and _exponent(node, at, constants) is None


def _multiplies(node: ir.Node, at: int, constants: Mapping[str, Array]) -> bool:
    """Whether it makes a product of what it reads and something that is computed, or a power of it: less than small numbers."""
    if node.op_type in ("Mul", "MatMul"):
        other = node.inputs[1 - at]
        return other is not None and (other.name or "") not in constants
    return node.op_type == "Pow"


def _exponent(node: ir.Node, at: int, constants: Mapping[str, Array]) -> float | None:
    """The constant exponent of a power whose base is read, where a base of zero is a danger; None else."""
    if node.op_type != "Pow" or at != 0 or node.inputs[1] is None:
        return None
    known = constants.get(node.inputs[1].name or "")
    if known is None or known.size != 1:
        return None
    exponent = float(known.reshape(-1)[0])
    # a whole, positive power has no pole and a finite slope at zero
    return exponent if exponent < 0 or exponent != int(exponent) else None


def _multiplies_only(value: ir.Value) -> bool:
    return not value.is_graph_output() and all(use.node.op_type == "Mul" for use in value.uses())


def _divides_only(node: ir.Node) -> bool:
    """Whether a root is read as a denominator only, whatever its form."""
    result = node.outputs[0]
    return not result.is_graph_output() and all(
        use.node.op_type == "Reciprocal"
        or (use.node.op_type == "Div" and use.idx == 1)
        or (is_shaped(use.node.op_type) and _divides_only(use.node))
        for use in result.uses()
    )


def _is_lost(array: Array) -> bool:
    """Whether float16 has no number near some element that is not zero."""
    return share_lost(array) > LOST
