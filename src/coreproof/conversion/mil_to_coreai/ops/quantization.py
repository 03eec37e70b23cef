"""MIL's quantize and dequantize of activations in Core AI's operations."""

from __future__ import annotations

from coreproof.conversion.mil_to_coreai.translation import Operand, Tensor, Translation, translates


@translates("quantize", since="iOS17", in_float32=True)
def quantize(
    t: Translation,
    *,
    input: Operand,
    scale: Operand,
    output_dtype: str,
    zero_point: Operand = None,
    axis: int | None = None,
) -> Tensor:
    """clip(round(input / scale) + zero_point)"""
    scaled = t.unary("round", t.binary("divide", t.value(input, "f32"), _along(t, input, scale, axis)))
    if zero_point is not None:
        scaled = t.binary("add", scaled, _along(t, input, zero_point, axis))
    # what is scaled beyond an integer's ends stays at them
    low_end, high_end = (-128.0, 127.0) if output_dtype == "int8" else (0.0, 255.0)
    clipped = t.binary("minimum", t.binary("maximum", scaled, low_end), high_end)
    return t.cast(t.cast(clipped, "si32"), "si8" if output_dtype == "int8" else "ui8")


@translates("dequantize", since="iOS17", in_float32=True)
def dequantize(
    t: Translation, *, input: Operand, scale: Operand, zero_point: Operand = None, axis: int | None = None
) -> Tensor:
    """scale * (input - zero_point)"""
    value = t.value(input, "f32")
    if zero_point is not None:
        value = t.binary("sub", value, _along(t, input, zero_point, axis))
    return t.binary("mul", value, _along(t, input, scale, axis))


def _along(t: Translation, x: Operand, parameter: Operand, axis: int | None) -> Tensor:
    """A number, or a vector along ``axis``, as float32 that broadcasts over ``x``."""
    array = t.constant(parameter, "scale").astype("float32")
    if array.ndim and axis is not None:
        rank = t.rank(x)
        array = array.reshape([-1 if a == int(axis) % rank else 1 for a in range(rank)])
    return t.value(array)
