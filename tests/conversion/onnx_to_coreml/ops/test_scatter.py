"""Scatters, plain and reducing, against numpy and PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.conversion.onnx_to_coreml.one_node import check_node

X = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


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
