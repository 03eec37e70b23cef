"""What ONNX's recurrent operators are given and make, as both Core ML formats have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.builder import OnnxBuilder


class Activations(TypedDict):
    """The attributes of RNN, GRU and LSTM that say which functions they use."""

    activations: list[str]
    activation_alpha: list[float] | None
    activation_beta: list[float] | None


def activations(rows: Sequence[tuple[str, float | None, float | None]]) -> Activations:
    """(ONNX's name, alpha, beta) of each function; None of those that have none, which ONNX leaves out of its lists."""
    return {
        "activations": [name for name, _, _ in rows],
        "activation_alpha": [a for _, a, _ in rows if a is not None] or None,
        "activation_beta": [b for _, _, b in rows if b is not None] or None,
    }


def batch_first(b: OnnxBuilder, y: ir.Value, *, backwards: bool) -> ir.Value:
    """Y [Seq, directions, Batch, size] as [Seq, Batch, directions, size].

    What reads its sequence backwards gives its outputs in the order in which it made them; ONNX puts each at the place of its
    input.
    """
    if backwards:
        # from the last to before the first: no number from 0 on says that end
        y = b.op("Slice", y, *(np.array([n], np.int64) for n in (-1, np.iinfo(np.int64).min, 0, -1)))
    return b.op("Transpose", y, perm=[0, 2, 1, 3])
