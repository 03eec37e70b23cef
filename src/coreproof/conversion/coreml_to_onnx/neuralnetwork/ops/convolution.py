"""Convolution and deconvolution, two- and three-dimensional."""

from __future__ import annotations

from collections.abc import Sequence

from coreproof.conversion.coreml_to_onnx.builder import Operand
from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Blob, Layer
from coreproof.conversion.coreml_to_onnx.neuralnetwork.layer_arguments import lowers
from coreproof.conversion.coreml_to_onnx.neuralnetwork.padding import borders, is_lower
from coreproof.conversion.coreml_to_onnx.pools import Padding, pad_attributes, same_padding
from coreproof.conversion.windows import Pads, cropped, flat, reaches
from coreproof.model.coreml.proto import NeuralNetwork_pb2
from coreproof.model.coreml.weight_params import read_weights


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
    layer.check_channels(x, kernelChannels if isDeconvolution else kernelChannels * nGroups)
    w: Operand
    if kernel is not None:
        # a kernel that is computed comes as a blob [outputs, inputs, height, width]
        w = layer.batched(kernel)[0]
    elif isDeconvolution:
        # a deconvolution stores its input channels first (NeuralNetwork.proto)
        w = read_weights(weights, (kernelChannels, outputChannels // nGroups, *kernelSize), channel_axis=1)
    else:
        w = read_weights(weights, (outputChannels, kernelChannels, *kernelSize))
    b = read_weights(bias, (outputChannels,), "bias") if hasBias else None
    reach, lower = reaches(kernelSize, dilationFactor), is_lower(same)
    pads = None if same is not None else borders(layer, valid.paddingAmounts if valid is not None else None)
    if isDeconvolution:
        padding = _deconvolution_pads(layer, x, reach, stride, pads, lower, outputShape)
    else:
        if same is not None:
            pads = same_padding(layer.shape(x)[-2:], reach, stride, lower=lower)
        padding = pad_attributes(pads, lower=lower)
    return restore(
        layer.b.op(
            "ConvTranspose" if isDeconvolution else "Conv", value, w, b,
            kernel_shape=list(kernelSize), strides=list(stride), dilations=list(dilationFactor), group=nGroups, **padding,
        )
    )  # fmt: skip


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
    layer.check_channels(x, inputChannels, -4)
    size = (kernelDepth, kernelHeight, kernelWidth)
    stride = (strideDepth, strideHeight, strideWidth)
    dilations = (dilationDepth, dilationHeight, dilationWidth)
    pads: Pads | None = [
        (customPaddingFront, customPaddingBack),
        (customPaddingTop, customPaddingBottom),
        (customPaddingLeft, customPaddingRight),
    ]
    if paddingType != "CUSTOM":
        # VALID pads nothing
        pads = None if paddingType == "SAME" else [(0, 0)] * 3
    b = read_weights(bias, (outputChannels,), "bias") if hasBias else None
    reach = reaches(size, dilations)
    if isDeconvolution:
        # a deconvolution stores its input channels first (NeuralNetwork.proto)
        w = read_weights(weights, (inputChannels, outputChannels // nGroups, *size), channel_axis=1)
        padding = _deconvolution_pads(layer, x, reach, stride, pads, False, outputShape)
    else:
        w = read_weights(weights, (outputChannels, inputChannels // nGroups, *size))
        if paddingType == "SAME":
            pads = same_padding(layer.shape(x)[-3:], reach, stride, lower=False)
        padding = pad_attributes(pads)
    value = layer.b.op(
        "ConvTranspose" if isDeconvolution else "Conv", layer.exact(x), w, b,
        kernel_shape=list(size), strides=list(stride), dilations=list(dilations), group=nGroups, **padding,
    )  # fmt: skip
    return Blob(value)


def _deconvolution_pads(
    layer: Layer,
    x: Blob,
    reach: Sequence[int],
    stride: Sequence[int],
    pads: Pads | None,
    lower: bool,
    output_shape: Sequence[int],
) -> Padding:
    """The pads (and what must be added at the end) that give the output length that the fields ask for.

    ``pads`` None means ``same``: output = input * stride. An explicit ``output_shape`` wins over both, except that
    pads which lead to it as well keep their own distribution.
    """
    if output_shape:
        sizes = layer.fixed(layer.shape(x)[-len(reach) :], "its output shape is fixed, and the size of its input")
        total = [(n - 1) * s + k - out for n, s, k, out in zip(sizes, stride, reach, output_shape, strict=True)]
    else:
        # same: n * s long, and without padding (n - 1) * s + k
        total = [k - s for k, s in zip(reach, stride, strict=True)]
    # what is cut off in all is the same: only its distribution over both ends was open
    if pads is not None and (not output_shape or [before + after for before, after in pads] == total):
        return {"pads": flat(pads)}
    ends, missing = zip(*(cropped(t, lower=lower) for t in total), strict=True)
    return {"pads": flat(ends), "output_padding": list(missing)} if any(missing) else {"pads": flat(ends)}
