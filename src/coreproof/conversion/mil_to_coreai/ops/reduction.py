"""MIL's reductions along axes in Core AI's, which keep the axes with length 1."""

from __future__ import annotations

import numpy as np

from coreproof.conversion.mil_to_coreai.translation import Operand, Tensor, Translation, si, translates

_NAMES = {"reduce_prod": "reduce_product"}


def _over(t: Translation, x: Operand, axes: Operand) -> list[int]:
    # an empty list of axes means all of them, as no list does
    given = None if axes is None or np.size(t.constant(axes, "axes")) == 0 else t.constant(axes, "axes")
    return t.axes(given, t.rank(x))


@translates("reduce_max", "reduce_min", "reduce_prod", "reduce_sum")
def reduce(t: Translation, *, x: Operand, axes: Operand = None, keep_dims: bool = False) -> Tensor:
    return t.reduce(_NAMES.get(t.operation, t.operation), x, _over(t, x, axes), keep=keep_dims)


@translates("reduce_mean")
def reduce_mean(t: Translation, *, x: Operand, axes: Operand = None, keep_dims: bool = False) -> Tensor:
    over = _over(t, x, axes)
    if t.is_float(x):
        return t.reduce("reduce_mean", x, over, keep=keep_dims)
    return t.cast(t.reduce("reduce_mean", t.cast(x, "f32"), over, keep=keep_dims), "si32")


@translates("reduce_sum_square", "reduce_l1_norm", "reduce_l2_norm", in_float32=True)
def norm(t: Translation, *, x: Operand, axes: Operand = None, keep_dims: bool = False) -> Tensor:
    sizes = t.unary("abs", x) if t.operation == "reduce_l1_norm" else t.binary("mul", x, x)
    total = t.reduce("reduce_sum", sizes, _over(t, x, axes), keep=keep_dims)
    if t.operation != "reduce_l2_norm":
        return total
    return t.unary("sqrt", total) if t.is_float(x) else t.cast(t.unary("sqrt", t.cast(total, "f32")), "si32")


@translates("reduce_log_sum", in_float32=True)
def reduce_log_sum(t: Translation, *, x: Operand, axes: Operand = None, keep_dims: bool = False) -> Tensor:
    return t.unary("log", t.reduce("reduce_sum", x, _over(t, x, axes), keep=keep_dims))


@translates("reduce_log_sum_exp", in_float32=True)
def reduce_log_sum_exp(t: Translation, *, x: Operand, axes: Operand = None, keep_dims: bool = False) -> Tensor:
    """With the largest element taken out first, so that nothing grows beyond what a float holds."""
    over = _over(t, x, axes)
    largest = t.reduce("reduce_max", x, over)
    # minus its infinite self it would be no number
    finite = t.where(t.binary("equal", t.unary("abs", largest), np.inf, "i1"), t.like(0, largest), largest)
    total = t.reduce("reduce_sum", t.unary("exp", t.binary("sub", x, finite)), over)
    made = t.binary("add", t.unary("log", total), finite)
    return made if keep_dims else t.shrink_dims(made, over)


@translates("reduce_argmax", "reduce_argmin")
def reduce_arg(
    t: Translation, *, x: Operand, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32"
) -> Tensor:
    value = t.value(x)
    at = int(axis) % len(value.shape)
    if t.operation == "reduce_argmin":
        # the largest of what is turned around; of whole numbers -1 - x, which every number has
        value = t.binary("sub", t.like(0 if t.is_float(value) else -1, value), value)
    lengths = [1 if i == at else n for i, n in enumerate(value.shape)]
    place = t.op("argmax", value, si(at), shape=lengths, element="ui32")
    wanted = {"int32": "si32", "uint16": "ui16", "int16": "si16"}.get(output_dtype, "si32")
    made = t.cast(place, wanted)
    return made if keep_dims else t.shrink_dims(made, [at])
