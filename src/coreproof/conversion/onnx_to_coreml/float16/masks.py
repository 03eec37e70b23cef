"""Masks whose minimum float16 does not hold: what adds them up, compares them, or hands them on to an output.

A mask's minimum (-1e9, or float32's own) becomes float16's own, -65504. It does its work in a softmax as long as something
finite is left in each row, so that sums of such numbers must not all end at minus infinity. Where it reaches an output, whoever
reads that asks for the number itself: there the operators that hand it on are kept in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.float16.limits import is_huge
from coreproof.conversion.onnx_to_coreml.lowering import Array
from coreproof.conversion.onnx_to_coreml.paths import is_shaped
from coreproof.conversion.operators import meaning
from coreproof.model.numbers import FLOAT16_MAX
from coreproof.model.onnx.constants import known_tensor

_ARITHMETIC = ("Add", "Sub", "Sum", "Mul", "Div", "Where", "Max", "Min", "Clip")
_BIASED = ("Gemm", "Conv", "ConvTranspose")
_PASSES = ("LogSoftmax", "LeakyRelu", "PRelu", "ReduceLogSumExp")

FED, HELD, ADDED_UP = 1, 2, 3
"""How a value may hold a mask's minimum: because it is fed, because a constant is one, or several of them added up."""


def _is_softmax(operator: str) -> bool:
    return operator in ("Softmax", "LogSoftmax")


@dataclass(frozen=True)
class Masks:
    """What holds a mask's minimum, by the names of ONNX values."""

    softmax: frozenset[str] = frozenset()
    """Results of a softmax that reads a sum of several masks' minima."""
    bounded: frozenset[str] = frozenset()
    """Other sums and products of a mask's minimum, which are held within float16."""
    asked: frozenset[str] = frozenset()
    """Those of them that the model compares with something, or that read an infinity: it is told from a minimum there."""
    shown: frozenset[str] = frozenset()
    """Results that hold a minimum and of which an output is made: in float32, and within float16 only where that reads them."""
    inputs: frozenset[str] = frozenset()
    """Model inputs that are masks, or scores, of a softmax: what is fed is held within float16."""


def masks(graph: ir.Graph, constants: Mapping[str, Array]) -> Masks:
    """Finds them in a prepared graph."""
    fed = frozenset(_fed_masks(graph))
    softmax, bounded, levels = _held(graph, constants, fed)
    compared = frozenset(v.name for node in graph for v in node.outputs if v.name in bounded and _reaches(v, _compares))
    # beside what a minimum masks alone, what an infinity masks counts nothing
    asked = compared | (bounded & _infinite(graph, constants) if bounded else frozenset())
    return Masks(softmax, bounded, asked, frozenset(_minima_that_leave(graph, levels)), fed)


def _compares(operator: str) -> bool:
    return meaning(operator).get("compares", False) or operator == "IsInf"


def _infinite(graph: ir.Graph, constants: Mapping[str, Array]) -> frozenset[str]:
    """The results that may hold a stored infinity, as it is or beside what is added to it."""
    found: dict[str, bool] = {}

    def holds(value: ir.Value | None) -> bool:
        name = "" if value is None else value.name or ""
        if name not in found:
            found[name] = name in constants and _is_infinite(constants[name])
        return found[name]

    for node in graph:
        # weights of a product are not looked at: they are what takes long
        if node.op_type in ("Add", "Sub", "Sum", "Mul", "Where") or "hands_on" in meaning(node.op_type):
            given = node.inputs[1:3] if node.op_type == "Where" else node.inputs
            found.update(dict.fromkeys((v.name or "" for v in node.outputs), any(map(holds, given))))
    return frozenset(name for name, is_held in found.items() if is_held)


def _is_infinite(stored: Array) -> bool:
    """Whether some element is; beside a NaN nobody asks."""
    return bool(stored.size) and bool(np.isinf(stored.min()) or np.isinf(stored.max()))


def _held(
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
            levels[name] = HELD if name in constants and is_huge(constants[name]) else 0
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
            if (onward or (is_shaped(operator) and use.idx == 0)) and id(result) not in seen:
                seen.add(id(result))
                waiting.append(result)
    return False
