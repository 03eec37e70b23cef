"""What a converted model declares and keeps: names, pictures, labels, free shapes, dtypes, targets, provenance, errors."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from PIL import Image

import coreproof as cp
from coreproof.conversion.onnx_to_coreml.convert import ImageInput, onnx_to_coreml
from coreproof.conversion.onnx_to_coreml.export import _operation_of
from coreproof.errors import ConversionError, InputError, UnsupportedOperatorsError
from coreproof.model.coreml.model import load_coreml
from coreproof.model.onnx.model import OnnxModel
from coreproof.runtime.open import session
from tests.build import conv_relu_onnx, graph_model, onnx_model

FORMS = [("mlprogram", "fp32"), ("mlprogram", "fp16"), ("neuralnetwork", "fp32")]
TOLERANCE = {"fp32": 1e-5, "fp16": 5e-3}


def run(model: Any, **feeds: Any) -> dict[str, Any]:
    with session(model) as running:
        return running.run(feeds)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize(("to", "precision"), FORMS)
def test_a_network_computes_what_onnx_computes(to: Any, precision: Any) -> None:
    model = OnnxModel(conv_relu_onnx(), name="net")
    x = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    converted = onnx_to_coreml(model, to, precision=precision)
    assert [f.name for f in converted.signature.inputs] == ["x"]
    assert [f.name for f in converted.signature.outputs] == ["y"]
    assert {"c", "y"} <= set(converted.provenance.values())
    with session(converted) as running:
        results = running.run({"x": x}, taps=[k for k, v in converted.provenance.items() if v == "c"])
    reference = run(model, x=x)["y"]
    tolerance = TOLERANCE[precision]
    np.testing.assert_allclose(results["y"], reference, rtol=tolerance, atol=tolerance)
    inner = next(v for k, v in results.items() if k != "y")
    np.testing.assert_allclose(np.maximum(inner, 0), reference, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("to", "precision"), FORMS)
def test_a_saved_model_is_the_same_model(to: Any, precision: Any, tmp_path: Path) -> None:
    converted = onnx_to_coreml(OnnxModel(conv_relu_onnx(), name="net"), to, precision=precision)
    path = converted.save(tmp_path / ("net.mlpackage" if to == "mlprogram" else "net.mlmodel"))
    x = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    np.testing.assert_array_equal(run(load_coreml(path), x=x)["y"], run(converted, x=x)["y"])


@pytest.mark.sweep(2)
@pytest.mark.parametrize("colour", ["RGB", "BGR"])
@pytest.mark.parametrize(("to", "precision"), FORMS)
def test_a_picture_is_normalised_inside_the_network(to: Any, precision: Any, colour: Any, pixels: np.ndarray) -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    model = OnnxModel(conv_relu_onnx(), name="net")
    picture = ImageInput(colour=colour, mean=mean, std=std, scale=1 / 255)
    converted = onnx_to_coreml(model, to, precision=precision, images={"x": picture})
    feature = converted.signature.inputs[0]
    assert feature.kind == "image"
    assert feature.image is not None
    assert (feature.image.colour, feature.image.width, feature.image.height) == (colour, 8, 8)
    ordered = pixels if colour == "RGB" else pixels[..., ::-1]
    x = ((ordered / 255 - mean) / std).astype(np.float32).transpose(2, 0, 1)[None]
    tolerance = 1e-4 if precision == "fp32" else 5e-2
    actual = run(converted, x=Image.fromarray(pixels))["y"]
    np.testing.assert_allclose(actual, run(model, x=x)["y"], rtol=tolerance, atol=tolerance)


def test_a_picture_needs_as_many_channels_as_its_colour() -> None:
    with pytest.raises(ConversionError, match="cannot be a GRAY picture"):
        onnx_to_coreml(OnnxModel(conv_relu_onnx(), name="net"), images={"x": ImageInput(colour="GRAY")})
    with pytest.raises(ConversionError, match="there is no input 'picture'"):
        onnx_to_coreml(OnnxModel(conv_relu_onnx(), name="net"), images={"picture": ImageInput()})


SCORES = """<ir_version: 8, opset_import: ["": 17]>
net (float[1,4] x) => (float[1,3] scores) { scores = Gemm(x, w, b) }"""


def scores_model() -> OnnxModel:
    rng = np.random.default_rng(0)
    return onnx_model(SCORES, w=rng.normal(size=(4, 3)).astype(np.float32), b=np.float32([1, 2, 3]))


@pytest.mark.sweep(2)
@pytest.mark.parametrize("labels", [["cat", "dog", "hen"], [7, 8, 9]])
@pytest.mark.parametrize(("to", "precision"), FORMS)
def test_labels_make_a_classifier_and_add_no_softmax(to: Any, precision: Any, labels: list[Any]) -> None:
    model = scores_model()
    x = np.random.default_rng(2).normal(size=(1, 4)).astype(np.float32)
    reference = run(model, x=x)["scores"][0]
    converted = onnx_to_coreml(model, to, precision=precision, labels=labels)
    assert converted.signature.labels == tuple(labels)
    results = run(converted, x=x)
    assert results["classLabel"] == labels[int(reference.argmax())]
    probabilities = results["classLabel_probs"]
    assert list(probabilities) == labels
    tolerance = TOLERANCE[precision]
    np.testing.assert_allclose(list(probabilities.values()), reference, rtol=tolerance, atol=tolerance)


def test_softmax_is_added_when_asked_for() -> None:
    results = run(onnx_to_coreml(scores_model(), labels=["a", "b", "c"], softmax=True), x=np.ones((1, 4), np.float32))
    assert sum(results["classLabel_probs"].values()) == pytest.approx(1, abs=2e-3)


def test_the_number_of_labels_must_be_the_number_of_classes() -> None:
    with pytest.raises(ConversionError, match="the number of labels"):
        onnx_to_coreml(scores_model(), labels=["a", "b"])


@pytest.mark.sweep(3)
@pytest.mark.parametrize(
    ("asked", "sizes"),
    [
        ([(1, 4), 3, 8, 8], [(1, 8, 8), (3, 8, 8)]),
        ([(1, None), 3, 8, 8], [(5, 8, 8)]),
        ([[1, 3, 8, 8], [2, 3, 8, 8]], [(1, 8, 8), (2, 8, 8)]),
        ([1, 3, (8, 32), (8, 32)], [(1, 8, 8), (1, 32, 16)]),
        ([[1, 3, 8, 8], [1, 3, 16, 12]], [(1, 16, 12)]),
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_free_shapes_run_at_each_of_their_lengths(asked: Any, sizes: Any, precision: Any) -> None:
    graph = conv_relu_onnx(batch="n")
    graph.graph.inputs[0].shape = ir.Shape(["n", 3, "h", "w"])
    for node in graph.graph:
        node.outputs[0].shape = None
    model = OnnxModel(graph, name="net")
    converted = onnx_to_coreml(model, precision=precision, shapes={"x": asked})
    with session(converted) as running, session(model) as reference:
        for n, h, w in sizes:
            x = np.random.default_rng(n).normal(size=(n, 3, h, w)).astype(np.float32)
            expected = reference.run({"x": x})["y"]
            tolerance = TOLERANCE[precision]
            np.testing.assert_allclose(running.run({"x": x})["y"], expected, rtol=tolerance, atol=tolerance)


def test_a_symbolic_batch_is_fixed_to_one_and_said_so() -> None:
    converted = onnx_to_coreml(OnnxModel(conv_relu_onnx(batch="n"), name="net"))
    assert converted.signature.inputs[0].shape == (1, 3, 8, 8)
    assert any("batch" in note for note in converted.notes)


def test_a_float16_graph_widens_to_float32_and_stays_float16() -> None:
    text = SCORES.replace("float[", "float16[")
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(4, 3)).astype(np.float16), "b": np.float16([1, 2, 3])}
    x = rng.normal(size=(1, 4)).astype(np.float16)
    expected = x.astype(np.float64) @ weights["w"].astype(np.float64) + weights["b"]
    for precision in ("fp32", "fp16"):
        converted = onnx_to_coreml(onnx_model(text, **weights), precision=precision)  # type: ignore[arg-type]
        np.testing.assert_allclose(run(converted, x=x)["scores"], expected, rtol=2e-3, atol=2e-3)


def test_values_kept_in_float32_do_not_overflow() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]>
    net (float[1,2] x) => (float[1,2] y) { big = Mul(x, x)
    little = Log(big)
    y = Identity(little) }"""
    x = np.float32([[1000, 3]])
    assert np.isinf(run(onnx_to_coreml(onnx_model(text), precision="fp16"), x=x)["y"][0, 0])
    kept = onnx_to_coreml(onnx_model(text), precision="fp16", keep_fp32=["big", "little"])
    np.testing.assert_allclose(run(kept, x=x)["y"], np.log(x * x), rtol=1e-3)


