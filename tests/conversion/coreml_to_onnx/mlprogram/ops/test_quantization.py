"""Quantising activations and back, against the formula: ties to even, ends kept, one scale or one a channel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.conversion.coreml_to_onnx.mlprogram.family import Family, Trial
from tests.drawn import normal

family = Family("quantization")
Array = np.ndarray
STEPS = np.float32([-1000, -64.25, -64, -2.5, -1.5, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1.25, 63.75, 64, 200])
SCALES = np.float32([0.5, 0.25, 2])


def placed(vector: Any, x: Array, axis: int | None) -> Array:
    vector = np.asarray(vector)
    return (
        vector
        if vector.ndim == 0 or axis is None
        else vector.reshape([-1 if a == axis % x.ndim else 1 for a in range(x.ndim)])
    )


@family.defines(
    "quantize", "input",
    [
        {"input": STEPS, "scale": np.float32(0.5), "output_dtype": "int8"},
        {"input": STEPS, "scale": np.float32(0.5), "zero_point": np.uint8(128), "output_dtype": "uint8"},
        {"input": STEPS, "scale": np.float32(0.5), "zero_point": np.int8(-5), "output_dtype": "int8"},
        {"input": normal(2, 3, 4), "scale": SCALES, "zero_point": np.int8([1, -2, 100]), "output_dtype": "int8", "axis": 1},
        {"input": normal(2, 2, 1, 2, 3), "scale": SCALES, "output_dtype": "uint8", "axis": -1},
        {"input": normal(3, 2), "scale": SCALES, "zero_point": np.uint8([0, 7, 255]), "output_dtype": "uint8", "axis": 0},
    ],
)  # fmt: skip
def quantize(input: Array, scale: Any, output_dtype: str, zero_point: Any = 0, axis: int | None = None) -> Array:
    ends = np.iinfo(output_dtype)
    return np.clip(np.round(input / placed(scale, input, axis)) + placed(zero_point, input, axis), ends.min, ends.max)


BYTES = np.uint8([[0, 1, 127], [128, 200, 255]])


@family.defines(
    "dequantize", "input",
    [
        {"input": BYTES, "scale": np.float32(0.5)}, {"input": BYTES, "scale": np.float32(0.3), "zero_point": np.uint8(128)},
        {"input": BYTES, "scale": SCALES, "zero_point": np.uint8([1, 2, 200]), "axis": 1},
        {"input": np.int8([-128, -1, 0, 127]), "scale": np.float32(0.125), "zero_point": np.int8(-128)},
        {"input": BYTES.astype(np.int8)[:, None, :, None], "scale": SCALES[:2], "axis": -4},
    ],
    within=1e-6,
)  # fmt: skip
def dequantize(input: Array, scale: Any, zero_point: Any = 0, axis: int | None = None) -> Array:
    return placed(scale, input, axis) * (input.astype(np.float64) - placed(np.float64(zero_point), input, axis))


@family.each
def test_each_follows_its_formula(trial: Trial, tmp_path: Path) -> None:
    trial.hold(tmp_path)
