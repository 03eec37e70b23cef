"""inspect: what cannot be right in a model whatever it is for, and the shape of every value, without running it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from coreproof.errors import UnsupportedOperatorsError
from coreproof.model.base import Model
from coreproof.validation.problem import Problem


@dataclass(frozen=True)
class Inspection:
    """What is wrong with a model, in the order of its layers, and the shapes of its values as far as inference came.

    Shapes are those that the format itself sees (five dimensions in the older networks); values whose lengths are
    known only when the model runs have none.
    """

    problems: tuple[Problem, ...]
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def inspect(model: Model) -> Inspection:
    """Looks at names (read, written, declared) and follows shapes from layer to layer.

    NeuralNetwork, ML Program and ONNX are inspected; other formats have neither layers nor shapes to follow. A model
    without problems may still compute the wrong thing. Dead layers are named only beside another problem.
    """
    from coreproof.validation.names import dead_layers, names

    if not (model.is_onnx or model.is_coreml_graph):
        return Inspection(())
    problems = names(model)
    try:
        more, shapes = _follow_shapes(model)
    except UnsupportedOperatorsError:
        # a custom layer or an operator without a lowering is not a fault; its shapes cannot be followed
        more, shapes = [], {}
    more = [*more, *_windows_too_large(model, shapes)]
    # both may say the same of a layer; what the names say comes first, as the shapes follow from them
    named = {(p.layer, p.kind) for p in problems}
    problems += [p for p in more if (p.layer, p.kind) not in named]
    if problems:
        # many a published model carries layers that lead nowhere: beside another problem they are a trace of it
        problems += dead_layers(model)
    order = {node.name: index for index, node in enumerate(model.graph.nodes)}
    problems.sort(key=lambda p: order.get(p.layer or "", len(order)))
    return Inspection(tuple(problems), shapes)


def _windows_too_large(model: Model, shapes: Mapping[str, tuple[int, ...]]) -> list[Problem]:
    """Pools and convolutions that make nothing: engines do not refuse such a window, ONNX Runtime dies of it."""
    return [
        Problem("shape", node.name, f"a window that fits into {list(shapes.get(node.inputs[0], ()))}", f"{list(shape)}")
        for node in model.graph.nodes
        if "pool" in node.operator.lower() or "conv" in node.operator.lower()  # in every format's spelling
        for output in node.outputs
        if (shape := shapes.get(output)) is not None and node.inputs and min(shape, default=1) < 1
    ]


def _follow_shapes(model: Model) -> tuple[list[Problem], dict[str, tuple[int, ...]]]:
    from coreproof.model.coreml.model import CoreMLModel
    from coreproof.model.onnx.model import OnnxModel

    if isinstance(model, OnnxModel):
        from coreproof.validation.onnx import follow_onnx

        return follow_onnx(model)
    assert isinstance(model, CoreMLModel)
    if model.is_program:
        from coreproof.validation.program import follow_program

        return follow_program(model)
    from coreproof.validation.network import follow_network

    return follow_network(model)
