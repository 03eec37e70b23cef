"""Outputs that nodes leave out: ONNX Runtime ends the process on some of them, so that each of these tests would end all."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import coreproof as cp
from coreproof.model.onnx.model import OnnxModel, from_message

X = np.arange(12, dtype=np.float32).reshape(2, 6) - 5
PARTS = dict(zip("abc", np.split(X, [2, 3], axis=1), strict=True))
LENGTHS = numpy_helper.from_array(np.array([2, 1, 3]), "lengths")


def some_left_out(names: str) -> Iterator[list[str]]:
    """Each choice of outputs that leaves out some, but not all."""
    for kept in itertools.product([False, True], repeat=len(names)):
        if any(kept) and not all(kept):
            yield [name if keep else "" for name, keep in zip(names, kept, strict=True)]


def model(
    nodes: Sequence[onnx.NodeProto],
    outputs: Sequence[str],
    opset: int = 17,
    functions: Sequence[onnx.FunctionProto] = (),
) -> OnnxModel:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs if name],
        [LENGTHS],
    )
    imports = [helper.make_opsetid("", opset), *([helper.make_opsetid("own", 1)] if functions else [])]
    return from_message(helper.make_model(graph, opset_imports=imports, ir_version=8, functions=functions))


def split(outputs: Sequence[str]) -> onnx.NodeProto:
    return helper.make_node("Split", ["x", "lengths"], outputs, axis=1)


def check(made: OnnxModel, expected: dict[str, np.ndarray]) -> None:
    """The source runs, and so does what it becomes; both answer what numpy does."""
    converted = cp.convert(made, "mlprogram", precision="fp32")
    assert any(note.startswith("checked") for note in converted.notes)
    for each in (made, converted):
        with cp.session(each) as running:
            found = running.run({"x": X})
        assert set(found) == set(expected)
        for name, want in expected.items():
            np.testing.assert_allclose(np.asarray(found[name]), want, rtol=1e-5, atol=1e-5)
    assert cp.verify(made, converted)


@pytest.mark.parametrize("outputs", list(some_left_out("abc")), ids=str)
def test_parts_of_a_split_may_be_left_out(outputs: list[str]) -> None:
    check(model([split(outputs)], outputs), {name: PARTS[name] for name in outputs if name})


@pytest.mark.sweep(1)
@pytest.mark.parametrize("outputs", [["a", "", "c"], ["", "", "c"], ["a", "", ""]], ids=str)
def test_outputs_of_branches_and_within_them_may_be_left_out(outputs: list[str]) -> None:
    def branch(first: str, sign: str) -> onnx.GraphProto:
        inner = split([f"{first}0", "", f"{first}2"])
        ends = [helper.make_node(sign, [f"{first}{at}"], [f"{first}_{at}"]) for at in (0, 2)]
        middle = helper.make_node(sign, ["x"], [f"{first}_1"])
        made = [helper.make_tensor_value_info(f"{first}_{at}", TensorProto.FLOAT, None) for at in range(3)]
        return helper.make_graph([inner, *ends, middle], first, [], made)

    asked = helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0)
    positive = helper.make_node("Greater", ["sum", "sum"], ["never"])
    chosen = helper.make_node("If", ["never"], outputs, then_branch=branch("t", "Abs"), else_branch=branch("e", "Neg"))
    expected = {"a": -PARTS["a"], "b": -X, "c": -PARTS["c"]}
    check(model([asked, positive, chosen], outputs), {name: expected[name] for name in outputs if name})


@pytest.mark.parametrize("outputs", list(some_left_out("abc")), ids=str)
def test_outputs_of_a_function_and_within_it_may_be_left_out(outputs: list[str]) -> None:
    body = [
        helper.make_node("Constant", [], ["n"], value=LENGTHS),
        helper.make_node("Split", ["x", "n"], ["p", "", "r"], axis=1),
        helper.make_node("Neg", ["p"], ["q"]),
    ]
    own = helper.make_function("own", "cut", ["x"], ["p", "q", "r"], body, [helper.make_opsetid("", 17)])
    expected = {"a": PARTS["a"], "b": -PARTS["a"], "c": PARTS["c"]}
    call = helper.make_node("cut", ["x"], outputs, domain="own")
    check(model([call], outputs, functions=[own]), {name: expected[name] for name in outputs if name})


@pytest.mark.parametrize("outputs", [["a", "", "c"], ["a", "b", ""], ["", "", "c"]], ids=str)
def test_outputs_of_a_loop_may_be_left_out(outputs: list[str]) -> None:
    value = lambda name, kind, shape: helper.make_tensor_value_info(name, kind, shape)  # noqa: E731
    body = helper.make_graph(
        [
            helper.make_node("Add", ["s", "s"], ["s2"]),
            helper.make_node("Neg", ["t"], ["t2"]),
            helper.make_node("Identity", ["s2"], ["seen"]),
            helper.make_node("Identity", ["go"], ["on"]),
        ],
        "body",
        [
            value("at", TensorProto.INT64, []),
            value("go", TensorProto.BOOL, []),
            value("s", TensorProto.FLOAT, X.shape),
            value("t", TensorProto.FLOAT, X.shape),
        ],
        [
            value("on", TensorProto.BOOL, []),
            *(value(name, TensorProto.FLOAT, X.shape) for name in ("s2", "t2", "seen")),
        ],
    )
    times = helper.make_node("Constant", [], ["times"], value=numpy_helper.from_array(np.array(3)))
    expected = {"a": 8 * X, "b": -X, "c": np.stack([2 * X, 4 * X, 8 * X])}
    looped = helper.make_node("Loop", ["times", "", "x", "x"], outputs, body=body)
    check(model([times, looped], outputs), {name: expected[name] for name in outputs if name})


@pytest.mark.parametrize("outputs", [["y", "", "inv"], ["y", "mean", ""], ["y", "", ""]], ids=str)
def test_statistics_of_a_layer_norm_may_be_left_out(outputs: list[str]) -> None:
    ones = helper.make_node("Constant", [], ["g"], value=numpy_helper.from_array(np.ones(6, np.float32)))
    mean = X.mean(1, keepdims=True)
    inverse = 1 / np.sqrt(X.var(1, keepdims=True) + 1e-5)
    expected = {"y": (X - mean) * inverse, "mean": mean, "inv": inverse}
    node = helper.make_node("LayerNormalization", ["x", "g"], outputs)
    check(model([ones, node], outputs), {name: expected[name] for name in outputs if name})


def test_what_is_written_to_a_file_keeps_as_many_outputs_as_a_split_has(tmp_path: object) -> None:
    path = f"{tmp_path}/split.onnx"
    model([split(["a", "", ""])], ["a"]).save(path)
    (node,) = onnx.load(path).graph.node
    assert len(node.output) == 3
    assert all(node.output)
