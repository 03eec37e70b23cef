"""Classifiers whose scores are equal and whose classes bear other names are other models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import coreproof as cp
from coreproof.verification.converted import check_conversion
from tests.build import onnx_model

FORMATS: list[dict[str, Any]] = [{"to": "mlprogram", "precision": "fp32"}, {"to": "mlprogram"}, {"to": "neuralnetwork"}]
NAMES = ["cat", "dog", "eel"]


def scores() -> Any:
    return onnx_model(
        '<ir_version: 8, opset_import: ["": 17]> net (float[1,4] x) => (float[1,3] p) { s = MatMul(x, w) p = Softmax(s) }',
        w=np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32),
    )


def zipped(*names: str | int) -> onnx.ModelProto:
    """A classifier as scikit-learn's converter writes it: the winning class, and a dictionary of class to share."""
    kind = "string" if isinstance(names[0], str) else "int64"
    name_type = TensorProto.STRING if kind == "string" else TensorProto.INT64
    w = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["s"]),
        helper.make_node("Softmax", ["s"], ["probabilities"]),
        helper.make_node("ArgMax", ["probabilities"], ["place"], axis=1, keepdims=0),
        helper.make_node("ArrayFeatureExtractor", ["classes", "place"], ["named"], domain="ai.onnx.ml"),
        helper.make_node("Reshape", ["named", "one"], ["label"]),
        helper.make_node(
            "ZipMap", ["probabilities"], ["shares"], domain="ai.onnx.ml", **{f"classlabels_{kind}s": list(names)}
        ),
    ]
    map_type = helper.make_map_type_proto(name_type, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    outputs = [
        helper.make_tensor_value_info("label", name_type, [1]),
        helper.make_value_info("shares", helper.make_sequence_type_proto(map_type)),
    ]
    constants = [
        onnx.numpy_helper.from_array(w, "w"),
        helper.make_tensor("classes", name_type, [3], [n.encode() if isinstance(n, str) else n for n in names]),
        onnx.numpy_helper.from_array(np.array([1]), "one"),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])], outputs, constants
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.mark.parametrize("how", FORMATS)
def test_two_classifiers_of_one_network_that_name_its_classes_otherwise(how: dict[str, Any]) -> None:
    right, swapped = (cp.convert(scores(), labels=names, **how) for names in (NAMES, ["dog", "cat", "eel"]))
    assert cp.verify(right, right)
    found = cp.verify(right, swapped)
    assert not found
    assert (
        "2 of 3 classes bear another name: score 0 is 'cat' in the reference, 'dog' in the candidate" in found.summary()
    )
    assert "it would have passed" not in found.summary()
    # who named all of them anew meant it
    assert cp.verify(right, cp.convert(scores(), labels=["chat", "chien", "anguille"], **how))
    # another case is a spelling, which does not hide that two are exchanged
    assert cp.verify(right, cp.convert(scores(), labels=["Cat", "Dog", "Eel"], **how))
    assert not cp.verify(right, cp.convert(scores(), labels=["Dog", "Cat", "Eel"], **how))
    fewer = cp.verify(right, cp.convert(scores(), labels=["cat", "dog", "cow"], **how))
    assert "1 of 3 classes bear another name: score 2 is 'eel'" in fewer.summary()


@pytest.mark.parametrize("names", [("cat", "dog", "eel"), (7, 3, 5)], ids=["texts", "numbers"])
@pytest.mark.parametrize("how", FORMATS)
def test_a_classifier_is_held_against_the_names_of_its_source(how: dict[str, Any], names: tuple[Any, ...]) -> None:
    source = zipped(*names)
    made = cp.convert(source, **how)
    found = cp.verify(source, made)
    assert found, found.summary()
    assert "compared with nothing" not in found.summary()
    assert {row.reference for row in found.outputs} >= {"label"}
    other = cp.verify(zipped(names[1], names[0], names[2]), made)
    assert not other
    assert "2 of 3 classes bear another name" in other.summary()


