"""Functions that are written in another opset than the model that calls them, brought to the model's own."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from coreproof.errors import ConversionError

_OTHERS = frozenset({"Softmax", "LogSoftmax", "Hardmax", "Resize", "Upsample", "BatchNormalization", "Scan", "Loop"})
"""Operators that came to mean something else under the same attributes."""


def share_opsets(model: ir.Model) -> None:
    """Gives each function the model's version of each domain of the standard, where its nodes mean the same in both.

    What became an operand of the same name (the ``axes`` of a reduction) is made one. Raises ConversionError for a node that
    means something else.
    """
    for function in model.functions.values():
        for domain, version in list(function.opset_imports.items()):
            wanted = model.opset_imports.get(domain, version)
            if version == wanted:
                continue
            for node in list(function.all_nodes()):
                if (node.domain or "") == (domain or ""):
                    _brought(node, version, wanted, function)
            function.opset_imports[domain] = wanted


def _brought(node: ir.Node, version: int, wanted: int, function: ir.Function) -> None:
    old, new = _schema(node, version), _schema(node, wanted)
    if old is None or (new is not None and old.since_version == new.since_version):
        return  # no operator of the standard, or the same one
    if new is None:
        raise _changed(node, version, wanted, function, "it is none of the model's opset")
    for name in [name for name in node.attributes if name not in new.attributes]:
        places = [place for place, operand in enumerate(new.inputs) if operand.name == name]
        if not places:
            raise _changed(node, version, wanted, function, f"its attribute {name!r}")
        _made_operand(node, name, places[0])
    others = [
        name
        for name, attribute in old.attributes.items()
        if name in new.attributes
        and name not in node.attributes
        and attribute.default_value.SerializeToString() != new.attributes[name].default_value.SerializeToString()
    ]
    if others or node.op_type in _OTHERS:
        found = f"what it does without {', '.join(others)}" if others else "what it computes"
        raise _changed(node, version, wanted, function, found)
    if not new.min_input <= len(node.inputs) <= new.max_input:
        raise _changed(node, version, wanted, function, f"{len(node.inputs)} operands")


def _made_operand(node: ir.Node, name: str, place: int) -> None:
    held = node.attributes.pop(name)
    if held.type in (ir.AttributeType.INT, ir.AttributeType.INTS):
        numbers = ir.tensor(held.value, dtype=ir.DataType.INT64)
    else:
        numbers = ir.tensor(held.value, dtype=ir.DataType.FLOAT)
    constant = ir.node("Constant", [], attributes={"value": numbers})
    constant.outputs[0].name = f"{node.outputs[0].name}_{name}"
    assert node.graph is not None
    node.graph.insert_before(node, constant)
    if place >= len(node.inputs):
        node.resize_inputs(place + 1)
    node.replace_input_with(place, constant.outputs[0])


def _schema(node: ir.Node, version: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(node.op_type, version, node.domain)
    except onnx.defs.SchemaError:
        return None


def _changed(node: ir.Node, version: int, wanted: int, function: ir.Function, found: str) -> ConversionError:
    return ConversionError(
        f"{node.op_type} means something else in the model's opset than in its function's",
        where=f"function {function.domain}::{function.name}, node {node.name!r}",
        expected=f"opset {wanted}, as the model has it",
        found=f"opset {version}: {found}",
        fix="write the function in the model's opset, or the model in the function's",
    )
