"""Custom layers and models: what a file names and does not hold, computed by Python functions of the caller's.

In the ONNX graph such a layer is a node of a domain of its own, whose operator is the name of the class. ONNX Runtime does not
know it; ``coreproof.runtime.custom_layers`` calls the function between two parts of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from coreproof.errors import InputError, RunError
from coreproof.model.public import public

DOMAIN = "coreproof.custom"
WEIGHTS = "coreproof_weights"
"""The attribute that says how many of a node's inputs, at the end, are weights."""


@dataclass(frozen=True)
class CustomLayer:
    """A layer, or a model, whose class the file names: its own name, its parameters by name, its weights as flat arrays.

    Example:
        >>> cp.CustomLayer("gate", "Gate", {"rate": 2.0}).parameters["rate"]
        2.0

    """

    name: str
    class_name: str
    parameters: Mapping[str, int | float | str | bool] = field(default_factory=dict)
    weights: tuple[np.ndarray, ...] = ()


CustomFunction: TypeAlias = Callable[[list[np.ndarray], CustomLayer], "np.ndarray | Sequence[np.ndarray]"]
"""(inputs, layer) -> the output, or the outputs in the layer's order."""

_FUNCTIONS: dict[str, CustomFunction] = {}


@public
def register_custom_layer(name: str, function: CustomFunction) -> None:
    """Says how the custom layers, and custom models, of a class are computed, for this process.

    ``name`` is the class that the file names. ``function`` is given the layer's inputs as arrays, in the shapes and the order in
    which Core ML hands them to it, and a ``CustomLayer`` with its parameters and weights; it returns the output, or a list of
    them. A later registration of a name replaces an earlier one. Raises InputError for a name that is empty or no text, and
    for what cannot be called.

    Example:
        >>> cp.register_custom_layer("MYTwice", lambda inputs, layer: 2 * inputs[0])

    """
    if not isinstance(name, str) or not name:
        raise InputError("a custom layer is registered by the name of its class", found=repr(name))
    if not callable(function):
        raise InputError(f"what computes the custom layer {name!r} cannot be called", found=repr(function))
    _FUNCTIONS[name] = function


def is_registered(name: str) -> bool:
    """Whether a function for this class was registered."""
    return name in _FUNCTIONS


def call(layer: CustomLayer, inputs: list[np.ndarray], outputs: int) -> list[np.ndarray]:
    """What the registered function makes of the inputs. Raises RunError where there is none, or it fails."""
    where = f"custom layer {layer.name!r} ({layer.class_name})"
    if layer.class_name not in _FUNCTIONS:
        raise RunError(
            f"no function is registered for the class {layer.class_name!r}", where=where, fix=how_to_register(layer)
        )
    try:
        result = _FUNCTIONS[layer.class_name](inputs, layer)
        made = [np.asarray(each) for each in ([result] if isinstance(result, np.ndarray) else list(result))]
    except Exception as error:  # a function of the caller's may raise anything
        raise RunError(
            "the function of a custom layer failed", where=where, found=f"{type(error).__name__}: {error}"
        ) from error
    if len(made) != outputs:
        raise RunError(
            "the function of a custom layer returned another number of outputs than the layer has",
            where=where,
            expected=outputs,
            found=len(made),
        )
    return made


def how_to_register(layer: CustomLayer | str) -> str:
    """The line that registers a function for a class."""
    name = layer if isinstance(layer, str) else layer.class_name
    return f"say how it is computed: coreproof.register_custom_layer({name!r}, function)"


def of_node(node: ir.Node) -> CustomLayer:
    """The layer that a node of the domain stands for."""
    count = node.attributes.get_int(WEIGHTS, 0)
    stored = list(node.inputs)[len(node.inputs) - count :] if count else []
    weights = tuple(v.const_value.numpy() for v in stored if v is not None and v.const_value is not None)
    parameters = {name: _parameter(a) for name, a in node.attributes.items() if name != WEIGHTS}
    return CustomLayer(node.name or node.op_type, node.op_type, parameters, weights)


def _parameter(attribute: ir.Attr) -> int | float | str:
    if attribute.type == ir.AttributeType.TENSOR:  # a float64, which no other attribute holds
        return float(attribute.as_tensor().numpy().reshape(-1)[0])
    return attribute.as_string() if attribute.type == ir.AttributeType.STRING else int(attribute.as_int())


def outputs_of_zeros(
    layer: CustomLayer, shapes: Sequence[Sequence[int]], dtypes: Sequence[np.dtype], count: int
) -> list[np.ndarray] | None:
    """What the function makes of zeros, to learn the shapes of its outputs; None where it fails, as it may on zeros."""
    try:
        return call(layer, [np.zeros(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=True)], count)
    except RunError:
        return None
