"""Slices, gathers and other picking by position, against numpy and PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from coreproof.errors import ConversionError
from tests.build import node_model
from tests.conversion.onnx_to_coreml.one_node import TARGETS, check_node, convert_node
from tests.drawn import ints

X = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
FREE: dict[str, Any] = {"free": {"x": [0]}, "shapes": {"x": [(1, 8), 5, 6]}}


@pytest.mark.sweep(4)
@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps", "picked"),
    [
        ((1,), (3,), (0,), (1,), np.s_[1:3]),
        ((0, 1), (9, -1), (2, 1), (2, 1), np.s_[:, 1:-1, ::2]),
        ((-1,), (-(2**62),), (1,), (-1,), np.s_[:, ::-1]),
        ((-2, 99), (0, 1), (1, 2), (-1, -2), np.s_[:, -2:0:-1, 99:1:-2]),
        ((-99,), (2**62,), (-1,), (3,), np.s_[:, :, ::3]),
        ((0,), (5,), (1,), (1,), np.s_[:]),
    ],
)
@pytest.mark.parametrize("described", [{}, FREE])
def test_slice(starts: Any, ends: Any, axes: Any, steps: Any, picked: Any, described: dict[str, Any]) -> None:
    given = {"starts": ints(*starts), "ends": ints(*ends), "axes": ints(*axes), "steps": ints(*steps)}
    check_node("Slice", {"x": X}, X[picked], given, **described)


def test_slice_of_early_opsets_and_of_computed_bounds() -> None:
    check_node("Slice", {"x": X}, X[:, 1:3, 2:], opset=9, starts=[1, 2], ends=[3, 100], axes=[1, 2])
    check_node("Slice", {"x": X}, X[1:3, 2:], opset=9, starts=[1, 2], ends=[3, 100])
    check_node(
        "Slice",
        {"x": X, "starts": ints(1, 0), "ends": ints(4, 3)},
        X[:, 0:3, 1:4:2],
        {"axes": ints(2, 1), "steps": ints(2, 1)},
        targets=[("mlprogram", "iOS17")],
    )


def test_an_empty_slice_is_refused() -> None:
    model = node_model("Slice", {"x": X}, {"starts": ints(3), "ends": ints(3)})
    with pytest.raises(ConversionError, match=r"has no elements(?s:.)*the shape \[0, 5, 6\]"):
        convert_node(model, "mlprogram", None)


@pytest.mark.sweep(4)
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("indices", [ints(0, -1, 2), np.array([[1, -2], [0, 0]])])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_counts_from_either_end(axis: int, indices: np.ndarray, constant: bool) -> None:
    inputs, constants = ({"x": X}, {"i": indices}) if constant else ({"x": X, "i": indices}, {})
    check_node("Gather", inputs, np.take(X, indices, axis), constants, axis=axis)


@pytest.mark.parametrize("index", [2, -1])
def test_gather_of_one_position_drops_the_axis(index: int) -> None:
    check_node("Gather", {"x": X}, X[:, index], {"i": np.array(index)}, axis=1)
    check_node("Gather", {"x": X}, X[index], {"i": np.array(index)}, axis=0)
    check_node("Gather", {"x": X > 0}, (X > 0)[:, index], {"i": np.array(index)}, axis=1)
    check_node("Gather", {"x": X}, X[:, index], {"i": np.array(index)}, axis=1, **FREE)


@pytest.mark.parametrize("rows", [4, 2])
def test_gather_elements(rows: int) -> None:
    indices = np.random.default_rng(1).integers(-5, 5, size=(rows, 3, 6))
    expected = np.take_along_axis(X[:rows], indices, 1)
    check_node("GatherElements", {"x": X, "i": indices}, expected, axis=1)
    check_node("GatherElements", {"x": X}, expected, {"i": indices}, axis=1)


def test_gather_nd_with_and_without_batch() -> None:
    pairs = np.array([[0, 1], [-1, -2], [3, 0]])
    expected = X[pairs[:, 0], pairs[:, 1]]
    check_node("GatherND", {"x": X, "i": pairs}, expected)
    check_node("GatherND", {"x": X}, expected, {"i": pairs})
    each = np.array([[2], [0], [-1], [1]])
    batched = np.stack([X[b, each[b, 0]] for b in range(4)])
    check_node("GatherND", {"x": X, "i": each}, batched, batch_dims=1)


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_one_hot_counts_from_the_end_and_ignores_what_is_too_large(axis: int) -> None:
    indices = np.array([[0, -1, 2], [3, 4, -5]])
    hit = np.where(indices < 0, indices + 4, indices)[..., None] == np.arange(4)
    expected = np.moveaxis(np.where(hit, 3.0, -1.0).astype(np.float32), -1, axis)
    given = {"depth": np.array(4), "values": np.array([-1, 3], np.float32)}
    check_node("OneHot", {"i": indices}, expected, given, axis=axis)


def test_non_zero_and_compress() -> None:
    x = np.array([[0, 2, 0], [3, 0, 4]], np.float32)
    check_node("NonZero", {"x": x}, np.array(np.nonzero(x)))
    keep = np.array([False, True, True])
    check_node("Compress", {"x": x}, x[:, keep], {"keep": keep}, axis=1)
    check_node("Compress", {"x": x, "keep": keep}, x[:, keep], axis=1)


@pytest.mark.parametrize("largest", [0, 1])
def test_top_k(largest: int) -> None:
    values, places = torch.topk(torch.from_numpy(X), 3, dim=1, largest=bool(largest))
    expected: list[Any] = [values.numpy(), places.numpy()]
    check_node("TopK", {"x": X}, expected, {"k": ints(3)}, opset=11, axis=1, largest=largest)
    if largest:
        check_node("TopK", {"x": X}, expected, opset=9, k=3, axis=1)


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_cumulative_sum(exclusive: int, reverse: int) -> None:
    x = X[:, ::-1] if reverse else X
    total = np.cumsum(x, axis=1) - (x if exclusive else 0)
    expected = total[:, ::-1] if reverse else total
    check_node("CumSum", {"x": X}, expected, {"axis": np.array(-2)}, exclusive=exclusive, reverse=reverse)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("axis", [0, 2, -2])
def test_sums_run_along_an_axis_that_comes_while_the_model_runs(axis: int) -> None:
    check_node("CumSum", {"x": X, "axis": np.array([axis])}, np.cumsum(X, axis=axis))
    check_node("CumProd", {"x": X, "axis": np.array([axis])}, np.cumprod(X, axis=axis), opset=26, targets=TARGETS[:2])


@pytest.mark.sweep(3)
@pytest.mark.parametrize("k", [-2, -1, 0, 1, 2])
@pytest.mark.parametrize("upper", [0, 1])
def test_triangles(k: int, upper: int) -> None:
    cut = np.triu if upper else np.tril
    check_node("Trilu", {"x": X}, cut(X, k), {"k": np.array(k)}, upper=upper)
    check_node("Trilu", {"x": X > 0}, cut(X > 0, k), {"k": np.array(k)}, upper=upper)


@pytest.mark.parametrize("free", [[0], [1], [2], [0, 1, 2]])
@pytest.mark.parametrize(("k", "upper"), [(2, 1), (-2, 0)])
def test_triangles_of_free_lengths(k: int, upper: int, free: list[int]) -> None:
    shapes = {"x": "x".join("1..8" if axis in free else str(n) for axis, n in enumerate(X.shape))}
    expected = (np.triu if upper else np.tril)(X, k)
    check_node("Trilu", {"x": X}, expected, {"k": np.array(k)}, upper=upper, free={"x": free}, shapes=shapes)
    check_node("Trilu", {"x": X, "k": np.array([k])}, expected, upper=upper, free={"x": free}, shapes=shapes)


def test_reverse_sequence() -> None:
    lengths = ints(1, 3, 4, 2, 4)
    expected = X.copy()
    for column, n in enumerate(lengths):
        expected[:n, column] = X[:n, column][::-1]
    check_node("ReverseSequence", {"x": X}, expected, {"lengths": lengths}, time_axis=0, batch_axis=1)


@pytest.mark.sweep(4)
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("exclusive", [0, 1])
def test_cum_prod(axis: int, reverse: int, exclusive: int) -> None:
    x = X.copy()
    x[1, 2, 3] = 0
    turned = np.flip(x, axis) if reverse else x
    product = np.cumprod(turned, axis)
    if exclusive:
        product = np.concatenate(
            [np.ones_like(np.take(x, [0], axis)), np.take(product, range(x.shape[axis] - 1), axis)], axis
        )
    wanted = np.flip(product, axis) if reverse else product
    check_node("CumProd", {"x": x}, wanted, {"axis": np.array(axis)}, opset=26, reverse=reverse, exclusive=exclusive)


PROGRAMS = [("mlprogram", "iOS15"), ("mlprogram", "iOS18")]


@pytest.mark.sweep(4)
@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize(("axis", "k"), [(-1, 3), (0, 1), (1, 5)])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_top_k_of_a_number_that_is_fed(axis: int, k: int, largest: int, dtype: Any) -> None:
    x = np.random.default_rng(1).permutation(4 * 5 * 6).reshape(4, 5, 6).astype(dtype)
    order = np.argsort(-x if largest else x, axis, kind="stable").take(range(k), axis)
    want = [np.take_along_axis(x, order, axis), order]
    fed = {"x": x, "k": np.array([k])}
    check_node("TopK", fed, want, axis=axis, largest=largest, targets=PROGRAMS)


def test_top_k_of_a_number_that_is_fed_takes_the_first_of_equal_ones() -> None:
    x = np.array([[1, 1, 0, 1], [0, 0, 0, 0]], np.float32)
    check_node("TopK", {"x": x, "k": np.array([2])}, [x[:, :2], np.array([[0, 1], [0, 1]])], targets=PROGRAMS)


@pytest.mark.sweep(5)
@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_])
@pytest.mark.parametrize("depth_is_fed", [False, True])
def test_one_hot_by_a_depth_and_values_that_are_fed(axis: int, dtype: Any, depth_is_fed: bool) -> None:
    indices = np.array([[0, 3, -1], [-5, 4, 9]])
    values = np.array([1, 0] if dtype is np.bool_ else [2, 5], dtype)
    places = np.where(indices < 0, indices + 5, indices)
    hit = np.expand_dims(places, axis) == np.arange(5).reshape([-1 if i == axis % 3 else 1 for i in range(3)])
    want = np.where(hit, values[1], values[0])
    fed: dict[str, Any] = {"i": indices, "v": values, **({"d": np.array([5])} if depth_is_fed else {})}
    known = {} if depth_is_fed else {"d": np.array(5)}
    check_node("OneHot", fed, want, known, order=["i", "d", "v"], axis=axis, targets=PROGRAMS)


@pytest.mark.parametrize(("scale", "picked"), [({}, np.s_[..., 2:4, 1:3]), ({"scale": [1, 3]}, np.s_[..., 2:3, 1:4])])
def test_a_border_is_cropped(scale: dict[str, Any], picked: Any) -> None:
    """(left, top, right, bottom), as the first exporters wrote it."""
    picture = np.random.default_rng(2).normal(size=(1, 2, 5, 6)).astype(np.float32)
    check_node("Crop", {"x": picture}, picture[picked], border=[1, 2, 3, 1], **scale)
