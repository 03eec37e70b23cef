"""Nodes of old opsets in today's form: attributes that were dropped, renamed or became inputs, types in text, broadcasts.

What an operator did differently is a handler of its own (``since`` at its decorator); here is what was only said differently.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from coreproof.errors import ConversionError
from coreproof.model.onnx.constants import known_tensor


def in_todays_form(model: ir.Model) -> None:
    """Rewrites the nodes of ``model`` in place. Raises ConversionError for what contradicts itself, or says too little."""
    for opset, node in _nodes(model):
        if node.op_type == "Cast":
            _number_type(node)
        if opset < 6:
            # a hint which inputs may be overwritten, which computes nothing
            node.attributes.pop("consumed_inputs", None)
        if opset < 7 and node.op_type == "Dropout":
            _dropout(node)
        if opset < 14 and node.op_type == "BatchNormalization":
            _mark_training(node)
        if opset == 1 and node.op_type in _FIRST:
            _FIRST[node.op_type](node)
        if opset < 7 and node.op_type in _ALIGNED:
            _align(node)


def unsaid(model: ir.Model) -> Iterator[str]:
    """What the nodes of old opsets leave open, and how they are taken, for the notes of a conversion."""
    silent = [
        _place(node)
        for opset, node in _nodes(model)
        if opset < 7 and node.op_type == "BatchNormalization" and "is_test" not in node.attributes
        # with all five outputs a node trains, and says so
        if not any(value.name for value in node.outputs[1:])
    ]
    if silent:
        # onnx.version_converter takes them so, too
        yield (
            f"{len(silent)} BatchNormalization (first: {silent[0]}) give one output, as in inference, and do not say is_test, "
            "whose default is training: taken as inference, with the stored mean and variance"
        )


def _nodes(model: ir.Model) -> Iterator[tuple[int, ir.Node]]:
    """The standard's nodes with their opset, those of nested graphs and functions too."""
    known = model.opset_imports.get("", 1)
    bodies = [(known, model.graph), *((f.opset_imports.get("", known), f.graph) for f in model.functions.values())]
    yield from ((opset, node) for opset, graph in bodies for node in list(graph.all_nodes()) if not node.domain)


def _dropout(node: ir.Node) -> None:
    tested = node.attributes.pop("is_test", None)
    if tested is not None and not tested.as_int():
        raise ConversionError(
            "a Dropout drops elements by chance (is_test = 0)",
            where=_place(node),
            expected="is_test = 1: a model that answers the same each time",
            fix="export the model in evaluation mode, or set is_test to 1: coreproof edit, verb set",
        )


def _pad(node: ir.Node) -> None:
    if (amounts := node.attributes.pop("paddings", None)) is not None:
        node.attributes["pads"] = ir.AttrInt64s("pads", list(amounts.as_ints()))


def _reshape(node: ir.Node) -> None:
    if (shape := node.attributes.pop("shape", None)) is not None:
        _feed(node, np.array(shape.as_ints(), np.int64), "shape")


def _selu(node: ir.Node) -> None:
    for name, value in (("alpha", 1.6732), ("gamma", 1.0507)):
        node.attributes.setdefault(name, ir.AttrFloat32(name, value))


def _upsample(node: ir.Node) -> None:
    factors = [node.attributes.pop(name, None) for name in ("height_scale", "width_scale")]
    scales = [1.0, 1.0, *(f.as_float() for f in factors if f is not None)]
    node.attributes["scales"] = ir.AttrFloat32s("scales", scales)


_FIRST = {"Pad": _pad, "Reshape": _reshape, "Selu": _selu, "Upsample": _upsample}
"""Operators that opset 1 alone wrote otherwise."""


def _feed(node: ir.Node, array: np.ndarray, what: str) -> None:
    """Makes a constant the last input of the node."""
    tensor = ir.Tensor(array)
    stated = ir.Node("", "Constant", [], [ir.AttrTensor("value", tensor)], num_outputs=1, version=node.version)
    stated.outputs[0].name = f"{node.outputs[0].name}/{what}"
    stated.outputs[0].dtype, stated.outputs[0].shape = tensor.dtype, tensor.shape
    assert isinstance(node.graph, ir.Graph)
    node.graph.insert_before(node, stated)
    node.resize_inputs(len(node.inputs) + 1)
    node.replace_input_with(len(node.inputs) - 1, stated.outputs[0])


