"""Functions are put where they are called; so is the standard's definition of an operator that nothing lowers as it stands."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common

from coreproof.conversion.onnx_to_coreml.function_opsets import share_opsets
from coreproof.conversion.onnx_to_coreml.neighbours import write_out_imputed
from coreproof.conversion.onnx_to_coreml.quantized_lstm import write_out_quantized
from coreproof.conversion.operators import ONNX

_DOMAIN = "coreproof.standard"
"""Of the functions that are made of the standard's definitions, and put in place at once."""
_ROUNDS = 8
"""Definitions use operators that are defined themselves: SoftmaxCrossEntropyLoss the other loss, that nothing more."""


@runtime_checkable
class Schema(Protocol):
    """What onnx knows of an operator; its own stubs leave out that it may be defined by others."""

    attributes: Mapping[str, onnx.defs.OpSchema.Attribute]
    has_function: bool
    has_context_dependent_function: bool
    function_opset_versions: Sequence[int]
    context_dependent_function_opset_versions: Sequence[int]

    def get_function_with_opset_version(self, opset: int) -> bytes:
        """The serialised function; empty where there is none."""

    def get_context_dependent_function_with_opset_version(
        self, opset: int, node: bytes, types: Sequence[bytes]
    ) -> bytes:
        """The serialised function for this node and the types of its inputs; empty where there is none."""


def expand(model: ir.Model) -> None:
    """Leaves no call of a function, and of the operators that the standard defines by others only those that have a handler.

    The definition of an operator is the one that the standard ships for the model's opset (``FunctionBody`` of its schema), made
    for the node's own attributes and for the types of its inputs where it depends on them.
    """
    write_out_quantized(model)
    write_out_imputed(model)
    if model.functions:
        share_opsets(model)
        inline(model)
    for _ in range(_ROUNDS):
        defined = [node for node in model.graph.all_nodes() if _is_open(node, model)]
        if not defined:
            return
        # definitions may depend on the types of all inputs (onnx.defs, context-dependent functions)
        with _without_warnings():
            common.ShapeInferencePass(data_prop=True)(model)
        made = [_call(model, node, number) for number, node in enumerate(defined)]
        if not any(made):
            return
        model.opset_imports[_DOMAIN] = 1
        inline(model)
        del model.opset_imports[_DOMAIN]


@contextmanager
def _without_warnings() -> Iterator[None]:
    """onnx-ir logs a traceback where shapes cannot be inferred; which node that is about is said where it is lowered."""
    logger = logging.getLogger("onnx_ir.passes.common.shape_inference")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def inline(model: ir.Model) -> None:
    """Puts every function where it is called; the bounds of ``coreproof.model.files.nesting`` say how much that can be."""
    inliner: Any = importlib.import_module("onnx_ir.passes.common.inliner")
    counts: dict[str, int] = {}

    def unique(name: str, callstack: object, used: set[str]) -> str:
        """The same names as onnx-ir's own function gives, without counting from 2 again for every call."""
        candidate, number = name, counts.get(name, 1)
        while candidate in used:
            number += 1
            candidate = f"{name}_{number}"
        counts[name] = number
        used.add(candidate)
        return candidate

    slow = inliner._make_unique_name
    inliner._make_unique_name = unique
    try:
        common.InlinePass()(model)
    finally:
        inliner._make_unique_name = slow


def _is_open(node: ir.Node, model: ir.Model) -> bool:
    """Whether nothing lowers the node and the standard says what it is."""
    opset = model.opset_imports.get(node.domain, 1)
    if ONNX.find(node.op_type, opset, node.domain) is not None and not (node.op_type == "Attention" and _adds(node)):
        return False
    schema = _schema(node, opset)
    return schema is not None and (schema.has_function or schema.has_context_dependent_function)


