"""Activations that MIL's own operations quantise: rounding explains a step here and there, and no other scale or zero point."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import coreproof as cp
from tests.build import graph_model, weights


def net(scale: float = 0.05, zero: int = 120) -> Any:
    text = """net (float[4, 64] x) => (float[4, 48] y) {
        a = MatMul (x, w)  r = Relu (a)  q = QuantizeLinear (r, s, z)  d = DequantizeLinear (q, s, z)
        b = MatMul (d, v)  p = QuantizeLinear (b, t, z)  y = DequantizeLinear (p, t, z) }"""
    return graph_model(
        text,
        17,
        w=weights(64, 64) / 8,
        v=weights(64, 48, seed=1) / 8,
        s=np.float32(scale),
        t=np.float32(0.043),
        z=np.uint8(zero),
    )


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_rounding_explains_a_step_here_and_there(precision: Any) -> None:
    made = cp.convert(net(), "mlprogram", target="iOS17", precision=precision)
    assert {node.operator for node in made.graph.nodes} >= {"quantize", "dequantize"}
    found = cp.verify(net(), made)
    assert found, found.summary()


@pytest.mark.parametrize(("scale", "zero"), [(0.06, 120), (0.05, 100)])
def test_another_scale_or_zero_point_is_found_where_it_stands(scale: float, zero: int) -> None:
    made = cp.convert(net(scale, zero), "mlprogram", target="iOS17", precision="fp16")
    found = cp.verify(net(), made)
    assert not found
    first = found.first_divergence
    assert first is not None
    assert first.candidate in ("q", "d")


@pytest.mark.parametrize(("to", "precision"), [("mlprogram", "fp16"), ("mlprogram", "fp32"), ("neuralnetwork", "fp32")])
def test_what_a_product_amplifies_is_not_amplified_again_where_it_is_cast(to: Any, precision: Any) -> None:
    """Sums of bytes are cast to integers and back, each of which was taken to amplify as the product does: anything agreed."""
    numbers = np.random.default_rng(1).integers(-127, 128, (16, 24)).astype(np.int8)
    wrong = numbers.copy()
    wrong[3, 5] = -100 if wrong[3, 5] > 0 else 100

    def model(held: np.ndarray) -> Any:
        stored = {"w": held, "ws": np.float32(0.01), "wz": np.int8(0), "b": np.linspace(-1, 1, 24).astype(np.float32)}
        node = helper.make_node("DynamicQuantizeMatMul", ["x", *stored], ["y"], domain="com.microsoft")
        ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [5, k]) for n, k in (("x", 16), ("y", 24))]
        tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()]
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        graph = helper.make_graph([node], "g", ends[:1], ends[1:], tensors)
        return cp.load(helper.make_model(graph, opset_imports=opsets, ir_version=9))

    right = cp.verify(model(numbers), cp.convert(model(numbers), to, precision=precision))
    assert right.agrees
    assert right.proves, right.summary()
    assert not cp.verify(model(numbers), cp.convert(model(wrong), to, precision=precision))


def deep(wrong: int | None = None, layers: int = 20) -> Any:
    """Layers that each quantise: a step of one is many steps at the end. ``wrong``: the layer with another weight."""
    text = "net (float[2, 64] x) => (float[2, 64] y) { q0 = QuantizeLinear (x, s, z) d0 = DequantizeLinear (q0, s, z)\n"
    held = {}
    for k in range(layers):
        made = "y" if k == layers - 1 else f"d{k + 1}"
        text += f"m{k} = MatMul (d{k}, w{k}) q{k + 1} = QuantizeLinear (m{k}, s, z) {made} = DequantizeLinear (q{k + 1}, s, z)\n"
        held[f"w{k}"] = weights(64, 64, seed=k) * np.float32(1.3 / 8)
    if wrong is not None:
        held[f"w{wrong}"][3] *= 1.5
    return graph_model(text + "}", 17, **held, s=np.float32(0.05), z=np.uint8(128))


def test_an_element_that_many_layers_carry_far_proves_as_much_as_each_layer_does() -> None:
    found = cp.verify(deep(), cp.convert(deep(), "mlprogram", target="iOS17", precision="fp16"))
    assert found.agrees
    (output,) = found.outputs
    assert output.judgement.required_relative > 0.5, "nothing is carried far"
    assert found.proves, found.summary()
    first = found.summary().splitlines()[0]
    assert "which came in: rounding before them brings numbers to another step of quantisation" in first


@pytest.mark.parametrize("wrong", [0, 11, 19])
def test_another_weight_of_one_of_many_layers_is_found(wrong: int) -> None:
    assert not cp.verify(deep(), cp.convert(deep(wrong), "mlprogram", target="iOS17", precision="fp16"))