@pytest.mark.parametrize("names", [("cat", "dog", "eel"), (7, 3, 5)], ids=["texts", "numbers"])
@pytest.mark.parametrize("how", FORMATS)
def test_the_other_way_round_too(how: dict[str, Any], names: tuple[Any, ...]) -> None:
    source = zipped(*names)
    made = cp.convert(source, **how)
    found = cp.verify(made, source)
    assert found, found.summary()
    assert "compared with nothing" not in found.summary()
    assert not cp.verify(made, zipped(names[1], names[0], names[2]))


def test_a_saved_run_is_held_against_the_names_too(tmp_path: Path) -> None:
    right, swapped = (cp.convert(scores(), "neuralnetwork", labels=names) for names in (NAMES, ["dog", "cat", "eel"]))
    cp.record(right, tmp_path / "run.npz")
    assert cp.verify(tmp_path / "run.npz", right)
    assert cp.verify(right, tmp_path / "run.npz")
    assert "2 of 3 classes bear another name" in cp.verify(tmp_path / "run.npz", swapped).summary()


def test_two_classes_of_equal_scores_may_change_places() -> None:
    """Which of two equal numbers is the larger is no difference of the models; which of two that lie apart is, is one."""
    tied = np.array([[1, 1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]], np.float32)
    text = '<ir_version: 8, opset_import: ["": 17]> net (float[1,4] x) => (float[1,3] p) { s = MatMul(x, w) p = Softmax(s) }'
    model = cp.convert(onnx_model(text, w=tied), "mlprogram", precision="fp32", labels=NAMES)
    barely = tied.copy()
    barely[0, 1] = np.nextafter(np.float32(1), np.float32(2))
    other = cp.convert(onnx_model(text, w=barely), "mlprogram", precision="fp32", labels=NAMES)
    x = {"x": np.array([[2, 0, 0, 0]], np.float32)}
    assert cp.session(model).run(x)["classLabel"] != cp.session(other).run(x)["classLabel"]
    found = cp.verify(model, other, x)
    assert found, found.summary()
    assert "1 index result differs only between numbers that rounding cannot tell apart" in found.summary()
    clearly = tied.copy()
    clearly[0, 1] = 1.5
    assert not cp.verify(model, cp.convert(onnx_model(text, w=clearly), "mlprogram", precision="fp32", labels=NAMES), x)


def renamed_outputs(model: onnx.ModelProto, **names: str) -> onnx.ModelProto:
    made = onnx.ModelProto.FromString(model.SerializeToString())
    for value in (*made.graph.output, *made.graph.value_info):
        value.name = names.get(value.name, value.name)
    for node in made.graph.node:
        node.output[:] = [names.get(name, name) for name in node.output]
        node.input[:] = [names.get(name, name) for name in node.input]
    return made


def without_dictionary(model: onnx.ModelProto) -> onnx.ModelProto:
    """As scikit-learn's converter writes it with zipmap=False: the label, and the probabilities as a tensor."""
    made = onnx.ModelProto.FromString(model.SerializeToString())
    del made.graph.node[-1]
    made.graph.output[1].CopyFrom(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, 3]))
    return made


@pytest.mark.parametrize("names", [("cat", "dog", "eel"), (7, 3, 5)], ids=["texts", "numbers"])
def test_labels_of_other_names_are_held_against_each_other(names: tuple[Any, ...]) -> None:
    right = renamed_outputs(zipped(*names), label="output_label")
    plain, exchanged = (without_dictionary(zipped(*of)) for of in (names, (names[1], names[0], names[2])))
    for one, other in ((right, plain), (plain, right)):
        found = cp.verify(one, other)
        assert found.proves, found.summary()
        assert "compared with nothing" not in found.summary()
        assert len(found.outputs) == 2
    # the winning class is another one for a third of all inputs or more
    fed = {"x": np.random.default_rng(3).standard_normal((1, 4)).astype(np.float32)}
    samples = [{"x": fed["x"] * sign * (1 + k)} for k in range(4) for sign in (1, -1)]
    assert not cp.verify(right, exchanged, samples).agrees
    assert not cp.verify(exchanged, right, samples).agrees


def test_the_label_of_a_core_ml_model_under_another_name() -> None:
    made = cp.convert(zipped(*NAMES), "mlprogram", precision="fp32")
    other = renamed_outputs(zipped(*NAMES), label="output_label", shares="output_probability")
    for one, two in ((other, made), (made, other)):
        found = cp.verify(one, two)
        assert found.proves, found.summary()
        assert "compared with nothing" not in found.summary()
        assert len(found.outputs) == 2


