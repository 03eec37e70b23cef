"""Recurrent layers: simpleRecurrent, gru, uniDirectionalLSTM, biDirectionalLSTM, by ONNX's RNN, GRU and LSTM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lstm_steps import Direction, stepped_lstm
from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Blob, Layer, i64, known
from coreproof.conversion.coreml_to_onnx.neuralnetwork.layer_arguments import lowers
from coreproof.conversion.coreml_to_onnx.recurrent import Activations, batch_first
from coreproof.conversion.coreml_to_onnx.recurrent import activations as function_attributes
from coreproof.model.coreml.proto import NeuralNetwork_pb2
from coreproof.model.coreml.weight_params import Array, read_weights

_ACTIVATIONS = {
    "linear": "Affine",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "ReLU": "Relu",
    "scaledTanh": "ScaledTanh",
    "sigmoidHard": "HardSigmoid",
}
_STANDARD_PARAMETERS = {"linear": (1.0, 0.0), "scaledTanh": (1.0, 1.0), "sigmoidHard": (0.2, 0.5)}
"""What alpha and beta are where the message leaves both out, as coremltools' builder does."""

GATE_LIMIT = 50.0
"""The gates' sums are kept within this, says NeuralNetwork.proto (``clip()``)."""

_BOUNDED = {"sigmoid", "tanh", "scaledTanh", "sigmoidHard"}
_DEFAULT_CELL_CLIP = 50.0
_NEVER_REACHED = 500.0
"""coremltools writes this cell clip for "none"."""


Activation = tuple[str, float, float]
"""Kind, alpha, beta."""


def _read_activations(layer: Layer, messages: Sequence[NeuralNetwork_pb2.ActivationParams | None]) -> list[Activation]:
    read: list[Activation] = []
    for message in messages:
        kind = None if message is None else message.WhichOneof("NonlinearityType")
        if message is None or kind not in _ACTIVATIONS:
            raise layer.refuse("recurrent layers do not have this activation", expected=list(_ACTIVATIONS), found=kind)
        alpha, beta = _STANDARD_PARAMETERS.get(kind, (0.0, 0.0))
        if kind in _STANDARD_PARAMETERS:
            given = getattr(message, kind)
            if given.alpha or given.beta:
                alpha, beta = float(given.alpha), float(given.beta)
        read.append((kind, alpha, beta))
    return read


def _attributes(read: Sequence[Activation]) -> Activations:
    return function_attributes(
        [
            (_ACTIVATIONS[kind], *((alpha, beta) if kind in _STANDARD_PARAMETERS else (None, None)))
            for kind, alpha, beta in read
        ]
    )


def _gate_limit(read: Sequence[Activation]) -> float | None:
    """Core ML's limit on what goes into functions; bounded ones do not need it."""
    return None if all(kind in _BOUNDED for kind, _, _ in read) else GATE_LIMIT


def _sequence(layer: Layer, x: Blob, size: int) -> ir.Value:
    """[Seq, Batch, size, 1, 1] as ONNX's [Seq, Batch, size]."""
    shape = layer.shape(x)
    if len(shape) != 5 or shape[2] not in (size, None):
        raise layer.refuse(
            "its input is not a sequence of its vectors", expected=f"[Seq, Batch, {size}, 1, 1]", found=list(shape)
        )
    value = layer.exact(x)
    return layer.b.op("Squeeze", value, i64([3, 4]))


def _state(layer: Layer, state: Blob | None, size: int) -> ir.Value | None:
    if state is None:
        return None
    return layer.b.op("Reshape", layer.exact(state), i64([1, -1, size]))


def _outputs(
    layer: Layer, sequence: ir.Value, states: Sequence[ir.Value], *, whole: bool, last: ir.Value, reverse: bool = False
) -> list[Blob]:
    """Y [Seq, dirs, Batch, size] and the final states, with the two trailing dimensions put back."""
    b = layer.b
    if whole:
        y = b.op("Reshape", batch_first(b, sequence, backwards=reverse), i64([0, 0, -1, 1, 1]))
    else:
        joined = b.op("Transpose", last, perm=[1, 0, 2])
        y = b.op("Unsqueeze", b.op("Reshape", joined, i64([0, -1, 1, 1])), i64([0]))
    return [Blob(y), *(Blob(b.op("Unsqueeze", s, i64([3, 4]))) for s in states)][: len(layer.outputs)]


_UNSAID = NeuralNetwork_pb2.LSTMParams()
"""A message that is not set holds each field's default (Protocol Buffers, version 3)."""


