"""Numbers in equal steps between numbers that are known: ``arange``, ``linspace`` and ``logspace`` as PyTorch itself counts them.

PyTorch's exporter leaves the counting to ONNX, which does it in float32. ``torch.arange(0, 2.1, 0.3)`` has eight numbers, the
last of them 2.1000001, and seven there, since PyTorch divides in float64. Steps of ``linspace`` are rounded elsewhere, so that
``torch.linspace(0, 8, 15).long()`` has other whole numbers, and differences of neighbours other digits.
ONNX's Hamming window is another one: it begins with 2 / 23, and PyTorch's with 0.08.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import onnx_ir as ir

from coreproof.conversion.torch_to_onnx.writing import operators
from coreproof.model.torch.model import import_torch

Target = Callable[..., Any]
Written = Callable[..., ir.Value]

_COUNTED = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.INT64, ir.DataType.INT32)


def counting_operators(known: Callable[[Target], Written | None]) -> Mapping[Target, Written]:
    """PyTorch operator -> how it is written in ONNX; ``known`` gives the exporter's own function, for what is not known yet."""
    torch = import_torch()
    aten = torch.ops.aten
    counted: Mapping[Target, Target] = {
        aten.arange.default: torch.arange,
        aten.arange.start: torch.arange,
        aten.arange.start_step: torch.arange,
        aten.linspace.default: torch.linspace,
        aten.logspace.default: torch.logspace,
        aten.hamming_window.default: torch.hamming_window,
        aten.hann_window.default: torch.hann_window,
        aten.blackman_window.default: torch.blackman_window,
    }
    return {
        operator: _counted(own, count) for operator, count in counted.items() if (own := known(operator)) is not None
    }


def _counted(own: Written, count: Target) -> Written:
    def written(*given: ir.Value | float, **named: Any) -> ir.Value:
        torch = import_torch()
        said = named.get("dtype", -1)
        fractions = any(isinstance(n, float) for n in given)
        if said in (-1, None):
            # whole numbers where all are: only arange knows that
            floats = fractions or count is not torch.arange
            wide = torch.get_default_dtype() == torch.float64
            said = ir.DataType.INT64 if not floats else ir.DataType.DOUBLE if wide else ir.DataType.FLOAT
            if floats:
                named["dtype"] = int(said)
        dtype = ir.DataType(said)
        # whole numbers are the same by any count, and a long row of them need not be stored
        exact = count is torch.arange and not fractions and dtype.is_integer()
        if exact or dtype not in _COUNTED or not all(isinstance(n, int | float) for n in given):
            return own(*given, **named)
        base = {"base": named["base"]} if "base" in named else {}
        made = count(*given, dtype=getattr(torch, dtype.numpy().name), **base)
        return operators().Constant(value=ir.tensor(made.numpy(), dtype=dtype))

    return written