def test_names_that_core_ml_forbids_inside_survive_outside() -> None:
    text = SCORES.replace("float[1,4] x", "float[1,4] x_0").replace("(x,", "(x_0,").replace(" scores", " select_1")
    text = text.replace("{ select_1 = Gemm(x_0, w, b) }", "{ mul_0 = Mul(x_0, x_0) \n select_1 = Gemm(mul_0, w, b) }")
    model = onnx_model(text, w=np.ones((4, 3), np.float32), b=np.zeros(3, np.float32))
    converted = onnx_to_coreml(model)
    assert [f.name for f in converted.signature.outputs] == ["select_1"]
    names = [name for node in converted.graph.nodes for name in node.outputs]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("target", "to", "version"),
    [("iOS15", "mlprogram", 6), ("iOS16", "mlprogram", 7), ("macOS14", "mlprogram", 8), ("iOS18", "mlprogram", 9),
     ("iOS26", "mlprogram", 10), ("iOS13", "neuralnetwork", 4), ("iOS14", "neuralnetwork", 5)],
)  # fmt: skip
def test_targets_set_the_specification_version(target: str, to: Any, version: int) -> None:
    converted = onnx_to_coreml(OnnxModel(conv_relu_onnx(), name="net"), to, target=target)
    assert converted.spec.specificationVersion == version


