"""Operands of an ONNX graph that are known before it runs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir


def constant_of(value: ir.Value | None) -> npt.NDArray[np.float64] | None:
    """A known operand in float64, also behind a Cast."""
    stored = stored_constant(value)
    return None if stored is None else stored.astype(np.float64)


def stored_constant(value: ir.Value | None) -> np.ndarray | None:
    """The same as it is stored."""
    if value is None:
        return None
    producer = value.producer()
    if producer is not None and producer.op_type == "Cast":
        return stored_constant(producer.inputs[0])
    return None if value.const_value is None else value.const_value.numpy()


def known_tensor(value: ir.Value | None) -> ir.TensorProtocol | None:
    """A value that is stored, or made by a Constant node; None also where that holds nothing, of which the converter speaks."""
    if value is None:
        return None
    try:
        return ir.convenience.get_const_tensor(value)
    except ValueError:
        return None
