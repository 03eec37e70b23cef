"""The shapes that are asked for: one grammar for Python and the command line."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from coreproof.conversion.shapes import check_names, read_shape, read_shapes, with_batches
from coreproof.errors import InputError
from coreproof.model.features import Feature


@pytest.mark.parametrize(
    ("asked", "means"),
    [
        ((1, 3, 8), [[(1, 1), (3, 3), (8, 8)]]),
        ("1x3x8", [[(1, 1), (3, 3), (8, 8)]]),
        ([1, (4, 32)], [[(1, 1), (4, 32)]]),
        ([(1, None), 3], [[(1, -1), (3, 3)]]),
        ([(1, float("inf")), 3], [[(1, -1), (3, 3)]]),
        (["1..4", "1..16"], [[(1, 4), (1, 16)]]),
        (["1..", 16], [[(1, -1), (16, 16)]]),
        ("1x4..32", [[(1, 1), (4, 32)]]),
        ("1x4..", [[(1, 1), (4, -1)]]),
        ([(1, 12), (8, 12)], [[(1, 1), (12, 12)], [(8, 8), (12, 12)]]),
        ([[1, 12], [8, 12]], [[(1, 1), (12, 12)], [(8, 8), (12, 12)]]),
        (["1x12", "8x12"], [[(1, 1), (12, 12)], [(8, 8), (12, 12)]]),
        ("1x12|8x12", [[(1, 1), (12, 12)], [(8, 8), (12, 12)]]),
        ([(1, 3, 4)], [[(1, 1), (3, 3), (4, 4)]]),
        ([(5,), (7,)], [[(5, 5)], [(7, 7)]]),
        (["2..7"], [[(2, 7)]]),
        (np.array([1, 3, 8]), [[(1, 1), (3, 3), (8, 8)]]),
        ("5|7", [[(5, 5)], [(7, 7)]]),
    ],
)
def test_what_is_asked_is_read(asked: Any, means: Any) -> None:
    assert [list(shape) for shape in read_shape("x", asked)] == means


@pytest.mark.parametrize(
    "asked",
    [7, None, "1xtwo", (1, "n"), [1, (4, 32, 64)], [1, (32, 4)], (0, 3), (1, -3), [(1, (2, 3)), (1, 4)], "1x2..3|1x5", "",
     (1.5, 2), [], [1, True]],
)  # fmt: skip
def test_what_is_no_shape_is_refused_with_the_grammar(asked: Any) -> None:
    with pytest.raises(InputError, match="input 'x'") as caught:
        read_shape("x", asked)
    assert "[(1, 64), (1, 128)]" in str(caught.value.expected)


def test_shapes_of_different_rank_are_refused() -> None:
    with pytest.raises(InputError, match="differ in rank"):
        read_shape("x", [(1, 2), (1, 2, 3)])


def test_the_command_lines_shapes_belong_to_inputs() -> None:
    assert read_shapes(["x=1x3", "a=b=1|2"]) == {"x": "1x3", "a=b": "1|2"}
    for wrong in (["1x3"], ["x="], ["=1x3"], ["x=1x3", "x=1x4"], ["x=1xn"]):
        with pytest.raises(InputError):
            read_shapes(wrong)


def test_a_batch_is_that_of_every_input_whose_shape_is_not_asked_for() -> None:
    inputs = [Feature("x", shape=("n", 3)), Feature("y", shape=(1, 4))]
    assert with_batches(inputs, {}, 4) == {"x": "4x3", "y": "4x4"}
    assert with_batches(inputs, {"y": (2, 4)}, "1-16") == {"x": "1..16x3", "y": (2, 4)}
    assert with_batches(inputs, {}, "1,4") == {"x": "1x3|4x3", "y": "1x4|4x4"}
    with pytest.raises(InputError, match="4, 1-16 or 1,4,16"):
        with_batches(inputs, {}, 0)


def test_a_batch_beside_a_shape_of_another_is_refused_and_not_left_out() -> None:
    x, ids = Feature("x", "tensor", "float32", ("b", 3, "h")), Feature("ids", "tensor", "int64", (1, 5))
    for batch, shape in (
        ("1-4", "1x3x8..16"),
        ("4", (1, 3, 8)),
        ("1,4", "2x3x8|3x3x8"),
        ("1,4", [1, 3, (8, 16)]),
        ("1,4", "1x3x8|1x3x16"),
        ("1,1-4", "1x3x8..16"),
    ):
        with pytest.raises(
            InputError, match=r"(?s)the batch and the shapes.*say different first lengths.*as the batch"
        ):
            with_batches([x], {"x": shape}, batch)
    assert with_batches([x], {"x": [(1, 4), 3, (8, 16)]}, "1-4") == {"x": [(1, 4), 3, (8, 16)]}
    assert with_batches([x], {"x": "1x3x8..16"}, 1) == {"x": "1x3x8..16"}
    assert with_batches([x, ids], {"x": "1..4x3x8"}, "1-4") == {"ids": "1..4x5", "x": "1..4x3x8"}
    assert with_batches([x, ids], {"x": "1x3x8|4x3x16"}, "1,4") == {"ids": "1x5|4x5", "x": "1x3x8|4x3x16"}


def test_shapes_that_are_no_mapping_are_refused() -> None:
    with pytest.raises(InputError, match=r"(?s)by the names of inputs.*'x': \[1, \(4, 32\)\]"):
        check_names(cast("Any", "x=1x4"), ["x"])
