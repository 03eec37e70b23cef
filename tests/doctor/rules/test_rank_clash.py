"""Shapes that are computed when the model runs, and inputs that differ in rank."""

from __future__ import annotations

from typing import Any

import numpy as np

import coreproof as cp
from coreproof.model.coreml.model import CoreMLModel
from tests.build import named, network, onnx_net, pool, weights
from tests.doctor.rules.cases import assert_healthy, assert_repaired


def tail(widened: bool) -> CoreMLModel:
    """Shape, Gather, (Unsqueeze), Concat, Reshape, matrix product."""

    def constant(name: str, value: float) -> Any:
        return named(f"load {name}", "loadConstantND", "", name, shape=[1], data=np.array([value], np.float32))

    return network(
        [
            pool("pool", "x", "p"),
            named("shape", "getShape", "x", "s"),
            constant("i", 0),
            named("gather", "gather", "s i", "n"),
            *([named("widen", "expandDims", "n", "u", axes=[0])] if widened else []),
            constant("rest", -1),
            named("cat", "concatND", f"{'u' if widened else 'n'} rest", "t", axis=0),
            named("view", "reshapeDynamic", "p t", "v"),
            named(
                "fc", "batchedMatmul", "v", "y", weightMatrixFirstDimension=3, weightMatrixSecondDimension=5,
                weights=weights(3, 5),
            ),
        ],
        {"x": (1, 3, 6, 6)},
        {"y": None},
        exact=True,
    )  # fmt: skip


def test_a_dimension_too_many_in_a_computed_shape() -> None:
    found = assert_repaired(tail(True), tail(False), "dynamic-reshape-rank", "cat")
    assert "[1, 1]" in found[0].evidence
    assert_healthy(tail(False))


def test_a_dimension_too_few() -> None:
    def joined(widened: bool) -> CoreMLModel:
        widen = [named("widen", "expandDims", "b", "w", axes=[0])] if widened else []
        return network(
            [*widen, named("cat", "concatND", f"a {'w' if widened else 'b'}", "y", axis=0)],
            {"a": (2, 4), "b": (4,)},
            {"y": None},
            exact=True,
        )

    assert_repaired(joined(False), joined(True), "rank-clash", "cat")


def test_onnx() -> None:
    def net(widened: bool) -> Any:
        nodes: list[Any] = [("Shape", "x", "s", {}), ("Gather", "s i", "n", {})]
        if widened:
            nodes += [("Unsqueeze", "n axes", "u", {})]
        nodes += [("Concat", f"{'u' if widened else 'n'} rest", "t", {"axis": 0}), ("Reshape", "x t", "y", {})]
        stored = {"axes": np.array([0])} if widened else {}
        return onnx_net(nodes, {"x": [2, 3, 4]}, {"y": None}, i=np.array([0]), rest=np.array([-1]), **stored)

    assert_repaired(net(True), net(False), "dynamic-reshape-rank", "to_t")
    assert_healthy(net(False))


def test_a_layer_that_widens_nothing_has_no_remedy_by_its_input() -> None:
    layers = [named("widen", "expandDims", "", "w", axes=[0]), named("cat", "concatND", "a w", "y", axis=0)]
    model = network(layers, {"a": (2, 4)}, {"y": None}, exact=True)
    assert all(finding.repaired is None for finding in [cp.diagnose(model)])
