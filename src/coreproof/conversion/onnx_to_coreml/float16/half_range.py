"""What float16 has no number for: epsilons that would become zero, and mask minima that would add up to infinity.

An epsilon guards a division, a root or a logarithm. Where its rounding to the smallest float16 number tells nobody apart
(``x / (norm(x) + 1e-8)``), it is raised to that number; where it would (``log(x + 1e-8)``, ``1 / (x + 1e-8)``, a norm whose
squares vanish before it does), the operators from the squares to the guarded one are kept in float32. A normalisation's own
epsilon is looked at in ``faint_epsilons``.

A mask's minimum (-1e9, or float32's own) becomes float16's own, -65504. It does its work in a softmax as long as something
finite is left in each row, so that sums of such numbers must not all end at minus infinity. Where it reaches an output, whoever
reads that asks for the number itself: there the operators that hand it on are kept in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.float16.exponentials import counted_steps, logarithms_of_exponentials
from coreproof.conversion.onnx_to_coreml.float16.faint_epsilons import faint_epsilons
from coreproof.conversion.onnx_to_coreml.float16.faint_factors import LOST, faint_factors, fine_steps, share_lost
from coreproof.conversion.onnx_to_coreml.float16.integer_sums import integer_sums
from coreproof.conversion.onnx_to_coreml.float16.phases import phases
from coreproof.conversion.onnx_to_coreml.float16.rooted_powers import roots_of_powers
from coreproof.conversion.onnx_to_coreml.float16.run_time_scales import scales_at_run_time
from coreproof.conversion.onnx_to_coreml.float16.whole_parts import whole_parts
from coreproof.conversion.onnx_to_coreml.known_values import KnownValues
from coreproof.conversion.onnx_to_coreml.lowering import Array
from coreproof.conversion.operators import meaning
from coreproof.model.numbers import FLOAT16_MAX
from coreproof.model.onnx.constants import known_tensor

SMALLEST = float(np.finfo(np.float16).smallest_subnormal)

_ARITHMETIC = frozenset(["Add", "Sub", "Sum", "Mul", "Div", "Where", "Max", "Min", "Clip"])
_BIASED = ("Gemm", "Conv", "ConvTranspose")
_PASSES = ("LogSoftmax", "LeakyRelu", "PRelu", "ReduceLogSumExp")
_SQUARED = frozenset(["Pow", "Mul", "ReduceSumSquare"])
_TO_SQUARES = frozenset(["Sqrt", "ReduceSum", "ReduceMean", "ReduceL2", "ReduceL1", "Sub"]) | _SQUARED

_BOUNDS = frozenset(["Add", "Sub", "Max", "Min", "Clip", "Where", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"])

FED, HELD, ADDED_UP = 1, 2, 3
"""How a value may hold a mask's minimum: because it is fed, because a constant is one, or several of them added up."""


@dataclass(frozen=True)
class HalfRange:
    """What to do about it, by the names of ONNX values."""

    wide: frozenset[str] = frozenset()
    """Results of operators that are computed in float32."""
    softmax: frozenset[str] = frozenset()
    """Results of a softmax that reads a sum of several masks' minima."""
    bounded: frozenset[str] = frozenset()
    """Other sums and products of a mask's minimum, which are held within float16."""
    asked: frozenset[str] = frozenset()
    """Those of them that the model compares with something: infinity is told from a minimum there."""
    shown: frozenset[str] = frozenset()
    """Results that hold a minimum and of which an output is made: in float32, and within float16 only where that reads them."""
    inputs: frozenset[str] = frozenset()
    """Model inputs that are masks, or scores, of a softmax: what is fed is held within float16."""


_PERIODIC = ("Sin", "Cos", "Tan")


def _is_shaped(operator: str) -> bool:
    """Whether it hands all numbers on, in another shape at most (a slice hands on some)."""
    return meaning(operator).get("hands_on") in ("whole", "reshaped") or operator == "Slice"


def _is_softmax(operator: str) -> bool:
    return operator in ("Softmax", "LogSoftmax")


