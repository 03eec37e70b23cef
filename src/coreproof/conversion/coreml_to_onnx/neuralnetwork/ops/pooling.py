"""Pooling, two- and three-dimensional, local and global."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Blob, Layer, f32, i64, known
from coreproof.conversion.coreml_to_onnx.neuralnetwork.layer_arguments import lowers
from coreproof.conversion.coreml_to_onnx.neuralnetwork.ops.convolution import same_padding
from coreproof.conversion.coreml_to_onnx.neuralnetwork.padding import borders
from coreproof.conversion.coreml_to_onnx.windows import reach_beyond
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
    if same is not None:
        heavy = same.DESCRIPTOR.enum_types_by_name["SamePaddingMode"].values_by_number[same.asymmetryMode].name
        padding = same_padding(value, kernelSize, stride, heavy == "TOP_LEFT_HEAVY")
    elif includeLastPixel is not None:
        return restore(
            _including_last(
                layer, value, type, kernelSize, stride, includeLastPixel.paddingAmounts, avgPoolExcludePadding
            )
        )
    else:
        padding = {"pads": list(borders(layer, valid.paddingAmounts if valid is not None else None))}
    return restore(_local(layer, value, type, kernelSize, stride, padding, avgPoolExcludePadding))


def _global(layer: Layer, value: ir.Value, kind: str) -> ir.Value:
    b = layer.b
    if kind == "MAX":
        result: ir.Value = b.op("GlobalMaxPool", value)
    elif kind == "AVERAGE":
        result = b.op("GlobalAveragePool", value)
    else:
        result = b.op("ReduceL2", value, i64([-2, -1]))
    return result


def _local(
    layer: Layer,
    value: ir.Value,
    kind: str,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: dict[str, Any],
    exclude: bool,
) -> ir.Value:
    b = layer.b
    pads = padding.get("pads")
    if pads is not None and any(p >= k for p, k in zip(pads, [*kernel, *kernel], strict=True)):
        # ONNX Runtime refuses windows that lie wholly in the padding; padded beforehand they are ordinary ones
        fill = -np.inf if kind == "MAX" else 0.0
        if exclude and kind == "AVERAGE":
            raise layer.refuse("its padding is as wide as its kernel", expected=f"less than {list(kernel)}", found=pads)
        n = len(kernel)
        value = b.op("Pad", value, i64([0, 0, *pads[:n], 0, 0, *pads[n:]]), f32(fill))
        padding = {"pads": [0] * len(pads)}
    common = {"kernel_shape": list(kernel), "strides": list(stride), **padding}
    result: ir.Value
    if kind == "MAX":
        result = b.op("MaxPool", value, **common)
    elif kind == "AVERAGE":
        result = b.op("AveragePool", value, count_include_pad=0 if exclude else 1, **common)
    else:
        mean = b.op("AveragePool", b.op("Mul", value, value), count_include_pad=1, **common)
        result = b.op("Sqrt", b.op("Mul", mean, f32(float(np.prod(kernel)))))
    return result


def _including_last(
    layer: Layer,
    value: ir.Value,
    kind: str,
    kernel: Sequence[int],
    stride: Sequence[int],
    amounts: Sequence[int],
    exclude: bool,
) -> ir.Value:
    """Windows that start inside the (padded) picture and may reach over its far edge.

    What lies beyond the symmetric padding never counts in an average; the padding itself does unless excluded.
    """
    symmetric = list(amounts) or [0] * len(kernel)
    sizes = (known(value) or ())[-len(kernel) :]
    if any(n is None for n in sizes):
        raise layer.refuse(
            "it includes the last pixel, and the size of its input is only known when the model runs",
            expected="fixed spatial dimensions",
            found=list(sizes),
        )
    beyond = [
        p + reach_beyond(n or 0, k, s, p, p, inside=any(symmetric))
        for n, k, s, p in zip(sizes, kernel, stride, symmetric, strict=True)
    ]
    if kind == "AVERAGE" and not exclude and any(symmetric):
        value = layer.b.op("Pad", value, i64([0, 0, *symmetric, 0, 0, *symmetric]), f32(0))
        beyond = [e - p for e, p in zip(beyond, symmetric, strict=True)]
        symmetric = [0] * len(kernel)
    # a negative amount crops rows that no window reaches
    value, beyond = _crop_unreached(layer, value, beyond)
    return _local(layer, value, kind, kernel, stride, {"pads": [*symmetric, *beyond]}, True)


def _crop_unreached(layer: Layer, value: ir.Value, beyond: Sequence[int]) -> tuple[ir.Value, list[int]]:
    for axis, amount in zip(range(-len(beyond), 0), beyond, strict=True):
        if amount < 0:
            value = layer.b.op("Slice", value, i64([0]), i64([amount]), i64([axis]))
    return value, [max(0, amount) for amount in beyond]


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
    value = layer.exact(x)
    kernel = (kernelDepth, kernelHeight, kernelWidth)
    stride = (strideDepth, strideHeight, strideWidth)
    padding: dict[str, Any] = {"pads": [0] * 6}
    if paddingType == "SAME":
        padding = same_padding(value, kernel, stride, False)
    elif paddingType == "CUSTOM":
        padding["pads"] = [
            customPaddingFront, customPaddingTop, customPaddingLeft,
            customPaddingBack, customPaddingBottom, customPaddingRight,
        ]  # fmt: skip
    return Blob(_local(layer, value, type, kernel, stride, padding, countExcludePadding))


@lowers("globalPooling3d")
def global_pooling3d(layer: Layer, x: Blob, *, type: str = "MAX") -> Blob:
    return Blob(_global(layer, layer.exact(x), type))
