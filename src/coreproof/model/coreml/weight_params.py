"""Reads WeightParams (NeuralNetwork.proto): float32, float16, and quantised weights as the float32 numbers that they stand for.

Only the layer knows the shape of its weights: ``shape_of`` says it, from the layer's own fields.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message

from coreproof.model.coreml.compressed import gaps
from coreproof.model.coreml.proto import NeuralNetwork_pb2

Array = npt.NDArray[np.float32]


class WeightsError(ValueError):
    """Weights that do not fit what their fields say; whoever asked for them knows the layer and names it."""

    def __init__(self, problem: str, expected: object, found: object) -> None:
        super().__init__(f"{problem}: expected {expected}, found {found}")
        self.problem = problem
        self.expected = expected
        self.found = found


_MOST_DIMENSIONS = 64
"""NumPy's own bound."""


def read_weights(
    params: NeuralNetwork_pb2.WeightParams | None, shape: Sequence[int], what: str = "weights", channel_axis: int = 0
) -> Array:
    """The weights in ``shape``; per-channel scales of quantised ones run along ``channel_axis``. Raises WeightsError."""
    count = math.prod(shape)
    if len(shape) > _MOST_DIMENSIONS:
        raise WeightsError(
            f"its {what} have a shape that no array has", f"at most {_MOST_DIMENSIONS} dimensions", f"{len(shape)}"
        )
    present = _there(params, what)
    flat = _flat(present)
    if flat is None:
        flat = _dequantised(present, count, shape, what, channel_axis)
    if flat.size != count:
        raise WeightsError(
            f"its {what} do not have the size that its fields say",
            f"{count} values for shape {list(shape)}",
            f"{flat.size} values",
        )
    return flat.reshape(shape)


def read_vector(params: NeuralNetwork_pb2.WeightParams | None, what: str = "weights") -> Array:
    """Weights that are a list of any length. Raises WeightsError."""
    present = _there(params, what)
    flat = _flat(present)
    if flat is None:
        _, count = stored_as(present)
        flat = _dequantised(present, count, (count,), what, 0)
    return flat.reshape(-1)


def read_steps(
    params: NeuralNetwork_pb2.WeightParams, shape: Sequence[int], what: str = "weights", channel_axis: int = 0
) -> Array:
    """How far the numbers that a quantised weight could hold lie apart, at each of its numbers. Raises WeightsError."""
    quantization = params.quantization
    if quantization.WhichOneof("QuantizationType") == "lookupTableQuantization":
        table = np.asarray(quantization.lookupTableQuantization.floatValue, np.float32)
        # a table of numbers is one of vectors of one number each
        found: Array = gaps(table.reshape(-1, 1))[:, 0][_integers(params, math.prod(shape), what)].reshape(shape)
        return found
    scale = _along(np.asarray(quantization.linearQuantization.scale, np.float32), shape, what, channel_axis, 1.0)
    return np.broadcast_to(np.abs(scale), shape)


def int8_weights(params: NeuralNetwork_pb2.WeightParams | None, shape: Sequence[int]) -> tuple[Array, float]:
    """``int8RawValue`` as whole float32 numbers, and their one scale. Raises WeightsError."""
    present = _there(params, "int8 weights")
    flat = np.frombuffer(present.int8RawValue, np.int8).astype(np.float32)
    scales = present.quantization.linearQuantization.scale
    if flat.size != math.prod(shape) or len(scales) != 1:
        raise WeightsError(
            "its int8 weights are incomplete",
            f"{math.prod(shape)} values and 1 scale",
            f"{flat.size} values and {len(scales)} scales",
        )
    return flat.reshape(shape), float(scales[0])


def stored_as(params: NeuralNetwork_pb2.WeightParams) -> tuple[str, int]:
    """The dtype and the number of the values that a WeightParams message holds, without reading them."""
    if params.floatValue:
        return "float32", len(params.floatValue)
    if params.float16Value:
        return "float16", len(params.float16Value) // 2
    bits = int(params.quantization.numberOfBits)
    # without a number of bits rawValue says nothing of how it is cut: it counts as bytes
    if params.int8RawValue or not bits:
        return "int8", len(params.int8RawValue or params.rawValue)
    return f"uint{bits}", len(params.rawValue) * 8 // bits