@pytest.mark.parametrize(("target", "to"), [("iOS14", "mlprogram"), ("iOS17", "neuralnetwork"), ("iOS99", "mlprogram")])
def test_a_target_that_does_not_fit_is_refused(target: str, to: Any) -> None:
    with pytest.raises(InputError, match=r"target|does not go with"):
        onnx_to_coreml(OnnxModel(conv_relu_onnx(), name="net"), to, target=target)


def test_unsupported_operators_are_named_all_at_once() -> None:
    text = """<ir_version: 8, opset_import: ["": 17, "com.other": 1]>
    net (float[1,4] x) => (float[1,4] y) { a = com.other.Fancy(x) \n b = com.other.Plain(a) \n y = Relu(b) }"""
    with pytest.raises(UnsupportedOperatorsError) as caught:
        onnx_to_coreml(onnx_model(text))
    assert set(caught.value.operators) == {"com.other:Fancy", "com.other:Plain"}


def test_batchnorm_is_folded_into_the_convolution_before_it() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]>
    net (float[1,2,5,5] x) => (float[1,3,3,3] y) { c = Conv(x, w)\n y = BatchNormalization(c, s, o, m, v) }"""
    rng = np.random.default_rng(0)
    weights = {k: rng.uniform(0.5, 2, 3).astype(np.float32) for k in "somv"}
    model = onnx_model(text, w=rng.normal(size=(3, 2, 3, 3)).astype(np.float32), **weights)
    x = rng.normal(size=(1, 2, 5, 5)).astype(np.float32)
    converted = onnx_to_coreml(model, precision="fp32")
    assert "batch_norm" not in {n.operator for n in converted.graph.nodes}
    assert "c" not in converted.provenance.values()
    np.testing.assert_allclose(run(converted, x=x)["y"], run(model, x=x)["y"], rtol=1e-5, atol=1e-5)


def test_constants_beyond_float16_become_its_largest_number() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]>
    net (float[1,2] x) => (float[1,2] y) { y = Min(x, limit) }"""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        converted = onnx_to_coreml(onnx_model(text, limit=np.float32([1e9])), precision="fp16")
    np.testing.assert_array_equal(run(converted, x=np.float32([[1, 2]]))["y"], [[1, 2]])


def test_old_files_that_list_their_weights_as_inputs_convert() -> None:
    text = SCORES.replace("ir_version: 8", "ir_version: 3").replace('"": 17', '"": 7')
    text = text.replace("float[1,4] x)", "float[1,4] x, float[4,3] w, float[3] b)")
    model = onnx_model(text, w=np.ones((4, 3), np.float32), b=np.zeros(3, np.float32))
    converted = onnx_to_coreml(model, precision="fp32")
    assert [f.name for f in converted.signature.inputs] == ["x"]
    np.testing.assert_allclose(run(converted, x=np.ones((1, 4), np.float32))["scores"], [[4, 4, 4]])


