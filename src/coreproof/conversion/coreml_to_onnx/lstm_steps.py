"""An LSTM written out as one ONNX Scan: what Core ML's LSTM does and ONNX's cannot, the clipped cell state above all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.builder import OnnxBuilder
from coreproof.model.coreml.weight_params import Array

Activation = tuple[str, float | None, float | None]
"""ONNX's name, alpha, beta; None of those that have none."""


@dataclass(frozen=True)
class Direction:
    """The weights of one direction, gates below each other in ONNX's order i, o, f, c, and its three functions."""

    weight: Array
    recursion: Array
    bias: Array
    peephole: Array | None
    activations: Sequence[Activation]


def _activated(b: OnnxBuilder, activation: Activation, value: ir.Value) -> ir.Value:
    kind, alpha, beta = activation
    scaled: dict[str, Callable[[], ir.Value]] = {
        "Affine": lambda: b.op("Add", b.op("Mul", value, np.float32(alpha)), np.float32(beta)),
        "Sigmoid": lambda: b.op("Sigmoid", value),
        "Tanh": lambda: b.op("Tanh", value),
        "Relu": lambda: b.op("Relu", value),
        "ScaledTanh": lambda: b.op("Mul", b.op("Tanh", b.op("Mul", value, np.float32(beta))), np.float32(alpha)),
        "HardSigmoid": lambda: b.op("HardSigmoid", value, alpha=alpha, beta=beta),
    }
    return scaled[kind]()


def stepped_lstm(
    b: OnnxBuilder,
    x: ir.Value,
    states: Sequence[ir.Value | None],
    weights: Sequence[Direction],
    *,
    threshold: float,
    gate_limit: float | None = None,
    coupled: bool = False,
    backwards: bool = False,
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """What ONNX's LSTM makes of ``x`` [Seq, Batch, input], with cell states kept within ``threshold``, and sums of gates too.

    (Y [Seq, directions, Batch, size], h and c [directions, Batch, size]), from ``states`` h and c [directions, Batch, size] or
    from zeros. The second of two directions reads its sequence from the end, a single one does if ``backwards``; Y keeps the
    places of ``x``.
    """
    parts = []
    for i, direction in enumerate(weights):
        own = [
            s if s is None or len(weights) == 1 else b.op("Slice", s, *(np.array([n], np.int64) for n in (i, i + 1, 0)))
            for s in states
        ]
        limits = threshold, gate_limit
        parts.append(_one_way(b, x, own, direction, limits, coupled=coupled, backwards=backwards or i == 1))
    ys, hs, cs = zip(*parts, strict=True)
    y = b.op("Concat", *(b.op("Unsqueeze", v, np.array([1], np.int64)) for v in ys), axis=1)
    return y, b.op("Concat", *hs, axis=0), b.op("Concat", *cs, axis=0)


def _one_way(
    b: OnnxBuilder,
    x: ir.Value,
    states: Sequence[ir.Value | None],
    weights: Direction,
    limits: tuple[float, float | None],
    *,
    coupled: bool,
    backwards: bool,
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """(Y [Seq, Batch, size], h [1, Batch, size], c [1, Batch, size]) of one direction."""
    size = weights.recursion.shape[1]
    length = x.shape[1] if x.shape is not None and len(x.shape) == 3 else None
    batch = length if isinstance(length, int) else None
    # the input's share of all gates, for all steps at once
    projected = b.op("Add", b.op("MatMul", x, np.ascontiguousarray(weights.weight.T)), weights.bias)
    start = [_start(b, state, x, size) for state in states]
    step = OnnxBuilder("step", b)
    h = step.input(step.unique("h"), np.float32, [batch, size])
    c = step.input(step.unique("c"), np.float32, [batch, size])
    now = step.input(step.unique("x_t"), np.float32, [batch, 4 * size])
    new_h, new_c = _step(step, h, c, now, weights, limits, coupled)
    # a body gives each output once, and the state is one already
    seen = step.copy(new_h)
    last_h, last_c, y = b.op(
        "Scan",
        *start,
        projected,
        body=step.graph([new_h, new_c, seen]),
        num_scan_inputs=1,
        scan_input_directions=[int(backwards)],
        # written from the end as well, so that each output stands at the place of its input
        scan_output_directions=[int(backwards)],
        outputs=3,
    )
    for value, shape in ((last_h, [batch, size]), (last_c, [batch, size]), (y, [None, batch, size])):
        value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(shape)
    return y, b.op("Unsqueeze", last_h, np.array([0], np.int64)), b.op("Unsqueeze", last_c, np.array([0], np.int64))


def _start(b: OnnxBuilder, state: ir.Value | None, x: ir.Value, size: int) -> ir.Value:
    if state is not None:
        return b.op("Squeeze", state, np.array([0], np.int64))
    batch = b.op("Shape", x, start=1, end=2)
    return b.op("Expand", np.float32(0), b.op("Concat", batch, np.array([size], np.int64), axis=0))


def _step(
    b: OnnxBuilder,
    h: ir.Value,
    c: ir.Value,
    now: ir.Value,
    weights: Direction,
    limits: tuple[float, float | None],
    coupled: bool,
) -> tuple[ir.Value, ir.Value]:
    threshold, gate_limit = limits
    f, g, out = weights.activations
    sums = b.op("Add", now, b.op("MatMul", h, np.ascontiguousarray(weights.recursion.T)))
    # in the order in which the weights were stacked, which is that of ONNX
    sum_i, sum_o, sum_f, sum_z = b.op("Split", sums, axis=1, num_outputs=4, outputs=4)
    look_i, look_o, look_f = (None, None, None) if weights.peephole is None else np.split(weights.peephole, 3)

    def gate(activation: Activation, total: ir.Value, look: Array | None, at: ir.Value) -> ir.Value:
        if look is not None:
            total = b.op("Add", total, b.op("Mul", at, look))
        if gate_limit is not None:
            total = b.op("Clip", total, np.float32(-gate_limit), np.float32(gate_limit))
        return _activated(b, activation, total)

    i = gate(f, sum_i, look_i, c)
    # coupled gates: what is let in is what is forgotten (LSTMParams)
    forget = b.op("Sub", np.float32(1), i) if coupled else gate(f, sum_f, look_f, c)
    kept = b.op("Add", b.op("Mul", c, forget), b.op("Mul", i, gate(g, sum_z, None, c)))
    new_c = b.op("Clip", kept, np.float32(-threshold), np.float32(threshold))
    o = gate(f, sum_o, look_o, new_c)
    return b.op("Mul", _activated(b, out, new_c), o), new_c
