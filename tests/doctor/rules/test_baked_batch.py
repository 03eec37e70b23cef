"""Baked batches: in every form of reshape, of every batch, loud and silent; and reshapes that are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coreproof.doctor.diagnose import diagnose
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.onnx.model import OnnxModel
from tests.build import convolution, inner_product, named, network, onnx_net, pool, weights
from tests.doctor.rules.cases import assert_healthy, assert_repaired, outputs, sample

RULE = "batch-baked-reshape"


def pooled(batch: int) -> CoreMLModel:
    """ResNet's tail: pooling, view, innerProduct."""
    return network(
        [
            convolution("conv", "image", "c", weights(8, 3, 3, 3)),
            pool("pool", "c", "p"),
            named("view", "reshape", "p", "v", targetShape=[batch, -1, 1, 1]),
            inner_product("fc", "v", "y", weights(10, 8)),
        ],
        {"image": (3, 6, 6)},
        {"y": None},
    )


def unpooled(batch: int, exact: bool) -> CoreMLModel:
    """VGG's tail: a view of whole maps, in the order C, H, W."""
    view = (
        named("view", "reshapeStatic", "c", "v", targetShape=[batch, -1])
        if exact
        else named("view", "reshape", "c", "v", targetShape=[batch, -1, 1, 1])
    )
    fc = inner_product("fc", "v", "y", weights(10, 4 * 36))
    return network(
        [convolution("conv", "image", "c", weights(4, 3, 3, 3)), view, fc],
        {"image": (1, 3, 6, 6) if exact else (3, 6, 6)},
        {"y": None},
        exact=exact,
    )


@pytest.mark.sweep(2)
@pytest.mark.parametrize("batch", [2, 4, 7, 8, 10, 64])
def test_a_view_behind_a_pooling(batch: int) -> None:
    found = assert_repaired(pooled(batch), pooled(1), RULE, "view")
    assert found[0].repair.startswith("delete 'view'")
    assert str([batch, -1, 1, 1]) in found[0].evidence


@pytest.mark.sweep(2)
@pytest.mark.parametrize("batch", [3, 5, 32])
@pytest.mark.parametrize("exact", [False, True])
def test_a_view_of_maps_keeps_their_order(batch: int, exact: bool) -> None:
    assert_repaired(unpooled(batch, exact), unpooled(1, exact), RULE, "view")


@pytest.mark.parametrize("exact", [False, True])
def test_healthy_views_are_left_alone(exact: bool) -> None:
    assert_healthy(unpooled(1, exact))
    assert_healthy(pooled(1))


def several(batch: int) -> CoreMLModel:
    """Two heads that are viewed apart and put together: only all views put right together help."""
    return network(
        [
            convolution("conv", "image", "c", weights(8, 3, 3, 3)),
            pool("mean", "c", "a"),
            named("view a", "reshape", "a", "va", targetShape=[batch, -1, 1, 1]),
            pool("most", "c", "m", "MAX"),
            named("view m", "reshape", "m", "vm", targetShape=[batch, -1, 1, 1]),
            named("cat", "concat", "va vm", "cm"),
            inner_product("fc", "cm", "y", weights(10, 16)),
        ],
        {"image": (3, 6, 6)},
        {"y": None},
    )


@pytest.mark.sweep(1)
@pytest.mark.parametrize("batch", [2, 3, 4])
def test_several_views_are_put_right_together(batch: int) -> None:
    found = assert_repaired(several(batch), several(1), RULE, "view a")
    assert "'view m'" in found[0].evidence


