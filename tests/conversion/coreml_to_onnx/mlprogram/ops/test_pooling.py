"""Pooling against windows of NumPy: one to three dimensions, each form of padding, windows beyond the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conversion.coreml_to_onnx.mlprogram.family import Family, Trial
from tests.drawn import normal

family = Family("pooling")
Array = np.ndarray


def rows(**more: Any) -> list[dict[str, Any]]:
    square = {"x": normal(2, 3, 7, 6), "kernel_sizes": [3, 2]}
    return [
        *(square | {"pad_type": pad, "strides": [2, 2], **more} for pad in ("valid", "same", "same_lower")),
        square | {"pad_type": "custom", "pad": [1, 1, 0, 1], "strides": [2, 3], **more},
        square | {"pad_type": "custom", "pad": [2, 1, 0, 1], **more},
        {"x": normal(2, 3, 8), "kernel_sizes": [3], "pad_type": "custom", "pad": [1, 1], "strides": [2], **more},
        {"x": normal(1, 2, 4, 3, 5), "kernel_sizes": [2, 1, 3], "pad_type": "same", "strides": [2, 1, 2], **more},
        *(
            {"x": normal(1, 2, *lengths), "kernel_sizes": [3, 3], "strides": [2, 2], "pad_type": "custom", "pad": pad,
              "ceil_mode": True, **more}
            for lengths in ((7, 6), (8, 5)) for pad in ([0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1])
        ),
    ]  # fmt: skip


def count(n: int, k: int, s: int, before: int, after: int, ceil: bool) -> int:
    """How many windows there are; with ``ceil`` the last may reach beyond the padding, if it begins before it."""
    if not ceil:
        return (n + before + after - k) // s + 1
    windows = -((k - n - before - after) // s) + 1
    return windows - 1 if (windows - 1) * s >= n + before else windows


def windows(
    x: Array, fill: float, kernel_sizes: Sequence[int], strides: Sequence[int] | None, pad_type: str,
    pad: Sequence[int] | None, ceil_mode: bool,
    beyond: float | None = None,
) -> Array:  # fmt: skip
    """[..., windows of each dimension, flat window]; ``fill`` is the padding, ``beyond`` what is behind it."""
    strides = strides or [1] * len(kernel_sizes)
    lengths, near, far = [], [(0, 0), (0, 0)], [(0, 0), (0, 0)]
    for axis, (k, s) in enumerate(zip(kernel_sizes, strides, strict=True), 2):
        n, before, after = x.shape[axis], 0, 0
        if pad_type == "custom" and pad is not None:
            before, after = pad[2 * axis - 4 : 2 * axis - 2]
        elif pad_type.startswith("same"):
            total = max(0, (-(-n // s) - 1) * s + k - n)
            before = total - total // 2 if pad_type == "same_lower" else total // 2
            after = total - before
        lengths.append(count(n, k, s, before, after, ceil_mode))
        near.append((before, after))
        far.append((0, max(0, (lengths[-1] - 1) * s + k - n - before - after)))
    view = np.pad(np.pad(x, near, constant_values=fill), far, constant_values=fill if beyond is None else beyond)
    axes = tuple(range(2, x.ndim))
    every = np.lib.stride_tricks.sliding_window_view(view, kernel_sizes, axes)
    for axis, (s, length) in enumerate(zip(strides, lengths, strict=True), 2):
        every = every.take(range(0, s * length, s), axis)
    return every.reshape(*every.shape[: x.ndim], int(np.prod(kernel_sizes)))


def pooled(
    x: Array, fill: float, reduce: Callable[[Array], Array], kernel_sizes: Any, pad_type: str, **more: Any
) -> Array:
    settings = {"strides": None, "pad": None, "ceil_mode": False} | more
    return reduce(windows(x, fill, kernel_sizes, pad_type=pad_type, **settings))


@family.defines(
    "max_pool", "x", [*rows(), {"x": np.float32([[[-np.inf, 1, np.inf, -5]]]), "kernel_sizes": [2], "pad_type": "same"}]
)
def max_pool(x: Array, **form: Any) -> Array:
    return pooled(x, -np.inf, lambda w: w.max(-1), **form)


@family.defines("l2_pool", "x", [row for row in rows() if row["x"].ndim < 5], within=1e-5)
def l2_pool(x: Array, **form: Any) -> Array:
    return pooled(x, 0, lambda w: np.sqrt((w * w).sum(-1)), **form)


@family.defines("avg_pool", "x", [*rows(), *rows(exclude_padding_from_average=True)], within=1e-5)
def avg_pool(x: Array, exclude_padding_from_average: bool = False, **form: Any) -> Array:
    """What lies beyond the padding never counts, the padding unless it is excluded."""
    counted = pooled(
        np.ones_like(x), 0.0 if exclude_padding_from_average else 1.0, lambda w: w.sum(-1), **form, beyond=0.0
    )
    return pooled(x, 0, lambda w: w.sum(-1), **form) / counted


@pytest.mark.parametrize("excluded", [False, True])
def test_the_definition_of_averages_in_ceil_mode_is_pytorchs(excluded: bool) -> None:
    x = normal(1, 2, 7, 6)
    form = {"kernel_sizes": [3, 3], "strides": [2, 2], "pad_type": "custom", "pad": [1, 1, 1, 1], "ceil_mode": True}
    expected = torch.nn.functional.avg_pool2d(
        torch.from_numpy(x), 3, 2, 1, ceil_mode=True, count_include_pad=not excluded
    )
    np.testing.assert_allclose(
        avg_pool(x, exclude_padding_from_average=excluded, **form), expected.numpy(), rtol=1e-5, atol=1e-6
    )


@family.each
def test_each_pooling_is_that_of_its_windows(trial: Trial, tmp_path: Path) -> None:
    trial.hold(tmp_path)
