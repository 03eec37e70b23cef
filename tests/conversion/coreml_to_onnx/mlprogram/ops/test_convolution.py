"""Convolutions against PyTorch, in each form of padding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.build import mil
from tests.conversion.coreml_to_onnx.lowered import normal, only, run


@pytest.mark.parametrize("pad_type", ["valid", "same", "same_lower", "custom"])
def test_convolution_pads_as_pytorch_does_with_the_same_numbers(tmp_path: Path, pad_type: str) -> None:
    x, weight, bias = normal(1, 4, 9, 8), normal(6, 2, 3, 2), normal(6)
    before_after = {"valid": (0, 0, 0, 0), "same": (0, 0, 1, 1), "same_lower": (0, 0, 1, 1), "custom": (1, 2, 0, 1)}
    pads = before_after[pad_type]
    model = mil(
        tmp_path,
        lambda mb, a: mb.conv(
            x=a, weight=weight, bias=bias, strides=[2, 2], groups=2, pad_type=pad_type, pad=[pads[2], pads[3], pads[0], pads[1]]
            if pad_type == "custom" else None,
        ) if pad_type == "custom" else mb.conv(x=a, weight=weight, bias=bias, strides=[2, 2], groups=2, pad_type=pad_type),
        x.shape,
    )  # fmt: skip
    padded = torch.nn.functional.pad(torch.from_numpy(x), pads)
    expected = torch.nn.functional.conv2d(padded, torch.from_numpy(weight), torch.from_numpy(bias), stride=2, groups=2)
    np.testing.assert_allclose(only(run(model, a=x)), expected.numpy(), rtol=1e-5, atol=1e-5)
