"""ONNX's own shape inference over a model without its weights, and what it says of the memory that values take."""

from __future__ import annotations

import math

import onnx
import onnx_ir as ir
from onnx import numpy_helper
from onnx.shape_inference import infer_shapes

from coreproof.model.budget import afford

_DATA_KEPT = 1024
"""Constants of up to this many elements may be shapes, axes or indices, whose values inference needs."""


def light_proto(model: ir.Model) -> onnx.ModelProto:
    """The model without the data of its weights and without the shapes that it states of inner values and outputs."""
    light = onnx.ModelProto(ir_version=model.ir_version)
    for domain, version in model.opset_imports.items():
        light.opset_import.add(domain=domain, version=version)
    # its own writer of each kind: to_proto asks for the kind first, which takes longer than the writing
    light.functions.extend(ir.serde.serialize_function(function) for function in model.functions.values())
    graph = light.graph
    graph.name = model.graph.name or "main"
    for node in model.graph:
        added = graph.node.add()
        ir.serde.serialize_node_into(added, node)
        added.name = node.name or f"{node.op_type}:{added.output[0] if added.output else ''}"
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is None:
            continue
        # a larger one cannot be a shape, and its bytes would only be copied to and fro
        if tensor.size <= _DATA_KEPT:
            held = ir.Tensor(tensor.numpy(), dtype=tensor.dtype) if isinstance(tensor, ir.ExternalTensor) else tensor
            ir.serde.serialize_tensor_into(graph.initializer.add(), held)
        else:
            dims = [int(n) for n in tensor.shape.numpy()]
            graph.initializer.append(onnx.TensorProto(data_type=int(tensor.dtype), dims=dims))
        graph.initializer[-1].name = value.name or ""
    graph.input.extend(ir.serde.serialize_value(value) for value in model.graph.inputs)
    for value in model.graph.outputs:
        added_output = graph.output.add()
        ir.serde.serialize_value_into(added_output, value)
        if not value.type:
            added_output.ClearField("type")
        elif added_output.type.HasField("tensor_type"):
            # inference stops at a stated shape that is wrong; without it, it finds the right one
            added_output.type.tensor_type.ClearField("shape")
    _type_keys(graph)
    return light


_KEYS = {
    "keys_strings": onnx.TensorProto.STRING,
    "keys_int64s": onnx.TensorProto.INT64,
    "keys_floats": onnx.TensorProto.FLOAT,
}


def _type_keys(graph: onnx.GraphProto) -> None:
    """Says of what each LabelEncoder reads that it is of the type of its keys.

    Where inference gives up on the node before, that has no type, and onnx's inference of LabelEncoder ends the process.
    """
    known = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute if node.op_type == "LabelEncoder" and node.input else ():
            if attribute.name in _KEYS and node.input[0] not in known:
                known.add(node.input[0])
                value = graph.value_info.add(name=node.input[0])
                value.type.tensor_type.elem_type = _KEYS[attribute.name]


def inferred(light: onnx.ModelProto, *, data: bool = True) -> onnx.ModelProto:
    """``light`` with what inference finds, or as it is where that gives up; ``data``: small integers are followed too.

    The library raises InferenceError for a model that contradicts itself, and what C++ throws (ValueError, RuntimeError) for one
    that it cannot walk: either way nothing more is known.
    """
    try:
        known = infer_shapes(light)
        return infer_shapes(light, data_prop=True) if data and can_follow_data(known) else known
    except Exception:  # see above: the classes are the library's, and not all of them are documented
        return light


_LONGEST_FOLLOWED = 1 << 20
_LARGEST_FOLLOWED = 1 << 24
_ENDS = frozenset((2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 2**31, 2**63 - 2))
"""How a Slice says "to the end"."""


def can_follow_data(known: onnx.ModelProto) -> bool:
    """Whether inference may follow the values of small integers in a model whose shapes are inferred without them.

    The library spells out every element of a vector that one of the operators it follows reads: of a vector of 3,000,000,000
    it does not come back. Lengths and numbers that no honest shape has switch it off.
    """
    graph = known.graph
    for value in (*graph.input, *graph.value_info, *graph.output):
        lengths = [d.dim_value for d in value.type.tensor_type.shape.dim]
        if max(lengths, default=0) > (_LONGEST_FOLLOWED if len(lengths) == 1 else _LARGEST_FOLLOWED):
            return False
    constants = [a.t for node in graph.node if node.op_type == "Constant" for a in node.attribute if a.HasField("t")]
    for tensor in (*graph.initializer, *constants):
        if len(tensor.dims) == 1 and tensor.dims[0] > _LONGEST_FOLLOWED:
            return False
        if any(abs(n) > _LARGEST_FOLLOWED and n not in _ENDS for n in _numbers(tensor)):
            return False
    return True


def _numbers(tensor: onnx.TensorProto) -> list[int]:
    """The elements of a small constant that may be a shape."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL or math.prod(tensor.dims) > _DATA_KEPT:
        return []
    if tensor.data_type not in (onnx.TensorProto.INT64, onnx.TensorProto.INT32):
        return []
    return [int(n) for n in numpy_helper.to_array(tensor).reshape(-1)]


def afford_values(model: ir.Model, where: str) -> None:
    """Raises TooLargeError for the first value of which inference says that it is beyond the memory budget."""
    light = light_proto(model)
    # inference with values goes further, and without them it goes where a strange value stops it
    for data in (False, True):
        _afford_each(inferred(light, data=data).graph, where)


def _afford_each(found: onnx.GraphProto, where: str) -> None:
    for value in (*found.input, *found.value_info, *found.output):
        tensor = value.type.tensor_type
        lengths = [d.dim_value for d in tensor.shape.dim if d.WhichOneof("value") == "dim_value"]
        if tensor.HasField("shape") and len(lengths) == len(tensor.shape.dim) and min(lengths, default=0) >= 0:
            afford(f"value {value.name!r}", lengths, _itemsize(tensor.elem_type), where=where)


def _itemsize(element: int) -> int:
    """Bytes of an element; four of text and of what is not known, of which nothing else is known either."""
    known = element in ir.DataType.__members__.values() and element not in (ir.DataType.UNDEFINED, ir.DataType.STRING)
    return max(1, ir.DataType(element).bitwidth // 8) if known else 4
