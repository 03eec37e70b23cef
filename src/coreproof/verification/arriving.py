"""What the errors of an operator's operands become in its result, by rule 3 of tolerance.py."""

from __future__ import annotations

import math
from collections.abc import Sequence

from coreproof.conversion.operators import canonical_op, error_class, operation_of
from coreproof.model.graph import Node
from coreproof.model.numbers import share_of
from coreproof.pairing.operators import exponent_of, scale_factor, summand_count
from coreproof.verification.error_state import ErrorState

FEW_TERMS = 64
"""A sum of fewer terms (depthwise convolutions) does not average over channels."""

FEW_PRODUCTS = 16
"""Of no more products of rows (the similarity of a text and a picture) their size says little of how large their terms were."""

_FACTORS = ("mul", "realdiv", "div", "divide", "reciprocal", "inverse")
"""Operators whose result is off by the shares that their operands are."""


_SATURATING = {"atan": (1.0, 0.5), "tanh": (1.0, 0.45), "erf": (1.13, 0.49), "softsign": (1.0, 0.25)}
"""The steepest slope of a function that levels off, and the largest of x f'(x), for errors that are a share of x."""


def gain_of_sum(node: Node, read: Sequence[ErrorState], result: ErrorState) -> float | None:
    """By how much a sum over axes amplifies white noise: its weights are ones, also where what it sums up cancels."""
    if (
        canonical_op(node.operator) not in ("reducesum", "sum")
        or not read
        or not read[0].elements
        or not result.elements
    ):
        return None
    return math.sqrt(max(1.0, read[0].elements / result.elements))


def step_after(node: Node, read: Sequence[ErrorState]) -> float:
    """The step of which the result stays a multiple: moving and casting keep it, and so does adding what is known."""
    kind = error_class(operation_of(node))
    # adding a known number moves all steps alike
    kept = kind == "move" or canonical_op(node.operator) == "cast" or (kind == "add" and len(read) == 1)
    return max((s.step for s in read), default=0.0) if kept else 0.0


def coarse_after(node: Node, read: Sequence[ErrorState], step: float, counted: float | None) -> float:
    """What a step is in the result, which a known factor, or one of dequantisation (``counted``), makes larger or smaller."""
    if step or len(read) != 1:
        return step
    kept = error_class(operation_of(node)) in ("move", "add") or canonical_op(node.operator) == "cast"
    factor = counted if counted is not None else 1.0 if kept else scale_factor(node)
    return read[0].coarse * (factor or 0.0)


def quantisation_steps(node: Node, read: Sequence[ErrorState], result: ErrorState) -> float | None:
    """How many steps a unit is where an operator quantises by itself, and what a step is where one dequantises; None for others.

    By how far both are spread, which a zero point does not change; their sizes it does.
    """
    if canonical_op(node.operator) not in ("quantize", "dequantize") or len(read) != 1 or not read[0].deviation:
        return None
    return result.deviation / read[0].deviation


def carried_error(node: Node, read: Sequence[ErrorState], result: ErrorState) -> float:
    """What the errors of the operands become in the result."""
    kind, scale = error_class(operation_of(node)), result.scale
    if not read:
        return 0.0
    if kind == "move":
        return max(math.hypot(shared_error(s, result), rest_of_error(s) * _louder(s, result)) for s in read)
    if kind == "add":
        return math.hypot(*(s.error for s in read))
    if kind == "bounded":
        # the steepest slope of a sigmoid
        return max(s.error for s in read) / 4
    if (slopes := _SATURATING.get(canonical_op(operation_of(node)))) is not None and len(read) == 1:
        shared = min(slopes[0] * read[0].shared, slopes[1] * share_of(read[0].shared, read[0].scale))
        return math.hypot(slopes[0] * rest_of_error(read[0]), shared)
    if canonical_op(operation_of(node)) == "log":
        # what is a share of the operand is absolute in its logarithm, near 1 too, where that is all but zero
        return max(scale * read[0].error, read[0].error / read[0].scale if read[0].scale else 0.0)
    exponent = exponent_of(node)
    if exponent is not None:
        return max(abs(exponent), 1.0) * scale * share_of(read[0].error, read[0].scale) if scale else 0.0
    if kind == "exponential":
        # a softmax leaves behind what a mask makes small, and the rounding of that with it
        return scale * math.hypot(*(math.hypot(_beside(s), s.shared * s.kept) for s in read))
    base = [_divided_by(s) if kind == "norm" else s.scale for s in read]
    each = [s.error / b for s, b in zip(read, base, strict=True) if b > 0]
    if kind == "norm" and each and read[0].level and read[0].contrast is not None:
        each[0] = max(each[0], read[0].level * read[0].contrast.level)
    # factors are often made from one value (x * sigmoid(x)), and then their errors have one sign
    shares = sum(each) if kind == "elementwise" else math.hypot(*each)
    if kind == "average":
        # independent errors shrink with the root of the count, errors of the weights keep their share
        count = max(1.0, (read[0].elements or 1) / (result.elements or read[0].elements or 1))
        return math.hypot(scale * shares, read[0].error / math.sqrt(count))
    if kind == "linear" and len(read) == 2 and 0 < (result.elements or 0) <= FEW_PRODUCTS:
        return max(scale * shares, _of_white_noise(read, result.elements or 1))
    if kind == "elementwise" and len(read) == 1:
        if (factor := scale_factor(node)) is not None:
            return factor * read[0].error
        if canonical_op(operation_of(node)) == "square":
            return 2 * scale * shares  # with the slope 2 x, which makes nothing of what is small
        if canonical_op(operation_of(node)) in _FACTORS:
            return scale * shares  # a number divided by it
        # activations pass on what arrives with slopes up to 1, also where they made the value itself smaller
        return max(scale * shares, read[0].error)
    return scale * shares


