"""Nodes that are not what their operators' definitions ask for are refused by name, before a pass reads what is not there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import coreproof as cp
from coreproof.conversion.operators import ONNX
from coreproof.errors import ConversionError


def _model(*nodes: onnx.NodeProto, opset: int = 17) -> onnx.ModelProto:
    x, z = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xz")
    return helper.make_model(
        helper.make_graph(nodes, "g", [x], [z]), opset_imports=[helper.make_opsetid("", opset)], ir_version=8
    )


@pytest.mark.parametrize("opset", [17, 64], ids=["a released opset", "one that is to come"])
@pytest.mark.parametrize(
    ("node", "found", "expected"),
    [
        (helper.make_node("Mul", ["x"], ["z"]), "1 input ('x')", "2 inputs"),
        (helper.make_node("Pow", ["x"], ["z"]), "1 input ('x')", "2 inputs"),
        (helper.make_node("Relu", [], ["z"]), "0 inputs", "1 input"),
        (helper.make_node("Relu", ["x", "x"], ["z"]), "2 inputs ('x', 'x')", "1 input"),
        (helper.make_node("Relu", ["x"], ["z", "more"]), "2 outputs ('z', 'more')", "1 output"),
        (helper.make_node("Clip", ["x", "x", "x", "x"], ["z"]), "4 inputs ('x', 'x', 'x', 'x')", "1 to 3 inputs"),
        (helper.make_node("Sum", [], ["z"]), "0 inputs", "1 or more inputs"),
        (helper.make_node("Add", ["x", ""], ["z"]), "no input 'B'", "the input 'B'"),
        (helper.make_node("Cast", ["x"], ["z"]), "no attribute 'to'", "the attribute 'to'"),
    ],
    ids=lambda value: value.op_type if isinstance(value, onnx.NodeProto) else "",
)
def test_a_node_that_is_not_as_defined_is_named(node: onnx.NodeProto, found: str, expected: str, opset: int) -> None:
    with pytest.raises(ConversionError) as refused:
        cp.convert(_model(node, opset=opset), to="mlprogram")
    assert refused.value.found == found
    assert refused.value.expected == expected
    assert "node 'z'" in str(refused.value.where)


def test_all_of_them_at_once_and_inside_branches_too() -> None:
    inner = helper.make_graph(
        [helper.make_node("Sqrt", [], ["b"])], "b", [], [helper.make_tensor_value_info("b", TensorProto.FLOAT, [2, 3])]
    )
    condition = helper.make_node("Constant", [], ["c"], value=helper.make_tensor("c", TensorProto.BOOL, [], [True]))
    choice = helper.make_node("If", ["c"], ["m"], then_branch=inner, else_branch=inner)
    with pytest.raises(ConversionError, match="nodes are not what their operators' definitions ask for") as refused:
        cp.convert(_model(condition, choice, helper.make_node("Mul", ["m"], ["z"])), to="mlprogram")
    assert "'b' (Sqrt)" in str(refused.value)
    assert "'z' (Mul)" in str(refused.value)


def test_inputs_that_may_be_left_out_are() -> None:
    """Clip without its least: what is optional may have no name."""
    six = helper.make_node("Constant", [], ["six"], value_float=6.0)
    model = _model(six, helper.make_node("Clip", ["x", "", "six"], ["z"]))
    converted = cp.convert(model, to="mlprogram", precision="fp32")
    x = np.array([[-9, 0, 5], [6, 7, 90]], np.float32)
    np.testing.assert_array_equal(cp.session(converted).run({"x": x})["z"], np.minimum(x, 6))


def test_the_domain_of_the_standard_has_two_names() -> None:
    """ONNX's checker and ONNX Runtime take "ai.onnx" for "": a Slice of opset 13 is none of opset 1."""
    starts, ends = (helper.make_tensor(name, TensorProto.INT64, [1], [at]) for name, at in (("s", 0), ("e", 1)))
    x, z = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", [2, 3]), ("z", [1, 3]))
    )
    graph = helper.make_graph([helper.make_node("Slice", ["x", "s", "e"], ["z"])], "g", [x], [z], [starts, ends])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("ai.onnx", 13)], ir_version=8)
    converted = cp.convert(model, to="mlprogram", precision="fp32")
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(cp.session(converted).run({"x": values})["z"], values[:1])


@pytest.mark.parametrize(("named", "is_known"), [("FLOAT", True), ("float", True), ("NUMBER", False)])
def test_a_cast_of_the_first_opsets_names_its_type_in_text(named: str, is_known: bool) -> None:
    model = _model(helper.make_node("Cast", ["x"], ["z"], to=named), opset=1)
    if is_known:
        converted = cp.convert(model, to="mlprogram", check=False)
        x = np.array([[1.5, -2, 3], [4, 5, 6]], np.float32)
        np.testing.assert_array_equal(cp.session(converted).run({"x": x})["z"], x)
    else:
        with pytest.raises(ConversionError, match="a type that ONNX does not have"):
            cp.convert(model, to="mlprogram")


def test_each_operator_is_named_by_a_test_beside_this_one() -> None:
    """ONNX's own tests judge most of them as well, but not with each change."""
    here = Path(__file__).parent
    texts = [path.read_text(encoding="utf-8") for path in here.rglob("*.py") if path.name != "test_backend.py"]
    named = set(re.findall(r"\w+", "\n".join(texts)))
    assert [operator for operator in ONNX if operator.rpartition(":")[2] not in named] == []
