"""How a NeuralNetwork layer's blobs and fields reach the handler that lowers it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache

from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Layer
from coreproof.conversion.operators import LAYERS
from coreproof.model.coreml.proto import NeuralNetwork_pb2

lowers = LAYERS.lowers

MANY = 1_000_000
"""As many input blobs as a layer names."""


@cache
def arity(kind: str) -> tuple[int, int]:
    """The least and the most number of input blobs that a layer takes, as its handler's signature says."""
    parameters = inspect.signature(LAYERS[kind]).parameters.values()
    blobs = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD][1:]
    takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    least = sum(p.default is p.empty for p in blobs)
    return (max(least, 1), MANY) if takes_any else (least, len(blobs))


def fields(layer: Layer, params: NeuralNetwork_pb2.WeightParams) -> dict[str, object]:
    """The fields of a layer's parameters that are set; enumerations as their names, lists as tuples.

    Fields at 0 count as not set in this format, and the handlers' defaults are the documented ones for that case.
    """
    found: dict[str, object] = {}
    for descriptor, value in params.ListFields():
        if descriptor.enum_type is not None and not hasattr(value, "append"):
            names = descriptor.enum_type.values_by_number
            if value not in names:
                known = ", ".join(v.name for v in names.values())
                raise layer.refuse(f"its {descriptor.name} is not known", expected=known, found=value)
            found[descriptor.name] = names[value].name
        elif descriptor.message_type is None and hasattr(value, "append"):
            found[descriptor.name] = tuple(value)
        else:
            found[descriptor.name] = value
    return found


def plain(settings: Mapping[str, object]) -> dict[str, object]:
    """The numbers, texts and lists among a layer's fields: what can be told in a line."""
    return {name: value for name, value in settings.items() if isinstance(value, int | float | str | tuple)}
