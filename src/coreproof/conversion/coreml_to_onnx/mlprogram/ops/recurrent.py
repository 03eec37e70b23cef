"""MIL's recurrent operations: rnn, gru, lstm, by ONNX's RNN, GRU and LSTM."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand, lowers
from coreproof.conversion.coreml_to_onnx.lstm_steps import Direction, stepped_lstm
from coreproof.conversion.coreml_to_onnx.recurrent import Activations, activations, batch_first

Array = np.ndarray

_ACTIVATIONS: dict[str, tuple[str, float | None, float | None]] = {
    "sigmoid": ("Sigmoid", None, None),
    "tanh": ("Tanh", None, None),
    "relu": ("Relu", None, None),
    "hard_sigmoid": ("HardSigmoid", 0.2, 0.5),
    "sigmoid_hard": ("HardSigmoid", 0.2, 0.5),
    "linear": ("Affine", 1.0, 0.0),
    "scaled_tanh": ("ScaledTanh", 1.0, 1.0),
}
"""MIL name -> ONNX name, alpha, beta."""


@lowers("rnn", error="linear")
def rnn(
    low: Lowering,
    *,
    x: Operand,
    initial_h: Operand,
    weight_ih: Operand,
    weight_hh: np.ndarray,
    bias: Operand = None,
    direction: str = "forward",
    output_sequence: bool = False,
    activation: str = "tanh",
) -> tuple[ir.Value, ...]:
    y, h = low.ops(
        "RNN", x, _weights([weight_ih], 1), _weights([weight_hh], 1), _biases([bias], weight_hh, 1), None,
        low.op("Unsqueeze", initial_h, [0]),
        hidden_size=weight_hh.shape[1], direction=direction, outputs=2, **_activations(low, [activation]),
    )  # fmt: skip
    return _sequence(low, y, h, direction, output_sequence), _joined(low, h)


@lowers("gru", error="linear")
def gru(
    low: Lowering,
    *,
    x: Operand,
    initial_h: Operand,
    weight_ih: Operand,
    weight_hh: np.ndarray,
    bias: Operand = None,
    input_bias: Operand = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    activation: str = "tanh",
    reset_after: bool = False,
) -> tuple[ir.Value, ...]:
    """MIL's gates stand as reset, output, update; ONNX's as update, reset, output.

    ``bias`` belongs to the hidden state, ``input_bias`` (iOS18) to the input; the reset gate is applied to the
    hidden state before its matrix product, unless ``reset_after`` (iOS18) is set.
    """
    order = (2, 0, 1)
    hidden = weight_hh.shape[1]
    from_input = _biases([input_bias], weight_hh, 3, order)[:, : 3 * hidden]
    from_state = _biases([bias], weight_hh, 3, order)[:, : 3 * hidden]
    y, h = low.ops(
        "GRU", x, _weights([weight_ih], 3, order), _weights([weight_hh], 3, order),
        np.concatenate([from_input, from_state], axis=1), None,
        low.op("Unsqueeze", initial_h, [0]),
        hidden_size=hidden, direction=direction, linear_before_reset=int(reset_after), outputs=2,
        **_activations(low, [recurrent_activation, activation]),
    )  # fmt: skip
    return _sequence(low, y, h, direction, output_sequence), _joined(low, h)


@lowers("lstm", error="linear")
def lstm(
    low: Lowering,
    *,
    x: Operand,
    initial_h: Operand,
    initial_c: Operand,
    weight_ih: Operand,
    weight_hh: np.ndarray,
    bias: Operand = None,
    peephole: Operand = None,
    weight_ih_back: Operand = None,
    weight_hh_back: Operand = None,
    bias_back: Operand = None,
    peephole_back: Operand = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    cell_activation: str = "tanh",
    activation: str = "tanh",
    clip: float | None = None,
) -> tuple[ir.Value, ...]:
    """MIL's gates stand as input, forget, output, cell; ONNX's as input, output, forget, cell."""
    both = direction == "bidirectional"
    order = (0, 2, 1, 3)
    hidden = weight_hh.shape[1]
    inputs = [weight_ih, weight_ih_back] if both else [weight_ih]
    states = [weight_hh, weight_hh_back] if both else [weight_hh]
    biases = [bias, bias_back] if both else [bias]
    looks = [peephole, peephole_back] if both else [peephole]
    peepholes = None
    if any(p is not None for p in looks):
        zeros = np.zeros(3 * hidden, np.float32)
        # MIL's stand as input, forget, output; ONNX's as input, output, forget
        peepholes = np.stack([_gates(zeros if p is None else np.asarray(p, np.float32), 3, (0, 2, 1)) for p in looks])
    names = [recurrent_activation, cell_activation, activation]
    weights, recursions = _weights(inputs, 4, order), _weights(states, 4, order)
    both_biases = _biases(biases, weight_hh, 4, order)
    start = [_split(low, state, len(inputs), hidden) for state in (initial_h, initial_c)]
    if clip is None:
        y, h, c = low.ops(
            "LSTM", x, weights, recursions, both_biases, None, *start, peepholes,
            hidden_size=hidden, direction=direction, outputs=3, **_activations(low, names * len(inputs)),
        )  # fmt: skip
    else:
        # MIL limits the state of the cell; ONNX's ``clip`` limits what goes into every gate
        functions = [_ACTIVATIONS[name] for name in _known(low, names)]
        ways = [
            Direction(w, r, both[: 4 * hidden], None if peepholes is None else peepholes[i], functions)
            for i, (w, r, both) in enumerate(zip(weights, recursions, both_biases, strict=True))
        ]
        y, h, c = stepped_lstm(
            low.b, low.value(x), start, ways, threshold=float(clip), backwards=direction == "reverse"
        )
    return _sequence(low, y, h, direction, output_sequence), _joined(low, h), _joined(low, c)


def _gates(stacked: Array, count: int, order: Sequence[int]) -> Array:
    """The ``count`` gates along dimension 0 in another order."""
    parts = np.split(stacked, count)
    return np.concatenate([parts[i] for i in order])


def _weights(matrices: Sequence[Operand], count: int, order: Sequence[int] = (0,)) -> Array:
    """[directions, gates * hidden, ...] in ONNX's order of gates."""
    return np.stack([_gates(np.asarray(m, np.float32), count, order) for m in matrices])


