"""Resizing against Apple's formulas for its grids of points: each mode, up and down, odd sizes, a length of 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coreproof.runtime.open import session
from tests.build import program
from tests.conversion.coreml_to_onnx.lowered import only
from tests.conversion.coreml_to_onnx.mlprogram.family import Family, Trial
from tests.drawn import normal

family = Family("resizing")
Array = np.ndarray
MODES = ("DEFAULT", "STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "OFFSET_CORNERS", "UNALIGN_CORNERS")
SHAPES = ((3, 4, 5), (1, 2, 3, 4), (1, 2, 2, 3, 4), (1, 1, 5, 1))
SIZES = ((5, 8), (2, 3), (1, 1), (3, 7))


def points(length: int, count: int, mode: str) -> Array:
    """Where in [0, length - 1] the results lie, as the documentation of resize_bilinear has it."""
    i, last = np.arange(count), length - 1
    if mode == "ALIGN_CORNERS" and count == 1:
        return np.array([last / 2])
    spacing, offset = {
        "DEFAULT": (length / count, 0.0),
        "STRICT_ALIGN_CORNERS": (last / max(count - 1, 1), 0.0),
        "ALIGN_CORNERS": (last / max(count - 1, 1), 0.0),
        "OFFSET_CORNERS": (max(1, last) / count, 0.5 * max(1, last) / count),
        "UNALIGN_CORNERS": (length / count, 0.5 * length / count - 0.5),
    }[mode]
    return np.clip(offset + i * spacing, 0, last)


def linear(x: Array, size: tuple[int, int], mode: str) -> Array:
    for axis, count in zip((-2, -1), size, strict=True):
        where = points(x.shape[axis], count, mode)
        low = np.floor(where).astype(int)
        high, share = np.minimum(low + 1, x.shape[axis] - 1), (where - low).reshape(-1, *[1] * (-1 - axis))
        x = x.take(low, axis) * (1 - share) + x.take(high, axis) * share
    return x


def nearest(x: Array, size: tuple[int, int]) -> Array:
    """The last pixel at or before each point."""
    for axis, count in zip((-2, -1), size, strict=True):
        x = x.take(np.floor(np.arange(count) * x.shape[axis] / count).astype(int), axis)
    return x


@family.defines(
    "resize_bilinear", "x",
    [
        *({"x": normal(*SHAPES[0]), "target_size_height": h, "target_size_width": w, "sampling_mode": mode}
          for h, w in SIZES for mode in MODES),
        *({"x": normal(*shape), "target_size_height": 4, "target_size_width": 7} for shape in SHAPES), {"x": normal(1, 3, 4)},
    ],
    within=1e-5,
)  # fmt: skip
def resize_bilinear(
    x: Array, target_size_height: int = 1, target_size_width: int = 1, sampling_mode: str = "DEFAULT"
) -> Array:
    return linear(x, (target_size_height, target_size_width), sampling_mode)


@family.defines(
    "resize_nearest_neighbor", "x",
    [{"x": normal(*shape), "target_size_height": h, "target_size_width": w} for shape in SHAPES for h, w in SIZES],
)  # fmt: skip
def resize_nearest_neighbor(x: Array, target_size_height: int, target_size_width: int) -> Array:
    return nearest(x, (target_size_height, target_size_width))


FACTORS = (
    {},
    {"scale_factor_height": 2, "scale_factor_width": 3},
    {"scale_factor_height": 1.5, "scale_factor_width": 0.5},
)


@family.defines(
    "upsample_nearest_neighbor",
    "x",
    [{"x": normal(*shape), **factors} for shape in ((3, 4, 6), (1, 2, 2, 3), (1, 2, 1, 2, 2)) for factors in FACTORS],
)
def upsample_nearest_neighbor(x: Array, scale_factor_height: float = 1, scale_factor_width: float = 1) -> Array:
    height, width = x.shape[-2:]
    return nearest(x, (int(height * scale_factor_height), int(width * scale_factor_width)))


CORNERS: tuple[dict[str, bool], ...] = (
    {},
    {"align_corners": False},
    {"align_corners": False, "half_pixel_centers": False},
    {"align_corners": True, "half_pixel_centers": False},
)


@family.defines(
    "upsample_bilinear", "x",
    [
        {"x": normal(*shape), **factors, **corners}
        for shape in ((3, 4, 6), (1, 2, 2, 3), (1, 2, 1, 2, 2)) for factors in FACTORS
        for corners in CORNERS
    ],
    within=1e-5,
)  # fmt: skip
def upsample_bilinear(
    x: Array,
    scale_factor_height: float = 1,
    scale_factor_width: float = 1,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Array:
    height, width = x.shape[-2:]
    halves = not align_corners if half_pixel_centers is None else half_pixel_centers
    mode = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS" if halves else "DEFAULT"
    return linear(x, (int(height * scale_factor_height), int(width * scale_factor_width)), mode)


LINEAR = [
    *({"x": normal(1, 2, 4, 5), "shape": [*size], "resized_dims": np.uint32(2), "sampling_mode": mode}
      for size in SIZES for mode in MODES),
    {"x": normal(1, 2, 3, 4), "shape": [1, 0, 7], "resized_dims": np.uint32(2)},
    {"x": normal(2, 3, 4), "shape": [9], "resized_dims": np.uint32(1)},
    {"x": normal(1, 2, 3, 4), "shape": [7, 7, 6, 0], "resized_dims": np.uint32(2)},
    {"x": normal(1, 2, 1, 3, 4), "shape": [6, 5], "resized_dims": np.uint32(2)},
]  # fmt: skip


@family.defines("resize", "x", LINEAR, within=1e-5)
@family.defines(
    "resize",
    "x shape",
    [
        row | {"shape": np.int32(row["shape"])}
        for row in LINEAR
        if row.get("sampling_mode") != "OFFSET_CORNERS" and 1 not in row["shape"]
    ],
    within=1e-5,
)
@family.defines(
    "resize", "x",
    [
        {"x": normal(1, 2, 4, 5), "shape": [*size], "resized_dims": np.uint32(2),
          "interpolation_mode": "NEAREST_NEIGHBOR", "sampling_mode": mode}
        for size in SIZES for mode in MODES
    ],
)  # fmt: skip
def resize(
    x: Array, shape: Array, resized_dims: int, interpolation_mode: str = "LINEAR", sampling_mode: str = "DEFAULT"
) -> Array:
    wanted = [int(n) for n in shape[-int(resized_dims) :]]
    wanted = [n or x.shape[i - len(wanted)] for i, n in enumerate(wanted)]
    size = (x.shape[-2], wanted[0]) if len(wanted) == 1 else (wanted[0], wanted[1])
    if interpolation_mode == "LINEAR":
        return linear(x, size, sampling_mode)
    for axis, count in zip((-2, -1), size, strict=True):
        # other than in resize_nearest_neighbor the nearest, so Apple's test; half way between two the later one
        x = x.take(np.floor(points(x.shape[axis], count, sampling_mode) + 0.5).astype(int), axis)
    return x


@family.each
def test_each_resizing_follows_its_formula(trial: Trial, tmp_path: Path) -> None:
    trial.hold(tmp_path)


@pytest.mark.parametrize("aligned", [True, False])
def test_factors_are_computed_anew_where_lengths_are_free(tmp_path: Path, aligned: bool) -> None:
    x = normal(1, 2, 5, 3)
    form = {"scale_factor_height": 1.5, "scale_factor_width": 0.5, "align_corners": aligned}
    model = program(tmp_path, lambda mb, a: mb.upsample_bilinear(x=a, **form), [((1, 2, None, None), "float32")])
    with session(model) as running:
        found = only(running.run({"a": x}))
    np.testing.assert_allclose(found, upsample_bilinear(x, **form), rtol=1e-5, atol=1e-5)
