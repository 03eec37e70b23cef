"""Core AI operations that take a part of a tensor, write one, or put numbers around it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreai_to_onnx.lowering import CoreAILowering, Operand, lowers

_BEFORE_ALL = int(np.iinfo(np.int64).min)
_TO_THE_END = int(np.iinfo(np.int64).max)
_MODES = {"constant": "constant", "replicate": "edge", "reflect": "reflect", "circular": "wrap"}


@lowers("slice", exact=True, error="move", hands_on="part")
def slice_(low: CoreAILowering, x: Operand, start: Operand, end: Operand, strides: Operand) -> ir.Value:
    steps = low.integers(strides, "strides")
    if not steps:
        return low.op("Identity", x)
    return low.op("Slice", x, low.i64(start), _ends(low, end, steps), list(range(len(steps))), steps)


def _ends(low: CoreAILowering, end: Operand, steps: list[int]) -> Operand:
    """Where a slice ends. Backwards, -1 stands for what is before the first element, and not for the last one."""
    if isinstance(end, ir.Value):
        ends = low.value(low.i64(end))
        if all(step > 0 for step in steps):
            return ends
        back = np.array([step < 0 for step in steps])
        before = low.op("And", back, low.op("Equal", ends, np.array(-1, np.int64)))
        return low.op("Where", before, np.array(_BEFORE_ALL, np.int64), ends)
    known = low.integers(end, "end_indices")
    return [_BEFORE_ALL if step < 0 and last == -1 else last for step, last in zip(steps, known, strict=True)]


@lowers("slice_update", exact=True)
def slice_update(
    low: CoreAILowering, x: Operand, start: Operand, end: Operand, strides: Operand, update: Operand
) -> ir.Value:
    """The places of the slice are those of the same slice of a tensor that counts them."""
    if not low.integers(strides, "strides"):
        return low.op("Identity", update)
    shape = low.dims(x)
    count = low.op("ReduceProd", shape, keepdims=0)
    places = low.op("Range", np.array(0, np.int64), count, np.array(1, np.int64))
    wanted = slice_(low, low.op("Reshape", places, shape), start, end, strides)
    whole = low.op("Expand", update, low.dims(wanted))
    flat = low.op("ScatterElements", low.reshape(x, [-1]), low.reshape(wanted, [-1]), low.reshape(whole, [-1]), axis=0)
    return low.op("Reshape", flat, shape, allowzero=1)


@lowers("pad", exact=True, error="move")
def pad(low: CoreAILowering, x: Operand, padding: Operand, value: Operand) -> ir.Value:
    mode, rank = low.attribute("padding_mode"), low.rank(x)
    if isinstance(padding, ir.Value):
        if mode not in _MODES:
            raise low.refuse("with padding that is known at run time only, this mode is not lowered", found=mode)
        pairs = low.op("Reshape", low.i64(padding), [rank, 2])
        amounts: Operand = low.reshape(low.op("Transpose", pairs, perm=[1, 0]), [-1])
    else:
        pads = low.integers(padding, "padding")
        if not any(pads):
            return low.op("Identity", x)
        if mode == "symmetric":
            return _symmetric(low, x, pads)
        amounts = pads[0::2] + pads[1::2]
    if mode not in _MODES:
        raise low.refuse("its mode is not known", found=mode)
    # ONNX Runtime pads no tensor of booleans
    held = low.cast(x, ir.DataType.INT32) if low.is_bool(x) else low.value(x)
    filled = low.cast(value, ir.DataType.INT32) if low.is_bool(x) else value
    padded = low.op("Pad", held, amounts, filled if mode == "constant" else None, mode=_MODES[mode])
    return low.op("Cast", padded, to=ir.DataType.BOOL) if low.is_bool(x) else padded


def _symmetric(low: CoreAILowering, x: Operand, pads: list[int]) -> ir.Value:
    """Mirrored with the border itself, which ONNX has no mode for: the mirror image stands before and behind."""
    value = low.value(x)
    for axis, (before, after) in enumerate(zip(pads[0::2], pads[1::2], strict=True)):
        mirrored = low.op("Slice", value, [-1], [_BEFORE_ALL], [axis], [-1])
        length = low.shape(value)[axis]
        if length is not None and max(before, after) > length:
            raise low.refuse("it pads by more than there is", expected=f"at most {length}", found=max(before, after))
        parts = [low.op("Slice", mirrored, [-before], [_TO_THE_END], [axis])] if before else []
        parts += [value, *([low.op("Slice", mirrored, [0], [after], [axis])] if after else [])]
        value = low.op("Concat", *parts, axis=axis) if len(parts) > 1 else value
    return value
