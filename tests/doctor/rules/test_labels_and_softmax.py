"""Labels at the wrong scores, and a softmax too few or too many."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import coreproof as cp
from coreproof.conversion.onnx_to_coreml.convert import ImageInput, onnx_to_coreml
from coreproof.difference.label_change import label_words
from coreproof.doctor.diagnose import diagnose
from coreproof.model.onnx.model import OnnxModel
from coreproof.runtime.open import session
from tests.build import conv_relu_onnx

LABELS = ["ape", "bee", "cat", "dog"]


def source(softmax: bool = False, labels: list[str] | None = None) -> OnnxModel:
    """conv -> relu -> global mean -> [1, 4] scores -> softmax if asked for."""
    model = conv_relu_onnx()
    graph = model.graph
    value = graph.outputs[0]
    for operator, name in (
        ("GlobalAveragePool", "pooled"),
        ("Flatten", "flat"),
        *((("Softmax", "soft"),) if softmax else ()),
    ):
        made = ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=None)
        graph.append(ir.Node("", operator, [value], outputs=[made], name=operator.lower()))
        value = made
    value.shape = ir.Shape([1, 4])
    graph.outputs[:] = [value]
    return OnnxModel(model, name="source", labels=None if labels is None else tuple(labels))


@pytest.mark.sweep(3)
@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (["bee", "cat", "dog", "eel"], "shifted by -1: without ape, with eel"),
        (["background", "ape", "bee", "cat"], "shifted by +1: without dog, with background"),
        (["dog", "bee", "cat", "ape"], "permuted: 2 of 4 in another place"),
        (["ape", "bee", "cat", "cow"], "1 removed (dog), 1 added (cow)"),
    ],
)
def test_labels_are_put_right(to: Any, stored: list[str], words: str) -> None:
    model = cp.convert(source(), to, precision="fp32", images={"x": ImageInput()}, labels=stored)
    diagnosis = diagnose(model, source(), labels=LABELS)
    assert [(f.rule, f.repaired) for f in diagnosis] == [("class-labels", True)], diagnosis.to_json()
    assert words in diagnosis.findings[0].evidence
    assert diagnosis.repaired is not None
    assert list(diagnosis.repaired.signature.labels or ()) == LABELS
    assert diagnose(diagnosis.repaired, source(), labels=LABELS).healthy


def test_the_sources_own_labels_are_the_right_ones() -> None:
    model = cp.convert(source(), "mlprogram", images={"x": ImageInput()}, labels=LABELS[::-1])
    diagnosis = diagnose(model, source(labels=LABELS))
    assert [(f.rule, f.repaired) for f in diagnosis] == [("class-labels", True)], diagnosis.to_json()


def test_nothing_is_said_of_labels_that_nobody_knows() -> None:
    model = cp.convert(source(), "mlprogram", images={"x": ImageInput()}, labels=LABELS[::-1])
    assert diagnose(model, source()).healthy


def test_sorted_labels_are_called_sorted() -> None:
    assert label_words(["dog", "cat", "ape", "bee"], ["ape", "bee", "cat", "dog"]).startswith("permuted: sorted")


@pytest.mark.sweep(2)
@pytest.mark.parametrize("to", ["onnx", "mlprogram", "neuralnetwork"])
@pytest.mark.parametrize(("there", "here"), [(True, False), (False, True)])
def test_a_softmax_too_few_or_too_many(to: Any, there: bool, here: bool) -> None:
    model = source(softmax=here)
    candidate = model if to == "onnx" else cp.convert(model, to, precision="fp32")
    diagnosis = diagnose(candidate, source(softmax=there))
    assert [(f.rule, f.repaired) for f in diagnosis] == [("softmax", True)], diagnosis.to_json()
    assert diagnosis.after.startswith("all ")


def test_a_doubled_softmax_is_called_one() -> None:
    model = onnx_to_coreml(source(softmax=True), "mlprogram", precision="fp32", labels=LABELS, softmax=True)
    diagnosis = diagnose(model, source(softmax=True))
    assert [(f.rule, f.repaired) for f in diagnosis] == [("softmax", True)], diagnosis.to_json()
    assert "which is one already" in diagnosis.findings[0].evidence
    assert diagnosis.repaired is not None
    x = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    with session(diagnosis.repaired) as repaired, session(source(softmax=True)) as right:
        scores = repaired.run({"x": x}, [repaired.signature.scores or ""])[repaired.signature.scores or ""]
        np.testing.assert_allclose(np.ravel(scores), np.ravel(right.run({"x": x})["soft"]), rtol=1e-5)