@lowers("simpleRecurrent", error="linear")
def simple_recurrent(
    layer: Layer,
    x: Blob,
    initial: Blob | None = None,
    *,
    inputVectorSize: int = 0,
    outputVectorSize: int = 0,
    activation: NeuralNetwork_pb2.ActivationParams | None = None,
    sequenceOutput: bool = False,
    hasBiasVector: bool = False,
    weightMatrix: NeuralNetwork_pb2.WeightParams | None = None,
    recursionMatrix: NeuralNetwork_pb2.WeightParams | None = None,
    biasVector: NeuralNetwork_pb2.WeightParams | None = None,
    reverseInput: bool = False,
) -> list[Blob]:
    size = outputVectorSize
    read = _read_activations(layer, [activation])
    bias = read_weights(biasVector, (size,), "bias") if hasBiasVector else np.zeros(size, np.float32)
    y, h = layer.b.op(
        "RNN",
        _sequence(layer, x, inputVectorSize),
        read_weights(weightMatrix, (1, size, inputVectorSize), channel_axis=1),
        read_weights(recursionMatrix, (1, size, size), channel_axis=1),
        # ONNX has a second bias, for the product with the state
        np.concatenate([bias, np.zeros(size, np.float32)])[None],
        None,
        _state(layer, initial, size),
        hidden_size=size,
        direction="reverse" if reverseInput else "forward",
        outputs=2,
        clip=_gate_limit(read),
        **_attributes(read),
    )
    return _outputs(layer, y, [h], whole=sequenceOutput, last=h, reverse=reverseInput)


@lowers("gru")
def gru(
    layer: Layer,
    x: Blob,
    initial: Blob | None = None,
    *,
    inputVectorSize: int = 0,
    outputVectorSize: int = 0,
    activations: Sequence[NeuralNetwork_pb2.ActivationParams] = (),
    sequenceOutput: bool = False,
    hasBiasVectors: bool = False,
    reverseInput: bool = False,
    **matrices: NeuralNetwork_pb2.WeightParams,
) -> list[Blob]:
    size = outputVectorSize
    read = _read_activations(layer, activations)
    # ONNX's order: z, r, h
    gates = ("updateGate", "resetGate", "outputGate")
    bias = _stacked(layer, matrices, gates, "BiasVector", (size,)) if hasBiasVectors else np.zeros(3 * size, np.float32)
    y, h = layer.b.op(
        "GRU",
        _sequence(layer, x, inputVectorSize),
        _stacked(layer, matrices, gates, "WeightMatrix", (size, inputVectorSize))[None],
        _stacked(layer, matrices, gates, "RecursionMatrix", (size, size))[None],
        # ONNX has a second bias for each gate, for the product with the state
        np.concatenate([bias, np.zeros_like(bias)])[None],
        None,
        _state(layer, initial, size),
        hidden_size=size,
        direction="reverse" if reverseInput else "forward",
        linear_before_reset=0,
        outputs=2,
        clip=_gate_limit(read),
        **_attributes(read),
    )
    return _outputs(layer, y, [h], whole=sequenceOutput, last=h, reverse=reverseInput)


def _stacked(
    layer: Layer,
    messages: Mapping[str, NeuralNetwork_pb2.WeightParams] | NeuralNetwork_pb2.LSTMWeightParams | None,
    gates: Sequence[str],
    what: str,
    shape: tuple[int, ...],
) -> Array:
    """The gates' weights below each other; ``messages`` holds them by name (fields or a mapping)."""

    def message(name: str) -> NeuralNetwork_pb2.WeightParams:
        found: NeuralNetwork_pb2.WeightParams | None
        found = messages.get(name) if isinstance(messages, Mapping) else getattr(messages, name)
        if found is None:
            raise layer.refuse("a weight of it is missing", expected=name)
        return found

    return np.concatenate([read_weights(message(gate + what), shape, gate + what) for gate in gates])


@lowers("uniDirectionalLSTM", error="linear")
def uni_directional_lstm(
    layer: Layer,
    x: Blob,
    *initial: Blob,
    inputVectorSize: int = 0,
    outputVectorSize: int = 0,
    activations: Sequence[NeuralNetwork_pb2.ActivationParams] = (),
    params: NeuralNetwork_pb2.LSTMParams = _UNSAID,
    weightParams: NeuralNetwork_pb2.LSTMWeightParams | None = None,
    reverseInput: bool = False,
) -> list[Blob]:
    states = [_state(layer, s, outputVectorSize) for s in initial] + [None] * (2 - len(initial))
    y, h, c = _lstm(
        layer, x, states, [weightParams], activations, params, inputVectorSize, outputVectorSize,
        "reverse" if reverseInput else "forward",
    )  # fmt: skip
    return _outputs(layer, y, [h, c], whole=params.sequenceOutput, last=h, reverse=reverseInput)


