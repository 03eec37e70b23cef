"""MIL's sampling of pictures at places that are computed, resample and affine: Core AI picks the pixels, and weighs them."""

from __future__ import annotations

from functools import partial, reduce

import numpy as np

from coreproof.conversion.mil_to_coreai.ops.elementwise_unary import floored
from coreproof.conversion.mil_to_coreai.translation import Operand, Tensor, Translation, si, translates

_PADDING = ("constant", "border", "reflection", "symmetric")


@translates("resample", in_float32=True)
def resample(
    t: Translation,
    *,
    x: Operand,
    coordinates: Operand,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Tensor:
    """``coordinates`` [N, height, width, 2] hold column and row of each place in ``x`` [N, C, ...]."""
    points = t.cast(t.value(coordinates), "f32")
    count, height, width, _ = t.fixed(points.shape, "it needs coordinates of known size")
    across, down = (
        t.reshape(
            t.slice(points, [0, 0, 0, at], [count, height, width, at + 1]),
            [count, height * width],
        )
        for at in (0, 1)
    )
    form = (sampling_mode, padding_mode, padding_value, coordinates_mode, bool(align_corners))
    return sampled(t, t.value(x), across, down, (height, width), *form)


@translates("affine", in_float32=True)
def affine(
    t: Translation,
    *,
    x: Operand,
    transform_matrix: Operand,
    output_height: int,
    output_width: int,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Tensor:
    """Each place [u, v, 1] of a grid from -1 to 1, times the rows of a matrix [N or 1, 6], is sampled."""
    if coordinates_mode != "normalized_minus_one_to_one" or not align_corners:
        raise t.refuse(
            "an affine grid is translated from corner to corner alone",
            expected="normalized_minus_one_to_one, align_corners",
            found=f"{coordinates_mode}, align_corners={align_corners}",
        )
    value, height, width = t.value(x), int(output_height), int(output_width)
    (count,) = t.fixed(value.shape[:1])
    v, u = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    grid = [axis.reshape(1, -1).astype(np.float32) for axis in (u, v)]
    if not isinstance(transform_matrix, Tensor):
        # known before the program runs: to compute it there is to have Apple's package fold it, which may not end
        a, b, c, d, e, f = np.asarray(t.constant(transform_matrix, "transform_matrix"), np.float32).T[..., None]
        every = (count, height * width)
        places = (np.broadcast_to(p, every) for p in (a * grid[0] + b * grid[1] + c, d * grid[0] + e * grid[1] + f))
        across, down = (t.value(np.ascontiguousarray(place)) for place in places)
    else:
        matrix = t.value(transform_matrix, "f32")
        across, down = (_along(t, matrix, first, grid, count) for first in (0, 3))
    form = (sampling_mode, padding_mode, padding_value, coordinates_mode, True)
    return sampled(t, value, across, down, (height, width), *form)


def _along(t: Translation, matrix: Tensor, first: int, grid: list[np.ndarray], count: int) -> Tensor:
    """Of each place of the grid the sum that three numbers of the matrix make, for each of the pictures."""
    (rows,) = t.fixed(matrix.shape[:1], "it needs a matrix of known size")
    a, b, c = (t.slice(matrix, [0, first + i], [rows, first + i + 1]) for i in range(3))
    made = t.binary("add", t.binary("add", t.binary("mul", a, grid[0]), t.binary("mul", b, grid[1])), c)
    return made if rows == count else t.broadcast_to(made, [count, grid[0].shape[1]])


def sampled(
    t: Translation,
    x: Tensor,
    across: Tensor,
    down: Tensor,
    size: tuple[int, int],
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    corners: bool,
) -> Tensor:
    """The places are [N, height * width], of columns and of rows."""
    if padding_mode not in _PADDING:
        raise t.refuse("this padding mode is not known", expected=", ".join(_PADDING), found=padding_mode)
    count, channels, height, width = t.fixed(x.shape)
    flat = t.reshape(x, [count, channels, height * width])
    fill = float(padding_value) if padding_mode == "constant" else None
    rows, columns = (
        _folded(t, _pixels(t, points, length, coordinates_mode, corners), length, padding_mode)
        for points, length in ((down, height), (across, width))
    )
    if sampling_mode == "nearest":
        nearest = _picked(t, flat, t.unary("round", rows), t.unary("round", columns), (height, width), fill)
        return t.reshape(nearest, [count, channels, *size])
    top, left = floored(t, rows), floored(t, columns)
    below, right = t.binary("sub", rows, top), t.binary("sub", columns, left)
    parts = []
    for row, share_row in ((top, t.binary("sub", 1.0, below)), (t.binary("add", top, 1.0), below)):
        for column, share in ((left, t.binary("sub", 1.0, right)), (t.binary("add", left, 1.0), right)):
            part = _picked(t, flat, row, column, (height, width), fill)
            parts.append(t.binary("mul", part, t.expand_dims(t.binary("mul", share_row, share), [1])))
    made = reduce(partial(t.binary, "add"), parts)
    return t.reshape(made, [count, channels, *size])


def _pixels(t: Translation, points: Tensor, length: int, mode: str, corners: bool) -> Tensor:
    """Coordinates as places counted in pixels, 0 at the centre of the first one."""
    if mode == "unnormalized":
        return points
    if mode == "normalized_minus_one_to_one":
        points = t.binary("mul", t.binary("add", points, 1.0), 0.5)
    elif mode != "normalized_zero_to_one":
        raise t.refuse("this coordinates mode is not known", found=mode)
    if corners:
        return t.binary("mul", points, float(length - 1))
    return t.binary("sub", t.binary("mul", points, float(length)), 0.5)


def _folded(t: Translation, places: Tensor, length: int, padding_mode: str) -> Tensor:
    """Places brought into the picture: mirrored about the outer pixels' centres or edges, or moved to its border."""
    # what is no number lies before the first pixel, as in PyTorch
    places = t.where(t.binary("not_equal", places, places, "i1"), -1.0, places)
    if padding_mode == "constant":
        return places
    if padding_mode != "border":
        start, span = (0.0, float(length - 1)) if padding_mode == "reflection" else (-0.5, float(length))
        period = max(2 * span, 1.0)
        ahead = t.unary("abs", t.binary("sub", places, start))
        turns = floored(t, t.binary("divide", ahead, period))
        rest = t.binary("sub", ahead, t.binary("mul", turns, period))
        places = t.binary("add", t.binary("minimum", rest, t.binary("sub", 2 * span, rest)), start)
    return t.binary("minimum", t.binary("maximum", places, 0.0), float(length - 1))


def _picked(
    t: Translation, flat: Tensor, rows: Tensor, columns: Tensor, extent: tuple[int, int], fill: float | None
) -> Tensor:
    """The pixels at whole places [N, P] of [N, C, height * width]; ``fill`` stands where there is none."""
    count, channels, _ = t.fixed(flat.shape)
    inside = [
        t.binary("minimum", t.binary("maximum", p, 0.0), n - 1.0) for p, n in zip((rows, columns), extent, strict=True)
    ]
    row, column = (t.cast(place, "si32") for place in inside)
    at = t.binary("add", t.binary("mul", row, extent[1]), column)
    (places,) = t.fixed(at.shape[1:])
    every = t.broadcast_to(t.expand_dims(at, [1]), [count, channels, places])
    found = t.op("gather_along_axis", flat, every, si(2), shape=every.shape)
    if fill is None:
        return found
    above, beside = (t.binary("not_equal", p, q, "i1") for p, q in zip((rows, columns), inside, strict=True))
    return t.where(t.expand_dims(t.binary("or", above, beside), [1]), fill, found)
