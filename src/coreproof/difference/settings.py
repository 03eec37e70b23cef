"""In which attributes two layers differ, and what an edit says to give one layer what another has."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from coreproof.editing.edit import Edit
from coreproof.model.base import Model
from coreproof.model.graph import Node
from coreproof.model.layer_weights import layer_weights

Alike = Callable[[float, float], bool]
"""Whether two numbers that are not equal are so alike that they count as the same."""


@dataclass(frozen=True)
class Setting:
    """An attribute (or what a layer makes) before and after; None where it was not there."""

    name: str
    before: object
    after: object


def changed_settings(before: Node, after: Node, alike: Alike, but: Collection[str] = ()) -> tuple[Setting, ...]:
    """The attributes in which two layers differ, but for some (those that are weights, say)."""
    settings = (
        Setting(key, before.attributes.get(key), after.attributes.get(key))
        for key in dict.fromkeys([*after.attributes, *before.attributes])
        if key not in but
    )
    return tuple(s for s in settings if not same_setting(s.before, s.after, alike))


def same_setting(before: object, after: object, alike: Alike) -> bool:
    """Whether two values of an attribute are the same."""
    if isinstance(before, tuple | list) and isinstance(after, tuple | list):
        return len(before) == len(after) and all(same_setting(a, b, alike) for a, b in zip(before, after, strict=True))
    if before == after:
        return True
    # a truth value is a number to Python, and none that may be rounded
    if isinstance(before, bool) or isinstance(after, bool):
        return False
    return isinstance(before, float | int) and isinstance(after, float | int) and alike(before, after)


def both_nan(a: float, b: float) -> bool:
    """Whether both are no numbers, which are not equal and not different."""
    return a != a and b != b


def set_edit(layer: str, key: str, value: object) -> Edit:
    """The edit that gives an attribute or a weight of a layer this value; None takes it away."""
    return Edit("set", {"layer": layer, "attribute": key, "value": in_edit(value)})


def layer_arguments(model: Model, node: Node) -> dict[str, object]:
    """The settings and weights of a layer of ``model``, as the edits insert and replace take them."""
    settings = {key: in_edit(value) for key, value in node.attributes.items() if value is not None}
    weights = layer_weights(model, node.name)
    if model.is_onnx:
        # the new node reads nothing yet: its weights go by the names of the operator's definition
        unwired = replace(node, inputs=())
        weights = {weight_name(unwired, node, key): weight for key, weight in weights.items()}
    return {**settings, **weights}


def weight_name(own: Node, other: Node, key: str) -> str:
    """What the weight that another ONNX node calls ``key`` is called here: initializers are known by their places only."""
    if key not in other.inputs:
        return key
    place = other.inputs.index(key)
    if place < len(own.inputs) and own.inputs[place]:
        return own.inputs[place]
    import onnx

    try:
        formal = onnx.defs.get_schema(own.operator, own.domain).inputs
    except onnx.defs.SchemaError:  # an operator of somebody's own domain
        return key
    return formal[place].name if place < len(formal) else key


def in_edit(value: object) -> object:
    """A value as scripts hold it, which know lists and no tuples."""
    return list(value) if isinstance(value, tuple) else value