@lowers("biDirectionalLSTM", error="linear")
def bi_directional_lstm(
    layer: Layer,
    x: Blob,
    *initial: Blob,
    inputVectorSize: int = 0,
    outputVectorSize: int = 0,
    activationsForwardLSTM: Sequence[NeuralNetwork_pb2.ActivationParams] = (),
    activationsBackwardLSTM: Sequence[NeuralNetwork_pb2.ActivationParams] = (),
    params: NeuralNetwork_pb2.LSTMParams = _UNSAID,
    weightParams: Sequence[NeuralNetwork_pb2.LSTMWeightParams] = (),
) -> list[Blob]:
    """States come and go in the order h, c, h reverse, c reverse."""
    b = layer.b
    # without states both directions begin with zeros
    states: list[ir.Value | None] = [None, None]
    if initial:
        h, c, h_back, c_back = (_state(layer, s, outputVectorSize) for s in initial)
        states = [b.op("Concat", h, h_back, axis=0), b.op("Concat", c, c_back, axis=0)]
    y, last, cell = _lstm(
        layer, x, states, weightParams, [*activationsForwardLSTM, *activationsBackwardLSTM], params,
        inputVectorSize, outputVectorSize, "bidirectional",
    )  # fmt: skip
    finals = [
        b.op("Slice", value, i64([direction]), i64([direction + 1]), i64([0]))
        for direction in (0, 1)
        for value in (last, cell)
    ]
    return _outputs(layer, y, finals, whole=params.sequenceOutput, last=last)


def _lstm(
    layer: Layer,
    x: Blob,
    states: Sequence[ir.Value | None],
    weights: Sequence[NeuralNetwork_pb2.LSTMWeightParams | None],
    activations: Sequence[NeuralNetwork_pb2.ActivationParams],
    params: NeuralNetwork_pb2.LSTMParams,
    input_size: int,
    size: int,
    direction: str,
) -> tuple[ir.Value, ir.Value, ir.Value]:
    sequence = _sequence(layer, x, input_size)
    read = _read_activations(layer, activations)
    directions = [
        _direction(layer, message, params, read[3 * i : 3 * i + 3], input_size, size)
        for i, message in enumerate(weights)
    ]
    # a field of 0 is one that is not set (Protocol Buffers, version 3)
    threshold = params.cellClipThreshold or _DEFAULT_CELL_CLIP
    if _may_be_clipped(sequence, threshold, states[1], read):
        return stepped_lstm(
            layer.b, sequence, states, directions, threshold=threshold, gate_limit=GATE_LIMIT,
            coupled=params.coupledInputAndForgetGate, backwards=direction == "reverse",
        )  # fmt: skip
    y, h, c = layer.b.op(
        "LSTM",
        sequence,
        np.stack([d.weight for d in directions]),
        np.stack([d.recursion for d in directions]),
        np.stack([np.concatenate([d.bias, np.zeros_like(d.bias)]) for d in directions]),
        None,
        *states,
        np.stack([d.peephole for d in directions if d.peephole is not None]) if params.hasPeepholeVectors else None,
        hidden_size=size,
        direction=direction,
        input_forget=int(params.coupledInputAndForgetGate),
        outputs=3,
        **_attributes(read),
    )
    return y, h, c


def _direction(
    layer: Layer,
    message: NeuralNetwork_pb2.LSTMWeightParams | None,
    params: NeuralNetwork_pb2.LSTMParams,
    read: Sequence[Activation],
    input_size: int,
    size: int,
) -> Direction:
    gates = ("inputGate", "outputGate", "forgetGate", "blockInput")  # ONNX's order: i, o, f, c
    bias = np.zeros(4 * size, np.float32)
    if params.hasBiasVectors:
        bias = _stacked(layer, message, gates, "BiasVector", (size,)).copy()
    if params.forgetBias:
        # "a vector of ones is added to the forget gate bias" (LSTMParams)
        bias[2 * size : 3 * size] += 1
    return Direction(
        _stacked(layer, message, gates, "WeightMatrix", (size, input_size)),
        _stacked(layer, message, gates, "RecursionMatrix", (size, size)),
        bias,
        _stacked(layer, message, gates[:3], "PeepholeVector", (size,)) if params.hasPeepholeVectors else None,
        [(_ACTIVATIONS[kind], alpha, beta) for kind, alpha, beta in read],
    )


def _may_be_clipped(
    sequence: ir.Value, threshold: float, initial: ir.Value | None, activations: Sequence[Activation]
) -> bool:
    """Whether a gate's sum or the cell state can reach its limit; ONNX's LSTM has no limit on the cell state.

    With bounded gates a cell state grows by 1 a step at most.
    """
    if any(kind not in _BOUNDED for i, (kind, _, _) in enumerate(activations) if i % 3 != 2):
        return True
    if threshold >= _NEVER_REACHED:
        return False
    length = (known(sequence) or (None,))[0]
    return initial is not None or length is None or length > threshold
