"""Batch, instance and local normalisations and softmax, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

from tests.conversion.coreml_to_onnx.lowered import close, run_layer
from tests.drawn import normal, t

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
F = torch.nn.functional


def test_batchnorm_and_instance_norm() -> None:
    x, g, b, m, v = normal(2, 3, 4, 5), normal(3), normal(3), normal(3), np.abs(normal(3))
    close(
        run_layer("batchnorm", x, channels=3, gamma=g, beta=b, mean=m, variance=v),
        F.batch_norm(t(x), t(m), t(v), t(g), t(b)),
    )
    found = run_layer(
        "batchnorm", x, channels=3, gamma=g, beta=b, computeMeanVar=True, instanceNormalization=True, epsilon=1e-3
    )
    close(found, F.instance_norm(t(x), weight=t(g), bias=t(b), eps=1e-3))
    found = run_layer("batchnorm", x, channels=3, gamma=g, beta=b, computeMeanVar=True)
    close(found, F.batch_norm(t(x), None, None, t(g), t(b), training=True))


def test_mvn_l2normalize_and_lrn() -> None:
    x = normal(2, 6, 4, 5)
    close(run_layer("mvn", x, acrossChannels=True, normalizeVariance=True), F.layer_norm(t(x), (6, 4, 5), eps=1e-6))
    close(run_layer("mvn", x), x - x.mean((2, 3), keepdims=True))
    close(run_layer("l2normalize", x), x / np.sqrt((x**2).sum((1, 2, 3), keepdims=True) + 1e-6))
    for size in (4, 5):
        found = run_layer("lrn", x, alpha=0.3, beta=0.75, localSize=size, k=2.0)
        close(found, F.local_response_norm(t(x), size, 0.3, 0.75, 2.0))


def test_softmax_is_over_channels() -> None:
    x = normal(2, 3, 4, 5)
    close(run_layer("softmax", x), F.softmax(t(x), 1))