def heads(batch: int) -> CoreMLModel:
    """SSD: two maps permuted to the end, viewed as boxes and put one behind the other."""

    def head(name: str, seed: int, stride: int) -> list[Any]:
        return [
            convolution(f"conv {name}", "image", f"c{name}", weights(10, 3, 3, 3, seed=seed), stride),
            named(f"permute {name}", "permute", f"c{name}", f"p{name}", axis=[0, 2, 3, 1]),
            named(f"view {name}", "reshape", f"p{name}", f"v{name}", targetShape=[1, batch, -1, 5]),
            named(f"turn {name}", "permute", f"v{name}", f"t{name}", axis=[0, 2, 1, 3]),
        ]

    return network(
        [
            *head("1", 1, 1),
            *head("2", 2, 2),
            named("cat", "concat", "t1 t2", "ct"),
            named("back", "permute", "ct", "y", axis=[0, 2, 1, 3]),
        ],
        {"image": (3, 8, 8)},
        {"y": None},
    )


def heads_source() -> OnnxModel:
    nodes: list[Any] = []
    for name, stride in (("1", 1), ("2", 2)):
        nodes += [
            ("Conv", f"image w{name}", f"c{name}", {"pads": [1, 1, 1, 1], "strides": [stride, stride]}),
            ("Transpose", f"c{name}", f"p{name}", {"perm": [0, 2, 3, 1]}),
            ("Reshape", f"p{name} s", f"v{name}", {}),
        ]
    return onnx_net(
        [*nodes, ("Concat", "v1 v2", "y", {"axis": 1})],
        {"image": [1, 3, 8, 8]},
        {"y": [1, 160, 5]},
        w1=weights(10, 3, 3, 3, seed=1),
        w2=weights(10, 3, 3, 3, seed=2),
        s=np.array([1, -1, 5]),
    )


@pytest.mark.thorough
@pytest.mark.parametrize("batch", [2, 4, 8])
def test_a_silent_one_is_seen_with_the_source(batch: int) -> None:
    source = heads_source()
    assert diagnose(heads(batch)).healthy, "every shape is legal: the model alone does not tell"
    found = assert_repaired(heads(batch), heads(1), RULE, "view 1", source=source)
    fed = sample(source)
    assert found.repaired is not None
    np.testing.assert_allclose(
        outputs(found.repaired, {"image": fed["image"][0]})[0], outputs(source, fed)[0], rtol=1e-4, atol=1e-5
    )
    assert_healthy(heads(1), source)


def flattened(shape: list[int], batch: Any = 1) -> OnnxModel:
    return onnx_net(
        [
            ("Conv", "x c", "a", {}),
            ("Reshape", "a s", "v", {}),
            ("Gemm", "v w", "y", {"transB": 1}),
        ],
        {"x": [batch, 3, 8, 8]},
        {"y": None},
        c=weights(8, 3, 3, 3),
        w=weights(10, 8 * 36),
        s=np.array(shape),
    )


@pytest.mark.sweep(2)
@pytest.mark.parametrize("shape", [[4, -1], [5, -1], [3, 8 * 36]])
@pytest.mark.parametrize("batch", [1, "batch"])
def test_onnx(shape: list[int], batch: Any) -> None:
    assert_repaired(flattened(shape, batch), flattened([1, -1], batch), RULE, "to_v")
    assert_healthy(flattened([1, -1], batch))


def test_another_fault_is_not_taken_for_one() -> None:
    broken = flattened([1, -1])
    wrong = onnx_net(
        [("Conv", "x c", "a", {}), ("Reshape", "a s", "v", {}), ("Gemm", "v w", "y", {})],
        {"x": [1, 3, 8, 8]},
        {"y": None},
        c=weights(8, 3, 3, 3),
        w=weights(10, 8 * 36),
        s=np.array([1, -1]),
    )
    assert broken.graph.nodes[1] == wrong.graph.nodes[1]
    assert RULE not in {f.rule for f in diagnose(wrong)}


