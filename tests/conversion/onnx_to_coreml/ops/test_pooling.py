"""Pooling against PyTorch: windows that reach beyond the edge, ceil mode, and the whole picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.conversion.onnx_to_coreml.one_node import check_node

X = np.random.default_rng(0).normal(size=(2, 3, 7, 8)).astype(np.float32)
WINDOW: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}


def t(array: np.ndarray) -> Any:
    return torch.from_numpy(array)


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


def test_one_dimension() -> None:
    x = X[:, :, 0]
    check_node("MaxPool", {"x": x}, F.max_pool1d(t(x), 3).numpy(), kernel_shape=[3], strides=[3])


def test_the_whole_picture() -> None:
    check_node("GlobalAveragePool", {"x": X}, X.mean((2, 3), keepdims=True))
    check_node("GlobalMaxPool", {"x": X}, X.max((2, 3), keepdims=True))
    check_node("GlobalLpPool", {"x": X}, np.sqrt((X**2).sum((2, 3), keepdims=True)), p=2)
