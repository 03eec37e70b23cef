"""Pooling, two- and three-dimensional, local and global."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Blob, Layer, i64
from coreproof.conversion.coreml_to_onnx.neuralnetwork.layer_arguments import lowers
from coreproof.conversion.coreml_to_onnx.neuralnetwork.padding import borders, is_lower
from coreproof.conversion.coreml_to_onnx.pools import Window, pool, same_padding
from coreproof.conversion.windows import Pads, reach_beyond
from coreproof.model.coreml.proto import NeuralNetwork_pb2


@lowers("pooling", error="average")
def pooling(
    layer: Layer,
    x: Blob,
    *,
    type: str = "MAX",
    kernelSize: Sequence[int] = (3, 3),
    stride: Sequence[int] = (1, 1),
    valid: NeuralNetwork_pb2.ValidPadding | None = None,
    same: NeuralNetwork_pb2.SamePadding | None = None,
    includeLastPixel: NeuralNetwork_pb2.PoolingLayerParams.ValidCompletePadding | None = None,
    avgPoolExcludePadding: bool = False,
    globalPooling: bool = False,
) -> Blob:
    layer.at_least(x, 4 if not globalPooling else 3)
    value, restore = layer.batched(x)
    if globalPooling:
        return restore(_global(layer, value, type))
    beyond: list[int] = []
    if same is not None:
        pads = same_padding(layer.shape(x)[-2:], kernelSize, stride, lower=is_lower(same))
    elif includeLastPixel is not None:
        # windows that start inside the (padded) picture and may reach over its far edge
        pads = [(p, p) for p in list(includeLastPixel.paddingAmounts) or [0] * len(kernelSize)]
        lengths = layer.fixed(layer.shape(x)[-2:], "it includes the last pixel, and the size of its input")
        axes = zip(lengths, kernelSize, stride, pads, strict=True)
        inside = any(before for before, _ in pads)
        # Caffe's rule: where there is padding, no window starts behind the picture
        beyond = [reach_beyond(n, k, s, p, p, inside=inside) for n, k, s, (p, _) in axes]
    else:
        pads = borders(layer, valid.paddingAmounts if valid is not None else None)
    window = Window(kernelSize, stride, pads, is_lower(same), beyond)
    return restore(_local(layer, value, type, window, avgPoolExcludePadding))


def _global(layer: Layer, value: ir.Value, kind: str) -> ir.Value:
    if kind == "L2":
        return layer.b.op("ReduceL2", value, i64([-2, -1]))
    return layer.b.op("GlobalMaxPool" if kind == "MAX" else "GlobalAveragePool", value)


def _local(layer: Layer, value: ir.Value, kind: str, window: Window, exclude: bool) -> ir.Value:
    if kind == "AVERAGE" and (exclude or any(window.beyond)) and window.is_wide:
        raise layer.refuse(
            "its padding is as wide as its kernel", expected=f"less than {list(window.kernel)}", found=window.ends
        )
    return pool(layer.b, value, kind, window, exclude=exclude)


@lowers("pooling3d")
def pooling3d(
    layer: Layer,
    x: Blob,
    *,
    type: str = "MAX",
    kernelDepth: int = 1,
    kernelHeight: int = 1,
    kernelWidth: int = 1,
    strideDepth: int = 1,
    strideHeight: int = 1,
    strideWidth: int = 1,
    paddingType: str = "CUSTOM",
    customPaddingFront: int = 0,
    customPaddingBack: int = 0,
    customPaddingTop: int = 0,
    customPaddingBottom: int = 0,
    customPaddingLeft: int = 0,
    customPaddingRight: int = 0,
    countExcludePadding: bool = False,
) -> Blob:
    kernel = (kernelDepth, kernelHeight, kernelWidth)
    stride = (strideDepth, strideHeight, strideWidth)
    pads: Pads | None = [(0, 0)] * 3
    if paddingType == "SAME":
        pads = same_padding(layer.shape(x)[-3:], kernel, stride, lower=False)
    elif paddingType == "CUSTOM":
        pads = [
            (customPaddingFront, customPaddingBack),
            (customPaddingTop, customPaddingBottom),
            (customPaddingLeft, customPaddingRight),
        ]
    return Blob(_local(layer, layer.exact(x), type, Window(kernel, stride, pads), countExcludePadding))


@lowers("globalPooling3d")
def global_pooling3d(layer: Layer, x: Blob, *, type: str = "MAX") -> Blob:
    return Blob(_global(layer, layer.exact(x), type))
