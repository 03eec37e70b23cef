"""A single ONNX node on known operands: what it makes, by ONNX's own reference implementation, and how large that will be."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx.checker
import onnx.shape_inference

_SHAPES = 1024
"""Operands of up to this many elements may be shapes, whose values say how large the result is."""
_HINTS = frozenset({"broadcast", "consumed_inputs"})
"""Attributes of early opsets that change no result: NumPy broadcasts unasked, and nothing is written in place."""
_OF_MATRICES = frozenset({"Softmax", "LogSoftmax", "Hardmax"})
"""Operators that took all axes from theirs on as one before opset 13; the reference implementation knows the later form alone."""


def computed(
    node: onnx.NodeProto,
    feeds: Mapping[str, object],
    opsets: Mapping[str, int],
    functions: Sequence[onnx.FunctionProto] = (),
) -> list[object]:
    """The node's results. Raises what the reference implementation raises, whatever the operands are.

    ``feeds`` are the node's operands by name, arrays or sequences of them, and what graphs within it read besides.
    """
    from onnx.reference import ReferenceEvaluator

    _refuse_forms_it_takes_for_later_ones(node, feeds, opsets)
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(a.dtype)), a.shape)
        if isinstance(a, np.ndarray)
        else onnx.ValueInfoProto(name=name)
        for name, a in feeds.items()
    ]
    graph = onnx.helper.make_graph([node], "fold", inputs, [onnx.ValueInfoProto(name=name) for name in node.output])
    imports = [onnx.helper.make_opsetid(d, v) for d, v in opsets.items()]
    model = onnx.helper.make_model(graph, opset_imports=imports, functions=list(functions))
    # what the standard computes is an infinity or a NaN here, and no warning
    with np.errstate(all="ignore"):
        return list(ReferenceEvaluator(model).run(None, dict(feeds)))


def _refuse_forms_it_takes_for_later_ones(
    node: onnx.NodeProto, feeds: Mapping[str, object], opsets: Mapping[str, int]
) -> None:
    """Raises NotImplementedError where an early opset means something that the reference implementation takes no notice of."""
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.ops import load_op

    opset = opsets.get("", 1)
    if node.domain or opset >= 13:
        return
    operand = feeds.get(node.input[0]) if node.input else None
    if node.op_type in _OF_MATRICES and isinstance(operand, np.ndarray):
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        if axis not in (-1, operand.ndim - 1):
            raise NotImplementedError(f"of opset {opset} it takes all axes from {axis} on as one, which it does not do")
    form: object = load_op("", node.op_type, opset, evaluator_cls=ReferenceEvaluator)
    run = getattr(form, "_run", None)
    taken = inspect.signature(run).parameters if callable(run) else {}
    unheeded = [a.name for a in node.attribute if a.name not in taken and a.name not in _HINTS]
    if taken and unheeded and all(p.kind is not p.VAR_KEYWORD for p in taken.values()):
        raise NotImplementedError(f"it takes no notice of {', '.join(unheeded)}, as opset {opset} has it")


def result_shapes(
    node: onnx.NodeProto, feeds: Mapping[str, np.ndarray], opsets: Mapping[str, int]
) -> dict[str, list[int]]:
    """The shapes of the results before they are computed, by name; those that ONNX's inference cannot tell are left out."""
    types = {
        name: onnx.helper.make_tensor_type_proto(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(a.dtype)), a.shape)
        for name, a in feeds.items()
    }
    shapes = {name: onnx.numpy_helper.from_array(a, name) for name, a in feeds.items() if a.size <= _SHAPES}
    try:
        schema = onnx.defs.get_schema(node.op_type, opsets.get(node.domain, 1), node.domain)
        inferred = onnx.shape_inference.infer_node_outputs(
            schema,
            node,
            types,
            shapes,
            opset_imports=[onnx.helper.make_opsetid(d, v) for d, v in opsets.items()],
            ir_version=10,
        )
    except (
        onnx.checker.ValidationError,  # operands of unlike types: a product in float64 of what else is float32
        onnx.defs.SchemaError,
        onnx.shape_inference.InferenceError,
        RuntimeError,
        KeyError,
    ):
        return {}  # what is wrong with the node is said by the one that computes it
    found = {}
    for name, made in inferred.items():
        dimensions = made.tensor_type.shape.dim
        lengths = [d.dim_value for d in dimensions if d.HasField("dim_value")]
        if made.tensor_type.HasField("shape") and len(lengths) == len(dimensions) and min(lengths, default=0) >= 0:
            found[name] = lengths
    return found