def _adds(node: ir.Node) -> bool:
    """Whether an Attention of the standard is more than softmax(q k^T * scale) v of four dimensions, by as many heads."""
    if node.domain:
        return False
    shapes = [value.shape for value in node.inputs if value is not None]
    plain = (
        len(shapes) == len(node.inputs) == 3
        and all(shape is not None and len(shape) == 4 for shape in shapes)
        and not any(value.uses() or value.is_graph_output() for value in node.outputs[1:])
        and set(node.attributes) <= {"scale"}
    )
    if not plain:
        return True
    heads = {shape[1] for shape in shapes if shape is not None}
    widths = {shape[3] for shape in shapes[:2] if shape is not None}
    return len(heads) != 1 or len(widths) != 1 or not isinstance(next(iter(widths)), int)


def _schema(node: ir.Node, opset: int) -> Schema | None:
    try:
        found: object = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        return None
    return found if isinstance(found, Schema) else None


def _call(model: ir.Model, node: ir.Node, number: int) -> bool:
    """Makes the node a call of its definition; False where there is none for this opset and these types."""
    named = next((value.name for value in node.outputs if value.name), None)
    if named is None:
        return False
    for place, value in enumerate(node.outputs):  # what is left out is made all the same, and read by nobody
        value.name = value.name or f"{named}/omitted{place}"
    opset = model.opset_imports.get("", 1)
    schema = _schema(node, model.opset_imports.get(node.domain, 1))
    assert schema is not None
    definition = _definition(schema, node, opset)
    if definition is None or not _says_the_same(definition, opset):
        return False
    del definition.output[len(node.outputs) :]  # a call gives as many as its function has
    made = {name for n in definition.node for name in n.output}
    for output in definition.output:
        if output not in made:  # an optional output that is not asked for: something has to bear its name
            definition.node.append(onnx.helper.make_node("Constant", [], [output], value_float=0.0))
    for used in definition.opset_import:
        # one graph has one opset; ``_says_the_same`` has seen that nothing means another thing there
        if not used.domain:
            used.version = opset
    definition.domain, definition.name = _DOMAIN, f"{node.op_type}_{number}"
    graphs = [name for name, a in node.attributes.items() if a.type == ir.AttributeType.GRAPH]
    if schema.has_context_dependent_function:  # a definition made for this node holds the node's graphs already
        for name in graphs:
            node.attributes.pop(name)
            if name in definition.attribute:
                definition.attribute.remove(name)
    function = ir.from_proto(definition)
    for name in definition.attribute:
        default = schema.attributes[name].default_value if name in schema.attributes else None
        if name not in node.attributes and default is not None and default.type:
            node.attributes[name] = ir.from_proto(default)
    model.functions[function.identifier()] = function
    node.domain, node.op_type = _DOMAIN, definition.name
    return True


def _says_the_same(definition: onnx.FunctionProto, opset: int) -> bool:
    """Whether each operator of the definition may be written in ``opset`` as it was written for an older one.

    Most are only opened to further types or given further attributes, whose defaults change nothing. Where an attribute became an
    input, a node of the old form means another thing.
    """
    written = next((used.version for used in definition.opset_import if not used.domain), opset)
    for operator in {node.op_type for node in definition.node if not node.domain}:
        old, new = (onnx.defs.get_schema(operator, version) for version in (written, opset))
        inputs = [i.name for i in old.inputs]
        if [i.name for i in new.inputs][: len(inputs)] != inputs or not set(old.attributes) <= set(new.attributes):
            return False
    return True


def _definition(schema: Schema, node: ir.Node, opset: int) -> onnx.FunctionProto | None:
    definition = onnx.FunctionProto()
    if schema.has_context_dependent_function:
        usable = [v for v in schema.context_dependent_function_opset_versions if v <= opset]
        types = [b"" if v is None or v.type is None else ir.to_proto(v).type.SerializeToString() for v in node.inputs]
        if usable:
            proto = ir.to_proto(node).SerializeToString()
            definition.ParseFromString(
                schema.get_context_dependent_function_with_opset_version(max(usable), proto, types)
            )
    else:
        usable = [v for v in schema.function_opset_versions if v <= opset]
        if usable:
            definition.ParseFromString(schema.get_function_with_opset_version(max(usable)))
    return definition if definition.node else None
