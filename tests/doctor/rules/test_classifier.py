"""Classifiers: the wrong value for the labels, and too many or too few labels."""

from __future__ import annotations

import numpy as np
import pytest

from coreproof.doctor.diagnose import diagnose
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.load import load
from coreproof.runtime.open import session
from tests.build import inner_product, named, network, pool, weights


def classifier(labels: int, scores: str = "", probabilities: str = "main") -> CoreMLModel:
    """Two heads, of ten and of two values; the labels belong to ten."""
    model = network(
        [
            pool("pool", "x", "p"),
            named("flat", "flatten", "p", "f"),
            inner_product("fc", "f", "main", weights(10, 6)),
            inner_product("side", "f", "other", weights(2, 6)),
        ],
        {"x": (6, 4, 4)},
        {probabilities: None},
        labels=[f"label {i}" for i in range(labels)],
    )
    model.network.labelProbabilityLayerName = scores
    return model


def scores(model: CoreMLModel) -> np.ndarray:
    with session(model) as running:
        name = running.signature.scores
        assert name is not None
        return np.asarray(running.run({"x": np.ones((6, 4, 4), np.float32)}, [name])[name]).reshape(-1)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("wrong", ["other", "", "p", "nowhere"])
@pytest.mark.parametrize("probabilities", ["main", "classLabelProbs"])
def test_the_value_that_has_as_many_scores_as_there_are_labels(wrong: str, probabilities: str) -> None:
    diagnosis = diagnose(classifier(10, wrong, probabilities))
    assert [(f.rule, f.repaired) for f in diagnosis] == [("classifier-wrong-blob", True)]
    assert "'main'" in diagnosis[0].repair
    repaired = diagnosis.repaired
    assert isinstance(repaired, CoreMLModel)
    assert repaired.network.labelProbabilityLayerName == "main"
    np.testing.assert_array_equal(scores(repaired), scores(classifier(10, "main")))
    assert list(diagnose(classifier(10, "main", probabilities))) == []


@pytest.mark.sweep(1)
@pytest.mark.parametrize("count", [9, 11, 1000])
def test_labels_of_another_number_are_asked_for(count: int) -> None:
    broken = classifier(count, "main")
    diagnosis = diagnose(broken)
    assert [(f.rule, f.layer, f.repaired) for f in diagnosis] == [("class-label-count", "fc", False)]
    assert "10" in diagnosis[0].repair
    assert f"{count} labels" in diagnosis[0].evidence


@pytest.mark.parametrize("count", [9, 11])
def test_the_right_labels_are_put_in(count: int) -> None:
    right = [f"right {i}" for i in range(10)]
    diagnosis = diagnose(classifier(count, "main"), labels=right)
    assert [(f.rule, f.layer, f.repaired) for f in diagnosis] == [("class-label-count", "fc", True)]
    assert diagnosis.repaired is not None
    assert diagnosis.repaired.signature.labels == tuple(right)


def test_labels_of_a_source_are_the_right_ones() -> None:
    source = classifier(10, "main")
    diagnosis = diagnose(classifier(11, "main"), source)
    assert [(f.rule, f.repaired) for f in diagnosis] == [("class-label-count", True)]
    assert diagnosis.repaired is not None
    assert diagnosis.repaired.signature.labels == source.signature.labels


def test_labels_that_do_not_fit_either_are_not_taken() -> None:
    diagnosis = diagnose(classifier(11, "main"), labels=["a", "b", "c"])
    assert [(f.rule, f.repaired) for f in diagnosis] == [("class-label-count", False)]
    assert "3 were given" in diagnosis[0].repair


def test_a_repaired_classifier_is_stored_and_read_again(tmp_path: object) -> None:
    from pathlib import Path

    repaired = diagnose(classifier(10, "other")).repaired
    assert repaired is not None
    assert list(diagnose(load(repaired.save(Path(str(tmp_path)) / "net.mlmodel")))) == []


@pytest.mark.sweep(1)
@pytest.mark.parametrize("count", [9, 11])
def test_a_program_with_labels_of_another_number(count: int) -> None:
    from coreproof.conversion.convert import convert
    from tests.build import onnx_net

    source = onnx_net(
        [
            ("GlobalAveragePool", "x", "p", {}),
            ("Flatten", "p", "f", {}),
            ("Gemm", "f w", "s", {"transB": 1}),
            ("Softmax", "s", "y", {}),
        ],
        {"x": [1, 8, 4, 4]},
        {"y": [1, 10]},
        w=weights(10, 8),
    )
    healthy = convert(source, "mlprogram", labels=[f"label {i}" for i in range(10)])
    assert isinstance(healthy, CoreMLModel)
    spec = type(healthy.spec)()
    spec.CopyFrom(healthy.spec)
    function = spec.mlProgram.functions["main"]
    operations = function.block_specializations[function.opset].operations
    binding = next(o for o in operations if o.type == "classify").inputs["classes"].arguments[0]
    stored = next((o for o in operations if o.outputs and o.outputs[0].name == binding.name), None)
    classes = binding.value if stored is None else stored.attributes["val"]
    items = classes.immediateValue.list.values
    for _ in range(count - 10):
        items.add().CopyFrom(items[0])
    del items[count:]
    broken = CoreMLModel(spec, name="net", folder=healthy.folder)
    layer = next(n.name for n in broken.graph.nodes if n.operator == "classify")
    assert [(f.rule, f.layer, f.repaired) for f in diagnose(broken)] == [("class-label-count", layer, False)]
    diagnosis = diagnose(broken, labels=[f"right {i}" for i in range(10)])
    assert [(f.rule, f.layer, f.repaired) for f in diagnosis] == [("class-label-count", layer, True)]
    assert list(diagnose(healthy)) == []
