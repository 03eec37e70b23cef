"""A graph that gives nothing, or reads and gives what nothing makes, is refused by name in every format and by every verb."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import coreproof as cp
from coreproof.conversion.check import check
from coreproof.errors import ConversionError, CoreproofError, RunError, UnreadableModelError

OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
CONSTANT = np.arange(6, dtype=np.float32).reshape(2, 3)


def floats(name: str, shape: list[int] | None = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3] if shape is None else shape)


def graph_of(
    nodes: list[onnx.NodeProto], outputs: list[str], inputs: tuple[str, ...] = ("x",), **more: object
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes, "g", [floats(n) for n in inputs], [floats(n) for n in outputs], [numpy_helper.from_array(CONSTANT, "c")]
    )
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=8, **more)


RELU = helper.make_node("Relu", ["x"], ["y"], name="relu")
SILENT = graph_of([RELU], [])


def branching(then: onnx.GraphProto) -> onnx.ModelProto:
    other = helper.make_graph([helper.make_node("Relu", ["x"], ["o"])], "other", [], [floats("o")])
    node = helper.make_node("If", ["k"], ["y"], name="choice", then_branch=then, else_branch=other)
    model = graph_of([node], ["y"])
    model.graph.input.append(helper.make_tensor_value_info("k", TensorProto.BOOL, []))
    return model


def calling(body: list[onnx.NodeProto]) -> onnx.ModelProto:
    function = helper.make_function("own", "F", ["a"], ["b"], body, OPSETS[:1])
    return graph_of([helper.make_node("F", ["x"], ["y"], domain="own")], ["y"], functions=[function])


UNMADE = {
    "an output": (graph_of([RELU], ["z"]), "makes the output 'z'"),
    "an output without a name": (graph_of([RELU], [""]), "makes the output ''"),
    "an operand": (graph_of([helper.make_node("Add", ["x", "q"], ["y"], name="n")], ["y"]), "Add reads 'q'"),
    "an operand in a branch": (
        branching(helper.make_graph([helper.make_node("Add", ["x", "q"], ["t"])], "b", [], [floats("t")])),
        "Add reads 'q'",
    ),
    "a branch's output": (
        branching(helper.make_graph([helper.make_node("Relu", ["x"], ["t"])], "b", [], [floats("z")])),
        "makes the output 'z'",
    ),
    "an operand in a function": (calling([helper.make_node("Add", ["a", "q"], ["b"])]), "Add reads 'q'"),
}


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
def test_a_model_without_outputs_is_refused_and_the_last_values_are_named(to: str) -> None:
    with pytest.raises(ConversionError, match="declares no outputs") as caught:
        cp.convert(cp.load(SILENT), to)
    assert caught.value.where == "g"
    assert "y" in str(caught.value.found)
    assert "extract outputs=y" in str(caught.value.fix)


def test_what_the_refusal_says_to_do_makes_the_model_convert(tmp_path: Path) -> None:
    onnx.save(SILENT, tmp_path / "silent.onnx")
    edited = cp.edit(tmp_path / "silent.onnx", [cp.Edit("extract", {"outputs": "y"})]).model
    made = cp.convert(edited, "mlprogram", precision="fp32")
    with cp.session(made) as running:
        assert np.array_equal(running.run({"x": -CONSTANT})["y"], np.zeros((2, 3), np.float32))


def test_every_other_verb_says_so_too() -> None:
    silent = cp.load(SILENT)
    for verb in (lambda: cp.session(silent), lambda: cp.verify(silent, silent)):
        with pytest.raises(RunError, match="declares no outputs"):
            verb()
    for to in ("mlprogram", "neuralnetwork", "coreai"):
        (obstacle,) = check(silent, to).obstacles
        assert "declares no outputs" in obstacle.problem
    found = cp.diagnose(silent)
    assert [finding.rule for finding in found.findings] == ["missing-output"]
    assert "extract outputs=y" in str(found.findings[0])


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
@pytest.mark.parametrize("case", UNMADE)
def test_what_nothing_makes_is_named(case: str, to: str) -> None:
    model, words = UNMADE[case]
    with pytest.raises(ConversionError, match=words):
        cp.convert(cp.load(model), to, check=False)


def test_several_are_named_at_once() -> None:
    nodes = [helper.make_node("Add", ["x", "q"], ["y"]), helper.make_node("Mul", ["x", "r"], ["w"])]
    with pytest.raises(ConversionError, match="3 values are made by nothing") as caught:
        cp.convert(cp.load(graph_of(nodes, ["y", "w", "z"])), "mlprogram")
    assert all(repr(name) in str(caught.value.found) for name in "qrz")


def test_a_function_whose_output_nothing_makes_is_said_when_the_file_is_read() -> None:
    with pytest.raises(UnreadableModelError, match="a node that makes it") as caught:
        cp.load(calling([helper.make_node("Relu", ["a"], ["t"])]))
    assert "function 'F', output 'b'" in str(caught.value.where)


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (graph_of([], ["x"]), [-CONSTANT]),
        (graph_of([], ["c"]), [CONSTANT]),
        (graph_of([RELU], ["x", "c"]), [-CONSTANT, CONSTANT]),
        (graph_of([RELU], ["y", "y"]), [np.zeros((2, 3), np.float32)]),
        (graph_of([helper.make_node("Neg", ["c"], ["y"])], ["y"]), [-CONSTANT]),
    ],
    ids=["an input alone", "a constant alone", "both beside a node", "one twice", "what follows from a constant"],
)
def test_outputs_that_no_node_makes_of_the_input(model: onnx.ModelProto, expected: list[np.ndarray], to: str) -> None:
    made = cp.convert(cp.load(model), to, **({"precision": "fp32"} if to == "mlprogram" else {}))
    names = [feature.name for feature in made.signature.outputs]
    assert len(set(names)) == len(names) == len(expected)
    with cp.session(made) as running:
        got = running.run({"x": -CONSTANT})
    for name, array in zip(names, expected, strict=True):
        np.testing.assert_array_equal(got[name], array)


def test_a_model_that_is_fed_nothing_has_its_program() -> None:
    model = cp.load(graph_of([helper.make_node("Neg", ["c"], ["y"])], ["y"], inputs=()))
    with cp.session(cp.convert(model, "mlprogram", precision="fp32")) as running:
        assert np.array_equal(running.run({})["y"], -CONSTANT)
    with pytest.raises(CoreproofError, match="at least one input"):
        cp.convert(model, "neuralnetwork")


@pytest.mark.parametrize("shape", [(2, 3), "2x3|4x3", [(1, 4), 3]])
def test_an_input_without_a_shape_gets_the_one_that_is_asked_for(shape: object) -> None:
    graph = helper.make_graph([RELU], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)], [])
    graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, None))
    model = cp.load(helper.make_model(graph, opset_imports=OPSETS, ir_version=8))
    with pytest.raises(ConversionError, match="no shape"):
        cp.convert(model, "mlprogram")
    made = cp.convert(model, "mlprogram", shapes={"x": shape}, precision="fp32")
    with cp.session(made) as running:
        assert np.array_equal(running.run({"x": CONSTANT})["y"], CONSTANT)
