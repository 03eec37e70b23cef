"""Layers that look elements up by their places, or tell places, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.conversion.coreml_to_onnx.lowered import close, run_layer
from tests.drawn import normal


def test_gathers() -> None:
    x = normal(3, 4, 5)
    close(run_layer("gather", x, np.array([2, 0]), axis=1), x[:, [2, 0]])
    close(run_layer("gather", x, np.array([[1, 3], [0, 0]]), axis=-1), x[:, :, [[1, 3], [0, 0]]])
    close(run_layer("gatherND", x, np.array([[2, 1], [0, 3]])), x[[2, 0], [1, 3]])
    places = np.array([[[0, 3, 1, 1, 2]], [[2, 2, 0, 1, 3]], [[1, 0, 3, 2, 0]]])
    close(run_layer("gatherAlongAxis", x, places, axis=1), np.take_along_axis(x, places, 1))


MODES: dict[str, Any] = {
    "SCATTER_ADD": np.add, "SCATTER_SUB": np.subtract, "SCATTER_MUL": np.multiply, "SCATTER_DIV": np.divide,
    "SCATTER_MAX": np.maximum, "SCATTER_MIN": np.minimum,
}  # fmt: skip


@pytest.mark.parametrize("mode", ["SCATTER_UPDATE", *MODES])
def test_scatters(mode: str) -> None:
    x, updates = normal(4, 3), np.abs(normal(4, 2)) + 0.5
    places = np.array([2, 0])
    expected = x.copy()
    if mode == "SCATTER_UPDATE":
        expected[:, places] = updates
    else:
        MODES[mode].at(expected, (slice(None), places), updates)
    close(run_layer("scatter", x, places, updates, axis=1, mode=mode), expected)
    along = np.tile(places, (4, 1))
    close(run_layer("scatterAlongAxis", x, along, updates, axis=-1, mode=mode), expected)
    points = np.array([[i, j] for i in range(4) for j in places])
    close(run_layer("scatterND", x, points, updates.reshape(-1), mode=mode), expected)


def test_a_scatter_of_indices_in_rows_puts_them_where_the_axis_was() -> None:
    x, updates = normal(5, 2), normal(2, 2, 2)
    expected = x.copy()
    expected[[[0, 4], [1, 2]]] = updates
    close(run_layer("scatter", x, np.array([[0, 4], [1, 2]]), updates, axis=0), expected)


@pytest.mark.parametrize("axis", [0, -1])
def test_places_of_extremes_are_those_of_the_first(axis: int) -> None:
    x = np.array([[1, 5, 5], [-2, 0, -2]], np.float32)
    close(run_layer("argMax", x, axis=axis, removeDim=True), np.argmax(x, axis).astype(np.float32))
    close(run_layer("argMin", x, axis=axis), np.argmin(x, axis, keepdims=True).astype(np.float32))
    close(run_layer("argMax", normal(1), axis=0, removeDim=True), np.zeros(1, np.float32))


@pytest.mark.parametrize("descending", [False, True])
def test_sorted_places_and_the_largest(descending: bool) -> None:
    x = normal(3, 7)
    order = np.argsort(-x if descending else x, 1).astype(np.float32)
    close(run_layer("argSort", x, axis=1, descending=descending), order)
    values, places = run_layer("topK", x, axis=-1, K=3, useBottomK=not descending, outputs=2)
    close(places, order[:, :3])
    close(values, np.take_along_axis(x, order[:, :3].astype(np.int64), 1))


def test_one_hot_has_its_axis_in_the_result_and_no_place_for_what_lies_outside() -> None:
    x = np.array([2, 0, 5, -1], np.float32)
    expected = np.full((4, 3), -2, np.float32)
    expected[[0, 1], [2, 0]] = 7
    close(run_layer("oneHot", x, oneHotVectorSize=3, axis=-1, onValue=7, offValue=-2), expected)
    close(run_layer("oneHot", x, oneHotVectorSize=3, axis=0, onValue=7, offValue=-2), expected.T)
    close(run_layer("oneHot", x, np.array([3]), axis=-1, onValue=7, offValue=-2), expected)


def test_places_of_what_is_not_zero_stand_row_by_row() -> None:
    x = np.array([[0, 3, 0], [-1, 0, 2]], np.float32)
    close(run_layer("whereNonZero", x), np.argwhere(x).astype(np.float32))


@pytest.mark.parametrize(("lower", "upper"), [(1, 0), (0, 2), (-1, 1), (2, -1), (-1, -1)])
def test_bands_of_a_matrix(lower: int, upper: int) -> None:
    x = normal(2, 4, 5)
    apart = np.arange(5)[None, :] - np.arange(4)[:, None]
    kept = ((lower < 0) | (-apart <= lower)) & ((upper < 0) | (apart <= upper))
    close(run_layer("matrixBandPart", x, numLower=lower, numUpper=upper), np.where(kept, x, 0))


@pytest.mark.parametrize("k", [-2, 0, 1])
def test_triangles(k: int) -> None:
    x = normal(2, 4, 5)
    close(run_layer("upperTriangular", x, k=k), np.triu(x, k))
    close(run_layer("lowerTriangular", x, k=k), np.tril(x, k))
