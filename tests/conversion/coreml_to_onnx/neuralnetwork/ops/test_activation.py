"""Activations against their definitions, one setting for all channels or one a channel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.conversion.coreml_to_onnx.lowered import close, run_layer
from tests.drawn import normal, t

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
F = torch.nn.functional


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        ("leakyReLU", {"alpha": 0.2}, lambda x: F.leaky_relu(x, 0.2)),
        ("thresholdedReLU", {"alpha": 0.5}, lambda x: torch.where(x >= 0.5, x, torch.zeros(()))),
        ("scaledTanh", {"alpha": 1.7, "beta": 0.6}, lambda x: 1.7 * torch.tanh(0.6 * x)),
        ("sigmoidHard", {"alpha": 0.3, "beta": 0.4}, lambda x: (0.3 * x + 0.4).clamp(0, 1)),
        ("ELU", {"alpha": 0.7}, lambda x: F.elu(x, 0.7)),
        ("softsign", {}, F.softsign),
        ("softplus", {}, F.softplus),
        ("linear", {"alpha": 2.0, "beta": -1.0}, lambda x: 2 * x - 1),
        ("linear", {"beta": 3.0}, lambda x: 0 * x + 3),
    ],
)
def test_activations(kind: str, fields: dict[str, float], expected: Any) -> None:
    x = np.concatenate([normal(3, 4, 5).ravel(), [0.5, 0.0]]).astype(np.float32)
    close(run_layer("activation", x, **{kind: fields}), expected(t(x)))


def test_channelwise_activations() -> None:
    x, alpha, beta = normal(2, 3, 4, 4), np.abs(normal(3)), normal(3)
    close(run_layer("activation", x, PReLU={"alpha": alpha}), F.prelu(t(x), t(alpha)))
    expected = alpha[:, None, None] * np.log1p(np.exp(beta[:, None, None] * x))
    close(run_layer("activation", x, parametricSoftplus={"alpha": alpha, "beta": beta}), expected)