def test_outputs_of_both_sides_that_are_compared_with_nothing_prove_nothing() -> None:
    head = '<ir_version: 8, opset_import: ["": 17]> net (float[1,4] x) =>'
    one = onnx_model(
        f"{head} (float[1,4] y, float[1,4] a, float[1,8] b) {{ y = Neg(x) a = Abs(x) b = Concat<axis=1>(x, x) }}"
    )
    two = onnx_model(f"{head} (float[1,4] y, float[4,1] d) {{ y = Neg(x) a = Abs(x) d = Transpose(a) }}")
    alike = cp.verify(one, two)
    # the only one of four numbers that has no name in common is the other's
    assert [(row.reference, row.candidate) for row in alike.outputs] == [("y", "y"), ("a", "d")]
    assert "output 'b' compared with nothing" in alike.summary().splitlines()[0]
    three = onnx_model(f"{head} (float[1,4] y, float[1,12] d) {{ y = Neg(x) d = Concat<axis=1>(x, x, x) }}")
    found = cp.verify(one, three)
    assert found.agrees
    assert not found.proves
    assert "proves little: outputs 'a', 'b', 'd' compared with nothing" in found.summary().splitlines()[0]


@pytest.mark.parametrize(
    ("names", "others"),
    [(("cat", "dog", "eel"), ("Katze", "Hund", "Aal")), ((0, 1, 2), (10, 12, 11))],
    ids=["texts", "numbers"],
)
def test_an_onnx_model_whose_classes_were_all_named_anew(names: tuple[Any, ...], others: tuple[Any, ...]) -> None:
    """As of Core ML: scores are compared, and the winning class by its position."""
    found = cp.verify(zipped(*names), zipped(*others))
    assert found.proves, found.summary()
    assert {row.reference for row in found.outputs} == {"label", "probabilities"}
    # a label that does not stand where its score does
    wrong = zipped(*others)
    listed = [others[1], others[0], others[2]]
    kind = TensorProto.STRING if isinstance(names[0], str) else TensorProto.INT64
    made = helper.make_tensor("classes", kind, [3], [n.encode() if isinstance(n, str) else n for n in listed])
    next(t for t in wrong.graph.initializer if t.name == "classes").CopyFrom(made)
    samples = [
        {"x": sign * np.random.default_rng(seed).standard_normal((1, 4)).astype(np.float32)}
        for seed in range(4)
        for sign in (1, -1)
    ]
    assert cp.verify(zipped(*names), zipped(*others), samples).agrees
    assert not cp.verify(zipped(*names), wrong, samples).agrees


def test_the_doctor_puts_no_old_names_back() -> None:
    model = cp.convert(scores(), "mlprogram", labels=["Katze", "Hund", "Aal"])
    source = cp.convert(scores(), "mlprogram", labels=NAMES)
    found = cp.diagnose(model, source)
    assert found.healthy, found.summary()
    (told,) = [finding for finding in found if finding.rule == "class-labels"]
    assert told.advice
    assert "all 3 classes bear other names than in the source: score 0 is 'cat' there, and 'Katze' here" in str(told)
    # names that are partly the same are in another order, or of another list
    assert not cp.diagnose(cp.convert(scores(), "mlprogram", labels=["dog", "cat", "eel"]), source).healthy


@pytest.mark.parametrize("how", FORMATS)
def test_convert_holds_the_names_against_the_source_s(how: dict[str, Any]) -> None:
    made = cp.convert(zipped(*NAMES), **how)
    assert check_conversion(cp.load(zipped(*NAMES)), made)
    found = check_conversion(cp.load(zipped("dog", "cat", "eel")), made)
    assert not found
    assert "names its classes otherwise than its source: 2 of 3 classes bear another name" in found.said
    assert check_conversion(cp.load(zipped("dog", "cat", "eel")), made, labelled=True)
    # names that the user gives are the user's
    cp.convert(zipped(*NAMES), labels=["dog", "cat", "eel"], **how)