def _compares(operator: str) -> bool:
    return meaning(operator).get("compares", False) or operator == "IsInf"


def half_range(graph: ir.Graph) -> HalfRange:
    """Finds both kinds in a prepared graph."""
    # each finder reads the graph for itself; what one keeps in float32 does not hide it from the others
    constants = _constants(graph)
    found = (
        *(_guarded, faint_epsilons, _at_edges, fine_steps, faint_factors, integer_sums, _large_angles),
        *(roots_of_powers, logarithms_of_exponentials, counted_steps, scales_at_run_time, whole_parts, phases),
    )
    wide = {name for kind in found for name in kind(graph, constants)}
    for inner in _nested(graph):
        known = {**constants, **_constants(inner)}
        wide.update(name for kind in found for name in kind(inner, known))
    fed = frozenset(_fed_masks(graph))
    softmax, bounded, levels = _masks(graph, constants, fed)
    asked = frozenset(v.name for node in graph for v in node.outputs if v.name in bounded and _reaches(v, _compares))
    shown = frozenset(_minima_that_leave(graph, levels))
    return HalfRange(frozenset(wide) | shown, softmax, bounded, asked, shown, fed)


def raised(array: Array) -> Array:
    """``array`` with float16's smallest number where it would round a number to zero."""
    if array.dtype.kind != "f" or array.dtype == np.float16:
        return array
    gone = (array != 0) & (np.abs(array) < SMALLEST)
    # with its sign: a negative epsilon guards from the other side
    return np.where(gone, np.copysign(SMALLEST, array), array).astype(array.dtype) if gone.any() else array


def _nested(graph: ir.Graph) -> Iterator[ir.Graph]:
    """The bodies of its loops and the branches of its ifs, and theirs."""
    for node in graph:
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                yield attribute.as_graph()
                yield from _nested(attribute.as_graph())


# constants


def _constants(graph: ir.Graph) -> Mapping[str, Array]:
    """Float constants by name, as initializers, Constant nodes, or handed on from them in another form."""
    found = KnownValues[Array]()
    for name, value in graph.initializers.items():
        if value.const_value is not None and value.dtype is not None and value.dtype.is_floating_point():
            found.store(name, value.const_value)
    for node in graph:
        name = node.outputs[0].name or ""
        if node.op_type == "Constant":
            for key, attribute in node.attributes.items():
                if key == "value":
                    array = attribute.as_tensor().numpy()
                    if array.dtype.kind == "f":
                        found[name] = array
                elif key in ("value_float", "value_floats"):
                    found[name] = np.atleast_1d(np.asarray(attribute.value, np.float32))
        elif node.op_type == "ConstantOfShape" and "value" in node.attributes:
            array = node.attributes["value"].as_tensor().numpy()
            if array.dtype.kind == "f":
                found[name] = array
        elif _is_shaped(node.op_type) and node.inputs and node.inputs[0] is not None and node.inputs[0].name in found:
            found.share(name, node.inputs[0].name or "")
    return found


def _is_lost(array: Array) -> bool:
    """Whether float16 has no number near some element that is not zero."""
    return share_lost(array) > LOST


def _is_huge(array: Array) -> bool:
    """Whether some finite element is beyond float16."""
    if array.dtype == np.float16 or not array.size:
        return False
    # two quick looks, which a NaN or an infinity fails, and nothing else that is within float16
    if array.min() >= -FLOAT16_MAX and array.max() <= FLOAT16_MAX:
        return False
    size = np.abs(array)
    return bool((np.isfinite(size) & (size > FLOAT16_MAX)).any())


# epsilons


def _guarded(graph: ir.Graph, constants: Mapping[str, Array]) -> Iterator[str]:
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
        path = _to_what_is_guarded(node, constants, summed)
        if path:
            # squares of small numbers vanish in float16 before the epsilon reaches them
            squares = before if any(n.op_type in _SQUARED for n in before) else []
            yield from (o.name or "" for n in (node, *squares, *path) for o in n.outputs)