def shortfall(params: NeuralNetwork_pb2.WeightParams, shape: Sequence[int]) -> str | None:
    """How the stored bytes differ from the declared ``shape``, in words; None where they fit, or nothing is stored."""
    count, bits = math.prod(shape), int(params.quantization.numberOfBits)
    dtype, found = stored_as(params)
    # packed bits may be padded, so more than needed is no fault; every other kind has one entry a value
    if dtype.startswith("uint") and bits <= 8:
        needed = -(-count * bits // 8)
        stored = len(params.rawValue)
        return None if stored >= needed else f"need {needed} bytes for {list(shape)}, and have {stored}"
    return None if found in (0, count) else f"need {count} values for {list(shape)}, and have {found}"


def network_weights(message: Message, path: str = "") -> Iterator[tuple[str, NeuralNetwork_pb2.WeightParams]]:
    """The WeightParams of a layer's fields, each under its path ("weightParams[0].inputGateWeightMatrix")."""
    for descriptor, value in message.ListFields():
        kind = descriptor.message_type.name if descriptor.message_type is not None else None
        if kind is None or kind == "NeuralNetwork" or isinstance(value, Mapping):
            continue
        for name, part in parts_of(f"{path}{descriptor.name}", value):
            if isinstance(part, NeuralNetwork_pb2.WeightParams):
                yield name, part
            else:
                yield from network_weights(part, f"{name}.")


def parts_of(path: str, value: Message | Sequence[Message]) -> list[tuple[str, Message]]:
    """The messages that a field holds, under their paths: "weightParams", or "weightParams[0]", "weightParams[1]"."""
    if isinstance(value, Message):
        return [(path, value)]
    return [(f"{path}[{index}]", part) for index, part in enumerate(value)]


def _there(params: NeuralNetwork_pb2.WeightParams | None, what: str) -> NeuralNetwork_pb2.WeightParams:
    if params is None:
        raise WeightsError(f"its {what} are missing", "weights", "none")
    return params


def _flat(params: NeuralNetwork_pb2.WeightParams) -> Array | None:
    if len(params.floatValue):
        return _packed_floats(params)
    if params.float16Value:
        if len(params.float16Value) % 2:
            raise WeightsError("its weights are cut short", "two bytes a value", f"{len(params.float16Value)} bytes")
        # NeuralNetwork.proto: two bytes a number; the network computes in float32
        return np.frombuffer(params.float16Value, np.float16).astype(np.float32)
    if not params.rawValue and not params.int8RawValue and not params.HasField("quantization"):
        return np.zeros(0, np.float32)
    return None


def _packed_floats(params: NeuralNetwork_pb2.WeightParams) -> Array:
    """``floatValue`` without a Python object a number: the serialised message holds them as one packed run of bytes."""
    only = type(params)()
    only.floatValue.MergeFrom(params.floatValue)
    data = only.SerializeToString()
    position = 1
    # behind the tag stands the length, seven bits a byte, and the high bit says that more of it follow
    while data[position] & 0x80:
        position += 1
    return np.frombuffer(data, np.dtype("<f4"), offset=position + 1)


def _integers(params: NeuralNetwork_pb2.WeightParams, count: int, what: str) -> npt.NDArray[np.integer]:
    """What a quantised weight is stored as: indices of its table, or multiples of its scale."""
    quantization = params.quantization
    if params.int8RawValue:
        integers: npt.NDArray[np.integer] = np.frombuffer(params.int8RawValue, np.int8)
    else:
        bits = int(quantization.numberOfBits)
        if not 1 <= bits <= 8:
            raise WeightsError(f"its {what} have an impossible number of bits", "1 to 8", bits)
        # the last byte may hold more bits than are used
        if len(params.rawValue) * 8 < count * bits:
            raise WeightsError(
                f"its {what} are cut short",
                f"{-(-count * bits // 8)} bytes ({count} values of {bits} bits)",
                f"{len(params.rawValue)} bytes",
            )
        integers = unpack(np.frombuffer(params.rawValue, np.uint8), bits, count)
    if integers.size != count:
        raise WeightsError(f"its {what} do not have the size that its fields say", count, integers.size)
    if quantization.WhichOneof("QuantizationType") == "lookupTableQuantization":
        entries = len(quantization.lookupTableQuantization.floatValue)
        if integers.size and not 0 <= int(integers.min()) <= int(integers.max()) < entries:
            raise WeightsError(
                f"its {what} point outside their lookup table",
                f"indices from 0 to {entries - 1}",
                f"{integers.min()} to {integers.max()}",
            )
    return integers


def _dequantised(
    params: NeuralNetwork_pb2.WeightParams, count: int, shape: Sequence[int], what: str, channel_axis: int
) -> Array:
    quantization = params.quantization
    integers = _integers(params, count, what)
    if quantization.WhichOneof("QuantizationType") == "lookupTableQuantization":
        table = np.asarray(quantization.lookupTableQuantization.floatValue, np.float32)
        # NeuralNetwork.proto, LookUpTableQuantizationParams: entry i is the number that index i stands for
        looked_up: Array = table[integers]
        return looked_up
    linear = quantization.linearQuantization
    scale = _along(np.asarray(linear.scale, np.float32), shape, what, channel_axis, 1.0)
    # w = scale * q + bias (NeuralNetwork.proto, LinearQuantizationParams): the bias is in the unit of the weights
    bias = _along(np.asarray(linear.bias, np.float32), shape, what, channel_axis, 0.0)
    return (integers.reshape(shape).astype(np.float32) * scale + bias).reshape(-1)


def _along(values: Array, shape: Sequence[int], what: str, axis: int, default: float) -> Array:
    if not values.size:
        return np.float32(default).reshape(1)
    if values.size == 1:
        return values
    if values.size != shape[axis]:
        raise WeightsError(
            f"the quantisation of its {what} does not fit its channels", f"1 or {shape[axis]} scales", values.size
        )
    # one scale a channel, broadcast over everything else of that channel
    return values.reshape([values.size if i == axis else 1 for i in range(len(shape))])


def unpack(data: npt.NDArray[np.uint8], bits: int, count: int) -> npt.NDArray[np.uint8]:
    """``count`` unsigned integers of ``bits`` bits, most significant bit first, running over byte borders."""
    if bits == 8:
        return data[:count]
    # packbits fills up with zeros from the right, so the number stands in the high bits and is shifted down
    stream = np.unpackbits(data, count=count * bits).reshape(count, bits)
    numbers: npt.NDArray[np.uint8] = np.packbits(stream, axis=1).reshape(count) >> np.uint8(8 - bits)
    return numbers


# shapes

_Shape = tuple[tuple[int, ...], int]
"""The shape of a weight, and the axis along which per-channel scales of its quantisation run."""


_Recurrent: TypeAlias = (
    NeuralNetwork_pb2.SimpleRecurrentLayerParams
    | NeuralNetwork_pb2.GRULayerParams
    | NeuralNetwork_pb2.UniDirectionalLSTMLayerParams
    | NeuralNetwork_pb2.BiDirectionalLSTMLayerParams
)


def shape_of(operator: str, fields: object, parameter: str) -> _Shape | None:
    """The shape that the layer's ``fields`` give its weight ``parameter`` (its path of fields, "weightParams.inputGate...").

    None where the layer takes any length (PReLU's alpha, a custom layer's weights).
    """
    name = parameter.rsplit(".", 1)[-1]
    known = _SHAPES.get(operator)
    return None if known is None else known(fields, name)


def _recurrent(fields: _Recurrent, name: str) -> _Shape | None:
    size = int(fields.outputVectorSize)
    if name.lower().endswith("weightmatrix"):
        return (size, int(fields.inputVectorSize)), 0
    if name.lower().endswith("recursionmatrix"):
        return (size, size), 0
    return ((size,), 0) if name.lower().endswith("vector") else None


def _convolution(fields: NeuralNetwork_pb2.ConvolutionLayerParams, name: str) -> _Shape:
    out, kernel = int(fields.outputChannels), tuple(int(k) for k in fields.kernelSize) or (3, 3)
    if name == "bias":
        return (out,), 0
    if fields.isDeconvolution:
        return (int(fields.kernelChannels), out // max(int(fields.nGroups), 1), *kernel), 1
    return (out, int(fields.kernelChannels), *kernel), 0


def _convolution3d(fields: NeuralNetwork_pb2.Convolution3DLayerParams, name: str) -> _Shape:
    out, groups = int(fields.outputChannels), max(int(fields.nGroups), 1)
    kernel = (int(fields.kernelDepth), int(fields.kernelHeight), int(fields.kernelWidth))
    if name == "bias":
        return (out,), 0
    if fields.isDeconvolution:
        return (int(fields.inputChannels), out // groups, *kernel), 1
    return (out, int(fields.inputChannels) // groups, *kernel), 0


def _matrix(columns: str, rows: str) -> Callable[[Message, str], _Shape]:
    """[columns, rows] weights with a bias a column."""

    def shape(fields: Message, name: str) -> _Shape:
        out = int(getattr(fields, columns))
        return ((out,) if name == "bias" else (out, int(getattr(fields, rows)))), 0

    return shape


def _listed(**fields_of: str) -> Callable[[Message, str], _Shape]:
    """Weights whose shape a repeated field lists; an empty one means one value."""

    def shape(fields: Message, name: str) -> _Shape:
        return tuple(int(n) for n in getattr(fields, fields_of[name])) or (1,), 0

    return shape


_SHAPES: Mapping[str, Callable[..., _Shape | None]] = {
    "convolution": _convolution,
    "convolution3d": _convolution3d,
    "innerProduct": _matrix("outputChannels", "inputChannels"),
    "batchedMatmul": _matrix("weightMatrixSecondDimension", "weightMatrixFirstDimension"),
    "embedding": _matrix("outputChannels", "inputDim"),
    "embeddingND": _matrix("embeddingSize", "vocabSize"),
    **dict.fromkeys(("gru", "simpleRecurrent", "uniDirectionalLSTM", "biDirectionalLSTM"), _recurrent),
    "batchnorm": lambda fields, _: ((int(fields.channels),), 0),
    "scale": _listed(scale="shapeScale", bias="shapeBias"),
    "bias": _listed(bias="shape"),
    "loadConstant": _listed(data="shape"),
    "loadConstantND": _listed(data="shape"),
    "layerNormalization": _listed(gamma="normalizedShape", beta="normalizedShape"),
}
