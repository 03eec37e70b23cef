"""ONNX's shape inference on files whose nodes contradict themselves."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper

import coreproof as cp
from coreproof.errors import ConversionError
from coreproof.model.onnx.model import from_message
from coreproof.model.onnx.shapes import inferred, light_proto

ML = "ai.onnx.ml"


@pytest.mark.parametrize("axis", [0, 1])
def test_texts_are_looked_up_behind_a_node_that_inference_gives_up_on(axis: int) -> None:
    """What has no type ended the process in onnx's inference of LabelEncoder."""
    nodes = [
        helper.make_node("Gather", ["x", "first"], ["word"], "pick", axis=axis),
        helper.make_node("LabelEncoder", ["word"], ["n"], domain=ML, keys_strings=["a"], values_floats=[1.0]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.STRING, [3])]
    outputs = [helper.make_tensor_value_info("n", TensorProto.FLOAT, None)]
    first = helper.make_tensor("first", TensorProto.INT64, [1], [0])
    graph = helper.make_graph(nodes, "g", inputs, outputs, [first])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(ML, 3)]
    model = from_message(helper.make_model(graph, opset_imports=opsets, ir_version=8))
    shapes = {v.name: v.type.tensor_type for v in inferred(light_proto(model.ir)).graph.output}
    assert shapes["n"].elem_type == TensorProto.FLOAT
    assert [d.dim_value for d in shapes["n"].shape.dim] == ([1] if axis == 0 else [])
    if axis:
        with pytest.raises(ConversionError, match="axis = 1"):
            cp.convert(model, "mlprogram")
