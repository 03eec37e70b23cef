"""Mixtures of experts (com.microsoft), judged by ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import coreproof as cp
from coreproof.model.onnx.model import OnnxModel
from tests.conversion.onnx_to_coreml.microsoft_node import check_microsoft, microsoft_model
from tests.drawn import RNG, normal

EXPERTS, WIDTH, INNER = 5, 32, 64


def fed(rank: int) -> dict[str, Any]:
    return {"x": normal(*((2, 3, WIDTH) if rank == 3 else (6, WIDTH))), "r": normal(6, EXPERTS)}


@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    ("activation", "fusion", "k", "normalized", "rank", "bias"),
    [
        ("relu", 0, 1, 0, 2, True),
        ("gelu", 0, 2, 1, 3, True),
        ("silu", 0, 2, 0, 3, False),
        ("identity", 0, 5, 1, 2, False),
        ("swiglu", 1, 2, 1, 3, True),
    ],
)
def test_experts(activation: str, fusion: int, k: int, normalized: int, rank: int, bias: bool) -> None:
    inner = INNER * (2 if fusion else 1)
    constants = {"w1": normal(EXPERTS, inner, WIDTH) * 0.2, "w2": normal(EXPERTS, WIDTH, INNER) * 0.2}
    if bias:
        constants |= {"b1": normal(EXPERTS, inner), "b2": normal(EXPERTS, WIDTH)}
    order = ["x", "r", "w1", "b1" if bias else "", "w2", "b2" if bias else ""]
    options: dict[str, Any] = {"k": k, "activation_type": activation, "normalize_routing_weights": normalized}
    if fusion:
        options |= {"swiglu_fusion": fusion, "activation_alpha": 1.702, "activation_beta": 1.0, "swiglu_limit": 2.0}
    check_microsoft("MoE", fed(rank), constants, order, **options)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def unpacked(weight: np.ndarray, bits: int) -> np.ndarray:
    """The numbers of bytes, the lower bits first."""
    parts = [(weight >> shift) & ((1 << bits) - 1) for shift in range(0, 8, bits)]
    return np.stack(parts, axis=-1).reshape(*weight.shape[:-1], -1)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("block", [0, 16])
@pytest.mark.parametrize("with_zero", [False, True])
def test_quantised_experts(bits: int, block: int, with_zero: bool) -> None:
    """Against the definition in NumPy, and ONNX Runtime, save where that rounds what it multiplies: 8 bits in blocks."""
    dense: list[np.ndarray] = []

    def layer(made: int, read: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        weight = RNG.integers(0, 256, (EXPERTS, made, read * bits // 8)).astype(np.uint8)
        blocks = read // block if block else 1
        scale = RNG.uniform(0.005, 0.02, (EXPERTS, made, blocks) if block else (EXPERTS, made)).astype(np.float32)
        scale /= 1 if bits == 4 else 16
        packed = (EXPERTS, made, -(-blocks * bits // 8)) if block else (EXPERTS, made * bits // 8)
        zero = RNG.integers(0, 256, packed).astype(np.uint8)
        points = np.full((EXPERTS, made, blocks), 1 << (bits - 1))
        if with_zero:
            points = unpacked(zero, bits)[:, :, :blocks] if block else unpacked(zero, bits)[:, :made, None]
        spread = [
            np.repeat(each.reshape(EXPERTS, made, blocks).astype(float), read // blocks, 2) for each in (points, scale)
        ]
        dense.append((unpacked(weight, bits) - spread[0]) * spread[1])
        return weight, scale, zero

    w1, s1, z1 = layer(INNER, WIDTH)
    w2, s2, z2 = layer(WIDTH, INNER)
    constants = {"w1": w1, "s1": s1, "w2": w2, "s2": s2} | ({"z1": z1, "z2": z2} if with_zero else {})
    order = ["x", "r", "w1", "s1", "", "w2", "s2", "", "", "", "", *(["z1", "z2"] if with_zero else [])]
    options: dict[str, Any] = {
        "k": 2,
        "activation_type": "silu",
        "expert_weight_bits": bits,
        "normalize_routing_weights": 1,
    }
    options |= {"block_size": block} if block else {}
    inputs = fed(2)
    if not (bits == 8 and block):
        check_microsoft("QMoE", inputs, constants, order, **options)
    model = OnnxModel(ir.from_proto(microsoft_model("QMoE", inputs, constants, order, **options)), name="experts")
    with cp.session(cp.convert(model, "mlprogram", precision="fp32", target="iOS18", check=False)) as running:
        (found,) = running.run(inputs).values()
    expected = np.zeros((6, WIDTH))
    for token, scores in enumerate(inputs["r"].astype(float)):
        best = np.argsort(-scores)[:2]
        shares = np.exp(scores[best]) / np.exp(scores[best]).sum()
        for share, expert in zip(shares, best, strict=True):
            inner = dense[0][expert] @ inputs["x"][token]
            expected[token] += share * (dense[1][expert] @ (inner * sigmoid(inner)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
