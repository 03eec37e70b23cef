"""Small models that tests share."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnx import numpy_helper, parser

from coreproof.model.onnx.model import OnnxModel


def onnx_model(text: str, **weights: Any) -> OnnxModel:
    """The model that ONNX's own text form describes; ``weights`` are initializers by name."""
    proto = parser.parse_model(text)
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items())
    return OnnxModel(ir.from_proto(proto), name="net")


def conv_relu_onnx(seed: int = 0, batch: int | str = 1) -> ir.Model:
    """x [batch, 3, 8, 8] -> Conv 3x3 -> c -> Relu -> y [batch, 4, 8, 8], seeded weights."""
    rng = np.random.default_rng(seed)
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([batch, 3, 8, 8]))
    weights = {
        "w": rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "b": rng.normal(size=4).astype(np.float32),
    }
    initializers = []
    for name, array in weights.items():
        tensor = ir.Tensor(array, name=name)
        initializers.append(
            ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=tensor.shape)
        )
    c = ir.Value(name="c", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([batch, 4, 8, 8]))
    y = ir.Value(name="y", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([batch, 4, 8, 8]))
    nodes = [
        ir.Node("", "Conv", [x, *initializers], [ir.AttrInt64s("pads", [1, 1, 1, 1])], outputs=[c], name="conv"),
        ir.Node("", "Relu", [c], outputs=[y], name="relu"),
    ]
    graph = ir.Graph([x], [y], nodes=nodes, initializers=initializers, opset_imports={"": 17}, name="net")
    return ir.Model(graph, ir_version=9)
