"""Quantised PyTorch modules: what converts equals exact integer arithmetic, what does not is told with what to do."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import coreproof as cp

torch = pytest.importorskip("torch", reason="needs the torch extra")


def test_sums_of_8_bit_products_are_exact() -> None:
    weight = torch.randint(-127, 128, (64, 24), dtype=torch.int8)

    class Products(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return torch._int_mm((x * 20).round().clamp(-127, 127).to(torch.int8), weight).float()

    x = torch.randn(32, 64)
    model = cp.convert(cp.Source(Products(), (x,)), "mlprogram", precision="fp32")
    with cp.session(model) as running:
        (found,) = running.run({"x": x.numpy()}).values()
    expected = np.clip(np.round(x.numpy() * np.float32(20)), -127, 127).astype(np.int64) @ weight.numpy().astype(
        np.int64
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.thorough
def test_a_program_with_quantisers_stays_quantised_and_agrees() -> None:
    """What convert_pt2e leaves: int8 weights that are dequantised, activations that are quantised and dequantised."""
    __import__("torch.ao.quantization.fx._decomposed")
    ops = torch.ops.quantized_decomposed

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("weight", torch.randint(-127, 128, (24, 32), dtype=torch.int8))
            self.register_buffer("scale", torch.rand(24) * 0.1 + 0.01)
            self.register_buffer("zero", torch.zeros(24, dtype=torch.int64))

        def forward(self, x: Any) -> Any:
            x = ops.quantize_per_tensor(x, 0.03, 3, -128, 127, torch.int8)
            x = ops.dequantize_per_tensor(x, 0.03, 3, -128, 127, torch.int8)
            w = ops.dequantize_per_channel(self.weight, self.scale, self.zero, 0, -127, 127, torch.int8)
            return torch.nn.functional.linear(x, w)

    x, layer = torch.randn(2, 32), Layer().eval()
    source = cp.load((layer, (x,)))
    model = cp.convert(source, "mlprogram", precision="fp32")
    kinds = {node.operator for node in model.graph.nodes}
    assert any("constexpr" in kind for kind in kinds)
    assert cp.verify(source, model)
    with cp.session(model) as running:
        (found,) = running.run({"x": x.numpy()}).values()
    whole = np.clip(np.round(x.double().numpy() / np.float32(0.03)) + 3, -128, 127) - 3
    weight = layer.weight.double().numpy() * layer.scale.double().numpy()[:, None]
    np.testing.assert_allclose(found, (whole * np.float32(0.03)) @ weight.T, rtol=1e-5, atol=1e-5)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("made", ["dynamic", "learning"])
def test_eager_quantisation_is_refused_with_what_to_do(made: str) -> None:
    from torch.ao import quantization

    network = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
    x = torch.randn(2, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if made == "dynamic":
            module = quantization.quantize_dynamic(network.eval(), {torch.nn.Linear}, dtype=torch.qint8)
            said = r"(?s)2 layer\(s\) are quantised by PyTorch's eager mode.*0 \(Linear\).*--compress linear:8.*convert_pt2e"
        else:
            network.train().qconfig = quantization.get_default_qat_qconfig("fbgemm")
            module = quantization.prepare_qat(network)
            module(x)
            said = r"(?s)still observe what they are fed.*convert\(module\.eval\(\)\)"
    with pytest.raises(cp.CoreproofError, match=said):
        cp.convert(cp.Source(module.eval(), (x,)), "mlprogram")