@pytest.mark.parametrize("target", ["iOS15", "iOS16", "iOS17", "iOS18"])
def test_an_epsilon_below_float16_stays_above_zero(target: str) -> None:
    text = """<ir_version: 8, opset_import: ["": 17]>
    net (float[2,4] x) => (float[2,4] y) { y = LayerNormalization <epsilon = 1e-12> (x, s) }"""
    converted = onnx_to_coreml(onnx_model(text, s=np.ones(4, np.float32)), precision="fp16", target=target)
    x = np.float32([[1, 1, 1, 1], [1, 2, 3, 4]])
    expected = [[0, 0, 0, 0], [-1.3416408, -0.4472136, 0.4472136, 1.3416408]]
    np.testing.assert_allclose(run(converted, x=x)["y"], expected, rtol=2e-3, atol=2e-3)


def test_what_is_cut_from_a_value_that_is_known_in_part_stays_a_float() -> None:
    """coremltools holds such a value as an array of objects, and folds it into a NeuralNetwork as integers."""
    model = onnx_model(
        '<ir_version: 8, opset_import: ["": 17]> net (float[1,4,1] x) => (float[1,4,5] y)'
        " { k = Conv(d, w) c = Concat<axis=2>(v, k) s = Slice(c, b, e, a) m = Min(s, c) y = Add(m, x) }",
        d=np.ones((1, 2, 4), np.float32),
        w=np.full((4, 2, 1), 0.25, np.float32),
        v=np.full((1, 4, 1), 0.75, np.float32),
        b=np.array([0]),
        e=np.array([1]),
        a=np.array([2]),
    )
    x = np.zeros((1, 4, 1), np.float32)
    with session(onnx_to_coreml(model, "neuralnetwork")) as running:
        (y,) = running.run({"x": x}).values()
    np.testing.assert_allclose(y, np.broadcast_to([0.75, 0.5, 0.5, 0.5, 0.5], (1, 4, 5)), rtol=1e-6)


@pytest.mark.sweep(3)
@pytest.mark.parametrize("operator", ["Tan", "Sinh", "Erf", "Floor", "Reciprocal", "Sign"])
@pytest.mark.parametrize("to", [{"to": "mlprogram", "precision": "fp32"}, {"to": "neuralnetwork"}])
def test_functions_of_what_is_cut_from_a_value_that_is_known_in_part_are_computed(
    operator: str, to: dict[str, Any]
) -> None:
    """An array of objects knows no function: coremltools' own evaluation ended with a TypeError."""
    model = onnx_model(
        '<ir_version: 8, opset_import: ["": 17]> net (float[1,4,2] x) => (float[1,4,1] y)'
        " { c = Concat<axis=2>(v, x) s = Slice(c, b, e, a) y = FUNCTION(s) }".replace("FUNCTION", operator),
        v=np.full((1, 4, 1), 0.75, np.float32),
        b=np.array([0]),
        e=np.array([1]),
        a=np.array([2]),
    )
    x = {"x": np.zeros((1, 4, 2), np.float32)}
    with session(model) as source, session(onnx_to_coreml(model, **to)) as running:
        np.testing.assert_allclose(running.run(x)["y"], source.run(x)["y"], rtol=2e-6)


def test_what_a_networks_backend_refuses_is_named_by_its_operation() -> None:
    def refuse(op: object) -> None:
        raise ValueError(op)

    inner = SimpleNamespace(name="y", op_type="pow")
    with pytest.raises(ValueError, match="pow") as caught:
        refuse(inner)
    assert _operation_of(caught.value) is inner
    assert _operation_of(ValueError()) is None


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
def test_an_output_that_is_an_input_gets_a_name_of_its_own(to: Any) -> None:
    source = onnx_model(
        '<ir_version: 8, opset_import: ["": 17]> net (float[1,4] x) => (float[1,4] y, float[1,4] x) { y = Relu(x) }'
    )
    made = cp.convert(source, to)
    assert [f.name for f in made.signature.outputs] == ["y", "x_out"]
    assert cp.verify(source, made)
    assert not cp.diagnose(made, source)


def test_a_network_that_is_fed_nothing_is_refused_and_a_program_is_made() -> None:
    model = graph_model("agraph () => (float[3] y) { y = Identity (c) }", c=np.ones(3, np.float32))
    with pytest.raises(ConversionError, match="a NeuralNetwork takes at least one input"):
        onnx_to_coreml(model, "neuralnetwork")
    with session(onnx_to_coreml(model, precision="fp32")) as running:
        np.testing.assert_array_equal(running.run({})["y"], np.ones(3))
