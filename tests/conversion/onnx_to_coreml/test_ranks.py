"""Chains through six dimensions, as pixel shuffles and windowed attention make them, become what Core ML takes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

import coreproof as cp
from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml
from coreproof.errors import ConversionError
from coreproof.model.onnx.model import OnnxModel


def chain(*last: onnx.NodeProto, outputs: list[int]) -> OnnxModel:
    """x [1, 8, 3, 3] -> rank 6 -> transposed -> ``last``."""
    nodes = [
        helper.make_node("Reshape", ["x", "wide"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=[0, 1, 4, 2, 5, 3]),
        *last,
    ]
    constants = {"wide": [1, 2, 2, 2, 3, 3], "narrow": [1, 2, 6, 6]}
    graph = helper.make_graph(
        nodes,
        "shuffle",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 3, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, outputs)],
        [helper.make_tensor(n, TensorProto.INT64, [len(v)], v) for n, v in constants.items()],
    )
    return OnnxModel(
        ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])), name="shuffle"
    )


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_pixel_shuffle_at_the_end_keeps_its_name_and_numbers(precision: str) -> None:
    model = chain(helper.make_node("Reshape", ["b", "narrow"], ["y"]), outputs=[1, 2, 6, 6])
    converted = onnx_to_coreml(model, precision=precision)
    assert max(len(v.shape or ()) for v in converted.graph.values.values()) <= 5
    x = np.arange(72, dtype=np.float32).reshape(1, 8, 3, 3)
    expected = x.reshape(1, 2, 2, 2, 3, 3).transpose(0, 1, 4, 2, 5, 3).reshape(1, 2, 6, 6)
    with cp.session(converted) as running:
        np.testing.assert_array_equal(running.run({"x": x})["y"], expected)


def test_six_dimensions_that_stay_are_refused_by_name() -> None:
    model = chain(helper.make_node("Relu", ["b"], ["y"]), outputs=[1, 2, 3, 2, 3, 2])
    with pytest.raises(ConversionError, match="more dimensions than Core ML has"):
        onnx_to_coreml(model)