def _place(node: ir.Node) -> str:
    return f"node {node.name or node.outputs[0].name!r}"


def _number_type(node: ir.Node) -> None:
    """Gives a Cast the number of its type, which it named in text before opset 6."""
    named = node.attributes.get("to")
    if named is None or named.is_ref() or named.type != ir.AttributeType.STRING:
        return
    kind = named.as_string().upper()
    if kind not in ir.DataType.__members__:
        raise ConversionError(
            "Cast names a type that ONNX does not have",
            where=_place(node),
            expected="FLOAT, INT64, BOOL, ...",
            found=kind,
        )
    node.attributes["to"] = ir.AttrInt64("to", int(ir.DataType[kind]))


def _mark_training(node: ir.Node) -> None:
    """Says of a BatchNormalization that it trains, as from opset 14 on; before, its outputs said so, and ``is_test``."""
    tested = node.attributes.pop("is_test", None)
    asked = [value.name for value in node.outputs[1:] if value.name]
    for value in node.outputs[4:]:
        _refuse_saved_variance(value)
    if asked and not (tested is not None and tested.as_int()):
        node.attributes["training_mode"] = ir.AttrInt64("training_mode", 1)
    elif tested is not None and not tested.as_int():
        raise ConversionError(
            "a BatchNormalization says that it trains (is_test = 0), and has the one output of one that does not",
            where=_place(node),
            expected="is_test = 1, or all five outputs",
            fix="set is_test to 1: coreproof edit, verb set; or export the model in evaluation mode",
        )


def _refuse_saved_variance(value: ir.Value) -> None:
    """The standard calls it a variance, ONNX Runtime makes an inverse deviation of it; read by nobody, it need not be made."""
    if value.uses() or value.is_graph_output():
        raise ConversionError(
            "a BatchNormalization hands out the statistics that it saved for training, of which the standard and ONNX Runtime "
            "say different things",
            where=f"output {value.name!r}",
            expected="at most the first four outputs",
            fix="compute the variance with ReduceMean, or take the output away: coreproof edit, verb extract",
        )
    value.name = ""


_ALIGNED = frozenset(["Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Greater", "Less", "Equal"])
"""Operators that said before opset 7 with ``axis`` where their second operand begins; today shapes are aligned at their ends."""


def _align(node: ir.Node) -> None:
    """Gives the second operand of such a node the axes behind its own that today's rule wants (opset 6, Broadcast).

    Shapes that do not fit each other are refused where the node is lowered.
    """
    begins, broadcast = (node.attributes.pop(name, None) for name in ("axis", "broadcast"))
    if begins is None or broadcast is None or not broadcast.as_int() or len(node.inputs) != 2 or None in node.inputs:
        return
    left, right = (_shape(value) for value in node.inputs if value is not None)
    if left is None or right is None:
        raise ConversionError(
            f"{node.op_type} says where its second operand begins, and the shapes of both are not known",
            where=_place(node),
            expected="known ranks, or the form of opset 7",
            fix="write the file anew with onnx.version_converter.convert_version(model, 7)",
        )
    at = begins.as_int() + (len(left) if begins.as_int() < 0 else 0)
    behind = len(left) - at - len(right)
    if behind <= 0:
        return
    axes = ir.AttrInt64s("axes", list(range(len(right), len(right) + behind)))
    widened = ir.Node("", "Unsqueeze", [node.inputs[1]], [axes], num_outputs=1, version=node.version)
    widened.outputs[0].name = f"{node.outputs[0].name}/aligned"
    if node.inputs[1] is not None and node.inputs[1].dtype is not None:
        widened.outputs[0].dtype = node.inputs[1].dtype
    widened.outputs[0].shape = ir.Shape([*right, *[1] * behind])
    assert node.graph is not None
    node.graph.insert_before(node, widened)
    node.replace_input_with(1, widened.outputs[0])


def _shape(value: ir.Value) -> ir.Shape | None:
    held = known_tensor(value)
    return value.shape if value.shape is not None or held is None else ir.Shape(held.shape.numpy())
