"""The shapes of an ML Program: what each operation declares, held against what follows from its inputs."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import OPSETS, Lowering, handler_for
from coreproof.conversion.coreml_to_onnx.mlprogram.literals import declared
from coreproof.conversion.coreml_to_onnx.mlprogram.program import chosen_function
from coreproof.conversion.coreml_to_onnx.mlprogram.shapes import ProgramTypes
from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import known
from coreproof.conversion.operators import MIL
from coreproof.model.coreml.compressed import DECOMPRESS
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.open_states import open_states
from coreproof.model.coreml.proto import MIL_pb2
from coreproof.model.formats import program as mil
from coreproof.validation.onnx import channels, elements
from coreproof.validation.problem import (
    MOST_DIMENSIONS,
    Problem,
    declared_shape,
    label_count,
    rank_or_shape,
    shape_words,
    too_many_dimensions,
)

_VERSIONS = {"CoreML5": 6, "CoreML6": 7, "CoreML7": 8, "CoreML8": 9, "CoreML9": 10}
"""MIL opset -> the specification version of the files that may use it."""


def follow_program(model: CoreMLModel) -> tuple[list[Problem], dict[str, tuple[int, ...]]]:
    """Every operation whose inputs do not fit it or that declares another shape than it makes, and the declared shapes."""
    # what states declare of themselves is held against the program here
    model = open_states(model).model
    chosen = model.spec.mlProgram.functions[chosen_function(model, model.spec.mlProgram, None)]
    body = mil.block_of(chosen)
    problems = [*_target(model, body, str(chosen.opset))]
    follower = _Follower(model, chosen)
    for operation in body.operations:
        problems += follower.follow(operation)
    problems += _declared_outputs(model, follower.low)
    problems += _too_many_dimensions(model)
    shapes = _declared_shapes(model)
    labels = model.signature.labels
    problems += [
        label_count(node.name, name, shapes[name], len(labels))
        for node in model.graph.nodes
        for name in (model.graph.data(node) if node.operator == "classify" and labels is not None else ())
        if labels is not None and name in shapes and prod(shapes[name]) != len(labels)
    ]
    return problems, shapes


class _Follower:
    """Holds what operations declare against the walk through them.

    Behind an operation that declares what it does not make, its true type is not known: what ``doubtful`` values lead to is
    not held against its own declaration.
    """

    def __init__(self, model: CoreMLModel, function: MIL_pb2.Function) -> None:
        self.model = model
        self.types = ProgramTypes(model, function)
        self.low = self.types.low
        self.doubtful: set[str] = set()

    def follow(self, operation: MIL_pb2.Operation) -> Iterator[Problem]:
        outputs = [declared(o) for o in operation.outputs]
        reads = {binding.name for _, binding in mil.bindings(operation)}
        # the walk adds each operation's ONNX nodes behind those of the operations before it
        before = len(self.low.b.nodes)
        name = _layer(self.model, outputs[0].name if outputs else operation.type)
        error = self.types.lower(operation)
        if error is not None:
            yield Problem(
                rank_or_shape(error.problem),
                name,
                str(error.expected) if error.expected is not None else "inputs that it accepts",
                error.problem if error.found is None else str(error.found),
            )
            return
        yield from self._channels(name, before)
        for output in outputs:
            real = _inferred_shape(self.low, output.name)
            if _contradicts(output.shape, real):
                if not reads & self.doubtful:
                    stated = f"declared as {shape_words(output.shape)}"
                    yield Problem("declared-type", name, f"{output.name} {shape_words(real)}", stated)
                self.doubtful.add(output.name)
            elif reads & self.doubtful and output.shape != real:
                self.doubtful.add(output.name)

    def _channels(self, name: str, before: int) -> Iterator[Problem]:
        """What no handler checks of the ONNX nodes that it made (those behind the first ``before``)."""
        for node in self.low.b.nodes[before:]:
            shapes = {
                v.name: shape for v in node.inputs if v is not None and v.name and (shape := known(v)) is not None
            }
            attributes = {k: a.value for k, a in node.attributes.items()}
            inputs = [v.name or "" if v is not None else "" for v in node.inputs]
            yield from channels(name, node.op_type, inputs, attributes, shapes)
            target = node.inputs[1].const_value if node.op_type == "Reshape" and node.inputs[1] is not None else None
            if target is not None:
                yield from elements(name, inputs[0], shapes.get(inputs[0]), target.numpy().reshape(-1).tolist())


def _inferred_shape(low: Lowering, name: str) -> tuple[int | None, ...] | None:
    """The shape that the walk found for a value; None where it found none."""
    value = low.environment.get(name)
    return known(value) if isinstance(value, ir.Value) else None


def _contradicts(declared_shape: tuple[int | None, ...] | None, real: tuple[int | None, ...] | None) -> bool:
    if declared_shape is None or real is None:
        return False
    if len(declared_shape) != len(real):
        return True
    return any(d is not None and n is not None and d != n for d, n in zip(declared_shape, real, strict=True))


def _layer(model: CoreMLModel, output: str) -> str:
    return model.graph.layer_of(output) or output


def _declared_shapes(model: CoreMLModel) -> dict[str, tuple[int, ...]]:
    return {
        name: tuple(int(d) for d in value.shape if isinstance(d, int))
        for name, value in model.graph.values.items()
        if value.shape is not None and all(isinstance(d, int) for d in value.shape)
    }


def _target(model: CoreMLModel, body: MIL_pb2.Block, opset: str) -> Iterator[Problem]:
    """Operations that the declared opset, and an opset that the declared specification version, does not know yet."""
    version = int(model.spec.specificationVersion)
    needed = _VERSIONS.get(opset)
    if needed is not None and version < needed:
        yield Problem("target", None, f"specification version {needed} for operations of {opset}", f"version {version}")
    seen = set()
    for operation in mil.nodes(body.operations):
        kind = operation.type
        # an operation of no opset at all is told by the walk; here only what came later
        if kind in seen or kind == "const" or handler_for(kind, opset) is not None or kind not in MIL:
            continue
        seen.add(kind)
        since = MIL.versions(kind)[0]
        brought = next((name for name, v in OPSETS.items() if v >= since), "a later opset")
        layer = _layer(model, operation.outputs[0].name) if operation.outputs else kind
        yield Problem("target", layer, f"{brought} or later, which brought {kind}", opset)


def _too_many_dimensions(model: CoreMLModel) -> Iterator[Problem]:
    graph = model.graph
    for node in graph.nodes:
        for name in node.outputs:
            value = graph.values.get(name)
            shape = None if value is None else value.shape
            if value is not None and value.constant and all(r.operator in DECOMPRESS for r in graph.consumers(name)):
                continue  # a part of a compressed weight: a look-up table has two dimensions more than its weight
            if shape is not None and len(shape) > MOST_DIMENSIONS:
                yield too_many_dimensions(node.name, name, (d if isinstance(d, int) else None for d in shape))


def _declared_outputs(model: CoreMLModel, low: Lowering) -> Iterator[Problem]:
    """Outputs that the description gives another shape than the program makes."""
    for feature in model.signature.outputs:
        # of several allowed shapes the declared one is merely the default
        if not feature.shape or feature.ranges or feature.enumerated:
            continue
        stated = tuple(d if isinstance(d, int) and d > 0 else None for d in feature.shape)
        if _contradicts(stated, made := _inferred_shape(low, feature.name)):
            yield declared_shape(model.graph, feature.name, shape_words(stated), shape_words(made))
