"""How much more or less a normalisation or a softmax makes of what arrives than the whole value shows.

A normalisation divides each row by its own deviation.
What is normalised together (a channel of a picture, a token, a group) may vary little around a large mean, or less than its
neighbours do. Errors follow sizes, and what is divided by is the deviation there. Those of a sum need not: a residual branch
errs by its own size, beside a token that is as good as zero too.

A softmax leaves behind what is far below the largest of its row: a mask's minimum, whose rounding alone may be larger than all
other scores. An error that is a share of each element counts there as the softmax weighs the element.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from coreproof.conversion.operators import default, error_class
from coreproof.conversion.registry import normalise_op_name
from coreproof.model.graph import Graph, Node
from coreproof.verification.error_stats import BLOCK

_EPSILON = 1e-5
"""What guards the division where the node does not say it."""


class Contrast(NamedTuple):
    """Size over deviation of what is normalised together: the root mean square, and the largest in units of that.

    ``level`` and ``level_uneven`` are the same of one over the deviation: what an error becomes that does not follow sizes.
    """

    typical: float
    uneven: float
    level: float = 0.0
    level_uneven: float = 1.0


def contrast_for(graph: Graph, name: str, array: np.ndarray) -> Contrast | None:
    """The contrast of a value that a normalisation of the graph reads; None where none does, or how it divides is not known."""
    value = graph.values.get(name)
    known = value.shape if value is not None and value.shape is not None else ()
    shape = tuple(n for n in known if isinstance(n, int))
    if len(shape) != len(known) or math.prod(shape) != array.size:
        shape = array.shape
    for node in graph.consumers(name):
        if error_class(node.operator) != "norm" or not node.inputs or node.inputs[0] != name:
            continue
        length = normalised_together(node, shape)
        if length and array.size and array.size % length == 0 and array.dtype.kind == "f":
            epsilon = node.attributes.get("epsilon", node.attributes.get("eps", _EPSILON))
            return _contrast(array.reshape(-1, length), float(epsilon) if isinstance(epsilon, float) else _EPSILON)
    return None


def kept_of(graph: Graph, name: str, array: np.ndarray) -> float:
    """The size of what a softmax of the graph keeps of this value, in units of its scale; 1 where none reads it."""
    for node in graph.consumers(name):
        axis = softmax_axis(node)
        if axis is None or not array.size or array.dtype.kind != "f":
            continue
        if array.ndim and -array.ndim <= axis < array.ndim:
            return _row_rms(np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis]))
    return 1.0


def softmax_axis(node: Node) -> int | None:
    """The axis along which a softmax, or its logarithm, adds up; None for every other operator."""
    if normalise_op_name(node.operator) not in _SOFTMAXES:
        return None
    # PyTorch's programs call an argument by its place
    said = next((node.attributes[key] for key in ("axis", "dim", "argument1") if key in node.attributes), None)
    said = default(node.operator, "axis") if said is None else said
    return said if isinstance(said, int) else -1


_SOFTMAXES = ("softmax", "softmaxnd", "logsoftmax", "safesoftmax")


@np.errstate(all="ignore")
def _row_rms(rows: np.ndarray) -> float:
    """Of each row the root mean square, weighted by the softmax; of all rows that again, in units of the scale of all."""
    weighed, largest = 0.0, float(np.max(np.abs(rows), initial=0.0, where=np.isfinite(rows)))
    if largest == 0.0:
        return 1.0
    squares = count = 0.0
    step = max(1, BLOCK // rows.shape[1])
    for start in range(0, rows.shape[0], step):
        block = rows[start : start + step].astype(np.float64)
        finite = np.isfinite(block)
        # less the largest of each row, so that no exponential overflows
        weights = np.where(finite, np.exp(block - block.max(axis=1, keepdims=True)), 0.0)
        units = np.square(np.where(finite, block, 0.0) / largest)  # so that no square overflows
        total = weights.sum(axis=1)
        weighed += float(
            np.divide((weights * units).sum(axis=1), total, out=np.zeros_like(total), where=total > 0).sum()
        )
        squares, count = squares + float(units.sum()), count + float(finite.sum())
    if not (squares > 0 and math.isfinite(weighed)):
        return 1.0
    return min(1.0, math.sqrt(weighed / rows.shape[0]) / math.sqrt(squares / count))


def normalised_together(node: Node, shape: Sequence[int]) -> int | None:
    """How many neighbouring elements are centred and divided together; None where that is not known, or nothing is."""
    name, said = normalise_op_name(node.operator), node.attributes
    rank = len(shape)
    first: int | None = None
    if name in ("instancenorm", "instancenormalization"):
        # over all that follows [batch, channel]
        first = 2
    elif name == "batchnorm" and said.get("computeMeanVar") and said.get("instanceNormalization"):
        first = rank - 2
    elif name == "mvn":
        # NeuralNetwork layers see [..., C, H, W]
        first = rank - (3 if said.get("acrossChannels") else 2)
    elif name in ("layernorm", "nativelayernorm", "layernormalization"):
        first = _first_axis(node, rank)
    elif name == "groupnormalization":
        groups = said.get("num_groups")
        return math.prod(shape[1:]) // groups if isinstance(groups, int) and groups > 0 else None
    return math.prod(shape[first:]) if first is not None and 0 <= first < rank else None


def _first_axis(node: Node, rank: int) -> int | None:
    """The first axis of a layer normalisation, where it takes all that follow."""
    said = node.attributes
    if isinstance(axis := said.get("axis"), int):
        return axis % rank if rank else None
    if "axes" in said:
        axes = sorted(int(a) % rank for a in np.asarray(said["axes"]).reshape(-1)) if rank else []
        return axes[0] if axes and axes == list(range(axes[0], rank)) else None
    if "normalizedShape" in said:
        return rank - int(np.asarray(said["normalizedShape"]).size)
    # gamma and beta have the shape of what is normalised together
    ranks = [len(shape) for _, shape in node.parameters.values()]
    if ranks:
        return rank - max(ranks)
    return rank - 1 if normalise_op_name(node.operator) == "layernormalization" else None


@np.errstate(all="ignore")
def _contrast(rows: np.ndarray, epsilon: float) -> Contrast | None:
    squares = largest = level = steepest = 0.0
    step = max(1, BLOCK // rows.shape[1])
    for start in range(0, rows.shape[0], step):
        block = rows[start : start + step].astype(np.float64)
        # mean square over variance, which a normalisation divides by: how much larger an error is seen there
        deviations = block.var(axis=1)
        ratio = (deviations + np.square(block.mean(axis=1))) / (deviations + epsilon)
        squares, largest = squares + float(ratio.sum()), max(largest, float(ratio.max()))
        power = 1 / (deviations + epsilon)
        level, steepest = level + float(power.sum()), max(steepest, float(power.max()))
    typical = math.sqrt(squares / rows.shape[0])
    if not math.isfinite(typical) or typical <= 0:
        return None
    even = math.sqrt(level / rows.shape[0])
    known = math.isfinite(even) and even > 0
    levels = (even, max(1.0, math.sqrt(steepest) / even)) if known else (0.0, 1.0)
    return Contrast(typical, max(1.0, math.sqrt(largest) / typical), *levels)
