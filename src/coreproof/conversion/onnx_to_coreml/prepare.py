"""What is done to the ONNX graph before it is lowered: functions inlined, dead nodes dropped, BatchNorm folded into Conv."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from coreproof.conversion.onnx_to_coreml.expand import expand
from coreproof.conversion.onnx_to_coreml.fuse import fuse
from coreproof.conversion.onnx_to_coreml.lowering import Array
from coreproof.conversion.onnx_to_coreml.old_forms import in_todays_form
from coreproof.conversion.onnx_to_coreml.sequence_outputs import outputs_apart
from coreproof.errors import ConversionError
from coreproof.model.formats.free_name import free_name


def prepare(model: ir.Model, *, joined: bool = False, kept: Collection[str] = ()) -> ir.Model:
    """A copy of ``model``, ready to be lowered; the weights are shared with the original, not copied.

    ``joined``: several nodes that an ML Program has one operation for are one, save values and operators that are ``kept``.
    """
    _sort(model)
    # the user's model stays as it is; verification compares with that
    prepared = model.clone()
    _bind_branches(prepared.graph, {})
    outputs_apart(prepared.graph)
    _name_apart(prepared.graph)
    in_todays_form(prepared)
    expand(prepared)
    common.RemoveUnusedNodesPass()(prepared)
    for node in list(prepared.graph):
        if node.op_type == "BatchNormalization":
            fold_batchnorm(prepared.graph, node)
    if joined:
        fuse(prepared.graph, kept)
    return prepared


def _name_apart(graph: ir.Graph) -> None:
    """Gives an output that is an input a name of its own, and each only once: a Core ML model has one feature of a name."""
    for at in range(len(graph.outputs) - 1, -1, -1):
        if any(graph.outputs[at] is value for value in graph.outputs[:at]):
            del graph.outputs[at]
    taken = {value.name for value in (*graph.inputs, *graph.outputs, *(v for node in graph for v in node.outputs))}
    for at, value in enumerate(graph.outputs):
        if not value.is_graph_input():
            continue
        name = free_name(f"{value.name}_out", taken)
        taken.add(name)
        apart = ir.Node("", "Identity", [value], num_outputs=1)
        apart.outputs[0].name, apart.outputs[0].type, apart.outputs[0].shape = name, value.type, value.shape
        graph.append(apart)
        graph.outputs[at] = apart.outputs[0]


def _sort(model: ir.Model) -> None:
    """Puts the nodes in the order that ONNX asks for, which other runtimes do without. ConversionError where there is none."""
    for graph in (model.graph, *(f.graph for f in model.functions.values())):
        made = {v for node in graph for v in node.outputs}
        for node in graph:
            # a value that is still in the set is made by this node, or by one behind it
            if not made.isdisjoint(v for v in node.inputs if v is not None):
                break
            made.difference_update(node.outputs)
        else:
            continue
        try:
            graph.sort()
        except ValueError as error:
            raise ConversionError(
                "the nodes of the graph read each other in a circle",
                where=f"{model.graph.name or 'the graph'}, node {node.name or node.op_type!r}",
                expected="nodes that can be put in an order in which each reads what was made before",
                fix="`coreproof doctor MODEL` names the value; `coreproof edit` connects it to what it should read",
            ) from error


def _bind_branches(graph: ir.Graph, outer: Mapping[str, ir.Value]) -> None:
    """Takes what a branch declares as its inputs from outside.

    An If hands its branches nothing. Some exporters list what they read all the same, which ONNX Runtime takes; what is outside
    would count as unread.
    """
    known = {**outer, **{v.name: v for v in (*graph.inputs, *graph.initializers.values()) if v.name}}
    for node in graph:
        for attribute in node.attributes.values():
            if attribute.type != ir.AttributeType.GRAPH:
                continue
            branch = attribute.as_graph()
            for value in list(branch.inputs) if node.op_type == "If" else ():
                if (read := known.get(value.name or "")) is not None:
                    ir.convenience.replace_all_uses_with(value, read, replace_graph_outputs=True)
                    branch.inputs.remove(value)
            _bind_branches(branch, known)
        known.update({v.name: v for v in node.outputs if v.name})


def fold_batchnorm(graph: ir.Graph, node: ir.Node) -> bool:
    """Merges a BatchNormalization into the convolution before it, where only it reads the convolution.

    ::

        before:  c = Conv(x, W, b)          y = BatchNormalization(c, scale, bias, mean, variance, epsilon)
        after:   y = Conv(x, W * k, (b - mean) * k + bias)        with k = scale / sqrt(variance + epsilon)

    The Core ML compiler would do the same; done here, the program is written with one layer less and the merge is
    part of what is verified. The value ``c`` has no partner in the converted model.
    """
    convolution = node.inputs[0].producer() if node.inputs[0] is not None else None
    if convolution is None or convolution.op_type not in ("Conv", "ConvTranspose"):
        return False
    middle = convolution.outputs[0]
    # whoever else reads the convolution wants it unnormalised
    if len(middle.uses()) != 1 or middle.is_graph_output():
        return False
    # what trains goes by what is fed, and not by what is stored
    if "training_mode" in node.attributes and node.attributes["training_mode"].as_int():
        return False
    weight, bias = convolution.inputs[1], None
    weights = _constant(weight)
    if len(convolution.inputs) > 2 and convolution.inputs[2] is not None:
        bias = _constant(convolution.inputs[2])
        if bias is None:
            return False
    parts = [_constant(v) for v in node.inputs[1:5]]
    if weight is None or weights is None or len(parts) != 4 or any(p is None for p in parts):
        return False
    # in float64, so that the merged weight is rounded once
    scale, offset, mean, variance = (np.asarray(p, np.float64) for p in parts)
    epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
    factor = scale / np.sqrt(variance + epsilon)
    shape = [1] * weights.ndim
    if convolution.op_type == "Conv":
        shape[0] = -1
        scaled = weights * factor.reshape(shape)
    else:
        # [in, out / groups, ...]: the factors would have to be dealt out over the groups
        if "group" in convolution.attributes and convolution.attributes["group"].as_int() != 1:
            return False
        shape[1] = -1
        scaled = weights * factor.reshape(shape)
    shifted = ((0.0 if bias is None else bias) - mean) * factor + offset
    dtype = weights.dtype
    name = node.outputs[0].name or "folded"
    new_weights = _initializer(graph, f"{weight.name}_{name}", scaled.astype(dtype))
    new_bias = _initializer(graph, f"{name}_bias", shifted.astype(dtype))
    convolution.resize_inputs(3)
    convolution.replace_input_with(1, new_weights)
    convolution.replace_input_with(2, new_bias)
    result = node.outputs[0]
    # two values may not bear one name, not even while one takes the place of the other
    middle.name, kept = f"{middle.name}_before_{name}", result.name
    middle.shape, middle.type = result.shape, result.type
    ir.convenience.replace_all_uses_with(result, middle, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    middle.name = kept
    return True


def _constant(value: ir.Value | None) -> Array | None:
    if value is None or value.const_value is None or not value.is_initializer():
        return None
    return value.const_value.numpy()


def _initializer(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    tensor = ir.Tensor(array, name=name)
    value = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=tensor.shape)
    graph.register_initializer(value)
    return value
