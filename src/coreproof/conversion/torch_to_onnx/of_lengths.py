"""What Python computes of free lengths, as ONNX writes it: the root of one, and the whole number that is nearest to a part."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping

import onnx_ir as ir

from coreproof.conversion.torch_to_onnx.writing import operators
from coreproof.model.torch.model import import_torch


def length_operators() -> Mapping[Callable[..., object], Callable[..., object]]:
    """Python's or PyTorch's function -> how it is written in ONNX."""
    return {import_torch().sym_sqrt: root, builtins.round: nearest}


def root(length: ir.Value) -> ir.Value:
    """math.sqrt, of a length that is a number of float32 already."""
    return operators().Sqrt(length)


def nearest(part: ir.Value, digits: object = None) -> ir.Value:
    """The nearest whole number, of two that are equally near the even one: as in Python."""
    if digits is not None:
        raise NotImplementedError("Python rounds to digits by what a number is written as: not written here")
    op = operators()
    return op.Cast(op.Round(part), to=int(ir.DataType.INT64))
