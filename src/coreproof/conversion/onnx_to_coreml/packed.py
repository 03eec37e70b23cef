"""Constants that stay as few bits as they are: an array of numbers that knows the integers, scales and zero points behind it.

To a handler it is an array of floats like any other. Where it reaches an operation of the program as it is, or only with its
axes in another order, its integers are written (MIL's ``constexpr_affine_dequantize`` from iOS 16 on, its
``constexpr_blockwise_shift_scale`` from iOS 18 on) and Core ML computes the floats when it loads the model; anything else that is
done to it works on the floats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.mil import Builder, Operand, Var
from coreproof.model.numbers import to_float16

FEWEST = 64
"""Constants of fewer numbers are written as floats: an operation of their own would take more bytes than they save."""
_WIDTHS = {
    ir.DataType.INT8: (8, True),
    ir.DataType.UINT8: (8, False),
    ir.DataType.INT4: (4, True),
    ir.DataType.UINT4: (4, False),
    ir.DataType.INT2: (2, True),
    ir.DataType.UINT2: (2, False),
}
"""How many bits an integer has that can be packed, and whether it has a sign."""
_SMALLEST_NORMAL = float(np.finfo(np.float16).smallest_normal)
_AS_PRECISE = 2.0**-11


@dataclass(frozen=True, eq=False)
class Packed:
    """(numbers - zero) * scale. ``scale`` and ``zero`` have the rank of ``numbers``, each of theirs is for a block of it."""

    numbers: np.ndarray
    """int8 or uint8, also where they have fewer bits."""
    scale: np.ndarray
    """float32, or float64 where a factor was put in; never rounded before it is written."""
    zero: np.ndarray | None
    """In the dtype of the numbers; None where zero stands for zero."""
    bits: int = 8
    name: str = ""

    def dense(self) -> np.ndarray:
        """The floats, in the precision of the scale."""
        # int32: the difference of two bytes is no byte
        shift = 0 if self.zero is None else self._spread(self.zero).astype(np.int32)
        return np.asarray((self.numbers.astype(np.int32) - shift) * self._spread(self.scale))

    def moved(self, move: Callable[[np.ndarray], np.ndarray]) -> Packed:
        """The same with the axes of all its parts moved alike."""
        zero = None if self.zero is None else move(self.zero)
        return replace(self, numbers=move(self.numbers), scale=move(self.scale), zero=zero)

    def times(self, factor: float) -> Packed:
        """The same numbers, scaled once more."""
        return replace(self, scale=self.scale.astype(np.float64) * factor)

    def _spread(self, parameter: np.ndarray) -> np.ndarray:
        """A parameter that broadcasts over the numbers."""
        for axis, (length, count) in enumerate(zip(self.numbers.shape, parameter.shape, strict=True)):
            if count not in (1, length):
                parameter = np.repeat(parameter, length // count, axis)
        return parameter

    @property
    def axes(self) -> tuple[int, ...]:
        """Along which axes there is more than one scale or zero point."""
        shapes = [self.scale.shape, *([] if self.zero is None else [self.zero.shape])]
        return tuple(axis for axis in range(self.numbers.ndim) if any(shape[axis] > 1 for shape in shapes))


class PackedArray(np.ndarray):
    """The floats of a packed constant; what makes another array of them gives a plain one, save ``moved`` and ``cast_packed``."""

    packed: Packed | None

    # called for every view and copy, whose floats need no longer be those of the integers
    def __array_finalize__(self, source: object) -> None:
        self.packed = None


def packed_array(packed: Packed, dtype: type[np.floating] | np.dtype[np.floating] = np.float32) -> np.ndarray:
    """The floats that ``packed`` stands for, which know it."""
    made = _cast(packed.dense(), dtype).view(PackedArray)
    made.packed = packed
    return made


def packed_in(array: object) -> Packed | None:
    """What an array is packed as; None where it is not."""
    return array.packed if isinstance(array, PackedArray) else None


def moved(array: np.ndarray, move: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """``array`` with its axes moved; packed as before where it was."""
    made, packed = move(np.asarray(array)), packed_in(array)
    if packed is None:
        return made
    again = made.view(PackedArray)
    again.packed = packed.moved(move)
    return again


def contiguous(array: np.ndarray) -> np.ndarray:
    """``array`` as an operation takes it; what is packed is written from its integers, wherever its floats lie."""
    return array if packed_in(array) is not None else np.ascontiguousarray(array)


def cast_packed(array: PackedArray, dtype: type[np.floating]) -> np.ndarray:
    """The same constant for a program that computes in ``dtype``."""
    made = _cast(np.asarray(array), dtype).view(PackedArray)
    made.packed = array.packed
    return made


def _cast(array: np.ndarray, dtype: type[np.floating] | np.dtype[np.floating]) -> np.ndarray:
    return to_float16(array) if dtype == np.float16 else np.asarray(array, dtype)


# making one


def pack(
    numbers: np.ndarray,
    scale: np.ndarray,
    zero: np.ndarray | None,
    *,
    axis: int = 0,
    block_size: int = 0,
    bits: int | None = None,
    name: str = "",
) -> Packed | None:
    """Integers with scales and zero points as ONNX gives them; None where Core ML cannot hold them like that.

    ``bits`` are those of unsigned numbers that stand in bytes one by one.

    Scales are one for all, one for each place along ``axis``, or in blocks of ``block_size`` along it.
    """
    width = _WIDTHS.get(ir.DataType.from_numpy(numbers.dtype))
    # a number alone is written as one
    if width is None or not numbers.ndim or scale.size == 0:
        return None
    bits, signed = (bits or width[0]), width[1]
    kind = np.int8 if signed else np.uint8
    axis = axis % numbers.ndim
    if zero is not None:
        if zero.shape != scale.shape and zero.size != 1:
            return None
        # zero points of 0 are left out, as Core ML takes them then
        zero = None if not zero.astype(np.int32).any() else np.broadcast_to(zero.astype(kind), scale.shape)
    scale = scale.astype(np.float64 if scale.dtype == np.float64 else np.float32)
    if not np.isfinite(scale).all():
        return None
    factor = _parameter(scale, numbers.shape, axis, block_size)
    shift = None if zero is None else _parameter(zero, numbers.shape, axis, block_size)
    if factor is None or (zero is not None and shift is None):
        return None
    return Packed(numbers.astype(kind), factor, shift, bits=bits, name=name)


def _parameter(values: np.ndarray, shape: Sequence[int], axis: int, block_size: int) -> np.ndarray | None:
    """A scale or zero point with the rank of the numbers; None where its places are no equal blocks."""
    if values.size == 1:
        return values.reshape([1] * len(shape))
    if not block_size:
        one_each = values.ndim == 1 and values.shape[0] == shape[axis]
        return values.reshape([-1 if a == axis else 1 for a in range(len(shape))]) if one_each else None
    if values.ndim != len(shape):
        return None
    length = shape[axis]
    # where the last block is a part of one, smaller blocks repeat the scales
    common = math.gcd(length, block_size)
    places = np.arange(length // common) * common // block_size
    if places[-1] >= values.shape[axis]:
        return None
    return np.take(values, places, axis)


# writing one


def is_writable(packed: Packed, target: int, dtype: type[np.floating]) -> bool:
    """Whether a program for ``target`` (MIL opset as the iOS number) that computes in ``dtype`` can hold it as it is.

    In float16 it can where no scale is too small for that: what is written is the product with the scale as float16 has it.
    """
    if packed.numbers.size < FEWEST or target < 16:
        return False
    if target < 18 and len(packed.axes) > 1:
        return False
    if target < 18 and packed.axes and not _whole(packed, packed.axes[0]):
        return False
    return dtype != np.float16 or _holds_scale(packed)


def _whole(packed: Packed, axis: int) -> bool:
    """Whether there is a scale for each place of the axis, not for blocks of it."""
    length = packed.numbers.shape[axis]
    return all(v.shape[axis] in (1, length) for v in (packed.scale, packed.zero) if v is not None)


def _holds_scale(packed: Packed) -> bool:
    scale = np.abs(np.asarray(packed.scale, np.float64))
    if scale.max(initial=0) > float(np.finfo(np.float16).max):
        return False
    small = (scale > 0) & (scale < _SMALLEST_NORMAL)
    if not small.any():
        return True
    # a channel of all but zeros: what its scale loses is lost in what float16 leaves of the others
    lost = np.abs(scale - scale.astype(np.float16).astype(np.float64))[small].max() * (1 << packed.bits)
    return bool(lost <= _AS_PRECISE * np.abs(packed.dense()).max(initial=0))


class PackedConstants:
    """Writes packed constants into a program, each once for each dtype and block."""

    def __init__(self, builder: Builder, target: int) -> None:
        self._builder, self._target = builder, target
        self._made: dict[tuple[object, ...], tuple[Packed, Var]] = {}

    def written(self, array: np.ndarray) -> Operand:
        """The operation that stands for ``array``, or its floats where it is not packed, or Core ML cannot hold it so."""
        packed = packed_in(array)
        if packed is None:
            return array
        dtype = np.float16 if array.dtype == np.float16 else np.float32
        if not is_writable(packed, self._target, dtype):
            return np.ascontiguousarray(array)
        from coremltools.converters.mil.mil.block import curr_block

        # the packed constant is kept, so that no other is given its id
        key = (curr_block(), id(packed), dtype)
        if key not in self._made:
            self._made[key] = packed, self._write(packed, dtype)
        return self._made[key][1]

    def _write(self, packed: Packed, dtype: type[np.floating]) -> Var:
        scale = _cast(packed.scale, dtype)
        numbers = np.ascontiguousarray(packed.numbers)
        named: Mapping[str, str] = {"name": packed.name} if packed.name else {}
        if self._target < 18 and packed.bits < 8 and not packed.axes:
            return self._table(packed, dtype, named)
        if self._target < 18:
            return self._affine(packed, numbers, scale, named)
        zero = packed.zero
        if zero is not None and zero.shape != scale.shape:
            both = np.broadcast_shapes(zero.shape, scale.shape)
            zero, scale = np.broadcast_to(zero, both), np.broadcast_to(scale, both)
        if packed.bits < 8:
            numbers, zero = _as_four_bits(numbers), None if zero is None else _as_four_bits(zero)
        offset = {} if zero is None else {"offset": np.ascontiguousarray(zero)}
        return self._builder.constexpr_blockwise_shift_scale(
            data=numbers, scale=np.ascontiguousarray(scale), **offset, **named
        )

    def _affine(self, packed: Packed, numbers: np.ndarray, scale: np.ndarray, named: Mapping[str, str]) -> Var:
        axis = packed.axes[0] if packed.axes else 0

        def along(values: np.ndarray) -> np.ndarray | np.generic:
            flat = np.ascontiguousarray(values.reshape(-1))
            return flat[0] if flat.size == 1 else flat

        zero = numbers.dtype.type(0) if packed.zero is None else along(packed.zero)
        return self._builder.constexpr_affine_dequantize(
            quantized_data=numbers, zero_point=zero, scale=along(scale), axis=np.int32(axis), **named
        )

    def _table(self, packed: Packed, dtype: type[np.floating], named: Mapping[str, str]) -> Var:
        """Four bits, before iOS 18: what each of the integers stands for, and which it is."""
        every = np.arange(16, dtype=np.uint8)
        signed = packed.numbers.dtype == np.int8
        # the lowest four bits of a negative number are it plus 16
        meant = np.where(every > 7, every.astype(np.int16) - 16, every) if signed else every
        one = [1] * packed.numbers.ndim
        table = replace(packed, numbers=meant.astype(packed.numbers.dtype).reshape([*one[:-1], 16])).dense()
        indices = (packed.numbers.astype(np.uint8) & np.uint8(15)).reshape(-1)
        pairs = np.pad(indices, (0, indices.size % 2)).reshape(-1, 2)
        return self._builder.constexpr_lut_to_dense(
            indices=np.ascontiguousarray(pairs[:, 0] | pairs[:, 1] << np.uint8(4)),
            lut=_cast(table.reshape(-1), dtype),
            shape=np.array(packed.numbers.shape, np.uint32),
            **named,
        )


def _as_four_bits(numbers: np.ndarray) -> np.ndarray:
    """Integers as coremltools takes those of four bits, two of which share a byte."""
    from coremltools.converters.mil.mil import types

    kind = types.np_int4_dtype if numbers.dtype == np.int8 else types.np_uint4_dtype
    return numbers.astype(kind)
