"""Convolution and deconvolution, two- and three-dimensional."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Blob, Layer, known
from coreproof.conversion.coreml_to_onnx.neuralnetwork.layer_arguments import lowers
from coreproof.conversion.coreml_to_onnx.neuralnetwork.padding import borders, same_pads, split_total
from coreproof.conversion.coreml_to_onnx.neuralnetwork.weights import read_weights
from coreproof.model.coreml.proto import NeuralNetwork_pb2


@lowers("convolution", error="linear", word="conv")
def convolution(
    layer: Layer,
    x: Blob,
    kernel: Blob | None = None,
    *,
    outputChannels: int = 0,
    kernelChannels: int = 0,
    nGroups: int = 1,
    kernelSize: Sequence[int] = (3, 3),
    stride: Sequence[int] = (1, 1),
    dilationFactor: Sequence[int] = (1, 1),
    valid: NeuralNetwork_pb2.ValidPadding | None = None,
    same: NeuralNetwork_pb2.SamePadding | None = None,
    isDeconvolution: bool = False,
    hasBias: bool = False,
    weights: NeuralNetwork_pb2.WeightParams | None = None,
    bias: NeuralNetwork_pb2.WeightParams | None = None,
    outputShape: Sequence[int] = (),
) -> Blob:
    layer.at_least(x, 4)
    value, restore = layer.batched(x)
    _check_channels(layer, x, value, kernelChannels if isDeconvolution else kernelChannels * nGroups)
    w: object
    if kernel is not None:
        w = layer.batched(kernel)[0]
    elif isDeconvolution:
        w = read_weights(layer, weights, (kernelChannels, outputChannels // nGroups, *kernelSize), channel_axis=1)
    else:
        w = read_weights(layer, weights, (outputChannels, kernelChannels, *kernelSize))
    b = read_weights(layer, bias, (outputChannels,), "bias") if hasBias else None
    heavy = same is not None and type(same).SamePaddingMode.Name(same.asymmetryMode) == "TOP_LEFT_HEAVY"
    common: dict[str, Any] = {"strides": list(stride), "group": nGroups, "kernel_shape": list(kernelSize)}
    if not isDeconvolution:
        dilated = [(k - 1) * d + 1 for k, d in zip(kernelSize, dilationFactor, strict=True)]
        padding: dict[str, Any] = {"pads": list(borders(layer, valid.paddingAmounts if valid is not None else None))}
        if same is not None:
            padding = same_padding(value, dilated, stride, heavy)
        return restore(layer.b.op("Conv", value, w, b, dilations=list(dilationFactor), **padding, **common))
    pads = None if same is not None else borders(layer, valid.paddingAmounts if valid is not None else None)
    amounts: dict[str, Any] = _deconvolution_pads(
        layer, value, kernelSize, stride, dilationFactor, pads, heavy, outputShape
    )
    return restore(layer.b.op("ConvTranspose", value, w, b, dilations=list(dilationFactor), **amounts, **common))


@lowers("convolution3d")
def convolution3d(
    layer: Layer,
    x: Blob,
    *,
    outputChannels: int = 0,
    inputChannels: int = 0,
    nGroups: int = 1,
    kernelDepth: int = 1,
    kernelHeight: int = 1,
    kernelWidth: int = 1,
    strideDepth: int = 1,
    strideHeight: int = 1,
    strideWidth: int = 1,
    dilationDepth: int = 1,
    dilationHeight: int = 1,
    dilationWidth: int = 1,
    hasBias: bool = False,
    weights: NeuralNetwork_pb2.WeightParams | None = None,
    bias: NeuralNetwork_pb2.WeightParams | None = None,
    paddingType: str = "CUSTOM",
    customPaddingFront: int = 0,
    customPaddingBack: int = 0,
    customPaddingTop: int = 0,
    customPaddingBottom: int = 0,
    customPaddingLeft: int = 0,
    customPaddingRight: int = 0,
    isDeconvolution: bool = False,
    outputShape: Sequence[int] = (),
) -> Blob:
    value = layer.exact(x)
    _check_channels(layer, x, value, inputChannels)
    size = (kernelDepth, kernelHeight, kernelWidth)
    stride = (strideDepth, strideHeight, strideWidth)
    dilations = (dilationDepth, dilationHeight, dilationWidth)
    custom = [
        customPaddingFront, customPaddingTop, customPaddingLeft,
        customPaddingBack, customPaddingBottom, customPaddingRight,
    ]  # fmt: skip
    pads = custom if paddingType == "CUSTOM" else [0] * 6
    b = read_weights(layer, bias, (outputChannels,), "bias") if hasBias else None
    common: dict[str, Any] = {
        "strides": list(stride),
        "group": nGroups,
        "kernel_shape": list(size),
        "dilations": list(dilations),
    }
    if not isDeconvolution:
        w = read_weights(layer, weights, (outputChannels, inputChannels // nGroups, *size))
        dilated = [(k - 1) * d + 1 for k, d in zip(size, dilations, strict=True)]
        padding = same_padding(value, dilated, stride, False) if paddingType == "SAME" else {"pads": pads}
        return Blob(layer.b.op("Conv", value, w, b, **padding, **common))
    w = read_weights(layer, weights, (inputChannels, outputChannels // nGroups, *size), channel_axis=1)
    amounts: dict[str, Any] = _deconvolution_pads(
        layer, value, size, stride, dilations, None if paddingType == "SAME" else pads, False, outputShape
    )
    return Blob(layer.b.op("ConvTranspose", value, w, b, **amounts, **common))


def same_padding(value: ir.Value, kernel: Sequence[int], stride: Sequence[int], heavy: bool) -> dict[str, object]:
    """``pads`` where the size is known, else ONNX's own name for the same rule."""
    sizes = (known(value) or ())[-len(kernel) :]
    whole = [n for n in sizes if n is not None]
    if len(whole) == len(kernel):
        return {"pads": same_pads(whole, kernel, stride, top_left_heavy=heavy)}
    return {"auto_pad": "SAME_LOWER" if heavy else "SAME_UPPER"}