def _at_edges(graph: ir.Graph, constants: Mapping[str, Array]) -> Iterator[str]:
    """Logarithms of what is held off an edge that float16 does not tell from it, with all from there on.

    ``log(x / max(1 - x, 1e-5))`` divides by what makes a quotient beyond float16, ``log(1 - clip(x, 1e-7, 1 - 1e-7))`` subtracts
    from 1 what is 1 there: an inverse sigmoid, a cross entropy.
    """
    for node in graph:
        # both are infinite at the edge: log at 0, atanh at 1
        if node.op_type not in ("Log", "Atanh") or node.inputs[0] is None:
            continue
        if path := _towards_edge(node.inputs[0], constants):
            yield from (o.name or "" for n in (node, *path) for o in n.outputs)


def _towards_edge(
    value: ir.Value, constants: Mapping[str, Array], depth: int = 6, *, divides: bool = False
) -> list[ir.Node]:
    """The operators between such a bound and ``value``, that with the bound among them; none where there is none."""
    node = value.producer()
    if node is None or not depth:
        return []
    quotient = node.op_type in ("Div", "Reciprocal")
    if not (quotient or node.op_type in _BOUNDS or _is_shaped(node.op_type)):
        return []
    given = node.inputs[:1] if _is_shaped(node.op_type) else node.inputs
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
    if not (node.op_type in _BOUNDS or _is_shaped(node.op_type)):
        return []
    given = node.inputs[:1] if _is_shaped(node.op_type) else node.inputs
    found = [made for each in given for made in _from_sigmoid(each, depth - 1)]
    return [node, *found] if found else []


def _is_edge(bound: Array, *, divides: bool) -> bool:
    """Whether float16 takes it for 1, or has no number for what 1 divided by it is."""
    if bound.size != 1 or bound.dtype == np.float16:
        return False
    size = abs(float(bound.reshape(-1)[0]))
    rounds_to_one = size != 1 and abs(size - 1) < 0.5 and float(np.float16(size)) == 1
    return rounds_to_one or (divides and 0 < size < 1 / FLOAT16_MAX)


# angles


def _large_angles(graph: ir.Graph, constants: Mapping[str, Array]) -> Iterator[str]:
    """Products with a number beyond float16 of which only a periodic function is taken, and that: small numbers again."""
    for node in graph:
        names = [v.name or "" for v in node.inputs if v is not None]
        if node.op_type == "Mul" and any(_is_huge(constants[name]) for name in names if name in constants):
            readers = [use.node for use in node.outputs[0].uses()]
            if readers and not node.outputs[0].is_graph_output() and all(n.op_type in _PERIODIC for n in readers):
                yield from (o.name or "" for n in (node, *readers) for o in n.outputs)


# steps


def _towards_squares(value: ir.Value, constants: Mapping[str, Array], depth: int = 6) -> list[ir.Node]:
    """The operators between the squares of a norm and ``value``, the squares with them."""
    node = value.producer()
    if node is None or not (node.op_type in _TO_SQUARES or _is_shaped(node.op_type)) or not depth:
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
    node: ir.Node, constants: Mapping[str, Array], summed: bool, rooted: bool = False
) -> list[ir.Node]:
    """The operators behind ``node`` up to the one that its epsilon guards; none where a raised epsilon serves as well."""
    found: list[ir.Node] = []
    for use in node.outputs[0].uses():
        reader, at = use.node, use.idx
        if _is_shaped(reader.op_type) and at == 0:
            further = _to_what_is_guarded(reader, constants, summed, rooted)
            found += [reader, *further] if further else []
        elif reader.op_type == "Log":
            found.append(reader)
        elif reader.op_type == "Div" and (logarithms := _logarithms(reader)):
            found += [reader, *logarithms]
        elif reader.op_type == "Sqrt" or _exponent(reader, at, constants) == 0.5:
            further = _to_what_is_guarded(reader, constants, summed, rooted=True)
            if further or not _divides_only(reader):
                found += [reader, *further]
        elif _exponent(reader, at, constants) is not None:
            found += [reader, *_factors(reader)]
        elif reader.op_type == "Reciprocal" or (reader.op_type == "Div" and at == 1):
            inverse = reader.op_type == "Reciprocal" or (
                reader.inputs[0] is not None and reader.inputs[0].name in constants
            )
            factors = _factors(reader)
            only_factor = (
                rooted and len(factors) == len(reader.outputs[0].uses()) and not reader.outputs[0].is_graph_output()
            )
            if summed or (inverse and not only_factor):
                found += [reader, *(factors if inverse else [])]
    return found


