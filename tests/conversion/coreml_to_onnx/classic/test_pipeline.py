"""Pipelines: stages of every kind, how they are connected, and what of them makes no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from coreproof.conversion.convert import convert
from coreproof.errors import ConversionError, UnreadableModelError, UnsupportedModelError
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.files.wire import field_bytes
from coreproof.model.load import load
from coreproof.runtime.open import session
from tests.build import classic, inner_product, mil, named, network, pipeline, weights


def vectorizer(**dimensions: int) -> Any:
    columns = [{"inputColumn": name, "inputDimensions": count} for name, count in dimensions.items()]
    inputs: dict[str, Any] = {n: "double" if c == 1 else [c] for n, c in dimensions.items()}
    return classic("featureVectorizer", inputs, {"all": [sum(dimensions.values())]}, inputList=columns)


def regressor(count: int, name: str = "all") -> Any:
    return classic("glmRegressor", {name: [count]}, {"price": "double"}, weights=[{"value": list(range(1, count + 1))}],
                   offset=[0.5])  # fmt: skip


def habitat() -> Any:
    return pipeline("pipelineRegressor", [vectorizer(a=1, b=1), regressor(2)], {"a": "double", "b": "double"},
                    {"price": "double"})  # fmt: skip


def classifier(labels: list[str]) -> Any:
    layers = [inner_product("fc", "x", "fc", weights(len(labels), 3)), named("soft", "softmax", "fc", "chances")]
    return network(layers, {"x": [3]}, {"chances": [len(labels)]}, labels=labels)


def test_a_vectorizer_and_a_regressor() -> None:
    with session(habitat()) as running:
        assert running.run({"a": 2, "b": 3.5}) == {"price": 2 + 7 + 0.5}
        assert type(running.run({"a": 2, "b": 3})["price"]) is float


def test_a_pipeline_becomes_an_onnx_file_that_any_engine_runs(tmp_path: Path) -> None:
    path = convert(habitat(), to="onnx").save(tmp_path / "habitat.onnx")
    got = ort.InferenceSession(path).run(None, {"a": np.array(2.0), "b": np.array(3.5)})
    assert got[0] == 9.5


def test_pipelines_in_pipelines_and_a_stage_that_overwrites_what_it_reads() -> None:
    double = classic("scaler", {"all": [2]}, {"all": [2]}, scaleValue=[2.0])
    inner = pipeline("pipeline", [vectorizer(a=1, b=1), double], {"a": "double", "b": "double"}, {"all": [2]})
    outer = pipeline("pipelineRegressor", [inner, regressor(2)], {"a": "double", "b": "double"}, {"price": "double"})
    with session(outer) as running:
        assert running.run({"a": 1, "b": 1})["price"] == 6.5


def test_a_network_as_a_stage_gives_what_it_gives_by_itself() -> None:
    labels = ["a", "b", "c"]
    scale = classic("scaler", {"raw": [3]}, {"x": [3]}, scaleValue=[0.5])
    model = pipeline("pipelineClassifier", [scale, classifier(labels)], {"raw": [3]},
                     {"label": "string", "chances": "dictionary string"})  # fmt: skip
    with session(model) as running, session(classifier(labels)) as alone:
        got, wanted = running.run({"raw": np.array([1.0, 2.0, -4.0])}), alone.run({"x": np.array([0.5, 1.0, -2.0])})
    assert got["label"] == wanted["label"]
    assert running.signature.scores == "chances"
    assert got["chances"] == pytest.approx(wanted["chances"], rel=1e-6)


def test_two_networks_of_the_same_names_do_not_get_into_each_others_way() -> None:
    def stage(source: str, target: str) -> Any:
        layers = [
            inner_product("fc", source, "inner", weights(3, 3)),
            named("act", "activation", "inner", target, ReLU={}),
        ]
        return network(layers, {source: [3]}, {target: [3]})

    first, second = stage("x", "y"), stage("y", "z")
    x = np.array([1.0, 2.0, 3.0], np.float32)
    with session(pipeline("pipeline", [first, second], {"x": [3]}, {"z": [3]})) as running:
        got = running.run({"x": x})["z"]
    once = np.maximum(weights(3, 3) @ x, 0)
    np.testing.assert_allclose(got, np.maximum(weights(3, 3) @ once, 0), rtol=1e-5)


def test_a_program_as_a_stage_reads_its_weights_in_the_pipelines_package(tmp_path: Path) -> None:
    matrix = weights(4, 4)
    program = mil(tmp_path, lambda mb, x: mb.linear(x=x, weight=matrix, bias=np.zeros(4, np.float32), name="y"), (1, 4))
    tail = classic("arrayFeatureExtractor", {"y": [1, 4]}, {"third": "double"}, extractIndex=[2])
    whole = pipeline("pipeline", [program, tail], {"a": [1, 4]}, {"third": "double"})
    stored = CoreMLModel(whole.spec, name="p", folder=program.folder).save(tmp_path / "p.mlpackage")
    x = weights(1, 4, seed=2)
    with session(load(stored)) as running:
        assert running.run({"a": x})["third"] == pytest.approx(float((x @ matrix.T)[0, 2]), rel=1e-5)


def test_a_classifiers_label_and_chances_go_on_to_later_stages() -> None:
    glm = classic("glmClassifier", {"x": [2]}, {"label": "string", "chances": "dictionary string"},
                  weights=[{"value": [1.0, 0.0]}, {"value": [0.0, 1.0]}], offset=[0.0, 0.0],
                  stringClassLabels={"vector": ["zero", "one", "two"]})  # fmt: skip
    number = classic("categoricalMapping", {"label": "string"}, {"number": "int64"},
                     stringToInt64Map={"map": {"zero": 0, "one": 1, "two": 2}})  # fmt: skip
    row = classic("dictVectorizer", {"chances": "dictionary string"}, {"row": [3]},
                  stringToIndex={"vector": ["two", "zero", "one"]})  # fmt: skip
    outputs = {"number": "int64", "row": [3], "chances": "dictionary string"}
    with session(pipeline("pipeline", [glm, number, row], {"x": [2]}, outputs)) as running:
        got = running.run({"x": [0.0, 3.0]})
    assert got["number"] == 2
    assert got["row"].tolist() == [got["chances"][name] for name in ("two", "zero", "one")]
    assert list(got) == ["number", "row", "chances"]


def test_a_dictionary_by_place_becomes_an_array() -> None:
    words = classic("dictVectorizer", {"words": "dictionary string"}, {"counts": "dictionary int64"},
                    stringToIndex={"vector": ["good", "bad"]})  # fmt: skip
    columns = [{"inputColumn": "counts", "inputDimensions": 2}]
    dense = classic("featureVectorizer", {"counts": "dictionary int64"}, {"all": [2]}, inputList=columns)
    model = pipeline(
        "pipelineRegressor", [words, dense, regressor(2)], {"words": "dictionary string"}, {"price": "double"}
    )
    with session(model) as running:
        assert running.run({"words": {"bad": 2, "so": 9}})["price"] == 4.5


@pytest.mark.parametrize(
    ("stages", "inputs", "outputs", "said"),
    [
        ([], {"a": "double"}, {"price": "double"}, "no stages"),
        ([regressor(2)], {"a": "double"}, {"price": "double"}, "stage 0 .glmRegressor.: nothing before it makes its input 'all'"),
        ([vectorizer(a=1)], {"a": "double"}, {"price": "double"}, "no stage makes its output 'price'"),
        ([vectorizer(a=1), regressor(1)], {"a": "string"}, {"price": "double"},
         "stage 0 .featureVectorizer.: it reads a: double, and the pipeline's input is a: string"),
        ([vectorizer(a=1, b=1), regressor(3)], {"a": "double", "b": "double"}, {"price": "double"}, "another size"),
    ],
)  # fmt: skip
def test_connections_that_make_no_sense_are_refused_by_stage(stages: Any, inputs: Any, outputs: Any, said: str) -> None:
    with pytest.raises(ConversionError, match=said):
        session(pipeline("pipelineRegressor", stages, inputs, outputs))


def test_the_faults_of_all_stages_are_said_at_once() -> None:
    broken = classic("glmRegressor", {"all": [2]}, {"price": "double"}, weights=[{"value": [1.0]}])
    bad = classic(
        "featureVectorizer", {"a": "double"}, {"all": [2]}, inputList=[{"inputColumn": "q", "inputDimensions": 1}]
    )
    inner = pipeline("pipelineRegressor", [bad, broken], {"a": "double"}, {"price": "double"})
    with pytest.raises(ConversionError) as raised:
        session(pipeline("pipelineRegressor", [inner], {"a": "double"}, {"price": "double"}))
    for said in ("stage 0 (pipelineRegressor): stage 0 (featureVectorizer)", "stage 1 (glmRegressor): it has 1 rows"):
        assert said in str(raised.value)


def test_a_stage_of_a_kind_that_only_apple_computes_is_named() -> None:
    eyes = classic("visionFeaturePrint", {"image": [3, 4, 4]}, {"all": [2]}, scene={"version": "SCENE_VERSION_1"})
    model = pipeline("pipelineRegressor", [eyes, regressor(2)], {"image": [3, 4, 4]}, {"price": "double"})
    with pytest.raises(UnsupportedModelError, match=r"Vision framework[\s\S]*stage 0: visionFeaturePrint"):
        session(model)


def test_pipelines_in_pipelines_run_as_deep_as_a_file_holds_them_and_are_refused_beyond(tmp_path: Path) -> None:
    model = habitat()
    for _ in range(25):
        model = pipeline("pipelineRegressor", [model], {"a": "double", "b": "double"}, {"price": "double"})
    with session(model) as running:
        assert running.run({"a": 2, "b": 3.5}) == {"price": 9.5}
    stored = model.spec.SerializeToString()
    for _ in range(1000):
        stored = field_bytes(202, field_bytes(1, stored)) + b"\x08\x01"
    (tmp_path / "deep.mlmodel").write_bytes(stored)
    with pytest.raises(UnreadableModelError, match="deep"):
        load(tmp_path / "deep.mlmodel")
