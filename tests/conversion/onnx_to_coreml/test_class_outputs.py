"""What becomes of the texts and dictionaries with which scikit-learn's exporters end a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import coreproof as cp
from coreproof.errors import ConversionError, CoreproofError
from coreproof.model.onnx.model import OnnxModel
from tests.build import graph_model, weights

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=12).astype(np.float32)
NAMES = ["ant", "bee", "cat"]
X = RNG.normal(size=(1, 4)).astype(np.float32)


def _text_or_number(labels: Sequence[object]) -> tuple[str, str, int]:
    return ("classlabels_strings", "strings", 8) if isinstance(labels[0], str) else ("classlabels_ints", "int64s", 7)


def classifier(
    folder: Path, labels: Sequence[object], *, zipped: bool = True, votes: bool = False, rows: str | int = "n"
) -> OnnxModel:
    """A scaler, an estimator, and the outputs that the exporter of scikit-learn gives it."""
    own, of_zip, element = _text_or_number(labels)
    if votes:
        estimator = helper.make_node(
            "SVMClassifier", ["scaled"], ["label", "scores"], domain="ai.onnx.ml", kernel_type="LINEAR",
            kernel_params=[0.0, 0.0, 0.0], coefficients=[1.0, -1.0], rho=[0.0], vectors_per_class=[1, 1],
            support_vectors=[float(v) for v in WEIGHTS[:8]], **{own: labels},
        )  # fmt: skip
    else:
        estimator = helper.make_node(
            "LinearClassifier", ["scaled"], ["label", "scores"], domain="ai.onnx.ml", post_transform="SOFTMAX",
            coefficients=[float(v) for v in WEIGHTS[: 4 * len(labels)]], intercepts=[0.0] * len(labels), **{own: labels},
        )  # fmt: skip
    nodes = [
        helper.make_node("Scaler", ["x"], ["scaled"], domain="ai.onnx.ml", offset=[0.1], scale=[2.0]),
        estimator,
        helper.make_node("Identity", ["label"], ["output_label"]),
    ]
    outputs = [helper.make_tensor_value_info("output_label", element, [None])]
    if zipped:
        nodes.append(
            helper.make_node(
                "ZipMap", ["scores"], ["output_probability"], domain="ai.onnx.ml", **{f"classlabels_{of_zip}": labels}
            )
        )
        of = helper.make_map_type_proto(element, helper.make_tensor_type_proto(1, []))
        outputs.append(helper.make_value_info("output_probability", helper.make_sequence_type_proto(of)))
    else:
        outputs.append(helper.make_tensor_value_info("scores", 1, [None, len(labels)]))
    graph = helper.make_graph(nodes, "c", [helper.make_tensor_value_info("x", 1, [rows, 4])], outputs)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    path = folder / "classifier.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    loaded = cp.load(path)
    assert isinstance(loaded, OnnxModel)
    return loaded


def answers(model: object) -> dict[str, object]:
    with cp.session(model) as running:  # type: ignore[arg-type]
        return dict(running.run({"x": X}))


@pytest.mark.sweep(2)
@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
@pytest.mark.parametrize("labels", [NAMES, [7, 3, 5]])
def test_label_and_dictionary_are_those_of_a_core_ml_classifier(tmp_path: Path, labels: list[object], to: str) -> None:
    source = classifier(tmp_path, labels)
    made = cp.convert(source, to)  # type: ignore[arg-type]
    got, wanted = answers(made), answers(source)
    assert got["output_label"] == np.asarray(wanted["output_label"]).reshape(-1)[0]
    (shares,) = wanted["output_probability"]  # type: ignore[misc]
    found = got["output_probability"]
    assert isinstance(found, dict)
    assert list(found) == labels
    np.testing.assert_allclose(list(found.values()), [shares[label] for label in labels], rtol=1e-5)
    assert made.signature.predicted_label == "output_label"
    assert cp.verify(source, made).agrees


def test_a_label_that_is_a_number_stays_an_output_where_no_dictionary_is_asked_for(tmp_path: Path) -> None:
    source = classifier(tmp_path, [7, 3, 5], zipped=False)
    got, wanted = answers(cp.convert(source, "mlprogram")), answers(source)
    np.testing.assert_array_equal(got["output_label"], wanted["output_label"])  # type: ignore[arg-type]
    np.testing.assert_allclose(got["scores"], wanted["scores"], rtol=1e-5)  # type: ignore[arg-type]


def test_a_text_without_a_dictionary_makes_a_classifier_too(tmp_path: Path) -> None:
    source = classifier(tmp_path, NAMES, zipped=False)
    got = answers(cp.convert(source, "mlprogram"))
    assert [got["output_label"]] == np.asarray(answers(source)["output_label"]).tolist()


@pytest.mark.sweep(2)
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("labels", [["no", "yes"], [7, 3]])
def test_what_votes_decide_is_named_by_a_stage_behind_the_network(
    tmp_path: Path, labels: list[object], zipped: bool
) -> None:
    # the scores of a support vector machine are those of its pairs: their highest is not the class that won
    source = classifier(tmp_path, labels, votes=True, zipped=zipped)
    made = cp.convert(source, "mlprogram")
    got, wanted = answers(made), answers(source)
    assert np.asarray(got["output_label"]).reshape(-1)[0] == np.asarray(wanted["output_label"]).reshape(-1)[0]
    if zipped:
        (shares,) = wanted["output_probability"]  # type: ignore[misc]
        found = got["output_probability"]
        assert isinstance(found, dict)
        assert {key: pytest.approx(value, rel=1e-5) for key, value in shares.items()} == found
    else:
        np.testing.assert_allclose(got["scores"], wanted["scores"], rtol=1e-5)  # type: ignore[arg-type]
    assert cp.verify(source, made).agrees


def test_a_classifier_of_texts_answers_for_one_sample_at_a_time(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="one sample at a time"):
        cp.convert(classifier(tmp_path, NAMES, rows=3), "mlprogram")


@pytest.mark.sweep(2)
@pytest.mark.parametrize("batch", ["1,4", "1-4", 3])
@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
def test_a_batch_that_may_be_several_has_no_classifier(to: Any, batch: int | str) -> None:
    free = graph_model("net (float[N, 8] x) => (float[N, 4] y) { y = MatMul (x, w) }", 17, w=weights(8, 4))
    with pytest.raises(ConversionError, match="one sample at a time"):
        cp.convert(free, to, labels=[*"abcd"], batch=batch)
    # a free length that the scores do not have stands in no classifier's way
    text = "net (float[1, 8, N] x) => (float[1, 8] y) { y = ReduceMean <axes = [2], keepdims = 0> (x) }"
    made = cp.convert(graph_model(text, 17), to, labels=[*"abcdefgh"], shapes={"x": [1, 8, (2, 9)]})
    assert made.signature.predicted_label == "classLabel"


def test_estimators_are_computed_in_float32_unless_half_is_asked_for(tmp_path: Path) -> None:
    source = classifier(tmp_path, NAMES)
    made = cp.convert(source, "mlprogram")
    assert not any(value.dtype == "float16" for value in made.graph.values.values())
    assert any("computed in float32" in note for note in made.notes)
    asked = cp.convert(source, "mlprogram", precision="fp16")
    assert any(value.dtype == "float16" for value in asked.graph.values.values())


@pytest.mark.sweep(2)
@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
@pytest.mark.parametrize("zipped", [True, False])
def test_labels_of_the_users_name_the_classes_of_an_estimator(tmp_path: Path, to: Any, zipped: bool) -> None:
    """With and without a dictionary behind it; they stand in the place of the numbers, in their order."""
    source = classifier(tmp_path, [0, 1, 2], zipped=zipped)
    made = cp.convert(source, to, labels=NAMES)
    assert "checked: ran once" in made.notes[-1]
    signature = made.signature
    assert (signature.labels, signature.predicted_label) == (tuple(NAMES), "output_label")
    found = answers(made)
    scores = np.exp((X - 0.1) * 2 @ WEIGHTS.reshape(3, 4).T)[0]
    assert found["output_label"] == NAMES[int(scores.argmax())]
    shares = found[signature.probabilities or ""]
    assert isinstance(shares, dict)
    np.testing.assert_allclose([shares[name] for name in NAMES], scores / scores.sum(), rtol=1e-4)
    assert cp.verify(source, made)


def test_labels_for_another_number_of_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CoreproofError, match=r"(?s)the number of labels is not.*3 labels.*2"):
        cp.convert(classifier(tmp_path, [0, 1, 2], zipped=False), "mlprogram", labels=["a", "b"])


def looked_up(labels: list[str], axis: int = -1) -> OnnxModel:
    """A row of scores, and the name of the first largest, looked up as the standard itself does it."""
    text = f"""c (float[4] x) => (string[] name) {{
        s = MatMul(x, w)
        at = ArgMax<axis={axis}, keepdims=0>(s)
        name = Gather(names, at)
    }}"""
    return graph_model(text, w=WEIGHTS.reshape(4, 3), names=np.array(labels, dtype=object))


@pytest.mark.parametrize("axis", [-1, 0])
def test_a_name_that_is_looked_up_in_a_list_is_a_label(axis: int) -> None:
    source = looked_up(NAMES, axis)
    made = cp.convert(source, "mlprogram")
    with cp.session(made) as running:
        for at in range(6):
            x = np.random.default_rng(at).normal(size=4).astype(np.float32)
            assert running.run({"x": x})["name"] == NAMES[int(np.argmax(x @ WEIGHTS.reshape(4, 3)))]


def test_a_name_at_a_number_that_is_fed_is_refused() -> None:
    """Which may count from the end, as Gather's indices do."""
    model = graph_model(
        "c (int64[1] at) => (string[1] name) { name = Gather(names, at) }", names=np.array(NAMES, dtype=object)
    )
    with pytest.raises(ConversionError):
        cp.convert(model, "mlprogram")