def _check_channels(layer: Layer, x: Blob, value: ir.Value, expected: int) -> None:
    channels = (known(value) or (None, None))[1]
    if expected and channels is not None and channels != expected:
        raise layer.refuse(
            "its input has the wrong number of channels",
            expected=f"{expected} channels",
            found=f"{channels} channels in {list(layer.shape(x))}",
        )


def _deconvolution_pads(
    layer: Layer,
    value: ir.Value,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int] | None,
    heavy: bool,
    output_shape: Sequence[int],
) -> dict[str, object]:
    """The pads (and what must be added at the end) that give the output length that the fields ask for.

    ``pads`` None means ``same``: output = input * stride. An explicit ``output_shape`` wins over both, except that
    pads which lead to it as well keep their own distribution.
    """
    count = len(kernel)
    dilated = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if pads is None and not output_shape:
        total = [k - s for k, s in zip(dilated, stride, strict=True)]
    elif not output_shape:
        return {"pads": list(pads or [])}
    else:
        sizes = (known(value) or ())[-count:]
        if any(n is None for n in sizes):
            raise layer.refuse("its output shape is fixed but the size of its input is not")
        natural = [((n or 0) - 1) * s + k for n, s, k in zip(sizes, stride, dilated, strict=True)]
        total = [n - out for n, out in zip(natural, output_shape, strict=True)]
        if pads is not None and [pads[i] + pads[i + count] for i in range(count)] == total:
            return {"pads": list(pads)}
    missing = [max(0, -t) for t in total]
    amounts: dict[str, object] = {"pads": split_total([max(0, t) for t in total], top_left_heavy=heavy)}
    if any(missing):
        amounts["output_padding"] = missing
    return amounts
