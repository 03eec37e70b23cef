"""Pad and CenterCropPad, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.conversion.onnx_to_coreml.one_node import check_node
from tests.drawn import ints

PROGRAMS = [("mlprogram", "iOS15"), ("mlprogram", "iOS18")]
X = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)


@pytest.mark.sweep(6)
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


@pytest.mark.sweep(3)
@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize("amounts", [((0, 0), (1, 2), (2, 0)), ((1, 0), (0, 1), (3, 3)), ((0, 0), (0, 0), (0, 0))])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_pads_that_are_fed(mode: Any, amounts: tuple[tuple[int, int], ...], dtype: Any) -> None:
    x = (X * 9).astype(dtype)
    how = {"constant_values": 5} if mode == "constant" else {}
    fed: dict[str, Any] = {"x": x, "pads": ints(*(a[0] for a in amounts), *(a[1] for a in amounts))}
    if mode == "constant":
        fed["value"] = np.array([5], dtype)
    order = [*fed] if mode != "constant" else ["x", "pads", "value"]
    check_node("Pad", fed, np.pad(x, amounts, mode=mode, **how), opset=19, mode=mode, order=order, targets=PROGRAMS)


def test_pads_that_are_fed_cut_off_where_they_are_negative() -> None:
    cropped = np.pad(X[:, 1:, :-1], [(0, 0), (0, 1), (2, 0)])
    check_node("Pad", {"x": X, "pads": ints(0, -1, 2, 0, 1, -1)}, cropped, targets=PROGRAMS)
    check_node("Pad", {"x": X > 0, "pads": ints(0, -1, 2, 0, 1, -1)}, cropped > 0, targets=PROGRAMS)


def centred(x: np.ndarray, shape: tuple[int, ...], axes: tuple[int, ...]) -> np.ndarray:
    for axis, target in zip(axes, shape, strict=True):
        surplus = x.shape[axis] - target
        if surplus > 0:
            x = np.take(x, range(surplus // 2, surplus // 2 + target), axis)
        else:
            around = [(0, 0)] * x.ndim
            around[axis] = (-surplus // 2, -surplus - (-surplus // 2))
            x = np.pad(x, around)
    return x


@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    ("shape", "axes"),
    [((2, 3, 4), None), ((1, 2, 1), None), ((5, 6, 7), None), ((1, 7), (0, 2)), ((2, 3), (-1, -2)), ((4,), (1,))],
)
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_])
def test_center_crop_pad(shape: tuple[int, ...], axes: tuple[int, ...] | None, dtype: Any) -> None:
    x = (X * 9).astype(dtype)
    want = centred(x, shape, axes or (0, 1, 2))
    said: dict[str, Any] = {} if axes is None else {"axes": list(axes)}
    check_node("CenterCropPad", {"x": x}, want, {"shape": ints(*shape)}, opset=18, **said)
    check_node("CenterCropPad", {"x": x, "shape": ints(*shape)}, want, opset=18, targets=PROGRAMS, **said)
