"""Scatters, plain and reducing, against numpy and PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.conversion.onnx_to_coreml.one_node import check_node

X = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@pytest.mark.sweep(3)
@pytest.mark.parametrize("reduction", ["none", *REDUCTIONS])
@pytest.mark.parametrize("rows", [4, 2])
def test_scatter_elements(reduction: str, rows: int) -> None:
    rng = np.random.default_rng(2)
    indices = np.stack([rng.permutation(5)[:2] for _ in range(rows * 6)]).reshape(rows, 6, 2).transpose(0, 2, 1)
    updates = rng.normal(size=indices.shape).astype(np.float32)
    x, i, u = (torch.from_numpy(np.ascontiguousarray(a)) for a in (X, indices, updates))
    expected = x.scatter(1, i, u) if reduction == "none" else x.scatter_reduce(1, i, u, REDUCTIONS[reduction])
    signed = np.where(indices > 2, indices - 5, indices)
    for inputs, constants in (({"x": X, "u": updates}, {"i": signed}), ({"x": X, "i": signed, "u": updates}, {})):
        check_node(
            "ScatterElements",
            inputs,
            expected.numpy(),
            constants,
            order=["x", "i", "u"],
            opset=18,
            axis=1,
            reduction=reduction,
        )


def test_scatter_is_the_older_name() -> None:
    indices, updates = np.zeros((1, 5, 6), np.int64), np.ones((1, 5, 6), np.float32)
    expected = X.copy()
    expected[0] = 1
    check_node("Scatter", {"x": X, "u": updates}, expected, {"i": indices}, order=["x", "i", "u"], opset=9)


@pytest.mark.sweep(2)
@pytest.mark.parametrize("reduction", ["none", *REDUCTIONS])
def test_scatter_nd(reduction: str) -> None:
    places = np.array([[0, 1], [-1, -2], [3, 0]])
    updates = np.random.default_rng(3).normal(size=(3, 6)).astype(np.float32)
    expected = X.copy()
    combine: dict[str, Any] = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}
    for (a, b), row in zip(places, updates, strict=True):
        expected[a, b] = row if reduction == "none" else combine[reduction](expected[a, b], row)
    for inputs, constants in (({"x": X, "u": updates}, {"i": places}), ({"x": X, "i": places, "u": updates}, {})):
        check_node("ScatterND", inputs, expected, constants, order=["x", "i", "u"], opset=18, reduction=reduction)


@pytest.mark.parametrize("mode", ["linear", "circular"])
@pytest.mark.parametrize("axis", [-2, 1])
def test_a_cache_is_written_from_each_samples_place_on(mode: str, axis: int) -> None:
    rng = np.random.default_rng(3)
    cache = rng.normal(size=(2, 5, 6, 3)).astype(np.float32)
    length = cache.shape[axis]
    update = rng.normal(size=[2 if i == axis % 4 else n for i, n in enumerate(cache.shape)]).astype(np.float32)
    places = np.array([1, length - 1 if mode == "circular" else length - 2])
    wanted = np.moveaxis(cache.copy(), axis, 1)
    for sample, place in enumerate(places):
        for step in range(2):
            wanted[sample, (place + step) % length] = np.moveaxis(update, axis, 1)[sample, step]
    check_node(
        "TensorScatter",
        {"cache": cache, "update": update, "places": places},
        np.moveaxis(wanted, 1, axis),
        targets=[("mlprogram", "iOS15"), ("mlprogram", "iOS17")],
        opset=24,
        mode=mode,
        axis=axis,
    )


def test_a_cache_without_places_is_written_from_its_start() -> None:
    cache, update = np.zeros((2, 4, 3), np.float32), np.ones((2, 2, 3), np.float32)
    wanted = np.concatenate([update, cache[:, 2:]], axis=1)
    check_node("TensorScatter", {"cache": cache, "update": update}, wanted, targets=[("mlprogram", "iOS17")], opset=24)


def test_what_a_pool_took_goes_back_to_its_place() -> None:
    x = torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    largest, places = torch.nn.functional.max_pool2d(x, 2, 2, return_indices=True)
    wanted = torch.nn.functional.max_unpool2d(largest, places, 2, 2)
    whole = places + torch.arange(6).reshape(2, 3, 1, 1) * 48
    check_node(
        "MaxUnpool",
        {"x": largest.numpy(), "i": whole.numpy()},
        wanted.numpy(),
        targets=[("mlprogram", "iOS15"), ("mlprogram", "iOS17")],
        opset=11,
        kernel_shape=[2, 2],
        strides=[2, 2],
    )


def test_max_unpool_to_a_shape_that_is_fed() -> None:
    x = np.array([5, 6, 7, 8], np.float32).reshape(1, 1, 2, 2)
    places = np.array([5, 7, 13, 15]).reshape(1, 1, 2, 2)
    want = np.zeros((1, 1, 5, 6), np.float32)
    want[0, 0, [1, 1, 3, 3], [1, 3, 1, 3]] = [5, 6, 7, 8]
    check_node(
        "MaxUnpool", {"x": x, "i": places, "shape": np.array([1, 1, 5, 6])}, want, kernel_shape=[2, 2], strides=[2, 2],
        targets=[("mlprogram", "iOS15"), ("mlprogram", "iOS18")],
    )  # fmt: skip
