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


@pytest.mark.sweep(5)
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


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
def test_it_is_taken_in_the_branches_of_an_if_too(to: Any) -> None:
    """A square operand fits in two ways, so that the wrong one is no error."""
    helper, feature = onnx.helper, onnx.helper.make_tensor_value_info

    def branch(operator: str) -> onnx.GraphProto:
        node = helper.make_node(operator, ["x", "b"], [operator], axis=0, broadcast=1)
        return helper.make_graph([node], operator, [], [feature(operator, onnx.TensorProto.FLOAT, [3, 3])])

    graph = helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], then_branch=branch("Add"), else_branch=branch("Mul"))],
        "old",
        [feature("c", onnx.TensorProto.BOOL, [1]), feature("x", onnx.TensorProto.FLOAT, [3, 3])],
        [feature("y", onnx.TensorProto.FLOAT, [3, 3])],
        [onnx.numpy_helper.from_array(np.float32([1, 2, 3]), "b")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 6)], ir_version=3)
    precision: Any = {"precision": "fp32"} if to == "mlprogram" else {}
    x, b = np.arange(9, dtype=np.float32).reshape(3, 3), np.float32([[1], [2], [3]])
    with cp.session(cp.convert(proto, to, check=False, **precision)) as running:
        for chosen, want in ((True, x + b), (False, x * b)):
            np.testing.assert_allclose(running.run({"c": np.array([chosen]), "x": x})["y"], want, rtol=1e-6)
