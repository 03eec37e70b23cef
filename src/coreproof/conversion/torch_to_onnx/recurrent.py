"""PyTorch's LSTM, GRU and RNN as ONNX has them.

PyTorch's exporter knows no RNN, writes an LSTM with projections as if it had none, and fixes the length of a GRU's sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import onnx_ir as ir

from coreproof.conversion.torch_to_onnx.writing import operators
from coreproof.model.torch.model import import_torch

Direction: TypeAlias = Callable[[ir.Value, int, Sequence[ir.Value], bool], tuple[ir.Value, ...]]
"""Writes one direction of one layer: what it reads, its number among the states, its weights, whether it reads from the end."""
Prepared: TypeAlias = tuple[int, Direction]
"""How many weights a direction has, and what writes it."""


def recurrent_operators() -> Mapping[Callable[..., object], Callable[..., object]]:
    """PyTorch operator -> how it is written in ONNX, as ``torch.onnx.export`` takes them."""
    aten = import_torch().ops.aten
    return {
        aten.rnn_tanh.input: _written(partial(_rnn, activation="Tanh")),
        aten.rnn_relu.input: _written(partial(_rnn, activation="Relu")),
        aten.lstm.input: _written(_lstm),
        aten.gru.input: _written(_gru),
    }


def _written(prepare: Callable[..., Prepared]) -> Callable[..., tuple[ir.Value, ...]]:
    """What writes one of the operators, which have one signature; ``prepare`` gets the states and whether there are biases."""

    def write(
        x: ir.Value,
        hx: ir.Value | Sequence[ir.Value],
        params: Sequence[ir.Value],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[ir.Value, ...]:
        """Layer upon layer, in one or both directions; the last states of all of them one after another."""
        op = operators()
        each, direction = prepare(hx, has_biases)
        value = op.Transpose(x, perm=[1, 0, 2]) if batch_first else x
        ends: list[tuple[ir.Value, ...]] = []
        for _ in range(num_layers):
            outputs = []
            for reverse in (False, True)[: 2 if bidirectional else 1]:
                at = len(ends)
                out, *last = direction(value, at, params[at * each : (at + 1) * each], reverse)
                outputs.append(out)
                ends.append(tuple(last))
            value = op.Concat(*outputs, axis=2) if bidirectional else outputs[0]
        states = (op.Concat(*kind, axis=0) if len(kind) > 1 else kind[0] for kind in zip(*ends, strict=True))
        return (op.Transpose(value, perm=[1, 0, 2]) if batch_first else value, *states)

    return write


def _rnn(hx: ir.Value, has_biases: bool, activation: str) -> Prepared:
    """h = f(W x + b + R h + d)."""
    op = operators()

    def direction(value: ir.Value, at: int, own: Sequence[ir.Value], reverse: bool) -> tuple[ir.Value, ...]:
        bias = op.Unsqueeze(op.Concat(own[2], own[3], axis=0), [0]) if has_biases else None
        out, last = _several(op.RNN(
            value, op.Unsqueeze(own[0], [0]), op.Unsqueeze(own[1], [0]), bias, None, op.Slice(hx, [at], [at + 1], [0]),
            hidden_size=_width(own[1]), activations=[activation], direction="reverse" if reverse else "forward"
        ))  # fmt: skip
        return op.Squeeze(out, [1]), last

    return 4 if has_biases else 2, direction


def _lstm(hx: Sequence[ir.Value], has_biases: bool) -> Prepared:
    """PyTorch's gates stand in the order i, f, g, o; ONNX has i, o, f, c.

    A projection P makes h = P r of what the gates give, r. Then R h = (R P) r: the same layer over r with other weights. What the
    state before the first step adds, R h0, comes in with the first input.
    """
    op = operators()
    size = _width(hx[1])
    projected = _width(hx[0]) != size

    def gates(weight: ir.Value) -> ir.Value:
        i, f, g, o = (op.Slice(weight, [at * size], [(at + 1) * size], [0]) for at in range(4))
        return op.Concat(i, o, f, g, axis=0)

    def direction(value: ir.Value, at: int, own: Sequence[ir.Value], reverse: bool) -> tuple[ir.Value, ...]:
        hidden, cell = (op.Slice(state, [at], [at + 1], [0]) for state in hx)
        weight, recurrent = gates(own[0]), gates(own[1])
        bias = op.Unsqueeze(op.Concat(gates(own[2]), gates(own[3]), axis=0), [0]) if has_biases else None
        before = hidden
        if projected:
            value = op.Concat(value, _at_the_first_step(hidden, value, reverse), axis=2)
            weight = op.Concat(weight, recurrent, axis=1)
            recurrent, before = op.MatMul(recurrent, own[-1]), op.Mul(cell, op.CastLike(0.0, cell))
        out, last, last_cell = _several(op.LSTM(
            value, op.Unsqueeze(weight, [0]), op.Unsqueeze(recurrent, [0]), bias, None, before, cell,
            hidden_size=size, direction="reverse" if reverse else "forward"
        ))  # fmt: skip
        out = op.Squeeze(out, [1])
        if projected:
            turned = op.Transpose(own[-1], perm=[1, 0])
            out, last = op.MatMul(out, turned), op.MatMul(last, turned)
        return out, last, last_cell

    return (4 if has_biases else 2) + projected, direction


def _gru(hx: ir.Value, has_biases: bool) -> Prepared:
    """PyTorch's gates stand in the order r, z, n; ONNX has z, r, h. The reset gate comes behind the recurrent product."""
    op = operators()
    size = _width(hx)

    def gates(weight: ir.Value) -> ir.Value:
        r, z, n = (op.Slice(weight, [at * size], [(at + 1) * size], [0]) for at in range(3))
        return op.Concat(z, r, n, axis=0)

    def direction(value: ir.Value, at: int, own: Sequence[ir.Value], reverse: bool) -> tuple[ir.Value, ...]:
        bias = op.Unsqueeze(op.Concat(gates(own[2]), gates(own[3]), axis=0), [0]) if has_biases else None
        before = op.Slice(hx, [at], [at + 1], [0])
        out, last = _several(op.GRU(
            value, op.Unsqueeze(gates(own[0]), [0]), op.Unsqueeze(gates(own[1]), [0]), bias, None, before,
            hidden_size=size, linear_before_reset=1, direction="reverse" if reverse else "forward",
        ))  # fmt: skip
        return op.Squeeze(out, [1]), last

    return 4 if has_biases else 2, direction


def _width(value: ir.Value) -> int:
    """The last length of a weight or state, which is always known."""
    shape = value.shape
    assert shape is not None
    assert isinstance(shape[-1], int)
    return shape[-1]


def _several(made: object) -> tuple[ir.Value, ...]:
    assert isinstance(made, Sequence)  # the operators are declared with one output each
    return tuple(made)


def _at_the_first_step(state: ir.Value, steps: ir.Value, reverse: bool) -> ir.Value:
    """[length, batch, n]: the state [1, batch, n] where a layer begins, and zeros elsewhere."""
    op = operators()
    rest = op.Sub(op.Shape(steps, start=0, end=1), op.Constant(value_ints=[1]))
    three, two, five = (op.Constant(value_ints=[0] * count) for count in (3, 2, 5))
    return op.Pad(state, op.Concat(rest, five, axis=0) if reverse else op.Concat(three, rest, two, axis=0))
