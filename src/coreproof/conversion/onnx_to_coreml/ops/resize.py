"""Resize and Upsample.

Along each axis a resize is a fixed selection (nearest) or a fixed weighting (linear, cubic, antialias) of the operand's
elements, given by the matrix [result, operand] that ``sampling.py`` works out from ONNX's formulas. Where Core ML's own resize
layers sample by that same matrix they are used; where they don't, the selection or the matrix itself is applied, which is
exact for every mode, every axis and every coordinate transformation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Array, Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.dtypes import axis_of, in_floats, is_known, known_elements
from coreproof.conversion.onnx_to_coreml.ops.resize_free import FreeAxis, free_axes, resized
from coreproof.conversion.onnx_to_coreml.ops.sampling import Sampling, coordinates, nearest_indices, weights


@dataclass(frozen=True)
class Axis:
    """How one axis changes: its lengths before and after, the scale between them, the part of it that is looked at."""

    index: int
    length: int
    target: int
    scale: float
    roi: tuple[float, float] = (0.0, 1.0)


@lowering("Upsample", error="average", interpolates=True)
def upsample(ctx: Context, x: Operand, *, scales: Sequence[float], mode: str = "nearest") -> Result:
    """Opsets 7 and 8; the deprecated operator's "bilinear" is "linear"."""
    sampling = Sampling("nearest" if mode == "nearest" else "linear", "asymmetric", "floor")
    return _by_scales(ctx, x, range(ctx.rank(x)), scales, [(0.0, 1.0)] * ctx.rank(x), sampling)


@lowering("Upsample", since=9)
def upsample_9(ctx: Context, x: Operand, scales: Operand, *, mode: str = "nearest") -> Result:
    if (computed := _computed(scales)) is not None:
        sampling = Sampling("nearest" if mode == "nearest" else "linear", "asymmetric", "floor")
        return _by_computed(ctx, x, range(ctx.rank(x)), computed, sampling)
    return upsample(ctx, x, scales=_raw(ctx, 1, "scales").tolist(), mode=mode)


@lowering("Resize", since=10, channelwise=True, places=(1, 2, 3))
def resize_10(ctx: Context, x: Operand, scales: Operand, *, mode: str = "nearest") -> Result:
    """Opset 10 leaves open which pixel is nearest; ONNX Runtime takes the next one when it shrinks, so we do."""
    factors = _raw(ctx, 1, "scales").tolist()
    sampling = Sampling(mode, "asymmetric", "ceil" if any(f < 1 for f in factors) else "floor")
    return _by_scales(ctx, x, range(ctx.rank(x)), factors, [(0.0, 1.0)] * ctx.rank(x), sampling)


