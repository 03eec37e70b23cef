"""Nearest resizing as PyTorch chooses: result i is element floor(i step), where step is rounded to float32 and multiplied.

ONNX's Resize divides by the scale instead, and engines round that too: of factors such as 1.7 or 2.4 every few pictures have
an element of a neighbour. So an axis by a fraction is gathered, and whole factors stay a Resize.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from coreproof.conversion.torch_to_onnx.writing import lengths, number, numbers, operators, whole
from coreproof.model.torch.model import import_torch

Size = int | ir.Value


@dataclass(frozen=True)
class Resizing:
    """An axis that is resized: its length, if it is known, the length or the factor that is asked for."""

    index: int
    length: int | None
    target: Size | None
    factor: float | None
    middle: float
    is_of_picture: bool

    @property
    def elements(self) -> np.ndarray | None:
        """[target] of int64: which element each result is, where both lengths are known."""
        if self.length is None or not isinstance(self.target, int):
            return None
        at, times = np.arange(self.target), self.target / self.length
        if self.is_of_picture and not self.middle and times in (1, 2):
            # PyTorch's kernel for two axes takes once and twice for what they are, whatever the factor says
            return at // int(times)
        step = np.float32(1 / self.factor) if self.factor else np.float32(self.length) / np.float32(self.target)
        places = np.floor((at.astype(np.float32) + np.float32(self.middle)) * step)
        elements: np.ndarray = np.minimum(places, self.length - 1).astype(np.int64)
        return elements

    @property
    def repeats(self) -> int | None:
        """The whole number of times that each element comes, where it is one."""
        if (elements := self.elements) is None:
            return int(self.factor) if self.factor and self.factor == int(self.factor) else None
        times, left = divmod(len(elements), self.length or 1)
        even = not left and np.array_equal(elements, np.arange(len(elements)) // max(times, 1))
        return times if even else None


def resampling_operators() -> Mapping[Callable[..., object], Callable[..., object]]:
    """PyTorch operator -> how it is written in ONNX, as ``torch.onnx.export`` takes them."""
    aten = import_torch().ops.aten
    written: dict[Callable[..., object], Callable[..., object]] = {}
    for count in (1, 2, 3):
        nearest, exact = f"upsample_nearest{count}d", f"_upsample_nearest_exact{count}d"
        written[getattr(aten, nearest).default] = nearest_to
        written[getattr(aten, nearest).vec] = nearest_by
        written[getattr(aten, exact).default] = exact_to
        written[getattr(aten, exact).vec] = exact_by
    return written


def nearest_to(x: ir.Value, output_size: Sequence[Size], *scales: float | None, **named: float | None) -> ir.Value:
    """To lengths; by factors, where they are given too."""
    return _resized(x, output_size, [*scales, *named.values()], 0.0)


def nearest_by(x: ir.Value, output_size: Sequence[Size] | None, scale_factors: Sequence[float] | None) -> ir.Value:
    """To lengths or by factors, one of which is given."""
    return _resized(x, output_size, scale_factors or [], 0.0)


def exact_to(x: ir.Value, output_size: Sequence[Size], *scales: float | None, **named: float | None) -> ir.Value:
    """The same from the middle of each element: ``nearest-exact``."""
    return _resized(x, output_size, [*scales, *named.values()], 0.5)


def exact_by(x: ir.Value, output_size: Sequence[Size] | None, scale_factors: Sequence[float] | None) -> ir.Value:
    """The same from the middle of each element: ``nearest-exact``."""
    return _resized(x, output_size, scale_factors or [], 0.5)


def _resized(x: ir.Value, sizes: Sequence[Size] | None, factors: Sequence[float | None], middle: float) -> ir.Value:
    op, count, rank = operators(), len(sizes or factors), len(lengths(x))
    axes = []
    for at in range(count):
        index = rank - count + at
        length, factor = lengths(x)[index], factors[at] if at < len(factors) else None
        known = length if isinstance(length, int) else None
        target = sizes[at] if sizes else None
        if target is None and known is not None and factor is not None:
            target = int(known * factor)
        axes.append(Resizing(index, known, target, factor, middle, count == 2))
    for axis in axes:
        if axis.repeats is None:
            x = op.Gather(x, _elements(x, axis), axis=axis.index)
    whole_factors = [axis for axis in axes if axis.repeats not in (None, 1)]
    if not whole_factors:
        return x if any(axis.repeats is None for axis in axes) else op.Identity(x)
    scales = numbers([float(axis.repeats or 1) for axis in whole_factors], ir.DataType.FLOAT)
    return op.Resize(
        x,
        None,
        scales,
        None,
        mode="nearest",
        axes=[axis.index for axis in whole_factors],
        coordinate_transformation_mode="half_pixel" if middle else "asymmetric",
        nearest_mode="round_prefer_ceil" if middle else "floor",
    )


def _as_row(axis: Resizing, x: ir.Value) -> ir.Value:
    """[1] of int64: the length that is asked for, or that the factor makes of the axis."""
    op = operators()
    if isinstance(axis.target, ir.Value):
        return op.Reshape(axis.target, whole(1))
    if isinstance(axis.target, int):
        return op.Constant(value_ints=[axis.target])
    length = op.Cast(op.Shape(x, start=axis.index, end=axis.index + 1), to=ir.DataType.FLOAT)
    asked = op.Mul(length, number(axis.factor or 1.0, ir.DataType.FLOAT))
    return op.Cast(op.Floor(asked), to=ir.DataType.INT64)


def _elements(x: ir.Value, axis: Resizing) -> ir.Value | ir.TensorProtocol:
    """[target] of int64: which element each result is."""
    op = operators()
    if (known := axis.elements) is not None:
        return whole(*known.tolist())
    length = op.Squeeze(op.Shape(x, start=axis.index, end=axis.index + 1), whole(0))
    asked = _as_row(axis, x)
    step: ir.Value | ir.TensorProtocol
    if axis.factor:
        step = number(float(np.float32(1 / axis.factor)), ir.DataType.FLOAT)
    else:
        step = op.Div(op.Cast(length, to=ir.DataType.FLOAT), op.Squeeze(op.Cast(asked, to=ir.DataType.FLOAT), whole(0)))
    end = op.Squeeze(asked, whole(0))
    row = op.Cast(op.Range(_zero(), end, _one()), to=ir.DataType.FLOAT)
    from_middle = op.Add(row, number(axis.middle, ir.DataType.FLOAT)) if axis.middle else row
    places = op.Floor(op.Mul(from_middle, step))
    return op.Min(op.Cast(places, to=ir.DataType.INT64), op.Sub(length, _one()))


def _zero() -> ir.TensorProtocol:
    return number(0, ir.DataType.INT64)


def _one() -> ir.TensorProtocol:
    return number(1, ir.DataType.INT64)
