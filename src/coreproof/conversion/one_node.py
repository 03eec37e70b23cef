"""A model of one ONNX node, for ONNX's own reference implementation to compute a constant with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx


def one_node_model(node: onnx.NodeProto, feeds: Mapping[str, np.ndarray], opsets: Mapping[str, int]) -> onnx.ModelProto:
    """The node with inputs of the dtypes and shapes of ``feeds``, and outputs of any type."""
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(a.dtype)), a.shape)
        for name, a in feeds.items()
    ]
    graph = onnx.helper.make_graph([node], "fold", inputs, [onnx.ValueInfoProto(name=name) for name in node.output])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid(d, v) for d, v in opsets.items()])
