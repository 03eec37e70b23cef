"""Operators on shapes, against numpy; each form that an opset gave them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch

import coreproof as cp
from coreproof.errors import CoreproofError
from coreproof.runtime.open import session
from tests.build import node_model
from tests.conversion.onnx_to_coreml.one_node import check_node, convert_node
from tests.drawn import ints

PROGRAMS = [("mlprogram", "iOS15"), ("mlprogram", "iOS18")]
X = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
FREE: dict[str, Any] = {"free": {"x": [0]}, "shapes": {"x": [(1, 8), 3, 4]}}


@pytest.mark.parametrize("shape", [(6, 4), (2, -1), (0, -1), (4, 0, -1), (1, 2, 3, 4), (24,)])
def test_reshape(shape: tuple[int, ...]) -> None:
    target = [X.shape[i] if n == 0 else n for i, n in enumerate(shape)]
    check_node("Reshape", {"x": X}, X.reshape(target), {"shape": ints(*shape)})


@pytest.mark.parametrize(("shape", "expected"), [((0, -1), (2, 12)), ((-1, 12), (2, 12)), ((0, 4, 3), (2, 4, 3))])
def test_reshape_with_a_free_batch(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    check_node("Reshape", {"x": X}, X.reshape(expected), {"shape": ints(*shape)}, **FREE)


def test_reshape_by_a_shape_that_is_computed() -> None:
    check_node("Reshape", {"x": X, "shape": ints(4, 6)}, X.reshape(4, 6), targets=[("mlprogram", "iOS17")])


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_flatten(axis: int) -> None:
    shape = (int(np.prod(X.shape[: axis if axis >= 0 else axis + 3])), -1)
    check_node("Flatten", {"x": X}, X.reshape(shape if axis else (1, -1)), axis=axis)


def test_flatten_with_a_free_batch() -> None:
    check_node("Flatten", {"x": X}, X.reshape(2, 12), axis=1, **FREE)
    check_node("Flatten", {"x": X}, X.reshape(6, 4), axis=2, **FREE)


def test_transpose() -> None:
    check_node("Transpose", {"x": X}, X.transpose(2, 0, 1), perm=[2, 0, 1])
    check_node("Transpose", {"x": X}, X.T)


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_squeeze_and_unsqueeze_in_both_forms(dtype: Any) -> None:
    x = np.arange(6).reshape(1, 3, 1, 2).astype(dtype)
    check_node("Squeeze", {"x": x}, x.reshape(3, 1, 2), opset=11, axes=[0])
    check_node("Squeeze", {"x": x}, x.reshape(1, 3, 2), {"axes": ints(-2)}, opset=13)
    check_node("Squeeze", {"x": x}, x.reshape(3, 2), opset=13)
    check_node("Unsqueeze", {"x": x[0, :, 0]}, x, opset=11, axes=[0, 2])
    check_node("Unsqueeze", {"x": x[0, :, 0]}, x[0, :, 0, :, None], {"axes": ints(-1)}, opset=13)


def test_expand_and_tile() -> None:
    row = X[:1, :, :1]
    check_node("Expand", {"x": row}, np.broadcast_to(row, (2, 3, 4)), {"shape": ints(2, 1, 4)})
    check_node("Expand", {"x": row}, np.broadcast_to(row, (5, 1, 3, 4)), {"shape": ints(5, 1, 1, 4)})
    check_node("Expand", {"x": row[0]}, np.broadcast_to(row, (2, 3, 1)), {"shape": ints(2, 1, 1)})
    check_node("Expand", {"x": row > 0}, np.broadcast_to(row > 0, (2, 3, 4)), {"shape": ints(2, 3, 4)})
    check_node("Tile", {"x": X}, np.tile(X, (1, 2, 3)), {"repeats": ints(1, 2, 3)})


def test_identity_and_dropout_change_nothing() -> None:
    check_node("Identity", {"x": X}, X)
    check_node("Dropout", {"x": X}, X, opset=10, ratio=0.3)
    check_node("Dropout", {"x": X}, [X, np.ones(X.shape, np.bool_)], {"ratio": np.float32(0.3)}, opset=13)


@pytest.mark.sweep(2)
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
@pytest.mark.parametrize("axes", [(0,), (2,), (-2,), (0, 2), (-4, -2), (2, 0)])
def test_squeeze_along_axes_that_are_fed(axes: tuple[int, ...], dtype: Any) -> None:
    x = np.arange(6).reshape(1, 3, 1, 2).astype(dtype)
    check_node("Squeeze", {"x": x, "axes": ints(*axes)}, np.squeeze(x, axes), targets=PROGRAMS)


@pytest.mark.sweep(4)
@pytest.mark.parametrize("axes", [(0,), (1,), (-1,), (0, 2), (4, 0, 2), (-1, -3)])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_unsqueeze_along_axes_that_are_fed(axes: tuple[int, ...], dtype: Any) -> None:
    x = np.arange(6).reshape(3, 2).astype(dtype)
    check_node("Unsqueeze", {"x": x, "axes": ints(*axes)}, np.expand_dims(x, axes), targets=PROGRAMS)


def test_a_longer_axis_is_not_squeezed_silently() -> None:
    x = np.zeros((2, 3), np.float32)
    model = convert_node(node_model("Squeeze", {"x": x, "axes": ints(0)}), "mlprogram", "iOS17")
    with session(model) as running, pytest.raises(CoreproofError):
        running.run({"x": x, "axes": ints(0)})


def test_shape_and_size_of_a_free_batch() -> None:
    check_node("Shape", {"x": X}, ints(2, 3, 4), **FREE)
    check_node("Shape", {"x": X}, ints(2, 3), start=0, end=-1, **FREE)
    check_node("Size", {"x": X}, np.int64(24), **FREE)


def test_constant_of_shape_and_range_that_are_computed() -> None:
    check_node(
        "ConstantOfShape",
        {"shape": ints(2, 3)},
        np.full((2, 3), 7, np.int64),
        value=_tensor(np.array([7], np.int64)),
        targets=[("mlprogram", "iOS17")],
    )


def _tensor(array: np.ndarray) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(array)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space_and_back(mode: str) -> None:
    x = np.random.default_rng(1).normal(size=(2, 8, 3, 2)).astype(np.float32)
    blocks = x.reshape(2, 2, 2, 2, 3, 2)
    order = (0, 3, 4, 1, 5, 2) if mode == "DCR" else (0, 1, 4, 2, 5, 3)
    wide = blocks.transpose(order).reshape(2, 2, 6, 4)
    check_node("DepthToSpace", {"x": x}, wide, blocksize=2, mode=mode)
    if mode == "CRD":
        np.testing.assert_array_equal(wide, torch.pixel_shuffle(torch.from_numpy(x), 2).numpy())
    else:
        check_node("SpaceToDepth", {"x": wide}, x, blocksize=2)


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_single_number_leaves_as_an_array_of_one(dtype: Any, precision: str) -> None:
    x = np.arange(6).reshape(2, 3).astype(dtype)
    model = node_model("ReduceMax", {"x": x}, keepdims=0, outputs=[dtype])
    converted = convert_node(model, "mlprogram", "iOS16", precision=precision)
    assert any("single number" in note for note in converted.notes)
    with session(converted) as running:
        (got,) = running.run({"x": x}).values()
    np.testing.assert_array_equal(got, np.array([5]))


def test_a_range_up_to_a_length_that_is_free() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> net (float[N, 3] x) => (int64[M] y)
    <int64 zero = {0}, int64 two = {2}, int64 three = {3}> {
      shape = Shape (x)
      n = Gather (shape, zero)
      end = Mul (n, three)
      y = Range (zero, end, two)
    }"""
    made = cp.convert(onnx.parser.parse_model(text), "mlprogram", shapes={"x": [(1, 9), 3]}, check=False)
    with cp.session(made) as running:
        for length in (1, 4, 9):
            found = running.run({"x": np.zeros((length, 3), np.float32)})["y"]
            np.testing.assert_array_equal(found, np.arange(0, 3 * length, 2))
