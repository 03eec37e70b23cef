"""Arguments outside their list are an error that holds the list; the field's other names of the two arithmetics are taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import coreproof as cp
from coreproof.errors import InputError
from tests.build import conv_relu_onnx


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


@pytest.mark.parametrize("argument", ["engine", "precision"])
def test_session_names_the_list_of_an_argument_outside_it(argument: str) -> None:
    given: dict[str, Any] = {argument: "banana"}
    with pytest.raises(InputError, match=f"{argument} does not know 'banana'"):
        cp.session(conv_relu_onnx(), **given)


def test_verify_names_the_engines_that_there_are() -> None:
    wrong: Any = "banana"
    model = cp.load(conv_relu_onnx())
    with pytest.raises(InputError, match="auto, onnxruntime, torch, openvino, coreml"):
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