def _of_white_noise(read: Sequence[ErrorState], products: int) -> float:
    """What independent errors of two tensors become in products of their rows, also where these cancel."""
    first, second = read
    terms = math.sqrt((first.elements or 1) * (second.elements or 1) / products)
    return math.sqrt(terms) * math.hypot(first.error * second.scale, second.error * first.scale)


def exponent_error(exponent: float, base: ErrorState, unit: float) -> float:
    """What storing an exponent with ``unit`` makes the power err by, as a share: |ln x| of what it is off by.

    Halves and quarters and whole numbers are stored as they are.
    """
    if (8 * exponent).is_integer() or not base.scale:
        return 0.0
    # a power's size is made by the largest elements, unless its exponent is negative; then by those near the scale, or below
    return unit * abs(exponent) * max(abs(math.log(base.scale)), abs(math.log(base.peak * base.scale)))


def level_after(kind: str, read: Sequence[ErrorState]) -> float:
    """What a sum of several errs by at each element alike, and what is left of that where it is only moved."""
    if kind == "add" and len(read) > 1:
        return math.hypot(*(rest_of_error(s) for s in read))
    return max((min(s.level, s.error) for s in read), default=0.0) if kind in ("move", "add") else 0.0


def _divided_by(source: ErrorState) -> float:
    """What a normalisation divides by: the deviation, of what it takes together where that is known."""
    if source.contrast is None:
        return source.deviation
    return min(source.deviation, source.scale / source.contrast.typical)


def shared_error(source: ErrorState, chosen: ErrorState) -> float:
    """What is a share of each element, in a choice among them: where a mask's minimum is left behind, its rounding is too."""
    return source.shared * min(1.0, chosen.scale / source.scale) if source.scale else source.shared


def shared_after(node: Node, read: Sequence[ErrorState], result: ErrorState, own: float, rounding: float) -> float:
    """What is a share of each element in a result's error; ``own`` is what the operator adds, ``rounding`` the relative part."""
    kind = error_class(operation_of(node))
    # terms that cancel leave their errors at elements that are small
    adds = kind == "add" and all(s.scale <= result.scale for s in read)
    if kind == "move" or adds:
        return math.hypot(own, *(shared_error(s, result) for s in read))
    if canonical_op(node.operator) in _FACTORS:
        return math.hypot(rounding, result.scale * math.fsum(share_of(s.shared, s.scale) for s in read))
    return 0.0


def rest_of_error(source: ErrorState) -> float:
    """The rest of its error, which may stand at any element."""
    # by its factors: the square may be beyond what a number holds, and a power of that raises
    return math.sqrt(max(source.error - source.shared, 0.0)) * math.sqrt(source.error + source.shared)


def _beside(source: ErrorState) -> float:
    """The same of what is not a fill."""
    return rest_of_error(source) if source.ordinary is None else min(rest_of_error(source), source.ordinary.error)


def _louder(source: ErrorState, chosen: ErrorState) -> float:
    """How much more a choice among values errs than all of them: errors follow sizes, and max pooling takes the largest.

    Never more than if all of the error stood where the choice is made.
    """
    if not source.elements or not chosen.elements or source.scale == 0:
        return 1.0
    # errors follow sizes, so the largest err as they are larger
    return max(1.0, min(chosen.scale / source.scale, math.sqrt(source.elements / chosen.elements)))


def uneven_after(node: Node, read: Sequence[ErrorState], result: ErrorState) -> float:
    """How much larger the typical error is where it is largest: errors of a sum follow the sizes of its terms.

    A sum over many terms averages over the channels at its place; one over few follows single elements.
    """
    if not read:
        return 1.0
    if error_class(operation_of(node)) == "linear":
        summed = summand_count(node, tuple(s.elements for s in read), result.elements)
        return max(read[0].uneven, read[0].loudest if summed > FEW_TERMS else read[0].peak)
    if error_class(operation_of(node)) == "norm" and read[0].contrast is not None:
        contrast = read[0].contrast
        levels = read[0].level * contrast.level >= read[0].error / (_divided_by(read[0]) or math.inf)
        return max(
            *(s.uneven for s in read), contrast.uneven, contrast.level_uneven if read[0].level and levels else 1.0
        )
    return max(s.uneven for s in read)
