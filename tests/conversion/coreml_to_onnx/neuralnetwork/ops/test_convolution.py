"""Convolutions and deconvolutions against PyTorch: paddings, groups, strides, leading dimensions."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conversion.coreml_to_onnx.lowered import close, run_layer
from tests.drawn import normal, t

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
F = torch.nn.functional


def edges(top: int, bottom: int, left: int, right: int) -> dict[str, Any]:
    return {
        "borderAmounts": [
            {"startEdgeSize": top, "endEdgeSize": bottom},
            {"startEdgeSize": left, "endEdgeSize": right},
        ]
    }


@pytest.mark.parametrize(("groups", "stride", "dilation"), [(1, 1, 1), (2, 2, 1), (4, 1, 2)])
def test_convolution(groups: int, stride: int, dilation: int) -> None:
    x, w, b = normal(2, 4, 9, 8), normal(8, 4 // groups, 3, 2), normal(8)
    found = run_layer(
        "convolution", x, outputChannels=8, kernelChannels=4 // groups, nGroups=groups, kernelSize=[3, 2],
        stride=[stride, stride], dilationFactor=[dilation, dilation], hasBias=True, weights=w, bias=b,
        valid={"paddingAmounts": edges(1, 2, 0, 1)},
    )  # fmt: skip
    padded = F.pad(t(x), (0, 1, 1, 2))
    close(found, F.conv2d(padded, t(w), t(b), stride=stride, dilation=dilation, groups=groups))


@pytest.mark.parametrize(("mode", "pads"), [("BOTTOM_RIGHT_HEAVY", (0, 1, 0, 1)), ("TOP_LEFT_HEAVY", (1, 0, 1, 0))])
def test_same_padding_and_its_heavy_side(mode: str, pads: tuple[int, ...]) -> None:
    x, w = normal(1, 3, 6, 6), normal(5, 3, 3, 3)
    found = run_layer(
        "convolution", x, outputChannels=5, kernelChannels=3, stride=[2, 2], weights=w, same={"asymmetryMode": mode}
    )  # fmt: skip
    close(found, F.conv2d(F.pad(t(x), pads), t(w), stride=2))


def test_convolution_sees_leading_dimensions_as_one_batch() -> None:
    x, w = normal(2, 3, 4, 5, 5), normal(6, 4, 3, 3)
    found = run_layer("convolution", x, outputChannels=6, kernelChannels=4, weights=w, valid={})
    close(found, F.conv2d(t(x.reshape(6, 4, 5, 5)), t(w)).reshape(2, 3, 6, 3, 3))


@pytest.mark.parametrize("output_shape", [[], [11, 12]])
def test_deconvolution(output_shape: list[int]) -> None:
    x, w = normal(1, 4, 5, 6), normal(4, 3, 3, 3)
    found = run_layer(
        "convolution", x, isDeconvolution=True, outputChannels=6, kernelChannels=4, nGroups=2, stride=[2, 2],
        weights=w, valid={}, outputShape=output_shape,
    )  # fmt: skip
    full = F.conv_transpose2d(t(x), t(w), stride=2, groups=2)
    close(found, full if not output_shape else full[:, :, :11, :12])
