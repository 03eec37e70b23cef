"""ONNX models from text, from nodes, or of one node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper, parser

from coreproof.model.onnx.model import OnnxModel, from_message

Node = tuple[str, str, str, Mapping[str, Any]]
"""What an ONNX node computes, what it reads and what it makes (names between blanks), and its attributes."""


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def onnx_model(text: str, **weights: Any) -> OnnxModel:
    """The model that ONNX's own text form describes; ``weights`` are initializers by name."""
    proto = parser.parse_model(text)
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items())
    return OnnxModel(ir.from_proto(proto), name="net")


def graph_model(text: str, opset: int = 18, **weights: Any) -> OnnxModel:
    """The model of a graph in ONNX's own text form, without the head that names versions."""
    graph = parser.parse_graph(text)
    graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items())
    return from_message(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]))


def onnx_proto(
    nodes: Sequence[Node | onnx.NodeProto],
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    stored: Mapping[str, Any] | None = None,
    *,
    opset: int = 17,
    name: str = "net",
) -> onnx.ModelProto:
    """A model of these nodes; one that is given as a Node is called after what it makes.

    ``inputs`` and ``outputs`` are shapes of float32, or (dtype, shape); ``stored`` are the initializers.
    """

    def feature(end: str, about: Any) -> onnx.ValueInfoProto:
        dtype, shape = (
            about
            if isinstance(about, tuple) and len(about) == 2 and not isinstance(about[1], int | str)
            else (TensorProto.FLOAT, about)
        )
        return helper.make_tensor_value_info(end, dtype, shape)

    graph = helper.make_graph(
        [
            node
            if isinstance(node, onnx.NodeProto)
            else helper.make_node(
                node[0], node[1].split(" "), node[2].split(), name=f"to_{node[2].split()[0]}", **node[3]
            )
            for node in nodes
        ],
        name,
        [feature(*end) for end in inputs.items()],
        [feature(*end) for end in outputs.items()],
        [numpy_helper.from_array(np.asarray(array), known) for known, array in (stored or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def onnx_net(
    nodes: Sequence[Node | onnx.NodeProto], inputs: Mapping[str, Any], outputs: Mapping[str, Any], **stored: Any
) -> OnnxModel:
    """``onnx_proto``, as a model."""
    return OnnxModel(ir.from_proto(onnx_proto(nodes, inputs, outputs, stored)), name="net")


def node_model(
    operator: str,
    inputs: Mapping[str, Any],
    constants: Mapping[str, Any] | None = None,
    *,
    opset: int = 17,
    outputs: Sequence[Any] = (np.float32,),
    order: Sequence[str] | None = None,
    free: Mapping[str, Sequence[int]] | None = None,
    **attributes: Any,
) -> OnnxModel:
    """A model of one node. ``order`` names its operands ("" for one left out); by default inputs, then constants.

    ``outputs`` are their dtypes; ``free`` names the axes of inputs whose length is left open.
    """
    constants = dict(constants or {})
    names = list(order) if order is not None else [*inputs, *constants]
    results = [f"y{i}" for i in range(len(outputs))]
    open_axes = dict(free or {})
    graph = helper.make_graph(
        [helper.make_node(operator, names, results, name="node", **attributes)],
        "one",
        [
            helper.make_tensor_value_info(
                name,
                helper.np_dtype_to_tensor_dtype(array.dtype),
                [f"{name}{i}" if i in open_axes.get(name, ()) else n for i, n in enumerate(array.shape)],
            )
            for name, array in inputs.items()
        ],
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), None)
            for name, dtype in zip(results, outputs, strict=True)
        ],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return OnnxModel(ir.from_proto(onnx.shape_inference.infer_shapes(proto)), name=operator)
