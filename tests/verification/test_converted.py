"""convert runs what it made beside its source, and hands out nothing that does not run or that answers otherwise."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest

import coreproof as cp
from coreproof.conversion.onnx_to_coreml.convert import ImageInput
from coreproof.errors import ConversionError
from coreproof.feeding.drawn import random_sample
from coreproof.verification.converted import check_conversion
from tests.build import conv_relu_onnx, onnx_model
from tests.cli.conftest import Ran
from tests.cli.conftest import coreproof as coreproof

FORMATS: list[dict[str, Any]] = [
    {"to": "mlprogram", "precision": "fp16"}, {"to": "mlprogram", "precision": "fp32"}, {"to": "neuralnetwork"}
]  # fmt: skip


def broken(model: Any) -> Any:
    """A conversion whose last layer reads a blob that nothing makes."""
    made: Any = cp.convert(model, "neuralnetwork", check=False)
    made.spec.neuralNetwork.layers[-1].input[0] = "nothing"
    return made.with_spec(made.spec)


def wrong(model: Any) -> Any:
    """A conversion of which one weight is another than the source's."""
    made: Any = cp.convert(model, "neuralnetwork", check=False)
    made.spec.neuralNetwork.layers[0].convolution.weights.floatValue[3] += 3
    return made.with_spec(made.spec)


@pytest.mark.parametrize("how", FORMATS)
@pytest.mark.parametrize("images", [None, {"x": ImageInput(scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2,))}])
def test_what_was_made_ran_once(how: dict[str, Any], images: Any) -> None:
    made = cp.convert(conv_relu_onnx(), images=images, labels=[str(i) for i in range(256)], **how)
    assert made.notes[-1].startswith("checked: ran once on drawn input; outputs ")
    assert not cp.convert(conv_relu_onnx(), check=False, **how).notes


def test_a_model_that_does_not_run_is_not_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    made = broken(conv_relu_onnx())
    monkeypatch.setattr(sys.modules["coreproof.precision.converted"], "translate", lambda *_, **__: made)
    with pytest.raises(ConversionError, match="what was made does not run"):
        cp.convert(conv_relu_onnx(), "neuralnetwork")


def test_a_model_that_answers_otherwise_is_not_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    made = wrong(conv_relu_onnx())
    monkeypatch.setattr(sys.modules["coreproof.precision.converted"], "translate", lambda *_, **__: made)
    with pytest.raises(ConversionError, match="does not answer as its source does: output 'y'"):
        cp.convert(conv_relu_onnx(), "neuralnetwork")
    assert cp.convert(conv_relu_onnx(), "neuralnetwork", check=False) is made


def test_float16_that_overflows_is_not_handed_out() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]>
    net (float[2,3] x) => (float[2,3] y) { a = Mul(x, k) y = Mul(a, k) }"""
    with pytest.raises(ConversionError, match="NaN or infinite on one side only"):
        cp.convert(onnx_model(text, k=np.float32(1000)), "mlprogram")


def test_a_source_that_does_not_run_on_drawn_input_leaves_the_check_out() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]>
    net (float[2,3] x, int64[1] i) => (float[1,3] y) { k = Mul(i, i) j = Add(k, hundred) y = Gather(x, j) }"""
    made = cp.convert(onnx_model(text, hundred=np.array([100])), "mlprogram")
    assert made.notes[-1].startswith("not checked: the source does not run on drawn input")


def test_what_rounding_explains_is_no_difference() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]>
    net (float[2,3] x) => (float[2,3] y) { a = Add(x, k) y = Sub(a, k) }"""
    source = onnx_model(text, k=np.float32(100))
    found = check_conversion(source, cp.convert(source, "mlprogram", check=False))
    assert found
    assert "rounding explains" in found.said


@pytest.mark.parametrize(("damage", "code", "kept"), [(broken, 2, False), (wrong, 1, True)])
def test_the_command_line_says_it_first(
    coreproof: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, damage: Any, code: int, kept: bool
) -> None:
    net = cp.load(conv_relu_onnx()).save(tmp_path / "net.onnx")
    made, out = damage(net), tmp_path / "net.mlmodel"
    monkeypatch.setattr(sys.modules["coreproof.conversion.convert"], "convert", lambda *_, **__: made)
    ran: Ran = coreproof("convert", net, out)
    assert (ran.code, out.exists()) == (code, kept), ran.err
    first = (ran.out + ran.err).splitlines()[0]
    assert ("does not answer as its source does" if kept else "what was made does not run") in first
    assert coreproof("convert", net, out, "--no-check").code == 0


def _with_constant(numbers: str, by: str) -> Any:
    return onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["" : 18]>
        g (float[3] x) => (float[3] y, float[2] c) <float[2] k = {{{numbers}}}, float[2] z = {{{by}}}>
        {{ y = Neg (x) c = Div (k, z) }}"""
    )


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_infinity_that_is_meant_is_checked_and_hides_no_other_output(precision: Any) -> None:
    model = _with_constant("1.0, 2.0", "0.0, 1.0")
    made = cp.convert(model, "mlprogram", precision=precision)
    assert made.notes[-1].startswith("checked: ran once on drawn input")
    assert "not checked" not in made.notes[-1]
    # another sign of the constant's infinity is not the same answer
    other = cp.convert(_with_constant("-1.0, 2.0", "0.0, 1.0"), "mlprogram", precision=precision)
    said = check_conversion(cp.load(model), other)
    assert not said
    assert said.said.endswith(
        "output 'c': 1 of 2 elements are NaN or infinite on one side only, or infinite with another sign"
    )
    assert not cp.verify(model, other)
    # nor is an infinity where the source has a number, beside one that is meant
    assert not check_conversion(cp.load(model), cp.convert(_with_constant("1.0, 2.0", "0.0, 0.0"), "mlprogram"))


