"""Reads WeightParams: float32, float16, and quantised weights as the float32 numbers that they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from coreproof.convert.coreml_to_onnx.neuralnetwork.blobs import Layer

Array = npt.NDArray[np.float32]


def read_weights(
    layer: Layer, params: Any, shape: Sequence[int], what: str = "weights", channel_axis: int = 0
) -> Array:
    """The weights in ``shape``; per-channel scales of quantised ones run along ``channel_axis``."""
    count = int(np.prod(shape))
    flat = _flat(params, count)
    if flat is None:
        flat = _dequantised(layer, params, count, shape, what, channel_axis)
    if flat.size != count:
        raise layer.refuse(
            f"its {what} do not have the size that its fields say",
            expected=f"{count} values for shape {list(shape)}",
            found=f"{flat.size} values",
        )
    return flat.reshape(shape)


def read_vector(layer: Layer, params: Any, what: str) -> Array:
    """Weights that are a list of any length."""
    flat = _flat(params, None)
    if flat is None:
        count = len(params.rawValue) * 8 // max(int(params.quantization.numberOfBits), 1)
        flat = _dequantised(layer, params, count, (count,), what, 0)
    return flat.reshape(-1)


def int8_weights(layer: Layer, params: Any, shape: Sequence[int]) -> tuple[Array, float]:
    """``int8RawValue`` as whole float32 numbers, and their one scale."""
    flat = np.frombuffer(params.int8RawValue, np.int8).astype(np.float32)
    scales = params.quantization.linearQuantization.scale
    if flat.size != int(np.prod(shape)) or len(scales) != 1:
        raise layer.refuse(
            "its int8 weights are incomplete",
            expected=f"{int(np.prod(shape))} values and 1 scale",
            found=f"{flat.size} values and {len(scales)} scales",
        )
    return flat.reshape(shape), float(scales[0])


def _flat(params: Any, count: int | None) -> Array | None:
    if len(params.floatValue):
        return _packed_floats(params)
    if params.float16Value:
        return np.frombuffer(params.float16Value, np.float16).astype(np.float32)
    if not params.rawValue and not params.int8RawValue and not params.HasField("quantization"):
        return np.zeros(0, np.float32)
    return None


def _packed_floats(params: Any) -> Array:
    """``floatValue`` without a Python object a number: the serialised message holds them as one packed run of bytes."""
    only = type(params)()
    only.floatValue.MergeFrom(params.floatValue)
    data = only.SerializeToString()
    position = 1
    while data[position] & 0x80:
        position += 1
    return np.frombuffer(data, np.dtype("<f4"), offset=position + 1)


def _dequantised(layer: Layer, params: Any, count: int, shape: Sequence[int], what: str, channel_axis: int) -> Array:
    quantization = params.quantization
    if params.int8RawValue:
        integers = np.frombuffer(params.int8RawValue, np.int8).astype(np.int64)
    else:
        bits = int(quantization.numberOfBits)
        if not 1 <= bits <= 8:
            raise layer.refuse(f"its {what} have an impossible number of bits", expected="1 to 8", found=bits)
        if len(params.rawValue) * 8 < count * bits:
            raise layer.refuse(
                f"its {what} are cut short",
                expected=f"{-(-count * bits // 8)} bytes ({count} values of {bits} bits)",
                found=f"{len(params.rawValue)} bytes",
            )
        integers = unpack(np.frombuffer(params.rawValue, np.uint8), bits, count)
    if integers.size != count:
        raise layer.refuse(f"its {what} do not have the size that its fields say", expected=count, found=integers.size)
    if quantization.WhichOneof("QuantizationType") == "lookupTableQuantization":
        table = np.asarray(quantization.lookupTableQuantization.floatValue, np.float32)
        if integers.size and integers.max() >= table.size:
            raise layer.refuse(
                f"its {what} point outside their lookup table",
                expected=f"indices below {table.size}",
                found=int(integers.max()),
            )
        return table[integers]
    linear = quantization.linearQuantization
    scale = _along(layer, np.asarray(linear.scale, np.float32), shape, what, channel_axis, 1.0)
    bias = _along(layer, np.asarray(linear.bias, np.float32), shape, what, channel_axis, 0.0)
    return (integers.reshape(shape).astype(np.float32) * scale + bias).reshape(-1)


def _along(layer: Layer, values: Array, shape: Sequence[int], what: str, axis: int, default: float) -> Array:
    if not values.size:
        return np.float32(default).reshape(1)
    if values.size == 1:
        return values
    if values.size != shape[axis]:
        raise layer.refuse(
            f"the quantisation of its {what} does not fit its channels",
            expected=f"1 or {shape[axis]} scales",
            found=values.size,
        )
    return values.reshape([values.size if i == axis else 1 for i in range(len(shape))])


def unpack(data: npt.NDArray[np.uint8], bits: int, count: int) -> npt.NDArray[np.int64]:
    """``count`` unsigned integers of ``bits`` bits, most significant bit first, running over byte borders."""
    if bits == 8:
        return data[:count].astype(np.int64)
    stream = np.unpackbits(data, count=count * bits).reshape(count, bits)
    return stream.astype(np.int64) @ (1 << np.arange(bits - 1, -1, -1, dtype=np.int64))
