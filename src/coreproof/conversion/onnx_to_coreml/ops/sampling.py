"""Where ONNX's Resize looks along one axis, and how it weights what it finds there, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coreproof.conversion.onnx_to_coreml.lowering import Array
from coreproof.model.budget import afford


@dataclass(frozen=True)
class Sampling:
    """The attributes of Resize that say how it samples, in ONNX's words."""

    mode: str
    transformation: str = "half_pixel"
    nearest: str = "round_prefer_floor"
    cubic_coeff_a: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False
    extrapolation: float = 0.0


def coordinates(length: int, target: int, scale: float, roi: tuple[float, float], transformation: str) -> Array:
    """For each of the ``target`` results the place in [0, length - 1] that it is taken from; it may lie outside.

    ``scale * length`` is the width that was asked for; ``target`` is that width rounded down.
    """
    at = np.arange(target, dtype=np.float64)
    width = scale * length
    if transformation == "align_corners":
        return at * (length - 1) / (width - 1) if width != 1 else np.zeros(target)
    if transformation == "asymmetric":
        return at / scale
    if transformation == "tf_crop_and_resize":
        start, end = roi
        span = (end - start) * (length - 1)
        # The width that was asked for is that of the region, as the result's length is.
        steps = at / (width - 1) if width != 1 else np.full(target, 0.5)
        return start * (length - 1) + steps * span
    if transformation == "pytorch_half_pixel" and width == 1:
        return np.full(target, -0.5)
    places = (at + 0.5) / scale - 0.5
    if transformation == "half_pixel_symmetric":
        return length / 2 * (1 - target / width) + places
    return places


A_HALF = np.float32(1e-6)
"""So near to the middle between two elements a place is the middle: what rounding in float32 makes of it, and no choice.

ONNX Runtime 1.32 takes it so, as it was measured there; the definition knows no rounding."""


def nearest_indices(length: int, target: int, scale: float, roi: tuple[float, float], sampling: Sampling) -> Array:
    """For each of the ``target`` results the element that it takes: the one that the engines take."""
    places = _rounded_places(length, target, scale, roi, sampling.transformation)
    below = np.floor(places)
    if sampling.nearest == "floor":
        chosen = below
    elif sampling.nearest == "ceil":
        chosen = np.ceil(places)
    else:
        beyond = places - below - np.float32(0.5)
        chosen = below + (beyond >= -A_HALF if sampling.nearest == "round_prefer_ceil" else beyond > A_HALF)
    indices: npt.NDArray[np.int64] = np.clip(chosen, 0, length - 1).astype(np.int64)
    return indices


def _rounded_places(length: int, target: int, scale: float, roi: tuple[float, float], transformation: str) -> Array:
    """The formulas of the operator's text with each step rounded to float32.

    A mean hardly feels the rounding, a choice does: 24 / 4.8 is 5 in float32, and less in float64. By the text, ``target``
    counts where the reference implementation, and ``coordinates``, has the width that was asked for.
    """
    at, n, count, s = np.arange(target, dtype=np.float32), np.float32(length), np.float32(target), np.float32(scale)
    half = np.float32(0.5)
    if transformation == "align_corners":
        return at * (n - 1) / (count - 1) if target > 1 else at
    if transformation == "asymmetric":
        return at / s
    if transformation == "tf_crop_and_resize":
        start, end = np.float32(roi[0]), np.float32(roi[1])
        return (
            start * (n - 1) + at * (end - start) * (n - 1) / (count - 1)
            if target > 1
            else half * (start + end) * (n - 1) + at
        )
    if transformation == "pytorch_half_pixel" and target == 1:
        return at
    if transformation == "half_pixel_symmetric":
        lost = n / 2 * (1 - count / (s * n))
        # its last sum is of doubles in ONNX Runtime
        return (float(lost) + (np.arange(target) + 0.5) / float(s) - 0.5).astype(np.float32)
    return (at + half) / s - half


def weights(places: Array, length: int, scale: float, sampling: Sampling) -> Array:
    """[result, operand]: what each result takes of each element; the border is continued beyond it."""
    narrowed = min(scale, 1.0) if sampling.antialias else 1.0
    reach = int(np.ceil((1 if sampling.mode == "linear" else 2) / narrowed))
    indices = np.floor(places).astype(np.int64)[:, None] + np.arange(-reach, reach + 2)[None, :]
    distance = np.abs(indices - places[:, None]) * narrowed
    share = np.maximum(0.0, 1.0 - distance) if sampling.mode == "linear" else _cubic(distance, sampling.cubic_coeff_a)
    if sampling.exclude_outside:
        share = np.where((indices < 0) | (indices >= length), 0.0, share)
    share = share / share.sum(axis=1, keepdims=True)
    afford("the matrix of a Resize", (len(places), length), 8)
    matrix = np.zeros((len(places), length))
    np.add.at(matrix, (np.arange(len(places))[:, None], np.clip(indices, 0, length - 1)), share)
    return matrix


def _cubic(distance: Array, a: float) -> Array:
    # the cubic convolution of Keys (1981); ONNX takes -0.75 for a, as PyTorch does
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
