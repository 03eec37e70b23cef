"""Concat, Split and Pad, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.conversion.onnx_to_coreml.one_node import check_node

X = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def test_concat() -> None:
    y = X[:, :1] * 2
    check_node("Concat", {"x": X, "y": y}, np.concatenate([X, y], 1), axis=1)
    check_node("Concat", {"x": X}, np.concatenate([X, y], 1), {"y": y}, axis=-2)
    check_node("Concat", {"x": X}, X, axis=0)


@pytest.mark.parametrize(
    ("opset", "sizes", "described"),
    [
        (11, [1, 3], {"split": [1, 3]}),
        (11, [2, 2], {}),
        (13, [3, 1], {"constants": {"split": ints(3, 1)}}),
        (18, [2, 2], {"num_outputs": 2}),
        (18, [2, 1], {"num_outputs": 2, "axis": 1}),
    ],
)
def test_split(opset: int, sizes: list[int], described: dict[str, Any]) -> None:
    axis = described.get("axis", 2)
    expected = np.split(X, [sizes[0]], axis=axis)
    check_node("Split", {"x": X}, list(expected), opset=opset, **{"axis": 2, **described})


@pytest.mark.parametrize(("mode", "numpy_mode"), [("constant", "constant"), ("reflect", "reflect"), ("edge", "edge")])
@pytest.mark.parametrize(
    "amounts", [((0, 0), (0, 0), (1, 2)), ((0, 0), (1, 0), (2, 1)), ((1, 1), (0, 2), (0, 0)), ((0, 1), (2, 2), (3, 3))]
)
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_pad_on_any_axis(mode: str, numpy_mode: Any, amounts: tuple[tuple[int, int], ...], dtype: Any) -> None:
    x = (X * 9).astype(dtype)
    pads = ints(*(a[0] for a in amounts), *(a[1] for a in amounts))
    how = {"constant_values": 5} if mode == "constant" else {}
    given: dict[str, Any] = {"pads": pads, "value": np.array(5, dtype)} if mode == "constant" else {"pads": pads}
    check_node("Pad", {"x": x}, np.pad(x, amounts, mode=numpy_mode, **how), given, opset=13, mode=mode)


def test_pad_wraps_crops_and_knows_its_early_form() -> None:
    check_node(
        "Pad", {"x": X}, np.pad(X, [(0, 0), (1, 2), (0, 0)], mode="wrap"), {"pads": ints(0, 1, 0, 0, 2, 0)},
        opset=19, mode="wrap",
    )  # fmt: skip
    cropped = np.pad(X[:, 1:, :-1], [(0, 0), (0, 1), (2, 0)])
    check_node("Pad", {"x": X}, cropped, {"pads": ints(0, -1, 2, 0, 1, -1)})
    check_node("Pad", {"x": X}, np.pad(X, [(0, 0), (0, 0), (1, 1)]), opset=10, pads=[0, 0, 1, 0, 0, 1])
    check_node(
        "Pad", {"x": X}, np.pad(X, [(0, 0), (2, 1), (0, 0)]), {"pads": ints(2, 1), "axes": ints(-2)},
        order=["x", "pads", "", "axes"], opset=18,
    )  # fmt: skip