@lowering("Resize", since=11)
def resize(
    ctx: Context,
    x: Operand,
    roi: Operand | None = None,
    scales: Operand | None = None,
    sizes: Operand | None = None,
    *,
    antialias: int = 0,
    axes: Sequence[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Result:
    sampling = Sampling(
        mode,
        coordinate_transformation_mode,
        nearest_mode,
        cubic_coeff_a,
        bool(exclude_outside),
        bool(antialias),
        extrapolation_value,
    )
    rank = ctx.rank(x)
    chosen = list(range(rank)) if axes is None else [axis_of(a, rank) for a in axes]
    regions: Sequence[Sequence[float]] = [(0.0, 1.0)] * len(chosen)
    if coordinate_transformation_mode == "tf_crop_and_resize":
        regions = _raw(ctx, 1, "region of interest").reshape(2, -1).T.tolist()
    # before opset 13 sizes come with scales that are there and empty
    if scales is not None and 0 not in tuple(scales.shape):
        if (computed := _computed(scales)) is not None:
            return _by_computed(ctx, x, chosen, computed, sampling)
        return _by_scales(ctx, x, chosen, _raw(ctx, 2, "scales").tolist(), regions, sampling)
    if sizes is None:
        raise ctx.refuse("neither scales nor sizes", "one of the two", "give the node its third or its fourth input")
    wanted = known_elements(sizes)
    free = free_axes(x, chosen, wanted, sizes)
    if free and keep_aspect_ratio_policy != "stretch":
        raise ctx.refuse(
            "an axis that it resizes has a free length, and the others follow it",
            "fixed lengths",
            "fix the input's height and width",
        )
    if wanted is None:
        return resized(ctx, x, free, sampling)
    moving = {axis.index for axis in free}
    lengths = [0 if a in moving or not is_known(n) else int(n) for a, n in zip(chosen, wanted, strict=True)]
    fixed = [is_known(x.shape[a]) and a not in moving for a in chosen]
    factors = [n / int(x.shape[a]) if f else 1.0 for a, n, f in zip(chosen, lengths, fixed, strict=True)]
    if keep_aspect_ratio_policy != "stretch":
        one = min(factors) if keep_aspect_ratio_policy == "not_larger" else max(factors)
        # round_int(x) is floor(x + 1/2) in the definition, and no rounding to even
        lengths = [int(np.floor(one * int(x.shape[a]) + 0.5)) for a in chosen]
        factors = [one] * len(chosen)
    plans = [
        Axis(a, int(x.shape[a]), int(n), f, (r[0], r[1]))
        for a, n, f, r, is_fixed in zip(chosen, lengths, factors, regions, fixed, strict=True)
        if is_fixed
    ]
    return resized(ctx, _resize(ctx, x, plans, sampling), free, sampling)


def _raw(ctx: Context, index: int, name: str) -> Array:
    """The operand in its own precision: a scale rounded to float16 would be another scale."""
    return ctx.constant(ctx.raw[index], name).reshape(-1)


def _computed(scales: Operand) -> Operand | None:
    """Scales that are computed while the model runs; None where they are known."""
    return None if isinstance(scales, np.ndarray) or scales.val is not None else scales


def _by_computed(ctx: Context, x: Operand, axes: Sequence[int], scales: Operand, sampling: Sampling) -> Operand:
    """Each axis by the scale that is computed for it. A layer with factors has to know them."""
    return resized(ctx, x, [FreeAxis(a, at=at, scales=scales) for at, a in enumerate(axes)], sampling)


def _by_scales(
    ctx: Context,
    x: Operand,
    axes: Sequence[int],
    scales: Sequence[float],
    regions: Sequence[Sequence[float]],
    sampling: Sampling,
) -> Result:
    scaled = list(zip(axes, scales, regions, strict=True))
    if any(s != 1 and not is_known(x.shape[a]) for a, s, _ in scaled):
        return _free(
            ctx, x, {a: s for a, s, _ in scaled if s != 1}, sampling
        )  # a region of a free axis is refused there
    plans = []
    for a, s, r in scaled:
        if is_known(x.shape[a]):
            length = int(x.shape[a])
            # in float32, as scales are stored and engines multiply: 10 times 0.7 is 7 there, and less in float64
            target = np.floor(np.float32(length) * np.float32(r[1] - r[0]) * np.float32(s))
            plans.append(Axis(a, length, int(target), s, (r[0], r[1])))
    return _resize(ctx, x, plans, sampling)


def _free(ctx: Context, x: Operand, scales: dict[int, float], sampling: Sampling) -> Result:
    """Height and width free: Core ML's layers with factors, for whole factors and the transformations that they have.

    What they do not have is computed place by place.
    """
    rank = ctx.rank(x)
    spatial = set(scales) <= {rank - 2, rank - 1} and rank >= 3
    if spatial and all(s == int(s) and s > 0 for s in scales.values()) and not sampling.antialias:
        height, width = (int(scales.get(rank - 2, 1)), int(scales.get(rank - 1, 1)))
        if sampling.mode == "nearest" and _repeats(sampling, max(height, width)):
            nearest = ctx.mb.upsample_nearest_neighbor
            return in_floats(ctx, x, lambda wide: nearest(x=wide, scale_factor_height=height, scale_factor_width=width))
        # pytorch_half_pixel differs from half_pixel only where a result is 1 long, which a whole factor makes of 1 alone
        layers = ("half_pixel", "pytorch_half_pixel", "align_corners")
        if sampling.mode == "linear" and sampling.transformation in layers:
            return ctx.mb.upsample_bilinear(
                x=x,
                scale_factor_height=height,
                scale_factor_width=width,
                align_corners=sampling.transformation == "align_corners",
            )
    return resized(ctx, x, [FreeAxis(a, scale=s) for a, s in scales.items()], sampling)


def _repeats(sampling: Sampling, factor: int) -> bool:
    # eight elements show how all others go
    axis = Axis(0, 8, 8 * factor, float(factor))
    return bool(np.array_equal(_indices(axis, sampling), np.arange(8 * factor) // factor))


def _indices(axis: Axis, sampling: Sampling) -> Array:
    return nearest_indices(axis.length, axis.target, axis.scale, axis.roi, sampling)


def _resize(ctx: Context, x: Operand, plans: list[Axis], sampling: Sampling) -> Result:
    if any(axis.target < 1 for axis in plans):
        raise ctx.refuse("a length of its result is 0", "at least one element along each axis")
    if all(axis.target == axis.length for axis in plans) and sampling.transformation != "tf_crop_and_resize":
        return x  # a scale of 1.2 leaves 4 elements at 4: PyTorch and ONNX Runtime hand on the picture then
    if sampling.mode == "nearest":
        result = _nearest(ctx, x, plans, sampling)
    else:
        result = in_floats(ctx, x, lambda wide: _weighted(ctx, wide, plans, sampling))
    return _extrapolated(ctx, result, plans, sampling)


def _nearest(ctx: Context, x: Operand, plans: list[Axis], sampling: Sampling) -> Operand:
    rank = ctx.rank(x)
    chosen = {axis.index: _indices(axis, sampling) for axis in plans}
    factors = {
        a.index: a.target // a.length
        for a in plans
        if np.array_equal(chosen[a.index], np.arange(a.target) // max(a.target // a.length, 1))
        and a.target % a.length == 0
    }
    spatial = [factors.get(rank - 2, 1), factors.get(rank - 1, 1)]
    # Core ML's layer repeats along height and width; other axes, and other selections, are gathered
    if rank >= 3 and max(spatial) > 1:
        layer, (height, width) = ctx.mb.upsample_nearest_neighbor, spatial
        x = in_floats(ctx, x, lambda wide: layer(x=wide, scale_factor_height=height, scale_factor_width=width))
        chosen = {a: i for a, i in chosen.items() if not (a >= rank - 2 and a in factors)}
    for index, indices in chosen.items():
        if not np.array_equal(indices, np.arange(x.shape[index])):
            x = ctx.mb.gather(x=x, indices=indices.astype(np.int32), axis=index)
    return x


def _weighted(ctx: Context, x: Operand, plans: list[Axis], sampling: Sampling) -> Operand:
    rank = ctx.rank(x)
    matrices = {a.index: _matrix(a, sampling) for a in plans}
    last = [a for a in plans if a.index >= rank - 2 and not _is_identity(matrices[a.index])]
    if rank >= 3 and last and is_known(x.shape[-1]) and is_known(x.shape[-2]):
        grid = next((g for g in _GRIDS if all(_samples_like(a, matrices[a.index], g) for a in last)), None)
        targets = {a.index: a.target for a in last}
        if grid is not None and _is_written(ctx, x, targets, grid):
            x = _native(ctx, x, targets.get(rank - 2, int(x.shape[-2])), targets.get(rank - 1, int(x.shape[-1])), grid)
            matrices = {a: m for a, m in matrices.items() if a not in targets}
    for index, matrix in matrices.items():
        if not _is_identity(matrix):
            x = _apply(ctx, x, ctx.floats(matrix), index)
    return x


_GRIDS = {"half_pixel": "UNALIGN_CORNERS", "align_corners": "STRICT_ALIGN_CORNERS", "asymmetric": "DEFAULT"}


def _matrix(axis: Axis, sampling: Sampling) -> Array:
    places = coordinates(axis.length, axis.target, axis.scale, axis.roi, sampling.transformation)
    return weights(places, axis.length, axis.scale, sampling)


def _is_identity(matrix: Array) -> bool:
    return matrix.shape[0] == matrix.shape[1] and np.allclose(matrix, np.eye(len(matrix)), atol=1e-7, rtol=0)


def _samples_like(axis: Axis, matrix: Array, grid: str) -> bool:
    """Whether Core ML's linear resize, which knows lengths but no scales, weights as ``matrix`` does."""
    scale = axis.target / axis.length
    places = coordinates(axis.length, axis.target, scale, (0.0, 1.0), grid)
    # Core ML's layers repeat the border where they look beyond it
    own = weights(np.clip(places, 0, axis.length - 1), axis.length, scale, Sampling("linear", grid))
    return bool(np.allclose(own, matrix, atol=1e-6, rtol=0))


def _is_written(ctx: Context, x: Operand, targets: Mapping[int, int], grid: str) -> bool:
    """Whether a NeuralNetwork keeps the factors: coremltools cuts both to whole ones where neither is 0.001 above one."""
    if not ctx.is_network or grid != "half_pixel":
        return True
    lengths = {axis: int(x.shape[axis]) for axis in (ctx.rank(x) - 2, ctx.rank(x) - 1)}
    above = [(float(_factor(targets.get(axis, n), n)) % 1) for axis, n in lengths.items()]
    return not any(above) or max(above) > 0.001


def _native(ctx: Context, x: Operand, height: int, width: int, grid: str) -> Operand:
    if ctx.is_network and grid == "half_pixel":
        # NeuralNetwork's resizeBilinear has no such grid, its upsample has, and takes the size from a factor.
        return ctx.mb.upsample_bilinear(
            x=x,
            scale_factor_height=_factor(height, int(x.shape[-2])),
            scale_factor_width=_factor(width, int(x.shape[-1])),
            align_corners=False,
        )
    return ctx.mb.resize_bilinear(x=x, target_size_height=height, target_size_width=width, sampling_mode=_GRIDS[grid])


def _factor(target: int, length: int) -> np.float32:
    """A factor from which the layer, that rounds down in float32, gets ``target`` and no less."""
    factor = np.float32(target / length)
    while np.floor(np.float32(length) * factor) < target:
        # the quotient may be rounded down, and the product with it below the target
        factor = np.nextafter(factor, np.float32(np.inf))
    return factor


def _apply(ctx: Context, x: Operand, matrix: Array, index: int) -> Operand:
    rank = ctx.rank(x)
    if rank == 1:
        return ctx.mb.squeeze(x=ctx.mb.matmul(x=ctx.mb.expand_dims(x=x, axes=[0]), y=matrix.T), axes=[0])
    if index == rank - 1:
        return ctx.mb.matmul(x=x, y=np.ascontiguousarray(matrix.T))
    if index == rank - 2:
        return ctx.mb.matmul(x=matrix, y=x)
    # a product of matrices works on the last axes
    order = [i for i in range(rank) if i != index] + [index]
    moved = ctx.mb.matmul(x=ctx.mb.transpose(x=x, perm=order), y=np.ascontiguousarray(matrix.T))
    return ctx.mb.transpose(x=moved, perm=[order.index(i) for i in range(rank)])


def _extrapolated(ctx: Context, x: Operand, plans: list[Axis], sampling: Sampling) -> Operand:
    """tf_crop_and_resize puts a given value where it would look outside of the operand."""
    if sampling.transformation != "tf_crop_and_resize":
        return x
    inside = np.ones([1] * ctx.rank(x), np.bool_)
    for axis in plans:
        places = coordinates(axis.length, axis.target, axis.scale, axis.roi, sampling.transformation)
        shape = [-1 if i == axis.index else 1 for i in range(ctx.rank(x))]
        inside = inside & ((places >= 0) & (places <= axis.length - 1)).reshape(shape)
    if inside.all():
        return x
    value = np.int32(sampling.extrapolation) if not ctx.is_float(x) else ctx.scalar(sampling.extrapolation)
    return ctx.mb.select(cond=np.broadcast_to(inside, ctx.shape(x)).copy(), a=x, b=value)
