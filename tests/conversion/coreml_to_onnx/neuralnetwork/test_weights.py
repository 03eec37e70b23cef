"""Quantised weights stand for the numbers that NeuralNetwork.proto says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coreproof.conversion.coreml_to_onnx.boundary import understood
from coreproof.conversion.coreml_to_onnx.builder import OnnxBuilder
from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Layer
from coreproof.errors import ConversionError
from coreproof.model.coreml.proto import NeuralNetwork_pb2
from coreproof.model.coreml.weight_params import int8_weights, read_weights, unpack

LAYER = Layer("fc", "innerProduct", ("x",), ("y",), OnnxBuilder(by_layer=True, fold=True))


def weights(**fields: Any) -> Any:
    return NeuralNetwork_pb2.WeightParams(**fields)


def test_float32_comes_without_a_copy_a_number() -> None:
    values = np.arange(300, dtype=np.float32) / 7
    read = read_weights(weights(floatValue=values), (3, 100))
    np.testing.assert_array_equal(read, values.reshape(3, 100))


def test_float16() -> None:
    values = np.asarray([0.5, -2, 65504], np.float16)
    np.testing.assert_array_equal(read_weights(weights(float16Value=values.tobytes()), (3,)), values)


@pytest.mark.parametrize("bits", range(1, 9))
def test_unpack_reads_the_most_significant_bit_first(bits: int) -> None:
    values = np.random.default_rng(bits).integers(0, 2**bits, 29)
    stream = "".join(format(v, f"0{bits}b") for v in values)
    stream += "0" * (-len(stream) % 8)
    data = np.asarray([int(stream[i : i + 8], 2) for i in range(0, len(stream), 8)], np.uint8)
    np.testing.assert_array_equal(unpack(data, bits, 29), values)


def test_linear_quantisation_has_a_scale_a_channel() -> None:
    params = weights(rawValue=bytes([0, 1, 2, 3]))
    params.quantization.numberOfBits = 8
    params.quantization.linearQuantization.scale.extend([2.0, 10.0])
    params.quantization.linearQuantization.bias.extend([-1.0, 0.5])
    np.testing.assert_array_equal(read_weights(params, (2, 2)), [[-1, 1], [20.5, 30.5]])
    np.testing.assert_array_equal(read_weights(params, (2, 2), channel_axis=1), [[-1, 10.5], [3, 30.5]])


def test_lookup_table() -> None:
    params = weights(rawValue=bytes([0b00011011]))
    params.quantization.numberOfBits = 2
    params.quantization.lookupTableQuantization.floatValue.extend([10.0, 11.0, -3.0, -1.0])
    np.testing.assert_array_equal(read_weights(params, (4,)), [10, 11, -3, -1])


def test_int8() -> None:
    params = weights(int8RawValue=np.asarray([-127, 0, 5, 127], np.int8).tobytes())
    params.quantization.numberOfBits = 8
    params.quantization.linearQuantization.scale.append(0.5)
    stored, scale = int8_weights(params, (2, 2))
    np.testing.assert_array_equal(stored * scale, [[-63.5, 0], [2.5, 63.5]])


def test_too_few_weights_name_the_layer() -> None:
    expected = r"layer 'fc'.*\n.*\n.*6 values.*\n.*5 values"
    with pytest.raises(ConversionError, match=expected), understood(LAYER.refuse, dict):
        read_weights(weights(floatValue=[0.0] * 5), (2, 3))


def test_weights_cut_short_name_the_layer() -> None:
    params = weights(rawValue=bytes(3))
    params.quantization.numberOfBits = 4
    params.quantization.linearQuantization.scale.append(1.0)
    with pytest.raises(ConversionError, match=r"layer 'fc'[\s\S]*4 bytes"), understood(LAYER.refuse, dict):
        read_weights(params, (8,))
