"""split and join: pipelines as models and models as pipelines, with every stage stored as it was spelled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import coreproof as cp
from coreproof.editing.verbs.pipelines import join, split
from coreproof.errors import EditError
from coreproof.model.coreml.model import CoreMLModel, package_spec
from coreproof.model.coreml.proto import Model_pb2


def pipelines(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.glob("coreml/*")) if cp.load(p).format == "pipeline"]


def test_split_and_join_give_every_pipeline_back(shared_data: Path, tmp_path: Path) -> None:
    """The stages byte for byte; of the whole, everything but its documentation."""
    files = pipelines(shared_data)
    assert len(files) > 5
    for file in files:
        whole = cp.load(file)
        assert isinstance(whole, CoreMLModel)
        stages = split(whole)
        assert [s.kind for s in stages] == [node.operator for node in whole.graph.nodes]
        for index, stage in enumerate(stages):
            saved = cp.load(stage.save(tmp_path / f"{file.stem}{index}.mlmodel"))
            assert saved.path is not None
            assert saved.path.read_bytes() in file.read_bytes()
        joined = cp.load(join(stages).save(tmp_path / file.name))
        assert isinstance(joined, CoreMLModel)
        assert joined.kind == whole.kind
        assert joined.graph.nodes == whole.graph.nodes
        for mine, theirs in (
            (joined.signature.inputs, whole.signature.inputs),
            (joined.signature.outputs, whole.signature.outputs),
        ):
            assert {(f.name, f.kind, f.dtype) for f in mine} == {(f.name, f.kind, f.dtype) for f in theirs}, file
        assert joined.signature.predicted_label == whole.signature.predicted_label
        assert joined.signature.labels == whole.signature.labels


def stage(name: str, source: str, target: str, *, size: int = 4, classifier: bool = False) -> CoreMLModel:
    """A vector through a ReLU; its layer is spelled in an order of its own."""
    spec = Model_pb2.Model(specificationVersion=3)
    kind = "neuralNetworkClassifier" if classifier else "neuralNetwork"
    getattr(spec, kind).layers.add(name="relu", input=[source], output=[target]).activation.ReLU.SetInParent()
    for features, feature in ((spec.description.input, source), (spec.description.output, target)):
        array = features.add(name=feature).type.multiArrayType
        array.dataType = 65568
        array.shape.append(size)
    if classifier:
        spec.neuralNetworkClassifier.stringClassLabels.vector.extend("abcd")
        spec.neuralNetworkClassifier.labelProbabilityLayerName = target
        spec.description.output.add(name="label").type.stringType.SetInParent()
        spec.description.predictedFeatureName = "label"
    return CoreMLModel(spec, name=name)


def test_features_of_the_whole() -> None:
    joined = join([stage("first", "x", "h"), stage("second", "h", "y")], name="both")
    assert (joined.kind, joined.name) == ("pipeline", "both")
    assert [f.name for f in joined.signature.inputs] == ["x"]
    assert [f.name for f in joined.signature.outputs] == ["y"]
    assert list(joined.spec.pipeline.names) == ["first", "second"]


def test_a_classifier_at_the_end_makes_a_classifier() -> None:
    joined = join([stage("first", "x", "h"), stage("second", "h", "y", classifier=True)])
    assert joined.kind == "pipelineClassifier"
    assert joined.signature.predicted_label == "label"
    assert joined.signature.labels == tuple("abcd")
    assert [s.name for s in split(joined)] == ["first_second_first", "first_second_second"]


def test_files_are_named_by_their_paths(tmp_path: Path) -> None:
    paths = [stage(n, a, b).save(tmp_path / f"{n}.mlmodel") for n, a, b in (("one", "x", "m"), ("two", "m", "y"))]
    joined = cp.join([str(paths[0]), paths[1]]).save(tmp_path / "both.mlmodel")
    assert [part.format for part in cp.split(joined)] == ["neuralnetwork", "neuralnetwork"]
    assert cp.upgrade(str(paths[0])).format == "mlprogram"


def test_everything_that_does_not_fit_is_said_at_once() -> None:
    models = [stage("first", "x", "h"), stage("second", "h", "g", size=5), stage("third", "z", "h")]
    with pytest.raises(EditError) as caught:
        join(models)
    said = str(caught.value)
    assert "'h' is float32[4], second reads float32[5]" in said
    assert "third reads z" in said
    assert "'h' is made twice, again by third" in said


def test_what_is_no_pipeline_is_refused() -> None:
    with pytest.raises(EditError, match="only a pipeline"):
        split(stage("first", "x", "y"))
    with pytest.raises(EditError, match="two or more"):
        join([stage("first", "x", "y")])


def test_stages_with_weight_files_keep_their_weights(shared_data: Path, tmp_path: Path) -> None:
    """Two ML Programs in one package, whose weight files bear the same name."""
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(10, 40)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["linear_1", "w"], ["y"])],
        "second",
        [helper.make_tensor_value_info("linear_1", TensorProto.FLOAT, [1, 10])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 40])],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "second.onnx")
    second = cp.convert(tmp_path / "second.onnx", "mlprogram", precision="fp32")
    first = cp.load(shared_data / "coreml" / "dhruvweaver_DrawMNIST_first.mlpackage")
    x = rng.normal(size=(1, 784)).astype(np.float32)
    with cp.session(first) as running:
        middle = running.run({"image": x})["linear_1"]

    package = join([first, second]).save(tmp_path / "both.mlpackage")
    weights = sorted(p.name for p in package_spec(package).parent.glob("weights/*"))
    assert weights == ["0-weight.bin", "1-weight.bin"]
    one, two = split(cp.load(package))
    saved = one.save(tmp_path / "one.mlpackage")
    assert [p.name for p in package_spec(saved).parent.glob("weights/*")] == ["0-weight.bin"]
    with cp.session(cp.load(saved)) as running:
        np.testing.assert_array_equal(running.run({"image": x})["linear_1"], middle)
    with cp.session(two) as running:
        found = running.run({"linear_1": middle})
    np.testing.assert_allclose(next(iter(found.values())), middle @ weight, rtol=1e-5, atol=1e-5)
