"""ONNX's own evaluator as an engine: of models for which ONNX Runtime has no kernel."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import coreproof as cp
import coreproof.runtime.reference
from coreproof.errors import InputError, RunError, TooLargeError, UnsupportedModelError
from coreproof.runtime.open import session

X = np.random.default_rng(0).normal(size=(2, 3))
DOUBLE = TensorProto.DOUBLE


def value(name: str, kind: int = DOUBLE, shape: tuple[int, ...] | None = (2, 3)) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model(
    nodes: list[onnx.NodeProto], inputs: list[onnx.ValueInfoProto], opset: int = 17, **more: object
) -> onnx.ModelProto:
    stored = [numpy_helper.from_array(np.float64([1, 2, 3]), "w")]
    graph = helper.make_graph(nodes, "g", inputs, [value("y", shape=None)], stored)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, **more)


def selu(x: np.ndarray) -> np.ndarray:
    return 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x))


# ONNX Runtime has no Selu of doubles
SELU = helper.make_node("Selu", ["x"], ["s"], "first")
PLAIN = model([SELU, helper.make_node("Mul", ["s", "w"], ["y"], "second")], [value("x")])


def test_what_onnx_runtime_lacks_runs_and_shows_its_inner_values() -> None:
    loaded = cp.load(PLAIN)
    with session(loaded) as other, pytest.raises(UnsupportedModelError, match="reference"):
        other.run({"x": X})
    with session(loaded, "reference") as running:
        assert running.tappable == {"s", "y"}
        found = running.run({"x": X}, ["s"])
    np.testing.assert_allclose(found["s"], selu(X), rtol=1e-6)
    np.testing.assert_allclose(found["y"], selu(X) * [1, 2, 3], rtol=1e-6)


@pytest.mark.parametrize("chosen", [True, False])
def test_branches_read_what_lies_around_them(chosen: bool) -> None:
    then = helper.make_graph([helper.make_node("Mul", ["s", "w"], ["t"])], "then", [], [value("t")])
    other = helper.make_graph([helper.make_node("Neg", ["x"], ["e"])], "other", [], [value("e")])
    choice = helper.make_node("If", ["k"], ["y"], then_branch=then, else_branch=other)
    branching = cp.load(model([SELU, choice], [value("x"), value("k", TensorProto.BOOL, ())]))
    with session(branching, "reference") as running:
        found = running.run({"x": X, "k": np.array(chosen)})["y"]
    np.testing.assert_allclose(found, selu(X) * [1, 2, 3] if chosen else -X, rtol=1e-6)


def test_functions_of_the_file_are_called() -> None:
    body = [helper.make_node("Selu", ["a"], ["b"])]
    function = helper.make_function("own", "F", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    calling = model([helper.make_node("F", ["x"], ["y"], domain="own")], [value("x")], functions=[function])
    with session(cp.load(calling), "reference") as running:
        np.testing.assert_allclose(running.run({"x": X})["y"], selu(X), rtol=1e-6)


def test_what_is_wrong_is_said() -> None:
    lacking = cp.load(model([helper.make_node("Tile", ["x", "x", "x"], ["y"], "t")], [value("x")], opset=1))
    with (
        session(lacking, "reference") as running,
        pytest.raises(UnsupportedModelError, match="does not run the model") as caught,
    ):
        running.run({"x": X})
    assert "node 't'" in str(caught.value.where)
    with session(cp.load(PLAIN), "reference") as running, pytest.raises(InputError, match="do not fit"):
        running.run({"z": X})
    made = cp.convert(cp.load(PLAIN), "mlprogram", check=False)
    with pytest.raises(RunError, match="does not run mlprogram"):
        session(made, "reference")


def test_sizes_are_checked_before_anything_is_made() -> None:
    large = [
        helper.make_node("Constant", [], ["n"], value_ints=[1 << 20, 1 << 20]),
        helper.make_node("ConstantOfShape", ["n"], ["y"]),
    ]
    with session(cp.load(model(large, [value("x")])), "reference") as running, pytest.raises(TooLargeError):
        running.run({"x": X})


def test_it_gives_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coreproof.runtime.reference, "_SECONDS", -math.inf)
    with session(cp.load(PLAIN), "reference") as running, pytest.raises(UnsupportedModelError, match="seconds"):
        running.run({"x": X})


def test_verify_takes_it_and_finds_what_is_wrong() -> None:
    source = cp.load(PLAIN)
    made = cp.convert(source, "mlprogram", precision="fp32", check=False)
    assert cp.verify(source, made, {"x": X}, reference_engine="reference")
    wrong = model([SELU, helper.make_node("Add", ["s", "w"], ["y"], "second")], [value("x")])
    found = cp.verify(cp.load(wrong), made, {"x": X}, reference_engine="reference")
    assert not found
    assert found.first_divergence is not None
    assert found.first_divergence.reference == "y"


@pytest.mark.parametrize(
    ("node", "opset", "told"),
    [
        (helper.make_node("Add", ["x", "v"], ["y"], axis=0, broadcast=1), 6, "no notice of axis"),
        (helper.make_node("Softmax", ["x"], ["y"], axis=0), 11, "all axes from 0 on as one"),
        (helper.make_node("Hardmax", ["x"], ["y"], axis=0), 11, "all axes from 0 on as one"),
    ],
    ids=lambda given: given.op_type if isinstance(given, onnx.NodeProto) else str(given),
)
def test_a_form_of_an_early_opset_that_it_takes_for_a_later_one_is_refused(
    node: onnx.NodeProto, opset: int, told: str
) -> None:
    """It computed another axis than the model means, and a right conversion was called wrong."""
    inputs = [value("x", shape=(2, 2)), value("v", shape=(2,))]
    fed = {"x": X[:, :2], "v": X[0, :2]}
    made = cp.load(model([node], inputs[: len(node.input)], opset))
    with session(made, "reference") as running, pytest.raises(UnsupportedModelError, match=told):
        running.run({name: fed[name] for name in node.input})


@pytest.mark.parametrize("opset", [6, 11])
def test_forms_of_early_opsets_that_mean_the_same_are_computed(opset: int) -> None:
    more = {"broadcast": 1} if opset == 6 else {}
    nodes = [helper.make_node("Add", ["x", "v"], ["s"], **more), helper.make_node("Softmax", ["s"], ["y"], axis=1)]
    with session(cp.load(model(nodes, [value("x"), value("v", shape=(3,))], opset)), "reference") as running:
        (found,) = running.run({"x": X, "v": X[0]}).values()
    e = np.exp(X + X[0])
    np.testing.assert_allclose(found, e / e.sum(1, keepdims=True), rtol=1e-6)