def gated(batch: int, exact: bool) -> CoreMLModel:
    """Squeeze and excitation: two views of one batch, the second of fixed lengths."""
    first = (
        named("view", "reshapeStatic", "p", "v", targetShape=[batch, 8])
        if exact
        else named("view", "reshape", "p", "v", targetShape=[batch, 8, 1, 1])
    )
    second = (
        named("back", "reshapeStatic", "e", "b", targetShape=[batch, 8, 1, 1])
        if exact
        else named("back", "reshape", "e", "b", targetShape=[batch, 8, 1, 1])
    )
    return network(
        [
            convolution("conv", "image", "c", weights(8, 3, 3, 3)),
            pool("pool", "c", "p"),
            first,
            inner_product("squeeze", "v", "s", weights(2, 8)),
            inner_product("excite", "s", "e", weights(8, 2)),
            second,
            named("gate", "multiplyBroadcastable" if exact else "multiply", "c b", "y"),
        ],
        {"image": (1, 3, 6, 6) if exact else (3, 6, 6)},
        {"y": None},
        exact=exact,
    )


@pytest.mark.sweep(2)
@pytest.mark.parametrize("batch", [2, 8, 10])
@pytest.mark.parametrize("exact", [False, True])
def test_views_there_and_back(batch: int, exact: bool) -> None:
    assert_repaired(gated(batch, exact), gated(1, exact), RULE, "view")


@pytest.mark.sweep(1)
@pytest.mark.parametrize("batch", [3, 7])
def test_heads_whose_values_cannot_fill_the_target(batch: int) -> None:
    assert_repaired(heads(batch), heads(1), RULE, "view 1")


def exact_heads(batch: int) -> CoreMLModel:
    """The same heads in a network of any rank."""

    def head(name: str, seed: int, stride: int) -> list[Any]:
        return [
            convolution(f"conv {name}", "image", f"c{name}", weights(10, 3, 3, 3, seed=seed), stride),
            named(f"permute {name}", "transpose", f"c{name}", f"p{name}", axes=[0, 2, 3, 1]),
            named(f"view {name}", "reshapeStatic", f"p{name}", f"v{name}", targetShape=[batch, -1, 5]),
        ]

    return network(
        [*head("1", 1, 1), *head("2", 2, 2), named("cat", "concatND", "v1 v2", "y", axis=1)],
        {"image": (1, 3, 8, 8)},
        {"y": None},
        exact=True,
    )


@pytest.mark.sweep(1)
@pytest.mark.parametrize("batch", [2, 4])
def test_a_silent_one_in_a_network_of_any_rank(batch: int) -> None:
    assert diagnose(exact_heads(batch)).healthy
    assert_repaired(exact_heads(batch), exact_heads(1), RULE, "view 1", source=heads_source())
    assert_healthy(exact_heads(1), heads_source())


def test_a_source_that_was_exported_for_the_same_batch() -> None:
    dynamic = onnx_net(
        [
            ("Conv", "image w", "c", {"pads": [1, 1, 1, 1]}),
            ("Transpose", "c", "p1", {"perm": [0, 2, 3, 1]}),
            ("Shape", "p1", "s", {}),
            ("Slice", "s zero one", "n", {}),
            ("Concat", "n rest", "t", {"axis": 0}),
            ("Reshape", "p1 t", "v1", {}),
            ("Reshape", "p1 t", "v2", {}),
            ("Concat", "v1 v2", "y", {"axis": 1}),
        ],
        {"image": [4, 3, 8, 8]},
        {"y": [4, 256, 5]},
        w=weights(10, 3, 3, 3, seed=1),
        zero=np.array([0]),
        one=np.array([1]),
        rest=np.array([-1, 5]),
    )

    def net(batch: int) -> CoreMLModel:
        return network(
            [
                convolution("conv", "image", "c", weights(10, 3, 3, 3, seed=1)),
                named("permute", "transpose", "c", "p1", axes=[0, 2, 3, 1]),
                named("view 1", "reshapeStatic", "p1", "v1", targetShape=[batch, -1, 5]),
                named("view 2", "reshapeStatic", "p1", "v2", targetShape=[batch, -1, 5]),
                named("cat", "concatND", "v1 v2", "y", axis=1),
            ],
            {"image": (1, 3, 8, 8)},
            {"y": None},
            exact=True,
        )

    assert_repaired(net(4), net(1), RULE, "view 1", source=dynamic)
    assert_healthy(net(1), dynamic)