def _biases(biases: Sequence[Operand], weight_hh: np.ndarray, count: int, order: Sequence[int] = (0,)) -> Array:
    """[directions, 2 * gates * hidden]: MIL's one bias, and zeros for the second that ONNX has."""
    zeros = np.zeros(count * weight_hh.shape[1], np.float32)
    own = [_gates(zeros if b is None else np.asarray(b, np.float32), count, order) for b in biases]
    return np.stack([np.concatenate([b, zeros]) for b in own])


def _activations(low: Lowering, names: Sequence[str]) -> Activations:
    return activations([_ACTIVATIONS[n] for n in _known(low, names)])


def _known(low: Lowering, names: Sequence[str]) -> Sequence[str]:
    unknown = [n for n in names if n not in _ACTIVATIONS]
    if unknown:
        raise low.refuse("this activation is not known", expected=sorted(_ACTIVATIONS), found=unknown)
    return names


def _split(low: Lowering, state: Operand, directions: int, hidden: int) -> ir.Value:
    """[b, directions * H] as ONNX's [directions, b, H]."""
    if directions == 1:
        return low.op("Unsqueeze", state, [0])
    parted = low.op("Reshape", state, [-1, directions, hidden])
    return low.op("Transpose", parted, perm=[1, 0, 2])


def _joined(low: Lowering, state: ir.Value) -> ir.Value:
    """[directions, b, H] as MIL's [b, directions * H]."""
    return low.op("Flatten", low.op("Transpose", state, perm=[1, 0, 2]), axis=1)


def _sequence(low: Lowering, y: ir.Value, h: ir.Value, direction: str, whole: bool) -> ir.Value:
    """[s, directions, b, H] as MIL's [s, b, directions * H], or only the final step as [1, b, directions * H]."""
    if not whole:
        return low.op("Unsqueeze", _joined(low, h), [0])
    return low.op("Reshape", batch_first(low.b, y, backwards=direction == "reverse"), [0, 0, -1])
