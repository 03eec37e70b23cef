"""Convolutions against PyTorch in exact arithmetic: one to three dimensions, each form of padding, groups, dilations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from coreproof.errors import ConversionError
from coreproof.runtime.open import session
from tests.build import program
from tests.conversion.coreml_to_onnx.lowered import only
from tests.conversion.coreml_to_onnx.mlprogram.family import Family, Trial
from tests.drawn import RNG, normal

family = Family("convolution")
Array = np.ndarray
CONV = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}
TRANSPOSED = {1: torch.conv_transpose1d, 2: torch.conv_transpose2d, 3: torch.conv_transpose3d}


def t(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(array, np.float64))


def ends(total: int, lower: bool) -> tuple[int, int]:
    """A number of places before and after, the odd one after them unless ``lower``."""
    return (total - total // 2, total // 2) if lower else (total // 2, total - total // 2)


def padded(x: Array, kernel: Sequence[int], strides: Sequence[int], pad_type: str, pad: Sequence[int] | None) -> Array:
    """``x`` with its padding; the lengths of ``kernel`` are dilated. "Same" makes as many windows as n / stride, rounded up."""
    widths = [(0, 0)] * len(kernel)
    if pad_type == "custom" and pad is not None:
        widths = [(pad[2 * i], pad[2 * i + 1]) for i in range(len(kernel))]
    elif pad_type.startswith("same"):
        missing = [(-(-n // s) - 1) * s + k - n for n, k, s in zip(x.shape[2:], kernel, strides, strict=True)]
        widths = [ends(max(0, m), pad_type == "same_lower") for m in missing]
    return np.pad(x, [(0, 0), (0, 0), *widths])


IMAGE, KERNEL, BIAS = normal(1, 4, 9, 8), normal(6, 2, 3, 2), normal(6)
PADS = ("valid", "same", "same_lower")


@family.defines(
    "conv", "x",
    [
        *({"x": IMAGE, "weight": KERNEL, "bias": BIAS, "strides": [2, 2], "groups": 2, "pad_type": pad} for pad in PADS),
        {"x": IMAGE, "weight": KERNEL, "strides": [2, 2], "groups": 2, "pad_type": "custom", "pad": [0, 1, 1, 2]},
        *({"x": IMAGE, "weight": normal(2, 4, 3, 3), "strides": [1, 3], "dilations": [2, 3], "pad_type": pad} for pad in PADS),
        {"x": normal(2, 3, 7), "weight": normal(4, 3, 3), "bias": normal(4)},
        {"x": normal(2, 4, 7), "weight": normal(4, 1, 2), "groups": 4, "pad_type": "same", "strides": [2]},
        {"x": normal(2, 3, 7), "weight": normal(2, 3, 3), "dilations": [3], "pad_type": "custom", "pad": [4, 0]},
        {"x": normal(1, 2, 4, 5, 3), "weight": normal(3, 2, 2, 3, 2), "pad_type": "same", "strides": [1, 2, 1],
          "bias": normal(3)},
        {"x": normal(1, 2, 2, 2), "weight": normal(2, 2, 1, 1)},
    ],
    within=1e-5,
)  # fmt: skip
def conv(
    x: Array, weight: Array, bias: Array | None = None, strides: Sequence[int] | None = None, pad_type: str = "valid",
    pad: Sequence[int] | None = None, dilations: Sequence[int] | None = None, groups: int = 1,
) -> Array:  # fmt: skip
    spatial = x.ndim - 2
    strides, dilations = strides or [1] * spatial, dilations or [1] * spatial
    reach = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    whole = padded(x, reach, strides, pad_type, pad)
    bias_given = None if bias is None else t(bias)
    return CONV[spatial](
        t(whole), t(weight), bias_given, stride=tuple(strides), dilation=tuple(dilations), groups=groups
    ).numpy()


@family.exercises("conv")
@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 3, 7, 5), (1, 3, 4, 4, 3)])
def test_float16_weights_serve_a_float32_input(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """From iOS17 on; the input and the result keep all their bits."""
    x, weight, bias = (
        normal(*shape),
        normal(4, 3, *[2] * (len(shape) - 2)).astype(np.float16),
        normal(4).astype(np.float16),
    )
    model = program(tmp_path, lambda mb, a: mb.conv(x=a, weight=weight, bias=bias), [(x.shape, "float32")])
    with session(model) as running:
        found = only(running.run({"a": x}))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, conv(x, weight, bias), rtol=1e-5, atol=1e-5)


STORED = RNG.integers(0, 256, (4, 2, 3, 3)).astype(np.uint8)


@family.exercises("conv_quantized", target="iOS15")
@pytest.mark.parametrize(
    ("scale", "shift"),
    [(np.float32(0.01), np.float32(-1)), (np.float32([0.01, 0.02, 0.005, 0.01]), np.float32([-1, -2, 0, 0.5]))]
)  # fmt: skip
def test_quantized_weights_are_scaled_and_shifted(tmp_path: Path, scale: Any, shift: Any) -> None:
    x = normal(1, 4, 5, 6)
    numbers = {"quant_scale": scale, "quant_bias": shift}
    form = {"quantization_type": "linear", "nbits": 8, "strides": [2, 1], "pad_type": "same", "groups": 2}
    model = program(
        tmp_path,
        lambda mb, a: mb.conv_quantized(x=a, weight=STORED, **numbers, **form),
        [(x.shape, "float32")],
        target="iOS15",
    )
    along = (-1, 1, 1, 1) if scale.ndim else ()
    weight = STORED * np.float64(scale).reshape(along) + np.float64(shift).reshape(along)
    with session(model) as running:
        found = only(running.run({"a": x}))
    np.testing.assert_allclose(found, conv(x, weight, None, [2, 1], "same", groups=2), rtol=1e-5, atol=2e-5)


def wider(*lengths: int) -> dict[str, Any]:
    return {"x": normal(2, 4, *lengths), "weight": normal(4, 3, *[3, 2, 2][: len(lengths)])}


@family.defines(
    "conv_transpose", "x",
    [
        wider(5), wider(4, 5), wider(2, 3, 3), wider(4, 5) | {"bias": normal(3), "strides": [2, 3]},
        wider(4, 5) | {"bias": normal(6), "groups": 2, "strides": [2, 1], "pad_type": "custom", "pad": [1, 0, 0, 1]},
        wider(4, 5) | {"dilations": [2, 3], "pad_type": "custom", "pad": [2, 1, 1, 1]},
        wider(4, 5) | {"strides": [2, 2], "pad_type": "same"},
        wider(6) | {"strides": [2], "pad_type": "same", "bias": normal(3)}, wider(2, 3, 2) | {"strides": [2, 1, 3], "groups": 4},
        wider(4, 5) | {"strides": [2, 2], "pad_type": "same", "output_shape": [2, 3, 7, 9]},
        wider(4, 5) | {"strides": [2, 2], "pad_type": "custom", "pad": [1, 1, 0, 0], "output_shape": [2, 3, 8, 10],
          "bias": normal(3)},
        wider(5) | {"strides": [3], "output_shape": [2, 3, 17], "bias": normal(3)},
    ],
    within=1e-5,
)  # fmt: skip
def conv_transpose(
    x: Array, weight: Array, bias: Array | None = None, pad: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    pad_type: str = "valid", strides: Sequence[int] | None = None, dilations: Sequence[int] | None = None, groups: int = 1,
) -> Array:  # fmt: skip
    """PyTorch's without padding, from which the padding is cut; what an output shape asks for beyond it holds the bias alone."""
    spatial = x.ndim - 2
    strides = tuple(strides or [1] * spatial)
    whole = TRANSPOSED[spatial](
        t(x), t(weight), stride=strides, dilation=tuple(dilations or [1] * spatial), groups=groups
    ).numpy()
    for i, axis in enumerate(range(2, x.ndim)):
        wanted = x.shape[axis] * strides[i] if output_shape is None else output_shape[axis]
        before, after = (pad[2 * i], pad[2 * i + 1]) if pad_type == "custom" and pad is not None else (0, 0)
        if pad_type == "same":
            before, after = ends(whole.shape[axis] - wanted, False)
        elif output_shape is not None:
            after = whole.shape[axis] - before - wanted
        whole = np.pad(whole, [(0, max(0, -after)) if a == axis else (0, 0) for a in range(x.ndim)])
        whole = whole.take(range(before, whole.shape[axis] - max(0, after)), axis)
    return whole + (0 if bias is None else np.reshape(bias, (-1, *[1] * spatial)))


@family.each
def test_each_convolution_is_pytorchs(trial: Trial, tmp_path: Path) -> None:
    trial.hold(tmp_path)


@pytest.mark.parametrize("pad_type", ["same", "same_lower"])
def test_dilated_kernels_are_padded_alike_where_lengths_are_free(tmp_path: Path, pad_type: str) -> None:
    x, weight = normal(1, 2, 7, 6), normal(3, 2, 3, 2)
    form = {"pad_type": pad_type, "dilations": [2, 3]}
    inputs = [((1, 2, None, None), "float32")]
    with session(program(tmp_path, lambda mb, a: mb.conv(x=a, weight=weight, **form), inputs)) as running:
        found = only(running.run({"a": x}))
    np.testing.assert_allclose(found, conv(x, weight, **form), rtol=1e-5, atol=1e-5)
    strided = program(tmp_path, lambda mb, a: mb.conv(x=a, weight=weight, strides=[2, 1], **form), inputs)
    with pytest.raises(ConversionError, match="needs an input of known size"):
        session(strided)
