"""The registry: which function lowers which NeuralNetwork layer, and how a layer's fields reach it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeAlias

from coreproof.convert.coreml_to_onnx.neuralnetwork.blobs import Blob, Layer

Handler: TypeAlias = Callable[..., Blob | Sequence[Blob]]
"""``handler(layer, *input blobs, **fields that are set) -> its output blob or blobs``."""

LAYERS: dict[str, Handler] = {}

MANY = 1_000_000
"""As many input blobs as a layer names."""


def lowers(*kinds: str) -> Callable[[Handler], Handler]:
    """Registers a handler for these layer types (the field names of ``NeuralNetworkLayer.layer``)."""

    def register(handler: Handler) -> Handler:
        for kind in kinds:
            if kind in LAYERS:
                raise ValueError(f"{kind} is lowered twice")
            LAYERS[kind] = handler
        return handler

    return register


@cache
def arity(kind: str) -> tuple[int, int]:
    """The least and the most number of input blobs that a layer takes, as its handler's signature says."""
    blobs = [p for p in inspect.signature(LAYERS[kind]).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD][1:]
    takes_any = any(p.kind is p.VAR_POSITIONAL for p in inspect.signature(LAYERS[kind]).parameters.values())
    least = sum(p.default is p.empty for p in blobs)
    return (max(least, 1), MANY) if takes_any else (least, len(blobs))


def fields(layer: Layer, params: Any) -> dict[str, Any]:
    """The fields of a layer's parameters that are set; enumerations as their names, lists as tuples.

    Fields at 0 count as not set in this format, and the handlers' defaults are the documented ones for that case.
    """
    found: dict[str, Any] = {}
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


def plain(settings: dict[str, Any]) -> dict[str, Any]:
    """The numbers, texts and lists among a layer's fields: what can be told in a line."""
    return {name: value for name, value in settings.items() if isinstance(value, int | float | str | tuple)}