def _logarithms(node: ir.Node) -> list[ir.Node]:
    """The logarithms that are taken of what ``node`` makes, in whatever shape."""
    found: list[ir.Node] = []
    for use in node.outputs[0].uses():
        if use.node.op_type == "Log":
            found.append(use.node)
        elif _is_shaped(use.node.op_type) and (further := _logarithms(use.node)):
            found += [use.node, *further]
    return found


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


def _divides_only(node: ir.Node) -> bool:
    """Whether a root is read as a denominator only, whatever its form."""
    result = node.outputs[0]
    return not result.is_graph_output() and all(
        use.node.op_type == "Reciprocal"
        or (use.node.op_type == "Div" and use.idx == 1)
        or (_is_shaped(use.node.op_type) and _divides_only(use.node))
        for use in result.uses()
    )


def _factors(node: ir.Node) -> list[ir.Node]:
    """The products that read a reciprocal: as float16 it may be infinite, and what it multiplies be zero."""
    found = []
    for use in node.outputs[0].uses():
        if use.node.op_type == "Mul":
            found.append(use.node)
        elif _is_shaped(use.node.op_type):
            found += [use.node, *_factors(use.node)]
    return found


# masks


def _masks(
    graph: ir.Graph, constants: Mapping[str, Array], fed: frozenset[str]
) -> tuple[frozenset[str], frozenset[str], Mapping[str, int]]:
    """The softmaxes that read minima added up, the other sums and products that hold a minimum, and how each value holds one."""
    levels: dict[str, int] = dict.fromkeys(fed, FED)
    softmax: set[str] = set()
    bounded: set[str] = set()
    only = _only_softmax(graph)

    def level(value: ir.Value | None) -> int:
        if value is None:
            return 0
        name = value.name or ""
        if name not in levels:
            levels[name] = HELD if name in constants and _is_huge(constants[name]) else 0
        return levels[name]

    for node in graph:
        operator, result = node.op_type, node.outputs[0]
        carries = operator in _ARITHMETIC or "hands_on" in meaning(operator) or _is_softmax(operator)
        # weights of a product are not looked at: they are what takes long
        if operator == "Constant" or not (carries or operator in _BIASED or operator in _PASSES):
            continue
        read = [0 if operator in _BIASED and at != 2 else level(v) for at, v in enumerate(node.inputs)]
        if operator in ("Max", "Min", "Clip"):
            # a bound at the end of float32 bounds nothing, unless it is the wrong end: then nothing else is left
            known = [None if v is None else constants.get(v.name or "") for v in node.inputs]
            read = [
                h for at, (h, c) in enumerate(zip(read, known, strict=True)) if c is None or _binds(operator, at, c)
            ]
        if _is_softmax(operator) and read[0] == ADDED_UP:
            softmax.add(result.name or "")
        if operator in _BIASED or operator in _PASSES:
            # a bias is a mask where it holds a minimum; a logarithm of exponentials hands on what lies far below the rest
            held = max(read[2:3] if operator in _BIASED else read[:1], default=0)
            levels.update((value.name or "", HELD) for value in node.outputs if held == HELD)
            if held == HELD and operator in _BIASED:
                bounded.add(result.name or "")
            continue
        if operator not in _ARITHMETIC and "hands_on" not in meaning(operator):
            continue
        # a Where hands on its two values, not its condition; a Div the size of what is divided
        found = max(read[1:3] if operator == "Where" else read[:1] if operator == "Div" else read, default=0)
        if not found:
            continue
        if operator in ("Add", "Sub", "Sum", "Mul"):
            several = operator != "Mul" and sum(map(bool, read)) > 1 and found > FED
            found = ADDED_UP if (several or found == ADDED_UP) and id(result) in only else max(found % ADDED_UP, FED)
            if found != ADDED_UP:
                bounded.add(result.name or "")
        levels.update((value.name or "", found) for value in node.outputs)
    return frozenset(softmax), frozenset(bounded), levels


