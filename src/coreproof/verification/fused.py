"""Scales that a converter has written as batch normalisations: their epsilon divides what nothing divided before."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from coreproof.conversion.registry import normalise_op_name
from coreproof.model.base import Model
from coreproof.model.layer_weights import weights_by_layer

_UNIT = {"mean": 0.0, "variance": 1.0}


def fused_scales(model: Model) -> Mapping[str, float]:
    """value -> the share by which the epsilon of the batch normalisation that makes it makes it smaller.

    coremltools turns ``x * a + b`` into a batch normalisation with mean 0 and variance 1, and leaves ``a`` as it is: the result
    is divided by sqrt(1 + epsilon), which is 5e-6 too little for the usual 1e-5. That is more than float32's rounding, it is the
    same at every element, and it is no fault that anybody could mend.
    """
    found: dict[str, float] = {}
    read: Callable[[str], dict[str, np.ndarray]] | None = None
    for node in model.graph.nodes if model.is_coreml_graph else ():
        epsilon = node.attributes.get("epsilon")
        if normalise_op_name(node.operator) != "batchnorm" or not isinstance(epsilon, float) or not 0 < epsilon < 1e-3:
            continue
        read = read or weights_by_layer(model)
        weights = read(node.name)
        if all(name in weights and np.all(weights[name] == value) for name, value in _UNIT.items()):
            found.update(dict.fromkeys(node.outputs, 1 - 1 / math.sqrt(1 + epsilon)))
    return found
