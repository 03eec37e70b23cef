"""inner_sums: operators that form a sum of squares inside themselves which float16 does not hold; their results may be small.

Our runtime forms such sums in float32, as most engines do, so that nothing overflows there; one that adds up in float16 makes
infinity of them, and zero of what is divided by it. They are computed here from what the operators read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from coreproof.feeding.drawn import Sample
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.graph import Node
from coreproof.model.numbers import FLOAT16_MAX
from coreproof.pairing.taps import as_array
from coreproof.runtime.open import session

_ABOUT_MEAN = frozenset({"layer_norm", "instance_norm"})
_SQUARES = _ABOUT_MEAN | {"reduce_l2_norm", "reduce_sum_square", "l2_norm"}


def inner_sums(program: CoreMLModel, feeds: Sequence[Sample]) -> dict[str, float]:
    """operation -> its largest inner sum of squares, for those that float16 does not hold; ``feeds`` are the program's."""
    nodes = [node for node in program.graph.nodes if node.operator in _SQUARES and node.inputs]
    found: dict[str, float] = {}
    if not nodes:
        return found
    with session(program, precision="fp32") as running:
        read = {node.inputs[0] for node in nodes}
        taps = [name for name in read if name in running.tappable]
        for sample in feeds:
            values: Mapping[str, object] = {**sample, **running.run(sample, taps)}
            for node in nodes:
                if node.inputs[0] in values:
                    largest = _largest(node, as_array(values[node.inputs[0]]))
                    if FLOAT16_MAX < largest < np.inf:
                        found[node.outputs[0]] = max(largest, found.get(node.outputs[0], 0.0))
    return found


def _largest(node: Node, array: np.ndarray) -> float:
    """The largest sum of squares that the operator forms of what it reads."""
    if array.dtype.kind != "f" or array.ndim == 0 or not array.size:
        return 0.0
    axes = _axes(node, array.ndim)
    wide = array.astype(np.float64)
    if node.operator in _ABOUT_MEAN:
        wide = wide - wide.mean(axis=axes, keepdims=True)
    return float(np.square(wide).sum(axis=axes).max())


def _axes(node: Node, rank: int) -> tuple[int, ...]:
    """Over which axes: as the operator says; else as its definition does."""
    said = node.attributes.get("axes")
    if said is not None:
        axes = tuple(int(axis) % rank for axis in np.asarray(said).reshape(-1))
        return axes or tuple(range(rank))
    if node.operator == "instance_norm":
        return tuple(range(2, rank))
    return tuple(range(max(rank - 3, 0), rank)) if node.operator == "l2_norm" else tuple(range(rank))
