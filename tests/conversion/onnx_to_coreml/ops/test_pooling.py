"""Pooling against PyTorch: windows that reach beyond the edge, ceil mode, and the whole picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch.nn import functional as F

import coreproof as cp
from tests.build import node_model
from tests.conversion.onnx_to_coreml.one_node import check_node
from tests.conversion.torch_to_onnx.test_forms import Called
from tests.drawn import t

RNG = np.random.default_rng(5)
X = np.random.default_rng(0).normal(size=(2, 3, 7, 8)).astype(np.float32)
WINDOW: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}


@pytest.mark.parametrize("ceil", [0, 1])
def test_the_largest_of_a_window(ceil: int) -> None:
    check_node("MaxPool", {"x": X}, F.max_pool2d(t(X), 3, 2, 1, ceil_mode=bool(ceil)).numpy(), ceil_mode=ceil, **WINDOW)


@pytest.mark.parametrize("ceil", [0, 1])
@pytest.mark.parametrize("padded", [0, 1])
def test_the_mean_of_a_window_counts_its_padding_where_it_is_told_to(ceil: int, padded: int) -> None:
    expected = F.avg_pool2d(t(X), 3, 2, 1, ceil_mode=bool(ceil), count_include_pad=bool(padded)).numpy()
    check_node("AveragePool", {"x": X}, expected, ceil_mode=ceil, count_include_pad=padded, opset=19, **WINDOW)


def test_the_norm_of_a_window() -> None:
    check_node("LpPool", {"x": X}, F.lp_pool2d(t(X), 2, 2).numpy(), kernel_shape=[2, 2], strides=[2, 2], p=2)


def test_the_norm_of_a_window_that_reaches_over_the_end() -> None:
    whole = np.pad(np.abs(X) ** 3, ((0, 0), (0, 0), (0, 1), (0, 0)))  # what lies beyond the end adds nothing
    expected = whole.reshape(2, 3, 4, 2, 4, 2).sum((3, 5)) ** (1 / 3)
    check_node("LpPool", {"x": X}, expected, opset=18, kernel_shape=[2, 2], strides=[2, 2], p=3, ceil_mode=1)


@pytest.mark.thorough
@pytest.mark.parametrize("kernel", [2, 3, 4])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("sides", ["free", "fixed"])
def test_windows_over_the_end_at_every_length(kernel: int, padding: int, dilation: int, sides: str) -> None:
    """A batch that is free decides nothing; free sides are padded so that any length gives as many windows as rounding up."""
    pools = {"largest": lambda x: F.max_pool2d(x, kernel, kernel - 1, padding, dilation, ceil_mode=True)}
    if dilation == 1:  # means know no dilation; all in one module, since an export takes longer than all the rest
        pools["mean"] = lambda x: F.avg_pool2d(x, kernel, kernel - 1, padding, ceil_mode=True)
        pools["mean of what is inside"] = lambda x: F.avg_pool2d(x, kernel, kernel - 1, padding, True, False)
    side: Any = (5, 12) if sides == "free" else 9
    module = Called(lambda x: tuple(pool(x) for pool in pools.values())).eval()
    source = cp.Source(module, (torch.ones(1, 2, 9, 9),))
    made = cp.convert(source, "mlprogram", precision="fp32", shapes={"input_0": [(1, 3), 2, side, side]})
    with cp.session(made) as running:
        for batch, length in [(1, 5), (2, 6), (3, 9), (2, 12)] if sides == "free" else [(1, 9), (3, 9)]:
            x = t(RNG.normal(size=(batch, 2, length, 17 - length if sides == "free" else 9)).astype(np.float32))
            found = running.run({"input_0": x.numpy()})
            assert len(found) == len(pools)
            for value, (name, pool) in zip(found.values(), pools.items(), strict=True):
                np.testing.assert_allclose(value, pool(x).numpy(), rtol=1e-5, atol=1e-5, err_msg=name)


def test_one_dimension() -> None:
    x = X[:, :, 0]
    check_node("MaxPool", {"x": x}, F.max_pool1d(t(x), 3).numpy(), kernel_shape=[3], strides=[3])


def test_the_whole_picture() -> None:
    check_node("GlobalAveragePool", {"x": X}, X.mean((2, 3), keepdims=True))
    check_node("GlobalMaxPool", {"x": X}, X.max((2, 3), keepdims=True))
    check_node("GlobalLpPool", {"x": X}, np.sqrt((X**2).sum((2, 3), keepdims=True)), p=2)


@pytest.mark.sweep(2)
@pytest.mark.parametrize("ceil", [0, 1])
@pytest.mark.parametrize("dilation", [1, 2])
def test_where_the_largest_of_a_window_stands(dilation: int, ceil: int) -> None:
    largest, places = F.max_pool2d(t(X), 3, 2, 1, dilation=dilation, ceil_mode=bool(ceil), return_indices=True)
    # PyTorch counts each plane by itself, ONNX the whole of x
    planes = torch.arange(6).reshape(2, 3, 1, 1) * 56
    for order in (0, 1):
        wanted = places
        if order:
            wanted = (places % 8) * 7 + places // 8
        check_node(
            "MaxPool",
            {"x": X},
            [largest.numpy(), (wanted + planes).numpy()],
            targets=[("mlprogram", "iOS15"), ("mlprogram", "iOS17")],
            opset=12,
            ceil_mode=ceil,
            storage_order=order,
            dilations=[dilation, dilation],
            **WINDOW,
        )


def test_spread_windows_of_every_number_of_dimensions() -> None:
    x = X[:, :, 0]
    check_node(
        "MaxPool",
        {"x": x},
        F.max_pool1d(t(x), 3, 1, 1, dilation=2).numpy(),
        opset=12,
        kernel_shape=[3],
        dilations=[2],
        pads=[1, 1],
    )
    volume = np.random.default_rng(1).normal(size=(1, 2, 6, 7, 5)).astype(np.float32)
    wanted = F.max_pool3d(t(volume), 2, 2, 0, dilation=(2, 1, 3)).numpy()
    check_node("MaxPool", {"x": volume}, wanted, opset=12, kernel_shape=[2] * 3, strides=[2] * 3, dilations=[2, 1, 3])


@pytest.mark.parametrize("ceil", [0, 1])
@pytest.mark.parametrize("padded", [0, 1])
def test_the_mean_of_a_spread_window(ceil: int, padded: int) -> None:
    proto = ir.to_proto(
        node_model(
            "AveragePool", {"x": X}, opset=19, dilations=[2, 2], ceil_mode=ceil, count_include_pad=padded, **WINDOW
        ).ir
    )
    wanted = ReferenceEvaluator(onnx.load_model_from_string(proto.SerializeToString())).run(None, {"x": X})[0]
    check_node(
        "AveragePool", {"x": X}, wanted, opset=19, dilations=[2, 2], ceil_mode=ceil, count_include_pad=padded, **WINDOW
    )


def test_an_infinite_first_element_stays_out_of_windows_that_do_not_hold_it() -> None:
    """The padding of a spread window reads the first element, and has to take none of its value."""
    image = np.random.default_rng(0).normal(size=(1, 2, 6, 5)).astype(np.float32)
    image[0, :, 0, 0] = np.inf, -np.inf
    wanted = F.max_pool2d(t(image), 2, 1, 1, dilation=2).numpy()
    assert np.isfinite(wanted).sum() > 20
    window = {"kernel_shape": [2, 2], "strides": [1, 1], "pads": [1, 1, 1, 1], "dilations": [2, 2]}
    check_node("MaxPool", {"x": image}, wanted, opset=12, **window)
