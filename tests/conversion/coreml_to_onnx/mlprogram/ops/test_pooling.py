"""Pooling against PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tests.build import mil
from tests.conversion.coreml_to_onnx.lowered import normal, only, run


def test_average_pooling_in_ceil_mode_agrees_with_pytorch(tmp_path: Path) -> None:
    x = normal(1, 2, 7, 6)
    model = mil(
        tmp_path,
        lambda mb, a: mb.avg_pool(
            x=a, kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1], ceil_mode=True
        ),
        x.shape,
    )
    expected = torch.nn.functional.avg_pool2d(torch.from_numpy(x), 3, 2, 1, ceil_mode=True)
    np.testing.assert_allclose(only(run(model, a=x)), expected.numpy(), rtol=1e-5, atol=1e-6)