def _binds(operator: str, place: int, bound: Array) -> bool:
    """Whether all that float16 holds lies beyond a bound of Max, Min or Clip: a lower one above it, an upper one below it."""
    lower = operator == "Max" or (operator == "Clip" and place == 1)
    return bool(((bound if lower else -bound) > FLOAT16_MAX).any())


def _minima_that_leave(graph: ir.Graph, levels: Mapping[str, int]) -> Iterator[str]:
    """What hands a minimum on to an output that float32 holds; from the end to the front, each node once."""
    # a float16 output of the source holds float16's own minimum already
    wide = (ir.DataType.FLOAT, ir.DataType.DOUBLE)
    shown = {value.name for value in graph.outputs if value.dtype in wide and levels.get(value.name or "")}
    for node in reversed(list(graph)):
        made = [value.name or "" for value in node.outputs if value.name in shown]
        hands_on = node.op_type in (*_ARITHMETIC, *_BIASED, *_PASSES) or "hands_on" in meaning(node.op_type)
        if made and hands_on:
            yield from made
            shown |= {v.name for v in node.inputs if v is not None and levels.get(v.name or "")}


def _only_softmax(graph: ir.Graph) -> frozenset[int]:
    """The identities of values that nothing but softmaxes is made of; from the end to the front, each node once."""
    found: set[int] = set()
    for node in reversed(list(graph)):
        for value in node.outputs:
            if (
                not value.is_graph_output()
                and value.uses()
                and all(_ends_there(use.node, found) for use in value.uses())
            ):
                found.add(id(value))
    return frozenset(found)


def _ends_there(reader: ir.Node, found: set[int]) -> bool:
    if _is_softmax(reader.op_type):
        return True
    hands_on = "hands_on" in meaning(reader.op_type) and not reader.op_type.startswith("Reduce")
    carries = reader.op_type in _ARITHMETIC or hands_on
    return carries and all(id(v) in found for v in reader.outputs)


def _fed_masks(graph: ir.Graph) -> Iterator[str]:
    """Float inputs whose numbers come to a softmax as they are, scaled, or as an addend: what is fed may be a mask's minimum."""
    wide = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.BFLOAT16)
    for value in graph.inputs:
        if value.dtype in wide and _reaches(value, _is_softmax):
            yield value.name or ""


def _is_scaled(node: ir.Node, at: int) -> bool:
    """Whether the operand is multiplied with, or divided by, one stored number."""
    other = node.inputs[1 - at]
    known = known_tensor(other)
    return known is not None and known.size == 1 and (at == 0 or node.op_type == "Mul")


def _reaches(value: ir.Value, ends: Callable[[str], bool]) -> bool:
    """Whether an operator that ``ends`` picks reads the value as it is, scaled by a stored number, or as an addend."""
    waiting, seen = [value], {id(value)}
    while waiting:
        for use in waiting.pop().uses():
            operator = use.node.op_type
            if ends(operator):
                return True
            onward = operator in ("Add", "Sub", "Sum", "Max", "Min", "Neg") or (operator == "Where" and use.idx > 0)
            onward = onward or (operator in ("Mul", "Div") and _is_scaled(use.node, use.idx))
            result = use.node.outputs[0]
            if (onward or (_is_shaped(operator) and use.idx == 0)) and id(result) not in seen:
                seen.add(id(result))
                waiting.append(result)
    return False
