"""Quantised values are judged in steps, and what leaves float16's range without harm is told and fails nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml
from coreproof.model.onnx.model import OnnxModel
from coreproof.verification.verify import verify
from tests.build import onnx_model
from tests.precision.hostile import careless
from tests.verification.test_carried import net

IMAGE = np.random.default_rng(0).standard_normal((1, 3, 24, 24)).astype(np.float32)


def quantised(second_scale: float = 0.04) -> OnnxModel:
    """Two quantised convolutions: sums of integers there, of numbers here, that meet the edges between steps."""
    rng = np.random.default_rng(7)
    weights = {
        "s": np.float32(0.03),
        "z": np.uint8(128),
        "w": rng.integers(-127, 127, (16, 3, 3, 3)).astype(np.int8),
        "w2": rng.integers(-127, 127, (16, 16, 3, 3)).astype(np.int8),
        "ws": np.float32(0.01),
        "wz": np.int8(0),
        "s2": np.float32(second_scale),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("QLinearConv", ["q", "s", "z", "w", "ws", "wz", "s2", "z"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("QLinearConv", ["c", "s2", "z", "w2", "ws", "wz", "s2", "z"], ["d"], pads=[1, 1, 1, 1]),
        helper.make_node("DequantizeLinear", ["d", "s2", "z"], ["y"]),
    ]
    return net(nodes, weights, IMAGE.shape)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_quantised_network_agrees_step_by_step(precision: str) -> None:
    source = quantised()
    found = verify(source, onnx_to_coreml(source, "mlprogram", precision=precision), {"x": IMAGE})
    assert found, found.summary()
    assert len(found.rows) >= 3


def test_a_quantised_network_agrees_in_the_older_format_too() -> None:
    """Where a cast to whole numbers is a floor, a ceiling and a choice between them."""
    source = quantised()
    found = verify(source, onnx_to_coreml(source, "neuralnetwork", precision="fp32"), {"x": IMAGE})
    assert found, found.summary()
    stepped = [row for row in found.rows if row.operator == "whereBroadcastable"]
    assert len(stepped) >= 3
    assert all(row.tolerance.step == 1 for row in stepped)


def deep(layers: int, scale: float = 0.04) -> OnnxModel:
    """Quantised convolutions in a row: each crosses steps of its own and passes on those before."""
    rng = np.random.default_rng(3)
    weights = {
        "s": np.float32(0.03),
        "z": np.uint8(128),
        "ws": np.float32(0.004),
        "wz": np.int8(0),
        "s2": np.float32(scale),
        "w0": rng.integers(-127, 127, (16, 3, 3, 3)).astype(np.int8),
    }
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q0"])]
    for layer in range(layers):
        weights.setdefault(f"w{layer}", rng.integers(-127, 127, (16, 16, 3, 3)).astype(np.int8))
        read = [f"q{layer}", "s2" if layer else "s", "z", f"w{layer}", "ws", "wz", "s2", "z"]
        nodes.append(helper.make_node("QLinearConv", read, [f"q{layer + 1}"], pads=[1, 1, 1, 1]))
    nodes.append(helper.make_node("DequantizeLinear", [f"q{layers}", "s2", "z"], ["y"]))
    return net(nodes, weights, IMAGE.shape)


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
def test_dequantisation_makes_a_step_as_small_as_what_it_scales(to: str) -> None:
    """An error of a step of 128 is not one of 1.0 in a value of a scale of 4: nothing would be proved there."""
    source = deep(9)
    found = verify(source, onnx_to_coreml(source, to, precision="fp32"), {"x": IMAGE})
    assert found, found.summary()
    assert [row.candidate for row in found.weak] == []
    assert (found.outputs[0].tolerance.typical or 1.0) < 0.05


@pytest.mark.thorough
def test_a_fault_deep_in_a_quantised_network_is_found() -> None:
    found = verify(deep(9), onnx_to_coreml(deep(9, 0.0404), "mlprogram", precision="fp32"), {"x": IMAGE})
    assert not found


def test_another_scale_is_not_taken_for_the_edges_of_steps() -> None:
    found = verify(quantised(), onnx_to_coreml(quantised(0.0402), "mlprogram", precision="fp32"), {"x": IMAGE})
    assert not found


def test_steps_are_told_in_words() -> None:
    x = np.linspace(-3, 3, 256, dtype=np.float32).reshape(4, 64)
    nodes = [helper.make_node("Mul", ["x", "c"], ["m"]), helper.make_node("Round", ["m"], ["y"])]
    source = net(nodes, {"c": np.float32(1.37)})
    found = verify(source, onnx_to_coreml(source, "mlprogram", precision="fp16"), {"x": x})
    row = next(row for row in found.rows if row.operator == "round")
    assert row.tolerance.step == 1
    assert "one step" in str(row.tolerance)
    assert "lie at an edge" in row.tolerance.why


def test_a_step_too_many_is_a_fault() -> None:
    """Rounding and cutting off differ by a step at half of the elements: no edge explains that."""
    x = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32) * 5
    rounds = [helper.make_node("Mul", ["x", "c"], ["m"]), helper.make_node("Round", ["m"], ["y"])]
    floors = [rounds[0], helper.make_node("Floor", ["m"], ["y"])]
    one = {"c": np.float32(1.0)}
    assert not verify(net(rounds, one), onnx_to_coreml(net(floors, one), "mlprogram", precision="fp16"), {"x": x})


def clipping(end: list[object]) -> OnnxModel:
    """A square that float16 cannot hold."""
    nodes = [helper.make_node("Mul", ["x", "x"], ["m"]), *end]
    return net(nodes, {"big": np.float32(100.0), "one": np.float32(1.0)})  # type: ignore[arg-type]


def test_what_leaves_the_range_and_is_cut_off_behind_is_told_and_fails_nothing() -> None:
    x = np.linspace(-400, 400, 256, dtype=np.float32).reshape(4, 64)
    source = clipping([helper.make_node("Min", ["m", "big"], ["y"])])
    found = verify(source, onnx_to_coreml(source, "mlprogram", precision="fp16"), {"x": x})
    assert found, found.summary()
    row = next(row for row in found.rows if row.harmless)
    assert row.judgement.clipped == int((x * x > 65504).sum())
    assert "float16's range without harm" in found.summary()


def test_a_fault_elsewhere_is_named_before_what_leaves_the_range_without_harm() -> None:
    """Whether a clipped value does harm is seen behind it, not at outputs that another layer spoils."""
    x = np.linspace(-400, 400, 256, dtype=np.float32).reshape(4, 64)
    cut = helper.make_node("Min", ["m", "big"], ["cut"])
    right = clipping([cut, helper.make_node("Add", ["cut", "one"], ["y"])])
    wrong = clipping([cut, helper.make_node("Mul", ["cut", "big"], ["y"])])
    found = verify(right, onnx_to_coreml(wrong, "mlprogram", precision="fp16"), {"x": x})
    assert not found
    assert [row.reference for row in found.faults] == ["y"]
    assert found.first_divergence is not None
    assert found.first_divergence.reference == "y"
    assert [row.reference for row in found.rows if row.harmless] == ["m"]


def test_a_layer_that_is_wrong_right_behind_what_leaves_the_range_is_no_proof_that_it_is_harmless() -> None:
    x = np.linspace(-400, 400, 256, dtype=np.float32).reshape(4, 64)
    right = clipping([helper.make_node("Min", ["m", "big"], ["cut"]), helper.make_node("Neg", ["cut"], ["y"])])
    wrong = clipping([helper.make_node("Min", ["m", "one"], ["cut"]), helper.make_node("Neg", ["cut"], ["y"])])
    found = verify(right, onnx_to_coreml(wrong, "mlprogram", precision="fp16"), {"x": x})
    assert not found
    assert "cut" in [row.reference for row in found.faults]
    assert not any(row.harmless for row in found.rows)


def test_what_leaves_the_range_and_reaches_an_output_is_a_fault() -> None:
    x = np.linspace(-400, 400, 256, dtype=np.float32).reshape(4, 64)
    source = clipping([helper.make_node("Neg", ["m"], ["y"])])
    found = verify(source, onnx_to_coreml(source, "mlprogram", precision="fp16"), {"x": x})
    assert not found
    assert not any(row.harmless for row in found.rows)


@pytest.mark.parametrize("end", ["y = Identity(m)", "n = Min(m, big) y = Neg(n)"])
def test_a_product_at_the_end_of_the_range_may_come_out_on_either_side(end: str) -> None:
    """In float32 65,518 is a number; where both factors were rounded up to 256 before, float16 makes infinity of it."""
    x = np.linspace(0, 200, 256, dtype=np.float32).reshape(4, 64)
    x[0, 0], x[0, 1] = 255.98, 255.93
    text = f'<ir_version: 8, opset_import: ["": 17]> net (float[4,64] x) => (float[4,64] y) {{ m = Mul(x, k) {end} }}'
    names = {"big": np.float32(100.0)} if "big" in end else {}
    source = onnx_model(text, k=np.float32(255.95), **names)
    found = verify(source, onnx_to_coreml(source, "mlprogram", precision="fp16"), {"x": x})
    assert found, found.summary()
    assert "the end of float16's range" in found.summary()
    assert not any(row.harmless for row in found.rows)


def test_a_wrong_value_beside_those_beyond_the_range_is_a_fault() -> None:
    x = np.linspace(-400, 400, 256, dtype=np.float32).reshape(4, 64)
    end = [helper.make_node("Min", ["m", "big"], ["n"]), helper.make_node("Mul", ["n", "one"], ["y"])]
    source, other = clipping(end), clipping(end)
    other.ir.graph.initializers["one"].const_value = ir.tensor(np.float32(1.02))
    assert not verify(source, onnx_to_coreml(other, "mlprogram", precision="fp16"), {"x": x})


@pytest.mark.parametrize(("planted", "agrees"), [(0.0, True), (0.02, False)])
def test_a_reference_that_is_rounded_to_float16_is_off_by_so_much_itself(planted: float, agrees: bool) -> None:
    """A NeuralNetwork keeps float32 where the source casts to float16: its numbers are the better ones."""
    head = '<ir_version: 8, opset_import: ["": 17]> net'
    half = onnx_model(f"{head} (float[4,64] x) => (float16[4,64] y) {{ t = Tanh(x) y = Cast<to=10>(t) }}")
    wide = onnx_model(
        f"{head} (float[4,64] x) => (float[4,64] y) {{ t = Tanh(x) y = Add(t, c) }}", c=np.float32(planted)
    )
    assert bool(verify(half, wide)) is agrees


def test_what_a_mask_chooses_is_no_quantised_value() -> None:
    """A mask counted in integers is exact: the numbers that it chooses between are not excused by steps of one."""
    text = (
        "(float[2,8] x) => (float[2,8] y) { h = Exp(x) e = Equal(h, zero) i = Cast<to=7>(e)"
        " m = ReduceMin<axes=[1], keepdims=1>(i) a = Cast<to=9>(m) s = Softmax<axis=1>(h) t = Mul(s, k) y = Where(a, zero, t) }"
    )
    head = '<ir_version: 8, opset_import: ["": 17]> net'
    zero = np.zeros(1, np.float32)
    right, wrong = (onnx_model(f"{head} {text}", zero=zero, k=np.array([k], np.float32)) for k in (1.0, 1.1))
    found = verify(right, onnx_to_coreml(wrong, "mlprogram", precision="fp16"))
    chosen = {row.candidate: row for row in found.rows}["y"]
    assert chosen.judgement.tolerance.step == 0
    assert not chosen.agrees


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
def test_the_scale_of_a_dequantisation_is_judged_alike_in_every_form(shape: tuple[int, ...], to: Any) -> None:
    """One number as an array of one scales the error of its steps as a plain number does."""

    def scaled(scale: float) -> OnnxModel:
        return onnx_model(
            '<ir_version: 8, opset_import: ["": 17]> net (float[2,8] x) => (float[2,8] y)'
            " { t = Tanh(x) q = QuantizeLinear(t, a, z) c = Cast<to=1>(q) y = Mul(c, s) }",
            a=np.float32(0.01),
            z=np.int8(3),
            s=np.full(shape, scale, np.float32),
        )

    precision: Any = "fp16" if to == "mlprogram" else "fp32"
    assert verify(scaled(0.01), onnx_to_coreml(scaled(0.01), to, precision=precision))
    assert not verify(scaled(0.01), onnx_to_coreml(scaled(0.0102), to, precision=precision))


@pytest.mark.parametrize(("mode", "length"), [("cubic", 30), ("linear", 300)])
@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
def test_where_an_interpolation_reads_is_rounded_too(mode: str, length: int, to: Any) -> None:
    """Far from the start the place is known to fewer digits behind the point, and the weights with it."""
    text = (
        f"(float[1,2,2,{length}] x) => (float[1,2,2,{length // 15}] y)"
        f' {{ y = Resize<mode="{mode}", coordinate_transformation_mode="half_pixel">(x, , , s) }}'
    )
    source = onnx_model(f'<ir_version: 8, opset_import: ["": 17]> net {text}', s=np.array([1, 2, 2, length // 15]))
    x = np.random.default_rng(0).normal(size=(1, 2, 2, length)).astype(np.float32)
    assert verify(source, onnx_to_coreml(source, to, precision="fp32"), {"x": x})
    turned = {"x": x}, {"x": x[..., ::-1].copy()}
    assert not verify(source, onnx_to_coreml(source, to, precision="fp32"), feeds=turned)


TINY = """<ir_version: 8, opset_import: ["": 17]>
net (float[4,32] x) => (float[4,32] y) { m = Mul(x, k) a = Add(m, one) y = Mul(a, x) }"""


def test_a_value_of_which_float16_holds_nothing_is_harmless_where_nothing_hangs_on_it() -> None:
    """The coefficients of a polynomial: 2.8e-8 is below what float16 has digits for, and what it is added to is not."""
    source = onnx_model(TINY, k=np.float32(2.8e-8), one=np.float32(1))
    with careless():  # ours multiplies by such a number in float32
        found = verify(source, onnx_to_coreml(source, "mlprogram", precision="fp16"))
    assert verify(source, onnx_to_coreml(source, "mlprogram", precision="fp16"))
    assert found, found.summary()
    assert [row.reference for row in found.rows if row.harmless] == ["m"]
    assert "leaves float16's range without harm" in found.summary()
    # an output of which nothing is left is a fault, and so is a coefficient that float16 holds
    alone = onnx_model(
        TINY.replace("a = Add(m, one) y = Mul(a, x)", "y = Mul(m, one)"), k=np.float32(2.8e-8), one=np.float32(1)
    )
    with careless():
        assert not verify(alone, onnx_to_coreml(alone, "mlprogram", precision="fp16"))
    other = onnx_to_coreml(onnx_model(TINY, k=np.float32(3e-4), one=np.float32(1)), "mlprogram", precision="fp16")
    wrong = verify(onnx_model(TINY, k=np.float32(2e-4), one=np.float32(1)), other)
    assert not wrong
    assert not any(row.harmless for row in wrong.rows)


POWER = """<ir_version: 8, opset_import: ["": 17]>
net (float[4,64] x) => (float[4,64] y) { a = Abs(x) b = Add(a, k) y = Pow(b, p) }"""


@pytest.mark.sweep(6)
@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
@pytest.mark.parametrize("exponent", [3.3, 2.0, 2.5, 0.3])
@pytest.mark.parametrize("size", [0.05, 1.0, 5.0])
def test_a_power_errs_by_its_exponent_times_what_it_is_made_of(to: Any, exponent: float, size: float) -> None:
    source = onnx_model(POWER, k=np.float32(0.1 * size), p=np.float32(exponent))
    how = {"precision": "fp16"} if to == "mlprogram" else {}
    fed = {"x": (size * np.random.default_rng(0).normal(size=(4, 64))).astype(np.float32)}
    found = verify(source, onnx_to_coreml(source, to, **how), fed)
    assert found, found.summary()
    typical = found.outputs[0].tolerance.typical
    assert typical is not None
    assert typical < (0.06 if to == "mlprogram" else 1e-5)  # |ln x| is 4 at most
    other = onnx_model(POWER, k=np.float32(0.1 * size), p=np.float32(1.03 * exponent))
    assert not verify(source, onnx_to_coreml(other, to, **how), fed)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_what_an_index_takes_is_no_whole_number_of_steps(precision: str) -> None:
    """Numbers that stand at an index are judged as numbers: their index is rounded to whole ones, they are not."""
    text = """<ir_version: 8, opset_import: ["": 17]>
    net (float[4,8] x, float[16] t) => (float[4,8] y) { a = Abs(x) b = Floor(a)
    c = Cast<to = 7>(b) g = Gather(t, c) y = Mul(g, x) }"""
    source, rng = onnx_model(text), np.random.default_rng(0)
    fed = {"x": rng.normal(size=(4, 8)).astype(np.float32), "t": rng.normal(size=16).astype(np.float32)}
    found = verify(source, onnx_to_coreml(source, "mlprogram", precision=precision), fed)
    assert found, found.summary()
    gathered = next(row for row in found.rows if row.reference == "g")
    assert gathered.tolerance.step == 0
    assert gathered.tolerance.typical is not None
    assert gathered.tolerance.typical < 0.01
