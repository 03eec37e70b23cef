"""The verbs on models that are no networks: they convert, are drawn for, verified and diagnosed as all others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreproof.doctor.diagnose import diagnose
from coreproof.feeding.drawn import random_feeds
from coreproof.model.load import load
from coreproof.precision.converted import convert
from coreproof.runtime.open import session
from coreproof.verification.converted import check_conversion
from coreproof.verification.verify import verify
from tests.build import classic
from tests.conversion.coreml_to_onnx.classic.test_neighbours import neighbours
from tests.conversion.coreml_to_onnx.classic.test_pipeline import habitat
from tests.conversion.coreml_to_onnx.classic.test_recommender import recommender
from tests.conversion.coreml_to_onnx.classic.test_support_vectors import machine
from tests.conversion.coreml_to_onnx.classic.test_suppression import crowd, suppression
from tests.conversion.coreml_to_onnx.classic.test_trees import random_ensemble

KINDS: dict[str, Any] = {
    "pipeline": habitat,
    "trees": lambda: classic("treeEnsembleRegressor", {"x": [4]}, {"y": "double"}, treeEnsemble=random_ensemble(5, 1)),
    "label alone": machine,
    "neighbours": lambda: neighbours(np.eye(3), ["a", "b", "c"], 2),
    "dictionary": lambda: classic(
        "dictVectorizer", {"x": "dictionary string"}, {"y": [2]}, stringToIndex={"vector": ["a", "b"]}
    ),
    "dictionary to dictionary": lambda: classic(
        "imputer", {"x": "dictionary string"}, {"y": "dictionary string"}, imputedStringDictionary={"map": {"a": 1.0}}
    ),
    "text": lambda: classic("oneHotEncoder", {"x": "string"}, {"y": [2]}, stringCategories={"vector": ["a", "b"]}),
    "whole number": lambda: classic(
        "oneHotEncoder", {"x": "int64"}, {"y": [2]}, int64Categories={"vector": [1000, -7]}
    ),
    "texts": lambda: classic(
        "categoricalMapping", {"x": "sequence string"}, {"y": "sequence int64"}, stringToInt64Map={"map": {"a": 3}}
    ),
    "optional": lambda: suppression((20, 3)),
    "recommender": lambda: recommender("dictionary"),
    "places": lambda: classic(
        "featureVectorizer",
        {"x": "dictionary int64"},
        {"y": [3]},
        inputList=[{"inputColumn": "x", "inputDimensions": 3}],
    ),
}


@pytest.mark.sweep(3)
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_drawn_for_converted_and_verified(kind: str, tmp_path: Path) -> None:
    model = KINDS[kind]()
    path = convert(model, to="onnx").save(tmp_path / "made.onnx")
    assert verify(model, load(path)).agrees
    assert not diagnose(load(model.save(tmp_path / "stored.mlmodel"))).findings


def test_what_was_converted_is_checked_against_its_source() -> None:
    assert check_conversion(habitat(), convert(habitat(), to="onnx")).said.startswith("checked: ran once")


def test_a_changed_number_is_found() -> None:
    changed = habitat()
    changed.spec.pipelineRegressor.pipeline.models[1].glmRegressor.weights[0].value[0] += 0.5
    assert not verify(habitat(), type(changed)(changed.spec, name="changed")).agrees


def test_what_is_looked_up_is_drawn_among_what_is_known() -> None:
    texts, wholes = KINDS["text"](), KINDS["whole number"]()
    assert {str(random_feeds(texts, texts, seed)[0]["x"]) for seed in range(12)} == {"a", "b"}
    assert {int(np.asarray(random_feeds(wholes, wholes, seed)[0]["x"])) for seed in range(12)} == {1000, -7}


def test_thresholds_that_need_not_be_fed_are_left_to_the_model() -> None:
    fed = random_feeds(KINDS["optional"](), KINDS["optional"]())[0]
    assert set(fed) == {"raw_confidence", "raw_coordinates"}


def test_a_dictionary_is_one_input_of_the_onnx_file_as_well(tmp_path: Path) -> None:
    path = convert(KINDS["dictionary to dictionary"](), to="onnx").save(tmp_path / "made.onnx")
    with session(load(path)) as running:
        assert [f.kind for f in running.signature.inputs] == ["dictionary"]
        assert running.run({"x": {"b": 2.0}}) == {"y": {"b": 2.0, "a": 1.0}}


def test_scores_of_a_detector_are_compared_row_by_row() -> None:
    scores, boxes = crowd(1, 20, 3)
    feed = {"raw_confidence": scores, "raw_coordinates": boxes}
    assert verify(suppression((20, 3)), suppression((20, 3)), inputs=feed).agrees
    assert not verify(suppression((20, 3)), suppression((20, 3), confidenceThreshold=0.6), inputs=feed).agrees
