"""Arguments outside their list are an error that holds the list; the field's other names of the two arithmetics are taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import coreproof as cp
from coreproof.errors import InputError
from coreproof.model.coreml.model import CoreMLModel
from tests.build import conv_relu_onnx, graph_model


@pytest.mark.parametrize(
    ("argument", "value", "known"),
    [
        ("to", "coreml", "onnx, mlprogram, neuralnetwork"),
        ("to", None, "onnx, mlprogram, neuralnetwork"),
        ("precision", "banana", "fp16, fp32"),
        ("precision", 16, "fp16, fp32"),
        ("target", "iOS3", "iOS13, iOS14"),
        ("target", "banana", "iOS13, iOS14"),
    ],
)
def test_convert_names_the_list_of_an_argument_outside_it(argument: str, value: Any, known: str) -> None:
    given: dict[str, Any] = {"to": "mlprogram", argument: value}
    with pytest.raises(InputError, match=known) as caught:
        cp.convert(conv_relu_onnx(), **given)
    assert argument in caught.value.problem
    assert repr(value) in caught.value.problem


def test_without_another_word_it_is_an_ml_program_in_float16() -> None:
    made, said = cp.convert(conv_relu_onnx()), cp.convert(conv_relu_onnx(), "mlprogram", precision="fp16")
    assert isinstance(made, CoreMLModel)
    assert isinstance(said, CoreMLModel)
    assert made.is_program
    assert [n.operator for n in made.graph.nodes] == [n.operator for n in said.graph.nodes]


@pytest.mark.parametrize("argument", ["engine", "precision"])
def test_session_names_the_list_of_an_argument_outside_it(argument: str) -> None:
    given: dict[str, Any] = {argument: "banana"}
    with pytest.raises(InputError, match=f"{argument} does not know 'banana'"):
        cp.session(conv_relu_onnx(), **given)


def test_verify_names_the_engines_that_there_are() -> None:
    wrong: Any = "banana"
    model = cp.load(conv_relu_onnx())
    with pytest.raises(InputError, match="auto, onnxruntime, torch, openvino, reference, coreml, coreai"):
        cp.verify(model, model, candidate_engine=wrong)


@pytest.mark.parametrize(("said", "meant"), [("float16", "fp16"), ("float32", "fp32")])
def test_the_arithmetics_have_two_names_each(said: Any, meant: Any) -> None:
    one, other = (cp.convert(conv_relu_onnx(), "mlprogram", precision=p) for p in (said, meant))
    kinds = [[v.dtype for v in made.graph.values.values()] for made in (one, other)]
    assert kinds[0] == kinds[1]
    assert ("float16" in kinds[0]) == (meant == "fp16")


def test_the_target_may_be_one_of_coremltools_own() -> None:
    import coremltools

    target: Any = coremltools.target.iOS16
    assert cp.convert(conv_relu_onnx(), "mlprogram", target=target).spec.specificationVersion == 7  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("file", "form"), [("a.onnx", "onnx"), ("out/a.mlpackage", "mlprogram"), (Path("a.mlmodel"), "neuralnetwork")]
)
def test_whoever_names_a_file_is_told_how_to_write_one(file: Any, form: str) -> None:
    with pytest.raises(InputError) as caught:
        cp.convert(conv_relu_onnx(), file)
    assert caught.value.fix == f"convert(model, {form!r}).save({str(file)!r})"


def test_names_to_keep_wide_that_nothing_makes_are_refused_with_close_ones() -> None:
    with pytest.raises(InputError, match=r"(?s)no node of the model makes or is.*names of ONNX values"):
        cp.convert(conv_relu_onnx(), "mlprogram", keep_fp32=["nothing", "c"])
    assert cp.convert(conv_relu_onnx(), "mlprogram", keep_fp32="y")


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("seed", -1, "seed is a whole number of at least 0"),
        ("seed", "a", "seed is a whole number"),
        ("tolerance", -1, "tolerance is a share"),
        ("tolerance", "x", "tolerance is a share"),
        ("inputs", 3, "inputs are given by their names"),
        ("inputs", [3], "inputs are given by their names"),
        ("memory", "1GB", "memory is a whole number of at least 0"),
        ("memory", -1, "memory is a whole number of at least 0"),
        ("feeds", 3, "feeds are a pair"),
        ("feeds", ({}, {}, {}), "feeds are a pair"),
    ],
)
def test_verify_says_what_an_argument_is(argument: str, value: Any, said: str) -> None:
    given: dict[str, Any] = {argument: value}
    with pytest.raises(InputError, match=said):
        cp.verify(conv_relu_onnx(), conv_relu_onnx(), **given)


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("labels", 3, "labels are a list of texts"),
        ("labels", "cat", "labels are a list of texts"),
        ("photos", 3, "photos is a list, each a text or a path"),
        ("classes", ["cat"], "a class is a whole number of at least 0"),
        ("classes", [1], "each photo has one class"),
        ("feeding", "imagenet", r"feeding is a coreproof\.Feeding"),
    ],
)
def test_diagnose_says_what_an_argument_is(argument: str, value: Any, said: str) -> None:
    given: dict[str, Any] = {argument: value}
    with pytest.raises(InputError, match=said):
        cp.diagnose(conv_relu_onnx(), **given)


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("samples", "8", "samples is a whole number of at least 1"),
        ("samples", 0, "samples is a whole number of at least 1"),
        ("target", "iOS1", "target does not know 'iOS1'"),
        ("target", "iOS14", "iOS15 to iOS26 for mlprogram"),
        ("labels", "cat", "labels are a list of texts"),
        ("feeding", 3, r"feeding is a coreproof\.Feeding"),
    ],
)
def test_prove_says_what_an_argument_is(argument: str, value: Any, said: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {argument: value}
    with pytest.raises(InputError, match=said):
        cp.prove(conv_relu_onnx(), None, tmp_path, **given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("asked", [[], (), ""])
def test_a_shape_of_no_lengths_is_refused_and_not_left_out(asked: Any) -> None:
    with pytest.raises(InputError, match="shape asked for input 'x'"):
        cp.convert(conv_relu_onnx(), "mlprogram", shapes={"x": asked})


def test_the_shape_of_a_single_number_is_empty() -> None:
    model = graph_model("net (float x) => (float y) { y = Relu (x) }")
    assert cp.convert(model, "mlprogram", shapes={"x": ()}).signature.inputs[0].shape == (1,)


def test_names_to_keep_wide_are_names() -> None:
    number: Any = 5
    with pytest.raises(InputError, match="keep_fp32 is a name or several"):
        cp.convert(conv_relu_onnx(), "mlprogram", keep_fp32=number)


def test_a_tolerance_is_a_share_or_whole() -> None:
    assert cp.verify(conv_relu_onnx(), conv_relu_onnx(), tolerance=0.1)


def test_labels_and_inputs_of_another_kind_are_refused() -> None:
    number: Any = 3
    with pytest.raises(InputError, match="labels are a list of texts"):
        cp.convert(conv_relu_onnx(), "mlprogram", labels=number)
    nothing: Any = None
    with cp.session(conv_relu_onnx()) as running, pytest.raises(InputError, match="inputs are given by their names"):
        running.run(nothing)


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("images", ["x"], "images makes inputs into pictures, by their names"),
        ("images", "x", "images makes inputs into pictures, by their names"),
        ("metadata", 3, "metadata is a dictionary by names"),
        ("describe", ["x"], "describe is a dictionary by names"),
    ],
)
def test_what_goes_by_names_is_a_dictionary(argument: str, value: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        cp.convert(conv_relu_onnx(), "mlprogram", **{argument: value})


def test_the_labels_of_a_source_are_a_list_and_its_feeding_is_one() -> None:
    torch = pytest.importorskip("torch", reason="needs the torch extra")
    given: Any = (torch.nn.ReLU(), (torch.zeros(1, 3),))
    wrong: Any
    for wrong in ("abc", 3):
        with pytest.raises(InputError, match="labels are a list of texts"):
            cp.Source(*given, labels=wrong)
    wrong = "imagenet"
    with pytest.raises(InputError, match=r"feeding is a coreproof\.Feeding"):
        cp.Source(*given, feeding=wrong)
    listed: Any = ["a", "b", "c"]
    assert cp.Source(*given, labels=listed).labels == ("a", "b", "c")
