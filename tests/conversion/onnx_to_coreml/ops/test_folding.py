"""Col2Im, against PyTorch's fold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.conversion.onnx_to_coreml.one_node import check_node


@pytest.mark.parametrize(
    ("size", "block", "described"),
    [
        ((5, 6), (2, 3), {}),
        ((7, 8), (3, 2), {"stride": (2, 3), "padding": (1, 0)}),
        ((9, 8), (2, 3), {"dilation": (2, 1), "stride": (2, 2), "padding": (0, 1)}),
    ],
)
def test_blocks_are_added_where_they_overlap(size: Any, block: Any, described: dict[str, Any]) -> None:
    random = np.random.default_rng(1)
    cut = torch.nn.functional.unfold(torch.zeros(2, 3, *size), block, **described)
    x = random.normal(size=cut.shape).astype(np.float32)
    wanted = torch.nn.functional.fold(torch.tensor(x), size, block, **described)
    pads = list(described.get("padding", (0, 0))) * 2
    free: dict[str, Any] = {"free": {"x": [0]}, "shapes": {"x": [(1, 4), *x.shape[1:]]}}
    for shapes in ({}, free):
        check_node(
            "Col2Im",
            {"x": x},
            wanted.numpy(),
            {"size": np.array(size), "block": np.array(block)},
            opset=18,
            targets=[("mlprogram", "iOS15")],
            strides=list(described.get("stride", (1, 1))),
            dilations=list(described.get("dilation", (1, 1))),
            pads=pads,
            **shapes,
        )


def test_blocks_of_a_picture_whose_size_is_told() -> None:
    how: dict[str, Any] = {"stride": (2, 3), "padding": (1, 0)}
    x = np.random.default_rng(1).normal(size=(2, 18, 12)).astype(np.float32)
    size = np.array([7, 9])
    wanted = torch.nn.functional.fold(torch.tensor(x), tuple(size.tolist()), (3, 2), **how)
    check_node(
        "Col2Im",
        {"x": x, "size": size},
        wanted.numpy(),
        {"block": np.array([3, 2])},
        opset=18,
        strides=[2, 3],
        pads=[1, 0, 1, 0],
        free={"x": [2]},
        shapes={"x": [2, 18, (1, 64)]},
    )


def test_blocks_of_one_axis() -> None:
    x = np.random.default_rng(2).normal(size=(1, 6, 4)).astype(np.float32)
    wanted = np.zeros((1, 2, 9), np.float32)
    for block in range(4):
        for tap in range(3):
            wanted[0, :, 2 * block + tap] += x[0, [tap, 3 + tap], block]
    constants = {"size": np.array([9]), "block": np.array([3])}
    check_node("Col2Im", {"x": x}, wanted, constants, opset=18, targets=[("mlprogram", "iOS15")], strides=[2])