def test_beside_an_output_without_a_number_the_others_are_checked() -> None:
    made = cp.convert(_with_constant("0.0, 0.0", "0.0, 0.0"), "mlprogram", precision="fp32")
    assert "checked: ran once" in made.notes[-1]
    assert "not checked: 'c'" in made.notes[-1]


def test_what_is_made_of_an_infinity_is_not_held_against_the_source() -> None:
    """A whole number of an infinity is no part of ONNX's definitions: another draw, on which all is finite, is."""
    model = onnx_model(
        '<ir_version: 8, opset_import: ["": 17]> net (float[3] x) => (float[3] y, bool[3] b)'
        " { r = Round(x) y = Div(one, r) n = Cast<to=7>(y) b = Less(n, zero) }",
        one=np.float32(7),
        zero=np.int64(-1),
    )
    drawn = random_sample(cp.load(model).signature, cp.load(model).signature)[0]["x"]
    assert (np.round(np.asarray(drawn)) == 0).any(), "the first draw divides by zero"
    made = cp.convert(model, "neuralnetwork")
    assert made.notes[-1].startswith("checked: ran once on drawn input")
    # and it is still a check
    other = onnx_model(
        '<ir_version: 8, opset_import: ["": 17]> net (float[3] x) => (float[3] y, bool[3] b)'
        " { r = Round(x) y = Div(one, r) n = Cast<to=7>(y) b = Less(zero, n) }",
        one=np.float32(7),
        zero=np.int64(-1),
    )
    assert not check_conversion(cp.load(other), cp.load(made))


def _doubles(second: str, opset: int = 17) -> onnx.ModelProto:
    """ONNX Runtime has no Selu of doubles."""
    nodes = [onnx.helper.make_node("Selu", ["x"], ["s"]), onnx.helper.make_node(second, ["s", "s"], ["y"])]
    values = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.DOUBLE, [2, 3]) for n in "xy"]
    graph = onnx.helper.make_graph(nodes, "g", values[:1], values[1:])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
def test_a_source_that_onnx_runtime_lacks_a_kernel_for_is_run_by_the_standards_evaluator(to: str) -> None:
    (said,) = (note for note in cp.convert(cp.load(_doubles("Add")), to).notes if "checked" in note)
    assert said.startswith("checked: ran once on drawn input")
    assert "by ONNX's reference evaluator, as ONNX Runtime lacks a part of it" in said


def test_the_standards_evaluator_finds_what_is_wrong() -> None:
    made = cp.convert(cp.load(_doubles("Mul")), "mlprogram", check=False)
    found = check_conversion(cp.load(_doubles("Add")), made)
    assert not found
    assert "does not answer as its source does" in found.said


def test_where_neither_engine_runs_the_source_both_reasons_are_said() -> None:
    inputs = [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 3])]
    outputs = [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [4, 3])]
    stored = [onnx.numpy_helper.from_array(np.float32(n), name) for name, n in (("t", 2), ("a", 0))]
    node = onnx.helper.make_node("Tile", ["x", "t", "a"], ["y"])
    graph = onnx.helper.make_graph([node], "g", inputs, outputs, stored)
    source = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 1)], ir_version=8)
    made = cp.convert(cp.load(source), "mlprogram")
    (said,) = (note for note in made.notes if "checked" in note)
    assert said.startswith("not checked")
    assert "Could not find an implementation for Tile(1)" in said
    assert "ONNX's reference evaluator does not run the model: Tile" in said


@pytest.mark.parametrize("opset", [17, 22])
def test_a_source_that_draws_at_random_is_not_held_against_what_draws_otherwise(opset: int) -> None:
    """ONNX Runtime has the operator up to opset 21."""
    nodes = [
        onnx.helper.make_node("RandomUniformLike", ["x"], ["r"]),
        onnx.helper.make_node("Add", ["r", "x"], ["y"]),
    ]
    values = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [8]) for n in "xy"]
    graph = onnx.helper.make_graph(nodes, "g", values[:1], values[1:])
    source = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10)
    (said,) = (note for note in cp.convert(cp.load(source), "mlprogram").notes if "checked" in note)
    assert said.startswith("not checked: the source answers differently from one call to another")
