"""What the integers of ONNX's quantised products stand for, and what verify says of them once they are compressed weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import coreproof as cp
from coreproof.model.layer_weights import all_weights
from coreproof.verification.compressed_weights import compressed_weights
from coreproof.verification.integer_products import real_weight, scale_beside
from tests.build import onnx_net

RNG = np.random.default_rng(4)
BYTES = RNG.integers(20, 250, (8, 8)).astype(np.uint8)
KERNEL = RNG.integers(20, 250, (8, 8, 3, 3)).astype(np.uint8)
ROWS = np.linspace(0.01, 0.03, 8).astype(np.float32)
PLACES = RNG.integers(90, 160, 8).astype(np.uint8)
WEIGHTS: dict[str, Any] = {
    "w": BYTES, "k": KERNEL, "ws": np.float32(0.02), "wz": np.uint8(140), "rows": ROWS, "places": PLACES,
    "s": np.float32(0.03), "z": np.uint8(120), "s2": np.float32(1.5), "z2": np.uint8(110),
}  # fmt: skip
Q = ("QuantizeLinear", "x s z", "q", {})
MICROSOFT = {"domain": "com.microsoft"}
PRODUCTS: dict[str, tuple[list[tuple[str, str, str, dict[str, Any]]], str, np.ndarray, float]] = {
    "QLinearConv": (
        [Q, ("QLinearConv", "q s z k ws wz s2 z2", "p", {}), ("DequantizeLinear", "p s2 z2", "y", {})],
        "k", (KERNEL - 140.0) * np.float32(0.02), 0.03 / 1.5,
    ),
    "QLinearConv by channel": (
        [Q, ("QLinearConv", "q s z k rows places s2 z2", "p", {}), ("DequantizeLinear", "p s2 z2", "y", {})],
        "k", (KERNEL - PLACES.astype(float)[:, None, None, None]) * ROWS[:, None, None, None], 0.03 / 1.5,
    ),
    "QLinearMatMul": (
        [Q, ("QLinearMatMul", "q s z w ws wz s2 z2", "p", {}), ("DequantizeLinear", "p s2 z2", "y", {})],
        "w", (BYTES - 140.0) * np.float32(0.02), 0.03 / 1.5,
    ),
    "QGemm": (
        [Q, ("QGemm", "q s z w ws wz  s2 z2", "p", {**MICROSOFT, "alpha": 0.5}), ("DequantizeLinear", "p s2 z2", "y", {})],
        "w", (BYTES - 140.0) * np.float32(0.02), 0.5 * 0.03 / 1.5,
    ),
    "QGemm transposed, to floats": (
        [Q, ("QGemm", "q s z w rows places", "y", {**MICROSOFT, "transB": 1})],
        "w", (BYTES - PLACES.astype(float)[:, None]) * ROWS[:, None], 0.03,
    ),
    "MatMulInteger": (
        [Q, ("MatMulInteger", "q w z wz", "p", {}), ("Cast", "p", "f", {"to": TensorProto.FLOAT}), ("Mul", "f s", "y", {})],
        "w", BYTES - 140.0, 1.0,
    ),
    "DynamicQuantizeMatMul": (
        [("DynamicQuantizeMatMul", "x w rows places", "y", MICROSOFT)],
        "w", (BYTES - PLACES.astype(float)) * ROWS, 1.0,
    ),
}  # fmt: skip


def model_of(name: str, **others: Any) -> Any:
    nodes = [
        helper.make_node(kind, reads.split(" "), [makes], name=makes, **attributes)
        for kind, reads, makes, attributes in PRODUCTS[name][0]
    ]
    read = {part for node in nodes for part in node.input}
    stored = {key: value for key, value in {**WEIGHTS, **others}.items() if key in read}
    return onnx_net(nodes, {"x": [1, 8, 6, 6] if "Conv" in name else [4, 8]}, {"y": None}, **stored)


@pytest.mark.parametrize("name", PRODUCTS)
def test_integers_stand_for_numbers_less_a_zero_point_times_a_scale(name: str) -> None:
    model = model_of(name)
    _, parameter, real, beside = PRODUCTS[name]
    node = next(n for n in model.graph.nodes if parameter in n.inputs)
    held = all_weights(model)[node.name]
    np.testing.assert_allclose(real_weight(node, parameter, held).read(), real, rtol=1e-6)
    scale = scale_beside(node, held)
    assert scale is not None
    np.testing.assert_allclose(scale, [beside], rtol=1e-6)


@pytest.mark.sweep(4)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_a_quantised_product_s_weight_is_its_source_s(name: str, precision: Any) -> None:
    model = model_of(name)
    program = cp.convert(model, "mlprogram", precision=precision, target="iOS18", check=False)
    found = compressed_weights(model, program)
    assert found.explained
    assert not found.unexplained
    assert cp.verify(model, program).agrees


@pytest.mark.parametrize("other", [{"w": BYTES[[1, 0, *range(2, 8)]]}, {"wz": np.uint8(100)}])
@pytest.mark.parametrize("name", ["QLinearMatMul", "QGemm", "MatMulInteger"])
def test_other_integers_or_another_zero_point_are_none_of_its_source_s(name: str, other: dict[str, Any]) -> None:
    program = cp.convert(model_of(name, **other), "mlprogram", precision="fp32", target="iOS18", check=False)
    assert compressed_weights(model_of(name), program).unexplained
