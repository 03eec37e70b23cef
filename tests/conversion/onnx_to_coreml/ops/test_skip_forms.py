"""Normalisations of sums against ONNX Runtime's kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.conversion.onnx_to_coreml.microsoft_node import EVERYWHERE, check_microsoft
from tests.drawn import normal


@pytest.mark.sweep(3)
@pytest.mark.parametrize("outputs", [("y",), ("y", "", "", "sum")])
@pytest.mark.parametrize("rest", [(), ("beta",), ("beta", "bias"), ("", "bias")])
@pytest.mark.parametrize("skip", [(2, 4, 8), (1, 4, 8), (4, 8)])
def test_skip_layer_normalization(skip: tuple[int, ...], rest: tuple[str, ...], outputs: tuple[str, ...]) -> None:
    constants = {"gamma": normal(8), **{n: normal(8) for n in rest if n}}
    inputs = {"x": normal(2, 4, 8), "skip": normal(*skip)}
    check_microsoft(
        "SkipLayerNormalization", inputs, constants, ["x", "skip", "gamma", *rest], outputs=outputs, epsilon=1e-4
    )


@pytest.mark.sweep(2)
@pytest.mark.parametrize("outputs", [("y",), ("y", "", "", "sum")])
@pytest.mark.parametrize("rest", [(), ("bias",)])
def test_skip_simplified_layer_normalization(rest: tuple[str, ...], outputs: tuple[str, ...]) -> None:
    constants = {"gamma": normal(8), **{n: normal(8) for n in rest}}
    inputs = {"x": normal(2, 4, 8), "skip": normal(2, 4, 8)}
    order = ["x", "skip", "gamma", *rest]
    check_microsoft("SkipSimplifiedLayerNormalization", inputs, constants, order, outputs=outputs, epsilon=1e-6)


@pytest.mark.parametrize("operator", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
def test_what_is_small_is_normalised_by_an_epsilon_that_is_smaller_where_none_is_given(operator: str) -> None:
    """Not by the one of the standard's own operators, 1e-5."""
    inputs = {"x": 1e-3 * normal(2, 4, 8), "skip": 1e-3 * normal(2, 4, 8)}
    check_microsoft(operator, inputs, {"gamma": normal(8)}, ["x", "skip", "gamma"], targets=[EVERYWHERE[0]])


@pytest.mark.parametrize("shape", [(3, 8), (2, 4, 8), (1, 2, 4, 8)])
def test_simplified_layer_normalization(shape: tuple[int, ...]) -> None:
    check_microsoft(
        "SimplifiedLayerNormalization", {"x": normal(*shape)}, {"s": normal(8)}, domain="", axis=-1, epsilon=1e-6,
        stash_type=1,
    )  # fmt: skip


@pytest.mark.sweep(3)
@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("rest", [(), ("mask",), ("", "places"), ("mask", "places")])
def test_embed_layer_normalization(segments: bool, rest: tuple[str, ...]) -> None:
    inputs: dict[str, Any] = {
        "ids": np.array([[1, 9, 0, 3], [2, 2, 5, 7]], np.int32),
        **({"seg": np.array([[0, 0, 1, 1], [1, 0, 0, 0]], np.int32)} if segments else {}),
        **({"mask": np.array([[1, 1, 1, 0], [1, 1, 0, 0]], np.int32)} if "mask" in rest else {}),
        **({"places": np.array([[3, 2, 1, 0], [5, 4, 4, 0]], np.int32)} if "places" in rest else {}),
    }
    rows = {"words": normal(10, 8), "positions": normal(6, 8), **({"kinds": normal(2, 8)} if segments else {})}
    constants = rows | {"gamma": normal(8), "beta": normal(8)}
    order = [
        "ids",
        "seg" if segments else "",
        "words",
        "positions",
        "kinds" if segments else "",
        "gamma",
        "beta",
        *rest,
    ]
    outputs = ("y", "n", "sum") if "mask" in rest else ("y", "", "sum")
    check_microsoft("EmbedLayerNormalization", inputs, constants, order, outputs=outputs, whole=["n"], epsilon=1e-12)
