"""What the exporter's promotion of types stumbles over: numbers in a tensor's place (``1.0 - mask``), aliases, stale views."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from unittest.mock import patch

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node


@contextmanager
def numbers_promoted() -> Iterator[None]:
    """Within it, the exporter promotes a whole tensor that stands beside a fraction in a tensor's place.

    Of ``1.0 - mask`` PyTorch's decomposition makes ``aten.sub(1.0, mask)``. Its exporter promotes the integers of the mask to
    float32, which the number is already, and then finds no operator for a number and a tensor: the export fails.
    So the number becomes a tensor of its own before.

    It has rules for operators by their first names: ``torch.divide(x, count)`` and ``torch.multiply`` stayed of two types, which
    ONNX does not take. So an alias is called by the first name of what it is.

    To promote, it runs the program once more on weights that need no gradient. PyTorch's attention then takes a kernel with
    another layout in memory, and a ``reshape`` that was traced as a view is a view of nothing there: it becomes a reshape again.
    """
    passes = importlib.import_module("torch.onnx._internal.exporter._fx_passes")
    promote: Callable[[GraphModule], None] = passes.insert_type_promotion_nodes

    def promoted(program: GraphModule) -> None:
        import torch

        for part in program.modules():
            if isinstance(part, torch.fx.GraphModule):
                for node in list(part.graph.nodes):
                    _call_by_first_name(node)
                    _make_tensors(node)
                part.recompile()
        try:
            promote(program)
        except (ValueError, RuntimeError) as error:
            if "view" not in str(error) or not _make_reshapes(program):
                raise
            promote(program)  # what was promoted before it failed is left as it is

    with patch.object(passes, "insert_type_promotion_nodes", promoted):
        yield


def _make_reshapes(program: GraphModule) -> bool:
    """Lets no view rest on the layout that a trace found; whether there was any."""
    import torch

    parts = [part for part in program.modules() if isinstance(part, torch.fx.GraphModule)]
    views = [n for part in parts for n in part.graph.nodes if n.target is torch.ops.aten.view.default]
    for node in views:
        node.target = torch.ops.aten.reshape.default
    for part in parts:
        part.recompile()
    return bool(views)


_ALIASES = {
    "absolute": "abs",
    "arctan2": "atan2",
    "clip": "clamp",
    "divide": "div",
    "greater": "gt",
    "greater_equal": "ge",
    "less": "lt",
    "less_equal": "le",
    "multiply": "mul",
    "negative": "neg",
    "not_equal": "ne",
    "subtract": "sub",
    "true_divide": "div",
}
"""Operators of two operands, or of bounds, that PyTorch has under a second name (its native_functions.yaml: "alias for")."""


def _call_by_first_name(node: Node) -> None:
    import torch

    if not isinstance(node.target, torch._ops.OpOverload) or node.target.namespace != "aten":
        return
    schema = node.target._schema
    first, form = _ALIASES.get(schema.name.removeprefix("aten::")), schema.overload_name or "default"
    if first is not None and form in (packet := getattr(torch.ops.aten, first)).overloads():
        node.target = getattr(packet, form)


def _make_tensors(node: Node) -> None:
    """Gives ``node`` a tensor for each fraction that it has where its schema asks for a tensor, beside integers alone."""
    import torch

    if not isinstance(node.target, torch._ops.OpOverload):
        return
    places = [
        (at, given)
        for at, (asked, given) in enumerate(zip(node.target._schema.arguments, node.args, strict=False))
        if isinstance(asked.type, torch.TensorType) and isinstance(given, float)
    ]
    others = [a.meta.get("val") for a in node.args if isinstance(a, torch.fx.Node)]
    tensors = [v for v in others if isinstance(v, torch.Tensor)]
    # beside fractions the number takes their type, as the exporter has it
    if not places or not tensors or any(t.is_floating_point() or t.is_complex() for t in tensors):
        return
    with node.graph.inserting_before(node):
        for at, number in places:
            made = node.graph.call_function(
                torch.ops.aten.scalar_tensor.default, (number,), {"dtype": torch.get_default_dtype()}
            )
            made.meta.update({k: v for k, v in node.meta.items() if k != "val"})
            made.meta["val"] = tensors[0].new_empty((), dtype=torch.get_default_dtype())
            node.update_arg(at, made)
