"""Before opset 7 an operator said with ``axis`` where its second operand begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import coreproof as cp


def model(operator: str, shape: list[int], axis: int, *, constant: bool) -> onnx.ModelProto:
    """``operator`` of [1, 4, 3, 4] and ``shape`` from ``axis`` on; the second operand from a Constant, or fed."""
    numbers = np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)
    held = onnx.helper.make_node("Constant", [], ["b"], value=onnx.numpy_helper.from_array(numbers))
    node = onnx.helper.make_node(operator, ["a", "b"], ["y"], axis=axis, broadcast=1)
    feature = onnx.helper.make_tensor_value_info
    inputs = [feature("a", onnx.TensorProto.FLOAT, [1, 4, 3, 4])]
    if not constant:
        inputs.append(feature("b", onnx.TensorProto.FLOAT, shape))
    graph = onnx.helper.make_graph(
        [held, node] if constant else [node],
        "old",
        inputs,
        [feature("y", onnx.TensorProto.FLOAT, [1, 4, 3, 4])],
    )
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 6)], ir_version=3)
    return proto


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize(
    ("operator", "shape", "axis"),
    [("Add", [4], 1), ("Mul", [4, 3], 1), ("Sub", [3], -2), ("Div", [4], 3), ("Add", [1, 4], 0)],
)
def test_the_axis_at_which_an_operand_begins_is_taken(
    tmp_path: Path, to: Any, constant: bool, operator: str, shape: list[int], axis: int
) -> None:
    a = np.random.default_rng(0).normal(size=(1, 4, 3, 4)).astype(np.float32)
    b = np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)
    at = axis % 4
    wide = b.reshape([1] * at + shape + [1] * (4 - at - len(shape)))
    want = {"Add": a + wide, "Mul": a * wide, "Sub": a - wide, "Div": a / wide}[operator]
    onnx.save(model(operator, shape, axis, constant=constant), tmp_path / "old.onnx")
    precision: Any = {"precision": "fp32"} if to == "mlprogram" else {}
    made = cp.convert(tmp_path / "old.onnx", to, **precision)
    fed = {"a": a} if constant else {"a": a, "b": b}
    np.testing.assert_allclose(cp.session(made).run(fed)["y"], want, rtol=1e-6, atol=1e-6)
