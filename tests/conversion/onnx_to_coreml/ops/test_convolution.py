"""Convolutions and transposed ones against PyTorch: in one to three dimensions, groups, strides, dilations, paddings."""

from __future__ import annotations

from typing import Any

import pytest
from torch.nn import functional as F

from tests.conversion.onnx_to_coreml.one_node import TARGETS, check_node
from tests.drawn import normal, t

PROGRAMS = [target for target in TARGETS if target[0] == "mlprogram"]


@pytest.mark.parametrize(("groups", "stride", "dilation"), [(1, 1, 1), (2, 2, 1), (4, 1, 2)])
@pytest.mark.parametrize("bias", [False, True])
def test_convolution_in_two_dimensions(groups: int, stride: int, dilation: int, bias: bool) -> None:
    x, w, b = normal(2, 4, 9, 8), normal(8, 4 // groups, 3, 2), normal(8)
    expected = F.conv2d(
        F.pad(t(x), (0, 1, 1, 2)), t(w), t(b) if bias else None, stride=stride, dilation=dilation, groups=groups
    )
    check_node(
        "Conv", {"x": x}, expected.numpy(), {"w": w, "b": b} if bias else {"w": w}, pads=[1, 0, 2, 1], group=groups,
        strides=[stride, stride], dilations=[dilation, dilation], atol=2e-5,
    )  # fmt: skip


@pytest.mark.parametrize(("auto", "pads"), [("SAME_UPPER", (0, 1, 0, 1)), ("SAME_LOWER", (1, 0, 1, 0))])
def test_same_padding_and_its_heavy_side(auto: str, pads: tuple[int, ...]) -> None:
    x, w = normal(1, 3, 6, 6), normal(5, 3, 3, 3)
    expected = F.conv2d(F.pad(t(x), pads), t(w), stride=2).numpy()
    check_node("Conv", {"x": x}, expected, {"w": w}, auto_pad=auto, strides=[2, 2], atol=2e-5)


def test_convolution_in_one_dimension() -> None:
    x, w = normal(2, 3, 9), normal(4, 3, 3)
    check_node("Conv", {"x": x}, F.conv1d(t(x), t(w), padding=1).numpy(), {"w": w}, pads=[1, 1], atol=2e-5)


def test_convolution_in_three_dimensions() -> None:
    x, w = normal(1, 2, 5, 6, 4), normal(3, 2, 2, 3, 2)
    check_node("Conv", {"x": x}, F.conv3d(t(x), t(w)).numpy(), {"w": w}, targets=PROGRAMS, atol=2e-5)


@pytest.mark.parametrize(("groups", "padding", "more"), [(1, 0, 0), (2, 1, 1)])
def test_transposed_convolution(groups: int, padding: int, more: int) -> None:
    x, w, b = normal(1, 4, 5, 6), normal(4, 6 // groups, 3, 3), normal(6)
    expected = F.conv_transpose2d(
        t(x), t(w), t(b), stride=2, padding=padding, output_padding=more, groups=groups
    ).numpy()
    check_node(
        "ConvTranspose", {"x": x}, expected, {"w": w, "b": b}, strides=[2, 2], pads=[padding] * 4,
        output_padding=[more, more], group=groups, atol=2e-5,
    )  # fmt: skip


@pytest.mark.sweep(4)
@pytest.mark.parametrize(
    ("size", "channels", "described"),
    [
        ((7,), (4, 3), {"strides": [2], "pads": [1, 1]}),
        ((5, 6), (4, 3), {}),
        ((5, 6), (4, 3), {"strides": [2, 3], "pads": [1, 0, 1, 0], "output_padding": [1, 0]}),
        ((5, 6), (4, 2), {"group": 2, "dilations": [2, 1], "strides": [2, 1]}),
        ((3, 4, 3), (2, 3), {"strides": [2, 1, 2]}),
    ],
)
@pytest.mark.parametrize("with_bias", [False, True])
def test_transposed_convolution_by_weights_that_are_fed(
    size: tuple[int, ...], channels: tuple[int, int], described: dict[str, Any], with_bias: bool
) -> None:
    count = len(size)
    x, w = normal(2, channels[0], *size), normal(*channels, *[3] * count)
    groups = described.get("group", 1)
    fed = {"x": x, "w": w, **({"b": normal(channels[1] * groups)} if with_bias else {})}
    want = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[count - 1](
        t(x), t(w), t(fed["b"]) if with_bias else None, stride=described.get("strides", 1),
        padding=described.get("pads", [0] * count)[:count], output_padding=described.get("output_padding", 0),
        groups=groups, dilation=described.get("dilations", 1),
    )  # fmt: skip
    check_node("ConvTranspose", fed, want.numpy(), targets=PROGRAMS, rtol=1e-4, atol=1e-4, **described)


def test_a_dilated_convolution_by_weights_that_are_fed() -> None:
    x, w = normal(1, 2, 9, 9), normal(3, 2, 3, 2)
    want = F.conv2d(t(x), t(w), dilation=(2, 3)).numpy()
    check_node("Conv", {"x": x, "w": w}, want, targets=PROGRAMS, rtol=1e-4, atol=1e-4, dilations=[2, 3])
