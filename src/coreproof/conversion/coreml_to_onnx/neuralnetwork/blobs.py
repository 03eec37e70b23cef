"""Blob and Layer: a value of a NeuralNetwork as ONNX holds it, and one layer being lowered.

Core ML's older networks see every blob as [Sequence, Batch, Channel, Height, Width]. Nearly always the sequence has
length 1, and ONNX (its convolutions, its optimisers, the people who compare taps) wants [N, C, H, W]. A blob therefore
may hold fewer dimensions than it has: ``hidden`` counts the leading dimensions of length 1 that are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.builder import OnnxBuilder, Operand
from coreproof.errors import ConversionError


@dataclass(frozen=True)
class Blob:
    """A NeuralNetwork blob: its shape is ``(1,) * hidden + value.shape``."""

    value: ir.Value
    hidden: int = 0


def f32(number: float | Sequence[float]) -> npt.NDArray[np.float32]:
    """A float32 constant."""
    return np.asarray(number, np.float32)


def i64(numbers: int | Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """An int64 constant (axes, shapes, indices)."""
    return np.asarray(numbers, np.int64)


def known(value: ir.Value) -> tuple[int | None, ...] | None:
    """The shape of an ONNX value, None for lengths that are only known when it runs; None when the rank is open."""
    if value.shape is None:
        return None
    return tuple(d if isinstance(d, int) else None for d in value.shape)


@dataclass
class Layer:
    """One layer while it is lowered: its names, the builder to append to, and the words for its errors."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    b: OnnxBuilder
    scope: object = field(repr=False, default=None)

    # what goes wrong

    def refuse(
        self, problem: str, *, expected: object = None, found: object = None, fix: str | None = None
    ) -> ConversionError:
        """The error that names this layer."""
        return ConversionError(
            f"{self.kind} layer {self.name!r}: {problem}",
            where=f"layer {self.name!r} ({self.kind}), {list(self.inputs)} -> {list(self.outputs)}",
            expected=expected,
            found=found,
            fix=fix,
        )

    # shapes

    def rank(self, x: Blob) -> int:
        """The rank that Core ML sees."""
        if x.value.shape is None:
            raise self.refuse("the rank of its input depends on values known only when the model runs")
        return x.hidden + len(x.value.shape)

    def shape(self, x: Blob) -> tuple[int | None, ...]:
        """The shape that Core ML sees; None for lengths that are only known when the model runs."""
        self.rank(x)
        return (1,) * x.hidden + (known(x.value) or ())

    def fixed(self, lengths: Sequence[int | None], what: str = "the size of its input") -> list[int]:
        """The lengths, all of them known. Refuses those that are only known when the model runs."""
        whole = [n for n in lengths if n is not None]
        if len(whole) < len(lengths):
            raise self.refuse(
                f"{what} is only known when the model runs", expected="fixed lengths", found=list(lengths)
            )
        return whole

    def check_channels(self, x: Blob, expected: int, axis: int = -3) -> None:
        """Refuses a blob that has another number of channels, along ``axis``, than the layer's weights are for."""
        shape = self.shape(x)
        if shape[axis] not in (expected, None):
            raise self.refuse(
                "its input has the wrong number of channels",
                expected=f"{expected} channels",
                found=f"{shape[axis]} channels in {list(shape)}",
            )

    def axis(self, x: Blob, axis: int) -> int:
        """``axis`` of the Core ML shape, counted from the end (valid for the value whatever is hidden)."""
        rank = self.rank(x)
        if not -rank <= axis < rank:
            raise self.refuse("its axis does not exist", expected=f"an axis of a rank {rank} blob", found=axis)
        # from the end, since hidden dimensions are missing at the front
        return axis if axis < 0 else axis - rank

    def exact(self, x: Blob) -> ir.Value:
        """The value with all the dimensions that Core ML sees."""
        if not x.hidden:
            return x.value
        return self.b.op("Unsqueeze", x.value, i64(range(x.hidden)))

    def at_least(self, x: Blob, rank: int) -> None:
        """Refuses a blob of a lower rank."""
        if self.rank(x) < rank:
            raise self.refuse(
                "its input has too few dimensions", expected=f"rank {rank} or more", found=list(self.shape(x))
            )

    def same_rank(self, blobs: Sequence[Blob]) -> tuple[list[ir.Value], int]:
        """The blobs' values brought to one rank by making hidden dimensions visible, and how many stay hidden."""
        ranks = {self.rank(x) for x in blobs}
        if len(ranks) > 1:
            raise self.refuse(
                "its inputs differ in rank",
                expected="inputs of one rank",
                found=" and ".join(
                    f"{name} {list(self.shape(x))}" for name, x in zip(self.inputs, blobs, strict=False)
                ),
            )
        # as many stay hidden as all of them hide
        hidden = min(x.hidden for x in blobs)
        return [
            x.value if x.hidden == hidden else self.b.op("Unsqueeze", x.value, i64(range(x.hidden - hidden)))
            for x in blobs
        ], hidden

    def broadcast(self, blobs: Sequence[Blob], value: ir.Value) -> Blob:
        """The result of a broadcasting operator: Core ML's rank is the largest of the inputs' ranks."""
        if value.shape is None or any(x.value.shape is None for x in blobs):
            return Blob(value)
        return Blob(value, max(self.rank(x) for x in blobs) - len(value.shape))

    def batched(self, x: Blob, spatial: int = 3) -> tuple[ir.Value, Callable[[ir.Value], Blob]]:
        """``x`` as [batch, *last dimensions], and the way back for a result that has the same leading dimensions.

        All dimensions before the last ``spatial`` are one batch, as the convolutional layers have it.
        """
        self.at_least(x, spatial)
        shape = known(x.value) or ()
        leading = shape[: len(shape) - spatial]
        if len(leading) == 1:
            return x.value, lambda y: Blob(y, x.hidden)
        if not leading:
            single = self.b.op("Unsqueeze", x.value, i64([0]))
            if x.hidden:
                # the batch that was put in front is one of the hidden dimensions, now seen
                return single, lambda y: Blob(y, x.hidden - 1)
            return single, lambda y: Blob(self.b.op("Squeeze", y, i64([0])))
        last = shape[-spatial:]
        target: Operand = i64([-1, *(n or 0 for n in last)])
        if None in last:
            target = self.b.op("Concat", i64([-1]), self.b.op("Shape", x.value, start=-spatial), axis=0)
        flat = self.b.op("Reshape", x.value, target)
        return flat, lambda y: Blob(self._unbatched(y, x.value, len(leading), spatial), x.hidden)

    def _unbatched(self, y: ir.Value, source: ir.Value, leading: int, spatial: int) -> ir.Value:
        before = (known(source) or ())[:leading]
        after = (known(y) or (None,) * (spatial + 1))[1:]
        target: Operand = i64([n or 0 for n in (*before, *after)])
        if None in (*before, *after):
            sizes = (self.b.op("Shape", source, end=leading), self.b.op("Shape", y, start=1))
            target = self.b.op("Concat", *sizes, axis=0)
        result: ir.Value = self.b.op("Reshape", y, target)
        # ONNX infers no shape from a target that is computed
        if result.shape is None:
            result.shape = ir.Shape([*before, *after])
        return result

    # dtypes: every blob is float32, indices and conditions are cast where they are used

    def integers(self, x: Blob) -> ir.Value:
        """A blob of whole numbers as int64, all dimensions visible."""
        return self.b.op("Cast", self.exact(x), to=int(ir.DataType.INT64))

    def truth(self, value: ir.Value) -> ir.Value:
        """A blob as booleans: everything but 0 is true."""
        return self.b.op("Cast", value, to=int(ir.DataType.BOOL))

    def floats(self, value: ir.Value) -> ir.Value:
        """Integers or booleans as the float32 that blobs are made of."""
        return self.b.op("Cast", value, to=int(ir.DataType.FLOAT))
