"""MIL's resizing of the last two dimensions in Core AI's interpolation, or by products and picks where that has no such mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from coreproof.conversion.coreml_to_onnx.sampling import grid_points, interpolation
from coreproof.conversion.mil_to_coreai.ops.gathering import taken
from coreproof.conversion.mil_to_coreai.translation import Operand, Tensor, Translation, si, translates

Points = Callable[[int, int], np.ndarray]
"""(length, wanted length) -> where each element of the result lies in the input."""


def _asymmetric(length: int, wanted: int) -> np.ndarray:
    return np.arange(wanted) * (length / wanted)


def _half_pixel(length: int, wanted: int) -> np.ndarray:
    return (np.arange(wanted) + 0.5) * (length / wanted) - 0.5


def _corners(length: int, wanted: int) -> np.ndarray:
    return np.arange(wanted) * ((length - 1) / (wanted - 1) if wanted > 1 else 0.0)


def _size(t: Translation, x: Operand, factors: Sequence[float]) -> list[int]:
    lengths = t.fixed(t.shape(x)[-2:])
    return [int(np.floor(np.asarray(f) * n)) for n, f in zip(lengths, factors, strict=True)]


@translates("upsample_nearest_neighbor")
def upsample_nearest_neighbor(
    t: Translation, *, x: Operand, scale_factor_height: float = 1, scale_factor_width: float = 1
) -> Tensor:
    return _floors(t, t.value(x), _size(t, x, (scale_factor_height, scale_factor_width)))


@translates("resize_nearest_neighbor")
def resize_nearest_neighbor(t: Translation, *, x: Operand, target_size_height: int, target_size_width: int) -> Tensor:
    return _floors(t, t.value(x), [int(target_size_height), int(target_size_width)])


@translates("upsample_bilinear", in_float32=True)
def upsample_bilinear(
    t: Translation,
    *,
    x: Operand,
    scale_factor_height: float = 1,
    scale_factor_width: float = 1,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Tensor:
    half = not align_corners if half_pixel_centers is None else half_pixel_centers
    if align_corners and half:
        raise t.refuse("align_corners and half_pixel_centers exclude each other")
    points = _corners if align_corners else _half_pixel if half else _asymmetric
    return _linear(t, t.value(x), _size(t, x, (scale_factor_height, scale_factor_width)), points)


@translates("resize_bilinear", in_float32=True)
def resize_bilinear(
    t: Translation,
    *,
    x: Operand,
    target_size_height: int = 1,
    target_size_width: int = 1,
    sampling_mode: str = "DEFAULT",
) -> Tensor:
    return _sampled(t, t.value(x), [int(target_size_height), int(target_size_width)], sampling_mode)


@translates("resize", since="iOS17", in_float32=True)
def resize(
    t: Translation,
    *,
    x: Operand,
    shape: Operand,
    resized_dims: int,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Tensor:
    """The last ``resized_dims`` entries of ``shape`` are the new lengths of the last dimensions; 0 keeps a length."""
    value, count = t.value(x), int(resized_dims)
    lengths = t.fixed(value.shape[-2:])
    wanted = t.integers(shape, "shape")[-count:] if count else []
    if count > 2:
        raise t.refuse("more than two resized dimensions are not translated", found=count)
    size = [*lengths[: 2 - count], *(n or m for n, m in zip(wanted, lengths[2 - count :], strict=True))]
    if interpolation_mode != "NEAREST_NEIGHBOR":
        # whole numbers are resized as floats, and whole again behind it
        made = _sampled(t, value if t.is_float(value) else t.cast(value, "f32"), size, sampling_mode)
        return t.cast(made, value.element)
    for axis, n, m in zip((-2, -1), lengths, size, strict=True):
        # half way between two, the later one; the last half would round up to one behind the last
        picked = np.clip(np.floor(grid_points(n, m, sampling_mode) + 0.5), 0, n - 1)
        value = _picked(t, value, len(value.shape) + axis, picked.astype(np.int32))
    return value


def _sampled(t: Translation, x: Tensor, size: Sequence[int], sampling_mode: str) -> Tensor:
    """By the weights of each mode, as a product along each of the two axes."""
    lengths = t.fixed(x.shape[-2:])
    rows, columns = (interpolation(n, m, sampling_mode) for n, m in zip(lengths, size, strict=True))
    wide = t.matmul(x, np.ascontiguousarray(columns.T).astype(np.float32))
    return t.matmul(rows.astype(np.float32), wide)


def _linear(t: Translation, x: Tensor, size: Sequence[int], points: Points) -> Tensor:
    """Core AI's own interpolation: element i lies at (i + 0.5 - offset) / scale - 0.5."""
    lengths = t.fixed(x.shape)
    made = [*lengths[:-2], *size]
    scale, offset = np.ones(len(made), np.float32), np.zeros(len(made), np.float32)
    for axis in (-2, -1):
        at = points(lengths[axis], made[axis])
        step = at[1] - at[0] if len(at) > 1 else 1.0
        if step:
            scale[axis] = 1 / step
            offset[axis] = 0.5 - (at[0] + 0.5) / step
        else:
            # all of one place: so far apart that the edge is met
            scale[axis], offset[axis] = made[axis] * 4.0 + 4.0, 0.5 - 0.5 * (made[axis] * 4.0 + 4.0)
    return t.op(
        "interpolate", x, si(made), scale, offset, shape=made,
        interpolation_mode="#coreai.interpolation_mode<linear>",
    )  # fmt: skip


def _floors(t: Translation, x: Tensor, size: Sequence[int]) -> Tensor:
    """The element at or before each place."""
    for axis, n, m in zip((-2, -1), t.fixed(x.shape[-2:]), size, strict=True):
        x = _picked(t, x, len(x.shape) + axis, np.floor(np.arange(m) * n / m).astype(np.int32))
    return x


def _picked(t: Translation, x: Tensor, axis: int, places: np.ndarray) -> Tensor:
    """These elements along an axis: each so often in a row where that is all, else one by one."""
    (length,) = t.fixed(x.shape[axis : axis + 1])
    times = len(places) // length if length else 0
    if times and np.array_equal(places, np.repeat(np.arange(length), times)):
        if times == 1:
            return x
        spread = t.expand_dims(x, [axis + 1])
        lengths = [times if i == axis + 1 else 1 for i in range(len(spread.shape))]
        made = [None if n is None else n * m for n, m in zip(spread.shape, lengths, strict=True)]
        tiled = t.op("tile", spread, np.asarray(lengths, np.uint32), shape=made)
        front, back = x.shape[:axis], x.shape[axis + 1 :]
        return t.reshape(tiled, [*t.fixed(front), length * times, *t.fixed(back)])
    return taken(t, x, places, axis)
