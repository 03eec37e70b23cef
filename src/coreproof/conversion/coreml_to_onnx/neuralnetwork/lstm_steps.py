"""An LSTM written out as one ONNX Scan: what Core ML's LSTM does and ONNX's cannot, the clipped cell state above all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.builder import OnnxBuilder
from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Layer, f32, i64, known
from coreproof.model.coreml.weight_params import Array

GATE_LIMIT = 50.0
"""The gates' sums are kept within this, says NeuralNetwork.proto (``clip()``)."""

Activation = tuple[str, float, float]
"""Kind, alpha, beta."""


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
        "linear": lambda: b.op("Add", b.op("Mul", value, f32(alpha)), f32(beta)),
        "sigmoid": lambda: b.op("Sigmoid", value),
        "tanh": lambda: b.op("Tanh", value),
        "ReLU": lambda: b.op("Relu", value),
        "scaledTanh": lambda: b.op("Mul", b.op("Tanh", b.op("Mul", value, f32(beta))), f32(alpha)),
        "sigmoidHard": lambda: b.op("HardSigmoid", value, alpha=alpha, beta=beta),
    }
    return scaled[kind]()


def stepped_lstm(
    layer: Layer,
    x: ir.Value,
    states: Sequence[ir.Value | None],
    weights: Direction,
    *,
    threshold: float,
    coupled: bool,
    backwards: bool,
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """(Y [Seq, Batch, size], h [1, Batch, size], c [1, Batch, size]), from ``states`` h and c or from zeros.

    ``x`` is [Seq, Batch, input]. With ``backwards`` the sequence is read from its end and Y keeps the places of ``x``.
    """
    b = layer.b
    size = weights.recursion.shape[1]
    batch = (known(x) or (None, None, None))[1]
    projected = b.op("Add", b.op("MatMul", x, np.ascontiguousarray(weights.weight.T)), weights.bias)
    start = [_start(layer, state, x, size) for state in states]
    step = OnnxBuilder(f"{layer.name} step", b)
    h = step.input(step.unique("h"), np.float32, [batch, size])
    c = step.input(step.unique("c"), np.float32, [batch, size])
    now = step.input(step.unique("x_t"), np.float32, [batch, 4 * size])
    new_h, new_c = _step(step, h, c, now, weights, threshold, coupled)
    seen = step.copy(new_h)
    last_h, last_c, y = b.op(
        "Scan",
        *start,
        projected,
        body=step.graph([new_h, new_c, seen]),
        num_scan_inputs=1,
        scan_input_directions=[int(backwards)],
        scan_output_directions=[int(backwards)],
        outputs=3,
    )
    for value, shape in ((last_h, [batch, size]), (last_c, [batch, size]), (y, [None, batch, size])):
        value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(shape)
    return y, b.op("Unsqueeze", last_h, i64([0])), b.op("Unsqueeze", last_c, i64([0]))


def _start(layer: Layer, state: ir.Value | None, x: ir.Value, size: int) -> ir.Value:
    if state is not None:
        return layer.b.op("Squeeze", state, i64([0]))
    batch = layer.b.op("Shape", x, start=1, end=2)
    return layer.b.op("Expand", f32(0), layer.b.op("Concat", batch, i64([size]), axis=0))


def _step(
    b: OnnxBuilder,
    h: ir.Value,
    c: ir.Value,
    now: ir.Value,
    weights: Direction,
    threshold: float,
    coupled: bool,
) -> tuple[ir.Value, ir.Value]:
    f, g, out = weights.activations
    sums = b.op("Add", now, b.op("MatMul", h, np.ascontiguousarray(weights.recursion.T)))
    # in the order in which the weights were stacked, which is that of ONNX
    sum_i, sum_o, sum_f, sum_z = b.op("Split", sums, axis=1, num_outputs=4, outputs=4)
    look_i, look_o, look_f = (None, None, None) if weights.peephole is None else np.split(weights.peephole, 3)

    def gate(activation: Activation, total: ir.Value, look: Array | None, at: ir.Value) -> ir.Value:
        if look is not None:
            total = b.op("Add", total, b.op("Mul", at, look))
        return _activated(b, activation, b.op("Clip", total, f32(-GATE_LIMIT), f32(GATE_LIMIT)))

    i = gate(f, sum_i, look_i, c)
    # coupled gates: what is let in is what is forgotten (LSTMParams)
    forget = b.op("Sub", f32(1), i) if coupled else gate(f, sum_f, look_f, c)
    kept = b.op("Add", b.op("Mul", c, forget), b.op("Mul", i, gate(g, sum_z, None, c)))
    new_c = b.op("Clip", kept, f32(-threshold), f32(threshold))
    o = gate(f, sum_o, look_o, new_c)
    return b.op("Mul", _activated(b, out, new_c), o), new_c
