"""Operands that PyTorch's exporter does not take: lengths where it writes a number down, whole numbers of 32 bits as places.

``x % x.shape[1]`` of a free length is a number that nobody knows before the model runs. ``torch.istft`` adds its frames up by
places of 32 bits, which ONNX's ScatterND does not take.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir

from coreproof.conversion.torch_to_onnx.writing import operators
from coreproof.model.torch.model import import_torch

Target = Callable[..., object]
Written = Callable[..., ir.Value]


def operand_operators(known: Callable[[Target], Written | None]) -> Mapping[Target, Written]:
    """PyTorch operator -> how it is written in ONNX; ``known`` gives the exporter's own function."""
    aten = import_torch().ops.aten
    by_number = {
        aten.remainder.Scalar: aten.remainder.Tensor,
        aten.bitwise_and.Scalar: aten.bitwise_and.Tensor,
        aten.bitwise_or.Scalar: aten.bitwise_or.Tensor,
        aten.bitwise_xor.Scalar: aten.bitwise_xor.Tensor,
        aten.pow.Tensor_Scalar: aten.pow.Tensor_Tensor,
        aten.mul.Scalar: aten.mul.Tensor,
        aten.add.Scalar: aten.add.Tensor,
        aten.sub.Scalar: aten.sub.Tensor,
    }
    wraps: list[tuple[Target, Callable[[Written], Written]]] = [
        (aten.index_put.default, _at_wide_places),
        (aten._unsafe_index_put.default, _at_wide_places),  # noqa: SLF001 - what istft adds its frames up with
        (aten.index.Tensor, _at_wide_places),
    ]
    written = {operator: wrap(function) for operator, wrap in wraps if (function := known(operator)) is not None}
    for number, tensor in by_number.items():
        own, other = known(number), known(tensor)
        if own is not None and other is not None:
            written[number] = _of_length(own, other)
    return written


def _of_length(own: Written, of_tensors: Written) -> Written:
    """A tensor and a number: of a free length, which is a tensor, by the function for two tensors."""

    def written(x: ir.Value, other: ir.Value | float, **named: object) -> ir.Value:
        if not isinstance(other, ir.Value):
            return own(x, other, **named)
        return of_tensors(x, operators().CastLike(other, x), **named)

    return written


def _at_wide_places(own: Written) -> Written:
    """Places of 64 bits, whatever they were."""

    def written(x: ir.Value, indices: Sequence[ir.Value | None], *others: object, **named: object) -> ir.Value:
        wide = [
            operators().Cast(at, to=int(ir.DataType.INT64))
            if at is not None and at.dtype in (ir.DataType.INT32, ir.DataType.INT16, ir.DataType.INT8)
            else at
            for at in indices
        ]
        for at, given in zip(wide, indices, strict=True):
            if at is not None and at is not given and given is not None:
                # what is written with it asks for them
                at.shape, at.type = given.shape, ir.TensorType(ir.DataType.INT64)
        return own(x, wide, *others, **named)

    return written
